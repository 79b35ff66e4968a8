//! One run as plain data, already validated.

use std::time::Duration;

use crate::transport::Endpoint;

/// Everything that decides a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    /// Servers; connections are dealt out to them in turn.
    pub endpoints: Vec<Endpoint>,
    /// Closed-loop clients: each has one operation under way.
    pub clients: usize,
    /// Connections that the clients share.
    pub conns: usize,
    /// When to stop.
    pub limit: Limit,
    /// The same load before, unmeasured.
    pub warmup: Duration,
    /// Write every key of the space before.
    pub prefill: bool,
    /// Which keys.
    pub keys: KeySpace,
    /// Bytes of a value.
    pub value_size: usize,
    /// Start of all randomness.
    pub seed: u64,
    /// The processes of the server's members, when their use of resources is wanted; else none.
    pub pids: Vec<u32>,
    /// What to do.
    pub kind: Kind,
}

/// When a run ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// After so many operations were begun (for watch: puts).
    Total(u64),
    /// After so much time.
    Duration(Duration),
}

/// The keys of a run: the numbers `0..count` in decimal, padded with zeros to `size` bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeySpace {
    /// Bytes of a key.
    pub size: usize,
    /// How many keys there are.
    pub count: u64,
    /// In number order, else drawn at random.
    pub sequential: bool,
}

/// The operation of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Put one key.
    Put,
    /// Get one key.
    Range {
        /// Skip the read index.
        serializable: bool,
    },
    /// Transactions, each either one range or one put.
    Txn {
        /// Of a hundred transactions, how many read.
        read_percent: u8,
        /// Keys of a reading transaction at most.
        range_limit: i64,
    },
    /// Streams that watch the whole key space while others put: an operation is an event delivered.
    Watch {
        /// Clients that put.
        putters: usize,
    },
    /// Renew one lease per client.
    Keepalive {
        /// A stream per renewal, as a client's "keep alive once" does, instead of one per client.
        once: bool,
    },
    /// Get the whole key space in one answer.
    List {
        /// Skip the read index.
        serializable: bool,
    },
}

impl Kind {
    /// The name of the subcommand.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Range { .. } => "range",
            Self::Txn { .. } => "txn",
            Self::Watch { .. } => "watch",
            Self::Keepalive { .. } => "lease-keepalive",
            Self::List { .. } => "list",
        }
    }

    /// Whether the load reads keys, so that they had better exist.
    #[must_use]
    pub fn reads_keys(self) -> bool {
        matches!(self, Self::Range { .. } | Self::Txn { .. } | Self::List { .. })
    }
}

//! Who hears of a change: the watch hub.
//!
//! One [`Hub`] serves all watch streams of a member. It is a state machine: [`Hub::step`] takes an [`Input`] and a
//! read-only [`HistoryView`], offers responses to the streams' [`Sink`]s and emits [`Effect`]s. It does no I/O, reads
//! no clock and takes no lock; equal inputs give equal outputs.
//!
//! # Where a watcher stands
//! | state | meaning | leaves it when |
//! | --- | --- | --- |
//! | synced | was sent everything up to the hub's revision; in the interval index | its sink is full, or history jumps |
//! | behind | lacks the events from `next` on; queued in its stream | a catch-up pass reaches the hub's revision |
//! | reading | behind, and a read of older history for it is under way | the answer arrives |
//!
//! etcd's *unsynced* watcher is one that is behind since its creation, its *victim* one that met a full sink. Here
//! both are the same: nobody holds a response that could not be sent, only the revision to go on from, so a slow
//! client pins no memory. The events are built again from the shared revisions once there is room.
//!
//! # Guarantees (etcd reference 1.2)
//! - A response per committed revision for a synced watcher, with that revision in the header. A watcher that is
//!   behind gets many revisions in one response, with the hub's revision in the header.
//! - A revision is never split over two responses, except by fragments, whose parts follow each other immediately on
//!   their stream: clients merge them by adjacency.
//! - Whatever is sent on a stream goes through its one queue in order. A progress response is sent only for watchers
//!   that are synced, so it cannot overtake an event.
//! - The hub's revision never runs ahead of what it was told or has read: "current" always means the hub's revision,
//!   and before a creation, a cancel or a progress answer the hub first takes in what the view already shows, so
//!   that a client's own acknowledged write lies below the header it gets.
//!
//! # What the shell owes
//! - [`Input::Committed`] after each apply round, in order. Repeats are ignored; a gap is filled from the view, or,
//!   where that does not reach, all watchers catch up from history.
//! - [`Input::Installed`] when a snapshot of the leader has replaced the state. Watchers that have not been sent
//!   everything up to the new revision are behind then, and catch up from the new history; whom its compaction has
//!   passed is cancelled. The answer to a history read under way is of the old state or of the new one, never of both.
//! - [`Input::Tick`] when [`Hub::next_deadline`] passes, and a steady view while a step runs.
//! - An answer for each [`Effect::ReadHistory`]: every change still stored with `from <= main <= to`, in order. Main
//!   revisions above the compacted one must be whole. Of the compacted revision itself, what must be kept is each
//!   change that is its key's newest at that revision, *deletes included*: a watcher may start exactly there. So a
//!   tombstone at the compacted revision must not be pruned before the next compaction. If a compaction passed `from`
//!   before the read was complete, the answer is the compacted revision instead.
//! - [`Input::Close`] when a stream ends, also after [`Effect::Overflow`] (then it is a no-op).

mod batch;
mod catch_up;
mod hub;
mod interval;
mod progress;
mod slab;
mod stream;
mod watcher;

use std::time::Duration;

use proto::etcdserverpb::{WatchCreateRequest, WatchResponse};

use crate::env::Instant;
use crate::types::{SharedRevision, WatchId};

pub use hub::Hub;
pub use interval::IntervalIndex;
pub use watcher::{Refusal, range};

/// A watch stream of this member; never used again while the process runs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct StreamId(pub u64);

/// Ties the answer of a history read to its question.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ReadToken(pub u64);

/// What happens to the hub.
pub enum Input<'a> {
    /// A client opened a stream.
    Open {
        /// Its name.
        stream: StreamId,
        /// Where its responses go.
        sink: Box<dyn Sink>,
    },
    /// A create request. Permission was judged before.
    Create {
        /// The stream it came on.
        stream: StreamId,
        /// The request.
        request: WatchCreateRequest,
    },
    /// A create request that the caller refuses (permission): answered in turn with the reason.
    Refuse {
        /// The stream it came on.
        stream: StreamId,
        /// The `cancel_reason`.
        reason: String,
    },
    /// A cancel request.
    Cancel {
        /// The stream it came on.
        stream: StreamId,
        /// The watcher.
        id: WatchId,
    },
    /// A progress request.
    Progress {
        /// The stream it came on.
        stream: StreamId,
    },
    /// A sink that was full has room. Optional: ticks find out too.
    Room {
        /// The stream.
        stream: StreamId,
    },
    /// A stream ended.
    Close {
        /// The stream.
        stream: StreamId,
    },
    /// Streams may have ended without [`Input::Close`]: all whose sink is closed are closed. Walks the streams.
    Abandoned,
    /// Revisions were committed and can be seen in the view.
    Committed(&'a [SharedRevision]),
    /// A snapshot of the leader has replaced what the view shows: nothing from before is in memory, and more may be
    /// compacted.
    Installed,
    /// Time passed.
    Tick(Instant),
    /// The answer to [`Effect::ReadHistory`].
    History {
        /// The question's token.
        token: ReadToken,
        /// The revisions in order, or the compacted revision that passed the question's `from`.
        answer: Result<Vec<SharedRevision>, i64>,
    },
}

/// What the hub wants done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Read history that is no longer in memory and answer with [`Input::History`].
    ReadHistory {
        /// To be returned with the answer.
        token: ReadToken,
        /// The first main revision.
        from: i64,
        /// The last main revision.
        to: i64,
        /// Whether `previous` of the revisions must be filled where it is still stored.
        with_previous: bool,
    },
    /// The client of this stream sends requests and does not take the answers; the hub has closed the stream, the
    /// call must end.
    Overflow {
        /// The stream.
        stream: StreamId,
    },
}

/// Where a stream's responses go: a bounded queue to the client ([`SINK_RESPONSES_MAX`] for etcd's behaviour).
pub trait Sink: Send {
    /// Takes a response, or gives it back if there is no room.
    ///
    /// # Errors
    /// The response itself, when the queue is full or its reader is gone.
    fn offer(&mut self, response: WatchResponse) -> Result<(), WatchResponse>;

    /// How many responses can be offered now.
    fn room(&self) -> usize;

    /// Whether its reader is gone for good.
    fn is_closed(&self) -> bool {
        false
    }
}

/// The store as the hub sees it; steady while a step runs.
pub trait HistoryView {
    /// The newest revision.
    fn current(&self) -> i64;
    /// The compacted revision, -1 if none.
    fn compacted(&self) -> i64;
    /// The smallest revision from which on every revision up to the current one is in memory; current + 1 if none.
    fn recent_first(&self) -> i64;
    /// A revision that is in memory.
    fn recent(&self, main: i64) -> Option<SharedRevision>;
}

/// Limits and intervals.
#[derive(Clone, Debug)]
pub struct Config {
    /// Responses to watchers that asked for fragments are split at this encoded size: the limit on requests plus
    /// 512 KiB.
    pub fragment_bytes: usize,
    /// Between two automatic progress responses; a stream's jitter of up to a tenth comes on top.
    pub progress_interval: Duration,
    /// How soon a full sink is tried again.
    pub retry_interval: Duration,
    /// Watchers served by one catch-up pass.
    pub pass_watchers_max: usize,
    /// Distinct revisions in one catch-up response.
    pub batch_revisions_max: usize,
    /// Revisions in memory that one catch-up pass looks through.
    pub scan_revisions_max: i64,
    /// Revisions asked for by one history read.
    pub read_revisions_max: i64,
    /// History reads under way.
    pub reads_max: usize,
    /// A new watcher with at most this many revisions to catch up is served at once, not by the next pass.
    pub kick_revisions_max: i64,
    /// Answers to requests that may wait for room in one stream; beyond it the stream is closed.
    pub answers_waiting_max: usize,
    /// Seeds the progress jitter and the shape of the index.
    pub seed: u64,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            fragment_bytes: (1 << 20) * 3 / 2 + (512 << 10),
            progress_interval: Duration::from_secs(600),
            retry_interval: Duration::from_millis(10),
            pass_watchers_max: 512,
            batch_revisions_max: 1000,
            scan_revisions_max: 4096,
            read_revisions_max: 1000,
            reads_max: 4,
            kick_revisions_max: 256,
            answers_waiting_max: 16_384,
            seed: 0,
        }
    }
}

/// Figures for the metrics.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Stats {
    /// Open streams.
    pub streams: usize,
    /// Watchers, of all streams.
    pub watchers: usize,
    /// Watchers that are behind.
    pub slow: usize,
    /// Events that wait in the hub for room in a sink (the rest of fragmented responses; events of watchers that are
    /// behind are not held at all).
    pub events_pending: usize,
    /// Events sent since the start.
    pub events_total: u64,
    /// History reads under way.
    pub reads: usize,
}

/// Responses that a stream's sink should hold, as in etcd.
pub const SINK_RESPONSES_MAX: usize = 128;

/// A bijective scrambling of 64 bits (the finalizer of SplitMix64).
fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

//! Snapshot files on their way from member to member: what both ends say to each other, and one value that holds
//! both. Synchronous: it takes messages, completions and time, and what must happen comes out as [`Action`]s. It
//! knows nothing of Raft; whether a snapshot is wanted, and whether one that has arrived is taken, others decide.
//!
//! A transfer is the bytes of a snapshot file in [`Chunk`]s, a window of them under way at a time. The receiver
//! answers with the offset that it wants next, so anything lost is sent again from there; a chunk or an [`Ack`] that
//! comes twice or late does no harm. What has arrived of a file outlives connections, transfers and both processes:
//! whoever sends the same file next, to whatever life of the receiver, is told to go on from there. The receiver goes on telling that it is at work until the snapshot is installed
//! or refused, which ends the transfer. `outgoing.rs` is the sender, `incoming.rs` the receiver.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use tokio::sync::mpsc::UnboundedSender;

use super::actors::Event;
use super::incoming::{self, Incoming};
use super::outgoing::{self, Outgoing};
use super::shared::{Shared, Vital};
use crate::apply::State;
use crate::env::{Disk, Instant};
use crate::types::{Index, MemberId, Term};
use crate::wal::snapshot::SnapshotIdentity;

/// What members say to each other about a snapshot.
#[derive(Clone, PartialEq, Message)]
pub(super) struct SnapshotMessage {
    #[prost(oneof = "Part", tags = "1, 2")]
    pub(super) part: Option<Part>,
}

/// Either way.
#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum Part {
    /// To the receiver.
    #[prost(message, tag = "1")]
    Chunk(Chunk),
    /// To the sender.
    #[prost(message, tag = "2")]
    Ack(Ack),
}

/// A piece of a snapshot file. One without data asks how far the receiver is.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Chunk {
    /// Which transfer: counts up in the life of a sender.
    #[prost(uint64, tag = "1")]
    pub(super) transfer: u64,
    /// The snapshot's index.
    #[prost(uint64, tag = "2")]
    pub(super) index: u64,
    /// The term of the entry there.
    #[prost(uint64, tag = "3")]
    pub(super) term: u64,
    /// The term that the sender leads.
    #[prost(uint64, tag = "4")]
    pub(super) leader_term: u64,
    /// Bytes of the whole file.
    #[prost(uint64, tag = "5")]
    pub(super) total_bytes: u64,
    /// Where in the file the data begin.
    #[prost(uint64, tag = "6")]
    pub(super) offset: u64,
    /// At most [`CHUNK_BYTES_MAX`].
    #[prost(bytes = "bytes", tag = "7")]
    pub(super) data: Bytes,
    /// The incarnation of the receiver whose recovery a quorum knows of; 0 if there is none.
    #[prost(uint64, tag = "8")]
    pub(super) incarnation: u64,
    /// With index and length it tells which file this is a piece of; see `SnapshotReader::identity`.
    #[prost(fixed64, tag = "9")]
    pub(super) fingerprint: u64,
    /// CRC-32C of the data.
    #[prost(fixed32, tag = "10")]
    pub(super) data_checksum: u32,
}

impl Chunk {
    pub(super) fn identity(&self) -> SnapshotIdentity {
        SnapshotIdentity {
            index: Index(self.index),
            bytes: self.total_bytes,
            fingerprint: self.fingerprint,
        }
    }
}

/// The receiver's answer.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Ack {
    /// Which transfer.
    #[prost(uint64, tag = "1")]
    pub(super) transfer: u64,
    /// Everything below is written.
    #[prost(uint64, tag = "2")]
    pub(super) next_offset: u64,
    /// How it stands.
    #[prost(enumeration = "Standing", tag = "3")]
    pub(super) standing: i32,
    /// Whether a chunk from further on has arrived before the one at `next_offset`, which must have been lost.
    #[prost(bool, tag = "4")]
    pub(super) gap: bool,
    /// The term that the sender led: one that has been restarted counts its transfers anew.
    #[prost(uint64, tag = "5")]
    pub(super) leader_term: u64,
}

/// How a transfer stands at its receiver.
#[derive(Clone, Copy, PartialEq, Eq, Debug, prost::Enumeration)]
#[repr(i32)]
pub(super) enum Standing {
    /// Under way: bytes are missing, or the snapshot is being checked or installed.
    Receiving = 0,
    /// The snapshot is installed, durably.
    Installed = 1,
    /// Raft has no use for it: the receiver is as far already, or follows somebody else.
    Refused = 2,
    /// The file did not arrive whole, or could not be kept.
    Failed = 3,
    /// The receiver looks at what it has of the file already; the offset says nothing yet.
    Opening = 4,
}

/// What must happen.
pub(super) enum Action {
    /// Send this to a member, by the class of snapshots. It may be lost.
    Send { to: MemberId, message: SnapshotMessage },
    /// Do this where it may wait for the disk (see [`start`]), then report [`Transfers::event`]. Boxed work for one
    /// transfer is handed out one piece at a time.
    Work(Work),
    /// Write a snapshot file of the state as it is, then report [`Transfers::snapshotted`].
    WantSnapshotFile,
    /// A whole snapshot is durable, and this is its state. To be answered with [`Transfers::decided`].
    Received(Box<Received>),
    /// A transfer that was wanted has ended.
    Outcome {
        to: MemberId,
        /// The receiver has installed the snapshot, or says that it needs none.
        delivered: bool,
    },
}

/// A snapshot that has arrived.
pub(super) struct Received {
    /// Who sent it.
    pub(super) from: MemberId,
    /// To be returned with the decision.
    pub(super) transfer: u64,
    /// The term that the sender led.
    pub(super) leader_term: Term,
    /// The last entry contained.
    pub(super) index: Index,
    /// Its term.
    pub(super) term: Term,
    /// The state there.
    pub(super) state: Box<State>,
    /// See [`Chunk::incarnation`].
    pub(super) incarnation: u64,
}

/// What became of a snapshot that had arrived.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Decision {
    /// The log begins after it, durably, and the state is in place.
    Installed,
    /// Raft had no use for it.
    Refused,
}

/// A wish for a snapshot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Wish {
    /// For whom.
    pub(super) to: MemberId,
    /// The least index that is of use.
    pub(super) least: Index,
    /// The term that this member leads.
    pub(super) leader_term: Term,
    /// See [`Chunk::incarnation`].
    pub(super) incarnation: u64,
}

/// Work that waits for the disk.
pub(super) enum Work {
    Outgoing(outgoing::Work),
    Incoming(incoming::Work),
}

/// Work done.
pub(super) enum Done {
    Outgoing(outgoing::Done),
    Incoming(incoming::Done),
}

impl Work {
    /// Does it.
    pub(super) fn run(self) -> Done {
        match self {
            Work::Outgoing(work) => Done::Outgoing(work.run()),
            Work::Incoming(work) => Done::Incoming(work.run()),
        }
    }
}

/// Does a piece of work on a thread of its own (in a simulation: at once), and reports it as an event.
pub(super) fn start(shared: &Arc<Shared>, work: Work, events: UnboundedSender<Event>) {
    let on_thread = Arc::clone(shared);
    shared.offload.start(move || {
        let _vital = Vital::new(&on_thread, "the transfer of a snapshot");
        // The receiver is gone once the driver has ended.
        let _ = events.send(Event::Transfer(work.run()));
    });
}

/// All transfers of a member.
pub(super) struct Transfers {
    outgoing: Outgoing,
    incoming: Incoming,
    actions: Vec<Action>,
}

impl Transfers {
    /// None yet; snapshot files lie in `dir`, and perhaps what an earlier life of this member has `left` there.
    pub(super) fn new(
        shared: Arc<Shared>,
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        left: Option<SnapshotIdentity>,
    ) -> Self {
        Transfers {
            outgoing: Outgoing::new(Arc::clone(&shared), Arc::clone(&disk), dir.clone()),
            incoming: Incoming::new(shared, disk, dir, left),
            actions: Vec::new(),
        }
    }

    /// A member needs a snapshot. Answered by one [`Action::Outcome`]. Repeated while a transfer for the same term and
    /// incarnation is under way, it changes nothing.
    pub(super) fn wanted(&mut self, wish: Wish, now: Instant) {
        self.outgoing.wanted(wish, now, &mut self.actions);
    }

    /// A message has come from another member.
    pub(super) fn message(&mut self, from: MemberId, message: SnapshotMessage, now: Instant) {
        match message.part {
            Some(Part::Chunk(chunk)) => self.incoming.chunk(from, chunk, now, &mut self.actions),
            Some(Part::Ack(ack)) => self.outgoing.ack(from, &ack, now, &mut self.actions),
            None => {}
        }
    }

    /// A piece of work is done.
    pub(super) fn event(&mut self, done: Done, now: Instant) {
        match done {
            Done::Outgoing(done) => self.outgoing.done(done, now, &mut self.actions),
            Done::Incoming(done) => self.incoming.done(done, now, &mut self.actions),
        }
    }

    /// A snapshot file was written, whoever wanted it; with an index if that went well.
    pub(super) fn snapshotted(&mut self, index: Option<Index>) {
        self.outgoing.snapshotted(index, &mut self.actions);
    }

    /// Time has passed; the log in memory begins at `first_index`, and what is sent from now on should lead to it.
    pub(super) fn tick(&mut self, first_index: Index, now: Instant) {
        self.outgoing.tick(first_index, now, &mut self.actions);
        self.incoming.tick(now, &mut self.actions);
    }

    /// What became of the snapshot of [`Action::Received`].
    pub(super) fn decided(&mut self, from: MemberId, transfer: u64, decision: Decision, now: Instant) {
        self.incoming
            .decided(from, transfer, decision, now, &mut self.actions);
    }

    /// This member leads no more, or in another term: it sends no snapshots, and nobody waits for an outcome.
    pub(super) fn stop_sending(&mut self) {
        self.outgoing.stop();
    }

    /// The lowest index of a snapshot that is being sent: with the log after it the receiver can go on, so the log
    /// in memory should not let go of that as long as its limits allow.
    pub(super) fn lowest_index(&self) -> Option<Index> {
        self.outgoing.lowest_index()
    }

    /// What must happen now, in order.
    pub(super) fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }
}

/// Data in one chunk at most.
pub(super) const CHUNK_BYTES_MAX: usize = 256 << 10;
/// Data under way in one transfer at most; what a receiver holds in memory of one that writes slowly.
pub(super) const WINDOW_BYTES_MAX: u64 = 2 << 20;

//! What callers put into the driver's mailbox.

use bytes::Bytes;
use proto::etcdserverpb::WatchCreateRequest;
use tokio::sync::oneshot;

use super::shared::Pin;
use crate::apply::Response;
use crate::auth::Caller;
use crate::error::Error;
use crate::membership::What;
use crate::types::{Index, LeaseId, MemberId};
use crate::watch::{Sink, StreamId};

/// Where an answer goes. A dropped receiver is a caller that has gone: its answer is thrown away.
pub(super) type Answer<T> = oneshot::Sender<Result<T, Error>>;

/// What a proposal came to.
pub(super) struct Answered {
    /// The answer, in which values of the past may still be missing.
    pub(super) response: Response,
    /// Keeps those from being compacted; held until they are read.
    pub(super) pin: Option<Pin>,
}

/// What the leader is asked about a lease.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum LeaseQuestion {
    /// Renew it. Answered with the granted TTL in seconds, 0 for an unknown or expired lease.
    Renew,
    /// Its remaining life in whole seconds; -1 for an unknown one.
    TimeToLive,
}

/// A command to the member.
pub(super) enum Command {
    /// Replicate an encoded request; answered when applied here.
    Propose {
        /// The counter inside its proposal id.
        counter: u64,
        /// The encoded `InternalRaftRequest`.
        data: Bytes,
        /// The caller.
        answer: Answer<Answered>,
    },
    /// Change the membership; answered when applied here.
    Change {
        /// How.
        what: What,
        /// Names the proposal.
        counter: u64,
        /// The caller.
        answer: Answer<Answered>,
    },
    /// Confirm that this member's state, once the answer is there, holds every write acknowledged before now.
    ReadIndex(Answer<()>),
    /// Ask the leader about a lease.
    Lease {
        /// What.
        question: LeaseQuestion,
        /// Of which.
        lease: LeaseId,
        /// The caller.
        answer: Answer<i64>,
    },
    /// All leases, by remaining life.
    Leases(Answer<Vec<LeaseId>>),
    /// Hand the leadership over; answered when it has moved.
    MoveLeader {
        /// To whom.
        target: MemberId,
        /// The caller.
        answer: Answer<()>,
    },
    /// Answered when this member has applied the entry of an index that is committed.
    AwaitApplied(Index, Answer<()>),
    /// Something for the watch hub.
    Watch(WatchCommand),
    /// Answered when no compaction is at work and what it removed is checkpointed.
    AwaitCompaction(Answer<()>),
    /// Ends the driver after what was accepted is answered.
    Stop,
}

/// A command to the watch hub.
pub(super) enum WatchCommand {
    /// A new stream and where its answers go.
    Open(StreamId, Box<dyn Sink>),
    /// A new watcher, for whom.
    Create(StreamId, WatchCreateRequest, Caller),
    /// In place of a new watcher the reason why there is none.
    Refuse(StreamId, String),
    /// The end of a watcher.
    Cancel(StreamId, i64),
    /// A request for progress.
    Progress(StreamId),
    /// The end of a stream.
    Close(StreamId),
}

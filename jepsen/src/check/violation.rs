//! What can be wrong, with the numbers.

use std::fmt;

use bytes::Bytes;
use proto::mvccpb::Event;
use thiserror::Error;

use crate::history::{CallId, ProcessId};
use crate::model::{Answer, Error as Refusal};

/// Where a watch response was heard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// The watching client.
    pub process: ProcessId,
    /// Which of its sessions, from 0.
    pub session: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "watcher {} session {}", self.process.0, self.session)
    }
}

/// One contradiction between a record and a guarantee.
#[derive(Clone, PartialEq, Debug, Error)]
#[allow(missing_docs, reason = "the message of each variant says what its fields are")]
pub enum Violation {
    // What happened, seen by itself.
    #[error("history goes from revision {after} to {found}")]
    RevisionGap { after: i64, found: i64 },
    #[error("revision {revision} happened as {found:?}, which its past makes {expected:?}")]
    ImpossibleEvents {
        revision: i64,
        found: Vec<Event>,
        expected: Vec<Event>,
    },

    // Keys and values.
    #[error("calls {first:?} and {second:?} were both acknowledged with revision {revision}")]
    SharedRevision {
        revision: i64,
        first: CallId,
        second: CallId,
    },
    #[error(
        "call {call:?} was answered at revision {revision}, though {seen_by:?} had returned {seen} before"
    )]
    StaleRevision {
        call: CallId,
        revision: i64,
        seen: i64,
        seen_by: CallId,
    },
    #[error(
        "write {call:?} made revision {revision}, though {seen_by:?} had returned {seen} before it began"
    )]
    RevisionBeforeWrite {
        call: CallId,
        revision: i64,
        seen: i64,
        seen_by: CallId,
    },
    #[error("call {call:?} was answered without a revision")]
    NoRevision { call: CallId },
    #[error("call {call:?} at revision {revision} was answered {actual:?} instead of {expected:?}")]
    WrongAnswer {
        call: CallId,
        revision: i64,
        expected: Box<Answer>,
        actual: Box<Answer>,
    },
    #[error("call {call:?} was answered at revision {revision}, but history ends at {last}")]
    LostRevision { call: CallId, revision: i64, last: i64 },
    #[error(
        "write {call:?} was acknowledged at revision {revision} with {expected:?}, history has {found:?}"
    )]
    WrongEffect {
        call: CallId,
        revision: i64,
        expected: Vec<Event>,
        found: Vec<Event>,
    },
    #[error("no write of the record can have made revision {revision}")]
    UnexplainedRevision { revision: i64 },
    #[error("fewer unknown writes than revisions: nothing is left to have made revision {revision}")]
    TooFewWrites { revision: i64 },
    #[error("call {call:?} was refused ({refusal}) in no state from revision {from} to {to}")]
    WrongRefusal {
        call: CallId,
        refusal: Refusal,
        from: i64,
        to: i64,
    },
    #[error("call {call:?} was answered as compacted at {asked}, but no compaction got that far")]
    NotCompacted { call: CallId, asked: i64 },
    #[error(
        "call {call:?} reached behind {asked}, though compaction {compaction:?} had returned at {compacted}"
    )]
    Uncompacted {
        call: CallId,
        asked: i64,
        compaction: CallId,
        compacted: i64,
    },
    #[error("at revision {revision} lease {lease} still has {keys:?}, though {call:?} revoked it")]
    RevokedLeaseHasKeys {
        call: CallId,
        lease: i64,
        revision: i64,
        keys: Vec<Bytes>,
    },
    #[error("put {call:?} attached a key to lease {lease}, which {revoke:?} had revoked before")]
    RevokedLeaseUsed {
        call: CallId,
        lease: i64,
        revoke: CallId,
    },

    #[error(
        "call {call:?} was answered at revision {revision} by a member that had answered {seen_by:?} at {seen} before"
    )]
    SessionBack {
        call: CallId,
        revision: i64,
        seen: i64,
        seen_by: CallId,
    },
    #[error(
        "lease {lease} was gone at {gone} ({evidence}), though {renewal:?} gave it life until {until} at least"
    )]
    LeaseEndedEarly {
        lease: i64,
        gone: u64,
        evidence: String,
        renewal: CallId,
        until: u64,
    },

    // Watches.
    #[error("{place}: revision {revision} came after {after}")]
    Reordered { place: Place, revision: i64, after: i64 },
    #[error("{place}: {key:?} came before a key that stands before it in revision {revision}")]
    ReorderedWithin { place: Place, revision: i64, key: Bytes },
    #[error("{place}: the event of {key:?} at revision {revision} came twice")]
    Duplicate { place: Place, revision: i64, key: Bytes },
    #[error("{place}: revision {revision} was split over two responses")]
    SplitRevision { place: Place, revision: i64 },
    #[error(
        "{place}: a response of another kind came inside a chain of fragments, after revision {revision}"
    )]
    BrokenFragments { place: Place, revision: i64 },
    #[error(
        "{place}: the event of {key:?} at revision {revision} never came, but later ones did, up to {upto}"
    )]
    Missed {
        place: Place,
        revision: i64,
        key: Bytes,
        upto: i64,
    },
    #[error("{place}: nothing happened to {key:?} at revision {revision} that this watcher asked for")]
    Phantom { place: Place, revision: i64, key: Bytes },
    #[error("{place}: an event came as {found:?} instead of {expected:?}")]
    Distorted {
        place: Place,
        found: Box<Event>,
        expected: Box<Event>,
    },
    #[error("{place}: events begin at revision {found}, but {expected} was owed first (start {start})")]
    WrongStart {
        place: Place,
        start: i64,
        found: i64,
        expected: i64,
    },
    #[error("{place}: events came before the created response")]
    NotCreated { place: Place },
    #[error("{place}: it resumed at {start}, but the session before it left off at {expected}")]
    WrongResumption { place: Place, start: i64, expected: i64 },
    #[error("{place}: cancelled for compaction {compacted}, though it needed nothing before {needed}")]
    NeedlesslyCancelled {
        place: Place,
        compacted: i64,
        needed: i64,
    },
    #[error("{place}: something came after it was cancelled")]
    AfterCancel { place: Place },
    #[error("{place}: progress {progress}, but the event of {key:?} at revision {revision} had not come")]
    EarlyBookmark {
        place: Place,
        progress: i64,
        revision: i64,
        key: Bytes,
    },
    #[error("{place}: progress {progress} came after {after}")]
    BookmarkBackwards { place: Place, progress: i64, after: i64 },
    #[error("{place}: progress {progress}, but history ends at {last}")]
    BookmarkFromFuture { place: Place, progress: i64, last: i64 },
}

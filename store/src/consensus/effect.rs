//! What goes into the node and what comes out.

use bytes::Bytes;

use super::wire::RaftMessage;
use crate::types::{EntryKind, Index, MemberId, Term};

/// What the node is told.
#[derive(Clone, Debug)]
pub enum Input {
    /// One tick of the logical clock (a tenth of the election timeout, by etcd's defaults the heartbeat interval).
    Tick,
    /// Stand for election now, without waiting for a timeout.
    Campaign,
    /// The append of this number, and all before it, are durable.
    Persisted(u64),
    /// All entries up to this index are applied.
    Applied(Index),
    /// Ask for a read index under this context, which this process must never have used before.
    ReadIndex(u64),
    /// A message of another member.
    Message(RaftMessage),
    /// A message to this member was dropped.
    Unreachable(MemberId),
    /// This message with proposals was dropped before it was sent.
    Undelivered(RaftMessage),
    /// Hand the leadership to this member.
    Transfer(MemberId),
    /// A snapshot wanted by [`Effect::SendSnapshot`] is installed over there, or will not be.
    SnapshotSent {
        /// By whom.
        to: MemberId,
        /// Whether it is installed.
        delivered: bool,
    },
    /// A whole snapshot from another member is durable here, and its state is built.
    Snapshot(Snapshot),
    /// A member has lost its disk: what it has acknowledged counts no more, and it wants a snapshot of at least this
    /// index.
    Forget(MemberId, Index),
    /// The membership change in the entry of this index is applied; before [`Input::Applied`] tells of that entry.
    Changed(Index, Change),
    /// This member has applied its own removal: it takes no proposals any more.
    Left,
    /// This member was removed for good, and the others know: it takes part in nothing any more.
    Removed,
}

/// What an applied membership change means for Raft.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// A new voter, or a learner that becomes one.
    Voter(MemberId),
    /// A new learner.
    Learner(MemberId),
    /// A member is gone.
    Removed(MemberId),
    /// Nothing: it was refused, or concerns addresses only.
    Nothing,
}

/// A snapshot that another member sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Snapshot {
    /// Who sent it.
    pub from: MemberId,
    /// The term in which that member led.
    pub leader_term: Term,
    /// The last entry that it contains.
    pub index: Index,
    /// The term of that entry.
    pub term: Term,
    /// The voters at that index.
    pub voters: Vec<MemberId>,
    /// The learners at that index.
    pub learners: Vec<MemberId>,
}

/// What the caller must do; see the room's description for the order.
#[derive(Debug)]
pub enum Effect {
    /// Persist entries and hard state, in one sync.
    Append(Append),
    /// Apply these entries, which are committed and durable here.
    Commit(Vec<Committed>),
    /// A read that asked under `context` may be served once `index` is applied.
    ReadIndex {
        /// The context given.
        context: u64,
        /// The read index.
        index: Index,
    },
    /// Who leads, or this member's own part in it, has changed.
    Role(Role),
    /// Send this message; it may be lost.
    Send(RaftMessage),
    /// A member needs a snapshot of at least this index; answered by [`Input::SnapshotSent`].
    SendSnapshot {
        /// Which member.
        to: MemberId,
        /// The least index that is of use.
        index: Index,
    },
    /// The snapshot of this index replaces log and state, once the append of the same batch is durable. Then
    /// `Input::Applied` with its index follows.
    Install {
        /// The number of that append.
        number: u64,
        /// The snapshot's index.
        index: Index,
    },
}

/// One batch for the log writer.
#[derive(Debug)]
pub struct Append {
    /// Counts up; answered by [`Input::Persisted`].
    pub number: u64,
    /// The log is dropped in favour of a snapshot that ends with the entry of this index and term.
    pub restart: Option<(Index, Term)>,
    /// New entries; one with an index already in the log replaces it and all after it.
    pub entries: Vec<LogEntry>,
    /// Term, vote and commit index, where they changed.
    pub state: Option<LogState>,
}

/// A log entry, free of raft-rs's types.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogEntry {
    /// The term it was proposed in.
    pub term: Term,
    /// Its position.
    pub index: Index,
    /// What it holds.
    pub kind: EntryKind,
    /// The content, by kind.
    pub data: Bytes,
}

/// Raft's hard state: what must survive a restart besides the entries.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LogState {
    /// The newest term this member has seen.
    pub term: Term,
    /// Whom it voted for in that term; nobody is 0.
    pub vote: MemberId,
    /// The commit index when this was written; may lag.
    pub commit: Index,
}

/// A committed entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Committed {
    /// The term it was proposed in.
    pub term: Term,
    /// Its position.
    pub index: Index,
    /// What it holds.
    pub kind: EntryKind,
    /// See [`LogEntry::data`].
    pub data: Bytes,
}

/// A member's part in a term (thesis figure 3.3; PreCandidate: section 9.6).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Part {
    /// Takes what the leader sends.
    #[default]
    Follower,
    /// Asks whether it would be elected.
    PreCandidate,
    /// Stands for election.
    Candidate,
    /// Leads.
    Leader,
}

/// Who leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Role {
    /// The current term.
    pub term: Term,
    /// The leader as far as this member knows; 0 if it knows none.
    pub leader: MemberId,
    /// Whether that is this member.
    pub is_leader: bool,
}

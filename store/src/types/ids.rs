//! Newtypes for the numbers that must not be mistaken for one another.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty), $format:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, $format, self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "(", $format, ")"), self.0)
            }
        }
    };
}

id!(
    /// A member of the cluster; shown in hex without padding, as etcd's tools do. 0 is nobody.
    MemberId(u64), "{:x}");
id!(
    /// A cluster; shown in hex without padding.
    ClusterId(u64), "{:x}");
id!(
    /// A lease; any `i64` but 0, which means "no lease". Shown in hex without padding.
    LeaseId(i64), "{:x}");
id!(
    /// A watcher within one watch stream; unique per stream only.
    WatchId(i64), "{}");
id!(
    /// A Raft term.
    Term(u64), "{}");
id!(
    /// A position in the Raft log; the first entry has index 1.
    Index(u64), "{}");

impl Index {
    /// The position after this one.
    #[must_use]
    pub fn next(self) -> Index {
        Index(self.0 + 1)
    }
}

/// Names one proposal for all time, so that the member that made it can tell its outcome when the entry comes back
/// through the log, and no other process can mistake it for its own: counters start anew with each boot id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct ProposalId {
    /// The member that proposed.
    pub member: MemberId,
    /// Drawn at random when the proposing process started.
    pub boot: u64,
    /// Counts the proposals of that process.
    pub counter: u64,
}
/// What an entry of the log holds, by Raft's numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub enum EntryKind {
    /// An encoded `InternalRaftRequest`; nothing in the entry that opens a leader's term.
    #[default]
    Request = 0,
    /// An encoded `raftpb.ConfChange`: a change of the membership.
    Change = 1,
}

impl EntryKind {
    /// The kind of a number, if this version knows it.
    #[must_use]
    pub fn of(number: u8) -> Option<EntryKind> {
        [EntryKind::Request, EntryKind::Change]
            .into_iter()
            .find(|kind| *kind as u8 == number)
    }
}

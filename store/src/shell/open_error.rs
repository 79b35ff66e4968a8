//! Why a store cannot be opened: one clear line each, for an operator.

use std::path::PathBuf;

use super::snapshots;
use crate::backend::BackendError;
use crate::types::{ClusterId, Index, MemberId};
use crate::wal::WalError;
use crate::wal::snapshot::SnapshotError;

/// Why a store cannot be opened. Each is one clear line; nothing on the disk was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has the folder open.
    #[error("data directory {} is in use by another process", path.display())]
    Locked {
        /// The folder.
        path: PathBuf,
    },
    /// The folder cannot be made or written.
    #[error("data directory {} cannot be written", path.display())]
    Unwritable {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The folder holds the data of a real etcd.
    #[error(
        "data directory {} holds the data of etcd: stop that etcd, bring the data over with `taffrail snapshot restore \
         {} --skip-hash-check --data-dir NEW` (and the flags --name, --initial-cluster, --initial-cluster-token and \
         --initial-advertise-peer-urls of this member), and start with the directory NEW",
        path.display(),
        path.join("member/snap/db").display()
    )]
    EtcdData {
        /// The folder.
        path: PathBuf,
    },
    /// The settings contradict each other.
    #[error("member {name:?} is not in the initial cluster")]
    NotInInitialCluster {
        /// The name.
        name: String,
    },
    /// The peer URLs differ from those in the initial cluster.
    #[error("member {name:?} advertises other peer URLs than the initial cluster gives it")]
    PeerUrlsDiffer {
        /// The name.
        name: String,
    },
    /// The cluster to be joined does not know this member.
    #[error(
        "no member of the cluster has the peer URLs {urls:?}: add this one first with `etcdctl member add`"
    )]
    NotAMember {
        /// The URLs.
        urls: Vec<String>,
    },
    /// The files that say whether this member has lost its disk before are not whole.
    #[error(
        "{} and its copy are damaged: whether this member has lost its disk before is not known. In a cluster, remove \
         this member, clear its data directory and add it again",
        path.display()
    )]
    Incarnation {
        /// The file.
        path: PathBuf,
    },
    /// They are of a format of the future.
    #[error(
        "{} is of format version {found}, and this version of Taffrail knows formats up to {known}: it was written by \
         a newer one. Start this member with that version again, or restore it from a peer or a snapshot",
        path.display()
    )]
    NewerIncarnation {
        /// The file.
        path: PathBuf,
        /// Its format version.
        found: u32,
        /// The newest version known here.
        known: u32,
    },
    /// The member had a log, and it is gone.
    #[error(
        "there is no log in {}, but {} says that this member had one: check --wal-dir and whether its disk is mounted, \
         or put the files back. Where they are lost, so are entries that were acknowledged: in a cluster, remove this \
         member, clear its data directory and add it again; a single member must be restored from a snapshot",
        wal.display(), evidence.display()
    )]
    LogMissing {
        /// The log's folder.
        wal: PathBuf,
        /// What says that there was one.
        evidence: PathBuf,
    },
    /// The data belong to another member.
    #[error(
        "data directory {} belongs to member {found_name:?} ({found}), not to {name:?}: check --name and --data-dir",
        path.display()
    )]
    OtherMember {
        /// The folder.
        path: PathBuf,
        /// Whose it is.
        found: MemberId,
        /// The name of that member.
        found_name: String,
        /// The name in the settings.
        name: String,
    },
    /// The data belong to another cluster.
    #[error(
        "data directory {} belongs to cluster {found}, not to {expected}: check --initial-cluster-token and --data-dir",
        path.display()
    )]
    OtherCluster {
        /// The folder.
        path: PathBuf,
        /// Whose it is.
        found: ClusterId,
        /// Whose the settings expect.
        expected: ClusterId,
    },
    /// Parts of the folder belong to different members or clusters.
    #[error("{} is not of the member that {} belongs to: the parts of a data directory must stay together", part.display(), path.display())]
    MixedParts {
        /// The part that does not belong.
        part: PathBuf,
        /// The folder.
        path: PathBuf,
    },
    /// The log holds what this version does not know.
    #[error(
        "entry {index} of the log is of kind {kind}, which this version does not know: start the newer version again"
    )]
    EntryKind {
        /// Its index.
        index: Index,
        /// Its kind.
        kind: u8,
    },
    /// The state is further than the log.
    #[error(
        "the state in {} is at index {applied}, but the log ends at {last}: acknowledged entries are missing from the \
         log. In a cluster, remove this member, clear its data directory and add it again; a single member must be \
         restored from a snapshot",
        path.display()
    )]
    LogBehindState {
        /// The folder.
        path: PathBuf,
        /// Index of the state.
        applied: Index,
        /// End of the log.
        last: Index,
    },
    /// A member that its cluster has removed cannot be what is left of it.
    #[error(
        "--force-new-cluster: member {member} was removed from its cluster, so what it holds may be old; take \
         `taffrail snapshot restore` of its data directory to make a new cluster of it all the same"
    )]
    ForcedAfterRemoval {
        /// The member.
        member: MemberId,
    },
    /// No snapshot file is whole.
    #[error(
        "no whole snapshot file in {} ({found}), and no whole working copy: the state cannot be rebuilt. Put the file \
         back; or, in a cluster, remove this member, clear its data directory and add it again; a single member must \
         be restored from a snapshot",
        path.display()
    )]
    NoSnapshot {
        /// The folder of the snapshot files.
        path: PathBuf,
        /// What is wrong with those that are there.
        found: String,
    },
    /// A snapshot that is whole holds no state.
    #[error("the snapshot of index {index} has no head: it was written wrongly")]
    Headless {
        /// The snapshot.
        index: Index,
    },
    /// The log.
    #[error("the log cannot be read: {0}")]
    Log(#[from] WalError),
    /// A snapshot file.
    #[error("the snapshot file cannot be read: {0}")]
    Snapshot(#[from] snapshots::ReadError),
    /// The working copy, for reasons that a rebuild would not mend.
    #[error("the state cannot be opened: {0}")]
    State(#[from] BackendError),
    /// A small table does not decode although its checksum is right.
    #[error("the table of {table} cannot be read: {reason}")]
    Table {
        /// Which.
        table: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The system refuses a thread.
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
}

impl OpenError {
    /// Whether data of this member are lost or damaged on its own disk, so that another member's are the way back. A
    /// format of the future, a wrong folder or a disk that fails is none of that.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            OpenError::Incarnation { .. }
            | OpenError::LogMissing { .. }
            | OpenError::LogBehindState { .. }
            | OpenError::NoSnapshot { .. }
            | OpenError::Headless { .. }
            | OpenError::Table { .. } => true,
            OpenError::Log(error) => matches!(
                error,
                WalError::Corrupt { .. }
                    | WalError::MissingSegment { .. }
                    | WalError::Gap { .. }
                    | WalError::Missing { .. }
            ),
            OpenError::Snapshot(error) => matches!(
                error,
                snapshots::ReadError::File(SnapshotError::Corrupt { .. })
                    | snapshots::ReadError::Section { .. }
            ),
            _ => false,
        }
    }
}

impl From<SnapshotError> for OpenError {
    fn from(error: SnapshotError) -> Self {
        OpenError::Snapshot(error.into())
    }
}

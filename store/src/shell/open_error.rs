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
        "data directory {} holds the data of etcd: take a snapshot there with `etcdctl snapshot save`, or copy the \
         keys with `etcdctl make-mirror`, and start with another directory",
        path.display()
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
    /// The file that says whether this member has lost its disk before is not whole.
    #[error("{} is damaged: remove the data directory and join the cluster again", path.display())]
    Incarnation {
        /// The file.
        path: PathBuf,
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
    /// The state is further than the log.
    #[error(
        "the state in {} is at index {applied}, but the log ends at {last}: acknowledged entries are missing from the \
         log; restore this member from a snapshot",
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
    /// No snapshot file is whole.
    #[error("no whole snapshot file in {}: the state cannot be rebuilt; put the file back or restore this member", path.display())]
    NoSnapshot {
        /// The folder of the snapshot files.
        path: PathBuf,
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

impl From<SnapshotError> for OpenError {
    fn from(error: SnapshotError) -> Self {
        OpenError::Snapshot(error.into())
    }
}

//! What can go wrong with the log. All of it is fatal to the member that meets it.

use std::io;
use std::path::{Path, PathBuf};

use crate::types::Index;

/// Why the log cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// The disk failed.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// The disk's answer.
        source: io::Error,
    },
    /// The disk is full. Nothing of the batch counts, nothing was synced, and the same batch may be appended again.
    #[error("no space left for the log in {}", path.display())]
    Full {
        /// The log's folder.
        path: PathBuf,
        /// The disk's answer.
        source: io::Error,
    },
    /// The disk lost or changed what it had confirmed.
    #[error(
        "{} is damaged at byte {offset} ({damage}), in a part that was durable: entries that were acknowledged \
         are lost here. Keep the file for inspection. In a cluster, remove this member, clear its data directory \
         and add it again; a single member must be restored from a snapshot",
        path.display()
    )]
    Corrupt {
        /// The segment.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong there.
        damage: Damage,
    },
    /// A segment of the log is absent.
    #[error(
        "{} is missing, though the log had it or goes on after it: put the file back. Where it is lost, so are \
         entries that were acknowledged: in a cluster, remove this member, clear its data directory and add it \
         again; a single member must be restored from a snapshot",
        path.display()
    )]
    MissingSegment {
        /// The segment that should be there.
        path: PathBuf,
    },
    /// A file of a format of the future.
    #[error(
        "{} is of format version {found}, and this version of Taffrail knows formats up to {known}: it was written \
         by a newer one. Start this member with that version again, or restore it from a peer or a snapshot",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format version.
        found: u32,
        /// The newest version known here.
        known: u32,
    },
    /// A record that is whole and of no known kind.
    #[error(
        "{} holds a whole record of kind {kind} at byte {offset}, which this version of Taffrail does not know: it \
         was written by a newer one. Start this member with that version again, or restore it from a peer or a \
         snapshot",
        path.display()
    )]
    UnknownRecord {
        /// The segment.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// The record's kind.
        kind: u8,
    },
    /// The mark of the log's end is of another log.
    #[error("{} is not of the log in {}: the parts of a data directory must stay together", mark.display(), path.display())]
    OtherMark {
        /// The mark's file.
        mark: PathBuf,
        /// The log's folder.
        path: PathBuf,
    },
    /// The log begins after the entry that is needed.
    #[error(
        "the log in {} begins at index {first}, but index {wanted} is needed: the snapshot file or state it would \
         follow is older than what the log was cut for; restore this member from a peer or a snapshot",
        path.display()
    )]
    Gap {
        /// The log's folder.
        path: PathBuf,
        /// The first index wanted.
        wanted: Index,
        /// The first index there is.
        first: Index,
    },
    /// There is no log where one is expected.
    #[error("no log in {}", path.display())]
    Missing {
        /// The log's folder.
        path: PathBuf,
    },
    /// There is a log where none is expected.
    #[error("there is a log in {} already", path.display())]
    Exists {
        /// The log's folder.
        path: PathBuf,
    },
    /// A batch beyond what the format holds.
    #[error("a batch of {bytes} bytes is too large for the log (at most {max})")]
    BatchTooLarge {
        /// Its size.
        bytes: u64,
        /// The limit.
        max: u64,
    },
    /// An earlier write or sync failed; the log in memory and on disk may differ.
    #[error("the log in {} takes no more after a failed write", path.display())]
    Poisoned {
        /// The log's folder.
        path: PathBuf,
    },
}

/// What a damaged place looks like.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Damage {
    /// The header of a segment.
    #[error("segment header")]
    Header,
    /// A format of the future.
    #[error("unknown format version {0}")]
    Version(u32),
    /// The head of a batch.
    #[error("head of a batch")]
    BatchHead,
    /// The checksum or length of a record.
    #[error("checksum of a record")]
    Record,
    /// A record that verifies but cannot be understood.
    #[error("record of unknown form, kind {0}")]
    Form(u8),
    /// An entry that leaves a gap.
    #[error("entry {index} after {last}")]
    EntryGap {
        /// Its index.
        index: Index,
        /// The last one before it.
        last: Index,
    },
    /// The log ends here, and it was longer.
    #[error("the log was durable up to byte {0} of segment {1:016x}")]
    Short(u64, u64),
    /// A segment or generation that does not continue the log before it.
    #[error("does not continue the log before it")]
    Discontinuity,
}

impl WalError {
    /// Whether all that is wrong is that the disk is full.
    #[must_use]
    pub fn is_full(&self) -> bool {
        match self {
            WalError::Full { .. } => true,
            WalError::Io { source, .. } => {
                matches!(
                    source.kind(),
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
                )
            }
            _ => false,
        }
    }
}

/// Turns the disk's error into the room's.
pub(super) fn io_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> WalError {
    move |source| WalError::Io {
        operation,
        path: path.to_owned(),
        source,
    }
}

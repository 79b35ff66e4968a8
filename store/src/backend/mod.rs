//! The durable working copy of the state: the history of keys packed into blocks, and the small tables (leases,
//! members, alarms, users) at the same applied index. The log and the snapshot files are the truth; what is here
//! only spares a restart the replay of everything, so whatever is wrong with it is answered by setting it aside.
//!
//! The room owns its formats and the one directory of the store behind them. It must never decide what is live
//! (`mvcc` says which revisions are dead), never be on the path of an acknowledgement, and never return a record
//! that fails a check: a damaged record is an error, which is fatal for the caller.
//!
//! - [`Backend`]: an ordered map with atomic batches and an explicit flush, and its two implementations,
//!   [`SledBackend`] and [`MemoryBackend`]. Only `sled.rs` names sled.
//! - [`StateStore`]: the one writer. A [`Checkpoint`] becomes one atomic batch.
//! - [`Backend::reclaim`]: space that is free inside the files goes back to the file system, see `reclaim.rs`.
//! - [`RevisionStore`]: shared by threads, reads history back while the writer works.
//! - [`open_guarded`]: opens a directory and reads all of it, or sets it aside and starts a fresh one.
//!
//! # Format, version 2
//! A key is one byte that names the [`Table`], then the key within the table. `varint` is LEB128 of an unsigned 64
//! bit number; all other numbers have a fixed width. Every value begins with a checksum:
//! ```text
//! value  = crc32c(table byte, key, body) as u32 little-endian | body
//! ```
//! **Blocks** (`Table::Block`). The key is `from` (the first main revision covered) as u64 big-endian and the part
//! number as u32 big-endian. The body of part 0:
//! ```text
//! varint to - from | varint number of changes | varint payload length | payload, the first 256 KiB
//! ```
//! and of each further part the next at most 256 KiB of the payload. The payload is a sequence of changes in order
//! of revision, each coded relative to the one before it (the first to the main revision `from`):
//! ```text
//! flags u8: 1 tombstone, 2 created by this change (create = mod, version 1), 4 has a lease, 8 same main revision
//! flag 8:       varint sub - previous sub
//! else:         varint main - previous main | varint sub
//! varint key length | key
//! no tombstone: unless flag 2: varint mod - create | varint version
//!               flag 4: lease as u64 little-endian
//!               varint value length | value
//! ```
//! Invariants: the first block begins at main revision 2 (a fresh store stands at 1), each further one directly
//! after the end of the one before it, and the last ends at the revision of the meta record. All changes of a main
//! revision are in one block. A block may be empty: its changes were compacted.
//!
//! **Meta** (`Table::Meta`, empty key). The body, all little-endian:
//! ```text
//! version u32 | cluster u64 | member u64 | applied u64 | term u64 | revision i64 | compacted i64
//! | compaction finished u8 | digest u64
//! ```
//! The digest is the wrapping sum, over all records but this one, of a 64-bit mix of (table, key, checksum). Each
//! batch moves it along with what it changes. It is what makes a mixture of older and newer records, each of them
//! intact, show when the directory is opened.
//!
//! **Other tables**: key and body are the caller's.

mod block;
mod checkpoint;
mod guard;
mod load;
mod memory;
mod prune;
mod reclaim;
mod record;
mod revisions;
mod sled;

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;

use bytes::Bytes;

pub use checkpoint::{Checkpoint, CheckpointStats, Import, StateStore, TableWrite};
pub use guard::{Aside, BALLAST, Opened, guarded, inspect, is_guarded, open_guarded, renew};
pub use load::{Load, Loaded, Meta, load};
pub use memory::MemoryBackend;
pub use revisions::{RevisionStore, ScanLimit, Scanned};
pub use sled::SledBackend;

/// The kinds of records; the discriminant is the first byte of a key. `Meta` sorts first, because it must be known
/// before the rest is read, and `Block` last.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Table {
    /// The one meta record.
    Meta = 1,
    /// Facts about the cluster: its version, the members removed.
    Cluster = 2,
    /// Members by id.
    Member = 3,
    /// Raised alarms.
    Alarm = 4,
    /// Leases by id.
    Lease = 5,
    /// Users, roles and the auth revision.
    Auth = 6,
    /// The history of keys.
    Block = 16,
}

impl Table {
    /// Every table, in the order of the keys.
    pub const ALL: [Table; 7] = [
        Table::Meta,
        Table::Cluster,
        Table::Member,
        Table::Alarm,
        Table::Lease,
        Table::Auth,
        Table::Block,
    ];

    /// The table of a key's first byte.
    #[must_use]
    pub fn from_prefix(prefix: u8) -> Option<Table> {
        Table::ALL.into_iter().find(|table| table.prefix() == prefix)
    }

    /// The first byte of the table's keys.
    #[must_use]
    pub fn prefix(self) -> u8 {
        self as u8
    }

    /// The key of a record as a backend stores it.
    fn full_key(self, key: &[u8]) -> Vec<u8> {
        let mut full = Vec::with_capacity(1 + key.len());
        full.push(self.prefix());
        full.extend_from_slice(key);
        full
    }
}

/// Changes that become visible and durable together. A later change of a key replaces an earlier one.
#[derive(Clone, Default, Debug)]
pub struct WriteBatch {
    writes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

impl WriteBatch {
    /// Sets a record.
    pub fn put(&mut self, table: Table, key: &[u8], value: Vec<u8>) {
        self.writes.insert(table.full_key(key), Some(value));
    }

    /// Removes a record; no error where there is none.
    pub fn remove(&mut self, table: Table, key: &[u8]) {
        self.writes.insert(table.full_key(key), None);
    }

    /// Whether nothing would change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// Bytes of keys and values.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.writes
            .iter()
            .map(|(key, value)| key.len() + value.as_ref().map_or(0, Vec::len))
            .sum()
    }
}

/// A range of keys within a table.
pub type KeyBounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// An ordered map from (table, key) to bytes.
///
/// A batch is atomic towards a crash: after a restart all of it is there or nothing. It is *not* atomic towards a
/// concurrent reader, which may see a part; [`RevisionStore`] has its own lock for that. Batches become durable in
/// the order they were written, at the latest with the next flush.
pub trait Backend: Send + Sync {
    /// Applies a batch.
    fn write(&self, batch: WriteBatch) -> Result<(), BackendError>;
    /// The value of a key.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, BackendError>;
    /// The records of a range in key order, at most `max` of them. Keys are without the table's prefix.
    fn scan(
        &self,
        table: Table,
        range: KeyBounds<'_>,
        max: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, BackendError>;
    /// Returns once everything written before is durable: contents, file sizes and directory entries.
    fn flush(&self) -> Result<(), BackendError>;
    /// Bytes that the backend's files take.
    fn disk_bytes(&self) -> Result<u64, BackendError>;
    /// Gives back what the files take beyond the `live_bytes` that they hold, a small step at a time: to be called
    /// after a flush, and again for as long as it is [`Reclaim::Going`]. Only the one writer may call it.
    fn reclaim(&self, _live_bytes: u64) -> Result<Reclaim, BackendError> {
        Ok(Reclaim::Nothing)
    }
}

/// What a step of [`Backend::reclaim`] did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reclaim {
    /// There is nothing to give back, or no way to, now.
    Nothing,
    /// There is more to do.
    Going,
    /// The space is given back.
    Done,
}

/// What went wrong with the working copy. Always fatal for the caller: nothing here is worth a retry.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// The store below failed, or found its own files damaged.
    #[error("backend cannot {operation}")]
    Disk {
        /// What was tried.
        operation: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// The code below panicked.
    #[error("backend panicked while opening: {message}")]
    Panicked {
        /// The panic's message.
        message: String,
    },
    /// A record whose checksum does not match.
    #[error("checksum mismatch in table {table:?}")]
    Checksum {
        /// Where.
        table: Table,
    },
    /// A record that is not what the format says.
    #[error("malformed record in table {table:?}: {reason}")]
    Malformed {
        /// Where.
        table: Table,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A format of the future.
    #[error(
        "the working copy is of format version {found}, and this version of Taffrail knows formats up to {known}: it \
         was written by a newer one. Start this member with that version again; or remove the directory `sled`, and \
         the working copy is rebuilt from the snapshot and the log"
    )]
    Version {
        /// The version found.
        found: u32,
        /// The newest version known here.
        known: u32,
    },
    /// A block does not begin where the one before it ended.
    #[error("revisions from {expected} are missing: the next block begins at {found}")]
    Gap {
        /// Where it should begin.
        expected: i64,
        /// Where it begins.
        found: i64,
    },
    /// A record that must exist is absent.
    #[error("record absent from table {table:?} at revision {main}")]
    Absent {
        /// Where.
        table: Table,
        /// The main revision looked for; 0 outside the blocks.
        main: i64,
    },
    /// The records are intact but not of the same moment.
    #[error("records are not those of the last checkpoint: digest {computed:x}, recorded {recorded:x}")]
    Digest {
        /// As the meta record has it.
        recorded: u64,
        /// As the records give it.
        computed: u64,
    },
    /// The structure of the store below does not hold together.
    #[error("backend structure is inconsistent: {reason}")]
    Structure {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Records are there, although the directory never saw a checkpoint, or none although it did.
    #[error("content does not match the directory's marker: {reason}")]
    Marker {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Opening the directory has ended the process more than once.
    #[error("opening has ended the process {deaths} times")]
    Deadly {
        /// How often.
        deaths: u32,
    },
}

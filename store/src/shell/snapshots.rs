//! The content of snapshot files: which sections there are and what is in them. The container, its checksums and
//! its life on disk are `wal/snapshot.rs`'s.
//!
//! | kind | content |
//! | --- | --- |
//! | 1 | [`Head`], once, first |
//! | 2 | length-delimited [`TableRow`]s: members, alarms, leases, users and roles |
//! | 3 | length-delimited [`StoredChange`]s in order of revision; a main revision is never split |

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};
use prost::Message;
use proto::mvccpb::KeyValue;

use super::maintenance::SnapshotJob;
use super::shared::{Shared, Stored};
use crate::backend::{BackendError, ScanLimit, Table};
use crate::consensus;
use crate::env::Disk;
use crate::error::Unavailable;
use crate::types::{Change, ClusterId, Index, Revision};
use crate::wal;
use crate::wal::snapshot::{
    SECTION_BYTES_MAX, SnapshotError, SnapshotMeta, SnapshotReader, SnapshotWriter, remove_older_than,
};

/// What stands at the head of a snapshot, beyond the container's own header.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Head {
    #[prost(int64, tag = "1")]
    pub(super) compacted: i64,
}

/// A record of a small table.
#[derive(Clone, PartialEq, Message)]
struct TableRow {
    #[prost(uint32, tag = "1")]
    table: u32,
    #[prost(bytes = "bytes", tag = "2")]
    key: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    value: Bytes,
}

/// One change.
#[derive(Clone, PartialEq, Message)]
struct StoredChange {
    #[prost(int64, tag = "1")]
    main: i64,
    #[prost(int64, tag = "2")]
    sub: i64,
    #[prost(bool, tag = "3")]
    tombstone: bool,
    #[prost(message, required, tag = "4")]
    kv: KeyValue,
}

/// Why a snapshot could not be written.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
    #[error("the snapshot file")]
    File(#[from] SnapshotError),
    #[error("the working copy")]
    State(#[from] BackendError),
    #[error(transparent)]
    Stopped(#[from] Unavailable),
    #[error("the state was replaced by a snapshot from the leader")]
    Replaced,
}

impl WriteError {
    /// Whether all that is wrong is that the disk is full.
    pub(super) fn is_full(&self) -> bool {
        match self {
            WriteError::File(SnapshotError::Io { source, .. }) => matches!(
                source.kind(),
                std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
            ),
            _ => false,
        }
    }
}

/// Why a snapshot that is whole cannot be understood.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file.
    #[error(transparent)]
    File(#[from] SnapshotError),
    /// A section that does not decode; the file is of another version, or was written wrongly.
    #[error("a section of kind {kind} in the snapshot of index {index} does not decode")]
    Section {
        /// The section's kind.
        kind: u8,
        /// The snapshot's index.
        index: Index,
        /// What the decoder says.
        source: prost::DecodeError,
    },
    /// A kind or table number that this version does not know.
    #[error("the snapshot of index {index} holds {what} {number}, which this version does not know")]
    Unknown {
        /// The snapshot's index.
        index: Index,
        /// Of what.
        what: &'static str,
        /// The number.
        number: u32,
    },
    /// What decodes, and is no state: no member of this version writes that.
    #[error("the snapshot of index {index} holds no state: {what}")]
    Content {
        /// The snapshot's index.
        index: Index,
        /// What is wrong.
        what: &'static str,
    },
}

/// Writes the snapshot of a running store; the history comes from the working copy, which holds all of it up to the
/// job's revision and loses nothing meanwhile. Given up when the store stops, since that must not take long, and when
/// the state is replaced; the log, or what replaces it, still has everything, and an unfinished file is replaced by
/// the next one.
pub(super) fn write(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    shared: &Shared,
    stored: &Stored,
    job: &SnapshotJob,
) -> Result<(), WriteError> {
    let mut sections = Sections::begin(disk, dir, shared.cluster, job)?;
    let history = &stored.revisions;
    let mut from = 0;
    loop {
        if shared.stopping.load(Ordering::Relaxed) {
            return Err(Unavailable::Stopped.into());
        }
        if shared.installs() != stored.installs {
            return Err(WriteError::Replaced);
        }
        let scanned = history.scan(from, job.revision, SCAN_LIMIT)?;
        sections.changes(&scanned.changes)?;
        match scanned.next {
            Some(next) => from = next,
            None => break,
        }
    }
    sections.finish()?;
    remove_older_than(disk.as_ref(), dir, job.applied)?;
    Ok(())
}

/// Writes the snapshot that a store begins with: no history, only who founded the cluster.
pub(super) fn found(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    cluster: ClusterId,
    job: &SnapshotJob,
) -> Result<(), SnapshotError> {
    Sections::begin(disk, dir, cluster, job)?.finish()
}

/// A snapshot file being written, section by section.
pub(super) struct Sections {
    writer: SnapshotWriter,
    buffer: BytesMut,
}

impl Sections {
    pub(super) fn begin(
        disk: &Arc<dyn Disk>,
        dir: &Path,
        cluster: ClusterId,
        job: &SnapshotJob,
    ) -> Result<Self, SnapshotError> {
        let meta = SnapshotMeta {
            index: job.applied,
            term: job.term,
            revision: job.revision,
            cluster,
        };
        let mut writer = SnapshotWriter::create(Arc::clone(disk), dir, meta)?;
        writer.section(
            HEAD,
            &Head {
                compacted: job.compacted,
            }
            .encode_to_vec(),
        )?;
        let mut sections = Sections {
            writer,
            buffer: BytesMut::new(),
        };
        sections.rows(&job.tables)?;
        Ok(sections)
    }

    /// Adds records of the small tables.
    pub(super) fn rows(&mut self, rows: &[(Table, Bytes, Bytes)]) -> Result<(), SnapshotError> {
        for (table, key, value) in rows {
            let row = TableRow {
                table: u32::from(table.prefix()),
                key: key.clone(),
                value: value.clone(),
            };
            self.push(TABLES, &row)?;
        }
        self.flush(TABLES)
    }

    /// Adds changes, in order.
    pub(super) fn changes(&mut self, changes: &[Change]) -> Result<(), SnapshotError> {
        for change in changes {
            let stored = StoredChange {
                main: change.revision.main,
                sub: change.revision.sub,
                tombstone: change.tombstone,
                kv: change.kv.clone(),
            };
            self.push(CHANGES, &stored)?;
        }
        self.flush(CHANGES)
    }

    fn push(&mut self, kind: u8, message: &impl Message) -> Result<(), SnapshotError> {
        let bytes = message.encoded_len() + LENGTH_BYTES_MAX;
        if self.buffer.len() + bytes > SECTION_BYTES_MAX {
            self.flush(kind)?;
        }
        message
            .encode_length_delimited(&mut self.buffer)
            .expect("the buffer grows");
        Ok(())
    }

    fn flush(&mut self, kind: u8) -> Result<(), SnapshotError> {
        if !self.buffer.is_empty() {
            self.writer.section(kind, &self.buffer)?;
            self.buffer.clear();
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Result<(), SnapshotError> {
        self.writer.finish().map(drop)
    }
}

/// What a snapshot holds, in the order in which it is read.
pub(super) enum Item {
    Head(Head),
    Row(Table, Bytes, Bytes),
    Change(Change),
}

/// What a snapshot must keep to: its bytes may come from another member, and what follows takes it for granted.
struct Rules {
    /// The newest revision, by the container's header.
    revision: i64,
    begun: bool,
    /// The last change seen.
    last: Revision,
}

impl Rules {
    fn head(&mut self, head: Head) -> Result<(), &'static str> {
        if std::mem::replace(&mut self.begun, true) {
            return Err("it begins twice");
        }
        if self.revision < 1 || head.compacted < -1 || head.compacted > self.revision {
            return Err("it is at an impossible revision");
        }
        Ok(())
    }

    fn row(&self, table: Table) -> Result<(), &'static str> {
        match table {
            Table::Meta | Table::Block => Err("a record of the working copy's own"),
            _ if !self.begun => Err("it does not begin with its head"),
            _ => Ok(()),
        }
    }

    fn change(&mut self, change: &Change) -> Result<(), &'static str> {
        let (revision, kv) = (change.revision, &change.kv);
        if !self.begun {
            return Err("it does not begin with its head");
        }
        if revision <= self.last || u32::try_from(revision.sub).is_err() || revision.main > self.revision {
            return Err("a revision out of order");
        }
        if kv.mod_revision != revision.main || kv.key.is_empty() {
            return Err("a change of another revision, or of no key");
        }
        let lives = kv.version > 0 && kv.create_revision > 0 && kv.create_revision <= revision.main;
        if !change.tombstone && !lives {
            return Err("a key that was never created");
        }
        self.last = revision;
        Ok(())
    }

    fn ended(&self) -> Result<(), &'static str> {
        if self.begun { Ok(()) } else { Err("it has no head") }
    }
}

/// Reads a snapshot.
pub(super) fn read(reader: &mut SnapshotReader, visit: &mut dyn FnMut(Item)) -> Result<(), ReadError> {
    let index = reader.meta().index;
    let mut rules = Rules {
        revision: reader.meta().revision,
        begun: false,
        // The first revision of a store, which holds no change.
        last: Revision::new(1, i64::MAX),
    };
    let broken = |what| ReadError::Content { index, what };
    reader.rewind();
    while let Some(section) = reader.next_section()? {
        let mut data = section.data;
        let kind = section.kind;
        let undecodable = |source| ReadError::Section { kind, index, source };
        match kind {
            HEAD => {
                let head = Head::decode(data).map_err(undecodable)?;
                rules.head(head).map_err(broken)?;
                visit(Item::Head(head));
            }
            TABLES => {
                while !data.is_empty() {
                    let row = TableRow::decode_length_delimited(&mut data).map_err(undecodable)?;
                    let table = u8::try_from(row.table).ok().and_then(Table::from_prefix);
                    let table = table.ok_or(ReadError::Unknown {
                        index,
                        what: "table",
                        number: row.table,
                    })?;
                    rules.row(table).map_err(broken)?;
                    visit(Item::Row(table, row.key, row.value));
                }
            }
            CHANGES => {
                while !data.is_empty() {
                    let stored = StoredChange::decode_length_delimited(&mut data).map_err(undecodable)?;
                    let change = Change {
                        revision: Revision::new(stored.main, stored.sub),
                        tombstone: stored.tombstone,
                        kv: stored.kv,
                    };
                    rules.change(&change).map_err(broken)?;
                    visit(Item::Change(change));
                }
            }
            other => {
                return Err(ReadError::Unknown {
                    index,
                    what: "section kind",
                    number: u32::from(other),
                });
            }
        }
    }
    rules.ended().map_err(broken)
}

/// An append as the log writer takes it.
pub(super) fn to_wal(append: consensus::Append) -> wal::Append {
    wal::Append {
        restart: append.restart.map(|(index, term)| wal::Position { index, term }),
        entries: append
            .entries
            .into_iter()
            .map(|entry| wal::Entry {
                term: entry.term,
                index: entry.index,
                kind: entry.kind as u8,
                data: entry.data,
            })
            .collect(),
        hard_state: append.state.map(|state| wal::HardState {
            term: state.term,
            vote: state.vote,
            commit: state.commit,
        }),
    }
}

const HEAD: u8 = 1;
const TABLES: u8 = 2;
const CHANGES: u8 = 3;
/// The longest length prefix of a message.
const LENGTH_BYTES_MAX: usize = 10;
/// How much of the history is read at once.
const SCAN_LIMIT: ScanLimit = ScanLimit {
    revisions: 1000,
    bytes: 1 << 20,
};

//! Reads a whole working copy back, in one pass in key order, and checks everything the format promises: every
//! checksum, the chain of the blocks, and the digest.

use std::ops::{Bound, RangeInclusive};
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};

use super::block::{self, Block, StoredBlock};
use super::checkpoint::StateStore;
use super::record;
use super::revisions::{Directory, Entry, FIRST_MAIN};
use super::{Backend, BackendError, Table};
use crate::types::{Change, ClusterId, Index, MemberId, Term};

/// What the meta record says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Meta {
    /// The cluster this is the state of.
    pub cluster: ClusterId,
    /// The member that wrote it.
    pub member: MemberId,
    /// The last log entry that is contained.
    pub applied: Index,
    /// That entry's term.
    pub term: Term,
    /// The newest revision.
    pub revision: i64,
    /// The compacted revision, -1 for none.
    pub compacted: i64,
    /// Whether every revision that this compaction made dead is removed.
    pub compaction_finished: bool,
}

/// What a pass over the working copy hands out.
#[derive(Debug)]
pub enum Load {
    /// A pass begins, over a state with this meta record. A second `Begin` would make everything before it void.
    Begin(Meta),
    /// The next change, in order of revision. Key and value are slices of what was read: copy what is kept, or it
    /// keeps some 32 KiB in memory.
    Change(Change),
}

/// A working copy read back.
pub struct Loaded {
    /// The writer, ready for the next checkpoint.
    pub store: StateStore,
    /// The small tables, in the order of their keys.
    pub tables: Vec<(Table, Bytes, Bytes)>,
    /// What the meta record says.
    pub meta: Meta,
}

/// Reads a backend; `None` where it is empty.
pub fn load(backend: Arc<dyn Backend>, visit: &mut dyn FnMut(Load)) -> Result<Option<Loaded>, BackendError> {
    let mut pass = Pass::new(visit);
    for table in Table::ALL {
        let mut from = None::<Bytes>;
        loop {
            let start = from
                .as_ref()
                .map_or(Bound::Unbounded, |key| Bound::Excluded(key.as_ref()));
            let records = backend.scan(table, (start, Bound::Unbounded), SCAN_RECORDS)?;
            let Some((last, _)) = records.last() else { break };
            from = Some(last.clone());
            for (key, value) in &records {
                pass.record(table, key, value)?;
            }
        }
    }
    pass.finish(backend)
}

/// A pass in progress; fed with every record in key order.
pub(super) struct Pass<'a> {
    visit: &'a mut dyn FnMut(Load),
    meta: Option<(Meta, u64)>,
    tables: Vec<(Table, Bytes, Bytes)>,
    tables_digest: u64,
    directory: Directory,
    /// The records of the block being assembled; the first part's main revision.
    parts: Vec<Bytes>,
    from: i64,
    last: Option<StoredBlock>,
}

impl<'a> Pass<'a> {
    pub(super) fn new(visit: &'a mut dyn FnMut(Load)) -> Self {
        Pass {
            visit,
            meta: None,
            tables: Vec::new(),
            tables_digest: 0,
            directory: Directory::new(),
            parts: Vec::new(),
            from: 0,
            last: None,
        }
    }

    pub(super) fn record(&mut self, table: Table, key: &[u8], value: &Bytes) -> Result<(), BackendError> {
        if table == Table::Meta {
            let (meta, digest) = decode_meta(key, value)?;
            (self.visit)(Load::Begin(meta));
            self.meta = Some((meta, digest));
            return Ok(());
        }
        if self.meta.is_none() {
            return Err(BackendError::Absent {
                table: Table::Meta,
                main: 0,
            });
        }
        if table != Table::Block {
            let (body, share) = record::open(table, key, value)?;
            self.tables_digest = self.tables_digest.wrapping_add(share);
            self.tables.push((table, Bytes::copy_from_slice(key), body));
            return Ok(());
        }
        let (from, part) = block::parse_key(key)?;
        if part == 0 {
            self.finish_block()?;
            self.from = from;
        } else if from != self.from || part as usize != self.parts.len() {
            return Err(BackendError::Absent {
                table: Table::Block,
                main: from,
            });
        }
        self.parts.push(value.clone());
        Ok(())
    }

    fn finish_block(&mut self) -> Result<(), BackendError> {
        if self.parts.is_empty() {
            return Ok(());
        }
        let parts = std::mem::take(&mut self.parts);
        let stored = StoredBlock::read(self.from, |key| {
            let (_, part) = block::parse_key(key)?;
            Ok(parts.get(part as usize).cloned())
        })?;
        let expected = self.directory.through + 1;
        if stored.from != expected {
            return Err(BackendError::Gap {
                expected,
                found: stored.from,
            });
        }
        let bytes = u32::try_from(stored.payload.len()).map_err(|_| BackendError::Malformed {
            table: Table::Block,
            reason: "payload length",
        })?;
        let entry = Entry {
            digest: stored.digest,
            bytes,
        };
        if entry.parts() as usize != parts.len() {
            return Err(BackendError::Malformed {
                table: Table::Block,
                reason: "number of parts",
            });
        }
        for change in stored.changes() {
            (self.visit)(Load::Change(change?));
        }
        self.directory.set(stored.from, Some(entry));
        self.directory.through = stored.to;
        self.last = Some(stored);
        Ok(())
    }

    pub(super) fn finish(mut self, backend: Arc<dyn Backend>) -> Result<Option<Loaded>, BackendError> {
        let Some(meta) = self.check()? else {
            return Ok(None);
        };
        let tail = match &self.last {
            Some(stored) => stored.reopen()?,
            None => Block::new(FIRST_MAIN),
        };
        let store = StateStore::resume(backend, meta, self.directory, self.tables_digest, tail);
        Ok(Some(Loaded {
            store,
            tables: self.tables,
            meta,
        }))
    }

    /// What is to be checked once everything was read; the meta record, `None` where nothing was.
    pub(super) fn check(&mut self) -> Result<Option<Meta>, BackendError> {
        self.finish_block()?;
        let Some((meta, recorded)) = self.meta else {
            return Ok(None);
        };
        if self.directory.through != meta.revision {
            let expected = self.directory.through + 1;
            return Err(BackendError::Gap {
                expected,
                found: meta.revision + 1,
            });
        }
        let computed = self.directory.digest.wrapping_add(self.tables_digest);
        if computed != recorded {
            return Err(BackendError::Digest { recorded, computed });
        }
        Ok(Some(meta))
    }
}

/// The sealed meta record.
pub(super) fn encode_meta(meta: &Meta, digest: u64) -> Vec<u8> {
    let mut body = Vec::with_capacity(META_BYTES);
    body.put_u32_le(*FORMAT_VERSIONS.end());
    body.put_u64_le(meta.cluster.0);
    body.put_u64_le(meta.member.0);
    body.put_u64_le(meta.applied.0);
    body.put_u64_le(meta.term.0);
    body.put_i64_le(meta.revision);
    body.put_i64_le(meta.compacted);
    body.put_u8(u8::from(meta.compaction_finished));
    body.put_u64_le(digest);
    record::seal(Table::Meta, &[], &body).0
}

fn decode_meta(key: &[u8], value: &Bytes) -> Result<(Meta, u64), BackendError> {
    let malformed = |reason| BackendError::Malformed {
        table: Table::Meta,
        reason,
    };
    let (mut body, _) = record::open(Table::Meta, key, value)?;
    let found = body.try_get_u32_le().map_err(|_| malformed("length"))?;
    if !FORMAT_VERSIONS.contains(&found) {
        return Err(BackendError::Version {
            found,
            known: *FORMAT_VERSIONS.end(),
        });
    }
    if !key.is_empty() || body.len() + 4 != META_BYTES {
        return Err(malformed("length"));
    }
    let meta = Meta {
        cluster: ClusterId(body.get_u64_le()),
        member: MemberId(body.get_u64_le()),
        applied: Index(body.get_u64_le()),
        term: Term(body.get_u64_le()),
        revision: body.get_i64_le(),
        compacted: body.get_i64_le(),
        compaction_finished: body.get_u8() != 0,
    };
    Ok((meta, body.get_u64_le()))
}

/// The versions of the room's format that are read; the last is written. The first had no table of users, without
/// which everybody may do all.
const FORMAT_VERSIONS: RangeInclusive<u32> = 1..=2;
const META_BYTES: usize = 4 + 6 * 8 + 1 + 8;
/// Records per scan of the generic pass.
const SCAN_RECORDS: usize = 128;

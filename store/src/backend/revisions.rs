//! The history of keys, read back from its blocks by any thread while the one writer appends and prunes.
//!
//! In memory stands a directory: per block its first revision, its size and its share of the digest, some 35 bytes
//! for a dozen changes.
//!
//! **Readers never miss a live revision.** A reader holds the directory's lock, shared, while it looks a block up
//! *and* reads its records; the writer holds it exclusively while it applies a batch and moves the directory along
//! (never during a flush). So a reader sees every block either before a prune merged it or after, and directory and
//! records always agree. Across blocks no lock is held: a scan's cursor is a revision, which stays meaningful
//! whatever was merged in between. The lock is taken anew for each block, so the writer waits for at most one block
//! per reader.
//!
//! What is read is checked against the directory (span, digest), so that a record the store below has lost
//! or taken back is an error and not an older truth.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::RwLock;

use super::block::{self, StoredBlock};
use super::{Backend, BackendError, Table};
use crate::types::{Change, Revision};

/// The main revision at which the first block begins.
pub(super) const FIRST_MAIN: i64 = 2;

/// Reads history back. Cheap to share; see the module for what holds while the writer works.
pub struct RevisionStore {
    pub(super) backend: Arc<dyn Backend>,
    pub(super) directory: RwLock<Directory>,
}

/// What one scan may return.
#[derive(Clone, Copy, Debug)]
pub struct ScanLimit {
    /// Main revisions.
    pub revisions: usize,
    /// Bytes of keys and values; the revision that passes it is still returned whole.
    pub bytes: usize,
}

/// What a scan returned.
#[derive(Clone, PartialEq, Debug)]
pub struct Scanned {
    /// The changes, in order of revision; of each main revision all or none.
    pub changes: Vec<Change>,
    /// Where to go on; `None` when the range is exhausted.
    pub next: Option<i64>,
}

impl RevisionStore {
    pub(super) fn new(backend: Arc<dyn Backend>, directory: Directory) -> Self {
        RevisionStore {
            backend,
            directory: RwLock::new(directory),
        }
    }

    /// The last main revision that is stored; 1 where there is none.
    #[must_use]
    pub fn through(&self) -> i64 {
        self.directory.read().through
    }

    /// The changes at these revisions, in the order asked for. A revision that is not stored (yet, or any more) is
    /// left out. Values are slices of the blocks read: copy what is kept.
    pub fn fetch(&self, revisions: &[Revision]) -> Result<Vec<Change>, BackendError> {
        let mut order: Vec<usize> = (0..revisions.len()).collect();
        order.sort_unstable_by_key(|&at| revisions[at]);
        let mut found: Vec<Option<Change>> = vec![None; revisions.len()];
        let mut order = order.into_iter().peekable();
        while let Some(&first) = order.peek() {
            let Some(stored) = self.block_of(revisions[first].main)? else {
                order.next();
                continue;
            };
            let mut changes = stored.changes().peekable();
            while let Some(at) = order.next_if(|&at| revisions[at].main <= stored.to) {
                let wanted = revisions[at];
                while let Some(change) =
                    changes.next_if(|change| change.as_ref().map_or(true, |c| c.revision < wanted))
                {
                    change?;
                }
                if let Some(Ok(change)) = changes.peek()
                    && change.revision == wanted
                {
                    found[at] = Some(change.clone());
                }
            }
        }
        Ok(found.into_iter().flatten().collect())
    }

    /// The changes of the main revisions `from..=to`, as far as the limit allows. Values are slices of the blocks
    /// read: copy what is kept.
    pub fn scan(&self, from: i64, to: i64, limit: ScanLimit) -> Result<Scanned, BackendError> {
        let mut changes: Vec<Change> = Vec::new();
        let (mut revisions, mut bytes) = (0, 0);
        let mut cursor = from.max(FIRST_MAIN);
        while cursor <= to {
            let Some(stored) = self.block_of(cursor)? else {
                break;
            };
            for change in stored.changes() {
                let change = change?;
                let main = change.revision.main;
                if main < cursor {
                    continue;
                }
                if main > to {
                    break;
                }
                if changes.last().is_none_or(|last| last.revision.main != main) {
                    if revisions >= limit.revisions.max(1) || (revisions > 0 && bytes >= limit.bytes) {
                        return Ok(Scanned {
                            changes,
                            next: Some(main),
                        });
                    }
                    revisions += 1;
                }
                bytes += change.kv.key.len() + change.kv.value.len();
                changes.push(change);
            }
            cursor = stored.to + 1;
        }
        Ok(Scanned { changes, next: None })
    }

    /// The block that covers a main revision, as it is now.
    fn block_of(&self, main: i64) -> Result<Option<StoredBlock>, BackendError> {
        let directory = self.directory.read();
        let Some((from, entry, to)) = directory.find(main) else {
            return Ok(None);
        };
        read_block(&*self.backend, from, entry, to).map(Some)
    }
}

/// Reads a block and compares it with what the directory says of it. The caller keeps the directory from changing.
pub(super) fn read_block(
    backend: &dyn Backend,
    from: i64,
    entry: Entry,
    to: i64,
) -> Result<StoredBlock, BackendError> {
    let stored = StoredBlock::read(from, |key| backend.get(Table::Block, key))?;
    if stored.digest != entry.digest {
        return Err(BackendError::Digest {
            recorded: entry.digest,
            computed: stored.digest,
        });
    }
    if stored.to != to {
        return Err(BackendError::Gap {
            expected: to + 1,
            found: stored.to + 1,
        });
    }
    Ok(stored)
}

/// What is known of each block without reading it.
#[derive(Clone, Debug)]
pub(super) struct Directory {
    blocks: BTreeMap<i64, Entry>,
    /// The end of the last block, or 1.
    pub(super) through: i64,
    /// Sum of the blocks' shares of the digest.
    pub(super) digest: u64,
    /// Bytes of payload.
    pub(super) bytes: u64,
}

/// One block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Entry {
    pub(super) digest: u64,
    pub(super) bytes: u32,
}

impl Entry {
    pub(super) fn parts(self) -> u32 {
        block::parts(self.bytes as usize)
    }
}

impl Directory {
    pub(super) fn new() -> Self {
        Directory {
            blocks: BTreeMap::new(),
            through: FIRST_MAIN - 1,
            digest: 0,
            bytes: 0,
        }
    }

    /// The block that covers `main`, with its end.
    pub(super) fn find(&self, main: i64) -> Option<(i64, Entry, i64)> {
        if main > self.through {
            return None;
        }
        let (&from, &entry) = self.blocks.range(..=main).next_back()?;
        Some((from, entry, self.end_of(from)))
    }

    /// The block before the one that begins at `from`.
    pub(super) fn before(&self, from: i64) -> Option<(i64, Entry, i64)> {
        let (&before, &entry) = self.blocks.range(..from).next_back()?;
        Some((before, entry, from - 1))
    }

    pub(super) fn get(&self, from: i64) -> Option<Entry> {
        self.blocks.get(&from).copied()
    }

    pub(super) fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Adds, replaces or removes a block.
    pub(super) fn set(&mut self, from: i64, entry: Option<Entry>) {
        let old = match entry {
            Some(entry) => {
                self.digest = self.digest.wrapping_add(entry.digest);
                self.bytes += u64::from(entry.bytes);
                self.blocks.insert(from, entry)
            }
            None => self.blocks.remove(&from),
        };
        if let Some(old) = old {
            self.digest = self.digest.wrapping_sub(old.digest);
            self.bytes -= u64::from(old.bytes);
        }
    }

    fn end_of(&self, from: i64) -> i64 {
        self.blocks
            .range(from + 1..)
            .next()
            .map_or(self.through, |(&next, _)| next - 1)
    }
}

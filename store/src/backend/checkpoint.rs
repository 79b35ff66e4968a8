//! The one writer of the working copy: turns a checkpoint into one atomic batch, and a foreign state (a snapshot)
//! into a whole new copy.
//!
//! A batch holds whole log entries together with the applied index they lead to, so that replaying the log from the
//! applied index found at a start is all a restart needs, however often it is repeated: revisions that are already
//! stored are skipped.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::block::{self, Block, StoredBlock, TARGET_BYTES};
use super::load::{Meta, encode_meta};
use super::prune::DeadRevisions;
use super::record;
use super::revisions::{Directory, Entry, FIRST_MAIN, RevisionStore, read_block};
use super::{Backend, BackendError, Reclaim, Table, WriteBatch};
use crate::types::{Change, ClusterId, Index, MemberId, Revision, SharedRevision, Term};

/// A change of a small table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TableWrite {
    /// Which; neither `Meta` nor `Block`.
    pub table: Table,
    /// The key within the table.
    pub key: Bytes,
    /// The new value; `None` removes the record.
    pub value: Option<Bytes>,
}

/// What happened since the last checkpoint, up to one log entry.
#[derive(Clone, Debug, Default)]
pub struct Checkpoint {
    /// The new revisions, ascending; those already stored are skipped.
    pub revisions: Vec<SharedRevision>,
    /// Revisions that compaction found dead since. All those of one key at once: see `prune.rs`.
    pub dead: Vec<Revision>,
    /// Changes of the small tables.
    pub tables: Vec<TableWrite>,
    /// The last log entry contained.
    pub applied: Index,
    /// Its term.
    pub term: Term,
    /// The newest revision.
    pub revision: i64,
    /// The compacted revision, -1 for none.
    pub compacted: i64,
    /// Whether the compaction has reported all its dead revisions. It is recorded as finished only once they are
    /// also removed.
    pub compaction_finished: bool,
}

/// What a checkpoint did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckpointStats {
    /// Blocks written or removed.
    pub blocks: usize,
    /// Bytes of the batch.
    pub bytes: usize,
    /// Dead revisions removed.
    pub pruned: usize,
}

/// The writer. Owned by the checkpoint thread; readers share [`StateStore::revisions`].
pub struct StateStore {
    revisions: Arc<RevisionStore>,
    meta: Meta,
    tables_digest: u64,
    /// The last block, which the next revisions are appended to.
    tail: Block,
    dead: DeadRevisions,
}

impl StateStore {
    /// A working copy in an empty backend. Nothing is written before the first checkpoint.
    #[must_use]
    pub fn create(backend: Arc<dyn Backend>, cluster: ClusterId, member: MemberId) -> Self {
        let meta = Meta {
            cluster,
            member,
            applied: Index(0),
            term: Term(0),
            revision: FIRST_MAIN - 1,
            compacted: -1,
            compaction_finished: true,
        };
        StateStore::resume(backend, meta, Directory::new(), 0, Block::new(FIRST_MAIN))
    }

    pub(super) fn resume(
        backend: Arc<dyn Backend>,
        meta: Meta,
        directory: Directory,
        tables_digest: u64,
        tail: Block,
    ) -> Self {
        let revisions = Arc::new(RevisionStore::new(backend, directory));
        StateStore {
            revisions,
            meta,
            tables_digest,
            tail,
            dead: DeadRevisions::default(),
        }
    }

    /// The readers' half.
    #[must_use]
    pub fn revisions(&self) -> Arc<RevisionStore> {
        Arc::clone(&self.revisions)
    }

    /// The meta record as last written.
    #[must_use]
    pub fn meta(&self) -> Meta {
        self.meta
    }

    /// Dead revisions that are reported and not yet removed. While there are any, each further checkpoint removes
    /// some, even an otherwise empty one.
    #[must_use]
    pub fn dead_pending(&self) -> usize {
        self.dead.len()
    }

    /// Bytes of coded history, without what the backend adds.
    #[must_use]
    pub fn live_bytes(&self) -> u64 {
        self.revisions.directory.read().bytes
    }

    /// Blocks of history.
    #[must_use]
    pub fn blocks(&self) -> usize {
        self.revisions.directory.read().len()
    }

    /// Bytes that the backend's files take.
    pub fn disk_bytes(&self) -> Result<u64, BackendError> {
        self.revisions.backend.disk_bytes()
    }

    /// Writes a checkpoint as one atomic batch; durable with the next [`StateStore::flush`]. After an error the
    /// writer must not be used again.
    ///
    /// # Panics
    /// Where the applied index or the revision would go back: a broken invariant.
    pub fn checkpoint(&mut self, checkpoint: &Checkpoint) -> Result<CheckpointStats, BackendError> {
        assert!(
            checkpoint.applied >= self.meta.applied && checkpoint.revision >= self.meta.revision,
            "checkpoint at {} revision {} after {} revision {}",
            checkpoint.applied,
            checkpoint.revision,
            self.meta.applied,
            self.meta.revision
        );
        let mut stage = Stage::default();
        self.dead.report(&checkpoint.dead);
        let pruned = self.prune(&mut stage, checkpoint.compaction_finished)?;
        let changes = checkpoint.revisions.iter().flat_map(|revision| &revision.changes);
        self.append(&mut stage, changes, checkpoint.revision);
        let mut batch = WriteBatch::default();
        self.write_tables(&mut batch, &checkpoint.tables)?;
        self.meta = Meta {
            applied: checkpoint.applied,
            term: checkpoint.term,
            revision: checkpoint.revision,
            compacted: checkpoint.compacted,
            compaction_finished: checkpoint.compaction_finished && self.dead.len() == 0,
            ..self.meta
        };
        let blocks = stage.blocks.len();
        let bytes = self.write(stage, batch, Some(self.meta))?;
        Ok(CheckpointStats {
            blocks,
            bytes,
            pruned,
        })
    }

    /// Returns once every checkpoint written before is durable.
    pub fn flush(&self) -> Result<(), BackendError> {
        self.revisions.backend.flush()
    }

    /// One step of giving space back; see [`Backend::reclaim`].
    pub fn reclaim(&self) -> Result<Reclaim, BackendError> {
        self.revisions.backend.reclaim(self.live_bytes())
    }

    /// Appends changes above what is stored and extends the last block to `through`.
    fn append<'a>(&mut self, stage: &mut Stage, changes: impl Iterator<Item = &'a Change>, through: i64) {
        let stored = self.revisions.through();
        let mut changes = changes
            .skip_while(|change| change.revision.main <= stored)
            .peekable();
        if through <= stored {
            assert!(
                changes.peek().is_none(),
                "changes above the checkpoint's revision {through}"
            );
            return;
        }
        while let Some(first) = changes.next() {
            let main = first.revision.main;
            let mut group = vec![first];
            while let Some(change) = changes.next_if(|change| change.revision.main == main) {
                group.push(change);
            }
            self.append_revision(stage, &group);
        }
        assert!(
            self.tail.count == 0 || self.tail.to <= through,
            "changes above the checkpoint's revision"
        );
        self.tail.to = through;
        stage.put(self.tail.clone());
    }

    /// Appends one main revision, which stays in one block.
    fn append_revision(&mut self, stage: &mut Stage, changes: &[&Change]) {
        let main = changes[0].revision.main;
        let estimate: usize = changes.iter().map(|change| Block::estimate(change)).sum();
        if self.tail.count > 0 && self.tail.len() + estimate > TARGET_BYTES {
            let mut full = std::mem::replace(&mut self.tail, Block::new(main));
            full.to = main - 1;
            stage.put(full);
        }
        for change in changes {
            self.tail.push(change);
        }
        self.tail.to = main;
    }

    /// Removes dead revisions from a bounded number of blocks, and merges what becomes small into the block before.
    fn prune(&mut self, stage: &mut Stage, all: bool) -> Result<usize, BackendError> {
        self.dead.maybe_begin(all);
        let mut open: Option<Block> = None;
        let mut pruned = 0;
        let mut touched = 0;
        while touched < PRUNE_BLOCKS_MAX {
            let Some(next) = self.dead.next() else { break };
            let Some((from, entry, to)) = self.revisions.directory.read().find(next.main) else {
                if next.main < FIRST_MAIN {
                    self.dead.take_through(next.main);
                    continue;
                }
                // Not stored yet: the sweep goes on after the append that stores it.
                break;
            };
            touched += 1;
            let dead = self.dead.take_through(to);
            let stored = read_block(&*self.revisions.backend, from, entry, to)?;
            let (kept, removed) = filter(&stored, &dead)?;
            pruned += removed;
            open = Some(self.merge(stage, open, kept)?);
        }
        if let Some(open) = open {
            self.close(stage, open);
        }
        Ok(pruned)
    }

    /// Takes a pruned block: into the one before it where both are small, else as the new open one.
    fn merge(&mut self, stage: &mut Stage, open: Option<Block>, block: Block) -> Result<Block, BackendError> {
        let neighbour = match open {
            Some(open) if open.to + 1 == block.from => Some(open),
            other => {
                if let Some(open) = other {
                    self.close(stage, open);
                }
                let before = self.revisions.directory.read().before(block.from);
                match before {
                    Some((from, entry, to)) if entry.bytes as usize + block.len() <= TARGET_BYTES => {
                        Some(read_block(&*self.revisions.backend, from, entry, to)?.reopen()?)
                    }
                    _ => None,
                }
            }
        };
        let Some(mut neighbour) = neighbour else {
            return Ok(block);
        };
        if neighbour.len() + block.len() > TARGET_BYTES {
            self.close(stage, neighbour);
            return Ok(block);
        }
        for change in block.changes() {
            neighbour.push(&change?);
        }
        neighbour.to = block.to;
        stage.remove(block.from);
        Ok(neighbour)
    }

    /// Stages a block that is done; the last one becomes the tail.
    fn close(&mut self, stage: &mut Stage, block: Block) {
        if block.to == self.revisions.through() {
            self.tail = block.clone();
        }
        stage.put(block);
    }

    /// Stages the small tables and moves their digest.
    fn write_tables(&mut self, batch: &mut WriteBatch, writes: &[TableWrite]) -> Result<(), BackendError> {
        let mut last: BTreeMap<(Table, &[u8]), Option<&Bytes>> = BTreeMap::new();
        for write in writes {
            assert!(
                !matches!(write.table, Table::Meta | Table::Block),
                "{:?} is not free",
                write.table
            );
            last.insert((write.table, &write.key), write.value.as_ref());
        }
        for ((table, key), value) in last {
            if let Some(old) = self.revisions.backend.get(table, key)? {
                let (_, share) = record::open(table, key, &old)?;
                self.tables_digest = self.tables_digest.wrapping_sub(share);
            }
            match value {
                Some(body) => {
                    let (value, share) = record::seal(table, key, body);
                    self.tables_digest = self.tables_digest.wrapping_add(share);
                    batch.put(table, key, value);
                }
                None => batch.remove(table, key),
            }
        }
        Ok(())
    }

    /// Writes what is staged; the directory changes together with the records, under its lock.
    fn write(
        &mut self,
        stage: Stage,
        mut batch: WriteBatch,
        meta: Option<Meta>,
    ) -> Result<usize, BackendError> {
        let through = stage.blocks.values().flatten().map(|block| block.to).max();
        let mut entries = Vec::with_capacity(stage.blocks.len());
        for (from, block) in stage.blocks {
            let entry = self.stage_block(&mut batch, from, block.as_ref());
            entries.push((from, entry));
        }
        // The digest of the blocks after this batch, computed on the side: the lock is not held yet.
        let mut digest = self.revisions.directory.read().digest;
        for (from, entry) in &entries {
            let old = self.revisions.directory.read().get(*from);
            digest = digest.wrapping_sub(old.map_or(0, |old| old.digest));
            digest = digest.wrapping_add(entry.map_or(0, |entry| entry.digest));
        }
        if let Some(meta) = meta {
            batch.put(
                Table::Meta,
                &[],
                encode_meta(&meta, digest.wrapping_add(self.tables_digest)),
            );
        }
        let bytes = batch.bytes();
        let mut directory = self.revisions.directory.write();
        self.revisions.backend.write(batch)?;
        for (from, entry) in entries {
            directory.set(from, entry);
        }
        directory.through = directory.through.max(through.unwrap_or(0));
        assert_eq!(directory.digest, digest, "the directory's digest went astray");
        Ok(bytes)
    }

    fn stage_block(&self, batch: &mut WriteBatch, from: i64, block: Option<&Block>) -> Option<Entry> {
        let old_parts = self.revisions.directory.read().get(from).map_or(0, Entry::parts);
        let (records, digest) = block.map_or((Vec::new(), 0), Block::records);
        let parts = u32::try_from(records.len()).expect("as many as block::parts says");
        for (key, value) in records {
            batch.put(Table::Block, &key, value);
        }
        for part in parts..old_parts {
            batch.remove(Table::Block, &block::key(from, part));
        }
        block.map(|block| {
            let bytes = u32::try_from(block.len()).expect("a revision has less than 4 GiB");
            Entry { digest, bytes }
        })
    }
}

/// Fills an empty backend with a foreign state, in batches of bounded size. Until [`Import::finish`] has written the
/// meta record, the backend holds nothing that would be opened.
pub struct Import {
    store: StateStore,
    stage: Stage,
    staged_bytes: usize,
}

impl Import {
    /// Begins.
    #[must_use]
    pub fn new(backend: Arc<dyn Backend>, cluster: ClusterId, member: MemberId) -> Self {
        Import {
            store: StateStore::create(backend, cluster, member),
            stage: Stage::default(),
            staged_bytes: 0,
        }
    }

    /// Adds the changes of one main revision; gaps between revisions are compacted ones.
    pub fn push(&mut self, changes: &[Change]) -> Result<(), BackendError> {
        let group: Vec<&Change> = changes.iter().collect();
        if group.is_empty() {
            return Ok(());
        }
        let staged = self.stage.blocks.len();
        self.store.append_revision(&mut self.stage, &group);
        self.staged_bytes += changes.iter().map(Block::estimate).sum::<usize>();
        // Only at a block's end, so that the open one is written once.
        if self.stage.blocks.len() > staged && self.staged_bytes >= IMPORT_BATCH_BYTES {
            self.staged_bytes = 0;
            let stage = std::mem::take(&mut self.stage);
            self.store.write(stage, WriteBatch::default(), None)?;
        }
        Ok(())
    }

    /// Writes the rest and the meta record, and flushes. The checkpoint brings the small tables and the positions;
    /// its revisions, if any, follow those pushed.
    pub fn finish(mut self, checkpoint: &Checkpoint) -> Result<StateStore, BackendError> {
        if self.store.tail.count > 0 {
            self.stage.put(self.store.tail.clone());
        }
        let stage = std::mem::take(&mut self.stage);
        self.store.write(stage, WriteBatch::default(), None)?;
        self.store.checkpoint(checkpoint)?;
        self.store.flush()?;
        Ok(self.store)
    }
}

/// The blocks a batch will write (`None`: remove), by their first revision.
#[derive(Default)]
struct Stage {
    blocks: BTreeMap<i64, Option<Block>>,
}

impl Stage {
    fn put(&mut self, block: Block) {
        self.blocks.insert(block.from, Some(block));
    }

    fn remove(&mut self, from: i64) {
        self.blocks.insert(from, None);
    }
}

/// A block without its dead revisions, and how many those were.
fn filter(stored: &StoredBlock, dead: &[Revision]) -> Result<(Block, usize), BackendError> {
    let mut kept = Block::new(stored.from);
    kept.to = stored.to;
    let mut removed = 0;
    for change in stored.changes() {
        let change = change?;
        if dead.binary_search(&change.revision).is_ok() {
            removed += 1;
        } else {
            kept.push(&change);
        }
    }
    Ok((kept, removed))
}

/// Blocks that one checkpoint may rewrite to remove dead revisions: some 2 MiB.
const PRUNE_BLOCKS_MAX: usize = 512;
/// An import writes a batch when this much is staged.
const IMPORT_BATCH_BYTES: usize = 1 << 20;

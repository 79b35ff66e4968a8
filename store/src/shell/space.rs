//! When the working copy is flushed, and when the space is given back that it takes beyond what it holds.
//!
//! No acknowledgement depends on a flush: the log holds everything. A flush bounds what a start after a crash has to
//! replay, and the memory of what sled has not yet written. Space is given back in small steps between the jobs of the
//! state's thread, so that neither a checkpoint nor a request ever waits for more than one of them.
//!
//! A flush that finds the disk full would end the member: sled takes nothing more after it. So none is begun without
//! room for it. What is not flushed stays in memory, up to a limit beyond which the checkpoints wait too, and in the
//! end the writers; the log has it all.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use super::bootstrap::Workplace;
use super::maintenance::Job;
use super::shared::Shared;
use crate::backend::{BackendError, CheckpointStats, Reclaim, StateStore};
use crate::env::Disk;

/// What the state's thread is to do next.
pub(super) enum Next {
    /// What it was handed out.
    Job(Job),
    /// A flush of the working copy.
    Flush,
    /// A step of giving back space.
    Reclaim,
}

/// See the module's description.
pub(super) struct Space {
    shared: Arc<Shared>,
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    unflushed_bytes: usize,
    flushed_at: Instant,
    /// The disk was full; it is looked at again then.
    flush_not_before: Option<Instant>,
    /// Bytes that the working copy held, and that its files took, when it was last flushed.
    flushed_live_bytes: u64,
    flushed_disk_bytes: u64,
    reclaiming: bool,
}

impl Space {
    pub(super) fn new(shared: &Arc<Shared>, place: &Workplace, store: &StateStore) -> Self {
        let published = &shared.published;
        published.reclaiming.store(false, Ordering::Relaxed);
        published
            .history_bytes
            .store(store.live_bytes(), Ordering::Relaxed);
        measure_snapshots(shared, place.world.disk.as_ref(), &place.folders.snap);
        Space {
            shared: Arc::clone(shared),
            disk: Arc::clone(&place.world.disk),
            folder: place.folders.member.clone(),
            unflushed_bytes: 0,
            flushed_at: Instant::now(),
            flush_not_before: None,
            flushed_live_bytes: store.live_bytes(),
            flushed_disk_bytes: shared.published.backend_bytes.load(Ordering::Relaxed),
            reclaiming: false,
        }
    }

    /// What is to be done next; `None` once the queue is closed and empty.
    pub(super) fn next(&self, queue: &mpsc::Receiver<Job>) -> Option<Next> {
        let again = self
            .flush_not_before
            .map_or(Duration::ZERO, |at| at.saturating_duration_since(Instant::now()));
        let due = if self.unflushed_bytes >= FLUSH_BYTES {
            again
        } else {
            again.max(FLUSH_INTERVAL.saturating_sub(self.flushed_at.elapsed()))
        };
        if self.unflushed_bytes >= FLUSH_BYTES && due.is_zero() {
            return Some(Next::Flush);
        }
        if self.reclaiming {
            return match queue.recv_timeout(RECLAIM_PAUSE) {
                Ok(job) => Some(Next::Job(job)),
                Err(mpsc::RecvTimeoutError::Timeout) => Some(Next::Reclaim),
                Err(mpsc::RecvTimeoutError::Disconnected) => None,
            };
        }
        if self.unflushed_bytes == 0 {
            return queue.recv().ok().map(Next::Job);
        }
        match queue.recv_timeout(due) {
            Ok(job) => Some(Next::Job(job)),
            Err(mpsc::RecvTimeoutError::Timeout) => Some(Next::Flush),
            Err(mpsc::RecvTimeoutError::Disconnected) => None,
        }
    }

    /// A checkpoint is written; returns the bytes that the working copy takes, or will with its next flush.
    pub(super) fn written(
        &mut self,
        store: &StateStore,
        stats: CheckpointStats,
    ) -> Result<u64, BackendError> {
        self.unflushed_bytes += stats.bytes;
        let history_bytes = &self.shared.published.history_bytes;
        history_bytes.store(store.live_bytes(), Ordering::Relaxed);
        if stats.pruned > 0 && store.dead_pending() == 0 {
            // The end of a compaction: somebody may be waiting for the space.
            self.flush(store)?;
        }
        Ok(self.disk_bytes(store))
    }

    /// Flushes, and sees whether space is to be given back.
    pub(super) fn flush(&mut self, store: &StateStore) -> Result<(), BackendError> {
        if !self.wait_for_room() {
            return Ok(());
        }
        store.flush()?;
        self.flushed(store)?;
        // While dead revisions are being removed there is no telling what will be left.
        if !self.reclaiming && store.dead_pending() == 0 {
            self.reclaim(store)?;
        }
        Ok(())
    }

    /// The flush before the working copy is closed; false where there is no room for it. Then it must not be closed:
    /// sled would flush.
    pub(super) fn last_flush(&mut self, store: &StateStore) -> Result<bool, BackendError> {
        let room = self.has_room();
        if room {
            store.flush()?;
        }
        Ok(room)
    }

    /// Whether a flush may be begun. Where there is no room for it, it is put off for as long as memory allows, then
    /// waited for.
    fn wait_for_room(&mut self) -> bool {
        loop {
            if self.has_room() {
                if self.flush_not_before.take().is_some() {
                    tracing::info!("there is space again: checkpoints are written to the disk");
                }
                return true;
            }
            if self.flush_not_before.is_none() {
                tracing::warn!("no space left to write checkpoints to the disk: they wait in memory");
            }
            self.flush_not_before = Some(Instant::now() + ROOM_RETRY);
            if self.unflushed_bytes < UNFLUSHED_BYTES_MAX || self.shared.stopping.load(Ordering::Relaxed) {
                return false;
            }
            thread::park_timeout(ROOM_RETRY);
        }
    }

    fn has_room(&self) -> bool {
        let needed = 2 * self.unflushed_bytes as u64 + ROOM_BYTES;
        // A disk that does not tell is tried.
        self.disk
            .available_bytes(&self.folder)
            .map_or(true, |available| available >= needed)
    }

    fn flushed(&mut self, store: &StateStore) -> Result<(), BackendError> {
        self.unflushed_bytes = 0;
        self.flushed_at = Instant::now();
        self.flushed_live_bytes = store.live_bytes();
        self.flushed_disk_bytes = store.disk_bytes()?;
        let published = &self.shared.published;
        published
            .backend_bytes
            .store(self.flushed_disk_bytes, Ordering::Relaxed);
        Ok(())
    }

    /// A step of giving back space.
    pub(super) fn reclaim(&mut self, store: &StateStore) -> Result<(), BackendError> {
        let outcome = store.reclaim()?;
        if outcome == Reclaim::Done {
            let before = self.flushed_disk_bytes;
            self.flushed(store)?;
            let after = self.flushed_disk_bytes;
            let numbers = &self.shared.published.disk;
            numbers.reclaims.fetch_add(1, Ordering::Relaxed);
            numbers
                .reclaimed_bytes
                .fetch_add(before.saturating_sub(after), Ordering::Relaxed);
            tracing::info!(
                before,
                after,
                "the working copy was made anew: its free space is given back"
            );
        }
        self.reclaiming = outcome == Reclaim::Going;
        let published = &self.shared.published;
        published.reclaiming.store(self.reclaiming, Ordering::Relaxed);
        Ok(())
    }

    /// What is not flushed is not in the files yet; what is held more than at the last flush will be.
    fn disk_bytes(&self, store: &StateStore) -> u64 {
        let grown = store.live_bytes().saturating_sub(self.flushed_live_bytes);
        self.flushed_disk_bytes + grown
    }
}

/// Tells how much the snapshot files take.
pub(super) fn measure_snapshots(shared: &Shared, disk: &dyn Disk, dir: &Path) {
    let names = disk.list(dir).unwrap_or_default();
    let files = names.iter().filter_map(|name| disk.open(&dir.join(name)).ok());
    let bytes = files.filter_map(|file| file.len().ok()).sum();
    shared.published.snapshot_bytes.store(bytes, Ordering::Relaxed);
}

/// Bytes of checkpoints after which the working copy is flushed.
const FLUSH_BYTES: usize = 32 << 20;
/// How long a checkpoint stays without a flush.
const FLUSH_INTERVAL: Duration = Duration::from_secs(10);
/// Pause between two steps of giving back space, each of which copies 1 MiB.
const RECLAIM_PAUSE: Duration = Duration::from_millis(5);
/// What must be left of the disk beyond twice what a flush writes.
const ROOM_BYTES: u64 = 4 << 20;
/// How often a full disk is looked at.
const ROOM_RETRY: Duration = Duration::from_millis(500);
/// Bytes of checkpoints that are held in memory while the disk is full.
const UNFLUSHED_BYTES_MAX: usize = 96 << 20;

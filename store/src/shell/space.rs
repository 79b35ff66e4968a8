//! When the working copy is flushed, and when the space is given back that it takes beyond what it holds.
//!
//! No acknowledgement depends on a flush: the log holds everything. A flush bounds what a start after a crash has to
//! replay, and the memory of what sled has not yet written. Space is given back in small steps between the jobs of the
//! state's thread, so that neither a checkpoint nor a request ever waits for more than one of them.

use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use super::maintenance::Job;
use super::shared::Shared;
use crate::backend::{BackendError, CheckpointStats, Reclaim, StateStore};

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
    unflushed_bytes: usize,
    flushed_at: Instant,
    /// Bytes that the working copy held, and that its files took, when it was last flushed.
    flushed_live_bytes: u64,
    flushed_disk_bytes: u64,
    reclaiming: bool,
}

impl Space {
    pub(super) fn new(shared: &Arc<Shared>, store: &StateStore) -> Self {
        shared.published.reclaiming.store(false, Ordering::Relaxed);
        Space {
            shared: Arc::clone(shared),
            unflushed_bytes: 0,
            flushed_at: Instant::now(),
            flushed_live_bytes: store.live_bytes(),
            flushed_disk_bytes: shared.published.backend_bytes.load(Ordering::Relaxed),
            reclaiming: false,
        }
    }

    /// What is to be done next; `None` once the queue is closed and empty.
    pub(super) fn next(&self, queue: &mpsc::Receiver<Job>) -> Option<Next> {
        if self.unflushed_bytes >= FLUSH_BYTES {
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
        match queue.recv_timeout(FLUSH_INTERVAL.saturating_sub(self.flushed_at.elapsed())) {
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
        if stats.pruned > 0 && store.dead_pending() == 0 {
            // The end of a compaction: somebody may be waiting for the space.
            self.flush(store)?;
        }
        Ok(self.disk_bytes(store))
    }

    /// Flushes, and sees whether space is to be given back.
    pub(super) fn flush(&mut self, store: &StateStore) -> Result<(), BackendError> {
        store.flush()?;
        self.flushed(store)?;
        // While dead revisions are being removed there is no telling what will be left.
        if !self.reclaiming && store.dead_pending() == 0 {
            self.reclaim(store)?;
        }
        Ok(())
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

/// Bytes of checkpoints after which the working copy is flushed.
const FLUSH_BYTES: usize = 32 << 20;
/// How long a checkpoint stays without a flush.
const FLUSH_INTERVAL: Duration = Duration::from_secs(10);
/// Pause between two steps of giving back space, each of which copies 1 MiB.
const RECLAIM_PAUSE: Duration = Duration::from_millis(5);

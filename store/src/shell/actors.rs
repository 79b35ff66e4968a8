//! The threads behind the driver: the log writer, which alone waits for syncs, and the checkpoint writer, which
//! keeps the working copy and the snapshot files. Each owns its actor, takes jobs from a channel and reports
//! completions as [`Event`]s; a failure is fatal and ends it.

use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;

use super::bootstrap::Workplace;
use super::install::{self, Replaced};
use super::maintenance::{Job, SnapshotJob};
use super::reads::fatal;
use super::shared::{Shared, Vital};
use super::snapshots::{self, WriteError};
use super::space::{Next, Space, measure_snapshots};
use super::transfers;
use crate::backend::{CheckpointStats, StateStore};
use crate::consensus::Append;
use crate::mvcc::KvHash;
use crate::types::{Index, SharedRevision};
use crate::wal::{self, Wal};
use crate::watch::ReadToken;
use std::sync::atomic::Ordering;

/// A completion. Bounded by what was handed out: one per job.
pub(super) enum Event {
    /// The append of this number, and all before it, are durable.
    Persisted(u64),
    /// The answer to a history read of the watch hub.
    History {
        /// The question.
        token: ReadToken,
        /// See [`crate::watch::Input::History`].
        answer: Result<Vec<SharedRevision>, i64>,
    },
    /// The checkpoint handed out is written.
    Checkpointed {
        /// Bytes of the working copy's files.
        disk_bytes: u64,
        /// Dead revisions still to be removed.
        dead_pending: usize,
    },
    /// The hash that a compaction leaves.
    /// `None`: given up, because the state was replaced.
    Hashed(Option<KvHash>),
    /// The snapshot under way has ended. With an index, its file is durable and the log before it may go.
    Snapshotted(Option<Index>),
    /// The snapshot under way found the disk full.
    SnapshotLacksRoom,
    /// A piece of work on a snapshot from or for another member is done.
    Transfer(transfers::Done),
    /// The working copy is that of an installed snapshot.
    Replaced(Replaced),
    /// No snapshot file is whole: the working copy, which is, has to give a new one.
    SnapshotLost,
}

enum LogJob {
    Append(Append),
    Release(Index),
    /// A segment file made on the side.
    Spare(Result<PathBuf, wal::WalError>),
    Close,
}

/// The log writer's mailbox.
pub(super) struct LogWriter {
    jobs: mpsc::Sender<LogJob>,
    thread: Option<thread::JoinHandle<()>>,
}

impl LogWriter {
    /// Starts the thread.
    pub(super) fn start(
        shared: Arc<Shared>,
        wal: Wal,
        events: UnboundedSender<Event>,
    ) -> std::io::Result<Self> {
        let (jobs, queue) = mpsc::channel();
        let disk = &shared.published.disk;
        disk.wal_bytes.store(wal.bytes(), Ordering::Relaxed);
        let spares = jobs.clone();
        let thread = thread::Builder::new()
            .name("taffrail-log".to_owned())
            .spawn(move || {
                LogThread {
                    shared,
                    wal,
                    spares,
                    making_spare: false,
                    marked: Instant::now(),
                    spare_not_before: None,
                }
                .run(&queue, &events)
            })?;
        Ok(LogWriter {
            jobs,
            thread: Some(thread),
        })
    }

    /// Hands out an append. What waits is bounded on a leader by the proposals in flight, on a follower by the appends
    /// that its leader sends before the first is acknowledged.
    pub(super) fn append(&self, append: Append) {
        // The thread is gone only after a fatal error, which it has reported.
        let _ = self.jobs.send(LogJob::Append(append));
    }

    /// Lets go of the log up to an index that a snapshot file covers.
    pub(super) fn release(&self, covered: Index) {
        let _ = self.jobs.send(LogJob::Release(covered));
    }

    /// Waits for the thread to do what it was given and close its files.
    pub(super) fn close(mut self) {
        let Some(thread) = self.thread.take() else { return };
        let _ = self.jobs.send(LogJob::Close);
        if thread.join().is_err() {
            tracing::error!("the log writer panicked");
        }
    }
}

/// The log writer's thread.
struct LogThread {
    shared: Arc<Shared>,
    wal: Wal,
    /// For the thread that makes spare segments.
    spares: mpsc::Sender<LogJob>,
    making_spare: bool,
    /// When the log's end was marked last.
    marked: Instant,
    /// No spare is tried to be made before, after one that failed.
    spare_not_before: Option<Instant>,
}

impl LogThread {
    fn run(mut self, queue: &mpsc::Receiver<LogJob>, events: &UnboundedSender<Event>) {
        let _vital = Vital::new(&self.shared, "the log writer");
        let mut batch: Vec<wal::Append> = Vec::new();
        let mut open = true;
        while open && let Ok(first) = self.next_job(queue) {
            let mut number = 0;
            let mut covered = None;
            batch.clear();
            // All of it: an append waits no less behind a segment that is made ready, or on a disk that stays full.
            self.shared.published.disk.wal_busy.begin(self.shared.clock.now());
            for job in first.into_iter().chain(queue.try_iter()) {
                match job {
                    LogJob::Append(append) => {
                        number = append.number;
                        batch.push(snapshots::to_wal(append));
                    }
                    LogJob::Release(index) => covered = Some(index),
                    LogJob::Spare(spare) => self.take_spare(spare),
                    LogJob::Close => open = false,
                }
            }
            if let Err(error) = self.write(&batch, covered) {
                fatal(&self.shared, "writing the log", &error);
                return;
            }
            if !batch.is_empty() {
                // The receiver is gone once the driver has ended.
                let _ = events.send(Event::Persisted(number));
            }
            let due = self.spare_not_before.is_none_or(|at| Instant::now() >= at);
            if self.wal.wants_segment() && !self.making_spare && due {
                self.make_spare();
            }
            self.shared.published.disk.wal_busy.end();
            if self.marked.elapsed() >= MARK_INTERVAL {
                self.mark();
            }
        }
        if let Err(error) = self.wal.close() {
            tracing::warn!(%error, "the log's end cannot be marked");
        }
    }

    fn mark(&mut self) {
        self.marked = Instant::now();
        self.shared.published.disk.wal_busy.begin(self.shared.clock.now());
        if let Err(error) = self.wal.mark() {
            tracing::warn!(%error, "the log's end cannot be marked");
        }
        self.shared.published.disk.wal_busy.end();
    }

    /// The next job; none where the making of a spare is to be tried again first. A log that has come to rest gets its
    /// end marked meanwhile.
    fn next_job(&mut self, queue: &mpsc::Receiver<LogJob>) -> Result<Option<LogJob>, mpsc::RecvError> {
        if self.wal.wants_mark() {
            match queue.recv_timeout(MARK_REST) {
                Ok(job) => return Ok(Some(job)),
                Err(mpsc::RecvTimeoutError::Timeout) => self.mark(),
                Err(mpsc::RecvTimeoutError::Disconnected) => return Err(mpsc::RecvError),
            }
        }
        if self.making_spare || self.spare_not_before.is_none() {
            return queue.recv().map(Some);
        }
        match queue.recv_timeout(FULL_RETRY) {
            Ok(job) => Ok(Some(job)),
            Err(mpsc::RecvTimeoutError::Timeout) => Ok(None),
            Err(mpsc::RecvTimeoutError::Disconnected) => Err(mpsc::RecvError),
        }
    }

    /// Appends. Where the disk is full the batch waits for space, and with it everything that waits for its sync:
    /// nothing is promised, nothing lost, and it goes on by itself. A failed sync is final.
    fn append(&mut self, batch: &[wal::Append]) -> Result<(Duration, Duration), wal::WalError> {
        let mut told = false;
        loop {
            let began = Instant::now();
            let mut took = Duration::ZERO;
            let numbers = &self.shared.published.disk;
            let appended = self.wal.append_with(batch, |bytes| {
                took = began.elapsed();
                let bytes = bytes as u64;
                numbers.wal_written_bytes.fetch_add(bytes, Ordering::Relaxed);
            });
            match appended {
                Err(error @ wal::WalError::Full { .. }) if !self.shared.stopping.load(Ordering::Relaxed) => {
                    if !std::mem::replace(&mut told, true) {
                        tracing::error!(%error, "the disk is full: nothing can be written until there is space");
                    }
                    self.shared.published.log_full.store(true, Ordering::Release);
                    thread::park_timeout(FULL_RETRY);
                }
                Err(error) => return Err(error),
                Ok(()) => {
                    if told {
                        tracing::info!("the log goes on: there is space again");
                        self.shared.published.log_full.store(false, Ordering::Release);
                    }
                    return Ok((took, began.elapsed().saturating_sub(took)));
                }
            }
        }
    }

    fn write(&mut self, batch: &[wal::Append], covered: Option<Index>) -> Result<(), wal::WalError> {
        if !batch.is_empty() {
            let (write, sync) = self.append(batch)?;
            let numbers = &self.shared.published.disk;
            numbers.wal_write.observe(write);
            numbers.wal_sync.observe(sync);
        }
        if let Some(index) = covered {
            let released = self.wal.release(index)?;
            tracing::info!(
                index = index.0,
                released,
                "the log before the snapshot is released"
            );
        }
        let numbers = &self.shared.published.disk;
        numbers.wal_bytes.store(self.wal.bytes(), Ordering::Relaxed);
        Ok(())
    }

    /// Has the next segment made: zeroing it takes far longer than a sync, which nobody should wait for.
    fn make_spare(&mut self) {
        let Some(job) = self.wal.spare_job() else {
            return self.prepare();
        };
        let spares = self.spares.clone();
        let thread = thread::Builder::new().name("taffrail-spare".to_owned());
        // The receiver is gone once the log is closed.
        let started = thread.spawn(move || drop(spares.send(LogJob::Spare(job.run()))));
        match started {
            Ok(_) => self.making_spare = true,
            Err(error) => tracing::warn!(%error, "no thread to make a log segment"),
        }
    }

    fn take_spare(&mut self, spare: Result<PathBuf, wal::WalError>) {
        self.making_spare = false;
        match spare {
            Ok(path) => {
                if self.spare_not_before.take().is_some() {
                    tracing::info!("the next log segment is made: there is space again");
                    self.shared.published.log_full.store(false, Ordering::Release);
                }
                self.wal.add_spare(path);
                self.prepare();
            }
            Err(error) => {
                if self.spare_not_before.is_none() {
                    if error.is_full() {
                        tracing::warn!(
                            "no space left for the next log segment: writes are refused until there is"
                        );
                    } else {
                        tracing::warn!(%error, "the next log segment cannot be made");
                    }
                }
                self.spare_not_before = Some(Instant::now() + FULL_RETRY);
                // What is left of the current one is kept for what frees space.
                self.shared
                    .published
                    .log_full
                    .store(error.is_full(), Ordering::Release);
            }
        }
    }

    fn prepare(&mut self) {
        if let Err(error) = self.wal.prepare() {
            // Harmless yet: the append that needs the segment tries again, and fails for good.
            tracing::warn!(%error, "the next log segment cannot be prepared");
        }
    }
}

/// How long the log rests before its end is marked.
const MARK_REST: Duration = Duration::from_millis(50);
/// How long its end stays unmarked under load.
const MARK_INTERVAL: Duration = Duration::from_secs(1);
/// How often it is seen whether a full disk has space again.
const FULL_RETRY: Duration = Duration::from_millis(500);

/// The checkpoint writer's mailbox.
pub(super) struct CheckpointWriter {
    jobs: mpsc::Sender<Job>,
    thread: Option<thread::JoinHandle<()>>,
}

impl CheckpointWriter {
    /// Starts the thread.
    pub(super) fn start(
        shared: Arc<Shared>,
        store: StateStore,
        place: Workplace,
        events: UnboundedSender<Event>,
    ) -> std::io::Result<Self> {
        let (jobs, queue) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("taffrail-state".to_owned())
            .spawn(move || write_state(&shared, store, &place, &queue, &events))?;
        Ok(CheckpointWriter {
            jobs,
            thread: Some(thread),
        })
    }

    /// Hands out a job. At most one checkpoint and one snapshot are under way.
    pub(super) fn submit(&self, job: Job) {
        let _ = self.jobs.send(job);
    }

    /// Waits for the thread to do what it was given, flushes and closes the files.
    pub(super) fn close(mut self) {
        let Some(thread) = self.thread.take() else { return };
        drop(self);
        if thread.join().is_err() {
            tracing::error!("the checkpoint writer panicked");
        }
    }
}

fn write_state(
    shared: &Arc<Shared>,
    mut store: StateStore,
    place: &Workplace,
    queue: &mpsc::Receiver<Job>,
    events: &UnboundedSender<Event>,
) {
    let _vital = Vital::new(shared, "the checkpoint writer");
    let mut under_way: Vec<thread::JoinHandle<()>> = Vec::new();
    let mut space = Space::new(shared, place, &store);
    while let Some(next) = space.next(queue) {
        match next {
            Next::Flush => {
                if let Err(error) = space.flush(&store) {
                    fatal(shared, "flushing the state", &error);
                    return;
                }
            }
            Next::Reclaim => {
                if let Err(error) = space.reclaim(&store) {
                    fatal(shared, "making the working copy anew", &error);
                    return;
                }
            }
            Next::Job(Job::Checkpoint(checkpoint)) => {
                let began = Instant::now();
                let done = store
                    .checkpoint(&checkpoint)
                    .and_then(|stats| Ok((stats, space.written(&store, stats)?)));
                let (stats, disk_bytes): (CheckpointStats, u64) = match done {
                    Ok(done) => done,
                    Err(error) => {
                        fatal(shared, "writing the state", &error);
                        return;
                    }
                };
                shared.published.disk.checkpoint.observe(began.elapsed());
                tracing::debug!(?stats, applied = checkpoint.applied.0, "checkpoint written");
                let dead_pending = store.dead_pending();
                let _ = events.send(Event::Checkpointed {
                    disk_bytes,
                    dead_pending,
                });
            }
            Next::Job(Job::Snapshot(job)) => {
                under_way.retain(|thread| !thread.is_finished());
                under_way.extend(start_snapshot(shared, place, job, events));
            }
            Next::Job(Job::Replace(job)) => match install::replace(shared, place, store, job) {
                Ok((replacement, replaced)) => {
                    store = replacement;
                    space = Space::new(shared, place, &store);
                    let _ = events.send(Event::Replaced(replaced));
                }
                Err(error) => {
                    fatal(shared, "bringing a snapshot into the working copy", &error);
                    return;
                }
            },
        }
    }
    for snapshot in under_way {
        drop(snapshot.join());
    }
    match space.last_flush(&store) {
        Ok(true) => {}
        Ok(false) => {
            tracing::warn!("no space left for the last checkpoint: the next start reads it from the log");
            std::mem::forget(store);
        }
        Err(error) => drop(fatal(shared, "flushing the state", &error)),
    }
}

/// Begins a snapshot file on a thread of its own, which reads the working copy as it is now.
fn start_snapshot(
    shared: &Arc<Shared>,
    place: &Workplace,
    job: Box<SnapshotJob>,
    events: &UnboundedSender<Event>,
) -> Option<thread::JoinHandle<()>> {
    let Some(stored) = shared.stored() else {
        let _ = events.send(Event::Snapshotted(None));
        return None;
    };
    let (on_thread, results) = (Arc::clone(shared), events.clone());
    let (disk, dir) = (Arc::clone(&place.world.disk), place.folders.snap.clone());
    let started = thread::Builder::new()
        .name("taffrail-snap".to_owned())
        .spawn(move || {
            let _vital = Vital::new(&on_thread, "the snapshot writer");
            let began = Instant::now();
            let written = snapshots::write(&disk, &dir, &on_thread, &stored, &job);
            if written.is_ok() {
                let numbers = &on_thread.published.disk;
                numbers.snapshot_file.observe(began.elapsed());
            }
            measure_snapshots(&on_thread, disk.as_ref(), &dir);
            // Whoever waits for the event may want to replace what this holds.
            drop(stored);
            report_snapshot(&on_thread, job.applied, written, &results);
        });
    match started {
        Ok(thread) => Some(thread),
        Err(error) => {
            tracing::error!(%error, "no thread for a snapshot");
            // The log is kept, and what the snapshot held back may be removed.
            let _ = events.send(Event::Snapshotted(None));
            None
        }
    }
}

fn report_snapshot(
    shared: &Arc<Shared>,
    index: Index,
    written: Result<(), WriteError>,
    events: &UnboundedSender<Event>,
) {
    match written {
        Ok(()) => drop(events.send(Event::Snapshotted(Some(index)))),
        Err(reason @ (WriteError::Stopped(_) | WriteError::Replaced)) => {
            tracing::info!(index = index.0, %reason, "a snapshot file is given up");
            let _ = events.send(Event::Snapshotted(None));
        }
        Err(error) if error.is_full() => {
            tracing::warn!(
                index = index.0,
                "no space left for a snapshot file: the log is kept, and it is tried again later"
            );
            let _ = events.send(Event::SnapshotLacksRoom);
        }
        Err(error) => {
            fatal(shared, "writing a snapshot file", &error);
        }
    }
}

//! A snapshot from the leader in place of the state: the swap itself, and the working copy that has to follow.
//!
//! The order, each step after the one before it is durable: the snapshot file has its name; the log restarts at its
//! index; the state in memory is swapped ([`install`]); the working copy is emptied and filled from the file
//! ([`replace`]); older snapshot files and the log before go. A crash in between is the business of `recovery.rs`.
//!
//! Whoever reads goes on with the state in memory at once. What needs stored history of the new state waits until it
//! is there ([`History::Replacing`]). A read that began in the old state ends with what it took from there, or with
//! an error that makes its client try again, but never with a mixture: it holds a [`Pin`](super::shared::Pin), which
//! knows the state that it is of.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;

use super::actors::Event;
use super::bootstrap::Workplace;
use super::history;
use super::maintenance::{Job, Maintenance, Replace};
use super::member::HistoryRequest;
use super::open_error::OpenError;
use super::recovery::{emptied, import};
use super::shared::{History, Offload, Shared, Stored};
use crate::apply::State;
use crate::auth::AuthEvent;
use crate::backend::StateStore;
use crate::types::Index;
use crate::wal::snapshot::{SnapshotReader, remove_older_than};

/// Puts the state of a snapshot, at which the log has durably restarted, in place of the present one. Returns the
/// job that brings the working copy there, to be handed to the state's thread. The caller tells the watch hub
/// (`watch::Input::Installed`) and counts applied entries from the snapshot's index on.
pub(super) fn install(shared: &Arc<Shared>, maintenance: &mut Maintenance, mut state: Box<State>) -> Job {
    let index = state.applied();
    state
        .mvcc
        .set_recent_bytes_max(shared.settings.limits.recent_bytes);
    let published = &shared.published;
    {
        let mut place = shared.state.write();
        assert!(
            index >= place.applied() && state.mvcc.current() >= place.mvcc.current(),
            "a snapshot of {index} replaces the state of {}",
            place.applied()
        );
        std::mem::swap(&mut *place, &mut *state);
        shared.installs.fetch_add(1, Ordering::AcqRel);
        shared.history.send_modify(|history| {
            if let History::Stored(_) = history {
                *history = History::Replacing(Vec::new());
            }
        });
        shared.auth.publish(&place.auth);
        shared.auth.tell(&AuthEvent::Replaced);
        published.revision.store(place.mvcc.current(), Ordering::Relaxed);
        published.applied.store(index.0, Ordering::Relaxed);
    }
    // Nothing of what the new state holds is waiting for a checkpoint.
    shared.dirty.bytes.store(0, Ordering::Relaxed);
    shared.dirty.stored.store(0, Ordering::Relaxed);
    shared.dirty.fewer.notify_waiters();
    tracing::info!(index = index.0, "a snapshot from the leader is installed");
    // A large state takes its time to go.
    shared.offload.start(move || drop(state));
    maintenance.installed()
}

/// What came of a [`Replace`].
pub(super) struct Replaced {
    /// The snapshot's index: the log before it may go. `None` where another snapshot was installed meanwhile.
    index: Option<Index>,
    /// Bytes of the working copy's files.
    disk_bytes: u64,
    /// What the watch hub wants to read.
    waiting: Vec<HistoryRequest>,
}

/// Brings an installed snapshot into the working copy in place of what is there. Runs where it may wait.
pub(super) fn replace(
    shared: &Arc<Shared>,
    place: &Workplace,
    store: StateStore,
    job: Replace,
) -> Result<(StateStore, Replaced), OpenError> {
    if shared.installs() != job.installs {
        let disk_bytes = store.disk_bytes()?;
        let void = Replaced {
            index: None,
            disk_bytes,
            waiting: Vec::new(),
        };
        return Ok((store, void));
    }
    close(shared, store);
    let backend = emptied(&place.world, &place.folders)?;
    let (disk, dir) = (place.world.disk.as_ref(), &place.folders.snap);
    let mut reader = SnapshotReader::open(disk, dir, job.index)?;
    let store = import(&mut reader, place.metadata, backend, &mut |_| {})?;
    let waiting = publish(shared, &store, job.installs);
    // Only now: until the working copy is whole, this file and no other leads on to the log.
    remove_older_than(disk, dir, job.index)?;
    let replaced = Replaced {
        index: Some(job.index),
        disk_bytes: store.disk_bytes()?,
        waiting,
    };
    Ok((store, replaced))
}

/// Closes the old working copy, once nobody reads it any more; those who do are few and soon done.
fn close(shared: &Shared, store: StateStore) {
    let readers = Arc::downgrade(&store.revisions());
    drop(store);
    // In a simulation nobody reads between two steps.
    while shared.offload == Offload::Threads && readers.strong_count() > 0 {
        thread::park_timeout(READERS_POLL);
    }
}

/// Lets the readers of history go on, unless there is a newer state to wait for.
fn publish(shared: &Shared, store: &StateStore, installs: u64) -> Vec<HistoryRequest> {
    let mut waiting = Vec::new();
    shared.history.send_if_modified(|history| {
        let History::Replacing(requests) = history else {
            return false;
        };
        if shared.installs() != installs {
            return false;
        }
        waiting.append(requests);
        *history = History::Stored(Stored {
            installs,
            revisions: store.revisions(),
        });
        true
    });
    waiting
}

/// Takes the outcome of a [`Replace`] where the driver takes it: goes on with what has waited. Returns the index up
/// to which the log may be released.
pub(super) fn replaced(
    shared: &Arc<Shared>,
    maintenance: &mut Maintenance,
    replaced: Replaced,
    events: &UnboundedSender<Event>,
) -> Option<Index> {
    maintenance.replaced(replaced.disk_bytes);
    for request in replaced.waiting {
        history::read_for_watch(shared, request, events.clone());
    }
    replaced.index
}

/// How often the end of the last reader is looked for.
const READERS_POLL: Duration = Duration::from_millis(2);

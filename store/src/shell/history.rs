//! Reading the stored history: for watchers that are far behind, for HashKV and for exports. All run on threads where
//! they may wait for the disk.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use proto::etcdserverpb::HashKvResponse;
use proto::mvccpb::KeyValue;
use tokio::sync::mpsc;

use super::actors::Event;
use super::maintenance::CompactionHash;
use super::member::HistoryRequest;
use super::reads::fatal;
use super::shared::{Pin, Shared, Stored, Vital};
use crate::backend::{BackendError, RevisionStore, ScanLimit};
use crate::error::{Error, Unavailable};
use crate::mvcc::{HashKv, HashPlan, KeepSet, KvHash, Mvcc, Previous};
use crate::types::{Change, CommittedRevision, Revision, SharedRevision};

/// Reads what the hub asked for, on a thread of its own, and reports it as an event.
pub(super) fn read_for_watch(
    shared: &Arc<Shared>,
    request: HistoryRequest,
    events: mpsc::UnboundedSender<Event>,
) {
    let on_thread = Arc::clone(shared);
    shared.offload.start(move || {
        let shared = on_thread;
        let _vital = Vital::new(&shared, "a reader of history");
        let mut request = request;
        // A store that has stopped has no watchers to answer.
        while let Some((stored, asked)) = shared.history_or_park(request) {
            match watch_history(&shared, &stored, &asked) {
                // The receiver is gone once the driver has ended.
                Ok(Some(answer)) => {
                    return drop(events.send(Event::History {
                        token: asked.token,
                        answer,
                    }));
                }
                Ok(None) => request = asked,
                Err(error) => {
                    fatal(&shared, "reading history for watchers", &error);
                    return;
                }
            }
        }
    });
}

/// What the hub is answered: revisions, or the compacted revision.
type HubAnswer = Result<Vec<SharedRevision>, i64>;

/// The revisions `from..=to`, or the compacted revision where that has passed `from` before the read was complete.
/// `None` where `stored` belongs to a state that has been replaced: the hub hears of one state only.
pub(super) fn watch_history(
    shared: &Arc<Shared>,
    stored: &Stored,
    request: &HistoryRequest,
) -> Result<Option<HubAnswer>, BackendError> {
    let pin = {
        let state = shared.state.read();
        Pin::new(shared, state.mvcc.compacted().max(request.from))
    };
    if pin.installs() != stored.installs {
        return Ok(None);
    }
    let stored = &*stored.revisions;
    let mut revisions: BTreeMap<i64, Vec<Change>> = BTreeMap::new();
    let mut from = request.from;
    // What is stored later than this look is still in memory when memory is looked through below.
    let stored_to = request.to.min(stored.through());
    loop {
        let scanned = stored.scan(from, stored_to, SCAN_LIMIT)?;
        for change in scanned.changes {
            revisions.entry(change.revision.main).or_default().push(change);
        }
        match scanned.next {
            Some(next) => from = next,
            None => break,
        }
    }
    let (mut history, wanted) = {
        let state = shared.state.read();
        if !pin.stands() {
            return Ok(None);
        }
        if state.mvcc.compacted() > request.from {
            return Ok(Some(Err(state.mvcc.compacted())));
        }
        let mut history: Vec<CommittedRevision> = Vec::with_capacity(revisions.len());
        let mut wanted = Vec::new();
        for (main, changes) in revisions {
            let previous = if request.with_previous {
                changes
                    .iter()
                    .enumerate()
                    .map(|(at, change)| previous(&state.mvcc, change, (history.len(), at), &mut wanted))
                    .collect()
            } else {
                vec![None; changes.len()]
            };
            history.push(CommittedRevision {
                main,
                changes,
                previous,
            });
        }
        (history, wanted)
    };
    let fetched = stored.fetch(&wanted.iter().map(|(_, revision)| *revision).collect::<Vec<_>>())?;
    let fetched: BTreeMap<Revision, KeyValue> = fetched
        .into_iter()
        .map(|change| (change.revision, change.kv))
        .collect();
    for ((revision, at), stored) in wanted {
        history[revision].previous[at] = fetched.get(&stored).cloned();
    }
    let first_recent: Vec<SharedRevision> = {
        let state = shared.state.read();
        if !pin.stands() {
            return Ok(None);
        }
        state
            .mvcc
            .recent()
            .range(request.from.max(stored_to + 1))
            .take_while(|recent| recent.main <= request.to)
            .cloned()
            .collect()
    };
    let history = history.into_iter().map(Arc::new);
    Ok(Some(Ok(history.chain(first_recent).collect())))
}

/// The state of a change's key before its transaction; where it is only stored, its place goes to `wanted`.
fn previous(
    mvcc: &Mvcc,
    change: &Change,
    place: (usize, usize),
    wanted: &mut Vec<((usize, usize), Revision)>,
) -> Option<KeyValue> {
    match mvcc.previous(&change.kv.key, Revision::new(change.revision.main, 0)) {
        Previous::None => None,
        Previous::Loaded(kv) => Some(kv),
        Previous::Stored(revision) => {
            wanted.push((place, revision));
            None
        }
    }
}

/// HashKV, see the etcd reference 1.5.
pub(super) async fn hash_kv(shared: &Arc<Shared>, revision: i64) -> Result<HashKvResponse, Error> {
    let began = shared.clock.now();
    let (current, plan, pin) = {
        let state = shared.state.read();
        let plan = state.mvcc.hash_plan(revision)?;
        (
            state.mvcc.current(),
            plan,
            Pin::new(shared, state.mvcc.compacted()),
        )
    };
    let hashed = match plan {
        HashPlan::Kept(kept) => kept,
        HashPlan::Compute { compacted, revision } => {
            let (on_thread, stored) = (Arc::clone(shared), pin.history().await?);
            let work =
                move || hash_history(&on_thread, &stored, &pin, (compacted, revision), KeepSet::Request);
            match shared.offload.run(work).await {
                Ok(Some(hashed)) => hashed,
                Ok(None) if shared.stopping.load(Ordering::Relaxed) => {
                    return Err(Unavailable::Stopped.into());
                }
                // The state was replaced meanwhile.
                Ok(None) => return Err(Unavailable::LeaderChanged.into()),
                Err(error) => return Err(fatal(shared, "hashing the history", &error)),
            }
        }
    };
    let took = shared.clock.now().since(began);
    shared.published.disk.hash_revision.observe(took);
    Ok(HashKvResponse {
        header: Some(shared.header(current)),
        hash: hashed.hash,
        compact_revision: hashed.compact_revision,
        hash_revision: hashed.hash_revision,
    })
}

impl super::Store {
    /// The hashes that the last compactions have left here, for comparing members; lost at a restart.
    #[must_use]
    pub fn compaction_hashes(&self) -> Vec<KvHash> {
        self.shared.state.read().mvcc.compaction_hashes()
    }
}

/// Computes the hash that a compaction leaves (reference 1.5), on a thread of its own, and reports it as an event.
pub(super) fn hash_compaction(
    shared: &Arc<Shared>,
    job: CompactionHash,
    events: mpsc::UnboundedSender<Event>,
) {
    let on_thread = Arc::clone(shared);
    shared.offload.start(move || {
        let shared = on_thread;
        let _vital = Vital::new(&shared, "the hashing of a compaction");
        let CompactionHash {
            previous,
            revision,
            pin,
        } = job;
        let hashed = match pin.history_now() {
            Some(stored) => {
                let from_to = (previous, revision);
                hash_history(&shared, &stored, &pin, from_to, KeepSet::Compaction)
            }
            None => Ok(None),
        };
        match hashed {
            // The receiver is gone once the driver has ended.
            Ok(hash) => drop(events.send(Event::Hashed(hash))),
            Err(error) => {
                fatal(&shared, "hashing the history", &error);
            }
        }
    });
}

/// The hash of the history above `compacted` up to `revision`, first from the working copy, then from memory. `None`
/// when the store stops meanwhile, which should not wait for it, or when the state is replaced.
fn hash_history(
    shared: &Shared,
    stored: &RevisionStore,
    pin: &Pin,
    (compacted, revision): (i64, i64),
    keep: KeepSet,
) -> Result<Option<KvHash>, BackendError> {
    let mut hash = {
        let state = shared.state.read();
        if !pin.stands() {
            return Ok(None);
        }
        HashKv::new(&state.mvcc, compacted, revision, keep)
    };
    let mut walk = Walk::to(revision);
    loop {
        match walk.step(shared, stored, pin, &mut |changes| {
            feed(shared, pin, &mut hash, changes)
        })? {
            Walked::Some => {}
            Walked::End => return Ok(pin.stands().then(|| hash.finish())),
            Walked::Void => return Ok(None),
        }
    }
}

/// A walk through the history of one state in order of revision: what is not in memory comes from the working copy.
/// Changes that a compaction below the walk's pin has given up may be left out.
pub(super) struct Walk {
    next: i64,
    to: i64,
}

/// What one step of a walk came to.
pub(super) enum Walked {
    /// Some changes were shown.
    Some,
    /// There are no more.
    End,
    /// The state was replaced, or the store stops.
    Void,
}

impl Walk {
    /// A walk from the first revision to this one.
    pub(super) fn to(to: i64) -> Self {
        Walk { next: 0, to }
    }

    /// Shows the next changes, some at a time. No lock is held meanwhile.
    pub(super) fn step(
        &mut self,
        shared: &Shared,
        stored: &RevisionStore,
        pin: &Pin,
        show: &mut dyn FnMut(&[Change]),
    ) -> Result<Walked, BackendError> {
        if shared.stopping.load(Ordering::Relaxed) {
            return Ok(Walked::Void);
        }
        if self.next > self.to {
            return Ok(Walked::End);
        }
        // What is checkpointed meanwhile leaves memory only once it is in the working copy.
        let recent: Vec<SharedRevision> = {
            let state = shared.state.read();
            if !pin.stands() {
                return Ok(Walked::Void);
            }
            let in_memory = self.next >= state.mvcc.recent().first();
            let batch = state
                .mvcc
                .recent()
                .range(self.next)
                .take(if in_memory { WALK_BATCH } else { 0 });
            batch
                .take_while(|recent| recent.main <= self.to)
                .cloned()
                .collect()
        };
        if let Some(last) = recent.last() {
            recent.iter().for_each(|recent| show(&recent.changes));
            self.next = last.main + 1;
            return Ok(Walked::Some);
        }
        match scan_stored(stored, self.next, self.to)? {
            Some(found) => {
                show(&found.changes);
                self.next = found.next;
                Ok(Walked::Some)
            }
            None => Ok(Walked::End),
        }
    }
}

struct Found {
    changes: Vec<Change>,
    next: i64,
}

/// The next stored changes from `from` on; `None` when there are none up to `to`.
fn scan_stored(history: &RevisionStore, from: i64, to: i64) -> Result<Option<Found>, BackendError> {
    let through = to.min(history.through());
    if from > through {
        return Ok(None);
    }
    let scanned = history.scan(from, through, SCAN_LIMIT)?;
    let next = scanned.next.unwrap_or(through + 1);
    Ok(Some(Found {
        changes: scanned.changes,
        next,
    }))
}

/// Where the state is no longer the one hashed, nothing: the caller's next look finds that out.
fn feed(shared: &Shared, pin: &Pin, hash: &mut HashKv, changes: &[Change]) {
    let state = shared.state.read();
    if !pin.stands() {
        return;
    }
    for change in changes {
        hash.feed_from(&state.mvcc, change);
    }
}

/// How much one scan of the working copy returns.
const SCAN_LIMIT: ScanLimit = ScanLimit {
    revisions: 1000,
    bytes: 4 << 20,
};
/// Revisions taken from memory per hold of the lock.
const WALK_BATCH: usize = 1000;

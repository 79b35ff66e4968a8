//! What goes on behind the requests: compaction in bounded steps, checkpoints of the state into the working copy,
//! snapshot files, and which part of the log they make dispensable. Synchronous: it decides and reports [`Job`]s;
//! threads (or the simulator) do them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;

use super::shared::{Pin, Shared};
use crate::apply::State;
use crate::auth::AuthState;
use crate::backend::{Checkpoint, Table, TableWrite};
use crate::env::Instant;
use crate::mvcc::KvHash;
use crate::types::{Index, LeaseId, Revision, Term};

/// Work for the threads behind.
pub(super) enum Job {
    /// Write this into the working copy.
    Checkpoint(Box<Checkpoint>),
    /// Write a snapshot file of the working copy as it stands.
    Snapshot(Box<SnapshotJob>),
    /// Fill the working copy anew from the snapshot file of an installed snapshot.
    Replace(Replace),
}

/// A snapshot to be written: the history up to `revision` from the working copy, everything else from here.
pub(super) struct SnapshotJob {
    /// The last log entry contained, and its term.
    pub(super) applied: Index,
    /// See `applied`.
    pub(super) term: Term,
    /// The newest revision contained.
    pub(super) revision: i64,
    /// The compacted revision.
    pub(super) compacted: i64,
    /// The small tables, whole.
    pub(super) tables: Vec<(Table, Bytes, Bytes)>,
}

/// A working copy to be replaced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Replace {
    /// The index of the snapshot file.
    pub(super) index: Index,
    /// Which installation this is for; void once there was another.
    pub(super) installs: u64,
}

/// A hash to be computed of the history that a finished compaction found, before what it gave up is removed.
pub(super) struct CompactionHash {
    /// The compacted revision before it, -1 for none.
    pub(super) previous: i64,
    /// What it compacted to.
    pub(super) revision: i64,
    /// Keeps the next compaction from changing the index meanwhile.
    pub(super) pin: Pin,
}

/// A checkpoint under way.
struct UnderWay {
    applied: Index,
    revision: i64,
    bytes: usize,
    stored: usize,
    compaction_finished: bool,
    /// The state that it is of was replaced meanwhile.
    void: bool,
}

/// See the module's description.
pub(super) struct Maintenance {
    shared: Arc<Shared>,
    under_way: Option<UnderWay>,
    snapshot_under_way: bool,
    /// A snapshot file is to be written whatever the log's size.
    snapshot_wanted: bool,
    /// None is begun before, because the disk was full.
    snapshot_not_before: Instant,
    /// Replacements of the working copy under way.
    replacing: usize,
    /// The snapshot that the checkpoint under way makes possible.
    next_snapshot: Option<Box<SnapshotJob>>,
    written_applied: Index,
    written_revision: i64,
    written_tables: BTreeMap<(Table, Bytes), Bytes>,
    /// Users and roles as last written; there may be too many of them to compare with each checkpoint.
    written_auth: AuthState,
    /// Dead revisions found and not yet handed to a checkpoint.
    dead: Vec<Revision>,
    /// Dead revisions that the checkpoint writer has been told of and not yet removed.
    dead_pending: usize,
    /// Hashes of compactions being computed.
    hashing: usize,
    /// Some of what the compaction under way gave up is gone: it will leave no hash.
    hash_spoilt: bool,
    /// When the first step of the compaction under way was made.
    compaction_began: Option<Instant>,
    changed_leases: BTreeSet<LeaseId>,
    next_checkpoint: Instant,
    /// Bytes of log when the newest snapshot file was begun, or what was left after it let go of some.
    log_bytes_at_snapshot: u64,
    compaction_settled: bool,
}

impl Maintenance {
    /// Maintenance of a state whose working copy holds everything up to `applied` and `revision`.
    pub(super) fn new(shared: Arc<Shared>, applied: Index, revision: i64) -> Self {
        let written_tables = small_tables(&shared.state.read());
        let written_auth = shared.state.read().auth.clone();
        let compaction_settled = shared.state.read().mvcc.compaction().is_none();
        Maintenance {
            shared,
            under_way: None,
            snapshot_under_way: false,
            snapshot_wanted: false,
            snapshot_not_before: Instant::default(),
            replacing: 0,
            next_snapshot: None,
            written_applied: applied,
            written_revision: revision,
            written_tables,
            written_auth,
            dead: Vec::new(),
            dead_pending: 0,
            hashing: 0,
            hash_spoilt: false,
            compaction_began: None,
            changed_leases: BTreeSet::new(),
            next_checkpoint: Instant::default(),
            log_bytes_at_snapshot: 0,
            compaction_settled,
        }
    }

    /// Leases granted, revoked or checkpointed since the last checkpoint.
    pub(super) fn leases_changed(&mut self, leases: impl IntoIterator<Item = LeaseId>) {
        self.changed_leases.extend(leases);
    }

    /// Somebody needs a snapshot file of the state as it is; one that is being written will do.
    pub(super) fn snapshot_wanted(&mut self) {
        self.snapshot_wanted = !self.snapshot_under_way;
    }

    /// A snapshot from the leader stands in place of the state, and nothing of it is in the working copy. Returns the
    /// job that mends this; until [`Maintenance::replaced`] nothing else is written.
    pub(super) fn installed(&mut self) -> Job {
        let shared = Arc::clone(&self.shared);
        let state = shared.state.read();
        if let Some(under_way) = &mut self.under_way {
            under_way.void = true;
        }
        if self.next_snapshot.take().is_some() {
            self.snapshot_under_way = false;
        }
        self.written_applied = state.applied();
        self.written_revision = state.mvcc.current();
        self.written_tables = small_tables(&state);
        self.written_auth = state.auth.clone();
        self.dead.clear();
        self.dead_pending = 0;
        self.hash_spoilt = false;
        self.compaction_began = None;
        self.changed_leases.clear();
        self.compaction_settled = state.mvcc.compaction().is_none();
        self.replacing += 1;
        Job::Replace(Replace {
            index: state.applied(),
            installs: shared.installs(),
        })
    }

    /// A replacement of the working copy is done; it takes `disk_bytes`.
    pub(super) fn replaced(&mut self, disk_bytes: u64) {
        self.replacing -= 1;
        let published = &self.shared.published;
        published.backend_bytes.store(disk_bytes, Ordering::Relaxed);
        // The snapshot file is as good as one written here, and the log begins after it.
        self.log_bytes_at_snapshot = published.disk.wal_bytes.load(Ordering::Relaxed);
    }

    /// Whether there are steps to do now, of a compaction or of moving values together in memory.
    pub(super) fn has_steps(&self) -> bool {
        let state = self.shared.state.read();
        self.compacting(&state) || state.mvcc.packing()
    }

    /// Does one of them; see [`compaction_step`](Self::compaction_step).
    pub(super) fn step(&mut self) -> Option<CompactionHash> {
        if self.compacting(&self.shared.state.read()) {
            return self.compaction_step();
        }
        self.pack_step();
        None
    }

    /// Whether a compaction has steps to do that may be done now.
    fn compacting(&self, state: &State) -> bool {
        // Its last step asks for a hash of history, which is not there yet while the working copy is replaced.
        self.replacing == 0
            && state.mvcc.compaction().is_some()
            && self.shared.pins.allow(state.mvcc.compacted())
    }

    fn pack_step(&self) {
        let keys_max = self.shared.settings.limits.compaction_step_keys;
        let moved = self.shared.state.write().mvcc.pack_step(keys_max);
        let numbers = &self.shared.published.disk;
        numbers.packed_bytes.fetch_add(moved as u64, Ordering::Relaxed);
    }

    /// Whether a compaction, the checkpoint of what it removed, or giving back the space of that is still to be done.
    pub(super) fn compaction_unsettled(&self) -> bool {
        !self.compaction_settled
            || !self.dead.is_empty()
            || self.dead_pending > 0
            || self.hashing > 0
            || self.shared.published.reclaiming.load(Ordering::Relaxed)
            || self.shared.state.read().mvcc.compaction().is_some()
    }

    /// Does one step of the compaction. The last one asks for the hash that it leaves, to be reported with
    /// [`Maintenance::hashed`]. etcd keeps none of a compaction that a restart interrupted either.
    fn compaction_step(&mut self) -> Option<CompactionHash> {
        let began = self.shared.clock.now();
        let mut state = self.shared.state.write();
        let compaction = state.mvcc.compaction().cloned();
        let step = state
            .mvcc
            .compaction_step(self.shared.settings.limits.compaction_step_keys);
        drop(state);
        self.compaction_settled = false;
        let begun = *self.compaction_began.get_or_insert(began);
        self.count_step(began, step.dead.len());
        self.dead.extend(step.dead);
        let finished = compaction.filter(|_| step.done)?;
        self.compaction_began = None;
        self.count_compaction(begun);
        if std::mem::take(&mut self.hash_spoilt) {
            return None;
        }
        let (previous, revision) = (finished.previous?, finished.revision);
        self.hashing += 1;
        Some(CompactionHash {
            previous,
            revision,
            pin: Pin::new(&self.shared, revision),
        })
    }

    fn count_step(&self, began: Instant, removed: usize) {
        let numbers = &self.shared.published.disk;
        numbers
            .compaction_step
            .observe(self.shared.clock.now().since(began));
        numbers
            .compacted_revisions
            .fetch_add(removed as u64, Ordering::Relaxed);
    }

    fn count_compaction(&self, began: Instant) {
        let numbers = &self.shared.published.disk;
        numbers.compaction.observe(self.shared.clock.now().since(began));
        let unix_s = self.shared.clock.unix_ms() / 1000;
        numbers.compacted_at_s.store(unix_s, Ordering::Relaxed);
    }

    /// The hash asked for by a compaction's last step is computed; `None` where its history was replaced meanwhile.
    pub(super) fn hashed(&mut self, hash: Option<KvHash>) {
        self.hashing -= 1;
        if let Some(hash) = hash {
            self.shared.state.write().mvcc.store_compaction_hash(hash);
        }
    }

    /// The next job that is due, if any.
    pub(super) fn due(&mut self, now: Instant) -> Option<Job> {
        if self.under_way.is_some() || self.replacing > 0 {
            return None;
        }
        if let Some(job) = self.next_snapshot.take() {
            return Some(Job::Snapshot(job));
        }
        let dirty = self.shared.dirty.bytes.load(Ordering::Relaxed);
        let full = dirty >= self.shared.settings.limits.checkpoint_bytes;
        // Somebody may be waiting for a compaction to be physical.
        let compacted = self.ends_compaction(&self.shared.state.read());
        let wanted = self.snapshot_wanted && !self.snapshot_under_way;
        if !full && !compacted && !wanted && now < self.next_checkpoint {
            return None;
        }
        if !wanted && !self.has_changes() {
            return None;
        }
        self.next_checkpoint = now + self.shared.settings.limits.checkpoint_interval;
        Some(Job::Checkpoint(Box::new(self.checkpoint())))
    }

    /// A checkpoint of everything that is not yet written, if there is anything.
    pub(super) fn last(&mut self) -> Option<Job> {
        if self.under_way.is_some() || self.replacing > 0 || !self.has_changes() {
            return None;
        }
        Some(Job::Checkpoint(Box::new(self.checkpoint())))
    }

    /// The checkpoint under way is written; `dead_pending` of the dead revisions told are still to be removed.
    pub(super) fn checkpointed(&mut self, backend_bytes: u64, dead_pending: usize) {
        let done = self
            .under_way
            .take()
            .expect("one checkpoint is under way at a time");
        if done.void {
            return;
        }
        self.written_applied = done.applied;
        self.written_revision = done.revision;
        self.dead_pending = dead_pending;
        if done.compaction_finished && dead_pending == 0 {
            self.compaction_settled = true;
        }
        self.shared.state.write().mvcc.checkpointed(done.revision);
        self.shared
            .published
            .backend_bytes
            .store(backend_bytes, Ordering::Relaxed);
        self.shared.dirty.bytes.fetch_sub(done.bytes, Ordering::Relaxed);
        self.shared.dirty.stored.fetch_sub(done.stored, Ordering::Relaxed);
        self.shared.dirty.fewer.notify_waiters();
    }

    /// The snapshot under way is written and synced, or has failed.
    pub(super) fn snapshotted(&mut self) {
        self.snapshot_under_way = false;
    }

    /// The snapshot under way found the disk full. The log is kept meanwhile.
    pub(super) fn snapshot_lacks_room(&mut self, now: Instant) {
        self.snapshot_under_way = false;
        self.snapshot_not_before = now + SNAPSHOT_RETRY;
    }

    /// Whether a checkpoint is under way.
    pub(super) fn busy(&self) -> bool {
        self.under_way.is_some()
    }

    fn has_changes(&self) -> bool {
        let state = self.shared.state.read();
        state.applied() > self.written_applied
            || (!self.dead.is_empty() && !self.holds_dead(&state))
            || (self.dead_pending > 0 && !self.snapshot_under_way)
            || self.ends_compaction(&state)
    }

    /// Whether all that is left of a compaction is a checkpoint that says so.
    fn ends_compaction(&self, state: &State) -> bool {
        !self.compaction_settled && state.mvcc.compaction().is_none() && !self.holds_dead(state)
    }

    /// Whether dead revisions must stay in the working copy for now: while a snapshot is being read from it nothing
    /// may vanish, and the hash of a compaction covers what it gives up. The latter is waived for a compaction that
    /// never ends, because the next one always comes first.
    fn holds_dead(&self, state: &State) -> bool {
        let unhashed = state.mvcc.compaction().is_some() && self.dead.len() < DEAD_HELD_MAX;
        self.snapshot_under_way || self.hashing > 0 || unhashed
    }

    fn checkpoint(&mut self) -> Checkpoint {
        let shared = Arc::clone(&self.shared);
        let state = shared.state.read();
        let revisions: Vec<_> = state
            .mvcc
            .recent()
            .range(self.written_revision + 1)
            .cloned()
            .collect();
        let bytes = revisions.iter().map(|revision| revision.bytes()).sum();
        let stored = revisions.iter().map(|revision| revision.stored_bytes()).sum();
        let mut tables = lease_writes(&state, &std::mem::take(&mut self.changed_leases));
        self.changed_tables(&state, &mut tables);
        let compaction_finished = state.mvcc.compaction().is_none();
        if self.snapshot_due() {
            self.snapshot_under_way = true;
            self.snapshot_wanted = false;
            self.log_bytes_at_snapshot = self.shared.published.disk.wal_bytes.load(Ordering::Relaxed);
            self.next_snapshot = Some(Box::new(snapshot(&state)));
        }
        let dead = if self.holds_dead(&state) {
            Vec::new()
        } else {
            self.hash_spoilt |= !compaction_finished;
            std::mem::take(&mut self.dead)
        };
        let checkpoint = Checkpoint {
            revisions,
            compaction_finished: compaction_finished && self.dead.is_empty(),
            dead,
            tables,
            applied: state.applied(),
            term: state.term(),
            revision: state.mvcc.current(),
            compacted: state.mvcc.compacted(),
        };
        self.under_way = Some(UnderWay {
            applied: checkpoint.applied,
            revision: checkpoint.revision,
            bytes,
            stored,
            compaction_finished: checkpoint.compaction_finished,
            void: false,
        });
        checkpoint
    }

    /// Differences of the tables that are small enough to be compared whole.
    fn changed_tables(&mut self, state: &State, writes: &mut Vec<TableWrite>) {
        let now = small_tables(state);
        differences(&self.written_tables, &now, writes);
        self.written_tables = now;
        if !state.auth.same(&self.written_auth) {
            differences(&auth_table(&self.written_auth), &auth_table(&state.auth), writes);
            self.written_auth = state.auth.clone();
        }
    }

    /// A snapshot is due when the log since the last one outgrows the state, or the file is much larger than the state has
    /// become. It begins with a checkpoint, which
    /// brings the working copy to exactly one applied index.
    fn snapshot_due(&mut self) -> bool {
        let log_bytes = self.shared.published.disk.wal_bytes.load(Ordering::Relaxed);
        let state_bytes = self.shared.published.backend_bytes.load(Ordering::Relaxed);
        let limit = self.shared.settings.limits.snapshot_log_bytes.max(state_bytes);
        // Released segments make the log shorter than it was when the last snapshot was begun.
        self.log_bytes_at_snapshot = self.log_bytes_at_snapshot.min(log_bytes);
        let since = log_bytes - self.log_bytes_at_snapshot;
        // A snapshot file of a state that has shrunk takes more than what is left.
        let published = &self.shared.published;
        let left = published.history_bytes.load(Ordering::Relaxed);
        let outgrown = published.snapshot_bytes.load(Ordering::Relaxed) > left / 2 * 3 + SNAPSHOT_SLACK_BYTES;
        let settled = self.compaction_settled && !published.reclaiming.load(Ordering::Relaxed);
        let due = self.snapshot_wanted || since >= limit || (outgrown && settled);
        let may = self.shared.clock.now() >= self.snapshot_not_before;
        due && may && !self.snapshot_under_way && self.dead_pending == 0
    }
}

/// Everything of a snapshot but its history.
pub(super) fn snapshot(state: &State) -> SnapshotJob {
    let tables = small_tables(state)
        .into_iter()
        .map(|((table, key), value)| (table, key, value));
    let leases = state
        .lessor
        .encode()
        .into_iter()
        .map(|(key, value)| (Table::Lease, key, value));
    let auth = auth_table(&state.auth)
        .into_iter()
        .map(|((table, key), value)| (table, key, value));
    SnapshotJob {
        applied: state.applied(),
        term: state.term(),
        revision: state.mvcc.current(),
        compacted: state.mvcc.compacted(),
        tables: tables.chain(leases).chain(auth).collect(),
    }
}

/// Members and alarms, as records.
fn small_tables(state: &State) -> BTreeMap<(Table, Bytes), Bytes> {
    let members = state
        .membership
        .encode()
        .into_iter()
        .map(|(key, value)| ((Table::Member, key), value));
    let alarms = state
        .alarms
        .encode()
        .into_iter()
        .map(|(key, value)| ((Table::Alarm, key), value));
    members.chain(alarms).collect()
}

/// Users and roles, as records.
fn auth_table(auth: &AuthState) -> BTreeMap<(Table, Bytes), Bytes> {
    let records = auth.encode().into_iter();
    records.map(|(key, value)| ((Table::Auth, key), value)).collect()
}

/// What leads from some records to others.
fn differences(
    before: &BTreeMap<(Table, Bytes), Bytes>,
    now: &BTreeMap<(Table, Bytes), Bytes>,
    writes: &mut Vec<TableWrite>,
) {
    let write = |(table, key): &(Table, Bytes), value: Option<&Bytes>| TableWrite {
        table: *table,
        key: key.clone(),
        value: value.cloned(),
    };
    let set = now.iter().filter(|(at, value)| before.get(*at) != Some(*value));
    writes.extend(set.map(|(at, value)| write(at, Some(value))));
    let gone = before.keys().filter(|at| !now.contains_key(*at));
    writes.extend(gone.map(|at| write(at, None)));
}

fn lease_writes(state: &State, changed: &BTreeSet<LeaseId>) -> Vec<TableWrite> {
    changed
        .iter()
        .map(|id| TableWrite {
            table: Table::Lease,
            key: Bytes::copy_from_slice(&id.0.to_be_bytes()),
            value: state.lessor.encode_one(*id),
        })
        .collect()
}

/// Dead revisions held back for the hash of a compaction under way (16 bytes each).
const DEAD_HELD_MAX: usize = 1 << 20;

/// Bytes of a snapshot file beyond a multiple of the state that are not worth a new one.
const SNAPSHOT_SLACK_BYTES: u64 = 16 << 20;
/// After how long a snapshot is tried again that found the disk full.
const SNAPSHOT_RETRY: Duration = Duration::from_secs(5);

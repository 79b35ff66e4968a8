//! What a member says of itself.

use std::sync::atomic::Ordering;

use proto::etcdserverpb::{AlarmMember, AlarmType, ResponseHeader};

use super::handle::Store;
use super::metrics::{Metrics, add_calls};
use super::shared::Shared;
use crate::env::Instant;
use crate::types::{Index, MemberId, Term};

/// A member's own view of itself at one moment.
#[derive(Clone, PartialEq, Debug)]
pub struct Status {
    /// Complete, with the current revision.
    pub header: ResponseHeader,
    /// Bytes that the state takes, on disk or about to be; more than 0.
    pub db_size: i64,
    /// Those of them that hold live history.
    pub db_size_in_use: i64,
    /// The effective quota in bytes; -1 for none, as etcd says where its flag is negative.
    pub db_size_quota: i64,
    /// The leader, 0 if this member knows none.
    pub leader: MemberId,
    /// Last index known to be committed.
    pub raft_index: Index,
    /// Last index applied.
    pub raft_applied_index: Index,
    /// The current term.
    pub raft_term: Term,
    /// Whether this member is a learner.
    pub is_learner: bool,
    /// Raised alarms.
    pub alarms: Vec<AlarmMember>,
    /// The cluster's version as major.minor.patch, once decided.
    pub cluster_version: Option<String>,
}

impl Store {
    /// The time by the store's clock: what a transport needs for `connected_since`.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.shared.clock.now()
    }
}

pub(super) fn status(shared: &Shared) -> Status {
    let state = shared.state.read();
    let (size, in_use) = sizes(shared, state.mvcc.live_bytes());
    let published = &shared.published;
    let applied = published.applied.load(Ordering::Relaxed);
    // The two are published one after the other, and what is applied is committed.
    let committed = published.committed.load(Ordering::Relaxed).max(applied);
    Status {
        header: shared.header(state.mvcc.current()),
        db_size: i64::try_from(size).unwrap_or(i64::MAX),
        db_size_in_use: i64::try_from(in_use).unwrap_or(i64::MAX),
        db_size_quota: shared
            .settings
            .quota_bytes
            .map_or(-1, |quota| i64::try_from(quota).unwrap_or(i64::MAX)),
        leader: MemberId(published.leader.load(Ordering::Relaxed)),
        raft_index: Index(committed),
        raft_applied_index: Index(applied),
        raft_term: Term(published.term.load(Ordering::Relaxed)),
        is_learner: state
            .membership
            .get(shared.member)
            .is_some_and(|member| member.is_learner),
        alarms: state.alarms.list(AlarmType::None),
        cluster_version: state.membership.cluster_version().map(str::to_owned),
    }
}

pub(super) fn metrics(shared: &Shared) -> Metrics {
    let state = shared.state.read();
    let (db_size, db_size_in_use) = sizes(shared, state.mvcc.live_bytes());
    let published = &shared.published;
    let load = |number: &std::sync::atomic::AtomicU64| number.load(Ordering::Relaxed);
    let disk = &published.disk;
    let mut metrics = Metrics {
        has_leader: load(&published.leader) != 0,
        is_leader: published.is_leader.load(Ordering::Relaxed),
        leader_changes: load(&published.leader_changes),
        committed: load(&published.committed),
        applied: load(&published.applied),
        pending: published.pending.load(Ordering::Relaxed) as u64,
        failed: load(&published.failed),
        quota_bytes: shared.settings.quota_bytes.unwrap_or(0),
        db_size,
        db_size_in_use,
        open_reads: shared.pins.len() as u64,
        current_revision: state.mvcc.current(),
        compact_revision: state.mvcc.compacted(),
        keys: state.mvcc.live_keys(),
        watchers: load(&published.watchers),
        watch_streams: load(&published.watch_streams),
        slow_watchers: load(&published.slow_watchers),
        pending_events: load(&published.pending_events),
        events: load(&published.events),
        slow_applies: load(&published.slow_applies),
        leases: state.lessor.len() as u64,
        leases_granted: load(&published.leases_granted),
        leases_revoked: load(&published.leases_revoked),
        leases_renewed: load(&published.leases_renewed),
        leases_expired: load(&published.leases_expired),
        lease_ttls: published.lease_ttls.0.value(),
        wal_fsync: disk.wal_sync.value(),
        wal_write: disk.wal_write.value(),
        wal_written_bytes: load(&disk.wal_written_bytes),
        wal_bytes: load(&disk.wal_bytes),
        backend_commit: disk.checkpoint.value(),
        snapshot_file: disk.snapshot_file.value(),
        hash_revision: disk.hash_revision.value(),
        compaction: disk.compaction.value(),
        compaction_step: disk.compaction_step.value(),
        compaction_apply: disk.compaction_apply.value(),
        compacted_revisions: load(&disk.compacted_revisions),
        values_bytes: state.mvcc.values_bytes(),
        packed_bytes: load(&disk.packed_bytes),
        compacted_at_s: load(&disk.compacted_at_s),
        reclaims: load(&disk.reclaims),
        reclaimed_bytes: load(&disk.reclaimed_bytes),
        disk_available_bytes: load(&disk.available_bytes),
        alarms_cleared: load(&disk.alarms_cleared),
        slow_read_indexes: load(&published.slow_read_indexes),
        failed_read_indexes: load(&published.failed_read_indexes),
        late_heartbeats: load(&published.late_heartbeats),
        stalled_syncs: load(&published.stalled_syncs),
        stall_hand_overs: load(&published.stall_hand_overs),
        snapshot_sends: published.snapshots_sent.values(),
        snapshot_receives: published.snapshots_received.values(),
        snapshots_applying: load(&published.snapshots_applying),
        alarms: published.alarms.known(&state.alarms.list(AlarmType::None)),
        ..Metrics::default()
    };
    drop(state);
    add_calls(&mut metrics, &published.calls, &published.applies);
    metrics
}

/// Bytes that the state takes, and those in use; the former is never less than the latter. Neither is ever 0, not with
/// an empty store either: JSON leaves zeros out, and readers of etcd's count on both.
fn sizes(shared: &Shared, live_bytes: u64) -> (u64, u64) {
    let in_use = live_bytes.max(1);
    (shared.size_bytes().max(in_use), in_use)
}

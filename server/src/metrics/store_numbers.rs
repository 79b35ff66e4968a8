//! What the store counts, under etcd's names. What etcd calls `_total` and shows as a gauge stays a gauge. Snapshots
//! are counted over all members together, where etcd has one series for each.

use prometheus::proto::MetricType;
use proto::etcdserverpb::AlarmType;
use store::shell::{DISK_BUCKETS_S, HistogramValue, Metrics, Status, TRANSFER_BUCKETS_S};

use super::Page;
use crate::core::Core;

pub(super) fn add(page: &mut Page, core: &Core) {
    let metrics = core.store.metrics();
    for (name, help, value) in GAUGES {
        page.gauge(name, help, value(&metrics));
    }
    for (name, help, value) in COUNTERS {
        page.counter(name, help, value(&metrics));
    }
    for (name, help, bounds, value) in HISTOGRAMS {
        let value = value(&metrics);
        page.histogram(name, help, bounds, &value.buckets, value.sum_s);
    }
    let status = core.store.status();
    let learner = f64::from(u8::from(status.is_learner));
    page.gauge(
        "etcd_server_is_learner",
        "Whether or not this member is a learner. 1 if is, 0 otherwise.",
        learner,
    );
    let id = core.store.member_id().to_string();
    page.gauge_of(
        "etcd_server_id",
        "Server or member ID in hexadecimal format. 1 for 'server_id' label with current ID.",
        &[("server_id", &id)],
        1.0,
    );
    if let Some(version) = &status.cluster_version {
        page.gauge_of(
            "etcd_cluster_version",
            "Which version is running. 1 for 'cluster_version' label with current cluster version",
            &[("cluster_version", super::short_version(version))],
            1.0,
        );
    }
    add_alarms(page, &status);
}

/// Absent before the first alarm, as in etcd.
fn add_alarms(page: &mut Page, status: &Status) {
    if status.alarms.is_empty() {
        return;
    }
    let mut alarms = page.family(
        "etcd_debugging_server_alarms",
        "Alarms for every member in cluster. 1 for 'server_id' label with current ID. 2 for 'alarm_type' label with \
         type of this alarm",
        MetricType::GAUGE,
    );
    for alarm in &status.alarms {
        let kind = AlarmType::try_from(alarm.alarm).map_or("UNKNOWN", |kind| kind.as_str_name());
        let member = format!("{:x}", alarm.member_id);
        alarms.add(&[("alarm_type", kind), ("server_id", &member)], 1);
    }
    page.push(alarms);
}

/// Name, help and value.
type Row<T> = (&'static str, &'static str, fn(&Metrics) -> T);
/// A histogram's row: the same, with the bounds of its buckets.
type HistogramRow = (
    &'static str,
    &'static str,
    &'static [f64],
    fn(&Metrics) -> &HistogramValue,
);

const GAUGES: &[Row<f64>] = &[
    (
        "etcd_server_has_leader",
        "Whether or not a leader exists. 1 is existence, 0 is not.",
        |m| f64::from(u8::from(m.has_leader)),
    ),
    (
        "etcd_server_is_leader",
        "Whether or not this member is a leader. 1 if is, 0 otherwise.",
        |m| f64::from(u8::from(m.is_leader)),
    ),
    (
        "etcd_server_proposals_committed_total",
        "The total number of consensus proposals committed.",
        |m| m.committed as f64,
    ),
    (
        "etcd_server_proposals_applied_total",
        "The total number of consensus proposals applied.",
        |m| m.applied as f64,
    ),
    (
        "etcd_server_proposals_pending",
        "The current number of pending proposals to commit.",
        |m| m.pending as f64,
    ),
    (
        "etcd_server_quota_backend_bytes",
        "Current backend storage quota size in bytes.",
        |m| m.quota_bytes as f64,
    ),
    (
        "etcd_mvcc_db_total_size_in_bytes",
        "Total size of the underlying database physically allocated in bytes.",
        |m| m.db_size as f64,
    ),
    (
        "etcd_mvcc_db_total_size_in_use_in_bytes",
        "Total size of the underlying database logically in use in bytes.",
        |m| m.db_size_in_use as f64,
    ),
    (
        "etcd_disk_wal_write_bytes_total",
        "Total number of bytes written in WAL.",
        |m| m.wal_bytes as f64,
    ),
    (
        "etcd_debugging_mvcc_current_revision",
        "The current revision of store.",
        |m| m.current_revision as f64,
    ),
    (
        "etcd_debugging_mvcc_compact_revision",
        "The revision of the last compaction in store.",
        |m| m.compact_revision as f64,
    ),
    ("etcd_debugging_mvcc_keys_total", "Total number of keys.", |m| {
        m.keys as f64
    }),
    (
        "etcd_debugging_mvcc_watcher_total",
        "Total number of watchers.",
        |m| m.watchers as f64,
    ),
    (
        "etcd_debugging_mvcc_watch_stream_total",
        "Total number of watch streams.",
        |m| m.watch_streams as f64,
    ),
    (
        "etcd_debugging_mvcc_slow_watcher_total",
        "Total number of unsynced slow watchers.",
        |m| m.slow_watchers as f64,
    ),
    (
        "etcd_debugging_mvcc_pending_events_total",
        "Total number of pending events to be sent.",
        |m| m.pending_events as f64,
    ),
    (
        "etcd_network_snapshot_send_inflights_total",
        "Total number of inflight snapshot sends",
        |m| m.snapshot_sends.in_flight as f64,
    ),
    (
        "etcd_network_snapshot_receive_inflights_total",
        "Total number of inflight snapshot receives",
        |m| m.snapshot_receives.in_flight as f64,
    ),
    (
        "etcd_server_snapshot_apply_in_progress_total",
        "1 if the server is applying the incoming snapshot. 0 if none.",
        |m| m.snapshots_applying as f64,
    ),
    (
        "taffrail_leases",
        "Leases granted and neither revoked nor expired.",
        |m| m.leases as f64,
    ),
];

const COUNTERS: &[Row<u64>] = &[
    (
        "etcd_server_leader_changes_seen_total",
        "The number of leader changes seen.",
        |m| m.leader_changes,
    ),
    (
        "etcd_server_proposals_failed_total",
        "The total number of failed proposals seen.",
        |m| m.failed,
    ),
    (
        "etcd_server_slow_read_indexes_total",
        "The total number of pending read indexes not in sync with leader's or timed out read index requests.",
        |m| m.slow_read_indexes,
    ),
    (
        "etcd_mvcc_put_total",
        "Total number of puts seen by this member.",
        |m| m.puts,
    ),
    (
        "etcd_mvcc_delete_total",
        "Total number of deletes seen by this member.",
        |m| m.deletes,
    ),
    (
        "etcd_mvcc_range_total",
        "Total number of ranges seen by this member.",
        |m| m.ranges,
    ),
    (
        "etcd_mvcc_txn_total",
        "Total number of txns seen by this member.",
        |m| m.txns,
    ),
    (
        "etcd_debugging_mvcc_events_total",
        "Total number of events sent by this member.",
        |m| m.events,
    ),
    (
        "etcd_network_snapshot_send_success",
        "Total number of successful snapshot sends",
        |m| m.snapshot_sends.successes,
    ),
    (
        "etcd_network_snapshot_send_failures",
        "Total number of snapshot send failures",
        |m| m.snapshot_sends.failures,
    ),
    (
        "etcd_network_snapshot_receive_success",
        "Total number of successful snapshot receives",
        |m| m.snapshot_receives.successes,
    ),
    (
        "etcd_network_snapshot_receive_failures",
        "Total number of snapshot receive failures",
        |m| m.snapshot_receives.failures,
    ),
    (
        "etcd_debugging_lease_granted_total",
        "The total number of granted leases.",
        |m| m.leases_granted,
    ),
    (
        "etcd_debugging_lease_revoked_total",
        "The total number of revoked leases.",
        |m| m.leases_revoked,
    ),
    (
        "etcd_debugging_lease_renewed_total",
        "The number of renewed leases seen by the leader.",
        |m| m.leases_renewed,
    ),
    (
        "etcd_debugging_server_lease_expired_total",
        "The total number of expired leases.",
        |m| m.leases_expired,
    ),
];

const HISTOGRAMS: &[HistogramRow] = &[
    (
        "etcd_disk_wal_fsync_duration_seconds",
        "The latency distributions of fsync called by WAL.",
        &DISK_BUCKETS_S,
        |m| &m.wal_fsync,
    ),
    (
        "etcd_disk_backend_commit_duration_seconds",
        "The latency distributions of commit called by backend.",
        &DISK_BUCKETS_S,
        |m| &m.backend_commit,
    ),
    (
        "etcd_network_snapshot_send_total_duration_seconds",
        "Total latency distributions of v3 snapshot sends",
        &TRANSFER_BUCKETS_S,
        |m| &m.snapshot_sends.took,
    ),
    (
        "etcd_network_snapshot_receive_total_duration_seconds",
        "Total latency distributions of v3 snapshot receives",
        &TRANSFER_BUCKETS_S,
        |m| &m.snapshot_receives.took,
    ),
];

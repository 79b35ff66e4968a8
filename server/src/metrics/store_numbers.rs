//! What the store counts, under etcd's names.

use prometheus::proto::MetricType;
use proto::etcdserverpb::AlarmType;
use store::shell::{DISK_BUCKETS_S, Metrics};

use super::Page;
use crate::core::Core;

pub(super) fn add(page: &mut Page, core: &Core) {
    let metrics = core.store.metrics();
    add_server(page, core, &metrics);
    add_mvcc(page, &metrics);
    add_debugging(page, &metrics);
    page.histogram(
        "etcd_disk_wal_fsync_duration_seconds",
        "The latency distributions of fsync called by WAL.",
        &DISK_BUCKETS_S,
        &metrics.wal_fsync.buckets,
        metrics.wal_fsync.sum_s,
    );
    page.histogram(
        "etcd_disk_backend_commit_duration_seconds",
        "The latency distributions of commit called by backend.",
        &DISK_BUCKETS_S,
        &metrics.backend_commit.buckets,
        metrics.backend_commit.sum_s,
    );
    page.gauge(
        "etcd_disk_wal_write_bytes_total",
        "Total number of bytes written in WAL.",
        metrics.wal_bytes as f64,
    );
}

/// Raft and membership. What etcd calls `_total` and shows as a gauge stays a gauge.
fn add_server(page: &mut Page, core: &Core, metrics: &Metrics) {
    let flag = |on: bool| f64::from(u8::from(on));
    let status = core.store.status();
    for (name, help, value) in [
        (
            "etcd_server_has_leader",
            "Whether or not a leader exists. 1 is existence, 0 is not.",
            flag(metrics.has_leader),
        ),
        (
            "etcd_server_is_leader",
            "Whether or not this member is a leader. 1 if is, 0 otherwise.",
            flag(metrics.is_leader),
        ),
        (
            "etcd_server_is_learner",
            "Whether or not this member is a learner. 1 if is, 0 otherwise.",
            flag(status.is_learner),
        ),
        (
            "etcd_server_proposals_committed_total",
            "The total number of consensus proposals committed.",
            metrics.committed as f64,
        ),
        (
            "etcd_server_proposals_applied_total",
            "The total number of consensus proposals applied.",
            metrics.applied as f64,
        ),
        (
            "etcd_server_proposals_pending",
            "The current number of pending proposals to commit.",
            metrics.pending as f64,
        ),
        (
            "etcd_server_quota_backend_bytes",
            "Current backend storage quota size in bytes.",
            metrics.quota_bytes as f64,
        ),
    ] {
        page.gauge(name, help, value);
    }
    for (name, help, value) in [
        (
            "etcd_server_leader_changes_seen_total",
            "The number of leader changes seen.",
            metrics.leader_changes,
        ),
        (
            "etcd_server_proposals_failed_total",
            "The total number of failed proposals seen.",
            metrics.failed,
        ),
        (
            "etcd_server_slow_read_indexes_total",
            "The total number of pending read indexes not in sync with leader's or timed out read index requests.",
            metrics.slow_read_indexes,
        ),
    ] {
        page.counter(name, help, value);
    }
    let id = core.store.member_id().to_string();
    page.gauge_of(
        "etcd_server_id",
        "Server or member ID in hexadecimal format. 1 for 'server_id' label with current ID.",
        &[("server_id", &id)],
        1.0,
    );
    if let Some(version) = &status.cluster_version {
        let short = version.rsplitn(2, '.').last().unwrap_or(version);
        let short = if version.matches('.').count() == 2 {
            short
        } else {
            version
        };
        page.gauge_of(
            "etcd_cluster_version",
            "Which version is running. 1 for 'cluster_version' label with current cluster version",
            &[("cluster_version", short)],
            1.0,
        );
    }
    if !status.alarms.is_empty() {
        let mut alarms = page.family("etcd_debugging_server_alarms", "Alarms for every member in cluster. 1 for 'server_id' label with current ID. 2 for 'alarm_type' label with type of this alarm", MetricType::GAUGE);
        for alarm in &status.alarms {
            let kind = AlarmType::try_from(alarm.alarm).map_or("UNKNOWN", |kind| kind.as_str_name());
            alarms.add(
                &[
                    ("alarm_type", kind),
                    ("server_id", &format!("{:x}", alarm.member_id)),
                ],
                1,
            );
        }
        page.push(alarms);
    }
}

fn add_mvcc(page: &mut Page, metrics: &Metrics) {
    page.gauge(
        "etcd_mvcc_db_total_size_in_bytes",
        "Total size of the underlying database physically allocated in bytes.",
        metrics.db_size as f64,
    );
    page.gauge(
        "etcd_mvcc_db_total_size_in_use_in_bytes",
        "Total size of the underlying database logically in use in bytes.",
        metrics.db_size_in_use as f64,
    );
    for (name, help, value) in [
        (
            "etcd_mvcc_put_total",
            "Total number of puts seen by this member.",
            metrics.puts,
        ),
        (
            "etcd_mvcc_delete_total",
            "Total number of deletes seen by this member.",
            metrics.deletes,
        ),
        (
            "etcd_mvcc_range_total",
            "Total number of ranges seen by this member.",
            metrics.ranges,
        ),
        (
            "etcd_mvcc_txn_total",
            "Total number of txns seen by this member.",
            metrics.txns,
        ),
    ] {
        page.counter(name, help, value);
    }
}

fn add_debugging(page: &mut Page, metrics: &Metrics) {
    for (name, help, value) in [
        (
            "etcd_debugging_mvcc_current_revision",
            "The current revision of store.",
            metrics.current_revision as f64,
        ),
        (
            "etcd_debugging_mvcc_compact_revision",
            "The revision of the last compaction in store.",
            metrics.compact_revision as f64,
        ),
        (
            "etcd_debugging_mvcc_keys_total",
            "Total number of keys.",
            metrics.keys as f64,
        ),
        (
            "etcd_debugging_mvcc_watcher_total",
            "Total number of watchers.",
            metrics.watchers as f64,
        ),
        (
            "etcd_debugging_mvcc_watch_stream_total",
            "Total number of watch streams.",
            metrics.watch_streams as f64,
        ),
        (
            "etcd_debugging_mvcc_slow_watcher_total",
            "Total number of unsynced slow watchers.",
            metrics.slow_watchers as f64,
        ),
        (
            "etcd_debugging_mvcc_pending_events_total",
            "Total number of pending events to be sent.",
            metrics.pending_events as f64,
        ),
        (
            "taffrail_leases",
            "Leases granted and neither revoked nor expired.",
            metrics.leases as f64,
        ),
    ] {
        page.gauge(name, help, value);
    }
    for (name, help, value) in [
        (
            "etcd_debugging_mvcc_events_total",
            "Total number of events sent by this member.",
            metrics.events,
        ),
        (
            "etcd_debugging_lease_granted_total",
            "The total number of granted leases.",
            metrics.leases_granted,
        ),
        (
            "etcd_debugging_lease_revoked_total",
            "The total number of revoked leases.",
            metrics.leases_revoked,
        ),
        (
            "etcd_debugging_lease_renewed_total",
            "The number of renewed leases seen by the leader.",
            metrics.leases_renewed,
        ),
        (
            "etcd_debugging_server_lease_expired_total",
            "The total number of expired leases.",
            metrics.leases_expired,
        ),
    ] {
        page.counter(name, help, value);
    }
}

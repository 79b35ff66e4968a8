//! The store's gauges and counters, under etcd's names. What etcd calls `_total` and shows as a gauge stays a gauge.

use prometheus::proto::MetricType;
use proto::etcdserverpb::AlarmType;
use store::shell::{KnownAlarm, Metrics};

use super::page::Page;
use crate::core::Core;

pub(super) fn add(page: &mut Page, core: &Core, metrics: &Metrics) {
    for (name, help, value) in GAUGES {
        page.gauge(name, help, value(metrics));
    }
    for (name, help, value) in COUNTERS {
        page.counter(name, help, value(metrics));
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
    add_auth(page, core);
    add_alarms(page, &metrics.alarms);
    let mut features = page.family(
        "etcd_server_feature_enabled",
        "Whether or not a feature is enabled. 1 is enabled, 0 is not.",
        MetricType::GAUGE,
    );
    for &(name, stage, enabled) in core.features.iter() {
        features.add(&[("name", name), ("stage", stage)], u64::from(enabled));
    }
    page.push_if_any(features);
}

/// Users, passwords and tokens.
fn add_auth(page: &mut Page, core: &Core) {
    let numbers = core.auth.numbers();
    page.gauge(
        "etcd_debugging_auth_revision",
        "The current revision of auth store.",
        core.store.auth_view().revision() as f64,
    );
    page.gauge(
        "taffrail_auth_simple_tokens",
        "Simple tokens that this member knows.",
        numbers.tokens as f64,
    );
    let passwords = numbers.passwords;
    page.gauge(
        "taffrail_auth_passwords_waiting",
        "Passwords that wait to be hashed or checked.",
        passwords.waiting as f64,
    );
    let mut checks = page.family(
        "taffrail_auth_passwords_total",
        "Passwords by what became of them; refused are those that were not looked at, because too many waited or too many \
         had failed.",
        MetricType::COUNTER,
    );
    for (outcome, count) in [
        ("hashed", passwords.hashed),
        ("matched", passwords.matched),
        ("failed", passwords.failed),
        ("refused", passwords.refused),
    ] {
        checks.add(&[("outcome", outcome)], count);
    }
    page.push(checks);
    page.counter_s(
        "taffrail_auth_password_work_seconds_total",
        "Time spent on hashing and checking passwords.",
        passwords.work_us as f64 / 1e6,
    );
}

/// Absent before the first alarm, as in etcd, and there ever after.
fn add_alarms(page: &mut Page, known: &[KnownAlarm]) {
    let mut alarms = page.family(
        "etcd_debugging_server_alarms",
        "Alarms for every member in cluster. 1 for 'server_id' label with current ID. 2 for 'alarm_type' label with \
         type of this alarm",
        MetricType::GAUGE,
    );
    for alarm in known {
        let kind = AlarmType::try_from(alarm.kind).map_or("UNKNOWN", |kind| kind.as_str_name());
        let member = format!("{:x}", alarm.member);
        let labels = [("alarm_type", kind), ("server_id", &*member)];
        alarms.add(&labels, u64::from(alarm.raised));
    }
    page.push_if_any(alarms);
}

/// Name, help and value.
type Row<T> = (&'static str, &'static str, fn(&Metrics) -> T);
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
        |m| m.wal_written_bytes as f64,
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
        "etcd_server_snapshot_apply_in_progress_total",
        "1 if the server is applying the incoming snapshot. 0 if none.",
        |m| m.snapshots_applying as f64,
    ),
    (
        "etcd_mvcc_db_open_read_transactions",
        "The number of currently open read transactions",
        |m| m.open_reads as f64,
    ),
    (
        "etcd_debugging_mvcc_total_put_size_in_bytes",
        "The total size of put kv pairs seen by this member.",
        |m| m.tally.put_bytes as f64,
    ),
    (
        "etcd_debugging_mvcc_db_compaction_last",
        "The unix time of the last db compaction. Resets to 0 on start.",
        |m| m.compacted_at_s as f64,
    ),
    (
        "taffrail_wal_bytes",
        "Bytes of the log that are kept for a restart.",
        |m| m.wal_bytes as f64,
    ),
    (
        "taffrail_values_bytes",
        "Bytes of memory that hold current values of up to 64 KiB, dead ones that are not given back included.",
        |m| m.values_bytes as f64,
    ),
    (
        "taffrail_disk_available_bytes",
        "Bytes left on the disk of the data, or on that of the log where those are fewer.",
        |m| m.disk_available_bytes as f64,
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
        "etcd_server_read_indexes_failed_total",
        "The total number of failed read indexes seen.",
        |m| m.failed_read_indexes,
    ),
    (
        "etcd_server_heartbeat_send_failures_total",
        "The total number of leader heartbeat send failures (likely overloaded from slow disk).",
        |m| m.late_heartbeats,
    ),
    (
        "taffrail_wal_stalls_total",
        "The total number of times that the log's disk stood still for longer than the election timeout.",
        |m| m.stalled_syncs,
    ),
    (
        "taffrail_wal_stall_leader_transfers_total",
        "The total number of times that this member handed its leadership over because its log's disk stood still.",
        |m| m.stall_hand_overs,
    ),
    (
        "etcd_server_slow_apply_total",
        "The total number of slow apply requests (likely overloaded from slow disk).",
        |m| m.slow_applies,
    ),
    (
        "etcd_debugging_mvcc_db_compaction_keys_total",
        "Total number of db keys compacted.",
        |m| m.compacted_revisions,
    ),
    (
        "taffrail_values_packed_bytes_total",
        "Bytes of current values moved together in memory, to give back the memory between them.",
        |m| m.packed_bytes,
    ),
    (
        "taffrail_backend_reclaims_total",
        "How often the working copy was made anew to give back space.",
        |m| m.reclaims,
    ),
    (
        "taffrail_backend_reclaimed_bytes_total",
        "Bytes of disk that this gave back.",
        |m| m.reclaimed_bytes,
    ),
    (
        "taffrail_nospace_alarms_cleared_total",
        "NOSPACE alarms that this member has raised and cleared by itself.",
        |m| m.alarms_cleared,
    ),
    (
        "etcd_mvcc_put_total",
        "Total number of puts seen by this member.",
        |m| m.tally.puts,
    ),
    (
        "etcd_mvcc_delete_total",
        "Total number of deletes seen by this member.",
        |m| m.tally.deletes,
    ),
    (
        "etcd_mvcc_range_total",
        "Total number of ranges seen by this member.",
        |m| m.tally.ranges,
    ),
    (
        "etcd_mvcc_txn_total",
        "Total number of txns seen by this member.",
        |m| m.tally.txns,
    ),
    (
        "etcd_debugging_mvcc_events_total",
        "Total number of events sent by this member.",
        |m| m.events,
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

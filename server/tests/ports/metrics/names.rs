//! What etcd 3.7 shows, and so must we: every metric of the compatibility reference's must and should lists, with type,
//! labels and buckets; and the names that etcd's mixin of alerts and dashboards asks for.

/// One metric.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// Sorted.
    pub(crate) labels: &'static [&'static str],
}

/// A metric's type; of histograms the first bound and the number of bounds, each twice the one before.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Counter,
    Gauge,
    Histogram(f64, usize),
    /// Prometheus' default buckets.
    DefaultHistogram,
}

use Kind::{Counter, DefaultHistogram, Gauge, Histogram};

const fn row(name: &'static str, kind: Kind, labels: &'static [&'static str]) -> Row {
    Row { name, kind, labels }
}

const RPC: &[&str] = &["grpc_method", "grpc_service", "grpc_type"];
const CODE: &[&str] = &["grpc_code", "grpc_method", "grpc_service", "grpc_type"];
const NONE: &[&str] = &[];

/// On any member, once each kind of request was made.
pub(crate) const ALWAYS: &[Row] = &[
    // Must.
    row("etcd_server_has_leader", Gauge, NONE),
    row("etcd_server_is_leader", Gauge, NONE),
    row("etcd_server_leader_changes_seen_total", Counter, NONE),
    row("etcd_server_proposals_committed_total", Gauge, NONE),
    row("etcd_server_proposals_applied_total", Gauge, NONE),
    row("etcd_server_proposals_pending", Gauge, NONE),
    row("etcd_server_proposals_failed_total", Counter, NONE),
    row("etcd_server_quota_backend_bytes", Gauge, NONE),
    row("etcd_mvcc_db_total_size_in_bytes", Gauge, NONE),
    row("etcd_mvcc_db_total_size_in_use_in_bytes", Gauge, NONE),
    row("etcd_disk_wal_fsync_duration_seconds", Histogram(0.001, 14), NONE),
    row(
        "etcd_disk_backend_commit_duration_seconds",
        Histogram(0.001, 14),
        NONE,
    ),
    row("etcd_network_client_grpc_sent_bytes_total", Counter, NONE),
    row("etcd_network_client_grpc_received_bytes_total", Counter, NONE),
    row("grpc_server_started_total", Counter, RPC),
    row("grpc_server_msg_received_total", Counter, RPC),
    row("grpc_server_msg_sent_total", Counter, RPC),
    row("grpc_server_handled_total", Counter, CODE),
    row("process_resident_memory_bytes", Gauge, NONE),
    row("process_open_fds", Gauge, NONE),
    row("process_max_fds", Gauge, NONE),
    row("process_cpu_seconds_total", Counter, NONE),
    row("process_start_time_seconds", Gauge, NONE),
    row("process_virtual_memory_bytes", Gauge, NONE),
    // Should: the server.
    row("etcd_cluster_version", Gauge, &["cluster_version"]),
    row("etcd_server_version", Gauge, &["server_version"]),
    row("etcd_server_go_version", Gauge, &["server_go_version"]),
    row("etcd_server_id", Gauge, &["server_id"]),
    row("etcd_server_is_learner", Gauge, NONE),
    row("etcd_server_learner_promote_successes", Counter, NONE),
    row("etcd_server_heartbeat_send_failures_total", Counter, NONE),
    row("etcd_server_slow_apply_total", Counter, NONE),
    row("etcd_server_slow_read_indexes_total", Counter, NONE),
    row("etcd_server_read_indexes_failed_total", Counter, NONE),
    row("etcd_server_snapshot_apply_in_progress_total", Gauge, NONE),
    row("etcd_server_health_success", Counter, NONE),
    row("etcd_server_health_failures", Counter, NONE),
    row("etcd_server_healthcheck", Gauge, &["name", "type"]),
    row(
        "etcd_server_healthchecks_total",
        Counter,
        &["name", "status", "type"],
    ),
    row(
        "etcd_server_client_requests_total",
        Counter,
        &["client_api_version", "type"],
    ),
    row(
        "etcd_server_request_duration_seconds",
        Histogram(0.001, 14),
        &["success", "type"],
    ),
    row(
        "etcd_server_apply_duration_seconds",
        Histogram(0.0001, 20),
        &["op", "success", "version"],
    ),
    row(
        "etcd_server_range_duration_seconds",
        Histogram(0.0001, 20),
        &["success"],
    ),
    row("etcd_server_feature_enabled", Gauge, &["name", "stage"]),
    // Should: the history.
    row("etcd_mvcc_put_total", Counter, NONE),
    row("etcd_mvcc_delete_total", Counter, NONE),
    row("etcd_mvcc_range_total", Counter, NONE),
    row("etcd_mvcc_txn_total", Counter, NONE),
    row("etcd_mvcc_hash_duration_seconds", Histogram(0.01, 15), NONE),
    row("etcd_mvcc_hash_rev_duration_seconds", Histogram(0.01, 15), NONE),
    row("etcd_mvcc_db_open_read_transactions", Gauge, NONE),
    // Should: the disk.
    row("etcd_disk_wal_write_bytes_total", Gauge, NONE),
    row("etcd_disk_wal_write_duration_seconds", Histogram(0.001, 14), NONE),
    row(
        "etcd_disk_backend_defrag_duration_seconds",
        Histogram(0.1, 13),
        NONE,
    ),
    row(
        "etcd_disk_backend_snapshot_duration_seconds",
        Histogram(0.01, 17),
        NONE,
    ),
    row("etcd_disk_defrag_inflight", Gauge, NONE),
    // Should: the network.
    row("etcd_network_known_peers", Gauge, &["Local", "Remote"]),
    // Should: for debugging.
    row("etcd_debugging_mvcc_compact_revision", Gauge, NONE),
    row("etcd_debugging_mvcc_current_revision", Gauge, NONE),
    row("etcd_debugging_mvcc_keys_total", Gauge, NONE),
    row("etcd_debugging_mvcc_watcher_total", Gauge, NONE),
    row("etcd_debugging_mvcc_watch_stream_total", Gauge, NONE),
    row("etcd_debugging_mvcc_slow_watcher_total", Gauge, NONE),
    row("etcd_debugging_mvcc_pending_events_total", Gauge, NONE),
    row("etcd_debugging_mvcc_events_total", Counter, NONE),
    row("etcd_debugging_mvcc_total_put_size_in_bytes", Gauge, NONE),
    row("etcd_debugging_mvcc_db_compaction_keys_total", Counter, NONE),
    row("etcd_debugging_mvcc_db_compaction_last", Gauge, NONE),
    row(
        "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds",
        Histogram(100.0, 14),
        NONE,
    ),
    row(
        "etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds",
        Histogram(1.0, 13),
        NONE,
    ),
    row(
        "etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds",
        Histogram(0.5, 14),
        NONE,
    ),
    row("etcd_debugging_lease_granted_total", Counter, NONE),
    row("etcd_debugging_lease_renewed_total", Counter, NONE),
    row("etcd_debugging_lease_revoked_total", Counter, NONE),
    row("etcd_debugging_lease_ttl_total", Histogram(1.0, 24), NONE),
    row("etcd_debugging_server_lease_expired_total", Counter, NONE),
    row(
        "etcd_debugging_server_alarms",
        Gauge,
        &["alarm_type", "server_id"],
    ),
    row("etcd_debugging_auth_revision", Gauge, NONE),
    row(
        "etcd_debugging_server_watch_send_loop_watch_stream_duration_seconds",
        Histogram(0.001, 14),
        NONE,
    ),
    row(
        "etcd_debugging_server_watch_send_loop_watch_stream_duration_per_event_seconds",
        Histogram(0.001, 14),
        NONE,
    ),
    row(
        "etcd_debugging_server_watch_send_loop_control_stream_duration_seconds",
        Histogram(0.001, 14),
        NONE,
    ),
    row(
        "etcd_debugging_server_watch_send_loop_progress_duration_seconds",
        Histogram(0.001, 14),
        NONE,
    ),
    row(
        "etcd_debugging_snap_save_marshalling_duration_seconds",
        Histogram(0.001, 14),
        NONE,
    ),
    row(
        "etcd_debugging_snap_save_total_duration_seconds",
        Histogram(0.001, 14),
        NONE,
    ),
    row(
        "etcd_debugging_disk_backend_commit_rebalance_duration_seconds",
        Histogram(0.001, 14),
        NONE,
    ),
    row(
        "etcd_debugging_disk_backend_commit_spill_duration_seconds",
        Histogram(0.001, 14),
        NONE,
    ),
    row(
        "etcd_debugging_disk_backend_commit_write_duration_seconds",
        Histogram(0.001, 14),
        NONE,
    ),
    // Should: the process.
    row("os_fd_used", Gauge, NONE),
    row("os_fd_limit", Gauge, NONE),
    row("process_network_receive_bytes_total", Counter, NONE),
    row("process_network_transmit_bytes_total", Counter, NONE),
    row("process_virtual_memory_max_bytes", Gauge, NONE),
    row("promhttp_metric_handler_requests_in_flight", Gauge, NONE),
    row("promhttp_metric_handler_requests_total", Counter, &["code"]),
];

/// Besides, with `--metrics=extensive`.
pub(crate) const EXTENSIVE: &[Row] = &[row("grpc_server_handling_seconds", DefaultHistogram, RPC)];

/// Besides, where there are other members and one of them was away.
pub(crate) const WITH_PEERS: &[Row] = &[
    row(
        "etcd_network_peer_round_trip_time_seconds",
        Histogram(0.0001, 16),
        &["To"],
    ),
    row("etcd_network_peer_sent_bytes_total", Counter, &["To"]),
    row("etcd_network_peer_received_bytes_total", Counter, &["From"]),
    row("etcd_network_peer_sent_failures_total", Counter, &["To"]),
    row("etcd_network_active_peers", Gauge, &["Local", "Remote"]),
    row(
        "etcd_network_disconnected_peers_total",
        Counter,
        &["Local", "Remote"],
    ),
];

/// Absent until what they count happens.
pub(crate) const NOT_AT_FIRST: &[&str] = &[
    "etcd_server_learner_promote_failures",
    "etcd_network_peer_received_failures_total",
    "etcd_network_server_stream_failures_total",
    "etcd_network_snapshot_send_success",
    "etcd_network_snapshot_send_failures",
    "etcd_network_snapshot_send_inflights_total",
    "etcd_network_snapshot_send_total_duration_seconds",
    "etcd_network_snapshot_receive_success",
    "etcd_network_snapshot_receive_failures",
    "etcd_network_snapshot_receive_inflights_total",
    "etcd_network_snapshot_receive_total_duration_seconds",
];

/// The series that the alerts and dashboards of etcd's mixin name, each with the labels it filters or groups by.
pub(crate) const MIXIN: &[(&str, &[&str])] = &[
    ("etcd_disk_backend_commit_duration_seconds_bucket", &["le"]),
    ("etcd_disk_wal_fsync_duration_seconds_bucket", &["le"]),
    ("etcd_mvcc_db_total_size_in_bytes", &[]),
    ("etcd_mvcc_db_total_size_in_use_in_bytes", &[]),
    ("etcd_network_client_grpc_received_bytes_total", &[]),
    ("etcd_network_client_grpc_sent_bytes_total", &[]),
    ("etcd_network_peer_received_bytes_total", &[]),
    ("etcd_network_peer_round_trip_time_seconds_bucket", &["To", "le"]),
    ("etcd_network_peer_sent_bytes_total", &[]),
    ("etcd_network_peer_sent_failures_total", &["To"]),
    ("etcd_server_has_leader", &[]),
    ("etcd_server_leader_changes_seen_total", &[]),
    ("etcd_server_proposals_applied_total", &[]),
    ("etcd_server_proposals_committed_total", &[]),
    ("etcd_server_proposals_failed_total", &[]),
    ("etcd_server_proposals_pending", &[]),
    ("etcd_server_quota_backend_bytes", &[]),
    (
        "grpc_server_handled_total",
        &["grpc_code", "grpc_method", "grpc_service", "grpc_type"],
    ),
    (
        "grpc_server_handling_seconds_bucket",
        &["grpc_method", "grpc_service", "grpc_type", "le"],
    ),
    ("grpc_server_started_total", &["grpc_service", "grpc_type"]),
    ("process_resident_memory_bytes", &[]),
];

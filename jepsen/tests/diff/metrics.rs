//! The numbers on the metrics page that both servers must count alike.

use std::collections::BTreeMap;

/// What was refused in a way that both count differently.
#[derive(Clone, Copy, Default)]
pub(crate) struct Refused {
    /// A message that could not be decoded or was too long: the library that a real etcd counts with never sees it.
    pub(crate) unread: bool,
    /// A put or a transaction: etcd counts the look-ups that it was refused after.
    pub(crate) write: bool,
}

/// Series by name and labels.
pub(crate) type Metrics = BTreeMap<String, f64>;

/// Reads the text format; lines that are none are left out.
pub(crate) fn parse(page: &str) -> Metrics {
    page.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.rsplit_once(' '))
        .filter_map(|(series, value)| Some((series.to_owned(), value.parse().ok()?)))
        .collect()
}

/// What has grown since `before`, as far as it must be equal, and what it must be equal in whatever was before.
pub(crate) fn comparable(before: &Metrics, after: &Metrics, refused: Refused) -> Metrics {
    let left_out = |series: &str| {
        refused.unread && series.starts_with("grpc_server_")
            || refused.write && matches!(series, "etcd_mvcc_range_total" | "etcd_mvcc_txn_total")
    };
    let grown = after
        .iter()
        .filter(|(series, _)| is_counted_alike(series) && !left_out(series))
        .map(|(series, value)| {
            let base = before.get(series).copied().unwrap_or(0.0);
            (series.clone(), value - base)
        })
        // A series that does not exist yet counts nothing.
        .filter(|(_, grown)| *grown != 0.0);
    let levels = after
        .iter()
        .filter(|(series, _)| LEVELS.contains(&series.as_str()))
        .map(|(series, value)| (series.clone(), *value));
    grown.chain(levels).collect()
}

/// Whether no watch stream is open and nothing was counted between two looks.
pub(crate) fn at_rest(before: &Metrics, after: &Metrics) -> bool {
    let streams = after.get("etcd_debugging_mvcc_watch_stream_total");
    let same = |counter: &&str| before.get(*counter) == after.get(*counter);
    streams.is_none_or(|streams| *streams == 0.0) && COUNTERS.iter().all(same)
}

fn is_counted_alike(series: &str) -> bool {
    if COUNTERS.contains(&series) {
        return true;
    }
    // Streams are counted when they end, which is at no certain time, and the comparison itself asks for progress.
    series.starts_with("grpc_server_")
        && series.contains("grpc_type=\"unary\"")
        && !series.contains("grpc_service=\"grpc.health.v1.Health\"")
        && !series.starts_with("grpc_server_handling_seconds")
        && !series.contains("grpc_method=\"HashKV\"")
}

/// Not among them: `etcd_debugging_mvcc_pending_events_total`, which in etcd keeps what a stream had not sent when it
/// ended, `etcd_mvcc_range_total`, in which etcd counts a read of its own in every compaction, and
/// `etcd_debugging_mvcc_events_total`, which does not say how many events a stream got that was ending.
const COUNTERS: &[&str] = &[
    "etcd_mvcc_put_total",
    "etcd_mvcc_delete_total",
    "etcd_mvcc_txn_total",
    "etcd_debugging_mvcc_db_compaction_keys_total",
    "etcd_debugging_lease_granted_total",
    "etcd_debugging_lease_renewed_total",
    "etcd_debugging_lease_revoked_total",
    "etcd_debugging_lease_ttl_total_count",
    "etcd_debugging_server_lease_expired_total",
    "etcd_server_proposals_failed_total",
    "etcd_server_leader_changes_seen_total",
];

/// Not among them: `etcd_debugging_mvcc_watcher_total`, in which etcd keeps watchers that a compaction has cancelled, and
/// `etcd_debugging_mvcc_watch_stream_total`, since a stream that the client has left ends at no certain time.
const LEVELS: &[&str] = &[
    "etcd_debugging_mvcc_keys_total",
    "etcd_debugging_mvcc_current_revision",
    "etcd_debugging_mvcc_compact_revision",
    "etcd_debugging_mvcc_slow_watcher_total",
    "etcd_debugging_mvcc_total_put_size_in_bytes",
    "etcd_server_has_leader",
    "etcd_server_is_leader",
    "etcd_server_is_learner",
    "etcd_server_proposals_pending",
    "etcd_server_quota_backend_bytes",
];

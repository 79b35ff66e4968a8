//! The store's histograms, under etcd's names.

use prometheus::proto::MetricType;
use store::apply::RequestKind;
use store::shell::{
    APPLY_BUCKETS_S, COMPACTION_BUCKETS_S, DISK_BUCKETS_S, HASH_BUCKETS_S, HistogramValue,
    INDEX_PAUSE_BUCKETS_S, Metrics, OutcomeValues, PAUSE_BUCKETS_S, TTL_BUCKETS_S,
};

use super::page::{Family, Page};

pub(super) fn add(page: &mut Page, metrics: &Metrics) {
    for (name, help, bounds, value) in HISTOGRAMS {
        page.histogram(name, help, bounds, value(metrics));
    }
    for (name, help, bounds, value) in IN_MILLISECONDS {
        let mut value = value(metrics).clone();
        value.sum *= 1e3;
        let bounds: Vec<f64> = bounds.iter().map(|bound| bound * 1e3).collect();
        page.histogram(name, help, &bounds, &value);
    }
    add_phases(page);
    add_requests(page, metrics);
}

/// Phases of a B+ tree's commit, and of a snapshot's writing, that there are none of here.
fn add_phases(page: &mut Page) {
    let never = HistogramValue {
        buckets: vec![0; DISK_BUCKETS_S.len() + 1],
        sum: 0.0,
    };
    for (name, help) in [
        (
            "etcd_debugging_disk_backend_commit_rebalance_duration_seconds",
            "The latency distributions of commit.rebalance called by bboltdb backend.",
        ),
        (
            "etcd_debugging_disk_backend_commit_spill_duration_seconds",
            "The latency distributions of commit.spill called by bboltdb backend.",
        ),
        (
            "etcd_debugging_snap_save_marshalling_duration_seconds",
            "The marshalling cost distributions of save called by snapshot.",
        ),
    ] {
        page.histogram(name, help, &DISK_BUCKETS_S, &never);
    }
}

fn add_requests(page: &mut Page, metrics: &Metrics) {
    let mut requests = page.family(
        "etcd_server_request_duration_seconds",
        "Response latency distribution in seconds for each type.",
        MetricType::HISTOGRAM,
    );
    let mut applies = page.family(
        "etcd_server_apply_duration_seconds",
        "The latency distributions of v2 apply called by backend.",
        MetricType::HISTOGRAM,
    );
    let mut ranges = page.family(
        "etcd_server_range_duration_seconds",
        "The latency distributions of txn.Range",
        MetricType::HISTOGRAM,
    );
    for (kind, values) in RequestKind::ALL.iter().zip(&metrics.requests) {
        let labels = |success| vec![("success", success), ("type", kind.name())];
        add_outcomes(&mut requests, labels, &DISK_BUCKETS_S, values);
    }
    for (kind, values) in RequestKind::ALL.iter().zip(&metrics.applies) {
        let labels = |success| vec![("op", kind.name()), ("success", success), ("version", "v3")];
        add_outcomes(&mut applies, labels, &APPLY_BUCKETS_S, values);
    }
    let labels = |success| vec![("success", success)];
    add_outcomes(&mut ranges, labels, &APPLY_BUCKETS_S, &metrics.ranges);
    for family in [requests, applies, ranges] {
        page.push_if_any(family);
    }
}

/// As in etcd, an outcome is not shown before it has occurred.
fn add_outcomes(
    family: &mut Family,
    labels: impl Fn(&'static str) -> Vec<(&'static str, &'static str)>,
    bounds: &[f64],
    values: &OutcomeValues,
) {
    for (success, value) in [("false", &values.failure), ("true", &values.success)] {
        if value.count() > 0 {
            family.add_histogram(&labels(success), bounds, value);
        }
    }
}

/// Name, help, bounds of the buckets and value.
type Row = (
    &'static str,
    &'static str,
    &'static [f64],
    fn(&Metrics) -> &HistogramValue,
);

const HISTOGRAMS: &[Row] = &[
    (
        "etcd_disk_wal_fsync_duration_seconds",
        "The latency distributions of fsync called by WAL.",
        &DISK_BUCKETS_S,
        |m| &m.wal_fsync,
    ),
    (
        "etcd_disk_wal_write_duration_seconds",
        "The latency distributions of write called by WAL.",
        &DISK_BUCKETS_S,
        |m| &m.wal_write,
    ),
    (
        "etcd_disk_backend_commit_duration_seconds",
        "The latency distributions of commit called by backend.",
        &DISK_BUCKETS_S,
        |m| &m.backend_commit,
    ),
    (
        "etcd_debugging_disk_backend_commit_write_duration_seconds",
        "The latency distributions of commit.write called by bboltdb backend.",
        &DISK_BUCKETS_S,
        |m| &m.backend_commit,
    ),
    (
        "etcd_debugging_snap_save_total_duration_seconds",
        "The total latency distributions of save called by snapshot.",
        &DISK_BUCKETS_S,
        |m| &m.snapshot_file,
    ),
    (
        "etcd_mvcc_hash_rev_duration_seconds",
        "The latency distribution of storage hash by revision operation.",
        &HASH_BUCKETS_S,
        |m| &m.hash_revision,
    ),
    (
        "etcd_debugging_lease_ttl_total",
        "Bucketed histogram of lease TTLs.",
        &TTL_BUCKETS_S,
        |m| &m.lease_ttls,
    ),
];

const IN_MILLISECONDS: &[Row] = &[
    (
        "etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds",
        "Bucketed histogram of db compaction pause duration.",
        &PAUSE_BUCKETS_S,
        |m| &m.compaction_step,
    ),
    (
        "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds",
        "Bucketed histogram of db compaction total duration.",
        &COMPACTION_BUCKETS_S,
        |m| &m.compaction,
    ),
    (
        "etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds",
        "Bucketed histogram of index compaction pause duration.",
        &INDEX_PAUSE_BUCKETS_S,
        |m| &m.compaction_apply,
    ),
];

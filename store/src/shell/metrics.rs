//! Numbers for operators: what the driver publishes, as one plain value.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of a histogram's buckets in seconds: 1 ms doubling 14 times, as etcd's disk histograms.
pub const DISK_BUCKETS_S: [f64; 14] = [
    0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192,
];

/// The same for the sending and receiving of snapshots: 100 ms doubling 10 times, as etcd's.
pub const TRANSFER_BUCKETS_S: [f64; 10] = [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2];

/// A histogram, written by one thread and read by any.
pub(super) struct Histogram {
    bounds: &'static [f64],
    buckets: Vec<AtomicU64>,
    sum_ns: AtomicU64,
}

impl Default for Histogram {
    /// Over [`DISK_BUCKETS_S`].
    fn default() -> Self {
        Histogram::over(&DISK_BUCKETS_S)
    }
}

/// Snapshots sent to other members, or received from them. One thread writes.
pub(super) struct TransferNumbers {
    pub(super) successes: AtomicU64,
    pub(super) failures: AtomicU64,
    pub(super) in_flight: AtomicU64,
    pub(super) took: Histogram,
}

impl Default for TransferNumbers {
    fn default() -> Self {
        TransferNumbers {
            successes: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
            took: Histogram::over(&TRANSFER_BUCKETS_S),
        }
    }
}

impl TransferNumbers {
    /// A transfer begins.
    pub(super) fn begin(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    /// One that began has ended.
    pub(super) fn end(&self, success: bool, took: Duration) {
        self.give_up();
        if success {
            self.successes.fetch_add(1, Ordering::Relaxed);
            self.took.observe(took);
        } else {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// One that began is wanted no more.
    pub(super) fn give_up(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// The content now.
    pub(super) fn value(&self) -> TransferValues {
        TransferValues {
            successes: self.successes.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
            in_flight: self.in_flight.load(Ordering::Relaxed),
            took: self.took.value(),
        }
    }
}

/// Snapshots sent to other members, or received from them.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct TransferValues {
    /// Those that ended well.
    pub successes: u64,
    /// Those that failed.
    pub failures: u64,
    /// Those under way.
    pub in_flight: u64,
    /// How long the former took, over [`TRANSFER_BUCKETS_S`].
    pub took: HistogramValue,
}

/// A histogram's content.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct HistogramValue {
    /// Observations per bucket, not cumulated; the last one holds what exceeds every bound.
    pub buckets: Vec<u64>,
    /// Sum of all observations, in seconds.
    pub sum_s: f64,
}

impl Histogram {
    fn over(bounds: &'static [f64]) -> Self {
        Histogram {
            bounds,
            buckets: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum_ns: AtomicU64::new(0),
        }
    }

    /// Counts one observation.
    pub(super) fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = self
            .bounds
            .iter()
            .position(|bound| seconds <= *bound)
            .unwrap_or(self.bounds.len());
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.sum_ns.fetch_add(nanos, Ordering::Relaxed);
    }

    /// The content now.
    pub(super) fn value(&self) -> HistogramValue {
        HistogramValue {
            buckets: self
                .buckets
                .iter()
                .map(|bucket| bucket.load(Ordering::Relaxed))
                .collect(),
            sum_s: Duration::from_nanos(self.sum_ns.load(Ordering::Relaxed)).as_secs_f64(),
        }
    }
}

/// The store's numbers at one moment. Totals count since the process started.
#[derive(Clone, PartialEq, Debug, Default)]
#[allow(
    missing_docs,
    reason = "the names are the metrics' own, see the etcd reference, section 5"
)]
pub struct Metrics {
    pub has_leader: bool,
    pub is_leader: bool,
    pub leader_changes: u64,
    pub committed: u64,
    pub applied: u64,
    pub pending: u64,
    pub failed: u64,
    pub quota_bytes: u64,
    pub db_size: u64,
    pub db_size_in_use: u64,
    pub current_revision: i64,
    pub compact_revision: i64,
    pub keys: u64,
    pub watchers: u64,
    pub watch_streams: u64,
    pub slow_watchers: u64,
    pub pending_events: u64,
    pub events: u64,
    pub puts: u64,
    pub deletes: u64,
    pub ranges: u64,
    pub txns: u64,
    pub leases: u64,
    pub leases_granted: u64,
    pub leases_revoked: u64,
    pub leases_renewed: u64,
    pub leases_expired: u64,
    pub wal_fsync: HistogramValue,
    pub backend_commit: HistogramValue,
    pub wal_bytes: u64,
    pub slow_read_indexes: u64,
    pub snapshot_sends: TransferValues,
    pub snapshot_receives: TransferValues,
    pub snapshots_applying: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn observations_fall_into_their_buckets() {
        let histogram = Histogram::default();
        histogram.observe(Duration::from_millis(1));
        histogram.observe(Duration::from_millis(3));
        histogram.observe(Duration::from_secs(60));
        let value = histogram.value();
        assert_eq!((value.buckets[0], value.buckets[2], value.buckets[14]), (1, 1, 1));
        assert!((value.sum_s - 60.004).abs() < 1e-9);
    }
}

//! Histograms in etcd's buckets.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A histogram that is written without locks and read by any thread. Cheapest where one thread writes.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [f64],
    buckets: Box<[AtomicU64]>,
    /// In billionths, or whole where it holds counts.
    sum: AtomicU64,
    sum_unit: f64,
}

/// A histogram's content.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct HistogramValue {
    /// Observations per bucket, not cumulated; the last one holds what exceeds every bound.
    pub buckets: Vec<u64>,
    /// Sum of all observations, in seconds where these are times.
    pub sum: f64,
}

impl Default for Histogram {
    /// Over [`DISK_BUCKETS_S`].
    fn default() -> Self {
        Histogram::over(&DISK_BUCKETS_S)
    }
}

impl Histogram {
    /// A histogram of times; `bounds` are the buckets' upper bounds in seconds, rising.
    #[must_use]
    pub fn over(bounds: &'static [f64]) -> Self {
        Histogram {
            bounds,
            buckets: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
            sum_unit: 1e-9,
        }
    }

    /// A histogram of whole numbers.
    #[must_use]
    pub fn of_counts(bounds: &'static [f64]) -> Self {
        Histogram {
            sum_unit: 1.0,
            ..Histogram::over(bounds)
        }
    }

    /// Counts a time.
    pub fn observe(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.add(took.as_secs_f64(), nanos);
    }

    /// Counts a whole number.
    pub fn observe_count(&self, count: u64) {
        self.add(count as f64, count);
    }

    /// The content now.
    #[must_use]
    pub fn value(&self) -> HistogramValue {
        let load = |bucket: &AtomicU64| bucket.load(Ordering::Relaxed);
        HistogramValue {
            buckets: self.buckets.iter().map(load).collect(),
            sum: load(&self.sum) as f64 * self.sum_unit,
        }
    }

    fn add(&self, value: f64, to_sum: u64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(to_sum, Ordering::Relaxed);
    }
}

impl HistogramValue {
    /// How many observations there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Adds another one's content, over the same bounds.
    pub fn merge(&mut self, other: &HistogramValue) {
        self.buckets.resize(other.buckets.len(), 0);
        for (bucket, count) in self.buckets.iter_mut().zip(&other.buckets) {
            *bucket += count;
        }
        self.sum += other.sum;
    }
}

const fn doubling<const N: usize>(first: f64) -> [f64; N] {
    let mut bounds = [first; N];
    let mut at = 1;
    while at < N {
        bounds[at] = bounds[at - 1] * 2.0;
        at += 1;
    }
    bounds
}

/// Upper bounds of the buckets of disk and request times in seconds: 1 ms doubling 14 times.
pub const DISK_BUCKETS_S: [f64; 14] = doubling(0.001);
/// The same for apply and range times: 100 us, 20 times.
pub const APPLY_BUCKETS_S: [f64; 20] = doubling(0.0001);
/// The same for the sending and receiving of snapshots: 100 ms, 10 times.
pub const TRANSFER_BUCKETS_S: [f64; 10] = doubling(0.1);
/// The same for hashes: 10 ms, 15 times.
pub const HASH_BUCKETS_S: [f64; 15] = doubling(0.01);
/// The same for snapshots to clients: 10 ms, 17 times.
pub const BACKUP_BUCKETS_S: [f64; 17] = doubling(0.01);
/// The same for defragmentations: 100 ms, 13 times.
pub const DEFRAG_BUCKETS_S: [f64; 13] = doubling(0.1);
/// The same for the steps of compactions: 1 ms, 13 times.
pub const PAUSE_BUCKETS_S: [f64; 13] = doubling(0.001);
/// The same for whole compactions: 100 ms, 14 times.
pub const COMPACTION_BUCKETS_S: [f64; 14] = doubling(0.1);
/// The same for compactions' first step, the one in the log's order: 0.5 ms, 14 times.
pub const INDEX_PAUSE_BUCKETS_S: [f64; 14] = doubling(0.0005);
/// Upper bounds of the buckets of TTLs: 1 s, 24 times.
pub const TTL_BUCKETS_S: [f64; 24] = doubling(1.0);

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
        assert!((value.sum - 60.004).abs() < 1e-9);
        let mut twice = value.clone();
        twice.merge(&value);
        assert_eq!((twice.count(), twice.buckets[14]), (6, 2));
    }

    #[test]
    fn counts_do_not_overflow_early() {
        let ttls = Histogram::of_counts(&TTL_BUCKETS_S);
        for _ in 0..1000 {
            ttls.observe_count(9_000_000_000);
        }
        assert_eq!(ttls.value().buckets[24], 1000);
        assert!((ttls.value().sum - 9e12).abs() < 1.0);
    }

    #[test]
    fn bounds_double() {
        assert!((APPLY_BUCKETS_S[19] - 52.4288).abs() < 1e-9);
        assert!((TTL_BUCKETS_S[23] - 8_388_608.0).abs() < 1e-9);
    }
}

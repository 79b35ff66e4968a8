//! Counts and latencies of one phase, shared by its clients.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tonic::Status;

use crate::spec::Limit;

/// Latencies between a tenth of a microsecond and ten minutes, to three digits.
const LATENCY_NANOS_MIN: u64 = 100;
const LATENCY_NANOS_MAX: u64 = 600_000_000_000;

/// How many error texts are told apart; the rest is counted together.
const ERROR_TEXTS_MAX: usize = 16;

/// What happened in a phase.
///
/// One histogram behind a mutex, not one per client: a thousand histograms would not fit the cache, and on the one
/// thread of the generator the lock is never contended.
#[derive(Debug)]
pub(crate) struct Tally {
    done: AtomicU64,
    gave_up: AtomicU64,
    latency_nanos: Mutex<Histogram<u64>>,
    errors: Mutex<BTreeMap<String, u64>>,
}

impl Tally {
    pub(crate) fn new() -> Self {
        let histogram = Histogram::new_with_bounds(LATENCY_NANOS_MIN, LATENCY_NANOS_MAX, 3)
            .expect("the bounds are constants that the histogram allows");
        Self {
            done: AtomicU64::new(0),
            gave_up: AtomicU64::new(0),
            latency_nanos: Mutex::new(histogram),
            errors: Mutex::new(BTreeMap::new()),
        }
    }

    /// An operation succeeded.
    pub(crate) fn succeeded(&self, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        lock(&self.latency_nanos).saturating_record(nanos);
        self.done.fetch_add(1, Ordering::Relaxed);
    }

    /// An operation failed.
    pub(crate) fn failed(&self, status: &Status) {
        self.failed_with(format!("{:?}: {}", status.code(), status.message()), 1);
    }

    /// `count` operations failed in the same way.
    pub(crate) fn failed_with(&self, text: String, count: u64) {
        let mut errors = lock(&self.errors);
        let text = if errors.len() < ERROR_TEXTS_MAX || errors.contains_key(&text) {
            text
        } else {
            "other".to_owned()
        };
        *errors.entry(text).or_default() += count;
    }

    /// A client ended before its time, because nothing succeeded any more.
    pub(crate) fn gave_up(&self) {
        self.gave_up.fetch_add(1, Ordering::Relaxed);
    }

    /// Clients that ended before their time.
    pub(crate) fn given_up(&self) -> u64 {
        self.gave_up.load(Ordering::Relaxed)
    }

    /// Successful operations so far.
    pub(crate) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// The texts of the errors so far, each with its count.
    pub(crate) fn errors(&self) -> BTreeMap<String, u64> {
        lock(&self.errors).clone()
    }

    /// The latency that the given share of the operations did not exceed.
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        Duration::from_nanos(lock(&self.latency_nanos).value_at_quantile(share))
    }
}

/// A client that panicked is reported as such; what it had counted stays true.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Hands out the numbers of operations until the limit.
#[derive(Debug)]
pub(crate) struct Budget {
    issued: AtomicU64,
    stopped: AtomicBool,
    total: u64,
    deadline: Option<Instant>,
}

impl Budget {
    pub(crate) fn new(limit: Limit, start: Instant) -> Self {
        let (total, deadline) = match limit {
            Limit::Total(total) => (total, None),
            Limit::Duration(duration) => (u64::MAX, Some(start + duration)),
        };
        Self {
            issued: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            total,
            deadline,
        }
    }

    /// Ends the phase before its limit: operations under way are the last.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Whether the phase was ended before its limit.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// The number of the next operation, or none at the end.
    pub(crate) fn take(&self) -> Option<u64> {
        if self.stopped.load(Ordering::Relaxed) {
            return None;
        }
        if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return None;
        }
        let number = self.issued.fetch_add(1, Ordering::Relaxed);
        (number < self.total).then_some(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_known_latencies() {
        let tally = Tally::new();
        for micros in 1..=1000 {
            tally.succeeded(Duration::from_micros(micros));
        }
        let near = |share: f64, micros: f64| {
            let seen = tally.quantile(share).as_secs_f64() * 1e6;
            assert!((seen / micros - 1.0).abs() < 0.002, "{share}: {seen}");
        };
        near(0.5, 500.0);
        near(0.99, 990.0);
        near(0.999, 999.0);
        assert_eq!(tally.done(), 1000);
    }

    #[test]
    fn error_texts_are_bounded() {
        let tally = Tally::new();
        for number in 0..100 {
            tally.failed(&Status::unavailable(format!("text {number}")));
        }
        tally.failed(&Status::unavailable("text 0"));
        let errors = tally.errors();
        assert_eq!(errors.len(), ERROR_TEXTS_MAX + 1);
        assert_eq!(errors["Unavailable: text 0"], 2);
        assert_eq!(errors.values().sum::<u64>(), 101);
    }

    #[test]
    fn a_budget_ends_by_count_by_time_or_by_request() {
        let start = Instant::now();
        let counted = Budget::new(Limit::Total(2), start);
        assert_eq!([(); 3].map(|()| counted.take()), [Some(0), Some(1), None]);
        assert_eq!(Budget::new(Limit::Duration(Duration::ZERO), start).take(), None);
        let timed = Budget::new(Limit::Duration(Duration::from_secs(3600)), start);
        assert_eq!(timed.take(), Some(0));
        timed.stop();
        assert_eq!(timed.take(), None);
    }
}

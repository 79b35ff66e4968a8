//! What the transport counts about each peer. Kept for as long as the process lives, so that the series of a member
//! that was lost stay.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the round trip's buckets, in seconds: etcd's.
pub(crate) const ROUND_TRIP_BUCKETS_S: [f64; 16] = exponential(0.0001);

/// The counts of one peer.
#[derive(Default)]
pub(crate) struct Numbers {
    pub(crate) sent_bytes: AtomicU64,
    pub(crate) sent_failures: AtomicU64,
    pub(crate) received_bytes: AtomicU64,
    pub(crate) received_failures: AtomicU64,
    pub(crate) disconnected: AtomicU64,
    round_trips: [AtomicU64; ROUND_TRIP_BUCKETS_S.len() + 1],
    round_trips_ns: AtomicU64,
}

impl Numbers {
    /// Adds to one of the counts.
    pub(super) fn add(counter: &AtomicU64, by: usize) {
        counter.fetch_add(by as u64, Ordering::Relaxed);
    }

    /// Reads one of the counts.
    pub(crate) fn get(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }

    /// A ping came back.
    pub(super) fn round_trip(&self, time: Duration) {
        let seconds = time.as_secs_f64();
        let bucket = ROUND_TRIP_BUCKETS_S.partition_point(|&bound| bound < seconds);
        Numbers::add(&self.round_trips[bucket], 1);
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.round_trips_ns.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    /// Counts by bucket, the last for what is beyond the bounds; and the sum in seconds.
    pub(crate) fn round_trips(&self) -> (Vec<u64>, f64) {
        let counts = self.round_trips.iter().map(Numbers::get).collect();
        (
            counts,
            Duration::from_nanos(Numbers::get(&self.round_trips_ns)).as_secs_f64(),
        )
    }
}

const fn exponential(first: f64) -> [f64; 16] {
    let mut bounds = [first; 16];
    let mut at = 1;
    while at < bounds.len() {
        bounds[at] = bounds[at - 1] * 2.0;
        at += 1;
    }
    bounds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_trip_falls_into_the_bucket_that_holds_it() {
        let numbers = Numbers::default();
        for time in [50, 100, 101, 4_000_000] {
            numbers.round_trip(Duration::from_micros(time));
        }
        let (counts, sum) = numbers.round_trips();
        assert_eq!((counts[0], counts[1], counts[16]), (2, 1, 1));
        assert!((sum - 4.000_251).abs() < 1e-9, "{sum}");
        assert!((ROUND_TRIP_BUCKETS_S[15] - 3.2768).abs() < 1e-9);
    }
}

//! Calls of whom nobody knows, while authentication is on: without a token, or with one that is no good. Most of them
//! are refused, but some only by all members together, and whoever tries tokens shall not try many. So an address has
//! so many a second, beside logins, which have a limit of their own.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::seats::network;
use super::{Reason, TurnedAway};

/// The buckets of tokens, one for each address.
pub(crate) struct Guesses {
    buckets: Mutex<Buckets>,
    away: Arc<TurnedAway>,
}

#[derive(Default)]
struct Buckets {
    by_address: HashMap<Option<IpAddr>, Bucket>,
    /// When those that were full again were last removed.
    swept: Option<Instant>,
}

struct Bucket {
    left: f64,
    at: Instant,
}

impl Bucket {
    fn full(now: Instant) -> Bucket {
        Bucket { left: BURST, at: now }
    }

    /// Fills up what time has earned.
    fn refill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + elapsed * PER_SECOND).min(BURST);
        self.at = now;
    }
}

impl Buckets {
    /// Whether `address` has a bucket, or may have one.
    fn has_room_for(&mut self, address: Option<IpAddr>, now: Instant) -> bool {
        if self.by_address.len() < BUCKETS_MAX || self.by_address.contains_key(&address) {
            return true;
        }
        let due = self
            .swept
            .is_none_or(|at| now.saturating_duration_since(at) >= SWEEP_INTERVAL);
        if due {
            self.swept = Some(now);
            self.by_address.retain(|_, bucket| {
                bucket.refill(now);
                bucket.left < BURST
            });
        }
        self.by_address.len() < BUCKETS_MAX
    }
}

impl Guesses {
    pub(crate) fn new(away: Arc<TurnedAway>) -> Guesses {
        Guesses {
            buckets: Mutex::default(),
            away,
        }
    }

    /// Whether one more such call of `address` is heard.
    pub(crate) fn admit(&self, address: Option<IpAddr>) -> bool {
        self.admit_at(address, Instant::now())
    }

    fn admit_at(&self, address: Option<IpAddr>, now: Instant) -> bool {
        let mut buckets = self.buckets.lock();
        let mut address = address.map(network);
        if !buckets.has_room_for(address, now) {
            // Whoever comes from so many addresses shares one bucket.
            address = None;
        }
        let bucket = buckets
            .by_address
            .entry(address)
            .or_insert_with(|| Bucket::full(now));
        bucket.refill(now);
        let admitted = bucket.left >= 1.0;
        if admitted {
            bucket.left -= 1.0;
        } else {
            self.away.count(Reason::Unauthenticated);
        }
        admitted
    }
}

/// So many at once.
const BURST: f64 = 2000.0;
/// So many from then on.
const PER_SECOND: f64 = 500.0;
/// Between two looks for buckets that are full again.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// Addresses that are told apart.
const BUCKETS_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u32) -> Option<IpAddr> {
        Some(IpAddr::from(std::net::Ipv4Addr::from_bits(number)))
    }

    #[test]
    fn an_address_has_its_burst_and_then_its_rate() {
        let guesses = Guesses::new(Arc::default());
        let now = Instant::now();
        let heard = |now| (0..9000).filter(|_| guesses.admit_at(address(1), now)).count();
        assert_eq!(heard(now), 2000);
        assert_eq!(heard(now + Duration::from_millis(100)), 50);
        assert!(guesses.admit_at(address(2), now));
        assert_eq!(heard(now + Duration::from_secs(3600)), 2000);
    }

    #[test]
    fn addresses_without_number_take_no_more_room() {
        let guesses = Guesses::new(Arc::default());
        let now = Instant::now();
        let heard = (0..20_000)
            .filter(|&number| guesses.admit_at(address(number), now))
            .count();
        assert!(guesses.buckets.lock().by_address.len() <= BUCKETS_MAX + 1);
        // The last of them shared one bucket.
        assert_eq!(heard, BUCKETS_MAX + 2000);
        assert!(guesses.admit_at(address(20_001), now + Duration::from_secs(60)));
        assert_eq!(guesses.buckets.lock().by_address.len(), 1);
    }
}

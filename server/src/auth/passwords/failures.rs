//! How often each address has failed to log in lately: a bucket that each failure fills and time empties.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Instant;

#[derive(Default)]
pub(super) struct Failures {
    /// Only of addresses that have failed lately.
    buckets: BTreeMap<Option<IpAddr>, Bucket>,
}

#[derive(Clone, Copy)]
struct Bucket {
    level: f64,
    at: Instant,
}

impl Bucket {
    fn level(self, now: Instant) -> f64 {
        let passed_s = now.saturating_duration_since(self.at).as_secs_f64();
        (self.level - passed_s * FORGIVEN_PER_S).max(0.0)
    }
}

impl Failures {
    /// Whether an address may try.
    pub(super) fn allows(&self, address: Option<IpAddr>, now: Instant) -> bool {
        let bucket = self.buckets.get(&address);
        bucket.is_none_or(|bucket| bucket.level(now) + 1.0 <= FAILURES_MAX)
    }

    /// An address has failed.
    pub(super) fn note(&mut self, address: Option<IpAddr>, now: Instant) {
        if self.buckets.len() >= ADDRESSES_MAX && !self.buckets.contains_key(&address) {
            self.buckets.retain(|_, bucket| bucket.level(now) > 0.0);
            // Of too many at once some are forgiven: the queue bounds what they can do.
            if self.buckets.len() >= ADDRESSES_MAX {
                self.buckets.pop_first();
            }
        }
        let level = self.buckets.get(&address).map_or(0.0, |bucket| bucket.level(now));
        let level = (level + 1.0).min(FAILURES_MAX);
        self.buckets.insert(address, Bucket { level, at: now });
    }
}

/// So many failures at once are a mistake in a script; more are not.
const FAILURES_MAX: f64 = 200.0;
/// Who goes on trying has as many tries each second.
const FORGIVEN_PER_S: f64 = 10.0;
/// Addresses kept in mind.
const ADDRESSES_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn time_forgives() {
        let mut failures = Failures::default();
        let (began, bad, good) = (Instant::now(), Some(IpAddr::from([10, 0, 0, 1])), None);
        for _ in 0..1000 {
            failures.note(bad, began);
        }
        assert!(!failures.allows(bad, began) && failures.allows(good, began));
        let after = began + Duration::from_millis(150);
        assert!(failures.allows(bad, after));
        failures.note(bad, after);
        failures.note(bad, after);
        assert!(!failures.allows(bad, after));
    }

    #[test]
    fn addresses_are_bounded() {
        let mut failures = Failures::default();
        let now = Instant::now();
        for number in 0..3 * ADDRESSES_MAX as u32 {
            failures.note(Some(IpAddr::from(number.to_be_bytes())), now);
        }
        assert_eq!(failures.buckets.len(), ADDRESSES_MAX);
        failures.note(None, now + Duration::from_secs(60));
        assert_eq!(failures.buckets.len(), 1);
    }
}

//! When each stream's progress ticker fires. A stream ticks from its opening on, every interval plus a part of up
//! to a tenth that is its own, so that thousands of streams opened together do not tick together. Whether a tick
//! says anything is the hub's decision.

use std::collections::BTreeSet;
use std::time::Duration;

use super::slab::Slot;
use super::{StreamId, mix};
use crate::env::Instant;

/// The tickers of all streams.
#[derive(Debug)]
pub(super) struct Tickers {
    interval: Duration,
    seed: u64,
    due: BTreeSet<(Instant, Slot)>,
}

impl Tickers {
    pub(super) fn new(interval: Duration, seed: u64) -> Self {
        Tickers {
            interval,
            seed,
            due: BTreeSet::new(),
        }
    }

    /// Starts the ticker of a stream; returns when it fires, which [`Tickers::stop`] wants back.
    pub(super) fn start(&mut self, stream: StreamId, slot: Slot, now: Instant) -> Instant {
        let at = now + self.period(stream);
        self.due.insert((at, slot));
        at
    }

    pub(super) fn stop(&mut self, at: Instant, slot: Slot) {
        self.due.remove(&(at, slot));
    }

    /// Takes out a ticker that fires at `now`; the hub starts it again. Missed periods count once, as with any
    /// ticker whose reader slept.
    pub(super) fn fire(&mut self, now: Instant) -> Option<Slot> {
        let &(at, slot) = self.due.first()?;
        if at > now {
            return None;
        }
        self.due.remove(&(at, slot));
        Some(slot)
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    fn period(&self, stream: StreamId) -> Duration {
        let jitter_ns_max = u64::try_from(self.interval.as_nanos() / JITTER_PART).unwrap_or(u64::MAX);
        let drawn = mix(self.seed ^ mix(stream.0))
            .checked_rem(jitter_ns_max)
            .unwrap_or(0);
        self.interval + Duration::from_nanos(drawn)
    }
}

/// The jitter is below this part of the interval.
const JITTER_PART: u128 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_differ_within_a_tenth_and_repeat() {
        let tickers = Tickers::new(Duration::from_secs(600), 7);
        let periods: BTreeSet<Duration> = (0..100).map(|n| tickers.period(StreamId(n))).collect();
        assert!(periods.len() > 90, "{} distinct", periods.len());
        assert!(periods.iter().all(|p| (600.0..660.0).contains(&p.as_secs_f64())));
        assert_eq!(
            tickers.period(StreamId(3)),
            Tickers::new(Duration::from_secs(600), 7).period(StreamId(3))
        );
        assert_eq!(
            Tickers::new(Duration::from_nanos(3), 7).period(StreamId(1)),
            Duration::from_nanos(3)
        );
    }
}

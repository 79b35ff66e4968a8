//! How often a client may ping, as grpc-go's server judges it.
//!
//! A ping that comes too soon is a strike, and one strike more than [`STRIKES_MAX`] ends the connection. Too soon is
//! less than the set time after the last ping; for a client without a call under way, who has nothing to keep alive,
//! less than [`IDLE_PING_MIN`]. The first ping is never too soon, and the first after the server sent something takes
//! all strikes back: whoever measures the bandwidth by pings, as grpc-go's client does, pings at each piece of an
//! answer.

use std::time::{Duration, Instant};

/// The pings of one connection.
pub(super) struct Pings {
    interval_min: Duration,
    last: Option<Instant>,
    strikes: u8,
}

impl Pings {
    pub(super) fn new(interval_min: Duration) -> Pings {
        Pings {
            interval_min,
            last: None,
            strikes: 0,
        }
    }

    /// Judges one ping. `answered`: the server has sent a part of an answer since the last one; `active`: the client
    /// has a call under way. False when the connection must end.
    pub(super) fn admit(&mut self, now: Instant, answered: bool, active: bool) -> bool {
        let since_last = self.last.replace(now).map(|last| now.duration_since(last));
        if answered {
            self.strikes = 0;
            return true;
        }
        let interval_min = if active { self.interval_min } else { IDLE_PING_MIN };
        if since_last.is_some_and(|since| since < interval_min) {
            // All of what was read is judged, even behind the one that was too many.
            self.strikes = self.strikes.saturating_add(1);
        }
        self.strikes <= STRIKES_MAX
    }
}

/// grpc-go's.
const STRIKES_MAX: u8 = 2;
/// grpc-go's time between the pings of a client that has no call under way.
const IDLE_PING_MIN: Duration = Duration::from_secs(2 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    /// What becomes of pings, each so many seconds after the start; `answered` and `active` are the same for all.
    fn judged(interval_min: u64, at: &[u64], answered: bool, active: bool) -> Vec<bool> {
        let start = Instant::now();
        let mut pings = Pings::new(Duration::from_secs(interval_min));
        at.iter()
            .map(|&seconds| pings.admit(start + Duration::from_secs(seconds), answered, active))
            .collect()
    }

    #[test]
    fn the_fourth_of_fast_pings_is_one_too_many() {
        assert_eq!(judged(5, &[0, 1, 2, 3], false, true), [true, true, true, false]);
        assert_eq!(judged(5, &[0, 1, 2, 3], false, false), [true, true, true, false]);
        // Without a call, even slow pings are too fast.
        assert_eq!(
            judged(5, &[0, 60, 120, 180], false, false),
            [true, true, true, false]
        );
    }

    #[test]
    fn slow_pings_and_those_after_answers_are_welcome() {
        assert_eq!(judged(5, &[0, 5, 10, 15, 20, 25], false, true), [true; 6]);
        assert_eq!(judged(5, &[0, 7200, 14_400, 21_600], false, false), [true; 4]);
        assert_eq!(judged(5, &[0, 0, 0, 0, 0, 0], true, false), [true; 6]);
    }

    #[test]
    fn an_answer_takes_strikes_back() {
        let now = Instant::now();
        let mut pings = Pings::new(Duration::from_secs(5));
        for round in 0..3 {
            assert!(pings.admit(now, true, true), "round {round}");
            assert!(pings.admit(now, false, true));
            assert!(pings.admit(now, false, true));
        }
        assert!(!pings.admit(now, false, true));
    }
}

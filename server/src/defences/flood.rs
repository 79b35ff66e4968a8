//! Frames that ask for nothing: resets of streams (each of which was opened in vain: CVE-2023-44487), settings,
//! priorities, pings, empty data, kinds that nobody knows. An honest client sends some, and many at once when it gives
//! up many calls; only one that goes on like that for long is sent away.

use std::time::{Duration, Instant};

/// What one connection may still send of them.
pub(crate) struct Flood {
    left: u32,
    refilled: Option<Instant>,
}

impl Default for Flood {
    fn default() -> Self {
        Flood {
            left: BURST,
            refilled: None,
        }
    }
}

impl Flood {
    /// Counts one such frame. False when the connection must end.
    pub(crate) fn admit(&mut self) -> bool {
        if self.left == 0 {
            self.refill(Instant::now());
        }
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }

    /// The clock is looked at only where the last refill is used up.
    fn refill(&mut self, now: Instant) {
        let elapsed = match self.refilled {
            Some(last) => now.duration_since(last),
            // The first burst may have taken any time.
            None => Duration::from_secs(1),
        };
        let earned = elapsed.as_secs_f64() * f64::from(PER_SECOND);
        if earned >= 1.0 {
            // Never more than the burst: the conversion of a float cannot leave its type.
            self.left = (earned as u32).min(BURST);
            self.refilled = Some(now);
        }
    }
}

/// So many at once: a client that gives up that many calls is honest.
const BURST: u32 = 20_000;
/// And so many from then on.
const PER_SECOND: u32 = 2_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_welcome_and_a_flood_is_not() {
        let mut flood = Flood::default();
        let admitted = (0..10 * BURST).take_while(|_| flood.admit()).count();
        let admitted = u32::try_from(admitted).unwrap();
        assert!((BURST + PER_SECOND..2 * BURST).contains(&admitted), "{admitted}");
    }

    #[test]
    fn time_gives_some_back_but_never_more_than_a_burst() {
        let now = Instant::now();
        let mut flood = Flood {
            left: 0,
            refilled: Some(now),
        };
        flood.refill(now + Duration::from_millis(10));
        assert_eq!(flood.left, PER_SECOND / 100);
        flood.left = 0;
        flood.refill(now + Duration::from_secs(3600));
        assert_eq!(flood.left, BURST);
    }
}

//! History of a period is kept.
//!
//! The revision is looked at ten times per period, or per hour where the period is longer, and the looks of one
//! period are remembered; the oldest is what may go. The first compaction comes after a whole period, then one
//! comes per period or hour. With a period of 5 minutes:
//!
//! | minute | 0 | 0.5 | ... | 4.5 | 5 | 5.5 | ... | 10 |
//! | --- | --- | --- | --- | --- | --- | --- | --- | --- |
//! | revision | 1 | 2 | | 10 | 11 | 12 | | 21 |
//! | compacts to | | | | | 1 | | | 10 |

use std::collections::VecDeque;
use std::time::Duration;

/// The looks of a period, and when it was last acted on them.
pub(super) struct Periodic {
    period: Duration,
    /// Oldest first, at most [`Periodic::looks_max`].
    looks: VecDeque<i64>,
    compacted: i64,
    /// When, since the start.
    succeeded: Duration,
    /// How long after `succeeded` the next compaction is due.
    pause: Duration,
}

impl Periodic {
    pub(super) fn new(period: Duration) -> Periodic {
        Periodic {
            period,
            looks: VecDeque::new(),
            compacted: 0,
            succeeded: Duration::ZERO,
            pause: period,
        }
    }

    pub(super) fn period(&self) -> Duration {
        self.period
    }

    /// Between two looks; also after a failure until the next attempt.
    pub(super) fn interval(&self) -> Duration {
        (self.period.min(PAUSE_MAX) / LOOKS_PER_PAUSE).max(INTERVAL_MIN)
    }

    pub(super) fn look(&mut self, current: i64) {
        self.looks.push_back(current);
        if self.looks.len() > self.looks_max() {
            self.looks.pop_front();
        }
    }

    pub(super) fn due(&mut self, now: Duration, leads: bool) -> Option<i64> {
        let oldest = *self.looks.front()?;
        if !leads || now.saturating_sub(self.succeeded) < self.pause || oldest == self.compacted {
            return None;
        }
        self.pause = self.period.min(PAUSE_MAX);
        Some(oldest)
    }

    pub(super) fn done(&mut self, compacted: i64, now: Duration) {
        self.compacted = compacted;
        self.succeeded = now;
    }

    /// The looks of one period, both ends included.
    fn looks_max(&self) -> usize {
        let intervals = self.period.as_nanos() / self.interval().as_nanos();
        usize::try_from(intervals).unwrap_or(usize::MAX).saturating_add(1)
    }
}

/// Compactions follow each other after this at the latest.
const PAUSE_MAX: Duration = Duration::from_secs(60 * 60);
const LOOKS_PER_PAUSE: u32 = 10;
/// Guards against periods of nanoseconds, which a flag can ask for.
const INTERVAL_MIN: Duration = Duration::from_millis(1);

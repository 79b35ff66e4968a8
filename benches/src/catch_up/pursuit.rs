//! When a member that follows moving ones has caught up.

use std::time::{Duration, Instant};

/// A member that is no further behind than this has caught up: under load it is never quite level.
const LAG_MAX: Duration = Duration::from_secs(1);

/// The revisions of those ahead, over time.
#[derive(Debug, Default)]
pub(super) struct Pursuit {
    /// In order of time; the first is the revision at the start, or the newest of those older than the lag allowed.
    seen: Vec<(Instant, i64)>,
}

impl Pursuit {
    /// Those ahead had reached the revision at that time.
    pub(super) fn ahead(&mut self, now: Instant, revision: i64) {
        self.seen.push((now, revision));
        let old = |&(time, _): &(Instant, i64)| now.saturating_duration_since(time) >= LAG_MAX;
        let olds = self.seen.iter().take_while(|seen| old(seen)).count();
        self.seen.drain(..olds.saturating_sub(1));
    }

    /// Whether a member at this revision is no further behind than allowed, and has all that there was at the start.
    pub(super) fn is_level(&self, revision: i64) -> bool {
        self.seen.first().is_some_and(|&(_, needed)| revision >= needed)
    }

    /// The last revision heard of.
    pub(super) fn newest(&self) -> i64 {
        self.seen.last().map_or(0, |&(_, revision)| revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_level_with_the_unknown() {
        let pursuit = Pursuit::default();
        assert!(!pursuit.is_level(i64::MAX));
        assert_eq!(pursuit.newest(), 0);
    }

    #[test]
    fn what_was_there_at_the_start_is_needed_whatever_the_lag() {
        let mut pursuit = Pursuit::default();
        let start = Instant::now();
        pursuit.ahead(start, 100);
        assert!(!pursuit.is_level(99));
        assert!(pursuit.is_level(100));
        pursuit.ahead(start + LAG_MAX / 2, 150);
        assert!(pursuit.is_level(100));
        assert_eq!(pursuit.newest(), 150);
    }

    #[test]
    fn a_second_behind_is_level_and_more_is_not() {
        let mut pursuit = Pursuit::default();
        let start = Instant::now();
        for step in 0..10 {
            pursuit.ahead(start + LAG_MAX / 2 * step, 100 * i64::from(step));
        }
        // The last look was at 900; a second before, it was 700.
        assert!(!pursuit.is_level(699));
        assert!(pursuit.is_level(700));
    }
}

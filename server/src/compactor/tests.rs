//! Days of compaction in no time. The tables are what etcd 3.7.1's own compactor does on a fake clock.

use super::*;

/// What happens to a member while it compacts, in seconds since its start.
struct Story {
    mode: AutoCompaction,
    ends: u64,
    /// It does not lead.
    follows: Span,
    /// Compactions fail.
    fails: Span,
    /// No writes come after this.
    still: u64,
}

/// From and to, both included; nothing for to = 0.
type Span = (u64, u64);

const NEVER: Span = (0, 0);

impl Story {
    fn of(mode: AutoCompaction, ends: u64) -> Story {
        Story {
            mode,
            ends,
            follows: NEVER,
            fails: NEVER,
            still: u64::MAX,
        }
    }

    /// The attempts: when, and up to which revision. Two writes come per minute.
    fn tell(&self) -> Vec<(u64, i64)> {
        let revision = |now: Duration| 1 + i64::try_from(now.as_secs().min(self.still) / 30).unwrap();
        let within = |(from, to): Span, now: Duration| to > 0 && (from..=to).contains(&now.as_secs());
        let mut schedule = Schedule::new(self.mode).unwrap();
        let mut now = Duration::ZERO;
        let mut attempts = Vec::new();
        while now.as_secs() < self.ends {
            schedule.look(revision(now));
            now += schedule.interval();
            if let Some(due) = schedule.due(now, revision(now), !within(self.follows, now)) {
                attempts.push((now.as_secs(), due));
                if !within(self.fails, now) {
                    schedule.done(due, now);
                }
            }
        }
        attempts
    }
}

fn minutes(minutes: u64) -> AutoCompaction {
    AutoCompaction::Periodic(Duration::from_secs(60 * minutes))
}

#[test]
fn five_minutes_are_kept() {
    let story = Story::of(minutes(5), 21 * 60);
    assert_eq!(story.tell(), [(300, 1), (600, 10), (900, 20), (1200, 30)]);
}

#[test]
fn an_hour_is_kept() {
    let story = Story::of(minutes(60), 300 * 60);
    assert_eq!(
        story.tell(),
        [(3600, 1), (7200, 109), (10800, 229), (14400, 349), (18000, 469)]
    );
}

#[test]
fn longer_periods_are_kept_and_compacted_hourly() {
    assert_eq!(
        Story::of(minutes(180), 420 * 60).tell(),
        [(10800, 1), (14400, 109), (18000, 229), (21600, 349), (25200, 469)]
    );
    assert_eq!(
        Story::of(minutes(1440), 1700 * 60).tell(),
        [
            (86400, 1),
            (90000, 109),
            (93600, 229),
            (97200, 349),
            (100_800, 469)
        ]
    );
}

#[test]
fn a_follower_becomes_leader_and_acts_at_its_next_turn() {
    let story = Story {
        follows: (1800, 9000),
        ..Story::of(minutes(60), 300 * 60)
    };
    assert_eq!(story.tell(), [(9360, 181), (12960, 301), (16560, 421)]);
}

#[test]
fn a_failure_is_retried_after_an_interval() {
    let story = Story {
        fails: (3600, 4500),
        ..Story::of(minutes(60), 240 * 60)
    };
    assert_eq!(
        story.tell(),
        [
            (3600, 1),
            (3960, 1),
            (4320, 13),
            (4680, 25),
            (8280, 145),
            (11880, 265)
        ]
    );
    let story = Story {
        fails: (10_800, 12_000),
        ..Story::of(minutes(180), 400 * 60)
    };
    assert_eq!(
        story.tell(),
        [
            (10800, 1),
            (11160, 1),
            (11520, 13),
            (11880, 25),
            (12240, 37),
            (15840, 157),
            (19440, 277),
            (23040, 397)
        ]
    );
}

#[test]
fn nothing_is_compacted_twice() {
    let story = Story {
        still: 90 * 60,
        ..Story::of(minutes(60), 420 * 60)
    };
    assert_eq!(story.tell(), [(3600, 1), (7200, 109), (10800, 181)]);
}

#[test]
fn twenty_revisions_are_kept() {
    let story = Story {
        fails: (1200, 1200),
        still: 25 * 60,
        ..Story::of(AutoCompaction::Revision(20), 45 * 60)
    };
    assert_eq!(story.tell(), [(600, 1), (900, 11), (1200, 21), (1500, 31)]);
}

#[test]
fn a_follower_compacts_no_revisions() {
    let story = Story {
        follows: (0, 1000),
        ..Story::of(AutoCompaction::Revision(20), 15 * 60)
    };
    assert_eq!(story.tell(), []);
}

#[test]
fn absurd_settings_do_no_harm() {
    let mut shortest = Periodic::new(Duration::from_nanos(5));
    shortest.look(7);
    assert_eq!(shortest.interval(), Duration::from_millis(1));
    assert_eq!(shortest.due(shortest.interval(), true), Some(7));
    let mut longest = Periodic::new(Duration::MAX);
    longest.look(7);
    assert_eq!(longest.due(Duration::from_secs(1 << 40), true), None);
    assert_eq!(Revision::new(i64::MAX).due(i64::MAX, true), None);
    assert!(Schedule::new(AutoCompaction::Off).is_none());
}

//! The simulator on a member that is right, and on members that are wrong in one planted way each.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use jepsen::nemesis::Intensities;
use jepsen::sim::world::{MILLISECOND, SECOND};
use jepsen::sim::{Plan, RunReport, run};
use support::reference::{Bug, Reference};

fn run_with(plan: &Plan, bug: Bug) -> RunReport {
    run(plan, vec![Box::new(Reference::new(bug))])
}

#[test]
fn a_right_member_passes() {
    let mut reports = Vec::new();
    for seed in 0..40 {
        let report = run_with(&Plan::new(seed), Bug::None);
        assert!(report.failures.is_empty(), "{report}");
        reports.push(report);
    }
    // It is no use passing where nothing happened.
    let least = |of: fn(&RunReport) -> u64| reports.iter().map(of).min().unwrap();
    assert!(
        least(|report| report.crashes) >= 3,
        "{}",
        least(|report| report.crashes)
    );
    assert!(
        least(|report| report.answered) >= 500,
        "{}",
        least(|report| report.answered)
    );
    assert!(least(|report| report.revisions.unsigned_abs()) >= 200);
    assert!(reports.iter().map(|report| report.watch_events).sum::<usize>() > 10_000);
}

#[test]
fn one_seed_is_one_trace() {
    let plan = Plan::new(11);
    let first = run_with(&plan, Bug::None);
    assert_eq!(first, run_with(&plan, Bug::None));
    let other = run_with(&Plan::new(12), Bug::None);
    assert_ne!(first.trace, other.trace);
}

#[test]
fn a_crash_after_any_step_loses_nothing() {
    let short = |step| Plan {
        trouble: 60 * MILLISECOND,
        nemesis: Intensities::NONE,
        crash_at_step: Some(step),
        ..Plan::new(5)
    };
    let steps = run_with(&short(u64::MAX), Bug::None).steps;
    assert!(steps > 100, "{steps}");
    for step in 1..=steps {
        let report = run_with(&short(step), Bug::None);
        assert!(
            report.failures.is_empty() && report.crashes == 1,
            "step {step}: {report}"
        );
    }
}

/// The seed of the first run that finds the bug, of 300.
fn found(bug: Bug) -> RunReport {
    let plan = |seed| Plan {
        trouble: SECOND,
        settle_within: 10 * SECOND,
        ..Plan::new(seed)
    };
    (0..300)
        .map(|seed| run_with(&plan(seed), bug))
        .find(|report| !report.failures.is_empty())
        .unwrap_or_else(|| panic!("{bug:?} was not found within 300 seeds"))
}

macro_rules! planted {
    ($($name:ident: $bug:ident,)*) => {$(
        #[test]
        fn $name() {
            let report = found(Bug::$bug);
            println!("{:?} found by {report}", Bug::$bug);
        }
    )*};
}

planted! {
    finds_an_answer_before_its_sync: AnswerBeforeSync,
    finds_an_applied_index_ahead_of_its_data: AppliedAheadOfData,
    finds_a_torn_tail_read_as_a_record: TornTailAsRecord,
    finds_an_entry_replayed_twice: ReplayedTwice,
    finds_a_stale_read: StaleRead,
    finds_an_event_delivered_twice: EventTwice,
    finds_a_lost_event: EventLost,
    finds_a_split_revision: RevisionSplit,
    finds_an_early_progress: EarlyProgress,
    finds_a_watcher_not_woken: WatcherNotWoken,
    finds_a_key_that_outlives_its_revoked_lease: RevokeLeavesKey,
}

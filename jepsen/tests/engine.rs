//! The engine in the simulator: nothing to be found in it as it is, and everything that is planted.

#![allow(clippy::unwrap_used, reason = "a test")]

use jepsen::nemesis::Intensities;
use jepsen::sim::engine::Engine;
use jepsen::sim::world::MILLISECOND;
use jepsen::sim::{Plan, RunReport, run};
use store::shell::sim::Bugs;

fn run_with(plan: &Plan, bugs: Bugs) -> RunReport {
    run(plan, vec![Box::new(Engine::small(plan.seed, bugs))])
}

#[test]
fn the_engine_passes() {
    let mut crashes = 0;
    let mut revisions = 0;
    for seed in 0..30 {
        let report = run_with(&Plan::new(seed), Bugs::default());
        assert!(report.failures.is_empty(), "{report}");
        crashes += report.crashes;
        revisions += report.revisions;
    }
    assert!(
        crashes > 100 && revisions > 3000,
        "{crashes} crashes, {revisions} revisions"
    );
}

#[test]
fn one_seed_is_one_trace() {
    let plan = Plan::new(11);
    let first = run_with(&plan, Bugs::default());
    assert_eq!(first, run_with(&plan, Bugs::default()));
    assert_ne!(first.trace, run_with(&Plan::new(12), Bugs::default()).trace);
}

#[test]
fn a_crash_after_any_step_loses_nothing() {
    let short = |step| Plan {
        trouble: 40 * MILLISECOND,
        nemesis: Intensities::NONE,
        crash_at_step: Some(step),
        ..Plan::new(5)
    };
    let steps = run_with(&short(u64::MAX), Bugs::default()).steps;
    assert!(steps > 50, "{steps}");
    for step in 1..=steps.min(200) {
        let report = run_with(&short(step), Bugs::default());
        assert!(
            report.failures.is_empty() && report.crashes == 1,
            "step {step}: {report}"
        );
    }
}

fn found(plant: impl Fn(u64) -> Engine) {
    let plan = |seed| Plan {
        nemesis: Intensities {
            crash_every: Some(60 * MILLISECOND),
            ..Intensities::NONE
        },
        ..Plan::new(seed)
    };
    let report = (0..300)
        .map(|seed| run(&plan(seed), vec![Box::new(plant(seed))]))
        .find(|report| !report.failures.is_empty())
        .unwrap_or_else(|| panic!("not found within 300 seeds"));
    println!("found by {report}");
}

#[test]
fn finds_an_answer_before_its_sync() {
    found(|seed| {
        Engine::small(
            seed,
            Bugs {
                answer_before_sync: true,
                ..Bugs::default()
            },
        )
    });
}

#[test]
fn finds_an_applied_index_ahead_of_its_data() {
    found(|seed| {
        Engine::small(
            seed,
            Bugs {
                applied_ahead_of_data: true,
                ..Bugs::default()
            },
        )
    });
}

#[test]
fn finds_a_torn_tail_read_as_a_record() {
    found(|seed| {
        Engine::small(
            seed,
            Bugs {
                torn_tail_as_record: true,
                ..Bugs::default()
            },
        )
    });
}

#[test]
fn finds_a_watch_event_delivered_twice() {
    found(|seed| Engine::small(seed, Bugs::default()).repeating_watch_events());
}

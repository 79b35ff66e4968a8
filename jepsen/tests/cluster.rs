//! Three and five members in the simulator: nothing to be found in them as they are, and one seed is one run.

#![allow(clippy::unwrap_used, reason = "a test")]

use jepsen::nemesis::Intensities;
use jepsen::sim::engine::Engine;
use jepsen::sim::network::Weather;
use jepsen::sim::world::MILLISECOND;
use jepsen::sim::{Plan, RunReport, run};
use jepsen::traffic::Mix;
use store::shell::sim::Bugs;

fn run_with(members: usize, seed: u64) -> RunReport {
    let plan = Plan::of(members, seed);
    run(&plan, Engine::cluster(members, seed, Bugs::default()))
}

/// Runs some seeds; it is no use passing where nothing happened.
fn pass(members: usize, seeds: std::ops::Range<u64>) {
    let reports: Vec<_> = seeds.map(|seed| run_with(members, seed)).collect();
    for report in &reports {
        assert!(report.failures.is_empty(), "{report}");
    }
    let sum = |of: fn(&RunReport) -> u64| reports.iter().map(of).sum::<u64>();
    let enough = [
        ("answers", sum(|report| report.answered), 5000),
        ("elections", sum(|report| report.elections), 60),
        ("snapshots", sum(|report| report.snapshots), 10),
        ("crashes", sum(|report| report.crashes), 50),
        ("pauses", sum(|report| report.pauses), 10),
        ("partitions", sum(|report| report.partitions), 20),
        ("empty disks", sum(|report| report.empty_disks), 3),
        ("full disks", sum(|report| report.full_disks), 3),
        ("changed disks", sum(|report| report.rotten), 3),
        ("lost messages", sum(|report| report.traffic.dropped), 500),
        ("doubled messages", sum(|report| report.traffic.duplicated), 100),
    ];
    for (what, seen, least) in enough {
        assert!(seen >= least, "only {seen} {what}");
    }
}

#[test]
fn three_members_pass() {
    pass(3, 0..20);
}

#[test]
fn five_members_pass() {
    pass(5, 0..12);
}

/// Users and roles change, auth is turned on and off, and half of the calls are a user's: all members come to the same
/// users, and judge every entry alike, or their histories would differ.
#[test]
fn users_that_come_and_go_pass() {
    let with_users = |members: usize, seed: u64| {
        let plan = Plan::with_users(members, seed);
        run(&plan, Engine::cluster(members, seed, Bugs::default()))
    };
    let mut reports: Vec<_> = (100..112).map(|seed| with_users(3, seed)).collect();
    reports.extend((200..204).map(|seed| with_users(5, seed)));
    for report in &reports {
        assert!(report.failures.is_empty(), "{report}");
    }
    let changes: u64 = reports.iter().map(|report| report.user_changes).sum();
    let answers: u64 = reports.iter().map(|report| report.answered).sum();
    assert!(
        changes > 500 && answers > 2000,
        "{changes} changes, {answers} answers"
    );
}

#[test]
fn members_that_come_and_go_pass() {
    let changing = |seed| run(&Plan::changing(seed), Engine::changing(seed, Bugs::default()));
    let reports: Vec<_> = (0..20).map(changing).collect();
    for report in &reports {
        assert!(report.failures.is_empty(), "{report}");
    }
    let sum = |of: fn(&RunReport) -> u64| reports.iter().map(of).sum::<u64>();
    let (changes, joins) = (sum(|report| report.changes), sum(|report| report.joins));
    assert!(
        changes >= 100 && joins >= 50,
        "only {changes} changes, {joins} joins"
    );
    assert_eq!(reports[7], changing(7), "one seed is one trace");
}

#[test]
fn one_seed_is_one_trace() {
    let first = run_with(3, 11);
    assert_eq!(first, run_with(3, 11));
    assert_ne!(first.trace, run_with(3, 12).trace);
    assert_eq!(run_with(5, 11), run_with(5, 11));
}

/// Members come back within moments, so that what was meant for the life before reaches the next one.
#[test]
fn what_was_meant_for_the_life_before_is_not_taken_for_an_answer() {
    for seed in 0..30 {
        let plan = Plan {
            callers: 12,
            mix: Mix {
                lease: 120,
                lease_ttl_max: 3,
                ..Mix::default()
            },
            nemesis: Intensities {
                crash_every: Some(40 * MILLISECOND),
                away_max: 5 * MILLISECOND,
                weather: Weather {
                    slow_in: 3,
                    slow_max: 50 * MILLISECOND,
                    ..Weather::CALM
                },
                ..Intensities::NONE
            },
            ..Plan::of(3, seed)
        };
        let report = run(&plan, Engine::cluster(3, seed, Bugs::default()));
        assert!(report.failures.is_empty(), "{report}");
    }
}

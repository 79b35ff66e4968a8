//! Bugs planted in members of a cluster, one at a time: each is found within the number of seeds that stands beside it.

#![allow(clippy::unwrap_used, reason = "a test")]

use jepsen::nemesis::Intensities;
use jepsen::nemesis::disk::Faults;
use jepsen::sim::engine::Engine;
use jepsen::sim::network::Weather;
use jepsen::sim::world::{MILLISECOND, SECOND};
use jepsen::sim::{Plan, RunReport, run};
use jepsen::traffic::Mix;
use store::shell::sim::Bugs;

/// The first run that finds the bug.
fn found(bugs: Bugs, seeds: u64, plan: impl Fn(u64) -> Plan) -> RunReport {
    let report = (0..seeds)
        .map(|seed| run(&plan(seed), Engine::cluster(3, seed, bugs)))
        .find(|report| !report.failures.is_empty())
        .unwrap_or_else(|| panic!("{bugs:?} was not found within {seeds} seeds"));
    println!("found by {report}");
    report
}

/// What makes a bug likely makes nothing fail without it.
fn found_only_with(bugs: Bugs, seeds: u64, plan: impl Fn(u64) -> Plan) {
    let seed = found(bugs, seeds, &plan).seed;
    let report = run(&plan(seed), Engine::cluster(3, seed, Bugs::default()));
    assert!(report.failures.is_empty(), "{report}");
}

fn usual(seed: u64) -> Plan {
    Plan::of(3, seed)
}

#[test]
fn finds_an_answer_before_its_sync() {
    let bugs = Bugs {
        answer_before_sync: true,
        ..Bugs::default()
    };
    found_only_with(bugs, 100, usual);
}

#[test]
fn finds_a_vote_that_is_not_persisted() {
    let bugs = Bugs {
        vote_not_persisted: true,
        ..Bugs::default()
    };
    found_only_with(bugs, 100, |seed| Plan {
        nemesis: Intensities {
            crash_every: Some(40 * MILLISECOND),
            partition_every: Some(200 * MILLISECOND),
            partition_max: 300 * MILLISECOND,
            weather: Weather {
                delay_max: 30 * MILLISECOND,
                ..Weather::CALM
            },
            ..Intensities::NONE
        },
        ..usual(seed)
    });
}

/// Answers that come late, after the read has been asked for again under the same context.
#[test]
fn finds_a_read_context_used_again() {
    let bugs = Bugs {
        reused_read_context: true,
        ..Bugs::default()
    };
    found_only_with(bugs, 100, |seed| Plan {
        callers: 12,
        mix: Mix {
            put: 50,
            range: 50,
            compact: 0,
            lease: 0,
            ..Mix::default()
        },
        nemesis: Intensities {
            weather: Weather {
                delay_max: 10 * MILLISECOND,
                slow_in: 8,
                slow_max: 900 * MILLISECOND,
                drop_in: 10,
                duplicate_in: 5,
            },
            ..Intensities::NONE
        },
        ..usual(seed)
    });
}

#[test]
fn finds_a_snapshot_without_leases() {
    let bugs = Bugs {
        snapshot_without_leases: true,
        ..Bugs::default()
    };
    found_only_with(bugs, 100, usual);
}

/// Whoever is brought up by such a snapshot knows no users, judges nobody, and shows in the end that it differs.
#[test]
fn finds_a_snapshot_without_users() {
    let bugs = Bugs {
        snapshot_without_users: true,
        ..Bugs::default()
    };
    found_only_with(bugs, 100, |seed| Plan::with_users(3, seed));
}

#[test]
fn finds_a_proposal_that_arrives_twice() {
    let bugs = Bugs {
        proposal_twice: true,
        ..Bugs::default()
    };
    found_only_with(bugs, 100, usual);
}

/// Disks that are full all the time, and crashes.
#[test]
fn finds_a_full_disk_that_is_ignored() {
    let bugs = Bugs {
        full_disk_ignored: true,
        ..Bugs::default()
    };
    found_only_with(bugs, 100, |seed| Plan {
        nemesis: Intensities {
            crash_every: Some(300 * MILLISECOND),
            blackout_every: Some(1000 * MILLISECOND),
            disks: Faults {
                full_every: Some(300 * MILLISECOND),
                full_max: 300 * MILLISECOND,
                ..Faults::NONE
            },
            ..Intensities::NONE
        },
        ..usual(seed)
    });
}

/// Disks that change what they hold, read without a look at the checksums.
#[test]
fn finds_a_changed_log_that_is_read() {
    let bugs = Bugs {
        torn_tail_as_record: true,
        ..Bugs::default()
    };
    found_only_with(bugs, 100, |seed| Plan {
        nemesis: Intensities {
            disks: Faults {
                rot_every: Some(150 * MILLISECOND),
                ..Faults::NONE
            },
            ..Intensities::NONE
        },
        ..usual(seed)
    });
}

/// Many leases, and leaders that hand over all the time: what such a leader finds expired while it waits for its
/// successor it passes on to that one, with whom the lease has been renewed when the revoke arrives late.
#[test]
fn finds_a_stale_revoke_that_is_applied() {
    let bugs = Bugs {
        stale_revoke_applied: true,
        ..Bugs::default()
    };
    found_only_with(bugs, 100, |seed| Plan {
        callers: 16,
        mix: Mix {
            put: 40,
            range: 4,
            range_at: 0,
            delete: 4,
            txn: 0,
            compact: 0,
            lease: 100,
            lease_ttl_max: 1,
            ..Mix::default()
        },
        trouble: 20 * SECOND,
        nemesis: Intensities {
            hand_over_every: Some(1000 * MILLISECOND),
            weather: Weather {
                delay_max: 5 * MILLISECOND,
                slow_in: 6,
                slow_max: 200 * MILLISECOND,
                ..Weather::CALM
            },
            ..Intensities::NONE
        },
        ..usual(seed)
    });
}

/// The first run that finds the bug while members come and go; without it, that run finds nothing.
fn found_changing(bugs: Bugs, seeds: u64) {
    let report = (0..seeds)
        .map(|seed| run(&Plan::changing(seed), Engine::changing(seed, bugs)))
        .find(|report| !report.failures.is_empty())
        .unwrap_or_else(|| panic!("{bugs:?} was not found within {seeds} seeds"));
    println!("found by {report}");
    let seed = report.seed;
    let report = run(&Plan::changing(seed), Engine::changing(seed, Bugs::default()));
    assert!(report.failures.is_empty(), "{report}");
}

#[test]
fn finds_membership_changes_that_overlap() {
    found_changing(
        Bugs {
            overlapping_changes: true,
            ..Bugs::default()
        },
        100,
    );
}

#[test]
fn finds_a_learner_that_is_counted_as_a_voter() {
    found_changing(
        Bugs {
            learner_votes: true,
            ..Bugs::default()
        },
        100,
    );
}

//! Differential test: random sequences of calls go to Taffrail and to a real etcd side by side, and everything that
//! must be equal is compared. `jepsen/README.md` tells how to run many and what to do with a difference.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "diff/mod.rs"]
mod rig;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;
use rig::calls::{Answer, Outcome};
use rig::explained::EXPLAINED;
use rig::pair::{Age, Pair, Programs};
use rig::search::{Plan, search};
use rig::steps::{from_text, to_text};
use rig::{programs, say, strategy};

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

/// The pair of programs; nothing where there is no etcd.
fn compared(test: &str) -> Option<Programs> {
    let etcd = programs::etcd(test)?;
    let programs = Programs::new(etcd, programs::taffrail());
    say(&format!(
        "{test}: {} against etcd {}.{}, {}",
        programs.right.display(),
        programs.version.0,
        programs.version.1,
        programs.left.display()
    ));
    Some(programs)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_sequences_show_no_difference() {
    let Some(programs) = compared("random_sequences_show_no_difference") else {
        return;
    };
    let left_out = std::env::var("TAFFRAIL_DIFF_LEAVE_OUT").unwrap_or_default();
    let plan = Plan {
        seed: number("TAFFRAIL_DIFF_SEED", 1),
        first: number("TAFFRAIL_DIFF_FIRST", 0),
        cases: number("TAFFRAIL_DIFF_CASES", 300),
        findings_max: number("TAFFRAIL_DIFF_FINDINGS", 1).try_into().unwrap(),
        left_out: left_out.split(',').map(str::to_owned).collect(),
    };
    let findings = search(&programs, &plan).await;
    assert!(findings.is_empty(), "{} differences, shown above", findings.len());
}

/// What has once been a difference. Some showed only with a compaction behind them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sequences_that_once_differed() {
    let Some(programs) = compared("sequences_that_once_differed") else {
        return;
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/diff/regressions");
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(!files.is_empty());
    for age in [Age::Fresh, Age::Compacted] {
        let mut pair = Pair::start(&programs, age).await;
        for file in &files {
            let text = fs::read_to_string(file).unwrap();
            if !programs.is_baseline() && text.contains("# needs 3.7") {
                continue;
            }
            let steps = from_text(&text).unwrap();
            if let Err(difference) = pair.run(&steps).await {
                panic!("{} on {age:?} servers: {difference}", file.display());
            }
        }
    }
}

/// A comparison that has never failed proves nothing: one server is made to lie about one thing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_planted_difference_is_found_and_made_small() {
    let taffrail = programs::taffrail();
    let lie = |outcome: &mut Outcome| {
        if let Ok(Answer::Delete(answer)) = outcome
            && answer.deleted == 2
            && answer.prev_kvs.is_empty()
        {
            answer.deleted = 3;
        }
    };
    let programs = Programs {
        left: taffrail.clone(),
        right: taffrail,
        version: (3, 7),
        alter: Some(Arc::new(lie)),
    };
    let plan = Plan {
        seed: 1,
        first: 0,
        cases: 300,
        findings_max: 1,
        left_out: ["Expiry", "Metrics", "Http"].map(str::to_owned).to_vec(),
    };
    let findings = search(&programs, &plan).await;
    let finding = findings.first().expect("the lie is found");
    assert_eq!(finding.difference.step, finding.steps.len());
    assert_eq!(finding.difference.kind(), ("Delete".to_owned(), [false, false]));
    assert_eq!(finding.shows_on, Some(Age::Fresh));
    // Two keys, or one and that which is always there, and the delete of both.
    assert!(finding.steps.len() <= 3, "{}", to_text(&finding.steps));
}

#[test]
fn the_text_of_a_sequence_is_the_sequence() {
    let strategy = strategy::sequences(true);
    let mut runner = TestRunner::deterministic();
    for _ in 0..200 {
        let steps = strategy.new_tree(&mut runner).unwrap().current();
        assert_eq!(from_text(&to_text(&steps)).unwrap(), steps);
    }
}

#[test]
fn every_explained_difference_has_a_name_and_a_reason() {
    let mut names: Vec<_> = EXPLAINED.iter().map(|explained| explained.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), EXPLAINED.len());
    assert!(EXPLAINED.iter().all(|explained| !explained.why.is_empty()));
}

//! The search: draw sequences, run them, and make a sequence that shows a difference as small as it gets.

use std::time::{Duration, Instant};

use proptest::strategy::{BoxedStrategy, Strategy as _, ValueTree as _};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::pair::{Age, Pair, Programs};
use super::run::Difference;
use super::say;
use super::steps::{Step, to_text};
use super::strategy;

/// What to search.
pub(crate) struct Plan {
    pub(crate) seed: u64,
    /// The number of the first sequence under this seed.
    pub(crate) first: u64,
    pub(crate) cases: u64,
    /// The search ends after so many differences.
    pub(crate) findings_max: usize,
    /// Names of steps that are not taken.
    pub(crate) left_out: Vec<String>,
}

/// A difference with the smallest sequence that shows it.
pub(crate) struct Finding {
    pub(crate) case: u64,
    pub(crate) steps: Vec<Step>,
    pub(crate) difference: Difference,
    /// On what kind of servers, newly started, it shows. If on none, it needs what was before.
    pub(crate) shows_on: Option<Age>,
}

impl Finding {
    /// The text to read, and to keep as a regression.
    pub(crate) fn report(&self, seed: u64) -> String {
        let shows = match self.shows_on {
            Some(Age::Fresh) => "shows on fresh servers",
            Some(Age::Compacted) => "shows on servers with a compaction behind them",
            None => "needs what was before, and could not be made smaller",
        };
        format!(
            "# difference at TAFFRAIL_DIFF_SEED={seed} TAFFRAIL_DIFF_FIRST={} ({shows})\n{}{}\n",
            self.case,
            to_text(&self.steps),
            self.difference
                .to_string()
                .lines()
                .map(|line| format!("# {line}\n"))
                .collect::<String>()
        )
    }
}

/// Runs a plan and returns what it has found.
pub(crate) async fn search(programs: &Programs, plan: &Plan) -> Vec<Finding> {
    let left_out = plan.left_out.clone();
    let strategy = strategy::sequences(programs.is_baseline())
        .prop_map(move |mut steps| {
            steps.retain(|step| !left_out.iter().any(|name| *name == step.name()));
            steps
        })
        .boxed();
    let mut findings = Vec::new();
    let mut age = Age::Fresh;
    let mut pair = Pair::start(programs, age).await;
    let start = Instant::now();
    let mut told = Instant::now();
    for case in plan.first..plan.first + plan.cases {
        if pair.sequences >= SEQUENCES_PER_PAIR {
            age = if age == Age::Fresh {
                Age::Compacted
            } else {
                Age::Fresh
            };
            pair = Pair::start(programs, age).await;
        }
        let mut runner = runner(plan.seed, case);
        let mut tree = strategy
            .new_tree(&mut runner)
            .expect("the strategy rejects nothing");
        if let Err(difference) = pair.run(&tree.current()).await {
            say(&format!(
                "sequence {case} differs, made smaller now: {difference}"
            ));
            let finding = shrink(programs, &mut pair, case, &mut tree, difference).await;
            say(&finding.report(plan.seed));
            findings.push(finding);
            if findings.len() >= plan.findings_max {
                break;
            }
        }
        if told.elapsed() > TELL {
            told = Instant::now();
            say(&format!(
                "{} of {} sequences in {:?}, {} differences",
                case + 1 - plan.first,
                plan.cases,
                start.elapsed(),
                findings.len()
            ));
        }
    }
    findings
}

/// Each sequence has its own generator, so that one can be repeated alone.
fn runner(seed: u64, case: u64) -> TestRunner {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..16].copy_from_slice(&case.to_le_bytes());
    let config = Config {
        failure_persistence: None,
        ..Config::default()
    };
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}

type Tree = <BoxedStrategy<Vec<Step>> as proptest::strategy::Strategy>::Tree;

/// Makes the sequence smaller as long as it shows any difference.
async fn shrink(
    programs: &Programs,
    pair: &mut Pair,
    case: u64,
    tree: &mut Tree,
    difference: Difference,
) -> Finding {
    let start = Instant::now();
    let mut finding = Finding {
        case,
        steps: tree.current(),
        difference,
        shows_on: None,
    };
    for age in [Age::Fresh, Age::Compacted] {
        *pair = Pair::start(programs, age).await;
        if let Err(difference) = pair.run(&finding.steps).await {
            finding.difference = difference;
            finding.shows_on = Some(age);
            break;
        }
    }
    let Some(age) = finding.shows_on else {
        return finding;
    };
    let (mut failed, mut differed) = (true, true);
    loop {
        let smaller = if failed {
            tree.simplify()
        } else {
            tree.complicate()
        };
        if !smaller || start.elapsed() > SHRINK {
            break;
        }
        repair(programs, age, pair, differed).await;
        differed = false;
        match pair.run(&tree.current()).await {
            Ok(()) => failed = false,
            Err(difference) => {
                // Another difference on the way to a smaller sequence is left for its own turn.
                failed = difference.kind() == finding.difference.kind();
                differed = true;
                if !failed {
                    continue;
                }
                finding.steps = tree.current();
                finding.difference = difference;
            }
        }
    }
    repair(programs, age, pair, differed).await;
    finding
}

/// Makes a pair that has shown a difference fit for another sequence, or takes a fresh one.
async fn repair(programs: &Programs, age: Age, pair: &mut Pair, differed: bool) {
    if differed && (pair.deaths().is_some() || pair.clean().await.is_err()) {
        *pair = Pair::start(programs, age).await;
    }
}

/// A fresh pair after so many: a young store is a case of its own.
const SEQUENCES_PER_PAIR: u64 = 400;
/// How long one difference may be made smaller.
const SHRINK: Duration = Duration::from_secs(60);
/// How often a long search says how far it is.
const TELL: Duration = Duration::from_secs(20);

//! Differential test of auth: random users, roles, grants and logins, and the calls of those users, on Taffrail and on
//! a real etcd side by side. Both see the same in the same order, so every answer and every refusal must be equal, the
//! auth revision and the store's at every step, and at the end all users, roles and the hash of the history.
//!
//! The variables of `diff.rs` count here too: `TAFFRAIL_DIFF_CASES`, `_SEED`, `_FIRST`.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "diff_auth/duo.rs"]
mod duo;
#[allow(dead_code, reason = "shared with the other differential test")]
#[path = "diff/mod.rs"]
mod rig;
#[path = "diff_auth/run.rs"]
mod run;
#[path = "diff_auth/steps.rs"]
mod steps;

use std::path::PathBuf;

use duo::{Duo, Tokens};
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use rig::{programs, say};
use steps::Step;

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn simple_tokens() {
    search("diff_auth::simple_tokens", Tokens::Simple).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signed_tokens() {
    search("diff_auth::signed_tokens", Tokens::Signed).await;
}

/// A comparison that has never failed proves nothing: one server is made to allow one thing that it refuses.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_planted_difference_is_found_and_made_small() {
    let taffrail = programs::taffrail();
    let plan = Plan {
        programs: [taffrail.clone(), taffrail],
        tokens: Tokens::Simple,
        lies: true,
        seed: 1,
        first: 0,
        cases: CASES,
    };
    let (steps, difference) = plan.search().await.expect("the lie is found");
    // A user with a role, root, and the watch that is refused: the rest was not needed.
    assert!(steps.len() <= 8, "{}", text(&steps));
    assert!(difference.contains("Watch("), "{difference}");
}

async fn search(test: &str, tokens: Tokens) {
    let Some(etcd) = programs::etcd(test) else {
        return;
    };
    let plan = Plan {
        programs: [etcd.path, programs::taffrail()],
        tokens,
        lies: false,
        seed: number("TAFFRAIL_DIFF_SEED", 1),
        first: number("TAFFRAIL_DIFF_FIRST", 0),
        cases: number("TAFFRAIL_DIFF_CASES", CASES),
    };
    if let Some((steps, difference)) = plan.search().await {
        panic!("{difference}\nThe smallest sequence:\n{}", text(&steps));
    }
}

/// What to search.
struct Plan {
    programs: [PathBuf; 2],
    tokens: Tokens,
    lies: bool,
    seed: u64,
    first: u64,
    cases: u64,
}

impl Plan {
    /// The first difference, with the smallest sequence that shows it.
    async fn search(&self) -> Option<(Vec<Step>, String)> {
        let mut duo = self.start().await;
        for case in self.first..self.first + self.cases {
            let tree = steps::sequences().new_tree(&mut runner(self.seed, case)).unwrap();
            let Err(difference) = duo.run(&tree.current()).await else {
                continue;
            };
            say(&format!(
                "sequence {case} of seed {} differs: {difference}",
                self.seed
            ));
            let mut found = (tree.current(), difference);
            // From the last step on: those behind the difference go first.
            for at in (0..found.0.len()).rev() {
                let mut fewer = found.0.clone();
                fewer.remove(at);
                duo = self.start().await;
                if let Err(difference) = duo.run(&fewer).await {
                    found = (fewer, difference);
                }
            }
            return Some(found);
        }
        None
    }

    async fn start(&self) -> Duo {
        Duo::start(&self.programs, self.tokens, self.lies).await
    }
}

fn text(steps: &[Step]) -> String {
    steps.iter().map(|step| format!("{step}\n")).collect()
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

/// Sequences where the variable does not say otherwise.
const CASES: u64 = 60;

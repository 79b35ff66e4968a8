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

async fn search(test: &str, tokens: Tokens) {
    let Some(etcd) = programs::etcd(test) else {
        return;
    };
    let programs = [etcd.path, programs::taffrail()];
    let (seed, first) = (number("TAFFRAIL_DIFF_SEED", 1), number("TAFFRAIL_DIFF_FIRST", 0));
    let cases = number("TAFFRAIL_DIFF_CASES", CASES);
    let mut duo = Duo::start(&programs, tokens).await;
    for case in first..first + cases {
        let mut tree = steps::sequences().new_tree(&mut runner(seed, case)).unwrap();
        let Err(difference) = duo.run(&tree.current()).await else {
            continue;
        };
        say(&format!(
            "sequence {case} differs, made smaller now: {difference}"
        ));
        let (mut steps, mut shown) = (tree.current(), difference);
        let mut failed = true;
        for _ in 0..SIMPLIFICATIONS {
            let goes_on = if failed {
                tree.simplify()
            } else {
                tree.complicate()
            };
            if !goes_on {
                break;
            }
            duo = Duo::start(&programs, tokens).await;
            let ran = duo.run(&tree.current()).await;
            failed = ran.is_err();
            if let Err(difference) = ran {
                (steps, shown) = (tree.current(), difference);
            }
        }
        panic!(
            "a difference at TAFFRAIL_DIFF_SEED={seed} TAFFRAIL_DIFF_FIRST={case}:\n{}\n{shown}",
            steps.iter().map(Step::to_string).collect::<Vec<_>>().join("\n")
        );
    }
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
/// How many smaller sequences are tried; each begins on newly started servers.
const SIMPLIFICATIONS: usize = 60;

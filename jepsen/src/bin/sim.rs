//! Runs the engine in the simulator: `sim [FIRST [COUNT]]` runs COUNT seeds from FIRST on (300 from 0); `sim --trace
//! SEED` runs one and prints the end of its trace. Each failing seed is printed with the command that repeats it; the
//! exit code is 1 where one failed, 2 where the arguments make no sense.

use std::process::ExitCode;

use jepsen::sim::engine::Engine;
use jepsen::sim::{Plan, RunReport, run};
use store::shell::sim::Bugs;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse::<u64>().ok();
    match words[..] {
        ["--trace", seed] => number(seed).map_or_else(usage, trace),
        [] => many(0, SEEDS),
        [first] => number(first).map_or_else(usage, |first| many(first, SEEDS)),
        [first, count] => match (number(first), number(count)) {
            (Some(first), Some(count)) => many(first, count),
            _ => usage(),
        },
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: sim [FIRST [COUNT]] | sim --trace SEED");
    ExitCode::from(2)
}

fn one(plan: &Plan) -> RunReport {
    run(plan, vec![Box::new(Engine::small(plan.seed, Bugs::default()))])
}

fn trace(seed: u64) -> ExitCode {
    let report = one(&Plan {
        trace_lines: TRACE_LINES,
        ..Plan::new(seed)
    });
    println!("{report}");
    if report.failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn many(first: u64, count: u64) -> ExitCode {
    let (mut steps, mut crashes, mut failed) = (0, 0, 0);
    for seed in first..first.saturating_add(count) {
        let report = one(&Plan::new(seed));
        steps += report.steps;
        crashes += report.crashes;
        if !report.failures.is_empty() {
            failed += 1;
            println!("{report}  repeat with: cargo run -p jepsen --bin sim -- --trace {seed}");
        }
    }
    println!("{count} seeds from {first}: {steps} steps, {crashes} crashes, {failed} failed");
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// How many seeds are run where nobody says otherwise.
const SEEDS: u64 = 300;
/// How much of a trace is printed.
const TRACE_LINES: usize = 2000;

//! Runs the engine in the simulator, on all cores: `sim [--members N] [FIRST [COUNT]]` runs COUNT seeds from FIRST on
//! (300 from 0), each with the members that the seed says (1, 3 or 5; or 3 of which some go and others come) or with N, or
//! with `--changing` all with such; `sim [--members N] --trace SEED` runs one and prints the end of its trace. Each failing seed is printed with the command that repeats it; the exit code is 1
//! where one failed, 2 where the arguments make no sense.

use std::panic::catch_unwind;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;

use jepsen::sim::engine::Engine;
use jepsen::sim::{Plan, RunReport, run};
use store::shell::sim::Bugs;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse::<u64>().ok();
    let mut members = None;
    if let ["--members", count, ..] = words[..] {
        match number(count).and_then(|count| usize::try_from(count).ok()) {
            Some(count @ 1..=MEMBERS_MAX) => members = Some(Cluster::Of(count)),
            _ => return usage(),
        }
        words.drain(..2);
    } else if let ["--changing", ..] = words[..] {
        members = Some(Cluster::Changing);
        words.remove(0);
    }
    match words[..] {
        ["--trace", seed] => number(seed).map_or_else(usage, |seed| trace(members, seed)),
        [] => many(members, 0, SEEDS),
        [first] => number(first).map_or_else(usage, |first| many(members, first, SEEDS)),
        [first, count] => match (number(first), number(count)) {
            (Some(first), Some(count)) => many(members, first, count),
            _ => usage(),
        },
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    eprintln!(
        "usage: sim [--members N | --changing] [FIRST [COUNT]] | sim [--members N | --changing] --trace SEED"
    );
    ExitCode::from(2)
}

/// Which members a run has.
#[derive(Clone, Copy)]
enum Cluster {
    /// So many.
    Of(usize),
    /// Some go and others come.
    Changing,
}

impl std::fmt::Display for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Cluster::Of(members) => write!(f, "--members {members}"),
            Cluster::Changing => write!(f, "--changing"),
        }
    }
}

/// The members of a seed where nobody says otherwise.
const fn members_of(seed: u64) -> Cluster {
    match seed % 10 {
        0 | 5 => Cluster::Of(1),
        1 | 6 | 7 => Cluster::Of(5),
        3 | 8 => Cluster::Of(3),
        _ => Cluster::Changing,
    }
}

fn one(members: Option<Cluster>, seed: u64, trace_lines: usize) -> RunReport {
    let bugs = Bugs::default();
    let (plan, members) = match members.unwrap_or(members_of(seed)) {
        Cluster::Of(members) => (Plan::of(members, seed), Engine::cluster(members, seed, bugs)),
        Cluster::Changing => (Plan::changing(seed), Engine::changing(seed, bugs)),
    };
    let plan = Plan { trace_lines, ..plan };
    run(&plan, members)
}

fn trace(members: Option<Cluster>, seed: u64) -> ExitCode {
    let report = one(members, seed, TRACE_LINES);
    println!("{report}");
    if report.failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// The sum of many runs, to see that they were not asleep.
#[derive(Default)]
struct Totals {
    runs: u64,
    failed: u64,
    steps: u64,
    answers: u64,
    elections: u64,
    snapshots: u64,
    crashes: u64,
    pauses: u64,
    partitions: u64,
    hand_overs: u64,
    stalls: u64,
    empty_disks: u64,
    full_disks: u64,
    rotten: u64,
    refusals: u64,
    changes: u64,
    joins: u64,
    sent: u64,
    dropped: u64,
    duplicated: u64,
}

impl Totals {
    fn add(&mut self, report: &RunReport) {
        self.runs += 1;
        self.failed += u64::from(!report.failures.is_empty());
        self.steps += report.steps;
        self.answers += report.answered;
        self.elections += report.elections;
        self.snapshots += report.snapshots;
        self.crashes += report.crashes;
        self.pauses += report.pauses;
        self.partitions += report.partitions;
        self.hand_overs += report.hand_overs;
        self.stalls += report.stalls;
        self.empty_disks += report.empty_disks;
        self.full_disks += report.full_disks;
        self.rotten += report.rotten;
        self.refusals += report.refusals;
        self.changes += report.changes;
        self.joins += report.joins;
        self.sent += report.traffic.sent;
        self.dropped += report.traffic.dropped;
        self.duplicated += report.traffic.duplicated;
    }

    fn print(&self, first: u64) {
        println!(
            "{} seeds from {first}: {} steps, {} answers, {} elections, {} snapshots installed, {} crashes, \
             {} pauses, {} partitions, {} hand-overs, {} stalls, {} empty disks, {} full ones, {} changed ({} refused), {} changes, {} joins, {} messages ({} lost, {} doubled), {} failed",
            self.runs,
            self.steps,
            self.answers,
            self.elections,
            self.snapshots,
            self.crashes,
            self.pauses,
            self.partitions,
            self.hand_overs,
            self.stalls,
            self.empty_disks,
            self.full_disks,
            self.rotten,
            self.refusals,
            self.changes,
            self.joins,
            self.sent,
            self.dropped,
            self.duplicated,
            self.failed
        );
    }
}

fn many(members: Option<Cluster>, first: u64, count: u64) -> ExitCode {
    let end = first.saturating_add(count);
    let next = AtomicU64::new(first);
    let (reports, done) = mpsc::channel();
    let mut totals = Totals::default();
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            let (next, reports) = (&next, reports.clone());
            scope.spawn(move || {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        break;
                    }
                    // A run that panics is a failed run, and the others go on.
                    let report = catch_unwind(|| one(members, seed, 0)).ok();
                    if reports.send((seed, report)).is_err() {
                        break;
                    }
                }
            });
        }
        drop(reports);
        for (seed, report) in done {
            let failed = report.as_ref().is_none_or(|report| !report.failures.is_empty());
            match &report {
                Some(report) => totals.add(report),
                None => {
                    totals.runs += 1;
                    totals.failed += 1;
                }
            }
            if failed {
                let members = members.unwrap_or(members_of(seed));
                let report =
                    report.map_or_else(|| format!("seed {seed} panicked\n"), |report| report.to_string());
                println!("{report}  repeat with: cargo run -p jepsen --bin sim -- {members} --trace {seed}");
            }
        }
    });
    totals.print(first);
    if totals.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// How many seeds are run where nobody says otherwise.
const SEEDS: u64 = 300;
/// How much of a trace is printed.
const TRACE_LINES: usize = 20_000;
/// The most members of a cluster.
const MEMBERS_MAX: usize = 9;

//! Two servers in turns under the same loads.
//!
//! Each measurement has a server of its own, of one member or several: started on empty directories, bound to one
//! processor, loaded from another, ended. Rounds alternate between the servers, so that a drift of the machine hits both; the table shows the
//! median of the rounds. No process is ended but those started here.

mod loads;
mod table;

use std::path::{Path, PathBuf};

use serde::Serialize;

pub use loads::Load;
pub use table::Figures;
pub(crate) use table::median;

use crate::args::CompareArgs;
use crate::cluster::{Cluster, Program};
use crate::interrupt::interruptible;
use crate::process::{Cores, pin_generator};
use crate::report::Report;
use crate::{Error, run as single};
pub(crate) use loads::Common;

/// A comparison as plain data.
#[derive(Debug)]
pub struct Plan {
    candidates: Vec<Candidate>,
    members: usize,
    loads: Vec<Load>,
    rounds: usize,
    common: Common,
    cores: Option<Cores>,
    work_dir: PathBuf,
}

/// A program to compare.
#[derive(Debug)]
struct Candidate {
    /// In the table's head.
    label: &'static str,
    program: Program,
}

/// The result of a comparison.
#[derive(Debug, Serialize)]
pub struct Comparison {
    /// What was compared, in the order of the sides of each row.
    pub servers: Vec<ServerInfo>,
    /// Members of each server.
    pub members: usize,
    /// Measurements of each load on each server.
    pub rounds: usize,
    /// Length of a measurement.
    pub duration_seconds: f64,
    /// Clients that shared a connection.
    pub clients_per_conn: usize,
    /// Whether server and generator had a processor each.
    pub pinned: bool,
    /// One per load.
    pub rows: Vec<Row>,
}

/// A server that was compared.
#[derive(Debug, Clone, Serialize)]
pub struct ServerInfo {
    /// In the table's head.
    pub label: String,
    /// The binary.
    pub path: PathBuf,
    /// As it says itself.
    pub version: String,
}

/// A load on all servers.
#[derive(Debug, Serialize)]
pub struct Row {
    /// The load's name.
    pub load: String,
    /// In the order of the servers.
    pub sides: Vec<Side>,
}

/// A load on one server.
#[derive(Debug, Serialize)]
pub struct Side {
    /// Over the rounds.
    pub median: Figures,
    /// The rounds that could be measured.
    pub rounds: Vec<Report>,
    /// Why the others could not.
    pub failures: Vec<String>,
}

impl Plan {
    /// Resolves the flags against this machine, and says what of it falls short of a full comparison.
    ///
    /// # Errors
    /// A binary that was asked for is not there.
    pub fn new(args: &CompareArgs) -> Result<Self, Error> {
        let mut candidates = Vec::new();
        match &args.etcd {
            Some(path) => candidates.push(candidate("etcd", path, &args.etcd_arg)?),
            None => match find_in_path("etcd") {
                Some(path) => candidates.push(candidate("etcd", &path, &args.etcd_arg)?),
                None => eprintln!("etcd: skipped, not found in PATH (name one with --etcd)"),
            },
        }
        candidates.push(candidate("taffrail", &args.taffrail, &args.taffrail_arg)?);
        let loads = if args.loads.is_empty() {
            Load::defaults(args.members)
        } else {
            args.loads.clone()
        };
        Ok(Self {
            candidates,
            members: args.members,
            loads,
            rounds: args.rounds,
            common: Common {
                clients_per_conn: args.clients_per_conn,
                duration: args.duration,
                warmup: args.warmup,
                seed: args.seed,
            },
            cores: args.machine.cores(),
            work_dir: args.machine.work_dir(),
        })
    }
}

/// Runs a comparison. SIGINT and SIGTERM end it, and the server under way with it.
///
/// # Errors
/// A server that does not start, or a signal. A load that fails on one server is part of the result.
pub async fn run(plan: &Plan) -> Result<Comparison, Error> {
    interruptible(measure_all(plan)).await
}

async fn measure_all(plan: &Plan) -> Result<Comparison, Error> {
    pin_generator(plan.cores)?;
    let mut servers = Vec::new();
    for candidate in &plan.candidates {
        let info = inspect(plan, candidate).await?;
        eprintln!("{}: {} {}", info.label, info.path.display(), info.version);
        servers.push(info);
    }
    let mut rows = Vec::new();
    for &load in &plan.loads {
        rows.push(measure_load(plan, load).await?);
    }
    Ok(Comparison {
        servers,
        members: plan.members,
        rounds: plan.rounds,
        duration_seconds: plan.common.duration.as_secs_f64(),
        clients_per_conn: plan.common.clients_per_conn,
        pinned: plan.cores.is_some(),
        rows,
    })
}

async fn inspect(plan: &Plan, candidate: &Candidate) -> Result<ServerInfo, Error> {
    let server = start(plan, candidate).await?;
    let version = server.status(0).await?.version;
    Ok(ServerInfo {
        label: candidate.label.to_owned(),
        path: candidate.program.path.clone(),
        version,
    })
}

async fn measure_load(plan: &Plan, load: Load) -> Result<Row, Error> {
    let mut outcomes: Vec<(Vec<Report>, Vec<String>)> = Vec::new();
    outcomes.resize_with(plan.candidates.len(), Default::default);
    for round in 1..=plan.rounds {
        for (candidate, (reports, failures)) in plan.candidates.iter().zip(&mut outcomes) {
            let server = start(plan, candidate).await?;
            let spec = load.spec(&plan.common, server.endpoints_from_leader().await?, server.pids());
            let outcome = single::run(&spec, true).await;
            drop(server);
            let head = format!("{} on {}, round {round}", load.name(), candidate.label);
            match outcome {
                Ok(report) => {
                    eprintln!("{head}: {:.0} op/s", report.operations_per_second);
                    for line in report.error_lines() {
                        eprintln!("{head}: {line}");
                    }
                    reports.push(report);
                }
                Err(error) => {
                    eprintln!("{head}: {error}");
                    failures.push(error.to_string());
                }
            }
        }
    }
    let sides = outcomes.into_iter().map(|(rounds, failures)| Side {
        median: Figures::of(&rounds),
        rounds,
        failures,
    });
    Ok(Row {
        load: load.name(),
        sides: sides.collect(),
    })
}

async fn start(plan: &Plan, candidate: &Candidate) -> Result<Cluster, Error> {
    let core = plan.cores.map(|cores| cores.server);
    Cluster::start(&candidate.program, plan.members, &plan.work_dir, core).await
}

impl Comparison {
    /// Whether some measurement could not be made, or only with less load than was asked for.
    #[must_use]
    pub fn has_failures(&self) -> bool {
        let cut_off = |report: &Report| report.clients_given_up > 0;
        let mut sides = self.rows.iter().flat_map(|row| &row.sides);
        sides.any(|side| !side.failures.is_empty() || side.rounds.iter().any(cut_off))
    }
}

fn candidate(label: &'static str, path: &Path, further_args: &[String]) -> Result<Candidate, Error> {
    let program = Program::new(path, further_args)?;
    Ok(Candidate { label, program })
}

fn find_in_path(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|dir| dir.join(program))
        .find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_in_path() {
        assert!(find_in_path("sh").is_some());
        assert!(find_in_path("no-such-program-anywhere").is_none());
    }
}

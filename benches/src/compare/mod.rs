//! Two servers in turns under the same loads.
//!
//! Each measurement has a server of its own: started on an empty directory, bound to one processor, loaded from
//! another, ended. Rounds alternate between the servers, so that a drift of the machine hits both; the table shows the
//! median of the rounds. No process is ended but those started here.

mod loads;
mod server;
mod table;

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

pub use loads::Load;
pub use server::Candidate;
pub use table::Figures;

use crate::args::CompareArgs;
use crate::report::Report;
use crate::{Error, process, run as single};
use loads::Common;
use server::Server;

/// A comparison as plain data.
#[derive(Debug)]
pub struct Plan {
    candidates: Vec<Candidate>,
    loads: Vec<Load>,
    rounds: usize,
    common: Common,
    cores: Option<Cores>,
    work_dir: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cores {
    server: usize,
    load: usize,
}

/// The result of a comparison.
#[derive(Debug, Serialize)]
pub struct Comparison {
    /// What was compared, in the order of the sides of each row.
    pub servers: Vec<ServerInfo>,
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
        let cores = choose_cores(args.server_core, args.load_core, &process::allowed_cores());
        if cores.is_none() {
            eprintln!(
                "processors {} and {} are not both ours: neither server nor generator is bound to one",
                args.server_core, args.load_core
            );
        }
        let loads = if args.loads.is_empty() {
            Load::value_variants().to_vec()
        } else {
            args.loads.clone()
        };
        Ok(Self {
            candidates,
            loads,
            rounds: args.rounds,
            common: Common {
                clients_per_conn: args.clients_per_conn,
                duration: args.duration,
                warmup: args.warmup,
                seed: args.seed,
            },
            cores,
            work_dir: args.work_dir.clone().unwrap_or_else(std::env::temp_dir),
        })
    }
}

/// Runs a comparison. SIGINT and SIGTERM end it, and the server under way with it.
///
/// # Errors
/// A server that does not start, or a signal. A load that fails on one server is part of the result.
pub async fn run(plan: &Plan) -> Result<Comparison, Error> {
    let failed = |source| Error::System {
        what: "listen for signals",
        source,
    };
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    tokio::select! {
        outcome = measure_all(plan) => outcome,
        _ = interrupt.recv() => Err(Error::Interrupted),
        _ = terminate.recv() => Err(Error::Interrupted),
    }
}

async fn measure_all(plan: &Plan) -> Result<Comparison, Error> {
    if let Some(cores) = plan.cores
        && !process::pin_thread(cores.load)
    {
        return Err(Error::System {
            what: "bind the generator to its processor",
            source: std::io::Error::last_os_error(),
        });
    }
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
        rounds: plan.rounds,
        duration_seconds: plan.common.duration.as_secs_f64(),
        clients_per_conn: plan.common.clients_per_conn,
        pinned: plan.cores.is_some(),
        rows,
    })
}

async fn inspect(plan: &Plan, candidate: &Candidate) -> Result<ServerInfo, Error> {
    let server = start(plan, candidate).await?;
    let version = server.version().await?;
    server.stop().await?;
    Ok(ServerInfo {
        label: candidate.label.clone(),
        path: candidate.path.clone(),
        version,
    })
}

async fn measure_load(plan: &Plan, load: Load) -> Result<Row, Error> {
    let mut outcomes: Vec<(Vec<Report>, Vec<String>)> = Vec::new();
    outcomes.resize_with(plan.candidates.len(), Default::default);
    for round in 1..=plan.rounds {
        for (candidate, (reports, failures)) in plan.candidates.iter().zip(&mut outcomes) {
            let server = start(plan, candidate).await?;
            let spec = load.spec(&plan.common, server.endpoint(), server.pid());
            let outcome = single::run(&spec, true).await;
            server.stop().await?;
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

async fn start(plan: &Plan, candidate: &Candidate) -> Result<Server, Error> {
    let core = plan.cores.map(|cores| cores.server);
    Server::start(candidate, &plan.work_dir, core).await
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

fn candidate(label: &str, path: &Path, further_args: &[String]) -> Result<Candidate, Error> {
    // Absolute, so that it is never searched for in PATH.
    let found = std::fs::metadata(path).and_then(|_| std::path::absolute(path));
    let path = found.map_err(|source| Error::File {
        what: "find",
        path: path.to_owned(),
        source,
    })?;
    Ok(Candidate {
        label: label.to_owned(),
        path,
        further_args: further_args.to_vec(),
    })
}

fn find_in_path(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|dir| dir.join(program))
        .find(|path| path.is_file())
}

/// Both processors or none: half a binding would compare nothing.
fn choose_cores(server: usize, load: usize, allowed: &[usize]) -> Option<Cores> {
    let both = server != load && allowed.contains(&server) && allowed.contains(&load);
    both.then_some(Cores { server, load })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_bound_together_or_not_at_all() {
        let expected = Some(Cores { server: 0, load: 1 });
        assert_eq!(choose_cores(0, 1, &[0, 1]), expected);
        assert_eq!(choose_cores(0, 1, &[0]), None);
        assert_eq!(choose_cores(1, 1, &[0, 1]), None);
    }

    #[test]
    fn a_missing_binary_is_an_error_with_its_path() {
        let missing = candidate("etcd", Path::new("/not/there"), &[]).unwrap_err();
        assert_eq!(missing.to_string(), "cannot find /not/there");
        assert!(find_in_path("sh").is_some());
        assert!(find_in_path("no-such-program-anywhere").is_none());
    }
}

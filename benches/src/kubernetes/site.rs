//! A store of one member with the adapter, in its process or in one of its own, all on one processor.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::http::{Connection, Wire};
use crate::Error;
use crate::cluster::{Cluster, Process, Program, STARTS_MAX, free_ports, tells_of_taken_port};
use crate::process::{Cores, Machine, pin_generator};
use crate::transport::Endpoint;

/// Where the adapter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Seating {
    /// In the store's process.
    Within,
    /// In a process of its own.
    Alone,
}

/// What every measurement of the adapter takes.
#[derive(Debug, Args)]
pub struct SiteArgs {
    /// Taffrail's binary.
    #[arg(long, default_value = "./target/release/taffrail")]
    pub binary: PathBuf,
    /// Further flag for the store; may be repeated.
    #[arg(long, allow_hyphen_values = true)]
    pub server_arg: Vec<String>,
    /// Where it all runs.
    #[command(flatten)]
    pub machine: Machine,
}

/// The same as plain data.
#[derive(Debug)]
pub(super) struct SitePlan {
    program: Program,
    seating: Seating,
    cores: Option<Cores>,
    work_dir: PathBuf,
}

/// Running processes. Dropping it ends them.
pub(super) struct Site {
    /// Before the store, so that it is ended before.
    adapter: Option<Process>,
    store: Cluster,
    kubernetes: Endpoint,
}

impl SitePlan {
    pub(super) fn new(args: &SiteArgs, seating: Seating) -> Result<Self, Error> {
        Ok(Self {
            program: Program::new(&args.binary, &args.server_arg)?,
            seating,
            cores: args.machine.cores(),
            work_dir: args.machine.work_dir(),
        })
    }

    /// The binary.
    pub(super) fn path(&self) -> PathBuf {
        self.program.path.clone()
    }

    pub(super) fn seating(&self) -> Seating {
        self.seating
    }

    /// Whether servers and generator have a processor each.
    pub(super) fn is_pinned(&self) -> bool {
        self.cores.is_some()
    }
}

impl Site {
    /// Starts the processes, and waits until the adapter is ready.
    pub(super) async fn start(plan: &SitePlan) -> Result<Self, Error> {
        pin_generator(plan.cores)?;
        let mut starts = 1;
        loop {
            match Self::start_once(plan).await {
                Err(Error::NotReady { log, .. }) if starts < STARTS_MAX && tells_of_taken_port(&log) => {
                    starts += 1;
                }
                outcome => return outcome,
            }
        }
    }

    async fn start_once(plan: &SitePlan) -> Result<Self, Error> {
        let core = plan.cores.map(|cores| cores.server);
        let port = free_ports(1)?[0];
        let url = format!("http://127.0.0.1:{port}");
        let mut program = plan.program.clone();
        if plan.seating == Seating::Within {
            program.further_args.push(format!("--apiserver-listen={url}"));
        }
        let store = Cluster::start(&program, 1, &plan.work_dir, core).await?;
        let adapter = match plan.seating {
            Seating::Within => None,
            Seating::Alone => {
                let servers = format!("http://{}", store.endpoint(0));
                let args = ["apiserver", "--etcd-servers", &servers, "--listen", &url];
                Some(store.start_beside("adapter", &args.map(OsString::from))?)
            }
        };
        let mut site = Self {
            adapter,
            store,
            kubernetes: url.parse().expect("address and port make an endpoint"),
        };
        site.ready().await?;
        Ok(site)
    }

    async fn ready(&mut self) -> Result<(), Error> {
        let deadline = Instant::now() + READY_MAX;
        loop {
            self.store.check_running(0)?;
            if let Some(adapter) = &mut self.adapter
                && let Some(how) = adapter.ended()?
            {
                return Err(self.not_ready(format!("the adapter ended with {how}")));
            }
            if self.answers().await {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(self.not_ready(format!("the adapter is not ready within {READY_MAX:?}")));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn answers(&self) -> bool {
        match Connection::open(&self.kubernetes, Wire::Http1).await {
            Ok(mut connection) => connection.get("/readyz").await.is_ok(),
            Err(_) => false,
        }
    }

    fn not_ready(&self, reason: String) -> Error {
        match (&self.adapter, self.store.not_ready(0, reason)) {
            (Some(adapter), Error::NotReady { path, reason, .. }) => Error::NotReady {
                path,
                reason,
                log: adapter.log_tail(),
            },
            (_, error) => error,
        }
    }

    /// Where the adapter listens.
    pub(super) fn kubernetes(&self) -> &Endpoint {
        &self.kubernetes
    }

    /// Where the store listens.
    pub(super) fn store(&self) -> Endpoint {
        self.store.endpoint(0)
    }

    /// As the store says itself.
    pub(super) async fn version(&self) -> Result<String, Error> {
        Ok(self.store.status(0).await?.version)
    }

    /// The process that the adapter is in.
    pub(super) fn adapter_pid(&self) -> u32 {
        let own = self.adapter.as_ref().map(Process::pid);
        own.unwrap_or_else(|| self.store_pid())
    }

    /// The process that the store is in.
    pub(super) fn store_pid(&self) -> u32 {
        let pids = self.store.pids();
        *pids
            .first()
            .expect("the store has one process, until it is dropped")
    }

    /// All processes.
    pub(super) fn pids(&self) -> Vec<u32> {
        let adapter = self.adapter.as_ref().map(Process::pid);
        self.store.pids().into_iter().chain(adapter).collect()
    }
}

/// From the start of the store to the first answer of the adapter.
const READY_MAX: Duration = Duration::from_secs(30);
/// Between two questions.
const POLL: Duration = Duration::from_millis(20);

//! What calls of the Kubernetes API cost, beside the store's own calls that they come to.
//!
//! One server, one load at a time, from another processor. In each round every call is made for a while, those of the
//! adapter next to the store's, so that a drift of the machine hits both. A GET is a range of one key for the store, a
//! list one range, a patch a range and a transaction, a creation a range (of the namespace) and a transaction; what the
//! adapter adds is the difference within a round. The store's calls go over gRPC, the adapter's over HTTP, as those of
//! their clients do: what the adapter adds is therefore HTTP against gRPC as well.

mod call;
mod table;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Args;
use proto::etcdserverpb::DeleteRangeRequest;
use serde::Serialize;
use tokio::task::JoinSet;
use tonic::Status;

pub use self::call::Call;
use self::call::{Caller, LISTED, POSTED, Scene, keys};
use super::http::{Connection, Wire};
use super::pod::{self, Template};
use super::site::{Seating, Site, SiteArgs, SitePlan};
use crate::Error;
use crate::args::{Output, duration, positive};
use crate::interrupt::interruptible;
use crate::progress::Progress;
use crate::report::{Usage, per_operation_us};
use crate::run::{FAILURES_IN_A_ROW_MAX, supervise};
use crate::spec::Limit;
use crate::tally::{Budget, Tally};

/// What the measurement takes.
#[derive(Debug, Args)]
pub struct CostsArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub site: SiteArgs,
    /// Where the adapter is; alone, the processor time is that of both processes.
    #[arg(long, value_enum, default_value_t = Seating::Within)]
    pub adapter: Seating,
    /// Pods of a list.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u16).range(1..))]
    pub pods: u16,
    /// Clients, each with a connection of its own and one call under way.
    #[arg(long, default_value_t = 1, value_parser = positive)]
    pub clients: usize,
    /// How often each call is measured; the median is shown.
    #[arg(long, default_value_t = 5, value_parser = positive)]
    pub rounds: usize,
    /// Length of a measurement.
    #[arg(long, value_parser = duration, default_value = "3s")]
    pub duration: Duration,
    /// The same call before each measurement.
    #[arg(long, value_parser = duration, default_value = "500ms")]
    pub warmup: Duration,
    /// Form of the result.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

/// The measurement as plain data.
#[derive(Debug)]
pub struct Plan {
    site: SitePlan,
    pods: u16,
    clients: usize,
    rounds: usize,
    duration: Duration,
    warmup: Duration,
}

/// The result.
#[derive(Debug, Serialize)]
pub struct Costs {
    /// The binary.
    pub path: PathBuf,
    /// As the store says itself.
    pub version: String,
    /// Where the adapter was.
    pub adapter: Seating,
    /// Whether server and generator had a processor each.
    pub pinned: bool,
    /// Clients, each with one call under way.
    pub clients: usize,
    /// Pods of a list.
    pub pods: u16,
    /// Bytes of a list.
    pub list_bytes: usize,
    /// One for each call.
    pub rows: Vec<Row>,
}

/// A call in all rounds.
#[derive(Debug, Serialize)]
pub struct Row {
    /// Which.
    pub call: Call,
    /// In order of time.
    pub rounds: Vec<Round>,
}

/// A call in one round.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Round {
    /// Calls that succeeded.
    pub calls: u64,
    /// Calls that failed.
    pub errors: u64,
    /// Successful calls by time.
    pub calls_per_second: f64,
    /// Processor time of the servers by successful call.
    pub cpu_us_per_call: Option<f64>,
    /// Median latency.
    pub p50_ms: f64,
    /// 99 % of the calls took no longer.
    pub p99_ms: f64,
    /// Share of its processor that the generator used.
    pub generator_cpu_percent: f64,
}

impl Plan {
    /// Resolves the flags against this machine.
    ///
    /// # Errors
    /// The binary is not there.
    pub fn new(args: &CostsArgs) -> Result<Self, Error> {
        Ok(Self {
            site: SitePlan::new(&args.site, args.adapter)?,
            pods: args.pods,
            clients: args.clients,
            rounds: args.rounds,
            duration: args.duration,
            warmup: args.warmup,
        })
    }
}

/// Measures all calls. SIGINT and SIGTERM end it, and the servers with it.
///
/// # Errors
/// Servers that do not start, a call that never succeeds, or a signal.
pub async fn run(plan: &Plan) -> Result<Costs, Error> {
    interruptible(measure_all(plan)).await
}

async fn measure_all(plan: &Plan) -> Result<Costs, Error> {
    let site = Site::start(&plan.site).await?;
    let version = site.version().await?;
    eprintln!("{} {version}", plan.site.path().display());
    let (scene, list_bytes) = furnish(&site, plan.pods).await?;
    let scene = Arc::new(scene);
    let rows = Call::ALL.map(|call| Row {
        call,
        rounds: Vec::new(),
    });
    let mut rows = Vec::from(rows);
    for round in 1..=plan.rounds {
        for row in &mut rows {
            let measured = measure(plan, &site, &scene, row.call).await?;
            let cpu = measured.cpu_us_per_call.unwrap_or_default();
            eprintln!("{}, round {round}: {cpu:.1} us", row.call.name());
            row.rounds.push(measured);
        }
        // Else the last round would be that of a larger store.
        clear(&site).await?;
    }
    Ok(Costs {
        path: plan.site.path(),
        version,
        adapter: plan.site.seating(),
        pinned: plan.site.is_pinned(),
        clients: plan.clients,
        pods: plan.pods,
        list_bytes,
        rows,
    })
}

/// Makes the namespaces and the pods, through the adapter; with them come the bytes of a list.
async fn furnish(site: &Site, pods: u16) -> Result<(Scene, usize), Error> {
    let failed = |source| Error::Call {
        what: "making the pods of a list",
        source: Box::new(source),
    };
    let mut connection = Connection::open(site.kubernetes(), Wire::Http1).await?;
    for name in [LISTED, POSTED] {
        let namespace = pod::namespace(name);
        let made = connection.post("/api/v1/namespaces", namespace).await;
        made.map_err(failed)?;
    }
    let template = Template::new();
    let collection = pod::collection(LISTED);
    let names: Vec<String> = (0..pods).map(|number| format!("hand-{number:05}")).collect();
    for name in &names {
        let made = connection.post(&collection, template.named(name)).await;
        made.map_err(failed)?;
    }
    let list = connection.get(&collection).await.map_err(failed)?;
    let items = list.json().map_err(failed)?["items"].as_array().map(Vec::len);
    if items != Some(names.len()) {
        let why = "the list has not the pods that were made";
        return Err(failed(super::CallError::Odd { why }));
    }
    let scene = Scene::new(site, template, &names).await?;
    Ok((scene, list.body.len()))
}

/// Deletes what the creations have made.
async fn clear(site: &Site) -> Result<(), Error> {
    let mut keys = keys(&site.store()).await?;
    let prefix = format!("{}{POSTED}/", pod::PODS);
    let request = DeleteRangeRequest {
        range_end: pod::end_of(&prefix),
        key: Bytes::from(prefix),
        ..DeleteRangeRequest::default()
    };
    let deleted = keys.delete_range(request).await;
    deleted.map(drop).map_err(prepare("deleting what was created"))
}

/// One call in one round.
async fn measure(plan: &Plan, site: &Site, scene: &Arc<Scene>, call: Call) -> Result<Round, Error> {
    let mut callers = Vec::with_capacity(plan.clients);
    for number in 0..plan.clients {
        callers.push(Caller::new(site, scene, call, (number, plan.clients)).await?);
    }
    if !plan.warmup.is_zero() {
        let warmup = Limit::Duration(plan.warmup);
        (_, callers) = drive(callers, warmup, "warm-up").await?;
    }
    let pids = site.pids();
    let before = Usage::now(&pids)?;
    let start = Instant::now();
    let (tally, _) = drive(callers, Limit::Duration(plan.duration), call.name()).await?;
    let seconds = start.elapsed().as_secs_f64().max(f64::MIN_POSITIVE);
    let used = Usage::now(&pids)?.since(before);
    let errors = tally.errors();
    for (text, count) in &errors {
        eprintln!("{}: {count} x {text}", call.name());
    }
    if tally.done() == 0 {
        let first = errors.into_keys().next().unwrap_or_default();
        return Err(Error::NothingDone { first });
    }
    let millis = |share| tally.quantile(share).as_secs_f64() * 1e3;
    Ok(Round {
        calls: tally.done(),
        errors: errors.values().sum(),
        calls_per_second: tally.done() as f64 / seconds,
        cpu_us_per_call: used.server.and_then(|cpu| per_operation_us(cpu, tally.done())),
        p50_ms: millis(0.5),
        p99_ms: millis(0.99),
        generator_cpu_percent: used.generator.as_secs_f64() / seconds * 100.0,
    })
}

/// Lets the callers call until the limit, and gives those back that did not give up.
async fn drive(
    callers: Vec<Caller>,
    limit: Limit,
    label: &'static str,
) -> Result<(Arc<Tally>, Vec<Caller>), Error> {
    let tally = Arc::new(Tally::new());
    let progress = Progress::new(label, limit, 1, true);
    let budget = Arc::new(Budget::new(limit, Instant::now()));
    let mut tasks = JoinSet::new();
    for caller in callers {
        tasks.spawn(repeat(caller, Arc::clone(&budget), Arc::clone(&tally)));
    }
    let callers = supervise(&mut tasks, &tally, &progress).await?;
    Ok((tally, callers))
}

async fn repeat(mut caller: Caller, budget: Arc<Budget>, tally: Arc<Tally>) -> Option<Caller> {
    let mut failures_in_a_row = 0;
    while budget.take().is_some() {
        let start = Instant::now();
        match caller.step().await {
            Ok(()) => {
                tally.succeeded(start.elapsed());
                failures_in_a_row = 0;
            }
            Err(text) => {
                tally.failed_with(text, 1);
                failures_in_a_row += 1;
                if failures_in_a_row == FAILURES_IN_A_ROW_MAX {
                    tally.gave_up();
                    return None;
                }
            }
        }
    }
    Some(caller)
}

fn prepare(what: &'static str) -> impl FnOnce(Status) -> Error {
    move |status| Error::Prepare {
        what,
        status: Box::new(status),
    }
}

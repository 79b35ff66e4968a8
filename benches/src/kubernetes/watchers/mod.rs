//! Many watch clients under a steady rate of writes: does each see every event of its namespace, once and in order?
//!
//! Pods are created, changed and deleted in several namespaces through the adapter, at a rate that does not wait for
//! answers. Each client watches one namespace on a connection of its own, from before the first write on, and notes what
//! it sees. What there was to be seen is what a watch of the store itself tells, which is checked against what the writers
//! were answered. The last write of each namespace is a pod with a name of its own, behind which its watchers end.
//!
//! What is seen is kept until the end, some 24 bytes of the generator's memory for each event of each client.

mod judge;
mod table;
mod truth;
mod watcher;
mod writer;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use rustix::process::{Resource, getrlimit, setrlimit};
use serde::Serialize;
use tokio::sync::watch;
use tokio::task::JoinSet;

pub use self::judge::Verdict;
use self::judge::{Change, judge};
use self::truth::Truth;
use self::watcher::{Sight, Watcher};
use self::writer::{Crew, Writes};
use super::http::{Connection, Wire};
use super::pod;
use super::site::{Seating, Site, SiteArgs, SitePlan};
use crate::Error;
use crate::args::{Output, duration, positive};
use crate::interrupt::interruptible;
use crate::process::{cpu_time, peak_rss_bytes, rss_bytes};
use crate::report::Usage;
use crate::spec::Limit;
use crate::tally::Tally;
use crate::transport::Endpoint;

/// What the measurement takes.
#[derive(Debug, Args)]
pub struct WatchersArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub site: SiteArgs,
    /// Where the adapter is.
    #[arg(long, value_enum, default_value_t = Seating::Alone)]
    pub adapter: Seating,
    /// Watch clients, each with a connection of its own.
    #[arg(long, default_value_t = 1000, value_parser = positive)]
    pub clients: usize,
    /// Namespaces, over which clients and writes are dealt out.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub namespaces: u16,
    /// Writes a second, whether those before are answered or not.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub rate: u32,
    /// How long is written.
    #[arg(long, value_parser = duration, default_value = "60s")]
    pub duration: Duration,
    /// End after so many writes instead.
    #[arg(long, conflicts_with = "duration", value_parser = clap::value_parser!(u64).range(1..=u64::from(u32::MAX / 2)))]
    pub writes: Option<u64>,
    /// What the process of an adapter alone may hold in memory at most, in MiB.
    #[arg(long, default_value_t = 200)]
    pub memory_max: u64,
    /// Start of all randomness.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Form of the result.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

/// The measurement as plain data.
#[derive(Debug)]
pub struct Plan {
    site: SitePlan,
    clients: usize,
    namespaces: u16,
    rate: u32,
    limit: Limit,
    memory_max_bytes: u64,
    seed: u64,
}

/// The result.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// The binary.
    pub path: PathBuf,
    /// As the store says itself.
    pub version: String,
    /// Where the adapter was.
    pub adapter: Seating,
    /// Whether servers and generator had a processor each.
    pub pinned: bool,
    /// Watch clients.
    pub clients: usize,
    /// Namespaces.
    pub namespaces: u16,
    /// Writes that were acknowledged, the last one of each namespace included.
    pub writes: u64,
    /// Writes that were refused or not answered.
    pub writes_failed: u64,
    /// Acknowledged writes that the store does not have, and changes of the store that nobody made.
    pub unaccounted: u64,
    /// Writes a second that were asked for; nothing where only their number was.
    pub rate_asked: Option<u32>,
    /// From the first write to the last acknowledgement.
    pub write_seconds: f64,
    /// From when a write was due to its answer.
    pub write_p50_ms: f64,
    /// The same of 99 %.
    pub write_p99_ms: f64,
    /// Events that all clients together were to see.
    pub due: u64,
    /// What they saw.
    pub seen: Verdict,
    /// Clients whose watch ended early or not at all, by the reason.
    pub cut: BTreeMap<String, u64>,
    /// From when a write was due to the arrival of its event.
    pub delivery_p50_ms: f64,
    /// The same of 99 %.
    pub delivery_p99_ms: f64,
    /// The same of the last one.
    pub delivery_max_ms: f64,
    /// Processor time of the process that the adapter is in.
    pub adapter_cpu_seconds: f64,
    /// Processor time of the store's process.
    pub store_cpu_seconds: f64,
    /// Share of its processor that the generator used.
    pub generator_cpu_percent: f64,
    /// Resident memory of the adapter's process with all clients connected and nothing written yet.
    pub adapter_idle_rss_bytes: u64,
    /// Its peak.
    pub adapter_peak_rss_bytes: u64,
    /// What that may be at most, of an adapter alone.
    pub adapter_rss_max_bytes: Option<u64>,
    /// From the first write to the end of the last watch.
    pub elapsed_seconds: f64,
}

impl Plan {
    /// Resolves the flags against this machine.
    ///
    /// # Errors
    /// The binary is not there.
    pub fn new(args: &WatchersArgs) -> Result<Self, Error> {
        Ok(Self {
            site: SitePlan::new(&args.site, args.adapter)?,
            clients: args.clients,
            namespaces: args.namespaces,
            rate: args.rate,
            limit: args.writes.map_or(Limit::Duration(args.duration), Limit::Total),
            memory_max_bytes: args.memory_max << 20,
            seed: args.seed,
        })
    }
}

/// Writes, watches and judges. SIGINT and SIGTERM end it, and the servers with it.
///
/// # Errors
/// Servers that do not start, watches that cannot be begun, writers that are not answered, or a signal. What clients do not
/// see is part of the result.
pub async fn run(plan: &Plan) -> Result<Outcome, Error> {
    interruptible(measure(plan)).await
}

async fn measure(plan: &Plan) -> Result<Outcome, Error> {
    raise_descriptors()?;
    let site = Site::start(&plan.site).await?;
    let version = site.version().await?;
    eprintln!("{} {version}", plan.site.path().display());
    let after = furnish(site.kubernetes(), plan.namespaces).await?;
    let truth = Truth::follow(&site.store(), after, plan.namespaces).await?;
    let crowd = Crowd::gather(plan, &site, after).await?;
    let adapter_idle_rss_bytes = rss_bytes(site.adapter_pid())?;
    eprintln!("{} clients watch", plan.clients);

    let before = (Usage::now(&site.pids())?, cpu_of(&site)?);
    let start = Instant::now();
    let crew = Crew::new(plan.namespaces, plan.seed);
    let writes = writer::write(site.kubernetes(), &crew, plan.rate, plan.limit).await?;
    let write_seconds = start.elapsed().as_secs_f64();
    let truth = truth.end().await?;
    let sights = crowd.disperse().await?;
    let elapsed_seconds = start.elapsed().as_secs_f64().max(f64::MIN_POSITIVE);
    let used = Usage::now(&site.pids())?.since(before.0);
    let (adapter_cpu, store_cpu) = cpu_of(&site)?;
    let seconds = |now: Duration, before: Duration| now.saturating_sub(before).as_secs_f64();

    let seen = Seen::of(&truth, &writes, &sights);
    let of_writes = |share| writes.tally.quantile(share).as_secs_f64() * 1e3;
    let of_events = |share| seen.tally.quantile(share).as_secs_f64() * 1e3;
    Ok(Outcome {
        path: plan.site.path(),
        version,
        adapter: plan.site.seating(),
        pinned: plan.site.is_pinned(),
        clients: plan.clients,
        namespaces: plan.namespaces,
        writes: writes.done.len() as u64,
        writes_failed: writes.tally.errors().values().sum(),
        unaccounted: seen.unaccounted,
        rate_asked: match plan.limit {
            Limit::Duration(_) => Some(plan.rate),
            Limit::Total(_) => None,
        },
        write_seconds,
        write_p50_ms: of_writes(0.5),
        write_p99_ms: of_writes(0.99),
        due: seen.due,
        seen: seen.verdict,
        cut: seen.cut,
        delivery_p50_ms: of_events(0.5),
        delivery_p99_ms: of_events(0.99),
        delivery_max_ms: of_events(1.0),
        adapter_cpu_seconds: seconds(adapter_cpu, before.1.0),
        store_cpu_seconds: seconds(store_cpu, before.1.1),
        generator_cpu_percent: used.generator.as_secs_f64() / elapsed_seconds * 100.0,
        adapter_idle_rss_bytes,
        adapter_peak_rss_bytes: peak_rss_bytes(site.adapter_pid())?,
        adapter_rss_max_bytes: (plan.site.seating() == Seating::Alone).then_some(plan.memory_max_bytes),
        elapsed_seconds,
    })
}

/// Makes the namespaces; gives the revision behind which everything is to be seen.
async fn furnish(kubernetes: &Endpoint, namespaces: u16) -> Result<i64, Error> {
    let failed = |source| Error::Call {
        what: "making the namespaces",
        source: Box::new(source),
    };
    let mut connection = Connection::open(kubernetes, Wire::Http1).await?;
    for number in 0..namespaces {
        let namespace = pod::namespace(&name_of(number));
        let made = connection.post("/api/v1/namespaces", namespace).await;
        made.map_err(failed)?;
    }
    let list = connection.get("/api/v1/pods?limit=1").await;
    list.and_then(|list| pod::version_of(&list)).map_err(failed)
}

/// Processor time of the adapter's process and the store's, which may be the same.
fn cpu_of(site: &Site) -> Result<(Duration, Duration), Error> {
    Ok((cpu_time(site.adapter_pid())?, cpu_time(site.store_pid())?))
}

/// The clients at their watches.
struct Crowd {
    watchers: JoinSet<Sight>,
    stop: watch::Sender<bool>,
}

impl Crowd {
    /// Begins all watches.
    async fn gather(plan: &Plan, site: &Site, after: i64) -> Result<Self, Error> {
        let (stop, stopped) = watch::channel(false);
        let mut watchers = JoinSet::new();
        for (_, namespace) in (0..plan.clients).zip((0..plan.namespaces).cycle()) {
            let watcher = Watcher::begin(site.kubernetes(), namespace, after).await?;
            watchers.spawn(watcher.watch(stopped.clone()));
        }
        Ok(Self { watchers, stop })
    }

    /// Waits until every client has seen the last event of its namespace, but not for ever.
    async fn disperse(mut self) -> Result<Vec<Sight>, Error> {
        let mut sights = Vec::with_capacity(self.watchers.len());
        let deadline = tokio::time::Instant::now() + SETTLE_MAX;
        loop {
            match tokio::time::timeout_at(deadline, self.watchers.join_next()).await {
                Ok(Some(ended)) => sights.push(ended.map_err(Error::Client)?),
                Ok(None) => return Ok(sights),
                Err(_) => break,
            }
        }
        self.stop.send_replace(true);
        while let Some(ended) = self.watchers.join_next().await {
            sights.push(ended.map_err(Error::Client)?);
        }
        Ok(sights)
    }
}

/// All that the clients saw, against what there was.
struct Seen {
    due: u64,
    verdict: Verdict,
    cut: BTreeMap<String, u64>,
    unaccounted: u64,
    /// The time that events took.
    tally: Tally,
}

impl Seen {
    fn of(truth: &[Change], writes: &Writes, sights: &[Sight]) -> Self {
        let (due_at, unaccounted) = judge::account(truth, &writes.done);
        let mut by_namespace: BTreeMap<u16, Vec<Change>> = BTreeMap::new();
        for change in truth {
            by_namespace.entry(change.namespace).or_default().push(*change);
        }
        let mut seen = Self {
            due: 0,
            verdict: Verdict::default(),
            cut: BTreeMap::new(),
            unaccounted,
            tally: Tally::new(),
        };
        for sight in sights {
            let expected = by_namespace.get(&sight.namespace).map_or(&[][..], Vec::as_slice);
            seen.due += expected.len() as u64;
            seen.verdict += judge(expected, &sight.events);
            if let Some(reason) = &sight.cut {
                *seen.cut.entry(reason.clone()).or_default() += 1;
            }
            for event in &sight.events {
                if let Some(due_at) = due_at.get(&event.change.revision) {
                    seen.tally.succeeded(event.at.saturating_duration_since(*due_at));
                }
            }
        }
        seen
    }
}

/// The namespace of that number.
fn name_of(namespace: u16) -> String {
    format!("crowd-{namespace}")
}

/// Lets the generator have as many connections as it may.
fn raise_descriptors() -> Result<(), Error> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).map_err(|source| Error::System {
        what: "raise the limit of descriptors",
        source: source.into(),
    })
}

/// From the last write to the last event.
const SETTLE_MAX: Duration = Duration::from_secs(30);

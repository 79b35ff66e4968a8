//! What changes of the cluster cost the writers.
//!
//! Three members on one processor, clients that put from another, each with a connection of its own to whichever member
//! it can reach. While they put, members are restarted one after the other, lead in turn, lose their disks, come, go, are
//! replaced, and one of them is backed up; before and after that nothing happens for a while. A put's latency is what
//! its writer waits for it, over all attempts. In the end all members must have the same hash.

mod client;
mod table;

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::task::JoinSet;

use crate::Error;
use crate::args::ChurnArgs;
use crate::cluster::{Cluster, ClusterState, Program, kv_hash};
use crate::interrupt::interruptible;
use crate::keys::digits;
use crate::process::{Cores, pin_generator};
use crate::progress::Progress;
use crate::run::supervise;
use crate::spec::{KeySpace, Kind, Limit, Spec};
use crate::tally::{Budget, Tally};
use crate::transport::Endpoint;
use client::Client;

const MEMBERS: usize = 3;

/// Servers that come: two to make five members of three, and one that takes another's place.
const NEWCOMERS: usize = 3;

/// Keys have at least so many bytes, as in a comparison.
const KEY_BYTES_MIN: usize = 8;

/// Between two looks at the revisions, and how long they may differ after the last put.
const POLL: Duration = Duration::from_millis(50);
const SETTLE_MAX: Duration = Duration::from_secs(30);

/// A run as plain data.
#[derive(Debug)]
pub struct Plan {
    program: Program,
    spec: Spec,
    transfers: usize,
    duration: Duration,
    pause: Duration,
    keep_disks: bool,
    cores: Option<Cores>,
    work_dir: PathBuf,
}

/// What was measured.
#[derive(Debug, Serialize)]
pub struct Churn {
    /// The binary.
    pub path: PathBuf,
    /// As it says itself.
    pub version: String,
    /// Clients that put.
    pub clients: usize,
    /// Whether members and generator had a processor each.
    pub pinned: bool,
    /// In order of time; the first is the one in which nothing happens.
    pub chapters: Vec<Chapter>,
    /// Whether all members had the same hash in the end.
    pub members_agree: bool,
    /// What went wrong; the chapters after it are missing.
    pub failures: Vec<String>,
}

/// The puts of one chapter.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Chapter {
    /// What happened meanwhile.
    pub name: &'static str,
    /// Puts that were acknowledged.
    pub operations: u64,
    /// Attempts that failed, and were made again.
    pub failed_attempts: u64,
    /// Length of the chapter.
    pub elapsed_seconds: f64,
    /// Acknowledged puts by time.
    pub operations_per_second: f64,
    /// 99 % of the puts took no longer.
    pub p99_ms: f64,
    /// No put took longer.
    pub longest_ms: f64,
}

impl Plan {
    /// Resolves the flags against this machine.
    ///
    /// # Errors
    /// The binary is not there.
    pub fn new(args: &ChurnArgs) -> Result<Self, Error> {
        let spec = Spec {
            endpoints: vec![],
            clients: args.clients,
            conns: args.clients,
            limit: Limit::Duration(args.duration),
            warmup: Duration::ZERO,
            prefill: false,
            keys: KeySpace {
                size: digits(args.key_space).max(KEY_BYTES_MIN),
                count: args.key_space,
                sequential: false,
            },
            value_size: args.val_size,
            seed: args.seed,
            pids: vec![],
            kind: Kind::Put,
        };
        Ok(Self {
            program: Program::new(&args.binary, &args.server_arg)?,
            spec,
            transfers: args.transfers,
            duration: args.duration,
            pause: args.pause,
            keep_disks: args.keep_disks,
            cores: args.machine.cores(),
            work_dir: args.machine.work_dir(),
        })
    }
}

/// Measures all chapters. SIGINT and SIGTERM end it, and the members with it.
///
/// # Errors
/// The members do not start, or a signal. What fails later is part of the result.
pub async fn run(plan: &Plan) -> Result<Churn, Error> {
    interruptible(measure(plan)).await
}

async fn measure(plan: &Plan) -> Result<Churn, Error> {
    pin_generator(plan.cores)?;
    let core = plan.cores.map(|cores| cores.server);
    let mut cluster = Cluster::start(&plan.program, MEMBERS, &plan.work_dir, core).await?;
    let newcomers = (0..NEWCOMERS).map(|_| cluster.prepare_seat());
    let newcomers = newcomers.collect::<Result<Vec<_>, _>>()?;
    let version = cluster.status(0).await?.version;
    eprintln!("{} {version}", plan.program.path.display());
    let mut scene = Scene {
        plan,
        endpoints: cluster.endpoints(),
        cluster,
        newcomers,
        chapters: Vec::new(),
    };
    let mut failures = Vec::new();
    if let Err(error) = scene.play().await {
        failures.push(error.to_string());
    }
    let members_agree = match scene.members_agree().await {
        Ok(agree) => agree,
        Err(error) => {
            failures.push(error.to_string());
            false
        }
    };
    Ok(Churn {
        path: plan.program.path.clone(),
        version,
        clients: plan.spec.clients,
        pinned: plan.cores.is_some(),
        chapters: scene.chapters,
        members_agree,
        failures,
    })
}

/// The members, and where clients may find them.
struct Scene<'a> {
    plan: &'a Plan,
    endpoints: Vec<Endpoint>,
    cluster: Cluster,
    /// Seats of those who are yet to come.
    newcomers: Vec<usize>,
    chapters: Vec<Chapter>,
}

impl Scene<'_> {
    async fn play(&mut self) -> Result<(), Error> {
        self.nothing("nothing happens").await?;
        self.chapter("roll-restart", async |scene| scene.roll_restart().await)
            .await?;
        self.chapter("leader transfers", async |scene| scene.move_leader().await)
            .await?;
        if self.plan.keep_disks {
            eprintln!("empty disks: left out");
        } else {
            self.chapter("empty disks", async |scene| scene.lose_disks().await)
                .await?;
        }
        self.chapter("grow 3 to 5", async |scene| scene.grow(2).await)
            .await?;
        self.chapter("shrink 5 to 3", async |scene| scene.shrink(2).await)
            .await?;
        self.chapter("replace a member", async |scene| {
            scene.shrink(1).await?;
            scene.grow(1).await
        })
        .await?;
        self.chapter("backup", async |scene| {
            let leader = scene.cluster.leader().await?;
            scene.cluster.back_up(leader).await.map(drop)
        })
        .await?;
        self.nothing("nothing happens any more").await
    }

    async fn nothing(&mut self, name: &'static str) -> Result<(), Error> {
        let duration = self.plan.duration;
        self.chapter(name, async move |_| {
            tokio::time::sleep(duration).await;
            Ok(())
        })
        .await
    }

    /// Puts while `event` goes on.
    async fn chapter(
        &mut self,
        name: &'static str,
        event: impl AsyncFnOnce(&mut Self) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let endless = Limit::Total(u64::MAX);
        let start = Instant::now();
        let budget = Arc::new(Budget::new(endless, start));
        let tally = Arc::new(Tally::new());
        let mut clients = JoinSet::new();
        for number in 0..self.plan.spec.clients {
            let client = Client::new(&self.plan.spec, &self.endpoints, number);
            clients.spawn(client.run(Arc::clone(&budget), Arc::clone(&tally)));
        }
        let progress = Progress::new(name, endless, 1, true);
        let putting = supervise(&mut clients, &tally, &progress);
        let happening = async {
            let outcome = event(self).await;
            // The chapter's end, whatever became of the event.
            let elapsed = start.elapsed();
            budget.stop();
            outcome.map(|()| elapsed)
        };
        let (_, elapsed) = both(putting, happening).await?;
        let chapter = Chapter::new(name, &tally, elapsed);
        eprintln!(
            "{name}: {:.0} op/s, {:.1} s",
            chapter.operations_per_second, chapter.elapsed_seconds
        );
        self.chapters.push(chapter);
        Ok(())
    }

    async fn pause(&self) {
        tokio::time::sleep(self.plan.pause).await;
    }

    async fn roll_restart(&mut self) -> Result<(), Error> {
        for seat in self.cluster.members() {
            self.cluster.stop(seat).await?;
            self.cluster.start_member(seat, ClusterState::New)?;
            self.cluster.serves(seat).await?;
            self.pause().await;
        }
        Ok(())
    }

    async fn move_leader(&mut self) -> Result<(), Error> {
        for number in 0..self.plan.transfers {
            let leader = self.cluster.leader().await?;
            let target = self.others(leader)[number % (MEMBERS - 1)];
            self.cluster.move_leader(leader, target).await?;
            self.pause().await;
        }
        Ok(())
    }

    /// Members with empty disks, one after the other, as the members that they were.
    async fn lose_disks(&mut self) -> Result<(), Error> {
        for seat in self.cluster.members() {
            self.cluster.stop(seat).await?;
            self.cluster.erase(seat)?;
            self.cluster.start_member(seat, ClusterState::Existing)?;
            self.cluster.serves(seat).await?;
            self.pause().await;
        }
        Ok(())
    }

    /// Adds newcomers, as learners at first.
    async fn grow(&mut self, by: usize) -> Result<(), Error> {
        for seat in self.newcomers.drain(..by).collect::<Vec<_>>() {
            let leader = self.cluster.leader().await?;
            self.cluster.join(leader, seat).await?;
            self.pause().await;
        }
        Ok(())
    }

    /// Removes members that lead.
    async fn shrink(&mut self, by: usize) -> Result<(), Error> {
        for _ in 0..by {
            let leader = self.cluster.leader().await?;
            let asked = self.others(leader)[0];
            self.cluster.leave(asked, leader).await?;
            self.pause().await;
        }
        Ok(())
    }

    fn others(&self, leader: usize) -> Vec<usize> {
        let mut members = self.cluster.members();
        members.retain(|&seat| seat != leader);
        members
    }

    /// Whether all members have the same hash at the revision that all of them have come to.
    async fn members_agree(&self) -> Result<bool, Error> {
        let members = self.cluster.members();
        let deadline = Instant::now() + SETTLE_MAX;
        let revision = loop {
            let mut revisions = Vec::with_capacity(members.len());
            for &seat in &members {
                let header = self.cluster.status(seat).await?.header;
                revisions.push(header.map_or(0, |header| header.revision));
            }
            match revisions.first() {
                Some(&first) if revisions.iter().all(|&other| other == first) => break first,
                _ if Instant::now() < deadline => tokio::time::sleep(POLL).await,
                _ => {
                    let reason = format!("the revisions differ after {SETTLE_MAX:?}: {revisions:?}");
                    return Err(self.cluster.not_ready(members[0], reason));
                }
            }
        };
        let mut hashes = Vec::with_capacity(members.len());
        for &seat in &members {
            let answer = kv_hash(&self.cluster.endpoint(seat), revision).await?;
            hashes.push((answer.hash, answer.compact_revision));
        }
        Ok(hashes.len() == MEMBERS && hashes.windows(2).all(|pair| pair[0] == pair[1]))
    }
}

/// Both outcomes, or the first error.
async fn both<A, B>(
    one: impl Future<Output = Result<A, Error>>,
    other: impl Future<Output = Result<B, Error>>,
) -> Result<(A, B), Error> {
    tokio::try_join!(one, other)
}

impl Chapter {
    fn new(name: &'static str, tally: &Tally, elapsed: Duration) -> Self {
        let seconds = elapsed.as_secs_f64().max(f64::MIN_POSITIVE);
        let millis = |share| tally.quantile(share).as_secs_f64() * 1e3;
        Self {
            name,
            operations: tally.done(),
            failed_attempts: tally.errors().values().sum(),
            elapsed_seconds: seconds,
            operations_per_second: tally.done() as f64 / seconds,
            p99_ms: millis(0.99),
            longest_ms: millis(1.0),
        }
    }
}

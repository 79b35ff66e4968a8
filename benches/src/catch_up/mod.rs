//! What it costs the writers that a member goes, comes back and catches up.
//!
//! Three members on one processor, clients that put from another. One follower is ended by force, stays down for a given
//! number of puts, and is started again, first with its directory, then without it. The clients use the two members
//! that stay, in all phases, so that the phases differ in nothing but the third. In the end all members must have the
//! same hash at the same revision.

mod pursuit;
mod table;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use serde::Serialize;

use crate::Error;
use crate::args::CatchUpArgs;
use crate::cluster::{Cluster, ClusterState, Program, kv_hash};
use crate::interrupt::interruptible;
use crate::keys::digits;
use crate::process::{Cores, pin_generator};
use crate::progress::Progress;
use crate::run::{drive, prepare};
use crate::spec::{KeySpace, Kind, Limit, Spec};
use crate::tally::{Budget, Tally};
use crate::transport::{Channel, connect_all};
use pursuit::Pursuit;

const MEMBERS: usize = 3;

/// Keys have at least so many bytes, as in a comparison.
const KEY_BYTES_MIN: usize = 8;

/// Between two looks at the revisions.
const POLL: Duration = Duration::from_millis(50);

/// For one look; a member that starts or is overloaded may not answer.
const LOOK_MAX: Duration = Duration::from_secs(2);

/// From the last put to the same revision on all members.
const SETTLE_MAX: Duration = Duration::from_secs(30);

/// How a member comes back after the loss of its directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EmptyDisk {
    /// As the member that it was.
    SameId,
    /// Removed from the membership and added anew, as etcd wants it.
    NewId,
    /// Leave these phases out.
    Skip,
}

/// A catch-up as plain data.
#[derive(Debug)]
pub struct Plan {
    program: Program,
    spec: Spec,
    writes: u64,
    duration: Duration,
    catch_up_max: Duration,
    empty_disk: EmptyDisk,
    cores: Option<Cores>,
    work_dir: PathBuf,
}

/// What was measured.
#[derive(Debug, Serialize)]
pub struct CatchUp {
    /// The binary.
    pub path: PathBuf,
    /// As it says itself.
    pub version: String,
    /// Puts while the member was down.
    pub writes: u64,
    /// Clients that put.
    pub clients: usize,
    /// Whether members and generator had a processor each.
    pub pinned: bool,
    /// In order of time.
    pub phases: Vec<Phase>,
    /// The revision of the hashes.
    pub revision: i64,
    /// One for each member that runs in the end.
    pub hashes: Vec<Hash>,
    /// What went wrong; the phases after it are missing.
    pub failures: Vec<String>,
}

/// The puts of one phase.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Phase {
    /// What the third member did meanwhile.
    pub name: &'static str,
    /// Puts that were acknowledged.
    pub operations: u64,
    /// Puts that failed.
    pub errors: u64,
    /// Length of the phase, where the member came back: the time it took to catch up.
    pub elapsed_seconds: f64,
    /// Acknowledged puts by time.
    pub operations_per_second: f64,
    /// 99 % of the puts took no longer.
    pub p99_ms: f64,
    /// No put took longer.
    pub longest_ms: f64,
}

/// A member's hash of its keys and their history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Hash {
    /// At the revision asked for.
    pub hash: u32,
    /// History begins behind it.
    pub compact_revision: i64,
}

impl Plan {
    /// Resolves the flags against this machine.
    ///
    /// # Errors
    /// The binary is not there.
    pub fn new(args: &CatchUpArgs) -> Result<Self, Error> {
        let spec = Spec {
            endpoints: vec![],
            clients: args.clients,
            conns: args.clients.div_ceil(args.clients_per_conn),
            limit: Limit::Duration(args.duration),
            warmup: args.warmup,
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
            writes: args.writes,
            duration: args.duration,
            catch_up_max: args.catch_up_max,
            empty_disk: args.empty_disk,
            cores: args.machine.cores(),
            work_dir: args.machine.work_dir(),
        })
    }
}

/// Measures all phases. SIGINT and SIGTERM end it, and the members with it.
///
/// # Errors
/// The members do not start, or a signal. What fails later is part of the result.
pub async fn run(plan: &Plan) -> Result<CatchUp, Error> {
    interruptible(measure(plan)).await
}

async fn measure(plan: &Plan) -> Result<CatchUp, Error> {
    pin_generator(plan.cores)?;
    let mut scene = Scene::start(plan).await?;
    let version = scene.cluster.status(scene.leader).await?.version;
    eprintln!("{} {version}", plan.program.path.display());
    let mut phases = Vec::new();
    let mut failures = Vec::new();
    if let Err(error) = scene.play(&mut phases).await {
        failures.push(error.to_string());
        // It may hang or have ended; the others can still be compared.
        scene.cluster.kill(scene.absentee);
    }
    let (revision, hashes) = match scene.hashes().await {
        Ok(found) => found,
        Err(error) => {
            failures.push(error.to_string());
            (0, vec![])
        }
    };
    Ok(CatchUp {
        path: plan.program.path.clone(),
        version,
        writes: plan.writes,
        clients: plan.spec.clients,
        pinned: plan.cores.is_some(),
        phases,
        revision,
        hashes,
        failures,
    })
}

/// The members and the clients' connections.
struct Scene<'a> {
    plan: &'a Plan,
    cluster: Cluster,
    channels: Vec<Channel>,
    /// Seats: one that leads and one that follows, which stay, and the one that goes and comes back.
    leader: usize,
    follower: usize,
    absentee: usize,
}

impl<'a> Scene<'a> {
    async fn start(plan: &'a Plan) -> Result<Self, Error> {
        let core = plan.cores.map(|cores| cores.server);
        let cluster = Cluster::start(&plan.program, MEMBERS, &plan.work_dir, core).await?;
        let leader = cluster.leader().await?;
        let [follower, absentee] = [1, 2].map(|step| (leader + step) % MEMBERS);
        let staying = [leader, follower].map(|seat| cluster.endpoint(seat));
        let channels = connect_all(&staying, plan.spec.conns.max(staying.len())).await?;
        Ok(Self {
            plan,
            cluster,
            channels,
            leader,
            follower,
            absentee,
        })
    }

    /// All phases, each reported as soon as it has ended.
    async fn play(&mut self, phases: &mut Vec<Phase>) -> Result<(), Error> {
        let mut done = |phase: Phase| {
            eprintln!(
                "{}: {:.0} op/s, {:.1} s",
                phase.name, phase.operations_per_second, phase.elapsed_seconds
            );
            phases.push(phase);
        };
        let all_there = Limit::Duration(self.plan.duration);
        if !self.plan.spec.warmup.is_zero() {
            self.put("warm-up", Limit::Duration(self.plan.spec.warmup))
                .await?;
        }
        done(self.put("three members", all_there).await?);
        self.cluster.kill(self.absentee);
        done(self.put("one down", Limit::Total(self.plan.writes)).await?);
        done(self.put_until_caught_up("catching up", ClusterState::New).await?);
        done(self.put("after", all_there).await?);
        if self.plan.empty_disk == EmptyDisk::Skip {
            eprintln!("empty disk: left out");
            return Ok(());
        }
        self.cluster.kill(self.absentee);
        self.cluster.erase(self.absentee)?;
        if self.plan.empty_disk == EmptyDisk::NewId {
            self.cluster.replace(self.absentee, self.leader).await?;
            eprintln!("empty disk: the member was removed and added anew, and has a new id");
        }
        let name = "catching up from an empty disk";
        done(self.put_until_caught_up(name, ClusterState::Existing).await?);
        done(self.put("after it", all_there).await?);
        Ok(())
    }

    async fn put(&self, name: &'static str, limit: Limit) -> Result<Phase, Error> {
        let workers = prepare(&self.plan.spec, &self.channels).await?;
        let progress = Progress::new(name, limit, 1, true);
        let start = Instant::now();
        let budget = Arc::new(Budget::new(limit, start));
        let tally = drive(workers, &budget, &progress).await?;
        Ok(Phase::new(name, &tally, start.elapsed()))
    }

    /// Starts the absent member and puts until it has caught up.
    async fn put_until_caught_up(&mut self, name: &'static str, state: ClusterState) -> Result<Phase, Error> {
        let workers = prepare(&self.plan.spec, &self.channels).await?;
        let endless = Limit::Total(u64::MAX);
        let progress = Progress::new(name, endless, 1, true);
        let start = Instant::now();
        let budget = Arc::new(Budget::new(endless, start));
        self.cluster.start_member(self.absentee, state)?;
        let putting = drive(workers, &budget, &progress);
        let following = async {
            self.caught_up(start).await?;
            budget.stop();
            Ok(())
        };
        let (tally, ()) = tokio::try_join!(putting, following)?;
        Ok(Phase::new(name, &tally, start.elapsed()))
    }

    /// Waits until the member that came back is level with the others.
    async fn caught_up(&mut self, start: Instant) -> Result<(), Error> {
        let mut pursuit = Pursuit::default();
        loop {
            self.cluster.check_running(self.absentee)?;
            let now = Instant::now();
            let ahead = [
                self.revision(self.leader).await,
                self.revision(self.follower).await,
            ];
            if let Some(revision) = ahead.into_iter().flatten().max() {
                pursuit.ahead(now, revision);
            }
            let own = self.revision(self.absentee).await;
            if own.is_some_and(|own| pursuit.is_level(own)) {
                return Ok(());
            }
            if start.elapsed() >= self.plan.catch_up_max {
                let reason = format!(
                    "it is at revision {} of {} after {:?}",
                    own.unwrap_or_default(),
                    pursuit.newest(),
                    self.plan.catch_up_max
                );
                return Err(self.cluster.not_ready(self.absentee, reason));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// The revision that a member has reached by itself, none without an answer.
    async fn revision(&self, seat: usize) -> Option<i64> {
        let look = tokio::time::timeout(LOOK_MAX, self.cluster.status(seat)).await;
        let header = look.ok()?.ok()?.header?;
        Some(header.revision)
    }

    /// The hashes of the members that run, at the revision that all of them have come to.
    async fn hashes(&self) -> Result<(i64, Vec<Hash>), Error> {
        let seats: Vec<usize> = (0..MEMBERS)
            .filter(|&seat| self.cluster.is_started(seat))
            .collect();
        let deadline = Instant::now() + SETTLE_MAX;
        let revision = loop {
            let mut revisions = Vec::with_capacity(seats.len());
            for &seat in &seats {
                revisions.push(self.revision(seat).await);
            }
            match revisions.first() {
                Some(&Some(first)) if revisions.iter().all(|&other| other == Some(first)) => break first,
                _ if Instant::now() < deadline => tokio::time::sleep(POLL).await,
                _ => {
                    let reason = format!("the revisions differ after {SETTLE_MAX:?}: {revisions:?}");
                    return Err(self.cluster.not_ready(self.absentee, reason));
                }
            }
        };
        let mut hashes = Vec::with_capacity(seats.len());
        for seat in seats {
            let answer = kv_hash(&self.cluster.endpoint(seat), revision).await?;
            hashes.push(Hash {
                hash: answer.hash,
                compact_revision: answer.compact_revision,
            });
        }
        Ok((revision, hashes))
    }
}

impl Phase {
    fn new(name: &'static str, tally: &Tally, elapsed: Duration) -> Self {
        let seconds = elapsed.as_secs_f64().max(f64::MIN_POSITIVE);
        let millis = |share| tally.quantile(share).as_secs_f64() * 1e3;
        Self {
            name,
            operations: tally.done(),
            errors: tally.errors().values().sum(),
            elapsed_seconds: seconds,
            operations_per_second: tally.done() as f64 / seconds,
            p99_ms: millis(0.99),
            longest_ms: millis(1.0),
        }
    }
}

//! What every request needs, once per runtime: the store, the limits, the counters, the two ends of waiting.

use std::sync::Arc;
use std::time::Duration;

use store::Store;
use tokio::sync::watch;

use crate::audit::Audit;
use crate::auth::Auth;
use crate::backup::Backups;
use crate::config::{ConnectionSettings, HttpSettings};
use crate::defences::Defences;
use crate::grpc::backlog::Backlog;
use crate::grpc::meter::Shard;
use crate::kubernetes::SharedRouter;
use crate::metrics::HealthCounts;
use crate::peer::Peers;

/// One runtime's view of the member. Each runtime has its own, so that reference counts stay on their core.
pub(crate) struct Core {
    /// This process's own handle: it may do everything, so no client's request is carried out by it.
    pub(crate) store: Store,
    /// The handle of callers that say nothing of who they are.
    pub(crate) nobody: Store,
    /// Who callers are.
    pub(crate) auth: Arc<Auth>,
    pub(crate) limits: ConnectionSettings,
    /// What is served over HTTP, and to whom.
    pub(crate) http: Arc<HttpSettings>,
    /// What this runtime counts.
    pub(crate) shard: Arc<Shard>,
    /// What all runtimes count.
    pub(crate) shards: Arc<[Arc<Shard>]>,
    /// Requests received in part, of all runtimes.
    pub(crate) requests: Arc<Backlog>,
    /// Large answers not yet sent, of all runtimes.
    pub(crate) answers: Arc<Backlog>,
    /// Outcomes of health checks and other rare events, of all runtimes.
    pub(crate) health: Arc<HealthCounts>,
    /// Name, stage and state of every feature gate.
    pub(crate) features: Arc<[(&'static str, &'static str, bool)]>,
    /// A unary call that takes longer is worth a line in the log.
    pub(crate) slow_request: Duration,
    /// Backups under way, of all runtimes.
    pub(crate) backups: Arc<Backups>,
    /// The way to the other members.
    pub(crate) peers: Peers,
    /// How often this member has been without leader for [`LEADERLESS_ELECTIONS`] election timeouts.
    pub(crate) leaderless: watch::Receiver<u64>,
    /// Who did what, where somebody wants to know.
    pub(crate) audit: Option<Arc<Audit>>,
    /// The bounds that all ports share.
    pub(crate) defences: Arc<Defences>,
    /// What serves the Kubernetes API, where that is asked for.
    pub(crate) kubernetes: SharedRouter,
    /// True once the process stops.
    pub(crate) stopping: watch::Receiver<bool>,
}

/// Waits until `flag` is true, or its sender gone, which means the end of everything.
pub(crate) async fn raised(flag: &mut watch::Receiver<bool>) {
    let _ = flag.wait_for(|raised| *raised).await;
}

/// Watches for the loss of the leader; ends when nobody listens any more.
pub(crate) async fn watch_leader(store: Store, election: Duration, leaderless: watch::Sender<u64>) {
    let mut ticks = tokio::time::interval(election);
    let mut without = 0u32;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = leaderless.closed() => return,
        }
        without = if store.has_leader() { 0 } else { without + 1 };
        if without == LEADERLESS_ELECTIONS {
            leaderless.send_modify(|times| *times += 1);
        }
    }
}

/// A member without leader for so many election timeouts ends the streams that require one.
const LEADERLESS_ELECTIONS: u32 = 3;

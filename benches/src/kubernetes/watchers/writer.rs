//! The writers: pods that are created, changed and deleted at a rate that does not wait for answers.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::Method;
use tokio::sync::{Mutex as AsyncMutex, mpsc};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::judge::{Deed, LAST, Write, name_of_pod};
use super::name_of;
use crate::Error;
use crate::keys::Random;
use crate::kubernetes::http::{CallError, Connection, MERGE_PATCH, Wire};
use crate::kubernetes::pod::{self, Template};
use crate::progress::Progress;
use crate::run::supervise;
use crate::spec::Limit;
use crate::tally::{Budget, Tally};
use crate::transport::Endpoint;

/// The pods that there are, and what was done to them.
pub(super) struct Crew {
    template: Template,
    state: Mutex<State>,
    /// Numbers of pods, never used twice.
    pods: AtomicU32,
}

struct State {
    random: Random,
    /// By namespace, the pods that nobody is about to change.
    idle: Vec<Vec<u32>>,
    done: Vec<Write>,
}

/// What was written, and how long it took.
pub(super) struct Writes {
    pub(super) done: Vec<Write>,
    pub(super) tally: Arc<Tally>,
}

/// What a writer is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Order {
    namespace: u16,
    pod: u32,
    deed: Deed,
}

/// Writes until the limit, then the last pod of each namespace.
pub(super) async fn write(
    kubernetes: &Endpoint,
    crew: &Arc<Crew>,
    rate: u32,
    limit: Limit,
) -> Result<Writes, Error> {
    let tally = Arc::new(Tally::new());
    let mut connections = Vec::with_capacity(WRITERS);
    for _ in 0..WRITERS {
        connections.push(Connection::open(kubernetes, Wire::Http1).await?);
    }
    let progress = Progress::new("writes", limit, 1, true);
    let (orders, due) = mpsc::channel(DUE_MAX);
    let due = Arc::new(AsyncMutex::new(due));
    let mut tasks = JoinSet::new();
    for connection in connections {
        tasks.spawn(writer(
            connection,
            Arc::clone(crew),
            Arc::clone(&due),
            Arc::clone(&tally),
        ));
    }
    let budget = Budget::new(limit, Instant::now());
    tasks.spawn(pace(orders, budget, rate));
    supervise(&mut tasks, &tally, &progress).await?;
    let mut connection = Connection::open(kubernetes, Wire::Http1).await?;
    crew.finish(&mut connection, &tally).await;
    Ok(Writes {
        done: std::mem::take(&mut crew.state().done),
        tally,
    })
}

/// Says when writes are due. Where too many are late it waits, and the rate is not kept.
async fn pace(orders: mpsc::Sender<Instant>, budget: Budget, rate: u32) -> Option<()> {
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    while budget.take().is_some() {
        let due = ticks.tick().await.into_std();
        if orders.send(due).await.is_err() {
            break;
        }
    }
    Some(())
}

async fn writer(
    mut connection: Connection,
    crew: Arc<Crew>,
    due: Arc<AsyncMutex<mpsc::Receiver<Instant>>>,
    tally: Arc<Tally>,
) -> Option<()> {
    loop {
        let next = due.lock().await.recv().await;
        let Some(due) = next else {
            return Some(());
        };
        crew.carry_out(crew.order(), due, &mut connection, &tally).await;
    }
}

impl Crew {
    pub(super) fn new(namespaces: u16, seed: u64) -> Arc<Self> {
        Arc::new(Self {
            template: Template::new(),
            state: Mutex::new(State {
                random: Random::new(seed, 0),
                idle: vec![Vec::new(); usize::from(namespaces)],
                done: Vec::new(),
            }),
            pods: AtomicU32::new(0),
        })
    }

    /// A writer that panicked is reported as such; what it had noted stays true.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Draws what is to be done next. The pod is nobody else's until it is done.
    fn order(&self) -> Order {
        let state = &mut *self.state();
        let namespace = state.random.below(state.idle.len() as u64);
        let pods = &mut state.idle[usize::try_from(namespace).unwrap_or(0)];
        let namespace = u16::try_from(namespace).unwrap_or(0);
        let deed = match (pods.len(), state.random.below(4)) {
            (..IDLE_MIN, _) => Deed::Added,
            (IDLE_MAX.., 0) | (_, 1) => Deed::Deleted,
            (_, 0) => Deed::Added,
            _ => Deed::Modified,
        };
        let pod = match deed {
            Deed::Added => self.pods.fetch_add(1, Ordering::Relaxed),
            Deed::Modified | Deed::Deleted => {
                let at = state.random.below(pods.len() as u64);
                pods.swap_remove(usize::try_from(at).unwrap_or(0))
            }
        };
        Order { namespace, pod, deed }
    }

    /// Creates the last pod of each namespace.
    async fn finish(&self, connection: &mut Connection, tally: &Tally) {
        let namespaces = u16::try_from(self.state().idle.len()).unwrap_or(u16::MAX);
        for namespace in 0..namespaces {
            let order = Order {
                namespace,
                pod: LAST,
                deed: Deed::Added,
            };
            self.carry_out(order, Instant::now(), connection, tally).await;
        }
    }

    /// Carries it out and notes what became of it. A pod whose write failed is left alone from then on.
    async fn carry_out(&self, order: Order, due: Instant, connection: &mut Connection, tally: &Tally) {
        match self.ask(order, connection).await {
            Err(error) => tally.failed_with(error.to_string(), 1),
            Ok(revision) => {
                tally.succeeded(due.elapsed());
                let Order { namespace, pod, deed } = order;
                let mut state = self.state();
                state.done.push(Write {
                    namespace,
                    pod,
                    deed,
                    revision,
                    due,
                });
                if deed != Deed::Deleted && pod != LAST {
                    state.idle[usize::from(namespace)].push(pod);
                }
            }
        }
    }

    async fn ask(&self, order: Order, connection: &mut Connection) -> Result<Option<i64>, CallError> {
        let collection = pod::collection(&name_of(order.namespace));
        let name = name_of_pod(order.pod);
        let path = format!("{collection}/{name}");
        let answer = match order.deed {
            Deed::Added => connection.post(&collection, self.template.named(&name)).await?,
            Deed::Modified => {
                let patch = pod::relabel(u64::from(self.pods.fetch_add(1, Ordering::Relaxed)) + 1);
                connection.call(Method::PATCH, &path, MERGE_PATCH, patch).await?
            }
            Deed::Deleted => {
                connection.call(Method::DELETE, &path, "", String::new()).await?;
                return Ok(None);
            }
        };
        pod::version_of(&answer).map(Some)
    }
}

/// Connections that writes go out on.
const WRITERS: usize = 16;
/// Writes that are due and that no connection is free for.
const DUE_MAX: usize = 1024;
/// A namespace with fewer idle pods than this gets another one.
const IDLE_MIN: usize = 4;
/// One with so many gets no more.
const IDLE_MAX: usize = 50;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_given_a_pod_that_another_one_has() {
        let crew = Crew::new(2, 7);
        let mut seen = [0, 0, 0];
        let mut idle = [Vec::new(), Vec::new()];
        for _ in 0..1000 {
            let order = crew.order();
            let idle: &mut Vec<u32> = &mut idle[usize::from(order.namespace)];
            seen[order.deed as usize] += 1;
            if order.deed != Deed::Added {
                let at = idle.iter().position(|pod| *pod == order.pod);
                idle.swap_remove(at.expect("a pod that was idle"));
            }
            if order.deed != Deed::Deleted {
                idle.push(order.pod);
                let namespaces = &mut crew.state().idle;
                namespaces[usize::from(order.namespace)].push(order.pod);
            }
        }
        assert!(seen.iter().all(|count| *count > 100), "{seen:?}");
    }
}

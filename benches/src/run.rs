//! One run: connect, prefill, warm up, measure.
//!
//! A phase is a number of closed-loop clients under one budget. Only the last one is reported, and the server's
//! processor time is read at its two ends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderValue;
use proto::etcdserverpb::lease_client::LeaseClient;
use proto::etcdserverpb::{LeaseGrantRequest, LeaseRevokeRequest};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tonic::Status;

use crate::progress::Progress;
use crate::report::{Report, Usage};
use crate::spec::{Kind, Limit, Spec};
use crate::tally::{Budget, Tally};
use crate::transport::{Channel, connect_all};
use crate::worker::Worker;
use crate::{Error, process, watch};

/// A client whose operations fail so often in a row gives up: its connection is most likely gone.
pub(crate) const FAILURES_IN_A_ROW_MAX: u32 = 100;

/// A phase without a single success for so long is ended.
const STALL: Duration = Duration::from_secs(30);

/// Longer than the time in which a server groups its commits, 100 ms in etcd.
const SETTLE_PAUSE: Duration = Duration::from_millis(150);

/// Between two updates of the progress bar.
const TICK: Duration = Duration::from_millis(100);

/// Clients that prefill, where the run itself has fewer.
const PREFILL_CLIENTS_MIN: usize = 64;

/// Runs the load and reports its measured phase.
///
/// # Errors
/// No connection, a failed preparation, a server that stopped answering, or no operation that succeeded.
pub async fn run(spec: &Spec, show_progress: bool) -> Result<Report, Error> {
    run_as(spec, None, show_progress).await
}

/// The same as whoever has this token.
///
/// # Errors
/// As [`run`].
pub async fn run_as(spec: &Spec, token: Option<HeaderValue>, show_progress: bool) -> Result<Report, Error> {
    let channels = connect_all(&spec.endpoints, spec.conns).await?;
    let channels: Vec<Channel> = channels
        .into_iter()
        .map(|channel| channel.with_token(token.clone()))
        .collect();
    if spec.prefill {
        prefill(spec, &channels, show_progress).await?;
    }
    if !spec.warmup.is_zero() {
        let limit = Limit::Duration(spec.warmup);
        let label = Label {
            text: "warm-up",
            shown: show_progress,
        };
        phase(spec, &channels, limit, &label).await?;
    }
    let before = Usage::now(&spec.pids)?;
    let start = Instant::now();
    let label = Label {
        text: spec.kind.name(),
        shown: show_progress,
    };
    let tally = phase(spec, &channels, spec.limit, &label).await?;
    let elapsed = start.elapsed();
    let used = Usage::now(&spec.pids)?.since(before);
    let peak_rss_bytes = process::of_all(&spec.pids, process::peak_rss_bytes)?;
    match tally.errors().into_keys().next() {
        Some(first) if tally.done() == 0 => Err(Error::NothingDone { first }),
        _ => Ok(Report::new(spec, &tally, elapsed, used, peak_rss_bytes)),
    }
}

/// The name beside the progress bar.
pub(crate) struct Label {
    pub(crate) text: &'static str,
    pub(crate) shown: bool,
}

async fn prefill(spec: &Spec, channels: &[Channel], shown: bool) -> Result<(), Error> {
    let mut put = spec.clone();
    put.kind = Kind::Put;
    put.keys.sequential = true;
    put.clients = spec.clients.max(PREFILL_CLIENTS_MIN);
    let label = Label {
        text: "prefill",
        shown,
    };
    let count = Limit::Total(spec.keys.count);
    let tally = phase(&put, channels, count, &label).await?;
    completed(&tally)?;
    match channels.first() {
        Some(channel) => settle(channel).await.map_err(|status| Error::Prepare {
            what: "settling after the prefill",
            status: Box::new(status),
        }),
        None => Ok(()),
    }
}

/// Lets the server come to rest, to its advantage: etcd 3.4 copies the buffer of the prefill's writes for every read
/// until a later commit writes something but no key, so a lease comes and goes.
async fn settle(channel: &Channel) -> Result<(), Status> {
    let mut lease = LeaseClient::with_origin(channel.clone(), channel.origin());
    tokio::time::sleep(SETTLE_PAUSE).await;
    let grant = LeaseGrantRequest { ttl: 60, id: 0 };
    let id = lease.lease_grant(grant).await?.into_inner().id;
    tokio::time::sleep(SETTLE_PAUSE).await;
    lease.lease_revoke(LeaseRevokeRequest { id }).await?;
    tokio::time::sleep(SETTLE_PAUSE).await;
    Ok(())
}

/// A prefill with errors would leave keys out.
fn completed(tally: &Tally) -> Result<(), Error> {
    match tally.errors().into_keys().next() {
        None => Ok(()),
        Some(first) => Err(Error::Prepare {
            what: "prefill",
            status: Box::new(Status::aborted(first)),
        }),
    }
}

async fn phase(spec: &Spec, channels: &[Channel], limit: Limit, label: &Label) -> Result<Arc<Tally>, Error> {
    if let Kind::Watch { putters } = spec.kind {
        return watch::phase(spec, putters, channels, limit, label).await;
    }
    let workers = prepare(spec, channels).await?;
    let budget = Arc::new(Budget::new(limit, Instant::now()));
    let progress = Progress::new(label.text, limit, 1, label.shown);
    drive(workers, &budget, &progress).await
}

/// The clients of any load but watch.
pub(crate) async fn prepare(spec: &Spec, channels: &[Channel]) -> Result<Vec<Worker>, Error> {
    let mut workers = Vec::with_capacity(spec.clients);
    for (number, channel) in (0..spec.clients as u64).zip(channels.iter().cycle()) {
        let worker = Worker::new(spec, channel, number).await;
        workers.push(worker.map_err(|status| Error::Prepare {
            what: "preparing a client",
            status: Box::new(status),
        })?);
    }
    Ok(workers)
}

/// Lets the clients work until the budget is spent.
pub(crate) async fn drive(
    workers: Vec<Worker>,
    budget: &Arc<Budget>,
    progress: &Progress,
) -> Result<Arc<Tally>, Error> {
    let tally = Arc::new(Tally::new());
    let mut clients = JoinSet::new();
    for worker in workers {
        clients.spawn(client(worker, Arc::clone(budget), Arc::clone(&tally)));
    }
    let workers = supervise(&mut clients, &tally, progress).await?;
    for worker in workers {
        worker.finish().await.map_err(|status| Error::Prepare {
            what: "cleaning up",
            status: Box::new(status),
        })?;
    }
    Ok(tally)
}

/// Repeats the worker's operation until the budget is spent. Gives the worker back unless it gave up.
async fn client(mut worker: Worker, budget: Arc<Budget>, tally: Arc<Tally>) -> Option<Worker> {
    let mut failures_in_a_row = 0;
    while let Some(number) = budget.take() {
        let start = Instant::now();
        match worker.step(number).await {
            Ok(()) => {
                tally.succeeded(start.elapsed());
                failures_in_a_row = 0;
            }
            Err(status) => {
                tally.failed(&status);
                failures_in_a_row += 1;
                if failures_in_a_row == FAILURES_IN_A_ROW_MAX {
                    tally.gave_up();
                    return None;
                }
            }
        }
    }
    Some(worker)
}

/// Waits for all tasks, keeps the bar moving, and ends them when nothing succeeds any more.
pub(crate) async fn supervise<T: 'static>(
    tasks: &mut JoinSet<Option<T>>,
    tally: &Tally,
    progress: &Progress,
) -> Result<Vec<T>, Error> {
    let mut ended = Vec::new();
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut stall = Stall::new(Instant::now());
    loop {
        tokio::select! {
            biased;
            _ = tick.tick() => {
                progress.update(tally.done());
                stall.check(tally.done(), Instant::now())?;
            }
            joined = tasks.join_next() => match joined {
                Some(joined) => ended.extend(joined.map_err(Error::Client)?),
                None => return Ok(ended),
            },
        }
    }
}

/// Notices that a count has stopped growing.
struct Stall {
    done: u64,
    since: Instant,
}

impl Stall {
    fn new(now: Instant) -> Self {
        Self { done: 0, since: now }
    }

    fn check(&mut self, done: u64, now: Instant) -> Result<(), Error> {
        if done != self.done {
            *self = Self { done, since: now };
        }
        let waited = now.saturating_duration_since(self.since);
        if waited < STALL {
            Ok(())
        } else {
            Err(Error::Stalled { waited })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_that_stops_growing_is_a_stall() {
        let start = Instant::now();
        let mut stall = Stall::new(start);
        assert!(stall.check(0, start + STALL / 2).is_ok());
        assert!(stall.check(1, start + STALL).is_ok());
        assert!(stall.check(1, start + STALL + STALL / 2).is_ok());
        assert!(stall.check(1, start + STALL * 2).is_err());
    }
}

//! The watch load: clients watch the whole key space while a few others put.
//!
//! An operation is one event delivered to one watcher, its latency the time from the put's sending to the event's
//! arrival. The put carries its sending time in the value, so nothing is looked up at arrival. Putting ends first; then
//! every watcher must still get all that was put, and what does not come is counted as errors.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use proto::etcdserverpb::watch_client::WatchClient;
use proto::etcdserverpb::watch_request::RequestUnion;
use proto::etcdserverpb::{WatchCreateRequest, WatchRequest, WatchResponse};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::Error;
use crate::keys::whole_range;
use crate::progress::Progress;
use crate::run::{FAILURES_IN_A_ROW_MAX, Label, supervise};
use crate::spec::{Limit, Spec};
use crate::tally::{Budget, Tally};
use crate::transport::Channel;
use crate::worker::{Worker, stamped_nanos};

/// After the last put, a pause of this length between events means that no more will come.
const QUIET_MAX: Duration = Duration::from_secs(3);

/// Between two looks whether all events have arrived.
const DRAIN_POLL: Duration = Duration::from_millis(2);

/// A watcher that is set up. The sender keeps the request stream open.
struct Watcher {
    _requests: mpsc::Sender<WatchRequest>,
    answers: Streaming<WatchResponse>,
}

/// One phase of the watch load.
pub(crate) async fn phase(
    spec: &Spec,
    putters: usize,
    channels: &[Channel],
    limit: Limit,
    label: &Label,
) -> Result<Arc<Tally>, Error> {
    let prepare = |status| Error::Prepare {
        what: "setting up a watcher",
        status: Box::new(status),
    };
    let epoch = Instant::now();
    let tally = Arc::new(Tally::new());
    let mut watchers = JoinSet::new();
    for channel in channels.iter().cycle().take(spec.clients) {
        let watcher = Watcher::new(spec, channel).await.map_err(prepare)?;
        watchers.spawn(receive(watcher, epoch, Arc::clone(&tally)));
    }
    let budget = Arc::new(Budget::new(limit, Instant::now()));
    let acknowledged = Arc::new(AtomicU64::new(0));
    let mut clients = JoinSet::new();
    for (number, channel) in (0..putters as u64).zip(channels.iter().cycle()) {
        let worker = Worker::stamping(spec, channel, number, epoch).await;
        clients.spawn(putter(
            worker.map_err(prepare)?,
            Arc::clone(&budget),
            Arc::clone(&acknowledged),
            Arc::clone(&tally),
        ));
    }
    let progress = Progress::new(label.text, limit, spec.clients as u64, label.shown);
    supervise(&mut clients, &tally, &progress).await?;
    let due = acknowledged.load(Ordering::Relaxed) * spec.clients as u64;
    drain(&tally, due, &progress).await;
    // Dropping the set ends the watchers, and with them their streams.
    Ok(tally)
}

/// Waits until all events due have arrived, then counts those that have not.
async fn drain(tally: &Tally, due: u64, progress: &Progress) {
    let mut seen = (tally.done(), Instant::now());
    while seen.0 < due && seen.1.elapsed() < QUIET_MAX {
        progress.update(seen.0);
        tokio::time::sleep(DRAIN_POLL).await;
        if tally.done() != seen.0 {
            seen = (tally.done(), Instant::now());
        }
    }
    let missing = due.saturating_sub(seen.0);
    if missing > 0 {
        tally.failed_with("event not delivered in time".to_owned(), missing);
    }
}

impl Watcher {
    /// Watches the whole key space from now on; returns once the server has confirmed it.
    async fn new(spec: &Spec, channel: &Channel) -> Result<Self, Status> {
        let mut client =
            WatchClient::with_origin(channel.clone(), channel.origin()).max_decoding_message_size(usize::MAX);
        let (key, range_end) = whole_range(&spec.keys);
        let create = WatchCreateRequest {
            key,
            range_end,
            ..WatchCreateRequest::default()
        };
        let (requests, receive) = mpsc::channel(1);
        let request = WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(create)),
        };
        let sent = requests.send(request).await;
        sent.map_err(|_| Status::internal("the watch stream is closed"))?;
        let answers = client.watch(ReceiverStream::new(receive)).await?;
        let mut answers = answers.into_inner();
        match answers.message().await? {
            Some(answer) if answer.created && !answer.canceled => Ok(Self {
                _requests: requests,
                answers,
            }),
            Some(answer) => Err(Status::aborted(answer.cancel_reason)),
            None => Err(Status::unavailable("the watch stream ended")),
        }
    }
}

/// Counts events until the stream ends, which it does only by a fault.
async fn receive(mut watcher: Watcher, epoch: Instant, tally: Arc<Tally>) {
    let fault = loop {
        match watcher.answers.message().await {
            Ok(Some(answer)) if answer.canceled => break Status::aborted(answer.cancel_reason),
            Ok(Some(answer)) => {
                let now = epoch.elapsed();
                for value in answer.events.into_iter().filter_map(|event| event.kv) {
                    if let Some(nanos) = stamped_nanos(&value.value) {
                        tally.succeeded(now.saturating_sub(Duration::from_nanos(nanos)));
                    }
                }
            }
            Ok(None) => break Status::unavailable("the watch stream ended"),
            Err(status) => break status,
        }
    };
    tally.failed(&fault);
    tally.gave_up();
}

async fn putter(
    mut worker: Worker,
    budget: Arc<Budget>,
    acknowledged: Arc<AtomicU64>,
    tally: Arc<Tally>,
) -> Option<()> {
    let mut failures_in_a_row = 0;
    while let Some(number) = budget.take() {
        match worker.step(number).await {
            Ok(()) => {
                acknowledged.fetch_add(1, Ordering::Relaxed);
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
    Some(())
}

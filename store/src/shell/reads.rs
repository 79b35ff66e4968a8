//! Reading the state on the caller's own task: scans in bounded steps under the lock, and old values fetched from
//! the working copy on threads of their own.

use std::collections::BTreeMap;
use std::sync::Arc;

use proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use proto::etcdserverpb::{RangeRequest, RangeResponse, TxnRequest, TxnResponse};
use proto::mvccpb::KeyValue;

use super::auth::Judged;
use super::handle::Store;
use super::shared::{Pin, Shared};
use crate::apply::{Request, TxnPlan, check_range};
use crate::auth::Caller;
use crate::error::{Error, RequestError, Unavailable};
use crate::mvcc::{RangePlan, RangeScan, Tally};
use crate::types::Revision;

/// Serves a range from this member's state.
pub(super) async fn range(
    shared: &Arc<Shared>,
    caller: &Caller,
    request: &RangeRequest,
) -> Result<RangeResponse, Error> {
    timed_scan(shared, caller, request, Counting::All).await
}

async fn timed_scan(
    shared: &Arc<Shared>,
    caller: &Caller,
    request: &RangeRequest,
    counting: Counting,
) -> Result<RangeResponse, Error> {
    let began = shared.clock.now();
    let result = scan(shared, caller, request, counting).await;
    let numbers = shared.published.calls.own();
    numbers.read(Tally::of_reads(1));
    let took = shared.clock.now().since(began);
    numbers.ranges.observe(result.is_ok(), took);
    result
}

/// Whether a scan goes on to the range's end for `count` once it has all the keys that it may return.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Counting {
    All,
    Nothing,
}

async fn scan(
    shared: &Arc<Shared>,
    caller: &Caller,
    request: &RangeRequest,
    counting: Counting,
) -> Result<RangeResponse, Error> {
    let steps = shared.settings.limits.scan_step_keys;
    let (begun, judged) = begin(shared, caller, request, counting)?;
    let (mut scan, pin) = match begun {
        // Most reads end here and hold nothing beyond the lock.
        Begun::Done(plan, pin) => return finish_range(shared, plan, pin, judged).await,
        Begun::More(scan, pin) => (scan, pin),
    };
    loop {
        tokio::task::yield_now().await;
        let done = {
            let state = shared.state.read();
            if !pin.stands() {
                // Another state stands there, which may have compacted what this scan reads.
                return Err(Unavailable::LeaderChanged.into());
            }
            scan.step(&state.mvcc, steps)
        };
        if done {
            return finish_range(shared, scan.finish(), Some(pin), judged).await;
        }
    }
}

/// How far the first step of a scan came.
enum Begun {
    Done(RangePlan, Option<Pin>),
    More(RangeScan, Pin),
}

fn begin(
    shared: &Arc<Shared>,
    caller: &Caller,
    request: &RangeRequest,
    counting: Counting,
) -> Result<(Begun, Judged), RequestError> {
    let steps = shared.settings.limits.scan_step_keys;
    let state = shared.state.read();
    let judged = Judged::of(&state, caller, Request::Range(request))?;
    let mut scan = RangeScan::new(&state.mvcc, request)?;
    if counting == Counting::Nothing {
        scan = scan.uncounted();
    }
    let revision = scan.revision();
    if !scan.step(&state.mvcc, steps) {
        return Ok((Begun::More(scan, Pin::new(shared, revision)), judged));
    }
    let plan = scan.finish();
    let pin = (!plan.missing().is_empty()).then(|| Pin::new(shared, revision));
    Ok((Begun::Done(plan, pin), judged))
}

/// Serves a read-only transaction from this member's state.
pub(super) async fn read_txn(
    shared: &Arc<Shared>,
    caller: &Caller,
    request: &TxnRequest,
) -> Result<TxnResponse, Error> {
    let (plan, pin, judged) = {
        let state = shared.state.read();
        let judged = Judged::of(&state, caller, Request::Txn(request))?;
        let (plan, tally) = state.read_txn(request)?;
        shared.published.calls.own().read(tally);
        let pin = (!plan.missing().is_empty()).then(|| Pin::new(shared, state.mvcc.compacted()));
        (plan, pin, judged)
    };
    let answer = finish_txn(shared, plan, pin).await?;
    judged.confirm(shared)?;
    Ok(answer)
}

/// Fills the holes of a transaction's answer and completes its header; `pin` keeps what fills them.
pub(super) async fn finish_txn(
    shared: &Arc<Shared>,
    plan: TxnPlan,
    pin: Option<Pin>,
) -> Result<TxnResponse, Error> {
    let missing = plan.missing();
    let mut response = plan.finish(&fetch(shared, missing, pin.as_ref()).await?);
    drop(pin);
    shared.complete(&mut response.header);
    Ok(response)
}

/// Fills the holes of a range's answer and completes its header; `pin` keeps what fills them.
async fn finish_range(
    shared: &Arc<Shared>,
    plan: RangePlan,
    pin: Option<Pin>,
    judged: Judged,
) -> Result<RangeResponse, Error> {
    let missing = plan.missing();
    let mut response = plan.finish(&fetch(shared, missing, pin.as_ref()).await?);
    drop(pin);
    judged.confirm(shared)?;
    shared.complete(&mut response.header);
    Ok(response)
}

/// Reads old versions from the working copy, off the callers' threads. There is a pin where any are missing.
async fn fetch(
    shared: &Arc<Shared>,
    missing: Vec<Revision>,
    pin: Option<&Pin>,
) -> Result<BTreeMap<Revision, KeyValue>, Error> {
    let Some(pin) = pin.filter(|_| !missing.is_empty()) else {
        assert!(missing.is_empty(), "a read of the past without a pin");
        return Ok(BTreeMap::new());
    };
    let history = pin.history().await?;
    match shared.offload.run(move || history.fetch(&missing)).await {
        Ok(changes) => Ok(changes
            .into_iter()
            .map(|change| (change.revision, change.kv))
            .collect()),
        Err(error) => Err(fatal(shared, "reading history", &error)),
    }
}

/// Stops the node: what its disk holds can no longer be trusted.
pub(super) fn fatal(shared: &Shared, doing: &str, error: &dyn std::error::Error) -> Error {
    let mut cause = format!("{doing}: {error}");
    let mut source = error.source();
    while let Some(error) = source {
        cause.push_str(": ");
        cause.push_str(&error.to_string());
        source = error.source();
    }
    shared.fail(cause);
    Unavailable::Stopped.into()
}

/// A range as a stream of chunks, all of one revision; see [`Store::range_stream`]. The first chunk holds up to
/// 10 keys; the next ones double or halve so that a chunk stays near the limit on requests.
/// `header`, `more` and `count` come with the last chunk only. An answer sorted by anything but the key is one chunk:
/// etcd cuts it and sorts each part on its own, so that keys repeat and others are missing. Between two chunks nothing is held: a compaction that
/// passes the revision meanwhile ends the stream with `Compacted`, so that a client that stalls cannot keep history
/// from being removed.
pub struct RangeStream {
    store: Store,
    request: RangeRequest,
    state: Stage,
}

enum Stage {
    Begin,
    Chunks(Chunks),
    End,
}

/// A stream under way.
struct Chunks {
    chunk_keys: usize,
    /// What may still be sent under the request's limit; `None` for no limit.
    left: Option<i64>,
    header: Option<proto::etcdserverpb::ResponseHeader>,
    count: i64,
    judged: Judged,
}

impl RangeStream {
    pub(super) fn new(store: Store, request: RangeRequest) -> Self {
        RangeStream {
            store,
            request,
            state: Stage::Begin,
        }
    }

    /// The next chunk; `None` after the last one, or after an error.
    pub async fn next(&mut self) -> Option<Result<RangeResponse, Error>> {
        match self.try_next().await {
            Ok(chunk) => chunk.map(Ok),
            Err(error) => {
                self.state = Stage::End;
                Some(Err(error))
            }
        }
    }

    async fn try_next(&mut self) -> Result<Option<RangeResponse>, Error> {
        if matches!(self.state, Stage::Begin) {
            self.begin().await?;
        }
        let Stage::Chunks(chunks) = &mut self.state else {
            return Ok(None);
        };
        let whole = self.request.sort_target != i32::from(SortTarget::Key);
        let limit = match chunks.left {
            left if whole => left.unwrap_or(0),
            Some(left) => left.min(chunks.chunk_keys as i64),
            None => chunks.chunk_keys as i64,
        };
        let page = RangeRequest {
            limit,
            ..self.request.clone()
        };
        // The range was counted at the beginning; visiting all the rest for each chunk would be quadratic.
        let Store { shared, caller } = &self.store;
        chunks.judged.confirm(shared)?;
        let mut chunk = timed_scan(shared, caller, &page, Counting::Nothing).await?;
        if let Some(left) = &mut chunks.left {
            *left -= chunk.kvs.len() as i64;
        }
        let all_sent = chunks.left == Some(0) || !chunk.more;
        if all_sent {
            chunk.header = chunks.header.take();
            chunk.count = chunks.count;
            self.state = Stage::End;
            return Ok(Some(chunk));
        }
        chunk.header = None;
        (chunk.count, chunk.more) = (0, false);
        let bytes: usize = chunk.kvs.iter().map(prost::Message::encoded_len).sum();
        let target = self.store.shared.settings.max_request_bytes;
        if bytes < target / 2 {
            chunks.chunk_keys = (chunks.chunk_keys * 2).min(CHUNK_KEYS_MAX);
        } else if bytes > target * 2 {
            chunks.chunk_keys = (chunks.chunk_keys / 2).max(1);
        }
        if let Some(last) = chunk.kvs.last() {
            let mut next = last.key.to_vec();
            next.push(0);
            self.request.key = next.into();
        }
        Ok(Some(chunk))
    }

    /// Judges the request, settles its revision and counts its keys.
    async fn begin(&mut self) -> Result<(), Error> {
        check_range(&self.request)?;
        check_streamable(&self.request)?;
        let shared = Arc::clone(&self.store.shared);
        if !self.request.serializable {
            self.store.read_index().await?;
        }
        // One look for both: a client watches from the header's revision on.
        let (current, judged) = {
            let state = shared.state.read();
            let judged = Judged::of(&state, &self.store.caller, Request::Range(&self.request))?;
            (state.mvcc.current(), judged)
        };
        if self.request.revision <= 0 {
            self.request.revision = current;
        }
        let count_only = RangeRequest {
            count_only: true,
            ..self.request.clone()
        };
        let counted = range(&shared, &self.store.caller, &count_only).await?;
        self.state = Stage::Chunks(Chunks {
            chunk_keys: FIRST_CHUNK_KEYS,
            left: (self.request.limit > 0).then_some(self.request.limit),
            header: Some(shared.header(current)),
            count: counted.count,
            judged,
        });
        Ok(())
    }
}

fn check_streamable(request: &RangeRequest) -> Result<(), RequestError> {
    let by_key = request.sort_target == i32::from(SortTarget::Key);
    let ordered = request.sort_order == i32::from(SortOrder::None)
        || (by_key && request.sort_order == i32::from(SortOrder::Ascend));
    if !ordered {
        return Err(RequestError::StreamSortUnsupported);
    }
    let filtered = [
        request.min_mod_revision,
        request.max_mod_revision,
        request.min_create_revision,
        request.max_create_revision,
    ]
    .iter()
    .any(|bound| *bound != 0);
    if filtered {
        Err(RequestError::StreamFilterUnsupported)
    } else {
        Ok(())
    }
}

/// Keys of a stream's first chunk, as etcd's.
const FIRST_CHUNK_KEYS: usize = 10;
/// Keys of a chunk at most, however small they are.
const CHUNK_KEYS_MAX: usize = 1 << 16;

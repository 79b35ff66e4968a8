//! Counts calls, messages and bytes, without allocation and without sharing cache lines between runtimes: each
//! runtime counts into its own [`Shard`], and whoever shows the counts sums the shards.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use store::shell::{Histogram, HistogramValue};
use tonic::{Code, Status};

use super::backlog::{Backlog, Held};
use super::rpc::{Kind, Rpc};
use crate::audit::Entry;
use crate::defences::Arrival;
use crate::metrics::RuntimeNumbers;

/// The counts of one runtime.
pub(crate) struct Shard {
    rpcs: Box<[Counts]>,
    received_bytes: AtomicU64,
    sent_bytes: AtomicU64,
    /// How long calls took, where that is wanted.
    handling: Option<Box<[Histogram]>>,
    /// What else it counts.
    pub(crate) numbers: RuntimeNumbers,
}

/// The counts of one RPC.
#[derive(Default)]
struct Counts {
    started: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
    handled: [AtomicU64; CODES.len()],
}

/// The counts of one RPC, read and summed.
#[derive(Clone, Default)]
pub(crate) struct Totals {
    pub(crate) started: u64,
    pub(crate) received: u64,
    pub(crate) sent: u64,
    pub(crate) handled: [u64; CODES.len()],
    /// How long calls took, over [`HANDLING_BUCKETS_S`], where that is kept.
    pub(crate) handling: Option<HistogramValue>,
}

impl Shard {
    /// With `extensive` it keeps the times of calls as well.
    pub(crate) fn new(extensive: bool) -> Arc<Shard> {
        let times = || {
            let times = Rpc::ALL.iter().map(|_| Histogram::over(&HANDLING_BUCKETS_S));
            times.collect()
        };
        Arc::new(Shard {
            rpcs: Rpc::ALL.iter().map(|_| Counts::default()).collect(),
            received_bytes: AtomicU64::new(0),
            sent_bytes: AtomicU64::new(0),
            handling: extensive.then(times),
            numbers: RuntimeNumbers::default(),
        })
    }

    /// Adds the counts of `rpc` to `totals`.
    pub(crate) fn add_to(&self, rpc: Rpc, totals: &mut Totals) {
        let counts = self.counts(rpc);
        totals.started += counts.started.load(Ordering::Relaxed);
        totals.received += counts.received.load(Ordering::Relaxed);
        totals.sent += counts.sent.load(Ordering::Relaxed);
        for (total, count) in totals.handled.iter_mut().zip(&counts.handled) {
            *total += count.load(Ordering::Relaxed);
        }
        if let Some(handling) = &self.handling {
            let total = totals.handling.get_or_insert_default();
            total.merge(&handling[rpc as usize].value());
        }
    }

    /// Bytes of gRPC bodies received and sent.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        (
            self.received_bytes.load(Ordering::Relaxed),
            self.sent_bytes.load(Ordering::Relaxed),
        )
    }

    /// A message of a stream came in.
    pub(super) fn message_received(&self, rpc: Rpc) {
        self.counts(rpc).received.fetch_add(1, Ordering::Relaxed);
    }

    /// A message of a stream went out.
    pub(super) fn message_sent(&self, rpc: Rpc) {
        self.counts(rpc).sent.fetch_add(1, Ordering::Relaxed);
    }

    fn counts(&self, rpc: Rpc) -> &Counts {
        &self.rpcs[rpc as usize]
    }
}

/// One call from its start to its end; a call dropped before that was cancelled by its client.
pub(super) struct Call {
    shard: Arc<Shard>,
    rpc: Rpc,
    /// Where the times of calls are kept.
    began: Option<Instant>,
    ended: bool,
    /// Where somebody wants to know who did what.
    entry: Option<Entry>,
}

impl Call {
    pub(super) fn start(shard: Arc<Shard>, rpc: Rpc, entry: Option<Entry>) -> Call {
        shard.counts(rpc).started.fetch_add(1, Ordering::Relaxed);
        Call {
            began: shard.handling.is_some().then(Instant::now),
            shard,
            rpc,
            ended: false,
            entry,
        }
    }

    /// The call ended with `code`. The messages of unary calls are counted here; streams count their own.
    pub(super) fn end(&mut self, code: Code) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let counts = self.shard.counts(self.rpc);
        counts.handled[code as usize].fetch_add(1, Ordering::Relaxed);
        if let (Some(handling), Some(began)) = (&self.shard.handling, self.began) {
            handling[self.rpc as usize].observe(began.elapsed());
        }
        if let Some(entry) = self.entry.take() {
            entry.comes_to(code);
        }
        let (_, _, kind) = self.rpc.names();
        if kind != Kind::BidiStream {
            counts.received.fetch_add(1, Ordering::Relaxed);
        }
        // With an error too: that is how the library counts that a real server uses.
        if kind == Kind::Unary {
            counts.sent.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.end(Code::Cancelled);
    }
}

/// Where the frames of a request come from.
pub(super) enum Source {
    /// A client's stream.
    Wire(Incoming),
    /// The JSON gateway of this process.
    Local(UnsyncBoxBody<Bytes, Status>),
}

impl Source {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match self {
            Source::Wire(body) => Pin::new(body)
                .poll_frame(context)
                .map_err(|error| Status::from_error(error.into())),
            Source::Local(body) => Pin::new(body).poll_frame(context),
        }
    }
}

/// A request's body, its bytes counted, and bounded together with those of other requests received in part.
pub(super) struct RequestBody {
    pub(super) rpc: Rpc,
    inner: Source,
    shard: Arc<Shard>,
    backlog: Option<Arc<Backlog>>,
    received: usize,
    held: Option<Held>,
    /// Of a client's own message; what the gateway hands on is there.
    arrival: Option<Arrival>,
}

impl RequestBody {
    /// With a `backlog` for a body that is read whole before it is served.
    pub(super) fn new(
        rpc: Rpc,
        inner: Source,
        shard: Arc<Shard>,
        backlog: Option<Arc<Backlog>>,
        arrival: Option<Arrival>,
    ) -> RequestBody {
        RequestBody {
            rpc,
            inner,
            shard,
            backlog,
            received: 0,
            held: None,
            arrival,
        }
    }

    fn count(&mut self, bytes: usize) -> Result<(), Status> {
        self.shard
            .received_bytes
            .fetch_add(bytes as u64, Ordering::Relaxed);
        self.received += bytes;
        match &self.backlog {
            Some(backlog) if self.received > PART_BYTES_UNCOUNTED => {
                self.held.get_or_insert_with(|| backlog.hold(0)).grow(bytes)
            }
            _ => Ok(()),
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = self.inner.poll_frame(context);
        let judged = match (&polled, &mut self.arrival) {
            (Poll::Pending, Some(arrival)) => arrival.missed(context),
            (Poll::Ready(Some(Ok(frame))), arrival) => {
                if let Some(arrival) = arrival {
                    arrival.came();
                }
                frame.data_ref().map_or(Ok(()), |data| self.count(data.len()))
            }
            _ => Ok(()),
        };
        match judged {
            Ok(()) => polled,
            Err(refusal) => Poll::Ready(Some(Err(refusal))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            Source::Wire(body) => body.is_end_stream(),
            Source::Local(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Source::Wire(body) => body.size_hint(),
            Source::Local(body) => body.size_hint(),
        }
    }
}

/// An answer's body, its bytes counted and its trailers read for the code the call ended with.
pub(crate) struct AnswerBody {
    inner: tonic::body::Body,
    /// Absent for what is no known RPC.
    call: Option<Call>,
    /// What a large answer takes until it is sent.
    held: Option<Arc<Held>>,
}

impl AnswerBody {
    pub(super) fn new(inner: tonic::body::Body, call: Call, held: Option<Arc<Held>>) -> AnswerBody {
        AnswerBody {
            inner,
            call: Some(call),
            held,
        }
    }

    pub(super) fn uncounted(inner: tonic::body::Body) -> AnswerBody {
        AnswerBody {
            inner,
            call: None,
            held: None,
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(context);
        if let (Poll::Ready(Some(Ok(frame))), Some(call)) = (&polled, &mut self.call) {
            if let Some(data) = frame.data_ref() {
                call.shard
                    .sent_bytes
                    .fetch_add(data.len() as u64, Ordering::Relaxed);
            } else if let Some(trailers) = frame.trailers_ref() {
                call.end(code_of(trailers).unwrap_or(Code::Unknown));
            }
        }
        match &self.held {
            // The frames outlive the body in HTTP/2's send buffer, and so must what counts them.
            Some(held) => polled.map_ok(|frame| frame.map_data(|data| held.clone().with(data))),
            None => polled,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// The code in a header or trailer block, if there is one.
pub(super) fn code_of(headers: &http::HeaderMap) -> Option<Code> {
    headers
        .get("grpc-status")
        .map(|value| Code::from_bytes(value.as_bytes()))
}

/// So much of a request may be there in part without being counted: most never touch a shared counter.
const PART_BYTES_UNCOUNTED: usize = 8 << 10;

/// Upper bounds of the buckets of calls' times in seconds: Prometheus' own.
pub(crate) const HANDLING_BUCKETS_S: [f64; 11] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// gRPC's codes by number, under the names that Go gives them.
pub(crate) const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(shard: &Shard, rpc: Rpc) -> Totals {
        let mut totals = Totals::default();
        shard.add_to(rpc, &mut totals);
        totals
    }

    #[test]
    fn a_call_ends_once_and_a_dropped_one_is_cancelled() {
        let shard = Shard::new(true);
        let mut call = Call::start(shard.clone(), Rpc::Put, None);
        call.end(Code::Ok);
        drop(call);
        drop(Call::start(shard.clone(), Rpc::Put, None));
        let put = totals(&shard, Rpc::Put);
        assert_eq!((put.started, put.received, put.sent), (2, 2, 2));
        assert_eq!(
            (
                put.handled[Code::Ok as usize],
                put.handled[Code::Cancelled as usize]
            ),
            (1, 1)
        );
        assert_eq!(put.handled.iter().sum::<u64>(), 2);
        assert_eq!(put.handling.map(|times| times.count()), Some(2));
        assert_eq!(totals(&shard, Rpc::Range).started, 0);
    }

    #[test]
    fn codes_stand_at_their_numbers() {
        for (code, name) in [
            (Code::Ok, "OK"),
            (Code::Unavailable, "Unavailable"),
            (Code::Unauthenticated, "Unauthenticated"),
        ] {
            assert_eq!(CODES[code as usize], name);
        }
    }
}

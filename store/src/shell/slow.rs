//! What takes long: the times of applies and calls for the metrics, and etcd's lines about those that are too long.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use proto::etcdserverpb::response_op::Response as OpResponse;
use proto::etcdserverpb::{InternalRaftRequest, RangeRequest, RangeResponse, TxnRequest, TxnResponse};

use super::shared::Shared;
use super::text;
use crate::apply::{Applied, RequestKind, Response};
use crate::env::Instant;
use crate::error::{Error, RequestError};
use crate::mvcc::Tally;

/// The applying of some entries, entry by entry.
pub(super) struct ApplyWatch<'a> {
    shared: &'a Shared,
    /// When the last entry was done.
    at: Instant,
    tally: Tally,
    /// Told of only once the state's lock is free.
    slow: Vec<Slow>,
}

/// An entry that took long.
struct Slow {
    took: Duration,
    data: Bytes,
    response: String,
    error: Option<String>,
}

impl<'a> ApplyWatch<'a> {
    /// Begins with the first entry.
    pub(super) fn new(shared: &'a Shared) -> Self {
        ApplyWatch {
            shared,
            at: shared.clock.now(),
            tally: Tally::default(),
            slow: Vec::new(),
        }
    }

    /// An entry is applied.
    pub(super) fn applied(&mut self, data: &Bytes, applied: &Applied) {
        let now = self.shared.clock.now();
        let took = now.since(std::mem::replace(&mut self.at, now));
        let Some(kind) = applied.kind else { return };
        let published = &self.shared.published;
        // A compaction that comes late is none that failed.
        let success = matches!(&applied.response, Ok(_) | Err(RequestError::Compacted { .. }));
        published.applies.took.of(kind).observe(success, took);
        if kind == RequestKind::Compaction && applied.response.is_ok() {
            published.disk.compaction_apply.observe(took);
        }
        if let Ok(Response::Alarm(answer)) = &applied.response {
            published.alarms.note(&answer.alarms);
        }
        self.tally += applied.tally;
        if took > self.shared.settings.slow_apply {
            self.slow.push(Slow {
                took,
                data: data.clone(),
                response: applied.response.as_ref().map(response_text).unwrap_or_default(),
                error: applied.response.as_ref().err().map(ToString::to_string),
            });
        }
    }

    /// All entries are applied.
    pub(super) fn end(self) {
        self.shared.published.applies.tally.add(self.tally);
        for slow in self.slow {
            let request =
                InternalRaftRequest::decode(slow.data).map_or(String::new(), |r| text::internal(&r));
            self.shared
                .warn_of_apply(slow.took, "", &request, &slow.response, slow.error.as_deref());
        }
    }
}

fn response_text(response: &Response) -> String {
    let bytes = match response {
        Response::Put(answer) => answer.encoded_len(),
        Response::DeleteRange(answer) => answer.encoded_len(),
        Response::Compact(answer) => answer.encoded_len(),
        Response::LeaseGrant(answer) => answer.encoded_len(),
        Response::LeaseRevoke(answer) => answer.encoded_len(),
        Response::Alarm(answer) => answer.encoded_len(),
        // Values of the past may still be missing in it, or nobody waits for it.
        Response::Txn(_) | Response::Auth(_) | Response::Members(_) | Response::None => return String::new(),
    };
    format!("size:{bytes}")
}

/// A call under way.
pub(super) struct TimedCall<'a> {
    shared: &'a Shared,
    kind: RequestKind,
    began: Instant,
}

impl<'a> TimedCall<'a> {
    pub(super) fn begin(shared: &'a Shared, kind: RequestKind) -> Self {
        TimedCall {
            shared,
            kind,
            began: shared.clock.now(),
        }
    }

    /// The call has its answer; returns how long that took.
    pub(super) fn ended(&self, success: bool) -> Duration {
        let took = self.shared.clock.now().since(self.began);
        let requests = &self.shared.published.calls.own().requests;
        requests.of(self.kind).observe(success, took);
        took
    }

    pub(super) fn ended_range(&self, request: &RangeRequest, result: &Result<RangeResponse, Error>) {
        let took = self.ended(result.is_ok());
        if took > self.shared.settings.slow_apply {
            let response = result.as_ref().map_or(String::new(), |answer| {
                let (count, size) = (answer.kvs.len(), answer.encoded_len());
                format!("range_response_count:{count} size:{size}")
            });
            self.warn(took, "read-only range ", &text::range(request), &response, result);
        }
    }

    pub(super) fn ended_read_txn(&self, request: &TxnRequest, result: &Result<TxnResponse, Error>) {
        let took = self.ended(result.is_ok());
        if took > self.shared.settings.slow_apply {
            let response = result.as_ref().map_or(String::new(), txn_response_text);
            self.warn(took, "read-only txn ", &text::txn(request), &response, result);
        }
    }

    fn warn<T>(
        &self,
        took: Duration,
        prefix: &str,
        request: &str,
        response: &str,
        result: &Result<T, Error>,
    ) {
        let error = result.as_ref().err().map(ToString::to_string);
        self.shared
            .warn_of_apply(took, prefix, request, response, error.as_deref());
    }
}

fn txn_response_text(answer: &TxnResponse) -> String {
    let counts: Vec<_> = answer
        .responses
        .iter()
        .filter_map(|op| match &op.response {
            Some(OpResponse::ResponseRange(range)) => {
                Some(format!("range_response_count:{}", range.kvs.len()))
            }
            _ => None,
        })
        .collect();
    format!("responses:<{}> size:{}", counts.join(" "), answer.encoded_len())
}

impl Shared {
    fn warn_of_apply(
        &self,
        took: Duration,
        prefix: &str,
        request: &str,
        response: &str,
        error: Option<&str>,
    ) {
        tracing::warn!(
            took = go_duration(took),
            "expected-duration" = go_duration(self.settings.slow_apply),
            prefix,
            request,
            response,
            error,
            "apply request took too long"
        );
        self.published.slow_applies.fetch_add(1, Ordering::Relaxed);
    }
}

/// A time as Go prints it, which is how etcd's log has them.
#[must_use]
pub fn go_duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    let (unit, name) = match nanos {
        0 => return "0s".to_owned(),
        1..1_000 => (1, "ns"),
        1_000..1_000_000 => (1_000, "µs"),
        1_000_000..1_000_000_000 => (1_000_000, "ms"),
        _ => return long_duration(nanos),
    };
    format!("{}{name}", decimal(nanos, unit))
}

fn long_duration(nanos: u128) -> String {
    const SECOND: u128 = 1_000_000_000;
    let (minutes, rest) = (nanos / (60 * SECOND), nanos % (60 * SECOND));
    let seconds = decimal(rest, SECOND);
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m{seconds}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

/// `value / unit` with as many digits as it has; `unit` is a power of ten.
fn decimal(value: u128, unit: u128) -> String {
    let (whole, rest) = (value / unit, value % unit);
    if rest == 0 {
        return whole.to_string();
    }
    let width = unit.ilog10() as usize;
    let digits = format!("{rest:0width$}");
    format!("{whole}.{}", digits.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_printed_as_go_does() {
        for (nanos, text) in [
            (0, "0s"),
            (7, "7ns"),
            (1_500, "1.5µs"),
            (100_000_000, "100ms"),
            (123_456_789, "123.456789ms"),
            (1_000_000_000, "1s"),
            (7_050_000_000, "7.05s"),
            (62_000_000_001, "1m2.000000001s"),
            (3_600_000_000_000, "1h0m0s"),
        ] {
            assert_eq!(go_duration(Duration::from_nanos(nanos)), text);
        }
    }
}

//! etcd's line about unary calls that take long, `request stats`; at log level debug about all of them.

use std::any::Any;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use prost::Message;
use proto::etcdserverpb::{
    DeleteRangeRequest, DeleteRangeResponse, PutRequest, RangeRequest, RangeResponse, TxnRequest, TxnResponse,
};
use store::shell::{go_duration, text};

use super::rpc::Rpc;
use crate::logging;

/// A request, and what the log can tell of it when it is done.
pub(super) struct Kept<Q> {
    pub(super) message: Q,
    pub(super) told: Told,
}

/// What is kept of a request while it is carried out. A short one is kept as it came, which costs a reference; of a long
/// one, whose memory should be free as soon as may be, only its size and its key.
pub(super) enum Told {
    Short(Bytes),
    Long { bytes: usize, content: String },
}

impl<Q: Message + Default + 'static> Kept<Q> {
    /// Decodes a request.
    pub(super) fn decode(raw: Bytes) -> Result<Kept<Q>, prost::DecodeError> {
        let message = Q::decode(raw.clone())?;
        let told = if raw.len() <= KEPT_BYTES_MAX {
            Told::Short(raw)
        } else {
            Told::Long {
                bytes: raw.len(),
                content: long_content(&message),
            }
        };
        Ok(Kept { message, told })
    }
}

fn long_content(message: &dyn Any) -> String {
    if let Some(put) = message.downcast_ref::<PutRequest>() {
        return text::put(put);
    }
    match message.downcast_ref::<TxnRequest>() {
        Some(txn) => {
            let counts = (txn.compare.len(), txn.success.len(), txn.failure.len());
            format!(
                "compare:<{}> success:<{}> failure:<{}>",
                counts.0, counts.1, counts.2
            )
        }
        None => String::new(),
    }
}

/// The numbers of one line. What is not known of a kind of call is -1, as in etcd.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Stats {
    request_count: i64,
    request_bytes: i64,
    response_count: i64,
    response_bytes: i64,
    content: String,
}

/// Writes the line about a call that took `took`, if it is worth one.
pub(super) fn tell<A: Message + 'static>(
    rpc: Rpc,
    told: &Told,
    answer: Option<&A>,
    (took, slow): (Duration, Duration),
) {
    let is_slow = took > slow;
    if !is_slow && !tracing::enabled!(tracing::Level::DEBUG) {
        return;
    }
    let stats = Stats::of(rpc, told, answer);
    let (service, method, _) = rpc.names();
    let began = logging::time_text(
        SystemTime::now()
            .checked_sub(took)
            .unwrap_or(SystemTime::UNIX_EPOCH),
    );
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                "start time" = began,
                "time spent" = go_duration(took),
                "remote" = NO_REMOTE,
                "response type" = format!("/{service}/{method}"),
                "request count" = stats.request_count,
                "request size" = stats.request_bytes,
                "response count" = stats.response_count,
                "response size" = stats.response_bytes,
                "request content" = stats.content,
                "request stats"
            )
        };
    }
    if is_slow {
        line!(warn);
    } else {
        line!(debug);
    }
}

impl Stats {
    fn of<A: Message + 'static>(rpc: Rpc, told: &Told, answer: Option<&A>) -> Stats {
        let mut stats = Stats {
            request_count: -1,
            request_bytes: -1,
            response_count: -1,
            response_bytes: -1,
            content: String::new(),
        };
        if !matches!(rpc, Rpc::Range | Rpc::Put | Rpc::DeleteRange | Rpc::Txn) {
            return stats;
        }
        stats.response_count = answer.map_or(0, |answer| response_count(answer));
        stats.response_bytes = answer.map_or(0, |answer| size(answer.encoded_len()));
        stats.request_count = i64::from(rpc == Rpc::Put);
        match told {
            Told::Long { bytes, content } => {
                stats.request_bytes = size(*bytes);
                stats.content.clone_from(content);
            }
            Told::Short(raw) => {
                stats.request_bytes = size(raw.len());
                stats.content = short_content(rpc, raw.clone());
            }
        }
        if let (Told::Short(raw), Some(answer)) = (told, answer)
            && let Some(answer) = (answer as &dyn Any).downcast_ref::<TxnResponse>()
            && let Ok(txn) = TxnRequest::decode(raw.clone())
        {
            let chosen = if answer.succeeded {
                txn.success
            } else {
                txn.failure
            };
            stats.request_count = size(chosen.len());
            stats.request_bytes = size(chosen.iter().map(Message::encoded_len).sum());
        }
        stats
    }
}

/// The request as text; it was decoded before, and so it will be again.
fn short_content(rpc: Rpc, raw: Bytes) -> String {
    let content = match rpc {
        Rpc::Range => RangeRequest::decode(raw).map(|request| text::range(&request)),
        Rpc::Put => PutRequest::decode(raw).map(|request| text::put(&request)),
        Rpc::DeleteRange => DeleteRangeRequest::decode(raw).map(|request| text::delete(&request)),
        _ => TxnRequest::decode(raw).map(|request| text::txn(&request)),
    };
    content.unwrap_or_default()
}

fn response_count(answer: &dyn Any) -> i64 {
    if let Some(range) = answer.downcast_ref::<RangeResponse>() {
        return range.count;
    }
    match answer.downcast_ref::<DeleteRangeResponse>() {
        Some(delete) => delete.deleted,
        None => 0,
    }
}

fn size(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// The longest request that is kept as it came.
const KEPT_BYTES_MAX: usize = 4096;
/// What etcd says where it does not know the client's address; connections are not told apart here.
const NO_REMOTE: &str = "No remote client info.";

#[cfg(test)]
mod tests {
    use proto::etcdserverpb::{PutResponse, RequestOp, request_op::Request as Op};

    use super::*;

    fn put(value_bytes: usize) -> PutRequest {
        PutRequest {
            key: "k".into(),
            value: vec![1; value_bytes].into(),
            ..PutRequest::default()
        }
    }

    fn told<Q: Message + Default + 'static>(request: &Q) -> Told {
        let kept = Kept::<Q>::decode(request.encode_to_vec().into());
        kept.map(|kept| kept.told)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn puts_are_told_by_key_and_size_however_long() {
        for (value, size) in [(3, 8), (1 << 20, (1 << 20) + 7)] {
            let stats = Stats::of(Rpc::Put, &told(&put(value)), Some(&PutResponse::default()));
            assert_eq!(stats.content, format!("key:\"k\" value_size:{value}"));
            assert_eq!((stats.request_count, stats.request_bytes), (1, size));
            assert_eq!((stats.response_count, stats.response_bytes), (0, 0));
        }
    }

    #[test]
    fn transactions_are_told_by_the_branch_taken() {
        let txn = TxnRequest {
            success: vec![RequestOp {
                request: Some(Op::RequestPut(put(1))),
            }],
            ..TxnRequest::default()
        };
        let answer = |succeeded| TxnResponse {
            succeeded,
            ..TxnResponse::default()
        };
        let taken = Stats::of(Rpc::Txn, &told(&txn), Some(&answer(true)));
        assert_eq!(taken.request_count, 1);
        assert!(
            taken
                .content
                .contains("success:<request_put:<key:\"k\" value_size:1 >>")
        );
        assert_eq!(
            Stats::of(Rpc::Txn, &told(&txn), Some(&answer(false))).request_count,
            0
        );
    }

    #[test]
    fn of_other_calls_only_the_time_is_known() {
        let stats = Stats::of::<PutResponse>(Rpc::Status, &told(&put(1)), None);
        assert_eq!((stats.request_count, stats.response_bytes), (-1, -1));
        assert_eq!(stats.content, "");
    }
}

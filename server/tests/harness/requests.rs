//! Short words for requests, so that a test reads as what it asks.

use bytes::Bytes;
use proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use proto::etcdserverpb::request_op::Request;
use proto::etcdserverpb::response_op::Response;
use proto::etcdserverpb::{
    Compare, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, RangeRequest, RangeResponse,
    RequestOp, ResponseHeader, ResponseOp, TxnRequest, TxnResponse, WatchCreateRequest,
};
use proto::mvccpb::KeyValue;

/// The end of the range of all keys that begin with `prefix`.
pub(crate) fn prefix_end(prefix: &str) -> Bytes {
    let mut end = prefix.as_bytes().to_vec();
    *end.last_mut().expect("prefixes of tests are not empty") += 1;
    end.into()
}

/// The byte that stands for "from the first" as a key and "to the last" as a range end.
pub(crate) const ZERO: Bytes = Bytes::from_static(b"\0");

pub(crate) fn get(key: &str) -> RangeRequest {
    RangeRequest {
        key: bytes(key),
        ..Default::default()
    }
}

pub(crate) fn get_prefix(prefix: &str) -> RangeRequest {
    RangeRequest {
        key: bytes(prefix),
        range_end: prefix_end(prefix),
        ..Default::default()
    }
}

pub(crate) fn put(key: &str, value: &str) -> PutRequest {
    PutRequest {
        key: bytes(key),
        value: bytes(value),
        ..Default::default()
    }
}

pub(crate) fn delete(key: &str) -> DeleteRangeRequest {
    DeleteRangeRequest {
        key: bytes(key),
        ..Default::default()
    }
}

pub(crate) fn delete_prefix(prefix: &str) -> DeleteRangeRequest {
    DeleteRangeRequest {
        key: bytes(prefix),
        range_end: prefix_end(prefix),
        ..Default::default()
    }
}

pub(crate) fn watch_key(key: &str) -> WatchCreateRequest {
    WatchCreateRequest {
        key: bytes(key),
        ..Default::default()
    }
}

pub(crate) fn watch_prefix(prefix: &str) -> WatchCreateRequest {
    WatchCreateRequest {
        key: bytes(prefix),
        range_end: prefix_end(prefix),
        ..Default::default()
    }
}

/// A txn without compares.
pub(crate) fn then(success: Vec<RequestOp>) -> TxnRequest {
    TxnRequest {
        success,
        ..Default::default()
    }
}

/// A txn with both branches.
pub(crate) fn txn(compare: Vec<Compare>, success: Vec<RequestOp>, failure: Vec<RequestOp>) -> TxnRequest {
    TxnRequest {
        compare,
        success,
        failure,
    }
}

/// A compare; its target is that of its operand.
pub(crate) fn compare(key: &str, result: CompareResult, operand: TargetUnion) -> Compare {
    let target = match operand {
        TargetUnion::Version(_) => CompareTarget::Version,
        TargetUnion::CreateRevision(_) => CompareTarget::Create,
        TargetUnion::ModRevision(_) => CompareTarget::Mod,
        TargetUnion::Value(_) => CompareTarget::Value,
        TargetUnion::Lease(_) => CompareTarget::Lease,
    };
    Compare {
        result: result as i32,
        target: target as i32,
        key: bytes(key),
        target_union: Some(operand),
        ..Default::default()
    }
}

/// Holds while the key does not exist.
pub(crate) fn is_absent(key: &str) -> Compare {
    compare(key, CompareResult::Equal, TargetUnion::CreateRevision(0))
}

/// Any request as an operation of a txn.
pub(crate) fn op(request: impl IntoOp) -> RequestOp {
    RequestOp {
        request: Some(request.into_op()),
    }
}

pub(crate) trait IntoOp {
    fn into_op(self) -> Request;
}

impl IntoOp for RangeRequest {
    fn into_op(self) -> Request {
        Request::RequestRange(self)
    }
}

impl IntoOp for PutRequest {
    fn into_op(self) -> Request {
        Request::RequestPut(self)
    }
}

impl IntoOp for DeleteRangeRequest {
    fn into_op(self) -> Request {
        Request::RequestDeleteRange(self)
    }
}

impl IntoOp for TxnRequest {
    fn into_op(self) -> Request {
        Request::RequestTxn(self)
    }
}

pub(crate) fn range_answer(answer: &ResponseOp) -> &RangeResponse {
    match &answer.response {
        Some(Response::ResponseRange(response)) => response,
        other => panic!("not the answer of a range: {other:?}"),
    }
}

pub(crate) fn put_answer(answer: &ResponseOp) -> &PutResponse {
    match &answer.response {
        Some(Response::ResponsePut(response)) => response,
        other => panic!("not the answer of a put: {other:?}"),
    }
}

pub(crate) fn delete_answer(answer: &ResponseOp) -> &DeleteRangeResponse {
    match &answer.response {
        Some(Response::ResponseDeleteRange(response)) => response,
        other => panic!("not the answer of a delete: {other:?}"),
    }
}

pub(crate) fn txn_answer(answer: &ResponseOp) -> &TxnResponse {
    match &answer.response {
        Some(Response::ResponseTxn(response)) => response,
        other => panic!("not the answer of a txn: {other:?}"),
    }
}

/// A call that shall fail at once where no leader is known.
pub(crate) fn demand_leader<T>(message: T) -> tonic::Request<T> {
    with_leader_demand(tonic::Request::new(message))
}

/// The same for a request that is made already.
pub(crate) fn with_leader_demand<T>(mut request: tonic::Request<T>) -> tonic::Request<T> {
    let value = tonic::metadata::MetadataValue::from_static("true");
    request.metadata_mut().insert("hasleader", value);
    request
}

/// The revision in a header that must be there.
#[track_caller]
pub(crate) fn header_revision(header: &Option<ResponseHeader>) -> i64 {
    header.as_ref().expect("the answer has a header").revision
}

/// Pairs as `key=value`, in the order of the answer.
pub(crate) fn pairs(kvs: &[KeyValue]) -> Vec<String> {
    kvs.iter()
        .map(|kv| format!("{}={}", text(&kv.key), text(&kv.value)))
        .collect()
}

/// A pair's create revision, mod revision and version.
pub(crate) fn revisions(kv: &KeyValue) -> (i64, i64, i64) {
    (kv.create_revision, kv.mod_revision, kv.version)
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(crate) fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

//! When an answer or an event is the expected one: equal, except in what the contract leaves open.

use proto::etcdserverpb::range_request::SortTarget;
use proto::etcdserverpb::{RangeRequest, RangeResponse, WatchCreateRequest};
use proto::mvccpb::Event;

use crate::history::event_revision;
use crate::model::{Model, Request, Response, compare_by};

/// Whether an answer fits the state of the model, whose own answer is `expected`. Cluster, member and term are the
/// answering member's own and not looked at; keys that tie in a sort may stand in any order.
pub(super) fn same_answer(model: &Model, request: &Request, expected: &Response, actual: &Response) -> bool {
    let actual = without_member(actual.clone());
    if *expected == actual {
        return true;
    }
    match (request, expected, &actual) {
        (Request::Range(request), Response::Range(expected), Response::Range(actual)) => {
            same_but_for_ties(model, request, expected, actual)
        }
        _ => false,
    }
}

/// Whether two lists are the same changes in the same order. Previous values are compared where both have them.
pub(super) fn same_changes(a: &[Event], b: &[Event]) -> bool {
    let same = |(a, b): (&Event, &Event)| {
        let previous = a.prev_kv.is_none() || b.prev_kv.is_none() || a.prev_kv == b.prev_kv;
        a.r#type == b.r#type && a.kv == b.kv && previous
    };
    a.len() == b.len() && a.iter().zip(b).all(same)
}

/// Whether a watcher may receive `actual` for what happened as `truth`.
pub(super) fn same_event(
    watch: &WatchCreateRequest,
    truth: &Event,
    actual: &Event,
    compacted_max: i64,
) -> bool {
    let previous = if watch.prev_kv {
        // Gone where compaction has removed it by the time of delivery, which the record does not tell.
        let may_be_gone = event_revision(truth) <= compacted_max;
        actual.prev_kv == truth.prev_kv || (may_be_gone && actual.prev_kv.is_none())
    } else {
        actual.prev_kv.is_none()
    };
    actual.r#type == truth.r#type && actual.kv == truth.kv && previous
}

fn same_but_for_ties(
    model: &Model,
    request: &RangeRequest,
    expected: &RangeResponse,
    actual: &RangeResponse,
) -> bool {
    let Ok(target) = SortTarget::try_from(request.sort_target) else {
        return false;
    };
    let rest = RangeResponse {
        kvs: Vec::new(),
        ..expected.clone()
    };
    let same_rest = rest
        == RangeResponse {
            kvs: Vec::new(),
            ..actual.clone()
        };
    // Sorted by values that the answer leaves out, there is nothing to compare the order by.
    let hidden = request.keys_only && target == SortTarget::Value;
    if target == SortTarget::Key || hidden || !same_rest || expected.kvs.len() != actual.kvs.len() {
        return false;
    }
    let in_order = expected
        .kvs
        .iter()
        .zip(&actual.kvs)
        .all(|(a, b)| compare_by(target, a, b).is_eq());
    let unlimited = RangeRequest {
        limit: 0,
        ..request.clone()
    };
    let all = model.range(&unlimited).map(|all| all.kvs).unwrap_or_default();
    let distinct = actual
        .kvs
        .iter()
        .enumerate()
        .all(|(at, kv)| !actual.kvs[..at].contains(kv));
    in_order && distinct && actual.kvs.iter().all(|kv| all.contains(kv))
}

fn without_member(mut response: Response) -> Response {
    let header = match &mut response {
        Response::Range(r) => &mut r.header,
        Response::Put(r) => &mut r.header,
        Response::DeleteRange(r) => &mut r.header,
        Response::Txn(r) => &mut r.header,
        Response::Compact(r) => &mut r.header,
        Response::LeaseGrant(r) => &mut r.header,
        Response::LeaseRevoke(r) => &mut r.header,
        Response::LeaseKeepAlive(r) => &mut r.header,
        Response::LeaseTimeToLive(r) => &mut r.header,
        Response::LeaseLeases(r) => &mut r.header,
    };
    if let Some(header) = header {
        header.cluster_id = 0;
        header.member_id = 0;
        header.raft_term = 0;
    }
    response
}

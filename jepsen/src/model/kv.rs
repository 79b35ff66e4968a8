//! Range, put and delete-range, alone or inside a transaction.

use std::cmp::Ordering;

use bytes::Bytes;
use proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use proto::etcdserverpb::{
    DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, RangeRequest, RangeResponse,
};
use proto::mvccpb::KeyValue;

use super::state::{State, Writer};
use super::{Error, header};

/// Whether a read may stand at the revision it asks for (0 or less: the current one).
pub(super) const fn check_revision(state: &State, asked: i64) -> Result<(), Error> {
    if asked > state.revision {
        return Err(Error::FutureRev);
    }
    if asked > 0 && asked < state.compacted {
        return Err(Error::Compacted);
    }
    Ok(())
}

/// Whether the state lets a put of valid shape happen.
pub(super) fn check_put(state: &State, request: &PutRequest) -> Result<(), Error> {
    if request.lease != 0 && !state.leases.contains_key(&request.lease) {
        return Err(Error::LeaseNotFound);
    }
    let needs_key = request.ignore_value || request.ignore_lease;
    if needs_key && state.get(&request.key, state.revision).is_none() {
        return Err(Error::KeyNotFound);
    }
    Ok(())
}

/// A range of valid shape, at a revision that can be read, answered when the store stands at `current`.
pub(super) fn range_at(state: &State, request: &RangeRequest, at: i64, current: i64) -> RangeResponse {
    let mut kvs = state.scan(&request.key, &request.range_end, at);
    let mut response = RangeResponse {
        header: Some(header(current)),
        count: i64::try_from(kvs.len()).expect("fewer than 2^63 keys"),
        ..RangeResponse::default()
    };
    if request.count_only {
        return response;
    }
    let limit = usize::try_from(request.limit).ok().filter(|limit| *limit > 0);
    let unordered = request.sort_order == i32::from(SortOrder::None);
    if let Some(limit) = limit
        && unordered
        && !has_filters(request)
    {
        // etcd fetches one key beyond the limit, in key order, and sorts only what it fetched.
        kvs.truncate(limit.saturating_add(1));
    }
    kvs.retain(|kv| passes_filters(request, kv));
    sort(request, &mut kvs);
    if let Some(limit) = limit
        && kvs.len() > limit
    {
        kvs.truncate(limit);
        response.more = true;
    }
    if request.keys_only {
        for kv in &mut kvs {
            kv.value = Bytes::new();
            // Answered from the index alone, which knows no lease, unless the values were needed to sort.
            if request.sort_target != i32::from(SortTarget::Value) {
                kv.lease = 0;
            }
        }
    }
    response.kvs = kvs;
    response
}

pub(super) fn put(writer: &mut Writer<'_>, request: &PutRequest) -> PutResponse {
    let old = writer.state.get(&request.key, writer.revision());
    let (old_value, old_lease) = old
        .as_ref()
        .map(|old| (old.value.clone(), old.lease))
        .unwrap_or_default();
    let value = if request.ignore_value {
        old_value
    } else {
        request.value.clone()
    };
    let lease = if request.ignore_lease {
        old_lease
    } else {
        request.lease
    };
    writer.put(&request.key, value, lease);
    PutResponse {
        header: Some(header(writer.revision())),
        prev_kv: old.filter(|_| request.prev_kv),
    }
}

pub(super) fn delete_range(writer: &mut Writer<'_>, request: &DeleteRangeRequest) -> DeleteRangeResponse {
    let old = writer
        .state
        .scan(&request.key, &request.range_end, writer.revision());
    for kv in &old {
        writer.delete(&kv.key);
    }
    DeleteRangeResponse {
        header: Some(header(writer.revision())),
        deleted: i64::try_from(old.len()).expect("fewer than 2^63 keys"),
        prev_kvs: if request.prev_kv { old } else { Vec::new() },
    }
}

const fn has_filters(request: &RangeRequest) -> bool {
    request.min_mod_revision != 0
        || request.max_mod_revision != 0
        || request.min_create_revision != 0
        || request.max_create_revision != 0
}

fn passes_filters(request: &RangeRequest, kv: &KeyValue) -> bool {
    let at_least = |bound: i64, actual: i64| bound == 0 || actual >= bound;
    let at_most = |bound: i64, actual: i64| bound == 0 || actual <= bound;
    at_least(request.min_mod_revision, kv.mod_revision)
        && at_most(request.max_mod_revision, kv.mod_revision)
        && at_least(request.min_create_revision, kv.create_revision)
        && at_most(request.max_create_revision, kv.create_revision)
}

/// Sorts keys that stand in key order. Ties, whose order etcd leaves open, stay in key order here.
fn sort(request: &RangeRequest, kvs: &mut [KeyValue]) {
    let target = SortTarget::try_from(request.sort_target).unwrap_or(SortTarget::Key);
    let descend = request.sort_order == i32::from(SortOrder::Descend);
    kvs.sort_by(|a, b| {
        let order = compare_by(target, a, b);
        if descend { order.reverse() } else { order }
    });
}

/// Orders two keys by the target of a sorted range.
pub(crate) fn compare_by(target: SortTarget, a: &KeyValue, b: &KeyValue) -> Ordering {
    match target {
        SortTarget::Key => a.key.cmp(&b.key),
        SortTarget::Version => a.version.cmp(&b.version),
        SortTarget::Create => a.create_revision.cmp(&b.create_revision),
        SortTarget::Mod => a.mod_revision.cmp(&b.mod_revision),
        SortTarget::Value => a.value.cmp(&b.value),
    }
}

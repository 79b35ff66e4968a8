//! What is judged before a request is proposed: its arguments, its cost, where it goes. Pure functions of the
//! request; limits are passed in.
//!
//! etcd's order for a transaction, to be kept by the caller: quota (`cost_of_txn`), then [`check_txn`]: the number
//! of operations, the keys of compares, success ops, failure ops, duplicate keys of success, those of failure.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use bytes::Bytes;
use prost::Message as _;
use proto::etcdserverpb::request_op::Request as Op;
use proto::etcdserverpb::{
    DeleteRangeRequest, InternalRaftRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};

use crate::error::RequestError;
use crate::membership::MemberChange;
use crate::mvcc::check_arguments;
use crate::types::EntryKind;

/// Arguments of a Range: key, then sort options.
pub fn check_range(request: &RangeRequest) -> Result<(), RequestError> {
    check_arguments(request)
}

/// Arguments of a Put: key, then value, then lease.
pub fn check_put(request: &PutRequest) -> Result<(), RequestError> {
    if request.key.is_empty() {
        return Err(RequestError::EmptyKey);
    }
    if request.ignore_value && !request.value.is_empty() {
        return Err(RequestError::ValueProvided);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(RequestError::LeaseProvided);
    }
    Ok(())
}

/// Arguments of a DeleteRange.
pub fn check_delete(request: &DeleteRangeRequest) -> Result<(), RequestError> {
    if request.key.is_empty() {
        Err(RequestError::EmptyKey)
    } else {
        Ok(())
    }
}

/// Arguments of a transaction whose lists may have `ops_max` entries each; a nested one may have what its parent's
/// longest list left over. They nest at most 48 deep, whatever the lists leave over.
pub fn check_txn(request: &TxnRequest, ops_max: usize) -> Result<(), RequestError> {
    check_ops(request, ops_max, ops_max, NESTED_MAX)?;
    Written::of(&request.success)?;
    Written::of(&request.failure)?;
    Ok(())
}

/// Whether an entry can be applied, once it is in the log: whoever brings one that cannot, from another member, would stop
/// every member for good. Looks at the form only; what it asks for is judged when it is applied.
#[must_use]
pub fn is_applicable(kind: EntryKind, data: &Bytes) -> bool {
    if kind == EntryKind::Change {
        return MemberChange::decode(data).is_ok();
    }
    let Ok(request) = InternalRaftRequest::decode(data.clone()) else {
        return false;
    };
    let put = request.put.as_ref().is_none_or(|put| check_put(put).is_ok());
    let delete = request.delete_range.as_ref();
    let delete = delete.is_none_or(|delete| check_delete(delete).is_ok());
    let txn = request.txn.as_ref();
    put && delete && txn.is_none_or(|txn| check_ops(txn, usize::MAX, usize::MAX, NESTED_MAX).is_ok())
}

fn check_ops(
    request: &TxnRequest,
    allowed: usize,
    ops_max: usize,
    nested_max: usize,
) -> Result<(), RequestError> {
    let longest = request
        .compare
        .len()
        .max(request.success.len())
        .max(request.failure.len());
    let Some(left) = allowed.checked_sub(longest) else {
        return Err(RequestError::TooManyOps { max: ops_max });
    };
    if request.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(RequestError::EmptyKey);
    }
    for op in request.success.iter().chain(&request.failure) {
        match &op.request {
            Some(Op::RequestRange(range)) => check_range(range)?,
            Some(Op::RequestPut(put)) => check_put(put)?,
            Some(Op::RequestDeleteRange(delete)) => check_delete(delete)?,
            Some(Op::RequestTxn(nested)) => {
                let deeper = nested_max.checked_sub(1);
                let deeper = deeper.ok_or(RequestError::TooManyOps { max: ops_max })?;
                check_ops(nested, left, ops_max, deeper)?;
            }
            None => return Err(RequestError::KeyNotFound),
        }
    }
    Ok(())
}

/// What a list of operations may write, nested branches included, whether they can run or not.
#[derive(Default)]
struct Written<'a> {
    puts: BTreeSet<&'a [u8]>,
    deletes: Deletes<'a>,
}

impl<'a> Written<'a> {
    /// Collects, or finds a key put twice or put under a delete. The order is etcd's, and shows: a nested put is
    /// compared with the deletes of this level and of nested transactions *before* it, an own put with all.
    fn of(ops: &'a [RequestOp]) -> Result<Self, RequestError> {
        let mut all = Written::default();
        for op in ops {
            if let Some(Op::RequestDeleteRange(delete)) = &op.request {
                all.deletes.add(&delete.key, &delete.range_end);
            }
        }
        for op in ops {
            let Some(Op::RequestTxn(nested)) = &op.request else {
                continue;
            };
            let (success, failure) = (Self::of(&nested.success)?, Self::of(&nested.failure)?);
            // Only one of the two runs, so both may put the same key.
            let either: BTreeSet<&[u8]> = success.puts.union(&failure.puts).copied().collect();
            for key in either {
                all.put(key)?;
            }
            all.deletes.merge(success.deletes);
            all.deletes.merge(failure.deletes);
        }
        for op in ops {
            if let Some(Op::RequestPut(put)) = &op.request {
                all.put(&put.key)?;
            }
        }
        Ok(all)
    }

    fn put(&mut self, key: &'a [u8]) -> Result<(), RequestError> {
        if self.deletes.contains(key) || !self.puts.insert(key) {
            return Err(RequestError::DuplicateKey);
        }
        Ok(())
    }
}

/// A set of deleted keys: points and disjoint half-open intervals.
#[derive(Default)]
struct Deletes<'a> {
    points: BTreeSet<&'a [u8]>,
    /// Start to end.
    ranges: BTreeMap<&'a [u8], &'a [u8]>,
}

impl<'a> Deletes<'a> {
    /// Adds a delete. One to the end of the key space (`range_end` the one byte 0) is an empty interval here: etcd
    /// takes its end literally.
    fn add(&mut self, key: &'a [u8], range_end: &'a [u8]) {
        if range_end.is_empty() {
            self.points.insert(key);
        } else if key < range_end {
            self.add_range(key, range_end);
        }
    }

    fn add_range(&mut self, mut start: &'a [u8], mut end: &'a [u8]) {
        while let Some((s, e)) = self.ranges.range(..=end).next_back().map(|(s, e)| (*s, *e)) {
            if e < start {
                break;
            }
            self.ranges.remove(s);
            start = start.min(s);
            end = end.max(e);
        }
        self.ranges.insert(start, end);
    }

    fn merge(&mut self, other: Deletes<'a>) {
        self.points.extend(other.points);
        for (start, end) in other.ranges {
            self.add_range(start, end);
        }
    }

    fn contains(&self, key: &[u8]) -> bool {
        let below = self
            .ranges
            .range::<[u8], _>((Bound::Unbounded, Bound::Included(key)))
            .next_back();
        self.points.contains(key) || below.is_some_and(|(_, end)| key < *end)
    }
}

/// What a Put takes of the quota.
#[must_use]
pub fn cost_of_put(request: &PutRequest) -> u64 {
    PUT_OVERHEAD_BYTES + (request.key.len() + request.value.len()) as u64
}

/// What a DeleteRange takes of the quota: nothing, for it must always be possible.
#[must_use]
pub fn cost_of_delete(_: &DeleteRangeRequest) -> u64 {
    0
}

/// What a LeaseGrant takes of the quota.
#[must_use]
pub fn cost_of_grant() -> u64 {
    LEASE_BYTES
}

/// What a transaction takes of the quota: its dearer branch, taken or not; 0 without any put.
#[must_use]
pub fn cost_of_txn(request: &TxnRequest) -> u64 {
    let branch = |ops: &[RequestOp]| ops.iter().map(cost_of_op).sum::<u64>();
    branch(&request.success).max(branch(&request.failure))
}

fn cost_of_op(op: &RequestOp) -> u64 {
    match &op.request {
        Some(Op::RequestPut(put)) => cost_of_put(put),
        Some(Op::RequestTxn(nested)) => cost_of_txn(nested),
        _ => 0,
    }
}

/// Whether a transaction is answered as a read: both branches hold ranges only. A nested one makes it a write.
#[must_use]
pub fn is_read_only(request: &TxnRequest) -> bool {
    ops(request).all(|op| matches!(op.request, Some(Op::RequestRange(_))))
}

/// Whether a transaction is a read that may be stale: every op is a range marked so. One without ops is.
#[must_use]
pub fn is_serializable(request: &TxnRequest) -> bool {
    ops(request).all(|op| matches!(&op.request, Some(Op::RequestRange(range)) if range.serializable))
}

fn ops(request: &TxnRequest) -> impl Iterator<Item = &RequestOp> {
    request.success.iter().chain(&request.failure)
}

/// How deep transactions may nest. A log entry must be readable by every member, and prost reads messages nested up
/// to 100 deep: the outermost transaction is at depth 1 of an entry, each further one 2 deeper, and what its operations
/// hold another 2.
const NESTED_MAX: usize = 48;
/// What a put is taken to cost beside its key and value.
const PUT_OVERHEAD_BYTES: u64 = 256;
/// What a lease is taken to cost.
const LEASE_BYTES: u64 = 64;

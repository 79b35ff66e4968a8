//! What a request must look like before it is looked at: the checks that need no state, in etcd's order.

use std::collections::BTreeSet;

use bytes::Bytes;
use proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use proto::etcdserverpb::request_op::Request as Op;
use proto::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest};

use super::Error;

pub(super) fn range(request: &RangeRequest) -> Result<(), Error> {
    if request.key.is_empty() {
        return Err(Error::EmptyKey);
    }
    let known =
        SortOrder::try_from(request.sort_order).is_ok() && SortTarget::try_from(request.sort_target).is_ok();
    if known {
        Ok(())
    } else {
        Err(Error::InvalidSortOption)
    }
}

pub(super) fn put(request: &PutRequest) -> Result<(), Error> {
    if request.key.is_empty() {
        return Err(Error::EmptyKey);
    }
    if request.ignore_value && !request.value.is_empty() {
        return Err(Error::ValueProvided);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(Error::LeaseProvided);
    }
    Ok(())
}

pub(super) fn delete_range(request: &DeleteRangeRequest) -> Result<(), Error> {
    if request.key.is_empty() {
        Err(Error::EmptyKey)
    } else {
        Ok(())
    }
}

pub(super) fn txn(request: &TxnRequest, ops_max: usize) -> Result<(), Error> {
    shape(request, ops_max)?;
    writes_of_branch(&request.success)?;
    writes_of_branch(&request.failure)?;
    Ok(())
}

/// Lengths and arguments. A nested transaction has what the longest list of its parent left over.
fn shape(request: &TxnRequest, ops_max: usize) -> Result<(), Error> {
    let longest = request
        .compare
        .len()
        .max(request.success.len())
        .max(request.failure.len());
    let left = ops_max.checked_sub(longest).ok_or(Error::TooManyOps)?;
    if request.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(Error::EmptyKey);
    }
    for op in request.success.iter().chain(&request.failure) {
        match op.request.as_ref() {
            Some(Op::RequestRange(inner)) => range(inner)?,
            Some(Op::RequestPut(inner)) => put(inner)?,
            Some(Op::RequestDeleteRange(inner)) => delete_range(inner)?,
            Some(Op::RequestTxn(inner)) => shape(inner, left)?,
            None => return Err(Error::KeyNotFound),
        }
    }
    Ok(())
}

/// The keys that a branch may put and the ranges that it may delete.
#[derive(Default)]
struct Writes<'a> {
    puts: BTreeSet<&'a Bytes>,
    deletes: Vec<(&'a Bytes, &'a Bytes)>,
}

impl Writes<'_> {
    fn deletes_key(&self, key: &Bytes) -> bool {
        // An end of one zero byte is compared like any other end here, so it covers nothing: etcd's own quirk.
        self.deletes.iter().any(|(from, end)| {
            if end.is_empty() {
                *from == key
            } else {
                key >= *from && key < *end
            }
        })
    }
}

/// Refuses a branch that may put a key twice, or put a key that it may also delete. Deletes of this level are known to
/// the nested transactions; those of an earlier nested transaction are known to the later ones and to this level's
/// puts. The two branches of one nested transaction never meet, so they may share a key.
fn writes_of_branch(ops: &[RequestOp]) -> Result<Writes<'_>, Error> {
    let mut writes = Writes::default();
    for op in ops {
        if let Some(Op::RequestDeleteRange(delete)) = op.request.as_ref() {
            writes.deletes.push((&delete.key, &delete.range_end));
        }
    }
    for op in ops {
        if let Some(Op::RequestTxn(nested)) = op.request.as_ref() {
            let success = writes_of_branch(&nested.success)?;
            let failure = writes_of_branch(&nested.failure)?;
            let puts: BTreeSet<&Bytes> = success.puts.union(&failure.puts).copied().collect();
            if puts
                .iter()
                .any(|key| writes.puts.contains(*key) || writes.deletes_key(key))
            {
                return Err(Error::DuplicateKey);
            }
            writes.puts.extend(puts);
            writes.deletes.extend(success.deletes);
            writes.deletes.extend(failure.deletes);
        }
    }
    for op in ops {
        if let Some(Op::RequestPut(put)) = op.request.as_ref()
            && (writes.deletes_key(&put.key) || !writes.puts.insert(&put.key))
        {
            return Err(Error::DuplicateKey);
        }
    }
    Ok(writes)
}

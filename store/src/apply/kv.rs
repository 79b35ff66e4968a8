//! Put, DeleteRange and Compact. A put's order of checks: alarms (the gate), lease, then ignore_value and
//! ignore_lease on an absent key.

use bytes::Bytes;
use proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse,
};
use proto::mvccpb::KeyValue;

use super::{Outcome, Response, State, header};
use crate::error::RequestError;
use crate::lease::Lessor;
use crate::mvcc::{WriteTxn, own};
use crate::types::{KeyRange, LeaseId};

impl State {
    pub(super) fn put(&mut self, request: PutRequest, entry_len: usize) -> Result<Outcome, RequestError> {
        let id = LeaseId(request.lease);
        if id != LeaseId(0) && self.lessor.lookup(id).is_none() {
            return Err(RequestError::LeaseNotFound { id });
        }
        if (request.ignore_value || request.ignore_lease) && self.mvcc.get(&request.key).is_none() {
            return Err(RequestError::KeyNotFound);
        }
        let mut txn = self.mvcc.begin();
        let response = put(&mut txn, &mut self.lessor, request, entry_len);
        Ok(Outcome::written(Response::Put(response), txn))
    }

    pub(super) fn delete_range(&mut self, request: &DeleteRangeRequest) -> Outcome {
        let mut txn = self.mvcc.begin();
        let response = delete_range(&mut txn, &mut self.lessor, request);
        Outcome::written(Response::DeleteRange(response), txn)
    }

    pub(super) fn compact(&mut self, request: CompactionRequest) -> Result<Outcome, RequestError> {
        self.mvcc.compact(request.revision)?;
        Ok(Outcome::of(Response::Compact(CompactionResponse {
            header: self.header(),
        })))
    }
}

/// Puts within a transaction whose checks are done. `entry_len` is the size of the entry that the value shares.
pub(super) fn put(
    txn: &mut WriteTxn<'_>,
    lessor: &mut Lessor,
    request: PutRequest,
    entry_len: usize,
) -> PutResponse {
    if looks_back(&request) {
        txn.count_read();
    }
    let (mut value, mut id) = (request.value, LeaseId(request.lease));
    if request.ignore_value || request.ignore_lease {
        // An earlier delete of the same transaction may have taken the key after the checks (one up to the end of
        // the key space is not seen as overlapping): then there is nothing to keep, and nothing is.
        let old = txn
            .store()
            .get(&request.key)
            .map(|old| (old.value.clone(), old.lease));
        let (old_value, old_lease) = old.unwrap_or_default();
        if request.ignore_value {
            value = old_value;
        }
        if request.ignore_lease {
            id = old_lease;
        }
    }
    if !request.ignore_value {
        value = own(value, entry_len);
    }
    let attached = (id != LeaseId(0)).then(|| Bytes::copy_from_slice(&request.key));
    let previous = txn.put(request.key, value, id);
    move_lease(lessor, previous.as_ref(), id, attached);
    PutResponse {
        header: header(txn.revision()),
        prev_kv: previous.filter(|_| request.prev_kv),
    }
}

/// Whether a put asks for the state before it.
pub(super) fn looks_back(request: &PutRequest) -> bool {
    request.prev_kv || request.ignore_value || request.ignore_lease
}

/// Deletes within a transaction; the keys leave their leases.
pub(super) fn delete_range(
    txn: &mut WriteTxn<'_>,
    lessor: &mut Lessor,
    request: &DeleteRangeRequest,
) -> DeleteRangeResponse {
    let range = KeyRange::new(request.key.clone(), request.range_end.clone());
    if request.prev_kv {
        txn.count_read();
    }
    let deleted = txn.delete_range(&range);
    for kv in deleted.iter().filter(|kv| kv.lease != 0) {
        lessor.detach(LeaseId(kv.lease), &kv.key);
    }
    DeleteRangeResponse {
        header: header(txn.revision()),
        deleted: i64::try_from(deleted.len()).unwrap_or(i64::MAX),
        prev_kvs: if request.prev_kv { deleted } else { Vec::new() },
    }
}

/// Takes a key from the lease of its previous state to the one of its new state.
fn move_lease(lessor: &mut Lessor, previous: Option<&KeyValue>, id: LeaseId, attached: Option<Bytes>) {
    let old = previous.map_or(LeaseId(0), |kv| LeaseId(kv.lease));
    if old == id {
        return;
    }
    if let Some(kv) = previous
        && old != LeaseId(0)
    {
        lessor.detach(old, &kv.key);
    }
    if let Some(key) = attached {
        lessor.attach(id, key);
    }
}

//! A naive store: the list of everything that was ever written, and nothing else. Every question is answered by
//! walking the whole list, in the words of etcd's documentation rather than those of the code under test.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use proto::etcdserverpb::compare::TargetUnion;
use proto::etcdserverpb::request_op::Request;
use proto::etcdserverpb::response_op::Response;
use proto::etcdserverpb::{
    Compare, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, RangeRequest, RangeResponse,
    RequestOp, ResponseHeader, ResponseOp, TxnRequest, TxnResponse,
};
use proto::mvccpb::KeyValue;
use store::error::RequestError;
use store::types::{Change, KeyRange, LeaseId, Revision};

pub(crate) type Live = BTreeMap<Bytes, KeyValue>;

#[derive(Clone, Debug)]
pub(crate) struct Model {
    pub(crate) versions: Vec<Change>,
    pub(crate) current: i64,
    pub(crate) compacted: i64,
    pub(crate) leases: BTreeSet<i64>,
}

impl Model {
    pub(crate) fn new() -> Self {
        Model {
            versions: Vec::new(),
            current: 1,
            compacted: -1,
            leases: BTreeSet::new(),
        }
    }

    /// The live keys at main revision `at`.
    pub(crate) fn state(&self, at: i64) -> Live {
        let mut live = Live::new();
        for change in self.versions.iter().filter(|change| change.revision.main <= at) {
            if change.tombstone {
                live.remove(&change.kv.key);
            } else {
                live.insert(change.kv.key.clone(), change.kv.clone());
            }
        }
        live
    }

    /// What was written at the revision under way, or at `current` between requests.
    pub(crate) fn written(&self, main: i64) -> Vec<Change> {
        self.versions
            .iter()
            .filter(|change| change.revision.main == main)
            .cloned()
            .collect()
    }

    /// The revision that headers show: the next one as soon as something was written at it.
    fn now(&self) -> i64 {
        self.current
            + i64::from(
                self.versions
                    .last()
                    .is_some_and(|v| v.revision.main > self.current),
            )
    }

    /// The request is over: what it wrote takes its revision.
    pub(crate) fn commit(&mut self) {
        self.current = self.now();
    }

    pub(crate) fn range(&self, r: &RangeRequest) -> Result<RangeResponse, RequestError> {
        if r.key.is_empty() {
            return Err(RequestError::EmptyKey);
        }
        if !(0..3).contains(&r.sort_order) || !(0..5).contains(&r.sort_target) {
            return Err(RequestError::InvalidSortOption);
        }
        let current = self.now();
        let at = if r.revision > 0 { r.revision } else { current };
        if at > current {
            return Err(RequestError::FutureRevision {
                requested: at,
                current,
            });
        }
        if at < self.compacted {
            return Err(RequestError::Compacted {
                requested: at,
                compacted: self.compacted,
            });
        }
        let range = KeyRange::new(r.key.clone(), r.range_end.clone());
        let mut kvs: Vec<_> = self
            .state(at)
            .into_values()
            .filter(|kv| range.contains(&kv.key))
            .collect();
        let mut response = RangeResponse {
            header: header(current),
            count: kvs.len() as i64,
            ..Default::default()
        };
        if r.count_only {
            return Ok(response);
        }
        let filters = [
            r.min_mod_revision,
            r.max_mod_revision,
            r.min_create_revision,
            r.max_create_revision,
        ];
        let limit = if r.limit > 0 { r.limit as usize } else { usize::MAX };
        if r.sort_order == 0 && filters == [0; 4] {
            kvs.truncate(limit.saturating_add(1));
        }
        kvs.retain(|kv| {
            (filters[0] == 0 || kv.mod_revision >= filters[0])
                && (filters[1] == 0 || kv.mod_revision <= filters[1])
                && (filters[2] == 0 || kv.create_revision >= filters[2])
                && (filters[3] == 0 || kv.create_revision <= filters[3])
        });
        kvs.sort_by(|a, b| {
            let order = match r.sort_target {
                0 => a.key.cmp(&b.key),
                1 => a.version.cmp(&b.version),
                2 => a.create_revision.cmp(&b.create_revision),
                3 => a.mod_revision.cmp(&b.mod_revision),
                _ => a.value.cmp(&b.value),
            };
            if r.sort_order == 2 { order.reverse() } else { order }
        });
        response.more = kvs.len() > limit;
        kvs.truncate(limit);
        if r.keys_only {
            for kv in &mut kvs {
                kv.value = Bytes::new();
                kv.lease = if r.sort_target == 4 { kv.lease } else { 0 };
            }
        }
        response.kvs = kvs;
        Ok(response)
    }

    pub(crate) fn put(&mut self, r: &PutRequest) -> PutResponse {
        let live = self.state(i64::MAX);
        let old = live.get(&r.key);
        let main = self.current + 1;
        let kept = old.cloned().unwrap_or_default();
        let kv = KeyValue {
            key: r.key.clone(),
            create_revision: old.map_or(main, |old| old.create_revision),
            mod_revision: main,
            version: kept.version + 1,
            value: if r.ignore_value {
                kept.value
            } else {
                r.value.clone()
            },
            lease: if r.ignore_lease { kept.lease } else { r.lease },
        };
        let prev_kv = old.filter(|_| r.prev_kv).cloned();
        self.write(kv, false);
        PutResponse {
            header: header(self.now()),
            prev_kv,
        }
    }

    /// The lease is judged before the key, within a transaction too: so does etcd 3.7.1.
    pub(crate) fn put_errors(&self, r: &PutRequest) -> Result<(), RequestError> {
        let absent = (r.ignore_value || r.ignore_lease) && !self.state(i64::MAX).contains_key(&r.key);
        let lease = r.lease != 0 && !self.leases.contains(&r.lease);
        match (absent, lease) {
            (true, false) => Err(RequestError::KeyNotFound),
            (_, true) => Err(RequestError::LeaseNotFound { id: LeaseId(r.lease) }),
            (false, false) => Ok(()),
        }
    }

    pub(crate) fn delete(&mut self, r: &DeleteRangeRequest) -> DeleteRangeResponse {
        let range = KeyRange::new(r.key.clone(), r.range_end.clone());
        let deleted: Vec<_> = self
            .state(i64::MAX)
            .into_values()
            .filter(|kv| range.contains(&kv.key))
            .collect();
        for kv in &deleted {
            let gone = KeyValue {
                key: kv.key.clone(),
                mod_revision: self.current + 1,
                ..Default::default()
            };
            self.write(gone, true);
        }
        DeleteRangeResponse {
            header: header(self.now()),
            deleted: deleted.len() as i64,
            prev_kvs: if r.prev_kv { deleted } else { Vec::new() },
        }
    }

    /// A whole transaction, or its error and no effect.
    pub(crate) fn txn(&mut self, r: &TxnRequest) -> Result<TxnResponse, RequestError> {
        let before = self.state(i64::MAX);
        self.txn_errors(&before, r)?;
        let mut response = self.run(&before, r);
        response.header = header(self.now());
        Ok(response)
    }

    fn txn_errors(&self, before: &Live, r: &TxnRequest) -> Result<(), RequestError> {
        for op in chosen(before, r).1 {
            match op.request.as_ref().expect("generated with content") {
                Request::RequestRange(range) if range.revision > self.current => {
                    let (requested, current) = (range.revision, self.current);
                    return Err(RequestError::FutureRevision { requested, current });
                }
                Request::RequestRange(range) if range.revision != 0 && range.revision < self.compacted => {
                    let (requested, compacted) = (range.revision, self.compacted);
                    return Err(RequestError::Compacted { requested, compacted });
                }
                Request::RequestPut(put) => self.put_errors(put)?,
                Request::RequestTxn(nested) => self.txn_errors(before, nested)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn run(&mut self, before: &Live, r: &TxnRequest) -> TxnResponse {
        let (succeeded, ops) = chosen(before, r);
        let responses = ops.iter().map(|op| {
            let response = match op.request.as_ref().expect("generated with content") {
                Request::RequestRange(range) => Response::ResponseRange(self.range(range).expect("checked")),
                Request::RequestPut(put) => Response::ResponsePut(self.put(put)),
                Request::RequestDeleteRange(delete) => Response::ResponseDeleteRange(self.delete(delete)),
                Request::RequestTxn(nested) => Response::ResponseTxn(self.run(before, nested)),
            };
            ResponseOp {
                response: Some(response),
            }
        });
        let responses = responses.collect();
        TxnResponse {
            header: Some(ResponseHeader::default()),
            succeeded,
            responses,
        }
    }

    fn write(&mut self, kv: KeyValue, tombstone: bool) {
        let main = self.current + 1;
        let sub = self.written(main).len() as i64;
        self.versions.push(Change {
            revision: Revision::new(main, sub),
            tombstone,
            kv,
        });
    }

    /// Ends a lease; the deletes are in key order.
    pub(crate) fn revoke(&mut self, id: i64) -> bool {
        let known = self.leases.remove(&id);
        for kv in self
            .state(i64::MAX)
            .into_values()
            .filter(|kv| known && kv.lease == id)
        {
            self.delete(&DeleteRangeRequest {
                key: kv.key,
                ..Default::default()
            });
        }
        known
    }

    /// Each key's newest put at or before `at`: what HashKV keeps of the compacted part.
    pub(crate) fn keep_set(&self, at: i64) -> BTreeSet<Revision> {
        self.newest(at)
            .filter(|change| !change.tombstone)
            .map(|change| change.revision)
            .collect()
    }

    /// What a compaction at `at` leaves of the revisions up to it.
    pub(crate) fn kept(&self, at: i64) -> BTreeSet<Revision> {
        let kept = |change: &&Change| !change.tombstone || change.revision.main == at;
        self.newest(at)
            .filter(kept)
            .map(|change| change.revision)
            .collect()
    }

    fn newest(&self, at: i64) -> impl Iterator<Item = &Change> {
        let mut newest = BTreeMap::new();
        for change in self.versions.iter().filter(|change| change.revision.main <= at) {
            newest.insert(&change.kv.key, change);
        }
        newest.into_values()
    }
}

fn chosen<'a>(before: &Live, r: &'a TxnRequest) -> (bool, &'a [RequestOp]) {
    let succeeded = r.compare.iter().all(|compare| holds(before, compare));
    (succeeded, if succeeded { &r.success } else { &r.failure })
}

fn holds(before: &Live, c: &Compare) -> bool {
    let range = KeyRange::new(c.key.clone(), c.range_end.clone());
    let found: Vec<_> = before
        .values()
        .filter(|kv| range.contains(&kv.key))
        .cloned()
        .collect();
    if found.is_empty() {
        return c.target != 3 && compares(c, &KeyValue::default());
    }
    found.iter().all(|kv| compares(c, kv))
}

fn compares(c: &Compare, kv: &KeyValue) -> bool {
    let order = match (c.target, &c.target_union) {
        (0, Some(TargetUnion::Version(n))) => kv.version.cmp(n),
        (0, _) => kv.version.cmp(&0),
        (1, Some(TargetUnion::CreateRevision(n))) => kv.create_revision.cmp(n),
        (1, _) => kv.create_revision.cmp(&0),
        (2, Some(TargetUnion::ModRevision(n))) => kv.mod_revision.cmp(n),
        (2, _) => kv.mod_revision.cmp(&0),
        (3, Some(TargetUnion::Value(v))) => kv.value.cmp(v),
        (3, _) => kv.value.cmp(&Bytes::new()),
        (4, Some(TargetUnion::Lease(n))) => kv.lease.cmp(n),
        (4, _) => kv.lease.cmp(&0),
        _ => Ordering::Equal,
    };
    match c.result {
        0 => order == Ordering::Equal,
        1 => order == Ordering::Greater,
        2 => order == Ordering::Less,
        3 => order != Ordering::Equal,
        _ => true,
    }
}

pub(crate) fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader {
        revision,
        ..Default::default()
    })
}

//! The etcd mix: a bit of everything that the KV, Watch and Lease services offer, over few keys, so that requests meet.
//!
//! Every put writes a value of its own, so that a value read tells which write it came from.

use bytes::Bytes;
use proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use proto::etcdserverpb::request_op::Request as Op;
use proto::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, LeaseGrantRequest, LeaseKeepAliveRequest,
    LeaseRevokeRequest, LeaseTimeToLiveRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
    WatchCreateRequest,
};

use super::Known;
use crate::model::Request;
use crate::rng::Rng;

/// The proportions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mix {
    /// How many keys there are.
    pub keys: u64,
    /// How often each kind of request comes.
    pub put: u32,
    /// One key or a range, now.
    pub range: u32,
    /// A range at an old revision.
    pub range_at: u32,
    /// Deletes of one key or a range.
    pub delete: u32,
    /// Transactions, a third of them nested.
    pub txn: u32,
    /// Compactions.
    pub compact: u32,
    /// Lease calls of all kinds.
    pub lease: u32,
    /// Requests that must be refused.
    pub bad: u32,
    /// The longest time that a lease is granted for, in seconds.
    pub lease_ttl_max: u64,
}

impl Default for Mix {
    fn default() -> Self {
        Mix {
            keys: 12,
            put: 35,
            range: 25,
            range_at: 6,
            delete: 10,
            txn: 14,
            compact: 2,
            lease: 6,
            bad: 2,
            lease_ttl_max: 60,
        }
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Put,
    Range,
    RangeAt,
    Delete,
    Txn,
    Compact,
    Lease,
    Bad,
}

/// A generator of requests.
#[derive(Clone, Debug)]
pub struct EtcdTraffic {
    rng: Rng,
    mix: Mix,
    /// Tells the values of one generator from those of others.
    author: u64,
    written: u64,
    granted: i64,
}

impl EtcdTraffic {
    /// The requests of one author under a seed.
    #[must_use]
    pub fn new(seed: u64, author: u64, mix: Mix) -> Self {
        EtcdTraffic {
            rng: Rng::stream(seed, author),
            mix,
            author,
            written: 0,
            granted: 0,
        }
    }

    /// The next request.
    pub fn next_request(&mut self, known: &Known) -> Request {
        let mix = &self.mix;
        let kind = self.rng.weighted(&[
            (mix.put, Kind::Put),
            (mix.range, Kind::Range),
            (mix.range_at, Kind::RangeAt),
            (mix.delete, Kind::Delete),
            (mix.txn, Kind::Txn),
            (mix.compact, Kind::Compact),
            (mix.lease, Kind::Lease),
            (mix.bad, Kind::Bad),
        ]);
        match kind {
            Kind::Put => Request::Put(self.put(known)),
            Kind::Range => Request::Range(self.range()),
            Kind::RangeAt => Request::Range(self.range_at(known)),
            Kind::Delete => Request::DeleteRange(self.delete()),
            Kind::Txn => Request::Txn(self.txn(known, 0)),
            Kind::Compact => Request::Compact(self.compact(known)),
            Kind::Lease => self.lease(known),
            Kind::Bad => self.bad(known),
        }
    }

    /// A watch to create: a key or a range, from now, from the past or from the near future.
    pub fn watch(&mut self, known: &Known) -> WatchCreateRequest {
        let (key, mut range_end) = self.span();
        if range_end == key {
            range_end = Bytes::new();
        }
        let start_revision = match self.rng.below(4) {
            0 => 0,
            1 => known.revision + self.signed_between(0, 5),
            _ => self.signed_between(known.compacted.max(1), known.revision.max(1)),
        };
        let filters = if self.rng.once_in(5) {
            vec![i32::from(self.rng.once_in(2))]
        } else {
            Vec::new()
        };
        WatchCreateRequest {
            key,
            range_end,
            start_revision,
            progress_notify: self.rng.once_in(2),
            filters,
            prev_kv: self.rng.once_in(2),
            fragment: self.rng.once_in(2),
            ..WatchCreateRequest::default()
        }
    }

    fn key(&mut self) -> Bytes {
        Bytes::from(format!("k{:02}", self.rng.below(self.mix.keys)))
    }

    fn value(&mut self) -> Bytes {
        self.written += 1;
        Bytes::from(format!("{}.{}", self.author, self.written))
    }

    /// One key, some keys, or all keys.
    fn span(&mut self) -> (Bytes, Bytes) {
        match self.rng.below(4) {
            0 => (Bytes::from_static(b"k"), Bytes::from_static(b"l")),
            1 => (self.key(), Bytes::from_static(b"\0")),
            2 => {
                let (a, b) = (self.key(), self.key());
                if a < b { (a, b) } else { (b, a) }
            }
            _ => (self.key(), Bytes::new()),
        }
    }

    fn put(&mut self, known: &Known) -> PutRequest {
        let mut request = PutRequest {
            key: self.key(),
            prev_kv: self.rng.once_in(3),
            ..PutRequest::default()
        };
        match self.rng.below(10) {
            0 => request.ignore_value = true,
            1 => request.ignore_lease = true,
            2 | 3 if !known.leases.is_empty() => request.lease = *self.rng.pick(&known.leases),
            _ => {}
        }
        if !request.ignore_value {
            request.value = self.value();
        }
        request
    }

    fn range(&mut self) -> RangeRequest {
        let (key, range_end) = self.span();
        let mut request = RangeRequest {
            key,
            range_end,
            serializable: self.rng.once_in(3),
            keys_only: self.rng.once_in(8),
            count_only: self.rng.once_in(8),
            ..RangeRequest::default()
        };
        if self.rng.once_in(3) {
            request.limit = self.signed_between(1, 4);
        }
        if self.rng.once_in(4) {
            let orders = [SortOrder::None, SortOrder::Ascend, SortOrder::Descend];
            let targets = [
                SortTarget::Key,
                SortTarget::Version,
                SortTarget::Create,
                SortTarget::Mod,
            ];
            request.sort_order = i32::from(*self.rng.pick(&orders));
            request.sort_target = i32::from(*self.rng.pick(&targets));
        }
        request
    }

    fn range_at(&mut self, known: &Known) -> RangeRequest {
        let from = (known.revision - 40).max(1);
        let revision = self.signed_between(from, known.revision.max(1));
        let min_mod_revision = if self.rng.once_in(4) { from } else { 0 };
        RangeRequest {
            revision,
            min_mod_revision,
            ..self.range()
        }
    }

    fn delete(&mut self) -> DeleteRangeRequest {
        let prev_kv = self.rng.once_in(2);
        if self.rng.once_in(4) {
            let (key, range_end) = self.span();
            return DeleteRangeRequest {
                key,
                range_end,
                prev_kv,
            };
        }
        DeleteRangeRequest {
            key: self.key(),
            range_end: Bytes::new(),
            prev_kv,
        }
    }

    fn txn(&mut self, known: &Known, depth: u32) -> TxnRequest {
        let compares = self.rng.below(3);
        TxnRequest {
            compare: (0..compares).map(|_| self.compare(known)).collect(),
            success: self.branch(known, depth),
            failure: self.branch(known, depth),
        }
    }

    /// Up to three operations. Nothing keeps a key from being put twice: such a refusal is worth a test too.
    fn branch(&mut self, known: &Known, depth: u32) -> Vec<RequestOp> {
        let length = self.rng.below(4);
        (0..length)
            .map(|_| {
                let request = match self.rng.below(9) {
                    0..=3 => Op::RequestPut(self.put(known)),
                    4 => Op::RequestDeleteRange(self.delete()),
                    5 if depth < 2 => Op::RequestTxn(self.txn(known, depth + 1)),
                    6 => Op::RequestRange(self.range_at(known)),
                    // Ties within an answer inside a transaction have no order that could be compared.
                    _ => Op::RequestRange(RangeRequest {
                        sort_target: 0,
                        ..self.range()
                    }),
                };
                RequestOp {
                    request: Some(request),
                }
            })
            .map(without_ties)
            .collect()
    }

    fn compare(&mut self, known: &Known) -> Compare {
        let near = self.signed_between((known.revision - 5).max(0), known.revision);
        let (target, union) = match self.rng.below(5) {
            0 => (
                CompareTarget::Version,
                TargetUnion::Version(self.signed_between(0, 3)),
            ),
            1 => (CompareTarget::Create, TargetUnion::CreateRevision(near)),
            2 => (CompareTarget::Mod, TargetUnion::ModRevision(near)),
            3 => (CompareTarget::Value, TargetUnion::Value(self.value())),
            _ => (CompareTarget::Lease, TargetUnion::Lease(0)),
        };
        let results = [
            CompareResult::Equal,
            CompareResult::NotEqual,
            CompareResult::Greater,
            CompareResult::Less,
        ];
        let (key, range_end) = if self.rng.once_in(4) {
            self.span()
        } else {
            (self.key(), Bytes::new())
        };
        Compare {
            result: i32::from(*self.rng.pick(&results)),
            target: i32::from(target),
            key,
            range_end,
            target_union: Some(union),
        }
    }

    fn compact(&mut self, known: &Known) -> CompactionRequest {
        // Mostly ahead of the last one and behind the present, with some of each beyond.
        let revision = self.signed_between(known.compacted, known.revision + 1);
        CompactionRequest {
            revision,
            physical: self.rng.once_in(2),
        }
    }

    fn lease(&mut self, known: &Known) -> Request {
        let id = if known.leases.is_empty() {
            0
        } else {
            *self.rng.pick(&known.leases)
        };
        match self.rng.below(6) {
            1 if id != 0 => Request::LeaseRevoke(LeaseRevokeRequest { id }),
            2 | 3 if id != 0 => Request::LeaseKeepAlive(LeaseKeepAliveRequest { id }),
            4 if id != 0 => Request::LeaseTimeToLive(LeaseTimeToLiveRequest { id, keys: true }),
            _ => {
                self.granted += 1;
                let ttl = i64::try_from(self.rng.between(1, self.mix.lease_ttl_max)).unwrap_or(i64::MAX);
                let author = i64::try_from(self.author).unwrap_or(0);
                Request::LeaseGrant(LeaseGrantRequest {
                    ttl,
                    id: (author + 1) * 1_000_000 + self.granted,
                })
            }
        }
    }

    fn bad(&mut self, known: &Known) -> Request {
        match self.rng.below(5) {
            0 => Request::Put(PutRequest {
                key: Bytes::new(),
                ..self.put(known)
            }),
            1 => Request::Put(PutRequest {
                lease: -1,
                ignore_lease: false,
                ..self.put(known)
            }),
            2 => Request::Range(RangeRequest {
                revision: known.revision + 100_000,
                ..self.range()
            }),
            3 => Request::LeaseRevoke(LeaseRevokeRequest { id: -1 }),
            _ => Request::Range(RangeRequest {
                sort_order: 99,
                ..self.range()
            }),
        }
    }

    fn signed_between(&mut self, from: i64, upto: i64) -> i64 {
        let span = u64::try_from(upto - from).unwrap_or(0);
        from + i64::try_from(self.rng.between(0, span)).unwrap_or(0)
    }
}

fn without_ties(mut op: RequestOp) -> RequestOp {
    if let Some(Op::RequestRange(range)) = &mut op.request {
        range.sort_target = SortTarget::Key.into();
    }
    op
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::model::Model;

    /// Traffic is only worth something if it reaches the corners: against the model it meets nearly every refusal,
    /// and makes revisions.
    #[test]
    fn it_reaches_the_corners() {
        let mut traffic = EtcdTraffic::new(1, 0, Mix::default());
        let (mut model, mut known) = (
            Model::default(),
            Known {
                compacted: -1,
                ..Known::default()
            },
        );
        let mut refusals = BTreeSet::new();
        for _ in 0..3000 {
            let request = traffic.next_request(&known);
            let answer = model.apply(&request).map(|applied| applied.response);
            if let Err(error) = answer {
                refusals.insert(format!("{error:?}"));
            }
            known.learn(&request, &answer);
        }
        assert!(model.revision() > 1000, "{}", model.revision());
        assert!(model.compacted() > 500, "{}", model.compacted());
        let met = [
            "Compacted",
            "DuplicateKey",
            "EmptyKey",
            "FutureRev",
            "InvalidSortOption",
            "KeyNotFound",
            "LeaseNotFound",
        ];
        assert!(met.iter().all(|name| refusals.contains(*name)), "{refusals:?}");
    }

    #[test]
    fn one_seed_makes_one_sequence() {
        let run = |seed| {
            let mut traffic = EtcdTraffic::new(seed, 3, Mix::default());
            let known = Known {
                revision: 50,
                compacted: 3,
                leases: vec![4, 5],
            };
            (0..200).map(|_| traffic.next_request(&known)).collect::<Vec<_>>()
        };
        assert_eq!(run(9), run(9));
        assert_ne!(run(9), run(10));
    }
}

//! `apply` and `mvcc` against a naive list of all versions: random requests, compactions in random steps, checkpoints
//! that let memory go, restarts; reads with every option at every revision, in one go and in steps between writes.
//!
//! The test plays the backend: it holds every revision until a physical compaction step names it dead. A read that
//! still needs one which is gone fails the test.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod mvcc_model;

use std::collections::BTreeMap;

use bytes::Bytes;
use mvcc_model::Model;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use prost::Message as _;
use proto::etcdserverpb::compare::TargetUnion;
use proto::etcdserverpb::request_op::Request;
use proto::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, InternalRaftRequest, LeaseGrantRequest,
    LeaseRevokeRequest, PutRequest, RangeRequest, RangeResponse, RequestOp, TxnRequest,
};
use proto::mvccpb::KeyValue;
use store::apply::{
    Applied, CommittedEntry, Response, State, StateParts, check_delete, check_put, check_txn, is_read_only,
};
use store::error::RequestError;
use store::lease::Lessor;
use store::mvcc::{HashKv, HashPlan, KeepSet, Previous, RangeScan, Restore};
use store::types::{Change, EntryKind, Index, LeaseId, Revision, Term};

#[derive(Clone, Debug)]
enum Op {
    Put(PutRequest),
    Delete(DeleteRangeRequest),
    Txn(TxnRequest),
    Range(RangeRequest),
    /// Begins a read that goes on a key at a time beside what follows.
    Hold(RangeRequest),
    /// Compacts to so many revisions before the current one.
    Compact(i64),
    Step(usize),
    Checkpoint {
        forget: bool,
    },
    Restart,
    Grant(i64),
    Revoke(i64),
    /// Hashes at so many revisions before the current one.
    Hash(i64),
}

struct World {
    state: State,
    model: Model,
    /// The backend.
    stored: BTreeMap<Revision, Change>,
    /// A read under way and its answer.
    held: Option<(RangeScan, RangeResponse)>,
}

impl World {
    fn new() -> Self {
        World {
            state: State::default(),
            model: Model::new(),
            stored: BTreeMap::new(),
            held: None,
        }
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Put(put) if check_put(&put).is_ok() => self.put(put),
            Op::Delete(delete) if check_delete(&delete).is_ok() => self.delete(delete),
            Op::Txn(txn) if check_txn(&txn, 128).is_ok() => self.txn(txn),
            // Refused before they are proposed.
            Op::Put(_) | Op::Delete(_) | Op::Txn(_) => {}
            Op::Range(range) => {
                let range = self.relative(range);
                let actual = self.state.mvcc.range(&range);
                let actual = actual.map(|plan| {
                    let missing = plan.missing();
                    plan.finish(&self.fetch(&missing))
                });
                assert_eq!(actual, self.model.range(&range), "{range:?}");
            }
            Op::Hold(range) => {
                self.end_held();
                let range = self.relative(range);
                if let Ok(scan) = RangeScan::new(&self.state.mvcc, &range) {
                    self.held = Some((scan, self.model.range(&range).unwrap()));
                }
            }
            Op::Compact(back) => self.compact(self.model.current - back),
            Op::Step(keys_max) => self.step(keys_max),
            Op::Checkpoint { forget } => {
                self.state.mvcc.checkpointed(self.model.current);
                self.state
                    .mvcc
                    .set_recent_bytes_max(if forget { 0 } else { 1 << 20 });
            }
            Op::Restart => self.restart(),
            Op::Grant(id) => {
                let request = LeaseGrantRequest { id, ttl: 60 };
                let applied = self.apply(&InternalRaftRequest {
                    lease_grant: Some(request),
                    ..Default::default()
                });
                assert_eq!(applied.response.is_ok(), self.model.leases.insert(id));
            }
            Op::Revoke(id) => {
                let request = LeaseRevokeRequest { id };
                let applied = self.apply(&InternalRaftRequest {
                    lease_revoke: Some(request),
                    ..Default::default()
                });
                assert_eq!(applied.response.is_ok(), self.model.revoke(id));
                self.committed(&applied);
            }
            Op::Hash(back) => self.hash(self.model.current - back),
        }
        self.go_on_with_held();
        self.check();
    }

    fn put(&mut self, put: PutRequest) {
        let expected = self.model.put_errors(&put).map(|()| self.model.put(&put));
        let applied = self.apply(&InternalRaftRequest {
            put: Some(put),
            ..Default::default()
        });
        match &applied.response {
            Ok(Response::Put(response)) => assert_eq!(Ok(response), expected.as_ref()),
            Ok(other) => panic!("{other:?}"),
            Err(error) => assert_eq!(Err(error), expected.as_ref()),
        }
        self.committed(&applied);
    }

    fn delete(&mut self, delete: DeleteRangeRequest) {
        let expected = self.model.delete(&delete);
        let applied = self.apply(&InternalRaftRequest {
            delete_range: Some(delete),
            ..Default::default()
        });
        match &applied.response {
            Ok(Response::DeleteRange(response)) => assert_eq!(*response, expected),
            other => panic!("{other:?}"),
        }
        self.committed(&applied);
    }

    fn txn(&mut self, txn: TxnRequest) {
        let txn = self.relative_txn(txn);
        let expected = self.model.txn(&txn);
        if is_read_only(&txn) {
            let plan = self.state.read_txn(&txn).map(|(plan, _)| plan);
            assert_eq!(
                plan.map(|plan| {
                    let missing = plan.missing();
                    plan.finish(&self.fetch(&missing))
                }),
                expected
            );
            return;
        }
        let applied = self.apply(&InternalRaftRequest {
            txn: Some(txn),
            ..Default::default()
        });
        self.committed(&applied);
        let actual = applied.response.map(|response| match response {
            Response::Txn(plan) => {
                let missing = plan.missing();
                plan.finish(&self.fetch(&missing))
            }
            other => panic!("{other:?}"),
        });
        assert_eq!(actual, expected);
    }

    fn compact(&mut self, revision: i64) {
        let (current, compacted) = (self.model.current, self.model.compacted);
        let expected = if revision <= compacted {
            Err(RequestError::Compacted {
                requested: revision,
                compacted,
            })
        } else if revision > current {
            Err(RequestError::FutureRevision {
                requested: revision,
                current,
            })
        } else {
            self.model.compacted = revision;
            Ok(())
        };
        let request = CompactionRequest {
            revision,
            physical: false,
        };
        let applied = self.apply(&InternalRaftRequest {
            compaction: Some(request),
            ..Default::default()
        });
        assert_eq!(applied.response.map(drop), expected);
    }

    fn step(&mut self, keys_max: usize) {
        self.end_held();
        let step = self.state.mvcc.compaction_step(keys_max);
        assert!(
            step.dead.len() <= keys_max + 1,
            "{} dead of {keys_max}",
            step.dead.len()
        );
        for dead in step.dead {
            assert!(self.stored.remove(&dead).is_some(), "{dead} died twice");
        }
        assert_eq!(step.done, self.state.mvcc.compaction().is_none());
        if step.done && self.model.compacted >= 0 {
            // What is left at or below the compacted revision: each key's newest, no tombstone but exactly there.
            let kept = self.model.kept(self.model.compacted);
            let left = self
                .stored
                .range(..=Revision::new(self.model.compacted, i64::MAX));
            assert!(
                left.map(|(revision, _)| revision).eq(&kept),
                "not {kept:?} is left"
            );
        }
    }

    fn restart(&mut self) {
        self.end_held();
        let finished = self.state.mvcc.compaction().is_none();
        let mut lessor = Lessor::decode(&self.state.lessor.encode()).unwrap();
        let mut restore = Restore::new(self.model.compacted, finished);
        self.stored.values().for_each(|change| restore.push(change));
        let mvcc = restore.finish(self.model.current, |id, key| lessor.attach(id, key.clone()));
        assert_eq!(lessor, self.state.lessor);
        let old = std::mem::take(&mut self.state);
        let applied = (old.applied(), old.term());
        self.state = State::restore(
            StateParts {
                mvcc,
                lessor,
                membership: old.membership,
                alarms: old.alarms,
                auth: old.auth,
            },
            applied,
        );
    }

    fn hash(&mut self, revision: i64) {
        let mvcc = &self.state.mvcc;
        let compacted = self.model.compacted;
        if revision < 1 || revision < compacted {
            return;
        }
        assert_eq!(
            mvcc.hash_plan(revision),
            Ok(HashPlan::Compute { compacted, revision })
        );
        let keep = self.model.keep_set(revision);
        let mut naive = b"key".to_vec();
        let mut hash = HashKv::new(mvcc, compacted, revision, KeepSet::Request);
        for (at, change) in &self.stored {
            hash.feed_from(mvcc, change);
            let out = at.main > revision
                || (at.main <= compacted && !keep.is_empty() && !keep.contains(at))
                || (change.tombstone && at.main == compacted);
            if !out {
                let (key, len) = at.to_key(change.tombstone);
                naive.extend_from_slice(&key[..len]);
                let only_key = KeyValue {
                    key: change.kv.key.clone(),
                    ..Default::default()
                };
                naive.extend(
                    if change.tombstone {
                        only_key
                    } else {
                        change.kv.clone()
                    }
                    .encode_to_vec(),
                );
            }
        }
        assert_eq!(hash.finish().hash, crc32c::crc32c(&naive));
        assert_eq!(
            (hash.finish().compact_revision, hash.finish().hash_revision),
            (compacted, revision)
        );
        if !keep.is_empty() {
            let mut whole = HashKv::new(mvcc, compacted, revision, KeepSet::Request);
            self.model
                .versions
                .iter()
                .for_each(|change| whole.feed_from(mvcc, change));
            assert_eq!(
                whole.finish(),
                hash.finish(),
                "the hash depends on the physical compaction"
            );
        }
    }

    fn apply(&mut self, request: &InternalRaftRequest) -> Applied {
        let index = self.state.applied().next();
        let entry = CommittedEntry {
            kind: EntryKind::Request,
            term: Term(1),
            index,
            data: request.encode_to_vec().into(),
        };
        let applied = self.state.apply(&entry);
        assert_eq!(applied.index, Index(self.state.applied().0));
        applied
    }

    /// The revision an entry took is what the model wrote, and each previous state that before the revision.
    fn committed(&mut self, applied: &Applied) {
        self.model.commit();
        let main = self.state.mvcc.current();
        let Some(committed) = &applied.committed else {
            assert_eq!(main, self.model.current);
            return;
        };
        assert_eq!((committed.main, main), (main, self.model.current));
        assert_eq!(committed.changes, self.model.written(main));
        let before = self.model.state(main - 1);
        for (change, previous) in committed.changes.iter().zip(&committed.previous) {
            assert_eq!(previous.as_ref(), before.get(&change.kv.key));
            self.stored.insert(change.revision, change.clone());
        }
    }

    fn fetch(&self, missing: &[Revision]) -> BTreeMap<Revision, KeyValue> {
        let kv = |at: &Revision| {
            self.stored
                .get(at)
                .unwrap_or_else(|| panic!("{at} is lost"))
                .kv
                .clone()
        };
        missing.iter().map(|at| (*at, kv(at))).collect()
    }

    fn go_on_with_held(&mut self) {
        if let Some((scan, _)) = &mut self.held
            && scan.step(&self.state.mvcc, 1)
        {
            self.finish_held();
        }
    }

    fn end_held(&mut self) {
        let Some((scan, _)) = &mut self.held else { return };
        while !scan.step(&self.state.mvcc, 2) {}
        self.finish_held();
    }

    fn finish_held(&mut self) {
        let (scan, expected) = self.held.take().unwrap();
        let plan = scan.finish();
        let missing = plan.missing();
        assert_eq!(plan.finish(&self.fetch(&missing)), expected);
    }

    /// What holds after everything.
    fn check(&self) {
        let mvcc = &self.state.mvcc;
        mvcc.verify();
        let live = self.model.state(self.model.current);
        assert_eq!(mvcc.live_keys(), live.len() as u64);
        for (id, lease) in self.state.lessor.iter().map(|lease| (lease.id, lease)) {
            let attached = live
                .values()
                .filter(|kv| LeaseId(kv.lease) == id)
                .map(|kv| &kv.key);
            assert!(attached.eq(&lease.keys), "attachments of lease {id}");
        }
        for change in self.model.versions.iter().rev().take(3) {
            let before = self.model.state(change.revision.main - 1);
            let visible = change.revision.main > self.model.compacted;
            let expected = before.get(&change.kv.key).filter(|_| visible);
            match mvcc.previous(&change.kv.key, change.revision) {
                Previous::None => assert_eq!(expected, None),
                Previous::Loaded(kv) => assert_eq!(expected, Some(&kv)),
                Previous::Stored(at) => assert_eq!(expected, Some(&self.stored[&at].kv)),
            }
        }
    }

    /// A generated revision counts back from the current one, so that it is often a good one.
    fn relative(&self, mut range: RangeRequest) -> RangeRequest {
        if range.revision != 0 {
            range.revision = self.model.current - range.revision;
        }
        range
    }

    fn relative_txn(&self, mut txn: TxnRequest) -> TxnRequest {
        for op in txn.success.iter_mut().chain(&mut txn.failure) {
            let request = op.request.take().map(|request| match request {
                Request::RequestRange(range) => Request::RequestRange(self.relative(range)),
                Request::RequestTxn(nested) => Request::RequestTxn(self.relative_txn(nested)),
                other => other,
            });
            op.request = request;
        }
        txn
    }
}

fn key() -> impl Strategy<Value = Bytes> {
    select(vec!["a", "b", "ba", "c", "d"]).prop_map(Bytes::from)
}

/// A key and a range end.
fn keys() -> impl Strategy<Value = (Bytes, Bytes)> {
    let end = select(vec!["", "", "\0", "b", "c", "e"]).prop_map(Bytes::from);
    prop_oneof![8 => key(), 1 => Just(Bytes::from_static(b"\0"))]
        .prop_flat_map(move |key| (Just(key), end.clone()))
}

fn value() -> impl Strategy<Value = Bytes> {
    select(vec![
        "",
        "x",
        "y",
        "a longer value that is worth sharing with the entry it came in",
    ])
    .prop_map(Bytes::from)
}

fn put() -> impl Strategy<Value = PutRequest> {
    let rare = || prop::bool::weighted(0.15);
    (
        key(),
        value(),
        select(vec![0, 0, 1, 2, 3]),
        any::<bool>(),
        rare(),
        rare(),
    )
        .prop_map(
            |(key, value, lease, prev_kv, ignore_value, ignore_lease)| PutRequest {
                key,
                value: if ignore_value { Bytes::new() } else { value },
                lease: if ignore_lease { 0 } else { lease },
                prev_kv,
                ignore_value,
                ignore_lease,
            },
        )
}

fn delete() -> impl Strategy<Value = DeleteRangeRequest> {
    (keys(), any::<bool>()).prop_map(|((key, range_end), prev_kv)| DeleteRangeRequest {
        key,
        range_end,
        prev_kv,
    })
}

fn range() -> impl Strategy<Value = RangeRequest> {
    let bound = || prop_oneof![4 => Just(0i64), 1 => 1..12i64];
    let whole = prop_oneof![
        keys(),
        Just((Bytes::from_static(b"\0"), Bytes::from_static(b"\0")))
    ];
    (
        (
            whole,
            -1..4i64,
            prop_oneof![Just(0i64), -1..8i64],
            0..3i32,
            0..5i32,
        ),
        (prop::bool::weighted(0.2), prop::bool::weighted(0.1)),
        (bound(), bound(), bound(), bound()),
    )
        .prop_map(|(main, (keys_only, count_only), bounds)| {
            let ((key, range_end), limit, revision, sort_order, sort_target) = main;
            RangeRequest {
                key,
                range_end,
                limit,
                revision,
                sort_order,
                sort_target,
                serializable: false,
                keys_only,
                count_only,
                min_mod_revision: bounds.0,
                max_mod_revision: bounds.1,
                min_create_revision: bounds.2,
                max_create_revision: bounds.3,
            }
        })
}

fn compare() -> impl Strategy<Value = Compare> {
    let number = 0..6i64;
    let union = prop_oneof![
        Just(None),
        number.clone().prop_map(|n| Some(TargetUnion::Version(n))),
        number.clone().prop_map(|n| Some(TargetUnion::CreateRevision(n))),
        number.clone().prop_map(|n| Some(TargetUnion::ModRevision(n))),
        number.prop_map(|n| Some(TargetUnion::Lease(n))),
        value().prop_map(|v| Some(TargetUnion::Value(v))),
    ];
    (keys(), 0..6i32, 0..5i32, union).prop_map(|((key, range_end), target, result, target_union)| Compare {
        result,
        target,
        key,
        range_end,
        target_union,
    })
}

fn txn() -> impl Strategy<Value = TxnRequest> {
    let simple = || {
        prop_oneof![
            3 => put().prop_map(Request::RequestPut),
            2 => range().prop_map(Request::RequestRange),
            1 => delete().prop_map(Request::RequestDeleteRange),
        ]
    };
    let list = |op: BoxedStrategy<Request>| {
        vec(
            op.prop_map(|request| RequestOp {
                request: Some(request),
            }),
            0..4,
        )
    };
    let of = move |op: BoxedStrategy<Request>| {
        (vec(compare(), 0..3), list(op.clone()), list(op)).prop_map(|(compare, success, failure)| {
            TxnRequest {
                compare,
                success,
                failure,
            }
        })
    };
    let nested = of(simple().boxed()).prop_map(Request::RequestTxn).boxed();
    let deeper = of(prop_oneof![2 => simple(), 1 => nested.clone()].boxed()).prop_map(Request::RequestTxn);
    of(prop_oneof![5 => simple(), 1 => nested, 1 => deeper].boxed())
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => put().prop_map(Op::Put),
        2 => delete().prop_map(Op::Delete),
        5 => txn().prop_map(Op::Txn),
        5 => range().prop_map(Op::Range),
        2 => range().prop_map(Op::Hold),
        1 => (-1..6i64).prop_map(Op::Compact),
        2 => (1..6usize).prop_map(Op::Step),
        1 => any::<bool>().prop_map(|forget| Op::Checkpoint { forget }),
        1 => Just(Op::Restart),
        1 => (1..4i64).prop_map(Op::Grant),
        1 => (1..4i64).prop_map(Op::Revoke),
        1 => (0..8i64).prop_map(Op::Hash),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn agrees_with_the_list_of_all_versions(ops in vec(op(), 1..80)) {
        let mut world = World::new();
        for op in ops {
            world.run(op);
        }
        world.end_held();
    }
}

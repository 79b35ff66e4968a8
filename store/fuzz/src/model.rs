//! Requests over a few keys against a naive list of all versions, and key ranges against a scan: of `KeyRange` itself, and
//! of the index that finds the watchers of a key.
//!
//! An input is a list of operations of a few bytes each.

use std::collections::BTreeSet;

use bytes::Bytes;
use prost::Message as _;
use proto::etcdserverpb::compare::TargetUnion;
use proto::etcdserverpb::request_op::Request as Op;
use proto::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, InternalRaftRequest, LeaseGrantRequest,
    LeaseRevokeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};
use store::apply::{
    Applied, CommittedEntry, Response, State, check_delete, check_put, check_txn, is_read_only,
};
use store::types::{EntryKind, KeyRange, Term};
use store::watch::IntervalIndex;

use super::input::Input;
use super::mvcc_model::Model;

/// Runs a list of operations on both.
///
/// # Panics
/// Where they answer differently.
pub fn one_input(data: &[u8]) {
    let mut input = Input::new(data);
    let mut world = World {
        state: State::default(),
        model: Model::new(),
        watchers: IntervalIndex::new(u64::from(input.byte())),
        ranges: BTreeSet::new(),
    };
    for _ in 0..OPERATIONS_MAX {
        if input.is_empty() {
            break;
        }
        world.operation(&mut input);
    }
}

struct World {
    state: State,
    model: Model,
    watchers: IntervalIndex<u8>,
    ranges: BTreeSet<(Bytes, Bytes, u8)>,
}

impl World {
    fn operation(&mut self, input: &mut Input<'_>) {
        match input.byte() % 12 {
            0 | 1 => self.put(put(input)),
            2 => self.delete(delete(input)),
            3..=5 => self.txn(txn(input, NESTED)),
            6 | 7 => self.range(&range(input, self.model.current)),
            8 => self.lease(input),
            9 => self.compact(i64::from(input.byte() % 8) - 2),
            10 => self.watcher(input),
            _ => self.key(input),
        }
        self.state.mvcc.verify();
        assert_eq!(self.state.mvcc.current(), self.model.current);
    }

    fn put(&mut self, put: PutRequest) {
        if check_put(&put).is_err() {
            return;
        }
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
        if check_delete(&delete).is_err() {
            return;
        }
        let expected = self.model.delete(&delete);
        let applied = self.apply(&InternalRaftRequest {
            delete_range: Some(delete),
            ..Default::default()
        });
        match &applied.response {
            Ok(Response::DeleteRange(response)) => assert_eq!(response, &expected),
            other => panic!("{other:?}"),
        }
        self.committed(&applied);
    }

    fn txn(&mut self, txn: TxnRequest) {
        if check_txn(&txn, OPS_MAX).is_err() {
            return;
        }
        let expected = self.model.txn(&txn);
        let (actual, applied) = if is_read_only(&txn) {
            (self.state.read_txn(&txn).map(|(plan, _)| plan), None)
        } else {
            let applied = self.apply(&InternalRaftRequest {
                txn: Some(txn),
                ..Default::default()
            });
            let plan = match &applied.response {
                Ok(Response::Txn(plan)) => Ok(plan.clone()),
                Ok(other) => panic!("{other:?}"),
                Err(error) => Err(error.clone()),
            };
            (plan, Some(applied))
        };
        assert_eq!(actual.map(|plan| plan.finish(&Default::default())), expected);
        if let Some(applied) = applied {
            self.committed(&applied);
        }
    }

    fn range(&self, range: &RangeRequest) {
        let actual = self
            .state
            .mvcc
            .range(range)
            .map(|plan| plan.finish(&Default::default()));
        assert_eq!(actual, self.model.range(range), "{range:?}");
    }

    fn lease(&mut self, input: &mut Input<'_>) {
        let id = i64::from(input.byte() % 3) + 1;
        let (request, expected) = if input.byte().is_multiple_of(2) {
            let grant = LeaseGrantRequest { id, ttl: 60 };
            let request = InternalRaftRequest {
                lease_grant: Some(grant),
                ..Default::default()
            };
            (request, self.model.leases.insert(id))
        } else {
            let revoke = LeaseRevokeRequest { id };
            let request = InternalRaftRequest {
                lease_revoke: Some(revoke),
                ..Default::default()
            };
            (request, self.model.revoke(id))
        };
        let applied = self.apply(&request);
        assert_eq!(applied.response.is_ok(), expected);
        self.committed(&applied);
    }

    /// Logically only: the physical part is the backend's.
    fn compact(&mut self, back: i64) {
        let revision = self.model.current - back;
        let allowed = revision > self.model.compacted && revision <= self.model.current;
        let compaction = CompactionRequest {
            revision,
            physical: false,
        };
        let applied = self.apply(&InternalRaftRequest {
            compaction: Some(compaction),
            ..Default::default()
        });
        assert_eq!(applied.response.is_ok(), allowed, "compaction to {revision}");
        if allowed {
            self.model.compacted = revision;
        }
    }

    /// A watcher of a range comes or goes.
    fn watcher(&mut self, input: &mut Input<'_>) {
        let range = KeyRange::new(key(input), key(input));
        let watcher = input.byte() % 4;
        let entry = (range.key.clone(), range.range_end.clone(), watcher);
        if input.byte().is_multiple_of(3) {
            assert_eq!(self.watchers.remove(&range, watcher), self.ranges.remove(&entry));
        } else {
            self.watchers.insert(&range, watcher);
            self.ranges.insert(entry);
        }
        assert_eq!(self.watchers.len(), self.ranges.len());
    }

    /// Whom a key concerns.
    fn key(&self, input: &mut Input<'_>) {
        let key = key(input);
        let mut expected = Vec::new();
        for (start, end, watcher) in &self.ranges {
            let range = KeyRange::new(start.clone(), end.clone());
            let concerns = match &end[..] {
                [] => key == start,
                [0] => key >= start,
                end => key >= start && &key[..] < end,
            };
            assert_eq!(range.contains(&key), concerns, "{key:?} in {range:?}");
            let bounds = range
                .bounds()
                .is_some_and(|bounds| std::ops::RangeBounds::<[u8]>::contains(&bounds, &key[..]));
            assert_eq!(bounds, concerns, "{key:?} in the bounds of {range:?}");
            if concerns {
                expected.push(*watcher);
            }
        }
        let mut actual = Vec::new();
        self.watchers.stab(&key, &mut |watcher| actual.push(watcher));
        actual.sort_unstable();
        expected.sort_unstable();
        assert_eq!(actual, expected, "watchers of {key:?}");
    }

    fn apply(&mut self, request: &InternalRaftRequest) -> Applied {
        let index = self.state.applied().next();
        self.state.apply(&CommittedEntry {
            term: Term(1),
            index,
            kind: EntryKind::Request,
            data: request.encode_to_vec().into(),
        })
    }

    fn committed(&mut self, applied: &Applied) {
        let written = self.model.written(self.model.current + 1);
        match &applied.committed {
            Some(revision) => {
                assert_eq!(revision.changes, written);
                self.model.commit();
            }
            None => assert!(written.is_empty(), "{written:?} was not committed"),
        }
    }
}

/// A key or an end of a range, out of a few that are hard to tell apart.
fn key(input: &mut Input<'_>) -> Bytes {
    Bytes::from_static(KEYS[usize::from(input.byte()) % KEYS.len()])
}

fn put(input: &mut Input<'_>) -> PutRequest {
    let flags = input.byte();
    PutRequest {
        key: key(input),
        value: if flags & 1 == 0 { Bytes::new() } else { key(input) },
        lease: i64::from(flags >> 1 & 3),
        prev_kv: flags & 8 != 0,
        ignore_value: flags & 0x30 == 0x30,
        ignore_lease: flags & 0xc0 == 0xc0,
    }
}

fn delete(input: &mut Input<'_>) -> DeleteRangeRequest {
    DeleteRangeRequest {
        key: key(input),
        range_end: key(input),
        prev_kv: input.byte() & 1 != 0,
    }
}

fn range(input: &mut Input<'_>, current: i64) -> RangeRequest {
    let (flags, order) = (input.byte(), input.byte());
    let bound = |set: bool, input: &mut Input<'_>| {
        if set { i64::from(input.byte() % 16) } else { 0 }
    };
    RangeRequest {
        key: key(input),
        range_end: key(input),
        limit: i64::from(flags & 3),
        revision: if flags & 4 == 0 {
            0
        } else {
            current - i64::from(input.byte() % 8) + 1
        },
        sort_order: i32::from(order & 3),
        sort_target: i32::from(order >> 2 & 7),
        serializable: true,
        keys_only: flags & 8 != 0,
        count_only: flags & 0x30 == 0x30,
        min_mod_revision: bound(flags & 0x40 != 0, input),
        max_mod_revision: bound(flags & 0x40 != 0, input),
        min_create_revision: bound(flags & 0x80 != 0, input),
        max_create_revision: bound(flags & 0x80 != 0, input),
    }
}

fn txn(input: &mut Input<'_>, nested: u8) -> TxnRequest {
    let counts = input.byte();
    let compare = (0..counts & 3).map(|_| compare(input)).collect();
    let mut branch = |count: u8| -> Vec<RequestOp> {
        let op = |_| RequestOp {
            request: Some(op(input, nested)),
        };
        (0..count).map(op).collect()
    };
    TxnRequest {
        compare,
        success: branch(counts >> 2 & 3),
        failure: branch(counts >> 4 & 3),
    }
}

fn compare(input: &mut Input<'_>) -> Compare {
    let (what, number) = (input.byte(), input.byte());
    let number = i64::from(number % 8);
    let target = i32::from(what & 7) % 5;
    let union = match (what >> 3) % 6 {
        0 => Some(TargetUnion::Version(number)),
        1 => Some(TargetUnion::CreateRevision(number)),
        2 => Some(TargetUnion::ModRevision(number)),
        3 => Some(TargetUnion::Value(key(input))),
        4 => Some(TargetUnion::Lease(number % 4)),
        _ => None,
    };
    Compare {
        result: i32::from(what >> 6),
        target,
        key: key(input),
        range_end: key(input),
        target_union: union,
    }
}

fn op(input: &mut Input<'_>, nested: u8) -> Op {
    match input.byte() % 4 {
        0 => Op::RequestRange(range(input, 0)),
        1 => Op::RequestPut(put(input)),
        2 => Op::RequestDeleteRange(delete(input)),
        _ if nested > 0 => Op::RequestTxn(txn(input, nested - 1)),
        _ => Op::RequestPut(put(input)),
    }
}

/// A little of everything.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let whole: Vec<u8> = (0..=255).collect();
    let strides = [1_usize, 3, 7, 29, 101];
    let mut seeds: Vec<Vec<u8>> = strides
        .iter()
        .map(|stride| (0..256).map(|at| whole[at * stride % 256]).collect())
        .collect();
    seeds.push(vec![1, 8, 1, 0, 0, 3, 1, 4, 0, 6, 0, 0, 1, 5, 2, 1, 7, 0]);
    seeds
}

/// Empty, the zero byte, and neighbours in order.
const KEYS: [&[u8]; 9] = [b"", b"\0", b"a", b"a\0", b"ab", b"b", b"c", b"\xff", b"\xff\xff"];
/// Operations of an input.
const OPERATIONS_MAX: usize = 48;
/// How deep transactions nest.
const NESTED: u8 = 2;
/// Entries of each list of a transaction.
const OPS_MAX: usize = 8;

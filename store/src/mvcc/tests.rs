//! What the property test (`tests/prop_mvcc.rs`) does not reach: hashes to the byte, kept hashes, limits of memory.

use std::collections::BTreeMap;

use prost::Message as _;

use super::*;
use crate::types::Change;

fn put(mvcc: &mut Mvcc, key: &'static str, value: &'static str) {
    let mut txn = mvcc.begin();
    txn.put(key.into(), value.into(), LeaseId(0));
    assert!(txn.commit().is_some());
}

fn delete(mvcc: &mut Mvcc, key: &'static str) {
    let mut txn = mvcc.begin();
    assert_eq!(txn.delete_range(&KeyRange::single(key.into())).len(), 1);
    assert!(txn.commit().is_some());
}

/// Everything ever written, while memory has not let go of it.
fn history(mvcc: &Mvcc) -> Vec<Change> {
    mvcc.recent()
        .range(0)
        .flat_map(|revision| revision.changes.clone())
        .collect()
}

fn hash(mvcc: &Mvcc, stored: &[Change], compacted: i64, revision: i64, set: KeepSet) -> u32 {
    let mut hash = HashKv::new(mvcc, compacted, revision, set);
    stored.iter().for_each(|change| hash.feed_from(mvcc, change));
    hash.finish().hash
}

/// The hash over these revisions, written out by hand.
fn by_hand(changes: &[&Change]) -> u32 {
    let mut bytes = b"key".to_vec();
    for change in changes {
        bytes.extend(change.revision.main.to_be_bytes());
        bytes.push(b'_');
        bytes.extend(change.revision.sub.to_be_bytes());
        let mut kv = change.kv.clone();
        if change.tombstone {
            bytes.push(b't');
            kv = KeyValue {
                key: kv.key,
                ..KeyValue::default()
            };
        }
        bytes.extend(kv.encode_to_vec());
    }
    crc32c::crc32c(&bytes)
}

#[test]
fn an_empty_store_hashes_the_name_alone() {
    let mvcc = Mvcc::new();
    assert_eq!(hash(&mvcc, &[], -1, 1, KeepSet::Request), crc32c::crc32c(b"key"));
}

#[test]
fn a_version_overwritten_before_the_hash_revision_is_left_out() {
    let mut mvcc = Mvcc::new();
    put(&mut mvcc, "a", "1");
    put(&mut mvcc, "a", "2");
    put(&mut mvcc, "a", "3");
    mvcc.compact(3).unwrap();
    let all = history(&mvcc);
    // Compaction keeps 3.0, yet at revision 4 the keep set has only 4.0.
    assert_eq!(hash(&mvcc, &all, 3, 4, KeepSet::Request), by_hand(&[&all[2]]));
    assert_eq!(hash(&mvcc, &all, 3, 3, KeepSet::Request), by_hand(&[&all[1]]));
}

#[test]
fn an_empty_keep_set_lets_everything_through() {
    let mut mvcc = Mvcc::new();
    put(&mut mvcc, "a", "1");
    put(&mut mvcc, "a", "2");
    delete(&mut mvcc, "a");
    mvcc.compact(4).unwrap();
    let all = history(&mvcc);
    // But for the tombstone exactly at the compacted revision.
    assert_eq!(
        hash(&mvcc, &all, 4, 4, KeepSet::Request),
        by_hand(&[&all[0], &all[1]])
    );
    assert_eq!(hash(&mvcc, &all[2..], 4, 4, KeepSet::Request), by_hand(&[]));
}

#[test]
fn the_hash_of_a_compaction_keeps_its_tombstone() {
    let mut mvcc = Mvcc::new();
    put(&mut mvcc, "a", "1");
    mvcc.compact(2).unwrap();
    put(&mut mvcc, "a", "2");
    delete(&mut mvcc, "a");
    let all = history(&mvcc);
    mvcc.compact(4).unwrap();
    assert_eq!(
        mvcc.compaction().map(|c| (c.revision, c.previous)),
        Some((4, Some(2)))
    );
    // Every key is dead, and the filter is on all the same: 2.0, at the previous compaction, is out.
    assert_eq!(
        hash(&mvcc, &all, 2, 4, KeepSet::Compaction),
        by_hand(&[&all[1], &all[2]])
    );
    assert_eq!(
        hash(&mvcc, &all, 2, 4, KeepSet::Request),
        by_hand(&[&all[0], &all[1], &all[2]])
    );
}

#[test]
fn the_hashes_of_ten_compactions_are_kept() {
    let mut mvcc = Mvcc::new();
    (0..20).for_each(|_| put(&mut mvcc, "a", "v"));
    let kept = |revision| KvHash {
        hash: 7,
        compact_revision: -1,
        hash_revision: revision,
    };
    (2..13).for_each(|revision| mvcc.store_compaction_hash(kept(revision)));
    mvcc.compact(15).unwrap();
    let requested = 2;
    assert_eq!(
        mvcc.hash_plan(2),
        Err(RequestError::Compacted {
            requested,
            compacted: 15
        })
    );
    assert_eq!(mvcc.hash_plan(3), Ok(HashPlan::Kept(kept(3))));
    assert_eq!(
        mvcc.hash_plan(0),
        Ok(HashPlan::Compute {
            compacted: 15,
            revision: 21
        })
    );
    assert_eq!(
        mvcc.hash_plan(22),
        Err(RequestError::FutureRevision {
            requested: 22,
            current: 21
        })
    );
    // Nothing is as old as a negative revision, and no compaction is in its way.
    assert_eq!(
        mvcc.hash_plan(-1),
        Ok(HashPlan::Compute {
            compacted: 15,
            revision: -1
        })
    );
    // After "compact 0" on a fresh store, 0 is no longer the current revision.
    mvcc.store_compaction_hash(kept(0));
    assert_eq!(mvcc.hash_plan(0), Ok(HashPlan::Kept(kept(0))));
}

#[test]
fn memory_lets_go_of_checkpointed_revisions_only() {
    let mut mvcc = Mvcc::new();
    mvcc.set_recent_bytes_max(0);
    (0..5).for_each(|_| put(&mut mvcc, "a", "v"));
    assert_eq!(mvcc.recent().first(), 2);
    mvcc.checkpointed(4);
    assert_eq!((mvcc.recent().first(), mvcc.recent().range(0).count()), (5, 2));
    assert!(mvcc.recent().get(4).is_none() && mvcc.recent().get(7).is_none());
    assert_eq!(mvcc.recent().range(6).map(|r| r.main).collect::<Vec<_>>(), [6]);
    mvcc.checkpointed(6);
    assert_eq!((mvcc.recent().first(), mvcc.recent().bytes()), (7, 0));
    mvcc.verify();
}

#[test]
fn a_hole_is_named_only_where_the_answer_needs_it() {
    let mut mvcc = Mvcc::new();
    for key in ["a", "b", "c"] {
        put(&mut mvcc, key, "old");
    }
    for key in ["a", "b", "c"] {
        put(&mut mvcc, key, "new");
    }
    mvcc.set_recent_bytes_max(0);
    mvcc.checkpointed(7);
    let at = |revision, limit, keys_only| RangeRequest {
        key: "a".into(),
        range_end: "z".into(),
        revision,
        limit,
        keys_only,
        ..RangeRequest::default()
    };
    let missing = |request: &RangeRequest| mvcc.range(request).unwrap().missing();
    assert_eq!(missing(&at(0, 0, false)), []);
    assert_eq!(
        missing(&at(5, 0, false)),
        [Revision::new(3, 0), Revision::new(4, 0)]
    );
    assert_eq!(missing(&at(4, 1, false)), [Revision::new(2, 0)]);
    assert_eq!(missing(&at(4, 0, true)), []);
    let old = |main, key: &'static str| KeyValue {
        key: key.into(),
        create_revision: main,
        mod_revision: main,
        version: 1,
        value: "old".into(),
        lease: 5,
    };
    let fetched = BTreeMap::from([(Revision::new(2, 0), old(2, "a"))]);
    let response = mvcc.range(&at(4, 1, false)).unwrap().finish(&fetched);
    assert_eq!(
        (response.kvs, response.count, response.more),
        (vec![old(2, "a")], 3, true)
    );
}

#[test]
fn a_large_value_is_shared_where_it_is_most_of_its_entry() {
    const LEN: usize = 200 << 10;
    let entry = Bytes::from(vec![7; LEN]);
    let half = entry.slice(LEN / 2..);
    assert_eq!(own(half.clone(), LEN).as_ptr(), half.as_ptr());
    let less = entry.slice(LEN / 2 + 1..);
    assert_ne!(own(less.clone(), LEN).as_ptr(), less.as_ptr());
    // A small one is copied when it is put.
    let mut mvcc = Mvcc::new();
    let mut txn = mvcc.begin();
    txn.put("k".into(), own(entry.slice(..100), 100), LeaseId(0));
    assert!(txn.commit().is_some());
    assert_ne!(mvcc.get(b"k").unwrap().value.as_ptr(), entry.as_ptr());
}

#[test]
#[should_panic(expected = "a transaction with 1 changes was given up")]
fn a_transaction_is_not_given_up() {
    let mut mvcc = Mvcc::new();
    mvcc.begin().put("a".into(), Bytes::new(), LeaseId(0));
}

/// A page of a long range costs what it returns, not what the range holds.
#[test]
fn an_uncounted_scan_ends_with_its_last_key() {
    let mut mvcc = Mvcc::new();
    let mut txn = mvcc.begin();
    for number in 0..1000 {
        txn.put(format!("k{number:04}").into(), Bytes::new(), LeaseId(0));
    }
    assert!(txn.commit().is_some());
    let page = |limit| RangeRequest {
        key: "k".into(),
        range_end: "l".into(),
        limit,
        ..RangeRequest::default()
    };
    let scan = RangeScan::new(&mvcc, &page(10)).unwrap();
    assert!(!scan.clone().step(&mvcc, 20), "it counts");
    let mut scan = scan.uncounted();
    assert!(scan.step(&mvcc, 20));
    let answer = scan.finish().finish(&BTreeMap::new());
    assert_eq!((answer.kvs.len(), answer.more), (10, true));
    let mut scan = RangeScan::new(&mvcc, &page(1000)).unwrap().uncounted();
    assert!(scan.step(&mvcc, 2000));
    let answer = scan.finish().finish(&BTreeMap::new());
    assert_eq!((answer.kvs.len(), answer.more), (1000, false));
}

/// A thousand keys, changed at random until much was written more than once.
fn worn(random: &mut impl FnMut() -> u64, writes: usize) -> (Mvcc, BTreeMap<Bytes, Bytes>) {
    let (mut mvcc, mut model) = (Mvcc::new(), BTreeMap::new());
    mvcc.set_recent_bytes_max(0);
    for _ in 0..writes {
        let key = Bytes::from(format!("{:04}", random() % 1000));
        let mut txn = mvcc.begin();
        if random().is_multiple_of(4) {
            txn.delete_range(&KeyRange::single(key.clone()));
            model.remove(&key);
        } else {
            let len = match random() % 8 {
                0 => 0,
                1 => 70 << 10,
                _ => random() % (60 << 10),
            };
            let value = Bytes::from(vec![random() as u8; len as usize]);
            txn.put(key.clone(), value.clone(), LeaseId(0));
            model.insert(key, value);
        }
        let _nothing = txn.commit();
        mvcc.checkpointed(mvcc.current());
    }
    (mvcc, model)
}

fn assert_holds(mvcc: &Mvcc, model: &BTreeMap<Bytes, Bytes>) {
    mvcc.verify();
    let all = KeyRange::new("0".into(), "~".into());
    let found = mvcc.live_in(&all).map(|(key, live)| (key, live.value));
    assert!(found.eq(model.iter()), "keys or values have changed");
}

#[test]
fn values_move_together_and_stay_what_they_are() {
    let mut state = 7_u64;
    let mut random = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    };
    let (mut mvcc, mut model) = worn(&mut random, 4000);
    assert!(mvcc.packing());
    let before = mvcc.values_bytes();
    let mut steps = 0;
    while mvcc.packing() {
        mvcc.pack_step(50);
        steps += 1;
        // Others change what is moved, and what is not yet.
        let key = Bytes::from(format!("{:04}", random() % 1000));
        let value = Bytes::from(vec![1; 100]);
        let mut txn = mvcc.begin();
        txn.put(key.clone(), value.clone(), LeaseId(0));
        model.insert(key, value);
        assert!(txn.commit().is_some());
        mvcc.verify();
    }
    assert!(steps >= 10, "{steps} steps visited hundreds of keys");
    assert_holds(&mvcc, &model);
    let packed = model
        .values()
        .map(Bytes::len)
        .filter(|len| *len <= 64 << 10)
        .sum::<usize>() as u64;
    let after = mvcc.values_bytes();
    assert!(
        after < before && after <= packed / 2 * 3 + (8 << 20),
        "{before} then {after} for {packed}"
    );
    assert_eq!(mvcc.pack_step(50), 0);
}

#[test]
fn a_chunk_goes_with_its_last_value() {
    let mut mvcc = Mvcc::new();
    mvcc.set_recent_bytes_max(0);
    for round in 0..3 {
        for number in 0..200 {
            let mut txn = mvcc.begin();
            let value = Bytes::from(vec![round; 32 << 10]);
            txn.put(format!("{number:04}").into(), value, LeaseId(0));
            assert!(txn.commit().is_some());
        }
        assert!(mvcc.values_bytes() <= 8 << 20, "{}", mvcc.values_bytes());
    }
    assert!(!mvcc.packing());
    let mut txn = mvcc.begin();
    assert_eq!(
        txn.delete_range(&KeyRange::new("0".into(), "~".into())).len(),
        200
    );
    assert!(txn.commit().is_some());
    assert!(mvcc.values_bytes() <= 1 << 20, "the open one stays");
    mvcc.verify();
}

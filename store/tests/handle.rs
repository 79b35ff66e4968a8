//! The public handle on a real disk: what an embedding program sees.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::Duration;

use proto::etcdserverpb::request_op::Request as Op;
use proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest,
    PutRequest, RangeRequest, RequestOp, TxnRequest, WatchCreateRequest,
};
use store::error::{Error, RequestError};
use store::{OpenError, Settings, Store};

fn put(key: &str, value: &str) -> PutRequest {
    PutRequest {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        ..Default::default()
    }
}

fn get(key: &str) -> RangeRequest {
    RangeRequest {
        key: key.to_owned().into(),
        ..Default::default()
    }
}

async fn open(dir: &std::path::Path) -> Store {
    let store = Store::open(Settings::new(dir)).await.unwrap();
    tokio::time::timeout(Duration::from_secs(10), store.ready())
        .await
        .unwrap()
        .unwrap();
    store
}

#[tokio::test]
async fn what_was_put_is_read_also_after_a_restart_and_without_a_stop() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let fresh = store.range(get("a")).await.unwrap();
    assert_eq!((fresh.header.unwrap().revision, fresh.count), (1, 0));
    for round in 0..100 {
        let answer = store.put(put("a", &round.to_string())).await.unwrap();
        assert_eq!(answer.header.unwrap().revision, round + 2);
    }
    let old = store
        .range(RangeRequest {
            revision: 50,
            ..get("a")
        })
        .await
        .unwrap();
    assert_eq!(old.kvs[0].value, "48");
    let hash = store.hash_kv(0).await.unwrap().hash;
    let ids = (store.member_id(), store.cluster_id());
    store.stop().await;
    assert!(store.put(put("a", "late")).await.is_err());
    drop(store);

    let store = open(dir.path()).await;
    assert_eq!((store.member_id(), store.cluster_id()), ids);
    let found = store.range(get("a")).await.unwrap();
    assert_eq!((found.header.unwrap().revision, found.kvs[0].version), (101, 100));
    let old = store
        .range(RangeRequest {
            revision: 50,
            ..get("a")
        })
        .await
        .unwrap();
    assert_eq!(old.kvs[0].value, "48", "history comes back from the working copy");
    assert_eq!(store.hash_kv(0).await.unwrap().hash, hash);
    store.stop().await;
}

#[tokio::test]
async fn a_watcher_hears_of_the_past_and_the_present_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    store.put(put("k1", "1")).await.unwrap();
    store.put(put("k1", "2")).await.unwrap();
    let (requests, mut responses) = store.watch().await.unwrap();
    let create = WatchCreateRequest {
        key: "k".into(),
        range_end: "l".into(),
        start_revision: 2,
        prev_kv: true,
        ..Default::default()
    };
    requests.create(create).await.unwrap();
    let created = responses.recv().await.unwrap();
    assert!(created.created && created.events.is_empty());
    store
        .delete_range(DeleteRangeRequest {
            key: "k1".into(),
            ..Default::default()
        })
        .await
        .unwrap();
    let mut seen = Vec::new();
    while seen.len() < 3 {
        let response = responses.recv().await.unwrap();
        for event in response.events {
            seen.push((event.kv.unwrap().mod_revision, event.prev_kv.map(|kv| kv.value)));
        }
    }
    assert_eq!(seen, [(2, None), (3, Some("1".into())), (4, Some("2".into()))]);
    store.stop().await;
    assert!(responses.recv().await.is_none(), "the stream ends with the store");
}

#[tokio::test]
async fn leases_expire_and_take_their_keys_along() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let lease = store
        .lease_grant(LeaseGrantRequest { ttl: 1, id: 0 })
        .await
        .unwrap();
    assert_eq!(lease.ttl, 2, "raised to the minimum");
    store
        .put(PutRequest {
            lease: lease.id,
            ..put("leased", "x")
        })
        .await
        .unwrap();
    assert_eq!(store.lease_keep_alive(lease.id).await.unwrap().ttl, 2);
    assert_eq!(store.lease_keep_alive(lease.id + 1).await.unwrap().ttl, 0);
    let left = store
        .lease_time_to_live(LeaseTimeToLiveRequest {
            id: lease.id,
            keys: true,
        })
        .await
        .unwrap();
    assert_eq!((left.granted_ttl, left.keys.len()), (2, 1));
    let gone = async {
        while store.range(get("leased")).await.unwrap().count > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone)
        .await
        .expect("the lease expires");
    let revoked = store.lease_revoke(LeaseRevokeRequest { id: lease.id }).await;
    assert!(
        matches!(revoked, Err(Error::Request(RequestError::LeaseNotFound { .. }))),
        "{revoked:?}"
    );
    store.stop().await;
}

#[tokio::test]
async fn compaction_forgets_history_and_restarts_keep_it_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    for round in 0..2000 {
        store
            .put(put(&format!("k{}", round % 10), &round.to_string()))
            .await
            .unwrap();
    }
    store
        .compact(CompactionRequest {
            revision: 1500,
            physical: true,
        })
        .await
        .unwrap();
    let hash = store.hash_kv(0).await.unwrap();
    let too_old = store
        .range(RangeRequest {
            revision: 1499,
            ..get("k1")
        })
        .await;
    assert!(
        matches!(too_old, Err(Error::Request(RequestError::Compacted { .. }))),
        "{too_old:?}"
    );
    let kept = store
        .range(RangeRequest {
            revision: 1500,
            ..get("k1")
        })
        .await
        .unwrap();
    assert_eq!(kept.kvs[0].value, "1491");
    store.stop().await;
    let store = open(dir.path()).await;
    let too_old = store
        .range(RangeRequest {
            revision: 1499,
            ..get("k1")
        })
        .await;
    assert!(
        matches!(too_old, Err(Error::Request(RequestError::Compacted { .. }))),
        "{too_old:?}"
    );
    let kept = store
        .range(RangeRequest {
            revision: 1500,
            ..get("k1")
        })
        .await
        .unwrap();
    assert_eq!(kept.kvs[0].value, "1491");
    assert_eq!(store.hash_kv(0).await.unwrap().hash, hash.hash);
    store.stop().await;
}

/// A transaction nested `deep` times, with a put in the innermost.
fn nested(deep: usize) -> TxnRequest {
    let op = |request| RequestOp {
        request: Some(request),
    };
    let mut txn = TxnRequest {
        success: vec![op(Op::RequestPut(put("innermost", &deep.to_string())))],
        ..Default::default()
    };
    for _ in 0..deep {
        txn = TxnRequest {
            success: vec![op(Op::RequestTxn(txn))],
            ..Default::default()
        };
    }
    txn
}

/// What is proposed must be readable when it is applied: an entry that is not stops the member at every start.
#[tokio::test]
async fn a_transaction_nested_deeper_than_an_entry_can_be_read_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    for deep in [0, 1, 48] {
        store.txn(nested(deep)).await.unwrap();
        let found = store.range(get("innermost")).await.unwrap();
        assert_eq!(found.kvs[0].value, deep.to_string());
    }
    for deep in [49, 50, 100] {
        let refused = store.txn(nested(deep)).await;
        assert!(
            matches!(refused, Err(Error::Request(RequestError::TooManyOps { .. }))),
            "{deep} deep: {refused:?}"
        );
    }
    store.put(put("still", "alive")).await.unwrap();
    store.stop().await;
}

/// Whoever stops a store may open it again at once, also when somebody else stops it at the same time.
#[tokio::test]
async fn stopping_twice_at_once_ends_both_calls_after_the_files_are_closed() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..3 {
        let store = open(dir.path()).await;
        store.put(put("k", "v")).await.unwrap();
        let (one, two) = (store.clone(), store.clone());
        tokio::select! {
            () = one.stop() => {}
            () = two.stop() => {}
        }
        open(dir.path()).await.stop().await;
        store.stop().await;
    }
}

/// A client lists, then watches from the header's revision on: it must not miss what was written between the two.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn the_header_of_a_range_stream_is_of_the_revision_that_it_reads() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    store.put(put("k", "0")).await.unwrap();
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let writer = tokio::spawn({
        let (store, stop) = (store.clone(), std::sync::Arc::clone(&stop));
        async move {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                store.put(put("k", "x")).await.unwrap();
            }
        }
    });
    for _ in 0..1000 {
        let mut stream = store.range_stream(RangeRequest {
            serializable: true,
            ..get("k")
        });
        let chunk = stream.next().await.unwrap().unwrap();
        assert_eq!(chunk.header.unwrap().revision, chunk.kvs[0].mod_revision);
        assert!(stream.next().await.is_none());
        tokio::task::yield_now().await;
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    writer.await.unwrap();
    store.stop().await;
}

#[tokio::test]
async fn a_folder_is_opened_once_and_by_its_owner() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let second = Store::open(Settings::new(dir.path())).await;
    assert!(
        matches!(second, Err(OpenError::Locked { .. })),
        "{:?}",
        second.err()
    );
    store.stop().await;
    let mut settings = Settings::new(dir.path());
    settings.initial_cluster_token = "another".to_owned();
    let other = Store::open(settings).await;
    assert!(
        matches!(other, Err(OpenError::OtherCluster { .. })),
        "{:?}",
        other.err()
    );
    open(dir.path()).await.stop().await;
}

/// etcd sorts each chunk on its own, so that keys repeat and others are missing; here the answer is that of a range.
#[tokio::test]
async fn a_range_stream_sorted_by_another_field_holds_each_key_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    for number in 0..100 {
        let value = format!("{:02}", (number * 37) % 100);
        store.put(put(&format!("k{number:02}"), &value)).await.unwrap();
    }
    for limit in [0, 7, 100] {
        let request = RangeRequest {
            range_end: "l".into(),
            sort_target: 4,
            limit,
            ..get("k")
        };
        let expected = store.range(request.clone()).await.unwrap();
        let mut stream = store.range_stream(request);
        let mut found = stream.next().await.unwrap().unwrap();
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.unwrap();
            found.kvs.extend(chunk.kvs);
            (found.header, found.more, found.count) = (chunk.header, chunk.more, chunk.count);
        }
        assert_eq!(found, expected, "limit {limit}");
    }
    store.stop().await;
}

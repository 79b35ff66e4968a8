//! Corner cases 1 to 10 of the compatibility reference: revisions, versions and compaction. Each has a store of its
//! own, because absolute revisions are what they look at.

use crate::harness::*;
use proto::etcdserverpb::RangeRequest;
use tonic::Code;

#[tokio::test]
async fn case_01_fresh_store_revisions() {
    let server = Server::start();
    let client = server.client().await;
    let answer = client.range(get("a")).await;
    assert_eq!(header_revision(&answer.header), 1);
    assert_eq!(client.put("a", "1").await, 2);
}

#[tokio::test]
async fn case_02_same_value_makes_a_revision() {
    let server = Server::start();
    let client = server.client().await;
    assert_eq!(client.put("a", "same").await, 2);
    assert_eq!(client.put("a", "same").await, 3);
    let kv = &client.range(get("a")).await.kvs[0];
    assert_eq!(revisions(kv), (2, 3, 2));
}

#[tokio::test]
async fn case_03_delete_of_an_absent_key() {
    let server = Server::start();
    let client = server.client().await;
    client.put("a", "1").await;
    let answer = client.delete_with(delete("b")).await;
    assert_eq!((answer.deleted, header_revision(&answer.header)), (0, 2));
    assert_eq!(client.put("a", "2").await, 3);
}

#[tokio::test]
async fn case_04_txn_of_five_keys_is_one_revision() {
    let server = Server::start();
    let client = server.client().await;
    let (mut watch, created) = WatchStream::with(&client, watch_prefix("k/")).await;
    assert_eq!(header_revision(&created.header), 1);
    let order = ["k/3", "k/1", "k/5", "k/2", "k/4"];
    let answer = client
        .txn(then(order.iter().map(|key| op(put(key, "v"))).collect()))
        .await;
    assert_eq!(header_revision(&answer.header), 2);

    let kvs = client.range(get_prefix("k/")).await.kvs;
    assert_eq!(kvs.len(), 5);
    assert!(kvs.iter().all(|kv| kv.mod_revision == 2), "{kvs:?}");
    let response = watch.next().await;
    assert_eq!(header_revision(&response.header), 2);
    assert_eq!(keys_of(&response.events), order);
    assert_eq!(client.revision().await, 2);
}

#[tokio::test]
async fn case_05_key_created_again() {
    let server = Server::start();
    let client = server.client().await;
    client.put("a", "1").await;
    client.put("a", "2").await;
    assert_eq!(client.delete("a").await, 4);
    assert_eq!(client.put("a", "3").await, 5);
    assert_eq!(revisions(&client.range(get("a")).await.kvs[0]), (5, 5, 1));
}

#[tokio::test]
async fn case_06_reading_txn_takes_no_revision() {
    let server = Server::start();
    let client = server.client().await;
    client.put("a", "1").await;
    let answer = client.txn(then(vec![op(get("a"))])).await;
    assert_eq!(header_revision(&answer.header), 2);

    // Not taken branches write, nested and not; the one that is taken reads.
    let inner = txn(vec![is_absent("a")], vec![op(put("a", "no"))], vec![op(get("a"))]);
    let answer = client
        .txn(txn(
            vec![is_absent("a")],
            vec![op(put("b", "no"))],
            vec![op(inner)],
        ))
        .await;
    assert_eq!(header_revision(&answer.header), 2);
    let nested = txn_answer(&answer.responses[0]);
    assert_eq!(pairs(&range_answer(&nested.responses[0]).kvs), ["a=1"]);
    // A delete that finds nothing changes nothing either.
    assert_eq!(
        header_revision(&client.txn(then(vec![op(delete("b"))])).await.header),
        2
    );
    assert_eq!(client.put("a", "2").await, 3);
}

#[tokio::test]
async fn case_07_old_revision_has_the_current_header() {
    let server = Server::start();
    let client = server.client().await;
    client.put("a", "1").await;
    client.put("a", "2").await;
    client.put("b", "1").await;
    let mut request = get_prefix("a");
    request.revision = 2;
    let answer = client.range(request).await;
    assert_eq!(pairs(&answer.kvs), ["a=1"]);
    assert_eq!(answer.count, 1);
    assert_eq!(header_revision(&answer.header), 4);
}

#[tokio::test]
async fn case_08_range_around_the_compacted_revision() {
    let server = Server::start();
    let client = server.client().await;
    for value in ["1", "2", "3", "4"] {
        client.put("a", value).await;
    }
    client.compact(4).await;
    let at = |revision, key: &str| {
        let mut request = get(key);
        request.revision = revision;
        client.try_range(request)
    };
    assert_eq!(pairs(&at(4, "a").await.unwrap().kvs), ["a=3"]);
    assert_status(at(3, "a").await, Code::OutOfRange, COMPACTED);
    assert_status(at(6, "a").await, Code::OutOfRange, FUTURE);
    // Both are judged before the key is looked for.
    assert_status(at(3, "absent").await, Code::OutOfRange, COMPACTED);
    assert_status(at(6, "absent").await, Code::OutOfRange, FUTURE);
}

#[tokio::test]
async fn case_09_compact_limits() {
    let server = Server::start();
    let client = server.client().await;
    client.try_compact(0).await.unwrap();
    assert_status(client.try_compact(0).await, Code::OutOfRange, COMPACTED);
    assert_status(client.try_compact(-1).await, Code::OutOfRange, COMPACTED);
    let current = client.put("a", "1").await;
    assert_status(client.try_compact(current + 1).await, Code::OutOfRange, FUTURE);
    client.try_compact(current).await.unwrap();
    assert_status(client.try_compact(current).await, Code::OutOfRange, COMPACTED);
    assert_eq!(client.revision().await, current);
}

#[tokio::test]
async fn case_10_what_compaction_keeps() {
    let server = Server::start();
    let client = server.client().await;
    client.put("old", "kept").await;
    client.put("gone", "1").await;
    client.put("overwritten", "1").await;
    client.put("overwritten", "2").await;
    let at = client.delete("gone").await;
    client.put("overwritten", "3").await;
    client.compact(at).await;

    let mut request = RangeRequest {
        key: ZERO,
        range_end: ZERO,
        revision: at,
        ..Default::default()
    };
    let answer = client.range(request.clone()).await;
    assert_eq!(pairs(&answer.kvs), ["old=kept", "overwritten=2"]);
    assert_eq!(revisions(&answer.kvs[0]), (2, 2, 1));
    assert_eq!(revisions(&answer.kvs[1]), (4, 5, 2));
    request.revision = 0;
    assert_eq!(
        pairs(&client.range(request).await.kvs),
        ["old=kept", "overwritten=3"]
    );
    // The key that is gone begins anew.
    let again = client.put("gone", "2").await;
    assert_eq!(
        revisions(&client.range(get("gone")).await.kvs[0]),
        (again, again, 1)
    );
}

const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";
const FUTURE: &str = "etcdserver: mvcc: required revision is a future revision";

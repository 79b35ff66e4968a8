//! Corner cases 19 to 31 of the compatibility reference: Put, DeleteRange and Txn.

use crate::harness::*;
use proto::etcdserverpb::compare::{CompareResult, TargetUnion};
use proto::etcdserverpb::{PutRequest, RequestOp, TxnRequest};
use tonic::Code;

#[tokio::test]
async fn case_19_put_without_lease_detaches() {
    let server = Server::shared();
    let client = server.client().await;
    let lease = client.grant(600).await;
    client
        .put_with(PutRequest {
            lease,
            ..put("c19", "1")
        })
        .await;
    assert_eq!(client.range(get("c19")).await.kvs[0].lease, lease);
    client.put("c19", "2").await;
    let kv = client.range(get("c19")).await.kvs.remove(0);
    assert_eq!((kv.lease, kv.version), (0, 2));
    client.revoke(lease).await.unwrap();
    assert_eq!(pairs(&client.range(get("c19")).await.kvs), ["c19=2"]);
}

#[tokio::test]
async fn case_20_ignore_lease_and_ignore_value() {
    let server = Server::shared();
    let client = server.client().await;
    let lease = client.grant(600).await;
    client
        .put_with(PutRequest {
            lease,
            ..put("c20/a", "1")
        })
        .await;
    client
        .put_with(PutRequest {
            ignore_lease: true,
            ..put("c20/a", "2")
        })
        .await;
    let kv = client.range(get("c20/a")).await.kvs.remove(0);
    assert_eq!(
        (kv.lease, text(&kv.value), kv.version),
        (lease, "2".to_owned(), 2)
    );
    // The value stays, the revision moves, and a put without ignore_lease detaches.
    client
        .put_with(PutRequest {
            ignore_value: true,
            ..put("c20/a", "")
        })
        .await;
    let kv = client.range(get("c20/a")).await.kvs.remove(0);
    assert_eq!((kv.lease, text(&kv.value), kv.version), (0, "2".to_owned(), 3));

    let absent = PutRequest {
        ignore_value: true,
        ..put("c20/b", "")
    };
    assert_status(
        client.try_put(absent.clone()).await,
        Code::InvalidArgument,
        "etcdserver: key not found",
    );
    let absent_lease = PutRequest {
        ignore_lease: true,
        ..put("c20/b", "1")
    };
    assert_status(
        client.try_put(absent_lease).await,
        Code::InvalidArgument,
        "etcdserver: key not found",
    );
    let request = then(vec![op(put("c20/c", "1")), op(absent)]);
    assert_status(
        client.try_txn(request).await,
        Code::InvalidArgument,
        "etcdserver: key not found",
    );
    assert_eq!(pairs(&client.range(get_prefix("c20/")).await.kvs), ["c20/a=2"]);
    client.revoke(lease).await.unwrap();
}

#[tokio::test]
async fn case_21_put_with_an_unknown_lease() {
    let server = Server::start();
    let client = server.client().await;
    let unknown = PutRequest {
        lease: 424_242,
        ..put("c21", "1")
    };
    let text = "etcdserver: requested lease not found";
    assert_status(client.try_put(unknown.clone()).await, Code::NotFound, text);
    assert_status(
        client
            .try_txn(then(vec![op(put("c21/a", "1")), op(unknown)]))
            .await,
        Code::NotFound,
        text,
    );
    let answer = client.range(get_prefix("c21")).await;
    assert_eq!((answer.count, header_revision(&answer.header)), (0, 1));
}

#[tokio::test]
async fn case_22_prev_kv_of_a_new_key_is_absent() {
    let server = Server::shared();
    let client = server.client().await;
    let request = PutRequest {
        prev_kv: true,
        ..put("c22", "1")
    };
    assert_eq!(client.put_with(request.clone()).await.prev_kv, None);
    let prev = client
        .put_with(request.clone())
        .await
        .prev_kv
        .expect("the key was there");
    assert_eq!((text(&prev.value), prev.version), ("1".to_owned(), 1));
    client.delete("c22").await;
    assert_eq!(client.put_with(request).await.prev_kv, None);
}

const DUPLICATE: &str = "etcdserver: duplicate key given in txn request";

#[tokio::test]
async fn case_23_duplicate_keys() {
    let server = Server::shared();
    let client = server.client().await;
    let twice = vec![op(put("c23/a", "1")), op(put("c23/a", "2"))];
    let put_and_delete = vec![op(put("c23/a", "1")), op(delete_prefix("c23/"))];
    for branch in [twice, put_and_delete] {
        assert_status(
            client.try_txn(then(branch.clone())).await,
            Code::InvalidArgument,
            DUPLICATE,
        );
        // The other branch would run.
        let untaken = txn(vec![is_absent("c23/a")], vec![], branch);
        assert_status(client.try_txn(untaken).await, Code::InvalidArgument, DUPLICATE);
    }
    let deletes = client
        .txn(then(vec![op(delete_prefix("c23/")), op(delete("c23/a"))]))
        .await;
    assert_eq!(deletes.responses.len(), 2);

    // Nested branches count whether they can run or not.
    let nested = txn(vec![], vec![], vec![op(delete("c23/a"))]);
    let request = then(vec![op(put("c23/a", "1")), op(nested)]);
    assert_status(client.try_txn(request).await, Code::InvalidArgument, DUPLICATE);
    let sibling = || op(then(vec![op(put("c23/a", "1"))]));
    let request = then(vec![sibling(), sibling()]);
    assert_status(client.try_txn(request).await, Code::InvalidArgument, DUPLICATE);
    assert_eq!(client.range(get_prefix("c23/")).await.count, 0);
}

#[tokio::test]
async fn case_24_same_key_in_both_branches() {
    let server = Server::shared();
    let client = server.client().await;
    let both = || {
        txn(
            vec![is_absent("c24")],
            vec![op(put("c24", "created"))],
            vec![op(put("c24", "updated"))],
        )
    };
    assert!(client.txn(both()).await.succeeded);
    // Likewise in the branches of a nested txn.
    assert!(client.txn(then(vec![op(both())])).await.succeeded);
    assert_eq!(pairs(&client.range(get("c24")).await.kvs), ["c24=updated"]);
}

#[tokio::test]
async fn case_25_too_many_operations() {
    let server = Server::shared();
    let client = server.client().await;
    let text = "etcdserver: too many operations in txn request";
    let gets =
        |count: usize| -> Vec<RequestOp> { (0..count).map(|i| op(get(&format!("c25/{i}")))).collect() };
    let compares = |count: usize| {
        (0..count)
            .map(|i| is_absent(&format!("c25/{i}")))
            .collect::<Vec<_>>()
    };
    assert_status(
        client.try_txn(txn(compares(129), vec![], vec![])).await,
        Code::InvalidArgument,
        text,
    );
    assert_status(
        client.try_txn(txn(vec![], gets(129), vec![])).await,
        Code::InvalidArgument,
        text,
    );
    assert_status(
        client.try_txn(txn(vec![], vec![], gets(129))).await,
        Code::InvalidArgument,
        text,
    );
    let full = client.txn(txn(compares(128), gets(128), gets(128))).await;
    assert_eq!((full.succeeded, full.responses.len()), (true, 128));

    // A nested txn may use what its parent's longest list left: 128 - 100.
    let parent = |nested: usize| {
        let mut success = gets(99);
        success.push(op(then(gets(nested))));
        then(success)
    };
    client.txn(parent(28)).await;
    assert_status(client.try_txn(parent(29)).await, Code::InvalidArgument, text);
    let mut siblings = gets(98);
    siblings.extend([op(then(gets(28))), op(then(gets(28)))]);
    client.txn(then(siblings)).await;
    let mut full_with_empty = gets(127);
    full_with_empty.push(op(TxnRequest::default()));
    client.txn(then(full_with_empty)).await;
}

#[tokio::test]
async fn case_26_value_compare_on_an_absent_key() {
    let server = Server::shared();
    let client = server.client().await;
    for (result, value) in [
        (CompareResult::Equal, ""),
        (CompareResult::NotEqual, "x"),
        (CompareResult::Less, "x"),
        (CompareResult::Greater, ""),
    ] {
        let condition = compare("c26", result, TargetUnion::Value(bytes(value)));
        assert!(
            !client.txn(txn(vec![condition], vec![], vec![])).await.succeeded,
            "{result:?} {value:?}"
        );
    }
}

#[tokio::test]
async fn case_27_compare_over_a_range() {
    let server = Server::shared();
    let client = server.client().await;
    let over = |result, operand| {
        let mut condition = compare("c27/", result, operand);
        condition.range_end = prefix_end("c27/");
        txn(vec![condition], vec![], vec![])
    };
    // On an empty range the rule of the absent key.
    assert!(
        client
            .txn(over(CompareResult::Equal, TargetUnion::Version(0)))
            .await
            .succeeded
    );
    assert!(
        !client
            .txn(over(CompareResult::Equal, TargetUnion::Version(1)))
            .await
            .succeeded
    );
    assert!(
        !client
            .txn(over(CompareResult::Equal, TargetUnion::Value(bytes(""))))
            .await
            .succeeded
    );
    // Else every live key must satisfy it.
    client.put("c27/a", "1").await;
    client.put("c27/b", "1").await;
    assert!(
        client
            .txn(over(CompareResult::Equal, TargetUnion::Value(bytes("1"))))
            .await
            .succeeded
    );
    client.put("c27/b", "2").await;
    assert!(
        !client
            .txn(over(CompareResult::Equal, TargetUnion::Value(bytes("1"))))
            .await
            .succeeded
    );
    assert!(
        client
            .txn(over(CompareResult::Greater, TargetUnion::Value(bytes("0"))))
            .await
            .succeeded
    );
    assert!(
        client
            .txn(over(CompareResult::Less, TargetUnion::Version(3)))
            .await
            .succeeded
    );
}

#[tokio::test]
async fn case_28_nested_compares_see_the_state_before() {
    let server = Server::shared();
    let client = server.client().await;
    let nested = txn(vec![is_absent("c28")], vec![op(get("c28"))], vec![]);
    let answer = client.txn(then(vec![op(put("c28", "1")), op(nested)])).await;
    let inner = txn_answer(&answer.responses[1]);
    assert!(inner.succeeded, "the nested compare saw the put before it");
    // Its operations do see it.
    assert_eq!(pairs(&range_answer(&inner.responses[0]).kvs), ["c28=1"]);
    // The header of a nested answer is there and zero.
    let header = inner.header.as_ref().expect("present");
    assert_eq!(
        (
            header.cluster_id,
            header.member_id,
            header.revision,
            header.raft_term
        ),
        (0, 0, 0, 0)
    );
}

#[tokio::test]
async fn case_29_range_sees_the_txn_itself() {
    let server = Server::start();
    let client = server.client().await;
    client.put("c29/b", "b").await;
    client.put("c29", "old").await;
    let operations = vec![
        op(get("c29")),
        op(put("c29", "new")),
        op(get("c29")),
        op(delete("c29/b")),
        op(get("c29/b")),
    ];
    let answer = client.txn(then(operations)).await;
    assert_eq!(header_revision(&answer.header), 4);
    let before = range_answer(&answer.responses[0]);
    assert_eq!(pairs(&before.kvs), ["c29=old"]);
    assert_eq!(header_revision(&before.header), 3);
    assert_eq!(header_revision(&put_answer(&answer.responses[1]).header), 4);
    let after = range_answer(&answer.responses[2]);
    assert_eq!(pairs(&after.kvs), ["c29=new"]);
    assert_eq!(revisions(&after.kvs[0]), (3, 4, 2));
    assert_eq!(header_revision(&after.header), 4);
    assert_eq!(delete_answer(&answer.responses[3]).deleted, 1);
    assert_eq!(range_answer(&answer.responses[4]).count, 0);
    // Inner headers carry the revision and nothing else.
    let header = after.header.as_ref().expect("present");
    assert_eq!((header.cluster_id, header.member_id, header.raft_term), (0, 0, 0));
}

#[tokio::test]
async fn case_30_txn_without_operations() {
    // Without a quorum there is one member less to ask; on one member the local read must simply answer.
    let server = Server::shared();
    let client = server.client().await;
    let answer = client.txn(TxnRequest::default()).await;
    assert!(answer.succeeded && answer.responses.is_empty());
    assert!(header_revision(&answer.header) >= 1);
    let answer = client.txn(txn(vec![is_absent("c30")], vec![], vec![])).await;
    assert!(answer.succeeded && answer.responses.is_empty());
}

#[tokio::test]
async fn case_31_operation_without_a_request() {
    let server = Server::shared();
    let client = server.client().await;
    let empty = RequestOp { request: None };
    let request = then(vec![op(put("c31", "1")), empty]);
    assert_status(
        client.try_txn(request).await,
        Code::InvalidArgument,
        "etcdserver: key not found",
    );
    assert_eq!(client.range(get("c31")).await.count, 0);
}

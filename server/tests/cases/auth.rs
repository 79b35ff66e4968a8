//! Corner cases 64 to 72 of the compatibility reference: who may do what while auth is on, and how it is refused.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use crate::harness::*;
use proto::authpb::permission::Type;
use proto::etcdserverpb::watch_request::RequestUnion;
use proto::etcdserverpb::{
    AlarmRequest, AuthUserGetRequest, CompactionRequest, DeleteRangeRequest, HashKvRequest,
    LeaseGrantRequest, MemberListRequest, PutRequest, RangeRequest, StatusRequest, TxnRequest,
    WatchCreateRequest, WatchResponse,
};
use tonic::{Code, Status};

#[tokio::test]
async fn case_64_auth_enable_needs_root_with_its_role() {
    let server = Server::start_with(&[CHEAP_HASHES]);
    let client = server.client().await;
    let without_user = client.try_enable_auth().await;
    assert_status(
        without_user,
        Code::FailedPrecondition,
        "etcdserver: root user does not exist",
    );
    client.add_user("root").await;
    let without_role = client.try_enable_auth().await;
    assert_status(
        without_role,
        Code::FailedPrecondition,
        "etcdserver: root user does not have root role",
    );
    assert!(!client.auth_status().await.unwrap().enabled);
    client.put("c64", "open to all").await;

    client.grant_role("root", "root").await.unwrap();
    client.try_enable_auth().await.unwrap();
    let root = client.as_user("root").await;
    root.try_enable_auth().await.unwrap();
    assert!(root.auth_status().await.unwrap().enabled);
    assert_nobody(client.try_range(get("c64")).await);
    assert_eq!(pairs(&root.range(get("c64")).await.kvs), ["c64=open to all"]);
}

#[tokio::test]
async fn case_65_without_token_and_with_junk() {
    let (server, _root) = Server::start_with_auth(&[]).await;
    let nobody = server.client().await;
    let liar = nobody.with_token("junk");
    assert_nobody(nobody.try_put(put("c65", "1")).await);
    assert_nobody(nobody.try_range(get("c65")).await);
    assert_nobody(nobody.try_txn(then(vec![op(put("c65", "1"))])).await);
    assert_nobody(nobody.try_txn(then(vec![op(get("c65"))])).await);
    assert_nobody(
        nobody
            .cluster
            .clone()
            .member_list(MemberListRequest::default())
            .await,
    );
    assert_bad_token(liar.try_put(put("c65", "1")).await);
    assert_bad_token(liar.try_range(get("c65")).await);
    assert_bad_token(liar.try_txn(then(vec![op(put("c65", "1"))])).await);
    assert_bad_token(liar.try_txn(then(vec![op(get("c65"))])).await);
    assert_bad_token(
        liar.cluster
            .clone()
            .member_list(MemberListRequest::default())
            .await,
    );
    // What has the form of a token but was never given out.
    let made_up = nobody.with_token("abcdefghijklmnop.1");
    assert_bad_token(made_up.try_range(get("c65")).await);
    let empty = nobody.with_token("");
    assert_bad_token(empty.try_range(get("c65")).await);
}

#[tokio::test]
async fn case_66_auth_status_is_open_but_not_to_junk() {
    let server = Server::start_with(&[CHEAP_HASHES]);
    let nobody = server.client().await;
    let before = nobody.auth_status().await.unwrap();
    assert_eq!((before.enabled, before.auth_revision), (false, 1));
    // While auth is off nobody looks at tokens.
    nobody.with_token("junk").auth_status().await.unwrap();

    let root = nobody.enable_auth().await;
    // A user and its role; the switch itself does not count.
    let status = nobody.auth_status().await.unwrap();
    assert_eq!((status.enabled, status.auth_revision), (true, 3));
    assert_eq!(root.auth_status().await.unwrap().auth_revision, 3);
    assert_bad_token(nobody.with_token("junk").auth_status().await);

    root.try_disable_auth().await.unwrap();
    let after = nobody.auth_status().await.unwrap();
    assert_eq!((after.enabled, after.auth_revision), (false, 4));
}

#[tokio::test]
async fn case_67_ranges_are_merged_and_gaps_deny() {
    let (_server, root) = Server::start_with_auth(&[]).await;
    for role in ["left", "right"] {
        root.add_role(role).await;
    }
    root.add_user("alice").await;
    root.permit("left", Type::Read, "c67/a", "c67/b").await;
    root.permit("right", Type::Readwrite, "c67/b", "c67/c").await;
    root.permit("right", Type::Read, "c67/d", "c67/e").await;
    for role in ["left", "right"] {
        root.grant_role("alice", role).await.unwrap();
    }
    for key in ["c67/a", "c67/b", "c67/c", "c67/d"] {
        root.put(key, "1").await;
    }
    let alice = root.as_user("alice").await;
    let keys = async |from: &str, to: &str| -> Result<usize, Status> {
        let request = RangeRequest {
            range_end: bytes(to),
            ..get(from)
        };
        alice.try_range(request).await.map(|answer| answer.kvs.len())
    };
    assert_eq!(keys("c67/a", "c67/c").await.unwrap(), 2);
    assert_eq!(keys("c67/a5", "c67/b5").await.unwrap(), 1);
    assert_eq!(keys("c67/d", "c67/e").await.unwrap(), 1);
    assert_denied(keys("c67/a", "c67/e").await);
    assert_denied(keys("c67/b", "c67/d5").await);
    assert_denied(keys("c67/a", "c67/c0").await);
    assert_denied(keys("c67/", "c67/c").await);
    assert_denied(keys("c67/a", "\0").await);
    alice.range(get("c67/a")).await;
    assert_denied(alice.try_range(get("c67/c")).await);
    // Types are not merged: the left part may only be read.
    assert_denied(alice.try_put(put("c67/a", "2")).await);
    alice.put("c67/b", "2").await;
    assert_denied(
        alice
            .kv
            .clone()
            .delete_range(DeleteRangeRequest {
                range_end: bytes("c67/c"),
                ..delete("c67/a")
            })
            .await,
    );

    // A grant of the gap closes it, and its revoke opens it again.
    root.permit("left", Type::Read, "c67/c", "c67/d").await;
    assert_eq!(keys("c67/a", "c67/e").await.unwrap(), 4);
    // To the end of the space.
    root.permit("left", Type::Read, "c67/a", "\0").await;
    assert!(keys("c67/a", "\0").await.unwrap() >= 4);
    assert_denied(keys("c66", "\0").await);
}

#[tokio::test]
async fn case_68_prev_kv_reads_and_both_branches_count() {
    let (_server, root) = Server::start_with_auth(&[]).await;
    root.add_user_with("writer", Type::Write, "c68/").await;
    root.add_user_with("reader", Type::Read, "c68/").await;
    root.put("c68/a", "1").await;
    let writer = root.as_user("writer").await;
    let reader = root.as_user("reader").await;

    let with_prev_kv = PutRequest {
        prev_kv: true,
        ..put("c68/a", "2")
    };
    assert_denied(writer.try_put(with_prev_kv.clone()).await);
    writer.put("c68/a", "3").await;
    let with_prev_kvs = DeleteRangeRequest {
        prev_kv: true,
        ..delete("c68/a")
    };
    assert_denied(writer.kv.clone().delete_range(with_prev_kvs.clone()).await);
    assert_denied(writer.try_txn(then(vec![op(with_prev_kv)])).await);
    assert_denied(writer.try_txn(then(vec![op(with_prev_kvs)])).await);
    writer
        .txn(then(vec![op(put("c68/a", "4")), op(delete("c68/b"))]))
        .await;

    // The branch not taken counts, also that of a nested txn, and so do compares.
    let absent = || vec![is_absent("c68/absent")];
    let elsewhere = || vec![op(get("elsewhere"))];
    let reads = || vec![op(get("c68/a"))];
    reader.txn(txn(absent(), reads(), reads())).await;
    assert_denied(reader.try_txn(txn(absent(), reads(), elsewhere())).await);
    assert_denied(reader.try_txn(txn(absent(), elsewhere(), reads())).await);
    assert_denied(
        reader
            .try_txn(txn(absent(), reads(), vec![op(put("c68/a", "5"))]))
            .await,
    );
    assert_denied(
        reader
            .try_txn(txn(vec![is_absent("elsewhere")], reads(), reads()))
            .await,
    );
    let nested = |inner: TxnRequest| txn(absent(), reads(), vec![op(inner)]);
    reader.txn(nested(txn(absent(), reads(), reads()))).await;
    assert_denied(reader.try_txn(nested(txn(absent(), reads(), elsewhere()))).await);
    assert_denied(
        reader
            .try_txn(nested(txn(vec![is_absent("elsewhere")], reads(), reads())))
            .await,
    );
    let deep = nested(nested(txn(absent(), vec![], vec![op(delete("c68/a"))])));
    assert_denied(reader.try_txn(deep).await);
    // Nothing of what was denied was done.
    assert_eq!(pairs(&root.range(get_prefix("c68/")).await.kvs), ["c68/a=4"]);
}

#[tokio::test]
async fn case_69_watches_without_permission() {
    let (server, root) = Server::start_with_auth(&[]).await;
    root.add_user_with("reader", Type::Read, "c69/").await;
    let reader = root.as_user("reader").await;
    let refused = |answer: &WatchResponse| {
        assert!(answer.created && answer.canceled, "{answer:?}");
        assert_eq!((answer.watch_id, answer.compact_revision), (-1, 0));
        answer.cancel_reason.clone()
    };
    let denied = "rpc error: code = PermissionDenied desc = etcdserver: permission denied";

    let (mut stream, answer) = WatchStream::with(&reader, watch_key("elsewhere")).await;
    assert_eq!(refused(&answer), denied);
    // The stream lives on.
    let created = stream.create(watch_prefix("c69/")).await;
    assert!(!created.canceled, "{created:?}");
    let answer = stream.create(watch_key("elsewhere")).await;
    assert_eq!(refused(&answer), denied);
    root.put("elsewhere", "secret").await;
    root.put("c69/a", "1").await;
    let events = stream.next().await;
    assert_eq!(
        (events.watch_id, showed(&events.events)),
        (created.watch_id, vec!["PUT c69/a=1".to_owned()])
    );

    let nobody = server.client().await;
    let (mut stream, answer) = WatchStream::with(&nobody, watch_key("c69/a")).await;
    assert_eq!(
        refused(&answer),
        "rpc error: code = InvalidArgument desc = etcdserver: user name is empty"
    );
    let answer = stream.create(watch_key("c69/a")).await;
    assert!(answer.canceled, "{answer:?}");
    let liar = nobody.with_token("junk");
    let (_stream, answer) = WatchStream::with(&liar, watch_key("c69/a")).await;
    assert_eq!(
        refused(&answer),
        "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token"
    );
}

#[tokio::test]
async fn case_70_a_revoked_role_ends_requests_and_not_watches() {
    let (_server, root) = Server::start_with_auth(&[]).await;
    root.add_user_with("alice", Type::Readwrite, "c70/").await;
    let alice = root.as_user("alice").await;
    alice.put("c70/a", "1").await;
    let (mut stream, created) = WatchStream::with(&alice, watch_prefix("c70/")).await;
    let lease = alice.grant(600).await;
    alice
        .put_with(PutRequest {
            lease,
            ..put("c70/b", "1")
        })
        .await;
    assert_eq!(showed(&stream.events(1).await), ["PUT c70/b=1"]);

    root.revoke_role("alice", "alice").await.unwrap();
    assert_denied(alice.try_range(get("c70/a")).await);
    assert_denied(alice.try_put(put("c70/a", "2")).await);
    assert_denied(alice.try_keep_alive(lease).await);
    assert_denied(alice.revoke(lease).await);
    // The token is still one of a user, who may do what needs no permission.
    alice.grant(600).await;
    root.put("c70/a", "3").await;
    assert_eq!(showed(&stream.events(1).await), ["PUT c70/a=3"]);
    let answer = stream.create(watch_prefix("c70/")).await;
    assert!(answer.canceled && answer.watch_id == -1, "{answer:?}");
    stream.cancel(created.watch_id);
    assert!(stream.next().await.canceled);

    root.grant_role("alice", "alice").await.unwrap();
    assert_eq!(pairs(&alice.range(get("c70/a")).await.kvs), ["c70/a=3"]);
    alice.keep_alive(lease).await;
    alice.revoke(lease).await.unwrap();
}

#[tokio::test]
async fn case_71_users_see_themselves_only() {
    let (_server, root) = Server::start_with_auth(&[]).await;
    for user in ["alice", "bob"] {
        root.add_user_with(user, Type::Read, user).await;
    }
    let alice = root.as_user("alice").await;
    let roles = async |client: &Client, name: &str| -> Result<Vec<String>, Status> {
        let request = AuthUserGetRequest {
            name: name.to_owned(),
        };
        let answer = client.auth.clone().user_get(request).await?;
        Ok(answer.into_inner().roles)
    };
    assert_eq!(roles(&alice, "alice").await.unwrap(), ["alice"]);
    assert_denied(roles(&alice, "bob").await);
    assert_denied(roles(&alice, "root").await);
    assert_denied(roles(&alice, "nobody at all").await);
    assert_eq!(roles(&root, "bob").await.unwrap(), ["bob"]);
    assert_status(
        roles(&root, "nobody at all").await,
        Code::FailedPrecondition,
        "etcdserver: user name not found",
    );
}

#[tokio::test]
async fn case_72_jwt_tokens_age_with_each_change() {
    let keys = tempfile::tempdir().unwrap();
    let secret = keys.path().join("hmac.key");
    std::fs::write(&secret, "a secret of some length for the tests").unwrap();
    let flag = format!(
        "--auth-token=jwt,sign-method=HS256,priv-key={},ttl=10m",
        secret.display()
    );
    let (_server, root) = Server::start_with_auth(&[&flag]).await;
    root.add_user("bob").await;
    assert_old_revision(root.try_put(put("c72", "1")).await);
    let root = root.as_user("root").await;
    root.put("c72", "1").await;

    // Any change outdates it, were it of somebody else.
    root.add_role("unrelated").await;
    assert_old_revision(root.try_range(get("c72")).await);
    assert_old_revision(
        root.try_range(RangeRequest {
            serializable: true,
            ..get("c72")
        })
        .await,
    );
    assert_old_revision(root.try_put(put("c72", "2")).await);
    assert_old_revision(root.kv.clone().delete_range(delete("c72")).await);
    assert_old_revision(root.try_txn(then(vec![op(put("c72", "2"))])).await);
    assert_old_revision(root.try_txn(then(vec![op(get("c72"))])).await);
    assert_old_revision(root.try_txn(TxnRequest::default()).await);
    let mut stream = WatchStream::open(&root);
    stream.send(RequestUnion::CreateRequest(WatchCreateRequest::default()));
    let answer = stream.next().await;
    assert!(answer.created && answer.canceled, "{answer:?}");
    assert_eq!(
        answer.cancel_reason,
        "rpc error: code = InvalidArgument desc = etcdserver: revision of auth store is old"
    );

    // What needs an admin or somebody at all takes it.
    let mut maintenance = root.maintenance.clone();
    maintenance.status(StatusRequest {}).await.unwrap();
    maintenance.alarm(AlarmRequest::default()).await.unwrap();
    maintenance.hash_kv(HashKvRequest { revision: 0 }).await.unwrap();
    let grant = LeaseGrantRequest { ttl: 600, id: 0 };
    root.lease.clone().lease_grant(grant).await.unwrap();
    let list = MemberListRequest { linearizable: true };
    root.cluster.clone().member_list(list).await.unwrap();
    let compaction = CompactionRequest {
        revision: 2,
        physical: false,
    };
    root.kv.clone().compact(compaction).await.unwrap();
    root.add_role("another").await;

    let root = root.as_user("root").await;
    assert_eq!(pairs(&root.range(get("c72")).await.kvs), ["c72=1"]);
}

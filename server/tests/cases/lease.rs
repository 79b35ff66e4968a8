//! Corner cases 47 to 52 of the compatibility reference: leases on one member.

use std::time::{Duration, Instant};

use crate::harness::*;
use proto::etcdserverpb::{LeaseGrantRequest, LeaseKeepAliveRequest, LeaseLeasesRequest, PutRequest};
use tonic::Code;

#[tokio::test]
async fn case_47_granted_time_to_live() {
    let server = Server::shared();
    let client = server.client().await;
    for (asked, granted) in [
        (1, 2),
        (0, 2),
        (-5, 2),
        (2, 2),
        (3, 3),
        (9_000_000_000, 9_000_000_000),
    ] {
        let request = LeaseGrantRequest { ttl: asked, id: 0 };
        let answer = client
            .lease
            .clone()
            .lease_grant(request)
            .await
            .unwrap()
            .into_inner();
        assert_eq!(
            (answer.ttl, answer.error.as_str()),
            (granted, ""),
            "asked for {asked}"
        );
        assert!(answer.id > 0, "{answer:?}");
    }
    let request = LeaseGrantRequest {
        ttl: 9_000_000_001,
        id: 0,
    };
    let refused = client.lease.clone().lease_grant(request).await;
    assert_status(refused, Code::OutOfRange, "etcdserver: too large lease TTL");
}

#[tokio::test]
async fn case_48_unknown_lease() {
    let server = Server::shared();
    let client = server.client().await;
    let alive = client.keep_alive(480_001).await;
    assert_eq!((alive.id, alive.ttl), (480_001, 0));
    assert!(header_revision(&alive.header) >= 1);
    let life = client.time_to_live(480_001).await;
    assert_eq!(
        (life.id, life.ttl, life.granted_ttl, life.keys.len()),
        (480_001, -1, 0, 0)
    );
    let refused = client.revoke(480_001).await;
    assert_status(refused, Code::NotFound, "etcdserver: requested lease not found");
}

#[tokio::test]
async fn case_50_revoke_is_one_revision() {
    let server = Server::start();
    let client = server.client().await;
    let (with_keys, without) = (client.grant(600).await, client.grant(600).await);
    assert_eq!(client.revision().await, 1);
    for key in ["c50/c", "c50/a", "c50/b"] {
        client
            .put_with(PutRequest {
                lease: with_keys,
                ..put(key, "v")
            })
            .await;
    }
    let (mut watch, _) = WatchStream::with(&client, watch_prefix("c50/")).await;
    assert_eq!(client.revoke(without).await.unwrap(), 4);
    assert_eq!(client.revoke(with_keys).await.unwrap(), 5);
    let response = watch.next().await;
    assert_eq!(header_revision(&response.header), 5);
    assert_eq!(
        showed(&response.events),
        ["DELETE c50/a", "DELETE c50/b", "DELETE c50/c"]
    );
    assert_eq!(client.range(get_prefix("c50/")).await.count, 0);
    assert_eq!(client.revision().await, 5);
}

#[tokio::test]
async fn case_52_granting_a_revoked_id_again() {
    let server = Server::shared();
    let client = server.client().await;
    for id in [5201, -5202] {
        let grant = || LeaseGrantRequest { ttl: 600, id };
        client.lease.clone().lease_grant(grant()).await.unwrap();
        client
            .put_with(PutRequest {
                lease: id,
                ..put("c52", "v")
            })
            .await;
        let refused = client.lease.clone().lease_grant(grant()).await;
        assert_status(
            refused,
            Code::FailedPrecondition,
            "etcdserver: lease already exists",
        );
        client.revoke(id).await.unwrap();
        let again = client
            .lease
            .clone()
            .lease_grant(grant())
            .await
            .unwrap()
            .into_inner();
        assert_eq!((again.id, again.ttl), (id, 600));
        let life = client.time_to_live(id).await;
        assert_eq!((life.granted_ttl, life.keys.len()), (600, 0));
        client.revoke(id).await.unwrap();
    }
}

#[tokio::test]
async fn keys_move_between_leases() {
    let server = Server::shared();
    let client = server.client().await;
    let (first, second) = (client.grant(600).await, client.grant(600).await);
    client
        .put_with(PutRequest {
            lease: first,
            ..put("move/a", "1")
        })
        .await;
    client
        .put_with(PutRequest {
            lease: first,
            ..put("move/b", "1")
        })
        .await;
    client
        .put_with(PutRequest {
            lease: second,
            ..put("move/a", "2")
        })
        .await;
    client.delete("move/b").await;
    assert_eq!(client.time_to_live(first).await.keys.len(), 0);
    assert_eq!(client.time_to_live(second).await.keys, ["move/a"]);
    client.revoke(first).await.unwrap();
    assert_eq!(client.range(get_prefix("move/")).await.count, 1);
    client.revoke(second).await.unwrap();
    assert_eq!(client.range(get_prefix("move/")).await.count, 0);
}

#[tokio::test]
async fn lease_lives_while_kept_alive_and_never_ends_early() {
    let server = Server::shared();
    let client = server.client().await;
    let (kept, left) = (client.grant(2).await, client.grant(2).await);
    let granted = Instant::now();
    client
        .put_with(PutRequest {
            lease: kept,
            ..put("alive/kept", "v")
        })
        .await;
    client
        .put_with(PutRequest {
            lease: left,
            ..put("alive/left", "v")
        })
        .await;
    let (mut watch, _) = WatchStream::with(&client, watch_prefix("alive/")).await;

    // One stream renews; the lease that is left alone ends meanwhile.
    let (requests, outgoing) = tokio::sync::mpsc::channel(1);
    let outgoing = tokio_stream::wrappers::ReceiverStream::new(outgoing);
    let first = LeaseKeepAliveRequest { id: kept };
    requests.send(first).await.unwrap();
    let mut answers = client
        .lease
        .clone()
        .lease_keep_alive(outgoing)
        .await
        .unwrap()
        .into_inner();
    let mut every = tokio::time::interval(Duration::from_millis(300));
    let ended = loop {
        tokio::select! {
            response = watch.next() => break response,
            answer = answers.message() => {
                let answer = answer.unwrap().expect("the stream is open");
                assert_eq!((answer.id, answer.ttl), (kept, 2));
            }
            _ = every.tick() => requests.send(first).await.unwrap(),
        }
    };
    assert_eq!(showed(&ended.events), ["DELETE alive/left"]);
    let lived = granted.elapsed();
    assert!(lived >= Duration::from_millis(1990), "ended after {lived:?}");
    assert!(client.time_to_live(kept).await.ttl >= 0);

    // Client half-close ends the stream without an error.
    drop(requests);
    while let Some(answer) = answers.message().await.unwrap() {
        assert_eq!(answer.id, kept);
    }
    assert_eq!(showed(&watch.next().await.events), ["DELETE alive/kept"]);
}

#[tokio::test]
async fn leases_are_listed_by_remaining_life() {
    let server = Server::start();
    let client = server.client().await;
    let long = client.grant(900).await;
    let short = client.grant(300).await;
    let middle = client.grant(600).await;
    let answer = client
        .lease
        .clone()
        .lease_leases(LeaseLeasesRequest {})
        .await
        .unwrap()
        .into_inner();
    let ids: Vec<i64> = answer.leases.iter().map(|lease| lease.id).collect();
    assert_eq!(ids, [short, middle, long]);
    assert_eq!(header_revision(&answer.header), 1);
}

#[tokio::test]
async fn time_to_live_counts_down_in_whole_seconds() {
    let server = Server::shared();
    let client = server.client().await;
    let lease = client.grant(100).await;
    let life = client.time_to_live(lease).await;
    assert!(
        (90..=99).contains(&life.ttl),
        "rounded down, {} remain of 100",
        life.ttl
    );
    assert_eq!(life.granted_ttl, 100);
    let alive = client.keep_alive(lease).await;
    assert_eq!((alive.id, alive.ttl), (lease, 100));
    client.revoke(lease).await.unwrap();
}

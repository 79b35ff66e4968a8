//! `--force-new-cluster`: of three members two are lost for good, and the third goes on alone with everything that was
//! acknowledged.
#![allow(clippy::unwrap_used, reason = "a test that fails is to panic")]

use crate::harness::*;
use proto::etcdserverpb::{Member, MemberListRequest};

/// The cluster's id and its members, as one of them lists them.
async fn members(client: &Client, linearizable: bool) -> (u64, Vec<Member>) {
    let request = MemberListRequest { linearizable };
    let answer = client
        .cluster
        .clone()
        .member_list(request)
        .await
        .unwrap()
        .into_inner();
    (answer.header.unwrap().cluster_id, answer.members)
}

#[tokio::test]
async fn the_last_member_goes_on_alone() {
    if !runs_taffrail() {
        return skip(
            "the_last_member_goes_on_alone",
            "a log that keeps what was acknowledged",
        );
    }
    let mut cluster = Cluster::start(3).await;
    let survivor = cluster.leader().await;
    let client = cluster.client(survivor).clone();
    for number in 0..100 {
        client.put(&format!("key/{number}"), "value").await;
    }
    let revision = client.put("last", "acknowledged").await;
    let (cluster_id, before) = members(&client, false).await;
    assert_eq!(before.len(), 3);
    let id = cluster.id(survivor);
    for other in cluster.others(survivor) {
        cluster.kill(other);
    }
    cluster.server_mut(survivor).kill();

    let server = cluster.server_mut(survivor);
    server.add_flag("--force-new-cluster");
    server.spawn();
    // Killed as soon as it is decided: nothing is left to be done then.
    wait_until("it goes on alone", || {
        server.log().contains("this member goes on alone")
    });
    server.kill();
    server.add_flag("--force-new-cluster=false");
    server.spawn();
    server.wait_until_ready();
    let client = server.client().await;
    let (same_cluster, after) = members(&client, true).await;
    assert_eq!(same_cluster, cluster_id);
    assert_eq!(after.iter().map(|member| member.id).collect::<Vec<_>>(), [id]);
    assert_eq!(client.range(get("last")).await.kvs[0].value, "acknowledged");
    assert_eq!(client.range(get_prefix("key/")).await.kvs.len(), 100);
    assert_eq!(client.put("new", "alone").await, revision + 1);

    // Again with the flag, and without it: nothing more happens.
    for flag in ["--force-new-cluster", "--force-new-cluster=false"] {
        let server = cluster.server_mut(survivor);
        server.kill();
        server.add_flag(flag);
        server.run();
        let client = server.client().await;
        assert_eq!(members(&client, true).await, (cluster_id, after.clone()));
        assert_eq!(client.revision().await, revision + 1);
    }

    // And from there it grows again.
    for _ in 0..2 {
        let place = cluster.grow(survivor, Server::prepared(&[]), false).await;
        let joined = cluster.client(place);
        assert_eq!(joined.range(get("last")).await.kvs[0].value, "acknowledged");
    }
    let client = cluster.client(survivor);
    let newest = client.put("new", "in company").await;
    let hash = client.hash_kv(newest).await.hash;
    for place in cluster.members().filter(|place| cluster.server(*place).runs()) {
        let member = cluster.client(place);
        assert_eq!(member.range(get("new")).await.kvs[0].value, "in company");
        assert_eq!(member.hash_kv(newest).await.hash, hash);
    }
}

#[tokio::test]
async fn a_new_folder_is_founded_as_ever() {
    let server = Server::start_with(&["--force-new-cluster"]);
    let client = server.client().await;
    assert_eq!(client.put("k", "v").await, 2);
    assert_eq!(members(&client, true).await.1.len(), 1);
}

//! Corner cases 53 to 55 of the compatibility reference, and the other rules of section 1.4: how members come, learn, are
//! promoted, move and go, and how each of these is refused.
#![allow(clippy::unwrap_used, reason = "a test that fails is to panic")]

use std::time::{Duration, Instant};

use crate::harness::*;
use proto::etcdserverpb::watch_request::RequestUnion;
use proto::etcdserverpb::{
    CompactionRequest, HashKvRequest, LeaseGrantRequest, Member, MemberAddRequest, MemberListRequest,
    MemberPromoteRequest, MemberRemoveRequest, MemberUpdateRequest, RangeRequest, SnapshotRequest,
};
use tonic::{Code, Status};

const BAD_URLS: (Code, &str) = (Code::InvalidArgument, "etcdserver: given member URLs are invalid");
const URL_EXISTS: (Code, &str) = (Code::FailedPrecondition, "etcdserver: Peer URLs already exists");
const NOT_FOUND: (Code, &str) = (Code::NotFound, "etcdserver: member not found");
const NOT_LEARNER: (Code, &str) = (
    Code::FailedPrecondition,
    "etcdserver: can only promote a learner member",
);
const TOO_MANY_LEARNERS: (Code, &str) = (
    Code::FailedPrecondition,
    "etcdserver: too many learner members in cluster",
);
const FOR_LEARNER: (Code, &str) = (
    Code::FailedPrecondition,
    "etcdserver: rpc not supported for learner",
);
const UNHEALTHY: (Code, &str) = (Code::Unavailable, "etcdserver: unhealthy cluster");
/// The right text with the wrong code: case 55.
const NOT_STARTED: (Code, &str) = (
    Code::Unknown,
    "etcdserver: re-configuration failed due to not enough started members",
);
const STEP: Duration = Duration::from_millis(50);
const GONE: &str = "the member has been permanently removed from the cluster";

/// A peer URL where nobody listens.
fn nowhere(port: u16) -> Vec<String> {
    vec![format!("http://127.0.0.1:{port}")]
}

async fn add(client: &Client, peer_urls: &[String], is_learner: bool) -> Result<Vec<Member>, Status> {
    let request = MemberAddRequest {
        peer_urls: peer_urls.to_vec(),
        is_learner,
    };
    let answer = client.cluster.clone().member_add(request).await?.into_inner();
    Ok(answer.members)
}

async fn update(client: &Client, id: u64, peer_urls: &[String]) -> Result<Vec<Member>, Status> {
    let request = MemberUpdateRequest {
        id,
        peer_urls: peer_urls.to_vec(),
    };
    let answer = client.cluster.clone().member_update(request).await?.into_inner();
    Ok(answer.members)
}

async fn remove(client: &Client, id: u64) -> Result<Vec<Member>, Status> {
    let request = MemberRemoveRequest { id };
    let answer = client.cluster.clone().member_remove(request).await?.into_inner();
    Ok(answer.members)
}

async fn promote(client: &Client, id: u64) -> Result<Vec<Member>, Status> {
    let request = MemberPromoteRequest { id };
    let answer = client.cluster.clone().member_promote(request).await?.into_inner();
    Ok(answer.members)
}

async fn list(client: &Client) -> Vec<Member> {
    let request = MemberListRequest { linearizable: true };
    let answer = client.cluster.clone().member_list(request).await;
    answer.unwrap().into_inner().members
}

#[track_caller]
fn assert_refused<T: std::fmt::Debug>(what: &str, result: Result<T, Status>, expected: (Code, &str)) {
    match result {
        Ok(answer) => panic!("{what}: {answer:?}"),
        Err(status) => assert_eq!((status.code(), status.message()), expected, "{what}"),
    }
}

/// Waits until the members have been connected for long enough that the cluster can be changed: until what cannot be
/// added is refused for what it is.
async fn settle(cluster: &Cluster, through: usize) {
    let own = cluster.server(through).peer_url();
    let start = Instant::now();
    loop {
        let status = add(cluster.client(through), std::slice::from_ref(&own), false).await;
        let status = status.expect_err("a URL in use");
        if (status.code(), status.message()) == URL_EXISTS {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "{status:?}");
        tokio::time::sleep(STEP).await;
    }
}

/// Why a promotion is refused, once the leader knows of its member.
async fn refused_promotion(client: &Client, id: u64) -> (Code, String) {
    let start = Instant::now();
    loop {
        let status = promote(client, id).await.expect_err("a promotion");
        if !status.message().ends_with("in sync with leader") || start.elapsed() > PATIENCE {
            return (status.code(), status.message().to_owned());
        }
        tokio::time::sleep(STEP).await;
    }
}

/// Waits until a member knows that it is a learner no more.
async fn wait_for_a_voice(client: &Client) {
    let start = Instant::now();
    while let Err(status) = client.try_put(put("voice", "v")).await {
        assert_eq!((status.code(), status.message()), FOR_LEARNER);
        assert!(start.elapsed() < PATIENCE, "still a learner");
        tokio::time::sleep(STEP).await;
    }
}

#[tokio::test]
async fn case_53_what_no_member_can_be_added_or_changed_to() {
    let cluster = Cluster::start(3).await;
    settle(&cluster, 0).await;
    let client = cluster.client(0);
    let bad: [&[&str]; 10] = [
        &[],
        &[""],
        &["12"],
        &["127.0.0.1:12"],
        &["ftp://127.0.0.1:12"],
        &["http://127.0.0.1"],
        &["http://127.0.0.1:12/"],
        &["http://127.0.0.1:12/path"],
        &["http://:12/path"],
        &["http://127.0.0.1:12", "nothing"],
    ];
    for urls in bad {
        let urls: Vec<String> = urls.iter().map(|&url| url.to_owned()).collect();
        assert_refused(&format!("{urls:?}"), add(client, &urls, false).await, BAD_URLS);
    }
    let own = cluster.server(0).peer_url();
    for is_learner in [false, true] {
        let added = add(client, std::slice::from_ref(&own), is_learner).await;
        assert_refused("a URL in use", added, URL_EXISTS);
        let added = add(client, &[nowhere(1).remove(0), own.clone()], is_learner).await;
        assert_refused("two URLs, one in use", added, URL_EXISTS);
    }
    assert_refused(
        "update of nobody",
        update(client, 12, &nowhere(1)).await,
        NOT_FOUND,
    );
    assert_refused("removal of nobody", remove(client, 12).await, NOT_FOUND);
    for member in cluster.members() {
        let asked = cluster.client(member);
        assert_refused("promotion of nobody", promote(asked, 12).await, NOT_FOUND);
        let promoted = promote(asked, cluster.id(1)).await;
        assert_refused("promotion of a voter", promoted, NOT_LEARNER);
    }
    let moved = update(client, cluster.id(1), &[own]).await;
    assert_refused("update to a URL in use", moved, URL_EXISTS);
    assert_eq!(list(client).await.len(), 3);
}

#[tokio::test]
async fn members_are_not_changed_before_they_are_settled() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let start = Instant::now();
    let added = add(cluster.client(leader), &nowhere(1), false).await;
    if start.elapsed().as_secs() < 3 {
        assert_refused("at once", added, UNHEALTHY);
    }
    settle(&cluster, leader).await;
    let follower = cluster.follower().await;
    cluster.kill(follower);
    // With two of three, a fourth could cost the quorum; one that is down may go.
    for is_learner in [false, true] {
        let added = add(cluster.client(leader), &nowhere(1), is_learner).await;
        assert_refused("a fourth", added, UNHEALTHY);
    }
    let other = cluster
        .others(leader)
        .into_iter()
        .find(|other| *other != follower);
    let removed = remove(cluster.client(leader), cluster.id(other.unwrap())).await;
    assert_refused("one of two", removed, UNHEALTHY);
    let left = remove(cluster.client(leader), cluster.id(follower))
        .await
        .unwrap();
    assert_eq!(left.len(), 2);

    // Started again, it learns that there is no way back.
    let before = cluster.server(follower).log().len();
    cluster.spawn(follower);
    cluster.server_mut(follower).wait_for_exit();
    let log = cluster.server(follower).log().split_off(before);
    assert!(log.contains(GONE), "{log}");
    assert!(
        log.contains("data-dir used by this member must be removed"),
        "{log}"
    );
    assert_refused(
        "removed before",
        remove(cluster.client(leader), cluster.id(follower)).await,
        NOT_FOUND,
    );
}

#[tokio::test]
async fn case_54_a_learner_serves_hardly_anything() {
    let mut cluster = Cluster::start(1).await;
    let founder = cluster.client(0).clone();
    founder.put("c54", "v").await;
    let learner = cluster.grow(0, Server::prepared(&[]), true).await;
    let client = cluster.client(learner).clone();
    let local = RangeRequest {
        serializable: true,
        ..get("c54")
    };
    assert_eq!(pairs(&client.range(local.clone()).await.kvs), ["c54=v"]);
    assert!(cluster.status(learner).await.unwrap().is_learner);
    assert!(!cluster.status(0).await.unwrap().is_learner);
    let mut snapshot = client.maintenance.clone();
    let mut snapshot = snapshot.snapshot(SnapshotRequest {}).await.unwrap().into_inner();
    assert!(snapshot.message().await.unwrap().is_some());

    refused_by_learner(&client).await;
    let address = cluster.server(learner).client_address();
    let put = Exchange::post(address, "/v3/kv/put", r#"{"key":"YQ==","value":"YQ=="}"#);
    assert_eq!(
        (put.status, put.body().trim_end()),
        (
            400,
            r#"{"code":9,"message":"etcdserver: rpc not supported for learner"}"#
        )
    );
    let health = http_get(address, "/health").unwrap();
    assert_eq!(
        (health.status, health.body.as_str()),
        (200, r#"{"health":"true","reason":""}"#)
    );
    let ready = http_get(address, "/readyz").unwrap();
    assert_eq!(ready.status, 503);
    assert!(
        ready
            .body
            .contains("[-]non_learner failed: not supported for learner")
    );
    let metrics = http_get(address, "/metrics").unwrap().body;
    assert!(metrics.contains("\netcd_server_is_learner 1\n"));

    let second = add(&founder, &nowhere(1), true).await;
    assert_refused("a second learner", second, TOO_MANY_LEARNERS);
    // The leadership cannot go to it.
    let request = proto::etcdserverpb::MoveLeaderRequest {
        target_id: cluster.id(learner),
    };
    let moved = founder.maintenance.clone().move_leader(request).await;
    assert_refused(
        "a learner to lead",
        moved,
        (Code::FailedPrecondition, "etcdserver: bad leader transferee"),
    );
    cluster.promote(0, learner).await;
    let (code, text) = refused_promotion(&founder, cluster.id(learner)).await;
    assert_eq!((code, text.as_str()), NOT_LEARNER, "again");
    wait_for_a_voice(&client).await;
    client.put("c54", "w").await;
    assert_eq!(pairs(&client.range(get("c54")).await.kvs), ["c54=w"]);
    assert!(list(&client).await.iter().all(|member| !member.is_learner));
    assert_eq!(http_get(address, "/readyz").unwrap().status, 200);
    let metrics = http_get(cluster.server(0).client_address(), "/metrics")
        .unwrap()
        .body;
    assert!(metrics.contains("\netcd_server_learner_promote_successes 1\n"));
}

async fn refused_by_learner(client: &Client) {
    let answer = client.try_put(put("c54", "w")).await;
    assert_refused("put", answer, FOR_LEARNER);
    assert_refused("range", client.try_range(get("c54")).await, FOR_LEARNER);
    let serializable = RangeRequest {
        serializable: true,
        ..get("c54")
    };
    let answer = client.try_txn(then(vec![op(serializable)])).await;
    assert_refused("txn", answer, FOR_LEARNER);
    let request = CompactionRequest {
        revision: 1,
        physical: false,
    };
    let answer = client.kv.clone().compact(request).await;
    assert_refused("compact", answer, FOR_LEARNER);
    let request = LeaseGrantRequest { ttl: 60, id: 0 };
    let answer = client.lease.clone().lease_grant(request).await;
    assert_refused("grant", answer, FOR_LEARNER);
    assert_refused("keepalive", client.try_keep_alive(1).await, FOR_LEARNER);
    let answer = client
        .maintenance
        .clone()
        .hash_kv(HashKvRequest { revision: 0 })
        .await;
    assert_refused("hashkv", answer, FOR_LEARNER);
    for linearizable in [false, true] {
        let request = MemberListRequest { linearizable };
        let answer = client.cluster.clone().member_list(request).await;
        assert_refused("member list", answer, FOR_LEARNER);
    }
    assert_refused("member add", add(client, &nowhere(1), false).await, FOR_LEARNER);
    assert_refused("member promote", promote(client, 1).await, FOR_LEARNER);
    let mut watch = WatchStream::open(client);
    watch.send(RequestUnion::CreateRequest(watch_key("c54")));
    let answer = watch.next_result().await.unwrap();
    assert_refused("watch", answer, FOR_LEARNER);
}

#[tokio::test]
async fn case_55_members_that_never_start_are_not_added_for_ever() {
    let cluster = Cluster::start(3).await;
    settle(&cluster, 1).await;
    let client = cluster.client(1);
    for (port, members) in [(1, 4), (2, 5)] {
        assert_eq!(add(client, &nowhere(port), false).await.unwrap().len(), members);
    }
    assert_refused("a third", add(client, &nowhere(3), false).await, NOT_STARTED);
    client.put("c55", "v").await;
    let unstarted: Vec<u64> = list(client)
        .await
        .into_iter()
        .filter(|member| member.name.is_empty() && member.client_urls.is_empty())
        .map(|member| member.id)
        .collect();
    assert_eq!(unstarted.len(), 2);
    for (number, id) in unstarted.into_iter().enumerate() {
        assert_eq!(remove(client, id).await.unwrap().len(), 4 - number);
    }
    client.put("c55", "w").await;
}

#[tokio::test]
async fn a_promotion_goes_by_way_of_the_leader() {
    let mut cluster = Cluster::start(2).await;
    let leader = cluster.leader().await;
    let follower = cluster.others(leader)[0];
    let learner = cluster.grow(follower, Server::prepared(&[]), true).await;
    let by_http = |cluster: &Cluster, member: usize, what: &str| {
        let address = cluster.server(member).peer_address();
        let answer = Exchange::post(address, &format!("/members/promote/{what}"), "");
        let headers = (
            answer.header("content-type").to_owned(),
            answer.header("x-etcd-cluster-id").len(),
        );
        (answer.status, headers, answer.body())
    };
    for asked in [leader, follower] {
        let (status, (_, id), body) = by_http(&cluster, asked, "12");
        assert_eq!((status, body.as_str()), (404, "membership: ID not found\n"));
        assert!(id > 0);
        let (status, _, body) = by_http(&cluster, asked, "zz");
        assert_eq!((status, body.as_str()), (404, "member zz not found in cluster\n"));
        let (status, _, body) = by_http(&cluster, asked, &cluster.id(leader).to_string());
        assert_eq!(
            (status, body.as_str()),
            (412, "membership: can only promote a learner member\n")
        );
    }
    let page = Exchange::get(cluster.server(leader).peer_address(), "/members/promote/12");
    assert_eq!((page.status, page.header("allow")), (405, "POST"));

    // A follower's clients need not know who leads; nor need its peers.
    cluster.promote(follower, learner).await;
    let another = cluster.grow(follower, Server::prepared(&[]), true).await;
    let id = cluster.id(another);
    let start = Instant::now();
    let body = loop {
        let (status, (content_type, _), body) = by_http(&cluster, follower, &id.to_string());
        if status == 200 {
            assert_eq!(content_type, "application/json");
            break body;
        }
        assert!(status == 412 && start.elapsed() < PATIENCE, "{status} {body}");
    };
    let members: serde_json::Value = serde_json::from_str(&body).unwrap();
    let ids: Vec<u64> = members
        .as_array()
        .unwrap()
        .iter()
        .map(|member| member["id"].as_u64().unwrap())
        .collect();
    assert!(ids.is_sorted() && ids.len() == 4 && ids.contains(&id), "{body}");
    assert!(!body.contains("isLearner\":true"), "{body}");
    let promoted = cluster.client(another).clone();
    wait_for_a_voice(&promoted).await;
}

#[tokio::test]
async fn members_with_tls_ask_their_leader_too() {
    let cluster = Cluster::start_with_peer_tls(2, &["--peer-auto-tls"]).await;
    for member in cluster.members() {
        let client = cluster.client(member);
        assert_refused("promotion of nobody", promote(client, 12).await, NOT_FOUND);
        let promoted = promote(client, cluster.id(member)).await;
        assert_refused("promotion of a voter", promoted, NOT_LEARNER);
    }
}

#[tokio::test]
async fn a_learner_is_promoted_without_being_asked_where_that_is_wanted() {
    if !runs_taffrail() {
        return; // etcd waits to be asked
    }
    let mut cluster = Cluster::start_with(1, &["--learner-auto-promote"]).await;
    cluster.client(0).put("before", "v").await;
    let learner = cluster.grow(0, Server::prepared(&[]), true).await;
    let client = cluster.client(learner).clone();
    wait_for_a_voice(&client).await;
    assert!(list(&client).await.iter().all(|member| !member.is_learner));
    assert_eq!(pairs(&client.range(get("before")).await.kvs), ["before=v"]);
}

#[tokio::test]
async fn a_removed_member_stops_and_stays_out() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    settle(&cluster, leader).await;
    // The leader goes first; then whoever follows it.
    let through = cluster.others(leader)[0];
    let (mut gone, status) = cluster.shrink(through, leader).await;
    assert!(status.success(), "{status}");
    for line in [GONE, "data-dir used by this member must be removed"] {
        assert!(gone.log().contains(line), "{line} is not in:\n{}", gone.log());
    }
    let next = cluster.leader().await;
    cluster.client(next).put("a", "1").await;
    assert_eq!(list(cluster.client(next)).await.len(), 2);

    let before = gone.log().len();
    gone.spawn();
    gone.wait_for_exit();
    let log = gone.log().split_off(before);
    assert!(log.contains(GONE), "{log}");
    cluster.client(next).put("a", "2").await;
}

#[tokio::test]
async fn a_member_moves_to_another_url() {
    let mut cluster = Cluster::start(3).await;
    let away = cluster.follower().await;
    let client = cluster.client(cluster.others(away)[0]).clone();
    cluster.kill(away);
    let ports = Ports::reserve();
    let url = format!("http://127.0.0.1:{}", ports.peer);
    let members = update(&client, cluster.id(away), std::slice::from_ref(&url)).await;
    let of = |members: &[Member], id: u64| members.iter().find(|member| member.id == id).cloned();
    let moved = of(&members.unwrap(), cluster.id(away)).unwrap();
    assert_eq!(
        (moved.peer_urls, moved.name),
        (vec![url.clone()], format!("m{away}"))
    );
    cluster
        .server_mut(away)
        .add_flag(&format!("--listen-peer-urls={url}"));
    cluster.run(away);
    client.put("moved", "1").await;
    assert_eq!(
        pairs(&cluster.client(away).range(get("moved")).await.kvs),
        ["moved=1"]
    );
    // The one that moved makes the quorum.
    let third = *cluster
        .others(away)
        .iter()
        .find(|other| **other != cluster.others(away)[0])
        .unwrap();
    cluster.kill(third);
    cluster.leader().await;
    client.put("moved", "2").await;
}

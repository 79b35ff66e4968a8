//! The service v3electionpb.Election, against etcd's behaviour to the letter of its errors.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::{Duration, Instant};

use crate::harness::*;
use proto::etcdserverpb::PutRequest;
use proto::v3electionpb::election_client::ElectionClient;
use proto::v3electionpb::{
    CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, LeaderResponse, ProclaimRequest,
    ResignRequest,
};
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};

#[tokio::test]
async fn the_first_to_stand_leads() {
    let server = Server::shared();
    let (client, elections) = clients(&server).await;
    assert_status(
        elections.leader("first").await,
        Code::Unknown,
        "election: no leader",
    );
    let won = elections.campaign("first", 0, "v").await.unwrap();
    let leader = won.leader.unwrap();
    assert_eq!(text(&leader.name), "first");
    assert_eq!(text(&leader.key), format!("first/{:x}", leader.lease));
    assert_eq!(leader.rev, header_revision(&won.header));
    assert_eq!(client.time_to_live(leader.lease).await.granted_ttl, 60);

    let seen = elections.leader("first").await.unwrap();
    let kv = seen.kv.unwrap();
    assert_eq!((kv.key, text(&kv.value).as_str()), (leader.key.clone(), "v"));
    assert_eq!((kv.create_revision, kv.lease), (leader.rev, leader.lease));

    let proclaimed = elections.proclaim(Some(leader.clone()), "w").await.unwrap();
    let kv = elections.leader("first").await.unwrap().kv.unwrap();
    assert_eq!((text(&kv.value).as_str(), kv.version), ("w", 2));
    assert_eq!((kv.mod_revision, kv.lease), (proclaimed, leader.lease));

    let resigned = elections.resign(Some(leader.clone())).await.unwrap();
    assert!(resigned > proclaimed);
    assert_status(
        elections.leader("first").await,
        Code::Unknown,
        "election: no leader",
    );
    let late = elections.proclaim(Some(leader.clone()), "x").await;
    assert_status(late, Code::Unknown, "election: not leader");
    // Nobody minds a second time.
    elections.resign(Some(leader)).await.unwrap();
}

#[tokio::test]
async fn standing_again_changes_the_value_in_place() {
    let server = Server::shared();
    let (client, elections) = clients(&server).await;
    let lease = client.grant(100).await;
    let first = elections.campaign("again", lease, "one").await.unwrap();
    let same = elections.campaign("again", lease, "one").await.unwrap();
    assert_eq!(same.leader, first.leader);
    let kv = elections.leader("again").await.unwrap().kv.unwrap();
    assert_eq!(kv.version, 1);

    let other = elections.campaign("again", lease, "two").await.unwrap();
    assert_eq!(other.leader, first.leader);
    let kv = elections.leader("again").await.unwrap().kv.unwrap();
    assert_eq!((text(&kv.value).as_str(), kv.version), ("two", 2));
    // The header tells of the campaign's beginning, before the change.
    assert!(header_revision(&other.header) < kv.mod_revision);
    assert_eq!(kv.create_revision, first.leader.unwrap().rev);
}

#[tokio::test]
async fn a_resignation_lets_the_next_lead() {
    let server = Server::shared();
    let (client, elections) = clients(&server).await;
    let leader = elections.campaign("next", 0, "a").await.unwrap().leader.unwrap();
    let lease = client.grant(100).await;
    let second = elections.start("next", lease, "b");
    wait_for_keys(&client, "next/", 2).await;
    let third = elections.start("next", client.grant(100).await, "c");
    wait_for_keys(&client, "next/", 3).await;
    let resigned = elections.resign(Some(leader)).await.unwrap();
    let won = done(second).await.unwrap();
    // The header tells of the campaign's beginning.
    assert!(header_revision(&won.header) < resigned);
    assert_eq!(won.leader.unwrap().rev, header_revision(&won.header));
    let kv = elections.leader("next").await.unwrap().kv.unwrap();
    assert_eq!((text(&kv.value).as_str(), kv.lease), ("b", lease));
    assert!(!third.is_finished());
    client.revoke(lease).await.unwrap();
    done(third).await.unwrap();
}

#[tokio::test]
async fn a_candidate_may_change_its_value_while_it_waits() {
    let server = Server::shared();
    let (client, elections) = clients(&server).await;
    let leader = elections
        .campaign("change", 0, "a")
        .await
        .unwrap()
        .leader
        .unwrap();
    let lease = client.grant(100).await;
    let first = elections.start("change", lease, "b");
    wait_for_keys(&client, "change/", 2).await;
    let second = elections.start("change", lease, "c");
    let key = format!("change/{lease:x}");
    wait_for(&client, &key, |value| value == Some("c")).await;
    elections.resign(Some(leader)).await.unwrap();
    let (first, second) = (done(first).await.unwrap(), done(second).await.unwrap());
    assert_eq!(first.leader, second.leader);
}

#[tokio::test]
async fn a_candidate_that_leaves_takes_its_key_along() {
    let server = Server::shared();
    let (client, elections) = clients(&server).await;
    let leader = elections.campaign("leave", 0, "a").await.unwrap().leader.unwrap();
    let lease = client.grant(100).await;
    let waiting = elections.start("leave", lease, "b");
    wait_for_keys(&client, "leave/", 2).await;
    waiting.abort();
    wait_for_keys(&client, "leave/", 1).await;
    assert_eq!(
        elections.leader("leave").await.unwrap().kv.unwrap().key,
        leader.key
    );
    assert_eq!(
        client.time_to_live(lease).await.granted_ttl,
        100,
        "the lease stays"
    );
}

/// etcd's election, unlike its lock, does not look whether the candidate's own key is still there.
#[tokio::test]
async fn a_candidate_without_lease_wins_all_the_same() {
    let server = Server::shared();
    let (client, elections) = clients(&server).await;
    let leader = elections.campaign("lost", 0, "a").await.unwrap().leader.unwrap();
    let lease = client.grant(100).await;
    let waiting = elections.start("lost", lease, "b");
    wait_for_keys(&client, "lost/", 2).await;
    client.revoke(lease).await.unwrap();
    wait_for_keys(&client, "lost/", 1).await;
    elections.resign(Some(leader)).await.unwrap();
    let won = done(waiting).await.unwrap().leader.unwrap();
    assert_eq!(won.lease, lease);
    assert_status(
        elections.leader("lost").await,
        Code::Unknown,
        "election: no leader",
    );
    let refused = elections.proclaim(Some(won), "c").await;
    assert_status(refused, Code::Unknown, "election: not leader");
}

#[tokio::test]
async fn errors_have_etcds_texts_and_no_codes() {
    let server = Server::shared();
    let (client, elections) = clients(&server).await;
    let missing = "\"leader\" field must be provided";
    assert_status(elections.proclaim(None, "v").await, Code::Unknown, missing);
    assert_status(elections.resign(None).await, Code::Unknown, missing);
    let keyless = "etcdserver: key is not provided";
    let nobody = || Some(LeaderKey::default());
    assert_status(elections.proclaim(nobody(), "v").await, Code::Unknown, keyless);
    assert_status(elections.resign(nobody()).await, Code::Unknown, keyless);
    let unknown = elections.campaign("refused", 480_003, "v").await;
    assert_status(unknown, Code::Unknown, "etcdserver: requested lease not found");
    let leader = elections
        .campaign("refused", 0, "v")
        .await
        .unwrap()
        .leader
        .unwrap();
    for forged in [
        LeaderKey {
            rev: leader.rev - 1,
            ..leader.clone()
        },
        LeaderKey {
            key: bytes("refused/0"),
            ..leader.clone()
        },
    ] {
        let refused = elections.proclaim(Some(forged.clone()), "w").await;
        assert_status(refused, Code::Unknown, "election: not leader");
        elections.resign(Some(forged)).await.unwrap();
    }
    let leaseless = LeaderKey {
        lease: 480_003,
        ..leader.clone()
    };
    let refused = elections.proclaim(Some(leaseless), "w").await;
    assert_status(refused, Code::Unknown, "etcdserver: requested lease not found");
    let kv = client.range(get(&text(&leader.key))).await.kvs.remove(0);
    assert_eq!((kv.version, text(&kv.value).as_str()), (1, "v"));
}

#[tokio::test]
async fn a_proclamation_without_lease_gets_a_new_one() {
    let server = Server::shared();
    let (client, elections) = clients(&server).await;
    let leader = elections
        .campaign("rebound", 0, "v")
        .await
        .unwrap()
        .leader
        .unwrap();
    let unbound = LeaderKey {
        lease: 0,
        ..leader.clone()
    };
    elections.proclaim(Some(unbound), "w").await.unwrap();
    let kv = elections.leader("rebound").await.unwrap().kv.unwrap();
    assert!(kv.lease != 0 && kv.lease != leader.lease);
    assert_eq!(client.time_to_live(kv.lease).await.granted_ttl, 60);
}

#[tokio::test]
async fn an_observer_sees_the_leader_then_each_change() {
    let server = Server::shared();
    let (client, elections) = clients(&server).await;
    let leader = elections.campaign("seen", 0, "a").await.unwrap().leader.unwrap();
    let current = client.put("a later revision", "").await;
    let mut seen = elections.observe("seen").await;
    let first = next(&mut seen).await;
    assert!(header_revision(&first.header) >= current);
    assert_eq!(value(&first), "a");
    for name in ["b", "c"] {
        let revision = elections.proclaim(Some(leader.clone()), name).await.unwrap();
        let change = next(&mut seen).await;
        assert_eq!(value(&change), name);
        assert!(header_revision(&change.header) >= revision);
        assert_eq!(change.kv.unwrap().mod_revision, revision);
    }
    // A candidate is not seen before it leads.
    let lease = client.grant(100).await;
    let waiting = elections.start("seen", lease, "d");
    wait_for_keys(&client, "seen/", 2).await;
    elections.proclaim(Some(leader.clone()), "e").await.unwrap();
    assert_eq!(value(&next(&mut seen).await), "e");
    elections.resign(Some(leader)).await.unwrap();
    done(waiting).await.unwrap();
    let next_leader = next(&mut seen).await;
    assert_eq!(
        (value(&next_leader).as_str(), next_leader.kv.unwrap().lease),
        ("d", lease)
    );

    // Without leader it is silent and stays open.
    client.revoke(lease).await.unwrap();
    let won = elections.campaign("seen", 0, "f").await.unwrap();
    let seen_again = next(&mut seen).await;
    assert_eq!(value(&seen_again), "f");
    assert!(header_revision(&seen_again.header) >= header_revision(&won.header));
}

#[tokio::test]
async fn an_observer_may_come_before_the_first_leader() {
    let server = Server::shared();
    let (client, elections) = clients(&server).await;
    // A server may send its headers only with the first answer.
    let observing = tokio::spawn({
        let elections = elections.clone();
        async move {
            let mut seen = elections.observe("early").await;
            (next(&mut seen).await, seen)
        }
    });
    // No call tells that the observer has begun, and it need not have: it sees the leader either way.
    let leader = elections.campaign("early", 0, "a").await.unwrap().leader.unwrap();
    let (first, mut seen) = done(observing).await;
    let kv = first.kv.as_ref().unwrap();
    assert_eq!((kv.create_revision, value(&first).as_str()), (leader.rev, "a"));
    assert!(header_revision(&first.header) >= leader.rev);
    client
        .put_with(PutRequest {
            lease: leader.lease,
            ..put(&text(&leader.key), "put by hand")
        })
        .await;
    assert_eq!(value(&next(&mut seen).await), "put by hand");
}

#[tokio::test]
async fn an_observer_of_nobody_hears_of_a_stop() {
    let mut server = Server::start();
    let (_, elections) = clients(&server).await;
    let request = LeaderRequest {
        name: bytes("nobody"),
    };
    let mut observer = elections.0.clone();
    // A server may send its headers only with the first answer.
    let mut observing = Box::pin(async { observer.observe(request).await?.into_inner().message().await });
    assert!(
        tokio::time::timeout(Duration::from_millis(50), &mut observing)
            .await
            .is_err(),
        "silent while nobody leads"
    );
    let stopping = std::thread::spawn(move || server.terminate());
    let end = tokio::time::timeout(PATIENCE, observing).await.unwrap();
    assert!(!matches!(end, Ok(Some(_))), "{end:?}");
    let (_, took) = stopping.join().unwrap();
    assert!(took < PATIENCE);
}

#[tokio::test]
async fn members_share_their_elections() {
    let mut cluster = Cluster::start(3).await;
    let leading_member = cluster.leader().await;
    let [one, other] = cluster.others(leading_member)[..] else {
        panic!("three members");
    };
    let at_one = Elections::of(&cluster.server(one).endpoint()).await;
    let at_other = Elections::of(&cluster.server(other).endpoint()).await;
    let leader = at_one.campaign("shared", 0, "a").await.unwrap().leader.unwrap();
    let mut seen = at_other.observe("shared").await;
    assert_eq!(value(&next(&mut seen).await), "a");
    let waiting = at_other.start("shared", cluster.client(other).grant(100).await, "b");
    wait_for_keys(cluster.client(one), "shared/", 2).await;
    let address = cluster.server(other).client_address();
    wait_until("the observer and the candidate watch", || {
        http_get(address, "/metrics")
            .is_some_and(|page| page.body.contains("\netcd_debugging_mvcc_watcher_total 2\n"))
    });
    // The cluster's own leader goes: calls that wait elsewhere go on waiting. (One that reads meanwhile would fail.)
    cluster.kill(leading_member);
    cluster.leader().await;
    at_one.resign(Some(leader)).await.unwrap();
    done(waiting).await.unwrap();
    assert_eq!(value(&next(&mut seen).await), "b");
}

/// The election service of one server.
#[derive(Clone)]
struct Elections(ElectionClient<Channel>);

impl Elections {
    async fn of(endpoint: &str) -> Elections {
        let channel = Endpoint::from_shared(endpoint.to_owned()).unwrap();
        Elections(ElectionClient::new(channel.connect().await.unwrap()))
    }

    async fn campaign(&self, name: &str, lease: i64, value: &str) -> Result<CampaignResponse, Status> {
        let request = CampaignRequest {
            name: bytes(name),
            lease,
            value: bytes(value),
        };
        let response = self.0.clone().campaign(request).await?;
        Ok(response.into_inner())
    }

    /// A campaign that goes on by itself.
    fn start(
        &self,
        name: &'static str,
        lease: i64,
        value: &'static str,
    ) -> JoinHandle<Result<CampaignResponse, Status>> {
        let elections = self.clone();
        tokio::spawn(async move { elections.campaign(name, lease, value).await })
    }

    /// Returns the revision of the answer.
    async fn proclaim(&self, leader: Option<LeaderKey>, value: &str) -> Result<i64, Status> {
        let request = ProclaimRequest {
            leader,
            value: bytes(value),
        };
        let response = self.0.clone().proclaim(request).await?;
        Ok(header_revision(&response.into_inner().header))
    }

    /// Returns the revision of the answer.
    async fn resign(&self, leader: Option<LeaderKey>) -> Result<i64, Status> {
        let response = self.0.clone().resign(ResignRequest { leader }).await?;
        Ok(header_revision(&response.into_inner().header))
    }

    async fn leader(&self, name: &str) -> Result<LeaderResponse, Status> {
        let request = LeaderRequest { name: bytes(name) };
        Ok(self.0.clone().leader(request).await?.into_inner())
    }

    async fn observe(&self, name: &str) -> Streaming<LeaderResponse> {
        let request = LeaderRequest { name: bytes(name) };
        self.0.clone().observe(request).await.unwrap().into_inner()
    }
}

async fn clients(server: &Server) -> (Client, Elections) {
    (server.client().await, Elections::of(&server.endpoint()).await)
}

async fn next(seen: &mut Streaming<LeaderResponse>) -> LeaderResponse {
    tokio::time::timeout(PATIENCE, seen.message())
        .await
        .expect("an answer of the stream")
        .unwrap()
        .expect("the stream is open")
}

fn value(seen: &LeaderResponse) -> String {
    text(&seen.kv.as_ref().expect("a leader has a key").value)
}

async fn wait_for_keys(client: &Client, prefix: &str, count: i64) {
    let start = Instant::now();
    while client.range(get_prefix(prefix)).await.count != count {
        assert!(start.elapsed() < PATIENCE, "not {count} keys of {prefix}");
        tokio::time::sleep(STEP).await;
    }
}

async fn wait_for(client: &Client, key: &str, holds: impl Fn(Option<&str>) -> bool) {
    let start = Instant::now();
    loop {
        let found = client.range(get(key)).await;
        let value = found.kvs.first().map(|kv| text(&kv.value));
        if holds(value.as_deref()) {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "{key} has {value:?}");
        tokio::time::sleep(STEP).await;
    }
}

async fn done<T>(call: JoinHandle<T>) -> T {
    tokio::time::timeout(PATIENCE, call)
        .await
        .expect("the call ends")
        .expect("the call was not given up")
}

const STEP: Duration = Duration::from_millis(5);

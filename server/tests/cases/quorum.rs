//! Corner cases 30, 49, 51, 56, 62 and 77 of the compatibility reference: leases across leaders, what works without a
//! quorum and how the rest fails, equal hashes. (Case 54 is about learners: `cases_members`.)
#![allow(clippy::unwrap_used, reason = "a test that fails is to panic")]

use std::fmt::Debug;
use std::ops::Range;
use std::time::{Duration, Instant};

use crate::harness::*;
use proto::etcdserverpb::alarm_request::AlarmAction;
use proto::etcdserverpb::{
    AlarmRequest, CompactionRequest, DefragmentRequest, LeaseGrantRequest, LeaseKeepAliveRequest,
    LeaseLeasesRequest, LeaseTimeToLiveRequest, MemberAddRequest, MemberListRequest, PutRequest,
    RangeRequest, StatusRequest, WatchCreateRequest,
};
use tokio::task::JoinSet;
use tonic::{Code, Status};

const NO_LEADER: &str = "etcdserver: no leader";
const TIMEOUT: &str = "etcdserver: request timed out";
/// How a proposal ends on a member that knows no leader.
const GIVEN_UP: (Code, &str) = (Code::DeadlineExceeded, "context deadline exceeded");
/// A call that needs no quorum, on a busy machine.
const AT_ONCE: Range<f64> = 0.0..2.0;
/// The server's own limit of 7 s.
const LIMIT: Range<f64> = 6.5..9.0;
/// A linearizable read may have to wait for one round that fails before its own begins.
const READ_LIMIT: Range<f64> = 6.5..16.0;

#[tokio::test]
async fn case_49_leader_change_never_expires_a_lease_early() {
    let ttl = Duration::from_secs(4);
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let survivors = cluster.others(leader);
    let client = cluster.client(survivors[0]).clone();
    let granted = Instant::now();
    let (left, kept) = (client.grant(4).await, client.grant(4).await);
    for (key, lease) in [("c49/left", left), ("c49/kept", kept)] {
        client
            .put_with(PutRequest {
                lease,
                ..put(key, "v")
            })
            .await;
    }
    let (mut watch, _) = WatchStream::with(&client, watch_prefix("c49/")).await;
    let renewing = tokio::spawn(renew(cluster.client(survivors[1]).clone(), kept));
    tokio::time::sleep(ttl / 2).await;
    cluster.kill(leader);
    cluster.leader().await;
    // The new leader gives every lease its full time and the election timeout on top, so it outlives the old end.
    tokio::time::sleep((granted + ttl).saturating_duration_since(Instant::now())).await;
    assert_eq!(client.range(get_prefix("c49/")).await.count, 2);
    let life = client.time_to_live(left).await;
    assert!(
        (0..=5).contains(&life.ttl) && life.granted_ttl == 4,
        "{life:?} of 4 s"
    );
    let ended = watch.next().await;
    let lived = granted.elapsed();
    assert_eq!(showed(&ended.events), ["DELETE c49/left"]);
    assert!(
        lived >= ttl + Duration::from_secs(1) && lived < 4 * ttl,
        "ended {lived:?} after its grant"
    );
    assert_eq!(client.time_to_live(left).await.ttl, -1);
    assert!(!renewing.is_finished(), "the renewing has ended");
    assert_eq!(client.time_to_live(kept).await.keys, ["c49/kept"]);
    renewing.abort();
    assert_eq!(showed(&watch.next().await.events), ["DELETE c49/kept"]);
}

#[tokio::test]
async fn case_49_a_leader_that_slept_revokes_and_renews_nothing() {
    let mut cluster = Cluster::start(3).await;
    let sleeper = cluster.leader().await;
    let survivors = cluster.others(sleeper);
    let client = cluster.client(survivors[0]).clone();
    let (left, kept) = (client.grant(3).await, client.grant(3).await);
    for (key, lease) in [("c49/left", left), ("c49/kept", kept)] {
        client
            .put_with(PutRequest {
                lease,
                ..put(key, "v")
            })
            .await;
    }
    // Its connection exists before the sleep.
    let old = cluster.client(sleeper).clone();
    assert_eq!(old.keep_alive(left).await.ttl, 3);
    let (mut watch, _) = WatchStream::with(&client, watch_prefix("c49/")).await;
    let renewing = tokio::spawn(renew(cluster.client(survivors[1]).clone(), kept));
    cluster.server(sleeper).suspend();
    let asked = tokio::spawn(async move { old.try_keep_alive(left).await });
    assert_eq!(showed(&watch.next().await.events), ["DELETE c49/left"]);
    assert!(!asked.is_finished(), "a suspended process has answered");
    cluster.server(sleeper).resume();
    // By the sleeper's own clock both leases ended long ago; it must find out first that it does not lead any more.
    if let Ok(answer) = asked.await.unwrap() {
        assert_eq!(answer.ttl, 0, "a lease that had ended is renewed");
    }
    cluster.server_mut(sleeper).wait_until_ready();
    let awake = Instant::now();
    while awake.elapsed() < Duration::from_secs(4) {
        assert_eq!(client.range(get_prefix("c49/")).await.count, 1);
        assert!(!renewing.is_finished(), "the renewing has ended");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let life = cluster.client(sleeper).time_to_live(kept).await;
    assert!(life.ttl >= 1 && life.keys == ["c49/kept"], "{life:?}");
    renewing.abort();
    assert_eq!(showed(&watch.next().await.events), ["DELETE c49/kept"]);
}

/// Renews until the lease is gone. While there is no leader the call fails, and is made again.
async fn renew(client: Client, lease: i64) {
    loop {
        let renewal = tokio::time::timeout(Duration::from_millis(800), client.try_keep_alive(lease)).await;
        if let Ok(Ok(answer)) = renewal {
            assert_eq!(
                answer.ttl > 0,
                answer.id == lease && answer.ttl >= 3,
                "{answer:?}"
            );
            if answer.ttl == 0 {
                return;
            }
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn case_51_keepalive_on_a_follower_renews_on_the_leader() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let followers = cluster.others(leader);
    let (first, second) = (cluster.client(followers[0]), cluster.client(followers[1]));
    let lease = first.grant(3).await;
    first
        .put_with(PutRequest {
            lease,
            ..put("c51", "v")
        })
        .await;
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(7) {
        for client in [first, second] {
            let answer = client.keep_alive(lease).await;
            assert_eq!((answer.id, answer.ttl), (lease, 3));
            assert!(header_revision(&answer.header) >= 1, "{answer:?}");
        }
        let life = cluster.client(leader).time_to_live(lease).await;
        assert_eq!((life.granted_ttl, life.keys.len()), (3, 1));
        assert!(life.ttl >= 1, "{} s remain on the leader", life.ttl);
        let seen = second.time_to_live(lease).await;
        assert!((1..=3).contains(&seen.ttl), "{} s remain by a follower", seen.ttl);
        assert_eq!(seen.keys, ["c51"]);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    // What a follower forwards has the same answers as on the leader.
    let unknown = second.keep_alive(4_711).await;
    assert_eq!((unknown.id, unknown.ttl), (4_711, 0));
    let unknown = second.time_to_live(4_711).await;
    assert_eq!((unknown.id, unknown.ttl, unknown.granted_ttl), (4_711, -1, 0));
    assert_eq!(second.revoke(lease).await.unwrap(), 3);
    assert_eq!(first.keep_alive(lease).await.ttl, 0);
    assert_eq!(first.range(get("c51")).await.count, 0);
    assert_status(
        first.revoke(lease).await,
        Code::NotFound,
        "etcdserver: requested lease not found",
    );
}

#[tokio::test]
async fn lease_of_a_follower_ends_in_time() {
    let cluster = Cluster::start(3).await;
    let follower = cluster.follower().await;
    let client = cluster.client(follower);
    let granted = Instant::now();
    let lease = client.grant(2).await;
    client
        .put_with(PutRequest {
            lease,
            ..put("end", "v")
        })
        .await;
    let mut streams = Vec::new();
    for member in cluster.members() {
        streams.push(
            WatchStream::with(cluster.client(member), watch_key("end"))
                .await
                .0,
        );
    }
    let mut revisions = Vec::new();
    for mut stream in streams {
        let mut event = stream.events(1).await;
        // A member that is behind may still show the put.
        if showed(&event) == ["PUT end=v"] {
            event = stream.events(1).await;
        }
        assert_eq!(showed(&event), ["DELETE end"]);
        revisions.push(event[0].kv.as_ref().unwrap().mod_revision);
    }
    let lived = granted.elapsed();
    assert_eq!(revisions, [3, 3, 3]);
    assert!(lived >= Duration::from_secs(2), "ended after {lived:?}");
    for member in cluster.members() {
        let life = cluster.client(member).time_to_live(lease).await;
        assert_eq!((life.ttl, life.granted_ttl), (-1, 0), "by m{member}");
    }
}

#[tokio::test]
async fn case_56_status_without_leader() {
    let mut cluster = Cluster::start(3).await;
    let survivor = cluster.follower().await;
    let with_leader = cluster.status(survivor).await.unwrap();
    assert_eq!(with_leader.errors, Vec::<String>::new());
    assert_ne!(with_leader.leader, 0);
    for other in cluster.others(survivor) {
        cluster.kill(other);
    }
    cluster
        .wait_for("no leader is known", |all| all.len() == 1 && all[0].leader == 0)
        .await;
    let status = cluster.status(survivor).await.unwrap();
    assert_eq!(status.errors, [NO_LEADER]);
    assert_eq!(status.header.as_ref().unwrap().member_id, cluster.id(survivor));
    assert!(status.raft_term >= with_leader.raft_term, "{status:?}");
    assert!(status.raft_index >= with_leader.raft_index, "{status:?}");
    cluster.run_all();
    cluster.leader().await;
    let status = cluster.status(survivor).await.unwrap();
    assert_eq!(status.errors, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_62_equal_hashes_while_one_compacts() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let writer = cluster.client(cluster.others(leader)[0]).clone();
    let value = "x".repeat(200);
    for round in 0..40 {
        let puts = (0..100).map(|key| op(put(&format!("c62/{key}"), &format!("{round} {value}"))));
        writer.txn(then(puts.collect())).await;
    }
    let current = writer.delete("c62/7").await;
    // A linearizable read brings a member up to date; a hash is of what the member has.
    for member in cluster.members() {
        assert_eq!(cluster.client(member).revision().await, current);
    }
    let mut compared = std::collections::BTreeSet::new();
    for compacted in [10, 25, 40] {
        // Not physical: the removal goes on while the hashes are taken.
        let request = CompactionRequest {
            revision: compacted,
            physical: false,
        };
        let compaction = tokio::spawn({
            let mut kv = cluster.client(leader).kv.clone();
            async move { kv.compact(request).await }
        });
        for _ in 0..5 {
            let mut asked = JoinSet::new();
            for member in cluster.members() {
                let client = cluster.client(member).clone();
                asked.spawn(async move { client.hash_kv(current).await });
            }
            let mut of_compacted = std::collections::BTreeMap::new();
            for answer in asked.join_all().await {
                assert_eq!(answer.hash_revision, current);
                let hash = *of_compacted.entry(answer.compact_revision).or_insert(answer.hash);
                assert_eq!(
                    hash, answer.hash,
                    "two hashes at {current}, compacted at {}",
                    answer.compact_revision
                );
                compared.insert((answer.compact_revision, hash));
            }
        }
        compaction.await.unwrap().unwrap();
    }
    for member in cluster.members() {
        // A member may be a moment behind with the last compaction.
        cluster.client(member).revision().await;
        let answer = cluster.client(member).hash_kv(0).await;
        assert_eq!((answer.compact_revision, answer.hash_revision), (40, current));
        compared.insert((40, answer.hash));
    }
    let points: std::collections::BTreeSet<i64> = compared.iter().map(|(compacted, _)| *compacted).collect();
    assert_eq!(
        points.len(),
        compared.len(),
        "one hash per compacted revision: {compared:?}"
    );
}

/// Three members of which one follower is left, which knows that there is no leader.
async fn left_alone() -> (Cluster, usize) {
    let mut cluster = Cluster::start(3).await;
    let survivor = cluster.follower().await;
    let client = cluster.client(survivor);
    let grant = LeaseGrantRequest { ttl: 600, id: 77 };
    client.lease.clone().lease_grant(grant).await.unwrap();
    for value in ["1", "2"] {
        client
            .put_with(PutRequest {
                lease: 77,
                ..put("c77", value)
            })
            .await;
    }
    for other in cluster.others(survivor) {
        cluster.kill(other);
    }
    cluster
        .wait_for("no leader is known", |all| all[0].leader == 0)
        .await;
    (cluster, survivor)
}

/// Makes a call and demands how it ends, and when, in seconds.
async fn ends<A: Debug>(
    what: &str,
    call: impl Future<Output = Result<A, Status>>,
    seconds: Range<f64>,
    (code, text): (Code, &str),
) {
    let start = Instant::now();
    let status = call.await.expect_err(what);
    let took = start.elapsed().as_secs_f64();
    assert_eq!((status.code(), status.message()), (code, text), "{what}");
    assert!(seconds.contains(&took), "{what}: after {took} s");
}

/// Makes a call that must succeed at once.
async fn works<A>(what: &str, call: impl Future<Output = Result<tonic::Response<A>, Status>>) -> A {
    let start = Instant::now();
    let answer = call.await.expect(what).into_inner();
    let took = start.elapsed().as_secs_f64();
    assert!(AT_ONCE.contains(&took), "{what}: after {took} s");
    answer
}

#[tokio::test]
async fn case_77_what_fails_without_leader() {
    let (cluster, survivor) = left_alone().await;
    let client = cluster.client(survivor).clone();
    // All at the same time: each takes as long as the slowest.
    tokio::join!(
        fail_to_read(&client),
        fail_to_write(&client),
        fail_to_change_leases(&client),
        works_meanwhile(&cluster, survivor),
        demanded_leader(&client),
    );
}

async fn fail_to_read(client: &Client) {
    let timeout = (Code::Unavailable, TIMEOUT);
    let no_leader = (Code::Unavailable, NO_LEADER);
    let mut members = client.cluster.clone();
    let mut leases = client.lease.clone();
    let list = MemberListRequest { linearizable: true };
    let life = LeaseTimeToLiveRequest { id: 77, keys: false };
    let txn = client.try_txn(then(vec![op(get("c77"))]));
    tokio::join!(
        ends("range", client.try_range(get("c77")), READ_LIMIT, timeout),
        ends("reading txn", txn, READ_LIMIT, timeout),
        ends("member list", members.member_list(list), READ_LIMIT, timeout),
        ends("timetolive", leases.lease_time_to_live(life), LIMIT, no_leader),
    );
}

async fn fail_to_write(client: &Client) {
    let mut kv = client.kv.clone();
    let mut history = client.kv.clone();
    let mut maintenance = client.maintenance.clone();
    let compaction = CompactionRequest {
        revision: 2,
        physical: false,
    };
    let alarms = AlarmRequest {
        action: AlarmAction::Get as i32,
        ..Default::default()
    };
    let txn = client.try_txn(then(vec![op(put("c77", "4"))]));
    tokio::join!(
        ends("put", client.try_put(put("c77", "3")), LIMIT, GIVEN_UP),
        ends("delete", kv.delete_range(delete("c77")), LIMIT, GIVEN_UP),
        ends("txn", txn, LIMIT, GIVEN_UP),
        ends("compaction", history.compact(compaction), LIMIT, GIVEN_UP),
        ends("alarms", maintenance.alarm(alarms), LIMIT, GIVEN_UP),
    );
}

async fn fail_to_change_leases(client: &Client) {
    let mut leases = client.lease.clone();
    let grant = LeaseGrantRequest { ttl: 9, id: 0 };
    let no_leader = (Code::Unavailable, NO_LEADER);
    tokio::join!(
        ends("grant", leases.lease_grant(grant), LIMIT, GIVEN_UP),
        ends("revoke", client.revoke(77), LIMIT, GIVEN_UP),
        ends("keepalive", client.try_keep_alive(77), LIMIT, no_leader),
    );
}

/// What needs neither leader nor quorum.
async fn works_meanwhile(cluster: &Cluster, survivor: usize) {
    let client = cluster.client(survivor);
    let local = RangeRequest {
        serializable: true,
        ..get("c77")
    };
    let answer = works("serializable range", client.kv.clone().range(local)).await;
    assert_eq!(pairs(&answer.kvs), ["c77=2"]);
    assert_eq!(header_revision(&answer.header), 3);
    let answer = works("txn without an op", client.kv.clone().txn(then(Vec::new()))).await;
    assert!(answer.succeeded, "case 30: {answer:?}");
    let list = MemberListRequest { linearizable: false };
    let answer = works("member list", client.cluster.clone().member_list(list)).await;
    assert_eq!(answer.members.len(), 3);
    let answer = works(
        "lease list",
        client.lease.clone().lease_leases(LeaseLeasesRequest {}),
    )
    .await;
    assert_eq!(answer.leases.len(), 1);
    assert_eq!(client.hash_kv(0).await.hash_revision, 3);
    let answer = works("status", client.maintenance.clone().status(StatusRequest {})).await;
    assert_eq!((answer.leader, answer.errors), (0, vec![NO_LEADER.to_owned()]));
    works(
        "defragment",
        client.maintenance.clone().defragment(DefragmentRequest {}),
    )
    .await;
    let request = WatchCreateRequest {
        start_revision: 2,
        ..watch_key("c77")
    };
    let (mut watch, _) = WatchStream::with(client, request).await;
    assert_eq!(showed(&watch.events(2).await), ["PUT c77=1", "PUT c77=2"]);

    let address = cluster.server(survivor).client_address();
    let asked = tokio::task::spawn_blocking(move || {
        (
            http_get(address, "/health"),
            http_get(address, "/health?serializable=true"),
        )
    });
    let (health, local) = asked.await.unwrap();
    let (health, local) = (health.unwrap(), local.unwrap());
    assert_eq!(
        (health.status, health.body.trim_end()),
        (503, r#"{"health":"false","reason":"RAFT NO LEADER"}"#)
    );
    assert_eq!((local.status, local.body.contains("true")), (200, true));

    let add = MemberAddRequest {
        peer_urls: vec!["http://127.0.0.1:1".to_owned()],
        is_learner: false,
    };
    let start = Instant::now();
    let refused = client
        .cluster
        .clone()
        .member_add(add)
        .await
        .expect_err("member add");
    let got = (refused.code(), refused.message());
    assert_eq!(got, (Code::Unavailable, "etcdserver: unhealthy cluster"));
    assert!(AT_ONCE.contains(&start.elapsed().as_secs_f64()), "member add");
}

/// What a client that insists on a leader is told.
async fn demanded_leader(client: &Client) {
    let no_leader = (Code::Unavailable, NO_LEADER);
    let mut kv = client.kv.clone();
    let local = RangeRequest {
        serializable: true,
        ..get("c77")
    };
    ends("range", kv.range(demand_leader(get("c77"))), AT_ONCE, no_leader).await;
    ends(
        "serializable range",
        kv.range(demand_leader(local)),
        AT_ONCE,
        no_leader,
    )
    .await;
    ends("put", kv.put(demand_leader(put("c77", "5"))), AT_ONCE, no_leader).await;
    let mut lease = client.lease.clone();
    let leases = lease.lease_leases(demand_leader(LeaseLeasesRequest {}));
    ends("lease list", leases, AT_ONCE, no_leader).await;
    let mut maintenance = client.maintenance.clone();
    let status = maintenance.status(demand_leader(StatusRequest {}));
    ends("status", status, AT_ONCE, no_leader).await;
    let requests = tokio_stream::iter([LeaseKeepAliveRequest { id: 77 }]);
    let keepalive = async {
        let answers = lease.lease_keep_alive(demand_leader(requests)).await?;
        answers.into_inner().message().await
    };
    ends("keepalive", keepalive, AT_ONCE, no_leader).await;
    let mut watch = WatchStream::open_as(client, with_leader_demand);
    watch.send(proto::etcdserverpb::watch_request::RequestUnion::CreateRequest(
        watch_key("c77"),
    ));
    let refused = async { watch.next_result().await.expect("an error, not an end") };
    ends("watch", refused, AT_ONCE, no_leader).await;
    // Any other value means nothing.
    let mut request = tonic::Request::new(StatusRequest {});
    request
        .metadata_mut()
        .insert("hasleader", "yes".parse().expect("a valid value"));
    works("status without the demand", maintenance.status(request)).await;
}

#[tokio::test]
async fn case_77_a_running_watch_is_ended_when_it_demands_a_leader() {
    let mut cluster = Cluster::start(3).await;
    let survivor = cluster.follower().await;
    let client = cluster.client(survivor).clone();
    let mut demanding = WatchStream::open_as(&client, with_leader_demand);
    demanding.create(watch_key("c77")).await;
    let (mut plain, _) = WatchStream::with(&client, watch_key("c77")).await;
    let (requests, outgoing) = tokio::sync::mpsc::channel(1);
    let outgoing = tokio_stream::wrappers::ReceiverStream::new(outgoing);
    let lease = client.grant(600).await;
    requests.send(LeaseKeepAliveRequest { id: lease }).await.unwrap();
    let mut leases = client.lease.clone();
    let mut renewals = leases
        .lease_keep_alive(demand_leader(outgoing))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(renewals.message().await.unwrap().unwrap().ttl, 600);
    client.put("c77", "1").await;
    assert_eq!(showed(&demanding.events(1).await), ["PUT c77=1"]);
    assert_eq!(showed(&plain.events(1).await), ["PUT c77=1"]);

    for other in cluster.others(survivor) {
        cluster.kill(other);
    }
    // One to two election timeouts until the loss is noticed, three until streams end for it, looked at once per
    // election timeout.
    let ended = async { demanding.next_result().await.expect("an error, not an end") };
    ends("watch", ended, 2.5..9.0, (Code::Unavailable, NO_LEADER)).await;
    let ended = renewals.message();
    ends("keepalive", ended, AT_ONCE, (Code::Unavailable, NO_LEADER)).await;
    // The other goes on, and sees what is written once there is a leader again.
    cluster.run_all();
    cluster.leader().await;
    client.put("c77", "2").await;
    assert_eq!(showed(&plain.events(1).await), ["PUT c77=2"]);
    let mut demanding = WatchStream::open_as(&client, with_leader_demand);
    demanding.create(watch_key("c77")).await;
}

#[tokio::test]
async fn case_77_a_leader_that_has_just_lost_its_quorum() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let client = cluster.client(leader).clone();
    client.put("c77", "1").await;
    for other in cluster.others(leader) {
        cluster.kill(other);
    }
    let timeout = (Code::Unavailable, TIMEOUT);
    tokio::join!(
        ends("put", client.try_put(put("c77", "2")), LIMIT, timeout),
        ends("range", client.try_range(get("c77")), READ_LIMIT, timeout),
    );
    // It gives up its part, so nobody takes it for a leader.
    cluster
        .wait_for("no leader is known", |all| all[0].leader == 0)
        .await;
}

#[tokio::test]
async fn case_77_a_member_that_has_not_noticed_yet() {
    let mut cluster = Cluster::start(3).await;
    let survivor = cluster.follower().await;
    let client = cluster.client(survivor).clone();
    client.put("c77", "1").await;
    for other in cluster.others(survivor) {
        cluster.kill(other);
    }
    let timeout = (Code::Unavailable, TIMEOUT);
    tokio::join!(
        ends("put", client.try_put(put("c77", "2")), LIMIT, timeout),
        ends("range", client.try_range(get("c77")), READ_LIMIT, timeout),
    );
}

//! Several members seen from outside: who answers with which ids, what a follower serves, how one that was away
//! catches up, how a leader leaves, and which members are refused.
#![allow(clippy::unwrap_used, reason = "a test that fails is to panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::harness::*;
use proto::etcdserverpb::{
    LeaseGrantRequest, MemberListRequest, MemberListResponse, PutRequest, RangeRequest, ResponseHeader,
    StatusRequest, WatchCreateRequest,
};
use proto::mvccpb::Event;
use tonic::{Code, Status};

/// So small that a follower which misses the writes of a test needs a snapshot.
const SNAPSHOT_SOON: [&str; 2] = ["--snapshot-count=50", "--snapshot-catchup-entries=10"];

#[tokio::test]
async fn case_83_every_member_answers_with_its_own_id() {
    let mut cluster = Cluster::start(3).await;
    let before = check_ids(&cluster).await;
    for member in cluster.members() {
        cluster.kill(member);
    }
    cluster.run_all();
    assert_eq!(check_ids(&cluster).await, before);
}

/// Checks the ids of every kind of answer; returns those of cluster and members.
async fn check_ids(cluster: &Cluster) -> (u64, Vec<u64>) {
    let mut clusters = BTreeSet::new();
    for member in cluster.members() {
        let client = cluster.client(member);
        let lease = client
            .lease
            .clone()
            .lease_grant(LeaseGrantRequest { ttl: 60, id: 0 })
            .await
            .unwrap()
            .into_inner();
        let request = WatchCreateRequest {
            start_revision: 1,
            ..watch_key("c83")
        };
        let headers = [
            client.put_with(put("c83", "v")).await.header,
            client.range(get("c83")).await.header,
            client.txn(then(vec![op(put("c83", "w"))])).await.header,
            client.delete_with(delete("c83")).await.header,
            client.keep_alive(lease.id).await.header,
            client.time_to_live(lease.id).await.header,
            client.hash_kv(0).await.header,
            cluster.status(member).await.unwrap().header,
            list_members(client).await.header,
            WatchStream::with(client, request).await.1.header,
            lease.header,
        ];
        for (number, header) in headers.into_iter().enumerate() {
            let header: ResponseHeader = header.unwrap();
            assert_eq!(
                header.member_id,
                cluster.id(member),
                "answer {number} of m{member}"
            );
            assert!(header.raft_term > 0, "{header:?}");
            clusters.insert(header.cluster_id);
        }
    }
    let ids: Vec<u64> = cluster.members().map(|member| cluster.id(member)).collect();
    assert_eq!((clusters.len(), BTreeSet::from_iter(&ids).len()), (1, 3));
    (*clusters.first().unwrap(), ids)
}

async fn list_members(client: &Client) -> MemberListResponse {
    let request = MemberListRequest { linearizable: true };
    client
        .cluster
        .clone()
        .member_list(request)
        .await
        .unwrap()
        .into_inner()
}

#[tokio::test]
async fn member_list_is_the_same_on_all() {
    let cluster = Cluster::start_behind_proxies(3, &[]).await;
    // The last member is heard a moment after it serves: its name comes through the log.
    let mut expected = Vec::new();
    for member in cluster.members() {
        let server = cluster.server(member);
        expected.push((cluster.id(member), format!("m{member}"), server.endpoint()));
    }
    expected.sort();
    let mut peers = BTreeSet::new();
    for member in cluster.members() {
        let list = list_members(cluster.client(member)).await.members;
        let got: Vec<_> = list
            .iter()
            .map(|member| (member.id, member.name.clone(), member.client_urls.join(",")))
            .collect();
        assert_eq!(got, expected, "by m{member}");
        assert!(list.iter().all(|member| !member.is_learner), "{list:?}");
        peers.insert(
            list.into_iter()
                .flat_map(|member| member.peer_urls)
                .collect::<Vec<_>>(),
        );
    }
    let listening: Vec<String> = cluster
        .members()
        .map(|member| cluster.server(member).peer_url())
        .collect();
    let advertised = peers.first().unwrap();
    assert_eq!((peers.len(), advertised.len()), (1, 3));
    assert!(
        advertised.iter().all(|url| !listening.contains(url)),
        "{advertised:?}"
    );
}

#[tokio::test]
async fn follower_serves_reads_writes_and_watches() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let followers = cluster.others(leader);
    let (near, far) = (cluster.client(followers[0]), cluster.client(followers[1]));
    let (mut watch, _) = WatchStream::with(far, watch_prefix("f/")).await;
    for round in 0..100 {
        let value = round.to_string();
        let through = [near, cluster.client(leader)][round % 2];
        let revision = through.put("f/a", &value).await;
        // The member that answered a write has applied it.
        let local = RangeRequest {
            serializable: true,
            ..get("f/a")
        };
        let read = through.range(local).await;
        assert_eq!(pairs(&read.kvs), [format!("f/a={value}")]);
        let read = far.range(get("f/a")).await;
        assert_eq!(
            (pairs(&read.kvs), header_revision(&read.header)),
            (vec![format!("f/a={value}")], revision)
        );
        let event = &watch.events(1).await[0];
        assert_eq!(showed(std::slice::from_ref(event)), [format!("PUT f/a={value}")]);
        assert_eq!(event.kv.as_ref().unwrap().mod_revision, revision);
    }
    // A condition that holds on the leader is judged once, wherever it is asked.
    let create = || {
        txn(
            vec![is_absent("f/once")],
            vec![op(put("f/once", "1"))],
            Vec::new(),
        )
    };
    let clients = [near, far, cluster.client(leader)];
    let mut succeeded = 0;
    for client in clients {
        succeeded += usize::from(client.txn(create()).await.succeeded);
    }
    assert_eq!(succeeded, 1);

    let current = near.revision().await;
    near.compact(current).await;
    let old = RangeRequest {
        revision: current - 1,
        ..get("f/a")
    };
    for client in clients {
        client.revision().await;
        assert_status(
            client.try_range(old.clone()).await,
            Code::OutOfRange,
            "etcdserver: mvcc: required revision has been compacted",
        );
    }
}

#[tokio::test]
async fn follower_that_was_down_catches_up() {
    let mut cluster = Cluster::start(3).await;
    let away = cluster.follower().await;
    let writer = cluster.client(cluster.others(away)[0]).clone();
    fill(&writer, 0..20).await;
    cluster.kill(away);
    fill(&writer, 20..300).await;
    cluster.run(away);
    assert_equal_hashes(&cluster).await;
    check_history(cluster.client(away), 300).await;
    // It counts: with another member down, it makes the quorum.
    let other = cluster.others(cluster.leader().await);
    let other = *other.iter().find(|member| **member != away).unwrap_or(&other[0]);
    cluster.kill(other);
    cluster.leader().await;
    fill(cluster.client(away), 300..310).await;
    cluster.run(other);
    assert_equal_hashes(&cluster).await;
}

#[tokio::test]
async fn snapshot_for_a_follower_that_was_down() {
    let mut cluster = Cluster::start_with(3, &SNAPSHOT_SOON).await;
    let away = cluster.follower().await;
    let writer = cluster.client(cluster.others(away)[0]).clone();
    let lease = writer.grant(600).await;
    fill(&writer, 0..20).await;
    writer
        .put_with(PutRequest {
            lease,
            ..put("leased", "v")
        })
        .await;
    cluster.kill(away);
    fill(&writer, 20..600).await;
    cluster.run(away);
    assert_equal_hashes(&cluster).await;
    let client = cluster.client(away);
    check_history(client, 600).await;
    let life = client.time_to_live(lease).await;
    assert_eq!((life.granted_ttl, life.keys), (600, vec![bytes("leased")]));

    // As a leader it knows the lease by its snapshot alone.
    for other in cluster.others(away) {
        if cluster.leader().await == away {
            break;
        }
        cluster.kill(other);
        cluster.leader().await;
        cluster.run(other);
    }
    let life = cluster.client(away).time_to_live(lease).await;
    assert_eq!((life.granted_ttl, life.keys), (600, vec![bytes("leased")]));
    assert_eq!(cluster.client(away).revoke(lease).await.unwrap(), 603);
    assert_equal_hashes(&cluster).await;
}

#[tokio::test]
async fn snapshot_for_a_follower_that_serves_watchers() {
    let cluster = Cluster::start_behind_proxies(3, &SNAPSHOT_SOON).await;
    for cut in [Cut::Stall, Cut::Close] {
        let away = cluster.follower().await;
        let writer = cluster.client(cluster.leader().await).clone();
        let first = writer.revision().await + 1;
        let client = cluster.client(away).clone();
        let prefix = format!("cut/{cut:?}/");
        let (mut watch, _) = WatchStream::with(&client, watch_prefix(&prefix)).await;
        let (mut other, _) = WatchStream::with(&client, watch_key("never")).await;
        writer.put(&format!("{prefix}before"), "v").await;
        let seen = watch.events(1).await;
        assert_eq!(showed(&seen), [format!("PUT {prefix}before=v")]);
        cluster.isolate(away, cut);
        for number in 0..500 {
            writer
                .put(&format!("{prefix}{}", number % 7), &number.to_string())
                .await;
        }
        // Nothing reaches the member, which serves what it has.
        let local = RangeRequest {
            serializable: true,
            ..get_prefix(&prefix)
        };
        assert_eq!(client.range(local).await.count, 1);
        cluster.heal();
        let seen = watch.events(500).await;
        let revisions: Vec<i64> = seen.iter().map(revision_of).collect();
        let expected: Vec<i64> = (first + 1..=first + 500).collect();
        assert_eq!(revisions, expected, "after {cut:?}");
        assert_equal_hashes(&cluster).await;
        // Both watchers go on.
        client.put("never", "at last").await;
        assert_eq!(showed(&other.events(1).await), ["PUT never=at last"]);
        writer.put(&format!("{prefix}after"), "v").await;
        assert_eq!(showed(&watch.events(1).await), [format!("PUT {prefix}after=v")]);
    }
}

#[tokio::test]
async fn snapshot_that_is_compacted_behind_a_watcher() {
    let cluster = Cluster::start_behind_proxies(3, &SNAPSHOT_SOON).await;
    let away = cluster.follower().await;
    let writer = cluster.client(cluster.leader().await).clone();
    let client = cluster.client(away).clone();
    let (mut watch, _) = WatchStream::with(&client, watch_prefix("w/")).await;
    writer.put("w/before", "v").await;
    let before = revision_of(&watch.events(1).await[0]);
    cluster.isolate(away, Cut::Close);
    for number in 0..300 {
        writer.put("w/a", &number.to_string()).await;
    }
    let compacted = writer.revision().await;
    writer.compact(compacted).await;
    writer.put("w/a", "last").await;
    cluster.heal();
    // A write or two may have been on the way before the cut; they come in order. What the watcher has missed after
    // that is gone, and it is told so; never may it just go on.
    let mut next = before + 1;
    let canceled = loop {
        let response = watch.next().await;
        if response.canceled {
            break response;
        }
        for event in &response.events {
            assert_eq!(revision_of(event), next, "the next change in order");
            next += 1;
        }
        assert!(next < compacted, "the watcher has missed nothing: {response:?}");
    };
    assert!(
        canceled.canceled && canceled.events.is_empty(),
        "not a cancel: {canceled:?}"
    );
    assert_eq!(canceled.compact_revision, compacted);
    let (mut watch, _) = WatchStream::with(
        &client,
        WatchCreateRequest {
            start_revision: compacted,
            ..watch_prefix("w/")
        },
    )
    .await;
    assert_eq!(showed(&watch.events(2).await), ["PUT w/a=299", "PUT w/a=last"]);
    assert_equal_hashes(&cluster).await;
}

/// Puts numbered values to few keys.
async fn fill(client: &Client, numbers: std::ops::Range<usize>) {
    for number in numbers {
        client
            .put(&format!("fill/{}", number % 17), &number.to_string())
            .await;
    }
}

/// Demands the first writes of [`fill`] by a watch over the past.
async fn check_history(client: &Client, count: usize) {
    let request = WatchCreateRequest {
        start_revision: 1,
        ..watch_prefix("fill/")
    };
    let (mut watch, _) = WatchStream::with(client, request).await;
    let expected: Vec<String> = (0..count)
        .map(|number| format!("PUT fill/{}={number}", number % 17))
        .collect();
    assert_eq!(showed(&watch.events(count).await), expected);
}

fn revision_of(event: &Event) -> i64 {
    event.kv.as_ref().expect("an event has a key").mod_revision
}

/// Demands one hash of the newest revision on all members.
async fn assert_equal_hashes(cluster: &Cluster) {
    let mut hashes = BTreeMap::new();
    for member in cluster.members() {
        // A linearizable read brings the member up to date.
        let current = cluster.client(member).revision().await;
        let answer = cluster.client(member).hash_kv(current).await;
        hashes.insert(
            member,
            (answer.hash_revision, answer.compact_revision, answer.hash),
        );
    }
    let different: BTreeSet<_> = hashes.values().collect();
    assert_eq!(different.len(), 1, "{hashes:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_of_the_leader_moves_leadership() {
    let mut cluster = Cluster::start(3).await;
    for _ in 0..3 {
        let leader = cluster.leader().await;
        let followers = cluster.others(leader);
        let stop = Arc::new(AtomicBool::new(false));
        let writers: Vec<_> = (0..10)
            .map(|id| {
                let client = cluster.client(followers[id % 2]).clone();
                tokio::spawn(write_until(client, id, Arc::clone(&stop)))
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(200)).await;
        let old = cluster.id(leader);
        let start = Instant::now();
        cluster.server(leader).signal_term();
        let moved = loop {
            let mut status = cluster.client(followers[0]).maintenance.clone();
            let status = status.status(StatusRequest {}).await.unwrap().into_inner();
            if ![0, old].contains(&status.leader) {
                break start.elapsed();
            }
            assert!(start.elapsed() < PATIENCE, "leadership does not move");
            tokio::time::sleep(Duration::from_millis(2)).await;
        };
        assert!(moved < Duration::from_millis(500), "moved after {moved:?}");
        let status = cluster.server_mut(leader).wait_for_exit();
        if runs_taffrail() {
            assert!(status.success(), "{status}");
        }
        // What begins after the move succeeds at once.
        for follower in &followers {
            let client = cluster.client(*follower).clone();
            let begun = Instant::now();
            client.put("t/after", "v").await;
            assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
        }
        stop.store(true, Ordering::Relaxed);
        let mut failed = Vec::new();
        for writer in writers {
            let errors = writer.await.unwrap();
            assert!(errors.len() <= 1, "one writer failed more than once: {errors:?}");
            failed.extend(errors);
        }
        // What was on its way to the old leader may be lost; then the client is told that it does not know.
        for status in &failed {
            let expected = status.code() == Code::Unavailable
                && status.message().starts_with("etcdserver: request timed out");
            assert!(expected, "{status:?}");
        }
        println!(
            "leadership moved after {moved:?}, {} of 10 writers lost a write",
            failed.len()
        );
        cluster.run(leader);
    }
}

/// Writes one after the other through one member; returns what failed.
async fn write_until(client: Client, id: usize, stop: Arc<AtomicBool>) -> Vec<Status> {
    let mut failed = Vec::new();
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let write = put(&format!("t/{id}"), &number.to_string());
        failed.extend(client.try_put(write).await.err());
    }
    failed
}

#[tokio::test]
async fn first_of_three_waits_for_a_second() {
    let mut cluster = Cluster::start(3).await;
    for member in cluster.members() {
        cluster.kill(member);
    }
    cluster.spawn(0);
    if runs_taffrail() {
        // Clients are served after a while even so, to learn what is wrong. (etcd lets them wait.)
        cluster.wait_for("the member answers", |all| all.len() == 1).await;
        let status = cluster.status(0).await.unwrap();
        assert_eq!(
            (status.leader, status.errors),
            (0, vec!["etcdserver: no leader".to_owned()])
        );
        let health = http_get(cluster.server(0).client_address(), "/health");
        assert!(health.is_some_and(|answer| answer.status == 503));
    }
    cluster.run(1);
    cluster.leader().await;
    cluster.client(0).put("a", "1").await;
    cluster.run(2);
    assert_eq!(pairs(&cluster.client(2).range(get("a")).await.kvs), ["a=1"]);
}

#[tokio::test]
async fn five_members_lose_two() {
    let mut cluster = Cluster::start(5).await;
    for round in 0..2 {
        let leader = cluster.leader().await;
        cluster.kill(leader);
        let leader = cluster.leader().await;
        for member in cluster.members() {
            if cluster.server(member).runs() {
                let value = format!("{round} {member}");
                cluster.client(member).put("five", &value).await;
                let read = cluster.client(leader).range(get("five")).await;
                assert_eq!(pairs(&read.kvs), [format!("five={value}")]);
            }
        }
    }
    cluster.run_all();
    assert_equal_hashes(&cluster).await;
}

#[tokio::test]
async fn member_of_another_cluster_is_refused() {
    let mut cluster = Cluster::start(3).await;
    let away = cluster.follower().await;
    cluster.client(away).put("a", "1").await;
    cluster.kill(away);
    // The same names and URLs, but founded under another token: other ids.
    let data = cluster.server(away).data_dir();
    std::fs::rename(&data, cluster.server(away).scratch_dir().join("right")).unwrap();
    cluster
        .server_mut(away)
        .add_flag("--initial-cluster-token=another");
    cluster.spawn(away);
    let others = cluster.others(away);
    let says = |cluster: &Cluster, member: usize| {
        let log = cluster.server(member).log().to_lowercase();
        log.contains("cluster id mismatch") || log.contains("cluster-id mismatch")
    };
    wait_until("a clear line on one of the two sides", || {
        says(&cluster, away) || says(&cluster, others[0]) || says(&cluster, others[1])
    });
    // It never gets to serve, and does the others no harm.
    let health = http_get(cluster.server(away).client_address(), "/health");
    assert!(health.is_none_or(|answer| answer.status == 503));
    cluster.client(others[0]).put("a", "2").await;
    cluster.kill(away);

    // The directory that this has left is no good for the cluster that the flags tell of.
    cluster
        .server_mut(away)
        .add_flag("--initial-cluster-token=etcd-cluster");
    let before = cluster.server(away).log().len();
    cluster.spawn(away);
    if runs_taffrail() {
        let status = cluster.server_mut(away).wait_for_exit();
        let log = cluster.server(away).log().split_off(before);
        assert_eq!(status.code(), Some(1), "{log}");
        assert!(log.contains("cluster"), "{log}");
    } else {
        cluster.kill(away);
    }
    // With its own directory it is welcome.
    std::fs::remove_dir_all(&data).unwrap();
    std::fs::rename(cluster.server(away).scratch_dir().join("right"), &data).unwrap();
    cluster.run(away);
    assert_eq!(pairs(&cluster.client(away).range(get("a")).await.kvs), ["a=2"]);
}

#[tokio::test]
async fn member_that_was_started_before_is_not_founded_again() {
    let mut cluster = Cluster::start(3).await;
    let away = cluster.follower().await;
    cluster.kill(away);
    std::fs::remove_dir_all(cluster.server(away).data_dir()).unwrap();
    cluster.spawn(away);
    let status = cluster.server_mut(away).wait_for_exit();
    assert_eq!(status.code(), Some(1));
    let log = cluster.server(away).log();
    let line = format!("member {:x} has already been bootstrapped", cluster.id(away));
    assert!(log.contains(&line), "{line:?} is not in:\n{log}");
}

//! Automatic compaction by time, on a cluster. (By number of revisions it acts each five minutes: too slow for a
//! test on a real clock.)
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::{Duration, Instant};

use crate::harness::*;
use proto::etcdserverpb::RangeRequest;
use tonic::{Code, Status};

#[tokio::test]
async fn the_leader_compacts_for_all() {
    let mut cluster = Cluster::start_with(3, &["--auto-compaction-retention=1s"]).await;
    let leader = cluster.leader().await;
    let term = term(&cluster, leader).await;
    let old = overwrite(cluster.client(0), "k").await;
    for member in cluster.members() {
        wait_until_compacted(cluster.client(member), "k", old).await;
        // The present is not touched.
        assert_eq!(
            pairs(&cluster.client(member).range(get("k")).await.kvs),
            ["k=new"]
        );
    }
    let starting = "starting auto periodic compaction";
    let acted: Vec<usize> = cluster
        .members()
        .filter(|member| cluster.server(*member).log().contains(starting))
        .collect();
    // Where the leader has changed on the way, two have acted in turn.
    if term == self::term(&cluster, leader).await {
        assert_eq!(acted, [leader]);
    }
    let leader = acted[0];
    let done = "completed auto periodic compaction";
    let log = cluster.server(leader).log();
    let line = log.lines().find(|line| line.contains(done)).expect(done);
    for field in [r#""revision":"#, r#""compact-period":"1s""#, r#""took":""#] {
        assert!(line.contains(field), "{field} is not in {line}");
    }

    // The next leader goes on.
    cluster.kill(leader);
    let heir = cluster.leader().await;
    let old = overwrite(cluster.client(heir), "k").await;
    for member in cluster.others(leader) {
        wait_until_compacted(cluster.client(member), "k", old).await;
    }
    let log = cluster.server(heir).log();
    assert!(log.contains(done), "{log}");
}

#[tokio::test]
async fn nothing_is_compacted_by_default() {
    let server = Server::start();
    let client = server.client().await;
    let old = overwrite(&client, "k").await;
    // Long enough for the same server with a retention of 100 ms to have compacted, which is the proof below.
    let other = Server::start_with(&["--auto-compaction-retention=100ms"]);
    let others = other.client().await;
    let gone = overwrite(&others, "k").await;
    wait_until_compacted(&others, "k", gone).await;
    assert_eq!(pairs(&read_at(&client, "k", old).await.unwrap()), ["k=old"]);
}

async fn term(cluster: &Cluster, member: usize) -> u64 {
    cluster.status(member).await.expect("it answers").raft_term
}

/// Writes twice and returns the first revision.
async fn overwrite(client: &Client, key: &str) -> i64 {
    let old = client.put(key, "old").await;
    client.put(key, "new").await;
    old
}

async fn read_at(client: &Client, key: &str, revision: i64) -> Result<Vec<proto::mvccpb::KeyValue>, Status> {
    let request = RangeRequest {
        revision,
        serializable: true,
        ..get(key)
    };
    client.try_range(request).await.map(|answer| answer.kvs)
}

/// By this member, whatever the others have done.
async fn wait_until_compacted(client: &Client, key: &str, revision: i64) {
    let start = Instant::now();
    loop {
        match read_at(client, key, revision).await {
            Err(status) if status.code() == Code::OutOfRange => {
                let compacted = "etcdserver: mvcc: required revision has been compacted";
                if status.message() == compacted {
                    return;
                }
                // A follower that has not seen the write yet: a future revision.
            }
            Err(status) => panic!("{status:?}"),
            Ok(_) => {}
        }
        assert!(start.elapsed() < PATIENCE, "revision {revision} is still there");
        tokio::time::sleep(STEP).await;
    }
}

const STEP: Duration = Duration::from_millis(20);

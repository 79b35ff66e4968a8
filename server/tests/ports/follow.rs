//! Followers that catch up, seen from outside: what a rolling restart leaves in the leader's memory, and a snapshot whose
//! receiver dies in the midst of it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;
use std::time::{Duration, Instant};

use crate::harness::*;

/// Bytes of the part of a snapshot in a member's folder, if there is one.
fn part_bytes(data_dir: &Path) -> Option<u64> {
    let entries = std::fs::read_dir(data_dir.join("member/snap")).ok()?;
    let mut parts = entries.flatten().map(|entry| entry.path());
    let part = parts.find(|path| path.extension().is_some_and(|kind| kind == "part"))?;
    std::fs::metadata(part).ok().map(|known| known.len())
}

/// Waits until all members have applied as much.
async fn caught_up(cluster: &Cluster) {
    let same = |all: &[proto::etcdserverpb::StatusResponse]| {
        all.len() == 3
            && all
                .iter()
                .all(|one| one.raft_applied_index == all[0].raft_applied_index)
    };
    cluster.wait_for("all have applied everything", same).await;
}

#[tokio::test]
async fn a_snapshot_goes_on_where_its_receiver_died() {
    if !runs_taffrail() {
        return skip("a_snapshot_goes_on_where_its_receiver_died", "Taffrail itself");
    }
    let mut cluster = Cluster::start_with(3, &["--snapshot-count=50", "--snapshot-catchup-entries=10"]).await;
    let away = cluster.follower().await;
    cluster.kill(away);
    let writer = cluster.client(cluster.others(away)[0]).clone();
    for number in 0..100 {
        writer.put(&format!("k{number}"), &"x".repeat(1 << 20)).await;
    }
    cluster.spawn(away);
    let (start, data_dir) = (Instant::now(), cluster.server(away).data_dir());
    while part_bytes(&data_dir).is_none_or(|bytes| bytes < ENOUGH) {
        assert!(start.elapsed() < PATIENCE, "no snapshot comes");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    cluster.kill(away);
    let part = part_bytes(&data_dir).expect("it was killed in the midst of it");
    cluster.run(away);
    caught_up(&cluster).await;
    assert_equal_hashes(&cluster.new_clients(), 101).await;
    let log = cluster.server(away).log();
    let offset = log
        .lines()
        .filter(|line| line.contains("goes on where it broke off"))
        .find_map(|line| {
            let (_, rest) = line.split_once("offset")?;
            let digits: String = rest
                .chars()
                .skip_while(|c| !c.is_ascii_digit())
                .take_while(char::is_ascii_digit)
                .collect();
            digits.parse::<u64>().ok()
        })
        .unwrap_or_else(|| panic!("it began anew: {log}"));
    assert!(offset > 0 && offset <= part, "{offset} of {part}");
    assert_eq!(part_bytes(&data_dir), None, "nothing is left behind");
}

#[tokio::test]
async fn after_a_rolling_restart_a_member_that_lags_needs_no_snapshot() {
    if !runs_taffrail() {
        return skip(
            "after_a_rolling_restart_a_member_that_lags_needs_no_snapshot",
            "Taffrail itself",
        );
    }
    let mut cluster = Cluster::start(3).await;
    let away = cluster.follower().await;
    cluster.server_mut(away).terminate();
    let others = cluster.others(away);
    let writer = cluster.client(others[0]).clone();
    for number in 0..200 {
        writer.put(&format!("k{number}"), "x").await;
    }
    for other in others {
        cluster.server_mut(other).terminate();
        cluster.run(other);
        cluster.leader().await;
    }
    cluster.run(away);
    caught_up(&cluster).await;
    assert_equal_hashes(&cluster.new_clients(), 201).await;
    let log = cluster.server(away).log();
    assert!(!log.contains("receiving a snapshot"), "{log}");
}

/// So much of a snapshot has arrived when its receiver dies.
const ENOUGH: u64 = 12 << 20;

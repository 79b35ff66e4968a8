//! Members that follow a leader: the log that restarted members still have for those that lag, and leaders whose disks
//! stand still.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod cluster;

use std::time::Duration;

use cluster::Cluster;
use proto::etcdserverpb::PutRequest;
use store::Settings;
use store::env::Clock as _;
use store::error::{Error, Unavailable};
use store::shell::sim::Step;

/// Restarts after which everything is in the working copy, as an orderly one leaves it.
fn restart(cluster: &mut Cluster, number: usize) {
    cluster.pass(Duration::from_secs(2));
    cluster.members[number].as_mut().unwrap().step(Step::Flush);
    cluster.crash(number);
    cluster.start(number);
}

fn snapshots_received(cluster: &Cluster, number: usize) -> u64 {
    let received = cluster.store(number).metrics().snapshot_receives;
    received.iter().map(|(_, values)| values.successes).sum()
}

#[test]
fn members_that_were_restarted_still_have_log_for_one_that_lags() {
    let keep = |settings: &mut Settings| {
        settings.snapshot_catchup_entries = 60;
        settings.limits.wal_segment_bytes = 16 << 10;
    };
    let mut cluster = Cluster::unelected(3, &keep);
    let leader = cluster.elect();
    let late = cluster.follower();
    for number in 0..50 {
        cluster.put(leader, "k", &number.to_string()).unwrap();
    }
    cluster.crash(late);
    for number in 50..90 {
        cluster.put(leader, "k", &number.to_string()).unwrap();
    }
    let others = (0..3).filter(|number| *number != late);
    for number in others {
        restart(&mut cluster, number);
        let view = cluster.members[number].as_ref().unwrap().raft();
        assert!(view.first.0 > 1 && view.first.0 + 50 < view.applied.0, "{view:?}");
        assert!(view.first.0 + 61 >= view.applied.0, "within the limit: {view:?}");
        cluster.elect();
    }
    let wanted = cluster.get(cluster.leader().unwrap(), "k", false).unwrap();
    cluster.start(late);
    cluster.pass(Duration::from_secs(2));
    assert_eq!(cluster.get(late, "k", true).unwrap(), wanted);
    assert_eq!(snapshots_received(&cluster, late), 0, "the log was enough");
    // It can lead on from there, and whoever lags more still gets a snapshot.
    let late = cluster.follower();
    cluster.crash(late);
    let leader = cluster.leader().unwrap();
    for number in 0..150 {
        cluster.put(leader, "k", &number.to_string()).unwrap();
    }
    restart(&mut cluster, leader);
    cluster.elect();
    cluster.start(late);
    cluster.pass(Duration::from_secs(3));
    assert_eq!(cluster.get(late, "k", true).unwrap().unwrap(), "149");
    assert_eq!(snapshots_received(&cluster, late), 1);
}

fn stall(cluster: &mut Cluster, number: usize, time: Duration) {
    let until = cluster.clock.now() + time;
    cluster.members[number].as_mut().unwrap().stall(until);
}

fn term_of(cluster: &Cluster, number: usize) -> u64 {
    cluster.members[number].as_ref().unwrap().raft().term.0
}

#[test]
fn a_leader_whose_disk_stalls_hands_over_to_one_whose_disk_works() {
    let mut cluster = Cluster::new(3);
    let old = cluster.leader().unwrap();
    cluster.put(old, "k", "before").unwrap();
    stall(&mut cluster, old, Duration::from_secs(60));
    // Through another member it is answered at once: two disks are a quorum.
    cluster.put(cluster.follower(), "k", "meanwhile").unwrap();
    assert_eq!(cluster.leader(), Some(old));
    // But the old leader itself can apply nothing; no member fails and no connection breaks, and yet it gives way.
    cluster.pass(Duration::from_millis(1500));
    let new = cluster.leader().unwrap();
    assert_ne!(new, old);
    assert_eq!(cluster.get(new, "k", false).unwrap().unwrap(), "meanwhile");
    let counted = cluster.store(old).metrics();
    assert_eq!((counted.stalled_syncs, counted.stall_hand_overs), (1, 1));
    // The new leader stays, while the disk is away and when it is back.
    let term = term_of(&cluster, new);
    cluster.pass(Duration::from_secs(70));
    assert_eq!((cluster.leader(), term_of(&cluster, new)), (Some(new), term));
    assert_eq!(cluster.get(old, "k", false).unwrap().unwrap(), "meanwhile");
    assert_eq!(cluster.store(old).metrics().stall_hand_overs, 1);
}

#[test]
fn a_stalled_leader_whom_nobody_can_follow_goes_on() {
    let mut cluster = Cluster::new(3);
    let (leader, follower) = (cluster.leader().unwrap(), cluster.follower());
    cluster.put(leader, "k", "before").unwrap();
    cluster.pass(Duration::from_secs(1));
    let term = term_of(&cluster, leader);
    // Both at once, as on a shared disk: the third alone cannot be elected.
    stall(&mut cluster, leader, Duration::from_secs(20));
    stall(&mut cluster, follower, Duration::from_secs(20));
    let store = cluster.store(leader);
    let request = PutRequest {
        key: "k".into(),
        ..PutRequest::default()
    };
    let put = cluster.call(async move { store.put(request).await });
    assert!(matches!(put, Err(Error::Unavailable(_))), "{put:?}");
    assert_eq!(
        (cluster.leader(), term_of(&cluster, leader)),
        (Some(leader), term)
    );
    assert_eq!(cluster.store(leader).metrics().stall_hand_overs, 0);
    cluster.pass(Duration::from_secs(20));
    cluster.put(leader, "k", "after").unwrap();
    assert_eq!(
        (cluster.leader(), term_of(&cluster, leader)),
        (Some(leader), term)
    );
}

#[test]
fn a_member_whose_disk_stalls_takes_no_leadership() {
    let mut cluster = Cluster::new(3);
    let (leader, follower) = (cluster.leader().unwrap(), cluster.follower());
    stall(&mut cluster, follower, Duration::from_secs(30));
    cluster.put(leader, "k", "x").unwrap();
    cluster.pass(Duration::from_secs(2));
    let (store, target) = (cluster.store(leader), cluster.store(follower).member_id());
    let moved = cluster.call(async move { store.move_leader(target).await });
    assert_eq!(moved, Err(Unavailable::LeaderTransferTimeout.into()));
    assert_eq!(cluster.leader(), Some(leader));
    cluster.pass(Duration::from_secs(30));
    let store = cluster.store(leader);
    cluster
        .call(async move { store.move_leader(target).await })
        .unwrap();
    assert_eq!(cluster.leader(), Some(follower));
}

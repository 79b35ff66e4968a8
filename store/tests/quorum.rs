//! Three members without threads and without a disk that fails, stepped by hand over a network that the test cuts.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod cluster;

use std::time::Duration;

use cluster::Cluster;
use proto::etcdserverpb::{LeaseGrantRequest, LeaseTimeToLiveRequest, PutRequest};
use store::Settings;
use store::error::Unavailable;

#[test]
fn what_is_written_through_any_member_is_read_through_any_other() {
    for size in [3, 5] {
        let mut cluster = Cluster::new(size);
        for writer in 0..size {
            let value = writer.to_string();
            assert_eq!(cluster.put(writer, "k", &value).unwrap(), writer as i64 + 2);
            for reader in 0..size {
                assert_eq!(cluster.get(reader, "k", false).unwrap(), Some(value.clone()));
            }
        }
    }
}

#[test]
fn a_member_that_dies_is_not_missed_and_catches_up() {
    let mut cluster = Cluster::new(3);
    let first = cluster.leader().unwrap();
    cluster.put(first, "k", "before").unwrap();
    cluster.crash(first);
    let second = cluster.elect();
    assert_ne!(first, second);
    assert_eq!(cluster.get(second, "k", false).unwrap().unwrap(), "before");
    cluster.put(second, "k", "after").unwrap();
    cluster.start(first);
    cluster.pass(Duration::from_secs(1));
    assert_eq!(cluster.get(first, "k", true).unwrap().unwrap(), "after");
    assert_eq!(
        cluster.leader(),
        Some(second),
        "a member that returns takes no office"
    );
}

#[test]
fn without_a_quorum_nothing_is_promised_and_old_state_is_served() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.leader().unwrap();
    cluster.put(leader, "k", "v").unwrap();
    cluster.pass(Duration::from_secs(1));
    cluster.cut = vec![leader];
    let dropped: Vec<usize> = (0..3).filter(|number| *number != leader).collect();
    // A leader that does not know yet that it has lost its quorum.
    let written = cluster.put(leader, "k", "lost");
    assert_eq!(written, Err(Unavailable::Timeout.into()));
    let read = cluster.get(leader, "k", false);
    assert_eq!(read, Err(Unavailable::Timeout.into()));
    let written = cluster.put(leader, "k", "lost");
    assert_eq!(written, Err(Unavailable::DeadlineExceeded.into()));
    assert_eq!(cluster.get(leader, "k", true).unwrap().unwrap(), "v");
    // The others have gone on.
    cluster.put(dropped[0], "k", "new").unwrap();
    cluster.cut.clear();
    cluster.pass(Duration::from_secs(1));
    for number in 0..3 {
        assert_eq!(cluster.get(number, "k", false).unwrap().unwrap(), "new");
    }
}

#[test]
fn a_proposal_in_a_leaders_queue_survives_the_change_of_leaders() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.leader().unwrap();
    let follower = cluster.follower();
    cluster.crash(leader);
    let store = cluster.store(follower);
    // Passed on to a leader that is gone: nobody can know what became of it.
    let request = PutRequest {
        key: "lost".into(),
        ..PutRequest::default()
    };
    let lost = cluster.call(async move { store.put(request).await });
    assert_eq!(lost.unwrap_err(), Unavailable::TimeoutDueToLeaderFail.into());
    assert_eq!(cluster.get(follower, "lost", false).unwrap(), None);
}

#[test]
fn a_lease_is_renewed_through_a_follower_and_lives_over_a_change_of_leaders() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.leader().unwrap();
    let follower = cluster.follower();
    let store = cluster.store(follower);
    let grant = LeaseGrantRequest { ttl: 3, id: 7 };
    cluster.call(async { store.lease_grant(grant).await }).unwrap();
    let put = PutRequest {
        key: "leased".into(),
        lease: 7,
        ..PutRequest::default()
    };
    cluster.call(async { store.put(put).await }).unwrap();
    for _ in 0..4 {
        cluster.pass(Duration::from_secs(2));
        let renewed = cluster.call(async { store.lease_keep_alive(7).await }).unwrap();
        assert_eq!(renewed.ttl, 3);
    }
    let ask = LeaseTimeToLiveRequest { id: 7, keys: true };
    let told = cluster
        .call(async { store.lease_time_to_live(ask).await })
        .unwrap();
    assert!((2..=3).contains(&told.ttl), "{}", told.ttl);
    assert_eq!((told.granted_ttl, told.keys.len()), (3, 1));
    cluster.crash(leader);
    cluster.elect();
    cluster.pass(Duration::from_secs(2));
    assert!(cluster.get(follower, "leased", false).unwrap().is_some());
    cluster.pass(Duration::from_secs(4));
    assert_eq!(cluster.get(follower, "leased", false).unwrap(), None);
}

#[test]
fn a_leader_that_slept_renews_and_revokes_nothing() {
    let mut cluster = Cluster::new(3);
    let sleeper = cluster.leader().unwrap();
    let store = cluster.store(sleeper);
    let grant = LeaseGrantRequest { ttl: 3, id: 7 };
    cluster.call(async { store.lease_grant(grant).await }).unwrap();
    cluster.asleep = vec![sleeper];
    let leader = cluster.elect();
    let awake = cluster.store(leader);
    for _ in 0..3 {
        cluster.pass(Duration::from_secs(2));
        let renewed = cluster.call(async { awake.lease_keep_alive(7).await }).unwrap();
        assert_eq!(renewed.ttl, 3);
    }
    // It wakes up, believes to lead, and its clock says that the lease has long ended.
    cluster.asleep.clear();
    let renewed = cluster.call(async { store.lease_keep_alive(7).await }).unwrap();
    assert_eq!(renewed.ttl, 3, "the leader's answer");
    cluster.pass(Duration::from_secs(1));
    let ask = LeaseTimeToLiveRequest { id: 7, keys: false };
    let told = cluster
        .call(async { store.lease_time_to_live(ask).await })
        .unwrap();
    assert!(told.ttl >= 0, "the lease lives on");
}

/// Once a caller was told that its time is over, a proposal that still waits for a leader is not made to the next one.
#[test]
fn a_proposal_that_found_no_leader_in_time_is_never_made() {
    let mut cluster = Cluster::unelected(3, &|_| {});
    cluster.cut = vec![0, 1, 2];
    let late = cluster.put(0, "k", "late");
    assert_eq!(late, Err(Unavailable::DeadlineExceeded.into()));
    cluster.cut.clear();
    cluster.elect();
    cluster.pass(Duration::from_secs(1));
    assert_eq!(cluster.get(0, "k", false).unwrap(), None);
    assert_eq!(cluster.put(0, "k", "first").unwrap(), 2);
}

fn little_log(settings: &mut Settings) {
    settings.snapshot_catchup_entries = 5;
    settings.limits.log_tail_bytes = 1 << 10;
}

#[test]
fn a_member_too_far_behind_for_the_log_gets_a_snapshot() {
    let mut cluster = Cluster::unelected(3, &little_log);
    cluster.elect();
    let late = cluster.follower();
    cluster.put(late, "old", "x").unwrap();
    let lease = LeaseGrantRequest { ttl: 60, id: 7 };
    let store = cluster.store(late);
    cluster.call(async { store.lease_grant(lease).await }).unwrap();
    cluster.crash(late);
    let leader = cluster.leader().unwrap();
    for number in 0..200 {
        cluster.put(leader, "k", &number.to_string()).unwrap();
    }
    cluster.start(late);
    cluster.pass(Duration::from_secs(3));
    assert_eq!(cluster.get(late, "k", true).unwrap().unwrap(), "199");
    assert_eq!(cluster.get(late, "old", true).unwrap().unwrap(), "x");
    // It goes on with the log, and knows what came with the snapshot when it leads.
    cluster.put(leader, "k", "after").unwrap();
    cluster.pass(Duration::from_secs(1));
    assert_eq!(cluster.get(late, "k", true).unwrap().unwrap(), "after");
    cluster.crash(leader);
    let other = (0..3)
        .find(|number| *number != leader && *number != late)
        .unwrap();
    cluster.elect();
    cluster.put(late, "k", "last").unwrap();
    assert_eq!(cluster.get(other, "k", false).unwrap().unwrap(), "last");
    let ask = LeaseTimeToLiveRequest { id: 7, keys: false };
    let store = cluster.store(late);
    let told = cluster
        .call(async { store.lease_time_to_live(ask).await })
        .unwrap();
    assert!(told.ttl > 0, "{told:?}");
    // And it is all on its disk.
    cluster.crash(late);
    cluster.start(late);
    cluster.elect();
    cluster.pass(Duration::from_secs(1));
    assert_eq!(cluster.get(late, "k", true).unwrap().unwrap(), "last");
}

#[test]
fn a_member_that_lost_its_disk_votes_for_nobody_until_it_has_a_snapshot() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.leader().unwrap();
    let wiped = cluster.follower();
    cluster.put(leader, "k", "v").unwrap();
    cluster.pass(Duration::from_secs(1));
    cluster.wipe(wiped);
    cluster.start(wiped);
    // Of the three only it and one that knows are left: it must not help to elect anybody.
    cluster.cut = vec![leader];
    cluster.pass(Duration::from_secs(10));
    assert_eq!(cluster.leader(), None);
    assert_eq!(cluster.members[wiped].as_ref().unwrap().raft().term.0, 0);
    // Once a quorum without it is there again, it is given all there is.
    cluster.cut.clear();
    let leader = cluster.elect();
    cluster.pass(Duration::from_secs(5));
    assert_eq!(cluster.get(wiped, "k", true).unwrap().unwrap(), "v");
    cluster.put(leader, "k", "w").unwrap();
    cluster.crash(leader);
    cluster.elect();
    assert_eq!(cluster.get(wiped, "k", false).unwrap().unwrap(), "w");
    // It stays so over a restart.
    cluster.crash(wiped);
    cluster.start(wiped);
    cluster.elect();
    assert_eq!(cluster.get(wiped, "k", false).unwrap().unwrap(), "w");
}

/// The death of a process is noticed at once by the connections to it: what cannot even be sent waits for the next
/// leader.
#[test]
fn a_proposal_that_could_not_be_sent_goes_to_the_next_leader() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.leader().unwrap();
    let follower = cluster.follower();
    let dead = cluster.members[leader].as_ref().unwrap().member();
    cluster.crash(leader);
    for member in cluster.members.iter_mut().flatten() {
        member.connected(dead, false);
    }
    assert_eq!(cluster.put(follower, "k", "v").unwrap(), 2);
    assert_eq!(cluster.put(follower, "k", "w").unwrap(), 3);
}

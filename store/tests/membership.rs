//! The members of a cluster come and go: every change by the handle, over the same stepped cluster as `quorum.rs`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod cluster;

use std::pin::pin;
use std::time::Duration;

use cluster::{Cluster, TICK, poll, url};
use store::Settings;
use store::error::{Error, RequestError, Unavailable};
use store::shell::{ClusterState, Join};
use store::types::MemberId;

/// Long enough for every connection to count as healthy.
const HEALTHY: Duration = Duration::from_secs(6);

impl Cluster {
    /// So many members, healthy and known by name.
    fn healthy(size: usize) -> Cluster {
        let mut cluster = Cluster::new(size);
        cluster.pass(HEALTHY);
        cluster
    }

    /// A machine for one more member.
    fn machine(&mut self) -> usize {
        let mut settings = Settings::new("/data");
        settings.initial_cluster_state = ClusterState::Existing;
        self.place(settings)
    }

    fn add(&mut self, through: usize, number: usize, learner: bool) -> Result<MemberId, Error> {
        let store = self.store(through);
        let added = self.call(async move { store.member_add(vec![url(number)], learner).await })?;
        Ok(MemberId(added.member.unwrap().id))
    }

    /// Starts a member on an empty disk: it hears who is there from `through`.
    fn join(&mut self, through: usize, number: usize) {
        let store = self.store(through);
        let listed = self.call(async move { store.member_list(false).await }).unwrap();
        self.settings[number].join = Some(Join {
            cluster: self.store(through).cluster_id(),
            members: listed.members.into_iter().map(Into::into).collect(),
        });
        self.start(number);
    }

    fn remove(&mut self, through: usize, id: MemberId) -> Result<usize, Error> {
        let store = self.store(through);
        let removed = self.call(async move { store.member_remove(id).await })?;
        Ok(removed.members.len())
    }

    /// Asks whoever leads, as the server does.
    fn promote(&mut self, id: MemberId) -> Result<(), Error> {
        let leader = self.elect();
        let store = self.store(leader);
        self.call(async move { store.member_promote(id).await }).map(drop)
    }

    fn id(&self, number: usize) -> MemberId {
        self.store(number).member_id()
    }

    /// The members as a member's own state has them: name, URL, whether it learns.
    fn listed(&mut self, number: usize) -> Vec<(String, String, bool)> {
        let store = self.store(number);
        let listed = self.call(async move { store.member_list(false).await }).unwrap();
        let mut listed: Vec<_> = listed
            .members
            .into_iter()
            .map(|member| (member.name, member.peer_urls.join(","), member.is_learner))
            .collect();
        listed.sort();
        listed
    }

    fn voters(&self, number: usize) -> usize {
        self.members[number].as_ref().unwrap().raft().voters.len()
    }

    /// As its applied state has them.
    fn voters_listed(&mut self, number: usize) -> usize {
        self.listed(number)
            .iter()
            .filter(|(.., learner)| !learner)
            .count()
    }

    fn removed(&self, number: usize) -> bool {
        let store = self.store(number);
        poll(pin!(store.removed())).is_some()
    }

    fn read(&mut self, number: usize) -> Option<String> {
        self.get(number, "k", true).unwrap()
    }
}

#[test]
fn one_member_becomes_three_and_one_again() {
    let mut cluster = Cluster::healthy(1);
    cluster.put(0, "k", "one").unwrap();
    let mut ids = vec![cluster.id(0)];
    for number in 1..3 {
        let machine = cluster.machine();
        ids.push(cluster.add(0, machine, false).unwrap());
        cluster.join(0, machine);
        cluster.pass(HEALTHY);
        assert_eq!(cluster.read(number).unwrap(), "one", "through a snapshot");
        assert_eq!(cluster.voters(number), number + 1);
    }
    cluster.put(2, "k", "three").unwrap();
    for number in 0..3 {
        assert_eq!(cluster.get(number, "k", false).unwrap().unwrap(), "three");
        let names: Vec<_> = cluster
            .listed(number)
            .into_iter()
            .map(|(name, ..)| name)
            .collect();
        assert_eq!(names, ["m0", "m1", "m2"]);
    }
    for number in [2, 1] {
        assert_eq!(cluster.remove(0, ids[number]).unwrap(), number);
        cluster.pass(Duration::from_secs(1));
        assert!(cluster.removed(number), "it hears of it");
        assert!(!cluster.removed(0));
    }
    cluster.crash(1);
    cluster.crash(2);
    cluster.pass(Duration::from_secs(2));
    cluster.put(0, "k", "alone").unwrap();
    assert_eq!(cluster.voters(0), 1);
}

#[test]
fn a_second_member_that_starts_late_is_waited_for() {
    let mut cluster = Cluster::healthy(1);
    cluster.put(0, "k", "before").unwrap();
    let machine = cluster.machine();
    cluster.add(0, machine, false).unwrap();
    // As with etcd: two are needed now.
    assert!(cluster.put(0, "k", "lost?").is_err());
    cluster.crash(0);
    cluster.start(0);
    cluster.pass(Duration::from_secs(5));
    assert_eq!(cluster.leader(), None, "a restart does not change it");
    let settings = &mut cluster.settings[machine];
    settings.initial_cluster_state = ClusterState::Existing;
    cluster.join(0, machine);
    cluster.elect();
    cluster.pass(Duration::from_secs(3));
    cluster.put(0, "k", "after").unwrap();
    cluster.pass(TICK);
    assert_eq!(cluster.read(machine).unwrap(), "after");
}

#[test]
fn a_joiner_takes_the_members_from_a_snapshot_and_survives_a_crash_on_the_way() {
    let mut cluster = Cluster::healthy(3);
    for n in 0..20 {
        cluster.put(0, "k", &n.to_string()).unwrap();
    }
    let machine = cluster.machine();
    cluster.add(1, machine, false).unwrap();
    let leader = cluster.leader().unwrap();
    cluster.join(leader, machine);
    assert_eq!(cluster.voters(machine), 0, "it knows no voters");
    // A crash as soon as it has heard of a term.
    cluster.pass(TICK);
    cluster.crash(machine);
    cluster.start(machine);
    cluster.pass(HEALTHY);
    assert_eq!(cluster.voters(machine), 4);
    assert_eq!(cluster.read(machine).unwrap(), "19");
    cluster.crash(machine);
    cluster.start(machine);
    cluster.pass(Duration::from_secs(1));
    assert_eq!(cluster.voters(machine), 4, "after a restart too");
}

#[test]
fn a_learner_learns_and_is_promoted_when_it_has_caught_up() {
    let mut cluster = Cluster::healthy(3);
    for n in 0..30 {
        cluster.put(0, "k", &n.to_string()).unwrap();
    }
    let machine = cluster.machine();
    let learner = cluster.add(0, machine, true).unwrap();
    let leader = cluster.leader().unwrap();
    let follower = cluster.follower();
    assert_eq!(
        cluster.promote(learner),
        Err(RequestError::LearnerNotReady.into())
    );
    let store = cluster.store(follower);
    let asked = cluster.call(async move { store.member_promote(learner).await });
    assert_eq!(asked.unwrap_err(), Unavailable::NotLeader.into());
    assert_eq!(
        cluster.promote(MemberId(5)),
        Err(RequestError::MemberNotFound.into())
    );
    let voter = cluster.id(follower);
    assert_eq!(cluster.promote(voter), Err(RequestError::MemberNotLearner.into()));
    cluster.join(leader, machine);
    cluster.pass(Duration::from_secs(3));
    assert!(cluster.store(machine).status().is_learner);
    assert_eq!(cluster.read(machine).unwrap(), "29");
    let store = cluster.store(leader);
    let moved = cluster.call(async move { store.move_leader(learner).await });
    assert_eq!(moved, Err(RequestError::BadLeaderTransferee.into()));
    // It is not counted: with one voter gone, and the learner too, the others go on.
    cluster.cut = vec![follower, machine];
    cluster.put(leader, "k", "two of three").unwrap();
    cluster.cut.clear();
    cluster.pass(HEALTHY);
    let twelve = cluster.machine();
    let refused = cluster.add(leader, twelve, true);
    assert_eq!(refused, Err(RequestError::TooManyLearners.into()));
    cluster.promote(learner).unwrap();
    cluster.pass(TICK);
    assert!(!cluster.store(machine).status().is_learner);
    assert_eq!(cluster.voters(machine), 4);
}

#[test]
fn a_learner_that_lags_by_a_snapshot_stays_a_learner_over_restarts() {
    let mut cluster = Cluster::healthy(1);
    cluster.put(0, "k", "v").unwrap();
    let machine = cluster.machine();
    cluster.add(0, machine, true).unwrap();
    cluster.put(0, "k", "not needed").unwrap();
    cluster.join(0, machine);
    cluster.pass(Duration::from_secs(2));
    for number in [machine, 0] {
        cluster.crash(number);
        cluster.start(number);
        cluster.pass(Duration::from_secs(3));
        let view = cluster.members[machine].as_ref().unwrap().raft();
        assert_eq!((view.voters.len(), view.learners.len()), (1, 1));
    }
    assert_eq!(cluster.leader(), Some(0), "a learner stands for no election");
    assert_eq!(cluster.read(machine).unwrap(), "not needed");
}

#[test]
fn a_leader_that_is_removed_hands_over_first() {
    let mut cluster = Cluster::healthy(3);
    let leader = cluster.leader().unwrap();
    let term = cluster.store(leader).status().raft_term;
    let id = cluster.id(leader);
    assert_eq!(
        cluster.remove(leader, id).unwrap(),
        2,
        "the answer comes from itself"
    );
    let next = cluster.leader().unwrap();
    assert_ne!(next, leader);
    assert_eq!(
        cluster.store(next).status().raft_term.0,
        term.0 + 1,
        "without an election timeout"
    );
    cluster.pass(Duration::from_millis(300));
    assert!(cluster.removed(leader));
    cluster.put(next, "k", "v").unwrap();
    assert_eq!(cluster.voters(next), 2);
    // What it has on its disk is of no use any more.
    cluster.crash(leader);
    cluster.start(leader);
    cluster.pass(Duration::from_secs(1));
    assert!(cluster.removed(leader));
    cluster.put(next, "k", "w").unwrap();
    assert_eq!(cluster.leader(), Some(next));
}

#[test]
fn a_leader_that_alone_knows_of_its_removal_stays_until_another_does() {
    let mut cluster = Cluster::healthy(2);
    let leader = cluster.leader().unwrap();
    let other = 1 - leader;
    let id = cluster.id(leader);
    // Nothing that would let the other one lead arrives, and in the end nothing at all.
    let store = cluster.store(leader);
    let mut removal = Box::pin(async move { store.member_remove(id).await });
    let mut answer = None;
    for _ in 0..200 {
        answer = answer.or_else(|| poll(removal.as_mut()));
        let applied = cluster.voters_listed(leader) == 1;
        cluster.cut = if applied { vec![leader] } else { Vec::new() };
        if applied {
            break;
        }
        cluster.pass(TICK);
    }
    assert_eq!(cluster.voters_listed(leader), 1);
    // Over a restart too.
    for _ in 0..2 {
        cluster.pass(Duration::from_secs(2));
        assert!(!cluster.removed(leader));
        cluster.crash(leader);
        cluster.start(leader);
    }
    cluster.cut.clear();
    cluster.pass(Duration::from_secs(4));
    assert!(cluster.removed(leader));
    cluster.put(other, "k", "v").unwrap();
    assert_eq!(cluster.voters(other), 1);
}

#[test]
fn a_member_that_was_away_hears_of_its_removal_when_it_returns() {
    let mut cluster = Cluster::healthy(3);
    let leader = cluster.leader().unwrap();
    let away = cluster.follower();
    let id = cluster.id(away);
    cluster.crash(away);
    cluster.remove(leader, id).unwrap();
    cluster.pass(HEALTHY);
    cluster.start(away);
    cluster.pass(Duration::from_secs(3));
    assert!(cluster.removed(away));
    assert_eq!(cluster.leader(), Some(leader), "it disturbs nobody");
    let refused = cluster.remove(leader, id);
    assert_eq!(refused, Err(RequestError::MemberNotFound.into()));
}

#[test]
fn the_strict_checks_are_those_of_etcd() {
    let mut cluster = Cluster::new(3);
    cluster.pass(Duration::from_secs(1));
    let leader = cluster.leader().unwrap();
    let machine = cluster.machine();
    let unhealthy = Err(RequestError::ClusterUnhealthy.into());
    assert_eq!(
        cluster.add(leader, machine, false),
        unhealthy,
        "in the first five seconds"
    );
    assert_eq!(cluster.add(leader, machine, true), unhealthy, "learners too");
    cluster.pass(HEALTHY);
    let taken = cluster.add(leader, 1, false);
    assert_eq!(taken, Err(RequestError::PeerUrlExists.into()));
    let bad = cluster.store(leader);
    let bad = cluster.call(async move { bad.member_add(vec!["a:1".to_owned()], false).await });
    assert_eq!(bad.unwrap_err(), RequestError::MemberBadUrls.into());
    // Case 55: voters that never start.
    let unstarted = cluster.add(leader, machine, false).unwrap();
    let second = cluster.machine();
    cluster.add(leader, second, false).unwrap();
    let third = cluster.machine();
    let refused = cluster.add(leader, third, false);
    assert_eq!(refused, Err(RequestError::MemberNotEnoughStarted.into()));
    let other = cluster.id(cluster.follower());
    assert_eq!(
        cluster.remove(leader, other),
        Err(RequestError::MemberNotEnoughStarted.into())
    );
    assert_eq!(cluster.remove(leader, unstarted).unwrap(), 4);
    assert_eq!(
        cluster.remove(leader, unstarted),
        Err(RequestError::MemberNotFound.into())
    );
}

#[test]
fn changes_asked_for_at_once_are_made_one_after_the_other() {
    let mut cluster = Cluster::healthy(3);
    let leader = cluster.leader().unwrap();
    for number in 0..3 {
        cluster.settings[number].learners_max = 10;
        if number != leader {
            cluster.crash(number);
            cluster.start(number);
        }
    }
    cluster.pass(HEALTHY);
    let stores: Vec<_> = (0..3).map(|number| cluster.store(number)).collect();
    let mut calls: Vec<_> = (0..9)
        .map(|n| {
            let store = stores[n % 3].clone();
            Box::pin(async move { store.member_add(vec![url(50 + n)], false).await })
        })
        .collect();
    let mut answers = vec![None; calls.len()];
    for _ in 0..100 {
        for (call, answer) in calls.iter_mut().zip(&mut answers) {
            if answer.is_none() {
                *answer = poll(call.as_mut());
            }
        }
        cluster.pass(TICK);
    }
    // All were judged right before the first was made, and without the newcomers three are a quorum of up to five: then
    // nothing can be made any more.
    let made = answers
        .iter()
        .filter(|answer| matches!(answer, Some(Ok(_))))
        .count();
    assert!(answers.iter().all(Option::is_some), "{answers:?}");
    assert_eq!(made, 3, "{answers:?}");
}

#[test]
fn a_change_of_peer_urls_changes_no_vote() {
    let mut cluster = Cluster::healthy(3);
    let leader = cluster.leader().unwrap();
    let id = cluster.id(1);
    let store = cluster.store(leader);
    let update = |urls: Vec<String>| {
        let store = store.clone();
        async move { store.member_update(id, urls).await.map(|answer| answer.members) }
    };
    let taken = cluster.call(update(vec![url(2)]));
    assert_eq!(taken.unwrap_err(), RequestError::PeerUrlExists.into());
    let members = cluster.call(update(vec!["any words".to_owned()])).unwrap();
    assert!(members.iter().any(|member| member.peer_urls == ["any words"]));
    cluster.pass(Duration::from_secs(1));
    assert_eq!(cluster.voters(1), 3);
    cluster.crash(1);
    cluster.start(1);
    cluster.pass(Duration::from_secs(1));
    assert!(cluster.listed(1).iter().any(|(_, urls, _)| urls == "any words"));
}

#[test]
fn a_learner_that_has_caught_up_is_promoted_by_itself_where_that_is_wanted() {
    let mut cluster = Cluster::unelected(3, &|settings| settings.auto_promote = true);
    cluster.elect();
    cluster.pass(HEALTHY);
    let leader = cluster.leader().unwrap();
    cluster.put(leader, "k", "v").unwrap();
    let machine = cluster.machine();
    cluster.add(leader, machine, true).unwrap();
    cluster.pass(Duration::from_secs(3));
    assert_eq!(cluster.voters(leader), 3, "not before it is there");
    cluster.join(leader, machine);
    cluster.pass(Duration::from_secs(4));
    assert_eq!(cluster.voters(leader), 4);
    assert_eq!(cluster.read(machine).unwrap(), "v");
}

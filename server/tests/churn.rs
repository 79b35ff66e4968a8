//! The life of a cluster under load: 50 writing clients, 10 watchers and 5 readers over real processes while members
//! are restarted, lead in turn and lose their disks.
//!
//! Every acknowledged write is on every member with its revision, the revisions have no gap, each watcher sees every
//! revision exactly once and in order, no linearizable read is older than what was acknowledged before it began, and
//! all members have the same hash at the end.

#![allow(clippy::unwrap_used, reason = "a test that fails is to panic")]

mod harness;

use std::time::{Duration, Instant};

use harness::*;
use proto::etcdserverpb::MoveLeaderRequest;

const SIZE: Size = Size {
    writers: 50,
    watchers: 10,
    readers: 5,
};
const TRANSFERS: usize = 20;
/// Writes between two events: so many that every writer is at work again.
const BREATH: usize = 300;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_restart_lead_in_turn_and_lose_their_disks() {
    let mut life = Life::begin(3).await;
    life.roll_restart().await;
    life.move_leader(TRANSFERS).await;
    if runs_taffrail() {
        // With etcd this is no way to do it: a member that has forgotten its votes stops with "tocommit is out of range".
        life.lose_disks().await;
    }
    life.end().await;
}

/// A cluster with its clients.
struct Life {
    cluster: Cluster,
    crowd: Crowd,
    /// What was done, with the writes and the time that it took.
    chapters: Vec<(&'static str, usize, Duration)>,
}

impl Life {
    async fn begin(members: usize) -> Life {
        let cluster = Cluster::start(members).await;
        let founders = cluster.members().map(|member| cluster.server(member).endpoint());
        let endpoints: Vec<String> = founders.collect();
        let mut life = Life {
            crowd: Crowd::start(&SIZE, &endpoints),
            cluster,
            chapters: Vec::new(),
        };
        let chapter = life.open("at rest");
        life.crowd.get_on(4 * BREATH).await;
        life.close(chapter).await;
        life
    }

    /// Restarts one member after the other.
    async fn roll_restart(&mut self) {
        let chapter = self.open("roll-restart");
        for member in self.cluster.members() {
            let (status, _) = self.cluster.server_mut(member).terminate();
            if runs_taffrail() {
                assert!(status.success(), "{status}");
            }
            self.crowd.get_on(BREATH).await;
            self.cluster.run(member);
            self.crowd.get_on(BREATH).await;
        }
        self.close(chapter).await;
    }

    /// Has another member lead, so many times.
    async fn move_leader(&mut self, times: usize) {
        let chapter = self.open("leader transfers");
        for number in 0..times {
            let leader = self.cluster.leader().await;
            let others = self.cluster.others(leader);
            let target = others[number % others.len()];
            let request = MoveLeaderRequest {
                target_id: self.cluster.id(target),
            };
            let mut client = self.cluster.client(leader).maintenance.clone();
            client.move_leader(request).await.unwrap();
            self.crowd.get_on(BREATH).await;
        }
        self.close(chapter).await;
    }

    /// Gives each member an empty disk in turn.
    async fn lose_disks(&mut self) {
        let chapter = self.open("empty disks");
        for member in self.cluster.members() {
            self.cluster.lose_disk(member);
            self.crowd.audit(self.cluster.client(member)).await;
            self.crowd.get_on(BREATH).await;
        }
        self.close(chapter).await;
    }

    fn open(&self, name: &'static str) -> (&'static str, usize, Instant) {
        (name, self.crowd.writes(), Instant::now())
    }

    /// Notes what was done, once all members agree on a leader and one of them has been looked at.
    async fn close(&mut self, (name, writes, began): (&'static str, usize, Instant)) {
        self.chapters
            .push((name, self.crowd.writes() - writes, began.elapsed()));
        let leader = self.cluster.leader().await;
        let looked_at = (leader + 1) % self.cluster.members().len();
        self.crowd.audit(self.cluster.client(looked_at)).await;
    }

    async fn end(self) {
        self.cluster.leader().await;
        let clients: Vec<Client> = self
            .cluster
            .members()
            .map(|member| self.cluster.client(member).clone())
            .collect();
        self.crowd.finish(&clients).await;
        for (name, writes, took) in &self.chapters {
            let rate = *writes as f64 / took.as_secs_f64();
            println!("{name}: {writes} writes in {took:.1?}, {rate:.0} a second");
        }
    }
}

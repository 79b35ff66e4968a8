//! The life of a cluster under load: 50 writing clients, 10 watchers and 5 readers over real processes while members
//! are restarted, lead in turn, lose their disks, come, learn, are promoted, go, are replaced and backed up.
//!
//! Every acknowledged write is on every member with its revision, the revisions have no gap, each watcher sees every
//! revision exactly once and in order, no linearizable read is older than what was acknowledged before it began, and
//! all members have the same hash at the end.

#![allow(clippy::unwrap_used, reason = "a test that fails is to panic")]

mod harness;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use harness::*;
use proto::etcdserverpb::{MoveLeaderRequest, SnapshotRequest};
use tempfile::TempDir;

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
    let mut life = Life::begin(3, 0).await;
    life.roll_restart().await;
    life.move_leader(TRANSFERS).await;
    if runs_taffrail() {
        // With etcd this is no way to do it: a member that has forgotten its votes stops with "tocommit is out of range".
        life.lose_disks().await;
    }
    life.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_come_and_go() {
    let mut life = Life::begin(1, 5).await;
    life.grow("grow 1 to 3", [Role::Voter, Role::Learner]).await;
    life.grow("grow 3 to 5", [Role::Learner, Role::Voter]).await;
    life.shrink().await;
    life.replace().await;
    let backup = life.back_up().await;
    let history = life.end().await;
    if runs_taffrail() {
        // A real etcd leaves that to another program.
        restore(&backup, &history).await;
    }
}

/// What a member's backup is, and what it must hold.
struct Backup {
    file: PathBuf,
    acknowledged: BTreeMap<i64, Write>,
    _directory: TempDir,
}

/// Makes a new cluster of a backup, which must be the history up to some revision, with all that was acknowledged before
/// it began.
async fn restore(backup: &Backup, history: &BTreeMap<i64, Write>) {
    let mut server = Server::prepared(&[]);
    let peer_url = server.peer_url();
    let output = Command::new(program())
        .args(["snapshot", "restore"])
        .arg(&backup.file)
        .arg("--data-dir")
        .arg(server.data_dir())
        .args(["--initial-cluster", &format!("default={peer_url}")])
        .args(["--initial-advertise-peer-urls", &peer_url])
        .args(["--bump-revision", "0"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", output.status);
    server.run();
    let client = server.client().await;
    let mut held = BTreeMap::new();
    audit(&client, &backup.acknowledged, &mut held).await;
    let last = *held.last_key_value().expect("there were writes").0;
    assert!(
        held.iter().eq(history.range(..=last)),
        "the backup holds another history"
    );
    client.put("w/new", "cluster").await;
    println!("restored {} writes up to revision {last}", held.len());
}

/// As what a member comes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Voter,
    /// It is promoted as soon as it can be.
    Learner,
}

/// A cluster with its clients, and servers that are no members yet.
struct Life {
    cluster: Cluster,
    crowd: Crowd,
    spare: Vec<Server>,
    /// What was done, with the writes and the time that it took.
    chapters: Vec<(&'static str, usize, Duration)>,
}

impl Life {
    async fn begin(members: usize, spare: usize) -> Life {
        let cluster = Cluster::start(members).await;
        let spare: Vec<Server> = (0..spare).map(|_| Server::prepared(&[])).collect();
        let founders = cluster.members().map(|member| cluster.server(member).endpoint());
        let endpoints: Vec<String> = founders.chain(spare.iter().map(Server::endpoint)).collect();
        let mut life = Life {
            crowd: Crowd::start(&SIZE, &endpoints),
            cluster,
            spare,
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

    /// Adds members, one through the leader and the next through another one.
    async fn grow(&mut self, name: &'static str, roles: [Role; 2]) {
        let chapter = self.open(name);
        for (number, role) in roles.into_iter().enumerate() {
            let leader = self.cluster.leader().await;
            let members = self.cluster.members().len();
            self.join((leader + number) % members, role).await;
        }
        self.close(chapter).await;
    }

    async fn join(&mut self, through: usize, role: Role) {
        let server = self.spare.pop().expect("enough servers were prepared");
        let place = self.cluster.grow(through, server, role == Role::Learner).await;
        if role == Role::Learner {
            self.cluster.promote(through, place).await;
        }
        self.crowd.get_on(BREATH).await;
        self.crowd.audit(self.cluster.client(place)).await;
    }

    /// Removes the leader, and then a member that does not lead.
    async fn shrink(&mut self) {
        let chapter = self.open("shrink 5 to 3");
        let leader = self.cluster.leader().await;
        let follower = self.cluster.others(leader)[0];
        self.leave(follower, leader).await;
        let leader = self.cluster.leader().await;
        let follower = self.cluster.others(leader)[0];
        self.leave(leader, follower).await;
        self.close(chapter).await;
    }

    async fn leave(&mut self, through: usize, member: usize) {
        let (_, status) = self.cluster.shrink(through, member).await;
        assert!(status.success(), "{status}");
        self.crowd.get_on(BREATH).await;
    }

    /// Removes the leader by its own hand and adds a new member in its place.
    async fn replace(&mut self) {
        let chapter = self.open("replace a member");
        let leader = self.cluster.leader().await;
        self.leave(leader, leader).await;
        let leader = self.cluster.leader().await;
        self.join(leader, Role::Learner).await;
        self.close(chapter).await;
    }

    /// Saves a backup while everybody writes.
    async fn back_up(&mut self) -> Backup {
        let chapter = self.open("backup");
        let acknowledged = self.crowd.acknowledged();
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("backup.db");
        let follower = self.cluster.follower().await;
        let mut client = self.cluster.client(follower).maintenance.clone();
        let mut parts = client.snapshot(SnapshotRequest {}).await.unwrap().into_inner();
        let mut written = File::create(&file).unwrap();
        while let Some(part) = parts.message().await.unwrap() {
            written.write_all(&part.blob).unwrap();
        }
        self.crowd.get_on(BREATH).await;
        self.close(chapter).await;
        Backup {
            file,
            acknowledged,
            _directory: directory,
        }
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

    async fn end(self) -> BTreeMap<i64, Write> {
        self.cluster.leader().await;
        assert_eq!(self.cluster.members().len(), 3);
        let clients: Vec<Client> = self
            .cluster
            .members()
            .map(|member| self.cluster.client(member).clone())
            .collect();
        let history = self.crowd.finish(&clients).await;
        for (name, writes, took) in &self.chapters {
            let rate = *writes as f64 / took.as_secs_f64();
            println!("{name}: {writes} writes in {took:.1?}, {rate:.0} a second");
        }
        history
    }
}

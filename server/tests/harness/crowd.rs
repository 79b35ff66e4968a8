//! A crowd of writing, watching and reading clients, and the judgement over what they saw.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::ledger::{
    Ledger, Pace, Wanderer, Write, assert_only_what_was_written, audit, fingerprint, watch_all,
};
use super::{Client, PATIENCE};

/// How many clients of which kind there are.
pub(crate) struct Size {
    pub(crate) writers: usize,
    pub(crate) watchers: usize,
    pub(crate) readers: usize,
}

/// Clients at work.
pub(crate) struct Crowd {
    ledger: Arc<Ledger>,
    clients: Vec<JoinHandle<()>>,
    watchers: Vec<JoinHandle<Vec<u64>>>,
    /// The last revision that the watchers shall see.
    last: Arc<AtomicI64>,
    /// The history as it was at the last look.
    audited: BTreeMap<i64, Write>,
}

impl Crowd {
    /// Starts clients that go from one endpoint to another. Nobody needs to listen at all of them.
    pub(crate) fn start(size: &Size, endpoints: &[String]) -> Crowd {
        let ledger = Arc::new(Ledger::default());
        let connect = || endpoints.iter().map(|endpoint| Client::lazy(endpoint)).collect();
        let wanderer = |id, pace: Pace| Wanderer {
            id,
            clients: connect(),
            pace,
            stay: WRITES_PER_STAY,
            ledger: Arc::clone(&ledger),
        };
        let writers = (0..size.writers).map(|id| tokio::spawn(wanderer(id, PACE).write()));
        let readers = (0..size.readers).map(|id| tokio::spawn(wanderer(id, PACE).read(size.writers)));
        let clients = writers.chain(readers).collect();
        let last = Arc::new(AtomicI64::new(i64::MAX));
        let watchers = (0..size.watchers)
            .map(|id| tokio::spawn(watch_all(connect(), id % endpoints.len(), Arc::clone(&last))))
            .collect();
        Crowd {
            ledger,
            clients,
            watchers,
            last,
            audited: BTreeMap::new(),
        }
    }

    /// The number of acknowledged writes.
    pub(crate) fn writes(&self) -> usize {
        self.ledger.count()
    }

    /// Waits for so many more acknowledged writes.
    pub(crate) async fn get_on(&self, writes: usize) {
        let (before, start) = (self.writes(), Instant::now());
        while self.writes() < before + writes {
            let ended = self.clients.iter().filter(|client| client.is_finished()).count();
            let ended = ended
                + self
                    .watchers
                    .iter()
                    .filter(|watcher| watcher.is_finished())
                    .count();
            assert!(
                start.elapsed() < PATIENCE && ended == 0,
                "{} of {writes} writes after {:?}, {ended} clients have failed",
                self.writes() - before,
                start.elapsed()
            );
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Demands of a member that it holds everything that was acknowledged before this call.
    pub(crate) async fn audit(&mut self, client: &Client) {
        let acknowledged = self.ledger.acknowledged();
        audit(client, &acknowledged, &mut self.audited).await;
    }

    /// Everything that was acknowledged so far, by revision.
    pub(crate) fn acknowledged(&self) -> BTreeMap<i64, Write> {
        self.ledger.acknowledged()
    }

    /// Ends the clients and judges what they know against what each member holds from the first revision on. Returns
    /// that whole history.
    pub(crate) async fn finish(mut self, members: &[Client]) -> BTreeMap<i64, Write> {
        self.ledger.stop();
        for client in std::mem::take(&mut self.clients) {
            client.await.expect("no client failed");
        }
        let current = members[0].revision().await;
        self.last.store(current, Ordering::Relaxed);
        let acknowledged = self.ledger.acknowledged();
        for (number, member) in members.iter().enumerate() {
            let mut held = BTreeMap::new();
            audit(member, &acknowledged, &mut held).await;
            let changes = usize::try_from(current - 1).expect("revisions are positive");
            assert_eq!(held.len(), changes, "member {number}");
            assert_only_what_was_written(&self.ledger, &held);
            let known = held.range(..=self.audited.last_key_value().map_or(0, |(revision, _)| *revision));
            assert!(
                known.eq(self.audited.iter()),
                "member {number} holds another history"
            );
            self.audited = held;
        }
        assert_equal_hashes(members, current).await;
        // The wake-up for those that wait for an event behind the last one.
        members[0].put("w/end", "end").await;
        for (id, watcher) in self.watchers.into_iter().enumerate() {
            let seen = watcher.await.expect("no watcher failed");
            assert_eq!(seen.len(), self.audited.len(), "watcher {id}");
            assert!(
                seen.into_iter().eq(self.audited.values().map(fingerprint)),
                "watcher {id} saw other changes than the store holds"
            );
        }
        println!(
            "{} writes acknowledged, {current} revisions, {} linearizable reads",
            acknowledged.len(),
            self.ledger.reads()
        );
        self.audited
    }
}

/// Demands one hash of the history up to `revision`.
pub(crate) async fn assert_equal_hashes(members: &[Client], revision: i64) {
    let mut hashes = Vec::new();
    for member in members {
        // A linearizable read brings the member up to date.
        assert!(member.revision().await >= revision);
        let answer = member.hash_kv(revision).await;
        hashes.push((answer.hash_revision, answer.compact_revision, answer.hash));
    }
    hashes.dedup();
    assert_eq!(hashes.len(), 1, "{hashes:?}");
}

/// A deadline long enough for a change of leaders.
const PACE: Pace = Pace {
    deadline: 500..2500,
    rest: 20..100,
};
const WRITES_PER_STAY: usize = 25;

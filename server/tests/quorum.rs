//! Three members under load while they die, stand still and lose each other: 100 writers, 10 watchers and 10 readers
//! over all members; the leader is killed 20 times, all three are killed 5 times, the leader is suspended 5 times and
//! cut off from the others 5 times.
//!
//! Every acknowledged write is on every member with its revision, the revisions have no gap, each watcher sees every
//! revision exactly once and in order, no linearizable read is older than what was acknowledged before it began, and
//! writes that begin after a fault are acknowledged again within 2 election timeouts in the median and 5 at worst,
//! whichever surviving member they go through.
//!
//! The order of faults and the moments between them are drawn from a seed; `TAFFRAIL_TEST_SEED` gives another one.

#![allow(clippy::unwrap_used, reason = "a test that fails is to panic")]

mod harness;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use harness::*;
use tokio::task::JoinHandle;

const MEMBERS: usize = 3;
const WRITERS: usize = 100;
const WATCHERS: usize = 10;
const READERS: usize = 10;
const LEADER_KILLS: usize = 20;
const FULL_KILLS: usize = 5;
const SUSPENSIONS: usize = 5;
const PARTITIONS: usize = 5;
const SEED: u64 = 355;
/// The default of the flag.
const ELECTION_TIMEOUT: Duration = Duration::from_millis(1000);
/// At least so long is the leader suspended or cut off: two more election timeouts than the others need to miss it.
const STANDSTILL: Duration = Duration::from_millis(2500);

const WRITER_PACE: Pace = Pace {
    deadline: 300..1500,
    rest: 20..100,
};
/// Some reads wait long enough to be answered by a leader that slept meanwhile.
const READER_PACE: Pace = Pace {
    deadline: 300..6000,
    rest: 5..20,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    KillLeader,
    KillAll,
    SuspendLeader,
    CutLeaderOff(Cut),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fault::KillLeader => "kill -9 of the leader",
            Fault::KillAll => "kill -9 of all",
            Fault::SuspendLeader => "SIGSTOP of the leader",
            Fault::CutLeaderOff(_) => "partition of the leader",
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thirty_five_faults_lose_and_repeat_nothing() {
    let seed = std::env::var("TAFFRAIL_TEST_SEED").map_or(SEED, |seed| seed.parse().unwrap());
    let mut random = Random::new(seed);
    let mut run = Run::start().await;
    for fault in schedule(&mut random) {
        run.settle(random.below(400)).await;
        run.fault(fault).await;
        let survivor = usize::try_from(random.below(MEMBERS as u64)).unwrap();
        run.audit(survivor).await;
    }
    let report = run.report();
    run.finish().await;
    report.judge();
}

/// All faults in an order drawn once.
fn schedule(random: &mut Random) -> Vec<Fault> {
    let cut = |number| if number % 2 == 0 { Cut::Stall } else { Cut::Close };
    let mut faults = vec![Fault::KillLeader; LEADER_KILLS];
    faults.extend([Fault::KillAll; FULL_KILLS]);
    faults.extend([Fault::SuspendLeader; SUSPENSIONS]);
    faults.extend((0..PARTITIONS).map(|number| Fault::CutLeaderOff(cut(number))));
    for last in (1..faults.len()).rev() {
        let other = usize::try_from(random.below(last as u64 + 1)).unwrap();
        faults.swap(last, other);
    }
    faults
}

/// A cluster with its clients.
struct Run {
    cluster: Cluster,
    ledger: Arc<Ledger>,
    clients: Vec<JoinHandle<()>>,
    watchers: Vec<JoinHandle<Vec<u64>>>,
    /// The last revision that the watchers shall see.
    last: Arc<AtomicI64>,
    audited: BTreeMap<i64, Write>,
    /// What each fault was and when service was back: through the first member, and through the last that survived.
    outages: Vec<(Fault, Duration, Duration)>,
}

impl Run {
    async fn start() -> Run {
        let cluster = Cluster::start_behind_proxies(MEMBERS, &[]).await;
        let ledger = Arc::new(Ledger::default());
        let wanderer = |id, pace: Pace| Wanderer {
            id,
            clients: cluster.new_clients(),
            pace,
            stay: 0,
            ledger: Arc::clone(&ledger),
        };
        let writers = (0..WRITERS).map(|id| tokio::spawn(wanderer(id, WRITER_PACE).write()));
        let readers = (0..READERS).map(|id| tokio::spawn(wanderer(id, READER_PACE).read(WRITERS)));
        let clients = writers.chain(readers).collect();
        let last = Arc::new(AtomicI64::new(i64::MAX));
        let watchers = (0..WATCHERS)
            .map(|id| tokio::spawn(watch_all(cluster.new_clients(), id % MEMBERS, Arc::clone(&last))))
            .collect();
        Run {
            cluster,
            ledger,
            clients,
            watchers,
            last,
            audited: BTreeMap::new(),
            outages: Vec::new(),
        }
    }

    /// Waits until the writers get on, and so much longer: the moment of a fault is what varies.
    async fn settle(&self, milliseconds: u64) {
        let before = self.ledger.count();
        self.until("the writers get on", || {
            self.ledger.count() >= before + 2 * WRITERS
        })
        .await;
        tokio::time::sleep(Duration::from_millis(100 + milliseconds)).await;
    }

    /// One fault from its beginning until all members serve again.
    async fn fault(&mut self, fault: Fault) {
        let leader = self.cluster.leader().await;
        let mut survivors = self.cluster.others(leader);
        match fault {
            Fault::KillLeader => self.cluster.kill(leader),
            Fault::SuspendLeader => self.cluster.server(leader).suspend(),
            Fault::CutLeaderOff(cut) => self.cluster.isolate(leader, cut),
            Fault::KillAll => {
                survivors.push(leader);
                for member in self.cluster.members() {
                    self.cluster.kill(member);
                }
            }
        }
        self.ledger.begin_outage();
        let began = Instant::now();
        if fault == Fault::KillAll {
            self.cluster.run_all();
        }
        self.until("writes are acknowledged again", || {
            let back = self.ledger.back();
            survivors.iter().all(|member| back.contains_key(member))
        })
        .await;
        let back = self.ledger.back();
        let first = *back.values().min().expect("a survivor");
        let last = *survivors
            .iter()
            .map(|member| &back[member])
            .max()
            .expect("a survivor");
        self.outages.push((fault, first, last));

        match fault {
            Fault::KillLeader => self.cluster.run(leader),
            Fault::KillAll => {}
            Fault::SuspendLeader | Fault::CutLeaderOff(_) => {
                tokio::time::sleep(STANDSTILL.saturating_sub(began.elapsed())).await;
                self.cluster.server(leader).resume();
                self.cluster.heal();
                self.cluster.server_mut(leader).wait_until_ready();
            }
        }
    }

    async fn audit(&mut self, member: usize) {
        self.cluster.leader().await;
        let acknowledged = self.ledger.acknowledged();
        let client = self.cluster.server(member).client().await;
        audit(&client, &acknowledged, &mut self.audited).await;
    }

    async fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let start = Instant::now();
        while !holds() {
            let ended = self.clients.iter().filter(|client| client.is_finished()).count();
            assert!(
                start.elapsed() < PATIENCE && ended == 0,
                "{what}: not after {:?}, {ended} clients have failed, outages so far: {:?}",
                start.elapsed(),
                self.outages
            );
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn report(&self) -> Report {
        Report(self.outages.clone())
    }

    /// Ends the clients and judges what they know against what every member holds.
    async fn finish(mut self) {
        self.ledger.stop();
        for client in std::mem::take(&mut self.clients) {
            client.await.unwrap();
        }
        let leader = self.cluster.leader().await;
        let current = self.cluster.client(leader).revision().await;
        self.last.store(current, Ordering::Relaxed);
        let acknowledged = self.ledger.acknowledged();
        for member in self.cluster.members() {
            let mut held = BTreeMap::new();
            let client = self.cluster.server(member).client().await;
            audit(&client, &acknowledged, &mut held).await;
            assert_eq!(held.len(), usize::try_from(current - 1).unwrap(), "m{member}");
            assert_only_what_was_written(&self.ledger, &held);
            if self.audited.len() == held.len() {
                assert!(held == self.audited, "m{member} holds another history");
            }
            self.audited = held;
        }
        // The wake-up for those that wait for an event behind the last one.
        self.cluster.client(leader).put("w/end", "end").await;
        for (id, watcher) in self.watchers.into_iter().enumerate() {
            let seen = watcher.await.unwrap();
            assert_eq!(seen.len(), self.audited.len(), "watcher {id}");
            assert!(
                seen.into_iter().eq(self.audited.values().map(fingerprint)),
                "watcher {id} saw other changes than the store holds"
            );
        }
        println!(
            "{} writes acknowledged, {current} revisions, {} linearizable reads, {WATCHERS} watchers",
            acknowledged.len(),
            self.ledger.reads()
        );
    }
}

/// How long service was away.
struct Report(Vec<(Fault, Duration, Duration)>);

impl Report {
    fn judge(&self) {
        let kinds = [
            "kill -9 of the leader",
            "kill -9 of all",
            "SIGSTOP of the leader",
            "partition of the leader",
        ];
        for kind in kinds {
            let of_kind = |(fault, _, _): &&(Fault, Duration, Duration)| fault.to_string() == kind;
            let outages: Vec<_> = self.0.iter().filter(of_kind).copied().collect();
            show(kind, &outages);
        }
        let (median, worst) = show("all", &self.0);
        assert!(
            median <= 2 * ELECTION_TIMEOUT,
            "back after {median:?} in the median: {:?}",
            self.0
        );
        assert!(
            worst <= 5 * ELECTION_TIMEOUT,
            "back after {worst:?} at worst: {:?}",
            self.0
        );
    }
}

/// Prints the median and the worst of outages; returns those of the last survivor.
fn show(kind: &str, outages: &[(Fault, Duration, Duration)]) -> (Duration, Duration) {
    let sorted = |mut times: Vec<Duration>| {
        times.sort();
        (times[times.len() / 2], times[times.len() - 1])
    };
    let first = sorted(outages.iter().map(|(_, first, _)| *first).collect());
    let last = sorted(outages.iter().map(|(_, _, last)| *last).collect());
    println!(
        "{kind}, {} times: a write is acknowledged after {:?} in the median and {:?} at worst, through every \
         surviving member after {:?} and {:?}",
        outages.len(),
        first.0,
        first.1,
        last.0,
        last.1
    );
    last
}

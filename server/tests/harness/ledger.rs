//! What writing, reading and watching clients know while servers die under them, and the judgement over it: every
//! acknowledged write is there with its revision, revisions have no gap, nothing is done twice, each watcher sees
//! every revision once and in order, no linearizable read is stale.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{Hash as _, Hasher as _};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use proto::etcdserverpb::watch_request::RequestUnion;
use proto::etcdserverpb::{PutResponse, RangeRequest, WatchCreateRequest};
use proto::mvccpb::event::EventType;
use tonic::{Request, Status};

use super::requests::{get, get_prefix, header_revision, put, text, watch_prefix};
use super::{Client, Random, WatchStream};

/// A key under `w/` and a value that no other write has.
pub(crate) type Write = (String, String);

/// What the writers know: which writes were acknowledged, and which may or may not have been done.
#[derive(Default)]
pub(crate) struct Ledger {
    /// By the revision of the answer.
    acknowledged: Mutex<BTreeMap<i64, Write>>,
    unanswered: Mutex<HashSet<Write>>,
    /// The newest acknowledged revision of each key.
    newest: Mutex<HashMap<String, i64>>,
    newest_of_all: AtomicI64,
    outage: Mutex<Option<Outage>>,
    reads: AtomicUsize,
    stop: AtomicBool,
}

/// Since when something is broken, and when writes that began later were first acknowledged, by member.
struct Outage {
    since: Instant,
    back: BTreeMap<usize, Duration>,
}

impl Ledger {
    pub(crate) fn acknowledged(&self) -> BTreeMap<i64, Write> {
        lock(&self.acknowledged).clone()
    }

    /// The number of acknowledged writes.
    pub(crate) fn count(&self) -> usize {
        lock(&self.acknowledged).len()
    }

    /// The number of reads that were answered.
    pub(crate) fn reads(&self) -> usize {
        self.reads.load(Ordering::Relaxed)
    }

    /// Has every client end after what it is at.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Begins to measure how long it takes until writes that begin from now on are acknowledged.
    pub(crate) fn begin_outage(&self) {
        *lock(&self.outage) = Some(Outage {
            since: Instant::now(),
            back: BTreeMap::new(),
        });
    }

    /// How long it took until the first such write through each member.
    pub(crate) fn back(&self) -> BTreeMap<usize, Duration> {
        lock(&self.outage)
            .as_ref()
            .map(|outage| outage.back.clone())
            .unwrap_or_default()
    }

    fn acknowledge(&self, write: Write, revision: i64, member: usize, began: Instant) {
        if let Some(outage) = lock(&self.outage).as_mut()
            && began >= outage.since
        {
            let took = outage.since.elapsed();
            outage.back.entry(member).or_insert(took);
        }
        lock(&self.newest)
            .entry(write.0.clone())
            .and_modify(|newest| *newest = revision.max(*newest))
            .or_insert(revision);
        self.newest_of_all.fetch_max(revision, Ordering::Relaxed);
        let taken = lock(&self.acknowledged).insert(revision, write);
        assert_eq!(taken, None, "revision {revision} was acknowledged twice");
    }
}

/// How long clients wait for an answer, and how long they rest after one, in milliseconds; both are drawn anew each
/// time. (Clients that all waited equally long would move in step.)
#[derive(Clone)]
pub(crate) struct Pace {
    pub(crate) deadline: Range<u64>,
    pub(crate) rest: Range<u64>,
}

impl Pace {
    fn draw(random: &mut Random, from: &Range<u64>) -> Duration {
        let width = from.end.saturating_sub(from.start).max(1);
        Duration::from_millis(from.start + random.below(width))
    }

    async fn rest(&self, random: &mut Random) {
        let rest = Pace::draw(random, &self.rest);
        // Even a sleep of nothing takes the rest of a millisecond.
        if !rest.is_zero() {
            tokio::time::sleep(rest).await;
        }
    }
}

/// A client with a connection to each member, which stays with one until that fails it, or for its time.
pub(crate) struct Wanderer {
    pub(crate) id: usize,
    pub(crate) clients: Vec<Client>,
    pub(crate) pace: Pace,
    /// After so many writes through one member it moves on to the next, so that those which come back or are new get
    /// their share; 0 is never.
    pub(crate) stay: usize,
    pub(crate) ledger: Arc<Ledger>,
}

impl Wanderer {
    /// Puts unique values to its own few keys, over every fault, until told to stop.
    pub(crate) async fn write(self) {
        let mut random = Random::new(self.id as u64);
        let mut member = self.id % self.clients.len();
        let mut last = 0;
        let mut stayed = 0;
        for number in 0.. {
            if self.ledger.stop.load(Ordering::Relaxed) {
                return;
            }
            let write = (
                format!("w/{}/{}", self.id, number % KEYS),
                format!("{}-{number}", self.id),
            );
            let deadline = Pace::draw(&mut random, &self.pace.deadline);
            let began = Instant::now();
            match try_put(&self.clients[member], &write, deadline).await {
                Ok(answer) => {
                    let revision = header_revision(&answer.header);
                    assert!(
                        revision > last,
                        "writer {} was answered {revision} after {last}",
                        self.id
                    );
                    last = revision;
                    self.ledger.acknowledge(write, revision, member, began);
                    stayed += 1;
                    if stayed == self.stay {
                        stayed = 0;
                        member = (member + 1) % self.clients.len();
                    }
                    self.pace.rest(&mut random).await;
                }
                Err(_) => {
                    lock(&self.ledger.unanswered).insert(write);
                    stayed = 0;
                    member = (member + 1) % self.clients.len();
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
        }
    }

    /// Reads keys of the writers through members in turn, and demands that no answer is older than what had been
    /// acknowledged when the read began.
    pub(crate) async fn read(self, writers: usize) {
        let mut random = Random::new(self.id as u64);
        for member in (0..self.clients.len()).cycle().skip(self.id) {
            if self.ledger.stop.load(Ordering::Relaxed) {
                return;
            }
            let key = format!("w/{}/{}", random.below(writers as u64), random.below(KEYS));
            let newest = lock(&self.ledger.newest).get(&key).copied().unwrap_or(0);
            let newest_of_all = self.ledger.newest_of_all.load(Ordering::Relaxed);
            let deadline = Pace::draw(&mut random, &self.pace.deadline);
            let read = within(deadline, get(&key), |request| {
                let mut kv = self.clients[member].kv.clone();
                async move { kv.range(request).await }
            });
            match read.await {
                Ok(answer) => {
                    let revision = header_revision(&answer.header);
                    assert!(
                        revision >= newest_of_all,
                        "a stale read at revision {revision}, {newest_of_all} was acknowledged before"
                    );
                    let read = answer.kvs.first().map_or(0, |kv| kv.mod_revision);
                    assert!(
                        read >= newest,
                        "a stale read: {key} of revision {read}, {newest} was acknowledged before"
                    );
                    self.ledger.reads.fetch_add(1, Ordering::Relaxed);
                    self.pace.rest(&mut random).await;
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    }
}

async fn try_put(client: &Client, write: &Write, deadline: Duration) -> Result<PutResponse, Status> {
    within(deadline, put(&write.0, &write.1), |request| {
        let mut kv = client.kv.clone();
        async move { kv.put(request).await }
    })
    .await
}

/// Makes a call whose deadline the server knows too. It holds also where the call cannot even be sent.
async fn within<M, A, F>(
    deadline: Duration,
    message: M,
    call: impl FnOnce(Request<M>) -> F,
) -> Result<A, Status>
where
    F: Future<Output = Result<tonic::Response<A>, Status>>,
{
    let mut request = Request::new(message);
    request.set_timeout(deadline);
    match tokio::time::timeout(deadline, call(request)).await {
        Ok(answer) => answer.map(tonic::Response::into_inner),
        Err(_) => Err(Status::deadline_exceeded("the client's own deadline")),
    }
}

/// Watches the writers' keys from the first revision on, by one member until its stream breaks, then by the next from
/// behind the last event. Ends when it has seen revision `last`, and returns the fingerprint of each revision.
pub(crate) async fn watch_all(clients: Vec<Client>, first: usize, last: Arc<AtomicI64>) -> Vec<u64> {
    let mut seen = Vec::new();
    let mut next = 2;
    for client in clients.iter().cycle().skip(first) {
        let mut stream = WatchStream::open(client);
        let request = WatchCreateRequest {
            start_revision: next,
            ..watch_prefix("w/")
        };
        stream.send(RequestUnion::CreateRequest(request));
        while let Some(Ok(response)) = stream.next_result().await {
            assert!(!response.canceled, "{response:?}");
            for event in &response.events {
                let kv = event.kv.as_ref().expect("an event has a key");
                if next > last.load(Ordering::Relaxed) {
                    return seen;
                }
                assert_eq!(
                    (event.r#type(), kv.mod_revision),
                    (EventType::Put, next),
                    "the next change in order"
                );
                seen.push(fingerprint(&(text(&kv.key), text(&kv.value))));
                next += 1;
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    unreachable!("a cycle over clients does not end")
}

/// What stands for a write where whole ones would take too much memory.
pub(crate) fn fingerprint(write: &Write) -> u64 {
    let mut hasher = DefaultHasher::new();
    write.hash(&mut hasher);
    hasher.finish()
}

/// Reads the history behind what is `audited` from the store, which must be without gaps and hold what was
/// acknowledged; and the newest state of each key must follow from it.
pub(crate) async fn audit(
    client: &Client,
    acknowledged: &BTreeMap<i64, Write>,
    audited: &mut BTreeMap<i64, Write>,
) {
    let current = client.revision().await;
    let newest = acknowledged.last_key_value().map_or(1, |(revision, _)| *revision);
    assert!(
        current >= newest,
        "the store is at {current}, revision {newest} was acknowledged"
    );
    let first = audited.last_key_value().map_or(2, |(revision, _)| revision + 1);
    let request = WatchCreateRequest {
        start_revision: first,
        ..watch_prefix("w/")
    };
    let (mut stream, _) = WatchStream::with(client, request).await;
    let mut next = first;
    while next <= current {
        for event in stream.next().await.events {
            let kv = event.kv.expect("an event has a key");
            assert_eq!(kv.mod_revision, next, "a gap or a repetition in the history");
            audited.insert(next, (text(&kv.key), text(&kv.value)));
            next += 1;
        }
    }
    for (revision, write) in acknowledged.range(first..) {
        assert_eq!(
            audited.get(revision),
            Some(write),
            "acknowledged at revision {revision}"
        );
    }
    let newest: BTreeMap<&String, (i64, &String)> = audited
        .range(..=current)
        .map(|(revision, (key, value))| (key, (*revision, value)))
        .collect();
    let state = client
        .range(RangeRequest {
            revision: current,
            ..get_prefix("w/")
        })
        .await;
    assert_eq!(state.kvs.len(), newest.len());
    for (kv, (key, (revision, value))) in state.kvs.iter().zip(&newest) {
        let got = (text(&kv.key), kv.mod_revision, text(&kv.value));
        assert_eq!(got, ((*key).clone(), *revision, (*value).clone()));
    }
}

/// Each revision comes from a writer, and no write was done twice.
pub(crate) fn assert_only_what_was_written(ledger: &Ledger, audited: &BTreeMap<i64, Write>) {
    let acknowledged = lock(&ledger.acknowledged);
    let unanswered = lock(&ledger.unanswered);
    let mut done = HashSet::new();
    for (revision, write) in audited {
        assert!(done.insert(write), "{write:?} was done twice");
        let known = acknowledged.get(revision) == Some(write) || unanswered.contains(write);
        assert!(known, "revision {revision} holds {write:?}, which nobody wrote");
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no client panicked")
}

/// Keys of one writer.
const KEYS: u64 = 3;

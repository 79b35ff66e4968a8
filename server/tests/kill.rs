//! `kill -9` under load: 50 writers and 5 watchers, 20 times. Every acknowledged write is there with its revision, the
//! revisions have no gap, and each watcher, created again after each kill from the revision after the last it saw,
//! sees every revision exactly once and in order.

mod harness;

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use harness::*;
use proto::etcdserverpb::WatchCreateRequest;
use proto::mvccpb::event::EventType;

const WRITERS: usize = 50;
const WATCHERS: usize = 5;
const KILLS: usize = 20;
const CONNECTIONS: usize = 5;
const SEED: u64 = 20;

/// What the writers know: which writes were acknowledged, and which may or may not have been done.
#[derive(Default)]
struct Ledger {
    /// Key and value by the revision of the answer.
    acknowledged: Mutex<BTreeMap<i64, (String, String)>>,
    unanswered: Mutex<HashSet<(String, String)>>,
    stop: AtomicBool,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_kills_lose_and_repeat_nothing() {
    let mut server = Server::start();
    let mut random = Random::new(SEED);
    let ledger = Arc::new(Ledger::default());
    let clients: Vec<Client> = (0..CONNECTIONS)
        .map(|_| Client::lazy(&server.endpoint()))
        .collect();
    let writers: Vec<_> = (0..WRITERS)
        .map(|id| tokio::spawn(write(id, clients[id % CONNECTIONS].clone(), Arc::clone(&ledger))))
        .collect();
    let last = Arc::new(AtomicI64::new(i64::MAX));
    let watchers: Vec<_> = (0..WATCHERS)
        .map(|_| tokio::spawn(watch(Client::lazy(&server.endpoint()), Arc::clone(&last))))
        .collect();

    let mut audited = BTreeMap::new();
    for round in 0..KILLS {
        let before = ledger.acknowledged.lock().expect("no writer panicked").len();
        let start = Instant::now();
        while ledger.acknowledged.lock().expect("no writer panicked").len() < before + WRITERS {
            assert!(
                start.elapsed() < PATIENCE,
                "the writers do not get on after kill {round}"
            );
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // Under load for a drawn time: the moment of the kill is what varies.
        tokio::time::sleep(Duration::from_millis(100 + random.below(500))).await;
        let acknowledged = {
            server.kill();
            ledger.acknowledged.lock().expect("no writer panicked").clone()
        };
        server.run();
        audit(&server, &acknowledged, &mut audited).await;
    }

    ledger.stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    let current = server.client().await.revision().await;
    last.store(current, Ordering::Relaxed);
    let acknowledged = ledger.acknowledged.lock().expect("no writer panicked").clone();
    audit(&server, &acknowledged, &mut audited).await;
    assert_eq!(audited.len(), usize::try_from(current - 1).unwrap());
    assert_only_what_was_written(&ledger, &acknowledged, &audited);
    for (id, watcher) in watchers.into_iter().enumerate() {
        // The wake-up for those that wait for an event behind the last one.
        server.client().await.put("w/end", "end").await;
        let seen = watcher.await.unwrap();
        assert_eq!(seen.len(), audited.len(), "watcher {id}");
        assert!(
            seen.iter().eq(audited.values()),
            "watcher {id} saw other changes than the store holds"
        );
    }
    println!(
        "{} writes acknowledged, {current} revisions, {KILLS} kills",
        acknowledged.len()
    );
}

/// One writer: it puts unique values to its own few keys, over every restart, until told to stop.
async fn write(id: usize, client: Client, ledger: Arc<Ledger>) {
    let mut last = 0;
    for number in 0.. {
        if ledger.stop.load(Ordering::Relaxed) {
            return;
        }
        let write = (format!("w/{id}/{}", number % 3), format!("{id}-{number}"));
        match client.try_put(put(&write.0, &write.1)).await {
            Ok(answer) => {
                let revision = header_revision(&answer.header);
                assert!(
                    revision > last,
                    "writer {id} was answered {revision} after {last}"
                );
                last = revision;
                let taken = ledger
                    .acknowledged
                    .lock()
                    .expect("no writer panicked")
                    .insert(revision, write);
                assert_eq!(taken, None, "revision {revision} was acknowledged twice");
            }
            Err(_) => {
                ledger
                    .unanswered
                    .lock()
                    .expect("no writer panicked")
                    .insert(write);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }
}

/// One watcher from the first revision on; a broken stream is replaced by one that starts behind the last event. Ends
/// when it has seen revision `last`, and returns all it saw.
async fn watch(client: Client, last: Arc<AtomicI64>) -> Vec<(String, String)> {
    let mut seen = Vec::new();
    let mut next = 2;
    loop {
        let mut stream = WatchStream::open(&client);
        let request = WatchCreateRequest {
            start_revision: next,
            ..watch_prefix("w/")
        };
        stream.send(proto::etcdserverpb::watch_request::RequestUnion::CreateRequest(
            request,
        ));
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
                seen.push((text(&kv.key), text(&kv.value)));
                next += 1;
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Reads the history behind what is `audited` from the store, which must be without gaps and hold what was
/// acknowledged; and the newest state of each key must follow from it.
async fn audit(
    server: &Server,
    acknowledged: &BTreeMap<i64, (String, String)>,
    audited: &mut BTreeMap<i64, (String, String)>,
) {
    let client = server.client().await;
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
    let (mut stream, _) = WatchStream::with(&client, request).await;
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
        .range(proto::etcdserverpb::RangeRequest {
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
fn assert_only_what_was_written(
    ledger: &Ledger,
    acknowledged: &BTreeMap<i64, (String, String)>,
    audited: &BTreeMap<i64, (String, String)>,
) {
    let unanswered = ledger.unanswered.lock().expect("no writer panicked");
    let mut done = HashSet::new();
    for (revision, write) in audited {
        assert!(done.insert(write), "{write:?} was done twice");
        let known = acknowledged.get(revision) == Some(write) || unanswered.contains(write);
        assert!(known, "revision {revision} holds {write:?}, which nobody wrote");
    }
}

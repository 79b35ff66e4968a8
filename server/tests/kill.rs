//! `kill -9` under load: 50 writers and 5 watchers, 20 times. Every acknowledged write is there with its revision, the
//! revisions have no gap, and each watcher, created again after each kill from the revision after the last it saw,
//! sees every revision exactly once and in order.

mod harness;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use harness::*;

const WRITERS: usize = 50;
const WATCHERS: usize = 5;
const KILLS: usize = 20;
const CONNECTIONS: usize = 5;
const SEED: u64 = 20;
/// Without rest, and with a deadline that is only for a hang.
const PACE: Pace = Pace {
    deadline: 60_000..60_000,
    rest: 0..0,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_kills_lose_and_repeat_nothing() {
    let mut server = Server::start();
    let mut random = Random::new(SEED);
    let ledger = Arc::new(Ledger::default());
    let clients: Vec<Client> = (0..CONNECTIONS)
        .map(|_| Client::lazy(&server.endpoint()))
        .collect();
    let writers: Vec<_> = (0..WRITERS)
        .map(|id| {
            let writer = Wanderer {
                id,
                clients: vec![clients[id % CONNECTIONS].clone()],
                pace: PACE,
                stay: 0,
                ledger: Arc::clone(&ledger),
            };
            tokio::spawn(writer.write())
        })
        .collect();
    let last = Arc::new(AtomicI64::new(i64::MAX));
    let watchers: Vec<_> = (0..WATCHERS)
        .map(|_| {
            tokio::spawn(watch_all(
                vec![Client::lazy(&server.endpoint())],
                0,
                Arc::clone(&last),
            ))
        })
        .collect();

    let mut audited = BTreeMap::new();
    for round in 0..KILLS {
        let before = ledger.count();
        let start = Instant::now();
        while ledger.count() < before + WRITERS {
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
            ledger.acknowledged()
        };
        server.run();
        audit(&server.client().await, &acknowledged, &mut audited).await;
    }

    ledger.stop();
    for writer in writers {
        writer.await.unwrap();
    }
    let current = server.client().await.revision().await;
    last.store(current, Ordering::Relaxed);
    let acknowledged = ledger.acknowledged();
    audit(&server.client().await, &acknowledged, &mut audited).await;
    assert_eq!(audited.len(), usize::try_from(current - 1).unwrap());
    assert_only_what_was_written(&ledger, &audited);
    for (id, watcher) in watchers.into_iter().enumerate() {
        // The wake-up for those that wait for an event behind the last one.
        server.client().await.put("w/end", "end").await;
        let seen = watcher.await.unwrap();
        assert_eq!(seen.len(), audited.len(), "watcher {id}");
        assert!(
            seen.into_iter().eq(audited.values().map(fingerprint)),
            "watcher {id} saw other changes than the store holds"
        );
    }
    println!(
        "{} writes acknowledged, {current} revisions, {KILLS} kills",
        acknowledged.len()
    );
}

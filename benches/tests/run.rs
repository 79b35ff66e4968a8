//! Whole runs against a server in the same process: what is sent, what is counted.

#![expect(clippy::unwrap_used, reason = "helpers of tests count as tests")]

mod fake;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use benches::report::Report;
use benches::spec::{KeySpace, Kind, Limit, Spec};
use benches::{Error, run};
use fake::Fake;

fn spec(kind: Kind) -> Spec {
    Spec {
        endpoints: vec![],
        clients: 4,
        conns: 2,
        limit: Limit::Total(50),
        warmup: Duration::ZERO,
        prefill: kind.reads_keys(),
        keys: KeySpace {
            size: 5,
            count: 20,
            sequential: true,
        },
        value_size: 16,
        seed: 1,
        pids: vec![std::process::id()],
        kind,
    }
}

async fn measure(fake: &Arc<Fake>, mut spec: Spec) -> Result<Report, Error> {
    let address = fake::serve(Arc::clone(fake)).await;
    spec.endpoints = vec![address.parse().unwrap()];
    run::run(&spec, false).await
}

#[tokio::test]
async fn puts_go_through_the_key_space_in_order() {
    let fake = Arc::new(Fake::default());
    let report = measure(&fake, spec(Kind::Put)).await.unwrap();
    assert_eq!((report.operations, report.errors), (50, 0));
    assert_eq!(fake.puts.load(Ordering::SeqCst), 50);
    let data = fake.data.lock().unwrap();
    let keys: Vec<_> = (0..20).map(|number| format!("{number:05}")).collect();
    assert!(data.keys().eq(keys.iter().map(String::as_bytes)));
    assert!(data.values().all(|value| value.len() == 16));
    assert!(report.server_peak_rss_bytes.is_some_and(|bytes| bytes > 0));
    assert!(report.server_cpu_us_per_operation.is_some());
    assert!(report.p50_ms > 0.0 && report.p50_ms <= report.p99_ms);
    assert!(report.p99_ms <= report.p999_ms);
}

#[tokio::test]
async fn loads_that_read_find_the_keys_that_were_written_before() {
    for kind in [
        Kind::Range { serializable: true },
        Kind::List { serializable: false },
    ] {
        let fake = Arc::new(Fake::default());
        let report = measure(&fake, spec(kind)).await.unwrap();
        assert_eq!((report.operations, report.errors), (50, 0), "{kind:?}");
        assert_eq!(fake.puts.load(Ordering::SeqCst), 20);
        assert_eq!(fake.ranges.load(Ordering::SeqCst), 50);
        assert!(fake.leases.lock().unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_warm_up_is_not_counted() {
    let fake = Arc::new(Fake::default());
    let mut spec = spec(Kind::Txn {
        read_percent: 50,
        range_limit: 10,
    });
    spec.warmup = Duration::from_millis(50);
    let report = measure(&fake, spec).await.unwrap();
    assert_eq!((report.operations, report.errors), (50, 0));
    assert!(fake.txns.load(Ordering::SeqCst) > 50);
}

#[tokio::test]
async fn a_duration_ends_a_run() {
    let fake = Arc::new(Fake::default());
    let mut spec = spec(Kind::Put);
    spec.limit = Limit::Duration(Duration::from_millis(100));
    let report = measure(&fake, spec).await.unwrap();
    assert!(report.operations > 0);
    assert!(report.elapsed_seconds >= 0.1, "{}", report.elapsed_seconds);
    assert_eq!(report.operations, fake.puts.load(Ordering::SeqCst));
}

#[tokio::test]
async fn renewals_share_a_stream_per_client_or_have_their_own() {
    for (once, streams) in [(false, 4), (true, 50)] {
        let fake = Arc::new(Fake::default());
        let report = measure(&fake, spec(Kind::Keepalive { once })).await.unwrap();
        assert_eq!((report.operations, report.errors), (50, 0));
        assert_eq!(fake.streams.load(Ordering::SeqCst), streams);
        assert!(fake.leases.lock().unwrap().is_empty(), "leases stay behind");
    }
}

#[tokio::test]
async fn every_watcher_gets_every_event() {
    let fake = Arc::new(Fake::default());
    let report = measure(&fake, spec(Kind::Watch { putters: 3 })).await.unwrap();
    assert_eq!((report.operations, report.errors), (4 * 50, 0));
    assert!(report.p50_ms > 0.0);
}

#[tokio::test]
async fn events_that_do_not_come_are_errors() {
    let fake = Arc::new(Fake::default());
    fake.lose_events.store(true, Ordering::SeqCst);
    let report = measure(&fake, spec(Kind::Watch { putters: 3 })).await.unwrap();
    assert_eq!((report.operations, report.errors), (4 * 25, 4 * 25));
}

#[tokio::test]
async fn a_run_without_success_is_an_error_with_the_servers_words() {
    let fake = Arc::new(Fake::default());
    fake.refuse.store(true, Ordering::SeqCst);
    let outcome = measure(&fake, spec(Kind::Put)).await;
    let Err(Error::NothingDone { first }) = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(first, "ResourceExhausted: refused");
}

#[tokio::test]
async fn clients_that_only_fail_give_up() {
    let fake = Arc::new(Fake::default());
    let switch = Arc::clone(&fake);
    let refuser = tokio::spawn(async move {
        while switch.puts.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        switch.refuse.store(true, Ordering::SeqCst);
    });
    let mut spec = spec(Kind::Put);
    spec.limit = Limit::Total(u64::MAX);
    let report = measure(&fake, spec).await.unwrap();
    refuser.await.unwrap();
    assert_eq!(report.clients_given_up, 4);
    assert!(report.operations > 0 && report.errors >= 400);
}

#[tokio::test]
async fn a_refused_connection_names_the_address() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let mut spec = spec(Kind::Put);
    spec.endpoints = vec![address.parse().unwrap()];
    let outcome = run::run(&spec, false).await;
    assert_eq!(
        outcome.unwrap_err().to_string(),
        format!("cannot connect to {address}")
    );
}

//! Watchers that do not read: the server's memory stays bounded, other clients are not held up, and whoever reads
//! again gets every change once and in order.

mod harness;

use std::time::{Duration, Instant};

use harness::*;
use proto::etcdserverpb::watch_request::RequestUnion;
use proto::etcdserverpb::{WatchCreateRequest, WatchRequest, WatchResponse};
use tonic::Streaming;

const WATCHERS: usize = 10;
const CHANGES: i64 = 2_000;
const VALUE_BYTES: usize = 32 << 10;

/// A stream with one watcher that has been confirmed; nothing is read from it until someone does.
async fn unread(server: &Server, watch_id: i64) -> Streaming<WatchResponse> {
    let client = server.client().await;
    let create = WatchCreateRequest {
        watch_id,
        ..watch_prefix("slow/")
    };
    let request = WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(create)),
    };
    // The requests stay open, as those of a client that hangs.
    let requests = tokio_stream::StreamExt::chain(tokio_stream::iter([request]), tokio_stream::pending());
    let mut stream = client
        .watch
        .clone()
        .watch(requests)
        .await
        .expect("the stream opens")
        .into_inner();
    let created = stream
        .message()
        .await
        .expect("the stream is open")
        .expect("a response");
    assert!(created.created && !created.canceled, "{created:?}");
    stream
}

#[tokio::test]
async fn unread_watches_hold_nobody_up() {
    let server = Server::start();
    let mut streams = Vec::new();
    for id in 1..=WATCHERS {
        streams.push(unread(&server, i64::try_from(id).expect("small")).await);
    }
    let client = server.client().await;
    let value = "x".repeat(VALUE_BYTES);
    let (mut reader, _) = WatchStream::with(&client, watch_prefix("slow/")).await;
    let mut slowest = Duration::ZERO;
    for i in 0..CHANGES {
        let start = Instant::now();
        client.put(&format!("slow/{}", i % 10), &value).await;
        slowest = slowest.max(start.elapsed());
    }
    // 64 MiB were written; a copy for each watcher would be 640 MB more.
    let resident = resident_bytes(server.pid());
    assert!(resident < 450 << 20, "{} MiB are resident", resident >> 20);
    assert!(slowest < Duration::from_secs(2), "a put took {slowest:?}");
    assert_eq!(
        reader
            .events(usize::try_from(CHANGES).expect("small"))
            .await
            .len(),
        2_000
    );

    for stream in &mut streams {
        let mut next = 2;
        while next < CHANGES + 2 {
            let response = tokio::time::timeout(PATIENCE, stream.message())
                .await
                .expect("a response in time");
            for event in response.expect("the stream is open").expect("a response").events {
                assert_eq!(event.kv.expect("an event has a key").mod_revision, next);
                next += 1;
            }
        }
    }
}

/// What the kernel says a process holds in memory.
fn resident_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .expect("the kernel tells it");
    let kibibytes: u64 = line
        .split_whitespace()
        .nth(1)
        .and_then(|text| text.parse().ok())
        .expect("a number");
    kibibytes << 10
}

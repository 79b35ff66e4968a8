//! A real file system that somebody else fills up under a live member: nothing acknowledged is lost, everything but
//! writes is answered, a member killed then starts again, and service resumes by itself when there is space.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::time::{Duration, Instant};

use crate::harness::*;
use bytes::Bytes;
use proto::etcdserverpb::{PutRequest, RangeRequest, StatusRequest};
use tonic::{Code, Status};

const DISK_MIB: u32 = 320;
const VALUE_BYTES: usize = 32 << 10;
const NO_SPACE: &str = "etcdserver: mvcc: database space exceeded";
/// How long anything may take on a full disk.
const LIMIT: Duration = Duration::from_secs(40);

fn key(number: usize) -> String {
    format!("full/{number:06}")
}

async fn write(client: &Client, number: usize) -> Result<(), Status> {
    let mut random = Random::new(number as u64);
    let words = std::iter::repeat_with(|| random.next().to_le_bytes()).take(VALUE_BYTES / 8);
    let value: Bytes = words.flatten().collect::<Vec<u8>>().into();
    let request = PutRequest {
        key: key(number).into(),
        value,
        ..PutRequest::default()
    };
    client.try_put(request).await.map(drop)
}

/// What was acknowledged, and nothing that was deleted, is there.
async fn check(client: &Client, deleted: usize, acknowledged: &[usize]) {
    let all = RangeRequest {
        keys_only: true,
        ..get_prefix("full/")
    };
    let kvs = client.range(all).await.kvs;
    for number in acknowledged.iter().filter(|number| **number >= deleted) {
        let found = kvs.iter().any(|kv| kv.key == key(*number).as_bytes());
        assert!(found, "{} was acknowledged and is lost", key(*number));
    }
    assert!(kvs.iter().all(|kv| kv.key >= key(deleted).as_bytes()));
}

/// Starts a server that is healthy but for its alarm.
fn start_with_alarm(server: &mut Server) {
    server.spawn();
    let address = server.client_address();
    wait_until("the server answers", || {
        http_get(address, "/health?exclude=NOSPACE").is_some_and(|answer| answer.status == 200)
    });
}

#[tokio::test]
async fn a_disk_that_others_fill_stops_writes_and_nothing_else() {
    if !runs_taffrail() {
        return;
    }
    let mut server = Server::prepared(&["--disk-reserve-bytes=67108864"]);
    std::fs::create_dir(server.data_dir()).unwrap();
    let Some(disk) = SmallDisk::mount(&server.data_dir(), DISK_MIB) else {
        skip(
            "a_disk_that_others_fill_stops_writes_and_nothing_else",
            "namespaces to mount in",
        );
        return;
    };
    server.wrap(disk.enter());
    server.run();
    let client = server.client().await;
    let mut acknowledged = Vec::new();
    for number in 0..200 {
        write(&client, number).await.unwrap();
        acknowledged.push(number);
    }

    // Others take all there is, while a client writes.
    let filler = server.data_dir().join("filler");
    let fill = format!("dd if=/dev/zero of={} bs=64k", filler.display());
    let began = Instant::now();
    let filling = std::thread::scope(|scope| {
        let filling = scope.spawn(|| disk.shell(&fill));
        filling.join().unwrap()
    });
    assert!(!filling, "the disk is full");
    let refused = loop {
        let number = acknowledged.len();
        match write(&client, number).await {
            Ok(()) => acknowledged.push(number),
            Err(status) => break status,
        }
        assert!(began.elapsed() < LIMIT, "writes go on without space");
    };
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::ResourceExhausted, NO_SPACE)
    );
    client.maintenance.clone().status(StatusRequest {}).await.unwrap();
    check(&client, 0, &acknowledged).await;
    for number in 0..50 {
        let deleted = client.delete_with(delete(&key(number))).await.deleted;
        assert_eq!(deleted, 1, "deletes are answered");
    }
    client.compact(client.revision().await).await;
    check(&client, 50, &acknowledged).await;

    // Killed on the full disk, it comes back.
    server.kill();
    start_with_alarm(&mut server);
    let client = server.client().await;
    check(&client, 50, &acknowledged).await;
    let refused = write(&client, 999_999).await;
    assert_status(refused, Code::ResourceExhausted, NO_SPACE);
    let deleted = client.delete_with(delete(&key(50))).await.deleted;
    assert_eq!(deleted, 1, "deletes are answered");

    assert!(disk.shell(&format!("rm {}", filler.display())));
    let began = Instant::now();
    let resumed = loop {
        match write(&client, 51).await {
            Ok(()) => break began.elapsed(),
            Err(status) => assert_eq!(status.message(), NO_SPACE),
        }
        assert!(began.elapsed() < LIMIT, "no service though there is space");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    println!("writes were taken again {resumed:?} after there was space");
    check(&client, 51, &acknowledged).await;
    server.kill();
    server.run();
    check(&server.client().await, 51, &acknowledged).await;
}

//! Space: a quota that is reached and left again without a restart and without a Defragment call, while memory and
//! disk follow the live data down; and the alarm that clears itself where it may.
//!
//! `space_of_hundreds_of_megabytes` does the same with `TAFFRAIL_SPACE_MIB` (1024) of data, without any allowance for
//! what does not grow with the data: run it by hand, with `--release`.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use crate::harness::*;
use bytes::Bytes;
use proto::etcdserverpb::alarm_request::AlarmAction;
use proto::etcdserverpb::{
    AlarmMember, AlarmRequest, DeleteRangeRequest, PutRequest, RangeRequest, StatusRequest, StatusResponse,
};
use tonic::Code;

const MIB: u64 = 1 << 20;
const VALUE_BYTES: usize = 16 << 10;
const NO_SPACE: &str = "etcdserver: mvcc: database space exceeded";

async fn status(client: &Client) -> StatusResponse {
    let answer = client.maintenance.clone().status(StatusRequest {}).await;
    answer.unwrap().into_inner()
}

async fn alarms(client: &Client) -> Vec<AlarmMember> {
    let request = AlarmRequest {
        action: AlarmAction::Get.into(),
        ..AlarmRequest::default()
    };
    let answer = client.maintenance.clone().alarm(request).await;
    answer.unwrap().into_inner().alarms
}

async fn disarm(client: &Client) {
    for alarm in alarms(client).await {
        let request = AlarmRequest {
            action: AlarmAction::Deactivate.into(),
            member_id: alarm.member_id,
            alarm: alarm.alarm,
        };
        client.maintenance.clone().alarm(request).await.unwrap();
    }
}

/// Bytes that do not compress, different for each number.
fn value(number: usize) -> Bytes {
    let mut random = Random::new(number as u64);
    let mut bytes = Vec::with_capacity(VALUE_BYTES);
    while bytes.len() < VALUE_BYTES {
        bytes.extend_from_slice(&random.next().to_le_bytes());
    }
    bytes.into()
}

fn key(number: usize) -> String {
    format!("space/{number:06}")
}

/// Writes until the quota is reached; returns the number of the first key that was refused.
async fn fill(client: &Client, from: usize) -> usize {
    for number in from.. {
        let request = PutRequest {
            key: key(number).into(),
            value: value(number),
            ..PutRequest::default()
        };
        match client.try_put(request).await {
            Ok(_) => {}
            Err(refused) => {
                assert_eq!(
                    (refused.code(), refused.message()),
                    (Code::ResourceExhausted, NO_SPACE)
                );
                return number;
            }
        }
    }
    unreachable!("numbers do not end")
}

async fn delete(client: &Client, from: usize, to: usize) {
    let request = DeleteRangeRequest {
        key: key(from).into(),
        range_end: key(to).into(),
        ..DeleteRangeRequest::default()
    };
    assert_eq!(client.delete_with(request).await.deleted, (to - from) as i64);
}

/// Waits, asking again and again.
async fn until(what: &str, limit: Duration, mut condition: impl AsyncFnMut() -> Result<(), String>) {
    let start = std::time::Instant::now();
    while let Err(lacks) = condition().await {
        assert!(start.elapsed() < limit, "{what}: not within {limit:?}: {lacks}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// `what` is at most `limit`, both in bytes.
fn bounded(what: &str, bytes: u64, limit: u64) -> Result<(), String> {
    if bytes <= limit {
        return Ok(());
    }
    Err(format!(
        "{what}: {} MiB, at most {} MiB",
        bytes / MIB,
        limit / MIB
    ))
}

/// Bytes that a folder's files take.
fn folder_bytes(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return 0;
    };
    let of = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => folder_bytes(&entry.path()),
        Ok(metadata) => metadata.blocks() * 512,
        // Gone meanwhile.
        Err(_) => 0,
    };
    entries.flatten().map(of).sum()
}

/// Bytes of memory that a process has.
fn memory_bytes(server: &Server) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = text.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib << 10
}

/// The limits of what does not grow with the data: recent revisions (16 MiB) and the log's tail (16 MiB), sled's cache
/// (16 MiB) and what was written to it since it was opened last (64 MiB), and the process itself.
const CACHES_BYTES: u64 = 128 * MIB;

/// The whole cycle, with so much data; memory may take `caches` beyond one and a half times what lives.
async fn cycle(quota: u64, caches: u64) {
    let flag = format!("--quota-backend-bytes={quota}");
    let server = Server::start_with(&[&flag]);
    let client = server.client().await;
    let empty_bytes = memory_bytes(&server);
    let full = fill(&client, 0).await;
    assert_eq!(alarms(&client).await.len(), 1);
    let at_most = status(&client).await;
    assert!(at_most.db_size as u64 <= quota + quota / 8, "{at_most:?}");
    let peak_bytes = memory_bytes(&server);

    // Everything but writes goes on.
    assert_eq!(client.range(get(&key(0))).await.kvs[0].value, value(0));
    let half = full / 2;
    delete(&client, 0, half).await;
    client.compact(client.revision().await).await;
    let sled = server.data_dir().join("member/sled");
    until("the disk follows", PATIENCE * 3, async || {
        let status = status(&client).await;
        let live = status.db_size_in_use as u64;
        let limit = live + live / 2;
        bounded("size told", status.db_size as u64, limit)?;
        bounded("files", folder_bytes(&sled), limit)
    })
    .await;
    until("the memory follows", PATIENCE * 3, async || {
        let live = status(&client).await.db_size_in_use as u64;
        bounded("memory", memory_bytes(&server), live + live / 2 + caches)
    })
    .await;
    println!(
        "quota {} MiB: {} MiB live; {} MiB on disk; memory {} MiB empty, {} MiB full, {} MiB now; log {} MiB",
        quota / MIB,
        status(&client).await.db_size_in_use as u64 / MIB,
        folder_bytes(&sled) / MIB,
        empty_bytes / MIB,
        peak_bytes / MIB,
        memory_bytes(&server) / MIB,
        folder_bytes(&server.data_dir().join("member/wal")) / MIB
    );

    // The alarm is an operator's to disarm; then it does not come again at once.
    let refused = client.try_put(put("k", "v")).await;
    assert_status(refused, Code::ResourceExhausted, NO_SPACE);
    disarm(&client).await;
    let again = fill(&client, full).await;
    assert!(
        again - full >= half / 2,
        "only {} of {half} were taken again",
        again - full
    );
    let count = client
        .range(RangeRequest {
            count_only: true,
            ..get_prefix("space/")
        })
        .await
        .count;
    assert_eq!(count, (again - half) as i64);
    for number in [half, full - 1, full, again - 1] {
        assert_eq!(client.range(get(&key(number))).await.kvs[0].value, value(number));
    }
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
async fn a_quota_is_left_again_without_restart_or_defragmentation() {
    if runs_taffrail() {
        cycle(192 * MIB, CACHES_BYTES).await;
    }
}

#[tokio::test]
#[ignore = "by hand, with --release: it writes hundreds of megabytes"]
async fn space_of_hundreds_of_megabytes() {
    let mebibytes = std::env::var("TAFFRAIL_SPACE_MIB").map_or(1024, |text| text.parse().unwrap());
    cycle(mebibytes * MIB, 0).await;
}

#[tokio::test]
async fn an_alarm_clears_itself_where_it_may() {
    if !runs_taffrail() {
        return;
    }
    let mut server = Server::prepared(&["--quota-backend-bytes=25165824", "--quota-auto-disarm"]);
    server.run();
    let client = server.client().await;
    let full = fill(&client, 0).await;
    assert_eq!(alarms(&client).await.len(), 1);
    // Whoever restarts it finds the alarm, and does not have it cleared for that.
    server.kill();
    start_with_alarm(&mut server);
    let client = server.client().await;
    let refused = client.try_put(put("k", "v")).await;
    assert_status(refused, Code::ResourceExhausted, NO_SPACE);
    delete(&client, 0, full).await;
    client.compact(client.revision().await).await;
    until("the alarm is cleared", PATIENCE * 2, async || {
        let left = alarms(&client).await;
        left.is_empty().then_some(()).ok_or_else(|| format!("{left:?}"))
    })
    .await;
    client.put("k", "v").await;
    let answer = http_get(server.client_address(), "/metrics").unwrap();
    assert!(
        answer.body.contains("taffrail_nospace_alarms_cleared_total 1\n"),
        "{}",
        answer.body
    );
    assert!(server.log().contains("clearing the NOSPACE alarm"));
}

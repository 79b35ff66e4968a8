//! Corner case 63 of the compatibility reference: a backup is a file that etcd's own tools read, and restore.
#![allow(clippy::unwrap_used, reason = "a test that fails is to panic")]

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::harness::*;
use bytes::Bytes;
use proto::etcdserverpb::{HashRequest, LeaseLeasesRequest, SnapshotRequest, SnapshotResponse};
use sha2::{Digest as _, Sha256};

/// A file's pages are of this size, blobs of up to 32 KiB.
const PAGE_BYTES: usize = 4096;
const BLOB_BYTES: usize = 32 << 10;

async fn all_parts(client: &Client) -> Vec<SnapshotResponse> {
    let mut maintenance = client.maintenance.clone();
    let mut stream = maintenance
        .snapshot(SnapshotRequest {})
        .await
        .unwrap()
        .into_inner();
    let mut parts = Vec::new();
    while let Some(part) = stream.message().await.unwrap() {
        parts.push(part);
    }
    parts
}

/// Values that look like nothing else, so that one of them found in a file was written there.
fn value(number: usize) -> String {
    format!("<{number:05}>{}", "x".repeat(500))
}

async fn fill(client: &Client, count: usize) {
    for number in 0..count {
        client.put(&format!("key/{number:05}"), &value(number)).await;
    }
}

/// Writes until the task is ended.
fn write_on(client: &Client) -> tokio::task::JoinHandle<()> {
    let client = client.clone();
    tokio::spawn(async move {
        for number in 0.. {
            client.put(&format!("later/{}", number % 100), "v").await;
        }
    })
}

#[tokio::test]
async fn case_63_size_and_digest() {
    let server = Server::start();
    let client = server.client().await;
    fill(&client, 300).await;
    let writer = write_on(&server.client().await);
    let parts = all_parts(&client).await;
    writer.abort();

    let (digest, data) = parts.split_last().unwrap();
    let blobs: Vec<Bytes> = data.iter().map(|part| part.blob.clone()).collect();
    let file = blobs.concat();
    assert_eq!(digest.blob, Sha256::digest(&file).as_slice());
    assert_eq!(file.len() % PAGE_BYTES, 0);
    assert_eq!((file.len() + digest.blob.len()) % 512, 32);
    let mut remaining = file.len();
    for part in data {
        remaining -= part.blob.len();
        assert_eq!(part.remaining_bytes, remaining as u64);
        assert!(part.blob.len() == BLOB_BYTES || remaining == 0);
    }
    assert_eq!(digest.remaining_bytes, 0);
    for part in &parts {
        assert_eq!((part.version.as_str(), &part.header), ("3.7.0", &None));
    }
    for number in 0..300 {
        let written = value(number);
        let found = file
            .windows(written.len())
            .any(|window| window == written.as_bytes());
        assert!(found, "value {number}");
    }
}

#[tokio::test]
async fn a_backup_needs_no_quorum() {
    let mut cluster = Cluster::start(3).await;
    let survivor = cluster.follower().await;
    fill(cluster.client(survivor), 20).await;
    for other in cluster.others(survivor) {
        cluster.kill(other);
    }
    let parts = all_parts(cluster.client(survivor)).await;
    assert!(parts.len() > 1);
}

#[tokio::test]
async fn a_backup_ends_with_its_client() {
    if !runs_taffrail() {
        return skip("a_backup_ends_with_its_client", "Taffrail's own log");
    }
    let server = Server::start();
    let client = server.client().await;
    // More than fits into all the buffers on the way.
    for number in 0..32 {
        client.put(&format!("k{number}"), &"x".repeat(1 << 20)).await;
    }
    let mut maintenance = server.client().await.maintenance;
    let mut stream = maintenance
        .snapshot(SnapshotRequest {})
        .await
        .unwrap()
        .into_inner();
    stream.message().await.unwrap().expect("a first part");
    assert!(!server.log().contains("a database snapshot was not sent"));
    drop((stream, maintenance));
    // Not wait_until: the client's own task has the reset to send.
    let ended = async {
        while !server.log().contains("a database snapshot was not sent") {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, ended)
        .await
        .expect("the end of the backup");
    // Nothing is left of it.
    let names: Vec<_> = std::fs::read_dir(server.data_dir())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["member"]);
    assert!(all_parts(&client).await.len() > 1000);
}

#[tokio::test]
async fn the_hash_of_a_backup() {
    let server = Server::start();
    let client = server.client().await;
    let revision = client.put("k", "1").await;
    let hash = async || {
        let answer = client
            .maintenance
            .clone()
            .hash(HashRequest {})
            .await
            .unwrap()
            .into_inner();
        (answer.hash, header_revision(&answer.header))
    };
    // A real etcd makes itself known and decides its version some time after its start.
    wait_until("the cluster's version is decided", || {
        let answer = http_get(server.client_address(), "/version");
        answer.is_some_and(|answer| answer.body.contains(r#""etcdcluster":"3.7.0""#))
    });
    let first = hash().await;
    assert_eq!(first.1, revision);
    assert_eq!(hash().await, first, "the same state has the same hash");
    client.put("k", "2").await;
    assert_ne!(hash().await.0, first.0);
}

/// A run of etcdctl 3.4 that must succeed; its output.
fn etcdctl(program: &Path, args: &[&str]) -> String {
    let output = Command::new(program)
        .env("ETCDCTL_API", "3")
        .args(args)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {text}{errors}");
    text
}

/// A real etcd on a restored folder, killed when dropped.
struct Etcd {
    child: Child,
    ports: Ports,
}

impl Etcd {
    fn start(program: &Path, data_dir: &Path, ports: Ports) -> Etcd {
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let log = File::create(data_dir.with_extension("log")).unwrap();
        let child = Command::new(program)
            .arg("--data-dir")
            .arg(data_dir)
            .args([
                "--listen-client-urls",
                &url(ports.client),
                "--advertise-client-urls",
                &url(ports.client),
            ])
            .args([
                "--listen-peer-urls",
                &url(ports.peer),
                "--initial-advertise-peer-urls",
                &url(ports.peer),
            ])
            .args(["--initial-cluster", &format!("default={}", url(ports.peer))])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let etcd = Etcd { child, ports };
        let address = ([127, 0, 0, 1], etcd.ports.client).into();
        wait_until("etcd serves", || {
            http_get(address, "/health").is_some_and(|answer| answer.status == 200)
        });
        etcd
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Every kind of history, and leases.
async fn write_history(client: &Client) -> i64 {
    let lease = client.grant(3600).await;
    fill(client, 200).await;
    client.put("a long value", &"long ".repeat(100_000)).await;
    client
        .put_with(proto::etcdserverpb::PutRequest {
            lease,
            ..put("leased", "value")
        })
        .await;
    client.delete_with(delete_prefix("key/001")).await;
    let compacted = client.put("key/00000", "changed").await;
    client.compact(compacted - 1).await;
    client.delete("key/00001").await;
    client.put("key/00001", "again").await;
    client
        .txn(then(vec![
            op(put("t1", "1")),
            op(put("t2", "2")),
            op(delete("key/00002")),
        ]))
        .await;
    lease
}

#[tokio::test]
async fn a_backup_goes_back_to_etcd() {
    let test = "a_backup_goes_back_to_etcd";
    let (Some(tool), Some(etcd)) = (needs_etcdctl(test), needs(test, "etcd")) else {
        return;
    };
    let server = Server::start();
    let client = server.client().await;
    let lease = write_history(&client).await;
    let revision = client.revision().await;
    let whole = || {
        let mut all = get("\0");
        all.range_end = ZERO;
        all.revision = revision;
        all
    };
    let ours = client.range(whole()).await;
    assert_eq!(ours.kvs.len(), 100 + 2 + 2 - 1);

    let writer = write_on(&server.client().await);
    let file = server.scratch_dir().join("backup.db").display().to_string();
    let endpoint = server.endpoint();
    let save = tokio::task::spawn_blocking({
        let (tool, file) = (tool.clone(), file.clone());
        move || etcdctl(&tool, &["--endpoints", &endpoint, "snapshot", "save", &file])
    });
    save.await.unwrap();
    writer.abort();
    // It checks the file's structure, every page of it.
    let status = etcdctl(&tool, &["snapshot", "status", &file, "-w", "json"]);
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert!(status["revision"].as_i64().unwrap() >= revision, "{status}");

    let restored = server.scratch_dir().join("restored");
    let dir = restored.display().to_string();
    let ports = Ports::reserve();
    let peer = format!("http://127.0.0.1:{}", ports.peer);
    let cluster = format!("default={peer}");
    let to = [
        "--initial-cluster",
        &cluster,
        "--initial-advertise-peer-urls",
        &peer,
        "--data-dir",
        &dir,
    ];
    etcdctl(&tool, &[["snapshot", "restore", &file].as_slice(), &to].concat());
    let etcd = Etcd::start(&etcd, &restored, ports);
    let theirs = Client::connect(&format!("http://127.0.0.1:{}", etcd.ports.client)).await;
    assert_eq!(theirs.range(whole()).await.kvs, ours.kvs);
    assert!(theirs.revision().await >= revision);
    // History goes back to the compacted revision, and no further.
    let at = |revision| {
        let mut old = get("key/00001");
        old.revision = revision;
        old
    };
    let compacted = client.try_range(at(2)).await.unwrap_err();
    assert_eq!(
        theirs.try_range(at(2)).await.unwrap_err().message(),
        compacted.message()
    );
    assert_eq!(
        theirs.range(at(revision - 3)).await.kvs,
        client.range(at(revision - 3)).await.kvs
    );
    let leases = theirs
        .lease
        .clone()
        .lease_leases(LeaseLeasesRequest {})
        .await
        .unwrap()
        .into_inner()
        .leases;
    assert_eq!(leases.iter().map(|lease| lease.id).collect::<Vec<_>>(), [lease]);
    assert_eq!(theirs.time_to_live(lease).await.keys, ["leased"]);
    theirs.put("key/00001", "in etcd").await;
}

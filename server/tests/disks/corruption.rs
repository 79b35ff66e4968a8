//! Members compare their data: one whose history was changed behind its back is found at its start, by the leader's
//! periodic check, and by that of compactions; then nothing is written any more until somebody looks.

use std::path::Path;
use std::time::Instant;

use crate::harness::*;
use bytes::Bytes;
use proto::etcdserverpb::alarm_request::AlarmAction;
use proto::etcdserverpb::{AlarmMember, AlarmRequest, AlarmType};
use serde_json::Value;
use store::backend::{Checkpoint, Import, Load, TableWrite, open_guarded, renew};
use store::types::Change;
use tonic::Code;

/// Changes a value in the history of a member at rest; everything else stays, its checksums too.
fn plant(data_dir: &Path) {
    let dir = data_dir.join("member");
    let mut changes: Vec<Change> = Vec::new();
    let opened = open_guarded(&dir, &mut |load| {
        if let Load::Change(change) = load {
            let own = |bytes: &Bytes| Bytes::copy_from_slice(bytes);
            let mut change = change;
            change.kv.key = own(&change.kv.key);
            change.kv.value = own(&change.kv.value);
            changes.push(change);
        }
    })
    .expect("the working copy opens");
    let loaded = opened.loaded.expect("a checkpoint was made");
    let (meta, tables) = (loaded.meta, loaded.tables);
    drop((opened.backend, loaded.store));
    let planted = changes
        .iter_mut()
        .rfind(|change| change.kv.key == "k7")
        .expect("it was put");
    planted.kv.value = Bytes::from_static(b"another");
    let mut import = Import::new(renew(&dir).expect("it is made anew"), meta.cluster, meta.member);
    for revision in changes.chunk_by(|a, b| a.revision.main == b.revision.main) {
        import.push(revision).expect("it is written");
    }
    let row = |(table, key, value)| TableWrite {
        table,
        key,
        value: Some(value),
    };
    let checkpoint = Checkpoint {
        tables: tables.into_iter().map(row).collect(),
        applied: meta.applied,
        term: meta.term,
        revision: meta.revision,
        compacted: meta.compacted,
        compaction_finished: true,
        ..Checkpoint::default()
    };
    drop(import.finish(&checkpoint).expect("it is written"));
}

async fn write_some(client: &Client, value: &str) -> i64 {
    let mut last = 0;
    for key in 0..20 {
        last = client.put(&format!("k{key}"), value).await;
    }
    last
}

async fn alarms(client: &Client) -> Vec<AlarmMember> {
    let get = AlarmRequest {
        action: AlarmAction::Get.into(),
        ..Default::default()
    };
    let answer = client.maintenance.clone().alarm(get).await;
    answer.expect("alarms are listed").into_inner().alarms
}

async fn wait_for_alarm(client: &Client) -> Vec<AlarmMember> {
    let start = Instant::now();
    loop {
        let alarms = alarms(client).await;
        if !alarms.is_empty() {
            return alarms;
        }
        assert!(start.elapsed() < PATIENCE, "no alarm after {PATIENCE:?}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// Waits for a line in the log of any member.
fn wait_for_line(cluster: &Cluster, text: &str) {
    wait_until(text, || {
        cluster
            .members()
            .any(|member| cluster.server(member).log().contains(text))
    });
}

/// Stops a follower in an orderly way, so that its working copy holds everything, and changes it.
async fn corrupt_follower(cluster: &mut Cluster) -> usize {
    let follower = cluster.follower().await;
    let applied = cluster
        .status(cluster.leader().await)
        .await
        .expect("it answers")
        .raft_applied_index;
    cluster
        .wait_for("all have applied it", |all| {
            all.iter().all(|status| status.raft_applied_index >= applied)
        })
        .await;
    let (status, _) = cluster.server_mut(follower).terminate();
    assert!(status.success(), "{status}");
    plant(&cluster.server(follower).data_dir());
    follower
}

#[tokio::test]
async fn the_initial_check_and_the_periodic_one() {
    if !runs_taffrail() {
        return; // what is planted is ours
    }
    let mut cluster = Cluster::start_with(3, &["--corrupt-check-time=200ms"]).await;
    write_some(cluster.client(0), "one").await;
    write_some(cluster.client(0), "two").await;
    wait_for_line(&cluster, "enabled corruption checking");
    wait_for_line(&cluster, "finished peer corruption check");
    assert_eq!(alarms(cluster.client(0)).await, []);

    let corrupt = corrupt_follower(&mut cluster).await;
    let server = cluster.server_mut(corrupt);
    server.add_flag("--feature-gates=InitialCorruptCheck=true");
    server.spawn();
    let status = server.wait_for_exit();
    assert_eq!(status.code(), Some(1), "{}", server.log());
    for line in [
        "starting initial corruption check",
        "found different hash values from remote peer",
        "checkInitialHashKV failed",
        "found data inconsistency with peers",
    ] {
        assert!(server.log().contains(line), "{line}: {}", server.log());
    }

    // Without it the member serves, until the leader looks.
    server.add_flag("--feature-gates=InitialCorruptCheck=false");
    cluster.spawn(corrupt);
    let leader = cluster.leader().await;
    let raised = wait_for_alarm(cluster.client(leader)).await;
    let expected = AlarmMember {
        member_id: cluster.id(corrupt),
        alarm: AlarmType::Corrupt.into(),
    };
    assert_eq!(raised, [expected]);
    wait_for_line(&cluster, "same compact revision then hashes must match");
    for member in cluster.members().filter(|member| *member != corrupt) {
        let client = cluster.client(member);
        let refused = client.try_put(put("k1", "three")).await;
        assert_status(refused, Code::DataLoss, "etcdserver: corrupt cluster");
        assert_eq!(client.range(get("k1")).await.kvs[0].value, "two", "reads go on");
        let health = http_get(cluster.server(member).client_address(), "/health").expect("it answers");
        assert!(health.body.contains("ALARM CORRUPT"), "{}", health.body);
    }
}

#[tokio::test]
async fn the_check_of_compactions() {
    if !runs_taffrail() {
        return; // what is planted is ours
    }
    let flags = [
        "--feature-gates=CompactHashCheck=true",
        "--compact-hash-check-time=200ms",
    ];
    let mut cluster = Cluster::start_with(3, &flags).await;
    let revision = write_some(cluster.client(0), "one").await;
    cluster.client(0).compact(revision).await;
    wait_for_line(&cluster, "successfully checked hash on whole cluster");
    assert_eq!(alarms(cluster.client(0)).await, []);
    write_some(cluster.client(0), "two").await;

    let corrupt = corrupt_follower(&mut cluster).await;
    cluster.run(corrupt);
    let leader = cluster.leader().await;
    let revision = write_some(cluster.client(leader), "three").await;
    cluster.client(leader).compact(revision).await;
    let raised = wait_for_alarm(cluster.client(leader)).await;
    assert_eq!(raised[0].member_id, cluster.id(corrupt), "{raised:?}");
    assert_eq!((raised.len(), raised[0].alarm), (1, AlarmType::Corrupt as i32));
    wait_for_line(&cluster, "Detected compaction hash mismatch");
}

/// The page by which members ask each other; the same on a real etcd.
#[tokio::test]
async fn the_page_of_hashes_on_the_peer_port() {
    let server = Server::start();
    let client = server.client().await;
    let revision = write_some(&client, "one").await;
    let ask = |headers: &[(&str, &str)], body: &str| {
        let exchange = Exchange::send(server.peer_address(), "GET", "/members/hashkv", headers, body);
        (exchange.status, exchange.headers.clone(), exchange.body())
    };
    let hash = client.hash_kv(0).await;
    let (status, headers, body) = ask(&[], "{}");
    assert_eq!(status, 200, "{body}");
    assert_eq!(headers["content-type"], "application/json");
    let cluster = headers["x-etcd-cluster-id"].clone();
    let answer: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(
        answer,
        serde_json::json!({
            "header": { "revision": revision },
            "hash": hash.hash,
            "compact_revision": -1,
            "hash_revision": revision,
        })
    );
    let (status, _, older) = ask(&[("X-Etcd-Cluster-ID", &cluster)], "{\"revision\":3}");
    let older: Value = serde_json::from_str(&older).expect("JSON");
    assert_eq!((status, &older["hash_revision"]), (200, &Value::from(3)));
    client.compact(5).await;
    for (headers, body, status, text) in [
        (
            vec![],
            "{\"revision\":4}",
            400,
            "mvcc: required revision has been compacted\n",
        ),
        (
            vec![],
            "{\"revision\":999}",
            400,
            "mvcc: required revision is a future revision\n",
        ),
        (vec![], "", 400, "error unmarshalling request\n"),
        (
            vec![],
            "{\"revision\":\"4\"}",
            400,
            "error unmarshalling request\n",
        ),
        (
            vec![("X-Etcd-Cluster-ID", "77")],
            "{}",
            412,
            "cluster ID mismatch\n",
        ),
    ] {
        let (got, _, answer) = ask(&headers, body);
        assert_eq!((got, answer.as_str()), (status, text), "{body}");
    }
    let refused = Exchange::send(server.peer_address(), "POST", "/members/hashkv", &[], "{}");
    assert_eq!((refused.status, refused.header("allow")), (405, "GET"));
    assert_eq!(refused.body(), "Method Not Allowed\n");
}

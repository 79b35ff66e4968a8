//! Damage to the files of real processes: what the start says, and the ways back in a cluster, by hand and by itself.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::*;
use proto::etcdserverpb::RangeRequest;
use store::env::real::RealDisk;
use store::wal;

/// The newest segment that is begun, and the end of its last batch.
fn log_end(wal_dir: &Path) -> (PathBuf, u64) {
    let log = wal::check(&RealDisk, wal_dir, &wal::Config::default(), &mut |_| {}).expect("the log is read");
    let ends = log.segments.into_iter().filter_map(|segment| {
        let content = segment.outcome.expect("it is whole");
        (content.bytes > 512).then_some((segment.path, content.bytes))
    });
    ends.last().expect("a segment is begun")
}

fn flip(path: &Path, at: u64) {
    let mut bytes = fs::read(path).expect("the file is there");
    bytes[usize::try_from(at).expect("small")] ^= 1;
    fs::write(path, bytes).expect("it can be written");
}

async fn write_some(client: &Client, round: usize) {
    for key in 0..50 {
        client
            .put(&format!("k{key}"), &format!("{round} {}", "v".repeat(500)))
            .await;
    }
}

async fn hash(client: &Client) -> (u32, i64) {
    let answer = client.hash_kv(0).await;
    (answer.hash, answer.hash_revision)
}

/// The end of the log is marked once it has rested: the file is written, and not again.
fn wait_for_mark(data_dir: &Path, wal_dir: &Path) {
    let mark = data_dir.join("member/log.end");
    wait_until("the log's end is marked", || {
        let (_, end) = log_end(wal_dir);
        let slots = fs::read(&mark).unwrap_or_default();
        // The offset in each of the two slots.
        let offset = |at: usize| slots.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
        [48, 512 + 48]
            .into_iter()
            .any(|at| offset(at).map(u64::from_le_bytes) == Some(end))
    });
}

/// What `debug check` prints, and whether it is content.
fn check(data_dir: &Path, wal_dir: Option<&Path>) -> (bool, String) {
    let mut command = Command::new(program());
    command.args(["debug", "check"]).arg(data_dir);
    if let Some(wal_dir) = wal_dir {
        command.arg("--wal-dir").arg(wal_dir);
    }
    let output = command.output().expect("the program runs");
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text)
}

#[tokio::test]
async fn a_single_member_with_its_log_apart() {
    if !runs_taffrail() {
        return; // the files are ours
    }
    let mut server = Server::prepared(&["--auto-tls"]);
    let wal_dir = server.scratch_dir().join("log");
    server.add_flag(&format!("--wal-dir={}", wal_dir.display()));
    server.run();
    write_some(&server.client().await, 1).await;
    let before = hash(&server.client().await).await;
    let (fine, text) = check(&server.data_dir(), Some(&wal_dir));
    assert!(!fine && text.contains("in use by another process"), "{text}");
    // The mark comes behind the acknowledgements; a process that is killed makes none any more.
    wait_for_mark(&server.data_dir(), &wal_dir);
    server.kill();
    let (fine, text) = check(&server.data_dir(), Some(&wal_dir));
    assert!(fine && text.contains("the parts fit together"), "{text}");

    // The last write that was acknowledged.
    let (path, end) = log_end(&wal_dir);
    let whole = fs::read(&path).expect("the file is there");
    for damage in ["flipped", "cut", "removed"] {
        match damage {
            "flipped" => flip(&path, end - 9),
            "cut" => {
                fs::write(&path, &whole[..usize::try_from(end / 2).expect("small")]).expect("it can be cut")
            }
            _ => fs::remove_file(&path).expect("it can be removed"),
        }
        // Without its only segment there is no log at all.
        let named = if damage == "removed" { &wal_dir } else { &path };
        refuses(&mut server, named, damage);
        let (fine, text) = check(&server.data_dir(), Some(&wal_dir));
        assert!(!fine && text.contains("damaged   "), "{damage}: {text}");
        fs::write(&path, &whole).expect("it can be put back");
    }
    // The whole folder, as where its disk is not mounted.
    let elsewhere = server.scratch_dir().join("elsewhere");
    fs::rename(&wal_dir, &elsewhere).expect("it can be moved");
    refuses(&mut server, &wal_dir, "not mounted");
    let _ = fs::remove_dir_all(&wal_dir);
    fs::rename(&elsewhere, &wal_dir).expect("it can be moved back");
    server.run();
    assert_eq!(hash(&server.client().await).await, before);
}

/// The start is refused with a line that names a file.
fn refuses(server: &mut Server, path: &Path, what: &str) {
    let before = server.log().len();
    server.spawn();
    let status = server.wait_for_exit();
    let said = server.log().split_off(before);
    assert_eq!(status.code(), Some(1), "{what}: {said}");
    assert!(
        said.contains(&path.display().to_string()) && said.contains("restored from a snapshot"),
        "{what}: {said}"
    );
}

#[tokio::test]
async fn the_ways_back_in_a_cluster() {
    if !runs_taffrail() {
        return; // the files are ours
    }
    let mut cluster = Cluster::start(3).await;
    let member = cluster.follower().await;
    let other = cluster.others(member)[0];
    let (data_dir, wal_dir) = {
        let data_dir = cluster.server(member).data_dir();
        (data_dir.clone(), data_dir.join("member/wal"))
    };
    write_some(cluster.client(other), 1).await;
    caught_up(&cluster, member, other).await;

    // By hand.
    let (status, _) = cluster.server_mut(member).terminate();
    assert!(status.success(), "{status}");
    let (path, end) = log_end(&wal_dir);
    flip(&path, end - 9);
    refuses(cluster.server_mut(member), &path, "flipped");
    fs::rename(&data_dir, data_dir.with_extension("damaged")).expect("it can be moved away");
    cluster
        .server_mut(member)
        .add_flag("--initial-cluster-state=existing");
    cluster.run(member);
    caught_up(&cluster, member, other).await;

    // One of the files that say that it has lost its disk once.
    for name in ["incarnation", "incarnation.copy"] {
        for removed in [true, false] {
            let (status, _) = cluster.server_mut(member).terminate();
            assert!(status.success(), "{status}");
            let path = data_dir.join("member").join(name);
            match removed {
                true => fs::remove_file(&path).expect("it is there"),
                false => flip(&path, 3),
            }
            cluster.run(member);
            write_some(cluster.client(other), 2).await;
            caught_up(&cluster, member, other).await;
        }
    }

    // By itself.
    cluster.server_mut(member).add_flag("--heal-from-peers");
    for (round, damage) in ["flipped", "removed", "no log"].into_iter().enumerate() {
        let (status, _) = cluster.server_mut(member).terminate();
        assert!(status.success(), "{status}");
        let (path, end) = log_end(&wal_dir);
        match damage {
            "flipped" => flip(&path, end - 9),
            "removed" => fs::remove_file(&path).expect("it is there"),
            _ => fs::remove_dir_all(&wal_dir).expect("it is there"),
        }
        cluster.run(member);
        write_some(cluster.client(other), 3 + round).await;
        caught_up(&cluster, member, other).await;
        let kept = data_dir.join(format!("member.damaged-{}", round + 1));
        assert!(kept.join("sled.marker").is_file(), "{damage}: nothing is deleted");
    }
    let (status, _) = cluster.server_mut(member).terminate();
    assert!(status.success(), "{status}");
    let (fine, text) = check(&data_dir, None);
    assert!(fine, "{text}");
}

/// Waits until a member has what another has, and compares them.
async fn caught_up(cluster: &Cluster, member: usize, other: usize) {
    let applied = cluster
        .status(other)
        .await
        .expect("it answers")
        .raft_applied_index;
    cluster
        .wait_for("all have applied it", |all| {
            all.len() == 3 && all.iter().all(|status| status.raft_applied_index >= applied)
        })
        .await;
    assert_eq!(
        hash(cluster.client(member)).await,
        hash(cluster.client(other)).await
    );
}

/// Old revisions come from the working copy; one that is damaged there is never served.
#[tokio::test]
async fn history_that_is_damaged_while_a_member_runs() {
    if !runs_taffrail() {
        return; // the files are ours
    }
    let mut server = Server::start();
    let client = server.client().await;
    let mut random = Random::new(6);
    let mut values = Vec::new();
    for _ in 0..300 {
        let value: String = (0..3000)
            .map(|_| char::from(b'a' + u8::try_from(random.below(26)).expect("small")))
            .collect();
        let revision = client.put("key", &value).await;
        values.push((revision, value));
    }
    let before = hash(&client).await;
    let (status, _) = server.terminate();
    assert!(status.success(), "{status}");
    // Started again, it has none of the history in memory.
    server.run();
    let slabs = server.data_dir().join("member/sled/slabs");
    for entry in fs::read_dir(&slabs).expect("sled keeps its data there") {
        let path = entry.expect("an entry").path();
        let mut bytes = fs::read(&path).expect("it can be read");
        bytes.iter_mut().step_by(500).for_each(|byte| *byte ^= 1);
        // In place: the process has the file open.
        let file = fs::File::options()
            .write(true)
            .open(&path)
            .expect("it can be written");
        file.write_all_at(&bytes, 0).expect("it can be written");
    }
    let client = server.client().await;
    let mut failed = false;
    for (revision, value) in &values {
        let request = RangeRequest {
            revision: *revision,
            ..get("key")
        };
        match tokio::time::timeout(PATIENCE, client.try_range(request)).await {
            Ok(Ok(answer)) => assert_eq!(answer.kvs[0].value, *value, "never a wrong answer"),
            Ok(Err(_)) => {
                failed = true;
                break;
            }
            Err(_) => panic!("no answer in {PATIENCE:?}"),
        }
    }
    assert!(failed, "none of the history was read from the disk");
    let status = server.wait_for_exit();
    assert_eq!(status.code(), Some(1));
    assert!(
        server.log().contains("the store has failed and stops"),
        "{}",
        server.log()
    );
    server.run();
    assert!(
        server.log().contains("is set aside and rebuilt"),
        "the working copy is rebuilt: {}",
        server.log()
    );
    let client = server.client().await;
    assert_eq!(hash(&client).await, before);
    let request = RangeRequest {
        revision: values[7].0,
        ..get("key")
    };
    assert_eq!(client.range(request).await.kvs[0].value, values[7].1);
}

//! `taffrail snapshot save`, `status` and `restore`: a backup taken under writes comes back as the same state, in a new
//! cluster of any size, at the newest revision or an earlier one, and nothing is written over.
#![allow(clippy::unwrap_used, reason = "a test that fails is to panic")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::harness::*;
use proto::etcdserverpb::{DeleteRangeRequest, HashKvResponse, LeaseLeasesRequest, PutRequest, RangeRequest};
use proto::mvccpb::KeyValue;

/// What the revision rises by unless told otherwise.
const BUMP: i64 = 1_000_000_000;

fn snapshot(args: &[&str]) -> Output {
    Command::new(program())
        .arg("snapshot")
        .args(args)
        .output()
        .unwrap()
}

fn succeeds(args: &[&str]) -> String {
    let output = snapshot(args);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{args:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// A refusal: its exit code and what it says.
fn refused(args: &[&str]) -> (i32, String) {
    let output = snapshot(args);
    assert!(!output.status.success(), "{args:?}");
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

async fn save(server: &Server, file: &str) {
    let endpoint = server.endpoint();
    let path = server.scratch_dir().join(file).display().to_string();
    let saved = tokio::task::spawn_blocking({
        let path = path.clone();
        move || succeeds(&["save", &path, "--endpoints", &endpoint])
    });
    assert_eq!(
        saved.await.unwrap(),
        format!("Snapshot saved at {path}\nServer version 3.7.0\n")
    );
    assert!(!Path::new(&format!("{path}.part")).exists());
}

/// A server on a folder restored from `source` with these flags.
async fn restored(source: &Path, flags: &[&str]) -> Server {
    let mut server = Server::prepared(&[]);
    restore_to(&server, source, flags);
    server.run();
    server
}

fn restore_to(server: &Server, source: &Path, flags: &[&str]) {
    let (source, dir) = (
        source.display().to_string(),
        server.data_dir().display().to_string(),
    );
    let cluster = format!("--initial-cluster=default={}", server.peer_url());
    let peer = format!("--initial-advertise-peer-urls={}", server.peer_url());
    let args = [&["restore", &source, "--data-dir", &dir, &cluster, &peer], flags].concat();
    assert_eq!(succeeds(&args), "");
}

/// All that a client sees at a revision.
async fn keys_at(client: &Client, revision: i64) -> Vec<KeyValue> {
    let all = RangeRequest {
        range_end: ZERO,
        revision,
        ..get("\0")
    };
    client.range(all).await.kvs
}

async fn leases(client: &Client) -> Vec<i64> {
    let leases = client.lease.clone().lease_leases(LeaseLeasesRequest {}).await;
    let leases = leases.unwrap().into_inner().leases;
    leases.into_iter().map(|lease| lease.id).collect()
}

fn hash(answer: &HashKvResponse) -> (u32, i64, i64) {
    (answer.hash, answer.hash_revision, answer.compact_revision)
}

/// Every kind of history, and a lease.
async fn write_history(client: &Client) -> i64 {
    let lease = client.grant(3600).await;
    for number in 0..200 {
        client
            .put(&format!("key/{number:05}"), &format!("value {number}"))
            .await;
    }
    client.put("a long value", &"long ".repeat(100_000)).await;
    client
        .put_with(PutRequest {
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
async fn a_backup_under_writes_comes_back_as_it_was() {
    if !runs_taffrail() {
        return skip(
            "a_backup_under_writes_comes_back_as_it_was",
            "Taffrail's own commands",
        );
    }
    let server = Server::start();
    let client = server.client().await;
    let lease = write_history(&client).await;
    let writing = server.client().await;
    let writer = tokio::spawn(async move {
        for number in 0.. {
            writing
                .put(&format!("later/{}", number % 100), &number.to_string())
                .await;
        }
    });
    save(&server, "backup.db").await;
    writer.abort();
    let file = server.scratch_dir().join("backup.db");

    let mut same = restored(&file, &["--bump-revision=0"]).await;
    let theirs = same.client().await;
    let revision = theirs.revision().await;
    assert!(revision > 200 && revision <= client.revision().await);
    assert_eq!(keys_at(&theirs, 0).await, keys_at(&client, revision).await);
    for back in [1, 3] {
        let past = revision - back;
        assert_eq!(
            keys_at(&theirs, past).await,
            keys_at(&client, past).await,
            "at {past}"
        );
    }
    assert_eq!(
        hash(&theirs.hash_kv(revision).await),
        hash(&client.hash_kv(revision).await)
    );
    assert_eq!(leases(&theirs).await, [lease]);
    assert_eq!(theirs.time_to_live(lease).await.keys, ["leased"]);
    assert_eq!(theirs.put("key/00001", "in the new cluster").await, revision + 1);
    // Nothing of it hangs on the first start.
    same.kill();
    same.run();
    let theirs = same.client().await;
    assert_eq!(theirs.revision().await, revision + 1);
    theirs.revoke(lease).await.unwrap();
    assert!(theirs.range(get("leased")).await.kvs.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_of_a_busy_cluster_is_whole_and_disturbs_nobody() {
    if !runs_taffrail() {
        return skip("a_backup_of_a_busy_cluster", "Taffrail's own commands");
    }
    let cluster = Cluster::start(3).await;
    let endpoints: Vec<String> = cluster
        .members()
        .map(|member| cluster.server(member).endpoint())
        .collect();
    let size = Size {
        writers: 50,
        watchers: 10,
        readers: 5,
    };
    let crowd = Crowd::start(&size, &endpoints);
    crowd.get_on(600).await;
    let saved_from = cluster.server(cluster.follower().await);
    let before = *crowd.acknowledged().keys().last().unwrap();
    let ours = saved_from.client().await;
    // Linearizable, so the member has applied all that was acknowledged.
    ours.range(get("nothing")).await;
    save(saved_from, "backup.db").await;
    crowd.get_on(600).await;

    let back = restored(
        &saved_from.scratch_dir().join("backup.db"),
        &["--bump-revision=0"],
    )
    .await;
    let theirs = back.client().await;
    let revision = theirs.revision().await;
    assert!(revision >= before, "{revision} {before}");
    assert!(
        keys_at(&theirs, 0).await == keys_at(&ours, revision).await,
        "the keys at {revision}"
    );
    assert_eq!(
        hash(&theirs.hash_kv(revision).await),
        hash(&ours.hash_kv(revision).await)
    );
    crowd.get_on(300).await;
    let clients: Vec<Client> = cluster
        .members()
        .map(|member| cluster.client(member).clone())
        .collect();
    // Every write once, every event once and in order, on all members alike.
    crowd.finish(&clients).await;
}

#[tokio::test]
async fn by_default_the_revision_rises_and_the_past_is_compacted() {
    if !runs_taffrail() {
        return skip("by_default_the_revision_rises", "Taffrail's own commands");
    }
    let server = Server::start();
    let client = server.client().await;
    write_history(&client).await;
    save(&server, "backup.db").await;
    let file = server.scratch_dir().join("backup.db");
    let revision = client.revision().await;
    for (flags, bump) in [(&[][..], BUMP), (&["--bump-revision=77", "--mark-compacted"], 77)] {
        let bumped = restored(&file, flags).await;
        let theirs = bumped.client().await;
        assert_eq!(theirs.revision().await, revision + bump);
        // The keys keep their own revisions.
        assert_eq!(keys_at(&theirs, 0).await, keys_at(&client, 0).await);
        for old in [revision - 1, revision, revision + bump - 1] {
            let request = RangeRequest {
                revision: old,
                ..get("key/00001")
            };
            assert_status(
                theirs.try_range(request).await,
                tonic::Code::OutOfRange,
                "etcdserver: mvcc: required revision has been compacted",
            );
        }
        assert_eq!(theirs.put("key/00001", "new").await, revision + bump + 1);
    }
}

#[tokio::test]
async fn three_members_restored_from_one_file_are_one_cluster() {
    if !runs_taffrail() {
        return skip("three_members_restored_from_one_file", "Taffrail's own commands");
    }
    let server = Server::start();
    let client = server.client().await;
    write_history(&client).await;
    save(&server, "backup.db").await;
    let file = server.scratch_dir().join("backup.db").display().to_string();
    let revision = client.revision().await;

    let mut members: Vec<Server> = (0..3).map(|_| Server::prepared(&[])).collect();
    let urls: Vec<String> = members.iter().map(Server::peer_url).collect();
    let cluster = initial_cluster(&urls);
    let mut said = Vec::new();
    for (number, (member, url)) in members.iter_mut().zip(&urls).enumerate() {
        let name = format!("m{number}");
        let dir = member.data_dir().display().to_string();
        let output = snapshot(&[
            "restore",
            &file,
            "--data-dir",
            &dir,
            "--name",
            &name,
            "--initial-cluster",
            &cluster,
            "--initial-advertise-peer-urls",
            url,
        ]);
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{text}");
        said.push(text.trim().rsplit_once("cluster ").unwrap().1.to_owned());
        member.sit(Seat {
            name,
            advertised: url.clone(),
            initial_cluster: cluster.clone(),
        });
    }
    assert!(said.iter().all(|id| *id == said[0]), "{said:?}");
    members.iter_mut().for_each(Server::spawn);
    members.iter_mut().for_each(Server::wait_until_ready);
    let first = members[0].client().await;
    assert_eq!(first.put("new", "1").await, revision + BUMP + 1);
    let mut hashes = Vec::new();
    for member in &members {
        let client = member.client().await;
        // Linearizable, so it has applied everything.
        assert_eq!(keys_at(&client, 0).await.len(), keys_at(&first, 0).await.len());
        hashes.push(hash(&client.hash_kv(revision + BUMP + 1).await));
    }
    assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{hashes:?}");
}

#[tokio::test]
async fn an_earlier_revision_can_be_restored() {
    if !runs_taffrail() {
        return skip("an_earlier_revision_can_be_restored", "Taffrail's own commands");
    }
    let mut server = Server::start();
    let client = server.client().await;
    let lease = write_history(&client).await;
    let good = client.put("precious", "there").await;
    let before = keys_at(&client, good).await;
    // The accident.
    let everything = DeleteRangeRequest {
        range_end: ZERO,
        ..delete("\0")
    };
    client.delete_with(everything).await;
    client.revoke(lease).await.unwrap();
    for number in 0..20 {
        client.put("noise", &number.to_string()).await;
    }
    save(&server, "backup.db").await;
    let file = server.scratch_dir().join("backup.db");
    let to = format!("--to-revision={good}");
    let back = restored(&file, &[&to, "--bump-revision=0"]).await;
    let theirs = back.client().await;
    assert_eq!(theirs.revision().await, good);
    assert!(keys_at(&theirs, 0).await == before, "the keys at {good}");
    // Its lease has ended since; the key stays for a while.
    assert_eq!(theirs.time_to_live(lease).await.keys, ["leased"]);
    assert_eq!(theirs.time_to_live(lease).await.granted_ttl, 3600);

    // Of a folder the log tells, also what is compacted by now.
    let last = client.put("noise", "last").await;
    client.compact(last).await;
    server.terminate();
    let folder = server.data_dir();
    let back = restored(&folder, &[&to, "--bump-revision=0"]).await;
    let theirs = back.client().await;
    assert_eq!(theirs.revision().await, good);
    assert!(keys_at(&theirs, 0).await == before, "the keys at {good}");
    assert_eq!(theirs.time_to_live(lease).await.keys, ["leased"]);
    let newest = restored(&folder, &["--bump-revision=0"]).await;
    assert_eq!(newest.client().await.revision().await, last);

    let dir = server.scratch_dir().join("none").display().to_string();
    let (file, folder) = (file.display().to_string(), folder.display().to_string());
    let beyond = format!("{}", last + 1);
    let to = |source, revision| refused(&["restore", source, "--data-dir", &dir, "--to-revision", revision]);
    let (code, text) = to(&folder, &beyond);
    assert_eq!(code, 1);
    assert_eq!(
        text,
        format!("Error: revision {beyond} is not covered: {folder} covers the revisions from 1 to {last}\n")
    );
    let (_, text) = to(&file, "3");
    assert!(
        text.contains(&format!(
            "revision 3 is not covered: {file} covers the revisions from "
        )),
        "{text}"
    );
    assert!(!Path::new(&dir).exists());
    // The server's own folder is as it was.
    server.run();
    assert_eq!(server.client().await.revision().await, last);
}

/// A copy of a file with some bytes changed.
fn changed(file: &Path, name: &str, change: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut bytes = fs::read(file).unwrap();
    change(&mut bytes);
    let path = file.with_file_name(name);
    fs::write(&path, bytes).unwrap();
    path.display().to_string()
}

#[tokio::test]
async fn refusals_are_etcdutls() {
    if !runs_taffrail() {
        return skip("refusals_are_etcdutls", "Taffrail's own commands");
    }
    let server = Server::start();
    server.client().await.put("k", "v").await;
    save(&server, "backup.db").await;
    let path = server.scratch_dir().join("backup.db");
    let file = path.display().to_string();
    let dir = server.scratch_dir().join("restored").display().to_string();
    let restore = |more: &[&str]| refused(&[&["restore", &file, "--data-dir", &dir], more].concat());

    let arguments = |text: &str| (128, format!("Error: {text}\n"));
    assert_eq!(
        refused(&["restore"]),
        arguments("snapshot restore requires exactly one argument")
    );
    assert_eq!(
        refused(&["status"]),
        arguments("snapshot status requires exactly one argument")
    );
    assert_eq!(
        refused(&["save"]),
        arguments("snapshot save expects one argument <filename>")
    );
    let mark = "--mark-compacted required if --revision-bump > 0";
    assert_eq!(
        restore(&["--mark-compacted", "--bump-revision=0"]),
        arguments(mark)
    );
    assert_eq!(
        restore(&["--mark-compacted=false", "--bump-revision=5"]),
        arguments(mark)
    );
    assert_eq!(
        refused(&["status", &file, "-w", "xml"]),
        (4, "Error: unsupported output format\n".to_owned())
    );

    let failed = |text: &str| (1, format!("Error: {text}\n"));
    assert_eq!(
        restore(&["--name=other"]),
        failed("couldn't find local name \"other\" in the initial cluster configuration")
    );
    let (_, text) = restore(&["--initial-advertise-peer-urls=http://localhost:1"]);
    assert!(
        text.contains(
            "--initial-cluster has default=http://localhost:2380 but missing from \
             --initial-advertise-peer-urls=http://localhost:1"
        ),
        "{text}"
    );
    let occupied = server.data_dir().display().to_string();
    assert_eq!(
        refused(&["restore", &file, "--data-dir", &occupied]),
        failed(&format!("data-dir \"{occupied}\" not empty or could not be read"))
    );
    let wal = server.scratch_dir().display().to_string();
    assert_eq!(
        restore(&["--wal-dir", &wal]),
        failed(&format!("wal-dir \"{wal}\" exists"))
    );

    let bare = changed(&path, "bare.db", |bytes| bytes.truncate(bytes.len() - 32));
    assert_eq!(
        refused(&["restore", &bare, "--data-dir", &dir]),
        failed("snapshot missing hash but --skip-hash-check=false")
    );
    let flipped = changed(&path, "flipped.db", |bytes| bytes[5000] ^= 1);
    let (code, text) = refused(&["restore", &flipped, "--data-dir", &dir]);
    assert!(
        code == 1 && text.starts_with("Error: expected sha256 ["),
        "{text}"
    );
    // Damage that nobody's digest tells of is found in the pages.
    let mad = changed(&path, "mad.db", |bytes| {
        let pages = bytes.len() / 4096;
        for page in 2..pages {
            bytes[page * 4096 + 12] = 0xff;
        }
    });
    let (code, text) = refused(&["restore", &mad, "--data-dir", &dir, "--skip-hash-check"]);
    assert!(code == 1 && text.contains("the file is damaged: page "), "{text}");
    let (code, text) = refused(&["status", &mad]);
    assert!(code == 1 && text.contains("the file is damaged: page "), "{text}");
    assert!(!Path::new(&dir).exists(), "nothing is left of attempts");

    succeeds(&["restore", &bare, "--data-dir", &dir, "--skip-hash-check"]);
    let nobody = refused(&["save", &file, "--endpoints=127.0.0.1:1,127.0.0.1:2"]);
    assert_eq!(
        nobody,
        (
            5,
            "Error: snapshot must be requested to one selected node, not multiple [127.0.0.1:1 127.0.0.1:2]\n"
                .to_owned()
        )
    );
}

/// A run of a tool of etcd's that must succeed; what it prints.
fn run(tool: &Path, args: &[&str]) -> String {
    let output = Command::new(tool)
        .env("ETCDCTL_API", "3")
        .args(args)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{tool:?} {args:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn the_status_is_etcdutls() {
    let test = "the_status_is_etcdutls";
    if !runs_taffrail() {
        return skip(test, "Taffrail's own commands");
    }
    let Some(tool) = needs_etcdutl(test) else { return };
    let server = Server::start();
    write_history(&server.client().await).await;
    save(&server, "backup.db").await;
    let file = server.scratch_dir().join("backup.db").display().to_string();
    for format in ["simple", "json", "fields", "table"] {
        let args = ["status", &file, "-w", format];
        let theirs = run(&tool, &[&["snapshot"], args.as_slice()].concat());
        assert_eq!(succeeds(&args), theirs);
    }
}

#[tokio::test]
async fn data_move_over_from_etcd() {
    let test = "data_move_over_from_etcd";
    if !runs_taffrail() {
        return skip(test, "Taffrail's own commands");
    }
    let (Some(tool), Some(program)) = (needs_etcdctl(test), needs(test, "etcd")) else {
        return;
    };
    let scratch = tempfile::tempdir().unwrap();
    let mut etcd = Etcd::start(&program, scratch.path(), &Ports::reserve());
    let client = Client::connect(&etcd.endpoint).await;
    let lease = write_history(&client).await;
    // Enough for a tree of several levels, with holes.
    for number in 0..3000 {
        client
            .put(&format!("many/{number:06}"), &"x".repeat(number % 50))
            .await;
    }
    client.delete_with(delete_prefix("many/0010")).await;
    let revision = client.revision().await;
    let file = scratch.path().join("etcd.db");
    run(
        &tool,
        &[
            "--endpoints",
            &etcd.endpoint,
            "snapshot",
            "save",
            file.to_str().unwrap(),
        ],
    );
    let kvs = keys_at(&client, 0).await;
    // Version 3.4 does not name the revision that it has hashed.
    let hashed = client.hash_kv(revision).await;
    let hashed = (hashed.hash, revision, hashed.compact_revision);
    let status = run(
        &tool,
        &["snapshot", "status", file.to_str().unwrap(), "-w", "json"],
    );
    let theirs: serde_json::Value = serde_json::from_str(&status).unwrap();
    let status = succeeds(&["status", file.to_str().unwrap(), "-w", "json"]);
    let ours: serde_json::Value = serde_json::from_str(&status).unwrap();
    for field in ["hash", "revision", "totalSize"] {
        assert_eq!(ours[field], theirs[field], "{field}");
    }

    // Saved from the server, and as it lies there when that has stopped.
    etcd.stop();
    let database = etcd.dir.join("member/snap/db");
    for (source, skip) in [
        (&file, "--skip-hash-check=false"),
        (&database, "--skip-hash-check"),
    ] {
        let server = restored(source, &[skip, "--bump-revision=0"]).await;
        let ours = server.client().await;
        assert_eq!(ours.revision().await, revision);
        assert!(keys_at(&ours, 0).await == kvs, "the keys");
        assert_eq!(hash(&ours.hash_kv(revision).await), hashed);
        assert_eq!(leases(&ours).await, [lease]);
        assert_eq!(ours.put("k", "moved").await, revision + 1);
    }
    // Whoever starts on etcd's folder itself is told the way.
    let mut server = Server::prepared(&[]);
    fs::rename(&etcd.dir, server.data_dir()).unwrap();
    server.spawn();
    assert_eq!(server.wait_for_exit().code(), Some(1));
    let log = server.log();
    assert!(log.contains("taffrail snapshot restore"), "{log}");
}

//! The working copy of the state is expendable: with the sled directory removed, replaced by an older copy or damaged
//! at random, 50 times in all, the server starts with the same HashKV and has lost nothing.

use std::fs::{self, File};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use crate::harness::*;
use proto::etcdserverpb::{HashKvResponse, LeaseLeasesRequest, PutRequest, RangeRequest};
use proto::mvccpb::KeyValue;

const ROUNDS: u64 = 50;
const SEED: u64 = 50;

/// All that a client can see of the store.
#[derive(Debug, PartialEq)]
struct Visible {
    hash: (u32, i64, i64),
    kvs: Vec<KeyValue>,
    leases: Vec<i64>,
}

#[tokio::test]
async fn working_copy_removed_replaced_or_damaged() {
    if !runs_taffrail() {
        return; // another server has no such directory
    }
    let mut server = Server::start();
    let sled = server.data_dir().join("member/sled");
    let older = server.scratch_dir().join("older");
    let mut random = Random::new(SEED);
    for round in 0..ROUNDS {
        write_some(&server.client().await, round, &mut random).await;
        if round % 3 == 1 {
            // A copy of a server at rest, and more writes behind it.
            stop(&mut server, round);
            copy_dir(&sled, &older);
            server.run();
            write_some(&server.client().await, round, &mut random).await;
        }
        let before = look(&server).await;
        stop(&mut server, round);
        let what = match round % 3 {
            0 => {
                fs::remove_dir_all(&sled).expect("the directory is there");
                "removed".to_owned()
            }
            1 => {
                fs::remove_dir_all(&sled).expect("the directory is there");
                fs::rename(&older, &sled).expect("a copy was made");
                "replaced by an older copy".to_owned()
            }
            _ => damage(&sled, &mut random),
        };
        server.run();
        let after = look(&server).await;
        assert_eq!(after, before, "round {round}: {what}");
    }
    // What was rebuilt is as good as before: it serves, and survives a plain restart.
    let client = server.client().await;
    let revision = client.put("after", "all").await;
    stop(&mut server, 0);
    server.run();
    assert_eq!(server.client().await.revision().await, revision);
}

#[tokio::test]
async fn working_copy_of_another_store_is_refused() {
    if !runs_taffrail() {
        return; // another server has no such directory
    }
    let (mut ours, mut other) = (Server::start(), Server::start());
    let mut random = Random::new(SEED + 1);
    for round in 0..20 {
        write_some(&other.client().await, round, &mut random).await;
    }
    write_some(&ours.client().await, 0, &mut random).await;
    let before = look(&ours).await;
    stop(&mut ours, 1);
    stop(&mut other, 1);
    let sled = ours.data_dir().join("member/sled");
    let own = ours.scratch_dir().join("own");
    fs::rename(&sled, &own).expect("the directory is there");
    copy_dir(&other.data_dir().join("member/sled"), &sled);
    ours.spawn();
    let status = ours.wait_for_exit();
    assert_eq!(status.code(), Some(1), "{}", ours.log());
    assert!(ours.log().contains(&sled.display().to_string()), "{}", ours.log());

    // Nothing was damaged by the attempt.
    fs::remove_dir_all(&sled).expect("it was left in place");
    fs::rename(&own, &sled).expect("it was set aside");
    ours.run();
    assert_eq!(look(&ours).await, before);
}

/// Ends the server in one of two ways: killed, or asked to stop.
fn stop(server: &mut Server, round: u64) {
    if round.is_multiple_of(2) {
        server.kill();
    } else {
        let (status, _) = server.terminate();
        assert!(status.success(), "{status}");
    }
}

/// Some puts, deletes, txns and leases, and now and then a compaction.
async fn write_some(client: &Client, round: u64, random: &mut Random) {
    let lease = client.grant(3600).await;
    let mut last = 0;
    for _ in 0..40 {
        let key = format!("d/{}", random.below(60));
        let value = "v".repeat(usize::try_from(random.below(3000)).expect("small"));
        last = match random.below(10) {
            0 => client.delete(&key).await,
            1 => {
                let request = then(vec![
                    op(put(&key, &value)),
                    op(put("d/counter", &round.to_string())),
                ]);
                header_revision(&client.txn(request).await.header)
            }
            2 => header_revision(
                &client
                    .put_with(PutRequest {
                        lease,
                        ..put(&key, &value)
                    })
                    .await
                    .header,
            ),
            _ => client.put(&key, &value).await,
        };
    }
    if round % 7 == 3 {
        client.compact(last - random.below(30).cast_signed()).await;
    }
}

async fn look(server: &Server) -> Visible {
    let client = server.client().await;
    let HashKvResponse {
        hash,
        compact_revision,
        hash_revision,
        ..
    } = client.hash_kv(0).await;
    let everything = RangeRequest {
        key: ZERO,
        range_end: ZERO,
        ..Default::default()
    };
    let leases = client
        .lease
        .clone()
        .lease_leases(LeaseLeasesRequest {})
        .await
        .expect("leases are listed");
    let mut leases: Vec<i64> = leases.into_inner().leases.iter().map(|lease| lease.id).collect();
    leases.sort_unstable();
    Visible {
        hash: (hash, compact_revision, hash_revision),
        kvs: client.range(everything).await.kvs,
        leases,
    }
}

/// Damages one to three files and says how.
fn damage(dir: &Path, random: &mut Random) -> String {
    let mut files = Vec::new();
    list_files(dir, &mut files);
    files.sort();
    assert!(!files.is_empty(), "no file in {}", dir.display());
    let mut done = Vec::new();
    for _ in 0..=random.below(3) {
        let path = &files[usize::try_from(random.below(files.len() as u64)).expect("small")];
        let Ok(mut file) = File::options().write(true).open(path) else {
            continue;
        };
        let length = file.metadata().expect("a file has a length").len();
        let name = path
            .strip_prefix(dir)
            .expect("listed below it")
            .display()
            .to_string();
        done.push(match random.below(4) {
            0 => {
                let keep = random.below(length + 1);
                file.set_len(keep).expect("a file can be cut");
                format!("{name} cut from {length} to {keep}")
            }
            1 => {
                drop(file);
                fs::remove_file(path).expect("a file can be removed");
                format!("{name} removed")
            }
            _ if length == 0 => format!("{name} left, it is empty"),
            _ => {
                let count = 1 + random.below(64);
                for _ in 0..count {
                    file.seek(SeekFrom::Start(random.below(length)))
                        .expect("within the file");
                    file.write_all(&[random.next().to_le_bytes()[0]])
                        .expect("a byte can be written");
                }
                format!("{count} bytes of {name} overwritten")
            }
        });
    }
    done.join(", ")
}

fn list_files(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            list_files(&path, files);
        } else {
            files.push(path);
        }
    }
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory can be made");
    for entry in fs::read_dir(from).expect("a directory") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("an entry has a name"));
        if path.is_dir() {
            copy_dir(&path, &target);
        } else {
            fs::copy(&path, &target).expect("a file can be copied");
        }
    }
}

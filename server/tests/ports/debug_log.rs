//! `taffrail debug log`: what it prints of a running and of a stopped member's log, and that it leaves no trace.
#![allow(clippy::unwrap_used, reason = "a test that fails is to panic")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::SystemTime;

use crate::harness::*;
use prost::Message as _;
use proto::etcdserverpb::InternalRaftRequest;
use proto::raftpb::{Entry, EntryType, HardState};
use serde_json::Value;

fn debug_log(args: &[&str]) -> Output {
    Command::new(program())
        .args(["debug", "log"])
        .args(args)
        .output()
        .unwrap()
}

/// The lines that a run must print without complaint.
fn lines(args: &[&str]) -> Vec<Value> {
    let output = debug_log(args);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{errors}");
    values(&output.stdout)
}

fn values(stdout: &[u8]) -> Vec<Value> {
    let text = String::from_utf8(stdout.to_vec()).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The keys put, in order.
fn keys(lines: &[Value]) -> Vec<String> {
    use base64::Engine as _;
    let keys = lines.iter().filter_map(|line| line.pointer("/request/put/key"));
    let decode = |key: &Value| {
        base64::engine::general_purpose::STANDARD
            .decode(key.as_str().unwrap())
            .unwrap()
    };
    keys.map(|key| String::from_utf8(decode(key)).unwrap()).collect()
}

/// Every file below a folder with its length, its time of change and its bytes.
fn content(dir: &Path) -> BTreeMap<PathBuf, (SystemTime, Vec<u8>)> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(content(&path));
        } else {
            let changed = fs::metadata(&path).unwrap().modified().unwrap();
            found.insert(path.clone(), (changed, fs::read(&path).unwrap()));
        }
    }
    found
}

#[tokio::test]
async fn every_entry_is_printed_once_and_in_order() {
    if !runs_taffrail() {
        return skip("every_entry_is_printed_once_and_in_order", "Taffrail's own log");
    }
    let mut server = Server::start();
    let client = server.client().await;
    let expected: Vec<String> = (0..500).map(|number| format!("key {number}")).collect();
    for key in &expected {
        client.put(key, "value").await;
    }
    let dir = server.data_dir();
    let dir = dir.to_str().unwrap();
    // Beside the member, while it writes on.
    let more = server.client().await;
    let writer = tokio::spawn(async move {
        for number in 0.. {
            more.put(&format!("more {number}"), &"x".repeat(2000)).await;
        }
    });
    for _ in 0..5 {
        let args = [dir.to_owned()];
        let printed = tokio::task::spawn_blocking(move || lines(&[args[0].as_str()]))
            .await
            .unwrap();
        assert_eq!(keys(&printed)[..500], expected);
    }
    writer.abort();
    server.terminate();

    let before = content(&server.data_dir());
    let printed = lines(&[dir]);
    assert_eq!(printed[0]["type"], "Metadata");
    let entries: Vec<&Value> = printed
        .iter()
        .filter(|line| line["type"].as_str().unwrap().starts_with("Entry"))
        .collect();
    for (at, entry) in entries.iter().enumerate() {
        assert_eq!(entry["index"], at as u64 + 1);
    }
    assert!(printed.iter().any(|line| line["type"] == "HardState"));
    let wal = format!("{dir}/member/wal");
    assert_eq!(lines(&["/nowhere", "--wal-dir", &wal]), printed);

    // The other form says the same.
    let output = debug_log(&[dir, "--binary"]);
    assert!(output.status.success());
    assert_eq!(binary(&output.stdout), summary(&printed));
    assert!(content(&server.data_dir()) == before, "nothing was touched");
}

/// Entries as (term, index, key put), hard states as (term, commit, nothing).
fn summary(lines: &[Value]) -> Vec<(u64, u64, Option<String>)> {
    let line = |line: &Value| {
        let number = |name: &str| line[name].as_u64().unwrap();
        match line["type"].as_str().unwrap() {
            "HardState" => Some((number("term"), number("commit"), None)),
            "EntryNormal" => Some((
                number("term"),
                number("index"),
                keys(std::slice::from_ref(line)).pop(),
            )),
            _ => None,
        }
    };
    lines.iter().filter_map(line).collect()
}

fn binary(mut bytes: &[u8]) -> Vec<(u64, u64, Option<String>)> {
    let mut found = Vec::new();
    while let Some((mark, rest)) = bytes.split_first() {
        let (length, rest) = rest.split_first_chunk::<4>().unwrap();
        let (message, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
        bytes = rest;
        match mark {
            b'S' => {
                let state = HardState::decode(message).unwrap();
                found.push((state.term, state.commit, None));
            }
            b'E' => {
                let entry = Entry::decode(message).unwrap();
                assert_eq!(entry.r#type(), EntryType::EntryNormal);
                let request = InternalRaftRequest::decode(entry.data).unwrap();
                let key = request
                    .put
                    .map(|put| String::from_utf8(put.key.to_vec()).unwrap());
                found.push((entry.term, entry.index, key));
            }
            other => panic!("mark {other}"),
        }
    }
    found
}

#[tokio::test]
async fn damage_is_named_after_all_that_is_whole() {
    if !runs_taffrail() {
        return skip("damage_is_named_after_all_that_is_whole", "Taffrail's own log");
    }
    let mut server = Server::start();
    let client = server.client().await;
    for number in 0..200 {
        client.put(&format!("key {number:03}"), &"x".repeat(1000)).await;
    }
    server.terminate();
    let dir = server.data_dir();
    let segment = dir.join("member/wal/0000000000000001.wal");
    let bytes = fs::read(&segment).unwrap();
    let place = bytes.windows(7).position(|window| window == b"key 100").unwrap();
    let file = fs::OpenOptions::new().write(true).open(&segment).unwrap();
    file.write_all_at(b"K", place as u64).unwrap();
    drop(file);
    let output = debug_log(&[dir.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        errors.contains(segment.to_str().unwrap()) && errors.contains("is damaged at byte"),
        "{errors}"
    );
    let printed = keys(&values(&output.stdout));
    let expected: Vec<String> = (0..100).map(|number| format!("key {number:03}")).collect();
    assert_eq!(printed, expected);
}

#[test]
fn wrong_command_lines_and_folders() {
    if !runs_taffrail() {
        return skip("wrong_command_lines_and_folders", "Taffrail's own commands");
    }
    assert_eq!(debug_log(&[]).status.code(), Some(2));
    assert_eq!(debug_log(&["a", "b"]).status.code(), Some(2));
    let dir = tempfile::tempdir().unwrap();
    let output = debug_log(&[dir.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("member/wal"));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing was made");
    // A reader that leaves early is none to complain of.
    let server = Server::start();
    let command = format!(
        "{} debug log {} | true",
        program().display(),
        server.data_dir().display()
    );
    let output = Command::new("sh").args(["-c", &command]).output().unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()));
}

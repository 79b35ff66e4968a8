//! The fuzz targets without libFuzzer: seeds, what was found once, and mutations of both, the same every time. With
//! `FUZZ_SECONDS` each goes on for so long.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(
    missing_docs,
    unreachable_pub,
    reason = "the targets are a crate of their own elsewhere"
)]

#[allow(dead_code, reason = "only some of it is for tests")]
#[path = "../fuzz/src/lib.rs"]
mod targets;

use std::path::Path;

use targets::replay::{Budget, replay};

fn run(name: &str, inputs: u64) {
    let target = targets::TARGETS
        .iter()
        .find(|target| target.name == name)
        .unwrap();
    let found = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/found")
        .join(name);
    let count = replay(
        (target.seeds)(),
        &found,
        Budget::from_env(inputs),
        target.one_input,
    );
    println!("{name}: {count} inputs");
}

#[test]
fn model() {
    run("model", 3000);
}

#[test]
fn peers() {
    run("peers", 300);
}

#[test]
fn permissions() {
    run("permissions", 5000);
}

#[test]
fn requests() {
    run("requests", 5000);
}

#[test]
fn snapshot() {
    run("snapshot", 5000);
}

#[test]
fn wal() {
    run("wal", 2000);
}

/// libFuzzer knows the same targets, and each of them has a file.
#[test]
fn every_target_has_its_program() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/fuzz_targets");
    let mut files: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            entry
                .unwrap()
                .path()
                .file_stem()
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    files.sort();
    let names: Vec<&str> = targets::TARGETS.iter().map(|target| target.name).collect();
    assert_eq!(files, names);
}

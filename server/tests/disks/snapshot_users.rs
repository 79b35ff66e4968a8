//! Users, roles and permissions travel in backups: from etcd to us and from us to etcd, with their passwords, and whoever
//! had to say who he is before has to afterwards.
#![allow(clippy::unwrap_used, reason = "a test that fails is to panic")]

use std::path::Path;
use std::process::{Command, Output};

use crate::harness::*;

const ROOT: &str = "--user=root:root-password";

fn ctl(tool: &Path, endpoint: &str, args: &[&str]) -> Output {
    Command::new(tool)
        .env("ETCDCTL_API", "3")
        .args(["--endpoints", endpoint])
        .args(args)
        .output()
        .unwrap()
}

fn succeeds(tool: &Path, endpoint: &str, args: &[&str]) -> String {
    let output = ctl(tool, endpoint, args);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{args:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// Makes users and roles, and turns auth on.
fn guard(tool: &Path, endpoint: &str) {
    let commands = [
        "put open/a 1",
        "put closed/a 1",
        "user add root:root-password",
        "user add alice:alice-password",
        "user add cert --no-password",
        "role add root",
        "role add reader",
        "role add empty",
        "role grant-permission reader read open/ --prefix=true",
        "role grant-permission reader readwrite open/a",
        "role grant-permission reader write own",
        "user grant-role root root",
        "user grant-role alice reader",
        "user grant-role alice empty",
        "user grant-role cert reader",
        "auth enable",
    ];
    for command in commands {
        let args: Vec<_> = command.split(' ').collect();
        succeeds(tool, endpoint, &args);
    }
}

/// What etcdctl tells about users and roles; but for the role root, of which etcd 3.4 and 3.7 tell different things.
fn told(tool: &Path, endpoint: &str) -> Vec<String> {
    let commands = [
        "user list",
        "user get root",
        "user get alice",
        "user get cert",
        "role list",
        "role get reader",
        "role get empty",
    ];
    commands
        .iter()
        .map(|command| {
            let args: Vec<_> = [ROOT].into_iter().chain(command.split(' ')).collect();
            succeeds(tool, endpoint, &args)
        })
        .collect()
}

/// Whoever had to say who he is still has to, and may do what he might.
fn is_guarded(tool: &Path, endpoint: &str) {
    let refused = |args: &[&str], text: &str| {
        let output = ctl(tool, endpoint, args);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            !output.status.success() && errors.contains(text),
            "{args:?}: {errors}"
        );
    };
    refused(&["get", "open/a"], "user name is empty");
    refused(
        &["--user=alice:root-password", "get", "open/a"],
        "authentication failed, invalid user ID or password",
    );
    let alice = "--user=alice:alice-password";
    assert_eq!(succeeds(tool, endpoint, &[alice, "get", "open/a"]), "open/a\n1\n");
    refused(&[alice, "get", "closed/a"], "permission denied");
    refused(&[alice, "put", "open/b", "1"], "permission denied");
    succeeds(tool, endpoint, &[alice, "put", "own", "1"]);
    assert_eq!(
        succeeds(tool, endpoint, &[ROOT, "get", "closed/a"]),
        "closed/a\n1\n"
    );
}

#[test]
fn users_move_over_from_etcd() {
    let test = "users_move_over_from_etcd";
    if !runs_taffrail() {
        return skip(test, "Taffrail's own commands");
    }
    let (Some(tool), Some(program)) = (needs_etcdctl(test), needs(test, "etcd")) else {
        return;
    };
    let scratch = tempfile::tempdir().unwrap();
    let etcd = Etcd::start(&program, scratch.path(), &Ports::reserve());
    guard(&tool, &etcd.endpoint);
    let theirs = told(&tool, &etcd.endpoint);
    let file = scratch.path().join("etcd.db").display().to_string();
    succeeds(&tool, &etcd.endpoint, &[ROOT, "snapshot", "save", &file]);

    let mut server = Server::prepared(&[]);
    let dir = server.data_dir().display().to_string();
    let restored = Command::new(crate::harness::program())
        .args(["snapshot", "restore", &file, "--data-dir", &dir])
        .arg(format!("--initial-cluster=default={}", server.peer_url()))
        .arg(format!("--initial-advertise-peer-urls={}", server.peer_url()))
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&restored.stderr);
    assert!(restored.status.success(), "{errors}");
    server.run();
    assert_eq!(told(&tool, &server.endpoint()), theirs);
    is_guarded(&tool, &server.endpoint());
}

#[test]
fn users_move_over_to_etcd() {
    let test = "users_move_over_to_etcd";
    if !runs_taffrail() {
        return skip(test, "Taffrail's own commands");
    }
    let (Some(tool), Some(program)) = (needs_etcdctl(test), needs(test, "etcd")) else {
        return;
    };
    let server = Server::start();
    guard(&tool, &server.endpoint());
    let ours = told(&tool, &server.endpoint());
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("ours.db").display().to_string();
    succeeds(&tool, &server.endpoint(), &[ROOT, "snapshot", "save", &file]);
    let refused = ctl(&tool, &server.endpoint(), &["snapshot", "save", "/nowhere/db"]);
    assert!(!refused.status.success());

    let ports = Ports::reserve();
    let peer = format!("http://127.0.0.1:{}", ports.peer);
    let dir = scratch.path().join("etcd").display().to_string();
    let restore = ["snapshot", "restore", &file, "--data-dir", &dir];
    let member = [
        format!("--initial-cluster=default={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
    ];
    let args: Vec<&str> = restore
        .into_iter()
        .chain(member.iter().map(String::as_str))
        .collect();
    succeeds(&tool, "unused:1", &args);
    let etcd = Etcd::start(&program, scratch.path(), &ports);
    assert_eq!(told(&tool, &etcd.endpoint), ours);
    is_guarded(&tool, &etcd.endpoint);
}

/// A member that starts again asks for passwords as before.
#[test]
fn users_outlast_a_restart() {
    let test = "users_outlast_a_restart";
    let Some(tool) = needs_etcdctl(test) else { return };
    let mut server = Server::start();
    guard(&tool, &server.endpoint());
    let before = told(&tool, &server.endpoint());
    for _ in 0..2 {
        server.kill();
        server.run();
        assert_eq!(told(&tool, &server.endpoint()), before);
        is_guarded(&tool, &server.endpoint());
    }
}

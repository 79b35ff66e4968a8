//! The same session with two real clients: etcd's Go client, and Debian's etcdctl.

mod harness;
#[path = "clients/script.rs"]
mod script;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use harness::*;
use script::Session;

#[test]
fn go_client_session() {
    let Some(go) = needs("go_client_session", "go") else {
        return;
    };
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/go");
    let session = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("go-client-session");
    let built = Command::new(go)
        .current_dir(&source)
        .args(["build", "-mod=readonly", "-o"])
        .arg(&session)
        .arg(".")
        .output()
        .expect("go can be run");
    assert!(
        built.status.success(),
        "go build: {}",
        String::from_utf8_lossy(&built.stderr)
    );

    let server = Server::start();
    let ran = Command::new(session)
        .arg(server.endpoint())
        .output()
        .expect("the session can be run");
    let transcript = String::from_utf8(ran.stdout).expect("the transcript is text");
    assert!(
        ran.status.success(),
        "{transcript}\n{}",
        String::from_utf8_lossy(&ran.stderr)
    );
    let expected = fs::read_to_string(source.join("expected.txt")).expect("the expected transcript");
    assert_eq!(transcript, expected);
}

#[test]
fn etcdctl_session() {
    let Some(etcdctl) = needs_etcdctl("etcdctl_session") else {
        return;
    };
    let server = Server::start();
    let endpoint = server.client_address().to_string();
    let peer = format!("http://127.0.0.1:{}", server.ports().peer);
    let mut session = Session::new(&etcdctl, &[("ENDPOINT", &endpoint), ("PEER", &peer)]);
    let mut transcript = String::new();
    let complaints = session.run(include_str!("clients/etcdctl_session.txt"), &mut transcript);
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("etcdctl_session.txt");
    fs::write(&kept, transcript).expect("the directory for tests' files is writable");
    assert!(
        complaints.is_empty(),
        "{} steps went otherwise:\n\n{}",
        complaints.len(),
        complaints.join("\n")
    );
}

#[test]
fn etcdctl_watches_from_now_on() {
    let Some(etcdctl) = needs_etcdctl("etcdctl_watches_from_now_on") else {
        return;
    };
    let server = Server::start();
    let log = server.scratch_dir().join("watch.txt");
    let run = |arguments: &[&str]| {
        let mut command = Command::new(&etcdctl);
        command
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &server.endpoint()])
            .args(arguments);
        command
    };
    let put = |value: &str| {
        let output = run(&["put", "now", value]).output().expect("etcdctl can be run");
        assert!(output.status.success(), "{output:?}");
    };
    let file = fs::File::create(&log).expect("a file for the output");
    let mut watch = run(&["watch", "now"])
        .stdin(Stdio::null())
        .stdout(file)
        .spawn()
        .expect("etcdctl can be run");
    // Nothing tells when the watch has begun, so the first put that it sees does.
    let printed = || fs::read_to_string(&log).expect("the output is text");
    let start = Instant::now();
    while printed().is_empty() {
        assert!(start.elapsed() < PATIENCE, "the watch has printed nothing");
        put("begin");
        std::thread::sleep(Duration::from_millis(20));
    }
    put("1");
    put("2");
    wait_until("the last event", || printed().ends_with("PUT\nnow\n2\n"));
    watch.kill().expect("etcdctl can be killed");
    watch.wait().expect("etcdctl can be waited for");
    let events = printed().replace("PUT\nnow\nbegin\n", "");
    assert_eq!(events, "PUT\nnow\n1\nPUT\nnow\n2\n");
}

//! The same session with two real clients, etcd's Go client and Debian's etcdctl: against one member, and against
//! three through the leader, through each follower and with all endpoints.

mod harness;
#[path = "clients/script.rs"]
mod script;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use harness::*;
use script::Session;

#[test]
fn go_client_session() {
    let Some(session) = go_session("go_client_session") else {
        return;
    };
    let server = Server::start();
    run_go_session(session, 1, &[server.endpoint()]);
}

#[tokio::test]
async fn go_client_session_through_the_leader_of_three() {
    go_session_with_three("go_client_session_through_the_leader_of_three", Through::Leader).await;
}

#[tokio::test]
async fn go_client_session_through_a_follower() {
    go_session_with_three("go_client_session_through_a_follower", Through::Follower(0)).await;
}

#[tokio::test]
async fn go_client_session_through_the_other_follower() {
    go_session_with_three(
        "go_client_session_through_the_other_follower",
        Through::Follower(1),
    )
    .await;
}

#[tokio::test]
async fn go_client_session_with_three_endpoints() {
    go_session_with_three("go_client_session_with_three_endpoints", Through::All).await;
}

/// The members of a cluster of three that a client talks to.
#[derive(Clone, Copy)]
enum Through {
    Leader,
    Follower(usize),
    All,
}

impl Through {
    async fn endpoints(self, cluster: &Cluster) -> Vec<String> {
        let leader = cluster.leader().await;
        let members = match self {
            Through::Leader => vec![leader],
            Through::Follower(number) => vec![cluster.others(leader)[number]],
            Through::All => cluster.members().collect(),
        };
        members
            .into_iter()
            .map(|member| cluster.server(member).endpoint())
            .collect()
    }
}

async fn go_session_with_three(test: &str, through: Through) {
    let Some(session) = go_session(test) else {
        return;
    };
    let cluster = Cluster::start(3).await;
    run_go_session(session, 3, &through.endpoints(&cluster).await);
}

/// The Go program, built once; nothing without Go.
fn go_session(test: &str) -> Option<&'static Path> {
    static SESSION: OnceLock<PathBuf> = OnceLock::new();
    let go = needs(test, "go")?;
    Some(SESSION.get_or_init(|| {
        let session = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("go-client-session");
        let built = Command::new(go)
            .current_dir(go_source())
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
        session
    }))
}

fn go_source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/go")
}

/// Runs the session against an empty store of so many members and compares its transcript.
fn run_go_session(session: &Path, members: usize, endpoints: &[String]) {
    let ran = Command::new(session)
        .arg(members.to_string())
        .arg(endpoints.join(","))
        .output()
        .expect("the session can be run");
    let transcript = String::from_utf8(ran.stdout).expect("the transcript is text");
    assert!(
        ran.status.success(),
        "{transcript}\n{}",
        String::from_utf8_lossy(&ran.stderr)
    );
    let expected = fs::read_to_string(go_source().join("expected.txt")).expect("the expected transcript");
    assert_eq!(transcript, expected);
}

#[test]
fn etcdctl_session() {
    let Some(etcdctl) = needs_etcdctl("etcdctl_session") else {
        return;
    };
    let server = Server::start();
    let endpoint = server.client_address().to_string();
    let peer = server.peer_url();
    let session = Session::new(&etcdctl, &[("ENDPOINT", &endpoint), ("PEER", &peer)]);
    let about_cluster = Session::new(&etcdctl, &[("ENDPOINT", &endpoint), ("PEER", &peer)]);
    run_etcdctl_session("etcdctl_session", session, about_cluster, ONE_MEMBER);
}

#[tokio::test]
async fn etcdctl_session_through_the_leader_of_three() {
    etcdctl_session_with_three("etcdctl_session_through_the_leader_of_three", Through::Leader).await;
}

#[tokio::test]
async fn etcdctl_session_through_a_follower() {
    etcdctl_session_with_three("etcdctl_session_through_a_follower", Through::Follower(0)).await;
}

#[tokio::test]
async fn etcdctl_session_through_the_other_follower() {
    etcdctl_session_with_three("etcdctl_session_through_the_other_follower", Through::Follower(1)).await;
}

#[tokio::test]
async fn etcdctl_session_with_three_endpoints() {
    etcdctl_session_with_three("etcdctl_session_with_three_endpoints", Through::All).await;
}

async fn etcdctl_session_with_three(test: &str, through: Through) {
    let Some(etcdctl) = needs_etcdctl(test) else {
        return;
    };
    let cluster = Cluster::start(3).await;
    let with = |endpoints: Vec<String>| {
        // Without the scheme, as the users of etcdctl write them.
        let endpoints = endpoints.join(",").replace("http://", "");
        Session::new(&etcdctl, &[("ENDPOINT", &endpoints)])
    };
    let session = with(through.endpoints(&cluster).await);
    let about_cluster = with(Through::All.endpoints(&cluster).await);
    run_etcdctl_session(test, session, about_cluster, THREE_MEMBERS);
}

/// Runs the session, and behind it what depends on the number of members; keeps the transcript by the test's name.
fn run_etcdctl_session(test: &str, mut session: Session, mut about_cluster: Session, members: &str) {
    let mut transcript = String::new();
    let mut complaints = session.run(include_str!("clients/etcdctl_session.txt"), &mut transcript);
    complaints.extend(about_cluster.run(members, &mut transcript));
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{test}.txt"));
    fs::write(&kept, transcript).expect("the directory for tests' files is writable");
    assert!(
        complaints.is_empty(),
        "{} steps went otherwise:\n\n{}",
        complaints.len(),
        complaints.join("\n")
    );
}

const ONE_MEMBER: &str = include_str!("clients/etcdctl_one_member.txt");
const THREE_MEMBERS: &str = include_str!("clients/etcdctl_three_members.txt");

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

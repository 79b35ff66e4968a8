//! etcd's Go client (see `go/`): the same session with one member, and with three through the leader, through each
//! follower and with all endpoints.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::harness::*;

#[test]
fn with_one_member() {
    let Some(session) = needs_go_session("go_session::with_one_member") else {
        return;
    };
    let server = Server::start();
    run(&session, 1, &[server.endpoint()]);
}

/// The client must renew what any change of users makes old.
#[test]
fn with_signed_tokens() {
    let Some(session) = needs_go_session("go_session::with_signed_tokens") else {
        return;
    };
    let keys = tempfile::tempdir().expect("a temporary directory");
    let secret = keys.path().join("secret");
    fs::write(&secret, "a secret that the members of a cluster share").expect("a file");
    let tokens = format!("--auth-token=jwt,sign-method=HS256,priv-key={}", secret.display());
    let server = Server::start_with(&[&tokens]);
    run(&session, 1, &[server.endpoint()]);
}

#[tokio::test]
async fn through_the_leader_of_three() {
    with_three("go_session::through_the_leader_of_three", Through::Leader).await;
}

#[tokio::test]
async fn through_a_follower() {
    with_three("go_session::through_a_follower", Through::Follower(0)).await;
}

#[tokio::test]
async fn through_the_other_follower() {
    with_three("go_session::through_the_other_follower", Through::Follower(1)).await;
}

#[tokio::test]
async fn with_three_endpoints() {
    with_three("go_session::with_three_endpoints", Through::All).await;
}

/// The members of a cluster of three that a client talks to.
#[derive(Clone, Copy)]
pub(crate) enum Through {
    Leader,
    Follower(usize),
    All,
}

impl Through {
    pub(crate) async fn endpoints(self, cluster: &Cluster) -> Vec<String> {
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

async fn with_three(test: &str, through: Through) {
    let Some(session) = needs_go_session(test) else {
        return;
    };
    let cluster = Cluster::start(3).await;
    run(&session, 3, &through.endpoints(&cluster).await);
}

/// Runs the session against an empty store of so many members and compares its transcript.
fn run(session: &Path, members: usize, endpoints: &[String]) {
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
    let expected = fs::read_to_string(go_module("go").join("expected.txt")).expect("the expected transcript");
    assert_eq!(transcript, expected);
}

//! Sessions of Debian's etcdctl 3.4 and of the newest one (see `script.rs` for the form in which they are written).
//!
//! With `TAFFRAIL_TEST_SERVER` naming a real etcd they tell whether the scripts are right: it must pass all of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::go_session::Through;
use crate::harness::*;
use crate::script::{Programs, Session};

/// Makes of every function a test with each of the two versions; given are the test's name and the programs.
macro_rules! with_both_versions {
    ($($(#[$attribute:meta])* $scenario:ident),* $(,)?) => {
        mod version_3_4 {
            $(
                #[tokio::test]
                $(#[$attribute])*
                async fn $scenario() {
                    let test = concat!("etcdctl::version_3_4::", stringify!($scenario));
                    if let Some(programs) = super::debian(test) {
                        super::$scenario(test, &programs).await;
                    }
                }
            )*
        }

        mod version_3_7 {
            $(
                #[tokio::test]
                $(#[$attribute])*
                async fn $scenario() {
                    let test = concat!("etcdctl::version_3_7::", stringify!($scenario));
                    if let Some(programs) = super::newest(test) {
                        super::$scenario(test, &programs).await;
                    }
                }
            )*
        }
    };
}

with_both_versions! {
    session_with_one_member,
    session_through_the_leader_of_three,
    session_through_a_follower,
    session_through_the_other_follower,
    session_with_three_endpoints,
    every_option_and_format,
    locks_and_elections,
    users_and_roles,
    users_and_roles_of_three,
    members_of_three,
    members_that_come_and_go,
    space_alarm,
    snapshot,
    mirror,
    endpoints_in_every_form,
    without_a_server,
    check_datascale,
    #[ignore = "takes a minute: run it by its name with -- --ignored"]
    check_perf,
}

fn debian(test: &str) -> Option<Programs> {
    Some(etcdctl("3.4", needs_etcdctl(test)?))
}

fn newest(test: &str) -> Option<Programs> {
    Some(Programs {
        etcdutl: Some(needs_etcdutl(test)?),
        ..etcdctl("3.7", needs_newest_etcdctl(test)?)
    })
}

fn etcdctl(version: &'static str, client: PathBuf) -> Programs {
    Programs {
        version,
        client,
        server_flag: "--endpoints",
        bare_tables: false,
        env: vec![("ETCDCTL_API", "3".to_owned())],
        etcdutl: None,
        patience: PATIENCE,
    }
}

/// Runs scripts one after the other and panics with what went otherwise; keeps the transcript by the test's name.
fn run(test: &str, programs: &Programs, words: &[(&str, &str)], scripts: &[&str]) {
    let mut session = Session::new(programs, words);
    let mut transcript = String::new();
    let complaints: Vec<String> = scripts
        .iter()
        .flat_map(|script| session.run(script, &mut transcript))
        .collect();
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}.txt", test.replace("::", "-")));
    fs::write(&kept, transcript).expect("the directory for tests' files is writable");
    assert!(
        complaints.is_empty(),
        "{} steps went otherwise:\n\n{}",
        complaints.len(),
        complaints.join("\n")
    );
}

/// As the users of etcdctl write it: without the scheme.
fn address(server: &Server) -> String {
    server.client_address().to_string()
}

const SESSION: &str = include_str!("etcdctl_session.txt");

async fn session_with_one_member(test: &str, programs: &Programs) {
    let server = Server::start();
    let (endpoint, peer) = (address(&server), server.peer_url());
    let words = [("ENDPOINT", endpoint.as_str()), ("PEER", &peer)];
    let about_cluster = include_str!("etcdctl_one_member.txt");
    run(test, programs, &words, &[SESSION, about_cluster]);
}

async fn session_through_the_leader_of_three(test: &str, programs: &Programs) {
    session_with_three(test, programs, Through::Leader).await;
}

async fn session_through_a_follower(test: &str, programs: &Programs) {
    session_with_three(test, programs, Through::Follower(0)).await;
}

async fn session_through_the_other_follower(test: &str, programs: &Programs) {
    session_with_three(test, programs, Through::Follower(1)).await;
}

async fn session_with_three_endpoints(test: &str, programs: &Programs) {
    session_with_three(test, programs, Through::All).await;
}

async fn session_with_three(test: &str, programs: &Programs, through: Through) {
    let cluster = Cluster::start(3).await;
    let endpoints = through.endpoints(&cluster).await;
    let endpoints = endpoints.join(",").replace("http://", "");
    run(test, programs, &[("ENDPOINT", &endpoints)], &[SESSION]);
}

async fn every_option_and_format(test: &str, programs: &Programs) {
    let server = Server::start_with(&["--watch-progress-notify-interval=200ms"]);
    let script = include_str!("etcdctl_options.txt");
    run(test, programs, &[("ENDPOINT", &address(&server))], &[script]);
}

async fn locks_and_elections(test: &str, programs: &Programs) {
    let server = Server::start();
    let script = include_str!("etcdctl_locks.txt");
    run(test, programs, &[("ENDPOINT", &address(&server))], &[script]);
}

async fn users_and_roles(test: &str, programs: &Programs) {
    let server = Server::start_with(&[CHEAP_HASHES]);
    // What names each member is marked: it is for one.
    let script = include_str!("etcdctl_auth.txt").replace("[one] ", "");
    run(test, programs, &[("ENDPOINT", &address(&server))], &[&script]);
}

/// The same where every call may go to another member than the login, and members speak TLS with each other.
async fn users_and_roles_of_three(test: &str, programs: &Programs) {
    let flags = ["--peer-auto-tls", CHEAP_HASHES];
    let cluster = Cluster::start_with_peer_tls(3, &flags).await;
    let endpoints = all_endpoints(&cluster, &[0, 1, 2]);
    let script = include_str!("etcdctl_auth.txt");
    run(test, programs, &[("ENDPOINT", &endpoints)], &[script]);
}

/// What is said about a cluster of three and done to it, with the members by the order of their ids.
async fn members_of_three(test: &str, programs: &Programs) {
    let cluster = Cluster::start(3).await;
    let nobody = Server::prepared(&[]);
    let leader = cluster.leader().await;
    let mut members: Vec<usize> = cluster.members().collect();
    members.sort_by_key(|member| cluster.id(*member));
    let mut words = Vec::new();
    for (number, member) in members.iter().enumerate() {
        let server = cluster.server(*member);
        words.push((format!("NAME{number}"), format!("m{member}")));
        words.push((format!("ID{number}"), format!("{:x}", cluster.id(*member))));
        words.push((format!("CLIENT{number}"), address(server)));
        words.push((format!("PEER{number}"), server.peer_url()));
    }
    let follower = cluster.others(leader)[0];
    words.push(("ENDPOINT".to_owned(), all_endpoints(&cluster, &members)));
    words.push(("DEAD".to_owned(), address(&nobody)));
    words.push(("LEADER".to_owned(), address(cluster.server(leader))));
    words.push(("LEADER-ID".to_owned(), format!("{:x}", cluster.id(leader))));
    words.push(("FOLLOWER".to_owned(), address(cluster.server(follower))));
    words.push(("FOLLOWER-ID".to_owned(), format!("{:x}", cluster.id(follower))));
    let words: Vec<(&str, &str)> = words
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    run(
        test,
        programs,
        &words,
        &[include_str!("etcdctl_three_members.txt")],
    );
}

async fn members_that_come_and_go(test: &str, programs: &Programs) {
    let server = Server::start();
    let client = server.client().await;
    let own = format!("{:x}", header_member(&client).await);
    let words = [
        ("ENDPOINT", address(&server)),
        ("PEER", server.peer_url()),
        ("MEMBER", own),
    ];
    let words = words.each_ref().map(|(name, value)| (*name, value.as_str()));
    run(
        test,
        programs,
        &words,
        &[include_str!("etcdctl_changing_members.txt")],
    );
}

async fn header_member(client: &Client) -> u64 {
    let header = client.range(get("members")).await.header;
    header.expect("the answer has a header").member_id
}

fn all_endpoints(cluster: &Cluster, members: &[usize]) -> String {
    let endpoints: Vec<String> = members
        .iter()
        .map(|member| address(cluster.server(*member)))
        .collect();
    endpoints.join(",")
}

/// What etcdctl shows of a store that has no space left, and how its user makes space.
async fn space_alarm(test: &str, programs: &Programs) {
    let server = Server::start_with(&["--quota-backend-bytes", "4194304"]);
    let client = server.client().await;
    let value = "v".repeat(512 << 10);
    let mut written = 0;
    let refusal = loop {
        match client.try_put(put("big", &value)).await {
            Ok(_) => written += 1,
            Err(status) => break status,
        }
        assert!(written < 64, "the quota is never reached");
    };
    assert_eq!(refusal.code(), tonic::Code::ResourceExhausted, "{refusal}");
    let script = include_str!("etcdctl_alarm.txt");
    // That of the delete in the script.
    let revision = (client.revision().await + 1).to_string();
    let words = [("ENDPOINT", address(&server)), ("REVISION", revision)];
    let words = words.each_ref().map(|(name, value)| (*name, value.as_str()));
    run(test, programs, &words, &[script]);
}

async fn snapshot(test: &str, programs: &Programs) {
    let server = Server::start();
    let directory = server.scratch_dir().display().to_string();
    let words = [("ENDPOINT", address(&server)), ("DIR", directory)];
    let words = words.each_ref().map(|(name, value)| (*name, value.as_str()));
    run(test, programs, &words, &[include_str!("etcdctl_snapshot.txt")]);
}

async fn mirror(test: &str, programs: &Programs) {
    let (server, mirror) = (Server::start(), Server::start());
    let words = [("ENDPOINT", address(&server)), ("MIRROR", address(&mirror))];
    let words = words.each_ref().map(|(name, value)| (*name, value.as_str()));
    run(test, programs, &words, &[include_str!("etcdctl_mirror.txt")]);
}

/// The clients make `:authority` of what the user writes, and a server must take each of their forms.
async fn endpoints_in_every_form(test: &str, programs: &Programs) {
    let script = include_str!("etcdctl_endpoints.txt");
    let server = Server::start();
    for form in [
        "127.0.0.1:PORT",
        "http://127.0.0.1:PORT",
        "localhost:PORT",
        "http://localhost:PORT",
    ] {
        let endpoint = form.replace("PORT", &server.client_address().port().to_string());
        run(test, programs, &[("ENDPOINT", &endpoint)], &[script]);
    }
}

async fn without_a_server(test: &str, programs: &Programs) {
    // A port that nobody listens on.
    let server = Server::prepared(&[]);
    let script = include_str!("etcdctl_without_server.txt");
    run(test, programs, &[("ENDPOINT", &address(&server))], &[script]);
}

async fn check_datascale(test: &str, programs: &Programs) {
    let server = Server::start();
    let script = include_str!("etcdctl_check_datascale.txt");
    run(test, programs, &[("ENDPOINT", &address(&server))], &[script]);
}

async fn check_perf(test: &str, programs: &Programs) {
    let programs = &Programs {
        patience: PERF_PATIENCE,
        ..programs.clone()
    };
    let server = Server::start();
    let script = include_str!("etcdctl_check_perf.txt");
    run(test, programs, &[("ENDPOINT", &address(&server))], &[script]);
}

/// The check itself lasts a minute.
const PERF_PATIENCE: Duration = Duration::from_secs(180);

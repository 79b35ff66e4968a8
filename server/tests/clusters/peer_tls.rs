#![allow(clippy::unwrap_used, reason = "a test may panic")]
//! Members that speak TLS, or over unix sockets, with each other.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use crate::harness::tls::{Authority, Hello, Pair};
use crate::harness::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::Code;

/// What goes in by one member comes out by every other, also after one was away.
async fn works(mut cluster: Cluster) {
    let revision = cluster.client(0).put("k", "one").await;
    for member in cluster.members() {
        let found = cluster.client(member).range(get("k")).await;
        assert_eq!(
            (found.kvs[0].value.as_ref(), found.kvs[0].mod_revision),
            (&b"one"[..], revision)
        );
    }
    let follower = cluster.follower().await;
    cluster.kill(follower);
    let leader = cluster.leader().await;
    cluster.client(leader).put("k", "two").await;
    cluster.run(follower);
    let found = cluster.client(follower).range(get("k")).await;
    assert_eq!(found.kvs[0].value, "two");
}

#[tokio::test]
async fn members_make_certificates_for_themselves() {
    works(Cluster::start_with_peer_tls(3, &["--peer-auto-tls"]).await).await;
}

#[tokio::test]
async fn members_show_each_other_certificates_of_an_authority() {
    let authority = Authority::new();
    let pair = authority.issue("member", 1, &["127.0.0.1"]);
    let files = |pair: &crate::harness::tls::Pair| {
        [
            format!("--peer-cert-file={}", pair.cert_file.display()),
            format!("--peer-key-file={}", pair.key_file.display()),
            format!("--peer-trusted-ca-file={}", authority.ca_file().display()),
            "--peer-client-cert-auth".to_owned(),
        ]
    };
    let flags = files(&pair);
    let cluster = Cluster::start_with_peer_tls(3, &flags.each_ref().map(String::as_str)).await;

    // Tools come in with a good certificate only.
    let address = cluster.server(0).peer_address();
    let tool = authority.issue("tool", 2, &[]);
    let answer = Hello::with(&tool).get(address, "/version").await.unwrap();
    assert!(answer.contains("\"etcdserver\""), "{answer}");
    Hello::default().get(address, "/version").await.unwrap_err();
    // The refused one speaks from a host that its certificate does not name.
    let elsewhere = authority.issue("elsewhere", 3, &["192.0.2.1"]);
    Hello::with(&elsewhere)
        .get(address, "/version")
        .await
        .unwrap_err();
    wait_until("the refusals are told", || {
        let log = cluster.server(0).log();
        log.matches("rejected connection on peer endpoint").count() >= 2
    });
    works(cluster).await;
}

/// A member whose certificate has another name than the others demand stays outside.
#[tokio::test]
async fn a_member_with_another_name_is_kept_out() {
    let authority = Authority::new();
    let pair = authority.issue("member", 1, &["127.0.0.1"]);
    let flags = [
        format!("--peer-cert-file={}", pair.cert_file.display()),
        format!("--peer-key-file={}", pair.key_file.display()),
        format!("--peer-trusted-ca-file={}", authority.ca_file().display()),
        "--peer-client-cert-auth".to_owned(),
        "--peer-cert-allowed-cn=rcgen self signed cert".to_owned(),
    ];
    let mut cluster = Cluster::start_with_peer_tls(3, &flags.each_ref().map(String::as_str)).await;
    let leader = cluster.leader().await;
    let [first, second] = cluster.others(leader).try_into().unwrap();
    for member in [first, second] {
        cluster.kill(member);
        cluster
            .server_mut(member)
            .add_flag("--peer-cert-allowed-cn=somebody else");
    }
    // Each of the two refuses the leader's connections, and each other's: there is no quorum.
    for member in [first, second] {
        cluster.spawn(member);
    }
    wait_until("the leader is refused", || {
        let log = cluster.server(first).log();
        log.contains("client certificate authentication failed")
    });
    let refused = cluster.client(first).try_range(get("k")).await;
    assert_eq!(refused.unwrap_err().code(), Code::Unavailable);
}

/// Whoever is no member and has no certificate of one gets nothing at the peer port, and leaves nothing behind: no
/// connection, no memory, no election.
#[tokio::test]
async fn strangers_get_nothing_and_cost_nothing() {
    let (authority, other) = (Authority::new(), Authority::new());
    // The files of the next are called the same.
    let elsewhere = authority.issue_to("member", 4, &["192.0.2.1"]);
    let pair = authority.issue_to("member", 1, &["127.0.0.1"]);
    let flags = [
        format!("--peer-cert-file={}", pair.cert_file.display()),
        format!("--peer-key-file={}", pair.key_file.display()),
        format!("--peer-trusted-ca-file={}", authority.ca_file().display()),
        "--peer-client-cert-auth".to_owned(),
        "--peer-cert-allowed-cn=member".to_owned(),
    ];
    let cluster = Cluster::start_with_peer_tls(3, &flags.each_ref().map(String::as_str)).await;
    let leader = cluster.leader().await;
    let server = cluster.server(leader);
    let address = server.peer_address();
    let member = Hello::with(&pair);
    member.get(address, "/version").await.unwrap();
    let strangers = [
        Hello::default(),
        Hello::with(&other.issue_to("member", 2, &["127.0.0.1"])),
        Hello::with(&authority.issue_to("somebody", 3, &["127.0.0.1"])),
        Hello::with(&elsewhere),
    ];
    let term = cluster.status(leader).await.unwrap().raft_term;
    let (descriptors, resident) = (open_files(server), resident_kib(server));
    let client = cluster.client(leader);
    for round in 0..STRANGERS {
        for bytes in [
            &b"GET /version HTTP/1.1\r\nHost: a\r\n\r\n"[..],
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            // The head of a handshake that goes on for ever, and one that is rubbish.
            b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc\x03\x03",
            b"\x16\x03\x01\x00\x05\xff\xff\xff\xff\xff",
        ] {
            let answer = say(address, bytes).await;
            // An alert at most.
            assert!(answer.len() < 8 && !answer.starts_with(b"HTTP"), "{answer:?}");
        }
        for stranger in &strangers {
            stranger.get(address, "/version").await.unwrap_err();
        }
        client.put("k", &round.to_string()).await;
    }
    wait_until("their connections are closed", || {
        open_files(server) <= descriptors + OPEN_FILES_SLACK
    });
    let grown = resident_kib(server).saturating_sub(resident);
    assert!(grown < 32 << 10, "{grown} KiB");
    assert_eq!(cluster.status(leader).await.unwrap().raft_term, term);
    member.get(address, "/version").await.unwrap();
    works(cluster).await;
}

/// What comes back for `bytes`, after which nothing more is said.
async fn say(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    let end = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    // A reset is an end as well.
    let _ = end.expect("the server closes the connection");
    answer
}

fn open_files(server: &Server) -> usize {
    fs::read_dir(format!("/proc/{}/fd", server.pid()))
        .unwrap()
        .count()
}

fn resident_kib(server: &Server) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.unwrap().trim().trim_end_matches(" kB").parse().unwrap()
}

/// etcdctl, the old one and the newest, with a certificate and without, where members speak TLS with each other.
#[tokio::test]
async fn etcdctl_speaks_tls_with_three_members() {
    let name = "etcdctl_speaks_tls_with_three_members";
    let tools: Vec<_> = needs_etcdctl(name)
        .into_iter()
        .chain(needs_newest_etcdctl(name))
        .collect();
    let authority = Authority::new();
    let pair = authority.issue("member", 1, &["127.0.0.1"]);
    let client = authority.issue("client", 2, &["client"]);
    let stranger = Authority::new();
    for mutual in [false, true] {
        let ports: Vec<Ports> = (0..3).map(|_| Ports::reserve()).collect();
        let url = |member: usize| format!("https://127.0.0.1:{}", ports[member].client);
        let flags =
            |member: usize, server: &Server| secure_flags(server, &url(member), &pair, &authority, mutual);
        let cluster = Cluster::start_with_peer_tls_of_each(3, flags).await;
        for tool in &tools {
            let run =
                |member: usize, files: &[String], words: &[&str]| etcdctl(tool, &url(member), files, words);
            let cacert = flag("cacert", &authority.ca_file());
            let shown = [flag("cert", &client.cert_file), flag("key", &client.key_file)];
            let mut good = vec![cacert.clone()];
            if mutual {
                good.extend(shown.clone());
            }
            session(&run, &good, &url);
            // Nobody who is not trusted, on either side.
            let unknown = flag("cacert", &stranger.ca_file());
            let (done, text) = run(0, &[vec![unknown], shown.to_vec()].concat(), &["put", "k", "v"]);
            assert!(!done, "{text}");
            assert_eq!(run(0, &[cacert], &["put", "k", "v"]).0, !mutual);
        }
        drop(cluster);
    }
}

/// The common name of a certificate is a user, at every member and with either etcdctl; through the gateway it is not.
#[tokio::test]
async fn etcdctl_calls_by_its_common_name_alone() {
    let name = "etcdctl_calls_by_its_common_name_alone";
    let tools: Vec<_> = needs_etcdctl(name)
        .into_iter()
        .chain(needs_newest_etcdctl(name))
        .collect();
    let Some(tool) = tools.first() else { return };
    let authority = Authority::new();
    let pair = authority.issue_to("member", 1, &["127.0.0.1"]);
    let users = ["root", "reader", "nobody"];
    let users = users.map(|name| (name, authority.issue_to(name, 2, &["client"])));
    let ports: Vec<Ports> = (0..3).map(|_| Ports::reserve()).collect();
    let url = |member: usize| format!("https://127.0.0.1:{}", ports[member].client);
    let flags = |member: usize, server: &Server| secure_flags(server, &url(member), &pair, &authority, true);
    let cluster = Cluster::start_with_peer_tls_of_each(3, flags).await;
    let run = |tool: &Path, member: usize, user: usize, words: &[&str]| {
        let own = &users[user].1;
        let files = [
            flag("cacert", &authority.ca_file()),
            flag("cert", &own.cert_file),
            flag("key", &own.key_file),
        ];
        etcdctl(tool, &url(member), &files, words)
    };
    for words in [
        &["user", "add", "root", "--no-password"][..],
        &["role", "add", "root"],
        &["user", "grant-role", "root", "root"],
        &["user", "add", "reader", "--no-password"],
        &["role", "add", "reading"],
        &[
            "role",
            "grant-permission",
            "reading",
            "read",
            "course/",
            "--prefix",
        ],
        &["user", "grant-role", "reader", "reading"],
        &["auth", "enable"],
    ] {
        let (done, text) = run(tool, 0, 0, words);
        assert!(done, "{words:?}: {text}");
    }
    for tool in &tools {
        for (member, ports) in ports.iter().enumerate() {
            let run = |user, words: &[&str]| run(tool, member, user, words);
            assert_eq!(run(0, &["put", "course/a", "west"]), (true, "OK\n".to_owned()));
            assert_eq!(
                run(1, &["get", "course/a"]),
                (true, "course/a\nwest\n".to_owned())
            );
            for (user, words) in [
                (1, &["put", "course/a", "east"][..]),
                (1, &["get", "other"]),
                (1, &["user", "list"]),
                (2, &["get", "course/a"]),
            ] {
                let (done, text) = run(user, words);
                assert!(!done && text.contains("permission denied"), "{words:?}: {text}");
            }
            assert!(run(0, &["user", "list"]).1.contains("reader"));
            through_the_gateway(&users[0].1, ports).await;
        }
    }
    assert!(run(tool, 1, 0, &["auth", "disable"]).0);
    assert!(run(tool, 2, 2, &["get", "course/a"]).0);
    drop(cluster);
}

/// The gateway's own rule: whoever has a common name is refused there.
async fn through_the_gateway(pair: &Pair, ports: &Ports) {
    let address = SocketAddr::from(([127, 0, 0, 1], ports.client));
    let body = "{\"key\":\"Y291cnNlL2E=\"}";
    let request = format!(
        "POST /v3/kv/range HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = Hello::with(pair).exchange(address, &request).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
}

/// What etcdctl says, and whether it succeeds.
fn etcdctl(tool: &Path, url: &str, files: &[String], words: &[&str]) -> (bool, String) {
    let output = Command::new(tool)
        .env("ETCDCTL_API", "3")
        .args(["--endpoints", url])
        .args(files)
        .args(words)
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    // The newest warns of a variable that the old one needs.
    match output.status.success() {
        true => (true, stdout),
        false => (false, stdout + &String::from_utf8_lossy(&output.stderr)),
    }
}

fn flag(name: &str, path: &Path) -> String {
    format!("--{name}={}", path.display())
}

fn secure_flags(server: &Server, url: &str, pair: &Pair, authority: &Authority, mutual: bool) -> Vec<String> {
    let mut flags = vec![
        format!("--listen-client-urls={},{url}", server.endpoint()),
        format!("--advertise-client-urls={url}"),
        flag("cert-file", &pair.cert_file),
        flag("key-file", &pair.key_file),
        flag("peer-cert-file", &pair.cert_file),
        flag("peer-key-file", &pair.key_file),
        flag("peer-trusted-ca-file", &authority.ca_file()),
        "--peer-client-cert-auth".to_owned(),
    ];
    if mutual {
        flags.push(flag("trusted-ca-file", &authority.ca_file()));
        flags.push("--client-cert-auth".to_owned());
    }
    flags
}

/// What etcdctl is used for, at all members.
fn session(
    run: &impl Fn(usize, &[String], &[&str]) -> (bool, String),
    files: &[String],
    url: &impl Fn(usize) -> String,
) {
    let succeeds = |member: usize, words: &[&str]| {
        let (done, text) = run(member, files, words);
        assert!(done, "{words:?}: {text}");
        text
    };
    assert_eq!(succeeds(0, &["put", "k", "v"]), "OK\n");
    for member in 0..3 {
        assert_eq!(succeeds(member, &["get", "k"]), "k\nv\n");
    }
    let members = succeeds(1, &["member", "list"]);
    // The old one tells of it where errors go.
    succeeds(2, &["endpoint", "health", "--cluster"]);
    let status = succeeds(2, &["endpoint", "status", "--cluster"]);
    for member in 0..3 {
        let url = url(member);
        for text in [&members, &status] {
            assert!(text.contains(&url), "{url}: {text}");
        }
    }
    let lease = succeeds(1, &["lease", "grant", "60"]);
    let id = lease.split(' ').nth(1).unwrap();
    succeeds(2, &["put", "k", "v", "--lease", id]);
    assert!(succeeds(0, &["lease", "revoke", id]).contains("revoked"));
    assert_eq!(succeeds(1, &["get", "k"]), "");
    assert!(succeeds(1, &["lock", "mutex", "echo", "held"]).contains("held"));
}

#[tokio::test]
async fn members_meet_at_unix_sockets() {
    let dir = tempfile::tempdir().unwrap();
    let urls: Vec<String> = (0..3)
        .map(|member| format!("unix://{}/m{member}:1", dir.path().display()))
        .collect();
    works(Cluster::start_at(&urls).await).await;
}

/// Strangers of each kind.
const STRANGERS: usize = 50;
/// Files that a member may open for reasons of its own.
const OPEN_FILES_SLACK: usize = 10;

#![allow(clippy::unwrap_used, reason = "a test may panic")]
//! Members that speak TLS, or over unix sockets, with each other.

mod harness;

use harness::tls::{Authority, Hello};
use harness::*;
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
    let files = |pair: &harness::tls::Pair| {
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

#[tokio::test]
async fn members_meet_at_unix_sockets() {
    let dir = tempfile::tempdir().unwrap();
    let urls: Vec<String> = (0..3)
        .map(|member| format!("unix://{}/m{member}:1", dir.path().display()))
        .collect();
    works(Cluster::start_at(&urls).await).await;
}

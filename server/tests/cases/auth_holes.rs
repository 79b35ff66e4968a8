//! Holes that etcd has had and published: who is not allowed to must not get at keys, members, alarms or leases by a way
//! around the judgement.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::Path;
use std::time::Instant;

use crate::harness::tls::Authority;
use crate::harness::*;
use bytes::Bytes;
use proto::authpb::permission::Type;
use proto::etcdserverpb::{
    AlarmRequest, AuthStatusRequest, LeaseGrantRequest, LeaseLeasesRequest, LeaseTimeToLiveRequest,
    MemberListRequest, PutRequest, RangeRequest, StatusRequest, WatchCreateRequest,
};
use tokio::task::JoinSet;

/// A range without end was once judged as if it were its first key.
#[tokio::test]
async fn a_permission_on_one_key_does_not_open_what_follows() {
    let (_server, root) = Server::start_with_auth(&[]).await;
    root.add_user("alice").await;
    root.add_role("one").await;
    root.permit("one", Type::Readwrite, "k", Bytes::new()).await;
    root.grant_role("alice", "one").await.unwrap();
    root.put("k", "1").await;
    root.put("z", "secret").await;
    let alice = root.as_user("alice").await;

    let onward = || RangeRequest {
        range_end: ZERO,
        ..get("k")
    };
    alice.range(get("k")).await;
    assert_denied(alice.try_range(onward()).await);
    assert_denied(
        alice
            .try_range(RangeRequest {
                count_only: true,
                ..onward()
            })
            .await,
    );
    assert_denied(alice.try_txn(then(vec![op(onward())])).await);
    let mut delete = delete("k");
    delete.range_end = ZERO;
    assert_denied(alice.kv.clone().delete_range(delete).await);
    let mut stream = alice.kv.clone().range_stream(onward()).await;
    if let Ok(answer) = &mut stream {
        assert_denied(answer.get_mut().message().await);
    } else {
        assert_denied(stream);
    }

    let watches = [
        ("k", ZERO),
        ("k", bytes("z")),
        ("k", bytes("k\0\0")),
        ("", Bytes::new()),
        ("", ZERO),
        ("\0", ZERO),
    ];
    let mut watcher = WatchStream::open(&alice);
    for (key, range_end) in watches {
        let request = WatchCreateRequest {
            range_end: range_end.clone(),
            ..watch_key(key)
        };
        let created = watcher.create(request).await;
        assert!(
            created.canceled && created.watch_id == -1,
            "{key:?} {range_end:?}: {created:?}"
        );
    }
    let created = watcher.create(watch_key("k")).await;
    assert!(!created.canceled, "{created:?}");
    root.put("z", "another secret").await;
    root.put("k", "2").await;
    assert_eq!(showed(&watcher.events(1).await), ["PUT k=2"]);

    // Who may read to the end of the space is given it.
    root.permit("one", Type::Read, "k", ZERO).await;
    assert_eq!(alice.range(onward()).await.count, 2);
    let created = watcher
        .create(WatchCreateRequest {
            range_end: ZERO,
            ..watch_key("k")
        })
        .await;
    assert!(!created.canceled, "{created:?}");
}

/// Who attaches a key to a lease could delete, or have deleted, the other keys of it.
#[tokio::test]
async fn a_lease_with_keys_of_others_is_not_to_be_used() {
    let (_server, root) = Server::start_with_auth(&[]).await;
    root.add_user_with("alice", Type::Readwrite, "a/").await;
    let lease = root.grant(600).await;
    let with_lease = |key: &str, lease| PutRequest {
        lease,
        ..put(key, "1")
    };
    root.put_with(with_lease("secret", lease)).await;
    let alice = root.as_user("alice").await;

    assert_denied(alice.try_put(with_lease("a/1", lease)).await);
    assert_denied(alice.try_txn(then(vec![op(with_lease("a/1", lease))])).await);
    let nested = then(vec![op(txn(vec![], vec![], vec![op(with_lease("a/1", lease))]))]);
    assert_denied(alice.try_txn(nested).await);
    assert_denied(alice.revoke(lease).await);
    assert_denied(alice.try_keep_alive(lease).await);
    assert_eq!(root.time_to_live(lease).await.keys, ["secret"]);

    // Of a lease with her keys only she may do everything.
    let own = alice.grant(600).await;
    alice.put_with(with_lease("a/1", own)).await;
    alice.put_with(with_lease("a/2", own)).await;
    alice.keep_alive(own).await;
    // One key of somebody else's takes that away.
    root.put_with(with_lease("shared", own)).await;
    assert_denied(alice.try_put(with_lease("a/3", own)).await);
    assert_denied(alice.revoke(own).await);
    root.delete("shared").await;
    alice.revoke(own).await.unwrap();
}

/// The names of keys are as secret as their values.
#[tokio::test]
async fn leases_do_not_tell_keys() {
    let (_server, root) = Server::start_with_auth(&[]).await;
    root.add_user_with("alice", Type::Read, "a/").await;
    root.add_user_with("writer", Type::Write, "secret").await;
    let lease = root.grant(600).await;
    root.put_with(PutRequest {
        lease,
        ..put("secret", "1")
    })
    .await;
    for user in ["alice", "writer"] {
        let client = root.as_user(user).await;
        let ask = async |keys| {
            let request = LeaseTimeToLiveRequest { id: lease, keys };
            client.lease.clone().lease_time_to_live(request).await
        };
        assert_denied(ask(true).await);
        let answer = ask(false).await.unwrap().into_inner();
        assert!(answer.keys.is_empty() && answer.granted_ttl == 600, "{answer:?}");
        assert_denied(client.lease.clone().lease_leases(LeaseLeasesRequest {}).await);
    }
    root.delete("secret").await;
    let alice = root.as_user("alice").await;
    let leases = alice.lease.clone().lease_leases(LeaseLeasesRequest {}).await;
    assert_eq!(leases.unwrap().into_inner().leases.len(), 1);
}

/// Members, alarms, the status and leases were once open to anybody.
#[tokio::test]
async fn who_brings_no_identity_is_told_nothing() {
    let (server, root) = Server::start_with_auth(&[]).await;
    let nobody = server.client().await;
    let liar = nobody.with_token("junk");
    for linearizable in [false, true] {
        let list = MemberListRequest { linearizable };
        assert_nobody(nobody.cluster.clone().member_list(list).await);
        assert_bad_token(liar.cluster.clone().member_list(list).await);
    }
    for action in 0..3 {
        let alarm = AlarmRequest {
            action,
            member_id: 404,
            alarm: 1,
        };
        assert_nobody(nobody.maintenance.clone().alarm(alarm).await);
        assert_bad_token(liar.maintenance.clone().alarm(alarm).await);
    }
    assert_nobody(nobody.maintenance.clone().status(StatusRequest {}).await);
    let grant = LeaseGrantRequest { ttl: 600, id: 7 };
    assert_nobody(nobody.lease.clone().lease_grant(grant).await);
    assert_bad_token(liar.lease.clone().lease_grant(grant).await);
    assert_eq!(root.time_to_live(7).await.ttl, -1);
    // A user without a role may ask, and not change.
    root.add_user("alice").await;
    let alice = root.as_user("alice").await;
    let activate = AlarmRequest {
        action: 1,
        member_id: 404,
        alarm: 1,
    };
    assert_denied(alice.maintenance.clone().alarm(activate).await);
    let listed = alice.maintenance.clone().alarm(AlarmRequest::default()).await;
    assert!(listed.unwrap().into_inner().alarms.is_empty());
    // What is open to all looks at a token nevertheless.
    let mut open = liar.auth.clone();
    assert_bad_token(open.auth_status(AuthStatusRequest {}).await);
}

/// The gateway speaks with the server as a client that has a certificate. It must not act in its name.
#[tokio::test]
async fn the_gateways_own_certificate_gives_no_rights() {
    let own = |authority: &Authority| authority.issue_to("root", 1, &["localhost", "127.0.0.1"]);
    let mut secured = Secured::prepared(own, &["--client-cert-auth", CHEAP_HASHES]);
    secured.server.run();
    let root = secured.server.client().await.enable_auth().await;
    root.put("k", "secret").await;
    let body = r#"{"key":"aw=="}"#;

    // Over the plain port there is no certificate but that of the gateway.
    let plain = secured.server.client_address();
    let answer = Exchange::post(plain, "/v3/kv/range", body);
    assert_eq!(answer.status, 400);
    let text = answer.body();
    assert!(text.contains("etcdserver: user name is empty"), "{text}");

    // Over TLS, a certificate with a name is not welcome, and one without names nobody.
    let named = secured.authority.issue_to("root-of-clients", 2, &[]);
    let answer = post_over_tls(&secured, &named, body, "").await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert!(
        answer.contains("CommonName of client sending a request against gateway will be ignored"),
        "{answer}"
    );
    let nameless = secured.authority.issue_nameless("nameless", 3, &[]);
    let answer = post_over_tls(&secured, &nameless, body, "").await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert!(answer.contains("etcdserver: user name is empty"), "{answer}");
    let token = root.login("root").await;
    for header in [
        format!("Authorization: {token}\r\n"),
        format!("Authorization: Bearer {token}\r\n"),
    ] {
        let answer = post_over_tls(&secured, &nameless, body, &header).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        // The value, in base64.
        assert!(answer.contains("c2VjcmV0"), "{answer}");
    }
}

async fn post_over_tls(
    secured: &Secured,
    pair: &crate::harness::tls::Pair,
    body: &str,
    header: &str,
) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let hello = crate::harness::tls::Hello::with(pair);
    let mut stream = hello.connect(secured.address()).await.unwrap();
    let request = format!(
        "POST /v3/kv/range HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{header}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer))
        .await
        .unwrap()
        .unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

/// A made-up simple token that names an index far ahead made a real server wait until the call's deadline.
#[tokio::test]
async fn made_up_tokens_hold_nothing() {
    if !runs_taffrail() {
        return;
    }
    let (server, root) = Server::start_with_auth(&[]).await;
    root.put("k", "1").await;
    let nobody = server.client().await;
    let start = Instant::now();
    let mut calls = JoinSet::new();
    for number in 0..MADE_UP {
        let index = match number % 4 {
            0 => u64::MAX,
            1 => u64::MAX / 2,
            2 => 1_000_000 + number,
            _ => 1 << 40,
        };
        let liar = nobody.with_token(&format!("abcdefghijklmnop.{index}"));
        calls.spawn(async move { liar.try_range(get("k")).await });
    }
    while let Some(answer) = calls.join_next().await {
        assert_bad_token(answer.unwrap());
    }
    assert!(start.elapsed() < PATIENCE / 2, "{:?}", start.elapsed());
    assert_eq!(pairs(&root.range(get("k")).await.kvs), ["k=1"]);
}

const MADE_UP: u64 = 2000;

#[tokio::test]
async fn malformed_tokens_are_refused() {
    let (server, root) = Server::start_with_auth(&[]).await;
    root.put("k", "1").await;
    let nobody = server.client().await;
    let good = root.login("root").await;
    let (random, index) = good.split_once('.').unwrap();
    let long = "a".repeat(4000);
    for token in [
        "",
        ".",
        "..",
        " ",
        "Bearer",
        "Bearer ",
        random,
        index,
        &format!("{random}."),
        &format!("{random}.-1"),
        &format!("{random}.+{index}"),
        &format!("{random}.0{index}x"),
        &format!("{random}.18446744073709551616"),
        &format!("{random}.{index}."),
        &format!("{random}.{index}.{index}"),
        &format!("{}.{index}", random.to_ascii_uppercase()),
        &format!("{}.{index}", random.to_ascii_lowercase()),
        &format!("{random}.1"),
        &long,
        &format!("{long}.{index}"),
    ] {
        assert_bad_token(nobody.with_token(token).try_range(get("k")).await);
    }
    nobody.with_token(&good).range(get("k")).await;
}

/// Neither a password nor what could stand for one is written anywhere but as its hash.
#[tokio::test]
async fn passwords_and_tokens_are_in_no_log_and_no_file() {
    let (mut server, root) = Server::start_with_auth(&["--log-level=debug"]).await;
    let passwords = ["Xyzzy-plugh-1", "Xyzzy-plugh-2", "Xyzzy-plugh-3"];
    root.try_add_user("alice", passwords[0]).await.unwrap();
    root.change_password("alice", passwords[1]).await;
    let mut secrets = vec![
        root.try_login("alice", passwords[1]).await.unwrap(),
        root.login("root").await,
    ];
    root.try_login("alice", passwords[2]).await.unwrap_err();
    root.try_login("nobody", passwords[2]).await.unwrap_err();
    root.try_add_user("alice", passwords[2]).await.unwrap_err();
    let alice = root.with_token(&secrets[0]);
    assert_denied(alice.try_range(get("k")).await);
    assert_denied(alice.try_add_user("bob", passwords[2]).await);
    root.put("k", "1").await;
    let body = format!(r#"{{"name":"alice","password":"{}"}}"#, passwords[1]);
    let mut answer = Exchange::post(server.client_address(), "/v3/auth/authenticate", &body);
    let token = answer.json_line()["token"].as_str().unwrap().to_owned();
    let headers = [("Authorization", token.as_str())];
    let answer = Exchange::send(server.client_address(), "POST", "/v3/kv/range", &headers, "{}");
    assert_eq!(answer.status, 400);
    secrets.push(token);
    let metrics = http_get(server.client_address(), "/metrics").unwrap().body;
    let variables = http_get(server.client_address(), "/debug/vars").unwrap().body;
    server.terminate();

    let log = server.log();
    assert!(
        log.len() > 1000,
        "the log is that of a server that tells what it does: {log}"
    );
    let root_password = password_of("root");
    for secret in secrets
        .iter()
        .map(String::as_str)
        .chain(passwords)
        .chain([root_password.as_str()])
    {
        for (place, text) in [("log", &log), ("metrics", &metrics), ("variables", &variables)] {
            assert!(!text.contains(secret), "{secret} is in the {place}");
        }
    }
    assert!(
        !log.contains("$2a$") && !log.contains("$2b$"),
        "a hash is in the log"
    );
    let mut files = 0;
    for_each_file(&server.data_dir(), &mut |path, content| {
        files += 1;
        for password in passwords.into_iter().chain([root_password.as_str()]) {
            let found = content
                .windows(password.len())
                .any(|bytes| bytes == password.as_bytes());
            assert!(!found, "{password} is in {}", path.display());
        }
    });
    assert!(files > 1, "{files} files");
}

fn for_each_file(directory: &Path, look: &mut impl FnMut(&Path, &[u8])) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            for_each_file(&path, look);
        } else {
            look(&path, &fs::read(&path).unwrap());
        }
    }
}

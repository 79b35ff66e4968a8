//! Tokens: their two kinds, how long they are good for, which members take them, and what makes them worthless.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod jwt;

use std::time::{Duration, Instant};

use crate::harness::tls::Authority;
use crate::harness::*;
use proto::authpb::permission::Type;
use proto::etcdserverpb::kv_client::KvClient;
use tonic::{Request, Status};

#[tokio::test]
async fn a_simple_token_has_a_random_part_and_an_index() {
    let (_server, root) = Server::start_with_auth(&[]).await;
    let tokens = [root.login("root").await, root.login("root").await];
    let parts = tokens.each_ref().map(|token| token.split_once('.').unwrap());
    for (random, index) in parts {
        assert_eq!(random.len(), 16, "{random}");
        assert!(
            random.chars().all(|letter| letter.is_ascii_alphabetic()),
            "{random}"
        );
        assert!(index.parse::<u64>().unwrap() > 0);
    }
    assert_ne!(parts[0].0, parts[1].0);
    assert!(parts[0].1.parse::<u64>().unwrap() < parts[1].1.parse::<u64>().unwrap());
}

/// The names of the metadata that a token may stand under, and which goes first.
#[tokio::test]
async fn a_token_may_come_as_authorization() {
    let (_server, root) = Server::start_with_auth(&[]).await;
    root.put("k", "1").await;
    let token = root.login("root").await;
    let ask = async |metadata: &[(&'static str, String)]| -> Result<i64, Status> {
        let mut request = Request::new(get("k"));
        for (name, value) in metadata {
            request.metadata_mut().append(*name, value.parse().unwrap());
        }
        let answer = KvClient::new(root.channel()).range(request).await?;
        Ok(answer.into_inner().count)
    };
    let bearer = format!("Bearer {token}");
    for (name, value) in [
        ("token", &token),
        ("token", &bearer),
        ("authorization", &token),
        ("authorization", &bearer),
    ] {
        assert_eq!(ask(&[(name, value.clone())]).await.unwrap(), 1, "{name}: {value}");
    }
    let junk = || "junk".to_owned();
    ask(&[("token", token.clone()), ("authorization", junk())])
        .await
        .unwrap();
    assert_bad_token(ask(&[("token", junk()), ("authorization", token.clone())]).await);
    // Of several under one name the first counts.
    ask(&[("token", token.clone()), ("token", junk())]).await.unwrap();
    assert_bad_token(ask(&[("token", junk()), ("token", token.clone())]).await);
    assert_bad_token(ask(&[("authorization", format!("bearer {token}"))]).await);
    assert_bad_token(ask(&[("authorization", format!("Basic {token}"))]).await);
}

#[tokio::test]
async fn simple_tokens_end_with_the_process() {
    let (mut server, root) = Server::start_with_auth(&[]).await;
    root.put("k", "1").await;
    let token = root.login("root").await;
    server.terminate();
    server.run();
    let client = server.client().await;
    assert_bad_token(client.with_token(&token).try_range(get("k")).await);
    client.as_user("root").await.range(get("k")).await;
}

/// Each use gives a token its whole life again; one that nobody uses ends.
#[tokio::test]
async fn a_simple_token_lives_while_it_is_used() {
    let (_server, root) = Server::start_with_auth(&["--auth-token-ttl=2"]).await;
    let used = root.as_user("root").await;
    used.put("k", "1").await;
    // To look at a token is to use it, so each of these is looked at once, at another age.
    let mut idle = Vec::new();
    for _ in 0..AGES {
        let before = Instant::now();
        idle.push((before, root.login("root").await));
        used.range(get("k")).await;
    }
    let mut ended = None;
    for (made, token) in idle {
        let (age, next) = (made.elapsed(), Instant::now() + AGE_STEP);
        if let Err(status) = used.with_token(&token).try_range(get("k")).await {
            assert_bad_token(Err::<(), _>(status));
            ended = Some(age);
            break;
        }
        while Instant::now() < next {
            used.range(get("k")).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    let ended = ended.expect("a token that nobody uses ends");
    assert!(ended >= Duration::from_millis(1500), "ended after {ended:?}");
    used.range(get("k")).await;
}

/// How many ages of an idle token are looked at, and how far apart they are.
const AGES: usize = 40;
const AGE_STEP: Duration = Duration::from_millis(250);

#[tokio::test]
async fn what_drops_simple_tokens() {
    let (_server, root) = Server::start_with_auth(&[]).await;
    root.add_user_with("alice", Type::Readwrite, "a/").await;
    root.add_user_with("bob", Type::Readwrite, "b/").await;
    let alices = [root.as_user("alice").await, root.as_user("alice").await];
    let bob = root.as_user("bob").await;

    // Grants and revokes keep them, and a token always stands for what its user may do now.
    root.add_role("more").await;
    root.permit("more", Type::Read, "more", "").await;
    root.grant_role("alice", "more").await.unwrap();
    for alice in &alices {
        alice.range(get("more")).await;
    }
    root.revoke_role("alice", "more").await.unwrap();
    for alice in &alices {
        assert_denied(alice.try_range(get("more")).await);
        alice.put("a/1", "1").await;
    }

    root.change_password("alice", "changed").await;
    for alice in &alices {
        assert_bad_token(alice.try_range(get("a/1")).await);
    }
    bob.put("b/1", "1").await;
    root.delete_user("bob").await.unwrap();
    assert_bad_token(bob.try_range(get("b/1")).await);
    // One who comes back under the name is another.
    root.add_user("bob").await;
    root.grant_role("bob", "bob").await.unwrap();
    assert_bad_token(bob.try_range(get("b/1")).await);

    let token = root.try_login("alice", "changed").await.unwrap();
    root.try_disable_auth().await.unwrap();
    root.with_token(&token).range(get("a/1")).await;
    root.try_enable_auth().await.unwrap();
    assert_bad_token(root.with_token(&token).try_range(get("a/1")).await);
    assert_bad_token(root.try_range(get("a/1")).await);
}

/// A login is applied by every member: one that is asked with the token before it has heard of it waits.
#[tokio::test]
async fn every_member_takes_a_simple_token() {
    let cluster = Cluster::start_with(3, &[CHEAP_HASHES]).await;
    let root = cluster.client(0).enable_auth().await;
    root.add_user_with("alice", Type::Readwrite, "a/").await;
    for round in 0..20 {
        let token = cluster.client(round % 3).login("alice").await;
        for other in [round + 1, round + 2, round] {
            let alice = cluster.client(other % 3).with_token(&token);
            let key = format!("a/{round}");
            let asked = match round % 2 {
                0 => alice.try_range(get(&key)).await.map(|_| ()),
                _ => alice.try_put(put(&key, "1")).await.map(|_| ()),
            };
            // A real etcd names the index before the one that brings the token, and loses that race now and then.
            let Err(status) = asked else {
                continue;
            };
            assert!(!runs_taffrail(), "round {round}, member {}: {status}", other % 3);
        }
    }
    // What drops a token drops it on every member.
    let token = cluster.client(1).login("alice").await;
    cluster.client(2).with_token(&token).put("a/k", "1").await;
    root.change_password("alice", "changed").await;
    for member in cluster.members() {
        let alice = cluster.client(member).with_token(&token);
        // A member that has not heard of it still knows the token, but not for long.
        let start = Instant::now();
        while let Ok(_known) = alice.try_range(get("a/k")).await {
            assert!(
                start.elapsed() < PATIENCE,
                "member {member} still takes the token"
            );
        }
        assert_bad_token(alice.try_range(get("a/k")).await);
    }
}

/// Writes of one user through members that hear of changes at different times are judged by their place in the log.
#[tokio::test]
async fn a_revoke_on_one_member_ends_writes_through_all() {
    let cluster = Cluster::start_with(3, &[CHEAP_HASHES]).await;
    let root = cluster.client(0).enable_auth().await;
    root.add_user_with("alice", Type::Readwrite, "a/").await;
    let token = root.login("alice").await;
    for round in 0..10 {
        let mut writers = tokio::task::JoinSet::new();
        for member in cluster.members() {
            let alice = cluster.client(member).with_token(&token);
            writers.spawn(async move {
                let mut last = 0;
                loop {
                    match alice.try_put(put(&format!("a/{member}"), "1")).await {
                        Ok(answer) => last = header_revision(&answer.header),
                        Err(status) => return (last, status),
                    }
                }
            });
        }
        let revoked = async {
            // Somebody writes by now.
            while root.range(get_prefix("a/")).await.count < 3 {}
            root.revoke_role("alice", "alice").await.unwrap();
            root.revision().await
        };
        let revision = revoked.await;
        while let Some(ended) = writers.join_next().await {
            let (last, status) = ended.unwrap();
            // Between the start of a request and its apply the users changed: that is told apart from a denial.
            let text = status.message();
            assert!(
                [
                    "etcdserver: permission denied",
                    "etcdserver: revision of auth store is old"
                ]
                .contains(&text),
                "round {round}: {status}"
            );
            assert!(
                last <= revision,
                "round {round}: written at {last}, revoked at {revision}"
            );
        }
        root.grant_role("alice", "alice").await.unwrap();
    }
}

#[tokio::test]
async fn a_common_name_is_an_identity_only_where_certificates_are_demanded() {
    let own = |authority: &Authority| authority.issue_nameless("server", 1, &["localhost"]);
    for demanded in [true, false] {
        let flags: &[&str] = if demanded {
            &["--client-cert-auth", CHEAP_HASHES]
        } else {
            &[CHEAP_HASHES]
        };
        let mut secured = Secured::prepared(own, flags);
        secured.server.run();
        let root = secured.server.client().await.enable_auth().await;
        root.add_user_with("alice", Type::Readwrite, "a/").await;
        root.add_user_with("bob", Type::Readwrite, "b/").await;
        let pairs = [("alice", 2), ("stranger", 3)]
            .map(|(name, serial)| secured.authority.issue_to(name, serial, &[]));
        let alice = secured.client(&pairs[0]).await;
        let stranger = secured.client(&pairs[1]).await;
        let nameless = secured.authority.issue_nameless("nameless", 4, &[]);
        let nameless = secured.client(&nameless).await;
        if !demanded {
            // Certificates are looked at, since there is a bundle, but name nobody.
            assert_nobody(alice.try_put(put("a/1", "1")).await);
            continue;
        }
        alice.put("a/1", "1").await;
        alice.range(get("a/1")).await;
        assert_denied(alice.try_put(put("b/1", "1")).await);
        let (mut stream, created) = WatchStream::with(&alice, watch_prefix("a/")).await;
        assert!(!created.canceled, "{created:?}");
        alice.put("a/1", "2").await;
        assert_eq!(showed(&stream.events(1).await), ["PUT a/1=2"]);
        assert_denied(stranger.try_put(put("a/1", "1")).await);
        // A real etcd takes it for a user without a name, who is unknown.
        let refused = nameless.try_put(put("a/1", "1")).await;
        if runs_taffrail() {
            assert_nobody(refused);
        } else {
            assert_denied(refused);
        }
        // A token goes before the name, and a bad one is not made up for by it.
        let bob = alice.with_token(&root.login("bob").await);
        bob.put("b/1", "1").await;
        assert_denied(bob.try_put(put("a/1", "1")).await);
        assert_bad_token(alice.with_token("junk").try_put(put("a/1", "1")).await);
        // A name is judged by what its user may do now; there is nothing to renew.
        root.revoke_role("alice", "alice").await.unwrap();
        assert_denied(alice.try_range(get("a/1")).await);
        root.grant_role("alice", "alice").await.unwrap();
        alice.range(get("a/1")).await;
    }
}

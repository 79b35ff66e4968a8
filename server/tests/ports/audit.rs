//! The audit log and the top talkers: who did what, with its keys and what came of it; nothing that is secret.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::{Path, PathBuf};

use crate::harness::*;
use proto::etcdserverpb::auth_client::AuthClient;
use proto::etcdserverpb::kv_client::KvClient;
use proto::etcdserverpb::{
    AuthEnableRequest, AuthUserAddRequest, AuthUserChangePasswordRequest, AuthUserGrantRoleRequest,
    AuthenticateRequest,
};
use serde_json::{Value, json};
use tonic::Code;

/// Whoever finds this in a log has found a leak.
const SECRET: &str = "open-sesame-7351";

/// A server with an audit log, and where that is.
fn audited(flags: &[&str]) -> (Server, PathBuf) {
    let mut server = Server::prepared(flags);
    let path = server.scratch_dir().join("audit.log");
    server.add_flag(&format!("--audit-log={}", path.display()));
    server.run();
    (server, path)
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let line = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    text.lines().map(line).collect()
}

/// The lines about one method.
fn of_method<'a>(lines: &'a [Value], method: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["method"] == method).collect()
}

#[tokio::test]
async fn every_call_is_told_with_its_keys_and_its_outcome() {
    if !runs_taffrail() {
        return; // nobody else has such a log
    }
    let (mut server, path) = audited(&["--log-level=debug", "--top-talkers"]);
    let client = server.client().await;
    let revision = client.put("a/1", SECRET).await;
    client.range(get_prefix("a/")).await;
    let mut future = get("a/1");
    future.revision = 1 << 40;
    assert_status(
        client.try_range(future).await,
        Code::OutOfRange,
        "etcdserver: mvcc: required revision is a future revision",
    );
    let branches = txn(
        vec![is_absent("b")],
        vec![op(put("b", SECRET)), op(delete_prefix("c"))],
        vec![],
    );
    client.txn(branches).await;
    let mut watch = WatchStream::open(&client);
    watch.create(watch_key("a/1")).await;
    let body = r#"{"key":"Zw==","value":"b3Blbi1zZXNhbWUtNzM1MQ=="}"#;
    assert!(
        Exchange::post(server.client_address(), "/v3/kv/put", body)
            .body()
            .contains("revision")
    );
    let channel = tonic::transport::Endpoint::from_shared(server.endpoint()).unwrap();
    let mut auth = AuthClient::new(channel.connect().await.unwrap());
    let add = AuthUserAddRequest {
        name: "alice".to_owned(),
        password: SECRET.to_owned(),
        ..AuthUserAddRequest::default()
    };
    let added = auth
        .user_add(add)
        .await
        .map_or_else(|status| status.code(), |_| Code::Ok);
    let login = AuthenticateRequest {
        name: "alice".to_owned(),
        password: SECRET.to_owned(),
    };
    assert!(auth.authenticate(login).await.is_err(), "authentication is off");
    drop(watch);
    let talkers = http_get(server.client_address(), "/debug/talkers").unwrap().body;
    let talkers: Value = serde_json::from_str(&talkers).unwrap();
    assert_eq!(talkers["prefixes"]["rows"][0]["name"], "a/", "{talkers}");
    assert_eq!(talkers["users"]["rows"][0]["name"], "127.0.0.1", "{talkers}");
    let (status, _) = server.terminate();
    assert!(status.success(), "{status}");

    let lines = lines(&path);
    let puts = of_method(&lines, "/etcdserverpb.KV/Put");
    assert_eq!(puts.len(), 2, "{puts:?}");
    assert_eq!(puts[0]["keys"], json!([{"op": "put", "key": "a/1"}]));
    assert_eq!(
        (&puts[0]["code"], &puts[0]["revision"]),
        (&json!("OK"), &json!(revision))
    );
    assert!(puts[0]["address"].as_str().unwrap().starts_with("127.0.0.1:"));
    assert_eq!(
        (&puts[1]["gateway"], &puts[1]["keys"][0]["key"]),
        (&json!(true), &json!("g"))
    );
    let ranges = of_method(&lines, "/etcdserverpb.KV/Range");
    assert_eq!(
        ranges[0]["keys"],
        json!([{"op": "range", "key": "a/", "range_end": "a0"}])
    );
    let codes: Vec<&Value> = ranges.iter().map(|line| &line["code"]).collect();
    assert_eq!(codes, ["OK", "OutOfRange"]);
    let keys = &of_method(&lines, "/etcdserverpb.KV/Txn")[0]["keys"];
    let ops: Vec<&str> = keys
        .as_array()
        .unwrap()
        .iter()
        .map(|key| key["op"].as_str().unwrap())
        .collect();
    assert_eq!(ops, ["compare", "put", "delete"]);
    let watches = of_method(&lines, "/etcdserverpb.Watch/Watch");
    let events: Vec<&Value> = watches.iter().map(|line| &line["event"]).collect();
    assert_eq!(events, ["watch created", "stream ended"]);
    assert_eq!(watches[0]["keys"], json!([{"op": "watch", "key": "a/1"}]));
    let adds = of_method(&lines, "/etcdserverpb.Auth/UserAdd");
    assert_eq!(adds[0]["code"] == "OK", added == Code::Ok, "{adds:?}");
    assert_eq!(of_method(&lines, "/etcdserverpb.Auth/Authenticate").len(), 1);
    for (what, text) in [
        ("the audit log", std::fs::read_to_string(&path).unwrap()),
        ("the log", server.log()),
    ] {
        assert!(!text.contains(SECRET), "{what} has a secret");
    }
}

#[tokio::test]
async fn users_are_named_and_their_secrets_are_not() {
    if !runs_taffrail() {
        return;
    }
    let metrics = Ports::reserve();
    let metrics_flag = format!("--listen-metrics-urls=http://127.0.0.1:{}", metrics.client);
    let (mut server, path) = audited(&[
        "--log-level=debug",
        "--top-talkers",
        "--bcrypt-cost=4",
        &metrics_flag,
    ]);
    let channel = tonic::transport::Endpoint::from_shared(server.endpoint()).unwrap();
    let channel = channel.connect().await.unwrap();
    let mut auth = AuthClient::new(channel.clone());
    let root = AuthUserAddRequest {
        name: "root".to_owned(),
        password: SECRET.to_owned(),
        ..AuthUserAddRequest::default()
    };
    auth.user_add(root).await.unwrap();
    let grant = AuthUserGrantRoleRequest {
        user: "root".to_owned(),
        role: "root".to_owned(),
    };
    auth.user_grant_role(grant).await.unwrap();
    auth.auth_enable(AuthEnableRequest {}).await.unwrap();
    let login = |password: &str| AuthenticateRequest {
        name: "root".to_owned(),
        password: password.to_owned(),
    };
    let wrong = format!("{SECRET}-not");
    auth.authenticate(login(&wrong)).await.unwrap_err();
    let token = auth.authenticate(login(SECRET)).await.unwrap().into_inner().token;
    let mut kv = KvClient::new(channel);
    let with_token = |token: &str| {
        let mut request = tonic::Request::new(put("a/1", "v"));
        request.metadata_mut().insert("token", token.parse().unwrap());
        request
    };
    kv.put(with_token(&token)).await.unwrap();
    kv.put(with_token("made-up.7")).await.unwrap_err();
    let change = AuthUserChangePasswordRequest {
        name: "root".to_owned(),
        password: format!("{SECRET}-new"),
        ..AuthUserChangePasswordRequest::default()
    };
    let mut change = tonic::Request::new(change);
    change.metadata_mut().insert("token", token.parse().unwrap());
    auth.user_change_password(change).await.unwrap();
    // Keys and users are not everybody's to see any more.
    let page = |address| http_get(address, "/debug/talkers").unwrap();
    assert_eq!(page(server.client_address()).status, 403);
    let talkers = page(([127, 0, 0, 1], metrics.client).into()).body;
    assert!(
        talkers.contains("\"root\"") && talkers.contains("\"a/\""),
        "{talkers}"
    );
    // Nobody known is heard without end.
    let mut refused = 0;
    for _ in 0..3000 {
        let status = kv.range(get("a/1")).await.unwrap_err();
        refused += u32::from(status.code() == Code::ResourceExhausted);
    }
    assert!(refused > 0);
    kv.put(with_token(&token)).await.unwrap_err();
    let (status, _) = server.terminate();
    assert!(status.success(), "{status}");

    let lines = lines(&path);
    let puts = of_method(&lines, "/etcdserverpb.KV/Put");
    assert_eq!(
        (&puts[0]["user"], &puts[0]["code"]),
        (&json!("root"), &json!("OK"))
    );
    assert_eq!(
        (&puts[1]["user"], &puts[1]["code"]),
        (&Value::Null, &json!("Unauthenticated"))
    );
    let logins = of_method(&lines, "/etcdserverpb.Auth/Authenticate");
    let codes: Vec<&Value> = logins.iter().map(|line| &line["code"]).collect();
    assert_eq!(codes, ["InvalidArgument", "OK"]);
    assert_eq!(logins[0]["subject"], "user root");
    let secrets = [SECRET, token.split('.').next().unwrap(), "$2a$", "$2b$", "$2y$"];
    let records = std::process::Command::new(program())
        .args(["debug", "log"])
        .arg(server.data_dir())
        .output()
        .unwrap();
    assert!(records.status.success(), "{records:?}");
    for (what, text) in [
        ("the audit log", std::fs::read_to_string(&path).unwrap()),
        ("the log", server.log()),
        ("debug log", String::from_utf8_lossy(&records.stdout).into_owned()),
    ] {
        for secret in secrets {
            assert!(!text.contains(secret), "{what} has a secret: {secret}");
        }
    }
}

#[tokio::test]
async fn a_log_that_is_moved_away_is_begun_anew_without_loss() {
    if !runs_taffrail() {
        return;
    }
    let (mut server, path) = audited(&[]);
    let client = server.client().await;
    let (moved, mut written) = (path.with_extension("log.1"), 0);
    let mut write = async || {
        client.put("k", "v").await;
        written += 1;
    };
    write().await;
    wait_until("the first line", || {
        !of_method(&lines(&path), "/etcdserverpb.KV/Put").is_empty()
    });
    std::fs::rename(&path, &moved).unwrap();
    let start = std::time::Instant::now();
    while !path.exists() {
        write().await;
        assert!(start.elapsed() < PATIENCE, "no new file");
    }
    write().await;
    let (status, _) = server.terminate();
    assert!(status.success(), "{status}");
    let told = |path: &Path| of_method(&lines(path), "/etcdserverpb.KV/Put").len();
    assert_eq!(told(&path) + told(&moved), written);
}

#[tokio::test]
async fn a_scope_leaves_out_what_nobody_asked_for() {
    if !runs_taffrail() {
        return;
    }
    for (scope, put, range) in [("writes", 1, 0), ("admin", 0, 0)] {
        let (mut server, path) = audited(&[&format!("--audit-log-scope={scope}")]);
        let client = server.client().await;
        client.put("k", "v").await;
        client.range(get("k")).await;
        let channel = tonic::transport::Endpoint::from_shared(server.endpoint()).unwrap();
        let mut auth = AuthClient::new(channel.connect().await.unwrap());
        let _ = auth.user_add(AuthUserAddRequest::default()).await;
        server.terminate();
        let lines = lines(&path);
        let count = |method: &str| of_method(&lines, method).len();
        assert_eq!(count("/etcdserverpb.KV/Put"), put, "{scope}");
        assert_eq!(count("/etcdserverpb.KV/Range"), range, "{scope}");
        assert_eq!(count("/etcdserverpb.Auth/UserAdd"), 1, "{scope}");
    }
}

#[test]
fn a_log_that_cannot_be_opened_stops_the_start() {
    if !runs_taffrail() {
        return;
    }
    let mut server = Server::prepared(&["--audit-log=/nowhere/audit.log"]);
    server.spawn();
    let status = server.wait_for_exit();
    assert_eq!(status.code(), Some(1));
    assert!(
        server.log().contains("cannot open the audit log"),
        "{}",
        server.log()
    );
}

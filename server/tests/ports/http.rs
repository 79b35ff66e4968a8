//! Pages over HTTP on the ports for clients, metrics and members: routes, methods, headers, and who may ask. What is
//! expected here is what etcd 3.7.1 answers: every test passes against it too.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::net::SocketAddr;

use crate::harness::*;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;

/// A server with a port for metrics.
fn with_metrics(flags: &[&str]) -> (Server, SocketAddr, Ports) {
    let ports = Ports::reserve();
    let address = SocketAddr::from(([127, 0, 0, 1], ports.client));
    let url = format!("--listen-metrics-urls=http://{address}");
    let flags: Vec<&str> = [url.as_str()].iter().chain(flags).copied().collect();
    (Server::start_with(&flags), address, ports)
}

const NOT_FOUND: (u16, &str) = (404, "404 page not found\n");
const NOT_ALLOWED: (u16, &str) = (405, "Method Not Allowed\n");
const HEALTHY: (u16, &str) = (200, r#"{"health":"true","reason":""}"#);

#[test]
fn probes_have_their_pages_on_the_ports_for_clients_and_metrics() {
    let (server, metrics, _ports) = with_metrics(&[]);
    for address in [server.client_address(), metrics] {
        for (method, path, (status, body)) in [
            ("GET", "/health", HEALTHY),
            ("GET", "/health?serializable=true", HEALTHY),
            ("GET", "/%68ealth", HEALTHY),
            ("GET", "/health/", NOT_FOUND),
            ("POST", "/health", NOT_ALLOWED),
            ("HEAD", "/health", (405, "")),
            ("GET", "/livez", (200, "ok\n")),
            ("GET", "/livez?verbose", (200, "[+]serializable_read ok\nok\n")),
            (
                "GET",
                "/livez?verbose=false",
                (200, "[+]serializable_read ok\nok\n"),
            ),
            ("GET", "/livez/serializable_read", (200, "ok\n")),
            ("GET", "/livez/linearizable_read", NOT_FOUND),
            ("GET", "/livez/", NOT_FOUND),
            ("POST", "/livez", NOT_ALLOWED),
            ("GET", "/readyz", (200, "ok\n")),
            ("GET", "/readyz?exclude=nope", (200, "ok\n")),
            (
                "GET",
                "/readyz?exclude=data_corruption&exclude=serializable_read&exclude=linearizable%5Fread&verbose",
                (200, "[+]non_learner ok\nok\n"),
            ),
            ("GET", "/readyz/data_corruption", (200, "ok\n")),
            ("PUT", "/readyz/data_corruption", NOT_ALLOWED),
            ("PUT", "/readyz/nope", NOT_FOUND),
            ("GET", "/metricsx", NOT_FOUND),
            ("GET", "/members", NOT_FOUND),
            ("GET", "/", NOT_FOUND),
            ("POST", "/", NOT_FOUND),
        ] {
            let answer = Exchange::send(address, method, path, &[], "");
            assert_eq!(
                answer.header("content-type"),
                "text/plain; charset=utf-8",
                "{path}"
            );
            let nosniff = if (status, body) == HEALTHY { "" } else { "nosniff" };
            assert_eq!(answer.header("x-content-type-options"), nosniff, "{path}");
            let allow = if status == 405 { "GET" } else { "" };
            assert_eq!(answer.header("allow"), allow, "{path}");
            let on_client = address == server.client_address();
            let origin = if on_client { "*" } else { "" };
            assert_eq!(answer.header("access-control-allow-origin"), origin, "{path}");
            assert_eq!(
                (answer.status, answer.body().as_str()),
                (status, body),
                "{method} {path}"
            );
        }
        let verbose = Exchange::get(address, "/readyz?verbose").body();
        let mut lines: Vec<&str> = verbose.lines().collect();
        assert_eq!(lines.pop(), Some("ok"));
        lines.sort_unstable();
        let checks = [
            "data_corruption",
            "linearizable_read",
            "non_learner",
            "serializable_read",
        ];
        assert_eq!(lines, checks.map(|check| format!("[+]{check} ok")));
        for method in ["GET", "POST"] {
            let page = Exchange::send(address, method, "/metrics", &[], "");
            let kind = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";
            assert_eq!((page.status, page.header("content-type")), (200, kind));
            assert!(page.body().contains("\netcd_server_has_leader 1\n"));
        }
    }
    // What only one of them has.
    let status = |address, method, path| Exchange::send(address, method, path, &[], "").status;
    for (method, path, on_client, on_metrics) in [
        ("GET", "/version", 200, 404),
        ("POST", "/version", 405, 404),
        ("GET", "/debug/vars", 200, 404),
        ("POST", "/debug/vars", 405, 404),
        ("OPTIONS", "/health", 200, 405),
        ("OPTIONS", "/nope", 200, 404),
        ("GET", "/v3/kv/range", 501, 404),
        ("GET", "//health", 307, 307),
        ("GET", "/debug/pprof/", 404, 404),
        ("GET", "/debug/requests", 404, 404),
    ] {
        assert_eq!(
            status(server.client_address(), method, path),
            on_client,
            "{method} {path}"
        );
        assert_eq!(status(metrics, method, path), on_metrics, "{method} {path}");
    }
}

#[test]
fn the_peer_port_tells_members_and_version() {
    let server = Server::start();
    let peer = SocketAddr::from(([127, 0, 0, 1], server.ports().peer));
    let version = r#"{"etcdserver":"3.7.1","etcdcluster":"3.7.0","storage":"3.7.0"}"#;
    wait_until("the versions are decided", || {
        Exchange::get(server.client_address(), "/version").body() == version
    });
    for (method, path, expected) in [
        ("GET", "/version", (200, version)),
        ("POST", "/version", NOT_ALLOWED),
        ("POST", "/members", NOT_ALLOWED),
        ("GET", "/members/", NOT_FOUND),
        ("GET", "/health", NOT_FOUND),
        ("GET", "/metrics", NOT_FOUND),
        ("OPTIONS", "/health", NOT_FOUND),
        ("GET", "/", NOT_FOUND),
        ("POST", "//members", (307, "")),
    ] {
        let answer = Exchange::send(peer, method, path, &[], "");
        assert_eq!(
            (answer.status, answer.body().as_str()),
            expected,
            "{method} {path}"
        );
    }
    let list = Exchange::post(server.client_address(), "/v3/cluster/member/list", "{}").body();
    let list: Value = serde_json::from_str(&list).unwrap();
    let number = |value: &Value| value.as_str().unwrap().parse::<u64>().unwrap();
    let id = number(&list["header"]["member_id"]);
    let members = Exchange::get(peer, "/members");
    assert_eq!(members.header("content-type"), "application/json");
    let cluster = format!("{:x}", number(&list["header"]["cluster_id"]));
    assert_eq!(members.header("x-etcd-cluster-id"), cluster);
    assert_eq!(
        members.body(),
        format!(
            "[{{\"id\":{id},\"peerURLs\":[\"{}\"],\"name\":\"default\",\"clientURLs\":[\"{}\"]}}]\n",
            server.peer_url(),
            server.endpoint()
        )
    );
}

#[test]
fn only_listed_origins_are_told_so() {
    let server = Server::start_with(&["--cors=http://a.example:80,http://b.example:81"]);
    let send = |method, path, origin| {
        let headers = [("Origin", origin)];
        Exchange::send(server.client_address(), method, path, &headers, "")
    };
    for (method, path) in [
        ("GET", "/version"),
        ("OPTIONS", "/nope"),
        ("POST", "/v3/kv/range"),
    ] {
        let answer = send(method, path, "http://b.example:81");
        assert_eq!(
            answer.header("access-control-allow-origin"),
            "http://b.example:81"
        );
        assert_eq!(
            (
                answer.header("access-control-allow-methods"),
                answer.header("access-control-allow-headers")
            ),
            (
                "POST, GET, OPTIONS, PUT, DELETE",
                "accept, content-type, authorization"
            )
        );
        let answer = send(method, path, "http://c.example:82");
        assert!(
            !answer
                .headers
                .keys()
                .any(|name| name.starts_with("access-control"))
        );
        assert_eq!(answer.status == 200, method != "POST");
    }
}

#[test]
fn only_listed_hosts_are_answered() {
    let mut server = Server::prepared(&["--host-whitelist=a.example"]);
    server.spawn();
    let get = |host, path| Exchange::send(server.client_address(), "GET", path, &[("Host", host)], "");
    wait_until("the server is healthy", || {
        let is_served = std::net::TcpStream::connect(server.client_address()).is_ok();
        is_served && get("a.example", "/health").status == 200
    });
    for host in ["a.example", "a.example:2379"] {
        assert_eq!(get(host, "/version").status, 200);
    }
    for host in ["localhost", "127.0.0.1:2379", "b.example"] {
        for path in ["/health", "/v3/kv/range", "/nope"] {
            let answer = get(host, path);
            assert_eq!(
                (answer.status, answer.header("access-control-allow-origin")),
                (421, "")
            );
            let name = host.split(':').next().unwrap();
            assert_eq!(
                answer.body(),
                format!(
                    "\netcd received your request, but the Host header was unrecognized.\n\n\
                     To fix this, choose one of the following options:\n\
                     - Enable TLS, then any HTTPS request will be allowed.\n\
                     - Add the hostname you want to use to the whitelist in settings.\n  \
                     - e.g. etcd --host-whitelist \"{name}\"\n\n\
                     This requirement has been added to help prevent \"DNS Rebinding\" attacks \
                     (CVE-2018-5702).\n\n"
                )
            );
        }
    }
}

#[test]
fn a_process_can_be_looked_into() {
    let server = Server::start_with(&["--enable-pprof"]);
    let vars = Exchange::get(server.client_address(), "/debug/vars");
    assert_eq!(vars.header("content-type"), "application/json; charset=utf-8");
    let vars: Value = serde_json::from_str(&vars.body()).unwrap();
    let command: Vec<&str> = vars["cmdline"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert!(command.contains(&"--enable-pprof"), "{vars}");
    assert!(vars["file_descriptor_limit"].as_u64().unwrap() > 0);
    assert!(vars["memstats"]["Alloc"].as_u64().unwrap() > 0);
    let raft = &vars["raft.status"];
    assert_eq!(
        (&raft["raftState"], &raft["lead"]),
        (&Value::from("StateLeader"), &raft["id"])
    );
    assert!(raft["applied"].as_u64().unwrap() > 0 && raft["term"].as_u64().unwrap() > 0);

    let index = Exchange::get(server.client_address(), "/debug/pprof/");
    assert_eq!(
        (index.status, index.header("content-type")),
        (200, "text/html; charset=utf-8")
    );
    assert!(index.body().contains("cmdline"));
    let words = Exchange::get(server.client_address(), "/debug/pprof/cmdline").body();
    assert_eq!(words.split('\0').collect::<Vec<_>>(), command);
    for (path, status) in [
        ("/debug/pprof", 307),
        ("/debug/pprof/nope", 404),
        ("/debug/pprof/symbol", 200),
        ("/debug/requests", 404),
    ] {
        assert_eq!(
            Exchange::get(server.client_address(), path).status,
            status,
            "{path}"
        );
    }
    if runs_taffrail() {
        let profile = Exchange::get(server.client_address(), "/debug/pprof/heap");
        assert_eq!(profile.status, 501);
        assert!(profile.body().contains("heap"));
    }
}

#[test]
fn at_level_debug_there_is_more_to_see() {
    let server = Server::start_with(&["--log-level=debug"]);
    Exchange::post(server.client_address(), "/v3/kv/put", r#"{"key":"YQ=="}"#);
    for path in ["/debug/requests", "/debug/events", "/debug/pprof/"] {
        let page = Exchange::get(server.client_address(), path);
        assert_eq!(
            (page.status, page.header("content-type")),
            (200, "text/html; charset=utf-8")
        );
        if path == "/debug/requests" {
            assert!(page.body().contains("etcdserverpb.KV"));
        }
    }
}

#[tokio::test]
async fn http2_in_plaintext_is_for_grpc() {
    let server = Server::shared();
    let stream = tokio::net::TcpStream::connect(server.client_address())
        .await
        .unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    let connection = tokio::spawn(connection);
    let request = http::Request::get(format!("{}/health", server.endpoint()))
        .body(Empty::<bytes::Bytes>::new())
        .unwrap();
    let answer = sender.send_request(request).await.unwrap();
    assert_eq!(
        (
            answer.status().as_u16(),
            &answer.headers()["content-type"],
            &answer.headers()["grpc-status"]
        ),
        (415, &"application/grpc".parse().unwrap(), &"3".parse().unwrap())
    );
    assert!(answer.into_body().collect().await.unwrap().to_bytes().is_empty());
    drop(sender);
    connection.await.unwrap().unwrap();
}

//! Clients that ask for too much or too slowly, and requests that are none: each gets its refusal, and nobody else feels it.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::asking::{Asker, MAPS, config_map};
use crate::harness::*;

/// What is too large for a request, and what is for the store.
#[tokio::test]
async fn bodies_that_are_too_large_are_refused() {
    let kubernetes = Kubernetes::start().await;
    let asker = Asker::at(&kubernetes.url());
    let long = "x".repeat(BODY_BYTES_MAX);
    let answer = asker.post(MAPS, &config_map("a", &long)).await;
    assert_eq!(
        (answer.code, answer.reason().as_str()),
        (413, "RequestEntityTooLarge")
    );
    assert_eq!(answer.message(), "Request entity too large: limit is 3145728");
    // Without a length it is found out on the way.
    let mut stream = TcpStream::connect(kubernetes.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = format!("PUT {MAPS}/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let chunk = format!("10000\r\n{}\r\n", "y".repeat(0x10000));
    // It may have answered and closed before all was sent.
    let _ = (0..64).try_for_each(|_| stream.write_all(chunk.as_bytes()));
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
    // This one may be sent, but not stored.
    let revision = json!({"metadata": {"name": "r"}, "revision": 1, "data": {"a": &long[..2 << 20]}});
    let revisions = "/apis/apps/v1/namespaces/default/controllerrevisions";
    let answer = asker.post(revisions, &revision).await;
    assert_eq!(
        (answer.code, answer.reason().as_str()),
        (413, "RequestEntityTooLarge")
    );
    assert_eq!(answer.message(), "etcdserver: request is too large");
    let large = config_map("a", &long[..1 << 20]);
    asker.post(MAPS, &large).await.expect(201);
}

#[tokio::test]
async fn heads_that_are_too_large_and_bodies_that_do_not_come_hold_up_nobody() {
    let kubernetes = Kubernetes::start().await;
    let asker = Asker::at(&kubernetes.url());
    let selector = "a,".repeat(200_000);
    let answer = Exchange::send(kubernetes.address(), "GET", MAPS, &[("X-Long", &selector)], "");
    assert_eq!(answer.status, 431);
    // Bodies that are promised and stay away, more of them than requests may be at work at once would be.
    let head = format!("POST {MAPS} HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n{{");
    let slow: Vec<TcpStream> = (0..100)
        .map(|_| {
            let mut stream = TcpStream::connect(kubernetes.address()).unwrap();
            stream.write_all(head.as_bytes()).unwrap();
            stream
        })
        .collect();
    asker.post(MAPS, &config_map("a", "1")).await.expect(201);
    asker.get(MAPS).await.expect(200);
    drop(slow);
}

/// A client that does not take what it watches is told to list again, and nothing is kept for it meanwhile.
#[tokio::test]
async fn a_watch_that_is_not_read_is_cut() {
    let kubernetes = Kubernetes::start().await;
    let asker = Asker::at(&kubernetes.url());
    asker.post(MAPS, &config_map("a", "0")).await.expect(201);
    let path = format!("{MAPS}?watch=true");
    let mut slow = Exchange::get(kubernetes.address(), &path);
    assert_eq!(slow.json_line()["type"], "ADDED");
    let before = resident_bytes(&kubernetes.server);
    // More than the ring and all buffers on the way hold.
    let piece = "x".repeat(WRITE_BYTES);
    for number in 0..WRITES {
        let patch = json!({"data": {"value": format!("{number}{piece}")}});
        asker.merge(&format!("{MAPS}/a"), &patch).await.expect(200);
    }
    let mut seen = 0;
    let last = loop {
        let event = slow.json_line();
        match event["type"].as_str() {
            Some("MODIFIED") => {
                let value = event["object"]["data"]["value"].as_str().unwrap();
                assert_eq!(value, format!("{seen}{piece}"), "in order, without a gap");
                seen += 1;
            }
            _ => break event,
        }
    };
    assert!(seen < WRITES, "what was not read was kept");
    assert_eq!(last["type"], "ERROR");
    let status = &last["object"];
    assert_eq!(
        (&status["code"], &status["reason"]),
        (&json!(410), &json!("Expired"))
    );
    assert!(
        status["message"]
            .as_str()
            .unwrap()
            .starts_with("too old resource version: "),
        "{status}"
    );
    assert_eq!(slow.line(), None, "that is the end");
    let grown = resident_bytes(&kubernetes.server).saturating_sub(before);
    assert!(grown < GROWN_BYTES_MAX, "{grown} bytes");
    // Who lists again goes on.
    let list = asker.get(MAPS).await.expect(200);
    let from = list["metadata"]["resourceVersion"].as_str().unwrap();
    let mut again = Exchange::get(kubernetes.address(), &format!("{path}&resourceVersion={from}"));
    asker.delete(&format!("{MAPS}/a")).await.expect(200);
    assert_eq!(again.json_line()["type"], "DELETED");
}

fn resident_bytes(server: &Server) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.unwrap().trim().trim_end_matches(" kB");
    kibibytes.parse::<usize>().unwrap() << 10
}

/// What stands in the line of a request may be anything.
#[tokio::test]
async fn odd_paths_and_methods_have_their_answers() {
    let kubernetes = Kubernetes::start().await;
    let asker = Asker::at(&kubernetes.url());
    asker.post(MAPS, &config_map("a", "1")).await.expect(201);
    let address = kubernetes.address();
    let none = "the server could not find the requested resource";
    let no_method = "the server does not allow this method on the requested resource";
    for (method, path, code, told) in [
        (
            "GET",
            "/api/v1/namespaces/default/configmaps/",
            200,
            "ConfigMapList",
        ),
        (
            "GET",
            "/api/v1/namespaces/default/configmaps/a/",
            200,
            "\"name\":\"a\"",
        ),
        (
            "GET",
            "/api/v1/namespaces/default/configmaps/..",
            400,
            "may not be '..'",
        ),
        (
            "GET",
            "/api/v1/namespaces/default/configmaps/.",
            400,
            "may not be '.'",
        ),
        (
            "GET",
            "/api/v1/namespaces/default/configmaps/%2e%2e",
            400,
            "may not be '..'",
        ),
        (
            "GET",
            "/api/v1/namespaces/default/configmaps/b%2Fa",
            400,
            "may not contain '/'",
        ),
        (
            "GET",
            "/api/v1/namespaces/default/configmaps/%2525",
            400,
            "may not contain '%'",
        ),
        (
            "GET",
            "/api/v1/namespaces/..%2Fdefault/configmaps/a",
            400,
            "may not contain '/'",
        ),
        (
            "GET",
            "/api/v1/namespaces/default%2Fconfigmaps/secrets",
            400,
            "may not contain '/'",
        ),
        (
            "GET",
            "/api/v1/namespaces/default/configmaps/a%00",
            404,
            "not found",
        ),
        ("GET", "/api/v1/namespaces/default/configmaps/%ff", 404, none),
        (
            "GET",
            "/api/v1/namespaces/default/configmaps/%zz",
            400,
            "may not contain '%'",
        ),
        ("GET", "/api/v1/namespaces//configmaps/a", 404, none),
        ("GET", "/api/v1//configmaps", 404, none),
        ("GET", "/api/v1/configmaps/a", 404, none),
        ("GET", "/api/v1/namespaces/default/configmaps/a/status", 404, none),
        ("GET", "/api/v1/namespaces/default/configmaps/a/b/c/d", 404, none),
        ("GET", "/api/v2/configmaps", 404, none),
        ("GET", "/apis/none/v1/configmaps", 404, "404 page not found"),
        ("GET", "/apis/apps/v9/deployments", 404, none),
        ("GET", "/../api/v1/configmaps", 404, "404 page not found"),
        ("GET", "/api/v1/../v1/configmaps", 404, none),
        ("GET", "/none", 404, "404 page not found"),
        ("HEAD", "/api/v1/namespaces/default/configmaps/a", 405, ""),
        (
            "OPTIONS",
            "/api/v1/namespaces/default/configmaps/a",
            405,
            no_method,
        ),
        ("TRACE", "/api/v1/namespaces/default/configmaps", 405, no_method),
        ("BREW", "/api/v1/namespaces/default/configmaps", 405, no_method),
        ("POST", "/api/v1/namespaces/default/configmaps/a", 405, no_method),
        ("PUT", "/api/v1/namespaces/default/configmaps", 405, no_method),
        ("PATCH", "/api/v1/configmaps", 405, no_method),
        ("DELETE", "/api/v1/configmaps", 405, no_method),
        ("POST", "/healthz", 405, ""),
        ("DELETE", "/api", 405, ""),
        // The first of several counts, and nobody minds one that is not known.
        (
            "GET",
            "/api/v1/configmaps?limit=1&limit=x&none=1&&=",
            200,
            "ConfigMapList",
        ),
        ("GET", "/api/v1/configmaps?limit=-1", 200, "ConfigMapList"),
        ("GET", "/api/v1/configmaps?limit=x", 400, "invalid syntax"),
        (
            "GET",
            "/api/v1/configmaps?limit=9223372036854775808",
            400,
            "value out of range",
        ),
        (
            "GET",
            "/api/v1/configmaps?limit=9223372036854775807",
            200,
            "ConfigMapList",
        ),
        (
            "GET",
            "/api/v1/configmaps?resourceVersion=18446744073709551616",
            400,
            "value out of range",
        ),
        (
            "GET",
            "/api/v1/configmaps?resourceVersion=x",
            400,
            "invalid syntax",
        ),
        (
            "GET",
            "/api/v1/configmaps?continue=x",
            400,
            "continue key is not valid",
        ),
        (
            "GET",
            "/api/v1/configmaps?labelSelector=a%3D%3D%3Db",
            400,
            "unable to parse requirement",
        ),
        (
            "GET",
            "/api/v1/configmaps?labelSelector=%00",
            400,
            "unable to parse requirement",
        ),
        (
            "GET",
            "/api/v1/configmaps?fieldSelector=data.a%3Db",
            400,
            "not a known field selector",
        ),
        (
            "GET",
            "/api/v1/configmaps?fieldSelector=metadata.name%3D..%2Fa",
            200,
            "\"items\":[]",
        ),
        // What is far away is as good as never, for those who wait for the end of a watch.
        (
            "GET",
            "/api/v1/configmaps?watch=1&timeoutSeconds=x",
            400,
            "invalid syntax",
        ),
        (
            "GET",
            "/api/v1/configmaps?watch=1&resourceVersion=-1",
            500,
            "invalid syntax",
        ),
        (
            "POST",
            "/api/v1/namespaces/default/configmaps?dryRun=Some",
            422,
            "dryRun: Unsupported value",
        ),
        (
            "POST",
            "/api/v1/namespaces/default/configmaps?fieldValidation=x",
            422,
            "fieldValidation: Unsupported value",
        ),
    ] {
        let body = config_map("b", "1").to_string();
        let exchange = Exchange::send(
            address,
            method,
            path,
            &[],
            if method == "POST" { &body } else { "" },
        );
        let status = exchange.status;
        let body = exchange.body();
        assert_eq!(status, code, "{method} {path}: {body}");
        assert!(body.contains(told), "{method} {path}: {body}");
        if code >= 400 && body.starts_with('{') {
            let status: Value = serde_json::from_str(&body).unwrap();
            assert_eq!(
                (&status["kind"], &status["code"]),
                (&json!("Status"), &json!(code)),
                "{body}"
            );
        }
    }
    for timeout in ["9223372036854775807", "0", "-5"] {
        let path = format!("{MAPS}?watch=true&timeoutSeconds={timeout}");
        let mut watch = Exchange::get(address, &path);
        assert_eq!((watch.status, &watch.json_line()["type"]), (200, &json!("ADDED")));
    }
    // A name is only that, whatever stands in it.
    let path = format!("{MAPS}/a,metadata.namespace%3Dnone?watch=true&timeoutSeconds=1");
    assert_eq!(asker.get(&path).await.text(), "");
}

/// As a real server has it.
const BODY_BYTES_MAX: usize = 3 << 20;
const WRITE_BYTES: usize = 400 << 10;
const WRITES: usize = 60;
/// The ring, what the store itself keeps of the writes, and what the allocator has not given back.
const GROWN_BYTES_MAX: usize = 250 << 20;

//! The JSON gateway, with corner cases 75 and 76 of the compatibility reference. What is expected here is what
//! etcd 3.7.1 answers: every test passes against it too.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use crate::harness::*;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

/// An answer without what differs from member to member, after a look at it.
fn masked(mut answer: Value) -> Value {
    mask(&mut answer);
    answer
}

fn mask(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::Object(header)) = fields.get_mut("header") {
                for name in ["cluster_id", "member_id", "raft_term"] {
                    if let Some(id) = header.remove(name) {
                        let digits = id.as_str().expect("a 64-bit number is a string");
                        assert!(digits.parse::<u64>().is_ok_and(|id| id > 0), "{name}: {digits}");
                    }
                }
            }
            fields.values_mut().for_each(mask);
        }
        Value::Array(items) => items.iter_mut().for_each(mask),
        _ => {}
    }
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text:?}"))
}

/// Requests to a fresh store, one after the other: path, body, status, answer. A text of `*` may be any.
const CALLS: &[(&str, &str, u16, &str)] = &[
    (
        "kv/put",
        r#"{"key":"Zm9v","value":"YmFy"}"#,
        200,
        r#"{"header":{"revision":"2"}}"#,
    ),
    (
        "kv/range",
        r#"{"key":"Zm9v"}"#,
        200,
        r#"{"header":{"revision":"2"},"kvs":[{"key":"Zm9v","create_revision":"2","mod_revision":"2","version":"1",
            "value":"YmFy"}],"count":"1"}"#,
    ),
    // Numbers and enums in any spelling, fields that nobody knows, text behind the object.
    (
        "kv/range",
        r#"{"key":"Zm9v","limit":1e0,"sort_order":"DESCEND","sortTarget":2,"keysOnly":true,"x":[{"a":1}]} x"#,
        200,
        r#"{"header":{"revision":"2"},"kvs":[{"key":"Zm9v","create_revision":"2","mod_revision":"2","version":"1"}],
            "count":"1"}"#,
    ),
    (
        "kv/range",
        r#"{"key":"Zm8","count_only":true}"#,
        200,
        r#"{"header":{"revision":"2"}}"#,
    ),
    (
        "kv/range",
        r#"{"key":"-_8=","limit":"1"}"#,
        200,
        r#"{"header":{"revision":"2"}}"#,
    ),
    (
        "kv/range",
        r#"{"key":"Zm9v","sort_order":7}"#,
        400,
        r#"{"code":3,"message":"etcdserver: invalid sort option"}"#,
    ),
    (
        "kv/range",
        "",
        400,
        r#"{"code":3,"message":"etcdserver: key is not provided"}"#,
    ),
    (
        "kv/range",
        r#"{"key":null}"#,
        400,
        r#"{"code":3,"message":"etcdserver: key is not provided"}"#,
    ),
    (
        "kv/range",
        r#"{"key":"Z"#,
        400,
        r#"{"code":3,"message":"unexpected EOF"}"#,
    ),
    ("kv/range", "x", 400, r#"{"code":3,"message":"*"}"#),
    ("kv/range", "null", 400, r#"{"code":3,"message":"*"}"#),
    ("kv/range", "[]", 400, r#"{"code":3,"message":"*"}"#),
    ("kv/range", r#"{"key":"%%%"}"#, 400, r#"{"code":3,"message":"*"}"#),
    ("kv/range", r#"{"key":5}"#, 400, r#"{"code":3,"message":"*"}"#),
    (
        "kv/range",
        r#"{"key":"Zm9v","limit":1.5}"#,
        400,
        r#"{"code":3,"message":"*"}"#,
    ),
    (
        "kv/range",
        r#"{"key":"Zm9v","limit":"x"}"#,
        400,
        r#"{"code":3,"message":"*"}"#,
    ),
    (
        "kv/range",
        r#"{"key":"Zm9v","revision":"99"}"#,
        400,
        r#"{"code":11,"message":"etcdserver: mvcc: required revision is a future revision"}"#,
    ),
    ("kv/range/", "{}", 404, r#"{"code":5,"message":"Not Found"}"#),
    ("kv/rangestream", "{}", 404, r#"{"code":5,"message":"Not Found"}"#),
    ("", "{}", 404, r#"{"code":5,"message":"Not Found"}"#),
    (
        "lease/grant",
        r#"{"TTL":100,"ID":77}"#,
        200,
        r#"{"header":{"revision":"2"},"ID":"77","TTL":"100"}"#,
    ),
    (
        "lease/grant",
        r#"{"TTL":"100","ID":"77"}"#,
        400,
        r#"{"code":9,"message":"etcdserver: lease already exists"}"#,
    ),
    (
        "lease/leases",
        "{}",
        200,
        r#"{"header":{"revision":"2"},"leases":[{"ID":"77"}]}"#,
    ),
    (
        "kv/lease/leases",
        "",
        200,
        r#"{"header":{"revision":"2"},"leases":[{"ID":"77"}]}"#,
    ),
    (
        "lease/timetolive",
        r#"{"ID":78}"#,
        200,
        r#"{"header":{"revision":"2"},"ID":"78","TTL":"-1"}"#,
    ),
    (
        "kv/lease/timetolive",
        r#"{"ID":"78"}"#,
        200,
        r#"{"header":{"revision":"2"},"ID":"78","TTL":"-1"}"#,
    ),
    (
        "kv/lease/revoke",
        r#"{"ID":77}"#,
        200,
        r#"{"header":{"revision":"2"}}"#,
    ),
    (
        "lease/revoke",
        r#"{"ID":77}"#,
        404,
        r#"{"code":5,"message":"etcdserver: requested lease not found"}"#,
    ),
    // Once made etcd panic.
    (
        "kv/txn",
        r#"{"compare":[{"result":0,"target":1,"key":"Zm9v","TargetUnion":null}],
            "success":[{"Request":{"RequestPut":{"key":"Zm9v","value":"YmFy"}}}]}"#,
        400,
        r#"{"code":3,"message":"etcdserver: key not found"}"#,
    ),
    (
        "kv/txn",
        r#"{"compare":[{"key":"Zm9v","target":"VALUE","result":"EQUAL","value":"YmFy"}],
            "success":[{"request_range":{"key":"Zm9v"}},{"requestPut":{"key":"Zm9v","value":"YmF6","prev_kv":true}}]}"#,
        200,
        r#"{"header":{"revision":"3"},"succeeded":true,"responses":[
            {"response_range":{"header":{"revision":"2"},"kvs":[{"key":"Zm9v","create_revision":"2",
                "mod_revision":"2","version":"1","value":"YmFy"}],"count":"1"}},
            {"response_put":{"header":{"revision":"3"},"prev_kv":{"key":"Zm9v","create_revision":"2",
                "mod_revision":"2","version":"1","value":"YmFy"}}}]}"#,
    ),
    (
        "kv/deleterange",
        r#"{"key":"Zm9v","prev_kv":true}"#,
        200,
        r#"{"header":{"revision":"4"},"deleted":"1","prev_kvs":[{"key":"Zm9v","create_revision":"2",
            "mod_revision":"3","version":"2","value":"YmF6"}]}"#,
    ),
    (
        "kv/compaction",
        r#"{"revision":10000}"#,
        400,
        r#"{"code":11,"message":"etcdserver: mvcc: required revision is a future revision"}"#,
    ),
    (
        "kv/compaction",
        r#"{"revision":2}"#,
        200,
        r#"{"header":{"revision":"4"}}"#,
    ),
    (
        "kv/range",
        r#"{"key":"Zm9v","revision":"1"}"#,
        400,
        r#"{"code":11,"message":"etcdserver: mvcc: required revision has been compacted"}"#,
    ),
    (
        "maintenance/alarm",
        r#"{"action":"GET"}"#,
        200,
        r#"{"header":{"revision":"4"}}"#,
    ),
    ("maintenance/defragment", "{}", 200, "{}"),
    (
        "maintenance/transfer-leadership",
        r#"{"targetID":1}"#,
        400,
        r#"{"code":9,"message":"etcdserver: bad leader transferee"}"#,
    ),
    (
        "lock/unlock",
        r#"{"key":"YQ=="}"#,
        200,
        r#"{"header":{"revision":"4"}}"#,
    ),
    (
        "election/leader",
        r#"{"name":"YQ=="}"#,
        500,
        r#"{"code":2,"message":"election: no leader"}"#,
    ),
];

#[test]
fn calls_are_answered_as_by_etcd() {
    let server = Server::start();
    for (path, body, status, expected) in CALLS {
        let answer = Exchange::post(server.client_address(), &format!("/v3/{path}"), body);
        let seen = (answer.status, answer.header("content-type").to_owned());
        assert_eq!(seen, (*status, "application/json".to_owned()), "{path} {body}");
        let metadata_type = if *status == 200 { "application/grpc" } else { "" };
        assert_eq!(
            answer.header("grpc-metadata-content-type"),
            metadata_type,
            "{path} {body}"
        );
        assert_eq!(answer.header("access-control-allow-origin"), "*");
        let (mut answer, expected) = (masked(parsed(&answer.body())), parsed(expected));
        if expected["message"] == "*" {
            answer["message"] = json!("*");
        }
        assert_eq!(answer, expected, "{path} {body}");
    }
}

#[test]
fn case_75_int64_are_strings_and_zeros_are_left_out() {
    let server = Server::start();
    Exchange::post(
        server.client_address(),
        "/v3/kv/put",
        r#"{"key":"Zm9v","value":""}"#,
    );
    let text = Exchange::post(server.client_address(), "/v3/kv/range", r#"{"key":"Zm9v"}"#).body();
    let answer = parsed(&text);
    let (header, kv) = (&answer["header"], &answer["kvs"][0]);
    for id in ["cluster_id", "member_id", "raft_term", "revision"] {
        assert!(header[id].is_string(), "{text}");
    }
    assert_eq!(
        kv,
        &json!({"key": "Zm9v", "create_revision": "2", "mod_revision": "2", "version": "1"})
    );
    assert_eq!((&answer["count"], &answer["more"]), (&json!("1"), &Value::Null));
    // Numbers of 32 bits are numbers.
    let hash = Exchange::post(server.client_address(), "/v3/maintenance/hashkv", "{}").body();
    assert!(parsed(&hash)["hash"].is_u64(), "{hash}");
    let error = Exchange::post(server.client_address(), "/v3/lease/revoke", r#"{"ID":"1"}"#).body();
    assert_eq!(
        parsed(&error),
        json!({"code": 5, "message": "etcdserver: requested lease not found"})
    );
}

#[test]
fn case_76_a_watch_is_answered_line_by_line() {
    let server = Server::start();
    let address = server.client_address();
    Exchange::post(address, "/v3/kv/put", r#"{"key":"Zm9v","value":"MQ=="}"#);
    let create = r#"{"create_request":{"key":"Zm9v","start_revision":"1","prev_kv":true}}"#;
    let mut watch = Exchange::post(address, "/v3/watch", create);
    assert_eq!(
        (watch.status, watch.header("content-type")),
        (200, "application/json")
    );
    assert_eq!(
        masked(watch.json_line()),
        json!({"result": {"header": {"revision": "2"}, "created": true}})
    );
    let first =
        json!({"key": "Zm9v", "create_revision": "2", "mod_revision": "2", "version": "1", "value": "MQ=="});
    assert_eq!(
        masked(watch.json_line()),
        json!({"result": {"header": {"revision": "2"}, "events": [{"kv": first}]}})
    );
    // Each line is there as soon as there is something to tell.
    Exchange::post(address, "/v3/kv/deleterange", r#"{"key":"Zm9v"}"#);
    assert_eq!(
        masked(watch.json_line()),
        json!({"result": {"header": {"revision": "3"}, "events": [
            {"type": "DELETE", "kv": {"key": "Zm9v", "mod_revision": "3"}, "prev_kv": first}
        ]}})
    );
}

#[test]
fn a_stream_takes_any_number_of_objects() {
    let server = Server::start();
    let body = r#"{"create_request":{"key":"Zm9v","watch_id":"5"}}
        {"create_request":{"key":"Zm9v","watch_id":"5"}}{"cancel_request":{"watch_id":5}}"#;
    let mut watch = Exchange::post(server.client_address(), "/v3/watch", body);
    let mut lines: Vec<Value> = (0..3)
        .map(|_| masked(watch.json_line())["result"].take())
        .collect();
    let header = json!({"revision": "1"});
    assert!(lines.iter_mut().all(|line| line["header"].take() == header));
    assert_eq!(
        lines[0],
        json!({"header": null, "watch_id": "5", "created": true})
    );
    let reason = "mvcc: duplicate watch ID provided on the WatchStream";
    assert_eq!(
        lines[1],
        json!({"header": null, "watch_id": "-1", "created": true, "canceled": true, "cancel_reason": reason})
    );
    assert_eq!(
        lines[2],
        json!({"header": null, "watch_id": "5", "canceled": true})
    );

    let keep_alive = |body| Exchange::post(server.client_address(), "/v3/lease/keepalive", body).body();
    Exchange::post(
        server.client_address(),
        "/v3/lease/grant",
        r#"{"TTL":100,"ID":77}"#,
    );
    let alive = "{\"result\":{\"header\":{\"revision\":\"1\"},\"ID\":\"77\",\"TTL\":\"100\"}}\n";
    let lines = keep_alive(r#"{"ID":77} {"ID":78}"#);
    let lines: Vec<Value> = lines.lines().map(|line| masked(parsed(line))).collect();
    assert_eq!(
        lines,
        [
            parsed(alive),
            json!({"result": {"header": {"revision": "1"}, "ID": "78"}})
        ]
    );
    // Text that is none ends the requests, not the call.
    assert_eq!(masked(parsed(&keep_alive(r#"{"ID":77} x"#))), parsed(alive));
    assert_eq!((keep_alive(""), keep_alive("x")), (String::new(), String::new()));
}

#[test]
fn an_answer_ends_when_its_time_is_over() {
    let server = Server::shared();
    let send = |path, timeout, body| {
        let headers = [("Grpc-Timeout", timeout)];
        Exchange::send(server.client_address(), "POST", path, &headers, body)
    };
    let late = json!({"code": 4, "message": "context deadline exceeded"});
    for timeout in ["1n", "-1S"] {
        let answer = send("/v3/kv/range", timeout, r#"{"key":"Zm9v"}"#);
        assert_eq!((answer.status, parsed(&answer.body())), (504, late.clone()));
    }
    assert_eq!(send("/v3/kv/range", "1M", r#"{"key":"Zm9v"}"#).status, 200);
    let answer = send("/v3/kv/range", "xx", r#"{"key":"Zm9v"}"#);
    assert_eq!(
        (answer.status, answer.body().as_str()),
        (400, r#"{"code":3,"message":"invalid grpc-timeout: xx"}"#)
    );

    let mut watch = send("/v3/watch", "300m", r#"{"create_request":{"key":"Zm9v"}}"#);
    assert_eq!(watch.json_line()["result"]["created"], true);
    assert_eq!(watch.json_line(), json!({"error": late}));
    assert_eq!(watch.line(), None);
    // Nothing was answered before: the error decides about the status.
    let mut watch = send("/v3/watch", "100m", "x");
    assert_eq!(
        (watch.status, &watch.json_line()["error"]["code"]),
        (504, &json!(4))
    );
}

#[test]
fn headers_become_metadata() {
    let server = Server::shared();
    let send = |headers: &[(&str, &str)]| {
        Exchange::send(
            server.client_address(),
            "POST",
            "/v3/kv/range",
            headers,
            r#"{"key":"Zm9v"}"#,
        )
    };
    for headers in [
        [("Grpc-Metadata-hasleader", "true")],
        [("Authorization", "Bearer nobody")],
        [("Grpc-Metadata-x-bin", "AAE=")],
        [("Grpc-Metadata-grpc-encoding", "gzip")],
        [("TE", "trailers")],
        [("Content-Type", "text/plain")],
    ] {
        assert_eq!(send(&headers).status, 200, "{headers:?}");
    }
    let answer = send(&[("Grpc-Metadata-x-Bin", "%%")]);
    assert_eq!(
        (answer.status, answer.body().as_str()),
        (
            400,
            r#"{"code":3,"message":"invalid binary header Grpc-Metadata-X-Bin: illegal base64 data at input byte 0"}"#
        )
    );
}

#[test]
fn only_post_reaches_a_route() {
    let server = Server::shared();
    for (method, path, status, body) in [
        (
            "GET",
            "/v3/kv/range",
            501,
            r#"{"code":12,"message":"Method Not Allowed"}"#,
        ),
        (
            "PUT",
            "/v3/watch",
            501,
            r#"{"code":12,"message":"Method Not Allowed"}"#,
        ),
        ("HEAD", "/v3/kv/range", 501, ""),
        ("GET", "/v3/kv/nope", 404, r#"{"code":5,"message":"Not Found"}"#),
        ("OPTIONS", "/v3/kv/range", 200, ""),
        ("POST", "/v3alpha/kv/range", 404, "404 page not found\n"),
    ] {
        let answer = Exchange::send(server.client_address(), method, path, &[], "");
        assert_eq!(
            (answer.status, answer.body().as_str()),
            (status, body),
            "{method} {path}"
        );
    }
    let old = Exchange::post(
        server.client_address(),
        "/v3beta/kv/range",
        r#"{"key":"bm9uZQ=="}"#,
    );
    assert_eq!(old.status, 200);
    for (method, path, location) in [
        ("GET", "/v3", "/v3/"),
        ("POST", "/v3", "/v3/"),
        ("POST", "/v3//kv/./range?a=b", "/v3/kv/range?a=b"),
    ] {
        let answer = Exchange::send(server.client_address(), method, path, &[], "");
        assert_eq!(
            (answer.status, answer.header("location")),
            (307, location),
            "{path}"
        );
    }
}

#[test]
fn large_messages_are_refused_as_by_grpc() {
    let server = Server::shared();
    // In base64 four letters are three bytes.
    let put = |bytes: usize| {
        let value = "eHh4".repeat(bytes / 3);
        let body = format!(r#"{{"key":"bGFyZ2U=","value":"{value}"}}"#);
        let answer = Exchange::post(server.client_address(), "/v3/kv/put", &body);
        (answer.status, answer.body())
    };
    let error = |code, message: &str| format!(r#"{{"code":{code},"message":"{message}"}}"#);
    assert_eq!(
        put(2_200_002),
        (
            429,
            error(8, "grpc: received message larger than max (2200014 vs. 2097152)")
        )
    );
    assert_eq!(
        put(1_600_002),
        (400, error(3, "etcdserver: request is too large"))
    );
    assert_eq!(put(1_500_000).0, 200);
    let answer = Exchange::post(server.client_address(), "/v3/kv/range", r#"{"key":"bGFyZ2U="}"#).body();
    assert_eq!(
        parsed(&answer)["kvs"][0]["value"].as_str().unwrap().len(),
        2_000_000
    );
}

#[test]
fn without_the_gateway_there_are_no_routes() {
    let server = Server::start_with(&["--enable-grpc-gateway=false"]);
    for path in ["/v3/kv/range", "/v3beta/kv/range", "/v3/", "/v3"] {
        let answer = Exchange::post(server.client_address(), path, "{}");
        assert_eq!(
            (answer.status, answer.body().as_str()),
            (404, "404 page not found\n"),
            "{path}"
        );
    }
}

#[test]
fn a_client_that_leaves_ends_its_call() {
    let server = Server::start();
    let streams = || {
        let page = http_get(server.client_address(), "/metrics").unwrap().body;
        let name = "etcd_debugging_mvcc_watch_stream_total ";
        let line = page
            .lines()
            .find_map(|line| line.strip_prefix(name).map(str::to_owned));
        line.unwrap_or_else(|| panic!("{name}is no metric"))
    };
    let mut watch = Exchange::post(
        server.client_address(),
        "/v3/watch",
        r#"{"create_request":{"key":"Zm9v"}}"#,
    );
    assert_eq!(watch.json_line()["result"]["created"], true);
    wait_until("the watch is counted", || streams() == "1");
    drop(watch);
    wait_until("the watch is gone", || streams() == "0");
}

#[tokio::test]
async fn a_websocket_carries_a_stream() {
    let server = Server::start();
    let connect = async |path: &str| {
        let url = format!("ws://{}{path}", server.client_address());
        let mut request = url.into_client_request().unwrap();
        let token = "Bearer, nobody".parse().unwrap();
        request.headers_mut().insert("Sec-WebSocket-Protocol", token);
        let stream = tokio::net::TcpStream::connect(server.client_address())
            .await
            .unwrap();
        let (socket, answer) = client_async(request, stream).await.unwrap();
        assert_eq!(answer.headers()["sec-websocket-protocol"], "Bearer");
        socket
    };
    let mut socket = connect("/v3/watch").await;
    let create = r#"{"create_request":{"key":"Zm9v"}}"#;
    socket.send(Message::text(create)).await.unwrap();
    let mut next = async || {
        let message = timeout(PATIENCE, socket.next()).await.expect("a message in time");
        let message = message.expect("the stream goes on").expect("a message");
        masked(parsed(message.to_text().unwrap()))
    };
    assert_eq!(
        next().await,
        json!({"result": {"header": {"revision": "1"}, "created": true}})
    );
    let address = server.client_address();
    let put = move || Exchange::post(address, "/v3/kv/put", r#"{"key":"Zm9v"}"#).status;
    assert_eq!(tokio::task::spawn_blocking(put).await.unwrap(), 200);
    let kv = json!({"key": "Zm9v", "create_revision": "2", "mod_revision": "2", "version": "1"});
    assert_eq!(
        next().await,
        json!({"result": {"header": {"revision": "2"}, "events": [{"kv": kv}]}})
    );
    socket.close(None).await.unwrap();

    // What is wrong comes as a message, and then the end.
    let mut socket = connect("/v3/nope").await;
    let message = timeout(PATIENCE, socket.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(message.to_text().unwrap(), r#"{"code":5,"message":"Not Found"}"#);
    let end = timeout(PATIENCE, socket.next()).await.unwrap();
    assert!(!matches!(end, Some(Ok(Message::Text(_)))), "{end:?}");
}

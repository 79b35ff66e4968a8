//! Corner cases 57, 58, 73, 74, 78, 79, 82 and 83 of the compatibility reference: maintenance answers, the client port,
//! size limits, and what survives `kill -9`.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::harness::frames::{self, Frames};
use crate::harness::*;
use prost::Message as _;
use proto::etcdserverpb::watch_request::RequestUnion;
use proto::etcdserverpb::{
    AlarmRequest, DefragmentRequest, LeaseLeasesRequest, MemberListRequest, PutRequest, RangeRequest,
    ResponseHeader, StatusRequest, WatchRequest,
};
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Endpoint;
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

#[tokio::test]
async fn case_57_database_sizes() {
    let server = Server::start();
    let client = server.client().await;
    let status = || async {
        client
            .maintenance
            .clone()
            .status(StatusRequest {})
            .await
            .unwrap()
            .into_inner()
    };
    let fresh = status().await;
    assert!(
        fresh.db_size > 0 && fresh.db_size_in_use <= fresh.db_size,
        "{fresh:?}"
    );
    client.put("c57", &"x".repeat(100_000)).await;
    let after = status().await;
    assert!(
        after.db_size > 0 && after.db_size_in_use <= after.db_size,
        "{after:?}"
    );

    let header = after.header.as_ref().unwrap();
    assert_eq!(
        (after.leader, after.is_learner, after.errors.len()),
        (header.member_id, false, 0)
    );
    assert_eq!((after.raft_term, header.revision), (header.raft_term, 2));
    assert!(
        after.raft_term > 0 && after.raft_applied_index > fresh.raft_applied_index,
        "{after:?}"
    );
    assert!(after.raft_applied_index <= after.raft_index, "{after:?}");
    assert_eq!(after.db_size_quota, 2 << 30);
    assert!(after.downgrade_info.is_some_and(|info| !info.enabled));
    assert!(after.version.starts_with("3.7."), "version {}", after.version);
}

#[tokio::test]
async fn case_58_defragment_has_no_header() {
    let server = Server::shared();
    let client = server.client().await;
    client.put("c58", "1").await;
    let answer = client
        .maintenance
        .clone()
        .defragment(DefragmentRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(answer.header, None);
    assert_eq!(pairs(&client.range(get("c58")).await.kvs), ["c58=1"]);
}

#[tokio::test]
async fn case_73_one_port_for_grpc_and_http() {
    let server = Server::shared();
    let client = server.client().await;
    client.put("c73", "1").await;
    let health = http_get(server.client_address(), "/health").expect("HTTP/1.1 is answered");
    assert_eq!(health.status, 200);
    client.put("c73", "2").await;
    let version = http_get(server.client_address(), "/version").expect("HTTP/1.1 is answered");
    let version: serde_json::Value = serde_json::from_str(&version.body).expect("JSON");
    assert!(
        version["etcdserver"]
            .as_str()
            .is_some_and(|text| text.starts_with("3.7.")),
        "{version}"
    );
    assert!(
        version["etcdcluster"].is_string() && version["storage"].is_string(),
        "{version}"
    );
    let metrics = http_get(server.client_address(), "/metrics").expect("HTTP/1.1 is answered");
    assert!(
        metrics.body.contains("\netcd_server_has_leader 1\n"),
        "{}",
        metrics.body
    );
    assert_eq!(
        http_get(server.client_address(), "/nothing/here")
            .expect("an answer")
            .status,
        404
    );
}

#[tokio::test]
async fn case_74_health() {
    let server = Server::start_with(&["--quota-backend-bytes=1"]);
    let client = server.client().await;
    for path in ["/health", "/health?serializable=true"] {
        let health = http_get(server.client_address(), path).unwrap();
        assert_eq!(
            (health.status, health.body.as_str()),
            (200, r#"{"health":"true","reason":""}"#)
        );
        assert!(
            health
                .head
                .to_ascii_lowercase()
                .contains("content-type: text/plain; charset=utf-8")
        );
    }
    for path in ["/livez", "/readyz"] {
        let ready = http_get(server.client_address(), path).unwrap();
        assert_eq!((ready.status, ready.body.as_str()), (200, "ok\n"), "{path}");
    }
    let post = post(&server, "/health");
    assert!(
        post.starts_with("HTTP/1.1 405") && post.to_ascii_lowercase().contains("\r\nallow: get\r\n"),
        "{post}"
    );

    // Any put passes this quota and raises the alarm, which fails health but not readiness.
    client.try_put(put("c74", "1")).await.unwrap_err();
    let health = http_get(server.client_address(), "/health").unwrap();
    assert_eq!(health.status, 503);
    assert_eq!(
        health.body,
        "{\"health\":\"false\",\"reason\":\"ALARM NOSPACE\"}\n"
    );
    let excluded = http_get(server.client_address(), "/health?exclude=NOSPACE").unwrap();
    assert_eq!(
        (excluded.status, excluded.body.as_str()),
        (200, r#"{"health":"true","reason":""}"#)
    );
    assert_eq!(http_get(server.client_address(), "/readyz").unwrap().status, 200);
}

fn post(server: &Server, path: &str) -> String {
    let mut stream = TcpStream::connect(server.client_address()).expect("an answer over HTTP/1.1");
    stream
        .set_read_timeout(Some(PATIENCE))
        .expect("an answer over HTTP/1.1");
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )
    .expect("an answer over HTTP/1.1");
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .expect("an answer over HTTP/1.1");
    answer
}

#[tokio::test]
async fn case_78_requests_too_large() {
    let server = Server::shared();
    let client = server.client().await;
    let too_large_for_grpc = put("c78", &"x".repeat(2_202_009));
    let length = too_large_for_grpc.encoded_len();
    assert_status(
        client.try_put(too_large_for_grpc).await,
        Code::ResourceExhausted,
        &format!("grpc: received message larger than max ({length} vs. 2097152)"),
    );
    let too_large = put("c78", &"x".repeat(1_677_721));
    assert_status(
        client.try_put(too_large).await,
        Code::InvalidArgument,
        "etcdserver: request is too large",
    );
    // A little below the limit of 1.5 MiB there is room for the rest of the proposal.
    client.put("c78", &"x".repeat((3 << 19) - 1000)).await;
    assert_eq!(client.range(get("c78")).await.kvs[0].version, 1);
}

#[tokio::test]
async fn case_79_too_many_pings() {
    let server = Server::shared();
    // Without a call every ping is one too early but the first; with one, those that come within five seconds are.
    for with_call in [false, true] {
        let mut client = Frames::connect(server.client_address());
        if with_call {
            let headers = frames::call_headers("/etcdserverpb.Watch/Watch", "localhost");
            client.send(frames::HEADERS, frames::END_HEADERS, 1, &headers);
            let request = WatchRequest {
                request_union: Some(RequestUnion::CreateRequest(watch_key("c79"))),
            };
            client.send(frames::DATA, 0, 1, &frames::call_body(&request.encode_to_vec()));
            client.next_of(&[frames::DATA]).expect("the watch is created");
        }
        for number in 0..4 {
            client.send(frames::PING, 0, 0, &[number; 8]);
            let answer = client.next_of(&[frames::PING]).expect("an answer to the ping");
            assert_eq!((answer.flags, answer.payload), (frames::ACK, vec![number; 8]));
        }
        let farewell = client.next_of(&[frames::GOAWAY]).expect("a farewell");
        let (stream, reason) = farewell.payload.split_at(4);
        let (code, text) = reason.split_at(4);
        assert_eq!(stream, [0, 0, 0, u8::from(with_call)]);
        assert_eq!((code, text), (&[0, 0, 0, 0xb][..], &b"too_many_pings"[..]));
        assert_eq!(client.next(), None);
    }
}

#[tokio::test]
async fn case_79_answers_excuse_pings() {
    let server = Server::shared();
    let mut client = Frames::connect(server.client_address());
    let headers = frames::call_headers("/etcdserverpb.KV/Range", "localhost");
    let body = frames::call_body(&get("c79").encode_to_vec());
    for call in 0..20 {
        let stream = 2 * call + 1;
        client.send(frames::HEADERS, frames::END_HEADERS, stream, &headers);
        client.send(frames::DATA, frames::END_STREAM, stream, &body);
        loop {
            let frame = client.next().expect("the connection stays");
            assert_ne!(frame.kind, frames::GOAWAY);
            if frame.kind == frames::HEADERS && frame.flags & frames::END_STREAM != 0 {
                break;
            }
        }
        for _ in 0..3 {
            client.send(frames::PING, 0, 0, &[7; 8]);
            let answer = client.next_of(&[frames::PING, frames::GOAWAY]);
            assert_eq!(answer.map(|frame| frame.kind), Some(frames::PING));
        }
    }
}

#[tokio::test]
async fn case_82_acknowledged_put_survives_kill() {
    let mut server = Server::start();
    let client = server.client().await;
    let lease = client.grant(600).await;
    client.put("c82/a", "1").await;
    client
        .put_with(PutRequest {
            lease,
            ..put("c82/a", "2")
        })
        .await;
    client.put("c82/b", "1").await;
    client.delete("c82/b").await;
    client.compact(3).await;
    client.put("c82/c", "last").await;
    let request = || get_prefix("c82/");
    let before = client.range(request()).await;
    let hash = client.hash_kv(0).await;
    for round in 0..3 {
        server.kill();
        server.run();
        let client = server.client().await;
        let after = client.range(request()).await;
        assert_eq!(after.kvs, before.kvs, "after restart {round}");
        assert_eq!(header_revision(&after.header), header_revision(&before.header));
        assert_eq!(revisions(&after.kvs[0]), (2, 3, 2));
        assert_eq!(after.kvs[0].lease, lease);
        assert_eq!(client.time_to_live(lease).await.keys, ["c82/a"]);
        let again = client.hash_kv(0).await;
        assert_eq!(
            (again.hash, again.compact_revision, again.hash_revision),
            (hash.hash, 3, 6)
        );
        let below = RangeRequest {
            revision: 2,
            ..get("c82/a")
        };
        let text = "etcdserver: mvcc: required revision has been compacted";
        assert_status(client.try_range(below).await, Code::OutOfRange, text);
    }
    assert_eq!(server.client().await.put("c82/d", "1").await, 7);
}

#[tokio::test]
async fn case_83_ids_in_every_answer() {
    let mut server = Server::start();
    let before = headers(&server).await;
    server.kill();
    server.run();
    let after = headers(&server).await;
    let ids = |headers: &[ResponseHeader]| -> BTreeSet<(u64, u64)> {
        headers
            .iter()
            .map(|header| (header.cluster_id, header.member_id))
            .collect()
    };
    let (before, after) = (ids(&before), ids(&after));
    assert_eq!(
        before.len(),
        1,
        "different ids in the answers of one member: {before:?}"
    );
    assert!(
        before
            .iter()
            .all(|(cluster, member)| *cluster != 0 && *member != 0),
        "{before:?}"
    );
    assert_eq!(before, after);

    let client = server.client().await;
    let request = MemberListRequest { linearizable: true };
    let list = client
        .cluster
        .clone()
        .member_list(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(list.members.len(), 1);
    let (member, header) = (&list.members[0], list.header.unwrap());
    assert_eq!((member.id, header.revision), (header.member_id, 0));
    assert_eq!((member.name.as_str(), member.is_learner), ("default", false));
    assert_eq!(member.client_urls, [server.endpoint()]);
    assert_eq!(
        member.peer_urls,
        [format!("http://127.0.0.1:{}", server.ports().peer)]
    );
}

/// The header of one answer of each kind.
async fn headers(server: &Server) -> Vec<ResponseHeader> {
    let client = server.client().await;
    let mut headers = vec![
        client.put_with(put("c83", "1")).await.header,
        client.range(get("c83")).await.header,
        client
            .range(RangeRequest {
                serializable: true,
                ..get("c83")
            })
            .await
            .header,
        client.txn(then(vec![op(get("c83"))])).await.header,
        client.txn(then(vec![op(put("c83", "2"))])).await.header,
        client.delete_with(delete("c83")).await.header,
        client.hash_kv(0).await.header,
        client.keep_alive(83).await.header,
        client.time_to_live(83).await.header,
        WatchStream::with(&client, watch_key("c83")).await.1.header,
    ];
    headers.push(
        client
            .lease
            .clone()
            .lease_leases(LeaseLeasesRequest {})
            .await
            .expect("it succeeds")
            .into_inner()
            .header,
    );
    let mut maintenance = client.maintenance.clone();
    headers.push(
        maintenance
            .status(StatusRequest {})
            .await
            .expect("it succeeds")
            .into_inner()
            .header,
    );
    headers.push(
        maintenance
            .alarm(AlarmRequest::default())
            .await
            .expect("it succeeds")
            .into_inner()
            .header,
    );
    let request = MemberListRequest { linearizable: false };
    headers.push(
        client
            .cluster
            .clone()
            .member_list(request)
            .await
            .expect("it succeeds")
            .into_inner()
            .header,
    );
    let headers: Vec<ResponseHeader> = headers
        .into_iter()
        .map(|header| header.expect("a header"))
        .collect();
    assert!(headers.iter().all(|header| header.raft_term > 0), "{headers:?}");
    headers
}

#[tokio::test]
async fn unknown_methods_and_services() {
    let server = Server::shared();
    let call = async |path: &'static str| -> Status {
        let channel = Endpoint::from_shared(server.endpoint())
            .unwrap()
            .connect()
            .await
            .unwrap();
        let mut grpc = Grpc::new(channel);
        grpc.ready().await.unwrap();
        let codec: ProstCodec<RangeRequest, RangeRequest> = ProstCodec::default();
        grpc.unary(Request::new(get("k")), PathAndQuery::from_static(path), codec)
            .await
            .unwrap_err()
    };
    let status = call("/etcdserverpb.KV/Nothing").await;
    assert_eq!(status.code(), Code::Unimplemented);
    assert_eq!(
        status.message(),
        "unknown method Nothing for service etcdserverpb.KV"
    );
    let status = call("/etcdserverpb.Nothing/Range").await;
    assert_eq!(
        (status.code(), status.message()),
        (Code::Unimplemented, "unknown service etcdserverpb.Nothing")
    );
}

#[tokio::test]
async fn range_stream_concatenates_to_range() {
    let server = Server::start();
    let client = server.client().await;
    let value = "x".repeat(100_000);
    for i in 0..60 {
        client.put(&format!("rs/{i:02}"), &value).await;
    }
    for request in [
        get_prefix("rs/"),
        RangeRequest {
            limit: 37,
            ..get_prefix("rs/")
        },
        RangeRequest {
            limit: 60,
            ..get_prefix("rs/")
        },
        RangeRequest {
            revision: 25,
            ..get_prefix("rs/")
        },
        RangeRequest {
            keys_only: true,
            ..get_prefix("rs/")
        },
        RangeRequest {
            count_only: true,
            ..get_prefix("rs/")
        },
        RangeRequest {
            sort_order: 1,
            ..get_prefix("rs/")
        },
        get_prefix("absent/"),
    ] {
        let expected = client.range(request.clone()).await;
        let mut stream = client
            .kv
            .clone()
            .range_stream(request.clone())
            .await
            .unwrap()
            .into_inner();
        let mut chunks = Vec::new();
        while let Some(chunk) = stream.message().await.unwrap() {
            chunks.push(chunk.range_response.expect("a chunk carries a response"));
        }
        let (last, others) = chunks.split_last().expect("at least one message");
        assert!(
            others
                .iter()
                .all(|chunk| chunk.header.is_none() && !chunk.more && chunk.count == 0),
            "{request:?}"
        );
        assert!(others.iter().all(|chunk| !chunk.kvs.is_empty()), "{request:?}");
        assert_eq!(
            (last.count, last.more, &last.header),
            (expected.count, expected.more, &expected.header)
        );
        let kvs: Vec<_> = chunks.iter().flat_map(|chunk| chunk.kvs.clone()).collect();
        assert_eq!(kvs, expected.kvs, "{request:?}");
        if expected.kvs.len() > 10 {
            assert!(chunks.len() > 1, "{} pairs in one message", kvs.len());
        }
    }
}

//! No bytes on any port end the process: what is well-formed, damaged at random, and what is random from the start. A
//! panic anywhere ends the process, so a member that still serves in the end has met none. The seed is printed with a
//! failure; `TAFFRAIL_GARBAGE_ROUNDS` makes it longer.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use crate::harness::frames;
use crate::harness::*;
use proto::etcdserverpb::*;

const SEED: u64 = 7;
const ROUNDS: u64 = 400;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A connection with one call.
fn call(path: &str, message: &impl prost::Message) -> Vec<u8> {
    let headers = frames::call_headers(path, "localhost");
    let body = frames::call_body(&message.encode_to_vec());
    [
        PREFACE,
        &frame(
            frames::SETTINGS,
            0,
            0,
            &[0, 3, 0, 0, 0, 100, 0, 4, 0, 0, 255, 255],
        ),
        &frame(8, 0, 0, &[0, 15, 0, 1]),
        &frame(frames::HEADERS, frames::END_HEADERS, 1, &headers),
        &frame(frames::DATA, frames::END_STREAM, 1, &body),
        &frame(frames::PING, 0, 0, b"12345678"),
        &frame(frames::RST_STREAM, 0, 1, &[0, 0, 0, 8]),
    ]
    .concat()
}

fn http(method: &str, path: &str, body: &str) -> Vec<u8> {
    format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// What damage begins with: something of each kind of talk.
fn well_formed() -> Vec<Vec<u8>> {
    let nested = then(vec![
        op(then(vec![op(put("a", "b")), op(get_prefix("a"))])),
        op(delete_prefix("b")),
    ]);
    let watch = WatchRequest {
        request_union: Some(watch_request::RequestUnion::CreateRequest(watch_prefix("a"))),
    };
    let snapshot = "GET /raft/stream/log HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: taffrail\r\n\r\n";
    vec![
        call("/etcdserverpb.KV/Range", &get_prefix("a")),
        call("/etcdserverpb.KV/Put", &put("a", "b")),
        call("/etcdserverpb.KV/Txn", &nested),
        call("/etcdserverpb.Watch/Watch", &watch),
        call("/etcdserverpb.Lease/LeaseGrant", &LeaseGrantRequest { ttl: 5, id: 0 }),
        call("/etcdserverpb.Lease/LeaseKeepAlive", &LeaseKeepAliveRequest { id: 7 }),
        call("/etcdserverpb.Cluster/MemberList", &MemberListRequest::default()),
        call("/etcdserverpb.Auth/Authenticate", &AuthenticateRequest { name: "a".into(), password: "b".into() }),
        call("/etcdserverpb.Auth/RoleGrantPermission", &AuthRoleGrantPermissionRequest::default()),
        call("/grpc.health.v1.Health/Check", &()),
        http("GET", "/health?serializable=true", ""),
        http("GET", "/metrics", ""),
        http("GET", "/debug/vars", ""),
        http("POST", "/v3/kv/range", r#"{"key":"YQ==","range_end":"Yg==","limit":"3"}"#),
        http("POST", "/v3/kv/txn", r#"{"compare":[{"key":"YQ==","target":"VALUE","value":"YQ=="}],"success":[{"request_put":{"key":"YQ==","value":"Yg=="}}]}"#),
        http("POST", "/v3/watch", r#"{"create_request":{"key":"YQ=="}}"#),
        http("POST", "/v3/auth/authenticate", r#"{"name":"a","password":"b"}"#),
        http("GET", "/members", ""),
        http("GET", "/members/hashkv", r#"{"revision":3}"#),
        http("POST", "/members/promote/1", ""),
        snapshot.as_bytes().to_vec(),
        // The beginning of a TLS handshake.
        b"\x16\x03\x01\x00\x40\x01\x00\x00\x3c\x03\x03aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\x00\x00\x02\x13\x01\x01\x00".to_vec(),
    ]
}

/// `bytes` with some of them changed, taken out, doubled or put in.
fn damaged(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=random.below(6) {
        // The preface and the first head mostly stay: behind them is more to find.
        let from = if random.below(8) == 0 {
            0
        } else {
            bytes.len().min(24)
        };
        let below =
            |random: &mut Random, bound: usize| usize::try_from(random.below(bound.max(1) as u64)).unwrap();
        let at = from + below(random, bytes.len() - from);
        let length = below(random, 40).min(bytes.len() - at);
        match random.below(6) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..at + length)),
            2 => {
                let doubled = bytes[at..at + length].to_vec();
                bytes.splice(at..at, doubled);
            }
            3 => {
                let put_in: Vec<u8> = (0..length).map(|_| random.next().to_le_bytes()[0]).collect();
                bytes.splice(at..at, put_in);
            }
            4 if at < bytes.len() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][below(random, 5)],
            _ if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            _ => {}
        }
    }
    bytes
}

fn random_bytes(random: &mut Random) -> Vec<u8> {
    let length = random.below(2000);
    (0..length).map(|_| random.next().to_le_bytes()[0]).collect()
}

/// Says `bytes` and hears what there is to hear, for a moment.
fn say(address: SocketAddr, bytes: &[u8]) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    stream
        .set_write_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    // Whatever becomes of it: only the process counts.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let _ = stream.read(&mut [0; 4096]);
}

#[tokio::test]
async fn no_bytes_on_any_port_end_the_process() {
    let rounds = std::env::var("TAFFRAIL_GARBAGE_ROUNDS").map_or(ROUNDS, |text| text.parse().unwrap());
    let mut server = Server::prepared(&["--log-level=debug"]);
    let (extra, tls) = (Ports::reserve(), Ports::reserve());
    let authority = crate::harness::tls::Authority::new();
    let pair = authority.issue("server", 1, &["127.0.0.1"]);
    server.add_flag(&format!(
        "--listen-metrics-urls=http://127.0.0.1:{}",
        extra.client
    ));
    server.add_flag(&format!(
        "--listen-client-urls={},https://127.0.0.1:{}",
        server.endpoint(),
        tls.client
    ));
    server.add_flag(&format!("--cert-file={}", pair.cert_file.display()));
    server.add_flag(&format!("--key-file={}", pair.key_file.display()));
    server.run();
    let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let ports = [
        server.client_address(),
        server.peer_address(),
        local(extra.client),
        local(tls.client),
    ];
    let talks = well_formed();
    let mut random = Random::new(SEED);
    for round in 0..rounds {
        let talk = &talks[usize::try_from(round).unwrap() % talks.len()];
        let bytes = match round % 5 {
            4 => random_bytes(&mut random),
            _ => damaged(talk, &mut random),
        };
        for address in ports {
            say(address, &bytes);
        }
        assert!(
            !server.has_ended(),
            "seed {SEED}, round {round}: {}",
            server.log()
        );
    }
    let client = server.client().await;
    client.put("after", "all").await;
    assert_eq!(pairs(&client.range(get("after")).await.kvs), ["after=all"]);
    assert!(!server.log().contains("panic"), "{}", server.log());
}

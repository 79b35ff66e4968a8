//! What a client can do to use up a member, done: each leaves the memory of the process bounded and the others served.
//! See `defences` for what is done about each.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::harness::frames::{self, Frames};
use crate::harness::*;
use prost::Message as _;
use tokio::net::{TcpSocket, TcpStream as AsyncStream};

/// What one attack may add to the memory of the process, allocator's habits included.
const GROWTH_BYTES_MAX: u64 = 192 << 20;
/// Bytes that an attacker sends before it gives up.
const ATTACK_BYTES: usize = 48 << 20;

/// A frame as bytes.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const PRIORITY: u8 = 2;
const CONTINUATION: u8 = 9;

/// Sends what `next` gives, a piece for each number, until the server ends the connection, reads no more, or all is
/// sent. Nothing is read meanwhile, as attackers do. True if the server ended it.
fn pour(address: SocketAddr, mut next: impl FnMut(u32) -> Vec<u8>) -> bool {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
    let mut buffer = [PREFACE, &frame(frames::SETTINGS, 0, 0, &[])].concat();
    let (mut sent, mut number) = (0, 0);
    while sent < ATTACK_BYTES {
        while buffer.len() < 64 << 10 {
            buffer.extend(next(number));
            number += 1;
        }
        match stream.write(&buffer) {
            Ok(written) => {
                sent += written;
                buffer.drain(..written);
            }
            // It reads no more: this attacker holds what the kernel holds for it, and that is all.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
            Err(_) => return true,
        }
    }
    false
}

fn resident_bytes(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    let kilobytes: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kilobytes << 10
}

/// The count of one reason on the page of metrics.
fn turned_away(server: &Server, reason: &str) -> u64 {
    let page = http_get(server.client_address(), "/metrics").unwrap().body;
    let start = format!("taffrail_turned_away_total{{reason=\"{reason}\"}} ");
    let line = page.lines().find_map(|line| line.strip_prefix(&start)).unwrap();
    line.parse().unwrap()
}

/// A client that comes from another address than the attackers.
async fn neighbour(server: &Server) -> Client {
    let address = server.client_address();
    let connect = move || async move {
        let socket = TcpSocket::new_v4()?;
        socket.bind("127.0.0.2:0".parse().map_err(io::Error::other)?)?;
        socket.connect(address).await
    };
    Client::through(connect).await.expect("others still get in")
}

/// The others are served, at a pace.
async fn assert_served(server: &Server, what: &str) {
    let start = Instant::now();
    let client = neighbour(server).await;
    client.put("others", what).await;
    assert_eq!(
        pairs(&client.range(get("others")).await.kvs),
        [format!("others={what}")]
    );
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{what}: {:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn floods_of_frames_end_and_leave_no_trace() {
    if !runs_taffrail() {
        return; // another server has its own ways
    }
    let server = Server::start();
    assert_served(&server, "before").await;
    let before = resident_bytes(&server);
    let call = frames::call_headers("/etcdserverpb.KV/Range", "localhost");
    type Attack<'a> = (&'a str, bool, Box<dyn FnMut(u32) -> Vec<u8> + 'a>);
    let stream = |number: u32| 2 * number + 1;
    let reset = frame(frames::RST_STREAM, 0, 1, &[0, 0, 0, 8])[..5].to_vec();
    let attacks: Vec<Attack> = vec![
        (
            "rapid reset",
            true,
            Box::new(|number| {
                let mut bytes = frame(frames::HEADERS, frames::END_HEADERS, stream(number), &call);
                bytes.extend(&reset);
                bytes.extend(stream(number).to_be_bytes());
                bytes.extend([0, 0, 0, 8]);
                bytes
            }),
        ),
        (
            "continuations",
            true,
            Box::new(|number| match number {
                0 => frame(frames::HEADERS, 0, 1, &call),
                _ => frame(CONTINUATION, 0, 1, &[0; 16 << 10]),
            }),
        ),
        (
            "empty continuations",
            true,
            Box::new(|number| match number {
                0 => frame(frames::HEADERS, 0, 1, &call),
                _ => frame(CONTINUATION, 0, 1, &[]),
            }),
        ),
        // The server may stop reading before it ends these, since nobody reads its answers.
        (
            "settings",
            false,
            Box::new(|_| frame(frames::SETTINGS, 0, 0, &[])),
        ),
        ("pings", false, Box::new(|_| frame(frames::PING, 0, 0, &[0; 8]))),
        (
            "priorities",
            true,
            Box::new(|_| frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1])),
        ),
        ("unknown frames", true, Box::new(|_| frame(0xfe, 0, 0, &[]))),
        (
            "empty data",
            true,
            Box::new(|number| match number {
                0 => frame(frames::HEADERS, frames::END_HEADERS, 1, &call),
                _ => frame(frames::DATA, 0, 1, &[]),
            }),
        ),
    ];
    for (name, ends, next) in attacks {
        let address = server.client_address();
        let ended = pour(address, next);
        assert!(ended || !ends, "{name}: not ended");
        assert_served(&server, name).await;
        let grown = resident_bytes(&server).saturating_sub(before);
        assert!(grown < GROWTH_BYTES_MAX, "{name}: {grown} bytes");
        println!("{name}: ended {ended}, {} KiB more than before", grown >> 10);
    }
    assert!(turned_away(&server, "flood") > 0);
}

#[tokio::test]
async fn calls_without_their_message_are_bounded() {
    if !runs_taffrail() {
        return;
    }
    let server = Server::start();
    let before = resident_bytes(&server);
    let call = frames::call_headers("/etcdserverpb.KV/Range", "localhost");
    let mut attackers: Vec<Frames> = (0..4).map(|_| Frames::connect(server.client_address())).collect();
    for attacker in &mut attackers {
        for number in 0..10_000u32 {
            attacker.send(frames::HEADERS, frames::END_HEADERS, 2 * number + 1, &call);
        }
    }
    // Half of what may wait is more than one address gets once they are short.
    wait_until("some are refused", || turned_away(&server, "arrivals") > 0);
    assert_served(&server, "others").await;
    let grown = resident_bytes(&server).saturating_sub(before);
    assert!(grown < 2 * GROWTH_BYTES_MAX, "{grown} bytes");
    println!("calls without a message: {} KiB more than before", grown >> 10);
}

#[tokio::test]
async fn connections_run_short_for_the_greedy_alone() {
    if !runs_taffrail() {
        return;
    }
    let mut server = Server::prepared(&[]);
    let script = "ulimit -n 400; exec \"$@\"";
    server.wrap(["sh", "-c", script, "sh"].map(str::to_owned).to_vec());
    server.run();
    // 400 descriptors: 200 connections of clients, of which one address has three quarters.
    let greedy: Vec<TcpStream> = (0..300)
        .map(|_| TcpStream::connect(server.client_address()).unwrap())
        .collect();
    let open = greedy.iter().filter(|stream| is_open(stream)).count();
    assert!((140..=150).contains(&open), "{open} are open");
    assert_served(&server, "others").await;
    drop(greedy);
    wait_until("there is room again", || {
        http_get(server.client_address(), "/health").is_some_and(|answer| answer.status == 200)
    });
    assert!(turned_away(&server, "address_share") >= 150);
}

/// Whether the server has left a connection open that nothing was said on.
fn is_open(mut stream: &TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    match stream.read(&mut [0; 1]) {
        Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        Ok(read) => read > 0,
    }
}

#[test]
fn large_heads_are_refused() {
    if !runs_taffrail() {
        return;
    }
    let server = Server::start();
    let long = "x".repeat(1 << 20);
    let heads = [
        format!("GET /{long} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        format!("GET /health HTTP/1.1\r\nHost: localhost\r\nX: {long}\r\n\r\n"),
        format!(
            "GET /health HTTP/1.1\r\nHost: localhost\r\n{}\r\n",
            "a: b\r\n".repeat(1000)
        ),
    ];
    for (head, address) in heads
        .iter()
        .flat_map(|head| [server.client_address(), server.peer_address()].map(|address| (head, address)))
    {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // It may be refused before all of it is sent, and then what was answered may be lost.
        let sent = stream.write_all(head.as_bytes());
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        let text = String::from_utf8_lossy(&answer);
        let status = text.split(' ').nth(1).unwrap_or_default();
        let refused = ["400", "414", "431"].contains(&status) || sent.is_err() || read.is_err();
        assert!(refused && !text.contains(" 200 "), "{address}: {text}");
    }
    let mut client = Frames::connect(server.client_address());
    let mut block = frames::call_headers("/etcdserverpb.KV/Range", "localhost");
    for _ in 0..1000 {
        block.extend([&[0, 1, b'x', 100][..], &[b'y'; 100]].concat());
    }
    let (first, rest) = block.split_at(16 << 10);
    client.send(frames::HEADERS, 0, 1, first);
    let mut rest = rest.chunks(16 << 10).peekable();
    while let Some(part) = rest.next() {
        let flags = if rest.peek().is_none() {
            frames::END_HEADERS
        } else {
            0
        };
        client.send(CONTINUATION, flags, 1, part);
    }
    let body = frames::call_body(&get("k").encode_to_vec());
    client.send(frames::DATA, frames::END_STREAM, 1, &body);
    let answer = client.next_of(&[frames::HEADERS, frames::RST_STREAM, frames::GOAWAY]);
    // Headers that end the stream are a refusal, with the status 431.
    let served =
        answer.is_some_and(|answer| answer.kind == frames::HEADERS && answer.flags & frames::END_STREAM == 0);
    assert!(!served);
    assert_eq!(http_get(server.client_address(), "/health").unwrap().status, 200);
}

/// How long the server waits for whoever has not begun, and how much longer this test does.
const OPENING: Duration = Duration::from_secs(30);

#[tokio::test]
async fn the_silent_are_sent_away_and_idle_clients_stay() {
    if !runs_taffrail() {
        return;
    }
    let mut server = Server::prepared(&[]);
    let metrics = Ports::reserve();
    server.add_flag(&format!(
        "--listen-metrics-urls=http://127.0.0.1:{}",
        metrics.client
    ));
    server.run();
    let idle = neighbour(&server).await;
    idle.put("idle", "1").await;
    let mut quiet = Frames::connect(server.client_address());
    let metrics = SocketAddr::from(([127, 0, 0, 1], metrics.client));
    let said: [&[u8]; 5] = [
        b"",
        b"PRI * HTTP",
        PREFACE,
        b"GET /health HTTP/1.1\r\nHost: loc",
        b"GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ];
    let start = Instant::now();
    let mut silent = Vec::new();
    for address in [server.client_address(), metrics, server.peer_address()] {
        for bytes in said {
            let mut stream = AsyncStream::connect(address).await.unwrap();
            tokio::io::AsyncWriteExt::write_all(&mut stream, bytes)
                .await
                .unwrap();
            silent.push((address, bytes, stream));
        }
    }
    for (address, bytes, mut stream) in silent {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let ended = async {
            let mut answer = Vec::new();
            // A reset is an end as well.
            let _ = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut answer).await;
        };
        let ended = tokio::time::timeout(OPENING + PATIENCE, ended).await;
        assert!(
            ended.is_ok(),
            "{address}: {text:?} is still open after {:?}",
            start.elapsed()
        );
    }
    assert!(turned_away(&server, "silence") >= 4);
    // Both have been idle for as long.
    idle.put("idle", "2").await;
    quiet.send(frames::PING, 0, 0, &[1; 8]);
    let answered = std::iter::from_fn(|| quiet.next()).find(|frame| frame.kind == frames::PING);
    assert!(answered.is_some_and(|frame| frame.flags == frames::ACK));
}

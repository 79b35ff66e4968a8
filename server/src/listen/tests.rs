//! Guarded connections over a pipe: what the reader gets, what the client gets.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use fluke_hpack::{Decoder, Encoder};
use tokio::io::{AsyncRead as _, AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, ReadBuf, duplex};

use super::frames::*;
use super::{Calls, Guarded, is_misplaced_handshake};

const MINUTE: Duration = Duration::from_secs(60);

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let head = Head {
        length: payload.len(),
        kind,
        flags,
        stream,
    };
    [&head.bytes(), payload].concat()
}

fn ping() -> Vec<u8> {
    frame(PING, 0, 0, &[7; 8])
}

fn block(encoder: &mut Encoder<'_>, authority: &str) -> Vec<u8> {
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/etcdserverpb.KV/Put"),
        (":authority", authority),
        ("te", "trailers"),
    ];
    encoder.encode(fields.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes())))
}

#[tokio::test]
async fn a_misplaced_handshake_is_told_from_http() {
    let (mut client, server) = duplex(64 << 10);
    let mut guarded = Guarded::new(server, Some(MINUTE), Calls::default(), Arc::default());
    client.write_all(b"\x16\x03\x01\x00\x05hello").await.unwrap();
    let error = guarded.read(&mut [0; 24]).await.unwrap_err();
    assert!(is_misplaced_handshake(&error));
    assert!(!is_misplaced_handshake(&std::io::Error::other("x")));
}

/// What a reader reads of `sent`, when it comes in parts of so many bytes.
async fn read_of(sent: &[u8], part_bytes: usize) -> Vec<u8> {
    let (mut client, server) = duplex(64 << 10);
    let mut guarded = Guarded::new(server, Some(MINUTE), Calls::default(), Arc::default());
    let sent = sent.to_vec();
    let writer = tokio::spawn(async move {
        for part in sent.chunks(part_bytes) {
            client.write_all(part).await.unwrap();
            client.flush().await.unwrap();
            // One part at a time reaches the reader.
            tokio::task::yield_now().await;
        }
    });
    let mut read = Vec::new();
    guarded.read_to_end(&mut read).await.unwrap();
    writer.await.unwrap();
    read
}

#[tokio::test]
async fn a_connection_without_fault_passes_untouched() {
    let mut encoder = Encoder::new();
    let mut sent = PREFACE.to_vec();
    sent.extend(frame(4, 0, 0, &[0; 18]));
    sent.extend(frame(8, 0, 0, &[0, 1, 0, 0]));
    let first = block(&mut encoder, "127.0.0.1:2379");
    let (one, two) = first.split_at(10);
    sent.extend(frame(HEADERS, 0, 1, one));
    sent.extend(frame(CONTINUATION, END_HEADERS, 1, two));
    sent.extend(frame(DATA, 1, 1, &[9; 3000]));
    sent.extend(ping());
    // Looked at no more: only the first block is.
    let second = block(&mut Encoder::new(), "http://127.0.0.1:2379");
    sent.extend(frame(HEADERS, END_HEADERS, 3, &second));
    for part_bytes in [1, 3, 9, 24, 33, 1000, 100_000] {
        assert_eq!(
            read_of(&sent, part_bytes).await,
            sent,
            "{part_bytes} bytes at a time"
        );
    }
}

#[tokio::test]
async fn what_is_no_http2_passes_untouched() {
    for text in [
        &b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"[..],
        b"PRI * HTTP/2.0\r\n\r\nXX",
        b"PRI",
        b"",
        &[PREFACE, b"\xff\xff"].concat(),
        &[PREFACE, &frame(HEADERS, PADDED, 1, &[200, 1]), &[1; 40]].concat(),
        &[PREFACE, &frame(HEADERS, 0, 1, b"begun")].concat(),
    ] {
        for part_bytes in [1, 5, 1000] {
            assert_eq!(read_of(text, part_bytes).await, text);
        }
    }
}

#[tokio::test]
async fn every_call_of_a_client_without_authority_has_one() {
    let mut encoder = Encoder::new();
    let mut sent = PREFACE.to_vec();
    sent.extend(frame(4, 0, 0, &[]));
    for call in 0..50 {
        let block = block(&mut encoder, "http://127.0.0.1:2379");
        sent.extend(frame(HEADERS, END_HEADERS, 2 * call + 1, &block));
        sent.extend(frame(DATA, 1, 2 * call + 1, &[3; 100]));
        // Fills the table, so that the authority is spelt out again.
        let filler = [(&b"x"[..], &[b'y'; 900][..])];
        let trailers = encoder.encode(filler);
        sent.extend(frame(HEADERS, END_HEADERS | 1, 2 * call + 1, &trailers));
    }
    for part_bytes in [1, 7, 500, 100_000] {
        let read = read_of(&sent, part_bytes).await;
        let mut rest = read.strip_prefix(PREFACE).unwrap();
        let (mut decoder, mut calls, mut data) = (Decoder::new(), 0, 0);
        while let Some(head) = Head::at(rest) {
            let (payload, later) = rest[HEAD_BYTES..].split_at(head.length);
            rest = later;
            data += usize::from(head.kind == DATA && payload == [3; 100]);
            if head.kind != HEADERS {
                continue;
            }
            let fields = decoder.decode(payload).unwrap();
            if let Some((_, value)) = fields.iter().find(|(name, _)| name == b":authority") {
                assert_eq!(value, b"http...127.0.0.1:2379");
                calls += 1;
            }
        }
        assert_eq!((rest.len(), calls, data), (0, 50, 50));
    }
}

/// A client that has sent its preface, and the other end.
async fn opened(calls: &Calls) -> (DuplexStream, Guarded<DuplexStream>) {
    let (mut client, server) = duplex(64 << 10);
    let mut guarded = Guarded::new(server, Some(MINUTE), calls.clone(), Arc::default());
    client.write_all(PREFACE).await.unwrap();
    client.write_all(&frame(4, 0, 0, &[])).await.unwrap();
    let mut read = [0; 24 + 9];
    guarded.read_exact(&mut read).await.unwrap();
    (client, guarded)
}

async fn pass_ping(client: &mut DuplexStream, guarded: &mut Guarded<DuplexStream>) {
    client.write_all(&ping()).await.unwrap();
    let mut read = [0; 17];
    guarded.read_exact(&mut read).await.unwrap();
    assert_eq!(read, ping().as_slice());
}

#[tokio::test]
async fn a_client_that_pings_too_often_is_sent_away() {
    let calls = Calls::default();
    let (mut client, mut guarded) = opened(&calls).await;
    let _call = calls.open();
    for _ in 0..4 {
        pass_ping(&mut client, &mut guarded).await;
    }
    // The answer to the last one, and half of a frame that is on its way.
    let on_its_way = frame(DATA, 0, 1, &[5; 10]);
    guarded.write_all(&ping()).await.unwrap();
    guarded.write_all(&on_its_way[..12]).await.unwrap();
    let reader = tokio::spawn(async move {
        let mut reader = guarded;
        let mut unread = [0; 10];
        for _ in 0..3 {
            let mut context = Context::from_waker(Waker::noop());
            let polled = Pin::new(&mut reader).poll_read(&mut context, &mut ReadBuf::new(&mut unread));
            assert!(polled.is_pending(), "not before the frame is complete");
        }
        reader.write_all(&on_its_way[12..]).await.unwrap();
        let error = reader.read(&mut unread).await.unwrap_err();
        reader.write_all(b"swallowed").await.unwrap();
        error.to_string()
    });
    let mut got = Vec::new();
    client.read_to_end(&mut got).await.unwrap();
    // What it goes on sending is read and dropped.
    client.write_all(&ping()).await.unwrap();
    drop(client);
    assert_eq!(reader.await.unwrap(), "got too many pings from the client");
    let farewell = frame(GOAWAY, 0, 0, b"\0\0\0\0\0\0\0\x0btoo_many_pings");
    let expected = [ping(), frame(DATA, 0, 1, &[5; 10]), farewell].concat();
    assert_eq!(got, expected);
}

#[tokio::test]
async fn answers_and_their_parts_excuse_pings() {
    let calls = Calls::default();
    let (mut client, mut guarded) = opened(&calls).await;
    let answer = frame(DATA, 0, 1, &[5; 10]);
    for _ in 0..20 {
        guarded.write_all(&answer).await.unwrap();
        for _ in 0..3 {
            pass_ping(&mut client, &mut guarded).await;
        }
    }
    // Nor do frames that are no answers: the fourth ping since the last answer is one too many.
    guarded.write_all(&ping()).await.unwrap();
    pass_ping(&mut client, &mut guarded).await;
    let mut unread = [0; 1];
    drop(client);
    assert!(guarded.read(&mut unread).await.is_err());
}

#[tokio::test]
async fn without_a_limit_pings_are_not_counted() {
    let (mut client, server) = duplex(64 << 10);
    let mut guarded = Guarded::new(server, None, Calls::default(), Arc::default());
    client.write_all(PREFACE).await.unwrap();
    for _ in 0..100 {
        client.write_all(&ping()).await.unwrap();
    }
    drop(client);
    let mut read = Vec::new();
    guarded.read_to_end(&mut read).await.unwrap();
    assert_eq!(read.len(), 24 + 100 * 17);
}

/// Not a check but a measurement: what following costs per frame. Run it by name in a release build.
#[test]
#[ignore = "a measurement"]
fn cost_of_following() {
    let call = [
        frame(HEADERS, END_HEADERS, 1, &[0; 40]),
        frame(DATA, 1, 1, &[0; 200]),
        frame(8, 0, 0, &[0; 4]),
    ]
    .concat();
    let read = call.repeat(10);
    let (rounds, mut walk, mut seen) = (1_000_000u32, Walk::default(), 0u64);
    let start = std::time::Instant::now();
    for _ in 0..rounds {
        walk.over(std::hint::black_box(&read), |head| seen += u64::from(head.kind));
    }
    let nanos = start.elapsed().as_nanos() / u128::from(rounds * 30);
    println!("{nanos} ns per frame ({seen})");
}

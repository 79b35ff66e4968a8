//! The peer port for fuzzing: frames, the headers of a handshake, lists of members.

use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderName, HeaderValue};
use store::types::{ClusterId, MemberId};

use super::frame::{Frame, Incoming, Outgoing};
use super::{Identity, Protocols, discover, handshake};

/// The first byte of an input says what the rest is, and how large the pieces are in which it arrives.
pub(crate) fn one_input(data: &[u8]) {
    let Some((&first, rest)) = data.split_first() else {
        return;
    };
    match first & 3 {
        0 => {
            let _ = discover::parse_members(rest);
        }
        1 => headers(rest),
        _ => {
            let pieces = 1 + usize::from(first >> 2);
            let frames = read(rest, pieces);
            assert_eq!(frames, read(rest, rest.len().max(1)), "the pieces do not matter");
        }
    }
}

/// The frames in some bytes up to the first that is none, and whether there is one.
fn read(bytes: &[u8], piece: usize) -> (Vec<Frame>, bool) {
    let mut incoming = Incoming::new(&[], MESSAGE_BYTES_MAX);
    let mut frames = Vec::new();
    for mut bytes in bytes.chunks(piece) {
        while !bytes.is_empty() {
            let read = incoming.read(&mut bytes).now_or_never();
            assert!(matches!(read, Some(Ok(1..))), "{read:?}");
            loop {
                match incoming.next() {
                    Ok(Some(frame)) => frames.push(frame),
                    Ok(None) => break,
                    Err(_) => return (again(frames), true),
                }
            }
        }
    }
    (again(frames), false)
}

/// Frames that were read are the same once they are written and read again.
fn again(frames: Vec<Frame>) -> Vec<Frame> {
    let mut out = Outgoing::default();
    for frame in &frames {
        match frame {
            Frame::Message(message) => out.message(message.clone()),
            Frame::Ping(payload) => out.ping(*payload),
        }
    }
    out.seal();
    let mut bytes = Vec::new();
    while bytes::Buf::has_remaining(&out) {
        let chunk = bytes::Buf::chunk(&out).to_vec();
        bytes::Buf::advance(&mut out, chunk.len());
        bytes.extend_from_slice(&chunk);
    }
    let mut incoming = Incoming::new(&bytes, MESSAGE_BYTES_MAX);
    for frame in &frames {
        assert_eq!(incoming.next().as_ref(), Ok(&Some(Frame::clone_of(frame))));
    }
    frames
}

impl Frame {
    fn clone_of(frame: &Frame) -> Frame {
        match frame {
            Frame::Message(message) => Frame::Message(message.clone()),
            Frame::Ping(payload) => Frame::Ping(*payload),
        }
    }
}

/// Lines of `name: value`.
fn headers(text: &[u8]) {
    let own = Identity {
        cluster: ClusterId(0xc1),
        member: MemberId(0xa1),
        protocols: Protocols::OWN,
    };
    let mut headers = HeaderMap::new();
    for line in text.split(|byte| *byte == b'\n') {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let name = parts.next().and_then(|name| HeaderName::from_bytes(name).ok());
        let value = parts
            .next()
            .and_then(|value| HeaderValue::from_bytes(value.trim_ascii()).ok());
        if let (Some(name), Some(value)) = (name, value) {
            headers.insert(name, value);
        }
    }
    if let Ok(from) = handshake::judge_request(&headers, own) {
        assert_ne!(from, own.member, "nobody is its own peer");
    }
    let mut answer = http::Response::new(());
    *answer.status_mut() = http::StatusCode::SWITCHING_PROTOCOLS;
    *answer.headers_mut() = headers;
    let _ = handshake::judge_answer(&answer, own, MemberId(0xa2));
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let members = br#"[{"id":1,"peerURLs":["http://a:1"],"name":"a","clientURLs":[],"isLearner":true}]"#;
    let handshake = b"upgrade: taffrail-peer/1\nx-etcd-cluster-id: c1\nx-server-from: a2\nx-server-to: a1\n\
        x-server-version: 3.7.1\nx-min-cluster-version: 3.7.0\nx-taffrail-protocols: 2-2\n";
    let frames = b"\x02\0\0\0ab\xff\xff\xff\xff\x09\0\0\0\0\0\0\0\x05\0\0\0hello\0\0\0\0";
    let large = [&40_000_u32.to_le_bytes()[..], &[7; 40_000]].concat();
    vec![
        [&[0], &members[..]].concat(),
        [&[1], &handshake[..]].concat(),
        [&[2], &frames[..]].concat(),
        [&[0xfe], &frames[..]].concat(),
        [&[0xfe], &large[..], &frames[..]].concat(),
    ]
}

const MESSAGE_BYTES_MAX: usize = 1 << 20;

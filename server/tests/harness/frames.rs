//! HTTP/2 by the frame, for what no library sends: its client says everything as it is told.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use super::PATIENCE;

/// A connection in plaintext that has said its preface.
pub(crate) struct Frames {
    stream: TcpStream,
}

/// One frame.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frames {
    pub(crate) fn connect(address: SocketAddr) -> Frames {
        let stream = TcpStream::connect(address).expect("the server accepts connections");
        stream.set_nodelay(true).expect("a socket");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let mut frames = Frames { stream };
        frames
            .stream
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            .expect("the server reads");
        frames.send(SETTINGS, 0, 0, &[]);
        frames
    }

    pub(crate) fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).expect("a small frame").to_be_bytes();
        let mut frame = length[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        self.stream.write_all(&frame).expect("the server reads");
    }

    /// The next frame; nothing when the server has closed the connection.
    pub(crate) fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        match self.stream.read_exact(&mut head) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return None,
            read => read.expect("a frame or the end"),
        }
        let [a, b, c, kind, flags, stream @ ..] = head;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload).expect("the whole frame");
        Some(Frame {
            kind,
            flags,
            stream: u32::from_be_bytes(stream),
            payload,
        })
    }

    /// The next frame of one of `kinds`.
    pub(crate) fn next_of(&mut self, kinds: &[u8]) -> Option<Frame> {
        loop {
            let frame = self.next()?;
            if kinds.contains(&frame.kind) {
                return Some(frame);
            }
        }
    }
}

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
/// Of a PING.
pub(crate) const ACK: u8 = 1;
/// Of DATA and HEADERS.
pub(crate) const END_STREAM: u8 = 1;
/// Of HEADERS.
pub(crate) const END_HEADERS: u8 = 4;

/// The headers of a call, none of them compressed.
pub(crate) fn call_headers(path: &str, authority: &str) -> Vec<u8> {
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", authority),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            block.push(
                u8::try_from(text.len())
                    .ok()
                    .filter(|length| *length < 127)
                    .expect("a short text"),
            );
            block.extend(text.as_bytes());
        }
    }
    block
}

/// A message as the body of a call has it.
pub(crate) fn call_body(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len())
        .expect("a small message")
        .to_be_bytes();
    [&[0], &length[..], message].concat()
}

//! Frames: a message and its length, or a ping. The format stands in [`super`]; here is how to write many with few
//! calls, and how to read them without a small message keeping a large buffer alive.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bytes::{Buf, BufMut as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// What stands in a length's place before a ping or its echo.
const PING: u32 = u32::MAX;
/// Bytes of a length.
const LENGTH_BYTES: usize = 4;
/// Bytes of what a ping carries.
const PING_BYTES: usize = 8;

/// Frames on their way out. Small messages are copied together, large ones are written from where they are.
#[derive(Default)]
pub(super) struct Outgoing {
    together: BytesMut,
    chunks: VecDeque<Bytes>,
}

impl Outgoing {
    /// Adds a message. Its length was checked when it was queued.
    pub(super) fn message(&mut self, message: Bytes) {
        self.together
            .put_u32_le(u32::try_from(message.len()).expect("a frame's limit is below 4 GiB"));
        if message.len() <= COPIED_BYTES_MAX {
            self.together.extend_from_slice(&message);
        } else {
            self.seal();
            self.chunks.push_back(message);
        }
    }

    /// Adds a ping, or the echo of one.
    pub(super) fn ping(&mut self, payload: u64) {
        self.together.put_u32_le(PING);
        self.together.put_u64_le(payload);
    }

    /// Makes everything added so far the buffer to write from. Called before each write.
    pub(super) fn seal(&mut self) {
        if !self.together.is_empty() {
            self.chunks.push_back(self.together.split().freeze());
        }
    }
}

impl Buf for Outgoing {
    fn remaining(&self) -> usize {
        self.chunks.iter().map(Bytes::len).sum()
    }

    fn chunk(&self) -> &[u8] {
        self.chunks.front().map_or(&[], |chunk| chunk.as_ref())
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut filled = 0;
        for (slice, chunk) in slices.iter_mut().zip(&self.chunks) {
            *slice = IoSlice::new(chunk);
            filled += 1;
        }
        filled
    }

    fn advance(&mut self, mut written: usize) {
        while written > 0 {
            let first = self
                .chunks
                .front_mut()
                .expect("no more is written than there was");
            if written < first.len() {
                first.advance(written);
                return;
            }
            written -= first.len();
            self.chunks.pop_front();
        }
    }
}

/// What came in.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Frame {
    Message(Bytes),
    Ping(u64),
}

/// A frame's length is beyond the limit: whoever sent it does not speak this protocol.
#[derive(PartialEq, Eq, Debug, thiserror::Error)]
#[error("a message of {bytes} bytes, where {bytes_max} are allowed")]
pub(super) struct TooLong {
    pub(super) bytes: usize,
    pub(super) bytes_max: usize,
}

/// Frames on their way in. A message gets memory of its own, as large as itself: of the buffer that the kernel fills
/// nothing is ever handed out.
pub(super) struct Incoming {
    buffer: BytesMut,
    large: Option<Large>,
    bytes_max: usize,
}

/// A large message, which is read straight to its place.
struct Large {
    message: BytesMut,
    missing: usize,
}

impl Incoming {
    /// `before` was read already.
    pub(super) fn new(before: &[u8], bytes_max: usize) -> Incoming {
        Incoming {
            buffer: BytesMut::from(before),
            large: None,
            bytes_max,
        }
    }

    /// Reads what there is; 0 at the end of the stream. Nothing is lost when this is dropped while it waits.
    pub(super) async fn read(&mut self, stream: &mut (impl AsyncRead + Unpin)) -> io::Result<usize> {
        let Some(large) = &mut self.large else {
            if self.buffer.capacity() - self.buffer.len() < READ_BYTES_MIN {
                self.buffer.reserve(READ_BYTES);
            }
            return stream.read_buf(&mut self.buffer).await;
        };
        large.message.reserve(large.missing.min(GROWTH_BYTES));
        let read = stream
            .read_buf(&mut (&mut large.message).limit(large.missing))
            .await?;
        large.missing -= read;
        Ok(read)
    }

    /// The next whole frame of what was read.
    pub(super) fn next(&mut self) -> Result<Option<Frame>, TooLong> {
        if self.large.is_none() {
            let Some(length) = self.buffer.first_chunk::<LENGTH_BYTES>() else {
                return Ok(None);
            };
            let length = u32::from_le_bytes(*length);
            if length == PING {
                return Ok(self.next_ping());
            }
            let bytes = length as usize;
            if bytes > self.bytes_max {
                return Err(TooLong {
                    bytes,
                    bytes_max: self.bytes_max,
                });
            }
            if bytes < LARGE_BYTES_MIN {
                return Ok(self.next_small(bytes));
            }
            self.buffer.advance(LENGTH_BYTES);
            let there = bytes.min(self.buffer.len());
            let mut message = BytesMut::with_capacity(bytes.min(GROWTH_BYTES));
            message.extend_from_slice(&self.buffer[..there]);
            self.buffer.advance(there);
            self.large = Some(Large {
                message,
                missing: bytes - there,
            });
        }
        let whole = self.large.take_if(|large| large.missing == 0);
        Ok(whole.map(|large| Frame::Message(large.message.freeze())))
    }

    fn next_ping(&mut self) -> Option<Frame> {
        if self.buffer.len() < LENGTH_BYTES + PING_BYTES {
            return None;
        }
        self.buffer.advance(LENGTH_BYTES);
        Some(Frame::Ping(self.buffer.get_u64_le()))
    }

    fn next_small(&mut self, bytes: usize) -> Option<Frame> {
        if self.buffer.len() < LENGTH_BYTES + bytes {
            return None;
        }
        self.buffer.advance(LENGTH_BYTES);
        let message = Bytes::copy_from_slice(&self.buffer[..bytes]);
        self.buffer.advance(bytes);
        Some(Frame::Message(message))
    }
}

/// Up to this size, copying a message costs less than one more slice in a write.
const COPIED_BYTES_MAX: usize = 4 << 10;
/// Room for reading, and the room below which it is made anew.
const READ_BYTES: usize = 64 << 10;
const READ_BYTES_MIN: usize = 16 << 10;
/// From this size on a message is not copied out of the buffer but read to its own place.
const LARGE_BYTES_MIN: usize = 32 << 10;
/// No more memory than this is reserved for bytes that were only announced.
const GROWTH_BYTES: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn written(messages: &[Bytes]) -> Vec<u8> {
        let mut out = Outgoing::default();
        for message in messages {
            out.message(message.clone());
        }
        out.ping(9);
        out.seal();
        let mut bytes = vec![0; out.remaining()];
        out.copy_to_slice(&mut bytes);
        bytes
    }

    fn messages() -> Vec<Bytes> {
        let of = |bytes: usize| Bytes::from((0..bytes).map(|at| at as u8).collect::<Vec<_>>());
        [0, 1, 300, COPIED_BYTES_MAX + 1, LARGE_BYTES_MIN, 200_000, 5]
            .map(of)
            .to_vec()
    }

    /// Reads `bytes` in pieces of at most `piece`.
    async fn read_back(bytes: &[u8], piece: usize) -> Vec<Frame> {
        let mut incoming = Incoming::new(&bytes[..piece.min(3)], 1 << 20);
        let mut rest = &bytes[piece.min(3)..];
        let mut frames = Vec::new();
        loop {
            while let Some(frame) = incoming.next().unwrap() {
                frames.push(frame);
            }
            let (mut now, later) = rest.split_at(piece.min(rest.len()));
            while !now.is_empty() {
                assert!(incoming.read(&mut now).await.unwrap() > 0);
                while let Some(frame) = incoming.next().unwrap() {
                    frames.push(frame);
                }
            }
            if later.is_empty() {
                return frames;
            }
            rest = later;
        }
    }

    #[tokio::test]
    async fn what_was_written_is_read_whatever_the_pieces() {
        let messages = messages();
        let bytes = written(&messages);
        let mut expected: Vec<Frame> = messages.into_iter().map(Frame::Message).collect();
        expected.push(Frame::Ping(9));
        for piece in [1, 7, 1000, 65_536, bytes.len()] {
            assert_eq!(read_back(&bytes, piece).await, expected, "pieces of {piece}");
        }
    }

    #[test]
    fn frames_are_what_the_description_says() {
        assert_eq!(
            written(&[Bytes::from_static(b"ab")]),
            b"\x02\0\0\0ab\xff\xff\xff\xff\x09\0\0\0\0\0\0\0"
        );
    }

    #[test]
    fn slices_cover_the_same_bytes_after_a_partial_write() {
        let mut out = Outgoing::default();
        for message in messages() {
            out.message(message);
        }
        let whole = {
            let mut copy = Vec::new();
            let mut slices = [IoSlice::new(&[]); 64];
            out.seal();
            let count = out.chunks_vectored(&mut slices);
            slices[..count]
                .iter()
                .for_each(|slice| copy.extend_from_slice(slice));
            copy
        };
        for written in [1, 4095, 40_000, 100_000] {
            let left = out.remaining();
            out.advance(written);
            assert_eq!(out.remaining(), left - written);
            let at = whole.len() - out.remaining();
            assert_eq!(out.chunk()[0], whole[at]);
        }
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused() {
        let mut incoming = Incoming::new(b"\x00\x00\x00\x01", 1 << 20);
        assert_eq!(
            incoming.next(),
            Err(TooLong {
                bytes: 1 << 24,
                bytes_max: 1 << 20
            })
        );
    }

    #[test]
    fn a_small_message_keeps_only_itself_alive() {
        let mut incoming = Incoming::new(&written(&[Bytes::from_static(b"ab")]), 1 << 20);
        let Ok(Some(Frame::Message(message))) = incoming.next() else {
            panic!("a message");
        };
        let buffer = incoming.buffer.as_ptr_range();
        assert!(!buffer.contains(&message.as_ptr()) && message.is_unique());
    }
}

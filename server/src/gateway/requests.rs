//! The body of a request: chunks of text in, messages out.
//!
//! What is received in part counts as what gRPC's requests receive in part, and has its bound; one object has a bound
//! of its own.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use hyper::body::{Body, Frame};
use prost_reflect::MessageDescriptor;
use tonic::Status;

use super::json;
use crate::core::Core;
use crate::grpc::backlog::{Backlog, Held};

/// A body as it arrives; it ends with its first error.
pub(super) type Chunks = BoxStream<'static, Result<Bytes, ()>>;

/// The largest text that one message may be sent as: as bytes in base64 it is a third larger, and there may be
/// spaces and escapes.
pub(super) fn text_bytes_max(core: &Core) -> usize {
    core.limits.message_bytes_max.saturating_mul(TEXT_BYTES_PER_BYTE)
}

/// The frame of the one message that `chunks` carry; what follows it is not looked at.
pub(super) async fn single(
    core: &Core,
    input: &MessageDescriptor,
    mut chunks: Chunks,
) -> Result<Bytes, Status> {
    let mut reader = Reader::new(core);
    while let Some(Ok(chunk)) = chunks.next().await {
        reader.push(&chunk)?;
        match reader.next() {
            Some(Ok(object)) => return json::frame(input, &object),
            Some(Err(NoObject)) => break,
            None => {}
        }
    }
    json::frame(input, &reader.buffer)
}

/// Frames of the messages that arrive, as a body for gRPC. Text that is no message ends them.
pub(super) struct Frames {
    reader: Reader,
    chunks: Chunks,
    input: MessageDescriptor,
    ended: bool,
}

impl Frames {
    pub(super) fn new(core: &Core, input: &MessageDescriptor, chunks: Chunks) -> Frames {
        Frames {
            reader: Reader::new(core),
            chunks,
            input: input.clone(),
            ended: false,
        }
    }

    fn next_frame(&mut self) -> Option<Bytes> {
        match self.reader.next()? {
            Ok(object) => json::frame(&self.input, &object)
                .inspect_err(|_| self.ended = true)
                .ok(),
            Err(NoObject) => {
                self.ended = true;
                None
            }
        }
    }
}

impl Body for Frames {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        while !self.ended {
            if let Some(frame) = self.next_frame() {
                return Poll::Ready(Some(Ok(Frame::data(frame))));
            }
            if self.ended {
                break;
            }
            match ready!(self.chunks.poll_next_unpin(context)) {
                Some(Ok(chunk)) => {
                    if let Err(refusal) = self.reader.push(&chunk) {
                        self.ended = true;
                        return Poll::Ready(Some(Err(refusal)));
                    }
                }
                Some(Err(())) | None => self.ended = true,
            }
        }
        Poll::Ready(None)
    }
}

/// Text that is received, and where the objects in it end.
struct Reader {
    buffer: BytesMut,
    /// So much of the buffer is known to be part of one object.
    scanned: usize,
    depth: usize,
    in_string: bool,
    escaped: bool,
    bytes_max: usize,
    message_bytes_max: usize,
    held: Held,
    backlog: Arc<Backlog>,
}

/// What comes next is no object.
struct NoObject;

impl Reader {
    fn new(core: &Core) -> Reader {
        Reader {
            buffer: BytesMut::new(),
            scanned: 0,
            depth: 0,
            in_string: false,
            escaped: false,
            bytes_max: text_bytes_max(core),
            message_bytes_max: core.limits.message_bytes_max,
            held: core.requests.hold(0),
            backlog: core.requests.clone(),
        }
    }

    fn push(&mut self, chunk: &[u8]) -> Result<(), Status> {
        let bytes = self.buffer.len() + chunk.len();
        if bytes > self.bytes_max {
            return Err(Status::resource_exhausted(format!(
                "grpc: received message larger than max ({bytes} vs. {})",
                self.message_bytes_max
            )));
        }
        self.held.grow(chunk.len())?;
        self.buffer.extend_from_slice(chunk);
        Ok(())
    }

    /// The next object, once it is there in full; whether it is one in every detail is for others to say.
    fn next(&mut self) -> Option<Result<Bytes, NoObject>> {
        if self.scanned == 0 {
            let blank = self.buffer.iter().take_while(|byte| byte.is_ascii_whitespace());
            let blank = blank.count();
            drop(self.buffer.split_to(blank));
            if *self.buffer.first()? != b'{' {
                return Some(Err(NoObject));
            }
        }
        while let Some(&byte) = self.buffer.get(self.scanned) {
            self.scanned += 1;
            if self.ends_with(byte) {
                let object = self.buffer.split_to(self.scanned).freeze();
                self.scanned = 0;
                if self.buffer.is_empty() {
                    self.held = self.backlog.hold(0);
                }
                return Some(Ok(object));
            }
        }
        None
    }

    /// Whether an object ends with `byte`, which comes after all that was scanned before.
    fn ends_with(&mut self, byte: u8) -> bool {
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' if self.in_string => self.escaped = true,
            b'"' => self.in_string = !self.in_string,
            _ if self.in_string => {}
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                return self.depth == 0;
            }
            _ => {}
        }
        false
    }
}

/// Bytes of text for each byte of a message.
const TEXT_BYTES_PER_BYTE: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn reader() -> Reader {
        let backlog = Backlog::new(1000);
        Reader {
            buffer: BytesMut::new(),
            scanned: 0,
            depth: 0,
            in_string: false,
            escaped: false,
            bytes_max: 100,
            message_bytes_max: 25,
            held: backlog.hold(0),
            backlog,
        }
    }

    fn objects(reader: &mut Reader) -> Vec<String> {
        std::iter::from_fn(|| reader.next()?.ok())
            .map(|object| String::from_utf8(object.to_vec()).unwrap())
            .collect()
    }

    #[test]
    fn objects_end_where_they_end_however_they_arrive() {
        let text = " {\"a\":[{\"b\":\"}\\\"{\"}]}\n{}{\"c\":{}} ";
        let expected = ["{\"a\":[{\"b\":\"}\\\"{\"}]}", "{}", "{\"c\":{}}"];
        for step in [1, 3, text.len()] {
            let mut reader = reader();
            let mut found = Vec::new();
            for chunk in text.as_bytes().chunks(step) {
                assert!(reader.push(chunk).is_ok());
                found.extend(objects(&mut reader));
            }
            assert_eq!(found, expected, "step {step}");
            assert!(reader.next().is_none());
        }
    }

    #[test]
    fn only_objects_are_taken() {
        for text in ["x", " [", "1", "\"{}\"", "}"] {
            let mut reader = reader();
            assert!(reader.push(text.as_bytes()).is_ok());
            assert!(matches!(reader.next(), Some(Err(NoObject))), "{text}");
        }
    }

    #[test]
    fn one_object_and_all_of_them_are_bounded() {
        let mut long = reader();
        assert!(long.push(&[b'{'; 100]).is_ok());
        assert!(long.next().is_none());
        let status = long.push(b"{").unwrap_err();
        assert_eq!(
            status.message(),
            "grpc: received message larger than max (101 vs. 25)"
        );
        let mut many = reader();
        for _ in 0..100 {
            assert!(many.push(&[b' '; 98]).is_ok() && many.push(b"{}").is_ok());
            assert_eq!(objects(&mut many), ["{}"]);
        }
        let full = reader();
        full.backlog.hold(1000);
        let _held = full.backlog.hold(1000);
        let mut full = full;
        assert!(full.push(b"{").is_err());
    }
}

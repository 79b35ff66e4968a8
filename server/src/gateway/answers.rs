//! What gRPC answers: messages out of its frames, and lines of JSON for a stream.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _};
use http::{HeaderMap, Response};
use hyper::body::Body as _;
use prost_reflect::MessageDescriptor;
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::{Code, Status};

use super::{call, json};
use crate::core::Core;
use crate::grpc::backlog::Backlog;
use crate::grpc::meter::AnswerBody;

/// The messages of an answer, then the error it ends with, if it does.
pub(super) struct Messages {
    body: Option<AnswerBody>,
    frames: Bytes,
    error: Option<Status>,
}

impl Messages {
    pub(super) fn new(response: Response<AnswerBody>) -> Messages {
        let (head, body) = response.into_parts();
        // An answer without messages says in its head how it ended.
        match Status::from_header_map(&head.headers) {
            Some(status) => Messages::ended(status),
            None => Messages {
                body: Some(body),
                frames: Bytes::new(),
                error: None,
            },
        }
    }

    pub(super) fn failed(error: Status) -> Messages {
        Messages::ended(error)
    }

    fn ended(status: Status) -> Messages {
        Messages {
            body: None,
            frames: Bytes::new(),
            error: (status.code() != Code::Ok).then_some(status),
        }
    }

    /// The only message of a unary answer. The answer is read to its end, so that the call counts as done.
    pub(super) async fn single(mut self) -> Result<Bytes, Status> {
        let mut single = None;
        while let Some(message) = self.next().await {
            single = Some(message?);
        }
        single.ok_or_else(|| Status::internal("an answer without a message"))
    }

    fn append(&mut self, data: Bytes) {
        if self.frames.is_empty() {
            self.frames = data;
            return;
        }
        let mut joined = BytesMut::with_capacity(self.frames.len() + data.len());
        joined.extend_from_slice(&self.frames);
        joined.extend_from_slice(&data);
        self.frames = joined.freeze();
    }

    fn end(&mut self, trailers: Option<&HeaderMap>) {
        let status = trailers.and_then(Status::from_header_map);
        let status = status.unwrap_or_else(|| Status::internal("an answer without an end"));
        *self = Messages::ended(status);
    }
}

impl Stream for Messages {
    type Item = Result<Bytes, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match json::unframe(&mut self.frames) {
                Ok(Some(message)) => return Poll::Ready(Some(Ok(message))),
                Ok(None) => {}
                Err(error) => *self = Messages::ended(error),
            }
            let Some(body) = &mut self.body else {
                return Poll::Ready(self.error.take().map(Err));
            };
            match ready!(Pin::new(body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.append(data),
                    Err(frame) => self.end(frame.trailers_ref()),
                },
                Some(Err(error)) => *self = Messages::ended(error),
                None => self.end(None),
            }
        }
    }
}

/// What a streaming call answers next.
pub(super) enum Line {
    /// A message, as the line it is sent as.
    Result(Bytes),
    /// How it failed; nothing comes after it.
    Error(Status),
}

/// The lines of a streaming call.
pub(super) struct Answers {
    messages: Messages,
    output: MessageDescriptor,
    backlog: Arc<Backlog>,
    late: Option<Pin<Box<Sleep>>>,
}

impl Answers {
    pub(super) fn new(
        core: &Core,
        output: &MessageDescriptor,
        messages: Messages,
        deadline: Option<Instant>,
    ) -> Answers {
        Answers {
            messages,
            output: output.clone(),
            backlog: core.answers.clone(),
            late: deadline.map(|deadline| Box::pin(sleep_until(deadline))),
        }
    }

    fn line(&self, message: Bytes) -> Result<Bytes, Status> {
        let line = json::object(&self.output, message, "{\"result\":", "}\n")?;
        Ok(self.backlog.hold_data(line))
    }

    /// Ends the call, wherever it stands.
    fn fail(&mut self, error: Status) -> Line {
        self.messages = Messages {
            body: None,
            frames: Bytes::new(),
            error: None,
        };
        self.late = None;
        Line::Error(error)
    }
}

impl Stream for Answers {
    type Item = Line;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Line>> {
        if let Poll::Ready(message) = self.messages.poll_next_unpin(context) {
            let line = match message {
                Some(message) => message.and_then(|message| self.line(message)),
                None => {
                    self.late = None;
                    return Poll::Ready(None);
                }
            };
            return Poll::Ready(Some(match line {
                Ok(line) => Line::Result(line),
                Err(error) => self.fail(error),
            }));
        }
        match self.late.as_mut().map(|late| late.as_mut().poll(context)) {
            Some(Poll::Ready(())) => Poll::Ready(Some(self.fail(call::late()))),
            _ => Poll::Pending,
        }
    }
}

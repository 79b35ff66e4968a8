//! A client's connection, guarded: what passes is looked at before the library that speaks HTTP/2 sees it, for four
//! things which that library leaves to nobody.
//!
//! - A client that says nothing has so long: until it has said what it speaks, and for HTTP/2 its first frame. After
//!   that HTTP/1.1 has limits of its own, and HTTP/2 may be idle.
//! - A client that pings too often ([`super::pings`]) gets GOAWAY, ENHANCE_YOUR_CALM, `too_many_pings`, and its
//!   connection ends.
//! - So does one that floods with frames that ask for nothing ([`Flood`]): `flood`.
//! - A client that puts an endpoint where an authority belongs ([`super::authority`]) has that replaced.
//!
//! The first block of headers tells the second kind of client: its requests are all alike. From then on the
//! connections of the others are only followed, by the headers of their frames: nothing is copied, nothing allocated,
//! and what is read goes where the reader wants it. So the cost of a frame is a few nanoseconds (5 ns for a call of
//! three small ones). What is no HTTP/2 passes untouched.

use std::error::Error;
use std::future::Future as _;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::blocks::{self, Gathered};
use super::frames::{
    ACK, CONTINUATION, DATA, END_STREAM, GOAWAY, HEAD_BYTES, HEADERS, Head, PING, PREFACE, WINDOW_UPDATE,
    Walk,
};
use super::port::HANDSHAKE_BYTE;
use super::{authority, pings::Pings};
use crate::defences::{Flood, OPENING_MAX, Reason, TurnedAway};

/// A connection over `S`, guarded.
pub(crate) struct Guarded<S> {
    stream: S,
    protocol: Protocol,
    /// What is looked at before it is passed on; absent once it is only followed.
    held: Option<Box<Held>>,
    inbound: Walk,
    outbound: Walk,
    traffic: Traffic,
    /// When a client must have begun, once it was waited for.
    opening: Option<Pin<Box<Sleep>>>,
    end: Option<End>,
    away: Arc<TurnedAway>,
}

/// What the first bytes say.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Unknown,
    Http2,
    Other,
}

/// Bytes between the socket and the reader.
#[derive(Default)]
struct Held {
    raw: BytesMut,
    /// Looked at, to be read.
    ready: BytesMut,
    /// Whether authorities are being replaced; else the first is still awaited.
    mending: bool,
    /// Whether the client sends no more, or is no longer looked at.
    done: bool,
}

/// What the headers of frames tell.
struct Traffic {
    /// Absent where nobody counts pings.
    pings: Option<Pings>,
    /// Calls under way, as far as they have come to the server's attention.
    calls: Calls,
    /// A call was opened which the server may not have seen yet.
    opened: bool,
    /// All that was read is dealt with.
    settled: bool,
    /// A part of an answer was sent since the last ping.
    answered: bool,
    /// The last stream that the client opened.
    last_stream: u32,
    /// A frame was seen.
    begun: bool,
    flood: Flood,
    refused: Option<Reason>,
}

/// The way out for a client that is sent away.
struct End {
    /// So many bytes of the farewell are sent: it waits for the end of the frame that is on its way. All are: the
    /// client is given the time to read it, since closing with its bytes unread would take ours back.
    sent: Option<usize>,
    deadline: Pin<Box<Sleep>>,
    /// So much of what the client goes on sending is read and dropped.
    patience_bytes: usize,
}

/// The calls under way on one connection.
#[derive(Clone, Default)]
pub(crate) struct Calls(Arc<AtomicU32>);

/// One call, until it is dropped.
pub(crate) struct OpenCall(Calls);

impl Calls {
    pub(crate) fn open(&self) -> OpenCall {
        self.0.fetch_add(1, Ordering::Relaxed);
        OpenCall(self.clone())
    }

    fn any(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<S> Guarded<S> {
    /// Guards `stream`. With a `ping_interval_min`, pings are counted; `calls` are those that the server has open;
    /// whoever is sent away is counted in `away`.
    pub(crate) fn new(
        stream: S,
        ping_interval_min: Option<Duration>,
        calls: Calls,
        away: Arc<TurnedAway>,
    ) -> Guarded<S> {
        Guarded {
            stream,
            protocol: Protocol::Unknown,
            held: Some(Box::default()),
            inbound: Walk::default(),
            outbound: Walk::default(),
            traffic: Traffic {
                pings: ping_interval_min.map(Pings::new),
                calls,
                opened: false,
                settled: false,
                answered: false,
                last_stream: 0,
                begun: false,
                flood: Flood::default(),
                refused: None,
            },
            opening: None,
            end: None,
            away,
        }
    }
}

impl Traffic {
    fn received(&mut self, head: Head) {
        self.begun = true;
        match head.kind {
            HEADERS if head.stream > self.last_stream => {
                self.last_stream = head.stream;
                self.opened = true;
            }
            PING if !head.has(ACK) => {
                let active = self.opened || self.calls.any();
                let answered = std::mem::take(&mut self.answered);
                if let Some(pings) = &mut self.pings
                    && !pings.admit(Instant::now(), answered, active)
                {
                    self.refused.get_or_insert(Reason::Pings);
                }
                if !answered {
                    self.count_idle();
                }
            }
            HEADERS | CONTINUATION | WINDOW_UPDATE => {}
            DATA if head.length > 0 || head.has(END_STREAM) => {}
            _ => self.count_idle(),
        }
    }

    /// A frame asked for nothing.
    fn count_idle(&mut self) {
        if !self.flood.admit() {
            self.refused.get_or_insert(Reason::Flood);
        }
    }

    fn sent(&mut self, head: Head) {
        self.answered |= matches!(head.kind, DATA | HEADERS);
    }
}

impl Held {
    /// Looks at what is there; `ended` when no more can come.
    fn look(&mut self, ended: bool, protocol: &mut Protocol, walk: &mut Walk, traffic: &mut Traffic) {
        if *protocol == Protocol::Unknown {
            let length = self.raw.len().min(PREFACE.len());
            *protocol = if self.raw.get(..length) != PREFACE.get(..length) {
                Protocol::Other
            } else if length == PREFACE.len() {
                Protocol::Http2
            } else if ended {
                Protocol::Other
            } else {
                return;
            };
            if *protocol == Protocol::Http2 {
                self.pass(length);
            }
        }
        match protocol {
            Protocol::Http2 => self.look_at_frames(walk, traffic),
            _ => self.done = true,
        }
        self.done |= ended;
        if self.done {
            if *protocol == Protocol::Http2 {
                walk.over(&self.raw, |head| traffic.received(head));
            }
            self.pass(self.raw.len());
        }
    }

    fn look_at_frames(&mut self, walk: &mut Walk, traffic: &mut Traffic) {
        while !self.done && !self.raw.is_empty() {
            let bytes = match Head::at(&self.raw) {
                _ if !walk.at_boundary() => walk.left(),
                Some(head) if head.kind == HEADERS => match blocks::gather(&self.raw) {
                    Gathered::Partial => return,
                    Gathered::Odd => {
                        self.done = true;
                        return;
                    }
                    Gathered::Whole(block) => match authority::mend(&block.fragment) {
                        Some(mended) => {
                            traffic.received(head);
                            block.write(&mended, &mut self.ready);
                            self.raw.advance(block.bytes);
                            self.mending = true;
                            continue;
                        }
                        None => {
                            // A client that does it does it from its first call on.
                            self.done = !self.mending;
                            block.bytes
                        }
                    },
                },
                Some(head) => HEAD_BYTES + head.length,
                None => return,
            };
            let bytes = bytes.min(self.raw.len());
            let passed = self.raw.get(..bytes).unwrap_or_default();
            walk.over(passed, |head| traffic.received(head));
            self.pass(bytes);
        }
    }

    /// Lets so many bytes pass.
    fn pass(&mut self, bytes: usize) {
        let passed = self.raw.split_to(bytes);
        if self.ready.is_empty() {
            self.ready = passed;
        } else {
            self.ready.extend_from_slice(&passed);
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(reason) = this.traffic.refused {
            return this.poll_end(context, reason);
        }
        if this.held.is_some() {
            return this.poll_held(context, into);
        }
        let before = into.filled().len();
        ready!(this.poll_stream(context, into))?;
        if this.protocol == Protocol::Http2 {
            let traffic = &mut this.traffic;
            let read = into.filled().get(before..).unwrap_or_default();
            this.inbound.over(read, |head| traffic.received(head));
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Guarded<S> {
    fn poll_stream(&mut self, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(context, into);
        if self.traffic.begun || self.protocol == Protocol::Other {
            self.opening = None;
        } else if polled.is_pending() {
            self.await_opening(context)?;
        }
        match polled {
            // What was read before is dealt with: the server has seen each call.
            Poll::Pending => self.traffic.settled = true,
            Poll::Ready(_) if std::mem::take(&mut self.traffic.settled) => self.traffic.opened = false,
            Poll::Ready(_) => {}
        }
        polled
    }

    /// The client has yet to begin, and has not for ever.
    fn await_opening(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let opening = self
            .opening
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(OPENING_MAX)));
        if opening.as_mut().poll(context).is_pending() {
            return Ok(());
        }
        self.away.count(Reason::Silence);
        Err(io::Error::new(io::ErrorKind::TimedOut, "i/o timeout"))
    }

    /// Reads what is looked at before it is passed on.
    fn poll_held(&mut self, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while let Some(mut held) = self.held.take() {
            if !held.ready.is_empty() {
                let bytes = held.ready.len().min(into.remaining());
                into.put_slice(&held.ready.split_to(bytes));
                if !held.done || !held.ready.is_empty() {
                    self.held = Some(held);
                }
                break;
            }
            let before = into.filled().len();
            let polled = self.poll_stream(context, into);
            let read = into.filled().get(before..).unwrap_or_default();
            let ended = read.is_empty();
            held.raw.extend_from_slice(read);
            into.set_filled(before);
            if polled.is_ready() {
                if self.protocol == Protocol::Unknown && held.raw.first() == Some(&HANDSHAKE_BYTE) {
                    return Poll::Ready(Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        MisplacedHandshake,
                    )));
                }
                held.look(ended, &mut self.protocol, &mut self.inbound, &mut self.traffic);
                if ended && held.ready.is_empty() {
                    return polled;
                }
            }
            self.held = Some(held);
            ready!(polled)?;
        }
        Poll::Ready(Ok(()))
    }

    /// Says farewell to a client that is sent away, and ends the connection.
    fn poll_end(&mut self, context: &mut Context<'_>, reason: Reason) -> Poll<io::Result<()>> {
        let Some(end) = &mut self.end else {
            self.away.count(reason);
            // Whoever reads turns to writing now, and then comes back.
            self.end = Some(End {
                sent: Some(0),
                deadline: Box::pin(tokio::time::sleep(FAREWELL_MAX)),
                patience_bytes: LINGER_BYTES_MAX,
            });
            context.waker().wake_by_ref();
            return Poll::Pending;
        };
        let over = end.deadline.as_mut().poll(context).is_ready();
        if let Some(sent) = &mut end.sent {
            let farewell = farewell(self.traffic.last_stream, reason);
            while let Some(rest) = farewell.get(*sent..).filter(|rest| !rest.is_empty() && !over) {
                // Whoever writes will come back, or the client reads nothing.
                if *sent == 0 && !self.outbound.at_boundary() {
                    return Poll::Pending;
                }
                *sent += ready!(Pin::new(&mut self.stream).poll_write(context, rest))?;
            }
            if !over {
                ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
                tracing::debug!(?reason, "a client is sent away");
                end.sent = None;
                end.deadline = Box::pin(tokio::time::sleep(LINGER_MAX));
            }
        }
        loop {
            let mut unread = [0; 512];
            let mut unread = ReadBuf::new(&mut unread);
            let over = over || end.patience_bytes == 0 || end.deadline.as_mut().poll(context).is_ready();
            let polled = match over {
                true => Poll::Ready(Ok(())),
                false => Pin::new(&mut self.stream).poll_read(context, &mut unread),
            };
            let more = matches!(polled, Poll::Ready(Ok(()))) && !unread.filled().is_empty();
            if polled.is_ready() && !more {
                return Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::ConnectionAborted,
                    text_of(reason),
                )));
            }
            ready!(polled)?;
            end.patience_bytes = end.patience_bytes.saturating_sub(unread.filled().len());
        }
    }

    /// Whether the farewell is on its way, behind which nothing may be sent.
    fn is_ending(&self) -> bool {
        self.end.as_ref().is_some_and(|end| end.sent != Some(0))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S>
where
    S: AsyncRead,
{
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.is_ending() {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = ready!(Pin::new(&mut this.stream).poll_write(context, bytes))?;
        if this.protocol == Protocol::Http2 {
            let traffic = &mut this.traffic;
            let sent = bytes.get(..written).unwrap_or_default();
            this.outbound.over(sent, |head| traffic.sent(head));
        }
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.is_ending() {
            return Poll::Ready(Ok(parts.iter().map(|part| part.len()).sum()));
        }
        let written = ready!(Pin::new(&mut this.stream).poll_write_vectored(context, parts))?;
        if this.protocol == Protocol::Http2 {
            let traffic = &mut this.traffic;
            let mut left = written;
            for part in parts {
                let sent = part.get(..left.min(part.len())).unwrap_or_default();
                left -= sent.len();
                this.outbound.over(sent, |head| traffic.sent(head));
            }
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

/// A client that wants TLS where there is none. It would take no answer in plaintext, so it gets none.
#[derive(Debug, thiserror::Error)]
#[error("a TLS handshake where plaintext is served")]
struct MisplacedHandshake;

/// Whether a connection ended because its client wanted TLS where there is none.
pub(crate) fn is_misplaced_handshake(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if inner.is_some_and(|inner| inner.is::<MisplacedHandshake>()) {
            return true;
        }
        next = error.source();
    }
    false
}

/// What the log says of a client that was sent away.
fn text_of(reason: Reason) -> &'static str {
    match reason {
        Reason::Pings => "got too many pings from the client",
        _ => "got too many frames from the client that ask for nothing",
    }
}

/// GOAWAY, as grpc-go's server sends it.
fn farewell(last_stream: u32, reason: Reason) -> Vec<u8> {
    let text = match reason {
        Reason::Pings => TOO_MANY_PINGS,
        _ => FLOOD,
    };
    let head = Head {
        length: 8 + text.len(),
        kind: GOAWAY,
        flags: 0,
        stream: 0,
    };
    let mut frame = head.bytes().to_vec();
    frame.extend(last_stream.to_be_bytes());
    frame.extend(ENHANCE_YOUR_CALM.to_be_bytes());
    frame.extend(text);
    frame
}

const ENHANCE_YOUR_CALM: u32 = 0xb;
const TOO_MANY_PINGS: &[u8] = b"too_many_pings";
const FLOOD: &[u8] = b"flood";
/// How long the farewell may take to be sent: a client that reads nothing shall not keep the connection.
const FAREWELL_MAX: Duration = Duration::from_secs(5);
/// How long a client may take to read that, and to close its side.
const LINGER_MAX: Duration = Duration::from_secs(1);
/// How much it may go on sending meanwhile.
const LINGER_BYTES_MAX: usize = 1 << 20;

//! One connection: HTTP/1.1 or HTTP/2 by its first bytes, gRPC or plain HTTP by its content type.

use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use ::http::{Request, Response, Version, header};
use bytes::Bytes;
use futures_util::future::Either;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;

use crate::config::ConnectionSettings;
use crate::core::{Core, raised};
use crate::defences::{HEADER_BYTES_MAX, HTTP1_BUFFER_BYTES_MAX, HTTP1_HEADER_MAX, HTTP1_HEADERS_MAX};
use crate::grpc;
use crate::grpc::meter::AnswerBody;
use crate::http;
use crate::http2_debug;
use crate::kubernetes;
use crate::listen::{
    Calls, Guarded, OpenCall, Opened, PeerIdentity, Port, Remote, Socket, Versions, is_misplaced_handshake,
};

/// What a listener serves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    /// gRPC and every HTTP endpoint.
    Client,
    /// gRPC alone: HTTP has listeners of its own.
    ClientGrpc,
    /// Every HTTP endpoint for clients, but no gRPC.
    ClientHttp,
    /// Probes and metrics only.
    Metrics,
    /// The Kubernetes API.
    Kubernetes,
}

/// How a request came in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    pub(crate) role: Role,
    /// Not through TLS.
    pub(crate) plaintext: bool,
}

/// Serves `socket` until its client leaves, or the process stops and what is under way is answered.
pub(crate) async fn serve(core: Arc<Core>, port: Arc<Port>, socket: Socket) {
    // Answers are small and awaited: never wait for more to send.
    if let Err(error) = socket.set_nodelay() {
        tracing::debug!(%error, "a connection was gone before it was served");
        return;
    }
    let remote = socket.remote;
    let mut stopping = core.stopping.clone();
    let opened = tokio::select! {
        opened = port.open(socket) => opened,
        () = raised(&mut stopping) => return,
    };
    let Opened {
        stream,
        entry,
        versions,
        identity,
    } = match opened {
        Ok(opened) => opened,
        Err(error) => return log_rejected(remote, &error),
    };
    let builder = match versions {
        Versions::Any => builder(core.limits),
        Versions::Http1 => builder(core.limits).http1_only(),
        Versions::Http2 => builder(core.limits).http2_only(),
    };
    let calls = Calls::default();
    // Behind TLS, etcd's HTTP server carries gRPC, and that does not count pings.
    let pings_counted = entry.plaintext || entry.role == Role::ClientGrpc;
    let ping_interval_min = pings_counted.then_some(core.limits.ping_min_interval);
    let stream = Guarded::new(
        stream,
        ping_interval_min,
        calls.clone(),
        core.defences.away.clone(),
    );
    let peer = identity.clone();
    let handler = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(identity.clone());
        dispatch(core.clone(), entry, calls.open(), request)
    });
    let mut connection =
        std::pin::pin!(builder.serve_connection_with_upgrades(TokioIo::new(stream), handler));
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = raised(&mut stopping) => {
            // HTTP/2: GOAWAY, then the open streams end.
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    match result {
        Err(error) if is_misplaced_handshake(&*error) => log_rejected(remote, &*error),
        Err(error) => log_broken(&peer, &*error),
        Ok(()) => {}
    }
}

/// etcd's line about a connection that came to nothing. Whoever connects and leaves is not worth a warning.
fn log_rejected(remote: Remote, error: &(dyn Error + 'static)) {
    let left = error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::UnexpectedEof);
    if left {
        tracing::debug!("remote-addr" = %remote, error = "EOF", "rejected connection on client endpoint");
    } else {
        tracing::warn!("remote-addr" = %remote, %error, "rejected connection on client endpoint");
    }
}

fn log_broken(peer: &PeerIdentity, error: &(dyn Error + 'static)) {
    let name = peer.common_name.as_deref();
    tracing::debug!("remote-addr" = %peer.address, name, %error, "a connection broke off");
}

/// What a connection is served with, by these limits.
pub(crate) fn builder(limits: ConnectionSettings) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HTTP1_HEADER_MAX)
        .max_buf_size(HTTP1_BUFFER_BYTES_MAX)
        .max_headers(HTTP1_HEADERS_MAX);
    let mut http2 = builder.http2();
    http2
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams_max)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .adaptive_window(false)
        .max_header_list_size(HEADER_BYTES_MAX)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX);
    if let Some((idle, timeout)) = limits.keepalive {
        http2.keep_alive_interval(idle).keep_alive_timeout(timeout);
    }
    builder
}

fn dispatch(
    core: Arc<Core>,
    entry: Entry,
    call: OpenCall,
    request: Request<Incoming>,
) -> impl Future<Output = Result<Response<Answer>, Infallible>> {
    if http2_debug::is_on() {
        http2_debug::tell(&request);
    }
    if matches!(entry.role, Role::Client | Role::ClientGrpc) && is_grpc(&request) {
        Either::Left(async move {
            let answer = grpc::serve(core, request).await;
            Ok(answer.map(|body| Answer::new(AnyBody::Grpc(body), call)))
        })
    } else if entry.role == Role::Kubernetes {
        Either::Right(Either::Left(Box::pin(async move {
            let answer = kubernetes::serve(&core, request).await;
            Ok(answer.map(|body| Answer::new(AnyBody::Kubernetes(body), call)))
        })))
    } else {
        // Boxed, so that the rare request does not make every call's future larger.
        Either::Right(Either::Right(Box::pin(async move {
            let answer = http::serve(core, entry, request).await;
            Ok(answer.map(|body| Answer::new(AnyBody::Http(body), call)))
        })))
    }
}

fn is_grpc<B>(request: &Request<B>) -> bool {
    request.version() == Version::HTTP_2
        && request
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// The body of an answer of either side.
enum AnyBody {
    Grpc(AnswerBody),
    Http(http::Body),
    Kubernetes(axum::body::Body),
}

impl Body for AnyBody {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        match self.get_mut() {
            AnyBody::Grpc(body) => Pin::new(body).poll_frame(context),
            AnyBody::Http(body) => Pin::new(body).poll_frame(context).map_err(|never| match never {}),
            AnyBody::Kubernetes(body) => Pin::new(body)
                .poll_frame(context)
                .map_err(|error| tonic::Status::from_error(error.into())),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            AnyBody::Grpc(body) => body.is_end_stream(),
            AnyBody::Http(body) => body.is_end_stream(),
            AnyBody::Kubernetes(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            AnyBody::Grpc(body) => body.size_hint(),
            AnyBody::Http(body) => body.size_hint(),
            AnyBody::Kubernetes(body) => body.size_hint(),
        }
    }
}

/// An answer's body. The call is open until it is sent or given up.
struct Answer {
    body: AnyBody,
    _call: OpenCall,
}

impl Answer {
    fn new(body: AnyBody, call: OpenCall) -> Answer {
        Answer { body, _call: call }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A whole message of the default limit fits, so no upload waits for a window update.
const STREAM_WINDOW_BYTES: u32 = 2 << 20;
/// Bounds what one connection can make us hold before it is read.
const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;
/// What a stream may have written but not yet sent.
const SEND_BUFFER_BYTES: usize = 1 << 20;
/// Streams that a client opened and reset before we saw them. A client that gives up many calls at once is honest;
/// one that goes on like that is cut off.
const PENDING_RESETS_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// The future of a call is moved into a task of its own: its size is paid for with every request.
    #[test]
    fn the_future_of_a_call_stays_small() {
        fn size<F>(_: impl Fn(Arc<Core>, Entry, OpenCall, Request<Incoming>) -> F) -> usize {
            size_of::<F>()
        }
        assert!(size(dispatch) <= 1024, "{} bytes", size(dispatch));
    }
}

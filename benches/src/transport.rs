//! gRPC over `h2` for the generated stubs: TCP without delay, no TLS, no reconnecting.
//!
//! The generator runs on one core beside the server under test, so what it spends per operation bounds what it can
//! measure. A request goes from the client's own task straight into the HTTP/2 connection, with neither a queue nor a
//! task between; only a request that is a stream gets a task that feeds it.
//!
//! A connection that breaks stays broken: its operations fail and are counted.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::str::FromStr;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::uri::Authority;
use http::{HeaderValue, Request, Response, Uri};
use http_body::{Body as _, Frame};
use tokio::net::TcpStream;

use crate::Error;

/// Window of a stream and of a connection: a list of some MiB flows without waiting for the generator.
const STREAM_WINDOW_BYTES: u32 = 8 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 64 << 20;

/// Where a server listens, in plain text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    authority: Authority,
}

impl Endpoint {
    /// The URI in front of every method's path.
    #[must_use]
    pub fn origin(&self) -> Uri {
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(http::uri::Scheme::HTTP);
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(http::uri::PathAndQuery::from_static("/"));
        Uri::from_parts(parts).expect("scheme, authority and path make a URI")
    }
}

/// Why a text is no endpoint.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum EndpointError {
    /// The generator speaks plain text only.
    #[error("https endpoints are not supported")]
    Https,
    /// Not `host:port` or `http://host:port`.
    #[error("want host:port or http://host:port")]
    Form,
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        if text.starts_with("https://") {
            return Err(EndpointError::Https);
        }
        let bare = text.strip_prefix("http://").unwrap_or(text);
        let bare = bare.strip_suffix('/').unwrap_or(bare);
        let authority: Authority = bare.parse().map_err(|_| EndpointError::Form)?;
        if authority.port_u16().is_none() || authority.host().is_empty() || bare.contains('@') {
            return Err(EndpointError::Form);
        }
        Ok(Self { authority })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.authority.fmt(f)
    }
}

/// One connection, cheap to clone; each clone may have one request about to start.
#[derive(Clone)]
pub struct Channel {
    send: SendRequest<Bytes>,
    origin: Uri,
    token: Option<HeaderValue>,
}

impl Channel {
    /// Connects and shakes hands.
    ///
    /// # Errors
    /// The connection was refused, or the peer does not speak HTTP/2.
    pub async fn connect(endpoint: &Endpoint) -> Result<Self, Error> {
        let failed = |source| Error::Connect {
            authority: endpoint.to_string(),
            source,
        };
        let tcp = TcpStream::connect(endpoint.authority.as_str()).await;
        let tcp = tcp.map_err(failed)?;
        tcp.set_nodelay(true).map_err(failed)?;
        let (send, connection) = h2::client::Builder::new()
            .initial_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .enable_push(false)
            .handshake(tcp)
            .await
            .map_err(|source| Error::Handshake {
                authority: endpoint.to_string(),
                source,
            })?;
        // Its error reaches every operation of the connection, so nothing is lost by dropping it here.
        tokio::spawn(async move { drop(connection.await) });
        Ok(Self {
            send,
            origin: endpoint.origin(),
            token: None,
        })
    }

    /// Shows a token with each request.
    pub(crate) fn with_token(mut self, token: Option<HeaderValue>) -> Self {
        self.token = token;
        self
    }

    /// What the stubs take as origin.
    pub(crate) fn origin(&self) -> Uri {
        self.origin.clone()
    }
}

/// Opens `count` connections, dealt out to the endpoints in turn.
pub(crate) async fn connect_all(endpoints: &[Endpoint], count: usize) -> Result<Vec<Channel>, Error> {
    let mut channels = Vec::with_capacity(count);
    for endpoint in endpoints.iter().cycle().take(count) {
        channels.push(Channel::connect(endpoint).await?);
    }
    Ok(channels)
}

impl tower::Service<Request<tonic::body::Body>> for Channel {
    type Response = Response<Received>;
    type Error = h2::Error;
    type Future = Answer;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        self.send.poll_ready(cx)
    }

    fn call(&mut self, request: Request<tonic::body::Body>) -> Answer {
        let (mut parts, body) = request.into_parts();
        if let Some(token) = &self.token {
            parts.headers.insert("token", token.clone());
        }
        match self.send.send_request(Request::from_parts(parts, ()), false) {
            Ok((response, stream)) => Answer {
                state: Ok((response, Some((stream, body)))),
            },
            Err(error) => Answer {
                state: Err(Some(error)),
            },
        }
    }
}

/// The answer to come; the first poll hands the request's body over.
pub struct Answer {
    state: Result<(ResponseFuture, Option<Upload>), Option<h2::Error>>,
}

type Upload = (SendStream<Bytes>, tonic::body::Body);

impl Future for Answer {
    type Output = Result<Response<Received>, h2::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.state {
            Err(error) => Poll::Ready(Err(error.take().expect("a future is not polled after its end"))),
            Ok((response, upload)) => {
                if let Some((stream, body)) = upload.take() {
                    send_now(stream, body, cx)?;
                }
                let response = ready!(Pin::new(response).poll(cx))?;
                Poll::Ready(Ok(response.map(|stream| Received {
                    stream,
                    data_ended: false,
                })))
            }
        }
    }
}

/// Sends what the body has ready. A unary request is all there and goes as one frame that also ends the stream; what
/// is still to come gets a task.
fn send_now(
    mut stream: SendStream<Bytes>,
    mut body: tonic::body::Body,
    cx: &mut Context<'_>,
) -> Result<(), h2::Error> {
    let mut held: Option<Bytes> = None;
    loop {
        match Pin::new(&mut body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data()
                    && let Some(before) = held.replace(data)
                {
                    stream.send_data(before, false)?;
                }
            }
            Poll::Ready(Some(Err(_))) => {
                stream.send_reset(h2::Reason::CANCEL);
                return Ok(());
            }
            Poll::Ready(None) => return stream.send_data(held.unwrap_or_default(), true),
            Poll::Pending => {
                if let Some(data) = held {
                    stream.send_data(data, false)?;
                }
                // A failure to send shows on the answer's side too, which is where it is counted.
                tokio::spawn(async move { drop(feed(stream, body).await) });
                return Ok(());
            }
        }
    }
}

async fn feed(mut stream: SendStream<Bytes>, mut body: tonic::body::Body) -> Result<(), h2::Error> {
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        match frame.map(Frame::into_data) {
            Ok(Ok(data)) => stream.send_data(data, false)?,
            Ok(Err(_)) => {}
            Err(_) => {
                stream.send_reset(h2::Reason::CANCEL);
                return Ok(());
            }
        }
    }
    stream.send_data(Bytes::new(), true)
}

/// The body of an answer. Window is given back as soon as data is taken: reading is never held up here.
pub struct Received {
    stream: RecvStream,
    data_ended: bool,
}

impl http_body::Body for Received {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let this = &mut *self;
        if !this.data_ended {
            match ready!(this.stream.poll_data(cx)) {
                Some(Ok(data)) => {
                    this.stream.flow_control().release_capacity(data.len())?;
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => this.data_ended = true,
            }
        }
        let trailers = ready!(this.stream.poll_trailers(cx))?;
        Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_with_and_without_scheme() {
        for text in [
            "127.0.0.1:2379",
            "http://127.0.0.1:2379",
            "http://127.0.0.1:2379/",
        ] {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!(endpoint.origin(), "http://127.0.0.1:2379/");
        }
        assert_eq!(
            "[::1]:2379".parse::<Endpoint>().unwrap().to_string(),
            "[::1]:2379"
        );
    }

    #[test]
    fn what_is_no_endpoint() {
        assert_eq!("https://a:1".parse::<Endpoint>(), Err(EndpointError::Https));
        for text in ["", "a", ":2379", "a:x", "http://a:1/path", "u@a:1"] {
            assert_eq!(text.parse::<Endpoint>(), Err(EndpointError::Form), "{text}");
        }
    }
}

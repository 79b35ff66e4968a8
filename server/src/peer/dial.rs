//! Reaching a peer: a connection to one of its URLs, an HTTP/1.1 request over it, and what is left of it after an
//! upgrade.

use std::future::Future;
use std::io;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming as Body;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use store::env::Class;
use store::types::MemberId;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::handshake::{self, Identity, Refusal};
use crate::config::url::{Target, Url, UrlError};
use crate::listen::{Socket, Stream};
use crate::tls::Connector;

/// Why a peer was not reached.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    #[error(transparent)]
    Url(#[from] UrlError),
    #[error("cannot resolve the host")]
    Resolve(#[source] io::Error),
    #[error("cannot connect")]
    Connect(#[source] io::Error),
    #[error("this member has no certificate for TLS with others")]
    NoTls,
    #[error("no TLS")]
    Handshake(#[source] io::Error),
    #[error("no answer within {} ms", .0.as_millis())]
    Silent(Duration),
    #[error("HTTP failed")]
    Http(#[source] hyper::Error),
    #[error("the request cannot be written")]
    Request(#[from] http::Error),
    #[error("the answer is longer than {PAGE_BYTES_MAX} bytes")]
    TooLong,
    #[error("refused: {0}")]
    Refused(Refusal),
}

impl DialError {
    /// Whether the peer knows that this member was removed from the cluster.
    pub(super) fn is_removed(&self) -> bool {
        matches!(self, DialError::Refused(refusal) if refusal.status == StatusCode::GONE)
    }

    /// Whether the peer is there, but its store is not open yet.
    pub(super) fn is_starting(&self) -> bool {
        matches!(self, DialError::Refused(refusal) if refusal.status == StatusCode::SERVICE_UNAVAILABLE)
    }
}

/// A connection that left HTTP behind: the stream, and what was read beyond the answer.
pub(super) struct Upgraded {
    pub(super) stream: Stream,
    pub(super) before: Bytes,
}

/// Connects to `to` at `url` for messages of `class`.
pub(super) async fn upgrade(
    own: Identity,
    to: MemberId,
    class: Class,
    url: &Url,
    tls: Option<&Connector>,
) -> Result<Upgraded, DialError> {
    let request = handshake::request(own, to, class, &url.authority())?;
    let dialed = async {
        let answer = ask(url, tls, request).await?;
        match handshake::judge_answer(&answer, own, to) {
            Ok(()) => Ok(left_of(
                hyper::upgrade::on(answer).await.map_err(DialError::Http)?,
            )),
            Err(mut refusal) => {
                if refusal.text.is_empty() {
                    let text = String::from_utf8_lossy(&read_page(answer.into_body()).await?).into_owned();
                    text.trim().clone_into(&mut refusal.text);
                }
                Err(DialError::Refused(refusal))
            }
        }
    };
    within(DIAL_MAX, dialed).await
}

/// Asks the peer at `url` for a page, within `time`.
pub(super) async fn get(
    url: &Url,
    tls: Option<&Connector>,
    request: Request<String>,
    time: Duration,
) -> Result<Response<Bytes>, DialError> {
    let got = async {
        let (head, body) = ask(url, tls, request).await?.into_parts();
        Ok(Response::from_parts(head, read_page(body).await?))
    };
    within(time, got).await
}

/// Gets a page of the peer at `url`, within `time`.
pub(super) async fn page(
    url: &Url,
    tls: Option<&Connector>,
    path: &str,
    time: Duration,
) -> Result<Response<Bytes>, DialError> {
    call(Method::GET, url, tls, path, time).await
}

/// Asks the peer at `url` to do what `path` names, within `time`.
pub(super) async fn post(
    url: &Url,
    tls: Option<&Connector>,
    path: &str,
    time: Duration,
) -> Result<Response<Bytes>, DialError> {
    call(Method::POST, url, tls, path, time).await
}

async fn call(
    method: Method,
    url: &Url,
    tls: Option<&Connector>,
    path: &str,
    time: Duration,
) -> Result<Response<Bytes>, DialError> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(http::header::HOST, url.authority())
        .body(String::new())?;
    get(url, tls, request, time).await
}

/// What hyper leaves of a connection of ours.
pub(super) fn left_of(upgraded: hyper::upgrade::Upgraded) -> Upgraded {
    let parts = upgraded
        .downcast::<TokioIo<Stream>>()
        .expect("both sides hand hyper such a stream");
    Upgraded {
        stream: parts.io.into_inner(),
        before: parts.read_buf,
    }
}

async fn within<T>(time: Duration, what: impl Future<Output = Result<T, DialError>>) -> Result<T, DialError> {
    timeout(time, what).await.map_err(|_| DialError::Silent(time))?
}

async fn ask(
    url: &Url,
    tls: Option<&Connector>,
    request: Request<String>,
) -> Result<Response<Body>, DialError> {
    let stream = connect(url, tls).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(DialError::Http)?;
    // Ends with the answer's body or the upgrade.
    tokio::spawn(connection.with_upgrades());
    sender.send_request(request).await.map_err(DialError::Http)
}

/// Connects, and shakes hands where the URL asks for it.
async fn connect(url: &Url, tls: Option<&Connector>) -> Result<Stream, DialError> {
    let (socket, host) = match url.target()? {
        Target::Tcp(host, port) => (connect_tcp(host, port).await?, host),
        Target::Unix(path) => {
            let connected = timeout(CONNECT_MAX, UnixStream::connect(path)).await;
            let stream = connected.map_err(|_| DialError::Connect(io::ErrorKind::TimedOut.into()))?;
            (Socket::from(stream.map_err(DialError::Connect)?), "localhost")
        }
    };
    if !url.is_secure() {
        return Ok(Stream::Plain(socket));
    }
    let tls = tls.ok_or(DialError::NoTls)?;
    let stream = tls.connect(host, socket).await.map_err(DialError::Handshake)?;
    Ok(Stream::Tls(Box::new(stream.into())))
}

/// Host names are resolved anew each time; the first address that takes the connection is it.
async fn connect_tcp(host: &str, port: u16) -> Result<Socket, DialError> {
    let addresses = tokio::net::lookup_host((host, port))
        .await
        .map_err(DialError::Resolve)?;
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        let connected = match timeout(CONNECT_MAX, TcpStream::connect(address)).await {
            Ok(connected) => connected,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
        match connected.and_then(|stream| stream.set_nodelay(true).map(|()| stream)) {
            Ok(stream) => return Ok(stream.into()),
            Err(error) => last = error,
        }
    }
    Err(DialError::Connect(last))
}

async fn read_page(mut body: Body) -> Result<Bytes, DialError> {
    let mut page = BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Ok(mut data) = frame.map_err(DialError::Http)?.into_data() {
            if page.len() + data.len() > PAGE_BYTES_MAX {
                return Err(DialError::TooLong);
            }
            page.extend_from_slice(&data.copy_to_bytes(data.len()));
        }
    }
    Ok(page.freeze())
}

/// One address may take this long to accept.
const CONNECT_MAX: Duration = Duration::from_secs(1);
/// A whole attempt may take this long, resolution and handshake included.
const DIAL_MAX: Duration = Duration::from_secs(2);
/// A page of a peer: its list of members, or the reason of a refusal.
const PAGE_BYTES_MAX: usize = 1 << 20;

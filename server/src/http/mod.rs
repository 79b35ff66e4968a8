//! What is served over HTTP besides gRPC: probes, version, metrics, the JSON gateway and pages for debugging.
//!
//! A request to the client port passes, in etcd's order, the old name of the gateway's paths, the check of its host,
//! the headers for other origins, and the routes. The ports for metrics and for members have routes only.

use std::borrow::Cow;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use ::http::{HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header};
use bytes::Bytes;
use http_body_util::Full;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::{Frame, Incoming, SizeHint};

use crate::connection::{Entry, Role};
use crate::core::Core;
use crate::{gateway, metrics};

mod access;
mod debug;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod members;
mod path;
mod probes;
mod version;

pub(crate) use self::members::serve_peer;

/// The body of an answer.
pub(crate) enum Body {
    /// Known from the start.
    Whole(Full<Bytes>),
    /// Made while it is sent.
    Stream(UnsyncBoxBody<Bytes, Infallible>),
}

/// An answer that is known from the start.
type Page = Response<Full<Bytes>>;

/// Answers one request that is none of gRPC's.
pub(crate) async fn serve(core: Arc<Core>, entry: Entry, request: Request<Incoming>) -> Response<Body> {
    let Entry { role, plaintext } = entry;
    if role == Role::Metrics {
        let path = path::decoded(request.uri().path());
        let clean = path::cleaned(&path);
        if clean != path {
            return redirect(&request, &clean).map(Body::Whole);
        }
        let page = match debug::talkers(&core, &path, &request) {
            Some(page) => Some(page),
            None => pages(&core, &path, &request).await,
        };
        return match page {
            Some(page) => page.map(Body::Whole),
            None => not_found().map(Body::Whole),
        };
    }
    if role == Role::ClientGrpc || plaintext && request.version() == Version::HTTP_2 {
        // etcd takes every HTTP/2 connection without TLS for one of gRPC.
        return no_grpc(&request).map(Body::Whole);
    }
    let host = access::host(&request);
    if plaintext && !access::is_host_allowed(&core.http, &host) {
        tracing::warn!(%host, "rejecting HTTP request to prevent DNS rebinding attacks");
        return access::misdirected(&host).map(Body::Whole);
    }
    let allowed_origin = access::allowed_origin(&core.http, request.headers());
    let mut answer = match request.method() {
        &Method::OPTIONS => Response::new(Body::Whole(Full::default())),
        _ => route(core, request).await,
    };
    if let Some(origin) = allowed_origin {
        access::add_cors(answer.headers_mut(), origin);
    }
    answer
}

/// The routes of the client port.
async fn route(core: Arc<Core>, request: Request<Incoming>) -> Response<Body> {
    let given = path::decoded(request.uri().path());
    let path: Cow<'_, str> = match given.strip_prefix(OLD_GATEWAY) {
        Some(rest) => format!("{}{rest}", gateway::PREFIX).into(),
        None => Cow::Borrowed(&given),
    };
    let clean = path::cleaned(&path);
    if clean != path {
        return redirect(&request, &clean).map(Body::Whole);
    }
    if core.http.gateway && path.starts_with(gateway::PREFIX) {
        return gateway::serve(core, &path, request).await;
    }
    // A folder's name without its slash.
    let folder = format!("{path}/");
    if core.http.gateway && folder == gateway::PREFIX || debug::is_folder(&core, &folder) {
        return redirect(&request, &folder).map(Body::Whole);
    }
    if let Some(page) = pages(&core, &path, &request).await {
        return page.map(Body::Whole);
    }
    let page = match (path.as_ref(), request.method()) {
        ("/version", &Method::GET) => version::page(Some(&core.store)),
        ("/version", _) => method_not_allowed(),
        _ => debug::page(&core, &path, &request).unwrap_or_else(not_found),
    };
    page.map(Body::Whole)
}

/// The pages that the ports for clients and for metrics share.
async fn pages(core: &Core, path: &str, request: &Request<Incoming>) -> Option<Page> {
    if path == "/metrics" {
        return Some(page(metrics::PAGE_TYPE, metrics::page(core)));
    }
    probes::serve(core, path, request).await
}

fn page(content_type: &'static str, body: impl Into<Bytes>) -> Page {
    let mut page = Response::new(Full::new(body.into()));
    page.headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    page
}

/// A text that a browser shall not take for anything else.
pub(crate) fn plain(status: StatusCode, body: String) -> Page {
    let mut answer = page(PLAIN, body);
    *answer.status_mut() = status;
    answer.headers_mut().insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    answer
}

fn not_found() -> Page {
    plain(StatusCode::NOT_FOUND, "404 page not found\n".to_owned())
}

/// For pages that can only be read.
pub(crate) fn method_not_allowed() -> Page {
    let mut answer = plain(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n".to_owned());
    answer
        .headers_mut()
        .insert(header::ALLOW, HeaderValue::from_static("GET"));
    answer
}

/// Sends the client to `path` with its query, as Go's multiplexer does.
fn redirect<B>(request: &Request<B>, path: &str) -> Page {
    let path = path::encoded(path);
    let location = match request.uri().query() {
        Some(query) => format!("{path}?{query}"),
        None => path,
    };
    let mut answer = match *request.method() {
        Method::GET | Method::HEAD => page(
            "text/html; charset=utf-8",
            format!("<a href=\"{location}\">Temporary Redirect</a>.\n\n"),
        ),
        _ => Response::new(Full::default()),
    };
    *answer.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    if let Ok(location) = HeaderValue::from_str(&location) {
        answer.headers_mut().insert(header::LOCATION, location);
    }
    answer
}

/// What a gRPC server answers to a request that is none of gRPC's.
fn no_grpc<B>(request: &Request<B>) -> Page {
    let content_type = request.headers().get(header::CONTENT_TYPE);
    let content_type = String::from_utf8_lossy(content_type.map_or(b"", HeaderValue::as_bytes));
    let text = format!("invalid gRPC request content-type {content_type:?}");
    let status = tonic::Status::invalid_argument(text);
    let mut answer = status.into_http::<Full<Bytes>>();
    *answer.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    answer
}

/// The decoded parameters of a query in their order.
fn query(uri: &Uri) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    uri.query()
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (path::decoded_query(name), path::decoded_query(value)))
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Body::Whole(body) => Pin::new(body).poll_frame(context),
            Body::Stream(body) => Pin::new(body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Body::Whole(body) => body.is_end_stream(),
            Body::Stream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Whole(body) => body.size_hint(),
            Body::Stream(body) => body.size_hint(),
        }
    }
}

const PLAIN: &str = "text/plain; charset=utf-8";
/// The gateway's paths as they were in etcd 3.3.
const OLD_GATEWAY: &str = "/v3beta/";

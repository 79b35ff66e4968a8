//! The JSON gateway: every RPC that has a route, as a POST of JSON.
//!
//! A request's JSON becomes the bytes of a gRPC message, goes through the same entry as any call ([`grpc::serve_local`]:
//! gates, counters, bounds, handlers), and what comes back becomes JSON. Nothing here knows any RPC: names, kinds and
//! fields come from the descriptors of the protocol. Routes, shapes and status codes are those of etcd's gateway;
//! the texts about JSON that cannot be read are our own.
//!
//! A unary call answers with one object. A stream answers with one object a line, and takes objects one after
//! the other; over a WebSocket each object is a message. A client that leaves drops the call.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use tonic::{Code, Status};

use self::answers::{Answers, Line};
use self::call::Call;
use self::routes::Route;
use crate::core::Core;
use crate::http::{Body, plain};
use crate::listen::PeerIdentity;

mod answers;
mod call;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod json;
mod requests;
mod routes;
mod status;
mod websocket;

/// Answers a request to `path`, which begins with [`PREFIX`].
pub(crate) async fn serve(core: Arc<Core>, path: &str, request: Request<Incoming>) -> Response<Body> {
    if core.store.auth_enabled() && has_name(&request) {
        return plain(StatusCode::BAD_REQUEST, NAME_IGNORED.to_owned()).map(Body::Whole);
    }
    if websocket::is_upgrade(request.headers()) {
        return websocket::accept(core, path, request);
    }
    let route = match find(path, request.method()) {
        Ok(route) => route,
        Err(status) => return refuse(&status),
    };
    let (parts, body) = request.into_parts();
    let call = match Call::new(core, route, &parts.headers, &parts.extensions) {
        Ok(call) => call,
        Err(status) => return refuse(&status),
    };
    let chunks = body.into_data_stream().map(|chunk| chunk.map_err(|_| ())).boxed();
    if call.route.answers_stream() {
        stream(call, chunks).await
    } else {
        unary(call, chunks).await
    }
}

/// Whether the client has come with a certificate that names a user. Here it would be none, which the client should hear
/// rather than be somebody else: in etcd the gateway is a client itself, and the name would be its own (CVE-2018-16886).
fn has_name(request: &Request<Incoming>) -> bool {
    let peer = request.extensions().get::<Arc<PeerIdentity>>();
    let name = peer.and_then(|peer| peer.common_name.as_deref());
    name.is_some_and(|name| !name.is_empty())
}

/// The route of `path`; else what the client is told about it.
fn find(path: &str, method: &Method) -> Result<&'static Route, Status> {
    match routes::find(path) {
        Some(route) if method == Method::POST => Ok(route),
        Some(_) => Err(Status::unimplemented("Method Not Allowed")),
        None => Err(Status::not_found("Not Found")),
    }
}

async fn unary(call: Call, chunks: requests::Chunks) -> Response<Body> {
    let core = call.core.clone();
    match call.unary(chunks).await {
        Ok(json) => {
            let mut answer = whole(StatusCode::OK, core.answers.hold_data(json));
            answer.headers_mut().insert(METADATA_TYPE, GRPC);
            answer
        }
        Err(status) => refuse(&status),
    }
}

/// The first line decides about the head of the answer, so the answer begins with it.
async fn stream(call: Call, chunks: requests::Chunks) -> Response<Body> {
    let mut answers = match call.stream(chunks).await {
        Ok(answers) => answers,
        Err(status) => return refuse(&status),
    };
    match answers.next().await {
        Some(Line::Result(first)) => {
            let mut answer = Response::new(lines(first, answers));
            answer.headers_mut().insert(header::CONTENT_TYPE, JSON);
            answer.headers_mut().insert(METADATA_TYPE, GRPC);
            answer
        }
        Some(Line::Error(status)) => {
            let mut answer = refuse(&status);
            *answer.body_mut() = Body::Whole(Full::new(status::line(&status)));
            answer
        }
        None => Response::new(Body::Whole(Full::default())),
    }
}

fn lines(first: Bytes, rest: Answers) -> Body {
    let rest = rest.map(|line| match line {
        Line::Result(line) => line,
        Line::Error(status) => status::line(&status),
    });
    let lines = futures_util::stream::iter([first]).chain(rest);
    let frames = lines.map(|line| Ok(Frame::data(line)));
    Body::Stream(UnsyncBoxBody::new(StreamBody::new(frames)))
}

/// An error before anything was answered.
fn refuse(status: &Status) -> Response<Body> {
    let mut answer = whole(status::http_code(status.code()), status::object(status).into());
    if status.code() == Code::Unauthenticated
        && let Ok(text) = HeaderValue::from_str(status.message())
    {
        answer.headers_mut().insert(header::WWW_AUTHENTICATE, text);
    }
    answer
}

fn whole(code: StatusCode, json: Bytes) -> Response<Body> {
    let mut answer = Response::new(Body::Whole(Full::new(json)));
    *answer.status_mut() = code;
    answer.headers_mut().insert(header::CONTENT_TYPE, JSON);
    answer
}

/// etcd's words.
const NAME_IGNORED: &str =
    "CommonName of client sending a request against gateway will be ignored and not used as expected\n";
/// What all paths of the gateway begin with.
pub(crate) const PREFIX: &str = "/v3/";
const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// The type of gRPC's answer, as the one header of it that reaches the client.
const METADATA_TYPE: HeaderName = HeaderName::from_static("grpc-metadata-content-type");
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

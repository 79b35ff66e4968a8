//! The Kubernetes API over HTTP: the router, and what happens to a request on its way to the engine.
//!
//! | file | what |
//! | --- | --- |
//! | `request` | the path and the query |
//! | `gates` | authentication, authorisation, admission |
//! | `verbs`, `lists`, `watches`, `patches` | what is done |
//! | `questions` | reviews and tokens, which are stored nowhere |
//! | `body`, `answer` | what comes in and goes out |
//! | `discovery`, `openapi` | what there is, in documents |

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::routing::{any, get};
use http::{HeaderMap, Response, StatusCode, Uri, header};
use tokio::sync::Semaphore;

use self::request::Verb;
use self::verbs::Work;
use crate::engine::Engine;
use crate::status::{Reason, Status};

mod answer;
mod body;
pub mod discovery;
mod evictions;
mod gates;
mod lists;
pub mod openapi;
mod patches;
mod questions;
mod request;
mod verbs;
mod watches;

/// The router of an engine. It may be served by any number of connections.
pub fn router(engine: Engine) -> Router {
    let probes = ["/healthz", "/livez", "/readyz"];
    let mut router = Router::new();
    for probe in probes {
        router = router
            .route(probe, get(probed))
            .route(&format!("{probe}/{{*check}}"), get(probed));
    }
    router
        .route("/", get(paths))
        .route("/version", get(version))
        .route("/version/", get(version))
        .route("/openapi/v2", get(openapi_v2))
        .route("/openapi/v3", get(openapi_index))
        .route("/openapi/v3/{*path}", get(openapi_document))
        .route("/api", get(api))
        .route("/api/", get(api))
        .route("/apis", get(apis))
        .route("/apis/", get(apis))
        .route("/api/{*path}", any(resources))
        .route("/apis/{*path}", any(resources))
        .fallback(nothing)
        .with_state(engine)
}

/// Ready means that the store can be asked.
async fn probed(State(engine): State<Engine>) -> Response<Body> {
    let default = match crate::resources::find("", "v1", "namespaces") {
        Some(namespaces) => engine.get(namespaces, "", "default").await,
        None => Err(Status::no_such_resource()),
    };
    // It may have been deleted; that is an answer too.
    let asked = default.map_or_else(|refusal| refusal.reason == Reason::NotFound, |_| true);
    match asked {
        true => answer::typed(StatusCode::OK, "text/plain; charset=utf-8", "ok"),
        false => answer::typed(
            StatusCode::INTERNAL_SERVER_ERROR,
            "text/plain; charset=utf-8",
            "[-]etcd failed: the store cannot be asked\nhealthz check failed",
        ),
    }
}

/// All paths that are not below a group's version.
async fn paths() -> Response<Body> {
    let mut paths: Vec<String> = PATHS.iter().map(|path| (*path).to_owned()).collect();
    for (group, versions) in crate::resources::groups() {
        if group.is_empty() {
            continue;
        }
        paths.push(format!("/apis/{group}"));
        paths.extend(versions.iter().map(|version| format!("/apis/{group}/{version}")));
    }
    paths.sort();
    answer::json(StatusCode::OK, serde_json::json!({ "paths": paths }).to_string())
}

async fn version() -> Response<Body> {
    answer::json(StatusCode::OK, discovery::version().to_string())
}

async fn api(headers: HeaderMap) -> Response<Body> {
    documented(&discovery::root(true, accept(&headers)), &headers)
}

async fn apis(headers: HeaderMap) -> Response<Body> {
    documented(&discovery::root(false, accept(&headers)), &headers)
}

async fn openapi_v2(headers: HeaderMap) -> Response<Body> {
    match openapi::v2(accept(&headers)) {
        Some(document) => documented(&document, &headers),
        None => answer::typed(
            StatusCode::NOT_ACCEPTABLE,
            "text/plain; charset=utf-8",
            "406 not acceptable\n",
        ),
    }
}

async fn openapi_index(headers: HeaderMap) -> Response<Body> {
    documented(&openapi::index(), &headers)
}

async fn openapi_document(uri: Uri, headers: HeaderMap) -> Response<Body> {
    let path = uri.path().trim_start_matches("/openapi/v3/");
    match openapi::document(path) {
        Some(document) => documented(&document, &headers),
        None => nothing().await,
    }
}

fn documented(document: &discovery::Document, headers: &HeaderMap) -> Response<Body> {
    answer::document(headers, document.content_type, &document.etag, &document.bytes)
}

fn accept(headers: &HeaderMap) -> &str {
    let accept = headers.get(header::ACCEPT);
    accept.and_then(|value| value.to_str().ok()).unwrap_or_default()
}

async fn nothing() -> Response<Body> {
    answer::typed(
        StatusCode::NOT_FOUND,
        "text/plain; charset=utf-8",
        "404 page not found\n",
    )
}

/// Everything below a group's version.
async fn resources(State(engine): State<Engine>, request: Request) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let parts = match path.strip_prefix("/api/") {
        Some(rest) => Some(("", rest)),
        None => path.strip_prefix("/apis/").and_then(|rest| rest.split_once('/')),
    };
    // A group alone.
    let Some((group, rest)) = parts else {
        let group = path.trim_start_matches("/apis/");
        return match discovery::group(group) {
            Some(document) => documented(&document, request.headers()),
            None => nothing().await,
        };
    };
    let (version, rest) = rest.split_once('/').unwrap_or((rest, ""));
    if version.is_empty() || rest.is_empty() {
        let found = match version {
            "" => discovery::group(group),
            version => discovery::resources(group, version),
        };
        return match found {
            Some(document) => documented(&document, request.headers()),
            None if is_served(group) => answer::refusal(&Status::no_such_resource()),
            None => nothing().await,
        };
    }
    if !is_served(group) {
        return nothing().await;
    }
    match serve(&engine, group, version, rest, request).await {
        Ok(response) => response,
        Err(status) => answer::refusal(&status),
    }
}

fn is_served(group: &str) -> bool {
    let groups = crate::resources::groups();
    groups.iter().any(|(known, _)| *known == group)
}

async fn serve(
    engine: &Engine,
    group: &str,
    version: &str,
    rest: &str,
    request: Request,
) -> Result<Response<Body>, Status> {
    let (parts, body) = request.into_parts();
    let user = gates::authenticate(&parts.headers)?;
    let asked = request::Request::parse(&parts.method, group, version, rest, parts.uri.query())?;
    gates::authorise(&user, &asked)?;
    let work = Work {
        engine,
        user: &user,
        request: &asked,
        headers: &parts.headers,
    };
    let done = work.done(body);
    let answered = match asked.verb {
        // What is long is its body.
        Verb::Watch => done.await,
        _ => in_time(done).await,
    };
    match asked.resource.deprecation() {
        None => answered,
        Some(told) => {
            let response = answered.unwrap_or_else(|status| answer::refusal(&status));
            Ok(answer::warn(response, &[told.to_owned()]))
        }
    }
}

/// The answer of work that has a seat and an end.
async fn in_time(
    work: impl Future<Output = Result<Response<Body>, Status>>,
) -> Result<Response<Body>, Status> {
    let Ok(_seat) = SEATS.try_acquire() else {
        let text = "Too many requests, please try again later.";
        return Err(Status::new(Reason::TooManyRequests, text).retry_after(1));
    };
    match tokio::time::timeout(REQUEST_MAX, work).await {
        Ok(answered) => answered,
        Err(_) => Err(Status::new(
            Reason::Timeout,
            "Timeout: request did not complete within the allotted timeout",
        )),
    }
}

const PATHS: &[&str] = &[
    "/api",
    "/api/v1",
    "/apis",
    "/apis/",
    "/healthz",
    "/healthz/ping",
    "/livez",
    "/livez/ping",
    "/openapi/v2",
    "/openapi/v3",
    "/openapi/v3/",
    "/readyz",
    "/readyz/ping",
    "/version",
];
/// Requests at work at once in this process, watches not counted: each may hold an object, or a page of them. As many as a
/// real server has by default.
const REQUESTS_MAX: usize = 600;
static SEATS: Semaphore = Semaphore::const_new(REQUESTS_MAX);
/// As long as a real server works on a request.
const REQUEST_MAX: Duration = Duration::from_secs(60);

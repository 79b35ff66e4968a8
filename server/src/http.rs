//! Plain HTTP: health probes, version and metrics.

use ::http::{HeaderValue, Method, Request, Response, StatusCode, header};
use bytes::Bytes;
use http_body_util::Full;
use proto::etcdserverpb::{AlarmType, RangeRequest};
use store::Store;

use crate::config::{ETCD_VERSION, STORAGE_VERSION};
use crate::connection::Role;
use crate::core::Core;
use crate::grpc::status;
use crate::metrics;
use crate::peer::CLUSTER;

type Answer = Response<Full<Bytes>>;

/// Answers one request by its path and the listener it came in by.
pub(crate) async fn serve<B>(core: &Core, role: Role, request: &Request<B>) -> Answer {
    let query = Query::parse(request.uri().query().unwrap_or_default());
    let path = request.uri().path();
    if role == Role::Metrics && path == "/version" {
        return not_found();
    }
    let probe = path.strip_prefix("/livez").map(|rest| (LIVE, rest));
    let probe = probe.or_else(|| path.strip_prefix("/readyz").map(|rest| (READY, rest)));
    match (path, probe) {
        _ if request.method() != Method::GET && is_known(path) => method_not_allowed(),
        ("/health", _) => health(core, &query).await,
        ("/version", _) => version(Some(&core.store)),
        ("/metrics", _) => page(metrics::PAGE_TYPE, metrics::page(core)),
        (_, Some((checks, ""))) => {
            let chosen: Vec<Check> = checks
                .iter()
                .copied()
                .filter(|check| !query.excludes(check.name()))
                .collect();
            probe_answer(core, probe_name(path), &chosen, query.verbose).await
        }
        (_, Some((checks, rest))) => match checks
            .iter()
            .find(|check| rest.strip_prefix('/') == Some(check.name()))
        {
            Some(&check) => probe_answer(core, probe_name(path), &[check], query.verbose).await,
            None => not_found(),
        },
        _ => not_found(),
    }
}

/// Answers one request to the peer port; there may be no store yet.
pub(crate) async fn serve_peer<B>(store: Option<&Store>, request: &Request<B>) -> Answer {
    match (request.uri().path(), store) {
        ("/version", _) if request.method() != Method::GET => method_not_allowed(),
        ("/version", _) => version(store),
        ("/members", Some(store)) => members(store).await,
        ("/members", None) => plain(
            StatusCode::SERVICE_UNAVAILABLE,
            "the member is starting\n".to_owned(),
        ),
        _ => not_found(),
    }
}

fn is_known(path: &str) -> bool {
    matches!(path, "/health" | "/version") || path.starts_with("/livez") || path.starts_with("/readyz")
}

/// What a probe asked for.
#[derive(PartialEq, Eq, Debug, Default)]
struct Query {
    exclude: Vec<String>,
    serializable: bool,
    verbose: bool,
}

impl Query {
    fn parse(text: &str) -> Query {
        let mut query = Query::default();
        for pair in text.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match name {
                "exclude" => query.exclude.push(value.to_owned()),
                "serializable" => query.serializable = value == "true",
                "verbose" => query.verbose = true,
                _ => {}
            }
        }
        query
    }

    fn excludes(&self, name: &str) -> bool {
        self.exclude.iter().any(|excluded| excluded == name)
    }
}

/// The old probe: alarms, then the leader, then a read.
async fn health(core: &Core, query: &Query) -> Answer {
    let reason = match sick(&core.store.status(), query) {
        Some(reason) => reason,
        None => match read(core, query.serializable).await {
            Ok(()) => String::new(),
            Err(text) => format!("RANGE ERROR:{text}"),
        },
    };
    core.health.count(reason.is_empty());
    let body = serde_json::json!({ "health": reason.is_empty().to_string(), "reason": reason }).to_string();
    if reason.is_empty() {
        plain(StatusCode::OK, body)
    } else {
        tracing::warn!(reason, "a health probe failed");
        plain(StatusCode::SERVICE_UNAVAILABLE, format!("{body}\n"))
    }
}

/// What alone makes the member unhealthy, without asking it to work.
fn sick(status: &store::shell::Status, query: &Query) -> Option<String> {
    for alarm in &status.alarms {
        let name = AlarmType::try_from(alarm.alarm).map_or("UNKNOWN", |kind| kind.as_str_name());
        if name != "NONE" && !query.excludes(name) {
            return Some(format!("ALARM {name}"));
        }
    }
    (!query.serializable && status.leader.0 == 0).then(|| "RAFT NO LEADER".to_owned())
}

/// One check of the newer probes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Check {
    DataCorruption,
    SerializableRead,
    LinearizableRead,
    NonLearner,
}

impl Check {
    fn name(self) -> &'static str {
        match self {
            Check::DataCorruption => "data_corruption",
            Check::SerializableRead => "serializable_read",
            Check::LinearizableRead => "linearizable_read",
            Check::NonLearner => "non_learner",
        }
    }

    async fn run(self, core: &Core) -> Result<(), String> {
        match self {
            Check::SerializableRead => read(core, true).await,
            Check::LinearizableRead => read(core, false).await,
            Check::DataCorruption => {
                let corrupt = AlarmType::Corrupt as i32;
                match core
                    .store
                    .status()
                    .alarms
                    .iter()
                    .any(|alarm| alarm.alarm == corrupt)
                {
                    true => Err("alarm activated: CORRUPT".to_owned()),
                    false => Ok(()),
                }
            }
            Check::NonLearner => match core.store.status().is_learner {
                true => Err("not supported for learner".to_owned()),
                false => Ok(()),
            },
        }
    }
}

/// The label `type` of a probe's metrics.
fn probe_name(path: &str) -> &'static str {
    if path.starts_with("/livez") {
        "livez"
    } else {
        "readyz"
    }
}

async fn probe_answer(core: &Core, probe: &'static str, checks: &[Check], verbose: bool) -> Answer {
    let mut results = Vec::with_capacity(checks.len());
    for check in checks {
        let result = check.run(core).await;
        core.health.check(probe, check.name(), result.is_ok());
        results.push((check.name(), result));
    }
    let (status, text) = probe_text(&results, verbose);
    if status != StatusCode::OK {
        tracing::warn!(result = text, "a probe failed");
    }
    plain(status, text)
}

fn probe_text(results: &[(&str, Result<(), String>)], verbose: bool) -> (StatusCode, String) {
    let lines: String = results
        .iter()
        .map(|(name, result)| match result {
            Ok(()) => format!("[+]{name} ok\n"),
            Err(text) => format!("[-]{name} failed: {text}\n"),
        })
        .collect();
    if results.iter().any(|(_, result)| result.is_err()) {
        (StatusCode::SERVICE_UNAVAILABLE, format!("{lines}\n"))
    } else if verbose {
        (StatusCode::OK, format!("{lines}ok\n"))
    } else {
        (StatusCode::OK, "ok\n".to_owned())
    }
}

/// Any read will do: what counts is that it is answered.
async fn read(core: &Core, serializable: bool) -> Result<(), String> {
    let request = RangeRequest {
        key: Bytes::from_static(b"health"),
        keys_only: true,
        limit: 1,
        serializable,
        ..RangeRequest::default()
    };
    match core.store.range(request).await {
        Ok(_) => Ok(()),
        Err(error) => Err(status::of(&error).message().to_owned()),
    }
}

fn version(store: Option<&Store>) -> Answer {
    let cluster = store.and_then(|store| store.status().cluster_version);
    let storage = if cluster.is_some() {
        STORAGE_VERSION
    } else {
        "unknown"
    };
    let cluster = cluster.map_or("not_decided".to_owned(), |version| {
        metrics::full_version(&version)
    });
    page(
        "application/json",
        format!(
            "{{\"etcdserver\":\"{ETCD_VERSION}\",\"etcdcluster\":\"{cluster}\",\"storage\":\"{storage}\"}}"
        ),
    )
}

/// The members as a joining member asks for them.
async fn members(store: &Store) -> Answer {
    let list = match store.member_list(false).await {
        Ok(list) => list.members,
        Err(error) => {
            return plain(
                StatusCode::SERVICE_UNAVAILABLE,
                format!("{}\n", status::of(&error).message()),
            );
        }
    };
    let members: Vec<_> = list
        .iter()
        .map(|member| {
            serde_json::json!({
                "id": member.id,
                "peerURLs": member.peer_urls,
                "name": member.name,
                "clientURLs": member.client_urls,
                "isLearner": member.is_learner,
            })
        })
        .collect();
    let mut answer = page(
        "application/json",
        format!("{}\n", serde_json::Value::from(members)),
    );
    if let Ok(id) = HeaderValue::from_str(&store.cluster_id().to_string()) {
        answer.headers_mut().insert(CLUSTER, id);
    }
    answer
}

fn page(content_type: &'static str, body: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    answer
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

pub(crate) fn plain(status: StatusCode, body: String) -> Answer {
    let mut answer = page("text/plain; charset=utf-8", body);
    *answer.status_mut() = status;
    answer.headers_mut().insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    answer
}

fn not_found() -> Answer {
    plain(StatusCode::NOT_FOUND, "404 page not found\n".to_owned())
}

pub(crate) fn method_not_allowed() -> Answer {
    let mut answer = plain(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n".to_owned());
    answer
        .headers_mut()
        .insert(header::ALLOW, HeaderValue::from_static("GET"));
    answer
}

/// The checks of /livez.
const LIVE: &[Check] = &[Check::SerializableRead];
/// The checks of /readyz.
const READY: &[Check] = &[
    Check::DataCorruption,
    Check::SerializableRead,
    Check::LinearizableRead,
    Check::NonLearner,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_read() {
        let query = Query::parse("exclude=NOSPACE&exclude=CORRUPT&serializable=true&verbose&x=1");
        assert!(query.excludes("NOSPACE") && query.excludes("CORRUPT") && !query.excludes("x"));
        assert!(query.serializable && query.verbose);
        assert_eq!(Query::parse(""), Query::default());
    }

    #[test]
    fn probes_speak_as_etcds() {
        let good = [("a", Ok(())), ("b", Ok(()))];
        assert_eq!(probe_text(&good, false), (StatusCode::OK, "ok\n".to_owned()));
        assert_eq!(
            probe_text(&good, true),
            (StatusCode::OK, "[+]a ok\n[+]b ok\nok\n".to_owned())
        );
        let bad = [("a", Ok(())), ("b", Err("text".to_owned()))];
        for verbose in [false, true] {
            let text = "[+]a ok\n[-]b failed: text\n\n".to_owned();
            assert_eq!(probe_text(&bad, verbose), (StatusCode::SERVICE_UNAVAILABLE, text));
        }
        assert_eq!(probe_text(&[], true), (StatusCode::OK, "ok\n".to_owned()));
    }
}

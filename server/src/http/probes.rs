//! Health probes: `/health`, and the newer `/livez` and `/readyz` with a page for each of their checks.

use std::collections::BTreeSet;

use ::http::{Method, Request, StatusCode};
use bytes::Bytes;
use proto::etcdserverpb::{AlarmType, RangeRequest};

use super::{PLAIN, Page, method_not_allowed, page, plain, query};
use crate::core::Core;
use crate::grpc::status;

/// Answers `request` to `path` if it is a probe.
pub(super) async fn serve<B>(core: &Core, path: &str, request: &Request<B>) -> Option<Page> {
    let probe = find(path)?;
    if request.method() != Method::GET {
        tracing::warn!(path, "status-code" = 405, "Health request error");
        return Some(method_not_allowed());
    }
    let asked = Asked::of(request);
    Some(match probe {
        Probe::Health => health(core, &asked).await,
        Probe::Checks(checks) => {
            let (chosen, unknown) = asked.choose(checks);
            if !unknown.is_empty() {
                let names: Vec<String> = unknown.iter().map(|name| format!("{name:?}")).collect();
                tracing::warn!(
                    "missing-health-checks" = names.join(","),
                    "some health checks cannot be excluded"
                );
            }
            run(core, path, &chosen, asked.verbose).await
        }
        Probe::Check(check) => run(core, path, &[check], asked.verbose).await,
    })
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Probe {
    Health,
    Checks(&'static [Check]),
    Check(Check),
}

fn find(path: &str) -> Option<Probe> {
    if path == "/health" {
        return Some(Probe::Health);
    }
    let live = path.strip_prefix("/livez").map(|rest| (LIVE, rest));
    let (checks, rest) = live.or_else(|| path.strip_prefix("/readyz").map(|rest| (READY, rest)))?;
    if rest.is_empty() {
        return Some(Probe::Checks(checks));
    }
    let name = rest.strip_prefix('/')?;
    let check = checks.iter().find(|check| check.name() == name);
    check.map(|&check| Probe::Check(check))
}

/// What a probe asked for.
#[derive(PartialEq, Eq, Debug, Default)]
struct Asked {
    exclude: BTreeSet<String>,
    serializable: bool,
    verbose: bool,
}

impl Asked {
    fn of<B>(request: &Request<B>) -> Asked {
        let mut asked = Asked::default();
        let mut serializable = None;
        for (name, value) in query(request.uri()) {
            match name.as_ref() {
                "exclude" if !value.is_empty() => drop(asked.exclude.insert(value.into_owned())),
                // The first one counts.
                "serializable" => drop(serializable.get_or_insert(value == "true")),
                "verbose" => asked.verbose = true,
                _ => {}
            }
        }
        asked.serializable = serializable.unwrap_or(false);
        asked
    }

    /// Those of `checks` that are not excluded, and what was to be excluded and is none of them.
    fn choose(&self, checks: &[Check]) -> (Vec<Check>, Vec<&str>) {
        let is_excluded = |check: &&Check| self.exclude.contains(check.name());
        let chosen = checks.iter().filter(|check| !is_excluded(check)).copied();
        let unknown = self.exclude.iter().map(String::as_str);
        let unknown = unknown.filter(|name| checks.iter().all(|check| check.name() != *name));
        (chosen.collect(), unknown.collect())
    }
}

/// The old probe: alarms, then the leader, then a read.
async fn health(core: &Core, asked: &Asked) -> Page {
    let reason = match sick(&core.store.status(), asked) {
        Some(reason) => reason,
        None => match read(core, asked.serializable).await {
            Ok(()) => String::new(),
            Err(error) => {
                tracing::warn!(error, "serving /health false; Range fails");
                format!("RANGE ERROR:{error}")
            }
        },
    };
    core.health.count(reason.is_empty());
    let text = serde_json::Value::from(reason.as_str());
    let output = format!("{{\"health\":\"{}\",\"reason\":{text}}}", reason.is_empty());
    if reason.is_empty() {
        page(PLAIN, output)
    } else {
        tracing::warn!(output, "status-code" = 503, "/health error");
        plain(StatusCode::SERVICE_UNAVAILABLE, format!("{output}\n"))
    }
}

/// What alone makes the member unhealthy, without asking it to work.
fn sick(status: &store::shell::Status, asked: &Asked) -> Option<String> {
    for alarm in &status.alarms {
        let name = AlarmType::try_from(alarm.alarm).map_or("UNKNOWN", |kind| kind.as_str_name());
        if name != "NONE" && !asked.exclude.contains(name) {
            tracing::warn!(alarm = name, "serving /health false due to an alarm");
            return Some(format!("ALARM {name}"));
        }
    }
    if !asked.serializable && status.leader.0 == 0 {
        tracing::warn!("serving /health false; no leader");
        return Some("RAFT NO LEADER".to_owned());
    }
    None
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
                let alarms = core.store.status().alarms;
                match alarms.iter().any(|alarm| alarm.alarm == corrupt) {
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

async fn run(core: &Core, path: &str, checks: &[Check], verbose: bool) -> Page {
    let mut results = Vec::with_capacity(checks.len());
    for check in checks {
        let result = check.run(core).await;
        core.health.check(probe_name(path), check.name(), result.is_ok());
        results.push((check.name(), result));
    }
    let (status, text) = text(&results, verbose);
    if status != StatusCode::OK {
        let reason = text.trim_end();
        tracing::error!(path, reason, "status-code" = 503, "Health check error");
    }
    plain(status, text)
}

fn text(results: &[(&str, Result<(), String>)], verbose: bool) -> (StatusCode, String) {
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

    fn asked(uri: &str) -> Asked {
        Asked::of(&Request::builder().uri(uri).body(()).unwrap())
    }

    #[test]
    fn paths_lead_to_their_checks() {
        assert_eq!(find("/health"), Some(Probe::Health));
        assert_eq!(find("/livez"), Some(Probe::Checks(LIVE)));
        assert_eq!(find("/readyz/non_learner"), Some(Probe::Check(Check::NonLearner)));
        for path in [
            "/health/",
            "/livez/",
            "/livez/non_learner",
            "/livezz",
            "/readyz/x",
            "/",
        ] {
            assert_eq!(find(path), None, "{path}");
        }
    }

    #[test]
    fn queries_are_read() {
        let all =
            asked("/x?exclude=NOSPACE&exclude=COR%52UPT&serializable=true&serializable=false&verbose&x=1");
        assert!(all.exclude.contains("NOSPACE") && all.exclude.contains("CORRUPT"));
        assert!(all.serializable && all.verbose);
        assert_eq!(asked("/x"), Asked::default());
        assert_eq!(asked("/x?exclude=&serializable=1"), Asked::default());
    }

    #[test]
    fn only_known_checks_are_excluded() {
        let asked = asked("/readyz?exclude=non_learner&exclude=data_corruption&exclude=nope");
        let (chosen, unknown) = asked.choose(READY);
        assert_eq!(chosen, [Check::SerializableRead, Check::LinearizableRead]);
        assert_eq!(unknown, ["nope"]);
    }

    #[test]
    fn probes_speak_as_etcds() {
        let good = [("a", Ok(())), ("b", Ok(()))];
        assert_eq!(text(&good, false), (StatusCode::OK, "ok\n".to_owned()));
        assert_eq!(
            text(&good, true),
            (StatusCode::OK, "[+]a ok\n[+]b ok\nok\n".to_owned())
        );
        let bad = [("a", Ok(())), ("b", Err("text".to_owned()))];
        for verbose in [false, true] {
            let expected = "[+]a ok\n[-]b failed: text\n\n".to_owned();
            assert_eq!(text(&bad, verbose), (StatusCode::SERVICE_UNAVAILABLE, expected));
        }
        assert_eq!(text(&[], true), (StatusCode::OK, "ok\n".to_owned()));
    }
}

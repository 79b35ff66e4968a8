//! How clients are served: connections, HTTP, slow requests, automatic compaction.

use std::path::PathBuf;
use std::time::Duration;

use super::number::parse_signed;
use super::raw::Raw;
use super::{Refusal, check, duration, url};

/// Limits of one client connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectionSettings {
    pub(crate) streams_max: u32,
    /// A received message may have this many bytes.
    pub(crate) message_bytes_max: usize,
    /// Idle time before the client is pinged, and its time to answer; `None` if it is never pinged.
    pub(crate) keepalive: Option<(Duration, Duration)>,
    /// A client that pings more often is sent away.
    pub(crate) ping_min_interval: Duration,
}

/// What HTTP serves, and to whom.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct HttpSettings {
    /// The JSON gateway.
    pub(crate) gateway: bool,
    /// `/debug/pprof`.
    pub(crate) pprof: bool,
    /// What etcd serves at log level debug.
    pub(crate) debug: bool,
    /// Origins that browsers may come from; `*` is any.
    pub(crate) cors: Vec<String>,
    /// Hosts that requests in plaintext may name; `*` is any.
    pub(crate) host_whitelist: Vec<String>,
}

/// Who is watched, and how.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct AuditSettings {
    /// Where the audit log goes, if there is one.
    pub(crate) output: Option<AuditOutput>,
    pub(crate) scope: AuditScope,
    /// Whether the top talkers are found out.
    pub(crate) talkers: bool,
}

/// Where the audit log goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum AuditOutput {
    Stderr,
    File(PathBuf),
}

/// What is in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum AuditScope {
    All,
    /// Everything but reads.
    Writes,
    /// Users and roles, members, maintenance.
    Admin,
}

/// What is logged as slow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SlowSettings {
    /// The application of one request.
    pub(crate) apply: Duration,
    /// A unary request from its arrival to its answer.
    pub(crate) request: Duration,
}

/// When the leader compacts by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum AutoCompaction {
    Off,
    /// History of this length is kept.
    Periodic(Duration),
    /// This many revisions are kept.
    Revision(i64),
}

impl AutoCompaction {
    /// Reads mode and retention as etcd does: a bare number counts hours or revisions, anything else is a duration,
    /// which as a number of revisions counts its nanoseconds.
    pub(super) fn read(mode: &str, retention: &str) -> Result<AutoCompaction, String> {
        let retention = if retention.is_empty() { "0" } else { retention };
        let periodic = mode == "periodic";
        let bare = retention.strip_prefix('+').unwrap_or(retention);
        let number = bare.parse::<i64>().ok().filter(|&number| number >= 0);
        let amount = match number {
            Some(hours) if periodic => hours
                .checked_mul(HOUR_NANOS)
                .ok_or_else(|| format!("--auto-compaction-retention {retention} is too long"))?,
            Some(revisions) => revisions,
            None => duration::parse_nanos(retention)
                .map_err(|error| format!("error parsing CompactionRetention: {error}"))?,
        };
        let Ok(size) = u64::try_from(amount) else {
            return Err(format!(
                "--auto-compaction-retention {retention} must not be negative"
            ));
        };
        Ok(match (amount, periodic) {
            (0, _) => AutoCompaction::Off,
            (_, true) => AutoCompaction::Periodic(Duration::from_nanos(size)),
            (revisions, false) => AutoCompaction::Revision(revisions),
        })
    }
}

pub(super) fn check_compaction_mode(raw: &Raw) -> Result<(), Refusal> {
    match raw.get("auto-compaction-mode") {
        "periodic" | "revision" => Ok(()),
        "" => Err(check("undefined auto-compaction-mode")),
        other => Err(check(format!("unknown auto-compaction-mode {other:?}"))),
    }
}

pub(super) fn check_tracing(raw: &Raw) -> Result<(), Refusal> {
    let rate = parse_signed(raw.get("distributed-tracing-sampling-rate")).unwrap_or(0);
    let reason = match rate {
        _ if !raw.flag("enable-distributed-tracing") => return Ok(()),
        ..0 => "tracing sampling rate must be positive",
        0..=1_000_000 => return Ok(()),
        _ => "tracing sampling rate must be less than 1000000",
    };
    Err(check(format!(
        "distributed tracing configurition is not valid: ({reason})"
    )))
}

pub(super) fn http(raw: &Raw) -> HttpSettings {
    let unique = |name| {
        let mut all: Vec<String> = raw.get(name).split(',').map(str::to_owned).collect();
        all.sort();
        all.dedup();
        all
    };
    HttpSettings {
        gateway: raw.flag("enable-grpc-gateway"),
        pprof: raw.flag("enable-pprof"),
        debug: raw.get("log-level") == "debug",
        cors: match url::parse_list(raw.get("cors")) {
            Ok(origins) => url::texts(&origins),
            Err(_) => vec!["*".to_owned()],
        },
        host_whitelist: unique("host-whitelist"),
    }
}

/// The Kubernetes API beside the store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct KubernetesSettings {
    /// What the keys of its objects begin with.
    pub(crate) prefix: String,
    /// How often the history is compacted; never for none.
    pub(crate) compaction_interval: Option<Duration>,
}

pub(super) fn kubernetes(raw: &Raw) -> KubernetesSettings {
    let interval = raw.interval("apiserver-compaction-interval");
    KubernetesSettings {
        prefix: raw.get("apiserver-prefix").to_owned(),
        compaction_interval: Some(interval).filter(|interval| !interval.is_zero()),
    }
}

pub(super) fn audit(raw: &Raw) -> AuditSettings {
    AuditSettings {
        output: match raw.get("audit-log") {
            "" => None,
            "stderr" => Some(AuditOutput::Stderr),
            path => Some(AuditOutput::File(path.into())),
        },
        scope: match raw.get("audit-log-scope") {
            "admin" => AuditScope::Admin,
            "writes" => AuditScope::Writes,
            _ => AuditScope::All,
        },
        talkers: raw.flag("top-talkers"),
    }
}

pub(super) fn connection(raw: &Raw, max_request_bytes: usize) -> ConnectionSettings {
    let (idle, timeout) = (
        raw.interval("grpc-keepalive-interval"),
        raw.interval("grpc-keepalive-timeout"),
    );
    ConnectionSettings {
        streams_max: u32::try_from(raw.number("max-concurrent-streams")).unwrap_or(u32::MAX),
        message_bytes_max: max_request_bytes + MESSAGE_OVERHEAD_BYTES,
        keepalive: (!idle.is_zero() && !timeout.is_zero()).then_some((idle, timeout)),
        ping_min_interval: match raw.interval("grpc-keepalive-min-time") {
            Duration::ZERO => PING_MIN_INTERVAL_UNSET,
            given => given,
        },
    }
}

/// What etcd allows a gRPC message above the size of a request.
pub(super) const MESSAGE_OVERHEAD_BYTES: usize = 512 << 10;
/// What 0 stands for.
pub(super) const SLOW_REQUEST_UNSET: Duration = Duration::from_millis(300);
/// gRPC's own value, which holds when etcd is told 0.
const PING_MIN_INTERVAL_UNSET: Duration = Duration::from_secs(300);
const HOUR_NANOS: i64 = 3_600_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retention_is_read_by_its_mode() {
        let hours = |hours: u64| AutoCompaction::Periodic(Duration::from_secs(3600 * hours));
        for (mode, text, expected) in [
            ("periodic", "0", AutoCompaction::Off),
            ("periodic", "", AutoCompaction::Off),
            ("periodic", "0s", AutoCompaction::Off),
            ("periodic", "1", hours(1)),
            ("periodic", "72h", hours(72)),
            (
                "periodic",
                "30m",
                AutoCompaction::Periodic(Duration::from_secs(1800)),
            ),
            ("revision", "0", AutoCompaction::Off),
            ("revision", "1000", AutoCompaction::Revision(1000)),
            ("revision", "1us", AutoCompaction::Revision(1000)),
        ] {
            assert_eq!(AutoCompaction::read(mode, text), Ok(expected), "{mode} {text}");
        }
        for (text, message) in [
            (
                "abc",
                "error parsing CompactionRetention: time: invalid duration \"abc\"",
            ),
            (
                "-1",
                "error parsing CompactionRetention: time: missing unit in duration \"-1\"",
            ),
            ("-1h", "--auto-compaction-retention -1h must not be negative"),
            ("9999999", "--auto-compaction-retention 9999999 is too long"),
        ] {
            assert_eq!(AutoCompaction::read("periodic", text), Err(message.to_owned()));
        }
    }
}

//! Settings: what the member shall be, resolved from flags and environment and validated by etcd's rules.
//!
//! Raw values ([`flags::Raw`]) and settings are two types: whoever holds a [`Settings`] knows that it is consistent.
//! Each refusal is one line; the texts of etcd's own rules are etcd's.

use std::net::SocketAddr;
use std::time::Duration;

use self::flags::Raw;
use self::url::{Url, UrlError};

pub(crate) mod duration;
mod flags;
pub(crate) mod url;
mod version;

pub(crate) use self::version::{ETCD_VERSION, GIT_SHA, STORAGE_VERSION, TAFFRAIL_VERSION, version_text};

/// Everything the start needs, validated.
#[derive(Debug)]
pub(crate) struct Settings {
    /// What the store is told.
    pub(crate) store: store::Settings,
    /// Where clients are served: gRPC and HTTP.
    pub(crate) listen_client: Vec<SocketAddr>,
    /// Where other members are served.
    pub(crate) listen_peer: Vec<SocketAddr>,
    /// Where only HTTP is served, for probes and scrapers.
    pub(crate) listen_metrics: Vec<SocketAddr>,
    /// Limits of one client connection.
    pub(crate) connection: ConnectionSettings,
    /// The log.
    pub(crate) log: LogSettings,
    /// What the user should know before the start, one line each.
    pub(crate) warnings: Vec<String>,
}

/// Limits of one client connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectionSettings {
    pub(crate) streams_max: u32,
    /// A received message may have this many bytes.
    pub(crate) message_bytes_max: usize,
    /// Idle time before the client is pinged, and its time to answer; `None` if it is never pinged.
    pub(crate) keepalive: Option<(Duration, Duration)>,
}

/// How to log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct LogSettings {
    pub(crate) level: tracing::Level,
    pub(crate) format: LogFormat,
}

/// The shape of a log line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LogFormat {
    Json,
    Console,
}

/// Why there are no settings, and what the process shall do instead of starting.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Exit {
    /// Print to the standard output and succeed.
    Print(String),
    /// The command line cannot be read.
    Usage(String),
    /// A setting is wrong.
    Setting(String),
}

impl Exit {
    /// The process's exit code.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Exit::Print(_) => 0,
            Exit::Setting(_) => 1,
            Exit::Usage(_) => 2,
        }
    }

    /// What to print: to the standard output on success, else to the standard error.
    pub(crate) fn text(&self) -> &str {
        match self {
            Exit::Print(text) | Exit::Usage(text) | Exit::Setting(text) => text,
        }
    }
}

impl Settings {
    /// Resolves and validates `args` (without the program's name) and the environment.
    pub(crate) fn resolve(args: &[String], env: &[(String, String)]) -> Result<Settings, Exit> {
        let mut raw = Raw::read(args, env)?;
        let log = log_settings(&raw)?;
        let (heartbeat, election) = timing(&raw)?;
        let listen_peer = bind_addresses(&raw, "listen-peer-urls")?;
        let listen_client = bind_addresses(&raw, "listen-client-urls")?;
        let listen_metrics = bind_addresses(&raw, "listen-metrics-urls")?;
        let advertise_client = url_list(&raw, "advertise-client-urls")?;
        if raw.is_set("listen-client-urls") && !raw.is_set("advertise-client-urls") {
            return Err(refuse(
                "--advertise-client-urls is required when --listen-client-urls is set explicitly",
            ));
        }
        if advertise_client.is_empty() || listen_client.is_empty() || listen_peer.is_empty() {
            return Err(refuse(
                "--listen-peer-urls, --listen-client-urls and --advertise-client-urls must not be empty",
            ));
        }
        let name = raw.get("name").to_owned();
        let advertise_peer = url_list(&raw, "initial-advertise-peer-urls")?;
        let initial_cluster = initial_cluster(&raw, &name, &advertise_peer)?;
        // The same addresses, but as the whole cluster writes them: ids are made from the text.
        let own_peer_urls = initial_cluster.iter().filter(|(member, _)| *member == name);
        let own_peer_urls = own_peer_urls.flat_map(|(_, urls)| urls.clone()).collect();
        let data_dir = match raw.get("data-dir") {
            "" => format!("{name}.taffrail"),
            given => given.to_owned(),
        };
        let max_request_bytes = request_bytes_max(&raw)?;
        let mut warnings = std::mem::take(&mut raw.warnings);
        let store = store::Settings {
            name,
            initial_cluster,
            initial_cluster_token: raw.get("initial-cluster-token").to_owned(),
            initial_cluster_state: match raw.get("initial-cluster-state") {
                "existing" => store::shell::ClusterState::Existing,
                _ => store::shell::ClusterState::New,
            },
            initial_advertise_peer_urls: own_peer_urls,
            advertise_client_urls: texts(&advertise_client),
            heartbeat,
            election,
            election_tick_advance: flags::parse_bool(raw.get("initial-election-tick-advance"))
                .unwrap_or(true),
            snapshot_count: number(&raw, "snapshot-count"),
            snapshot_catchup_entries: number(&raw, "snapshot-catchup-entries"),
            quota_bytes: quota(&raw, &mut warnings),
            max_request_bytes,
            max_txn_ops: usize::try_from(number(&raw, "max-txn-ops")).unwrap_or(usize::MAX),
            watch_progress_interval: progress_interval(&raw)?,
            ..store::Settings::new(data_dir)
        };
        if max_request_bytes > REQUEST_BYTES_RECOMMENDED {
            warnings.push(format!(
                "--max-request-bytes {max_request_bytes} exceeds the recommended {REQUEST_BYTES_RECOMMENDED}"
            ));
        }
        Ok(Settings {
            store,
            listen_client,
            listen_peer,
            listen_metrics,
            connection: ConnectionSettings {
                streams_max: u32::try_from(number(&raw, "max-concurrent-streams")).unwrap_or(u32::MAX),
                message_bytes_max: max_request_bytes + MESSAGE_OVERHEAD_BYTES,
                keepalive: keepalive(&raw),
            },
            log,
            warnings,
        })
    }
}

fn refuse(message: impl Into<String>) -> Exit {
    Exit::Setting(message.into())
}

/// A number whose form the table has checked already.
fn number(raw: &Raw, name: &'static str) -> u64 {
    raw.get(name).parse().unwrap_or(0)
}

fn interval(raw: &Raw, name: &'static str) -> Duration {
    duration::parse(raw.get(name)).unwrap_or_default()
}

fn texts(urls: &[Url]) -> Vec<String> {
    urls.iter().map(|url| url.as_str().to_owned()).collect()
}

fn url_list(raw: &Raw, name: &'static str) -> Result<Vec<Url>, Exit> {
    match raw.get(name) {
        "" => Ok(Vec::new()),
        text => url::parse_list(text).map_err(|error| refuse(error.to_string())),
    }
}

fn bind_addresses(raw: &Raw, name: &'static str) -> Result<Vec<SocketAddr>, Exit> {
    let addresses: Result<Vec<SocketAddr>, UrlError> =
        url_list(raw, name)?.iter().map(Url::bind_address).collect();
    addresses.map_err(|error| refuse(error.to_string()))
}

fn timing(raw: &Raw) -> Result<(Duration, Duration), Exit> {
    let heartbeat_ms = number(raw, "heartbeat-interval");
    let election_ms = number(raw, "election-timeout");
    if heartbeat_ms == 0 {
        return Err(refuse("--heartbeat-interval must be >0 (set to 0ms)"));
    }
    if election_ms == 0 {
        return Err(refuse("--election-timeout must be >0 (set to 0ms)"));
    }
    if heartbeat_ms.saturating_mul(5) > election_ms {
        return Err(refuse(format!(
            "--election-timeout[{election_ms}ms] should be at least as 5 times as --heartbeat-interval[{heartbeat_ms}ms]"
        )));
    }
    if election_ms > ELECTION_MS_MAX {
        return Err(refuse(format!(
            "--election-timeout[{election_ms}ms] is too long, and should be set less than {ELECTION_MS_MAX}ms"
        )));
    }
    Ok((
        Duration::from_millis(heartbeat_ms),
        Duration::from_millis(election_ms),
    ))
}

/// `name=url,name=url`, where a name may come several times; this member's own entry must be what it advertises.
fn initial_cluster(
    raw: &Raw,
    name: &str,
    advertise_peer: &[Url],
) -> Result<Vec<(String, Vec<String>)>, Exit> {
    dialable(advertise_peer)?;
    if !raw.is_set("initial-cluster") {
        return Ok(vec![(name.to_owned(), texts(advertise_peer))]);
    }
    let given = raw.get("initial-cluster");
    let mut members: Vec<(String, Vec<Url>)> = Vec::new();
    for entry in given.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
        let (member, text) = entry.split_once('=').ok_or_else(|| {
            refuse(format!(
                "error setting up initial cluster: \"{entry}\" is not of the form name=url"
            ))
        })?;
        let urls = url::parse_list(text)
            .map_err(|error| refuse(format!("error setting up initial cluster: {error}")))?;
        match members.iter_mut().find(|(known, _)| known == member) {
            Some((_, known)) => known.extend(urls),
            None => members.push((member.to_owned(), urls)),
        }
    }
    for (index, (member, urls)) in members.iter().enumerate() {
        dialable(urls)?;
        let twice = members[index + 1..]
            .iter()
            .find(|(_, others)| others.iter().any(|url| urls.contains(url)));
        if let Some((other, _)) = twice {
            return Err(refuse(format!(
                "error setting up initial cluster: members \"{member}\" and \"{other}\" have a URL in common"
            )));
        }
    }
    let own = members.iter().find(|(member, _)| member == name).ok_or_else(|| {
        refuse(format!(
            "couldn't find local name \"{name}\" in the initial cluster configuration"
        ))
    })?;
    if !url::same(&own.1, advertise_peer) {
        return Err(refuse(format!(
            "--initial-cluster has {name}={} but missing from --initial-advertise-peer-urls={}",
            texts(&own.1).join(&format!(",{name}=")),
            texts(advertise_peer).join(",")
        )));
    }
    Ok(members
        .into_iter()
        .map(|(member, urls)| (member, texts(&urls)))
        .collect())
}

/// Members reach each other in plaintext only, so far.
fn dialable(urls: &[Url]) -> Result<(), Exit> {
    for url in urls {
        url.dial_target().map_err(|error| refuse(error.to_string()))?;
    }
    Ok(())
}

fn request_bytes_max(raw: &Raw) -> Result<usize, Exit> {
    let given = number(raw, "max-request-bytes");
    usize::try_from(given)
        .ok()
        .filter(|&bytes| bytes <= REQUEST_BYTES_MAX)
        .ok_or_else(|| {
            refuse(format!(
                "--max-request-bytes {given} is too large: at most {REQUEST_BYTES_MAX}"
            ))
        })
}

/// 0 is the default quota, a negative number none.
fn quota(raw: &Raw, warnings: &mut Vec<String>) -> Option<u64> {
    let given: i64 = raw.get("quota-backend-bytes").parse().unwrap_or(0);
    let quota = match given {
        0 => QUOTA_BYTES_DEFAULT,
        _ => u64::try_from(given).ok()?,
    };
    if quota > QUOTA_BYTES_RECOMMENDED {
        warnings.push(format!(
            "--quota-backend-bytes {quota} exceeds the recommended {QUOTA_BYTES_RECOMMENDED}"
        ));
    }
    Some(quota)
}

fn progress_interval(raw: &Raw) -> Result<Duration, Exit> {
    let given = interval(raw, "watch-progress-notify-interval");
    if given < PROGRESS_INTERVAL_MIN {
        return Err(refuse(format!(
            "--watch-progress-notify-interval must be at least {}ms",
            PROGRESS_INTERVAL_MIN.as_millis()
        )));
    }
    Ok(given)
}

fn keepalive(raw: &Raw) -> Option<(Duration, Duration)> {
    let (idle, timeout) = (
        interval(raw, "grpc-keepalive-interval"),
        interval(raw, "grpc-keepalive-timeout"),
    );
    (!idle.is_zero() && !timeout.is_zero()).then_some((idle, timeout))
}

fn log_settings(raw: &Raw) -> Result<LogSettings, Exit> {
    match raw.get("logger") {
        "zap" => {}
        other => return Err(refuse(format!("unknown logger option \"{other}\""))),
    }
    let format = match raw.get("log-format") {
        "json" => LogFormat::Json,
        "console" => LogFormat::Console,
        other => {
            return Err(refuse(format!(
                "unknown log format: {other}, supported values json, console"
            )));
        }
    };
    let level = match raw.get("log-level") {
        "debug" => tracing::Level::DEBUG,
        "info" => tracing::Level::INFO,
        "warn" => tracing::Level::WARN,
        "error" | "dpanic" | "panic" | "fatal" => tracing::Level::ERROR,
        other => return Err(refuse(format!("unrecognized level: \"{other}\""))),
    };
    Ok(LogSettings { level, format })
}

/// etcd's ceiling on the election timeout.
const ELECTION_MS_MAX: u64 = 50_000;
/// etcd's default quota.
const QUOTA_BYTES_DEFAULT: u64 = 2 << 30;
/// Above it etcd warns.
const QUOTA_BYTES_RECOMMENDED: u64 = 8 << 30;
/// Above it etcd warns.
const REQUEST_BYTES_RECOMMENDED: usize = 10 << 20;
/// Ours: a message has at most 2 GiB in gRPC, its overhead included.
const REQUEST_BYTES_MAX: usize = (1 << 31) - 1 - MESSAGE_OVERHEAD_BYTES;
/// What etcd allows a gRPC message above the size of a request.
const MESSAGE_OVERHEAD_BYTES: usize = 512 << 10;
/// etcd's floor on the progress interval.
const PROGRESS_INTERVAL_MIN: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests;

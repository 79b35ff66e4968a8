//! Settings: what the member shall be, resolved from flags and environment and validated by etcd's rules.
//!
//! Raw values ([`flags::Raw`]) and settings are two types: whoever holds a [`Settings`] knows that it is consistent.
//! Each refusal is one line; the texts of etcd's own rules are etcd's.

use std::path::PathBuf;
use std::time::Duration;

use self::cluster::texts;
use self::flags::Raw;
use self::gates::Gates;
use self::url::{Url, UrlError};

mod cluster;
pub(crate) mod duration;
mod flags;
mod gates;
mod listen;
mod number;
mod serving;
pub(crate) mod url;
mod version;

pub(crate) use self::listen::{Address, Listener, TlsSettings, TlsVersion};
pub(crate) use self::serving::{AutoCompaction, ConnectionSettings, HttpSettings, SlowSettings};
pub(crate) use self::version::{ETCD_VERSION, GIT_SHA, STORAGE_VERSION, TAFFRAIL_VERSION, version_text};

/// Everything the start needs, validated.
#[derive(Debug)]
#[allow(dead_code, reason = "the rooms that read the newest fields come one by one")]
pub(crate) struct Settings {
    /// What the store is told.
    pub(crate) store: store::Settings,
    /// Where clients are served: gRPC, and HTTP unless that has listeners of its own.
    pub(crate) listen_client: Vec<Listener>,
    /// Where clients are served HTTP only.
    pub(crate) listen_client_http: Vec<Listener>,
    /// Where other members are served.
    pub(crate) listen_peer: Vec<Listener>,
    /// Where only probes and scrapers are served.
    pub(crate) listen_metrics: Vec<Listener>,
    /// TLS of the client and metrics listeners that ask for it.
    pub(crate) client_tls: TlsSettings,
    /// What HTTP serves, and to whom.
    pub(crate) http: HttpSettings,
    /// Limits of one client connection.
    pub(crate) connection: ConnectionSettings,
    /// When the leader compacts by itself.
    pub(crate) auto_compaction: AutoCompaction,
    /// What is logged as slow.
    pub(crate) slow: SlowSettings,
    /// Whether metrics that etcd calls extensive are kept.
    pub(crate) metrics_extensive: bool,
    /// Name, stage and state of every feature gate.
    pub(crate) feature_gates: Vec<(&'static str, &'static str, bool)>,
    /// The log.
    pub(crate) log: LogSettings,
    /// What the user should know before the start, one line each.
    pub(crate) warnings: Vec<String>,
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
        let listen_peer = listeners(&raw, "listen-peer-urls")?;
        let listen_client = listeners(&raw, "listen-client-urls")?;
        let listen_client_http = listeners(&raw, "listen-client-http-urls")?;
        let listen_metrics = listeners(&raw, "listen-metrics-urls")?;
        let advertised = advertised(&raw)?;
        let (heartbeat, election) = timing(&raw)?;
        if raw.is_set("listen-client-urls") && !raw.is_set("advertise-client-urls") {
            return Err(refuse(
                "--advertise-client-urls is required when --listen-client-urls is set explicitly",
            ));
        }
        let gates = feature_gates(&raw)?;
        let client_tls = client_tls(&raw)?;
        check_listeners(&listen_client, &listen_client_http, &listen_peer, &client_tls)?;
        let name = raw.get("name").to_owned();
        let initial_cluster = cluster::read(raw.given("initial-cluster"), &name, &advertised.peer)?;
        // The same addresses, but as the whole cluster writes them: ids are made from the text.
        let own_peer_urls = initial_cluster.iter().filter(|(member, _)| *member == name);
        let own_peer_urls = own_peer_urls.flat_map(|(_, urls)| urls.clone()).collect();
        let data_dir = match raw.get("data-dir") {
            "" => format!("{name}.taffrail"),
            given => given.to_owned(),
        };
        let auto_compaction = AutoCompaction::read(
            raw.get("auto-compaction-mode"),
            raw.get("auto-compaction-retention"),
        )
        .map_err(refuse)?;
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
            advertise_client_urls: texts(&advertised.client),
            heartbeat,
            election,
            election_tick_advance: flag(&raw, "initial-election-tick-advance"),
            snapshot_count: number(&raw, "snapshot-count"),
            snapshot_catchup_entries: number(&raw, "snapshot-catchup-entries"),
            quota_bytes: quota(&raw, &mut warnings),
            max_request_bytes,
            max_txn_ops: usize::try_from(number(&raw, "max-txn-ops")).unwrap_or(usize::MAX),
            watch_progress_interval: progress_interval(&raw)?,
            slow_apply: interval(&raw, "warning-apply-duration"),
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
            listen_client_http,
            listen_peer,
            listen_metrics,
            client_tls,
            http: http(&raw),
            connection: connection(&raw, max_request_bytes),
            auto_compaction,
            slow: SlowSettings {
                apply: interval(&raw, "warning-apply-duration"),
                request: interval(&raw, "warning-unary-request-duration"),
            },
            metrics_extensive: raw.get("metrics") == "extensive",
            feature_gates: gates.list(),
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
    number::parse_unsigned(raw.get(name), u64::BITS).unwrap_or(0)
}

fn interval(raw: &Raw, name: &'static str) -> Duration {
    duration::parse(raw.get(name)).unwrap_or_default()
}

fn url_list(raw: &Raw, name: &'static str) -> Result<Vec<Url>, Exit> {
    match raw.get(name) {
        "" => Ok(Vec::new()),
        text => url::parse_list(text).map_err(|error| refuse(error.to_string())),
    }
}

fn listeners(raw: &Raw, name: &'static str) -> Result<Vec<Listener>, Exit> {
    let listeners: Result<Vec<Listener>, UrlError> = url_list(raw, name)?.iter().map(Listener::of).collect();
    listeners.map_err(|error| refuse(error.to_string()))
}

/// What is told to others.
struct Advertised {
    peer: Vec<Url>,
    client: Vec<Url>,
}

fn advertised(raw: &Raw) -> Result<Advertised, Exit> {
    let peer = url_list(raw, "initial-advertise-peer-urls")?;
    if let Err(error) = peer.iter().try_for_each(Url::check_advertised) {
        return Err(refuse(format!(
            "--initial-advertise-peer-urls {:?} must be \"host:port\" ({error})",
            texts(&peer).join(",")
        )));
    }
    let client = url_list(raw, "advertise-client-urls")?;
    if let Err(error) = client.iter().try_for_each(Url::check_advertised) {
        return Err(refuse(format!(
            "--advertise-client-urls {:?} must be in the format \"host:port\", \"unix:/path/to/socket\" or \
             \"unixs:/path/to/socket\" ({error})",
            texts(&client).join(",")
        )));
    }
    Ok(Advertised { peer, client })
}

/// What etcd finds out when it opens its listeners.
fn check_listeners(
    client: &[Listener],
    client_http: &[Listener],
    peer: &[Listener],
    tls: &TlsSettings,
) -> Result<(), Exit> {
    if let Some(listener) = peer.iter().find(|listener| listener.tls) {
        return Err(refuse(UrlError::Tls(listener.url.clone()).to_string()));
    }
    let secure = client.iter().chain(client_http).find(|listener| listener.tls);
    if let Some(listener) = secure.filter(|_| tls.has_no_files() && !tls.auto) {
        return Err(refuse(format!(
            "TLS key/cert (--cert-file, --key-file) must be provided for client url {} with HTTPS scheme",
            listener.url
        )));
    }
    let both = client_http
        .iter()
        .find(|http| client.iter().any(|listener| listener.address == http.address));
    match both {
        Some(listener) => Err(refuse(format!(
            "cannot bind both --listen-client-urls and --listen-client-http-urls on the same url {}",
            listener.url
        ))),
        None => Ok(()),
    }
}

fn feature_gates(raw: &Raw) -> Result<Gates, Exit> {
    let mut gates = Gates::new();
    gates.read(raw.get("feature-gates")).map_err(refuse)?;
    if gates.enabled("LeaseCheckpointPersist") && !gates.enabled("LeaseCheckpoint") {
        return Err(refuse(
            "enabling feature gate LeaseCheckpointPersist requires enabling feature gate LeaseCheckpoint",
        ));
    }
    Ok(gates)
}

fn client_tls(raw: &Raw) -> Result<TlsSettings, Exit> {
    let path = |name| {
        Some(raw.get(name))
            .filter(|path| !path.is_empty())
            .map(PathBuf::from)
    };
    let version = |name| match raw.get(name) {
        "" => Ok(None),
        "TLS1.2" => Ok(Some(TlsVersion::V12)),
        "TLS1.3" => Ok(Some(TlsVersion::V13)),
        other => Err(refuse(format!(
            "unexpected TLS version {other:?} (must be one of: TLS1.2, TLS1.3)"
        ))),
    };
    let min_version = version("tls-min-version")?.unwrap_or_default();
    let max_version = version("tls-max-version")?;
    if max_version.is_some_and(|max| min_version > max) {
        return Err(refuse(format!(
            "min version ({}) is greater than max version ({})",
            raw.get("tls-min-version"),
            raw.get("tls-max-version")
        )));
    }
    let cipher_suites = strings(raw, "cipher-suites");
    if min_version == TlsVersion::V13 && !cipher_suites.is_empty() {
        return Err(refuse(
            "cipher suites cannot be configured when only TLS1.3 is enabled",
        ));
    }
    Ok(TlsSettings {
        cert_file: path("cert-file"),
        key_file: path("key-file"),
        trusted_ca_file: path("trusted-ca-file"),
        crl_file: path("client-crl-file"),
        client_cert_auth: flag(raw, "client-cert-auth"),
        auto: flag(raw, "auto-tls"),
        self_signed_years: u32::try_from(number(raw, "self-signed-cert-validity")).unwrap_or(u32::MAX),
        allowed_hostnames: strings(raw, "client-cert-allowed-hostname"),
        cipher_suites,
        min_version,
        max_version,
    })
}

fn http(raw: &Raw) -> HttpSettings {
    let unique = |name| {
        let mut all: Vec<String> = raw.get(name).split(',').map(str::to_owned).collect();
        all.sort();
        all.dedup();
        all
    };
    HttpSettings {
        gateway: flag(raw, "enable-grpc-gateway"),
        pprof: flag(raw, "enable-pprof"),
        debug: raw.get("log-level") == "debug",
        cors: unique("cors"),
        host_whitelist: unique("host-whitelist"),
    }
}

fn connection(raw: &Raw, max_request_bytes: usize) -> ConnectionSettings {
    ConnectionSettings {
        streams_max: u32::try_from(number(raw, "max-concurrent-streams")).unwrap_or(u32::MAX),
        message_bytes_max: max_request_bytes + MESSAGE_OVERHEAD_BYTES,
        keepalive: keepalive(raw),
        ping_min_interval: match interval(raw, "grpc-keepalive-min-time") {
            Duration::ZERO => PING_MIN_INTERVAL_UNSET,
            given => given,
        },
    }
}

/// A comma list; empty if nothing is given.
fn strings(raw: &Raw, name: &'static str) -> Vec<String> {
    match raw.get(name) {
        "" => Vec::new(),
        text => text.split(',').map(str::to_owned).collect(),
    }
}

fn flag(raw: &Raw, name: &'static str) -> bool {
    number::parse_bool(raw.get(name)).unwrap_or(false)
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
    let given: i64 = number::parse_signed(raw.get("quota-backend-bytes")).unwrap_or(0);
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
/// gRPC's own value, which holds when etcd is told 0.
const PING_MIN_INTERVAL_UNSET: Duration = Duration::from_secs(300);
/// etcd's floor on the progress interval.
const PROGRESS_INTERVAL_MIN: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests;

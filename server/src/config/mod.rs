//! Settings: what the member shall be, resolved from flags, environment or file and validated by etcd's rules.
//!
//! | module | what |
//! | --- | --- |
//! | `table`, `usage` | etcd's flags, and the texts made of them |
//! | `raw`, `file` | what the user said, checked for its form |
//! | `listen`, `cluster`, `member`, `serving`, `auth`, `corruption`, `log`, `gates` | what it means, checked for its sense |
//! | `summary` | the log line with which a member begins |
//! | `url`, `duration`, `number` | notations, as Go reads them |
//! | `exit`, `notice` | what the user is told |
//!
//! Raw values ([`raw::Raw`]) and settings are two types: whoever holds a [`Settings`] knows that it is consistent.
//! Each refusal is one line; the texts of etcd's own rules are etcd's, and rules are checked in its order.

use serde_json::{Map, Value};

use self::exit::{Exit, Refused, RefusedBy};
use self::raw::Raw;

mod auth;
mod cluster;
mod corruption;
pub(crate) mod duration;
mod exit;
mod file;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod gates;
mod listen;
mod log;
mod member;
mod notice;
mod number;
mod raw;
mod serving;
mod summary;
mod table;
pub(crate) mod url;
mod usage;
mod version;

pub(crate) use self::auth::AuthSettings;
pub(crate) use self::corruption::CorruptionSettings;
#[allow(unused_imports, reason = "TLS comes with its own room")]
pub(crate) use self::listen::{Address, Listener, TlsSettings, TlsVersion, listener};
pub(crate) use self::log::{LogFormat, LogOutput, LogSettings, Rotation};
pub(crate) use self::notice::Notice;
pub(crate) use self::serving::{
    AuditOutput, AuditScope, AuditSettings, AutoCompaction, ConnectionSettings, HttpSettings,
    KubernetesSettings, SlowSettings,
};
pub(crate) use self::usage::log_running;
pub(crate) use self::version::{ETCD_VERSION, GIT_SHA, STORAGE_VERSION, TAFFRAIL_VERSION};

/// Everything the start needs, validated.
#[derive(Debug)]
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
    /// Where the Kubernetes API is served.
    pub(crate) listen_kubernetes: Vec<Listener>,
    /// How the objects of Kubernetes are kept.
    pub(crate) kubernetes: KubernetesSettings,
    /// Whether ports are shared with other processes (`SO_REUSEPORT`).
    #[allow(dead_code, reason = "the sockets do not obey it yet; the start says so")]
    pub(crate) reuse_port: bool,
    /// TLS of the client and metrics listeners that ask for it.
    pub(crate) client_tls: TlsSettings,
    /// TLS between members.
    pub(crate) peer_tls: TlsSettings,
    /// What HTTP serves, and to whom.
    pub(crate) http: HttpSettings,
    /// Limits of one client connection.
    pub(crate) connection: ConnectionSettings,
    /// When the leader compacts by itself.
    pub(crate) auto_compaction: AutoCompaction,
    /// How users log in.
    pub(crate) auth: AuthSettings,
    /// Whether damaged data are set aside and come anew from the other members.
    pub(crate) heal_from_peers: bool,
    /// When this member's data are compared with the others'.
    pub(crate) corruption: CorruptionSettings,
    /// Who is watched, and how.
    pub(crate) audit: AuditSettings,
    /// What is logged as slow.
    pub(crate) slow: SlowSettings,
    /// Whether metrics that etcd calls extensive are kept.
    pub(crate) metrics_extensive: bool,
    /// Name, stage and state of every feature gate.
    pub(crate) feature_gates: Vec<(&'static str, &'static str, bool)>,
    /// The log.
    pub(crate) log: LogSettings,
    /// What the user should know before the start.
    pub(crate) warnings: Vec<Notice>,
    /// The fields of the line "starting an etcd server".
    pub(crate) summary: Map<String, Value>,
}

impl Settings {
    /// Resolves and validates `args` (without the program's name) and the environment.
    pub(crate) fn resolve(args: &[String], env: &[(String, String)]) -> Result<Settings, Exit> {
        let mut raw = Raw::read(args, env)?;
        let level = raw.get("log-level");
        if log::level(level).is_none() {
            let reason = format!("panic: unrecognized level: {level:?}");
            return Err(exit(
                raw,
                None,
                Refusal {
                    reason,
                    by: RefusedBy::Panic,
                },
            ));
        }
        let log = match log::read(&raw) {
            Ok(log) => log,
            Err(reason) => return Err(exit(raw, None, check(reason))),
        };
        match Settings::of(&mut raw, &log) {
            Ok(settings) => Ok(settings),
            Err(refusal) => Err(exit(raw, Some(log), refusal)),
        }
    }

    fn of(raw: &mut Raw, log: &LogSettings) -> Result<Settings, Refusal> {
        let listeners = listen::Listeners::read(raw)?;
        let mut advertised = listen::Advertised::read(raw)?;
        cluster::check_discovery(raw)?;
        let timing = member::Timing::read(raw)?;
        let advertise =
            raw.from_file || raw.is_set("advertise-client-urls") || !raw.is_set("listen-client-urls");
        if !advertise {
            return Err(check(
                "--advertise-client-urls is required when --listen-client-urls is set explicitly",
            ));
        }
        serving::check_compaction_mode(raw)?;
        serving::check_tracing(raw)?;
        let gates = gates::read(raw)?;
        member::check_hash_interval(raw)?;
        member::warn_of_name(raw);
        let client_tls = TlsSettings::read(raw)?;
        // From here on etcd finds wrong settings only when it starts.
        let peer_tls = TlsSettings::read_peer(raw, &client_tls)?;
        listeners.check_peers(&peer_tls)?;
        client_tls.check_suites()?;
        listeners.check_clients(&client_tls)?;
        advertised.replace_wildcards(raw);
        let cluster = cluster::read(raw, &advertised.peer)?;
        let auto_compaction = AutoCompaction::read(
            raw.get("auto-compaction-mode"),
            raw.get("auto-compaction-retention"),
        )
        .map_err(start)?;
        let learners_max = member::learners_max(raw)?;
        member::skip_defragmentation(raw);
        let auth = AuthSettings::read(raw)?;
        member::check_unsupported(raw)?;
        let store = member::store(raw, timing, cluster, &advertised, learners_max)?;
        let summary = summary::fields(raw, &store, &gates);
        Ok(Settings {
            connection: serving::connection(raw, store.max_request_bytes),
            store,
            listen_client: listeners.client,
            listen_client_http: listeners.client_http,
            listen_kubernetes: listeners.kubernetes,
            kubernetes: serving::kubernetes(raw),
            listen_peer: listeners.peer,
            listen_metrics: listeners.metrics,
            reuse_port: raw.flag("socket-reuse-port"),
            client_tls,
            peer_tls,
            http: serving::http(raw),
            auto_compaction,
            auth,
            heal_from_peers: raw.flag("heal-from-peers"),
            corruption: CorruptionSettings::read(raw, &gates),
            audit: serving::audit(raw),
            slow: SlowSettings {
                apply: raw.interval("warning-apply-duration"),
                request: match raw.interval("warning-unary-request-duration") {
                    std::time::Duration::ZERO => serving::SLOW_REQUEST_UNSET,
                    given => given,
                },
            },
            metrics_extensive: raw.get("metrics") == "extensive",
            feature_gates: gates.list(),
            log: log.clone(),
            warnings: std::mem::take(&mut raw.notices),
            summary,
        })
    }
}

/// A wrong setting.
struct Refusal {
    reason: String,
    by: RefusedBy,
}

/// A setting that etcd refuses when it checks its flags.
fn check(reason: impl Into<String>) -> Refusal {
    Refusal {
        reason: reason.into(),
        by: RefusedBy::Check,
    }
}

/// A setting that etcd refuses when it starts.
fn start(reason: impl Into<String>) -> Refusal {
    Refusal {
        reason: reason.into(),
        by: RefusedBy::Start,
    }
}

fn exit(raw: Raw, log: Option<LogSettings>, refusal: Refusal) -> Exit {
    Exit::Refused(Box::new(Refused {
        reason: refusal.reason,
        by: refusal.by,
        log,
        notices: raw.notices,
    }))
}

#[cfg(test)]
mod tests;

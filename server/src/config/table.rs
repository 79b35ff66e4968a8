//! etcd's flags in one table: names, defaults, forms, help.
//!
//! The sections are those of `etcd --help`. A setting that means nothing here stands in the table all the same, so
//! that a command line written for etcd is read, and named in a warning.

use super::gates::Gates;
use super::number::{self, NumberError};
use super::{duration, url};

/// What a flag's value must look like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Text,
    Bool,
    Unsigned,
    /// At most 32 bits; malformed ones are told of in other words.
    Unsigned32,
    Signed,
    Duration,
    /// A comma list of URLs; empty is the default.
    Urls,
    /// A comma list.
    Texts,
    OneOf(&'static [&'static str]),
    /// A comma list of these.
    SomeOf(&'static [&'static str]),
    Gates,
    /// `*` or URLs.
    Origins,
    /// Anything, or nothing.
    Ignored,
}

/// What the flag does in this version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Support {
    /// It is obeyed.
    Live,
    /// It is accepted, and named in a warning where it asks for something: nothing here depends on it.
    Inert,
    /// It would change what the member is, so starting without obeying it would be wrong.
    Refused,
    /// etcd accepts it for old scripts and does nothing; so do we.
    Legacy,
}

/// One row of the table.
#[derive(Debug)]
pub(super) struct Flag {
    pub(super) name: &'static str,
    pub(super) default: &'static str,
    pub(super) kind: Kind,
    pub(super) support: Support,
    pub(super) help: &'static str,
}

impl Flag {
    /// Whether `value` has the wanted form; the reason in Go's words if not.
    pub(super) fn check(&self, value: &str) -> Result<(), String> {
        check(self.kind, value)
    }

    /// Whether it stands for `true` when it is given without a value.
    pub(super) fn is_bool(&self) -> bool {
        matches!(self.kind, Kind::Bool | Kind::Ignored)
    }
}

/// The old name of a setting.
#[derive(Debug)]
pub(super) struct OldFlag {
    /// Without the leading `experimental-`.
    stem: &'static str,
    /// The feature gate it became; otherwise it became the flag of the same name without `experimental-`.
    pub(super) gate: Option<&'static str>,
}

/// What a name on a command line, or in a variable, means.
#[derive(Clone, Copy)]
pub(super) enum Named {
    Flag(&'static Flag),
    /// An `experimental-` spelling of etcd 3.5 and 3.6, and the flag it is today.
    Old(&'static OldFlag, &'static Flag),
}

/// Looks a name up.
pub(super) fn find(name: &str) -> Option<Named> {
    if let Some(flag) = all().find(|flag| flag.name == name) {
        return Some(Named::Flag(flag));
    }
    let stem = name.strip_prefix("experimental-")?;
    let old = OLD_FLAGS.iter().find(|old| old.stem == stem)?;
    let flag = flag(if old.gate.is_some() { "feature-gates" } else { stem });
    Some(Named::Old(old, flag))
}

/// The flag of a name that stands in the table.
pub(super) fn flag(name: &str) -> &'static Flag {
    all()
        .find(|flag| flag.name == name)
        .expect("every name asked for stands in the table")
}

/// All flags.
pub(super) fn all() -> impl Iterator<Item = &'static Flag> {
    SECTIONS.iter().flat_map(|(_, flags)| flags.iter())
}

fn check(kind: Kind, value: &str) -> Result<(), String> {
    let number_error = |error| match error {
        NumberError::Syntax => "parse error".to_owned(),
        NumberError::Range => "value out of range".to_owned(),
    };
    match kind {
        Kind::Text | Kind::Texts | Kind::Ignored => Ok(()),
        Kind::Bool => number::parse_bool(value)
            .map(|_| ())
            .ok_or_else(|| "parse error".to_owned()),
        Kind::Unsigned => number::parse_unsigned(value, u64::BITS)
            .map(|_| ())
            .map_err(number_error),
        Kind::Unsigned32 => number::parse_unsigned(value, u32::BITS)
            .map(|_| ())
            .map_err(|error| {
                let reason = match error {
                    NumberError::Syntax => "invalid syntax",
                    NumberError::Range => "value out of range",
                };
                format!("strconv.ParseUint: parsing {value:?}: {reason}")
            }),
        Kind::Signed => number::parse_signed(value).map(|_| ()).map_err(number_error),
        Kind::Duration => duration::parse_nanos(value)
            .map(|_| ())
            .map_err(|_| "parse error".to_owned()),
        Kind::Urls if value.is_empty() => Ok(()),
        Kind::Origins if value == "*" => Ok(()),
        Kind::Urls | Kind::Origins => url::parse_list(value)
            .map(|_| ())
            .map_err(|error| error.to_string()),
        Kind::OneOf(words) if words.contains(&value) => Ok(()),
        Kind::OneOf(_) => Err("invalid value".to_owned()),
        Kind::SomeOf(words) => match value.split(',').find(|word| !words.contains(word)) {
            Some(word) => Err(format!("invalid value {word:?}")),
            None => Ok(()),
        },
        Kind::Gates => Gates::new().read(value),
    }
}

const fn row(
    support: Support,
    name: &'static str,
    default: &'static str,
    kind: Kind,
    help: &'static str,
) -> Flag {
    Flag {
        name,
        default,
        kind,
        support,
        help,
    }
}

const fn live(name: &'static str, default: &'static str, kind: Kind, help: &'static str) -> Flag {
    row(Support::Live, name, default, kind, help)
}

const fn inert(name: &'static str, default: &'static str, kind: Kind, help: &'static str) -> Flag {
    row(Support::Inert, name, default, kind, help)
}

const fn refused(name: &'static str, default: &'static str, kind: Kind, help: &'static str) -> Flag {
    row(Support::Refused, name, default, kind, help)
}

const fn legacy(name: &'static str) -> Flag {
    row(Support::Legacy, name, "", Kind::Ignored, "")
}

/// Every flag of etcd 3.7 by section; the last, unnamed one is not listed by `--help`.
#[rustfmt::skip]
pub(super) const SECTIONS: &[(&str, &[Flag])] = &[
    ("Member", &[
        live("name", "default", Kind::Text, "Name of this member; its entry in --initial-cluster."),
        live("data-dir", "", Kind::Text, "Directory of the data; ${name}.etcd when not given."),
        live("wal-dir", "", Kind::Text, "Directory of the log; within the data directory when not given."),
        live("heal-from-peers", "false", Kind::Bool, "Where the data of this member are damaged, set them aside and get them from the other members; not in etcd."),
        live("snapshot-count", "10000", Kind::Unsigned, "Applied entries between Raft snapshots."),
        live("heartbeat-interval", "100", Kind::Unsigned, "Milliseconds between heartbeats."),
        live("election-timeout", "1000", Kind::Unsigned, "Milliseconds without leader before an election."),
        live("initial-election-tick-advance", "true", Kind::Bool, "After the start, do not wait a whole election timeout for a leader."),
        live("listen-peer-urls", "http://localhost:2380", Kind::Urls, "URLs to serve other members on."),
        live("listen-client-urls", "http://localhost:2379", Kind::Urls, "URLs to serve clients on: gRPC, and HTTP unless --listen-client-http-urls is given."),
        live("listen-client-http-urls", "", Kind::Urls, "URLs to serve clients on with HTTP only; --listen-client-urls then serves gRPC only."),
        live("apiserver-listen", "", Kind::Urls, "URLs to serve the Kubernetes API on, as https://127.0.0.1:6443, with the TLS of clients; not in etcd."),
        live("apiserver-compaction-interval", "5m", Kind::Duration, "How often the Kubernetes API compacts the history, to where it was the time before; 0 never. Not in etcd."),
        live("apiserver-prefix", "/registry", Kind::Text, "Key below which the objects of the Kubernetes API are stored; not in etcd."),
        inert("max-snapshots", "5", Kind::Unsigned, "Snapshot files to keep. Deprecated in 3.6, gone in 3.8."),
        inert("max-wals", "5", Kind::Unsigned, "Log files to keep."),
        inert("memory-mlock", "false", Kind::Bool, "Keep all memory from being swapped out."),
        live("quota-backend-bytes", "0", Kind::Signed, "Space quota, above which writes are refused; 0 is 2 GiB, a negative number none."),
        live("quota-auto-disarm", "false", Kind::Bool, "Clear this member's NOSPACE alarm once the size is below 90 % of the quota; not in etcd."),
        live("disk-reserve-bytes", "201326592", Kind::Unsigned, "Disk space kept free: with less left, writes are refused as above the quota; 0 for none. Not in etcd."),
        inert("backend-bbolt-freelist-type", "map", Kind::Text, "Free list of etcd's own backend."),
        inert("backend-batch-interval", "0s", Kind::Duration, "Longest wait before etcd's own backend commits."),
        inert("backend-batch-limit", "0", Kind::Signed, "Most operations before etcd's own backend commits."),
        live("max-txn-ops", "128", Kind::Unsigned, "Most operations in one list of a transaction."),
        live("max-request-bytes", "1572864", Kind::Unsigned, "Longest request."),
        live("max-concurrent-streams", "4294967295", Kind::Unsigned32, "Most concurrent streams on one connection."),
        live("grpc-keepalive-min-time", "5s", Kind::Duration, "A client that pings more often is sent away."),
        live("grpc-keepalive-interval", "2h", Kind::Duration, "Idle time before a client is pinged; 0 never."),
        live("grpc-keepalive-timeout", "20s", Kind::Duration, "Time a pinged client has to answer; 0 switches pings off."),
        inert("socket-reuse-port", "false", Kind::Bool, "Share the ports listened on (SO_REUSEPORT)."),
        live("socket-reuse-address", "false", Kind::Bool, "Listen on ports in TIME_WAIT (SO_REUSEADDR); always so here."),
        live("enable-grpc-gateway", "true", Kind::Bool, "Serve JSON over HTTP below /v3/."),
        inert("raft-read-timeout", "5s", Kind::Duration, "Read timeout of connections between members."),
        inert("raft-write-timeout", "5s", Kind::Duration, "Write timeout of connections between members."),
        live("feature-gates", "", Kind::Gates, "Feature gates, A=true,B=false. They are:"),
    ]),
    ("Clustering", &[
        live("initial-advertise-peer-urls", "http://localhost:2380", Kind::Urls, "This member's peer URLs as told to the cluster."),
        live("initial-cluster", "default=http://localhost:2380", Kind::Text, "Members to start with, name=url,name=url; this member alone when not given."),
        live("initial-cluster-state", "new", Kind::OneOf(&["new", "existing"]), "new, or existing for a member that joins; ignored once there are data."),
        live("initial-cluster-token", "etcd-cluster", Kind::Text, "Keeps clusters apart that were started alike."),
        live("advertise-client-urls", "http://localhost:2379", Kind::Urls, "This member's client URLs as told to clients; required with --listen-client-urls."),
        refused("discovery-token", "", Kind::Text, "Discovery: token of the cluster to start."),
        refused("discovery-endpoints", "", Kind::Texts, "Discovery: endpoints of the service."),
        inert("discovery-dial-timeout", "2s", Kind::Duration, "Discovery: time to connect."),
        inert("discovery-request-timeout", "5s", Kind::Duration, "Discovery: time to answer."),
        inert("discovery-keepalive-time", "2s", Kind::Duration, "Discovery: idle time before a ping."),
        inert("discovery-keepalive-timeout", "6s", Kind::Duration, "Discovery: time to answer a ping."),
        inert("discovery-insecure-transport", "true", Kind::Bool, "Discovery: no TLS."),
        inert("discovery-insecure-skip-tls-verify", "false", Kind::Bool, "Discovery: do not verify the service's certificate."),
        inert("discovery-cert", "", Kind::Text, "Discovery: certificate to show."),
        inert("discovery-key", "", Kind::Text, "Discovery: its private key."),
        inert("discovery-cacert", "", Kind::Text, "Discovery: authorities of the service."),
        inert("discovery-user", "", Kind::Text, "Discovery: user name, or name:password."),
        inert("discovery-password", "", Kind::Text, "Discovery: password."),
        inert("discovery-fallback", "exit", Kind::OneOf(&["exit", "proxy"]), "Discovery: what to do when it fails; exit is the only value."),
        refused("discovery-srv", "", Kind::Text, "Domain whose SRV records name the members to start with."),
        inert("discovery-srv-name", "", Kind::Text, "Suffix of the service's name in these records."),
        live("strict-reconfig-check", "true", Kind::Bool, "Refuse changes of membership that endanger the quorum."),
        inert("pre-vote", "true", Kind::Bool, "Ask for votes before a term begins, so that a member that returns does not disturb; always so here."),
        live("auto-compaction-retention", "0", Kind::Text, "History to keep when compacting automatically; 0 never compacts."),
        live("auto-compaction-mode", "periodic", Kind::Text, "periodic: the retention is a duration, in hours without a unit; revision: a number of revisions."),
        inert("v2-deprecation", "write-only", Kind::SomeOf(&["write-only", "write-only-skip-check", "write-only-drop-data", "gone"]), "Accepted without effect: there is no v2 store. Gone in 3.8."),
    ]),
    ("Security", &[
        live("cert-file", "", Kind::Text, "Certificate shown to clients."),
        live("key-file", "", Kind::Text, "Its private key."),
        live("client-cert-auth", "false", Kind::Bool, "Clients must show a certificate."),
        inert("client-cert-file", "", Kind::Text, "Certificate that etcd shows when it is its own client."),
        inert("client-key-file", "", Kind::Text, "Its private key."),
        live("client-crl-file", "", Kind::Text, "Revoked certificates of clients."),
        live("client-cert-allowed-hostname", "", Kind::Texts, "Host names of which a client's certificate must have one."),
        live("trusted-ca-file", "", Kind::Text, "Authorities of clients' certificates."),
        live("auto-tls", "false", Kind::Bool, "Make a certificate for clients where none is given."),
        live("peer-cert-file", "", Kind::Text, "Certificate shown to members."),
        live("peer-key-file", "", Kind::Text, "Its private key."),
        live("peer-client-cert-auth", "false", Kind::Bool, "Members must show a certificate."),
        live("peer-client-cert-file", "", Kind::Text, "Certificate shown to members when connecting to them."),
        live("peer-client-key-file", "", Kind::Text, "Its private key."),
        live("peer-trusted-ca-file", "", Kind::Text, "Authorities of members' certificates."),
        live("peer-cert-allowed-cn", "", Kind::Texts, "Common names of which a member's certificate must have one."),
        live("peer-cert-allowed-hostname", "", Kind::Texts, "Host names of which a member's certificate must have one."),
        live("peer-auto-tls", "false", Kind::Bool, "Make a certificate for members where none is given."),
        live("peer-skip-client-san-verification", "false", Kind::Bool, "Do not compare a member's address with its certificate."),
        live("self-signed-cert-validity", "1", Kind::Unsigned, "Years that a certificate made here is valid."),
        live("peer-crl-file", "", Kind::Text, "Revoked certificates of members."),
        live("cipher-suites", "", Kind::Texts, "Cipher suites of TLS 1.2 to offer."),
        live("cors", "*", Kind::Origins, "Origins that browsers may come from; * is any."),
        live("host-whitelist", "*", Kind::Texts, "Hosts that requests in plaintext may name; * is any."),
        live("tls-min-version", "TLS1.2", Kind::Text, "Lowest version of TLS: TLS1.2 or TLS1.3."),
        live("tls-max-version", "", Kind::Text, "Highest version of TLS: TLS1.2 or TLS1.3."),
    ]),
    ("Auth", &[
        live("auth-token", "simple", Kind::Text, "Kind of authentication tokens and its options: simple, or jwt,..."),
        live("bcrypt-cost", "10", Kind::Unsigned, "Cost of hashing passwords, 4 to 31."),
        live("auth-token-ttl", "300", Kind::Unsigned, "Seconds that a simple token is valid."),
    ]),
    ("Profiling and Monitoring", &[
        live("enable-pprof", "false", Kind::Bool, "Serve profiles below /debug/pprof/."),
        live("metrics", "basic", Kind::Text, "basic, or extensive: with histograms of gRPC calls."),
        live("top-talkers", "false", Kind::Bool, "Find out which users and which prefixes of keys have most calls: /debug/talkers; not in etcd."),
        live("listen-metrics-urls", "", Kind::Urls, "URLs that serve /metrics, /health, /livez and /readyz only."),
    ]),
    ("Logging", &[
        live("logger", "zap", Kind::Text, "zap is the only value."),
        live("log-outputs", "default", Kind::Texts, "Where to log: default, stdout, stderr, systemd/journal, or files."),
        live("log-level", "info", Kind::Text, "debug, info, warn, error, panic or fatal."),
        live("log-format", "json", Kind::Text, "json or console."),
        live("enable-log-rotation", "false", Kind::Bool, "Rotate the one log file."),
        live("log-rotation-config-json", LOG_ROTATION, Kind::Text, "How: maxsize in MB, maxage in days, maxbackups, localtime, compress."),
        live("audit-log", "", Kind::Text, "Log who did what, as a line of JSON for each call: to this file, or stderr; not in etcd."),
        live("audit-log-scope", "all", Kind::OneOf(&["all", "writes", "admin"]), "Which calls it has; changes of users and roles always. Not in etcd."),
        live("warning-unary-request-duration", "300ms", Kind::Duration, "A request answered more slowly is logged."),
    ]),
    ("Distributed tracing", &[
        inert("enable-distributed-tracing", "false", Kind::Bool, "Send traces."),
        inert("distributed-tracing-address", "localhost:4317", Kind::Text, "Their collector."),
        inert("distributed-tracing-service-name", "etcd", Kind::Text, "The service's name in them."),
        inert("distributed-tracing-instance-id", "", Kind::Text, "The member's name in them."),
        inert("distributed-tracing-sampling-rate", "0", Kind::Signed, "Traces sent of a million."),
    ]),
    ("Features", &[
        live("corrupt-check-time", "0s", Kind::Duration, "Interval of comparisons between members; 0 never compares."),
        live("compact-hash-check-time", "1m", Kind::Duration, "Interval of comparisons of compactions."),
        live("compaction-batch-limit", "1000", Kind::Signed, "Keys that one step of a compaction visits."),
        live("watch-progress-notify-interval", "10m", Kind::Duration, "Interval of automatic progress notifications."),
        live("warning-apply-duration", "100ms", Kind::Duration, "A request applied more slowly is logged."),
        live("bootstrap-defrag-threshold-megabytes", "0", Kind::Unsigned, "Accepted without effect: there is nothing to defragment at the start."),
        live("max-learners", "1", Kind::Signed, "Most learners in the cluster."),
        live("learner-auto-promote", "false", Kind::Bool, "As the leader, make a voter of a learner as soon as it has caught up; not in etcd."),
        inert("compaction-sleep-interval", "10ms", Kind::Duration, "Pause between the steps of a compaction."),
        inert("downgrade-check-time", "5s", Kind::Duration, "Interval of looks at a downgrade under way."),
        live("snapshot-catchup-entries", "5000", Kind::Unsigned, "Entries kept in memory for slow followers after a snapshot."),
    ]),
    ("Unsafe feature", &[
        live("force-new-cluster", "false", Kind::Bool, "Go on alone with the data of a cluster that has lost its quorum for good."),
        inert("unsafe-no-fsync", "false", Kind::Bool, "Accepted without effect: data are always made durable."),
    ]),
    ("", &[
        live("config-file", "", Kind::Text, "File with the configuration; all other flags and variables are then ignored."),
        live("version", "false", Kind::Bool, "Show the version."),
        legacy("cluster-active-size"),
        legacy("cluster-remove-delay"),
        legacy("cluster-sync-interval"),
        legacy("config"),
        legacy("force"),
        legacy("max-result-buffer"),
        legacy("max-retry-attempts"),
        legacy("peer-heartbeat-interval"),
        legacy("peer-election-timeout"),
        legacy("retry-interval"),
        legacy("snapshot"),
        legacy("test.coverprofile"),
        legacy("test.outputdir"),
        legacy("v"),
        legacy("vv"),
    ]),
];

/// etcd's default of `--log-rotation-config-json`.
const LOG_ROTATION: &str =
    r#"{"maxsize": 100, "maxage": 0, "maxbackups": 0, "localtime": false, "compress": false}"#;

const fn renamed(stem: &'static str) -> OldFlag {
    OldFlag { stem, gate: None }
}

const fn gated(stem: &'static str, gate: &'static str) -> OldFlag {
    OldFlag {
        stem,
        gate: Some(gate),
    }
}

/// The `experimental-` flags of etcd 3.5 and 3.6, which manifests still contain. etcd 3.7 refuses them.
#[rustfmt::skip]
const OLD_FLAGS: &[OldFlag] = &[
    renamed("bootstrap-defrag-threshold-megabytes"),
    renamed("compact-hash-check-time"),
    renamed("compaction-batch-limit"),
    renamed("compaction-sleep-interval"),
    renamed("corrupt-check-time"),
    renamed("distributed-tracing-address"),
    renamed("distributed-tracing-instance-id"),
    renamed("distributed-tracing-sampling-rate"),
    renamed("distributed-tracing-service-name"),
    renamed("downgrade-check-time"),
    renamed("enable-distributed-tracing"),
    renamed("max-learners"),
    renamed("memory-mlock"),
    renamed("peer-skip-client-san-verification"),
    renamed("snapshot-catchup-entries"),
    renamed("warning-apply-duration"),
    renamed("warning-unary-request-duration"),
    renamed("watch-progress-notify-interval"),
    gated("compact-hash-check-enabled", "CompactHashCheck"),
    gated("enable-lease-checkpoint", "LeaseCheckpoint"),
    gated("enable-lease-checkpoint-persist", "LeaseCheckpointPersist"),
    gated("initial-corrupt-check", "InitialCorruptCheck"),
    gated("set-member-localaddr", "SetMemberLocalAddr"),
    gated("stop-grpc-service-on-defrag", "StopGRPCServiceOnDefrag"),
    gated("txn-mode-write-with-shared-buffer", "TxnModeWriteWithSharedBuffer"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_has_the_form_of_its_flag() {
        for flag in all() {
            assert!(
                flag.default.is_empty() || flag.check(flag.default).is_ok(),
                "{}: {}",
                flag.name,
                flag.default
            );
        }
    }

    #[test]
    fn every_name_stands_in_the_table_once() {
        let mut names: Vec<&str> = all().map(|flag| flag.name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        for old in OLD_FLAGS {
            assert!(
                find(&format!("experimental-{}", old.stem)).is_some(),
                "{}",
                old.stem
            );
        }
        assert!(find("experimental-name").is_none());
    }
}

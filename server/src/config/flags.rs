//! etcd's flags in one table, and the reading of a command line and an environment against it.
//!
//! The grammar is that of Go's `flag` package, because scripts written for etcd rely on it: `-flag` and `--flag`,
//! `=value` or the next argument, a boolean without value, the last of several wins, the first argument that is no
//! flag ends the list. Own code rather than clap, whose grammar refuses the single dash. Values are checked for
//! their form here (exit 2) and for their sense in [`super::Settings`] (exit 1).

use std::collections::BTreeMap;

use super::gates::Gates;
use super::number::{self, parse_bool};
use super::url;
use super::{Exit, duration};

/// What a flag's value must look like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Text,
    Bool,
    Unsigned,
    Signed,
    Duration,
    Urls,
    OneOf(&'static [&'static str]),
    Gates,
    /// `*` or URLs.
    Origins,
}

/// What the flag does in this version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Support {
    /// It is obeyed.
    Live,
    /// It is accepted and named in a warning: nothing here depends on it yet.
    Inert,
    /// It would change what the member is, so starting without obeying it would be wrong.
    Refused,
    /// etcd accepts it for old scripts and does nothing; so do we.
    Legacy,
}

/// One row of the table.
pub(super) struct Flag {
    pub(super) name: &'static str,
    pub(super) default: &'static str,
    pub(super) kind: Kind,
    pub(super) support: Support,
    help: &'static str,
}

/// What the command line and the environment said, each value checked for its form.
#[derive(Debug)]
pub(super) struct Raw {
    given: BTreeMap<&'static str, String>,
    pub(super) warnings: Vec<String>,
}

impl Raw {
    /// Reads `args` (without the program's name) and the `ETCD_` variables of `env`.
    pub(super) fn read(args: &[String], env: &[(String, String)]) -> Result<Raw, Exit> {
        let mut raw = Raw {
            given: BTreeMap::new(),
            warnings: Vec::new(),
        };
        raw.read_args(args)?;
        raw.read_env(env)?;
        raw.judge_support()?;
        Ok(raw)
    }

    /// Whether the flag or its variable was given.
    pub(super) fn is_set(&self, name: &str) -> bool {
        self.given.contains_key(name)
    }

    /// The value given, if any.
    pub(super) fn given(&self, name: &str) -> Option<&str> {
        self.given.get(name).map(String::as_str)
    }

    /// The value given, or the default.
    pub(super) fn get(&self, name: &'static str) -> &str {
        match self.given.get(name) {
            Some(value) => value,
            None => {
                find(name)
                    .expect("every name asked for stands in the table")
                    .default
            }
        }
    }

    fn read_args(&mut self, args: &[String]) -> Result<(), Exit> {
        let mut rest = args.iter();
        while let Some(arg) = rest.next() {
            let name = match arg.strip_prefix("--").or_else(|| arg.strip_prefix('-')) {
                // `-` alone and everything after `--` are not flags.
                Some("") if arg == "-" => return Err(not_a_flag(arg)),
                Some("") => {
                    return rest.next().map_or(Ok(()), |next| Err(not_a_flag(next)));
                }
                Some(name) => name,
                None => return Err(not_a_flag(arg)),
            };
            if name.starts_with(['-', '=']) {
                return Err(usage_error(&format!("bad flag syntax: {arg}")));
            }
            let (name, inline) = match name.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (name, None),
            };
            match name {
                "help" | "h" => return Err(Exit::Print(usage())),
                "version" => return Err(Exit::Print(super::version_text())),
                _ => {}
            }
            let flag =
                find(name).ok_or_else(|| usage_error(&format!("flag provided but not defined: -{name}")))?;
            let value = match (inline, flag.kind) {
                (Some(value), _) => value,
                (None, Kind::Bool) => "true",
                (None, _) => rest
                    .next()
                    .ok_or_else(|| usage_error(&format!("flag needs an argument: -{name}")))?,
            };
            if let Err(reason) = check(flag.kind, value) {
                return Err(usage_error(&match flag.kind {
                    Kind::Bool => format!("invalid boolean value \"{value}\" for -{name}: {reason}"),
                    _ => format!("invalid value \"{value}\" for flag -{name}: {reason}"),
                }));
            }
            self.given.insert(flag.name, value.to_owned());
        }
        Ok(())
    }

    fn read_env(&mut self, env: &[(String, String)]) -> Result<(), Exit> {
        let from_line: Vec<&'static str> = self.given.keys().copied().collect();
        for (variable, value) in env {
            let Some(stem) = variable.strip_prefix("ETCD_") else {
                continue;
            };
            if value.is_empty() || variable == "ETCD_UNSUPPORTED_ARCH" {
                continue;
            }
            let Some(flag) = find(&stem.to_ascii_lowercase().replace('_', "-")) else {
                self.warnings
                    .push(format!("unrecognized environment variable {variable}"));
                continue;
            };
            if from_line.contains(&flag.name) {
                return Err(Exit::Setting(format!(
                    "conflicting environment variable is shadowed by corresponding command-line flag (either unset \
                     environment variable or disable flag)): {variable}"
                )));
            }
            check(flag.kind, value).map_err(|reason| {
                Exit::Setting(format!("invalid value \"{value}\" for {variable}: {reason}"))
            })?;
            self.given.insert(flag.name, value.clone());
        }
        Ok(())
    }

    /// Nothing given is dropped without a word.
    fn judge_support(&mut self) -> Result<(), Exit> {
        let mut inert = Vec::new();
        for (name, value) in &self.given {
            let flag = find(name).expect("only names of the table are kept");
            match flag.support {
                Support::Refused if value != flag.default => {
                    return Err(Exit::Setting(format!(
                        "--{name} is not supported by this version of Taffrail"
                    )));
                }
                Support::Inert => inert.push(format!("--{name}")),
                Support::Live | Support::Legacy | Support::Refused => {}
            }
        }
        if !inert.is_empty() {
            self.warnings.push(format!(
                "accepted without effect in this version: {}",
                inert.join(" ")
            ));
        }
        Ok(())
    }
}

/// The flag of that name; the `experimental-` spelling of etcd 3.5 and 3.6 is the same flag.
pub(super) fn find(name: &str) -> Option<&'static Flag> {
    let plain = name.strip_prefix("experimental-").unwrap_or(name);
    FLAGS
        .iter()
        .find(|flag| flag.name == name)
        .or_else(|| FLAGS.iter().find(|flag| flag.name == plain))
}

/// Whether `value` has the form that `kind` wants; the reason in Go's words if not.
fn check(kind: Kind, value: &str) -> Result<(), String> {
    let parse_error = || "parse error".to_owned();
    match kind {
        Kind::Text => Ok(()),
        Kind::Bool => parse_bool(value).map(|_| ()).ok_or_else(parse_error),
        Kind::Unsigned => number::parse_unsigned(value, u64::BITS)
            .map(|_| ())
            .map_err(|_| parse_error()),
        Kind::Signed => number::parse_signed(value).map(|_| ()).map_err(|_| parse_error()),
        Kind::Duration => duration::parse(value).map(|_| ()).ok_or_else(parse_error),
        Kind::Urls if value.is_empty() => Ok(()),
        Kind::Urls => url::parse_list(value)
            .map(|_| ())
            .map_err(|error| error.to_string()),
        Kind::OneOf(words) if words.contains(&value) => Ok(()),
        Kind::OneOf(_) => Err("invalid value".to_owned()),
        Kind::Gates => Gates::new().read(value),
        Kind::Origins if value == "*" => Ok(()),
        Kind::Origins => url::parse_list(value)
            .map(|_| ())
            .map_err(|error| error.to_string()),
    }
}

/// The text of `--help`, from the table.
pub(super) fn usage() -> String {
    let mut text = String::from(
        "Usage:\n\n  taffrail [flags]\n    Start a member.\n\n  taffrail ctl [flags] COMMAND\n    Talk to a member \
         (the everyday commands of etcdctl).\n\n  taffrail demo [--members 3]\n    Start a whole cluster \
         on this machine.\n\n  taffrail --version\n    Show the version.\n\n  taffrail -h | --help\n    \
         Show this text.\n\nEvery flag can be given as a variable too: ETCD_ and its name in upper case with _ for -.\n\nFlags:\n",
    );
    for flag in FLAGS.iter().filter(|flag| flag.support == Support::Live) {
        text.push_str(&format!(
            "  --{} '{}'\n    {}\n",
            flag.name, flag.default, flag.help
        ));
    }
    text.push_str("\nAccepted for etcd's sake, without effect in this version:\n");
    for flag in FLAGS.iter().filter(|flag| flag.support == Support::Inert) {
        text.push_str(&format!("  --{} '{}'\n", flag.name, flag.default));
    }
    text
}

fn usage_error(message: &str) -> Exit {
    Exit::Usage(format!("{message}\n{}", usage()))
}

fn not_a_flag(arg: &str) -> Exit {
    Exit::Setting(format!("\"{arg}\" is not a valid flag"))
}

const fn live(name: &'static str, default: &'static str, kind: Kind, help: &'static str) -> Flag {
    Flag {
        name,
        default,
        kind,
        support: Support::Live,
        help,
    }
}

const fn inert(name: &'static str, default: &'static str, kind: Kind) -> Flag {
    Flag {
        name,
        default,
        kind,
        support: Support::Inert,
        help: "",
    }
}

const fn refused(name: &'static str, default: &'static str, kind: Kind) -> Flag {
    Flag {
        name,
        default,
        kind,
        support: Support::Refused,
        help: "",
    }
}

const fn legacy(name: &'static str) -> Flag {
    Flag {
        name,
        default: "",
        kind: Kind::Text,
        support: Support::Legacy,
        help: "",
    }
}

/// Every flag of etcd 3.7, and the ones it accepts from older scripts.
#[rustfmt::skip]
const FLAGS: &[Flag] = &[
    live("name", "default", Kind::Text, "Name of this member; its entry in --initial-cluster."),
    live("data-dir", "", Kind::Text, "Data directory; ${name}.taffrail when not given."),
    live("listen-client-urls", "http://localhost:2379", Kind::Urls, "Addresses to serve clients on (gRPC and HTTP)."),
    live("advertise-client-urls", "http://localhost:2379", Kind::Urls, "Client URLs told to the cluster; required with --listen-client-urls."),
    live("listen-peer-urls", "http://localhost:2380", Kind::Urls, "Addresses to serve other members on."),
    live("initial-advertise-peer-urls", "http://localhost:2380", Kind::Urls, "Peer URLs told to the cluster."),
    live("initial-cluster", "", Kind::Text, "Members to start with, name=url,...; this member alone when not given."),
    live("initial-cluster-state", "new", Kind::OneOf(&["new", "existing"]), "new, or existing for a member that joins."),
    live("initial-cluster-token", "etcd-cluster", Kind::Text, "Keeps clusters apart that were started alike."),
    live("listen-metrics-urls", "", Kind::Urls, "Further addresses that serve /metrics, /health, /livez and /readyz."),
    live("heartbeat-interval", "100", Kind::Unsigned, "Milliseconds between heartbeats."),
    live("election-timeout", "1000", Kind::Unsigned, "Milliseconds without leader before an election."),
    live("snapshot-count", "10000", Kind::Unsigned, "Applied entries between Raft snapshots."),
    live("snapshot-catchup-entries", "5000", Kind::Unsigned, "Entries kept in memory for slow followers after a snapshot."),
    live("quota-backend-bytes", "0", Kind::Signed, "Space quota; 0 is 2 GiB, negative is none."),
    live("max-request-bytes", "1572864", Kind::Unsigned, "Largest request."),
    live("max-txn-ops", "128", Kind::Unsigned, "Most operations in one list of a transaction."),
    live("max-concurrent-streams", "4294967295", Kind::Unsigned, "Most concurrent streams on one connection."),
    live("watch-progress-notify-interval", "10m", Kind::Duration, "Interval of automatic progress notifications."),
    live("grpc-keepalive-interval", "2h", Kind::Duration, "Idle time before a client is pinged; 0 never."),
    live("grpc-keepalive-timeout", "20s", Kind::Duration, "Time a pinged client has to answer; 0 switches pings off."),
    live("logger", "zap", Kind::Text, "Accepted for etcd's sake: zap is the only value."),
    live("log-level", "info", Kind::Text, "debug, info, warn, error, panic or fatal."),
    live("log-format", "json", Kind::Text, "json or console."),
    inert("wal-dir", "", Kind::Text),
    live("listen-client-http-urls", "", Kind::Urls, "Addresses to serve clients on with HTTP only; --listen-client-urls then serves gRPC only."),
    refused("force-new-cluster", "false", Kind::Bool),
    refused("discovery-token", "", Kind::Text),
    refused("discovery-endpoints", "", Kind::Text),
    inert("discovery-dial-timeout", "2s", Kind::Duration),
    inert("discovery-request-timeout", "5s", Kind::Duration),
    inert("discovery-keepalive-time", "2s", Kind::Duration),
    inert("discovery-keepalive-timeout", "6s", Kind::Duration),
    inert("discovery-insecure-transport", "true", Kind::Bool),
    inert("discovery-insecure-skip-tls-verify", "false", Kind::Bool),
    inert("discovery-cert", "", Kind::Text),
    inert("discovery-key", "", Kind::Text),
    inert("discovery-cacert", "", Kind::Text),
    inert("discovery-user", "", Kind::Text),
    inert("discovery-password", "", Kind::Text),
    refused("discovery-srv", "", Kind::Text),
    inert("discovery-srv-name", "", Kind::Text),
    inert("discovery-fallback", "exit", Kind::OneOf(&["exit"])),
    inert("strict-reconfig-check", "true", Kind::Bool),
    inert("pre-vote", "true", Kind::Bool),
    live(
        "initial-election-tick-advance",
        "true",
        Kind::Bool,
        "After the start, do not wait a whole election timeout for a leader.",
    ),
    inert("max-snapshots", "5", Kind::Unsigned),
    inert("max-wals", "5", Kind::Unsigned),
    inert("max-learners", "1", Kind::Unsigned),
    live("auto-compaction-mode", "periodic", Kind::Text, "periodic or revision: what --auto-compaction-retention counts."),
    live("auto-compaction-retention", "0", Kind::Text, "History to keep: hours, a duration or a number of revisions; 0 never compacts."),
    inert("backend-batch-interval", "0s", Kind::Duration),
    inert("backend-batch-limit", "0", Kind::Signed),
    inert("backend-bbolt-freelist-type", "map", Kind::OneOf(&["map", "array"])),
    inert("compaction-batch-limit", "1000", Kind::Signed),
    inert("compaction-sleep-interval", "10ms", Kind::Duration),
    inert("bootstrap-defrag-threshold-megabytes", "0", Kind::Unsigned),
    inert("memory-mlock", "false", Kind::Bool),
    inert("unsafe-no-fsync", "false", Kind::Bool),
    live("cert-file", "", Kind::Text, "Certificate shown to clients."),
    live("key-file", "", Kind::Text, "Its private key."),
    live("client-cert-auth", "false", Kind::Bool, "Clients must show a certificate."),
    live("trusted-ca-file", "", Kind::Text, "Authorities of clients' certificates."),
    inert("client-cert-file", "", Kind::Text),
    inert("client-key-file", "", Kind::Text),
    live("client-crl-file", "", Kind::Text, "Revoked clients' certificates."),
    live("client-cert-allowed-hostname", "", Kind::Text, "Names of which a client's certificate must have one."),
    live("auto-tls", "false", Kind::Bool, "Make a certificate for clients where none is given."),
    inert("peer-cert-file", "", Kind::Text),
    inert("peer-key-file", "", Kind::Text),
    refused("peer-client-cert-auth", "false", Kind::Bool),
    inert("peer-trusted-ca-file", "", Kind::Text),
    refused("peer-auto-tls", "false", Kind::Bool),
    inert("peer-client-cert-file", "", Kind::Text),
    inert("peer-client-key-file", "", Kind::Text),
    inert("peer-crl-file", "", Kind::Text),
    inert("peer-cert-allowed-cn", "", Kind::Text),
    inert("peer-cert-allowed-hostname", "", Kind::Text),
    inert("peer-skip-client-san-verification", "false", Kind::Bool),
    live("self-signed-cert-validity", "1", Kind::Unsigned, "Years that such a certificate is valid."),
    live("cipher-suites", "", Kind::Text, "Cipher suites of TLS 1.2."),
    live("tls-min-version", "TLS1.2", Kind::Text, "TLS1.2 or TLS1.3."),
    live("tls-max-version", "", Kind::Text, "TLS1.2 or TLS1.3."),
    live("cors", "*", Kind::Origins, "Origins that browsers may come from."),
    live("host-whitelist", "*", Kind::Text, "Hosts that requests in plaintext may name."),
    inert("auth-token", "simple", Kind::Text),
    inert("auth-token-ttl", "300", Kind::Unsigned),
    inert("bcrypt-cost", "10", Kind::Unsigned),
    live("enable-grpc-gateway", "true", Kind::Bool, "Serve JSON below /v3/."),
    live("enable-pprof", "false", Kind::Bool, "Serve /debug/pprof."),
    live("metrics", "basic", Kind::Text, "basic or extensive."),
    inert("log-outputs", "default", Kind::Text),
    inert("enable-log-rotation", "false", Kind::Bool),
    inert("log-rotation-config-json", "", Kind::Text),
    live("warning-apply-duration", "100ms", Kind::Duration, "A request applied more slowly is logged."),
    live("warning-unary-request-duration", "300ms", Kind::Duration, "A request answered more slowly is logged."),
    inert("corrupt-check-time", "0s", Kind::Duration),
    inert("compact-hash-check-time", "1m", Kind::Duration),
    inert("downgrade-check-time", "5s", Kind::Duration),
    live("grpc-keepalive-min-time", "5s", Kind::Duration, "A client that pings more often is sent away."),
    inert("raft-read-timeout", "5s", Kind::Duration),
    inert("raft-write-timeout", "5s", Kind::Duration),
    inert("socket-reuse-port", "false", Kind::Bool),
    inert("socket-reuse-address", "false", Kind::Bool),
    inert("enable-distributed-tracing", "false", Kind::Bool),
    inert("distributed-tracing-address", "localhost:4317", Kind::Text),
    inert("distributed-tracing-service-name", "etcd", Kind::Text),
    inert("distributed-tracing-instance-id", "", Kind::Text),
    inert("distributed-tracing-sampling-rate", "0", Kind::Unsigned),
    live("feature-gates", "", Kind::Gates, "Feature gates, A=true,B=false."),
    inert("v2-deprecation", "write-only-drop-data", Kind::Text),
    // The gates of today under their names of 3.5.
    inert("experimental-stop-grpc-service-on-defrag", "false", Kind::Bool),
    inert("experimental-initial-corrupt-check", "false", Kind::Bool),
    inert("experimental-compact-hash-check-enabled", "false", Kind::Bool),
    inert("experimental-txn-mode-write-with-shared-buffer", "true", Kind::Bool),
    inert("experimental-enable-lease-checkpoint", "false", Kind::Bool),
    inert("experimental-enable-lease-checkpoint-persist", "false", Kind::Bool),
    inert("experimental-set-member-localaddr", "false", Kind::Bool),
    refused("config-file", "", Kind::Text),
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
    legacy("v"),
    legacy("vv"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn read(args: &[&str], env: &[(&str, &str)]) -> Result<Raw, Exit> {
        let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
        let env: Vec<_> = env
            .iter()
            .map(|&(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        Raw::read(&args, &env)
    }

    #[test]
    fn every_spelling_of_a_flag_is_read() {
        for args in [
            &["--name=a"][..],
            &["-name=a"],
            &["--name", "a"],
            &["-name", "a"],
            &["--name=b", "-name=a"],
        ] {
            assert_eq!(read(args, &[]).unwrap().get("name"), "a", "{args:?}");
        }
        let raw = read(&["--quota-backend-bytes", "-1", "--pre-vote", "--name=x"], &[]).unwrap();
        assert_eq!(
            (
                raw.get("quota-backend-bytes"),
                raw.get("pre-vote"),
                raw.get("name")
            ),
            ("-1", "true", "x")
        );
        let raw = read(&["--experimental-watch-progress-notify-interval=5s"], &[]).unwrap();
        assert_eq!(raw.get("watch-progress-notify-interval"), "5s");
    }

    #[test]
    fn what_is_malformed_is_refused_in_gos_words() {
        let cases: [(&[&str], u8, &str); 13] = [
            (&["--nope"], 2, "flag provided but not defined: -nope"),
            (&["--name"], 2, "flag needs an argument: -name"),
            (&["---name"], 2, "bad flag syntax: ---name"),
            (
                &["--heartbeat-interval=abc"],
                2,
                "invalid value \"abc\" for flag -heartbeat-interval: parse error",
            ),
            (
                &["--max-txn-ops=-1"],
                2,
                "invalid value \"-1\" for flag -max-txn-ops: parse error",
            ),
            (
                &["--pre-vote=foo"],
                2,
                "invalid boolean value \"foo\" for -pre-vote: parse error",
            ),
            (
                &["--initial-cluster-state=foo"],
                2,
                "invalid value \"foo\" for flag -initial-cluster-state: invalid value",
            ),
            (
                &["--feature-gates=A=true"],
                2,
                "invalid value \"A=true\" for flag -feature-gates: unrecognized feature gate: A",
            ),
            (&["--watch-progress-notify-interval=5"], 2, "parse error"),
            (
                &["--listen-client-urls=foo"],
                2,
                "URL scheme must be http, https, unix, or unixs: foo",
            ),
            (&["foo"], 1, "\"foo\" is not a valid flag"),
            (&["--", "foo"], 1, "\"foo\" is not a valid flag"),
            (&["--config-file=x.yaml"], 1, "--config-file is not supported"),
        ];
        for (args, code, text) in cases {
            let exit = read(args, &[]).expect_err("must be refused");
            assert_eq!(exit.code(), code, "{args:?}");
            assert!(exit.text().contains(text), "{args:?}: {}", exit.text());
            assert_eq!(code == 2, exit.text().contains("Usage:"), "{args:?}");
        }
        for args in [&["--help"], &["-h"], &["--version"]] {
            assert_eq!(read(args, &[]).expect_err("prints and ends").code(), 0);
        }
    }

    #[test]
    fn a_variable_stands_in_for_a_flag_but_never_beside_it() {
        assert_eq!(
            read(&[], &[("ETCD_INITIAL_CLUSTER_TOKEN", "t")])
                .unwrap()
                .get("initial-cluster-token"),
            "t"
        );
        assert_eq!(
            read(&["--name=y"], &[("ETCD_NAME", "")]).unwrap().get("name"),
            "y"
        );
        let exit = read(&["--name=y"], &[("ETCD_NAME", "x")]).expect_err("both");
        assert_eq!(exit.code(), 1);
        assert!(exit.text().starts_with(
            "conflicting environment variable is shadowed by corresponding command-line flag (either unset environment \
             variable or disable flag))"
        ));
        let exit = read(&[], &[("ETCD_HEARTBEAT_INTERVAL", "abc")]).expect_err("bad");
        assert_eq!(exit.code(), 1);
        assert_eq!(
            exit.text(),
            "invalid value \"abc\" for ETCD_HEARTBEAT_INTERVAL: parse error"
        );
    }

    #[test]
    fn nothing_given_is_dropped_silently() {
        let raw = read(&["--max-wals=3", "--auth-token=x"], &[("ETCD_WHAT", "1")]).unwrap();
        assert_eq!(
            raw.warnings,
            [
                "unrecognized environment variable ETCD_WHAT",
                "accepted without effect in this version: --auth-token --max-wals"
            ]
        );
        assert_eq!(read(&["--peer-auto-tls"], &[]).expect_err("TLS").code(), 1);
        assert!(
            read(&["--auto-tls=false", "--force=1"], &[])
                .unwrap()
                .warnings
                .is_empty()
        );
    }

    #[test]
    fn every_default_has_the_form_of_its_flag() {
        for flag in FLAGS {
            assert!(
                flag.default.is_empty() || check(flag.kind, flag.default).is_ok(),
                "{}: {}",
                flag.name,
                flag.default
            );
        }
    }
}

//! The configuration file: YAML, whose keys are the names of flags but for a few groups. Unknown keys are ignored,
//! as by etcd; a value of the wrong type is refused in the words of the Go library that reads it there.
//!
//! Every value becomes what it would be on a command line, so one set of rules judges both.

use serde_json::json;
use serde_yaml_ng::{Mapping, Value};

use super::exit::{Exit, Refused, RefusedBy};
use super::gates::Gates;
use super::notice::Notice;
use super::raw::Raw;
use super::table::{self, Flag, Kind};

/// Reads the file at `path`.
pub(super) fn read(path: &str) -> Result<Raw, Exit> {
    let bytes = std::fs::read(path).map_err(|error| {
        let text = error.to_string();
        // Go writes "open PATH: no such file or directory".
        let text = text.split(" (os error").next().unwrap_or_default().to_lowercase();
        let call = if error.kind() == std::io::ErrorKind::IsADirectory {
            "read"
        } else {
            "open"
        };
        refuse(format!("{call} {path}: {text}"), RefusedBy::Check)
    })?;
    let mut raw = parse(&bytes)?;
    raw.notices.push(Notice::info(
        "loaded server configuration, other configuration command line flags and environment variables will be \
         ignored if provided",
        json!({ "path": path }),
    ));
    Ok(raw)
}

pub(super) fn parse(bytes: &[u8]) -> Result<Raw, Exit> {
    let root: Value =
        serde_yaml_ng::from_slice(bytes).map_err(|error| refuse(yaml_error(&error), RefusedBy::Check))?;
    let mut raw = Raw::new();
    raw.from_file = true;
    let root = match root {
        Value::Mapping(root) => root,
        Value::Null => return Ok(raw),
        other => {
            return Err(wrong_type(&other, "value of type embed.configYAML", ""));
        }
    };
    for (key, value) in entries(&root) {
        let key = key.to_ascii_lowercase();
        match GROUPS.iter().find(|group| group.name == key) {
            Some(group) => read_group(&mut raw, group, value)?,
            None => {
                let flag = table::all()
                    .find(|flag| flag.name == key && flag.kind != Kind::Ignored && !is_line_only(flag.name));
                if let Some(flag) = flag {
                    let owner = if is_translated(flag) {
                        "configYAML.configJSON"
                    } else {
                        "configYAML.Config"
                    };
                    set(&mut raw, flag, value, &format!("{owner}.{key}"))?;
                }
            }
        }
    }
    Ok(raw)
}

fn read_group(raw: &mut Raw, group: &Group, value: &Value) -> Result<(), Exit> {
    let map = match value {
        Value::Null => return Ok(()),
        Value::Mapping(map) => map,
        other => {
            let field = format!(
                "Go struct field configYAML.{}.{} of type {}",
                group.owner, group.name, group.go_type
            );
            return Err(wrong_type(other, &field, ""));
        }
    };
    for (key, value) in entries(map) {
        let key = key.to_ascii_lowercase();
        if let Some((_, flag)) = group.keys.iter().find(|(known, _)| *known == key) {
            let go_type = group.go_type.rsplit('.').next().unwrap_or_default();
            let field = format!("{go_type}.{}.{}.{key}", group.owner, group.name);
            set(raw, table::flag(flag), value, &field)?;
        }
    }
    Ok(())
}

/// Keeps `value` in the notation of a command line.
fn set(raw: &mut Raw, flag: &'static Flag, value: &Value, field: &str) -> Result<(), Exit> {
    let go_type = go_type(flag);
    let wrong = |value: &Value, go_type: &str| {
        wrong_type(
            value,
            &format!("Go struct field {field}"),
            &format!(" of type {go_type}"),
        )
    };
    let text = match (flag.kind, value) {
        (_, Value::Null) => return Ok(()),
        (Kind::Bool, Value::Bool(on)) => on.to_string(),
        (Kind::Unsigned | Kind::Unsigned32, Value::Number(number)) if number.is_u64() => number.to_string(),
        (Kind::Signed, Value::Number(number)) if number.is_i64() => number.to_string(),
        // The integer counts nanoseconds.
        (Kind::Duration, Value::Number(number)) if number.is_i64() => format!("{number}ns"),
        (Kind::Texts, Value::Sequence(list)) if is_list(flag) => {
            let mut texts = Vec::new();
            for item in list {
                match item {
                    Value::String(text) => texts.push(text.as_str()),
                    Value::Null => texts.push(""),
                    other => return Err(wrong(other, "string")),
                }
            }
            texts.join(",")
        }
        (Kind::Texts, Value::String(_)) if is_list(flag) => return Err(wrong(value, "[]string")),
        (Kind::Bool | Kind::Unsigned | Kind::Unsigned32 | Kind::Signed | Kind::Duration, other) => {
            return Err(wrong(other, go_type));
        }
        (_, Value::String(text)) => text.clone(),
        (_, other) => return Err(wrong(other, go_type)),
    };
    keep(raw, flag, text)
}

/// Judges what a flag's own type would have judged, in the words of the file's reader.
fn keep(raw: &mut Raw, flag: &'static Flag, text: String) -> Result<(), Exit> {
    // An empty list of URLs, origins or hosts is the default.
    let empty_is_default = matches!(flag.kind, Kind::Urls | Kind::Origins) || flag.name == "host-whitelist";
    if text.is_empty() && empty_is_default {
        return Ok(());
    }
    match flag.kind {
        Kind::Urls => flag.check(&text).map_err(|reason| {
            let name = match flag.name {
                "advertise-client-urls" => "advertise-peer-urls",
                name => name,
            };
            refuse(
                format!("unexpected error setting up {name}: {reason}"),
                RefusedBy::Print,
            )
        })?,
        Kind::Origins => flag.check(&text).map_err(|reason| {
            refuse(
                format!("panic: new UniqueURLs should never fail: {reason}"),
                RefusedBy::Panic,
            )
        })?,
        Kind::Gates => Gates::new()
            .read(&text)
            .map_err(|reason| refuse(reason, RefusedBy::Check))?,
        Kind::OneOf(_) if text.is_empty() => return Ok(()),
        Kind::OneOf(words) if flag.name == "initial-cluster-state" && !words.contains(&text.as_str()) => {
            return Err(refuse(
                format!("unexpected clusterState {text:?}"),
                RefusedBy::Check,
            ));
        }
        _ => {}
    }
    raw.set(flag, text);
    Ok(())
}

/// Keys and values; a key that is no text cannot be one of ours.
fn entries(map: &Mapping) -> impl Iterator<Item = (&str, &Value)> {
    map.iter().filter_map(|(key, value)| Some((key.as_str()?, value)))
}

fn refuse(reason: String, by: RefusedBy) -> Exit {
    Exit::Refused(Box::new(Refused {
        reason,
        by,
        log: None,
        notices: Vec::new(),
    }))
}

/// What is in the wrong place, and where, as Go's JSON decoder tells it.
fn wrong_type(value: &Value, place: &str, wanted: &str) -> Exit {
    let what = match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "bool".to_owned(),
        // Its text is told only where a number was wanted, but not such a one.
        Value::Number(number) if wanted.contains("int") || wanted.contains("Duration") => {
            format!("number {number}")
        }
        Value::Number(_) => "number".to_owned(),
        Value::String(_) => "string".to_owned(),
        Value::Sequence(_) => "array".to_owned(),
        Value::Mapping(_) => "object".to_owned(),
        Value::Tagged(_) => "tagged value".to_owned(),
    };
    let place = match place.strip_prefix("value") {
        Some(rest) => format!("Go value{rest}"),
        None => place.to_owned(),
    };
    refuse(
        format!(
            "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {what} into {place}{wanted}"
        ),
        RefusedBy::Check,
    )
}

/// The parser's message, with the line in front, as Go's parser has it.
fn yaml_error(error: &serde_yaml_ng::Error) -> String {
    let text = error.to_string();
    let reason = text.split(" at line ").next().unwrap_or(&text);
    match error.location() {
        Some(location) => format!(
            "error converting YAML to JSON: yaml: line {}: {reason}",
            location.line()
        ),
        None => format!("error converting YAML to JSON: yaml: {reason}"),
    }
}

/// Lists in the file; other comma lists are texts with commas there, too.
fn is_list(flag: &Flag) -> bool {
    LISTS.contains(&flag.name)
}

/// Texts that etcd reads apart and then turns into settings.
fn is_translated(flag: &Flag) -> bool {
    match flag.kind {
        Kind::Urls => flag.name != "listen-metrics-urls",
        Kind::Origins | Kind::Gates => true,
        _ => flag.name == "host-whitelist",
    }
}

/// Whether the key of that name is unknown in the file: it stands in a group, or nowhere.
fn is_line_only(name: &str) -> bool {
    let in_group = GROUPS
        .iter()
        .any(|group| group.keys.iter().any(|(_, flag)| *flag == name));
    let discovery = name.starts_with("discovery-") && !name.starts_with("discovery-srv");
    in_group || discovery || LINE_ONLY.contains(&name)
}

/// The type of a setting in etcd.
fn go_type(flag: &Flag) -> &'static str {
    match (flag.kind, flag.name) {
        (Kind::Bool, _) => "bool",
        (Kind::Unsigned, "snapshot-count" | "snapshot-catchup-entries") => "uint64",
        (Kind::Unsigned, _) => "uint",
        (Kind::Unsigned32, _) => "uint32",
        (Kind::Signed, "quota-backend-bytes") => "int64",
        (Kind::Signed, _) => "int",
        (Kind::Duration, _) => "time.Duration",
        (Kind::Texts, _) if is_list(flag) => "[]string",
        _ => "string",
    }
}

/// Settings that stand together in the file.
struct Group {
    name: &'static str,
    owner: &'static str,
    go_type: &'static str,
    /// Keys, and the flags they stand for.
    keys: &'static [(&'static str, &'static str)],
}

const GROUPS: [Group; 4] = [
    Group {
        name: "client-transport-security",
        owner: "configJSON",
        go_type: "embed.securityConfig",
        keys: &[
            ("cert-file", "cert-file"),
            ("key-file", "key-file"),
            ("client-cert-file", "client-cert-file"),
            ("client-key-file", "client-key-file"),
            ("client-cert-auth", "client-cert-auth"),
            ("trusted-ca-file", "trusted-ca-file"),
            ("auto-tls", "auto-tls"),
            ("allowed-hostname", "client-cert-allowed-hostname"),
        ],
    },
    Group {
        name: "peer-transport-security",
        owner: "configJSON",
        go_type: "embed.securityConfig",
        keys: &[
            ("cert-file", "peer-cert-file"),
            ("key-file", "peer-key-file"),
            ("client-cert-file", "peer-client-cert-file"),
            ("client-key-file", "peer-client-key-file"),
            ("client-cert-auth", "peer-client-cert-auth"),
            ("trusted-ca-file", "peer-trusted-ca-file"),
            ("auto-tls", "peer-auto-tls"),
            ("allowed-cn", "peer-cert-allowed-cn"),
            ("allowed-hostname", "peer-cert-allowed-hostname"),
            (
                "skip-client-san-verification",
                "peer-skip-client-san-verification",
            ),
        ],
    },
    Group {
        name: "discovery-config",
        owner: "Config",
        go_type: "v3discovery.DiscoveryConfig",
        keys: &[("token", "discovery-token"), ("endpoints", "discovery-endpoints")],
    },
    Group {
        name: "socket-options",
        owner: "Config",
        go_type: "transport.SocketOpts",
        keys: &[
            ("reuse-port", "socket-reuse-port"),
            ("reuse-address", "socket-reuse-address"),
        ],
    },
];

const LISTS: [&str; 6] = [
    "cipher-suites",
    "client-cert-allowed-hostname",
    "discovery-endpoints",
    "log-outputs",
    "peer-cert-allowed-cn",
    "peer-cert-allowed-hostname",
];

/// Flags that no key of the file stands for.
const LINE_ONLY: [&str; 6] = [
    "client-crl-file",
    "config-file",
    "peer-crl-file",
    "raft-read-timeout",
    "raft-write-timeout",
    "version",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_says_what_a_command_line_says() {
        let raw = parse(
            b"name: a\ndata-dir:\nElection-Timeout: 3000\nwatch-progress-notify-interval: 5000000000\n\
              log-outputs: [stderr, stdout]\nlisten-client-urls: http://127.0.0.1:1,http://127.0.0.1:2\n\
              client-transport-security:\n  cert-file: c\n  client-cert-auth: true\n  allowed-hostname: [x, y]\n\
              feature-gates: AllAlpha=true\ncors:\ncert-file: ignored\ndiscovery-fallback: proxy\nproxy: 'off'\n\
              5: 6\nquota-backend-bytes: -1\nauto-compaction-retention: \"1\"\n",
        )
        .unwrap();
        for (name, value) in [
            ("name", Some("a")),
            ("data-dir", None),
            ("election-timeout", Some("3000")),
            ("watch-progress-notify-interval", Some("5000000000ns")),
            ("log-outputs", Some("stderr,stdout")),
            (
                "listen-client-urls",
                Some("http://127.0.0.1:1,http://127.0.0.1:2"),
            ),
            ("cert-file", Some("c")),
            ("client-cert-auth", Some("true")),
            ("client-cert-allowed-hostname", Some("x,y")),
            ("feature-gates", Some("AllAlpha=true")),
            ("cors", None),
            ("discovery-fallback", None),
            ("quota-backend-bytes", Some("-1")),
            ("auto-compaction-retention", Some("1")),
        ] {
            assert_eq!(raw.given(name), value, "{name}");
        }
        assert!(parse(b"").is_ok());
    }

    #[test]
    fn what_has_the_wrong_type_is_refused_in_gos_words() {
        let into = "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal";
        for (yaml, reason) in [
            (
                "election-timeout: abc",
                "string into Go struct field configYAML.Config.election-timeout of type uint",
            ),
            (
                "election-timeout: -3",
                "number -3 into Go struct field configYAML.Config.election-timeout of type uint",
            ),
            (
                "election-timeout: true",
                "bool into Go struct field configYAML.Config.election-timeout of type uint",
            ),
            (
                "name: 5",
                "number into Go struct field configYAML.Config.name of type string",
            ),
            (
                "warning-apply-duration: 1.5",
                "number 1.5 into Go struct field configYAML.Config.warning-apply-duration of type time.Duration",
            ),
            (
                "pre-vote: \"yes\"",
                "string into Go struct field configYAML.Config.pre-vote of type bool",
            ),
            (
                "log-outputs: stderr",
                "string into Go struct field configYAML.Config.log-outputs of type []string",
            ),
            (
                "cipher-suites: [5]",
                "number into Go struct field configYAML.Config.cipher-suites of type string",
            ),
            (
                "listen-client-urls: [a]",
                "array into Go struct field configYAML.configJSON.listen-client-urls of type string",
            ),
            (
                "client-transport-security: a",
                "string into Go struct field configYAML.configJSON.client-transport-security of type \
                 embed.securityConfig",
            ),
            (
                "client-transport-security: {cert-file: 5}",
                "number into Go struct field securityConfig.configJSON.client-transport-security.cert-file of type \
                 string",
            ),
            (
                "discovery-config: {token: 5}",
                "number into Go struct field DiscoveryConfig.Config.discovery-config.token of type string",
            ),
            ("just words", "string into Go value of type embed.configYAML"),
        ] {
            let exit = parse(yaml.as_bytes()).expect_err(yaml);
            assert_eq!(
                (exit.code(), exit.text()),
                (1, format!("{into} {reason}").as_str())
            );
        }
    }

    #[test]
    fn what_is_no_yaml_is_refused_with_its_line() {
        for (yaml, line) in [("a: [\n", "yaml: "), ("name: a\n\tb: c\n", "yaml: line 2: ")] {
            let exit = parse(yaml.as_bytes()).expect_err(yaml);
            let start = format!("error converting YAML to JSON: {line}");
            assert!(exit.text().starts_with(&start), "{}", exit.text());
        }
    }
}

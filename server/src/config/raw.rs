//! The reading of a command line and an environment against the table of flags.
//!
//! The grammar is that of Go's `flag` package, because scripts written for etcd rely on it: `-flag` and `--flag`,
//! `=value` or the next argument, a boolean without value, the last of several wins, the first argument that is no
//! flag ends the list. Own code rather than clap, whose grammar refuses the single dash. Values are checked for
//! their form here (exit 2) and for their sense in [`super::Settings`] (exit 1).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::json;

use super::exit::{Exit, Refused, RefusedBy};
use super::file;
use super::notice::Notice;
use super::number::{self, parse_bool};
use super::table::{self, Flag, Kind, Named, OldFlag, Support};
use super::{duration, usage, version};

/// What the user said, each value checked for its form.
#[derive(Debug)]
pub(super) struct Raw {
    given: BTreeMap<&'static str, String>,
    /// Feature gates under their names of etcd 3.5: the name, the gate, its state.
    pub(super) old_gates: Vec<(String, &'static str, bool)>,
    pub(super) notices: Vec<Notice>,
    /// Everything is from the configuration file.
    pub(super) from_file: bool,
}

impl Raw {
    /// Reads `args` (without the program's name), then the configuration file or the `ETCD_` variables of `env`.
    pub(super) fn read(args: &[String], env: &[(String, String)]) -> Result<Raw, Exit> {
        let mut raw = Raw::new();
        let spelled = raw.read_args(args)?;
        if parse_bool(raw.get("version")) == Some(true) {
            return Err(Exit::Print {
                out: version::version_text(),
                err: String::new(),
            });
        }
        let variable = env.iter().find(|(name, _)| name == "ETCD_CONFIG_FILE");
        let path = match (raw.get("config-file"), variable) {
            ("", Some((_, path))) => path.clone(),
            (path, _) => path.to_owned(),
        };
        if path.is_empty() {
            raw.read_env(env, &spelled)?;
        } else {
            raw = file::read(&path)?;
        }
        raw.judge_support();
        Ok(raw)
    }

    /// Nothing given.
    pub(super) fn new() -> Raw {
        Raw {
            given: BTreeMap::new(),
            old_gates: Vec::new(),
            notices: Vec::new(),
            from_file: false,
        }
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
        self.given(name).unwrap_or_else(|| table::flag(name).default)
    }

    /// A boolean.
    pub(super) fn flag(&self, name: &'static str) -> bool {
        parse_bool(self.get(name)).unwrap_or(false)
    }

    /// An unsigned number.
    pub(super) fn number(&self, name: &'static str) -> u64 {
        number::parse_unsigned(self.get(name), u64::BITS).unwrap_or(0)
    }

    /// A duration; a negative one is none.
    pub(super) fn interval(&self, name: &'static str) -> Duration {
        duration::parse(self.get(name)).unwrap_or_default()
    }

    /// A comma list; empty if nothing is given.
    pub(super) fn strings(&self, name: &'static str) -> Vec<String> {
        match self.get(name) {
            "" => Vec::new(),
            text => text.split(',').map(str::to_owned).collect(),
        }
    }

    /// Notes a value whose form is right.
    pub(super) fn set(&mut self, flag: &'static Flag, value: String) {
        self.given.insert(flag.name, value);
    }

    /// Gives the names of the flags seen, as they were spelled.
    fn read_args(&mut self, args: &[String]) -> Result<BTreeSet<String>, Exit> {
        let mut spelled = BTreeSet::new();
        let mut rest = args.iter();
        while let Some(arg) = rest.next() {
            let name = match arg.strip_prefix("--").or_else(|| arg.strip_prefix('-')) {
                // `-` alone and everything after `--` are not flags.
                Some("") if arg == "-" => return Err(not_a_flag(arg)),
                Some("") => match rest.next() {
                    Some(next) => return Err(not_a_flag(next)),
                    None => break,
                },
                Some(name) => name,
                None => return Err(not_a_flag(arg)),
            };
            if name.starts_with(['-', '=']) {
                return Err(Exit::Usage(format!("bad flag syntax: {arg}")));
            }
            let (name, inline) = match name.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (name, None),
            };
            let Some(named) = table::find(name) else {
                return Err(match name {
                    "help" | "h" => Exit::Print {
                        out: usage::flags(),
                        err: usage::usage(),
                    },
                    _ => Exit::Usage(format!("flag provided but not defined: -{name}")),
                });
            };
            let is_bool = named.is_bool();
            let value = match (inline, is_bool) {
                (Some(value), _) => value,
                (None, true) => "true",
                (None, false) => rest
                    .next()
                    .ok_or_else(|| Exit::Usage(format!("flag needs an argument: -{name}")))?,
            };
            self.keep(named, name, value).map_err(|reason| {
                Exit::Usage(match is_bool {
                    true => format!("invalid boolean value {value:?} for -{name}: {reason}"),
                    false => format!("invalid value {value:?} for flag -{name}: {reason}"),
                })
            })?;
            spelled.insert(name.to_owned());
        }
        Ok(spelled)
    }

    fn read_env(&mut self, env: &[(String, String)], spelled: &BTreeSet<String>) -> Result<(), Exit> {
        let ours: BTreeMap<&str, &str> = env
            .iter()
            .filter(|(variable, _)| {
                variable.starts_with("ETCD_") || OWN_VARIABLES.contains(&variable.as_str())
            })
            .map(|(variable, value)| (variable.as_str(), value.as_str()))
            .collect();
        let mut wrong = None;
        for (&variable, &value) in &ours {
            let name = variable.split_once('_').map_or(variable, |(_, name)| name);
            let name = name.to_ascii_lowercase().replace('_', "-");
            if variable == "ETCD_VERSION" && !value.is_empty() {
                self.notices.push(Notice::warning(
                    "cannot set special environment variable",
                    json!({ "key": variable, "value": value }),
                ));
                continue;
            }
            if spelled.contains(&name) {
                return Err(self.refused(variable, RefusedBy::Conflict));
            }
            match table::find(&name).filter(|_| !value.is_empty()) {
                None if variable == "ETCD_UNSUPPORTED_ARCH" => {}
                None => self.notices.push(Notice::warning(
                    "unrecognized environment variable",
                    json!({ "environment-variable": format!("{variable}={value}") }),
                )),
                Some(named) => match self.keep(named, &name, value) {
                    Ok(()) => self.notices.push(Notice::info(
                        "recognized and used environment variable",
                        json!({ "variable-name": variable, "variable-value": value }),
                    )),
                    Err(reason) => {
                        wrong = Some(format!("invalid value {value:?} for {variable}: {reason}"));
                    }
                },
            }
        }
        match wrong {
            // Only now: a conflict is told first.
            Some(reason) => Err(self.refused(reason, RefusedBy::Check)),
            None => Ok(()),
        }
    }

    /// Keeps the value of a flag given under `name`, if it has the wanted form.
    fn keep(&mut self, named: Named, name: &str, value: &str) -> Result<(), String> {
        let (old, flag) = match named {
            Named::Flag(flag) => {
                flag.check(value)?;
                self.set(flag, value.to_owned());
                return Ok(());
            }
            Named::Old(old, flag) => (old, flag),
        };
        let instead = match old.gate {
            Some(gate) => {
                let on = parse_bool(value).ok_or("parse error")?;
                self.old_gates.push((name.to_owned(), gate, on));
                format!("--feature-gates={gate}={on}")
            }
            None => {
                flag.check(value)?;
                self.set(flag, value.to_owned());
                format!("--{}", flag.name)
            }
        };
        self.notices.push(Notice::plain(format!(
            "--{name} is deprecated in 3.6 and will be decommissioned in 3.7. Use '{instead}' instead."
        )));
        Ok(())
    }

    /// Nothing given is dropped without a word.
    fn judge_support(&mut self) {
        let mut inert = Vec::new();
        for (&name, value) in &self.given {
            match DEPRECATED.iter().find(|(deprecated, _)| *deprecated == name) {
                Some((_, text)) => self.notices.push(Notice::plain(*text)),
                None => {
                    let flag = table::flag(name);
                    if flag.support == Support::Inert && value != flag.default {
                        inert.push(format!("--{name}"));
                    }
                }
            }
        }
        if !inert.is_empty() {
            self.notices.push(Notice::warning(
                "accepted without effect in this version",
                json!({ "flags": inert }),
            ));
        }
    }

    fn refused(&mut self, reason: impl Into<String>, by: RefusedBy) -> Exit {
        Exit::Refused(Box::new(Refused {
            reason: reason.into(),
            by,
            log: None,
            notices: std::mem::take(&mut self.notices),
        }))
    }
}

impl Named {
    fn is_bool(&self) -> bool {
        match self {
            Named::Flag(flag) => flag.is_bool(),
            Named::Old(OldFlag { gate: Some(_), .. }, _) => true,
            Named::Old(_, flag) => flag.kind == Kind::Bool,
        }
    }
}

fn not_a_flag(arg: &str) -> Exit {
    Raw::new().refused(format!("{arg:?} is not a valid flag"), RefusedBy::Check)
}

/// Variables of settings that etcd does not have, under our own name too.
const OWN_VARIABLES: [&str; 1] = ["TAFFRAIL_HEAL_FROM_PEERS"];

/// Flags that etcd is about to drop, and what it says of them.
const DEPRECATED: [(&str, &str); 2] = [
    (
        "max-snapshots",
        "--max-snapshots is deprecated in 3.6 and will be decommissioned in 3.8.",
    ),
    (
        "v2-deprecation",
        "--v2-deprecation is deprecated and scheduled for removal in v3.8. The default value is enforced, ignoring \
         user input.",
    ),
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

    fn warnings(raw: &Raw) -> Vec<String> {
        let warnings = raw.notices.iter().filter(|notice| notice.is_warning());
        warnings.map(ToString::to_string).collect()
    }

    #[test]
    fn every_spelling_of_a_flag_is_read() {
        for args in [
            &["--name=a"][..],
            &["-name=a"],
            &["--name", "a"],
            &["-name", "a"],
            &["--name=b", "-name=a"],
            &["--v", "--force=1", "--name=a", "--"],
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
    }

    #[test]
    fn the_spellings_of_older_releases_are_read_with_a_warning() {
        let raw = read(
            &[
                "--experimental-watch-progress-notify-interval=5s",
                "--experimental-initial-corrupt-check",
            ],
            &[("ETCD_EXPERIMENTAL_ENABLE_LEASE_CHECKPOINT", "false")],
        )
        .unwrap();
        assert_eq!(raw.get("watch-progress-notify-interval"), "5s");
        let gates: Vec<(&str, bool)> = raw.old_gates.iter().map(|(_, gate, on)| (*gate, *on)).collect();
        assert_eq!(gates, [("InitialCorruptCheck", true), ("LeaseCheckpoint", false)]);
        assert_eq!(
            warnings(&raw),
            [
                "--experimental-watch-progress-notify-interval is deprecated in 3.6 and will be decommissioned in \
                 3.7. Use '--watch-progress-notify-interval' instead.",
                "--experimental-initial-corrupt-check is deprecated in 3.6 and will be decommissioned in 3.7. Use \
                 '--feature-gates=InitialCorruptCheck=true' instead.",
                "--experimental-enable-lease-checkpoint is deprecated in 3.6 and will be decommissioned in 3.7. Use \
                 '--feature-gates=LeaseCheckpoint=false' instead.",
            ]
        );
    }

    #[test]
    fn what_prints_and_ends_succeeds() {
        for args in [
            &["--help"][..],
            &["-h"],
            &["--version"],
            &["--name=a", "-version=1"],
        ] {
            assert_eq!(read(args, &[]).expect_err("prints and ends").code(), 0);
        }
        assert!(read(&["--version=false"], &[]).is_ok());
        assert_eq!(
            read(&["--version", "--nope"], &[]).expect_err("unknown").code(),
            2
        );
    }

    #[test]
    fn a_variable_stands_in_for_a_flag_but_never_beside_it() {
        let raw = read(&[], &[("ETCD_INITIAL_CLUSTER_TOKEN", "t"), ("PATH", "/")]).unwrap();
        assert_eq!(raw.get("initial-cluster-token"), "t");
        for value in ["x", ""] {
            let exit = read(
                &["--name=y"],
                &[("ETCD_HEARTBEAT_INTERVAL", "abc"), ("ETCD_NAME", value)],
            );
            let exit = exit.expect_err("both");
            assert_eq!((exit.code(), exit.text()), (1, "ETCD_NAME"));
        }
        let exit = read(&[], &[("ETCD_HEARTBEAT_INTERVAL", "abc")]).expect_err("bad");
        assert_eq!(exit.code(), 1);
        assert_eq!(
            exit.text(),
            "invalid value \"abc\" for ETCD_HEARTBEAT_INTERVAL: parse error"
        );
    }

    #[test]
    fn nothing_given_is_dropped_silently() {
        let raw = read(
            &[
                "--max-wals=3",
                "--memory-mlock",
                "--max-snapshots=1",
                "--raft-read-timeout=5s",
            ],
            &[("ETCD_WHAT", "1")],
        )
        .unwrap();
        assert_eq!(
            warnings(&raw),
            [
                "unrecognized environment variable environment-variable=\"ETCD_WHAT=1\"",
                "--max-snapshots is deprecated in 3.6 and will be decommissioned in 3.8.",
                "accepted without effect in this version flags=[\"--max-wals\",\"--memory-mlock\"]",
            ]
        );
        assert!(warnings(&read(&["--auto-tls=false", "--force=1"], &[]).unwrap()).is_empty());
    }
}

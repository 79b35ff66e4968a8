//! The command line of the gateway.

use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::config::duration;

/// What the gateway shall do.
pub(super) struct Plan {
    /// Where it listens, `host:port`.
    pub(super) listen: String,
    /// Where it forwards to, each `host:port`.
    pub(super) endpoints: Vec<String>,
    /// How long a failed endpoint is left alone.
    pub(super) retry_delay: Duration,
}

/// Why there is no plan.
#[derive(PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum PlanError {
    #[error("error parsing endpoint \"{0}\"")]
    Endpoint(String),
    #[error("failed to validate listen address: {0}")]
    Listen(String),
    #[error("--retry-delay must be longer than 0")]
    RetryDelay,
    #[error("--discovery-srv is not supported by this version of Taffrail; give --endpoints")]
    Discovery,
    #[error("no endpoints found")]
    NoEndpoints,
}

/// The command line after `taffrail gateway`. etcd reads the flags before the word `start`, too.
pub(super) fn command() -> Command {
    let flag = |name: &'static str, default: &'static str, help: &'static str| {
        Arg::new(name)
            .long(name)
            .default_value(default)
            .hide_default_value(default.is_empty())
            .global(true)
            .help(help)
    };
    Command::new("gateway")
        .bin_name("taffrail gateway")
        .about("Forwards TCP connections to the members of a cluster.")
        .no_binary_name(true)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .arg(flag("listen-addr", "127.0.0.1:23790", "listen address"))
        .arg(flag(
            "endpoints",
            "127.0.0.1:2379",
            "comma separated cluster endpoints",
        ))
        .arg(flag(
            "retry-delay",
            "1m",
            "delay before retrying failed endpoints",
        ))
        .arg(flag("discovery-srv", "", "not supported"))
        .arg(flag("discovery-srv-name", "", "not supported"))
        .arg(flag(
            "trusted-ca-file",
            "",
            "only used by etcd with --discovery-srv",
        ))
        .arg(
            Arg::new("insecure-discovery")
                .long("insecure-discovery")
                .action(ArgAction::SetTrue)
                .global(true)
                .help("only used by etcd with --discovery-srv"),
        )
        .subcommand(Command::new("start").about("start the gateway"))
}

impl Plan {
    /// The plan of a command line.
    pub(super) fn of(matches: &ArgMatches) -> Result<Plan, PlanError> {
        // A flag may stand on either side of `start`; after it, it is the last word.
        let inner = matches.subcommand_matches("start").unwrap_or(matches);
        let text = |name: &str| inner.get_one::<String>(name).map_or("", String::as_str);
        if !text("discovery-srv").is_empty() {
            return Err(PlanError::Discovery);
        }
        let listen = text("listen-addr").to_owned();
        if !is_host_and_port(&listen) {
            return Err(PlanError::Listen(listen));
        }
        let given = text("endpoints").split(',').filter(|one| !one.is_empty());
        let endpoints: Vec<String> = given.map(without_scheme).map(str::to_owned).collect();
        match endpoints.iter().find(|endpoint| !is_host_and_port(endpoint)) {
            Some(bad) => return Err(PlanError::Endpoint(bad.clone())),
            None if endpoints.is_empty() => return Err(PlanError::NoEndpoints),
            None => {}
        }
        let retry_delay = duration::parse(text("retry-delay")).unwrap_or_default();
        if retry_delay.is_zero() {
            return Err(PlanError::RetryDelay);
        }
        Ok(Plan {
            listen,
            endpoints,
            retry_delay,
        })
    }
}

/// The host and port of an endpoint that may be a URL.
fn without_scheme(endpoint: &str) -> &str {
    let rest = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest)
}

fn is_host_and_port(text: &str) -> bool {
    text.rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(args: &[&str]) -> Result<Plan, PlanError> {
        Plan::of(&command().try_get_matches_from(args).unwrap())
    }

    #[test]
    fn flags_are_read_on_either_side_of_start() {
        let endpoints = "--endpoints=http://localhost:1,127.0.0.1:2";
        for args in [&[endpoints, "start"], &["start", endpoints]] {
            let plan = plan(args).unwrap();
            assert_eq!(plan.endpoints, ["localhost:1", "127.0.0.1:2"]);
            assert_eq!(plan.listen, "127.0.0.1:23790");
            assert_eq!(plan.retry_delay, Duration::from_secs(60));
        }
    }

    #[test]
    fn what_cannot_work_is_refused() {
        for (flag, error) in [
            ("--endpoints=nowhere", PlanError::Endpoint("nowhere".to_owned())),
            ("--endpoints=,", PlanError::NoEndpoints),
            ("--listen-addr=2379", PlanError::Listen("2379".to_owned())),
            ("--retry-delay=0s", PlanError::RetryDelay),
            ("--discovery-srv=example.com", PlanError::Discovery),
        ] {
            assert_eq!(plan(&["start", flag]).err(), Some(error), "{flag}");
        }
        assert!(command().try_get_matches_from(["stop"]).is_err());
    }
}

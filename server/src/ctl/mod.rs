//! `taffrail ctl`: the everyday commands of etcdctl, in its own syntax and with its own output.
//!
//! | module | what |
//! | --- | --- |
//! | `line` | the commands and their flags, for clap |
//! | `session` | endpoints, connections, deadlines |
//! | `dial`, `ask` | TLS; passwords from the terminal |
//! | `kv`, `txn`, `watch`, `lease`, `member`, `cluster`, `leader`, `snapshot` | the commands |
//! | `accounts`, `auth`, `user`, `role` | those about authentication |
//! | `print`, `json`, `text` | answers as etcdctl prints them |
//!
//! It imports nothing from the server but notation ([`crate::config::duration`], versions, names of codes), so it
//! talks to any etcd. Exit codes are etcdctl's, see [`Failure`].

use std::process::ExitCode;

use clap::ArgMatches;
use clap::error::ErrorKind;
use clap::parser::ValueSource;

use self::print::Printer;
use self::session::Session;

mod accounts;
mod ask;
mod auth;
mod cluster;
mod dial;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod json;
mod kv;
mod leader;
mod lease;
pub(crate) mod line;
mod member;
mod print;
mod role;
mod session;
mod snapshot;
pub(crate) mod text;
mod txn;
mod user;
mod watch;

pub(crate) use self::dial::Dialer;

/// Why a command failed, by etcdctl's exit codes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The server refused, or what was asked is not so.
    Refused(String),
    /// There is no connection to be had.
    Connection(String),
    /// The standard input makes no sense.
    Input(String),
    /// An option asks for what there is not.
    Feature(String),
    /// The server ended what should have gone on.
    Interrupted(String),
    /// The arguments make no sense.
    Arguments(String),
    /// Everything is said already.
    Silent,
}

impl Failure {
    fn code(&self) -> u8 {
        match self {
            Failure::Refused(_) | Failure::Silent => 1,
            Failure::Connection(_) => 2,
            Failure::Input(_) => 3,
            Failure::Feature(_) => 4,
            Failure::Interrupted(_) => 5,
            Failure::Arguments(_) => 128,
        }
    }

    /// A refusal with what it stopped, as some commands tell it.
    fn within(self, what: &str) -> Failure {
        match self {
            Failure::Refused(text) => Failure::Refused(format!("{what} ({text})")),
            other => other,
        }
    }

    /// Says why on the standard error; the process's exit code.
    pub(crate) fn tell(&self) -> ExitCode {
        if let Some(text) = self.text() {
            eprintln!("Error: {text}");
        }
        ExitCode::from(self.code())
    }

    fn text(&self) -> Option<&str> {
        match self {
            Failure::Refused(text)
            | Failure::Connection(text)
            | Failure::Input(text)
            | Failure::Feature(text)
            | Failure::Interrupted(text)
            | Failure::Arguments(text) => Some(text),
            Failure::Silent => None,
        }
    }
}

/// Runs the command that `args` name, to its exit code.
pub(crate) fn run(args: &[String], env: &[(String, String)]) -> ExitCode {
    let matches = match line::command(env).try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(error) => {
            // Help is a success, also where a command is missing; everything else is etcdctl's code 1.
            let failed =
                error.use_stderr() && error.kind() != ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
            // Nothing is left to try when even the message cannot be printed.
            let _ = error.print();
            return ExitCode::from(u8::from(failed));
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("Error: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(execute(&matches, env)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.tell(),
    }
}

async fn execute(matches: &ArgMatches, env: &[(String, String)]) -> Result<(), Failure> {
    refuse_shadowed(matches, env)?;
    let printer = Printer::new(matches)?;
    let session = Session::new(matches)?;
    match matches.subcommand() {
        Some(("get", matches)) => kv::get(&session, &printer, matches).await,
        Some(("put", matches)) => kv::put(&session, &printer, matches).await,
        Some(("del", matches)) => kv::del(&session, &printer, matches).await,
        Some(("compaction", matches)) => kv::compaction(&session, matches).await,
        Some(("txn", matches)) => txn::run(&session, &printer, matches).await,
        Some(("watch", matches)) => Box::pin(watch::run(&session, &printer, matches)).await,
        Some(("lease", matches)) => Box::pin(lease::run(&session, &printer, matches)).await,
        Some(("member", matches)) => Box::pin(member::run(&session, &printer, matches)).await,
        Some(("endpoint", matches)) => Box::pin(cluster::endpoint(&session, &printer, matches)).await,
        Some(("alarm", matches)) => cluster::alarm(&session, matches).await,
        Some(("snapshot", matches)) => Box::pin(snapshot::run(&session, matches)).await,
        Some(("move-leader", matches)) => leader::move_leader(&session, matches).await,
        Some(("auth", matches)) => Box::pin(auth::run(&session, &printer, matches)).await,
        Some(("user", matches)) => Box::pin(user::run(&session, &printer, matches)).await,
        Some(("role", matches)) => Box::pin(role::run(&session, &printer, matches)).await,
        Some(("defrag", _)) => cluster::defrag(&session).await,
        _ => {
            println!("etcdctl version: {}", crate::config::ETCD_VERSION);
            println!("API version: 3.7");
            println!("Taffrail version: {}", crate::config::TAFFRAIL_VERSION);
            Ok(())
        }
    }
}

/// The same setting as a flag and as a variable is an error, as in etcdctl.
fn refuse_shadowed(matches: &ArgMatches, env: &[(String, String)]) -> Result<(), Failure> {
    // A global flag is known to the command that it was given to, and to those below.
    let mut innermost = matches;
    while let Some((_, inner)) = innermost.subcommand() {
        innermost = inner;
    }
    for name in line::GLOBAL {
        let variable = line::variable(name);
        let set = env
            .iter()
            .any(|(known, value)| *known == variable && !value.is_empty());
        if set && innermost.value_source(name) == Some(ValueSource::CommandLine) {
            return Err(Failure::Refused(format!(
                "conflicting environment variable is shadowed by corresponding command-line flag (either unset \
                 environment variable or disable flag)): {variable}"
            )));
        }
    }
    Ok(())
}

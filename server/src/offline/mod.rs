//! Work on data folders and backups without a running member: `taffrail debug` looks into a folder, `taffrail snapshot`
//! saves, examines and restores backups.
//!
//! | module | what |
//! | --- | --- |
//! | `check` | `debug check`: every checksum of a data folder |
//! | `log`, `redact` | `debug log`: the records of a log, without its secrets |
//! | `status` | `snapshot status`: what a backup holds |
//! | `restore` | `snapshot restore`: a new data folder from a backup, or from another folder |
//!
//! What only looks never changes a byte; `debug check` wants the member stopped, `debug log` does not mind it. `debug` has the exit codes of this program (0,
//! 1 for a failure, 2 for a wrong command line), `snapshot` those of etcdctl and etcdutl.

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::ctl::line::{option, words};
use crate::ctl::{self, Failure};

mod check;
mod log;
mod redact;
mod restore;
mod status;

/// Runs the command line after `taffrail debug` to its exit code.
pub(crate) fn debug(args: &[String]) -> ExitCode {
    let matches = match debug_command().try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(error) => return unreadable(&error, 2),
    };
    let done = match matches.subcommand() {
        Some(("check", matches)) => return check::run(matches),
        Some(("log", matches)) => log::run(matches),
        _ => unreachable!("clap knows the subcommands"),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("Error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the command line after `taffrail snapshot` to its exit code.
pub(crate) fn snapshot(args: &[String], env: &[(String, String)]) -> ExitCode {
    if args.first().is_some_and(|first| first == "save") {
        // What talks to a server is a command of etcdctl.
        let to_ctl: Vec<String> = ["snapshot".to_owned()].into_iter().chain(args.to_vec()).collect();
        return ctl::run(&to_ctl, env);
    }
    let matches = match snapshot_command().try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(error) => return unreadable(&error, 1),
    };
    match snapshot_offline(&matches) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.tell(),
    }
}

fn snapshot_offline(matches: &ArgMatches) -> Result<(), Failure> {
    match matches.subcommand() {
        Some(("status", matches)) => status::run(matches),
        Some(("restore", matches)) => restore::run(matches),
        _ => unreachable!("`save` is etcdctl's, and clap knows the other subcommands"),
    }
}

/// What is left to do when clap has refused a command line: help is a success.
fn unreadable(error: &clap::Error, code: u8) -> ExitCode {
    let failed = error.use_stderr() && error.kind() != ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
    // Nothing is left to try when even the message cannot be printed.
    let _ = error.print();
    ExitCode::from(if failed { code } else { 0 })
}

fn debug_command() -> Command {
    Command::new("taffrail debug")
        .about("Looks into a data directory; never changes it.")
        .no_binary_name(true)
        .disable_help_subcommand(true)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(check::command())
        .subcommand(log_command())
}

fn snapshot_command() -> Command {
    Command::new("taffrail snapshot")
        .about("Manages etcd node snapshots")
        .no_binary_name(true)
        .disable_help_subcommand(true)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .arg(
            option("write-out", "output format: simple, json, fields or table")
                .short('w')
                .default_value("simple")
                .global(true),
        )
        .subcommand(
            Command::new("save")
                .about("Stores an etcd node backend snapshot to a given file (as etcdctl does)"),
        )
        .subcommand(
            Command::new("status")
                .about("Gets backend snapshot status of a given file")
                .arg(words("snapshot status <filename>")),
        )
        .subcommand(restore::command())
}

fn log_command() -> Command {
    Command::new("log")
        .about("Prints the records of the log in order, as JSON lines or as protobuf")
        .long_about(
            "Prints the records of the log in order: the entries that survived (one that a later entry replaced is \
             left out), each once, and the hard states where they stand among them. Passwords, their hashes and \
             tokens are replaced by \"<redacted>\". A damaged log is printed up to the damage; then the command \
             fails and names the file and the offset.",
        )
        .arg(Arg::new("DATA-DIR").required(true).help("the data directory of a member"))
        .arg(option("wal-dir", "the directory of the log, where it is a separate one"))
        .arg(
            Arg::new("binary")
                .long("binary")
                .action(ArgAction::SetTrue)
                .help(
                    "for each record one byte S or E, 4 bytes of length (big-endian), and raftpb.HardState or \
                     raftpb.Entry in protobuf",
                ),
        )
}

/// The text of an argument, empty where it was not given.
fn text_of<'a>(matches: &'a ArgMatches, name: &str) -> &'a str {
    matches
        .get_one::<String>(name)
        .map(String::as_str)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trees_are_sound() {
        debug_command().debug_assert();
        snapshot_command().debug_assert();
    }
}

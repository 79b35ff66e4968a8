//! `taffrail debug check`: every checksum in the data folder of a member that does not run, one line for each file.
//!
//! ```text
//! ok        PATH: what is in it
//! torn tail PATH: byte N: a write that a crash cut short; nobody was told of it
//! damaged   PATH: byte N: what is wrong and the way back
//! unchecked PATH: why
//! ```
//! The exit code is 1 where anything is damaged or could not be checked.

use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command};
use store::shell::{Finding, Verdict, verify};

use super::text_of;
use crate::ctl::line::option;

pub(super) fn command() -> Command {
    Command::new("check")
        .about("Verifies every checksum of a data directory")
        .long_about(
            "Verifies every checksum of the data directory of a member that does not run, and whether its parts fit \
             together; changes nothing. One line for each file: ok, torn tail (a write that a crash cut short, which \
             is no damage), damaged (where, and what to do), or unchecked. The exit code is 1 where anything is \
             damaged or unchecked.",
        )
        .arg(Arg::new("DATA-DIR").required(true).help("the data directory of a member"))
        .arg(option("wal-dir", "the directory of the log, where it is a separate one"))
        .arg(option(
            "scratch-dir",
            "where the working copy is copied to for its check, as its reader may write; by default the folder that \
             holds the data directory",
        ))
}

pub(super) fn run(matches: &ArgMatches) -> ExitCode {
    let data_dir = Path::new(text_of(matches, "DATA-DIR"));
    let wal_dir = Some(text_of(matches, "wal-dir"))
        .filter(|given| !given.is_empty())
        .map(Path::new);
    let scratch = match text_of(matches, "scratch-dir") {
        "" => beside(data_dir),
        given => PathBuf::from(given),
    };
    // A panic of the working copy's reader is damage, and shown as such.
    std::panic::set_hook(Box::new(|panic| {
        if !store::backend::is_guarded() {
            eprintln!("{panic}");
        }
    }));
    let findings = match verify(data_dir, wal_dir, &scratch) {
        Ok(findings) => findings,
        Err(error) => {
            match std::error::Error::source(&error) {
                Some(source) => eprintln!("Error: {error}: {source}"),
                None => eprintln!("Error: {error}"),
            }
            return ExitCode::FAILURE;
        }
    };
    let mut out = io::stdout().lock();
    for finding in &findings {
        // Whoever reads us has seen enough, as `head` does.
        if writeln!(out, "{}", Line(finding)).is_err() {
            break;
        }
    }
    let fine = |finding: &Finding| matches!(finding.verdict, Verdict::Ok(_) | Verdict::TornTail { .. });
    match findings.iter().all(fine) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// The folder that holds `data_dir`.
fn beside(data_dir: &Path) -> PathBuf {
    let whole = std::path::absolute(data_dir).unwrap_or_else(|_| data_dir.to_owned());
    whole
        .parent()
        .map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// A finding as it is printed.
struct Line<'a>(&'a Finding);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.0.path.display();
        match &self.0.verdict {
            Verdict::Ok(what) => write!(f, "ok        {path}: {what}"),
            Verdict::TornTail { offset } => write!(
                f,
                "torn tail {path}: byte {offset}: a write that a crash cut short; nobody was told of it, and the next \
                 start cuts it off"
            ),
            Verdict::Damaged {
                offset: Some(offset),
                what,
            } => write!(f, "damaged   {path}: byte {offset}: {what}"),
            Verdict::Damaged { offset: None, what } => write!(f, "damaged   {path}: {what}"),
            Verdict::Unchecked(why) => write!(f, "unchecked {path}: {why}"),
        }
    }
}

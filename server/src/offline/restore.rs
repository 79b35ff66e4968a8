//! `taffrail snapshot restore`: a new data folder from a backup, with the flags and refusals of `etcdutl snapshot
//! restore`, or from the folder of another member. All members of the new cluster are restored from the same file with
//! the same `--initial-cluster`; they start as usual, and are one new cluster.
//!
//! Beyond etcdutl:
//! - The revision is bumped and everything up to it marked compacted unless that is switched off (`--bump-revision 0`),
//!   because clients that have cached a newer state than the backup's (kube-apiserver does) must see that time went
//!   on, and that their watches cannot go on from where they were.
//! - `--to-revision` restores the state at an earlier revision.

use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{ArgMatches, Command};
use store::auth::{AuthState, AuthTableError};
use store::shell::{Content, Covered, NewFolder, RestoreError};
use store::types::{Index, Term};

use crate::backup::file::{BackupFile, FileError, Tables};
use crate::config::Settings;
use crate::ctl::Failure;
use crate::ctl::line::{self, option, switch, words};

/// Why nothing was restored.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Folder(#[from] RestoreError),
    #[error("{0}")]
    Settings(String),
    #[error("the file is damaged: {0}")]
    Auth(#[from] AuthTableError),
    #[error("revision {wanted} is not covered: {} covers the revisions from {first} to {last}", path.display())]
    NotCovered {
        path: PathBuf,
        wanted: i64,
        first: i64,
        last: i64,
    },
    #[error("revision {revision} bumped by {bump} is larger than a revision can be")]
    Bump { revision: i64, bump: u64 },
}

/// The command and its flags.
pub(super) fn command() -> Command {
    Command::new("restore")
        .about("Restores an etcd member snapshot to a data directory")
        .long_about(
            "Restores an etcd member snapshot to a data directory: a file saved from Taffrail or etcd (3.4 or later), the \
             file member/snap/db of a stopped etcd (with --skip-hash-check), or the data directory of a stopped Taffrail \
             member. Restore every member of the new cluster from the same one, with the same --initial-cluster.",
        )
        .arg(words("snapshot restore <filename> --data-dir {output dir} [options]"))
        .arg(option("data-dir", "Path to the output data directory").default_value(""))
        .arg(
            option("wal-dir", "Path to the WAL directory (use --data-dir if none given)").default_value(""),
        )
        .arg(option("name", "Human-readable name for this member").default_value("default"))
        .arg(
            option(
                "initial-cluster",
                "Initial cluster configuration for restore bootstrap",
            )
            .default_value("default=http://localhost:2380"),
        )
        .arg(
            option(
                "initial-cluster-token",
                "Initial cluster token for the etcd cluster during restore bootstrap",
            )
            .default_value("etcd-cluster"),
        )
        .arg(
            option(
                "initial-advertise-peer-urls",
                "List of this member's peer URLs to advertise to the rest of the cluster",
            )
            .default_value("http://localhost:2380"),
        )
        .arg(switch(
            "skip-hash-check",
            "Ignore snapshot integrity hash value (required if copied from data directory)",
        ))
        .arg(
            option("initial-memory-map-size", "Accepted for the sake of scripts; without effect")
                .default_value("0")
                .value_parser(clap::value_parser!(u64)),
        )
        .arg(
            option(
                "bump-revision",
                "How much to increase the latest revision after restore; 0 leaves it as it is",
            )
            .value_parser(clap::value_parser!(u64))
            .help(format!(
                "How much to increase the latest revision after restore [default: {BUMP_DEFAULT}]; 0 leaves it as it is"
            )),
        )
        .arg(switch(
            "mark-compacted",
            "Mark the latest revision after restore as compacted (the default unless --bump-revision is 0)",
        ))
        .arg(
            option(
                "source-wal-dir",
                "Path to the WAL directory of the data directory restored from, where it is a separate one",
            ),
        )
        .arg(
            option("to-revision", "Restore the state at this revision, where it is covered")
                .value_parser(clap::value_parser!(i64).range(1..)),
        )
}

/// Runs the command.
pub(super) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let words = line::words_of(matches);
    let [source] = words.as_slice() else {
        return Err(Failure::Arguments(
            "snapshot restore requires exactly one argument".to_owned(),
        ));
    };
    let bump = bump(matches)?;
    let done = settings(matches).and_then(|settings| restore(matches, Path::new(source), &settings, bump));
    done.map_err(|refusal| Failure::Refused(refusal.to_string()))
}

/// By how much the revision rises. Without a word about it, it does.
fn bump(matches: &ArgMatches) -> Result<u64, Failure> {
    let bump = matches.get_one::<u64>("bump-revision").copied();
    let marked = line::is_on(matches, "mark-compacted");
    let says_mark = matches.value_source("mark-compacted") == Some(ValueSource::CommandLine);
    let bump = match bump {
        None if says_mark && !marked => 0,
        bump => bump.unwrap_or(BUMP_DEFAULT),
    };
    // One makes no sense without the other; etcdutl demands to be told so.
    if says_mark && marked != (bump > 0) {
        return Err(Failure::Arguments(
            "--mark-compacted required if --revision-bump > 0".to_owned(),
        ));
    }
    Ok(bump)
}

/// The member to be, checked as at its start.
fn settings(matches: &ArgMatches) -> Result<store::Settings, Refusal> {
    let flags = [
        "data-dir",
        "wal-dir",
        "name",
        "initial-cluster",
        "initial-cluster-token",
        "initial-advertise-peer-urls",
    ];
    let flags = flags.map(|name| format!("--{name}={}", line::text_of(matches, name)));
    let settings = Settings::resolve(&flags, &[]);
    Ok(settings
        .map_err(|exit| Refusal::Settings(exit.text().to_owned()))?
        .store)
}

fn restore(
    matches: &ArgMatches,
    source: &Path,
    settings: &store::Settings,
    bump: u64,
) -> Result<(), Refusal> {
    let wanted = matches.get_one::<i64>("to-revision").copied();
    let source_wal = matches.get_one::<String>("source-wal-dir").map(Path::new);
    let (content, member) = if source.is_dir() {
        let covered = Covered::find(source, source_wal, wanted)?;
        let lost = covered.is_cut().then_some(LOST_LEASE_TTL_S);
        let (content, origin) = plan(covered.content(), covered.origin(), bump)?;
        let folder = NewFolder::begin(settings, &content, &origin, lost)?;
        (
            content,
            filled(settings, folder, |folder| {
                Ok(covered.changes(&mut |changes| folder.changes(changes))?)
            })?,
        )
    } else {
        let file = BackupFile::open(source, line::is_on(matches, "skip-hash-check"))?;
        let found = from_file(source, &file, wanted)?;
        let lost = wanted.is_some().then_some(LOST_LEASE_TTL_S);
        let last = found.revision;
        let mut origin = file.digest().to_vec();
        origin.extend_from_slice(&last.to_be_bytes());
        let (content, origin) = plan(&found, origin, bump)?;
        let folder = NewFolder::begin(settings, &content, &origin, lost)?;
        (
            content,
            filled(settings, folder, |folder| {
                file.changes(last, &mut |changes| Ok(folder.changes(changes)?))
            })?,
        )
    };
    eprintln!(
        "restored {} to {}: revision {}{}, member {}, cluster {}",
        source.display(),
        settings.data_dir.display(),
        content.revision,
        if bump > 0 {
            format!(" (bumped by {bump}; everything before is compacted)")
        } else {
            String::new()
        },
        member.member,
        member.cluster
    );
    Ok(())
}

/// Fills the folder; where that fails, what was made of it is removed.
fn filled(
    settings: &store::Settings,
    mut folder: NewFolder,
    fill: impl FnOnce(&mut NewFolder) -> Result<(), Refusal>,
) -> Result<store::shell::NewMember, Refusal> {
    let done = match fill(&mut folder) {
        Ok(()) => folder.finish().map_err(Refusal::from),
        Err(refusal) => {
            drop(folder);
            Err(refusal)
        }
    };
    if done.is_err() {
        let member = settings.data_dir.join("member");
        // All of these may fail: what is not ours alone stays.
        let _ = std::fs::remove_dir(member.join("snap"));
        let _ = std::fs::remove_file(member.join("LOCK"));
        let _ = std::fs::remove_dir(&member);
        let _ = std::fs::remove_dir(&settings.data_dir);
    }
    done
}

/// What the folder is to hold, and what its cluster's id is made from: the state, and the bump too.
fn plan(found: &Content, mut origin: Vec<u8>, bump: u64) -> Result<(Content, Vec<u8>), Refusal> {
    let mut content = found.clone();
    origin.extend_from_slice(&bump.to_be_bytes());
    if bump > 0 {
        let bumped = i64::try_from(bump)
            .ok()
            .and_then(|bump| content.revision.checked_add(bump));
        content.revision = bumped
            .filter(|bumped| *bumped < i64::MAX / 2)
            .ok_or(Refusal::Bump {
                revision: content.revision,
                bump,
            })?;
        content.compacted = content.revision;
    }
    Ok((content, origin))
}

/// Everything but the history in a backup.
fn from_file(path: &Path, file: &BackupFile, wanted: Option<i64>) -> Result<Content, Refusal> {
    let Tables {
        leases,
        alarms,
        cluster_version,
        auth_enabled,
        auth_revision,
        users,
        roles,
        applied,
        term,
        compacted,
        revision,
    } = file.tables()?;
    let auth = AuthState::from_messages(auth_enabled, auth_revision, users, roles)?;
    let first = compacted.max(1);
    if let Some(wanted) = wanted.filter(|wanted| !(first..=revision).contains(wanted)) {
        return Err(Refusal::NotCovered {
            path: path.to_owned(),
            wanted,
            first,
            last: revision,
        });
    }
    Ok(Content {
        applied: Index(applied),
        term: Term(term),
        revision: wanted.unwrap_or(revision).max(compacted),
        compacted,
        leases,
        auth,
        alarms,
        members: Vec::new(),
        removed: Vec::new(),
        cluster_version,
    })
}

/// As etcd's guide to disaster recovery has it: more than a cluster writes in a week at 1500 writes a second.
const BUMP_DEFAULT: u64 = 1_000_000_000;
/// How long keys stay whose lease was there at the revision restored, and has ended since: nothing tells its TTL.
const LOST_LEASE_TTL_S: i64 = 3600;

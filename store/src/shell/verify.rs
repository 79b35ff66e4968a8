//! Looking for damage in the data folder of a member that does not run: every checksum of every file, and whether the
//! parts fit together. Changes nothing in the folder; the working copy, whose own reader may write, is read in a copy.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::bootstrap::Folders;
use super::incarnation;
use super::snapshots;
use crate::backend::{self, BackendError};
use crate::env::Disk;
use crate::env::real::{ReadOnlyDisk, RealDisk};
use crate::types::{ClusterId, Index, MemberId};
use crate::wal::snapshot::{self, SnapshotError, SnapshotReader};
use crate::wal::{self, LogCheck, LogRange, WalError};

/// What was found of a file, or of what several files are together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// The file.
    pub path: PathBuf,
    /// What is to be said of it.
    pub verdict: Verdict,
}

/// How a file is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Whole; what is in it.
    Ok(String),
    /// Ends in something that a crash has cut short, and that nobody was told of.
    TornTail {
        /// Where that begins.
        offset: u64,
    },
    /// Not what was written, or missing.
    Damaged {
        /// Where, if it is known.
        offset: Option<u64>,
        /// What is wrong, and the way back.
        what: String,
    },
    /// Could not be looked at.
    Unchecked(String),
}

/// Why a folder cannot be looked at as a whole.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// There is nothing.
    #[error("{} holds no data of a member", .0.display())]
    NoData(PathBuf),
    /// A member runs there.
    #[error("data directory {} is in use by another process: stop the member first", .0.display())]
    Locked(PathBuf),
    /// The system refuses.
    #[error("cannot read {}", path.display())]
    Io {
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Looks at everything in a data folder. The working copy is copied below `scratch` for that, and the copy removed.
///
/// # Errors
/// Where there is nothing to look at, or a member runs there.
pub fn verify(data_dir: &Path, wal_dir: Option<&Path>, scratch: &Path) -> Result<Vec<Finding>, VerifyError> {
    let mut folders = Folders::new(data_dir);
    if let Some(wal_dir) = wal_dir {
        folders.wal = wal_dir.to_owned();
    }
    if !folders.member.is_dir() {
        return Err(VerifyError::NoData(data_dir.to_owned()));
    }
    let _lock = match ReadOnlyDisk.lock_dir(&folders.member) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            return Err(VerifyError::Locked(data_dir.to_owned()));
        }
        // No member has ever run here, or whoever looks may not read the lock.
        held => held.ok(),
    };
    let mut look = Look {
        folders,
        findings: Vec::new(),
        log: None,
        log_is_whole: false,
        snapshot: None,
        working_copy: None,
    };
    look.incarnation();
    look.mark();
    look.log();
    look.snapshots();
    look.working_copy(scratch);
    look.together();
    Ok(look.findings)
}

/// A look under way.
struct Look {
    folders: Folders,
    findings: Vec<Finding>,
    log: Option<LogRange>,
    log_is_whole: bool,
    /// Of the newest snapshot that is whole.
    snapshot: Option<(PathBuf, Index, ClusterId)>,
    working_copy: Option<backend::Meta>,
}

impl Look {
    fn say(&mut self, path: impl Into<PathBuf>, verdict: Verdict) {
        self.findings.push(Finding {
            path: path.into(),
            verdict,
        });
    }

    fn incarnation(&mut self) {
        for (path, checked) in incarnation::check(&ReadOnlyDisk, &self.folders) {
            let verdict = match checked {
                Ok(()) => Verdict::Ok("the member's incarnation".to_owned()),
                Err(what) => damaged(what),
            };
            self.say(path, verdict);
        }
    }

    fn mark(&mut self) {
        let path = self.folders.mark();
        let verdict = match wal::check_mark(&ReadOnlyDisk, &path) {
            Ok(None) => return,
            Ok(Some(true)) => Verdict::Ok("mark of the log's end".to_owned()),
            Ok(Some(false)) => {
                damaged("the mark of the log's end does not verify: the next start writes it anew".to_owned())
            }
            Err(error) => log_verdict(error),
        };
        self.say(path, verdict);
    }

    fn log(&mut self) {
        let mark = self.folders.mark();
        let config = wal::Config {
            mark: mark.exists().then_some(mark.clone()),
            ..wal::Config::default()
        };
        let wal_dir = self.folders.wal.clone();
        let LogCheck {
            segments,
            others,
            range,
        } = match wal::check(&ReadOnlyDisk, &wal_dir, &config, &mut |_| {}) {
            Ok(checked) => checked,
            Err(error) => return self.say(wal_dir, log_verdict(error)),
        };
        if segments.is_empty() {
            let what = "there is no log: put its files back, or name its directory with --wal-dir. Where they are \
                        lost, a member of a cluster must be replaced, and a single one restored from a snapshot";
            self.say(wal_dir, damaged(what.to_owned()));
        }
        self.log = range;
        self.log_is_whole = segments.iter().all(|segment| segment.outcome.is_ok());
        for segment in segments {
            let verdict = match segment.outcome {
                Ok(content) => match (content.torn, content.indexes) {
                    (Some(offset), _) => Verdict::TornTail { offset },
                    (None, Some((first, last))) => Verdict::Ok(format!(
                        "log segment, {} entries, index {first} to {last}",
                        content.entries
                    )),
                    (None, None) => Verdict::Ok("log segment, no entries".to_owned()),
                },
                Err(error) => log_verdict(error),
            };
            self.say(segment.path, verdict);
        }
        for path in others {
            self.say(
                path,
                Verdict::Ok("waits to be used; what is in it does not matter".to_owned()),
            );
        }
    }

    fn snapshots(&mut self) {
        let snap = self.folders.snap.clone();
        let indexes = match snapshot::list(&ReadOnlyDisk, &snap) {
            Ok(indexes) => indexes,
            Err(error) => return self.say(snap, Verdict::Unchecked(error.to_string())),
        };
        if indexes.is_empty() {
            let what = "there is no snapshot file: a start writes one, as long as the working copy is whole";
            self.say(snap.clone(), damaged(what.to_owned()));
        }
        for index in indexes {
            let path = snapshot::path(&snap, index);
            let verdict = match SnapshotReader::open(&ReadOnlyDisk, &snap, index) {
                Ok(mut reader) => match snapshots::read(&mut reader, &mut |_| {}) {
                    Ok(()) => {
                        let meta = reader.meta();
                        self.snapshot = Some((path.clone(), index, meta.cluster));
                        Verdict::Ok(format!("snapshot of index {index}, revision {}", meta.revision))
                    }
                    Err(error) => damaged(error.to_string()),
                },
                Err(error) => snapshot_verdict(error),
            };
            self.say(path, verdict);
        }
    }

    fn working_copy(&mut self, scratch: &Path) {
        let sled = self.folders.sled.clone();
        let files = match files_below(&sled) {
            Ok(files) => files,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let what =
                    "there is no working copy: the next start rebuilds it from the snapshot and the log";
                return self.say(sled, damaged(what.to_owned()));
            }
            Err(error) => return self.say(sled, Verdict::Unchecked(error.to_string())),
        };
        match inspect_copy(&sled, &files, scratch) {
            Ok(Ok(meta)) => {
                self.working_copy = meta;
                for (path, _) in files {
                    self.say(path, Verdict::Ok("part of the working copy".to_owned()));
                }
            }
            Ok(Err(error @ BackendError::Version { .. })) => self.say(sled, damaged(error.to_string())),
            Ok(Err(error)) => {
                let what = format!(
                    "{}: the next start sets the working copy aside and rebuilds it from the snapshot and the log",
                    chain(&error)
                );
                self.say(sled, damaged(what));
            }
            Err(error) => self.say(
                sled,
                Verdict::Unchecked(format!(
                    "it cannot be copied below {}: {error}",
                    scratch.display()
                )),
            ),
        }
    }

    /// Whether the parts are of one member, and lead on from one to the other.
    fn together(&mut self) {
        let Some(log) = self.log.filter(|_| self.log_is_whole) else {
            return;
        };
        let mut wrong = Vec::new();
        if let Some((path, index, cluster)) = &self.snapshot {
            if *cluster != log.metadata.cluster {
                wrong.push(format!("{} is of cluster {cluster}", path.display()));
            }
            if log.before > *index {
                wrong.push(format!(
                    "the log begins behind index {}, and the snapshot ends at {index}",
                    log.before
                ));
            }
        }
        if let Some(meta) = &self.working_copy {
            let of: (ClusterId, MemberId) = (meta.cluster, meta.member);
            if of != (log.metadata.cluster, log.metadata.member) {
                wrong.push(format!(
                    "the working copy is of member {} of cluster {}",
                    of.1, of.0
                ));
            }
            if meta.applied > log.last.index {
                wrong.push(format!(
                    "the working copy is at index {}, and the log ends at {}: acknowledged entries are missing from \
                     the log",
                    meta.applied, log.last.index
                ));
            }
        }
        let path = self.folders.member.clone();
        if !wrong.is_empty() {
            let what = format!(
                "{}. In a cluster, replace this member; restore a single one from a snapshot",
                wrong.join("; ")
            );
            return self.say(path, damaged(what));
        }
        let (member, cluster, last) = (log.metadata.member, log.metadata.cluster, log.last.index);
        let text =
            format!("the parts fit together: member {member} of cluster {cluster}, log up to index {last}");
        self.say(path, Verdict::Ok(text));
    }
}

fn damaged(what: String) -> Verdict {
    Verdict::Damaged { offset: None, what }
}

fn log_verdict(error: WalError) -> Verdict {
    match error {
        WalError::Corrupt { offset, .. } | WalError::UnknownRecord { offset, .. } => Verdict::Damaged {
            offset: Some(offset),
            what: error.to_string(),
        },
        WalError::Io { .. } => Verdict::Unchecked(chain(&error)),
        error => damaged(error.to_string()),
    }
}

fn snapshot_verdict(error: SnapshotError) -> Verdict {
    match error {
        SnapshotError::Corrupt { offset, .. } => Verdict::Damaged {
            offset: Some(offset),
            what: format!("{error}; a start writes it anew, as long as the working copy is whole"),
        },
        SnapshotError::Io { .. } => Verdict::Unchecked(chain(&error)),
        error => damaged(error.to_string()),
    }
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

/// Reads a working copy in a copy of it.
fn inspect_copy(
    sled: &Path,
    files: &[(PathBuf, u64)],
    scratch: &Path,
) -> io::Result<Result<Option<backend::Meta>, BackendError>> {
    let bytes: u64 = files.iter().map(|(_, bytes)| bytes).sum();
    let free = RealDisk.available_bytes(scratch)?;
    if bytes > free - free / FREE_KEPT {
        return Err(io::Error::new(
            io::ErrorKind::StorageFull,
            format!("{bytes} bytes are needed and {free} are free"),
        ));
    }
    let copy = Copy(scratch.join(format!("taffrail-check-{}", std::process::id())));
    // As private as what is copied, in a folder that may be everybody's.
    RealDisk.create_dir(&copy.0)?;
    for (path, _) in files {
        let below = path.strip_prefix(sled).map_err(io::Error::other)?;
        let to = copy.0.join(below);
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::copy(path, to)?;
    }
    Ok(backend::inspect(&copy.0))
}

/// A copy that goes when it is not needed any more.
struct Copy(PathBuf);

impl Drop for Copy {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "a temporary copy cannot be removed");
        }
    }
}

/// The files below a folder, sorted, with their sizes.
fn files_below(dir: &Path) -> io::Result<Vec<(PathBuf, u64)>> {
    let mut files = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if metadata.is_dir() {
                folders.push(entry.path());
            } else {
                files.push((entry.path(), metadata.len()));
            }
        }
    }
    files.sort();
    Ok(files)
}

/// One part in so many of what is free is left alone.
const FREE_KEPT: u64 = 10;

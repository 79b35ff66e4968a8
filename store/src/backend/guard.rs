//! Opens the working copy so that no damage to it can keep a member down: whatever fails is set aside, loudly, and
//! a fresh directory takes its place, to be filled from the newest snapshot file and the log, or from a peer.
//!
//! In the directory given, `sled` is the working copy, `sled.damaged-<n>` are those set aside (the last
//! [`ASIDE_MAX`]), and `sled.marker` remembers two facts across starts: whether one is opening right now (a start
//! that finds it so knows that the last one died of it), and whether a checkpoint was ever made durable (then an
//! empty directory is a loss, not a beginning). `sled.outdated` is one that is being removed. `ballast` is given up where
//! the disk is too full to open.
//!
//! A panic while opening is damage like any other and is caught. Elsewhere a panic must end the process: its hook
//! asks [`is_guarded`] which of the two it is.
//!
//! Errors that say nothing about the content (the directory is locked by another process, the disk is full, a
//! permission is missing) are returned: setting the copy aside would not help. So is a format of the future: what a
//! newer version wrote is not thrown away by an older one.

use std::cell::Cell;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::load::{Load, Loaded, Meta, Pass};
use super::reclaim;
use super::sled::{FirstFlush, SledBackend, read_all, sync};
use super::{Backend, BackendError, Table};
use crate::env::Disk as _;
use crate::env::real::RealDisk;

/// What [`open_guarded`] found.
pub struct Opened {
    /// The directory, open; empty where `loaded` is `None`.
    pub backend: Arc<dyn Backend>,
    /// The state it held; every change was handed to the visitor.
    pub loaded: Option<Loaded>,
    /// Why an earlier directory was set aside. Whatever the visitor was given before is void.
    pub aside: Option<Aside>,
}

/// A directory set aside.
#[derive(Debug)]
pub struct Aside {
    /// What was wrong with it.
    pub reason: BackendError,
    /// Where it is now.
    pub path: PathBuf,
}

/// Runs `action` so that a panic in it is known to be caught.
pub fn guarded<T>(action: impl FnOnce() -> T) -> T {
    /// Leaves the guard on unwinding, too.
    struct Leave;
    impl Drop for Leave {
        fn drop(&mut self) {
            DEPTH.set(DEPTH.get() - 1);
            OPENING.fetch_sub(1, Ordering::SeqCst);
        }
    }
    DEPTH.set(DEPTH.get() + 1);
    OPENING.fetch_add(1, Ordering::SeqCst);
    let _leave = Leave;
    action()
}

/// Whether a panic of the calling thread, now, is one that [`open_guarded`] deals with: this thread is inside
/// [`guarded`], or it is one of sled's (which have no name of ours) while another is.
#[must_use]
pub fn is_guarded() -> bool {
    if DEPTH.get() > 0 {
        return true;
    }
    let thread = std::thread::current();
    OPENING.load(Ordering::SeqCst) > 0 && matches!(thread.name(), None | Some(SLED_THREAD))
}

/// Opens the working copy in `dir` (created where it is missing) and reads all of it: `visit` gets every change.
/// A copy that fails in any way is set aside and a fresh one opened.
pub fn open_guarded(dir: &Path, visit: &mut dyn FnMut(Load)) -> Result<Opened, BackendError> {
    RealDisk.create_dir(dir).map_err(disk("create the directory"))?;
    reclaim::settle(&RealDisk, &dir.join(WORKING)).map_err(disk("settle a switch of directories"))?;
    remove_outdated(dir).map_err(disk("remove an outdated directory"))?;
    let write = |marker: Marker| match marker.write(dir) {
        // Better without the marker than not at all.
        Err(error) if error.kind() == io::ErrorKind::StorageFull => {
            tracing::warn!(%error, "cannot write the working copy's marker");
            Ok(())
        }
        written => written.map_err(disk("write the marker")),
    };
    let mut marker = Marker::read(dir)?;
    let mut aside = None;
    if marker.opening {
        marker.deaths += 1;
    }
    if marker.deaths >= DEATHS_MAX {
        aside = set_aside(
            dir,
            BackendError::Deadly {
                deaths: marker.deaths,
            },
        )?;
        marker = Marker::default();
    }
    marker.opening = true;
    write(marker)?;
    let attempted = match attempt(dir, marker, visit) {
        Err(error) if is_full(&error) && give_ballast(dir) => {
            tracing::warn!(%error, "the disk is full: opening with the ballast's space");
            attempt(dir, marker, visit)
        }
        attempted => attempted,
    };
    let (backend, loaded) = match attempted {
        Ok(opened) => opened,
        Err(error) if is_environment(&error) || matches!(error, BackendError::Version { .. }) => {
            // Nothing died of the content.
            write(Marker {
                opening: false,
                ..marker
            })?;
            return Err(error);
        }
        Err(error) => {
            aside = set_aside(dir, error)?;
            marker = Marker {
                opening: true,
                ..Marker::default()
            };
            write(marker)?;
            attempt(dir, marker, visit)?
        }
    };
    write(Marker {
        filled: loaded.is_some(),
        ..Marker::default()
    })?;
    Ok(Opened {
        backend,
        loaded,
        aside,
    })
}

/// Reads all of the working copy at `path` and checks it, without opening it for use; `None` where it is empty. The
/// store below may still change its files, so somebody who must not change anything gives it a copy.
pub fn inspect(path: &Path) -> Result<Option<Meta>, BackendError> {
    let reading = AssertUnwindSafe(|| {
        let mut ignore = |_: Load| {};
        let mut pass = Pass::new(&mut ignore);
        let any = read_all(path, &mut |table, key, value| pass.record(table, key, value))?;
        match pass.check()? {
            None if any => Err(BackendError::Absent {
                table: Table::Meta,
                main: 0,
            }),
            meta => Ok(meta),
        }
    });
    guarded(|| catch_unwind(reading)).unwrap_or_else(|panic| Err(panicked(panic.as_ref())))
}

/// Removes the working copy in `dir`, which is whole but of no use any more, and opens an empty one. Nobody may have
/// it open.
pub fn renew(dir: &Path) -> Result<Arc<dyn Backend>, BackendError> {
    let marker = Marker {
        opening: true,
        ..Marker::default()
    };
    // Before the directory goes: without it, an empty one would be taken for a loss.
    marker.write(dir).map_err(disk("write the marker"))?;
    remove_outdated(dir).map_err(disk("remove an outdated directory"))?;
    let (working, outdated) = (dir.join(WORKING), dir.join(OUTDATED));
    if working.exists() {
        // Renamed first, so that a crash never leaves a part of it under its name.
        fs::rename(&working, &outdated).map_err(disk("rename the directory"))?;
        sync(dir).map_err(disk("rename the directory"))?;
    }
    let (backend, _) = attempt(dir, marker, &mut |_| {})?;
    Marker::default().write(dir).map_err(disk("write the marker"))?;
    if let Err(error) = remove_outdated(dir) {
        tracing::warn!(%error, "cannot remove an outdated working copy");
    }
    Ok(backend)
}

fn remove_outdated(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir.join(OUTDATED)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// One try: reads everything, then opens.
fn attempt(
    dir: &Path,
    marker: Marker,
    visit: &mut dyn FnMut(Load),
) -> Result<(Arc<dyn Backend>, Option<Loaded>), BackendError> {
    let path = dir.join(WORKING);
    let opening = AssertUnwindSafe(|| {
        let mut pass = Pass::new(visit);
        let mut meta = None;
        let any = read_all(&path, &mut |table, key, value| {
            if table == Table::Meta {
                meta = Some(value.clone());
            }
            pass.record(table, key, value)
        })?;
        if marker.filled && !any {
            return Err(BackendError::Marker {
                reason: "a checkpoint was made, and the directory is empty",
            });
        }
        let mark = (!any).then(|| {
            let dir = dir.to_path_buf();
            Box::new(move || {
                Marker {
                    filled: true,
                    ..Marker::default()
                }
                .write(&dir)
            }) as FirstFlush
        });
        let backend: Arc<dyn Backend> = Arc::new(SledBackend::open(&path, mark)?);
        // sled reads its metadata anew, and where the newest file of them was missing, its first reading has removed the
        // rest.
        if any && backend.get(Table::Meta, &[])? != meta {
            return Err(BackendError::Structure {
                reason: "what was read is gone once it is opened",
            });
        }
        let loaded = pass.finish(Arc::clone(&backend))?;
        if any && loaded.is_none() {
            return Err(BackendError::Absent {
                table: Table::Meta,
                main: 0,
            });
        }
        Ok((backend, loaded))
    });
    match guarded(|| catch_unwind(opening)) {
        Ok(result) => result,
        Err(panic) => Err(panicked(panic.as_ref())),
    }
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> BackendError {
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
    BackendError::Panicked {
        message: text.unwrap_or_else(|| "no message".into()),
    }
}

/// Renames the working copy, keeping at most [`ASIDE_MAX`] of them.
fn set_aside(dir: &Path, reason: BackendError) -> Result<Option<Aside>, BackendError> {
    let working = dir.join(WORKING);
    if !working.exists() {
        return Ok(None);
    }
    let mut numbers = asides(dir).map_err(disk("list the directory"))?;
    let next = numbers.last().map_or(1, |last| last + 1);
    let path = aside_path(dir, next);
    fs::rename(&working, &path).map_err(disk("set the directory aside"))?;
    sync(dir).map_err(disk("set the directory aside"))?;
    numbers.push(next);
    for old in &numbers[..numbers.len().saturating_sub(ASIDE_MAX)] {
        if let Err(error) = fs::remove_dir_all(aside_path(dir, *old)) {
            tracing::warn!(%error, old, "cannot remove an old damaged working copy");
        }
    }
    tracing::error!(%reason, path = %path.display(), "working copy set aside");
    Ok(Some(Aside { reason, path }))
}

fn aside_path(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("{ASIDE_PREFIX}{number}"))
}

/// The numbers of the directories set aside, ascending.
fn asides(dir: &Path) -> io::Result<Vec<u32>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(ASIDE_PREFIX));
        numbers.extend(number.and_then(|number| number.parse::<u32>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn is_full(error: &BackendError) -> bool {
    matches!(error, BackendError::Disk { source, .. } if source.kind() == io::ErrorKind::StorageFull)
}

/// Removes the ballast; whether there was one.
fn give_ballast(dir: &Path) -> bool {
    fs::remove_file(dir.join(BALLAST)).is_ok()
}

/// Whether an error is about the machine and not about the content.
fn is_environment(error: &BackendError) -> bool {
    let BackendError::Disk { source, .. } = error else {
        return false;
    };
    matches!(
        source.kind(),
        io::ErrorKind::WouldBlock
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::OutOfMemory
            | io::ErrorKind::ResourceBusy
    )
}

/// What `sled.marker` says; a missing or unreadable one says nothing.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Marker {
    opening: bool,
    /// Starts in a row that died while opening.
    deaths: u32,
    filled: bool,
}

impl Marker {
    fn read(dir: &Path) -> Result<Marker, BackendError> {
        let text = match fs::read(dir.join(MARKER)) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(disk("read the marker")(error)),
        };
        let mut marker = Marker::default();
        for line in text.lines() {
            match line.split_once(' ') {
                Some(("opening", value)) => marker.opening = value == "1",
                Some(("filled", value)) => marker.filled = value == "1",
                Some(("deaths", value)) => marker.deaths = value.parse().unwrap_or(0),
                _ => {}
            }
        }
        Ok(marker)
    }

    /// Replaces the file, durably.
    fn write(self, dir: &Path) -> io::Result<()> {
        let Marker {
            opening,
            deaths,
            filled,
        } = self;
        let text = format!(
            "opening {}\ndeaths {deaths}\nfilled {}\n",
            u8::from(opening),
            u8::from(filled)
        );
        let fresh = dir.join(MARKER_FRESH);
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(MARKER_MODE)
            .open(&fresh)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&fresh, dir.join(MARKER))?;
        sync(dir)
    }
}

fn disk(operation: &'static str) -> impl Fn(io::Error) -> BackendError {
    move |source| BackendError::Disk { operation, source }
}

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}
/// Guards entered, on all threads.
static OPENING: AtomicU32 = AtomicU32::new(0);

/// Starts in a row that may die while opening before the copy is blamed for it.
const DEATHS_MAX: u32 = 2;
/// Damaged copies kept for inspection.
const ASIDE_MAX: usize = 2;
/// A file that only takes space, to be given up where opening finds none.
pub const BALLAST: &str = "ballast";
const WORKING: &str = "sled";
/// A working copy that is being removed.
const OUTDATED: &str = "sled.outdated";
const ASIDE_PREFIX: &str = "sled.damaged-";
const MARKER: &str = "sled.marker";
const MARKER_FRESH: &str = "sled.marker.new";
/// For its own user.
const MARKER_MODE: u32 = 0o600;
/// The name sled gives its threads; those of the pool it shares have none.
const SLED_THREAD: &str = "sled_flusher";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{Checkpoint, StateStore};
    use crate::types::{ClusterId, Index, MemberId, Term};

    /// A checkpoint of nothing, at an index.
    fn write(backend: Arc<dyn Backend>, index: u64) {
        let mut store = StateStore::create(backend, ClusterId(1), MemberId(2));
        let checkpoint = Checkpoint {
            applied: Index(index),
            term: Term(1),
            revision: 1,
            compacted: -1,
            ..Checkpoint::default()
        };
        store.checkpoint(&checkpoint).unwrap();
        store.flush().unwrap();
    }

    fn applied(dir: &Path) -> (Option<Index>, bool) {
        let opened = open_guarded(dir, &mut |_| {}).unwrap();
        (
            opened.loaded.map(|loaded| loaded.meta.applied),
            opened.aside.is_some(),
        )
    }

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn renewing_again_and_again_leaves_one_working_copy() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        write(open_guarded(dir, &mut |_| {}).unwrap().backend, 1);
        for round in 2..6 {
            write(renew(dir).unwrap(), round);
            assert_eq!(names(dir), [WORKING, MARKER], "nothing is set aside");
            assert_eq!(applied(dir), (Some(Index(round)), false));
        }
    }

    #[test]
    fn a_renewal_that_a_crash_cut_short_is_a_beginning_and_no_loss() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        write(open_guarded(dir, &mut |_| {}).unwrap().backend, 1);
        // Before the rename.
        let begun = Marker {
            opening: true,
            ..Marker::default()
        };
        begun.write(dir).unwrap();
        assert_eq!(applied(dir), (Some(Index(1)), false));
        // After it.
        begun.write(dir).unwrap();
        fs::rename(dir.join(WORKING), dir.join(OUTDATED)).unwrap();
        assert_eq!(applied(dir), (None, false));
        assert_eq!(names(dir), [WORKING, MARKER]);
        // With the new one opened and not yet filled.
        drop(renew(dir).unwrap());
        assert_eq!(applied(dir), (None, false));
        write(renew(dir).unwrap(), 7);
        assert_eq!(applied(dir), (Some(Index(7)), false));
    }

    #[test]
    fn a_newer_format_is_refused_and_stays_where_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        let backend = open_guarded(dir, &mut |_| {}).unwrap().backend;
        let mut body = vec![0; 61];
        body[..4].copy_from_slice(&3u32.to_le_bytes());
        let mut batch = crate::backend::WriteBatch::default();
        let (value, _) = crate::backend::record::seal(Table::Meta, &[], &body);
        batch.put(Table::Meta, &[], value);
        backend.write(batch).unwrap();
        backend.flush().unwrap();
        drop(backend);
        let error = open_guarded(dir, &mut |_| {}).err().unwrap();
        assert!(
            matches!(error, BackendError::Version { found: 3, known: 2 }),
            "{error}"
        );
        assert!(matches!(
            inspect(&dir.join(WORKING)),
            Err(BackendError::Version { .. })
        ));
        assert_eq!(names(dir), [WORKING, MARKER], "nothing is set aside");
        // The way back that the message names.
        fs::remove_dir_all(dir.join(WORKING)).unwrap();
        assert_eq!(applied(dir), (None, false));
    }
}

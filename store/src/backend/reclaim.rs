//! Space that the working copy's files take beyond what they hold, given back without stopping anything.
//!
//! sled moves leaves down its files and cuts their ends off, as long as it remembers how long they are: it forgets that
//! each time it is opened, and each class of leaf sizes has a file of its own. Measured: of 77 MiB, nine tenths of which
//! were deleted, it kept all 77. So where the directory has grown beyond a multiple of what it should take
//! ([`Density`]), its records are copied in small steps into a fresh one beside it ([`Fresh`]), while checkpoints go on
//! in both, and when all are there the fresh one takes the old one's place ([`Switch`]).
//!
//! The copy needs room for the live bytes while it is made, and up to 64 MiB of memory (see `sled.rs`). Where the disk
//! has no room it is given up, and tried again later; the old directory never notices.
//!
//! # The switch
//! In the folder given, `sled` is the working copy and `sled.fresh` the one being filled. Each step is durable before
//! the next: the fresh one is flushed; the file `sled.switch` says that it is whole; `sled` becomes `sled.outdated`;
//! `sled.fresh` becomes `sled`; `sled.switch` goes. A start that finds `sled.switch` does what is left of it
//! ([`Switch::settle`]), one that does not find it removes an unfinished `sled.fresh`.

use std::io;
use std::path::{Path, PathBuf};

use super::sled::{Record, SledBackend};
use super::{Backend, BackendError, WriteBatch};
use crate::env::Disk;
use crate::env::real::RealDisk;

/// How many bytes the files of a directory should take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Density {
    /// Bytes on disk for each [`UNIT`] bytes held, at the best that was seen: content compresses more or less.
    ratio: u64,
    /// The next measurement is of a directory that was just made, and so decides.
    anew: bool,
    /// Measurements to pass over after a copy that failed.
    pause: u32,
}

impl Density {
    pub(super) fn new() -> Self {
        Density {
            ratio: RATIO_MAX,
            anew: false,
            pause: 0,
        }
    }

    /// Takes a measurement, after a flush; whether the directory should be made anew.
    pub(super) fn wasteful(&mut self, disk_bytes: u64, live_bytes: u64) -> bool {
        let measured = disk_bytes.saturating_mul(UNIT) / live_bytes.max(1);
        if std::mem::take(&mut self.anew) && live_bytes >= SLACK_BYTES {
            self.ratio = measured.max(1);
        }
        if self.pause > 0 {
            self.pause -= 1;
            return false;
        }
        let should = live_bytes.saturating_mul(self.ratio) / UNIT;
        if disk_bytes > should / 4 * 5 + SLACK_BYTES {
            return true;
        }
        if live_bytes >= SLACK_BYTES {
            self.ratio = self.ratio.min(measured.max(1));
        }
        false
    }

    /// The directory was made anew.
    pub(super) fn renewed(&mut self) {
        *self = Density {
            ratio: RATIO_MAX,
            anew: true,
            pause: 0,
        };
    }

    /// It could not be.
    pub(super) fn failed(&mut self) {
        self.pause = PAUSE_MEASUREMENTS;
    }
}

/// A directory being filled.
pub(super) struct Fresh {
    backend: Box<SledBackend>,
    /// The last key copied; later writes up to it are made here too.
    cursor: Option<Vec<u8>>,
    unflushed: usize,
}

impl Fresh {
    /// Begins; what an earlier attempt left behind goes.
    pub(super) fn begin(working: &Path, live_bytes: u64) -> Result<Self, BackendError> {
        let should = live_bytes.saturating_mul(RATIO_MAX) / UNIT;
        has_room(working, should.saturating_add(ROOM_BYTES))?;
        let dir = beside(working, FRESH);
        remove_tree(&dir).map_err(failed("remove an unfinished directory"))?;
        Ok(Fresh {
            backend: Box::new(SledBackend::open(&dir, None)?),
            cursor: None,
            unflushed: 0,
        })
    }

    /// The key after which the next records to be copied begin.
    pub(super) fn cursor(&self) -> Option<&[u8]> {
        self.cursor.as_deref()
    }

    /// Takes the next records; they go on without a gap after the cursor.
    pub(super) fn copy(&mut self, records: Vec<Record>) -> Result<(), BackendError> {
        let Some((last, _)) = records.last() else {
            return Ok(());
        };
        let cursor = last.clone();
        let mut batch = WriteBatch::default();
        for (key, value) in records {
            batch.writes.insert(key, Some(value));
        }
        self.write(batch)?;
        self.cursor = Some(cursor);
        Ok(())
    }

    /// Makes a batch's changes of what is copied already.
    pub(super) fn mirror(&mut self, batch: &WriteBatch) -> Result<(), BackendError> {
        let Some(cursor) = &self.cursor else {
            return Ok(());
        };
        let copied = batch.writes.range(..=cursor.clone());
        let writes = copied.map(|(key, value)| (key.clone(), value.clone())).collect();
        self.write(WriteBatch { writes })
    }

    fn write(&mut self, batch: WriteBatch) -> Result<(), BackendError> {
        self.unflushed += batch.bytes();
        self.backend.write(batch)?;
        if self.unflushed >= FLUSH_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    pub(super) fn flush(&mut self) -> Result<(), BackendError> {
        self.unflushed = 0;
        self.backend.flush()
    }
}

/// Whether there is room for the next step of a copy. sled ends the process where a flush fails that it does by itself,
/// so a copy is given up before the disk is full.
pub(super) fn room(working: &Path) -> Result<(), BackendError> {
    has_room(working, ROOM_BYTES)
}

fn has_room(working: &Path, bytes: u64) -> Result<(), BackendError> {
    let folder = working.parent().unwrap_or(Path::new("."));
    let available = RealDisk
        .available_bytes(folder)
        .map_err(failed("measure the disk"))?;
    if available < bytes {
        return Err(failed("copy")(io::ErrorKind::StorageFull.into()));
    }
    Ok(())
}

/// The steps that put a whole fresh directory in place of the working copy; see the module.
pub(super) struct Switch<'a> {
    disk: &'a dyn Disk,
    folder: PathBuf,
    working: PathBuf,
    fresh: PathBuf,
    outdated: PathBuf,
    marker: PathBuf,
}

impl<'a> Switch<'a> {
    /// For the working copy of this path. Nobody may have it, or the fresh one, open.
    pub(super) fn new(disk: &'a dyn Disk, working: &Path) -> Self {
        Switch {
            disk,
            folder: working.parent().unwrap_or(Path::new(".")).to_owned(),
            working: working.to_owned(),
            fresh: beside(working, FRESH),
            outdated: beside(working, OUTDATED),
            marker: beside(working, MARKER),
        }
    }

    /// Says that the fresh directory is whole. Where this fails, nothing has changed.
    pub(super) fn decide(&self) -> io::Result<()> {
        let made = self.disk.create(&self.marker).map(drop);
        made.and_then(|()| self.disk.sync_dir(&self.folder))
            .inspect_err(|_| {
                // Whether it is durable is unknown; but nothing rests on it, and a start removes both.
                let _gone = self.disk.remove(&self.marker);
            })
    }

    /// Does what is left to do once it is decided. An earlier `sled.outdated` must be gone.
    pub(super) fn finish(&self) -> io::Result<()> {
        if self.exists(&self.fresh) {
            if self.exists(&self.working) {
                self.disk.rename(&self.working, &self.outdated)?;
                self.disk.sync_dir(&self.folder)?;
            }
            self.disk.rename(&self.fresh, &self.working)?;
            self.disk.sync_dir(&self.folder)?;
        }
        self.disk.remove(&self.marker)?;
        self.disk.sync_dir(&self.folder)
    }

    /// Whether a switch was decided on and not finished.
    pub(super) fn decided(&self) -> io::Result<bool> {
        let names = match self.disk.list(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            names => names?,
        };
        Ok(names
            .iter()
            .any(|name| Some(name.as_os_str()) == self.marker.file_name()))
    }

    fn exists(&self, dir: &Path) -> bool {
        self.disk.list(dir).is_ok()
    }
}

/// At a start: finishes a switch that was decided on, or removes what it was to switch to. `working` is the path of the
/// working copy.
pub(super) fn settle(disk: &dyn Disk, working: &Path) -> io::Result<()> {
    let switch = Switch::new(disk, working);
    if switch.decided()? {
        tracing::info!("the working copy was being made anew when the member stopped: going on with that");
        if switch.exists(&switch.fresh) && switch.exists(&switch.working) {
            remove_tree(&switch.outdated)?;
        }
        return switch.finish();
    }
    remove_tree(&switch.fresh)
}

/// Removes the directory that a switch has left.
pub(super) fn remove_outdated(working: &Path) -> io::Result<()> {
    remove_tree(&beside(working, OUTDATED))
}

/// Removes a directory that was being filled. Its files are emptied first: after an error sled's handles are leaked,
/// and with them the space of what is only removed.
pub(super) fn remove_fresh(working: &Path) -> io::Result<()> {
    let dir = beside(working, FRESH);
    for inner in [dir.join("slabs"), dir.join("metadata")] {
        let Ok(entries) = std::fs::read_dir(inner) else {
            continue;
        };
        for entry in entries.flatten() {
            std::fs::OpenOptions::new()
                .write(true)
                .open(entry.path())?
                .set_len(0)?;
        }
    }
    remove_tree(&dir)
}

fn remove_tree(dir: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn beside(working: &Path, suffix: &str) -> PathBuf {
    let mut name = working.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    working.with_file_name(name)
}

fn failed(operation: &'static str) -> impl Fn(io::Error) -> BackendError {
    move |source| BackendError::Disk { operation, source }
}

/// The unit of a density.
const UNIT: u64 = 1024;
/// The density that is taken for usual before one was measured: sled's slots are up to a quarter larger than what is in
/// them.
const RATIO_MAX: u64 = UNIT * 13 / 10;
/// Bytes beyond a multiple that are not worth a copy; also below which a density says nothing.
pub(super) const SLACK_BYTES: u64 = 4 << 20;
/// After a copy that failed, the next is tried after so many measurements: one comes with each flush.
const PAUSE_MEASUREMENTS: u32 = 8;
/// What must be left of the disk while a copy is made: its flushes, twice over, and the log beside them.
const ROOM_BYTES: u64 = 32 << 20;
/// Bytes written to a fresh directory after which it is flushed.
const FLUSH_BYTES: usize = 8 << 20;
const FRESH: &str = ".fresh";
const OUTDATED: &str = ".outdated";
const MARKER: &str = ".switch";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::fake::FakeDisk;

    #[test]
    fn growth_is_no_waste_and_deletion_is() {
        const MIB: u64 = 1 << 20;
        let mut density = Density::new();
        assert!(!density.wasteful(70 * MIB, 64 * MIB));
        assert!(!density.wasteful(140 * MIB, 128 * MIB));
        assert!(!density.wasteful(150 * MIB, 118 * MIB));
        assert!(density.wasteful(150 * MIB, 64 * MIB));
        density.renewed();
        assert!(
            !density.wasteful(90 * MIB, 64 * MIB),
            "it cannot be better than new"
        );
        assert!(!density.wasteful(112 * MIB, 64 * MIB));
        assert!(density.wasteful(118 * MIB, 64 * MIB));
        density.failed();
        for _ in 0..PAUSE_MEASUREMENTS {
            assert!(!density.wasteful(118 * MIB, 64 * MIB));
        }
        assert!(density.wasteful(118 * MIB, 64 * MIB));
    }

    #[test]
    fn what_compresses_well_is_measured_by_that() {
        const MIB: u64 = 1 << 20;
        let mut density = Density::new();
        assert!(!density.wasteful(20 * MIB, 200 * MIB));
        assert!(density.wasteful(20 * MIB, 20 * MIB));
    }

    fn file(disk: &FakeDisk, path: &str, text: &[u8]) {
        let path = Path::new(path);
        let mut file = disk.create(path).unwrap();
        file.write_at(0, text).unwrap();
        file.sync_data().unwrap();
        disk.sync_dir(path.parent().unwrap()).unwrap();
    }

    /// A folder with a working copy and a fresh one that is whole.
    fn ready() -> FakeDisk {
        let disk = FakeDisk::new(1);
        for dir in ["/m/sled", "/m/sled.fresh"] {
            crate::env::create_dir_durably(&disk, Path::new(dir)).unwrap();
        }
        file(&disk, "/m/sled/f", b"old");
        file(&disk, "/m/sled.fresh/f", b"new");
        disk
    }

    fn run(disk: &FakeDisk) -> io::Result<()> {
        let switch = Switch::new(disk, Path::new("/m/sled"));
        switch.decide()?;
        switch.finish()
    }

    /// What a start makes of it.
    fn settled(disk: &FakeDisk) -> Option<Vec<u8>> {
        let switch = Switch::new(disk, Path::new("/m/sled"));
        if switch.decided().unwrap() {
            switch.finish().unwrap();
        }
        assert!(!switch.decided().unwrap());
        disk.contents(Path::new("/m/sled/f"))
    }

    #[test]
    fn a_crash_at_any_step_leaves_the_old_or_the_new() {
        let all = ready();
        let before = all.operations().changes;
        run(&all).unwrap();
        let steps = all.operations().changes - before;
        assert_eq!(settled(&all).unwrap(), b"new");
        let mut old = 0;
        for step in 1..=steps {
            for seed in 0..16 {
                let disk = ready();
                disk.crash_at(step);
                run(&disk).unwrap_err();
                disk.crash(seed);
                // Again in the middle of the start after it.
                disk.crash_at(1 + seed % steps);
                let switch = Switch::new(&disk, Path::new("/m/sled"));
                if switch.decided().is_ok_and(|decided| decided) && switch.finish().is_err() {
                    disk.crash(seed + 100);
                } else {
                    disk.crash_at(u64::MAX >> 1);
                }
                let found = settled(&disk).expect("one of the two is there");
                assert!(found == b"new" || found == b"old");
                old += usize::from(found == b"old");
            }
        }
        assert!(old > 0, "a crash before the decision leaves the old one");
    }
}

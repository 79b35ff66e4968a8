//! A world under a test's control: a clock moved by hand, seeded entropy, and a disk in memory that forgets.
//!
//! [`FakeDisk`] keeps two states of everything: what a running process sees, and what would survive the power
//! going off. Writes wait as pending until the sync of their file, changes of names until the sync of their folder.
//! [`FakeDisk::crash`] decides the fate of what is pending from a seed: a write is kept, lost, or torn (a random
//! subset of its 512-byte sectors reaches the disk); a change of names is kept or lost, sometimes as a prefix of
//! their order (as a journal would), sometimes each for itself. Handles from before the crash stay dead for good.
//!
//! The disk only ever fails as a disk may: a failed sync leaves what it covered in an unknown state that no later
//! sync repairs, and a full disk keeps the part of a write that fitted.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::{Clock, DirLock, Disk, DiskFile, Entropy, Instant};

mod media;

use media::{Change, NameChange, Node, State, dead, missing};

/// A clock that moves only when told to; clones show the same time.
#[derive(Clone, Debug, Default)]
pub struct ManualClock {
    now: Arc<AtomicU64>,
    unix_ms_start: u64,
}

impl ManualClock {
    /// A clock at zero, `unix_ms` milliseconds after the Unix epoch.
    #[must_use]
    pub fn new(unix_ms: u64) -> Self {
        ManualClock {
            now: Arc::default(),
            unix_ms_start: unix_ms,
        }
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        let by = u64::try_from(by.as_nanos()).expect("a test advances by less than 500 years");
        self.now.fetch_add(by, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Instant {
        Instant(self.now.load(Ordering::SeqCst))
    }

    fn unix_ms(&self) -> u64 {
        self.unix_ms_start + self.now.load(Ordering::SeqCst) / 1_000_000
    }
}

/// Pseudo-random numbers (SplitMix64) decided by a seed; clones draw from the same sequence.
#[derive(Clone, Debug)]
pub struct SeededEntropy {
    state: Arc<AtomicU64>,
}

impl SeededEntropy {
    /// The sequence of `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        SeededEntropy {
            state: Arc::new(AtomicU64::new(seed)),
        }
    }

    /// A number below `bound` (0 where `bound` is 0).
    #[must_use]
    pub fn below(&self, bound: u64) -> u64 {
        // The high half of the product: no bias worth the name for the bounds of a test.
        let product = u128::from(self.next_u64()) * u128::from(bound);
        u64::try_from(product >> 64).expect("the high half of a 128-bit product fits 64 bits")
    }

    /// True in `percent` of 100 draws.
    #[must_use]
    pub fn chance(&self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

impl Entropy for SeededEntropy {
    fn next_u64(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.state.fetch_add(STEP, Ordering::SeqCst).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// A file system in memory; clones share it, and it survives the processes that use it.
#[derive(Clone)]
pub struct FakeDisk {
    state: Arc<Mutex<State>>,
}

/// What a fake disk has been asked to do since it was made. Reads are not counted: a crash at a read leaves what a
/// crash at the next change leaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Operations {
    /// Every change: creations, writes, lengths, names, syncs.
    pub changes: u64,
    /// Writes to files.
    pub writes: u64,
    /// Syncs of files.
    pub syncs: u64,
    /// Syncs of folders.
    pub dir_syncs: u64,
    /// Bytes written to files.
    pub bytes_written: u64,
}

impl FakeDisk {
    /// An empty disk. The seed decides what becomes of data under a failed sync.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let state = State::new(SeededEntropy::new(seed));
        FakeDisk {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// The power goes off and on again: the seed decides what of everything unsynced survives, all open handles and
    /// locks die, and a failure planned for later is forgotten. The limit on capacity stays.
    pub fn crash(&self, seed: u64) {
        let mut state = self.state.lock();
        let entropy = SeededEntropy::new(seed);
        state.crash(&entropy);
    }

    /// The `nth` change from now (1 is the next) and everything after it fails, until [`FakeDisk::crash`]: the
    /// process has died in the midst of that change, which may or may not have reached the disk.
    pub fn crash_at(&self, nth: u64) {
        let mut state = self.state.lock();
        state.crash_at = Some(state.operations.changes + nth);
    }

    /// Whether the change named to [`FakeDisk::crash_at`] has come.
    #[must_use]
    pub fn crashed(&self) -> bool {
        self.state.lock().crashed
    }

    /// The `nth` sync of a file from now (1 is the next) fails with an I/O error.
    pub fn fail_sync(&self, nth: u64) {
        let mut state = self.state.lock();
        state.fail_sync_at = Some(state.operations.syncs + nth);
    }

    /// From the `nth` change from now (1 is the next) on, for so many changes, everything that takes space fails with
    /// `StorageFull`: creations, writes, lengths and new names. A crash ends it.
    pub fn fill_at(&self, nth: u64, changes: u64) {
        let mut state = self.state.lock();
        let from = state.operations.changes + nth;
        state.full_during = from..from.saturating_add(changes);
    }

    /// The `nth` write to a file from now (1 is the next) fails with an I/O error, after a part of it.
    pub fn fail_write(&self, nth: u64) {
        let mut state = self.state.lock();
        state.fail_write_at = Some(state.operations.writes + nth);
    }

    /// Limits the bytes of all files; what would grow beyond fails with `StorageFull`.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state.lock().capacity_bytes = bytes;
    }

    /// Flips the bits of `mask` in the byte at `offset`, both as seen and as stored. False where there is no such
    /// byte.
    pub fn damage(&self, path: &Path, offset: u64, mask: u8) -> bool {
        let mut state = self.state.lock();
        let (Some(Node::File(id)), Ok(at)) = (state.find(path), usize::try_from(offset)) else {
            return false;
        };
        let file = &mut state.files[id];
        let mut hit = false;
        for image in [&mut file.seen, &mut file.durable] {
            if let Some(byte) = image.get_mut(at) {
                *byte ^= mask;
                hit = true;
            }
        }
        hit
    }

    /// What a process would read from the file now.
    #[must_use]
    pub fn contents(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.state.lock();
        match state.find(path)? {
            Node::File(id) => Some(state.files[id].seen.clone()),
            Node::Folder(_) => None,
        }
    }

    /// What has been asked of the disk so far.
    #[must_use]
    pub fn operations(&self) -> Operations {
        self.state.lock().operations
    }

    /// Bytes of all files as seen.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        let state = self.state.lock();
        state.used_bytes()
    }
}

impl Disk for FakeDisk {
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let state = self.state.lock();
        state.alive()?;
        match state.find(path) {
            Some(Node::File(id)) => Ok(self.handle(id, state.boot)),
            Some(Node::Folder(_)) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(missing(path)),
        }
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.state.lock();
        state.alive()?;
        let at = state.slot(path)?;
        if state.find(path).is_some() {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                path.display().to_string(),
            ));
        }
        state.takes_space()?;
        let id = state.new_file();
        state.change_name(NameChange::Link {
            at,
            node: Node::File(id),
        })?;
        Ok(self.handle(id, state.boot))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let state = self.state.lock();
        state.alive()?;
        Ok(state.names(state.folder(dir)?).map(PathBuf::from).collect())
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.alive()?;
        let mut above: Vec<&Path> = dir.ancestors().collect();
        above.reverse();
        for path in above {
            match state.find(path) {
                Some(Node::Folder(_)) => {}
                Some(Node::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
                None => {
                    let at = state.slot(path)?;
                    let node = Node::Folder(state.new_folder());
                    state.change_name(NameChange::Link { at, node })?;
                }
            }
        }
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.alive()?;
        let node = state.find(from).ok_or_else(|| missing(from))?;
        if let Some(Node::Folder(target)) = state.find(to)
            && from != to
            && state.names(target).next().is_some()
        {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        state.takes_space()?;
        let change = NameChange::Rename {
            from: state.slot(from)?,
            to: state.slot(to)?,
            node,
        };
        state.change_name(change)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.alive()?;
        match state.find(path) {
            Some(Node::File(_)) => {
                let from = state.slot(path)?;
                state.change_name(NameChange::Unlink { from })
            }
            Some(Node::Folder(_)) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(missing(path)),
        }
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.begin_change()?.finish()?;
        let folder = state.folder(dir)?;
        state.operations.dir_syncs += 1;
        state.sync_names(folder);
        Ok(())
    }

    fn available_bytes(&self, dir: &Path) -> io::Result<u64> {
        let state = self.state.lock();
        state.alive()?;
        state.folder(dir)?;
        let capacity = state.capacity_bytes.unwrap_or(u64::MAX);
        Ok(capacity.saturating_sub(state.used_bytes()))
    }

    fn lock_dir(&self, dir: &Path) -> io::Result<Box<dyn DirLock>> {
        let mut state = self.state.lock();
        state.alive()?;
        let folder = state.folder(dir)?;
        if state.locks.contains_key(&folder) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let id = state.next_lock;
        state.next_lock += 1;
        state.locks.insert(folder, id);
        Ok(Box::new(FakeLock {
            disk: self.clone(),
            folder,
            id,
        }))
    }
}

impl FakeDisk {
    fn handle(&self, id: usize, boot: u64) -> Box<dyn DiskFile> {
        Box::new(FakeHandle {
            disk: self.clone(),
            id,
            boot,
        })
    }
}

struct FakeLock {
    disk: FakeDisk,
    folder: usize,
    id: u64,
}

impl DirLock for FakeLock {}

impl Drop for FakeLock {
    fn drop(&mut self) {
        let mut state = self.disk.state.lock();
        if state.locks.get(&self.folder) == Some(&self.id) {
            state.locks.remove(&self.folder);
        }
    }
}

struct FakeHandle {
    disk: FakeDisk,
    id: usize,
    boot: u64,
}

impl FakeHandle {
    /// The disk, where this handle is still of the present boot.
    fn state(&self) -> io::Result<parking_lot::MutexGuard<'_, State>> {
        let state = self.disk.state.lock();
        if state.boot == self.boot {
            Ok(state)
        } else {
            Err(dead())
        }
    }
}

impl DiskFile for FakeHandle {
    fn len(&self) -> io::Result<u64> {
        let state = self.state()?;
        state.alive()?;
        Ok(state.files[self.id].seen.len() as u64)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let state = self.state()?;
        state.alive()?;
        let seen = &state.files[self.id].seen;
        let rest = usize::try_from(offset)
            .ok()
            .and_then(|from| seen.get(from..))
            .unwrap_or_default();
        let len = rest.len().min(buf.len());
        buf[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn write_at(&mut self, offset: u64, buf: &[u8]) -> io::Result<()> {
        let mut state = self.state()?;
        let full = state.is_full();
        let outcome = state.begin_change()?;
        let room = state.room(self.id, offset);
        let mut fitting = buf.len().min(usize::try_from(room).unwrap_or(usize::MAX));
        if full {
            // Some of it may have found room.
            let entropy = state.entropy.clone();
            fitting = fitting.min(usize::try_from(entropy.below(buf.len() as u64)).unwrap_or(0));
        }
        state.operations.writes += 1;
        let fails = state
            .fail_write_at
            .is_some_and(|at| at == state.operations.writes);
        if fails {
            state.fail_write_at = None;
            let entropy = state.entropy.clone();
            fitting = fitting.min(usize::try_from(entropy.below(buf.len() as u64)).unwrap_or(0));
        }
        state.operations.bytes_written += fitting as u64;
        state.files[self.id].apply(Change::Write {
            offset,
            data: buf[..fitting].to_vec(),
        });
        if fails {
            return Err(io::Error::other("injected failure of a write"));
        }
        if fitting < buf.len() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        outcome.finish()
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        let mut state = self.state()?;
        state.takes_space()?;
        let outcome = state.begin_change()?;
        if state.room(self.id, 0) < len {
            return Err(io::ErrorKind::StorageFull.into());
        }
        state.files[self.id].apply(Change::Len(len));
        outcome.finish()
    }

    fn sync_data(&mut self) -> io::Result<()> {
        let mut state = self.state()?;
        state.begin_change()?.finish()?;
        state.operations.syncs += 1;
        if state.fail_sync_at.is_some_and(|at| at == state.operations.syncs) {
            state.fail_sync_at = None;
            let entropy = state.entropy.clone();
            state.files[self.id].settle(&entropy);
            return Err(io::Error::other("injected failure of a sync"));
        }
        state.files[self.id].sync();
        Ok(())
    }
}

#[cfg(test)]
mod tests;

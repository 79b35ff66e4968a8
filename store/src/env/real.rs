//! The machine itself: its clock, its file system and the kernel's randomness. The one place of the store that
//! may name them.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::FlockOperation;
use rustix::rand::GetRandomFlags;

use super::{Clock, DirLock, Disk, DiskFile, Entropy, Instant};

/// The process's monotonic clock, counted from the value's creation.
#[derive(Clone, Copy, Debug)]
pub struct RealClock {
    start: std::time::Instant,
}

impl RealClock {
    /// A clock that stands at zero now.
    #[must_use]
    pub fn new() -> Self {
        RealClock {
            start: std::time::Instant::now(),
        }
    }
}

impl Default for RealClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for RealClock {
    fn now(&self) -> Instant {
        Instant(u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn unix_ms(&self) -> u64 {
        // A clock set before 1970 reads as 0: identifiers only, see the trait.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

/// The kernel's random source.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsEntropy;

impl Entropy for OsEntropy {
    fn next_u64(&self) -> u64 {
        let mut bytes = [0u8; 8];
        let mut filled = 0;
        while filled < bytes.len() {
            match rustix::rand::getrandom(&mut bytes[filled..], GetRandomFlags::empty()) {
                Ok(got) => filled += got,
                // Only while the kernel still gathers entropy at boot can a signal get between.
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => panic!("the kernel gives no randomness: {error}"),
            }
        }
        u64::from_ne_bytes(bytes)
    }
}

/// The machine's file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(RealFile(
            OpenOptions::new().read(true).write(true).open(path)?,
        )))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(FILE_MODE)
            .open(path)?;
        Ok(Box::new(RealFile(file)))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let names = std::fs::read_dir(dir)?.map(|entry| Ok(PathBuf::from(entry?.file_name())));
        let mut names = names.collect::<io::Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(DIR_MODE).create(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn available_bytes(&self, dir: &Path) -> io::Result<u64> {
        // What is kept for the superuser is not counted.
        let stat = rustix::fs::statvfs(dir)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn lock_dir(&self, dir: &Path) -> io::Result<Box<dyn DirLock>> {
        let path = dir.join("LOCK");
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(FILE_MODE)
            .open(path)?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Box::new(RealLock { _file: file }))
    }
}

/// The machine's file system for those who only look: files are opened for reading, and whatever would change anything
/// is refused, so it works in a folder that may not be written, and beside the process that writes there.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReadOnlyDisk;

impl Disk for ReadOnlyDisk {
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(RealFile(File::open(path)?)))
    }

    fn create(&self, _path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        RealDisk.list(dir)
    }

    fn create_dir(&self, _dir: &Path) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn rename(&self, _from: &Path, _to: &Path) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn remove(&self, _path: &Path) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn available_bytes(&self, _: &Path) -> io::Result<u64> {
        Ok(0)
    }

    /// Shared with others that only look; `NotFound` where there never was a lock to take.
    fn lock_dir(&self, dir: &Path) -> io::Result<Box<dyn DirLock>> {
        let file = File::open(dir.join("LOCK"))?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared)?;
        Ok(Box::new(RealLock { _file: file }))
    }
}

/// The lock lives in the open file: the kernel releases it when the last descriptor goes, by drop or by death.
struct RealLock {
    _file: File,
}

impl DirLock for RealLock {}

struct RealFile(File);

impl DiskFile for RealFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buf.len() {
            match self.0.read_at(&mut buf[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(got) => filled += got,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn write_at(&mut self, offset: u64, buf: &[u8]) -> io::Result<()> {
        self.0.write_all_at(buf, offset)
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&mut self) -> io::Result<()> {
        self.0.sync_data()
    }
}

const FILE_MODE: u32 = 0o600;
const DIR_MODE: u32 = 0o700;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn files_are_private_and_read_back_what_was_written() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("a/b");
        RealDisk.create_dir(&dir).unwrap();
        let path = dir.join("f");
        let mut file = RealDisk.create(&path).unwrap();
        assert_eq!(
            RealDisk.create(&path).err().unwrap().kind(),
            io::ErrorKind::AlreadyExists
        );
        file.write_at(3, b"xyz").unwrap();
        file.sync_data().unwrap();
        RealDisk.sync_dir(&dir).unwrap();
        let mut buf = [9; 8];
        assert_eq!(RealDisk.open(&path).unwrap().read_at(0, &mut buf).unwrap(), 6);
        assert_eq!(&buf[..6], b"\0\0\0xyz");
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(
            std::fs::metadata(&dir).unwrap().permissions().mode() & 0o777,
            0o700
        );
        RealDisk.rename(&path, &dir.join("e")).unwrap();
        assert_eq!(RealDisk.list(&dir).unwrap(), vec![PathBuf::from("e")]);
        RealDisk.remove(&dir.join("e")).unwrap();
        assert!(RealDisk.list(&dir).unwrap().is_empty());
        assert_eq!(
            RealDisk.list(&dir.join("none")).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }

    #[test]
    fn a_folder_is_locked_once() {
        let root = tempfile::tempdir().unwrap();
        let held = RealDisk.lock_dir(root.path()).unwrap();
        assert_eq!(
            RealDisk.lock_dir(root.path()).err().unwrap().kind(),
            io::ErrorKind::WouldBlock
        );
        drop(held);
        drop(RealDisk.lock_dir(root.path()).unwrap());
    }

    #[test]
    fn time_passes_and_randomness_varies() {
        let clock = RealClock::new();
        let first = clock.now();
        assert!(clock.now() >= first && clock.unix_ms() > 1_500_000_000_000);
        assert_ne!(OsEntropy.next_u64(), OsEntropy.next_u64());
    }
}

//! The disk, as the rooms see it: files addressed by offset, and the few directory operations whose durability a
//! log depends on. Nothing is durable before the sync that covers it: file contents by [`DiskFile::sync_data`], the
//! existence and name of a file by [`Disk::sync_dir`] of its folder.

use std::io;
use std::path::{Path, PathBuf};

/// A file system.
pub trait Disk: Send + Sync {
    /// Opens an existing file for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Creates a file (mode 0600) for reading and writing; fails where one exists.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// The names in a folder, sorted. A missing folder is `NotFound`.
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>>;
    /// Creates a folder and its missing parents (mode 0700).
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// Renames a file or folder within the file system, replacing a file of the new name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes creations, renames and removals in a folder durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Bytes that may still be written in the file system of an existing folder.
    fn available_bytes(&self, dir: &Path) -> io::Result<u64>;
    /// Takes the exclusive lock of a folder (a file `LOCK` inside it) without waiting; `WouldBlock` where another
    /// process holds it. The lock lasts as long as the value.
    fn lock_dir(&self, dir: &Path) -> io::Result<Box<dyn DirLock>>;
}

/// Creates a folder and its missing parents so that all of them survive a crash: each folder that gained a name is
/// synced. (`create_dir` with a sync of the last parent would leave the upper ones to chance.)
pub fn create_dir_durably(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    let mut gained = Vec::new();
    for at in dir.ancestors().filter(|at| !at.as_os_str().is_empty()) {
        match disk.list(at) {
            Ok(_) => break,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // The parent of a bare relative name is the current folder.
                let parent = at.parent().filter(|parent| !parent.as_os_str().is_empty());
                gained.push(parent.unwrap_or(Path::new(".")));
            }
            Err(error) => return Err(error),
        }
    }
    disk.create_dir(dir)?;
    gained.iter().rev().try_for_each(|folder| disk.sync_dir(folder))
}

/// An open file.
pub trait DiskFile: Send {
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Fills `buf` from `offset`; returns how many bytes there were (fewer only at the end of the file).
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize>;
    /// Writes all of `buf` at `offset`, growing the file where needed.
    fn write_at(&mut self, offset: u64, buf: &[u8]) -> io::Result<()>;
    /// Sets the length; growth reads as zeros.
    fn set_len(&mut self, len: u64) -> io::Result<()>;
    /// Makes everything written so far, and the length, durable.
    fn sync_data(&mut self) -> io::Result<()>;
}

/// A held folder lock; released when dropped.
pub trait DirLock: Send + Sync {}

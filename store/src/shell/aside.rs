//! Setting the data of a member aside: renamed, never deleted, so that whatever can still be read from them is there.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use super::bootstrap::Folders;
use super::open_error::OpenError;
use super::settings::Settings;

/// Renames everything that the member has in its data folder, and in the log's own folder where there is one. Nobody may
/// have the folder open. Returns where the data are now. What was renamed before a failure stays so; the member is then
/// one without data, or with none of its log.
///
/// # Errors
/// Those of the file system.
pub fn set_aside(settings: &Settings) -> Result<Vec<PathBuf>, OpenError> {
    let folders = Folders::of(settings);
    let mut kept = Vec::new();
    let unwritable = |path: &Path| {
        let path = path.to_owned();
        move |source| OpenError::Unwritable { path, source }
    };
    if let Some(wal) = &settings.wal_dir
        && wal.exists()
    {
        // Not the folder itself: it may be where a disk is mounted.
        let to = free_name(wal, "damaged").map_err(unwritable(wal))?;
        kept.push(empty_into(wal, &to).map_err(unwritable(wal))?);
    }
    let to = free_name(&settings.data_dir, "member.damaged").map_err(unwritable(&settings.data_dir))?;
    fs::rename(&folders.member, &to)
        .and_then(|()| sync(&settings.data_dir))
        .map_err(unwritable(&folders.member))?;
    kept.push(to);
    Ok(kept)
}

/// Moves the files of a folder into a new one inside it.
fn empty_into(dir: &Path, to: &Path) -> io::Result<PathBuf> {
    DirBuilder::new().mode(ASIDE_MODE).create(to)?;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.metadata()?.is_file() {
            fs::rename(entry.path(), to.join(entry.file_name()))?;
        }
    }
    sync(to)?;
    sync(dir)?;
    Ok(to.to_owned())
}

/// `<stem>-<n>` in a folder, with the first number that is free.
fn free_name(dir: &Path, stem: &str) -> io::Result<PathBuf> {
    for number in 1..=ASIDES_MAX {
        let path = dir.join(format!("{stem}-{number}"));
        if !path.try_exists()? {
            return Ok(path);
        }
    }
    Err(io::Error::other(format!(
        "{ASIDES_MAX} damaged copies are kept there already: move them away"
    )))
}

fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// For its own user.
const ASIDE_MODE: u32 = 0o700;
/// Whoever has lost so many disks has another problem.
const ASIDES_MAX: u32 = 16;

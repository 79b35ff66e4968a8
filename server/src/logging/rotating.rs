//! A log file of bounded size: when it is full, it is renamed after the time (`etcd-2026-11-21T14-05-09.123.log`)
//! and a new one is begun. Old files are removed and compressed as the settings ask, beside the log.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::outputs::append_to;
use super::time_text;
use crate::config::Rotation;

/// The file written to.
pub(super) struct RotatingFile {
    path: PathBuf,
    file: File,
    bytes: u64,
    bytes_max: u64,
    rotation: Rotation,
    /// Somebody is tidying up already.
    tidying: Arc<AtomicBool>,
}

impl RotatingFile {
    pub(super) fn open(path: &Path, rotation: Rotation) -> io::Result<RotatingFile> {
        let megabytes = u64::try_from(rotation.size_mb_max).unwrap_or(0);
        let megabytes = if megabytes == 0 {
            SIZE_MB_DEFAULT
        } else {
            megabytes
        };
        RotatingFile::open_with(path, rotation, megabytes.saturating_mul(1 << 20))
    }

    fn open_with(path: &Path, rotation: Rotation, bytes_max: u64) -> io::Result<RotatingFile> {
        let file = append_to(path)?;
        Ok(RotatingFile {
            path: path.to_owned(),
            bytes: file.metadata()?.len(),
            file,
            bytes_max,
            rotation,
            tidying: Arc::new(AtomicBool::new(false)),
        })
    }

    /// Writes a line; in a new file, if it does not fit.
    pub(super) fn write_line(&mut self, line: &[u8]) -> io::Result<()> {
        let length = line.len() as u64;
        if self.bytes > 0 && self.bytes.saturating_add(length) > self.bytes_max {
            self.rotate()?;
        }
        self.file.write_all(line)?;
        self.bytes += length;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        let (stem, extension) = name_parts(&self.path);
        let old = self
            .path
            .with_file_name(format!("{stem}-{}{extension}", stamp(SystemTime::now())));
        fs::rename(&self.path, old)?;
        self.file = append_to(&self.path)?;
        self.bytes = 0;
        self.tidy();
        Ok(())
    }

    /// Removes and compresses old files on a thread of its own: the log does not wait for it.
    fn tidy(&self) {
        if self.tidying.swap(true, Ordering::AcqRel) {
            return;
        }
        let (path, rotation, tidying) = (self.path.clone(), self.rotation, Arc::clone(&self.tidying));
        let spawned = std::thread::Builder::new()
            .name("log-tidy".to_owned())
            .spawn(move || {
                // What cannot be done now is tried again at the next rotation.
                let _ = tidy(&path, rotation);
                tidying.store(false, Ordering::Release);
            });
        if spawned.is_err() {
            self.tidying.store(false, Ordering::Release);
        }
    }
}

fn tidy(path: &Path, rotation: Rotation) -> io::Result<()> {
    let mut old = old_files(path)?;
    // The newest first.
    old.sort_by(|one, other| other.0.cmp(&one.0));
    let kept = usize::try_from(rotation.backups_max).unwrap_or(0);
    let days = u64::try_from(rotation.age_days_max).unwrap_or(0);
    let oldest = match days {
        0 => None,
        _ => SystemTime::now().checked_sub(Duration::from_secs(days.saturating_mul(86_400))),
    };
    let oldest = oldest.map(stamp);
    for (index, (time, file)) in old.iter().enumerate() {
        let too_many = kept > 0 && index >= kept;
        let too_old = oldest.as_ref().is_some_and(|oldest| time < oldest);
        let compressed = file.extension().is_some_and(|extension| extension == "gz");
        if too_many || too_old {
            fs::remove_file(file)?;
        } else if rotation.compress && !compressed {
            compress(file)?;
        }
    }
    Ok(())
}

/// The time in the name of each old file, and its path.
fn old_files(path: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let (stem, extension) = name_parts(path);
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let name = name.strip_suffix(".gz").unwrap_or(name);
        let time = name
            .strip_prefix(&format!("{stem}-"))
            .and_then(|rest| rest.strip_suffix(&extension));
        if let Some(time) = time.filter(|time| time.len() == STAMP_LENGTH) {
            found.push((time.to_owned(), entry.path()));
        }
    }
    Ok(found)
}

/// Replaces a file by its compressed form, which appears whole or not at all.
fn compress(path: &Path) -> io::Result<()> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".gz.tmp");
    let mut done = path.as_os_str().to_owned();
    done.push(".gz");
    let mut encoder = GzEncoder::new(File::create(&partial)?, Compression::default());
    io::copy(&mut File::open(path)?, &mut encoder)?;
    encoder.finish()?.sync_all()?;
    fs::rename(&partial, &done)?;
    fs::remove_file(path)
}

/// `etcd` and `.log` of `etcd.log`.
fn name_parts(path: &Path) -> (String, String) {
    let text = |part: Option<&std::ffi::OsStr>| part.map(|part| part.to_string_lossy().into_owned());
    let extension = text(path.extension()).map(|extension| format!(".{extension}"));
    (
        text(path.file_stem()).unwrap_or_default(),
        extension.unwrap_or_default(),
    )
}

/// `2026-11-21T14-05-09.123`, in UTC: sorted as text, it is sorted by time.
fn stamp(time: SystemTime) -> String {
    let mut text = time_text(time).replace(':', "-");
    text.truncate(STAMP_LENGTH);
    text
}

const STAMP_LENGTH: usize = "2026-11-21T14-05-09.123".len();
/// What 0 stands for.
const SIZE_MB_DEFAULT: u64 = 100;

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::time::Instant;

    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !condition() {
            assert!(Instant::now() < deadline, "{what}");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_full_file_is_put_aside_and_old_ones_go() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("etcd.log");
        fs::write(dir.path().join("etcd-2020-01-01T00-00-00.000.log"), "old").unwrap();
        fs::write(dir.path().join("other.log"), "not ours").unwrap();
        let rotation = Rotation {
            backups_max: 1,
            compress: true,
            ..Rotation::default()
        };
        let mut file = RotatingFile::open_with(&path, rotation, 10).unwrap();
        file.write_line(b"12345\n").unwrap();
        file.write_line(b"789\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "12345\n789\n");
        file.write_line(b"next\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "next\n");
        wait_for("one old file, compressed", || {
            let names = names(dir.path());
            names.len() == 3 && names[0].starts_with("etcd-") && names[0].ends_with(".log.gz")
        });
        let old = dir.path().join(&names(dir.path())[0]);
        let mut text = String::new();
        flate2::read::GzDecoder::new(File::open(old).unwrap())
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, "12345\n789\n");
        // A file found full is put aside as well, and a line longer than a file is written all the same.
        let mut file = RotatingFile::open_with(&path, Rotation::default(), 4).unwrap();
        file.write_line(b"longer than allowed\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "longer than allowed\n");
    }

    #[test]
    fn old_files_go_by_their_age() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("etcd.log");
        let young = format!("etcd-{}.log", stamp(SystemTime::now()));
        for name in ["etcd-2020-01-01T00-00-00.000.log", &young] {
            fs::write(dir.path().join(name), "old").unwrap();
        }
        let rotation = Rotation {
            age_days_max: 1,
            ..Rotation::default()
        };
        tidy(&path, rotation).unwrap();
        assert_eq!(names(dir.path()), [young]);
    }
}

//! Backups: the state in etcd's own file format, so that its tools work on them and a way back to it exists.
//!
//! An export is read at one applied index while writes go on (`store::shell::Export`) and spooled into a file without a
//! name beside the data, because its length stands in its first message; then it is sent, as slowly as its client
//! takes it, while nothing of the store is held back any more. All of that happens on one thread that may wait. It
//! ends when its client has gone, and when the store stops.

pub(crate) mod bolt;
pub(crate) mod file;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod schema;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use proto::etcdserverpb::SnapshotResponse;
use sha2::{Digest as _, Sha256};
use store::Store;
use store::error::{Error, Unavailable};
use store::shell::Export;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use self::schema::Buckets;
use crate::config::STORAGE_VERSION;
use crate::metrics::HealthCounts;

/// Why there is no backup, or no more of it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Store(#[from] Error),
    #[error("cannot spool a backup: {0}")]
    Spool(#[from] io::Error),
    #[error("the client has gone")]
    Unwanted,
}

/// The parts of a backup, or why they end early.
pub(crate) type Parts = mpsc::Receiver<Result<SnapshotResponse, Failure>>;

/// All backups under way.
pub(crate) struct Backups {
    dir: PathBuf,
    places: Arc<Semaphore>,
    spooled: AtomicU64,
    counts: Arc<HealthCounts>,
}

impl Backups {
    /// Backups of the store in this folder. Removes what a process that died in the wrong moment has left.
    pub(crate) fn new(data_dir: &Path, counts: Arc<HealthCounts>) -> Arc<Backups> {
        remove_left_behind(data_dir);
        Arc::new(Backups {
            dir: data_dir.to_owned(),
            places: Arc::new(Semaphore::new(BACKUPS_MAX)),
            spooled: AtomicU64::new(0),
            counts,
        })
    }

    /// Begins a backup of the present state.
    pub(crate) async fn begin(self: &Arc<Self>, store: &Store) -> Result<Parts, Failure> {
        let place = self.place()?;
        let export = store.export().await?;
        let (parts, received) = mpsc::channel(PARTS_AHEAD);
        let backups = Arc::clone(self);
        tokio::task::spawn_blocking(move || backups.run(export, &parts, place));
        Ok(received)
    }

    /// The hash over a backup of the present state: CRC-32C over the names of the buckets and all records, except those
    /// that say how far this member has got.
    pub(crate) async fn hash(&self, store: &Store) -> Result<u32, Failure> {
        let _timed = self.counts.hash();
        let place = self.place()?;
        let export = store.export().await?;
        // Dropped with this future, when the client has gone.
        let (wanted, _wants) = mpsc::channel::<()>(1);
        let hashing = tokio::task::spawn_blocking(move || {
            let mut hash = Hash::default();
            schema::write(export, &mut hash, &|| !wanted.is_closed())?;
            drop(place);
            Ok(hash.crc)
        });
        let hashed = hashing.await;
        hashed.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
    }

    fn place(&self) -> Result<OwnedSemaphorePermit, Failure> {
        let place = Arc::clone(&self.places).try_acquire_owned();
        Ok(place.map_err(|_| Error::from(Unavailable::TooManyRequests))?)
    }

    fn run(
        &self,
        export: Export,
        parts: &mpsc::Sender<Result<SnapshotResponse, Failure>>,
        _place: OwnedSemaphorePermit,
    ) {
        let began = Instant::now();
        let sent = self
            .spool(export, &|| !parts.is_closed())
            .and_then(|(file, bytes)| send(file, bytes, parts));
        let took = began.elapsed();
        self.counts.backup(took);
        match sent {
            Ok(bytes) => tracing::info!(
                total_bytes = bytes,
                took = ?took,
                storage_version = STORAGE_VERSION,
                "successfully sent database snapshot to client"
            ),
            Err(failure) => {
                tracing::warn!(
                    error = &failure as &dyn std::error::Error,
                    "a database snapshot was not sent"
                );
                // A client that has gone does not want it.
                let _ = parts.blocking_send(Err(failure));
            }
        }
    }

    /// Writes an export into a file; returns it with its length.
    fn spool(&self, export: Export, go_on: &dyn Fn() -> bool) -> Result<(File, u64), Failure> {
        let number = self.spooled.fetch_add(1, Ordering::Relaxed);
        let file = nameless_file(&self.dir.join(format!("{SPOOL_PREFIX}{number}")))?;
        let mut buckets = BoltFile(bolt::Writer::new(file)?);
        schema::write(export, &mut buckets, go_on)?;
        Ok(buckets.0.finish()?)
    }
}

/// Sends a file in parts, then its digest.
fn send(
    mut file: File,
    total_bytes: u64,
    parts: &mpsc::Sender<Result<SnapshotResponse, Failure>>,
) -> Result<u64, Failure> {
    tracing::info!(
        total_bytes,
        storage_version = STORAGE_VERSION,
        "sending database snapshot to client"
    );
    file.seek(SeekFrom::Start(0))?;
    let send = |remaining_bytes, blob: Bytes| {
        let part = SnapshotResponse {
            header: None,
            remaining_bytes,
            blob,
            version: STORAGE_VERSION.to_owned(),
        };
        parts.blocking_send(Ok(part)).map_err(|_| Failure::Unwanted)
    };
    let mut digest = Sha256::new();
    let mut remaining = total_bytes;
    while remaining > 0 {
        let mut blob = Vec::with_capacity(BLOB_BYTES);
        let taken = (&mut file)
            .take(remaining.min(BLOB_BYTES as u64))
            .read_to_end(&mut blob)?;
        if taken == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        digest.update(&blob);
        remaining -= taken as u64;
        send(remaining, blob.into())?;
    }
    tracing::info!(total_bytes, "sending database sha256 checksum to client");
    send(0, Bytes::copy_from_slice(&digest.finalize()))?;
    Ok(total_bytes)
}

/// A file that is gone with its last handle, however the process ends.
fn nameless_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let file = options
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    fs::remove_file(path)?;
    Ok(file)
}

fn remove_left_behind(dir: &Path) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(SPOOL_PREFIX)
            && let Err(error) = fs::remove_file(entry.path())
        {
            tracing::warn!(path = %entry.path().display(), %error, "a left-over of a backup cannot be removed");
        }
    }
}

struct BoltFile(bolt::Writer<File>);

impl Buckets for BoltFile {
    fn bucket(&mut self, name: &'static str) -> io::Result<()> {
        self.0.bucket(name.as_bytes())
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        self.0.put(key, value)
    }
}

#[derive(Default)]
struct Hash {
    crc: u32,
    bucket: &'static str,
}

impl Buckets for Hash {
    fn bucket(&mut self, name: &'static str) -> io::Result<()> {
        self.bucket = name;
        self.crc = crc32c::crc32c_append(self.crc, name.as_bytes());
        Ok(())
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        if self.bucket != "meta" || !UNHASHED.contains(&key) {
            self.crc = crc32c::crc32c_append(crc32c::crc32c_append(self.crc, key), value);
        }
        Ok(())
    }
}

/// Backups under way at once: each takes as much room on the disk as the state, and a thread.
const BACKUPS_MAX: usize = 8;
/// Bytes of a part, as etcd's.
const BLOB_BYTES: usize = 32 << 10;
/// Parts read and not yet taken by the client's connection.
const PARTS_AHEAD: usize = 8;
const SPOOL_PREFIX: &str = "backup-in-progress.";
/// Records of the bucket `meta` that etcd leaves out of its hash too.
const UNHASHED: [&[u8]; 3] = [b"consistent_index", b"storageVersion", b"term"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn left_overs_are_removed_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["backup-in-progress.7", "member"] {
            fs::write(dir.path().join(name), b"x").unwrap();
        }
        Backups::new(dir.path(), Arc::default());
        let names = || {
            let entries = fs::read_dir(dir.path()).unwrap();
            entries
                .map(|entry| entry.unwrap().file_name())
                .collect::<Vec<_>>()
        };
        assert_eq!(names(), ["member"]);
        let file = nameless_file(&dir.path().join("backup-in-progress.0")).unwrap();
        assert_eq!(names(), ["member"], "the spool has no name");
        drop(file);
    }
}

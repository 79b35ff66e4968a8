//! The backend over sled, and the only file that names it.
//!
//! **Version.** 1.0.0-alpha.124, pinned exactly, after reading both sources and measuring both with this room's
//! blocks (1 M puts, incompressible): checkpointing took 1.0-1.3 us of CPU per put against 2.0 us with 0.34.7, a
//! random read 2 us against 19 us, and after three quarters were pruned the files shrank from 341 MB to 44 MB where
//! 0.34.7 kept its 450 MB. It syncs its files with fsync before a batch counts (0.34.7: `sync_file_range`, and blob
//! files never), and a batch is one checksummed frame of its metadata log, so a torn one is cut off whole.
//!
//! **What it needs from us**, found in its source:
//! - Everything written between two flushes becomes durable as one: the flush writes one metadata frame. So a batch
//!   is applied record by record, and a lock keeps a flush from falling into the middle of one. (Its own
//!   `apply_batch` never merges the leaves it empties: pruned history would leave a trail of them.)
//! - A leaf once written is never evicted again (`max_written_epoch` is never reset), so memory grows by all that
//!   was written since the open. Therefore it is closed and opened anew each [`REOPEN_BYTES`]: some 20 ms during
//!   which only readers of old history wait.
//! - Damage to its metadata can pair a leaf's address with another leaf's bytes, each with a valid checksum; a read
//!   of such a leaf spins forever. So before it is opened, [`read_all`] reads every leaf itself and checks that they
//!   tile the key space. That is also the pass that loads the state: the files are read once.
//! - The file that records the leaf size is written without a sync; we sync it.
//! - Its background flusher aborts the process on an error: it gets an interval that never elapses, and after an
//!   error the handles are leaked, because dropping them would flush.
//! - A leaf is rewritten whole: 8 records of about 4 KiB in each keep an append to the last one cheap.

use std::fs::File;
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use parking_lot::{Mutex, RwLock};

use super::memory::full_bounds;
use super::reclaim::{self, Density, Fresh, Switch};
use super::{Backend, BackendError, KeyBounds, Reclaim, Table, WriteBatch};
use crate::env::real::RealDisk;

/// See the module.
pub struct SledBackend {
    dir: PathBuf,
    /// `None` only while it is reopened, and for good where that failed.
    handles: RwLock<Option<Handles>>,
    /// Bytes written since the open. Held by a write and by a flush, never by both: what keeps batches atomic.
    written: Mutex<usize>,
    failed: AtomicBool,
    /// Done once, after the first flush of something written.
    first_flush: Mutex<Option<FirstFlush>>,
    density: Mutex<Density>,
    /// The directory that is to take this one's place. Locked after `written`.
    fresh: Mutex<Option<Fresh>>,
}

/// What the opener wants done when the first batch is durable.
pub(super) type FirstFlush = Box<dyn FnOnce() -> io::Result<()> + Send>;

/// sled's handle cannot be shared by threads, only cloned; one per purpose, so that no read waits for a sync.
struct Handles {
    writer: Mutex<Db>,
    reader: Mutex<Db>,
    flusher: Mutex<Db>,
}

type Db = sled::Db<LEAF_RECORDS>;

/// A full key and its value.
pub(super) type Record = (Vec<u8>, Vec<u8>);

impl SledBackend {
    /// Opens or creates a directory. What is in it must have passed [`read_all`].
    pub(super) fn open(dir: &Path, first_flush: Option<FirstFlush>) -> Result<Self, BackendError> {
        let handles = open_handles(dir)?;
        for path in [dir.join(SETTINGS_FILE), dir.join("metadata"), dir.to_path_buf()] {
            sync(&path).map_err(disk("sync a new directory"))?;
        }
        if let Some(parent) = dir.parent() {
            sync(parent).map_err(disk("sync a new directory"))?;
        }
        Ok(SledBackend {
            dir: dir.to_path_buf(),
            handles: RwLock::new(Some(handles)),
            written: Mutex::new(0),
            failed: AtomicBool::new(false),
            first_flush: Mutex::new(first_flush),
            density: Mutex::new(Density::new()),
            fresh: Mutex::new(None),
        })
    }

    /// Runs `action` on one of the handles; after an error none of them is used again.
    fn with<T>(
        &self,
        pick: impl Fn(&Handles) -> &Mutex<Db>,
        operation: &'static str,
        action: impl FnOnce(&Db) -> io::Result<T>,
    ) -> Result<T, BackendError> {
        let handles = self.handles.read();
        let stopped = || io::Error::other("an earlier operation failed");
        let result = match handles.as_ref() {
            Some(handles) if !self.failed.load(Ordering::Acquire) => action(&pick(handles).lock()),
            _ => Err(stopped()),
        };
        result.map_err(|source| {
            self.failed.store(true, Ordering::Release);
            BackendError::Disk { operation, source }
        })
    }

    /// The records after a key, of all tables, up to some bytes; one at least, where there is one.
    fn records_after(&self, key: Option<&[u8]>) -> Result<Vec<Record>, BackendError> {
        let from = key.map_or(Bound::Unbounded, |key| Bound::Excluded(key.to_vec()));
        self.with(
            |handles| &handles.reader,
            "scan",
            |db| {
                let (mut records, mut bytes) = (Vec::new(), 0);
                for record in db.range::<Vec<u8>, _>((from, Bound::Unbounded)) {
                    let (key, value) = record?;
                    bytes += key.len() + value.len();
                    records.push((key.to_vec(), value.to_vec()));
                    if bytes >= COPY_BYTES {
                        break;
                    }
                }
                Ok(records)
            },
        )
    }

    /// Copies the next records; `true` once there are none left.
    fn copy_some(&self, fresh: &mut Fresh) -> Result<bool, BackendError> {
        let records = self.records_after(fresh.cursor())?;
        let done = records.is_empty();
        fresh.copy(records)?;
        Ok(done)
    }

    /// Gives up the copy under way, which leaves the working copy as it is.
    fn give_up_copy(&self, fresh: &mut Option<Fresh>, error: &BackendError) {
        tracing::warn!(%error, "the working copy cannot be made anew for now: its free space is kept");
        *fresh = None;
        self.density.lock().failed();
        if let Err(error) = reclaim::remove_fresh(&self.dir) {
            tracing::warn!(%error, "cannot remove an unfinished working copy");
        }
    }

    /// Puts a whole copy in place of this directory, as was decided. Readers wait meanwhile.
    fn switch(&self, fresh: Fresh) -> Result<(), BackendError> {
        let switch = Switch::new(&RealDisk, &self.dir);
        let mut handles = self.handles.write();
        drop(fresh);
        drop(handles.take());
        let opened = switch
            .finish()
            .map_err(disk("switch directories"))
            .and_then(|()| open_handles(&self.dir));
        match opened {
            Ok(opened) => *handles = Some(opened),
            Err(error) => {
                // A start goes on with it.
                self.failed.store(true, Ordering::Release);
                return Err(error);
            }
        }
        drop(handles);
        self.density.lock().renewed();
        if let Err(error) = reclaim::remove_outdated(&self.dir) {
            tracing::warn!(%error, "cannot remove an outdated working copy");
        }
        Ok(())
    }

    /// Gives back the memory of what was written; see the module. Everything is flushed.
    fn reopen(&self) -> Result<(), BackendError> {
        let mut handles = self.handles.write();
        drop(handles.take());
        match open_handles(&self.dir) {
            Ok(opened) => *handles = Some(opened),
            Err(error) => {
                self.failed.store(true, Ordering::Release);
                return Err(error);
            }
        }
        Ok(())
    }
}

impl Backend for SledBackend {
    fn write(&self, batch: WriteBatch) -> Result<(), BackendError> {
        let mut written = self.written.lock();
        *written += batch.bytes();
        let mut fresh = self.fresh.lock();
        if let Some(Err(error)) = fresh.as_mut().map(|fresh| fresh.mirror(&batch)) {
            self.give_up_copy(&mut fresh, &error);
        }
        drop(fresh);
        self.with(
            |handles| &handles.writer,
            "write",
            |db| {
                for (key, value) in batch.writes {
                    match value {
                        Some(value) => db.insert(key, value)?,
                        None => db.remove(key)?,
                    };
                }
                Ok(())
            },
        )
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, BackendError> {
        let value = self.with(
            |handles| &handles.reader,
            "read",
            |db| db.get(table.full_key(key)),
        )?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn scan(
        &self,
        table: Table,
        range: KeyBounds<'_>,
        max: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, BackendError> {
        let (from, to): (Bound<Vec<u8>>, Bound<Vec<u8>>) = full_bounds(table, range);
        self.with(
            |handles| &handles.reader,
            "scan",
            |db| {
                let records = db.range::<Vec<u8>, _>((from, to)).take(max);
                records
                    .map(|record| {
                        let (key, value) = record?;
                        Ok((Bytes::copy_from_slice(&key[1..]), Bytes::copy_from_slice(&value)))
                    })
                    .collect()
            },
        )
    }

    fn flush(&self) -> Result<(), BackendError> {
        let mut written = self.written.lock();
        self.with(|handles| &handles.flusher, "flush", |db| db.flush().map(|_| ()))?;
        if *written > 0
            && let Some(first_flush) = self.first_flush.lock().take()
        {
            first_flush().map_err(disk("write the marker"))?;
        }
        if *written >= REOPEN_BYTES {
            self.reopen()?;
            *written = 0;
        }
        Ok(())
    }

    fn reclaim(&self, live_bytes: u64) -> Result<Reclaim, BackendError> {
        let mut written = self.written.lock();
        let mut fresh = self.fresh.lock();
        let Some(copying) = fresh.as_mut() else {
            if !self.density.lock().wasteful(self.disk_bytes()?, live_bytes) {
                return Ok(Reclaim::Nothing);
            }
            return Ok(match Fresh::begin(&self.dir, live_bytes) {
                Ok(begun) => {
                    tracing::info!(
                        live_bytes,
                        disk_bytes = self.disk_bytes()?,
                        "the working copy is made anew"
                    );
                    *fresh = Some(begun);
                    Reclaim::Going
                }
                Err(error) => {
                    self.give_up_copy(&mut fresh, &error);
                    Reclaim::Nothing
                }
            });
        };
        let copied = reclaim::room(&self.dir).and_then(|()| self.copy_some(copying));
        let decided = match copied {
            Ok(true) => copying.flush().and_then(|()| {
                let decided = Switch::new(&RealDisk, &self.dir).decide();
                decided.map(|()| true).map_err(disk("switch directories"))
            }),
            copied => copied,
        };
        match decided {
            Ok(false) => Ok(Reclaim::Going),
            // A scan of the working copy itself that fails has marked it so, and the next use of it says so.
            Err(error) => {
                self.give_up_copy(&mut fresh, &error);
                Ok(Reclaim::Nothing)
            }
            Ok(true) => {
                // What is written and not flushed here stands in the fresh one, and is durable.
                self.switch(fresh.take().expect("it is being filled"))?;
                *written = 0;
                Ok(Reclaim::Done)
            }
        }
    }

    fn disk_bytes(&self) -> Result<u64, BackendError> {
        tree_bytes(&self.dir).map_err(disk("measure the directory"))
    }
}

impl Drop for SledBackend {
    fn drop(&mut self) {
        if self.failed.load(Ordering::Acquire) {
            std::mem::forget(self.handles.get_mut().take());
        }
    }
}

fn config(dir: &Path) -> sled::Config {
    sled::Config::new()
        .path(dir)
        .cache_capacity_bytes(CACHE_BYTES)
        .flush_every_ms(Some(FLUSH_NEVER_MS))
        .zstd_compression_level(COMPRESSION)
}

fn open_handles(dir: &Path) -> Result<Handles, BackendError> {
    let db: Db = patiently(|| config(dir).open()).map_err(disk("open"))?;
    Ok(Handles {
        writer: Mutex::new(db.clone()),
        reader: Mutex::new(db.clone()),
        flusher: Mutex::new(db),
    })
}

/// Opens again while the directory is locked, for up to a second. sled runs `sync` as a child process when it opens,
/// and any child this process forks holds our lock, already released here, until it execs.
fn patiently<T>(open: impl Fn() -> io::Result<T>) -> io::Result<T> {
    for _ in 0..LOCK_TRIES {
        match open() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(LOCK_WAIT),
            result => return result,
        }
    }
    open()
}

/// Receives a record: table, key within it, value.
type Visit<'a> = dyn FnMut(Table, &[u8], &Bytes) -> Result<(), BackendError> + 'a;

/// Hands every record of a directory to `visit`, in key order, after checking that sled will find its way in it.
/// Must not run while the directory is open. `false` where it holds nothing.
pub(super) fn read_all(dir: &Path, visit: &mut Visit<'_>) -> Result<bool, BackendError> {
    // sled would create it, and run `sync` for the whole machine twice.
    if matches!(dir.try_exists(), Ok(false)) {
        return Ok(false);
    }
    let recovery = patiently(|| sled::Heap::recover(LEAF_RECORDS, &config(dir))).map_err(disk("open"))?;
    let mut nodes = recovery.recovered_nodes;
    nodes.sort_unstable_by(|a, b| a.low_key.cmp(&b.low_key));
    let Some(first) = nodes.first() else {
        return Ok(false);
    };
    let collection = first.collection_id;
    if !first.low_key.is_empty() {
        return Err(structure("no leaf at the low end"));
    }
    if nodes.iter().any(|node| node.collection_id != collection) {
        return Err(structure("a leaf of another collection"));
    }
    let place = nodes.into_iter().map(|node| (node.object_id, node.low_key));
    let places: Vec<Place> = place.collect();
    let mut tiles = Tiles {
        places: &places,
        taken: 0,
        any: false,
        visit,
    };
    let mut reader = LeafReader::new(recovery.heap)?;
    if std::thread::available_parallelism().map_or(1, usize::from) > 1 {
        read_ahead(reader, &mut tiles)?;
    } else {
        for (id, _) in &places {
            tiles.take(&reader.read(*id)?)?;
        }
    }
    Ok(tiles.any)
}

/// A leaf's number and the lowest key it may hold.
type Place = (sled::ObjectId, sled::InlineArray);

/// Reads and decodes the leaves on a second thread, which takes about as long as what the receiver does with them.
fn read_ahead(mut reader: LeafReader, tiles: &mut Tiles<'_, '_>) -> Result<(), BackendError> {
    let places = tiles.places;
    std::thread::scope(|scope| {
        let (sender, receiver) = mpsc::sync_channel(BATCHES_AHEAD);
        scope.spawn(move || {
            // Several at once: waking the receiver costs more than a leaf.
            for batch in places.chunks(LEAVES_PER_BATCH) {
                let read = batch.iter().map(|(id, _)| reader.read(*id));
                let read: Result<Vec<Leaf>, BackendError> = read.collect();
                let failed = read.is_err();
                // The receiver leaves at the first error.
                if sender.send(read).is_err() || failed {
                    break;
                }
            }
        });
        while tiles.taken < places.len() {
            // Without a sender the thread has panicked, and so does the end of the scope.
            let read = receiver
                .recv()
                .map_err(|_| structure("the reading thread has panicked"))?;
            for leaf in read? {
                tiles.take(&leaf)?;
            }
        }
        Ok(())
    })
}

/// The leaves in order, checked one by one to tile the key space.
struct Tiles<'a, 'v> {
    places: &'a [Place],
    taken: usize,
    any: bool,
    visit: &'a mut Visit<'v>,
}

impl Tiles<'_, '_> {
    fn take(&mut self, leaf: &Leaf) -> Result<(), BackendError> {
        let (_, low) = &self.places[self.taken];
        self.taken += 1;
        let next = self.places.get(self.taken).map(|(_, low)| low.as_ref());
        if *leaf.low != **low || leaf.high.as_deref() != next {
            return Err(structure("the leaves do not tile the key space"));
        }
        for (key, value) in &leaf.records {
            let Some(table) = key.first().and_then(|prefix| Table::from_prefix(*prefix)) else {
                return Err(structure("a key of an unknown table"));
            };
            self.any = true;
            (self.visit)(table, &key[1..], value)?;
        }
        Ok(())
    }
}

/// Reads leaves with one decompression context, which costs as much to make as a leaf to read.
struct LeafReader {
    heap: sled::Heap,
    context: zstd::bulk::Decompressor<'static>,
}

impl LeafReader {
    fn new(heap: sled::Heap) -> Result<Self, BackendError> {
        let context = zstd::bulk::Decompressor::new().map_err(disk("decompress"))?;
        Ok(LeafReader { heap, context })
    }

    fn read(&mut self, id: sled::ObjectId) -> Result<Leaf, BackendError> {
        let stored = match self.heap.read(id) {
            Some(bytes) => bytes.map_err(disk("read"))?,
            None => return Err(structure("a leaf without an address")),
        };
        let bytes = match self.context.decompress(&stored, LEAF_BYTES) {
            Ok(bytes) => bytes,
            // Too long for one go, as a leaf with a large value is, or damaged, which then shows again.
            Err(_) => zstd::stream::decode_all(&stored[..]).map_err(disk("decompress"))?,
        };
        Leaf::parse(Bytes::from(bytes)).ok_or(structure("a leaf of another layout"))
    }
}

/// A leaf as sled stores it: bincode with fixed-width numbers, in a zstd frame.
struct Leaf {
    low: Bytes,
    high: Option<Bytes>,
    records: Vec<(Bytes, Bytes)>,
}

impl Leaf {
    fn parse(mut rest: Bytes) -> Option<Leaf> {
        let rest = &mut rest;
        let low = take_bytes(rest)?;
        let high = match rest.try_get_u8().ok()? {
            0 => None,
            1 => Some(take_bytes(rest)?),
            _ => return None,
        };
        let prefix = rest.try_get_u64_le().ok()?;
        let count = usize::try_from(rest.try_get_u64_le().ok()?).ok()?;
        if prefix != 0 || count > LEAF_RECORDS {
            return None;
        }
        let mut records: Vec<(Bytes, Bytes)> = Vec::with_capacity(count);
        for _ in 0..count {
            let record = (take_bytes(rest)?, take_bytes(rest)?);
            let above = records.last().is_none_or(|(last, _)| *last < record.0);
            if !above || record.0 < low || high.as_ref().is_some_and(|high| record.0 >= *high) {
                return None;
            }
            records.push(record);
        }
        // Then come the size in memory and the count of mutations.
        (rest.len() == 16).then_some(Leaf { low, high, records })
    }
}

fn take_bytes(rest: &mut Bytes) -> Option<Bytes> {
    let len = usize::try_from(rest.try_get_u64_le().ok()?).ok()?;
    (len <= rest.len()).then(|| rest.split_to(len))
}

fn structure(reason: &'static str) -> BackendError {
    BackendError::Structure { reason }
}

fn disk(operation: &'static str) -> impl Fn(io::Error) -> BackendError {
    move |source| BackendError::Disk { operation, source }
}

/// Makes a file's contents, or a directory's entries, durable.
pub(super) fn sync(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn tree_bytes(dir: &Path) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        bytes += match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => tree_bytes(&entry.path())?,
            Ok(metadata) => metadata.blocks() * 512,
            // sled removes its old metadata files in the background.
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
    }
    Ok(bytes)
}

/// Records per leaf; recorded in the directory, which cannot be opened with another number.
const LEAF_RECORDS: usize = 8;
const CACHE_BYTES: usize = 16 << 20;
/// Leaves that the reading thread hands over at once, and how many such batches wait: some 3 MiB.
const LEAVES_PER_BATCH: usize = 16;
const BATCHES_AHEAD: usize = 4;
/// Room for a usual leaf, with half as much to spare.
const LEAF_BYTES: usize = 48 << 10;
/// Bytes that one step copies to a fresh directory.
const COPY_BYTES: usize = 1 << 20;
/// Written bytes after which the memory they still take is given back.
const REOPEN_BYTES: usize = 64 << 20;
/// zstd's fast levels: measured here, level 3 costs 0.4 us of CPU per put more for data that does not compress.
const COMPRESSION: i32 = -5;
/// sled's own flusher must never run: flushes are ours.
const FLUSH_NEVER_MS: usize = 1 << 40;
const LOCK_TRIES: u32 = 100;
const LOCK_WAIT: Duration = Duration::from_millis(10);
const SETTINGS_FILE: &str = "durability_cookie";

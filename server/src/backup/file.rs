//! A backup's content, read from a file: one that `Maintenance.Snapshot` of ours or of an etcd from 3.4 on sent, or the
//! `member/snap/db` of a stopped etcd, which is the same without a digest.
//!
//! Everything is checked before it is handed out, since what comes after relies on it: revisions ascend, a change's own
//! numbers agree with its place, a lease has an id.

use std::fs::File;
use std::io::{self, BufReader, Read as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use prost::Message as _;
use proto::authpb::{Role, User};
use proto::etcdserverpb::AlarmMember;
use proto::mvccpb::KeyValue;
use sha2::{Digest as _, Sha256};
use store::types::{Change, Revision};

use super::bolt::read::{Met, ReadError, Reader};

/// Why a backup is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error("open {}: {source}", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("snapshot missing hash but --skip-hash-check=false")]
    NoDigest,
    #[error("expected sha256 {expected:?}, got {found:?}")]
    Digest { expected: Vec<u8>, found: Vec<u8> },
    #[error("the file is damaged: {0}")]
    Pages(#[from] ReadError),
    #[error("the file is damaged: bucket {bucket}, key {key}: {what}")]
    Record {
        bucket: String,
        key: String,
        what: &'static str,
    },
    #[error("the file is no backup of etcd: it has no bucket {0:?}")]
    NoBucket(&'static str),
}

/// An open backup.
pub(crate) struct BackupFile {
    reader: Reader,
    /// SHA-256 of the database.
    digest: Vec<u8>,
}

/// Everything but the history of keys.
#[derive(Clone, Default, Debug)]
pub(crate) struct Tables {
    /// Leases: ids of 8 bytes, and etcd's records.
    pub(crate) leases: Vec<(Bytes, Bytes)>,
    pub(crate) alarms: Vec<AlarmMember>,
    pub(crate) cluster_version: Option<String>,
    /// Whether passwords are asked for.
    pub(crate) auth_enabled: bool,
    pub(crate) auth_revision: u64,
    pub(crate) users: Vec<User>,
    pub(crate) roles: Vec<Role>,
    /// The last log entry contained, 0 where it does not say.
    pub(crate) applied: u64,
    pub(crate) term: u64,
    /// The compacted revision, -1 for none.
    pub(crate) compacted: i64,
    /// The newest revision, 1 for none.
    pub(crate) revision: i64,
}

impl BackupFile {
    /// Opens a file; its digest is demanded and compared unless `skip_digest`.
    pub(crate) fn open(path: &Path, skip_digest: bool) -> Result<BackupFile, FileError> {
        let cannot = |source| FileError::Open {
            path: path.to_owned(),
            source,
        };
        let bytes = file_bytes(path).map_err(cannot)?;
        let has_digest = bytes % SECTOR_BYTES == DIGEST_BYTES;
        if !has_digest && !skip_digest {
            return Err(FileError::NoDigest);
        }
        let data_bytes = if has_digest { bytes - DIGEST_BYTES } else { bytes };
        let (digest, recorded) = digest(path, data_bytes).map_err(cannot)?;
        if has_digest && !skip_digest && digest != recorded {
            return Err(FileError::Digest {
                expected: recorded,
                found: digest,
            });
        }
        Ok(BackupFile {
            reader: Reader::open(path, data_bytes)?,
            digest,
        })
    }

    /// SHA-256 of the database.
    pub(crate) fn digest(&self) -> &[u8] {
        &self.digest
    }

    /// Reads all of the file once, and checks it.
    pub(crate) fn tables(&self) -> Result<Tables, FileError> {
        let mut tables = Tables {
            compacted: -1,
            revision: 1,
            ..Tables::default()
        };
        let mut has_keys = false;
        let mut last = None;
        self.walk(&mut |bucket, key, value| {
            has_keys |= bucket == KEY_BUCKET;
            match key {
                Some(key) => {
                    tables.take(bucket, key, value)?;
                    let here = (bucket == KEY_BUCKET).then(|| revision(key)).flatten();
                    let here = here.map(|(revision, _)| revision);
                    // Keys ascend, but one revision can be written in two ways, as a put and as a tombstone.
                    if here.is_some() && here == std::mem::replace(&mut last, here) {
                        return Err(bad(bucket, key, "its revision was there before"));
                    }
                    Ok(())
                }
                None => Ok(()),
            }
        })?;
        if has_keys {
            Ok(tables)
        } else {
            Err(FileError::NoBucket("key"))
        }
    }

    /// Shows the history up to revision `last`, a whole main revision at a time.
    pub(crate) fn changes<E: From<FileError>>(
        &self,
        last: i64,
        show: &mut dyn FnMut(&[Change]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut revision: Vec<Change> = Vec::new();
        self.walk::<E>(&mut |bucket, key, value| {
            let (KEY_BUCKET, Some(key)) = (bucket, key) else {
                return Ok(());
            };
            let Some(change) = change(key, value)? else {
                return Ok(());
            };
            if change.revision.main > last {
                return Ok(());
            }
            if revision
                .first()
                .is_some_and(|first| first.revision.main != change.revision.main)
            {
                show(&revision)?;
                revision.clear();
            }
            revision.push(change);
            Ok(())
        })?;
        if revision.is_empty() {
            Ok(())
        } else {
            show(&revision)
        }
    }

    /// Shows bucket by bucket every record; a bucket's begin has no key.
    fn walk<E: From<FileError>>(&self, visit: Visit<'_, E>) -> Result<(), E> {
        let mut bucket = Vec::new();
        let walked = self.reader.walk(&mut |met| {
            let visited = match met {
                Met::Bucket(name) => {
                    bucket = name.to_vec();
                    visit(&bucket, None, &[])
                }
                Met::Record(key, value) => visit(&bucket, Some(key), value),
            };
            visited.map_err(Stop::Visitor)
        });
        walked.map_err(|stop| match stop {
            Stop::Visitor(error) => error,
            Stop::Reader(error) => FileError::Pages(error).into(),
        })
    }
}

/// Is shown a bucket's name, a record's key (none where the bucket begins) and its value.
type Visit<'v, E> = &'v mut dyn FnMut(&[u8], Option<&[u8]>, &[u8]) -> Result<(), E>;

/// Who ended a walk.
enum Stop<E> {
    Visitor(E),
    Reader(ReadError),
}

impl<E> From<ReadError> for Stop<E> {
    fn from(error: ReadError) -> Self {
        Stop::Reader(error)
    }
}

impl Tables {
    fn take(&mut self, bucket: &[u8], key: &[u8], value: &[u8]) -> Result<(), FileError> {
        match (bucket, key) {
            (KEY_BUCKET, _) => {
                let revision = revision(key).ok_or_else(|| bad(KEY_BUCKET, key, "this is no revision"))?;
                change(key, value)?;
                self.revision = self.revision.max(revision.0.main);
            }
            (b"lease", _) => {
                check_lease(key, value)?;
                let (key, value) = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
                self.leases.push((key, value));
            }
            (b"alarm", _) => {
                let alarm = AlarmMember::decode(key).map_err(|_| bad(bucket, key, "this is no alarm"))?;
                self.alarms.push(alarm);
            }
            (b"cluster", b"clusterVersion") => {
                let version = std::str::from_utf8(value).map_err(|_| bad(bucket, key, NO_TEXT))?;
                self.cluster_version = Some(version.to_owned());
            }
            (b"auth", b"authEnabled") => self.auth_enabled = value == [1],
            (b"auth", b"authRevision") => self.auth_revision = big_endian(bucket, key, value)?,
            (b"authUsers", _) => {
                let user = User::decode(value).ok().filter(|user| user.name == key);
                self.users
                    .push(user.ok_or_else(|| bad(bucket, key, "this is no user"))?);
            }
            (b"authRoles", _) => {
                let role = Role::decode(value).ok().filter(|role| role.name == key);
                self.roles
                    .push(role.ok_or_else(|| bad(bucket, key, "this is no role"))?);
            }
            (b"meta", b"consistent_index") => self.applied = big_endian(bucket, key, value)?,
            (b"meta", b"term") => self.term = big_endian(bucket, key, value)?,
            (b"meta", b"scheduledCompactRev" | b"finishedCompactRev") => {
                let (revision, _) = revision(value).ok_or_else(|| bad(bucket, key, "this is no revision"))?;
                self.compacted = self.compacted.max(revision.main);
            }
            _ => {}
        }
        Ok(())
    }
}

/// The change of a record; `None` for one that only raises the revision, as etcdutl writes it.
fn change(key: &[u8], value: &[u8]) -> Result<Option<Change>, FileError> {
    let wrong = |what| bad(KEY_BUCKET, key, what);
    let (revision, tombstone) = revision(key).ok_or_else(|| wrong("this is no revision"))?;
    let kv = KeyValue::decode(value).map_err(|_| wrong("its value is no KeyValue"))?;
    if kv.key.is_empty() {
        return if value.is_empty() {
            Ok(None)
        } else {
            Err(wrong("it changes no key"))
        };
    }
    if revision.main < FIRST_MAIN {
        return Err(wrong("no change has so low a revision"));
    }
    if tombstone {
        let kv = KeyValue {
            key: kv.key,
            mod_revision: revision.main,
            ..KeyValue::default()
        };
        return Ok(Some(Change {
            revision,
            tombstone,
            kv,
        }));
    }
    if kv.mod_revision != revision.main {
        return Err(wrong("its value is of another revision"));
    }
    if kv.version < 1 || kv.create_revision < 1 || kv.create_revision > kv.mod_revision {
        return Err(wrong("its value has impossible revisions"));
    }
    Ok(Some(Change {
        revision,
        tombstone,
        kv,
    }))
}

/// A revision as etcd writes it, and whether it is a tombstone's.
pub(crate) fn revision(key: &[u8]) -> Option<(Revision, bool)> {
    let (main, rest) = key.split_first_chunk::<8>()?;
    let (sub, end) = rest.strip_prefix(b"_")?.split_first_chunk::<8>()?;
    let tombstone = match end {
        b"" => false,
        b"t" => true,
        _ => return None,
    };
    let (main, sub) = (i64::from_be_bytes(*main), i64::from_be_bytes(*sub));
    let possible = main >= 0 && (0..=i64::from(u32::MAX)).contains(&sub);
    possible.then_some((Revision::new(main, sub), tombstone))
}

fn check_lease(key: &[u8], value: &[u8]) -> Result<(), FileError> {
    let wrong = |what| bad(b"lease", key, what);
    let id = <[u8; 8]>::try_from(key).map_err(|_| wrong("this is no lease's id"))?;
    let lease = LeaseRecord::decode(value).map_err(|_| wrong("its value is no lease"))?;
    if lease.id == 0 || lease.id != i64::from_be_bytes(id) {
        return Err(wrong("its value is another lease"));
    }
    if lease.ttl < 0 || lease.remaining_ttl < 0 {
        return Err(wrong("it has an impossible TTL"));
    }
    Ok(())
}

/// etcd's `leasepb.Lease`.
#[derive(Clone, PartialEq, prost::Message)]
struct LeaseRecord {
    #[prost(int64, tag = "1")]
    id: i64,
    #[prost(int64, tag = "2")]
    ttl: i64,
    #[prost(int64, tag = "3")]
    remaining_ttl: i64,
}

fn big_endian(bucket: &[u8], key: &[u8], value: &[u8]) -> Result<u64, FileError> {
    let number = <[u8; 8]>::try_from(value);
    Ok(u64::from_be_bytes(
        number.map_err(|_| bad(bucket, key, "its value is no number"))?,
    ))
}

fn bad(bucket: &[u8], key: &[u8], what: &'static str) -> FileError {
    FileError::Record {
        bucket: bucket.escape_ascii().to_string(),
        key: key.escape_ascii().to_string(),
        what,
    }
}

/// The length of a file.
pub(crate) fn file_bytes(path: &Path) -> io::Result<u64> {
    Ok(File::open(path)?.metadata()?.len())
}

/// The digest of the first bytes of a file, and what stands behind them.
fn digest(path: &Path, bytes: u64) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let mut file = BufReader::with_capacity(BUFFER_BYTES, File::open(path)?);
    let mut digest = Sha256::new();
    io::copy(&mut (&mut file).take(bytes), &mut digest)?;
    let mut recorded = Vec::new();
    file.take(DIGEST_BYTES).read_to_end(&mut recorded)?;
    Ok((digest.finalize().to_vec(), recorded))
}

const KEY_BUCKET: &[u8] = b"key";
/// A new store stands at revision 1.
const FIRST_MAIN: i64 = 2;
const NO_TEXT: &str = "its value is no text";
const DIGEST_BYTES: u64 = 32;
/// A database is of whole sectors.
const SECTOR_BYTES: u64 = 512;
const BUFFER_BYTES: usize = 256 << 10;

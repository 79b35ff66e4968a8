//! What is made of files, and made again when they change: certificates, authorities, revocations.
//!
//! etcd reads certificates, keys and revocations at every handshake, and authorities once, at the start. Here all are
//! looked at at every handshake, by one `stat` a file, and read when what tells one content from another has changed.
//! What a file system's clock is too coarse to tell is read until it must have moved on: see [`SETTLING`]. So a handshake
//! that begins after a change is judged by it, and connections that are there already go on.
//!
//! What cannot be read, or is not what it should be, leaves the last good in use: as when one of two files has been
//! replaced and the other not yet. Only revocations that cannot be read let nobody in, as in etcd. Either is told of
//! once for each content, in the log and by [`RELOADS`].

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};

use super::TlsError;

/// A value made of files.
pub(super) struct Watched<T> {
    material: Material,
    paths: Vec<PathBuf>,
    make: Make<T>,
    current: Mutex<Current<T>>,
}

type Make<T> = Box<dyn Fn(Vec<Content>) -> Result<T, TlsError> + Send + Sync>;
/// Of one file.
pub(super) type Content = Result<Vec<u8>, TlsError>;

struct Current<T> {
    seen: Seen,
    /// The last that was good.
    value: Option<Arc<T>>,
    /// What is wrong with the files as they are now.
    broken: Option<String>,
}

/// What was found at the last reading, well or not.
#[derive(Default)]
struct Seen {
    stamps: Vec<Option<Stamp>>,
    /// Another content would show by another stamp.
    settled: bool,
    /// Of each file that could be read. The contents themselves may be private keys: they are not kept.
    digests: Vec<Option<[u8; 32]>>,
}

/// What tells one content of a file from another: device, inode, size, times of the last change in seconds and
/// nanoseconds.
type Stamp = (u64, u64, u64, i64, i64, i64, i64);

impl<T> Watched<T> {
    /// Reads `paths`, of which something good must be made at the start.
    pub(super) fn open(
        material: Material,
        paths: Vec<PathBuf>,
        make: impl Fn(Vec<Content>) -> Result<T, TlsError> + Send + Sync + 'static,
    ) -> Result<Watched<T>, TlsError> {
        let (seen, contents) = look(&paths);
        let value = make(contents)?;
        Ok(Watched {
            material,
            paths,
            make: Box::new(make),
            current: Mutex::new(Current {
                seen,
                value: Some(Arc::new(value)),
                broken: None,
            }),
        })
    }

    /// `path` is read when its content is first asked for.
    pub(super) fn unread(
        material: Material,
        path: PathBuf,
        make: impl Fn(Vec<Content>) -> Result<T, TlsError> + Send + Sync + 'static,
    ) -> Watched<T> {
        Watched {
            material,
            paths: vec![path],
            make: Box::new(make),
            current: Mutex::new(Current {
                seen: Seen::default(),
                value: None,
                broken: None,
            }),
        }
    }

    /// By the files as they are now, or as they last were good: nothing if they never were.
    pub(super) fn last_good(&self) -> Option<Arc<T>> {
        let mut current = self.current.lock();
        self.refresh(&mut current);
        current.value.clone()
    }

    /// By the files as they are now, or what is wrong with them.
    pub(super) fn as_it_is(&self) -> Result<Arc<T>, String> {
        let mut current = self.current.lock();
        self.refresh(&mut current);
        match (&current.broken, &current.value) {
            (None, Some(value)) => Ok(value.clone()),
            (broken, _) => Err(broken.clone().unwrap_or_default()),
        }
    }

    fn refresh(&self, current: &mut Current<T>) {
        let stamps = self.paths.iter().map(|path| stamp(path));
        if current.seen.settled && stamps.eq(current.seen.stamps.iter().copied()) {
            return;
        }
        let (seen, contents) = look(&self.paths);
        let changed = seen.digests != current.seen.digests;
        current.seen = seen;
        if !changed {
            return;
        }
        match (self.make)(contents) {
            Ok(value) => {
                *current = Current {
                    seen: std::mem::take(&mut current.seen),
                    value: Some(Arc::new(value)),
                    broken: None,
                };
                self.tell_of_success();
            }
            Err(error) => {
                current.broken = Some(error.to_string());
                self.tell_of_failure(&error);
            }
        }
    }

    fn tell_of_success(&self) {
        RELOADS
            .of(self.material)
            .successes
            .fetch_add(1, Ordering::Relaxed);
        let material = self.material.name();
        tracing::info!(
            material,
            files = self.files(),
            "TLS files were read and are in use"
        );
    }

    fn tell_of_failure(&self, error: &TlsError) {
        RELOADS.of(self.material).failures.fetch_add(1, Ordering::Relaxed);
        let consequence = match self.material {
            Material::Certificate | Material::Authorities => "what was read before stays in use",
            Material::Revocations => "nobody is let in before it can be read",
        };
        let material = self.material.name();
        tracing::error!(material, files = self.files(), %error, consequence, "TLS files cannot be used");
    }

    fn files(&self) -> String {
        let files: Vec<String> = self.paths.iter().map(|path| path.display().to_string()).collect();
        files.join(", ")
    }
}

impl<T> std::fmt::Debug for Watched<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watched")
            .field("paths", &self.paths)
            .finish_non_exhaustive()
    }
}

/// The stamps come first: a file that changes while it is read has another one the next time.
fn look(paths: &[PathBuf]) -> (Seen, Vec<Content>) {
    let stamps: Vec<Option<Stamp>> = paths.iter().map(|path| stamp(path)).collect();
    let now = SystemTime::now();
    let contents: Vec<Content> = paths.iter().map(|path| read(path)).collect();
    let seen = Seen {
        settled: contents.iter().all(Result::is_ok) && stamps.iter().all(|stamp| is_settled(*stamp, now)),
        stamps,
        digests: contents
            .iter()
            .map(|content| content.as_ref().ok().map(|bytes| Sha256::digest(bytes).into()))
            .collect(),
    };
    (seen, contents)
}

/// Of a file that is not there, or was changed just now or in the future, nothing can be taken for granted.
fn is_settled(stamp: Option<Stamp>, now: SystemTime) -> bool {
    let Some((_, _, _, written_s, _, changed_s, _)) = stamp else {
        return false;
    };
    let last = u64::try_from(written_s.max(changed_s)).unwrap_or(0);
    let last = SystemTime::UNIX_EPOCH + Duration::from_secs(last);
    now.duration_since(last).is_ok_and(|age| age > SETTLING)
}

pub(super) fn read(path: &Path) -> Content {
    fs::read(path).map_err(|source| TlsError::Open {
        path: path.display().to_string(),
        source,
    })
}

fn stamp(path: &Path) -> Option<Stamp> {
    let file = fs::metadata(path).ok()?;
    Some((
        file.dev(),
        file.ino(),
        file.size(),
        file.mtime(),
        file.mtime_nsec(),
        file.ctime(),
        file.ctime_nsec(),
    ))
}

/// The texts that Go has for what goes wrong with files.
pub(super) fn io_text(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}

/// What files are for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Material {
    Certificate,
    Authorities,
    Revocations,
}

impl Material {
    fn name(self) -> &'static str {
        match self {
            Material::Certificate => "certificate",
            Material::Authorities => "ca",
            Material::Revocations => "crl",
        }
    }
}

/// How often changed files were read since the process started, well and not.
pub(crate) struct Reloads([Outcomes; 3]);

struct Outcomes {
    successes: AtomicU64,
    failures: AtomicU64,
}

impl Reloads {
    fn of(&self, material: Material) -> &Outcomes {
        let [certificates, authorities, revocations] = &self.0;
        match material {
            Material::Certificate => certificates,
            Material::Authorities => authorities,
            Material::Revocations => revocations,
        }
    }

    /// Names of materials, with successes and failures.
    pub(crate) fn counts(&self) -> [(&'static str, u64, u64); 3] {
        [
            Material::Certificate,
            Material::Authorities,
            Material::Revocations,
        ]
        .map(|material| {
            let outcomes = self.of(material);
            let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
            (
                material.name(),
                load(&outcomes.successes),
                load(&outcomes.failures),
            )
        })
    }
}

/// The files are the process's, whoever uses them: so is their count, as its memory and its descriptors are.
pub(crate) static RELOADS: Reloads = Reloads(
    [const {
        Outcomes {
            successes: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        }
    }; 3],
);

/// No file system's clock is coarser than this, so that an older file cannot change without showing it.
const SETTLING: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    fn watched(paths: &[&Path]) -> Watched<Vec<String>> {
        let paths = paths.iter().map(|path| path.to_path_buf()).collect();
        Watched::open(Material::Certificate, paths, |contents| {
            let mut texts = Vec::new();
            for content in contents {
                let Ok(bytes) = content else {
                    return Err(TlsError::NoPem("absent"));
                };
                let text = String::from_utf8_lossy(&bytes).into_owned();
                if text.starts_with("bad") {
                    return Err(TlsError::NoPem("bad"));
                }
                texts.push(text);
            }
            Ok(texts)
        })
        .expect("the files are good at first")
    }

    #[test]
    fn a_change_shows_at_once_however_it_is_made() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("file");
        fs::write(&path, "v000").expect("writable");
        let watched = watched(&[&path]);
        // As fast as can be, and of one length: stamps alone would miss some.
        for round in 1..200 {
            let text = format!("v{round:03}");
            if round % 2 == 0 {
                fs::write(dir.path().join("next"), &text).expect("writable");
                fs::rename(dir.path().join("next"), &path).expect("renamed");
            } else {
                fs::write(&path, &text).expect("writable");
            }
            assert_eq!(*watched.last_good().expect("good"), [text]);
        }
    }

    #[test]
    fn what_is_broken_leaves_the_last_good_in_use() {
        let dir = tempfile::tempdir().expect("a directory");
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        fs::write(&a, "a1").expect("writable");
        fs::write(&b, "b1").expect("writable");
        let watched = watched(&[&a, &b]);
        fs::write(&a, "bad").expect("writable");
        assert_eq!(*watched.last_good().expect("good"), ["a1", "b1"]);
        fs::remove_file(&a).expect("there");
        assert_eq!(*watched.last_good().expect("good"), ["a1", "b1"]);
        fs::write(&b, "b2").expect("writable");
        assert_eq!(*watched.last_good().expect("good"), ["a1", "b1"]);
        fs::write(&a, "a2").expect("writable");
        assert_eq!(*watched.last_good().expect("good"), ["a2", "b2"]);
    }

    #[test]
    fn what_must_be_read_as_it_is_is_not_replaced_by_what_was() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("list");
        let list = Watched::unread(Material::Revocations, path.clone(), |mut contents| {
            contents.pop().expect("one path")
        });
        assert!(list.as_it_is().is_err());
        fs::write(&path, "1").expect("writable");
        assert_eq!(list.as_it_is().map(|list| list.to_vec()), Ok(b"1".to_vec()));
        fs::remove_file(&path).expect("there");
        assert!(list.as_it_is().is_err());
        assert_eq!(*list.last_good().expect("it was good"), b"1");
    }

    #[test]
    fn a_settled_file_is_not_read_again() {
        let now = SystemTime::now();
        let seconds = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .expect("after 1970")
            .as_secs();
        let stamp_of = |age: i64| {
            let at = i64::try_from(seconds).expect("a date") - age;
            Some((1, 1, 1, at, 0, at, 0))
        };
        assert!(is_settled(stamp_of(10), now));
        assert!(!is_settled(stamp_of(0), now));
        assert!(!is_settled(stamp_of(-10), now));
        assert!(!is_settled(None, now));
    }
}

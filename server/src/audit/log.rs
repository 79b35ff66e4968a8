//! The audit log: one JSON object a line. Calls leave their lines in a bounded queue and go on; a thread of its own
//! writes them. What finds no room is dropped, and the log says how many when it goes on. Rotation is left to the
//! operator: the file is opened again once its path leads elsewhere.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::{Condvar, Mutex};
use serde::Serialize;
use tonic::Code;

use super::about::About;
use super::entry::Who;
use crate::config::AuditOutput;
use crate::grpc::meter::CODES;
use crate::grpc::rpc::Rpc;
use crate::logging;

/// One line to be.
pub(super) struct Line {
    pub(super) event: &'static str,
    pub(super) rpc: Rpc,
    pub(super) who: Who,
    pub(super) user: Option<Arc<str>>,
    pub(super) at: SystemTime,
    pub(super) took: Duration,
    pub(super) about: About,
    pub(super) revision: Option<i64>,
    pub(super) code: Option<Code>,
    /// It finds room where others do not.
    pub(super) urgent: bool,
}

/// The way to the thread that writes.
pub(super) struct Log {
    queue: Arc<Queue>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    /// Something waits, or the end has come.
    changed: Condvar,
    written: AtomicU64,
    dropped: AtomicU64,
}

#[derive(Default)]
struct Waiting {
    lines: VecDeque<Line>,
    /// Since the last line that was taken.
    dropped: u64,
    ended: bool,
}

/// A line as JSON.
#[derive(Serialize)]
struct Told<'a> {
    time: String,
    event: &'a str,
    method: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    common_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    gateway: bool,
    #[serde(flatten)]
    about: &'a About,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<i64>,
    duration_us: u64,
}

impl Log {
    /// Opens the output and starts the thread.
    pub(super) fn start(output: &AuditOutput) -> io::Result<Log> {
        let mut sink = Sink::open(output)?;
        let queue = Arc::new(Queue::default());
        let taken = queue.clone();
        let writer = std::thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || taken.write_all_to(&mut sink))?;
        Ok(Log {
            queue,
            writer: Mutex::new(Some(writer)),
        })
    }

    /// Leaves a line, if there is room.
    pub(super) fn write(&self, line: Line) {
        let mut waiting = self.queue.waiting.lock();
        let room = if line.urgent {
            LINES_MAX
        } else {
            LINES_MAX - LINES_KEPT
        };
        if waiting.lines.len() >= room {
            waiting.dropped += 1;
            drop(waiting);
            self.queue.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let first = waiting.lines.is_empty();
        waiting.lines.push_back(line);
        drop(waiting);
        if first {
            self.queue.changed.notify_one();
        }
    }

    /// Ends the thread once everything is written that is there now.
    pub(super) fn finish(&self) {
        self.queue.waiting.lock().ended = true;
        self.queue.changed.notify_one();
        if let Some(writer) = self.writer.lock().take()
            && writer.join().is_err()
        {
            tracing::error!("the writer of the audit log has panicked");
        }
    }

    /// Lines written and dropped.
    pub(super) fn counts(&self) -> (u64, u64) {
        (
            self.queue.written.load(Ordering::Relaxed),
            self.queue.dropped.load(Ordering::Relaxed),
        )
    }
}

impl Queue {
    /// Writes what comes until the end.
    fn write_all_to(&self, sink: &mut Sink) {
        let mut lines = VecDeque::new();
        loop {
            let dropped;
            {
                let mut waiting = self.waiting.lock();
                while waiting.lines.is_empty() && waiting.dropped == 0 && !waiting.ended {
                    self.changed.wait(&mut waiting);
                }
                if waiting.lines.is_empty() && waiting.dropped == 0 {
                    return;
                }
                std::mem::swap(&mut lines, &mut waiting.lines);
                dropped = std::mem::take(&mut waiting.dropped);
            }
            let count = lines.len() as u64;
            let mut text = Vec::new();
            for line in lines.drain(..) {
                line.write_to(&mut text);
            }
            if dropped > 0 {
                let time = logging::time_text(SystemTime::now());
                text.extend(
                    format!("{{\"time\":\"{time}\",\"event\":\"dropped\",\"lines\":{dropped}}}\n").bytes(),
                );
            }
            match sink.write(&text) {
                Ok(()) => self.written.fetch_add(count, Ordering::Relaxed),
                Err(error) => {
                    sink.complain(&error);
                    self.dropped.fetch_add(count, Ordering::Relaxed)
                }
            };
        }
    }
}

impl Line {
    fn write_to(&self, text: &mut Vec<u8>) {
        let (service, method, _) = self.rpc.names();
        let told = Told {
            time: logging::time_text(self.at),
            event: self.event,
            method: format!("/{service}/{method}"),
            user: self.user.as_deref(),
            common_name: self.who.common_name.as_deref(),
            address: self.who.address.as_deref(),
            gateway: self.who.gateway,
            about: &self.about,
            code: self.code.and_then(|code| CODES.get(code as usize).copied()),
            revision: self.revision,
            duration_us: u64::try_from(self.took.as_micros()).unwrap_or(u64::MAX),
        };
        // Nothing in it that could not be told.
        if serde_json::to_writer(&mut *text, &told).is_ok() {
            text.push(b'\n');
        }
    }
}

/// Where lines go.
struct Sink {
    place: Place,
    complained: Option<Instant>,
}

enum Place {
    Stderr,
    File {
        path: PathBuf,
        file: File,
        /// When the path was last looked at.
        looked: Instant,
    },
}

impl Sink {
    fn open(output: &AuditOutput) -> io::Result<Sink> {
        let place = match output {
            AuditOutput::Stderr => Place::Stderr,
            AuditOutput::File(path) => Place::File {
                path: path.clone(),
                file: append_to(path)?,
                looked: Instant::now(),
            },
        };
        Ok(Sink {
            place,
            complained: None,
        })
    }

    fn write(&mut self, text: &[u8]) -> io::Result<()> {
        match &mut self.place {
            Place::Stderr => io::stderr().lock().write_all(text),
            Place::File { path, file, looked } => {
                if looked.elapsed() >= LOOK_INTERVAL {
                    *looked = Instant::now();
                    if is_elsewhere(path, file) {
                        *file = append_to(path)?;
                    }
                }
                file.write_all(text)
            }
        }
    }

    /// Tells the other log, but not for each line.
    fn complain(&mut self, error: &io::Error) {
        if self
            .complained
            .is_none_or(|at| at.elapsed() >= COMPLAINT_INTERVAL)
        {
            self.complained = Some(Instant::now());
            tracing::error!(%error, "the audit log cannot be written");
        }
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(FILE_MODE)
        .open(path)
}

/// Whether `path` leads to another file than this one, or to none.
fn is_elsewhere(path: &Path, file: &File) -> bool {
    match (std::fs::metadata(path), file.metadata()) {
        (Ok(there), Ok(here)) => (there.dev(), there.ino()) != (here.dev(), here.ino()),
        (Err(_), _) => true,
        (_, Err(_)) => false,
    }
}

/// Lines that wait to be written: some megabytes at most, as a line is bounded.
const LINES_MAX: usize = 8192;
/// Of these for what matters most.
const LINES_KEPT: usize = 1024;
/// Between two looks at the path.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Between two complaints.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(60);
/// For its own user.
const FILE_MODE: u32 = 0o600;

#[cfg(test)]
mod tests {
    use super::*;

    fn line(rpc: Rpc, urgent: bool) -> Line {
        Line {
            event: "call",
            rpc,
            user: Some("alice".into()),
            who: Who {
                address: Some("10.0.0.1:7".to_owned()),
                ..Who::default()
            },
            at: SystemTime::UNIX_EPOCH,
            took: Duration::from_micros(5),
            about: About::default(),
            revision: Some(3),
            code: Some(Code::Ok),
            urgent,
        }
    }

    #[test]
    fn a_line_tells_who_did_what() {
        let mut text = Vec::new();
        line(Rpc::Put, false).write_to(&mut text);
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "{\"time\":\"1970-01-01T00:00:00.000000Z\",\"event\":\"call\",\"method\":\"/etcdserverpb.KV/Put\",\
             \"user\":\"alice\",\"address\":\"10.0.0.1:7\",\"code\":\"OK\",\"revision\":3,\"duration_us\":5}\n"
        );
    }

    #[test]
    fn what_has_no_room_is_counted_and_what_matters_has_more() {
        let log = Log {
            queue: Arc::default(),
            writer: Mutex::new(None),
        };
        for _ in 0..LINES_MAX {
            log.write(line(Rpc::Put, false));
        }
        assert_eq!(log.counts(), (0, LINES_KEPT as u64));
        for _ in 0..=LINES_KEPT {
            log.write(line(Rpc::UserAdd, true));
        }
        assert_eq!(log.counts(), (0, LINES_KEPT as u64 + 1));
        // Written once somebody writes, the loss included.
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.log");
        let mut sink = Sink::open(&AuditOutput::File(path.clone())).unwrap();
        log.queue.waiting.lock().ended = true;
        log.queue.write_all_to(&mut sink);
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), LINES_MAX + 1);
        let lost = format!("\"event\":\"dropped\",\"lines\":{}}}\n", LINES_KEPT + 1);
        assert!(text.ends_with(&lost), "{:?}", text.lines().last());
    }

    #[test]
    fn a_file_that_was_moved_away_is_begun_anew() {
        let dir = tempfile::tempdir().unwrap();
        let (path, moved) = (dir.path().join("audit.log"), dir.path().join("audit.log.1"));
        let file = append_to(&path).unwrap();
        assert!(!is_elsewhere(&path, &file));
        std::fs::rename(&path, &moved).unwrap();
        assert!(is_elsewhere(&path, &file));
        let fresh = append_to(&path).unwrap();
        assert!(is_elsewhere(&path, &file) && !is_elsewhere(&path, &fresh));
    }
}

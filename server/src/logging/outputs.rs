//! Where lines go: the standard streams, the journal, files.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use parking_lot::Mutex;
use tracing::Level;

use super::rotating::RotatingFile;
use crate::config::{LogOutput, LogSettings};

/// All of them; a line goes to each.
pub(super) struct Outputs(Vec<Output>);

enum Output {
    Stderr,
    Stdout,
    Journal(UnixDatagram),
    File(Mutex<File>),
    // A lock, because a line may begin a new file.
    Rotating(Mutex<RotatingFile>),
}

impl Outputs {
    /// Opens them; the error is etcd's.
    pub(super) fn open(settings: &LogSettings) -> Result<Outputs, String> {
        let open = |output: &LogOutput| {
            Ok(match output {
                LogOutput::Stderr => Output::Stderr,
                LogOutput::Stdout => Output::Stdout,
                LogOutput::Journal => Output::Journal(journal(Path::new(JOURNAL)).map_err(|error| {
                    let reason = go_text(&error);
                    format!("can't find journal (dial unixgram {JOURNAL}: connect: {reason})")
                })?),
                LogOutput::File(path) => {
                    let opened = match settings.rotation {
                        Some(rotation) => {
                            RotatingFile::open(path, rotation).map(|file| Output::Rotating(Mutex::new(file)))
                        }
                        None => append_to(path).map(|file| Output::File(Mutex::new(file))),
                    };
                    let path = path.display();
                    opened
                        .map_err(|error| format!("open sink \"{path}\": open {path}: {}", go_text(&error)))?
                }
            })
        };
        let outputs: Result<Vec<Output>, String> = settings.outputs.iter().map(open).collect();
        outputs.map(Outputs)
    }

    /// Writes a line to each. One that fails does not keep it from the others; if none takes it, there is nobody left
    /// to tell.
    pub(super) fn write(&self, line: &str, level: Level, caller: &str) {
        for output in &self.0 {
            let _ = match output {
                Output::Stderr => io::stderr().lock().write_all(line.as_bytes()),
                Output::Stdout => io::stdout().lock().write_all(line.as_bytes()),
                Output::Journal(socket) => send(socket, line, level, caller)
                    // Too long for a datagram, or no journal any more.
                    .or_else(|_| io::stderr().lock().write_all(line.as_bytes())),
                Output::File(file) => file.lock().write_all(line.as_bytes()),
                Output::Rotating(file) => file.lock().write_line(line.as_bytes()),
            };
        }
    }
}

pub(super) fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

fn journal(path: &Path) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    Ok(socket)
}

/// One entry in the journal's own format: a field per line. A line of the log has no line break in it, so the form
/// for texts of several lines is never needed.
fn send(socket: &UnixDatagram, line: &str, level: Level, caller: &str) -> io::Result<()> {
    let priority = match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    };
    let package = caller.split('/').next().unwrap_or_default();
    let name = std::env::args().next().unwrap_or_default();
    let identifier = name.rsplit('/').next().unwrap_or_default();
    let entry = format!(
        "PRIORITY={priority}\nSYSLOG_IDENTIFIER={identifier}\nPACKAGE={package}\nMESSAGE={}\n",
        line.trim_end()
    );
    socket.send(entry.as_bytes()).map(|_| ())
}

/// An error of the system in Go's words.
fn go_text(error: &io::Error) -> String {
    let text = error.to_string().to_lowercase();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

/// Where the journal takes entries.
const JOURNAL: &str = "/run/systemd/journal/socket";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_gets_its_fields() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let journal_socket = UnixDatagram::bind(&path).unwrap();
        let socket = journal(&path).unwrap();
        send(&socket, "{\"msg\":\"x\"}\n", Level::WARN, "grpc/kv.rs:1").unwrap();
        let mut buffer = [0; 1024];
        let length = journal_socket.recv(&mut buffer).unwrap();
        let text = std::str::from_utf8(&buffer[..length]).unwrap();
        assert!(text.starts_with("PRIORITY=4\nSYSLOG_IDENTIFIER="), "{text}");
        assert!(
            text.ends_with("\nPACKAGE=grpc\nMESSAGE={\"msg\":\"x\"}\n"),
            "{text}"
        );
    }
}

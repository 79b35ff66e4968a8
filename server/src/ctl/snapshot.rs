//! `snapshot save`: a backup of one member, taken while it serves.
//!
//! The file grows as `FILE.part` and gets its name only when it is whole: of the right length, its digest that of its
//! bytes, and on the disk.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::ArgMatches;
use clap::parser::ValueSource;
use proto::etcdserverpb::SnapshotRequest;
use proto::etcdserverpb::maintenance_client::MaintenanceClient;
use sha2::{Digest as _, Sha256};
use tokio::time::timeout;

use super::print::print_line;
use super::session::{Session, text_of};
use super::{Failure, line, text};

/// Runs `snapshot` and its only command.
pub(super) async fn run(session: &Session, matches: &ArgMatches) -> Result<(), Failure> {
    let Some(("save", matches)) = matches.subcommand() else {
        unreachable!("clap knows the subcommands");
    };
    let words = line::words_of(matches);
    let [path] = words.as_slice() else {
        return Err(Failure::Arguments(
            "snapshot save expects one argument <filename>".to_owned(),
        ));
    };
    let saving = save(session, Path::new(path));
    // Without a word about it, a backup may take as long as it takes.
    let limited = matches.value_source("command-timeout") == Some(ValueSource::CommandLine);
    let saved = match matches.get_one("command-timeout") {
        Some(limit) if limited => match timeout(*limit, saving).await {
            Ok(saved) => saved,
            Err(_) => Err("context deadline exceeded".to_owned()),
        },
        _ => saving.await,
    };
    let version = saved.map_err(Failure::Interrupted)?;
    print_line(&format!("Snapshot saved at {path}"));
    if !version.is_empty() {
        print_line(&format!("Server version {version}"));
    }
    Ok(())
}

/// Saves to `path`; the server's storage version, empty where it does not say.
async fn save(session: &Session, path: &Path) -> Result<String, String> {
    let [endpoint] = session.endpoints() else {
        return Err(format!(
            "snapshot must be requested to one selected node, not multiple [{}]",
            session.endpoints().join(" ")
        ));
    };
    let mut part = Part::create(path)?;
    let told = |failure: Failure| failure.text().unwrap_or_default().to_owned();
    let channel = session.connect_to(endpoint).await.map_err(told)?;
    let began = Instant::now();
    let mut client = MaintenanceClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let answered = client.snapshot(SnapshotRequest {}).await;
    let mut stream = answered.map_err(|status| text_of(&status))?.into_inner();
    eprintln!("fetching snapshot from {endpoint}");
    let mut version = String::new();
    let unwritable = |error: io::Error| format!("could not write snapshot: {error}");
    while let Some(message) = stream.message().await.map_err(|status| text_of(&status))? {
        version = message.version;
        part.push(&message.blob).map_err(unwritable)?;
    }
    let bytes = part.finish(path)?;
    eprintln!(
        "fetched snapshot of {} in {}",
        text::size(bytes),
        text::duration(began.elapsed())
    );
    Ok(version)
}

/// The unfinished file; removed with the value, unless it was finished.
struct Part {
    path: PathBuf,
    out: Option<BufWriter<File>>,
    /// The last bytes are not part of what they are the digest of, so they lag behind.
    digest: Sha256,
    last: Vec<u8>,
    bytes: u64,
}

impl Part {
    fn create(path: &Path) -> Result<Part, String> {
        let mut name = path.as_os_str().to_owned();
        name.push(".part");
        let path = PathBuf::from(name);
        let opened = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path);
        let file = opened.map_err(|error| format!("could not open {} ({error})", path.display()))?;
        Ok(Part {
            path,
            out: Some(BufWriter::with_capacity(BUFFER_BYTES, file)),
            digest: Sha256::new(),
            last: Vec::with_capacity(2 * DIGEST_BYTES),
            bytes: 0,
        })
    }

    fn push(&mut self, blob: &[u8]) -> io::Result<()> {
        let out = self.out.as_mut().expect("it is taken at the end only");
        out.write_all(blob)?;
        self.bytes += blob.len() as u64;
        self.last.extend_from_slice(blob);
        let digested = self.last.len().saturating_sub(DIGEST_BYTES);
        self.digest.update(&self.last[..digested]);
        self.last.drain(..digested);
        Ok(())
    }

    /// Gives the file its name, once it is whole and durable.
    fn finish(&mut self, path: &Path) -> Result<u64, String> {
        if self.bytes % SECTOR_BYTES != DIGEST_BYTES as u64 {
            return Err(format!("sha256 checksum not found [bytes: {}]", self.bytes));
        }
        let digest = self.digest.finalize_reset();
        if digest.as_slice() != self.last {
            return Err("the snapshot is not what its sha256 checksum says: fetch it again".to_owned());
        }
        let out = self.out.take().expect("it is finished once");
        let file = out.into_inner().map_err(io::IntoInnerError::into_error);
        file.and_then(|file| file.sync_all())
            .map_err(|error| format!("could not fsync snapshot: {error}"))?;
        fs::rename(&self.path, path).map_err(|error| {
            format!(
                "could not rename {} to {} ({error})",
                self.path.display(),
                path.display()
            )
        })?;
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
        File::open(dir.unwrap_or(Path::new(".")))
            .and_then(|dir| dir.sync_all())
            .map_err(|error| format!("could not fsync the folder of {}: {error}", path.display()))?;
        Ok(self.bytes)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // Renamed by now, or of no use.
        let _ = fs::remove_file(&self.path);
    }
}

/// Beyond the 32 KiB that etcd sends at once.
const MESSAGE_BYTES_MAX: usize = 64 << 20;
const BUFFER_BYTES: usize = 256 << 10;
const DIGEST_BYTES: usize = 32;
/// A backup is of whole sectors, and the digest.
const SECTOR_BYTES: u64 = 512;

#[cfg(test)]
mod tests {
    use super::*;

    fn saved(parts: &[&[u8]]) -> (tempfile::TempDir, Result<u64, String>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let mut part = Part::create(&path).unwrap();
        for blob in parts {
            part.push(blob).unwrap();
        }
        let finished = part.finish(&path);
        drop(part);
        assert!(!dir.path().join("file.part").exists());
        assert_eq!(path.exists(), finished.is_ok());
        (dir, finished)
    }

    #[test]
    fn only_whole_files_get_the_name() {
        let data = vec![7; 4096];
        let digest = Sha256::digest(&data);
        for cut in [1, 31, 32, 33, 4095] {
            let (dir, finished) = saved(&[&data[..cut], &data[cut..], &digest[..5], &digest[5..]]);
            assert_eq!(finished, Ok(4128));
            let expected = [&data[..], &digest].concat();
            assert_eq!(fs::read(dir.path().join("file")).unwrap(), expected);
        }
        let text = |parts: &[&[u8]]| saved(parts).1.unwrap_err();
        assert_eq!(text(&[&data]), "sha256 checksum not found [bytes: 4096]");
        assert_eq!(text(&[]), "sha256 checksum not found [bytes: 0]");
        let mut wrong = digest;
        wrong[3] ^= 1;
        assert!(text(&[&data, &wrong]).contains("not what its sha256 checksum says"));
    }
}

//! `taffrail snapshot status`: what a backup holds, in the words of `etcdutl snapshot status`.

use std::collections::HashSet;
use std::path::Path;

use clap::ArgMatches;
use prost::Message as _;
use proto::mvccpb::KeyValue;
use serde::Serialize;

use crate::backup::bolt::read::{Met, Reader};
use crate::backup::file::{FileError, file_bytes, revision};
use crate::ctl::{Failure, line, text};

/// As etcdutl shows it.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(super) struct Status {
    /// CRC-32C over the names of the buckets and all records.
    hash: u32,
    revision: i64,
    #[serde(rename = "totalKey")]
    total_key: usize,
    #[serde(rename = "totalSize")]
    total_size: u64,
    version: String,
}

/// Prints the status of the file that the arguments name.
pub(super) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let words = line::words_of(matches);
    let [path] = words.as_slice() else {
        return Err(Failure::Arguments(
            "snapshot status requires exactly one argument".to_owned(),
        ));
    };
    let format = line::text_of(matches, "write-out");
    if !["simple", "json", "fields", "table"].contains(&format) {
        return Err(Failure::Feature("unsupported output format".to_owned()));
    }
    let status = status(Path::new(path)).map_err(|error| Failure::Refused(error.to_string()))?;
    print!("{}", shown(&status, format));
    Ok(())
}

fn shown(status: &Status, format: &str) -> String {
    let row = || {
        vec![
            format!("{:x}", status.hash),
            status.revision.to_string(),
            status.total_key.to_string(),
            text::size(status.total_size),
            status.version.clone(),
        ]
    };
    match format {
        "json" => {
            let json = serde_json::to_string(status).expect("numbers and strings can be written as JSON");
            format!("{json}\n")
        }
        "fields" => format!(
            "\"Hash\" : {}\n\"Revision\" : {}\n\"Keys\" : {}\n\"Size\" : {}\n\"Version\" : {}\n",
            status.hash, status.revision, status.total_key, status.total_size, status.version
        ),
        "table" => text::table(
            &["HASH", "REVISION", "TOTAL KEYS", "TOTAL SIZE", "VERSION"],
            &[row()],
        ),
        _ => format!("{}\n", row().join(", ")),
    }
}

fn status(path: &Path) -> Result<Status, FileError> {
    let bytes = file_bytes(path).map_err(|source| FileError::Open {
        path: path.to_owned(),
        source,
    })?;
    let reader = Reader::open(path, bytes)?;
    let mut status = Status {
        total_size: reader.bytes(),
        ..Status::default()
    };
    let mut bucket = Vec::new();
    let mut live = HashSet::new();
    reader.walk(&mut |met| {
        match met {
            Met::Bucket(name) => {
                bucket = name.to_vec();
                status.hash = crc32c::crc32c_append(status.hash, name);
            }
            Met::Record(key, value) => {
                status.hash = crc32c::crc32c_append(crc32c::crc32c_append(status.hash, key), value);
                match (bucket.as_slice(), key) {
                    (b"key", _) => count(&mut status, &mut live, key, value)?,
                    (b"meta", b"storageVersion") => {
                        status.version = String::from_utf8_lossy(value).into_owned();
                    }
                    _ => {}
                }
            }
        }
        Ok::<_, FileError>(())
    })?;
    status.total_key = live.len();
    Ok(status)
}

/// Takes a change of a key.
fn count(
    status: &mut Status,
    live: &mut HashSet<bytes::Bytes>,
    key: &[u8],
    value: &[u8],
) -> Result<(), FileError> {
    let wrong = |what| FileError::Record {
        bucket: "key".to_owned(),
        key: key.escape_ascii().to_string(),
        what,
    };
    let (revision, tombstone) = revision(key).ok_or_else(|| wrong("this is no revision"))?;
    let kv = KeyValue::decode(value).map_err(|_| wrong("its value is no KeyValue"))?;
    status.revision = revision.main;
    if tombstone {
        live.remove(&kv.key);
    } else {
        live.insert(kv.key);
    }
    Ok(())
}

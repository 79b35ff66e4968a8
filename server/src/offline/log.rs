//! `taffrail debug log`: the records of a member's log, for operators and for checkers that compare the logs of several
//! members.
//!
//! One line of JSON for each record:
//! ```text
//! {"type":"Metadata","cluster":"<hex>","member":"<hex>","term":T,"index":I}    first; the position before the first entry
//! {"type":"HardState","term":T,"vote":"<hex>","commit":I}
//! {"type":"EntryNormal","term":T,"index":I,"request":{...}}                    an InternalRaftRequest, or null
//! {"type":"EntryConfChange","term":T,"index":I,"request":{...}}                a raftpb.ConfChange
//! {"type":"Restart","term":T,"index":I}                                        a snapshot replaced the log up to here
//! ```
//! Requests are in protobuf's JSON with the names of the `.proto` files, as etcd's gateway writes them: 64-bit numbers
//! are strings, bytes are base64. Only a membership change's context, JSON itself, is shown as such.
//!
//! In the binary form metadata and restarts have no place: what follows them shows by its index.

use std::fmt;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use bytes::Bytes;
use clap::ArgMatches;
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, SerializeOptions};
use proto::raftpb::{Entry, EntryType, HardState};
use serde_json::Value;
use store::env::real::ReadOnlyDisk;
use store::wal::{self, Logged, WalError};

use super::{redact, text_of};

/// Why not everything was printed.
#[derive(Debug, thiserror::Error)]
pub(super) enum LogError {
    #[error("{0}")]
    Log(#[from] WalError),
    #[error("cannot write: {0}")]
    Output(#[from] io::Error),
    #[error("entry {index} of term {term} holds what is no {what}: {reason}")]
    Entry {
        index: u64,
        term: u64,
        what: &'static str,
        reason: String,
    },
}

/// Prints the log.
pub(super) fn run(matches: &ArgMatches) -> Result<(), LogError> {
    let data_dir = Path::new(text_of(matches, "DATA-DIR"));
    let dir = wal_dir(data_dir, text_of(matches, "wal-dir"));
    let config = wal::Config {
        // It tells where the log must not end yet; a copy of the log alone does without.
        mark: Some(data_dir.join("member").join("log.end")),
        ..wal::Config::default()
    };
    let out = BufWriter::with_capacity(BUFFER_BYTES, io::stdout().lock());
    match print(&dir, &config, out, matches.get_flag("binary")) {
        // Whoever reads us has seen enough, as `head` does.
        Err(LogError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => printed,
    }
}

/// Where the log of a data folder is.
pub(super) fn wal_dir(data_dir: &Path, wal_dir: &str) -> PathBuf {
    match wal_dir {
        "" => data_dir.join("member").join("wal"),
        given => PathBuf::from(given),
    }
}

fn print(dir: &Path, config: &wal::Config, mut out: impl Write, binary: bool) -> Result<(), LogError> {
    let mut written = Ok(());
    let walked = wal::walk(&ReadOnlyDisk, dir, config, &mut |record| {
        written = if binary {
            write_binary(&mut out, record)
        } else {
            write_json(&mut out, record)
        };
        written.is_ok()
    });
    // What came before the damage belongs to the reader before the word about it.
    written.and_then(|()| Ok(out.flush()?))?;
    if let Some(torn) = walked? {
        eprintln!(
            "{}: the batch at byte {} was not finished, and nobody was told of it: the log ends before it",
            torn.path.display(),
            torn.offset
        );
    }
    Ok(())
}

fn write_json(out: &mut impl Write, record: Logged<'_>) -> Result<(), LogError> {
    match record {
        Logged::Begin { metadata, before } => writeln!(
            out,
            r#"{{"type":"Metadata","cluster":"{}","member":"{}","term":{},"index":{}}}"#,
            metadata.cluster, metadata.member, before.term, before.index
        )?,
        Logged::HardState(state) => writeln!(
            out,
            r#"{{"type":"HardState","term":{},"vote":"{}","commit":{}}}"#,
            state.term, state.vote, state.commit
        )?,
        Logged::Restart(at) => writeln!(
            out,
            r#"{{"type":"Restart","term":{},"index":{}}}"#,
            at.term, at.index
        )?,
        Logged::Entry {
            kind,
            term,
            index,
            data,
        } => {
            let request = request(kind, data).map_err(|error| error.at(term.0, index.0))?;
            let name = entry_type(kind).as_str_name();
            writeln!(
                out,
                r#"{{"type":"{name}","term":{term},"index":{index},"request":{request}}}"#
            )?;
        }
    }
    Ok(())
}

fn write_binary(out: &mut impl Write, record: Logged<'_>) -> Result<(), LogError> {
    let (mark, message) = match record {
        Logged::Begin { .. } | Logged::Restart(_) => return Ok(()),
        Logged::HardState(state) => {
            let state = HardState {
                term: state.term.0,
                vote: state.vote.0,
                commit: state.commit.0,
            };
            (b'S', state.encode_to_vec())
        }
        Logged::Entry {
            kind,
            term,
            index,
            data,
        } => {
            let data = match entry_type(kind) {
                EntryType::EntryNormal => redact::request(Bytes::copy_from_slice(data))
                    .map_err(|error| Unreadable::request(&error).at(term.0, index.0))?,
                _ => Bytes::copy_from_slice(data),
            };
            let entry = Entry {
                r#type: entry_type(kind).into(),
                term: term.0,
                index: index.0,
                data,
            };
            (b'E', entry.encode_to_vec())
        }
    };
    let length = u32::try_from(message.len()).expect("an entry is bounded by the format of the log");
    out.write_all(&[mark])?;
    out.write_all(&length.to_be_bytes())?;
    Ok(out.write_all(&message)?)
}

/// An entry whose content is not what its type says.
struct Unreadable {
    what: &'static str,
    reason: String,
}

impl Unreadable {
    fn request(reason: &dyn fmt::Display) -> Self {
        Unreadable {
            what: "InternalRaftRequest",
            reason: reason.to_string(),
        }
    }

    fn change(reason: &dyn fmt::Display) -> Self {
        Unreadable {
            what: "ConfChange",
            reason: reason.to_string(),
        }
    }

    fn at(self, term: u64, index: u64) -> LogError {
        LogError::Entry {
            index,
            term,
            what: self.what,
            reason: self.reason,
        }
    }
}

/// An entry's content as JSON, without its secrets.
fn request(kind: u8, data: &[u8]) -> Result<Value, Unreadable> {
    let data = Bytes::copy_from_slice(data);
    if entry_type(kind) != EntryType::EntryNormal {
        let mut change = object(&SHAPES.change, data).map_err(|error| Unreadable::change(&*error))?;
        show_context(&mut change);
        return Ok(change);
    }
    if data.is_empty() {
        // By it a leader begins its term.
        return Ok(Value::Null);
    }
    let data = redact::request(data).map_err(|error| Unreadable::request(&error))?;
    object(&SHAPES.request, data).map_err(|error| Unreadable::request(&*error))
}

fn object(shape: &MessageDescriptor, data: Bytes) -> Result<Value, Box<dyn std::error::Error>> {
    let message = DynamicMessage::decode(shape.clone(), data)?;
    Ok(message.serialize_with_options(serde_json::value::Serializer, &WRITING)?)
}

/// The context of a membership change, where it is JSON.
fn show_context(change: &mut Value) {
    use base64::Engine as _;
    let Some(context) = change.get_mut("Context") else {
        return;
    };
    let bytes = context
        .as_str()
        .and_then(|text| base64::engine::general_purpose::STANDARD.decode(text).ok());
    if let Some(shown) = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()) {
        *context = shown;
    }
}

fn entry_type(kind: u8) -> EntryType {
    EntryType::try_from(i32::from(kind)).unwrap_or(EntryType::EntryNormal)
}

/// The shapes of what entries hold.
struct Shapes {
    request: MessageDescriptor,
    change: MessageDescriptor,
}

static SHAPES: LazyLock<Shapes> = LazyLock::new(|| {
    let pool = DescriptorPool::decode(proto::FILE_DESCRIPTOR_SET);
    let pool = pool.expect("the descriptors are those that the protocol was compiled from");
    let shape = |name| {
        pool.get_message_by_name(name)
            .expect("the protocol has this message")
    };
    Shapes {
        request: shape("etcdserverpb.InternalRaftRequest"),
        change: shape("raftpb.ConfChange"),
    }
});

const WRITING: SerializeOptions = SerializeOptions::new()
    .stringify_64_bit_integers(true)
    .use_enum_numbers(false)
    .use_proto_field_name(true)
    .skip_default_fields(true);
const BUFFER_BYTES: usize = 64 << 10;

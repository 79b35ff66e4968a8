//! The language of sequences: what is asked, without anything that only a run knows.
//!
//! A step names keys, leases, revisions and watchers relative to the run (the third key, the first lease, one before
//! the current revision), so that a sequence means the same on every pair of servers and after every shrinking. Its
//! text form is one JSON object per line; fields with their default value are left out.

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

/// One call, or one small fixed group of calls.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) enum Step {
    /// A unary call with metadata.
    With(Metadata, Box<Step>),
    Range(Range),
    RangeStream(Range),
    Put(Put),
    Delete(Delete),
    Txn(Txn),
    /// A transaction with so many compares, operations on success and on failure, reads of absent keys all.
    ManyOps(u16, u16, u16),
    Compact {
        #[serde(default)]
        revision: Rev,
        #[serde(default)]
        physical: bool,
    },
    Grant {
        #[serde(default)]
        lease: Lease,
        #[serde(default)]
        ttl: i64,
    },
    Revoke(Lease),
    KeepAlive(Lease),
    TimeToLive {
        #[serde(default)]
        lease: Lease,
        #[serde(default)]
        keys: bool,
    },
    Leases,
    /// A lease of the shortest time is given a key, ends by itself, and a watcher sees it.
    Expiry(Key),
    Watch(Watch),
    CancelWatch {
        #[serde(default)]
        stream: u8,
        #[serde(default)]
        id: i64,
    },
    /// A watch request that asks for nothing.
    EmptyWatchRequest(u8),
    /// A progress request on a stream of its own that has no watcher.
    ProgressOfNothing,
    /// Waits until a watch stream has delivered everything, and compares what came.
    Settle(u8),
    HashKv(Rev),
    Hash,
    Alarm {
        #[serde(default)]
        action: i32,
        member: Member,
        #[serde(default)]
        alarm: i32,
    },
    Status,
    Defragment,
    MoveLeader(Member),
    Downgrade {
        #[serde(default)]
        action: i32,
        version: String,
    },
    MemberList(bool),
    MemberAdd(Vec<String>),
    MemberRemove(Member),
    MemberUpdate(Member, Vec<String>),
    MemberPromote(Member),
    Health(String),
    Lock(u8, Lease),
    Unlock(u8, Lease),
    Campaign(u8, Lease, Val),
    /// With the leader key that the last campaign under this name was answered with.
    Proclaim(u8, Leader, Val),
    Leader(u8),
    Resign(u8, Leader),
    /// The first answer of an observation.
    Observe(u8),
    /// A message of these bytes to a method.
    Raw {
        method: String,
        hex: String,
    },
    /// The numbers on the metrics page have grown alike since the sequence began.
    Metrics,
    /// An HTTP request: with a body a POST, else a GET.
    Http {
        path: String,
        #[serde(default)]
        body: Option<String>,
    },
}

impl Step {
    /// The name of the kind, as in the text form.
    pub(crate) fn name(&self) -> String {
        let shown = format!("{self:?}");
        let end = shown.find(|c: char| !c.is_ascii_alphanumeric());
        shown[..end.unwrap_or(shown.len())].to_owned()
    }
}

/// What goes along with a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Metadata {
    HasLeader,
    HasLeaderOtherwise,
    ApiVersion,
    /// Not UTF-8.
    ApiVersionBroken,
    Unknown,
}

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) enum Key {
    /// No bytes at all.
    #[default]
    Unset,
    /// One zero byte.
    Zero,
    /// One byte 0xff, behind all keys of sequences.
    Last,
    /// One of [`NAMES`] behind the sequence's prefix.
    Name(u8),
}

/// The keys of a sequence, behind its prefix.
pub(crate) const NAMES: [&[u8]; 7] = [b"a", b"ab", b"b", b"", b"c\xff", b"d\0", b"\xff\xff"];

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) enum End {
    #[default]
    Unset,
    Zero,
    Key(Key),
    /// Behind all keys of the sequence.
    Prefix,
    /// Behind all keys that begin with this name.
    PrefixOf(u8),
    /// The name and a zero byte, so that the range is that key alone.
    After(u8),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) enum Rev {
    #[default]
    Unset,
    At(i64),
    /// Relative to the newest revision seen.
    Now(i64),
    /// Relative to the revision at the sequence's beginning.
    Start(i64),
    /// Relative to the last compaction of this sequence, else to its beginning.
    Compacted(i64),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) enum Lease {
    #[default]
    Unset,
    /// One of the sequence's own ids; the last of them is negative.
    Slot(u8),
    Id(i64),
}

/// Leases per sequence.
pub(crate) const LEASES: u8 = 4;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) enum Val {
    #[default]
    Unset,
    Text(u8),
    /// So many bytes.
    Bytes(u32),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Member {
    Own,
    Id(u64),
}

/// Whose leader key a call of the election brings.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Leader {
    None,
    /// That of the last campaign in the sequence.
    Last,
    /// The same with another revision.
    Other,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Range {
    pub(crate) key: Key,
    pub(crate) end: End,
    pub(crate) limit: i64,
    pub(crate) revision: Rev,
    pub(crate) order: i32,
    pub(crate) target: i32,
    pub(crate) serializable: bool,
    pub(crate) keys_only: bool,
    pub(crate) count_only: bool,
    pub(crate) min_mod: Rev,
    pub(crate) max_mod: Rev,
    pub(crate) min_create: Rev,
    pub(crate) max_create: Rev,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Put {
    pub(crate) key: Key,
    pub(crate) value: Val,
    pub(crate) lease: Lease,
    pub(crate) prev_kv: bool,
    pub(crate) ignore_value: bool,
    pub(crate) ignore_lease: bool,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Delete {
    pub(crate) key: Key,
    pub(crate) end: End,
    pub(crate) prev_kv: bool,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Txn {
    pub(crate) compare: Vec<Compare>,
    pub(crate) success: Vec<Op>,
    pub(crate) failure: Vec<Op>,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Compare {
    pub(crate) result: i32,
    pub(crate) target: i32,
    pub(crate) key: Key,
    pub(crate) end: End,
    pub(crate) operand: Operand,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) enum Operand {
    #[default]
    Unset,
    Version(i64),
    Create(Rev),
    Mod(Rev),
    Value(Val),
    Lease(Lease),
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) enum Op {
    Nothing,
    Range(Range),
    Put(Put),
    Delete(Delete),
    Txn(Txn),
}

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Watch {
    pub(crate) stream: u8,
    pub(crate) key: Key,
    pub(crate) end: End,
    pub(crate) start: Rev,
    pub(crate) filters: Vec<i32>,
    pub(crate) prev_kv: bool,
    pub(crate) progress_notify: bool,
    pub(crate) fragment: bool,
    pub(crate) id: i64,
}

/// Watch streams per sequence.
pub(crate) const STREAMS: u8 = 2;

/// The text form: a line per step.
pub(crate) fn to_text(steps: &[Step]) -> String {
    let line = |step: &Step| {
        let json = serde_json::to_value(step).expect("steps are plain data");
        format!("{}\n", without_defaults(json))
    };
    steps.iter().map(line).collect()
}

/// Reads the text form; empty lines and lines that begin with `#` are left out.
pub(crate) fn from_text(text: &str) -> Result<Vec<Step>, serde_json::Error> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(serde_json::from_str)
        .collect()
}

/// Drops the fields that say nothing. Names of variants begin with a capital letter, and their content stays.
fn without_defaults(json: Json) -> Json {
    match json {
        Json::Object(fields) => fields
            .into_iter()
            .map(|(name, value)| (name, without_defaults(value)))
            .filter(|(name, value)| name.starts_with(char::is_uppercase) || !says_nothing(value))
            .collect(),
        Json::Array(items) => items.into_iter().map(without_defaults).collect(),
        other => other,
    }
}

fn says_nothing(value: &Json) -> bool {
    match value {
        Json::Null | Json::Bool(false) => true,
        Json::Number(number) => number.as_i64() == Some(0),
        Json::String(text) => text == "Unset",
        Json::Array(items) => items.is_empty(),
        _ => false,
    }
}

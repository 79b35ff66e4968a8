//! What a backup holds: etcd's buckets, keys and values (reference 6.3), in the order of a bbolt file.

use std::io;

use prost::Message as _;
use proto::mvccpb::KeyValue;
use serde::Serialize;
use store::auth::AuthState;
use store::membership::Member;
use store::shell::{Content, Export};
use store::types::{Change, Revision};

use super::Failure;
use crate::config::STORAGE_VERSION;

/// Where records go: buckets in order of their names, keys in order within each.
pub(super) trait Buckets {
    /// Begins a bucket.
    fn bucket(&mut self, name: &'static str) -> io::Result<()>;
    /// Puts a record into it.
    fn put(&mut self, key: &[u8], value: &[u8]) -> io::Result<()>;
}

/// Writes all of an export. `go_on` is asked now and then.
pub(super) fn write(
    mut export: Export,
    buckets: &mut dyn Buckets,
    go_on: &dyn Fn() -> bool,
) -> Result<(), Failure> {
    let content = export.content().clone();
    let alarms = content
        .alarms
        .iter()
        .map(|alarm| (alarm.encode_to_vec(), Vec::new()));
    table(buckets, "alarm", alarms.collect())?;
    table(buckets, "auth", auth(&content.auth))?;
    let roles = content.auth.role_messages();
    let roles = roles.map(|role| (role.name.to_vec(), role.encode_to_vec()));
    table(buckets, "authRoles", roles.collect())?;
    let users = content.auth.user_messages();
    let users = users.map(|user| (user.name.to_vec(), user.encode_to_vec()));
    table(buckets, "authUsers", users.collect())?;
    let version = content.cluster_version.iter();
    table(
        buckets,
        "cluster",
        version.map(|version| record("clusterVersion", version)).collect(),
    )?;
    history(&mut export, buckets, go_on)?;
    // Nothing is held back while the rest is written, and while it is sent.
    drop(export);
    let leases = content.leases.iter();
    table(
        buckets,
        "lease",
        leases.map(|(id, lease)| (id.to_vec(), lease.to_vec())).collect(),
    )?;
    table(buckets, "members", content.members.iter().map(member).collect())?;
    let removed = content.removed.iter();
    table(
        buckets,
        "members_removed",
        removed.map(|id| record(&id.to_string(), "removed")).collect(),
    )?;
    table(buckets, "meta", meta(&content))?;
    Ok(())
}

/// A small bucket, its records in any order.
fn table(
    buckets: &mut dyn Buckets,
    name: &'static str,
    mut records: Vec<(Vec<u8>, Vec<u8>)>,
) -> io::Result<()> {
    records.sort_unstable();
    buckets.bucket(name)?;
    records
        .iter()
        .try_for_each(|(key, value)| buckets.put(key, value))
}

fn record(key: &str, value: impl AsRef<[u8]>) -> (Vec<u8>, Vec<u8>) {
    (key.as_bytes().to_vec(), value.as_ref().to_vec())
}

/// Whether auth is on stands there only once it was.
fn auth(auth: &AuthState) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut records = vec![record("authRevision", auth.revision().to_be_bytes())];
    if auth.enabled() {
        records.push(record("authEnabled", [1]));
    }
    records
}

fn history(export: &mut Export, buckets: &mut dyn Buckets, go_on: &dyn Fn() -> bool) -> Result<(), Failure> {
    buckets.bucket("key")?;
    let mut value = Vec::new();
    loop {
        if !go_on() {
            return Err(Failure::Unwanted);
        }
        let mut written = Ok(());
        let more = export.next_changes(&mut |change| {
            if written.is_ok() {
                written = put_change(buckets, change, &mut value);
            }
        })?;
        written?;
        if !more {
            return Ok(());
        }
    }
}

fn put_change(buckets: &mut dyn Buckets, change: &Change, value: &mut Vec<u8>) -> io::Result<()> {
    let (key, len) = change.revision.to_key(change.tombstone);
    value.clear();
    let encoded = if change.tombstone {
        let only_key = KeyValue {
            key: change.kv.key.clone(),
            ..KeyValue::default()
        };
        only_key.encode(value)
    } else {
        change.kv.encode(value)
    };
    encoded.expect("a vector has room");
    buckets.put(&key[..len], value)
}

/// A member as etcd stores it.
#[derive(Serialize)]
struct StoredMember<'a> {
    id: u64,
    #[serde(rename = "peerURLs")]
    peer_urls: &'a [String],
    #[serde(rename = "isLearner", skip_serializing_if = "std::ops::Not::not")]
    is_learner: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(rename = "clientURLs", skip_serializing_if = "<[_]>::is_empty")]
    client_urls: &'a [String],
}

fn member(member: &Member) -> (Vec<u8>, Vec<u8>) {
    let stored = StoredMember {
        id: member.id.0,
        peer_urls: &member.peer_urls,
        is_learner: member.is_learner,
        name: &member.name,
        client_urls: &member.client_urls,
    };
    record(&member.id.to_string(), json(&stored))
}

/// Raft's configuration as etcd stores it. Never a joint one: members change one at a time.
#[derive(Serialize)]
struct ConfState {
    voters: Vec<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    learners: Vec<u64>,
    auto_leave: bool,
}

fn meta(content: &Content) -> Vec<(Vec<u8>, Vec<u8>)> {
    let ids = |learner: bool| {
        let members = content
            .members
            .iter()
            .filter(|member| member.is_learner == learner);
        members.map(|member| member.id.0).collect()
    };
    let conf_state = ConfState {
        voters: ids(false),
        learners: ids(true),
        auto_leave: false,
    };
    let mut meta = vec![
        record("confState", json(&conf_state)),
        record("consistent_index", content.applied.0.to_be_bytes()),
        record("storageVersion", STORAGE_VERSION),
        record("term", content.term.0.to_be_bytes()),
    ];
    if content.compacted >= 0 {
        let (key, len) = Revision::new(content.compacted, 0).to_key(false);
        // An export shows what a finished compaction leaves.
        meta.push(record("finishedCompactRev", &key[..len]));
        meta.push(record("scheduledCompactRev", &key[..len]));
    }
    meta
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("numbers and strings can be written as JSON")
}

#[cfg(test)]
mod tests {
    use store::types::MemberId;

    use super::*;

    #[test]
    fn a_member_is_stored_as_by_etcd() {
        let text = |value: &Member| {
            let (key, value) = member(value);
            (String::from_utf8(key).unwrap(), String::from_utf8(value).unwrap())
        };
        let started = Member {
            id: MemberId(0x418f),
            name: "default".to_owned(),
            peer_urls: vec!["http://a:1".to_owned()],
            client_urls: vec!["http://a:2".to_owned()],
            is_learner: false,
        };
        let expected =
            r#"{"id":16783,"peerURLs":["http://a:1"],"name":"default","clientURLs":["http://a:2"]}"#;
        assert_eq!(text(&started), ("418f".to_owned(), expected.to_owned()));
        let added = Member {
            is_learner: true,
            name: String::new(),
            client_urls: Vec::new(),
            ..started
        };
        let expected = r#"{"id":16783,"peerURLs":["http://a:1"],"isLearner":true}"#;
        assert_eq!(text(&added).1, expected);
    }
}

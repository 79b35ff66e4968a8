//! Who the cluster is: members, those removed for good, the cluster's id and version. Replicated state.
//!
//! Ids are derived, not drawn (reference 1.4), so that every member of a new cluster comes to the same ones: a
//! member's from its peer URLs and the cluster's token, the cluster's from those of its first members. A removed id
//! never returns.

mod change;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use prost::Message as _;
use sha1::{Digest as _, Sha1};

pub use change::{ChangeError, MemberChange, What, checked_peer_urls};

use crate::types::{ClusterId, MemberId};

/// The members and what they have agreed on about themselves.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Membership {
    cluster_id: ClusterId,
    cluster_version: Option<String>,
    members: BTreeMap<MemberId, Member>,
    removed: BTreeSet<MemberId>,
    /// A change was made since the cluster was founded.
    changed: bool,
}

/// One member.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Member {
    /// Its id.
    pub id: MemberId,
    /// Its name; empty until it has started and published itself.
    pub name: String,
    /// Where its peers reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it; empty until it has published itself.
    pub client_urls: Vec<String>,
    /// Whether it only learns, without a vote.
    pub is_learner: bool,
}

/// Why a table is not one of memberships.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum DecodeError {
    /// A key of no known kind or length.
    #[error("unknown key {key:?} among the members")]
    Key {
        /// The key.
        key: Bytes,
    },
    /// A value that does not decode.
    #[error("a damaged member")]
    Value(#[from] prost::DecodeError),
    /// A cluster id or version of the wrong form.
    #[error("a damaged value of key {key:?} among the members")]
    Form {
        /// The key.
        key: Bytes,
    },
}

impl Member {
    /// A member as a new cluster's configuration names it.
    #[must_use]
    pub fn bootstrap(name: String, peer_urls: Vec<String>, cluster_token: &str) -> Self {
        let id = member_id(&peer_urls, cluster_token);
        Member {
            id,
            name,
            peer_urls,
            client_urls: Vec::new(),
            is_learner: false,
        }
    }

    /// As the wire shows it.
    #[must_use]
    pub fn to_proto(&self) -> proto::etcdserverpb::Member {
        proto::etcdserverpb::Member {
            id: self.id.0,
            name: self.name.clone(),
            peer_urls: self.peer_urls.clone(),
            client_urls: self.client_urls.clone(),
            is_learner: self.is_learner,
        }
    }
}

impl From<proto::etcdserverpb::Member> for Member {
    fn from(member: proto::etcdserverpb::Member) -> Self {
        Member {
            id: MemberId(member.id),
            name: member.name,
            peer_urls: member.peer_urls,
            client_urls: member.client_urls,
            is_learner: member.is_learner,
        }
    }
}

impl Membership {
    /// A new cluster of these members.
    #[must_use]
    pub fn bootstrap(members: Vec<Member>) -> Self {
        let members: BTreeMap<_, _> = members.into_iter().map(|member| (member.id, member)).collect();
        let cluster_id = cluster_id(members.keys().copied());
        Membership {
            cluster_id,
            cluster_version: None,
            members,
            removed: BTreeSet::new(),
            changed: false,
        }
    }

    /// What a cluster that runs says of its members.
    #[must_use]
    pub fn of_running(cluster_id: ClusterId, members: Vec<Member>) -> Self {
        Membership {
            cluster_id,
            ..Membership::bootstrap(members)
        }
    }

    /// Whether these are the members that founded the cluster: no change has been made yet. What a cluster that runs
    /// says of itself does not tell whether only addresses were changed.
    #[must_use]
    pub fn is_founding(&self) -> bool {
        !self.changed && cluster_id(self.members.keys().copied()) == self.cluster_id
    }

    /// Makes it another cluster of the same members: one that begins with the state that `origin` stands for.
    pub fn refound(&mut self, origin: &[u8]) {
        let mut hash = Sha1::new();
        hash.update(self.cluster_id.0.to_be_bytes());
        hash.update(origin);
        self.cluster_id = ClusterId(first_eight(&hash.finalize()));
    }

    /// The cluster's id, fixed at its start.
    #[must_use]
    pub fn cluster_id(&self) -> ClusterId {
        self.cluster_id
    }

    /// The version that all members support, once it is decided.
    #[must_use]
    pub fn cluster_version(&self) -> Option<&str> {
        self.cluster_version.as_deref()
    }

    /// Sets the cluster's version.
    pub fn set_cluster_version(&mut self, version: String) {
        self.cluster_version = Some(version);
    }

    /// The members by id.
    pub fn iter(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// One member.
    #[must_use]
    pub fn get(&self, id: MemberId) -> Option<&Member> {
        self.members.get(&id)
    }

    /// How many members there are, learners included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there is no member: no cluster yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Whether `id` was a member and may never be one again.
    #[must_use]
    pub fn is_removed(&self, id: MemberId) -> bool {
        self.removed.contains(&id)
    }

    /// The ids of members that were removed.
    pub fn removed(&self) -> impl Iterator<Item = MemberId> {
        self.removed.iter().copied()
    }

    /// Adds a member, or takes its new peer URLs and role; false where its id was removed before.
    pub fn add(&mut self, member: Member) -> bool {
        if self.is_removed(member.id) {
            return false;
        }
        self.members.insert(member.id, member);
        true
    }

    /// Removes a member for good; false where there is none.
    pub fn remove(&mut self, id: MemberId) -> bool {
        let known = self.members.remove(&id).is_some();
        if known {
            self.removed.insert(id);
        }
        known
    }

    /// Gives a member other peer URLs; false where there is none.
    pub fn update(&mut self, id: MemberId, peer_urls: Vec<String>) -> bool {
        self.alter(id, |member| member.peer_urls = peer_urls)
    }

    /// Makes a learner a voter; false where there is no such member.
    pub fn promote(&mut self, id: MemberId) -> bool {
        self.alter(id, |member| member.is_learner = false)
    }

    /// What a started member publishes of itself; false where there is no such member.
    pub fn publish(&mut self, id: MemberId, name: String, client_urls: Vec<String>) -> bool {
        self.alter(id, |member| {
            member.name = name;
            member.client_urls = client_urls;
        })
    }

    fn alter(&mut self, id: MemberId, change: impl FnOnce(&mut Member)) -> bool {
        self.members.get_mut(&id).map(change).is_some()
    }

    /// As a table: `c` to the cluster's id (8 bytes big-endian), `v` to its version, `m` and a member's id (8 bytes
    /// big-endian) to the wire's member, `r` and a removed id to nothing, `x` to nothing once a change was made.
    #[must_use]
    pub fn encode(&self) -> Vec<(Bytes, Bytes)> {
        let id_key = |kind: u8, id: MemberId| Bytes::from([&[kind], &id.0.to_be_bytes()[..]].concat());
        let mut table = vec![(
            Bytes::from_static(CLUSTER_KEY),
            Bytes::copy_from_slice(&self.cluster_id.0.to_be_bytes()),
        )];
        if let Some(version) = &self.cluster_version {
            table.push((Bytes::from_static(VERSION_KEY), version.clone().into()));
        }
        if self.changed {
            table.push((Bytes::from_static(CHANGED_KEY), Bytes::new()));
        }
        table.extend(
            self.iter()
                .map(|m| (id_key(MEMBER_KIND, m.id), m.to_proto().encode_to_vec().into())),
        );
        table.extend(
            self.removed
                .iter()
                .map(|id| (id_key(REMOVED_KIND, *id), Bytes::new())),
        );
        table
    }

    /// The membership of a table that `encode` made.
    pub fn decode(table: &[(Bytes, Bytes)]) -> Result<Self, DecodeError> {
        let mut membership = Membership::default();
        for (key, value) in table {
            let form = || DecodeError::Form { key: key.clone() };
            match (key.as_ref(), id_of(key)) {
                (CLUSTER_KEY, _) => {
                    let id = <[u8; 8]>::try_from(value.as_ref()).map_err(|_| form())?;
                    membership.cluster_id = ClusterId(u64::from_be_bytes(id));
                }
                (VERSION_KEY, _) => {
                    let version = std::str::from_utf8(value).map_err(|_| form())?;
                    membership.cluster_version = Some(version.to_owned());
                }
                (CHANGED_KEY, _) => membership.changed = true,
                (_, Some((MEMBER_KIND, id))) => {
                    let member = proto::etcdserverpb::Member::decode(value.clone())?;
                    membership.members.insert(id, member.into());
                }
                (_, Some((REMOVED_KIND, id))) => {
                    membership.removed.insert(id);
                }
                _ => return Err(DecodeError::Key { key: key.clone() }),
            }
        }
        Ok(membership)
    }
}

/// A member's id: SHA-1 over its peer URLs, sorted, and the cluster's token (or, for a member added to a running
/// cluster, the time of that in decimal Unix seconds).
#[must_use]
pub fn member_id(peer_urls: &[String], salt: &str) -> MemberId {
    let mut urls: Vec<&str> = peer_urls.iter().map(String::as_str).collect();
    urls.sort_unstable();
    let mut hash = Sha1::new();
    urls.iter().for_each(|url| hash.update(url));
    hash.update(salt);
    MemberId(first_eight(&hash.finalize()))
}

/// A cluster's id: SHA-1 over its first members' ids in ascending order.
fn cluster_id(ascending: impl Iterator<Item = MemberId>) -> ClusterId {
    let mut hash = Sha1::new();
    ascending.for_each(|id| hash.update(id.0.to_be_bytes()));
    ClusterId(first_eight(&hash.finalize()))
}

fn first_eight(hash: &[u8]) -> u64 {
    hash.iter()
        .take(8)
        .fold(0, |number, byte| (number << 8) | u64::from(*byte))
}

fn id_of(key: &[u8]) -> Option<(u8, MemberId)> {
    let (kind, id) = key.split_first()?;
    Some((*kind, MemberId(u64::from_be_bytes(id.try_into().ok()?))))
}

const CLUSTER_KEY: &[u8] = b"c";
const VERSION_KEY: &[u8] = b"v";
const CHANGED_KEY: &[u8] = b"x";
const MEMBER_KIND: u8 = b'm';
const REMOVED_KIND: u8 = b'r';

#[cfg(test)]
mod tests {
    use super::*;

    fn one() -> Membership {
        let url = "http://localhost:2380".to_owned();
        Membership::bootstrap(vec![Member::bootstrap(
            "default".to_owned(),
            vec![url],
            "etcd-cluster",
        )])
    }

    #[test]
    fn ids_are_those_of_etcd() {
        // What an etcd without any flag shows of itself.
        let cluster = one();
        let ids: Vec<_> = cluster.iter().map(|m| m.id.to_string()).collect();
        assert_eq!(ids, ["8e9e05c52164694d"]);
        assert_eq!(cluster.cluster_id().to_string(), "cdf818194e3a8c32");
    }

    #[test]
    fn a_removed_id_never_returns() {
        let mut cluster = one();
        let member = cluster.iter().next().unwrap().clone();
        assert!(cluster.remove(member.id) && !cluster.remove(member.id));
        assert!(!cluster.add(member.clone()));
        assert!(cluster.is_empty() && cluster.is_removed(member.id));
    }

    #[test]
    fn a_table_brings_all_back() {
        let mut cluster = one();
        let urls = vec!["http://b:1".to_owned()];
        let id = member_id(&urls, "1700000000");
        assert!(cluster.add(Member {
            id,
            peer_urls: urls,
            is_learner: true,
            ..Member::default()
        }));
        assert!(cluster.publish(id, "b".to_owned(), vec!["http://b:2".to_owned()]) && cluster.promote(id));
        assert!(cluster.update(id, vec!["http://c:1".to_owned()]));
        cluster.set_cluster_version("3.7.0".to_owned());
        let first = cluster.iter().map(|m| m.id).find(|other| *other != id).unwrap();
        assert!(cluster.remove(first));
        assert_eq!(Membership::decode(&cluster.encode()).unwrap(), cluster);
    }

    #[test]
    fn a_strange_table_is_refused() {
        let bad = |key: &'static [u8], value: &'static [u8]| {
            Membership::decode(&[(Bytes::from_static(key), Bytes::from_static(value))])
        };
        assert!(matches!(bad(b"y", b""), Err(DecodeError::Key { .. })));
        assert!(matches!(bad(b"c", b"123"), Err(DecodeError::Form { .. })));
        assert!(matches!(bad(b"m12345678", b"\xff"), Err(DecodeError::Value(_))));
    }
}

//! What the hashes of several members mean.

use std::collections::BTreeMap;

use proto::etcdserverpb::HashKvResponse;
use store::mvcc::KvHash;
use store::types::MemberId;

/// A member's hash.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Hash {
    pub(crate) hash: u32,
    /// The revision hashed.
    pub(crate) revision: i64,
    pub(crate) compact_revision: i64,
    /// The member's newest revision.
    pub(crate) current: i64,
}

impl Hash {
    pub(crate) fn of(answer: &HashKvResponse) -> Hash {
        Hash {
            hash: answer.hash,
            revision: answer.hash_revision,
            compact_revision: answer.compact_revision,
            current: answer.header.as_ref().map_or(0, |header| header.revision),
        }
    }
}

/// What another member answered, or why it did not.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) member: MemberId,
    pub(crate) urls: Vec<String>,
    pub(crate) hash: Result<Hash, NoHash>,
}

/// Why there is no hash; the texts are etcd's.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoHash {
    #[error("etcdserver: mvcc: required revision has been compacted")]
    Compacted,
    #[error("etcdserver: mvcc: required revision is a future revision")]
    Future,
    #[error("etcdserver: cluster ID mismatch")]
    OtherCluster,
    #[error("{0}")]
    Other(String),
}

/// The members whose data differ from this one's although they should not.
pub(crate) fn initial(own: MemberId, hash: &Hash, answers: &[Answer]) -> usize {
    let mut mismatches = 0;
    for answer in answers {
        let text = match &answer.hash {
            Ok(theirs) if theirs.hash == hash.hash => continue,
            Ok(theirs) if theirs.compact_revision == hash.compact_revision => {
                mismatches += 1;
                "found different hash values from remote peer"
            }
            Ok(_) => "found different compact revision values from remote peer",
            Err(NoHash::Future) => "cannot fetch hash from slow remote peer",
            Err(NoHash::Compacted) => "cannot fetch hash from remote peer; local member is behind",
            Err(NoHash::OtherCluster) => "cluster ID mismatch",
            // Told of when it was asked.
            Err(NoHash::Other(_)) => continue,
        };
        let theirs = answer.hash.as_ref().ok();
        let error = answer.hash.as_ref().err().map(tracing::field::display);
        tracing::warn!(
            "local-member-id" = %own,
            "local-member-revision" = hash.revision,
            "local-member-compact-revision" = hash.compact_revision,
            "local-member-hash" = hash.hash,
            "remote-peer-id" = %answer.member,
            "remote-peer-endpoints" = ?answer.urls,
            "remote-peer-revision" = theirs.map(|theirs| theirs.current),
            "remote-peer-compact-revision" = theirs.map(|theirs| theirs.compact_revision),
            "remote-peer-hash" = theirs.map(|theirs| theirs.hash),
            error,
            "{text}"
        );
    }
    mismatches
}

/// The member for which the leader raises the alarm: one at most, as by etcd. `first` is the hash that the others were
/// asked to compare with, `second` one made after them.
pub(crate) fn periodic(own: MemberId, first: &Hash, second: &Hash, answers: &[Answer]) -> Option<MemberId> {
    let mut corrupt = None;
    let same_place = first.revision == second.revision && first.compact_revision == second.compact_revision;
    if same_place && first.hash != second.hash {
        tracing::warn!(
            "revision-1" = first.revision,
            "compact-revision-1" = first.compact_revision,
            "hash-1" = first.hash,
            "revision-2" = second.revision,
            "compact-revision-2" = second.compact_revision,
            "hash-2" = second.hash,
            "found hash mismatch"
        );
        corrupt = Some(own);
    }
    for answer in answers {
        let (member, Ok(theirs)) = (answer.member, &answer.hash) else {
            continue;
        };
        if theirs.current > second.current {
            tracing::warn!(
                "leader-revision" = second.current,
                "follower-revision" = theirs.current,
                "follower-peer-id" = %member,
                "revision from follower must be less than or equal to leader's"
            );
            corrupt = corrupt.or(Some(member));
        }
        if theirs.compact_revision > second.compact_revision {
            tracing::warn!(
                "leader-compact-revision" = second.compact_revision,
                "follower-compact-revision" = theirs.compact_revision,
                "follower-peer-id" = %member,
                "compact revision from follower must be less than or equal to leader's"
            );
            corrupt = corrupt.or(Some(member));
        }
        if theirs.compact_revision == first.compact_revision && theirs.hash != first.hash {
            tracing::warn!(
                "leader-compact-revision" = second.compact_revision,
                "leader-hash" = first.hash,
                "follower-compact-revision" = theirs.compact_revision,
                "follower-hash" = theirs.hash,
                "follower-peer-id" = %member,
                "same compact revision then hashes must match"
            );
            corrupt = corrupt.or(Some(member));
        }
    }
    corrupt
}

/// How the hashes of one compaction compare.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Compared {
    /// All members have the same.
    Alike,
    /// Those who answered have the same.
    Incomplete,
    /// The members in the minority; 0 stands for the whole cluster, where there is no majority.
    Different(Vec<MemberId>),
}

/// Compares the leader's hash of a compaction with the others'.
pub(crate) fn compaction(own: MemberId, hash: &KvHash, answers: &[Answer]) -> Compared {
    let mut members_of = BTreeMap::from([(hash.hash, vec![own])]);
    let mut checked = 0;
    for answer in answers {
        let reason = match &answer.hash {
            Err(_) => "no response".to_owned(),
            Ok(theirs) if theirs.compact_revision != hash.compact_revision => format!(
                "the peer's CompactRevision {} doesn't match leader's CompactRevision {}",
                theirs.compact_revision, hash.compact_revision
            ),
            Ok(theirs) => {
                checked += 1;
                members_of.entry(theirs.hash).or_default().push(answer.member);
                continue;
            }
        };
        tracing::warn!(
            "number-of-peers" = answers.len(),
            "leader-id" = %own,
            "peer-id" = %answer.member,
            reason,
            "Skipped peer's hash"
        );
    }
    if members_of.len() > 1 {
        return Compared::Different(minority(own, hash, members_of, answers.len() + 1));
    }
    let (revision, compact_revision) = (hash.hash_revision, hash.compact_revision);
    if checked < answers.len() {
        tracing::warn!(
            "number-of-peers-checked" = checked,
            "number-of-peers" = answers.len(),
            revision,
            compactRevision = compact_revision,
            "skipped revision in compaction hash check; was not able to check all peers"
        );
        return Compared::Incomplete;
    }
    tracing::info!(
        "number-of-peers-checked" = checked,
        revision,
        compactRevision = compact_revision,
        "successfully checked hash on whole cluster"
    );
    Compared::Alike
}

/// The members whose hash is not that of the majority of `count` members.
fn minority(
    own: MemberId,
    hash: &KvHash,
    mut members_of: BTreeMap<u32, Vec<MemberId>>,
    count: usize,
) -> Vec<MemberId> {
    let quorum = count / 2 + 1;
    let majority = members_of
        .iter()
        .find(|(_, members)| members.len() >= quorum)
        .map(|(hash, _)| *hash);
    if majority.is_none() {
        tracing::error!(
            "leader-id" = %own,
            "leader-revision" = hash.hash_revision,
            "leader-compact-revision" = hash.compact_revision,
            "leader-hash" = hash.hash,
            "Detected compaction hash mismatch but cannot identify the corrupted members, so intentionally set the \
             memberID as 0"
        );
    }
    if let Some(majority) = majority {
        members_of.remove(&majority);
    }
    for (peer_hash, members) in &members_of {
        let ids: Vec<String> = members.iter().map(ToString::to_string).collect();
        tracing::error!(
            "leader-id" = %own,
            "leader-revision" = hash.hash_revision,
            "leader-compact-revision" = hash.compact_revision,
            "leader-hash" = hash.hash,
            "peer-hash" = peer_hash,
            "peer-ids" = ids.join(","),
            "quorum-exist" = majority.is_some(),
            "Detected compaction hash mismatch"
        );
    }
    match majority {
        Some(_) => members_of.into_values().flatten().collect(),
        None => vec![MemberId(0)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: MemberId = MemberId(1);

    fn hash(hash: u32, compact_revision: i64, current: i64) -> Hash {
        Hash {
            hash,
            revision: 10,
            compact_revision,
            current,
        }
    }

    fn answers(given: Vec<Result<Hash, NoHash>>) -> Vec<Answer> {
        let numbered = (2..).zip(given);
        numbered
            .map(|(member, hash)| Answer {
                member: MemberId(member),
                urls: Vec::new(),
                hash,
            })
            .collect()
    }

    fn silent() -> Result<Hash, NoHash> {
        Err(NoHash::Other("silent".to_owned()))
    }

    #[test]
    fn only_another_hash_at_the_same_compaction_keeps_a_member_from_starting() {
        let own = hash(7, 3, 10);
        for (given, count) in [
            (vec![Ok(hash(7, 3, 12)), Ok(hash(7, 3, 9))], 0),
            (vec![Ok(hash(8, 3, 12)), Ok(hash(7, 3, 9))], 1),
            (vec![Ok(hash(8, 4, 12)), Ok(hash(8, -1, 9))], 0),
            (vec![Err(NoHash::Future), Err(NoHash::Compacted)], 0),
            (vec![Err(NoHash::OtherCluster), silent()], 0),
            (vec![], 0),
        ] {
            let given = answers(given);
            assert_eq!(initial(OWN, &own, &given), count, "{given:?}");
        }
    }

    #[test]
    fn the_leader_names_the_first_that_breaks_a_rule() {
        let (first, second) = (hash(7, 3, 10), hash(7, 3, 12));
        for (given, corrupt) in [
            (vec![Ok(hash(7, 3, 12)), silent()], None),
            // Another compaction, and so another hash.
            (vec![Ok(hash(9, -1, 10))], None),
            (vec![Ok(hash(7, 3, 13))], Some(2)),
            (vec![Ok(hash(7, 4, 12))], Some(2)),
            (vec![silent(), Ok(hash(9, 3, 10)), Ok(hash(8, 3, 10))], Some(3)),
        ] {
            let given = answers(given);
            let named = periodic(OWN, &first, &second, &given);
            assert_eq!(named, corrupt.map(MemberId), "{given:?}");
        }
        let changed = Hash { hash: 8, ..first };
        assert_eq!(periodic(OWN, &first, &changed, &[]), Some(OWN));
        // Asked for at another revision.
        let later = Hash {
            hash: 8,
            revision: 11,
            ..first
        };
        assert_eq!(periodic(OWN, &first, &later, &[]), None);
    }

    #[test]
    fn the_minority_of_a_compaction_is_corrupt() {
        let own = KvHash {
            hash: 7,
            compact_revision: 3,
            hash_revision: 10,
        };
        let same = || Ok(hash(7, 3, 10));
        let other = |value| Ok(hash(value, 3, 10));
        for (given, compared) in [
            (vec![same(), same()], Compared::Alike),
            (vec![same(), silent()], Compared::Incomplete),
            (vec![same(), Ok(hash(9, 2, 10))], Compared::Incomplete),
            (vec![same(), other(9)], Compared::Different(vec![MemberId(3)])),
            (vec![other(9), other(9)], Compared::Different(vec![OWN])),
            (vec![other(8), other(9)], Compared::Different(vec![MemberId(0)])),
            // Two of three answered, and differ: neither has a majority.
            (vec![other(8), silent()], Compared::Different(vec![MemberId(0)])),
            (
                vec![same(), same(), other(8), other(9)],
                Compared::Different(vec![MemberId(4), MemberId(5)]),
            ),
        ] {
            let given = answers(given);
            assert_eq!(compaction(OWN, &own, &given), compared, "{given:?}");
        }
    }
}

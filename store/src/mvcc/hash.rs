//! HashKV: one number by which members compare their histories (reference 1.5, to the byte).
//!
//! CRC-32C over the three bytes `key`, then, for every stored revision in ascending order, the revision key (see
//! [`Revision::to_key`]) and the encoded `KeyValue`, of which a tombstone has only the key. Left out are revisions
//! above the one hashed, revisions at or below the compacted one that are not in the *keep set*, and tombstones at
//! the compacted revision. The keep set has each key's newest put at or before the *hashed* revision. Quirk: an
//! empty keep set switches its filter off.
//!
//! The hash that a compaction leaves behind has tombstones exactly at its revision in the keep set too.

use prost::Message as _;

use super::Mvcc;
use crate::error::RequestError;
use crate::types::{Change, Revision};

/// The hash being computed: feed it every stored revision up to the hashed one, ascending.
#[derive(Clone, Debug)]
pub struct HashKv {
    compacted: i64,
    revision: i64,
    set: KeepSet,
    /// The keep set is not empty.
    filter: bool,
    crc: u32,
    buffer: Vec<u8>,
}

/// Which keep set applies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeepSet {
    /// That of a HashKV call.
    Request,
    /// That of the hash which a compaction leaves behind: tombstones at the hashed revision included.
    Compaction,
}

/// A finished hash.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KvHash {
    /// The hash.
    pub hash: u32,
    /// The compacted revision it was made with, -1 for none.
    pub compact_revision: i64,
    /// The revision hashed.
    pub hash_revision: i64,
}

/// How a HashKV call is to be answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HashPlan {
    /// With the hash that a finished compaction left.
    Kept(KvHash),
    /// By hashing up to `revision`, with history beginning at `compacted`.
    Compute {
        /// The compacted revision.
        compacted: i64,
        /// The revision to hash.
        revision: i64,
    },
}

impl HashKv {
    /// Begins a hash at `revision` with history beginning at `compacted`.
    #[must_use]
    pub fn new(mvcc: &Mvcc, compacted: i64, revision: i64, set: KeepSet) -> Self {
        let all_live = revision >= mvcc.current && mvcc.live_keys > 0;
        let filter = all_live
            || mvcc
                .index
                .iter()
                .any(|(_, slot)| slot.newest_at(revision).is_some_and(|n| set.has(n, revision)));
        HashKv {
            compacted,
            revision,
            set,
            filter,
            crc: crc32c::crc32c(b"key"),
            buffer: Vec::new(),
        }
    }

    /// Whether `feed` needs to know if the keep set has a revision this old.
    #[must_use]
    pub fn asks(&self, revision: Revision) -> bool {
        self.filter && revision.main <= self.compacted
    }

    /// Takes the next stored revision; `keep` as [`Mvcc::keeps`] says, of no matter where `asks` says no.
    pub fn feed(&mut self, change: &Change, keep: bool) {
        let main = change.revision.main;
        if main > self.revision
            || (self.asks(change.revision) && !keep)
            || (change.tombstone && main == self.compacted)
        {
            return;
        }
        let (key, len) = change.revision.to_key(change.tombstone);
        self.crc = crc32c::crc32c_append(self.crc, &key[..len]);
        self.buffer.clear();
        let encoded = if change.tombstone {
            let only_key = proto::mvccpb::KeyValue {
                key: change.kv.key.clone(),
                ..Default::default()
            };
            only_key.encode(&mut self.buffer)
        } else {
            change.kv.encode(&mut self.buffer)
        };
        encoded.expect("a vector has room");
        self.crc = crc32c::crc32c_append(self.crc, &self.buffer);
    }

    /// As `feed`, asking the index itself.
    pub fn feed_from(&mut self, mvcc: &Mvcc, change: &Change) {
        let keep = self.asks(change.revision)
            && mvcc.keeps(&change.kv.key, change.revision, self.revision, self.set);
        self.feed(change, keep);
    }

    /// The hash.
    #[must_use]
    pub fn finish(&self) -> KvHash {
        KvHash {
            hash: self.crc,
            compact_revision: self.compacted,
            hash_revision: self.revision,
        }
    }
}

impl KeepSet {
    /// Whether the set at `hash_revision` has a key's newest revision there, (revision, tombstone).
    fn has(self, newest: (Revision, bool), hash_revision: i64) -> bool {
        let (revision, tombstone) = newest;
        !tombstone || (self == KeepSet::Compaction && revision.main == hash_revision)
    }
}

impl Mvcc {
    /// Whether the keep set at `hash_revision` has `revision` of `key`.
    #[must_use]
    pub fn keeps(&self, key: &[u8], revision: Revision, hash_revision: i64, set: KeepSet) -> bool {
        let newest = self
            .index
            .get(key)
            .and_then(|(_, slot)| slot.newest_at(hash_revision));
        newest.is_some_and(|newest| newest.0 == revision && set.has(newest, hash_revision))
    }

    /// How to answer HashKV at `revision`, 0 for the current one.
    pub fn hash_plan(&self, revision: i64) -> Result<HashPlan, RequestError> {
        // Before all checks: a kept hash answers below the compacted revision too, and even 0 after "compact 0".
        if let Some(kept) = self.hashes.iter().find(|kept| kept.hash_revision == revision) {
            return Ok(HashPlan::Kept(*kept));
        }
        let revision = if revision == 0 { self.current } else { revision };
        // A negative revision is not checked: nothing is that old, and that is what is hashed.
        if revision > 0 {
            self.check_readable(revision, self.current)?;
        }
        Ok(HashPlan::Compute {
            compacted: self.compacted,
            revision,
        })
    }

    /// The hashes that finished compactions have left, oldest first.
    #[must_use]
    pub fn compaction_hashes(&self) -> Vec<KvHash> {
        self.hashes.iter().copied().collect()
    }

    /// Keeps the hash of a finished compaction. The hashes are lost at a restart.
    pub fn store_compaction_hash(&mut self, hash: KvHash) {
        self.hashes
            .retain(|kept| kept.hash_revision != hash.hash_revision);
        self.hashes.push_back(hash);
        while self.hashes.len() > HASHES_MAX {
            self.hashes.pop_front();
        }
    }
}

/// Of how many compactions the hash is kept.
const HASHES_MAX: usize = 10;

//! One key's history.
//!
//! A key passes through *generations*: a put makes it live (generation begins, version 1), further puts raise the
//! version, a delete ends the generation with a *tombstone*. One example, as (main.sub):
//!
//! ```text
//! put at 3.0, put at 5.0, delete at 7.0, put at 9.0
//!   3.0 create 3 version 1 | 5.0 create 3 version 2 | 7.0 tombstone | 9.0 create 9 version 1   <- the newest, inline
//! compaction at 5 drops 3.0 (5.0 is the newest put at or before 5)
//! compaction at 7 drops 3.0 and 5.0, and keeps the tombstone 7.0, for it lies exactly there (a watch that starts at
//!   the compacted revision is still told of it)
//! compaction at 8 drops the tombstone too: nothing of the key is left at or before 8
//! ```
//!
//! The newest revision stands inline with its value; older ones are a queue without values and leases, which exists
//! only where there is something in it, so that a key written once owns no allocation but its bytes.
//!
//! Invariants: revisions ascend strictly; compaction removes only from the old end; a tombstone has version and
//! create revision 0, and only a tombstone has.

use std::collections::VecDeque;
use std::mem;

use bytes::Bytes;
use proto::mvccpb::KeyValue;

use super::values::{ChunkId, Kept, Released};
use crate::types::{LeaseId, Revision};

/// The revisions of one key.
#[derive(Clone, Debug)]
pub(super) struct KeyIndex {
    /// Main of the newest revision; 0 only between the making of the entry and its first put.
    main: i64,
    sub: u32,
    /// Where `value` lies.
    chunk: ChunkId,
    /// 0 where the newest revision is a tombstone.
    create: i64,
    version: i64,
    lease: i64,
    value: Bytes,
    /// Boxed: nearly all keys have none, and the box costs them 8 bytes.
    history: Option<Box<History>>,
}

/// Older revisions, oldest first.
#[derive(Clone, Debug, Default)]
struct History {
    past: VecDeque<Past>,
}

/// A superseded revision.
#[derive(Clone, Copy, Debug)]
struct Past {
    main: i64,
    create: i64,
    version: i64,
    sub: u32,
}

/// A live version of a key at some revision.
#[derive(Clone, Copy, Debug)]
pub(super) struct Version<'a> {
    /// Where it was written.
    pub(super) revision: Revision,
    /// The put that made the key live.
    pub(super) create: i64,
    /// Puts since then.
    pub(super) version: i64,
    /// Value and lease where they are at hand: for the newest revision.
    pub(super) state: Option<(&'a Bytes, LeaseId)>,
}

/// What a compaction of one key came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Trimmed {
    /// Done with this key.
    Done,
    /// Done, and nothing is left: the entry may go.
    Gone,
    /// The allowance of dropped revisions is used up; call again.
    More,
}

impl KeyIndex {
    /// An entry for a key that is about to get its first put.
    pub(super) fn vacant() -> Self {
        KeyIndex {
            main: 0,
            sub: 0,
            chunk: ChunkId::NONE,
            create: 0,
            version: 0,
            lease: 0,
            value: Bytes::new(),
            history: None,
        }
    }

    /// The newest revision.
    pub(super) fn revision(&self) -> Revision {
        Revision::new(self.main, i64::from(self.sub))
    }

    /// Whether the newest revision is a put.
    pub(super) fn is_live(&self) -> bool {
        self.version > 0
    }

    /// The lease of the newest revision, 0 for none.
    pub(super) fn lease(&self) -> LeaseId {
        LeaseId(self.lease)
    }

    /// The value of the newest revision; empty for a tombstone.
    pub(super) fn value(&self) -> &Bytes {
        &self.value
    }

    /// The chunk that the value lies in.
    pub(super) fn chunk(&self) -> ChunkId {
        self.chunk
    }

    /// The same value lies elsewhere now.
    #[must_use = "the value before is released"]
    pub(super) fn move_to(&mut self, value: Kept) -> Released {
        debug_assert_eq!(self.value, value.bytes);
        self.keep(value)
    }

    fn keep(&mut self, value: Kept) -> Released {
        let before = Released {
            chunk: self.chunk,
            len: self.value.len(),
        };
        self.value = value.bytes;
        self.chunk = value.chunk;
        before
    }

    /// The newest version, if the key lives.
    pub(super) fn newest(&self) -> Option<Version<'_>> {
        self.is_live().then(|| Version {
            revision: self.revision(),
            create: self.create,
            version: self.version,
            state: Some((&self.value, LeaseId(self.lease))),
        })
    }

    /// The newest state as `key` shows it, if the key lives.
    pub(super) fn live(&self, key: &Bytes) -> Option<KeyValue> {
        self.is_live().then(|| self.to_kv(key.clone()))
    }

    /// The state after the newest revision, which must be a put.
    pub(super) fn to_kv(&self, key: Bytes) -> KeyValue {
        KeyValue {
            key,
            create_revision: self.create,
            mod_revision: self.main,
            version: self.version,
            value: self.value.clone(),
            lease: self.lease,
        }
    }

    /// The version that a read at main revision `at` sees.
    pub(super) fn at(&self, at: i64) -> Option<Version<'_>> {
        if self.main <= at {
            return self.newest();
        }
        let past = &self.history.as_ref()?.past;
        let newer = past.partition_point(|p| p.main <= at);
        let found = past.get(newer.checked_sub(1)?)?;
        (found.version > 0).then_some(Version {
            revision: found.revision(),
            create: found.create,
            version: found.version,
            state: None,
        })
    }

    /// The newest revision at or before main revision `at`, tombstones included, and whether it is one.
    pub(super) fn newest_at(&self, at: i64) -> Option<(Revision, bool)> {
        if self.main <= at {
            return Some((self.revision(), !self.is_live()));
        }
        let past = &self.history.as_ref()?.past;
        let newer = past.partition_point(|p| p.main <= at);
        let found = past.get(newer.checked_sub(1)?)?;
        Some((found.revision(), found.version == 0))
    }

    /// A put at `revision`: live from now on with this value and lease.
    #[must_use = "the value before is released"]
    pub(super) fn put(&mut self, revision: Revision, value: Kept, lease: LeaseId) -> Released {
        let (create, version) = if self.is_live() {
            (self.create, self.version + 1)
        } else {
            (revision.main, 1)
        };
        self.supersede(revision);
        self.create = create;
        self.version = version;
        self.lease = lease.0;
        self.keep(value)
    }

    /// A revision as history tells it, when the index is rebuilt: `create` and `version` 0 for a tombstone.
    #[must_use = "the value before is released"]
    pub(super) fn restore(&mut self, revision: Revision, kv: &KeyValue, value: Kept) -> Released {
        self.supersede(revision);
        self.create = kv.create_revision;
        self.version = kv.version;
        self.lease = kv.lease;
        self.keep(value)
    }

    /// A delete at `revision`.
    #[must_use = "the value before is released"]
    pub(super) fn delete(&mut self, revision: Revision) -> Released {
        assert!(
            self.is_live(),
            "a tombstone at {revision} on a key that is dead since {}",
            self.revision()
        );
        self.supersede(revision);
        self.create = 0;
        self.version = 0;
        self.lease = 0;
        self.keep(Kept::NOTHING)
    }

    /// Moves the newest revision to history and takes the number of the next one.
    fn supersede(&mut self, next: Revision) {
        assert!(
            next > self.revision(),
            "revision {next} after {} of the same key",
            self.revision()
        );
        if self.main > 0 {
            let past = Past {
                main: self.main,
                create: self.create,
                version: self.version,
                sub: self.sub,
            };
            self.history.get_or_insert_default().past.push_back(past);
        }
        self.main = next.main;
        self.sub = u32::try_from(next.sub).expect("a transaction has fewer than 2^32 changes");
    }

    /// Drops what a compaction at main revision `at` leaves behind, at most `dead_max` revisions, and names them in
    /// `dead`: everything at or before `at` but the newest, and that one too if it is a tombstone before `at`.
    pub(super) fn trim(&mut self, at: i64, dead_max: usize, dead: &mut Vec<Revision>) -> Trimmed {
        let Some((newest, tombstone)) = self.newest_at(at) else {
            return Trimmed::Done;
        };
        let whole = tombstone && newest.main < at;
        let current_goes = whole && newest == self.revision();
        if let Some(history) = &mut self.history {
            let past = &mut history.past;
            let old = past.partition_point(|p| p.revision() < newest || (whole && p.revision() == newest));
            let drop = old.min(dead_max);
            dead.extend(past.drain(..drop).map(|p| p.revision()));
            if drop < old {
                return Trimmed::More;
            }
            if past.is_empty() {
                self.history = None;
            } else if past.capacity() > past.len().saturating_mul(4) {
                past.shrink_to_fit();
            }
        }
        if !current_goes {
            return Trimmed::Done;
        }
        dead.push(self.revision());
        Trimmed::Gone
    }

    /// How many revisions are held, the newest included.
    #[cfg(any(test, feature = "verify"))]
    pub(super) fn revisions(&self) -> usize {
        1 + self.history.as_ref().map_or(0, |h| h.past.len())
    }

    /// Panics unless the invariants of the module hold.
    #[cfg(any(test, feature = "verify"))]
    pub(super) fn verify(&self, key: &[u8]) {
        assert!(self.main > 0, "key {key:?} was never put");
        assert_eq!(self.version == 0, self.create == 0, "key {key:?}: {self:?}");
        let Some(history) = &self.history else { return };
        assert!(!history.past.is_empty(), "key {key:?} owns an empty history");
        let mut all: Vec<Past> = history.past.iter().copied().collect();
        all.push(Past {
            main: self.main,
            create: self.create,
            version: self.version,
            sub: self.sub,
        });
        for pair in all.windows(2) {
            let [older, newer] = pair else { continue };
            assert!(
                older.revision() < newer.revision(),
                "key {key:?}: {older:?} before {newer:?}"
            );
            if newer.version > 1 {
                assert_eq!(
                    older.version + 1,
                    newer.version,
                    "key {key:?}: a version is missing"
                );
                assert_eq!(older.create, newer.create, "key {key:?}: two generations mixed");
            } else if newer.version == 0 {
                assert!(
                    older.version > 0,
                    "key {key:?}: a tombstone on a dead key at {}",
                    newer.main
                );
            }
        }
    }
}

impl Past {
    fn revision(&self) -> Revision {
        Revision::new(self.main, i64::from(self.sub))
    }
}

// The index of a million keys is a million of these: growth is a decision.
const _: () = assert!(mem::size_of::<KeyIndex>() == 80);

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &mut KeyIndex, main: i64) {
        let _nothing = key.put(
            Revision::new(main, 0),
            Kept::own(Bytes::from_static(b"v")),
            LeaseId(0),
        );
    }

    /// The example of the module's description.
    fn example() -> KeyIndex {
        let mut key = KeyIndex::vacant();
        put(&mut key, 3);
        put(&mut key, 5);
        let _nothing = key.delete(Revision::new(7, 0));
        put(&mut key, 9);
        key.verify(b"example");
        key
    }

    fn trimmed(at: i64) -> (KeyIndex, Vec<i64>) {
        let (mut key, mut dead) = (example(), Vec::new());
        assert_eq!(key.trim(at, 100, &mut dead), Trimmed::Done);
        (key, dead.iter().map(|r| r.main).collect())
    }

    #[test]
    fn generations_are_seen_at_their_revisions() {
        let key = example();
        let seen = |at| key.at(at).map(|v| (v.revision.main, v.create, v.version));
        assert_eq!(seen(2), None);
        assert_eq!(seen(4), Some((3, 3, 1)));
        assert_eq!(seen(6), Some((5, 3, 2)));
        assert_eq!(seen(7), None);
        assert_eq!(seen(8), None);
        assert_eq!(seen(9), Some((9, 9, 1)));
    }

    #[test]
    fn compaction_keeps_the_newest_put_and_a_tombstone_exactly_there() {
        assert!(trimmed(2).1.is_empty());
        assert!(trimmed(3).1.is_empty());
        assert_eq!(trimmed(5).1, [3]);
        assert_eq!(trimmed(7).1, [3, 5]);
        assert_eq!(trimmed(8).1, [3, 5, 7]);
        assert_eq!(trimmed(9).1, [3, 5, 7]);
        assert!(trimmed(9).0.history.is_none());
    }

    #[test]
    fn compaction_of_a_dead_key_removes_it_after_its_tombstone_only() {
        let mut key = KeyIndex::vacant();
        put(&mut key, 3);
        let _nothing = key.delete(Revision::new(4, 0));
        let mut dead = Vec::new();
        assert_eq!(key.trim(4, 100, &mut dead), Trimmed::Done);
        assert_eq!(dead, [Revision::new(3, 0)]);
        assert_eq!(key.trim(5, 100, &mut dead), Trimmed::Gone);
        assert_eq!(dead, [Revision::new(3, 0), Revision::new(4, 0)]);
    }

    #[test]
    fn compaction_stops_at_its_allowance() {
        let mut key = KeyIndex::vacant();
        (2..12).for_each(|main| put(&mut key, main));
        let mut dead = Vec::new();
        assert_eq!(key.trim(11, 4, &mut dead), Trimmed::More);
        assert_eq!(key.trim(11, 4, &mut dead), Trimmed::More);
        assert_eq!(key.trim(11, 4, &mut dead), Trimmed::Done);
        assert_eq!(dead.len(), 9);
        assert_eq!(key.revisions(), 1);
    }

    #[test]
    fn two_changes_of_one_transaction_show_the_later_one() {
        let mut key = KeyIndex::vacant();
        let _nothing = key.put(Revision::new(2, 0), Kept::NOTHING, LeaseId(0));
        let _nothing = key.delete(Revision::new(2, 1));
        assert!(key.at(2).is_none());
        key.verify(b"k");
    }
}

//! The history of keys: etcd's multi-version model in memory.
//!
//! Owns the ordered index of all keys with their revisions and current values, the newest revisions whole
//! ([`Recent`]), and how far history has been compacted. It must never do I/O, read a clock or depend on how far
//! physical compaction or checkpoints have got: the same sequence of calls gives the same answers everywhere.
//!
//! The store's clock is the *main revision*: a fresh store stands at 1, and each transaction that changes something
//! takes the next number, its changes numbered from 0 inside it.
//!
//! Current values are always here. The state of a superseded version is in [`Recent`] or else in the backend only; a
//! read that needs the latter names what is missing (see `read.rs`).
//!
//! Invariants:
//! - `compacted <= current`, and everything that a read at a revision `>= compacted` may see is in the index;
//! - the revisions in [`Recent`] end at `current` without a gap, and reach down to the checkpointed one;
//! - a dead key stays in the index until a compaction above its tombstone has visited it, so no answer can tell.

mod compaction;
mod hash;
mod index;
mod key_index;
mod packing;
mod read;
mod recent;
mod restore;
mod tally;
mod values;
mod write;

use std::collections::VecDeque;

use bytes::Bytes;
use proto::etcdserverpb::RangeRequest;
use proto::mvccpb::KeyValue;

pub use compaction::{Compaction, CompactionStep};
pub use hash::{HashKv, HashPlan, KeepSet, KvHash};
pub use read::{RangePlan, RangeScan, check_arguments};
pub use recent::Recent;
pub use restore::Restore;
pub use tally::Tally;
pub use write::WriteTxn;

use crate::error::RequestError;
use crate::types::{KeyRange, LeaseId, Revision};
use index::Index;
use values::Values;

/// The multi-version store.
#[derive(Clone, Debug)]
pub struct Mvcc {
    index: Index,
    /// Where the current values lie.
    values: Values,
    /// The last key visited by a move of values that is under way.
    packing: Option<Bytes>,
    current: i64,
    compacted: i64,
    /// The physical compaction that has work left.
    compaction: Option<Compaction>,
    recent: Recent,
    /// Hashes that finished compactions left, oldest first.
    hashes: VecDeque<KvHash>,
    live_keys: u64,
    live_bytes: u64,
    revisions: u64,
}

/// A live key's newest state, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct Live<'a> {
    /// Main revision of the put that made the key live.
    pub create_revision: i64,
    /// Main revision of the last put.
    pub mod_revision: i64,
    /// Puts since the key became live.
    pub version: i64,
    /// The attached lease, 0 for none.
    pub lease: LeaseId,
    /// The value.
    pub value: &'a Bytes,
}

/// The state of a key before some revision, for a watcher's `prev_kv`.
#[derive(Clone, PartialEq, Debug)]
pub enum Previous {
    /// The key did not live, or compaction has taken its state.
    None,
    /// At hand.
    Loaded(KeyValue),
    /// To be fetched from the backend.
    Stored(Revision),
}

impl Mvcc {
    /// A fresh store: revision 1, nothing in it, nothing compacted.
    #[must_use]
    pub fn new() -> Self {
        Mvcc {
            index: Index::default(),
            values: Values::new(),
            packing: None,
            current: 1,
            compacted: -1,
            compaction: None,
            recent: Recent::new(1),
            hashes: VecDeque::new(),
            live_keys: 0,
            live_bytes: 0,
            revisions: 0,
        }
    }

    /// The newest main revision.
    #[must_use]
    pub fn current(&self) -> i64 {
        self.current
    }

    /// The compacted revision, -1 before any compaction.
    #[must_use]
    pub fn compacted(&self) -> i64 {
        self.compacted
    }

    /// How many keys live.
    #[must_use]
    pub fn live_keys(&self) -> u64 {
        self.live_keys
    }

    /// Bytes of live keys and their values.
    #[must_use]
    pub fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    /// How many revisions of keys the index holds, newest ones and tombstones included.
    #[must_use]
    pub fn revisions(&self) -> u64 {
        self.revisions
    }

    /// How many keys the index holds, dead ones included.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.index.len()
    }

    /// The newest revisions, whole.
    #[must_use]
    pub fn recent(&self) -> &Recent {
        &self.recent
    }

    /// Tells that everything up to `main` is in the backend, so that memory may let go of it.
    pub fn checkpointed(&mut self, main: i64) {
        assert!(
            main <= self.current,
            "checkpointed {main} beyond the current revision {}",
            self.current
        );
        self.recent.set_checkpointed(main);
    }

    /// Sets how many bytes of checkpointed revisions stay in memory.
    pub fn set_recent_bytes_max(&mut self, bytes_max: usize) {
        self.recent.set_bytes_max(bytes_max);
    }

    /// Begins a transaction; to be committed before anything else is done.
    pub fn begin(&mut self) -> WriteTxn<'_> {
        WriteTxn::new(self)
    }

    /// A whole Range at once.
    pub fn range(&self, request: &RangeRequest) -> Result<RangePlan, RequestError> {
        let mut scan = RangeScan::new(self, request)?;
        let done = scan.step(self, usize::MAX);
        assert!(done, "a scan without a limit ends");
        Ok(scan.finish())
    }

    /// The newest state of `key`, if it lives.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<Live<'_>> {
        self.index.get(key).and_then(|(_, slot)| live(slot))
    }

    /// The live keys of `range` in order, with their newest states.
    pub fn live_in<'a>(&'a self, range: &'a KeyRange) -> impl Iterator<Item = (&'a Bytes, Live<'a>)> {
        let bounds = range.bounds().into_iter();
        bounds
            .flat_map(|b| self.index.range(b))
            .filter_map(|(key, slot)| Some((key, live(slot)?)))
    }

    /// The state of `key` as it was before main revision `before.main`. Below the compacted revision there is none,
    /// whether or not the physical compaction has got there.
    #[must_use]
    pub fn previous(&self, key: &[u8], before: Revision) -> Previous {
        let at = before.main - 1;
        if at < self.compacted {
            return Previous::None;
        }
        let Some((key, slot)) = self.index.get(key) else {
            return Previous::None;
        };
        let Some(version) = slot.at(at) else {
            return Previous::None;
        };
        if version.state.is_some() {
            return slot.live(key).map_or(Previous::None, Previous::Loaded);
        }
        match self.recent.change(version.revision) {
            Some(change) => Previous::Loaded(change.kv.clone()),
            None => Previous::Stored(version.revision),
        }
    }

    /// Whether a read at main revision `at` is possible where `current` is the newest.
    fn check_readable(&self, at: i64, current: i64) -> Result<(), RequestError> {
        if at > current {
            return Err(RequestError::FutureRevision {
                requested: at,
                current,
            });
        }
        if at < self.compacted {
            return Err(RequestError::Compacted {
                requested: at,
                compacted: self.compacted,
            });
        }
        Ok(())
    }

    /// Panics unless the invariants of this room hold; scans everything.
    #[cfg(any(test, feature = "verify"))]
    pub fn verify(&self) {
        let (mut live_keys, mut live_bytes, mut revisions) = (0, 0, 0);
        for (key, slot) in self.index.iter() {
            slot.verify(key);
            assert!(
                slot.revision().main <= self.current,
                "key {key:?} is ahead of the store"
            );
            revisions += slot.revisions() as u64;
            if let Some(kv) = slot.live(key) {
                live_keys += 1;
                live_bytes += (kv.key.len() + kv.value.len()) as u64;
            }
        }
        assert_eq!(
            (live_keys, live_bytes),
            (self.live_keys, self.live_bytes),
            "live keys, bytes"
        );
        assert_eq!(revisions, self.revisions, "revisions");
        let kept = self.index.iter();
        self.values
            .verify(kept.map(|(_, slot)| (slot.value(), slot.chunk())));
        let next = self.recent.first() + i64::try_from(self.recent.range(0).count()).unwrap_or(i64::MAX);
        assert_eq!(
            next,
            self.current + 1,
            "the recent revisions end at the current one"
        );
        assert!(
            self.recent.first() <= self.recent.checkpointed() + 1,
            "an unsaved revision was let go"
        );
        assert!(self.compacted <= self.current);
    }
}

impl Default for Mvcc {
    fn default() -> Self {
        Self::new()
    }
}

/// A value fit for [`WriteTxn::put`], cut from an entry of `entry_len` bytes: one that is not packed (which copies it)
/// is shared with the entry where it makes up half of it, else copied, so that it does not keep a larger buffer alive.
#[must_use]
pub fn own(value: Bytes, entry_len: usize) -> Bytes {
    if values::is_packed(value.len()) || value.len().saturating_mul(2) >= entry_len {
        value
    } else {
        Bytes::copy_from_slice(&value)
    }
}

fn live(slot: &key_index::KeyIndex) -> Option<Live<'_>> {
    let version = slot.newest()?;
    let (value, lease) = version.state?;
    Some(Live {
        create_revision: version.create,
        mod_revision: version.revision.main,
        version: version.version,
        lease,
        value,
    })
}

#[cfg(test)]
mod tests;

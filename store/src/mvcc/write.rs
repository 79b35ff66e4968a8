//! One revision's changes.
//!
//! A [`WriteTxn`] changes the index as it goes; reads within it see its own changes at the revision it will take.
//! There is no way back: whatever may fail is checked before the first change, and `commit` follows in the same
//! step, so nobody sees a transaction half done.

use std::mem;
use std::sync::Arc;

use bytes::Bytes;
use proto::etcdserverpb::RangeRequest;
use proto::mvccpb::KeyValue;

use super::read::{RangePlan, RangeScan};
use super::{Mvcc, Tally};
use crate::error::RequestError;
use crate::types::{Change, CommittedRevision, KeyRange, LeaseId, Revision, SharedRevision};

/// A transaction under way.
#[derive(Debug)]
pub struct WriteTxn<'a> {
    mvcc: &'a mut Mvcc,
    changes: Vec<Change>,
    previous: Vec<Option<KeyValue>>,
    tally: Tally,
}

impl<'a> WriteTxn<'a> {
    pub(super) fn new(mvcc: &'a mut Mvcc) -> Self {
        WriteTxn {
            mvcc,
            changes: Vec::new(),
            previous: Vec::new(),
            tally: Tally::default(),
        }
    }

    /// What it has done so far.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// A state before this transaction was looked at for its caller.
    pub fn count_read(&mut self) {
        self.tally.ranges += 1;
    }

    /// The revision that an answer's header shows at this point: the new one once something has changed.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.mvcc.current + i64::from(!self.changes.is_empty())
    }

    /// The store with the changes made so far.
    #[must_use]
    pub fn store(&self) -> &Mvcc {
        self.mvcc
    }

    /// Puts `value` (see [`own`](super::own)) under `key`, which is copied if it is new. Returns the state just
    /// before, this transaction's own changes included.
    pub fn put(&mut self, key: Bytes, value: Bytes, lease: LeaseId) -> Option<KeyValue> {
        self.tally.puts += 1;
        self.tally.put_bytes += (key.len() + value.len()) as u64;
        let revision = self.next();
        let Mvcc { index, values, .. } = &mut *self.mvcc;
        let value = values.keep(value);
        let (before, kv, again) = index.change(key, |key, slot| {
            let again = slot.revision().main == revision.main;
            let before = slot.live(&key);
            values.release(slot.put(revision, value, lease));
            (before, slot.to_kv(key), again)
        });
        match &before {
            Some(old) => self.mvcc.live_bytes -= old.value.len() as u64,
            None => {
                self.mvcc.live_keys += 1;
                self.mvcc.live_bytes += kv.key.len() as u64;
            }
        }
        self.mvcc.live_bytes += kv.value.len() as u64;
        self.mvcc.revisions += 1;
        self.record(
            Change {
                revision,
                tombstone: false,
                kv,
            },
            before.clone(),
            again,
        );
        before
    }

    /// Deletes every live key of `range` and returns their states just before, in key order.
    pub fn delete_range(&mut self, range: &KeyRange) -> Vec<KeyValue> {
        self.tally.deletes += 1;
        let Some(bounds) = range.bounds() else {
            return Vec::new();
        };
        let main = self.mvcc.current + 1;
        let mut sub = self.changes.len();
        let mut deleted = Vec::new();
        let mut again = Vec::new();
        let Mvcc { index, values, .. } = &mut *self.mvcc;
        for (key, slot) in index.range_mut(bounds) {
            let Some(before) = slot.live(key) else { continue };
            again.push(slot.revision().main == main);
            values.release(slot.delete(revision(main, sub)));
            sub += 1;
            deleted.push(before);
        }
        for (before, again) in deleted.iter().zip(again) {
            self.mvcc.live_keys -= 1;
            self.mvcc.live_bytes -= (before.key.len() + before.value.len()) as u64;
            let kv = KeyValue {
                key: before.key.clone(),
                mod_revision: main,
                ..KeyValue::default()
            };
            let change = Change {
                revision: self.next(),
                tombstone: true,
                kv,
            };
            self.record(change, Some(before.clone()), again);
        }
        self.mvcc.revisions += deleted.len() as u64;
        deleted
    }

    /// Reads with the changes made so far, at the revision they will have.
    pub fn range(&mut self, request: &RangeRequest) -> Result<RangePlan, RequestError> {
        self.count_read();
        let mut scan = RangeScan::at_current(self.mvcc, request, self.revision())?;
        let done = scan.step(self.mvcc, usize::MAX);
        assert!(done, "a scan without a limit ends");
        Ok(scan.finish())
    }

    /// Ends the transaction. `None` where nothing changed: then no revision was taken.
    #[must_use = "the revision belongs to the watchers and the checkpoint"]
    pub fn commit(mut self) -> Option<SharedRevision> {
        if self.changes.is_empty() {
            return None;
        }
        let main = self.mvcc.current + 1;
        let mut changes = mem::take(&mut self.changes);
        let mut previous = mem::take(&mut self.previous);
        // Kept for as long as the revision is recent: the slack of a growing vector is worth returning.
        changes.shrink_to_fit();
        previous.shrink_to_fit();
        let shared = Arc::new(CommittedRevision {
            main,
            changes,
            previous,
        });
        self.mvcc.current = main;
        self.mvcc.recent.push(Arc::clone(&shared));
        Some(shared)
    }

    /// The revision of the next change.
    fn next(&self) -> Revision {
        revision(self.mvcc.current + 1, self.changes.len())
    }

    /// Notes a change; `again` says that this transaction changed the key before.
    fn record(&mut self, change: Change, before: Option<KeyValue>, again: bool) {
        let previous = if again {
            self.before_transaction(&change.kv.key)
        } else {
            before
        };
        if self.changes.is_empty() {
            // Nearly every transaction is one put: a vector's first growth would take room for four.
            self.changes.reserve_exact(1);
            self.previous.reserve_exact(1);
        }
        self.changes.push(change);
        self.previous.push(previous);
    }

    /// The state of a key that this transaction changed, as it was before the transaction.
    fn before_transaction(&self, key: &Bytes) -> Option<KeyValue> {
        let first = self.changes.iter().position(|c| c.kv.key == key);
        self.previous[first.expect("the key was changed here before")].clone()
    }
}

impl Drop for WriteTxn<'_> {
    fn drop(&mut self) {
        assert!(
            self.changes.is_empty() || std::thread::panicking(),
            "a transaction with {} changes was given up, and the index has them",
            self.changes.len()
        );
    }
}

fn revision(main: i64, sub: usize) -> Revision {
    Revision::new(
        main,
        i64::try_from(sub).expect("a transaction has fewer than 2^32 changes"),
    )
}

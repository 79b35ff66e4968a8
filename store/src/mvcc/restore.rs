//! The index from stored history: at a start from the backend, or from a snapshot of another member.

use bytes::Bytes;
use proto::mvccpb::KeyValue;

use super::compaction::Compaction;
use super::{Mvcc, Recent};
use crate::types::{Change, LeaseId};

/// Rebuilds an [`Mvcc`] from its revisions in ascending order.
#[derive(Debug)]
pub struct Restore {
    mvcc: Mvcc,
    compaction_finished: bool,
}

impl Restore {
    /// Begins with the compacted revision (-1 for none) and whether its physical part was done; if not, it resumes.
    #[must_use]
    pub fn new(compacted: i64, compaction_finished: bool) -> Self {
        let mut mvcc = Mvcc::new();
        mvcc.compacted = compacted;
        Restore {
            mvcc,
            compaction_finished,
        }
    }

    /// Takes the next revision. Its key and value are copied, so `change` may share a large buffer.
    pub fn push(&mut self, change: &Change) {
        let (revision, kv) = (change.revision, &change.kv);
        assert!(
            revision.main == kv.mod_revision,
            "revision {revision} holds mod revision {}",
            kv.mod_revision
        );
        // Of a tombstone the index keeps nothing but the place; what it ended may have been compacted away.
        let dead = KeyValue::default();
        let kv = if change.tombstone { &dead } else { kv };
        assert!(
            change.tombstone || (kv.version > 0 && kv.create_revision > 0),
            "revision {revision} is a put without a version"
        );
        let Mvcc { index, values, .. } = &mut self.mvcc;
        // A slice of what was read: what is not packed must not keep that alive.
        let value = values.keep(super::own(kv.value.clone(), usize::MAX));
        let before = index.change(change.kv.key.clone(), |_, slot| slot.restore(revision, kv, value));
        values.release(before);
        self.mvcc.revisions += 1;
    }

    /// The store at revision `current`, all of it in the backend; `attach` is told of every live key with a lease.
    #[must_use]
    pub fn finish(self, current: i64, mut attach: impl FnMut(LeaseId, &Bytes)) -> Mvcc {
        let mut mvcc = self.mvcc;
        mvcc.current = current;
        mvcc.recent = Recent::new(current);
        for (key, slot) in mvcc.index.iter() {
            let newest = slot.revision();
            assert!(
                newest.main <= current,
                "history goes on to {newest}, beyond the current revision {current}"
            );
            if !slot.is_live() {
                continue;
            }
            mvcc.live_keys += 1;
            mvcc.live_bytes += (key.len() + slot.value().len()) as u64;
            if slot.lease() != LeaseId(0) {
                attach(slot.lease(), key);
            }
        }
        if mvcc.compacted >= 0 && !self.compaction_finished {
            mvcc.compaction = Some(Compaction::new(mvcc.compacted, None));
        }
        mvcc
    }
}

//! Moving current values together, in bounded steps; see [`values`](super::values) for why.
//!
//! No answer depends on how far it has got: only where bytes lie changes.

use std::ops::Bound;

use bytes::Bytes;

use super::Mvcc;

impl Mvcc {
    /// Whether values should be moved together, or are being so.
    #[must_use]
    pub fn packing(&self) -> bool {
        self.packing.is_some() || self.values.wasteful()
    }

    /// Bytes of memory that hold packed values, those included that are dead and not given back yet.
    #[must_use]
    pub fn values_bytes(&self) -> u64 {
        self.values.held_bytes()
    }

    /// Visits the next keys, up to `keys_max` and `STEP_BYTES` of values moved. Returns the bytes moved.
    pub fn pack_step(&mut self, keys_max: usize) -> usize {
        if !self.packing() {
            return 0;
        }
        let cursor: Bytes = self.packing.take().unwrap_or_default();
        let start = Bound::Excluded(cursor.as_ref());
        let (mut visited, mut moved, mut last) = (0, 0, None);
        for (key, slot) in self.index.range_mut((start, Bound::Unbounded)) {
            if visited == keys_max.max(1) || moved >= STEP_BYTES {
                self.packing = last;
                break;
            }
            visited += 1;
            last = Some(key.clone());
            if self.values.sparse(slot.chunk()) {
                moved += slot.value().len();
                let kept = self.values.keep(slot.value().clone());
                self.values.release(slot.move_to(kept));
            }
        }
        moved
    }
}

/// Bytes of values that one step moves at most, and one value more: a fraction of a millisecond.
const STEP_BYTES: usize = 1 << 20;

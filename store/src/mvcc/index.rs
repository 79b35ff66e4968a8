//! All keys in byte order. The shape of the container is known to this file alone, so that a denser one can take its
//! place.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Bound;

use bytes::Bytes;

use super::key_index::KeyIndex;

/// Bounds of a walk over keys.
pub(super) type Bounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// Keys to their histories. Key bytes are owned here once, and shared with whatever shows them.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    keys: BTreeMap<Bytes, KeyIndex>,
}

impl Index {
    /// The entry of `key`.
    pub(super) fn get(&self, key: &[u8]) -> Option<(&Bytes, &KeyIndex)> {
        self.keys.get_key_value(key)
    }

    /// Calls `change` with the entry of `key`, made where there is none, and the key as the index owns it. `key`
    /// itself is not kept, so it may be a slice of a large buffer. One search, two for a key seen for the first time.
    pub(super) fn change<R>(&mut self, key: Bytes, change: impl FnOnce(Bytes, &mut KeyIndex) -> R) -> R {
        // The vacant entry would keep the slice, and with it the buffer; hence the second search.
        let owned = match self.keys.entry(key) {
            Entry::Occupied(mut found) => {
                let key = found.key().clone();
                return change(key, found.get_mut());
            }
            Entry::Vacant(vacant) => Bytes::copy_from_slice(vacant.key()),
        };
        change(
            owned.clone(),
            self.keys.entry(owned).or_insert_with(KeyIndex::vacant),
        )
    }

    /// The entries within `bounds`, ascending.
    pub(super) fn range(&self, bounds: Bounds<'_>) -> impl Iterator<Item = (&Bytes, &KeyIndex)> {
        self.keys.range::<[u8], _>(bounds)
    }

    /// The entries within `bounds`, ascending, to be changed.
    pub(super) fn range_mut(&mut self, bounds: Bounds<'_>) -> impl Iterator<Item = (&Bytes, &mut KeyIndex)> {
        self.keys.range_mut::<[u8], _>(bounds)
    }

    /// All entries, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Bytes, &KeyIndex)> {
        self.keys.iter()
    }

    /// Removes the entry of `key`.
    pub(super) fn remove(&mut self, key: &[u8]) {
        self.keys.remove(key);
    }

    /// How many keys have an entry, dead ones included.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }
}

//! Ranges of keys, as requests give them: a key and a `range_end` (etcd reference 1.0, "Key ranges").

use std::ops::Bound;

use bytes::Bytes;

/// Which keys a request means. `range_end` empty: the single key; the one byte 0: every key from `key` on;
/// otherwise the half-open interval `[key, range_end)`, empty where `range_end <= key`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct KeyRange {
    /// The first key.
    pub key: Bytes,
    /// The end as requested; see the type's description.
    pub range_end: Bytes,
}

/// Bounds of an ordered map of keys.
pub type Bounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

impl KeyRange {
    /// The range of a request's `key` and `range_end`.
    #[must_use]
    pub fn new(key: Bytes, range_end: Bytes) -> Self {
        KeyRange { key, range_end }
    }

    /// The range of exactly one key.
    #[must_use]
    pub fn single(key: Bytes) -> Self {
        KeyRange {
            key,
            range_end: Bytes::new(),
        }
    }

    /// Every key of the store.
    #[must_use]
    pub fn all() -> Self {
        KeyRange {
            key: Bytes::from_static(b"\0"),
            range_end: Bytes::from_static(b"\0"),
        }
    }

    /// Whether the range is one key by form (an empty `range_end`).
    #[must_use]
    pub fn is_single(&self) -> bool {
        self.range_end.is_empty()
    }

    /// Whether the range reaches to the end of the key space.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.range_end.as_ref() == b"\0"
    }

    /// Whether no key can lie in the range.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.is_single() && !self.is_open() && self.range_end <= self.key
    }

    /// Whether `key` lies in the range.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        if self.is_single() {
            return key == self.key;
        }
        key >= self.key.as_ref() && (self.is_open() || key < self.range_end.as_ref())
    }

    /// The range as bounds of an ordered map; `None` where it is empty (an ordered map would panic on it).
    #[must_use]
    pub fn bounds(&self) -> Option<Bounds<'_>> {
        let start = Bound::Included(self.key.as_ref());
        if self.is_single() {
            return Some((start, Bound::Included(self.key.as_ref())));
        }
        if self.is_open() {
            return Some((start, Bound::Unbounded));
        }
        (!self.is_empty()).then(|| (start, Bound::Excluded(self.range_end.as_ref())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(key: &'static str, end: &'static str) -> KeyRange {
        KeyRange::new(
            Bytes::from_static(key.as_bytes()),
            Bytes::from_static(end.as_bytes()),
        )
    }

    #[test]
    fn the_three_forms() {
        assert!(range("a", "").contains(b"a") && !range("a", "").contains(b"a\0"));
        assert!(range("a", "\0").contains(b"\xff\xff") && !range("b", "\0").contains(b"a"));
        assert!(range("a", "c").contains(b"b") && !range("a", "c").contains(b"c"));
        assert!(KeyRange::all().contains(b"\0"));
    }

    #[test]
    fn a_reversed_range_is_empty_and_no_error() {
        assert!(range("c", "a").is_empty() && range("a", "a").is_empty());
        assert!(range("c", "a").bounds().is_none());
        assert!(!range("c", "a").contains(b"b"));
    }
}

//! Revisions: the store's own clock.

use std::fmt;

/// A point in the store's history: `main` counts the transactions that changed something (a fresh store stands at
/// 1, the first write makes 2), `sub` the changes inside one of them, from 0, in execution order. Clients see
/// `main` only.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Revision {
    /// The transaction.
    pub main: i64,
    /// The change inside it.
    pub sub: i64,
}

impl Revision {
    /// Bytes of an encoded revision of a put; a tombstone has one more.
    pub const ENCODED_LEN: usize = 17;

    /// The revision (main, sub).
    #[must_use]
    pub const fn new(main: i64, sub: i64) -> Self {
        Revision { main, sub }
    }

    /// etcd's revision key, which HashKV covers: main as 8 bytes big-endian, `_`, sub as 8 bytes big-endian, and
    /// for a tombstone one more byte `t`. Returns the buffer and how many of its bytes count.
    #[must_use]
    pub fn to_key(self, tombstone: bool) -> ([u8; Self::ENCODED_LEN + 1], usize) {
        let mut key = [0; Self::ENCODED_LEN + 1];
        key[..8].copy_from_slice(&self.main.to_be_bytes());
        key[8] = b'_';
        key[9..17].copy_from_slice(&self.sub.to_be_bytes());
        key[17] = b't';
        (key, Self::ENCODED_LEN + usize::from(tombstone))
    }
}

impl fmt::Debug for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.main, self.sub)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

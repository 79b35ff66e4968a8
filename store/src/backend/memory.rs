//! The backend of tests and of the simulation: a map in memory, and a second one that holds what the last flush
//! made durable. [`MemoryBackend::crash`] falls back to it. Deterministic; the file system is not touched.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use parking_lot::Mutex;

use super::{Backend, BackendError, KeyBounds, Table, WriteBatch};

/// See the module.
#[derive(Default, Debug)]
pub struct MemoryBackend {
    inner: Mutex<Inner>,
}

#[derive(Default, Debug)]
struct Inner {
    current: BTreeMap<Vec<u8>, Bytes>,
    durable: BTreeMap<Vec<u8>, Bytes>,
    /// Keys written since the last flush: a flush copies these alone.
    unflushed: Vec<Vec<u8>>,
}

impl MemoryBackend {
    /// An empty backend.
    #[must_use]
    pub fn new() -> Self {
        MemoryBackend::default()
    }

    /// Forgets everything written since the last flush, as a crash of the machine would.
    pub fn crash(&self) {
        let mut inner = self.inner.lock();
        inner.current = inner.durable.clone();
        inner.unflushed.clear();
    }

    /// Every record, with the table's byte before its key; for comparisons in tests.
    #[must_use]
    pub fn dump(&self) -> Vec<(Vec<u8>, Bytes)> {
        self.inner
            .lock()
            .current
            .iter()
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    }
}

impl Backend for MemoryBackend {
    fn write(&self, batch: WriteBatch) -> Result<(), BackendError> {
        let mut inner = self.inner.lock();
        for (key, value) in batch.writes {
            match value {
                Some(value) => inner.current.insert(key.clone(), Bytes::from(value)),
                None => inner.current.remove(&key),
            };
            inner.unflushed.push(key);
        }
        Ok(())
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, BackendError> {
        Ok(self.inner.lock().current.get(&table.full_key(key)).cloned())
    }

    fn scan(
        &self,
        table: Table,
        range: KeyBounds<'_>,
        max: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, BackendError> {
        let (from, to) = full_bounds(table, range);
        let inner = self.inner.lock();
        Ok(inner
            .current
            .range((from, to))
            .take(max)
            .map(|(key, value)| (Bytes::copy_from_slice(&key[1..]), value.clone()))
            .collect())
    }

    fn flush(&self) -> Result<(), BackendError> {
        let mut inner = self.inner.lock();
        let Inner {
            current,
            durable,
            unflushed,
        } = &mut *inner;
        for key in unflushed.drain(..) {
            match current.get(&key) {
                Some(value) => durable.insert(key, value.clone()),
                None => durable.remove(&key),
            };
        }
        Ok(())
    }

    fn disk_bytes(&self) -> Result<u64, BackendError> {
        let inner = self.inner.lock();
        Ok(inner
            .durable
            .iter()
            .map(|(key, value)| (key.len() + value.len()) as u64)
            .sum())
    }
}

/// The bounds of a table's range among the keys of all tables.
pub(super) fn full_bounds(table: Table, range: KeyBounds<'_>) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    let from = match range.0 {
        Bound::Included(key) => Bound::Included(table.full_key(key)),
        Bound::Excluded(key) => Bound::Excluded(table.full_key(key)),
        Bound::Unbounded => Bound::Included(table.full_key(&[])),
    };
    let to = match range.1 {
        Bound::Included(key) => Bound::Included(table.full_key(key)),
        Bound::Excluded(key) => Bound::Excluded(table.full_key(key)),
        Bound::Unbounded => Bound::Excluded(vec![table.prefix() + 1]),
    };
    (from, to)
}

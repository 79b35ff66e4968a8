//! What the tests of the watch hub stand on: a naive store that keeps every revision and shows the hub a view of it,
//! and sinks whose room the test decides.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use proto::etcdserverpb::WatchResponse;
use proto::mvccpb::KeyValue;
use store::types::{Change, CommittedRevision, Revision, SharedRevision};
use store::watch::{HistoryView, Sink};

/// One write.
#[derive(Clone, Debug)]
pub enum Write {
    Put(String, String),
    Delete(String),
}

/// Every revision since the first write, and what of it is in memory or compacted.
#[derive(Default)]
pub struct Store {
    revisions: Vec<SharedRevision>,
    live: BTreeMap<Bytes, KeyValue>,
    compacted: i64,
    recent_first: i64,
}

impl Store {
    pub fn new() -> Self {
        Store {
            compacted: -1,
            recent_first: 2,
            ..Store::default()
        }
    }

    /// Applies a transaction; `None` if it changed nothing.
    pub fn write(&mut self, writes: &[Write]) -> Option<SharedRevision> {
        let main = self.current() + 1;
        let before = self.live.clone();
        let mut changes = Vec::new();
        for write in writes {
            let sub = changes.len() as i64;
            let change = match write {
                Write::Put(key, value) => Change {
                    revision: Revision::new(main, sub),
                    tombstone: false,
                    kv: self.put(key, value, main),
                },
                Write::Delete(key) => {
                    let Some(old) = self.live.remove(key.as_bytes()) else {
                        continue;
                    };
                    let kv = KeyValue {
                        key: old.key,
                        mod_revision: main,
                        ..KeyValue::default()
                    };
                    Change {
                        revision: Revision::new(main, sub),
                        tombstone: true,
                        kv,
                    }
                }
            };
            changes.push(change);
        }
        if changes.is_empty() {
            return None;
        }
        let previous = changes
            .iter()
            .map(|change| before.get(&change.kv.key).cloned())
            .collect();
        let revision = Arc::new(CommittedRevision {
            main,
            changes,
            previous,
        });
        self.revisions.push(revision.clone());
        Some(revision)
    }

    fn put(&mut self, key: &str, value: &str, main: i64) -> KeyValue {
        let old = self.live.get(key.as_bytes());
        let kv = KeyValue {
            key: Bytes::copy_from_slice(key.as_bytes()),
            value: Bytes::copy_from_slice(value.as_bytes()),
            create_revision: old.map_or(main, |old| old.create_revision),
            mod_revision: main,
            version: old.map_or(0, |old| old.version) + 1,
            lease: 0,
        };
        self.live.insert(kv.key.clone(), kv.clone());
        kv
    }

    pub fn compact(&mut self, revision: i64) {
        self.compacted = self.compacted.max(revision.min(self.current()));
    }

    /// Keeps only revisions from `first` on in memory.
    pub fn trim(&mut self, first: i64) {
        self.recent_first = self.recent_first.max(first.min(self.current() + 1));
    }

    /// The revision `main`, whole.
    pub fn revision(&self, main: i64) -> Option<&SharedRevision> {
        self.revisions.get(usize::try_from(main - 2).ok()?)
    }

    /// What a history read finds: compaction has removed what is not its key's newest at the compacted revision.
    pub fn history(&self, from: i64, to: i64, with_previous: bool) -> Result<Vec<SharedRevision>, i64> {
        if from < self.compacted {
            return Err(self.compacted);
        }
        let stored = (from..=to).filter_map(|main| self.stored(main, with_previous));
        Ok(stored.collect())
    }

    fn stored(&self, main: i64, with_previous: bool) -> Option<SharedRevision> {
        let whole = self.revision(main)?;
        let newest = |at: usize| {
            let key = &whole.changes[at].kv.key;
            whole.changes[at + 1..].iter().all(|later| later.kv.key != key)
        };
        let kept: Vec<usize> = (0..whole.changes.len())
            .filter(|&at| main > self.compacted || newest(at))
            .collect();
        let previous = |at: usize| {
            whole.previous[at]
                .clone()
                .filter(|_| with_previous && main > self.compacted)
        };
        (!kept.is_empty()).then(|| {
            Arc::new(CommittedRevision {
                main,
                changes: kept.iter().map(|&at| whole.changes[at].clone()).collect(),
                previous: kept.iter().map(|&at| previous(at)).collect(),
            })
        })
    }
}

impl HistoryView for Store {
    fn current(&self) -> i64 {
        1 + self.revisions.len() as i64
    }

    fn compacted(&self) -> i64 {
        self.compacted
    }

    fn recent_first(&self) -> i64 {
        self.recent_first
    }

    fn recent(&self, main: i64) -> Option<SharedRevision> {
        self.revision(main).filter(|_| main >= self.recent_first).cloned()
    }
}

/// The client's end of a sink: `room` places, freed by the test.
#[derive(Clone)]
pub struct Queue(Arc<Mutex<Places>>);

struct Places {
    room: usize,
    arrived: Vec<WatchResponse>,
}

impl Queue {
    pub fn new(room: usize) -> Self {
        Queue(Arc::new(Mutex::new(Places {
            room,
            arrived: Vec::new(),
        })))
    }

    /// Frees places.
    pub fn free(&self, places: usize) {
        let mut queue = self.0.lock();
        queue.room = queue.room.saturating_add(places);
    }

    pub fn room(&self) -> usize {
        self.0.lock().room
    }

    /// What arrived since the last call.
    pub fn arrived(&self) -> Vec<WatchResponse> {
        std::mem::take(&mut self.0.lock().arrived)
    }

    pub fn sink(&self) -> Box<dyn Sink> {
        Box::new(self.clone())
    }
}

impl Sink for Queue {
    fn offer(&mut self, response: WatchResponse) -> Result<(), WatchResponse> {
        let mut queue = self.0.lock();
        if queue.room == 0 {
            return Err(response);
        }
        queue.room -= 1;
        queue.arrived.push(response);
        Ok(())
    }

    fn room(&self) -> usize {
        self.0.lock().room
    }
}

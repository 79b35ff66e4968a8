//! What one revision changed: the unit that the log's entries become, the history keeps, watchers hear of and the
//! backend stores.

use std::sync::Arc;

use proto::mvccpb::{Event, KeyValue, event::EventType};

use super::Revision;

/// One change of one key.
#[derive(Clone, PartialEq, Debug)]
pub struct Change {
    /// Where in history; `revision.main` equals `kv.mod_revision`.
    pub revision: Revision,
    /// Whether the change deletes the key. Then `kv` holds only `key` and `mod_revision`.
    pub tombstone: bool,
    /// The key's state after the change.
    pub kv: KeyValue,
}

/// Everything one main revision changed, in execution order; shared by history, watchers and checkpoint.
#[derive(Clone, PartialEq, Debug)]
pub struct CommittedRevision {
    /// The main revision.
    pub main: i64,
    /// The changes, by sub revision from 0; never empty.
    pub changes: Vec<Change>,
    /// The live state of each changed key before this revision, in the order of `changes`; `None` where the change
    /// created the key. (Where a transaction changes one key twice, the later change's previous state is the one
    /// before the *transaction*: a watcher's prev_kv is the state at `main - 1`.)
    pub previous: Vec<Option<KeyValue>>,
}

impl CommittedRevision {
    /// The watch event of change number `at`.
    #[must_use]
    pub fn event(&self, at: usize, with_previous: bool) -> Event {
        let change = &self.changes[at];
        Event {
            r#type: if change.tombstone {
                EventType::Delete
            } else {
                EventType::Put
            }
            .into(),
            kv: Some(change.kv.clone()),
            prev_kv: if with_previous {
                self.previous[at].clone()
            } else {
                None
            },
        }
    }

    /// Bytes of keys and values that are to be stored.
    #[must_use]
    pub fn stored_bytes(&self) -> usize {
        let of = |change: &Change| change.kv.key.len() + change.kv.value.len();
        self.changes.iter().map(of).sum()
    }

    /// Bytes of keys and values, for the limits on what is kept in memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let of = |kv: &KeyValue| kv.key.len() + kv.value.len();
        self.changes.iter().map(|c| of(&c.kv)).sum::<usize>()
            + self.previous.iter().flatten().map(of).sum::<usize>()
    }
}

/// A shared revision.
pub type SharedRevision = Arc<CommittedRevision>;

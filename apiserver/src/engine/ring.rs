//! The newest changes of one resource, shared by all who watch it.
//!
//! Invariants: every change with a revision above `base` and up to `head` is in the ring, in the order of revisions and
//! once. Places are counted and never used twice, so that a reader who is overtaken knows it. Bounded in changes and in
//! bytes; what is pushed out raises `base`.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use super::item::Item;
use super::list::is_selected;
use super::storage::item_of;
use crate::etcd::Change;
use crate::resources::Resource;
use crate::select::{Fields, Labels};
use crate::status::Status;

/// One change of one object.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: Box<str>,
    pub(super) revision: i64,
    change: Result<What, Status>,
    pub(super) bytes: usize,
    /// What it was before as the last that is seen of it, for those whose selector it has left.
    left: OnceLock<Arc<Item>>,
}

/// What happened to the object.
#[derive(Debug)]
enum What {
    Added(Arc<Item>),
    /// What it is, and what it was, if that is known.
    Modified(Arc<Item>, Option<Arc<Item>>),
    /// What it was.
    Deleted(Arc<Item>),
}

/// A change as one client sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Seen {
    Added,
    Modified,
    Deleted,
}

impl Entry {
    /// A change, with what it was before from where it is known already.
    pub(super) fn of(r: &'static Resource, change: &Change, known: Option<Arc<Item>>) -> Entry {
        let revision = change.kv.mod_revision;
        let what = understand(r, change, known);
        let size = |item: &Arc<Item>| item.json().len();
        let bytes = match &what {
            Ok(What::Added(now) | What::Deleted(now)) => size(now),
            Ok(What::Modified(now, before)) => size(now) + before.as_ref().map_or(0, size),
            Err(status) => status.message.len(),
        };
        Entry {
            key: String::from_utf8_lossy(&change.kv.key).into(),
            revision,
            change: what,
            bytes: bytes + change.kv.key.len() + ENTRY_BYTES,
            left: OnceLock::new(),
        }
    }

    /// The change as a client sees it that selects by labels and fields; nothing where it does not concern it.
    pub(super) fn seen(&self, labels: &Labels, fields: &Fields) -> Result<Option<(Seen, Arc<Item>)>, Status> {
        let selected = |item: &Arc<Item>| is_selected(item, labels, fields);
        match self.change.as_ref().map_err(Clone::clone)? {
            What::Added(now) => Ok(selected(now)?.then(|| (Seen::Added, Arc::clone(now)))),
            What::Modified(now, _) if labels.is_everything() && fields.is_everything() => {
                Ok(Some((Seen::Modified, Arc::clone(now))))
            }
            What::Modified(now, before) => {
                let before = before.as_ref().ok_or_else(|| gone(self.revision))?;
                match (selected(before)?, selected(now)?) {
                    (true, true) => Ok(Some((Seen::Modified, Arc::clone(now)))),
                    (false, true) => Ok(Some((Seen::Added, Arc::clone(now)))),
                    (true, false) => Ok(Some((Seen::Deleted, self.left(before)?))),
                    (false, false) => Ok(None),
                }
            }
            What::Deleted(before) => match selected(before)? {
                true => Ok(Some((Seen::Deleted, self.left(before)?))),
                false => Ok(None),
            },
        }
    }

    /// What the object is after the change.
    fn now(&self) -> Option<&Arc<Item>> {
        match &self.change {
            Ok(What::Added(now) | What::Modified(now, _)) => Some(now),
            Ok(What::Deleted(_)) | Err(_) => None,
        }
    }

    /// What it was, with the revision at which it was seen no more.
    fn left(&self, before: &Arc<Item>) -> Result<Arc<Item>, Status> {
        if let Some(left) = self.left.get() {
            return Ok(Arc::clone(left));
        }
        let left = Arc::new(before.at(self.revision)?);
        left.forget();
        before.forget();
        Ok(Arc::clone(self.left.get_or_init(|| left)))
    }

    /// Frees what was parsed for clients that are up to date.
    fn forget(&self) {
        match &self.change {
            Ok(What::Added(item) | What::Deleted(item)) => item.forget(),
            Ok(What::Modified(now, before)) => {
                now.forget();
                if let Some(before) = before {
                    before.forget();
                }
            }
            Err(_) => {}
        }
        if let Some(left) = self.left.get() {
            left.forget();
        }
    }
}

fn understand(r: &'static Resource, change: &Change, known: Option<Arc<Item>>) -> Result<What, Status> {
    let Change { kv, before, deleted } = change;
    let before = match (known, before) {
        (Some(known), _) => Some(known),
        (None, Some(before)) => Some(Arc::new(item_of(r, &before.value, before.mod_revision)?)),
        (None, None) => None,
    };
    if *deleted {
        // It was compacted before the watch came to it.
        return Ok(What::Deleted(before.ok_or_else(|| gone(kv.mod_revision))?));
    }
    let now = Arc::new(item_of(r, &kv.value, kv.mod_revision)?);
    Ok(match kv.create_revision == kv.mod_revision {
        true => What::Added(now),
        false => What::Modified(now, before),
    })
}

/// The history that is needed to tell of a change is no more.
pub(super) fn gone(revision: i64) -> Status {
    Status::expired(format!("too old resource version: {} ({revision})", revision - 1))
}

/// The changes.
#[derive(Debug)]
pub(super) struct Ring {
    base: i64,
    head: i64,
    /// The revision of the newest change that was put in.
    last: i64,
    /// The place of the first change that is there.
    first: u64,
    entries: VecDeque<Arc<Entry>>,
    bytes: usize,
    events_max: usize,
    bytes_max: usize,
}

/// Where a reader stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Cursor {
    /// The next place it reads.
    at: u64,
    /// Changes up to this revision are nothing new to it.
    after: i64,
}

/// What a reader finds.
#[derive(Debug)]
pub(super) enum Read {
    /// The next change of what it reads.
    Change(Arc<Entry>),
    /// Nothing more. Everything up to this revision has been read.
    UpTo(i64),
    /// It was overtaken: the oldest change that is there is of a revision above this.
    Overtaken(i64),
}

impl Ring {
    /// A ring that will hold all changes after a revision.
    pub(super) fn after(base: i64, events_max: usize, bytes_max: usize) -> Ring {
        Ring {
            base,
            head: base,
            last: base,
            first: 0,
            entries: VecDeque::new(),
            bytes: 0,
            events_max,
            bytes_max,
        }
    }

    pub(super) fn base(&self) -> i64 {
        self.base
    }

    pub(super) fn head(&self) -> i64 {
        self.head
    }

    /// Everything up to a revision has been told.
    pub(super) fn reach(&mut self, revision: i64) {
        self.head = self.head.max(revision);
    }

    /// Puts changes in, all of every revision among them. What is here already is left out.
    pub(super) fn push(&mut self, entries: Vec<Entry>) {
        let before = self.last;
        for entry in entries {
            if entry.revision <= before {
                continue;
            }
            assert!(
                entry.revision >= self.last,
                "a change of revision {} comes after one of {}",
                entry.revision,
                self.last
            );
            self.last = entry.revision;
            self.head = self.head.max(entry.revision);
            self.bytes += entry.bytes;
            self.entries.push_back(Arc::new(entry));
        }
        while self.entries.len() > self.events_max || self.bytes > self.bytes_max {
            let Some(oldest) = self.entries.pop_front() else {
                break;
            };
            self.first += 1;
            self.bytes -= oldest.bytes;
            self.base = oldest.revision;
        }
        // Whoever comes late parses again: what was parsed is several times as large as the text.
        let parsed = self.entries.len().saturating_sub(PARSED_EVENTS_MAX);
        let unparsed = parsed.saturating_sub(PARSED_EVENTS_MAX);
        for entry in self.entries.range(unparsed..parsed) {
            entry.forget();
        }
    }

    /// What an object was at this revision, if the change that made it so is here.
    pub(super) fn known(&self, key: &[u8], revision: i64) -> Option<Arc<Item>> {
        let start = self.entries.partition_point(|entry| entry.revision < revision);
        self.entries
            .range(start..)
            .take_while(|entry| entry.revision == revision)
            .find(|entry| entry.key.as_bytes() == key)
            .and_then(|entry| entry.now().cloned())
    }

    /// A place to read from on for somebody who knows everything up to a revision; nothing if not all that came after is
    /// here.
    pub(super) fn join(&self, after: i64) -> Option<Cursor> {
        if after < self.base {
            return None;
        }
        let known = self.entries.partition_point(|entry| entry.revision <= after);
        Some(Cursor {
            at: self.first + known as u64,
            after,
        })
    }

    /// The next change of a key with this prefix.
    pub(super) fn read(&self, cursor: &mut Cursor, prefix: &str) -> Read {
        let Some(skip) = cursor.at.checked_sub(self.first) else {
            return Read::Overtaken(self.base);
        };
        let skip = usize::try_from(skip)
            .unwrap_or(usize::MAX)
            .min(self.entries.len());
        for entry in self.entries.range(skip..) {
            cursor.at += 1;
            if entry.revision > cursor.after && entry.key.starts_with(prefix) {
                return Read::Change(Arc::clone(entry));
            }
        }
        Read::UpTo(self.head)
    }
}

/// What a change takes beside its objects and its key.
const ENTRY_BYTES: usize = 200;
/// How many of the newest changes may be parsed at the same time.
const PARSED_EVENTS_MAX: usize = 128;

#[cfg(test)]
mod tests;

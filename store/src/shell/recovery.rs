//! Reading a state back: from the working copy where it is whole, else from the newest snapshot file, out of which a
//! new working copy is built.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use super::bootstrap::{Folders, World};
use super::open_error::OpenError;
use super::snapshots::{self, Item};
use crate::alarm::Alarms;
use crate::apply::{State, StateParts};
use crate::auth::AuthState;
use crate::backend::{self, Backend, Checkpoint, Import, Load, StateStore, Table, TableWrite, WriteBatch};
use crate::lease::Lessor;
use crate::membership::Membership;
use crate::mvcc::{Mvcc, Restore};
use crate::types::{Change, Index, LeaseId, Term};
use crate::wal::Metadata;
use crate::wal::snapshot::{SnapshotMeta, SnapshotReader, newest_valid};

/// A state being read back.
#[derive(Default)]
struct Restored {
    position: Option<Position>,
    history: Option<Restore>,
    tables: Vec<(Table, Bytes, Bytes)>,
}

/// Where a state stands.
#[derive(Clone, Copy)]
struct Position {
    applied: Index,
    term: Term,
    revision: i64,
}

impl Restored {
    fn begin(&mut self, position: Position, compacted: i64, compaction_finished: bool) {
        self.position = Some(position);
        self.history = Some(Restore::new(compacted, compaction_finished));
    }

    /// Takes a part of a snapshot.
    fn take(&mut self, meta: SnapshotMeta, item: &Item) {
        match item {
            Item::Head(head) => {
                let position = Position {
                    applied: meta.index,
                    term: meta.term,
                    revision: meta.revision,
                };
                self.begin(position, head.compacted, false);
            }
            Item::Row(table, key, value) => self.tables.push((*table, key.clone(), value.clone())),
            Item::Change(change) => self.push(change),
        }
    }

    fn push(&mut self, change: &Change) {
        self.history.as_mut().expect("begin() comes first").push(change);
    }

    /// The state, if one was begun.
    fn take_state(&mut self) -> Result<Option<State>, OpenError> {
        let (Some(position), Some(history)) = (self.position.take(), self.history.take()) else {
            return Ok(None);
        };
        let rows = |wanted: Table| -> Vec<(Bytes, Bytes)> {
            let of_table = self.tables.iter().filter(|(table, ..)| *table == wanted);
            of_table
                .map(|(_, key, value)| (key.clone(), value.clone()))
                .collect()
        };
        let undecodable = |table, reason: &dyn std::fmt::Display| OpenError::Table {
            table,
            reason: reason.to_string(),
        };
        let mut lessor =
            Lessor::decode(&rows(Table::Lease)).map_err(|error| undecodable("leases", &error))?;
        let membership =
            Membership::decode(&rows(Table::Member)).map_err(|error| undecodable("members", &error))?;
        let alarms = Alarms::decode(&rows(Table::Alarm)).map_err(|error| undecodable("alarms", &error))?;
        let auth = AuthState::decode(&rows(Table::Auth)).map_err(|error| undecodable("auth", &error))?;
        let attach = |lease: LeaseId, key: &Bytes| lessor.attach(lease, key.clone());
        let mvcc: Mvcc = history.finish(position.revision, attach);
        let parts = StateParts {
            mvcc,
            lessor,
            membership,
            alarms,
            auth,
        };
        let applied = (position.applied, position.term);
        Ok(Some(State::restore(parts, applied)))
    }
}

/// What was found of the working copy.
pub(super) enum WorkingCopy {
    Whole(StateStore, Box<State>),
    /// Nothing, or something that was set aside: an empty one to be filled.
    Empty(Arc<dyn Backend>),
}

/// Reads the working copy.
pub(super) fn working_copy(
    world: &World,
    folders: &Folders,
    metadata: Metadata,
) -> Result<WorkingCopy, OpenError> {
    let mut restored = Restored::default();
    let mut visit = |load: Load| match load {
        Load::Begin(meta) => {
            let position = Position {
                applied: meta.applied,
                term: meta.term,
                revision: meta.revision,
            };
            restored.begin(position, meta.compacted, meta.compaction_finished);
        }
        Load::Change(change) => restored.push(&change),
    };
    let (backend, loaded) = match &world.backend {
        Some(backend) => (
            Arc::clone(backend),
            backend::load(Arc::clone(backend), &mut visit)?,
        ),
        None => {
            let opened = backend::open_guarded(&folders.member, &mut visit)?;
            if let Some(aside) = &opened.aside {
                tracing::warn!(
                    reason = %aside.reason,
                    kept_at = %aside.path.display(),
                    "the working copy was damaged: it is set aside and rebuilt from the snapshot and the log"
                );
            }
            (opened.backend, opened.loaded)
        }
    };
    let Some(loaded) = loaded else {
        return Ok(WorkingCopy::Empty(backend));
    };
    if (loaded.meta.cluster, loaded.meta.member) != (metadata.cluster, metadata.member) {
        return Err(OpenError::MixedParts {
            part: folders.sled.clone(),
            path: folders.member.clone(),
        });
    }
    restored.tables = loaded.tables;
    let state = restored
        .take_state()?
        .expect("a working copy that was loaded began with its meta record");
    Ok(WorkingCopy::Whole(loaded.store, Box::new(state)))
}

/// Which snapshot file a working copy is built from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Source {
    /// The newest that is whole.
    Newest,
    /// That of index 0, which the folder began with.
    Founding,
}

/// Builds state and working copy from a snapshot file.
pub(super) fn rebuild(
    world: &World,
    folders: &Folders,
    metadata: Metadata,
    backend: Arc<dyn Backend>,
    source: Source,
) -> Result<(StateStore, State), OpenError> {
    let mut reader = match source {
        Source::Newest => newest(world, folders)?,
        Source::Founding => SnapshotReader::open(world.disk.as_ref(), &folders.snap, Index(0))?,
    };
    if reader.meta().cluster != metadata.cluster {
        return Err(OpenError::MixedParts {
            part: folders.snap.clone(),
            path: folders.member.clone(),
        });
    }
    build(&mut reader, metadata, backend)
}

/// State and working copy out of a snapshot.
pub(super) fn build(
    reader: &mut SnapshotReader,
    metadata: Metadata,
    backend: Arc<dyn Backend>,
) -> Result<(StateStore, State), OpenError> {
    let meta = reader.meta();
    let mut restored = Restored::default();
    let store = import(reader, metadata, backend, &mut |item| restored.take(meta, item))?;
    let state = restored
        .take_state()?
        .ok_or(OpenError::Headless { index: meta.index })?;
    Ok((store, state))
}

fn newest(world: &World, folders: &Folders) -> Result<SnapshotReader, OpenError> {
    let newest = newest_valid(world.disk.as_ref(), &folders.snap)?;
    for damaged in &newest.damaged {
        tracing::error!(%damaged, "a snapshot file is damaged");
    }
    newest.reader.ok_or_else(|| OpenError::NoSnapshot {
        path: folders.snap.clone(),
        found: match newest.damaged.first() {
            Some(damaged) => damaged.to_string(),
            None => "there is none".to_owned(),
        },
    })
}

/// The state in a snapshot, without a working copy.
pub(super) fn state_of(reader: &mut SnapshotReader) -> Result<State, OpenError> {
    let mut restored = Restored::default();
    let meta = reader.meta();
    snapshots::read(reader, &mut |item| restored.take(meta, &item))?;
    restored
        .take_state()?
        .ok_or(OpenError::Headless { index: meta.index })
}

/// Brings a snapshot into an empty backend, and shows `visit` all of it.
pub(super) fn import(
    reader: &mut SnapshotReader,
    metadata: Metadata,
    backend: Arc<dyn Backend>,
    visit: &mut dyn FnMut(&Item),
) -> Result<StateStore, OpenError> {
    let meta = reader.meta();
    let mut import = Import::new(backend, metadata.cluster, metadata.member);
    let mut checkpoint = Checkpoint {
        applied: meta.index,
        term: meta.term,
        revision: meta.revision,
        compacted: -1,
        ..Checkpoint::default()
    };
    let mut failed = None;
    let mut revision: Vec<Change> = Vec::new();
    snapshots::read(reader, &mut |item| {
        visit(&item);
        match item {
            Item::Head(head) => checkpoint.compacted = head.compacted,
            Item::Row(table, key, value) => checkpoint.tables.push(TableWrite {
                table,
                key,
                value: Some(value),
            }),
            Item::Change(change) => {
                if revision
                    .first()
                    .is_some_and(|first| first.revision.main != change.revision.main)
                {
                    failed = failed.take().or_else(|| import.push(&revision).err());
                    revision.clear();
                }
                revision.push(change);
            }
        }
    })?;
    if let Some(error) = failed.or_else(|| import.push(&revision).err()) {
        return Err(error.into());
    }
    let store = import.finish(&checkpoint)?;
    tracing::info!(
        index = meta.index.0,
        revision = meta.revision,
        "the working copy was built from a snapshot file"
    );
    Ok(store)
}

/// An empty backend in place of a working copy that is of no use. Nobody may have that open.
pub(super) fn emptied(world: &World, folders: &Folders) -> Result<Arc<dyn Backend>, OpenError> {
    match &world.backend {
        // Only simulations bring their own. After a crash it is back at its last flush, which the log's beginning may
        // have passed.
        Some(backend) => {
            let mut batch = WriteBatch::default();
            for table in Table::ALL {
                let everything = (Bound::Unbounded, Bound::Unbounded);
                for (key, _) in backend.scan(table, everything, usize::MAX)? {
                    batch.remove(table, &key);
                }
            }
            backend.write(batch)?;
            Ok(Arc::clone(backend))
        }
        None => Ok(backend::renew(&folders.member)?),
    }
}

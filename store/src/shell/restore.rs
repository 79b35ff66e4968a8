//! A new data folder that holds a state of another store: a backup's, or what another folder covers.
//!
//! The folder gets a snapshot file with everything but the membership, which is a new cluster's, and then a log that begins
//! behind it. As after a founding, the folder counts from the moment it has a log. The members of the new cluster write
//! the same snapshot each for itself; that it is the same is part of the cluster's id: it is made of the founding members,
//! as ever, and of where the state comes from. So members that were restored from different states, or that found an
//! empty cluster of the same members by mistake, refuse each other instead of differing in silence.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use proto::etcdserverpb::InternalRaftRequest;

use super::bootstrap::Folders;
use super::export::Content;
use super::founding;
use super::maintenance::SnapshotJob;
use super::open_error::OpenError;
use super::settings::Settings;
use super::snapshots::{self, Sections};
use crate::alarm::Alarms;
use crate::apply::{CommittedEntry, State};
use crate::backend::Table;
use crate::env::real::{OsEntropy, ReadOnlyDisk, RealDisk};
use crate::env::{DirLock, Disk, Entropy as _, create_dir_durably};
use crate::lease::Lessor;
use crate::membership::{self, MemberChange, Membership};
use crate::types::{Change, ClusterId, EntryKind, Index, LeaseId, MemberId, Term};
use crate::wal::snapshot::{self, SnapshotError, SnapshotReader};
use crate::wal::{self, Logged, Metadata, Wal, WalError};

/// Why there is no new folder.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// What would be written over.
    #[error("data-dir {:?} not empty or could not be read", path.display().to_string())]
    NotEmpty {
        /// The folder.
        path: PathBuf,
    },
    /// A log of its own folder would be written over.
    #[error("wal-dir {:?} exists", path.display().to_string())]
    WalExists {
        /// The log's folder.
        path: PathBuf,
    },
    /// The wanted revision is not to be had from the folder.
    #[error("revision {wanted} is not covered: {} covers the revisions from {first} to {last}", path.display())]
    NotCovered {
        /// The folder.
        path: PathBuf,
        /// The revision wanted.
        wanted: i64,
        /// The first one covered.
        first: i64,
        /// The last one covered.
        last: i64,
    },
    /// An entry that does not decode.
    #[error("entry {index} of the log cannot be read: {reason}")]
    Entry {
        /// Its index.
        index: Index,
        /// What the decoder says.
        reason: String,
    },
    /// As when a store is opened.
    #[error(transparent)]
    Open(#[from] OpenError),
}

impl From<SnapshotError> for RestoreError {
    fn from(error: SnapshotError) -> Self {
        RestoreError::Open(error.into())
    }
}

impl From<WalError> for RestoreError {
    fn from(error: WalError) -> Self {
        RestoreError::Open(error.into())
    }
}

/// Who a restored member is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NewMember {
    /// Its cluster.
    pub cluster: ClusterId,
    /// Its own id.
    pub member: MemberId,
}

/// A folder being written. Dropped before [`NewFolder::finish`], it leaves empty folders at most.
pub struct NewFolder {
    disk: Arc<dyn Disk>,
    folders: Folders,
    member: NewMember,
    sections: Sections,
    job: SnapshotJob,
    leases: LostLeases,
    _lock: Box<dyn DirLock>,
}

impl NewFolder {
    /// Begins the folder of the member that `settings` describe, for the state that `content` describes; its members are
    /// of no interest. `origin` tells the state from all others. Keys whose lease is not part of the content keep it for
    /// `lost_lease_ttl_s`, if given.
    ///
    /// # Errors
    /// Where the settings are not those of a founding member, where the folder is not empty, and those of the disk.
    pub fn begin(
        settings: &Settings,
        content: &Content,
        origin: &[u8],
        lost_lease_ttl_s: Option<i64>,
    ) -> Result<NewFolder, RestoreError> {
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let folders = Folders::of(settings);
        let (mut membership, member) = founding::founders(settings)?;
        membership.refound(origin);
        // Who has a name counts as one that has started: should it lose its disk, it must not be taken for a new one.
        for (name, urls) in &settings.initial_cluster {
            let id = membership::member_id(urls, &settings.initial_cluster_token);
            membership.publish(id, name.clone(), Vec::new());
        }
        refuse_occupied(disk.as_ref(), settings)?;
        let unwritable = |source| OpenError::Unwritable {
            path: settings.data_dir.clone(),
            source,
        };
        create_dir_durably(disk.as_ref(), &folders.member).map_err(unwritable)?;
        let lock = disk.lock_dir(&folders.member).map_err(unwritable)?;
        let job = SnapshotJob {
            // A log that begins at its first entry would be taken for one that holds everything.
            applied: content.applied.max(Index(1)),
            term: content.term.max(Term(1)),
            revision: content.revision,
            compacted: content.compacted,
            tables: tables(&membership, content),
        };
        let cluster = membership.cluster_id();
        let sections = Sections::begin(&disk, &folders.snap, cluster, &job)?;
        Ok(NewFolder {
            disk,
            folders,
            member: NewMember { cluster, member },
            sections,
            job,
            leases: LostLeases::new(content, lost_lease_ttl_s),
            _lock: lock,
        })
    }

    /// Takes the next changes: main revisions, whole and ascending.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn changes(&mut self, changes: &[Change]) -> Result<(), RestoreError> {
        self.leases.take(changes);
        Ok(self.sections.changes(changes)?)
    }

    /// Makes it a folder that a member starts from.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn finish(mut self) -> Result<NewMember, RestoreError> {
        self.sections.rows(&self.leases.rows())?;
        self.sections.finish()?;
        let metadata = Metadata {
            cluster: self.member.cluster,
            member: self.member.member,
        };
        let config = wal::Config {
            salt: OsEntropy.next_u64(),
            mark: Some(self.folders.mark()),
            ..wal::Config::default()
        };
        let mut wal = Wal::create(self.disk, &self.folders.wal, metadata, config)?;
        // A start would do the same; so the log says of itself where it begins.
        wal.append(&[wal::Append {
            restart: Some(wal::Position {
                index: self.job.applied,
                term: self.job.term,
            }),
            entries: Vec::new(),
            hard_state: Some(wal::HardState {
                term: self.job.term,
                vote: MemberId(0),
                commit: self.job.applied,
            }),
        }])?;
        Ok(self.member)
    }
}

/// Nothing is ever written over.
fn refuse_occupied(disk: &dyn Disk, settings: &Settings) -> Result<(), RestoreError> {
    let is_missing = |error: &std::io::Error| error.kind() == std::io::ErrorKind::NotFound;
    match disk.list(&settings.data_dir) {
        Ok(names) if names.is_empty() => {}
        Err(error) if is_missing(&error) => {}
        _ => {
            return Err(RestoreError::NotEmpty {
                path: settings.data_dir.clone(),
            });
        }
    }
    match &settings.wal_dir {
        Some(path) if !matches!(disk.list(path), Err(error) if is_missing(&error)) => {
            Err(RestoreError::WalExists { path: path.clone() })
        }
        _ => Ok(()),
    }
}

/// The small tables of the new folder: the new cluster's members, the state's alarms, leases, users and roles. The cluster's version is
/// decided anew, by its members.
fn tables(membership: &Membership, content: &Content) -> Vec<(Table, Bytes, Bytes)> {
    let mut alarms = Alarms::new();
    for alarm in &content.alarms {
        alarms.activate(MemberId(alarm.member_id), alarm.alarm());
    }
    let rows = |table: Table, rows: Vec<(Bytes, Bytes)>| {
        rows.into_iter().map(move |(key, value)| (table, key, value))
    };
    rows(Table::Member, membership.encode())
        .chain(rows(Table::Alarm, alarms.encode()))
        .chain(rows(Table::Lease, content.leases.clone()))
        .chain(rows(Table::Auth, content.auth.encode()))
        .collect()
}

/// Leases that keys refer to and that are not there.
struct LostLeases {
    ttl_s: Option<i64>,
    known: BTreeSet<LeaseId>,
    /// Keys that have one of the others, so far.
    keys: BTreeMap<Bytes, LeaseId>,
}

impl LostLeases {
    fn new(content: &Content, ttl_s: Option<i64>) -> Self {
        let id = |key: &Bytes| Some(LeaseId(i64::from_be_bytes(key.as_ref().try_into().ok()?)));
        LostLeases {
            ttl_s,
            known: content.leases.iter().filter_map(|(key, _)| id(key)).collect(),
            keys: BTreeMap::new(),
        }
    }

    fn take(&mut self, changes: &[Change]) {
        if self.ttl_s.is_none() {
            return;
        }
        for change in changes {
            let lease = LeaseId(change.kv.lease);
            if change.tombstone || lease == LeaseId(0) || self.known.contains(&lease) {
                self.keys.remove(&change.kv.key);
            } else {
                self.keys.insert(change.kv.key.clone(), lease);
            }
        }
    }

    /// Records of them.
    fn rows(&self) -> Vec<(Table, Bytes, Bytes)> {
        let mut lessor = Lessor::new();
        for lease in self.keys.values() {
            // Each once.
            lessor.grant(*lease, self.ttl_s.unwrap_or_default()).ok();
        }
        let rows = lessor.encode().into_iter();
        rows.map(|(key, value)| (Table::Lease, key, value)).collect()
    }
}

/// A state that the folder of a stopped member covers: a snapshot file, and the log behind it up to some entry.
pub struct Covered {
    dir: PathBuf,
    wal: PathBuf,
    config: wal::Config,
    snap: PathBuf,
    /// The snapshot file to begin with.
    snapshot: Index,
    cluster: ClusterId,
    wanted: Option<i64>,
    /// No entry behind this one is known to be committed.
    committed: Index,
    content: Content,
    /// Whether the snapshot is newer than the wanted revision.
    is_cut: bool,
}

impl Covered {
    /// Finds the state at revision `wanted`, or the newest one.
    ///
    /// # Errors
    /// `NotCovered`, and those of reading the folder. Nothing in it is changed.
    pub fn find(
        data_dir: &Path,
        wal_dir: Option<&Path>,
        wanted: Option<i64>,
    ) -> Result<Covered, RestoreError> {
        let mut folders = Folders::new(data_dir);
        if let Some(wal) = wal_dir {
            folders.wal = wal.to_owned();
        }
        let config = wal::Config {
            mark: Some(folders.mark()),
            ..wal::Config::default()
        };
        let log = wal::read(&ReadOnlyDisk, &folders.wal, Index(u64::MAX), &config)?;
        let mut indexes = snapshot::list(&ReadOnlyDisk, &folders.snap)?;
        indexes.reverse();
        let (mut oldest, mut damaged) = (None, None);
        for index in indexes {
            let reader = match SnapshotReader::open(&ReadOnlyDisk, &folders.snap, index) {
                Err(error @ SnapshotError::Corrupt { .. }) => {
                    damaged = damaged.or(Some(error));
                    continue;
                }
                opened => opened?,
            };
            let revision = reader.meta().revision;
            oldest = Some(reader);
            if wanted.is_none_or(|wanted| revision <= wanted) {
                break;
            }
        }
        let Some(mut reader) = oldest else {
            let found = damaged.map_or_else(|| "there is none".to_owned(), |damaged| damaged.to_string());
            return Err(OpenError::NoSnapshot {
                path: folders.snap,
                found,
            }
            .into());
        };
        let meta = reader.meta();
        let state = super::recovery::state_of(&mut reader)?;
        // What the only voter has on its disk is committed. Of several, only what this one was told of.
        let voters = state.membership.iter().filter(|member| !member.is_learner);
        let alone = voters.count() == 1;
        let mut covered = Covered {
            dir: data_dir.to_owned(),
            wal: folders.wal,
            config,
            snap: folders.snap,
            snapshot: meta.index,
            cluster: meta.cluster,
            wanted,
            committed: if alone {
                log.last.index
            } else {
                log.hard_state.commit
            },
            is_cut: wanted.is_some_and(|wanted| wanted < meta.revision),
            content: Content::of(&state),
        };
        covered.settle(state)?;
        Ok(covered)
    }

    /// Everything but the history of keys.
    #[must_use]
    pub fn content(&self) -> &Content {
        &self.content
    }

    /// Whether leases may be missing that keys refer to: they ended between the wanted revision and what is known of them.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// What tells this state from all others: its place in the history of its cluster.
    #[must_use]
    pub fn origin(&self) -> Vec<u8> {
        let content = &self.content;
        let place = [self.cluster.0, content.applied.0, content.term.0];
        let mut origin = place.map(u64::to_be_bytes).concat();
        origin.extend_from_slice(&content.revision.to_be_bytes());
        origin
    }

    /// Shows the history, a few whole main revisions at a time.
    ///
    /// # Errors
    /// Those of reading the folder, and those of `show`.
    pub fn changes(
        &self,
        show: &mut dyn FnMut(&[Change]) -> Result<(), RestoreError>,
    ) -> Result<(), RestoreError> {
        let mut reader = SnapshotReader::open(&ReadOnlyDisk, &self.snap, self.snapshot)?;
        let last = self.content.revision;
        let mut failed = None;
        let mut revision: Vec<Change> = Vec::new();
        snapshots::read(&mut reader, &mut |item| {
            let snapshots::Item::Change(change) = item else {
                return;
            };
            let begins = revision
                .first()
                .is_none_or(|first| first.revision.main != change.revision.main);
            if begins && !revision.is_empty() {
                failed = failed.take().or_else(|| show(&revision).err());
                revision.clear();
            }
            if change.revision.main <= last {
                revision.push(change);
            }
        })
        .map_err(OpenError::from)?;
        if let Some(error) = failed {
            return Err(error);
        }
        if !revision.is_empty() {
            show(&revision)?;
        }
        if self.is_cut {
            return Ok(());
        }
        let mut state = super::recovery::state_of(&mut reader)?;
        self.replay(&mut state, show)
    }

    /// Brings `content` to what is wanted.
    fn settle(&mut self, mut state: State) -> Result<(), RestoreError> {
        let first = self.content.compacted.max(1);
        if let (true, Some(wanted)) = (self.is_cut, self.wanted) {
            if wanted < first {
                let wanted_none = self.wanted.take();
                self.replay(&mut state, &mut |_| Ok(()))?;
                self.wanted = wanted_none;
                return Err(self.not_covered(wanted, first, state.mvcc.current()));
            }
            self.content.revision = wanted;
            return Ok(());
        }
        self.replay(&mut state, &mut |_| Ok(()))?;
        self.content = Content::of(&state);
        match self.wanted {
            Some(wanted) if wanted != state.mvcc.current() => {
                Err(self.not_covered(wanted, first, state.mvcc.current()))
            }
            _ => Ok(()),
        }
    }

    fn not_covered(&self, wanted: i64, first: i64, last: i64) -> RestoreError {
        RestoreError::NotCovered {
            path: self.dir.clone(),
            wanted,
            first,
            last,
        }
    }

    /// Applies the log behind the state up to the entry that makes the wanted revision.
    fn replay(
        &self,
        state: &mut State,
        show: &mut dyn FnMut(&[Change]) -> Result<(), RestoreError>,
    ) -> Result<(), RestoreError> {
        let mut failed = None;
        wal::walk(&ReadOnlyDisk, &self.wal, &self.config, &mut |record| {
            let Logged::Entry {
                kind,
                term,
                index,
                data,
            } = record
            else {
                return true;
            };
            let current = state.mvcc.current();
            if index > self.committed || self.wanted.is_some_and(|wanted| current >= wanted) {
                return false;
            }
            if index <= state.applied() {
                return true;
            }
            let applied = EntryKind::of(kind)
                .ok_or_else(|| OpenError::EntryKind { index, kind }.into())
                .and_then(|kind| {
                    let entry = CommittedEntry {
                        term,
                        index,
                        kind,
                        data: Bytes::copy_from_slice(data),
                    };
                    self.apply(state, &entry, show)
                });
            match applied {
                Ok(()) => true,
                Err(error) => {
                    failed = Some(error);
                    false
                }
            }
        })?;
        failed.map_or(Ok(()), Err)
    }

    fn apply(
        &self,
        state: &mut State,
        entry: &CommittedEntry,
        show: &mut dyn FnMut(&[Change]) -> Result<(), RestoreError>,
    ) -> Result<(), RestoreError> {
        if entry.index != state.applied().next() {
            return Err(RestoreError::from(WalError::Gap {
                path: self.wal.clone(),
                wanted: state.applied().next(),
                first: entry.index,
            }));
        }
        let unreadable = |reason: &dyn std::fmt::Display| RestoreError::Entry {
            index: entry.index,
            reason: reason.to_string(),
        };
        match entry.kind {
            EntryKind::Request => {
                InternalRaftRequest::decode(entry.data.clone()).map_err(|error| unreadable(&error))?;
            }
            EntryKind::Change => {
                MemberChange::decode(&entry.data).map_err(|error| unreadable(&error))?;
            }
        }
        let applied = state.apply(entry);
        if let Some(committed) = applied.committed {
            show(&committed.changes)?;
            state.mvcc.checkpointed(committed.main);
        }
        Ok(())
    }
}

//! Opening a store: who this member is, what the disk holds, and the ordered start of the actors.
//!
//! The truth is the newest snapshot file and the log after it; the working copy is a quicker way to the same state.
//! Whatever is wrong with the working copy, it is set aside and rebuilt. Whatever is wrong with the truth is refused
//! with a line that says what and where.
//!
//! A new data folder gets a snapshot of index 0 that holds the founding members, then a log. A folder counts as
//! founded once it has a log, so a crash between the two begins anew.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::RwLock;
use tokio::sync::{mpsc, watch};

use super::actors::{CheckpointWriter, LogWriter};
use super::driver::Driver;
use super::maintenance::{Maintenance, SnapshotJob};
use super::member::Member;
use super::settings::Settings;
use super::shared::{Dirty, Offload, Pins, Published, Shared};
use super::snapshots::{self, Item};
use crate::alarm::Alarms;
use crate::apply::State;
use crate::backend::{self, Backend, BackendError, Checkpoint, Import, Load, StateStore, Table, TableWrite};
use crate::consensus::{LogEntry, LogState, Node, NodeConfig, Tail, TailLimits};
use crate::env::real::{OsEntropy, RealClock, RealDisk};
use crate::env::{Clock, DirLock, Disk, Entropy};
use crate::lease::Lessor;
use crate::membership::{self, Membership};
use crate::mvcc::{Mvcc, Restore};
use crate::types::{Change, ClusterId, Index, LeaseId, MemberId, Term};
use crate::wal::snapshot::{SnapshotError, newest_valid};
use crate::wal::{self, Metadata, Wal, WalError};
use crate::watch::Hub;

/// Why a store cannot be opened. Each is one clear line; nothing on the disk was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has the folder open.
    #[error("data directory {} is in use by another process", path.display())]
    Locked {
        /// The folder.
        path: PathBuf,
    },
    /// The folder cannot be made or written.
    #[error("data directory {} cannot be written", path.display())]
    Unwritable {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The folder holds the data of a real etcd.
    #[error(
        "data directory {} holds the data of etcd: take a snapshot there with `etcdctl snapshot save`, or copy the \
         keys with `etcdctl make-mirror`, and start with another directory",
        path.display()
    )]
    EtcdData {
        /// The folder.
        path: PathBuf,
    },
    /// The settings contradict each other.
    #[error("member {name:?} is not in the initial cluster")]
    NotInInitialCluster {
        /// The name.
        name: String,
    },
    /// The peer URLs differ from those in the initial cluster.
    #[error("member {name:?} advertises other peer URLs than the initial cluster gives it")]
    PeerUrlsDiffer {
        /// The name.
        name: String,
    },
    /// More members than this version can run.
    #[error("the initial cluster has {members} members; this version runs clusters of one")]
    TooManyMembers {
        /// How many.
        members: usize,
    },
    /// A new data folder cannot join a cluster in this version.
    #[error("joining an existing cluster is not supported by this version")]
    JoinUnsupported,
    /// The data belong to another member.
    #[error(
        "data directory {} belongs to member {found_name:?} ({found}), not to {name:?}: check --name and --data-dir",
        path.display()
    )]
    OtherMember {
        /// The folder.
        path: PathBuf,
        /// Whose it is.
        found: MemberId,
        /// The name of that member.
        found_name: String,
        /// The name in the settings.
        name: String,
    },
    /// The data belong to another cluster.
    #[error(
        "data directory {} belongs to cluster {found}, not to {expected}: check --initial-cluster-token and --data-dir",
        path.display()
    )]
    OtherCluster {
        /// The folder.
        path: PathBuf,
        /// Whose it is.
        found: ClusterId,
        /// Whose the settings expect.
        expected: ClusterId,
    },
    /// Parts of the folder belong to different members or clusters.
    #[error("{} is not of the member that {} belongs to: the parts of a data directory must stay together", part.display(), path.display())]
    MixedParts {
        /// The part that does not belong.
        part: PathBuf,
        /// The folder.
        path: PathBuf,
    },
    /// The state is further than the log.
    #[error(
        "the state in {} is at index {applied}, but the log ends at {last}: acknowledged entries are missing from the \
         log; restore this member from a snapshot",
        path.display()
    )]
    LogBehindState {
        /// The folder.
        path: PathBuf,
        /// Index of the state.
        applied: Index,
        /// End of the log.
        last: Index,
    },
    /// No snapshot file is whole.
    #[error("no whole snapshot file in {}: the state cannot be rebuilt; put the file back or restore this member", path.display())]
    NoSnapshot {
        /// The folder of the snapshot files.
        path: PathBuf,
    },
    /// The log.
    #[error("the log cannot be read: {0}")]
    Log(#[from] WalError),
    /// A snapshot file.
    #[error("the snapshot file cannot be read: {0}")]
    Snapshot(#[from] snapshots::ReadError),
    /// The working copy, for reasons that a rebuild would not mend.
    #[error("the state cannot be opened: {0}")]
    State(#[from] BackendError),
    /// A small table does not decode although its checksum is right.
    #[error("the table of {table} cannot be read: {reason}")]
    Table {
        /// Which.
        table: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The system refuses a thread.
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
}

impl From<SnapshotError> for OpenError {
    fn from(error: SnapshotError) -> Self {
        OpenError::Snapshot(error.into())
    }
}

/// The folders of a store.
#[derive(Clone, Debug)]
pub(super) struct Folders {
    pub(super) member: PathBuf,
    pub(super) wal: PathBuf,
    pub(super) snap: PathBuf,
    pub(super) sled: PathBuf,
}

impl Folders {
    pub(super) fn new(data_dir: &Path) -> Self {
        let member = data_dir.join("member");
        Folders {
            wal: member.join("wal"),
            snap: member.join("snap"),
            sled: member.join("sled"),
            member,
        }
    }
}

/// The world a store is opened in, and what keeps its working copy.
pub(super) struct World {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) entropy: Arc<dyn Entropy>,
    /// `None`: sled in its folder.
    pub(super) backend: Option<Arc<dyn Backend>>,
    /// Off only in simulations, as a bug to be found.
    #[cfg(any(test, feature = "sim"))]
    pub(super) verify_log: bool,
}

/// Everything a member needs to start, read back from the disk.
pub(super) struct Recovered {
    pub(super) metadata: Metadata,
    pub(super) state: State,
    pub(super) store: StateStore,
    pub(super) wal: Wal,
    pub(super) entries: Vec<wal::Entry>,
    pub(super) hard_state: wal::HardState,
}

/// Opens a store on this machine and starts its actors.
pub(super) async fn open(settings: Settings) -> Result<Arc<Shared>, OpenError> {
    let world = World {
        disk: Arc::new(RealDisk),
        clock: Arc::new(RealClock::new()),
        entropy: Arc::new(OsEntropy),
        backend: None,
        #[cfg(any(test, feature = "sim"))]
        verify_log: true,
    };
    let folders = Folders::new(&settings.data_dir);
    let for_recovery = settings.clone();
    let (world, lock, recovered) = Offload::Threads
        .run(move || {
            let lock = lock(&world, &for_recovery)?;
            let recovered = recover(&world, &for_recovery)?;
            Ok::<_, OpenError>((world, lock, recovered))
        })
        .await?;
    let (mailbox, commands) = mpsc::channel(settings.limits.mailbox_commands);
    let (shared, actors, files) = assemble(settings, &world, mailbox, Offload::Threads, recovered);
    let (events_in, events) = mpsc::unbounded_channel();
    let log = LogWriter::start(Arc::clone(&shared), files.wal, events_in.clone());
    let checkpoints = CheckpointWriter::start(
        Arc::clone(&shared),
        files.store,
        (world.disk, folders.snap),
        events_in.clone(),
    );
    let threads = (
        log.map_err(OpenError::Thread)?,
        checkpoints.map_err(OpenError::Thread)?,
    );
    let driver = Driver::new(
        (Arc::clone(&shared), actors),
        commands,
        (events_in, events),
        threads,
        Some(lock),
    );
    tokio::spawn(driver.run());
    Ok(shared)
}

/// Takes the folder for this process, after refusing one that is not ours to touch.
pub(super) fn lock(world: &World, settings: &Settings) -> Result<Box<dyn DirLock>, OpenError> {
    let folders = Folders::new(&settings.data_dir);
    if let Ok(names) = world.disk.list(&folders.snap)
        && names
            .iter()
            .any(|name| name.file_name().is_some_and(|name| name == "db"))
    {
        return Err(OpenError::EtcdData {
            path: settings.data_dir.clone(),
        });
    }
    let unwritable = |source| OpenError::Unwritable {
        path: settings.data_dir.clone(),
        source,
    };
    world.disk.create_dir(&folders.member).map_err(unwritable)?;
    world
        .disk
        .lock_dir(&folders.member)
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::WouldBlock => OpenError::Locked {
                path: settings.data_dir.clone(),
            },
            _ => unwritable(error),
        })
}

/// Reads everything back, founding a cluster in a new folder.
pub(super) fn recover(world: &World, settings: &Settings) -> Result<Recovered, OpenError> {
    let folders = Folders::new(&settings.data_dir);
    let config = wal_config(world, settings);
    if !Wal::exists(world.disk.as_ref(), &folders.wal)? {
        found(world, settings, &folders, &config)?;
    }
    let metadata = wal::read(world.disk.as_ref(), &folders.wal, Index(u64::MAX), &config)?.metadata;
    let (mut store, mut state) = match working_copy(world, &folders, metadata)? {
        WorkingCopy::Whole(store, state) => (store, *state),
        WorkingCopy::Empty(backend) => rebuild(world, &folders, metadata, backend)?,
    };
    let from = |state: &State| state.applied().next();
    let opened = Wal::open(
        Arc::clone(&world.disk),
        &folders.wal,
        from(&state),
        config.clone(),
    );
    let (wal, replay) = match opened {
        Err(WalError::Gap { .. }) => {
            tracing::warn!(
                applied = state.applied().0,
                "the working copy is older than the log: rebuilding it"
            );
            drop(store);
            let backend = emptied(world, &folders, state.applied())?;
            (store, state) = rebuild(world, &folders, metadata, backend)?;
            Wal::open(Arc::clone(&world.disk), &folders.wal, from(&state), config)?
        }
        opened => opened?,
    };
    if let Some(torn) = &replay.torn {
        tracing::info!(file = %torn.path.display(), offset = torn.offset, "the log's torn tail is cut off");
    }
    if replay.last.index < state.applied() {
        return Err(OpenError::LogBehindState {
            path: settings.data_dir.clone(),
            applied: state.applied(),
            last: replay.last.index,
        });
    }
    check_owner(settings, metadata, &state.membership)?;
    Ok(Recovered {
        metadata,
        state,
        store,
        wal,
        entries: replay.entries,
        hard_state: replay.hard_state,
    })
}

fn wal_config(world: &World, settings: &Settings) -> wal::Config {
    wal::Config {
        segment_bytes: settings.limits.wal_segment_bytes,
        salt: world.entropy.next_u64(),
        #[cfg(any(test, feature = "sim"))]
        verify_checksums: world.verify_log,
        ..wal::Config::default()
    }
}

/// Begins a cluster: a snapshot of index 0 with its founding members, then a log.
fn found(
    world: &World,
    settings: &Settings,
    folders: &Folders,
    config: &wal::Config,
) -> Result<(), OpenError> {
    if settings.initial_cluster_state == super::ClusterState::Existing {
        return Err(OpenError::JoinUnsupported);
    }
    let (membership, member) = founders(settings)?;
    let job = SnapshotJob {
        applied: Index(0),
        term: Term(0),
        revision: 1,
        compacted: -1,
        tables: membership
            .encode()
            .into_iter()
            .map(|(key, value)| (Table::Member, key, value))
            .collect(),
    };
    let cluster = membership.cluster_id();
    snapshots::found(&world.disk, &folders.snap, cluster, &job)?;
    let metadata = Metadata { cluster, member };
    Wal::create(Arc::clone(&world.disk), &folders.wal, metadata, config.clone())?;
    tracing::info!(%cluster, %member, "founded a cluster");
    Ok(())
}

/// The founding members, and which of them this one is.
fn founders(settings: &Settings) -> Result<(Membership, MemberId), OpenError> {
    let name = &settings.name;
    let own = settings
        .initial_cluster
        .iter()
        .filter(|(member, _)| member == name);
    let own_urls: Vec<&String> = own.flat_map(|(_, urls)| urls).collect();
    if own_urls.is_empty() {
        return Err(OpenError::NotInInitialCluster { name: name.clone() });
    }
    let sorted = |urls: Vec<&String>| {
        let mut urls: Vec<String> = urls.into_iter().cloned().collect();
        urls.sort_unstable();
        urls
    };
    let own_urls = sorted(own_urls);
    if own_urls != sorted(settings.initial_advertise_peer_urls.iter().collect()) {
        return Err(OpenError::PeerUrlsDiffer { name: name.clone() });
    }
    let mut by_name: std::collections::BTreeMap<&str, Vec<String>> = std::collections::BTreeMap::new();
    for (name, urls) in &settings.initial_cluster {
        by_name.entry(name).or_default().extend(urls.iter().cloned());
    }
    if by_name.len() > 1 {
        return Err(OpenError::TooManyMembers {
            members: by_name.len(),
        });
    }
    let token = &settings.initial_cluster_token;
    // Names are published by each member once it has started; until then the list shows none, as etcd's.
    let members = by_name
        .into_values()
        .map(|urls| membership::Member::bootstrap(String::new(), urls, token));
    Ok((
        Membership::bootstrap(members.collect()),
        membership::member_id(&own_urls, token),
    ))
}

/// Refuses data that the settings cannot mean. What is decided at the founding is ignored afterwards, as by etcd;
/// but a folder whose member has both another name and other peer URLs, or whose id was made with another token, is
/// most likely a wrong folder.
fn check_owner(settings: &Settings, metadata: Metadata, membership: &Membership) -> Result<(), OpenError> {
    let Some(member) = membership.get(metadata.member) else {
        return Ok(());
    };
    let mut urls = settings.initial_advertise_peer_urls.clone();
    let mut recorded = member.peer_urls.clone();
    urls.sort_unstable();
    recorded.sort_unstable();
    if !member.name.is_empty() && member.name != settings.name && recorded != urls {
        return Err(OpenError::OtherMember {
            path: settings.data_dir.clone(),
            found: metadata.member,
            found_name: member.name.clone(),
            name: settings.name.clone(),
        });
    }
    let founding = settings.initial_cluster_state == super::ClusterState::New && recorded == urls;
    if founding && membership::member_id(&urls, &settings.initial_cluster_token) != metadata.member {
        let expected = founders(settings).map(|(membership, _)| membership.cluster_id());
        return Err(OpenError::OtherCluster {
            path: settings.data_dir.clone(),
            found: metadata.cluster,
            expected: expected.unwrap_or_default(),
        });
    }
    Ok(())
}

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
        let attach = |lease: LeaseId, key: &Bytes| lessor.attach(lease, key.clone());
        let mvcc: Mvcc = history.finish(position.revision, attach);
        Ok(Some(State::restore(
            mvcc,
            lessor,
            membership,
            alarms,
            (position.applied, position.term),
        )))
    }
}

/// What was found of the working copy.
enum WorkingCopy {
    Whole(StateStore, Box<State>),
    /// Nothing, or something that was set aside: an empty one to be filled.
    Empty(Arc<dyn Backend>),
}

/// Reads the working copy.
fn working_copy(world: &World, folders: &Folders, metadata: Metadata) -> Result<WorkingCopy, OpenError> {
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

/// Builds state and working copy from the newest whole snapshot file.
fn rebuild(
    world: &World,
    folders: &Folders,
    metadata: Metadata,
    backend: Arc<dyn Backend>,
) -> Result<(StateStore, State), OpenError> {
    let newest = newest_valid(world.disk.as_ref(), &folders.snap)?;
    for damaged in &newest.damaged {
        tracing::error!(%damaged, "a snapshot file is damaged");
    }
    let Some(mut reader) = newest.reader else {
        return Err(OpenError::NoSnapshot {
            path: folders.snap.clone(),
        });
    };
    let meta = reader.meta();
    if meta.cluster != metadata.cluster {
        return Err(OpenError::MixedParts {
            part: folders.snap.clone(),
            path: folders.member.clone(),
        });
    }
    let mut import = Import::new(backend, metadata.cluster, metadata.member);
    let mut restored = Restored::default();
    let mut compacted = -1;
    let mut failed = None;
    let mut revision: Vec<Change> = Vec::new();
    snapshots::read(&mut reader, &mut |item| match item {
        Item::Head(head) => {
            compacted = head.compacted;
            let position = Position {
                applied: meta.index,
                term: meta.term,
                revision: meta.revision,
            };
            restored.begin(position, compacted, false);
        }
        Item::Row(table, key, value) => restored.tables.push((table, key, value)),
        Item::Change(change) => {
            restored.push(&change);
            if revision
                .first()
                .is_some_and(|first| first.revision.main != change.revision.main)
            {
                failed = failed.take().or_else(|| import.push(&revision).err());
                revision.clear();
            }
            revision.push(change);
        }
    })?;
    if let Some(error) = failed.or_else(|| import.push(&revision).err()) {
        return Err(error.into());
    }
    let tables = restored.tables.iter().map(|(table, key, value)| TableWrite {
        table: *table,
        key: key.clone(),
        value: Some(value.clone()),
    });
    let store = import.finish(&Checkpoint {
        tables: tables.collect(),
        applied: meta.index,
        term: meta.term,
        revision: meta.revision,
        compacted,
        compaction_finished: false,
        ..Checkpoint::default()
    })?;
    let state = restored.take_state()?.ok_or(OpenError::NoSnapshot {
        path: folders.snap.clone(),
    })?;
    tracing::info!(
        index = meta.index.0,
        revision = meta.revision,
        "the working copy was built from a snapshot file"
    );
    Ok((store, state))
}

/// An empty backend in place of a working copy that is of no use.
fn emptied(world: &World, folders: &Folders, applied: Index) -> Result<Arc<dyn Backend>, OpenError> {
    match &world.backend {
        // Only simulations bring their own, and theirs never fall behind the log.
        Some(backend) => Ok(Arc::clone(backend)),
        None => Ok(backend::replace(
            &folders.member,
            BackendError::Outdated { applied },
        )?),
    }
}

/// What the driver runs.
pub(super) struct Actors {
    pub(super) member: Member,
    pub(super) maintenance: Maintenance,
}

/// What belongs to the threads behind it.
pub(super) struct Files {
    pub(super) store: StateStore,
    pub(super) wal: Wal,
}

/// Puts a recovered member together.
pub(super) fn assemble(
    settings: Settings,
    world: &World,
    mailbox: mpsc::Sender<super::command::Command>,
    offload: Offload,
    recovered: Recovered,
) -> (Arc<Shared>, Actors, Files) {
    let Recovered {
        metadata,
        mut state,
        store,
        wal,
        entries,
        hard_state,
    } = recovered;
    let (clock, entropy) = (Arc::clone(&world.clock), Arc::clone(&world.entropy));
    let (applied, term, revision) = (state.applied(), state.term(), state.mvcc.current());
    state.mvcc.set_recent_bytes_max(settings.limits.recent_bytes);
    let voters: Vec<MemberId> = state.membership.iter().map(|member| member.id).collect();
    let limits = TailLimits {
        entries_max: usize::try_from(settings.snapshot_catchup_entries).unwrap_or(usize::MAX),
        bytes_max: settings.limits.log_tail_bytes,
    };
    let mut tail = Tail::new(applied, term, &voters, limits);
    let entries = entries.into_iter().map(|entry| LogEntry {
        term: entry.term,
        index: entry.index,
        data: entry.data,
    });
    tail.restore(
        entries.collect(),
        LogState {
            term: hard_state.term,
            vote: hard_state.vote,
            commit: hard_state.commit,
        },
    );
    let node = Node::new(
        node_config(&settings, metadata.member, applied, entropy.next_u64()),
        tail,
    );
    let watch_config = crate::watch::Config {
        fragment_bytes: settings.max_request_bytes + (512 << 10),
        progress_interval: settings.watch_progress_interval,
        seed: entropy.next_u64(),
        ..crate::watch::Config::default()
    };
    let hub = Hub::new(watch_config, revision, clock.now());
    let shared = Arc::new(Shared {
        member: metadata.member,
        cluster: metadata.cluster,
        boot: entropy.next_u64(),
        history: RwLock::new(Some(store.revisions())),
        state: RwLock::new(state),
        settings,
        clock,
        entropy,
        mailbox,
        counter: AtomicU64::new(1),
        streams: AtomicU64::new(1),
        published: Published::default(),
        pins: Pins::default(),
        fatal: watch::Sender::new(None),
        ready: watch::Sender::new(false),
        stopping: AtomicBool::new(false),
        dirty: Dirty::default(),
        offload,
    });
    shared.published.revision.store(revision, Ordering::Relaxed);
    shared.published.applied.store(applied.0, Ordering::Relaxed);
    shared.published.term.store(hard_state.term.0, Ordering::Relaxed);
    shared
        .published
        .backend_bytes
        .store(store.disk_bytes().unwrap_or(0), Ordering::Relaxed);
    let member = Member::new(Arc::clone(&shared), node, hub, applied);
    let maintenance = Maintenance::new(Arc::clone(&shared), applied, revision);
    (shared, Actors { member, maintenance }, Files { store, wal })
}

fn node_config(settings: &Settings, member: MemberId, applied: Index, seed: u64) -> NodeConfig {
    let ticks = settings.election.as_millis() / settings.heartbeat.as_millis().max(1);
    NodeConfig {
        member,
        applied,
        election_ticks: usize::try_from(ticks).unwrap_or(usize::MAX).max(5),
        heartbeat_ticks: 1,
        seed,
        uncommitted_bytes_max: settings.limits.proposal_bytes as u64,
    }
}

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

use parking_lot::RwLock;
use tokio::sync::{mpsc, watch};

use super::actors::{CheckpointWriter, LogWriter};
use super::auth::SharedAuth;
use super::driver::Driver;
use super::force;
use super::founding;
use super::incarnation;
use super::maintenance::Maintenance;
use super::member::Member;
use super::open_error::OpenError;
use super::recovery::{Source, WorkingCopy, emptied, rebuild, working_copy};
use super::scrub;
use super::settings::Settings;
use super::shared::{Dirty, History, Offload, Pins, Published, Shared, Stored};
use super::space_keeper::SpaceKeeper;
use super::transfers::Transfers;
use crate::apply::State;
use crate::backend::{Backend, StateStore};
use crate::consensus::{LogEntry, LogState, Node, NodeConfig, Tail, TailLimits};
use crate::env::real::{OsEntropy, RealClock, RealDisk};
use crate::env::{Clock, DirLock, Disk, Entropy, Transport, create_dir_durably};
use crate::types::{EntryKind, Index, MemberId, Term};
use crate::wal::snapshot::{SnapshotIdentity, keep_part};
use crate::wal::{self, Metadata, Wal, WalError};
use crate::watch::Hub;

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

    /// The file of the mark of the log's end: not with the log, so that both are not lost at once.
    pub(super) fn mark(&self) -> PathBuf {
        self.member.join("log.end")
    }

    /// Those of a store with these settings, which may keep its log elsewhere.
    pub(super) fn of(settings: &Settings) -> Self {
        let folders = Folders::new(&settings.data_dir);
        match &settings.wal_dir {
            Some(wal) => Folders {
                wal: wal.clone(),
                ..folders
            },
            None => folders,
        }
    }
}

/// The world a store is opened in, and what keeps its working copy.
#[derive(Clone)]
pub(super) struct World {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) entropy: Arc<dyn Entropy>,
    pub(super) transport: Arc<dyn Transport>,
    /// `None`: sled in its folder.
    pub(super) backend: Option<Arc<dyn Backend>>,
    /// Off only in simulations, as a bug to be found.
    #[cfg(any(test, feature = "sim"))]
    pub(super) verify_log: bool,
}

/// Where a member's working copy and snapshot files are, and whose they are.
#[derive(Clone)]
pub(super) struct Workplace {
    pub(super) world: World,
    pub(super) folders: Folders,
    pub(super) metadata: Metadata,
}

/// Everything a member needs to start, read back from the disk.
pub(super) struct Recovered {
    pub(super) metadata: Metadata,
    pub(super) state: State,
    pub(super) store: StateStore,
    pub(super) wal: Wal,
    /// The log's entries after what the state holds.
    pub(super) entries: Vec<LogEntry>,
    /// Those before, for members that lag.
    pub(super) retained: Vec<LogEntry>,
    pub(super) hard_state: wal::HardState,
    /// This member has lost its disk, and has not yet been given a snapshot.
    pub(super) recovering: bool,
    /// This member was added to a cluster that runs, and takes the members from its first snapshot.
    pub(super) joining: bool,
    /// How often it has lost its disk, as it were; see `founding.rs`.
    pub(super) incarnation: u64,
    /// What has arrived of a snapshot from another member.
    pub(super) snapshot_part: Option<SnapshotIdentity>,
}

/// Opens a store on this machine and starts its actors.
pub(super) async fn open(
    settings: Settings,
    transport: Arc<dyn Transport>,
) -> Result<Arc<Shared>, OpenError> {
    let world = World {
        disk: Arc::new(RealDisk),
        clock: Arc::new(RealClock::new()),
        entropy: Arc::new(OsEntropy),
        transport,
        backend: None,
        #[cfg(any(test, feature = "sim"))]
        verify_log: true,
    };
    let folders = Folders::of(&settings);
    let for_recovery = settings.clone();
    let (world, lock, recovered) = Offload::Threads
        .run(move || {
            let lock = lock(&world, &for_recovery)?;
            let recovered = recover(&world, &for_recovery)?;
            Ok::<_, OpenError>((world, lock, recovered))
        })
        .await?;
    let (mailbox, commands) = mpsc::channel(settings.limits.mailbox_commands);
    let (inbox, messages) = mpsc::channel(settings.limits.inbox_messages);
    let workplace = Workplace {
        world: world.clone(),
        folders,
        metadata: recovered.metadata,
    };
    let (shared, actors, files) = assemble(settings, &world, (mailbox, inbox), Offload::Threads, recovered);
    let (events_in, events) = mpsc::unbounded_channel();
    let log = LogWriter::start(Arc::clone(&shared), files.wal, events_in.clone());
    scrub::start(&shared, &workplace, events_in.clone());
    let checkpoints = CheckpointWriter::start(Arc::clone(&shared), files.store, workplace, events_in.clone());
    let threads = (
        log.map_err(OpenError::Thread)?,
        checkpoints.map_err(OpenError::Thread)?,
    );
    let driver = Driver::new(
        (Arc::clone(&shared), actors),
        (commands, messages),
        (events_in, events),
        threads,
        Some(lock),
    );
    tokio::spawn(driver.run());
    Ok(shared)
}

/// Whether the data folder holds a member already; a new one is to be founded, or to join a cluster.
///
/// # Errors
/// Those of listing the folder.
pub fn has_data(settings: &Settings) -> Result<bool, OpenError> {
    let folders = Folders::of(settings);
    Ok(Wal::exists(&RealDisk, &folders.wal)? || wal::was_begun(&RealDisk, &folders.mark())?)
}

/// A member whose log is gone must not begin anew as if it had never been: it would forget its votes, and a single one
/// everything.
fn refuse_lost_log(world: &World, folders: &Folders) -> Result<(), OpenError> {
    if !wal::was_begun(world.disk.as_ref(), &folders.mark())? {
        return Ok(());
    }
    Err(OpenError::LogMissing {
        wal: folders.wal.clone(),
        evidence: folders.mark(),
    })
}

/// Takes the folder for this process, after refusing one that is not ours to touch.
pub(super) fn lock(world: &World, settings: &Settings) -> Result<Box<dyn DirLock>, OpenError> {
    let folders = Folders::of(settings);
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
    // Durably: everything below it hangs on its name.
    create_dir_durably(world.disk.as_ref(), &folders.member).map_err(unwritable)?;
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

/// A working copy, the state read from it, and whether that was built from a snapshot file just now.
struct ReadBack {
    store: StateStore,
    state: State,
    rebuilt: bool,
}

/// Reads everything back, founding a cluster in a new folder.
pub(super) fn recover(world: &World, settings: &Settings) -> Result<Recovered, OpenError> {
    let folders = Folders::of(settings);
    let config = wal_config(world, settings, &folders);
    let begun = Wal::exists(world.disk.as_ref(), &folders.wal)?;
    if !begun {
        refuse_lost_log(world, &folders)?;
        founding::found(world, settings, &folders, &config)?;
    }
    let metadata = wal::metadata(world.disk.as_ref(), &folders.wal, &config)?;
    let mut read = match working_copy(world, &folders, metadata)? {
        WorkingCopy::Whole(store, state) => ReadBack {
            store,
            state: *state,
            rebuilt: false,
        },
        WorkingCopy::Empty(backend) => read_snapshot(world, &folders, metadata, backend, Source::Newest)?,
    };
    let opened = open_log(world, &folders, &config, &read);
    let (mut wal, mut replay) = match opened {
        // A crash in the midst of letting go of segments may keep an older one and lose a newer one. Both lie below
        // the snapshot; where they do not, the log cannot be read from there either. And a crash in the midst of an
        // installation leaves a log that begins after a snapshot which the working copy does not hold yet.
        Err(WalError::Gap { .. } | WalError::MissingSegment { .. }) => {
            tracing::warn!(
                applied = read.state.applied().0,
                "the working copy is older than the log: rebuilding it"
            );
            drop(read);
            let backend = emptied(world, &folders)?;
            read = read_snapshot(world, &folders, metadata, backend, Source::Newest)?;
            open_log(world, &folders, &config, &read)?
        }
        opened => opened?,
    };
    if let Some(torn) = &replay.torn {
        tracing::info!(file = %torn.path.display(), offset = torn.offset, "the log's torn tail is cut off");
    }
    let fresh = replay.last.index == Index(0) && replay.hard_state.term == Term(0);
    let incarnation = incarnation::read(world, &folders)?;
    let recovering = fresh && incarnation != 0;
    let reaches = replay.last.index >= read.state.applied();
    if !reaches && !read.rebuilt {
        return Err(OpenError::LogBehindState {
            path: settings.data_dir.clone(),
            applied: read.state.applied(),
            last: replay.last.index,
        });
    }
    if !reaches && recovering {
        // Only Raft may take a snapshot here, after a quorum has confirmed its sender; so back to the beginning.
        drop(read);
        let backend = emptied(world, &folders)?;
        read = read_snapshot(world, &folders, metadata, backend, Source::Founding)?;
    } else if read.rebuilt && (!reaches || replay.before_term != Some(read.state.term())) {
        restart(&mut wal, &mut replay, &read.state)?;
    }
    founding::check_owner(settings, metadata, &read.state.membership)?;
    if settings.force_new_cluster && begun && !recovering {
        force::force(&mut wal, &mut replay, &read.state, metadata.member)?;
    }
    let founds = incarnation == 0 && read.state.membership.is_founding();
    let joining = read.state.applied() == Index(0) && !founds;
    let of_use = |part: SnapshotIdentity| part.index > read.state.applied();
    let snapshot_part = keep_part(world.disk.as_ref(), &folders.snap, of_use)?;
    Ok(Recovered {
        entries: log_entries(replay.entries)?,
        joining,
        metadata,
        state: read.state,
        store: read.store,
        wal,
        retained: log_entries(replay.retained)?,
        hard_state: replay.hard_state,
        recovering,
        incarnation,
        snapshot_part,
    })
}

fn log_entries(entries: Vec<wal::Entry>) -> Result<Vec<LogEntry>, OpenError> {
    let to_log = |entry: wal::Entry| {
        let (index, kind) = (entry.index, entry.kind);
        let kind = EntryKind::of(kind).ok_or(OpenError::EntryKind { index, kind })?;
        Ok(LogEntry {
            term: entry.term,
            index,
            kind,
            data: entry.data,
        })
    };
    entries.into_iter().map(to_log).collect()
}

fn read_snapshot(
    world: &World,
    folders: &Folders,
    metadata: Metadata,
    backend: Arc<dyn Backend>,
    source: Source,
) -> Result<ReadBack, OpenError> {
    let (store, state) = rebuild(world, folders, metadata, backend, source)?;
    Ok(ReadBack {
        store,
        state,
        rebuilt: true,
    })
}

/// Opens the log where it leads on from the state.
fn open_log(
    world: &World,
    folders: &Folders,
    config: &wal::Config,
    read: &ReadBack,
) -> Result<(Wal, wal::Replay), WalError> {
    let from = read.state.applied().next();
    Wal::open(Arc::clone(&world.disk), &folders.wal, from, config.clone())
}

/// Lets the log begin after a snapshot that was received, and not yet installed, when the member stopped, now that
/// the state is built from it. What a quorum has committed up to there is in it, and what the log holds beyond a
/// different entry at its place nobody has committed.
fn restart(wal: &mut Wal, replay: &mut wal::Replay, state: &State) -> Result<(), WalError> {
    let at = wal::Position {
        index: state.applied(),
        term: state.term(),
    };
    tracing::info!(
        index = at.index.0,
        last = replay.last.index.0,
        "the log goes on after the newest snapshot file"
    );
    let before = replay.hard_state;
    let newer = at.term > before.term;
    let hard_state = wal::HardState {
        term: before.term.max(at.term),
        vote: if newer { MemberId(0) } else { before.vote },
        commit: at.index,
    };
    wal.append(&[wal::Append {
        restart: Some(at),
        entries: Vec::new(),
        hard_state: Some(hard_state),
    }])?;
    replay.entries.clear();
    replay.retained.clear();
    replay.last = at;
    replay.hard_state = hard_state;
    Ok(())
}

fn wal_config(world: &World, settings: &Settings, folders: &Folders) -> wal::Config {
    wal::Config {
        segment_bytes: settings.limits.wal_segment_bytes,
        salt: world.entropy.next_u64(),
        mark: Some(folders.mark()),
        retain: wal::Retain {
            // The first of them only tells the term before the second.
            entries_max: tail_limits(settings).entries_max.saturating_add(1),
            bytes_max: settings.limits.log_tail_bytes,
        },
        #[cfg(any(test, feature = "sim"))]
        verify_checksums: world.verify_log,
        ..wal::Config::default()
    }
}

/// What the driver runs.
pub(super) struct Actors {
    pub(super) member: Member,
    pub(super) maintenance: Maintenance,
    pub(super) keeper: SpaceKeeper,
}

/// What belongs to the threads behind it.
pub(super) struct Files {
    pub(super) store: StateStore,
    pub(super) wal: Wal,
}

/// Where commands and the messages of other members go in.
pub(super) type Mailboxes = (
    mpsc::Sender<super::command::Command>,
    mpsc::Sender<(MemberId, bytes::Bytes)>,
);

/// Puts a recovered member together.
pub(super) fn assemble(
    settings: Settings,
    world: &World,
    (mailbox, inbox): Mailboxes,
    offload: Offload,
    recovered: Recovered,
) -> (Arc<Shared>, Actors, Files) {
    let Recovered {
        metadata,
        mut state,
        store,
        wal,
        entries,
        retained,
        hard_state,
        recovering,
        joining,
        incarnation,
        snapshot_part,
    } = recovered;
    let (clock, entropy) = (Arc::clone(&world.clock), Arc::clone(&world.entropy));
    let (applied, term, revision) = (state.applied(), state.term(), state.mvcc.current());
    state.mvcc.set_recent_bytes_max(settings.limits.recent_bytes);
    // A member that joins must not stand for election by members whom it only knows from hearsay.
    let members = || state.membership.iter().filter(|_| !joining);
    let mut voters: Vec<MemberId> = members().filter(|m| !m.is_learner).map(|m| m.id).collect();
    if state.membership.is_removed(metadata.member) {
        // Perhaps only this member knows of its removal, and the others still need it.
        voters.push(metadata.member);
    }
    let learners: Vec<MemberId> = members().filter(|m| m.is_learner).map(|m| m.id).collect();
    let (before, mut log) = tail_start(retained, applied, term);
    let limits = tail_limits(&settings);
    let mut tail = Tail::new(before.index, before.term, &voters, &learners, limits);
    log.extend(entries);
    tail.restore(
        log,
        LogState {
            term: hard_state.term,
            vote: hard_state.vote,
            commit: hard_state.commit,
        },
        applied,
    );
    let boot = entropy.next_u64();
    let config = NodeConfig {
        seed: entropy.next_u64(),
        boot,
        recovering,
        ..node_config(&settings, metadata.member, applied)
    };
    let node = Node::new(config, tail);
    let watch_config = crate::watch::Config {
        fragment_bytes: settings.max_request_bytes + (512 << 10),
        progress_interval: settings.watch_progress_interval,
        seed: entropy.next_u64(),
        ..crate::watch::Config::default()
    };
    let hub = Hub::new(watch_config, revision, clock.now());
    let lease_ids = AtomicU64::new(clock.unix_ms() << 8);
    let shared = Arc::new(Shared {
        member: metadata.member,
        cluster: metadata.cluster,
        boot,
        incarnation,
        history: watch::Sender::new(History::Stored(Stored {
            installs: 0,
            revisions: store.revisions(),
        })),
        installs: AtomicU64::new(0),
        auth: SharedAuth::new(&state.auth),
        state: RwLock::new(state),
        settings,
        clock,
        mailbox,
        transport: Arc::clone(&world.transport),
        inbox,
        counter: AtomicU64::new(1),
        lease_ids,
        streams: AtomicU64::new(1),
        published: Published::default(),
        pins: Pins::default(),
        fatal: watch::Sender::new(None),
        ready: watch::Sender::new(false),
        removed: watch::Sender::new(false),
        stopping: AtomicBool::new(false),
        ended: watch::Sender::new(false),
        streams_abandoned: AtomicBool::new(false),
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
    let maintenance = Maintenance::new(Arc::clone(&shared), applied, revision);
    let snap = Folders::new(&shared.settings.data_dir).snap;
    let transfers = Transfers::new(Arc::clone(&shared), Arc::clone(&world.disk), snap, snapshot_part);
    let member = Member::new(Arc::clone(&shared), node, hub, transfers, applied);
    let keeper = SpaceKeeper::new(&shared, Arc::clone(&world.disk), recovering);
    let actors = Actors {
        member,
        maintenance,
        keeper,
    };
    (shared, actors, Files { store, wal })
}

fn tail_limits(settings: &Settings) -> TailLimits {
    TailLimits {
        entries_max: usize::try_from(settings.snapshot_catchup_entries).unwrap_or(usize::MAX),
        bytes_max: settings.limits.log_tail_bytes,
        held_bytes_max: settings.limits.log_held_bytes,
    }
}

/// Where the log in memory begins: at the last applied entry, or before those that are kept for members that lag. The
/// first of these is itself left out, since only its term is known, and not that of the one before it.
fn tail_start(mut retained: Vec<LogEntry>, applied: Index, term: Term) -> (wal::Position, Vec<LogEntry>) {
    let leads_to_state = retained
        .last()
        .is_some_and(|last| (last.index, last.term) == (applied, term));
    if !leads_to_state {
        let at = wal::Position { index: applied, term };
        return (at, Vec::new());
    }
    let first = retained.remove(0);
    let before = wal::Position {
        index: first.index,
        term: first.term,
    };
    (before, retained)
}

fn node_config(settings: &Settings, member: MemberId, applied: Index) -> NodeConfig {
    let ticks = settings.election.as_millis() / settings.heartbeat.as_millis().max(1);
    NodeConfig {
        member,
        applied,
        election_ticks: usize::try_from(ticks).unwrap_or(usize::MAX).max(5),
        heartbeat_ticks: 1,
        seed: 0,
        boot: 0,
        recovering: false,
        uncommitted_bytes_max: settings.limits.proposal_bytes as u64,
        message_bytes_max: settings.limits.message_bytes,
    }
}

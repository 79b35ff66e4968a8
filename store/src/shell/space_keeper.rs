//! Watches over the space that is left, and over the NOSPACE alarm of this member.
//!
//! - **The reserve.** Writes are refused before a disk is full: where the disk of the data or that of the log has less
//!   left than `disk_reserve_bytes`, or the log finds no room for its next segment, this member raises its NOSPACE
//!   alarm. Reads go on; deletes and compaction have the reserve and the segments made ahead to work with. Once there is
//!   room again for some seconds, the alarm goes by itself: the reserve's alone. Whose it is survives a restart in the
//!   file `nospace.reserve`.
//!   A small part of the reserve is a file, the ballast: where somebody else has filled the disk, a start gives it up for
//!   what opening takes.
//! - **The quota.** Its alarm stays until an operator disarms it, as etcd's does, unless `quota_auto_disarm` is set: then
//!   it goes once the size has been well below the quota for some seconds.
//!
//! Only this member's own alarm is ever touched. It asks by proposals, one at a time; one that is lost is made again.
//! The disk is looked at on a thread of its own, since a disk in trouble may not even answer that.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use proto::etcdserverpb::AlarmType;
use proto::etcdserverpb::alarm_request::AlarmAction;

use super::bootstrap::Folders;
use super::member::Member;
use super::shared::Shared;
use crate::backend::BALLAST;
use crate::env::{Disk, Instant};

/// See the module's description.
pub(super) struct SpaceKeeper {
    shared: Arc<Shared>,
    looker: Arc<Looker>,
    next_look: Instant,
    /// Until then an answer to the last proposal is waited for.
    next_word: Instant,
    /// Since when no alarm has been raised, and none been asked for.
    absent_since: Option<Instant>,
    /// Since when there has been room enough.
    roomy_since: Option<Instant>,
    /// Since when the size has been well below the quota.
    small_since: Option<Instant>,
}

impl SpaceKeeper {
    /// `recovering`: this member has lost its disk. An alarm of its is of that one, and so the reserve's.
    pub(super) fn new(shared: &Arc<Shared>, disk: Arc<dyn Disk>, recovering: bool) -> Self {
        let folders = Folders::of(&shared.settings);
        let marker = folders.member.join(MARKER);
        let looker = Looker {
            reserve_bytes: shared.settings.disk_reserve_bytes,
            of_reserve: AtomicBool::new(recovering || disk.open(&marker).is_ok()),
            note_due: AtomicBool::new(recovering),
            looking: AtomicBool::new(false),
            ballast_laid: AtomicBool::new(false),
            folders: [folders.member, folders.wal],
            marker,
            disk,
        };
        SpaceKeeper {
            shared: Arc::clone(shared),
            looker: Arc::new(looker),
            next_look: Instant::default(),
            next_word: Instant::default(),
            absent_since: None,
            roomy_since: None,
            small_since: None,
        }
    }

    /// Looks after everything that is due.
    pub(super) fn tick(&mut self, now: Instant, member: &mut Member) {
        if now >= self.next_look && !self.looker.looking.swap(true, Ordering::AcqRel) {
            self.next_look = now + LOOK_INTERVAL;
            let (looker, shared) = (Arc::clone(&self.looker), Arc::clone(&self.shared));
            self.shared.offload.start(move || looker.look(&shared));
        }
        if let Some(action) = self.judge(now)
            && now >= self.next_word
            && member.propose_alarm(action, AlarmType::Nospace)
        {
            self.next_word = now + WORD_PAUSE;
            self.tell(action);
        }
    }

    /// What is to be done about the alarm.
    fn judge(&mut self, now: Instant) -> Option<AlarmAction> {
        let shared = &self.shared;
        let alarms = shared.state.read().alarms.list(AlarmType::Nospace);
        let raised = alarms.iter().any(|alarm| alarm.member_id == shared.member.0);
        let of_reserve = self.looker.of_reserve.load(Ordering::Acquire);
        if shared.published.short_of_space.load(Ordering::Acquire) {
            (self.absent_since, self.roomy_since, self.small_since) = (None, None, None);
            return (!raised).then_some(AlarmAction::Activate);
        }
        if !raised {
            (self.roomy_since, self.small_since) = (None, None);
            // Cleared, or disarmed by somebody else; or asked for and still to come.
            let since = *self.absent_since.get_or_insert(now);
            if now.since(since) >= FORGET_AFTER {
                self.looker.forget(shared);
            }
            return None;
        }
        self.absent_since = None;
        let (size, quota) = (
            shared.size_bytes(),
            shared.settings.quota_bytes.unwrap_or(u64::MAX),
        );
        if of_reserve {
            let since = *self.roomy_since.get_or_insert(now);
            if now.since(since) < RESERVE_CLEAR_AFTER {
                return None;
            }
            if size >= quota {
                // From here on it is the quota's.
                self.looker.forget(shared);
                return None;
            }
            return Some(AlarmAction::Deactivate);
        }
        if !shared.settings.quota_auto_disarm || size >= quota / 100 * AUTO_DISARM_PERCENT {
            self.small_since = None;
            return None;
        }
        let since = *self.small_since.get_or_insert(now);
        (now.since(since) >= AUTO_DISARM_AFTER).then_some(AlarmAction::Deactivate)
    }

    fn tell(&self, action: AlarmAction) {
        let numbers = &self.shared.published.disk;
        let available_bytes = numbers.available_bytes.load(Ordering::Relaxed);
        if action == AlarmAction::Activate {
            let reserve_bytes = self.looker.reserve_bytes;
            tracing::warn!(
                available_bytes,
                reserve_bytes,
                "too little space left on the disk: raising the NOSPACE alarm"
            );
        } else {
            let size = self.shared.size_bytes();
            tracing::info!(
                available_bytes,
                size,
                "there is space again: clearing the NOSPACE alarm"
            );
            numbers.alarms_cleared.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Looks at the disks, and keeps the file that says whose the alarm is.
struct Looker {
    disk: Arc<dyn Disk>,
    folders: [PathBuf; 2],
    marker: PathBuf,
    reserve_bytes: u64,
    /// The alarm, where it is raised, is the reserve's.
    of_reserve: AtomicBool,
    /// The file that says so is to be made.
    note_due: AtomicBool,
    looking: AtomicBool,
    ballast_laid: AtomicBool,
}

impl Looker {
    fn look(&self, shared: &Shared) {
        let available = self.folders.iter().map(|dir| self.disk.available_bytes(dir));
        // A disk that does not even answer has other troubles, which others notice.
        let available = available.filter_map(Result::ok).min().unwrap_or(u64::MAX);
        let published = &shared.published;
        published.disk.available_bytes.store(available, Ordering::Relaxed);
        let was_short = published.short_of_space.load(Ordering::Acquire);
        let enough = if was_short {
            self.reserve_bytes / 100 * RESERVE_CLEAR_PERCENT
        } else {
            self.reserve_bytes
        };
        let short = available < enough || published.log_full.load(Ordering::Acquire);
        let raises = short && !was_short && !raised(shared);
        if raises || self.note_due.swap(false, Ordering::AcqRel) {
            // Before the alarm, which nobody would clear if it was not known whose it is. Without the file a restart
            // takes it for the quota's.
            if let Err(error) = self.disk.create(&self.marker).and_then(|_| self.sync()) {
                tracing::debug!(%error, "cannot note that the alarm is the reserve's");
            }
            self.of_reserve.store(true, Ordering::Release);
        }
        if !short && !self.ballast_laid.load(Ordering::Relaxed) {
            match self.lay_ballast() {
                Ok(()) => self.ballast_laid.store(true, Ordering::Relaxed),
                Err(error) => tracing::warn!(%error, "cannot make the ballast"),
            }
        }
        published.short_of_space.store(short, Ordering::Release);
        self.looking.store(false, Ordering::Release);
    }

    /// Makes the file whose space a start on a full disk can have; what is there of it is made anew.
    fn lay_ballast(&self) -> std::io::Result<()> {
        let bytes = (self.reserve_bytes / BALLAST_SHARE).min(BALLAST_BYTES_MAX);
        if bytes == 0 {
            return Ok(());
        }
        let path = self.folders[0].join(BALLAST);
        let mut file = match self.disk.open(&path) {
            Ok(file) if file.len()? >= bytes => return Ok(()),
            Ok(file) => file,
            Err(_) => self.disk.create(&path)?,
        };
        let zeros = vec![0; usize::try_from(bytes.min(BALLAST_WRITE_BYTES)).unwrap_or_default()];
        let mut at = 0;
        while at < bytes {
            file.write_at(at, &zeros)?;
            at += zeros.len() as u64;
        }
        file.sync_data()?;
        self.sync()
    }

    /// The alarm is not the reserve's, or gone.
    fn forget(self: &Arc<Self>, shared: &Shared) {
        if self.of_reserve.swap(false, Ordering::AcqRel) {
            let looker = Arc::clone(self);
            shared.offload.start(move || {
                if let Err(error) = looker.disk.remove(&looker.marker).and_then(|()| looker.sync()) {
                    tracing::debug!(%error, "cannot remove the note that the alarm is the reserve's");
                }
            });
        }
    }

    fn sync(&self) -> std::io::Result<()> {
        self.disk.sync_dir(&self.folders[0])
    }
}

/// Whether this member's alarm is raised.
fn raised(shared: &Shared) -> bool {
    let alarms = shared.state.read().alarms.list(AlarmType::Nospace);
    alarms.iter().any(|alarm| alarm.member_id == shared.member.0)
}

/// How often the disks are looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// After how long a proposal is made again that seems to be lost.
const WORD_PAUSE: Duration = Duration::from_secs(2);
/// How long no alarm must have been raised until it is certain that none that was asked for is still to come.
const FORGET_AFTER: Duration = Duration::from_secs(60);
/// Percent of the reserve at which there is enough space again.
const RESERVE_CLEAR_PERCENT: u64 = 120;
/// How long there must have been enough space.
const RESERVE_CLEAR_AFTER: Duration = Duration::from_secs(3);
/// Percent of the quota below which a member clears its alarm by itself, where it may.
const AUTO_DISARM_PERCENT: u64 = 90;
/// How long the size must have been below that.
const AUTO_DISARM_AFTER: Duration = Duration::from_secs(5);
/// The ballast's share of the reserve, and its size at most.
const BALLAST_SHARE: u64 = 16;
const BALLAST_BYTES_MAX: u64 = 8 << 20;
const BALLAST_WRITE_BYTES: u64 = 1 << 20;
const MARKER: &str = "nospace.reserve";

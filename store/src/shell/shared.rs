//! What the driver and the callers share: the applied state behind its lock, and numbers that the driver publishes
//! for everybody to read without it.
//!
//! The lock is a readers-writer lock because many callers read while one driver applies; it is held for the apply of
//! one batch or one step of a scan, never across a wait. No actor knows of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use proto::etcdserverpb::ResponseHeader;
use tokio::sync::{Notify, mpsc, watch};

use super::auth::SharedAuth;
use super::command::Command;
use super::member::HistoryRequest;
use super::metrics::{AlarmsSeen, ApplyNumbers, ByThread, CallNumbers, DiskNumbers, LeaseTtls, Transferred};
use super::settings::Settings;
use crate::apply::State;
use crate::backend::RevisionStore;
use crate::env::{Clock, Transport};
use crate::error::Unavailable;
use crate::types::{ClusterId, MemberId};

/// See the module's description.
pub(super) struct Shared {
    pub(super) settings: Settings,
    pub(super) member: MemberId,
    pub(super) cluster: ClusterId,
    /// Drawn at random when this process opened the store.
    pub(super) boot: u64,
    /// See [`Envelope`](super::envelope::Envelope).
    pub(super) incarnation: u64,
    pub(super) state: RwLock<State>,
    /// The auth state in it, for a look without its lock.
    pub(super) auth: SharedAuth,
    /// How many snapshots from a leader have replaced the state; moves while its lock is held.
    pub(super) installs: AtomicU64,
    pub(super) history: watch::Sender<History>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) mailbox: mpsc::Sender<Command>,
    /// The way to the other members, and where their messages arrive.
    pub(super) transport: Arc<dyn Transport>,
    pub(super) inbox: mpsc::Sender<(MemberId, Bytes)>,
    pub(super) counter: AtomicU64,
    /// Counts the ids that this member chooses for leases.
    pub(super) lease_ids: AtomicU64,
    pub(super) streams: AtomicU64,
    pub(super) published: Published,
    pub(super) pins: Pins,
    pub(super) fatal: watch::Sender<Option<String>>,
    pub(super) ready: watch::Sender<bool>,
    /// This member was removed from the cluster for good.
    pub(super) removed: watch::Sender<bool>,
    pub(super) stopping: AtomicBool,
    /// The driver has ended and everything is closed.
    pub(super) ended: watch::Sender<bool>,
    /// Readers of watch streams have gone without being able to tell.
    pub(super) streams_abandoned: AtomicBool,
    pub(super) dirty: Dirty,
    pub(super) offload: Offload,
}

/// The stored history of the state.
pub(super) enum History {
    /// In the working copy.
    Stored(Stored),
    /// A snapshot from the leader has replaced the state, and the working copy is being filled from it. What the
    /// watch hub wants to read waits here.
    Replacing(Vec<HistoryRequest>),
    /// Gone, so that its files are closed though handles live on: the store has stopped.
    Stopped,
}

/// The history in the working copy.
#[derive(Clone)]
pub(super) struct Stored {
    /// Of which state; see [`Shared::installs`].
    pub(super) installs: u64,
    pub(super) revisions: Arc<RevisionStore>,
}

/// Where work goes that waits for the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Offload {
    /// To threads kept for it.
    Threads,
    /// Nowhere: it is done at once, for simulations.
    #[cfg(any(test, feature = "sim"))]
    Inline,
}

impl Offload {
    /// Runs `work` where it may wait.
    pub(super) async fn run<T: Send + 'static>(self, work: impl FnOnce() -> T + Send + 'static) -> T {
        match self {
            Offload::Threads => match tokio::task::spawn_blocking(work).await {
                Ok(done) => done,
                Err(panic) => std::panic::resume_unwind(panic.into_panic()),
            },
            #[cfg(any(test, feature = "sim"))]
            Offload::Inline => work(),
        }
    }

    /// Waits for something, for at most `limit`. A simulation has no timers, and waits as long as it likes.
    async fn within<T>(self, limit: Duration, wait: impl Future<Output = T>) -> Option<T> {
        match self {
            Offload::Threads => tokio::time::timeout(limit, wait).await.ok(),
            #[cfg(any(test, feature = "sim"))]
            Offload::Inline => Some(wait.await),
        }
    }

    /// Runs `work` where it may wait, and does not wait for it.
    pub(super) fn start(self, work: impl FnOnce() + Send + 'static) {
        match self {
            Offload::Threads => drop(tokio::task::spawn_blocking(work)),
            #[cfg(any(test, feature = "sim"))]
            Offload::Inline => work(),
        }
    }
}

/// Numbers written by the driver (or the callers) and read by everybody; each stands alone, none orders another.
#[derive(Default)]
pub(super) struct Published {
    pub(super) leader: AtomicU64,
    pub(super) is_leader: AtomicBool,
    pub(super) is_learner: AtomicBool,
    pub(super) term: AtomicU64,
    pub(super) leader_changes: AtomicU64,
    pub(super) committed: AtomicU64,
    pub(super) applied: AtomicU64,
    pub(super) last_index: AtomicU64,
    pub(super) revision: AtomicI64,
    pub(super) pending: AtomicUsize,
    pub(super) pending_bytes: AtomicUsize,
    pub(super) failed: AtomicU64,
    pub(super) calls: ByThread<CallNumbers>,
    pub(super) applies: ApplyNumbers,
    pub(super) slow_applies: AtomicU64,
    pub(super) slow_read_indexes: AtomicU64,
    pub(super) failed_read_indexes: AtomicU64,
    pub(super) late_heartbeats: AtomicU64,
    pub(super) stalled_syncs: AtomicU64,
    pub(super) stall_hand_overs: AtomicU64,
    pub(super) leases_granted: AtomicU64,
    pub(super) leases_revoked: AtomicU64,
    pub(super) leases_renewed: AtomicU64,
    pub(super) leases_expired: AtomicU64,
    pub(super) lease_ttls: LeaseTtls,
    pub(super) watchers: AtomicU64,
    pub(super) watch_streams: AtomicU64,
    pub(super) slow_watchers: AtomicU64,
    pub(super) pending_events: AtomicU64,
    pub(super) events: AtomicU64,
    pub(super) backend_bytes: AtomicU64,
    /// Bytes of history in the working copy, before compression, and of the snapshot files, which have none.
    pub(super) history_bytes: AtomicU64,
    pub(super) snapshot_bytes: AtomicU64,
    /// The working copy is being made anew, to give back space.
    pub(super) reclaiming: AtomicBool,
    /// A disk has less left than the reserve, or the log has no room to go on: no more writes.
    pub(super) short_of_space: AtomicBool,
    /// The log found no room for its next segment.
    pub(super) log_full: AtomicBool,
    pub(super) disk: DiskNumbers,
    pub(super) snapshots_sent: Transferred,
    pub(super) snapshots_received: Transferred,
    pub(super) snapshots_applying: AtomicU64,
    pub(super) alarms: AlarmsSeen,
}

/// Bytes of revisions not yet checkpointed, and the waiters for there to be fewer.
#[derive(Default)]
pub(super) struct Dirty {
    pub(super) bytes: AtomicUsize,
    /// Those of them that a checkpoint will store; the others are previous states.
    pub(super) stored: AtomicUsize,
    pub(super) fewer: Notify,
}

impl Shared {
    /// A complete header of this member.
    pub(super) fn header(&self, revision: i64) -> ResponseHeader {
        ResponseHeader {
            cluster_id: self.cluster.0,
            member_id: self.member.0,
            revision,
            raft_term: self.published.term.load(Ordering::Relaxed),
        }
    }

    /// The other members and their peer URLs.
    pub(super) fn peers(&self) -> Vec<(MemberId, Vec<String>)> {
        let state = self.state.read();
        let others = state.membership.iter().filter(|member| member.id != self.member);
        others
            .map(|member| (member.id, member.peer_urls.clone()))
            .collect()
    }

    /// This member was removed from the cluster for good.
    pub(super) fn learn_removed(&self) {
        let first = !self.removed.send_replace(true);
        if first {
            tracing::error!(
                member = %self.member, cluster = %self.cluster,
                "this member has been permanently removed from the cluster: it takes part in nothing any more"
            );
        }
    }

    /// Completes a header in which the rooms below have filled in the revision.
    pub(super) fn complete(&self, header: &mut Option<ResponseHeader>) {
        let revision = header.as_ref().map_or(0, |header| header.revision);
        *header = Some(self.header(revision));
    }

    /// How many snapshots from a leader have replaced the state.
    pub(super) fn installs(&self) -> u64 {
        self.installs.load(Ordering::Acquire)
    }

    /// The stored history for a read of the watch hub. While it is being replaced, the request is kept, to be asked
    /// for again by whoever replaces it; `None` then, and when the store has stopped.
    pub(super) fn history_or_park(&self, request: HistoryRequest) -> Option<(Stored, HistoryRequest)> {
        let mut request = Some(request);
        let mut stored = None;
        self.history.send_if_modified(|history| {
            match history {
                History::Stored(found) => stored = Some(found.clone()),
                History::Replacing(waiting) => waiting.extend(request.take()),
                History::Stopped => {}
            }
            false
        });
        stored.zip(request)
    }

    /// The stored history, where it is there at once; possibly of a state that has been replaced since.
    pub(super) fn stored(&self) -> Option<Stored> {
        match &*self.history.borrow() {
            History::Stored(stored) => Some(stored.clone()),
            History::Replacing(_) | History::Stopped => None,
        }
    }

    /// Lets go of the stored history for good.
    pub(super) fn close_history(&self) {
        self.history.send_replace(History::Stopped);
    }

    /// Puts a command into the mailbox, waiting while it is full.
    pub(super) async fn send(&self, command: Command) -> Result<(), Unavailable> {
        self.mailbox.send(command).await.map_err(|_| Unavailable::Stopped)
    }

    /// Reports a fatal error; the first one counts. The node answers nothing from then on.
    pub(super) fn fail(&self, cause: String) {
        self.fatal.send_if_modified(|fatal| {
            let first = fatal.is_none();
            if first {
                tracing::error!(%cause, "the store has failed and stops");
                *fatal = Some(cause);
            }
            first
        });
    }

    /// Bytes that the state takes: on disk, plus what is not yet there.
    pub(super) fn size_bytes(&self) -> u64 {
        let dirty = self.dirty.stored.load(Ordering::Relaxed) as u64;
        self.published.backend_bytes.load(Ordering::Relaxed) + dirty
    }
}

/// Stands on the stack of a thread or task that the store cannot go on without: its panic is a fatal error.
pub(super) struct Vital {
    shared: Arc<Shared>,
    what: &'static str,
}

impl Vital {
    pub(super) fn new(shared: &Arc<Shared>, what: &'static str) -> Self {
        Vital {
            shared: Arc::clone(shared),
            what,
        }
    }
}

impl Drop for Vital {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.shared.fail(format!("{} panicked", self.what));
        }
    }
}

/// Revisions at which long reads are under way. A compaction is logical at once; what it removes is kept until no
/// read below it is under way, so that a read that was right when it began ends right.
#[derive(Default)]
pub(super) struct Pins(Mutex<BTreeMap<i64, usize>>);

impl Pins {
    /// Whether a compaction up to `compacted` may remove versions now.
    pub(super) fn allow(&self, compacted: i64) -> bool {
        self.0
            .lock()
            .first_key_value()
            .is_none_or(|(oldest, _)| *oldest >= compacted)
    }

    /// How many reads are under way.
    pub(super) fn len(&self) -> usize {
        self.0.lock().values().sum()
    }
}

/// A read under way at a revision; ends when dropped.
pub(super) struct Pin {
    shared: Arc<Shared>,
    revision: i64,
    /// The state in which it began; see [`Shared::installs`].
    installs: u64,
}

impl Pin {
    /// Must be taken while the state's lock is held in which the read began.
    pub(super) fn new(shared: &Arc<Shared>, revision: i64) -> Self {
        *shared.pins.0.lock().entry(revision).or_insert(0) += 1;
        Pin {
            shared: Arc::clone(shared),
            revision,
            installs: shared.installs(),
        }
    }

    /// The state in which the read began; see [`Shared::installs`].
    pub(super) fn installs(&self) -> u64 {
        self.installs
    }

    /// Whether the state is still the one in which the read began; to be asked while its lock is held.
    pub(super) fn stands(&self) -> bool {
        self.installs == self.shared.installs()
    }

    /// The stored history of the state in which the read began, once it is there. An error for a read that must be
    /// tried again, because that state was replaced, or is not in the working copy in time.
    pub(super) async fn history(&self) -> Result<Arc<RevisionStore>, Unavailable> {
        let mut history = self.shared.history.subscribe();
        let settled = history.wait_for(|history| match history {
            History::Replacing(_) => !self.stands(),
            History::Stored(_) | History::Stopped => true,
        });
        let limit = self.shared.settings.request_timeout();
        let settled = self.shared.offload.within(limit, settled).await;
        match settled.ok_or(Unavailable::Timeout)?.as_deref() {
            Ok(History::Stored(stored)) if stored.installs == self.installs => {
                Ok(Arc::clone(&stored.revisions))
            }
            Ok(History::Stored(_) | History::Replacing(_)) => Err(Unavailable::LeaderChanged),
            Ok(History::Stopped) | Err(_) => Err(Unavailable::Stopped),
        }
    }

    /// The same, where it is there at once.
    pub(super) fn history_now(&self) -> Option<Arc<RevisionStore>> {
        let stored = self.shared.stored()?;
        (stored.installs == self.installs).then_some(stored.revisions)
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut pins = self.shared.pins.0.lock();
        let count = pins.get_mut(&self.revision).expect("each pin is counted");
        *count -= 1;
        if *count == 0 {
            pins.remove(&self.revision);
        }
    }
}

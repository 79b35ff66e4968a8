//! What the driver and the callers share: the applied state behind its lock, and numbers that the driver publishes
//! for everybody to read without it.
//!
//! The lock is a readers-writer lock because many callers read while one driver applies; it is held for the apply of
//! one batch or one step of a scan, never across a wait. No actor knows of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use proto::etcdserverpb::ResponseHeader;
use tokio::sync::{Notify, mpsc, watch};

use super::command::Command;
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
    pub(super) state: RwLock<State>,
    /// The stored history; gone once the store has stopped, so that its files are closed though handles live on.
    pub(super) history: RwLock<Option<Arc<RevisionStore>>>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) mailbox: mpsc::Sender<Command>,
    /// The way to the other members, and where their messages arrive.
    pub(super) transport: Arc<dyn Transport>,
    pub(super) inbox: mpsc::Sender<(MemberId, Bytes)>,
    pub(super) counter: AtomicU64,
    pub(super) streams: AtomicU64,
    pub(super) published: Published,
    pub(super) pins: Pins,
    pub(super) fatal: watch::Sender<Option<String>>,
    pub(super) ready: watch::Sender<bool>,
    pub(super) stopping: AtomicBool,
    /// The driver has ended and everything is closed.
    pub(super) ended: watch::Sender<bool>,
    /// Readers of watch streams have gone without being able to tell.
    pub(super) streams_abandoned: AtomicBool,
    pub(super) dirty: Dirty,
    pub(super) offload: Offload,
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
    pub(super) term: AtomicU64,
    pub(super) leader_changes: AtomicU64,
    pub(super) committed: AtomicU64,
    pub(super) applied: AtomicU64,
    pub(super) last_index: AtomicU64,
    pub(super) revision: AtomicI64,
    pub(super) pending: AtomicUsize,
    pub(super) pending_bytes: AtomicUsize,
    pub(super) failed: AtomicU64,
    pub(super) puts: AtomicU64,
    pub(super) deletes: AtomicU64,
    pub(super) ranges: AtomicU64,
    pub(super) txns: AtomicU64,
    pub(super) read_rounds_given_up: AtomicU64,
    pub(super) leases_granted: AtomicU64,
    pub(super) leases_revoked: AtomicU64,
    pub(super) leases_renewed: AtomicU64,
    pub(super) leases_expired: AtomicU64,
    pub(super) watchers: AtomicU64,
    pub(super) watch_streams: AtomicU64,
    pub(super) slow_watchers: AtomicU64,
    pub(super) pending_events: AtomicU64,
    pub(super) events: AtomicU64,
    pub(super) backend_bytes: AtomicU64,
    pub(super) wal_sync: super::metrics::Histogram,
    pub(super) checkpoint: super::metrics::Histogram,
    pub(super) wal_bytes: AtomicU64,
}

/// Bytes of revisions not yet checkpointed, and the waiters for there to be fewer.
#[derive(Default)]
pub(super) struct Dirty {
    pub(super) bytes: AtomicUsize,
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

    /// Completes a header in which the rooms below have filled in the revision.
    pub(super) fn complete(&self, header: &mut Option<ResponseHeader>) {
        let revision = header.as_ref().map_or(0, |header| header.revision);
        *header = Some(self.header(revision));
    }

    /// The stored history.
    pub(super) fn history(&self) -> Result<Arc<RevisionStore>, Unavailable> {
        self.history.read().clone().ok_or(Unavailable::Stopped)
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
        let dirty = self.dirty.bytes.load(Ordering::Relaxed) as u64;
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
}

/// A read under way at a revision; ends when dropped.
pub(super) struct Pin {
    shared: Arc<Shared>,
    revision: i64,
}

impl Pin {
    /// Must be taken while the state's lock is held in which the read began.
    pub(super) fn new(shared: &Arc<Shared>, revision: i64) -> Self {
        *shared.pins.0.lock().entry(revision).or_insert(0) += 1;
        Pin {
            shared: Arc::clone(shared),
            revision,
        }
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

//! The watch of one resource in the store, and the ring that it fills. It is started by the first client that watches
//! the resource. When the connection breaks, it goes on behind the last revision that it surely has; when the history
//! behind that is compacted meanwhile, everybody has to list again, and a new ring begins.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{Instant, MissedTickBehavior};

use super::Settings;
use super::ring::{Cursor, Entry, Read, Ring};
use crate::etcd::{Batch, Change, Etcd, Failure, Stream};
use crate::resources::Resource;
use crate::status::Status;

/// What is known of the changes of one resource.
pub(super) struct Feed {
    r: &'static Resource,
    prefix: String,
    events_max: usize,
    bytes_max: usize,
    progress_interval: Duration,
    lost_after: Duration,
    /// Whether the store tells the truth when it is asked how far a watch is.
    tells_progress: AtomicBool,
    state: Mutex<State>,
    /// Told when the ring begins, and when the watch is given up or works again.
    turned: Notify,
    wakers: Mutex<Wakers>,
    task: Mutex<Option<AbortHandle>>,
}

#[derive(Default)]
struct State {
    ring: Option<Ring>,
    /// Counts the rings: a reader of an older one has missed something.
    rings: u64,
    /// Why the store has been out of reach for too long.
    lost: Option<Failure>,
    /// Whether the store has opened the watch since it broke the last time.
    opened: bool,
    /// Changes and bytes that were put in since everybody was woken.
    unheard: (usize, usize),
}

/// Who waits for changes: of one namespace, or of all.
#[derive(Default)]
struct Wakers {
    all: Weak<Notify>,
    namespaces: BTreeMap<Box<str>, Weak<Notify>>,
    sweep_at: usize,
}

/// A reader's place in one of the rings.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    cursor: Cursor,
    ring: u64,
}

/// What a reader finds next.
pub(super) enum Next {
    Change(Arc<Entry>),
    UpTo(i64),
    /// It has missed something. What there is begins behind this revision.
    Missed(i64),
    /// The store is out of reach.
    Lost,
}

impl Feed {
    pub(super) fn new(r: &'static Resource, prefix: String, settings: &Settings) -> Arc<Feed> {
        Arc::new(Feed {
            r,
            prefix,
            events_max: settings.ring_events_max,
            bytes_max: settings.ring_bytes_max,
            progress_interval: settings.progress_interval,
            lost_after: settings.lost_after,
            tells_progress: AtomicBool::new(true),
            state: Mutex::default(),
            turned: Notify::new(),
            wakers: Mutex::default(),
            task: Mutex::default(),
        })
    }

    /// Begins to watch.
    pub(super) fn start(self: &Arc<Feed>, etcd: &Etcd) {
        let (feed, etcd) = (Arc::clone(self), etcd.clone());
        let task = tokio::spawn(async move { feed.run(&etcd).await });
        *self.task.lock() = Some(task.abort_handle());
    }

    /// Ends it.
    pub(super) fn stop(&self) {
        if let Some(task) = self.task.lock().take() {
            task.abort();
        }
    }

    /// Waits until there is a ring.
    pub(super) async fn ready(&self) -> Result<(), Status> {
        let deadline = Instant::now() + READY_WAIT;
        loop {
            let turned = self.turned.notified();
            tokio::pin!(turned);
            turned.as_mut().enable();
            {
                let state = self.state.lock();
                if let Some(failure) = &state.lost {
                    return Err(failure.to_status());
                }
                if state.ring.is_some() {
                    return Ok(());
                }
            }
            if tokio::time::timeout_at(deadline, turned).await.is_err() {
                let message = "the store does not answer".to_owned();
                return Err(Failure::Timeout { message }.to_status());
            }
        }
    }

    /// A place for somebody who knows everything up to a revision, or else the revision behind which the ring begins:
    /// none where there is no ring at the moment.
    pub(super) fn join(&self, after: i64) -> Result<Place, Option<i64>> {
        let state = self.state.lock();
        let ring = state.ring.as_ref().ok_or(None)?;
        let cursor = ring.join(after).ok_or(Some(ring.base()))?;
        Ok(Place {
            cursor,
            ring: state.rings,
        })
    }

    /// The next change of a key with this prefix.
    pub(super) fn read(&self, place: &mut Place, prefix: &str) -> Next {
        let state = self.state.lock();
        let Some(ring) = state.ring.as_ref().filter(|_| place.ring == state.rings) else {
            return Next::Missed(state.ring.as_ref().map_or(0, Ring::base));
        };
        match ring.read(&mut place.cursor, prefix) {
            Read::Change(entry) => Next::Change(entry),
            Read::Overtaken(base) => Next::Missed(base),
            Read::UpTo(_) if state.lost.is_some() => Next::Lost,
            Read::UpTo(head) => Next::UpTo(head),
        }
    }

    /// What is told when something of a namespace changes, or anything at all.
    pub(super) fn waker(&self, namespace: Option<&str>) -> Arc<Notify> {
        let mut wakers = self.wakers.lock();
        let Some(namespace) = namespace else {
            return shared(&mut wakers.all);
        };
        if wakers.namespaces.len() >= wakers.sweep_at {
            wakers.namespaces.retain(|_, waker| waker.strong_count() > 0);
            wakers.sweep_at = wakers.namespaces.len() * 2 + SWEEP_MIN;
        }
        shared(wakers.namespaces.entry(namespace.into()).or_default())
    }

    /// Asks how far a watch of this resource is, unless the answer may be wrong.
    pub(super) fn ask_progress(&self, stream: &Stream) {
        if self.tells_progress.load(Ordering::Relaxed) {
            stream.ask_progress();
        }
    }

    async fn run(&self, etcd: &Etcd) {
        let mut failed_since: Option<Instant> = None;
        let mut pause = RETRY_MIN;
        loop {
            let Err(failure) = self.follow(etcd).await;
            if matches!(failure, Failure::Compacted { .. }) {
                tracing::warn!(
                    resource = self.r.plural,
                    "changes were missed, all clients list again"
                );
                self.begin_anew();
                continue;
            }
            tracing::debug!(resource = self.r.plural, %failure, "the watch broke");
            if self.was_opened() {
                (failed_since, pause) = (None, RETRY_MIN);
            }
            let since = *failed_since.get_or_insert_with(Instant::now);
            if since.elapsed() > self.lost_after {
                self.set_lost(Some(failure));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY_MAX);
        }
    }

    /// Watches for as long as it goes well.
    async fn follow(&self, etcd: &Etcd) -> Result<Infallible, Failure> {
        let head = match self.head() {
            Some(head) => head,
            None => etcd.revision(&self.prefix).await?,
        };
        // Who may not ask for the version is no old server.
        let tells_progress = etcd
            .version()
            .await
            .map_or(true, |version| tells_progress(&version));
        self.tells_progress.store(tells_progress, Ordering::Relaxed);
        let mut stream = etcd.watch(&self.prefix, head + 1).await?;
        self.opened(&mut stream, head).await?;
        let mut ask = tokio::time::interval(self.progress_interval);
        ask.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                batch = stream.next() => match batch? {
                    Batch::Created => {}
                    Batch::Changes(changes) => self.push(&changes),
                    Batch::Progress(revision) => self.reach(revision),
                },
                _ = ask.tick() => self.ask_progress(&stream),
            }
        }
    }

    /// The store has the watch: from here on nothing is missed.
    async fn opened(&self, stream: &mut Stream, head: i64) -> Result<(), Failure> {
        let created = tokio::time::timeout(READY_WAIT, stream.next()).await;
        let created = created.map_err(|_| Failure::Timeout {
            message: "the store does not open a watch".to_owned(),
        })?;
        let changes = match created? {
            Batch::Changes(changes) => changes,
            Batch::Created | Batch::Progress(_) => Vec::new(),
        };
        {
            let mut state = self.state.lock();
            if state.ring.is_none() {
                state.ring = Some(Ring::after(head, self.events_max, self.bytes_max));
                state.rings += 1;
            }
            state.opened = true;
        }
        self.push(&changes);
        self.set_lost(None);
        Ok(())
    }

    fn push(&self, changes: &[Change]) {
        // Objects are cut and perhaps parsed outside of the lock: nobody else writes.
        let entries: Vec<Entry> = changes
            .iter()
            .map(|change| {
                let before = change.before.as_ref();
                let known = before.and_then(|kv| self.known(&kv.key, kv.mod_revision));
                Entry::of(self.r, change, known)
            })
            .collect();
        let mut touched: Vec<Box<str>> = entries
            .iter()
            .filter_map(|entry| entry.key.get(self.prefix.len()..)?.split_once('/'))
            .map(|(namespace, _)| namespace.into())
            .collect();
        touched.sort_unstable();
        touched.dedup();
        let everybody = {
            let mut state = self.state.lock();
            state.unheard.0 += entries.len();
            state.unheard.1 += entries.iter().map(|entry| entry.bytes).sum::<usize>();
            if let Some(ring) = &mut state.ring {
                ring.push(entries);
            }
            // Readers of quiet namespaces must not be overtaken: they are led past what does not concern them in time.
            let (events, bytes) = state.unheard;
            let everybody = events > self.events_max / WAKES || bytes > self.bytes_max / WAKES;
            if everybody {
                state.unheard = (0, 0);
            }
            everybody
        };
        if everybody {
            self.wake_everybody();
        } else {
            self.wake(&touched);
        }
    }

    fn known(&self, key: &[u8], revision: i64) -> Option<Arc<super::Item>> {
        self.state.lock().ring.as_ref()?.known(key, revision)
    }

    fn reach(&self, revision: i64) {
        if let Some(ring) = &mut self.state.lock().ring {
            ring.reach(revision);
        }
    }

    fn head(&self) -> Option<i64> {
        self.state.lock().ring.as_ref().map(Ring::head)
    }

    fn begin_anew(&self) {
        self.state.lock().ring = None;
        self.wake_everybody();
    }

    fn was_opened(&self) -> bool {
        std::mem::take(&mut self.state.lock().opened)
    }

    fn set_lost(&self, lost: Option<Failure>) {
        let is_lost = lost.is_some();
        self.state.lock().lost = lost;
        self.turned.notify_waiters();
        if is_lost {
            self.wake_everybody();
        }
    }

    fn wake(&self, namespaces: &[Box<str>]) {
        let wakers = self.wakers.lock();
        let told = namespaces.iter().filter_map(|name| wakers.namespaces.get(name));
        for waker in told.chain([&wakers.all]).filter_map(Weak::upgrade) {
            waker.notify_waiters();
        }
    }

    fn wake_everybody(&self) {
        let wakers = self.wakers.lock();
        let told = wakers.namespaces.values().chain([&wakers.all]);
        for waker in told.filter_map(Weak::upgrade) {
            waker.notify_waiters();
        }
    }
}

/// Whether a server of this version answers how far a watch is only when all before has been sent. Some did not.
fn tells_progress(version: &str) -> bool {
    let mut numbers = version
        .split(['.', '-', '+'])
        .map(|number| number.parse::<u32>().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0);
    match (next(), next(), next()) {
        (3, 4, patch) => patch >= 31,
        (3, 5, patch) => patch >= 13,
        (major, minor, _) => (major, minor) > (3, 5),
    }
}

/// The one that is in use, or a new one.
fn shared(waker: &mut Weak<Notify>) -> Arc<Notify> {
    waker.upgrade().unwrap_or_else(|| {
        let new = Arc::new(Notify::new());
        *waker = Arc::downgrade(&new);
        new
    })
}

/// How long a client waits for the store to open a watch.
const READY_WAIT: Duration = Duration::from_secs(10);
/// The first pause before a watch is opened again.
const RETRY_MIN: Duration = Duration::from_millis(50);
/// And the longest.
const RETRY_MAX: Duration = Duration::from_secs(2);
/// How often everybody is woken while the ring is filled once.
const WAKES: usize = 4;
/// Namespaces without a reader that are kept at least.
const SWEEP_MIN: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_servers_are_not_asked() {
        for (version, asked) in [
            ("3.3.27", false),
            ("3.4.30", false),
            ("3.4.31", true),
            ("3.5.12", false),
            ("3.5.13", true),
            ("3.6.0-rc.1", true),
            ("3.7.1", true),
            ("4.0.0", true),
            ("", false),
        ] {
            assert_eq!(tells_progress(version), asked, "{version}");
        }
    }
}

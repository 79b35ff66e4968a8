//! A watch of one client: first the objects that are there, if it asked for them; then every change behind a revision,
//! once and in order.
//!
//! It reads the ring of the resource. A client that starts below the ring is caught up from the store's own history, by
//! a watch of its own, until what it has reaches into the ring. Whoever is overtaken by the ring, and whoever asks for
//! what is compacted, gets 410 as the last event.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::Engine;
use super::feed::{self, Feed, Next};
use super::item::Item;
use super::keys::{self, Place};
use super::list::{behind, is_selected};
use super::options::{WatchOptions, parse_version};
use super::ring::{Entry, Seen};
use super::storage::item_of;
use crate::codec;
use crate::etcd::{Batch, Failure, Page, Stream};
use crate::resources::Resource;
use crate::status::Status;

/// A watch. It ends when it is dropped.
pub struct Watch {
    engine: Engine,
    r: &'static Resource,
    place: Place,
    options: WatchOptions,
    feed: Arc<Feed>,
    /// Told when there may be something to read.
    waker: Arc<Notify>,
    state: State,
    /// The newest revision that the client was sent.
    told: i64,
    /// The revision up to which nothing is left to be sent, while it is not read from the ring.
    known: i64,
    next_bookmark: Instant,
}

/// What happens to an object, or to the watch.
#[derive(Clone, Debug)]
pub struct Event {
    /// What it is.
    pub kind: EventKind,
    /// The object; of a bookmark one with nothing but a resource version, of an error the refusal.
    pub object: Arc<Item>,
    /// The revision; 0 of an error.
    pub revision: i64,
}

/// What an event tells.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum EventKind {
    /// It is there.
    Added,
    /// It is another than before.
    Modified,
    /// It is there no more.
    Deleted,
    /// All events up to this revision have been sent.
    Bookmark,
    /// The watch ends with this.
    Error(Status),
}

impl EventKind {
    /// The word of the API.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            EventKind::Added => "ADDED",
            EventKind::Modified => "MODIFIED",
            EventKind::Deleted => "DELETED",
            EventKind::Bookmark => "BOOKMARK",
            EventKind::Error(_) => "ERROR",
        }
    }
}

/// How far a watch is.
enum State {
    /// It sends what was there at a revision.
    Listing {
        items: VecDeque<Arc<Item>>,
        /// Where the next page begins, if there is one.
        next: Option<String>,
        revision: i64,
    },
    /// It needs the changes after what it knows.
    Joining,
    /// It reads the store's history until it reaches the ring.
    History(Box<History>),
    /// It reads the ring.
    Live(feed::Place),
    Ended,
}

struct History {
    stream: Stream,
    pending: VecDeque<Entry>,
    /// All changes up to this revision are sent or pending.
    reached: i64,
}

impl Engine {
    /// Watches the objects of a resource, in a namespace or everywhere.
    pub async fn watch(
        &self,
        r: &'static Resource,
        namespace: Option<&str>,
        options: WatchOptions,
    ) -> Result<Watch, Status> {
        options.check()?;
        let place = self.place(r, namespace, &options.fields)?;
        let version = parse_version(options.resource_version.as_deref()).map_err(Status::unforeseen)?;
        let feed = self.feed(r);
        feed.ready().await?;
        // Without a version, and from any version, it begins with what is there; so it does if it is asked to.
        let lists = options.send_initial_events.unwrap_or(version == 0);
        let (state, told) = if lists {
            let keys = self.shared.settings.list_page_keys;
            let page = self.first_page(&place.start, &place.end, keys, version).await?;
            let revision = page.revision;
            (listing(r, page)?, revision)
        } else if version == 0 {
            // Only what comes from now on.
            (State::Joining, self.etcd().revision(&place.prefix).await?)
        } else {
            (State::Joining, version)
        };
        let namespace = namespace.filter(|namespace| r.namespaced && !namespace.is_empty());
        Ok(Watch {
            engine: self.clone(),
            r,
            waker: feed.waker(namespace),
            place,
            next_bookmark: Instant::now() + self.shared.settings.bookmark_interval,
            options,
            feed,
            state,
            told,
            known: told,
        })
    }

    /// The feed of a resource, started if this is the first time.
    fn feed(&self, r: &'static Resource) -> Arc<Feed> {
        let mut feeds = self.shared.feeds.lock();
        let feed = feeds.entry((r.group, r.version, r.plural)).or_insert_with(|| {
            let prefix = keys::directory(&self.shared.settings.prefix, r);
            let feed = Feed::new(r, prefix, &self.shared.settings);
            feed.start(self.etcd());
            feed
        });
        Arc::clone(feed)
    }
}

impl Watch {
    /// The next event; none when the watch is over. May be dropped and called again: nothing is lost.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            let step = match &self.state {
                State::Listing { .. } => self.list().await,
                State::Joining => self.join().await,
                State::History(_) => self.read_history().await,
                State::Live(_) => self.read_ring().await,
                State::Ended => return None,
            };
            match step {
                Ok(Some(event)) => return Some(event),
                Ok(None) => {}
                Err(status) => {
                    self.state = State::Ended;
                    return Some(error(status));
                }
            }
        }
    }

    /// A bookmark of where the client is, before a watch is ended; none where it would tell nothing new or is not
    /// understood.
    pub fn bookmark(&mut self) -> Option<Event> {
        if !self.options.bookmarks {
            return None;
        }
        let State::Live(place) = &mut self.state else {
            return None;
        };
        // What is still to be read stays so: this looks ahead with a copy.
        let mut ahead = *place;
        match self.feed.read(&mut ahead, &self.place.prefix) {
            Next::UpTo(head) if head > self.told => {
                *place = ahead;
                self.bookmark_at(head, false).ok()
            }
            _ => None,
        }
    }

    /// One of the objects that were there, or the end of them.
    async fn list(&mut self) -> Result<Option<Event>, Status> {
        let State::Listing {
            items,
            next,
            revision,
        } = &mut self.state
        else {
            return Ok(None);
        };
        let revision = *revision;
        while let Some(item) = items.pop_front() {
            if is_selected(&item, &self.options.labels, &self.options.fields)? {
                let revision = item.revision();
                return Ok(Some(Event {
                    kind: EventKind::Added,
                    object: item,
                    revision,
                }));
            }
        }
        if let Some(key) = next.clone() {
            let keys = self.engine.shared.settings.list_page_keys;
            let page = self
                .engine
                .page_at(&key, &self.place, keys, revision, false)
                .await?;
            self.state = listing(self.r, page)?;
            return Ok(None);
        }
        self.state = State::Joining;
        (self.told, self.known) = (revision, revision);
        if self.options.send_initial_events == Some(true) && self.options.bookmarks {
            return self.bookmark_at(revision, true).map(Some);
        }
        Ok(None)
    }

    /// Into the ring if it goes back far enough, else into the history.
    async fn join(&mut self) -> Result<Option<Event>, Status> {
        self.feed.ready().await?;
        if let Ok(place) = self.feed.join(self.known) {
            self.state = State::Live(place);
            return Ok(None);
        }
        let stream = self
            .engine
            .etcd()
            .watch(&self.place.prefix, self.known + 1)
            .await?;
        // Answered as soon as all is told that there is, even if that is nothing.
        self.feed.ask_progress(&stream);
        self.state = State::History(Box::new(History {
            stream,
            pending: VecDeque::new(),
            reached: self.known,
        }));
        Ok(None)
    }

    async fn read_history(&mut self) -> Result<Option<Event>, Status> {
        let State::History(history) = &mut self.state else {
            return Ok(None);
        };
        while let Some(entry) = history.pending.pop_front() {
            if self.place.holds(entry.key.as_bytes())
                && let Some(event) = event_of(&entry, &self.options)?
            {
                self.told = entry.revision;
                return Ok(Some(event));
            }
        }
        self.known = history.reached;
        if let Ok(place) = self.feed.join(history.reached) {
            self.state = State::Live(place);
            return Ok(None);
        }
        let batch = match tokio::time::timeout(PROGRESS_AGAIN, history.stream.next()).await {
            Ok(batch) => batch,
            Err(_) => {
                self.feed.ask_progress(&history.stream);
                return Ok(None);
            }
        };
        match batch {
            Ok(Batch::Created) => {}
            Ok(Batch::Progress(revision)) => history.reached = history.reached.max(revision),
            Ok(Batch::Changes(changes)) => {
                let entries = changes.iter().map(|change| Entry::of(self.r, change, None));
                history.pending = entries.filter(|entry| entry.revision > history.reached).collect();
                if let Some(last) = history.pending.back() {
                    history.reached = last.revision;
                }
            }
            Err(Failure::Compacted { oldest }) => return Err(too_old(self.known, oldest)),
            Err(failure) => {
                tracing::debug!(%failure, "the history broke off");
                tokio::time::sleep(HISTORY_PAUSE).await;
                self.state = State::Joining;
            }
        }
        Ok(None)
    }

    async fn read_ring(&mut self) -> Result<Option<Event>, Status> {
        let State::Live(place) = &mut self.state else {
            return Ok(None);
        };
        // Listens before it looks, so that nothing comes in between.
        let waker = Arc::clone(&self.waker);
        let woken = waker.notified();
        tokio::pin!(woken);
        woken.as_mut().enable();
        let head = loop {
            match self.feed.read(place, &self.place.prefix) {
                Next::Change(entry) => {
                    if !self.place.holds(entry.key.as_bytes()) {
                        continue;
                    }
                    let event = event_of(&entry, &self.options)?;
                    if event.is_some() {
                        self.told = self.told.max(entry.revision);
                        return Ok(event);
                    }
                }
                Next::UpTo(head) => break head,
                Next::Missed(base) => return Err(too_old(self.told, base)),
                Next::Lost => {
                    self.state = State::Ended;
                    return Ok(None);
                }
            }
        };
        if !self.options.bookmarks {
            woken.await;
            return Ok(None);
        }
        if Instant::now() >= self.next_bookmark {
            self.next_bookmark = Instant::now() + self.engine.shared.settings.bookmark_interval;
            if head > self.told {
                return self.bookmark_at(head, false).map(Some);
            }
        }
        let _ = tokio::time::timeout_at(self.next_bookmark, woken).await;
        Ok(None)
    }

    /// The client knows everything up to here.
    fn bookmark_at(&mut self, revision: i64, initial: bool) -> Result<Event, Status> {
        self.told = revision;
        let mut object = json!({
            "kind": self.r.kind,
            "apiVersion": self.r.api_version(),
            "metadata": {},
        });
        if initial {
            object["metadata"]["annotations"] = json!({INITIAL_EVENTS_END: "true"});
        }
        let mut object = object.as_object().cloned().unwrap_or_default();
        codec::fill(self.r.type_name, &mut object);
        Ok(Event {
            kind: EventKind::Bookmark,
            object: Arc::new(Item::of(object, revision)?),
            revision,
        })
    }
}

fn listing(r: &'static Resource, page: Page) -> Result<State, Status> {
    let next = page
        .kvs
        .last()
        .filter(|_| page.more)
        .map(|last| behind(&last.key));
    let mut items = VecDeque::with_capacity(page.kvs.len());
    for kv in page.kvs {
        items.push_back(Arc::new(item_of(r, &kv.value, kv.mod_revision)?));
    }
    Ok(State::Listing {
        items,
        next,
        revision: page.revision,
    })
}

fn event_of(entry: &Entry, options: &WatchOptions) -> Result<Option<Event>, Status> {
    let seen = entry.seen(&options.labels, &options.fields)?;
    Ok(seen.map(|(seen, object)| Event {
        kind: match seen {
            Seen::Added => EventKind::Added,
            Seen::Modified => EventKind::Modified,
            Seen::Deleted => EventKind::Deleted,
        },
        object,
        revision: entry.revision,
    }))
}

fn error(status: Status) -> Event {
    Event {
        object: Arc::new(Item::refusal(&status)),
        kind: EventKind::Error(status),
        revision: 0,
    }
}

/// What came after this revision is not known any more.
fn too_old(revision: i64, oldest: i64) -> Status {
    Status::expired(format!("too old resource version: {revision} ({oldest})"))
}

/// What the last bookmark of the objects that were there says.
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";
/// How long to wait for an answer how far a history is before asking again.
const PROGRESS_AGAIN: Duration = Duration::from_secs(1);
/// How long to wait after a history broke off.
const HISTORY_PAUSE: Duration = Duration::from_millis(200);

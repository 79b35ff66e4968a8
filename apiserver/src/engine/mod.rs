//! Get, list, watch, create, update and delete of any resource, on the store alone: nothing is cached but the newest
//! events of what somebody watches, so that several engines on one store, or one that was killed and started again,
//! show the same.
//!
//! - An object's resource version is the mod revision of its key, a list's the revision of the read. Neither is stored.
//! - Every write is one transaction that expects the key as it was read. Who loses tries again on what is there then,
//!   unless the request names the version that it wants to change.
//! - A watch gives every change behind its revision once and in order, or ends with 410 (see `watch.rs`).
//! - What differs from kind to kind is asked of `rules` and of the table of resources.

mod allot;
mod compactor;
mod delete;
mod feed;
mod item;
mod keys;
mod leases;
mod list;
mod namespaces;
mod options;
mod ring;
mod storage;
mod watch;
mod write;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

pub use self::delete::Deleted;
pub use self::item::Item;
pub use self::list::Listed;
pub use self::options::{DeleteOptions, ListOptions, Propagation, WatchOptions, WriteOptions};
pub use self::watch::{Event, EventKind, Watch};
pub use self::write::Updated;

use self::feed::Feed;
use self::leases::Leases;
use crate::etcd::Etcd;

/// An object as it was found: JSON to be sent, or fields.
pub type Found = Item;

/// The engine. Cheap to clone; what it keeps running ends with the last clone.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

struct Shared {
    etcd: Etcd,
    settings: Settings,
    leases: Leases,
    /// Held by whoever allots addresses: another would only be too late.
    allotting: tokio::sync::Mutex<()>,
    /// What is watched, by resource.
    feeds: Mutex<BTreeMap<FeedKey, Arc<Feed>>>,
    /// Whether watches are to end.
    ending: tokio::sync::watch::Sender<bool>,
}

/// Group, version and plural.
type FeedKey = (&'static str, &'static str, &'static str);

/// What can be set.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What all keys begin with. It has a slash in front and none at its end, given or not.
    pub prefix: String,
    /// How many events are kept of a resource that is watched.
    pub ring_events_max: usize,
    /// How many bytes they may take together.
    pub ring_bytes_max: usize,
    /// How often a watch that asked for bookmarks gets one.
    pub bookmark_interval: Duration,
    /// How often the store is asked how far a watch is.
    pub progress_interval: Duration,
    /// How long the store may be out of reach before watches end.
    pub lost_after: Duration,
    /// How many keys of a list are read at once.
    pub list_page_keys: i64,
    /// The address of the service `default/kubernetes`, the first of the range of services.
    pub service_address: String,
    /// The port on which this server listens, for that service.
    pub service_target_port: u16,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            prefix: "/registry".to_owned(),
            ring_events_max: RING_EVENTS_MAX,
            ring_bytes_max: RING_BYTES_MAX,
            bookmark_interval: BOOKMARK_INTERVAL,
            progress_interval: PROGRESS_INTERVAL,
            lost_after: LOST_AFTER,
            list_page_keys: LIST_PAGE_KEYS,
            service_address: "10.96.0.1".to_owned(),
            service_target_port: 6443,
        }
    }
}

impl Engine {
    /// An engine on a store. Nothing is asked of the store yet.
    #[must_use]
    pub fn new(etcd: Etcd, mut settings: Settings) -> Engine {
        settings.prefix = keys::clean_prefix(&settings.prefix);
        Engine {
            shared: Arc::new(Shared {
                etcd,
                settings,
                leases: Leases::default(),
                allotting: tokio::sync::Mutex::default(),
                feeds: Mutex::default(),
                ending: tokio::sync::watch::Sender::new(false),
            }),
        }
    }

    /// Ends all watches of clients, and those that begin later at once: the server stops, and clients are to go elsewhere
    /// with what they have.
    pub fn end_watches(&self) {
        self.shared.ending.send_replace(true);
    }

    /// Becomes true when watches are to end.
    pub(crate) fn ending(&self) -> tokio::sync::watch::Receiver<bool> {
        self.shared.ending.subscribe()
    }

    /// The settings.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.shared.settings
    }

    fn etcd(&self) -> &Etcd {
        &self.shared.etcd
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        for feed in self.feeds.lock().values() {
            feed.stop();
        }
    }
}

/// Events kept of one resource. A client that is further behind has to list again.
const RING_EVENTS_MAX: usize = 8192;
/// Bytes of them.
const RING_BYTES_MAX: usize = 8 << 20;
/// As often as a real server sends them.
const BOOKMARK_INTERVAL: Duration = Duration::from_secs(60);
/// Often enough that no bookmark is older than this, and that a client which reconnects finds its revision.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(10);
/// Longer than an election takes, or a restart of the store.
const LOST_AFTER: Duration = Duration::from_secs(30);
/// Keys of a list that are read at once.
const LIST_PAGE_KEYS: i64 = 500;

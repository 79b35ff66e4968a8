//! The other members: the real [`Transport`], and what a member learns of a cluster before it has a store.
//!
//! | module | what |
//! | --- | --- |
//! | `link` | one connection to a peer, from the side that sends |
//! | `accept` | the peer port: pages for tools and joining members, and the receiving side of connections |
//! | `dial`, `handshake`, `protocol` | reaching a peer; what is agreed before the first frame |
//! | `frame`, `queue` | messages on a connection, and before it |
//! | `discover` | what is asked of a running cluster at the first start |
//! | `promote` | the promotion of a learner by way of the leader |
//! | `numbers`, `quiet` | what is counted; what is not said twice |
//!
//! Messages are opaque. Nothing here may wait for a peer on behalf of the store, send a message twice, or hand one to
//! the store that was sent to another cluster or another member. All tasks run on the runtime of the store's driver.
//!
//! # The connections
//!
//! There is one TCP connection per peer, class of messages and direction: whoever has something to send dials, and
//! whoever is dialed receives. The dialer uses the peer's advertised URLs, in their order, and asks over HTTP/1.1:
//!
//! ```text
//! GET /taffrail/peer/v1/CLASS HTTP/1.1        CLASS: control, log or snapshot
//! Connection: Upgrade
//! Upgrade: taffrail-peer/1
//! X-Etcd-Cluster-ID: HEX                      ids in hexadecimal, without padding
//! X-Server-From: HEX
//! X-Server-To: HEX
//! X-Server-Version: 3.7.1                     what the dialer is
//! X-Min-Cluster-Version: 3.7.0                the oldest version that it can speak to
//! X-Taffrail-Protocols: 2-2                   the versions of what is sent over it that it speaks
//! X-Taffrail-Version: 0.1.0                   for the text of a refusal
//! ```
//!
//! The answer is `101` with the same `Upgrade`, cluster id and versions, or a refusal: `412` for another cluster
//! (`cluster ID mismatch`), another receiver (`to field mismatch`) or a version, by its first two numbers, that one
//! side does not know (`incompatible version`), or because there is no protocol that both speak (the text says which
//! side is the older one; both log it); `404` for a sender that is no member (`error sender not found`); `410` for one
//! that was removed from the cluster (`removed member`), which then stops for good; `503` while the store is not open
//! yet. The dialer judges the answer's headers in the same way.
//!
//! From there on each direction is a row of frames. All numbers are little-endian.
//!
//! | bytes | what |
//! | --- | --- |
//! | 4 | length of the message, at most the limit of [`Peers::new`] |
//! | length | the message |
//!
//! or, where the length is `0xffff_ffff`, a ping:
//!
//! | bytes | what |
//! | --- | --- |
//! | 4 | `ff ff ff ff` |
//! | 8 | whatever the dialer wants to see again |
//!
//! The dialer sends messages, and a ping at once and then every [`PING_INTERVAL`]; the other side sends nothing but each
//! ping's echo. Either side closes a connection on which it heard nothing for [`SILENCE_TICKS_MAX`] such intervals of
//! its own running time (a process that was stopped does not blame its peers), and the dialer one that takes no byte
//! for as long. A new connection of a class ends the one before it. What was queued for a connection or written to it
//! when it breaks is lost.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use parking_lot::{Mutex, RwLock};
use store::env::{Class, Instant, Transport};
use store::types::MemberId;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

use self::numbers::Numbers;
use self::promote::Promotions;
use self::queue::{Bounds, Queue};
use self::quiet::Quiet;
use crate::config::url::{self, Url};
use crate::tls::Connector;

pub(crate) mod accept;
mod dial;
pub(crate) mod discover;
mod frame;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod handshake;
mod link;
pub(crate) mod numbers;
pub(crate) mod promote;
mod protocol;
mod queue;
mod quiet;

pub(crate) use self::handshake::{CLUSTER, Identity};
pub(crate) use self::protocol::Protocols;

/// Asks the peer at `url` for a page, within `time`; the reason in one line where there is no answer.
pub(crate) async fn ask(
    url: &Url,
    tls: Option<&Connector>,
    request: Request<String>,
    time: Duration,
) -> Result<Response<Bytes>, String> {
    let answer = dial::get(url, tls, request, time).await;
    answer.map_err(|error| match std::error::Error::source(&error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    })
}

/// The transport. Cheap to clone; all clones are one.
#[derive(Clone)]
pub(crate) struct Peers(Arc<Shared>);

/// What the transport is told once the store is open.
pub(crate) struct Home {
    /// Who this member is.
    pub(crate) identity: Identity,
    /// Takes a message in; `false` says that it was dropped.
    pub(crate) receive: Box<dyn Fn(MemberId, Bytes) -> bool + Send + Sync>,
    /// The store's clock.
    pub(crate) now: Box<dyn Fn() -> Instant + Send + Sync>,
    /// Whether a member was removed from the cluster.
    pub(crate) is_removed: Box<dyn Fn(MemberId) -> bool + Send + Sync>,
    /// A peer says that this member was removed from the cluster.
    pub(crate) removed: Box<dyn Fn() + Send + Sync>,
}

/// What all tasks share.
struct Shared {
    runtime: Handle,
    home: OnceLock<Home>,
    peers: RwLock<BTreeMap<MemberId, Arc<Peer>>>,
    /// Of all peers that ever were.
    numbers: Mutex<BTreeMap<MemberId, Arc<Numbers>>>,
    frame_bytes_max: usize,
    /// What TLS with others needs.
    tls: Option<Connector>,
    refused: Quiet,
    promotions: Promotions,
    /// How long a call may wait for another member.
    request_timeout: Duration,
    stopping: watch::Sender<bool>,
}

/// Another member.
struct Peer {
    id: MemberId,
    urls: Mutex<Vec<Url>>,
    links: [Link; Class::ALL.len()],
    /// Since when each class's connection is there.
    up: Mutex<[Option<Instant>; Class::ALL.len()]>,
    /// The tasks that read its connections to us.
    inbound: Mutex<[Option<AbortHandle>; Class::ALL.len()]>,
    /// The tasks that keep our connections to it.
    outbound: Mutex<Vec<AbortHandle>>,
    numbers: Arc<Numbers>,
    unreachable: Quiet,
}

/// What leads to one connection.
struct Link {
    queue: Queue,
    /// It may be worth while to dial now.
    again: Notify,
}

/// A peer as the metrics show it.
pub(crate) struct PeerView {
    pub(crate) id: MemberId,
    pub(crate) numbers: Arc<Numbers>,
    /// Absent for one that is no member any more.
    pub(crate) known: Option<Known>,
}

/// What there is of a present member only.
pub(crate) struct Known {
    /// Whether it can be sent to.
    pub(crate) active: bool,
    /// Class, messages and bytes that wait.
    pub(crate) queues: [(&'static str, usize, usize); Class::ALL.len()],
}

impl Peers {
    /// A transport whose tasks run on the current runtime. Messages of up to `message_bytes` are certain to pass.
    /// Calls to others may take `request_timeout`.
    pub(crate) fn new(message_bytes: usize, tls: Option<Connector>, request_timeout: Duration) -> Peers {
        Peers(Arc::new(Shared {
            runtime: Handle::current(),
            home: OnceLock::new(),
            peers: RwLock::default(),
            numbers: Mutex::default(),
            // Several requests may travel in one message; a length must stay apart from a ping's mark.
            frame_bytes_max: message_bytes
                .saturating_mul(2)
                .clamp(FRAME_BYTES_MAX, FRAME_BYTES_CEILING),
            tls,
            refused: Quiet::default(),
            promotions: Promotions::default(),
            request_timeout,
            stopping: watch::Sender::new(false),
        }))
    }

    /// Begins: peers are dialed, and those that dial are heard.
    pub(crate) fn attach(&self, home: Home) {
        assert!(self.0.home.set(home).is_ok(), "a transport serves one store");
        for peer in self.0.peers.read().values() {
            self.0.begin(peer);
        }
    }

    /// Ends: all connections are closed, and no new ones are taken.
    pub(crate) async fn stop(&self) {
        self.0.stopping.send_replace(true);
        if tokio::time::timeout(STOP_MAX, self.0.stopping.closed())
            .await
            .is_err()
        {
            tracing::debug!("some connections to peers were cut off");
        }
        for peer in std::mem::take(&mut *self.0.peers.write()).values() {
            peer.end();
        }
    }

    /// Who the transport belongs to, once that is known.
    pub(crate) fn identity(&self) -> Option<Identity> {
        self.0.home.get().map(|home| home.identity)
    }

    /// What became of promotions.
    pub(crate) fn promotions(&self) -> &Promotions {
        &self.0.promotions
    }

    fn request_timeout(&self) -> Duration {
        self.0.request_timeout
    }

    /// All peers that there are or were.
    pub(crate) fn view(&self) -> Vec<PeerView> {
        let peers = self.0.peers.read();
        let numbers = self.0.numbers.lock();
        let view = numbers.iter().map(|(id, numbers)| PeerView {
            id: *id,
            numbers: numbers.clone(),
            known: peers.get(id).map(|peer| peer.known()),
        });
        view.collect()
    }
}

impl Transport for Peers {
    fn send(&self, to: MemberId, class: Class, message: Bytes) -> bool {
        let peers = self.0.peers.read();
        let Some(peer) = peers.get(&to) else {
            return false;
        };
        let sent = message.len() <= self.0.frame_bytes_max && peer.link(class).queue.push(message);
        if !sent {
            Numbers::add(&peer.numbers.sent_failures, 1);
        }
        sent
    }

    fn set_peers(&self, told: &[(MemberId, Vec<String>)]) {
        let mut peers = self.0.peers.write();
        peers.retain(|id, peer| {
            let stays = told.iter().any(|(told, _)| told == id);
            if !stays {
                tracing::info!(peer_id = %id, "stopped talking to a member that is none any more");
                peer.end();
            }
            stays
        });
        for (id, urls) in told {
            let urls = usable(*id, urls);
            match peers.get(id) {
                Some(peer) => *peer.urls.lock() = urls,
                None => {
                    let numbers = self.0.numbers.lock().entry(*id).or_default().clone();
                    let peer = Arc::new(Peer::new(*id, urls, numbers));
                    self.0.begin(&peer);
                    peers.insert(*id, peer);
                }
            }
        }
    }

    fn connected_since(&self, peer: MemberId) -> Option<Instant> {
        self.0.peers.read().get(&peer)?.active_since()
    }
}

impl Shared {
    /// Starts a peer's tasks, if the time has come and they do not run.
    fn begin(self: &Arc<Self>, peer: &Arc<Peer>) {
        let Some(home) = self.home.get() else {
            return;
        };
        let mut tasks = peer.outbound.lock();
        if tasks.is_empty() && !*self.stopping.borrow() {
            tasks.extend(Class::ALL.map(|class| {
                let task = link::run(self.clone(), home.identity, peer.clone(), class);
                self.runtime.spawn(task).abort_handle()
            }));
        }
    }

    fn now(&self) -> Instant {
        self.home.get().map_or(Instant::default(), |home| (home.now)())
    }
}

impl Peer {
    fn new(id: MemberId, urls: Vec<Url>, numbers: Arc<Numbers>) -> Peer {
        Peer {
            id,
            urls: Mutex::new(urls),
            links: Class::ALL.map(|class| Link {
                queue: Queue::new(Bounds::of(class)),
                again: Notify::new(),
            }),
            up: Mutex::default(),
            inbound: Mutex::default(),
            outbound: Mutex::default(),
            numbers,
            unreachable: Quiet::default(),
        }
    }

    fn link(&self, class: Class) -> &Link {
        &self.links[class as usize]
    }

    /// Since when it can be sent to: the classes without which there is no consensus.
    fn active_since(&self) -> Option<Instant> {
        let up = self.up.lock();
        Some(up[Class::Control as usize]?.max(up[Class::Log as usize]?))
    }

    /// Notes that a class's connection came or went; true where that changed whether the peer is active.
    fn set_up(&self, class: Class, since: Option<Instant>) -> bool {
        let before = self.active_since().is_some();
        self.up.lock()[class as usize] = since;
        self.active_since().is_some() != before
    }

    /// A new connection from the peer takes the place of the one before it. It also shows that the peer is there.
    fn take_in(&self, class: Class, reader: AbortHandle) {
        if let Some(before) = self.inbound.lock()[class as usize].replace(reader) {
            before.abort();
        }
        for link in &self.links {
            link.again.notify_one();
        }
    }

    fn end(&self) {
        for task in self.outbound.lock().drain(..) {
            task.abort();
        }
        for reader in self.inbound.lock().iter_mut().filter_map(Option::take) {
            reader.abort();
        }
    }

    fn known(&self) -> Known {
        Known {
            active: self.active_since().is_some(),
            queues: Class::ALL.map(|class| {
                let (messages, bytes) = self.link(class).queue.depth();
                (name(class), messages, bytes)
            }),
        }
    }
}

/// The word for a class in logs and labels.
fn name(class: Class) -> &'static str {
    match class {
        Class::Control => "control",
        Class::Log => "log",
        Class::Snapshot => "snapshot",
    }
}

/// The URLs that can be dialed; a line for each that cannot.
fn usable(peer: MemberId, texts: &[String]) -> Vec<Url> {
    let mut usable = Vec::new();
    for text in texts {
        match url::parse(text).and_then(|url| url.target().map(drop).map(|()| url)) {
            Ok(url) => usable.push(url),
            Err(error) => tracing::error!(peer_id = %peer, %error, "a peer URL cannot be used"),
        }
    }
    usable
}

/// How often the dialer pings. Control's pings measure the round trip.
const PING_INTERVAL: Duration = Duration::from_secs(1);
/// So many intervals without a sign of the other side, and the connection counts as broken.
const SILENCE_TICKS_MAX: u32 = 5;
/// The longest message where no request may be longer: raft's largest append, many times over.
const FRAME_BYTES_MAX: usize = 64 << 20;
/// The longest message at all.
const FRAME_BYTES_CEILING: usize = u32::MAX as usize / 2;
/// The longest that ending takes.
const STOP_MAX: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests;

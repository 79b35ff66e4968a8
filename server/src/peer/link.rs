//! One connection to a peer, from the side that sends: dialed until it stands, written to until it breaks, and dialed
//! again.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Buf as _;
use store::env::real::OsEntropy;
use store::env::{Class, Entropy as _};
use tokio::io::AsyncWriteExt as _;
use tokio::time::{Instant, MissedTickBehavior, timeout};

use super::dial::{self, DialError, Upgraded};
use super::frame::{Frame, Incoming, Outgoing, TooLong};
use super::handshake::Identity;
use super::numbers::Numbers;
use super::{PING_INTERVAL, Peer, SILENCE_TICKS_MAX, Shared, name};
use crate::core::raised;
use crate::listen::Stream;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error("closed by the peer")]
    Closed,
    #[error("nothing heard for {SILENCE_TICKS_MAX} s")]
    Silent,
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    TooLong(#[from] TooLong),
    #[error("a frame that this side may not send")]
    Unexpected,
    #[error("this member stops")]
    Stopping,
}

/// Keeps the connection for messages of `class` to `peer` until the process stops.
pub(super) async fn run(shared: Arc<Shared>, own: Identity, peer: Arc<Peer>, class: Class) {
    let mut stopping = shared.stopping.subscribe();
    let mut pause = PAUSE_MIN;
    loop {
        let dialed = tokio::select! {
            dialed = dial(&shared, own, &peer, class) => dialed,
            () = raised(&mut stopping) => return,
        };
        if let Some(upgraded) = dialed {
            let start = Instant::now();
            let mut connection = Connection::begin(&shared, &peer, class);
            let broken = tokio::select! {
                broken = connection.pump(upgraded) => broken,
                broken = async { raised(&mut stopping).await; Broken::Stopping } => broken,
            };
            connection.end(&broken);
            if start.elapsed() >= PAUSE_MAX {
                pause = PAUSE_MIN;
            }
        }
        // Even where the peer shows that it is there: two sides that break each other's connections must not spin.
        let paused = async {
            tokio::time::sleep(jittered(PAUSE_MIN)).await;
            tokio::select! {
                () = tokio::time::sleep(jittered(pause)) => (pause * 2).min(PAUSE_MAX),
                () = peer.link(class).again.notified() => PAUSE_MIN,
            }
        };
        pause = tokio::select! {
            next = paused => next,
            () = raised(&mut stopping) => return,
        };
    }
}

/// Tries the peer's URLs in turn.
async fn dial(shared: &Shared, own: Identity, peer: &Peer, class: Class) -> Option<Upgraded> {
    let urls = peer.urls.lock().clone();
    for url in &urls {
        match dial::upgrade(own, peer.id, class, url, shared.tls.as_ref()).await {
            Ok(upgraded) => return Some(upgraded),
            Err(error) => {
                if let (true, Some(home)) = (error.is_removed(), shared.home.get()) {
                    (home.removed)();
                }
                tell(peer, url.as_str(), &error);
            }
        }
    }
    None
}

fn tell(peer: &Peer, url: &str, error: &DialError) {
    if error.is_starting() {
        tracing::debug!(peer_id = %peer.id, url, "a peer is starting");
        return;
    }
    // The peer's three connections fail alike; whatever differs between attempts stays out of the text.
    if peer.unreachable.admits(&format!("{url} {error}")) {
        let error = error as &dyn std::error::Error;
        tracing::warn!(peer_id = %peer.id, url, error, "cannot reach a peer; trying on");
    }
}

/// A pause of half to all of `pause`.
fn jittered(pause: Duration) -> Duration {
    let half = pause / 2;
    let span = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX).max(1);
    half + Duration::from_nanos(OsEntropy.next_u64() % span)
}

/// A connection that stands.
struct Connection<'a> {
    shared: &'a Shared,
    peer: &'a Peer,
    class: Class,
    outgoing: Outgoing,
    /// Messages in `outgoing`.
    underway: usize,
}

impl<'a> Connection<'a> {
    fn begin(shared: &'a Shared, peer: &'a Peer, class: Class) -> Connection<'a> {
        peer.link(class).queue.open();
        if peer.set_up(class, Some(shared.now())) {
            peer.unreachable.clear();
            tracing::info!(peer_id = %peer.id, "connected to a peer");
        }
        Connection {
            shared,
            peer,
            class,
            outgoing: Outgoing::default(),
            underway: 0,
        }
    }

    fn end(self, broken: &Broken) {
        tracing::debug!(peer_id = %self.peer.id, class = name(self.class), %broken, "a connection to a peer ended");
        let needed = matches!(self.class, Class::Control | Class::Log) && self.peer.active_since().is_some();
        if needed && !matches!(broken, Broken::Stopping) {
            tracing::warn!(peer_id = %self.peer.id, class = name(self.class), reason = %broken, "lost a peer");
        }
    }

    /// Writes what is queued, pings and hears the echoes; ends only when the connection does.
    async fn pump(&mut self, upgraded: Upgraded) -> Broken {
        match self.try_pump(upgraded).await {
            Ok(never) => match never {},
            Err(broken) => broken,
        }
    }

    async fn try_pump(&mut self, upgraded: Upgraded) -> Result<std::convert::Infallible, Broken> {
        let Upgraded { mut stream, before } = upgraded;
        let mut echoes = Incoming::new(&before, 0);
        let start = Instant::now();
        let mut ticks = tokio::time::interval(PING_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut quiet_ticks = 0;
        loop {
            tokio::select! {
                () = self.peer.link(self.class).queue.filled() => {
                    self.take_queued();
                    self.write(&mut stream).await?;
                }
                _ = ticks.tick() => {
                    if quiet_ticks >= SILENCE_TICKS_MAX {
                        return Err(Broken::Silent);
                    }
                    quiet_ticks += 1;
                    self.outgoing.ping(nanoseconds(start.elapsed()));
                    self.write(&mut stream).await?;
                }
                read = echoes.read(&mut stream) => {
                    if read? == 0 {
                        return Err(Broken::Closed);
                    }
                    while let Some(frame) = echoes.next()? {
                        let Frame::Ping(sent) = frame else {
                            return Err(Broken::Unexpected);
                        };
                        quiet_ticks = 0;
                        self.echoed(start.elapsed(), sent);
                    }
                }
            }
        }
    }

    fn take_queued(&mut self) {
        let (outgoing, underway) = (&mut self.outgoing, &mut self.underway);
        self.peer.link(self.class).queue.drain(BATCH_BYTES, |message| {
            outgoing.message(message);
            *underway += 1;
        });
    }

    /// Writes all of `outgoing`, for as long as the peer goes on taking bytes.
    async fn write(&mut self, stream: &mut Stream) -> Result<(), Broken> {
        self.outgoing.seal();
        while self.outgoing.has_remaining() {
            let written = timeout(
                PING_INTERVAL * SILENCE_TICKS_MAX,
                stream.write_buf(&mut self.outgoing),
            );
            let written = written.await.map_err(|_| Broken::Silent)??;
            Numbers::add(&self.peer.numbers.sent_bytes, written);
        }
        // TLS may have taken what the socket has not.
        let flushed = timeout(PING_INTERVAL * SILENCE_TICKS_MAX, stream.flush());
        flushed.await.map_err(|_| Broken::Silent)??;
        self.underway = 0;
        Ok(())
    }

    fn echoed(&self, now: Duration, sent: u64) {
        if self.class == Class::Control {
            let time = nanoseconds(now).saturating_sub(sent);
            self.peer.numbers.round_trip(Duration::from_nanos(time));
        }
    }
}

impl Drop for Connection<'_> {
    /// However it ends, also by the end of its task: nothing of it is ever sent again.
    fn drop(&mut self) {
        let lost = self.underway + self.peer.link(self.class).queue.close();
        Numbers::add(&self.peer.numbers.sent_failures, lost);
        if self.peer.set_up(self.class, None) && !*self.shared.stopping.borrow() {
            Numbers::add(&self.peer.numbers.disconnected, 1);
        }
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// What is taken from the queue at once: large enough to make a write worth its cost, small enough that the bounds of
/// the queue are the bounds of what is held.
const BATCH_BYTES: usize = 1 << 20;
/// The pauses between attempts to reach a peer: the shortest, and the longest.
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_secs(1);

//! The ordered stop: signal, tell the clients, stop the store, let connections end, all within
//! [`STOP_MAX`] and [`DRAIN_MAX`].

use std::io;
use std::time::Duration;

use store::Store;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::peer::Peers;

/// SIGTERM and SIGINT, caught from the moment this exists.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(crate) fn catch() -> io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// The next signal, under Go's name for it.
    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "terminated",
            _ = self.interrupt.recv() => "interrupt",
        }
    }
}

/// Stops serving. `stopping` tells accept loops, streams and connections; its receivers are gone when they are.
/// Another signal meanwhile ends the process at once.
///
/// Peers are talked to until the store has stopped: a leader hands over its part first.
pub(crate) async fn stop(store: &Store, peers: &Peers, stopping: watch::Sender<bool>, mut signals: Signals) {
    tokio::spawn(async move {
        let signal = signals.next().await;
        tracing::warn!(signal, "stopping at once");
        std::process::exit(1);
    });
    stopping.send_replace(true);
    // Streams end by themselves now; give their last messages a turn before the store refuses the calls under way.
    tokio::task::yield_now().await;
    if tokio::time::timeout(STOP_MAX, store.stop()).await.is_err() {
        tracing::warn!("the store took too long to stop; the log replays what is missing at the next start");
    }
    peers.stop().await;
    if tokio::time::timeout(DRAIN_MAX, stopping.closed()).await.is_err() {
        tracing::info!("some connections were cut off");
    }
    tracing::info!("stopped");
}

/// The longest that the store may take, the transfer of leadership included.
const STOP_MAX: Duration = Duration::from_millis(1500);
/// The longest that connections may take to end after that.
const DRAIN_MAX: Duration = Duration::from_millis(300);

//! Which runtime serves which connection: one current-thread runtime per usable core, connections dealt out in
//! turn. A connection and all its calls stay on one core; runtime 0 also drives the store.

use std::io;
use std::net::TcpStream as StdStream;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::connection::{self, Entry};
use crate::core::{Core, raised};

/// The runtimes, as seen by whoever accepts connections.
pub(crate) struct Placement {
    /// Runtime 0, which is the caller's own.
    own: Arc<Core>,
    others: Vec<mpsc::Sender<(StdStream, Entry)>>,
}

impl Placement {
    /// Starts a thread with a runtime for each of `cores` but the first, whose runtime is the current one.
    pub(crate) fn start(mut cores: Vec<Arc<Core>>) -> io::Result<Placement> {
        let own = cores.remove(0);
        let mut others = Vec::new();
        for (number, core) in cores.into_iter().enumerate() {
            let (sender, receiver) = mpsc::channel(HANDOVERS_MAX);
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            std::thread::Builder::new()
                .name(format!("io-{}", number + 1))
                .spawn(move || runtime.block_on(serve_handed(core, receiver)))?;
            others.push(sender);
        }
        Ok(Placement { own, others })
    }

    /// Accepts connections until the process stops; `first` is the runtime that gets the first one.
    pub(crate) async fn accept(
        &self,
        listener: TcpListener,
        entry: Entry,
        mut stopping: watch::Receiver<bool>,
    ) {
        let mut turn = 0;
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = raised(&mut stopping) => return,
            };
            match accepted {
                Ok((stream, _)) => {
                    self.place(turn, stream, entry).await;
                    turn = (turn + 1) % (self.others.len() + 1);
                }
                Err(error) => {
                    // Out of descriptors, most likely: they come back when connections end.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn place(&self, turn: usize, stream: TcpStream, entry: Entry) {
        let Some(other) = turn.checked_sub(1).and_then(|index| self.others.get(index)) else {
            tokio::spawn(connection::serve(self.own.clone(), entry, stream));
            return;
        };
        match stream.into_std() {
            // A worker ends only with the process.
            Ok(stream) => drop(other.send((stream, entry)).await),
            Err(error) => tracing::warn!(%error, "cannot hand a connection over"),
        }
    }
}

/// Serves what is handed over until nothing more can come, then until the last of it is served: the runtime ends with
/// this future, and would cut off the connections that are being told of the stop.
async fn serve_handed(core: Arc<Core>, mut handed: mpsc::Receiver<(StdStream, Entry)>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            next = handed.recv() => match next.map(|(stream, entry)| (TcpStream::from_std(stream), entry)) {
                Some((Ok(stream), entry)) => drop(connections.spawn(connection::serve(core.clone(), entry, stream))),
                Some((Err(error), _)) => tracing::warn!(%error, "cannot take a connection over"),
                None => break,
            },
            Some(_) = connections.join_next() => {}
        }
    }
    while connections.join_next().await.is_some() {}
}

/// Connections on their way to one runtime.
const HANDOVERS_MAX: usize = 256;
/// How long to leave a failing `accept` alone.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

//! Which runtime serves which connection: one current-thread runtime per usable core, connections dealt out in
//! turn. A connection and all its calls stay on one core; runtime 0 also drives the store.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::connection;
use crate::core::{Core, raised};
use crate::listen::{Handed, Listening, Port, Socket};

/// The runtimes, as seen by whoever accepts connections.
pub(crate) struct Placement {
    /// Runtime 0, which is the caller's own.
    own: Arc<Core>,
    others: Vec<mpsc::Sender<(Handed, Arc<Port>)>>,
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
        listener: Listening,
        port: Arc<Port>,
        mut stopping: watch::Receiver<bool>,
    ) {
        let mut turn = 0;
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = raised(&mut stopping) => return,
            };
            match accepted {
                Ok(socket) => {
                    let Some(socket) = socket.seated(&self.own.defences.clients) else {
                        continue;
                    };
                    self.place(turn, socket, port.clone()).await;
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

    async fn place(&self, turn: usize, socket: Socket, port: Arc<Port>) {
        let Some(other) = turn.checked_sub(1).and_then(|index| self.others.get(index)) else {
            tokio::spawn(connection::serve(self.own.clone(), port, socket));
            return;
        };
        match socket.hand_over() {
            // A worker ends only with the process.
            Ok(handed) => drop(other.send((handed, port)).await),
            Err(error) => tracing::warn!(%error, "cannot hand a connection over"),
        }
    }
}

/// Serves what is handed over until nothing more can come, then until the last of it is served: the runtime ends with
/// this future, and would cut off the connections that are being told of the stop.
async fn serve_handed(core: Arc<Core>, mut handed: mpsc::Receiver<(Handed, Arc<Port>)>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            next = handed.recv() => match next.map(|(handed, port)| (Socket::take_over(handed), port)) {
                Some((Ok(socket), port)) => drop(connections.spawn(connection::serve(core.clone(), port, socket))),
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

//! A way to the store that can be closed: connections through it break, and no new one comes through until it is open
//! again.

use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// A loopback port in front of another one.
pub(crate) struct Road {
    port: u16,
    open: Arc<watch::Sender<bool>>,
    task: AbortHandle,
}

impl Road {
    /// A way to a port of this machine.
    pub(crate) async fn to(target: u16) -> Road {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let open = Arc::new(watch::Sender::new(true));
        let gate = Arc::clone(&open);
        let task = tokio::spawn(async move {
            loop {
                let Ok((client, _)) = listener.accept().await else {
                    continue;
                };
                let mut gate = gate.subscribe();
                if *gate.borrow_and_update() {
                    tokio::spawn(carry(client, target, gate));
                }
            }
        });
        Road {
            port,
            open,
            task: task.abort_handle(),
        }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Breaks all connections and lets none through.
    pub(crate) fn close(&self) {
        self.open.send_replace(false);
    }

    pub(crate) fn open(&self) {
        self.open.send_replace(true);
    }

    /// Breaks all connections.
    pub(crate) fn cut(&self) {
        self.close();
        self.open();
    }
}

impl Drop for Road {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(mut client: TcpStream, target: u16, mut gate: watch::Receiver<bool>) {
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", target)).await else {
        return;
    };
    tokio::select! {
        _ = gate.changed() => {}
        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
    }
}

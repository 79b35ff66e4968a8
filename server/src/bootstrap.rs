//! The ordered start: bind every socket, so that a taken port is found before anything is touched; open the store;
//! wait until it can serve; serve; say so.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use store::{OpenError, Store};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;

use crate::config::{ETCD_VERSION, GIT_SHA, Settings, TAFFRAIL_VERSION};
use crate::connection::Role;
use crate::core::{self, Core};
use crate::grpc::backlog::Backlog;
use crate::grpc::meter::Shard;
use crate::metrics::HealthCounts;
use crate::placement::Placement;
use crate::shutdown::{self, Signals};

/// Why the member did not start, or could not go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("cannot listen on {address}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("cannot open the store in {directory}")]
    Open { directory: String, source: OpenError },
    #[error("cannot start a thread or an event loop")]
    Runtime(#[source] io::Error),
    #[error("the store met a fatal error: {0}")]
    Fatal(String),
}

/// Runs a member until a signal stops it.
pub(crate) fn run(settings: Settings) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::Runtime)?;
    let result = runtime.block_on(start(settings));
    // Nothing is waited for any more: what had to be saved is saved.
    runtime.shutdown_background();
    result
}

async fn start(settings: Settings) -> Result<(), Failure> {
    let mut signals = Signals::catch().map_err(Failure::Runtime)?;
    announce(&settings);
    let listeners = bind_all(&settings)?;
    let directory = settings.store.data_dir.display().to_string();
    let election = settings.store.election;
    let opened = tokio::select! {
        opened = Store::open(settings.store.clone()) => opened,
        signal = signals.next() => {
            tracing::info!(signal, "stopped before the store was open");
            return Ok(());
        }
    };
    let store = opened.map_err(|source| Failure::Open { directory, source })?;
    let (stopping, stopping_seen) = watch::channel(false);
    tokio::select! {
        biased;
        fatal = store.failed() => return Err(Failure::Fatal(fatal)),
        ready = store.ready() => ready.map_err(|error| Failure::Fatal(error.to_string()))?,
        signal = signals.next() => {
            tracing::info!(signal, "stopping before the member was ready");
            drop(stopping_seen);
            shutdown::stop(&store, stopping, signals).await;
            return Ok(());
        }
    }
    let (leaderless, leaderless_seen) = watch::channel(false);
    tokio::spawn(core::watch_leader(store.clone(), election, leaderless));
    let cores = cores(&store, &settings, &leaderless_seen, &stopping_seen);
    let placement = Arc::new(Placement::start(cores).map_err(Failure::Runtime)?);
    for (listener, role) in listeners {
        let (placement, stopping) = (placement.clone(), stopping_seen.clone());
        tokio::spawn(async move { placement.accept(listener, role, stopping).await });
    }
    drop((placement, stopping_seen));
    let member_id = store.member_id().to_string();
    let cluster_id = store.cluster_id().to_string();
    tracing::info!(member_id, cluster_id, "ready to serve client requests");
    notify_service_manager();
    tokio::select! {
        signal = signals.next() => {
            tracing::info!(signal, "stopping");
            shutdown::stop(&store, stopping, signals).await;
            Ok(())
        }
        fatal = store.failed() => Err(Failure::Fatal(fatal)),
    }
}

fn announce(settings: &Settings) {
    for warning in &settings.warnings {
        tracing::warn!("{warning}");
    }
    tracing::info!(
        taffrail_version = TAFFRAIL_VERSION,
        etcd_version = ETCD_VERSION,
        git_sha = GIT_SHA,
        name = settings.store.name,
        data_dir = %settings.store.data_dir.display(),
        listen_client = ?settings.listen_client,
        listen_peer = ?settings.listen_peer,
        "starting a member"
    );
}

fn bind_all(settings: &Settings) -> Result<Vec<(TcpListener, Role)>, Failure> {
    let roles = [
        (&settings.listen_client, Role::Client),
        (&settings.listen_peer, Role::Peer),
        (&settings.listen_metrics, Role::Metrics),
    ];
    let mut listeners = Vec::new();
    for (addresses, role) in roles {
        for &address in addresses {
            let listener = bind(address).map_err(|source| Failure::Listen { address, source })?;
            if let Ok(bound) = listener.local_addr() {
                tracing::info!(address = %bound, role = ?role, "listening");
            }
            listeners.push((listener, role));
        }
    }
    Ok(listeners)
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    // A restart must not wait for connections of the last run to time out.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// One core per CPU that this process may use.
fn cores(
    store: &Store,
    settings: &Settings,
    leaderless: &watch::Receiver<bool>,
    stopping: &watch::Receiver<bool>,
) -> Vec<Arc<Core>> {
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    let shards: Arc<[Arc<Shard>]> = (0..count).map(|_| Shard::new()).collect();
    let health = Arc::new(HealthCounts::default());
    let (requests, answers) = (Backlog::of_requests(), Backlog::of_answers());
    shards
        .iter()
        .map(|shard| {
            Arc::new(Core {
                store: store.clone(),
                limits: settings.connection,
                shard: shard.clone(),
                shards: shards.clone(),
                requests: requests.clone(),
                answers: answers.clone(),
                health: health.clone(),
                leaderless: leaderless.clone(),
                stopping: stopping.clone(),
            })
        })
        .collect()
}

/// Tells systemd, if it started us and wants to know.
fn notify_service_manager() {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    let sent = std::os::unix::net::UnixDatagram::unbound()
        .and_then(|socket| socket.send_to(b"READY=1\n", std::path::Path::new(&path)));
    if let Err(error) = sent {
        tracing::warn!(%error, "cannot tell the service manager that the member is ready");
    }
}

/// Connections that may wait to be accepted, as while the store opens.
const BACKLOG: u32 = 4096;

//! The ordered start: bind every socket, so that a taken port is found before anything is touched; serve peers, who
//! may need this member before it can serve itself; on an empty disk, ask them whether it may start; open the store;
//! serve probes; wait until there is a cluster to serve, but not for ever; serve clients; say so.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use store::auth::Caller;
use store::{OpenError, Store};
use tokio::sync::watch;

use crate::audit::Audit;
use crate::auth::Auth;
use crate::backup::Backups;
use crate::compactor;
use crate::config::Settings;
use crate::core::{self, Core};
use crate::corruption::{Checker, InitialError};
use crate::defences::{self, Defences};
use crate::grpc::backlog::Backlog;
use crate::grpc::meter::Shard;
use crate::kubernetes::{self, SharedRouter};
use crate::listen::{self, ListenError, Listeners, Listening, Port};
use crate::memory;
use crate::metrics::HealthCounts;
use crate::peer::discover::{self, DiscoverError};
use crate::peer::{Home, Identity, Peers, Protocols, accept};
use crate::placement::Placement;
use crate::private;
use crate::shutdown::{self, Signals};
use crate::tls::Connector;

/// Why the member did not start, or could not go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error("cannot open the store in {directory}")]
    Open { directory: String, source: OpenError },
    #[error(transparent)]
    Discover(#[from] DiscoverError),
    #[error("cannot start a thread or an event loop")]
    Runtime(#[source] io::Error),
    #[error("cannot open the audit log")]
    Audit(#[source] io::Error),
    #[error("checkInitialHashKV failed")]
    Inconsistent(#[from] InitialError),
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
    private::warn_of_open_directory(&settings.store.data_dir);
    let defences = Defences::new(defences::raise_descriptors());
    let listeners = Listeners::bind(&settings)?;
    let peers = Peers::new(
        settings.connection.message_bytes_max,
        listeners.connector.clone(),
        settings.store.request_timeout(),
    );
    let shared_store = Arc::new(OnceLock::new());
    for (listening, tls) in listeners.peer {
        let (peers, store) = (peers.clone(), shared_store.clone());
        let seats = defences.peers.clone();
        tokio::spawn(accept::serve(listening, tls, seats, peers, store));
    }
    // What has no data yet has nothing to compare; a folder that cannot be read is told of when it is opened.
    let had_data = store::shell::has_data(&settings.store).unwrap_or(false);
    let opened = tokio::select! {
        opened = open(&settings, &peers, listeners.connector.as_ref()) => opened,
        signal = signals.next() => {
            tracing::info!(signal, "stopped before the store was open");
            return Ok(());
        }
    };
    let store = opened?;
    // Set once, here.
    let _ = shared_store.set(store.clone());
    attach(&peers, &store);
    let auth = Auth::start(&settings.auth, &store).map_err(Failure::Runtime)?;
    let checker = Checker {
        store: store.clone(),
        tls: listeners.connector.clone(),
        patience: settings.store.request_timeout(),
    };
    if had_data && settings.corruption.initial {
        tokio::select! {
            checked = checker.initial() => checked?,
            signal = signals.next() => {
                tracing::info!(signal, "stopped while the data were compared with the other members'");
                store.stop().await;
                return Ok(());
            }
        }
    }
    let (stopping, stopping_seen) = watch::channel(false);
    let (leaderless, leaderless_seen) = watch::channel(0);
    tokio::spawn(core::watch_leader(
        store.clone(),
        settings.store.election,
        leaderless,
    ));
    tokio::spawn(memory::give_back());
    tokio::spawn(compactor::run(
        store.clone(),
        settings.auto_compaction,
        stopping_seen.clone(),
    ));
    tokio::spawn(checker.run(settings.corruption, stopping_seen.clone()));
    tokio::spawn(auth.clone().sweep(stopping_seen.clone()));
    let audit = Audit::start(&settings.audit).map_err(Failure::Audit)?;
    let cores = cores(
        &store,
        &settings,
        (&peers, &auth),
        (&defences, &audit),
        &leaderless_seen,
        &stopping_seen,
    );
    let core = cores.first().cloned();
    let placement = Arc::new(Placement::start(cores).map_err(Failure::Runtime)?);
    let serve = |listeners| serve_all(listeners, &placement, &stopping_seen);
    serve(listeners.metrics);
    let end = tokio::select! {
        biased;
        fatal = store.failed() => End::Fatal(fatal),
        () = removed(&store) => End::Removed,
        ready = await_cluster(&store) => ready,
        signal = signals.next() => End::Signal(signal),
    };
    let end = match end {
        End::Never => {
            serve(listeners.client);
            if let Some(core) = core.filter(|_| !listeners.kubernetes.is_empty()) {
                let kubernetes_settings = settings.kubernetes.clone();
                let (placement, stopping) = (placement.clone(), stopping_seen.clone());
                tokio::spawn(async move {
                    if kubernetes::start(core, kubernetes_settings).await {
                        serve_all(listeners.kubernetes, &placement, &stopping);
                    }
                });
            }
            announce_service(&store);
            tokio::select! {
                signal = signals.next() => End::Signal(signal),
                fatal = store.failed() => End::Fatal(fatal),
                () = removed(&store) => End::Removed,
            }
        }
        end => end,
    };
    drop((placement, stopping_seen));
    let result = finish(&settings, end, shutdown::stop(&store, &peers, stopping, signals)).await;
    if let Some(audit) = audit {
        audit.finish();
    }
    result
}

/// The stop that fits the end.
async fn finish(settings: &Settings, end: End, stop: impl Future<Output = ()>) -> Result<(), Failure> {
    match end {
        End::Fatal(fatal) => Err(Failure::Fatal(fatal)),
        End::Signal(signal) => {
            tracing::info!(signal, "received signal; shutting down");
            close(settings, stop).await;
            Ok(())
        }
        End::Removed => {
            tell_removed();
            close(settings, stop).await;
            Ok(())
        }
        End::Never => unreachable!("a member serves until something ends it"),
    }
}

/// What ends a member's service.
enum End {
    /// Nothing yet.
    Never,
    Signal(&'static str),
    Fatal(String),
    /// The member was removed from the cluster.
    Removed,
}

/// Says in etcd's words that there is no way back.
fn tell_removed() {
    tracing::warn!(
        error = "the member has been permanently removed from the cluster",
        "server error"
    );
    tracing::warn!("data-dir used by this member must be removed");
}

/// Waits until the member was removed, and long enough for it to tell others of that where it led them.
async fn removed(store: &Store) {
    store.removed().await;
    tokio::time::sleep(REMOVED_PAUSE).await;
}

/// Opens the store, after asking the other members where the disk is empty.
async fn open(settings: &Settings, peers: &Peers, connector: Option<&Connector>) -> Result<Store, Failure> {
    let directory = settings.store.data_dir.display().to_string();
    let failed = |source| Failure::Open {
        directory: directory.clone(),
        source,
    };
    let heal = settings.heal_from_peers;
    let mut settings = settings.store.clone();
    if !store::shell::has_data(&settings).map_err(failed)? {
        discover::prepare(&mut settings, connector).await?;
    }
    match Store::open_with(settings.clone(), Arc::new(peers.clone())).await {
        Err(damage) if heal && damage.is_damage() && has_others(&settings) => {
            start_over(&mut settings, connector, &damage).await?;
            Store::open_with(settings, Arc::new(peers.clone()))
                .await
                .map_err(failed)
        }
        opened => opened.map_err(failed),
    }
}

fn has_others(settings: &store::Settings) -> bool {
    let mut members = settings.initial_cluster.iter();
    members.any(|(name, _)| *name != settings.name)
}

/// Sets damaged data aside, so that the member comes back with an empty disk: it then takes part in nothing until a
/// leader, confirmed by a quorum of the others, has given it a snapshot. Only once the others have answered.
async fn start_over(
    settings: &mut store::Settings,
    connector: Option<&Connector>,
    damage: &OpenError,
) -> Result<(), Failure> {
    let directory = settings.data_dir.display().to_string();
    tracing::error!(%damage, "the data of this member are damaged: they are to come anew from the other members");
    discover::rejoin(settings, connector).await?;
    let kept = store::shell::set_aside(settings).map_err(|source| Failure::Open { directory, source })?;
    for path in kept {
        tracing::warn!(path = %path.display(), "the damaged data are kept here");
    }
    Ok(())
}

/// Connects the store and the transport.
fn attach(peers: &Peers, store: &Store) {
    let (receiver, clock) = (store.clone(), store.clone());
    let (members, own) = (store.clone(), store.clone());
    peers.attach(Home {
        identity: Identity {
            cluster: store.cluster_id(),
            member: store.member_id(),
            protocols: Protocols::OWN,
        },
        receive: Box::new(move |from, message| receiver.receive(from, message)),
        now: Box::new(move || clock.now()),
        is_removed: Box::new(move |member| members.is_removed(member)),
        removed: Box::new(move || own.learn_removed()),
    });
}

/// Waits until requests can be served. Without a cluster for long, clients are served all the same, as by etcd: so
/// they hear what is wrong.
async fn await_cluster(store: &Store) -> End {
    match tokio::time::timeout(CLUSTER_WAIT_MAX, store.ready()).await {
        Ok(Ok(())) => End::Never,
        Ok(Err(error)) => End::Fatal(error.to_string()),
        Err(_) => {
            tracing::warn!(
                waited_s = CLUSTER_WAIT_MAX.as_secs(),
                "no leader yet: serving clients without a cluster"
            );
            End::Never
        }
    }
}

fn announce_service(store: &Store) {
    let (member_id, cluster_id) = (store.member_id().to_string(), store.cluster_id().to_string());
    tracing::info!(member_id, cluster_id, "ready to serve client requests");
    notify_service_manager();
}

/// The whole configuration in one line, under etcd's name and with its fields.
fn announce(settings: &Settings) {
    let mut fields = settings.summary.clone();
    // A data folder that cannot be read is told of when it is opened.
    let initialized = store::shell::has_data(&settings.store).unwrap_or(false);
    fields.insert("member-initialized".to_owned(), initialized.into());
    tracing::info!(fields = %serde_json::Value::Object(fields), "starting an etcd server");
}

/// Accepts connections on each of these until the process stops.
fn serve_all(
    listeners: Vec<(Listening, Arc<Port>)>,
    placement: &Arc<Placement>,
    stopping: &watch::Receiver<bool>,
) {
    for (listening, port) in listeners {
        listen::announce(&listening, &port);
        let (placement, stopping) = (placement.clone(), stopping.clone());
        tokio::spawn(async move { placement.accept(listening, port, stopping).await });
    }
}

/// Says who stops, before and after.
async fn close(settings: &Settings, stop: impl Future<Output = ()>) {
    let identity = serde_json::json!({
        "name": settings.store.name,
        "data-dir": settings.store.data_dir.display().to_string(),
        "advertise-peer-urls": settings.store.initial_advertise_peer_urls,
        "advertise-client-urls": settings.store.advertise_client_urls,
    });
    tracing::info!(fields = %identity, "closing etcd server");
    stop.await;
    tracing::info!(fields = %identity, "closed etcd server");
}

/// One core per CPU that this process may use.
fn cores(
    store: &Store,
    settings: &Settings,
    (peers, auth): (&Peers, &Arc<Auth>),
    (defences, audit): (&Arc<Defences>, &Option<Arc<Audit>>),
    leaderless: &watch::Receiver<u64>,
    stopping: &watch::Receiver<bool>,
) -> Vec<Arc<Core>> {
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    let shards: Arc<[Arc<Shard>]> = (0..count)
        .map(|_| Shard::new(settings.metrics_extensive))
        .collect();
    let health = Arc::new(HealthCounts::default());
    let features: Arc<[_]> = settings.feature_gates.clone().into();
    let http = Arc::new(settings.http.clone());
    let backups = Backups::new(&settings.store.data_dir, health.clone());
    let (requests, answers) = (Backlog::of_requests(), Backlog::of_answers());
    let kubernetes = SharedRouter::default();
    shards
        .iter()
        .map(|shard| {
            Arc::new(Core {
                store: store.clone(),
                nobody: store.acting_as(Caller::Nobody),
                auth: auth.clone(),
                limits: settings.connection,
                http: http.clone(),
                shard: shard.clone(),
                shards: shards.clone(),
                requests: requests.clone(),
                answers: answers.clone(),
                health: health.clone(),
                features: features.clone(),
                slow_request: settings.slow.request,
                backups: backups.clone(),
                peers: peers.clone(),
                leaderless: leaderless.clone(),
                audit: audit.clone(),
                defences: defences.clone(),
                kubernetes: kubernetes.clone(),
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

/// How long clients wait for a cluster at the start: etcd's time.
const CLUSTER_WAIT_MAX: Duration = Duration::from_secs(5);
/// How long a removed member goes on: etcd's time.
const REMOVED_PAUSE: Duration = Duration::from_secs(1);

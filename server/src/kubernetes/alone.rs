//! `taffrail apiserver`: the adapter alone, over a store elsewhere. The flags about that store are kube-apiserver's.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use apiserver::engine::{self, Engine};
use apiserver::etcd::Etcd;
use axum::Router;
use clap::{Arg, ArgMatches, Command};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::config::{self, ConnectionSettings, LogSettings, TlsSettings, duration};
use crate::core::raised;
use crate::ctl::Dialer;
use crate::defences::{self, Defences, TurnedAway};
use crate::listen::{Calls, Guarded, Listening, Socket};
use crate::logging;
use crate::shutdown::Signals;
use crate::tls::{Connector, ServerTls, TlsError};

/// Why the adapter did not start, or could not go on.
#[derive(Debug, thiserror::Error)]
enum AloneError {
    #[error("{0}")]
    Flag(String),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("cannot listen on {url}: {source}")]
    Listen { url: String, source: io::Error },
    #[error("cannot start an event loop or listen for signals: {0}")]
    Runtime(io::Error),
}

/// Where clients are served.
struct Door {
    url: String,
    listening: Listening,
    tls: Option<ServerTls>,
}

/// Runs the command line after `taffrail apiserver` to its exit code.
pub(crate) fn run(args: &[String]) -> ExitCode {
    let matches = match command().try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(error) => {
            // Nothing is left to be done where not even this can be printed.
            let _ = error.print();
            return ExitCode::from(u8::from(error.use_stderr()));
        }
    };
    // To the standard error, which cannot fail to be opened.
    let _ = logging::install(&LogSettings::default());
    crate::abort_on_panic();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(AloneError::Runtime);
    let result = runtime.and_then(|runtime| runtime.block_on(serve(&matches)));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the adapter cannot go on");
            ExitCode::FAILURE
        }
    }
}

fn command() -> Command {
    let flag = |name: &'static str, default: &'static str, help: &'static str| {
        Arg::new(name)
            .long(name)
            .default_value(default)
            .hide_default_value(default.is_empty())
            .help(help)
    };
    Command::new("apiserver")
        .bin_name("taffrail apiserver")
        .about("Serves the Kubernetes API over the etcd API of a store elsewhere.")
        .no_binary_name(true)
        .arg(flag(
            "etcd-servers",
            "http://127.0.0.1:2379",
            "URLs of the store's members, separated by commas",
        ))
        .arg(flag(
            "etcd-prefix",
            "/registry",
            "key below which the objects are stored",
        ))
        .arg(flag(
            "etcd-compaction-interval",
            "5m",
            "how often the history is compacted, to where it was the time before; 0s never",
        ))
        .arg(flag(
            "etcd-cafile",
            "",
            "authorities that the store's certificates are checked against",
        ))
        .arg(flag(
            "etcd-certfile",
            "",
            "certificate that is shown to the store",
        ))
        .arg(flag("etcd-keyfile", "", "key of that certificate"))
        .arg(flag("listen", "http://127.0.0.1:6443", "URL to serve clients on"))
        .arg(flag("tls-cert-file", "", "certificate for an https URL"))
        .arg(flag("tls-private-key-file", "", "key of that certificate"))
}

/// Serves until a signal ends it.
async fn serve(matches: &ArgMatches) -> Result<(), AloneError> {
    let mut signals = Signals::catch().map_err(AloneError::Runtime)?;
    let door = Door::open(matches)?;
    let every = duration::parse(&text(matches, "etcd-compaction-interval")).ok_or_else(|| {
        AloneError::Flag("--etcd-compaction-interval: a duration like 5m is expected".to_owned())
    })?;
    let settings = engine::Settings {
        prefix: text(matches, "etcd-prefix"),
        ..engine::Settings::default()
    };
    let engine = Engine::new(store(matches)?, settings);
    let (stopping, stopping_seen) = watch::channel(false);
    tokio::select! {
        _ = super::founded(&engine, stopping_seen.clone()) => {}
        signal = signals.next() => {
            tracing::info!(signal, "stopped before the store could be asked");
            return Ok(());
        }
    }
    tracing::info!(address = %door.url, "serving the Kubernetes API");
    if !every.is_zero() {
        super::keep_compacted(engine.clone(), every, stopping_seen.clone());
    }
    let router = apiserver::http::router(engine.clone());
    let served = tokio::spawn(accept(door, router, stopping_seen));
    let signal = signals.next().await;
    tracing::info!(signal, "stopping");
    engine.end_watches();
    stopping.send_replace(true);
    // Who does not take its answer is not waited for.
    let _ = tokio::time::timeout(STOP_MAX, served).await;
    Ok(())
}

fn text(matches: &ArgMatches, name: &str) -> String {
    matches.get_one::<String>(name).cloned().unwrap_or_default()
}

fn path(matches: &ArgMatches, name: &str) -> Option<PathBuf> {
    Some(text(matches, name))
        .filter(|path| !path.is_empty())
        .map(PathBuf::from)
}

/// The way to the members of the store. Nothing is connected to before it is needed.
fn store(matches: &ArgMatches) -> Result<Etcd, AloneError> {
    let flag = |error: String| AloneError::Flag(format!("--etcd-servers: {error}"));
    let servers = text(matches, "etcd-servers");
    let tls = TlsSettings {
        trusted_ca_file: path(matches, "etcd-cafile"),
        cert_file: path(matches, "etcd-certfile"),
        key_file: path(matches, "etcd-keyfile"),
        ..TlsSettings::default()
    };
    let mut dialer = None;
    let mut channels = Vec::new();
    for url in servers.split(',').map(str::trim) {
        // The dialer does TLS; to the channel it is a stream like any other.
        let plain = match url.split_once("://") {
            Some(("http", _)) => url.to_owned(),
            Some(("https", rest)) => format!("http://{rest}"),
            _ => {
                let wanted = "URLs like http://127.0.0.1:2379 are expected";
                return Err(flag(format!("{url:?}: {wanted}")));
            }
        };
        let endpoint = Etcd::endpoint(&plain).map_err(|error| flag(error.to_string()))?;
        if plain == url {
            channels.push(endpoint.connect_lazy());
            continue;
        }
        let dialer = match &dialer {
            Some(dialer) => dialer,
            None => dialer.insert(Dialer::new(Connector::new(&tls, false)?, DIAL_MAX)),
        };
        channels.push(endpoint.connect_with_connector_lazy(dialer.clone()));
    }
    Ok(Etcd::over_each(channels))
}

impl Door {
    fn open(matches: &ArgMatches) -> Result<Door, AloneError> {
        let url = text(matches, "listen");
        let listener =
            config::listener(&url).map_err(|error| AloneError::Flag(format!("--listen: {error}")))?;
        let tls = match listener.tls {
            false => None,
            true => Some(ServerTls::new(&TlsSettings {
                cert_file: path(matches, "tls-cert-file"),
                key_file: path(matches, "tls-private-key-file"),
                ..TlsSettings::default()
            })?),
        };
        let listening = Listening::bind(&listener.address).map_err(|source| AloneError::Listen {
            url: url.clone(),
            source,
        })?;
        Ok(Door { url, listening, tls })
    }
}

/// Serves what comes in, until the process stops and what is under way is answered.
async fn accept(door: Door, router: Router, mut stopping: watch::Receiver<bool>) {
    let door = Arc::new(door);
    let defences = Defences::new(defences::raise_descriptors());
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = door.listening.accept() => match accepted {
                Ok(socket) => {
                    // Whoever finds no room is turned away, and counted there.
                    let Some(seat) = defences.clients.take(socket.remote.ip()) else { continue };
                    let (door, router, stopping) = (door.clone(), router.clone(), stopping.clone());
                    let away = defences.away.clone();
                    connections.spawn(async move {
                        connection(&door, socket, router, away, stopping).await;
                        drop(seat);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
            () = raised(&mut stopping) => break,
        }
    }
    while connections.join_next().await.is_some() {}
}

async fn connection(
    door: &Door,
    socket: Socket,
    router: Router,
    away: Arc<TurnedAway>,
    mut stopping: watch::Receiver<bool>,
) {
    // Answers are small and awaited: never wait for more to send.
    if socket.set_nodelay().is_err() {
        return;
    }
    let remote = socket.remote;
    let served = match &door.tls {
        None => exchange(guarded(socket, away), router, &mut stopping).await,
        Some(tls) => match tls.accept(socket).await {
            Ok(stream) => exchange(guarded(stream, away), router, &mut stopping).await,
            Err(error) => Err(error.into()),
        },
    };
    if let Err(error) = served {
        tracing::debug!("remote-addr" = %remote, %error, "a connection broke off");
    }
}

/// Pings are not counted, as behind TLS elsewhere: clients of Kubernetes ping as they like.
fn guarded<S>(stream: S, away: Arc<TurnedAway>) -> Guarded<S> {
    Guarded::new(stream, None, Calls::default(), away)
}

async fn exchange<S>(
    stream: Guarded<S>,
    router: Router,
    stopping: &mut watch::Receiver<bool>,
) -> Result<(), BoxError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let builder = crate::connection::builder(LIMITS);
    let service = TowerToHyperService::new(router);
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        result = connection.as_mut() => result,
        () = raised(stopping) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// How long connecting to a member of the store may take.
const DIAL_MAX: Duration = Duration::from_secs(5);
/// Those of a connection. A controller manager watches some sixty resources on one; a client that is gone is found out, so
/// that nobody watches for it.
const LIMITS: ConnectionSettings = ConnectionSettings {
    streams_max: 1000,
    // No messages of gRPC are taken here.
    message_bytes_max: 0,
    keepalive: Some((Duration::from_secs(30), Duration::from_secs(15))),
    ping_min_interval: Duration::ZERO,
};
/// How long to leave a failing `accept` alone.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long answers that are under way may take once the process stops.
const STOP_MAX: Duration = Duration::from_secs(5);

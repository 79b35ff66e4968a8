//! `taffrail gateway start`: forwards TCP connections to the members of a cluster, as `etcd gateway start` does. It
//! never looks into a connection, so TLS passes through; the client's own certificates are judged by the members.

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, lookup_host};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use self::command::{Plan, PlanError};
use self::remotes::Remotes;
use crate::config::LogSettings;
use crate::logging;
use crate::shutdown::Signals;

mod command;
mod remotes;

/// Why the gateway did not start, or could not go on.
#[derive(Debug, thiserror::Error)]
enum ProxyError {
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error("failed to resolve listen host: {0}")]
    ListenHost(String),
    #[error("failed to resolve endpoint host: {0}")]
    EndpointHost(String),
    #[error(
        "SRV or endpoint ({endpoint}->{address}) should not resolve to the gateway listen addr ({listen})"
    )]
    Loop {
        endpoint: String,
        address: SocketAddr,
        listen: String,
    },
    #[error("cannot listen on {address}: {source}")]
    Listen { address: String, source: io::Error },
    #[error("cannot start an event loop or listen for signals: {0}")]
    Runtime(io::Error),
}

/// Runs the command line after `taffrail gateway` to its exit code.
pub(crate) fn run(args: &[String]) -> ExitCode {
    let matches = match command::command().try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(error) => {
            // Nothing is left to be done where not even this can be printed.
            let _ = error.print();
            return ExitCode::from(u8::from(error.use_stderr()));
        }
    };
    // To the standard error, which cannot fail to be opened.
    let _ = logging::install(&LogSettings::default());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(ProxyError::Runtime);
    let result = runtime.and_then(|runtime| {
        let plan = Plan::of(&matches)?;
        runtime.block_on(proxy(plan))
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Forwards until a signal ends it.
async fn proxy(plan: Plan) -> Result<(), ProxyError> {
    let mut signals = Signals::catch().map_err(ProxyError::Runtime)?;
    refuse_loops(&plan).await?;
    let listener = TcpListener::bind(&plan.listen)
        .await
        .map_err(|source| ProxyError::Listen {
            address: plan.listen.clone(),
            source,
        })?;
    let remotes = Arc::new(Remotes::new(plan.endpoints.clone()));
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    tracing::info!(endpoints = ?plan.endpoints, "ready to proxy client requests");
    let mut retries =
        tokio::time::interval_at(tokio::time::Instant::now() + plan.retry_delay, plan.retry_delay);
    let mut retrying = JoinSet::new();
    loop {
        // A place first: what cannot be served waits in the listener's queue.
        let place = async {
            let place = places.clone().acquire_owned().await;
            (listener.accept().await, place)
        };
        tokio::select! {
            (accepted, place) = place => match accepted {
                Ok((client, _)) => {
                    let (remotes, retry) = (remotes.clone(), plan.retry_delay);
                    connections.spawn(async move {
                        forward(client, &remotes, retry).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
            _ = retries.tick(), if retrying.is_empty() => {
                for endpoint in remotes.inactive() {
                    let remotes = remotes.clone();
                    retrying.spawn(async move { retry(&endpoint, &remotes).await });
                }
            }
            Some(_) = retrying.join_next() => {}
            signal = signals.next() => {
                tracing::info!(signal, "stopped proxying client requests");
                return Ok(());
            }
        }
    }
}

/// An endpoint that is the gateway itself would call itself for ever.
async fn refuse_loops(plan: &Plan) -> Result<(), ProxyError> {
    let own: Vec<SocketAddr> = match lookup_host(&plan.listen).await {
        Ok(found) => found.collect(),
        Err(_) => return Err(ProxyError::ListenHost(plan.listen.clone())),
    };
    for endpoint in &plan.endpoints {
        let found = lookup_host(endpoint).await;
        let mut found = found.map_err(|_| ProxyError::EndpointHost(endpoint.clone()))?;
        if let Some(address) = found.find(|address| own.contains(address)) {
            return Err(ProxyError::Loop {
                endpoint: endpoint.clone(),
                address,
                listen: plan.listen.clone(),
            });
        }
    }
    Ok(())
}

/// Serves one client by the first endpoint that takes the connection.
async fn forward(mut client: TcpStream, remotes: &Remotes, retry: Duration) {
    while let Some(endpoint) = remotes.pick() {
        match connect(&endpoint).await {
            Ok(mut server) => {
                // Whichever side ends first: the rest of the other is passed on, then both are closed.
                if let Err(error) = tokio::io::copy_bidirectional(&mut client, &mut server).await {
                    tracing::debug!(%error, endpoint, "a connection broke off");
                }
                return;
            }
            Err(error) => {
                remotes.deactivate(&endpoint);
                tracing::warn!(address = endpoint, interval = ?retry, %error, "deactivated endpoint");
            }
        }
    }
}

async fn retry(endpoint: &str, remotes: &Remotes) {
    match connect(endpoint).await {
        Ok(_) => {
            remotes.activate(endpoint);
            tracing::info!(address = endpoint, "activated");
        }
        Err(error) => {
            tracing::warn!(address = endpoint, %error, "failed to activate endpoint (stay inactive for another interval)");
        }
    }
}

async fn connect(endpoint: &str) -> io::Result<TcpStream> {
    let connected = tokio::time::timeout(CONNECT_MAX, TcpStream::connect(endpoint)).await;
    let stream = connected.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Connections forwarded at once; each has two sockets.
const CONNECTIONS_MAX: usize = 16_384;
/// An endpoint must take a connection within this time.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// How long to leave a failing `accept` alone.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

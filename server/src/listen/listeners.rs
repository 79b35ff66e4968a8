//! All sockets of a member, bound before anything else is touched.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::members::{self, PeerSocket};
use super::port::{Port, Security};
use super::socket::Listening;
use crate::config::{Address, Listener, Settings, TlsSettings};
use crate::connection::Role;
use crate::tls::{self, Connector, ServerTls, TlsError};

/// The sockets, by when they are served.
pub(crate) struct Listeners {
    /// For clients: once there is a cluster.
    pub(crate) client: Vec<(Listening, Arc<Port>)>,
    /// For probes and scrapers: as soon as the store is open.
    pub(crate) metrics: Vec<(Listening, Arc<Port>)>,
    /// For clients of the Kubernetes API: once there is a cluster.
    pub(crate) kubernetes: Vec<(Listening, Arc<Port>)>,
    /// For other members: at once.
    pub(crate) peer: Vec<PeerSocket>,
    /// What dialing them takes, where TLS is wanted.
    pub(crate) connector: Option<Connector>,
}

/// Why a socket is not bound.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenError {
    #[error("cannot listen on {url}")]
    Bind { url: String, source: io::Error },
    #[error("TLS key/cert (--cert-file, --key-file) must be provided for {url}")]
    NoCertificate { url: String },
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl Listeners {
    pub(crate) fn bind(settings: &Settings) -> Result<Listeners, ListenError> {
        let tls = server_tls(settings)?;
        let split = !settings.listen_client_http.is_empty();
        let role = if split { Role::ClientGrpc } else { Role::Client };
        let mut client = bind_all(&settings.listen_client, role, tls.as_ref())?;
        client.extend(bind_all(
            &settings.listen_client_http,
            Role::ClientHttp,
            tls.as_ref(),
        )?);
        let metrics = bind_all(&settings.listen_metrics, Role::Metrics, tls.as_ref())?;
        let kubernetes = bind_all(&settings.listen_kubernetes, Role::Kubernetes, tls.as_ref())?;
        let (peer, connector) = members::bind(settings)?;
        Ok(Listeners {
            client,
            metrics,
            kubernetes,
            peer,
            connector,
        })
    }
}

/// Tells in etcd's words that clients are served.
pub(crate) fn announce(listening: &Listening, port: &Port) {
    let traffic = match port.role {
        Role::Client => "grpc+http",
        Role::ClientGrpc => "grpc",
        Role::ClientHttp => "http",
        Role::Metrics => {
            tracing::info!(address = %listening, "serving metrics");
            return;
        }
        Role::Kubernetes => {
            tracing::info!(address = %listening, "serving the Kubernetes API");
            return;
        }
    };
    if !matches!(port.security, Security::Tls(_)) {
        tracing::info!(
            traffic,
            address = %listening,
            "serving client traffic insecurely; this is strongly discouraged!"
        );
    }
    if !matches!(port.security, Security::Plain) {
        tracing::info!(traffic, address = %listening, "serving client traffic securely");
    }
}

/// One socket for each address; of one that is given with TLS and without, a connection's first byte tells.
fn bind_all(
    listeners: &[Listener],
    role: Role,
    tls: Option<&Arc<ServerTls>>,
) -> Result<Vec<(Listening, Arc<Port>)>, ListenError> {
    let mut addresses: BTreeMap<&Address, Vec<&Listener>> = BTreeMap::new();
    for listener in listeners {
        addresses.entry(&listener.address).or_default().push(listener);
    }
    let mut bound = Vec::new();
    for (address, listeners) in addresses {
        let plain = listeners.iter().any(|listener| !listener.tls);
        let secure = listeners.iter().find(|listener| listener.tls);
        let security = match (secure, tls) {
            (None, _) => Security::Plain,
            (Some(_), Some(tls)) if plain => Security::Either(tls.clone()),
            (Some(_), Some(tls)) => Security::Tls(tls.clone()),
            // The settings were checked for this.
            (Some(listener), None) => {
                let url = listener.url.clone();
                return Err(ListenError::NoCertificate { url });
            }
        };
        let listening = Listening::bind(address).map_err(|source| ListenError::Bind {
            url: listeners.iter().map(|listener| listener.url.as_str()).collect(),
            source,
        })?;
        tracing::info!(address = %listening, ?role, "listening");
        bound.push((listening, Arc::new(Port { role, security })));
    }
    Ok(bound)
}

/// What all TLS listeners for clients share, if there are any.
fn server_tls(settings: &Settings) -> Result<Option<Arc<ServerTls>>, ListenError> {
    let files_given = !settings.client_tls.has_no_files();
    let mut tls = settings.client_tls.clone();
    if tls.auto && files_given {
        tracing::warn!("ignoring client auto TLS since certs given");
    } else if tls.auto {
        let directory = settings.store.data_dir.join("fixtures").join("client");
        let (cert_file, key_file) =
            tls::self_signed(&directory, &client_hosts(settings), tls.self_signed_years)?;
        (tls.cert_file, tls.key_file) = (Some(cert_file), Some(key_file));
    }
    warn_of_unused(settings, &tls);
    let listeners = || settings.listen_client.iter().chain(&settings.listen_client_http);
    let secure = listeners()
        .chain(&settings.listen_metrics)
        .chain(&settings.listen_kubernetes)
        .any(|listener| listener.tls);
    if !secure || tls.has_no_files() {
        return Ok(None);
    }
    let path = |path: &Option<std::path::PathBuf>| {
        path.as_deref()
            .map(Path::display)
            .map(|path| path.to_string())
            .unwrap_or_default()
    };
    tracing::info!(
        "cert-file" = path(&tls.cert_file),
        "key-file" = path(&tls.key_file),
        "trusted-ca-file" = path(&tls.trusted_ca_file),
        "client-cert-auth" = tls.client_cert_auth,
        "crl-file" = path(&tls.crl_file),
        "cipher-suites" = ?tls.cipher_suites,
        "starting with client TLS"
    );
    Ok(Some(Arc::new(ServerTls::new(&tls)?)))
}

/// What a certificate of our own making is for.
fn client_hosts(settings: &Settings) -> Vec<String> {
    hosts(settings.listen_client.iter().chain(&settings.listen_client_http))
}

/// The hosts of listeners, each once.
pub(super) fn hosts<'a>(listeners: impl Iterator<Item = &'a Listener>) -> Vec<String> {
    let mut hosts: Vec<String> = listeners
        .filter_map(|listener| {
            let (_, rest) = listener.url.split_once("://")?;
            let (host, _) = rest.split('/').next()?.rsplit_once(':')?;
            Some(host.trim_matches(['[', ']']).to_owned()).filter(|host| !host.is_empty())
        })
        .collect();
    hosts.sort();
    hosts.dedup();
    hosts
}

fn warn_of_unused(settings: &Settings, tls: &TlsSettings) {
    for listener in settings.listen_client.iter().chain(&settings.listen_client_http) {
        let url = &listener.url;
        if !listener.tls && !tls.has_no_files() {
            tracing::warn!(
                "client-url" = %url,
                "scheme is http or unix while key and cert files are present; ignoring key and cert files"
            );
        }
        if !listener.tls && tls.client_cert_auth {
            tracing::warn!(
                "client-url" = %url,
                "scheme is http or unix while --client-cert-auth is enabled; ignoring client cert auth for this URL"
            );
        }
    }
}

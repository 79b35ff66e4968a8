//! Sockets for other members, and the TLS between them.

use std::sync::Arc;

use super::listeners::{ListenError, hosts};
use super::socket::Listening;
use crate::config::Settings;
use crate::config::url;
use crate::tls::{self, Connector, ServerTls};

/// A socket that members come in by, and the TLS that they begin with.
pub(crate) type PeerSocket = (Listening, Option<Arc<ServerTls>>);

/// Binds what `settings` name. With it comes what this member needs to dial others, where any of them wants TLS.
pub(super) fn bind(settings: &Settings) -> Result<(Vec<PeerSocket>, Option<Connector>), ListenError> {
    let (server, connector) = security(settings)?;
    let mut bound = Vec::new();
    for listener in &settings.listen_peer {
        let url = listener.url.clone();
        let server = match (listener.tls, &server) {
            (false, _) => None,
            (true, Some(server)) => Some(server.clone()),
            // The settings were checked for this.
            (true, None) => return Err(ListenError::NoCertificate { url }),
        };
        let listening =
            Listening::bind(&listener.address).map_err(|source| ListenError::Bind { url, source })?;
        tracing::info!(address = %listening, role = "Peer", "listening");
        bound.push((listening, server));
    }
    Ok((bound, connector))
}

fn security(settings: &Settings) -> Result<(Option<Arc<ServerTls>>, Option<Connector>), ListenError> {
    let mut tls = settings.peer_tls.clone();
    let self_signed = tls.auto && tls.has_no_files();
    if tls.auto && !self_signed {
        tracing::warn!("ignoring peer auto TLS since certs given");
    }
    if self_signed {
        let directory = settings.store.data_dir.join("fixtures").join("peer");
        let hosts = hosts(settings.listen_peer.iter());
        let (cert_file, key_file) = tls::self_signed(&directory, &hosts, tls.self_signed_years)?;
        (tls.cert_file, tls.key_file) = (Some(cert_file), Some(key_file));
    }
    for listener in settings.listen_peer.iter().filter(|listener| !listener.tls) {
        if !tls.has_no_files() {
            tracing::warn!(
                "peer-url" = %listener.url,
                "scheme is http or unix while key and cert files are present; ignoring key and cert files"
            );
        }
        if tls.client_cert_auth {
            tracing::warn!(
                "peer-url" = %listener.url,
                "scheme is http or unix while --peer-client-cert-auth is enabled; ignoring client cert auth for this URL"
            );
        }
    }
    if tls.has_no_files() {
        return Ok((None, None));
    }
    let listens = settings.listen_peer.iter().any(|listener| listener.tls);
    let server = match listens {
        true => Some(Arc::new(ServerTls::new(&tls)?)),
        false => None,
    };
    let members = settings.store.initial_cluster.iter();
    let dials = members
        .flat_map(|(_, urls)| urls)
        .any(|text| url::parse(text).is_ok_and(|url| url.is_secure()));
    let connector = match dials || listens {
        true => Some(Connector::new(&tls, self_signed)?),
        false => None,
    };
    Ok((server, connector))
}

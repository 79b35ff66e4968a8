//! TLS, of whoever comes in ([`Acceptor`]) and towards other members ([`Connector`]), by rustls.
//!
//! | module | what |
//! | --- | --- |
//! | `files` | certificates, keys and revocation lists, read again when they have changed |
//! | `ciphers` | suites and versions under the names of Go's |
//! | `names` | what a certificate says about who shows it |
//! | `self_signed` | the certificate of `--auto-tls` |
//!
//! Files are looked at before every handshake, as etcd does; one that has become unreadable leaves what was read before
//! in force, with a warning. Connections that stand are never touched.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::{Acceptor as Hello, ClientHello};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::{LazyConfigAcceptor, TlsConnector, client, server};

use self::files::{Fresh, Material};
use crate::config::TlsSettings;

mod ciphers;
mod files;
mod names;
mod self_signed;

/// Whose connections are meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    Client,
    Peer,
}

/// Why TLS cannot be had as it was asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error("KeyFile and CertFile must both be present[key: {key}, cert: {cert}]")]
    Half { key: String, cert: String },
    #[error(
        "ClientKeyFile and ClientCertFile must both be present or both absent: key: {key}, cert: {cert}]"
    )]
    HalfClient { key: String, cert: String },
    #[error("cannot read {}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{}: {reason}", path.display())]
    Content { path: PathBuf, reason: String },
    #[error("unexpected TLS cipher suite \"{0}\"")]
    Cipher(String),
    #[error("certificates of others can only be verified with a trusted CA file")]
    NoAuthority,
    #[error("TLS cannot be set up")]
    Setup(#[from] rustls::Error),
    #[error("a certificate cannot be made")]
    SelfSigned(#[from] rcgen::Error),
}

/// Why a connection was not let in, or not made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    #[error("no TLS handshake within {} s", HANDSHAKE_MAX.as_secs())]
    Slow,
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("client certificate authentication failed")]
    Name,
    #[error("transport: certificate serial {0} revoked")]
    Revoked(String),
    #[error("tls: \"{address}\" does not match any of the certificate's addresses {names:?}")]
    Address { address: IpAddr, names: Vec<String> },
    #[error("the certificate cannot be read: {0}")]
    Certificate(String),
    #[error("\"{0}\" is no name that a certificate could have")]
    ServerName(String),
}

/// Lets connections in.
#[derive(Clone)]
pub(crate) struct Acceptor(Arc<Fresh<files::Server>>);

impl Acceptor {
    /// Reads the files of `settings`; with `auto`, makes a certificate for `hosts` below `data_dir` where none is given.
    ///
    /// # Errors
    /// Files that are missing or unfit, settings that contradict each other.
    pub(crate) fn new(
        settings: &TlsSettings,
        hosts: &[String],
        data_dir: &Path,
        side: Side,
    ) -> Result<Acceptor, TlsError> {
        let material = Material::of(settings, hosts, data_dir, side)?;
        Ok(Acceptor(Arc::new(Fresh::new(material)?)))
    }

    /// Shakes hands with a client.
    ///
    /// # Errors
    /// Whatever makes the client a stranger, or no client at all; the stream is closed.
    pub(crate) async fn accept<S>(&self, stream: S) -> Result<server::TlsStream<S>, HandshakeError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        self.accept_from(stream, None).await
    }

    /// The same, for one whose certificate must also be good for the address that it comes from.
    ///
    /// # Errors
    /// As [`Acceptor::accept`].
    pub(crate) async fn accept_from<S>(
        &self,
        stream: S,
        address: Option<IpAddr>,
    ) -> Result<server::TlsStream<S>, HandshakeError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let shaken = async {
            let begun = LazyConfigAcceptor::new(Hello::default(), stream).await?;
            let current = self.0.current();
            let config = match current.side {
                Side::Client if names_no_http2(&begun.client_hello()) => &current.plain,
                Side::Client => &current.http2,
                Side::Peer => &current.plain,
            };
            let stream = begun.into_stream(config.clone()).await?;
            let shown = stream.get_ref().1.peer_certificates().unwrap_or_default();
            judge(&current, shown, address).await?;
            Ok(stream)
        };
        timeout(HANDSHAKE_MAX, shaken)
            .await
            .map_err(|_| HandshakeError::Slow)?
    }
}

/// Judges what is no business of the handshake itself.
async fn judge(
    current: &files::Server,
    shown: &[CertificateDer<'_>],
    address: Option<IpAddr>,
) -> Result<(), HandshakeError> {
    let Some(leaf) = shown.first() else {
        return Ok(());
    };
    if !names::is_allowed(leaf, &current.allowed_names, &current.allowed_hostnames)? {
        return Err(HandshakeError::Name);
    }
    if let Some(address) = address.filter(|_| current.checks_address) {
        names::check_address(leaf, address).await?;
    }
    match &current.revoked {
        Some(revoked) => names::check_revoked(shown, revoked),
        None => Ok(()),
    }
}

/// Whether the client speaks HTTP/1.1 only, or does not say. Such a one is answered without a protocol; one that
/// names only others gets `no_application_protocol`, since nothing but `h2` is ever offered.
fn names_no_http2(hello: &ClientHello<'_>) -> bool {
    let Some(offered) = hello.alpn() else {
        return true;
    };
    let offered: Vec<&[u8]> = offered.collect();
    !offered.contains(&b"h2".as_slice()) && offered.contains(&b"http/1.1".as_slice())
}

/// Makes connections to other members.
#[derive(Clone)]
pub(crate) struct Connector(Arc<Fresh<files::Client>>);

impl Connector {
    /// As [`Acceptor::new`].
    ///
    /// # Errors
    /// As there.
    pub(crate) fn new(
        settings: &TlsSettings,
        hosts: &[String],
        data_dir: &Path,
    ) -> Result<Connector, TlsError> {
        let material = Material::of(settings, hosts, data_dir, Side::Peer)?;
        Ok(Connector(Arc::new(Fresh::new(material)?)))
    }

    /// Shakes hands with the member at `host`, a name or an address.
    ///
    /// # Errors
    /// A member whose certificate is not good for `host`, or that does not want ours.
    pub(crate) async fn connect<S>(
        &self,
        host: &str,
        stream: S,
    ) -> Result<client::TlsStream<S>, HandshakeError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let name =
            ServerName::try_from(host.to_owned()).map_err(|_| HandshakeError::ServerName(host.to_owned()))?;
        let connector = TlsConnector::from(self.0.current().config.clone());
        let shaken = timeout(HANDSHAKE_MAX, connector.connect(name, stream)).await;
        Ok(shaken.map_err(|_| HandshakeError::Slow)??)
    }
}

/// A handshake may take this long, as etcd's.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;

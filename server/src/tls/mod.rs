//! TLS by etcd's flags: as a server over whatever a listener accepts, and towards other members.
//!
//! - ALPN offers `h2` alone. A client that offers `http/1.1` and no `h2`, or nothing, is let in with none negotiated,
//!   which means HTTP/1.1; one that offers only others gets the alert no_application_protocol.
//! - Certificates, keys, authorities and revocations are read again when their files change; see [`files`].
//! - Clients are verified when `--client-cert-auth` or a CA is given; see [`clients`]. A certificate that is itself
//!   among the authorities is taken on either side; see [`itself`].
//! - A handshake may take [`HANDSHAKE_MAX`], and only [`HANDSHAKES_MAX`] are under way at once; see [`turns`].
//!
//! - Between members, [`members`] holds what is demanded beside that, and the side that dials.
//!
//! With `--client-cert-auth` the common name of a client's certificate is that of a user. Nothing here knows what is
//! served, nor what a user may do.

use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::CryptoProvider;
use rustls::server::{Acceptor, ClientHello, NoServerSessionStorage};
use rustls::{AlertDescription, CertificateError, ServerConfig, ServerConnection, SupportedProtocolVersion};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use self::certificate::Certificate;
use self::files::{Material, Watched};
use self::members::Demands;
use self::revocations::Revocations;
use self::turns::Turns;
use crate::config::{TlsSettings, TlsVersion};

mod authorities;
mod auto;
mod certificate;
mod clients;
mod files;
mod itself;
mod members;
mod p521;
mod revocations;
mod signatures;
mod suites;
mod turns;

pub(crate) use self::auto::self_signed;
pub(crate) use self::files::RELOADS;
pub(crate) use self::members::Connector;

/// Why TLS cannot be served. The texts are etcd's or Go's where those have one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error("KeyFile and CertFile must both be present[key: {key}, cert: {cert}]")]
    HalfPair { key: String, cert: String },
    #[error("open {path}: {}", files::io_text(.source))]
    Open { path: String, source: io::Error },
    #[error("tls: failed to find any PEM data in {0} input")]
    NoPem(&'static str),
    #[error("tls: private key does not match public key")]
    Mismatch,
    #[error("tls: {0}")]
    Material(String),
    #[error("x509: {0}")]
    BadList(String),
    #[error("{0}: no certificate in it")]
    EmptyAuthority(String),
    #[error("--client-cert-auth without --trusted-ca-file: the system's own authorities are not to be found")]
    NoAuthority,
    #[error("none of the cipher suites {0:?} can be served, and the maximum version excludes TLS 1.3")]
    NoSuite(Vec<String>),
    #[error("selfSignedCertValidity is invalid,it should be greater than 0")]
    NoValidity,
    #[error("cannot make a certificate: {0}")]
    SelfSigned(String),
}

/// A server's side of TLS.
pub(crate) struct ServerTls {
    /// Made anew for other authorities, so that nothing of the old ones is left: neither hints for clients which of
    /// their certificates to show, nor sessions.
    configs: Watched<Configs>,
    under_way: Turns,
    demands: Demands,
    /// Verified certificates name users.
    names_users: bool,
}

/// What a handshake goes by.
struct Configs {
    /// For clients that know ALPN, and offer `h2` or nothing that we know.
    with_alpn: Arc<ServerConfig>,
    /// For those that are let in with nothing negotiated.
    without_alpn: Arc<ServerConfig>,
}

impl TlsError {
    /// One of two files is given.
    fn half(cert: Option<&Path>, key: Option<&Path>) -> TlsError {
        let text = |path: Option<&Path>| path.map_or(String::new(), |path| path.display().to_string());
        TlsError::HalfPair {
            key: text(key),
            cert: text(cert),
        }
    }
}

impl ServerTls {
    /// Reads what `settings` name. A certificate must be given.
    pub(crate) fn new(settings: &TlsSettings) -> Result<ServerTls, TlsError> {
        let provider = Arc::new(provider(settings)?);
        let (Some(cert_file), Some(key_file)) = (&settings.cert_file, &settings.key_file) else {
            return Err(TlsError::half(
                settings.cert_file.as_deref(),
                settings.key_file.as_deref(),
            ));
        };
        let certificate = Arc::new(Certificate::read(cert_file, key_file, provider.clone())?);
        Ok(ServerTls {
            configs: configs(settings, provider, certificate)?,
            under_way: Turns::of(HANDSHAKES_MAX),
            demands: Demands::of(settings),
            // Not where a CA alone has clients verified: so it is in etcd.
            names_users: settings.client_cert_auth,
        })
    }

    /// Shakes hands with the client at the other end of `stream`. An error is what etcd would log of it.
    pub(crate) async fn accept<S>(&self, stream: S) -> Result<TlsStream<S>, io::Error>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        self.handshake(stream, |configs, hello| match expects_http1(hello) {
            true => configs.without_alpn.clone(),
            false => configs.with_alpn.clone(),
        })
        .await
    }

    /// The same with another member, or a tool, that comes from `address`; they speak HTTP/1.1.
    pub(crate) async fn accept_member<S>(
        &self,
        stream: S,
        address: Option<IpAddr>,
    ) -> Result<TlsStream<S>, io::Error>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let http1 = |configs: &Configs, _: &ClientHello<'_>| configs.without_alpn.clone();
        let stream = self.handshake(stream, http1).await?;
        let shown = stream.get_ref().1.peer_certificates();
        if let Some(leaf) = shown.and_then(|shown| shown.first()) {
            self.demands.judge(leaf, address).await?;
        }
        Ok(stream)
    }

    /// The user that the certificate of a client names, if it has shown one and such names are those of users.
    pub(crate) fn user_of(&self, connection: &ServerConnection) -> Option<Arc<str>> {
        let shown = connection.peer_certificates().filter(|_| self.names_users)?;
        members::common_name(shown.first()?).map(Arc::from)
    }

    async fn handshake<S>(
        &self,
        stream: S,
        choose: impl FnOnce(&Configs, &ClientHello<'_>) -> Arc<ServerConfig>,
    ) -> Result<TlsStream<S>, io::Error>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let turn = self.under_way.take();
        let handshake = async {
            let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
            // Looked at now, not before: a client may have taken its time to begin.
            let configs = self.configs.last_good().ok_or_else(nothing_read)?;
            let config = choose(&configs, &start.client_hello());
            start.into_stream(config).await
        };
        tokio::select! {
            shaken = tokio::time::timeout(HANDSHAKE_MAX, handshake) => match shaken {
                Ok(shaken) => shaken.map_err(refused),
                Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "i/o timeout")),
            },
            () = turn.ended() => {
                let text = "tls: too many handshakes are under way, and this is the oldest";
                Err(io::Error::new(io::ErrorKind::TimedOut, text))
            }
        }
    }
}

/// What the handshakes of a server go by, as `settings` have it.
fn configs(
    settings: &TlsSettings,
    provider: Arc<CryptoProvider>,
    certificate: Arc<Certificate>,
) -> Result<Watched<Configs>, TlsError> {
    let verified = settings.client_cert_auth || settings.trusted_ca_file.is_some();
    let paths = match verified {
        true => vec![authorities::file(settings)?],
        false => Vec::new(),
    };
    let revocations = settings
        .crl_file
        .clone()
        .map(|path| Arc::new(Revocations::of(path)));
    let (settings, authorities) = (settings.clone(), paths.first().cloned());
    Watched::open(Material::Authorities, paths, move |mut contents| {
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&versions(&settings))
            .map_err(|error| TlsError::Material(error.to_string()))?;
        let builder = match (&authorities, contents.pop()) {
            (Some(path), Some(content)) => {
                let authorities = authorities::read(path, content, settings.trusted_ca_file.is_some())?;
                let verifier =
                    clients::verifier(&settings, authorities, revocations.clone(), provider.clone())?;
                builder.with_client_cert_verifier(verifier)
            }
            _ => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(certificate.clone());
        if verified {
            // A session that goes on skips the verification, and with it a revocation.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        let without_alpn = Arc::new(config.clone());
        config.alpn_protocols = vec![H2.to_vec()];
        Ok(Configs {
            with_alpn: Arc::new(config),
            without_alpn,
        })
    })
}

/// Cannot be: there was something good at the start.
fn nothing_read() -> io::Error {
    io::Error::other("tls: no certificates were read")
}

/// What etcd says of a client that is not let in.
fn refused(error: io::Error) -> io::Error {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
    match cause {
        Some(rustls::Error::InvalidCertificate(CertificateError::NotValidForName)) => {
            io::Error::new(error.kind(), "client certificate authentication failed")
        }
        _ => in_gos_words(error),
    }
}

/// Whether a client takes HTTP/1.1 for granted, by etcd's reading of what it offers.
fn expects_http1(hello: &ClientHello<'_>) -> bool {
    let Some(offered) = hello.alpn() else {
        return false;
    };
    let (mut h2, mut http1) = (false, false);
    for protocol in offered {
        h2 |= protocol == H2;
        http1 |= protocol == b"http/1.1";
    }
    http1 && !h2
}

/// The texts that operators know from etcd's log, where there is one.
pub(crate) fn in_gos_words(error: io::Error) -> io::Error {
    let Some(cause) = error
        .get_ref()
        .and_then(|cause| cause.downcast_ref::<rustls::Error>())
    else {
        return error;
    };
    let text = match cause {
        rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType) => {
            "tls: first record does not look like a TLS handshake".to_owned()
        }
        rustls::Error::NoCertificatesPresented => "tls: client didn't provide a certificate".to_owned(),
        rustls::Error::NoApplicationProtocol => {
            "tls: client requested unsupported application protocols".to_owned()
        }
        rustls::Error::AlertReceived(alert) => format!("remote error: tls: {}", alert_text(*alert)),
        rustls::Error::InvalidCertificate(cause) => {
            format!(
                "tls: failed to verify certificate: {}",
                authorities::in_gos_words(cause)
            )
        }
        other => format!("tls: {other}"),
    };
    io::Error::new(error.kind(), text)
}

fn alert_text(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::BadCertificate => "bad certificate".to_owned(),
        AlertDescription::UnknownCA => "unknown certificate authority".to_owned(),
        AlertDescription::CertificateExpired => "expired certificate".to_owned(),
        AlertDescription::HandshakeFailure => "handshake failure".to_owned(),
        AlertDescription::ProtocolVersion => "protocol version not supported".to_owned(),
        other => format!("{other:?}"),
    }
}

fn provider(settings: &TlsSettings) -> Result<CryptoProvider, TlsError> {
    let mut provider = rustls::crypto::ring::default_provider();
    p521::add_to(&mut provider);
    let chosen = suites::chosen(&settings.cipher_suites);
    if settings.cipher_suites.is_empty() {
        return Ok(provider);
    }
    if chosen.suites.is_empty() && settings.max_version == Some(TlsVersion::V12) {
        return Err(TlsError::NoSuite(chosen.unserved));
    }
    if !chosen.unserved.is_empty() {
        tracing::warn!(
            cipher_suites = ?chosen.unserved,
            "these cipher suites are out of date and never used"
        );
    }
    // Those of TLS 1.3 cannot be chosen, in etcd neither.
    provider
        .cipher_suites
        .retain(|suite| suite.tls13().is_some() || chosen.suites.contains(&suite.suite()));
    Ok(provider)
}

fn versions(settings: &TlsSettings) -> Vec<&'static SupportedProtocolVersion> {
    let max = settings.max_version.unwrap_or(TlsVersion::V13);
    let versions = [
        (TlsVersion::V12, &rustls::version::TLS12),
        (TlsVersion::V13, &rustls::version::TLS13),
    ];
    versions
        .into_iter()
        .filter(|(version, _)| (settings.min_version..=max).contains(version))
        .map(|(_, version)| version)
        .collect()
}

pub(crate) const H2: &[u8] = b"h2";
/// etcd's limit on one handshake.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// Handshakes under way at once on all that shares one TLS; with another one the oldest ends.
const HANDSHAKES_MAX: usize = 1024;

#[cfg(test)]
mod tests;

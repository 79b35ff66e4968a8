//! TLS between members: the side that dials, and what etcd demands of those who come in beyond a good certificate.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use webpki::EndEntityCert;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::certificate::Certificate;
use super::files::{Material, Watched};
use super::itself::{Purpose, Trusted};
use super::signatures::Signatures;
use super::{TlsError, authorities};
use crate::config::TlsSettings;

/// Makes connections to other members. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Connector(Arc<Watched<Arc<ClientConfig>>>);

impl Connector {
    /// Reads what `settings` name. Whom this member dials is verified, unless the certificate is `self_signed`: each
    /// member makes its own then, as in etcd, which keeps listeners out and nobody else.
    pub(crate) fn new(settings: &TlsSettings, self_signed: bool) -> Result<Connector, TlsError> {
        let provider = Arc::new(super::provider(settings)?);
        let versions = super::versions(settings);
        let files = match (&settings.client_cert_file, &settings.client_key_file) {
            (None, None) => (&settings.cert_file, &settings.key_file),
            (cert, key) => (cert, key),
        };
        let own = match files {
            (Some(cert), Some(key)) => Some(Arc::new(Certificate::read(cert, key, provider.clone())?)),
            (None, None) => None,
            (cert, key) => return Err(TlsError::half(cert.as_deref(), key.as_deref())),
        };
        let asked_for = settings.trusted_ca_file.is_some();
        let paths = match self_signed {
            true => Vec::new(),
            false => vec![authorities::file(settings)?],
        };
        let authorities = paths.first().cloned();
        let configs = Watched::open(Material::Authorities, paths, move |mut contents| {
            let builder = ClientConfig::builder_with_provider(provider.clone())
                .with_protocol_versions(&versions)
                .map_err(|error| TlsError::Material(error.to_string()))?;
            let signatures = Signatures::of(provider.clone());
            let judged = match (&authorities, contents.pop()) {
                (Some(path), Some(content)) => {
                    let authorities = authorities::read(path, content, asked_for)?;
                    let roots = Arc::new(authorities.roots);
                    let inner = WebPkiServerVerifier::builder_with_provider(roots, provider.clone()).build();
                    let inner = inner.map_err(|error| TlsError::Material(error.to_string()))?;
                    Some((inner, authorities.trusted))
                }
                _ => None,
            };
            let verifier = Arc::new(Servers { judged, signatures });
            let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
            let mut config = match &own {
                Some(own) => builder.with_client_cert_resolver(own.clone()),
                None => builder.with_no_client_auth(),
            };
            // A session that goes on would skip the verification.
            config.resumption = Resumption::disabled();
            Ok(Arc::new(config))
        });
        Ok(Connector(Arc::new(configs?)))
    }

    /// Shakes hands with the member at `host`, a name or an IP for which its certificate must be good.
    pub(crate) async fn connect<S>(&self, host: &str, stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let config = self.0.last_good().ok_or_else(super::nothing_read)?;
        shake(Arc::clone(&config), host, stream).await
    }

    /// The same with a server that speaks HTTP/2, as those for clients do.
    pub(crate) async fn connect_h2<S>(&self, host: &str, stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let config = self.0.last_good().ok_or_else(super::nothing_read)?;
        let mut config = ClientConfig::clone(&config);
        config.alpn_protocols = vec![super::H2.to_vec()];
        shake(Arc::new(config), host, stream).await
    }
}

async fn shake<S>(config: Arc<ClientConfig>, host: &str, stream: S) -> io::Result<TlsStream<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let name = ServerName::try_from(host.to_owned())
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    let shaken = TlsConnector::from(config).connect(name, stream).await;
    shaken.map_err(super::in_gos_words)
}

/// Whom this side takes for the server that it dials.
#[derive(Debug)]
struct Servers {
    /// By these authorities; without any, every certificate is taken.
    judged: Option<(Arc<WebPkiServerVerifier>, Trusted)>,
    signatures: Signatures,
}

impl ServerCertVerifier for Servers {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.judged {
            Some((inner, trusted)) if !trusted.admit(end_entity, now, Purpose::Server(name))? => {
                inner.verify_server_cert(end_entity, intermediates, name, ocsp, now)
            }
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signatures.tls12(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signatures.tls13(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.signatures.schemes()
    }
}

/// What a member that comes in must have beside a good certificate.
#[derive(Debug)]
pub(super) struct Demands {
    /// Its certificate must be good for where it comes from.
    address: bool,
}

impl Demands {
    pub(super) fn of(settings: &TlsSettings) -> Demands {
        Demands {
            address: !settings.skip_address_check,
        }
    }

    /// Judges the certificate that was shown, from `address` where there is one.
    pub(super) async fn judge(&self, shown: &CertificateDer<'_>, address: Option<IpAddr>) -> io::Result<()> {
        let refuse = |text: String| Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
        match address.filter(|_| self.address) {
            Some(address) if !is_good_for(shown, address).await => refuse(format!(
                "tls: \"{address}\" does not match any of the names in the certificate"
            )),
            _ => Ok(()),
        }
    }
}

/// Of several the last counts, as in Go.
pub(super) fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let name = certificate.subject().iter_common_name().last()?;
    name.as_str().ok().map(str::to_owned)
}

/// Whether the certificate names no host and no address, or this address, or a host that has it. The rule is etcd's.
async fn is_good_for(certificate: &CertificateDer<'_>, address: IpAddr) -> bool {
    let (hosts, names_addresses) = {
        let Ok(parsed) = EndEntityCert::try_from(certificate) else {
            return false;
        };
        let address = ServerName::from(address.to_canonical());
        if parsed.verify_is_valid_for_subject_name(&address).is_ok() {
            return true;
        }
        let hosts: Vec<String> = parsed.valid_dns_names().map(str::to_owned).collect();
        (hosts, names_an_address(certificate))
    };
    if hosts.is_empty() {
        return !names_addresses;
    }
    for host in hosts.iter().filter(|host| !host.starts_with("*.")) {
        if let Ok(mut found) = tokio::net::lookup_host((host.as_str(), 0)).await
            && found.any(|found| found.ip().to_canonical() == address.to_canonical())
        {
            return true;
        }
    }
    false
}

fn names_an_address(certificate: &CertificateDer<'_>) -> bool {
    use x509_parser::extensions::GeneralName;
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else {
        return false;
    };
    let names = certificate.subject_alternative_name().ok().flatten();
    names.is_some_and(|names| {
        let mut names = names.value.general_names.iter();
        names.any(|name| matches!(name, GeneralName::IPAddress(_)))
    })
}

//! What the handshake needs, read from files, and read again when one of them has changed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};

use super::names::{self, Revoked};
use super::{Side, TlsError, ciphers, self_signed};
use crate::config::TlsSettings;

/// What to read, and what to make of it.
pub(super) struct Material {
    settings: TlsSettings,
    side: Side,
    /// The certificate is our own make, so nobody can verify it.
    unverified: bool,
}

impl Material {
    /// Settles which files there are, making those of `auto`.
    pub(super) fn of(
        settings: &TlsSettings,
        hosts: &[String],
        data_dir: &Path,
        side: Side,
    ) -> Result<Material, TlsError> {
        let mut settings = settings.clone();
        let unverified = settings.auto && settings.has_no_files();
        if unverified {
            let folder = data_dir.join("fixtures").join(match side {
                Side::Client => "client",
                Side::Peer => "peer",
            });
            let (cert, key) = self_signed::files(&folder, hosts, settings.self_signed_years)?;
            (settings.cert_file, settings.key_file) = (Some(cert), Some(key));
        }
        Ok(Material {
            settings,
            side,
            unverified,
        })
    }

    fn paths(&self) -> Vec<&Path> {
        let settings = &self.settings;
        [
            &settings.cert_file,
            &settings.key_file,
            &settings.client_cert_file,
            &settings.client_key_file,
            &settings.trusted_ca_file,
            &settings.crl_file,
        ]
        .into_iter()
        .filter_map(|path| path.as_deref())
        .collect()
    }

    /// The certificate chain and key that this side shows.
    fn own(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
        let shown = |path: &Option<PathBuf>| {
            path.as_ref()
                .map_or(String::new(), |path| path.display().to_string())
        };
        match (&self.settings.cert_file, &self.settings.key_file) {
            (Some(cert), Some(key)) => Ok((certificates(cert)?, private_key(key)?)),
            (cert, key) => Err(TlsError::Half {
                key: shown(key),
                cert: shown(cert),
            }),
        }
    }

    /// The same where this side dials.
    fn own_as_client(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
        let shown = |path: &Option<PathBuf>| {
            path.as_ref()
                .map_or(String::new(), |path| path.display().to_string())
        };
        match (&self.settings.client_cert_file, &self.settings.client_key_file) {
            (None, None) => self.own(),
            (Some(cert), Some(key)) => Ok((certificates(cert)?, private_key(key)?)),
            (cert, key) => Err(TlsError::HalfClient {
                key: shown(key),
                cert: shown(cert),
            }),
        }
    }

    fn roots(&self) -> Result<Option<Arc<RootCertStore>>, TlsError> {
        let Some(path) = &self.settings.trusted_ca_file else {
            return Ok(None);
        };
        let mut roots = RootCertStore::empty();
        for certificate in certificates(path)? {
            roots.add(certificate).map_err(|error| unfit(path, &error))?;
        }
        Ok(Some(Arc::new(roots)))
    }
}

/// What can be made of files.
pub(super) trait Load: Sized {
    fn load(material: &Material) -> Result<Self, TlsError>;
}

/// What a server needs for a handshake.
pub(super) struct Server {
    pub(super) side: Side,
    /// Offers HTTP/2.
    pub(super) http2: Arc<ServerConfig>,
    /// Offers no protocol.
    pub(super) plain: Arc<ServerConfig>,
    pub(super) revoked: Option<Revoked>,
    pub(super) allowed_names: Vec<String>,
    pub(super) allowed_hostnames: Vec<String>,
    /// A certificate must be good for where it comes from.
    pub(super) checks_address: bool,
}

impl Load for Server {
    fn load(material: &Material) -> Result<Server, TlsError> {
        let settings = &material.settings;
        let provider = Arc::new(ciphers::provider(settings)?);
        let (chain, key) = material.own()?;
        // Fit, if it is ever needed.
        material.own_as_client()?;
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&ciphers::versions(settings))?;
        let builder = match material.roots()? {
            Some(roots) => {
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
                builder.with_client_cert_verifier(verifier.map_err(|_| TlsError::NoAuthority)?)
            }
            None if settings.client_cert_auth && !material.unverified => return Err(TlsError::NoAuthority),
            None => builder.with_no_client_auth(),
        };
        let plain = builder.with_single_cert(chain, key)?;
        let mut http2 = plain.clone();
        http2.alpn_protocols = vec![b"h2".to_vec()];
        let revoked = match &settings.crl_file {
            Some(path) => Some(names::revoked(&read(path)?).map_err(|reason| TlsError::Content {
                path: path.clone(),
                reason,
            })?),
            None => None,
        };
        Ok(Server {
            side: material.side,
            http2: Arc::new(http2),
            plain: Arc::new(plain),
            revoked,
            allowed_names: settings.allowed_names.clone(),
            allowed_hostnames: settings.allowed_hostnames.clone(),
            checks_address: material.side == Side::Peer && !settings.skip_address_check,
        })
    }
}

/// What a client needs for a handshake.
pub(super) struct Client {
    pub(super) config: Arc<ClientConfig>,
}

impl Load for Client {
    fn load(material: &Material) -> Result<Client, TlsError> {
        let settings = &material.settings;
        let provider = Arc::new(ciphers::provider(settings)?);
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&ciphers::versions(settings))?;
        let builder = match material.roots()? {
            _ if material.unverified => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Unverified(provider))),
            Some(roots) => builder.with_root_certificates(roots),
            None => return Err(TlsError::NoAuthority),
        };
        let (chain, key) = material.own_as_client()?;
        let config = builder.with_client_auth_cert(chain, key)?;
        Ok(Client {
            config: Arc::new(config),
        })
    }
}

/// Takes any certificate: those of `--peer-auto-tls` are made by each member for itself. It keeps listeners out, and
/// nobody else, as in etcd.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Something made of files that is made anew when they have changed.
pub(super) struct Fresh<T> {
    material: Material,
    made: Mutex<Made<T>>,
}

struct Made<T> {
    stamps: Vec<Stamp>,
    value: Arc<T>,
}

/// What changes when a file does.
type Stamp = Option<(SystemTime, u64)>;

impl<T: Load> Fresh<T> {
    pub(super) fn new(material: Material) -> Result<Fresh<T>, TlsError> {
        let stamps = stamps(&material);
        let value = Arc::new(T::load(&material)?);
        Ok(Fresh {
            material,
            made: Mutex::new(Made { stamps, value }),
        })
    }

    /// The present value. Files that have become unfit leave it as it was.
    pub(super) fn current(&self) -> Arc<T> {
        let now = stamps(&self.material);
        let mut made = self.made.lock();
        if made.stamps != now {
            match T::load(&self.material) {
                Ok(value) => {
                    made.value = Arc::new(value);
                    tracing::info!(files = ?self.material.paths(), "TLS files have changed and were read again");
                }
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(
                        error,
                        "TLS files have changed and cannot be used; the former ones stay in force"
                    );
                }
            }
            // Also after a failure: one line for each change.
            made.stamps = now;
        }
        made.value.clone()
    }
}

fn stamps(material: &Material) -> Vec<Stamp> {
    let stamp = |path: &Path| {
        let metadata = fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    };
    material.paths().into_iter().map(stamp).collect()
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(unfit(path, &"it holds no certificate in PEM form")),
        Err(error) => Err(unfit(path, &error)),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|error| unfit(path, &error))
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let metadata = fs::metadata(path).and_then(|metadata| match metadata.len() {
        ..=FILE_BYTES_MAX => fs::read(path),
        _ => Err(io::Error::from(io::ErrorKind::FileTooLarge)),
    });
    metadata.map_err(|source| TlsError::File {
        path: path.to_owned(),
        source,
    })
}

fn unfit(path: &Path, reason: &dyn std::fmt::Display) -> TlsError {
    TlsError::Content {
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}

/// No certificate, bundle or revocation list is larger.
const FILE_BYTES_MAX: u64 = 64 << 20;

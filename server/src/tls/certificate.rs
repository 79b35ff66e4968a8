//! The certificate that this member shows, to those who come in and to those whom it dials.

use std::path::Path;
use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::TlsError;
use super::files::{Material, Watched};

/// A certificate and its key, by the names of their files.
#[derive(Debug)]
pub(super) struct Certificate(Watched<CertifiedKey>);

impl Certificate {
    pub(super) fn read(
        cert_file: &Path,
        key_file: &Path,
        provider: Arc<CryptoProvider>,
    ) -> Result<Certificate, TlsError> {
        let paths = vec![cert_file.to_owned(), key_file.to_owned()];
        let watched = Watched::open(Material::Certificate, paths, move |contents| {
            let [cert, key] = contents.try_into().map_err(|_| TlsError::Mismatch)?;
            pair(&cert?, &key?, &provider)
        });
        watched.map(Certificate)
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.last_good()
    }
}

impl ResolvesClientCert for Certificate {
    fn resolve(&self, _issuers: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.last_good()
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn pair(cert: &[u8], key: &[u8], provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
    let chain = certificates(cert)?;
    if chain.is_empty() {
        return Err(TlsError::NoPem("certificate"));
    }
    // PKCS#8, PKCS#1 or SEC1, whichever comes first.
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| TlsError::NoPem("key"))?;
    CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => TlsError::Mismatch,
        other => TlsError::Material(other.to_string()),
    })
}

/// Every certificate of a text in PEM.
pub(super) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| TlsError::Material(error.to_string()))
}

//! The server's certificate, read again when its files change.
//!
//! etcd reads both files at every handshake. Here their stamps are looked at instead, two calls of `stat`, and they
//! are read when a stamp is another one. Files that cannot be read, or do not fit each other, as when only one of them
//! has been replaced yet, leave the last good pair in use.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::TlsError;

/// A certificate and its key, by the names of their files.
#[derive(Debug)]
pub(super) struct Certificate {
    cert_file: PathBuf,
    key_file: PathBuf,
    provider: Arc<CryptoProvider>,
    current: Mutex<Current>,
}

#[derive(Debug)]
struct Current {
    /// Of the files when they were last read, well or not.
    stamps: [Option<Stamp>; 2],
    pair: Arc<CertifiedKey>,
}

/// What tells one content of a file from another: device, inode, size, times of the last change in seconds and
/// nanoseconds.
type Stamp = (u64, u64, u64, i64, i64, i64, i64);

impl Certificate {
    pub(super) fn read(
        cert_file: PathBuf,
        key_file: PathBuf,
        provider: Arc<CryptoProvider>,
    ) -> Result<Certificate, TlsError> {
        let stamps = [stamp(&cert_file), stamp(&key_file)];
        let pair = Arc::new(read_pair(&cert_file, &key_file, &provider)?);
        Ok(Certificate {
            cert_file,
            key_file,
            provider,
            current: Mutex::new(Current { stamps, pair }),
        })
    }

    pub(super) fn current(&self) -> Arc<CertifiedKey> {
        let stamps = [stamp(&self.cert_file), stamp(&self.key_file)];
        let mut current = self.current.lock();
        if current.stamps == stamps {
            return current.pair.clone();
        }
        // Once for each change: what cannot be read is not tried again before it is another.
        current.stamps = stamps;
        match read_pair(&self.cert_file, &self.key_file, &self.provider) {
            Ok(pair) => current.pair = Arc::new(pair),
            Err(error) => tracing::warn!(
                "cert-file" = %self.cert_file.display(),
                "key-file" = %self.key_file.display(),
                %error,
                "failed to create peer certificate"
            ),
        }
        current.pair.clone()
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}

fn read_pair(cert_file: &Path, key_file: &Path, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
    let chain = certificates(&read(cert_file)?)?;
    if chain.is_empty() {
        return Err(TlsError::NoPem("certificate"));
    }
    // PKCS#8, PKCS#1 or SEC1, whichever comes first.
    let key = PrivateKeyDer::from_pem_slice(&read(key_file)?).map_err(|_| TlsError::NoPem("key"))?;
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

pub(super) fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::Open {
        path: path.display().to_string(),
        source,
    })
}

fn stamp(path: &Path) -> Option<Stamp> {
    let file = fs::metadata(path).ok()?;
    Some((
        file.dev(),
        file.ino(),
        file.size(),
        file.mtime(),
        file.mtime_nsec(),
        file.ctime(),
        file.ctime_nsec(),
    ))
}

/// The texts that Go has for what goes wrong with files.
pub(super) fn io_text(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}

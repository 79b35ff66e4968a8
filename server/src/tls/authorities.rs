//! Whom this member trusts: `--trusted-ca-file`, or the system's own authorities.

use std::path::{Path, PathBuf};

use rustls::{CertificateError, RootCertStore};

use super::files::Content;
use super::itself::{Authorities, Trusted};
use super::{TlsError, certificate};
use crate::config::TlsSettings;

/// Where the authorities are that `settings` mean.
pub(super) fn file(settings: &TlsSettings) -> Result<PathBuf, TlsError> {
    let system = || {
        SYSTEM_AUTHORITIES
            .iter()
            .map(PathBuf::from)
            .find(|path| path.exists())
    };
    let path = settings.trusted_ca_file.clone().or_else(system);
    path.ok_or(TlsError::NoAuthority)
}

/// What the file `path` holds. The system's list may hold what is not understood; one that was `asked_for` must not.
pub(super) fn read(path: &Path, content: Content, asked_for: bool) -> Result<Authorities, TlsError> {
    let mut roots = RootCertStore::empty();
    let mut trusted = Trusted::default();
    for certificate in certificate::certificates(&content?)? {
        match roots.add(certificate.clone()) {
            Err(error) if asked_for => return Err(TlsError::Material(error.to_string())),
            Err(_) => {}
            Ok(()) => trusted.0.push(certificate),
        }
    }
    match roots.is_empty() {
        true => Err(TlsError::EmptyAuthority(path.display().to_string())),
        false => Ok(Authorities { roots, trusted }),
    }
}

/// Go's texts of what is wrong with a certificate.
pub(super) fn in_gos_words(error: &CertificateError) -> String {
    match error {
        CertificateError::UnknownIssuer => "x509: certificate signed by unknown authority".to_owned(),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "x509: certificate has expired or is not yet valid".to_owned()
        }
        other => format!("x509: {other}"),
    }
}

/// Where systems keep the authorities that they trust, as Go looks for them.
const SYSTEM_AUTHORITIES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

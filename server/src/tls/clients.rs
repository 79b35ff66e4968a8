//! Which clients are let in by their certificates: those of a trusted CA that are not revoked and, where names are
//! asked for, have one of them.
//!
//! The list of revocations is read at every handshake and counts by serial numbers alone, as in etcd: whose list it is
//! and until when it is good are not asked. One that cannot be read lets nobody in.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme,
};
use webpki::{CertRevocationList, EndEntityCert, OwnedCertRevocationList};

use super::{TlsError, certificate, members};
use crate::config::TlsSettings;

/// A verifier as `settings` ask for one.
pub(super) fn verifier(
    settings: &TlsSettings,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let inner = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(settings)?), provider)
        .build()
        .map_err(|error| TlsError::Material(error.to_string()))?;
    Ok(Arc::new(Clients {
        inner,
        crl_file: settings.crl_file.clone(),
        allowed: settings
            .allowed_hostnames
            .iter()
            .filter_map(|name| ServerName::try_from(name.clone()).ok())
            .collect(),
        any_name: settings.allowed_hostnames.is_empty(),
        common_names: settings.allowed_names.clone(),
    }))
}

pub(super) fn roots(settings: &TlsSettings) -> Result<RootCertStore, TlsError> {
    let path = match &settings.trusted_ca_file {
        Some(path) => path.as_path(),
        None => SYSTEM_AUTHORITIES
            .iter()
            .map(Path::new)
            .find(|path| path.exists())
            .ok_or(TlsError::NoAuthority)?,
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificate::certificates(&certificate::read(path)?)? {
        match roots.add(certificate) {
            Ok(()) => {}
            // The system's list may hold what is not understood; a list that was asked for must not.
            Err(_) if settings.trusted_ca_file.is_none() => {}
            Err(error) => return Err(TlsError::Material(error.to_string())),
        }
    }
    match roots.is_empty() {
        true => Err(TlsError::EmptyAuthority(path.display().to_string())),
        false => Ok(roots),
    }
}

#[derive(Debug)]
struct Clients {
    inner: Arc<dyn ClientCertVerifier>,
    crl_file: Option<PathBuf>,
    /// Names of which a certificate must have one, unless `any_name`.
    allowed: Vec<ServerName<'static>>,
    any_name: bool,
    /// Common names of which it must have one; any if empty.
    common_names: Vec<String>,
}

impl Clients {
    fn check_names(&self, end_entity: &CertificateDer<'_>) -> Result<(), Error> {
        if !self.common_names.is_empty() {
            let name = members::common_name(end_entity).unwrap_or_default();
            if !self.common_names.contains(&name) {
                return Err(CertificateError::NotValidForName.into());
            }
        }
        let certificate = EndEntityCert::try_from(end_entity).map_err(|_| CertificateError::BadEncoding)?;
        let named = |name| certificate.verify_is_valid_for_subject_name(name).is_ok();
        match self.any_name || self.allowed.iter().any(named) {
            true => Ok(()),
            // The client gets the alert `bad_certificate`, as from etcd.
            false => Err(CertificateError::NotValidForName.into()),
        }
    }

    fn check_revocation(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
    ) -> Result<(), Error> {
        let Some(path) = &self.crl_file else {
            return Ok(());
        };
        let list = certificate::read(path).map_err(|error| Error::General(error.to_string()))?;
        let list = OwnedCertRevocationList::from_der(&list)
            .map(CertRevocationList::Owned)
            .map_err(|error| Error::General(format!("x509: {error}")))?;
        for certificate in std::iter::once(end_entity).chain(intermediates) {
            let certificate =
                EndEntityCert::try_from(certificate).map_err(|_| CertificateError::BadEncoding)?;
            let serial = certificate.serial();
            // Anything but a clear no is a yes.
            if !matches!(list.find_serial(serial), Ok(None)) {
                let serial: String = serial.iter().map(|byte| format!("{byte:02x}")).collect();
                let text = format!("transport: certificate serial {serial} revoked");
                return Err(Error::General(text));
            }
        }
        Ok(())
    }
}

impl ClientCertVerifier for Clients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.inner.verify_client_cert(end_entity, intermediates, now)?;
        self.check_names(end_entity)?;
        self.check_revocation(end_entity, intermediates)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
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

//! Which clients are let in by their certificates: those of a trusted CA that are not revoked and, where names are
//! asked for, have one of them.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use webpki::EndEntityCert;

use super::itself::{Authorities, Purpose, Trusted};
use super::revocations::Revocations;
use super::signatures::Signatures;
use super::{TlsError, members};
use crate::config::TlsSettings;

/// A verifier as `settings` ask for one, by these authorities.
pub(super) fn verifier(
    settings: &TlsSettings,
    authorities: Authorities,
    revocations: Option<Arc<Revocations>>,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let signatures = Signatures::of(provider.clone());
    let inner = WebPkiClientVerifier::builder_with_provider(Arc::new(authorities.roots), provider)
        .build()
        .map_err(|error| TlsError::Material(error.to_string()))?;
    Ok(Arc::new(Clients {
        inner,
        trusted: authorities.trusted,
        signatures,
        revocations,
        allowed: settings
            .allowed_hostnames
            .iter()
            .filter_map(|name| ServerName::try_from(name.clone()).ok())
            .collect(),
        any_name: settings.allowed_hostnames.is_empty(),
        common_names: settings.allowed_names.clone(),
    }))
}

#[derive(Debug)]
struct Clients {
    inner: Arc<dyn ClientCertVerifier>,
    trusted: Trusted,
    signatures: Signatures,
    revocations: Option<Arc<Revocations>>,
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
        let verified = match self.trusted.admit(end_entity, now, Purpose::Client)? {
            true => ClientCertVerified::assertion(),
            false => self.inner.verify_client_cert(end_entity, intermediates, now)?,
        };
        self.check_names(end_entity)?;
        if let Some(revocations) = &self.revocations {
            revocations.judge(std::iter::once(end_entity).chain(intermediates))?;
        }
        Ok(verified)
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

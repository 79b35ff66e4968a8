//! Certificates that are trusted themselves, like those that `openssl req -x509` makes: one file is authority and
//! certificate at once. Go takes what is among the authorities for good; webpki takes no authority for anybody's
//! certificate, so this is judged here.

use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, Error, RootCertStore};
use webpki::EndEntityCert;
use x509_parser::extensions::ExtendedKeyUsage;
use x509_parser::prelude::{ASN1Time, FromDer as _, X509Certificate};

/// Authorities, and their certificates byte by byte.
pub(super) struct Authorities {
    pub(super) roots: RootCertStore,
    pub(super) trusted: Trusted,
}

/// The certificates of the authorities.
#[derive(Debug, Default)]
pub(super) struct Trusted(pub(super) Vec<CertificateDer<'static>>);

/// What a certificate is shown for.
#[derive(Clone, Copy)]
pub(super) enum Purpose<'a> {
    Client,
    /// The server of this name or address.
    Server(&'a ServerName<'a>),
}

impl Trusted {
    /// Whether this is one of the authorities' own. Nothing but its time, what it may be used for and, of a server, its
    /// names is left to be judged then.
    pub(super) fn admit(
        &self,
        shown: &CertificateDer<'_>,
        now: UnixTime,
        purpose: Purpose<'_>,
    ) -> Result<bool, Error> {
        if !self.0.iter().any(|trusted| trusted == shown) {
            return Ok(false);
        }
        let (_, parsed) = X509Certificate::from_der(shown).map_err(|_| CertificateError::BadEncoding)?;
        let now = i64::try_from(now.as_secs())
            .ok()
            .and_then(|seconds| ASN1Time::from_timestamp(seconds).ok())
            .ok_or(Error::FailedToGetCurrentTime)?;
        if now < parsed.validity().not_before {
            return Err(CertificateError::NotValidYet.into());
        }
        if now > parsed.validity().not_after {
            return Err(CertificateError::Expired.into());
        }
        let usage = parsed
            .extended_key_usage()
            .map_err(|_| CertificateError::BadEncoding)?;
        if usage.is_some_and(|usage| !purpose.is_among(usage.value)) {
            return Err(CertificateError::InvalidPurpose.into());
        }
        if let Purpose::Server(name) = purpose {
            let certificate = EndEntityCert::try_from(shown).map_err(|_| CertificateError::BadEncoding)?;
            certificate
                .verify_is_valid_for_subject_name(name)
                .map_err(|_| CertificateError::NotValidForName)?;
        }
        Ok(true)
    }
}

impl Purpose<'_> {
    fn is_among(self, usage: &ExtendedKeyUsage<'_>) -> bool {
        usage.any
            || match self {
                Purpose::Client => usage.client_auth,
                Purpose::Server(_) => usage.server_auth,
            }
    }
}

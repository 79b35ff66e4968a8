//! Certificates that are revoked: `--client-crl-file`, `--peer-crl-file`.
//!
//! The list counts by serial numbers alone, as in etcd: whose list it is and until when it is good are not asked. One
//! that cannot be read lets nobody in.

use std::path::PathBuf;

use rustls::pki_types::CertificateDer;
use rustls::{CertificateError, Error};
use webpki::{CertRevocationList, EndEntityCert, OwnedCertRevocationList};

use super::TlsError;
use super::files::{Material, Watched};

/// A list, by the name of its file.
#[derive(Debug)]
pub(super) struct Revocations(Watched<CertRevocationList<'static>>);

impl Revocations {
    pub(super) fn of(path: PathBuf) -> Revocations {
        Revocations(Watched::unread(Material::Revocations, path, |mut contents| {
            let list = contents.pop().unwrap_or_else(|| Ok(Vec::new()))?;
            OwnedCertRevocationList::from_der(&list)
                .map(CertRevocationList::Owned)
                .map_err(|error| TlsError::BadList(error.to_string()))
        }))
    }

    /// Refuses a chain of which any certificate is revoked.
    pub(super) fn judge<'a>(&self, chain: impl Iterator<Item = &'a CertificateDer<'a>>) -> Result<(), Error> {
        let list = self.0.as_it_is().map_err(Error::General)?;
        for certificate in chain {
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

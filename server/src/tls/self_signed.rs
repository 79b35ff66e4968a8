//! The certificate of `--auto-tls` and `--peer-auto-tls`: made once per data directory, and used as long as it is there.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose,
};

use super::TlsError;

/// The files of the certificate and its key in `folder`, made for `hosts` and so many years where they are missing.
pub(super) fn files(folder: &Path, hosts: &[String], years: u32) -> Result<(PathBuf, PathBuf), TlsError> {
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    if cert.exists() && key.exists() {
        return Ok((cert, key));
    }
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| TlsError::File { path, source }
    };
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(failed(folder))?;
    let pair = KeyPair::generate()?;
    let certificate = params(hosts, years)?.self_signed(&pair)?;
    write(&key, &pair.serialize_pem()).map_err(failed(&key))?;
    write(&cert, &certificate.pem()).map_err(failed(&cert))?;
    tracing::warn!(cert = %cert.display(), key = %key.display(), "automatically generate certificates");
    Ok((cert, key))
}

fn params(hosts: &[String], years: u32) -> Result<CertificateParams, TlsError> {
    let mut params = CertificateParams::new(hosts.to_vec())?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "etcd");
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyEncipherment,
    ];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    let now = std::time::SystemTime::now();
    let days = 365 * u64::from(years.min(YEARS_MAX));
    params.not_before = now.into();
    params.not_after = (now + std::time::Duration::from_secs(days * 24 * 3600)).into();
    Ok(params)
}

fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Longer than anything lasts, and short enough for the form that dates have in certificates.
const YEARS_MAX: u32 = 1000;

//! A certificate of our own making, for `--auto-tls`: kept under the data directory and used again by the next start.
//!
//! As etcd's but for its curve: P-256 in place of P-521, which takes milliseconds of each handshake.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};

use super::TlsError;

/// The files of a certificate for `hosts`, and of its key, under `directory`; made now, unless both are there.
pub(crate) fn self_signed(
    directory: &Path,
    hosts: &[String],
    years: u32,
) -> Result<(PathBuf, PathBuf), TlsError> {
    if years == 0 {
        return Err(TlsError::NoValidity);
    }
    let (cert_file, key_file) = (directory.join("cert.pem"), directory.join("key.pem"));
    if cert_file.exists() && key_file.exists() {
        return Ok((cert_file, key_file));
    }
    let (certificate, key) = make(hosts, years).map_err(|error| TlsError::SelfSigned(error.to_string()))?;
    let written = DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .and_then(|()| fs::write(&cert_file, certificate))
        .and_then(|()| write_private(&key_file, &key));
    written.map_err(|error| TlsError::SelfSigned(error.to_string()))?;
    tracing::warn!(
        "cert-file" = %cert_file.display(),
        years,
        "automatically generate certificates"
    );
    Ok((cert_file, key_file))
}

/// Certificate and key in PEM.
fn make(hosts: &[String], years: u32) -> Result<(String, String), rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    let now = SystemTime::now();
    params.not_before = now.into();
    // Beyond what a date can say, a certificate is good for as long as it can say.
    let validity = YEAR * years.min(YEARS_MAX);
    params.not_after = now.checked_add(validity).unwrap_or(now).into();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "etcd");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::KeyEncipherment,
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::CrlSign,
    ];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    for host in hosts {
        params.subject_alt_names.push(match host.parse::<IpAddr>() {
            Ok(ip) => SanType::IpAddress(ip),
            Err(_) => SanType::DnsName(host.as_str().try_into()?),
        });
    }
    let certificate = params.self_signed(&key)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

fn write_private(path: &Path, text: &str) -> io::Result<()> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?
        .write_all(text.as_bytes())
}

const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
const YEARS_MAX: u32 = 1000;

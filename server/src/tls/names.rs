//! What a certificate says about who shows it: its common name, names and addresses, and its number.

use std::collections::BTreeSet;
use std::net::IpAddr;

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};
use x509_parser::revocation_list::CertificateRevocationList;

use super::HandshakeError;

/// Numbers of revoked certificates.
pub(super) type Revoked = BTreeSet<Vec<u8>>;

/// Reads a revocation list, DER or PEM.
pub(super) fn revoked(bytes: &[u8]) -> Result<Revoked, String> {
    let pem = x509_parser::pem::parse_x509_pem(bytes).ok().map(|(_, pem)| pem);
    let der = pem.as_ref().map_or(bytes, |pem| &pem.contents);
    let (_, list) = CertificateRevocationList::from_der(der).map_err(|error| error.to_string())?;
    let numbers = list.iter_revoked_certificates();
    Ok(numbers.map(|revoked| revoked.raw_serial().to_vec()).collect())
}

/// Refuses a row of certificates of which one is revoked.
pub(super) fn check_revoked(shown: &[CertificateDer<'_>], revoked: &Revoked) -> Result<(), HandshakeError> {
    for certificate in shown {
        let serial = read(certificate)?.raw_serial().to_vec();
        if revoked.contains(&serial) {
            let hex = serial.iter().map(|byte| format!("{byte:02x}")).collect();
            return Err(HandshakeError::Revoked(hex));
        }
    }
    Ok(())
}

/// Whether the certificate has one of the common names, or is good for one of the hosts, if any are demanded.
pub(super) fn is_allowed(
    leaf: &CertificateDer<'_>,
    common_names: &[String],
    hosts: &[String],
) -> Result<bool, HandshakeError> {
    if common_names.is_empty() && hosts.is_empty() {
        return Ok(true);
    }
    let certificate = read(leaf)?;
    let own = certificate
        .subject()
        .iter_common_name()
        .next()
        .and_then(|name| name.as_str().ok())
        .unwrap_or_default();
    if common_names.iter().any(|name| name == own) {
        return Ok(true);
    }
    let alternatives = Alternatives::of(&certificate);
    Ok(hosts.iter().any(|host| alternatives.are_good_for(host)))
}

/// Refuses a certificate that names addresses or hosts, none of which is where it was shown from. Names are resolved.
/// The rule is etcd's, for its peers.
pub(super) async fn check_address(leaf: &CertificateDer<'_>, address: IpAddr) -> Result<(), HandshakeError> {
    let alternatives = Alternatives::of(&read(leaf)?);
    let address = address.to_canonical();
    if (alternatives.addresses.is_empty() && alternatives.hosts.is_empty())
        || alternatives.addresses.contains(&address)
    {
        return Ok(());
    }
    for host in alternatives.hosts.iter().filter(|host| !host.starts_with("*.")) {
        if let Ok(mut found) = tokio::net::lookup_host((host.as_str(), 0)).await
            && found.any(|found| found.ip().to_canonical() == address)
        {
            return Ok(());
        }
    }
    let mut names: Vec<String> = alternatives.addresses.iter().map(IpAddr::to_string).collect();
    names.extend(alternatives.hosts);
    Err(HandshakeError::Address { address, names })
}

fn read<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, HandshakeError> {
    X509Certificate::from_der(certificate)
        .map(|(_, certificate)| certificate)
        .map_err(|error| HandshakeError::Certificate(error.to_string()))
}

/// The subject's alternative names.
struct Alternatives {
    addresses: Vec<IpAddr>,
    hosts: Vec<String>,
}

impl Alternatives {
    fn of(certificate: &X509Certificate<'_>) -> Alternatives {
        let (mut addresses, mut hosts) = (Vec::new(), Vec::new());
        let names = certificate.subject_alternative_name().ok().flatten();
        for name in names.iter().flat_map(|names| &names.value.general_names) {
            match name {
                GeneralName::DNSName(host) => hosts.push((*host).to_owned()),
                GeneralName::IPAddress(bytes) => {
                    let four = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
                    let sixteen = || <[u8; 16]>::try_from(*bytes).map(IpAddr::from);
                    addresses.extend(four.or_else(|_| sixteen()).map(|address| address.to_canonical()));
                }
                _ => {}
            }
        }
        Alternatives { addresses, hosts }
    }

    /// As Go's `VerifyHostname`: addresses are compared, names without regard to case, and `*` stands for one label.
    fn are_good_for(&self, host: &str) -> bool {
        if let Ok(address) = host.parse::<IpAddr>() {
            return self.addresses.contains(&address.to_canonical());
        }
        self.hosts.iter().any(|pattern| match pattern.strip_prefix("*.") {
            Some(parent) => host
                .split_once('.')
                .is_some_and(|(label, rest)| !label.is_empty() && rest.eq_ignore_ascii_case(parent)),
            None => pattern.eq_ignore_ascii_case(host),
        })
    }
}

//! Where to listen, and with which TLS.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::url::{Url, UrlError};

/// One URL to listen on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Listener {
    /// The URL as it was given.
    pub(crate) url: String,
    /// Whether connections begin with a TLS handshake.
    pub(crate) tls: bool,
    /// What to bind. A TCP address may occur twice among client listeners, once with TLS and once without: both are
    /// served on it, told apart by a connection's first byte.
    pub(crate) address: Address,
}

/// What a listener binds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Listener {
    pub(super) fn of(url: &Url) -> Result<Listener, UrlError> {
        Ok(Listener {
            url: url.as_str().to_owned(),
            tls: url.is_secure(),
            address: url.bind_address()?,
        })
    }
}

/// TLS for clients, as its flags describe it; files are read where connections are accepted.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[allow(dead_code, reason = "the rooms that read it come one by one")]
pub(crate) struct TlsSettings {
    pub(crate) cert_file: Option<PathBuf>,
    pub(crate) key_file: Option<PathBuf>,
    pub(crate) trusted_ca_file: Option<PathBuf>,
    pub(crate) crl_file: Option<PathBuf>,
    /// Clients must show a certificate.
    pub(crate) client_cert_auth: bool,
    /// Make a certificate where none is given.
    pub(crate) auto: bool,
    /// How long such a certificate is valid.
    pub(crate) self_signed_years: u32,
    /// Names of which a client's certificate must have one; any if empty.
    pub(crate) allowed_hostnames: Vec<String>,
    /// Names of cipher suites in Go's spelling; our own choice if empty.
    pub(crate) cipher_suites: Vec<String>,
    pub(crate) min_version: TlsVersion,
    pub(crate) max_version: Option<TlsVersion>,
}

/// A version of TLS.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(crate) enum TlsVersion {
    #[default]
    V12,
    V13,
}

impl TlsSettings {
    /// Whether no certificate is given, as etcd asks the question.
    pub(crate) fn has_no_files(&self) -> bool {
        self.cert_file.is_none() && self.key_file.is_none()
    }
}

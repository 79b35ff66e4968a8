//! Where to listen, with which TLS, and what is told to others.

use std::net::SocketAddr;
use std::net::UdpSocket;
use std::path::PathBuf;

use super::raw::Raw;
use super::url::{self, Url, UrlError};
use super::{Refusal, check, start, table};

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
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Listener {
    fn of(url: &Url) -> Result<Listener, UrlError> {
        Ok(Listener {
            url: url.as_str().to_owned(),
            tls: url.is_secure(),
            address: url.bind_address()?,
        })
    }
}

/// The listener of one URL.
pub(crate) fn listener(url: &str) -> Result<Listener, UrlError> {
    Listener::of(&url::parse(url)?)
}

/// All URLs to listen on.
pub(super) struct Listeners {
    pub(super) client: Vec<Listener>,
    pub(super) client_http: Vec<Listener>,
    pub(super) peer: Vec<Listener>,
    pub(super) metrics: Vec<Listener>,
    pub(super) kubernetes: Vec<Listener>,
}

impl Listeners {
    pub(super) fn read(raw: &Raw) -> Result<Listeners, Refusal> {
        let of = |name| {
            let listeners: Result<Vec<Listener>, UrlError> =
                urls(raw, name).iter().map(Listener::of).collect();
            listeners.map_err(|error| check(error.to_string()))
        };
        Ok(Listeners {
            peer: of("listen-peer-urls")?,
            client: of("listen-client-urls")?,
            client_http: of("listen-client-http-urls")?,
            metrics: of("listen-metrics-urls")?,
            kubernetes: of("apiserver-listen")?,
        })
    }

    /// What etcd finds out when it opens its listeners for members.
    pub(super) fn check_peers(&self, tls: &TlsSettings) -> Result<(), Refusal> {
        let mut listeners = self.peer.iter();
        match listeners.find(|listener| listener.tls && tls.has_no_files() && !tls.auto) {
            Some(listener) => {
                let address = listener.url.split_once("://").map_or("", |(_, address)| address);
                Err(start(format!(
                    "cannot listen on TLS for {address}: KeyFile and CertFile are not presented"
                )))
            }
            None => Ok(()),
        }
    }

    /// What etcd finds out when it opens its listeners.
    pub(super) fn check_clients(&self, tls: &TlsSettings) -> Result<(), Refusal> {
        let no_certificate = tls.has_no_files() && !tls.auto;
        let secure = |listeners: &[Listener]| listeners.iter().find(|listener| listener.tls).cloned();
        let client = secure(&self.client).or_else(|| secure(&self.client_http));
        if let Some(listener) = client.as_ref().filter(|_| no_certificate) {
            return Err(start(format!(
                "TLS key/cert (--cert-file, --key-file) must be provided for client url {} with HTTPS scheme",
                listener.url
            )));
        }
        let both = self.client_http.iter().find(|http| {
            let mut clients = self.client.iter();
            clients.any(|listener| listener.address == http.address)
        });
        if let Some(listener) = both {
            return Err(start(format!(
                "cannot bind both --listen-client-urls and --listen-client-http-urls on the same url {}",
                listener.url
            )));
        }
        let metrics = secure(&self.metrics);
        if metrics.is_some() && no_certificate {
            return Err(start(
                "client TLS key/cert (--cert-file, --key-file) must be provided for metrics secure url",
            ));
        }
        let kubernetes = secure(&self.kubernetes);
        if kubernetes.is_some() && no_certificate {
            return Err(start(
                "client TLS key/cert (--cert-file, --key-file) or --auto-tls must be given for a secure --apiserver-listen",
            ));
        }
        if (client.is_some() || metrics.is_some() || kubernetes.is_some())
            && tls.cert_file.is_some() != tls.key_file.is_some()
        {
            let shown = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
            return Err(start(format!(
                "KeyFile and CertFile must both be present[key: {}, cert: {}]",
                shown(&tls.key_file).unwrap_or_default(),
                shown(&tls.cert_file).unwrap_or_default()
            )));
        }
        Ok(())
    }
}

/// What is told to others.
pub(super) struct Advertised {
    pub(super) peer: Vec<Url>,
    pub(super) client: Vec<Url>,
}

impl Advertised {
    pub(super) fn read(raw: &Raw) -> Result<Advertised, Refusal> {
        let peer = urls(raw, "initial-advertise-peer-urls");
        if let Err(error) = peer.iter().try_for_each(Url::check_advertised) {
            return Err(check(format!(
                "--initial-advertise-peer-urls {:?} must be \"host:port\" ({error})",
                url::texts(&peer).join(",")
            )));
        }
        let client = urls(raw, "advertise-client-urls");
        if let Err(error) = client.iter().try_for_each(Url::check_advertised) {
            return Err(check(format!(
                "--advertise-client-urls {:?} must be in the format \"host:port\", \"unix:/path/to/socket\" or \
                 \"unixs:/path/to/socket\" ({error})",
                url::texts(&client).join(",")
            )));
        }
        Ok(Advertised { peer, client })
    }

    /// A member that listens everywhere and advertises `localhost`, as by default, advertises its own address.
    pub(super) fn replace_wildcards(&mut self, raw: &Raw) {
        let mut pairs = [
            (&mut self.peer, "initial-advertise-peer-urls", "listen-peer-urls"),
            (&mut self.client, "advertise-client-urls", "listen-client-urls"),
        ];
        for (advertised, name, listen_name) in &mut pairs {
            let is_default =
                matches!(advertised.as_slice(), [url] if url.as_str() == table::flag(name).default);
            let listen = urls(raw, listen_name);
            let Some(listened) = listen.first().filter(|url| is_default && url.host() == "0.0.0.0") else {
                continue;
            };
            let own =
                own_address().and_then(|ip| url::parse(&format!("http://{ip}:{}", listened.port())).ok());
            if let Some(url) = own {
                **advertised = vec![url];
            }
        }
    }
}

/// The address that packets to the world come from. Nothing is sent: connecting a UDP socket only asks the routes.
fn own_address() -> Option<std::net::IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_unspecified() && !ip.is_loopback()).then_some(ip)
}

/// The URLs of a flag, whose form has been checked; an empty value is the default.
fn urls(raw: &Raw, name: &'static str) -> Vec<Url> {
    let text = match raw.get(name) {
        "" => table::flag(name).default,
        given => given,
    };
    match text {
        "" => Vec::new(),
        text => url::parse_list(text).unwrap_or_default(),
    }
}

/// TLS for clients, as its flags describe it; files are read where connections are accepted.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
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
    /// The same for its common name.
    pub(crate) allowed_names: Vec<String>,
    /// A certificate need not be good for the address that it comes from; only those of members ever must.
    pub(crate) skip_address_check: bool,
    /// What is shown where this member dials, if it is another certificate than where it is dialed.
    pub(crate) client_cert_file: Option<PathBuf>,
    pub(crate) client_key_file: Option<PathBuf>,
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
    pub(super) fn read(raw: &Raw) -> Result<TlsSettings, Refusal> {
        let path = |name| {
            let path = Some(raw.get(name)).filter(|path| !path.is_empty());
            path.map(PathBuf::from)
        };
        let version = |name| match raw.get(name) {
            "" => Ok(None),
            "TLS1.2" => Ok(Some(TlsVersion::V12)),
            "TLS1.3" => Ok(Some(TlsVersion::V13)),
            other => Err(check(format!(
                "unexpected TLS version {other:?} (must be one of: TLS1.2, TLS1.3)"
            ))),
        };
        let min_version = version("tls-min-version")?.unwrap_or_default();
        let max_version = version("tls-max-version")?;
        if max_version.is_some_and(|max| min_version > max) {
            return Err(check(format!(
                "min version ({}) is greater than max version ({})",
                raw.get("tls-min-version"),
                raw.get("tls-max-version")
            )));
        }
        let cipher_suites = raw.strings("cipher-suites");
        if min_version == TlsVersion::V13 && !cipher_suites.is_empty() {
            return Err(check(
                "cipher suites cannot be configured when only TLS1.3 is enabled",
            ));
        }
        let years = u32::try_from(raw.number("self-signed-cert-validity")).unwrap_or(u32::MAX);
        Ok(TlsSettings {
            cert_file: path("cert-file"),
            key_file: path("key-file"),
            trusted_ca_file: path("trusted-ca-file"),
            crl_file: path("client-crl-file"),
            client_cert_auth: raw.flag("client-cert-auth"),
            auto: raw.flag("auto-tls"),
            // In a file, 0 is 1.
            self_signed_years: if raw.from_file { years.max(1) } else { years },
            allowed_hostnames: raw.strings("client-cert-allowed-hostname"),
            allowed_names: Vec::new(),
            skip_address_check: true,
            client_cert_file: path("client-cert-file"),
            client_key_file: path("client-key-file"),
            cipher_suites,
            min_version,
            max_version,
        })
    }

    /// TLS between members: suites, versions and validity are those of `client`.
    pub(super) fn read_peer(raw: &Raw, client: &TlsSettings) -> Result<TlsSettings, Refusal> {
        let path = |name| {
            let path = Some(raw.get(name)).filter(|path| !path.is_empty());
            path.map(PathBuf::from)
        };
        let (names, hosts) = (
            raw.strings("peer-cert-allowed-cn"),
            raw.strings("peer-cert-allowed-hostname"),
        );
        if !names.is_empty() && !hosts.is_empty() {
            return Err(start(format!(
                "AllowedCNs and AllowedHostnames are mutually exclusive (cns={names:?}, hostnames={hosts:?})"
            )));
        }
        Ok(TlsSettings {
            cert_file: path("peer-cert-file"),
            key_file: path("peer-key-file"),
            trusted_ca_file: path("peer-trusted-ca-file"),
            crl_file: path("peer-crl-file"),
            client_cert_auth: raw.flag("peer-client-cert-auth"),
            auto: raw.flag("peer-auto-tls"),
            allowed_hostnames: hosts,
            allowed_names: names,
            skip_address_check: raw.flag("peer-skip-client-san-verification"),
            client_cert_file: path("peer-client-cert-file"),
            client_key_file: path("peer-client-key-file"),
            ..client.clone()
        })
    }

    /// Whether no certificate is given, as etcd asks the question.
    pub(crate) fn has_no_files(&self) -> bool {
        self.cert_file.is_none() && self.key_file.is_none()
    }

    /// Names that Go does not know are refused; which of the known ones are served is another question.
    pub(super) fn check_suites(&self) -> Result<(), Refusal> {
        let mut suites = self.cipher_suites.iter();
        match suites.find(|suite| !SUITES.contains(&suite.as_str())) {
            Some(suite) => Err(start(format!("unexpected TLS cipher suite {suite:?}"))),
            None => Ok(()),
        }
    }
}

/// The cipher suites that Go names, the insecure ones included.
const SUITES: [&str; 27] = [
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305",
    "TLS_RSA_WITH_RC4_128_SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
];

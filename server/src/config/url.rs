//! The URLs of flags: where to listen and what to advertise.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs as _};

/// One URL, valid in the sense of etcd's flags.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Url {
    text: String,
    secure: bool,
    unix: bool,
    host: String,
    port: u16,
}

/// Why a text is no such URL; the texts are etcd's.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum UrlError {
    #[error("URL scheme must be http, https, unix, or unixs: {0}")]
    Scheme(String),
    #[error("URL address does not have the form \"host:port\": {0}")]
    HostPort(String),
    #[error("URL must not contain a path: {0}")]
    Path(String),
    #[error("expected IP in URL for binding ({0})")]
    NotAnAddress(String),
    #[error("{0}: TLS is not supported by this version of Taffrail")]
    Tls(String),
    #[error("{0}: unix sockets are not supported by this version of Taffrail")]
    Unix(String),
}

impl Url {
    fn parse(text: &str) -> Result<Url, UrlError> {
        let text = text.trim();
        let (scheme, rest) = text
            .split_once("://")
            .ok_or_else(|| UrlError::Scheme(text.to_owned()))?;
        let (secure, unix) = match scheme {
            "http" => (false, false),
            "https" => (true, false),
            "unix" => (false, true),
            "unixs" => (true, true),
            _ => return Err(UrlError::Scheme(text.to_owned())),
        };
        if unix {
            return Ok(Url {
                text: text.to_owned(),
                secure,
                unix,
                host: rest.to_owned(),
                port: 0,
            });
        }
        let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
        let (host, port) = authority
            .rsplit_once(':')
            .and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)))
            .filter(|(host, _)| !host.contains(':') || (host.starts_with('[') && host.ends_with(']')))
            .ok_or_else(|| UrlError::HostPort(text.to_owned()))?;
        if rest.len() > authority.len() {
            return Err(UrlError::Path(text.to_owned()));
        }
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Url {
            text: text.to_owned(),
            secure,
            unix,
            host,
            port,
        })
    }

    /// The address to bind: an IP or `localhost`, in plaintext.
    pub(crate) fn bind_address(&self) -> Result<SocketAddr, UrlError> {
        if self.unix {
            return Err(UrlError::Unix(self.text.clone()));
        }
        if self.secure {
            return Err(UrlError::Tls(self.text.clone()));
        }
        let ip = match self.host.as_str() {
            "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
            host => host
                .parse()
                .map_err(|_| UrlError::NotAnAddress(self.text.clone()))?,
        };
        Ok(SocketAddr::new(ip, self.port))
    }

    /// Where to dial, in plaintext: a host to be resolved, and a port.
    pub(crate) fn dial_target(&self) -> Result<(&str, u16), UrlError> {
        if self.unix {
            return Err(UrlError::Unix(self.text.clone()));
        }
        if self.secure {
            return Err(UrlError::Tls(self.text.clone()));
        }
        Ok((&self.host, self.port))
    }

    /// Host and port as a request's `Host` shows them.
    pub(crate) fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }

    /// The URL as it was written.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// The URL with its host's first address in the host's place, if it has one.
    fn resolved(&self) -> String {
        if self.unix {
            return self.text.clone();
        }
        let scheme = if self.secure { "https" } else { "http" };
        match (self.host.as_str(), self.port)
            .to_socket_addrs()
            .ok()
            .and_then(|mut found| {
                // As Go does: an IPv4 address where there is one.
                let all: Vec<SocketAddr> = found.by_ref().collect();
                all.iter()
                    .find(|address| address.is_ipv4())
                    .or(all.first())
                    .copied()
            }) {
            Some(address) => format!("{scheme}://{address}"),
            None => self.text.clone(),
        }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Reads one URL.
pub(crate) fn parse(text: &str) -> Result<Url, UrlError> {
    Url::parse(text)
}

/// Reads a comma list; the result is sorted, as etcd keeps it.
pub(crate) fn parse_list(text: &str) -> Result<Vec<Url>, UrlError> {
    let mut urls = text.split(',').map(Url::parse).collect::<Result<Vec<_>, _>>()?;
    urls.sort();
    urls.dedup();
    Ok(urls)
}

/// Whether two lists name the same addresses, by text or after resolution of their hosts.
pub(crate) fn same(one: &[Url], other: &[Url]) -> bool {
    let sorted = |urls: &[Url]| {
        let mut texts: Vec<String> = urls.iter().map(Url::resolved).collect();
        texts.sort();
        texts
    };
    let texts = |urls: &[Url]| {
        urls.iter()
            .map(|url| url.text.clone())
            .collect::<std::collections::BTreeSet<_>>()
    };
    texts(one) == texts(other) || sorted(one) == sorted(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_urls_give_addresses() {
        for (text, address) in [
            ("http://127.0.0.1:2379", "127.0.0.1:2379"),
            ("http://localhost:1", "127.0.0.1:1"),
            ("http://[::1]:2379", "[::1]:2379"),
            ("http://0.0.0.0:0", "0.0.0.0:0"),
        ] {
            let urls = parse_list(text).unwrap();
            assert_eq!(urls[0].bind_address().unwrap().to_string(), address);
        }
    }

    #[test]
    fn bad_urls_are_refused_in_etcds_words() {
        let cases = [
            ("foo", "URL scheme must be http, https, unix, or unixs: foo"),
            (
                "ftp://a:1",
                "URL scheme must be http, https, unix, or unixs: ftp://a:1",
            ),
            (
                "http://127.0.0.1",
                "URL address does not have the form \"host:port\": http://127.0.0.1",
            ),
            (
                "http://127.0.0.1:x",
                "URL address does not have the form \"host:port\": http://127.0.0.1:x",
            ),
            (
                "http://::1:2379",
                "URL address does not have the form \"host:port\": http://::1:2379",
            ),
            (
                "http://127.0.0.1:1/x",
                "URL must not contain a path: http://127.0.0.1:1/x",
            ),
            (
                "http://127.0.0.1:99999",
                "URL address does not have the form \"host:port\": http://127.0.0.1:99999",
            ),
        ];
        for (text, message) in cases {
            assert_eq!(parse_list(text).unwrap_err().to_string(), message);
        }
        for (text, message) in [
            (
                "http://example.com:1",
                "expected IP in URL for binding (http://example.com:1)",
            ),
            ("http://:1", "expected IP in URL for binding (http://:1)"),
            (
                "https://1.2.3.4:1",
                "https://1.2.3.4:1: TLS is not supported by this version of Taffrail",
            ),
            (
                "unix://x",
                "unix://x: unix sockets are not supported by this version of Taffrail",
            ),
        ] {
            assert_eq!(
                parse_list(text).unwrap()[0]
                    .bind_address()
                    .unwrap_err()
                    .to_string(),
                message
            );
        }
    }

    #[test]
    fn lists_are_compared_by_address() {
        let list = |text| parse_list(text).unwrap();
        assert!(same(&list("http://localhost:1"), &list("http://127.0.0.1:1")));
        assert!(same(
            &list("http://1.1.1.1:1,http://2.2.2.2:2"),
            &list("http://2.2.2.2:2,http://1.1.1.1:1")
        ));
        assert!(!same(&list("http://127.0.0.1:1"), &list("http://127.0.0.1:2")));
    }
}

//! The URLs of flags: where to listen and what to advertise. Their reading follows Go's `net/url` and etcd's rules
//! on top of it, with the texts of both.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};

use super::listen::Address;

/// One URL, valid in the sense of etcd's flags.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Url {
    text: String,
    secure: bool,
    unix: bool,
    /// A name or an IP without brackets; the path of a unix socket.
    host: String,
    /// As written; may be empty.
    port: String,
}

/// Where a URL leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Target<'a> {
    /// A host to be resolved, and a port.
    Tcp(&'a str, u16),
    Unix(&'a Path),
}

/// Why a text is no such URL; the texts are etcd's and Go's.
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
    #[error("unexpected empty host ({0})")]
    EmptyHost(String),
    #[error("parse {text:?}: {reason}")]
    Parse { text: String, reason: String },
    #[error("listen tcp: address {0}: invalid port")]
    Port(String),
}

impl Url {
    fn parse(text: &str) -> Result<Url, UrlError> {
        let text = text.trim();
        let refuse = |reason: String| UrlError::Parse {
            text: text.to_owned(),
            reason,
        };
        if text.chars().any(|c| c.is_ascii_control()) {
            return Err(refuse("net/url: invalid control character in URL".to_owned()));
        }
        let (scheme, rest) = split_scheme(text).map_err(|reason| refuse(reason.to_owned()))?;
        let (authority, path) = match rest.strip_prefix("//") {
            Some(rest) => rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len())),
            None => ("", rest),
        };
        let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        check_port(authority).map_err(refuse)?;
        let (secure, unix) = match scheme.as_str() {
            "http" => (false, false),
            "https" => (true, false),
            "unix" => (false, true),
            "unixs" => (true, true),
            _ => return Err(UrlError::Scheme(text.to_owned())),
        };
        let path = path.split(['?', '#']).next().unwrap_or_default();
        let mut url = Url {
            text: format!("{scheme}:{rest}"),
            secure,
            unix,
            host: format!("{authority}{path}"),
            port: String::new(),
        };
        if unix {
            return Ok(url);
        }
        let (host, port) = split_host_port(authority).ok_or_else(|| UrlError::HostPort(text.to_owned()))?;
        if !path.is_empty() {
            return Err(UrlError::Path(text.to_owned()));
        }
        (url.host, url.port) = (host.to_owned(), port.to_owned());
        Ok(url)
    }

    /// The address to bind: a path, or an IP or `localhost` with a port.
    pub(crate) fn bind_address(&self) -> Result<Address, UrlError> {
        if self.unix {
            return Ok(Address::Unix(PathBuf::from(&self.host)));
        }
        let ip = match self.host.as_str() {
            "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
            host => host
                .parse()
                .map_err(|_| UrlError::NotAnAddress(self.text.clone()))?,
        };
        Ok(Address::Tcp(SocketAddr::new(ip, self.port_number()?)))
    }

    /// Whether the URL can be told to others.
    pub(crate) fn check_advertised(&self) -> Result<(), UrlError> {
        match self.unix || !self.host.is_empty() {
            true => Ok(()),
            false => Err(UrlError::EmptyHost(self.text.clone())),
        }
    }

    /// The host's name or IP, or the path of a unix socket.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// The port as written.
    pub(crate) fn port(&self) -> &str {
        &self.port
    }

    /// Whether TLS is asked for.
    pub(crate) fn is_secure(&self) -> bool {
        self.secure
    }

    /// Where to dial.
    pub(crate) fn target(&self) -> Result<Target<'_>, UrlError> {
        match self.unix {
            true => Ok(Target::Unix(Path::new(&self.host))),
            false => Ok(Target::Tcp(&self.host, self.port_number()?)),
        }
    }

    /// Host and port as a request's `Host` shows them.
    pub(crate) fn authority(&self) -> String {
        if self.unix {
            return "localhost".to_owned();
        }
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }

    /// The URL as it was written, but for its scheme's case.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    fn port_number(&self) -> Result<u16, UrlError> {
        match self.port.as_str() {
            "" => Ok(0),
            port => port.parse().map_err(|_| UrlError::Port(port.to_owned())),
        }
    }

    /// The URL with its host's first address in the host's place, if it has one.
    fn resolved(&self) -> String {
        let (false, Ok(port)) = (self.unix, self.port_number()) else {
            return self.text.clone();
        };
        let scheme = if self.secure { "https" } else { "http" };
        match (self.host.as_str(), port)
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

/// Splits off the scheme, in lower case.
fn split_scheme(text: &str) -> Result<(String, &str), &'static str> {
    for (at, c) in text.char_indices() {
        match c {
            'a'..='z' | 'A'..='Z' => {}
            '0'..='9' | '+' | '-' | '.' if at > 0 => {}
            ':' if at == 0 => return Err("missing protocol scheme"),
            ':' => return Ok((text[..at].to_ascii_lowercase(), &text[at + 1..])),
            _ => break,
        }
    }
    // No scheme: a path, whose first part must not look like one.
    match text.split('/').next().is_some_and(|first| first.contains(':')) {
        true => Err("first path segment in URL cannot contain colon"),
        false => Ok((String::new(), text)),
    }
}

/// What Go demands of the part after the host, in brackets or not.
fn check_port(authority: &str) -> Result<(), String> {
    let port = match authority.rfind(']') {
        Some(end) => &authority[end + 1..],
        None if authority.starts_with('[') => return Err("missing ']' in host".to_owned()),
        None => match authority.rfind(':') {
            Some(colon) => &authority[colon..],
            None => return Ok(()),
        },
    };
    match port.strip_prefix(':').unwrap_or(port) {
        digits if digits.bytes().all(|b| b.is_ascii_digit()) => Ok(()),
        _ => Err(format!("invalid port {port:?} after host")),
    }
}

/// Go's `SplitHostPort`: one colon, or brackets around the host.
fn split_host_port(authority: &str) -> Option<(&str, &str)> {
    let (host, port) = authority.rsplit_once(':')?;
    match host.strip_prefix('[') {
        Some(host) => host.strip_suffix(']').map(|host| (host, port)),
        None => (!host.contains(':') && !host.contains(']')).then_some((host, port)),
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

/// The texts of a list.
pub(crate) fn texts(urls: &[Url]) -> Vec<String> {
    urls.iter().map(|url| url.text.clone()).collect()
}

/// Whether two lists name the same addresses, by text or after resolution of their hosts.
pub(crate) fn same(one: &[Url], other: &[Url]) -> bool {
    compare(one, other).is_ok()
}

/// The same; the error tells the difference in etcd's words.
pub(super) fn compare(one: &[Url], other: &[Url]) -> Result<(), String> {
    let list = |urls: &[Url]| {
        let quoted: Vec<String> = urls.iter().map(|url| format!("{:?}", url.text)).collect();
        format!("[{}]", quoted.join(" "))
    };
    if one.len() != other.len() {
        return Err(format!("len({}) != len({})", list(one), list(other)));
    }
    let as_written = |url: &Url| url.text.clone();
    if sorted(one, as_written) == sorted(other, as_written) {
        return Ok(());
    }
    let (one, other) = (sorted(one, Url::resolved), sorted(other, Url::resolved));
    let shown = |(resolved, written): &(String, &str)| match *written {
        "" => resolved.clone(),
        written => written.to_owned(),
    };
    match one.iter().zip(&other).find(|(one, other)| one.0 != other.0) {
        Some((one, other)) => Err(format!("resolved urls: {:?} != {:?}", shown(one), shown(other))),
        None => Ok(()),
    }
}

/// What `of` makes of each URL, in order; with it the URL as it was written, where etcd tells it so: it does not
/// resolve `localhost`.
fn sorted(urls: &[Url], of: fn(&Url) -> String) -> Vec<(String, &str)> {
    let mut pairs: Vec<(String, &str)> = urls
        .iter()
        .map(|url| (of(url), if url.host == "localhost" { url.as_str() } else { "" }))
        .collect();
    pairs.sort();
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_urls_give_addresses() {
        for (text, address) in [
            ("http://127.0.0.1:2379", "127.0.0.1:2379"),
            ("HTTPS://localhost:1", "127.0.0.1:1"),
            ("http://[::1]:2379", "[::1]:2379"),
            ("http://0.0.0.0:0", "0.0.0.0:0"),
            ("http://0.0.0.0:", "0.0.0.0:0"),
        ] {
            let urls = parse_list(text).unwrap();
            let expected = Address::Tcp(address.parse().unwrap());
            assert_eq!(urls[0].bind_address().unwrap(), expected);
        }
        for (text, path) in [
            ("unix:///tmp/a.sock", "/tmp/a.sock"),
            ("unixs://etcd.unix:1", "etcd.unix:1"),
            ("unix:/tmp/a", "/tmp/a"),
        ] {
            let url = parse(text).unwrap();
            assert_eq!(url.bind_address().unwrap(), Address::Unix(path.into()));
            assert_eq!(url.is_secure(), text.starts_with("unixs"));
        }
    }

    #[test]
    fn bad_urls_are_refused_in_etcds_words() {
        let cases = [
            ("foo", "URL scheme must be http, https, unix, or unixs: foo"),
            ("", "URL scheme must be http, https, unix, or unixs: "),
            (
                "ftp://a:1",
                "URL scheme must be http, https, unix, or unixs: ftp://a:1",
            ),
            (
                "localhost:1",
                "URL scheme must be http, https, unix, or unixs: localhost:1",
            ),
            (
                "127.0.0.1:1",
                "parse \"127.0.0.1:1\": first path segment in URL cannot contain colon",
            ),
            ("://a:1", "parse \"://a:1\": missing protocol scheme"),
            (
                "http://127.0.0.1",
                "URL address does not have the form \"host:port\": http://127.0.0.1",
            ),
            (
                "http://127.0.0.1:x",
                "parse \"http://127.0.0.1:x\": invalid port \":x\" after host",
            ),
            (
                "http://::1:2379",
                "URL address does not have the form \"host:port\": http://::1:2379",
            ),
            ("http://[::1:1", "parse \"http://[::1:1\": missing ']' in host"),
            (
                "http://127.0.0.1:1/x",
                "URL must not contain a path: http://127.0.0.1:1/x",
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
                "http://127.0.0.1:99999",
                "listen tcp: address 99999: invalid port",
            ),
        ] {
            let error = parse_list(text).unwrap()[0].bind_address().unwrap_err();
            assert_eq!(error.to_string(), message);
        }
    }

    #[test]
    fn lists_are_compared_by_address() {
        let list = |text| parse_list(text).unwrap();
        assert_eq!(
            compare(&list("http://localhost:1"), &list("http://127.0.0.1:1")),
            Ok(())
        );
        assert_eq!(
            compare(
                &list("http://1.1.1.1:1,http://2.2.2.2:2"),
                &list("http://2.2.2.2:2,http://1.1.1.1:1")
            ),
            Ok(())
        );
        assert_eq!(
            compare(&list("http://127.0.0.1:1"), &list("http://127.0.0.1:2")),
            Err("resolved urls: \"http://127.0.0.1:1\" != \"http://127.0.0.1:2\"".to_owned())
        );
    }
}

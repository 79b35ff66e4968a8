//! Who may ask: the hosts that a plaintext port answers to, and the origins that browsers are told of.

use ::http::{HeaderMap, HeaderValue, Request, StatusCode, header};

use super::{Page, plain};
use crate::config::HttpSettings;

/// The host that a request is meant for, without its port.
pub(super) fn host<B>(request: &Request<B>) -> String {
    let authority = request.uri().authority().map(|authority| authority.as_str());
    let named = request.headers().get(header::HOST);
    let host = authority.or_else(|| named.and_then(|host| host.to_str().ok()));
    without_port(host.unwrap_or_default()).to_owned()
}

/// As Go splits them: what has no port, or more than one, is left as it is.
fn without_port(host: &str) -> &str {
    let Some((name, _)) = host.rsplit_once(':') else {
        return host;
    };
    match name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
        Some(inner) if !inner.contains(['[', ']']) => inner,
        None if !name.contains([':', '[', ']']) => name,
        _ => host,
    }
}

/// Whether requests for `host` are answered; a list that is empty or has a star allows all.
pub(super) fn is_host_allowed(settings: &HttpSettings, host: &str) -> bool {
    is_listed(&settings.host_whitelist, host)
}

fn is_listed(list: &[String], name: &str) -> bool {
    list.is_empty() || list.iter().any(|listed| listed == "*" || listed == name)
}

/// The refusal of a host, in etcd's words.
pub(super) fn misdirected(host: &str) -> Page {
    let text = format!(
        "\netcd received your request, but the Host header was unrecognized.\n\n\
         To fix this, choose one of the following options:\n\
         - Enable TLS, then any HTTPS request will be allowed.\n\
         - Add the hostname you want to use to the whitelist in settings.\n  \
         - e.g. etcd --host-whitelist {host:?}\n\n\
         This requirement has been added to help prevent \"DNS Rebinding\" attacks (CVE-2018-5702).\n\n"
    );
    plain(StatusCode::MISDIRECTED_REQUEST, text)
}

/// What a browser may be told about the origin of a request.
pub(super) fn allowed_origin(settings: &HttpSettings, headers: &HeaderMap) -> Option<HeaderValue> {
    if is_listed(&settings.cors, "*") {
        return Some(HeaderValue::from_static("*"));
    }
    let origin = headers.get(header::ORIGIN)?;
    let is_allowed = origin
        .to_str()
        .is_ok_and(|origin| is_listed(&settings.cors, origin));
    is_allowed.then(|| origin.clone())
}

pub(super) fn add_cors(headers: &mut HeaderMap, origin: HeaderValue) {
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static("POST, GET, OPTIONS, PUT, DELETE"),
    );
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static("accept, content-type, authorization"),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(cors: &[&str], hosts: &[&str]) -> HttpSettings {
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        HttpSettings {
            gateway: true,
            pprof: false,
            debug: false,
            cors: list(cors),
            host_whitelist: list(hosts),
        }
    }

    #[test]
    fn hosts_lose_their_port_as_in_go() {
        for (given, host) in [
            ("localhost", "localhost"),
            ("localhost:2379", "localhost"),
            ("localhost.:2379", "localhost."),
            ("1.2.3.4:2379", "1.2.3.4"),
            ("localhost:::::", "localhost:::::"),
            ("[::1]:2379", "::1"),
            ("::1", "::1"),
            ("", ""),
        ] {
            assert_eq!(without_port(given), host, "{given}");
        }
    }

    #[test]
    fn only_listed_hosts_are_allowed() {
        for (hosts, host, allowed) in [
            (&["*"][..], "evil.example", true),
            (&[], "evil.example", true),
            (&["a.example", "localhost"], "localhost", true),
            (&["a.example"], "localhost", false),
            (&["a.example"], "127.0.0.1", false),
        ] {
            assert_eq!(is_host_allowed(&settings(&[], hosts), host), allowed, "{host}");
        }
    }

    #[test]
    fn origins_are_told_what_they_may() {
        let asked = |origin: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
            }
            headers
        };
        let allowed = |cors: &[&str], origin| {
            allowed_origin(&settings(cors, &[]), &asked(origin))
                .map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(allowed(&["*"], None).as_deref(), Some("*"));
        assert_eq!(allowed(&["*"], Some("http://a:1")).as_deref(), Some("*"));
        assert_eq!(
            allowed(&["http://a:1"], Some("http://a:1")).as_deref(),
            Some("http://a:1")
        );
        assert_eq!(allowed(&["http://a:1"], Some("http://b:1")), None);
        assert_eq!(allowed(&["http://a:1"], None), None);
    }
}

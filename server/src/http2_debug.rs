//! `GODEBUG=http2debug=1` or `2`: the headers of every HTTP/2 request on the standard error, in the lines that Go's
//! servers write for it, since tests and people look for those. Credentials are left out.

use std::sync::LazyLock;

use http::{HeaderValue, Request, Version};

/// Whether the environment asks for it.
pub(crate) fn is_on() -> bool {
    static ON: LazyLock<bool> = LazyLock::new(|| is_asked(&std::env::var("GODEBUG").unwrap_or_default()));
    *ON
}

fn is_asked(settings: &str) -> bool {
    let mut settings = settings.split(',').filter_map(|setting| setting.split_once('='));
    settings.any(|(name, level)| name.trim() == "http2debug" && matches!(level, "1" | "2"))
}

/// Writes the lines about one request.
pub(crate) fn tell<B>(request: &Request<B>) {
    if request.version() == Version::HTTP_2 {
        eprint!("{}", lines(request));
    }
}

fn lines<B>(request: &Request<B>) -> String {
    let uri = request.uri();
    let mut lines = String::new();
    let mut line = |name: &str, value: &str| {
        lines.push_str(&format!(
            "http2: decoded hpack field header field {name:?} = {value:?}\n"
        ));
    };
    line(":method", request.method().as_str());
    line(":scheme", uri.scheme_str().unwrap_or("http"));
    line(":path", uri.path_and_query().map_or("/", |path| path.as_str()));
    line(
        ":authority",
        uri.authority().map_or("", |authority| authority.as_str()),
    );
    for (name, value) in request.headers() {
        let secret = matches!(name.as_str(), "token" | "authorization" | "cookie");
        let value: &str = if secret { "(left out)" } else { text(value) };
        line(name.as_str(), value);
    }
    lines
}

fn text(value: &HeaderValue) -> &str {
    value.to_str().unwrap_or("(not text)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_asked_for_as_in_go() {
        for (settings, asked) in [
            ("http2debug=2", true),
            ("madvdontneed=1,http2debug=1", true),
            ("http2debug=0", false),
            ("http2debug", false),
            ("", false),
        ] {
            assert_eq!(is_asked(settings), asked, "{settings}");
        }
    }

    #[test]
    fn headers_are_shown_and_secrets_are_not() {
        let request = Request::post("http://localhost:2379/etcdserverpb.KV/Put")
            .version(Version::HTTP_2)
            .header("token", "secret")
            .header("te", "trailers")
            .body(())
            .unwrap();
        let lines = lines(&request);
        let authority = "http2: decoded hpack field header field \":authority\" = \"localhost:2379\"\n";
        assert!(
            lines.contains(authority) && lines.contains("\"te\" = \"trailers\""),
            "{lines}"
        );
        assert!(!lines.contains("secret"), "{lines}");
    }
}

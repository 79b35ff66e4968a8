//! Paths and queries as Go's server reads them: decoded, then cleaned of what stands twice or leads back.

use std::borrow::Cow;

/// A path without its percent signs; what decodes to no text is left as it is, and then leads nowhere.
pub(super) fn decoded(path: &str) -> String {
    unescape(path, false).into_owned()
}

/// A name or value of a query, where a plus is a space.
pub(super) fn decoded_query(text: &str) -> Cow<'_, str> {
    unescape(text, true)
}

fn unescape(text: &str, plus_is_space: bool) -> Cow<'_, str> {
    let is_plain = !text.contains('%') && (!plus_is_space || !text.contains('+'));
    if is_plain {
        return Cow::Borrowed(text);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        match (byte, behind) {
            (b'%', [high, low, after @ ..]) => {
                let (Some(high), Some(low)) = (hex(*high), hex(*low)) else {
                    return Cow::Borrowed(text);
                };
                bytes.push(high << 4 | low);
                rest = after;
            }
            (b'%', _) => return Cow::Borrowed(text),
            (b'+', _) if plus_is_space => bytes.push(b' '),
            _ => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).map_or(Cow::Borrowed(text), Cow::Owned)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

/// The shortest path of the same meaning; a slash at the end stays.
pub(super) fn cleaned(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let mut clean = format!("/{}", parts.join("/"));
    if !parts.is_empty() && path.ends_with('/') {
        clean.push('/');
    }
    clean
}

/// A path as it may stand in a header and in HTML.
pub(super) fn encoded(path: &str) -> String {
    let mut encoded = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => encoded.push(char::from(byte)),
            b'/' | b'-' | b'_' | b'.' | b'~' | b':' | b'@' | b'=' | b'+' | b'$' | b',' => {
                encoded.push(char::from(byte));
            }
            _ => encoded += &format!("%{byte:02X}"),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_decoded_and_encoded() {
        for (given, plain) in [
            ("/health", "/health"),
            ("/%68ealth%2f", "/health/"),
            ("/a+b", "/a+b"),
            ("/%zz", "/%zz"),
            ("/%4", "/%4"),
            ("/%ff", "/%ff"),
        ] {
            assert_eq!(decoded(given), plain);
        }
        assert_eq!(decoded_query("a+b%2b"), "a b+");
        assert_eq!(encoded("/a b<\"'\u{e4}\r\n"), "/a%20b%3C%22%27%C3%A4%0D%0A");
    }

    #[test]
    fn paths_are_cleaned_as_gos() {
        for (given, clean) in [
            ("/", "/"),
            ("//", "/"),
            ("//health", "/health"),
            ("/v3//kv/./range", "/v3/kv/range"),
            ("/a/../b/", "/b/"),
            ("/../..", "/"),
            ("/health", "/health"),
            ("", "/"),
            ("*", "/*"),
        ] {
            assert_eq!(cleaned(given), clean, "{given}");
        }
    }
}

//! What names, keys and values of labels may look like, and the words of a real API server where they do not. Each check
//! gives all that is wrong; nothing means that it is right.

/// The longest name of an object and the longest domain in the key of a label.
const SUBDOMAIN_BYTES_MAX: usize = 253;
/// The longest label of a domain, key of a label without its domain, and value of a label.
const LABEL_BYTES_MAX: usize = 63;

const LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const KEY: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";

/// A DNS subdomain, as most names of objects are.
#[must_use]
pub fn subdomain(text: &str) -> Vec<String> {
    let mut wrong = too_long(text, SUBDOMAIN_BYTES_MAX, "characters");
    if !text.split('.').all(is_label) {
        let expected = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and \
                        must start and end with an alphanumeric character";
        wrong.push(like(expected, &format!("{LABEL}(\\.{LABEL})*"), &["example.com"]));
    }
    wrong
}

/// One label of a domain, as the names of namespaces are.
#[must_use]
pub fn label(text: &str) -> Vec<String> {
    let mut wrong = too_long(text, LABEL_BYTES_MAX, "characters");
    if !is_label(text) {
        if !subdomain(text).is_empty() || !text.contains('.') {
            let expected = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must \
                            start and end with an alphanumeric character";
            wrong.push(like(expected, LABEL, &["my-name", "123-abc"]));
        } else {
            wrong.push("must not contain dots".to_owned());
        }
    }
    wrong
}

/// A label that begins with a letter, as the names of services are.
#[must_use]
pub fn label_1035(text: &str) -> Vec<String> {
    let mut wrong = too_long(text, LABEL_BYTES_MAX, "characters");
    if !is_label(text) || !text.starts_with(|first: char| first.is_ascii_lowercase()) {
        let expected = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an \
                        alphabetic character, and end with an alphanumeric character";
        wrong.push(like(
            expected,
            "[a-z]([-a-z0-9]*[a-z0-9])?",
            &["my-name", "abc-123"],
        ));
    }
    wrong
}

/// Whatever can be a part of a path, as the names of roles are.
#[must_use]
pub fn path_segment(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if matches!(text, "." | "..") {
        wrong.push(format!("may not be '{text}'"));
        return wrong;
    }
    for character in ['/', '%'] {
        if text.contains(character) {
            wrong.push(format!("may not contain '{character}'"));
        }
    }
    wrong
}

/// The key of a label or an annotation, or a finalizer: a name, maybe with a domain and a slash before it.
#[must_use]
pub fn qualified(text: &str) -> Vec<String> {
    let expected = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric \
                    character";
    let examples = &["MyName", "my.name", "123-abc"];
    let mut wrong = Vec::new();
    let name = match text.split('/').collect::<Vec<_>>().as_slice() {
        [name] => *name,
        [domain, name] => {
            if domain.is_empty() {
                wrong.push("prefix part must be non-empty".to_owned());
            } else {
                wrong.extend(
                    subdomain(domain)
                        .into_iter()
                        .map(|told| format!("prefix part {told}")),
                );
            }
            *name
        }
        _ => {
            let told = like(expected, KEY, examples);
            wrong.push(format!(
                "a valid label key {told} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            ));
            return wrong;
        }
    };
    if name.is_empty() {
        wrong.push("name part must be non-empty".to_owned());
    } else if name.len() > LABEL_BYTES_MAX {
        wrong.push(format!("name part must be no more than {LABEL_BYTES_MAX} bytes"));
    }
    if !is_key(name) {
        wrong.push(format!("name part {}", like(expected, KEY, examples)));
    }
    wrong
}

/// The value of a label.
#[must_use]
pub fn label_value(text: &str) -> Vec<String> {
    let mut wrong = too_long(text, LABEL_BYTES_MAX, "bytes");
    if !text.is_empty() && !is_key(text) {
        let expected = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and \
                        must start and end with an alphanumeric character";
        wrong.push(like(
            expected,
            &format!("({KEY})?"),
            &["MyValue", "my_value", "12345"],
        ));
    }
    wrong
}

/// The key of an entry of a config map or a secret.
#[must_use]
pub fn config_key(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if text.len() > SUBDOMAIN_BYTES_MAX {
        wrong.push(format!("must be no more than {SUBDOMAIN_BYTES_MAX} characters"));
    }
    let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if text.is_empty() || !text.bytes().all(is_fit) {
        let expected = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'";
        wrong.push(like(
            expected,
            "[-._a-zA-Z0-9]+",
            &["key.name", "KEY_NAME", "key-name"],
        ));
    }
    match text {
        "." => wrong.push("must not be '.'".to_owned()),
        ".." => wrong.push("must not be '..'".to_owned()),
        _ if text.starts_with("..") => wrong.push("must not start with '..'".to_owned()),
        _ => {}
    }
    wrong
}

/// The name of a port.
#[must_use]
pub fn port_name(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if text.len() > 15 {
        wrong.push("must be no more than 15 characters".to_owned());
    }
    if !text
        .bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    {
        wrong.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !text.bytes().any(|byte| byte.is_ascii_lowercase()) {
        wrong.push("must contain at least one letter (a-z)".to_owned());
    }
    if text.contains("--") {
        wrong.push("must not contain consecutive hyphens".to_owned());
    }
    if text.starts_with('-') || text.ends_with('-') {
        wrong.push("must not begin or end with a hyphen".to_owned());
    }
    wrong
}

/// The name of an environment variable: anything printable but `=`.
#[must_use]
pub fn environment(text: &str) -> Vec<String> {
    if text.is_empty() {
        return vec!["environment variable name must be non-empty".to_owned()];
    }
    let is_fit = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b'=';
    if text.bytes().all(is_fit) {
        return Vec::new();
    }
    vec![
        "a valid environment variable name must consist only of printable ASCII characters other than '='"
            .to_owned(),
    ]
}

fn is_label(text: &str) -> bool {
    let is_edge =
        |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let bytes = text.as_bytes();
    let is_fit = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
    is_edge(bytes.first()) && is_edge(bytes.last()) && bytes.iter().all(is_fit)
}

fn is_key(text: &str) -> bool {
    let bytes = text.as_bytes();
    let is_edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let is_fit = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    is_edge(bytes.first()) && is_edge(bytes.last()) && bytes.iter().all(is_fit)
}

/// A real server counts the bytes of both and tells of characters in some places.
fn too_long(text: &str, bytes_max: usize, counted: &str) -> Vec<String> {
    match text.len() > bytes_max {
        true => vec![format!("must be no more than {bytes_max} {counted}")],
        false => Vec::new(),
    }
}

/// `expected (e.g. 'a',  or 'b', regex used for validation is 'pattern')`, with the two blanks of the original.
fn like(expected: &str, pattern: &str, examples: &[&str]) -> String {
    let mut told = format!("{expected} (e.g. ");
    for (index, example) in examples.iter().enumerate() {
        if index > 0 {
            told.push_str(" or ");
        }
        told.push_str(&format!("'{example}', "));
    }
    told.push_str(&format!("regex used for validation is '{pattern}')"));
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_right_or_not() {
        for (check, right, wrong) in [
            (
                subdomain as fn(&str) -> Vec<String>,
                &["a", "a.b", "a-1.b", "0"][..],
                &["", "A", "a_b", ".a", "a..b", "-a", "a-", "a/b"][..],
            ),
            (label, &["a", "1-2"], &["", "a.b", "A", "-a"]),
            (label_1035, &["a", "a-1"], &["", "1a", "a.b"]),
            (path_segment, &["a:b", "System:Node"], &[".", "..", "a/b", "a%b"]),
            (
                qualified,
                &["a", "A_b.c", "x.io/a"],
                &["", "/a", "x.io/", "a/b/c", "X.io/a", "-a", "é"],
            ),
            (label_value, &["", "a", "A_b.c-d"], &["-", "a b", "a/b", "é"]),
            (
                config_key,
                &["a", "A.b_c", ".hidden"],
                &["", ".", "..", "..a", "a b"],
            ),
            (
                port_name,
                &["http", "p-1"],
                &["1", "a--b", "-a", "A", "a234567890123456"],
            ),
            (environment, &["A", "a b"], &["", "a=b", "é"]),
        ] {
            for text in right {
                assert_eq!(check(text), Vec::<String>::new(), "{text}");
            }
            for text in wrong {
                assert!(!check(text).is_empty(), "{text}");
            }
        }
        assert_eq!(
            subdomain(&"a".repeat(254)),
            ["must be no more than 253 characters"]
        );
        assert_eq!(label_value(&"a".repeat(64)), ["must be no more than 63 bytes"]);
        assert_eq!(label("a.b"), ["must not contain dots"]);
    }

    #[test]
    fn words_are_those_of_a_real_server() {
        assert_eq!(
            subdomain("BAD_"),
            [
                "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must \
                 start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
                 '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
            ]
        );
        assert_eq!(
            label("A"),
            [
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and \
                 end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
                 '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
            ]
        );
    }
}

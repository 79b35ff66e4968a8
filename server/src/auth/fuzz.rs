//! Tokens, for fuzzing.

use std::sync::LazyLock;

use super::jwt::Jwt;
use super::simple;

/// Nobody makes a token without the key, and a simple token is what its parts say.
pub(crate) fn one_input(data: &[u8]) {
    static KEYS: LazyLock<Jwt> =
        LazyLock::new(|| match Jwt::new("HS256", b"a key that nobody has", b"", 300) {
            Some(Ok(keys)) => keys,
            _ => unreachable!("any bytes are a key"),
        });
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Some(index) = simple::index_of(text) {
        let prefix = text.split('.').next().unwrap_or_default();
        assert_eq!(simple::index_of(&simple::token(prefix, index)), Some(index));
    }
    assert!(KEYS.bearer(text).is_none(), "signed without the key: {text}");
    let issued = KEYS.issue(text, 7).expect("a key signs");
    let bearer = KEYS.bearer(&issued).expect("it is as it was issued");
    assert_eq!((&*bearer.user, bearer.revision), (text, 7));
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    [
        "abcdefghijklmnop.17",
        "a.+1",
        "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJleHAiOjk5OTk5OTk5OTksInJldmlzaW9uIjoxLCJ1c2VybmFtZSI6InIifQ.AAAA",
        "eyJhbGciOiJub25lIn0.e30.",
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect()
}

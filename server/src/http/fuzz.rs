//! Paths, queries and hosts, for fuzzing.

use http::{HeaderValue, Request};

use super::{access, path};

pub(crate) fn one_input(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        let clean = path::cleaned(&path::decoded(text));
        assert_eq!(path::cleaned(&clean), clean, "clean is clean");
        assert!(
            clean.starts_with('/') && !clean.split('/').any(|part| part == ".."),
            "{clean}"
        );
        assert_eq!(
            path::decoded(&path::encoded(text)),
            text,
            "what is encoded is decoded"
        );
        let _ = path::decoded_query(text);
    }
    let mut request = Request::new(());
    if let Ok(host) = HeaderValue::from_bytes(data) {
        request.headers_mut().insert(http::header::HOST, host);
    }
    let host = access::host(&request);
    let _ = access::misdirected(&host);
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        "/v3//kv/./range/../put/",
        "/%68ealth%2f..%2F",
        "a+b%2b&c=%zz",
        "[::1]:2379",
        "host:1:2",
        "/ä%ff",
    ];
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

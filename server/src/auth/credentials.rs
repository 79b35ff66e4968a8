//! What a request brings to say who calls.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Request};

use crate::listen::PeerIdentity;

/// The token of a request, and the name of the connection that it came over. Cheap to clone: a stream keeps them, since
/// who it is is found out with each of its messages.
#[derive(Clone, Default)]
pub(crate) struct Credentials {
    token: Option<HeaderValue>,
    peer: Option<Arc<PeerIdentity>>,
}

impl Credentials {
    pub(crate) fn of<B>(request: &Request<B>) -> Credentials {
        Credentials {
            token: header(request.headers()).cloned(),
            peer: request.extensions().get::<Arc<PeerIdentity>>().cloned(),
        }
    }

    /// The token, if one was sent; nothing in it if what was sent is no text.
    #[expect(clippy::option_option, reason = "no token is another matter than a bad one")]
    pub(super) fn token(&self) -> Option<Option<&str>> {
        let token = self.token.as_ref()?.to_str().ok();
        Some(token.map(|token| token.strip_prefix("Bearer ").unwrap_or(token)))
    }

    /// The name in the certificate that the connection was made with.
    pub(super) fn common_name(&self) -> Option<&Arc<str>> {
        self.peer.as_ref()?.common_name.as_ref()
    }
}

fn header(headers: &HeaderMap) -> Option<&HeaderValue> {
    headers
        .get("token")
        .or_else(|| headers.get(http::header::AUTHORIZATION))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_found_where_clients_put_them() {
        let token = |headers: &[(&'static str, &'static str)]| {
            let mut request = Request::new(());
            for &(name, value) in headers {
                request
                    .headers_mut()
                    .append(name, HeaderValue::from_static(value));
            }
            Credentials::of(&request)
                .token()
                .map(|token| token.map(str::to_owned))
        };
        let text = |text: &str| Some(Some(text.to_owned()));
        assert_eq!(token(&[]), None);
        assert_eq!(token(&[("token", "a.1")]), text("a.1"));
        assert_eq!(token(&[("authorization", "b.2")]), text("b.2"));
        assert_eq!(token(&[("authorization", "Bearer b.2")]), text("b.2"));
        assert_eq!(token(&[("token", "Bearer a.1")]), text("a.1"));
        assert_eq!(token(&[("authorization", "bearer b.2")]), text("bearer b.2"));
        assert_eq!(
            token(&[("authorization", "b.2"), ("token", "a.1"), ("token", "c.3")]),
            text("a.1")
        );
        assert_eq!(token(&[("token", ""), ("authorization", "b.2")]), text(""));
        let mut request = Request::new(());
        let no_text = HeaderValue::from_bytes("\u{e4}".as_bytes()).unwrap();
        request.headers_mut().insert("token", no_text);
        assert_eq!(Credentials::of(&request).token(), Some(None));
    }
}

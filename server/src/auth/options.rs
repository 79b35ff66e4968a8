//! The flag `--auth-token`: the kind of tokens and its options, `kind,name=value,name=value`.

use std::fmt;
use std::fs;
use std::sync::Arc;

use super::jwt::{Jwt, KeyError};
use crate::config::duration;

/// The tokens that users log in for.
#[derive(Clone)]
pub(crate) enum TokenKind {
    /// None: nobody can log in by a password.
    Nothing,
    /// Names that the members remember.
    Simple,
    /// Names with a signature.
    Jwt(Arc<Jwt>),
}

/// Why the flag makes no sense, in etcd's words.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum TokenError {
    /// What exactly was wrong is told beside it, in the log.
    #[error("auth: invalid auth options")]
    Options(String),
    /// etcd's words name a type of its language.
    #[error("unsupported signing method: *jwt.signingMethodNone")]
    Unsigned,
    #[error(transparent)]
    Key(#[from] KeyError),
}

impl TokenKind {
    /// Reads the flag, and the files that it names.
    pub(crate) fn read(text: &str) -> Result<TokenKind, TokenError> {
        let mut parts = text.split(',');
        let kind = parts.next().unwrap_or_default();
        let mut options: Vec<(&str, &str)> = Vec::new();
        for part in parts {
            let Some((name, value)) = part.split_once('=').filter(|(_, value)| !value.contains('=')) else {
                return Err(TokenError::Options(format!("{part:?} is no option")));
            };
            if options.iter().any(|(known, _)| *known == name) {
                return Err(TokenError::Options(format!("{name} is given twice")));
            }
            options.push((name, value));
        }
        match kind {
            "" => Ok(TokenKind::Nothing),
            "simple" => Ok(TokenKind::Simple),
            "jwt" => Ok(TokenKind::Jwt(Arc::new(signed(&options)?))),
            other => Err(TokenError::Options(format!("unknown token type {other:?}"))),
        }
    }
}

impl fmt::Debug for TokenKind {
    /// Never the keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TokenKind::Nothing => "Nothing",
            TokenKind::Simple => "Simple",
            TokenKind::Jwt(_) => "Jwt",
        })
    }
}

fn signed(options: &[(&str, &str)]) -> Result<Jwt, TokenError> {
    let find = |wanted: &str| {
        let found = options.iter().find(|(name, _)| *name == wanted);
        found.map_or("", |(_, value)| *value)
    };
    let ttl_s = match find("ttl") {
        "" => TTL_S,
        text => duration::parse_nanos(text)
            .map_err(|error| TokenError::Options(format!("ttl: {error}")))?
            .div_euclid(NANOS),
    };
    let file = |name| match find(name) {
        "" => Ok(Vec::new()),
        path => fs::read(path).map_err(|error| TokenError::Options(format!("{name}: {path}: {error}"))),
    };
    let (public, private) = (file("pub-key")?, file("priv-key")?);
    match find("sign-method") {
        "none" => Err(TokenError::Unsigned),
        method => match Jwt::new(method, &private, &public, ttl_s) {
            None => Err(TokenError::Options(format!("no sign-method {method:?}"))),
            Some(read) => Ok(read?),
        },
    }
}

/// How long signed tokens are good unless it is said.
const TTL_S: i64 = 300;
const NANOS: i64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn testdata(name: &str) -> String {
        format!("{}/testdata/jwt/{name}", env!("CARGO_MANIFEST_DIR"))
    }

    #[test]
    fn good_flags_are_read() {
        let read = |text: &str| format!("{:?}", TokenKind::read(text).unwrap());
        assert_eq!(read(""), "Nothing");
        assert_eq!(read("simple"), "Simple");
        assert_eq!(read("simple,what=ever"), "Simple");
        let (private, public) = (testdata("rsa.pem"), testdata("rsa.pub"));
        assert_eq!(
            read(&format!(
                "jwt,pub-key={public},priv-key={private},sign-method=RS256,ttl=10m"
            )),
            "Jwt"
        );
        assert_eq!(
            read(&format!("jwt,sign-method=PS512,pub-key={public},other=1")),
            "Jwt"
        );
    }

    #[test]
    fn bad_flags_are_refused_in_etcds_words() {
        let invalid = "auth: invalid auth options";
        let (private, public) = (testdata("rsa.pem"), testdata("rsa.pub"));
        for (text, message) in [
            ("other".to_owned(), invalid),
            ("jwt".to_owned(), invalid),
            ("simple,x".to_owned(), invalid),
            ("jwt,ttl=1s,ttl=2s".to_owned(), invalid),
            ("jwt,sign-method=RS256=".to_owned(), invalid),
            (format!("jwt,priv-key={private}"), invalid),
            (format!("jwt,priv-key={private},sign-method=XX256"), invalid),
            (format!("jwt,priv-key={private},sign-method=RS256,ttl=5"), invalid),
            ("jwt,priv-key=/no/such/file,sign-method=RS256".to_owned(), invalid),
            ("jwt,sign-method=RS256".to_owned(), "auth: missing key data"),
            (
                "jwt,sign-method=none".to_owned(),
                "unsupported signing method: *jwt.signingMethodNone",
            ),
            (
                format!("jwt,pub-key={public},sign-method=HS256"),
                "auth: missing key data",
            ),
        ] {
            let error = TokenKind::read(&text).expect_err(&text);
            assert_eq!(error.to_string(), message, "{text}");
        }
    }
}

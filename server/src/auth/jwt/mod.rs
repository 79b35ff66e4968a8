//! Signed tokens: whoever has the public key can tell whose they are, and nobody keeps any.
//!
//! A token is `header.claims.signature`, each in base64 without padding. Its claims are the user's name, the revision
//! of the auth state under which it was issued, and when it expires. Any change of users and roles outdates it, which
//! the store judges; here only signature and time are.
//!
//! Checking a signature costs more than all else that a request does, so tokens that were found good are remembered by
//! their digest until they expire, in two generations of at most [`REMEMBERED_MAX`]: when the younger is full, the older
//! goes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::RwLock;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

pub(crate) use self::keys::KeyError;
use self::keys::{Key, Method};

mod keys;
#[cfg(test)]
mod tests;

/// What signed tokens are made with.
pub(crate) struct Jwt {
    method: Method,
    key: Key,
    /// From its issue to a token's end; if it is negative no token is ever good.
    ttl_s: i64,
    remembered: RwLock<Remembered>,
}

/// Whom a token names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Bearer {
    pub(crate) user: Arc<str>,
    /// Of the auth state when the token was issued.
    pub(crate) revision: u64,
    /// In seconds since 1970; a token that says nothing about it is good for ever.
    expires_s: Option<i64>,
}

/// Why a token was not issued.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum SignError {
    #[error("auth: token signing attempted with verify-only key")]
    VerifyOnly,
    #[error("auth: the token could not be signed")]
    Failed,
}

/// The digest of a whole token.
type TokenDigest = [u8; 32];

/// Good tokens seen lately.
#[derive(Default)]
struct Remembered {
    young: HashMap<TokenDigest, Bearer>,
    old: HashMap<TokenDigest, Bearer>,
}

impl Jwt {
    /// Reads the key of the method called `method`; nothing where no method is called that.
    pub(crate) fn new(
        method: &str,
        private: &[u8],
        public: &[u8],
        ttl_s: i64,
    ) -> Option<Result<Jwt, KeyError>> {
        let method = Method::of_name(method)?;
        Some(Key::read(method, private, public).map(|key| Jwt {
            method,
            key,
            ttl_s,
            remembered: RwLock::default(),
        }))
    }

    /// A token for `user` under the auth state of `revision`.
    pub(crate) fn issue(&self, user: &str, revision: u64) -> Result<String, SignError> {
        if self.key.only_verifies() {
            return Err(SignError::VerifyOnly);
        }
        self.signed(user, revision, now_s().saturating_add(self.ttl_s))
    }

    fn signed(&self, user: &str, revision: u64, expires_s: i64) -> Result<String, SignError> {
        let header = serde_json::json!({ "alg": self.method.name(), "typ": "JWT" });
        let claims = serde_json::json!({ "exp": expires_s, "revision": revision, "username": user });
        let mut token = URL_SAFE_NO_PAD.encode(header.to_string());
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(claims.to_string(), &mut token);
        let signature = self.key.sign(token.as_bytes()).ok_or(SignError::Failed)?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(token)
    }

    /// Whom `token` names, if it is good now.
    pub(crate) fn bearer(&self, token: &str) -> Option<Bearer> {
        let now_s = now_s();
        let digest: TokenDigest = Sha256::digest(token).into();
        let known = self.remembered.read().find(&digest).cloned();
        let bearer = match known {
            Some(bearer) => bearer,
            None => {
                let bearer = self.verified(token, now_s)?;
                self.remembered.write().keep(digest, bearer.clone());
                bearer
            }
        };
        bearer.expires_s.is_none_or(|end| now_s < end).then_some(bearer)
    }

    /// Whom a token names that is signed by our key and begins before now.
    fn verified(&self, token: &str, now_s: i64) -> Option<Bearer> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let header = object(header)?;
        if header.get("alg")?.as_str()? != self.method.name() {
            return None;
        }
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        if !self.key.verifies(signed.as_bytes(), &signature) {
            return None;
        }
        let claims = object(claims)?;
        let begins_s = date(claims.get("nbf"))?;
        if begins_s.is_some_and(|begin| now_s < begin) {
            return None;
        }
        let revision = claims.get("revision")?.as_f64()?;
        Some(Bearer {
            user: claims.get("username")?.as_str()?.into(),
            // Go's conversion too cuts what is no whole number.
            revision: revision as u64,
            expires_s: date(claims.get("exp"))?,
        })
    }
}

impl Remembered {
    fn find(&self, digest: &TokenDigest) -> Option<&Bearer> {
        self.young.get(digest).or_else(|| self.old.get(digest))
    }

    fn keep(&mut self, digest: TokenDigest, bearer: Bearer) {
        if self.young.len() >= REMEMBERED_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(digest, bearer);
    }
}

fn object(part: &str) -> Option<Map<String, Value>> {
    let text = URL_SAFE_NO_PAD.decode(part).ok()?;
    serde_json::from_slice(&text).ok()
}

/// A date among the claims in whole seconds: `Some(None)` where there is none, nor where it is 0, as in etcd.
#[expect(
    clippy::option_option,
    reason = "what is missing is no error, what is no date is"
)]
fn date(claim: Option<&Value>) -> Option<Option<i64>> {
    let Some(claim) = claim else {
        return Some(None);
    };
    let seconds = claim.as_f64()?;
    Some((seconds != 0.0).then_some(seconds.floor() as i64))
}

fn now_s() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Tokens remembered in one generation: one each for more users than log in to a store of configurations.
const REMEMBERED_MAX: usize = 4096;

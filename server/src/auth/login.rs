//! A name and a password for a token.
//!
//! The password is checked against the user as this member knows it after it has heard the leader; then the login goes
//! through the log, so that every member learns of the token. Should the user have another password by then, all of
//! it begins again.

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proto::etcdserverpb::{
    AuthUserAddRequest, AuthUserChangePasswordRequest, AuthenticateRequest, AuthenticateResponse,
};
use store::Store;
use store::apply::{Authenticated, Request};
use store::error::{AuthError, Error};

use super::jwt::SignError;
use super::passwords::PasswordError;
use super::simple::{self, NoEntropy};
use super::{Auth, TokenKind};

/// Why there is no token, or no hash.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoginError {
    #[error(transparent)]
    Store(#[from] Error),
    #[error(transparent)]
    Password(#[from] PasswordError),
    #[error(transparent)]
    Sign(#[from] SignError),
    #[error(transparent)]
    NoEntropy(#[from] NoEntropy),
}

impl From<AuthError> for LoginError {
    fn from(error: AuthError) -> Self {
        LoginError::Store(error.into())
    }
}

impl Auth {
    /// Gives a token to whoever knows a user's password. The handle of the store is this process's own.
    pub(crate) async fn log_in(
        &self,
        store: &Store,
        address: Option<IpAddr>,
        request: AuthenticateRequest,
    ) -> Result<AuthenticateResponse, LoginError> {
        let AuthenticateRequest { name, password } = request;
        store.auth_barrier().await?;
        for _ in 0..ROUNDS_MAX {
            let hash = self.checked(store, address, &name, &password).await?;
            let prefix = match self.kind {
                TokenKind::Simple => simple::prefix()?,
                TokenKind::Jwt(_) => String::new(),
                TokenKind::Nothing => return Err(AuthError::AuthFailed.into()),
            };
            let done = store.authenticate(&name, &prefix).await?;
            // Applied here by now, as is every change before it.
            let present = store.auth_view();
            if present.user(&name).is_some_and(|user| user.hash() == hash) {
                return self.token(&name, &prefix, done).await;
            }
            tracing::info!("revision when password checked became stale; retrying");
        }
        Err(AuthError::AuthFailed.into())
    }

    /// The hash that the password was found to match.
    async fn checked(
        &self,
        store: &Store,
        address: Option<IpAddr>,
        name: &str,
        password: &str,
    ) -> Result<Vec<u8>, LoginError> {
        let view = store.auth_view();
        if !view.enabled() {
            return Err(AuthError::AuthNotEnabled.into());
        }
        let user = view.user(name);
        if user.is_some_and(store::auth::User::no_password) {
            tell_refused(name);
            return Err(AuthError::NoPasswordUser.into());
        }
        let hash = user.map(|user| user.hash().to_vec());
        let matches = self.passwords.matches(address, password.to_owned(), hash.clone());
        match (matches.await?, hash) {
            (true, Some(hash)) => Ok(hash),
            _ => {
                tell_refused(name);
                Err(AuthError::AuthFailed.into())
            }
        }
    }

    async fn token(
        &self,
        name: &str,
        prefix: &str,
        done: Authenticated,
    ) -> Result<AuthenticateResponse, LoginError> {
        let token = match &self.kind {
            TokenKind::Jwt(jwt) => {
                let (jwt, name) = (jwt.clone(), name.to_owned());
                let signing = move || jwt.issue(&name, done.revision);
                self.passwords.run(signing).await??
            }
            _ => simple::token(prefix, done.index),
        };
        Ok(AuthenticateResponse {
            header: done.header,
            token,
        })
    }

    /// Replaces the password of a new user by its hash. `store` is the handle of the caller.
    pub(crate) async fn hash_new(
        &self,
        store: &Store,
        address: Option<IpAddr>,
        request: &mut AuthUserAddRequest,
    ) -> Result<(), LoginError> {
        let password = std::mem::take(&mut request.password);
        if request.options.is_none_or(|options| !options.no_password) {
            request.hashed_password = self.hashed(store, address, password).await?;
        }
        Ok(())
    }

    /// The same for a user's next password; an empty one is none.
    pub(crate) async fn hash_next(
        &self,
        store: &Store,
        address: Option<IpAddr>,
        request: &mut AuthUserChangePasswordRequest,
    ) -> Result<(), LoginError> {
        let password = std::mem::take(&mut request.password);
        if !password.is_empty() {
            request.hashed_password = self.hashed(store, address, password).await?;
        }
        Ok(())
    }

    /// Whoever may not do it anyway does not have a password hashed first. This member may know the caller's rights too
    /// late, so it is a refusal only after it has heard the leader.
    async fn hashed(
        &self,
        store: &Store,
        address: Option<IpAddr>,
        password: String,
    ) -> Result<String, LoginError> {
        if store.permit(Request::AuthChange).is_err() {
            store.auth_barrier().await?;
            store.permit(Request::AuthChange)?;
        }
        let hash = self.passwords.hash(address, password).await?;
        Ok(STANDARD.encode(hash))
    }
}

fn tell_refused(user: &str) {
    tracing::warn!(user, "invalid authentication was requested");
}

/// How often a password is checked anew because it was changed meanwhile.
const ROUNDS_MAX: u32 = 8;

//! Who a caller is: passwords, tokens and the names in certificates. What a caller may do is the store's to judge.
//!
//! | file | what |
//! | --- | --- |
//! | `credentials` | what a request brings to say who calls |
//! | `login` | a name and a password for a token |
//! | `options` | the flag `--auth-token` |
//! | `simple` | tokens that the members remember |
//! | `jwt` | tokens that are signed |
//! | `passwords` | hashing and checking, on threads of their own |
//! | `numbers` | what all this shows in the metrics |
//!
//! While authentication is off nothing here costs a request more than one look at a flag.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use store::Store;
use store::auth::{AuthEvent, Caller};
use tokio::sync::{Semaphore, watch};

pub(crate) use self::credentials::Credentials;
pub(crate) use self::login::LoginError;
pub(crate) use self::options::{TokenError, TokenKind};
pub(crate) use self::passwords::PasswordError;
use self::passwords::Passwords;
use self::simple::SimpleTokens;
use crate::config::AuthSettings;

mod credentials;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod jwt;
mod login;
mod numbers;
mod options;
mod passwords;
mod simple;

/// What a member knows to tell callers apart by. One for all runtimes.
pub(crate) struct Auth {
    kind: TokenKind,
    simple: SimpleTokens,
    passwords: Passwords,
    /// Callers with a token that this member does not know yet.
    strangers: Semaphore,
}

/// What a token says at a first look.
enum Look {
    Decided(Caller),
    /// It is of a login at this index, which has not been applied here.
    Later(u64),
}

impl Auth {
    /// Starts the threads for passwords, and hears from the store which tokens there are.
    pub(crate) fn start(settings: &AuthSettings, store: &Store) -> io::Result<Arc<Auth>> {
        if matches!(settings.tokens, TokenKind::Simple) {
            tracing::warn!("simple token is not cryptographically signed");
        }
        let auth = Arc::new(Auth {
            kind: settings.tokens.clone(),
            simple: SimpleTokens::new(settings.token_ttl),
            passwords: Passwords::start(settings.bcrypt_cost)?,
            strangers: Semaphore::new(STRANGERS_MAX),
        });
        let listener = Arc::clone(&auth);
        store.listen_auth(move |event| listener.hear(event));
        Ok(auth)
    }

    /// Keeps what is remembered in bounds, until the process stops.
    pub(crate) async fn sweep(self: Arc<Self>, mut stopping: watch::Receiver<bool>) {
        let mut ticks = tokio::time::interval(SWEEP_INTERVAL);
        loop {
            tokio::select! {
                _ = ticks.tick() => self.simple.sweep(),
                () = crate::core::raised(&mut stopping) => return,
            }
        }
    }

    /// Who calls with these credentials, once authentication is on; nothing where that takes a wait. The handle of the
    /// store is this process's own.
    pub(crate) fn recognised(&self, store: &Store, credentials: &Credentials) -> Option<Caller> {
        if !store.auth_enabled() {
            return Some(Caller::Nobody);
        }
        match (credentials.token(), credentials.common_name()) {
            (Some(Some(token)), _) => match self.look(token) {
                Look::Decided(caller) => Some(caller),
                Look::Later(_) => None,
            },
            // What is no text is no token.
            (Some(None), _) => Some(Caller::Stranger),
            (None, Some(name)) if !name.is_empty() => Some(Caller::User {
                name: name.clone(),
                revision: Caller::AT_PRESENT,
            }),
            (None, _) => Some(Caller::Nobody),
        }
    }

    /// The same, after that wait.
    pub(crate) async fn caller(&self, store: &Store, credentials: &Credentials) -> Caller {
        if let Some(caller) = self.recognised(store, credentials) {
            return caller;
        }
        let token = credentials.token().flatten();
        match token.map(|token| (token, self.look(token))) {
            Some((_, Look::Decided(caller))) => caller,
            Some((token, Look::Later(index))) => self.wait(store, token, index).await,
            None => Caller::Stranger,
        }
    }

    fn look(&self, token: &str) -> Look {
        let caller = match &self.kind {
            TokenKind::Nothing => None,
            TokenKind::Simple => match self.simple.user(token) {
                Some(name) => Some(Caller::User {
                    name,
                    revision: Caller::AT_PRESENT,
                }),
                None => match simple::index_of(token) {
                    Some(index) => return Look::Later(index),
                    None => None,
                },
            },
            TokenKind::Jwt(jwt) => jwt.bearer(token).map(|bearer| Caller::User {
                name: bearer.user,
                // No token may claim to be always of the present.
                revision: bearer.revision.min(Caller::AT_PRESENT - 1),
            }),
        };
        Look::Decided(caller.unwrap_or(Caller::Stranger))
    }

    /// A client may come with its token before this member has heard of the login, as long as a message between members
    /// takes. So the member waits for what it knows to be committed, and for what it does not know it asks the leader,
    /// once and not for long: a made-up token waits for no more than that.
    async fn wait(&self, store: &Store, token: &str, index: u64) -> Caller {
        let Ok(_place) = self.strangers.try_acquire() else {
            return Caller::Stranger;
        };
        match store.await_applied(index).await {
            Ok(true) => {}
            Ok(false) if store.has_leader() => {
                // Whether it came to anything shows in what is known then.
                let _ = tokio::time::timeout(STRANGER_WAIT_MAX, store.auth_barrier()).await;
            }
            Ok(false) | Err(_) => return Caller::Stranger,
        }
        match self.look(token) {
            Look::Decided(caller) => caller,
            Look::Later(_) => Caller::Stranger,
        }
    }

    /// What the log says about tokens. The store's state is locked meanwhile.
    fn hear(&self, event: &AuthEvent) {
        match event {
            AuthEvent::Enabled => {}
            // Whose tokens a snapshot has made worthless, it does not say.
            AuthEvent::Disabled | AuthEvent::Replaced => self.simple.forget(),
            AuthEvent::UserChanged(name) => self.simple.drop_user(name),
            AuthEvent::Authenticated {
                name,
                simple_token,
                index,
            } => {
                if matches!(self.kind, TokenKind::Simple) && !simple_token.is_empty() {
                    let token = simple::token(simple_token, *index);
                    self.simple.assign(token, name.as_str().into());
                }
            }
        }
    }
}

/// How long a token may wait for a login that this member has not heard of.
const STRANGER_WAIT_MAX: Duration = Duration::from_secs(1);
/// Callers that wait so at once; others are refused.
const STRANGERS_MAX: usize = 1024;
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

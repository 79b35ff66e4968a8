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
        let auth = Arc::new(Auth::new(settings)?);
        let listener = Arc::clone(&auth);
        store.listen_auth(move |event| listener.hear(event));
        Ok(auth)
    }

    fn new(settings: &AuthSettings) -> io::Result<Auth> {
        Ok(Auth {
            kind: settings.tokens.clone(),
            simple: SimpleTokens::new(settings.token_ttl),
            passwords: Passwords::start(settings.bcrypt_cost)?,
            strangers: Semaphore::new(STRANGERS_MAX),
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn auth(tokens: &str) -> Auth {
        let settings = AuthSettings {
            tokens: TokenKind::read(tokens).unwrap(),
            token_ttl: Duration::from_secs(300),
            bcrypt_cost: 4,
        };
        Auth::new(&settings).unwrap()
    }

    fn login(name: &str, simple_token: &str, index: u64) -> AuthEvent {
        AuthEvent::Authenticated {
            name: name.to_owned(),
            simple_token: simple_token.to_owned(),
            index,
        }
    }

    fn user_of(auth: &Auth, token: &str) -> Option<(String, u64)> {
        match auth.look(token) {
            Look::Decided(Caller::User { name, revision }) => Some((name.to_string(), revision)),
            _ => None,
        }
    }

    /// A member whose state has come by a snapshot has not heard that authentication was turned on.
    #[test]
    fn simple_tokens_are_learnt_from_the_log() {
        let auth = auth("simple");
        for (name, prefix, index) in [("u", "a", 7), ("u", "b", 8), ("v", "c", 9), ("w", "", 10)] {
            auth.hear(&login(name, prefix, index));
        }
        let known = |name: &str| Some((name.to_owned(), Caller::AT_PRESENT));
        assert_eq!(
            (user_of(&auth, "a.7"), user_of(&auth, "c.9")),
            (known("u"), known("v"))
        );
        assert!(matches!(auth.look("a.8"), Look::Later(8)));
        // It was made by a member whose tokens are signed.
        assert_eq!(user_of(&auth, ".10"), None);
        assert!(matches!(auth.look("junk"), Look::Decided(Caller::Stranger)));
        auth.hear(&AuthEvent::UserChanged("u".to_owned()));
        assert_eq!((user_of(&auth, "b.8"), user_of(&auth, "c.9")), (None, known("v")));
        for event in [AuthEvent::Replaced, AuthEvent::Disabled] {
            auth.hear(&login("v", "d", 11));
            assert_eq!(user_of(&auth, "d.11"), known("v"));
            auth.hear(&event);
            assert_eq!(user_of(&auth, "d.11"), None);
        }
    }

    #[test]
    fn signed_tokens_name_their_revision_and_never_the_present() {
        let file = format!("{}/testdata/jwt/hmac.key", env!("CARGO_MANIFEST_DIR"));
        let auth = auth(&format!("jwt,sign-method=HS256,priv-key={file}"));
        let TokenKind::Jwt(jwt) = &auth.kind else {
            panic!("{:?}", auth.kind)
        };
        let issued = |revision| user_of(&auth, &jwt.issue("u", revision).unwrap());
        assert_eq!(issued(7), Some(("u".to_owned(), 7)));
        assert!(issued(u64::MAX).is_some_and(|(_, revision)| revision < Caller::AT_PRESENT));
        auth.hear(&login("u", "a", 7));
        assert!(matches!(auth.look("a.7"), Look::Decided(Caller::Stranger)));
    }

    #[test]
    fn without_tokens_everybody_with_one_is_a_stranger() {
        assert!(matches!(auth("").look("a.7"), Look::Decided(Caller::Stranger)));
    }
}

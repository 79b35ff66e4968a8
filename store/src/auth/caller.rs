//! Who asks.

use std::sync::Arc;

use super::AuthState;

/// Who calls the store.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Caller {
    /// The program that the store is part of: it may do everything.
    #[default]
    Trusted,
    /// Somebody without a token and without a certificate.
    Nobody,
    /// Somebody whose token is no good.
    Stranger,
    /// Somebody authenticated.
    User {
        /// By this name. There need not be such a user: a certificate may name anybody.
        name: Arc<str>,
        /// Under this revision of [`AuthState`], which a token may name; [`Caller::AT_PRESENT`] where nothing names one.
        revision: u64,
    },
}

impl Caller {
    /// The revision of a caller whose token or certificate is valid under whichever state judges it: simple tokens, which
    /// are dropped when they cease to be, and certificates. No token must be able to name it.
    pub const AT_PRESENT: u64 = u64::MAX;

    /// A caller as one state sees it.
    #[must_use]
    pub fn identity(&self, auth: &AuthState) -> Identity<'_> {
        match self {
            Caller::Trusted => Identity::Trusted,
            Caller::Nobody => Identity::Nobody,
            Caller::Stranger => Identity::Stranger,
            Caller::User { name, revision } => Identity::User {
                name,
                revision: match *revision {
                    Caller::AT_PRESENT => auth.revision(),
                    named => named,
                },
            },
        }
    }
}

/// The same, as an entry of the log holds it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Identity<'a> {
    /// See [`Caller::Trusted`].
    Trusted,
    /// See [`Caller::Nobody`].
    Nobody,
    /// See [`Caller::Stranger`]. No entry of the log is a stranger's.
    Stranger,
    /// See [`Caller::User`].
    User {
        /// The name.
        name: &'a str,
        /// The revision under which it was authenticated.
        revision: u64,
    },
}

impl<'a> Identity<'a> {
    /// The name, empty for whoever has none.
    #[must_use]
    pub fn name(self) -> &'a str {
        match self {
            Identity::User { name, .. } => name,
            Identity::Trusted | Identity::Nobody | Identity::Stranger => "",
        }
    }
}

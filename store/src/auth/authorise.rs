//! The one decision: may this caller do that?
//!
//! The order of checks is etcd's, and shows in the errors: for keys, no identity, then an old revision, then no such
//! user (refused like anybody without permission); for what only an administrator may do, no identity, then no such
//! user, and the revision does not count.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::{AuthState, Identity, User};
use crate::error::AuthError;
use crate::types::KeyRange;

/// What is done with keys.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Access {
    /// Seeing them.
    Read,
    /// Changing them.
    Write,
}

/// Keys as a request names them; see [`KeyRange`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Keys<'a> {
    /// The first key.
    pub key: &'a [u8],
    /// The end as requested.
    pub range_end: &'a [u8],
}

/// One thing that a request needs to be allowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation<'a> {
    /// Open to everybody.
    Open,
    /// For whoever is authenticated.
    Authenticated,
    /// For administrators: users with the role `root`.
    Admin,
    /// For administrators, and for the user of this name.
    Oneself(&'a str),
    /// For administrators, and for users that hold this role.
    Holder(&'a str),
    /// Access to a range of keys, or to one.
    Range(Access, Keys<'a>),
    /// Access to each of the keys of a lease.
    Each(Access, &'a BTreeSet<Bytes>),
}

impl<'a> Keys<'a> {
    /// Those of a request.
    #[must_use]
    pub fn new(key: &'a [u8], range_end: &'a [u8]) -> Self {
        Keys { key, range_end }
    }

    /// One key.
    #[must_use]
    pub fn single(key: &'a [u8]) -> Self {
        Keys { key, range_end: &[] }
    }
}

impl<'a> From<&'a KeyRange> for Keys<'a> {
    fn from(range: &'a KeyRange) -> Self {
        Keys::new(&range.key, &range.range_end)
    }
}

/// Whether a caller may do something, under a state.
///
/// # Errors
/// `InvalidAuthToken`, `UserEmpty`, `AuthOldRevision`, `UserNotFound`, `PermissionDenied`.
pub fn authorise(auth: &AuthState, who: Identity<'_>, operation: &Operation<'_>) -> Result<(), AuthError> {
    if !auth.enabled() || who == Identity::Trusted {
        return Ok(());
    }
    match *operation {
        Operation::Open => Ok(()),
        _ if who == Identity::Stranger => Err(AuthError::InvalidAuthToken),
        Operation::Authenticated => match who {
            Identity::Nobody => Err(AuthError::UserEmpty),
            _ => Ok(()),
        },
        Operation::Admin => admin(auth, who),
        Operation::Oneself(name) => admin(auth, who).or_else(|refusal| match who.name() == name {
            true => Ok(()),
            false => Err(refusal),
        }),
        Operation::Holder(role) => admin(auth, who).or_else(|refusal| {
            match auth.user(who.name()).is_some_and(|user| user.holds(role)) {
                true => Ok(()),
                false => Err(refusal),
            }
        }),
        Operation::Range(access, keys) => {
            let user = known(auth, who)?;
            allow(auth, user, access, keys)
        }
        Operation::Each(access, keys) => each(auth, who, access, keys),
    }
}

fn admin(auth: &AuthState, who: Identity<'_>) -> Result<(), AuthError> {
    if who.name().is_empty() {
        return Err(AuthError::UserEmpty);
    }
    match auth.user(who.name()) {
        None => Err(AuthError::UserNotFound),
        Some(user) if user.is_root() => Ok(()),
        Some(_) => Err(AuthError::PermissionDenied),
    }
}

/// An administrator may have been authenticated under whichever revision, and a lease without keys asks nothing.
fn each(
    auth: &AuthState,
    who: Identity<'_>,
    access: Access,
    keys: &BTreeSet<Bytes>,
) -> Result<(), AuthError> {
    if keys.is_empty() || admin(auth, who).is_ok() {
        return Ok(());
    }
    let user = known(auth, who)?;
    keys.iter()
        .try_for_each(|key| allow(auth, user, access, Keys::single(key)))
}

/// The user that asks for keys.
fn known<'a>(auth: &'a AuthState, who: Identity<'_>) -> Result<&'a User, AuthError> {
    let (name, revision) = match who {
        Identity::User { name, revision } if revision > 0 => (name, revision),
        _ => return Err(AuthError::UserEmpty),
    };
    if revision < auth.revision() {
        return Err(AuthError::AuthOldRevision);
    }
    auth.user(name).ok_or(AuthError::PermissionDenied)
}

fn allow(auth: &AuthState, user: &User, access: Access, keys: Keys<'_>) -> Result<(), AuthError> {
    if user.is_root() || auth.permissions(user).allow(access, keys) {
        Ok(())
    } else {
        Err(AuthError::PermissionDenied)
    }
}

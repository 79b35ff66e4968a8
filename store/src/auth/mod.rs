//! Users, roles and permissions: who may do what (etcd reference 1.6).
//!
//! [`AuthState`] is replicated state: it changes only by what is applied (`change.rs`) and is the same on every member.
//! Its revision starts at 1 and moves with each change of users or roles and when auth is disabled, so that whoever
//! was authenticated under an older one is found out. [`authorise`] is the only place that decides: everything a
//! request needs is put to it as [`Operation`]s (`apply/needs.rs` has the table), with the [`Identity`] of its caller.
//!
//! Passwords are here as hashes only, and leave the room only towards whoever checks them and towards the disk; no
//! `Debug` shows them. Tokens are not known here at all.
//!
//! A state is cheap to clone and to look into: it stands behind one pointer, a change makes a new one, which shares the
//! users and roles that stay as they were. What a user may do is compiled into merged ranges when it is first asked
//! for, and kept until a change touches the user or one of its roles.

mod authorise;
mod caller;
mod change;
mod permission;
mod table;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use proto::authpb::{Permission, UserAddOptions};

pub use authorise::{Access, Keys, Operation, authorise};
pub use caller::{Caller, Identity};
pub use change::{AuthEvent, Done};
pub use permission::Permissions;
pub use table::AuthTableError;

/// Everything that the log has decided about auth.
#[derive(Clone, PartialEq, Debug)]
pub struct AuthState(Arc<Content>);

#[derive(Clone, PartialEq, Debug)]
struct Content {
    enabled: bool,
    revision: u64,
    users: BTreeMap<Arc<str>, Arc<User>>,
    roles: BTreeMap<Arc<str>, Arc<Role>>,
}

/// A user.
#[derive(Default)]
pub struct User {
    hash: Bytes,
    options: Option<UserAddOptions>,
    /// Sorted, each once.
    roles: Vec<String>,
    compiled: OnceLock<Permissions>,
}

/// A role.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Role {
    /// Sorted by key; those of one key in the order of their grants.
    permissions: Vec<Permission>,
}

impl Default for AuthState {
    /// That of a new cluster.
    fn default() -> Self {
        AuthState(Arc::new(Content {
            enabled: false,
            revision: FIRST_REVISION,
            users: BTreeMap::new(),
            roles: BTreeMap::new(),
        }))
    }
}

impl AuthState {
    /// Whether callers are judged at all.
    #[must_use]
    pub fn enabled(&self) -> bool {
        self.0.enabled
    }

    /// How often users and roles have changed, plus one.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.0.revision
    }

    /// A user by name.
    #[must_use]
    pub fn user(&self, name: &str) -> Option<&User> {
        self.0.users.get(name).map(Arc::as_ref)
    }

    /// The names of all users, sorted.
    pub fn users(&self) -> impl ExactSizeIterator<Item = &str> {
        self.0.users.keys().map(AsRef::as_ref)
    }

    /// A role by name.
    #[must_use]
    pub fn role(&self, name: &str) -> Option<&Role> {
        self.0.roles.get(name).map(Arc::as_ref)
    }

    /// The names of all roles, sorted.
    pub fn roles(&self) -> impl ExactSizeIterator<Item = &str> {
        self.0.roles.keys().map(AsRef::as_ref)
    }

    /// Whether two states are one and the same, which needs no look at what they hold.
    #[must_use]
    pub fn same(&self, other: &AuthState) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// What a user may do, by the roles of this state.
    fn permissions<'a>(&'a self, user: &'a User) -> &'a Permissions {
        user.compiled.get_or_init(|| {
            let roles = user.roles.iter().filter_map(|name| self.role(name));
            Permissions::merged(roles.flat_map(|role| &role.permissions))
        })
    }
}

impl User {
    /// The hash of its password; empty where it has none.
    #[must_use]
    pub fn hash(&self) -> &[u8] {
        &self.hash
    }

    /// Whether it was added without a password, so that only a certificate can name it.
    #[must_use]
    pub fn no_password(&self) -> bool {
        self.options.as_ref().is_some_and(|options| options.no_password)
    }

    /// The names of its roles, sorted.
    #[must_use]
    pub fn roles(&self) -> &[String] {
        &self.roles
    }

    /// Whether it holds a role.
    #[must_use]
    pub fn holds(&self, role: &str) -> bool {
        self.roles
            .binary_search_by(|held| held.as_str().cmp(role))
            .is_ok()
    }

    /// Whether it may do everything.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.holds(ROOT)
    }
}

impl Clone for User {
    /// What was compiled is not taken along: a clone is made to be changed.
    fn clone(&self) -> Self {
        User {
            hash: self.hash.clone(),
            options: self.options,
            roles: self.roles.clone(),
            compiled: OnceLock::new(),
        }
    }
}

impl PartialEq for User {
    fn eq(&self, other: &Self) -> bool {
        (&self.hash, self.options, &self.roles) == (&other.hash, other.options, &other.roles)
    }
}

impl fmt::Debug for User {
    /// Without the hash.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User")
            .field("no_password", &self.no_password())
            .field("roles", &self.roles)
            .finish_non_exhaustive()
    }
}

impl Role {
    /// Its permissions, sorted by key.
    #[must_use]
    pub fn permissions(&self) -> &[Permission] {
        &self.permissions
    }
}

/// The name of the user that must exist while auth is on, and of the role that may do everything.
pub const ROOT: &str = "root";
/// The revision of a new cluster.
const FIRST_REVISION: u64 = 1;

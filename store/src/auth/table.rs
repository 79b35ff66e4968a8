//! Users and roles as records: for the working copy, snapshot files and backups.
//!
//! Keys within `Table::Auth` are one byte and a name: `s` alone is the state (enabled u8, revision u64 big-endian), `u`
//! and a name a user, `r` and a name a role; the values of the latter two are etcd's messages. A state that nobody has
//! touched has no records at all.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use prost::Message as _;
use proto::authpb;

use super::{AuthState, Content, Role, User};

/// A record that is none.
#[derive(Debug, thiserror::Error)]
pub enum AuthTableError {
    /// A message that does not decode.
    #[error(transparent)]
    Message(#[from] prost::DecodeError),
    /// Something else is wrong with it.
    #[error("a record about auth is malformed: {reason}")]
    Malformed {
        /// What.
        reason: &'static str,
    },
}

impl AuthState {
    /// The state as a table.
    #[must_use]
    pub fn encode(&self) -> Vec<(Bytes, Bytes)> {
        if *self == AuthState::default() {
            return Vec::new();
        }
        let mut state = vec![u8::from(self.enabled())];
        state.extend_from_slice(&self.revision().to_be_bytes());
        let users = self.user_messages();
        let users = users.map(|user| (key(USER, &user.name), user.encode_to_vec().into()));
        let roles = self.role_messages();
        let roles = roles.map(|role| (key(ROLE, &role.name), role.encode_to_vec().into()));
        std::iter::once((key(STATE, &[]), state.into()))
            .chain(users)
            .chain(roles)
            .collect()
    }

    /// The state of a table that `encode` made.
    ///
    /// # Errors
    /// See [`AuthTableError`].
    pub fn decode(table: &[(Bytes, Bytes)]) -> Result<Self, AuthTableError> {
        let (mut enabled, mut revision) = (false, super::FIRST_REVISION);
        let (mut users, mut roles) = (Vec::new(), Vec::new());
        for (key, value) in table {
            match key.first() {
                Some(&STATE) => (enabled, revision) = decode_state(value)?,
                Some(&USER) => users.push(authpb::User::decode(value.clone())?),
                Some(&ROLE) => roles.push(authpb::Role::decode(value.clone())?),
                _ => return Err(malformed("of a kind that nobody knows")),
            }
        }
        AuthState::from_messages(enabled, revision, users, roles)
    }

    /// The users as etcd's messages, by name.
    pub fn user_messages(&self) -> impl Iterator<Item = authpb::User> {
        self.0.users.iter().map(|(name, user)| authpb::User {
            name: Bytes::copy_from_slice(name.as_bytes()),
            password: user.hash.clone(),
            roles: user.roles.clone(),
            options: user.options,
        })
    }

    /// The roles as etcd's messages, by name.
    pub fn role_messages(&self) -> impl Iterator<Item = authpb::Role> {
        self.0.roles.iter().map(|(name, role)| authpb::Role {
            name: Bytes::copy_from_slice(name.as_bytes()),
            key_permission: role.permissions.clone(),
        })
    }

    /// The state made of etcd's messages.
    ///
    /// # Errors
    /// `Malformed` for a name that is no text.
    pub fn from_messages(
        enabled: bool,
        revision: u64,
        users: Vec<authpb::User>,
        roles: Vec<authpb::Role>,
    ) -> Result<Self, AuthTableError> {
        let mut content = Content {
            enabled,
            revision: revision.max(super::FIRST_REVISION),
            users: BTreeMap::new(),
            roles: BTreeMap::new(),
        };
        for mut user in users {
            user.roles.sort();
            user.roles.dedup();
            let kept = User {
                hash: Bytes::copy_from_slice(&user.password),
                options: user.options,
                roles: user.roles,
                compiled: OnceLock::new(),
            };
            content.users.insert(name(&user.name)?, Arc::new(kept));
        }
        for role in roles {
            let mut permissions = role.key_permission;
            for permission in &mut permissions {
                permission.key = Bytes::copy_from_slice(&permission.key);
                permission.range_end = Bytes::copy_from_slice(&permission.range_end);
            }
            permissions.sort_by(|a, b| a.key.cmp(&b.key));
            content
                .roles
                .insert(name(&role.name)?, Arc::new(Role { permissions }));
        }
        Ok(AuthState(Arc::new(content)))
    }
}

fn key(kind: u8, name: &[u8]) -> Bytes {
    [&[kind], name].concat().into()
}

fn name(bytes: &[u8]) -> Result<Arc<str>, AuthTableError> {
    match std::str::from_utf8(bytes) {
        Ok(name) => Ok(name.into()),
        Err(_) => Err(malformed("a name is no text")),
    }
}

fn decode_state(value: &[u8]) -> Result<(bool, u64), AuthTableError> {
    let (enabled, revision) = match value.split_first() {
        Some((enabled @ (0 | 1), revision)) => (*enabled == 1, revision),
        _ => return Err(malformed("the state")),
    };
    match revision.try_into() {
        Ok(revision) => Ok((enabled, u64::from_be_bytes(revision))),
        Err(_) => Err(malformed("the revision")),
    }
}

fn malformed(reason: &'static str) -> AuthTableError {
    AuthTableError::Malformed { reason }
}

const STATE: u8 = b's';
const USER: u8 = b'u';
const ROLE: u8 = b'r';

//! The changes: what each of the 15 requests does to users and roles, with etcd's rules and errors. All of it is
//! applied from the log, so nothing here may depend on anything but the request and the state.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use proto::authpb::{Permission, UserAddOptions};
use proto::etcdserverpb::{
    AuthRoleGrantPermissionRequest, AuthRoleRevokePermissionRequest, AuthUserAddRequest,
    AuthUserChangePasswordRequest,
};

use super::{AuthState, Content, ROOT, Role, User};
use crate::error::AuthError;

/// What a change did that concerns whoever keeps tokens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AuthEvent {
    /// Auth is on now.
    Enabled,
    /// Auth is off now: no token is worth anything.
    Disabled,
    /// A user was deleted or has another password: its tokens are worth nothing.
    UserChanged(String),
    /// A user has logged in: this token is valid from now on.
    Authenticated {
        /// The user.
        name: String,
        /// The token's random part, as the member chose it that checked the password; empty where its tokens are signed.
        simple_token: String,
        /// The index of the entry, which ends the token.
        index: u64,
    },
    /// A snapshot from the leader has replaced everything: users may be gone without a word.
    Replaced,
}

/// What a change came to: perhaps something to tell.
pub type Done = Result<Option<AuthEvent>, AuthError>;

impl AuthState {
    /// Turns judging on.
    pub fn enable(&mut self) -> Done {
        if self.enabled() {
            return Ok(None);
        }
        let root = self.user(ROOT).ok_or(AuthError::RootUserNotExist)?;
        if !root.is_root() {
            return Err(AuthError::RootRoleNotExist);
        }
        self.content().enabled = true;
        Ok(Some(AuthEvent::Enabled))
    }

    /// Turns judging off.
    pub fn disable(&mut self) -> Done {
        if !self.enabled() {
            return Ok(None);
        }
        self.changed().enabled = false;
        Ok(Some(AuthEvent::Disabled))
    }

    /// Adds a user without roles.
    pub fn add_user(&mut self, request: &AuthUserAddRequest) -> Done {
        if request.name.is_empty() {
            return Err(AuthError::UserEmpty);
        }
        if self.user(&request.name).is_some() {
            return Err(AuthError::UserExists);
        }
        let options = request.options.unwrap_or(UserAddOptions { no_password: false });
        let hash = match options.no_password {
            true => Bytes::new(),
            false => hash(&request.hashed_password)?,
        };
        let user = User {
            hash,
            options: Some(options),
            ..User::default()
        };
        self.changed()
            .users
            .insert(request.name.as_str().into(), Arc::new(user));
        Ok(None)
    }

    /// Deletes a user.
    pub fn delete_user(&mut self, name: &str) -> Done {
        if self.enabled() && name == ROOT {
            return Err(AuthError::InvalidAuthManagement);
        }
        self.user(name).ok_or(AuthError::UserNotFound)?;
        self.changed().users.remove(name);
        Ok(Some(AuthEvent::UserChanged(name.to_owned())))
    }

    /// Gives a user another password; one that was added without keeps none.
    pub fn change_password(&mut self, request: &AuthUserChangePasswordRequest) -> Done {
        let user = self.user(&request.name).ok_or(AuthError::UserNotFound)?;
        let hash = match user.no_password() {
            true => Bytes::new(),
            false => hash(&request.hashed_password)?,
        };
        let user = User { hash, ..user.clone() };
        self.changed()
            .users
            .insert(request.name.as_str().into(), Arc::new(user));
        Ok(Some(AuthEvent::UserChanged(request.name.clone())))
    }

    /// Grants a role to a user. The role `root` need not exist.
    pub fn grant_role(&mut self, name: &str, role: &str) -> Done {
        let user = self.user(name).ok_or(AuthError::UserNotFound)?;
        if role != ROOT && self.role(role).is_none() {
            return Err(AuthError::RoleNotFound);
        }
        let Err(place) = user.roles.binary_search_by(|held| held.as_str().cmp(role)) else {
            return Ok(None);
        };
        let mut user = user.clone();
        user.roles.insert(place, role.to_owned());
        self.changed().users.insert(name.into(), Arc::new(user));
        Ok(None)
    }

    /// Takes a role from a user.
    pub fn revoke_role(&mut self, name: &str, role: &str) -> Done {
        if self.enabled() && name == ROOT && role == ROOT {
            return Err(AuthError::InvalidAuthManagement);
        }
        let user = self.user(name).ok_or(AuthError::UserNotFound)?;
        if !user.holds(role) {
            return Err(AuthError::RoleNotGranted);
        }
        let mut user = user.clone();
        user.roles.retain(|held| held != role);
        self.changed().users.insert(name.into(), Arc::new(user));
        Ok(None)
    }

    /// Adds a role without permissions.
    pub fn add_role(&mut self, name: &str) -> Done {
        if name.is_empty() {
            return Err(AuthError::RoleEmpty);
        }
        if self.role(name).is_some() {
            return Err(AuthError::RoleExists);
        }
        self.changed().roles.insert(name.into(), Arc::default());
        Ok(None)
    }

    /// Deletes a role and takes it from all users.
    pub fn delete_role(&mut self, name: &str) -> Done {
        if self.enabled() && name == ROOT {
            return Err(AuthError::InvalidAuthManagement);
        }
        self.role(name).ok_or(AuthError::RoleNotFound)?;
        let content = self.changed();
        content.roles.remove(name);
        content.renew_holders(name, |user| user.roles.retain(|held| held != name));
        Ok(None)
    }

    /// Gives a role a permission. One over the same range takes the place of the one before: with several over one key,
    /// etcd looks at the first only, and keeps both.
    pub fn grant_permission(&mut self, request: &AuthRoleGrantPermissionRequest) -> Done {
        let granted = request.perm.as_ref().ok_or(AuthError::PermissionNotGiven)?;
        if !is_grantable(granted) {
            return Err(AuthError::InvalidAuthManagement);
        }
        let role = self.role(&request.name).ok_or(AuthError::RoleNotFound)?;
        let mut role = role.clone();
        // Request buffers are larger than what is kept of them.
        let granted = Permission {
            perm_type: granted.perm_type,
            key: Bytes::copy_from_slice(&granted.key),
            range_end: Bytes::copy_from_slice(&granted.range_end),
        };
        let same =
            |held: &&mut Permission| (&held.key, &held.range_end) == (&granted.key, &granted.range_end);
        match role.permissions.iter_mut().find(same) {
            Some(held) => held.perm_type = granted.perm_type,
            None => {
                let place = role.permissions.partition_point(|held| held.key <= granted.key);
                role.permissions.insert(place, granted);
            }
        }
        self.changed().set_role(&request.name, role);
        Ok(None)
    }

    /// Takes from a role its permission over exactly this range.
    pub fn revoke_permission(&mut self, request: &AuthRoleRevokePermissionRequest) -> Done {
        let mut role = self.role(&request.role).ok_or(AuthError::RoleNotFound)?.clone();
        let held = role.permissions.len();
        role.permissions
            .retain(|held| (&held.key, &held.range_end) != (&request.key, &request.range_end));
        if role.permissions.len() == held {
            return Err(AuthError::PermissionNotGranted);
        }
        self.changed().set_role(&request.role, role);
        Ok(None)
    }

    /// Whether a user may be given a token. Its password was checked by the member that proposed the login.
    pub fn authenticate(&self, name: &str) -> Result<(), AuthError> {
        if !self.enabled() {
            return Err(AuthError::AuthNotEnabled);
        }
        match self.user(name) {
            Some(user) if !user.no_password() => Ok(()),
            _ => Err(AuthError::AuthFailed),
        }
    }

    pub(super) fn content(&mut self) -> &mut Content {
        Arc::make_mut(&mut self.0)
    }

    /// The content, for a change that moves the revision.
    fn changed(&mut self) -> &mut Content {
        let content = self.content();
        content.revision += 1;
        content
    }
}

impl Content {
    /// Puts a changed role in place; what its holders may do is to be found out anew.
    fn set_role(&mut self, name: &str, role: Role) {
        self.roles.insert(name.into(), Arc::new(role));
        self.renew_holders(name, |_| {});
    }

    fn renew_holders(&mut self, role: &str, change: impl Fn(&mut User)) {
        for user in self.users.values_mut().filter(|user| user.holds(role)) {
            let mut renewed = User::clone(user);
            change(&mut renewed);
            *user = Arc::new(renewed);
        }
    }
}

/// A hash as a request carries it.
fn hash(encoded: &str) -> Result<Bytes, AuthError> {
    let decoded = STANDARD.decode(encoded).map_err(|_| AuthError::NoPasswordUser)?;
    Ok(decoded.into())
}

/// Whether a permission is over keys that there can be.
fn is_grantable(permission: &Permission) -> bool {
    let (key, end) = (&permission.key, &permission.range_end);
    !key.is_empty() && (end.is_empty() || end.as_ref() == b"\0" || key < end)
}

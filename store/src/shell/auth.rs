//! The handle's part of auth: who calls, what a caller may do here, and the calls about users, roles and permissions.
//!
//! What is written is judged when it is applied, on every member (`apply/needs.rs`): the entry carries who asked. What
//! is read is judged where it is served, under the lock under which it is read, and the revision of auth is compared
//! again when the answer is complete. Passwords and tokens are not the store's business: whoever serves logins checks
//! the one against [`Store::auth_view`] and hears of the other by [`Store::listen_auth`].

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use proto::etcdserverpb::{
    AuthDisableRequest, AuthDisableResponse, AuthEnableRequest, AuthEnableResponse, AuthRoleAddRequest,
    AuthRoleAddResponse, AuthRoleDeleteRequest, AuthRoleDeleteResponse, AuthRoleGetRequest,
    AuthRoleGetResponse, AuthRoleGrantPermissionRequest, AuthRoleGrantPermissionResponse,
    AuthRoleListRequest, AuthRoleListResponse, AuthRoleRevokePermissionRequest,
    AuthRoleRevokePermissionResponse, AuthStatusRequest, AuthStatusResponse, AuthUserAddRequest,
    AuthUserAddResponse, AuthUserChangePasswordRequest, AuthUserChangePasswordResponse,
    AuthUserDeleteRequest, AuthUserDeleteResponse, AuthUserGetRequest, AuthUserGetResponse,
    AuthUserGrantRoleRequest, AuthUserGrantRoleResponse, AuthUserListRequest, AuthUserListResponse,
    AuthUserRevokeRoleRequest, AuthUserRevokeRoleResponse, InternalAuthenticateRequest, InternalRaftRequest,
    RequestHeader, ResponseHeader,
};
use tokio::sync::watch;

use super::command::Command;
use super::handle::{Store, unexpected};
use super::shared::Shared;
use crate::apply::{AuthResponse, Authenticated, Request, Response, State};
use crate::auth::{AuthEvent, AuthState, Caller, Identity};
use crate::error::{AuthError, Error, RequestError};
use crate::types::Index;

/// Who keeps tokens.
type Listener = Box<dyn Fn(&AuthEvent) + Send + Sync>;

/// The auth state for everybody to look at, without the state's lock; moves while that is held.
pub(super) struct SharedAuth {
    enabled: AtomicBool,
    revision: AtomicU64,
    view: watch::Sender<AuthState>,
    listener: OnceLock<Listener>,
}

impl SharedAuth {
    pub(super) fn new(state: &AuthState) -> Self {
        SharedAuth {
            enabled: AtomicBool::new(state.enabled()),
            revision: AtomicU64::new(state.revision()),
            view: watch::Sender::new(state.clone()),
            listener: OnceLock::new(),
        }
    }

    /// Shows a state, if it is another than the one shown.
    pub(super) fn publish(&self, state: &AuthState) {
        if self.view.borrow().same(state) {
            return;
        }
        self.view.send_replace(state.clone());
        self.revision.store(state.revision(), Ordering::Release);
        self.enabled.store(state.enabled(), Ordering::Release);
    }

    /// Tells whoever keeps tokens.
    pub(super) fn tell(&self, event: &AuthEvent) {
        if let Some(listener) = self.listener.get() {
            listener(event);
        }
    }

    fn enabled(&self) -> bool {
        self.enabled.load(Ordering::Acquire)
    }

    fn revision(&self) -> u64 {
        self.revision.load(Ordering::Acquire)
    }
}

/// A read that was allowed: under which revision its caller was authenticated, 0 where that does not count.
#[derive(Clone, Copy, Debug)]
pub(super) struct Judged(u64);

impl Judged {
    /// Judges a read in the state that it will see.
    pub(super) fn of(state: &State, caller: &Caller, request: Request<'_>) -> Result<Self, RequestError> {
        if !state.auth.enabled() {
            return Ok(Judged(0));
        }
        let who = caller.identity(&state.auth);
        // A read that needs nothing, as a transaction without operations, is none of a bad token's either.
        if who == Identity::Stranger {
            return Err(AuthError::InvalidAuthToken.into());
        }
        state.judge(who, request)?;
        Ok(match who {
            Identity::User { revision, .. } => Judged(revision),
            Identity::Trusted | Identity::Nobody | Identity::Stranger => Judged(0),
        })
    }

    /// The read is done: nothing about users and roles may have changed meanwhile.
    pub(super) fn confirm(self, shared: &Shared) -> Result<(), RequestError> {
        match self.0 {
            0 => Ok(()),
            revision if revision == shared.auth.revision() => Ok(()),
            _ => Err(AuthError::AuthOldRevision.into()),
        }
    }
}

impl Store {
    /// The same store for another caller: each call of the handle is judged as that caller's, once auth is on.
    #[must_use]
    pub fn acting_as(&self, caller: Caller) -> Store {
        Store {
            shared: std::sync::Arc::clone(&self.shared),
            caller,
        }
    }

    /// Who calls by this handle.
    #[must_use]
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Whether the caller may make a request, as this member knows the cluster: for what is answered outside the store.
    ///
    /// # Errors
    /// `UserEmpty`, `UserNotFound`, `AuthOldRevision`, `PermissionDenied`.
    pub fn permit(&self, request: Request<'_>) -> Result<(), Error> {
        if self.caller == Caller::Trusted || !self.shared.auth.enabled() {
            return Ok(());
        }
        let state = self.shared.state.read();
        let who = self.caller.identity(&state.auth);
        Ok(state.judge(who, request)?)
    }

    /// Users, roles and whether auth is on, as this member has them applied. Asks nobody.
    #[must_use]
    pub fn auth_view(&self) -> AuthState {
        self.shared.auth.view.borrow().clone()
    }

    /// Whether auth is on here. Cheaper than a look at the whole view.
    #[must_use]
    pub fn auth_enabled(&self) -> bool {
        self.shared.auth.enabled()
    }

    /// Follows the view: each change of users, roles or whether auth is on wakes the receiver.
    #[must_use]
    pub fn follow_auth(&self) -> watch::Receiver<AuthState> {
        self.shared.auth.view.subscribe()
    }

    /// Lets `listener` hear of everything that concerns tokens, from now on, in the order of the log and before the entry
    /// counts as applied. It is called under the state's lock: it must be quick, and must not call the store. The first
    /// listener stays.
    pub fn listen_auth(&self, listener: impl Fn(&AuthEvent) + Send + Sync + 'static) {
        let _ = self.shared.auth.listener.set(Box::new(listener));
    }

    /// Returns once this member has applied everything that any member had applied before this call: for a look at the
    /// view that must not be stale.
    ///
    /// # Errors
    /// Those of a linearizable read.
    pub async fn auth_barrier(&self) -> Result<(), Error> {
        self.read_index().await
    }

    /// Waits until this member has applied the entry of this index; false, at once, where it does not know such an entry
    /// to be committed.
    ///
    /// # Errors
    /// `Timeout`, `Stopped`.
    pub async fn await_applied(&self, index: u64) -> Result<bool, Error> {
        let published = &self.shared.published;
        if index <= published.applied.load(Ordering::Acquire) {
            return Ok(true);
        }
        if index > published.committed.load(Ordering::Relaxed) {
            return Ok(false);
        }
        self.ask(|answer| Command::AwaitApplied(Index(index), answer))
            .await?;
        Ok(true)
    }

    /// A login whose password was checked: every member learns of the token. The caller of the handle does not count.
    ///
    /// # Errors
    /// `AuthNotEnabled`, `AuthFailed`.
    pub async fn authenticate(&self, name: &str, simple_token: &str) -> Result<Authenticated, Error> {
        let request = InternalRaftRequest {
            authenticate: Some(Box::new(InternalAuthenticateRequest {
                name: name.to_owned(),
                simple_token: simple_token.to_owned(),
                ..Default::default()
            })),
            ..Default::default()
        };
        match self.ask_auth(request).await? {
            AuthResponse::Authenticated(mut done) => {
                self.shared.complete(&mut done.header);
                Ok(done)
            }
            other => mistaken(&other),
        }
    }

    /// Turns auth on.
    ///
    /// # Errors
    /// `RootUserNotExist`, `RootRoleNotExist`; as for all that follow, those of a caller who is no administrator.
    pub async fn auth_enable(&self, request: AuthEnableRequest) -> Result<AuthEnableResponse, Error> {
        let request = InternalRaftRequest {
            auth_enable: Some(Box::new(request)),
            ..Default::default()
        };
        let header = self.change_auth(request).await?;
        Ok(AuthEnableResponse { header })
    }

    /// Turns auth off.
    ///
    /// # Errors
    /// Those of the caller.
    pub async fn auth_disable(&self, request: AuthDisableRequest) -> Result<AuthDisableResponse, Error> {
        let request = InternalRaftRequest {
            auth_disable: Some(Box::new(request)),
            ..Default::default()
        };
        let header = self.change_auth(request).await?;
        Ok(AuthDisableResponse { header })
    }

    /// Whether auth is on, and its revision; by the log, so never stale. Open to everybody.
    ///
    /// # Errors
    /// [`Unavailable`](crate::error::Unavailable).
    pub async fn auth_status(&self, request: AuthStatusRequest) -> Result<AuthStatusResponse, Error> {
        let request = InternalRaftRequest {
            auth_status: Some(Box::new(request)),
            ..Default::default()
        };
        match self.ask_auth(request).await? {
            AuthResponse::Status(mut answer) => {
                self.shared.complete(&mut answer.header);
                Ok(answer)
            }
            other => mistaken(&other),
        }
    }

    /// Adds a user. Its password comes as `hashed_password`, bcrypt's hash in base64.
    ///
    /// # Errors
    /// `UserEmpty`, `UserExists`, `NoPasswordUser` for a hash that is none; `PasswordInClear`.
    pub async fn user_add(&self, request: AuthUserAddRequest) -> Result<AuthUserAddResponse, Error> {
        check_hashed(&request.password)?;
        let request = InternalRaftRequest {
            auth_user_add: Some(Box::new(request)),
            ..Default::default()
        };
        let header = self.change_auth(request).await?;
        Ok(AuthUserAddResponse { header })
    }

    /// The roles of a user.
    ///
    /// # Errors
    /// `UserNotFound`.
    pub async fn user_get(&self, request: AuthUserGetRequest) -> Result<AuthUserGetResponse, Error> {
        let request = InternalRaftRequest {
            auth_user_get: Some(Box::new(request)),
            ..Default::default()
        };
        match self.ask_auth(request).await? {
            AuthResponse::UserGet(mut answer) => {
                self.shared.complete(&mut answer.header);
                Ok(answer)
            }
            other => mistaken(&other),
        }
    }

    /// The names of all users.
    ///
    /// # Errors
    /// Those of the caller.
    pub async fn user_list(&self, request: AuthUserListRequest) -> Result<AuthUserListResponse, Error> {
        let request = InternalRaftRequest {
            auth_user_list: Some(Box::new(request)),
            ..Default::default()
        };
        match self.ask_auth(request).await? {
            AuthResponse::UserList(mut answer) => {
                self.shared.complete(&mut answer.header);
                Ok(answer)
            }
            other => mistaken(&other),
        }
    }

    /// Deletes a user.
    ///
    /// # Errors
    /// `UserNotFound`, `InvalidAuthManagement` for `root` while auth is on.
    pub async fn user_delete(&self, request: AuthUserDeleteRequest) -> Result<AuthUserDeleteResponse, Error> {
        let request = InternalRaftRequest {
            auth_user_delete: Some(Box::new(request)),
            ..Default::default()
        };
        let header = self.change_auth(request).await?;
        Ok(AuthUserDeleteResponse { header })
    }

    /// Gives a user another password, as [`Store::user_add`].
    ///
    /// # Errors
    /// `UserNotFound`, `NoPasswordUser` for a hash that is none; `PasswordInClear`.
    pub async fn user_change_password(
        &self,
        request: AuthUserChangePasswordRequest,
    ) -> Result<AuthUserChangePasswordResponse, Error> {
        check_hashed(&request.password)?;
        let request = InternalRaftRequest {
            auth_user_change_password: Some(Box::new(request)),
            ..Default::default()
        };
        let header = self.change_auth(request).await?;
        Ok(AuthUserChangePasswordResponse { header })
    }

    /// Grants a role to a user.
    ///
    /// # Errors
    /// `UserNotFound`, `RoleNotFound`.
    pub async fn user_grant_role(
        &self,
        request: AuthUserGrantRoleRequest,
    ) -> Result<AuthUserGrantRoleResponse, Error> {
        let request = InternalRaftRequest {
            auth_user_grant_role: Some(Box::new(request)),
            ..Default::default()
        };
        let header = self.change_auth(request).await?;
        Ok(AuthUserGrantRoleResponse { header })
    }

    /// Takes a role from a user.
    ///
    /// # Errors
    /// `UserNotFound`, `RoleNotGranted`, `InvalidAuthManagement` for `root` of `root` while auth is on.
    pub async fn user_revoke_role(
        &self,
        request: AuthUserRevokeRoleRequest,
    ) -> Result<AuthUserRevokeRoleResponse, Error> {
        let request = InternalRaftRequest {
            auth_user_revoke_role: Some(Box::new(request)),
            ..Default::default()
        };
        let header = self.change_auth(request).await?;
        Ok(AuthUserRevokeRoleResponse { header })
    }

    /// Adds a role.
    ///
    /// # Errors
    /// `RoleEmpty`, `RoleExists`.
    pub async fn role_add(&self, request: AuthRoleAddRequest) -> Result<AuthRoleAddResponse, Error> {
        let request = InternalRaftRequest {
            auth_role_add: Some(Box::new(request)),
            ..Default::default()
        };
        let header = self.change_auth(request).await?;
        Ok(AuthRoleAddResponse { header })
    }

    /// The permissions of a role.
    ///
    /// # Errors
    /// `RoleNotFound`.
    pub async fn role_get(&self, request: AuthRoleGetRequest) -> Result<AuthRoleGetResponse, Error> {
        let request = InternalRaftRequest {
            auth_role_get: Some(Box::new(request)),
            ..Default::default()
        };
        match self.ask_auth(request).await? {
            AuthResponse::RoleGet(mut answer) => {
                self.shared.complete(&mut answer.header);
                Ok(answer)
            }
            other => mistaken(&other),
        }
    }

    /// The names of all roles.
    ///
    /// # Errors
    /// Those of the caller.
    pub async fn role_list(&self, request: AuthRoleListRequest) -> Result<AuthRoleListResponse, Error> {
        let request = InternalRaftRequest {
            auth_role_list: Some(Box::new(request)),
            ..Default::default()
        };
        match self.ask_auth(request).await? {
            AuthResponse::RoleList(mut answer) => {
                self.shared.complete(&mut answer.header);
                Ok(answer)
            }
            other => mistaken(&other),
        }
    }

    /// Deletes a role, and takes it from all users.
    ///
    /// # Errors
    /// `RoleNotFound`, `InvalidAuthManagement` for `root` while auth is on.
    pub async fn role_delete(&self, request: AuthRoleDeleteRequest) -> Result<AuthRoleDeleteResponse, Error> {
        let request = InternalRaftRequest {
            auth_role_delete: Some(Box::new(request)),
            ..Default::default()
        };
        let header = self.change_auth(request).await?;
        Ok(AuthRoleDeleteResponse { header })
    }

    /// Gives a role a permission.
    ///
    /// # Errors
    /// `PermissionNotGiven`, `InvalidAuthManagement` for a range that holds no key, `RoleNotFound`.
    pub async fn role_grant_permission(
        &self,
        request: AuthRoleGrantPermissionRequest,
    ) -> Result<AuthRoleGrantPermissionResponse, Error> {
        let request = InternalRaftRequest {
            auth_role_grant_permission: Some(Box::new(request)),
            ..Default::default()
        };
        let header = self.change_auth(request).await?;
        Ok(AuthRoleGrantPermissionResponse { header })
    }

    /// Takes from a role its permission over exactly a range.
    ///
    /// # Errors
    /// `RoleNotFound`, `PermissionNotGranted`.
    pub async fn role_revoke_permission(
        &self,
        request: AuthRoleRevokePermissionRequest,
    ) -> Result<AuthRoleRevokePermissionResponse, Error> {
        let request = InternalRaftRequest {
            auth_role_revoke_permission: Some(Box::new(request)),
            ..Default::default()
        };
        let header = self.change_auth(request).await?;
        Ok(AuthRoleRevokePermissionResponse { header })
    }

    /// Writes into a request who asks, and refuses what applying it would refuse for want of a user.
    pub(super) fn sign(&self, request: &mut InternalRaftRequest) -> Result<(), RequestError> {
        match &self.caller {
            Caller::Trusted => request.trusted = true,
            Caller::Nobody if self.shared.auth.enabled() => {
                self.shared.state.read().refuse_nobody(request)?;
            }
            // A login is whose the password is, and nothing else is looked at.
            Caller::Stranger if self.shared.auth.enabled() && request.authenticate.is_none() => {
                return Err(AuthError::InvalidAuthToken.into());
            }
            Caller::User { name, revision } if self.shared.auth.enabled() => {
                let auth_revision = match *revision {
                    Caller::AT_PRESENT => self.shared.auth.revision(),
                    named => named,
                };
                request.header = Some(RequestHeader {
                    username: name.to_string(),
                    auth_revision,
                    ..RequestHeader::default()
                });
            }
            Caller::Nobody | Caller::Stranger | Caller::User { .. } => {}
        }
        Ok(())
    }

    async fn ask_auth(&self, request: InternalRaftRequest) -> Result<AuthResponse, Error> {
        match self.propose(request).await? {
            Response::Auth(answer) => Ok(answer),
            other => unexpected(&other),
        }
    }

    async fn change_auth(&self, request: InternalRaftRequest) -> Result<Option<ResponseHeader>, Error> {
        match self.ask_auth(request).await? {
            AuthResponse::Changed(mut header) => {
                self.shared.complete(&mut header);
                Ok(header)
            }
            other => mistaken(&other),
        }
    }
}

/// The log must never hold a password.
fn check_hashed(password: &str) -> Result<(), AuthError> {
    match password.is_empty() {
        true => Ok(()),
        false => Err(AuthError::PasswordInClear),
    }
}

/// As [`unexpected`].
fn mistaken<T>(response: &AuthResponse) -> Result<T, Error> {
    panic!("the answer belongs to another request: {response:?}")
}

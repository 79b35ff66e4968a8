//! Users, roles and permissions: the requests about them, and logins. The rules are `auth/change.rs`'s.

use proto::authpb::Permission;
use proto::authpb::permission::Type;
use proto::etcdserverpb::{
    AuthRoleGetResponse, AuthRoleListResponse, AuthStatusResponse, AuthUserGetResponse, AuthUserListResponse,
    InternalAuthenticateRequest, InternalRaftRequest, ResponseHeader,
};

use super::{Outcome, Response, State};
use crate::auth::{AuthEvent, Done, ROOT};
use crate::error::{AuthError, RequestError};

/// The answer to a request about auth.
#[derive(Debug)]
pub enum AuthResponse {
    /// To a change.
    Changed(Option<ResponseHeader>),
    /// To AuthStatus.
    Status(AuthStatusResponse),
    /// To UserGet.
    UserGet(AuthUserGetResponse),
    /// To UserList.
    UserList(AuthUserListResponse),
    /// To RoleGet.
    RoleGet(AuthRoleGetResponse),
    /// To RoleList.
    RoleList(AuthRoleListResponse),
    /// To Authenticate.
    Authenticated(Authenticated),
}

/// A login that was applied: what the token is made of.
#[derive(Clone, Copy, Debug, Default)]
pub struct Authenticated {
    /// The header, with the revision only until it is completed.
    pub header: Option<ResponseHeader>,
    /// The index of the entry, which ends a simple token.
    pub index: u64,
    /// The revision of auth, which a signed token names.
    pub revision: u64,
}

impl State {
    /// Applies a request about auth; nothing for any other.
    pub(super) fn auth_request(&mut self, request: InternalRaftRequest) -> Result<Outcome, RequestError> {
        if let Some(login) = request.authenticate {
            return self.authenticate(*login);
        }
        match self.read_auth(&request) {
            Some(answer) => Ok(Outcome::of(Response::Auth(answer?))),
            None => self.change_auth(&request),
        }
    }

    fn change_auth(&mut self, request: &InternalRaftRequest) -> Result<Outcome, RequestError> {
        let Some(done) = self.changed_auth(request) else {
            return Ok(Outcome::nothing());
        };
        let event = done?;
        Ok(Outcome {
            auth: event.map(Box::new),
            ..Outcome::of(Response::Auth(AuthResponse::Changed(self.header())))
        })
    }

    fn changed_auth(&mut self, request: &InternalRaftRequest) -> Option<Done> {
        let auth = &mut self.auth;
        if request.auth_enable.is_some() {
            return Some(auth.enable());
        }
        if request.auth_disable.is_some() {
            return Some(auth.disable());
        }
        if let Some(add) = &request.auth_user_add {
            return Some(auth.add_user(add));
        }
        if let Some(delete) = &request.auth_user_delete {
            return Some(auth.delete_user(&delete.name));
        }
        if let Some(change) = &request.auth_user_change_password {
            return Some(auth.change_password(change));
        }
        if let Some(grant) = &request.auth_user_grant_role {
            return Some(auth.grant_role(&grant.user, &grant.role));
        }
        if let Some(revoke) = &request.auth_user_revoke_role {
            return Some(auth.revoke_role(&revoke.name, &revoke.role));
        }
        if let Some(add) = &request.auth_role_add {
            return Some(auth.add_role(&add.name));
        }
        if let Some(delete) = &request.auth_role_delete {
            return Some(auth.delete_role(&delete.role));
        }
        if let Some(grant) = &request.auth_role_grant_permission {
            return Some(auth.grant_permission(grant));
        }
        let revoke = request.auth_role_revoke_permission.as_ref()?;
        Some(auth.revoke_permission(revoke))
    }

    fn read_auth(&self, request: &InternalRaftRequest) -> Option<Result<AuthResponse, AuthError>> {
        let (auth, header) = (&self.auth, self.header());
        if request.auth_status.is_some() {
            return Some(Ok(AuthResponse::Status(AuthStatusResponse {
                header,
                enabled: auth.enabled(),
                auth_revision: auth.revision(),
            })));
        }
        if let Some(get) = &request.auth_user_get {
            let user = auth.user(&get.name).ok_or(AuthError::UserNotFound);
            return Some(user.map(|user| {
                let roles = user.roles().to_vec();
                AuthResponse::UserGet(AuthUserGetResponse { header, roles })
            }));
        }
        if request.auth_user_list.is_some() {
            let users = auth.users().map(str::to_owned).collect();
            return Some(Ok(AuthResponse::UserList(AuthUserListResponse { header, users })));
        }
        if let Some(get) = &request.auth_role_get {
            let role = auth.role(&get.role).ok_or(AuthError::RoleNotFound);
            return Some(role.map(|role| {
                let perm = match get.role == ROOT {
                    true => vec![everything()],
                    false => role.permissions().to_vec(),
                };
                AuthResponse::RoleGet(AuthRoleGetResponse { header, perm })
            }));
        }
        request.auth_role_list.as_ref()?;
        let roles = auth.roles().map(str::to_owned).collect();
        Some(Ok(AuthResponse::RoleList(AuthRoleListResponse { header, roles })))
    }

    /// Every member learns of the token, so that any of them takes it.
    fn authenticate(&mut self, login: InternalAuthenticateRequest) -> Result<Outcome, RequestError> {
        self.auth.authenticate(&login.name)?;
        let index = self.applied().0;
        let answer = Authenticated {
            header: self.header(),
            index,
            revision: self.auth.revision(),
        };
        let event = AuthEvent::Authenticated {
            name: login.name,
            simple_token: login.simple_token,
            index,
        };
        Ok(Outcome {
            auth: Some(Box::new(event)),
            ..Outcome::of(Response::Auth(AuthResponse::Authenticated(answer)))
        })
    }
}

/// What the role `root` may do, in words of permissions.
fn everything() -> Permission {
    Permission {
        perm_type: Type::Readwrite.into(),
        key: bytes::Bytes::new(),
        range_end: bytes::Bytes::from_static(b"\0"),
    }
}

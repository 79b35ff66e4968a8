//! Users, roles and logins, and the refusals that every test of auth expects.

use std::fmt::Debug;

use bytes::Bytes;
use proto::authpb::permission::Type;
use proto::authpb::{Permission, UserAddOptions};
use proto::etcdserverpb::{
    AuthDisableRequest, AuthEnableRequest, AuthRoleAddRequest, AuthRoleGrantPermissionRequest,
    AuthStatusRequest, AuthStatusResponse, AuthUserAddRequest, AuthUserChangePasswordRequest,
    AuthUserDeleteRequest, AuthUserGrantRoleRequest, AuthUserRevokeRoleRequest, AuthenticateRequest,
};
use tonic::{Code, Status};

use super::client::assert_status;
use super::requests::{bytes, prefix_end};
use super::{Client, Server};

/// Hashes of the lowest cost, so that tests do not wait for them.
pub(crate) const CHEAP_HASHES: &str = "--bcrypt-cost=4";

/// The password that tests give to a user.
pub(crate) fn password_of(user: &str) -> String {
    format!("Sesame-{user}-0815")
}

impl Client {
    /// Adds a user with the password that all tests know.
    pub(crate) async fn add_user(&self, name: &str) {
        self.try_add_user(name, &password_of(name))
            .await
            .expect("the user is added");
    }

    pub(crate) async fn try_add_user(&self, name: &str, password: &str) -> Result<(), Status> {
        let request = AuthUserAddRequest {
            name: name.to_owned(),
            password: password.to_owned(),
            options: Some(UserAddOptions { no_password: false }),
            ..Default::default()
        };
        self.auth.clone().user_add(request).await.map(|_| ())
    }

    pub(crate) async fn delete_user(&self, name: &str) -> Result<(), Status> {
        let request = AuthUserDeleteRequest {
            name: name.to_owned(),
        };
        self.auth.clone().user_delete(request).await.map(|_| ())
    }

    pub(crate) async fn change_password(&self, name: &str, password: &str) {
        let request = AuthUserChangePasswordRequest {
            name: name.to_owned(),
            password: password.to_owned(),
            ..Default::default()
        };
        self.auth
            .clone()
            .user_change_password(request)
            .await
            .expect("the password is changed");
    }

    pub(crate) async fn add_role(&self, name: &str) {
        let request = AuthRoleAddRequest {
            name: name.to_owned(),
        };
        self.auth
            .clone()
            .role_add(request)
            .await
            .expect("the role is added");
    }

    pub(crate) async fn grant_role(&self, user: &str, role: &str) -> Result<(), Status> {
        let request = AuthUserGrantRoleRequest {
            user: user.to_owned(),
            role: role.to_owned(),
        };
        self.auth.clone().user_grant_role(request).await.map(|_| ())
    }

    pub(crate) async fn revoke_role(&self, user: &str, role: &str) -> Result<(), Status> {
        let request = AuthUserRevokeRoleRequest {
            name: user.to_owned(),
            role: role.to_owned(),
        };
        self.auth.clone().user_revoke_role(request).await.map(|_| ())
    }

    pub(crate) async fn permit(&self, role: &str, kind: Type, key: &str, range_end: impl Into<Bytes>) {
        self.try_permit(role, kind, key, range_end)
            .await
            .expect("the permission is granted");
    }

    pub(crate) async fn try_permit(
        &self,
        role: &str,
        kind: Type,
        key: &str,
        range_end: impl Into<Bytes>,
    ) -> Result<(), Status> {
        let request = AuthRoleGrantPermissionRequest {
            name: role.to_owned(),
            perm: Some(Permission {
                perm_type: kind as i32,
                key: bytes(key),
                range_end: range_end.into(),
            }),
        };
        self.auth.clone().role_grant_permission(request).await.map(|_| ())
    }

    /// A user who has one role of the same name, which permits this on the keys with a prefix.
    pub(crate) async fn add_user_with(&self, name: &str, kind: Type, prefix: &str) {
        self.add_user(name).await;
        self.add_role(name).await;
        self.permit(name, kind, prefix, prefix_end(prefix)).await;
        self.grant_role(name, name).await.expect("the role is granted");
    }

    /// A new token of a user.
    pub(crate) async fn login(&self, name: &str) -> String {
        self.try_login(name, &password_of(name))
            .await
            .expect("the user logs in")
    }

    pub(crate) async fn try_login(&self, name: &str, password: &str) -> Result<String, Status> {
        let request = AuthenticateRequest {
            name: name.to_owned(),
            password: password.to_owned(),
        };
        let answer = self.auth.clone().authenticate(request).await?;
        Ok(answer.into_inner().token)
    }

    /// The same connection as another user.
    pub(crate) async fn as_user(&self, name: &str) -> Client {
        self.with_token(&self.login(name).await)
    }

    pub(crate) async fn add_root(&self) {
        self.add_user("root").await;
        self.grant_role("root", "root")
            .await
            .expect("the role is granted");
    }

    /// Adds a user root, switches auth on, and returns root.
    pub(crate) async fn enable_auth(&self) -> Client {
        self.add_root().await;
        self.try_enable_auth().await.expect("auth is enabled");
        self.as_user("root").await
    }

    pub(crate) async fn try_enable_auth(&self) -> Result<(), Status> {
        self.auth
            .clone()
            .auth_enable(AuthEnableRequest {})
            .await
            .map(|_| ())
    }

    pub(crate) async fn try_disable_auth(&self) -> Result<(), Status> {
        self.auth
            .clone()
            .auth_disable(AuthDisableRequest {})
            .await
            .map(|_| ())
    }

    pub(crate) async fn auth_status(&self) -> Result<AuthStatusResponse, Status> {
        let answer = self.auth.clone().auth_status(AuthStatusRequest {}).await?;
        Ok(answer.into_inner())
    }
}

impl Server {
    /// A fresh store with auth on, and its root.
    pub(crate) async fn start_with_auth(flags: &[&str]) -> (Server, Client) {
        let flags: Vec<&str> = flags.iter().copied().chain([CHEAP_HASHES]).collect();
        let server = Server::start_with(&flags);
        let root = server.client().await.enable_auth().await;
        (server, root)
    }
}

#[track_caller]
pub(crate) fn assert_denied<T: Debug>(result: Result<T, Status>) {
    assert_status(result, Code::PermissionDenied, "etcdserver: permission denied");
}

/// What a call is answered with that brings no identity.
#[track_caller]
pub(crate) fn assert_nobody<T: Debug>(result: Result<T, Status>) {
    assert_status(result, Code::InvalidArgument, "etcdserver: user name is empty");
}

#[track_caller]
pub(crate) fn assert_bad_token<T: Debug>(result: Result<T, Status>) {
    assert_status(result, Code::Unauthenticated, "etcdserver: invalid auth token");
}

#[track_caller]
pub(crate) fn assert_old_revision<T: Debug>(result: Result<T, Status>) {
    assert_status(
        result,
        Code::InvalidArgument,
        "etcdserver: revision of auth store is old",
    );
}

#[track_caller]
pub(crate) fn assert_bad_management<T: Debug>(result: Result<T, Status>) {
    assert_status(
        result,
        Code::InvalidArgument,
        "etcdserver: invalid auth management",
    );
}

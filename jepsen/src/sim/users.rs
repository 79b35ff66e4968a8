//! Users and roles that change in a run: what an operator may ask for, drawn at random among few names, so that changes
//! meet each other, and how it is asked.

use proto::authpb::Permission;
use proto::authpb::permission::Type;
use proto::etcdserverpb::{
    AuthDisableRequest, AuthEnableRequest, AuthRoleAddRequest, AuthRoleDeleteRequest,
    AuthRoleGrantPermissionRequest, AuthUserAddRequest, AuthUserDeleteRequest, AuthUserGrantRoleRequest,
    AuthUserRevokeRoleRequest,
};
use store::auth::{AuthState, Caller, ROOT};
use store::error::Error;
use store::shell::Store;

use crate::rng::Rng;

/// A change of users or roles; names are numbers, the first user and the first role being `root`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UserChange {
    /// A new user.
    AddUser(usize),
    /// One user less.
    DeleteUser(usize),
    /// A role for a user.
    Grant(usize, usize),
    /// A role less for a user.
    Revoke(usize, usize),
    /// A new role.
    AddRole(usize),
    /// One role less.
    DeleteRole(usize),
    /// A permission over a key for a role.
    GrantPermission(usize, u8),
    /// Judging begins.
    Enable,
    /// Judging ends.
    Disable,
}

/// What has to happen before anything can be judged.
pub const FIRST: [UserChange; 3] = [
    UserChange::AddUser(0),
    UserChange::Grant(0, 0),
    UserChange::Enable,
];

impl UserChange {
    /// Any of them.
    pub fn draw(rng: &mut Rng) -> Self {
        let (user, role) = (rng.index(USERS), rng.index(ROLES));
        match rng.index(12) {
            0 | 1 => UserChange::AddUser(user),
            2 => UserChange::DeleteUser(user),
            3 | 4 => UserChange::Grant(user, role),
            5 => UserChange::Revoke(user, role),
            6 => UserChange::AddRole(role),
            7 => UserChange::DeleteRole(role),
            8 => UserChange::Disable,
            9 | 10 => UserChange::Enable,
            _ => UserChange::GrantPermission(role, b'a' + u8::try_from(rng.index(26)).unwrap_or_default()),
        }
    }

    /// Asks for it.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn ask(self, store: &Store) -> Result<(), Error> {
        match self {
            UserChange::AddUser(user) => {
                let request = AuthUserAddRequest {
                    name: name(user),
                    hashed_password: "aGFzaA==".to_owned(),
                    ..AuthUserAddRequest::default()
                };
                store.user_add(request).await.map(drop)
            }
            UserChange::DeleteUser(user) => {
                let request = AuthUserDeleteRequest { name: name(user) };
                store.user_delete(request).await.map(drop)
            }
            UserChange::Grant(user, role) => {
                let request = AuthUserGrantRoleRequest {
                    user: name(user),
                    role: name(role),
                };
                store.user_grant_role(request).await.map(drop)
            }
            UserChange::Revoke(user, role) => {
                let request = AuthUserRevokeRoleRequest {
                    name: name(user),
                    role: name(role),
                };
                store.user_revoke_role(request).await.map(drop)
            }
            UserChange::AddRole(role) => {
                let request = AuthRoleAddRequest { name: name(role) };
                store.role_add(request).await.map(drop)
            }
            UserChange::DeleteRole(role) => {
                let request = AuthRoleDeleteRequest { role: name(role) };
                store.role_delete(request).await.map(drop)
            }
            UserChange::GrantPermission(role, key) => {
                let request = AuthRoleGrantPermissionRequest {
                    name: name(role),
                    perm: Some(Permission {
                        perm_type: Type::Readwrite.into(),
                        key: vec![key].into(),
                        range_end: vec![key + 1].into(),
                    }),
                };
                store.role_grant_permission(request).await.map(drop)
            }
            UserChange::Enable => store.auth_enable(AuthEnableRequest {}).await.map(drop),
            UserChange::Disable => store.auth_disable(AuthDisableRequest {}).await.map(drop),
        }
    }
}

/// Whose a call is: while auth is on, every other one is an administrator's, so that its entry is judged.
#[must_use]
pub fn store_for(store: &Store, call: u64) -> Store {
    if call.is_multiple_of(2) && store.auth_enabled() {
        return store.acting_as(Caller::User {
            name: ROOT.into(),
            revision: Caller::AT_PRESENT,
        });
    }
    store.clone()
}

/// A number that tells auth states apart.
#[must_use]
pub fn fingerprint(auth: &AuthState) -> u64 {
    let mut hash = FNV_OFFSET;
    for (key, value) in auth.encode() {
        for byte in key.iter().chain(&value) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME);
        }
    }
    hash
}

fn name(number: usize) -> String {
    match number {
        0 => ROOT.to_owned(),
        number => format!("n{number}"),
    }
}

/// How many names there are of users, and of roles.
const USERS: usize = 4;
const ROLES: usize = 3;
/// Of the hash FNV-1a.
const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;

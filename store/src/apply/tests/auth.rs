//! The commands of scripts about auth.

use proto::authpb::{Permission, UserAddOptions};
use proto::etcdserverpb::{
    AuthDisableRequest, AuthEnableRequest, AuthRoleAddRequest, AuthRoleDeleteRequest, AuthRoleGetRequest,
    AuthRoleGrantPermissionRequest, AuthRoleListRequest, AuthRoleRevokePermissionRequest, AuthStatusRequest,
    AuthUserAddRequest, AuthUserChangePasswordRequest, AuthUserDeleteRequest, AuthUserGetRequest,
    AuthUserGrantRoleRequest, AuthUserListRequest, AuthUserRevokeRoleRequest, InternalAuthenticateRequest,
    RequestHeader,
};

use super::{Words, World, bytes, named};
use crate::apply::{InternalRaftRequest, Request};
use crate::auth::{Caller, Identity};
use crate::types::{KeyRange, LeaseId};

/// Fills in a request about auth; false for a command of another kind.
pub(super) fn fill(command: &str, words: &mut Words<'_>, request: &mut InternalRaftRequest) -> bool {
    match command {
        "auth" => match words.next() {
            "on" => request.auth_enable = Some(Box::new(AuthEnableRequest {})),
            "off" => request.auth_disable = Some(Box::new(AuthDisableRequest {})),
            "status" => request.auth_status = Some(Box::new(AuthStatusRequest {})),
            other => panic!("auth {other}"),
        },
        "login" => {
            request.authenticate = Some(Box::new(InternalAuthenticateRequest {
                name: name(words),
                simple_token: "token".to_owned(),
                ..Default::default()
            }));
        }
        "user" => user(words, request),
        "role" => role(words, request),
        _ => return false,
    }
    true
}

fn user(words: &mut Words<'_>, request: &mut InternalRaftRequest) {
    match words.next() {
        "add" => {
            let name = name(words);
            let no_password = words.ends("nopw");
            request.auth_user_add = Some(Box::new(AuthUserAddRequest {
                name,
                options: no_password.then_some(UserAddOptions { no_password }),
                hashed_password: words.option("hash").unwrap_or("aGFzaA==").to_owned(),
                ..Default::default()
            }));
        }
        "passwd" => {
            request.auth_user_change_password = Some(Box::new(AuthUserChangePasswordRequest {
                name: name(words),
                hashed_password: words.option("hash").unwrap_or("b3RoZXI=").to_owned(),
                ..Default::default()
            }));
        }
        "del" => request.auth_user_delete = Some(Box::new(AuthUserDeleteRequest { name: name(words) })),
        "get" => request.auth_user_get = Some(Box::new(AuthUserGetRequest { name: name(words) })),
        "list" => request.auth_user_list = Some(Box::new(AuthUserListRequest {})),
        "grant" => {
            let (user, role) = (name(words), name(words));
            request.auth_user_grant_role = Some(Box::new(AuthUserGrantRoleRequest { user, role }));
        }
        "revoke" => {
            let (name, role) = (name(words), name(words));
            request.auth_user_revoke_role = Some(Box::new(AuthUserRevokeRoleRequest { name, role }));
        }
        other => panic!("user {other}"),
    }
}

fn role(words: &mut Words<'_>, request: &mut InternalRaftRequest) {
    match words.next() {
        "add" => request.auth_role_add = Some(Box::new(AuthRoleAddRequest { name: name(words) })),
        "del" => request.auth_role_delete = Some(Box::new(AuthRoleDeleteRequest { role: name(words) })),
        "get" => request.auth_role_get = Some(Box::new(AuthRoleGetRequest { role: name(words) })),
        "list" => request.auth_role_list = Some(Box::new(AuthRoleListRequest {})),
        "grant" => {
            let name = name(words);
            let perm = (!words.ends("nothing")).then(|| Permission {
                perm_type: named(words.next(), &["read", "write", "readwrite"]),
                key: bytes(words.next()),
                range_end: words.option("end").map(bytes).unwrap_or_default(),
            });
            request.auth_role_grant_permission =
                Some(Box::new(AuthRoleGrantPermissionRequest { name, perm }));
        }
        "revoke" => {
            request.auth_role_revoke_permission = Some(Box::new(AuthRoleRevokePermissionRequest {
                role: name(words),
                key: bytes(words.next()),
                range_end: words.option("end").map(bytes).unwrap_or_default(),
            }));
        }
        other => panic!("role {other}"),
    }
}

/// A name; `-` is the empty one.
fn name(words: &mut Words<'_>) -> String {
    match words.next() {
        "-" => String::new(),
        name => name.to_owned(),
    }
}

impl World {
    /// From now on it is somebody else who asks.
    pub(super) fn become_caller(&mut self, words: &mut Words<'_>) {
        self.caller = match words.next() {
            "trusted" => Caller::Trusted,
            "nobody" => Caller::Nobody,
            name => {
                let revision = words.option("rev").map(|revision| revision.parse().unwrap());
                let name = if name == "-" { "" } else { name };
                Caller::User {
                    name: name.into(),
                    revision: revision.unwrap_or(Caller::AT_PRESENT),
                }
            }
        };
    }

    /// Writes into a request who asks, as the handle does.
    pub(super) fn sign(&self, request: &mut InternalRaftRequest) {
        match self.caller.identity(&self.state.auth) {
            Identity::Trusted => request.trusted = true,
            Identity::User { name, revision } if self.state.auth.enabled() => {
                request.header = Some(RequestHeader {
                    username: name.to_owned(),
                    auth_revision: revision,
                    ..Default::default()
                });
            }
            _ => {}
        }
    }

    /// What is judged where it is served.
    pub(super) fn may(&self, words: &mut Words<'_>) -> Vec<String> {
        let range;
        let request = match words.next() {
            "watch" => {
                let key = bytes(words.next());
                range = KeyRange::new(key, words.option("end").map(bytes).unwrap_or_default());
                Request::Watch(&range)
            }
            "grant" => Request::LeaseGrant,
            "renew" => Request::LeaseKeepAlive(LeaseId(words.number())),
            "ttl" => Request::LeaseTimeToLive {
                lease: LeaseId(words.number()),
                keys: words.ends("keys"),
            },
            "leases" => Request::LeaseLeases,
            "alarms" => Request::AlarmList,
            "alarm" => Request::AlarmChange,
            "members" => Request::MemberList,
            "member" => Request::MemberChange,
            "status" => Request::Status,
            "maintain" => Request::Maintenance,
            other => panic!("may {other}"),
        };
        vec![self.judged(request).unwrap_or_else(|refusal| refusal)]
    }

    pub(super) fn judged(&self, request: Request<'_>) -> Result<String, String> {
        let judged = self.state.judge(self.caller.identity(&self.state.auth), request);
        judged
            .map(|()| "yes".to_owned())
            .map_err(|error| format!("no: {error}"))
    }
}

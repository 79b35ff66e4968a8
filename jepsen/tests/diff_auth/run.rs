//! One sequence on both servers, step by step, until the first difference; and what is done behind it.

use proto::authpb::{Permission, UserAddOptions};
use proto::etcdserverpb::compare::{CompareTarget, TargetUnion};
use proto::etcdserverpb::request_op::Request as OpRequest;
use proto::etcdserverpb::watch_request::RequestUnion;
use proto::etcdserverpb::*;

use super::duo::{Duo, Token, Unlike};
use super::steps::{Keys, LEASES, Op, PASSWORDS, Step, Txn, What, Who};

/// What of a sequence is remembered.
#[derive(Default)]
struct Memory {
    /// The newest last.
    logins: Vec<Token>,
}

type Checked = Result<(), Unlike>;

impl Duo {
    /// Runs a sequence and cleans up behind it. After a difference the servers are to be given up.
    pub(crate) async fn run(&mut self, steps: &[Step]) -> Result<(), String> {
        let mut memory = Memory::default();
        for (number, step) in steps.iter().enumerate() {
            self.step(&mut memory, step)
                .await
                .map_err(|unlike| format!("step {}: {step}\n{unlike}", number + 1))?;
            self.ask::<_, AuthStatusResponse>(None, "/etcdserverpb.Auth/AuthStatus", AuthStatusRequest {})
                .await
                .map_err(|unlike| format!("the status after step {}: {step}\n{unlike}", number + 1))?
                .map_err(|status| format!("the status after step {}: {status}", number + 1))?;
        }
        self.clean()
            .await
            .map_err(|unlike| format!("cleaning up: {unlike}"))
    }

    async fn step(&mut self, memory: &mut Memory, step: &Step) -> Checked {
        let token = match step.who {
            Who::Nobody => None,
            Who::Junk => Some(["junk".to_owned(), "junk".to_owned()]),
            Who::Root => self.root().await?,
            Who::Login(back) => {
                let logins = &memory.logins;
                let at = logins.len().checked_sub(1 + back % logins.len().max(1));
                at.map(|at| logins[at].clone())
            }
        };
        let token = token.as_ref();
        match &step.what {
            What::Authenticate(name, password) => {
                if let Some(login) = self.log_in(name, password).await? {
                    memory.logins.push(login);
                }
                Ok(())
            }
            What::Permit(role, Some((_, keys))) if self.is_granted_behind_another(role, *keys).await? => {
                Ok(())
            }
            What::Enable
            | What::Disable
            | What::AuthStatus
            | What::UserAdd(..)
            | What::UserGet(_)
            | What::UserList
            | What::UserDelete(_)
            | What::ChangePassword(..)
            | What::GrantRole(..)
            | What::RevokeRole(..) => self.on_users(token, &step.what).await,
            What::RoleAdd(_)
            | What::RoleGet(_)
            | What::RoleList
            | What::RoleDelete(_)
            | What::Permit(..)
            | What::Forbid(..) => self.on_roles(token, &step.what).await,
            What::LeaseGrant(_)
            | What::LeaseRevoke(_)
            | What::KeepAlive(_)
            | What::TimeToLive(..)
            | What::Leases => self.on_leases(token, &step.what).await,
            What::MemberList(_)
            | What::MemberRemove
            | What::Alarm(_)
            | What::Status
            | What::Defragment
            | What::Hash
            | What::HashKv
            | What::Snapshot
            | What::MoveLeader
            | What::Downgrade => self.on_cluster(token, &step.what).await,
            _ => self.on_keys(token, &step.what).await,
        }
    }

    /// A login; nothing if it is refused.
    async fn log_in(&mut self, name: &str, password: &str) -> Result<Option<Token>, Unlike> {
        let request = AuthenticateRequest {
            name: name.to_owned(),
            password: password.to_owned(),
        };
        let answers = self
            .ask::<_, AuthenticateResponse>(None, "/etcdserverpb.Auth/Authenticate", request)
            .await?;
        Ok(answers.ok().map(|answers| answers.map(|answer| answer.token)))
    }

    /// A new token of root's, if there is any to be had.
    async fn root(&mut self) -> Result<Option<Token>, Unlike> {
        for password in PASSWORDS {
            let login = self.log_in("root", password).await?;
            if login.is_some() {
                return Ok(login);
            }
        }
        Ok(None)
    }

    /// A permission over a range that the role has already, with another one of the same first key before it: etcd
    /// looks at the first only, and then holds two of the same range, the old type in force beside the new.
    async fn is_granted_behind_another(&mut self, role: &str, keys: Keys) -> Result<bool, Unlike> {
        let token = self.root().await?;
        let request = AuthRoleGetRequest {
            role: role.to_owned(),
        };
        let held = self
            .ask::<_, AuthRoleGetResponse>(token.as_ref(), "/etcdserverpb.Auth/RoleGet", request)
            .await?;
        let Ok([held, _]) = held else {
            return Ok(false);
        };
        let of_key: Vec<&Permission> = held.perm.iter().filter(|perm| perm.key == keys.0).collect();
        Ok(of_key.iter().skip(1).any(|perm| perm.range_end == keys.1))
    }

    async fn on_users(&mut self, token: Option<&Token>, what: &What) -> Checked {
        let name = |name: &str| name.to_owned();
        match what {
            What::Enable => {
                self.go::<_, AuthEnableResponse>(token, "AuthEnable", AuthEnableRequest {})
                    .await
            }
            What::Disable => {
                self.go::<_, AuthDisableResponse>(token, "AuthDisable", AuthDisableRequest {})
                    .await
            }
            What::AuthStatus => {
                self.go::<_, AuthStatusResponse>(token, "AuthStatus", AuthStatusRequest {})
                    .await
            }
            What::UserAdd(user, password, keyless) => {
                let request = AuthUserAddRequest {
                    name: name(user),
                    password: name(password),
                    options: keyless.map(|no_password| UserAddOptions { no_password }),
                    ..Default::default()
                };
                self.go::<_, AuthUserAddResponse>(token, "UserAdd", request).await
            }
            What::UserGet(user) => {
                let request = AuthUserGetRequest { name: name(user) };
                self.go::<_, AuthUserGetResponse>(token, "UserGet", request).await
            }
            What::UserList => {
                self.go::<_, AuthUserListResponse>(token, "UserList", AuthUserListRequest {})
                    .await
            }
            What::UserDelete(user) => {
                let request = AuthUserDeleteRequest { name: name(user) };
                self.go::<_, AuthUserDeleteResponse>(token, "UserDelete", request)
                    .await
            }
            What::ChangePassword(user, password) => {
                let request = AuthUserChangePasswordRequest {
                    name: name(user),
                    password: name(password),
                    ..Default::default()
                };
                self.go::<_, AuthUserChangePasswordResponse>(token, "UserChangePassword", request)
                    .await
            }
            What::GrantRole(user, role) => {
                let request = AuthUserGrantRoleRequest {
                    user: name(user),
                    role: name(role),
                };
                self.go::<_, AuthUserGrantRoleResponse>(token, "UserGrantRole", request)
                    .await
            }
            What::RevokeRole(user, role) => {
                let request = AuthUserRevokeRoleRequest {
                    name: name(user),
                    role: name(role),
                };
                self.go::<_, AuthUserRevokeRoleResponse>(token, "UserRevokeRole", request)
                    .await
            }
            other => unreachable!("{other:?} is not about users"),
        }
    }

    async fn on_roles(&mut self, token: Option<&Token>, what: &What) -> Checked {
        let name = |name: &str| name.to_owned();
        match what {
            What::RoleAdd(role) => {
                let request = AuthRoleAddRequest { name: name(role) };
                self.go::<_, AuthRoleAddResponse>(token, "RoleAdd", request).await
            }
            What::RoleGet(role) => {
                let request = AuthRoleGetRequest { role: name(role) };
                self.go::<_, AuthRoleGetResponse>(token, "RoleGet", request).await
            }
            What::RoleList => {
                self.go::<_, AuthRoleListResponse>(token, "RoleList", AuthRoleListRequest {})
                    .await
            }
            What::RoleDelete(role) => {
                let request = AuthRoleDeleteRequest { role: name(role) };
                self.go::<_, AuthRoleDeleteResponse>(token, "RoleDelete", request)
                    .await
            }
            What::Permit(role, granted) => {
                let request = AuthRoleGrantPermissionRequest {
                    name: name(role),
                    perm: granted.map(|(perm_type, Keys(key, end))| Permission {
                        perm_type,
                        key: key.into(),
                        range_end: end.into(),
                    }),
                };
                self.go::<_, AuthRoleGrantPermissionResponse>(token, "RoleGrantPermission", request)
                    .await
            }
            What::Forbid(role, Keys(key, end)) => {
                let request = AuthRoleRevokePermissionRequest {
                    role: name(role),
                    key: (*key).into(),
                    range_end: (*end).into(),
                };
                self.go::<_, AuthRoleRevokePermissionResponse>(token, "RoleRevokePermission", request)
                    .await
            }
            other => unreachable!("{other:?} is not about roles"),
        }
    }

    async fn on_keys(&mut self, token: Option<&Token>, what: &What) -> Checked {
        match what {
            What::Range(keys, local) => {
                let request = RangeRequest {
                    serializable: *local,
                    ..range(*keys)
                };
                self.go::<_, RangeResponse>(token, "Range", request).await
            }
            What::RangeStream(keys) => {
                self.go::<_, RangeStreamResponse>(token, "RangeStream", range(*keys))
                    .await
            }
            What::Put(key, prev_kv, lease) => {
                let request = put(key, *prev_kv, *lease);
                self.go::<_, PutResponse>(token, "Put", request).await
            }
            What::Delete(keys, prev_kv) => {
                let request = delete(*keys, *prev_kv);
                self.go::<_, DeleteRangeResponse>(token, "DeleteRange", request)
                    .await
            }
            What::Txn(sketch) => self.go::<_, TxnResponse>(token, "Txn", txn(sketch)).await,
            What::Compact => {
                let request = CompactionRequest {
                    revision: i64::MAX,
                    physical: false,
                };
                self.go::<_, CompactionResponse>(token, "Compact", request).await
            }
            What::Watch(Keys(key, end)) => {
                let request = WatchCreateRequest {
                    key: (*key).into(),
                    range_end: (*end).into(),
                    ..Default::default()
                };
                let request = WatchRequest {
                    request_union: Some(RequestUnion::CreateRequest(request)),
                };
                self.go::<_, WatchResponse>(token, "Watch", request).await
            }
            other => unreachable!("{other:?} is not about keys"),
        }
    }

    async fn on_leases(&mut self, token: Option<&Token>, what: &What) -> Checked {
        match *what {
            What::LeaseGrant(id) => {
                let request = LeaseGrantRequest { ttl: 1000, id };
                self.go::<_, LeaseGrantResponse>(token, "LeaseGrant", request)
                    .await
            }
            What::LeaseRevoke(id) => {
                let request = LeaseRevokeRequest { id };
                self.go::<_, LeaseRevokeResponse>(token, "LeaseRevoke", request)
                    .await
            }
            What::KeepAlive(id) => {
                let request = LeaseKeepAliveRequest { id };
                self.go::<_, LeaseKeepAliveResponse>(token, "LeaseKeepAlive", request)
                    .await
            }
            What::TimeToLive(id, keys) => {
                let request = LeaseTimeToLiveRequest { id, keys };
                self.go::<_, LeaseTimeToLiveResponse>(token, "LeaseTimeToLive", request)
                    .await
            }
            What::Leases => {
                self.go::<_, LeaseLeasesResponse>(token, "LeaseLeases", LeaseLeasesRequest {})
                    .await
            }
            ref other => unreachable!("{other:?} is not about leases"),
        }
    }

    async fn on_cluster(&mut self, token: Option<&Token>, what: &What) -> Checked {
        match *what {
            What::MemberList(linearizable) => {
                let request = MemberListRequest { linearizable };
                self.go::<_, MemberListResponse>(token, "MemberList", request)
                    .await
            }
            What::MemberRemove => {
                let request = MemberRemoveRequest { id: 404 };
                self.go::<_, MemberRemoveResponse>(token, "MemberRemove", request)
                    .await
            }
            What::Alarm(action) => {
                let request = AlarmRequest {
                    action,
                    ..Default::default()
                };
                self.go::<_, AlarmResponse>(token, "Alarm", request).await
            }
            What::Status => {
                self.go::<_, StatusResponse>(token, "Status", StatusRequest {})
                    .await
            }
            What::Defragment => {
                self.go::<_, DefragmentResponse>(token, "Defragment", DefragmentRequest {})
                    .await
            }
            What::Hash => self.go::<_, HashResponse>(token, "Hash", HashRequest {}).await,
            What::HashKv => {
                self.go::<_, HashKvResponse>(token, "HashKV", HashKvRequest { revision: 0 })
                    .await
            }
            What::Snapshot => {
                self.go::<_, SnapshotResponse>(token, "Snapshot", SnapshotRequest {})
                    .await
            }
            What::MoveLeader => {
                let request = MoveLeaderRequest { target_id: 404 };
                self.go::<_, MoveLeaderResponse>(token, "MoveLeader", request)
                    .await
            }
            What::Downgrade => {
                let request = DowngradeRequest {
                    action: 0,
                    version: "none".to_owned(),
                };
                self.go::<_, DowngradeResponse>(token, "Downgrade", request).await
            }
            ref other => unreachable!("{other:?} is not about the cluster"),
        }
    }

    /// A call of which only the comparison counts.
    async fn go<Q, A>(&mut self, token: Option<&Token>, method: &str, request: Q) -> Checked
    where
        Q: prost::Message + Clone + Default + 'static,
        A: super::duo::Headed + Clone,
    {
        self.ask::<Q, A>(token, path(method), request).await.map(|_| ())
    }

    /// Brings both back to a store without keys, leases, users and roles and with auth off, and compares what is left.
    async fn clean(&mut self) -> Checked {
        let root = self.root().await?;
        self.on_users(root.as_ref(), &What::Disable).await?;
        let users = self
            .ask::<_, AuthUserListResponse>(None, path("UserList"), AuthUserListRequest {})
            .await?
            .map_err(|status| format!("auth stays on: {status}"))?;
        for user in &users[0].users {
            let request = AuthUserGetRequest { name: user.clone() };
            self.go::<_, AuthUserGetResponse>(None, "UserGet", request)
                .await?;
            let request = AuthUserDeleteRequest { name: user.clone() };
            self.go::<_, AuthUserDeleteResponse>(None, "UserDelete", request)
                .await?;
        }
        let roles = self
            .ask::<_, AuthRoleListResponse>(None, path("RoleList"), AuthRoleListRequest {})
            .await?
            .map_err(|status| status.to_string())?;
        for role in &roles[0].roles {
            let request = AuthRoleGetRequest { role: role.clone() };
            self.go::<_, AuthRoleGetResponse>(None, "RoleGet", request)
                .await?;
            let request = AuthRoleDeleteRequest { role: role.clone() };
            self.go::<_, AuthRoleDeleteResponse>(None, "RoleDelete", request)
                .await?;
        }
        for id in LEASES {
            self.on_leases(None, &What::TimeToLive(id, true)).await?;
            self.on_leases(None, &What::LeaseRevoke(id)).await?;
        }
        self.on_keys(None, &What::Delete(Keys("\0", "\0"), true)).await?;
        self.on_cluster(None, &What::HashKv).await
    }
}

/// The full path of a method, by its name.
fn path(method: &str) -> &'static str {
    PATHS
        .into_iter()
        .find(|path| path.rsplit_once('/').is_some_and(|(_, name)| name == method))
        .expect("a method that sequences call")
}

const PATHS: [&str; 39] = [
    "/etcdserverpb.Auth/AuthEnable",
    "/etcdserverpb.Auth/AuthDisable",
    "/etcdserverpb.Auth/AuthStatus",
    "/etcdserverpb.Auth/Authenticate",
    "/etcdserverpb.Auth/UserAdd",
    "/etcdserverpb.Auth/UserGet",
    "/etcdserverpb.Auth/UserList",
    "/etcdserverpb.Auth/UserDelete",
    "/etcdserverpb.Auth/UserChangePassword",
    "/etcdserverpb.Auth/UserGrantRole",
    "/etcdserverpb.Auth/UserRevokeRole",
    "/etcdserverpb.Auth/RoleAdd",
    "/etcdserverpb.Auth/RoleGet",
    "/etcdserverpb.Auth/RoleList",
    "/etcdserverpb.Auth/RoleDelete",
    "/etcdserverpb.Auth/RoleGrantPermission",
    "/etcdserverpb.Auth/RoleRevokePermission",
    "/etcdserverpb.KV/Range",
    "/etcdserverpb.KV/RangeStream",
    "/etcdserverpb.KV/Put",
    "/etcdserverpb.KV/DeleteRange",
    "/etcdserverpb.KV/Txn",
    "/etcdserverpb.KV/Compact",
    "/etcdserverpb.Watch/Watch",
    "/etcdserverpb.Lease/LeaseGrant",
    "/etcdserverpb.Lease/LeaseRevoke",
    "/etcdserverpb.Lease/LeaseKeepAlive",
    "/etcdserverpb.Lease/LeaseTimeToLive",
    "/etcdserverpb.Lease/LeaseLeases",
    "/etcdserverpb.Cluster/MemberList",
    "/etcdserverpb.Cluster/MemberRemove",
    "/etcdserverpb.Maintenance/Alarm",
    "/etcdserverpb.Maintenance/Status",
    "/etcdserverpb.Maintenance/Defragment",
    "/etcdserverpb.Maintenance/Hash",
    "/etcdserverpb.Maintenance/HashKV",
    "/etcdserverpb.Maintenance/Snapshot",
    "/etcdserverpb.Maintenance/MoveLeader",
    "/etcdserverpb.Maintenance/Downgrade",
];

fn range(Keys(key, end): Keys) -> RangeRequest {
    RangeRequest {
        key: key.into(),
        range_end: end.into(),
        ..Default::default()
    }
}

fn put(key: &'static str, prev_kv: bool, lease: i64) -> PutRequest {
    PutRequest {
        key: key.into(),
        value: "v".into(),
        prev_kv,
        lease,
        ..Default::default()
    }
}

fn delete(Keys(key, end): Keys, prev_kv: bool) -> DeleteRangeRequest {
    DeleteRangeRequest {
        key: key.into(),
        range_end: end.into(),
        prev_kv,
    }
}

fn txn(sketch: &Txn) -> TxnRequest {
    let compare = |Keys(key, end): &Keys| Compare {
        target: CompareTarget::Version.into(),
        target_union: Some(TargetUnion::Version(0)),
        key: (*key).into(),
        range_end: (*end).into(),
        ..Default::default()
    };
    let op = |op: &Op| RequestOp {
        request: Some(match op {
            Op::Range(keys) => OpRequest::RequestRange(range(*keys)),
            Op::Put(key, prev_kv, lease) => OpRequest::RequestPut(put(key, *prev_kv, *lease)),
            Op::Delete(keys, prev_kv) => OpRequest::RequestDeleteRange(delete(*keys, *prev_kv)),
            Op::Txn(inner) => OpRequest::RequestTxn(txn(inner)),
        }),
    };
    TxnRequest {
        compare: sketch.compares.iter().map(compare).collect(),
        success: sketch.success.iter().map(op).collect(),
        failure: sketch.failure.iter().map(op).collect(),
    }
}

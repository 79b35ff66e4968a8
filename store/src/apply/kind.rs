//! The kinds of requests, under the names that etcd's metrics give them.

use proto::etcdserverpb::InternalRaftRequest;

/// What a request asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the names are those of the requests")]
pub enum RequestKind {
    Range,
    ReadonlyTxn,
    Put,
    DeleteRange,
    Txn,
    Compaction,
    LeaseGrant,
    LeaseRevoke,
    LeaseCheckpoint,
    Alarm,
    ClusterVersionSet,
    ClusterMemberAttrSet,
    DowngradeInfoSet,
    AuthEnable,
    AuthDisable,
    AuthStatus,
    Authenticate,
    AuthUserAdd,
    AuthUserDelete,
    AuthUserGet,
    AuthUserChangePassword,
    AuthUserGrantRole,
    AuthUserRevokeRole,
    AuthUserList,
    AuthRoleAdd,
    AuthRoleDelete,
    AuthRoleGet,
    AuthRoleList,
    AuthRoleGrantPermission,
    AuthRoleRevokePermission,
    /// Anything else.
    Unknown,
}

impl RequestKind {
    /// All of them, in the order of their discriminants.
    pub const ALL: [RequestKind; 31] = [
        RequestKind::Range,
        RequestKind::ReadonlyTxn,
        RequestKind::Put,
        RequestKind::DeleteRange,
        RequestKind::Txn,
        RequestKind::Compaction,
        RequestKind::LeaseGrant,
        RequestKind::LeaseRevoke,
        RequestKind::LeaseCheckpoint,
        RequestKind::Alarm,
        RequestKind::ClusterVersionSet,
        RequestKind::ClusterMemberAttrSet,
        RequestKind::DowngradeInfoSet,
        RequestKind::AuthEnable,
        RequestKind::AuthDisable,
        RequestKind::AuthStatus,
        RequestKind::Authenticate,
        RequestKind::AuthUserAdd,
        RequestKind::AuthUserDelete,
        RequestKind::AuthUserGet,
        RequestKind::AuthUserChangePassword,
        RequestKind::AuthUserGrantRole,
        RequestKind::AuthUserRevokeRole,
        RequestKind::AuthUserList,
        RequestKind::AuthRoleAdd,
        RequestKind::AuthRoleDelete,
        RequestKind::AuthRoleGet,
        RequestKind::AuthRoleList,
        RequestKind::AuthRoleGrantPermission,
        RequestKind::AuthRoleRevokePermission,
        RequestKind::Unknown,
    ];

    /// The kind of a replicated request.
    #[must_use]
    pub fn of(request: &InternalRaftRequest) -> RequestKind {
        let kinds = [
            (request.put.is_some(), RequestKind::Put),
            (request.delete_range.is_some(), RequestKind::DeleteRange),
            (request.txn.is_some(), RequestKind::Txn),
            (request.compaction.is_some(), RequestKind::Compaction),
            (request.lease_grant.is_some(), RequestKind::LeaseGrant),
            (request.lease_revoke.is_some(), RequestKind::LeaseRevoke),
            (request.lease_checkpoint.is_some(), RequestKind::LeaseCheckpoint),
            (request.alarm.is_some(), RequestKind::Alarm),
            (
                request.cluster_version_set.is_some(),
                RequestKind::ClusterVersionSet,
            ),
            (
                request.cluster_member_attr_set.is_some(),
                RequestKind::ClusterMemberAttrSet,
            ),
            (
                request.downgrade_info_set.is_some(),
                RequestKind::DowngradeInfoSet,
            ),
        ];
        let found = kinds.into_iter().find(|(is, _)| *is);
        found.map_or_else(|| RequestKind::of_auth(request), |(_, kind)| kind)
    }

    /// The kind of a request about auth.
    fn of_auth(request: &InternalRaftRequest) -> RequestKind {
        let kinds = [
            (request.auth_enable.is_some(), RequestKind::AuthEnable),
            (request.auth_disable.is_some(), RequestKind::AuthDisable),
            (request.auth_status.is_some(), RequestKind::AuthStatus),
            (request.authenticate.is_some(), RequestKind::Authenticate),
            (request.auth_user_add.is_some(), RequestKind::AuthUserAdd),
            (request.auth_user_delete.is_some(), RequestKind::AuthUserDelete),
            (request.auth_user_get.is_some(), RequestKind::AuthUserGet),
            (
                request.auth_user_change_password.is_some(),
                RequestKind::AuthUserChangePassword,
            ),
            (
                request.auth_user_grant_role.is_some(),
                RequestKind::AuthUserGrantRole,
            ),
            (
                request.auth_user_revoke_role.is_some(),
                RequestKind::AuthUserRevokeRole,
            ),
            (request.auth_user_list.is_some(), RequestKind::AuthUserList),
            (request.auth_role_add.is_some(), RequestKind::AuthRoleAdd),
            (request.auth_role_delete.is_some(), RequestKind::AuthRoleDelete),
            (request.auth_role_get.is_some(), RequestKind::AuthRoleGet),
            (request.auth_role_list.is_some(), RequestKind::AuthRoleList),
            (
                request.auth_role_grant_permission.is_some(),
                RequestKind::AuthRoleGrantPermission,
            ),
            (
                request.auth_role_revoke_permission.is_some(),
                RequestKind::AuthRoleRevokePermission,
            ),
        ];
        let found = kinds.into_iter().find(|(is, _)| *is);
        found.map_or(RequestKind::Unknown, |(_, kind)| kind)
    }

    /// The name in the labels `type` and `op`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            RequestKind::Range => "Range",
            RequestKind::ReadonlyTxn => "ReadonlyTxn",
            RequestKind::Put => "Put",
            RequestKind::DeleteRange => "DeleteRange",
            RequestKind::Txn => "Txn",
            RequestKind::Compaction => "Compaction",
            RequestKind::LeaseGrant => "LeaseGrant",
            RequestKind::LeaseRevoke => "LeaseRevoke",
            RequestKind::LeaseCheckpoint => "LeaseCheckpoint",
            RequestKind::Alarm => "Alarm",
            RequestKind::ClusterVersionSet => "ClusterVersionSet",
            RequestKind::ClusterMemberAttrSet => "ClusterMemberAttrSet",
            RequestKind::DowngradeInfoSet => "DowngradeInfoSet",
            RequestKind::AuthEnable => "AuthEnable",
            RequestKind::AuthDisable => "AuthDisable",
            RequestKind::AuthStatus => "AuthStatus",
            RequestKind::Authenticate => "Authenticate",
            RequestKind::AuthUserAdd => "AuthUserAdd",
            RequestKind::AuthUserDelete => "AuthUserDelete",
            RequestKind::AuthUserGet => "AuthUserGet",
            RequestKind::AuthUserChangePassword => "AuthUserChangePassword",
            RequestKind::AuthUserGrantRole => "AuthUserGrantRole",
            RequestKind::AuthUserRevokeRole => "AuthUserRevokeRole",
            RequestKind::AuthUserList => "AuthUserList",
            RequestKind::AuthRoleAdd => "AuthRoleAdd",
            RequestKind::AuthRoleDelete => "AuthRoleDelete",
            RequestKind::AuthRoleGet => "AuthRoleGet",
            RequestKind::AuthRoleList => "AuthRoleList",
            RequestKind::AuthRoleGrantPermission => "AuthRoleGrantPermission",
            RequestKind::AuthRoleRevokePermission => "AuthRoleRevokePermission",
            RequestKind::Unknown => "Unknown",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_stand_in_their_places() {
        for (place, kind) in RequestKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, place);
        }
        let put = InternalRaftRequest {
            put: Some(proto::etcdserverpb::PutRequest::default()),
            ..Default::default()
        };
        assert_eq!(RequestKind::of(&put), RequestKind::Put);
        assert_eq!(
            RequestKind::of(&InternalRaftRequest::default()),
            RequestKind::Unknown
        );
    }
}

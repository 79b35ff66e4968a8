//! The rows of the services around the keys.

use bytes::Bytes;
use proto::authpb::Permission;
use proto::etcdserverpb::*;
use proto::health::HealthCheckRequest;
use proto::v3electionpb::{CampaignRequest, LeaderKey, LeaderRequest, ProclaimRequest, ResignRequest};
use proto::v3lockpb::{LockRequest, UnlockRequest};
use tonic::Code;

use crate::auth_matrix::table::{BOTH, ELECTION, LEASE, Needs, OWN_PEER_URL, READ, Row, WRITE, row};
use crate::harness::*;

pub(crate) fn cluster() -> Vec<Row> {
    let unknown = (Code::NotFound, "etcdserver: member not found");
    let urls = || vec!["http://127.0.0.1:1".to_owned()];
    vec![
        row(
            "Cluster/MemberList",
            "/cluster/member/list",
            Needs::Somebody,
            MemberListRequest { linearizable: true },
        )
        .note("linearizable"),
        row(
            "Cluster/MemberList",
            "/cluster/member/list",
            Needs::Somebody,
            MemberListRequest { linearizable: false },
        ),
        row(
            "Cluster/MemberAdd",
            "/cluster/member/add",
            Needs::Admin,
            MemberAddRequest {
                peer_urls: vec![OWN_PEER_URL.to_owned()],
                is_learner: true,
            },
        )
        .fails(Code::FailedPrecondition, "etcdserver: Peer URLs already exists"),
        row(
            "Cluster/MemberRemove",
            "/cluster/member/remove",
            Needs::Admin,
            MemberRemoveRequest { id: 404 },
        )
        .fails(unknown.0, unknown.1),
        row(
            "Cluster/MemberUpdate",
            "/cluster/member/update",
            Needs::Admin,
            MemberUpdateRequest {
                id: 404,
                peer_urls: urls(),
            },
        )
        .fails(unknown.0, unknown.1),
        row(
            "Cluster/MemberPromote",
            "/cluster/member/promote",
            Needs::Admin,
            MemberPromoteRequest { id: 404 },
        )
        .fails(unknown.0, unknown.1),
    ]
}

pub(crate) fn maintenance() -> Vec<Row> {
    let alarm = |action| AlarmRequest {
        action,
        ..Default::default()
    };
    vec![
        row(
            "Maintenance/Status",
            "/maintenance/status",
            Needs::Somebody,
            StatusRequest {},
        ),
        row(
            "Maintenance/Alarm",
            "/maintenance/alarm",
            Needs::Somebody,
            alarm(0),
        )
        .note("GET"),
        row("Maintenance/Alarm", "/maintenance/alarm", Needs::Admin, alarm(1)).note("ACTIVATE"),
        row("Maintenance/Alarm", "/maintenance/alarm", Needs::Admin, alarm(2)).note("DEACTIVATE"),
        row(
            "Maintenance/Defragment",
            "/maintenance/defragment",
            Needs::Admin,
            DefragmentRequest {},
        ),
        row(
            "Maintenance/Hash",
            "/maintenance/hash",
            Needs::Admin,
            HashRequest {},
        ),
        row(
            "Maintenance/HashKV",
            "/maintenance/hashkv",
            Needs::Admin,
            HashKvRequest { revision: 0 },
        ),
        row(
            "Maintenance/Snapshot",
            "/maintenance/snapshot",
            Needs::Admin,
            SnapshotRequest {},
        ),
        row(
            "Maintenance/MoveLeader",
            "/maintenance/transfer-leadership",
            Needs::Admin,
            MoveLeaderRequest { target_id: 404 },
        )
        .fails(Code::FailedPrecondition, "etcdserver: bad leader transferee"),
        row(
            "Maintenance/Downgrade",
            "/maintenance/downgrade",
            Needs::Admin,
            DowngradeRequest {
                action: 0,
                version: "no version".to_owned(),
            },
        )
        .fails(
            Code::InvalidArgument,
            "etcdserver: wrong downgrade target version format",
        ),
        row("Health/Check", "", Needs::Nothing, HealthCheckRequest::default()),
    ]
}

pub(crate) fn auth() -> Vec<Row> {
    vec![
        row(
            "Auth/AuthStatus",
            "/auth/status",
            Needs::SoundToken,
            AuthStatusRequest {},
        ),
        row(
            "Auth/Authenticate",
            "/auth/authenticate",
            Needs::Nothing,
            AuthenticateRequest {
                name: "reader".to_owned(),
                password: password_of("reader"),
            },
        ),
        row(
            "Auth/AuthEnable",
            "/auth/enable",
            Needs::Admin,
            AuthEnableRequest {},
        ),
        row(
            "Auth/AuthDisable",
            "/auth/disable",
            Needs::Admin,
            AuthDisableRequest {},
        )
        .changes(),
    ]
}

pub(crate) fn users() -> Vec<Row> {
    let unknown = (Code::FailedPrecondition, "etcdserver: user name not found");
    let (reader, nobody) = ("reader".to_owned(), "nobody".to_owned());
    vec![
        row(
            "Auth/UserAdd",
            "/auth/user/add",
            Needs::Admin,
            AuthUserAddRequest {
                name: reader.clone(),
                password: "secret".to_owned(),
                ..Default::default()
            },
        )
        .fails(Code::FailedPrecondition, "etcdserver: user name already exists"),
        row(
            "Auth/UserGet",
            "/auth/user/get",
            Needs::Oneself,
            AuthUserGetRequest { name: reader.clone() },
        )
        .note("the reader"),
        row(
            "Auth/UserList",
            "/auth/user/list",
            Needs::Admin,
            AuthUserListRequest {},
        ),
        row(
            "Auth/UserDelete",
            "/auth/user/delete",
            Needs::Admin,
            AuthUserDeleteRequest { name: nobody.clone() },
        )
        .fails(unknown.0, unknown.1),
        row(
            "Auth/UserChangePassword",
            "/auth/user/changepw",
            Needs::Admin,
            AuthUserChangePasswordRequest {
                name: nobody.clone(),
                password: "secret".to_owned(),
                ..Default::default()
            },
        )
        .fails(unknown.0, unknown.1),
        row(
            "Auth/UserGrantRole",
            "/auth/user/grant",
            Needs::Admin,
            AuthUserGrantRoleRequest {
                user: nobody,
                role: reader.clone(),
            },
        )
        .fails(unknown.0, unknown.1),
        row(
            "Auth/UserRevokeRole",
            "/auth/user/revoke",
            Needs::Admin,
            AuthUserRevokeRoleRequest {
                name: reader,
                role: "writer".to_owned(),
            },
        )
        .fails(
            Code::FailedPrecondition,
            "etcdserver: role is not granted to the user",
        ),
    ]
}

pub(crate) fn roles() -> Vec<Row> {
    let unknown = (Code::FailedPrecondition, "etcdserver: role name not found");
    let (reader, nothing) = ("reader".to_owned(), "nothing".to_owned());
    vec![
        row(
            "Auth/RoleAdd",
            "/auth/role/add",
            Needs::Admin,
            AuthRoleAddRequest { name: reader.clone() },
        )
        .fails(Code::FailedPrecondition, "etcdserver: role name already exists"),
        row(
            "Auth/RoleGet",
            "/auth/role/get",
            Needs::Oneself,
            AuthRoleGetRequest { role: reader },
        )
        .note("that of the reader"),
        row(
            "Auth/RoleList",
            "/auth/role/list",
            Needs::Admin,
            AuthRoleListRequest {},
        ),
        row(
            "Auth/RoleDelete",
            "/auth/role/delete",
            Needs::Admin,
            AuthRoleDeleteRequest {
                role: nothing.clone(),
            },
        )
        .fails(unknown.0, unknown.1),
        row(
            "Auth/RoleGrantPermission",
            "/auth/role/grant",
            Needs::Admin,
            AuthRoleGrantPermissionRequest {
                name: nothing.clone(),
                perm: Some(Permission {
                    key: bytes("m/a"),
                    ..Default::default()
                }),
            },
        )
        .fails(unknown.0, unknown.1),
        row(
            "Auth/RoleRevokePermission",
            "/auth/role/revoke",
            Needs::Admin,
            AuthRoleRevokePermissionRequest {
                role: nothing,
                key: bytes("m/a"),
                range_end: Bytes::new(),
            },
        )
        .fails(unknown.0, unknown.1),
    ]
}

pub(crate) fn lock_and_election() -> Vec<Row> {
    let name = || bytes(ELECTION);
    let leader = || LeaderKey {
        name: name(),
        key: bytes(&format!("{ELECTION}/{LEASE:x}")),
        rev: i64::MAX,
        lease: LEASE,
    };
    vec![
        row(
            "Lock/Lock",
            "/lock/lock",
            BOTH,
            LockRequest {
                name: bytes("m/lock"),
                lease: LEASE,
            },
        )
        .changes(),
        row(
            "Lock/Unlock",
            "/lock/unlock",
            WRITE,
            UnlockRequest {
                key: bytes("m/lock/none"),
            },
        ),
        row(
            "Election/Campaign",
            "/election/campaign",
            BOTH,
            CampaignRequest {
                name: name(),
                lease: LEASE,
                value: bytes("leader"),
            },
        ),
        row(
            "Election/Proclaim",
            "/election/proclaim",
            BOTH,
            ProclaimRequest {
                leader: Some(leader()),
                value: bytes("leader"),
            },
        )
        .fails(Code::Unknown, "election: not leader"),
        row(
            "Election/Leader",
            "/election/leader",
            READ,
            LeaderRequest { name: name() },
        ),
        row(
            "Election/Observe",
            "/election/observe",
            READ,
            LeaderRequest { name: name() },
        ),
        row(
            "Election/Resign",
            "/election/resign",
            BOTH,
            ResignRequest {
                leader: Some(leader()),
            },
        ),
    ]
}

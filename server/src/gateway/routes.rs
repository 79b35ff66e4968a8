//! Which path leads to which RPC, and the shapes of its messages.

use std::collections::HashMap;
use std::sync::LazyLock;

use prost_reflect::{DescriptorPool, MessageDescriptor, MethodDescriptor};

/// An RPC that has a path here.
pub(super) struct Route {
    /// Where gRPC finds it.
    pub(super) rpc_path: String,
    pub(super) input: MessageDescriptor,
    pub(super) output: MessageDescriptor,
    method: MethodDescriptor,
}

impl Route {
    /// Whether it takes any number of messages.
    pub(super) fn takes_stream(&self) -> bool {
        self.method.is_client_streaming()
    }

    /// Whether it answers with any number of messages.
    pub(super) fn answers_stream(&self) -> bool {
        self.method.is_server_streaming()
    }
}

/// The route of a path.
pub(super) fn find(path: &str) -> Option<&'static Route> {
    ROUTES.get(path)
}

static ROUTES: LazyLock<HashMap<&'static str, Route>> = LazyLock::new(|| {
    let pool = DescriptorPool::decode(proto::FILE_DESCRIPTOR_SET);
    let pool = pool.expect("the descriptors are those that the protocol was compiled from");
    let mut routes = HashMap::new();
    for (service, methods) in TABLE {
        let service = pool.get_service_by_name(service);
        let service = service.expect("the table names services of the protocol");
        for (name, path) in *methods {
            let method = service.methods().find(|method| method.name() == *name);
            let method = method.expect("the table names methods of their service");
            let route = Route {
                rpc_path: format!("/{}/{name}", service.full_name()),
                input: method.input(),
                output: method.output(),
                method,
            };
            routes.insert(*path, route);
        }
    }
    routes
});

/// Methods and paths; a method may have two.
type Methods = &'static [(&'static str, &'static str)];

/// Every service that has paths.
const TABLE: &[(&str, Methods)] = &[
    (
        "etcdserverpb.KV",
        &[
            ("Range", "/v3/kv/range"),
            ("Put", "/v3/kv/put"),
            ("DeleteRange", "/v3/kv/deleterange"),
            ("Txn", "/v3/kv/txn"),
            ("Compact", "/v3/kv/compaction"),
        ],
    ),
    ("etcdserverpb.Watch", &[("Watch", "/v3/watch")]),
    (
        "etcdserverpb.Lease",
        &[
            ("LeaseGrant", "/v3/lease/grant"),
            ("LeaseRevoke", "/v3/lease/revoke"),
            ("LeaseRevoke", "/v3/kv/lease/revoke"),
            ("LeaseKeepAlive", "/v3/lease/keepalive"),
            ("LeaseTimeToLive", "/v3/lease/timetolive"),
            ("LeaseTimeToLive", "/v3/kv/lease/timetolive"),
            ("LeaseLeases", "/v3/lease/leases"),
            ("LeaseLeases", "/v3/kv/lease/leases"),
        ],
    ),
    (
        "etcdserverpb.Cluster",
        &[
            ("MemberAdd", "/v3/cluster/member/add"),
            ("MemberRemove", "/v3/cluster/member/remove"),
            ("MemberUpdate", "/v3/cluster/member/update"),
            ("MemberList", "/v3/cluster/member/list"),
            ("MemberPromote", "/v3/cluster/member/promote"),
        ],
    ),
    (
        "etcdserverpb.Maintenance",
        &[
            ("Alarm", "/v3/maintenance/alarm"),
            ("Status", "/v3/maintenance/status"),
            ("Defragment", "/v3/maintenance/defragment"),
            ("Hash", "/v3/maintenance/hash"),
            ("HashKV", "/v3/maintenance/hashkv"),
            ("Snapshot", "/v3/maintenance/snapshot"),
            ("MoveLeader", "/v3/maintenance/transfer-leadership"),
            ("Downgrade", "/v3/maintenance/downgrade"),
        ],
    ),
    (
        "etcdserverpb.Auth",
        &[
            ("AuthEnable", "/v3/auth/enable"),
            ("AuthDisable", "/v3/auth/disable"),
            ("AuthStatus", "/v3/auth/status"),
            ("Authenticate", "/v3/auth/authenticate"),
            ("UserAdd", "/v3/auth/user/add"),
            ("UserGet", "/v3/auth/user/get"),
            ("UserList", "/v3/auth/user/list"),
            ("UserDelete", "/v3/auth/user/delete"),
            ("UserChangePassword", "/v3/auth/user/changepw"),
            ("UserGrantRole", "/v3/auth/user/grant"),
            ("UserRevokeRole", "/v3/auth/user/revoke"),
            ("RoleAdd", "/v3/auth/role/add"),
            ("RoleGet", "/v3/auth/role/get"),
            ("RoleList", "/v3/auth/role/list"),
            ("RoleDelete", "/v3/auth/role/delete"),
            ("RoleGrantPermission", "/v3/auth/role/grant"),
            ("RoleRevokePermission", "/v3/auth/role/revoke"),
        ],
    ),
    (
        "v3lockpb.Lock",
        &[("Lock", "/v3/lock/lock"), ("Unlock", "/v3/lock/unlock")],
    ),
    (
        "v3electionpb.Election",
        &[
            ("Campaign", "/v3/election/campaign"),
            ("Proclaim", "/v3/election/proclaim"),
            ("Leader", "/v3/election/leader"),
            ("Observe", "/v3/election/observe"),
            ("Resign", "/v3/election/resign"),
        ],
    ),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_rpc_but_one_has_a_route() {
        let pool = DescriptorPool::decode(proto::FILE_DESCRIPTOR_SET).unwrap();
        let routed: BTreeSet<&str> = ROUTES.values().map(|route| route.rpc_path.as_str()).collect();
        for service in pool.services() {
            for method in service.methods() {
                let path = format!("/{}/{}", service.full_name(), method.name());
                let has_none =
                    service.full_name() == "grpc.health.v1.Health" || method.name() == "RangeStream";
                assert_eq!(routed.contains(path.as_str()), !has_none, "{path}");
            }
        }
        assert_eq!(
            ROUTES.len(),
            TABLE.iter().map(|(_, methods)| methods.len()).sum::<usize>()
        );
    }

    #[test]
    fn kinds_are_those_of_the_protocol() {
        let kinds = |path| find(path).map(|route| (route.takes_stream(), route.answers_stream()));
        assert_eq!(kinds("/v3/kv/range"), Some((false, false)));
        assert_eq!(kinds("/v3/watch"), Some((true, true)));
        assert_eq!(kinds("/v3/lease/keepalive"), Some((true, true)));
        assert_eq!(kinds("/v3/maintenance/snapshot"), Some((false, true)));
        assert_eq!(kinds("/v3/kv/range/"), None);
    }
}

//! The RPCs of the client port in one table: their paths, for dispatch, and their names and kinds, for metrics.

/// How many messages flow each way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Unary,
    ServerStream,
    BidiStream,
}

impl Kind {
    /// The label `grpc_type` of the metrics.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Kind::Unary => "unary",
            Kind::ServerStream => "server_stream",
            Kind::BidiStream => "bidi_stream",
        }
    }
}

macro_rules! rpcs {
    ($($service:literal { $($rpc:ident = $method:literal $kind:ident,)+ })+) => {
        /// An RPC that this server knows, whether or not it can do it yet.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub(crate) enum Rpc { $($($rpc,)+)+ }

        impl Rpc {
            /// All of them, in the order of their discriminants.
            pub(crate) const ALL: &'static [Rpc] = &[$($(Rpc::$rpc,)+)+];

            /// Full service name, method name and kind.
            pub(crate) fn names(self) -> (&'static str, &'static str, Kind) {
                match self { $($(Rpc::$rpc => ($service, $method, Kind::$kind),)+)+ }
            }

            fn find(service: &str, method: &str) -> Result<Rpc, Unknown> {
                match service {
                    $($service => match method {
                        $($method => Ok(Rpc::$rpc),)+
                        _ => Err(Unknown::Method),
                    },)+
                    _ => Err(Unknown::Service),
                }
            }
        }
    };
}

rpcs! {
    "etcdserverpb.KV" {
        Range = "Range" Unary,
        RangeStream = "RangeStream" ServerStream,
        Put = "Put" Unary,
        DeleteRange = "DeleteRange" Unary,
        Txn = "Txn" Unary,
        Compact = "Compact" Unary,
    }
    "etcdserverpb.Watch" {
        Watch = "Watch" BidiStream,
    }
    "etcdserverpb.Lease" {
        LeaseGrant = "LeaseGrant" Unary,
        LeaseRevoke = "LeaseRevoke" Unary,
        LeaseKeepAlive = "LeaseKeepAlive" BidiStream,
        LeaseTimeToLive = "LeaseTimeToLive" Unary,
        LeaseLeases = "LeaseLeases" Unary,
    }
    "etcdserverpb.Cluster" {
        MemberAdd = "MemberAdd" Unary,
        MemberRemove = "MemberRemove" Unary,
        MemberUpdate = "MemberUpdate" Unary,
        MemberList = "MemberList" Unary,
        MemberPromote = "MemberPromote" Unary,
    }
    "etcdserverpb.Maintenance" {
        Alarm = "Alarm" Unary,
        Status = "Status" Unary,
        Defragment = "Defragment" Unary,
        Hash = "Hash" Unary,
        HashKv = "HashKV" Unary,
        Snapshot = "Snapshot" ServerStream,
        MoveLeader = "MoveLeader" Unary,
        Downgrade = "Downgrade" Unary,
    }
    "etcdserverpb.Auth" {
        AuthEnable = "AuthEnable" Unary,
        AuthDisable = "AuthDisable" Unary,
        AuthStatus = "AuthStatus" Unary,
        Authenticate = "Authenticate" Unary,
        UserAdd = "UserAdd" Unary,
        UserGet = "UserGet" Unary,
        UserList = "UserList" Unary,
        UserDelete = "UserDelete" Unary,
        UserChangePassword = "UserChangePassword" Unary,
        UserGrantRole = "UserGrantRole" Unary,
        UserRevokeRole = "UserRevokeRole" Unary,
        RoleAdd = "RoleAdd" Unary,
        RoleGet = "RoleGet" Unary,
        RoleList = "RoleList" Unary,
        RoleDelete = "RoleDelete" Unary,
        RoleGrantPermission = "RoleGrantPermission" Unary,
        RoleRevokePermission = "RoleRevokePermission" Unary,
    }
    "v3electionpb.Election" {
        Campaign = "Campaign" Unary,
        Proclaim = "Proclaim" Unary,
        Leader = "Leader" Unary,
        Observe = "Observe" ServerStream,
        Resign = "Resign" Unary,
    }
    "v3lockpb.Lock" {
        Lock = "Lock" Unary,
        Unlock = "Unlock" Unary,
    }
    "grpc.health.v1.Health" {
        HealthCheck = "Check" Unary,
        HealthList = "List" Unary,
        HealthWatch = "Watch" ServerStream,
    }
}

/// What a path does not name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Unknown {
    Service,
    Method,
}

impl Rpc {
    /// Whether its metrics appear with its first call only. etcd shows zeros for the services it registers before its
    /// metrics, and registers these two after them.
    pub(crate) fn is_lazy(self) -> bool {
        matches!(self.names().0, "v3electionpb.Election" | "v3lockpb.Lock")
    }

    /// The RPC of a path `/service/method`; else gRPC's own text about what is unknown in it.
    pub(crate) fn of_path(path: &str) -> Result<Rpc, String> {
        let Some((service, method)) = path.strip_prefix('/').and_then(|path| path.rsplit_once('/')) else {
            return Err(format!("malformed method name: {path:?}"));
        };
        Rpc::find(service, method).map_err(|unknown| match unknown {
            Unknown::Service => format!("unknown service {service}"),
            Unknown::Method => format!("unknown method {method} for service {service}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_leads_to_its_rpc() {
        for (index, &rpc) in Rpc::ALL.iter().enumerate() {
            assert_eq!(rpc as usize, index);
            let (service, method, _) = rpc.names();
            assert_eq!(Rpc::of_path(&format!("/{service}/{method}")), Ok(rpc));
        }
    }

    #[test]
    fn what_is_unknown_is_named_as_grpc_does() {
        for (path, text) in [
            (
                "/etcdserverpb.KV/X",
                "unknown method X for service etcdserverpb.KV",
            ),
            ("/a.B/X", "unknown service a.B"),
            ("/etcdserverpb.KV", "malformed method name: \"/etcdserverpb.KV\""),
        ] {
            assert_eq!(Rpc::of_path(path), Err(text.to_owned()));
        }
    }
}

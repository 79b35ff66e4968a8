//! What each RPC needs while auth is on, from the compatibility reference, with a request that shows it. A request that
//! passes changes nothing, or [`Row::changes`] says that it does: either it does nothing, or it fails of something
//! that is looked at behind the judgement.

use bytes::Bytes;
use prost::Message;
use proto::etcdserverpb::watch_request::RequestUnion;
use proto::etcdserverpb::*;
use tonic::Code;

use crate::auth_matrix::caller::Refusal;
use crate::auth_matrix::services;
use crate::harness::*;

/// What a caller must be or have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Needs {
    Nothing,
    /// Nothing, but a token that is there must be good.
    SoundToken,
    /// Any user, even one that is no more.
    Somebody,
    /// The role root.
    Admin,
    /// To be the user (or to hold the role) that is asked for, or the role root.
    Oneself,
    /// Rights on the keys of the table, by a token that is not outdated.
    Keys {
        read: bool,
        write: bool,
    },
    /// The same for keys that a lease holds; root needs none.
    LeaseKeys {
        read: bool,
        write: bool,
    },
    /// No right at all, by a token that is not outdated.
    NoKey,
    /// To read everything.
    AllKeys,
}

pub(crate) const READ: Needs = Needs::Keys {
    read: true,
    write: false,
};
pub(crate) const WRITE: Needs = Needs::Keys {
    read: false,
    write: true,
};
pub(crate) const BOTH: Needs = Needs::Keys {
    read: true,
    write: true,
};

/// One request of one RPC.
pub(crate) struct Row {
    /// The service's last name and the method's.
    pub(crate) method: &'static str,
    /// Behind `/v3` on the gateway; empty where it has no route.
    pub(crate) route: &'static str,
    /// What is special about the request.
    pub(crate) note: &'static str,
    pub(crate) needs: Needs,
    pub(crate) message: Bytes,
    /// The requests of the call do not end with the first.
    pub(crate) is_stream: bool,
    /// What a caller that may do it is answered with: an error of what is looked at later, or success.
    pub(crate) granted: Option<(Code, &'static str)>,
    pub(crate) changes: bool,
}

impl Row {
    /// As gRPC calls it.
    pub(crate) fn path(&self) -> String {
        let package = match self.method.split_once('/') {
            Some(("Lock", _)) => "v3lockpb",
            Some(("Election", _)) => "v3electionpb",
            Some(("Health", _)) => "grpc.health.v1",
            _ => "etcdserverpb",
        };
        format!("/{package}.{}", self.method)
    }

    /// How a call of this row shows that it is refused for who makes it. The lock and the election are clients of the
    /// store: they pass the text on and lose the code, and an observation of what may not be read ends without a word.
    pub(crate) fn shown(&self, refusal: Refusal) -> (Code, &'static str) {
        let (code, text) = refusal.status();
        match self.method.split_once('/') {
            Some(("Election", "Observe")) => (Code::Ok, ""),
            Some(("Lock" | "Election", _)) => (Code::Unknown, text),
            _ => (code, text),
        }
    }

    pub(crate) fn note(mut self, note: &'static str) -> Row {
        self.note = note;
        self
    }

    pub(crate) fn fails(mut self, code: Code, text: &'static str) -> Row {
        self.granted = Some((code, text));
        self
    }

    pub(crate) fn changes(mut self) -> Row {
        self.changes = true;
        self
    }

    fn streams(mut self) -> Row {
        self.is_stream = true;
        self
    }
}

/// The prefix of all keys of the table, and what lies there.
pub(crate) const PREFIX: &str = "m/";
/// The lease that holds the last of these.
pub(crate) const LEASE: i64 = 0x7ea5e;
pub(crate) const LEASED: &str = "m/leased";
/// What the server advertises to other members, whatever it listens on.
pub(crate) const OWN_PEER_URL: &str = "http://127.0.0.1:2";
/// An election that this lease has won.
pub(crate) const ELECTION: &str = "m/election";

#[expect(clippy::needless_pass_by_value, reason = "so that a row reads as one line")]
pub(crate) fn row<M: Message>(method: &'static str, route: &'static str, needs: Needs, message: M) -> Row {
    Row {
        method,
        route,
        note: "",
        needs,
        message: message.encode_to_vec().into(),
        is_stream: false,
        granted: None,
        changes: false,
    }
}

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = kv();
    rows.extend(txns());
    rows.extend(watch_and_lease());
    rows.extend(services::cluster());
    rows.extend(services::maintenance());
    rows.extend(services::auth());
    rows.extend(services::users());
    rows.extend(services::roles());
    rows.extend(services::lock_and_election());
    rows
}

fn kv() -> Vec<Row> {
    let (key, value) = ("m/a", "1");
    let everything = || RangeRequest {
        key: ZERO,
        range_end: ZERO,
        ..Default::default()
    };
    let behind = RangeRequest {
        range_end: ZERO,
        ..get(key)
    };
    let local = RangeRequest {
        serializable: true,
        ..get(key)
    };
    let with_old = PutRequest {
        prev_kv: true,
        ..put(key, value)
    };
    let leased = PutRequest {
        lease: LEASE,
        ..put(key, value)
    };
    let delete_with_old = DeleteRangeRequest {
        prev_kv: true,
        ..delete_prefix("m/none")
    };
    vec![
        row("KV/Range", "/kv/range", READ, get(key)).note("one key"),
        row("KV/Range", "/kv/range", READ, get_prefix(PREFIX)).note("a prefix"),
        row("KV/Range", "/kv/range", READ, local).note("serializable"),
        row("KV/Range", "/kv/range", Needs::AllKeys, everything()).note("all keys"),
        row("KV/Range", "/kv/range", Needs::AllKeys, behind).note("from a key on"),
        row("KV/RangeStream", "", READ, get_prefix(PREFIX)).note("a prefix"),
        row("KV/RangeStream", "", Needs::AllKeys, everything()).note("all keys"),
        row("KV/Put", "/kv/put", WRITE, put(key, value)),
        row("KV/Put", "/kv/put", BOTH, with_old).note("prev_kv"),
        row("KV/Put", "/kv/put", WRITE, leased)
            .note("with a lease that holds a key")
            .changes(),
        row(
            "KV/DeleteRange",
            "/kv/deleterange",
            WRITE,
            delete_prefix("m/none"),
        ),
        row("KV/DeleteRange", "/kv/deleterange", BOTH, delete_with_old).note("prev_kv"),
        row(
            "KV/Compact",
            "/kv/compaction",
            Needs::Admin,
            CompactionRequest {
                revision: i64::MAX,
                physical: false,
            },
        )
        .fails(
            Code::OutOfRange,
            "etcdserver: mvcc: required revision is a future revision",
        ),
    ]
}

fn txns() -> Vec<Row> {
    let absent = || vec![is_absent("m/none")];
    let reads = || vec![op(get("m/a"))];
    let deletes = || vec![op(delete("m/none"))];
    let row = |needs, request: TxnRequest| row("KV/Txn", "/kv/txn", needs, request);
    let nested = |inner| txn(absent(), vec![op(get("m/a"))], vec![op(inner)]);
    vec![
        row(Needs::NoKey, TxnRequest::default()).note("empty"),
        row(READ, txn(absent(), vec![], vec![])).note("compares"),
        row(READ, txn(absent(), reads(), reads())).note("reads"),
        row(WRITE, then(deletes())).note("writes"),
        row(BOTH, txn(absent(), reads(), deletes())).note("a write in the branch not taken"),
        row(BOTH, nested(txn(vec![], vec![], deletes()))).note("a write in a nested branch not taken"),
        row(
            Needs::AllKeys,
            txn(
                absent(),
                reads(),
                vec![op(RangeRequest {
                    key: ZERO,
                    range_end: ZERO,
                    ..Default::default()
                })],
            ),
        )
        .note("all keys in the branch not taken"),
    ]
}

fn watch_and_lease() -> Vec<Row> {
    let watch = |request: WatchCreateRequest| WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(request)),
    };
    let everything = WatchCreateRequest {
        key: ZERO,
        range_end: ZERO,
        ..Default::default()
    };
    let holders = |read, write| Needs::LeaseKeys { read, write };
    vec![
        row("Watch/Watch", "/watch", READ, watch(watch_key("m/a")))
            .note("one key")
            .streams(),
        row("Watch/Watch", "/watch", READ, watch(watch_prefix(PREFIX)))
            .note("a prefix")
            .streams(),
        row("Watch/Watch", "/watch", Needs::AllKeys, watch(everything))
            .note("all keys")
            .streams(),
        row(
            "Lease/LeaseGrant",
            "/lease/grant",
            Needs::Somebody,
            LeaseGrantRequest { ttl: 600, id: LEASE },
        )
        .fails(Code::FailedPrecondition, "etcdserver: lease already exists"),
        row(
            "Lease/LeaseRevoke",
            "/lease/revoke",
            Needs::Somebody,
            LeaseRevokeRequest { id: 404 },
        )
        .note("unknown")
        .fails(Code::NotFound, "etcdserver: requested lease not found"),
        row(
            "Lease/LeaseRevoke",
            "/lease/revoke",
            holders(false, true),
            LeaseRevokeRequest { id: LEASE },
        )
        .note("that holds a key")
        .changes(),
        row(
            "Lease/LeaseKeepAlive",
            "/lease/keepalive",
            holders(false, true),
            LeaseKeepAliveRequest { id: LEASE },
        )
        .note("that holds a key"),
        row(
            "Lease/LeaseTimeToLive",
            "/lease/timetolive",
            Needs::Somebody,
            LeaseTimeToLiveRequest {
                id: LEASE,
                keys: false,
            },
        )
        .note("that holds a key"),
        row(
            "Lease/LeaseTimeToLive",
            "/lease/timetolive",
            holders(true, false),
            LeaseTimeToLiveRequest {
                id: LEASE,
                keys: true,
            },
        )
        .note("that holds a key, with its keys"),
        row(
            "Lease/LeaseLeases",
            "/lease/leases",
            holders(true, false),
            LeaseLeasesRequest {},
        )
        .note("where one holds a key"),
    ]
}

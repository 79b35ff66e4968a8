//! Every error text and code of the compatibility reference that the calls of one member without authentication can
//! raise. Clients recognise an error by its text, so each letter counts.

use std::future::Future;

use crate::harness::*;
use proto::etcdserverpb::{
    AlarmRequest, CompactionRequest, DeleteRangeRequest, HashKvRequest, LeaseGrantRequest,
    LeaseRevokeRequest, PutRequest, RangeRequest, RequestOp, StatusRequest, TxnRequest,
};
use tonic::metadata::MetadataValue;
use tonic::{Code, Request, Status};

/// One row: what is asked, and the error it must get.
struct Row {
    what: &'static str,
    got: Result<(), Status>,
    code: Code,
    text: &'static str,
}

const fn text_of(error: &Error) -> (Code, &'static str) {
    match error {
        Error::EmptyKey => (Code::InvalidArgument, "etcdserver: key is not provided"),
        Error::KeyNotFound => (Code::InvalidArgument, "etcdserver: key not found"),
        Error::ValueProvided => (Code::InvalidArgument, "etcdserver: value is provided"),
        Error::LeaseProvided => (Code::InvalidArgument, "etcdserver: lease is provided"),
        Error::TooManyOps => (
            Code::InvalidArgument,
            "etcdserver: too many operations in txn request",
        ),
        Error::DuplicateKey => (
            Code::InvalidArgument,
            "etcdserver: duplicate key given in txn request",
        ),
        Error::InvalidClientApiVersion => (Code::InvalidArgument, "etcdserver: invalid client api version"),
        Error::InvalidSortOption => (Code::InvalidArgument, "etcdserver: invalid sort option"),
        Error::Compacted => (
            Code::OutOfRange,
            "etcdserver: mvcc: required revision has been compacted",
        ),
        Error::FutureRev => (
            Code::OutOfRange,
            "etcdserver: mvcc: required revision is a future revision",
        ),
        Error::NoSpace => (
            Code::ResourceExhausted,
            "etcdserver: mvcc: database space exceeded",
        ),
        Error::LeaseNotFound => (Code::NotFound, "etcdserver: requested lease not found"),
        Error::LeaseExist => (Code::FailedPrecondition, "etcdserver: lease already exists"),
        Error::LeaseTtlTooLarge => (Code::OutOfRange, "etcdserver: too large lease TTL"),
        Error::RequestTooLarge => (Code::InvalidArgument, "etcdserver: request is too large"),
        Error::StreamSort => (
            Code::Unimplemented,
            "RangeStream does not support custom sort orders",
        ),
        Error::StreamFilter => (
            Code::Unimplemented,
            "RangeStream does not support revision filters",
        ),
    }
}

/// The errors by their names in the reference.
enum Error {
    EmptyKey,
    KeyNotFound,
    ValueProvided,
    LeaseProvided,
    TooManyOps,
    DuplicateKey,
    InvalidClientApiVersion,
    InvalidSortOption,
    Compacted,
    FutureRev,
    NoSpace,
    LeaseNotFound,
    LeaseExist,
    LeaseTtlTooLarge,
    RequestTooLarge,
    StreamSort,
    StreamFilter,
}

/// The table that is being filled: one call each, judged together so that one run shows every wrong row.
struct Table {
    client: Client,
    rows: Vec<Row>,
}

impl Table {
    fn new(client: Client) -> Table {
        Table {
            client,
            rows: Vec::new(),
        }
    }

    async fn row<T>(
        &mut self,
        what: &'static str,
        error: Error,
        call: impl Future<Output = Result<T, Status>>,
    ) {
        let (code, text) = text_of(&error);
        self.rows.push(Row {
            what,
            got: call.await.map(|_| ()),
            code,
            text,
        });
    }

    async fn range(&mut self, what: &'static str, error: Error, request: RangeRequest) {
        let client = self.client.clone();
        self.row(what, error, client.try_range(request)).await;
    }

    async fn put(&mut self, what: &'static str, error: Error, request: PutRequest) {
        let client = self.client.clone();
        self.row(what, error, client.try_put(request)).await;
    }

    async fn delete(&mut self, what: &'static str, error: Error, request: DeleteRangeRequest) {
        let mut kv = self.client.kv.clone();
        self.row(what, error, kv.delete_range(request)).await;
    }

    async fn txn(&mut self, what: &'static str, error: Error, request: TxnRequest) {
        let client = self.client.clone();
        self.row(what, error, client.try_txn(request)).await;
    }

    /// The same operation must fail in either branch and nested.
    async fn operation(&mut self, what: &'static str, error: fn() -> Error, request: RequestOp) {
        self.txn(what, error(), then(vec![request.clone()])).await;
        self.txn(
            what,
            error(),
            txn(vec![], vec![op(get("other"))], vec![request.clone()]),
        )
        .await;
        self.txn(what, error(), then(vec![op(then(vec![request]))])).await;
    }

    async fn stream(&mut self, what: &'static str, error: Error, request: RangeRequest) {
        let mut kv = self.client.kv.clone();
        let call = async move { kv.range_stream(request).await?.into_inner().message().await };
        self.row(what, error, call).await;
    }

    async fn compact(&mut self, what: &'static str, error: Error, revision: i64) {
        let mut kv = self.client.kv.clone();
        self.row(
            what,
            error,
            kv.compact(CompactionRequest {
                revision,
                physical: false,
            }),
        )
        .await;
    }

    async fn hash_kv(&mut self, what: &'static str, error: Error, revision: i64) {
        let mut maintenance = self.client.maintenance.clone();
        self.row(what, error, maintenance.hash_kv(HashKvRequest { revision }))
            .await;
    }

    async fn grant(&mut self, what: &'static str, error: Error, ttl: i64, id: i64) {
        let mut lease = self.client.lease.clone();
        self.row(what, error, lease.lease_grant(LeaseGrantRequest { ttl, id }))
            .await;
    }

    fn judge(self) {
        let wrong: Vec<String> = self.rows.iter().filter_map(Row::complaint).collect();
        assert!(
            wrong.is_empty(),
            "{} of {} rows are wrong:\n{}",
            wrong.len(),
            self.rows.len(),
            wrong.join("\n")
        );
    }
}

impl Row {
    fn complaint(&self) -> Option<String> {
        let expected = format!("{:?} {:?}", self.code, self.text);
        let got = match &self.got {
            Ok(()) => "no error".to_owned(),
            Err(status) => format!("{:?} {:?}", status.code(), status.message()),
        };
        (got != expected).then(|| format!("{}: got {got}, expected {expected}", self.what))
    }
}

#[tokio::test]
async fn malformed_requests() {
    let server = Server::start();
    let mut table = Table::new(server.client().await);
    table
        .range("range of the empty key", Error::EmptyKey, get(""))
        .await;
    table
        .stream("stream of the empty key", Error::EmptyKey, get(""))
        .await;
    table
        .put("put of the empty key", Error::EmptyKey, put("", "v"))
        .await;
    table
        .delete("delete of the empty key", Error::EmptyKey, delete(""))
        .await;
    table
        .operation("get op of the empty key", || Error::EmptyKey, op(get("")))
        .await;
    table
        .operation("put op of the empty key", || Error::EmptyKey, op(put("", "v")))
        .await;
    table
        .operation("delete op of the empty key", || Error::EmptyKey, op(delete("")))
        .await;
    table
        .txn(
            "compare of the empty key",
            Error::EmptyKey,
            txn(vec![is_absent("")], vec![], vec![]),
        )
        .await;

    let unknown_order = RangeRequest {
        sort_order: 3,
        ..get("k")
    };
    let unknown_target = RangeRequest {
        sort_target: 5,
        ..get("k")
    };
    for request in [unknown_order, unknown_target] {
        table
            .range(
                "range with an unknown sort option",
                Error::InvalidSortOption,
                request.clone(),
            )
            .await;
        table
            .stream(
                "stream with an unknown sort option",
                Error::InvalidSortOption,
                request.clone(),
            )
            .await;
        table
            .operation(
                "op with an unknown sort option",
                || Error::InvalidSortOption,
                op(request),
            )
            .await;
    }

    let value = PutRequest {
        ignore_value: true,
        ..put("k", "v")
    };
    table
        .put("ignore_value with a value", Error::ValueProvided, value.clone())
        .await;
    table
        .operation("op ignore_value with a value", || Error::ValueProvided, op(value))
        .await;
    let lease = PutRequest {
        ignore_lease: true,
        lease: 1,
        ..put("k", "v")
    };
    table
        .put("ignore_lease with a lease", Error::LeaseProvided, lease.clone())
        .await;
    table
        .operation("op ignore_lease with a lease", || Error::LeaseProvided, op(lease))
        .await;
    let absent = PutRequest {
        ignore_value: true,
        ..put("absent", "")
    };
    table
        .put("ignore_value of an absent key", Error::KeyNotFound, absent)
        .await;
    let absent = PutRequest {
        ignore_lease: true,
        ..put("absent", "v")
    };
    table
        .put(
            "ignore_lease of an absent key",
            Error::KeyNotFound,
            absent.clone(),
        )
        .await;
    table
        .txn(
            "op ignore_lease of an absent key",
            Error::KeyNotFound,
            then(vec![op(absent)]),
        )
        .await;
    table
        .operation(
            "op without a request",
            || Error::KeyNotFound,
            RequestOp { request: None },
        )
        .await;

    let many: Vec<RequestOp> = (0..129).map(|i| op(get(&format!("k{i}")))).collect();
    table
        .txn("129 operations", Error::TooManyOps, then(many.clone()))
        .await;
    table
        .txn(
            "129 operations, nested",
            Error::TooManyOps,
            then(vec![op(then(many))]),
        )
        .await;
    let twice = then(vec![op(put("k", "1")), op(put("k", "2"))]);
    table
        .txn("the same key twice", Error::DuplicateKey, twice.clone())
        .await;
    table
        .txn(
            "the same key twice, nested",
            Error::DuplicateKey,
            then(vec![op(twice)]),
        )
        .await;

    let descending = RangeRequest {
        sort_order: 2,
        ..get("k")
    };
    table
        .stream("descending stream", Error::StreamSort, descending)
        .await;
    let by_value = RangeRequest {
        sort_order: 1,
        sort_target: 4,
        ..get("k")
    };
    table.stream("stream by value", Error::StreamSort, by_value).await;
    let filtered = RangeRequest {
        min_mod_revision: 1,
        ..get("k")
    };
    table
        .stream("filtered stream", Error::StreamFilter, filtered)
        .await;

    // Of several faults the first check names its own.
    let several = PutRequest {
        ignore_value: true,
        ignore_lease: true,
        lease: 1,
        ..put("", "v")
    };
    table
        .put("every fault of put", Error::EmptyKey, several.clone())
        .await;
    let several = PutRequest {
        key: bytes("k"),
        ..several
    };
    table
        .put("two faults of put", Error::ValueProvided, several)
        .await;
    table.judge();
}

#[tokio::test]
async fn revisions_out_of_range() {
    let server = Server::start();
    let client = server.client().await;
    for value in ["1", "2", "3"] {
        client.put("k", value).await;
    }
    client.compact(3).await;
    let mut table = Table::new(client);
    let at = |revision| RangeRequest { revision, ..get("k") };
    table
        .range("range below the compacted revision", Error::Compacted, at(2))
        .await;
    table.range("range of the future", Error::FutureRev, at(5)).await;
    table
        .stream("stream below the compacted revision", Error::Compacted, at(2))
        .await;
    table
        .stream("stream of the future", Error::FutureRev, at(5))
        .await;
    let counted = RangeRequest {
        count_only: true,
        ..at(2)
    };
    table
        .range("count below the compacted revision", Error::Compacted, counted)
        .await;
    let reading = || then(vec![op(at(2))]);
    table
        .txn(
            "reading txn below the compacted revision",
            Error::Compacted,
            reading(),
        )
        .await;
    table
        .txn(
            "writing txn below it",
            Error::Compacted,
            then(vec![op(put("k", "4")), op(at(2))]),
        )
        .await;
    table
        .txn(
            "writing txn of the future",
            Error::FutureRev,
            then(vec![op(put("k", "4")), op(at(9))]),
        )
        .await;
    table
        .txn(
            "nested txn below it",
            Error::Compacted,
            then(vec![op(put("k", "4")), op(reading())]),
        )
        .await;
    table
        .compact("compact at the compacted revision", Error::Compacted, 3)
        .await;
    table.compact("compact below it", Error::Compacted, 1).await;
    table
        .compact("compact of a negative revision", Error::Compacted, -1)
        .await;
    table.compact("compact of the future", Error::FutureRev, 5).await;
    table
        .hash_kv("hashkv below the compacted revision", Error::Compacted, 2)
        .await;
    table.hash_kv("hashkv of the future", Error::FutureRev, 5).await;
    // Nothing of the failed txns was written.
    assert_eq!(table.client.revision().await, 4);
    table.judge();
}

#[tokio::test]
async fn leases() {
    let server = Server::start();
    let mut table = Table::new(server.client().await);
    let unknown = PutRequest {
        lease: 77,
        ..put("k", "v")
    };
    table
        .put("put with an unknown lease", Error::LeaseNotFound, unknown.clone())
        .await;
    table
        .txn(
            "op with an unknown lease",
            Error::LeaseNotFound,
            then(vec![op(unknown)]),
        )
        .await;
    let mut lease = table.client.lease.clone();
    let revoke = lease.lease_revoke(LeaseRevokeRequest { id: 77 });
    table
        .row("revoke of an unknown lease", Error::LeaseNotFound, revoke)
        .await;
    table
        .grant("grant for too long", Error::LeaseTtlTooLarge, 9_000_000_001, 0)
        .await;
    let mut lease = table.client.lease.clone();
    lease
        .lease_grant(LeaseGrantRequest { ttl: 60, id: 78 })
        .await
        .unwrap();
    table
        .grant("grant of an id in use", Error::LeaseExist, 60, 78)
        .await;
    table.judge();
}

#[tokio::test]
async fn requests_too_large() {
    let server = Server::start_with(&["--max-request-bytes=10000", "--max-txn-ops=5"]);
    let mut table = Table::new(server.client().await);
    let value = "x".repeat(20_000);
    table
        .put("put above the limit", Error::RequestTooLarge, put("k", &value))
        .await;
    table
        .txn(
            "txn above the limit",
            Error::RequestTooLarge,
            then(vec![op(put("k", &value))]),
        )
        .await;
    let six = (0..6).map(|i| op(get(&format!("k{i}")))).collect();
    table
        .txn(
            "more operations than the flag allows",
            Error::TooManyOps,
            then(six),
        )
        .await;
    table.client.put("k", &"x".repeat(9000)).await;
    table.judge();
}

#[tokio::test]
async fn no_space() {
    let server = Server::start_with(&["--quota-backend-bytes=1"]);
    let mut table = Table::new(server.client().await);
    table
        .put("put above the quota", Error::NoSpace, put("k", "v"))
        .await;
    // The quota is judged before the request is.
    table
        .put("malformed put above the quota", Error::NoSpace, put("", "v"))
        .await;
    let untaken = txn(vec![is_absent("k")], vec![op(get("k"))], vec![op(put("k", "v"))]);
    table
        .txn("txn whose untaken branch puts", Error::NoSpace, untaken)
        .await;
    table.grant("grant", Error::NoSpace, 60, 0).await;

    // Reading, deleting and compacting go on.
    let client = table.client.clone();
    assert_eq!(client.range(get("k")).await.count, 0);
    assert_eq!(client.delete_with(delete("k")).await.deleted, 0);
    client.txn(then(vec![op(delete("k")), op(get("k"))])).await;
    client.try_compact(1).await.unwrap();
    let mut maintenance = client.maintenance.clone();
    let alarms = maintenance
        .alarm(AlarmRequest::default())
        .await
        .unwrap()
        .into_inner()
        .alarms;
    let status = maintenance.status(StatusRequest {}).await.unwrap().into_inner();
    let member = status.header.unwrap().member_id;
    assert_eq!(alarms.len(), 1);
    assert_eq!((alarms[0].member_id, alarms[0].alarm), (member, 1));
    // The distance between the words is not fixed in the protobuf text format.
    let errors: Vec<String> = status
        .errors
        .iter()
        .map(|error| error.replace("  ", " "))
        .collect();
    assert_eq!(errors, [format!("memberID:{member} alarm:NOSPACE")]);
    table.judge();
}

#[tokio::test]
async fn metadata() {
    let server = Server::start();
    let mut table = Table::new(server.client().await);
    let mut request = Request::new(get("k"));
    let version = MetadataValue::try_from(&b"\xff\xfe"[..]).unwrap();
    request.metadata_mut().insert("client-api-version", version);
    let mut kv = table.client.kv.clone();
    table
        .row(
            "api version that is not text",
            Error::InvalidClientApiVersion,
            kv.range(request),
        )
        .await;
    table.judge();

    // A known leader satisfies the demand for one, and what is unknown is ignored.
    let mut request = Request::new(get("k"));
    for (name, value) in [
        ("hasleader", "true"),
        ("source", "cache"),
        ("client-api-version", "3.7"),
    ] {
        request
            .metadata_mut()
            .insert(name, MetadataValue::from_static(value));
    }
    server.client().await.kv.range(request).await.unwrap();
}

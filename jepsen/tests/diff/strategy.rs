//! How sequences are drawn: short ones over few keys, so that calls meet, with everything that a client can say.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::{BoxedStrategy, Union};

use super::steps::*;

/// Sequences of calls, from an area each, so that calls that have to do with each other come together. What only a
/// newer etcd knows is left out unless `baseline`.
pub(crate) fn sequences(baseline: bool) -> BoxedStrategy<Vec<Step>> {
    let of = |weights: Weights| {
        let step = steps(weights, baseline);
        let length = prop_oneof![6 => 2..12usize, 3 => 12..20usize, 1 => 20..40usize];
        length
            .prop_flat_map(move |length| vec(step.clone(), 1..=length))
            .boxed()
    };
    Union::new_weighted(vec![
        (4, of(KV)),
        (4, of(WATCHES)),
        (3, of(LEASES_AND_KEYS)),
        (2, of(OPERATIONS)),
        (2, of(ELECTIONS)),
        (2, of(HTTP)),
        (2, of(EVERYTHING)),
    ])
    .boxed()
}

/// How often each kind of step comes.
#[derive(Clone, Copy)]
struct Weights {
    put: u32,
    delete: u32,
    txn: u32,
    range: u32,
    compact: u32,
    lease: u32,
    watch: u32,
    hash: u32,
    operation: u32,
    election: u32,
    odd: u32,
    http: u32,
    metrics: u32,
    /// Of a thousand: it takes seconds.
    expiry: u32,
}

const KV: Weights = Weights {
    put: 240,
    delete: 90,
    txn: 260,
    range: 260,
    compact: 60,
    lease: 10,
    watch: 10,
    hash: 30,
    operation: 0,
    election: 0,
    odd: 15,
    http: 0,
    metrics: 20,
    expiry: 0,
};

const WATCHES: Weights = Weights {
    put: 220,
    delete: 100,
    txn: 150,
    range: 20,
    compact: 60,
    lease: 30,
    watch: 400,
    hash: 0,
    odd: 5,
    ..KV
};

const LEASES_AND_KEYS: Weights = Weights {
    put: 250,
    delete: 50,
    txn: 80,
    range: 40,
    compact: 20,
    lease: 450,
    watch: 40,
    expiry: 1,
    ..KV
};

const OPERATIONS: Weights = Weights {
    put: 150,
    delete: 40,
    txn: 60,
    range: 40,
    compact: 60,
    lease: 60,
    watch: 30,
    hash: 150,
    operation: 300,
    election: 0,
    odd: 50,
    http: 100,
    metrics: 60,
    expiry: 0,
};

const ELECTIONS: Weights = Weights {
    put: 60,
    delete: 20,
    txn: 20,
    range: 30,
    compact: 10,
    lease: 60,
    watch: 30,
    election: 400,
    odd: 0,
    ..KV
};

const HTTP: Weights = Weights {
    put: 60,
    delete: 20,
    txn: 20,
    range: 30,
    compact: 10,
    lease: 30,
    operation: 50,
    http: 400,
    ..KV
};

const EVERYTHING: Weights = Weights {
    put: 150,
    delete: 60,
    txn: 100,
    range: 100,
    compact: 50,
    lease: 150,
    watch: 150,
    hash: 40,
    operation: 100,
    election: 60,
    odd: 40,
    http: 40,
    metrics: 20,
    expiry: 0,
};

fn steps(weights: Weights, baseline: bool) -> BoxedStrategy<Step> {
    let range = if baseline {
        Union::new_weighted(vec![
            (5, range().prop_map(Step::Range).boxed()),
            (1, range().prop_map(Step::RangeStream).boxed()),
        ])
        .boxed()
    } else {
        range().prop_map(Step::Range).boxed()
    };
    let kinds = vec![
        (weights.put, put().prop_map(Step::Put).boxed()),
        (weights.range, range),
        (weights.delete, delete().prop_map(Step::Delete).boxed()),
        (weights.txn, txn(3).prop_map(Step::Txn).boxed()),
        (weights.compact, compact()),
        (weights.lease, lease_step()),
        (weights.watch, watch_step()),
        (weights.hash, revision().prop_map(Step::HashKv).boxed()),
        (weights.operation, operation(baseline)),
        (weights.election, election_step()),
        (weights.odd, odd(baseline)),
        (weights.http, http_step(baseline)),
        (weights.metrics, Just(Step::Metrics).boxed()),
        (weights.expiry, key().prop_map(Step::Expiry).boxed()),
    ];
    let kinds = kinds.into_iter().filter(|(weight, _)| *weight > 0).collect();
    Union::new_weighted(kinds).boxed()
}

/// Mostly the default.
fn seldom<T>(probability: f64, strategy: impl Strategy<Value = T> + 'static) -> BoxedStrategy<T>
where
    T: std::fmt::Debug + Clone + Default + 'static,
{
    proptest::option::weighted(probability, strategy)
        .prop_map(Option::unwrap_or_default)
        .boxed()
}

fn name() -> impl Strategy<Value = u8> + Clone {
    0..u8::try_from(NAMES.len()).expect("few names")
}

fn key() -> BoxedStrategy<Key> {
    prop_oneof![
        40 => name().prop_map(Key::Name),
        1 => Just(Key::Unset),
        1 => Just(Key::Zero),
        1 => Just(Key::Last),
    ]
    .boxed()
}

/// The key and the end of a range.
fn keys() -> BoxedStrategy<(Key, End)> {
    let everything = (Just(Key::Zero), Just(End::Zero));
    let of_sequence = (Just(Key::Name(3)), Just(End::Prefix));
    let end = prop_oneof![
        1 => Just(End::Zero),
        3 => key().prop_map(End::Key),
        2 => Just(End::Prefix),
        2 => name().prop_map(End::PrefixOf),
        1 => name().prop_map(End::After),
    ];
    prop_oneof![
        6 => (key(), Just(End::Unset)),
        5 => of_sequence,
        4 => (key(), end),
        1 => everything,
    ]
    .boxed()
}

fn revision() -> BoxedStrategy<Rev> {
    prop_oneof![
        4 => Just(Rev::Unset),
        6 => (-6..=1i64).prop_map(Rev::Now),
        3 => (-1..6i64).prop_map(Rev::Start),
        3 => (-1..=1i64).prop_map(Rev::Compacted),
        1 => select(vec![-1, 1, 2, i64::MAX, i64::MIN]).prop_map(Rev::At),
    ]
    .boxed()
}

fn value() -> BoxedStrategy<Val> {
    prop_oneof![
        12 => (0..5u8).prop_map(Val::Text),
        2 => Just(Val::Unset),
        1 => (100..3000u32).prop_map(Val::Bytes),
    ]
    .boxed()
}

fn lease() -> BoxedStrategy<Lease> {
    prop_oneof![
        20 => (0..LEASES).prop_map(Lease::Slot),
        1 => select(vec![77, -1, i64::MAX, i64::MIN]).prop_map(Lease::Id),
    ]
    .boxed()
}

/// Values of an enum of so many, and rarely one that does not exist.
fn enumerated(values: i32) -> BoxedStrategy<i32> {
    prop_oneof![30 => 0..values, 1 => select(vec![values, 99, -1])].boxed()
}

fn range() -> BoxedStrategy<Range> {
    let filters = (
        seldom(0.12, revision()),
        seldom(0.12, revision()),
        seldom(0.12, revision()),
        seldom(0.12, revision()),
    );
    let limit = prop_oneof![8 => 1..5i64, 1 => select(vec![-1, i64::MAX, i64::MIN, 1000])];
    (
        keys(),
        seldom(0.3, limit),
        seldom(0.3, revision()),
        seldom(0.3, enumerated(3)),
        seldom(0.3, enumerated(5)),
        proptest::bool::weighted(0.2),
        proptest::bool::weighted(0.15),
        proptest::bool::weighted(0.1),
        filters,
    )
        .prop_map(
            |((key, end), limit, revision, order, target, serializable, keys_only, count_only, filters)| {
                let (min_mod, max_mod, min_create, max_create) = filters;
                Range {
                    key,
                    end,
                    limit,
                    revision,
                    order,
                    target,
                    serializable,
                    keys_only,
                    count_only,
                    min_mod,
                    max_mod,
                    min_create,
                    max_create,
                }
            },
        )
        .boxed()
}

fn put() -> BoxedStrategy<Put> {
    (
        key(),
        value(),
        seldom(0.3, lease()),
        proptest::bool::weighted(0.3),
        proptest::bool::weighted(0.08),
        proptest::bool::weighted(0.08),
    )
        .prop_map(|(key, value, lease, prev_kv, ignore_value, ignore_lease)| Put {
            key,
            // With a value it is refused; that shall not be the rule.
            value: match value {
                Val::Text(number) if ignore_value && number > 0 => Val::Unset,
                value => value,
            },
            lease: match lease {
                Lease::Slot(slot) if ignore_lease && slot > 0 => Lease::Unset,
                lease => lease,
            },
            prev_kv,
            ignore_value,
            ignore_lease,
        })
        .boxed()
}

fn delete() -> BoxedStrategy<Delete> {
    (keys(), proptest::bool::weighted(0.4))
        .prop_map(|((key, end), prev_kv)| Delete { key, end, prev_kv })
        .boxed()
}

fn compare() -> BoxedStrategy<Compare> {
    let operand = |target: i32| match target {
        0 => (0..4i64).prop_map(Operand::Version).boxed(),
        1 => revision().prop_map(Operand::Create).boxed(),
        2 => revision().prop_map(Operand::Mod).boxed(),
        3 => value().prop_map(Operand::Value).boxed(),
        4 => seldom(0.5, lease()).prop_map(Operand::Lease).boxed(),
        _ => Just(Operand::Unset).boxed(),
    };
    let any_operand = (0..6i32).prop_flat_map(operand);
    let matching = enumerated(5).prop_flat_map(move |target| (Just(target), operand(target)));
    let target = prop_oneof![12 => matching, 1 => (enumerated(5), any_operand)];
    (enumerated(4), target, key(), seldom(0.15, keys()))
        .prop_map(|(result, (target, operand), key, (start, end))| Compare {
            result,
            target,
            key: if end == End::Unset { key } else { start },
            end,
            operand,
        })
        .boxed()
}

fn op(depth: u32) -> BoxedStrategy<Op> {
    let mut kinds = vec![
        (8, put().prop_map(Op::Put).boxed()),
        (5, range().prop_map(Op::Range).boxed()),
        (4, delete().prop_map(Op::Delete).boxed()),
    ];
    if depth > 1 {
        kinds.push((2, txn(depth - 1).prop_map(Op::Txn).boxed()));
    }
    kinds.push((1, Just(Op::Nothing).boxed()));
    Union::new_weighted(kinds).boxed()
}

fn txn(depth: u32) -> BoxedStrategy<Txn> {
    (vec(compare(), 0..3), vec(op(depth), 0..4), vec(op(depth), 0..3))
        .prop_map(|(compare, success, failure)| Txn {
            compare,
            success,
            failure,
        })
        .boxed()
}

fn compact() -> BoxedStrategy<Step> {
    let revision = prop_oneof![
        8 => (-4..=1i64).prop_map(Rev::Now),
        3 => (0..6i64).prop_map(Rev::Start),
        2 => (-1..=1i64).prop_map(Rev::Compacted),
        1 => select(vec![0, -1, i64::MAX]).prop_map(Rev::At),
    ];
    (revision, any::<bool>())
        .prop_map(|(revision, physical)| Step::Compact { revision, physical })
        .boxed()
}

fn lease_step() -> BoxedStrategy<Step> {
    let usual = select(vec![60, 100, 3600, 9_000_000_000]);
    let odd = select(vec![0, 1, -5, 2, 5, 9_000_000_001, i64::MAX, i64::MIN]);
    let ttl = prop_oneof![8 => usual, 2 => odd];
    prop_oneof![
        8 => (seldom(0.95, lease()), ttl).prop_map(|(lease, ttl)| Step::Grant { lease, ttl }),
        3 => (lease(), any::<bool>()).prop_map(|(lease, keys)| Step::TimeToLive { lease, keys }),
        2 => lease().prop_map(Step::KeepAlive),
        2 => lease().prop_map(Step::Revoke),
        1 => Just(Step::Leases),
    ]
    .boxed()
}

fn watch_step() -> BoxedStrategy<Step> {
    let stream = || 0..STREAMS;
    let id = || prop_oneof![8 => Just(0), 3 => 0..4i64, 1 => select(vec![-1, -2, 100, i64::MAX, i64::MIN])];
    let filters = vec(enumerated(2), 1..3);
    let flags = (
        proptest::bool::weighted(0.4),
        proptest::bool::weighted(0.1),
        proptest::bool::weighted(0.2),
    );
    let start = prop_oneof![
        4 => Just(Rev::Unset),
        8 => (-6..=4i64).prop_map(Rev::Now),
        3 => (-1..6i64).prop_map(Rev::Start),
        3 => (-1..=1i64).prop_map(Rev::Compacted),
        1 => select(vec![-1, 1, i64::MAX, i64::MIN]).prop_map(Rev::At),
    ];
    let watch = (stream(), keys(), start, seldom(0.15, filters), flags, id()).prop_map(
        |(stream, (key, end), start, filters, (prev_kv, progress_notify, fragment), id)| {
            Step::Watch(Watch {
                stream,
                key,
                end,
                start,
                filters,
                prev_kv,
                progress_notify,
                fragment,
                id,
            })
        },
    );
    prop_oneof![
        10 => watch,
        2 => (stream(), id()).prop_map(|(stream, id)| Step::CancelWatch { stream, id }),
        2 => stream().prop_map(Step::Settle),
        1 => stream().prop_map(Step::EmptyWatchRequest),
        1 => Just(Step::ProgressOfNothing),
    ]
    .boxed()
}

fn member() -> BoxedStrategy<Member> {
    prop_oneof![4 => Just(Member::Own), 1 => select(vec![0, 77]).prop_map(Member::Id)].boxed()
}

/// Changes of the membership that are refused: the cluster is to stay what it is.
fn membership() -> impl Strategy<Value = Step> {
    let nobody = || select(vec![0, 77, u64::MAX]).prop_map(Member::Id);
    let texts = |urls: &[&str]| urls.iter().map(|&url| url.to_owned()).collect::<Vec<_>>();
    let urls = move || {
        select(vec![
            texts(&[]),
            texts(&[""]),
            texts(&["12"]),
            texts(&["127.0.0.1:12"]),
            texts(&["ftp://127.0.0.1:12"]),
            texts(&["http://127.0.0.1"]),
            texts(&["http://127.0.0.1:12/"]),
            texts(&["http://127.0.0.1:12", "https://x"]),
            texts(&["http://127.0.0.1:12", "unix"]),
        ])
    };
    prop_oneof![
        3 => urls().prop_map(Step::MemberAdd),
        1 => nobody().prop_map(Step::MemberRemove),
        2 => (nobody(), urls()).prop_map(|(whom, urls)| Step::MemberUpdate(whom, urls)),
        1 => nobody().prop_map(Step::MemberPromote),
        1 => Just(Step::MemberPromote(Member::Own)),
    ]
}

fn operation(baseline: bool) -> BoxedStrategy<Step> {
    // An action outside the enum ends a real etcd, and a type outside of it is kept there as if it were one.
    let alarm = (0..3i32, member(), 0..3i32).prop_map(|(action, member, alarm)| Step::Alarm {
        action,
        member,
        alarm,
    });
    let version = select(vec![
        "3.6.0", "3.6", "3.5.0", "3.7.0", "3.8.0", "4.0.0", "", "x", "3.6.1", "v3.6.0",
    ]);
    // Enabling would begin to downgrade a real etcd.
    let downgrade = (select(vec![0, 2, 3, -1]), version).prop_map(|(action, version)| Step::Downgrade {
        action,
        version: version.to_owned(),
    });
    let mut kinds = vec![
        (8, alarm.boxed()),
        (3, Just(Step::Status).boxed()),
        (2, any::<bool>().prop_map(Step::MemberList).boxed()),
        (1, Just(Step::Defragment).boxed()),
        (1, member().prop_map(Step::MoveLeader).boxed()),
        (1, Just(Step::Hash).boxed()),
        (
            1,
            select(vec!["", "etcdserverpb.KV", "x"])
                .prop_map(|service| Step::Health(service.to_owned()))
                .boxed(),
        ),
    ];
    if baseline {
        kinds.push((2, downgrade.boxed()));
        kinds.push((3, membership().boxed()));
    }
    Union::new_weighted(kinds).boxed()
}

fn election_step() -> BoxedStrategy<Step> {
    let name = || 0..2u8;
    let leader = || select(vec![Leader::Last, Leader::Last, Leader::Other, Leader::None]);
    // With a lease of its own per name, since a second candidate would wait.
    prop_oneof![
        3 => (0..LEASES).prop_map(|lease| Step::Grant { lease: Lease::Slot(lease), ttl: 60 }),
        2 => name().prop_map(|name| Step::Lock(name, Lease::Slot(name))),
        2 => name().prop_map(|name| Step::Unlock(name, Lease::Slot(name))),
        3 => (name(), value()).prop_map(|(name, value)| Step::Campaign(name, Lease::Slot(name + 2), value)),
        2 => (name(), leader(), value()).prop_map(|(name, leader, value)| Step::Proclaim(name, leader, value)),
        2 => name().prop_map(Step::Leader),
        1 => (name(), leader()).prop_map(|(name, leader)| Step::Resign(name, leader)),
        1 => name().prop_map(Step::Observe),
    ]
    .boxed()
}

/// Metadata, messages that are none, and lists near their limits.
fn odd(baseline: bool) -> BoxedStrategy<Step> {
    let mut metadata = vec![
        Metadata::HasLeader,
        Metadata::HasLeaderOtherwise,
        Metadata::ApiVersion,
        Metadata::Unknown,
    ];
    if baseline {
        metadata.push(Metadata::ApiVersionBroken);
    }
    let inner = prop_oneof![
        put().prop_map(Step::Put),
        range().prop_map(Step::Range),
        Just(Step::MemberList(false)),
        Just(Step::Status),
    ];
    let sizes = || select(vec![0u16, 1, 127, 128, 129]);
    let raw = select(RAW.to_vec()).prop_map(|(method, hex)| Step::Raw {
        method: method.to_owned(),
        hex: hex.to_owned(),
    });
    let large = select(vec![
        1_572_000u32,
        1_572_860,
        1_572_864,
        1_600_000,
        2_097_000,
        2_097_152,
        2_200_000,
    ]);
    prop_oneof![
        6 => (select(metadata), inner).prop_map(|(metadata, inner)| Step::With(metadata, Box::new(inner))),
        2 => (sizes(), sizes(), sizes()).prop_map(|(compares, success, failure)| Step::ManyOps(compares, success, failure)),
        4 => raw,
        1 => (key(), large).prop_map(|(key, size)| Step::Put(Put { key, value: Val::Bytes(size), ..Put::default() })),
    ]
    .boxed()
}

fn http_step(baseline: bool) -> BoxedStrategy<Step> {
    let get = |paths: &'static [&'static str]| {
        select(paths).prop_map(|path| Step::Http {
            path: path.to_owned(),
            body: None,
        })
    };
    let post = select(POSTS).prop_map(|(path, body)| Step::Http {
        path: path.to_owned(),
        body: Some(body.to_owned()),
    });
    if baseline {
        prop_oneof![2 => get(GETS), 1 => get(PROBES), 6 => post].boxed()
    } else {
        get(GETS).boxed()
    }
}

/// What every etcd has.
const GETS: &[&str] = &[
    "/health",
    "/health?serializable=true",
    "/health?exclude=NOSPACE",
    "/health?exclude=CORRUPT",
];

/// What came with 3.5.11, and what does not exist.
const PROBES: &[&str] = &[
    "/version",
    "/livez",
    "/readyz",
    "/livez?verbose",
    "/readyz?verbose",
    "/readyz?exclude=linearizable_read",
    "/readyz/serializable_read",
    "/livez/serializable_read",
    "/livez/nothing",
    "/nothing",
    "/v3/kv/range",
];

/// Calls by the JSON gateway, with keys that have no prefix, and bodies that are none.
const POSTS: &[(&str, &str)] = &[
    ("/v3/kv/put", r#"{"key":"Zm9v","value":"YmFy"}"#),
    ("/v3/kv/put", r#"{"key":"Zm9v","value":"YmF6","prev_kv":true}"#),
    ("/v3/kv/put", r#"{"key":"Zm9vMQ==","value":"","prevKv":true}"#),
    ("/v3/kv/put", r#"{"key":"Zm9v","lease":"77"}"#),
    ("/v3/kv/put", r#"{"key":"Zm9v","lease":77}"#),
    ("/v3/kv/put", r#"{"key":"Zm9v","ignore_value":true}"#),
    ("/v3/kv/put", r#"{"key":"not base64"}"#),
    ("/v3/kv/put", r#"{"key":"Zm9v","unknown":1}"#),
    ("/v3/kv/put", r#"{"key":null,"value":"YmFy"}"#),
    ("/v3/kv/put", r#"{"key":"Zm9v""#),
    ("/v3/kv/put", r#"[]"#),
    ("/v3/kv/put", ""),
    ("/v3/kv/range", r#"{"key":"Zm9v"}"#),
    ("/v3/kv/range", r#"{"key":"AA==","range_end":"AA=="}"#),
    ("/v3/kv/range", r#"{"key":"Zm9v","range_end":"Zm9w","limit":"1"}"#),
    (
        "/v3/kv/range",
        r#"{"key":"Zm9v","range_end":"Zm9w","limit":1,"count_only":true}"#,
    ),
    (
        "/v3/kv/range",
        r#"{"key":"Zm9v","range_end":"Zm9w","sort_order":"DESCEND","sort_target":"MOD"}"#,
    ),
    (
        "/v3/kv/range",
        r#"{"key":"Zm9v","sort_order":1,"sort_target":"VALUE"}"#,
    ),
    ("/v3/kv/range", r#"{"key":"Zm9v","sort_order":"SIDEWAYS"}"#),
    ("/v3/kv/range", r#"{"key":"Zm9v","revision":"999999999"}"#),
    ("/v3/kv/range", r#"{"key":"Zm9v","serializable":"yes"}"#),
    ("/v3/kv/range", r#"{}"#),
    ("/v3/kv/deleterange", r#"{"key":"Zm9v","prev_kv":true}"#),
    ("/v3/kv/deleterange", r#"{"key":"Zm9v","range_end":"Zm9w"}"#),
    (
        "/v3/kv/txn",
        r#"{"compare":[{"result":"EQUAL","target":"CREATE","key":"Zm9v","createRevision":"0"}],"success":[{"requestPut":{"key":"Zm9v","value":"YmFy"}}],"failure":[{"requestRange":{"key":"Zm9v"}}]}"#,
    ),
    (
        "/v3/kv/txn",
        r#"{"compare":[{"target":"VALUE","key":"Zm9v","value":"YmFy"}],"success":[{"request_delete_range":{"key":"Zm9v"}}]}"#,
    ),
    (
        "/v3/kv/txn",
        r#"{"success":[{"requestPut":{"key":"Zm9v"}},{"requestPut":{"key":"Zm9v"}}]}"#,
    ),
    ("/v3/kv/txn", r#"{}"#),
    ("/v3/kv/compaction", r#"{"revision":"-1"}"#),
    ("/v3/lease/grant", r#"{"TTL":"100","ID":"77"}"#),
    ("/v3/lease/grant", r#"{"TTL":100,"ID":"77"}"#),
    ("/v3/lease/grant", r#"{"TTL":"9000000001"}"#),
    ("/v3/lease/revoke", r#"{"ID":"77"}"#),
    ("/v3/kv/lease/revoke", r#"{"ID":77}"#),
    ("/v3/lease/leases", r#"{}"#),
    ("/v3/lease/keepalive", r#"{"ID":"77"}"#),
    ("/v3/cluster/member/list", r#"{}"#),
    ("/v3/cluster/member/add", r#"{"peerURLs":["12"]}"#),
    ("/v3/cluster/member/add", r#"{"isLearner":true}"#),
    ("/v3/cluster/member/remove", r#"{"ID":"77"}"#),
    (
        "/v3/cluster/member/update",
        r#"{"ID":77,"peerURLs":["http://127.0.0.1:12"]}"#,
    ),
    ("/v3/cluster/member/promote", r#"{"ID":"77"}"#),
    ("/v3/cluster/member/promote", r#"{"ID":"-1"}"#),
    ("/v3/maintenance/alarm", r#"{"action":"GET"}"#),
    ("/v3/maintenance/hashkv", r#"{"revision":"0"}"#),
    ("/v3/kv/nothing", r#"{}"#),
    ("/v3/kv/range/", r#"{"key":"Zm9v"}"#),
];

/// Methods that do not exist, messages that cannot be decoded, and messages with more in them than is known.
const RAW: &[(&str, &str)] = &[
    ("/etcdserverpb.KV/Nothing", ""),
    ("/etcdserverpb.Nothing/Range", ""),
    ("/nothing", ""),
    ("/etcdserverpb.KV/Range", "0a"),
    ("/etcdserverpb.KV/Range", "0a05"),
    ("/etcdserverpb.KV/Range", "ff"),
    ("/etcdserverpb.KV/Range", ""),
    // The key twice: the last counts.
    ("/etcdserverpb.KV/Range", "0a01780a0179"),
    // An unknown field of each wire type.
    ("/etcdserverpb.KV/Range", "0a0178a00601"),
    ("/etcdserverpb.KV/Range", "0a0178a2060178"),
    ("/etcdserverpb.KV/Range", "0a0178a5060000000000"),
    // The key as a number.
    ("/etcdserverpb.KV/Range", "0801"),
    // A boolean of 2.
    ("/etcdserverpb.KV/Range", "0a01784002"),
    ("/etcdserverpb.KV/Put", "0a"),
    ("/etcdserverpb.KV/Put", "12"),
    ("/etcdserverpb.KV/Txn", "0a01"),
    ("/etcdserverpb.KV/Txn", "1202"),
    ("/etcdserverpb.KV/DeleteRange", "80"),
    ("/etcdserverpb.Lease/LeaseGrant", "08"),
    // A string that is not UTF-8.
    ("/etcdserverpb.Maintenance/Downgrade", "1201ff"),
];

//! The contract's corner cases, on the model itself: an oracle must not be wrong.

use proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use proto::etcdserverpb::request_op::Request as Op;
use proto::etcdserverpb::response_op::Response as OpAnswer;
use proto::etcdserverpb::{Compare, RequestOp};
use proto::mvccpb::event::EventType;

use super::*;

fn b(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn put_of(key: &str, value: &str) -> PutRequest {
    PutRequest {
        key: b(key),
        value: b(value),
        ..PutRequest::default()
    }
}

fn range_of(key: &str, end: &str) -> RangeRequest {
    RangeRequest {
        key: b(key),
        range_end: b(end),
        ..RangeRequest::default()
    }
}

fn delete_of(key: &str, end: &str) -> DeleteRangeRequest {
    DeleteRangeRequest {
        key: b(key),
        range_end: b(end),
        prev_kv: false,
    }
}

fn op(request: Op) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}

fn put_op(key: &str, value: &str) -> RequestOp {
    op(Op::RequestPut(put_of(key, value)))
}

fn delete_op(key: &str, end: &str) -> RequestOp {
    op(Op::RequestDeleteRange(delete_of(key, end)))
}

fn nested(success: Vec<RequestOp>, failure: Vec<RequestOp>) -> RequestOp {
    op(Op::RequestTxn(TxnRequest {
        compare: Vec::new(),
        success,
        failure,
    }))
}

fn then(success: Vec<RequestOp>) -> TxnRequest {
    TxnRequest {
        success,
        ..TxnRequest::default()
    }
}

fn compare(key: &str, end: &str, result: CompareResult, target: CompareTarget, with: TargetUnion) -> Compare {
    Compare {
        result: result.into(),
        target: target.into(),
        key: b(key),
        target_union: Some(with),
        range_end: b(end),
    }
}

/// A model with the keys put in turn, from revision 2 on.
fn with(keys: &[&str]) -> Model {
    let mut model = Model::default();
    for key in keys {
        model.put(&put_of(key, "v")).unwrap();
    }
    model
}

fn keys(response: &RangeResponse) -> Vec<&[u8]> {
    response.kvs.iter().map(|kv| &kv.key[..]).collect()
}

#[test]
fn revisions_start_at_one_and_count_changes() {
    let mut model = Model::default();
    assert_eq!(model.range(&range_of("a", "")).unwrap().header, Some(header(1)));
    assert_eq!(model.put(&put_of("a", "1")).unwrap().0.header, Some(header(2)));
    model.put(&put_of("a", "1")).unwrap();
    let kv = &model.live(3)[0];
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (2, 3, 2));
    let (deleted, events) = model.delete_range(&delete_of("x", "")).unwrap();
    assert_eq!(
        (deleted.deleted, deleted.header, events.len()),
        (0, Some(header(3)), 0)
    );
    model.delete_range(&delete_of("a", "")).unwrap();
    model.put(&put_of("a", "2")).unwrap();
    let kv = &model.live(5)[0];
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (5, 5, 1));
}

#[test]
fn old_revisions_are_read_under_the_current_header() {
    let mut model = with(&["a", "a", "b"]);
    let mut at = range_of("a", "z");
    at.revision = 3;
    let answer = model.range(&at).unwrap();
    assert_eq!((keys(&answer), answer.header), (vec![&b"a"[..]], Some(header(4))));
    model
        .compact(&CompactionRequest {
            revision: 3,
            physical: false,
        })
        .unwrap();
    assert!(model.range(&at).is_ok());
    at.revision = 2;
    assert_eq!(model.range(&at), Err(Error::Compacted));
    at.revision = 5;
    assert_eq!(model.range(&at), Err(Error::FutureRev));
}

#[test]
fn compaction_has_its_own_edges() {
    let mut model = Model::default();
    let compact = |revision| CompactionRequest {
        revision,
        physical: true,
    };
    assert_eq!(model.compact(&compact(-1)), Err(Error::Compacted));
    assert!(model.compact(&compact(0)).is_ok());
    assert_eq!(model.compact(&compact(0)), Err(Error::Compacted));
    assert!(model.compact(&compact(1)).is_ok());
    assert_eq!(model.compact(&compact(2)), Err(Error::FutureRev));
}

#[test]
fn compaction_keeps_what_the_revision_shows() {
    let mut model = with(&["a", "b"]);
    model.delete_range(&delete_of("b", "")).unwrap();
    model.put(&put_of("c", "v")).unwrap();
    model.delete_range(&delete_of("c", "")).unwrap();
    model
        .compact(&CompactionRequest {
            revision: 6,
            physical: false,
        })
        .unwrap();
    let watch = WatchCreateRequest {
        range_end: b("\0"),
        start_revision: 1,
        prev_kv: true,
        ..Default::default()
    };
    let left: Vec<_> = model
        .events(&watch)
        .into_iter()
        .map(|e| (e.kv.unwrap(), e.prev_kv))
        .collect();
    // The put of a stays, b is gone for good, and the deletion of exactly that revision is still told.
    assert_eq!(left.len(), 2);
    assert_eq!((&left[0].0.key[..], left[0].0.mod_revision), (&b"a"[..], 2));
    assert_eq!(
        (&left[1].0.key[..], left[1].0.mod_revision, &left[1].1),
        (&b"c"[..], 6, &None)
    );
}

#[test]
fn count_and_more_ignore_and_reflect_what_they_should() {
    let model = with(&["a", "b", "c", "d"]);
    let mut request = range_of("a", "z");
    request.limit = 2;
    request.min_mod_revision = 3;
    let answer = model.range(&request).unwrap();
    assert_eq!(
        (keys(&answer), answer.count, answer.more),
        (vec![&b"b"[..], b"c"], 4, true)
    );
    request.limit = 3;
    let answer = model.range(&request).unwrap();
    assert_eq!((answer.kvs.len(), answer.count, answer.more), (3, 4, false));
    request.count_only = true;
    let answer = model.range(&request).unwrap();
    assert_eq!((answer.kvs.len(), answer.count, answer.more), (0, 4, false));
    assert_eq!(model.range(&range_of("\0", "\0")).unwrap().count, 4);
    assert_eq!(model.range(&range_of("c", "a")).unwrap().count, 0);
}

#[test]
fn sorting_without_an_order_takes_the_limit_first() {
    let model = with(&["d", "c", "b", "a"]);
    let mut request = range_of("a", "z");
    request.sort_target = SortTarget::Mod.into();
    request.limit = 2;
    // The first three in key order are a (5), b (4), c (3).
    assert_eq!(keys(&model.range(&request).unwrap()), [b"c", b"b"]);
    request.sort_order = SortOrder::Ascend.into();
    assert_eq!(keys(&model.range(&request).unwrap()), [b"d", b"c"]);
    request.sort_order = SortOrder::Descend.into();
    let answer = model.range(&request).unwrap();
    assert_eq!((keys(&answer), answer.more), (vec![&b"a"[..], b"b"], true));
    request.sort_order = 99;
    assert_eq!(model.range(&request), Err(Error::InvalidSortOption));
    assert_eq!(model.range(&range_of("", "")), Err(Error::EmptyKey));
}

#[test]
fn keys_only_knows_no_lease_unless_sorted_by_value() {
    let mut model = Model::default();
    model.lease_grant(&LeaseGrantRequest { ttl: 5, id: 7 }).unwrap();
    model
        .put(&PutRequest {
            lease: 7,
            ..put_of("a", "2")
        })
        .unwrap();
    model
        .put(&PutRequest {
            lease: 7,
            ..put_of("b", "1")
        })
        .unwrap();
    let mut request = RangeRequest {
        keys_only: true,
        ..range_of("a", "z")
    };
    let answer = model.range(&request).unwrap();
    assert!(answer.kvs.iter().all(|kv| kv.value.is_empty() && kv.lease == 0));
    request.sort_target = SortTarget::Value.into();
    let answer = model.range(&request).unwrap();
    assert_eq!(keys(&answer), [b"b", b"a"]);
    assert!(answer.kvs.iter().all(|kv| kv.value.is_empty() && kv.lease == 7));
}

#[test]
fn a_put_checks_its_arguments_in_order() {
    let mut model = Model::default();
    let refused = |model: &mut Model, request: &PutRequest| model.put(request).unwrap_err();
    assert_eq!(refused(&mut model, &put_of("", "")), Error::EmptyKey);
    let both = PutRequest {
        ignore_value: true,
        ignore_lease: true,
        lease: 1,
        ..put_of("a", "v")
    };
    assert_eq!(refused(&mut model, &both), Error::ValueProvided);
    let lease = PutRequest {
        value: Bytes::new(),
        ..both
    };
    assert_eq!(refused(&mut model, &lease), Error::LeaseProvided);
    let unknown = PutRequest {
        lease: 1,
        ignore_value: true,
        ..put_of("a", "")
    };
    assert_eq!(refused(&mut model, &unknown), Error::LeaseNotFound);
    let absent = PutRequest {
        ignore_lease: true,
        ..put_of("a", "v")
    };
    assert_eq!(refused(&mut model, &absent), Error::KeyNotFound);
    assert_eq!(model.revision(), 1);
}

#[test]
fn ignoring_keeps_and_omitting_detaches() {
    let mut model = Model::default();
    model.lease_grant(&LeaseGrantRequest { ttl: 5, id: 7 }).unwrap();
    let (first, _) = model
        .put(&PutRequest {
            lease: 7,
            prev_kv: true,
            ..put_of("a", "1")
        })
        .unwrap();
    assert_eq!(first.prev_kv, None);
    model
        .put(&PutRequest {
            ignore_lease: true,
            ..put_of("a", "2")
        })
        .unwrap();
    assert_eq!(
        (model.live(3)[0].lease, &model.live(3)[0].value[..]),
        (7, &b"2"[..])
    );
    model
        .put(&PutRequest {
            ignore_value: true,
            ..put_of("a", "")
        })
        .unwrap();
    let kv = &model.live(4)[0];
    assert_eq!((kv.lease, &kv.value[..], kv.version), (0, &b"2"[..], 3));
    assert_eq!(model.lease_expire(7).unwrap(), []);
    assert_eq!(model.live(4).len(), 1);
}

#[test]
fn a_transaction_is_one_revision_and_sees_itself() {
    let mut model = with(&["a"]);
    let request = then(vec![
        op(Op::RequestRange(range_of("a", "z"))),
        put_op("b", "1"),
        op(Op::RequestRange(range_of("a", "z"))),
        delete_op("a", ""),
        nested(vec![put_op("c", "2")], Vec::new()),
    ]);
    let (answer, events) = model.txn(&request).unwrap();
    assert_eq!(
        (answer.header, answer.succeeded, model.revision()),
        (Some(header(3)), true, 3)
    );
    let inner: Vec<_> = answer
        .responses
        .iter()
        .map(|r| r.response.clone().unwrap())
        .collect();
    let OpAnswer::ResponseRange(before) = &inner[0] else {
        panic!("a range")
    };
    let OpAnswer::ResponseRange(after) = &inner[2] else {
        panic!("a range")
    };
    assert_eq!((before.header, before.count), (Some(header(2)), 1));
    assert_eq!(
        (after.header, after.count, after.kvs[1].mod_revision),
        (Some(header(3)), 2, 3)
    );
    let OpAnswer::ResponseTxn(last) = &inner[4] else {
        panic!("a transaction")
    };
    assert_eq!(last.header, Some(ResponseHeader::default()));
    let told: Vec<_> = events
        .iter()
        .map(|e| {
            (
                e.r#type,
                e.kv.as_ref().unwrap().key[0],
                e.kv.as_ref().unwrap().mod_revision,
            )
        })
        .collect();
    let (put, delete) = (i32::from(EventType::Put), i32::from(EventType::Delete));
    assert_eq!(told, [(put, b'b', 3), (delete, b'a', 3), (put, b'c', 3)]);
    assert_eq!(events[1].prev_kv.as_ref().unwrap().mod_revision, 2);
    assert_eq!(events[1].kv.as_ref().unwrap().version, 0);
    let reads = then(vec![
        op(Op::RequestRange(range_of("a", "z"))),
        nested(Vec::new(), Vec::new()),
    ]);
    assert_eq!(model.txn(&reads).unwrap().0.header, Some(header(3)));
}

#[test]
fn a_transaction_that_fails_changes_nothing() {
    let mut model = with(&["a"]);
    let before = model.clone();
    let absent = PutRequest {
        ignore_value: true,
        ..put_of("x", "")
    };
    let failing = [
        (op(Op::RequestPut(absent)), Error::KeyNotFound),
        (
            op(Op::RequestPut(PutRequest {
                lease: 9,
                ..put_of("x", "")
            })),
            Error::LeaseNotFound,
        ),
        (
            op(Op::RequestRange(RangeRequest {
                revision: 3,
                ..range_of("a", "")
            })),
            Error::FutureRev,
        ),
        (RequestOp { request: None }, Error::KeyNotFound),
        (op(Op::RequestRange(range_of("", ""))), Error::EmptyKey),
    ];
    for (failing, error) in failing {
        assert_eq!(model.txn(&then(vec![put_op("b", "1"), failing])), Err(error));
        assert_eq!(model, before);
    }
}

#[test]
fn duplicates_are_found_in_branches_that_never_run() {
    let mut model = Model::default();
    let refused = |model: &mut Model, request: TxnRequest| model.txn(&request).err();
    let failure = |failure| TxnRequest {
        failure,
        ..TxnRequest::default()
    };
    let dup = Some(Error::DuplicateKey);
    assert_eq!(
        refused(&mut model, failure(vec![put_op("a", ""), put_op("a", "")])),
        dup
    );
    assert_eq!(
        refused(&mut model, then(vec![put_op("b", ""), delete_op("a", "c")])),
        dup
    );
    assert_eq!(
        refused(&mut model, then(vec![delete_op("a", "c"), delete_op("a", "")])),
        None
    );
    let both = TxnRequest {
        success: vec![put_op("a", "")],
        failure: vec![put_op("a", "")],
        compare: vec![],
    };
    assert_eq!(refused(&mut model, both), None);
    let branches = nested(vec![put_op("a", "")], vec![put_op("a", "")]);
    assert_eq!(refused(&mut model, then(vec![branches.clone()])), None);
    assert_eq!(
        refused(&mut model, then(vec![branches.clone(), branches.clone()])),
        dup
    );
    assert_eq!(
        refused(&mut model, then(vec![branches, delete_op("a", "c")])),
        dup
    );
    let deep = nested(Vec::new(), vec![delete_op("a", "c")]);
    assert_eq!(refused(&mut model, then(vec![put_op("b", ""), deep])), dup);
    // An open end is compared as a plain one, so it covers nothing.
    assert_eq!(
        refused(&mut model, then(vec![put_op("b", ""), delete_op("a", "\0")])),
        None
    );
}

#[test]
fn a_nested_transaction_has_what_its_parent_left() {
    let mut model = Model::default();
    let many = |n: usize| (0..n).map(|i| put_op(&format!("k{i}"), "")).collect::<Vec<_>>();
    let full = TxnRequest {
        compare: vec![
            Compare {
                key: b("x"),
                ..Compare::default()
            };
            128
        ],
        success: many(128),
        failure: many(128),
    };
    assert!(model.txn(&full).is_ok());
    assert_eq!(model.txn(&then(many(129))), Err(Error::TooManyOps));
    let parent = |left: usize, inner: usize| {
        let mut ops = many(127 - left);
        let inner = (0..inner).map(|i| put_op(&format!("n{i}"), "")).collect();
        ops.push(nested(inner, Vec::new()));
        then(ops)
    };
    assert!(model.txn(&parent(3, 3)).is_ok());
    assert_eq!(model.txn(&parent(3, 4)), Err(Error::TooManyOps));
    assert!(model.txn(&parent(0, 0)).is_ok());
}

#[test]
fn compares_treat_absent_keys_as_zero_but_for_values() {
    use CompareResult::{Equal, Greater, Less, NotEqual};
    let mut model = with(&["a", "b", "b"]);
    let holds = |model: &mut Model, compare| {
        model
            .txn(&TxnRequest {
                compare: vec![compare],
                ..TxnRequest::default()
            })
            .unwrap()
            .0
            .succeeded
    };
    let value = |text| TargetUnion::Value(b(text));
    let version = TargetUnion::Version;
    let cases = [
        (compare("x", "", Equal, CompareTarget::Version, version(0)), true),
        (
            compare(
                "x",
                "",
                Less,
                CompareTarget::Create,
                TargetUnion::CreateRevision(1),
            ),
            true,
        ),
        (compare("x", "", Equal, CompareTarget::Value, value("")), false),
        (
            compare("x", "", NotEqual, CompareTarget::Value, value("x")),
            false,
        ),
        (compare("x", "z", Equal, CompareTarget::Version, version(0)), true),
        (
            compare("a", "z", Greater, CompareTarget::Version, version(0)),
            true,
        ),
        (
            compare("a", "z", Equal, CompareTarget::Version, version(1)),
            false,
        ),
        (compare("a", "", Equal, CompareTarget::Value, value("v")), true),
        (
            compare("a", "", Equal, CompareTarget::Lease, TargetUnion::Lease(0)),
            true,
        ),
        // A member of another target counts as zero.
        (compare("a", "", Equal, CompareTarget::Mod, version(2)), false),
        (compare("a", "", Greater, CompareTarget::Mod, version(2)), true),
    ];
    for (compare, expected) in cases {
        assert_eq!(holds(&mut model, compare.clone()), expected, "{compare:?}");
    }
    let odd = |key: &str, result, target| Compare {
        key: b(key),
        result,
        target,
        ..Compare::default()
    };
    assert!(holds(&mut model, odd("a", 9, 0)));
    assert!(!holds(&mut model, odd("x", 9, CompareTarget::Value.into())));
    assert!(holds(&mut model, odd("a", Equal.into(), 9)));
    assert!(!holds(&mut model, odd("a", NotEqual.into(), 9)));
}

#[test]
fn nested_compares_see_the_state_before_the_transaction() {
    let mut model = Model::default();
    let seen = compare(
        "a",
        "",
        CompareResult::Greater,
        CompareTarget::Version,
        TargetUnion::Version(0),
    );
    let inner = TxnRequest {
        compare: vec![seen],
        ..TxnRequest::default()
    };
    let (answer, _) = model
        .txn(&then(vec![put_op("a", ""), op(Op::RequestTxn(inner))]))
        .unwrap();
    let Some(OpAnswer::ResponseTxn(nested)) = &answer.responses[1].response else {
        panic!("nested")
    };
    assert!(!nested.succeeded);
}

#[test]
fn leases_end_with_their_keys_in_one_revision() {
    let mut model = Model::default();
    let grant = |ttl, id| LeaseGrantRequest { ttl, id };
    assert_eq!(model.lease_grant(&grant(-5, 7)).unwrap().ttl, 2);
    assert_eq!(model.lease_grant(&grant(60, 7)), Err(Error::LeaseExist));
    assert_eq!(
        model.lease_grant(&grant(LEASE_TTL_MAX + 1, 8)),
        Err(Error::LeaseTtlTooLarge)
    );
    for key in ["c", "a", "b"] {
        model
            .put(&PutRequest {
                lease: 7,
                ..put_of(key, "")
            })
            .unwrap();
    }
    let (answer, events) = model.lease_revoke(&LeaseRevokeRequest { id: 7 }).unwrap();
    assert_eq!(answer.header, Some(header(5)));
    let gone: Vec<_> = events.iter().map(|e| e.kv.as_ref().unwrap().key[0]).collect();
    assert_eq!(gone, b"abc");
    assert_eq!(
        model.lease_revoke(&LeaseRevokeRequest { id: 7 }),
        Err(Error::LeaseNotFound)
    );
    assert_eq!(model.lease_keep_alive(LeaseKeepAliveRequest { id: 7 }).ttl, 0);
    assert_eq!(
        model
            .lease_time_to_live(LeaseTimeToLiveRequest { id: 7, keys: true })
            .ttl,
        -1
    );
    model.lease_grant(&grant(9, 7)).unwrap();
    assert_eq!(model.lease_keys(7), Vec::<Bytes>::new());
    assert_eq!(model.lease_expire(7), Ok(Vec::new()));
    assert_eq!(model.revision(), 5);
}

#[test]
fn a_preview_leaves_no_trace() {
    let mut model = with(&["a", "b"]);
    model.lease_grant(&LeaseGrantRequest { ttl: 5, id: 7 }).unwrap();
    let before = model.clone();
    let requests = [
        Request::Put(put_of("a", "new")),
        Request::Put(put_of("new", "new")),
        Request::DeleteRange(delete_of("a", "z")),
        Request::Txn(then(vec![put_op("x", ""), delete_op("a", "c"), put_op("y", "")])),
        Request::Compact(CompactionRequest {
            revision: 2,
            physical: false,
        }),
        Request::LeaseRevoke(LeaseRevokeRequest { id: 7 }),
    ];
    for request in &requests {
        let previewed = model.preview(request);
        assert_eq!(model, before, "{request:?}");
        assert_eq!(previewed, model.clone().apply(request));
    }
}

#[test]
fn filters_drop_the_kind_they_name() {
    let mut model = with(&["a"]);
    model.delete_range(&delete_of("a", "")).unwrap();
    let watch = |filters| WatchCreateRequest {
        key: b("a"),
        filters,
        prev_kv: true,
        ..Default::default()
    };
    let kinds = |filters| {
        model
            .events(&watch(filters))
            .iter()
            .map(|e| e.r#type)
            .collect::<Vec<_>>()
    };
    let no_put = proto::etcdserverpb::watch_create_request::FilterType::Noput;
    let no_delete = proto::etcdserverpb::watch_create_request::FilterType::Nodelete;
    assert_eq!(kinds(vec![no_put.into()]), [i32::from(EventType::Delete)]);
    assert_eq!(kinds(vec![no_delete.into()]), [i32::from(EventType::Put)]);
    assert_eq!(kinds(vec![no_delete.into(), no_put.into()]), Vec::<i32>::new());
}

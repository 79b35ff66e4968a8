//! Golden bytes: what a mistyped number in a `.proto` file would change.

use bytes::Bytes;
use prost::Message;

use crate::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::etcdserverpb::{
    AuthUserAddRequest, Compare, InternalRaftRequest, Member, ProposalId, PutRequest, RequestHeader,
    WatchResponse, request_op,
};
use crate::etcdserverpb::{RequestOp, TxnRequest};
use crate::mvccpb::event::EventType;
use crate::mvccpb::{Event, KeyValue};

fn compare() -> Compare {
    Compare {
        result: CompareResult::NotEqual.into(),
        target: CompareTarget::Lease.into(),
        key: Bytes::from_static(b"k"),
        range_end: Bytes::from_static(b"l"),
        target_union: Some(TargetUnion::Lease(5)),
    }
}

#[test]
fn replicated_request_survives_a_round_trip() {
    let request = InternalRaftRequest {
        id: 7,
        header: Some(RequestHeader {
            id: 7,
            username: "root".into(),
            auth_revision: 3,
        }),
        txn: Some(TxnRequest {
            compare: vec![compare()],
            success: vec![RequestOp {
                request: Some(request_op::Request::RequestPut(PutRequest {
                    key: Bytes::from_static(b"k"),
                    value: Bytes::from_static(&[0, 0xff]),
                    lease: -1,
                    ..PutRequest::default()
                })),
            }],
            failure: vec![],
        }),
        auth_user_add: Some(Box::new(AuthUserAddRequest {
            name: "alice".into(),
            ..AuthUserAddRequest::default()
        })),
        proposal: Some(ProposalId {
            member: u64::MAX,
            boot: 2,
            counter: 3,
        }),
        revoke_term: 9,
        ..InternalRaftRequest::default()
    };
    let encoded = Bytes::from(request.encode_to_vec());
    assert_eq!(InternalRaftRequest::decode(encoded).unwrap(), request);
}

#[test]
fn watch_events_are_field_11() {
    let response = WatchResponse {
        watch_id: -1,
        fragment: true,
        events: vec![Event {
            r#type: EventType::Delete.into(),
            kv: Some(KeyValue {
                key: Bytes::from_static(b"a"),
                mod_revision: 300,
                ..KeyValue::default()
            }),
            prev_kv: None,
        }],
        ..WatchResponse::default()
    };
    let golden: &[u8] = &[
        0x10, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, // watch_id 2: -1
        0x38, 0x01, // fragment 7
        0x5a, 0x0a, // events 11, 10 bytes
        0x08, 0x01, // type 1: DELETE
        0x12, 0x06, 0x0a, 0x01, b'a', 0x18, 0xac, 0x02, // kv 2: key 1, mod_revision 3
    ];
    assert_eq!(response.encode_to_vec(), golden);
}

#[test]
fn compare_range_end_is_field_64() {
    let golden: &[u8] = &[
        0x08, 0x03, 0x10, 0x04, // result 1, target 2
        0x1a, 0x01, b'k', // key 3
        0x40, 0x05, // lease 8
        0x82, 0x04, 0x01, b'l', // range_end 64
    ];
    assert_eq!(compare().encode_to_vec(), golden);
}

#[test]
fn member_urls_are_fields_3_and_4() {
    let member = Member {
        id: 1,
        name: "n".into(),
        peer_urls: vec!["p".into()],
        client_urls: vec!["c".into()],
        is_learner: true,
    };
    let golden: &[u8] = &[
        0x08, 0x01, 0x12, 0x01, b'n', 0x1a, 0x01, b'p', 0x22, 0x01, b'c', 0x28, 0x01,
    ];
    assert_eq!(member.encode_to_vec(), golden);
}

#[test]
fn own_fields_of_the_replicated_request_are_20000_and_20001() {
    let request = InternalRaftRequest {
        proposal: Some(ProposalId {
            member: 1,
            boot: 0,
            counter: 2,
        }),
        revoke_term: 3,
        ..InternalRaftRequest::default()
    };
    let golden: &[u8] = &[
        0x82, 0xe2, 0x09, 0x0b, // proposal 20000, 11 bytes
        0x09, 1, 0, 0, 0, 0, 0, 0, 0, // member 1, fixed
        0x18, 0x02, // counter 3
        0x88, 0xe2, 0x09, 0x03, // revoke_term 20001
    ];
    assert_eq!(request.encode_to_vec(), golden);
}

#[test]
fn replicated_request_stays_small_to_move() {
    assert!(std::mem::size_of::<InternalRaftRequest>() <= 1024);
}

#[test]
fn descriptors_keep_the_names_of_the_wire() {
    let names = crate::FILE_DESCRIPTOR_SET;
    assert!(names.windows(8).any(|window| window == b"peerURLs"));
}

//! Entries of the log: whatever passes the checks that stand before a proposal applies without a panic, a refused one
//! changes nothing, the index stays whole, and the state is one that can be read back from its history.
//!
//! An input is a list of pieces; the first byte of a piece says what the rest is.

use bytes::Bytes;
use prost::Message as _;
use proto::authpb::Permission;
use proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use proto::etcdserverpb::request_op::Request as Op;
use proto::etcdserverpb::{
    AlarmRequest, Attributes, AuthRoleAddRequest, AuthRoleGrantPermissionRequest, AuthUserAddRequest,
    AuthUserDeleteRequest, AuthUserGrantRoleRequest, ClusterMemberAttrSetRequest, ClusterVersionSetRequest,
    CompactionRequest, Compare, DeleteRangeRequest, InternalAuthenticateRequest, InternalRaftRequest,
    LeaseCheckpoint, LeaseCheckpointRequest, LeaseGrantRequest, LeaseRevokeRequest, PutRequest, RangeRequest,
    RequestHeader, RequestOp, TxnRequest,
};
use store::apply::{
    Applied, CommittedEntry, RequestKind, Response, State, check_delete, check_put, check_txn, cost_of_txn,
    is_read_only,
};
use store::membership::{Member, MemberChange, Membership, What};
use store::mvcc::Restore;
use store::types::{EntryKind, Index, LeaseId, MemberId, Term};

use super::input::{Input, push_piece};

/// Applies a list of entries.
///
/// # Panics
/// Where one of them breaks the state.
pub fn one_input(data: &[u8]) {
    let mut world = World::new();
    let mut input = Input::new(data);
    for _ in 0..ENTRIES_MAX {
        let Some(piece) = input.piece() else { break };
        let mut piece = Input::new(piece);
        let flags = piece.byte();
        world.term += u64::from(flags & NEXT_TERM != 0);
        let data = Bytes::copy_from_slice(piece.rest());
        if flags & CHANGE != 0 {
            world.change(data);
        } else {
            world.request(data);
        }
    }
    world.restored();
}

struct World {
    state: State,
    index: u64,
    term: u64,
    histories: Vec<store::types::SharedRevision>,
}

impl World {
    fn new() -> World {
        World {
            state: State::new(Membership::bootstrap(vec![member("a"), member("b")])),
            index: 0,
            term: 1,
            histories: Vec::new(),
        }
    }

    fn request(&mut self, data: Bytes) {
        let Ok(request) = InternalRaftRequest::decode(data.clone()) else {
            return;
        };
        let again = InternalRaftRequest::decode(&request.encode_to_vec()[..]);
        assert_eq!(
            again.as_ref(),
            Ok(&request),
            "a request is read back as it was written"
        );
        if !is_proposed(&request) {
            return;
        }
        let _ = (
            store::shell::text::internal(&request),
            RequestKind::of(&request).name(),
        );
        match &request.txn {
            Some(txn) if request.put.is_none() && request.delete_range.is_none() && is_read_only(txn) => {
                self.read(txn);
            }
            _ => self.apply(EntryKind::Request, data),
        }
    }

    fn read(&self, txn: &TxnRequest) {
        if let Ok((plan, _)) = self.state.read_txn(txn) {
            assert!(plan.missing().is_empty(), "everything is in memory");
            let _ = plan.finish(&Default::default()).encode_to_vec();
        }
    }

    fn change(&mut self, data: Bytes) {
        if MemberChange::decode(&data).is_ok() {
            self.apply(EntryKind::Change, data);
        }
    }

    fn apply(&mut self, kind: EntryKind, data: Bytes) {
        self.index += 1;
        let before = self.state.mvcc.current();
        let keys = self.state.mvcc.live_keys();
        let applied = self.state.apply(&CommittedEntry {
            term: Term(self.term),
            index: Index(self.index),
            kind,
            data,
        });
        let after = self.state.mvcc.current();
        assert_eq!(
            after - before,
            i64::from(applied.committed.is_some()),
            "one revision at most"
        );
        if applied.response.is_err() {
            assert_eq!(
                (after, self.state.mvcc.live_keys()),
                (before, keys),
                "refused, and changed"
            );
        }
        answered(&applied);
        self.histories.extend(applied.committed);
        self.state.mvcc.verify();
        if self.state.mvcc.compaction().is_some() {
            self.state.mvcc.compaction_step(COMPACTION_KEYS);
        }
    }

    /// Reads the state back from its tables and its history, as a start would.
    fn restored(&self) {
        let State {
            mvcc,
            lessor,
            membership,
            alarms,
            auth,
            ..
        } = &self.state;
        let mut read = store::lease::Lessor::decode(&lessor.encode()).expect("leases are read back");
        assert_eq!(
            &Membership::decode(&membership.encode()).expect("members are read back"),
            membership
        );
        assert_eq!(
            &store::alarm::Alarms::decode(&alarms.encode()).expect("alarms are read back"),
            alarms
        );
        assert_eq!(
            &store::auth::AuthState::decode(&auth.encode()).expect("auth is read back"),
            auth
        );
        if mvcc.compacted() >= 0 {
            // What is left of a compacted history is for the working copy to say.
            return;
        }
        let mut restore = Restore::new(-1, true);
        self.histories
            .iter()
            .flat_map(|revision| &revision.changes)
            .for_each(|change| restore.push(change));
        let restored = restore.finish(mvcc.current(), |lease, key| read.attach(lease, key.clone()));
        restored.verify();
        assert_eq!(&read, lessor, "keys are attached as they were");
        assert_eq!(
            (restored.live_keys(), restored.live_bytes(), restored.revisions()),
            (mvcc.live_keys(), mvcc.live_bytes(), mvcc.revisions())
        );
    }
}

/// What stands before a proposal (the server's checks and the handle's).
fn is_proposed(request: &InternalRaftRequest) -> bool {
    let put = request.put.as_ref().is_none_or(|put| check_put(put).is_ok());
    let delete = request
        .delete_range
        .as_ref()
        .is_none_or(|delete| check_delete(delete).is_ok());
    let txn = request.txn.as_ref().is_none_or(|txn| {
        let _ = cost_of_txn(txn);
        check_txn(txn, OPS_MAX).is_ok()
    });
    put && delete && txn
}

/// The answer can be finished and written.
fn answered(applied: &Applied) {
    if let Ok(Response::Txn(plan)) = &applied.response {
        assert!(plan.missing().is_empty(), "everything is in memory");
        let _ = plan.clone().finish(&Default::default()).encode_to_vec();
    }
}

fn member(name: &str) -> Member {
    Member::bootstrap(name.to_owned(), vec![format!("http://{name}:2380")], "token")
}

/// One entry of each kind, and a few that belong together.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let all = entries();
    let mut seeds: Vec<Vec<u8>> = all
        .iter()
        .map(|entry| list(std::slice::from_ref(entry)))
        .collect();
    seeds.push(list(&all));
    let mut again = all.clone();
    again.rotate_left(3);
    seeds.push(list(&[all, again].concat()));
    seeds
}

fn list(entries: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut seed = Vec::new();
    for (flags, data) in entries {
        let mut piece = vec![*flags];
        piece.extend_from_slice(data);
        push_piece(&mut seed, &piece);
    }
    seed
}

fn entries() -> Vec<(u8, Vec<u8>)> {
    let put = |key: &str, lease| PutRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: "value".into(),
        lease,
        prev_kv: lease == 0,
        ..PutRequest::default()
    };
    let requests = [
        InternalRaftRequest {
            lease_grant: Some(LeaseGrantRequest { ttl: 60, id: 7 }),
            ..Default::default()
        },
        InternalRaftRequest {
            put: Some(put("a", 0)),
            ..Default::default()
        },
        InternalRaftRequest {
            put: Some(put("b", 7)),
            ..Default::default()
        },
        InternalRaftRequest {
            txn: Some(txn(2)),
            ..Default::default()
        },
        InternalRaftRequest {
            delete_range: Some(DeleteRangeRequest {
                key: "a".into(),
                range_end: "c".into(),
                prev_kv: true,
            }),
            ..Default::default()
        },
        InternalRaftRequest {
            compaction: Some(CompactionRequest {
                revision: 2,
                physical: true,
            }),
            ..Default::default()
        },
        InternalRaftRequest {
            lease_checkpoint: Some(LeaseCheckpointRequest {
                checkpoints: vec![LeaseCheckpoint {
                    id: 7,
                    remaining_ttl: 5,
                }],
            }),
            ..Default::default()
        },
        InternalRaftRequest {
            lease_revoke: Some(LeaseRevokeRequest { id: 7 }),
            revoke_term: 1,
            ..Default::default()
        },
        InternalRaftRequest {
            alarm: Some(AlarmRequest {
                action: 1,
                member_id: 3,
                alarm: 1,
            }),
            ..Default::default()
        },
        InternalRaftRequest {
            cluster_version_set: Some(Box::new(ClusterVersionSetRequest {
                ver: "3.7.0".to_owned(),
            })),
            ..Default::default()
        },
        InternalRaftRequest {
            cluster_member_attr_set: Some(Box::new(ClusterMemberAttrSetRequest {
                member_id: member("a").id.0,
                member_attributes: Some(Attributes {
                    name: "a".to_owned(),
                    client_urls: vec!["http://a:2379".to_owned()],
                }),
            })),
            ..Default::default()
        },
    ];
    let requests = requests.into_iter().chain(auth());
    let mut entries: Vec<(u8, Vec<u8>)> = requests.map(|request| (0, request.encode_to_vec())).collect();
    let changes = [
        What::Add(Member {
            is_learner: true,
            ..member("c")
        }),
        What::Promote(member("c").id),
        What::Update(member("b").id, vec!["http://b:1".to_owned()]),
        What::Remove(member("b").id),
        What::Remove(MemberId(9)),
    ];
    entries.extend(changes.map(|what| {
        let change = MemberChange {
            what,
            proposal: None,
            learners_max: Some(1),
        };
        (CHANGE | NEXT_TERM, change.encode().to_vec())
    }));
    entries
}

/// Auth with a reader is turned on, and both use it.
fn auth() -> Vec<InternalRaftRequest> {
    let of = |name: &str| {
        Some(RequestHeader {
            username: name.to_owned(),
            auth_revision: 8,
            ..RequestHeader::default()
        })
    };
    let user = |name: &str| AuthUserAddRequest {
        name: name.to_owned(),
        hashed_password: "aGFzaA==".to_owned(),
        ..AuthUserAddRequest::default()
    };
    let grant = |name: &str| AuthUserGrantRoleRequest {
        user: name.to_owned(),
        role: name.to_owned(),
    };
    let role = |name: &str| AuthRoleAddRequest {
        name: name.to_owned(),
    };
    let permission = AuthRoleGrantPermissionRequest {
        name: "r".to_owned(),
        perm: Some(Permission {
            perm_type: 0,
            key: "a".into(),
            range_end: "c".into(),
        }),
    };
    let none = InternalRaftRequest::default;
    let put = PutRequest {
        key: "b".into(),
        prev_kv: true,
        ..PutRequest::default()
    };
    vec![
        InternalRaftRequest {
            auth_user_add: Some(Box::new(user("root"))),
            ..none()
        },
        InternalRaftRequest {
            auth_role_add: Some(Box::new(role("root"))),
            ..none()
        },
        InternalRaftRequest {
            auth_user_grant_role: Some(Box::new(grant("root"))),
            ..none()
        },
        InternalRaftRequest {
            auth_role_add: Some(Box::new(role("r"))),
            ..none()
        },
        InternalRaftRequest {
            auth_role_grant_permission: Some(Box::new(permission)),
            ..none()
        },
        InternalRaftRequest {
            auth_user_add: Some(Box::new(user("r"))),
            ..none()
        },
        InternalRaftRequest {
            auth_user_grant_role: Some(Box::new(grant("r"))),
            ..none()
        },
        InternalRaftRequest {
            auth_enable: Some(Box::default()),
            ..none()
        },
        InternalRaftRequest {
            authenticate: Some(Box::new(InternalAuthenticateRequest {
                name: "r".to_owned(),
                simple_token: "abc".to_owned(),
                ..InternalAuthenticateRequest::default()
            })),
            ..none()
        },
        InternalRaftRequest {
            header: of("r"),
            put: Some(put.clone()),
            ..none()
        },
        InternalRaftRequest {
            header: of("root"),
            put: Some(put),
            ..none()
        },
        InternalRaftRequest {
            header: of("r"),
            txn: Some(txn(1)),
            ..none()
        },
        InternalRaftRequest {
            header: of("root"),
            auth_user_delete: Some(Box::new(AuthUserDeleteRequest { name: "r".to_owned() })),
            ..none()
        },
        InternalRaftRequest {
            header: of("root"),
            auth_disable: Some(Box::default()),
            ..none()
        },
    ]
}

/// A transaction with everything in it, nested so deep.
fn txn(deep: u32) -> TxnRequest {
    let compare = |target: CompareTarget, union| Compare {
        result: CompareResult::NotEqual.into(),
        target: target.into(),
        key: "a".into(),
        range_end: "b".into(),
        target_union: Some(union),
    };
    let op = |op| RequestOp { request: Some(op) };
    let key = format!("k{deep}");
    let mut success = vec![
        op(Op::RequestPut(PutRequest {
            key: key.clone().into(),
            value: "v".into(),
            lease: LeaseId(7).0,
            ..PutRequest::default()
        })),
        op(Op::RequestRange(RangeRequest {
            key: "a".into(),
            range_end: "\0".into(),
            limit: 3,
            sort_order: 2,
            sort_target: 3,
            ..RangeRequest::default()
        })),
    ];
    if deep > 0 {
        success.push(op(Op::RequestTxn(txn(deep - 1))));
    }
    TxnRequest {
        compare: vec![
            compare(CompareTarget::Version, TargetUnion::Version(3)),
            compare(CompareTarget::Value, TargetUnion::Value("x".into())),
            compare(CompareTarget::Lease, TargetUnion::Lease(7)),
        ],
        success,
        failure: vec![op(Op::RequestDeleteRange(DeleteRangeRequest {
            key: key.into(),
            range_end: "\0".into(),
            prev_kv: true,
        }))],
    }
}

/// Flags of a piece: a membership change; a leader of the next term proposed it.
const CHANGE: u8 = 1;
const NEXT_TERM: u8 = 2;
/// Entries of an input.
const ENTRIES_MAX: usize = 64;
/// etcd's default for the lists of a transaction.
const OPS_MAX: usize = 128;
/// Keys that a compaction visits after each entry.
const COMPACTION_KEYS: usize = 2;

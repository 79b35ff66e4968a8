//! What a run knows: which keys, leases and revisions the names of a sequence stand for.

use bytes::Bytes;
use proto::etcdserverpb::compare::TargetUnion;
use proto::etcdserverpb::request_op::Request as OpRequest;
use proto::etcdserverpb::*;
use proto::health::HealthCheckRequest;
use proto::v3electionpb::{CampaignRequest, LeaderKey, LeaderRequest, ProclaimRequest, ResignRequest};
use proto::v3lockpb::{LockRequest, UnlockRequest};

use super::calls::Request;
use super::steps::{self, End, Key, LEASES, Leader, Lease, Member, NAMES, Op, Operand, Rev, Step, Val};

/// The meaning of names in one run of one sequence. It is the same for both servers.
#[derive(Clone, Debug)]
pub(crate) struct Scene {
    prefix: Vec<u8>,
    first_lease: i64,
    /// The revision when the sequence began.
    pub(crate) start: i64,
    /// The newest revision that an answer has shown.
    pub(crate) now: i64,
    /// The revision of the last compaction in this sequence.
    pub(crate) compacted: Option<i64>,
    /// What the last campaign was answered with.
    pub(crate) leader: Option<LeaderKey>,
}

impl Scene {
    /// The scene of the sequence of this number on its pair of servers.
    pub(crate) fn new(number: u64, revision: i64) -> Scene {
        Scene {
            // Of one length always, so that sizes are equal however often a sequence is repeated.
            prefix: format!("d{number:06}/").into_bytes(),
            first_lease: FIRST_LEASE + i64::try_from(number).expect("few sequences") * i64::from(LEASES) * 4,
            start: revision,
            now: revision,
            compacted: None,
            leader: None,
        }
    }

    pub(crate) fn key(&self, key: &Key) -> Bytes {
        match key {
            Key::Unset => Bytes::new(),
            Key::Zero => ZERO,
            Key::Last => Bytes::from_static(b"\xff"),
            Key::Name(name) => self.name(*name).into(),
        }
    }

    fn name(&self, name: u8) -> Vec<u8> {
        let name = NAMES[usize::from(name) % NAMES.len()];
        [&self.prefix[..], name].concat()
    }

    /// A key that no step names.
    pub(crate) fn hidden_key(&self) -> Bytes {
        [&self.prefix[..], b"~hidden"].concat().into()
    }

    fn end(&self, end: &End) -> Bytes {
        match end {
            End::Unset => Bytes::new(),
            End::Zero => ZERO,
            End::Key(key) => self.key(key),
            End::Prefix => prefix_end(self.prefix.clone()),
            End::PrefixOf(name) => prefix_end(self.name(*name)),
            End::After(name) => [&self.name(*name)[..], b"\0"].concat().into(),
        }
    }

    pub(crate) fn revision(&self, revision: Rev) -> i64 {
        match revision {
            Rev::Unset => 0,
            Rev::At(revision) => revision,
            Rev::Now(offset) => self.now + offset,
            Rev::Start(offset) => self.start + offset,
            Rev::Compacted(offset) => self.compacted.unwrap_or(self.start) + offset,
        }
    }

    pub(crate) fn lease(&self, lease: Lease) -> i64 {
        match lease {
            Lease::Unset => 0,
            Lease::Id(id) => id,
            Lease::Slot(slot) if slot == LEASES - 1 => -(self.first_lease + i64::from(slot)),
            Lease::Slot(slot) => self.first_lease + i64::from(slot),
        }
    }

    /// A lease that no step names.
    pub(crate) fn hidden_lease(&self) -> i64 {
        self.first_lease + i64::from(LEASES)
    }

    pub(crate) fn watch(&self, watch: &steps::Watch) -> WatchCreateRequest {
        WatchCreateRequest {
            key: self.key(&watch.key),
            range_end: self.end(&watch.end),
            start_revision: self.revision(watch.start),
            progress_notify: watch.progress_notify,
            filters: watch.filters.clone(),
            prev_kv: watch.prev_kv,
            watch_id: watch.id,
            fragment: watch.fragment,
        }
    }

    fn range(&self, range: &steps::Range) -> RangeRequest {
        RangeRequest {
            key: self.key(&range.key),
            range_end: self.end(&range.end),
            limit: range.limit,
            revision: self.revision(range.revision),
            sort_order: range.order,
            sort_target: range.target,
            serializable: range.serializable,
            keys_only: range.keys_only,
            count_only: range.count_only,
            min_mod_revision: self.revision(range.min_mod),
            max_mod_revision: self.revision(range.max_mod),
            min_create_revision: self.revision(range.min_create),
            max_create_revision: self.revision(range.max_create),
        }
    }

    fn put(&self, put: &steps::Put) -> PutRequest {
        PutRequest {
            key: self.key(&put.key),
            value: value(put.value),
            lease: self.lease(put.lease),
            prev_kv: put.prev_kv,
            ignore_value: put.ignore_value,
            ignore_lease: put.ignore_lease,
        }
    }

    fn delete(&self, delete: &steps::Delete) -> DeleteRangeRequest {
        DeleteRangeRequest {
            key: self.key(&delete.key),
            range_end: self.end(&delete.end),
            prev_kv: delete.prev_kv,
        }
    }

    fn txn(&self, txn: &steps::Txn) -> TxnRequest {
        let ops = |ops: &[Op]| ops.iter().map(|op| self.op(op)).collect();
        TxnRequest {
            compare: txn.compare.iter().map(|compare| self.compare(compare)).collect(),
            success: ops(&txn.success),
            failure: ops(&txn.failure),
        }
    }

    fn compare(&self, compare: &steps::Compare) -> Compare {
        let operand = match compare.operand {
            Operand::Unset => None,
            Operand::Version(version) => Some(TargetUnion::Version(version)),
            Operand::Create(revision) => Some(TargetUnion::CreateRevision(self.revision(revision))),
            Operand::Mod(revision) => Some(TargetUnion::ModRevision(self.revision(revision))),
            Operand::Value(text) => Some(TargetUnion::Value(value(text))),
            Operand::Lease(lease) => Some(TargetUnion::Lease(self.lease(lease))),
        };
        Compare {
            result: compare.result,
            target: compare.target,
            key: self.key(&compare.key),
            range_end: self.end(&compare.end),
            target_union: operand,
        }
    }

    fn op(&self, op: &Op) -> RequestOp {
        let request = match op {
            Op::Nothing => None,
            Op::Range(range) => Some(OpRequest::RequestRange(self.range(range))),
            Op::Put(put) => Some(OpRequest::RequestPut(self.put(put))),
            Op::Delete(delete) => Some(OpRequest::RequestDeleteRange(self.delete(delete))),
            Op::Txn(txn) => Some(OpRequest::RequestTxn(self.txn(txn))),
        };
        RequestOp { request }
    }

    fn many_ops(&self, compares: u16, success: u16, failure: u16) -> TxnRequest {
        let absent = self.hidden_key();
        let read = RequestOp {
            request: Some(OpRequest::RequestRange(RangeRequest {
                key: absent.clone(),
                ..Default::default()
            })),
        };
        let compare = Compare {
            key: absent,
            ..Default::default()
        };
        TxnRequest {
            compare: vec![compare; usize::from(compares)],
            success: vec![read.clone(); usize::from(success)],
            failure: vec![read; usize::from(failure)],
        }
    }

    fn leader_key(&self, name: u8, leader: Leader) -> Option<LeaderKey> {
        let known = self.leader.clone().unwrap_or_else(|| LeaderKey {
            name: election(name, &self.prefix),
            key: self.name(name).into(),
            rev: self.start,
            lease: self.first_lease,
        });
        match leader {
            Leader::None => None,
            Leader::Last => Some(known),
            Leader::Other => Some(LeaderKey {
                rev: known.rev - 1,
                ..known
            }),
        }
    }

    /// The name of a lock. Elections have others: a candidate would wait for a lock of its name.
    fn lock(&self, name: u8) -> Bytes {
        [&self.prefix[..], b"lock", &[b'0' + name % 2]].concat().into()
    }

    /// The name of an election.
    pub(crate) fn election(&self, name: u8) -> Bytes {
        election(name, &self.prefix)
    }

    /// The one call that a step is, as the member `own` gets it; nothing where a step is more than a unary call.
    pub(crate) fn request(&self, step: &Step, own: u64) -> Option<Request> {
        let member = |member: Member| match member {
            Member::Own => own,
            Member::Id(id) => id,
        };
        Some(match step {
            Step::Range(range) => Request::Range(self.range(range)),
            Step::RangeStream(range) => Request::RangeStream(self.range(range)),
            Step::Put(put) => Request::Put(self.put(put)),
            Step::Delete(delete) => Request::Delete(self.delete(delete)),
            Step::Txn(txn) => Request::Txn(self.txn(txn)),
            Step::ManyOps(compares, success, failure) => {
                Request::Txn(self.many_ops(*compares, *success, *failure))
            }
            Step::Compact { revision, physical } => Request::Compact(CompactionRequest {
                revision: self.revision(*revision),
                physical: *physical,
            }),
            Step::Grant { .. }
            | Step::Revoke(_)
            | Step::KeepAlive(_)
            | Step::TimeToLive { .. }
            | Step::Leases
            | Step::Lock(..)
            | Step::Unlock(..)
            | Step::Campaign(..)
            | Step::Proclaim(..)
            | Step::Leader(_)
            | Step::Resign(..) => self.lease_request(step)?,
            Step::HashKv(revision) => Request::HashKv(HashKvRequest {
                revision: self.revision(*revision),
            }),
            Step::Hash => Request::Hash(HashRequest {}),
            Step::Alarm {
                action,
                member: whose,
                alarm,
            } => Request::Alarm(AlarmRequest {
                action: *action,
                member_id: member(*whose),
                alarm: *alarm,
            }),
            Step::Status => Request::Status(StatusRequest {}),
            Step::Defragment => Request::Defragment(DefragmentRequest {}),
            Step::MoveLeader(target) => Request::MoveLeader(MoveLeaderRequest {
                target_id: member(*target),
            }),
            Step::Downgrade { action, version } => Request::Downgrade(DowngradeRequest {
                action: *action,
                version: version.clone(),
            }),
            Step::MemberList(linearizable) => Request::MemberList(MemberListRequest {
                linearizable: *linearizable,
            }),
            Step::MemberAdd(urls) => Request::MemberAdd(MemberAddRequest {
                peer_urls: urls.clone(),
                is_learner: false,
            }),
            Step::MemberRemove(whom) => Request::MemberRemove(MemberRemoveRequest { id: member(*whom) }),
            Step::MemberUpdate(whom, urls) => Request::MemberUpdate(MemberUpdateRequest {
                id: member(*whom),
                peer_urls: urls.clone(),
            }),
            Step::MemberPromote(whom) => Request::MemberPromote(MemberPromoteRequest { id: member(*whom) }),
            Step::Health(service) => Request::Health(HealthCheckRequest {
                service: service.clone(),
            }),
            Step::Raw { method, hex } => Request::Raw(method.clone(), from_hex(hex)),
            _ => return None,
        })
    }

    /// The calls about leases, and of locks and elections, which rest on them.
    fn lease_request(&self, step: &Step) -> Option<Request> {
        Some(match step {
            Step::Grant { lease, ttl } => Request::Grant(LeaseGrantRequest {
                ttl: *ttl,
                id: self.lease(*lease),
            }),
            Step::Revoke(lease) => Request::Revoke(LeaseRevokeRequest {
                id: self.lease(*lease),
            }),
            Step::KeepAlive(lease) => Request::KeepAlive(self.lease(*lease)),
            Step::TimeToLive { lease, keys } => Request::TimeToLive(LeaseTimeToLiveRequest {
                id: self.lease(*lease),
                keys: *keys,
            }),
            Step::Leases => Request::Leases(LeaseLeasesRequest {}),
            Step::Lock(name, lease) => Request::Lock(LockRequest {
                name: self.lock(*name),
                lease: self.lease(*lease),
            }),
            Step::Unlock(name, lease) => Request::Unlock(UnlockRequest {
                key: format!(
                    "{}/{:x}",
                    String::from_utf8_lossy(&self.lock(*name)),
                    self.lease(*lease)
                )
                .into(),
            }),
            Step::Campaign(name, lease, text) => Request::Campaign(CampaignRequest {
                name: self.election(*name),
                lease: self.lease(*lease),
                value: value(*text),
            }),
            Step::Proclaim(name, leader, text) => Request::Proclaim(ProclaimRequest {
                leader: self.leader_key(*name, *leader),
                value: value(*text),
            }),
            Step::Leader(name) => Request::Leader(LeaderRequest {
                name: self.election(*name),
            }),
            Step::Resign(name, leader) => Request::Resign(ResignRequest {
                leader: self.leader_key(*name, *leader),
            }),
            _ => return None,
        })
    }
}

fn election(name: u8, prefix: &[u8]) -> Bytes {
    [prefix, b"vote", &[b'0' + name % 2]].concat().into()
}

fn value(value: Val) -> Bytes {
    match value {
        Val::Unset => Bytes::new(),
        Val::Text(number) => format!("v{number}").into(),
        Val::Bytes(length) => vec![b'x'; usize::try_from(length).expect("a length in memory")].into(),
    }
}

fn prefix_end(mut prefix: Vec<u8>) -> Bytes {
    while let Some(last) = prefix.pop() {
        if last < 0xff {
            prefix.push(last + 1);
            return prefix.into();
        }
    }
    ZERO
}

/// Pairs of hexadecimal digits as bytes; others are left out.
fn from_hex(text: &str) -> Bytes {
    let digits: Vec<u8> = text
        .chars()
        .filter_map(|digit| digit.to_digit(16))
        .filter_map(|digit| u8::try_from(digit).ok())
        .collect();
    digits
        .chunks_exact(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

const ZERO: Bytes = Bytes::from_static(b"\0");

const FIRST_LEASE: i64 = 0x1000_0000;

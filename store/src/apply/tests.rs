//! Golden scripts: each file of `testdata/apply` is one behaviour, a list of commands with what came of each,
//! indented below it. `UPDATE_GOLDEN=1` writes the files anew, to be reviewed as a diff.
//!
//! | command | effect |
//! | --- | --- |
//! | `put K V [lease=N] [prev] [ignore_value] [ignore_lease]` | `-` is the empty value, `\0` the zero byte |
//! | `del K [end=E] [prev]` | |
//! | `get K [end=E] [rev=N] [limit=N] [sort=NAME] [order=NAME] [keys] [count] [minmod=N] …` | |
//! | `txn [ C , C ] { OP ; OP } { OP }` | `C` is `TARGET K OPERATOR VALUE [end=E]`; an `OP` may be `txn`, or `nothing` |
//! | `compact N`, `step N` | logical; physical |
//! | `grant ID TTL`, `revoke ID [leader=TERM]`, `checkpoint ID S`, `leases` | |
//! | `alarm ACTION MEMBER TYPE` | actions and types by their numbers too |
//! | `term N`, `ops_max N` | of the entries that follow; entries allowed in a list of a transaction |
//! | `publish ID NAME URL`, `version V`, `members` | |
//! | `as NAME [rev=N]` | of whoever asks from then on; also `trusted`, as at first, and `nobody` |
//! | `auth on/off/status`, `login NAME` | |
//! | `user add NAME [nopw] [hash=H]`, `user passwd NAME [hash=H]`, `user del/get NAME`, `user list`, `user grant/revoke NAME ROLE` | |
//! | `role add/del/get NAME`, `role list`, `role grant NAME TYPE K [end=E]`, `role grant NAME nothing`, `role revoke NAME K [end=E]` | |
//! | `may watch K [end=E]`, `may renew ID`, `may ttl ID [keys]`, `may grant/leases/alarms/alarm/members/member/status/maintain` | only judged |

mod auth;

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::path::Path;

use proto::etcdserverpb::compare::TargetUnion;
use proto::etcdserverpb::request_op::Request;
use proto::etcdserverpb::response_op::Response as OpResponse;
use proto::etcdserverpb::{
    AlarmRequest, Attributes, ClusterMemberAttrSetRequest, ClusterVersionSetRequest, CompactionRequest,
    Compare, DeleteRangeRequest, LeaseCheckpoint, LeaseCheckpointRequest, LeaseGrantRequest,
    LeaseRevokeRequest, PutRequest, RangeRequest, RangeResponse, RequestOp, TxnResponse,
};
use proto::mvccpb::KeyValue;

use super::*;
use crate::auth::Caller;
use crate::membership::Member;

#[test]
fn golden_scripts() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/apply");
    let mut scripts: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    scripts.sort();
    assert!(scripts.len() >= 10, "{} scripts", scripts.len());
    for path in scripts {
        let expected = std::fs::read_to_string(&path).unwrap();
        let actual = run(&expected);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, actual).unwrap();
        } else {
            assert_eq!(actual, expected, "{} differs", path.display());
        }
    }
}

#[test]
#[should_panic(expected = "entry 1 after entry 1")]
fn an_entry_is_applied_once() {
    let mut state = State::default();
    let entry = CommittedEntry {
        kind: EntryKind::Request,
        term: Term(1),
        index: Index(1),
        data: Bytes::new(),
    };
    state.apply(&entry);
    state.apply(&entry);
}

#[test]
#[should_panic(expected = "entry 1 cannot be read")]
fn an_unreadable_entry_stops_the_member() {
    let data = Bytes::from_static(b"\xff\xff\xff");
    State::default().apply(&CommittedEntry {
        kind: EntryKind::Request,
        term: Term(1),
        index: Index(1),
        data,
    });
}

#[test]
fn the_proposal_comes_back() {
    let id = proto::etcdserverpb::ProposalId {
        member: 7,
        boot: 8,
        counter: 9,
    };
    let request = InternalRaftRequest {
        proposal: Some(id),
        ..Default::default()
    };
    let data = request.encode_to_vec().into();
    let applied = State::default().apply(&CommittedEntry {
        kind: EntryKind::Request,
        term: Term(1),
        index: Index(1),
        data,
    });
    assert_eq!(
        applied.proposal,
        Some(ProposalId {
            member: MemberId(7),
            boot: 8,
            counter: 9
        })
    );
}

#[test]
fn a_small_value_does_not_keep_its_entry_alive() {
    let mut state = State::default();
    let put = PutRequest {
        key: "a-rather-long-key".into(),
        value: "v".into(),
        ..Default::default()
    };
    let data = Bytes::from(
        InternalRaftRequest {
            put: Some(put),
            ..Default::default()
        }
        .encode_to_vec(),
    );
    let watch = data.clone();
    state.apply(&CommittedEntry {
        kind: EntryKind::Request,
        term: Term(1),
        index: Index(1),
        data,
    });
    assert!(watch.is_unique(), "key or value is a slice of the entry");
}

/// Runs a script's commands; the script with what came of them.
fn run(script: &str) -> String {
    let mut world = World::new();
    let mut out = String::new();
    for line in script.lines().filter(|line| !line.starts_with("  ")) {
        writeln!(out, "{line}").unwrap();
        if !line.is_empty() && !line.starts_with('#') {
            for printed in world.command(line) {
                writeln!(out, "  {printed}").unwrap();
            }
        }
    }
    out
}

struct World {
    state: State,
    term: Term,
    ops_max: usize,
    caller: Caller,
}

/// The words of a command not yet read.
struct Words<'a>(VecDeque<&'a str>);

impl World {
    fn new() -> Self {
        let url = vec!["http://localhost:2380".to_owned()];
        let one = Member::bootstrap("one".to_owned(), url, "etcd-cluster");
        World {
            state: State::new(Membership::bootstrap(vec![one])),
            term: Term(1),
            ops_max: 128,
            caller: Caller::Trusted,
        }
    }

    fn command(&mut self, line: &str) -> Vec<String> {
        let mut words = Words(line.split_whitespace().collect());
        let mut request = InternalRaftRequest::default();
        match words.next() {
            "get" => {
                let get = words.get();
                if let Err(refusal) = self.judged(super::Request::Range(&get)) {
                    return vec![refusal];
                }
                return match self.state.mvcc.range(&get) {
                    Ok(plan) => show_range(&plan.finish(&BTreeMap::new())),
                    Err(error) => vec![error.to_string()],
                };
            }
            "put" => request.put = Some(words.put()),
            "del" => request.delete_range = Some(words.del()),
            "txn" => request.txn = Some(words.txn()),
            "compact" => {
                let compaction = CompactionRequest {
                    revision: words.number(),
                    physical: false,
                };
                request.compaction = Some(compaction);
            }
            "step" => {
                let step = self.state.mvcc.compaction_step(words.next().parse().unwrap());
                return vec![format!("dead {:?} done {}", step.dead, step.done)];
            }
            "grant" => {
                request.lease_grant = Some(LeaseGrantRequest {
                    id: words.number(),
                    ttl: words.number(),
                });
            }
            "revoke" => {
                request.lease_revoke = Some(LeaseRevokeRequest { id: words.number() });
                request.revoke_term = words.option("leader").map_or(0, |term| term.parse().unwrap());
            }
            "checkpoint" => {
                let checkpoint = LeaseCheckpoint {
                    id: words.number(),
                    remaining_ttl: words.number(),
                };
                request.lease_checkpoint = Some(LeaseCheckpointRequest {
                    checkpoints: vec![checkpoint],
                });
            }
            "leases" => {
                return self
                    .state
                    .lessor
                    .iter()
                    .map(|lease| format!("{lease:?}"))
                    .collect();
            }
            "alarm" => {
                let action = named(words.next(), &["get", "activate", "deactivate"]);
                let member_id = words.next().parse().unwrap();
                let alarm = named(words.next(), &["none", "nospace", "corrupt"]);
                request.alarm = Some(AlarmRequest {
                    action,
                    member_id,
                    alarm,
                });
            }
            "term" => {
                self.term = Term(words.next().parse().unwrap());
                return Vec::new();
            }
            "ops_max" => {
                self.ops_max = words.next().parse().unwrap();
                return Vec::new();
            }
            "publish" => {
                let member_id = u64::from_str_radix(words.next(), 16).unwrap();
                let name = words.next().to_owned();
                let attributes = Attributes {
                    name,
                    client_urls: vec![words.next().to_owned()],
                };
                let set = ClusterMemberAttrSetRequest {
                    member_id,
                    member_attributes: Some(attributes),
                };
                request.cluster_member_attr_set = Some(set.into());
            }
            "version" => {
                let set = ClusterVersionSetRequest {
                    ver: words.next().to_owned(),
                };
                request.cluster_version_set = Some(set.into());
            }
            "members" => {
                let members = &self.state.membership;
                let version = format!("cluster {} {:?}", members.cluster_id(), members.cluster_version());
                return members
                    .iter()
                    .map(|m| format!("{m:?}"))
                    .chain([version])
                    .collect();
            }
            "as" => {
                self.become_caller(&mut words);
                return Vec::new();
            }
            "may" => return self.may(&mut words),
            other => assert!(
                auth::fill(other, &mut words, &mut request),
                "unknown command {other}"
            ),
        }
        assert!(words.0.is_empty(), "{line}: what is {:?}?", words.0);
        self.sign(&mut request);
        self.propose(&request)
    }

    /// Checks as the handle does, then applies.
    fn propose(&mut self, request: &InternalRaftRequest) -> Vec<String> {
        let refused = request.put.as_ref().map_or(Ok(()), check_put);
        let refused = refused.and(request.delete_range.as_ref().map_or(Ok(()), check_delete));
        let refused = refused.and(
            request
                .txn
                .as_ref()
                .map_or(Ok(()), |txn| check_txn(txn, self.ops_max)),
        );
        if let Err(error) = refused {
            return vec![format!("not proposed: {error}")];
        }
        if let Some(txn) = request.txn.as_ref().filter(|txn| is_read_only(txn)) {
            if let Err(refusal) = self.judged(super::Request::Txn(txn)) {
                return vec![refusal];
            }
            return match self.state.read_txn(txn).map(|(plan, _)| plan) {
                Ok(plan) => show_txn(&plan.finish(&BTreeMap::new())),
                Err(error) => vec![format!("error: {error}")],
            };
        }
        let data = request.encode_to_vec().into();
        let index = self.state.applied().next();
        let applied = self.state.apply(&CommittedEntry {
            kind: EntryKind::Request,
            term: self.term,
            index,
            data,
        });
        let mut out = match applied.response {
            Ok(response) => show(response),
            Err(error) => vec![format!("error: {error}")],
        };
        out.extend(applied.leases.iter().map(|event| format!("{event:?}")));
        for (at, change) in applied
            .committed
            .iter()
            .flat_map(|c| c.changes.iter().enumerate())
        {
            let previous = &applied.committed.as_ref().unwrap().previous[at];
            let what = if change.tombstone { "delete" } else { "put" };
            let before = previous
                .as_ref()
                .map(|kv| format!(", before: {}", show_kv(kv)))
                .unwrap_or_default();
            out.push(format!(
                "{} {what} {}{before}",
                change.revision,
                show_kv(&change.kv)
            ));
        }
        out
    }
}

impl<'a> Words<'a> {
    fn next(&mut self) -> &'a str {
        self.0.pop_front().expect("one more word")
    }

    fn bytes(&mut self) -> Bytes {
        bytes(self.next())
    }

    fn number(&mut self) -> i64 {
        self.next().parse().unwrap()
    }

    /// Takes the word `NAME=VALUE` if it is there, before the end of this operation.
    fn option(&mut self, name: &str) -> Option<&'a str> {
        let end = self
            .0
            .iter()
            .position(|word| matches!(*word, ";" | "}" | "," | "]"));
        let end = end.unwrap_or(self.0.len());
        let at = self
            .0
            .iter()
            .take(end)
            .position(|w| w.split('=').next() == Some(name))?;
        let word = self.0.remove(at)?;
        Some(word.split_once('=').map_or("", |(_, value)| value))
    }

    fn count(&mut self, name: &str) -> i64 {
        self.option(name).map_or(0, |value| value.parse().unwrap())
    }

    fn put(&mut self) -> PutRequest {
        PutRequest {
            key: self.bytes(),
            value: self.bytes(),
            lease: self.count("lease"),
            prev_kv: self.option("prev").is_some(),
            ignore_value: self.option("ignore_value").is_some(),
            ignore_lease: self.option("ignore_lease").is_some(),
        }
    }

    fn del(&mut self) -> DeleteRangeRequest {
        DeleteRangeRequest {
            key: self.bytes(),
            range_end: self.option("end").map(bytes).unwrap_or_default(),
            prev_kv: self.option("prev").is_some(),
        }
    }

    fn get(&mut self) -> RangeRequest {
        let targets = ["key", "version", "create", "mod", "value"];
        RangeRequest {
            key: self.bytes(),
            range_end: self.option("end").map(bytes).unwrap_or_default(),
            limit: self.count("limit"),
            revision: self.count("rev"),
            sort_order: self
                .option("order")
                .map_or(0, |name| named(name, &["none", "ascend", "descend"])),
            sort_target: self.option("sort").map_or(0, |name| named(name, &targets)),
            serializable: false,
            keys_only: self.option("keys").is_some(),
            count_only: self.option("count").is_some(),
            min_mod_revision: self.count("minmod"),
            max_mod_revision: self.count("maxmod"),
            min_create_revision: self.count("mincreate"),
            max_create_revision: self.count("maxcreate"),
        }
    }

    fn txn(&mut self) -> TxnRequest {
        let mut txn = TxnRequest::default();
        assert_eq!(self.next(), "[");
        while !self.ends("]") {
            txn.compare.push(self.compare());
            self.skip(",");
        }
        for list in [&mut txn.success, &mut txn.failure] {
            assert_eq!(self.next(), "{");
            while !self.ends("}") {
                let request = match self.next() {
                    "put" => Some(Request::RequestPut(self.put())),
                    "del" => Some(Request::RequestDeleteRange(self.del())),
                    "get" => Some(Request::RequestRange(self.get())),
                    "txn" => Some(Request::RequestTxn(self.txn())),
                    "nothing" => None,
                    other => panic!("unknown operation {other}"),
                };
                list.push(RequestOp { request });
                self.skip(";");
            }
        }
        txn
    }

    fn compare(&mut self) -> Compare {
        let target = self.next();
        let (target, as_what) = target.split_once(':').unwrap_or((target, target));
        let key = self.bytes();
        let result = named(self.next(), &["=", ">", "<", "!="]);
        let value = self.next();
        let number = || value.parse().unwrap();
        let union = match as_what {
            "version" => TargetUnion::Version(number()),
            "create" => TargetUnion::CreateRevision(number()),
            "mod" => TargetUnion::ModRevision(number()),
            "lease" => TargetUnion::Lease(number()),
            _ => TargetUnion::Value(bytes(value)),
        };
        Compare {
            result,
            target: named(target, &["version", "create", "mod", "value", "lease"]),
            key,
            range_end: self.option("end").map(bytes).unwrap_or_default(),
            target_union: Some(union),
        }
    }

    fn ends(&mut self, word: &str) -> bool {
        let ends = self.0.front() == Some(&word);
        self.skip(word);
        ends
    }

    fn skip(&mut self, word: &str) {
        if self.0.front() == Some(&word) {
            self.0.pop_front();
        }
    }
}

/// The place of a name in an enum, or the number itself.
fn named(name: &str, names: &[&str]) -> i32 {
    let at = names.iter().position(|known| *known == name);
    at.map_or_else(|| name.parse().unwrap(), |at| at as i32)
}

fn bytes(word: &str) -> Bytes {
    if word == "-" {
        Bytes::new()
    } else {
        Bytes::from(word.replace("\\0", "\0"))
    }
}

fn show(response: Response) -> Vec<String> {
    match response {
        Response::Put(put) => {
            let prev = put
                .prev_kv
                .map(|kv| format!(", prev {}", show_kv(&kv)))
                .unwrap_or_default();
            vec![format!("put at {}{prev}", revision(put.header))]
        }
        Response::DeleteRange(delete) => show_delete(&delete),
        Response::Txn(plan) => {
            assert!(plan.missing().is_empty(), "all is in memory");
            show_txn(&plan.finish(&BTreeMap::new()))
        }
        Response::Compact(compact) => vec![format!("compacted at {}", revision(compact.header))],
        Response::LeaseGrant(grant) => {
            vec![format!(
                "granted {} for {} s at {}",
                grant.id,
                grant.ttl,
                revision(grant.header)
            )]
        }
        Response::LeaseRevoke(revoke) => vec![format!("revoked at {}", revision(revoke.header))],
        Response::Alarm(alarm) => {
            let list: Vec<_> = alarm
                .alarms
                .iter()
                .map(|a| format!("{}:{}", a.member_id, a.alarm))
                .collect();
            vec![format!("alarms {list:?} at {}", revision(alarm.header))]
        }
        Response::Auth(auth) => show_auth(&auth),
        Response::Members(_) | Response::None => vec!["done".to_owned()],
    }
}

fn show_auth(response: &AuthResponse) -> Vec<String> {
    let permission = |p: &proto::authpb::Permission| {
        let (key, end) = (p.key.escape_ascii(), p.range_end.escape_ascii());
        format!("{} {key} to '{end}'", p.perm_type)
    };
    match response {
        AuthResponse::Changed(header) => vec![format!("changed at {}", revision(*header))],
        AuthResponse::Status(status) => vec![format!(
            "enabled {}, auth revision {}",
            status.enabled, status.auth_revision
        )],
        AuthResponse::UserGet(user) => vec![format!("roles {:?}", user.roles)],
        AuthResponse::UserList(list) => vec![format!("users {:?}", list.users)],
        AuthResponse::RoleGet(role) => role.perm.iter().map(permission).collect(),
        AuthResponse::RoleList(list) => vec![format!("roles {:?}", list.roles)],
        AuthResponse::Authenticated(done) => vec![format!(
            "token of entry {}, auth revision {}",
            done.index, done.revision
        )],
    }
}

fn show_delete(delete: &DeleteRangeResponse) -> Vec<String> {
    let prev = delete.prev_kvs.iter().map(|kv| format!("prev {}", show_kv(kv)));
    let first = format!("deleted {} at {}", delete.deleted, revision(delete.header));
    [first].into_iter().chain(prev).collect()
}

fn show_range(range: &RangeResponse) -> Vec<String> {
    let more = if range.more { ", more" } else { "" };
    let first = format!("count {}{more} at {}", range.count, revision(range.header));
    [first].into_iter().chain(range.kvs.iter().map(show_kv)).collect()
}

fn show_txn(txn: &TxnResponse) -> Vec<String> {
    let mut out = vec![format!("succeeded {} at {}", txn.succeeded, revision(txn.header))];
    for op in &txn.responses {
        let lines = match op.response.clone().unwrap() {
            OpResponse::ResponsePut(put) => show(Response::Put(put)),
            OpResponse::ResponseDeleteRange(delete) => show_delete(&delete),
            OpResponse::ResponseRange(range) => show_range(&range),
            OpResponse::ResponseTxn(txn) => show_txn(&txn),
        };
        out.extend(lines.into_iter().map(|line| format!("- {line}")));
    }
    out
}

fn show_kv(kv: &KeyValue) -> String {
    let lease = if kv.lease == 0 {
        String::new()
    } else {
        format!(" lease {}", kv.lease)
    };
    let (key, value) = (kv.key.escape_ascii(), kv.value.escape_ascii());
    format!(
        "{key}={value} (create {} mod {} version {}{lease})",
        kv.create_revision, kv.mod_revision, kv.version
    )
}

fn revision(header: Option<ResponseHeader>) -> i64 {
    let header = header.expect("a header, always");
    assert_eq!(
        (header.cluster_id, header.member_id, header.raft_term),
        (0, 0, 0),
        "the server fills these"
    );
    header.revision
}

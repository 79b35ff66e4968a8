//! Requests as one line of text for the log, in the form that etcd gives them: values are replaced by their sizes, and
//! nothing is longer than `TEXT_BYTES_MAX`.

use std::fmt::{Display, Write as _};

use proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use proto::etcdserverpb::request_op::Request as Op;
use proto::etcdserverpb::{
    Compare, DeleteRangeRequest, InternalRaftRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};

/// A range.
#[must_use]
pub fn range(request: &RangeRequest) -> String {
    let mut line = Line::default();
    line.bytes("key", &request.key);
    line.bytes("range_end", &request.range_end);
    line.number("limit", request.limit);
    line.number("revision", request.revision);
    if request.sort_order != 0 {
        let name = SortOrder::try_from(request.sort_order).map(|order| order.as_str_name());
        line.name("sort_order", name.ok(), request.sort_order);
    }
    if request.sort_target != 0 {
        let name = SortTarget::try_from(request.sort_target).map(|target| target.as_str_name());
        line.name("sort_target", name.ok(), request.sort_target);
    }
    line.flag("serializable", request.serializable);
    line.flag("keys_only", request.keys_only);
    line.flag("count_only", request.count_only);
    line.number("min_mod_revision", request.min_mod_revision);
    line.number("max_mod_revision", request.max_mod_revision);
    line.number("min_create_revision", request.min_create_revision);
    line.number("max_create_revision", request.max_create_revision);
    line.end()
}

/// A put.
#[must_use]
pub fn put(request: &PutRequest) -> String {
    let mut line = Line::default();
    line.bytes("key", &request.key);
    line.number("value_size", size(&request.value));
    line.number("lease", request.lease);
    line.flag("prev_kv", request.prev_kv);
    line.flag("ignore_value", request.ignore_value);
    line.flag("ignore_lease", request.ignore_lease);
    line.end()
}

/// A range delete.
#[must_use]
pub fn delete(request: &DeleteRangeRequest) -> String {
    let mut line = Line::default();
    line.bytes("key", &request.key);
    line.bytes("range_end", &request.range_end);
    line.flag("prev_kv", request.prev_kv);
    line.end()
}

/// A transaction.
#[must_use]
pub fn txn(request: &TxnRequest) -> String {
    let mut line = Line::default();
    for (name, parts) in [
        ("compare", joined(&request.compare, compare)),
        ("success", joined(&request.success, op)),
        ("failure", joined(&request.failure, op)),
    ] {
        line.part(format_args!("{name}:<{parts}>"));
    }
    line.end()
}

/// A replicated request.
#[must_use]
pub fn internal(request: &InternalRaftRequest) -> String {
    let mut line = Line::default();
    let id = request.proposal.map_or(0, |proposal| proposal.counter);
    match &request.header {
        Some(header) => line.part(format_args!(
            "header:<ID:{id} username:{:?} auth_revision:{} >",
            header.username, header.auth_revision
        )),
        None => line.part(format_args!("header:<ID:{id} >")),
    }
    if let Some(request) = &request.put {
        line.part(format_args!("put:<{} >", put(request)));
    }
    if let Some(request) = &request.delete_range {
        line.part(format_args!("delete_range:<{} >", delete(request)));
    }
    if let Some(request) = &request.txn {
        line.part(format_args!("txn:<{}>", txn(request)));
    }
    if let Some(request) = &request.compaction {
        line.part(format_args!("compaction:<revision:{} >", request.revision));
    }
    if let Some(request) = &request.lease_grant {
        let (ttl, id) = (request.ttl, request.id);
        line.part(format_args!("lease_grant:<ttl:{ttl}-second id:{id:016x}>"));
    }
    if let Some(request) = &request.lease_revoke {
        line.part(format_args!("lease_revoke:<id:{:016x}>", request.id));
    }
    if let Some(request) = &request.alarm {
        line.part(format_args!(
            "alarm:<action:{} member_ID:{} alarm:{} >",
            request.action, request.member_id, request.alarm
        ));
    }
    if let Some(request) = &request.cluster_version_set {
        line.part(format_args!("cluster_version_set:<ver:{:?} >", request.ver));
    }
    if let Some(request) = &request.cluster_member_attr_set {
        let id = request.member_id;
        line.part(format_args!("cluster_member_attr_set:<member_ID:{id} >"));
    }
    line.end()
}

fn compare(request: &Compare) -> String {
    let mut line = Line::default();
    if request.result != 0 {
        let name = CompareResult::try_from(request.result).map(|result| result.as_str_name());
        line.name("result", name.ok(), request.result);
    }
    if request.target != 0 {
        let name = CompareTarget::try_from(request.target).map(|target| target.as_str_name());
        line.name("target", name.ok(), request.target);
    }
    line.bytes("key", &request.key);
    match &request.target_union {
        Some(TargetUnion::Version(number)) => line.part(format_args!("version:{number}")),
        Some(TargetUnion::CreateRevision(number)) => line.part(format_args!("create_revision:{number}")),
        Some(TargetUnion::ModRevision(number)) => line.part(format_args!("mod_revision:{number}")),
        Some(TargetUnion::Lease(number)) => line.part(format_args!("lease:{number}")),
        Some(TargetUnion::Value(value)) => line.number("value_size", size(value)),
        None => {}
    }
    line.bytes("range_end", &request.range_end);
    line.end()
}

fn op(request: &RequestOp) -> String {
    match &request.request {
        Some(Op::RequestRange(request)) => format!("request_range:<{} >", range(request)),
        Some(Op::RequestPut(request)) => format!("request_put:<{} >", put(request)),
        Some(Op::RequestDeleteRange(request)) => format!("request_delete_range:<{} >", delete(request)),
        Some(Op::RequestTxn(request)) => format!("request_txn:<{}>", txn(request)),
        None => String::new(),
    }
}

/// Parts beside each other, no more of them than the line may hold.
fn joined<T>(parts: &[T], text: impl Fn(&T) -> String) -> String {
    let mut line = Line::default();
    for part in parts {
        if line.text.len() >= TEXT_BYTES_MAX {
            break;
        }
        line.part(format_args!("{}", text(part)));
    }
    line.end()
}

fn size(value: &[u8]) -> i64 {
    i64::try_from(value.len()).unwrap_or(i64::MAX)
}

/// Fields beside each other; what is zero is left out.
#[derive(Default)]
struct Line {
    text: String,
}

impl Line {
    fn part(&mut self, part: impl Display) {
        if !self.text.is_empty() {
            self.text.push(' ');
        }
        // A string takes everything.
        let _ = write!(self.text, "{part}");
    }

    fn bytes(&mut self, name: &str, bytes: &[u8]) {
        if !bytes.is_empty() {
            let shown = &bytes[..bytes.len().min(TEXT_BYTES_MAX)];
            self.part(format_args!("{name}:\"{}\"", shown.escape_ascii()));
        }
    }

    fn number(&mut self, name: &str, number: i64) {
        if number != 0 {
            self.part(format_args!("{name}:{number}"));
        }
    }

    fn flag(&mut self, name: &str, flag: bool) {
        if flag {
            self.part(format_args!("{name}:true"));
        }
    }

    fn name(&mut self, field: &str, name: Option<&str>, number: i32) {
        match name {
            Some(name) => self.part(format_args!("{field}:{name}")),
            None => self.part(format_args!("{field}:{number}")),
        }
    }

    /// The text, all of it ASCII, cut where it is too long.
    fn end(mut self) -> String {
        if self.text.len() > TEXT_BYTES_MAX && self.text.is_char_boundary(TEXT_BYTES_MAX) {
            self.text.truncate(TEXT_BYTES_MAX);
            self.text.push_str("...");
        }
        self.text
    }
}

/// The longest text of a request: the log is no place for a thousand keys.
const TEXT_BYTES_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn a_put(key: &'static [u8], value: usize) -> PutRequest {
        PutRequest {
            key: key.into(),
            value: vec![b'v'; value].into(),
            ..PutRequest::default()
        }
    }

    #[test]
    fn values_are_not_shown() {
        assert_eq!(put(&a_put(b"a\x01\"", 3)), "key:\"a\\x01\\\"\" value_size:3");
        let request = TxnRequest {
            compare: vec![Compare {
                target: CompareTarget::Value.into(),
                key: "k".into(),
                target_union: Some(TargetUnion::Value("secret".into())),
                ..Compare::default()
            }],
            success: vec![RequestOp {
                request: Some(Op::RequestPut(a_put(b"k", 2))),
            }],
            failure: Vec::new(),
        };
        assert_eq!(
            txn(&request),
            "compare:<target:VALUE key:\"k\" value_size:6> success:<request_put:<key:\"k\" value_size:2 >> failure:<>"
        );
    }

    #[test]
    fn who_asks_is_shown_and_secrets_are_not() {
        let request = InternalRaftRequest {
            header: Some(proto::etcdserverpb::RequestHeader {
                username: "alice".to_owned(),
                auth_revision: 7,
                ..Default::default()
            }),
            auth_user_add: Some(Box::new(proto::etcdserverpb::AuthUserAddRequest {
                hashed_password: "secret".to_owned(),
                ..Default::default()
            })),
            authenticate: Some(Box::new(proto::etcdserverpb::InternalAuthenticateRequest {
                simple_token: "secret".to_owned(),
                ..Default::default()
            })),
            ..Default::default()
        };
        assert_eq!(
            internal(&request),
            "header:<ID:0 username:\"alice\" auth_revision:7 >"
        );
    }

    #[test]
    fn ranges_name_what_is_set() {
        let request = RangeRequest {
            key: "a".into(),
            range_end: "b".into(),
            limit: 7,
            sort_order: SortOrder::Descend.into(),
            serializable: true,
            ..RangeRequest::default()
        };
        assert_eq!(
            range(&request),
            "key:\"a\" range_end:\"b\" limit:7 sort_order:DESCEND serializable:true"
        );
    }

    #[test]
    fn long_ones_are_cut() {
        let request = TxnRequest {
            success: (0..10_000)
                .map(|_| RequestOp {
                    request: Some(Op::RequestPut(a_put(b"key", 1))),
                })
                .collect(),
            ..TxnRequest::default()
        };
        assert_eq!(txn(&request).len(), TEXT_BYTES_MAX + 3);
        let key = vec![0; 1 << 20];
        let request = RangeRequest {
            key: key.into(),
            ..RangeRequest::default()
        };
        assert_eq!(range(&request).len(), TEXT_BYTES_MAX + 3);
    }
}

//! Answers as the JSON that etcdctl prints: Go's field names and order, zero values left out, bytes in base64.
//!
//! Written by hand, because the order of fields is part of it and `--hex` turns ids into hexadecimal strings.

use std::fmt::Display;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proto::etcdserverpb::{
    DeleteRangeResponse, Member, PutResponse, RangeResponse, ResponseHeader, ResponseOp, StatusResponse,
    TxnResponse, response_op::Response,
};
use proto::mvccpb::{Event, KeyValue};

/// A JSON object under construction.
#[derive(Default)]
pub(super) struct Object(String);

impl Object {
    /// A field with a value that is JSON already.
    pub(super) fn raw(mut self, name: &str, value: &str) -> Object {
        if !self.0.is_empty() {
            self.0.push(',');
        }
        self.0.push_str(&format!("\"{name}\":{value}"));
        self
    }

    /// A field that is there even when its value is zero.
    pub(super) fn always(self, name: &str, value: impl Display) -> Object {
        self.raw(name, &value.to_string())
    }

    pub(super) fn number<N: Display + Default + PartialEq>(self, name: &str, value: N) -> Object {
        if value == N::default() {
            self
        } else {
            self.always(name, value)
        }
    }

    pub(super) fn flag(self, name: &str, value: bool) -> Object {
        if value { self.always(name, true) } else { self }
    }

    pub(super) fn string(self, name: &str, value: &str) -> Object {
        if value.is_empty() {
            self
        } else {
            self.raw(name, &string(value))
        }
    }

    pub(super) fn bytes(self, name: &str, value: &[u8]) -> Object {
        if value.is_empty() {
            self
        } else {
            self.raw(name, &bytes(value))
        }
    }

    /// A field that is there when there are items.
    pub(super) fn list(self, name: &str, items: impl Iterator<Item = String>) -> Object {
        match list(items).as_str() {
            "null" => self,
            items => self.raw(name, items),
        }
    }

    pub(super) fn end(self) -> String {
        format!("{{{}}}", self.0)
    }
}

/// A list; Go prints an empty one that was never made as `null`.
pub(super) fn list(items: impl Iterator<Item = String>) -> String {
    match items.collect::<Vec<String>>() {
        items if items.is_empty() => "null".to_owned(),
        items => format!("[{}]", items.join(",")),
    }
}

/// A string as Go's encoder writes it: safe inside HTML.
pub(super) fn string(value: &str) -> String {
    let text = serde_json::Value::from(value).to_string();
    text.replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
}

pub(super) fn bytes(value: &[u8]) -> String {
    format!("\"{}\"", STANDARD.encode(value))
}

/// Writes answers; `hex` shows ids in hexadecimal.
#[derive(Clone, Copy)]
pub(super) struct Json {
    pub(super) hex: bool,
}

impl Json {
    /// An id: a number, or with `--hex` a string.
    pub(super) fn id(self, id: u64) -> String {
        if self.hex {
            format!("\"{id:x}\"")
        } else {
            id.to_string()
        }
    }

    fn id_field(self, object: Object, name: &str, id: u64) -> Object {
        if id == 0 {
            object
        } else {
            object.raw(name, &self.id(id))
        }
    }

    /// The fields of a header, as the beginning of an object.
    pub(super) fn header_fields(self, header: ResponseHeader) -> Object {
        let object = self.id_field(Object::default(), "cluster_id", header.cluster_id);
        let object = self.id_field(object, "member_id", header.member_id);
        object
            .number("revision", header.revision)
            .number("raft_term", header.raft_term)
    }

    /// An answer that begins with a header.
    pub(super) fn answer(self, header: Option<ResponseHeader>) -> Object {
        match header {
            Some(header) => Object::default().raw("header", &self.header_fields(header).end()),
            None => Object::default(),
        }
    }

    pub(super) fn range(self, answer: &RangeResponse) -> String {
        self.answer(answer.header)
            .list("kvs", answer.kvs.iter().map(key_value))
            .flag("more", answer.more)
            .number("count", answer.count)
            .end()
    }

    pub(super) fn put(self, answer: &PutResponse) -> String {
        let object = self.answer(answer.header);
        match &answer.prev_kv {
            Some(kv) => object.raw("prev_kv", &key_value(kv)).end(),
            None => object.end(),
        }
    }

    pub(super) fn delete(self, answer: &DeleteRangeResponse) -> String {
        self.answer(answer.header)
            .number("deleted", answer.deleted)
            .list("prev_kvs", answer.prev_kvs.iter().map(key_value))
            .end()
    }

    pub(super) fn txn(self, answer: &TxnResponse) -> String {
        self.answer(answer.header)
            .flag("succeeded", answer.succeeded)
            .list("responses", answer.responses.iter().map(|op| self.op(op)))
            .end()
    }

    fn op(self, op: &ResponseOp) -> String {
        let inner = match &op.response {
            Some(Response::ResponseRange(answer)) => ("response_range", self.range(answer)),
            Some(Response::ResponsePut(answer)) => ("response_put", self.put(answer)),
            Some(Response::ResponseDeleteRange(answer)) => ("response_delete_range", self.delete(answer)),
            Some(Response::ResponseTxn(answer)) => ("response_txn", self.txn(answer)),
            None => return Object::default().raw("Response", "null").end(),
        };
        Object::default()
            .raw("Response", &Object::default().raw(inner.0, &inner.1).end())
            .end()
    }

    pub(super) fn member(self, member: &Member) -> String {
        self.id_field(Object::default(), "ID", member.id)
            .string("name", &member.name)
            .list("peerURLs", member.peer_urls.iter().map(|url| string(url)))
            .list("clientURLs", member.client_urls.iter().map(|url| string(url)))
            .flag("isLearner", member.is_learner)
            .end()
    }

    pub(super) fn status(self, status: &StatusResponse) -> String {
        let object = self
            .answer(status.header)
            .string("version", &status.version)
            .number("dbSize", status.db_size);
        let object = self
            .id_field(object, "leader", status.leader)
            .number("raftIndex", status.raft_index)
            .number("raftTerm", status.raft_term)
            .number("raftAppliedIndex", status.raft_applied_index)
            .list("errors", status.errors.iter().map(|error| string(error)))
            .number("dbSizeInUse", status.db_size_in_use)
            .flag("isLearner", status.is_learner)
            .string("storageVersion", &status.storage_version)
            .number("dbSizeQuota", status.db_size_quota);
        match &status.downgrade_info {
            Some(info) => {
                let info = Object::default()
                    .flag("enabled", info.enabled)
                    .string("targetVersion", &info.target_version)
                    .end();
                object.raw("downgradeInfo", &info).end()
            }
            None => object.end(),
        }
    }
}

fn key_value(kv: &KeyValue) -> String {
    Object::default()
        .bytes("key", &kv.key)
        .number("create_revision", kv.create_revision)
        .number("mod_revision", kv.mod_revision)
        .number("version", kv.version)
        .bytes("value", &kv.value)
        .number("lease", kv.lease)
        .end()
}

pub(super) fn event(event: &Event) -> String {
    let mut object = Object::default().number("type", event.r#type);
    for (name, kv) in [("kv", &event.kv), ("prev_kv", &event.prev_kv)] {
        if let Some(kv) = kv {
            object = object.raw(name, &key_value(kv));
        }
    }
    object.end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_reads_as_etcdctls() {
        let header = ResponseHeader {
            cluster_id: 20,
            member_id: 10,
            revision: 5,
            raft_term: 2,
        };
        let kv = KeyValue {
            key: "foo".into(),
            create_revision: 2,
            mod_revision: 3,
            version: 2,
            value: "bar2".into(),
            lease: 0,
        };
        let answer = RangeResponse {
            header: Some(header),
            kvs: vec![kv],
            more: true,
            count: 3,
        };
        assert_eq!(
            Json { hex: false }.range(&answer),
            "{\"header\":{\"cluster_id\":20,\"member_id\":10,\"revision\":5,\"raft_term\":2},\"kvs\":[{\"key\":\"Zm9v\",\
             \"create_revision\":2,\"mod_revision\":3,\"version\":2,\"value\":\"YmFyMg==\"}],\"more\":true,\"count\":3}"
        );
        let empty = RangeResponse {
            header: Some(header),
            ..RangeResponse::default()
        };
        assert_eq!(
            Json { hex: true }.range(&empty),
            "{\"header\":{\"cluster_id\":\"14\",\"member_id\":\"a\",\"revision\":5,\"raft_term\":2}}"
        );
    }

    #[test]
    fn strings_are_safe_inside_html() {
        assert_eq!(string("<a&\"b\">"), r#""\u003ca\u0026\"b\"\u003e""#);
    }
}

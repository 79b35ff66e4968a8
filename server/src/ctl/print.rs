//! Answers on the standard output, in the format that `-w` asks for.

use std::io::{self, Write as _};

use bytes::Bytes;
use clap::ArgMatches;
use proto::etcdserverpb::{
    DeleteRangeResponse, PutResponse, RangeResponse, ResponseHeader, ResponseOp, TxnResponse, WatchResponse,
    response_op::Response,
};
use proto::mvccpb::{KeyValue, event::EventType};

use super::json::{self, Json, Object};
use super::{Failure, line, text};

/// The formats of `-w`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Format {
    Simple,
    Json,
    Fields,
    Table,
}

/// How to print.
pub(super) struct Printer {
    pub(super) format: Format,
    hex: bool,
}

impl Printer {
    pub(super) fn new(matches: &ArgMatches) -> Result<Printer, Failure> {
        let format = match line::text_of(matches, "write-out") {
            "simple" => Format::Simple,
            "json" => Format::Json,
            "fields" => Format::Fields,
            "table" => Format::Table,
            _ => return Err(Failure::Feature("unsupported output format".to_owned())),
        };
        Ok(Printer {
            format,
            hex: line::is_on(matches, "hex"),
        })
    }

    /// For the commands whose answers are no tables; asked before anything is sent.
    pub(super) fn refuse_table(&self) -> Result<(), Failure> {
        match self.format {
            Format::Table => Err(Failure::Feature(
                "table not supported as output format".to_owned(),
            )),
            _ => Ok(()),
        }
    }

    /// The same for those whose answers are no fields either.
    pub(super) fn refuse_fields(&self) -> Result<(), Failure> {
        match self.format {
            Format::Fields => Err(Failure::Feature(
                "fields not supported as output format".to_owned(),
            )),
            _ => Ok(()),
        }
    }

    /// An answer that says nothing but that it was done, which `told` says in words.
    pub(super) fn done(&self, header: Option<ResponseHeader>, told: &str) {
        match self.format {
            Format::Json => print_line(&self.json().answer(header).end()),
            Format::Fields => print(&self.header_fields(header)),
            _ => print_line(told),
        }
    }

    /// The writer of JSON. In etcdctl only the list of members heeds `--hex` there.
    pub(super) fn json(&self) -> Json {
        Json { hex: false }
    }

    /// The writer of JSON for members.
    pub(super) fn member_json(&self) -> Json {
        Json { hex: self.hex }
    }

    /// The id of a member or a cluster among fields.
    pub(super) fn id(&self, id: u64) -> String {
        if self.hex {
            format!("{id:x}")
        } else {
            id.to_string()
        }
    }

    /// The id of a lease among fields.
    pub(super) fn lease(&self, id: i64) -> String {
        if self.hex {
            format!("{id:016x}")
        } else {
            id.to_string()
        }
    }

    /// The fields of a header; a header without revision does not show one.
    pub(super) fn header_fields(&self, header: Option<ResponseHeader>) -> String {
        let header = header.unwrap_or_default();
        let revision = match header.revision {
            0 => String::new(),
            revision => format!("\"Revision\" : {revision}\n"),
        };
        format!(
            "\"ClusterID\" : {}\n\"MemberID\" : {}\n{revision}\"RaftTerm\" : {}\n",
            self.id(header.cluster_id),
            self.id(header.member_id),
            header.raft_term
        )
    }

    pub(super) fn get(&self, answer: &RangeResponse, value_only: bool) {
        match self.format {
            Format::Json => print_line(&self.json().range(answer)),
            Format::Fields => print(&self.range_fields(answer)),
            _ => {
                for kv in &answer.kvs {
                    self.key_value(kv, value_only);
                }
            }
        }
    }

    pub(super) fn put(&self, answer: &PutResponse) {
        match self.format {
            Format::Json => print_line(&self.json().put(answer)),
            Format::Fields => print(&self.put_fields(answer)),
            _ => {
                print_line("OK");
                if let Some(kv) = &answer.prev_kv {
                    self.key_value(kv, false);
                }
            }
        }
    }

    pub(super) fn delete(&self, answer: &DeleteRangeResponse) {
        match self.format {
            Format::Json => print_line(&self.json().delete(answer)),
            Format::Fields => print(&self.delete_fields(answer)),
            _ => {
                print_line(&answer.deleted.to_string());
                for kv in &answer.prev_kvs {
                    self.key_value(kv, false);
                }
            }
        }
    }

    pub(super) fn txn(&self, answer: &TxnResponse) {
        match self.format {
            Format::Json => print_line(&self.json().txn(answer)),
            Format::Fields => print(&self.txn_fields(answer)),
            _ => {
                print_line(if answer.succeeded { "SUCCESS" } else { "FAILURE" });
                for op in &answer.responses {
                    print_line("");
                    self.op(op);
                }
            }
        }
    }

    fn op(&self, op: &ResponseOp) {
        match &op.response {
            Some(Response::ResponseRange(answer)) => self.get(answer, false),
            Some(Response::ResponsePut(answer)) => self.put(answer),
            Some(Response::ResponseDeleteRange(answer)) => self.delete(answer),
            Some(Response::ResponseTxn(answer)) => self.txn(answer),
            None => {}
        }
    }

    pub(super) fn watch(&self, answer: &WatchResponse) {
        match self.format {
            Format::Json => {
                let header = answer.header.unwrap_or_default();
                let events = answer.events.iter().map(json::event);
                let object = Object::default()
                    .raw("Header", &self.json().header_fields(header).end())
                    .raw("Events", &json::list(events))
                    .always("CompactRevision", answer.compact_revision)
                    .always("Canceled", answer.canceled)
                    .always("Created", answer.created)
                    .raw("CancelReason", &json::string(&answer.cancel_reason));
                print_line(&object.end());
            }
            Format::Fields => {
                let mut lines = self.header_fields(answer.header);
                for event in &answer.events {
                    lines.push_str(&format!("\"Type\" : {}\n", event_name(event.r#type)));
                    lines.extend(event.prev_kv.iter().map(|kv| self.kv_fields("Prev", kv)));
                    lines.extend(event.kv.iter().map(|kv| self.kv_fields("", kv)));
                }
                print(&lines);
            }
            _ => {
                for event in &answer.events {
                    print_line(event_name(event.r#type));
                    for kv in [&event.prev_kv, &event.kv].into_iter().flatten() {
                        self.key_value(kv, false);
                    }
                }
            }
        }
    }

    /// Key and value, each on a line of its own, as they are or in hex.
    fn key_value(&self, kv: &KeyValue, value_only: bool) {
        let mut bytes = Vec::with_capacity(kv.key.len() + kv.value.len() + 2);
        if !value_only {
            bytes.extend_from_slice(&self.shown(&kv.key));
            bytes.push(b'\n');
        }
        bytes.extend_from_slice(&self.shown(&kv.value));
        bytes.push(b'\n');
        print_bytes(&bytes);
    }

    fn shown(&self, bytes: &Bytes) -> Bytes {
        if self.hex { text::hex(bytes) } else { bytes.clone() }
    }

    fn kv_fields(&self, prefix: &str, kv: &KeyValue) -> String {
        format!(
            "\"{prefix}Key\" : {}\n\"{prefix}CreateRevision\" : {}\n\"{prefix}ModRevision\" : {}\n\
             \"{prefix}Version\" : {}\n\"{prefix}Value\" : {}\n\"{prefix}Lease\" : {}\n",
            text::quoted(&kv.key),
            kv.create_revision,
            kv.mod_revision,
            kv.version,
            text::quoted(&kv.value),
            self.lease(kv.lease)
        )
    }

    fn range_fields(&self, answer: &RangeResponse) -> String {
        let mut lines = self.header_fields(answer.header);
        lines.extend(answer.kvs.iter().map(|kv| self.kv_fields("", kv)));
        lines.push_str(&format!(
            "\"More\" : {}\n\"Count\" : {}\n",
            answer.more, answer.count
        ));
        lines
    }

    fn put_fields(&self, answer: &PutResponse) -> String {
        let mut lines = self.header_fields(answer.header);
        lines.extend(answer.prev_kv.iter().map(|kv| self.kv_fields("Prev", kv)));
        lines
    }

    fn delete_fields(&self, answer: &DeleteRangeResponse) -> String {
        let mut lines = self.header_fields(answer.header);
        lines.push_str(&format!("\"Deleted\" : {}\n", answer.deleted));
        lines.extend(answer.prev_kvs.iter().map(|kv| self.kv_fields("Prev", kv)));
        lines
    }

    fn txn_fields(&self, answer: &TxnResponse) -> String {
        let mut lines = self.header_fields(answer.header);
        lines.push_str(&format!("\"Succeeded\" : {}\n", answer.succeeded));
        for op in &answer.responses {
            lines.push_str(&match &op.response {
                Some(Response::ResponseRange(answer)) => self.range_fields(answer),
                Some(Response::ResponsePut(answer)) => self.put_fields(answer),
                Some(Response::ResponseDeleteRange(answer)) => self.delete_fields(answer),
                Some(Response::ResponseTxn(answer)) => self.txn_fields(answer),
                None => String::new(),
            });
        }
        lines
    }
}

fn event_name(kind: i32) -> &'static str {
    EventType::try_from(kind).map_or("UNKNOWN", |kind| kind.as_str_name())
}

/// Prints `text` and a line's end.
pub(super) fn print_line(text: &str) {
    print_bytes(format!("{text}\n").as_bytes());
}

/// Prints `text` as it is.
pub(super) fn print(text: &str) {
    print_bytes(text.as_bytes());
}

/// Whoever reads us may leave early, as `head` does; then there is nothing more to do.
fn print_bytes(bytes: &[u8]) {
    let mut out = io::stdout().lock();
    if out.write_all(bytes).and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}

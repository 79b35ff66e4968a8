//! The differences that are meant to be, in one table. Everything else that is not equal is a finding.

use proto::etcdserverpb::StatusResponse;
use tonic::Code;

use super::calls::{Answer, Outcome, Refusal, Request};
use super::process::HttpAnswer;

/// One kind of difference that is none.
pub(crate) struct Explained {
    pub(crate) name: &'static str,
    pub(crate) why: &'static str,
    /// Makes both outcomes equal as far as this kind goes. The first is etcd's.
    level: fn(&Request, &mut Outcome, &mut Outcome),
}

/// All of them.
pub(crate) const EXPLAINED: &[Explained] = &[
    Explained {
        name: "lease time left",
        why: "whole seconds of a clock that goes on between the two calls",
        level: lease_time_left,
    },
    Explained {
        name: "order of lists of leases and of their keys",
        why: "etcd lists the keys of a lease in the order of a Go map, and leases that end together in any",
        level: lease_order,
    },
    Explained {
        name: "order of alarms",
        why: "etcd lists them in the order of a Go map",
        level: alarm_order,
    },
    Explained {
        name: "ids of leases that the server chose",
        why: "made of the member, the time and a counter",
        level: chosen_leases,
    },
    Explained {
        name: "sizes and log positions in Status",
        why: "the files are not of one format, and the log also holds what a server writes for itself; \
              what the numbers must be to each other is checked instead",
        level: status_sizes,
    },
    Explained {
        name: "hash of the whole backend",
        why: "the files are not of one format",
        level: backend_hash,
    },
    Explained {
        name: "RangeStream sorted by what is not the key, without an order",
        why: "etcd lets it through, repeats and loses keys, and counts wrongly (reference, 1.1)",
        level: range_stream_broken,
    },
    Explained {
        name: "chunks of RangeStream",
        why: "where chunks end is the server's choice; put together they must be equal",
        level: range_stream_chunks,
    },
    Explained {
        name: "the text about a message that cannot be decoded",
        why: "it comes from the protobuf library",
        level: undecodable,
    },
    Explained {
        name: "a known field with another wire type",
        why: "Go takes it for an unknown field; here the message cannot be decoded. No client sends such",
        level: other_wire_type,
    },
    Explained {
        name: "order of the checks in /livez and /readyz",
        why: "etcd writes them in the order of a Go map. Looked at in `level_http`",
        level: |_, _, _| {},
    },
    Explained {
        name: "what the JSON gateway says of a body that it cannot read",
        why: "the text comes from the JSON library; status and code must be equal. Looked at in `level_http`",
        level: |_, _, _| {},
    },
    Explained {
        name: "spaces between the tokens of JSON",
        why: "Go's protojson puts a space after commas or not, by a hash of the binary that it is linked into. \
              Taken away in `compact_json`",
        level: |_, _, _| {},
    },
    Explained {
        name: "progress after a compaction has cancelled a watcher",
        why: "etcd tells none on that stream until the client has cancelled the watcher, too; here it is told, as the \
              guarantee allows. Looked at in `watching`",
        level: |_, _, _| {},
    },
];

/// Makes explained differences equal.
pub(crate) fn level(request: &Request, left: &mut Outcome, right: &mut Outcome) {
    for explained in EXPLAINED {
        (explained.level)(request, left, right);
    }
}

/// Makes explained differences of HTTP answers equal.
pub(crate) fn level_http(path: &str, left: &mut Option<HttpAnswer>, right: &mut Option<HttpAnswer>) {
    let (Some(left), Some(right)) = (left, right) else {
        return;
    };
    if path.contains("livez") || path.contains("readyz") {
        for answer in [&mut *left, &mut *right] {
            let mut lines: Vec<_> = answer.body.lines().collect();
            lines.sort_unstable();
            answer.body = lines.join("\n");
        }
    }
    let unreadable = |answer: &HttpAnswer| {
        answer.status == 400
            && answer.body.starts_with("{\"code\":3,\"message\":")
            && !answer.body.contains("etcdserver:")
    };
    if unreadable(left) && unreadable(right) {
        right.body.clone_from(&left.body);
    }
}

/// JSON without the spaces between its tokens.
pub(crate) fn compact_json(text: &str) -> String {
    let (mut in_string, mut escaped) = (false, false);
    let kept = text.chars().filter(|&character| {
        let keep = in_string || character != ' ';
        if character == '"' && !escaped {
            in_string = !in_string;
        }
        escaped = in_string && character == '\\' && !escaped;
        keep
    });
    kept.collect()
}

#[test]
fn spaces_inside_strings_stay() {
    let text = r#"{"a": 1, "b c": ["d\" e", "\\", "f"]}"#;
    assert_eq!(compact_json(text), r#"{"a":1,"b c":["d\" e","\\","f"]}"#);
}

/// Takes away what an etcd before 3.7 does not know or does in another way.
pub(crate) fn mask_newer(request: &Request, outcome: &mut Outcome) {
    match outcome {
        Ok(Answer::Range(answer)) => {
            if matches!(request, Request::Range(request) if request.keys_only) {
                answer.kvs.iter_mut().for_each(|kv| kv.lease = 0);
            }
        }
        Ok(Answer::HashKv(answer)) => {
            // The hash covered less then.
            answer.hash = 0;
            answer.hash_revision = 0;
        }
        Ok(Answer::Status(answer)) => {
            answer.version.clear();
            answer.storage_version.clear();
            answer.db_size_quota = 0;
            answer.downgrade_info = None;
        }
        _ => {}
    }
}

fn lease_time_left(_: &Request, left: &mut Outcome, right: &mut Outcome) {
    if let (Ok(Answer::TimeToLive(left)), Ok(Answer::TimeToLive(right))) = (left, right)
        && left.ttl >= 0
        && right.ttl >= 0
        && left.ttl.abs_diff(right.ttl) <= LEASE_SECONDS
    {
        right.ttl = left.ttl;
    }
}

fn lease_order(_: &Request, left: &mut Outcome, right: &mut Outcome) {
    for outcome in [left, right] {
        match outcome {
            Ok(Answer::TimeToLive(answer)) => answer.keys.sort(),
            Ok(Answer::Leases(answer)) => answer.leases.sort_by_key(|lease| lease.id),
            _ => {}
        }
    }
}

fn alarm_order(_: &Request, left: &mut Outcome, right: &mut Outcome) {
    for outcome in [left, right] {
        match outcome {
            Ok(Answer::Alarm(answer)) => answer.alarms.sort_by_key(|alarm| (alarm.member_id, alarm.alarm)),
            Ok(Answer::Status(answer)) => answer.errors.sort(),
            _ => {}
        }
    }
}

fn chosen_leases(request: &Request, left: &mut Outcome, right: &mut Outcome) {
    let Request::Grant(request) = request else {
        return;
    };
    if request.id != 0 {
        return;
    }
    for outcome in [left, right] {
        if let Ok(Answer::Grant(answer)) = outcome
            && answer.id > 0
        {
            answer.id = 1;
        }
    }
}

fn status_sizes(_: &Request, left: &mut Outcome, right: &mut Outcome) {
    for outcome in [left, right] {
        if let Ok(Answer::Status(answer)) = outcome
            && answer.db_size > 0
            && (0..=answer.db_size).contains(&answer.db_size_in_use)
            && answer.raft_applied_index <= answer.raft_index
        {
            *answer = StatusResponse {
                db_size: 1,
                db_size_in_use: 1,
                raft_index: 1,
                raft_applied_index: 1,
                ..answer.clone()
            };
        }
    }
}

fn backend_hash(_: &Request, left: &mut Outcome, right: &mut Outcome) {
    for outcome in [left, right] {
        if let Ok(Answer::Hash(answer)) = outcome {
            answer.hash = 1;
        }
    }
}

fn range_stream_broken(request: &Request, left: &mut Outcome, right: &mut Outcome) {
    if let Request::RangeStream(request) = request
        && request.sort_order == 0
        && (1..=4).contains(&request.sort_target)
    {
        *left = right.clone();
    }
}

fn range_stream_chunks(_: &Request, left: &mut Outcome, right: &mut Outcome) {
    for outcome in [left, right] {
        let Ok(Answer::RangeStream(messages)) = outcome else {
            continue;
        };
        // All but the last hold pairs only.
        let plain = messages.split_last().is_none_or(|(_, chunks)| {
            chunks.iter().all(|chunk| {
                chunk.range_response.as_ref().is_some_and(|range| {
                    range.header.is_none() && range.count == 0 && !range.more && !range.kvs.is_empty()
                })
            })
        });
        if plain && let Some(mut whole) = messages.pop() {
            if let Some(range) = &mut whole.range_response {
                let chunks = messages.drain(..).filter_map(|chunk| chunk.range_response);
                let before: Vec<_> = chunks.flat_map(|chunk| chunk.kvs).collect();
                range.kvs.splice(0..0, before);
            }
            messages.push(whole);
        }
    }
}

fn undecodable(request: &Request, left: &mut Outcome, right: &mut Outcome) {
    if !matches!(request, Request::Raw(..)) {
        return;
    }
    if let (Err(left), Err(right)) = (left, right)
        && left.code == Code::Internal
        && right.code == Code::Internal
    {
        *right = Refusal { ..left.clone() };
    }
}

fn other_wire_type(request: &Request, left: &mut Outcome, right: &mut Outcome) {
    let refused =
        |refusal: &Refusal| refusal.code == Code::Internal && refusal.text.contains("invalid wire type");
    if matches!(request, Request::Raw(..)) && right.as_ref().is_err_and(refused) {
        *left = right.clone();
    }
}

/// How far apart two looks at a lease may be.
const LEASE_SECONDS: u64 = 3;

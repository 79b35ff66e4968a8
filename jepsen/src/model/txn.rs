//! Transactions: compares judged on the state before, one branch per level checked whole, then run in order.

use std::cmp::Ordering;

use bytes::Bytes;
use proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use proto::etcdserverpb::request_op::Request as Op;
use proto::etcdserverpb::response_op::Response as OpAnswer;
use proto::etcdserverpb::{Compare, ResponseHeader, ResponseOp, TxnRequest, TxnResponse};
use proto::mvccpb::{Event, KeyValue};

use super::state::{State, Writer};
use super::{Error, header, kv};

/// A transaction whose branches are chosen: for each nested one, in order of execution, whether its compares held.
struct Path<'a> {
    succeeded: bool,
    ops: Vec<Step<'a>>,
}

enum Step<'a> {
    Plain(&'a Op),
    Nested(Path<'a>),
}

/// Runs a transaction of valid shape.
pub(super) fn run(state: &mut State, request: &TxnRequest) -> Result<(TxnResponse, Vec<Event>), Error> {
    let path = choose(state, request);
    check(state, &path)?;
    let mut writer = Writer::new(state);
    let mut response = execute(&mut writer, &path);
    response.header = Some(header(writer.revision()));
    Ok((response, writer.finish()))
}

fn choose<'a>(state: &State, request: &'a TxnRequest) -> Path<'a> {
    let succeeded = request.compare.iter().all(|compare| holds(state, compare));
    let branch = if succeeded {
        &request.success
    } else {
        &request.failure
    };
    let ops = branch
        .iter()
        .filter_map(|op| op.request.as_ref())
        .map(|op| match op {
            Op::RequestTxn(nested) => Step::Nested(choose(state, nested)),
            plain => Step::Plain(plain),
        })
        .collect();
    Path { succeeded, ops }
}

fn holds(state: &State, compare: &Compare) -> bool {
    let found = state.scan(&compare.key, &compare.range_end, state.revision);
    if found.is_empty() {
        // An absent key counts as zero in everything but its value, which no comparison can meet.
        let value = compare.target == i32::from(CompareTarget::Value);
        return !value && holds_for(compare, &KeyValue::default());
    }
    found.iter().all(|kv| holds_for(compare, kv))
}

fn holds_for(compare: &Compare, kv: &KeyValue) -> bool {
    // A member of the union that does not belong to the target counts as not given.
    let number = |given: Option<i64>, actual: i64| actual.cmp(&given.unwrap_or(0));
    let union = compare.target_union.as_ref();
    let order = match CompareTarget::try_from(compare.target) {
        Ok(CompareTarget::Version) => number(
            union.and_then(|u| {
                if let TargetUnion::Version(v) = u {
                    Some(*v)
                } else {
                    None
                }
            }),
            kv.version,
        ),
        Ok(CompareTarget::Create) => number(
            union.and_then(|u| {
                if let TargetUnion::CreateRevision(v) = u {
                    Some(*v)
                } else {
                    None
                }
            }),
            kv.create_revision,
        ),
        Ok(CompareTarget::Mod) => number(
            union.and_then(|u| {
                if let TargetUnion::ModRevision(v) = u {
                    Some(*v)
                } else {
                    None
                }
            }),
            kv.mod_revision,
        ),
        Ok(CompareTarget::Lease) => number(
            union.and_then(|u| {
                if let TargetUnion::Lease(v) = u {
                    Some(*v)
                } else {
                    None
                }
            }),
            kv.lease,
        ),
        Ok(CompareTarget::Value) => {
            let given = union.and_then(|u| {
                if let TargetUnion::Value(v) = u {
                    Some(v)
                } else {
                    None
                }
            });
            kv.value.cmp(given.unwrap_or(&Bytes::new()))
        }
        Err(_) => Ordering::Equal,
    };
    match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => order.is_eq(),
        Ok(CompareResult::NotEqual) => order.is_ne(),
        Ok(CompareResult::Greater) => order.is_gt(),
        Ok(CompareResult::Less) => order.is_lt(),
        Err(_) => true,
    }
}

/// Everything that could fail fails here, on the state before the first write.
fn check(state: &State, path: &Path<'_>) -> Result<(), Error> {
    for step in &path.ops {
        match step {
            Step::Nested(nested) => check(state, nested)?,
            Step::Plain(Op::RequestRange(range)) => kv::check_revision(state, range.revision)?,
            Step::Plain(Op::RequestPut(put)) => kv::check_put(state, put)?,
            Step::Plain(_) => {}
        }
    }
    Ok(())
}

fn execute(writer: &mut Writer<'_>, path: &Path<'_>) -> TxnResponse {
    let responses = path
        .ops
        .iter()
        .map(|step| ResponseOp {
            response: Some(execute_step(writer, step)),
        })
        .collect();
    // A nested answer has a header without content; the caller fills the outermost one.
    TxnResponse {
        header: Some(ResponseHeader::default()),
        succeeded: path.succeeded,
        responses,
    }
}

fn execute_step(writer: &mut Writer<'_>, step: &Step<'_>) -> OpAnswer {
    match step {
        Step::Nested(nested) => OpAnswer::ResponseTxn(execute(writer, nested)),
        Step::Plain(Op::RequestRange(range)) => {
            let current = writer.revision();
            let at = if range.revision > 0 {
                range.revision
            } else {
                current
            };
            OpAnswer::ResponseRange(kv::range_at(writer.state, range, at, current))
        }
        Step::Plain(Op::RequestPut(put)) => OpAnswer::ResponsePut(kv::put(writer, put)),
        Step::Plain(Op::RequestDeleteRange(delete)) => {
            OpAnswer::ResponseDeleteRange(kv::delete_range(writer, delete))
        }
        // `choose` turned every transaction into a nested path.
        Step::Plain(Op::RequestTxn(_)) => OpAnswer::ResponseTxn(TxnResponse::default()),
    }
}

/// Whether a transaction is proposed: any operation but a range, in either branch, makes it a write.
#[must_use]
pub fn is_write(request: &TxnRequest) -> bool {
    let mut ops = request.success.iter().chain(&request.failure);
    ops.any(|op| !matches!(op.request, Some(Op::RequestRange(_))))
}

/// Whether a reading transaction is answered from the local state: every range says so. One without any operation is
/// local too.
#[must_use]
pub fn is_serializable(request: &TxnRequest) -> bool {
    let mut ops = request.success.iter().chain(&request.failure);
    ops.all(|op| matches!(&op.request, Some(Op::RequestRange(range)) if range.serializable))
}

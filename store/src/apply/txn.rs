//! Transactions: compare, choose, check, run.
//!
//! 1. All compares are judged on the state before the transaction, those of nested transactions on the chosen path
//!    included. The outcomes in pre-order are the [`Path`].
//! 2. The chosen path is checked as a whole: revisions of ranges, leases, ignore_* on absent keys. Here it may fail.
//! 3. The path runs, in order; nothing can fail any more.

use std::cmp::Ordering;
use std::slice;

use proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use proto::etcdserverpb::request_op::Request as Op;
use proto::etcdserverpb::response_op::Response as OpResponse;
use proto::etcdserverpb::{Compare, PutRequest, RangeRequest, RequestOp, ResponseHeader, TxnRequest};

use super::check::is_read_only;
use super::plan::{OpPlan, TxnPlan};
use super::{Outcome, Response, State, kv};
use crate::error::RequestError;
use crate::lease::Lessor;
use crate::mvcc::{Live, Mvcc, RangePlan, Tally, WriteTxn, check_arguments};
use crate::types::{KeyRange, LeaseId};

/// Which branch each transaction on the chosen path takes, in pre-order.
struct Path {
    taken: Vec<bool>,
    /// Compares judged.
    reads: u64,
}

/// A path being followed.
struct Steps<'a> {
    taken: slice::Iter<'a, bool>,
    /// Looks at the state before the transaction.
    reads: u64,
}

/// Applies a transaction of the log.
pub(super) fn apply(
    state: &mut State,
    request: TxnRequest,
    entry_len: usize,
) -> Result<Outcome, RequestError> {
    let path = Path::of(&state.mvcc, &request);
    let mut checked = path.steps();
    check(&state.mvcc, &state.lessor, &request, &mut checked)?;
    let judged = Tally::of_reads(path.reads + checked.reads);
    let mut run = Run {
        txn: state.mvcc.begin(),
        lessor: &mut state.lessor,
        entry_len,
    };
    let mut plan = run.txn(request, &mut path.steps());
    plan.header.revision = run.txn.revision();
    let mut outcome = Outcome::written(Response::Txn(plan), run.txn);
    outcome.tally += judged;
    Ok(outcome)
}

/// Answers a transaction without writes.
pub(super) fn read(
    mvcc: &Mvcc,
    lessor: &Lessor,
    request: &TxnRequest,
) -> Result<(TxnPlan, Tally), RequestError> {
    assert!(
        is_read_only(request),
        "a transaction with writes belongs in the log"
    );
    let path = Path::of(mvcc, request);
    check(mvcc, lessor, request, &mut path.steps())?;
    let succeeded = path.steps().next();
    let ops: Vec<_> = branch(request, succeeded)
        .iter()
        .map(|op| read_op(mvcc, op))
        .collect();
    let tally = Tally::of_reads(path.reads + ops.len() as u64);
    let header = ResponseHeader {
        revision: mvcc.current(),
        ..ResponseHeader::default()
    };
    let plan = TxnPlan {
        header,
        succeeded,
        ops,
    };
    Ok((plan, tally))
}

impl Path {
    fn of(mvcc: &Mvcc, request: &TxnRequest) -> Self {
        let mut path = Path {
            taken: Vec::new(),
            reads: 0,
        };
        path.judge(mvcc, request);
        path
    }

    fn judge(&mut self, mvcc: &Mvcc, request: &TxnRequest) {
        let succeeded = request.compare.iter().all(|compare| {
            self.reads += 1;
            holds(mvcc, compare)
        });
        self.taken.push(succeeded);
        for op in branch(request, succeeded) {
            if let Some(Op::RequestTxn(nested)) = &op.request {
                self.judge(mvcc, nested);
            }
        }
    }

    fn steps(&self) -> Steps<'_> {
        Steps {
            taken: self.taken.iter(),
            reads: 0,
        }
    }
}

impl Steps<'_> {
    /// Whether the next transaction on the path succeeds.
    fn next(&mut self) -> bool {
        *self
            .taken
            .next()
            .expect("the path was judged on the same transaction")
    }
}

fn branch(request: &TxnRequest, succeeded: bool) -> &[RequestOp] {
    if succeeded {
        &request.success
    } else {
        &request.failure
    }
}

/// Whether a compare holds: for the one key, or for every live key of its range. Without any, a VALUE compare is
/// false whatever its operator, and the others see zeros.
fn holds(mvcc: &Mvcc, compare: &Compare) -> bool {
    let range = KeyRange::new(compare.key.clone(), compare.range_end.clone());
    let mut keys = mvcc.live_in(&range).map(|(_, live)| live).peekable();
    if keys.peek().is_none() {
        return compare.target != CompareTarget::Value as i32 && satisfied(compare, None);
    }
    keys.all(|live| satisfied(compare, Some(&live)))
}

/// One key's state against the compare. A number or value of another target than the compare's counts as 0 or
/// empty; an unknown target is equal; an unknown operator is true.
fn satisfied(compare: &Compare, live: Option<&Live<'_>>) -> bool {
    let union = compare.target_union.as_ref();
    let number = |of: fn(&Live<'_>) -> i64, wanted: Option<i64>| live.map_or(0, of).cmp(&wanted.unwrap_or(0));
    let order = match CompareTarget::try_from(compare.target) {
        Err(_) => Ordering::Equal,
        Ok(CompareTarget::Value) => {
            let wanted = match union {
                Some(TargetUnion::Value(value)) => value.as_ref(),
                _ => &[],
            };
            live.map_or(&[][..], |live| live.value.as_ref()).cmp(wanted)
        }
        Ok(CompareTarget::Version) => number(
            |live| live.version,
            union.and_then(|u| {
                if let TargetUnion::Version(n) = u {
                    Some(*n)
                } else {
                    None
                }
            }),
        ),
        Ok(CompareTarget::Create) => number(
            |live| live.create_revision,
            union.and_then(|u| {
                if let TargetUnion::CreateRevision(n) = u {
                    Some(*n)
                } else {
                    None
                }
            }),
        ),
        Ok(CompareTarget::Mod) => number(
            |live| live.mod_revision,
            union.and_then(|u| {
                if let TargetUnion::ModRevision(n) = u {
                    Some(*n)
                } else {
                    None
                }
            }),
        ),
        Ok(CompareTarget::Lease) => number(
            |live| live.lease.0,
            union.and_then(|u| {
                if let TargetUnion::Lease(n) = u {
                    Some(*n)
                } else {
                    None
                }
            }),
        ),
    };
    match CompareResult::try_from(compare.result) {
        Err(_) => true,
        Ok(CompareResult::Equal) => order.is_eq(),
        Ok(CompareResult::NotEqual) => order.is_ne(),
        Ok(CompareResult::Greater) => order.is_gt(),
        Ok(CompareResult::Less) => order.is_lt(),
    }
}

/// Checks the chosen path, op by op, on the state before the transaction.
fn check(
    mvcc: &Mvcc,
    lessor: &Lessor,
    request: &TxnRequest,
    steps: &mut Steps<'_>,
) -> Result<(), RequestError> {
    for op in branch(request, steps.next()) {
        match &op.request {
            Some(Op::RequestRange(range)) => check_range(mvcc, range)?,
            Some(Op::RequestPut(put)) => {
                steps.reads += u64::from(kv::looks_back(put));
                check_put(mvcc, lessor, put)?;
            }
            Some(Op::RequestTxn(nested)) => check(mvcc, lessor, nested, steps)?,
            Some(Op::RequestDeleteRange(_)) => {}
            None => return Err(RequestError::KeyNotFound),
        }
    }
    Ok(())
}

/// Judged against the logical compacted revision only, which is replicated. Other than in a plain Range a negative
/// revision is not "current" here, once anything was compacted: it lies below what was.
fn check_range(mvcc: &Mvcc, range: &RangeRequest) -> Result<(), RequestError> {
    check_arguments(range)?;
    let (requested, current, compacted) = (range.revision, mvcc.current(), mvcc.compacted());
    if requested > current {
        return Err(RequestError::FutureRevision { requested, current });
    }
    if requested != 0 && requested < compacted {
        return Err(RequestError::Compacted { requested, compacted });
    }
    Ok(())
}

/// As for a plain put, the unknown lease comes before the absent key.
fn check_put(mvcc: &Mvcc, lessor: &Lessor, put: &PutRequest) -> Result<(), RequestError> {
    let id = LeaseId(put.lease);
    if id != LeaseId(0) && lessor.lookup(id).is_none() {
        return Err(RequestError::LeaseNotFound { id });
    }
    if (put.ignore_value || put.ignore_lease) && mvcc.get(&put.key).is_none() {
        return Err(RequestError::KeyNotFound);
    }
    Ok(())
}

/// A transaction that writes, under way.
struct Run<'a> {
    txn: WriteTxn<'a>,
    lessor: &'a mut Lessor,
    entry_len: usize,
}

impl Run<'_> {
    fn txn(&mut self, request: TxnRequest, steps: &mut Steps<'_>) -> TxnPlan {
        let succeeded = steps.next();
        let ops = if succeeded {
            request.success
        } else {
            request.failure
        };
        let ops = ops.into_iter().map(|op| self.op(op, steps)).collect();
        TxnPlan {
            header: ResponseHeader::default(),
            succeeded,
            ops,
        }
    }

    fn op(&mut self, op: RequestOp, steps: &mut Steps<'_>) -> OpPlan {
        match op.request {
            Some(Op::RequestRange(range)) => OpPlan::Range(checked(self.txn.range(&range))),
            Some(Op::RequestPut(put)) => {
                let response = kv::put(&mut self.txn, self.lessor, put, self.entry_len);
                OpPlan::Done(OpResponse::ResponsePut(response))
            }
            Some(Op::RequestDeleteRange(delete)) => {
                let response = kv::delete_range(&mut self.txn, self.lessor, &delete);
                OpPlan::Done(OpResponse::ResponseDeleteRange(response))
            }
            Some(Op::RequestTxn(nested)) => OpPlan::Txn(self.txn(nested, steps)),
            None => unreachable!("an operation without content does not pass the check"),
        }
    }
}

fn read_op(mvcc: &Mvcc, op: &RequestOp) -> OpPlan {
    match &op.request {
        Some(Op::RequestRange(range)) => OpPlan::Range(checked(mvcc.range(range))),
        _ => unreachable!("a transaction that only reads has ranges only"),
    }
}

fn checked(plan: Result<RangePlan, RequestError>) -> RangePlan {
    plan.expect("the chosen path is checked before its first operation")
}

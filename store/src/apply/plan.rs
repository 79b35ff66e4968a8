//! The answer of a transaction while values of the past may still be missing in it.

use std::collections::BTreeMap;

use proto::etcdserverpb::response_op::Response as Op;
use proto::etcdserverpb::{ResponseHeader, ResponseOp, TxnResponse};
use proto::mvccpb::KeyValue;

use crate::mvcc::RangePlan;
use crate::types::Revision;

/// A transaction that has run; like a [`RangePlan`], to be finished with what `missing` names.
#[derive(Clone, Debug)]
pub struct TxnPlan {
    pub(super) header: ResponseHeader,
    pub(super) succeeded: bool,
    pub(super) ops: Vec<OpPlan>,
}

/// The answer of one operation.
#[derive(Clone, Debug)]
pub(super) enum OpPlan {
    Done(Op),
    Range(RangePlan),
    Txn(TxnPlan),
}

impl TxnPlan {
    /// The revisions whose states the answer needs and memory does not hold.
    #[must_use]
    pub fn missing(&self) -> Vec<Revision> {
        let mut missing = Vec::new();
        self.collect_missing(&mut missing);
        missing
    }

    /// The answer, given the states that `missing` named. Headers hold the revision only.
    ///
    /// # Panics
    /// As [`RangePlan::finish`] does.
    #[must_use]
    pub fn finish(self, fetched: &BTreeMap<Revision, KeyValue>) -> TxnResponse {
        let finish = |op| match op {
            OpPlan::Done(response) => response,
            OpPlan::Range(plan) => Op::ResponseRange(plan.finish(fetched)),
            OpPlan::Txn(plan) => Op::ResponseTxn(plan.finish(fetched)),
        };
        let responses = self
            .ops
            .into_iter()
            .map(|op| ResponseOp {
                response: Some(finish(op)),
            })
            .collect();
        TxnResponse {
            header: Some(self.header),
            succeeded: self.succeeded,
            responses,
        }
    }

    fn collect_missing(&self, into: &mut Vec<Revision>) {
        for op in &self.ops {
            match op {
                OpPlan::Done(_) => {}
                OpPlan::Range(plan) => into.extend(plan.missing()),
                OpPlan::Txn(plan) => plan.collect_missing(into),
            }
        }
    }
}

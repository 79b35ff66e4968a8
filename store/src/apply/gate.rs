//! What raised alarms forbid, judged when an entry is applied, so that it is the same on every member. The quota
//! itself is a local matter and judged before proposing.

use proto::etcdserverpb::{AlarmType, InternalRaftRequest};

use super::check::cost_of_txn;
use crate::alarm::Alarms;
use crate::error::RequestError;

/// Refuses what the alarms forbid; CORRUPT comes first.
pub(super) fn check(alarms: &Alarms, request: &InternalRaftRequest) -> Result<(), RequestError> {
    if alarms.has(AlarmType::Corrupt) && changes_data(request) {
        return Err(RequestError::Corrupt);
    }
    if alarms.has(AlarmType::Nospace) && takes_space(request) {
        return Err(RequestError::NoSpace);
    }
    Ok(())
}

fn changes_data(request: &InternalRaftRequest) -> bool {
    request.put.is_some()
        || request.delete_range.is_some()
        || request.txn.is_some()
        || request.compaction.is_some()
        || request.lease_grant.is_some()
        || request.lease_revoke.is_some()
}

/// A transaction takes space when either branch, taken or not, holds a put.
fn takes_space(request: &InternalRaftRequest) -> bool {
    request.put.is_some()
        || request.lease_grant.is_some()
        || request.txn.as_ref().is_some_and(|txn| cost_of_txn(txn) > 0)
}

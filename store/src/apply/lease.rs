//! Grants, revokes and checkpoints of leases.

use proto::etcdserverpb::{
    LeaseCheckpointRequest, LeaseGrantRequest, LeaseGrantResponse, LeaseRevokeRequest, LeaseRevokeResponse,
};

use super::{LeaseEvent, Outcome, Response, State};
use crate::error::RequestError;
use crate::types::{KeyRange, LeaseId, Term};

impl State {
    pub(super) fn lease_grant(&mut self, request: LeaseGrantRequest) -> Result<Outcome, RequestError> {
        let (id, ttl_s) = (LeaseId(request.id), request.ttl);
        self.lessor.grant(id, ttl_s)?;
        let header = self.header();
        let response = LeaseGrantResponse {
            header,
            id: id.0,
            ttl: ttl_s,
            error: String::new(),
        };
        Ok(Outcome {
            leases: vec![LeaseEvent::Granted { id, ttl_s }],
            ..Outcome::of(Response::LeaseGrant(response))
        })
    }

    /// Ends a lease; its keys are deleted in one revision, in key order. `revoke_term` is set for a revoke that a
    /// leader's lessor proposed: one of another term than the entry's own comes from a leader that had slept, while
    /// another one may have renewed the lease, and is void.
    pub(super) fn lease_revoke(
        &mut self,
        request: LeaseRevokeRequest,
        revoke_term: Term,
    ) -> Result<Outcome, RequestError> {
        let id = LeaseId(request.id);
        if revoke_term != Term(0) && revoke_term != self.term() {
            return Err(RequestError::LeaseNotFound { id });
        }
        let keys = self.lessor.revoke(id)?;
        let mut txn = self.mvcc.begin();
        for key in keys {
            txn.delete_range(&KeyRange::single(key));
        }
        let mut outcome = Outcome::written(Response::None, txn);
        outcome.response = Response::LeaseRevoke(LeaseRevokeResponse {
            header: self.header(),
        });
        outcome.leases.push(LeaseEvent::Revoked { id });
        Ok(outcome)
    }

    pub(super) fn lease_checkpoint(&mut self, request: &LeaseCheckpointRequest) -> Outcome {
        for checkpoint in &request.checkpoints {
            self.lessor
                .checkpoint(LeaseId(checkpoint.id), checkpoint.remaining_ttl);
        }
        Outcome::nothing()
    }
}

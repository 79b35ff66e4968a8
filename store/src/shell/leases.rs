//! The handle's lease calls.

use std::sync::atomic::Ordering;

use proto::etcdserverpb::{
    InternalRaftRequest, LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveResponse, LeaseLeasesResponse,
    LeaseRevokeRequest, LeaseRevokeResponse, LeaseStatus, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
};

use super::auth::Judged;
use super::command::{Command, LeaseQuestion};
use super::handle::{Store, unexpected};
use crate::apply::{Request, Response, cost_of_grant};
use crate::error::Error;
use crate::types::LeaseId;

impl Store {
    /// Grants a lease. Id 0 lets the store choose a positive one; a TTL below the minimum is raised to it.
    ///
    /// # Errors
    /// `LeaseExists`, `LeaseTtlTooLarge`, `NoSpace`.
    pub async fn lease_grant(&self, mut request: LeaseGrantRequest) -> Result<LeaseGrantResponse, Error> {
        self.check_space(cost_of_grant()).await?;
        self.permit(Request::LeaseGrant)?;
        // A TTL that is too large is refused where it is applied, behind the alarms, which come first.
        request.ttl = request.ttl.max(self.shared.settings.lease_ttl_min_s());
        while request.id == 0 {
            request.id = self.lease_id();
        }
        let request = InternalRaftRequest {
            lease_grant: Some(request),
            ..Default::default()
        };
        match self.propose(request).await? {
            Response::LeaseGrant(mut response) => {
                self.shared.complete(&mut response.header);
                Ok(response)
            }
            other => unexpected(&other),
        }
    }

    /// Ends a lease and deletes its keys, in one revision.
    ///
    /// # Errors
    /// `LeaseNotFound`.
    pub async fn lease_revoke(&self, request: LeaseRevokeRequest) -> Result<LeaseRevokeResponse, Error> {
        self.permit(Request::Authenticated)?;
        let request = InternalRaftRequest {
            lease_revoke: Some(request),
            ..Default::default()
        };
        match self.propose(request).await? {
            Response::LeaseRevoke(mut response) => {
                self.shared.complete(&mut response.header);
                Ok(response)
            }
            other => unexpected(&other),
        }
    }

    /// Renews a lease for its full TTL. An unknown or expired lease is answered with TTL 0.
    ///
    /// # Errors
    /// `NoLeader`, `Timeout`.
    pub async fn lease_keep_alive(&self, id: i64) -> Result<LeaseKeepAliveResponse, Error> {
        self.permit(Request::LeaseKeepAlive(LeaseId(id)))?;
        // The header tells of the state before the renewal, as etcd's does.
        let header = self
            .shared
            .header(self.shared.published.revision.load(Ordering::Relaxed));
        let ttl = self
            .ask(|answer| Command::Lease {
                question: LeaseQuestion::Renew,
                lease: LeaseId(id),
                answer,
            })
            .await?;
        Ok(LeaseKeepAliveResponse {
            header: Some(header),
            id,
            ttl,
        })
    }

    /// The remaining life of a lease in whole seconds, rounded down, and its keys if asked for. An unknown lease is
    /// answered with TTL -1.
    ///
    /// # Errors
    /// `NoLeader`.
    pub async fn lease_time_to_live(
        &self,
        request: LeaseTimeToLiveRequest,
    ) -> Result<LeaseTimeToLiveResponse, Error> {
        let (lease, keys) = (LeaseId(request.id), request.keys);
        let asked = Request::LeaseTimeToLive { lease, keys };
        self.permit(asked)?;
        let question = LeaseQuestion::TimeToLive;
        let ttl = self
            .ask(|answer| Command::Lease {
                question,
                lease,
                answer,
            })
            .await?;
        let state = self.shared.state.read();
        // Keys may have come to it meanwhile.
        Judged::of(&state, &self.caller, asked)?;
        let header = Some(self.shared.header(state.mvcc.current()));
        let Some(found) = state.lessor.lookup(lease).filter(|_| ttl >= 0) else {
            return Ok(LeaseTimeToLiveResponse {
                header,
                id: request.id,
                ttl: -1,
                ..Default::default()
            });
        };
        let keys = if request.keys {
            found.keys.iter().cloned().collect()
        } else {
            Vec::new()
        };
        Ok(LeaseTimeToLiveResponse {
            header,
            id: request.id,
            ttl,
            granted_ttl: found.ttl_s,
            keys,
        })
    }

    /// All leases, by remaining life. Not linearizable.
    ///
    /// # Errors
    /// `Stopped`.
    pub async fn lease_leases(&self) -> Result<LeaseLeasesResponse, Error> {
        let leases = self.ask(Command::Leases).await?;
        self.permit(Request::LeaseLeases)?;
        let header = Some(
            self.shared
                .header(self.shared.published.revision.load(Ordering::Relaxed)),
        );
        Ok(LeaseLeasesResponse {
            header,
            leases: leases.iter().map(|id| LeaseStatus { id: id.0 }).collect(),
        })
    }

    /// A positive id that no other member, and no other life of this one, is likely to choose: the member's low bits
    /// above a counter, which starts at the milliseconds of this life's beginning times 256. Only a counter makes a
    /// burst of grants safe, however many come in one millisecond.
    pub(super) fn lease_id(&self) -> i64 {
        let counter = self.shared.lease_ids.fetch_add(1, Ordering::Relaxed) & 0xffff_ffff_ffff;
        let member = self.shared.member.0 & 0x7fff;
        i64::try_from((member << 48) | counter).expect("the top bit is clear")
    }
}

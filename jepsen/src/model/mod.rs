//! etcd as a small deterministic state machine: the oracle of the property tests, the simulator and the live tests.
//!
//! Owns the meaning of requests and nothing else: it keeps every version of every key in a list and answers by
//! looking through it. It has no clock (a lease ends when it is told so), no members and no performance, and it must never
//! share code with the engine it judges. It is a value: clone it to try something, compare it to find out whether
//! two ways lead to one state.
//!
//! Answers are the wire's own messages. Headers carry the revision only; cluster, member and term are 0.
//!
//! Not modelled: auth, quota and alarms, request sizes, the pace of compaction, remaining TTLs.

mod error;
mod kv;
mod state;
mod txn;
mod validate;

#[cfg(test)]
mod tests;

use bytes::Bytes;
use proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, LeaseGrantRequest,
    LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseLeasesRequest,
    LeaseLeasesResponse, LeaseRevokeRequest, LeaseRevokeResponse, LeaseStatus, LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse, PutRequest, PutResponse, RangeRequest, RangeResponse, ResponseHeader,
    TxnRequest, TxnResponse, WatchCreateRequest,
};
use proto::mvccpb::{Event, KeyValue};

pub use error::Error;
pub(crate) use kv::compare_by;
pub use state::in_range;
use state::{State, Writer};
pub use txn::{is_serializable, is_write};

/// What a client can ask.
#[derive(Clone, PartialEq, Debug)]
pub enum Request {
    /// `KV.Range`
    Range(RangeRequest),
    /// `KV.Put`
    Put(PutRequest),
    /// `KV.DeleteRange`
    DeleteRange(DeleteRangeRequest),
    /// `KV.Txn`
    Txn(TxnRequest),
    /// `KV.Compact`
    Compact(CompactionRequest),
    /// `Lease.LeaseGrant`
    LeaseGrant(LeaseGrantRequest),
    /// `Lease.LeaseRevoke`
    LeaseRevoke(LeaseRevokeRequest),
    /// One round of `Lease.LeaseKeepAlive`
    LeaseKeepAlive(LeaseKeepAliveRequest),
    /// `Lease.LeaseTimeToLive`
    LeaseTimeToLive(LeaseTimeToLiveRequest),
    /// `Lease.LeaseLeases`
    LeaseLeases(LeaseLeasesRequest),
}

/// What comes back, in the same order.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs, reason = "each variant answers the request of the same name")]
pub enum Response {
    Range(RangeResponse),
    Put(PutResponse),
    DeleteRange(DeleteRangeResponse),
    Txn(TxnResponse),
    Compact(CompactionResponse),
    LeaseGrant(LeaseGrantResponse),
    LeaseRevoke(LeaseRevokeResponse),
    LeaseKeepAlive(LeaseKeepAliveResponse),
    LeaseTimeToLive(LeaseTimeToLiveResponse),
    LeaseLeases(LeaseLeasesResponse),
}

/// A response, or the state machine's refusal.
pub type Answer = Result<Response, Error>;

/// What a request did.
#[derive(Clone, PartialEq, Debug)]
pub struct Applied {
    /// The answer to the client.
    pub response: Response,
    /// The changes of the new revision, in order, each with its `prev_kv`; none where no revision was taken.
    pub events: Vec<Event>,
}

/// Settings that decide answers.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Limits {
    /// The longest list of a transaction (`--max-txn-ops`).
    pub txn_ops_max: usize,
    /// The shortest lease, in seconds.
    pub lease_ttl_min: i64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            txn_ops_max: 128,
            lease_ttl_min: 2,
        }
    }
}

/// The longest lease, in seconds.
pub const LEASE_TTL_MAX: i64 = 9_000_000_000;

/// The state machine.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Model {
    limits: Limits,
    state: State,
}

impl Default for Model {
    fn default() -> Self {
        Model::new(Limits::default())
    }
}

impl Model {
    /// A fresh store: revision 1, nothing compacted.
    #[must_use]
    pub const fn new(limits: Limits) -> Self {
        Model {
            limits,
            state: State::new(),
        }
    }

    /// The newest revision.
    #[must_use]
    pub const fn revision(&self) -> i64 {
        self.state.revision
    }

    /// The compacted revision, −1 before any compaction.
    #[must_use]
    pub const fn compacted(&self) -> i64 {
        self.state.compacted
    }

    /// Applies a request of any kind.
    pub fn apply(&mut self, request: &Request) -> Result<Applied, Error> {
        let silent = |response| Applied {
            response,
            events: Vec::new(),
        };
        match request {
            Request::Range(request) => self.range(request).map(|r| silent(Response::Range(r))),
            Request::Put(request) => self.put(request).map(|(r, events)| Applied {
                response: Response::Put(r),
                events,
            }),
            Request::DeleteRange(request) => self.delete_range(request).map(|(r, events)| Applied {
                response: Response::DeleteRange(r),
                events,
            }),
            Request::Txn(request) => self.txn(request).map(|(r, events)| Applied {
                response: Response::Txn(r),
                events,
            }),
            Request::Compact(request) => self.compact(request).map(|r| silent(Response::Compact(r))),
            Request::LeaseGrant(request) => {
                self.lease_grant(request).map(|r| silent(Response::LeaseGrant(r)))
            }
            Request::LeaseRevoke(request) => self.lease_revoke(request).map(|(r, events)| Applied {
                response: Response::LeaseRevoke(r),
                events,
            }),
            Request::LeaseKeepAlive(request) => {
                Ok(silent(Response::LeaseKeepAlive(self.lease_keep_alive(*request))))
            }
            Request::LeaseTimeToLive(request) => Ok(silent(Response::LeaseTimeToLive(
                self.lease_time_to_live(*request),
            ))),
            Request::LeaseLeases(_) => Ok(silent(Response::LeaseLeases(self.lease_leases()))),
        }
    }

    /// What [`Model::apply`] would do, without doing it.
    pub fn preview(&mut self, request: &Request) -> Result<Applied, Error> {
        match request {
            Request::Compact(_) | Request::LeaseGrant(_) | Request::LeaseRevoke(_) => {
                self.clone().apply(request)
            }
            // Undoing a few versions is much cheaper than copying all of them, and the checkers preview a lot.
            _ => {
                let applied = self.apply(request)?;
                self.state.undo(&applied.events);
                Ok(applied)
            }
        }
    }

    /// The refusal of a request that no state would accept, where there is one.
    pub fn check_shape(&self, request: &Request) -> Result<(), Error> {
        match request {
            Request::Range(request) => validate::range(request),
            Request::Put(request) => validate::put(request),
            Request::DeleteRange(request) => validate::delete_range(request),
            Request::Txn(request) => validate::txn(request, self.limits.txn_ops_max),
            Request::LeaseGrant(request) if request.ttl > LEASE_TTL_MAX => Err(Error::LeaseTtlTooLarge),
            _ => Ok(()),
        }
    }

    /// Reads a range.
    pub fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Error> {
        validate::range(request)?;
        kv::check_revision(&self.state, request.revision)?;
        let current = self.state.revision;
        let at = if request.revision > 0 {
            request.revision
        } else {
            current
        };
        Ok(kv::range_at(&self.state, request, at, current))
    }

    /// Puts a key.
    pub fn put(&mut self, request: &PutRequest) -> Result<(PutResponse, Vec<Event>), Error> {
        validate::put(request)?;
        kv::check_put(&self.state, request)?;
        let mut writer = Writer::new(&mut self.state);
        let response = kv::put(&mut writer, request);
        Ok((response, writer.finish()))
    }

    /// Deletes a range.
    pub fn delete_range(
        &mut self,
        request: &DeleteRangeRequest,
    ) -> Result<(DeleteRangeResponse, Vec<Event>), Error> {
        validate::delete_range(request)?;
        let mut writer = Writer::new(&mut self.state);
        let response = kv::delete_range(&mut writer, request);
        Ok((response, writer.finish()))
    }

    /// Runs a transaction.
    pub fn txn(&mut self, request: &TxnRequest) -> Result<(TxnResponse, Vec<Event>), Error> {
        validate::txn(request, self.limits.txn_ops_max)?;
        txn::run(&mut self.state, request)
    }

    /// Compacts history, at once and whole.
    pub fn compact(&mut self, request: &CompactionRequest) -> Result<CompactionResponse, Error> {
        if request.revision <= self.state.compacted {
            return Err(Error::Compacted);
        }
        if request.revision > self.state.revision {
            return Err(Error::FutureRev);
        }
        self.state.compact(request.revision);
        Ok(CompactionResponse {
            header: Some(header(self.state.revision)),
        })
    }

    /// Grants a lease. Id 0 takes the lowest free positive id (a server would draw one).
    pub fn lease_grant(&mut self, request: &LeaseGrantRequest) -> Result<LeaseGrantResponse, Error> {
        if request.ttl > LEASE_TTL_MAX {
            return Err(Error::LeaseTtlTooLarge);
        }
        let leases = &mut self.state.leases;
        let id = if request.id == 0 {
            (1..)
                .find(|id| !leases.contains_key(id))
                .expect("fewer than 2^63 leases")
        } else {
            request.id
        };
        if leases.contains_key(&id) {
            return Err(Error::LeaseExist);
        }
        let ttl = request.ttl.max(self.limits.lease_ttl_min);
        leases.insert(id, ttl);
        let header = Some(header(self.state.revision));
        Ok(LeaseGrantResponse {
            header,
            id,
            ttl,
            ..LeaseGrantResponse::default()
        })
    }

    /// Revokes a lease: its keys go, in key order, in one revision.
    pub fn lease_revoke(
        &mut self,
        request: &LeaseRevokeRequest,
    ) -> Result<(LeaseRevokeResponse, Vec<Event>), Error> {
        let events = self.lease_expire(request.id)?;
        Ok((
            LeaseRevokeResponse {
                header: Some(header(self.state.revision)),
            },
            events,
        ))
    }

    /// Ends a lease because its time is over: to the state the same as a revoke.
    pub fn lease_expire(&mut self, id: i64) -> Result<Vec<Event>, Error> {
        self.state.leases.remove(&id).ok_or(Error::LeaseNotFound)?;
        Ok(self.delete_keys_of_lease(id))
    }

    /// Renews a lease. Without a clock the state stays as it is; the answer tells whether the lease is there.
    #[must_use]
    pub fn lease_keep_alive(&self, request: LeaseKeepAliveRequest) -> LeaseKeepAliveResponse {
        let ttl = self.state.leases.get(&request.id).copied().unwrap_or(0);
        LeaseKeepAliveResponse {
            header: Some(header(self.state.revision)),
            id: request.id,
            ttl,
        }
    }

    /// Describes a lease; without a clock the remaining TTL is the granted one.
    #[must_use]
    pub fn lease_time_to_live(&self, request: LeaseTimeToLiveRequest) -> LeaseTimeToLiveResponse {
        let granted = self.state.leases.get(&request.id).copied();
        let keys = if request.keys && granted.is_some() {
            self.lease_keys(request.id)
        } else {
            Vec::new()
        };
        LeaseTimeToLiveResponse {
            header: Some(header(self.state.revision)),
            id: request.id,
            ttl: granted.unwrap_or(-1),
            granted_ttl: granted.unwrap_or(0),
            keys,
        }
    }

    /// Lists the leases, by id (a server orders them by remaining life).
    #[must_use]
    pub fn lease_leases(&self) -> LeaseLeasesResponse {
        let leases = self
            .state
            .leases
            .keys()
            .map(|id| LeaseStatus { id: *id })
            .collect();
        LeaseLeasesResponse {
            header: Some(header(self.state.revision)),
            leases,
        }
    }

    /// The ids of all leases.
    pub fn leases(&self) -> impl Iterator<Item = i64> {
        self.state.leases.keys().copied()
    }

    /// The keys attached to a lease, in key order.
    #[must_use]
    pub fn lease_keys(&self, id: i64) -> Vec<Bytes> {
        self.state.keys_of_lease(id)
    }

    /// All live keys at a revision, in key order.
    #[must_use]
    pub fn live(&self, at: i64) -> Vec<KeyValue> {
        self.state.scan(&[0], &[0], at)
    }

    /// Every event that a watch is owed, in order: those of its range and kinds, from its start revision on (where
    /// that is 0: all that are kept), with `prev_kv` where it asked for it and history still has it.
    #[must_use]
    pub fn events(&self, watch: &WatchCreateRequest) -> Vec<Event> {
        let key: &[u8] = if watch.key.is_empty() { &[0] } else { &watch.key };
        let mut events = self.state.events(key, &watch.range_end, watch.start_revision);
        events.retain(|event| wants(watch, event));
        if !watch.prev_kv {
            for event in &mut events {
                event.prev_kv = None;
            }
        }
        events
    }

    /// Deletes the keys of a lease in one revision and leaves the lease.
    pub(crate) fn delete_keys_of_lease(&mut self, id: i64) -> Vec<Event> {
        let keys = self.state.keys_of_lease(id);
        let mut writer = Writer::new(&mut self.state);
        for key in &keys {
            writer.delete(key);
        }
        writer.finish()
    }

    /// The lease that a live key is attached to, else 0.
    pub(crate) fn lease_of(&self, key: &[u8]) -> i64 {
        self.state.get(key, self.state.revision).map_or(0, |kv| kv.lease)
    }

    /// Takes the events of the newest revision back.
    pub(crate) fn undo(&mut self, events: &[Event]) {
        self.state.undo(events);
    }

    /// Makes the changes of a revision that is known by its events only.
    pub(crate) fn replay(&mut self, events: &[Event]) -> Vec<Event> {
        let mut writer = Writer::new(&mut self.state);
        for event in events {
            if let Some(kv) = &event.kv {
                if event.r#type == i32::from(proto::mvccpb::event::EventType::Put) {
                    writer.put(&kv.key, kv.value.clone(), kv.lease);
                } else {
                    writer.delete(&kv.key);
                }
            }
        }
        writer.finish()
    }
}

/// Whether a watch asked for this kind of event in this place.
#[must_use]
pub fn wants(watch: &WatchCreateRequest, event: &Event) -> bool {
    // Filter NOPUT is 0 and NODELETE is 1, as the event types PUT and DELETE are: a filter names what it drops.
    let key: &[u8] = if watch.key.is_empty() { &[0] } else { &watch.key };
    let inside = event
        .kv
        .as_ref()
        .is_some_and(|kv| in_range(key, &watch.range_end, &kv.key));
    inside && !watch.filters.contains(&event.r#type)
}

const fn header(revision: i64) -> ResponseHeader {
    ResponseHeader {
        cluster_id: 0,
        member_id: 0,
        revision,
        raft_term: 0,
    }
}

//! What clients do: seeded sequences of requests, and what the clients have learnt that makes them meaningful.

mod etcd;

use proto::etcdserverpb::ResponseHeader;

pub use etcd::{EtcdTraffic, Mix};

use crate::model::{Answer, Error, Request, Response};

/// What the clients of a run know of the store, from answers only.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Known {
    /// The newest revision seen.
    pub revision: i64,
    /// The newest compaction seen.
    pub compacted: i64,
    /// Leases granted and, as far as known, alive.
    pub leases: Vec<i64>,
}

impl Known {
    /// Takes an answer in.
    pub fn learn(&mut self, request: &Request, answer: &Answer) {
        match (request, answer) {
            (Request::Compact(request), Ok(_)) => self.compacted = self.compacted.max(request.revision),
            (Request::LeaseRevoke(request), Ok(_) | Err(Error::LeaseNotFound)) => self.forget(request.id),
            (Request::Put(request), Err(Error::LeaseNotFound)) => self.forget(request.lease),
            (_, Ok(Response::LeaseGrant(granted))) => self.leases.push(granted.id),
            _ => {}
        }
        if let Ok(response) = answer
            && let Some(header) = header_of(response)
        {
            self.revision = self.revision.max(header.revision);
        }
    }

    fn forget(&mut self, lease: i64) {
        self.leases.retain(|known| *known != lease);
    }
}

const fn header_of(response: &Response) -> Option<&ResponseHeader> {
    match response {
        Response::Range(r) => r.header.as_ref(),
        Response::Put(r) => r.header.as_ref(),
        Response::DeleteRange(r) => r.header.as_ref(),
        Response::Txn(r) => r.header.as_ref(),
        Response::Compact(r) => r.header.as_ref(),
        Response::LeaseGrant(r) => r.header.as_ref(),
        Response::LeaseRevoke(r) => r.header.as_ref(),
        Response::LeaseKeepAlive(r) => r.header.as_ref(),
        Response::LeaseTimeToLive(r) => r.header.as_ref(),
        Response::LeaseLeases(r) => r.header.as_ref(),
    }
}

//! Who did what: the audit log and the top talkers. Both are off unless they are asked for, and then see every call of
//! a client, by gRPC or by the gateway, where all calls pass.
//!
//! | file | what |
//! | --- | --- |
//! | `entry` | one call from its begin to its end |
//! | `about` | what a message is about: keys, leases, users, roles, members |
//! | `revision` | the revision in an answer |
//! | `log` | the log: a bounded queue, a thread, a file that is opened again when it was moved away |
//! | `talkers` | who calls most, and for what keys: a sketch of bounded size |
//!
//! No call waits for the log: what its queue has no room for is dropped and counted, in the metrics and in the log
//! itself. Changes of users and roles, of members and of maintenance find room for longest. Values, passwords and tokens
//! never come here: `about` takes names and keys out of a message, and nothing else is kept of it.

use std::io;
use std::sync::Arc;

use crate::config::{AuditScope, AuditSettings};
use crate::grpc::rpc::Rpc;

mod about;
mod entry;
mod log;
mod revision;
mod talkers;

pub(crate) use self::entry::{Entry, Who};
use self::log::Log;
use self::talkers::Talkers;

/// What watches the calls of a member.
pub(crate) struct Audit {
    log: Option<Log>,
    scope: AuditScope,
    talkers: Option<Talkers>,
}

impl Audit {
    /// What the settings ask for; nothing where they ask for nothing.
    pub(crate) fn start(settings: &AuditSettings) -> io::Result<Option<Arc<Audit>>> {
        let log = settings.output.as_ref().map(Log::start).transpose()?;
        let talkers = settings.talkers.then(Talkers::default);
        if log.is_none() && talkers.is_none() {
            return Ok(None);
        }
        Ok(Some(Arc::new(Audit {
            log,
            scope: settings.scope,
            talkers,
        })))
    }

    /// A call of `who` has begun.
    pub(crate) fn begin(self: &Arc<Self>, rpc: Rpc, who: Who) -> Entry {
        Entry::begin(self.clone(), rpc, who)
    }

    /// Everything is written that is waiting; nothing is from then on.
    pub(crate) fn finish(&self) {
        if let Some(log) = &self.log {
            log.finish();
        }
    }

    /// Lines written, and calls that are missing in the log.
    pub(crate) fn log_counts(&self) -> Option<(u64, u64)> {
        self.log.as_ref().map(Log::counts)
    }

    /// The page about talkers.
    pub(crate) fn talkers_page(&self) -> Option<String> {
        self.talkers.as_ref().map(Talkers::page)
    }

    /// The log in which calls of `rpc` belong.
    fn log_of(&self, rpc: Rpc) -> Option<&Log> {
        let wanted = match self.scope {
            AuditScope::All => true,
            AuditScope::Writes => rank(rpc) != Rank::Read,
            AuditScope::Admin => rank(rpc) == Rank::Admin,
        };
        self.log.as_ref().filter(|_| wanted)
    }
}

/// How much a call matters to an auditor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Rank {
    Read,
    Write,
    /// It changes who may do what, or what the cluster is.
    Admin,
}

fn rank(rpc: Rpc) -> Rank {
    match rpc {
        Rpc::Range
        | Rpc::RangeStream
        | Rpc::Watch
        | Rpc::LeaseTimeToLive
        | Rpc::LeaseLeases
        | Rpc::MemberList
        | Rpc::Status
        | Rpc::Hash
        | Rpc::HashKv
        | Rpc::Leader
        | Rpc::Observe
        | Rpc::AuthStatus
        | Rpc::HealthCheck
        | Rpc::HealthList
        | Rpc::HealthWatch => Rank::Read,
        Rpc::Put
        | Rpc::DeleteRange
        | Rpc::Txn
        | Rpc::Compact
        | Rpc::LeaseGrant
        | Rpc::LeaseRevoke
        | Rpc::LeaseKeepAlive
        | Rpc::Campaign
        | Rpc::Proclaim
        | Rpc::Resign
        | Rpc::Lock
        | Rpc::Unlock => Rank::Write,
        // Snapshot among them: the whole state in one answer is no read like others.
        _ => Rank::Admin,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_concerns_auth_is_in_every_scope() {
        for &rpc in Rpc::ALL {
            let (service, method, _) = rpc.names();
            if service == "etcdserverpb.Auth" && method != "AuthStatus" {
                assert_eq!(rank(rpc), Rank::Admin, "{method}");
            }
        }
    }
}

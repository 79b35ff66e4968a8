//! Leases: deadlines, renewals and the revokes of what has expired are the leader's; a question that comes to another
//! member is passed on to it, again and again until the caller's deadline, since asking twice does no harm.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use proto::etcdserverpb::{InternalRaftRequest, LeaseRevokeRequest};

use super::Member;
use super::reading::{Goal, Reader};
use crate::apply::LeaseEvent;
use crate::env::{Class, Instant};
use crate::error::Unavailable;
use crate::lease::Renewal;
use crate::shell::command::{Answer, LeaseQuestion};
use crate::shell::envelope::{Body, LeaseAsk, LeaseReply};
use crate::types::{Index, LeaseId, MemberId, Term};

/// A question about a lease under way.
pub(super) struct LeaseCall {
    since: Instant,
    lease: LeaseId,
    question: LeaseQuestion,
    caller: Caller,
}

/// Who asks.
enum Caller {
    /// A client of this member.
    Here(Answer<i64>),
    /// Another member, which knows the question by a number.
    Member(MemberId, u64),
}

/// The questions that wait for the leader.
pub(super) struct Questions {
    /// No leader is known.
    leaderless: Vec<LeaseCall>,
    /// By number: asked, and when.
    asked: BTreeMap<u64, Asked>,
    next: u64,
}

struct Asked {
    of: MemberId,
    at: Instant,
    call: LeaseCall,
}

impl LeaseCall {
    pub(super) fn of_client(
        question: LeaseQuestion,
        lease: LeaseId,
        now: Instant,
        answer: Answer<i64>,
    ) -> Self {
        LeaseCall {
            since: now,
            lease,
            question,
            caller: Caller::Here(answer),
        }
    }

    /// Ends it with an error. Another member has its own deadline, and asks again until then.
    pub(super) fn fail(self, error: Unavailable) {
        if let Caller::Here(answer) = self.caller {
            let _ = answer.send(Err(error.into()));
        }
    }
}

impl Questions {
    /// None yet. Their numbers begin with one drawn at random for this process: the answer to a question of the process
    /// before it must not be taken for the answer to one of this.
    pub(super) const fn new(first: u64) -> Self {
        Questions {
            leaderless: Vec::new(),
            asked: BTreeMap::new(),
            next: first,
        }
    }

    fn len(&self) -> usize {
        self.leaderless.len() + self.asked.len()
    }
}

impl Member {
    /// Takes a question to where it can be answered: here after a read index, if this member leads, else at the leader.
    pub(super) fn lease_call(&mut self, call: LeaseCall, now: Instant) {
        let role = self.node.role();
        if role.is_leader {
            self.reads.join(Reader {
                since: call.since,
                goal: Goal::Lease(call),
            });
            return;
        }
        if let Caller::Member(from, id) = call.caller {
            let reply = LeaseReply {
                id,
                not_leader: true,
                ..LeaseReply::default()
            };
            return self.send(from, Class::Control, Body::LeaseReply(reply));
        }
        if self.questions.len() >= self.shared.settings.limits.lease_questions {
            return call.fail(Unavailable::TooManyRequests);
        }
        if role.leader.0 == 0 {
            return self.questions.leaderless.push(call);
        }
        self.questions.next = self.questions.next.wrapping_add(1);
        let id = self.questions.next;
        let ask = LeaseAsk {
            id,
            lease: call.lease.0,
            renew: call.question == LeaseQuestion::Renew,
        };
        self.send(role.leader, Class::Control, Body::LeaseAsk(ask));
        let asked = Asked {
            of: role.leader,
            at: now,
            call,
        };
        self.questions.asked.insert(id, asked);
    }

    /// Another member asks.
    pub(super) fn lease_asked(&mut self, from: MemberId, ask: LeaseAsk, now: Instant) {
        let question = if ask.renew {
            LeaseQuestion::Renew
        } else {
            LeaseQuestion::TimeToLive
        };
        let call = LeaseCall {
            since: now,
            lease: LeaseId(ask.lease),
            question,
            caller: Caller::Member(from, ask.id),
        };
        self.lease_call(call, now);
    }

    /// Another member answers.
    pub(super) fn lease_answered(&mut self, from: MemberId, reply: LeaseReply) {
        let is_answer = |asked: &Asked| asked.of == from;
        if !self.questions.asked.get(&reply.id).is_some_and(is_answer) {
            return;
        }
        let Some(Asked { call, .. }) = self.questions.asked.remove(&reply.id) else {
            return;
        };
        if reply.not_leader {
            return self.questions.leaderless.push(call);
        }
        let Caller::Here(answer) = call.caller else { return };
        let index = match call.question {
            LeaseQuestion::Renew => Index(0),
            // The keys, and whether there is such a lease, are looked up here.
            LeaseQuestion::TimeToLive => Index(reply.applied),
        };
        self.tell_at(index, call.since, answer, reply.ttl_s);
    }

    /// A read index round that began after the question came is confirmed: whoever leads now led then.
    pub(super) fn lease_confirmed(&mut self, call: LeaseCall, now: Instant) {
        if !self.leads_applied {
            return self.lease_call(call, now);
        }
        match call.question {
            LeaseQuestion::TimeToLive => {
                let remaining = self.expiry.remaining(call.lease, now);
                let ttl_s = remaining.map_or(-1, |left| i64::try_from(left.as_secs()).unwrap_or(i64::MAX));
                self.tell(call, ttl_s);
            }
            LeaseQuestion::Renew => match self.expiry.renew(call.lease, now) {
                Renewal::Renewed { ttl_s } => {
                    self.shared
                        .published
                        .leases_renewed
                        .fetch_add(1, Ordering::Relaxed);
                    self.tell(call, ttl_s);
                }
                // Not yet revoked: the revoke is under way and decides (etcd reference 1.3).
                Renewal::Expired => self.expired_renewals.push(call),
                Renewal::Unknown => self.tell(call, 0),
            },
        }
    }

    /// A new leader is known: everything that waits for one is asked again.
    pub(super) fn ask_again(&mut self, now: Instant) {
        let asked = std::mem::take(&mut self.questions.asked).into_values();
        let waiting: Vec<_> = std::mem::take(&mut self.questions.leaderless)
            .into_iter()
            .chain(asked.map(|asked| asked.call))
            .collect();
        for call in waiting {
            self.lease_call(call, now);
        }
    }

    /// Asks again what was not answered for a while, and what a member refused that led no longer.
    pub(super) fn retry_lease_calls(&mut self, now: Instant) {
        if self.node.role().leader.0 == 0 {
            return;
        }
        let silent = self
            .questions
            .asked
            .extract_if(.., |_, asked| asked.at + ASK_AGAIN_AFTER <= now)
            .map(|(_, asked)| asked.call);
        let again: Vec<_> = silent.chain(self.questions.leaderless.drain(..)).collect();
        for call in again {
            self.lease_call(call, now);
        }
    }

    /// Ends the questions that came before `deadline`.
    pub(super) fn expire_lease_calls(&mut self, deadline: Instant) {
        let overdue = |call: &mut LeaseCall| call.since < deadline;
        for call in self.questions.leaderless.extract_if(.., overdue) {
            call.fail(Unavailable::NoLeader);
        }
        for call in self.expired_renewals.extract_if(.., overdue) {
            call.fail(Unavailable::Timeout);
        }
        let asked = &mut self.questions.asked;
        for (_, asked) in asked.extract_if(.., |_, asked| asked.call.since < deadline) {
            asked.call.fail(Unavailable::Timeout);
        }
    }

    pub(super) fn fail_lease_calls(&mut self, error: Unavailable) {
        let waiting = std::mem::take(&mut self.questions.leaderless).into_iter();
        let asked = std::mem::take(&mut self.questions.asked).into_values();
        let asked = asked.map(|asked| asked.call);
        for call in waiting.chain(asked).chain(self.expired_renewals.drain(..)) {
            call.fail(error);
        }
    }

    fn tell(&mut self, call: LeaseCall, ttl_s: i64) {
        match call.caller {
            Caller::Here(answer) => drop(answer.send(Ok(ttl_s))),
            Caller::Member(from, id) => {
                let reply = LeaseReply {
                    id,
                    not_leader: false,
                    ttl_s,
                    applied: self.applied.0,
                };
                self.send(from, Class::Control, Body::LeaseReply(reply));
            }
        }
    }

    pub(super) fn lease_changed(&mut self, event: &LeaseEvent, now: Instant) {
        let (LeaseEvent::Granted { id, .. } | LeaseEvent::Revoked { id }) = *event;
        self.changed_leases.push(id);
        match *event {
            LeaseEvent::Granted { id, ttl_s } => {
                self.shared
                    .published
                    .leases_granted
                    .fetch_add(1, Ordering::Relaxed);
                let ttls = &self.shared.published.lease_ttls.0;
                ttls.observe_count(u64::try_from(ttl_s).unwrap_or(0));
                self.expiry.granted(id, ttl_s, now);
            }
            LeaseEvent::Revoked { id } => {
                self.shared
                    .published
                    .leases_revoked
                    .fetch_add(1, Ordering::Relaxed);
                self.expiry.revoked(id);
                let of_lease = |call: &mut LeaseCall| call.lease == id;
                let answered: Vec<_> = self.expired_renewals.extract_if(.., of_lease).collect();
                for call in answered {
                    self.tell(call, 0);
                }
            }
        }
    }

    pub(super) fn expire_leases(&mut self, now: Instant) {
        if !self.leads_applied {
            return;
        }
        let term = self.node.role().term;
        #[cfg(any(test, feature = "sim"))]
        let term = if self.revokes_without_term { Term(0) } else { term };
        for id in self.expiry.due(now, LEASES_PER_SCAN) {
            self.shared
                .published
                .leases_expired
                .fetch_add(1, Ordering::Relaxed);
            self.propose_own(&revoke(id, term));
        }
    }

    /// By remaining life where this member leads and knows it, else by id.
    pub(super) fn leases(&self) -> Vec<LeaseId> {
        if self.leads_applied {
            return self.expiry.by_remaining();
        }
        self.shared
            .state
            .read()
            .lessor
            .iter()
            .map(|lease| lease.id)
            .collect()
    }
}

/// The leader's own revoke of an expired lease; its term lets apply refuse one from a leader of the past.
fn revoke(id: LeaseId, term: Term) -> InternalRaftRequest {
    InternalRaftRequest {
        lease_revoke: Some(LeaseRevokeRequest { id: id.0 }),
        revoke_term: term.0,
        ..Default::default()
    }
}

/// Expired leases that one search revokes (etcd reference 1.3).
const LEASES_PER_SCAN: usize = 500;
/// How long a question waits for the leader's answer before it is asked again.
const ASK_AGAIN_AFTER: std::time::Duration = std::time::Duration::from_millis(500);

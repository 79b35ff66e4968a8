//! The clients of a run, and what is demanded in the end.

use bytes::Bytes;
use proto::etcdserverpb::{LeaseLeasesRequest, PutRequest, RangeRequest};

use super::members::Input;
use super::{CALL_PAUSE_MAX, FIDDLE_EVERY, Happening, LEASES_GONE_AFTER, Phase, Run};
use crate::history::Outcome;
use crate::model::{Answer, Request, Response};
use crate::sim::member::{MemberNumber, Token};
use crate::sim::report::Failure;
use crate::sim::world::{MILLISECOND, Time};

impl Run<'_> {
    pub(super) fn call(&mut self, caller: usize) {
        if self.phase == Phase::Trouble {
            let request = self.clients.next_request(caller);
            let member = self.any_member();
            self.send(caller, request, member);
        }
    }

    fn send(&mut self, caller: usize, request: Request, member: MemberNumber) {
        if let Request::Compact(compaction) = &request {
            self.truth.compacted(compaction.revision);
        }
        let now = self.world.now();
        let server = self.server(member);
        let token = self.clients.invoke(caller, request.clone(), server, now);
        self.world
            .note(format_args!("c{caller} {token:?} to m{}: {request:?}", member.0));
        if self.members[member.0].up {
            let (shortest, longest) = self.plan.patience;
            self.world.within(shortest, longest, Happening::GiveUp(token));
            self.input(member, Input::Call(token, request));
        } else {
            // Nobody listens: the connection is refused.
            self.end_call(token, Outcome::Failed);
        }
    }

    pub(super) fn give_up(&mut self, token: Token) {
        if let Some(member) = self.clients.member_of(token) {
            self.end_call(token, Outcome::Unknown);
            self.input(member, Input::Abandon(token));
        }
    }

    pub(super) fn end_call(&mut self, token: Token, outcome: Outcome<Answer>) {
        let now = self.world.now();
        let answer = match &outcome {
            Outcome::Ok(Ok(response)) => Some(response.clone()),
            _ => None,
        };
        let Some(caller) = self.clients.returned(token, outcome, now) else {
            return;
        };
        match (self.phase, answer) {
            (Phase::Trouble, _) => self.world.within(0, CALL_PAUSE_MAX, Happening::Call(caller)),
            (Phase::Writing, Some(_)) => self.phase = Phase::Reading(MemberNumber(0)),
            (Phase::Reading(MemberNumber(at)), Some(_)) => {
                self.phase = match at + 1 {
                    next if next < self.members.len() => Phase::Reading(MemberNumber(next)),
                    _ => Phase::Draining,
                };
            }
            (Phase::Listing, Some(Response::LeaseLeases(left))) => {
                let left: Vec<i64> = left.leases.into_iter().map(|lease| lease.id).collect();
                if !left.is_empty() {
                    self.failures.push(Failure::LeasesLeft(left));
                }
                self.phase = Phase::Done;
            }
            _ => {}
        }
    }

    pub(super) fn connect(&mut self, watcher: usize) {
        let member = self.any_member();
        if !self.members[member.0].up {
            return self.reconnect(watcher);
        }
        let (stream, request) = self.clients.connect(watcher, member);
        self.world.note(format_args!(
            "w{watcher} {stream:?} to m{}: {request:?}",
            member.0
        ));
        self.input(member, Input::Watch(stream, request));
    }

    pub(super) fn reconnect(&mut self, watcher: usize) {
        self.world
            .within(MILLISECOND, RECONNECT_MAX, Happening::Connect(watcher));
    }

    pub(super) fn fiddle(&mut self, watcher: usize) {
        if self.phase == Phase::Trouble && self.world.rng.once_in(8) {
            if let Some((stream, member)) = self.clients.disconnect(watcher) {
                self.world.note(format_args!("w{watcher} breaks {stream:?}"));
                self.input(member, Input::Close(stream));
                self.reconnect(watcher);
            }
        } else if let Some((stream, member, request)) = self.clients.ask_progress(watcher) {
            self.input(member, Input::Watch(stream, request));
        }
        self.world.within(1, FIDDLE_EVERY, Happening::Fiddle(watcher));
    }

    fn any_member(&mut self) -> MemberNumber {
        MemberNumber(self.world.rng.index(self.members.len()))
    }

    /// After the trouble: a write once all calls have ended, a read of everything on each member, then what lags, then
    /// the leases.
    pub(super) fn advance(&mut self) {
        if self.phase == Phase::Trouble || !self.all_run() || self.clients.open() > 0 {
            return;
        }
        match self.phase {
            Phase::Settling | Phase::Writing => {
                self.phase = Phase::Writing;
                let put = PutRequest {
                    key: Bytes::from_static(b"probe"),
                    ..PutRequest::default()
                };
                let member = self.any_member();
                self.send(0, Request::Put(put), member);
            }
            // Whoever was there may be gone.
            Phase::Reading(member) if self.members[member.0].free => {
                self.phase = match member.0 + 1 {
                    next if next < self.members.len() => Phase::Reading(MemberNumber(next)),
                    _ => Phase::Draining,
                };
            }
            Phase::Reading(member) => {
                let all = Bytes::from_static(b"\0");
                let range = RangeRequest {
                    key: all.clone(),
                    range_end: all,
                    ..RangeRequest::default()
                };
                self.send(0, Request::Range(range), member);
            }
            Phase::Draining => {
                let again = self.world.now() >= self.compare_at;
                if again && self.converged() && self.clients.all_caught_up(&self.truth) {
                    // Where no key is left, etcd's hash looks at what a compaction has not come to yet: it has time.
                    self.differs = self.difference();
                    self.compare_at = self.world.now() + COMPARE_EVERY;
                    if self.differs.is_some() {
                        return;
                    }
                    self.phase = if self.plan.await_leases {
                        Phase::Expiring
                    } else {
                        Phase::Done
                    };
                }
            }
            Phase::Expiring => {
                if self.world.now() > self.plan.trouble + LEASES_GONE_AFTER {
                    self.phase = Phase::Listing;
                }
            }
            Phase::Listing => {
                let member = self.any_member();
                self.send(0, Request::LeaseLeases(LeaseLeasesRequest {}), member);
            }
            Phase::Trouble | Phase::Done => {}
        }
    }
}

/// How often members are compared whose histories differ.
const COMPARE_EVERY: Time = 50 * MILLISECOND;
/// The longest time that a watcher takes to come back.
const RECONNECT_MAX: Time = 20 * MILLISECOND;

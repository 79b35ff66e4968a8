//! The checker of KV histories: it passes a good history, fails it with any one planted error, and agrees with the general
//! search on small random ones.

#![allow(clippy::unwrap_used, reason = "a test")]

use bytes::Bytes;
use jepsen::check::linearizable::{KvCall, check};
use jepsen::check::wgl::{self, Specification, Verdict};
use jepsen::check::{KvHistory, Options, Truth, Violation};
use jepsen::history::{Call, CallId, Outcome, ProcessId};
use jepsen::model::{Answer, Error, Model, Request, Response};
use proptest::prelude::*;
use proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, LeaseRevokeRequest, PutRequest, RangeRequest,
};
use proto::mvccpb::Event;

fn put(key: &'static str, value: &'static str) -> Request {
    Request::Put(PutRequest {
        key: key.into(),
        value: value.into(),
        ..PutRequest::default()
    })
}

fn get(key: &'static str) -> RangeRequest {
    RangeRequest {
        key: key.into(),
        ..RangeRequest::default()
    }
}

fn all() -> RangeRequest {
    RangeRequest {
        key: "a".into(),
        range_end: "z".into(),
        ..RangeRequest::default()
    }
}

fn delete(key: &'static str) -> Request {
    Request::DeleteRange(DeleteRangeRequest {
        key: key.into(),
        ..DeleteRangeRequest::default()
    })
}

fn compact(revision: i64) -> Request {
    Request::Compact(CompactionRequest {
        revision,
        physical: false,
    })
}

/// A history that is made call by call, each taking effect on a model.
#[derive(Clone, Default)]
struct Story {
    calls: Vec<KvCall>,
    model: Model,
    events: Vec<Event>,
    clock: u64,
}

impl Story {
    /// The next call of a client that calls one at a time; its times are 10 and 15, 20 and 25, and so on.
    fn call(&mut self, request: Request) -> usize {
        let answer = self.take_effect(&request);
        self.clock += 10;
        let (invoked, returned) = (self.clock, self.clock + 5);
        let process = ProcessId(0);
        self.calls.push(Call {
            process,
            operation: request,
            invoked,
            returned,
            outcome: Outcome::Ok(answer),
        });
        self.calls.len() - 1
    }

    /// A call that nobody heard back from.
    fn unknown(&mut self, request: Request) -> usize {
        let at = self.call(request);
        self.calls[at].outcome = Outcome::Unknown;
        at
    }

    fn take_effect(&mut self, request: &Request) -> Answer {
        let applied = self.model.apply(request)?;
        self.events.extend(applied.events);
        Ok(applied.response)
    }

    fn answer(&mut self, at: usize) -> &mut Answer {
        let Outcome::Ok(answer) = &mut self.calls[at].outcome else {
            panic!("call {at} has no answer")
        };
        answer
    }

    fn range(&mut self, at: usize) -> &mut proto::etcdserverpb::RangeResponse {
        let Ok(Response::Range(range)) = self.answer(at) else {
            panic!("call {at} is no range")
        };
        range
    }

    fn truth(&self) -> Truth {
        Truth::new(self.events.clone()).unwrap()
    }

    fn history(&self) -> KvHistory {
        KvHistory::new(self.calls.clone())
    }

    /// Judged by the truth.
    fn judged(&self) -> Vec<Violation> {
        let report = check(&self.history(), Some(&self.truth()), &Options::default());
        assert!(!report.undecided);
        report.violations
    }

    /// Judged without it.
    fn searched(&self) -> Vec<Violation> {
        let report = check(&self.history(), None, &Options::default());
        assert!(!report.undecided);
        report.violations
    }
}

struct Good {
    story: Story,
    first: usize,
    unknown: usize,
    read: usize,
    delete: usize,
    local: usize,
    past: usize,
    leased: usize,
    revoke: usize,
    compact: usize,
    compacted: usize,
    future: usize,
    absent: usize,
}

fn good() -> Good {
    let mut story = Story::default();
    let first = story.call(put("a", "1"));
    story.call(put("b", "1"));
    // A serializable read may show the past: this one is answered by a member that has not seen revision 4.
    let mut behind = story.model.clone();
    let unknown = story.unknown(put("a", "2"));
    let read = story.call(Request::Range(all()));
    let delete = story.call(delete("b"));
    let serializable = Request::Range(RangeRequest {
        serializable: true,
        ..all()
    });
    let local = story.call(serializable.clone());
    *story.answer(local) = behind.apply(&serializable).map(|applied| applied.response);
    let past = story.call(Request::Range(RangeRequest { revision: 3, ..all() }));
    story.call(Request::LeaseGrant(LeaseGrantRequest { ttl: 9, id: 7 }));
    let leased = story.call(Request::Put(PutRequest {
        key: "c".into(),
        lease: 7,
        ..PutRequest::default()
    }));
    let revoke = story.call(Request::LeaseRevoke(LeaseRevokeRequest { id: 7 }));
    let compact = story.call(compact(4));
    let compacted = story.call(Request::Range(RangeRequest { revision: 3, ..all() }));
    let future = story.call(Request::Range(RangeRequest {
        revision: 100,
        ..all()
    }));
    let absent = story.call(Request::Put(PutRequest {
        key: "x".into(),
        ignore_value: true,
        ..PutRequest::default()
    }));
    story.call(Request::Range(all()));
    Good {
        story,
        first,
        unknown,
        read,
        delete,
        local,
        past,
        leased,
        revoke,
        compact,
        compacted,
        future,
        absent,
    }
}

macro_rules! assert_has {
    ($violations:expr, $($pattern:tt)+) => {
        let violations = $violations;
        assert!(violations.iter().any(|v| matches!(v, $($pattern)+)), "{violations:?}");
    };
}

#[test]
fn a_good_history_passes() {
    let mut good = good();
    assert_eq!(good.story.judged(), []);
    assert_eq!(good.story.searched(), []);
    assert_eq!(good.story.answer(good.compacted), &Err(Error::Compacted));
    assert_eq!(good.story.model.revision(), 7);
    let truth = good.story.truth();
    let report = check(&good.story.history(), Some(&truth), &Options::default());
    // The unknown put and the end of the lease; all answers but the three refusals.
    assert_eq!(
        (report.unanswered_revisions, report.answered),
        (2, good.story.calls.len() - 4)
    );
}

#[test]
fn a_stale_read_fails() {
    let mut good = good();
    let mut old = Model::default();
    old.apply(&put("a", "1")).unwrap();
    let at = good.read;
    *good.story.answer(at) = old.apply(&Request::Range(all())).map(|applied| applied.response);
    assert_has!(
        good.story.judged(),
        Violation::StaleRevision {
            revision: 2,
            seen: 3,
            ..
        }
    );
    assert_has!(
        good.story.searched(),
        Violation::StaleRevision {
            revision: 2,
            seen: 3,
            ..
        }
    );
}

#[test]
fn a_wrong_value_fails_in_any_read() {
    for at in [good().read, good().local, good().past] {
        let mut good = good();
        good.story.range(at).kvs[0].value = Bytes::from_static(b"other");
        assert_has!(good.story.judged(), Violation::WrongAnswer { call, .. } if call.0 == at);
        assert_has!(
            good.story.searched(),
            Violation::WrongAnswer { .. } | Violation::UnexplainedRevision { .. }
        );
    }
}

#[test]
fn a_missing_key_and_a_wrong_count_fail() {
    let mut good = good();
    let at = good.read;
    good.story.range(at).kvs.pop();
    assert_has!(good.story.judged(), Violation::WrongAnswer { .. });
    let mut good = self::good();
    good.story.range(at).count += 1;
    assert_has!(good.story.judged(), Violation::WrongAnswer { .. });
}

#[test]
fn a_lost_write_fails() {
    let mut good = good();
    good.story.events.truncate(3);
    assert_has!(
        good.story.judged(),
        Violation::LostRevision {
            revision: 5,
            last: 4,
            ..
        }
    );
}

#[test]
fn a_write_with_another_effect_fails() {
    let mut good = good();
    good.story.events[0].kv.as_mut().unwrap().value = Bytes::from_static(b"other");
    assert_has!(good.story.judged(), Violation::WrongEffect { revision: 2, .. });
}

#[test]
fn a_revision_that_two_writes_share_fails() {
    let mut good = good();
    let at = good.first;
    let Ok(Response::Put(answer)) = good.story.answer(at) else {
        panic!("a put")
    };
    answer.header.as_mut().unwrap().revision = 3;
    assert_has!(good.story.judged(), Violation::SharedRevision { revision: 3, .. });
    assert_has!(
        good.story.searched(),
        Violation::SharedRevision { revision: 3, .. }
    );
}

#[test]
fn a_write_behind_a_later_one_fails() {
    let mut good = good();
    // The delete of revision 5 is invoked only after the read of the whole history has shown it.
    let at = good.delete;
    good.story.calls[at].invoked = 1000;
    good.story.calls[at].returned = 1005;
    assert_has!(
        good.story.judged(),
        Violation::RevisionBeforeWrite {
            revision: 5,
            seen: 7,
            ..
        }
    );
}

#[test]
fn a_local_read_of_the_future_fails() {
    let mut good = good();
    // What it shows is revision 3, and it returned before the put of that revision began.
    let at = good.local;
    good.story.calls[at].invoked = 1;
    good.story.calls[at].returned = 2;
    assert_has!(
        good.story.judged(),
        Violation::RevisionBeforeWrite {
            revision: 3,
            seen: 3,
            ..
        }
    );
}

#[test]
fn an_answer_without_revision_fails() {
    let mut good = good();
    let at = good.read;
    good.story.range(at).header = None;
    assert_has!(good.story.judged(), Violation::NoRevision { call } if call.0 == at);
}

#[test]
fn a_revision_that_nobody_made_fails() {
    let mut good = good();
    good.story.calls.remove(good.unknown);
    assert_has!(
        good.story.judged(),
        Violation::UnexplainedRevision { revision: 4 }
    );
    assert_has!(
        good.story.searched(),
        Violation::UnexplainedRevision { revision: 4 }
    );
}

#[test]
fn an_unknown_write_does_not_count_before_it_began() {
    let mut good = good();
    let at = good.unknown;
    good.story.calls[at].invoked = 1000;
    assert_has!(
        good.story.judged(),
        Violation::UnexplainedRevision { revision: 4 }
    );
    assert_has!(
        good.story.searched(),
        Violation::UnexplainedRevision { revision: 4 }
    );
}

#[test]
fn an_unknown_write_does_not_count_twice() {
    let mut story = Story::default();
    story.call(put("a", "1"));
    story.unknown(put("b", "same"));
    let twice = story.unknown(put("b", "same"));
    story.call(Request::Range(all()));
    assert_eq!((story.judged(), story.searched()), (Vec::new(), Vec::new()));
    story.calls.remove(twice);
    // Each of the two revisions alone could be explained; the versions differ, the write does not.
    assert_has!(story.judged(), Violation::TooFewWrites { revision: 4 });
    assert_has!(story.searched(), Violation::UnexplainedRevision { revision: 4 });
}

#[test]
fn a_gap_and_an_impossible_event_fail() {
    let good = good();
    let mut events = good.story.events.clone();
    events.remove(2);
    assert_eq!(
        Truth::new(events),
        Err(Violation::RevisionGap { after: 3, found: 5 })
    );
    let mut story = good.story;
    story.events[2].kv.as_mut().unwrap().version = 7;
    assert_has!(story.judged(), Violation::ImpossibleEvents { revision: 4, .. });
}

#[test]
fn refusals_without_a_reason_fail() {
    let plant = |at: fn(&Good) -> usize, refusal: Error| {
        let mut good = good();
        let at = at(&good);
        *good.story.answer(at) = Err(refusal);
        good.story
    };
    let present = plant(|good| good.read, Error::FutureRev);
    assert_has!(
        present.judged(),
        Violation::WrongRefusal {
            refusal: Error::FutureRev,
            from: 3,
            ..
        }
    );
    let early = plant(|good| good.past, Error::Compacted);
    assert_has!(early.judged(), Violation::NotCompacted { asked: 3, .. });
    let here = plant(|good| good.past, Error::KeyNotFound);
    assert_has!(
        here.judged(),
        Violation::WrongRefusal {
            refusal: Error::KeyNotFound,
            ..
        }
    );
    let again = plant(|good| good.compact, Error::Compacted);
    assert_has!(again.judged(), Violation::NotCompacted { asked: 4, .. });
    let shape = plant(|good| good.read, Error::EmptyKey);
    assert_has!(
        shape.judged(),
        Violation::WrongRefusal {
            refusal: Error::EmptyKey,
            ..
        }
    );
    let lease = plant(|good| good.future, Error::LeaseNotFound);
    assert_eq!(lease.judged(), [], "what happened to leases is not known");
}

#[test]
fn answers_that_should_have_been_refusals_fail() {
    let mut good = good();
    let mut uncompacted = Model::default();
    for at in 0..good.delete {
        uncompacted.apply(&good.story.calls[at].operation).unwrap();
    }
    let at = good.compacted;
    let mut answer = uncompacted
        .apply(&good.story.calls[at].operation)
        .unwrap()
        .response;
    if let Response::Range(range) = &mut answer {
        range.header.as_mut().unwrap().revision = 7;
    }
    *good.story.answer(at) = Ok(answer);
    assert_has!(
        good.story.judged(),
        Violation::Uncompacted {
            asked: 3,
            compacted: 4,
            ..
        }
    );

    let mut good = self::good();
    let at = good.absent;
    let next = PutRequest {
        key: "x".into(),
        ..PutRequest::default()
    };
    let answer = good.story.model.apply(&Request::Put(next)).unwrap();
    good.story.events.extend(answer.events);
    *good.story.answer(at) = Ok(answer.response);
    assert_has!(good.story.judged(), Violation::WrongAnswer { call, .. } if call.0 == at);
}

#[test]
fn leases_that_survive_their_revoke_fail() {
    let mut good = good();
    // The put that used the lease is made to begin after the revoke had returned.
    let (leased, revoke) = (good.leased, good.revoke);
    good.story.calls[leased].invoked = good.story.calls[revoke].returned + 1;
    good.story.calls[leased].returned = good.story.calls[revoke].returned + 2;
    assert_has!(good.story.judged(), Violation::RevokedLeaseUsed { lease: 7, .. });

    let mut good = self::good();
    let Ok(Response::LeaseRevoke(answer)) = good.story.answer(revoke) else {
        panic!("a revoke")
    };
    answer.header.as_mut().unwrap().revision = 6;
    assert_has!(
        good.story.judged(),
        Violation::RevokedLeaseHasKeys {
            lease: 7,
            revision: 6,
            ..
        }
    );
}

#[test]
fn without_expiry_only_a_revoke_ends_a_lease() {
    let mut good = good();
    good.story.calls.remove(good.revoke);
    assert_eq!(good.story.judged(), []);
    let never = Options {
        leases_expire: false,
        ..Options::default()
    };
    let report = check(&good.story.history(), Some(&good.story.truth()), &never);
    assert_has!(report.violations, Violation::UnexplainedRevision { revision: 7 });
}

#[test]
fn ties_of_a_sort_may_stand_in_any_order() {
    let mut story = Story::default();
    for key in ["a", "b", "c"] {
        story.call(put(key, "same"));
    }
    let by_value = RangeRequest {
        sort_target: 4,
        sort_order: 1,
        limit: 2,
        ..all()
    };
    let at = story.call(Request::Range(by_value));
    story.range(at).kvs.swap(0, 1);
    assert_eq!(story.judged(), []);
    let other = story.model.range(&get("c")).unwrap().kvs.remove(0);
    story.range(at).kvs[0] = other.clone();
    assert_eq!(story.judged(), []);
    // But no key twice.
    story.range(at).kvs[1] = other;
    assert_has!(story.judged(), Violation::WrongAnswer { .. });
}

#[test]
fn a_search_that_is_too_long_says_so() {
    let mut story = Story::default();
    for _ in 0..4 {
        story.unknown(put("a", "1"));
    }
    story.call(Request::Range(all()));
    let options = Options {
        steps_max: 2,
        ..Options::default()
    };
    let report = check(&story.history(), None, &options);
    assert!(report.undecided && !report.is_ok());
}

// Against the general search.

/// etcd for the general search.
struct Etcd;

impl Specification for Etcd {
    type State = Model;
    type Operation = Request;
    type Answer = Answer;

    fn initial(&self) -> Model {
        Model::default()
    }

    fn step(&self, state: &Model, request: &Request, answer: Option<&Answer>) -> Option<Model> {
        let mut next = state.clone();
        let got = next.apply(request).map(|applied| applied.response);
        answer.is_none_or(|answer| *answer == got).then_some(next)
    }
}

/// One call of a random history: what, how long before and after its effect, and how it may be spoilt.
#[derive(Clone, Debug)]
struct Random {
    kind: u8,
    key: u8,
    before: u64,
    after: u64,
    heard: bool,
}

fn random() -> impl Strategy<Value = Random> {
    (0..4u8, 0..2u8, 0..30u64, 1..30u64, prop::bool::weighted(0.85)).prop_map(
        |(kind, key, before, after, heard)| Random {
            kind,
            key,
            before,
            after,
            heard,
        },
    )
}

/// Calls that take effect in order, 10 apart, so that a call reaches over up to three others on each side.
fn history_of(randoms: &[Random]) -> Vec<KvCall> {
    let mut model = Model::default();
    let mut calls = Vec::new();
    for (at, random) in randoms.iter().enumerate() {
        let key = Bytes::from(vec![b'a' + random.key]);
        let value = Bytes::from(at.to_string());
        let operation = match random.kind {
            0 | 1 => Request::Put(PutRequest {
                key,
                value,
                ..PutRequest::default()
            }),
            2 => Request::Range(RangeRequest {
                key,
                ..RangeRequest::default()
            }),
            _ => Request::DeleteRange(DeleteRangeRequest {
                key,
                ..DeleteRangeRequest::default()
            }),
        };
        let answer = model.apply(&operation).map(|applied| applied.response);
        let effect = 100 + 10 * u64::try_from(at).unwrap();
        let outcome = if random.heard {
            Outcome::Ok(answer)
        } else {
            Outcome::Unknown
        };
        let (invoked, returned) = (effect - random.before, effect + random.after);
        let process = ProcessId(u64::try_from(at).unwrap());
        calls.push(Call {
            process,
            operation,
            invoked,
            returned,
            outcome,
        });
    }
    calls
}

fn verdicts(calls: Vec<KvCall>) -> (bool, bool) {
    let history = KvHistory::new(calls);
    let report = check(&history, None, &Options::default());
    assert!(!report.undecided);
    let verdict = wgl::check(&Etcd, &history, 1_000_000);
    assert_ne!(verdict, Verdict::Undecided);
    (report.is_ok(), matches!(verdict, Verdict::Linearizable(_)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn both_checkers_pass_what_really_happened(randoms in prop::collection::vec(random(), 1..12)) {
        prop_assert_eq!(verdicts(history_of(&randoms)), (true, true));
    }

    /// Spoilt by an answer that belongs to another call of the same kind, or by another time: the two agree on whether it
    /// still makes sense.
    #[test]
    fn both_checkers_agree_on_what_may_not_have_happened(
        randoms in prop::collection::vec(random(), 2..9),
        from in any::<prop::sample::Index>(),
        to in any::<prop::sample::Index>(),
        shift in -40..40i64,
    ) {
        let mut calls = history_of(&randoms);
        let (from, to) = (from.index(calls.len()), to.index(calls.len()));
        let same_kind = std::mem::discriminant(&calls[from].operation)
            == std::mem::discriminant(&calls[to].operation);
        if from != to && same_kind && calls[to].answer().is_some() {
            calls[to].outcome = calls[from].outcome.clone();
        } else {
            calls[to].invoked = calls[to].invoked.saturating_add_signed(shift);
            calls[to].returned = calls[to].returned.saturating_add_signed(shift);
        }
        let (fast, general) = verdicts(calls);
        prop_assert_eq!(fast, general);
    }
}

/// A register, to show the general search on its own.
struct Register;

impl Specification for Register {
    type State = u8;
    /// A write of a value, or a read.
    type Operation = Option<u8>;
    type Answer = u8;

    fn initial(&self) -> u8 {
        0
    }

    fn step(&self, state: &u8, operation: &Option<u8>, answer: Option<&u8>) -> Option<u8> {
        match operation {
            Some(written) => Some(*written),
            None => answer.is_none_or(|read| read == state).then_some(*state),
        }
    }
}

fn register(calls: &[(u64, u64, Option<u8>, Outcome<u8>)]) -> Verdict {
    let call = |(invoked, returned, operation, outcome): &(u64, u64, Option<u8>, Outcome<u8>)| Call {
        process: ProcessId(*invoked),
        operation: *operation,
        invoked: *invoked,
        returned: *returned,
        outcome: outcome.clone(),
    };
    wgl::check(
        &Register,
        &jepsen::history::History::new(calls.iter().map(call).collect()),
        1000,
    )
}

#[test]
fn the_general_search_judges_a_register() {
    let write = |invoked, returned, value| (invoked, returned, Some(value), Outcome::Ok(0));
    let read = |invoked, returned, value| (invoked, returned, None, Outcome::Ok(value));
    // A read beside a write may see either value, but not the old one after a read of the new one.
    let seen = register(&[write(1, 9, 5), read(2, 3, 0), read(4, 5, 5)]);
    assert_eq!(seen, Verdict::Linearizable(vec![CallId(1), CallId(0), CallId(2)]));
    let flicker = register(&[write(1, 9, 5), read(2, 3, 5), read(4, 5, 0)]);
    let stuck_at = vec![CallId(2)];
    assert_eq!(
        flicker,
        Verdict::Violation {
            longest: vec![CallId(0), CallId(1)],
            stuck_at
        }
    );
    // A write without an answer may take effect at any later time, or never; a failed one never.
    let late = register(&[(1, 2, Some(5), Outcome::Unknown), read(3, 4, 0), read(5, 6, 5)]);
    assert_eq!(late, Verdict::Linearizable(vec![CallId(1), CallId(0), CallId(2)]));
    let never = register(&[(1, 2, Some(5), Outcome::Unknown), read(3, 4, 0)]);
    assert_eq!(never, Verdict::Linearizable(vec![CallId(1)]));
    let failed = register(&[(1, 2, Some(5), Outcome::Failed), read(5, 6, 5)]);
    assert!(matches!(failed, Verdict::Violation { .. }));
}

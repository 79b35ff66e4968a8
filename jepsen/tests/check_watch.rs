//! The checkers of the watch guarantees: each passes a good record and fails it with an error of its kind.

#![allow(clippy::unwrap_used, reason = "a test")]

use bytes::Bytes;
use jepsen::check::{Truth, Violation, atomic, bookmarkable, ordered, reliable, resumable, unique, watches};
use jepsen::history::{Heard, ProcessId, WatchRecord, WatchSession};
use jepsen::model::Model;
use proto::etcdserverpb::request_op::Request as Op;
use proto::etcdserverpb::{
    DeleteRangeRequest, PutRequest, RequestOp, ResponseHeader, TxnRequest, WatchCreateRequest, WatchResponse,
};
use proto::mvccpb::Event;

fn put(key: &'static str, value: &'static str) -> PutRequest {
    PutRequest {
        key: key.into(),
        value: value.into(),
        ..PutRequest::default()
    }
}

fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader {
        revision,
        ..ResponseHeader::default()
    })
}

/// Revisions 2 to 9; 4 changes three keys, 6 is a deletion, 8 is outside of the watched range.
fn truth() -> Truth {
    let mut model = Model::default();
    let mut events: Vec<Event> = Vec::new();
    let op = |key| RequestOp {
        request: Some(Op::RequestPut(put(key, "txn"))),
    };
    events.extend(model.put(&put("a", "1")).unwrap().1);
    events.extend(model.put(&put("b", "1")).unwrap().1);
    let txn = TxnRequest {
        success: vec![op("c"), op("a"), op("b")],
        ..TxnRequest::default()
    };
    events.extend(model.txn(&txn).unwrap().1);
    events.extend(model.put(&put("a", "3")).unwrap().1);
    let delete = DeleteRangeRequest {
        key: "a".into(),
        ..DeleteRangeRequest::default()
    };
    events.extend(model.delete_range(&delete).unwrap().1);
    events.extend(model.put(&put("a", "4")).unwrap().1);
    events.extend(model.put(&put("z", "1")).unwrap().1);
    events.extend(model.put(&put("c", "2")).unwrap().1);
    Truth::new(events).unwrap()
}

fn request(start_revision: i64) -> WatchCreateRequest {
    WatchCreateRequest {
        key: "a".into(),
        range_end: "y".into(),
        start_revision,
        prev_kv: true,
        fragment: true,
        ..WatchCreateRequest::default()
    }
}

fn created(revision: i64) -> WatchResponse {
    WatchResponse {
        created: true,
        header: header(revision),
        ..WatchResponse::default()
    }
}

fn progress(revision: i64) -> WatchResponse {
    WatchResponse {
        watch_id: -1,
        header: header(revision),
        ..WatchResponse::default()
    }
}

/// The watcher's events of some revisions in one response.
fn events(truth: &Truth, from: i64, upto: i64) -> WatchResponse {
    let events = truth.owed(&request(0), from, upto).cloned().collect();
    WatchResponse {
        header: header(upto),
        events,
        ..WatchResponse::default()
    }
}

fn session(start_revision: i64, responses: Vec<WatchResponse>) -> WatchSession {
    let mut session = WatchSession::new(request(start_revision));
    session.responses = responses
        .into_iter()
        .map(|response| Heard { at: 0, response })
        .collect();
    session
}

/// From revision 2: the first three revisions caught up on in two responses, progress, one more; then the stream breaks, and the
/// next session goes on at 6.
fn good() -> (Truth, WatchRecord) {
    let truth = truth();
    let first = session(
        2,
        vec![
            created(4),
            events(&truth, 2, 3),
            events(&truth, 4, 4),
            progress(4),
            events(&truth, 5, 5),
        ],
    );
    let second = session(
        6,
        vec![
            created(7),
            events(&truth, 6, 6),
            events(&truth, 7, 7),
            progress(8),
            events(&truth, 9, 9),
        ],
    );
    let record = WatchRecord {
        process: ProcessId(1),
        sessions: vec![first, second],
        drained_to: Some(truth.last()),
    };
    (truth, record)
}

fn response(record: &mut WatchRecord, session: usize, at: usize) -> &mut WatchResponse {
    &mut record.sessions[session].responses[at].response
}

fn remove(record: &mut WatchRecord, session: usize, at: usize) -> WatchResponse {
    record.sessions[session].responses.remove(at).response
}

fn insert(record: &mut WatchRecord, session: usize, at: usize, response: WatchResponse) {
    record.sessions[session]
        .responses
        .insert(at, Heard { at: 0, response });
}

macro_rules! assert_only {
    ($found:expr, $($pattern:tt)+) => {
        let found = $found;
        assert!(!found.is_empty(), "nothing was found");
        assert!(found.iter().all(|v| matches!(v, $($pattern)+)), "{found:?}");
    };
}

#[test]
fn a_good_record_passes() {
    let (truth, record) = good();
    assert_eq!(watches(&[record], &truth), []);
}

#[test]
fn a_record_without_anything_passes_unless_it_was_waited_for() {
    let (truth, mut record) = good();
    record.sessions = vec![session(2, Vec::new())];
    record.drained_to = None;
    assert_eq!(watches(&[record.clone()], &truth), []);
    record.drained_to = Some(9);
    assert_only!(watches(&[record], &truth), Violation::Missed { upto: 9, .. });
}

#[test]
fn ordered_finds_swapped_revisions() {
    let (truth, mut record) = good();
    let second = remove(&mut record, 0, 2);
    insert(&mut record, 0, 1, second);
    assert_only!(
        ordered::check(&record, &truth),
        Violation::Reordered {
            revision: 2 | 3,
            after: 4,
            ..
        }
    );
}

#[test]
fn ordered_finds_swapped_keys_of_one_revision() {
    let (truth, mut record) = good();
    response(&mut record, 0, 2).events.swap(0, 1);
    assert_only!(
        ordered::check(&record, &truth),
        Violation::ReorderedWithin { revision: 4, .. }
    );
    // Nothing else sees it.
    assert_eq!(watches(&[record], &truth).len(), 1);
}

#[test]
fn unique_finds_an_event_that_came_twice() {
    let (truth, mut record) = good();
    insert(&mut record, 0, 2, events(&truth, 3, 3));
    assert_only!(
        unique::check(&record, &truth),
        Violation::Duplicate { revision: 3, .. }
    );
    // In one response too, and over two sessions.
    let (truth, mut record) = good();
    let again = response(&mut record, 0, 2).events[2].clone();
    response(&mut record, 0, 2).events.push(again);
    assert_only!(
        unique::check(&record, &truth),
        Violation::Duplicate { revision: 4, .. }
    );
    let (truth, mut record) = good();
    insert(&mut record, 1, 1, events(&truth, 5, 5));
    assert_only!(
        unique::check(&record, &truth),
        Violation::Duplicate { revision: 5, .. }
    );
}

#[test]
fn unique_allows_a_client_to_go_back() {
    let (truth, mut record) = good();
    record.sessions[1] = session(4, vec![created(9), events(&truth, 4, 9)]);
    assert_eq!(unique::check(&record, &truth), []);
}

#[test]
fn equal_events_of_one_revision_are_two_events() {
    let mut model = Model::default();
    let op = |request| RequestOp {
        request: Some(request),
    };
    // A range without end does not count as covering the put, so a key can come and go in one transaction.
    let delete = DeleteRangeRequest {
        key: "a".into(),
        range_end: vec![0].into(),
        prev_kv: false,
    };
    let ops = [
        Op::RequestDeleteRange(delete.clone()),
        Op::RequestPut(put("a", "2")),
        Op::RequestDeleteRange(delete),
    ];
    let mut events = model.put(&put("a", "1")).unwrap().1;
    events.extend(
        model
            .txn(&TxnRequest {
                success: ops.map(op).into(),
                ..TxnRequest::default()
            })
            .unwrap()
            .1,
    );
    assert_eq!(events[1].kv, events[3].kv);
    let truth = Truth::new(events).unwrap();
    let whole = session(2, vec![created(3), self::events(&truth, 2, 3)]);
    let mut record = WatchRecord {
        process: ProcessId(1),
        sessions: vec![whole],
        drained_to: Some(3),
    };
    assert_eq!(watches(&[record.clone()], &truth), []);
    let last = response(&mut record, 0, 1).events.pop().unwrap();
    assert_only!(
        reliable::check(&record, &truth),
        Violation::Missed { revision: 3, .. }
    );
    response(&mut record, 0, 1).events.extend([last.clone(), last]);
    assert_only!(
        unique::check(&record, &truth),
        Violation::Duplicate { revision: 3, .. }
    );
}

#[test]
fn atomic_finds_a_split_revision() {
    let (truth, mut record) = good();
    let tail = response(&mut record, 0, 2).events.split_off(1);
    let part = WatchResponse {
        header: header(4),
        events: tail,
        ..WatchResponse::default()
    };
    insert(&mut record, 0, 3, part);
    assert_only!(
        atomic::check(&record),
        Violation::SplitRevision { revision: 4, .. }
    );
    assert_only!(
        watches(&[record.clone()], &truth),
        Violation::SplitRevision { .. }
    );
    // As a chain of fragments it is right, but not with something between its parts.
    response(&mut record, 0, 2).fragment = true;
    assert_eq!(watches(&[record.clone()], &truth), []);
    insert(&mut record, 0, 3, progress(3));
    assert_only!(
        atomic::check(&record),
        Violation::BrokenFragments { revision: 4, .. }
    );
}

#[test]
fn atomic_finds_a_revision_that_comes_back_later() {
    let (_, mut record) = good();
    let late = response(&mut record, 0, 2).events.pop().unwrap();
    response(&mut record, 0, 4).events.insert(0, late);
    assert_only!(
        atomic::check(&record),
        Violation::SplitRevision { revision: 4, .. }
    );
}

#[test]
fn reliable_finds_a_gap() {
    let (truth, mut record) = good();
    remove(&mut record, 0, 2);
    assert_only!(
        reliable::check(&record, &truth),
        Violation::Missed {
            revision: 4,
            upto: 5,
            ..
        }
    );
    // One key of a revision.
    let (truth, mut record) = good();
    response(&mut record, 0, 2).events.remove(1);
    assert_only!(
        reliable::check(&record, &truth),
        Violation::Missed { revision: 4, .. }
    );
}

#[test]
fn reliable_finds_a_missing_end_where_it_was_waited_for() {
    let (truth, mut record) = good();
    remove(&mut record, 1, 4);
    assert_only!(
        reliable::check(&record, &truth),
        Violation::Missed {
            revision: 9,
            upto: 9,
            ..
        }
    );
    record.drained_to = None;
    assert_eq!(reliable::check(&record, &truth), []);
}

#[test]
fn reliable_finds_what_never_happened() {
    let (truth, mut record) = good();
    response(&mut record, 0, 4).events[0].kv.as_mut().unwrap().key = Bytes::from_static(b"b");
    // What came instead of what happened.
    assert_only!(
        reliable::check(&record, &truth),
        Violation::Phantom { revision: 5, .. } | Violation::Missed { revision: 5, .. }
    );
    assert_eq!(reliable::check(&record, &truth).len(), 2);
    // What happened outside of the range, or is filtered, has no place here either.
    let (truth, mut record) = good();
    let outside = truth.events(8)[0].clone();
    response(&mut record, 1, 4).events.insert(0, outside);
    assert_only!(
        reliable::check(&record, &truth),
        Violation::Phantom { revision: 8, .. }
    );
    let (truth, mut record) = good();
    record.sessions[1].request.filters = vec![1];
    assert_only!(
        reliable::check(&record, &truth),
        Violation::Phantom { revision: 6, .. }
    );
}

#[test]
fn reliable_finds_a_distorted_event() {
    let distort = |change: fn(&mut Event)| {
        let (truth, mut record) = good();
        change(&mut response(&mut record, 0, 4).events[0]);
        reliable::check(&record, &truth)
    };
    let value = |event: &mut Event| event.kv.as_mut().unwrap().value = Bytes::from_static(b"other");
    assert_only!(distort(value), Violation::Distorted { .. });
    let version = |event: &mut Event| event.kv.as_mut().unwrap().version += 1;
    assert_only!(distort(version), Violation::Distorted { .. });
    let previous = |event: &mut Event| event.prev_kv.as_mut().unwrap().value = Bytes::new();
    assert_only!(distort(previous), Violation::Distorted { .. });
    assert_only!(distort(|event| event.prev_kv = None), Violation::Distorted { .. });
}

#[test]
fn reliable_lets_compaction_take_previous_values_but_nothing_else() {
    let (mut truth, mut record) = good();
    truth.compacted(5);
    response(&mut record, 0, 4).events[0].prev_kv = None;
    assert_eq!(reliable::check(&record, &truth), []);
    response(&mut record, 1, 1).events[0].prev_kv = None;
    assert_only!(reliable::check(&record, &truth), Violation::Distorted { .. });
    // Unasked for, a previous value has no place.
    let (truth, mut record) = good();
    record.sessions[0].request.prev_kv = false;
    assert_only!(reliable::check(&record, &truth), Violation::Distorted { .. });
}

#[test]
fn reliable_does_not_expect_the_rest_of_a_broken_chain() {
    let (truth, mut record) = good();
    // The stream breaks inside revision 4, and the client goes on there.
    let mut part = events(&truth, 4, 4);
    part.events.truncate(1);
    part.fragment = true;
    record.sessions[0] = session(2, vec![created(4), events(&truth, 2, 3), part]);
    record.sessions[1] = session(4, vec![created(9), events(&truth, 4, 9)]);
    assert_eq!(watches(&[record], &truth), []);
}

#[test]
fn resumable_finds_a_wrong_beginning() {
    let (truth, mut record) = good();
    remove(&mut record, 1, 1);
    assert_only!(
        resumable::check(&record, &truth),
        Violation::WrongStart {
            start: 6,
            found: 7,
            expected: 6,
            ..
        }
    );
    let (truth, mut record) = good();
    insert(&mut record, 1, 1, events(&truth, 5, 5));
    assert_only!(
        resumable::check(&record, &truth),
        Violation::WrongStart {
            start: 6,
            found: 5,
            ..
        }
    );
    // From now: what came with the created response's revision is not owed.
    let (truth, mut record) = good();
    record.sessions = vec![session(0, vec![created(4), events(&truth, 4, 9)])];
    assert_only!(
        resumable::check(&record, &truth),
        Violation::WrongStart {
            start: 5,
            found: 4,
            ..
        }
    );
}

#[test]
fn resumable_finds_events_before_creation() {
    let (truth, mut record) = good();
    let created = remove(&mut record, 0, 0);
    insert(&mut record, 0, 1, created);
    assert_only!(resumable::check(&record, &truth), Violation::NotCreated { .. });
}

#[test]
fn resumable_finds_a_client_that_skips() {
    let (truth, mut record) = good();
    record.sessions[1].request.start_revision = 7;
    remove(&mut record, 1, 1);
    assert_only!(
        resumable::check(&record, &truth),
        Violation::WrongResumption {
            start: 7,
            expected: 6,
            ..
        }
    );
}

#[test]
fn resumable_judges_cancellations() {
    let canceled = |compact_revision| WatchResponse {
        canceled: true,
        compact_revision,
        ..WatchResponse::default()
    };
    let (truth, mut record) = good();
    record.sessions[0].responses.truncate(3);
    insert(&mut record, 0, 3, canceled(7));
    record.sessions[1] = session(7, vec![created(9), events(&truth, 7, 9)]);
    assert_eq!(watches(&[record.clone()], &truth), []);
    *response(&mut record, 0, 3) = canceled(5);
    assert_only!(
        resumable::check(&record, &truth),
        Violation::NeedlesslyCancelled {
            compacted: 5,
            needed: 5,
            ..
        }
    );
    *response(&mut record, 0, 3) = canceled(7);
    insert(&mut record, 0, 4, events(&truth, 5, 5));
    assert_only!(resumable::check(&record, &truth), Violation::AfterCancel { .. });
}

#[test]
fn bookmarkable_finds_progress_told_too_early() {
    let (truth, mut record) = good();
    let progress_4 = remove(&mut record, 0, 3);
    insert(&mut record, 0, 2, progress_4);
    assert_only!(
        bookmarkable::check(&record, &truth),
        Violation::EarlyBookmark {
            progress: 4,
            revision: 4,
            ..
        }
    );
    let (truth, mut record) = good();
    response(&mut record, 0, 3).header = header(5);
    assert_only!(
        bookmarkable::check(&record, &truth),
        Violation::EarlyBookmark {
            progress: 5,
            revision: 5,
            ..
        }
    );
}

#[test]
fn bookmarkable_finds_progress_that_goes_back_or_beyond() {
    let (truth, mut record) = good();
    response(&mut record, 1, 3).header = header(6);
    assert_only!(
        bookmarkable::check(&record, &truth),
        Violation::BookmarkBackwards {
            progress: 6,
            after: 7,
            ..
        }
    );
    let (truth, mut record) = good();
    insert(&mut record, 1, 5, progress(10));
    assert_only!(
        bookmarkable::check(&record, &truth),
        Violation::BookmarkFromFuture {
            progress: 10,
            last: 9,
            ..
        }
    );
}

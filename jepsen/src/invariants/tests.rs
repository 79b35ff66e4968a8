//! Each property broken by hand, and one run of steps that breaks none.

use bytes::Bytes;

use super::*;

const A: MemberNumber = MemberNumber(0);
const B: MemberNumber = MemberNumber(1);

fn entry(index: u64, term: u64) -> LogEntry {
    LogEntry {
        term: Term(term),
        index: Index(index),
        kind: store::types::EntryKind::Request,
        data: Bytes::from(format!("{index} of {term}")),
    }
}

/// A member with a log from `first` on, whose entries have these terms.
fn seen(part: Part, term: u64, commit: u64, first: u64, terms: &[u64]) -> Seen {
    let log: Vec<_> = (first..)
        .zip(terms)
        .map(|(index, term)| entry(index, *term))
        .collect();
    Seen {
        view: RaftView {
            voters: vec![MemberId(1), MemberId(2), MemberId(3)],
            learners: Vec::new(),
            term: Term(term),
            part,
            leader: MemberId(0),
            vote: MemberId(0),
            commit: Index(commit),
            applied: Index(commit),
            first: Index(first),
            last: Index(first + log.len() as u64 - 1),
        },
        log,
    }
}

#[test]
fn a_usual_course_breaks_nothing() {
    let mut all = Invariants::new(2);
    let mut step = |member, now| assert_eq!(all.observe(member, now), []);
    step(A, seen(Part::Leader, 1, 0, 1, &[1]));
    step(A, seen(Part::Leader, 1, 1, 1, &[1, 1, 1]));
    step(B, seen(Part::Follower, 1, 1, 1, &[1, 1]));
    // B takes over; A's last entry is lost, which nobody had committed.
    step(B, seen(Part::Leader, 2, 1, 1, &[1, 1, 2]));
    step(B, seen(Part::Leader, 2, 3, 3, &[2, 2]));
    step(A, seen(Part::Follower, 2, 1, 1, &[1, 1, 2]));
    step(A, seen(Part::Follower, 2, 9, 10, &[2]));
    assert_eq!(
        (all.elections(), all.snapshots(), all.committed()),
        (2, 1, Index(3))
    );
    assert_eq!(all.leader(), Some(B));
}

#[test]
fn two_leaders_of_one_term() {
    let mut all = Invariants::new(2);
    assert_eq!(all.observe(A, seen(Part::Leader, 3, 0, 1, &[])), []);
    let found = all.observe(B, seen(Part::Leader, 3, 0, 1, &[]));
    assert_eq!(
        found,
        [Breach::TwoLeaders {
            term: Term(3),
            first: A,
            second: B
        }]
    );
}

#[test]
fn a_leader_that_loses_entries() {
    let mut all = Invariants::new(1);
    all.observe(A, seen(Part::Leader, 3, 0, 1, &[3, 3]));
    let found = all.observe(A, seen(Part::Leader, 3, 0, 1, &[3]));
    assert!(
        matches!(found[..], [Breach::LeaderChangedLog { index: Index(2), .. }]),
        "{found:?}"
    );
}

#[test]
fn one_index_and_term_with_two_pasts() {
    let mut all = Invariants::new(2);
    all.observe(A, seen(Part::Follower, 3, 0, 1, &[1, 3]));
    let found = all.observe(B, seen(Part::Follower, 3, 0, 1, &[2, 3]));
    assert!(
        matches!(found[..], [Breach::LogMismatch { index: Index(2), .. }]),
        "{found:?}"
    );
}

#[test]
fn a_leader_without_a_committed_entry() {
    let mut all = Invariants::new(2);
    all.observe(A, seen(Part::Leader, 1, 2, 1, &[1, 1]));
    let found = all.observe(B, seen(Part::Leader, 2, 0, 1, &[1, 2]));
    assert!(
        matches!(
            found[..],
            [Breach::LeaderLacks {
                index: Index(2),
                by: A,
                ..
            }]
        ),
        "{found:?}"
    );
}

#[test]
fn two_entries_committed_at_one_index() {
    let mut all = Invariants::new(2);
    all.observe(A, seen(Part::Follower, 2, 2, 1, &[1, 1]));
    let found = all.observe(B, seen(Part::Follower, 2, 2, 1, &[1, 2]));
    assert_eq!(
        found,
        [Breach::TwoEntries {
            member: B,
            other: A,
            index: Index(2)
        }]
    );
}

#[test]
fn a_commit_index_that_goes_back() {
    let mut all = Invariants::new(1);
    all.observe(A, seen(Part::Follower, 2, 2, 1, &[1, 1]));
    let found = all.observe(A, seen(Part::Follower, 2, 1, 1, &[1, 1]));
    assert!(matches!(found[..], [Breach::CommitIndex { .. }]), "{found:?}");
    // After a restart it may.
    all.restarted(A);
    assert_eq!(all.observe(A, seen(Part::Follower, 2, 1, 1, &[1, 1])), []);
}

#[test]
fn a_term_or_vote_that_was_told_is_kept_over_a_restart() {
    let mut all = Invariants::new(1);
    let told = |vote| Told {
        term: Term(5),
        vote: Some(MemberId(vote)),
    };
    assert_eq!(all.told(A, told(7)), None);
    all.restarted(A);
    assert_eq!(all.told(A, told(7)), None);
    assert!(matches!(all.told(A, told(8)), Some(Breach::TwoVotes { .. })));
    let found = all.observe(A, seen(Part::Follower, 4, 0, 1, &[]));
    assert_eq!(
        found,
        [Breach::TermBack {
            member: A,
            before: Term(5),
            now: Term(4)
        }]
    );
    all.wiped(A);
    assert_eq!(all.observe(A, seen(Part::Follower, 4, 0, 1, &[])), []);
    assert_eq!(all.told(A, told(8)), None);
}

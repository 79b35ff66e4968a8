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
            member: MemberId(1),
            voters: vec![MemberId(1)],
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
        from: MemberId(1),
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

/// The same member, counting by these voters and learners.
fn counting(mut seen: Seen, voters: &[u64], learners: &[u64]) -> Seen {
    let ids = |ids: &[u64]| ids.iter().copied().map(MemberId).collect();
    (seen.view.voters, seen.view.learners) = (ids(voters), ids(learners));
    seen
}

/// Makes an entry of a log a membership change.
fn with_change(mut seen: Seen, index: u64, what: store::membership::What) -> Seen {
    let change = store::membership::MemberChange {
        what,
        proposal: None,
        learners_max: None,
    };
    let entry = seen.log.iter_mut().find(|entry| entry.index.0 == index).unwrap();
    entry.kind = store::types::EntryKind::Change;
    entry.data = change.encode();
    seen
}

fn adds(id: u64, is_learner: bool) -> store::membership::What {
    store::membership::What::Add(store::membership::Member {
        id: MemberId(id),
        is_learner,
        ..store::membership::Member::default()
    })
}

#[test]
fn a_leader_needs_the_votes_of_a_majority_of_its_voters() {
    let leads = || counting(seen(Part::Leader, 3, 0, 1, &[3]), &[1, 2, 3], &[4]);
    let vote = |from| Told {
        from: MemberId(from),
        term: Term(3),
        vote: Some(MemberId(1)),
    };
    let mut all = Invariants::new(2);
    assert_eq!(all.told(B, vote(4)), None);
    let found = all.observe(A, leads());
    assert!(
        matches!(
            found[..],
            [Breach::FewVotes {
                votes: 1,
                voters: 3,
                ..
            }]
        ),
        "{found:?}"
    );
    let mut all = Invariants::new(2);
    assert_eq!(all.told(B, vote(2)), None);
    assert_eq!(all.observe(A, leads()), []);
}

#[test]
fn a_configuration_follows_from_the_log() {
    let founded = || seen(Part::Leader, 1, 1, 1, &[1]);
    let changed = || with_change(seen(Part::Leader, 1, 2, 1, &[1, 1]), 2, adds(2, true));
    let mut all = Invariants::new(2);
    assert_eq!(all.observe(A, founded()), []);
    assert_eq!(all.observe(A, counting(changed(), &[1], &[2])), []);
    assert_eq!(all.changes(), 1);
    let mut all = Invariants::new(2);
    assert_eq!(all.observe(A, founded()), []);
    let found = all.observe(A, counting(changed(), &[1, 2], &[]));
    assert!(
        matches!(found[..], [Breach::WrongConfiguration { .. }]),
        "{found:?}"
    );
}

#[test]
fn changes_of_a_leader_do_not_overlap() {
    let both = |second: u64| {
        let log = seen(Part::Leader, 2, 1, 1, &[1, 1, second]);
        with_change(with_change(log, 2, adds(2, false)), 3, adds(3, false))
    };
    let found = Invariants::new(1).observe(A, both(2));
    assert!(matches!(found[..], [Breach::ChangesOverlap { .. }]), "{found:?}");
    let inherited = Invariants::new(1).observe(A, both(1));
    assert_eq!(inherited, [], "not its own");
}

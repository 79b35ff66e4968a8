//! Raft's properties (thesis figure 3.2 and section 3.4, and the invariants of the TLA+ specification), checked after
//! every step of every member by looking at what it has in memory and at what it has sent.
//!
//! | file | property |
//! | --- | --- |
//! | `election_safety` | one leader per term |
//! | `leader_append_only` | a leader changes nothing in its log |
//! | `log_matching` | one index and term is one entry, and one past |
//! | `leader_completeness` | a new leader's log has all that is committed |
//! | `state_machine_safety` | one index is one committed entry, for everybody and for ever |
//! | `commit_index` | commit and applied index go forward, applied behind commit behind the log's end |
//! | `term` | a term that others were told of is not forgotten |
//! | `vote` | one vote per term |
//! | `election_quorum` | a leader has the votes of a majority of those who vote by its configuration |
//! | `configuration` | a configuration follows from the applied log; membership changes do not overlap |
//!
//! What the messages tell outlives a member's restarts here; what was only in its memory does not.

mod commit_index;
mod configuration;
mod election_quorum;
mod election_safety;
mod leader_append_only;
mod leader_completeness;
mod log_matching;
mod state_machine_safety;
mod term;
#[cfg(test)]
mod tests;
mod vote;

use store::consensus::LogEntry;
use store::shell::sim::{Part, RaftView};
use store::types::{Index, MemberId, Term};
use thiserror::Error;

use crate::sim::member::MemberNumber;

/// A broken property.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[allow(missing_docs, reason = "the message of each variant says what its fields are")]
pub enum Breach {
    #[error("election safety: {first:?} and {second:?} both lead in term {term}")]
    TwoLeaders {
        term: Term,
        first: MemberNumber,
        second: MemberNumber,
    },
    #[error("leader append-only: {member:?} leads in term {term} and changed its log at {index}")]
    LeaderChangedLog {
        member: MemberNumber,
        term: Term,
        index: Index,
    },
    #[error("log matching: {member:?} has another entry of term {term} at {index} than was seen before")]
    LogMismatch {
        member: MemberNumber,
        index: Index,
        term: Term,
    },
    #[error(
        "leader completeness: {member:?} leads in term {term} without the entry at {index}, which {by:?} has committed"
    )]
    LeaderLacks {
        member: MemberNumber,
        term: Term,
        index: Index,
        by: MemberNumber,
    },
    #[error("state machine safety: {member:?} and {other:?} have committed different entries at {index}")]
    TwoEntries {
        member: MemberNumber,
        other: MemberNumber,
        index: Index,
    },
    #[error("commit index: {member:?} stands at {now}, after {before} (applied, commit, last)")]
    CommitIndex {
        member: MemberNumber,
        before: Stand,
        now: Stand,
    },
    #[error("term: {member:?} is in term {now} after it was in {before}")]
    TermBack {
        member: MemberNumber,
        before: Term,
        now: Term,
    },
    #[error("vote: {member:?} voted for {second} in term {term}, after it had for {first}")]
    TwoVotes {
        member: MemberNumber,
        term: Term,
        first: MemberId,
        second: MemberId,
    },
    #[error("election quorum: {member:?} leads in term {term} with the votes of {votes} of {voters}")]
    FewVotes {
        member: MemberNumber,
        term: Term,
        votes: usize,
        voters: usize,
    },
    #[error(
        "configuration: {member:?} counts {found:?} after the change at {index}, where {expected:?} are right"
    )]
    WrongConfiguration {
        member: MemberNumber,
        index: Index,
        found: Configuration,
        expected: Vec<Configuration>,
    },
    #[error(
        "configuration: {member:?} leads in term {term} and appended a change at {second} before that at {first} was applied"
    )]
    ChangesOverlap {
        member: MemberNumber,
        term: Term,
        first: Index,
        second: Index,
    },
}

/// Who votes and who only learns.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "Raft's own words")]
pub struct Configuration {
    pub voters: Vec<MemberId>,
    pub learners: Vec<MemberId>,
}

/// Three indexes that must stand in this order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "Raft's own words")]
pub struct Stand {
    pub applied: Index,
    pub commit: Index,
    pub last: Index,
}

impl std::fmt::Display for Stand {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, {}, {}", self.applied, self.commit, self.last)
    }
}

/// What a message tells of the member that sent it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Told {
    /// Who it is.
    pub from: MemberId,
    /// The term that it is in.
    pub term: Term,
    /// Whom it votes for in that term, where it does.
    pub vote: Option<MemberId>,
}

/// A member after one of its steps: where its Raft stands, and its log from `view.first` on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seen {
    /// Where it stands.
    pub view: RaftView,
    /// The log in memory.
    pub log: Vec<LogEntry>,
}

impl Seen {
    fn entry(&self, index: Index) -> Option<&LogEntry> {
        let first = self.log.first()?.index;
        let at = index.0.checked_sub(first.0)?;
        self.log.get(usize::try_from(at).ok()?)
    }

    fn leads(&self) -> bool {
        self.view.part == Part::Leader
    }

    fn stand(&self) -> Stand {
        Stand {
            applied: self.view.applied,
            commit: self.view.commit,
            last: self.view.last,
        }
    }
}

/// A step: the member before, unless this is its first since a start, and after.
struct Observation<'a> {
    member: MemberNumber,
    before: Option<&'a Seen>,
    now: &'a Seen,
}

/// All of them.
#[derive(Debug)]
pub struct Invariants {
    seen: Vec<Option<Seen>>,
    leaders: election_safety::Leaders,
    entries: log_matching::Entries,
    committed: state_machine_safety::Committed,
    terms: term::Terms,
    votes: vote::Votes,
    ballots: election_quorum::Ballots,
    configurations: configuration::Configurations,
    snapshots: u64,
}

impl Invariants {
    /// For so many members.
    #[must_use]
    pub fn new(members: usize) -> Self {
        Invariants {
            seen: vec![None; members],
            leaders: election_safety::Leaders::default(),
            entries: log_matching::Entries::default(),
            committed: state_machine_safety::Committed::default(),
            terms: term::Terms::new(members),
            votes: vote::Votes::default(),
            ballots: election_quorum::Ballots::default(),
            configurations: configuration::Configurations::default(),
            snapshots: 0,
        }
    }

    /// Takes a member in after one of its steps.
    pub fn observe(&mut self, member: MemberNumber, now: Seen) -> Vec<Breach> {
        let before = self.seen[member.0].take();
        let step = Observation {
            member,
            before: before.as_ref(),
            now: &now,
        };
        // A log that begins behind where it ended can only have come with a snapshot.
        if step
            .before
            .is_some_and(|before| now.view.first.0 > before.view.last.0 + 1)
        {
            self.snapshots += 1;
        }
        let mut found = Vec::new();
        found.extend(self.leaders.check(&step));
        found.extend(leader_append_only::check(&step));
        found.extend(self.entries.check(&step));
        found.extend(self.committed.check(&step));
        found.extend(leader_completeness::check(&step, &self.committed));
        found.extend(commit_index::check(&step));
        found.extend(self.terms.check(&step));
        found.extend(self.votes.check(&step));
        found.extend(self.ballots.check(&step));
        found.extend(self.configurations.check(&step, &self.committed));
        self.seen[member.0] = Some(now);
        found
    }

    /// Takes a message in that a member sends.
    pub fn told(&mut self, member: MemberNumber, told: Told) -> Option<Breach> {
        self.terms.told(member, told);
        self.ballots.told(told);
        self.votes.told(member, told)
    }

    /// A member has lost its memory.
    pub fn restarted(&mut self, member: MemberNumber) {
        let before = self.seen[member.0].take();
        if before.is_none_or(|before| before.view.voters == [before.view.member]) {
            // A lone voter leads before its term is durable, since nobody can hear of it: it may lead in it again.
            self.entries.forget_after(self.committed.last());
        }
    }

    /// A member has lost its disk, and with it what it has promised.
    pub fn wiped(&mut self, member: MemberNumber) {
        self.restarted(member);
        self.terms.wiped(member);
        self.votes.wiped(member);
    }

    /// Where a member stood after its last step, if it has made one since its start.
    #[must_use]
    pub fn seen(&self, member: MemberNumber) -> Option<&RaftView> {
        self.seen[member.0].as_ref().map(|seen| &seen.view)
    }

    /// Who leads in the highest term, as far as the members themselves know.
    #[must_use]
    pub fn leader(&self) -> Option<MemberNumber> {
        let leaders = (0..self.seen.len()).map(MemberNumber).filter_map(|member| {
            let view = self.seen(member).filter(|view| view.part == Part::Leader)?;
            Some((view.term, member))
        });
        leaders.max().map(|(_, member)| member)
    }

    /// How many membership changes took effect.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.configurations.count()
    }

    /// The last index that anybody has committed.
    #[must_use]
    pub fn committed(&self) -> Index {
        self.committed.last()
    }

    /// How many terms had a leader.
    #[must_use]
    pub fn elections(&self) -> u64 {
        self.leaders.count()
    }

    /// How many snapshots were installed.
    #[must_use]
    pub const fn snapshots(&self) -> u64 {
        self.snapshots
    }
}

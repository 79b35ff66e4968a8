//! The in-memory tail of the log: what raft-rs reads back. The log on disk is the log writer's; entries enter the
//! tail before they are durable (raft-rs demands it) and leave it once applied and no longer wanted for members
//! that lag, bounded by count and by bytes.

use std::collections::VecDeque;

use raft::eraftpb::{ConfState, Entry, EntryType, HardState, Snapshot};
use raft::{GetEntriesContext, RaftState, Storage, StorageError};

use super::effect::{LogEntry, LogState};
use crate::types::{EntryKind, Index, MemberId, Term};

/// How much of the applied log stays in memory.
#[derive(Clone, Copy, Debug)]
pub struct TailLimits {
    /// Applied entries kept (`--snapshot-catchup-entries`).
    pub entries_max: usize,
    /// Bytes of applied entries kept.
    pub bytes_max: usize,
    /// Bytes of applied entries kept at most for a member that is connected and still needs them.
    pub held_bytes_max: usize,
}

/// The tail: entries `first..=last`, and the term of the entry before them.
///
/// Invariants: indexes are consecutive; terms never decrease; `bytes` is the sum of the entries' data.
#[derive(Debug)]
pub struct Tail {
    before: Index,
    before_term: Term,
    entries: VecDeque<Entry>,
    bytes: usize,
    hard_state: HardState,
    voters: Vec<u64>,
    learners: Vec<u64>,
    /// The last membership change known to be committed, or a later index: what a snapshot must hold, so that whoever
    /// gets it finds itself among the members.
    changed_at: Index,
    /// The members are no longer those who founded the cluster: the log cannot begin with its first entry, since a
    /// member that replayed it from there would not know who those were.
    changed: bool,
    limits: TailLimits,
}

impl Tail {
    /// A tail that begins after `before` (index and term of the last entry that is not in it).
    #[must_use]
    pub fn new(
        before: Index,
        before_term: Term,
        voters: &[MemberId],
        learners: &[MemberId],
        limits: TailLimits,
    ) -> Self {
        Tail {
            before,
            before_term,
            entries: VecDeque::new(),
            bytes: 0,
            hard_state: HardState::default(),
            voters: voters.iter().map(|member| member.0).collect(),
            learners: learners.iter().map(|member| member.0).collect(),
            changed_at: before,
            changed: false,
            limits,
        }
    }

    /// Fills the tail from a replayed log, whose entries up to `applied` the state holds.
    pub fn restore(&mut self, entries: Vec<LogEntry>, state: LogState, applied: Index) {
        let committed = state.commit.max(applied);
        let changes = entries.iter().filter(|entry| entry.kind == EntryKind::Change);
        let changed_at = changes
            .map(|entry| entry.index)
            .filter(|index| *index <= committed);
        // What is applied may hold changes from before the entries at hand.
        self.changed_at = self
            .changed_at
            .max(applied)
            .max(changed_at.max().unwrap_or_default());
        self.append(&entries.into_iter().map(from_log).collect::<Vec<_>>());
        self.hard_state.term = state.term.0;
        self.hard_state.vote = state.vote.0;
        // raft-rs refuses a commit index beyond the log: after a lost tail the log is the truth. And what is applied
        // was committed, though the log may have been told so later.
        self.hard_state.commit = state.commit.0.clamp(applied.0, self.last().0);
    }

    /// Appends entries, replacing those of the same and later indexes.
    pub(super) fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        assert!(
            first.index > self.before.0 && first.index <= self.last().0 + 1,
            "append at {} to a log of {}..={}",
            first.index,
            self.before.0 + 1,
            self.last().0
        );
        while self.last().0 >= first.index {
            let dropped = self.entries.pop_back().expect("last() counts the entries");
            self.bytes -= dropped.data.len();
        }
        for entry in entries {
            self.bytes += entry.data.len();
            self.entries.push_back(entry.clone());
        }
    }

    /// Drops applied entries beyond the limits; `applied` and everything after it stays, and from `needed` on what
    /// the larger limit allows.
    pub(super) fn trim(&mut self, applied: Index, needed: Index) {
        while let Some(first) = self.entries.front() {
            let applied_kept = applied.0.saturating_sub(self.before.0);
            let within =
                applied_kept <= self.limits.entries_max as u64 && self.bytes <= self.limits.bytes_max;
            let held = first.index >= needed.0 && self.bytes <= self.limits.held_bytes_max;
            let barred = self.changed && self.before == Index(0);
            if (!barred && (within || held)) || first.index >= applied.0 {
                return;
            }
            self.before = Index(first.index);
            self.before_term = Term(first.term);
            self.bytes -= first.data.len();
            self.entries.pop_front();
        }
    }

    /// Begins anew after a snapshot that ends with the entry of this index and term.
    pub(super) fn restart(&mut self, index: Index, term: Term, conf_state: &ConfState) {
        self.before = index;
        self.before_term = term;
        self.entries.clear();
        self.bytes = 0;
        self.changed_at = index;
        self.members(conf_state);
    }

    /// A membership change is applied: the members are these from its index on.
    pub(super) fn change(&mut self, index: Index, conf_state: &ConfState) {
        self.changed_at = index;
        self.changed = true;
        self.members(conf_state);
    }

    fn members(&mut self, conf_state: &ConfState) {
        self.voters = conf_state.get_voters().to_vec();
        self.learners = conf_state.get_learners().to_vec();
    }

    /// Whether a member votes.
    pub(super) fn is_voter(&self, member: MemberId) -> bool {
        self.voters.contains(&member.0)
    }

    /// The members that vote.
    pub(super) fn voters(&self) -> &[u64] {
        &self.voters
    }

    /// The members that only learn.
    pub(super) fn learners(&self) -> &[u64] {
        &self.learners
    }

    /// The index before the first entry in memory.
    pub(super) fn before(&self) -> Index {
        self.before
    }

    /// The index of the last entry.
    #[must_use]
    pub fn last(&self) -> Index {
        Index(self.before.0 + self.entries.len() as u64)
    }

    /// The first index, and the entries from `from` on.
    pub(super) fn from(&self, from: Index) -> (Index, Vec<LogEntry>) {
        let entries = self.entries.iter().filter(|entry| entry.index >= from.0);
        (
            self.before.next(),
            entries.map(|entry| to_log(entry.clone())).collect(),
        )
    }

    fn conf_state(&self) -> ConfState {
        let mut conf_state = ConfState::default();
        conf_state.set_voters(self.voters.clone());
        conf_state.set_learners(self.learners.clone());
        conf_state
    }

    fn at(&self, index: u64) -> Option<&Entry> {
        let offset = index.checked_sub(self.before.0 + 1)?;
        self.entries.get(usize::try_from(offset).ok()?)
    }
}

pub(super) fn from_log(entry: LogEntry) -> Entry {
    Entry {
        entry_type: to_type(entry.kind),
        term: entry.term.0,
        index: entry.index.0,
        data: entry.data,
        ..Entry::default()
    }
}

pub(super) fn to_log(entry: Entry) -> LogEntry {
    LogEntry {
        kind: kind_of(&entry),
        term: Term(entry.term),
        index: Index(entry.index),
        data: entry.data,
    }
}

pub(super) fn to_type(kind: EntryKind) -> EntryType {
    match kind {
        EntryKind::Request => EntryType::EntryNormal,
        EntryKind::Change => EntryType::EntryConfChange,
    }
}

/// What an entry holds. Nobody makes entries of Raft's third type, which begin or end joint configurations.
pub(super) fn kind_of(entry: &Entry) -> EntryKind {
    match entry.get_entry_type() {
        EntryType::EntryNormal => EntryKind::Request,
        EntryType::EntryConfChange | EntryType::EntryConfChangeV2 => EntryKind::Change,
    }
}

impl Storage for Tail {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState::new(self.hard_state.clone(), self.conf_state()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low <= self.before.0 {
            return Err(raft::Error::Store(StorageError::Compacted));
        }
        assert!(
            high <= self.last().0 + 1,
            "entries {low}..{high} of a log that ends at {}",
            self.last()
        );
        let max_bytes = max_size.into().unwrap_or(u64::MAX);
        let mut bytes = 0;
        let mut found = Vec::new();
        for index in low..high {
            let Some(entry) = self.at(index) else { break };
            bytes += entry.data.len() as u64;
            if bytes > max_bytes && !found.is_empty() {
                break;
            }
            found.push(entry.clone());
        }
        Ok(found)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index == self.before.0 {
            return Ok(self.before_term.0);
        }
        if index < self.before.0 {
            return Err(raft::Error::Store(StorageError::Compacted));
        }
        self.at(index)
            .map(|entry| entry.term)
            .ok_or(raft::Error::Store(StorageError::Unavailable))
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.before.0 + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last().0)
    }

    /// Only what is the least that helps: the node makes a wish of it, and the snapshot itself goes another way.
    fn snapshot(&self, request_index: u64, _: u64) -> raft::Result<Snapshot> {
        let mut snapshot = Snapshot::default();
        let metadata = snapshot.mut_metadata();
        metadata.index = request_index.max(self.before.0).max(self.changed_at.0).max(1);
        metadata.term = self.before_term.0;
        *metadata.mut_conf_state() = self.conf_state();
        Ok(snapshot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn tail(entries_max: usize, bytes_max: usize) -> Tail {
        Tail::new(
            Index(10),
            Term(2),
            &[MemberId(1)],
            &[],
            TailLimits {
                entries_max,
                bytes_max,
                held_bytes_max: 100,
            },
        )
    }

    fn entries(range: std::ops::RangeInclusive<u64>, term: u64) -> Vec<Entry> {
        range
            .map(|index| {
                from_log(LogEntry {
                    term: Term(term),
                    index: Index(index),
                    kind: EntryKind::Request,
                    data: Bytes::from_static(b"0123456789"),
                })
            })
            .collect()
    }

    #[test]
    fn an_append_replaces_what_it_overlaps() {
        let mut tail = tail(100, 1 << 20);
        tail.append(&entries(11..=15, 2));
        tail.append(&entries(13..=14, 3));
        assert_eq!(tail.last(), Index(14));
        assert_eq!((tail.term(12).unwrap(), tail.term(13).unwrap()), (2, 3));
        assert_eq!(tail.term(10).unwrap(), 2);
        assert!(tail.term(9).is_err());
        assert_eq!(tail.bytes, 40);
    }

    #[test]
    fn trimming_keeps_the_limits_and_never_what_is_not_applied() {
        let mut tail = tail(3, 1 << 20);
        tail.append(&entries(11..=30, 2));
        tail.trim(Index(20), Index(u64::MAX));
        assert_eq!(tail.first_index().unwrap(), 18);
        let mut tail = self::tail(1000, 1);
        tail.append(&entries(11..=30, 2));
        tail.trim(Index(20), Index(u64::MAX));
        assert_eq!(
            tail.first_index().unwrap(),
            20,
            "the applied entry itself stays, for its term"
        );
    }

    #[test]
    fn what_a_connected_member_needs_is_held_up_to_a_larger_limit() {
        let mut tail = tail(3, 1 << 20);
        tail.append(&entries(11..=20, 2));
        tail.trim(Index(20), Index(14));
        assert_eq!(tail.first_index().unwrap(), 14);
        tail.append(&entries(21..=30, 2));
        tail.trim(Index(30), Index(14));
        assert_eq!(tail.first_index().unwrap(), 21, "ten entries are 100 bytes");
    }

    #[test]
    fn a_log_of_changed_members_does_not_begin_with_its_first_entry() {
        let mut tail = Tail::new(
            Index(0),
            Term(0),
            &[MemberId(1)],
            &[],
            TailLimits {
                entries_max: 100,
                bytes_max: 1 << 20,
                held_bytes_max: 1 << 20,
            },
        );
        tail.append(&entries(1..=4, 1));
        tail.trim(Index(3), Index(1));
        assert_eq!(tail.first_index().unwrap(), 1);
        let mut conf_state = ConfState::default();
        conf_state.set_voters(vec![1, 2]);
        tail.change(Index(4), &conf_state);
        tail.trim(Index(4), Index(1));
        assert_eq!(tail.first_index().unwrap(), 2);
        let wanted = tail.snapshot(0, 2).unwrap();
        assert_eq!(wanted.get_metadata().index, 4, "it holds the change");
    }

    #[test]
    fn a_commit_index_beyond_the_log_is_clamped() {
        let mut tail = tail(3, 1 << 20);
        tail.restore(
            Vec::new(),
            LogState {
                term: Term(3),
                vote: MemberId(1),
                commit: Index(99),
            },
            Index(10),
        );
        assert_eq!(tail.initial_state().unwrap().hard_state.commit, 10);
    }

    #[test]
    fn a_tail_from_before_what_is_applied_counts_that_as_committed() {
        let mut tail = tail(100, 1 << 20);
        tail.restore(
            entries(11..=20, 2).into_iter().map(to_log).collect(),
            LogState {
                term: Term(2),
                vote: MemberId(1),
                commit: Index(12),
            },
            Index(17),
        );
        assert_eq!(tail.initial_state().unwrap().hard_state.commit, 17);
        assert_eq!(
            (tail.first_index().unwrap(), tail.last_index().unwrap()),
            (11, 20)
        );
    }
}

//! Batches of linearizable reads: all that wait share one read index round, and one that arrives while a round runs
//! waits for the next, since the running round's index may lie below a write that was acknowledged before the read
//! began (thesis section 6.4). Contexts are never reused (see DESIGN section 3: a reused one can confirm a stale
//! read); a round without an answer is given up after a while and its readers join a fresh context, because raft-rs
//! drops a request silently while there is no leader or no committed entry of its term.

use crate::env::Instant;
use crate::types::Index;

/// Readers `T` between "asked" and "index applied".
#[derive(Debug)]
pub struct ReadRounds<T> {
    next_context: u64,
    waiting: Vec<T>,
    running: Option<Round<T>>,
    /// Rounds that have their index and wait for it to be applied, by ascending index.
    confirmed: Vec<(Index, Vec<T>)>,
    /// All rounds ask under one context: a bug for simulations to find.
    #[cfg(any(test, feature = "sim"))]
    reuses_contexts: bool,
}

#[derive(Debug)]
struct Round<T> {
    context: u64,
    began: Instant,
    readers: Vec<T>,
}

impl<T> ReadRounds<T> {
    /// No readers. `first_context` begins this process's contexts. They may repeat those of an earlier process: the
    /// node sends each one with the process that asks under it, and takes no answer that names another.
    #[must_use]
    pub fn new(first_context: u64) -> Self {
        ReadRounds {
            next_context: first_context,
            waiting: Vec::new(),
            running: None,
            confirmed: Vec::new(),
            #[cfg(any(test, feature = "sim"))]
            reuses_contexts: false,
        }
    }

    /// Plants a bug: from now on all rounds ask under one context.
    #[cfg(any(test, feature = "sim"))]
    pub fn reuse_contexts(&mut self) {
        self.reuses_contexts = true;
    }

    /// A reader arrives.
    pub fn join(&mut self, reader: T) {
        self.waiting.push(reader);
    }

    /// Begins a round if readers wait and none runs; returns the context to ask under.
    pub fn begin(&mut self, now: Instant) -> Option<u64> {
        if self.running.is_some() || self.waiting.is_empty() {
            return None;
        }
        let context = self.next_context;
        self.next_context = self.next_context.wrapping_add(1);
        #[cfg(any(test, feature = "sim"))]
        if self.reuses_contexts {
            self.next_context = context;
        }
        self.running = Some(Round {
            context,
            began: now,
            readers: std::mem::take(&mut self.waiting),
        });
        Some(context)
    }

    /// Whether readers wait for a round to begin.
    #[must_use]
    pub fn can_begin(&self) -> bool {
        self.running.is_none() && !self.waiting.is_empty()
    }

    /// Gives up a round that began before `deadline`; its readers wait for the next one. Returns the context of such a
    /// round.
    pub fn give_up(&mut self, deadline: Instant) -> Option<u64> {
        let mut round = self.running.take_if(|round| round.began < deadline)?;
        round.readers.append(&mut self.waiting);
        self.waiting = round.readers;
        Some(round.context)
    }

    /// The round of `context` has its index. A context given up is ignored.
    pub fn confirm(&mut self, context: u64, index: Index) {
        if let Some(round) = self.running.take_if(|round| round.context == context) {
            // Not always the last: an index may come from a member that is further than this one's next round.
            let place = self.confirmed.partition_point(|(before, _)| *before <= index);
            self.confirmed.insert(place, (index, round.readers));
        }
    }

    /// A reader that needs no round, only what is applied up to `index`.
    pub fn join_at(&mut self, index: Index, reader: T) {
        let place = self.confirmed.partition_point(|(before, _)| *before <= index);
        self.confirmed.insert(place, (index, vec![reader]));
    }

    /// The readers that may go on now that everything up to `applied` is applied.
    pub fn take_applied(&mut self, applied: Index, out: &mut Vec<T>) {
        let mut ready = 0;
        while self
            .confirmed
            .get(ready)
            .is_some_and(|(index, _)| *index <= applied)
        {
            ready += 1;
        }
        for (_, readers) in self.confirmed.drain(..ready) {
            out.extend(readers);
        }
    }

    /// Takes all readers out, whatever they wait for: the leader changed, or the store stops.
    pub fn take_all(&mut self, out: &mut Vec<T>) {
        out.append(&mut self.waiting);
        if let Some(round) = self.running.take() {
            out.extend(round.readers);
        }
        for (_, readers) in self.confirmed.drain(..) {
            out.extend(readers);
        }
    }

    /// Readers in all stages.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len()
            + self.running.as_ref().map_or(0, |round| round.readers.len())
            + self
                .confirmed
                .iter()
                .map(|(_, readers)| readers.len())
                .sum::<usize>()
    }

    /// Whether nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes out the readers, in any stage, that `expired` says have waited too long.
    pub fn take_expired(&mut self, mut expired: impl FnMut(&T) -> bool, out: &mut Vec<T>) {
        let running = self.running.iter_mut().map(|round| &mut round.readers);
        let confirmed = self.confirmed.iter_mut().map(|(_, readers)| readers);
        for readers in std::iter::once(&mut self.waiting).chain(running).chain(confirmed) {
            out.extend(readers.extract_if(.., |reader| expired(reader)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_arrives_during_a_round_waits_for_the_next() {
        let mut rounds = ReadRounds::new(7);
        rounds.join("a");
        assert_eq!(rounds.begin(Instant(0)), Some(7));
        rounds.join("b");
        assert_eq!(rounds.begin(Instant(0)), None);
        rounds.confirm(7, Index(5));
        let mut out = Vec::new();
        rounds.take_applied(Index(4), &mut out);
        assert!(out.is_empty());
        rounds.take_applied(Index(5), &mut out);
        assert_eq!(out, ["a"]);
        assert_eq!(rounds.begin(Instant(1)), Some(8));
    }

    #[test]
    fn a_round_given_up_asks_again_under_a_fresh_context_and_ignores_the_late_answer() {
        let mut rounds = ReadRounds::new(1);
        rounds.join("a");
        rounds.begin(Instant(0));
        assert!(rounds.give_up(Instant(0)).is_none());
        assert!(rounds.give_up(Instant(1)).is_some());
        assert_eq!(rounds.begin(Instant(2)), Some(2));
        rounds.confirm(1, Index(1));
        let mut out = Vec::new();
        rounds.take_applied(Index(9), &mut out);
        assert!(out.is_empty());
        rounds.confirm(2, Index(3));
        rounds.take_applied(Index(9), &mut out);
        assert_eq!(out, ["a"]);
        assert!(rounds.is_empty());
    }
}

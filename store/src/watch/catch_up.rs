//! Catching up: passes over the watchers that are behind, from memory or from history reads.
//!
//! A pass takes a bounded number of watchers, the streams in turn and never more of one stream than its sink has
//! room for, and walks once over the revisions they need together. What is older than memory is asked for in reads
//! that serve every watcher of the pass whose position lies within.

use super::batch::{Batch, Limits};
use super::hub::Hub;
use super::interval::IntervalIndex;
use super::slab::{Slot, Ticket};
use super::watcher::State;
use super::{Effect, HistoryView, ReadToken};
use crate::types::SharedRevision;

/// A history read under way.
pub(super) struct Read {
    /// The last revision asked for.
    to: i64,
    /// Whom the answer serves.
    tickets: Vec<Ticket>,
}

impl Hub {
    /// One pass.
    pub(super) fn catch_up(&mut self, view: &dyn HistoryView, effects: &mut Vec<Effect>) {
        self.more = false;
        if self.attention.is_empty() {
            return;
        }
        let (compacted, recent_first) = (view.compacted(), view.recent_first());
        let (mut recent, mut old) = (Vec::new(), Vec::new());
        for slot in self.choose() {
            let Some(watcher) = self.watchers.get(slot) else {
                continue;
            };
            if watcher.next < compacted {
                self.cancel_compacted(slot, compacted);
            } else if watcher.next >= recent_first {
                recent.push(slot);
            } else {
                old.push(slot);
            }
        }
        let served = self.serve_recent(recent, view);
        let asked = self.ask_history(old, recent_first, effects);
        let servable = |slot: &Slot| {
            let stream = self.streams.get(*slot);
            stream.is_some_and(|stream| !stream.behind.is_empty() && stream.outlet.is_open())
        };
        self.more = (served || asked) && self.attention.iter().any(servable);
    }

    /// Takes the next watchers from the queues of streams with room; sends what waits on all of them.
    fn choose(&mut self) -> Vec<Slot> {
        let mut order: Vec<Slot> = self.attention.iter().copied().collect();
        if let Some(turn) = self.turn.take() {
            let first = order.partition_point(|&at| at < turn);
            order.rotate_left(first);
        }
        let mut chosen = Vec::new();
        for at in order {
            let Some(stream) = self.streams.get_mut(at) else {
                continue;
            };
            stream.outlet.flush();
            if chosen.len() >= self.config.pass_watchers_max {
                self.turn.get_or_insert(at);
            }
            let most = self
                .config
                .pass_watchers_max
                .min(chosen.len() + stream.outlet.room());
            while chosen.len() < most {
                let Some(ticket) = stream.behind.pop_front() else {
                    break;
                };
                chosen.extend(self.watchers.redeem(ticket));
            }
            if !stream.needs_attention() {
                self.attention.remove(&at);
            }
        }
        chosen
    }

    /// Serves watchers from the revisions in memory; whether any got further.
    fn serve_recent(&mut self, slots: Vec<Slot>, view: &dyn HistoryView) -> bool {
        let Some(from) = self.least_next(&slots) else {
            return false;
        };
        let to = self.revision.min(from + self.config.scan_revisions_max - 1);
        let revisions: Vec<SharedRevision> = (from..=to).map_while(|main| view.recent(main)).collect();
        let Some(to) = revisions.last().map(|revision| revision.main) else {
            slots.into_iter().for_each(|slot| self.queue(slot));
            return false;
        };
        let within = self.take_within(slots, to);
        self.serve(&within, &revisions, to, view.compacted());
        true
    }

    /// Asks for history for watchers older than memory; whether any read was begun.
    fn ask_history(&mut self, mut slots: Vec<Slot>, recent_first: i64, effects: &mut Vec<Effect>) -> bool {
        let mut asked = false;
        while self.reads.len() < self.config.reads_max {
            let Some(from) = self.least_next(&slots) else {
                return asked;
            };
            let to = (from + self.config.read_revisions_max - 1)
                .min(recent_first - 1)
                .min(self.revision);
            let within: Vec<Slot>;
            (within, slots) = slots.into_iter().partition(|&slot| self.next_of(slot) <= to);
            self.token += 1;
            let token = ReadToken(self.token);
            let mut with_previous = false;
            for &slot in &within {
                if let Some(watcher) = self.watchers.get_mut(slot) {
                    watcher.state = State::Reading(token);
                    with_previous |= watcher.prev_kv;
                }
            }
            let tickets = within
                .iter()
                .filter_map(|&slot| self.watchers.ticket(slot))
                .collect();
            self.reads.insert(token, Read { to, tickets });
            effects.push(Effect::ReadHistory {
                token,
                from,
                to,
                with_previous,
            });
            asked = true;
        }
        slots.into_iter().for_each(|slot| self.queue(slot));
        asked
    }

    /// Takes the answer of a read.
    pub(super) fn history(
        &mut self,
        token: ReadToken,
        answer: Result<Vec<SharedRevision>, i64>,
        view: &dyn HistoryView,
    ) {
        let Some(read) = self.reads.remove(&token) else {
            return;
        };
        let compacted = view.compacted().max(*answer.as_ref().err().unwrap_or(&i64::MIN));
        let mut live = Vec::new();
        for slot in read
            .tickets
            .into_iter()
            .filter_map(|ticket| self.watchers.redeem(ticket))
            .collect::<Vec<_>>()
        {
            if self.next_of(slot) < compacted {
                self.cancel_compacted(slot, compacted);
            } else {
                live.push(slot);
            }
        }
        match answer {
            Ok(revisions) => self.serve(&live, &revisions, read.to, compacted),
            Err(_) => live.into_iter().for_each(|slot| self.queue(slot)),
        }
    }

    /// Serves watchers from `revisions`, which hold all that is stored between the least of their positions and
    /// `to`.
    fn serve(&mut self, slots: &[Slot], revisions: &[SharedRevision], to: i64, compacted: i64) {
        let mut index = IntervalIndex::new(self.config.seed);
        for (number, slot) in slots.iter().enumerate() {
            if let Some(watcher) = self.watchers.get(*slot) {
                index.insert(&watcher.range, number);
            }
        }
        let limits = Limits {
            revisions_max: self.config.batch_revisions_max,
            compacted,
        };
        let mut batches: Vec<Batch> = slots.iter().map(|_| Batch::default()).collect();
        for revision in revisions {
            for (at, change) in revision.changes.iter().enumerate() {
                index.stab(&change.kv.key, &mut |number: usize| {
                    if let Some(watcher) = self.watchers.get(slots[number]) {
                        batches[number].add(watcher, revision, at, &limits);
                    }
                });
            }
        }
        for (&slot, batch) in slots.iter().zip(batches) {
            let next = batch.left_from.unwrap_or(to + 1);
            if batch.events.is_empty() {
                self.settle(slot, next);
            } else if self.has_room(slot) {
                self.send(slot, self.revision, batch.events);
                self.settle(slot, next);
            } else {
                self.queue(slot);
            }
        }
    }

    fn has_room(&self, slot: Slot) -> bool {
        let stream = self
            .watchers
            .get(slot)
            .and_then(|watcher| self.streams.get(watcher.stream));
        stream.is_some_and(|stream| stream.outlet.is_open())
    }

    /// Keeps the watchers that revisions up to `to` help, and queues the others again.
    fn take_within(&mut self, slots: Vec<Slot>, to: i64) -> Vec<Slot> {
        let (within, beyond): (Vec<Slot>, Vec<Slot>) =
            slots.into_iter().partition(|&slot| self.next_of(slot) <= to);
        beyond.into_iter().for_each(|slot| self.queue(slot));
        within
    }

    fn least_next(&self, slots: &[Slot]) -> Option<i64> {
        slots
            .iter()
            .filter_map(|&slot| self.watchers.get(slot))
            .map(|watcher| watcher.next)
            .min()
    }

    fn next_of(&self, slot: Slot) -> i64 {
        self.watchers.get(slot).map_or(i64::MAX, |watcher| watcher.next)
    }
}

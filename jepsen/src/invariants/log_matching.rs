//! Log Matching (thesis figure 3.2; TLA+ `LogMatching`): if two logs contain an entry with the same index and term, then
//! the logs are identical in all entries up through the given index. By induction that is: one index and term is one
//! entry, with one term before it.

use std::collections::BTreeMap;

use store::consensus::LogEntry;
use store::types::{Index, Term};

use super::{Breach, Observation, Seen};

/// What stands under an index and a term, whoever has it.
#[derive(Debug, Default)]
pub(super) struct Entries(BTreeMap<(Index, Term), Known>);

#[derive(Debug)]
struct Known {
    entry: LogEntry,
    /// Where it was seen.
    term_before: Option<Term>,
}

impl Entries {
    pub(super) fn check(&mut self, step: &Observation<'_>) -> Option<Breach> {
        let new =
            |entry: &&LogEntry| step.before.and_then(|before| before.entry(entry.index)) != Some(*entry);
        step.now.log.iter().filter(new).find_map(|entry| {
            let (index, term) = (entry.index, entry.term);
            (!self.fits(entry, term_before(step.now, index))).then_some(Breach::LogMismatch {
                member: step.member,
                index,
                term,
            })
        })
    }

    /// Forgets what stands behind an index.
    pub(super) fn forget_after(&mut self, last: Index) {
        self.0.retain(|(index, _), _| *index <= last);
    }

    fn fits(&mut self, entry: &LogEntry, term_before: Option<Term>) -> bool {
        let known = self.0.entry((entry.index, entry.term)).or_insert_with(|| Known {
            entry: entry.clone(),
            term_before,
        });
        let same_past = match (known.term_before, term_before) {
            (Some(known), Some(found)) => known == found,
            _ => true,
        };
        known.term_before = known.term_before.or(term_before);
        same_past && known.entry == *entry
    }
}

fn term_before(seen: &Seen, index: Index) -> Option<Term> {
    let before = Index(index.0.checked_sub(1)?);
    seen.entry(before).map(|entry| entry.term)
}

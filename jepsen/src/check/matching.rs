//! Which unanswered write made which revision: a matching in which no write is used twice.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::CallId;

/// For each revision the calls that can have made it.
pub(super) type Explanations = BTreeMap<i64, Vec<CallId>>;

/// Gives each revision a call of its own; where that is impossible, a revision that goes without.
pub(super) fn assign(explanations: &Explanations) -> Result<BTreeMap<CallId, i64>, i64> {
    let mut taken = BTreeMap::new();
    for revision in explanations.keys() {
        if !place(*revision, explanations, &mut taken, &mut BTreeSet::new()) {
            return Err(*revision);
        }
    }
    Ok(taken)
}

/// Finds a call for a revision, moving others to other calls where needed (an augmenting path).
fn place(
    revision: i64,
    explanations: &Explanations,
    taken: &mut BTreeMap<CallId, i64>,
    visited: &mut BTreeSet<CallId>,
) -> bool {
    for call in explanations.get(&revision).into_iter().flatten() {
        if !visited.insert(*call) {
            continue;
        }
        let free = match taken.get(call).copied() {
            None => true,
            Some(other) => place(other, explanations, taken, visited),
        };
        if free {
            taken.insert(*call, revision);
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_earlier_choice_gives_way() {
        let (a, b) = (CallId(0), CallId(1));
        let explanations = BTreeMap::from([(2, vec![a, b]), (3, vec![a])]);
        assert_eq!(assign(&explanations), Ok(BTreeMap::from([(a, 3), (b, 2)])));
    }

    #[test]
    fn two_revisions_need_two_writes() {
        let explanations = BTreeMap::from([(2, vec![CallId(0)]), (3, vec![CallId(0)])]);
        assert_eq!(assign(&explanations), Err(3));
    }
}

//! Finds out what happened where nobody wrote it down: fills the revisions that no answer claims with writes that
//! were never answered, or with ends of leases, so that everything after them makes sense.

use std::collections::BTreeSet;

use proto::mvccpb::Event;

use super::linearizable::Options;
use super::observed::View;
use super::replay::{check_answer, check_reader, may_end};
use super::{Truth, Violation};
use crate::history::CallId;
use crate::model::Model;

/// The outcome of the search.
pub(super) enum Resolution {
    /// A history that fits all answers.
    Found(Truth),
    /// No history does; the contradiction that the longest one ran into.
    Contradiction(Violation),
    /// Too many possibilities.
    GivenUp,
}

pub(super) fn resolve(view: &View<'_>, options: &Options) -> Resolution {
    let mut search = Search {
        view,
        options,
        steps: options.steps_max,
        deepest: None,
    };
    let branch = Branch {
        model: view.model(),
        used: BTreeSet::new(),
        events: Vec::new(),
    };
    if let Some(events) = search.descend(branch) {
        match Truth::new(events) {
            Ok(truth) => Resolution::Found(truth),
            Err(violation) => Resolution::Contradiction(violation),
        }
    } else {
        match search.deepest {
            Some((_, violation)) if search.steps > 0 => Resolution::Contradiction(violation),
            _ => Resolution::GivenUp,
        }
    }
}

/// One possible past.
#[derive(Clone)]
struct Branch {
    model: Model,
    used: BTreeSet<CallId>,
    events: Vec<Event>,
}

struct Search<'a> {
    view: &'a View<'a>,
    options: &'a Options,
    steps: usize,
    /// The contradiction at the highest revision reached.
    deepest: Option<(i64, Violation)>,
}

impl Search<'_> {
    /// Follows a branch to the newest revision, trying every filling of a gap in turn. Recursion is as deep as there are
    /// gaps.
    fn descend(&mut self, mut branch: Branch) -> Option<Vec<Event>> {
        loop {
            let revision = branch.model.revision();
            for reader in self.view.readers.get(&revision).into_iter().flatten() {
                if let Some(violation) = check_reader(self.view, &mut branch.model, reader) {
                    return self.fail(revision, violation);
                }
            }
            if revision >= self.view.last {
                return Some(branch.events);
            }
            let Some(writer) = self.view.writers.get(&(revision + 1)) else {
                break;
            };
            if let Some(violation) = check_answer(&mut branch.model, writer) {
                return self.fail(revision + 1, violation);
            }
            // The answer fits, so the write applies; it may still have changed nothing.
            let events = branch
                .model
                .apply(&writer.call.operation)
                .map(|applied| applied.events);
            branch.events.extend(events.unwrap_or_default());
            if branch.model.revision() == revision {
                return self.fail(
                    revision + 1,
                    Violation::UnexplainedRevision {
                        revision: revision + 1,
                    },
                );
            }
        }
        self.fill(&branch)
    }

    fn fill(&mut self, branch: &Branch) -> Option<Vec<Event>> {
        let revision = branch.model.revision() + 1;
        let view = self.view;
        for (id, call) in &view.unknown_writes {
            if branch.used.contains(id) || view.floors[id.0].revision >= revision {
                continue;
            }
            let mut next = branch.clone();
            let Ok(applied) = next.model.apply(&call.operation) else {
                continue;
            };
            if next.model.revision() == revision {
                next.used.insert(*id);
                next.events.extend(applied.events);
                self.steps = self.steps.checked_sub(1)?;
                if let Some(found) = self.descend(next) {
                    return Some(found);
                }
            }
        }
        let leases: Vec<i64> = branch.model.leases().collect();
        for lease in leases
            .into_iter()
            .filter(|lease| may_end(view, *lease, revision, self.options))
        {
            let mut next = branch.clone();
            next.events.extend(next.model.delete_keys_of_lease(lease));
            if next.model.revision() == revision {
                self.steps = self.steps.checked_sub(1)?;
                if let Some(found) = self.descend(next) {
                    return Some(found);
                }
            }
        }
        self.fail(revision, Violation::UnexplainedRevision { revision })
    }

    fn fail(&mut self, revision: i64, violation: Violation) -> Option<Vec<Event>> {
        if self
            .deepest
            .as_ref()
            .is_none_or(|(deepest, _)| revision > *deepest)
        {
            self.deepest = Some((revision, violation));
        }
        None
    }
}

//! Linearizable: there is one order of all operations in which every answer is right and which respects real time.
//!
//! In general that is a search. etcd's answers make it a calculation: every write returns the revision it made and
//! every read the revision it saw, so the order is known up to operations that change no key. What is left to check:
//!
//! 1. Order: no two writes share a revision; no call that began after another one had returned revision R is answered
//!    at an older one (a write: at R or an older one). A serializable read may be old, but what it showed is a fact.
//! 2. Replay: put through the model in order of revisions, each write has exactly the answer and the events that were seen, and
//!    each read shows the state of its revision.
//! 3. Every revision was made by something: an acknowledged write, the end of a lease, or a write without an answer, each
//!    used once at most. The truth tells which; where no truth was recorded, a search finds a choice that fits.
//! 4. Refusals (compacted, future revision, key not found) were right in some state between begin and end of the
//!    call.
//!
//! Left open, because the record cannot tell: whether a lease was still alive (its end may go unseen where it has no
//! keys; what the record does prove about revoked leases is checked), and what a serializable read was refused.

use super::observed::View;
use super::{Truth, Violation, matching, refusals, replay, search, truth};
use crate::history::{Call, History};
use crate::model::{Answer, Request};

/// A call to the store.
pub type KvCall = Call<Request, Answer>;

/// All calls to the store in one run.
pub type KvHistory = History<Request, Answer>;

/// What the checker may assume.
#[derive(Clone, Debug)]
pub struct Options {
    /// Leases may have expired during the run; otherwise only a revoke ends one.
    pub leases_expire: bool,
    /// Without a truth: how many writes the search may try.
    pub steps_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            leases_expire: true,
            steps_max: 100_000,
        }
    }
}

/// The result.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Report {
    /// What is wrong; empty where the history is linearizable.
    pub violations: Vec<Violation>,
    /// The search gave up, so an absence of violations means nothing.
    pub undecided: bool,
    /// How many answered calls were judged.
    pub answered: usize,
    /// How many revisions were made by calls without an answer, or by the end of a lease.
    pub unanswered_revisions: usize,
}

impl Report {
    /// Whether the history was judged and found right.
    #[must_use]
    pub const fn is_ok(&self) -> bool {
        self.violations.is_empty() && !self.undecided
    }
}

/// Judges a history, by the truth where there is one.
#[must_use]
pub fn check(history: &KvHistory, truth: Option<&Truth>, options: &Options) -> Report {
    let (view, violations) = View::new(history);
    let mut report = Report {
        violations,
        answered: view.observed.len(),
        ..Report::default()
    };
    // Revisions that contradict each other leave nothing to replay.
    if truth.is_none() && !report.violations.is_empty() {
        return report;
    }
    let searched;
    let truth = if let Some(truth) = truth {
        report.violations.extend(truth::check(truth));
        truth
    } else {
        match search::resolve(&view, options) {
            search::Resolution::Found(found) => {
                searched = found;
                &searched
            }
            search::Resolution::Contradiction(violation) => {
                report.violations.push(violation);
                return report;
            }
            search::Resolution::GivenUp => {
                report.undecided = true;
                return report;
            }
        }
    };
    let replayed = replay::check(&view, truth, options);
    report.violations.extend(replayed.violations);
    report.unanswered_revisions = replayed.unanswered_revisions;
    if let Err(revision) = matching::assign(&replayed.explanations) {
        report.violations.push(Violation::TooFewWrites { revision });
    }
    report.violations.extend(refusals::check(&view, truth));
    report
}

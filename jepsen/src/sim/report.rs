//! What came of a run: the record of what was seen, and the judgement.

use std::fmt;

use super::member::MemberNumber;
use crate::check::{self, KvHistory, Options, Truth, Violation};
use crate::history::WatchRecord;

/// What a run can fail by.
#[derive(Clone, PartialEq, Debug)]
pub enum Failure {
    /// The record contradicts a guarantee.
    Violation(Violation),
    /// The checker of linearizability could not judge.
    Undecided,
    /// A member could not start on its own disk.
    CannotStart(MemberNumber, String),
    /// A member stopped itself without need.
    Died(MemberNumber, String),
    /// After the trouble was over it did not become well in time.
    NoProgress {
        /// Calls still open.
        open_calls: usize,
        /// Whether the last write was answered and read back.
        probed: bool,
        /// Whether all watchers had what they are owed.
        watchers_caught_up: bool,
    },
}

/// What came of a run.
#[derive(Clone, PartialEq, Debug)]
pub struct RunReport {
    /// Its seed.
    pub seed: u64,
    /// The hash of its trace.
    pub trace: u64,
    /// The end of its trace.
    pub trace_end: Vec<String>,
    /// What went wrong.
    pub failures: Vec<Failure>,
    /// Steps of all members.
    pub steps: u64,
    /// Crashes of all members.
    pub crashes: u64,
    /// Answered calls.
    pub answered: u64,
    /// The newest revision.
    pub revisions: i64,
    /// Events that watchers got.
    pub watch_events: usize,
}

impl fmt::Display for RunReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "seed {}: {} steps, {} crashes, {} answers, revision {}, {} watch events, trace {:016x}, {} failures",
            self.seed,
            self.steps,
            self.crashes,
            self.answered,
            self.revisions,
            self.watch_events,
            self.trace,
            self.failures.len(),
        )?;
        for line in &self.trace_end {
            writeln!(f, "  {line}")?;
        }
        for failure in self.failures.iter().take(SHOWN_MAX) {
            let text = match failure {
                Failure::Violation(violation) => violation.to_string(),
                other => format!("{other:?}"),
            };
            // One bug makes many contradictions, and answers can be long: the first of each tell enough.
            let cut = text
                .char_indices()
                .nth(SHOWN_CHARS_MAX)
                .map_or(text.len(), |(at, _)| at);
            writeln!(f, "  {}", &text[..cut])?;
        }
        Ok(())
    }
}

/// What was seen in a run.
#[derive(Clone, PartialEq, Debug)]
pub struct Record {
    /// The calls.
    pub history: KvHistory,
    /// The watchers.
    pub watches: Vec<WatchRecord>,
    /// What the members applied.
    pub truth: Truth,
}

/// Judges the record of a run.
#[must_use]
pub fn judge(record: &Record) -> Vec<Failure> {
    let truth = &record.truth;
    let report = check::linearizable::check(&record.history, Some(truth), &Options::default());
    let mut failures: Vec<Failure> = report.violations.into_iter().map(Failure::Violation).collect();
    if report.undecided {
        failures.push(Failure::Undecided);
    }
    failures.extend(
        check::watches(&record.watches, truth)
            .into_iter()
            .map(Failure::Violation),
    );
    failures
}

/// How many failures a report shows, and how much of each.
const SHOWN_MAX: usize = 12;
const SHOWN_CHARS_MAX: usize = 400;

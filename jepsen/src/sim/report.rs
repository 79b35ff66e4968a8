//! What came of a run: the record of what was seen, and the judgement.

use std::fmt;

use proto::mvccpb::Event;

use super::clients::Server;
use super::member::{Fingerprint, MemberNumber};
use super::network::Traffic;
use super::world::Time;
use crate::check::lease_timing::Times;
use crate::check::{self, KvHistory, Options, Truth, Violation};
use crate::history::WatchRecord;
use crate::invariants::Breach;

/// What a run can fail by.
#[derive(Clone, PartialEq, Debug)]
pub enum Failure {
    /// The record contradicts a guarantee.
    Violation(Violation),
    /// Raft's promises to itself are broken.
    Breach(Breach),
    /// Two members applied different events as one revision.
    Diverged {
        /// Which revision.
        revision: i64,
        /// Who applied it first.
        first: MemberNumber,
        /// Who applied it otherwise.
        second: MemberNumber,
        /// As what the first.
        was: Vec<Event>,
        /// As what the second.
        is: Vec<Event>,
    },
    /// Two members have applied the same revisions and have different histories.
    StatesDiffer([(MemberNumber, Fingerprint); 2]),
    /// Leases that nobody renews any more do not expire.
    LeasesLeft(Vec<i64>),
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
        /// What was waited for.
        phase: String,
        /// Whether all watchers had what they are owed.
        watchers_caught_up: bool,
        /// Where the members stand.
        stands: Vec<String>,
    },
}

/// What came of a run.
#[derive(Clone, PartialEq, Debug)]
pub struct RunReport {
    /// Its seed.
    pub seed: u64,
    /// Its members.
    pub members: usize,
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
    /// Pauses of all members.
    pub pauses: u64,
    /// Partitions of the network.
    pub partitions: u64,
    /// Members that lost their disks.
    pub empty_disks: u64,
    /// Disks that were full for a while.
    pub full_disks: u64,
    /// Disks that changed what they held.
    pub rotten: u64,
    /// Of those the ones that their members refused.
    pub refusals: u64,
    /// Leaders asked to hand over.
    pub hand_overs: u64,
    /// Disks that stood still for a while.
    pub stalls: u64,
    /// Members that joined.
    pub joins: u64,
    /// Changes of users and roles that were answered.
    pub user_changes: u64,
    /// Membership changes.
    pub changes: u64,
    /// Terms with a leader.
    pub elections: u64,
    /// Snapshots that a member installed from another.
    pub snapshots: u64,
    /// What the network did.
    pub traffic: Traffic,
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
            "seed {}, {} members: {} steps, {} elections, {} snapshots, {} crashes, {} pauses, {} partitions, \
             {} hand-overs, {} stalls, {} empty disks, {} changes, {} joins, {} of {} messages lost, {} answers, revision {}, {} watch events, trace {:016x}, \
             {} failures",
            self.seed,
            self.members,
            self.steps,
            self.elections,
            self.snapshots,
            self.crashes,
            self.pauses,
            self.partitions,
            self.hand_overs,
            self.stalls,
            self.empty_disks,
            self.changes,
            self.joins,
            self.traffic.dropped,
            self.traffic.sent,
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
                Failure::Breach(breach) => breach.to_string(),
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
    /// By call: who served it.
    pub servers: Vec<Server>,
    /// The watchers.
    pub watches: Vec<WatchRecord>,
    /// What the members applied.
    pub truth: Truth,
    /// By revision from 2 on: when it was first applied, and by whom.
    pub applied: Vec<(Time, MemberNumber)>,
    /// How fast the fastest clock may have run, in percent of true time.
    pub clock_percent_max: u64,
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
    let times = Times {
        applied: &record.applied.iter().map(|(at, _)| *at).collect::<Vec<_>>(),
        clock_percent_max: record.clock_percent_max,
    };
    let more = [
        check::sessions::check(&record.history, &record.servers),
        check::lease_timing::check(&record.history, truth, &times),
        check::watches(&record.watches, truth),
    ];
    failures.extend(more.into_iter().flatten().map(Failure::Violation));
    failures
}

/// How many failures a report shows, and how much of each.
const SHOWN_MAX: usize = 12;
const SHOWN_CHARS_MAX: usize = 900;

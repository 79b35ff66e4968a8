//! Automatic compaction: history that is older than a time, or more than so many revisions ago, is dropped.
//!
//! Every member runs this, and only the one that leads acts. What to compact, and when, is decided by [`periodic`]
//! and [`revision`], which know no clock: each turn takes a look at the revision, waits for the schedule's interval,
//! and asks the schedule. Whoever becomes leader has looked all the while and acts at its next turn.

use std::time::Duration;

use proto::etcdserverpb::CompactionRequest;
use store::Store;
use store::error::{Error, RequestError};
use tokio::sync::watch;
use tokio::time::Instant;

use self::periodic::Periodic;
use self::revision::Revision;
use crate::config::{AutoCompaction, duration};
use crate::core::raised;

mod periodic;
mod revision;

/// Compacts until the process stops; at once done where there is nothing to do.
pub(crate) async fn run(store: Store, mode: AutoCompaction, mut stopping: watch::Receiver<bool>) {
    let Some(schedule) = Schedule::new(mode) else {
        return;
    };
    tokio::select! {
        () = compact_on(schedule, &store) => {}
        () = raised(&mut stopping) => {}
    }
}

async fn compact_on(mut schedule: Schedule, store: &Store) {
    let start = Instant::now();
    loop {
        schedule.look(store.status().header.revision);
        tokio::time::sleep(schedule.interval()).await;
        let status = store.status();
        let leads = status.leader == store.member_id();
        let Some(revision) = schedule.due(start.elapsed(), status.header.revision, leads) else {
            continue;
        };
        if compact(store, &schedule, revision).await {
            schedule.done(revision, start.elapsed());
        }
    }
}

/// Whether it is done now: somebody else may have been first.
async fn compact(store: &Store, schedule: &Schedule, revision: i64) -> bool {
    schedule.log_start(revision);
    let start = Instant::now();
    let request = CompactionRequest {
        revision,
        physical: false,
    };
    match store.compact(request).await {
        Ok(_) | Err(Error::Request(RequestError::Compacted { .. })) => {
            schedule.log_end(revision, start.elapsed());
            true
        }
        Err(error) => {
            schedule.log_failure(revision, &error);
            false
        }
    }
}

/// When to compact, and up to where.
enum Schedule {
    Periodic(Periodic),
    Revision(Revision),
}

impl Schedule {
    fn new(mode: AutoCompaction) -> Option<Schedule> {
        match mode {
            AutoCompaction::Off => None,
            AutoCompaction::Periodic(period) => Some(Schedule::Periodic(Periodic::new(period))),
            AutoCompaction::Revision(kept) => Some(Schedule::Revision(Revision::new(kept))),
        }
    }

    /// How long to wait after a look.
    fn interval(&self) -> Duration {
        match self {
            Schedule::Periodic(periodic) => periodic.interval(),
            Schedule::Revision(_) => revision::INTERVAL,
        }
    }

    /// Notes the current revision.
    fn look(&mut self, current: i64) {
        if let Schedule::Periodic(periodic) = self {
            periodic.look(current);
        }
    }

    /// What is to be compacted at `now`, a time since the start.
    fn due(&mut self, now: Duration, current: i64, leads: bool) -> Option<i64> {
        match self {
            Schedule::Periodic(periodic) => periodic.due(now, leads),
            Schedule::Revision(revision) => revision.due(current, leads),
        }
    }

    /// Notes a success; without it, there is another attempt after the next interval.
    fn done(&mut self, compacted: i64, now: Duration) {
        match self {
            Schedule::Periodic(periodic) => periodic.done(compacted, now),
            Schedule::Revision(revision) => revision.done(compacted),
        }
    }

    fn log_start(&self, revision: i64) {
        match self {
            Schedule::Periodic(periodic) => tracing::info!(
                revision,
                compact_period = text(periodic.period()),
                "starting auto periodic compaction"
            ),
            Schedule::Revision(kept) => tracing::info!(
                revision,
                revision_compaction_retention = kept.kept(),
                "starting auto revision compaction"
            ),
        }
    }

    fn log_end(&self, revision: i64, took: Duration) {
        match self {
            Schedule::Periodic(periodic) => tracing::info!(
                revision,
                compact_period = text(periodic.period()),
                took = text(took),
                "completed auto periodic compaction"
            ),
            Schedule::Revision(kept) => tracing::info!(
                revision,
                revision_compaction_retention = kept.kept(),
                took = text(took),
                "completed auto revision compaction"
            ),
        }
    }

    fn log_failure(&self, revision: i64, error: &Error) {
        let retry_interval = text(self.interval());
        match self {
            Schedule::Periodic(periodic) => tracing::warn!(
                revision,
                compact_period = text(periodic.period()),
                retry_interval,
                %error,
                "failed auto periodic compaction"
            ),
            Schedule::Revision(kept) => tracing::warn!(
                revision,
                revision_compaction_retention = kept.kept(),
                retry_interval,
                %error,
                "failed auto revision compaction"
            ),
        }
    }
}

/// A duration as etcd's log writes it.
fn text(duration: Duration) -> String {
    duration::format_nanos(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests;

//! Threads, channels and locks around the actors, and the public async handle [`Store`].
//!
//! | file | what |
//! | --- | --- |
//! | `handle.rs`, `auth.rs`, `leases.rs`, `members.rs`, `reads.rs`, `streams.rs`, `status.rs`, `downgrade.rs` | the handle, by kind of call |
//! | `member.rs` | consensus, applier, hub and lease deadlines composed, without threads |
//! | `driver.rs` | the task that drives a member |
//! | `actors.rs` | the log writer's and checkpoint writer's threads |
//! | `maintenance.rs` | when to compact, checkpoint and take snapshots |
//! | `history.rs`, `export.rs` | old revisions for watchers and HashKV; everything, for backups |
//! | `bootstrap.rs`, `founding.rs`, `incarnation.rs`, `recovery.rs`, `snapshots.rs`, `open_error.rs` | opening: founding, recovery, rebuild |
//! | `scrub.rs`, `verify.rs`, `aside.rs` | looking for damage: while serving, and offline; making room where it is beyond repair |
//! | `force.rs` | the last member of a lost cluster goes on alone |
//! | `restore.rs` | a new data folder from a backup or another folder |
//! | `transfers.rs`, `outgoing.rs`, `incoming.rs` | snapshot files from member to member |
//! | `install.rs` | a snapshot from the leader in place of the state |
//! | `shared.rs`, `command.rs`, `envelope.rs`, `pending.rs`, `settings.rs`, `metrics.rs`, `histogram.rs`, `slow.rs`, `text.rs` | what these share |
//!
//! This is the only room that names tokio or holds a lock that actors do not know of.

mod actors;
mod aside;
mod auth;
mod bootstrap;
mod busy;
mod command;
mod downgrade;
mod driver;
mod envelope;
mod export;
mod force;
mod founding;
mod handle;
mod histogram;
mod history;
mod incarnation;
mod incoming;
mod install;
mod leases;
mod maintenance;
mod member;
mod members;
mod metrics;
mod open_error;
mod outgoing;
mod pending;
mod reads;
mod recovery;
mod restore;
mod scrub;
mod settings;
mod shared;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
mod slow;
mod snapshots;
mod space;
mod space_keeper;
mod status;
mod streams;
#[cfg(test)]
mod tests;
pub mod text;
mod transfers;
mod verify;

pub use aside::set_aside;
pub use bootstrap::has_data;
pub use export::{Content, Export};
pub use handle::Store;
pub use histogram::{
    APPLY_BUCKETS_S, BACKUP_BUCKETS_S, COMPACTION_BUCKETS_S, DEFRAG_BUCKETS_S, DISK_BUCKETS_S,
    HASH_BUCKETS_S, Histogram, HistogramValue, INDEX_PAUSE_BUCKETS_S, PAUSE_BUCKETS_S, TRANSFER_BUCKETS_S,
    TTL_BUCKETS_S,
};
pub use metrics::{KnownAlarm, Metrics, OutcomeValues, TransferValues};
pub use open_error::OpenError;
pub use reads::RangeStream;
pub use restore::{Covered, NewFolder, NewMember, RestoreError};
pub use settings::{ClusterState, Join, Limits, Settings};
pub use slow::go_duration;
pub use status::Status;
pub use streams::{WatchRequests, WatchResponses};
pub use verify::{Finding, Verdict, VerifyError, verify};

//! Settings of a store: plain data, apart from the components they configure. Limits have names here and nowhere
//! else.

use std::path::PathBuf;
use std::time::Duration;

use crate::membership::Member;
use crate::types::ClusterId;

/// Whether the members of `initial_cluster` start a new cluster or join one that runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ClusterState {
    /// All start together, with an empty history.
    #[default]
    New,
    /// The cluster runs already.
    Existing,
}

/// What a cluster that runs says of itself, for a member with an empty data folder.
#[derive(Clone, Debug)]
pub struct Join {
    /// Its id.
    pub cluster: ClusterId,
    /// Its members, this one among them.
    pub members: Vec<Member>,
}

/// How to open a [`Store`](super::Store). [`Settings::new`] gives etcd's defaults for everything but the folder.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Name of this member; must occur in `initial_cluster` when the data folder is new.
    pub name: String,
    /// Folder of the data; created where missing (mode 0700). One process at a time.
    pub data_dir: PathBuf,
    /// Folder of the log alone, as on a disk of its own; below the folder of the data if there is none.
    pub wal_dir: Option<PathBuf>,
    /// Members that found the cluster: names and peer URLs. Read only when the data folder is new.
    pub initial_cluster: Vec<(String, Vec<String>)>,
    /// Part of the cluster's and members' ids, so that two clusters with the same URLs differ.
    pub initial_cluster_token: String,
    /// See [`ClusterState`].
    pub initial_cluster_state: ClusterState,
    /// Go on alone with the data of a cluster that has lost its quorum for good: all other members are removed. Without
    /// effect where the data folder is new.
    pub force_new_cluster: bool,
    /// What the cluster that runs said, for `ClusterState::Existing` with an empty data folder. Without it, its members
    /// are those of `initial_cluster`.
    pub join: Option<Join>,
    /// Peer URLs of this member, as in `initial_cluster`.
    pub initial_advertise_peer_urls: Vec<String>,
    /// Client URLs published in the member list.
    pub advertise_client_urls: Vec<String>,
    /// Refuse membership changes after which the voters that are started and connected would be no quorum.
    pub strict_reconfig_check: bool,
    /// How many learners the cluster may have when this member adds one.
    pub learners_max: usize,
    /// While this member leads, it makes a voter of each learner as soon as that has caught up (beyond etcd).
    pub auto_promote: bool,
    /// Interval of heartbeats, and length of one tick.
    pub heartbeat: Duration,
    /// Election timeout; at least five heartbeats.
    pub election: Duration,
    /// After the start, once a quorum is connected, do not wait a whole election timeout for a leader
    /// (`--initial-election-tick-advance`).
    pub election_tick_advance: bool,
    /// Applied entries between two trims of the in-memory log.
    pub snapshot_count: u64,
    /// Applied entries kept in memory for members that lag.
    pub snapshot_catchup_entries: u64,
    /// Bytes on disk beyond which writes are refused; `None` is no quota.
    pub quota_bytes: Option<u64>,
    /// Clear this member's NOSPACE alarm once the size is well below the quota again; etcd leaves that to operators.
    pub quota_auto_disarm: bool,
    /// Bytes of the disks of data and log that are kept free: with less left, writes are refused as they are above the
    /// quota, so that deletes and compactions still can be made. 0 for none.
    pub disk_reserve_bytes: u64,
    /// Longest encoded proposal, in bytes.
    pub max_request_bytes: usize,
    /// Longest list of a transaction.
    pub max_txn_ops: usize,
    /// Silence after which a watcher that asked for it hears of progress; up to 10 % jitter is added.
    pub watch_progress_interval: Duration,
    /// A request whose apply, or a read that, takes longer is worth a line in the log.
    pub slow_apply: Duration,
    /// Limits of queues and buffers.
    pub limits: Limits,
}

/// Limits of what the store holds in memory and in flight.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Commands waiting for the driver; beyond it callers wait.
    pub mailbox_commands: usize,
    /// Messages of other members waiting for the driver; beyond it they are dropped.
    pub inbox_messages: usize,
    /// Proposals between submission and answer; beyond it `TooManyRequests` (etcd's backlog limit).
    pub proposals: usize,
    /// Bytes of such proposals.
    pub proposal_bytes: usize,
    /// Bytes of applied log entries kept in memory.
    pub log_tail_bytes: usize,
    /// Bytes of applied log entries kept in memory at most for a member that is connected and lags.
    pub log_held_bytes: usize,
    /// Questions about leases on their way to the leader or waiting for one.
    pub lease_questions: usize,
    /// Bytes of recent revisions kept in memory for watchers, beyond those not yet checkpointed.
    pub recent_bytes: usize,
    /// Bytes of revisions not yet checkpointed at which writers begin to be slowed down.
    pub dirty_bytes_soft: usize,
    /// The same, at which writers stop until the checkpoint has caught up.
    pub dirty_bytes_hard: usize,
    /// Bytes of changes that make a checkpoint due before its interval.
    pub checkpoint_bytes: usize,
    /// Interval of checkpoints while there is something to write.
    pub checkpoint_interval: Duration,
    /// Bytes of one log segment.
    pub wal_segment_bytes: u64,
    /// How long the log's disk may take for a write or sync before a leader hands its leadership over, as a member with
    /// such a disk also takes none; `None` is the election timeout.
    pub stalled_sync: Option<Duration>,
    /// Bytes of log since the last snapshot file that make the next one due, or the size of the state if larger.
    pub snapshot_log_bytes: u64,
    /// Bytes of log entries, or of proposals passed on, in one message to another member; one entry at least.
    pub message_bytes: usize,
    /// Bytes of a snapshot in one message to another member.
    pub snapshot_chunk_bytes: usize,
    /// Keys that a scan visits before it lets others go on.
    pub scan_step_keys: usize,
    /// Keys that one step of a compaction visits.
    pub compaction_step_keys: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            mailbox_commands: 4096,
            inbox_messages: 4096,
            proposals: 5000,
            proposal_bytes: 256 << 20,
            log_tail_bytes: 16 << 20,
            log_held_bytes: 256 << 20,
            lease_questions: 100_000,
            recent_bytes: 16 << 20,
            dirty_bytes_soft: 64 << 20,
            dirty_bytes_hard: 256 << 20,
            checkpoint_bytes: 8 << 20,
            checkpoint_interval: Duration::from_secs(1),
            wal_segment_bytes: 64 << 20,
            stalled_sync: None,
            snapshot_log_bytes: 1 << 30,
            message_bytes: 1 << 20,
            snapshot_chunk_bytes: 256 << 10,
            scan_step_keys: 1000,
            compaction_step_keys: 1000,
        }
    }
}

impl Settings {
    /// etcd's defaults: one member named `default`.
    #[must_use]
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        let peer_url = "http://localhost:2380".to_owned();
        Settings {
            name: "default".to_owned(),
            data_dir: data_dir.into(),
            wal_dir: None,
            initial_cluster: vec![("default".to_owned(), vec![peer_url.clone()])],
            initial_cluster_token: "etcd-cluster".to_owned(),
            initial_cluster_state: ClusterState::New,
            force_new_cluster: false,
            join: None,
            initial_advertise_peer_urls: vec![peer_url],
            advertise_client_urls: vec!["http://localhost:2379".to_owned()],
            strict_reconfig_check: true,
            learners_max: 1,
            auto_promote: false,
            heartbeat: Duration::from_millis(100),
            election: Duration::from_secs(1),
            election_tick_advance: true,
            snapshot_count: 10_000,
            snapshot_catchup_entries: 5000,
            quota_bytes: Some(2 << 30),
            quota_auto_disarm: false,
            disk_reserve_bytes: DISK_RESERVE_BYTES,
            max_request_bytes: 1_572_864,
            max_txn_ops: 128,
            watch_progress_interval: Duration::from_secs(600),
            slow_apply: Duration::from_millis(100),
            limits: Limits::default(),
        }
    }

    /// How long a proposal or a read index may take: 5 s and two election timeouts, as etcd.
    #[must_use]
    pub fn request_timeout(&self) -> Duration {
        Duration::from_secs(5) + 2 * self.election
    }

    /// See [`Limits::stalled_sync`].
    #[must_use]
    pub fn stalled_sync(&self) -> Duration {
        self.limits.stalled_sync.unwrap_or(self.election)
    }

    /// The shortest TTL of a lease in seconds: one and a half election timeouts, rounded up, as etcd.
    #[must_use]
    pub fn lease_ttl_min_s(&self) -> i64 {
        let min_ms = self.election.as_millis().saturating_mul(3) / 2;
        i64::try_from(min_ms.div_ceil(1000)).unwrap_or(i64::MAX)
    }
}

/// What is kept free where nobody says otherwise: two segments of the log, and what checkpoints write meanwhile.
const DISK_RESERVE_BYTES: u64 = 192 << 20;

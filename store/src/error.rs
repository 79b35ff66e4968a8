//! The errors that cross rooms. Three classes (house rule): [`RequestError`] is part of the replicated result and
//! the same on every member; [`Unavailable`] may be retried by the caller; fatal errors (disk, checksum, broken
//! invariant) never reach a caller: the node logs the cause chain and stops.

use crate::types::LeaseId;

/// What is wrong with a request; decided by the request and the replicated state alone. The texts here are for
/// logs and embedders; `server/grpc/status.rs` maps each variant to etcd's code and text.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RequestError {
    /// No key was given.
    #[error("key is not provided")]
    EmptyKey,
    /// `ignore_value` or `ignore_lease` on an absent key, or a transaction operation without content.
    #[error("key not found")]
    KeyNotFound,
    /// `ignore_value` together with a value.
    #[error("value is provided")]
    ValueProvided,
    /// `ignore_lease` together with a lease.
    #[error("lease is provided")]
    LeaseProvided,
    /// A list of a transaction is longer than allowed.
    #[error("too many operations in txn request: at most {max}")]
    TooManyOps {
        /// The limit.
        max: usize,
    },
    /// A transaction would put one key twice, or put a key in a range it deletes.
    #[error("duplicate key given in txn request")]
    DuplicateKey,
    /// A sort order or target outside the enum.
    #[error("invalid sort option")]
    InvalidSortOption,
    /// The revision lies below the compacted one.
    #[error("required revision {requested} has been compacted (compacted revision {compacted})")]
    Compacted {
        /// What was asked for.
        requested: i64,
        /// Where history begins.
        compacted: i64,
    },
    /// The revision lies above the current one.
    #[error("required revision {requested} is a future revision (current revision {current})")]
    FutureRevision {
        /// What was asked for.
        requested: i64,
        /// The newest revision.
        current: i64,
    },
    /// The quota is exceeded, or the NOSPACE alarm is raised.
    #[error("database space exceeded")]
    NoSpace,
    /// The CORRUPT alarm is raised.
    #[error("corrupt cluster")]
    Corrupt,
    /// No such lease.
    #[error("requested lease {id} not found")]
    LeaseNotFound {
        /// The lease asked for.
        id: LeaseId,
    },
    /// A grant of an id in use.
    #[error("lease {id} already exists")]
    LeaseExists {
        /// The id.
        id: LeaseId,
    },
    /// A grant beyond the longest TTL.
    #[error("too large lease TTL {ttl_s} s")]
    LeaseTtlTooLarge {
        /// The TTL asked for, in seconds.
        ttl_s: i64,
    },
    /// The encoded proposal exceeds the limit on requests.
    #[error("request is too large: {bytes} of at most {max} bytes")]
    RequestTooLarge {
        /// The encoded size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// An enum of an alarm request outside its range.
    #[error("unknown alarm action {action}")]
    UnknownAlarmAction {
        /// The number given.
        action: i32,
    },
    /// The leadership cannot go to a member that is unknown or has no vote.
    #[error("bad leader transferee")]
    BadLeaderTransferee,
    /// A member to be added has the id of one that is there.
    #[error("member ID already exist")]
    MemberIdExists,
    /// A peer URL is that of another member.
    #[error("Peer URLs already exists")]
    PeerUrlExists,
    /// The peer URLs of a member to be added are none, or not of the right form.
    #[error("given member URLs are invalid")]
    MemberBadUrls,
    /// No such member, or no longer.
    #[error("member not found")]
    MemberNotFound,
    /// A member that is to be promoted votes already.
    #[error("can only promote a learner member")]
    MemberNotLearner,
    /// A learner that is to be promoted lags.
    #[error("can only promote a learner member which is in sync with leader")]
    LearnerNotReady,
    /// One more learner is too many.
    #[error("too many learner members in cluster")]
    TooManyLearners,
    /// After the change too few voters would be started for a quorum.
    #[error("re-configuration failed due to not enough started members")]
    MemberNotEnoughStarted,
    /// Too few voters have been connected for a while for the change to be safe.
    #[error("unhealthy cluster")]
    ClusterUnhealthy,
    /// A learner does not serve it.
    #[error("rpc not supported for learner")]
    NotSupportedForLearner,
    /// A downgrade's target that is no version.
    #[error("wrong downgrade target version format")]
    DowngradeFormat,
    /// A downgrade's target other than one minor version below the cluster's.
    #[error("invalid downgrade target version")]
    DowngradeTarget,
    /// The cluster's version is not decided yet.
    #[error("cluster version not found during downgrade")]
    ClusterVersionUnknown,
    /// A downgrade that is right, and that this version does not do.
    #[error("downgrades are not supported")]
    DowngradeUnsupported,
    /// RangeStream with an order it cannot stream.
    #[error("RangeStream does not support custom sort orders")]
    StreamSortUnsupported,
    /// RangeStream with a revision filter.
    #[error("RangeStream does not support revision filters")]
    StreamFilterUnsupported,
    /// What users, roles and permissions do not allow.
    #[error(transparent)]
    Auth(#[from] AuthError),
}

/// What is wrong with a request in the eyes of users, roles and permissions.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AuthError {
    /// Auth is to be enabled, and there is no user `root`.
    #[error("root user does not exist")]
    RootUserNotExist,
    /// Auth is to be enabled, and the user `root` does not hold the role `root`.
    #[error("root user does not have root role")]
    RootRoleNotExist,
    /// A user to be added has the name of one that is there.
    #[error("user name already exists")]
    UserExists,
    /// A user without a name; or a call without an identity while auth is on.
    #[error("user name is empty")]
    UserEmpty,
    /// No such user.
    #[error("user name not found")]
    UserNotFound,
    /// A role to be added has the name of one that is there.
    #[error("role name already exists")]
    RoleExists,
    /// No such role.
    #[error("role name not found")]
    RoleNotFound,
    /// A role without a name.
    #[error("role name is empty")]
    RoleEmpty,
    /// No such user, or not its password.
    #[error("authentication failed, invalid user ID or password")]
    AuthFailed,
    /// A password for a user that has none, or a hash that is none.
    #[error("authentication failed, password was given for no password user")]
    NoPasswordUser,
    /// A password that was not hashed: it has no place in the log.
    #[error("passwords are replicated as hashes only")]
    PasswordInClear,
    /// A grant without a permission.
    #[error("permission not given")]
    PermissionNotGiven,
    /// The caller may not do this.
    #[error("permission denied")]
    PermissionDenied,
    /// A role to be taken from a user that does not hold it.
    #[error("role is not granted to the user")]
    RoleNotGranted,
    /// A permission to be taken from a role that does not have it.
    #[error("permission is not granted to the role")]
    PermissionNotGranted,
    /// A login while auth is off.
    #[error("authentication is not enabled")]
    AuthNotEnabled,
    /// A token that is unknown, expired or malformed.
    #[error("invalid auth token")]
    InvalidAuthToken,
    /// What would leave the cluster without its administrator, or a permission over no range.
    #[error("invalid auth management")]
    InvalidAuthManagement,
    /// The caller was authenticated by an older state of users and roles.
    #[error("revision of auth store is old")]
    AuthOldRevision,
}

/// Why a member could not serve a request that may be right; the caller may retry.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unavailable {
    /// This member knows no leader.
    #[error("no leader")]
    NoLeader,
    /// The leader changed while the request waited.
    #[error("leader changed")]
    LeaderChanged,
    /// The request was not answered in time.
    #[error("request timed out")]
    Timeout,
    /// As `Timeout`, and the request began shortly before the present leader was elected.
    #[error("request timed out, possibly due to previous leader failure")]
    TimeoutDueToLeaderFail,
    /// As `Timeout`, and the leader, or on the leader a quorum, could not be reached all the while.
    #[error("request timed out, possibly due to connection lost")]
    TimeoutDueToConnectionLost,
    /// A proposal on a member without a leader ran into its deadline.
    #[error("context deadline exceeded")]
    DeadlineExceeded,
    /// A limit on waiting work is reached.
    #[error("too many requests")]
    TooManyRequests,
    /// Only the leader can do it, and this member does not lead.
    #[error("not leader")]
    NotLeader,
    /// The leadership did not move in time.
    #[error("request timed out, leader transfer took too long")]
    LeaderTransferTimeout,
    /// The store is stopping or has stopped.
    #[error("server stopped")]
    Stopped,
}

/// What a call of the public handle can fail with.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Error {
    /// The request is at fault.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The member cannot serve it now.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl From<AuthError> for Error {
    fn from(error: AuthError) -> Self {
        Error::Request(RequestError::Auth(error))
    }
}

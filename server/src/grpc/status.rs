//! Errors on the wire: the only place that gives an error its gRPC code and etcd's text.
//!
//! Clients turn an error back into a constant by its *text*, so every letter counts. Two codes look wrong and are
//! not: "too many requests" leaves etcd as Unknown, and a proposal without leader ends in a bare
//! `context deadline exceeded`.

use store::error::{AuthError, Error, RequestError, Unavailable};
use tonic::{Code, Status};

use crate::auth::{LoginError, PasswordError};
use crate::backup;
use crate::concurrency::Failure;

/// The status of a failed call of the store.
pub(crate) fn of(error: &Error) -> Status {
    let (code, text) = code_and_text(error);
    Status::new(code, text)
}

/// The text of a failed call of the store.
pub(crate) fn text(error: &Error) -> &'static str {
    code_and_text(error).1
}

fn code_and_text(error: &Error) -> (Code, &'static str) {
    match error {
        Error::Request(error) => of_request(error),
        Error::Unavailable(error) => of_unavailable(error),
    }
}

fn of_request(error: &RequestError) -> (Code, &'static str) {
    match error {
        RequestError::EmptyKey => (Code::InvalidArgument, "etcdserver: key is not provided"),
        RequestError::KeyNotFound => (Code::InvalidArgument, "etcdserver: key not found"),
        RequestError::ValueProvided => (Code::InvalidArgument, "etcdserver: value is provided"),
        RequestError::LeaseProvided => (Code::InvalidArgument, "etcdserver: lease is provided"),
        RequestError::TooManyOps { .. } => (
            Code::InvalidArgument,
            "etcdserver: too many operations in txn request",
        ),
        RequestError::DuplicateKey => (
            Code::InvalidArgument,
            "etcdserver: duplicate key given in txn request",
        ),
        RequestError::InvalidSortOption => (Code::InvalidArgument, "etcdserver: invalid sort option"),
        RequestError::Compacted { .. } => (Code::OutOfRange, COMPACTED),
        RequestError::FutureRevision { .. } => (
            Code::OutOfRange,
            "etcdserver: mvcc: required revision is a future revision",
        ),
        RequestError::NoSpace => (
            Code::ResourceExhausted,
            "etcdserver: mvcc: database space exceeded",
        ),
        RequestError::Corrupt => (Code::DataLoss, "etcdserver: corrupt cluster"),
        RequestError::LeaseNotFound { .. } => (Code::NotFound, "etcdserver: requested lease not found"),
        RequestError::LeaseExists { .. } => (Code::FailedPrecondition, "etcdserver: lease already exists"),
        RequestError::LeaseTtlTooLarge { .. } => (Code::OutOfRange, "etcdserver: too large lease TTL"),
        RequestError::RequestTooLarge { .. } => (Code::InvalidArgument, "etcdserver: request is too large"),
        // A real server dies of it; there is no text to keep.
        RequestError::UnknownAlarmAction { .. } => {
            (Code::InvalidArgument, "etcdserver: unknown alarm action")
        }
        RequestError::BadLeaderTransferee => (Code::FailedPrecondition, "etcdserver: bad leader transferee"),
        RequestError::MemberIdExists => (Code::FailedPrecondition, "etcdserver: member ID already exist"),
        RequestError::PeerUrlExists => (Code::FailedPrecondition, "etcdserver: Peer URLs already exists"),
        RequestError::MemberBadUrls => (Code::InvalidArgument, "etcdserver: given member URLs are invalid"),
        RequestError::MemberNotFound => (Code::NotFound, "etcdserver: member not found"),
        RequestError::MemberNotLearner => (
            Code::FailedPrecondition,
            "etcdserver: can only promote a learner member",
        ),
        RequestError::LearnerNotReady => (
            Code::FailedPrecondition,
            "etcdserver: can only promote a learner member which is in sync with leader",
        ),
        RequestError::TooManyLearners => (
            Code::FailedPrecondition,
            "etcdserver: too many learner members in cluster",
        ),
        // The code is lost in etcd too.
        RequestError::MemberNotEnoughStarted => (
            Code::Unknown,
            "etcdserver: re-configuration failed due to not enough started members",
        ),
        RequestError::ClusterUnhealthy => (Code::Unavailable, "etcdserver: unhealthy cluster"),
        RequestError::NotSupportedForLearner => (Code::FailedPrecondition, NOT_FOR_LEARNER),
        RequestError::DowngradeFormat => (
            Code::InvalidArgument,
            "etcdserver: wrong downgrade target version format",
        ),
        RequestError::DowngradeTarget => (
            Code::InvalidArgument,
            "etcdserver: invalid downgrade target version",
        ),
        RequestError::ClusterVersionUnknown => (
            Code::FailedPrecondition,
            "etcdserver: cluster version not found during downgrade",
        ),
        // etcd would do it; the words are our own.
        RequestError::DowngradeUnsupported => (
            Code::Unimplemented,
            "etcdserver: downgrades are not supported by this version of Taffrail",
        ),
        RequestError::StreamSortUnsupported => (
            Code::Unimplemented,
            "RangeStream does not support custom sort orders",
        ),
        RequestError::StreamFilterUnsupported => (
            Code::Unimplemented,
            "RangeStream does not support revision filters",
        ),
        RequestError::Auth(error) => of_auth(*error),
    }
}

/// Users, roles and permissions.
fn of_auth(error: AuthError) -> (Code, &'static str) {
    use Code::{FailedPrecondition, InvalidArgument};
    match error {
        AuthError::RootUserNotExist => (FailedPrecondition, "etcdserver: root user does not exist"),
        AuthError::RootRoleNotExist => (
            FailedPrecondition,
            "etcdserver: root user does not have root role",
        ),
        AuthError::UserExists => (FailedPrecondition, "etcdserver: user name already exists"),
        AuthError::UserEmpty => (InvalidArgument, "etcdserver: user name is empty"),
        AuthError::UserNotFound => (FailedPrecondition, "etcdserver: user name not found"),
        AuthError::RoleExists => (FailedPrecondition, "etcdserver: role name already exists"),
        AuthError::RoleNotFound => (FailedPrecondition, "etcdserver: role name not found"),
        AuthError::RoleEmpty => (InvalidArgument, "etcdserver: role name is empty"),
        AuthError::AuthFailed => (
            InvalidArgument,
            "etcdserver: authentication failed, invalid user ID or password",
        ),
        // Not among the errors that etcd translates.
        AuthError::NoPasswordUser => (
            Code::Unknown,
            "auth: authentication failed, password was given for no password user",
        ),
        // The server hashes every password before it calls the store.
        AuthError::PasswordInClear => (Code::Internal, "etcdserver: password is not hashed"),
        AuthError::PermissionNotGiven => (InvalidArgument, "etcdserver: permission not given"),
        AuthError::PermissionDenied => (Code::PermissionDenied, "etcdserver: permission denied"),
        AuthError::RoleNotGranted => (FailedPrecondition, "etcdserver: role is not granted to the user"),
        AuthError::PermissionNotGranted => (
            FailedPrecondition,
            "etcdserver: permission is not granted to the role",
        ),
        AuthError::AuthNotEnabled => (FailedPrecondition, "etcdserver: authentication is not enabled"),
        AuthError::InvalidAuthToken => (Code::Unauthenticated, "etcdserver: invalid auth token"),
        AuthError::InvalidAuthManagement => (InvalidArgument, "etcdserver: invalid auth management"),
        AuthError::AuthOldRevision => (InvalidArgument, "etcdserver: revision of auth store is old"),
    }
}

fn of_unavailable(error: &Unavailable) -> (Code, &'static str) {
    match error {
        Unavailable::NoLeader => (Code::Unavailable, NO_LEADER),
        Unavailable::LeaderChanged => (Code::Unavailable, "etcdserver: leader changed"),
        Unavailable::Timeout => (Code::Unavailable, "etcdserver: request timed out"),
        Unavailable::TimeoutDueToLeaderFail => (
            Code::Unavailable,
            "etcdserver: request timed out, possibly due to previous leader failure",
        ),
        Unavailable::TimeoutDueToConnectionLost => (
            Code::Unavailable,
            "etcdserver: request timed out, possibly due to connection lost",
        ),
        Unavailable::DeadlineExceeded => (Code::DeadlineExceeded, "context deadline exceeded"),
        Unavailable::TooManyRequests => (Code::Unknown, "etcdserver: too many requests"),
        Unavailable::NotLeader => (Code::FailedPrecondition, "etcdserver: not leader"),
        Unavailable::LeaderTransferTimeout => (
            Code::Unknown,
            "etcdserver: request timed out, leader transfer took too long",
        ),
        Unavailable::Stopped => (Code::Unavailable, STOPPED),
    }
}

/// The status of a failed call of Lock or Election. etcd runs these two over a client of its own, on whose way errors
/// lose their codes: all are Unknown, with the text they had, save a deadline.
pub(crate) fn of_concurrency(failure: &Failure) -> Status {
    let status = match failure {
        Failure::Store(error) => of(error),
        Failure::Compacted => return Status::new(Code::Unknown, COMPACTED),
        failure => return Status::new(Code::Unknown, failure.to_string()),
    };
    match status.code() {
        Code::DeadlineExceeded => status,
        _ => Status::new(Code::Unknown, status.message()),
    }
}

/// A learner serves hardly anything.
pub(crate) fn not_supported_for_learner() -> Status {
    Status::new(Code::FailedPrecondition, NOT_FOR_LEARNER)
}

/// This member knows no leader and the caller asked to be told.
pub(crate) fn no_leader() -> Status {
    Status::new(Code::Unavailable, NO_LEADER)
}

/// The server ends a stream because it stops.
pub(crate) fn stopped() -> Status {
    Status::new(Code::Unavailable, STOPPED)
}

/// Why there is no backup.
pub(crate) fn of_backup(failure: &backup::Failure) -> Status {
    match failure {
        backup::Failure::Store(error) => of(error),
        // etcd has no texts of its own for these either.
        backup::Failure::Spool(_) | backup::Failure::Unwanted => {
            Status::new(Code::Unknown, format!("etcdserver: {failure}"))
        }
    }
}

/// Why nobody logs in, or a password is not hashed.
pub(crate) fn of_login(error: &LoginError) -> Status {
    match error {
        LoginError::Store(error) => of(error),
        // Ours: etcd checks any number of passwords at once.
        LoginError::Password(PasswordError::Busy | PasswordError::TooManyFailures) => {
            Status::new(Code::ResourceExhausted, format!("etcdserver: {error}"))
        }
        LoginError::Password(_) | LoginError::Sign(_) | LoginError::NoEntropy(_) => {
            Status::new(Code::Unknown, error.to_string())
        }
    }
}

/// An action of Downgrade outside the enum.
pub(crate) fn unknown_method() -> Status {
    Status::new(Code::Unknown, "etcdserver: unknown method")
}

/// The end of a watch stream that its client gave up.
pub(crate) fn watch_canceled() -> Status {
    Status::new(Code::Cancelled, "etcdserver: watch canceled")
}

/// The metadata `client-api-version` is not text.
pub(crate) fn invalid_client_api_version() -> Status {
    Status::new(Code::InvalidArgument, "etcdserver: invalid client api version")
}

/// Whether a stream ended because of what its client sent, rather than because the client left.
pub(crate) fn is_broken_message(error: &Status) -> bool {
    matches!(
        error.code(),
        Code::Internal | Code::OutOfRange | Code::ResourceExhausted
    )
}

/// What tonic reports in other words than gRPC for Go: a message above the limit is ResourceExhausted there.
pub(crate) fn translate(status: Status) -> Status {
    let sizes = status
        .message()
        .strip_prefix("Error, decoded message length too large: found ")
        .and_then(|rest| rest.strip_suffix(" bytes"))
        .and_then(|rest| rest.split_once(" bytes, the limit is: "));
    match sizes {
        Some((found, limit)) if status.code() == Code::OutOfRange => Status::new(
            Code::ResourceExhausted,
            format!("grpc: received message larger than max ({found} vs. {limit})"),
        ),
        _ => status,
    }
}

const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";
const NOT_FOR_LEARNER: &str = "etcdserver: rpc not supported for learner";
const NO_LEADER: &str = "etcdserver: no leader";
const STOPPED: &str = "etcdserver: server stopped";

#[cfg(test)]
mod tests {
    use store::types::LeaseId;

    use super::*;

    #[test]
    fn every_error_has_etcds_code_and_text() {
        use Code::{
            DataLoss, DeadlineExceeded, FailedPrecondition, InvalidArgument, NotFound, OutOfRange,
            ResourceExhausted, Unimplemented, Unknown,
        };
        let id = LeaseId(7);
        let requests: [(RequestError, Code, &str); 33] = [
            (
                RequestError::MemberIdExists,
                FailedPrecondition,
                "etcdserver: member ID already exist",
            ),
            (
                RequestError::PeerUrlExists,
                FailedPrecondition,
                "etcdserver: Peer URLs already exists",
            ),
            (
                RequestError::MemberBadUrls,
                InvalidArgument,
                "etcdserver: given member URLs are invalid",
            ),
            (
                RequestError::MemberNotFound,
                NotFound,
                "etcdserver: member not found",
            ),
            (
                RequestError::MemberNotLearner,
                FailedPrecondition,
                "etcdserver: can only promote a learner member",
            ),
            (
                RequestError::LearnerNotReady,
                FailedPrecondition,
                "etcdserver: can only promote a learner member which is in sync with leader",
            ),
            (
                RequestError::TooManyLearners,
                FailedPrecondition,
                "etcdserver: too many learner members in cluster",
            ),
            (
                RequestError::MemberNotEnoughStarted,
                Unknown,
                "etcdserver: re-configuration failed due to not enough started members",
            ),
            (
                RequestError::ClusterUnhealthy,
                Code::Unavailable,
                "etcdserver: unhealthy cluster",
            ),
            (
                RequestError::NotSupportedForLearner,
                FailedPrecondition,
                "etcdserver: rpc not supported for learner",
            ),
            (
                RequestError::EmptyKey,
                InvalidArgument,
                "etcdserver: key is not provided",
            ),
            (
                RequestError::KeyNotFound,
                InvalidArgument,
                "etcdserver: key not found",
            ),
            (
                RequestError::ValueProvided,
                InvalidArgument,
                "etcdserver: value is provided",
            ),
            (
                RequestError::LeaseProvided,
                InvalidArgument,
                "etcdserver: lease is provided",
            ),
            (
                RequestError::TooManyOps { max: 128 },
                InvalidArgument,
                "etcdserver: too many operations in txn request",
            ),
            (
                RequestError::DuplicateKey,
                InvalidArgument,
                "etcdserver: duplicate key given in txn request",
            ),
            (
                RequestError::InvalidSortOption,
                InvalidArgument,
                "etcdserver: invalid sort option",
            ),
            (
                RequestError::Compacted {
                    requested: 1,
                    compacted: 2,
                },
                OutOfRange,
                "etcdserver: mvcc: required revision has been compacted",
            ),
            (
                RequestError::FutureRevision {
                    requested: 9,
                    current: 2,
                },
                OutOfRange,
                "etcdserver: mvcc: required revision is a future revision",
            ),
            (
                RequestError::NoSpace,
                ResourceExhausted,
                "etcdserver: mvcc: database space exceeded",
            ),
            (RequestError::Corrupt, DataLoss, "etcdserver: corrupt cluster"),
            (
                RequestError::LeaseNotFound { id },
                NotFound,
                "etcdserver: requested lease not found",
            ),
            (
                RequestError::LeaseExists { id },
                FailedPrecondition,
                "etcdserver: lease already exists",
            ),
            (
                RequestError::LeaseTtlTooLarge { ttl_s: 9 },
                OutOfRange,
                "etcdserver: too large lease TTL",
            ),
            (
                RequestError::RequestTooLarge { bytes: 2, max: 1 },
                InvalidArgument,
                "etcdserver: request is too large",
            ),
            (
                RequestError::UnknownAlarmAction { action: 9 },
                InvalidArgument,
                "etcdserver: unknown alarm action",
            ),
            (
                RequestError::BadLeaderTransferee,
                FailedPrecondition,
                "etcdserver: bad leader transferee",
            ),
            (
                RequestError::DowngradeFormat,
                InvalidArgument,
                "etcdserver: wrong downgrade target version format",
            ),
            (
                RequestError::DowngradeTarget,
                InvalidArgument,
                "etcdserver: invalid downgrade target version",
            ),
            (
                RequestError::ClusterVersionUnknown,
                FailedPrecondition,
                "etcdserver: cluster version not found during downgrade",
            ),
            (
                RequestError::DowngradeUnsupported,
                Unimplemented,
                "etcdserver: downgrades are not supported by this version of Taffrail",
            ),
            (
                RequestError::StreamSortUnsupported,
                Unimplemented,
                "RangeStream does not support custom sort orders",
            ),
            (
                RequestError::StreamFilterUnsupported,
                Unimplemented,
                "RangeStream does not support revision filters",
            ),
        ];
        let unavailable: [(Unavailable, Code, &str); 10] = [
            (Unavailable::NoLeader, Code::Unavailable, "etcdserver: no leader"),
            (
                Unavailable::LeaderChanged,
                Code::Unavailable,
                "etcdserver: leader changed",
            ),
            (
                Unavailable::Timeout,
                Code::Unavailable,
                "etcdserver: request timed out",
            ),
            (
                Unavailable::TimeoutDueToLeaderFail,
                Code::Unavailable,
                "etcdserver: request timed out, possibly due to previous leader failure",
            ),
            (
                Unavailable::TimeoutDueToConnectionLost,
                Code::Unavailable,
                "etcdserver: request timed out, possibly due to connection lost",
            ),
            (
                Unavailable::DeadlineExceeded,
                DeadlineExceeded,
                "context deadline exceeded",
            ),
            (
                Unavailable::TooManyRequests,
                Unknown,
                "etcdserver: too many requests",
            ),
            (
                Unavailable::NotLeader,
                FailedPrecondition,
                "etcdserver: not leader",
            ),
            (
                Unavailable::LeaderTransferTimeout,
                Unknown,
                "etcdserver: request timed out, leader transfer took too long",
            ),
            (
                Unavailable::Stopped,
                Code::Unavailable,
                "etcdserver: server stopped",
            ),
        ];
        let requests = requests
            .into_iter()
            .map(|(error, code, text)| (Error::from(error), code, text));
        let unavailable = unavailable
            .into_iter()
            .map(|(error, code, text)| (Error::from(error), code, text));
        for (error, code, text) in requests.chain(unavailable) {
            let status = of(&error);
            assert_eq!((status.code(), status.message()), (code, text), "{error:?}");
        }
    }

    #[test]
    fn locks_and_elections_keep_texts_and_lose_codes() {
        let lease = RequestError::LeaseNotFound { id: LeaseId(7) };
        for (failure, code, text) in [
            (
                Failure::from(Error::from(lease)),
                Code::Unknown,
                "etcdserver: requested lease not found",
            ),
            (
                Failure::from(Error::from(Unavailable::Timeout)),
                Code::Unknown,
                "etcdserver: request timed out",
            ),
            (
                Failure::from(Error::from(Unavailable::DeadlineExceeded)),
                Code::DeadlineExceeded,
                "context deadline exceeded",
            ),
            (
                Failure::Compacted,
                Code::Unknown,
                "etcdserver: mvcc: required revision has been compacted",
            ),
            (Failure::NoLeader, Code::Unknown, "election: no leader"),
        ] {
            let status = of_concurrency(&failure);
            assert_eq!((status.code(), status.message()), (code, text), "{failure:?}");
        }
    }

    #[test]
    fn tonics_size_limit_speaks_as_gos() {
        let from_tonic = Status::new(
            Code::OutOfRange,
            "Error, decoded message length too large: found 2200000 bytes, the limit is: 2097152 bytes",
        );
        let status = translate(from_tonic);
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(
            status.message(),
            "grpc: received message larger than max (2200000 vs. 2097152)"
        );
        let other = translate(of(&RequestError::Compacted {
            requested: 1,
            compacted: 2,
        }
        .into()));
        assert_eq!(
            other.message(),
            "etcdserver: mvcc: required revision has been compacted"
        );
    }
}

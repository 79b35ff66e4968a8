//! What went wrong with a call of the store, and what a client of the API is told.

use std::error::Error as _;

use tonic::Code;

use crate::status::{Reason, Status};

/// Why the store did not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Failure {
    /// The revision is older than what the store still knows.
    #[error("etcdserver: mvcc: required revision has been compacted")]
    Compacted {
        /// The oldest revision that is known still, 0 where the store did not say.
        oldest: i64,
    },
    /// The revision is none yet.
    #[error("etcdserver: mvcc: required revision is a future revision")]
    FutureRevision,
    /// It took too long: no quorum, most likely. A write may have been made or may be yet.
    #[error("{message}")]
    Timeout {
        /// What the store said of it.
        message: String,
    },
    /// Nobody is there, or nobody who could do it. `unsent` says that it surely reached nobody.
    #[error("{message}")]
    Unavailable {
        /// What is known of it.
        message: String,
        /// Whether it surely reached nobody.
        unsent: bool,
    },
    /// What was to be written is larger than the store takes.
    #[error("etcdserver: request is too large")]
    TooLarge,
    /// The lease is over.
    #[error("etcdserver: requested lease not found")]
    LeaseNotFound,
    /// Anything else, in the store's words.
    #[error("{message}")]
    Refused {
        /// Its code.
        code: Code,
        /// Its text.
        message: String,
    },
}

impl Failure {
    /// What a call ended with.
    #[must_use]
    pub(crate) fn of(status: &tonic::Status) -> Failure {
        let (said, message) = (status.message(), told(status));
        match status.code() {
            Code::OutOfRange if said.ends_with("has been compacted") => Failure::Compacted { oldest: 0 },
            Code::OutOfRange if said.ends_with("is a future revision") => Failure::FutureRevision,
            Code::DeadlineExceeded => Failure::Timeout { message },
            Code::Unavailable if said.contains("timed out") => Failure::Timeout { message },
            Code::Unavailable => Failure::Unavailable {
                unsent: never_connected(status),
                message,
            },
            Code::InvalidArgument if said.ends_with("request is too large") => Failure::TooLarge,
            // It was too large to be looked at.
            Code::ResourceExhausted if said.contains("message larger than max") => Failure::TooLarge,
            Code::NotFound if said.ends_with("lease not found") => Failure::LeaseNotFound,
            // No server said this: the connection broke.
            _ if status.source().is_some() => Failure::Unavailable {
                unsent: never_connected(status),
                message,
            },
            code => Failure::Refused { code, message },
        }
    }

    /// Whether another member may do better.
    pub(crate) fn is_of_this_member(&self) -> bool {
        matches!(self, Failure::Unavailable { .. } | Failure::Timeout { .. })
    }

    /// Whether it surely changed nothing, so that even a write may be tried elsewhere.
    pub(crate) fn is_unsent(&self) -> bool {
        matches!(self, Failure::Unavailable { unsent: true, .. })
    }

    /// What a client of the API is told.
    #[must_use]
    pub fn to_status(&self) -> Status {
        match self {
            Failure::Compacted { .. } => {
                Status::expired("The resourceVersion for the provided list is too old.")
            }
            Failure::Timeout { message } => Status::new(
                Reason::Timeout,
                format!("Timeout: request did not complete within requested timeout - {message}"),
            ),
            Failure::TooLarge => Status::new(Reason::RequestEntityTooLarge, self.to_string()),
            // A real server passes the store's words on.
            other => Status::new(Reason::InternalError, other.to_string()),
        }
    }
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Status {
        failure.to_status()
    }
}

/// What a store says, or why there is no connection to it: the first error of several that are each other's reason says
/// little.
fn told(status: &tonic::Status) -> String {
    let mut told = status.message().to_owned();
    let mut source = status.source();
    while let Some(error) = source {
        let text = error.to_string();
        if !told.contains(&text) {
            told.push_str(": ");
            told.push_str(&text);
        }
        source = error.source();
    }
    told
}

/// Whether the call ended before there was a connection to make it on.
fn never_connected(status: &tonic::Status) -> bool {
    let mut source = status.source();
    while let Some(error) = source {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_the_store_are_understood() {
        let compacted = "etcdserver: mvcc: required revision has been compacted";
        let future = "etcdserver: mvcc: required revision is a future revision";
        for (code, text, reason) in [
            (Code::OutOfRange, compacted, Reason::Expired),
            (Code::OutOfRange, future, Reason::InternalError),
            (
                Code::Unavailable,
                "etcdserver: request timed out",
                Reason::Timeout,
            ),
            (Code::Unavailable, "etcdserver: no leader", Reason::InternalError),
            (
                Code::InvalidArgument,
                "etcdserver: request is too large",
                Reason::RequestEntityTooLarge,
            ),
            (
                Code::ResourceExhausted,
                "etcdserver: mvcc: database space exceeded",
                Reason::InternalError,
            ),
        ] {
            let failure = Failure::of(&tonic::Status::new(code, text));
            assert_eq!(failure.to_string(), text);
            assert!(!failure.is_unsent());
            assert_eq!(failure.to_status().reason, reason, "{text}");
        }
        let large = "grpc: received message larger than max (3146031 vs. 2097152)";
        let failure = Failure::of(&tonic::Status::new(Code::ResourceExhausted, large));
        assert!(matches!(failure, Failure::TooLarge), "{failure}");
    }
}

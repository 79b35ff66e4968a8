//! The refusals that the state machine decides, under etcd's names and with etcd's texts.

use thiserror::Error;

/// Why a request was refused without effect. The display text is the one on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Error)]
pub enum Error {
    /// An empty key.
    #[error("etcdserver: key is not provided")]
    EmptyKey,
    /// `ignore_value` or `ignore_lease` on an absent key, or an operation of a transaction without content.
    #[error("etcdserver: key not found")]
    KeyNotFound,
    /// `ignore_value` together with a value.
    #[error("etcdserver: value is provided")]
    ValueProvided,
    /// `ignore_lease` together with a lease.
    #[error("etcdserver: lease is provided")]
    LeaseProvided,
    /// A list of a transaction is too long.
    #[error("etcdserver: too many operations in txn request")]
    TooManyOps,
    /// A key put twice, or put inside a deleted range, in one branch.
    #[error("etcdserver: duplicate key given in txn request")]
    DuplicateKey,
    /// A sort order or sort target outside the enumeration.
    #[error("etcdserver: invalid sort option")]
    InvalidSortOption,
    /// The revision is no longer (or, for a compaction, already) behind the compacted one.
    #[error("etcdserver: mvcc: required revision has been compacted")]
    Compacted,
    /// The revision is not there yet.
    #[error("etcdserver: mvcc: required revision is a future revision")]
    FutureRev,
    /// No lease of that id.
    #[error("etcdserver: requested lease not found")]
    LeaseNotFound,
    /// A lease of that id exists.
    #[error("etcdserver: lease already exists")]
    LeaseExist,
    /// A TTL above 9,000,000,000 s.
    #[error("etcdserver: too large lease TTL")]
    LeaseTtlTooLarge,
}

impl Error {
    /// All of them.
    pub const ALL: [Error; 12] = [
        Error::EmptyKey,
        Error::KeyNotFound,
        Error::ValueProvided,
        Error::LeaseProvided,
        Error::TooManyOps,
        Error::DuplicateKey,
        Error::InvalidSortOption,
        Error::Compacted,
        Error::FutureRev,
        Error::LeaseNotFound,
        Error::LeaseExist,
        Error::LeaseTtlTooLarge,
    ];

    /// The refusal whose wire text this is; clients know errors by their text.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Error> {
        Self::ALL.into_iter().find(|error| error.to_string() == text)
    }
}

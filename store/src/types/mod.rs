//! The words every room shares: identifiers, revisions, key ranges and changes. Plain data; no I/O, no policy.

mod change;
mod ids;
mod key_range;
mod revision;

pub use change::{Change, CommittedRevision, SharedRevision};
pub use ids::{ClusterId, EntryKind, Index, LeaseId, MemberId, ProposalId, Term, WatchId};
pub use key_range::{Bounds, KeyRange};
pub use revision::Revision;

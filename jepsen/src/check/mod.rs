//! Judges what clients saw.
//!
//! Each check takes a record and gives back violations with the numbers that prove them; an empty list means that
//! nothing in the record contradicts the guarantee. A check never looks at the product, only at records, and never
//! repairs or skips a part of a record that it does not understand: that is a violation too.
//!
//! | file | guarantee |
//! | --- | --- |
//! | [`linearizable`] | KV histories: every answer fits one order of all operations, by their revisions |
//! | [`wgl`] | the same for any small state machine, by search; it keeps [`linearizable`] honest |
//! | [`sessions`] | no member's answers go back in time, local reads included |
//! | [`lease_timing`] | no lease ends before its time, as far as the simulator's clock can tell |
//! | [`ordered`] [`unique`] [`atomic`] [`reliable`] [`resumable`] [`bookmarkable`] | one watch guarantee each |
//! | [`truth`] | what happened, revision by revision, which the others compare with |

pub mod atomic;
pub mod bookmarkable;
mod expect;
pub mod lease_timing;
pub mod linearizable;
mod matching;
mod observed;
pub mod ordered;
mod refusals;
pub mod reliable;
mod replay;
pub mod resumable;
mod search;
pub mod sessions;
pub mod truth;
pub mod unique;
pub mod violation;
pub mod wgl;

pub use linearizable::{KvHistory, Options, Report};
pub use truth::Truth;
pub use violation::Violation;

use crate::history::WatchRecord;

/// Every watch guarantee for every watcher.
#[must_use]
pub fn watches(records: &[WatchRecord], truth: &Truth) -> Vec<Violation> {
    records
        .iter()
        .flat_map(|record| {
            let mut found = ordered::check(record, truth);
            found.extend(unique::check(record, truth));
            found.extend(atomic::check(record));
            found.extend(reliable::check(record, truth));
            found.extend(resumable::check(record, truth));
            found.extend(bookmarkable::check(record, truth));
            found
        })
        .collect()
}

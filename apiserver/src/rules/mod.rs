//! What the API demands of objects and makes of them. The order in which a write goes through it is that of a real API
//! server: [`default`], then [`prepare_create`] or [`prepare_update`], then [`validate`]. Nothing here does I/O or asks
//! the clock.
//!
//! This is the only room that knows kinds by name. What differs from kind to kind is data wherever it can be:
//! `defaults.txt` and `validation.txt`; what must be worked out stands in a file per matter.

mod checks;
mod computed;
mod convert;
mod defaults;
mod jobs;
mod metadata;
mod path;
mod pods;
mod prepare;
pub mod quantity;
mod scale;
pub mod services;
mod validation;
mod workloads;

use jiff::Timestamp;

pub use self::convert::convert;
pub use self::defaults::default;
pub use self::pods::{Eviction, bind, ends_in_its_time, evict, terminating_grace_s};
pub use self::prepare::{is_finalized, prepare_create, prepare_update};
pub use self::scale::{scale_of, set_scale};
pub use self::validation::{validate, validate_in};

/// A time as objects have it: to the second, in UTC.
#[must_use]
pub fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests;

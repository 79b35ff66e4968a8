//! When the data of members are compared.

use std::time::Duration;

use super::gates::Gates;
use super::raw::Raw;

/// The checks that are switched on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct CorruptionSettings {
    /// Before a member that has data serves clients.
    pub(crate) initial: bool,
    /// How often the leader compares the current data; never where it is zero.
    pub(crate) period: Duration,
    /// How often it compares the hashes of compactions.
    pub(crate) compactions: Option<Duration>,
}

impl CorruptionSettings {
    pub(super) fn read(raw: &Raw, gates: &Gates) -> CorruptionSettings {
        let interval = raw.interval("compact-hash-check-time");
        CorruptionSettings {
            initial: gates.enabled("InitialCorruptCheck"),
            period: raw.interval("corrupt-check-time"),
            compactions: gates.enabled("CompactHashCheck").then_some(interval),
        }
    }
}

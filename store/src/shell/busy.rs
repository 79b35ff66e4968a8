//! Since when the log writer has been waiting for the disk. Its thread says when it begins and ends; the driver asks on
//! every tick, since a thread that waits cannot tell that it does.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::env::Instant;

/// See the module's description.
#[derive(Default)]
pub(super) struct Busy {
    /// In nanoseconds of the member's clock; 0 while there is nothing to wait for.
    since: AtomicU64,
}

impl Busy {
    /// The disk is given something to do.
    pub(super) fn begin(&self, now: Instant) {
        self.since.store(now.0.max(1), Ordering::Relaxed);
    }

    /// It has done it.
    pub(super) fn end(&self) {
        self.since.store(0, Ordering::Relaxed);
    }

    /// How long it has taken so far.
    pub(super) fn waiting(&self, now: Instant) -> Duration {
        match self.since.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            since => now.since(Instant(since)),
        }
    }
}

//! Memory that is free goes back to the system also while nothing happens.
//!
//! mimalloc gives freed pages back a second after they were freed, but looks for them only when a page is freed. Measured:
//! after half of 250 MiB were deleted, an idle member kept 500 MiB resident until calls came, then 250. So one large
//! block is taken and freed each second, untouched: a page of its own, which makes it look.

use std::hint::black_box;
use std::time::Duration;

/// Does so until cancelled.
pub(crate) async fn give_back() {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        drop(black_box(Vec::<u8>::with_capacity(BLOCK_BYTES)));
    }
}

const INTERVAL: Duration = Duration::from_secs(1);
/// More than the largest block that shares a page (512 KiB).
const BLOCK_BYTES: usize = 1 << 20;

//! A look at the snapshot file after the start. Nobody reads it as long as the working copy is whole, so damage to it
//! would only show when it is needed. While the working copy still has everything, it can be mended: by a new one.

use std::sync::Arc;
use std::thread;

use tokio::sync::mpsc::UnboundedSender;

use super::actors::Event;
use super::bootstrap::Workplace;
use super::shared::Shared;
use crate::wal::snapshot::{SnapshotError, newest_valid};

/// Begins the look, on a thread of its own.
pub(super) fn start(shared: &Arc<Shared>, place: &Workplace, events: UnboundedSender<Event>) {
    let place = place.clone();
    let shared = Arc::downgrade(shared);
    let started = thread::Builder::new()
        .name("taffrail-scrub".to_owned())
        .spawn(move || {
            // The store may be gone by then.
            if !is_whole(&place) && shared.strong_count() > 0 {
                drop(events.send(Event::SnapshotLost));
            }
        });
    if let Err(error) = started {
        tracing::warn!(%error, "no thread to check the snapshot file");
    }
}

/// Whether the newest snapshot file is whole.
fn is_whole(place: &Workplace) -> bool {
    for _ in 0..TRIES {
        match newest_valid(place.world.disk.as_ref(), &place.folders.snap) {
            Ok(newest) => {
                for damaged in &newest.damaged {
                    tracing::error!(%damaged, "a snapshot file is damaged: it is written anew");
                }
                if newest.reader.is_none() && newest.damaged.is_empty() {
                    tracing::error!(path = %place.folders.snap.display(), "the snapshot file is gone: it is written anew");
                }
                return newest.reader.is_some() && newest.damaged.is_empty();
            }
            // A newer one took its place since the folder was listed.
            Err(SnapshotError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::error!(%error, "the snapshot file cannot be checked");
                return true;
            }
        }
    }
    true
}

/// How often the look begins anew.
const TRIES: u32 = 10;

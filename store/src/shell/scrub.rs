//! A look at the snapshot file and the log after the start. Nobody reads them as long as the working copy is whole, so
//! damage to them would only show when they are needed. While the working copy still has everything, both can be mended:
//! by a new snapshot file, which covers the log before it.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;

use super::actors::Event;
use super::bootstrap::Workplace;
use super::shared::Shared;
use crate::wal::snapshot::{SnapshotError, newest_valid};
use crate::wal::{self, WalError};

/// Begins the look, on a thread of its own.
pub(super) fn start(shared: &Arc<Shared>, place: &Workplace, events: UnboundedSender<Event>) {
    let place = place.clone();
    let shared = Arc::downgrade(shared);
    let started = thread::Builder::new()
        .name("taffrail-scrub".to_owned())
        .spawn(move || {
            let whole = snapshot_is_whole(&place) && log_is_whole(&place);
            // The store may be gone by then.
            if !whole && shared.strong_count() > 0 {
                drop(events.send(Event::SnapshotLost));
            }
        });
    if let Err(error) = started {
        tracing::warn!(%error, "no thread to check the snapshot file");
    }
}

/// Whether the newest snapshot file is whole.
fn snapshot_is_whole(place: &Workplace) -> bool {
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

/// Whether the log is whole, but for the segment that is being written.
fn log_is_whole(place: &Workplace) -> bool {
    let first = damaged_segments(place);
    if first.is_empty() {
        return true;
    }
    // A segment that is let go of meanwhile is written to for its next use, and looks damaged to whoever reads it.
    let again = damaged_segments(place);
    let both: Vec<&String> = first.iter().filter(|damage| again.contains(damage)).collect();
    for damage in &both {
        tracing::error!(
            %damage,
            "the log is damaged where the state does not need it: a snapshot file is written that covers it"
        );
    }
    both.is_empty()
}

fn damaged_segments(place: &Workplace) -> Vec<String> {
    let (disk, dir) = (place.world.disk.as_ref(), &place.folders.wal);
    let checked = wal::check(disk, dir, &wal::Config::default(), &mut |bytes| {
        thread::park_timeout(Duration::from_micros(bytes / BYTES_PER_US));
    });
    match checked {
        Ok(checked) => {
            let mut damage: Vec<String> = checked.at_rest().map(ToString::to_string).collect();
            // The snapshot is looked at after the log: one that is written meanwhile lets go of some of it.
            let newest = newest_valid(disk, &place.folders.snap).ok();
            let index = newest
                .and_then(|newest| newest.reader)
                .map(|reader| reader.meta().index);
            if let (Some(range), Some(index)) = (checked.range, index)
                && range.before > index
            {
                let (dir, before) = (dir.display(), range.before);
                damage.push(format!(
                    "{dir} begins behind index {before}, and the snapshot file ends at {index}"
                ));
            }
            damage
        }
        Err(WalError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => {
            tracing::error!(%error, "the log cannot be checked");
            Vec::new()
        }
    }
}

/// How often the look begins anew.
const TRIES: u32 = 10;
/// The log is read no faster than so many bytes a microsecond (200 MB/s), for the sake of whoever waits for the disk.
const BYTES_PER_US: u64 = 200;

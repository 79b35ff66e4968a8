//! One watcher: what it wants to hear and from which revision on.

use bytes::Bytes;
use proto::etcdserverpb::WatchCreateRequest;
use proto::etcdserverpb::watch_create_request::FilterType;

use super::ReadToken;
use super::slab::Slot;
use crate::types::{Change, KeyRange, WatchId};

/// Why a creation is refused; the texts are etcd's `cancel_reason`, which clients see.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// A negative start revision.
    #[error("etcdserver: mvcc: required revision has been compacted")]
    NegativeStart,
    /// The range ends where it begins, or before.
    #[error("mvcc: watcher range is empty")]
    EmptyRange,
    /// The id asked for is taken.
    #[error("mvcc: duplicate watch ID provided on the WatchStream")]
    DuplicateId,
}

/// Where a watcher stands; see the room's description.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    Synced,
    Behind,
    Reading(ReadToken),
}

#[derive(Debug)]
pub(super) struct Watcher {
    /// The place of its stream, which outlives it.
    pub(super) stream: Slot,
    pub(super) id: WatchId,
    pub(super) range: KeyRange,
    /// As requested; 0 means from now on.
    pub(super) start: i64,
    /// The first revision not sent. Moves only while the watcher is behind: a synced one is sent whatever comes,
    /// except what lies below `next` (its start in the future).
    pub(super) next: i64,
    pub(super) state: State,
    pub(super) prev_kv: bool,
    pub(super) fragment: bool,
    pub(super) progress_notify: bool,
    /// No event was sent since the stream's last progress tick.
    pub(super) quiet: bool,
    no_put: bool,
    no_delete: bool,
}

impl Watcher {
    /// The watcher of a request that was admitted, in a store at `revision`.
    pub(super) fn new(
        request: &WatchCreateRequest,
        range: KeyRange,
        stream: Slot,
        id: WatchId,
        revision: i64,
    ) -> Self {
        let filtered = |kind: FilterType| request.filters.contains(&i32::from(kind));
        let start = request.start_revision;
        Watcher {
            stream,
            id,
            range,
            start,
            next: if start == 0 { revision + 1 } else { start },
            state: if start == 0 || start > revision {
                State::Synced
            } else {
                State::Behind
            },
            prev_kv: request.prev_kv,
            fragment: request.fragment,
            progress_notify: request.progress_notify,
            quiet: true,
            no_put: filtered(FilterType::Noput),
            no_delete: filtered(FilterType::Nodelete),
        }
    }

    /// Whether the change passes the filters and lies in the range's keys (start revisions are judged elsewhere).
    pub(super) fn wants(&self, change: &Change) -> bool {
        let filtered = if change.tombstone {
            self.no_delete
        } else {
            self.no_put
        };
        !filtered && self.range.contains(&change.kv.key)
    }

    /// Whether a progress response at `revision` would be true: everything up to it was sent, and the watcher's
    /// start is not in the future.
    pub(super) fn has_progressed_to(&self, revision: i64) -> bool {
        self.state == State::Synced && self.start <= revision
    }
}

/// The range a request watches; an empty key stands for the smallest one. Copied, so that a watcher does not keep
/// the buffer its request was received in.
#[must_use]
pub fn range(request: &WatchCreateRequest) -> KeyRange {
    let key = if request.key.is_empty() {
        b"\0"
    } else {
        request.key.as_ref()
    };
    KeyRange::new(
        Bytes::copy_from_slice(key),
        Bytes::copy_from_slice(&request.range_end),
    )
}

/// etcd's checks of a creation in etcd's order, except for the id.
pub(super) fn check(request: &WatchCreateRequest, range: &KeyRange) -> Result<(), Refusal> {
    if request.start_revision < 0 {
        return Err(Refusal::NegativeStart);
    }
    if range.is_empty() {
        return Err(Refusal::EmptyRange);
    }
    Ok(())
}

//! One watch stream: its watchers by id, and the one way out to its client.

use std::collections::{BTreeMap, VecDeque};

use proto::etcdserverpb::WatchResponse;

use super::slab::{Slot, Ticket};
use super::watcher::Refusal;
use super::{Sink, StreamId};
use crate::env::Instant;
use crate::types::WatchId;

pub(super) struct Stream {
    pub(super) id: StreamId,
    pub(super) outlet: Outlet,
    /// Watchers by id. `None`: cancelled by a compaction; the id stays taken until the client cancels it too, which
    /// is answered, as in etcd.
    pub(super) watches: BTreeMap<WatchId, Option<Slot>>,
    /// Watchers that are behind, in the order in which they are served. Cancelled ones leave stale tickets.
    pub(super) behind: VecDeque<Ticket>,
    /// When the progress ticker fires.
    pub(super) ticks_at: Instant,
    next_id: i64,
}

impl Stream {
    pub(super) fn new(id: StreamId, sink: Box<dyn Sink>) -> Self {
        Stream {
            id,
            outlet: Outlet {
                sink,
                waiting: VecDeque::new(),
            },
            watches: BTreeMap::new(),
            behind: VecDeque::new(),
            ticks_at: Instant::default(),
            next_id: 0,
        }
    }

    /// The id of a new watcher: the one asked for, or for 0 the lowest value of a counter that never goes back.
    pub(super) fn admit(&mut self, asked: i64) -> Result<WatchId, Refusal> {
        if asked != 0 {
            let id = WatchId(asked);
            return if self.watches.contains_key(&id) {
                Err(Refusal::DuplicateId)
            } else {
                Ok(id)
            };
        }
        while self.watches.contains_key(&WatchId(self.next_id)) {
            self.next_id += 1;
        }
        self.next_id += 1;
        Ok(WatchId(self.next_id - 1))
    }

    /// Live watchers in the order of their ids.
    pub(super) fn live(&self) -> impl Iterator<Item = Slot> {
        self.watches.values().flatten().copied()
    }

    /// Whether a pass could do something for it, given room.
    pub(super) fn needs_attention(&self) -> bool {
        !self.behind.is_empty() || !self.outlet.waiting.is_empty()
    }
}

/// The sink with a queue before it for what must not be refused: answers to requests, and the rest of a fragmented
/// response once its first part is on the way. While anything waits, no events are accepted, so the order stands.
pub(super) struct Outlet {
    sink: Box<dyn Sink>,
    waiting: VecDeque<WatchResponse>,
}

impl Outlet {
    /// How many responses with events it would take.
    pub(super) fn room(&self) -> usize {
        if self.waiting.is_empty() {
            self.sink.room()
        } else {
            0
        }
    }

    /// Whether nobody will ever read what is sent.
    pub(super) fn is_abandoned(&self) -> bool {
        self.sink.is_closed()
    }

    pub(super) fn is_open(&self) -> bool {
        self.room() > 0
    }

    /// Sends now, or in turn when there is room.
    pub(super) fn push(&mut self, response: WatchResponse) {
        self.waiting.push_back(response);
        self.flush();
    }

    /// Sends what waits, as far as there is room.
    pub(super) fn flush(&mut self) {
        while let Some(response) = self.waiting.pop_front() {
            if let Err(refused) = self.sink.offer(response) {
                self.waiting.push_front(refused);
                return;
            }
        }
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn events_waiting(&self) -> usize {
        self.waiting.iter().map(|response| response.events.len()).sum()
    }
}

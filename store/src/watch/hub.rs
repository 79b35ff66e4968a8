//! The hub: streams, their watchers, and the delivery of what is committed. Catching up lies in `catch_up.rs`.
//!
//! Invariants: a watcher is in the index `synced` exactly while its state says so; one that is behind has exactly one
//! valid ticket, in its stream's queue or in the hands of a running pass; `slow` counts those that are not synced;
//! every stream with a queue or with waiting answers is in `attention`.

use std::collections::{BTreeMap, BTreeSet};

use proto::etcdserverpb::{WatchCreateRequest, WatchResponse};
use proto::mvccpb::Event;

use super::batch::{fragments, response};
use super::catch_up::Read;
use super::interval::IntervalIndex;
use super::progress::Tickers;
use super::slab::{Slab, Slot};
use super::stream::Stream;
use super::watcher::{self, State, Watcher};
use super::{Config, Effect, HistoryView, Input, ReadToken, Sink, Stats, StreamId};
use crate::env::Instant;
use crate::types::{CommittedRevision, SharedRevision, WatchId};

/// All watch streams of a member; see the room's description.
pub struct Hub {
    pub(super) config: Config,
    /// The newest revision taken in: all synced watchers stand here.
    pub(super) revision: i64,
    pub(super) streams: Slab<Stream>,
    pub(super) watchers: Slab<Watcher>,
    /// Streams with watchers that are behind, or with answers that wait for room.
    pub(super) attention: BTreeSet<Slot>,
    /// Where the next pass begins among `attention`.
    pub(super) turn: Option<Slot>,
    /// History reads under way.
    pub(super) reads: BTreeMap<ReadToken, Read>,
    pub(super) token: u64,
    /// A pass now would get further.
    pub(super) more: bool,
    synced: IntervalIndex<Slot>,
    names: BTreeMap<StreamId, Slot>,
    tickers: Tickers,
    now: Instant,
    slow: usize,
    events_total: u64,
    /// Streams found to have too many answers waiting.
    overflowed: Vec<Slot>,
    /// Scratch: (watcher, number of the change) of one revision.
    matches: Vec<(Slot, usize)>,
}

impl Hub {
    /// A hub without streams, in a store that stands at `revision`.
    #[must_use]
    pub fn new(config: Config, revision: i64, now: Instant) -> Self {
        Hub {
            revision,
            streams: Slab::new(),
            watchers: Slab::new(),
            attention: BTreeSet::new(),
            turn: None,
            reads: BTreeMap::new(),
            token: 0,
            more: false,
            synced: IntervalIndex::new(config.seed),
            names: BTreeMap::new(),
            tickers: Tickers::new(config.progress_interval, config.seed),
            now,
            slow: 0,
            events_total: 0,
            overflowed: Vec::new(),
            matches: Vec::new(),
            config,
        }
    }

    /// Takes one input.
    pub fn step(&mut self, input: Input<'_>, view: &dyn HistoryView, effects: &mut Vec<Effect>) {
        match input {
            Input::Committed(revisions) => self.committed(revisions, view),
            Input::Installed => {
                self.advance(view);
                self.catch_up(view, effects);
            }
            Input::Tick(now) => {
                self.now = self.now.max(now);
                self.advance(view);
                self.catch_up(view, effects);
                self.tick_progress();
            }
            Input::History { token, answer } => {
                self.history(token, answer, view);
                self.catch_up(view, effects);
            }
            Input::Open { stream, sink } => self.open(stream, sink),
            Input::Close { stream } => self.close(stream),
            Input::Abandoned => self.close_abandoned(),
            Input::Room { stream } => {
                if self
                    .names
                    .get(&stream)
                    .is_some_and(|at| self.attention.contains(at))
                {
                    self.catch_up(view, effects);
                }
            }
            Input::Create { stream, request } => {
                self.on_stream(stream, view, |hub, at| hub.create(at, &request, view, effects));
            }
            Input::Refuse { stream, reason } => {
                self.on_stream(stream, view, |hub, at| hub.refuse(at, reason));
            }
            Input::Cancel { stream, id } => self.on_stream(stream, view, |hub, at| hub.cancel(at, id)),
            Input::Progress { stream } => self.on_stream(stream, view, Hub::answer_progress),
        }
        for at in std::mem::take(&mut self.overflowed) {
            if let Some(stream) = self.streams.get(at).map(|stream| stream.id) {
                self.close(stream);
                effects.push(Effect::Overflow { stream });
            }
        }
    }

    /// When [`Input::Tick`] is due next; may have passed already.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let retry = if self.more {
            Some(self.now)
        } else {
            (!self.attention.is_empty()).then(|| self.now + self.config.retry_interval)
        };
        [retry, self.tickers.next()].into_iter().flatten().min()
    }

    /// The revision up to which synced watchers were served.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// Figures for the metrics; walks the streams.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let waiting = self.attention.iter().filter_map(|&at| self.streams.get(at));
        Stats {
            streams: self.streams.len(),
            watchers: self.watchers.len(),
            slow: self.slow,
            events_pending: waiting.map(|stream| stream.outlet.events_waiting()).sum(),
            events_total: self.events_total,
            reads: self.reads.len(),
        }
    }

    /// Runs a request on its stream, if that is still open, after taking in what the view shows.
    fn on_stream(&mut self, stream: StreamId, view: &dyn HistoryView, run: impl FnOnce(&mut Self, Slot)) {
        let Some(&at) = self.names.get(&stream) else {
            return;
        };
        self.advance(view);
        run(self, at);
    }

    fn open(&mut self, id: StreamId, sink: Box<dyn Sink>) {
        assert!(!self.names.contains_key(&id), "{id:?} was opened twice");
        if sink.is_closed() {
            // Its reader did not wait for the opening; requests on it find no stream.
            return;
        }
        let at = self.streams.insert(Stream::new(id, sink));
        self.names.insert(id, at);
        self.restart_ticker(at);
    }

    fn close(&mut self, id: StreamId) {
        let Some(at) = self.names.remove(&id) else { return };
        let Some(stream) = self.streams.remove(at) else {
            return;
        };
        self.attention.remove(&at);
        self.tickers.stop(stream.ticks_at, at);
        for slot in stream.live() {
            self.forget(slot);
        }
    }

    fn close_abandoned(&mut self) {
        let abandoned = |(id, at): (&StreamId, &Slot)| {
            let stream = self.streams.get(*at)?;
            stream.outlet.is_abandoned().then_some(*id)
        };
        let ids: Vec<StreamId> = self.names.iter().filter_map(abandoned).collect();
        ids.into_iter().for_each(|id| self.close(id));
    }

    fn create(
        &mut self,
        at: Slot,
        request: &WatchCreateRequest,
        view: &dyn HistoryView,
        effects: &mut Vec<Effect>,
    ) {
        let Some(stream) = self.streams.get_mut(at) else {
            return;
        };
        let range = watcher::range(request);
        let admitted = watcher::check(request, &range).and_then(|()| stream.admit(request.watch_id));
        let id = match admitted {
            Ok(id) => id,
            Err(refusal) => return self.refuse(at, refusal.to_string()),
        };
        let watcher = Watcher::new(request, range.clone(), at, id, self.revision);
        let (state, next) = (watcher.state, watcher.next);
        let slot = self.watchers.insert(watcher);
        stream.watches.insert(id, Some(slot));
        self.answer(
            at,
            WatchResponse {
                created: true,
                ..response(self.revision, id.0)
            },
        );
        if state == State::Synced {
            self.synced.insert(&range, slot);
            return;
        }
        self.slow += 1;
        let compacted = view.compacted();
        if next < compacted {
            return self.cancel_compacted(slot, compacted);
        }
        let next = next.max(FIRST_CHANGE);
        self.settle(slot, next);
        self.more = true;
        if next >= view.recent_first() && self.revision - next < self.config.kick_revisions_max {
            self.catch_up(view, effects);
        }
    }

    fn refuse(&mut self, at: Slot, cancel_reason: String) {
        let refused = WatchResponse {
            created: true,
            canceled: true,
            cancel_reason,
            ..response(self.revision, -1)
        };
        self.answer(at, refused);
    }

    fn cancel(&mut self, at: Slot, id: WatchId) {
        let Some(watch) = self
            .streams
            .get_mut(at)
            .and_then(|stream| stream.watches.remove(&id))
        else {
            return;
        };
        if let Some(slot) = watch {
            self.forget(slot);
        }
        self.answer(
            at,
            WatchResponse {
                canceled: true,
                ..response(self.revision, id.0)
            },
        );
    }

    /// Cancels a watcher that a compaction has passed.
    pub(super) fn cancel_compacted(&mut self, slot: Slot, compacted: i64) {
        let Some(watcher) = self.forget(slot) else { return };
        if let Some(stream) = self.streams.get_mut(watcher.stream) {
            stream.watches.insert(watcher.id, None);
        }
        let canceled = WatchResponse {
            canceled: true,
            compact_revision: compacted,
            ..response(0, watcher.id.0)
        };
        self.answer(watcher.stream, canceled);
    }

    fn forget(&mut self, slot: Slot) -> Option<Watcher> {
        let watcher = self.watchers.remove(slot)?;
        if watcher.state == State::Synced {
            self.synced.remove(&watcher.range, slot);
        } else {
            self.slow -= 1;
        }
        Some(watcher)
    }

    /// Sends what must not be refused.
    fn answer(&mut self, at: Slot, response: WatchResponse) {
        let Some(stream) = self.streams.get_mut(at) else {
            return;
        };
        stream.outlet.push(response);
        if stream.outlet.waiting() > 0 {
            self.attention.insert(at);
        }
        if stream.outlet.waiting() > self.config.answers_waiting_max {
            self.overflowed.push(at);
        }
    }

    /// Sends events to a watcher whose outlet was found open.
    pub(super) fn send(&mut self, slot: Slot, revision: i64, events: Vec<Event>) {
        let Some(watcher) = self.watchers.get_mut(slot) else {
            return;
        };
        let Some(stream) = self.streams.get_mut(watcher.stream) else {
            return;
        };
        watcher.quiet = false;
        self.events_total += events.len() as u64;
        let response = WatchResponse {
            events,
            ..response(revision, watcher.id.0)
        };
        if watcher.fragment {
            for part in fragments(response, self.config.fragment_bytes) {
                stream.outlet.push(part);
            }
        } else {
            stream.outlet.push(response);
        }
        if stream.outlet.waiting() > 0 {
            self.attention.insert(watcher.stream);
        }
    }

    fn committed(&mut self, revisions: &[SharedRevision], view: &dyn HistoryView) {
        for revision in revisions {
            if revision.main <= self.revision {
                continue;
            }
            self.advance_to(revision.main - 1, view);
            self.deliver(revision);
        }
    }

    /// Takes in what the view shows and nobody has told yet.
    fn advance(&mut self, view: &dyn HistoryView) {
        self.advance_to(view.current(), view);
    }

    fn advance_to(&mut self, main: i64, view: &dyn HistoryView) {
        while self.revision < main {
            match view.recent(self.revision + 1) {
                Some(revision) => self.deliver(&revision),
                None => self.jump(main),
            }
        }
    }

    /// Passes revisions that memory does not hold: whoever was to hear of them catches up from history.
    fn jump(&mut self, main: i64) {
        let missed = self.revision + 1;
        self.revision = main;
        let lagging: Vec<(Slot, i64)> = self
            .watchers
            .slots()
            .filter_map(|slot| Some((slot, self.watchers.get(slot)?)))
            .filter(|(_, watcher)| watcher.state == State::Synced && watcher.next <= main)
            .map(|(slot, watcher)| (slot, watcher.next.max(missed)))
            .collect();
        for (slot, next) in lagging {
            self.fall_behind(slot, next);
        }
    }

    /// Delivers the next revision to the synced watchers it concerns.
    fn deliver(&mut self, revision: &CommittedRevision) {
        debug_assert_eq!(
            revision.main,
            self.revision + 1,
            "revisions are delivered one after the other"
        );
        self.revision = revision.main;
        if self.synced.is_empty() {
            return;
        }
        let mut matches = std::mem::take(&mut self.matches);
        for (at, change) in revision.changes.iter().enumerate() {
            self.synced
                .stab(&change.kv.key, &mut |slot| matches.push((slot, at)));
        }
        matches.sort_unstable();
        for of_watcher in matches.chunk_by(|a, b| a.0 == b.0) {
            self.deliver_to(of_watcher[0].0, revision, of_watcher);
        }
        matches.clear();
        self.matches = matches;
    }

    fn deliver_to(&mut self, slot: Slot, revision: &CommittedRevision, matches: &[(Slot, usize)]) {
        let Some(watcher) = self.watchers.get(slot) else {
            return;
        };
        if revision.main < watcher.next {
            return;
        }
        let wanted = matches
            .iter()
            .filter(|(_, at)| watcher.wants(&revision.changes[*at]));
        let events: Vec<Event> = wanted
            .map(|(_, at)| revision.event(*at, watcher.prev_kv))
            .collect();
        if events.is_empty() {
            return;
        }
        if self
            .streams
            .get(watcher.stream)
            .is_some_and(|stream| stream.outlet.is_open())
        {
            self.send(slot, revision.main, events);
        } else {
            self.fall_behind(slot, revision.main);
        }
    }

    /// A synced watcher lacks the events from `next` on.
    fn fall_behind(&mut self, slot: Slot, next: i64) {
        assert!(
            next <= self.revision,
            "nothing is lacking from {next} on at {}",
            self.revision
        );
        let Some(watcher) = self.watchers.get_mut(slot) else {
            return;
        };
        watcher.next = next;
        self.synced.remove(&watcher.range, slot);
        self.slow += 1;
        self.queue(slot);
    }

    /// Puts a watcher that is behind at the end of its stream's queue.
    pub(super) fn queue(&mut self, slot: Slot) {
        let Some(ticket) = self.watchers.ticket(slot) else {
            return;
        };
        let Some(watcher) = self.watchers.get_mut(slot) else {
            return;
        };
        watcher.state = State::Behind;
        if let Some(stream) = self.streams.get_mut(watcher.stream) {
            stream.behind.push_back(ticket);
            self.attention.insert(watcher.stream);
        }
    }

    /// A watcher was sent everything below `next`.
    pub(super) fn settle(&mut self, slot: Slot, next: i64) {
        let Some(watcher) = self.watchers.get_mut(slot) else {
            return;
        };
        watcher.next = next;
        if next <= self.revision {
            return self.queue(slot);
        }
        watcher.state = State::Synced;
        self.synced.insert(&watcher.range, slot);
        self.slow -= 1;
    }

    /// Answers a progress request, or drops it: the answer stands for all watchers of the stream.
    fn answer_progress(&mut self, at: Slot) {
        let Some(stream) = self.streams.get_mut(at) else {
            return;
        };
        let revision = self.revision;
        let mut live = stream
            .live()
            .filter_map(|slot| self.watchers.get(slot))
            .peekable();
        let true_for_all = live.peek().is_some() && live.all(|watcher| watcher.has_progressed_to(revision));
        drop(live);
        if true_for_all && stream.outlet.is_open() {
            stream.outlet.push(response(revision, -1));
        }
    }

    /// Sends automatic progress on the streams whose tickers fire.
    fn tick_progress(&mut self) {
        while let Some(at) = self.tickers.fire(self.now) {
            let Some(stream) = self.streams.get_mut(at) else {
                continue;
            };
            for slot in stream.watches.values().flatten() {
                let Some(watcher) = self.watchers.get_mut(*slot) else {
                    continue;
                };
                let quiet = std::mem::replace(&mut watcher.quiet, true);
                let due = watcher.progress_notify && quiet && watcher.has_progressed_to(self.revision);
                if due && stream.outlet.is_open() {
                    stream.outlet.push(response(self.revision, watcher.id.0));
                }
            }
            self.restart_ticker(at);
        }
    }

    fn restart_ticker(&mut self, at: Slot) {
        if let Some(stream) = self.streams.get_mut(at) {
            stream.ticks_at = self.tickers.start(stream.id, at, self.now);
        }
    }
}

/// The first revision that changes something; a fresh store stands below it.
const FIRST_CHANGE: i64 = 2;

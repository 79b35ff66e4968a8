//! A member made of the model, a log and a checkpoint: right by default, or wrong in one planted way. It shows that the
//! simulator and the checkers find the kinds of bugs they are there for, whatever the engine looks like.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use jepsen::history::{Outcome, event_revision};
use jepsen::model::{Answer, Model, Request, Response, is_serializable, is_write};
use jepsen::rng::Rng;
use jepsen::sim::member::{Member, MemberNumber, Output, Step, StreamId, Token};
use jepsen::sim::world::{SECOND, Time};
use proto::etcdserverpb::watch_request::RequestUnion;
use proto::etcdserverpb::{ResponseHeader, WatchCreateRequest, WatchRequest, WatchResponse};
use proto::mvccpb::Event;

/// What is wrong with a member.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Bug {
    /// Nothing.
    None,
    /// Entries are applied and answered before the log is synced.
    AnswerBeforeSync,
    /// The checkpoint's applied index counts entries that its data does not have.
    AppliedAheadOfData,
    /// A torn record at the log's end is taken for a whole one.
    TornTailAsRecord,
    /// Replay after a restart begins before the checkpoint's data ends.
    ReplayedTwice,
    /// Reads are served from the last checkpoint.
    StaleRead,
    /// A watcher gets a revision again.
    EventTwice,
    /// A watcher's event is lost.
    EventLost,
    /// A revision's events come in two responses.
    RevisionSplit,
    /// Progress is told to a watcher that is behind.
    EarlyProgress,
    /// A watcher is told of a revision only when a later one of its range comes.
    WatcherNotWoken,
    /// A revoked lease leaves its last key.
    RevokeLeavesKey,
}

#[derive(Clone, Debug)]
enum Command {
    Client(Request),
    Expire(i64),
}

#[derive(Clone, Debug)]
struct Entry {
    token: Option<Token>,
    command: Command,
}

#[derive(Clone, Debug)]
struct Watcher {
    stream: StreamId,
    request: WatchCreateRequest,
    next: i64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Actor {
    Append,
    Sync,
    Apply,
    Read,
    Watch(usize),
    Checkpoint,
}

/// The member.
#[derive(Debug)]
pub(crate) struct Reference {
    bug: Bug,
    // The disk.
    log: Vec<Command>,
    unsynced: Vec<Command>,
    checkpoint: (usize, Model),
    disk_operations_left: Option<u64>,
    // Memory.
    model: Model,
    applied: usize,
    mailbox: VecDeque<Entry>,
    tokens: BTreeMap<usize, Token>,
    reads: VecDeque<(usize, Token, Request)>,
    watchers: Vec<Watcher>,
    deadlines: BTreeMap<i64, Time>,
    expiring: BTreeSet<i64>,
    now: Time,
    outputs: Vec<Output>,
}

impl Reference {
    pub(crate) fn new(bug: Bug) -> Self {
        Reference {
            bug,
            log: Vec::new(),
            unsynced: Vec::new(),
            checkpoint: (0, Model::default()),
            disk_operations_left: None,
            model: Model::default(),
            applied: 0,
            mailbox: VecDeque::new(),
            tokens: BTreeMap::new(),
            reads: VecDeque::new(),
            watchers: Vec::new(),
            deadlines: BTreeMap::new(),
            expiring: BTreeSet::new(),
            now: 0,
            outputs: Vec::new(),
        }
    }

    fn enabled(&self) -> Vec<Actor> {
        let mut enabled = Vec::new();
        if !self.mailbox.is_empty() {
            enabled.push(Actor::Append);
        }
        if !self.unsynced.is_empty() {
            enabled.push(Actor::Sync);
        }
        if self.applied < self.committed() {
            enabled.push(Actor::Apply);
        }
        if self
            .reads
            .front()
            .is_some_and(|(index, ..)| *index <= self.applied)
        {
            enabled.push(Actor::Read);
        }
        for (at, watcher) in self.watchers.iter().enumerate() {
            if watcher.next <= self.model.revision() {
                enabled.push(Actor::Watch(at));
            }
        }
        if self.applied >= self.checkpoint.0 + 10 {
            enabled.push(Actor::Checkpoint);
        }
        enabled
    }

    fn committed(&self) -> usize {
        let early = if self.bug == Bug::AnswerBeforeSync {
            self.unsynced.len()
        } else {
            0
        };
        self.log.len() + early
    }

    /// Counts a disk operation; false where the power went with it.
    fn disk(&mut self) -> bool {
        match &mut self.disk_operations_left {
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                true
            }
            None => true,
        }
    }

    fn append(&mut self) {
        while let Some(entry) = self.mailbox.pop_front() {
            if let Some(token) = entry.token {
                self.tokens.insert(self.log.len() + self.unsynced.len(), token);
            }
            self.unsynced.push(entry.command);
        }
    }

    fn apply_next(&mut self) {
        let at = self.applied;
        let command = self.log.iter().chain(&self.unsynced).nth(at).cloned().unwrap();
        self.applied += 1;
        let answer = self.apply(&command);
        if let Some(call) = self.tokens.remove(&at) {
            self.outputs.push(Output::Answer {
                call,
                outcome: Outcome::Ok(answer),
            });
        }
    }

    fn apply(&mut self, command: &Command) -> Answer {
        let (answer, events) = match command {
            Command::Client(request) => match self.model.apply(request) {
                Ok(applied) => (Ok(applied.response), applied.events),
                Err(error) => (Err(error), Vec::new()),
            },
            Command::Expire(id) => {
                self.expiring.remove(id);
                match self.model.lease_expire(*id) {
                    Ok(events) => (
                        Ok(Response::LeaseRevoke(
                            proto::etcdserverpb::LeaseRevokeResponse::default(),
                        )),
                        events,
                    ),
                    Err(error) => (Err(error), Vec::new()),
                }
            }
        };
        match (command, &answer) {
            (Command::Client(Request::LeaseGrant(_)), Ok(Response::LeaseGrant(granted))) => {
                self.deadlines.insert(granted.id, self.now + ttl(granted.ttl));
            }
            (Command::Client(Request::LeaseRevoke(request)), Ok(_)) => {
                self.deadlines.remove(&request.id);
                if self.bug == Bug::RevokeLeavesKey && !events.is_empty() {
                    self.resurrect(&events);
                }
            }
            (Command::Expire(id), _) => {
                self.deadlines.remove(id);
            }
            _ => {}
        }
        if !events.is_empty() {
            self.outputs.push(Output::Applied { events });
        }
        answer
    }

    /// Puts the last key of a revoke back, as its previous state was, but for the revisions.
    fn resurrect(&mut self, events: &[Event]) {
        let Some(old) = events.last().and_then(|event| event.prev_kv.clone()) else {
            return;
        };
        let put = proto::etcdserverpb::PutRequest {
            key: old.key,
            value: old.value,
            ..Default::default()
        };
        let (_, again) = self.model.put(&put).unwrap();
        self.outputs.push(Output::Applied { events: again });
    }

    fn read(&mut self, rng: &mut Rng) {
        let Some((_, call, request)) = self.reads.pop_front() else {
            return;
        };
        let stale = self.bug == Bug::StaleRead && rng.once_in(10);
        let model = if stale {
            &mut self.checkpoint.1
        } else {
            &mut self.model
        };
        let answer = model.apply(&request).map(|applied| applied.response);
        if let (Request::LeaseKeepAlive(request), Some(deadline)) =
            (&request, self.deadlines.get_mut(&keep_alive_id(&request)))
        {
            let granted = self.model.lease_keep_alive(*request).ttl;
            *deadline = self.now + ttl(granted);
        }
        self.outputs.push(Output::Answer {
            call,
            outcome: Outcome::Ok(answer),
        });
    }

    /// Sends a watcher some of what it is owed.
    fn pump(&mut self, at: usize, rng: &mut Rng) {
        let revision = self.model.revision();
        let watcher = &mut self.watchers[at];
        if watcher.next < self.model.compacted() {
            let (stream, compact_revision) = (watcher.stream, self.model.compacted());
            let response = WatchResponse {
                canceled: true,
                compact_revision,
                ..WatchResponse::default()
            };
            self.outputs.push(Output::Watch { stream, response });
            self.watchers.remove(at);
            return;
        }
        let request = WatchCreateRequest {
            start_revision: watcher.next,
            ..watcher.request.clone()
        };
        let mut events = self.model.events(&request);
        // Some whole revisions of it.
        let upto = watcher.next + i64::try_from(rng.below(20)).unwrap();
        events.retain(|event| event_revision(event) <= upto);
        if self.bug == Bug::WatcherNotWoken && events.is_empty() {
            return watcher.next = revision + 2;
        }
        watcher.next = (upto + 1).min(revision + 1);
        let stream = watcher.stream;
        if let Some(last) = events.last().map(event_revision) {
            match self.bug {
                Bug::EventTwice if rng.once_in(30) => watcher.next = last,
                Bug::EventLost if rng.once_in(30) => drop(events.remove(rng.index(events.len()))),
                _ => {}
            }
        }
        if events.is_empty() {
            return;
        }
        let fragment = watcher.request.fragment && events.len() > 1 && rng.once_in(2);
        if fragment || (self.bug == Bug::RevisionSplit && events.len() > 1) {
            let rest = events.split_off(events.len() - 1);
            self.outputs.push(responds(stream, revision, events, fragment));
            events = rest;
        }
        self.outputs.push(responds(stream, revision, events, false));
    }

    fn create(&mut self, stream: StreamId, request: WatchCreateRequest) {
        let revision = self.model.revision();
        let next = if request.start_revision > 0 {
            request.start_revision
        } else {
            revision + 1
        };
        let response = WatchResponse {
            created: true,
            header: header(revision),
            ..WatchResponse::default()
        };
        self.outputs.push(Output::Watch { stream, response });
        self.watchers.push(Watcher {
            stream,
            request,
            next,
        });
    }

    fn progress(&mut self, stream: StreamId) {
        let revision = self.model.revision();
        let Some(watcher) = self.watchers.iter().find(|watcher| watcher.stream == stream) else {
            return;
        };
        let future_start = watcher.next > revision + 1;
        let synced = watcher.next == revision + 1;
        if synced || (self.bug == Bug::EarlyProgress && !future_start) {
            let response = WatchResponse {
                watch_id: -1,
                header: header(revision),
                ..WatchResponse::default()
            };
            self.outputs.push(Output::Watch { stream, response });
        }
    }
}

impl Member for Reference {
    fn start(&mut self, now: Time) -> Result<(), String> {
        self.disk_operations_left = None;
        self.now = now;
        (self.applied, self.model) = self.checkpoint.clone();
        if self.bug == Bug::ReplayedTwice && self.applied > 0 {
            self.applied -= 1;
        }
        while self.applied < self.log.len() {
            self.apply_next();
        }
        let ids: Vec<i64> = self.model.leases().collect();
        let granted = |id| {
            self.model
                .lease_keep_alive(proto::etcdserverpb::LeaseKeepAliveRequest { id })
                .ttl
        };
        self.deadlines = ids.into_iter().map(|id| (id, now + ttl(granted(id)))).collect();
        Ok(())
    }

    fn crash(&mut self, rng: &mut Rng) {
        let kept = rng.index(self.unsynced.len() + 1);
        let mut rest = self.unsynced.split_off(kept);
        self.log.append(&mut self.unsynced);
        if self.bug == Bug::TornTailAsRecord && !rest.is_empty() {
            let mut torn = rest.swap_remove(0);
            if let Command::Client(Request::Put(put)) = &mut torn {
                put.value = put.value.slice(..put.value.len() / 2);
            }
            self.log.push(torn);
        }
        self.mailbox.clear();
        self.tokens.clear();
        self.reads.clear();
        self.watchers.clear();
        self.deadlines.clear();
        self.expiring.clear();
    }

    fn arm_crash(&mut self, disk_operations: u64) {
        self.disk_operations_left = Some(disk_operations);
    }

    fn fail_sync(&mut self, _syncs: u64) {}

    fn connect(&mut self, _peer: MemberNumber, _connected: bool) {}

    fn hand_over(&mut self, _now: Time) {}

    fn wipe(&mut self) {
        panic!("the only member never loses its disk");
    }

    fn abandon(&mut self, _call: Token) {}

    fn call(&mut self, call: Token, request: Request) {
        if let Err(error) = self.model.check_shape(&request) {
            return self.outputs.push(Output::Answer {
                call,
                outcome: Outcome::Ok(Err(error)),
            });
        }
        let (write, local) = match &request {
            Request::Range(range) => (false, range.serializable),
            Request::Txn(txn) => (is_write(txn), is_serializable(txn)),
            Request::LeaseKeepAlive(_) | Request::LeaseTimeToLive(_) | Request::LeaseLeases(_) => {
                (false, false)
            }
            _ => (true, false),
        };
        if write {
            self.mailbox.push_back(Entry {
                token: Some(call),
                command: Command::Client(request),
            });
        } else {
            let index = self.log.len() + self.unsynced.len() + self.mailbox.len();
            self.reads
                .push_back((if local { 0 } else { index }, call, request));
        }
    }

    fn watch(&mut self, stream: StreamId, request: WatchRequest) {
        match request.request_union {
            Some(RequestUnion::CreateRequest(request)) => self.create(stream, request),
            Some(RequestUnion::ProgressRequest(_)) => self.progress(stream),
            Some(RequestUnion::CancelRequest(_)) | None => {}
        }
    }

    fn close(&mut self, stream: StreamId) {
        self.watchers.retain(|watcher| watcher.stream != stream);
    }

    fn receive(&mut self, from: MemberNumber, _message: Bytes) {
        panic!("a single member has no peers, but {from:?} sent something");
    }

    fn tick(&mut self, now: Time) {
        self.now = now;
        let due = self.deadlines.iter().filter(|(_, deadline)| **deadline <= now);
        let due: Vec<i64> = due.map(|(id, _)| *id).collect();
        for id in due {
            if self.expiring.insert(id) {
                self.mailbox.push_back(Entry {
                    token: None,
                    command: Command::Expire(id),
                });
            }
        }
    }

    fn step(&mut self, now: Time, rng: &mut Rng) -> Step {
        self.now = now;
        let enabled = self.enabled();
        if enabled.is_empty() {
            return Step::Idle;
        }
        let actor = *rng.pick(&enabled);
        let on_disk = matches!(actor, Actor::Append | Actor::Sync | Actor::Checkpoint);
        if on_disk && !self.disk() {
            return Step::Died {
                reason: format!("no power for {actor:?}"),
                expected: true,
            };
        }
        match actor {
            Actor::Append => self.append(),
            Actor::Sync => self.log.append(&mut self.unsynced),
            Actor::Apply => self.apply_next(),
            Actor::Read => self.read(rng),
            Actor::Watch(at) => self.pump(at, rng),
            Actor::Checkpoint => {
                let ahead = self.bug == Bug::AppliedAheadOfData && self.applied < self.log.len();
                self.checkpoint = (self.applied + usize::from(ahead), self.model.clone());
            }
        }
        Step::Worked
    }

    fn take_outputs(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.outputs)
    }
}

fn responds(stream: StreamId, revision: i64, events: Vec<Event>, fragment: bool) -> Output {
    let response = WatchResponse {
        header: header(revision),
        events,
        fragment,
        ..WatchResponse::default()
    };
    Output::Watch { stream, response }
}

fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader {
        revision,
        ..ResponseHeader::default()
    })
}

fn keep_alive_id(request: &Request) -> i64 {
    if let Request::LeaseKeepAlive(request) = request {
        request.id
    } else {
        0
    }
}

fn ttl(seconds: i64) -> Time {
    u64::try_from(seconds).unwrap_or(0) * SECOND
}

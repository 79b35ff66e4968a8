//! The clients of a run: callers with one call open at a time, watchers with one watcher each on a stream of its own,
//! and the record of what all of them saw.

use std::collections::BTreeMap;

use proto::etcdserverpb::watch_request::RequestUnion;
use proto::etcdserverpb::{WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse};

use super::member::{MemberNumber, StreamId, Token};
use super::world::Time;
use crate::check::{KvHistory, Truth};
use crate::history::{
    CallId, Heard, Outcome, ProcessId, Recorder, WatchRecord, WatchSession, event_revision,
};
use crate::model::{Answer, Request};
use crate::traffic::{EtcdTraffic, Known, Mix};

/// A client that calls.
#[derive(Debug)]
struct Caller {
    process: ProcessId,
    traffic: EtcdTraffic,
    open: Option<OpenCall>,
}

#[derive(Debug)]
struct OpenCall {
    token: Token,
    id: CallId,
    member: MemberNumber,
    request: Request,
}

/// The member that a call went to, and which of its lives.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Server {
    /// The member.
    pub member: MemberNumber,
    /// Counts its starts.
    pub life: u64,
}

/// A client that watches.
#[derive(Debug)]
struct Watcher {
    traffic: EtcdTraffic,
    stream: Option<(StreamId, MemberNumber)>,
    record: WatchRecord,
}

/// All of them.
#[derive(Debug)]
pub struct Clients {
    recorder: Recorder<Request, Answer>,
    known: Known,
    callers: Vec<Caller>,
    watchers: Vec<Watcher>,
    /// By call.
    servers: Vec<Server>,
    by_token: BTreeMap<Token, usize>,
    by_stream: BTreeMap<StreamId, usize>,
    processes: u64,
    tokens: u64,
    streams: u64,
    answered: u64,
}

impl Clients {
    /// So many callers and watchers, whose requests the seed decides.
    #[must_use]
    pub fn new(seed: u64, callers: usize, watchers: usize, mix: &Mix) -> Self {
        let mut clients = Clients {
            recorder: Recorder::default(),
            known: Known {
                revision: 1,
                compacted: -1,
                leases: Vec::new(),
            },
            callers: Vec::new(),
            watchers: Vec::new(),
            servers: Vec::new(),
            by_token: BTreeMap::new(),
            by_stream: BTreeMap::new(),
            processes: 0,
            tokens: 0,
            streams: 0,
            answered: 0,
        };
        for _ in 0..callers {
            let process = clients.new_process();
            let traffic = EtcdTraffic::new(seed, process.0, mix.clone());
            clients.callers.push(Caller {
                process,
                traffic,
                open: None,
            });
        }
        for _ in 0..watchers {
            let process = clients.new_process();
            let traffic = EtcdTraffic::new(seed, process.0, mix.clone());
            let record = WatchRecord {
                process,
                sessions: Vec::new(),
                drained_to: None,
            };
            clients.watchers.push(Watcher {
                traffic,
                stream: None,
                record,
            });
        }
        clients
    }

    /// Lets a caller think of its next request.
    pub fn next_request(&mut self, caller: usize) -> Request {
        self.callers[caller].traffic.next_request(&self.known)
    }

    /// Notes that a caller sends a request to a member.
    pub fn invoke(&mut self, caller: usize, request: Request, server: Server, now: Time) -> Token {
        self.tokens += 1;
        let token = Token(self.tokens);
        let this = &mut self.callers[caller];
        let id = self.recorder.invoke(this.process, request.clone(), now);
        self.servers.push(server);
        this.open = Some(OpenCall {
            token,
            id,
            member: server.member,
            request,
        });
        self.by_token.insert(token, caller);
        token
    }

    /// Notes the end of a call; gives back whose it was, if it was still waited for.
    pub fn returned(&mut self, token: Token, outcome: Outcome<Answer>, now: Time) -> Option<usize> {
        let caller = self.by_token.remove(&token)?;
        let open = self.callers[caller].open.take()?;
        if let Outcome::Ok(answer) = &outcome {
            self.known.learn(&open.request, answer);
            self.answered += 1;
        }
        if matches!(outcome, Outcome::Unknown) {
            // The old call may still take effect, so whoever calls next is somebody else.
            self.callers[caller].process = self.new_process();
        }
        self.recorder.returned(open.id, outcome, now);
        Some(caller)
    }

    /// The calls open on a member.
    #[must_use]
    pub fn open_on(&self, member: MemberNumber) -> Vec<Token> {
        let open = self.callers.iter().filter_map(|caller| caller.open.as_ref());
        open.filter(|open| open.member == member)
            .map(|open| open.token)
            .collect()
    }

    /// The member that an open call went to.
    #[must_use]
    pub fn member_of(&self, token: Token) -> Option<MemberNumber> {
        let caller = &self.callers[*self.by_token.get(&token)?];
        caller.open.as_ref().map(|open| open.member)
    }

    /// How many calls are open.
    #[must_use]
    pub fn open(&self) -> usize {
        self.recorder.open()
    }

    /// How many calls were answered.
    #[must_use]
    pub const fn answered(&self) -> u64 {
        self.answered
    }

    /// Begins the next session of a watcher: the first one as the traffic says, later ones where the last left off.
    pub fn connect(&mut self, watcher: usize, member: MemberNumber) -> (StreamId, WatchRequest) {
        self.streams += 1;
        let stream = StreamId(self.streams);
        let this = &mut self.watchers[watcher];
        let request = match this.record.sessions.last() {
            None => this.traffic.watch(&self.known),
            Some(last) => WatchCreateRequest {
                start_revision: last.compacted_at().unwrap_or_else(|| last.resume_from()),
                ..last.request.clone()
            },
        };
        this.record.sessions.push(WatchSession::new(request.clone()));
        this.stream = Some((stream, member));
        self.by_stream.insert(stream, watcher);
        (
            stream,
            WatchRequest {
                request_union: Some(RequestUnion::CreateRequest(request)),
            },
        )
    }

    /// Gives a watcher's stream up.
    pub fn disconnect(&mut self, watcher: usize) -> Option<(StreamId, MemberNumber)> {
        let stream = self.watchers[watcher].stream.take()?;
        self.by_stream.remove(&stream.0);
        Some(stream)
    }

    /// The watchers with a stream on a member.
    #[must_use]
    pub fn watching(&self, member: MemberNumber) -> Vec<usize> {
        let on_member = |watcher: &Watcher| watcher.stream.is_some_and(|(_, at)| at == member);
        (0..self.watchers.len())
            .filter(|at| on_member(&self.watchers[*at]))
            .collect()
    }

    /// A progress request of a watcher, where it has a stream.
    #[must_use]
    pub fn ask_progress(&self, watcher: usize) -> Option<(StreamId, MemberNumber, WatchRequest)> {
        let (stream, member) = self.watchers[watcher].stream?;
        let request = RequestUnion::ProgressRequest(WatchProgressRequest {});
        Some((
            stream,
            member,
            WatchRequest {
                request_union: Some(request),
            },
        ))
    }

    /// Takes a watch response in; gives back the watcher if its session ended with it.
    pub fn heard(&mut self, stream: StreamId, response: WatchResponse, now: Time) -> Option<usize> {
        let watcher = self.by_stream.get(&stream).copied()?;
        let canceled = response.canceled;
        let session = self.watchers[watcher].record.sessions.last_mut()?;
        session.responses.push(Heard { at: now, response });
        canceled.then_some(watcher)
    }

    /// Whether every watcher has a stream and everything that it is owed.
    #[must_use]
    pub fn all_caught_up(&self, truth: &Truth) -> bool {
        self.watchers.iter().all(|watcher| {
            let session = watcher
                .record
                .sessions
                .last()
                .filter(|_| watcher.stream.is_some());
            let Some((session, from)) = session.and_then(|s| Some((s, s.owed_from()?))) else {
                return false;
            };
            let owed = truth
                .owed(&session.request, from, truth.last())
                .last()
                .map(event_revision);
            let last = session.events().last().map(event_revision);
            session.created_at().is_some() && owed.is_none_or(|owed| last >= Some(owed))
        })
    }

    /// The records, and by call who served it; every watcher's events were waited for up to `drained_to`, where they were.
    #[must_use]
    pub fn finish(self, drained_to: Option<i64>) -> (KvHistory, Vec<Server>, Vec<WatchRecord>) {
        let watches = self.watchers.into_iter().map(|watcher| watcher.record);
        let watches = watches.map(|record| WatchRecord { drained_to, ..record });
        (self.recorder.finish(), self.servers, watches.collect())
    }

    fn new_process(&mut self) -> ProcessId {
        self.processes += 1;
        ProcessId(self.processes)
    }
}

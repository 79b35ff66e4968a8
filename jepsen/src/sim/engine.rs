//! The engine as a member: its actors, its log on a fake disk, its working copy in memory, and its public handle, whose
//! calls are futures polled between two steps. Nothing of the engine is replaced but the outside.

use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use proto::etcdserverpb::watch_request::RequestUnion;
use proto::etcdserverpb::{WatchRequest, WatchResponse};
use store::backend::MemoryBackend;
use store::env::fake::{FakeDisk, ManualClock, SeededEntropy};
use store::env::{Clock, Instant};
use store::error::{Error as StoreError, RequestError, Unavailable};
use store::shell::sim::{Bugs, Sent, SimMember, SimWorld, Step as Part, describe, is_proposal, tells};
use store::shell::{ClusterState, Join, Settings, Store, WatchRequests, WatchResponses};
use store::types::MemberId;

use super::member::{
    Administered, Administration, Fingerprint, Member, MemberNumber, Output, Step, StreamId, Token,
};
use super::plan;
use super::users;
use super::world::Time;
use crate::history::Outcome;
use crate::invariants::{Seen, Told};
use crate::model::{Answer, Error, Request, Response};
use crate::rng::Rng;

type Work<T> = Pin<Box<dyn Future<Output = T>>>;

/// See the module's description.
pub struct Engine {
    settings: Settings,
    id: MemberId,
    /// The machines of all members that were heard of.
    machines: BTreeMap<MemberId, MemberNumber>,
    /// Counts its disks, to give each a seed of its own.
    disks: u64,
    seed: u64,
    bugs: Bugs,
    repeats_watch_events: bool,
    disk: FakeDisk,
    backend: Arc<MemoryBackend>,
    clock: ManualClock,
    entropy: SeededEntropy,
    /// One of its next syncs was told to fail.
    sync_fails: bool,
    /// Its disk is full.
    full: bool,
    running: Option<Running>,
    outputs: Vec<Output>,
}

/// What a crash takes.
struct Running {
    // Declared before the member, so that calls and streams go first.
    calls: Vec<(Token, Work<Outcome<Answer>>)>,
    questions: Vec<(Token, Work<Administered>)>,
    /// It knows that it was removed, and has told.
    removed: bool,
    streams: BTreeMap<StreamId, Stream>,
    store: Store,
    member: SimMember,
    /// The parts whose time has come, beside those that have something to do.
    due: Vec<Part>,
    ticks: u64,
    /// The newest revision told.
    told: i64,
    /// After how many watch responses the planted bug repeats one.
    repeat_every: u64,
    watch_responses: u64,
    /// The panic that it ended with.
    panicked: Option<String>,
}

/// A watch stream of a client.
struct Stream {
    requests: VecDeque<WatchRequest>,
    state: StreamState,
}

enum StreamState {
    Opening(Work<Result<(WatchRequests, WatchResponses), StoreError>>),
    Open {
        requests: Arc<WatchRequests>,
        responses: WatchResponses,
        sending: Option<Work<()>>,
    },
    Ended,
}

impl Engine {
    /// A member with an empty disk, and a planted bug perhaps.
    #[must_use]
    pub fn new(seed: u64, settings: Settings, bugs: Bugs) -> Self {
        let token = &settings.initial_cluster_token;
        let founders = settings
            .initial_cluster
            .iter()
            .map(|(_, urls)| store::membership::member_id(urls, token));
        let machines = founders.zip((0..).map(MemberNumber));
        Engine {
            id: store::membership::member_id(&settings.initial_advertise_peer_urls, token),
            machines: machines.collect(),
            disks: 0,
            seed,
            settings,
            bugs,
            repeats_watch_events: false,
            disk: FakeDisk::new(seed),
            backend: Arc::new(MemoryBackend::new()),
            clock: ManualClock::new(UNIX_MS_START),
            entropy: SeededEntropy::new(seed),
            sync_fails: false,
            full: false,
            running: None,
            outputs: Vec::new(),
        }
    }

    /// A member whose log segments, checkpoints, snapshot files and memory are so small that a short run meets all of
    /// their edges.
    #[must_use]
    pub fn small(seed: u64, bugs: Bugs) -> Self {
        Engine::new(seed, small_settings(), bugs)
    }

    /// So many such members of one cluster.
    #[must_use]
    pub fn cluster(members: usize, seed: u64, bugs: Bugs) -> Vec<Box<dyn Member>> {
        if members == 1 {
            return vec![Box::new(Engine::small(seed, bugs))];
        }
        Engine::cluster_and_spares(members, 0, seed, bugs, &|_| {})
    }

    /// The members that found a cluster, and machines for those that come. The seed decides how many of each there are,
    /// and whether learners become voters by themselves.
    #[must_use]
    pub fn changing(seed: u64, bugs: Bugs) -> Vec<Box<dyn Member>> {
        let mut rng = Rng::stream(seed, CHANGES_STREAM);
        let (strict, promotes) = (rng.once_in(6), rng.once_in(3));
        let founders = plan::founders(seed);
        Engine::cluster_and_spares(founders, plan::MACHINES - founders, seed, bugs, &|settings| {
            settings.strict_reconfig_check = strict;
            settings.auto_promote = promotes;
            settings.learners_max = 2;
        })
    }

    /// So many such members that found a cluster, and machines for some more that may join it.
    #[must_use]
    pub fn cluster_and_spares(
        members: usize,
        spares: usize,
        seed: u64,
        bugs: Bugs,
        adjust: &dyn Fn(&mut Settings),
    ) -> Vec<Box<dyn Member>> {
        let named = |number: usize| (format!("m{number}"), vec![format!("http://m{number}:2380")]);
        let cluster: Vec<_> = (0..members).map(named).collect();
        let member = |number: usize| {
            let (name, urls) = named(number);
            let mut settings = Settings {
                name,
                initial_cluster: cluster.clone(),
                initial_advertise_peer_urls: urls,
                heartbeat: HEARTBEAT,
                election: 10 * HEARTBEAT,
                ..small_settings()
            };
            adjust(&mut settings);
            let mut seeds = Rng::stream(seed, MEMBERS_STREAM + number as u64);
            Box::new(Engine::new(seeds.next_u64(), settings, bugs)) as Box<dyn Member>
        };
        (0..members + spares).map(member).collect()
    }

    /// Plants one more bug: now and then a watcher gets a response again.
    #[must_use]
    pub fn repeating_watch_events(mut self) -> Self {
        self.repeats_watch_events = true;
        self
    }

    fn set_clock(&self, now: Time) {
        self.clock
            .advance(Duration::from_nanos(now.saturating_sub(self.clock.now().0)));
    }
}

impl Member for Engine {
    fn start(&mut self, now: Time) -> Result<(), String> {
        self.set_clock(now);
        let world = SimWorld {
            disk: Arc::new(self.disk.clone()),
            clock: Arc::new(self.clock.clone()),
            entropy: Arc::new(self.entropy.clone()),
            backend: Arc::clone(&self.backend) as Arc<_>,
        };
        let mut opened = SimMember::open(self.settings.clone(), world.clone(), self.bugs);
        if opened.is_err() && self.full {
            // It says so and ends; somebody makes room.
            self.fill(None);
            opened = SimMember::open(self.settings.clone(), world, self.bugs);
        }
        let member = opened.map_err(|error| error.to_string())?;
        let store = member.store();
        let mut running = Running {
            calls: Vec::new(),
            questions: Vec::new(),
            removed: false,
            streams: BTreeMap::new(),
            store,
            member,
            due: vec![Part::Round],
            repeat_every: if self.repeats_watch_events {
                REPEAT_EVERY
            } else {
                u64::MAX
            },
            watch_responses: 0,
            ticks: 0,
            told: 0,
            panicked: None,
        };
        running.tell_applied(&mut self.outputs);
        self.running = Some(running);
        Ok(())
    }

    fn crash(&mut self, rng: &mut Rng) {
        self.running = None;
        self.sync_fails = false;
        self.disk.crash(rng.next_u64());
        self.backend.crash();
    }

    fn arm_crash(&mut self, disk_operations: u64) {
        self.disk.crash_at(disk_operations);
    }

    fn fail_sync(&mut self, syncs: u64) {
        self.disk.fail_sync(syncs);
        self.sync_fails = true;
    }

    fn fail_write(&mut self, writes: u64) {
        self.disk.fail_write(writes);
        self.sync_fails = true;
    }

    fn fill(&mut self, room: Option<u64>) {
        self.full = room.is_some();
        let used = self.disk.used_bytes();
        self.disk.set_capacity(room.map(|room| used.saturating_add(room)));
    }

    fn rot(&mut self, rng: &mut Rng) -> bool {
        assert!(self.running.is_none(), "it would be noticed");
        let lost = rng.once_in(2);
        if lost {
            // What is rebuilt from the others then.
            self.backend = Arc::new(MemoryBackend::new());
        }
        crate::nemesis::disk::damage(&self.disk, rng) || lost
    }

    fn wipe(&mut self) {
        self.full = false;
        assert!(self.running.is_none(), "a disk is lost with the power");
        self.disks += 1;
        self.disk = FakeDisk::new(self.seed.wrapping_add(self.disks));
        self.backend = Arc::new(MemoryBackend::new());
        self.settings.initial_cluster_state = ClusterState::Existing;
    }

    fn abandon(&mut self, call: Token) {
        if let Some(running) = &mut self.running {
            running.calls.retain(|(token, _)| *token != call);
        }
    }

    fn call(&mut self, call: Token, request: Request) {
        if let Some(running) = &mut self.running {
            let store = users::store_for(&running.store, call.0);
            running.calls.push((call, Box::pin(ask(store, request))));
            running.guarded("a call", &mut self.outputs, Running::poll);
        }
    }

    fn watch(&mut self, stream: StreamId, request: WatchRequest) {
        if let Some(running) = &mut self.running {
            let store = &running.store;
            let stream = running.streams.entry(stream).or_insert_with(|| {
                let store = store.clone();
                let opening = Box::pin(async move { store.watch().await });
                Stream {
                    requests: VecDeque::new(),
                    state: StreamState::Opening(opening),
                }
            });
            stream.requests.push_back(request);
            running.guarded("a watch", &mut self.outputs, Running::poll);
        }
    }

    fn close(&mut self, stream: StreamId) {
        if let Some(running) = &mut self.running {
            running.streams.remove(&stream);
        }
    }

    fn receive(&mut self, from: MemberNumber, message: Bytes) {
        let (sender, receiver, message) = opened(message);
        // A member that was on this machine before gets nothing any more.
        if let Some(running) = &self.running
            && receiver == self.id
        {
            self.machines.entry(sender).or_insert(from);
            running.member.receive(sender, message);
        }
    }

    fn connect(&mut self, peer: MemberNumber, connected: bool) {
        if let Some(running) = &mut self.running {
            let there = self.machines.iter().filter(|(_, number)| **number == peer);
            there.for_each(|(id, _)| running.member.connected(*id, connected));
        }
    }

    fn hand_over(&mut self, now: Time) {
        self.set_clock(now);
        let (machines, outputs) = (&self.machines, &mut self.outputs);
        if let Some(running) = &mut self.running {
            running.guarded("handing over", outputs, |running, outputs| {
                running.member.hand_over();
                running.tell_sends(machines, outputs);
            });
        }
    }

    fn stall(&mut self, until: Time) {
        if let Some(running) = &mut self.running {
            running.member.stall(Instant(until));
        }
    }

    fn tick(&mut self, now: Time) {
        self.set_clock(now);
        if let Some(running) = &mut self.running {
            running.ticks += 1;
            running.due = vec![Part::Tick, Part::WatchTick];
            if running.ticks.is_multiple_of(FLUSH_EVERY_TICKS) {
                running.due.push(Part::Flush);
            }
        }
    }

    fn step(&mut self, now: Time, rng: &mut Rng) -> Step {
        self.set_clock(now);
        let Some(running) = &mut self.running else {
            return Step::Idle;
        };
        let by_time = [Part::Tick, Part::WatchTick, Part::Flush];
        let member = &running.member;
        let parts = Part::ALL.into_iter().filter(|part| member.enabled(*part));
        let parts: Vec<Part> = parts
            .filter(|part| !by_time.contains(part) || running.due.contains(part))
            .collect();
        if let Some(reason) = running.panicked.take() {
            return Step::Died {
                reason,
                expected: false,
            };
        }
        if parts.is_empty() {
            return Step::Idle;
        }
        let part = *rng.pick(&parts);
        running.due.retain(|due| *due != part);
        let (machines, outputs) = (&self.machines, &mut self.outputs);
        running.guarded(&format!("{part:?}"), outputs, |running, outputs| {
            running.member.step(part);
            running.tell_applied(outputs);
            running.tell_sends(machines, outputs);
            running.poll(outputs);
        });
        if self.disk.crashed() {
            return Step::Died {
                reason: format!("no power in {part:?}"),
                expected: true,
            };
        }
        if let Some(reason) = running.panicked.take() {
            return Step::Died {
                reason,
                expected: false,
            };
        }
        match running.member.fatal() {
            Some(reason) => Step::Died {
                reason,
                expected: self.sync_fails,
            },
            None => Step::Worked,
        }
    }

    fn take_outputs(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.outputs)
    }

    fn raft(&self) -> Option<Seen> {
        let member = &self.running.as_ref()?.member;
        let view = member.raft();
        let log = member.log_from(view.first);
        Some(Seen { view, log })
    }

    fn describe(&self, message: &Bytes) -> String {
        describe(&opened(message.clone()).2)
    }

    fn id(&self) -> Option<MemberId> {
        Some(self.id)
    }

    fn administer(&mut self, asked: Token, what: Administration) {
        if let Some(running) = &mut self.running {
            let question = Box::pin(administer(running.store.clone(), what));
            running.questions.push((asked, question));
            running.guarded("a question", &mut self.outputs, Running::poll);
        }
    }

    fn join(&mut self, cluster: Join, url: String) {
        self.wipe();
        let here = |member: &&store::membership::Member| member.peer_urls.contains(&url);
        let own = cluster.members.iter().find(here);
        self.id = own.expect("whoever joins was added").id;
        self.settings.initial_advertise_peer_urls = vec![url];
        self.settings.join = Some(cluster);
    }

    fn introduce(&mut self, id: MemberId, number: MemberNumber) {
        self.machines.insert(id, number);
    }

    fn fingerprint(&mut self, revision: i64) -> Option<Fingerprint> {
        let store = self.running.as_ref()?.store.clone();
        let users = users::fingerprint(&store.auth_view());
        let mut hashing = Box::pin(async move { store.hash_kv(revision).await });
        let mut context = Context::from_waker(Waker::noop());
        match hashing.as_mut().poll(&mut context) {
            Poll::Ready(Ok(hash)) => Some(Fingerprint {
                compacted: hash.compact_revision,
                hash: hash.hash,
                users,
            }),
            Poll::Ready(Err(_)) | Poll::Pending => None,
        }
    }
}

impl Running {
    fn tell_applied(&mut self, outputs: &mut Vec<Output>) {
        for revision in self.member.committed_from(self.told + 1) {
            self.told = revision.main;
            let events = (0..revision.changes.len())
                .map(|at| revision.event(at, true))
                .collect();
            outputs.push(Output::Applied { events });
        }
    }

    /// Does something for the member. A broken invariant stops a real process; here it ends the member, and what it half
    /// did is never looked at.
    fn guarded(
        &mut self,
        what: &str,
        outputs: &mut Vec<Output>,
        work: impl FnOnce(&mut Running, &mut Vec<Output>),
    ) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| work(self, outputs))) {
            self.panicked = Some(format!("panic in {what}: {}", text_of(&*panic)));
        }
    }

    fn tell_sends(&mut self, machines: &BTreeMap<MemberId, MemberNumber>, outputs: &mut Vec<Output>) {
        let from = self.member.member();
        for Sent { to, class, message } in self.member.take_sends() {
            // A member that was added and has no machine yet: nobody listens.
            let Some(number) = machines.get(&to) else { continue };
            outputs.push(Output::Send {
                to: *number,
                class,
                once: is_proposal(&message),
                told: tells(&message).map(|(term, vote)| Told { from, term, vote }),
                message: addressed(from, to, &message),
            });
        }
    }

    /// Lets every call and stream go on as far as it can.
    fn poll(&mut self, outputs: &mut Vec<Output>) {
        let mut context = Context::from_waker(Waker::noop());
        self.calls
            .retain_mut(|(call, work)| match work.as_mut().poll(&mut context) {
                Poll::Ready(outcome) => {
                    outputs.push(Output::Answer { call: *call, outcome });
                    false
                }
                Poll::Pending => true,
            });
        self.questions
            .retain_mut(|(asked, work)| match work.as_mut().poll(&mut context) {
                Poll::Ready(answer) => {
                    outputs.push(Output::Administered {
                        asked: *asked,
                        answer,
                    });
                    false
                }
                Poll::Pending => true,
            });
        if !self.removed && std::pin::pin!(self.store.removed()).poll(&mut context).is_ready() {
            self.removed = true;
            outputs.push(Output::Removed);
        }
        let (responses, repeat_every) = (&mut self.watch_responses, self.repeat_every);
        for (stream, this) in &mut self.streams {
            this.poll(&mut context, &mut |response| {
                *responses += 1;
                if !response.events.is_empty() && responses.is_multiple_of(repeat_every) {
                    outputs.push(Output::Watch {
                        stream: *stream,
                        response: response.clone(),
                    });
                }
                outputs.push(Output::Watch {
                    stream: *stream,
                    response,
                });
            });
        }
    }
}

impl Stream {
    fn poll(&mut self, context: &mut Context<'_>, hear: &mut dyn FnMut(WatchResponse)) {
        if let StreamState::Opening(opening) = &mut self.state {
            self.state = match opening.as_mut().poll(context) {
                Poll::Ready(Ok((requests, responses))) => StreamState::Open {
                    requests: Arc::new(requests),
                    responses,
                    sending: None,
                },
                Poll::Ready(Err(_)) => StreamState::Ended,
                Poll::Pending => return,
            };
        }
        let StreamState::Open {
            requests,
            responses,
            sending,
        } = &mut self.state
        else {
            return;
        };
        loop {
            if let Some(work) = sending {
                if work.as_mut().poll(context).is_pending() {
                    break;
                }
                *sending = None;
            }
            let Some(request) = self.requests.pop_front() else {
                break;
            };
            *sending = Some(Box::pin(send(Arc::clone(requests), request)));
        }
        while let Poll::Ready(Some(response)) = responses.poll_recv(context) {
            hear(response);
        }
    }
}

/// Sends a request.
async fn send(requests: Arc<WatchRequests>, request: WatchRequest) {
    // Where the store has stopped there is nobody to tell.
    let _stopped = match request.request_union {
        Some(RequestUnion::CreateRequest(request)) => requests.create(request).await,
        Some(RequestUnion::CancelRequest(request)) => requests.cancel(request.watch_id).await,
        Some(RequestUnion::ProgressRequest(_)) => requests.progress().await,
        None => Ok(()),
    };
}

async fn ask(store: Store, request: Request) -> Outcome<Answer> {
    let answered = match request {
        Request::Range(request) => store.range(request).await.map(Response::Range),
        Request::Put(request) => store.put(request).await.map(Response::Put),
        Request::DeleteRange(request) => store.delete_range(request).await.map(Response::DeleteRange),
        Request::Txn(request) => store.txn(request).await.map(Response::Txn),
        Request::Compact(request) => store.compact(request).await.map(Response::Compact),
        Request::LeaseGrant(request) => store.lease_grant(request).await.map(Response::LeaseGrant),
        Request::LeaseRevoke(request) => store.lease_revoke(request).await.map(Response::LeaseRevoke),
        Request::LeaseKeepAlive(request) => store
            .lease_keep_alive(request.id)
            .await
            .map(Response::LeaseKeepAlive),
        Request::LeaseTimeToLive(request) => store
            .lease_time_to_live(request)
            .await
            .map(Response::LeaseTimeToLive),
        Request::LeaseLeases(_) => store.lease_leases().await.map(Response::LeaseLeases),
    };
    match answered {
        Ok(response) => Outcome::Ok(Ok(response)),
        Err(StoreError::Request(error)) => {
            refusal(&error).map_or(Outcome::Failed, |error| Outcome::Ok(Err(error)))
        }
        Err(StoreError::Unavailable(Unavailable::TooManyRequests)) => Outcome::Failed,
        Err(StoreError::Unavailable(_)) => Outcome::Unknown,
    }
}

async fn administer(store: Store, what: Administration) -> Administered {
    let members = match what {
        Administration::List { linearizable } => store.member_list(linearizable).await.map(|a| a.members),
        Administration::Add { url, learner } => store.member_add(vec![url], learner).await.map(|a| a.members),
        Administration::Promote(id) => store.member_promote(id).await.map(|a| a.members),
        Administration::Remove(id) => store.member_remove(id).await.map(|a| a.members),
        Administration::Users(change) => match change.ask(&store).await {
            Ok(()) => return Administered::Done,
            Err(error) => Err(error),
        },
    };
    match members {
        Ok(members) => Administered::Members(Join {
            cluster: store.cluster_id(),
            members: members.into_iter().map(Into::into).collect(),
        }),
        Err(StoreError::Request(error)) => Administered::Refused(error.to_string()),
        Err(StoreError::Unavailable(_)) => Administered::Unknown,
    }
}

/// A message with its sender and its receiver: a machine may see several members come and go.
fn addressed(from: MemberId, to: MemberId, message: &Bytes) -> Bytes {
    [&from.0.to_be_bytes(), &to.0.to_be_bytes(), &message[..]]
        .concat()
        .into()
}

fn opened(mut message: Bytes) -> (MemberId, MemberId, Bytes) {
    let mut id = || MemberId(bytes::Buf::get_u64(&mut message));
    let (from, to) = (id(), id());
    (from, to, message)
}

/// The model's name of a refusal, where it has one.
fn refusal(error: &RequestError) -> Option<Error> {
    Some(match error {
        RequestError::EmptyKey => Error::EmptyKey,
        RequestError::KeyNotFound => Error::KeyNotFound,
        RequestError::ValueProvided => Error::ValueProvided,
        RequestError::LeaseProvided => Error::LeaseProvided,
        RequestError::TooManyOps { .. } => Error::TooManyOps,
        RequestError::DuplicateKey => Error::DuplicateKey,
        RequestError::InvalidSortOption => Error::InvalidSortOption,
        RequestError::Compacted { .. } => Error::Compacted,
        RequestError::FutureRevision { .. } => Error::FutureRev,
        RequestError::LeaseNotFound { .. } => Error::LeaseNotFound,
        RequestError::LeaseExists { .. } => Error::LeaseExist,
        RequestError::LeaseTtlTooLarge { .. } => Error::LeaseTtlTooLarge,
        _ => return None,
    })
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no text")
}

/// Settings of a member whose edges are near.
fn small_settings() -> Settings {
    let mut settings = Settings::new("/data");
    settings.limits.wal_segment_bytes = 16 << 10;
    settings.disk_reserve_bytes = 64 << 10;
    settings.limits.snapshot_log_bytes = 32 << 10;
    settings.limits.checkpoint_bytes = 2 << 10;
    settings.limits.checkpoint_interval = Duration::from_millis(100);
    settings.limits.recent_bytes = 2 << 10;
    settings.limits.compaction_step_keys = 2;
    settings.limits.message_bytes = 400;
    settings.limits.snapshot_chunk_bytes = 512;
    settings.snapshot_count = 50;
    settings.snapshot_catchup_entries = 20;
    settings
}

/// The heartbeat of a cluster's members: the run's tick.
const HEARTBEAT: Duration = Duration::from_millis(10);
/// Keeps the members' seeds apart from other users of the run's.
const MEMBERS_STREAM: u64 = 1 << 33;
/// And what the operator finds from both.
const CHANGES_STREAM: u64 = (1 << 33) - 1;
/// When the simulated machine was switched on.
const UNIX_MS_START: u64 = 1_700_000_000_000;
/// How often the working copy is flushed without need.
const FLUSH_EVERY_TICKS: u64 = 20;
/// See [`Engine::repeating_watch_events`].
const REPEAT_EVERY: u64 = 10;

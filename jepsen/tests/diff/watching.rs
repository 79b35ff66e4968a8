//! Watch streams on both servers, and what has come on them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use proto::etcdserverpb::watch_request::RequestUnion;
use proto::etcdserverpb::{
    WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
};
use proto::mvccpb::Event;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

use super::PATIENCE;
use super::calls::{Client, Refusal};
use super::scene::Scene;

/// A stream to one server.
pub(crate) struct Stream {
    requests: mpsc::UnboundedSender<WatchRequest>,
    responses: mpsc::UnboundedReceiver<Result<WatchResponse, Refusal>>,
    /// What has come and was not looked at, without progress.
    log: Vec<WatchResponse>,
    /// The revisions of all answers to progress requests.
    progress: Vec<i64>,
    /// The watchers that are there, each with the last progress told since it was created.
    told: BTreeMap<i64, i64>,
    /// What must not happen whatever the other server does.
    broken: Vec<String>,
    end: Option<Refusal>,
}

impl Stream {
    pub(crate) fn open(client: &Client) -> Stream {
        let (requests, outgoing) = mpsc::unbounded_channel();
        let (incoming, responses) = mpsc::unbounded_channel();
        let mut client = client.watch_client();
        tokio::spawn(async move {
            let mut stream = match client.watch(UnboundedReceiverStream::new(outgoing)).await {
                Ok(response) => response.into_inner(),
                Err(status) => return drop(incoming.send(Err(status.into()))),
            };
            loop {
                let received = tokio::select! {
                    received = stream.message() => received,
                    () = incoming.closed() => return,
                };
                let last = received.is_err();
                let Some(response) = received.transpose() else {
                    return;
                };
                if incoming.send(response.map_err(Refusal::from)).is_err() || last {
                    return;
                }
            }
        });
        Stream {
            requests,
            responses,
            log: Vec::new(),
            progress: Vec::new(),
            told: BTreeMap::new(),
            broken: Vec::new(),
            end: None,
        }
    }

    pub(crate) fn send(&self, request: Option<RequestUnion>) {
        // A stream that has ended says so where its responses are looked at.
        let _ = self.requests.send(WatchRequest {
            request_union: request,
        });
    }

    pub(crate) fn ask_progress(&self) {
        self.send(Some(RequestUnion::ProgressRequest(WatchProgressRequest {})));
    }

    pub(crate) fn has_told_progress(&self) -> bool {
        !self.progress.is_empty()
    }

    /// Whether a compaction has cancelled a watcher, as far as the log knows.
    fn lost_watcher(&self) -> bool {
        let by_compaction = |response: &WatchResponse| response.canceled && response.compact_revision != 0;
        self.log.iter().any(by_compaction)
    }

    fn take(&mut self, received: Result<WatchResponse, Refusal>) {
        let response = match received {
            Ok(response) => response,
            Err(refusal) => {
                self.end = Some(refusal);
                return;
            }
        };
        let id = response.watch_id;
        if response.created && !response.canceled {
            self.told.insert(id, 0);
        }
        if !response.events.is_empty() {
            self.check_events(&response);
        }
        if response.canceled && !response.created {
            self.told.remove(&id);
        }
        let plain = !response.created && !response.canceled && response.events.is_empty();
        if plain && id == -1 {
            let revision = response.header.as_ref().map_or(0, |header| header.revision);
            self.progress.push(revision);
            self.told.values_mut().for_each(|told| *told = revision);
        } else {
            self.log.push(response);
        }
    }

    /// Events belong to a watcher that is there, and do not come behind progress that counts them as told.
    fn check_events(&mut self, response: &WatchResponse) {
        let id = response.watch_id;
        let Some(told) = self.told.get(&id) else {
            self.broken
                .push(format!("events for the id {id}, which no watcher has"));
            return;
        };
        if let Some(event) = response.events.iter().find(|event| revision_of(event) <= *told) {
            let revision = revision_of(event);
            self.broken
                .push(format!("an event of revision {revision} after progress {told}"));
        }
    }

    /// Takes in what has come, and waits for more if nothing has.
    async fn receive(&mut self, patience: Duration) {
        let mut any = false;
        while let Ok(received) = self.responses.try_recv() {
            self.take(received);
            any = true;
        }
        if !any && let Ok(Some(received)) = tokio::time::timeout(patience, self.responses.recv()).await {
            self.take(received);
        }
    }

    /// Takes the first response out of the log that is as wanted, waiting for it.
    pub(crate) async fn take_first(
        &mut self,
        wanted: impl Fn(&WatchResponse) -> bool,
    ) -> Result<WatchResponse, String> {
        let start = Instant::now();
        loop {
            if let Some(at) = self.log.iter().position(&wanted) {
                return Ok(self.log.remove(at));
            }
            if let Some(end) = &self.end {
                return Err(format!("the stream has ended: {end:?}"));
            }
            if start.elapsed() > PATIENCE {
                return Err(format!("nothing came; the log is {:?}", self.log));
            }
            self.receive(TICK).await;
        }
    }
}

/// What the comparison knows of a watcher.
#[derive(Clone, Copy, Debug)]
struct Watcher {
    /// Its first revision, or 0.
    start: i64,
    /// Events of later revisions come one response per revision. Those before come as the server likes.
    live_from: i64,
}

/// One stream on each of both servers, used alike.
pub(crate) struct Watching {
    pub(crate) streams: [Stream; 2],
    watchers: BTreeMap<i64, Watcher>,
    /// Those that a compaction has cancelled. A real etcd tells no progress on the stream until the client has
    /// cancelled them too, see [`super::explained`].
    compacted: BTreeSet<i64>,
    /// When the last watcher was created that has to catch up.
    catching_up: Option<Instant>,
    has_hidden: bool,
}

/// A watcher's events of one revision.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Item {
    Events {
        /// The header's revision, where it is not the server's choice.
        header: Option<i64>,
        revision: i64,
        events: Vec<Event>,
    },
    Other(WatchResponse),
}

/// What both sides showed, if it was not the same.
pub(crate) type Compared = Result<(), [String; 2]>;

impl Watching {
    pub(crate) fn open(clients: [&Client; 2]) -> Watching {
        Watching {
            streams: clients.map(Stream::open),
            watchers: BTreeMap::new(),
            compacted: BTreeSet::new(),
            catching_up: None,
            has_hidden: false,
        }
    }

    /// Whether a watcher has to catch up, for all that is known.
    pub(crate) fn is_catching_up(&self) -> bool {
        self.catching_up.is_some()
    }

    /// Creates a watcher on both sides and compares the answers.
    pub(crate) async fn create(&mut self, scene: &Scene, request: &WatchCreateRequest) -> Compared {
        let [left, right] = &mut self.streams;
        for stream in [&*left, &*right] {
            stream.send(Some(RequestUnion::CreateRequest(request.clone())));
        }
        let answers = tokio::join!(
            left.take_first(|response| response.created),
            right.take_first(|response| response.created)
        );
        let left = shown(answers.0.map(without_ids))?;
        let right = shown(answers.1.map(without_ids))?;
        if left != right {
            return Err([format!("{left:?}"), format!("{right:?}")]);
        }
        let id = left.watch_id;
        if !left.canceled {
            let start = request.start_revision;
            let live = start <= 0 || start > scene.now;
            let live_from = if live { scene.now } else { i64::MAX };
            self.watchers.insert(id, Watcher { start, live_from });
            if !live {
                self.catching_up = Some(Instant::now());
            }
        }
        Ok(())
    }

    /// Cancels a watcher on both sides and compares the answers.
    pub(crate) async fn cancel(&mut self, scene: &Scene, id: i64) -> Compared {
        self.settle(scene).await?;
        for stream in &self.streams {
            stream.send(Some(RequestUnion::CancelRequest(WatchCancelRequest {
                watch_id: id,
            })));
        }
        let known = self.watchers.remove(&id).is_some();
        if !self.compacted.remove(&id) && !known {
            // Silence is what is expected; whatever comes is found in the log.
            return Ok(());
        }
        let [left, right] = &mut self.streams;
        let wanted = |response: &WatchResponse| response.canceled && response.watch_id == id;
        let answers = tokio::join!(left.take_first(wanted), right.take_first(wanted));
        let (left, right) = (
            shown(answers.0.map(without_ids))?,
            shown(answers.1.map(without_ids))?,
        );
        if left == right {
            Ok(())
        } else {
            Err([format!("{left:?}"), format!("{right:?}")])
        }
    }

    /// Waits until both sides have delivered everything, and compares it.
    pub(crate) async fn settle(&mut self, scene: &Scene) -> Compared {
        if !self.has_hidden {
            self.has_hidden = true;
            let hidden = WatchCreateRequest {
                key: scene.hidden_key(),
                watch_id: HIDDEN,
                ..Default::default()
            };
            Box::pin(self.create(scene, &hidden)).await?;
        }
        if self.waits_for_future(scene) || !self.compacted.is_empty() {
            self.settle_by_time(scene).await?;
        } else {
            self.settle_by_progress(scene).await?;
        }
        for watcher in self.watchers.values_mut() {
            watcher.live_from = watcher.live_from.min(scene.now);
        }
        self.catching_up = None;
        Ok(())
    }

    /// Whether a watcher keeps progress from being told, because it begins at a later revision.
    fn waits_for_future(&self, scene: &Scene) -> bool {
        self.watchers.values().any(|watcher| watcher.start > scene.now)
    }

    /// Progress is told when everything has been, so when both have told it, logs are complete.
    async fn settle_by_progress(&mut self, scene: &Scene) -> Compared {
        let before = self.streams.each_ref().map(|stream| stream.progress.len());
        let start = Instant::now();
        let told = |stream: &Stream, before: usize| {
            stream.progress[before..]
                .iter()
                .any(|revision| *revision >= scene.now)
        };
        loop {
            let done = [0, 1].map(|side| told(&self.streams[side], before[side]));
            if done == [true, true] {
                break;
            }
            if self.streams.iter().any(Stream::lost_watcher) {
                return self.settle_by_time(scene).await;
            }
            if start.elapsed() > PATIENCE || self.streams.iter().any(|stream| stream.end.is_some()) {
                return Err([0, 1].map(|side| {
                    let stream = &self.streams[side];
                    format!(
                        "progress {:?} of {}, end {:?}, log {:?}",
                        stream.progress.get(before[side]..),
                        scene.now,
                        stream.end,
                        stream.log
                    )
                }));
            }
            for side in [0, 1] {
                if !done[side] {
                    self.streams[side].ask_progress();
                }
            }
            let asked = Instant::now();
            while asked.elapsed() < ASK_AGAIN {
                let [left, right] = &mut self.streams;
                tokio::join!(left.receive(TICK), right.receive(TICK));
                if told(&self.streams[0], before[0]) && told(&self.streams[1], before[1]) {
                    break;
                }
            }
        }
        let told = self
            .streams
            .each_ref()
            .map(|stream| stream.progress.last().copied());
        if told[0] != told[1] {
            return Err(told.map(|revision| format!("progress {revision:?}")));
        }
        self.compare(true).map(|_| ())
    }

    /// Where no progress is told, both logs must become equal.
    async fn settle_by_time(&mut self, scene: &Scene) -> Compared {
        let before = self.streams.each_ref().map(|stream| stream.progress.len());
        for stream in &self.streams {
            stream.ask_progress();
        }
        let start = Instant::now();
        loop {
            let [left, right] = &mut self.streams;
            tokio::join!(left.receive(TICK), right.receive(TICK));
            let caught_up = self.catching_up.is_none_or(|since| since.elapsed() > CATCH_UP);
            let late = start.elapsed() > PATIENCE / 2;
            if (caught_up && start.elapsed() > TICK * 3 || late) && self.compare(late)? {
                break;
            }
        }
        let told = [0, 1].map(|side| self.streams[side].progress.len() > before[side]);
        if told[0] == told[1] || !self.compacted.is_empty() && !self.waits_for_future(scene) {
            Ok(())
        } else {
            Err(told.map(|told| format!("progress told: {told}")))
        }
    }

    /// Whether both logs show the same; they are let go of then. If they do not, it is an error when it should be.
    fn compare(&mut self, strictly: bool) -> Result<bool, [String; 2]> {
        let items = self.streams.each_ref().map(|stream| self.items(&stream.log));
        let broken = self.streams.each_ref().map(|stream| stream.broken.clone());
        let ends = self.streams.each_ref().map(|stream| stream.end.clone());
        let equal = items[0] == items[1] && broken[0] == broken[1] && ends[0] == ends[1];
        if equal {
            for stream in &mut self.streams {
                stream.log.clear();
            }
            for (id, items) in &items[0] {
                let ended = |item: &Item| matches!(item, Item::Other(response) if response.canceled);
                if items.iter().any(ended) {
                    self.watchers.remove(id);
                    self.compacted.insert(*id);
                }
            }
        } else if strictly {
            return Err([0, 1].map(|side| {
                let only = differing(&items[side], &items[1 - side]);
                format!("{only:#?}, broken {:?}, end {:?}", broken[side], ends[side])
            }));
        }
        Ok(equal)
    }

    /// A log by watchers, without what the server may choose: how what a watcher catches up with is put together.
    fn items(&self, log: &[WatchResponse]) -> BTreeMap<i64, Vec<Item>> {
        let mut items: BTreeMap<i64, Vec<Item>> = BTreeMap::new();
        let mut goes_on: BTreeMap<i64, bool> = BTreeMap::new();
        for response in log {
            let id = response.watch_id;
            let of_watcher = items.entry(id).or_default();
            if response.events.is_empty() {
                of_watcher.push(Item::Other(without_ids(response.clone())));
                continue;
            }
            let mut continues = goes_on.insert(id, response.fragment).unwrap_or(false);
            let header = response.header.as_ref().map_or(0, |header| header.revision);
            let live_from = self.watchers.get(&id).map_or(0, |watcher| watcher.live_from);
            let live = response.events.iter().all(|event| revision_of(event) > live_from);
            let mut in_response = 0;
            for event in &response.events {
                let revision = revision_of(event);
                let last = match of_watcher.last_mut() {
                    Some(Item::Events {
                        revision: last,
                        events,
                        ..
                    }) if *last == revision && (in_response == revision || continues) => Some(events),
                    _ => None,
                };
                match last {
                    Some(events) => events.push(event.clone()),
                    None => of_watcher.push(Item::Events {
                        header: live.then_some(header),
                        revision,
                        events: vec![event.clone()],
                    }),
                }
                in_response = revision;
                continues = false;
            }
            if header < in_response {
                of_watcher.push(Item::Other(response.clone()));
            }
        }
        items
    }
}

/// The items of one side that the other does not have in the same place.
fn differing<'a>(
    ours: &'a BTreeMap<i64, Vec<Item>>,
    theirs: &BTreeMap<i64, Vec<Item>>,
) -> BTreeMap<i64, &'a Vec<Item>> {
    ours.iter()
        .filter(|(id, items)| theirs.get(id) != Some(items))
        .map(|(id, items)| (*id, items))
        .collect()
}

fn revision_of(event: &Event) -> i64 {
    event.kv.as_ref().map_or(0, |kv| kv.mod_revision)
}

fn shown(answer: Result<WatchResponse, String>) -> Result<WatchResponse, [String; 2]> {
    answer.map_err(|reason| [reason.clone(), format!("(one of both: {reason})")])
}

/// The ids and the term in headers are the server's own.
fn without_ids(mut response: WatchResponse) -> WatchResponse {
    if let Some(header) = &mut response.header {
        header.cluster_id = u64::from(header.cluster_id != 0);
        header.member_id = u64::from(header.member_id != 0);
        header.raft_term = u64::from(header.raft_term != 0);
    }
    response
}

/// The id of the watcher that makes sure that progress is told.
const HIDDEN: i64 = 1 << 40;
/// How long a stream is listened to at a time.
const TICK: Duration = Duration::from_millis(5);
/// A progress request that is not answered while a watcher catches up is sent again after this.
const ASK_AGAIN: Duration = Duration::from_millis(40);
/// A real etcd lets watchers catch up ten times a second.
const CATCH_UP: Duration = Duration::from_millis(350);

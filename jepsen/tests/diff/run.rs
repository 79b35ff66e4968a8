//! One sequence on a pair of servers, step by step, until the first difference.

use std::fmt;
use std::time::{Duration, Instant};

use proto::etcdserverpb::{
    AlarmRequest, DeleteRangeRequest, HashKvRequest, LeaseGrantRequest, LeaseLeasesRequest,
    LeaseRevokeRequest, PutRequest, RangeRequest, WatchCreateRequest,
};
use proto::v3electionpb::LeaderRequest;

use super::calls::{Answer, Outcome, Refusal, Request};
use super::explained;
use super::metrics::{self, Metrics, Refused};
use super::pair::{Pair, Side, Unlike};
use super::scene::Scene;
use super::steps::{Lease, Metadata, STREAMS, Step};
use super::watching::Watching;

/// What was not the same.
#[derive(Clone, Debug)]
pub(crate) struct Difference {
    /// The number of the step, from 1; behind the last is what is done after every sequence.
    pub(crate) step: usize,
    pub(crate) what: String,
    pub(crate) sides: Unlike,
    /// A server that has ended by itself.
    pub(crate) death: Option<String>,
}

impl Difference {
    /// Differences of one kind are taken for one: the kind of the step, and whether each side refused.
    pub(crate) fn kind(&self) -> (String, [bool; 2]) {
        let end = self.what.find(|c: char| !c.is_ascii_alphanumeric());
        let step = self.what[..end.unwrap_or(self.what.len())].to_owned();
        (step, self.sides.each_ref().map(|side| side.starts_with("Err")))
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "step {}: {}", self.step, self.what)?;
        writeln!(f, "etcd:     {}", self.sides[0])?;
        write!(f, "taffrail: {}", self.sides[1])?;
        match &self.death {
            Some(death) => write!(f, "\n{death}"),
            None => Ok(()),
        }
    }
}

type Checked = Result<(), Unlike>;

impl Pair {
    /// Runs a sequence and cleans up behind it. After a difference the pair must be cleaned or given up.
    pub(crate) async fn run(&mut self, steps: &[Step]) -> Result<(), Difference> {
        let outcome = self.run_steps(steps).await;
        outcome.map_err(|(step, sides)| Difference {
            step: step + 1,
            what: steps
                .get(step)
                .map_or("cleaning up".to_owned(), |step| format!("{step:?}")),
            sides,
            death: self.deaths(),
        })
    }

    async fn run_steps(&mut self, steps: &[Step]) -> Result<(), (usize, Unlike)> {
        let start = self.begin().await.map_err(|unlike| (0, unlike))?;
        let number = self.sequences;
        self.sequences += 1;
        let mut run = Run {
            pair: self,
            scene: Scene::new(number, start),
            streams: [const { None }; STREAMS as usize],
            metrics: None,
            refused: Refused::default(),
        };
        if steps.contains(&Step::Metrics) {
            run.metrics = Some(run.metrics_at_rest().await);
        }
        for (number, step) in steps.iter().enumerate() {
            run.step(step).await.map_err(|unlike| (number, unlike))?;
        }
        run.settle_all(false)
            .await
            .map_err(|unlike| (steps.len(), unlike))?;
        run.streams = [const { None }; STREAMS as usize];
        self.clean().await.map_err(|unlike| (steps.len(), unlike))
    }

    /// Writes the key that keeps the store from being empty; tells the revision.
    async fn begin(&self) -> Result<i64, Unlike> {
        let put = Request::Put(PutRequest {
            key: ANCHOR.into(),
            ..Default::default()
        });
        match self.ask_same(put).await? {
            Ok(mut answer) => Ok(revision(&mut answer)),
            Err(refusal) => Err(both(&format!("the anchor is refused: {refusal:?}"))),
        }
    }

    /// Brings both servers back to an empty store without leases and alarms, and compares all that is left.
    pub(crate) async fn clean(&self) -> Checked {
        let listed = self.ask_same(Request::Alarm(AlarmRequest::default())).await?;
        if let Ok(Answer::Alarm(answer)) = listed {
            for alarm in answer.alarms {
                let disarm = |side: &Side| {
                    Request::Alarm(AlarmRequest {
                        action: 2,
                        member_id: if alarm.member_id == 1 {
                            side.member
                        } else {
                            alarm.member_id
                        },
                        alarm: alarm.alarm,
                    })
                };
                accepted(self.ask(None, [disarm(&self.left), disarm(&self.right)]).await?)?;
            }
        }
        if let Ok(Answer::Leases(answer)) = self.ask_same(Request::Leases(LeaseLeasesRequest {})).await? {
            for lease in answer.leases {
                accepted(
                    self.ask_same(Request::Revoke(LeaseRevokeRequest { id: lease.id }))
                        .await?,
                )?;
            }
        }
        let everything = DeleteRangeRequest {
            key: b"\0".as_slice().into(),
            range_end: b"\0".as_slice().into(),
            prev_kv: true,
        };
        accepted(self.ask_same(Request::Delete(everything)).await?)?;
        self.begin().await?;
        accepted(
            self.ask_in_time(Request::HashKv(HashKvRequest { revision: 0 }))
                .await?,
        )
    }
}

struct Run<'a> {
    pair: &'a Pair,
    scene: Scene,
    streams: [Option<Watching>; STREAMS as usize],
    /// The metrics of both at the beginning.
    metrics: Option<[Metrics; 2]>,
    refused: Refused,
}

impl Run<'_> {
    async fn step(&mut self, step: &Step) -> Checked {
        match step {
            Step::With(metadata, inner) => self.call(Some(*metadata), inner).await,
            Step::Compact { .. } => {
                // What a watcher has not caught up with yet may be compacted away before it does, or not.
                self.settle_all(true).await?;
                self.call(None, step).await
            }
            Step::Grant { lease, ttl } => self.grant(*lease, *ttl).await,
            Step::Expiry(key) => {
                let key = self.scene.key(key);
                self.expiry(key).await?;
                self.learn_revision().await
            }
            Step::Watch(watch) => {
                let request = self.scene.watch(watch);
                let scene = self.scene.clone();
                self.stream(watch.stream).create(&scene, &request).await
            }
            Step::CancelWatch { stream, id } => {
                let scene = self.scene.clone();
                self.stream(*stream).cancel(&scene, *id).await
            }
            Step::EmptyWatchRequest(stream) => {
                for stream in &self.stream(*stream).streams {
                    stream.send(None);
                }
                Ok(())
            }
            Step::ProgressOfNothing => self.progress_of_nothing().await,
            Step::Settle(stream) => {
                let scene = self.scene.clone();
                self.stream(*stream).settle(&scene).await
            }
            Step::HashKv(revision) => {
                let revision = self.scene.revision(*revision);
                let asked = self.pair.ask_in_time(Request::HashKv(HashKvRequest { revision }));
                asked.await.map(|_| ())
            }
            Step::Metrics => self.compare_metrics().await,
            Step::Observe(name) => self.observe(*name).await,
            Step::Http { path, body } => {
                let (mut left, mut right) = tokio::join!(
                    self.pair.left.http(path, body.as_deref()),
                    self.pair.right.http(path, body.as_deref())
                );
                // Whether a put was refused does not tell without reading the body.
                self.refused.write = true;
                explained::level_http(path, &mut left, &mut right);
                if left != right {
                    return Err([format!("{left:?}"), format!("{right:?}")]);
                }
                self.learn_revision().await
            }
            unary => self.call(None, unary).await,
        }
    }

    /// A step that is one call.
    async fn call(&mut self, metadata: Option<Metadata>, step: &Step) -> Checked {
        let request = |side: &Side| self.scene.request(step, side.member);
        let (Some(left), Some(right)) = (request(&self.pair.left), request(&self.pair.right)) else {
            return Ok(());
        };
        let plain = matches!(left, Request::Range(_) | Request::Delete(_) | Request::Grant(_));
        let outcome = self.pair.ask(metadata, [left, right]).await?;
        self.refused.write |= !plain && outcome.is_err();
        self.refused.unread |= matches!(step, Step::Raw { .. })
            || outcome
                .as_ref()
                .is_err_and(|refusal| refusal.text.starts_with("grpc:"));
        if let Ok(mut answer) = outcome {
            self.scene.now = self.scene.now.max(revision(&mut answer));
            match (&answer, step) {
                (Answer::Compact(_), Step::Compact { revision, .. }) => {
                    self.scene.compacted = Some(self.scene.revision(*revision));
                }
                (Answer::Campaign(answer), _) => self.scene.leader.clone_from(&answer.leader),
                _ => {}
            }
        }
        Ok(())
    }

    /// A lease that would end during the sequence is revoked at once, so that nothing happens by itself.
    async fn grant(&mut self, lease: Lease, ttl: i64) -> Checked {
        let request = LeaseGrantRequest {
            ttl,
            id: self.scene.lease(lease),
        };
        let request = Request::Grant(request);
        let (mut left, mut right) = tokio::join!(
            self.pair.left.call(None, request.clone()),
            self.pair.right.call(None, request.clone())
        );
        let given = [&left, &right].map(|outcome| match outcome {
            Ok(Answer::Grant(answer)) => (answer.id, answer.ttl),
            _ => (0, 0),
        });
        explained::level(&request, &mut left, &mut right);
        if left != right {
            return Err([format!("{left:?}"), format!("{right:?}")]);
        }
        if left.is_ok() && (given[0].1 < LEASE_SECONDS_MIN || lease == Lease::Unset) {
            let revokes = given.map(|(id, _)| Request::Revoke(LeaseRevokeRequest { id }));
            accepted(self.pair.ask(None, revokes).await?)?;
        }
        Ok(())
    }

    async fn expiry(&mut self, key: bytes::Bytes) -> Checked {
        let id = self.scene.hidden_lease();
        let grant = Request::Grant(LeaseGrantRequest { ttl: 1, id });
        if self.pair.ask_same(grant).await?.is_err() {
            return Ok(());
        }
        let put = PutRequest {
            key: key.clone(),
            lease: id,
            ..Default::default()
        };
        let Ok(mut answer) = self.pair.ask_same(Request::Put(put)).await? else {
            return Ok(());
        };
        let put_at = revision(&mut answer);
        let mut watching = Watching::open([&self.pair.left.client, &self.pair.right.client]);
        let watch = WatchCreateRequest {
            key,
            start_revision: put_at + 1,
            prev_kv: true,
            ..Default::default()
        };
        watching.create(&self.scene, &watch).await?;
        let [left, right] = &mut watching.streams;
        let (left, right) = tokio::join!(
            left.take_first(|response| !response.events.is_empty()),
            right.take_first(|response| !response.events.is_empty())
        );
        let shown = |response: Result<_, String>| {
            response.map(|response: proto::etcdserverpb::WatchResponse| {
                let header = response.header.map_or(0, |header| header.revision);
                (header, response.events)
            })
        };
        let (left, right) = (shown(left), shown(right));
        if left != right || left.is_err() {
            return Err([format!("{left:?}"), format!("{right:?}")]);
        }
        accepted(self.pair.ask_same(Request::KeepAlive(id)).await?)
    }

    async fn progress_of_nothing(&mut self) -> Checked {
        let mut watching = Watching::open([&self.pair.left.client, &self.pair.right.client]);
        for stream in &watching.streams {
            stream.ask_progress();
        }
        let watch = WatchCreateRequest {
            key: self.scene.hidden_key(),
            ..Default::default()
        };
        // Answers come in the order of the requests, so what was asked first was not answered.
        watching.create(&self.scene, &watch).await?;
        let told = watching
            .streams
            .each_ref()
            .map(|stream| stream.has_told_progress());
        if told[0] == told[1] {
            Ok(())
        } else {
            Err(told.map(|told| format!("progress told: {told}")))
        }
    }

    async fn observe(&mut self, name: u8) -> Checked {
        let request = LeaderRequest {
            name: self.scene.election(name),
        };
        let first = async |side: &Side| {
            let mut client = side.client.election_client();
            let observed = async {
                let mut stream = client.observe(request.clone()).await?.into_inner();
                stream.message().await
            };
            let observed = tokio::time::timeout(OBSERVED, observed).await;
            let none = || Err(tonic::Status::deadline_exceeded("nobody is elected"));
            let leader = observed.unwrap_or_else(|_| none()).map_err(Refusal::from);
            leader.map(|leader| leader.and_then(|leader| leader.kv))
        };
        let (left, right) = tokio::join!(first(&self.pair.left), first(&self.pair.right));
        if left == right {
            Ok(())
        } else {
            Err([format!("{left:?}"), format!("{right:?}")])
        }
    }

    async fn metrics(&self) -> [Metrics; 2] {
        let (left, right) = tokio::join!(self.pair.left.metrics(), self.pair.right.metrics());
        [left, right]
    }

    /// The metrics when the streams of the sequence before have ended on both sides, and what they had is counted.
    async fn metrics_at_rest(&self) -> [Metrics; 2] {
        let start = Instant::now();
        let mut before = self.metrics().await;
        loop {
            tokio::time::sleep(RESTS).await;
            let after = self.metrics().await;
            let rests = |side: usize| metrics::at_rest(&before[side], &after[side]);
            if rests(0) && rests(1) || start.elapsed() > COUNTED {
                return after;
            }
            before = after;
        }
    }

    /// Some are counted in the background or at the end of a call, behind its answer.
    async fn compare_metrics(&mut self) -> Checked {
        let Some(before) = &self.metrics else {
            return Ok(());
        };
        let start = Instant::now();
        loop {
            let after = self.metrics().await;
            let grown = [0, 1].map(|side| metrics::comparable(&before[side], &after[side], self.refused));
            if grown[0] == grown[1] {
                return Ok(());
            }
            if start.elapsed() > COUNTED {
                let only = |side: usize| {
                    let unlike =
                        |(series, _): &(&String, &f64)| grown[0].get(*series) != grown[1].get(*series);
                    let series: Vec<_> = grown[side].iter().filter(unlike).collect();
                    format!("{series:?}")
                };
                return Err([only(0), only(1)]);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn stream(&mut self, number: u8) -> &mut Watching {
        let clients = [&self.pair.left.client, &self.pair.right.client];
        self.streams[usize::from(number % STREAMS)].get_or_insert_with(|| Watching::open(clients))
    }

    async fn settle_all(&mut self, only_catching_up: bool) -> Checked {
        for watching in self.streams.iter_mut().flatten() {
            if !only_catching_up || watching.is_catching_up() {
                watching.settle(&self.scene).await?;
            }
        }
        Ok(())
    }

    /// After what does not tell the revision in its answer.
    async fn learn_revision(&mut self) -> Checked {
        let read = RangeRequest {
            key: self.scene.hidden_key(),
            ..Default::default()
        };
        if let Ok(mut answer) = self.pair.ask_same(Request::Range(read)).await? {
            self.scene.now = revision(&mut answer);
        }
        Ok(())
    }
}

/// The revision in an answer's header.
fn revision(answer: &mut Answer) -> i64 {
    answer.header_mut().map_or(0, |header| header.revision)
}

/// For calls that neither may refuse.
fn accepted(outcome: Outcome) -> Checked {
    outcome
        .map(|_| ())
        .map_err(|refusal| both(&format!("both refuse: {refusal:?}")))
}

fn both(text: &str) -> Unlike {
    [text.to_owned(), text.to_owned()]
}

/// A key that is always there, so that the store is never empty: HashKV of an empty one depends on what the background
/// compaction has done.
const ANCHOR: &[u8] = b"~anchor";
/// Leases of less are revoked where they are granted.
const LEASE_SECONDS_MIN: i64 = 60;
/// How long an observer waits for a leader.
const OBSERVED: Duration = Duration::from_millis(300);
/// How far apart two looks at numbers are that must not change.
const RESTS: Duration = Duration::from_millis(30);
/// How long a number may stay behind what it counts.
const COUNTED: Duration = Duration::from_secs(1);

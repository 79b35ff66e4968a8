//! A real etcd and a Taffrail side by side: started together, asked the same, compared.

use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, MemberListRequest, PutRequest, StatusRequest,
};

use super::calls::{Answer, Client, Outcome, Request};
use super::explained;
use super::metrics::{self, Metrics};
use super::process::{HttpAnswer, Process, http};
use super::programs::Etcd;
use super::steps::Metadata;

/// Changes what one side answers, to show that differences are found.
pub(crate) type Alter = Arc<dyn Fn(&mut Outcome) + Send + Sync>;

/// What to start a pair of.
#[derive(Clone)]
pub(crate) struct Programs {
    pub(crate) left: std::path::PathBuf,
    pub(crate) right: std::path::PathBuf,
    pub(crate) version: (u32, u32),
    pub(crate) alter: Option<Alter>,
}

impl Programs {
    pub(crate) fn new(etcd: Etcd, taffrail: std::path::PathBuf) -> Programs {
        Programs {
            left: etcd.path,
            right: taffrail,
            version: etcd.version,
            alter: None,
        }
    }

    /// Whether etcd knows everything that the baseline, 3.7, does.
    pub(crate) fn is_baseline(&self) -> bool {
        self.version >= (3, 7)
    }
}

/// One of both servers.
pub(crate) struct Side {
    process: Process,
    pub(crate) client: Client,
    pub(crate) member: u64,
    cluster: u64,
    term: u64,
    /// What answers may hold of the server's own address, and what stands for it.
    names: [(String, &'static str); 3],
    alter: Option<Alter>,
}

impl Side {
    async fn new(process: Process, alter: Option<Alter>) -> Side {
        let client_url = format!("http://{}", process.address());
        let client = Client::connect(client_url.clone()).await;
        let status = client.call(None, Request::Status(StatusRequest {})).await;
        let Ok(Answer::Status(status)) = status else {
            panic!("a server that is ready tells its status: {status:?}");
        };
        let header = status.header.expect("the answer has a header");
        let names = [
            (client_url, "CLIENT"),
            (process.peer_url(), "PEER"),
            (process.address().to_string(), "ADDRESS"),
        ];
        Side {
            process,
            client,
            member: header.member_id,
            cluster: header.cluster_id,
            term: header.raft_term,
            names,
            alter,
        }
    }

    pub(crate) async fn call(&self, metadata: Option<Metadata>, request: Request) -> Outcome {
        let mut outcome = self.client.call(metadata, request).await;
        if let Some(alter) = &self.alter {
            alter(&mut outcome);
        }
        self.without_identity(&mut outcome);
        outcome
    }

    fn without_identity(&self, outcome: &mut Outcome) {
        let Ok(answer) = outcome else {
            return;
        };
        if let Some(header) = answer.header_mut() {
            self.level_header(header);
        }
        let own = |id: &mut u64| *id = if *id == self.member { OWN } else { *id };
        match answer {
            Answer::Status(status) => {
                own(&mut status.leader);
                for error in &mut status.errors {
                    // Go's protobuf puts one space or two into its text, so that nobody parses it.
                    *error = error
                        .replace("  ", " ")
                        .replace(&self.member.to_string(), "MEMBER");
                }
                level(&mut status.raft_term, self.term);
            }
            Answer::Alarm(answer) => answer
                .alarms
                .iter_mut()
                .for_each(|alarm| own(&mut alarm.member_id)),
            Answer::MemberList(answer) => {
                for member in &mut answer.members {
                    own(&mut member.id);
                    for url in member.peer_urls.iter_mut().chain(&mut member.client_urls) {
                        *url = self.without_address(url);
                    }
                }
            }
            Answer::RangeStream(messages) => {
                let ranges = messages
                    .iter_mut()
                    .filter_map(|message| message.range_response.as_mut());
                let headers = ranges.filter_map(|range| range.header.as_mut());
                headers.for_each(|header| self.level_header(header));
            }
            _ => {}
        }
    }

    fn level_header(&self, header: &mut proto::etcdserverpb::ResponseHeader) {
        level(&mut header.member_id, self.member);
        level(&mut header.cluster_id, self.cluster);
        level(&mut header.raft_term, self.term);
    }

    fn without_address(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (name, token) in &self.names {
            text = text.replace(name, token);
        }
        text
    }

    /// An HTTP request, with what is the server's own in the answer replaced.
    pub(crate) async fn http(&self, path: &str, body: Option<&str>) -> Option<HttpAnswer> {
        let (address, path, body) = (self.process.address(), path.to_owned(), body.map(str::to_owned));
        let asked = tokio::task::spawn_blocking(move || http(address, &path, body.as_deref()));
        let mut answer = asked.await.expect("the request does not panic")?;
        if answer.content_type == "application/json" {
            answer.body = explained::compact_json(&answer.body);
        }
        for (id, token) in [(self.member, "MEMBER"), (self.cluster, "CLUSTER")] {
            answer.body = answer.body.replace(&id.to_string(), token);
        }
        answer.body = self.without_address(&answer.body);
        let term = format!("\"raft_term\":\"{}\"", self.term);
        answer.body = answer.body.replace(&term, "\"raft_term\":\"TERM\"");
        Some(answer)
    }

    pub(crate) async fn metrics(&self) -> Metrics {
        let answer = self.http("/metrics", None).await;
        metrics::parse(&answer.map(|answer| answer.body).unwrap_or_default())
    }
}

/// Own numbers become one number, others stay as they are.
fn level(number: &mut u64, own: u64) {
    if *number == own {
        *number = OWN;
    }
}

/// What stands for a server's own id.
const OWN: u64 = 1;

/// Both servers.
pub(crate) struct Pair {
    pub(crate) left: Side,
    pub(crate) right: Side,
    is_baseline: bool,
    /// How many sequences have run on it.
    pub(crate) sequences: u64,
}

/// What a pair has behind it when sequences begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Age {
    Fresh,
    /// Some revisions, and a compaction.
    Compacted,
}

/// Fresh servers must do alike what no sequence is about.
#[track_caller]
fn accepted(asked: &Result<Outcome, Unlike>) {
    assert!(matches!(asked, Ok(Ok(_))), "fresh servers: {asked:?}");
}

/// Revisions of a pair that is not fresh.
const OLD: i64 = 20;

/// What two servers came to, when it is not the same.
pub(crate) type Unlike = [String; 2];

impl Pair {
    pub(crate) async fn start(programs: &Programs, age: Age) -> Pair {
        let mut processes = [
            Process::spawn("etcd", &programs.left),
            Process::spawn("taffrail", &programs.right),
        ];
        tokio::task::block_in_place(|| processes.iter_mut().for_each(Process::wait_until_ready));
        let [left, right] = processes;
        let pair = Pair {
            left: Side::new(left, None).await,
            right: Side::new(right, programs.alter.clone()).await,
            is_baseline: programs.is_baseline(),
            sequences: 0,
        };
        pair.wait_until_alike().await;
        if age == Age::Compacted {
            pair.grow_old().await;
        }
        pair
    }

    /// Gives both a history of which the beginning is compacted.
    async fn grow_old(&self) {
        let put = Request::Put(PutRequest {
            key: b"~old".as_slice().into(),
            ..Default::default()
        });
        for _ in 0..OLD {
            accepted(&self.ask_same(put.clone()).await);
        }
        let compact = CompactionRequest {
            revision: OLD / 2,
            physical: true,
        };
        accepted(&self.ask_same(Request::Compact(compact)).await);
        let delete = DeleteRangeRequest {
            key: b"~old".as_slice().into(),
            ..Default::default()
        };
        accepted(&self.ask_same(Request::Delete(delete)).await);
    }

    /// What a server publishes about itself comes a little after it is ready.
    async fn wait_until_alike(&self) {
        let start = Instant::now();
        let request = Request::MemberList(MemberListRequest { linearizable: true });
        while let Err(unlike) = self.ask(None, [request.clone(), request.clone()]).await {
            assert!(
                start.elapsed() < super::PATIENCE,
                "fresh servers differ: {unlike:?}"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Asks both and compares; the outcome is that of both.
    pub(crate) async fn ask(
        &self,
        metadata: Option<Metadata>,
        requests: [Request; 2],
    ) -> Result<Outcome, Unlike> {
        let [left, right] = requests;
        let request = left.clone();
        let (mut left, mut right) =
            tokio::join!(self.left.call(metadata, left), self.right.call(metadata, right));
        explained::level(&request, &mut left, &mut right);
        if !self.is_baseline {
            explained::mask_newer(&request, &mut left);
            explained::mask_newer(&request, &mut right);
        }
        if left == right {
            Ok(left)
        } else {
            Err([format!("{left:?}"), format!("{right:?}")])
        }
    }

    /// The same request to both.
    pub(crate) async fn ask_same(&self, request: Request) -> Result<Outcome, Unlike> {
        self.ask(None, [request.clone(), request]).await
    }

    /// For what depends on work in the background: asks until both are the same.
    pub(crate) async fn ask_in_time(&self, request: Request) -> Result<Outcome, Unlike> {
        let start = Instant::now();
        loop {
            let asked = self.ask_same(request.clone()).await;
            if asked.is_ok() || start.elapsed() > BACKGROUND {
                return asked;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// What is to be said of a server that has ended by itself.
    pub(crate) fn deaths(&mut self) -> Option<String> {
        let deaths = [self.left.process.death(), self.right.process.death()];
        let told: Vec<String> = deaths.into_iter().flatten().collect();
        (!told.is_empty()).then(|| told.join("\n"))
    }
}

/// How long work in the background, such as a compaction, may take.
const BACKGROUND: Duration = Duration::from_secs(3);

//! Members without threads and without a disk that fails, stepped by hand over a network that the test cuts.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(dead_code, reason = "not every test needs all of it")]

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use proto::etcdserverpb::{PutRequest, RangeRequest};
use store::backend::MemoryBackend;
use store::env::fake::{FakeDisk, ManualClock, SeededEntropy};
use store::error::Error;
use store::shell::ClusterState;
use store::shell::sim::{Bugs, Part, SimMember, SimWorld, Step};
use store::{Settings, Store};

pub(crate) struct Cluster {
    pub(crate) members: Vec<Option<SimMember>>,
    pub(crate) worlds: Vec<SimWorld>,
    pub(crate) disks: Vec<FakeDisk>,
    pub(crate) backends: Vec<Arc<MemoryBackend>>,
    pub(crate) settings: Vec<Settings>,
    pub(crate) clock: ManualClock,
    /// Members that nothing reaches and that reach nobody.
    pub(crate) cut: Vec<usize>,
    /// Members that get no time.
    pub(crate) asleep: Vec<usize>,
}

impl Cluster {
    /// So many members, one of which leads.
    pub(crate) fn new(size: usize) -> Cluster {
        let mut cluster = Cluster::unelected(size, &|_| {});
        cluster.elect();
        cluster
    }

    pub(crate) fn unelected(size: usize, adjust: &dyn Fn(&mut Settings)) -> Cluster {
        let clock = ManualClock::new(1);
        let initial = (0..size).map(|number| (name(number), vec![url(number)]));
        let initial: Vec<_> = initial.collect();
        let mut cluster = Cluster {
            members: Vec::new(),
            worlds: Vec::new(),
            disks: Vec::new(),
            backends: Vec::new(),
            settings: Vec::new(),
            clock,
            cut: Vec::new(),
            asleep: Vec::new(),
        };
        for number in 0..size {
            let mut settings = Settings::new("/data");
            settings.initial_cluster.clone_from(&initial);
            adjust(&mut settings);
            cluster.place(settings);
            cluster.start(number);
        }
        cluster
    }

    /// A machine for one more member, which is not started. Returns its number.
    pub(crate) fn place(&mut self, mut settings: Settings) -> usize {
        let number = self.members.len();
        settings.name = name(number);
        settings.initial_advertise_peer_urls = vec![url(number)];
        let disk = FakeDisk::new(number as u64);
        let backend = Arc::new(MemoryBackend::new());
        self.worlds.push(SimWorld {
            disk: Arc::new(disk.clone()),
            clock: Arc::new(self.clock.clone()),
            entropy: Arc::new(SeededEntropy::new(number as u64)),
            backend: Arc::clone(&backend) as Arc<_>,
        });
        self.disks.push(disk);
        self.backends.push(backend);
        self.settings.push(settings);
        self.members.push(None);
        number
    }

    pub(crate) fn start(&mut self, number: usize) {
        let (settings, world) = (self.settings[number].clone(), self.worlds[number].clone());
        self.members[number] = Some(SimMember::open(settings, world, Bugs::default()).unwrap());
    }

    pub(crate) fn crash(&mut self, number: usize) {
        self.members[number] = None;
        self.disks[number].crash(1);
        self.backends[number].crash();
    }

    /// The member comes back, when it is started, with an empty disk.
    pub(crate) fn wipe(&mut self, number: usize) {
        self.members[number] = None;
        let disk = FakeDisk::new(100 + number as u64);
        let backend = Arc::new(MemoryBackend::new());
        self.worlds[number].disk = Arc::new(disk.clone());
        self.worlds[number].backend = Arc::clone(&backend) as Arc<_>;
        self.disks[number] = disk;
        self.backends[number] = backend;
        self.settings[number].initial_cluster_state = ClusterState::Existing;
    }

    pub(crate) fn store(&self, number: usize) -> Store {
        self.members[number].as_ref().unwrap().store()
    }

    /// Steps everybody until nothing is left to do without time passing.
    pub(crate) fn settle(&mut self) {
        let untimed = [
            Step::Round,
            Step::WriteLog,
            Step::Deliver,
            Step::Compact,
            Step::Work,
        ];
        loop {
            let mut worked = false;
            for number in 0..self.members.len() {
                if self.asleep.contains(&number) {
                    continue;
                }
                let Some(member) = &mut self.members[number] else {
                    continue;
                };
                while let Some(step) = untimed.into_iter().find(|step| member.enabled(*step)) {
                    member.step(step);
                    worked = true;
                }
                assert_eq!(member.fatal(), None);
            }
            if !self.deliver() && !worked {
                return;
            }
        }
    }

    pub(crate) fn deliver(&mut self) -> bool {
        let mut any = false;
        for number in 0..self.members.len() {
            let Some(member) = &mut self.members[number] else {
                continue;
            };
            let from = member.member();
            let sent = member.take_sends();
            for message in sent {
                let is_target = |member: &Option<SimMember>| {
                    member
                        .as_ref()
                        .is_some_and(|member| member.member() == message.to)
                };
                let Some(to) = self.members.iter().position(is_target) else {
                    continue;
                };
                if self.cut.contains(&number) || self.cut.contains(&to) {
                    continue;
                }
                self.members[to].as_ref().unwrap().receive(from, message.message);
                any = true;
            }
        }
        any
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        let ticks = time.as_millis() / TICK.as_millis();
        for _ in 0..ticks {
            self.clock.advance(TICK);
            for number in 0..self.members.len() {
                if self.asleep.contains(&number) {
                    continue;
                }
                if let Some(member) = &mut self.members[number] {
                    member.step(Step::Tick);
                    member.step(Step::WatchTick);
                }
                self.settle();
            }
        }
    }

    /// Lets time pass until somebody leads whom a quorum follows; returns who.
    pub(crate) fn elect(&mut self) -> usize {
        for _ in 0..100 {
            self.pass(TICK);
            if let Some(leader) = self.leader() {
                return leader;
            }
        }
        panic!("nobody is elected in ten seconds");
    }

    pub(crate) fn leader(&self) -> Option<usize> {
        let awake = |number: &usize| !self.cut.contains(number) && !self.asleep.contains(number);
        let leads = |number: &usize| {
            self.members[*number]
                .as_ref()
                .is_some_and(|member| member.raft().part == Part::Leader)
        };
        (0..self.members.len()).filter(awake).find(leads)
    }

    pub(crate) fn follower(&self) -> usize {
        let leader = self.leader().unwrap();
        (0..self.members.len())
            .find(|number| *number != leader && self.members[*number].is_some() && !self.cut.contains(number))
            .unwrap()
    }

    /// Waits for a call, for up to twenty seconds.
    pub(crate) fn call<T>(&mut self, call: impl Future<Output = T>) -> T {
        let mut call = pin!(call);
        for _ in 0..200 {
            if let Some(answer) = poll(call.as_mut()) {
                return answer;
            }
            self.settle();
            if let Some(answer) = poll(call.as_mut()) {
                return answer;
            }
            self.pass(TICK);
        }
        panic!("no answer in twenty seconds");
    }

    pub(crate) fn put(&mut self, number: usize, key: &'static str, value: &str) -> Result<i64, Error> {
        let store = self.store(number);
        let request = PutRequest {
            key: key.into(),
            value: value.to_owned().into(),
            ..PutRequest::default()
        };
        self.call(async move { store.put(request).await })
            .map(|answer| answer.header.unwrap().revision)
    }

    pub(crate) fn get(
        &mut self,
        number: usize,
        key: &'static str,
        serializable: bool,
    ) -> Result<Option<String>, Error> {
        let store = self.store(number);
        let request = RangeRequest {
            key: key.into(),
            serializable,
            ..RangeRequest::default()
        };
        let answer = self.call(async move { store.range(request).await })?;
        let text = |value: &[u8]| String::from_utf8(value.to_vec()).unwrap();
        Ok(answer.kvs.first().map(|kv| text(&kv.value)))
    }
}

pub(crate) fn name(number: usize) -> String {
    format!("m{number}")
}

pub(crate) fn url(number: usize) -> String {
    format!("http://127.0.0.1:{}", 2380 + number)
}

pub(crate) fn poll<T>(call: Pin<&mut impl Future<Output = T>>) -> Option<T> {
    match call.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => Some(answer),
        Poll::Pending => None,
    }
}

pub(crate) const TICK: Duration = Duration::from_millis(100);

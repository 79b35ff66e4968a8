//! Certificates and authorities of a running cluster are replaced, while clients write.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod harness;

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use harness::tls::{Authority, Hello, Pair};
use harness::*;
use tempfile::TempDir;

/// The files that one member goes by, replaced as an operator would: by a rename.
struct Files(TempDir);

impl Files {
    fn new(authorities: &str, pair: &Pair) -> Files {
        let files = Files(tempfile::tempdir().unwrap());
        files.put("ca.pem", authorities);
        files.put_pair(pair);
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn put(&self, name: &str, text: &str) {
        fs::write(self.path("next"), text).unwrap();
        fs::rename(self.path("next"), self.path(name)).unwrap();
    }

    fn put_pair(&self, pair: &Pair) {
        self.put("cert.pem", &fs::read_to_string(&pair.cert_file).unwrap());
        self.put("key.pem", &fs::read_to_string(&pair.key_file).unwrap());
    }

    /// TLS on both ports of a member by these files.
    fn flags(&self, plain: &str, secure: SocketAddr) -> Vec<String> {
        let (cert, key, ca) = (self.path("cert.pem"), self.path("key.pem"), self.path("ca.pem"));
        let mut flags = vec![
            format!("--listen-client-urls={plain},https://{secure}"),
            format!("--advertise-client-urls=https://{secure}"),
            "--client-cert-auth".to_owned(),
            "--peer-client-cert-auth".to_owned(),
            // The machine may be busy with other tests: leaders are not what this is about.
            "--election-timeout=5000".to_owned(),
        ];
        for side in ["", "peer-"] {
            flags.push(format!("--{side}cert-file={}", cert.display()));
            flags.push(format!("--{side}key-file={}", key.display()));
            flags.push(format!("--{side}trusted-ca-file={}", ca.display()));
        }
        flags
    }
}

/// Three members that speak nothing but TLS with each other, and with clients by a port of its own.
struct Fleet {
    cluster: Cluster,
    files: Vec<Files>,
    ports: Vec<Ports>,
}

impl Fleet {
    async fn start(authority: &Authority) -> Fleet {
        let files: Vec<Files> = (0..MEMBERS)
            .map(|member| Files::new(&authority.pem(), &issue(authority, &format!("m{member}"))))
            .collect();
        let ports: Vec<Ports> = (0..MEMBERS).map(|_| Ports::reserve()).collect();
        let cluster = Cluster::start_with_peer_tls_of_each(MEMBERS, |member, server| {
            files[member].flags(&server.endpoint(), address(&ports[member]))
        });
        Fleet {
            cluster: cluster.await,
            files,
            ports,
        }
    }

    /// Where members and clients come in, of every member.
    fn doors(&self) -> Vec<SocketAddr> {
        let members = self.cluster.members();
        let doors = members.flat_map(|member| {
            let peers = self.cluster.server(member).peer_address();
            [address(&self.ports[member]), peers]
        });
        doors.collect()
    }

    /// Whether every door lets `hello` in, or none does.
    async fn assert_admitted(&self, hello: &Hello, admitted: bool, when: &str) {
        for door in self.doors() {
            let answer = hello.get(door, "/version").await;
            assert_eq!(answer.is_ok(), admitted, "{when}: {door}: {answer:?}");
        }
    }
}

fn address(ports: &Ports) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], ports.client))
}

fn issue(authority: &Authority, name: &str) -> Pair {
    static SERIAL: AtomicU64 = AtomicU64::new(1);
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    authority.issue(name, serial, &["127.0.0.1", "localhost"])
}

/// Clients that write all the time. The even ones keep their connection, the others make a new one for every few
/// writes, with what the operator has given to clients by then.
struct Load {
    clients: Vec<Arc<Progress>>,
    tasks: Vec<tokio::task::JoinHandle<Result<(), String>>>,
    given: Arc<Mutex<Hello>>,
    stopped: Arc<AtomicBool>,
}

#[derive(Default)]
struct Progress {
    written: AtomicU64,
    connected: AtomicU64,
}

impl Load {
    fn start(addresses: &[SocketAddr], hello: Hello) -> Load {
        let given = Arc::new(Mutex::new(hello));
        let stopped = Arc::new(AtomicBool::new(false));
        let clients: Vec<Arc<Progress>> = (0..CLIENTS).map(|_| Arc::default()).collect();
        let tasks = clients.iter().enumerate().map(|(id, progress)| {
            let writer = Writer {
                id,
                address: addresses[id % addresses.len()],
                progress: progress.clone(),
                given: given.clone(),
                stopped: stopped.clone(),
            };
            tokio::spawn(writer.run())
        });
        Load {
            tasks: tasks.collect(),
            clients,
            given,
            stopped,
        }
    }

    /// Waits until every client has come on by a bit: those with new connections have made some.
    async fn goes_on(&self, when: &str) {
        let counts = || {
            let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
            let count = |client: &Arc<Progress>| (count(&client.written), count(&client.connected));
            self.clients.iter().map(count).collect::<Vec<_>>()
        };
        let (before, start) = (counts(), Instant::now());
        let come_on = || {
            let mut pairs = before.iter().zip(counts()).enumerate();
            pairs.all(|(id, (before, now))| {
                now.0 >= before.0 + STEADY_WRITES && (keeps_connection(id) || now.1 >= before.1 + 2)
            })
        };
        while !come_on() {
            for task in &self.tasks {
                assert!(!task.is_finished(), "{when}: a client has failed");
            }
            assert!(
                start.elapsed() < PATIENCE * 3,
                "{when}: {before:?}, {:?}",
                counts()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Ends the clients, and tells how many writes they made.
    async fn end(self) -> u64 {
        self.stopped.store(true, Ordering::Relaxed);
        for task in self.tasks {
            assert_eq!(task.await.unwrap(), Ok(()));
        }
        for (id, client) in self.clients.iter().enumerate() {
            if keeps_connection(id) {
                assert_eq!(
                    client.connected.load(Ordering::Relaxed),
                    1,
                    "client {id} was cut off"
                );
            }
        }
        let written = |client: &Arc<Progress>| client.written.load(Ordering::Relaxed);
        self.clients.iter().map(written).sum()
    }
}

fn keeps_connection(id: usize) -> bool {
    id.is_multiple_of(2)
}

struct Writer {
    id: usize,
    address: SocketAddr,
    progress: Arc<Progress>,
    given: Arc<Mutex<Hello>>,
    stopped: Arc<AtomicBool>,
}

impl Writer {
    async fn run(self) -> Result<(), String> {
        let stay = if keeps_connection(self.id) {
            u64::MAX
        } else {
            WRITES_PER_STAY
        };
        while !self.stopped.load(Ordering::Relaxed) {
            let client = self.connect().await?;
            let mut stay = 0..stay;
            while stay.next().is_some() && !self.stopped.load(Ordering::Relaxed) {
                let key = format!("load/{}", self.id);
                let done = client.try_put(put(&key, "value")).await;
                done.map_err(|status| format!("client {}: {status}", self.id))?;
                self.progress.written.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(PACE).await;
            }
        }
        Ok(())
    }

    async fn connect(&self) -> Result<Client, String> {
        let (address, progress) = (self.address, self.progress.clone());
        let given = self.given.clone();
        let connect = move || {
            let (hello, progress) = (given.lock().unwrap().clone(), progress.clone());
            async move {
                let stream = hello.connect(address).await?;
                progress.connected.fetch_add(1, Ordering::Relaxed);
                Ok(stream)
            }
        };
        let client = Client::through(connect).await;
        client.map_err(|error| format!("client {} cannot connect: {error:?}", self.id))
    }
}

/// What clients hold: a certificate, and both authorities.
fn for_clients(pair: &Pair, authorities: &[&Authority]) -> Hello {
    let mut hello = Hello::with(pair).trusting(authorities);
    hello.alpn = vec!["h2"];
    hello
}

/// The old authority, then both, then certificates of the new one, then that alone: every step is seen by fresh
/// handshakes at every door, no connection is cut, and no write fails.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_and_authorities_are_replaced_under_load() {
    if !runs_taffrail() {
        let name = "certificates_and_authorities_are_replaced_under_load";
        return skip(name, "a server that reads authorities again");
    }
    let (old, new) = (Authority::new(), Authority::new());
    let mut fleet = Fleet::start(&old).await;
    let (with_old, with_new) = (
        Hello::with(&issue(&old, "probe")),
        Hello::with(&issue(&new, "probe")),
    );
    let clients: Vec<SocketAddr> = fleet.ports.iter().map(address).collect();
    let both = [&old, &new];
    let load = Load::start(&clients, for_clients(&issue(&old, "client"), &both));
    let watcher = {
        let (hello, address) = (load.given.lock().unwrap().clone(), clients[0]);
        let client = Client::through(move || {
            let hello = hello.clone();
            async move { hello.connect(address).await }
        });
        client.await.unwrap()
    };
    let mut request = watch_prefix("load/");
    request.start_revision = 1;
    let (mut watch, _) = WatchStream::with(&watcher, request).await;
    load.goes_on("at first").await;
    fleet.assert_admitted(&with_old, true, "at first").await;
    fleet.assert_admitted(&with_new, false, "at first").await;

    for files in &fleet.files {
        files.put("ca.pem", &(old.pem() + &new.pem()));
        load.goes_on("one more knows both").await;
    }
    fleet.assert_admitted(&with_old, true, "with both").await;
    fleet.assert_admitted(&with_new, true, "with both").await;

    let mut shown = Vec::new();
    for (member, files) in fleet.files.iter().enumerate() {
        let pair = issue(&new, &format!("m{member}"));
        files.put_pair(&pair);
        shown.extend([pair.cert.clone(), pair.cert]);
        load.goes_on("one more has a new certificate").await;
    }
    for (door, shown) in fleet.doors().into_iter().zip(shown) {
        assert_eq!(with_new.shown(door).await.unwrap(), shown, "{door}");
    }
    *load.given.lock().unwrap() = for_clients(&issue(&new, "client"), &both);
    load.goes_on("clients have new certificates").await;

    for files in &fleet.files {
        files.put("ca.pem", &new.pem());
        load.goes_on("one more forgot the old authority").await;
    }
    fleet.assert_admitted(&with_old, false, "with the new one").await;
    fleet.assert_admitted(&with_new, true, "with the new one").await;

    let written = load.end().await;
    let events = watch.events(usize::try_from(written).unwrap()).await;
    assert_eq!(events.len() as u64, written);
    assert_reloads(&fleet);
    the_others_are_dialed_by_the_new_files(&mut fleet, &new).await;
}

/// Both doors of every member have read the authorities twice, and nothing was wrong with them.
fn assert_reloads(fleet: &Fleet) {
    for member in fleet.cluster.members() {
        let page = http_get(fleet.cluster.server(member).client_address(), "/metrics").unwrap();
        let count = |result: &str| {
            let name = format!("taffrail_tls_reloads_total{{material=\"ca\",result=\"{result}\"}} ");
            let line = page.body.lines().find_map(|line| line.strip_prefix(&name));
            line.unwrap().parse::<f64>().unwrap()
        };
        assert!(count("success") >= 4.0, "{}", page.body);
        assert_eq!(count("failure"), 0.0);
    }
}

/// A member that has been away is dialed by the others, and dials them: nobody knows the old authority any more, so
/// these handshakes are between new certificates, judged by the new one.
async fn the_others_are_dialed_by_the_new_files(fleet: &mut Fleet, new: &Authority) {
    let follower = fleet.cluster.follower().await;
    fleet.cluster.kill(follower);
    let leader = fleet.cluster.leader().await;
    let revision = fleet.cluster.client(leader).put("after", "all").await;
    fleet.cluster.run(follower);
    let found = fleet.cluster.client(follower).range(get("after")).await;
    assert_eq!(found.kvs[0].mod_revision, revision);
    let door = fleet.cluster.server(follower).peer_address();
    let hello = Hello::with(&issue(new, "late")).trusting(&[new]);
    hello.get(door, "/version").await.unwrap();
}

const MEMBERS: usize = 3;
const CLIENTS: usize = 20;
/// Of a client that makes a new connection for every few.
const WRITES_PER_STAY: u64 = 10;
/// So many tell that a client goes on.
const STEADY_WRITES: u64 = 5;
/// Between two writes of one client.
const PACE: Duration = Duration::from_millis(10);

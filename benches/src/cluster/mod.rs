//! Servers under load: as many members as asked for, each a process with a data directory and loopback ports of its
//! own, all bound to one processor.
//!
//! Ends only what it started, each process by its own id; dropping a cluster ends its members and removes their
//! directories. They are ended by force: nothing of theirs is kept, and members that end together in an orderly way may
//! wait for each other for seconds. A member's seat (name, ports, directory) outlives its process, so that a member can be ended and
//! come back.

mod change;
mod member;

use std::ffi::{OsStr, OsString};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use proto::etcdserverpb::StatusResponse;
use tempfile::TempDir;

use crate::Error;
use crate::transport::Endpoint;
pub(crate) use member::Process;
pub(crate) use member::kv_hash;
use member::{answers, status};

/// From the start to the first linearizable read through every member.
const READY_MAX: Duration = Duration::from_secs(30);

/// For one attempt of that read.
const ATTEMPT_MAX: Duration = Duration::from_secs(2);

/// Between two attempts, and between two looks whether a process has ended.
const POLL: Duration = Duration::from_millis(20);

/// A port found free may be taken before the server binds it; then others are tried.
pub(crate) const STARTS_MAX: usize = 3;

/// A server's binary and how it is to be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The binary.
    pub path: PathBuf,
    /// Flags beside those that every server gets.
    pub further_args: Vec<String>,
}

impl Program {
    /// The binary by its absolute path, so that it is never searched for in PATH.
    ///
    /// # Errors
    /// There is no such file.
    pub fn new(path: &Path, further_args: &[String]) -> Result<Self, Error> {
        let found = std::fs::metadata(path).and_then(|_| std::path::absolute(path));
        let path = found.map_err(|source| Error::File {
            what: "find",
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            path,
            further_args: further_args.to_vec(),
        })
    }
}

/// What a starting member is told about its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClusterState {
    /// It founds the cluster with the others.
    New,
    /// The others have one.
    Existing,
}

/// A running cluster.
pub(crate) struct Cluster {
    /// By seat; none while a member is down. Before `dir`, so that the processes are gone when it is removed.
    processes: Vec<Option<Process>>,
    seats: Vec<Seat>,
    program: Program,
    core: Option<usize>,
    dir: TempDir,
}

/// What a member keeps when its process ends.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seat {
    name: String,
    client_port: u16,
    peer_port: u16,
    /// Whether the cluster has it: else it is yet to come, or gone for good.
    is_member: bool,
}

impl Cluster {
    /// Starts `size` members and waits until a linearizable read through each of them is answered.
    pub(crate) async fn start(
        program: &Program,
        size: usize,
        work_dir: &Path,
        core: Option<usize>,
    ) -> Result<Self, Error> {
        let mut starts = 1;
        loop {
            let mut cluster = Self::found(program, size, work_dir, core)?;
            match cluster.ready().await {
                Err(Error::NotReady { .. }) if starts < STARTS_MAX && cluster.port_was_taken() => {
                    starts += 1;
                }
                outcome => return outcome.map(|()| cluster),
            }
        }
    }

    fn found(program: &Program, size: usize, work_dir: &Path, core: Option<usize>) -> Result<Self, Error> {
        let dir = tempfile::Builder::new().prefix("load-").tempdir_in(work_dir);
        let dir = dir.map_err(|source| Error::File {
            what: "create a directory in",
            path: work_dir.to_owned(),
            source,
        })?;
        let mut cluster = Self {
            processes: Vec::new(),
            seats: seats(size)?,
            program: program.clone(),
            core,
            dir,
        };
        cluster.processes.resize_with(size, || None);
        for seat in 0..size {
            cluster.start_member(seat, ClusterState::New)?;
        }
        Ok(cluster)
    }

    /// Where clients reach the members, by seat.
    pub(crate) fn endpoints(&self) -> Vec<Endpoint> {
        (0..self.seats.len()).map(|seat| self.endpoint(seat)).collect()
    }

    /// Where clients reach the member.
    pub(crate) fn endpoint(&self, seat: usize) -> Endpoint {
        format!("127.0.0.1:{}", self.seats[seat].client_port)
            .parse()
            .expect("address and port make an endpoint")
    }

    /// The processes of the members that run.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.processes.iter().flatten().map(Process::pid).collect()
    }

    /// What a member says of itself, without asking the others.
    pub(crate) async fn status(&self, seat: usize) -> Result<StatusResponse, Error> {
        status(&self.endpoint(seat)).await
    }

    /// The seat of the leader, as the leader itself says.
    pub(crate) async fn leader(&self) -> Result<usize, Error> {
        let deadline = Instant::now() + READY_MAX;
        loop {
            for seat in 0..self.seats.len() {
                let running = self.processes[seat].is_some();
                if running && let Ok(status) = self.status(seat).await {
                    let own = status.header.map_or(0, |header| header.member_id);
                    if own != 0 && status.leader == own {
                        return Ok(seat);
                    }
                }
            }
            if Instant::now() >= deadline {
                return Err(self.not_ready(0, format!("no leader within {READY_MAX:?}")));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// The endpoints, beginning with the leader's: a load with fewer connections than members then meets the same of
    /// every program.
    pub(crate) async fn endpoints_from_leader(&self) -> Result<Vec<Endpoint>, Error> {
        let mut endpoints = self.endpoints();
        let leader = self.leader().await?;
        endpoints.rotate_left(leader);
        Ok(endpoints)
    }

    /// Ends a member by force.
    pub(crate) fn kill(&mut self, seat: usize) {
        self.processes[seat] = None;
    }

    /// Whether the seat has a process, which may have ended by itself.
    pub(crate) fn is_started(&self, seat: usize) -> bool {
        self.processes[seat].is_some()
    }

    /// Removes the directory of a member that is down.
    pub(crate) fn erase(&self, seat: usize) -> Result<(), Error> {
        assert!(!self.is_started(seat), "member {seat} still uses its directory");
        let path = self.data_dir(seat);
        std::fs::remove_dir_all(&path).map_err(|source| Error::File {
            what: "remove",
            path,
            source,
        })
    }

    /// Takes a member that is down out of the membership and adds it anew, by a request to `by`: the seat then has a new
    /// member id.
    pub(crate) async fn replace(&self, seat: usize, by: usize) -> Result<(), Error> {
        member::replace(&self.endpoint(by), &self.seats[seat].peer_url()).await
    }

    /// Starts the member of a seat, with the directory that it finds; does not wait for it.
    pub(crate) fn start_member(&mut self, seat: usize, state: ClusterState) -> Result<(), Error> {
        let mut args = arguments(&self.seats, seat, self.data_dir(seat).as_os_str(), state);
        args.extend(self.program.further_args.iter().map(OsString::from));
        let log = self.dir.path().join(format!("{}.log", self.seats[seat].name));
        let process = Process::start(&self.program.path, &args, log, self.core)?;
        self.processes[seat] = Some(process);
        Ok(())
    }

    /// Starts the program once more, as something else than a member, on the members' processor.
    pub(crate) fn start_beside(&self, name: &str, args: &[OsString]) -> Result<Process, Error> {
        let log = self.dir.path().join(format!("{name}.log"));
        Process::start(&self.program.path, args, log, self.core)
    }

    /// An error when the process of the member has ended.
    pub(crate) fn check_running(&mut self, seat: usize) -> Result<(), Error> {
        let ended = match &mut self.processes[seat] {
            Some(process) => process.ended()?,
            None => Some("a request to end".to_owned()),
        };
        match ended {
            Some(how) => Err(self.not_ready(seat, format!("it ended with {how}"))),
            None => Ok(()),
        }
    }

    /// The error of a member that does not do what is waited for.
    pub(crate) fn not_ready(&self, seat: usize, reason: String) -> Error {
        let process = self.processes[seat].as_ref();
        Error::NotReady {
            path: self.program.path.clone(),
            reason,
            log: process.map_or_else(String::new, Process::log_tail),
        }
    }

    async fn ready(&mut self) -> Result<(), Error> {
        let deadline = Instant::now() + READY_MAX;
        let mut waiting: Vec<usize> = (0..self.seats.len()).collect();
        while let Some(&seat) = waiting.last() {
            for &seat in &waiting {
                self.check_running(seat)?;
            }
            let endpoint = self.endpoint(seat);
            let attempt = tokio::time::timeout(ATTEMPT_MAX, answers(&endpoint));
            if attempt.await.unwrap_or(false) {
                waiting.pop();
            } else if Instant::now() < deadline {
                tokio::time::sleep(POLL).await;
            } else {
                return Err(self.not_ready(seat, format!("no answer within {READY_MAX:?}")));
            }
        }
        Ok(())
    }

    fn port_was_taken(&self) -> bool {
        let mut processes = self.processes.iter().flatten();
        processes.any(|process| tells_of_taken_port(&process.log_tail()))
    }

    fn data_dir(&self, seat: usize) -> PathBuf {
        self.dir.path().join(&self.seats[seat].name)
    }
}

impl Seat {
    fn client_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.client_port)
    }

    fn peer_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.peer_port)
    }
}

/// The flags that every server gets.
fn arguments(seats: &[Seat], own: usize, data_dir: &OsStr, state: ClusterState) -> Vec<OsString> {
    let seat = &seats[own];
    let (client, peer) = (seat.client_url(), seat.peer_url());
    let members = seats
        .iter()
        .filter(|seat| seat.is_member)
        .map(|seat| format!("{}={}", seat.name, seat.peer_url()));
    let cluster = members.collect::<Vec<_>>().join(",");
    let state = match state {
        ClusterState::New => "new",
        ClusterState::Existing => "existing",
    };
    [
        OsStr::new("--name"),
        OsStr::new(&seat.name),
        OsStr::new("--data-dir"),
        data_dir,
        OsStr::new("--listen-client-urls"),
        OsStr::new(&client),
        OsStr::new("--advertise-client-urls"),
        OsStr::new(&client),
        OsStr::new("--listen-peer-urls"),
        OsStr::new(&peer),
        OsStr::new("--initial-advertise-peer-urls"),
        OsStr::new(&peer),
        OsStr::new("--initial-cluster"),
        OsStr::new(&cluster),
        OsStr::new("--initial-cluster-state"),
        OsStr::new(state),
    ]
    .map(OsStr::to_owned)
    .to_vec()
}

/// Ports that were free together a moment ago.
pub(crate) fn free_ports(count: usize) -> Result<Vec<u16>, Error> {
    let bind = || TcpListener::bind(("127.0.0.1", 0));
    let listeners: std::io::Result<Vec<_>> = (0..count).map(|_| bind()).collect();
    let ports = listeners.and_then(|listeners| {
        let addresses = listeners.iter().map(TcpListener::local_addr);
        let ports = addresses.map(|address| address.map(|address| address.port()));
        ports.collect::<std::io::Result<Vec<u16>>>()
    });
    ports.map_err(|source| Error::System {
        what: "find a free port",
        source,
    })
}

/// Whether a log says that a port was not free, in the words of etcd or of Taffrail.
pub(crate) fn tells_of_taken_port(log: &str) -> bool {
    log.to_ascii_lowercase().contains("address already in use")
}

/// Names and ports.
fn seats(size: usize) -> Result<Vec<Seat>, Error> {
    let ports = free_ports(2 * size)?;
    let pairs = ports.chunks_exact(2).zip(1..);
    let seats = pairs.map(|(ports, number)| Seat {
        name: format!("bench{number}"),
        client_port: ports[0],
        peer_port: ports[1],
        is_member: true,
    });
    Ok(seats.collect())
}

/// One more seat, for whoever is to come.
fn new_seat(present: usize) -> Result<Seat, Error> {
    let seat = seats(1)?.remove(0);
    Ok(Seat {
        name: format!("bench{}", present + 1),
        is_member: false,
        ..seat
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn program(path: &str) -> Program {
        Program {
            path: path.into(),
            further_args: vec![],
        }
    }

    fn seat(number: u16) -> Seat {
        Seat {
            name: format!("bench{number}"),
            client_port: 2 * number,
            peer_port: 2 * number + 1,
            is_member: true,
        }
    }

    #[test]
    fn ports_are_free_and_differ() {
        let seats = seats(3).unwrap();
        let ports = seats.iter().flat_map(|seat| [seat.client_port, seat.peer_port]);
        let ports: BTreeSet<u16> = ports.collect();
        assert_eq!(ports.len(), 6);
        for port in ports {
            TcpListener::bind(("127.0.0.1", port)).unwrap();
        }
    }

    #[test]
    fn a_taken_port_is_told_in_either_words() {
        for log in [
            "listen tcp 127.0.0.1:1: bind: address already in use",
            "cannot listen on http://127.0.0.1:1: Address already in use (os error 98)",
        ] {
            assert!(tells_of_taken_port(log), "{log}");
        }
        assert!(!tells_of_taken_port("ready to serve"));
    }

    #[test]
    fn every_server_gets_the_same_flags() {
        let line = arguments(&[seat(1)], 0, OsStr::new("/d"), ClusterState::New).join(OsStr::new(" "));
        let expected = "--name bench1 --data-dir /d --listen-client-urls http://127.0.0.1:2 \
                        --advertise-client-urls http://127.0.0.1:2 --listen-peer-urls http://127.0.0.1:3 \
                        --initial-advertise-peer-urls http://127.0.0.1:3 --initial-cluster bench1=http://127.0.0.1:3 \
                        --initial-cluster-state new";
        assert_eq!(line, expected);
    }

    #[test]
    fn a_member_is_told_all_peers_and_only_its_own_clients() {
        let mut gone = seat(4);
        gone.is_member = false;
        let seats = [seat(1), seat(2), seat(3), gone];
        let line = arguments(&seats, 1, OsStr::new("/d"), ClusterState::Existing).join(OsStr::new(" "));
        let line = line.into_string().unwrap();
        assert!(line.starts_with("--name bench2 "), "{line}");
        let cluster = "--initial-cluster bench1=http://127.0.0.1:3,bench2=http://127.0.0.1:5,\
                       bench3=http://127.0.0.1:7 --initial-cluster-state existing";
        assert!(line.ends_with(cluster), "{line}");
        assert!(
            !line.contains("127.0.0.1:2 ") && !line.contains("127.0.0.1:6"),
            "{line}"
        );
    }

    #[tokio::test]
    async fn a_program_that_ends_is_reported_with_its_exit_code() {
        let work = tempfile::tempdir().unwrap();
        for size in [1, 3] {
            let outcome = Cluster::start(&program("false"), size, work.path(), None).await;
            let Err(Error::NotReady { reason, .. }) = outcome.map(|_| ()) else {
                panic!("a program that ends at once is not ready");
            };
            assert_eq!(reason, "it ended with exit code 1");
        }
        let left = std::fs::read_dir(work.path()).unwrap().count();
        assert_eq!(left, 0, "directories stay behind");
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_named() {
        let work = tempfile::tempdir().unwrap();
        let outcome = Cluster::start(&program("/not/there"), 1, work.path(), None).await;
        let Err(Error::File { path, .. }) = outcome.map(|_| ()) else {
            panic!("there is no such program");
        };
        assert_eq!(path, Path::new("/not/there"));
    }

    #[test]
    fn a_missing_binary_is_an_error_with_its_path() {
        let missing = Program::new(Path::new("/not/there"), &[]).unwrap_err();
        assert_eq!(missing.to_string(), "cannot find /not/there");
    }

    #[test]
    fn a_member_that_was_ended_leaves_its_seat() {
        let work = tempfile::tempdir().unwrap();
        let mut cluster = Cluster::found(&program("/bin/cat"), 3, work.path(), None).unwrap();
        assert_eq!(cluster.pids().len(), 3);
        let endpoints = cluster.endpoints();
        cluster.kill(1);
        assert_eq!(cluster.pids().len(), 2);
        assert!(cluster.check_running(1).is_err());
        std::fs::create_dir_all(cluster.data_dir(1).join("some")).unwrap();
        cluster.erase(1).unwrap();
        assert!(!cluster.data_dir(1).exists());
        cluster.start_member(1, ClusterState::Existing).unwrap();
        assert_eq!(cluster.pids().len(), 3);
        assert_eq!(cluster.endpoints(), endpoints);
    }
}

//! A server under comparison: started on a fresh directory and free loopback ports, ended by its own process id.

use std::ffi::OsStr;
use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use proto::etcdserverpb::kv_client::KvClient;
use proto::etcdserverpb::maintenance_client::MaintenanceClient;
use proto::etcdserverpb::{RangeRequest, StatusRequest};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::transport::{Channel, Endpoint};
use crate::{Error, process};

/// From the start to the first linearizable read.
const READY_MAX: Duration = Duration::from_secs(30);

/// For one attempt of that read.
const ATTEMPT_MAX: Duration = Duration::from_secs(2);

/// Between two attempts, and between two looks whether the process has ended.
const POLL: Duration = Duration::from_millis(20);

/// From the request to end to the end by force.
const STOP_MAX: Duration = Duration::from_secs(10);

/// A port found free may be taken before the server binds it; then others are tried.
const STARTS_MAX: usize = 3;

/// Bytes of the log's end in an error.
const LOG_TAIL_BYTES: usize = 2000;

const NAME: &str = "bench";

/// A program to compare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// In the table's head.
    pub label: String,
    /// The binary.
    pub path: PathBuf,
    /// Flags beside those that every server gets.
    pub further_args: Vec<String>,
}

/// A running server. Dropping it ends the process by force and removes its directory.
pub(super) struct Server {
    child: Child,
    endpoint: Endpoint,
    dir: TempDir,
    path: PathBuf,
}

impl Server {
    /// Starts the program and waits until it answers a linearizable read.
    pub(super) async fn start(
        candidate: &Candidate,
        work_dir: &Path,
        core: Option<usize>,
    ) -> Result<Self, Error> {
        let mut starts = 1;
        loop {
            let mut server = Self::spawn(candidate, work_dir, core)?;
            match server.ready().await {
                Err(Error::NotReady { .. }) if starts < STARTS_MAX && server.port_was_taken() => {
                    starts += 1;
                }
                outcome => return outcome.map(|()| server),
            }
        }
    }

    pub(super) fn endpoint(&self) -> Endpoint {
        self.endpoint.clone()
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What the server says its version is.
    pub(super) async fn version(&self) -> Result<String, Error> {
        let channel = Channel::connect(&self.endpoint).await?;
        let origin = channel.origin();
        let mut client = MaintenanceClient::with_origin(channel, origin);
        let answer = client.status(StatusRequest {}).await;
        let answer = answer.map_err(|status| Error::Prepare {
            what: "asking for the version",
            status: Box::new(status),
        })?;
        Ok(answer.into_inner().version)
    }

    /// Asks the process to end and waits; by force when that takes too long.
    pub(super) async fn stop(mut self) -> Result<(), Error> {
        let failed = |source| Error::System {
            what: "end the server",
            source,
        };
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            kill_process(pid, Signal::TERM).map_err(|error| failed(error.into()))?;
        }
        let deadline = Instant::now() + STOP_MAX;
        while self.child.try_wait().map_err(failed)?.is_none() && Instant::now() < deadline {
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    fn spawn(candidate: &Candidate, work_dir: &Path, core: Option<usize>) -> Result<Self, Error> {
        let dir = tempfile::Builder::new()
            .prefix("load-compare-")
            .tempdir_in(work_dir)
            .map_err(|source| Error::File {
                what: "create a directory in",
                path: work_dir.to_owned(),
                source,
            })?;
        let log = log_path(&dir);
        let output = File::create(&log).and_then(|file| Ok((file.try_clone()?, file)));
        let (stdout, stderr) = output.map_err(|source| Error::File {
            what: "create",
            path: log,
            source,
        })?;
        let [client, peer] = free_ports()?;
        let mut command = Command::new(&candidate.path);
        command
            .args(arguments(dir.path().join("data").as_os_str(), client, peer))
            .args(&candidate.further_args)
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr);
        let child = spawn_on(&mut command, core).map_err(|source| Error::File {
            what: "run",
            path: candidate.path.clone(),
            source,
        })?;
        Ok(Self {
            child,
            endpoint: format!("127.0.0.1:{client}")
                .parse()
                .expect("address and port make an endpoint"),
            dir,
            path: candidate.path.clone(),
        })
    }

    async fn ready(&mut self) -> Result<(), Error> {
        let deadline = Instant::now() + READY_MAX;
        while Instant::now() < deadline {
            let exited = self.child.try_wait().map_err(|source| Error::System {
                what: "watch the server",
                source,
            })?;
            if let Some(status) = exited {
                return Err(self.not_ready(format!("it ended with {}", describe(status))));
            }
            let attempt = tokio::time::timeout(ATTEMPT_MAX, answers(&self.endpoint));
            if attempt.await.unwrap_or(false) {
                return Ok(());
            }
            tokio::time::sleep(POLL).await;
        }
        Err(self.not_ready(format!("no answer within {READY_MAX:?}")))
    }

    fn not_ready(&self, reason: String) -> Error {
        Error::NotReady {
            path: self.path.clone(),
            reason,
            log: self.log_tail(),
        }
    }

    fn log_tail(&self) -> String {
        let log = std::fs::read(log_path(&self.dir)).unwrap_or_default();
        let tail = log.len().saturating_sub(LOG_TAIL_BYTES);
        String::from_utf8_lossy(log.get(tail..).unwrap_or_default()).into_owned()
    }

    fn port_was_taken(&self) -> bool {
        self.log_tail().contains("address already in use")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only for a process that has ended and been waited for.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

async fn answers(endpoint: &Endpoint) -> bool {
    let Ok(channel) = Channel::connect(endpoint).await else {
        return false;
    };
    let origin = channel.origin();
    let request = RangeRequest {
        key: bytes::Bytes::from_static(b"ready"),
        ..RangeRequest::default()
    };
    KvClient::with_origin(channel, origin)
        .range(request)
        .await
        .is_ok()
}

/// The flags that every server gets.
fn arguments(data_dir: &OsStr, client: u16, peer: u16) -> Vec<std::ffi::OsString> {
    let client = format!("http://127.0.0.1:{client}");
    let peer = format!("http://127.0.0.1:{peer}");
    let cluster = format!("{NAME}={peer}");
    [
        OsStr::new("--name"),
        OsStr::new(NAME),
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
    ]
    .map(OsStr::to_owned)
    .to_vec()
}

/// Starts the program bound to a processor. It must be so before its first instruction, since servers size their
/// thread pools by what they find; a child inherits this from the thread that starts it, so that thread is a passing
/// one.
fn spawn_on(command: &mut Command, core: Option<usize>) -> std::io::Result<Child> {
    let Some(core) = core else {
        return command.spawn();
    };
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            if process::pin_thread(core) {
                command.spawn()
            } else {
                Err(std::io::Error::other("the processor is not available"))
            }
        });
        thread.join().expect("starting a process does not panic")
    })
}

/// Two ports that were free together a moment ago.
fn free_ports() -> Result<[u16; 2], Error> {
    let bind = || TcpListener::bind(("127.0.0.1", 0));
    let ports = bind().and_then(|first| {
        let second = bind()?;
        Ok([first.local_addr()?.port(), second.local_addr()?.port()])
    });
    ports.map_err(|source| Error::System {
        what: "find a free port",
        source,
    })
}

fn log_path(dir: &TempDir) -> PathBuf {
    dir.path().join("log")
}

fn describe(status: ExitStatus) -> String {
    status
        .code()
        .map_or_else(|| status.to_string(), |code| format!("exit code {code}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(path: &str) -> Candidate {
        Candidate {
            label: "it".into(),
            path: path.into(),
            further_args: vec![],
        }
    }

    #[test]
    fn ports_are_free_and_differ() {
        let [first, second] = free_ports().unwrap();
        assert_ne!(first, second);
        TcpListener::bind(("127.0.0.1", first)).unwrap();
    }

    #[test]
    fn every_server_gets_the_same_flags() {
        let line = arguments(OsStr::new("/d"), 1, 2).join(OsStr::new(" "));
        let expected = "--name bench --data-dir /d --listen-client-urls http://127.0.0.1:1 \
                        --advertise-client-urls http://127.0.0.1:1 --listen-peer-urls http://127.0.0.1:2 \
                        --initial-advertise-peer-urls http://127.0.0.1:2 --initial-cluster bench=http://127.0.0.1:2";
        assert_eq!(line, expected);
    }

    #[tokio::test]
    async fn a_program_that_ends_is_reported_with_its_exit_code() {
        let work = tempfile::tempdir().unwrap();
        let outcome = Server::start(&candidate("false"), work.path(), None).await;
        let Err(Error::NotReady { reason, .. }) = outcome.map(|_| ()) else {
            panic!("a program that ends at once is not ready");
        };
        assert_eq!(reason, "it ended with exit code 1");
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_named() {
        let work = tempfile::tempdir().unwrap();
        let outcome = Server::start(&candidate("/not/there"), work.path(), None).await;
        let Err(Error::File { path, .. }) = outcome.map(|_| ()) else {
            panic!("there is no such program");
        };
        assert_eq!(path, Path::new("/not/there"));
    }

    #[test]
    fn a_child_is_born_on_its_processor() {
        let core = *process::allowed_cores().last().unwrap();
        let mut command = Command::new("cat");
        command.arg("/proc/self/status").stdout(Stdio::piped());
        let output = spawn_on(&mut command, Some(core)).unwrap().wait_with_output();
        let status = String::from_utf8(output.unwrap().stdout).unwrap();
        let allowed = status
            .lines()
            .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        assert_eq!(allowed.unwrap().trim(), core.to_string());
    }
}

//! One server process: started on its own ports and data directory, killed, stopped and started again.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::client::Client;
use super::{PATIENCE, Ports};

/// The program under test.
pub(crate) fn program() -> PathBuf {
    std::env::var_os("TAFFRAIL_TEST_SERVER")
        .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_taffrail")), PathBuf::from)
}

/// False when another server stands in for ours: tests of what is ours alone have nothing to look at then.
pub(crate) fn runs_taffrail() -> bool {
    program().file_stem().is_some_and(|name| name == "taffrail")
}

/// A server process with its directory. Dropping it kills the process and removes the directory.
pub(crate) struct Server {
    child: Option<Child>,
    ports: Ports,
    dir: TempDir,
    flags: Vec<String>,
    wrapper: Vec<String>,
    seat: Option<Seat>,
}

/// What one of several members is told about itself and the others.
#[derive(Clone)]
pub(crate) struct Seat {
    pub(crate) name: String,
    /// The peer URL that the others dial; what the process listens on may be another.
    pub(crate) advertised: String,
    /// As in the flag: `name=url,name=url`.
    pub(crate) initial_cluster: String,
}

impl Server {
    /// A fresh store, ready to serve.
    pub(crate) fn start() -> Server {
        Server::start_with(&[])
    }

    /// A fresh store with additional flags.
    pub(crate) fn start_with(flags: &[&str]) -> Server {
        let mut server = Server::prepared(flags);
        server.run();
        server
    }

    /// A server that has a directory and ports, but does not run yet.
    pub(crate) fn prepared(flags: &[&str]) -> Server {
        Server {
            child: None,
            ports: Ports::reserve(),
            dir: tempfile::Builder::new()
                .prefix("taffrail-test-")
                .tempdir()
                .expect("a temporary directory"),
            flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
            wrapper: Vec::new(),
            seat: None,
        }
    }

    /// Makes it a member of a larger cluster; without this it is a cluster of its own.
    pub(crate) fn sit(&mut self, seat: Seat) {
        self.seat = Some(seat);
    }

    /// Gives it another flag from the next start on; of one given twice the last counts.
    pub(crate) fn add_flag(&mut self, flag: &str) {
        self.flags.push(flag.to_owned());
    }

    /// Has the program run by another one, which becomes it.
    pub(crate) fn wrap(&mut self, command: Vec<String>) {
        self.wrapper = command;
    }

    /// A server that tests of this process share while any of them holds it. Its store holds what the others wrote:
    /// only for tests that keep to their own keys, never compact and do not care for absolute revisions.
    pub(crate) fn shared() -> Arc<Server> {
        static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let server = Arc::new(Server::start());
            *shared = Arc::downgrade(&server);
            server
        })
    }

    /// Starts the process again, on the same directory and ports, and waits until it serves.
    pub(crate) fn run(&mut self) {
        self.spawn();
        self.wait_until_ready();
    }

    /// As [`Server::run`], in a working directory.
    pub(crate) fn run_in(&mut self, directory: Option<&Path>) {
        let mut command = self.command();
        if let Some(directory) = directory {
            command.current_dir(directory);
        }
        self.child = Some(command.spawn().expect("the server program can be run"));
        self.wait_until_ready();
    }

    /// Starts the process and does not wait for it.
    pub(crate) fn spawn(&mut self) {
        assert!(self.child.is_none(), "the server runs already");
        let mut command = self.command();
        self.child = Some(command.spawn().expect("the server program can be run"));
    }

    /// The command line of this server, its stderr going to the log file.
    pub(crate) fn command(&self) -> Command {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path())
            .expect("the log file opens");
        let mut words = self
            .wrapper
            .iter()
            .map(OsString::from)
            .chain([program().into_os_string()]);
        let mut command = Command::new(words.next().expect("at least the program"));
        command.args(words);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("ETCD_") {
                command.env_remove(name);
            }
        }
        let (client, peer) = (self.endpoint(), self.peer_url());
        command.arg("--data-dir").arg(self.data_dir());
        if let Some(seat) = &self.seat {
            command.args(["--name", &seat.name]);
        }
        let advertised = self.seat.as_ref().map_or(&peer, |seat| &seat.advertised);
        let alone = format!("default={peer}");
        let initial_cluster = self.seat.as_ref().map_or(&alone, |seat| &seat.initial_cluster);
        command
            .args([
                "--listen-client-urls",
                &client,
                "--advertise-client-urls",
                &client,
            ])
            .args(["--listen-peer-urls", &peer])
            .args(["--initial-advertise-peer-urls", advertised])
            .args(["--initial-cluster", initial_cluster])
            .args(&self.flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        command
    }

    /// Waits until the server answers that it is healthy. A server that ends first is a failure.
    pub(crate) fn wait_until_ready(&mut self) {
        let start = Instant::now();
        loop {
            let healthy = http_get(self.client_address(), "/health")
                .is_some_and(|answer| answer.status == 200 && answer.body.contains("true"));
            if healthy {
                return;
            }
            let child = self.child.as_mut().expect("the server was started");
            if let Some(status) = child.try_wait().expect("the child can be waited for") {
                panic!(
                    "the server ended with {status} before it was ready:\n{}",
                    self.log_tail()
                );
            }
            assert!(
                start.elapsed() < PATIENCE,
                "not ready after {PATIENCE:?}:\n{}",
                self.log_tail()
            );
            pause();
        }
    }

    /// Kills the process as `kill -9` does and waits for its end.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().expect("the server runs");
        child.kill().expect("the server can be killed");
        child.wait().expect("the server can be waited for");
    }

    /// Sends SIGTERM and waits for the end; with it comes the time that this took.
    pub(crate) fn terminate(&mut self) -> (ExitStatus, Duration) {
        let start = Instant::now();
        self.signal_term();
        let status = self.wait_for_exit();
        (status, start.elapsed())
    }

    /// Sends SIGTERM and does not wait.
    pub(crate) fn signal_term(&self) {
        self.signal(rustix::process::Signal::TERM);
    }

    /// Stops the process in its tracks, as SIGSTOP does, and waits until it stands.
    pub(crate) fn suspend(&self) {
        self.signal(rustix::process::Signal::STOP);
        let stat = format!("/proc/{}/stat", self.pid());
        wait_until("the process stands", || {
            let stat = fs::read_to_string(&stat).expect("the process exists");
            // The state is the word behind the name, which stands in brackets.
            stat.rsplit_once(") ")
                .is_some_and(|(_, rest)| rest.starts_with('T'))
        });
    }

    /// Lets a suspended process go on.
    pub(crate) fn resume(&self) {
        self.signal(rustix::process::Signal::CONT);
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(self.child.as_ref().expect("the server runs"));
        rustix::process::kill_process(pid, signal).expect("the process is ours");
    }

    pub(crate) fn runs(&self) -> bool {
        self.child.is_some()
    }

    /// Whether the process has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        let child = self.child.as_mut().expect("the server was started");
        child.try_wait().expect("the child can be waited for").is_some()
    }

    /// Waits for the process to end by itself.
    pub(crate) fn wait_for_exit(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("the server runs");
        let start = Instant::now();
        loop {
            if let Some(status) = child.try_wait().expect("the child can be waited for") {
                return status;
            }
            if start.elapsed() > PATIENCE {
                child.kill().expect("the server can be killed");
                panic!("the server did not end within {PATIENCE:?}:\n{}", self.log_tail());
            }
            pause();
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().expect("the server runs").id()
    }

    /// New connections of a client.
    pub(crate) async fn client(&self) -> Client {
        Client::connect(&self.endpoint()).await
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.client)
    }

    pub(crate) fn client_address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.ports.client))
    }

    pub(crate) fn peer_address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.ports.peer))
    }

    /// The URL on which it listens for other members.
    pub(crate) fn peer_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.peer)
    }

    pub(crate) fn ports(&self) -> &Ports {
        &self.ports
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// A directory beside the data for what a test wants to keep.
    pub(crate) fn scratch_dir(&self) -> &Path {
        self.dir.path()
    }

    /// Everything the server has written to stderr, over all its runs.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("stderr.log")
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            // Not a print macro: this may run while a panic unwinds.
            let _ = writeln!(
                std::io::stderr(),
                "the end of the server's log:\n{}",
                self.log_tail()
            );
        }
    }
}

/// Waits until `condition` holds, and panics with `what` if it does not within [`PATIENCE`].
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        pause();
    }
}

/// An HTTP/1.1 answer.
pub(crate) struct HttpAnswer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

/// A GET with nothing but the standard library; nothing if there is no answer.
pub(crate) fn http_get(address: SocketAddr, path: &str) -> Option<HttpAnswer> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )
    .ok()?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(HttpAnswer {
        status,
        head: head.to_owned(),
        body: body.to_owned(),
    })
}

/// The step between two looks at a condition.
fn pause() {
    std::thread::sleep(Duration::from_millis(5));
}

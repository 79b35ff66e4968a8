//! `taffrail apiserver`: the Kubernetes adapter as a process of its own, over any store.

use std::fs::{self, File};
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::{Ports, wait_until};

/// The process. Dropping it kills it.
pub(crate) struct Adapter {
    child: Option<Child>,
    ports: Ports,
    dir: TempDir,
    flags: Vec<String>,
}

impl Adapter {
    /// One over a store with members at these URLs, ready to serve.
    pub(crate) fn over(servers: &[String]) -> Adapter {
        let mut adapter = Adapter::prepared(servers, &[]);
        adapter.run();
        adapter
    }

    /// One that does not run yet, with additional flags.
    pub(crate) fn prepared(servers: &[String], flags: &[&str]) -> Adapter {
        let mut adapter = Adapter {
            child: None,
            ports: Ports::reserve(),
            dir: tempfile::tempdir().expect("a temporary directory"),
            flags: vec![format!("--etcd-servers={}", servers.join(","))],
        };
        adapter.add_flag(&format!("--listen={}", adapter.url()));
        for flag in flags {
            adapter.add_flag(flag);
        }
        adapter
    }

    /// Of a flag that is given twice the last counts.
    pub(crate) fn add_flag(&mut self, flag: &str) {
        let name = flag.split('=').next().unwrap_or_default();
        self.flags.retain(|known| known.split('=').next() != Some(name));
        self.flags.push(flag.to_owned());
    }

    /// Starts the process and waits until it serves.
    pub(crate) fn run(&mut self) {
        let before = self.served();
        self.spawn();
        wait_until("the adapter serves", || {
            assert!(!self.has_ended(), "the adapter ended:\n{}", self.log());
            self.served() > before
        });
    }

    /// Starts the process and does not wait for it.
    pub(crate) fn spawn(&mut self) {
        assert!(self.child.is_none(), "the adapter runs already");
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path())
            .expect("the log file opens");
        let child = Command::new(env!("CARGO_BIN_EXE_taffrail"))
            .arg("apiserver")
            .args(&self.flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        self.child = Some(child.expect("the program can be run"));
    }

    /// How often it has begun to serve.
    fn served(&self) -> usize {
        self.log().matches("serving the Kubernetes API").count()
    }

    /// Kills the process as `kill -9` does and waits for its end.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().expect("the adapter runs");
        child.kill().expect("the adapter can be killed");
        child.wait().expect("the adapter can be waited for");
    }

    /// Sends SIGTERM and waits for the end; with it comes the time that this took.
    pub(crate) fn terminate(&mut self) -> (ExitStatus, Duration) {
        let began = Instant::now();
        let pid = rustix::process::Pid::from_child(self.child.as_ref().expect("the adapter runs"));
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("the process is ours");
        (self.wait_for_exit(), began.elapsed())
    }

    /// Waits for the process to end by itself.
    pub(crate) fn wait_for_exit(&mut self) -> ExitStatus {
        wait_until("the adapter ends", || self.has_ended());
        let mut child = self.child.take().expect("the adapter runs");
        child.wait().expect("the adapter can be waited for")
    }

    /// Whether the process has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        let child = self.child.as_mut().expect("the adapter was started");
        child.try_wait().expect("the child can be waited for").is_some()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().expect("the adapter runs").id()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.ports.client))
    }

    /// Everything that it has written to stderr, over all its runs.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("stderr.log")
    }
}

impl Drop for Adapter {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines[lines.len().saturating_sub(30)..].join("\n");
            // Not a print macro: this may run while a panic unwinds.
            let _ = writeln!(std::io::stderr(), "the end of the adapter's log:\n{tail}");
        }
    }
}

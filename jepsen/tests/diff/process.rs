//! One server process on free loopback ports, with its data in memory where the machine allows it.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::PATIENCE;
use super::ports::Ports;

/// A running server. Dropping it kills it and removes its directory.
pub(crate) struct Process {
    child: Child,
    ports: Ports,
    dir: TempDir,
    name: &'static str,
}

impl Process {
    /// Starts a program with etcd's flags on a fresh directory, without waiting for it.
    pub(crate) fn spawn(name: &'static str, program: &Path) -> Process {
        Process::spawn_with(name, program, &[])
    }

    /// The same with flags of the test's own.
    pub(crate) fn spawn_with(name: &'static str, program: &Path, flags: &[String]) -> Process {
        let ports = Ports::reserve();
        let dir = tempfile::Builder::new()
            .prefix("taffrail-diff-")
            .tempdir_in(fast_dir())
            .expect("a temporary directory");
        let log = File::create(dir.path().join("stderr.log")).expect("a log file");
        let client = format!("http://127.0.0.1:{}", ports.client);
        let peer = format!("http://127.0.0.1:{}", ports.peer);
        let mut command = Command::new(program);
        for (variable, _) in std::env::vars_os() {
            if variable.to_string_lossy().starts_with("ETCD_") {
                command.env_remove(variable);
            }
        }
        // The disk may be a small one in memory, and the reserve is not what is compared; etcd knows no such variable.
        command.env("ETCD_DISK_RESERVE_BYTES", "0");
        let child = command
            .arg("--data-dir")
            .arg(dir.path().join("data"))
            .args([
                "--listen-client-urls",
                &client,
                "--advertise-client-urls",
                &client,
            ])
            .args([
                "--listen-peer-urls",
                &peer,
                "--initial-advertise-peer-urls",
                &peer,
            ])
            .args([
                "--initial-cluster",
                &format!("default={peer}"),
                "--log-level",
                "warn",
            ])
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the program can be run");
        Process {
            child,
            ports,
            dir,
            name,
        }
    }

    /// Waits until it says that it is healthy.
    pub(crate) fn wait_until_ready(&mut self) {
        let start = Instant::now();
        loop {
            let healthy = http(self.address(), "/health", None)
                .is_some_and(|answer| answer.status == 200 && answer.body.contains("true"));
            if healthy {
                return;
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                panic!("{} ended with {status}:\n{}", self.name, self.log_tail());
            }
            assert!(
                start.elapsed() < PATIENCE,
                "{} is not ready after {PATIENCE:?}:\n{}",
                self.name,
                self.log_tail()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.ports.client))
    }

    pub(crate) fn peer_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.peer)
    }

    /// Why and with what last words it has ended by itself, if it has.
    pub(crate) fn death(&mut self) -> Option<String> {
        let status = self.child.try_wait().ok().flatten()?;
        Some(format!("{} ended with {status}:\n{}", self.name, self.log_tail()))
    }

    fn log_tail(&self) -> String {
        let log = fs::read_to_string(self.dir.path().join("stderr.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Syncs are free in memory, and what is compared here does not depend on them.
fn fast_dir() -> PathBuf {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        memory.to_owned()
    } else {
        std::env::temp_dir()
    }
}

/// An HTTP/1.1 answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct HttpAnswer {
    pub(crate) status: u16,
    pub(crate) content_type: String,
    pub(crate) body: String,
}

/// A request with nothing but the standard library: a POST if there is a body. Nothing if there is no answer.
pub(crate) fn http(address: SocketAddr, path: &str, body: Option<&str>) -> Option<HttpAnswer> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    let method = if body.is_some() { "POST" } else { "GET" };
    let body = body.unwrap_or_default();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .ok()?;
    let mut bytes = Vec::new();
    // A server may close the connection with part of the request unread, which ends it with an error here.
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let header = |name: &str| {
        head.lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(header, _)| header.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim().to_owned())
    };
    let chunked = header("transfer-encoding").is_some_and(|value| value == "chunked");
    Some(HttpAnswer {
        status: head.split(' ').nth(1)?.parse().ok()?,
        content_type: header("content-type").unwrap_or_default(),
        body: if chunked {
            unchunked(body)?
        } else {
            body.to_owned()
        },
    })
}

/// The content of a body in chunks. Their lengths count bytes, so only text without multi-byte characters is read right.
fn unchunked(mut body: &str) -> Option<String> {
    let mut content = String::new();
    loop {
        let (length, rest) = body.split_once("\r\n")?;
        let length = usize::from_str_radix(length.trim(), 16).ok()?;
        if length == 0 {
            return Some(content);
        }
        content.push_str(rest.get(..length)?);
        body = rest.get(length..)?.strip_prefix("\r\n")?;
    }
}

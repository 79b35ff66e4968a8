//! The process of one member, and the few questions asked of a member beside the load.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Instant;

use proto::etcdserverpb::cluster_client::ClusterClient;
use proto::etcdserverpb::kv_client::KvClient;
use proto::etcdserverpb::maintenance_client::MaintenanceClient;
use proto::etcdserverpb::{
    HashKvRequest, HashKvResponse, Member, MemberAddRequest, MemberListRequest, MemberRemoveRequest,
    RangeRequest, StatusRequest, StatusResponse,
};
use tonic::{Code, Status};

use crate::transport::{Channel, Endpoint};
use crate::{Error, process};

/// Bytes of the log's end in an error.
const LOG_TAIL_BYTES: usize = 2000;

/// A process. Dropping it ends it by force.
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts the program; what it writes is added to the log.
    pub(super) fn start(
        path: &Path,
        args: &[OsString],
        log: PathBuf,
        core: Option<usize>,
    ) -> Result<Self, Error> {
        let output = OpenOptions::new().create(true).append(true).open(&log);
        let output = output.and_then(|file| Ok((file.try_clone()?, file)));
        let (stdout, stderr) = output.map_err(|source| Error::File {
            what: "open",
            path: log.clone(),
            source,
        })?;
        let mut command = Command::new(path);
        command
            .args(args)
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr);
        let child = spawn_on(&mut command, core).map_err(|source| Error::File {
            what: "run",
            path: path.to_owned(),
            source,
        })?;
        Ok(Self { child, log })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to end in an orderly way.
    pub(super) fn terminate(&self) -> Result<(), Error> {
        let asked = rustix::process::kill_process(
            rustix::process::Pid::from_child(&self.child),
            rustix::process::Signal::TERM,
        );
        asked.map_err(|source| Error::System {
            what: "ask the server to end",
            source: source.into(),
        })
    }

    /// How the process has ended, none while it runs.
    pub(crate) fn ended(&mut self) -> Result<Option<String>, Error> {
        let ended = self.child.try_wait().map_err(|source| Error::System {
            what: "watch the server",
            source,
        })?;
        Ok(ended.map(describe))
    }

    pub(crate) fn log_tail(&self) -> String {
        let log = std::fs::read(&self.log).unwrap_or_default();
        let tail = log.len().saturating_sub(LOG_TAIL_BYTES);
        String::from_utf8_lossy(log.get(tail..).unwrap_or_default()).into_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only for a process that has ended and been waited for.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Whether a linearizable read is answered.
pub(super) async fn answers(endpoint: &Endpoint) -> bool {
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

/// What a member says of itself, without asking the others.
pub(super) async fn status(endpoint: &Endpoint) -> Result<StatusResponse, Error> {
    let mut client = maintenance(endpoint).await?;
    let answer = client.status(StatusRequest {}).await;
    Ok(answer.map_err(failed("asking for the status"))?.into_inner())
}

/// The hash of a member's keys and history at a revision.
pub(crate) async fn kv_hash(endpoint: &Endpoint, revision: i64) -> Result<HashKvResponse, Error> {
    let mut client = maintenance(endpoint).await?;
    let answer = client.hash_kv(HashKvRequest { revision }).await;
    Ok(answer.map_err(failed("asking for a hash"))?.into_inner())
}

/// Removes the member with the peer URL and adds one with the same. A server may refuse for some seconds after a change
/// among its connections, with `Unavailable`.
pub(super) async fn replace(endpoint: &Endpoint, peer_url: &str) -> Result<(), Error> {
    let channel = Channel::connect(endpoint).await?;
    let origin = channel.origin();
    let mut client = ClusterClient::with_origin(channel, origin);
    let list = client.member_list(MemberListRequest::default()).await;
    let members = list
        .map_err(failed("asking for the members"))?
        .into_inner()
        .members;
    let has_url = |member: &&Member| member.peer_urls.iter().any(|url| url == peer_url);
    let Some(id) = members.iter().find(has_url).map(|member| member.id) else {
        return Err(failed("asking for the members")(Status::not_found(
            peer_url.to_owned(),
        )));
    };
    let deadline = Instant::now() + super::READY_MAX;
    let may_retry = |status: &Status| status.code() == Code::Unavailable && Instant::now() < deadline;
    loop {
        match client.member_remove(MemberRemoveRequest { id }).await {
            Ok(_) => break,
            Err(status) if may_retry(&status) => tokio::time::sleep(super::POLL).await,
            Err(status) => return Err(failed("removing a member")(status)),
        }
    }
    let add = MemberAddRequest {
        peer_urls: vec![peer_url.to_owned()],
        ..MemberAddRequest::default()
    };
    loop {
        match client.member_add(add.clone()).await {
            Ok(_) => return Ok(()),
            Err(status) if may_retry(&status) => tokio::time::sleep(super::POLL).await,
            Err(status) => return Err(failed("adding a member")(status)),
        }
    }
}

pub(super) async fn maintenance(endpoint: &Endpoint) -> Result<MaintenanceClient<Channel>, Error> {
    let channel = Channel::connect(endpoint).await?;
    let origin = channel.origin();
    Ok(MaintenanceClient::with_origin(channel, origin))
}

pub(super) fn failed(what: &'static str) -> impl FnOnce(Status) -> Error {
    move |status| Error::Prepare {
        what,
        status: Box::new(status),
    }
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

fn describe(status: ExitStatus) -> String {
    status
        .code()
        .map_or_else(|| status.to_string(), |code| format!("exit code {code}"))
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn a_second_start_adds_to_the_log() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        for word in ["first", "second"] {
            let args = [word.into()];
            let mut process = Process::start(Path::new("/bin/echo"), &args, log.clone(), None).unwrap();
            process.child.wait().unwrap();
            assert_eq!(process.ended().unwrap().unwrap(), "exit code 0");
            assert!(process.log_tail().contains(word));
        }
        assert_eq!(std::fs::read_to_string(&log).unwrap(), "first\nsecond\n");
    }
}

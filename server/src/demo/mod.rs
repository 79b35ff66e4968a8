//! `taffrail demo`: a whole cluster on this machine, each member a process of this program, so that losing one can be
//! tried. Like a Procfile runner, it shows every member's log and stops them all together; it restarts nobody.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::signal::unix::{self, SignalKind};
use tokio::time::{Instant, sleep, timeout_at};

use self::plan::{Member, Plan, PlanError};
use crate::peer::discover;
use crate::shutdown::Signals;

mod plan;

/// Why the demonstration ended badly.
#[derive(Debug, thiserror::Error)]
enum DemoError {
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error("cannot run {}: {source}", program.display())]
    Spawn { program: PathBuf, source: io::Error },
    #[error("cannot listen for signals: {0}")]
    Signals(io::Error),
    #[error("all members have ended")]
    AllEnded,
}

/// Runs the command line after `taffrail demo` to its exit code.
pub(crate) fn run(args: &[String]) -> ExitCode {
    let matches = match plan::command().try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(error) => {
            // Nothing is left to be done where not even this can be printed.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(DemoError::Signals);
    let result = runtime.and_then(|runtime| {
        let plan = Plan::of(&matches)?;
        runtime.block_on(demonstrate(&plan))
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn demonstrate(plan: &Plan) -> Result<(), DemoError> {
    let there = plan.with_data()?;
    let mut signals = Signals::catch().map_err(DemoError::Signals)?;
    let mut ended = unix::signal(SignalKind::child()).map_err(DemoError::Signals)?;
    let goes_on = there.contains(&true);
    let mut processes = Processes {
        plan,
        program: std::env::current_exe().unwrap_or_else(|_| PathBuf::from("taffrail")),
        running: Vec::new(),
    };
    let (first, later): (Vec<_>, Vec<_>) = plan
        .members
        .iter()
        .zip(there)
        .partition(|(_, there)| *there || !goes_on);
    for (member, _) in first {
        processes.start(member, false)?;
    }
    for (member, _) in later {
        say(&format!(
            "{} has no data: it joins the others once they answer",
            member.name
        ));
        tokio::select! {
            () = until_answered(plan) => processes.start(member, true)?,
            _ = signals.next() => {
                processes.stop(&mut signals).await;
                return Ok(());
            }
        }
    }
    processes.explain();
    loop {
        tokio::select! {
            _ = ended.recv() => processes.report_ended(),
            signal = signals.next() => {
                say(&format!("{signal}: stopping all members"));
                processes.stop(&mut signals).await;
                return Ok(());
            }
        }
        if processes.running.is_empty() {
            return Err(DemoError::AllEnded);
        }
    }
}

/// Waits until a member tells who is in the cluster.
async fn until_answered(plan: &Plan) {
    let urls: Vec<String> = plan.members.iter().map(Member::peer_url).collect();
    while !discover::answers(&urls, ANSWER_MAX).await {
        sleep(ANSWER_PAUSE).await;
    }
}

/// The members' processes.
struct Processes<'a> {
    plan: &'a Plan,
    program: PathBuf,
    running: Vec<Process<'a>>,
}

struct Process<'a> {
    member: &'a Member,
    child: Child,
}

impl Drop for Processes<'_> {
    /// Nobody is left behind by an error.
    fn drop(&mut self) {
        for process in &mut self.running {
            // It may have ended meanwhile.
            let _ = process.child.kill();
            let _ = process.child.wait();
        }
    }
}

impl<'a> Processes<'a> {
    fn start(&mut self, member: &'a Member, joins: bool) -> Result<(), DemoError> {
        let mut command = Command::new(&self.program);
        for (variable, _) in std::env::vars_os() {
            // What is meant for one member cannot be meant for all of them.
            if variable.to_string_lossy().starts_with("ETCD_") {
                command.env_remove(variable);
            }
        }
        let mut child = command
            .args(self.plan.arguments(member, joins))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // Ctrl-C is for the demonstration alone, which then stops its members in order.
            .process_group(0)
            .spawn()
            .map_err(|source| DemoError::Spawn {
                program: self.program.clone(),
                source,
            })?;
        say(&format!("{} started, process {}", member.name, child.id()));
        if let Some(log) = child.stderr.take() {
            let name = member.name.clone();
            std::thread::spawn(move || show(&name, log));
        }
        self.running.push(Process { member, child });
        Ok(())
    }

    fn explain(&self) {
        let endpoints = self.plan.endpoints();
        say(&format!("the members serve on {endpoints}; for example:"));
        say(&format!(
            "  ETCDCTL_API=3 etcdctl --endpoints={endpoints} endpoint status -w table"
        ));
        say("or, without etcdctl:");
        say(&format!(
            "  {} ctl --endpoints={endpoints} endpoint status -w table",
            self.program.display()
        ));
        for Process { member, child } in &self.running {
            say(&format!("to lose {}: kill -9 {}", member.name, child.id()));
        }
        say("Ctrl-C stops them all");
    }

    /// Tells of every member that has ended.
    fn report_ended(&mut self) {
        for (member, status) in self.take_ended() {
            say(&format!(
                "{} ended ({status}); {} of the {} started here are left. To start it again alone:",
                member.name,
                self.running.len(),
                self.plan.members.len()
            ));
            say(&format!("  {}", self.line(member, false)));
            say(&format!(
                "or, after rm -r {}, without its data:",
                member.data_dir.display()
            ));
            say(&format!("  {}", self.line(member, true)));
        }
    }

    fn take_ended(&mut self) -> Vec<(&'a Member, ExitStatus)> {
        let mut ended = Vec::new();
        self.running
            .retain_mut(|Process { member, child }| match child.try_wait() {
                Ok(Some(status)) => {
                    ended.push((*member, status));
                    false
                }
                Ok(None) | Err(_) => true,
            });
        ended
    }

    /// The command line of one member.
    fn line(&self, member: &Member, joins: bool) -> String {
        let program = self.program.display().to_string();
        let words = [vec![program], self.plan.arguments(member, joins)].concat();
        plan::shell_line(&words)
    }

    /// Stops the members one after another, so that each can hand over what it leads; the next signal, or a member that
    /// takes too long, makes it short.
    async fn stop(&mut self, signals: &mut Signals) {
        while let Some(Process { member, child }) = self.running.first_mut() {
            terminate(child);
            let deadline = Instant::now() + STOP_MAX;
            let status = tokio::select! {
                status = timeout_at(deadline, wait(child)) => status.ok(),
                signal = signals.next() => {
                    say(&format!("{signal}: killing all members"));
                    return;
                }
            };
            match status {
                Some(status) => say(&format!("{} stopped ({status})", member.name)),
                None => {
                    say(&format!("{} does not stop: killing it", member.name));
                    // It may have ended meanwhile.
                    let _ = child.kill();
                    let _ = child.wait();
                }
            }
            self.running.remove(0);
        }
    }
}

/// Asks a child, which nobody has waited for yet, to stop.
fn terminate(child: &Child) {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    if let Some(Err(error)) = pid.map(|pid| kill_process(pid, Signal::TERM)) {
        say(&format!("cannot stop process {}: {error}", child.id()));
    }
}

async fn wait(child: &mut Child) -> ExitStatus {
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return status,
            Ok(None) | Err(_) => sleep(WAIT_PAUSE).await,
        }
    }
}

/// Shows a member's log line by line.
fn show(name: &str, log: ChildStderr) {
    let mut log = BufReader::new(log);
    let mut line = Vec::new();
    while log.read_until(b'\n', &mut line).is_ok_and(|bytes| bytes > 0) {
        let text = String::from_utf8_lossy(&line);
        // Whoever closed the output does not want to see it; the member must not stand still for that.
        let _ = writeln!(io::stderr(), "{name} | {}", text.trim_end());
        line.clear();
    }
}

fn say(text: &str) {
    let _ = writeln!(io::stdout(), "demo | {text}");
}

/// A member may take this long to stop.
const STOP_MAX: Duration = Duration::from_secs(5);
/// How often to look whether it has.
const WAIT_PAUSE: Duration = Duration::from_millis(20);
/// A member may take this long to tell who is in the cluster, and the pause before it is asked again.
const ANSWER_MAX: Duration = Duration::from_secs(1);
const ANSWER_PAUSE: Duration = Duration::from_millis(100);

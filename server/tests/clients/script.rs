//! Runs a written session of etcdctl (see `etcdctl_session.txt` for its form) and compares what it prints.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::harness::PATIENCE;

/// One step of a script: its own line, the lines of its standard input, and what it must print.
struct Step {
    line: String,
    input: String,
    expected: Vec<String>,
}

/// A run of a script.
pub(crate) struct Session {
    etcdctl: PathBuf,
    /// What stands for an id or URL of this run.
    words: BTreeMap<String, String>,
    background: BTreeMap<String, Background>,
    leases: usize,
}

impl Session {
    pub(crate) fn new(etcdctl: &Path, words: &[(&str, &str)]) -> Session {
        Session {
            etcdctl: etcdctl.to_owned(),
            words: words
                .iter()
                .map(|(name, value)| (format!("{{{name}}}"), (*value).to_owned()))
                .collect(),
            background: BTreeMap::new(),
            leases: 0,
        }
    }

    /// Runs every step and returns what went otherwise than written, or nothing. `transcript` becomes the script with
    /// what this run has printed, as a start for a new one.
    pub(crate) fn run(&mut self, script: &str, transcript: &mut String) -> Vec<String> {
        let mut complaints = Vec::new();
        for step in parse(script) {
            let got = self.step(&step);
            transcript.push_str(&format!("{}\n", step.line));
            for line in step.input.lines() {
                transcript.push_str(&format!("< {line}\n").replace("< \n", "<\n"));
            }
            for line in &got {
                transcript.push_str(&format!("{line}\n"));
            }
            let same = got.len() == step.expected.len()
                && got
                    .iter()
                    .zip(&step.expected)
                    .all(|(got, expected)| matches(got, expected));
            if !same {
                let mut text = format!("{}\n", step.line);
                for (mark, lines) in [("expected", &step.expected), ("got", &got)] {
                    writeln!(text, "{mark}:\n{}", lines.join("\n")).expect("a string can be written to");
                }
                complaints.push(text);
            }
        }
        complaints
    }

    /// Runs one step and returns the lines it shows.
    fn step(&mut self, step: &Step) -> Vec<String> {
        let (kind, rest) = step.line.split_once(' ').expect("a mark, a space and the rest");
        match kind {
            "$" => {
                let mut running = Background::start(&self.etcdctl, &self.arguments(rest), &step.input);
                running.wait_until("its end", |running| running.ended());
                self.show(running.finish(), false)
            }
            "&" => {
                let (name, arguments) = rest.split_once(' ').expect("a name and arguments");
                let running = Background::start(&self.etcdctl, &self.arguments(arguments), &step.input);
                self.background.insert(name.to_owned(), running);
                Vec::new()
            }
            "+" => {
                let running = self.background.get_mut(rest).expect("a step of the background");
                running.wait_until("its first line", |running| !running.stdout.text().is_empty());
                Vec::new()
            }
            "." => {
                let mut running = self.background.remove(rest).expect("a step of the background");
                let count = step
                    .expected
                    .iter()
                    .filter(|line| !line.starts_with("! "))
                    .count();
                let start = Instant::now();
                while !running.ended() && start.elapsed() < PATIENCE {
                    let lines = self.show((running.stdout.text(), String::new(), None), true);
                    if count > 0 && lines.len() >= count {
                        break;
                    }
                    pause();
                }
                let ended = running.ended();
                let (stdout, stderr, code) = running.finish();
                // The code of a process that had to be ended says nothing.
                self.show((stdout, stderr, if ended { code } else { None }), true)
            }
            _ => panic!("no such mark: {}", step.line),
        }
    }

    fn arguments(&self, text: &str) -> Vec<String> {
        let mut arguments = vec!["--endpoints".to_owned(), self.words["{ENDPOINT}"].clone()];
        for argument in text.split(' ') {
            let mut argument = if argument == "''" {
                String::new()
            } else {
                argument.to_owned()
            };
            for (word, value) in &self.words {
                argument = argument.replace(word, value);
            }
            arguments.push(argument);
        }
        arguments
    }

    /// The lines of an output, ids and URLs replaced by their words.
    fn show(&mut self, (stdout, stderr, code): (String, String, Option<i32>), once: bool) -> Vec<String> {
        self.learn(&stdout);
        let mut lines: Vec<String> = stdout.lines().map(|line| self.line(line)).collect();
        if once {
            lines.dedup();
        }
        lines.extend(
            stderr
                .lines()
                .filter(|line| !line.starts_with('{'))
                .map(|line| format!("! {}", self.line(line))),
        );
        if let Some(code) = code.filter(|code| *code != 0) {
            lines.push(format!("[{code}]"));
        }
        lines
    }

    fn line(&self, line: &str) -> String {
        let mut line = line.to_owned();
        for (word, value) in &self.words {
            line = line.replace(value, word);
        }
        if line.starts_with("+-") {
            line = "+--+".to_owned();
        }
        if line.starts_with('|') {
            line = line.split_whitespace().collect::<Vec<_>>().join(" ");
        }
        if line.is_empty() { "~".to_owned() } else { line }
    }

    /// Takes the ids that the server has chosen from what is printed.
    fn learn(&mut self, stdout: &str) {
        if let Some(rest) = stdout.strip_prefix("lease ")
            && let Some((id, rest)) = rest.split_once(" granted with TTL(")
            && !rest.contains("remaining")
        {
            self.leases += 1;
            self.words
                .insert(format!("{{LEASE{}}}", self.leases), id.to_owned());
        }
        if let Some((id, _)) = stdout.split_once(", started, ") {
            self.words.insert("{MEMBER}".to_owned(), id.to_owned());
        }
    }
}

/// Cuts a script into its steps.
fn parse(script: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for line in script
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        let is_step = ["$ ", "& ", "+ ", ". "].iter().any(|mark| line.starts_with(mark));
        if is_step {
            steps.push(Step {
                line: line.to_owned(),
                input: String::new(),
                expected: Vec::new(),
            });
            continue;
        }
        let step = steps.last_mut().expect("a script begins with a step");
        if let Some(input) = line.strip_prefix('<') {
            step.input.push_str(input.strip_prefix(' ').unwrap_or(input));
            step.input.push('\n');
        } else {
            step.expected.push(line.to_owned());
        }
    }
    steps
}

/// Compares with a line in which `*` stands for anything.
fn matches(line: &str, pattern: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = line.strip_prefix(first) else {
        return false;
    };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else {
        return rest.is_empty();
    };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// A running etcdctl whose output is collected by threads.
struct Background {
    child: Child,
    stdout: Output,
    stderr: Output,
    what: String,
}

/// What a process has written so far to one of its streams.
struct Output {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Background {
    fn start(program: &Path, arguments: &[String], input: &str) -> Background {
        let mut child = Command::new(program)
            .env("ETCDCTL_API", "3")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("etcdctl can be run");
        let mut stdin = child.stdin.take().expect("the input is a pipe");
        stdin
            .write_all(input.as_bytes())
            .expect("a small input fits the pipe");
        // An interactive watch ends with its input, so only the others see its end.
        if arguments.iter().any(|argument| argument == "watch") {
            child.stdin = Some(stdin);
        }
        let stdout = Output::collect(child.stdout.take().expect("the output is a pipe"));
        let stderr = Output::collect(child.stderr.take().expect("the output is a pipe"));
        Background {
            child,
            stdout,
            stderr,
            what: arguments.join(" "),
        }
    }

    fn ended(&mut self) -> bool {
        self.child
            .try_wait()
            .expect("the child can be waited for")
            .is_some()
    }

    fn wait_until(&mut self, what: &str, condition: impl Fn(&mut Background) -> bool) {
        let start = Instant::now();
        while !condition(self) {
            assert!(
                start.elapsed() < PATIENCE,
                "{}: waiting for {what}; {}",
                self.what,
                self.stdout.text()
            );
            pause();
        }
    }

    /// Ends the process if need be; returns stdout, stderr and the exit code.
    fn finish(mut self) -> (String, String, Option<i32>) {
        if !self.ended() {
            self.child.kill().expect("etcdctl can be killed");
        }
        let status = self.child.wait().expect("the child can be waited for");
        (self.stdout.finish(), self.stderr.finish(), status.code())
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Output {
    fn collect(mut from: impl Read + Send + 'static) -> Output {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&bytes);
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = from.read(&mut buffer) {
                shared
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .extend_from_slice(&buffer[..length]);
            }
        });
        Output {
            bytes,
            reader: Some(reader),
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    fn finish(&mut self) -> String {
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the reader does not panic");
        }
        self.text()
    }
}

fn pause() {
    std::thread::sleep(Duration::from_millis(10));
}

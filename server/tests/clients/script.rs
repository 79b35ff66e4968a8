//! Runs a written session of a client and compares what it prints. The form of a script:
//!
//! ```text
//! $ ARGS      runs the client (or etcdutl, when that is the first word); below it stands what it prints: stdout as it
//!             is (~ is an empty line), stderr behind "! " without the client's own log, and the exit code in
//!             brackets unless it is 0. A word may stand in single quotes
//! = NAME ARGS runs it and keeps what it prints as {NAME}
//! ? ARGS      runs it again and again until it prints what stands below
//! < LINE      goes to its standard input
//! & NAME ARGS starts it in the background
//! + NAME      waits until it has printed something
//! . NAME      waits until it has printed what stands below (or has ended), ends it and compares; a line that repeats
//!             the one before it is left out
//! ^ NAME      interrupts it as from a terminal, waits for its end and compares
//! # ...       is a comment
//! ```
//!
//! A line behind `[3.4] ` or the like is there for that version only, with what stands below it if it is a step. The
//! lines of a table are shown with single spaces and short rules; output that is no text is one line, escaped.
//! `{WORD}` stands for an id, an URL or a directory of this run, `*` for anything within a line and a line `...` for
//! any lines.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// One step of a script: its own line, the lines of its standard input, and what it must print.
struct Step {
    line: String,
    input: String,
    expected: Vec<String>,
}

/// The programs that scripts run, and which of the scripts' lines are meant for them.
#[derive(Clone)]
pub(crate) struct Programs {
    /// As in the scripts: the first two numbers.
    pub(crate) version: &'static str,
    pub(crate) client: PathBuf,
    /// The client's flag for where the server is.
    pub(crate) server_flag: &'static str,
    /// It prints tables without lines: what stands between their columns does not count.
    pub(crate) bare_tables: bool,
    /// Variables of the client's.
    pub(crate) env: Vec<(&'static str, String)>,
    pub(crate) etcdutl: Option<PathBuf>,
    /// The longest that one step may last.
    pub(crate) patience: Duration,
}

/// A run of a script.
pub(crate) struct Session {
    programs: Programs,
    /// What stands for an id or URL of this run.
    words: BTreeMap<String, String>,
    background: BTreeMap<String, Background>,
    leases: usize,
}

impl Session {
    /// `words` has at least `ENDPOINT`, which every command is given that names no endpoints itself.
    pub(crate) fn new(programs: &Programs, words: &[(&str, &str)]) -> Session {
        Session {
            programs: programs.clone(),
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
        for step in parse(script, self.programs.version) {
            let got = self.step(&step);
            transcript.push_str(&format!("{}\n", step.line));
            for line in step.input.lines() {
                transcript.push_str(&format!("< {line}\n").replace("< \n", "<\n"));
            }
            let shown: Vec<String> = got.iter().map(|line| self.with_words(line)).collect();
            for line in &shown {
                transcript.push_str(&format!("{line}\n"));
            }
            if !self.is_expected(&got, &step) {
                let mut text = format!("{}\n", step.line);
                for (mark, lines) in [("expected", &step.expected), ("got", &shown)] {
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
        let patience = self.programs.patience;
        match kind {
            "$" => self.run_to_end(rest, &step.input),
            "=" => {
                let (name, arguments) = rest.split_once(' ').expect("a name and arguments");
                let printed = self.run_to_end(arguments, &step.input).join("\n");
                assert!(!printed.is_empty(), "{arguments} prints nothing");
                self.words.insert(format!("{{{name}}}"), printed);
                Vec::new()
            }
            "?" => {
                let start = Instant::now();
                loop {
                    let lines = self.run_to_end(rest, &step.input);
                    if self.is_expected(&lines, step) || start.elapsed() > self.programs.patience {
                        return lines;
                    }
                    pause();
                }
            }
            "&" => {
                let (name, arguments) = rest.split_once(' ').expect("a name and arguments");
                let running = self.start(arguments, &step.input);
                self.background.insert(name.to_owned(), running);
                Vec::new()
            }
            "+" => {
                let running = self.background.get_mut(rest).expect("a step of the background");
                running.wait_until(patience, "its first line", |running| {
                    !running.stdout.text().is_empty()
                });
                Vec::new()
            }
            "." => {
                let running = self.background.remove(rest).expect("a step of the background");
                self.wait_for_lines(running, &step.expected)
            }
            "^" => {
                let mut running = self.background.remove(rest).expect("a step of the background");
                running.interrupt();
                // A program started where interrupts are ignored may go on ignoring them.
                let start = Instant::now();
                while !running.ended() && start.elapsed() < INTERRUPT_PATIENCE {
                    pause();
                }
                running.terminate();
                running.wait_until(patience, "its end", Background::ended);
                self.show(running.finish(), true)
            }
            _ => panic!("no such mark: {}", step.line),
        }
    }

    fn run_to_end(&mut self, arguments: &str, input: &str) -> Vec<String> {
        let mut running = self.start(arguments, input);
        running.wait_until(self.programs.patience, "its end", Background::ended);
        self.show(running.finish(), false)
    }

    /// Waits until a process of the background has printed what is expected or has ended, and ends it.
    fn wait_for_lines(&mut self, mut running: Background, expected: &[String]) -> Vec<String> {
        let printed = expected.iter().filter(|line| !line.starts_with("! "));
        let printed: Vec<String> = printed.map(|line| self.without_words(line)).collect();
        let start = Instant::now();
        while !running.ended() && start.elapsed() < self.programs.patience {
            let lines = self.show((running.stdout.text(), String::new(), None), true);
            if !printed.is_empty() && all_match(&lines, &printed) {
                break;
            }
            pause();
        }
        let ended = running.ended();
        let (stdout, stderr, code) = running.finish();
        // The code of a process that had to be ended says nothing.
        self.show((stdout, stderr, if ended { code } else { None }), true)
    }

    fn start(&self, arguments: &str, input: &str) -> Background {
        let mut arguments = split(arguments);
        for argument in &mut arguments {
            *argument = self.without_words(argument);
        }
        if arguments[0] == "etcdutl" {
            let etcdutl = self
                .programs
                .etcdutl
                .as_ref()
                .expect("the script may use etcdutl");
            return Background::start(etcdutl, &self.programs.env, &arguments[1..], input);
        }
        let flag = self.programs.server_flag;
        if !arguments.iter().any(|argument| argument == flag) {
            arguments.splice(..0, [flag.to_owned(), self.words["{ENDPOINT}"].clone()]);
        }
        Background::start(&self.programs.client, &self.programs.env, &arguments, input)
    }

    fn is_expected(&self, lines: &[String], step: &Step) -> bool {
        let expected: Vec<String> = step
            .expected
            .iter()
            .map(|line| self.without_words(line))
            .collect();
        all_match(lines, &expected)
    }

    /// Puts the values of this run in the place of their words.
    fn without_words(&self, text: &str) -> String {
        let with_value = |text: String, (word, value): (&String, &String)| text.replace(word, value);
        self.words.iter().fold(text.to_owned(), with_value)
    }

    /// The other way round.
    fn with_words(&self, text: &str) -> String {
        let with_word = |text: String, (word, value): (&String, &String)| text.replace(value, word);
        self.words.iter().fold(text.to_owned(), with_word)
    }

    /// The lines of an output.
    fn show(&mut self, (stdout, stderr, code): (String, String, Option<i32>), once: bool) -> Vec<String> {
        self.learn(&stdout);
        let is_text = stdout
            .chars()
            .all(|char| !char.is_control() || "\n\r\t".contains(char));
        let mut lines: Vec<String> = if is_text {
            stdout.lines().map(|line| self.shown(line)).collect()
        } else {
            vec![stdout.escape_default().to_string()]
        };
        if once {
            lines.dedup();
        }
        lines.extend(
            stderr
                .lines()
                .filter(|line| !line.starts_with('{'))
                .map(|line| format!("! {}", self.shown(line))),
        );
        if let Some(code) = code.filter(|code| *code != 0) {
            lines.push(format!("[{code}]"));
        }
        lines
    }

    fn shown(&self, line: &str) -> String {
        match self.programs.bare_tables && !line.is_empty() {
            true => line.split_whitespace().collect::<Vec<_>>().join(" "),
            false => shown(line),
        }
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
        if let Some(rest) = stdout.strip_prefix("Member ")
            && let Some((id, rest)) = rest.split_once(" added ")
            && let Some((_, rest)) = rest.split_once("to cluster ")
        {
            let cluster = rest.split_whitespace().next().unwrap_or_default();
            self.words.insert("{ADDED}".to_owned(), id.trim().to_owned());
            self.words.insert("{CLUSTER}".to_owned(), cluster.to_owned());
        }
        if let Some((before, _)) = stdout.split_once(", started, ")
            && let Some(id) = before.lines().last()
        {
            self.words.insert("{MEMBER}".to_owned(), id.to_owned());
        }
    }
}

/// A line in the form in which scripts have it.
fn shown(line: &str) -> String {
    // Version 3.4 draws tables with the characters of typewriters, 3.7 with those made for it.
    match line.chars().next() {
        None => "~".to_owned(),
        Some('┌' | '├' | '└') => "+--+".to_owned(),
        _ if line.starts_with("+-") => "+--+".to_owned(),
        // An id that begins with a zero is shorter, and filled up with spaces.
        _ if line.starts_with("Member ") => line.split_whitespace().collect::<Vec<_>>().join(" "),
        Some('|' | '│') => {
            let line = line.replace('│', "|");
            line.split_whitespace().collect::<Vec<_>>().join(" ")
        }
        Some(_) => line.to_owned(),
    }
}

/// Cuts a script into its steps, without those of another version.
fn parse(script: &str, version: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut for_this_version = true;
    for line in script
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        let (of, line) = version_of(line);
        let ours = of.is_none_or(|of| of == version);
        let is_step = MARKS.iter().any(|mark| line.starts_with(mark));
        if is_step {
            for_this_version = ours;
        }
        if !ours || !for_this_version {
            continue;
        }
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

/// What every step begins with.
const MARKS: [&str; 7] = ["$ ", "= ", "? ", "& ", "+ ", ". ", "^ "];

/// Splits the version that a line is meant for from it.
fn version_of(line: &str) -> (Option<&str>, &str) {
    let marked = line.strip_prefix('[').and_then(|line| line.split_once("] "));
    marked.map_or((None, line), |(version, line)| (Some(version), line))
}

/// Splits a command line at its spaces, but for those within single quotes.
fn split(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for char in line.chars() {
        match char {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            _ => words.last_mut().expect("there is a word").push(char),
        }
    }
    words
}

/// Compares with lines of which one that is `...` stands for any number of them.
fn all_match(lines: &[String], patterns: &[String]) -> bool {
    match (lines, patterns) {
        ([], []) => true,
        (lines, [pattern, rest @ ..]) if pattern == "..." => {
            (0..=lines.len()).any(|skipped| all_match(&lines[skipped..], rest))
        }
        ([line, lines @ ..], [pattern, patterns @ ..]) => {
            matches(line, pattern) && all_match(lines, patterns)
        }
        _ => false,
    }
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

/// A running client whose output is collected by threads.
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
    fn start(program: &Path, env: &[(&str, String)], arguments: &[String], input: &str) -> Background {
        let mut child = Command::new(program)
            .envs(env.iter().map(|(name, value)| (name, value)))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the client can be run");
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

    /// Ends it, if it still runs.
    fn terminate(&mut self) {
        if !self.ended() {
            let pid = rustix::process::Pid::from_child(&self.child);
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("the process is ours");
        }
    }

    fn interrupt(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("the process is ours");
    }

    fn wait_until(&mut self, patience: Duration, what: &str, condition: impl Fn(&mut Background) -> bool) {
        let start = Instant::now();
        while !condition(self) {
            assert!(
                start.elapsed() < patience,
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
            self.child.kill().expect("the client can be killed");
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

/// How long a program may take to end once it is interrupted.
const INTERRUPT_PATIENCE: Duration = Duration::from_secs(5);

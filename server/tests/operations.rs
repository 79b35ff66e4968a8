//! docs/operations.md, done: every block of commands of the page runs in the page's order in one shell, and what the
//! page shows of its output must be there.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod harness;

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use harness::tls::Authority;
use harness::*;

/// Commands of the page.
struct Block {
    /// Where they begin.
    line: usize,
    commands: String,
    /// What the page shows of their output.
    shown: Option<String>,
}

fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operations.md");
    fs::read_to_string(path).unwrap()
}

/// The blocks of the page. There are two kinds only, so that nothing that looks like a command is left out.
fn blocks(page: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut lines = page.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let Some(kind) = line.strip_prefix("```") else {
            assert!(
                !line.trim_start().starts_with("```"),
                "line {}: an indented block",
                number + 1
            );
            continue;
        };
        let inside = lines
            .by_ref()
            .map(|(_, line)| line)
            .take_while(|line| *line != "```");
        let text = inside.collect::<Vec<_>>().join("\n") + "\n";
        match kind {
            "sh" => blocks.push(Block {
                line: number + 1,
                commands: text,
                shown: None,
            }),
            "text" => {
                let before = blocks.last_mut().expect("commands come before their output");
                assert!(before.shown.is_none(), "line {}: shown twice", number + 1);
                before.shown = Some(text);
            }
            other => panic!("line {}: a block of kind {other:?}", number + 1),
        }
    }
    blocks
}

/// Whether `line` is what `shown` says, where `...` stands for anything.
fn fits(line: &str, shown: &str) -> bool {
    let mut parts = shown.trim().split("...");
    let Some(mut rest) = parts.next().and_then(|first| line.trim().strip_prefix(first)) else {
        return false;
    };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else {
        return rest.is_empty();
    };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// The first line shown that the output does not have, in order; there may be others between.
fn missing<'a>(output: &str, shown: &'a str) -> Option<&'a str> {
    let mut lines = output.lines();
    shown
        .lines()
        .filter(|shown| !shown.trim().is_empty())
        .find(|shown| !lines.any(|line| fits(line, shown)))
}

/// One script of all blocks, each of which writes to a file of its own.
fn script(blocks: &[Block]) -> String {
    let mut script = "set -Eeuo pipefail\ntrap 'echo \"failed: $BASH_COMMAND\"' ERR\n".to_owned();
    for block in blocks {
        script += &format!("exec >\"$OUT/{}\" 2>&1\n{}", block.line, block.commands);
    }
    script + "exec >\"$OUT/end\" 2>&1\n"
}

/// A shell with all that it has started.
struct Shell(Child);

impl Shell {
    fn run(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < PAGE_MAX, "the page does not end");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // The members that it left behind are of its group.
        let group = format!("-{}", self.0.id());
        let _ = Command::new("kill")
            .args(["-KILL", "--", &group])
            .stderr(Stdio::null())
            .status();
        let _ = self.0.wait();
    }
}

/// Free ports for the page's members, by the page's names for them.
fn urls(ports: &[Ports]) -> Vec<(String, String)> {
    let named = ports.iter().enumerate().flat_map(|(number, ports)| {
        let number = number + 1;
        [
            (
                format!("CLIENT{number}"),
                format!("http://127.0.0.1:{}", ports.client),
            ),
            (
                format!("PEER{number}"),
                format!("http://127.0.0.1:{}", ports.peer),
            ),
        ]
    });
    named.collect()
}

#[test]
fn the_page_does_what_it_says() {
    if !runs_taffrail() {
        return skip("the_page_does_what_it_says", "Taffrail itself");
    }
    let blocks = blocks(&page());
    assert!(blocks.len() > 10, "{} blocks", blocks.len());
    let dir = tempfile::tempdir().unwrap();
    let of = |name: &str| {
        let path: PathBuf = dir.path().join(name);
        fs::create_dir(&path).unwrap();
        path
    };
    let (bin, out, data, certificates) = (of("bin"), of("out"), of("data"), of("certificates"));
    issue_certificates(&certificates);
    symlink(program(), bin.join("taffrail")).unwrap();
    let path = std::env::var("PATH").unwrap();
    let ports: Vec<Ports> = (0..MEMBERS).map(|_| Ports::reserve()).collect();
    let script_path = dir.path().join("script");
    fs::write(&script_path, script(&blocks)).unwrap();
    let shell = Command::new("bash")
        .arg(&script_path)
        .current_dir(&data)
        .env_clear()
        .env("PATH", format!("{}:{path}", bin.display()))
        .env("OUT", &out)
        .env("DIR", &data)
        .env("CERTS", &certificates)
        .env("HOME", &data)
        .envs(urls(&ports))
        .stdin(Stdio::null())
        .stdout(File::create(out.join("begin")).unwrap())
        .stderr(File::create(out.join("begin.err")).unwrap())
        .process_group(0)
        .spawn()
        .unwrap();
    let status = Shell(shell).run();
    for block in &blocks {
        let output = fs::read_to_string(out.join(block.line.to_string())).unwrap_or_default();
        let told = format!(
            "line {} of the page:\n{}\nsays:\n{output}",
            block.line, block.commands
        );
        assert!(!output.contains("failed: "), "{told}\n{}", logs(&data));
        if let Some(line) = block.shown.as_deref().and_then(|shown| missing(&output, shown)) {
            panic!("{told}\nand not: {line}\n{}", logs(&data));
        }
    }
    assert!(
        status.success(),
        "{status}: {:?}",
        fs::read_to_string(out.join("begin.err"))
    );
}

/// What the page's two authorities have issued.
fn issue_certificates(into: &Path) {
    let authorities = ["old", "new"].map(|age| (age, Authority::named(age)));
    let mut both = String::new();
    for (age, authority) in &authorities {
        fs::write(into.join(format!("{age}-ca.crt")), authority.pem()).unwrap();
        both += &authority.pem();
        for (serial, name) in (1..).zip(["s1", "s3", "s4", "client"]) {
            let pair = authority.issue_to(name, serial, &["127.0.0.1"]);
            fs::copy(pair.cert_file, into.join(format!("{age}-{name}.crt"))).unwrap();
            fs::copy(pair.key_file, into.join(format!("{age}-{name}.key"))).unwrap();
        }
    }
    fs::write(into.join("both-ca.crt"), both).unwrap();
}

/// The ends of the members' logs.
fn logs(data: &Path) -> String {
    let mut text = String::new();
    let entries = fs::read_dir(data).unwrap().map(|entry| entry.unwrap().path());
    for path in entries.filter(|path| path.extension().is_some_and(|kind| kind == "log")) {
        let log = fs::read_to_string(&path).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let end = lines[lines.len().saturating_sub(8)..].join("\n");
        text += &format!("--- {}\n{end}\n", path.display());
    }
    text
}

#[test]
fn what_is_shown_is_compared() {
    assert!(
        fits("a 12 b", "a ... b") && fits("a b", "a b") && fits("x", "...") && fits("a1b2c", "a...b...c")
    );
    assert!(!fits("a b c", "a b") && !fits("a b", "b") && !fits("a 12 c", "a ... b"));
    assert_eq!(missing("1\n2\n3\n", "1\n3\n"), None);
    assert_eq!(missing("1\n2\n3\n", "3\n1\n"), Some("1"));
}

/// How many members the page has addresses for.
const MEMBERS: usize = 5;
/// The longest that the whole page may take.
const PAGE_MAX: Duration = Duration::from_secs(240);

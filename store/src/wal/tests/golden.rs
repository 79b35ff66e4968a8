//! Scripts of `testdata/wal`: commands, a line `----`, and what they answered. `REGENERATE=1` writes the answers
//! anew, to be reviewed as a diff.
//!
//! | command | what it does |
//! | --- | --- |
//! | `create segment=BYTES` | begins the log |
//! | `append entries=A..B term=T size=BYTES hard=TERM/COMMIT restart=INDEX/TERM` | one batch; all parts optional |
//! | `prepare`, `release INDEX` | as the calls |
//! | `open INDEX` | closes the log and opens it from the index |
//! | `read INDEX` | closes the log and reads it without changing it |
//! | `flip SEGMENT OFFSET` | damages a byte |
//! | `zero SEGMENT FROM TO` | a write that never reached the disk |
//! | `remove SEGMENT` | someone deletes a file |
//! | `files` | what lies in the folder |

use std::fmt::Write as _;

use super::*;

struct Script {
    disk: FakeDisk,
    config: Config,
    wal: Option<Wal>,
}

#[test]
fn scripts() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/wal");
    let mut count = 0;
    for file in std::fs::read_dir(dir).unwrap() {
        let path = file.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let answered = answer(&text);
        if std::env::var_os("REGENERATE").is_some() {
            std::fs::write(&path, &answered).unwrap();
        }
        let now = std::fs::read_to_string(&path).unwrap();
        assert!(now == answered, "{}:\n{answered}", path.display());
        count += 1;
    }
    assert!(count >= 5, "only {count} scripts found");
}

fn answer(text: &str) -> String {
    let mut script = Script {
        disk: FakeDisk::new(0),
        config: config(4096),
        wal: None,
    };
    let mut out = String::new();
    for block in text.split("\n\n").filter(|block| !block.trim().is_empty()) {
        let commands: Vec<&str> = block.lines().take_while(|line| *line != "----").collect();
        for command in &commands {
            writeln!(out, "{command}").unwrap();
        }
        if commands.iter().all(|command| command.starts_with('#')) {
            out.push('\n');
            continue;
        }
        out.push_str("----\n");
        for command in commands.iter().filter(|command| !command.starts_with('#')) {
            writeln!(out, "{}", script.run(command)).unwrap();
        }
        out.push('\n');
    }
    out
}

impl Script {
    fn run(&mut self, command: &str) -> String {
        let words: Vec<&str> = command.split_whitespace().collect();
        let number = |at: usize| words[at].parse::<u64>().unwrap();
        if self.wal.is_none() && ["append", "prepare", "release"].contains(&words[0]) {
            return "no log is open".into();
        }
        match words[0] {
            "create" => {
                let bytes = value(&words, "segment").unwrap().parse().unwrap();
                self.config.segment_bytes = bytes;
                self.wal = Some(create(&self.disk, self.config.clone()));
                self.end()
            }
            "append" => {
                let part = part(&words);
                match self.wal.as_mut().unwrap().append(&[part]) {
                    Ok(()) => self.end(),
                    Err(error) => format!("error: {error}"),
                }
            }
            "prepare" => self
                .wal
                .as_mut()
                .unwrap()
                .prepare()
                .map_or_else(|e| e.to_string(), |()| "ok".into()),
            "release" => {
                format!(
                    "released {}",
                    self.wal.as_mut().unwrap().release(Index(number(1))).unwrap()
                )
            }
            "open" => {
                self.wal = None;
                match open(&self.disk, number(1), self.config.clone()) {
                    Ok((wal, replay)) => {
                        self.wal = Some(wal);
                        format!("{}; {}", show(&replay), self.end())
                    }
                    Err(error) => format!("error: {error}"),
                }
            }
            "read" => {
                self.wal = None;
                let read = replay::read(&self.disk, Path::new(DIR), Index(number(1)), &self.config);
                read.map_or_else(|error| format!("error: {error}"), |replay| show(&replay))
            }
            "flip" => {
                assert!(
                    self.disk
                        .damage(&segment::path(Path::new(DIR), number(1)), number(2), 1)
                );
                "ok".into()
            }
            "zero" => {
                let mut file = self.disk.open(&segment::path(Path::new(DIR), number(1))).unwrap();
                let zeros = vec![0; usize::try_from(number(3) - number(2)).unwrap()];
                file.write_at(number(2), &zeros).unwrap();
                "ok".into()
            }
            "remove" => {
                self.disk
                    .remove(&segment::path(Path::new(DIR), number(1)))
                    .unwrap();
                "ok".into()
            }
            "files" => names(&self.disk).join(" "),
            other => panic!("unknown command {other}"),
        }
    }

    fn end(&self) -> String {
        let sequence = segment::list(&self.disk, Path::new(DIR))
            .unwrap()
            .segments
            .pop()
            .unwrap();
        let wal = self.wal.as_ref().unwrap();
        format!(
            "newest segment {sequence}, log of {} bytes, last {}",
            wal.bytes(),
            wal.last().index
        )
    }
}

fn value<'a>(words: &[&'a str], name: &str) -> Option<&'a str> {
    words
        .iter()
        .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

fn pair(text: &str, by: &str) -> (u64, u64) {
    let (a, b) = text.split_once(by).unwrap();
    (a.parse().unwrap(), b.parse().unwrap())
}

fn part(words: &[&str]) -> Append {
    let number = |name| value(words, name).map(|text| text.parse::<u64>().unwrap());
    let mut part = Append::default();
    if let Some((first, last)) = value(words, "entries").map(|text| pair(text, "..")) {
        let size = usize::try_from(number("size").unwrap_or(10)).unwrap();
        part.entries = entries(first..=last, number("term").unwrap_or(1), size);
    }
    if let Some((term, commit)) = value(words, "hard").map(|text| pair(text, "/")) {
        part.hard_state = hard(term, commit).hard_state;
    }
    if let Some((index, term)) = value(words, "restart").map(|text| pair(text, "/")) {
        part.restart = Some(Position {
            index: Index(index),
            term: Term(term),
        });
    }
    part
}

fn show(replay: &Replay) -> String {
    let mut out = String::from("entries");
    // Runs of one term, as first..last@term.
    let mut rest = &replay.entries[..];
    while let Some(first) = rest.first() {
        let run = rest.iter().take_while(|entry| entry.term == first.term).count();
        write!(out, " {}..{}@{}", first.index, rest[run - 1].index, first.term).unwrap();
        rest = &rest[run..];
    }
    let HardState { term, commit, .. } = replay.hard_state;
    write!(out, "; last {}; hard {term}/{commit}", replay.last.index).unwrap();
    if replay.segments_skipped > 0 {
        write!(out, "; skipped {}", replay.segments_skipped).unwrap();
    }
    if let Some(torn) = &replay.torn {
        write!(out, "; torn at {} of {}", torn.offset, torn.path.display()).unwrap();
    }
    out
}

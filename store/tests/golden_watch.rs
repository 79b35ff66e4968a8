//! Golden scripts of the watch hub: each file of `testdata/watch` is one behaviour, a list of commands with what the
//! hub did on each, indented below it. `UPDATE_GOLDEN=1` writes the files anew, to be reviewed as a diff.
//!
//! | command | effect |
//! | --- | --- |
//! | `config fragment=N revisions=N watchers=N reads=N scan=N read=N kick=N answers=N progress=SECONDS` | first line, if any |
//! | `open S [room=N]` | a stream; with `room`, its sink takes N responses until `take` frees places |
//! | `create S [key=K] [end=E] [start=N] [id=N] [noput] [nodelete] [prev] [progress] [fragment]` | `\0` in keys is the zero byte |
//! | `refuse S REASON`, `cancel S ID`, `progress S`, `close S` | requests |
//! | `take S N` | the client takes N responses; the hub is told |
//! | `put K V`, `del K`, `txn put K V; del K` | one revision, told to the hub |
//! | `unseen put K V` | the same, not told |
//! | `compact N`, `trim N` | the compacted revision; the first revision in memory |
//! | `history T` | answers the read T |
//! | `tick MS`, `stats`, `deadline` | time; figures; milliseconds until the next tick is due |

mod watch_model;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use proto::etcdserverpb::{WatchCreateRequest, WatchResponse};
use proto::mvccpb::{Event, KeyValue};
use store::env::Instant;
use store::types::{SharedRevision, WatchId};
use store::watch::{Config, Effect, HistoryView as _, Hub, Input, ReadToken, StreamId};
use watch_model::{Queue, Store, Write};

#[test]
fn golden_scripts() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/watch");
    let mut scripts: Vec<_> = std::fs::read_dir(&folder)
        .expect("testdata/watch")
        .map(|entry| entry.expect("entry").path())
        .collect();
    scripts.sort();
    assert!(scripts.len() >= 10, "{} scripts", scripts.len());
    for path in scripts {
        let expected = std::fs::read_to_string(&path).expect("a script is text");
        let actual = run(&expected);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, actual).expect("write the script");
        } else {
            assert_eq!(actual, expected, "{} differs", path.display());
        }
    }
}

/// Runs a script's commands; the script with what they print.
fn run(script: &str) -> String {
    let mut world = World::new();
    let mut out = String::new();
    for line in script.lines().filter(|line| !line.starts_with("  ")) {
        writeln!(out, "{line}").expect("memory");
        if !line.is_empty() && !line.starts_with('#') {
            for printed in world.command(line) {
                writeln!(out, "  {printed}").expect("memory");
            }
        }
    }
    out
}

struct World {
    store: Store,
    hub: Hub,
    now: Instant,
    sinks: BTreeMap<StreamId, Queue>,
    reads: BTreeMap<ReadToken, (i64, i64, bool)>,
}

impl World {
    fn new() -> Self {
        let now = Instant::default();
        let hub = Hub::new(Config::default(), 1, now);
        World {
            store: Store::new(),
            hub,
            now,
            sinks: BTreeMap::new(),
            reads: BTreeMap::new(),
        }
    }

    fn command(&mut self, line: &str) -> Vec<String> {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        let words: Vec<&str> = rest.split_whitespace().collect();
        match verb {
            "config" => self.hub = Hub::new(config(&words), 1, self.now),
            "open" => {
                let room = words
                    .get(1)
                    .map_or(usize::MAX, |word| value(word, "room=").expect("room"));
                let sink = Queue::new(room);
                self.sinks.insert(stream(words[0]), sink.clone());
                return self.step(Input::Open {
                    stream: stream(words[0]),
                    sink: sink.sink(),
                });
            }
            "create" => {
                let request = creation(&words[1..]);
                return self.step(Input::Create {
                    stream: stream(words[0]),
                    request,
                });
            }
            "refuse" => {
                let reason = rest.split_once(' ').expect("a reason").1.to_owned();
                return self.step(Input::Refuse {
                    stream: stream(words[0]),
                    reason,
                });
            }
            "cancel" => {
                let id = WatchId(number(words[1]));
                return self.step(Input::Cancel {
                    stream: stream(words[0]),
                    id,
                });
            }
            "progress" => {
                return self.step(Input::Progress {
                    stream: stream(words[0]),
                });
            }
            "close" => {
                return self.step(Input::Close {
                    stream: stream(words[0]),
                });
            }
            "take" => {
                self.sinks[&stream(words[0])].free(number(words[1]) as usize);
                return self.step(Input::Room {
                    stream: stream(words[0]),
                });
            }
            "unseen" => drop(self.write(rest)),
            "put" | "del" | "txn" => {
                let revision = self.write(line);
                return self.step(Input::Committed(revision.as_slice()));
            }
            "compact" => self.store.compact(number(words[0])),
            "trim" => self.store.trim(number(words[0])),
            "history" => {
                let token = ReadToken(number(words[0]) as u64);
                let (from, to, with_previous) = self.reads.remove(&token).expect("a read under way");
                let answer = self.store.history(from, to, with_previous);
                return self.step(Input::History { token, answer });
            }
            "tick" => {
                self.now = self.now + Duration::from_millis(number(words[0]) as u64);
                return self.step(Input::Tick(self.now));
            }
            "stats" => return vec![format!("{:?}", self.hub.stats())],
            "deadline" => {
                let due = self.hub.next_deadline();
                return vec![due.map_or("none".to_owned(), |due| {
                    format!("{} ms", due.since(self.now).as_millis())
                })];
            }
            _ => panic!("unknown command: {line}"),
        }
        Vec::new()
    }

    fn write(&mut self, line: &str) -> Option<SharedRevision> {
        let writes: Vec<Write> = line
            .trim_start_matches("txn ")
            .split(';')
            .map(one_write)
            .collect();
        self.store.write(&writes)
    }

    /// Steps the hub and prints the effects, then what arrived, stream by stream.
    fn step(&mut self, input: Input<'_>) -> Vec<String> {
        let mut effects = Vec::new();
        self.hub.step(input, &self.store, &mut effects);
        assert!(self.hub.revision() <= self.store.current());
        let mut out = Vec::new();
        for effect in effects {
            if let Effect::ReadHistory {
                token,
                from,
                to,
                with_previous,
            } = effect
            {
                self.reads.insert(token, (from, to, with_previous));
                let previous = if with_previous { " with previous" } else { "" };
                out.push(format!("read {} from {from} to {to}{previous}", token.0));
            } else {
                out.push(format!("{effect:?}"));
            }
        }
        for (stream, sink) in &self.sinks {
            out.extend(
                sink.arrived()
                    .iter()
                    .map(|response| format!("s{} {}", stream.0, show(response))),
            );
        }
        out
    }
}

fn one_write(words: &str) -> Write {
    match words.split_whitespace().collect::<Vec<_>>()[..] {
        ["put", key, value] => Write::Put(key.to_owned(), value.to_owned()),
        ["del", key] => Write::Delete(key.to_owned()),
        _ => panic!("not a write: {words}"),
    }
}

fn config(words: &[&str]) -> Config {
    let mut config = Config::default();
    for word in words {
        let (name, value) = word.split_once('=').expect("name=value");
        let value = number(value);
        match name {
            "fragment" => config.fragment_bytes = value as usize,
            "revisions" => config.batch_revisions_max = value as usize,
            "watchers" => config.pass_watchers_max = value as usize,
            "reads" => config.reads_max = value as usize,
            "answers" => config.answers_waiting_max = value as usize,
            "scan" => config.scan_revisions_max = value,
            "read" => config.read_revisions_max = value,
            "kick" => config.kick_revisions_max = value,
            "progress" => config.progress_interval = Duration::from_secs(value as u64),
            _ => panic!("unknown setting {name}"),
        }
    }
    config
}

fn creation(words: &[&str]) -> WatchCreateRequest {
    let mut request = WatchCreateRequest::default();
    for word in words {
        match word.split_once('=') {
            Some(("key", key)) => request.key = key_bytes(key),
            Some(("end", end)) => request.range_end = key_bytes(end),
            Some(("start", start)) => request.start_revision = number(start),
            Some(("id", id)) => request.watch_id = number(id),
            _ => match *word {
                "noput" => request.filters.push(0),
                "nodelete" => request.filters.push(1),
                "prev" => request.prev_kv = true,
                "progress" => request.progress_notify = true,
                "fragment" => request.fragment = true,
                _ => panic!("unknown option {word}"),
            },
        }
    }
    request
}

fn key_bytes(text: &str) -> Bytes {
    Bytes::from(text.replace("\\0", "\0"))
}

fn stream(word: &str) -> StreamId {
    StreamId(value(word, "s").expect("a stream like s1") as u64)
}

fn value(word: &str, prefix: &str) -> Option<usize> {
    word.strip_prefix(prefix)?.parse().ok()
}

fn number(word: &str) -> i64 {
    word.parse().unwrap_or_else(|_| panic!("not a number: {word}"))
}

fn show(response: &WatchResponse) -> String {
    let revision = response.header.as_ref().expect("a header").revision;
    let mut out = format!("watch {} header {revision}", response.watch_id);
    for (set, word) in [
        (response.created, " created"),
        (response.canceled, " canceled"),
        (response.fragment, " fragment"),
    ] {
        out.push_str(if set { word } else { "" });
    }
    if response.compact_revision != 0 {
        write!(out, " compacted {}", response.compact_revision).expect("memory");
    }
    if !response.cancel_reason.is_empty() {
        write!(out, " {:?}", response.cancel_reason).expect("memory");
    }
    for event in &response.events {
        write!(out, " [{}]", show_event(event)).expect("memory");
    }
    out
}

fn show_event(event: &Event) -> String {
    let kv = event.kv.as_ref().expect("an event has a kv");
    let mut out = if event.r#type == 0 {
        format!("put {}", show_kv(kv))
    } else {
        let bare = KeyValue {
            key: kv.key.clone(),
            mod_revision: kv.mod_revision,
            ..KeyValue::default()
        };
        assert_eq!(*kv, bare, "a deletion shows key and mod_revision only");
        format!("del {} mod {}", String::from_utf8_lossy(&kv.key), kv.mod_revision)
    };
    if let Some(previous) = &event.prev_kv {
        write!(out, " prev {}", show_kv(previous)).expect("memory");
    }
    out
}

fn show_kv(kv: &KeyValue) -> String {
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    let value = if kv.value.len() > 8 {
        format!("({} bytes)", kv.value.len())
    } else {
        text(&kv.value)
    };
    format!(
        "{}={value} create {} mod {} version {}",
        text(&kv.key),
        kv.create_revision,
        kv.mod_revision,
        kv.version
    )
}

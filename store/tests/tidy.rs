//! House rules as tests: who may import whom, how large files may be, what every module says of itself.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Rooms by row; a room may import rooms of lower rows only, and itself.
const ROWS: &[(&str, u32)] = &[
    ("shell", 5),
    ("consensus", 4),
    ("apply", 4),
    ("watch", 4),
    ("mvcc", 3),
    ("lease", 3),
    ("membership", 3),
    ("alarm", 3),
    ("auth", 3),
    ("wal", 2),
    ("backend", 2),
    ("env", 1),
    ("error", 1),
    ("types", 0),
];

/// Crates that only one place may name.
const ONLY_IN: &[(&str, &str)] = &[
    ("raft::", "consensus/"),
    ("slog::", "consensus/"),
    ("sled::", "backend/"),
    ("tokio::", "shell/"),
    ("rustix::", "env/"),
];

/// Source lines of a file, without its tests.
const FILE_LINES_MAX: usize = 600;

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Every source file: its path below `src`, and its text without the unit tests at its end.
fn files() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![source()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(source()).unwrap().to_str().unwrap().to_owned();
                let is_test = name.ends_with("/tests.rs") || name.contains("/tests/");
                if !is_test {
                    let text = fs::read_to_string(&path).unwrap();
                    let end = text.find("\n#[cfg(test)]\nmod tests").unwrap_or(text.len());
                    found.insert(name, text[..end].to_owned());
                }
            }
        }
    }
    assert!(found.len() > 40, "the walk found the sources");
    found
}

fn room(file: &str) -> &str {
    file.split('/').next().unwrap().trim_end_matches(".rs")
}

fn row(room: &str) -> Option<u32> {
    ROWS.iter().find(|(name, _)| *name == room).map(|(_, row)| *row)
}

/// The code of a line, without comments.
fn code(line: &str) -> &str {
    if line.trim_start().starts_with("//") {
        ""
    } else {
        line
    }
}

#[test]
fn rooms_import_only_from_rows_below() {
    let mut wrong = Vec::new();
    for (file, text) in files() {
        let from = room(&file).to_owned();
        let Some(from_row) = row(&from) else {
            assert_eq!(from, "lib", "{file} is in no room");
            continue;
        };
        for (number, line) in text.lines().enumerate() {
            for part in code(line).split("crate::").skip(1) {
                let to: String = part
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect();
                if let Some(to_row) = row(&to)
                    && to != from
                    && to_row >= from_row
                {
                    wrong.push(format!("{file}:{} {from} imports {to}", number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn some_crates_are_named_in_one_place_only() {
    let mut wrong = Vec::new();
    for (file, text) in files() {
        for (name, place) in ONLY_IN {
            for (number, line) in text.lines().enumerate() {
                let line = code(line);
                let named = line.match_indices(name).any(|(at, _)| {
                    !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':')
                });
                if named && !file.starts_with(place) {
                    wrong.push(format!("{file}:{} names {name}", number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_stay_within_their_budget() {
    let large: Vec<String> = files()
        .iter()
        .map(|(file, text)| (file, text.lines().count()))
        .filter(|(_, lines)| *lines > FILE_LINES_MAX)
        .map(|(file, lines)| format!("{file}: {lines} lines of at most {FILE_LINES_MAX}"))
        .collect();
    assert!(large.is_empty(), "{}", large.join("\n"));
}

#[test]
fn every_file_says_what_it_is() {
    let silent: Vec<String> = files()
        .into_iter()
        .filter(|(_, text)| !text.starts_with("//!"))
        .map(|(file, _)| file)
        .collect();
    assert!(
        silent.is_empty(),
        "without a module description: {}",
        silent.join(", ")
    );
}

#[test]
fn no_module_is_a_drawer_for_everything() {
    for file in files().keys() {
        for banned in ["utils", "common", "helpers", "manager", "misc"] {
            assert!(!file.contains(banned), "{file}: name the thing, not the drawer");
        }
    }
}

//! Who calls most, and for what keys: the space-saving sketch (Metwally, Agrawal, El Abbadi 2005). It has so many
//! counters; whoever has none takes over the smallest, with its count, of which the error is kept. A counter is never
//! too small, too large by its error at most, and whoever has more than a part of all calls in as many parts as there
//! are counters is always there.

use std::collections::{BTreeSet, HashMap};

use parking_lot::Mutex;
use serde::Serialize;

/// Calls by user and by prefix since the start.
#[derive(Default)]
pub(super) struct Talkers {
    users: Mutex<Sketch>,
    prefixes: Mutex<Sketch>,
}

/// One sketch.
#[derive(Default)]
struct Sketch {
    counters: HashMap<String, Counter>,
    /// The same in the order of their counts.
    order: BTreeSet<(u64, String)>,
    total: u64,
}

#[derive(Clone, Copy, Default)]
struct Counter {
    count: u64,
    error: u64,
}

/// A row of the page.
#[derive(Serialize)]
struct Row {
    name: String,
    calls: u64,
    /// The count may be too large by so much.
    error: u64,
}

#[derive(Serialize)]
struct Table {
    calls: u64,
    rows: Vec<Row>,
}

impl Talkers {
    /// A call of `user`, about `key` if it names one.
    pub(super) fn note(&self, user: String, key: Option<&[u8]>) {
        self.users.lock().note(user);
        if let Some(key) = key {
            self.prefixes.lock().note(prefix(key));
        }
    }

    /// The tables as JSON.
    pub(super) fn page(&self) -> String {
        let tables = [
            ("users", self.users.lock().table()),
            ("prefixes", self.prefixes.lock().table()),
        ];
        let tables: HashMap<_, _> = tables.into_iter().collect();
        // Names and numbers: nothing that has no JSON.
        serde_json::to_string_pretty(&tables).unwrap_or_default() + "\n"
    }
}

impl Sketch {
    fn note(&mut self, name: String) {
        self.total += 1;
        if let Some(counter) = self.counters.get_mut(&name) {
            let mut moved = self.order.take(&(counter.count, name)).unwrap_or_default();
            counter.count += 1;
            moved.0 = counter.count;
            self.order.insert(moved);
            return;
        }
        let error = if self.counters.len() < COUNTERS_MAX {
            0
        } else {
            let (least, replaced) = self.order.pop_first().unwrap_or_default();
            self.counters.remove(&replaced);
            least
        };
        let counter = Counter {
            count: error + 1,
            error,
        };
        self.order.insert((counter.count, name.clone()));
        self.counters.insert(name, counter);
    }

    fn table(&self) -> Table {
        let rows = self.order.iter().rev().take(ROWS_MAX).map(|(count, name)| Row {
            name: name.clone(),
            calls: *count,
            error: self.counters.get(name).map_or(0, |counter| counter.error),
        });
        Table {
            calls: self.total,
            rows: rows.collect(),
        }
    }
}

/// The part of a key that keys of one kind share: up to its third slash, as in `/registry/pods/`, where the first
/// character is one, else up to the second; of a key without, its start.
fn prefix(key: &[u8]) -> String {
    let key = key.get(..PREFIX_BYTES_MAX).unwrap_or(key);
    let wanted = if key.first() == Some(&b'/') { 3 } else { 2 };
    let mut slashes = key.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    let end = match slashes.nth(wanted - 1) {
        Some((at, _)) => at + 1,
        None => key
            .iter()
            .rposition(|byte| *byte == b'/')
            .map_or(key.len().min(PLAIN_BYTES_MAX), |at| at + 1),
    };
    key.get(..end).unwrap_or(key).escape_ascii().to_string()
}

/// Counters of one sketch: whoever has one call in 512 is among them.
const COUNTERS_MAX: usize = 512;
/// Rows of a table.
const ROWS_MAX: usize = 50;
/// A prefix is not longer.
const PREFIX_BYTES_MAX: usize = 64;
/// Nor the start of a key without a slash.
const PLAIN_BYTES_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_told_apart_by_their_kind() {
        for (key, expected) in [
            ("/registry/pods/default/a", "/registry/pods/"),
            ("/registry/pods", "/registry/"),
            ("app/users/7", "app/users/"),
            ("app/7", "app/"),
            ("lonely", "lonely"),
            ("a-very-long-key-without-any-slash", "a-very-long-key-"),
            ("", ""),
        ] {
            assert_eq!(prefix(key.as_bytes()), expected);
        }
        assert!(prefix(&[0xff; 5000]).len() <= 4 * PREFIX_BYTES_MAX);
    }

    #[test]
    fn the_loud_are_found_among_very_many() {
        let mut sketch = Sketch::default();
        let (mut exact, calls) = (HashMap::new(), 200_000u64);
        for call in 0..calls {
            // One in four calls is of one of eight; all others differ.
            let name = match call % 32 {
                loud @ (0 | 4 | 8 | 12 | 16 | 20 | 24 | 28) => format!("loud {loud}"),
                _ => format!("quiet {call}"),
            };
            *exact.entry(name.clone()).or_insert(0u64) += 1;
            sketch.note(name);
        }
        assert_eq!(sketch.counters.len(), COUNTERS_MAX);
        assert_eq!(sketch.order.len(), COUNTERS_MAX);
        let table = sketch.table();
        assert_eq!((table.calls, table.rows.len()), (calls, ROWS_MAX));
        for row in &table.rows[..8] {
            assert!(row.name.starts_with("loud"), "{}", row.name);
            let true_count = exact[&row.name];
            assert!((true_count..=true_count + row.error).contains(&row.calls));
        }
        // Metwally's bound.
        let error_max = sketch
            .counters
            .values()
            .map(|counter| counter.error)
            .max()
            .unwrap();
        assert!(error_max <= calls / COUNTERS_MAX as u64);
    }
}

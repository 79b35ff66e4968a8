//! The order of a list that was merged: what the patch names stands as the patch has it, what only the server knows keeps
//! its place among the rest as far as both can be had.

use std::collections::HashMap;

use serde_json::Value;

/// By what entries of a list are told apart: by themselves, or by the value of a field.
#[derive(Clone, Copy)]
pub(super) struct Key<'a>(pub(super) Option<&'a str>);

impl Key<'_> {
    /// The key of an entry, if it has one.
    pub(super) fn of(self, entry: &Value) -> Option<String> {
        match self.0 {
            None => Some(entry.to_string()),
            Some(field) => entry.get(field).map(Value::to_string),
        }
    }
}

/// Places of keys; the first of several entries of one key counts.
pub(super) struct Places(HashMap<String, usize>);

impl Places {
    pub(super) fn of(entries: &[Value], key: Key<'_>) -> Self {
        let mut places = HashMap::with_capacity(entries.len());
        for (place, entry) in entries.iter().enumerate() {
            if let Some(key) = key.of(entry) {
                places.entry(key).or_insert(place);
            }
        }
        Places(places)
    }

    pub(super) fn get(&self, key: Option<&String>) -> Option<usize> {
        self.0.get(key?).copied()
    }

    pub(super) fn add(&mut self, key: String, place: usize) {
        self.0.entry(key).or_insert(place);
    }
}

/// Puts merged entries in order: those in `wanted` as they stand there, the others as they stood in `original`; where one of
/// each could come next, the other one does only if both stood in the original and it stood before.
pub(super) fn arrange(merged: Vec<Value>, wanted: &[Value], original: &[Value], key: Key<'_>) -> Vec<Value> {
    let wanted = Places::of(wanted, key);
    let original = Places::of(original, key);
    let mut named: Vec<(usize, Option<usize>, Value)> = Vec::new();
    let mut others: Vec<(Option<usize>, Value)> = Vec::new();
    for entry in merged {
        let own = key.of(&entry);
        let stood = original.get(own.as_ref());
        match wanted.get(own.as_ref()) {
            Some(place) => named.push((place, stood, entry)),
            None => others.push((stood, entry)),
        }
    }
    named.sort_by_key(|(place, ..)| *place);
    others.sort_by_key(|(stood, _)| stood.unwrap_or(usize::MAX));
    let mut arranged = Vec::with_capacity(named.len() + others.len());
    let mut others = others.into_iter().peekable();
    for (_, named_stood, entry) in named {
        let is_before = |(stood, _): &(Option<usize>, Value)| {
            stood.zip(named_stood).is_some_and(|(one, other)| one < other)
        };
        while let Some((_, other)) = others.next_if(is_before) {
            arranged.push(other);
        }
        arranged.push(entry);
    }
    arranged.extend(others.map(|(_, entry)| entry));
    arranged
}

//! The state and its history: every version of every key, kept in plain lists.
//!
//! Invariants: a key's versions ascend by (main, sub); no version lies beyond `revision`, except while a [`Writer`]
//! is at work; a live key's lease is 0 or granted.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use proto::mvccpb::{Event, KeyValue, event::EventType};

/// What a put left of a key.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Put {
    pub(crate) value: Bytes,
    pub(crate) create_revision: i64,
    pub(crate) version: i64,
    pub(crate) lease: i64,
}

/// One change of one key; without a put it is a tombstone.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Version {
    pub(crate) main: i64,
    pub(crate) sub: i64,
    pub(crate) put: Option<Put>,
}

/// The replicated state.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct State {
    pub(crate) revision: i64,
    pub(crate) compacted: i64,
    pub(crate) keys: BTreeMap<Bytes, Vec<Version>>,
    /// Lease id to granted TTL. Which keys a lease has is told by the keys.
    pub(crate) leases: BTreeMap<i64, i64>,
}

impl State {
    pub(crate) const fn new() -> Self {
        State {
            revision: 1,
            compacted: -1,
            keys: BTreeMap::new(),
            leases: BTreeMap::new(),
        }
    }

    /// The key as it stood at a main revision, after all of that revision's changes.
    pub(crate) fn get(&self, key: &[u8], at: i64) -> Option<KeyValue> {
        let versions = self.keys.get(key)?;
        live(key, versions, at)
    }

    /// The live keys of a range at a main revision, in key order.
    pub(crate) fn scan(&self, key: &[u8], range_end: &[u8], at: i64) -> Vec<KeyValue> {
        self.keys
            .range::<[u8], _>((Bound::Included(key), Bound::Unbounded))
            .take_while(|(found, _)| in_range(key, range_end, found))
            .filter_map(|(found, versions)| live(found, versions, at))
            .collect()
    }

    /// The keys that a lease has, in key order.
    pub(crate) fn keys_of_lease(&self, id: i64) -> Vec<Bytes> {
        self.keys
            .iter()
            .filter(|(_, versions)| {
                let put = versions.last().and_then(|version| version.put.as_ref());
                put.is_some_and(|put| put.lease == id)
            })
            .map(|(key, _)| key.clone())
            .collect()
    }

    /// The event of one version of a key. Its `prev_kv` is the key at the revision before, as far as it is kept.
    pub(crate) fn event(&self, key: &Bytes, version: &Version) -> Event {
        let kv = key_value(key, version).unwrap_or_else(|| KeyValue {
            key: key.clone(),
            mod_revision: version.main,
            ..KeyValue::default()
        });
        let kind = if version.put.is_some() {
            EventType::Put
        } else {
            EventType::Delete
        };
        Event {
            r#type: kind.into(),
            kv: Some(kv),
            prev_kv: self.get(key, version.main - 1),
        }
    }

    /// All kept changes of a range from a main revision on, by (main, sub).
    pub(crate) fn events(&self, key: &[u8], range_end: &[u8], from: i64) -> Vec<Event> {
        let mut found: Vec<(&Bytes, &Version)> = self
            .keys
            .iter()
            .filter(|(found, _)| in_range(key, range_end, found))
            .flat_map(|(key, versions)| versions.iter().map(move |version| (key, version)))
            .filter(|(_, version)| version.main >= from)
            .collect();
        found.sort_by_key(|(_, version)| (version.main, version.sub));
        found
            .into_iter()
            .map(|(key, version)| self.event(key, version))
            .collect()
    }

    /// Forgets what no read at or after `at` can see. A tombstone of exactly that revision stays, because a watch
    /// that starts there is still owed it.
    pub(crate) fn compact(&mut self, at: i64) {
        self.compacted = at;
        for versions in self.keys.values_mut() {
            let kept = versions.iter().rposition(|version| version.main <= at);
            if let Some(kept) = kept {
                let newest = &versions[kept];
                let needed = newest.put.is_some() || newest.main == at;
                versions.drain(..kept + usize::from(!needed));
            }
        }
        self.keys.retain(|_, versions| !versions.is_empty());
    }

    /// Takes the changes of the newest main revision back.
    pub(crate) fn undo(&mut self, events: &[Event]) {
        let main = self.revision;
        for key in events
            .iter()
            .filter_map(|event| event.kv.as_ref())
            .map(|kv| &kv.key)
        {
            if let Some(versions) = self.keys.get_mut(key) {
                versions.retain(|version| version.main < main);
                if versions.is_empty() {
                    self.keys.remove(key);
                }
            }
        }
        if !events.is_empty() {
            self.revision -= 1;
        }
    }
}

/// The changes of one request: at most one new main revision.
#[derive(Debug)]
pub(crate) struct Writer<'a> {
    pub(crate) state: &'a mut State,
    main: i64,
    changed: Vec<(Bytes, Version)>,
}

impl<'a> Writer<'a> {
    pub(crate) const fn new(state: &'a mut State) -> Self {
        let main = state.revision + 1;
        Writer {
            state,
            main,
            changed: Vec::new(),
        }
    }

    /// The revision that a read of this request stands at: the new one as soon as something changed.
    pub(crate) const fn revision(&self) -> i64 {
        if self.changed.is_empty() {
            self.state.revision
        } else {
            self.main
        }
    }

    pub(crate) fn put(&mut self, key: &Bytes, value: Bytes, lease: i64) {
        let old = self.state.get(key, self.main);
        let create_revision = old.as_ref().map_or(self.main, |old| old.create_revision);
        let version = old.map_or(0, |old| old.version) + 1;
        self.push(
            key,
            Some(Put {
                value,
                create_revision,
                version,
                lease,
            }),
        );
    }

    pub(crate) fn delete(&mut self, key: &Bytes) {
        self.push(key, None);
    }

    /// Ends the request; its events, with the state before it as `prev_kv`.
    pub(crate) fn finish(self) -> Vec<Event> {
        self.state.revision = self.revision();
        self.changed
            .iter()
            .map(|(key, version)| self.state.event(key, version))
            .collect()
    }

    fn push(&mut self, key: &Bytes, put: Option<Put>) {
        let sub = i64::try_from(self.changed.len()).expect("a request has fewer than 2^63 changes");
        let version = Version {
            main: self.main,
            sub,
            put,
        };
        self.state
            .keys
            .entry(key.clone())
            .or_default()
            .push(version.clone());
        self.changed.push((key.clone(), version));
    }
}

/// Whether a key lies in the range of a request.
#[must_use]
pub fn in_range(key: &[u8], range_end: &[u8], candidate: &[u8]) -> bool {
    match range_end {
        [] => candidate == key,
        [0] => candidate >= key,
        end => candidate >= key && candidate < end,
    }
}

fn live(key: &[u8], versions: &[Version], at: i64) -> Option<KeyValue> {
    let newest = versions.iter().rev().find(|version| version.main <= at)?;
    key_value(&Bytes::copy_from_slice(key), newest)
}

fn key_value(key: &Bytes, version: &Version) -> Option<KeyValue> {
    version.put.as_ref().map(|put| KeyValue {
        key: key.clone(),
        create_revision: put.create_revision,
        mod_revision: version.main,
        version: put.version,
        value: put.value.clone(),
        lease: put.lease,
    })
}

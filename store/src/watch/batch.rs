//! Responses: whole revisions gathered for one watcher, and fragments of what became too large.

use prost::Message as _;
use prost::length_delimiter_len;
use proto::etcdserverpb::{ResponseHeader, WatchResponse};
use proto::mvccpb::Event;

use super::watcher::Watcher;
use crate::types::SharedRevision;

/// The events of one catch-up response. A revision is in it whole or not at all.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) events: Vec<Event>,
    revisions: usize,
    newest: i64,
    /// The first revision with events that found no place.
    pub(super) left_from: Option<i64>,
}

impl Batch {
    /// Adds change number `at` of a revision if the watcher wants it. Changes come in order.
    pub(super) fn add(&mut self, watcher: &Watcher, revision: &SharedRevision, at: usize, limits: &Limits) {
        let main = revision.main;
        if self.left_from.is_some() || main < watcher.next || !watcher.wants(&revision.changes[at]) {
            return;
        }
        if main != self.newest {
            if self.revisions == limits.revisions_max {
                self.left_from = Some(main);
                return;
            }
            self.revisions += 1;
            self.newest = main;
        }
        // The state before the compacted revision is gone, even where memory still has it.
        let with_previous = watcher.prev_kv && main > limits.compacted;
        self.events.push(revision.event(at, with_previous));
    }
}

/// What bounds a batch.
pub(super) struct Limits {
    pub(super) revisions_max: usize,
    pub(super) compacted: i64,
}

/// A response with only header and watcher set.
pub(super) fn response(revision: i64, watch_id: i64) -> WatchResponse {
    let header = Some(ResponseHeader {
        revision,
        ..ResponseHeader::default()
    });
    WatchResponse {
        header,
        watch_id,
        ..WatchResponse::default()
    }
}

/// Splits a response by events so that each part stays below `bytes_max` where it can; all parts but the last are
/// marked. A response with fewer than two events, or below the limit, is its own only part.
pub(super) fn fragments(mut response: WatchResponse, bytes_max: usize) -> Vec<WatchResponse> {
    let events = std::mem::take(&mut response.events);
    response.fragment = true;
    let frame = response.encoded_len() + HEADER_RESERVE_BYTES;
    let sizes: Vec<usize> = events.iter().map(field_len).collect();
    let whole = frame + sizes.iter().sum::<usize>();
    if events.len() < 2 || whole < bytes_max {
        return vec![WatchResponse {
            events,
            fragment: false,
            ..response
        }];
    }
    let mut parts = vec![response.clone()];
    let mut part_bytes = frame;
    for (event, size) in events.into_iter().zip(sizes) {
        let last = parts.len() - 1;
        if !parts[last].events.is_empty() && part_bytes + size >= bytes_max {
            parts.push(WatchResponse {
                events: vec![event],
                ..response.clone()
            });
            part_bytes = frame + size;
        } else {
            parts[last].events.push(event);
            part_bytes += size;
        }
    }
    if let Some(last) = parts.last_mut() {
        last.fragment = false;
    }
    parts
}

/// Bytes of an event as a field of a response: its tag takes one byte.
fn field_len(event: &Event) -> usize {
    let len = event.encoded_len();
    1 + length_delimiter_len(len) + len
}

/// The header's ids and term, which are filled in later: three tags and three longest integers.
const HEADER_RESERVE_BYTES: usize = 3 * (1 + 10);

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proto::mvccpb::KeyValue;

    use super::*;

    fn with_events(count: usize, value_bytes: usize) -> WatchResponse {
        let kv = |n: usize| KeyValue {
            key: Bytes::from(format!("k{n}")),
            value: Bytes::from(vec![b'v'; value_bytes]),
            ..KeyValue::default()
        };
        let events = (0..count)
            .map(|n| Event {
                kv: Some(kv(n)),
                ..Event::default()
            })
            .collect();
        WatchResponse {
            events,
            ..response(9, 4)
        }
    }

    #[test]
    fn parts_are_below_the_limit_and_keep_every_event() {
        let whole = with_events(10, 100);
        let parts = fragments(whole.clone(), 400);
        assert!(parts.len() > 2, "{} parts", parts.len());
        let (last, others) = parts.split_last().expect("parts");
        assert!(!last.fragment && others.iter().all(|part| part.fragment));
        for part in &parts {
            assert!(
                part.encoded_len() + HEADER_RESERVE_BYTES < 400,
                "{} bytes",
                part.encoded_len()
            );
            assert_eq!((part.watch_id, &part.header), (4, &whole.header));
        }
        let events: Vec<Event> = parts.into_iter().flat_map(|part| part.events).collect();
        assert_eq!(events, whole.events);
    }

    #[test]
    fn an_event_larger_than_the_limit_is_a_part_of_its_own() {
        let parts = fragments(with_events(3, 1000), 400);
        assert_eq!(
            parts.iter().map(|part| part.events.len()).collect::<Vec<_>>(),
            [1, 1, 1]
        );
        assert_eq!(fragments(with_events(1, 1000), 400), [with_events(1, 1000)]);
        assert_eq!(fragments(with_events(3, 10), 400), [with_events(3, 10)]);
    }

    #[test]
    fn the_limit_itself_splits() {
        let whole = with_events(2, 100);
        // The mark of a fragment takes two bytes and is counted.
        let bytes = whole.encoded_len() + 2 + HEADER_RESERVE_BYTES;
        assert_eq!(fragments(whole.clone(), bytes + 1).len(), 1);
        assert_eq!(fragments(whole, bytes).len(), 2);
    }
}

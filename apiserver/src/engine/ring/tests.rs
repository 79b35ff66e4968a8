use proptest::prelude::*;
use proto::mvccpb::KeyValue;

use super::*;
use crate::resources::find;

fn pods() -> &'static Resource {
    find("", "v1", "pods").unwrap()
}

fn kv(key: &str, created: i64, revision: i64, app: &str) -> KeyValue {
    KeyValue {
        key: key.to_owned().into(),
        create_revision: created,
        mod_revision: revision,
        value: format!(r#"{{"metadata":{{"labels":{{"app":"{app}"}}}}}}"#).into(),
        ..KeyValue::default()
    }
}

fn put(key: &str, revision: i64) -> Entry {
    let change = Change {
        kv: kv(key, revision, revision, "a"),
        before: None,
        deleted: false,
    };
    Entry::of(pods(), &change, None)
}

fn seen(change: &Change, selector: &str) -> Result<Option<(Seen, Arc<Item>)>, Status> {
    let labels = Labels::parse(selector).unwrap();
    Entry::of(pods(), change, None).seen(&labels, &Fields::everything())
}

#[test]
fn who_enters_or_leaves_a_selector_is_added_or_deleted() {
    let change = |before: Option<&str>, now: Option<&str>| Change {
        kv: kv(
            "k",
            if before.is_some() { 3 } else { 9 },
            9,
            now.unwrap_or_default(),
        ),
        before: before.map(|app| kv("k", 3, 5, app)),
        deleted: now.is_none(),
    };
    for (before, now, expected) in [
        (None, Some("a"), Some(Seen::Added)),
        (None, Some("b"), None),
        (Some("a"), Some("a"), Some(Seen::Modified)),
        (Some("b"), Some("a"), Some(Seen::Added)),
        (Some("a"), Some("b"), Some(Seen::Deleted)),
        (Some("b"), Some("b"), None),
        (Some("a"), None, Some(Seen::Deleted)),
        (Some("b"), None, None),
    ] {
        let found = seen(&change(before, now), "app=a").unwrap();
        assert_eq!(
            found.as_ref().map(|(seen, _)| *seen),
            expected,
            "{before:?} {now:?}"
        );
        let Some((_, item)) = found else { continue };
        // Of one that is seen no more, the last that was seen of it, at the revision of the change.
        assert_eq!(item.revision(), 9);
        let object = item.object().unwrap();
        assert_eq!(object["metadata"]["labels"]["app"], "a");
        assert_eq!(object["metadata"]["resourceVersion"], "9");
    }
}

#[test]
fn what_it_was_before_may_be_compacted() {
    let mut change = Change {
        kv: kv("k", 3, 9, "a"),
        before: None,
        deleted: false,
    };
    assert_eq!(seen(&change, "").unwrap().unwrap().0, Seen::Modified);
    assert_eq!(seen(&change, "app=a").unwrap_err().code, 410);
    change.deleted = true;
    change.kv.create_revision = 0;
    assert_eq!(seen(&change, "").unwrap_err().code, 410);
}

#[test]
fn an_object_is_shared_with_the_change_before() {
    let mut ring = Ring::after(1, 10, 10_000);
    ring.push(vec![put("a", 2), put("b", 2)]);
    let known = ring.known(b"b", 2).unwrap();
    let change = Change {
        kv: kv("b", 2, 3, "b"),
        before: Some(kv("b", 2, 2, "a")),
        deleted: false,
    };
    ring.push(vec![Entry::of(pods(), &change, Some(Arc::clone(&known)))]);
    assert!(ring.known(b"b", 3).is_some());
    assert!(ring.known(b"c", 2).is_none());
    assert!(ring.known(b"a", 3).is_none());
    assert_eq!(Arc::strong_count(&known), 3);
}

#[test]
fn a_ring_that_is_full_of_bytes_forgets() {
    let one = put("k", 2).bytes;
    let mut ring = Ring::after(1, 100, one * 3);
    for revision in 2..10 {
        ring.push(vec![put("k", revision)]);
    }
    assert_eq!(
        (ring.base(), ring.head(), ring.entries.len(), ring.bytes),
        (6, 9, 3, one * 3)
    );
    let huge = Change {
        kv: kv("k", 2, 10, &"x".repeat(one * 4)),
        before: None,
        deleted: false,
    };
    ring.push(vec![Entry::of(pods(), &huge, None)]);
    assert_eq!((ring.base(), ring.bytes), (10, 0));
    assert!(ring.join(9).is_none());
    assert!(ring.join(10).is_some());
}

#[derive(Clone, Debug)]
enum Step {
    /// Changes of so many keys at each of some revisions.
    Push(Vec<usize>),
    Repeat,
    Progress(i64),
    Join(i64),
    Read(usize),
}

/// Its place, from where on it reads, and what it has read.
type Reader = (Cursor, i64, Vec<(i64, String)>);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => proptest::collection::vec(0..3_usize, 1..4).prop_map(Step::Push),
        1 => Just(Step::Repeat),
        1 => (0..3_i64).prop_map(Step::Progress),
        2 => (-8..3_i64).prop_map(Step::Join),
        3 => (0..9_usize).prop_map(Step::Read),
    ];
    proptest::collection::vec(step, 1..60)
}

proptest! {
    /// Whatever is pushed, repeated and pushed out: a reader sees every change behind its revision once and in order, or
    /// learns that it missed some.
    #[test]
    fn readers_see_all_or_know_that_they_do_not(steps in steps()) {
        let mut ring = Ring::after(0, 6, 1_000_000);
        let mut all: Vec<(i64, String)> = Vec::new();
        let (mut newest, mut last) = (0, Vec::new());
        let mut reader: Option<Reader> = None;
        for step in steps {
            match step {
                Step::Push(keys) => {
                    last = Vec::new();
                    for count in keys {
                        newest += 1;
                        last.extend((0..count).map(|key| (newest, format!("{key}"))));
                    }
                    all.extend(last.iter().cloned());
                    ring.push(last.iter().map(|(revision, key)| put(key, *revision)).collect());
                }
                Step::Repeat => ring.push(last.iter().map(|(revision, key)| put(key, *revision)).collect()),
                Step::Progress(further) => {
                    newest += further;
                    ring.reach(newest);
                }
                Step::Join(from) => {
                    let after = (newest + from).max(0);
                    reader = ring.join(after).map(|cursor| (cursor, after, Vec::new()));
                    prop_assert_eq!(reader.is_some(), after >= ring.base());
                }
                Step::Read(count) => {
                    let Some((mut cursor, after, mut got)) = reader.take() else { continue };
                    let mut overtaken = false;
                    for _ in 0..count {
                        match ring.read(&mut cursor, "") {
                            Read::Change(entry) => got.push((entry.revision, entry.key.to_string())),
                            Read::UpTo(head) => {
                                let expected: Vec<_> =
                                    all.iter().filter(|(revision, _)| *revision > after).cloned().collect();
                                prop_assert_eq!(&got, &expected);
                                prop_assert!(head >= expected.last().map_or(0, |(revision, _)| *revision));
                                break;
                            }
                            Read::Overtaken(_) => overtaken = true,
                        }
                    }
                    let expected = all.iter().filter(|(revision, _)| *revision > after);
                    prop_assert!(got.iter().eq(expected.take(got.len())));
                    if !overtaken {
                        reader = Some((cursor, after, got));
                    }
                }
            }
        }
    }
}

//! What becomes of a member whose files are damaged at rest, one at a time: for each file that it writes, a bit flipped,
//! the file cut short, the file removed; then a start. Either nothing is lost, or the start is refused with a line that
//! names the file and the way back; and putting the file back is one. Writes the table of `docs/damage.md`, and fails
//! where that page says something else (`REGENERATE=1` writes the page).

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use proto::etcdserverpb::alarm_request::AlarmAction;
use proto::etcdserverpb::{
    AlarmRequest, AlarmType, CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, PutRequest,
    RangeRequest,
};
use store::env::real::RealDisk;
use store::shell::{Verdict, verify};
use store::types::Index;
use store::wal::snapshot::newest_valid;
use store::{Settings, Store};

const PATIENCE: Duration = Duration::from_secs(30);

/// All that a client can see.
#[derive(Debug, PartialEq)]
struct Visible {
    hash: (u32, i64, i64),
    kvs: Vec<proto::mvccpb::KeyValue>,
    leases: Vec<(i64, i64)>,
    members: Vec<proto::etcdserverpb::Member>,
    alarms: Vec<proto::etcdserverpb::AlarmMember>,
}

/// Small files, so that there are many of them.
fn settings(dir: &Path) -> Settings {
    let mut settings = Settings::new(dir);
    settings.limits.wal_segment_bytes = 64 << 10;
    settings.limits.checkpoint_interval = Duration::from_millis(50);
    settings
}

async fn ready(store: Store) -> Store {
    let waited = tokio::time::timeout(PATIENCE, store.ready());
    if let Err(error) = waited.await.expect("a single member leads soon") {
        panic!("{error}: {}", store.failed().await);
    }
    store
}

async fn look(store: &Store) -> Visible {
    let hash = store.hash_kv(0).await.unwrap();
    let everything = RangeRequest {
        key: vec![0].into(),
        range_end: vec![0].into(),
        ..Default::default()
    };
    let mut leases = Vec::new();
    for lease in store.lease_leases().await.unwrap().leases {
        let asked = proto::etcdserverpb::LeaseTimeToLiveRequest {
            id: lease.id,
            keys: true,
        };
        let answer = store.lease_time_to_live(asked).await.unwrap();
        leases.push((lease.id, answer.granted_ttl));
    }
    leases.sort_unstable();
    let alarms = AlarmRequest {
        action: AlarmAction::Get.into(),
        ..Default::default()
    };
    Visible {
        hash: (hash.hash, hash.compact_revision, hash.hash_revision),
        kvs: store.range(everything).await.unwrap().kvs,
        leases,
        members: store.member_list(true).await.unwrap().members,
        alarms: store.alarm(alarms).await.unwrap().alarms,
    }
}

/// A member that has seen everything: several segments, spare ones, a snapshot file, a working copy, leases, an alarm.
async fn fill(dir: &Path) -> Visible {
    let mut often = settings(dir);
    often.limits.snapshot_log_bytes = 192 << 10;
    let store = ready(Store::open(often).await.unwrap()).await;
    let lease = LeaseGrantRequest { ttl: 86_400, id: 77 };
    store.lease_grant(lease).await.unwrap();
    let snap = dir.join("member/snap");
    let began = Instant::now();
    let mut round = 0;
    while newest_snapshot(&snap) == Index(0) {
        assert!(began.elapsed() < PATIENCE, "no snapshot file after {round} puts");
        write_some(&store, round).await;
        round += 100;
    }
    store.stop().await;
    drop(store);
    // Behind the snapshot several segments of log, as no other one is due.
    let store = ready(Store::open(settings(dir)).await.unwrap()).await;
    write_some(&store, round).await;
    write_some(&store, round + 100).await;
    let delete = DeleteRangeRequest {
        key: "k3".into(),
        ..Default::default()
    };
    store.delete_range(delete).await.unwrap();
    let alarm = AlarmRequest {
        action: AlarmAction::Activate.into(),
        member_id: 7,
        alarm: AlarmType::Nospace.into(),
    };
    store.alarm(alarm).await.unwrap();
    let visible = look(&store).await;
    assert!(visible.kvs.len() > 30 && visible.alarms.len() == 1, "{visible:?}");
    store.stop().await;
    // One made in advance is there only for moments.
    fs::write(dir.join("member/wal/0000000000000fff.spare"), vec![0; 64 << 10]).unwrap();
    visible
}

/// A hundred puts and a compaction.
async fn write_some(store: &Store, from: u32) {
    let mut last = 0;
    for round in from..from + 100 {
        let put = PutRequest {
            key: format!("k{}", round % 40).into(),
            value: noise(round, 2000).into(),
            lease: if round.is_multiple_of(7) { 77 } else { 0 },
            ..Default::default()
        };
        last = store.put(put).await.unwrap().header.unwrap().revision;
    }
    let compaction = CompactionRequest {
        revision: last - 30,
        physical: true,
    };
    store.compact(compaction).await.unwrap();
}

/// Bytes that no compression shortens.
fn noise(seed: u32, len: usize) -> Vec<u8> {
    let mut state = u64::from(seed) + 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..len).map(|_| next()).collect()
}

fn newest_snapshot(snap: &Path) -> Index {
    let found = newest_valid(&RealDisk, snap).unwrap();
    found.reader.map_or(Index(0), |reader| reader.meta().index)
}

/// What is done to a file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Damage {
    Flip(Place),
    Cut(Place),
    Remove,
}

/// Where in a file, as far as it is in use.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Place {
    Start,
    Middle,
    End,
}

impl Damage {
    const ALL: [Damage; 7] = [
        Damage::Flip(Place::Start),
        Damage::Flip(Place::Middle),
        Damage::Flip(Place::End),
        Damage::Cut(Place::Start),
        Damage::Cut(Place::Middle),
        Damage::Cut(Place::End),
        Damage::Remove,
    ];

    fn text(self) -> &'static str {
        match self {
            Damage::Flip(Place::Start) => "a bit flipped in its head",
            Damage::Flip(Place::Middle) => "a bit flipped in its midst",
            Damage::Flip(Place::End) => "a bit flipped in the last of its data",
            Damage::Cut(Place::Start) => "cut to nothing",
            Damage::Cut(Place::Middle) => "cut in half",
            Damage::Cut(Place::End) => "the last of its data cut off",
            Damage::Remove => "removed",
        }
    }

    /// Does it to a file of which `used` bytes mean something; false where that changes nothing.
    fn apply(self, path: &Path, used: u64) -> bool {
        let at = |place| match place {
            Place::Start => 3.min(used - 1),
            Place::Middle => used / 2,
            Place::End => used.saturating_sub(12),
        };
        if used == 0 && self != Damage::Remove {
            return false;
        }
        match self {
            Damage::Flip(place) => {
                let mut bytes = fs::read(path).unwrap();
                let at = usize::try_from(at(place)).unwrap();
                bytes[at] ^= 0x20;
                fs::write(path, bytes).unwrap();
            }
            Damage::Cut(place) => {
                let keep = if place == Place::Start { 0 } else { at(place) };
                fs::File::options()
                    .write(true)
                    .open(path)
                    .unwrap()
                    .set_len(keep)
                    .unwrap();
            }
            Damage::Remove => fs::remove_file(path).unwrap(),
        }
        true
    }
}

/// The files of a member, by what they are; and how much of each means something.
fn files(dir: &Path) -> BTreeMap<String, (PathBuf, u64)> {
    let member = dir.join("member");
    let config = store::wal::Config::default();
    let log = store::wal::check(&RealDisk, &member.join("wal"), &config, &mut |_| {}).unwrap();
    let mut found = BTreeMap::new();
    let begun: Vec<(PathBuf, u64)> = log
        .segments
        .into_iter()
        .filter_map(|segment| {
            let content = segment.outcome.unwrap();
            (content.bytes > 512).then_some((segment.path, content.bytes))
        })
        .collect();
    assert!(begun.len() >= 3, "{begun:?}");
    let (oldest, middle, newest) = (0, begun.len() / 2, begun.len() - 1);
    for (name, at) in [
        ("member/wal/*.wal, the oldest", oldest),
        ("member/wal/*.wal, one between", middle),
        ("member/wal/*.wal, the newest", newest),
    ] {
        found.insert(name.to_owned(), begun[at].clone());
    }
    let mut folders = vec![member];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let below = path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned();
            if path.is_dir() {
                if !below.contains("sled.damaged") {
                    folders.push(path);
                }
                continue;
            }
            let name = match below.rsplit_once('/') {
                Some((folder, file)) if folder.ends_with("/wal") || folder.ends_with("/snap") => {
                    let (_, kind) = file.split_once('.').unwrap();
                    format!("{folder}/*.{kind}")
                }
                Some((folder, _)) if folder.ends_with("/slabs") => format!("{folder}/*"),
                // Numbered in hexadecimal.
                Some((folder, file)) if folder.ends_with("/metadata") && !file.starts_with("DO") => {
                    let (kind, _) = file.split_once('_').unwrap();
                    format!("{folder}/{kind}_*")
                }
                _ => below.clone(),
            };
            if name == "member/wal/*.wal" {
                continue;
            }
            let used = match name.as_str() {
                // Two slots, one after the other: the one written last is what counts.
                "member/log.end" => 64,
                _ => fs::metadata(&path).unwrap().len(),
            };
            // Of several of a kind the largest.
            let larger = found.get(&name).is_none_or(|(_, before)| *before < used);
            if larger {
                found.insert(name, (path, used));
            }
        }
    }
    found
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Clone)]
struct Row {
    file: String,
    damage: Damage,
    check: &'static str,
    outcome: String,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_file_damaged_in_every_way() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("data");
    let before = fill(&dir).await;
    let pristine = root.path().join("pristine");
    copy_dir(&dir, &pristine);
    let mut rows = Vec::new();
    let files = files(&dir);
    for (name, (path, used)) in &files {
        for damage in Damage::ALL {
            fs::remove_dir_all(&dir).unwrap();
            copy_dir(&pristine, &dir);
            let original = fs::read(path).unwrap();
            if !damage.apply(path, *used) {
                continue;
            }
            let check = match verdict(&dir, root.path()) {
                // Where in its files sled keeps something is not for others to know.
                _ if name.starts_with("member/sled/") => "as the place is in use",
                verdict => verdict,
            };
            let case = format!("{name}: {}", damage.text());
            println!("{case}");
            let outcome = start(&dir, path, &original, &before, &case).await;
            rows.push(Row {
                file: name.clone(),
                damage,
                check,
                outcome,
            });
        }
    }
    // Nothing is silent: whatever keeps the member from starting is found at rest, too.
    for row in &rows {
        assert!(row.outcome == NOTHING_LOST || row.check == "damaged", "{row:?}");
    }
    publish(&rows);
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_dir(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

/// What `debug check` says of the whole folder.
fn verdict(dir: &Path, scratch: &Path) -> &'static str {
    let findings = verify(dir, None, scratch).unwrap();
    let damaged = |verdict: &Verdict| matches!(verdict, Verdict::Damaged { .. } | Verdict::Unchecked(_));
    let torn = |verdict: &Verdict| matches!(verdict, Verdict::TornTail { .. });
    if findings.iter().any(|finding| damaged(&finding.verdict)) {
        "damaged"
    } else if findings.iter().any(|finding| torn(&finding.verdict)) {
        "torn tail"
    } else {
        "ok"
    }
}

/// Starts the member on damaged data, and leaves it at rest with whole ones.
async fn start(dir: &Path, damaged: &Path, original: &[u8], before: &Visible, case: &str) -> String {
    let error = match Store::open(settings(dir)).await {
        Ok(store) => {
            let store = ready(store).await;
            assert_eq!(look(&store).await, *before, "{case}");
            // The look at the snapshot file and the log goes on behind.
            let began = Instant::now();
            while !is_mended(dir) {
                assert!(
                    began.elapsed() < PATIENCE,
                    "{case}: the snapshot file is not written anew"
                );
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            store.stop().await;
            drop(store);
            assert_eq!(
                verdict(dir, dir.parent().unwrap()),
                "ok",
                "{case}: what was healed is whole"
            );
            return NOTHING_LOST.to_owned();
        }
        Err(error) => error.to_string(),
    };
    let name = damaged.file_name().unwrap().to_str().unwrap();
    assert!(
        error.contains(name),
        "{case}: the refusal does not name {name}: {error}"
    );
    assert!(
        error.contains("put the file back") || error.contains("restored from a snapshot"),
        "{case}: no way back in: {error}"
    );
    // Nothing was changed: with the file put back, it is as before.
    fs::write(damaged, original).unwrap();
    let store = ready(
        Store::open(settings(dir))
            .await
            .unwrap_or_else(|error| panic!("{case}, put back: {error}")),
    )
    .await;
    assert_eq!(look(&store).await, *before, "{case}, put back");
    store.stop().await;
    "the start is refused; the line names the file, the byte where it is known, and the way back".to_owned()
}

/// Whether snapshot and log are whole, as far as they are at rest while the member runs.
fn is_mended(dir: &Path) -> bool {
    let snapshot = newest_valid(&RealDisk, &dir.join("member/snap")).unwrap();
    let (wal, config) = (dir.join("member/wal"), store::wal::Config::default());
    let Ok(log) = store::wal::check(&RealDisk, &wal, &config, &mut |_| {}) else {
        // A segment went meanwhile.
        return false;
    };
    let leads_on = |index| log.range.is_some_and(|range| range.before <= index);
    let snapshot_leads_on = snapshot
        .reader
        .is_some_and(|reader| leads_on(reader.meta().index));
    snapshot_leads_on && snapshot.damaged.is_empty() && log.at_rest().count() == 0
}

const NOTHING_LOST: &str = "nothing is lost: the member starts with all its data";

/// Compares the page with what was seen.
fn publish(rows: &[Row]) {
    let mut table =
        String::from("| file | damage | `debug check` says | outcome |\n| --- | --- | --- | --- |\n");
    for row in rows {
        table += &format!(
            "| `{}` | {} | {} | {} |\n",
            row.file,
            row.damage.text(),
            row.check,
            row.outcome
        );
    }
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("damage_table.md");
    fs::write(target, &table).unwrap();
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/damage.md");
    let text = fs::read_to_string(&page).unwrap_or_default();
    let (head, rest) = text.split_once(BEGIN).unwrap_or((&text, END));
    let (_, tail) = rest.split_once(END).unwrap_or(("", ""));
    let now = format!("{head}{BEGIN}\n{table}{END}{tail}");
    if std::env::var_os("REGENERATE").is_some() {
        fs::write(&page, &now).unwrap();
    }
    let text = fs::read_to_string(&page).unwrap_or_default();
    assert!(
        text == now,
        "docs/damage.md says something else than what was seen:\n{table}"
    );
}

const BEGIN: &str = "<!-- the table begins: written by store/tests/damage_table.rs -->";
const END: &str = "<!-- the table ends -->";

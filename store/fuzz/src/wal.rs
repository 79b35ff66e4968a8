//! Damage to a log: opening it is an error, or gives a beginning of what was written, as long as the mark of its end
//! says that it must be; and a log that opens goes on. Also, without checksums: no bytes bring the reader down.
//!
//! An input names how the log was written, then a list of damages: which file, where, and how.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use store::env::Disk;
use store::env::fake::FakeDisk;
use store::types::{ClusterId, Index, MemberId, Term};
use store::wal::{self, Append, Config, Entry, HardState, Metadata, Position, Replay, Wal, WalError};

use super::input::Input;

/// Damages a log and opens it.
///
/// # Panics
/// Where what comes out was never written, or what was confirmed is missing.
pub fn one_input(data: &[u8]) {
    let mut input = Input::new(data);
    let base = &bases()[usize::from(input.byte()) % BASES];
    let flags = input.byte();
    let disk = FakeDisk::new(1);
    let mut files = base.files.clone();
    for _ in 0..DAMAGES_MAX {
        if input.is_empty() {
            break;
        }
        damage(&mut files, flags, &mut input);
    }
    write(&disk, &files);
    if flags & TRUSTING == 0 {
        judge(&disk, base, &files);
    } else {
        // Whatever it says of such bytes, it says it.
        let _ = read_only(&disk, base.from, false);
    }
}

/// A log and what was written to it.
struct Base {
    files: Vec<(PathBuf, Vec<u8>)>,
    /// Every entry ever appended, in order; later ones replace those of the same index.
    appended: Vec<Append>,
    /// The number of appends that the mark covers.
    marked: usize,
    /// The first entry that a member would want, beside its snapshot.
    from: Index,
}

/// What a log holds after some appends: index to entry, and the position before the first one.
#[derive(PartialEq, Debug)]
struct Held {
    before: Position,
    entries: Vec<Entry>,
    hard_state: HardState,
}

impl Held {
    fn after(appended: &[Append]) -> Held {
        let mut held = Held {
            before: Position::default(),
            entries: Vec::new(),
            hard_state: HardState::default(),
        };
        for append in appended {
            if let Some(at) = append.restart {
                held.before = at;
                held.entries.clear();
            }
            if let Some(first) = append.entries.first() {
                held.entries.retain(|entry| entry.index < first.index);
            }
            held.entries.extend(append.entries.iter().cloned());
            held.hard_state = append.hard_state.unwrap_or(held.hard_state);
        }
        held
    }

    /// Whether this is what a replay from an index on says.
    fn is(&self, replay: &Replay, from: Index) -> bool {
        let last = self.entries.last().map_or(self.before, |entry| Position {
            index: entry.index,
            term: entry.term,
        });
        let commit = self.hard_state.commit.min(last.index);
        let hard_state = HardState {
            commit,
            ..self.hard_state
        };
        let entries = self.entries.iter().filter(|entry| entry.index >= from);
        entries.eq(&replay.entries) && (last, hard_state) == (replay.last, replay.hard_state)
    }
}

/// One change to the files: of the log, or with `ALSO_MARK` of its mark.
fn damage(files: &mut Vec<(PathBuf, Vec<u8>)>, flags: u8, input: &mut Input<'_>) {
    let (kind, which) = (input.byte(), usize::from(input.byte()));
    // The mark comes first.
    let first = usize::from(flags & ALSO_MARK == 0);
    let count = files.len() - first.min(files.len());
    if count == 0 {
        return;
    }
    let at = first + which % count;
    let offset = usize::from(input.word());
    let others = files.len();
    let bytes = &mut files[at].1;
    let offset = if bytes.is_empty() { 0 } else { offset % bytes.len() };
    match kind % 8 {
        0 if !bytes.is_empty() => bytes[offset] ^= 1 << (input.byte() & 7),
        1 => {
            let patch = input.bytes(usize::from(kind >> 3));
            let end = (offset + patch.len()).min(bytes.len());
            bytes[offset..end].copy_from_slice(&patch[..end - offset]);
        }
        2 => bytes.truncate(offset),
        3 => {
            let end = (offset + usize::from(input.word())).min(bytes.len());
            bytes[offset..end].fill(0);
        }
        4 => bytes.resize(bytes.len() + offset % 4096, input.byte()),
        5 if others > 2 => drop(files.remove(at)),
        6 => {
            // What another file holds there, as after a mistake of whoever restored a backup.
            let other = files[first + usize::from(input.byte()) % count].1.clone();
            let bytes = &mut files[at].1;
            let end = (offset + 1 + usize::from(input.word()))
                .min(bytes.len())
                .min(other.len());
            if offset < end {
                bytes[offset..end].copy_from_slice(&other[offset..end]);
            }
        }
        _ => {
            // A sector of the same file, written to another place.
            let from = usize::from(input.word()) % bytes.len().max(1);
            let len = 512.min(bytes.len() - from).min(bytes.len() - offset);
            let sector = bytes[from..from + len].to_vec();
            bytes[offset..offset + len].copy_from_slice(&sector);
        }
    }
}

fn judge(disk: &FakeDisk, base: &Base, files: &[(PathBuf, Vec<u8>)]) {
    let open = || Wal::open(Arc::new(disk.clone()), Path::new(DIR), base.from, config(true));
    let read = read_only(disk, base.from, true);
    let (mut log, replay) = match (open(), read) {
        (Ok(opened), Ok(())) => opened,
        (Err(_), Ok(())) | (Ok(_), Err(_)) => panic!("reading and opening do not agree"),
        (Err(error), Err(_)) => {
            assert!(
                files != base.files,
                "a log that nobody touched does not open: {error}"
            );
            return;
        }
    };
    assert_eq!(replay.metadata, METADATA);
    // It is what it was after some append, no earlier than the mark says.
    let whole = (0..=base.appended.len())
        .rev()
        .find(|count| Held::after(&base.appended[..*count]).is(&replay, base.from));
    let whole = whole.unwrap_or_else(|| panic!("never written: {replay:?}"));
    let mark_stands = files.first() == base.files.first();
    assert!(
        whole >= base.marked || !mark_stands,
        "{whole} appends are left of {}, and {} were confirmed",
        base.appended.len(),
        base.marked
    );
    // And it goes on, if need be from the snapshot that the member has.
    let lost = Position {
        index: Index(base.from.0 - 1),
        term: Term(98),
    };
    let restart = (replay.last.index < lost.index).then_some(lost);
    let next = Entry {
        term: Term(99),
        index: restart.unwrap_or(replay.last).index.next(),
        kind: 0,
        data: Bytes::from_static(b"goes on"),
    };
    let append = Append {
        restart,
        entries: vec![next.clone()],
        ..Append::default()
    };
    log.append(&[append]).expect("a log that opens takes an entry");
    drop(log);
    let (_, again) = open().expect("a log that was opened opens again");
    assert_eq!(again.entries.last(), Some(&next));
    assert_eq!(again.entries.len(), replay.entries.len() + 1);
}

/// Everything that reads a log without changing it.
fn read_only(disk: &FakeDisk, from: Index, verify: bool) -> Result<(), WalError> {
    let config = config(verify);
    let dir = Path::new(DIR);
    let read = wal::read(disk, dir, from, &config);
    // A later part may be whole where an earlier one is not.
    let _ = wal::read(disk, dir, Index(7), &config);
    let metadata = wal::metadata(disk, dir, &config);
    assert!(
        metadata.is_ok() || read.is_err(),
        "whose log it is cannot be told"
    );
    let walked = wal::walk(disk, dir, &config, &mut |_| true);
    // Showing begins where the log does, whatever a member wants of it, and where the second of several damages would
    // prove the first, it may meet only one.
    let elsewhere = match &read {
        Ok(replay) => replay.segments_skipped > 0,
        Err(error) => matches!(error, WalError::Gap { .. } | WalError::MissingSegment { .. }),
    };
    assert!(
        elsewhere || !verify || walked.is_ok() == read.is_ok(),
        "{walked:?} and {read:?}"
    );
    let checked = wal::check(disk, dir, &config, &mut |_| {});
    if let (true, Ok(checked), Err(WalError::Corrupt { .. })) = (verify, &checked, &read) {
        let damaged = checked.segments.iter().any(|segment| segment.outcome.is_err());
        assert!(
            damaged,
            "a corrupt log, and every segment is whole: {read:?} {checked:?}"
        );
    }
    let _ = wal::check_mark(disk, Path::new(MARK));
    read.map(drop)
}

fn config(verify: bool) -> Config {
    Config {
        segment_bytes: 4096,
        first_segment_bytes: 4096,
        salt: 7,
        mark: Some(PathBuf::from(MARK)),
        verify_checksums: verify,
        ..Config::default()
    }
}

fn write(disk: &FakeDisk, files: &[(PathBuf, Vec<u8>)]) {
    disk.create_dir(Path::new(DIR)).expect("the disk has no faults");
    for (path, bytes) in files {
        let mut file = disk.create(path).expect("the name is new");
        file.write_at(0, bytes).expect("the disk has no faults");
    }
}

/// Logs as a member leaves them.
fn bases() -> &'static [Base] {
    static MADE: OnceLock<Vec<Base>> = OnceLock::new();
    MADE.get_or_init(|| (0..BASES).map(base).collect())
}

fn base(number: usize) -> Base {
    let disk = FakeDisk::new(1);
    let mut log =
        Wal::create(Arc::new(disk.clone()), Path::new(DIR), METADATA, config(true)).expect("an empty disk");
    let appended = appends(number);
    let mut marked = 0;
    for (count, append) in appended.iter().enumerate() {
        if log.wants_segment() {
            log.prepare().expect("the disk has no faults");
        }
        log.append(std::slice::from_ref(append))
            .expect("the disk has no faults");
        if number != 2 && count == appended.len() / 2 {
            log.mark().expect("the disk has no faults");
            marked = count + 1;
        }
        if number == 3 && count == appended.len() / 3 {
            drop(log);
            let opened = Wal::open(Arc::new(disk.clone()), Path::new(DIR), Index(1), config(true));
            log = opened.expect("a whole log opens").0;
        }
    }
    drop(log);
    let dir = Path::new(DIR);
    let mut files: Vec<PathBuf> = vec![PathBuf::from(MARK)];
    let mut segments: Vec<PathBuf> = disk
        .list(dir)
        .expect("the folder is there")
        .iter()
        .map(|name| dir.join(name))
        .collect();
    segments.sort();
    files.extend(segments);
    let files = files
        .into_iter()
        .filter_map(|path| Some((path.clone(), disk.contents(&path)?)));
    Base {
        files: files.collect(),
        appended,
        marked,
        from: if number == 2 { Index(41) } else { Index(1) },
    }
}

/// What a log was told: the numbers differ in the size of entries, and whether the log's end was overwritten or the log
/// emptied.
fn appends(number: usize) -> Vec<Append> {
    let entries = |from: u64, count: u64, term| {
        let entry = |index| Entry {
            term: Term(term),
            index: Index(index),
            kind: 0,
            data: Bytes::from(vec![index as u8; 20 + 150 * number * (index as usize % 3)]),
        };
        Append {
            entries: (from..from + count).map(entry).collect(),
            hard_state: Some(HardState {
                term: Term(term),
                vote: MemberId(1),
                commit: Index(from - 1),
            }),
            restart: None,
        }
    };
    let mut appends: Vec<Append> = (0..12).map(|step| entries(1 + 2 * step, 2, 1)).collect();
    match number {
        1 => appends.extend((0..6).map(|step| entries(9 + 3 * step, 3, 2))),
        2 => {
            let at = Position {
                index: Index(40),
                term: Term(3),
            };
            appends.push(Append {
                restart: Some(at),
                ..entries(41, 2, 3)
            });
            appends.push(entries(43, 1, 3));
        }
        _ => {}
    }
    appends
}

/// One damage of each kind to each log.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for base in 0..BASES as u8 {
        seeds.push(vec![base, 0]);
        for flags in [0, ALSO_MARK, TRUSTING] {
            for kind in 0..8 {
                seeds.push(vec![
                    base,
                    flags,
                    kind | 0x40,
                    1,
                    0x40 + kind,
                    3,
                    1,
                    2,
                    3,
                    4,
                    5,
                    6,
                    7,
                    8,
                ]);
            }
        }
    }
    seeds
}

const DIR: &str = "/m/wal";
const MARK: &str = "/m/end";
const METADATA: Metadata = Metadata {
    cluster: ClusterId(0xc1),
    member: MemberId(0xa1),
};
const BASES: usize = 4;
/// Flags of an input: the mark is damaged, too; checksums count for nothing.
const ALSO_MARK: u8 = 1;
const TRUSTING: u8 = 2;
/// Damages of an input.
const DAMAGES_MAX: usize = 8;

//! Snapshot files. Damage to a whole one is noticed before the first section is handed out, whether it lies on the disk
//! or arrives from another member; and sections of any content, rightly framed, are an error or a state, never a
//! panic: the state as it is served, and the working copy that is built of it.
//!
//! The first byte of an input says which. Damages are an offset and what to put there; sections are pieces whose first
//! byte is their kind.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use prost::Message as _;
use proto::etcdserverpb::{DeleteRangeRequest, InternalRaftRequest, LeaseGrantRequest, PutRequest};
use store::apply::State;
use store::backend::MemoryBackend;
use store::env::Disk;
use store::env::fake::FakeDisk;
use store::shell::sim;
use store::types::{ClusterId, Index, MemberId, Term};
use store::wal::Metadata;
use store::wal::snapshot::{SnapshotCopy, SnapshotMeta, SnapshotReader, SnapshotWriter};

use super::input::{Input, push_piece};

/// Reads a snapshot that is damaged, or holds anything.
///
/// # Panics
/// Where it is taken for whole, or brings the reader down.
pub fn one_input(data: &[u8]) {
    let mut input = Input::new(data);
    if input.byte() & CONTENT == 0 {
        damaged(&mut input);
    } else {
        content(&mut input);
    }
}

fn damaged(input: &mut Input<'_>) {
    let whole = whole();
    let mut bytes = whole.to_vec();
    for _ in 0..DAMAGES_MAX {
        if input.is_empty() {
            break;
        }
        let (kind, offset) = (input.byte(), usize::from(input.word()));
        let offset = offset.min(bytes.len());
        match kind & 3 {
            0 if offset < bytes.len() => bytes[offset] ^= 1 << (kind >> 2 & 7),
            1 => bytes.truncate(offset),
            2 => {
                let patch = input.bytes(usize::from(kind >> 2));
                let end = (offset + patch.len()).min(bytes.len());
                bytes[offset..end].copy_from_slice(&patch[..end - offset]);
            }
            _ => {
                let tail = bytes.split_off(offset);
                bytes.extend_from_slice(input.bytes(usize::from(kind >> 2)));
                bytes.extend_from_slice(&tail);
            }
        }
    }
    let disk = FakeDisk::new(1);
    place(&disk, &bytes);
    match SnapshotReader::open(&disk, Path::new(DIR), INDEX) {
        Ok(_) => assert!(bytes == whole, "a damaged snapshot is taken for whole"),
        Err(error) => assert!(bytes != whole, "a whole snapshot is refused: {error}"),
    }
    arrives(&bytes);
}

/// The same file arrives from another member, which announces the whole one.
fn arrives(bytes: &[u8]) {
    let disk = FakeDisk::new(1);
    place(&disk, whole());
    let announced = SnapshotReader::open(&disk, Path::new(DIR), INDEX).expect("nobody touched it");
    let disk: Arc<dyn Disk> = Arc::new(FakeDisk::new(2));
    disk.create_dir(Path::new(DIR)).expect("the disk has no faults");
    let mut copy =
        SnapshotCopy::begin(disk, Path::new(DIR), announced.identity()).expect("the disk has no faults");
    let taken = bytes.chunks(1000).try_for_each(|chunk| copy.append(chunk));
    if taken.is_ok() && copy.bytes() == bytes.len() as u64 {
        let finished = copy.finish(announced.meta());
        assert_eq!(finished.is_ok(), bytes == whole(), "{:?}", finished.err());
    }
}

/// Reads sections whose frames are right.
fn content(input: &mut Input<'_>) {
    let disk = FakeDisk::new(1);
    let meta = SnapshotMeta {
        revision: i64::from(input.byte()),
        ..META
    };
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let mut writer = SnapshotWriter::create(shared, Path::new(DIR), meta).expect("the disk has no faults");
    for _ in 0..SECTIONS_MAX {
        let Some(piece) = input.piece() else { break };
        if let Some((kind @ 1.., data)) = piece.split_first().map(|(kind, data)| (*kind, data)) {
            writer.section(kind, data).expect("the disk has no faults");
        }
    }
    writer.finish().expect("the disk has no faults");
    let open = || SnapshotReader::open(&disk, Path::new(DIR), INDEX).expect("it was just written");
    let state = sim::state_of(&mut open());
    let backend = Arc::new(MemoryBackend::new());
    let built = sim::import(&mut open(), METADATA, backend);
    assert_eq!(
        state.is_ok(),
        built.is_ok(),
        "{:?} and {:?}",
        state.err(),
        built.err()
    );
    let (Ok(state), Ok(built)) = (state, built) else {
        return;
    };
    assert_eq!(
        hash(&state),
        hash(&built),
        "served from the file and from the working copy"
    );
}

fn hash(state: &State) -> (i64, i64, u64, u64, u64, usize) {
    let mvcc = &state.mvcc;
    let (keys, bytes) = (mvcc.live_keys(), mvcc.live_bytes());
    (
        mvcc.current(),
        mvcc.compacted(),
        keys,
        bytes,
        mvcc.revisions(),
        state.lessor.len(),
    )
}

fn place(disk: &FakeDisk, bytes: &[u8]) {
    let path = Path::new(DIR).join(format!("{:016x}.snap", INDEX.0));
    disk.create_dir(Path::new(DIR)).expect("the disk has no faults");
    let mut file = disk.create(&path).expect("the name is new");
    file.write_at(0, bytes).expect("the disk has no faults");
}

/// The bytes of a whole snapshot.
fn whole() -> &'static [u8] {
    static MADE: OnceLock<Vec<u8>> = OnceLock::new();
    MADE.get_or_init(|| {
        let disk = FakeDisk::new(1);
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let mut writer =
            SnapshotWriter::create(shared, Path::new(DIR), META).expect("the disk has no faults");
        for (kind, data) in sections() {
            writer.section(kind, &data).expect("the disk has no faults");
        }
        writer.finish().expect("the disk has no faults");
        let name = &disk.list(Path::new(DIR)).expect("the folder is there")[0];
        disk.contents(&Path::new(DIR).join(name))
            .expect("it was just written")
    })
}

/// What a member's snapshot holds, as it writes it.
fn sections() -> Vec<(u8, Vec<u8>)> {
    let put = |key: &str, lease| InternalRaftRequest {
        put: Some(PutRequest {
            key: key.to_owned().into(),
            value: "value".repeat(10).into(),
            lease,
            ..PutRequest::default()
        }),
        ..Default::default()
    };
    let requests = [
        InternalRaftRequest {
            lease_grant: Some(LeaseGrantRequest { ttl: 60, id: 7 }),
            ..Default::default()
        },
        put("a", 7),
        put("b", 0),
        put("a", 0),
        InternalRaftRequest {
            delete_range: Some(DeleteRangeRequest {
                key: "a".into(),
                range_end: "c".into(),
                prev_kv: false,
            }),
            ..Default::default()
        },
        put("c", 7),
    ];
    let requests: Vec<_> = requests
        .iter()
        .map(|request| request.encode_to_vec().into())
        .collect();
    sim::snapshot_sections(&requests)
}

/// A damage of each kind at a few places, and the sections of a real snapshot, whole and in parts.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![vec![0]];
    for kind in 0..4 {
        for offset in [0, 8, 16, 70, 90, 200] {
            seeds.push(vec![0, kind | 0x10, offset, 0, 1, 2, 3, 4]);
        }
    }
    let sections = sections();
    let list = |sections: &[(u8, Vec<u8>)]| {
        let mut seed = vec![CONTENT, u8::try_from(META.revision).unwrap_or(0)];
        for (kind, data) in sections {
            push_piece(&mut seed, &[&[*kind], &data[..]].concat());
        }
        seed
    };
    seeds.push(list(&sections));
    seeds.push(list(&sections[1..]));
    seeds.extend(sections.iter().map(|section| list(std::slice::from_ref(section))));
    seeds
}

const DIR: &str = "/m/snap";
const INDEX: Index = Index(6);
const META: SnapshotMeta = SnapshotMeta {
    index: INDEX,
    term: Term(2),
    revision: 6,
    cluster: ClusterId(0xc1),
};
const METADATA: Metadata = Metadata {
    cluster: ClusterId(0xc1),
    member: MemberId(0xa1),
};
/// The first byte of an input: sections, not damages.
const CONTENT: u8 = 1;
/// Damages and sections of an input.
const DAMAGES_MAX: usize = 6;
const SECTIONS_MAX: usize = 32;

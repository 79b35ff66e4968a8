//! Batches and records as bytes; the layout stands in the description of the room. Pure: no I/O.

use super::{Damage, Entry, HardState, Metadata, Position};
use crate::types::{ClusterId, Index, MemberId, Term};

/// A byte of the log: a segment and an offset in it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct LogOffset {
    pub(super) sequence: u64,
    pub(super) offset: u64,
}

/// What makes the bytes of one file in one life different from all others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct SegmentId {
    pub(super) sequence: u64,
    pub(super) salt: u64,
}

impl SegmentId {
    fn seal(self, generation: u64) -> Seal {
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.salt.to_le_bytes());
        bytes[16..].copy_from_slice(&generation.to_le_bytes());
        Seal(crc32c::crc32c(&bytes))
    }
}

/// The part of a checksum's initial value that a segment and generation give.
#[derive(Clone, Copy)]
struct Seal(u32);

impl Seal {
    fn checksum(self, offset: u64, bytes: &[u8]) -> u32 {
        let low_bits = offset as u32;
        crc32c::crc32c_append(self.0 ^ low_bits, bytes)
    }
}

/// The record that lets a log begin anywhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct State {
    pub(super) metadata: Metadata,
    pub(super) last: Position,
    pub(super) hard_state: HardState,
}

/// A decoded record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Record<'a> {
    Entry {
        kind: u8,
        term: Term,
        index: Index,
        data: &'a [u8],
    },
    HardState(HardState),
    State(State),
    Restart(Position),
}

/// Bytes of an entry's record.
pub(super) fn entry_bytes(entry: &Entry) -> u64 {
    (RECORD_HEAD + ENTRY_FIXED + entry.data.len()) as u64
}

/// Bytes of a batch whose records have `body` bytes.
pub(super) fn batch_bytes(body: u64) -> u64 {
    (BATCH_HEAD as u64 + body).next_multiple_of(ALIGN)
}

/// Encodes one batch into a buffer that keeps its capacity from batch to batch.
pub(super) struct Encoder<'a> {
    buf: &'a mut Vec<u8>,
    seal: Seal,
    generation: u64,
    offset: u64,
    records: u32,
}

impl<'a> Encoder<'a> {
    /// A batch that will stand at `offset` of the segment.
    pub(super) fn new(buf: &'a mut Vec<u8>, segment: SegmentId, generation: u64, offset: u64) -> Self {
        buf.clear();
        buf.resize(BATCH_HEAD, 0);
        Encoder {
            buf,
            seal: segment.seal(generation),
            generation,
            offset,
            records: 0,
        }
    }

    pub(super) fn entry(&mut self, entry: &Entry) {
        let mut fixed = [0; RECORD_HEAD + ENTRY_FIXED];
        fixed[4..8].copy_from_slice(&length(ENTRY_FIXED + entry.data.len()).to_le_bytes());
        fixed[8] = KIND_ENTRY;
        fixed[9] = entry.kind;
        fixed[10..18].copy_from_slice(&entry.term.0.to_le_bytes());
        fixed[18..26].copy_from_slice(&entry.index.0.to_le_bytes());
        let at = self.buf.len();
        self.buf.extend_from_slice(&fixed);
        self.buf.extend_from_slice(&entry.data);
        self.close(at);
    }

    pub(super) fn hard_state(&mut self, state: &HardState) {
        self.numbers(KIND_HARD_STATE, &[state.term.0, state.vote.0, state.commit.0]);
    }

    pub(super) fn restart(&mut self, at: Position) {
        self.numbers(KIND_RESTART, &[at.index.0, at.term.0]);
    }

    pub(super) fn state(&mut self, state: &State) {
        let State {
            metadata,
            last,
            hard_state: hard,
        } = state;
        let numbers = [
            metadata.cluster.0,
            metadata.member.0,
            last.index.0,
            last.term.0,
            hard.term.0,
            hard.vote.0,
            hard.commit.0,
        ];
        self.numbers(KIND_STATE, &numbers);
    }

    /// Seals the batch, which names `synced` as durable. The buffer then holds it, padded.
    pub(super) fn finish(self, synced: LogOffset) {
        let body = length(self.buf.len() - BATCH_HEAD);
        let padded = self.buf.len().next_multiple_of(ALIGN as usize);
        self.buf.resize(padded, 0);
        let head = &mut self.buf[..BATCH_HEAD];
        head[4..8].copy_from_slice(&BATCH_MAGIC);
        head[8..16].copy_from_slice(&self.generation.to_le_bytes());
        head[16..24].copy_from_slice(&synced.sequence.to_le_bytes());
        head[24..32].copy_from_slice(&synced.offset.to_le_bytes());
        head[32..36].copy_from_slice(&body.to_le_bytes());
        head[36..40].copy_from_slice(&self.records.to_le_bytes());
        let checksum = self.seal.checksum(self.offset, &head[4..]);
        head[..4].copy_from_slice(&checksum.to_le_bytes());
    }

    fn numbers(&mut self, kind: u8, numbers: &[u64]) {
        let at = self.buf.len();
        self.buf.extend_from_slice(&[0; 4]);
        self.buf
            .extend_from_slice(&length(1 + numbers.len() * 8).to_le_bytes());
        self.buf.push(kind);
        for number in numbers {
            self.buf.extend_from_slice(&number.to_le_bytes());
        }
        self.close(at);
    }

    fn close(&mut self, at: usize) {
        let checksum = self.seal.checksum(self.offset + at as u64, &self.buf[at + 4..]);
        self.buf[at..at + 4].copy_from_slice(&checksum.to_le_bytes());
        self.records += 1;
    }
}

/// A stretch of a segment's bytes, and how to judge them. Places are counted from the segment's start.
#[derive(Clone, Copy)]
pub(super) struct Image<'a> {
    /// Where the stretch begins.
    pub(super) base: usize,
    pub(super) bytes: &'a [u8],
    pub(super) segment: SegmentId,
    pub(super) verify: bool,
}

/// The head of a batch, verified.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct BatchHead {
    pub(super) generation: u64,
    pub(super) synced: LogOffset,
    body: usize,
    records: u32,
}

impl BatchHead {
    /// Bytes of the batch with its padding.
    pub(super) fn len(&self) -> usize {
        (BATCH_HEAD + self.body).next_multiple_of(ALIGN as usize)
    }
}

impl<'a> Image<'a> {
    /// The head of a batch at `at`, if one stands there.
    pub(super) fn head(&self, at: usize) -> Option<BatchHead> {
        let head = self.part(at, BATCH_HEAD)?;
        if head[4..8] != BATCH_MAGIC {
            return None;
        }
        let generation = number(head, 8)?;
        if self.verify && self.segment.seal(generation).checksum(at as u64, &head[4..]) != short(head, 0)? {
            return None;
        }
        Some(BatchHead {
            generation,
            synced: LogOffset {
                sequence: number(head, 16)?,
                offset: number(head, 24)?,
            },
            body: usize::try_from(short(head, 32)?).ok()?,
            records: short(head, 36)?,
        })
    }

    /// The records of the batch at `at`, all verified; or where and how it is damaged.
    pub(super) fn records(&self, at: usize, head: &BatchHead) -> Result<Vec<Record<'a>>, Defect> {
        let seal = self.segment.seal(head.generation);
        let start = at + BATCH_HEAD;
        let Some(body) = self.part(start, head.body) else {
            return Err(Defect {
                at,
                damage: Damage::BatchHead,
            });
        };
        let mut records = Vec::with_capacity(usize::try_from(head.records).unwrap_or(0).min(head.body));
        let mut from = 0;
        while from < body.len() {
            let at = start + from;
            let broken = Defect {
                at,
                damage: Damage::Record,
            };
            let frame = frame(body, from).ok_or(broken)?;
            if self.verify && Some(seal.checksum(at as u64, &frame[4..])) != short(frame, 0) {
                return Err(broken);
            }
            let payload = &frame[RECORD_HEAD..];
            let kind = payload.first().copied().unwrap_or(0);
            records.push(record(payload).ok_or(Defect {
                at,
                damage: Damage::Form(kind),
            })?);
            from += frame.len();
        }
        if records.len() as u64 != u64::from(head.records) {
            return Err(Defect {
                at,
                damage: Damage::BatchHead,
            });
        }
        Ok(records)
    }

    /// The state record that a segment's first batch begins with, from however much of the segment is there.
    pub(super) fn state(&self, at: usize) -> Option<State> {
        let head = self.head(at)?;
        let frame = frame(self.bytes, (at + BATCH_HEAD).checked_sub(self.base)?)?;
        let checksum = self
            .segment
            .seal(head.generation)
            .checksum((at + BATCH_HEAD) as u64, &frame[4..]);
        if self.verify && Some(checksum) != short(frame, 0) {
            return None;
        }
        match record(&frame[RECORD_HEAD..])? {
            Record::State(state) => Some(state),
            _ => None,
        }
    }

    /// The first valid head of a batch at or after `at` that names a synced offset beyond `point` in a generation
    /// not before `generation`: the proof that `point` was durable.
    pub(super) fn proof_beyond(&self, at: usize, point: LogOffset, generation: u64) -> Option<usize> {
        let align = ALIGN as usize;
        let from = at.max(self.base).next_multiple_of(align);
        let places = self.bytes.get(from - self.base..)?.chunks_exact(align);
        // The magic number first: this loop looks at every eighth byte of a segment.
        places
            .enumerate()
            .filter(|(_, place)| place[4..8] == BATCH_MAGIC)
            .map(|(number, _)| from + number * align)
            .find(|at| {
                self.head(*at)
                    .is_some_and(|head| head.synced > point && head.generation >= generation)
            })
    }

    /// The `len` bytes at `at`, if the stretch has them all.
    fn part(&self, at: usize, len: usize) -> Option<&'a [u8]> {
        let from = at.checked_sub(self.base)?;
        self.bytes.get(from..from.checked_add(len)?)
    }
}

/// A damaged place in a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Defect {
    pub(super) at: usize,
    pub(super) damage: Damage,
}

/// The whole record at `at`, checksum and length included, if its length is possible.
fn frame(bytes: &[u8], at: usize) -> Option<&[u8]> {
    let rest = bytes.get(at..)?;
    let payload = usize::try_from(short(rest, 4)?).ok()?;
    rest.get(..RECORD_HEAD.checked_add(payload)?)
}

fn record(payload: &[u8]) -> Option<Record<'_>> {
    let (kind, rest) = payload.split_first()?;
    let exactly = |numbers: usize| (rest.len() == numbers * 8).then_some(());
    let at = |place: usize| number(rest, place * 8);
    let hard = |from: usize| {
        let (term, vote, commit) = (Term(at(from)?), MemberId(at(from + 1)?), Index(at(from + 2)?));
        Some(HardState { term, vote, commit })
    };
    match *kind {
        KIND_ENTRY => Some(Record::Entry {
            kind: *rest.first()?,
            term: Term(number(rest, 1)?),
            index: Index(number(rest, 9)?),
            data: rest.get(ENTRY_FIXED - 1..)?,
        }),
        KIND_HARD_STATE => exactly(3).and_then(|()| hard(0)).map(Record::HardState),
        KIND_STATE => exactly(7).and_then(|()| {
            Some(Record::State(State {
                metadata: Metadata {
                    cluster: ClusterId(at(0)?),
                    member: MemberId(at(1)?),
                },
                last: Position {
                    index: Index(at(2)?),
                    term: Term(at(3)?),
                },
                hard_state: hard(4)?,
            }))
        }),
        KIND_RESTART => exactly(2).and_then(|()| {
            Some(Record::Restart(Position {
                index: Index(at(0)?),
                term: Term(at(1)?),
            }))
        }),
        _ => None,
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn short(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("the writer refuses batches beyond BATCH_BYTES_MAX")
}

/// The largest batch: half of what its 32-bit length could say.
pub(super) const BATCH_BYTES_MAX: u64 = 2 << 30;
/// Bytes of a record that holds `n` numbers.
pub(super) const STATE_BYTES: u64 = numbers_bytes(7);
pub(super) const HARD_STATE_BYTES: u64 = numbers_bytes(3);
pub(super) const RESTART_BYTES: u64 = numbers_bytes(2);

const fn numbers_bytes(numbers: u64) -> u64 {
    RECORD_HEAD as u64 + 1 + numbers * 8
}

const ALIGN: u64 = 8;
const BATCH_MAGIC: [u8; 4] = *b"TFB1";
/// Bytes of a batch before its records.
pub(super) const BATCH_HEAD: usize = 40;
const RECORD_HEAD: usize = 8;
/// An entry's payload before its data: kind, entry kind, term, index.
const ENTRY_FIXED: usize = 18;
const KIND_ENTRY: u8 = 1;
const KIND_HARD_STATE: u8 = 2;
const KIND_STATE: u8 = 3;
const KIND_RESTART: u8 = 4;

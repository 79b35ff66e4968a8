//! The durable log: what this member has promised. An acknowledgement of any kind (a client's answer, a vote, an
//! append response to a leader) leaves the member only after [`Wal::append`] returned for what it rests on.
//!
//! The room owns the folder it is given: segment files of a fixed size, zeroed in advance and recycled, because a
//! sync of blocks already allocated costs about half of one that also grows the file. Only a log's first segment is
//! made shorter, so that a new member is ready sooner; it grows where the next one is not made in time. The room
//! decides nothing about Raft: it stores entries and hard states in the order given and returns what is left of them. It never answers
//! from a file that failed a write or a sync: the writer is dead from then on, and so must the process be, since
//! what the kernel did with the dirty pages is unknown.
//!
//! # Invariants
//! - One [`Wal::append`] is one batch: one write, one sync, wholly there after a crash or wholly absent.
//! - A batch is written only after the one before it was synced, and says so (`synced`, below).
//! - Entries in a batch follow the log without a gap, or overwrite its end (Raft's rule: an entry replaces the one
//!   at its index and removes all after it), or follow a *restart* that a snapshot from the leader made.
//! - A (sequence, salt, generation) is durable in the log before any batch that uses it follows it.
//!
//! # Files
//! `<sequence:016x>.wal` is a segment; sequences count from 1, without holes from the oldest needed one on.
//! `<n:016x>.spare` is a segment's file waiting for its next use, `*.tmp` an unfinished one (removed at open).
//! [`snapshot`] files live in a folder of their own, and the mark of the log's end in a file outside. Whatever else lies in the folder is left alone.
//!
//! # Segment
//! All numbers are little-endian. The first 512 bytes are the header, written once before the file gets its name:
//!
//! | at | bytes | what |
//! | --- | --- | --- |
//! | 0 | 8 | `TAFRLWAL` |
//! | 8 | 4 | format version, 2; 1 is read too |
//! | 12 | 4 | CRC-32C of bytes 0..12 and 16..512 |
//! | 16 | 8 | sequence |
//! | 24 | 8 | salt, drawn at random by the process ([`Config::salt`]) |
//! | 32 | 480 | zero |
//!
//! Batches follow from byte 512, each at a multiple of 8. Behind the last one lies anything: zeros, or what the
//! file held in an earlier life. A batch never spans two segments; one too large for any makes its segment longer.
//!
//! # Batch
//! | at | bytes | what |
//! | --- | --- | --- |
//! | 0 | 4 | checksum of bytes 4..40 |
//! | 4 | 4 | `TFB1` |
//! | 8 | 8 | generation: counts the openings of the log; never falls from one batch to the next |
//! | 16 | 8 | synced: the sequence of the segment ... |
//! | 24 | 8 | ... and the offset in it, up to which the log was durable when this batch was written |
//! | 32 | 4 | bytes of the records, without the padding |
//! | 36 | 4 | number of records |
//! | 40 | | the records, and zeros up to a multiple of 8 |
//!
//! # Record
//! | at | bytes | what |
//! | --- | --- | --- |
//! | 0 | 4 | checksum of all bytes after it |
//! | 4 | 4 | bytes after this field |
//! | 8 | 1 | kind, then by kind: |
//! | | | 1 entry: entry kind (1), term (8), index (8), data (the rest) |
//! | | | 2 hard state: term (8), vote (8), commit (8) |
//! | | | 3 state: cluster (8), member (8), last index (8), last term (8), term (8), vote (8), commit (8) |
//! | | | 4 restart: index (8), term (8) |
//!
//! *State* is the first record of each segment and the only one of the batch that opening the log writes: it holds
//! what must outlive the removal of older segments, and the log's last position before it, which lets a reader
//! skip segments by their first kilobyte alone. *Restart* empties the log: the next entry has the index after it.
//!
//! # Checksums, torn tails and corruption
//! A checksum is the CRC-32C (seeded, not appended) whose initial value is `crc32c(sequence, salt, generation)`
//! XOR the low 32 bits of the offset at which the checksum stands. CRC is linear: the same bytes under another
//! initial value *always* have another checksum. So what a recycled file held before, in another sequence, and
//! what an earlier generation left behind a torn tail, never verifies, and the salt keeps a client from planting
//! bytes that look like a batch.
//!
//! Reading stops at the first batch that does not verify. If any batch after it, in this segment or a later one,
//! has a valid head that names a `synced` beyond that point, the disk has lost what it had confirmed:
//! [`WalError::Corrupt`], and the member must not start. Otherwise nobody was ever told of the batch: a torn tail,
//! which the next batch overwrites. Where a *mark* of the log's end is kept (`end.rs`, [`Config::mark`]), a log that
//! ends before it is corrupt, too: nothing after the damage is needed then to prove it. Two assumptions: a sector of 512 bytes is written wholly or not at all, and
//! writing a sector anew with the same bytes does not harm it.

mod check;
mod end;
mod error;
mod record;
mod replay;
mod retain;
mod scan;
mod segment;
pub mod snapshot;
mod walk;
mod window;
mod writer;

pub use check::{LogCheck, LogRange, SegmentCheck, SegmentContent, check, check_mark};
pub use end::was_begun;
pub use error::{Damage, WalError};
pub use replay::{Replay, Torn, metadata, read};
pub use retain::Retain;
pub use segment::SpareJob;
pub use walk::{Logged, walk};
pub use writer::Wal;

use bytes::Bytes;

use crate::types::{ClusterId, Index, MemberId, Term};

/// An entry of the Raft log.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Entry {
    /// The term it was proposed in.
    pub term: Term,
    /// Its position.
    pub index: Index,
    /// Raft's entry type; the log stores it and looks no further.
    pub kind: u8,
    /// The content.
    pub data: Bytes,
}

/// What Raft must not forget besides its entries.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HardState {
    /// The newest term seen.
    pub term: Term,
    /// Whom this member voted for in that term; nobody is 0.
    pub vote: MemberId,
    /// The commit index.
    pub commit: Index,
}

/// Whose log this is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Metadata {
    /// The cluster.
    pub cluster: ClusterId,
    /// The member.
    pub member: MemberId,
}

/// A position in the Raft log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Position {
    /// The index.
    pub index: Index,
    /// The term of the entry there.
    pub term: Term,
}

/// Part of a batch. A restart takes effect before the entries, whatever their order among several parts is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Append {
    /// The log is dropped in favour of a snapshot that ends here (and is durable already).
    pub restart: Option<Position>,
    /// Entries, contiguous.
    pub entries: Vec<Entry>,
    /// The hard state, where it changed.
    pub hard_state: Option<HardState>,
}

/// Settings of a log.
#[derive(Clone, Debug)]
pub struct Config {
    /// Bytes of a segment.
    pub segment_bytes: u64,
    /// Bytes of a new log's first segment, where that is fewer: a new member waits until they are zeroed.
    pub first_segment_bytes: u64,
    /// Spare segments kept for reuse; more are removed.
    pub spares_max: usize,
    /// A random number, drawn anew for each process.
    pub salt: u64,
    /// The file of the mark of the log's end, apart from the log; without one, damage to the log's end looks like a
    /// torn write.
    pub mark: Option<std::path::PathBuf>,
    /// What a replay returns of the entries before the index asked for.
    pub retain: Retain,
    /// Off, the reader takes what looks like a batch for one: a bug for simulations to find.
    #[cfg(any(test, feature = "sim"))]
    pub verify_checksums: bool,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            segment_bytes: 64 << 20,
            first_segment_bytes: 4 << 20,
            spares_max: 2,
            salt: 0,
            mark: None,
            retain: Retain::default(),
            #[cfg(any(test, feature = "sim"))]
            verify_checksums: true,
        }
    }
}

impl Config {
    #[cfg(any(test, feature = "sim"))]
    fn verifies(&self) -> bool {
        self.verify_checksums
    }

    #[cfg(not(any(test, feature = "sim")))]
    fn verifies(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests;

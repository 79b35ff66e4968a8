//! Current values, packed into chunks of memory.
//!
//! Allocated one by one, values share the allocator's pages with whatever lives for a moment beside them (entries,
//! leaves of the backend, messages), and a page goes back to the system only when nothing at all is left in it.
//! Measured: 250 MiB of values, half of them deleted in the order of their keys, left 155 MiB in use and 450-650 MiB
//! resident, with each of three allocators. So values up to [`PACKED_BYTES`] are copied into chunks, which are large
//! enough to be mapped alone, and where too much of the chunks is dead, what lives in the sparse ones moves together
//! (see [`Mvcc::pack_step`](super::Mvcc::pack_step)), as a log-structured memory does (Rumble et al., FAST 2014).
//! A value that moves is copied; whoever reads the old copy keeps its chunk alive until done.
//!
//! Invariants: `live` of a chunk is the sum of the values that the index has in it; a chunk without any is forgotten,
//! unless it is the one being filled; `live <= held`.

use bytes::{Bytes, BytesMut};

/// Which chunk a value lies in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct ChunkId(u32);

impl ChunkId {
    /// Of a value that has memory of its own, or none.
    pub(super) const NONE: ChunkId = ChunkId(u32::MAX);
}

/// A value in the place where it is kept.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) bytes: Bytes,
    pub(super) chunk: ChunkId,
}

impl Kept {
    /// No value.
    pub(super) const NOTHING: Kept = Kept::own(Bytes::new());

    /// A value that has memory of its own.
    pub(super) const fn own(bytes: Bytes) -> Self {
        Kept {
            bytes,
            chunk: ChunkId::NONE,
        }
    }
}

/// What the index no longer refers to; for [`Values::release`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Released {
    pub(super) chunk: ChunkId,
    pub(super) len: usize,
}

/// The chunks.
#[derive(Clone, Debug)]
pub(super) struct Values {
    /// What is left of the chunk being filled.
    open: BytesMut,
    open_id: ChunkId,
    /// Bytes of values in each chunk that the index refers to.
    live: Vec<u32>,
    /// Places of `live` that no chunk has.
    vacant: Vec<u32>,
    /// Chunks there are, for the index.
    chunks: u64,
    /// Bytes of values in them.
    live_bytes: u64,
}

impl Values {
    pub(super) fn new() -> Self {
        Values {
            open: BytesMut::new(),
            open_id: ChunkId::NONE,
            live: Vec::new(),
            vacant: Vec::new(),
            chunks: 0,
            live_bytes: 0,
        }
    }

    /// Bytes of memory that the chunks take.
    pub(super) fn held_bytes(&self) -> u64 {
        self.chunks * CHUNK_BYTES as u64
    }

    /// Takes a value in: copied where it is small enough, else as it is.
    pub(super) fn keep(&mut self, value: Bytes) -> Kept {
        if value.is_empty() || value.len() > PACKED_BYTES {
            return Kept::own(value);
        }
        if self.open.capacity() < value.len() {
            self.begin();
        }
        self.open.extend_from_slice(&value);
        *self.live_mut(self.open_id) += value.len() as u32;
        self.live_bytes += value.len() as u64;
        Kept {
            bytes: self.open.split().freeze(),
            chunk: self.open_id,
        }
    }

    /// The index no longer refers to this.
    pub(super) fn release(&mut self, released: Released) {
        let Released { chunk, len } = released;
        if chunk == ChunkId::NONE {
            return;
        }
        let live = self.live_mut(chunk);
        *live -= len as u32;
        let dead = *live == 0;
        self.live_bytes -= len as u64;
        if dead && chunk != self.open_id {
            self.forget(chunk);
        }
    }

    /// Whether so much is dead that the values should move together.
    pub(super) fn wasteful(&self) -> bool {
        self.held_bytes() > self.live_bytes / 10 * HELD_TENTHS_MAX + SLACK_BYTES
    }

    /// Whether the values of this chunk should move.
    pub(super) fn sparse(&self, chunk: ChunkId) -> bool {
        chunk != ChunkId::NONE && chunk != self.open_id && self.live[chunk.0 as usize] < SPARSE_BELOW_BYTES
    }

    fn begin(&mut self) {
        let full = self.open_id;
        self.open = BytesMut::with_capacity(CHUNK_BYTES);
        self.chunks += 1;
        self.open_id = match self.vacant.pop() {
            Some(place) => ChunkId(place),
            None => {
                self.live.push(0);
                ChunkId(u32::try_from(self.live.len() - 1).expect("fewer than 2^32 chunks fit into memory"))
            }
        };
        if full != ChunkId::NONE && *self.live_mut(full) == 0 {
            self.forget(full);
        }
    }

    fn forget(&mut self, chunk: ChunkId) {
        self.vacant.push(chunk.0);
        self.chunks -= 1;
    }

    fn live_mut(&mut self, chunk: ChunkId) -> &mut u32 {
        &mut self.live[chunk.0 as usize]
    }

    /// Panics unless the chunks hold just these values.
    #[cfg(any(test, feature = "verify"))]
    pub(super) fn verify<'a>(&self, kept: impl Iterator<Item = (&'a Bytes, ChunkId)>) {
        let mut live = vec![0; self.live.len()];
        for (value, chunk) in kept {
            let packed = !value.is_empty() && value.len() <= PACKED_BYTES;
            assert_eq!(packed, chunk != ChunkId::NONE, "a value of {} bytes", value.len());
            if packed {
                live[chunk.0 as usize] += value.len() as u32;
            }
        }
        assert_eq!(live, self.live, "bytes of values by chunk");
        assert_eq!(
            live.iter().map(|live| u64::from(*live)).sum::<u64>(),
            self.live_bytes
        );
        assert_eq!(self.chunks as usize, self.live.len() - self.vacant.len());
        assert!(self.live_bytes <= self.held_bytes());
    }
}

/// Whether [`Values::keep`] copies a value of so many bytes.
pub(super) fn is_packed(value_len: usize) -> bool {
    value_len <= PACKED_BYTES
}

/// Bytes of one chunk: a mebibyte with the allocator's own header. Allocators give blocks of more than half of that a
/// mapping that goes back whole.
const CHUNK_BYTES: usize = (1 << 20) - (4 << 10);
/// Longest value that is packed: what is left over at the end of a chunk is less than a sixteenth of it.
const PACKED_BYTES: usize = 64 << 10;
/// A chunk of which fewer bytes than this live, four fifths, is sparse.
const SPARSE_BELOW_BYTES: u32 = (CHUNK_BYTES / 5 * 4) as u32;
/// Chunks may take so many tenths of what lives in them, and [`SLACK_BYTES`]. Far enough above what is left once no
/// chunk is sparse (12.5 tenths) that moving values costs less than was written since.
const HELD_TENTHS_MAX: u64 = 14;
const SLACK_BYTES: u64 = 8 << 20;
// Once none is sparse, nothing is wasteful: packing comes to an end.
const _: () = assert!(SPARSE_BELOW_BYTES as u64 * HELD_TENTHS_MAX / 10 > CHUNK_BYTES as u64);
const _: () = assert!(CHUNK_BYTES - PACKED_BYTES > SPARSE_BELOW_BYTES as usize);

//! A segment read through a window that moves along it, so that reading a log of any length takes little memory.

use std::path::PathBuf;

use super::WalError;
use super::error::io_error;
use super::record::{BATCH_HEAD, BatchHead, Image, LogOffset, SegmentId};
use super::segment::{self, HEADER_BYTES};
use crate::env::{Disk, DiskFile};

/// A segment's file and the stretch of it that is in memory: [`WINDOW_BYTES`], more only where one batch is longer.
pub(super) struct Window {
    file: Box<dyn DiskFile>,
    path: PathBuf,
    segment: SegmentId,
    verify: bool,
    /// Bytes of the file.
    len: usize,
    /// Where the stretch begins.
    base: usize,
    bytes: Vec<u8>,
}

impl Window {
    /// Opens the file at `path`, which must be that of segment `sequence`.
    pub(super) fn open(
        disk: &dyn Disk,
        path: PathBuf,
        sequence: u64,
        verify: bool,
    ) -> Result<Window, WalError> {
        let file = disk.open(&path).map_err(io_error("open", &path))?;
        let len = file.len().map_err(io_error("read", &path))?;
        let mut window = Window {
            file,
            segment: SegmentId { sequence, salt: 0 },
            verify,
            len: usize::try_from(len).unwrap_or(usize::MAX),
            base: 0,
            bytes: Vec::new(),
            path,
        };
        window.cover(0, HEADER_BYTES)?;
        let header = segment::decode_header(&window.bytes, sequence);
        window.segment = header.map_err(|damage| segment::header_error(&window.path, damage))?;
        Ok(window)
    }

    pub(super) fn segment(&self) -> SegmentId {
        self.segment
    }

    /// The head of a batch at `at`, if one stands there.
    pub(super) fn head(&mut self, at: usize) -> Result<Option<BatchHead>, WalError> {
        self.cover(at, BATCH_HEAD)?;
        Ok(self.image().head(at))
    }

    /// A stretch with the whole batch at `at`, or as much of it as the file has.
    pub(super) fn batch(&mut self, at: usize, head: &BatchHead) -> Result<Image<'_>, WalError> {
        self.cover(at, head.len())?;
        Ok(self.image())
    }

    /// Whether a head at or after `at` proves that `point` was durable; see [`Image::proof_beyond`].
    pub(super) fn proof_beyond(
        &mut self,
        mut at: usize,
        point: LogOffset,
        generation: u64,
    ) -> Result<bool, WalError> {
        loop {
            self.cover(at, BATCH_HEAD)?;
            if self.image().proof_beyond(at, point, generation).is_some() {
                return Ok(true);
            }
            let end = self.base + self.bytes.len();
            if end >= self.len {
                return Ok(false);
            }
            // Of a head that begins less than its length before the end of the stretch, the rest was not seen.
            at = end - BATCH_HEAD + 1;
        }
    }

    fn image(&self) -> Image<'_> {
        Image {
            base: self.base,
            bytes: &self.bytes,
            segment: self.segment,
            verify: self.verify,
        }
    }

    /// Makes the `need` bytes at `at` part of the stretch, or as many of them as the file has.
    fn cover(&mut self, at: usize, need: usize) -> Result<(), WalError> {
        let end = at.saturating_add(need).min(self.len);
        if at >= self.base && end <= self.base + self.bytes.len() {
            return Ok(());
        }
        let rest = self.len.saturating_sub(at);
        let want = end.saturating_sub(at).max(WINDOW_BYTES).min(rest);
        if self.bytes.len() > WINDOW_BYTES {
            // A huge batch has made it long.
            self.bytes = Vec::new();
        }
        self.bytes.resize(want, 0);
        let read = self.file.read_at(at as u64, &mut self.bytes);
        let got = read.map_err(io_error("read", &self.path))?;
        if got < want {
            // Shorter than it said: this is where it ends.
            self.bytes.truncate(got);
            self.len = at + got;
        }
        self.base = at;
        Ok(())
    }
}

/// Bytes read at once: few enough to stay in a processor's cache while they are checked.
const WINDOW_BYTES: usize = 256 << 10;

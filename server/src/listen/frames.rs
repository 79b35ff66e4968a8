//! The frames of an HTTP/2 connection, followed by their headers (RFC 9113, section 4.1): three bytes of length, one of
//! kind, one of flags, four of stream.

/// A frame's header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Head {
    /// The payload's length in bytes.
    pub(super) length: usize,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
}

impl Head {
    pub(super) fn of(bytes: [u8; HEAD_BYTES]) -> Head {
        let [a, b, c, kind, flags, stream @ ..] = bytes;
        Head {
            length: usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c),
            kind,
            flags,
            // The first bit is reserved.
            stream: u32::from_be_bytes(stream) & !(1 << 31),
        }
    }

    /// The header at the start of `bytes`, if they hold all of it.
    pub(super) fn at(bytes: &[u8]) -> Option<Head> {
        bytes.first_chunk().copied().map(Head::of)
    }

    pub(super) fn bytes(self) -> [u8; HEAD_BYTES] {
        let [_, .., a, b, c] = self.length.to_be_bytes();
        let [d, e, f, g] = self.stream.to_be_bytes();
        [a, b, c, self.kind, self.flags, d, e, f, g]
    }

    pub(super) fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Where in its frames one direction of a connection stands. Nothing is kept but the part of a header that is there.
#[derive(Default)]
pub(super) struct Walk {
    head: [u8; HEAD_BYTES],
    /// Bytes of `head` that are there.
    have: usize,
    /// Bytes of the payload still to come.
    left: usize,
}

impl Walk {
    /// Goes over the next bytes and tells `seen` of each frame whose header is complete with them.
    pub(super) fn over(&mut self, mut bytes: &[u8], mut seen: impl FnMut(Head)) {
        loop {
            let skipped = self.left.min(bytes.len());
            self.left -= skipped;
            bytes = bytes.get(skipped..).unwrap_or_default();
            if bytes.is_empty() {
                return;
            }
            let head = match bytes.split_first_chunk() {
                Some((head, rest)) if self.have == 0 => {
                    bytes = rest;
                    Head::of(*head)
                }
                _ => match self.complete(&mut bytes) {
                    Some(head) => head,
                    None => return,
                },
            };
            self.left = head.length;
            seen(head);
        }
    }

    /// Whether the last frame is complete, and no other begun.
    pub(super) fn at_boundary(&self) -> bool {
        self.have == 0 && self.left == 0
    }

    /// Bytes of the current frame's payload still to come.
    pub(super) fn left(&self) -> usize {
        self.left
    }

    /// Adds to a header that came in parts.
    fn complete(&mut self, bytes: &mut &[u8]) -> Option<Head> {
        let missing = self.head.get_mut(self.have..).unwrap_or_default();
        let taken = missing.len().min(bytes.len());
        let (now, later) = bytes.split_at(taken);
        for (to, from) in missing.iter_mut().zip(now) {
            *to = *from;
        }
        *bytes = later;
        self.have += taken;
        (self.have == HEAD_BYTES).then(|| {
            self.have = 0;
            Head::of(self.head)
        })
    }
}

/// What a client opens an HTTP/2 connection with, before its first frame.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub(super) const HEAD_BYTES: usize = 9;
/// A payload's limit, unless the receiver allows more: we do not.
pub(super) const PAYLOAD_BYTES_MAX: usize = 16 << 10;

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

/// Of a PING.
pub(super) const ACK: u8 = 0x1;
/// Of DATA and HEADERS.
pub(super) const END_STREAM: u8 = 0x1;
/// Of HEADERS and CONTINUATION.
pub(super) const END_HEADERS: u8 = 0x4;
/// Of HEADERS.
pub(super) const PADDED: u8 = 0x8;
/// Of HEADERS.
pub(super) const PRIORITY: u8 = 0x20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_followed_however_their_bytes_are_cut() {
        let mut bytes = Vec::new();
        let heads: Vec<Head> = [
            (0, 4, 0, 0),
            (300, 1, 4, 1),
            (8, 6, 0, 0),
            (70_000, 0, 1, 1),
            (0, 4, 1, 0),
        ]
        .into_iter()
        .map(|(length, kind, flags, stream)| Head {
            length,
            kind,
            flags,
            stream,
        })
        .collect();
        for head in &heads {
            bytes.extend(head.bytes());
            bytes.resize(bytes.len() + head.length, 0xff);
        }
        for cut in [1, 2, 3, 8, 9, 10, 64, 100_000] {
            let (mut walk, mut seen) = (Walk::default(), Vec::new());
            for part in bytes.chunks(cut) {
                walk.over(part, |head| seen.push(head));
            }
            assert_eq!(seen, heads, "cut every {cut} bytes");
            assert!(walk.at_boundary());
            walk.over(&bytes[..5], |_| {});
            assert!(!walk.at_boundary());
        }
    }

    #[test]
    fn the_reserved_bit_is_no_part_of_the_stream() {
        let head = Head::at(&[0, 0, 1, 0, 0, 0x80, 0, 0, 3, 9]).unwrap();
        assert_eq!((head.length, head.stream), (1, 3));
        assert_eq!(Head::at(&[0; 8]), None);
    }
}

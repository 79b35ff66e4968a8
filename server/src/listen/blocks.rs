//! Blocks of headers, put together from their frames and cut into frames again (RFC 9113, sections 6.2 and 6.10).

use bytes::{BufMut as _, BytesMut};

use super::frames::{
    CONTINUATION, END_HEADERS, HEAD_BYTES, HEADERS, Head, PADDED, PAYLOAD_BYTES_MAX, PRIORITY,
};

/// What a HEADERS frame and those behind it make.
pub(super) enum Gathered {
    /// More must come.
    Partial,
    /// Nothing that needs to be understood: too long, or against the rules.
    Odd,
    Whole(Block),
}

/// A block of headers.
pub(super) struct Block {
    /// The header of its first frame.
    head: Head,
    /// What a frame with the flag PRIORITY begins with.
    priority: Vec<u8>,
    pub(super) fragment: Vec<u8>,
    /// What it takes on the wire, headers of frames included.
    pub(super) bytes: usize,
}

/// Puts together the block whose first frame `bytes` begin with.
pub(super) fn gather(bytes: &[u8]) -> Gathered {
    let mut block = None::<Block>;
    let mut rest = bytes;
    while let Some(head) = Head::at(rest) {
        let kind = if block.is_some() { CONTINUATION } else { HEADERS };
        let first = block.as_ref().map_or(head, |block| block.head);
        let so_far = bytes.len() - rest.len();
        if head.kind != kind
            || head.stream != first.stream
            || head.length > PAYLOAD_BYTES_MAX
            || so_far + head.length > BLOCK_BYTES_MAX
        {
            return Gathered::Odd;
        }
        let frame_bytes = HEAD_BYTES + head.length;
        let Some(payload) = rest.get(HEAD_BYTES..frame_bytes) else {
            return Gathered::Partial;
        };
        let mut longer = match block.take() {
            Some(mut block) => {
                block.fragment.extend_from_slice(payload);
                block
            }
            None => match Block::first(head, payload) {
                Some(first) => first,
                None => return Gathered::Odd,
            },
        };
        longer.bytes += frame_bytes;
        if head.has(END_HEADERS) {
            return Gathered::Whole(longer);
        }
        block = Some(longer);
        rest = rest.get(frame_bytes..).unwrap_or_default();
    }
    Gathered::Partial
}

impl Block {
    fn first(head: Head, payload: &[u8]) -> Option<Block> {
        let payload = if head.has(PADDED) {
            let (&padding, rest) = payload.split_first()?;
            rest.get(..rest.len().checked_sub(usize::from(padding))?)?
        } else {
            payload
        };
        let priority_bytes = if head.has(PRIORITY) { PRIORITY_BYTES } else { 0 };
        let (priority, fragment) = payload.split_at_checked(priority_bytes)?;
        Some(Block {
            head,
            priority: priority.to_vec(),
            fragment: fragment.to_vec(),
            bytes: 0,
        })
    }

    /// Writes the frames of this block with `fragment` in place of its own.
    pub(super) fn write(&self, fragment: &[u8], to: &mut BytesMut) {
        let (now, mut later) = fragment.split_at(fragment.len().min(PAYLOAD_BYTES_MAX - PRIORITY_BYTES));
        let flags = self.head.flags & !(PADDED | END_HEADERS) | end_flag(later);
        let length = self.priority.len() + now.len();
        to.put_slice(
            &Head {
                length,
                flags,
                ..self.head
            }
            .bytes(),
        );
        to.put_slice(&self.priority);
        to.put_slice(now);
        while !later.is_empty() {
            let now;
            (now, later) = later.split_at(later.len().min(PAYLOAD_BYTES_MAX));
            let head = Head {
                length: now.len(),
                kind: CONTINUATION,
                flags: end_flag(later),
                stream: self.head.stream,
            };
            to.put_slice(&head.bytes());
            to.put_slice(now);
        }
    }
}

fn end_flag(later: &[u8]) -> u8 {
    if later.is_empty() { END_HEADERS } else { 0 }
}

/// No larger block is put together: HTTP/2 would be told of it, and refuse it.
const BLOCK_BYTES_MAX: usize = 64 << 10;
const PRIORITY_BYTES: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let head = Head {
            length: payload.len(),
            kind,
            flags,
            stream,
        };
        [&head.bytes(), payload].concat()
    }

    fn whole(bytes: &[u8]) -> Block {
        match gather(bytes) {
            Gathered::Whole(block) => block,
            Gathered::Partial => panic!("partial"),
            Gathered::Odd => panic!("odd"),
        }
    }

    #[test]
    fn frames_of_a_block_are_put_together_and_padding_goes() {
        let first = frame(
            HEADERS,
            PADDED | PRIORITY | 1,
            5,
            &[2, 9, 9, 9, 9, 9, b'a', b'b', 0, 0],
        );
        let second = frame(CONTINUATION, 0, 5, b"c");
        let third = frame(CONTINUATION, END_HEADERS, 5, b"de");
        let bytes = [first, second, third].concat();
        for cut in 0..bytes.len() {
            assert!(matches!(gather(&bytes[..cut]), Gathered::Partial), "{cut} bytes");
        }
        let block = whole(&[&bytes[..], b"more"].concat());
        assert_eq!(
            (block.fragment.as_slice(), block.bytes),
            (&b"abcde"[..], bytes.len())
        );
        let mut written = BytesMut::new();
        block.write(b"ABC", &mut written);
        let expected = frame(HEADERS, PRIORITY | END_HEADERS | 1, 5, b"\x09\x09\x09\x09\x09ABC");
        assert_eq!(written, expected);
    }

    #[test]
    fn a_block_that_grew_is_cut() {
        let block = whole(&frame(HEADERS, END_HEADERS, 1, b"x"));
        let fragment = vec![7; 2 * PAYLOAD_BYTES_MAX + 100];
        let mut written = BytesMut::new();
        block.write(&fragment, &mut written);
        let again = whole(&written);
        assert_eq!((again.fragment, again.bytes), (fragment, written.len()));
    }

    #[test]
    fn what_is_against_the_rules_is_odd() {
        for bytes in [
            frame(HEADERS, PADDED | END_HEADERS, 1, &[5, 0]),
            frame(HEADERS, PADDED | END_HEADERS, 1, &[]),
            frame(HEADERS, PRIORITY | END_HEADERS, 1, &[0; 4]),
            frame(CONTINUATION, END_HEADERS, 1, b"x"),
            [frame(HEADERS, 0, 1, b"x"), frame(HEADERS, END_HEADERS, 1, b"x")].concat(),
            [
                frame(HEADERS, 0, 1, b"x"),
                frame(CONTINUATION, END_HEADERS, 3, b"x"),
            ]
            .concat(),
            frame(HEADERS, END_HEADERS, 1, &[0; PAYLOAD_BYTES_MAX + 1]),
        ] {
            assert!(matches!(gather(&bytes), Gathered::Odd), "{:02x?}", &bytes[..9]);
        }
        let mut endless = frame(HEADERS, 0, 1, &[0; PAYLOAD_BYTES_MAX]);
        for _ in 0..4 {
            endless.extend(frame(CONTINUATION, 0, 1, &[0; PAYLOAD_BYTES_MAX]));
        }
        assert!(matches!(gather(&endless), Gathered::Odd));
    }
}

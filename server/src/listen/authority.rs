//! Requests whose `:authority` is none.
//!
//! A client of etcd that is given an endpoint with its scheme may send all of it, `http://127.0.0.1:2379`, as the
//! authority: the clients up to 3.5 do for some calls. etcd does not look at it; the library that speaks HTTP/2 for us
//! refuses the request. So each such authority is replaced by one that means nothing but has the form, **of the same
//! length**: header compression (RFC 7541) counts entries of its table by their lengths, so the tables of both sides
//! stay in step, although they differ in this value, and everything else in a block may be left as it is. Nothing
//! has to be decoded but the authority itself.
//!
//! What cannot be read is left as it is: the library shall judge it.

use fluke_hpack::huffman::HuffmanDecoder;
use http::uri::Authority;

/// `block` with every literal authority that is none replaced; nothing if there is none to replace.
pub(super) fn mend(block: &[u8]) -> Option<Vec<u8>> {
    let mut mended = None::<Vec<u8>>;
    // Up to here `mended` holds the block.
    let mut done = 0;
    let mut fields = Fields { block, at: 0 };
    while fields.at < block.len() {
        let field = fields.next()?;
        let Some(value) = field.value.filter(|_| field.is_authority) else {
            continue;
        };
        let Some(text) = value.text() else { continue };
        // No other is as long as none at all.
        if text.is_empty() || Authority::try_from(text.as_slice()).is_ok() {
            continue;
        }
        let mended = mended.get_or_insert_default();
        mended.extend_from_slice(block.get(done..value.start)?);
        push_string(mended, &stand_in(&text));
        done = fields.at;
    }
    if let Some(mended) = &mut mended {
        mended.extend_from_slice(block.get(done..)?);
    }
    mended
}

/// An authority of the length of `text`, as like it as can be.
fn stand_in(text: &[u8]) -> Vec<u8> {
    let port = text
        .iter()
        .rposition(|byte| !byte.is_ascii_digit())
        .filter(|&at| text.get(at) == Some(&b':'));
    let like: Vec<u8> = text
        .iter()
        .enumerate()
        .map(|(at, byte)| match byte {
            b':' if port == Some(at) => b':',
            b'-' => b'-',
            byte if byte.is_ascii_alphanumeric() => *byte,
            _ => b'.',
        })
        .collect();
    match Authority::try_from(like.as_slice()) {
        Ok(_) => like,
        Err(_) => vec![b'x'; text.len()],
    }
}

/// Writes a string literal as it is, not compressed.
fn push_string(to: &mut Vec<u8>, text: &[u8]) {
    match u8::try_from(text.len()) {
        Ok(length) if length < 0x7f => to.push(length),
        _ => {
            to.push(0x7f);
            let mut rest = text.len() - 0x7f;
            while rest >= 0x80 {
                to.push(0x80 | rest.to_le_bytes()[0]);
                rest >>= 7;
            }
            to.push(rest.to_le_bytes()[0]);
        }
    }
    to.extend_from_slice(text);
}

/// The fields of a header block, one after the other.
struct Fields<'a> {
    block: &'a [u8],
    at: usize,
}

/// One field, as far as it matters here.
struct Field<'a> {
    is_authority: bool,
    /// The value, where it is spelt out.
    value: Option<Literal<'a>>,
}

/// A string that is spelt out.
struct Literal<'a> {
    /// Where in the block it begins, its length included.
    start: usize,
    compressed: bool,
    bytes: &'a [u8],
}

impl<'a> Fields<'a> {
    /// The next field, if it can be read.
    fn next(&mut self) -> Option<Field<'a>> {
        let first = *self.block.get(self.at)?;
        let (bits, has_value) = match first {
            // Name and value from the table.
            0x80.. => (7, false),
            // A literal that enters the table.
            0x40.. => (6, true),
            // The table's new size.
            0x20.. => (5, false),
            // A literal that does not enter it.
            _ => (4, true),
        };
        let index = self.integer(bits)?;
        if !has_value {
            return Some(Field {
                is_authority: false,
                value: None,
            });
        }
        let is_authority = match index {
            0 => {
                let name = self.string()?;
                !name.compressed && name.bytes == b":authority"
            }
            index => index == AUTHORITY_INDEX,
        };
        let value = Some(self.string()?);
        Some(Field { is_authority, value })
    }

    fn integer(&mut self, bits: u32) -> Option<usize> {
        let mask = (1u8 << bits) - 1;
        let first = *self.block.get(self.at)? & mask;
        self.at += 1;
        let mut value = usize::from(first);
        if first < mask {
            return Some(value);
        }
        for part in 0..INTEGER_PARTS_MAX {
            let byte = *self.block.get(self.at)?;
            self.at += 1;
            value += usize::from(byte & 0x7f) << (7 * part);
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn string(&mut self) -> Option<Literal<'a>> {
        let start = self.at;
        let compressed = *self.block.get(start)? & 0x80 != 0;
        let length = self.integer(7)?;
        let bytes = self.block.get(self.at..)?.get(..length)?;
        self.at += length;
        Some(Literal {
            start,
            compressed,
            bytes,
        })
    }
}

impl Literal<'_> {
    /// The text, if it can be read and is not larger than any endpoint.
    fn text(&self) -> Option<Vec<u8>> {
        match self.compressed {
            _ if self.bytes.len() > AUTHORITY_BYTES_MAX => None,
            true => HuffmanDecoder::new().decode(self.bytes).ok(),
            false => Some(self.bytes.to_vec()),
        }
    }
}

/// `:authority` in the static table.
const AUTHORITY_INDEX: usize = 1;
/// What makes an integer of at most four times seven bits, more than any block has bytes.
const INTEGER_PARTS_MAX: u32 = 4;
/// No longer authority is looked at.
const AUTHORITY_BYTES_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use fluke_hpack::{Decoder, Encoder};

    fn read(decoder: &mut Decoder<'_>, block: &[u8]) -> Vec<(String, String)> {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        decoder
            .decode(block)
            .unwrap()
            .into_iter()
            .map(|(name, value)| (text(name), text(value)))
            .collect()
    }

    #[test]
    fn a_bad_authority_is_replaced_and_the_tables_stay_in_step() {
        let long = format!("http://{}:1", "h".repeat(300));
        for (given, expected) in [
            ("http://127.0.0.1:2379", "http...127.0.0.1:2379".to_owned()),
            ("https://a-b.c:1/", "https...a-b.c.1.".to_owned()),
            ("/tmp/x.sock", ".tmp.x.sock".to_owned()),
            ("http://[::1]:2379", "http......1.:2379".to_owned()),
            ("%2Ftmp", ".2Ftmp".to_owned()),
            (&long, long.replace("://", "...")),
        ] {
            let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
            let mut previous = None;
            for round in 0..40 {
                // Enough others to push the authority out of the table now and then.
                let filler = format!("{round}{}", "f".repeat(200));
                let headers = [
                    (":method", "POST"),
                    (":authority", given),
                    ("user-agent", "x"),
                    ("filler", &filler),
                    ("te", "trailers"),
                ];
                let block = encoder.encode(headers.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes())));
                let mended = mend(&block);
                assert!(round > 0 || mended.is_some(), "{given}");
                let read = read(&mut decoder, mended.as_deref().unwrap_or(&block));
                let got = read[1].1.clone();
                assert_eq!(
                    (read.len(), read[1].0.as_str(), got.len()),
                    (5, ":authority", given.len())
                );
                assert!(Authority::try_from(got.as_str()).is_ok(), "{got}");
                assert_eq!((read[2].1.as_str(), &read[3].1), ("x", &filler));
                previous.get_or_insert(got.clone());
                assert_eq!(previous.as_ref(), Some(&got));
            }
            assert_eq!(previous, Some(expected));
        }
    }

    #[test]
    fn a_compressed_authority_is_read() {
        // RFC 7541, C.4.1: www.example.com, a good one.
        let good = [
            0x82, 0x86, 0x84, 0x41, 0x8c, 0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4,
            0xff,
        ];
        assert_eq!(mend(&good), None);
        // "http://a" compressed: 100111 01001 01001 101011 1011100 011000 011000 00011, padded with ones.
        let bad = [0x41, 0x86, 0x9d, 0x29, 0xae, 0xe3, 0x0c, 0x0f, 0x82];
        let mended = mend(&bad).unwrap();
        assert_eq!(mended, [&[0x41, 8][..], b"http...a", &[0x82]].concat());
    }

    #[test]
    fn what_cannot_be_read_is_left() {
        for block in [
            &[][..],
            &[0x3f],
            &[0x3f, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80],
            &[0x41],
            &[0x41, 0x05, b'a'],
            &[0x41, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f],
            &[0x41, 0x85, 0xff, 0xff, 0xff, 0xff, 0xff],
            &[0x00, 0x01],
            &[0x82, 0x41, 0x01, b'a'],
            &[0x41, 0x00],
            &[0xff; 64],
        ] {
            assert_eq!(mend(block), None, "{block:02x?}");
        }
    }
}

//! What stands around an object in protobuf: `k8s\0`, then a message `Unknown` with `apiVersion` and `kind` (1), the message
//! of the object (2), its encoding (3) and its media type (4).

use prost::encoding::{WireType, encode_key, encode_varint};
use serde_json::Value;

use super::read::{Broken, parts, text};
use crate::object::Object;

/// How each object begins.
pub(super) const MAGIC: &[u8] = b"k8s\0";

/// An object as it stands on the wire.
#[derive(Debug)]
pub(super) struct Unknown<'a> {
    pub(super) api_version: &'a str,
    pub(super) kind: &'a str,
    pub(super) raw: &'a [u8],
}

impl Unknown<'_> {
    /// Writes what it is into the object.
    pub(super) fn name(&self, object: &mut Object) {
        for (field, text) in [("apiVersion", self.api_version), ("kind", self.kind)] {
            if !text.is_empty() {
                object.insert(field.to_owned(), Value::from(text));
            }
        }
    }
}

/// Opens an envelope; `None` if there is none.
pub(super) fn read(bytes: &[u8]) -> Option<Result<Unknown<'_>, Broken>> {
    let envelope = bytes.strip_prefix(MAGIC)?;
    let open = || {
        let outer = parts(envelope)?;
        let what = parts(outer.first)?;
        Ok(Unknown {
            api_version: text(what.first)?,
            kind: text(what.second)?,
            raw: outer.second,
        })
    };
    Some(open())
}

/// Puts a message into an envelope.
pub(super) fn write(api_version: &str, kind: &str, write_raw: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    with_length(1, &mut out, |out| {
        write_bytes(1, api_version.as_bytes(), out);
        write_bytes(2, kind.as_bytes(), out);
    });
    with_length(2, &mut out, write_raw);
    // A real API server writes these two empty as well.
    write_bytes(3, b"", &mut out);
    write_bytes(4, b"", &mut out);
    out
}

/// A field that holds bytes.
pub(super) fn write_bytes(number: u32, bytes: &[u8], out: &mut Vec<u8>) {
    encode_key(number, WireType::LengthDelimited, out);
    encode_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// A field that holds a number.
pub(super) fn write_varint(number: u32, value: u64, out: &mut Vec<u8>) {
    encode_key(number, WireType::Varint, out);
    encode_varint(value, out);
}

/// A field whose length is known only when it is written: there is room for one byte of it, which mostly is enough; else
/// what is written moves up.
pub(super) fn with_length<T>(number: u32, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    encode_key(number, WireType::LengthDelimited, out);
    let start = out.len();
    out.push(0);
    let written = write(out);
    let length = out.len() - start - 1;
    if let (Ok(length), Some(place)) = (u8::try_from(length), out.get_mut(start))
        && length < 0x80
    {
        *place = length;
    } else {
        let mut prefix = Vec::with_capacity(LENGTH_BYTES_MAX);
        encode_varint(length as u64, &mut prefix);
        out.splice(start..=start, prefix);
    }
    written
}

/// A length takes at most as many bytes.
const LENGTH_BYTES_MAX: usize = 10;

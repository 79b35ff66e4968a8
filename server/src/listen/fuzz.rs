//! HTTP/2 before the library sees it, for fuzzing: frames, blocks of headers and what is mended in them.

use bytes::BytesMut;

use super::authority::mend;
use super::blocks::{Gathered, gather};
use super::frames::Walk;

/// An input is a connection's bytes behind the preface, and where they are cut.
pub(crate) fn one_input(data: &[u8]) {
    let Some((&cut, bytes)) = data.split_first() else {
        return;
    };
    let mut whole = Vec::new();
    let mut walk = Walk::default();
    walk.over(bytes, |head| whole.push(head));
    let mut pieces = Vec::new();
    let mut again = Walk::default();
    for piece in bytes.chunks(1 + usize::from(cut)) {
        again.over(piece, |head| pieces.push(head));
    }
    assert_eq!(pieces, whole, "the pieces do not matter");
    assert_eq!(
        (walk.left(), walk.at_boundary()),
        (again.left(), again.at_boundary())
    );
    mended(bytes);
    if let Gathered::Whole(block) = gather(bytes) {
        let fragment = mended(&block.fragment).unwrap_or_else(|| block.fragment.clone());
        let mut written = BytesMut::new();
        block.write(&fragment, &mut written);
        match gather(&written) {
            Gathered::Whole(again) => assert_eq!(again.fragment, fragment),
            // It may have grown beyond what is put together.
            Gathered::Odd => assert!(written.len() > block.bytes, "what was written is odd"),
            Gathered::Partial => panic!("what was written is not whole"),
        }
    }
}

/// What is mended needs no more, and means the same but for the values that were replaced.
fn mended(block: &[u8]) -> Option<Vec<u8>> {
    let mended = mend(block)?;
    assert_eq!(mend(&mended), None, "mended once");
    let decode = |bytes: &[u8]| fluke_hpack::Decoder::new().decode(bytes).ok();
    if let (Some(before), Some(after)) = (decode(block), decode(&mended)) {
        let sizes = |fields: &[(Vec<u8>, Vec<u8>)]| -> Vec<(Vec<u8>, usize)> {
            fields
                .iter()
                .map(|(name, value)| (name.clone(), value.len()))
                .collect()
        };
        assert_eq!(sizes(&before), sizes(&after), "names and lengths stay");
    }
    Some(mended)
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let frame = |kind: u8, flags: u8, payload: &[u8]| {
        let length = u8::try_from(payload.len()).unwrap_or(0);
        [&[0, 0, length, kind, flags, 0, 0, 0, 1], payload].concat()
    };
    let authority = [
        &[0x82, 0x86, 0x84, 0x41, 0x0f][..],
        b"http://a.b:2379",
        &[0x40, 1, b'x', 1, b'y'],
    ]
    .concat();
    let huffman = [
        0x41, 0x8c, 0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff,
    ];
    vec![
        [
            &[0][..],
            &frame(4, 0, &[0, 3, 0, 0, 0, 100]),
            &frame(8, 0, &[0, 0, 1, 0]),
        ]
        .concat(),
        [&[3][..], &frame(1, 5, &authority)].concat(),
        [
            &[255][..],
            &frame(1, 0x29, &[&[2, 0, 0, 0, 0, 7][..], &authority, &[0, 0]].concat()),
        ]
        .concat(),
        [
            &[7][..],
            &frame(1, 1, &authority[..6]),
            &frame(9, 4, &authority[6..]),
        ]
        .concat(),
        [&[1][..], &authority].concat(),
        [&[1][..], &frame(1, 5, &huffman)].concat(),
        [&[1][..], &huffman[..]].concat(),
    ]
}

//! The client's small languages, for fuzzing: quoted strings, and the lines of `txn`.

use super::{text, txn};

pub(crate) fn one_input(data: &[u8]) {
    let quoted = text::quoted(data);
    let read = text::unquote(&quoted);
    assert_eq!(read, Some((data.to_vec(), "")), "{quoted}");
    if let Ok(given) = std::str::from_utf8(data)
        && let Some((_, rest)) = text::unquote(given)
    {
        assert!(given.ends_with(rest), "the rest is the end");
    }
    let _ = txn::read(&mut &data[..], |_| {});
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let txn = b"mod(\"a\") > \"0\"\nval(`b`) != \"x\\ty\\x41\\u00e9\"\nlease(\"c\") = \"1f\"\n\nput a \"b c\" --lease=1f\n\
        get a b --prefix --limit=3\n\ndel \"a\\n\"\n\n";
    vec![
        txn.to_vec(),
        b"\"a\\\"\\xff\\101\\U0001F600\" rest".to_vec(),
        b"`raw`".to_vec(),
        vec![0xff, 0, b'"'],
    ]
}

//! The table as a page: `docs/auth-matrix.md`.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::auth_matrix::caller::{CALLERS, Refusal};
use crate::auth_matrix::table::rows;

/// Compares the page with the table, or writes it.
pub(crate) fn check() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/auth-matrix.md");
    let page = page();
    if std::env::var_os("REGENERATE").is_some() {
        fs::write(&path, page).expect("the page can be written");
        return;
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page,
        "{} is not that of the table: REGENERATE=1 writes it",
        path.display()
    );
}

fn page() -> String {
    let mut page = HEAD.to_owned();
    for refusal in Refusal::ALL {
        let (code, text) = refusal.status();
        writeln!(page, "| {} | {code:?} | `{text}` |", word(Some(refusal))).expect("memory");
    }
    page.push_str(BETWEEN);
    let callers: Vec<String> = CALLERS.iter().map(ToString::to_string).collect();
    writeln!(page, "| method | request | {} |", callers.join(" | ")).expect("memory");
    writeln!(page, "|---|---|{}", "---|".repeat(callers.len())).expect("memory");
    for row in rows() {
        let cells: Vec<&str> = CALLERS
            .iter()
            .map(|caller| word(caller.refusal(row.needs)))
            .collect();
        writeln!(page, "| {} | {} | {} |", row.method, row.note, cells.join(" | ")).expect("memory");
    }
    page
}

/// A cell of the table.
fn word(refusal: Option<Refusal>) -> &'static str {
    match refusal {
        None => "yes",
        Some(Refusal::UserEmpty) => "who?",
        Some(Refusal::InvalidToken) => "token",
        Some(Refusal::OldRevision) => "old",
        Some(Refusal::Denied) => "no",
        Some(Refusal::UserNotFound) => "unknown",
    }
}

const HEAD: &str = "\
# Who may call what

What a server with auth on answers to every RPC, by who calls. `server/tests/cases/auth_matrix.rs` makes this page of
its table (`REGENERATE=1` writes it) and asks a running server every cell, over gRPC and through the gateway.

`yes`: the call is judged to be allowed. The other words are refusals:

| word | code | text |
|---|---|---|
";

const BETWEEN: &str = "
The callers: `no token` has no certificate with a Common Name either; `CN of no user` and `CN of a reader` bring no token but a
certificate, and on a server with `--client-cert-auth` its Common Name is the user; a `stale token` is a JWT from before the
last change of users or roles, here of a user who may read and write; `reader`, `writer` and `reader and writer` have a
permission on all keys that the requests name; `other range` may read and write other keys. A watch that is refused is
created and cancelled, with the refusal as its reason. Through the gateway certificates name nobody.

";

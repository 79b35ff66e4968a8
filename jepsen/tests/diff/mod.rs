//! Everything that the differential test needs: the language of sequences and how they are drawn, the two servers, what
//! is compared and what is not, and the search.

#[path = "../../../server/tests/harness/as_bytes.rs"]
mod as_bytes;
pub(crate) mod calls;
pub(crate) mod explained;
pub(crate) mod metrics;
pub(crate) mod pair;
#[allow(dead_code, reason = "shared with the server's tests")]
#[path = "../../../server/tests/harness/ports.rs"]
mod ports;
pub(crate) mod process;
pub(crate) mod programs;
pub(crate) mod run;
pub(crate) mod scene;
pub(crate) mod search;
#[allow(dead_code, reason = "shared with the server's tests")]
#[path = "../../../server/tests/harness/skip.rs"]
mod skip;
pub(crate) mod steps;
pub(crate) mod strategy;
pub(crate) mod watching;

use std::io::Write as _;
use std::time::Duration;

/// The longest that any single wait may last. It only turns a hang into a failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A line for whoever watches the test. Not a print macro: the test runner would swallow it.
pub(crate) fn say(line: &str) {
    writeln!(std::io::stderr(), "{line}").expect("stderr is open");
}

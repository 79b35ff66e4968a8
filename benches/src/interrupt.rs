//! What SIGINT and SIGTERM do to a run with servers of its own.

use std::future::Future;

use tokio::signal::unix::{SignalKind, signal};

use crate::Error;

/// Runs the work to its end or to the first signal. The work is then dropped, and the servers under way with it.
///
/// # Errors
/// Those of the work, or [`Error::Interrupted`].
pub(crate) async fn interruptible<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let failed = |source| Error::System {
        what: "listen for signals",
        source,
    };
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    tokio::select! {
        outcome = work => outcome,
        _ = interrupt.recv() => Err(Error::Interrupted),
        _ = terminate.recv() => Err(Error::Interrupted),
    }
}

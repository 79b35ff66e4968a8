//! What ends a run early.

use std::path::PathBuf;
use std::time::Duration;

use crate::kubernetes::CallError;

/// Why a run or a comparison could not be finished. A failed operation is not one of these: it is counted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The TCP connection failed.
    #[error("cannot connect to {authority}")]
    Connect {
        /// Host and port.
        authority: String,
        /// The cause.
        source: std::io::Error,
    },
    /// The HTTP/2 handshake failed.
    #[error("{authority} does not speak HTTP/2")]
    Handshake {
        /// Host and port.
        authority: String,
        /// The cause.
        source: h2::Error,
    },
    /// A call that prepares the run failed.
    #[error("{what} failed: {status}")]
    Prepare {
        /// The step.
        what: &'static str,
        /// What the server answered.
        status: Box<tonic::Status>,
    },
    /// A call of the Kubernetes API that prepares a measurement failed.
    #[error("{what} failed")]
    Call {
        /// The step.
        what: &'static str,
        /// The cause.
        source: Box<CallError>,
    },
    /// No operation ended for so long that the server is taken for dead.
    #[error("no operation ended within {waited:?}")]
    Stalled {
        /// The time without an answer.
        waited: Duration,
    },
    /// A client task panicked.
    #[error("a client ended abnormally")]
    Client(#[source] tokio::task::JoinError),
    /// Nothing succeeded, so there is nothing to report.
    #[error("no operation succeeded; the first error: {first}")]
    NothingDone {
        /// The text of one of the errors.
        first: String,
    },
    /// The process to account for cannot be read.
    #[error("cannot read the process {pid}")]
    Process {
        /// Its id.
        pid: u32,
        /// The cause.
        source: std::io::Error,
    },
    /// `/proc` has an unexpected form.
    #[error("unexpected contents of {path}")]
    ProcFormat {
        /// The file.
        path: PathBuf,
    },
    /// A file or directory of a comparison.
    #[error("cannot {what} {path}")]
    File {
        /// The step.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A server under comparison exited or did not answer in time.
    #[error("{path} did not become ready: {reason}; the end of its log:\n{log}")]
    NotReady {
        /// The program.
        path: PathBuf,
        /// Exit status or deadline.
        reason: String,
        /// The last lines it wrote.
        log: String,
    },
    /// No free loopback port, or the operating system refused another basic service.
    #[error("cannot {what}")]
    System {
        /// The step.
        what: &'static str,
        /// The cause.
        source: std::io::Error,
    },
    /// A signal asked for the end.
    #[error("interrupted")]
    Interrupted,
}

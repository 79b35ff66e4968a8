//! The binary `taffrail`: etcd's flags, ports, RPCs, HTTP endpoints and metrics, over the crate `store`.
//!
//! | module | what |
//! | --- | --- |
//! | `config` | flags and environment, resolved and validated |
//! | `bootstrap`, `shutdown` | the ordered start and stop |
//! | `connection`, `placement` | a client's connection, and which runtime serves it |
//! | `listen`, `tls` | sockets, and what stands between them and HTTP |
//! | `auth` | who a caller is: passwords, tokens, certificates |
//! | `peer` | the other members: transport, handshake, joining |
//! | `audit` | who did what: the audit log, the top talkers |
//! | `compactor` | automatic compaction, when this member leads |
//! | `corruption` | comparing the members' data |
//! | `concurrency` | locks and elections over the store's handle |
//! | `grpc` | one file per service; `status` alone knows codes and texts |
//! | `backup` | the state as a file of etcd's own format |
//! | `kubernetes` | the adapter `apiserver`, beside the store and alone |
//! | `http2_debug` | the headers of requests on the standard error, for whoever looks for a broken client |
//! | `http`, `metrics` | what probes and scrapers ask for |
//! | `gateway` | the RPCs as JSON over HTTP |
//! | `ctl` | the everyday commands of etcdctl |
//! | `offline` | `taffrail debug` and `taffrail snapshot`: data folders and backups without a running member |
//! | `defences` | what keeps clients from using up the process |
//! | `demo` | a whole cluster on one machine |
//! | `private` | the modes of the files that are written |
//! | `fuzzing` | feature `fuzzing`: what the fuzz targets of `server/fuzz` call |
//! | `tcp_proxy` | `taffrail gateway`: forwards TCP connections to the members of a cluster |
//!
//! No behaviour of a store lives here: checks, order and errors of requests are the store's.

use std::process::ExitCode;

mod audit;
mod auth;
mod backup;
mod bootstrap;
mod compactor;
mod concurrency;
mod config;
mod connection;
mod core;
mod corruption;
mod ctl;
mod defences;
mod demo;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod gateway;
mod grpc;
mod http;
mod http2_debug;
mod kubernetes;
mod listen;
mod logging;
mod memory;
mod metrics;
mod offline;
mod peer;
mod placement;
mod private;
mod shutdown;
mod tcp_proxy;
mod tls;

/// Runs the program named by `args` (the first is the program's own name) to its exit code.
#[must_use]
pub fn run(args: &[String]) -> ExitCode {
    private::keep_files_private();
    let env: Vec<(String, String)> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    match args.get(1..).unwrap_or_default() {
        [first, rest @ ..] if first == "apiserver" => kubernetes::run(rest),
        [first, rest @ ..] if first == "ctl" => ctl::run(rest, &env),
        [first, rest @ ..] if first == "debug" => offline::debug(rest),
        [first, rest @ ..] if first == "demo" => demo::run(rest),
        [first, rest @ ..] if first == "gateway" => tcp_proxy::run(rest),
        [first, rest @ ..] if first == "snapshot" => offline::snapshot(rest, &env),
        [first, ..] if first == "grpc-proxy" => {
            eprintln!("grpc-proxy is not supported by this version of Taffrail");
            ExitCode::FAILURE
        }
        _ => member(args, &env),
    }
}

/// `args` has the program's own name in front.
fn member(args: &[String], env: &[(String, String)]) -> ExitCode {
    let settings = match config::Settings::resolve(args.get(1..).unwrap_or_default(), env) {
        Ok(settings) => settings,
        Err(exit) => {
            exit.tell(args, log_refusal);
            return ExitCode::from(exit.code());
        }
    };
    if let Err(error) = logging::install(&settings.log) {
        log_refusal(&config::LogSettings::default());
        config::log_running(args);
        tracing::warn!(error, "failed to verify flags");
        return ExitCode::FAILURE;
    }
    for notice in &settings.warnings {
        notice.log();
    }
    config::log_running(args);
    abort_on_panic();
    match bootstrap::run(settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            tracing::error!(
                error = &failure as &dyn std::error::Error,
                "the member cannot go on"
            );
            ExitCode::FAILURE
        }
    }
}

/// The log of a process that ends at once: where its own cannot be opened, the standard error.
fn log_refusal(settings: &config::LogSettings) {
    if logging::install(settings).is_err() {
        // The default cannot fail.
        let _ = logging::install(&config::LogSettings::default());
    }
}

/// A panic means a broken invariant: the process ends rather than go on with half a state. The one exception is a
/// backend that is being opened under guard: its damage is survived by setting it aside.
fn abort_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let text = panic.payload_as_str().unwrap_or("panic without a text");
        if store::backend::is_guarded() {
            tracing::warn!(place, "opening the backend failed: {text}");
            return;
        }
        let stack = std::backtrace::Backtrace::force_capture().to_string();
        tracing::error!(place, stack, "panic: {text}");
        std::process::abort();
    }));
}

#[cfg(test)]
mod tests;

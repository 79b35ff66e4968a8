//! raft-rs logs through slog; this bridge hands its lines to `tracing`, so that they appear with all others.

use std::fmt::Write as _;

use slog::{Drain, KV, Level, Logger, Never, OwnedKVList, Record};

/// A logger for raft-rs that speaks to `tracing` under the target `raft`.
pub(super) fn bridge() -> Logger {
    Logger::root(Bridge, slog::o!())
}

struct Bridge;

impl Drain for Bridge {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, _: &OwnedKVList) -> Result<(), Never> {
        let mut line = Line(record.msg().to_string());
        // Writing to a string cannot fail; a field that refuses to be formatted is left out.
        let _ = record.kv().serialize(record, &mut line);
        match record.level() {
            Level::Critical | Level::Error => tracing::error!(target: "raft", "{}", line.0),
            Level::Warning => tracing::warn!(target: "raft", "{}", line.0),
            Level::Info => tracing::info!(target: "raft", "{}", line.0),
            Level::Debug | Level::Trace => tracing::debug!(target: "raft", "{}", line.0),
        }
        Ok(())
    }

    fn is_enabled(&self, level: Level) -> bool {
        match level {
            Level::Debug | Level::Trace => tracing::enabled!(target: "raft", tracing::Level::DEBUG),
            _ => true,
        }
    }
}

struct Line(String);

impl slog::Serializer for Line {
    fn emit_arguments(&mut self, key: slog::Key, value: &std::fmt::Arguments<'_>) -> slog::Result {
        write!(self.0, "; {key}: {value}").map_err(slog::Error::from)
    }
}

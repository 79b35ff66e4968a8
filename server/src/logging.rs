//! The log: one line per event on the standard error, unbuffered, in the shape of etcd's.
//!
//! JSON: `level`, `ts`, `caller`, `msg`, then the event's fields. Console: the same, separated by tabs.

use std::fmt::{self, Write as _};

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::config::{LogFormat, LogSettings};

/// Makes `settings` the log of this process. Only the first call has an effect.
pub(crate) fn install(settings: LogSettings) {
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(settings.level)
        .with_writer(std::io::stderr)
        .event_format(Lines(settings.format))
        .finish();
    // A second installation happens in tests only, where the first is as good.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// Formats one event as one line.
struct Lines(LogFormat);

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut time = String::with_capacity(32);
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let mut fields = Fields::default();
        event.record(&mut fields);
        writer.write_str(&line(self.0, event.metadata(), &time, fields))?;
        writer.write_char('\n')
    }
}

fn line(format: LogFormat, metadata: &Metadata<'_>, time: &str, fields: Fields) -> String {
    let level = level_name(*metadata.level());
    let caller = caller(metadata);
    match format {
        LogFormat::Json => {
            let mut text = format!(
                "{{\"level\":\"{level}\",\"ts\":\"{time}\",\"caller\":{},\"msg\":{}",
                Value::from(caller),
                Value::from(fields.message)
            );
            for (name, value) in &fields.others {
                // Writing to a string cannot fail.
                let _ = write!(text, ",{}:{value}", Value::from(name.as_str()));
            }
            text.push('}');
            text
        }
        LogFormat::Console => {
            let mut text = format!("{time}\t{level}\t{caller}\t{}", fields.message);
            if !fields.others.is_empty() {
                let _ = write!(text, "\t{}", Value::Object(fields.others));
            }
            text
        }
    }
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG | Level::TRACE => "debug",
    }
}

/// The last two parts of the file's path and the line, as `grpc/kv.rs:12`.
fn caller(metadata: &Metadata<'_>) -> String {
    let file = metadata.file().unwrap_or("unknown");
    let from = file.rmatch_indices('/').nth(1).map_or(0, |(at, _)| at + 1);
    format!("{}:{}", &file[from..], metadata.line().unwrap_or(0))
}

/// Gathers an event's fields.
#[derive(Default)]
struct Fields {
    message: String,
    others: Map<String, Value>,
}

impl Fields {
    fn keep(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            (name, value) => {
                self.others.insert(name.replace('_', "-"), value);
            }
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.keep(field, Value::from(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.keep(field, Value::from(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.keep(field, Value::from(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.keep(field, Value::from(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.keep(field, Value::from(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.keep(field, Value::from(value));
    }

    fn record_error(&mut self, field: &Field, error: &(dyn std::error::Error + 'static)) {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            let _ = write!(text, ": {error}");
            cause = error.source();
        }
        self.keep(field, Value::from(text));
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat) -> String {
        let captured = Captured::default();
        let writer = captured.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .event_format(Lines(format))
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(member_id = "8e9e", count = 3_u64, "ready to \"serve\"");
        });
        let bytes = captured.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_json_line_has_etcds_fields() {
        let line = logged(LogFormat::Json);
        assert!(line.ends_with("}\n") && line.lines().count() == 1, "{line}");
        let value: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["level"], "info");
        assert_eq!(value["msg"], "ready to \"serve\"");
        assert_eq!(
            (&value["member-id"], &value["count"]),
            (&Value::from("8e9e"), &Value::from(3))
        );
        assert!(
            value["caller"].as_str().unwrap().starts_with("src/logging.rs:"),
            "{line}"
        );
        assert!(value["ts"].as_str().unwrap().ends_with('Z'), "{line}");
    }

    #[test]
    fn a_console_line_is_separated_by_tabs() {
        let line = logged(LogFormat::Console);
        let parts: Vec<&str> = line.trim_end().split('\t').collect();
        assert_eq!((parts[1], parts[3]), ("info", "ready to \"serve\""));
        assert_eq!(parts[4], "{\"count\":3,\"member-id\":\"8e9e\"}");
    }
}

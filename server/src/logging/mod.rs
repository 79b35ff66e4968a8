//! The log: one line per event, unbuffered, in the shape of etcd's.
//!
//! JSON: `level`, `ts`, `caller`, `msg`, then the event's fields in their order. Console: the same, separated by tabs.
//! Two fields of an event are more than they say: `fields` holds a JSON object whose members are fields, for those
//! that are known by name only at run time or are lists; and the target `fatal` is a level of its own, as in etcd the
//! last line of a process that cannot start.

use std::fmt::{self, Write as _};
use std::time::SystemTime;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use self::outputs::Outputs;
use crate::config::{LogFormat, LogSettings};

mod outputs;
mod rotating;

/// Makes `settings` the log of this process; only the first call has an effect. The error tells, in etcd's words,
/// which output cannot be opened.
pub(crate) fn install(settings: &LogSettings) -> Result<(), String> {
    let log = Log {
        level: settings.level,
        format: settings.format,
        outputs: Outputs::open(settings)?,
    };
    // A second installation happens in tests only, where the first is as good.
    let _ = tracing::subscriber::set_global_default(log);
    Ok(())
}

/// Everything that is logged passes here. There are no spans.
struct Log {
    level: Level,
    format: LogFormat,
    outputs: Outputs,
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() <= self.level
    }

    fn max_level_hint(&self) -> Option<tracing::level_filters::LevelFilter> {
        Some(self.level.into())
    }

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let metadata = event.metadata();
        let line = line(self.format, metadata, &time_text(SystemTime::now()), fields);
        self.outputs.write(&line, *metadata.level(), &caller(metadata));
    }

    fn new_span(&self, _span: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _span: &Id, _values: &Record<'_>) {}

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn enter(&self, _span: &Id) {}

    fn exit(&self, _span: &Id) {}
}

/// `2026-11-21T14:05:09.123456Z`.
pub(crate) fn time_text(time: SystemTime) -> String {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil_date(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let micros = since.subsec_micros();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
}

/// The date of a day since 1970-01-01. Years are counted from March, so that a leap day is the last of its year;
/// 400 of them have 146,097 days, of which 719,468 days before 1970-01-01 make whole eras and a rest.
fn civil_date(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

fn line(format: LogFormat, metadata: &Metadata<'_>, time: &str, fields: Fields) -> String {
    let level = match metadata.target() {
        "fatal" => "fatal",
        _ => level_name(*metadata.level()),
    };
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
            text.push_str("}\n");
            text
        }
        LogFormat::Console => {
            let mut text = format!("{time}\t{level}\t{caller}\t{}", fields.message);
            if !fields.others.is_empty() {
                let others = fields.others.iter();
                let others: Vec<String> = others
                    .map(|(name, value)| format!("{}: {value}", Value::from(name.as_str())))
                    .collect();
                let _ = write!(text, "\t{{{}}}", others.join(", "));
            }
            // One line, whatever a message holds.
            text = text.replace('\n', "\\n");
            text.push('\n');
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
    others: Vec<(String, Value)>,
}

impl Fields {
    fn keep(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            ("fields", Value::String(text)) => {
                let fields: Map<String, Value> = serde_json::from_str(&text).unwrap_or_default();
                self.others.extend(fields);
            }
            (name, value) => self.others.push((name.replace('_', "-"), value)),
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
    use std::time::Duration;

    use super::*;
    use crate::config::LogOutput;

    fn logged(format: LogFormat, log: impl FnOnce()) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let settings = LogSettings {
            format,
            outputs: vec![LogOutput::File(path.clone())],
            ..LogSettings::default()
        };
        let subscriber = Log {
            level: settings.level,
            format,
            outputs: Outputs::open(&settings).unwrap(),
        };
        tracing::subscriber::with_default(subscriber, log);
        std::fs::read_to_string(path).unwrap()
    }

    fn event() {
        tracing::debug!("not at this level");
        tracing::info!(member_id = "8e9e", count = 3_u64, "ready to \"serve\"");
    }

    #[test]
    fn a_json_line_has_etcds_fields() {
        let line = logged(LogFormat::Json, event);
        assert!(line.ends_with("}\n") && line.lines().count() == 1, "{line}");
        assert!(line.starts_with("{\"level\":\"info\",\"ts\":\""), "{line}");
        let value: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["msg"], "ready to \"serve\"");
        assert_eq!(
            (&value["member-id"], &value["count"]),
            (&Value::from("8e9e"), &Value::from(3))
        );
        assert!(
            value["caller"].as_str().unwrap().starts_with("logging/mod.rs:"),
            "{line}"
        );
        assert!(value["ts"].as_str().unwrap().ends_with('Z'), "{line}");
    }

    #[test]
    fn a_console_line_is_separated_by_tabs() {
        let line = logged(LogFormat::Console, event);
        let parts: Vec<&str> = line.trim_end().split('\t').collect();
        assert_eq!((parts[1], parts[3]), ("info", "ready to \"serve\""));
        assert_eq!(parts[4], "{\"member-id\": \"8e9e\", \"count\": 3}");
    }

    #[test]
    fn lists_and_the_fatal_level_have_their_form() {
        let line = logged(LogFormat::Json, || {
            let fields = serde_json::json!({ "args": ["a", "b"] });
            tracing::error!(target: "fatal", fields = %fields, "discovery failed");
        });
        let value: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["level"], "fatal");
        assert_eq!(value["args"], serde_json::json!(["a", "b"]));
    }

    #[test]
    fn an_output_that_cannot_be_opened_is_named() {
        let settings = LogSettings {
            outputs: vec![LogOutput::File("/nonexistent/x/y".into())],
            ..LogSettings::default()
        };
        assert_eq!(
            install(&settings).unwrap_err(),
            "open sink \"/nonexistent/x/y\": open /nonexistent/x/y: no such file or directory"
        );
    }

    #[test]
    fn times_are_written_in_utc() {
        for (micros, text) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_400_000_001, "2000-02-29T00:00:00.000001Z"),
            (1_795_269_909_123_456, "2026-11-21T14:05:09.123456Z"),
            (4_107_542_399_999_999, "2100-02-28T23:59:59.999999Z"),
        ] {
            let time = SystemTime::UNIX_EPOCH + Duration::from_micros(micros);
            assert_eq!(time_text(time), text);
        }
    }
}

//! How to log.

use std::path::PathBuf;

use serde::Deserialize;

use super::number::parse_bool;
use super::raw::Raw;

/// The log of the process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct LogSettings {
    pub(crate) level: tracing::Level,
    pub(crate) format: LogFormat,
    pub(crate) outputs: Vec<LogOutput>,
    /// How the one file among the outputs is rotated, if it is.
    pub(crate) rotation: Option<Rotation>,
}

/// The shape of a log line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LogFormat {
    Json,
    Console,
}

/// Where lines go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum LogOutput {
    Stderr,
    Stdout,
    Journal,
    File(PathBuf),
}

/// When a new file is begun, and what becomes of the old ones.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Rotation {
    /// Megabytes of one file; 0 is 100.
    #[serde(rename = "maxsize")]
    pub(crate) size_mb_max: i64,
    /// Days that old files are kept; 0 is for ever.
    #[serde(rename = "maxage")]
    pub(crate) age_days_max: i64,
    /// Old files kept; 0 is all.
    #[serde(rename = "maxbackups")]
    pub(crate) backups_max: i64,
    /// Accepted; old files are named after UTC.
    pub(crate) localtime: bool,
    /// Old files are compressed.
    pub(crate) compress: bool,
}

impl Default for LogSettings {
    fn default() -> Self {
        LogSettings {
            level: tracing::Level::INFO,
            format: LogFormat::Json,
            outputs: vec![LogOutput::Stderr],
            rotation: None,
        }
    }
}

/// Reads the flags of the log, in etcd's order of checks; the errors are etcd's.
pub(super) fn read(raw: &Raw) -> Result<LogSettings, String> {
    match raw.get("logger") {
        "zap" => {}
        "capnslog" => return Err("--logger=capnslog is removed in v3.5".to_owned()),
        other => return Err(format!("unknown logger option {other:?}")),
    }
    let mut names: Vec<&str> = raw.get("log-outputs").split(',').collect();
    if !raw.from_file {
        names.sort_unstable();
        names.dedup();
    }
    if names == [""] {
        names = vec!["default"];
    }
    if names.len() > 1 && names.contains(&"default") {
        return Err("multi logoutput for \"default\" is not supported yet".to_owned());
    }
    let outputs: Vec<LogOutput> = names.iter().map(|name| output(name)).collect();
    let rotation = match parse_bool(raw.get("enable-log-rotation")) {
        Some(true) => Some(rotation(&outputs, raw.get("log-rotation-config-json"))?),
        _ => None,
    };
    if outputs.len() > 1 && outputs.contains(&LogOutput::Journal) {
        let names: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
        return Err(format!(
            "running with systemd/journal but other '--log-outputs' values ([{}]) are configured with 'default'; \
             override 'default' value with something else",
            names.join(" ")
        ));
    }
    let format = match raw.get("log-format") {
        "json" => LogFormat::Json,
        "console" => LogFormat::Console,
        other => {
            return Err(format!(
                "unknown log format: {other}, supported values json, console"
            ));
        }
    };
    Ok(LogSettings {
        level: level(raw.get("log-level")).unwrap_or(tracing::Level::INFO),
        format,
        outputs,
        rotation,
    })
}

/// The level of that name; `None` if there is no such level.
pub(super) fn level(name: &str) -> Option<tracing::Level> {
    Some(match name {
        "debug" | "DEBUG" => tracing::Level::DEBUG,
        "info" | "INFO" | "" => tracing::Level::INFO,
        "warn" | "WARN" | "warning" | "WARNING" => tracing::Level::WARN,
        "error" | "ERROR" | "dpanic" | "DPANIC" | "panic" | "PANIC" | "fatal" | "FATAL" => {
            tracing::Level::ERROR
        }
        _ => return None,
    })
}

fn output(name: &str) -> LogOutput {
    match name {
        "default" | "stderr" => LogOutput::Stderr,
        "stdout" => LogOutput::Stdout,
        "systemd/journal" => LogOutput::Journal,
        path => LogOutput::File(PathBuf::from(path.strip_prefix("file://").unwrap_or(path))),
    }
}

fn rotation(outputs: &[LogOutput], config: &str) -> Result<Rotation, String> {
    let others = outputs
        .iter()
        .filter(|output| !matches!(output, LogOutput::Stderr | LogOutput::Stdout))
        .count();
    if (outputs.len() == 1 && others == 0) || others > 1 {
        return Err(
            "--log-outputs requires a single file path when --log-rotate-config-json is defined".to_owned(),
        );
    }
    serde_json::from_str(config).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => format!("invalid log rotation config: {error}"),
        serde_json::error::Category::Eof => {
            "improperly formatted log rotation config: unexpected end of JSON input".to_owned()
        }
        _ => format!("improperly formatted log rotation config: {error}"),
    })
}

//! What the user should know before the start: lines for the log, kept until there is one.

use std::fmt;

use serde_json::{Map, Value, json};

/// One line.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Notice {
    warning: bool,
    message: String,
    fields: Map<String, Value>,
}

impl Notice {
    pub(super) fn warning(message: impl Into<String>, fields: Value) -> Notice {
        Notice {
            warning: true,
            message: message.into(),
            fields: object(fields),
        }
    }

    pub(super) fn info(message: impl Into<String>, fields: Value) -> Notice {
        Notice {
            warning: false,
            ..Notice::warning(message, fields)
        }
    }

    /// A warning without fields.
    pub(super) fn plain(message: impl Into<String>) -> Notice {
        Notice::warning(message, json!({}))
    }

    #[cfg(test)]
    pub(super) fn is_warning(&self) -> bool {
        self.warning
    }

    /// Writes the line.
    pub(crate) fn log(&self) {
        let (message, fields) = (&self.message, Value::Object(self.fields.clone()));
        if self.warning {
            tracing::warn!(fields = %fields, "{message}");
        } else {
            tracing::info!(fields = %fields, "{message}");
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        for (name, value) in &self.fields {
            write!(f, " {name}={value}")?;
        }
        Ok(())
    }
}

fn object(fields: Value) -> Map<String, Value> {
    match fields {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

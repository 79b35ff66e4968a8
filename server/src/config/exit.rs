//! Why there are no settings, and what the process shall do instead of starting.

use super::log::LogSettings;
use super::notice::Notice;
use super::usage;

/// The end of a process that does not become a member.
#[derive(PartialEq, Debug)]
pub(crate) enum Exit {
    /// Print these to the standard output and the standard error, and succeed.
    Print { out: String, err: String },
    /// The command line cannot be read: print the message, then the usage.
    Usage(String),
    /// A setting is wrong.
    Refused(Box<Refused>),
}

/// A wrong setting, told in the log.
#[derive(PartialEq, Debug)]
pub(crate) struct Refused {
    pub(crate) reason: String,
    pub(crate) by: RefusedBy,
    /// The log that was asked for, if that much could be read.
    pub(crate) log: Option<LogSettings>,
    /// What was to be told before.
    pub(crate) notices: Vec<Notice>,
}

/// Who finds a setting wrong in etcd; the lines differ.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum RefusedBy {
    /// The check of the flags.
    Check,
    /// The start of the server.
    Start,
    /// A flag and a variable of the same setting: the reason is the variable.
    Conflict,
    /// The reading of the configuration file, which does not log it.
    Print,
    /// The same, but as a crash.
    Panic,
}

impl Exit {
    /// The process's exit code.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Exit::Print { .. } => 0,
            Exit::Refused(refused) if refused.by == RefusedBy::Panic => 2,
            Exit::Refused(_) => 1,
            Exit::Usage(_) => 2,
        }
    }

    /// What is wrong, in one line.
    pub(crate) fn text(&self) -> &str {
        match self {
            Exit::Print { out, .. } => out,
            Exit::Usage(message) => message,
            Exit::Refused(refused) => &refused.reason,
        }
    }

    /// Tells the user: `args` is the whole command line. `log` makes given settings the log of the process.
    pub(crate) fn tell(&self, args: &[String], log: impl FnOnce(&LogSettings)) {
        let refused = match self {
            Exit::Print { out, err } => {
                eprint!("{err}");
                print!("{out}");
                return;
            }
            Exit::Usage(message) => {
                eprintln!("{message}\n{}", usage::usage());
                return;
            }
            Exit::Refused(refused) => refused,
        };
        let reason = refused.reason.as_str();
        if matches!(refused.by, RefusedBy::Print | RefusedBy::Panic) {
            eprintln!("{reason}");
            return;
        }
        log(refused.log.as_ref().unwrap_or(&LogSettings::default()));
        for notice in &refused.notices {
            notice.log();
        }
        if refused.by == RefusedBy::Conflict {
            tracing::error!(target: "fatal", environment_variable = reason, "{CONFLICT}");
            return;
        }
        usage::log_running(args);
        match refused.by {
            RefusedBy::Check => tracing::warn!(error = reason, "failed to verify flags"),
            _ => tracing::error!(target: "fatal", error = reason, "discovery failed"),
        }
    }
}

/// A flag and a variable of the same setting; etcd's words, its brackets included.
pub(crate) const CONFLICT: &str = "conflicting environment variable is shadowed by corresponding command-line flag \
                                   (either unset environment variable or disable flag))";

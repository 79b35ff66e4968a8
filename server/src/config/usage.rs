//! The texts of `--help` and of a command line that cannot be read, from the table of flags.

use serde_json::json;

use super::gates::Gates;
use super::table::{Kind, SECTIONS, Support};

/// How to call the program.
pub(super) fn usage() -> String {
    String::from(
        "Usage:\n\n  \
         taffrail [flags]\n    Start a member.\n\n  \
         taffrail --version\n    Show the version.\n\n  \
         taffrail -h | --help\n    Show this text and all flags.\n\n  \
         taffrail --config-file FILE\n    Start a member as FILE says; all other flags and variables are ignored. \
         Durations are integers there,\n    in nanoseconds: 600000000000 for 10m.\n\n  \
         taffrail ctl [flags] COMMAND\n    Talk to a member (the everyday commands of etcdctl).\n\n  \
         taffrail demo [--members 3]\n    Start a whole cluster on this machine.\n",
    )
}

/// All flags by section. Each can be given as a variable too.
pub(super) fn flags() -> String {
    let mut text = String::new();
    for (section, flags) in SECTIONS.iter().filter(|(section, _)| !section.is_empty()) {
        text.push_str(&format!("\n{section}:\n"));
        for flag in *flags {
            let default = match flag.name {
                "data-dir" => "${name}.etcd",
                _ => flag.default,
            };
            text.push_str(&format!("  --{} '{default}'\n    {}\n", flag.name, flag.help));
            if flag.kind == Kind::Gates {
                for option in Gates::options() {
                    text.push_str(&format!("    {option}\n"));
                }
            }
            match flag.support {
                Support::Inert => text.push_str("    Accepted, without effect in this version.\n"),
                Support::Refused => text.push_str("    Not supported by this version.\n"),
                Support::Live | Support::Legacy => {}
            }
        }
    }
    text.push_str(
        "\nEvery flag can be given as a variable: ETCD_ and its name in upper case with _ for -.\n",
    );
    text
}

/// The line with which etcd begins.
pub(crate) fn log_running(args: &[String]) {
    tracing::info!(fields = %json!({ "args": args }), "Running: ");
}

//! The commands and flags of `taffrail ctl`, with etcdctl's names.

use clap::builder::ValueParser;
use clap::{Arg, ArgAction, ArgMatches, Command};

use super::accounts;
use crate::config::duration;

/// Flags that every command takes, and that have a variable `ETCDCTL_…`.
pub(super) const GLOBAL: [&str; 13] = [
    "endpoints",
    "dial-timeout",
    "command-timeout",
    "write-out",
    "hex",
    "user",
    "password",
    "auth-jwt-token",
    "cert",
    "key",
    "cacert",
    "insecure-transport",
    "insecure-skip-tls-verify",
];

/// The variable of a global flag.
pub(super) fn variable(name: &str) -> String {
    format!("ETCDCTL_{}", name.to_ascii_uppercase().replace('-', "_"))
}

/// The whole command line. Variables of `env` stand in for global flags that are not given.
pub(super) fn command(env: &[(String, String)]) -> Command {
    let or_env = |name: &str, default: &'static str| {
        let variable = variable(name);
        env.iter()
            .find(|(known, value)| *known == variable && !value.is_empty())
            .map_or(default.to_owned(), |(_, value)| value.clone())
    };
    let duration_parser = || ValueParser::new(|text: &str| duration::parse(text).ok_or("invalid duration"));
    Command::new("taffrail ctl")
        .about("The everyday commands of etcdctl: talks to any etcd v3 server.")
        .no_binary_name(true)
        .disable_help_subcommand(true)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .arg(
            option("endpoints", "gRPC endpoints, separated by commas")
                .default_value(or_env("endpoints", "127.0.0.1:2379"))
                .global(true),
        )
        .arg(
            option("dial-timeout", "time to reach an endpoint")
                .default_value(or_env("dial-timeout", "2s"))
                .value_parser(duration_parser())
                .global(true),
        )
        .arg(
            option("command-timeout", "time for a short command")
                .default_value(or_env("command-timeout", "5s"))
                .value_parser(duration_parser())
                .global(true),
        )
        .arg(
            option("write-out", "output format: simple, json, fields or table")
                .short('w')
                .default_value(or_env("write-out", "simple"))
                .global(true),
        )
        .arg(
            switch("hex", "print byte strings in hex")
                .default_value(or_env("hex", "false"))
                .global(true),
        )
        .args(callers(or_env))
        .subcommands([
            get(),
            put(),
            del(),
            txn(),
            watch(),
            compaction(),
            lease(),
            member(),
            endpoint(),
            alarm(),
            snapshot(),
        ])
        .subcommands(accounts::commands())
        .subcommand(
            Command::new("move-leader")
                .about("Transfers leadership to another etcd cluster member")
                .arg(words("move-leader <transferee-member-id>")),
        )
        .subcommand(Command::new("defrag").about("Defragments the storage of the given endpoints"))
        .subcommand(Command::new("version").about("Prints the version"))
}

/// Who calls, and how the connection proves it.
fn callers(or_env: impl Fn(&str, &'static str) -> String) -> Vec<Arg> {
    let texts = [
        (
            "user",
            "username[:password] (the password is asked for if it is not given)",
        ),
        ("password", "the user's password; --user then holds none"),
        ("auth-jwt-token", "a token, in place of --user and --password"),
        ("cert", "certificate to show"),
        ("key", "its private key"),
        ("cacert", "authorities of the server's certificate"),
    ];
    let switches = [
        (
            "insecure-transport",
            "true",
            "do without TLS where the endpoint does not ask for it",
        ),
        (
            "insecure-skip-tls-verify",
            "false",
            "do not verify the server's certificate (only for tests)",
        ),
    ];
    let texts = texts.map(|(name, help)| option(name, help).default_value(or_env(name, "")));
    let switches =
        switches.map(|(name, default, help)| switch(name, help).default_value(or_env(name, default)));
    texts
        .into_iter()
        .chain(switches)
        .map(|arg| arg.global(true).hide_default_value(true))
        .collect()
}

pub(super) fn get() -> Command {
    Command::new("get")
        .about("Gets the key or a range of keys")
        .arg(words("get [options] <key> [range_end]"))
        .arg(option("consistency", "linearizable (l) or serializable (s)").default_value("l"))
        .arg(option("order", "order of results: ASCEND or DESCEND").default_value(""))
        .arg(option("sort-by", "sort target: CREATE, KEY, MODIFY, VALUE or VERSION").default_value(""))
        .arg(number("limit", "maximum number of results"))
        .arg(number("rev", "the revision to read"))
        .arg(number("min-mod-rev", "minimum modification revision"))
        .arg(number("max-mod-rev", "maximum modification revision"))
        .arg(number("min-create-rev", "minimum create revision"))
        .arg(number("max-create-rev", "maximum create revision"))
        .arg(switch("prefix", "get keys with matching prefix"))
        .arg(switch(
            "from-key",
            "get keys that are greater than or equal to the given key",
        ))
        .arg(switch("keys-only", "get only the keys"))
        .arg(switch("count-only", "get only the count"))
        .arg(switch(
            "print-value-only",
            "only print values, with the simple output format",
        ))
}

pub(super) fn put() -> Command {
    Command::new("put")
        .about("Puts the given key into the store; reads the value from standard input if it is not given")
        .arg(words("put [options] <key> <value>"))
        .arg(option("lease", "id (in hexadecimal) of the lease to attach to the key").default_value("0"))
        .arg(switch("prev-kv", "return the previous key-value pair"))
        .arg(switch("ignore-value", "keep the current value"))
        .arg(switch("ignore-lease", "keep the current lease"))
}

pub(super) fn del() -> Command {
    Command::new("del")
        .about("Removes the specified key or range of keys [key, range_end)")
        .arg(words("del [options] <key> [range_end]"))
        .arg(switch("prev-kv", "return the deleted key-value pairs"))
        .arg(switch("prefix", "delete keys with matching prefix"))
        .arg(switch(
            "from-key",
            "delete keys that are greater than or equal to the given key",
        ))
        .arg(switch("range", "delete a range of keys"))
}

fn txn() -> Command {
    Command::new("txn")
        .about(
            "Reads compares, then requests for success, then requests for failure from standard input, each list \
             ended by an empty line, and applies them as one transaction",
        )
        .arg(words("txn [options]"))
        .arg(switch("interactive", "say what is read next").short('i'))
}

fn watch() -> Command {
    Command::new("watch")
        .about("Watches events on keys or prefixes")
        .arg(words("watch [options] <key or prefix> [range_end]"))
        .arg(number("rev", "revision to start from"))
        .arg(switch("prefix", "watch on a prefix"))
        .arg(switch(
            "prev-kv",
            "get the previous key-value pair with each event",
        ))
        .arg(switch("progress-notify", "get periodic progress notifications"))
}

fn compaction() -> Command {
    Command::new("compaction")
        .alias("compact")
        .about("Compacts the event history")
        .arg(words("compaction [options] <revision>"))
        .arg(switch("physical", "wait until the old revisions are removed"))
}

fn lease() -> Command {
    Command::new("lease")
        .about("Lease related commands")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            Command::new("grant")
                .about("Creates leases")
                .arg(words("lease grant <ttl>")),
        )
        .subcommand(
            Command::new("revoke")
                .about("Revokes leases")
                .arg(words("lease revoke <leaseID>")),
        )
        .subcommand(
            Command::new("timetolive")
                .about("Get lease information")
                .arg(words("lease timetolive <leaseID> [options]"))
                .arg(switch("keys", "get the keys attached to the lease")),
        )
        .subcommand(Command::new("list").about("List all active leases"))
        .subcommand(
            Command::new("keep-alive")
                .about("Keeps leases alive (renew)")
                .arg(words("lease keep-alive [options] <leaseID>"))
                .arg(switch("once", "renew once and exit")),
        )
}

fn member() -> Command {
    Command::new("member")
        .about("Membership related commands")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            Command::new("list")
                .about("Lists all members in the cluster")
                .arg(words("member list"))
                .arg(option("consistency", "linearizable (l) or serializable (s)").default_value("l")),
        )
        .subcommand(
            Command::new("add")
                .about("Adds a member into the cluster")
                .arg(words("member add <memberName> [options]"))
                .arg(peer_urls())
                .arg(switch("learner", "add it as a learner, without a vote")),
        )
        .subcommand(
            Command::new("update")
                .about("Updates a member in the cluster")
                .arg(words("member update <memberID> [options]"))
                .arg(peer_urls()),
        )
        .subcommand(
            Command::new("remove")
                .about("Removes a member from the cluster")
                .arg(words("member remove <memberID>")),
        )
        .subcommand(
            Command::new("promote")
                .about("Promotes a learner of the cluster to a voting member")
                .arg(words("member promote <memberID>")),
        )
}

fn peer_urls() -> Arg {
    option("peer-urls", "the member's peer URLs, separated by commas").default_value("")
}

fn endpoint() -> Command {
    Command::new("endpoint")
        .about("Endpoint related commands")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .arg(switch("cluster", "use all endpoints from the member list").global(true))
        .subcommand(
            Command::new("status")
                .about("Prints the status of the endpoints")
                .arg(words("endpoint status")),
        )
        .subcommand(
            Command::new("health")
                .about("Checks the healthiness of the endpoints")
                .arg(words("endpoint health")),
        )
        .subcommand(
            Command::new("hashkv")
                .about("Prints the hash of the history for each endpoint")
                .arg(words("endpoint hashkv"))
                .arg(number("rev", "the newest revision to hash")),
        )
}

fn alarm() -> Command {
    Command::new("alarm")
        .about("Alarm related commands")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(Command::new("list").about("Lists all alarms"))
        .subcommand(Command::new("disarm").about("Disarms all alarms"))
}

fn snapshot() -> Command {
    Command::new("snapshot")
        .about("Manages etcd node snapshots")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            Command::new("save")
                .about("Stores an etcd node backend snapshot to a given file")
                .arg(words("snapshot save <filename>")),
        )
}

/// A boolean as Go's flags have them: alone, or with `=true` and `=false`.
pub(crate) fn switch(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .help(help)
        .num_args(0..=1)
        .require_equals(true)
        .default_missing_value("true")
        .default_value("false")
        .value_parser(clap::value_parser!(bool))
        .overrides_with(name)
        .hide_default_value(true)
        .hide_possible_values(true)
}

pub(crate) fn option(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .help(help)
        .num_args(1)
        .overrides_with(name)
        .allow_hyphen_values(true)
}

fn number(name: &'static str, help: &'static str) -> Arg {
    option(name, help)
        .default_value("0")
        .value_parser(clap::value_parser!(i64))
        .hide_default_value(true)
}

/// All that is no flag. How many there may be is the command's business, because etcdctl has its own words for it.
pub(crate) fn words(usage: &'static str) -> Arg {
    Arg::new(WORDS)
        .action(ArgAction::Append)
        .num_args(0..)
        .value_name(usage)
        .hide(true)
}

/// The words of a command.
pub(crate) fn words_of(matches: &ArgMatches) -> Vec<&str> {
    matches
        .get_many::<String>(WORDS)
        .map(|words| words.map(String::as_str).collect())
        .unwrap_or_default()
}

/// Whether a switch is on.
pub(crate) fn is_on(matches: &ArgMatches, name: &str) -> bool {
    matches.get_one::<bool>(name).copied().unwrap_or(false)
}

/// A number's value.
pub(super) fn number_of(matches: &ArgMatches, name: &str) -> i64 {
    matches.get_one::<i64>(name).copied().unwrap_or(0)
}

/// An option's text.
pub(crate) fn text_of<'a>(matches: &'a ArgMatches, name: &str) -> &'a str {
    matches
        .get_one::<String>(name)
        .map(String::as_str)
        .unwrap_or_default()
}

const WORDS: &str = "words";

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn parse(args: &[&str]) -> ArgMatches {
        command(&[]).try_get_matches_from(args).unwrap()
    }

    #[test]
    fn the_tree_is_sound() {
        command(&[]).debug_assert();
    }

    #[test]
    fn flags_stand_anywhere_and_words_stay_in_order() {
        let matches = parse(&[
            "--endpoints=a:1",
            "get",
            "k",
            "--prefix",
            "-w",
            "json",
            "e",
            "--limit=3",
            "--hex=false",
        ]);
        let (_, get) = matches.subcommand().unwrap();
        assert_eq!(words_of(get), ["k", "e"]);
        assert!(is_on(get, "prefix") && !is_on(get, "hex") && !is_on(get, "keys-only"));
        assert_eq!(
            (
                number_of(get, "limit"),
                text_of(get, "write-out"),
                text_of(get, "endpoints")
            ),
            (3, "json", "a:1")
        );
        assert_eq!(matches.get_one("command-timeout"), Some(&Duration::from_secs(5)));
    }

    #[test]
    fn values_may_begin_with_a_dash_after_two() {
        let matches = parse(&["put", "k", "--", "-v"]);
        assert_eq!(words_of(matches.subcommand().unwrap().1), ["k", "-v"]);
    }

    #[test]
    fn variables_stand_in_for_global_flags() {
        let env = [("ETCDCTL_ENDPOINTS".to_owned(), "b:2".to_owned())];
        let matches = command(&env).try_get_matches_from(["version"]).unwrap();
        assert_eq!(text_of(&matches, "endpoints"), "b:2");
    }
}

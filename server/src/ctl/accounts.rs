//! The commands about authentication, for clap: `auth`, `user`, `role`.

use clap::{Arg, Command};

use super::line::{option, switch, words};

pub(super) fn commands() -> [Command; 3] {
    [auth(), user(), role()]
}

fn auth() -> Command {
    group("auth", "Enable or disable authentication").subcommands([
        leaf("enable", "Enables authentication", "auth enable"),
        leaf("disable", "Disables authentication", "auth disable"),
        leaf("status", "Returns authentication status", "auth status"),
    ])
}

fn user() -> Command {
    group("user", "User related commands").subcommands([
        leaf(
            "add",
            "Adds a new user",
            "user add <user name or user:password> [options]",
        )
        .arg(interactive())
        .arg(option("new-user-password", "Supply password from the command line flag").default_value(""))
        .arg(switch(
            "no-password",
            "Create a user without password (CN based auth only)",
        )),
        leaf("delete", "Deletes a user", "user delete <user name>"),
        leaf(
            "get",
            "Gets detailed information of a user",
            "user get <user name> [options]",
        )
        .arg(switch("detail", "Show permissions of roles granted to the user")),
        leaf("list", "Lists all users", "user list"),
        leaf(
            "passwd",
            "Changes password of user",
            "user passwd <user name> [options]",
        )
        .arg(interactive()),
        leaf(
            "grant-role",
            "Grants a role to a user",
            "user grant-role <user name> <role name>",
        ),
        leaf(
            "revoke-role",
            "Revokes a role from a user",
            "user revoke-role <user name> <role name>",
        ),
    ])
}

fn role() -> Command {
    let range = |command: Command| {
        command
            .arg(switch("prefix", "a permission over a prefix"))
            .arg(switch(
                "from-key",
                "a permission over all keys that are greater than or equal to the given key",
            ))
    };
    group("role", "Role related commands").subcommands([
        leaf("add", "Adds a new role", "role add <role name>"),
        leaf("delete", "Deletes a role", "role delete <role name>"),
        leaf(
            "get",
            "Gets detailed information of a role",
            "role get <role name>",
        ),
        leaf("list", "Lists all roles", "role list"),
        range(leaf(
            "grant-permission",
            "Grants a key to a role",
            "role grant-permission [options] <role name> <permission type> <key> [endkey]",
        )),
        range(leaf(
            "revoke-permission",
            "Revokes a key from a role",
            "role revoke-permission <role name> <key> [endkey]",
        )),
    ])
}

fn group(name: &'static str, about: &'static str) -> Command {
    Command::new(name)
        .about(about)
        .subcommand_required(true)
        .arg_required_else_help(true)
}

fn leaf(name: &'static str, about: &'static str, usage: &'static str) -> Command {
    Command::new(name).about(about).arg(words(usage))
}

fn interactive() -> Arg {
    switch(
        "interactive",
        "ask for the password on the terminal; if not, read it from the standard input",
    )
    .default_value("true")
}

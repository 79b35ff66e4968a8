//! `user`: add, delete, get, list, passwd, grant-role, revoke-role.

use clap::ArgMatches;
use proto::authpb::UserAddOptions;
use proto::etcdserverpb::{
    AuthRoleGetRequest, AuthUserAddRequest, AuthUserChangePasswordRequest, AuthUserDeleteRequest,
    AuthUserGetRequest, AuthUserGrantRoleRequest, AuthUserListRequest, AuthUserRevokeRoleRequest,
};

use super::auth::client;
use super::print::{Format, Printer, print_line};
use super::session::Session;
use super::{Failure, ask, json, line, role};

pub(super) async fn run(session: &Session, printer: &Printer, matches: &ArgMatches) -> Result<(), Failure> {
    printer.refuse_table()?;
    match matches.subcommand() {
        Some(("add", matches)) => add(session, printer, matches).await,
        Some(("delete", matches)) => delete(session, printer, matches).await,
        Some(("get", matches)) => get(session, printer, matches).await,
        Some(("passwd", matches)) => passwd(session, printer, matches).await,
        Some(("grant-role", matches)) => grant(session, printer, matches).await,
        Some(("revoke-role", matches)) => revoke(session, printer, matches).await,
        Some((_, matches)) => list(session, printer, matches).await,
        None => Ok(()),
    }
}

/// The one word of a command.
pub(super) fn name_of<'a>(matches: &'a ArgMatches, missing: &str) -> Result<&'a str, Failure> {
    match line::words_of(matches)[..] {
        [name] => Ok(name),
        _ => Err(Failure::Arguments(missing.to_owned())),
    }
}

fn two_of<'a>(matches: &'a ArgMatches, missing: &str) -> Result<(&'a str, &'a str), Failure> {
    match line::words_of(matches)[..] {
        [user, role] => Ok((user, role)),
        _ => Err(Failure::Arguments(missing.to_owned())),
    }
}

async fn add(session: &Session, printer: &Printer, matches: &ArgMatches) -> Result<(), Failure> {
    let word = name_of(matches, "user add command requires user name as its argument")?;
    let from_flag = line::text_of(matches, "new-user-password");
    let no_password = line::is_on(matches, "no-password");
    let (name, password) = if no_password {
        (word, String::new())
    } else if !from_flag.is_empty() {
        (word, from_flag.to_owned())
    } else if let Some((name, password)) = word.split_once(':') {
        if name.is_empty() {
            return Err(Failure::Arguments("empty user name is not allowed".to_owned()));
        }
        (name, password.to_owned())
    } else {
        (word, asked(matches, word)?)
    };
    let request = AuthUserAddRequest {
        name: name.to_owned(),
        password,
        options: Some(UserAddOptions { no_password }),
        ..AuthUserAddRequest::default()
    };
    let answer = session.call(client(session).await?.user_add(request)).await?;
    printer.done(answer.header, &format!("User {name} created"));
    Ok(())
}

fn asked(matches: &ArgMatches, name: &str) -> Result<String, Failure> {
    if line::is_on(matches, "interactive") {
        ask::new_password(name)
    } else {
        ask::piped()
    }
}

async fn delete(session: &Session, printer: &Printer, matches: &ArgMatches) -> Result<(), Failure> {
    let name = name_of(matches, "user delete command requires user name as its argument")?;
    let request = AuthUserDeleteRequest {
        name: name.to_owned(),
    };
    let answer = session.call(client(session).await?.user_delete(request)).await?;
    printer.done(answer.header, &format!("User {name} deleted"));
    Ok(())
}

async fn get(session: &Session, printer: &Printer, matches: &ArgMatches) -> Result<(), Failure> {
    let name = name_of(matches, "user get command requires user name as its argument")?;
    let detail = line::is_on(matches, "detail");
    if !detail {
        printer.refuse_fields()?;
    }
    let mut client = client(session).await?;
    let request = AuthUserGetRequest {
        name: name.to_owned(),
    };
    let answer = session.call(client.user_get(request)).await?;
    if detail {
        print_line(&format!("User: {name}"));
        for role in &answer.roles {
            print_line("");
            let request = AuthRoleGetRequest { role: role.clone() };
            let answer = session.call(client.role_get(request)).await?;
            role::show(printer, role, &answer);
        }
        return Ok(());
    }
    match printer.format {
        Format::Json => {
            let roles = answer.roles.iter().map(|role| json::string(role));
            print_line(&printer.json().answer(answer.header).list("roles", roles).end());
        }
        _ => {
            print_line(&format!("User: {name}"));
            let roles: String = answer.roles.iter().map(|role| format!(" {role}")).collect();
            print_line(&format!("Roles:{roles}"));
        }
    }
    Ok(())
}

async fn list(session: &Session, printer: &Printer, matches: &ArgMatches) -> Result<(), Failure> {
    if !line::words_of(matches).is_empty() {
        let text = "user list command requires no arguments";
        return Err(Failure::Arguments(text.to_owned()));
    }
    printer.refuse_fields()?;
    let answer = session
        .call(client(session).await?.user_list(AuthUserListRequest {}))
        .await?;
    match printer.format {
        Format::Json => {
            let users = answer.users.iter().map(|user| json::string(user));
            print_line(&printer.json().answer(answer.header).list("users", users).end());
        }
        _ => answer.users.iter().for_each(|user| print_line(user)),
    }
    Ok(())
}

async fn passwd(session: &Session, printer: &Printer, matches: &ArgMatches) -> Result<(), Failure> {
    let name = name_of(matches, "user passwd command requires user name as its argument")?;
    let request = AuthUserChangePasswordRequest {
        name: name.to_owned(),
        password: asked(matches, name)?,
        ..AuthUserChangePasswordRequest::default()
    };
    let mut client = client(session).await?;
    let answer = session.call(client.user_change_password(request)).await?;
    printer.done(answer.header, "Password updated");
    Ok(())
}

async fn grant(session: &Session, printer: &Printer, matches: &ArgMatches) -> Result<(), Failure> {
    let missing = "user grant command requires user name and role name as its argument";
    let (user, role) = two_of(matches, missing)?;
    let request = AuthUserGrantRoleRequest {
        user: user.to_owned(),
        role: role.to_owned(),
    };
    let answer = session
        .call(client(session).await?.user_grant_role(request))
        .await?;
    printer.done(answer.header, &format!("Role {role} is granted to user {user}"));
    Ok(())
}

async fn revoke(session: &Session, printer: &Printer, matches: &ArgMatches) -> Result<(), Failure> {
    let missing = "user revoke-role requires user name and role name as its argument";
    let (user, role) = two_of(matches, missing)?;
    let request = AuthUserRevokeRoleRequest {
        name: user.to_owned(),
        role: role.to_owned(),
    };
    let answer = session
        .call(client(session).await?.user_revoke_role(request))
        .await?;
    printer.done(answer.header, &format!("Role {role} is revoked from user {user}"));
    Ok(())
}

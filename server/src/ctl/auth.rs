//! `auth`: enable, disable, status.

use clap::ArgMatches;
use proto::etcdserverpb::auth_client::AuthClient;
use proto::etcdserverpb::{
    AuthDisableRequest, AuthEnableRequest, AuthRoleAddRequest, AuthStatusRequest, AuthUserGrantRoleRequest,
};

use super::print::{Format, Printer, print_line};
use super::session::{Connection, Session};
use super::{Failure, line};

pub(super) async fn run(session: &Session, printer: &Printer, matches: &ArgMatches) -> Result<(), Failure> {
    match matches.subcommand() {
        Some(("enable", matches)) => enable(session, matches).await,
        Some(("disable", matches)) => disable(session, matches).await,
        Some((_, matches)) => status(session, printer, matches).await,
        None => Ok(()),
    }
}

pub(super) async fn client(session: &Session) -> Result<AuthClient<Connection>, Failure> {
    Ok(AuthClient::new(session.connect().await?))
}

fn refuse_words(matches: &ArgMatches, command: &str) -> Result<(), Failure> {
    match line::words_of(matches)[..] {
        [] => Ok(()),
        _ => Err(Failure::Arguments(format!(
            "auth {command} command does not accept any arguments"
        ))),
    }
}

/// The user `root` gets its role on the way, if that is all that is missing.
async fn enable(session: &Session, matches: &ArgMatches) -> Result<(), Failure> {
    refuse_words(matches, "enable")?;
    let mut client = client(session).await?;
    loop {
        match session.call(client.auth_enable(AuthEnableRequest {})).await {
            Ok(_) => break,
            Err(Failure::Refused(text)) if text == NO_ROOT_ROLE => {}
            Err(failure) => return Err(failure),
        }
        let role = AuthRoleAddRequest {
            name: "root".to_owned(),
        };
        session.call(client.role_add(role)).await?;
        let grant = AuthUserGrantRoleRequest {
            user: "root".to_owned(),
            role: "root".to_owned(),
        };
        session.call(client.user_grant_role(grant)).await?;
    }
    print_line("Authentication Enabled");
    Ok(())
}

async fn disable(session: &Session, matches: &ArgMatches) -> Result<(), Failure> {
    refuse_words(matches, "disable")?;
    let mut client = client(session).await?;
    session.call(client.auth_disable(AuthDisableRequest {})).await?;
    print_line("Authentication Disabled");
    Ok(())
}

async fn status(session: &Session, printer: &Printer, matches: &ArgMatches) -> Result<(), Failure> {
    refuse_words(matches, "status")?;
    printer.refuse_table()?;
    printer.refuse_fields()?;
    let mut client = client(session).await?;
    let answer = session.call(client.auth_status(AuthStatusRequest {})).await?;
    match printer.format {
        Format::Json => {
            let object = printer.json().answer(answer.header);
            let object = object.flag("enabled", answer.enabled);
            print_line(&object.number("authRevision", answer.auth_revision).end());
        }
        _ => {
            print_line(&format!("Authentication Status: {}", answer.enabled));
            print_line(&format!("AuthRevision: {}", answer.auth_revision));
        }
    }
    Ok(())
}

const NO_ROOT_ROLE: &str = "etcdserver: root user does not have root role";

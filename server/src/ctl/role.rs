//! `role`: add, delete, get, list, grant-permission, revoke-permission.

use bytes::Bytes;
use clap::ArgMatches;
use proto::authpb::Permission;
use proto::authpb::permission::Type;
use proto::etcdserverpb::{
    AuthRoleAddRequest, AuthRoleDeleteRequest, AuthRoleGetRequest, AuthRoleGetResponse,
    AuthRoleGrantPermissionRequest, AuthRoleListRequest, AuthRoleRevokePermissionRequest,
};

use super::auth::client;
use super::json::{self, Object};
use super::print::{Format, Printer, print, print_line};
use super::session::Session;
use super::user::name_of;
use super::{Failure, kv, line, text};

pub(super) async fn run(session: &Session, printer: &Printer, matches: &ArgMatches) -> Result<(), Failure> {
    printer.refuse_table()?;
    match matches.subcommand() {
        Some(("add", matches)) => add(session, printer, matches).await,
        Some(("delete", matches)) => delete(session, printer, matches).await,
        Some(("get", matches)) => get(session, printer, matches).await,
        Some(("grant-permission", matches)) => grant(session, printer, matches).await,
        Some(("revoke-permission", matches)) => revoke(session, printer, matches).await,
        Some((_, matches)) => list(session, printer, matches).await,
        None => Ok(()),
    }
}

async fn add(session: &Session, printer: &Printer, matches: &ArgMatches) -> Result<(), Failure> {
    let name = name_of(matches, "role add command requires role name as its argument")?;
    let request = AuthRoleAddRequest {
        name: name.to_owned(),
    };
    let answer = session.call(client(session).await?.role_add(request)).await?;
    printer.done(answer.header, &format!("Role {name} created"));
    Ok(())
}

async fn delete(session: &Session, printer: &Printer, matches: &ArgMatches) -> Result<(), Failure> {
    let name = name_of(matches, "role delete command requires role name as its argument")?;
    let request = AuthRoleDeleteRequest {
        role: name.to_owned(),
    };
    let answer = session.call(client(session).await?.role_delete(request)).await?;
    printer.done(answer.header, &format!("Role {name} deleted"));
    Ok(())
}

async fn get(session: &Session, printer: &Printer, matches: &ArgMatches) -> Result<(), Failure> {
    let name = name_of(matches, "role get command requires role name as its argument")?;
    let request = AuthRoleGetRequest {
        role: name.to_owned(),
    };
    let answer = session.call(client(session).await?.role_get(request)).await?;
    show(printer, name, &answer);
    Ok(())
}

/// A role with its permissions.
pub(super) fn show(printer: &Printer, name: &str, answer: &AuthRoleGetResponse) {
    match printer.format {
        Format::Json => {
            let permissions = answer.perm.iter().map(|permission| {
                Object::default()
                    .number("permType", permission.perm_type)
                    .bytes("key", &permission.key)
                    .bytes("range_end", &permission.range_end)
                    .end()
            });
            let object = printer.json().answer(answer.header);
            print_line(&object.list("perm", permissions).end());
        }
        Format::Fields => {
            let mut lines = printer.header_fields(answer.header);
            for permission in &answer.perm {
                lines.push_str(&format!(
                    "\"PermType\" :  {}\n\"Key\" : {}\n\"RangeEnd\" : {}\n",
                    kind_of(permission).as_str_name(),
                    text::quoted(&permission.key),
                    text::quoted(&permission.range_end)
                ));
            }
            print(&lines);
        }
        _ => print(&told(name, &answer.perm)),
    }
}

/// A role and what it may read and write. The role `root` has no permissions where it was never added, nor needs any.
fn told(name: &str, permissions: &[Permission]) -> String {
    let mut told = format!("Role {name}\n");
    for (title, allowed) in [("KV Read:\n", Type::Read), ("KV Write:\n", Type::Write)] {
        told.push_str(title);
        if name == "root" && permissions.is_empty() {
            told.push_str("\t[, <open ended>\n");
        }
        for permission in permissions {
            let kind = kind_of(permission);
            if kind == allowed || kind == Type::Readwrite {
                told.push_str(&range_text(permission));
            }
        }
    }
    told
}

fn range_text(permission: &Permission) -> String {
    let (key, end) = (&permission.key, &permission.range_end);
    let shown = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    let mut line = match end.as_ref() {
        b"" => return format!("\t{}\n", shown(key)),
        b"\0" => format!("\t[{}, <open ended>", shown(key)),
        _ => format!("\t[{}, {})", shown(key), shown(end)),
    };
    if !key.is_empty() && kv::prefix_end(key) == *end {
        line.push_str(&format!(" (prefix {})", shown(key)));
    }
    line.push('\n');
    line
}

fn kind_of(permission: &Permission) -> Type {
    Type::try_from(permission.perm_type).unwrap_or_default()
}

async fn list(session: &Session, printer: &Printer, matches: &ArgMatches) -> Result<(), Failure> {
    if !line::words_of(matches).is_empty() {
        let text = "role list command requires no arguments";
        return Err(Failure::Arguments(text.to_owned()));
    }
    let answer = session
        .call(client(session).await?.role_list(AuthRoleListRequest {}))
        .await?;
    match printer.format {
        Format::Json => {
            let roles = answer.roles.iter().map(|role| json::string(role));
            print_line(&printer.json().answer(answer.header).list("roles", roles).end());
        }
        Format::Fields => {
            let roles = answer
                .roles
                .iter()
                .map(|role| format!(" {}", text::quoted(role.as_bytes())));
            let header = printer.header_fields(answer.header);
            print(&format!("{header}\"Roles\" :{}\n", roles.collect::<String>()));
        }
        _ => answer.roles.iter().for_each(|role| print_line(role)),
    }
    Ok(())
}

async fn grant(session: &Session, printer: &Printer, matches: &ArgMatches) -> Result<(), Failure> {
    let words = line::words_of(matches);
    let [name, kind, keys @ ..] = &words[..] else {
        return Err(missing_for_grant());
    };
    if keys.is_empty() {
        return Err(missing_for_grant());
    }
    let perm_type = match kind.to_ascii_uppercase().as_str() {
        "READ" => Type::Read,
        "WRITE" => Type::Write,
        "READWRITE" => Type::Readwrite,
        _ => return Err(Failure::Arguments("invalid permission type".to_owned())),
    };
    let (key, range_end) = range_of(matches, keys)?;
    let request = AuthRoleGrantPermissionRequest {
        name: (*name).to_owned(),
        perm: Some(Permission {
            perm_type: perm_type as i32,
            key,
            range_end,
        }),
    };
    let mut client = client(session).await?;
    let answer = session.call(client.role_grant_permission(request)).await?;
    printer.done(answer.header, &format!("Role {name} updated"));
    Ok(())
}

fn missing_for_grant() -> Failure {
    Failure::Arguments(
        "role grant command requires role name, permission type, and key [endkey] as its argument".to_owned(),
    )
}

async fn revoke(session: &Session, printer: &Printer, matches: &ArgMatches) -> Result<(), Failure> {
    let words = line::words_of(matches);
    let (name, keys) = match &words[..] {
        [name, keys @ ..] if !keys.is_empty() => (*name, keys),
        _ => {
            return Err(Failure::Arguments(
                "role revoke-permission command requires role name and key [endkey] as its argument"
                    .to_owned(),
            ));
        }
    };
    let (key, range_end) = range_of(matches, keys)?;
    let request = AuthRoleRevokePermissionRequest {
        role: name.to_owned(),
        key,
        range_end: range_end.clone(),
    };
    let mut client = client(session).await?;
    let answer = session.call(client.role_revoke_permission(request)).await?;
    let (key, end) = (keys[0], String::from_utf8_lossy(&range_end));
    let told = match &*end {
        "" => format!("Permission of key {key} is revoked from role {name}"),
        "\0" => format!("Permission of range [{key}, <open ended> is revoked from role {name}"),
        end => format!("Permission of range [{key}, {end}) is revoked from role {name}"),
    };
    printer.done(answer.header, &told);
    Ok(())
}

/// The range of a permission: of a key, of two, or of a key and a flag. The empty key stands for the first one.
fn range_of(matches: &ArgMatches, keys: &[&str]) -> Result<(Bytes, Bytes), Failure> {
    let (prefix, from_key) = (line::is_on(matches, "prefix"), line::is_on(matches, "from-key"));
    let refused = |text: &str| Err(Failure::Arguments(text.to_owned()));
    if prefix && from_key && keys.len() < 2 {
        return refused("--from-key and --prefix flags are mutually exclusive");
    }
    let all = Bytes::from_static(b"\0");
    let key = Bytes::copy_from_slice(keys[0].as_bytes());
    if key.is_empty() {
        let end = if prefix || from_key {
            all.clone()
        } else {
            Bytes::new()
        };
        return Ok((all, end));
    }
    match keys.get(1) {
        Some(_) if prefix => refused("unexpected endkey argument with --prefix flag"),
        Some(_) if from_key => refused("unexpected endkey argument with --from-key flag"),
        Some(end) => Ok((key, Bytes::copy_from_slice(end.as_bytes()))),
        None if prefix => {
            let end = kv::prefix_end(&key);
            Ok((key, end))
        }
        None if from_key => Ok((key, all)),
        None => Ok((key, Bytes::new())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_told_as_etcdctl_does() {
        let permission = |kind: Type, key: &'static [u8], end: &'static [u8]| Permission {
            perm_type: kind as i32,
            key: Bytes::from_static(key),
            range_end: Bytes::from_static(end),
        };
        let permissions = [
            permission(Type::Read, b"a", b""),
            permission(Type::Readwrite, b"b", b"d"),
            permission(Type::Write, b"p/", b"p0"),
            permission(Type::Write, b"z", b"\0"),
        ];
        assert_eq!(
            told("r", &permissions),
            "Role r\nKV Read:\n\ta\n\t[b, d)\nKV Write:\n\t[b, d)\n\t[p/, p0) (prefix p/)\n\t[z, <open ended>\n"
        );
        assert_eq!(
            told("root", &[]),
            "Role root\nKV Read:\n\t[, <open ended>\nKV Write:\n\t[, <open ended>\n"
        );
    }
}

//! `member list`, `member add`, `member update`, `member remove` and `member promote`.

use clap::ArgMatches;
use proto::etcdserverpb::cluster_client::ClusterClient;
use proto::etcdserverpb::{
    Member, MemberAddRequest, MemberListRequest, MemberListResponse, MemberPromoteRequest,
    MemberRemoveRequest, MemberUpdateRequest, ResponseHeader,
};

use super::json::Object;
use super::print::{Format, Printer, print, print_line};
use super::session::Session;
use super::{Failure, line, text};

pub(super) async fn run(session: &Session, printer: &Printer, matches: &ArgMatches) -> Result<(), Failure> {
    match matches.subcommand() {
        Some(("add", matches)) => add(session, printer, matches).await,
        Some(("update", matches)) => update(session, printer, matches).await,
        Some(("remove", matches)) => remove(session, printer, matches).await,
        Some(("promote", matches)) => promote(session, printer, matches).await,
        Some((_, matches)) => list(session, printer, matches).await,
        None => Err(Failure::Silent),
    }
}

/// Adds a member, and says in the simple format how to start it.
async fn add(session: &Session, printer: &Printer, matches: &ArgMatches) -> Result<(), Failure> {
    let name = match line::words_of(matches)[..] {
        [] => return Err(Failure::Arguments("member name not provided".to_owned())),
        [name] => name,
        ref many => return Err(Failure::Arguments(too_many(many))),
    };
    let given = line::text_of(matches, "peer-urls");
    let peer_urls = peer_urls(given)?;
    refuse_other_formats(printer)?;
    let mut client = ClusterClient::new(session.connect().await?);
    let request = MemberAddRequest {
        peer_urls,
        is_learner: line::is_on(matches, "learner"),
    };
    let answer = session.call(client.member_add(request)).await?;
    let member = answer.member.unwrap_or_default();
    if printer.format == Format::Json {
        let object = printer.member_json().answer(answer.header);
        let object = object.raw("member", &printer.member_json().member(&member));
        print_line(&with_members(object, printer, &answer.members).end());
        return Ok(());
    }
    let role = if member.is_learner { " as learner" } else { "" };
    let cluster = answer.header.unwrap_or_default().cluster_id;
    print_line(&format!(
        "Member {:16x} added{role} to cluster {cluster:16x}",
        member.id
    ));
    print(&how_to_start(name, given, member.id, &answer.members));
    Ok(())
}

fn too_many(words: &[&str]) -> String {
    let urls = words
        .iter()
        .filter(|word| word.to_lowercase().starts_with("http"));
    let hints: String = urls
        .map(|url| format!(", did you mean --peer-urls={url}"))
        .collect();
    format!("too many arguments{hints}")
}

/// The settings of the new member's first start, as variables.
fn how_to_start(name: &str, peer_urls: &str, id: u64, members: &[Member]) -> String {
    let entries = members.iter().flat_map(|member| {
        let name = if member.id == id { name } else { &member.name };
        member.peer_urls.iter().map(move |url| format!("{name}={url}"))
    });
    let quoted = |value: &str| text::quoted(value.as_bytes());
    format!(
        "\nETCD_NAME={}\nETCD_INITIAL_CLUSTER={}\nETCD_INITIAL_ADVERTISE_PEER_URLS={}\n\
         ETCD_INITIAL_CLUSTER_STATE=\"existing\"\n",
        quoted(name),
        quoted(&entries.collect::<Vec<_>>().join(",")),
        quoted(peer_urls)
    )
}

async fn update(session: &Session, printer: &Printer, matches: &ArgMatches) -> Result<(), Failure> {
    let id = id_of(matches)?;
    let peer_urls = peer_urls(line::text_of(matches, "peer-urls"))?;
    refuse_other_formats(printer)?;
    let mut client = ClusterClient::new(session.connect().await?);
    let answer = session
        .call(client.member_update(MemberUpdateRequest { id, peer_urls }))
        .await?;
    told(printer, "updated in", id, answer.header, &answer.members);
    Ok(())
}

async fn remove(session: &Session, printer: &Printer, matches: &ArgMatches) -> Result<(), Failure> {
    let id = id_of(matches)?;
    refuse_other_formats(printer)?;
    let mut client = ClusterClient::new(session.connect().await?);
    let answer = session
        .call(client.member_remove(MemberRemoveRequest { id }))
        .await?;
    told(printer, "removed from", id, answer.header, &answer.members);
    Ok(())
}

async fn promote(session: &Session, printer: &Printer, matches: &ArgMatches) -> Result<(), Failure> {
    let id = id_of(matches)?;
    refuse_other_formats(printer)?;
    let mut client = ClusterClient::new(session.connect().await?);
    let answer = session
        .call(client.member_promote(MemberPromoteRequest { id }))
        .await?;
    told(printer, "promoted in", id, answer.header, &answer.members);
    Ok(())
}

/// Says what was done to a member.
fn told(printer: &Printer, done: &str, id: u64, header: Option<ResponseHeader>, members: &[Member]) {
    match printer.format {
        Format::Json => {
            let object = printer.member_json().answer(header);
            print_line(&with_members(object, printer, members).end());
        }
        _ => {
            let cluster = header.unwrap_or_default().cluster_id;
            print_line(&format!("Member {id:16x} {done} cluster {cluster:16x}"));
        }
    }
}

fn with_members(object: Object, printer: &Printer, members: &[Member]) -> Object {
    let members = members.iter().map(|member| printer.member_json().member(member));
    object.list("members", members)
}

/// Changes have two formats only. Asked before anything is sent.
fn refuse_other_formats(printer: &Printer) -> Result<(), Failure> {
    match printer.format {
        Format::Fields => Err(Failure::Feature(
            "fields not supported as output format".to_owned(),
        )),
        _ => printer.refuse_table(),
    }
}

/// The only word: an id in hexadecimal.
fn id_of(matches: &ArgMatches) -> Result<u64, Failure> {
    let [word] = line::words_of(matches)[..] else {
        return Err(Failure::Arguments("member ID is not provided".to_owned()));
    };
    u64::from_str_radix(word, 16).map_err(|_| {
        Failure::Arguments(format!(
            "bad member ID arg (strconv.ParseUint: parsing {word:?}: invalid syntax), expecting ID in Hex"
        ))
    })
}

fn peer_urls(given: &str) -> Result<Vec<String>, Failure> {
    if given.is_empty() {
        return Err(Failure::Arguments("member peer urls not provided".to_owned()));
    }
    Ok(given.split(',').map(str::to_owned).collect())
}

async fn list(session: &Session, printer: &Printer, matches: &ArgMatches) -> Result<(), Failure> {
    let linearizable = match line::text_of(matches, "consistency") {
        "l" => true,
        "s" => false,
        other => return Err(Failure::Feature(format!("unknown consistency flag {other:?}"))),
    };
    let answer = members(session, linearizable).await?;
    match printer.format {
        Format::Json => {
            let members = answer
                .members
                .iter()
                .map(|member| printer.member_json().member(member));
            print_line(
                &printer
                    .member_json()
                    .answer(answer.header)
                    .list("members", members)
                    .end(),
            );
        }
        Format::Fields => {
            print(&printer.header_fields(answer.header));
            for member in &answer.members {
                print(&member_fields(printer, member));
            }
        }
        Format::Simple => {
            for member in &answer.members {
                print_line(&member_cells(member).join(", "));
            }
        }
        Format::Table => {
            let rows: Vec<_> = answer.members.iter().map(member_cells).collect();
            print(&text::table(
                &["ID", "STATUS", "NAME", "PEER ADDRS", "CLIENT ADDRS", "IS LEARNER"],
                &rows,
            ));
        }
    }
    Ok(())
}

pub(super) async fn members(session: &Session, linearizable: bool) -> Result<MemberListResponse, Failure> {
    let mut client = ClusterClient::new(session.connect().await?);
    session
        .call(client.member_list(MemberListRequest { linearizable }))
        .await
}

fn member_cells(member: &Member) -> Vec<String> {
    vec![
        format!("{:x}", member.id),
        if member.name.is_empty() {
            "unstarted"
        } else {
            "started"
        }
        .to_owned(),
        member.name.clone(),
        member.peer_urls.join(","),
        member.client_urls.join(","),
        member.is_learner.to_string(),
    ]
}

fn member_fields(printer: &Printer, member: &Member) -> String {
    let quoted = |text: &str| text::quoted(text.as_bytes());
    let mut lines = format!(
        "\"ID\" : {}\n\"Name\" : {}\n",
        printer.id(member.id),
        quoted(&member.name)
    );
    for url in &member.peer_urls {
        lines.push_str(&format!("\"PeerURL\" : {}\n", quoted(url)));
    }
    for url in &member.client_urls {
        lines.push_str(&format!("\"ClientURL\" : {}\n", quoted(url)));
    }
    lines.push_str(&format!("\"IsLearner\" : {}\n\n", member.is_learner));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_new_member_is_told_how_to_start() {
        let member = |id, name: &str, urls: &[&str]| Member {
            id,
            name: name.to_owned(),
            peer_urls: urls.iter().map(|url| (*url).to_owned()).collect(),
            ..Member::default()
        };
        let members = [
            member(1, "a", &["http://a:1"]),
            member(2, "", &["http://b:1", "http://b:2"]),
        ];
        assert_eq!(
            how_to_start("b", "http://b:1,http://b:2", 2, &members),
            "\nETCD_NAME=\"b\"\nETCD_INITIAL_CLUSTER=\"a=http://a:1,b=http://b:1,b=http://b:2\"\n\
             ETCD_INITIAL_ADVERTISE_PEER_URLS=\"http://b:1,http://b:2\"\nETCD_INITIAL_CLUSTER_STATE=\"existing\"\n"
        );
        assert_eq!(
            too_many(&["b", "HTTP://c:1"]),
            "too many arguments, did you mean --peer-urls=HTTP://c:1"
        );
    }
}

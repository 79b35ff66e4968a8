//! `lease`: grant, revoke, timetolive, list, keep-alive.

use std::time::Duration;

use clap::ArgMatches;
use proto::etcdserverpb::lease_client::LeaseClient;
use proto::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseLeasesRequest, LeaseRevokeRequest,
    LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::json::{self, Object};
use super::print::{Format, Printer, print, print_line};
use super::session::{self, Connection, Session};
use super::{Failure, kv, line};

pub(super) async fn run(session: &Session, printer: &Printer, matches: &ArgMatches) -> Result<(), Failure> {
    printer.refuse_table()?;
    match matches.subcommand() {
        Some(("grant", matches)) => grant(session, printer, matches).await,
        Some(("revoke", matches)) => revoke(session, printer, matches).await,
        Some(("timetolive", matches)) => time_to_live(session, printer, matches).await,
        Some(("keep-alive", matches)) => keep_alive(session, printer, matches).await,
        _ => list(session, printer).await,
    }
}

async fn client(session: &Session) -> Result<LeaseClient<Connection>, Failure> {
    Ok(LeaseClient::new(session.connect().await?).max_decoding_message_size(usize::MAX))
}

/// The one id among a command's words.
fn id_of(matches: &ArgMatches, missing: &str) -> Result<i64, Failure> {
    match line::words_of(matches)[..] {
        [word] => i64::from_str_radix(word, 16).map_err(|_| kv::bad_lease("bad lease ID arg", word)),
        _ => Err(Failure::Arguments(missing.to_owned())),
    }
}

async fn grant(session: &Session, printer: &Printer, matches: &ArgMatches) -> Result<(), Failure> {
    let words = line::words_of(matches);
    let [ttl] = words[..] else {
        return Err(Failure::Arguments(
            "lease grant command needs TTL argument".to_owned(),
        ));
    };
    let ttl = kv::integer(ttl).map_err(|complaint| Failure::Arguments(format!("bad TTL ({complaint})")))?;
    let request = LeaseGrantRequest { ttl, id: 0 };
    let granted = session.call(client(session).await?.lease_grant(request)).await;
    let answer = granted.map_err(|failure| failure.within("failed to grant lease"))?;
    match printer.format {
        Format::Json => {
            let object = printer.json().header_fields(answer.header.unwrap_or_default());
            let object = object.always("ID", answer.id).always("TTL", answer.ttl);
            print_line(&object.raw("Error", &json::string(&answer.error)).end());
        }
        Format::Fields => {
            let header = printer.header_fields(answer.header);
            print(&format!(
                "{header}\"ID\" : {}\n\"TTL\" : {}\n",
                answer.id, answer.ttl
            ));
        }
        _ => print_line(&format!(
            "lease {:016x} granted with TTL({}s)",
            answer.id, answer.ttl
        )),
    }
    Ok(())
}

async fn revoke(session: &Session, printer: &Printer, matches: &ArgMatches) -> Result<(), Failure> {
    let id = id_of(matches, "lease revoke command needs 1 argument")?;
    let revoked = session
        .call(client(session).await?.lease_revoke(LeaseRevokeRequest { id }))
        .await;
    let answer = revoked.map_err(|failure| failure.within("failed to revoke lease"))?;
    match printer.format {
        Format::Json => print_line(&printer.json().answer(answer.header).end()),
        Format::Fields => print(&printer.header_fields(answer.header)),
        _ => print_line(&format!("lease {id:016x} revoked")),
    }
    Ok(())
}

async fn time_to_live(session: &Session, printer: &Printer, matches: &ArgMatches) -> Result<(), Failure> {
    let id = id_of(matches, "lease timetolive command needs lease ID as argument")?;
    let keys = line::is_on(matches, "keys");
    let request = LeaseTimeToLiveRequest { id, keys };
    let answer = session
        .call(client(session).await?.lease_time_to_live(request))
        .await?;
    match printer.format {
        Format::Json => {
            let object = printer.json().header_fields(answer.header.unwrap_or_default());
            let object = object
                .always("id", answer.id)
                .always("ttl", answer.ttl)
                .always("granted-ttl", answer.granted_ttl);
            let keys = answer.keys.iter().map(|key| json::bytes(key));
            print_line(&object.raw("keys", &json::list(keys)).end());
        }
        Format::Fields => {
            let mut lines = printer.header_fields(answer.header);
            lines.push_str(&format!(
                "\"ID\" : {}\n\"TTL\" : {}\n\"GrantedTTL\" : {}\n",
                printer.lease(answer.id),
                answer.ttl,
                answer.granted_ttl
            ));
            for key in &answer.keys {
                lines.push_str(&format!("\"Key\" : {}\n", super::text::quoted(key)));
            }
            print(&lines);
        }
        _ => print_line(&remaining_text(&answer, keys)),
    }
    Ok(())
}

fn remaining_text(answer: &LeaseTimeToLiveResponse, keys: bool) -> String {
    if answer.granted_ttl == 0 && answer.ttl == -1 {
        return format!("lease {:016x} already expired", answer.id);
    }
    let text = format!(
        "lease {:016x} granted with TTL({}s), remaining({}s)",
        answer.id, answer.granted_ttl, answer.ttl
    );
    if !keys {
        return text;
    }
    let names: Vec<_> = answer
        .keys
        .iter()
        .map(|key| String::from_utf8_lossy(key))
        .collect();
    format!("{text}, attached keys([{}])", names.join(" "))
}

async fn list(session: &Session, printer: &Printer) -> Result<(), Failure> {
    let answer = session
        .call(client(session).await?.lease_leases(LeaseLeasesRequest {}))
        .await?;
    match printer.format {
        Format::Json => {
            let leases = answer
                .leases
                .iter()
                .map(|lease| Object::default().always("id", lease.id).end());
            let object = printer.json().header_fields(answer.header.unwrap_or_default());
            print_line(
                &object
                    .raw("leases", &format!("[{}]", leases.collect::<Vec<_>>().join(",")))
                    .end(),
            );
        }
        Format::Fields => {
            let ids = answer
                .leases
                .iter()
                .map(|lease| format!("\"ID\" : {}\n", printer.lease(lease.id)));
            print(&(printer.header_fields(answer.header) + &ids.collect::<String>()));
        }
        _ => {
            print_line(&format!("found {} leases", answer.leases.len()));
            for lease in &answer.leases {
                print_line(&format!("{:016x}", lease.id));
            }
        }
    }
    Ok(())
}

/// Renews once, or at a third of the TTL until the lease is gone.
async fn keep_alive(session: &Session, printer: &Printer, matches: &ArgMatches) -> Result<(), Failure> {
    let id = id_of(matches, "lease keep-alive command needs lease ID as argument")?;
    let mut client = client(session).await?;
    let (requests, receiver) = mpsc::channel(1);
    send(&requests, id).await?;
    let mut renewals = session
        .call(client.lease_keep_alive(ReceiverStream::new(receiver)))
        .await?;
    let once = line::is_on(matches, "once");
    loop {
        let renewal = next(&mut renewals).await?;
        match (renewal.ttl, once) {
            (..=0, true) => {
                return Err(Failure::Connection(
                    "etcdserver: requested lease not found".to_owned(),
                ));
            }
            (..=0, false) => {
                print_line(&format!("lease {id:016x} expired or revoked."));
                return Ok(());
            }
            _ => show(printer, &renewal),
        }
        if once {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_secs(renewal.ttl.unsigned_abs()) / 3).await;
        send(&requests, id).await?;
    }
}

async fn send(requests: &mpsc::Sender<LeaseKeepAliveRequest>, id: i64) -> Result<(), Failure> {
    let sent = requests.send(LeaseKeepAliveRequest { id }).await;
    sent.map_err(|_| Failure::Connection("the server ended the stream".to_owned()))
}

async fn next(renewals: &mut Streaming<LeaseKeepAliveResponse>) -> Result<LeaseKeepAliveResponse, Failure> {
    match renewals.message().await {
        Ok(Some(renewal)) => Ok(renewal),
        Ok(None) => Err(Failure::Connection("the server ended the stream".to_owned())),
        Err(status) => Err(Failure::Connection(session::text_of(&status))),
    }
}

fn show(printer: &Printer, renewal: &LeaseKeepAliveResponse) {
    match printer.format {
        Format::Json => {
            let object = printer.json().header_fields(renewal.header.unwrap_or_default());
            print_line(&object.always("ID", renewal.id).always("TTL", renewal.ttl).end());
        }
        Format::Fields => {
            let header = printer.header_fields(renewal.header);
            print(&format!(
                "{header}\"ID\" : {}\n\"TTL\" : {}\n",
                renewal.id, renewal.ttl
            ));
        }
        _ => print_line(&format!(
            "lease {:016x} keepalived with TTL({})",
            renewal.id, renewal.ttl
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remaining_time_is_told_as_etcdctl_does() {
        let answer = LeaseTimeToLiveResponse {
            id: 0x77,
            ttl: 59,
            granted_ttl: 60,
            keys: vec!["a".into(), "b".into()],
            ..LeaseTimeToLiveResponse::default()
        };
        assert_eq!(
            remaining_text(&answer, true),
            "lease 0000000000000077 granted with TTL(60s), remaining(59s), attached keys([a b])"
        );
        assert!(remaining_text(&answer, false).ends_with("remaining(59s)"));
        let gone = LeaseTimeToLiveResponse {
            id: 0x77,
            ttl: -1,
            ..LeaseTimeToLiveResponse::default()
        };
        assert_eq!(
            remaining_text(&gone, true),
            "lease 0000000000000077 already expired"
        );
    }
}

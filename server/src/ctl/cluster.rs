//! `endpoint status`, `endpoint health`, `endpoint hashkv`, `alarm` and `defrag`.

use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::ArgMatches;
use futures_util::future::join_all;
use proto::etcdserverpb::alarm_request::AlarmAction;
use proto::etcdserverpb::kv_client::KvClient;
use proto::etcdserverpb::maintenance_client::MaintenanceClient;
use proto::etcdserverpb::{
    AlarmRequest, AlarmResponse, AlarmType, DefragmentRequest, HashKvRequest, HashKvResponse, RangeRequest,
    StatusRequest, StatusResponse,
};

use super::json::{self, Object};
use super::print::{Format, Printer, print, print_line};
use super::session::Session;
use super::{Failure, line, member, text};

pub(super) async fn endpoint(
    session: &Session,
    printer: &Printer,
    matches: &ArgMatches,
) -> Result<(), Failure> {
    let (name, inner) = matches.subcommand().unwrap_or(("status", matches));
    let endpoints = if line::is_on(inner, "cluster") {
        let started = member::members(session, true).await?.members.into_iter();
        started.flat_map(|member| member.client_urls).collect()
    } else {
        session.endpoints().to_vec()
    };
    match name {
        "health" => health(session, printer, &endpoints).await,
        "hashkv" => hash_kv(session, printer, &endpoints, line::number_of(inner, "rev")).await,
        _ => status(session, printer, &endpoints).await,
    }
}

/// Endpoints with their answers; those that failed are told to the user, and make the command fail in the end.
fn sort_out<'a, A>(
    what: &str,
    endpoints: &'a [String],
    answers: Vec<Result<A, Failure>>,
) -> (Vec<(&'a str, A)>, Result<(), Failure>) {
    let mut good = Vec::new();
    let mut result = Ok(());
    for (endpoint, answer) in endpoints.iter().zip(answers) {
        match answer {
            Ok(answer) => good.push((endpoint.as_str(), answer)),
            Err(failure) => {
                eprintln!(
                    "Failed to get the {what} of endpoint {endpoint} ({})",
                    failure.text().unwrap_or_default()
                );
                result = Err(Failure::Silent);
            }
        }
    }
    (good, result)
}

async fn status(session: &Session, printer: &Printer, endpoints: &[String]) -> Result<(), Failure> {
    let answers = join_all(endpoints.iter().map(|endpoint| async move {
        let mut client = MaintenanceClient::new(session.connect_to(endpoint).await?);
        session.call(client.status(StatusRequest {})).await
    }))
    .await;
    let (answers, result) = sort_out("status", endpoints, answers);
    match printer.format {
        Format::Json => {
            let items = answers.iter().map(|(endpoint, answer)| {
                Object::default()
                    .raw("Endpoint", &json::string(endpoint))
                    .raw("Status", &printer.json().status(answer))
                    .end()
            });
            print_line(&json::list(items));
        }
        Format::Fields => {
            for (endpoint, answer) in &answers {
                print(&status_fields(printer, endpoint, answer));
            }
        }
        Format::Simple => {
            for (endpoint, answer) in &answers {
                print_line(&status_cells(endpoint, answer).join(", "));
            }
        }
        Format::Table => {
            let rows: Vec<_> = answers
                .iter()
                .map(|(endpoint, answer)| status_cells(endpoint, answer))
                .collect();
            print(&text::table(&STATUS_TITLES, &rows));
        }
    }
    result
}

const STATUS_TITLES: [&str; 16] = [
    "ENDPOINT",
    "ID",
    "VERSION",
    "STORAGE VERSION",
    "DB SIZE",
    "IN USE",
    "PERCENTAGE NOT IN USE",
    "QUOTA",
    "IS LEADER",
    "IS LEARNER",
    "RAFT TERM",
    "RAFT INDEX",
    "RAFT APPLIED INDEX",
    "ERRORS",
    "DOWNGRADE TARGET VERSION",
    "DOWNGRADE ENABLED",
];

fn status_cells(endpoint: &str, status: &StatusResponse) -> Vec<String> {
    let member = status.header.unwrap_or_default().member_id;
    let downgrade = status.downgrade_info.clone().unwrap_or_default();
    let size = |bytes: i64| text::size(u64::try_from(bytes).unwrap_or(0));
    let unused = match status.db_size {
        ..=0 => 0,
        total => (total - status.db_size_in_use).saturating_mul(100) / total,
    };
    vec![
        endpoint.to_owned(),
        format!("{member:x}"),
        status.version.clone(),
        status.storage_version.clone(),
        size(status.db_size),
        size(status.db_size_in_use),
        format!("{unused}%"),
        size(status.db_size_quota),
        (status.leader == member).to_string(),
        status.is_learner.to_string(),
        status.raft_term.to_string(),
        status.raft_index.to_string(),
        status.raft_applied_index.to_string(),
        status.errors.join(", "),
        downgrade.target_version,
        downgrade.enabled.to_string(),
    ]
}

fn status_fields(printer: &Printer, endpoint: &str, status: &StatusResponse) -> String {
    let quoted = |text: &str| text::quoted(text.as_bytes());
    let errors: Vec<_> = status.errors.iter().map(|error| quoted(error)).collect();
    let downgrade = status.downgrade_info.clone().unwrap_or_default();
    format!(
        "{}\"Version\" : {}\n\"StorageVersion\" : {}\n\"DBSize\" : {}\n\"DBSizeInUse\" : {}\n\"DBSizeQuota\" : {}\n\
         \"Leader\" : {}\n\"IsLearner\" : {}\n\"RaftIndex\" : {}\n\"RaftAppliedIndex\" : {}\n\"Errors\" : [{}]\n\
         \"Endpoint\" : {}\n\"DowngradeTargetVersion\" : {}\n\"DowngradeEnabled\" : {}\n\n",
        printer.header_fields(status.header),
        quoted(&status.version),
        quoted(&status.storage_version),
        status.db_size,
        status.db_size_in_use,
        status.db_size_quota,
        status.leader,
        status.is_learner,
        status.raft_index,
        status.raft_applied_index,
        errors.join(" "),
        quoted(endpoint),
        quoted(&downgrade.target_version),
        downgrade.enabled
    )
}

/// What a health check of one endpoint found; no error means healthy.
struct Health {
    endpoint: String,
    took: Duration,
    error: Option<String>,
}

async fn health(session: &Session, printer: &Printer, endpoints: &[String]) -> Result<(), Failure> {
    let checks: Vec<Health> = join_all(endpoints.iter().map(|endpoint| async move {
        let started = Instant::now();
        let error = check(session, endpoint)
            .await
            .err()
            .map(|failure| failure.text().unwrap_or_default().to_owned());
        Health {
            endpoint: endpoint.clone(),
            took: started.elapsed(),
            error,
        }
    }))
    .await;
    show_health(printer, &checks);
    match checks.iter().all(|check| check.error.is_none()) {
        true => Ok(()),
        false => Err(Failure::Refused("unhealthy cluster".to_owned())),
    }
}

/// A linearizable read of any key must be answered, and no alarm be raised.
async fn check(session: &Session, endpoint: &str) -> Result<(), Failure> {
    let channel = session.connect_to(endpoint).await?;
    let request = RangeRequest {
        key: Bytes::from_static(b"health"),
        ..RangeRequest::default()
    };
    session
        .call(KvClient::new(channel.clone()).range(request))
        .await?;
    let get = AlarmRequest {
        action: AlarmAction::Get as i32,
        ..AlarmRequest::default()
    };
    let answer = session.call(MaintenanceClient::new(channel).alarm(get)).await?;
    if answer.alarms.is_empty() {
        return Ok(());
    }
    let names: String = answer
        .alarms
        .iter()
        .map(|alarm| format!("{} ", alarm_name(alarm.alarm)))
        .collect();
    Err(Failure::Refused(format!("Active Alarm(s): {names}")))
}

fn alarm_name(alarm: i32) -> &'static str {
    AlarmType::try_from(alarm).map_or("UNKNOWN", |kind| kind.as_str_name())
}

fn show_health(printer: &Printer, checks: &[Health]) {
    match printer.format {
        Format::Json => {
            let items = checks.iter().map(|check| {
                Object::default()
                    .raw("endpoint", &json::string(&check.endpoint))
                    .always("health", check.error.is_none())
                    .raw("took", &json::string(&text::duration(check.took)))
                    .string("error", check.error.as_deref().unwrap_or_default())
                    .end()
            });
            print_line(&json::list(items));
        }
        Format::Fields => {
            for check in checks {
                print(&format!(
                    "\"Endpoint\" : {}\n\"Health\" : {}\n\"Took\" : {}\n\"Error\" : {}\n\n",
                    text::quoted(check.endpoint.as_bytes()),
                    check.error.is_none(),
                    text::duration(check.took),
                    check.error.as_deref().unwrap_or_default()
                ));
            }
        }
        Format::Simple => {
            for Health {
                endpoint,
                took,
                error,
            } in checks
            {
                match error {
                    None => print_line(&format!(
                        "{endpoint} is healthy: successfully committed proposal: took = {}",
                        text::duration(*took)
                    )),
                    Some(error) => eprintln!("{endpoint} is unhealthy: failed to commit proposal: {error}"),
                }
            }
        }
        Format::Table => {
            let rows: Vec<Vec<String>> = checks
                .iter()
                .map(|check| {
                    vec![
                        check.endpoint.clone(),
                        check.error.is_none().to_string(),
                        text::duration(check.took),
                        check.error.clone().unwrap_or_default(),
                    ]
                })
                .collect();
            print(&text::table(&["ENDPOINT", "HEALTH", "TOOK", "ERROR"], &rows));
        }
    }
}

async fn hash_kv(
    session: &Session,
    printer: &Printer,
    endpoints: &[String],
    revision: i64,
) -> Result<(), Failure> {
    let answers = join_all(endpoints.iter().map(|endpoint| async move {
        let mut client = MaintenanceClient::new(session.connect_to(endpoint).await?);
        session.call(client.hash_kv(HashKvRequest { revision })).await
    }))
    .await;
    let (answers, result) = sort_out("hash", endpoints, answers);
    let cells = |(endpoint, answer): &(&str, HashKvResponse)| {
        vec![
            (*endpoint).to_owned(),
            answer.hash.to_string(),
            answer.hash_revision.to_string(),
        ]
    };
    match printer.format {
        Format::Json => {
            let items = answers.iter().map(|(endpoint, answer)| {
                let hash = printer
                    .json()
                    .answer(answer.header)
                    .number("hash", answer.hash)
                    .number("compact_revision", answer.compact_revision)
                    .number("hash_revision", answer.hash_revision)
                    .end();
                Object::default()
                    .raw("Endpoint", &json::string(endpoint))
                    .raw("HashKV", &hash)
                    .end()
            });
            print_line(&json::list(items));
        }
        Format::Table => {
            let rows: Vec<_> = answers.iter().map(cells).collect();
            print(&text::table(&["ENDPOINT", "HASH", "HASH REVISION"], &rows));
        }
        Format::Fields => {
            for (endpoint, answer) in &answers {
                print(&format!(
                    "{}\"Endpoint\" : {}\n\"Hash\" : {}\n\"HashRevision\" : {}\n\n",
                    printer.header_fields(answer.header),
                    text::quoted(endpoint.as_bytes()),
                    answer.hash,
                    answer.hash_revision
                ));
            }
        }
        Format::Simple => {
            for answer in &answers {
                print_line(&cells(answer).join(", "));
            }
        }
    }
    result
}

/// Lists alarms, or lists and then disarms each: there is no "all" on the wire.
pub(super) async fn alarm(session: &Session, matches: &ArgMatches) -> Result<(), Failure> {
    let mut client = MaintenanceClient::new(session.connect().await?);
    let get = AlarmRequest {
        action: AlarmAction::Get as i32,
        ..AlarmRequest::default()
    };
    let listed = session.call(client.alarm(get)).await?;
    if matches.subcommand_matches("disarm").is_none() {
        show_alarms(&listed);
        return Ok(());
    }
    for alarm in listed.alarms {
        let request = AlarmRequest {
            action: AlarmAction::Deactivate as i32,
            member_id: alarm.member_id,
            alarm: alarm.alarm,
        };
        show_alarms(&session.call(client.alarm(request)).await?);
    }
    Ok(())
}

fn show_alarms(answer: &AlarmResponse) {
    for alarm in &answer.alarms {
        print_line(&format!(
            "memberID:{} alarm:{} ",
            alarm.member_id,
            alarm_name(alarm.alarm)
        ));
    }
}

pub(super) async fn defrag(session: &Session) -> Result<(), Failure> {
    let mut result = Ok(());
    for endpoint in session.endpoints() {
        let started = Instant::now();
        let done = async {
            let mut client = MaintenanceClient::new(session.connect_to(endpoint).await?);
            session.call(client.defragment(DefragmentRequest {})).await
        };
        match done.await {
            Ok(_) => print_line(&format!(
                "Finished defragmenting etcd member[{endpoint}]. took {}",
                text::duration(started.elapsed())
            )),
            Err(failure) => {
                let text = failure.text().unwrap_or_default();
                eprintln!("Failed to defragment etcd member[{endpoint}] ({text})");
                result = Err(Failure::Silent);
            }
        }
    }
    result
}

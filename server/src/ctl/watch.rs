//! `watch`: events until the server or the user ends it. A broken connection is taken up again where it left off.

use std::time::Duration;

use bytes::Bytes;
use clap::ArgMatches;
use proto::etcdserverpb::watch_client::WatchClient;
use proto::etcdserverpb::watch_request::RequestUnion;
use proto::etcdserverpb::{WatchCreateRequest, WatchRequest, WatchResponse};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Status};

use super::print::{Printer, print_line};
use super::session::{self, Session};
use super::{Failure, kv, line};

pub(super) async fn run(session: &Session, printer: &Printer, matches: &ArgMatches) -> Result<(), Failure> {
    printer.refuse_table()?;
    let mut create = create_request(&line::words_of(matches), matches)?;
    loop {
        match follow(session, printer, &mut create).await? {
            Ended::Canceled => {
                return Err(Failure::Interrupted("watch is canceled by the server".to_owned()));
            }
            Ended::Broken(status) => {
                eprintln!(
                    "the watch broke off ({}), taking it up again",
                    session::text_of(&status)
                );
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        }
    }
}

/// How a stream ended.
enum Ended {
    Canceled,
    Broken(Status),
}

/// Follows one stream to its end, keeping in `create` where the next one has to begin.
async fn follow(
    session: &Session,
    printer: &Printer,
    create: &mut WatchCreateRequest,
) -> Result<Ended, Failure> {
    let mut client = WatchClient::new(session.connect().await?).max_decoding_message_size(usize::MAX);
    // The sender stays here, so that our half of the stream stays open.
    let (sender, receiver) = mpsc::channel(1);
    let first = WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(create.clone())),
    };
    if sender.send(first).await.is_err() {
        return Ok(Ended::Broken(Status::new(
            Code::Unavailable,
            "the connection is gone",
        )));
    }
    let mut request = Request::new(ReceiverStream::new(receiver));
    request
        .metadata_mut()
        .insert("hasleader", tonic::metadata::MetadataValue::from_static("true"));
    let mut responses = match client.watch(request).await {
        Ok(responses) => responses.into_inner(),
        Err(status) => return broken(status),
    };
    loop {
        let response = match responses.message().await {
            Ok(Some(response)) => response,
            Ok(None) => return broken(Status::new(Code::Unavailable, "the server ended the stream")),
            Err(status) => return broken(status),
        };
        if show(printer, &response) {
            return Ok(Ended::Canceled);
        }
        if let Some(next) = next_revision(&response, create.start_revision) {
            create.start_revision = next;
        }
    }
}

/// Whether a broken stream is worth another attempt.
fn broken(status: Status) -> Result<Ended, Failure> {
    match status.code() {
        Code::Unavailable | Code::Unknown | Code::Internal => Ok(Ended::Broken(status)),
        _ => Err(Failure::Refused(session::text_of(&status))),
    }
}

/// Prints a response; true if it was the last.
fn show(printer: &Printer, response: &WatchResponse) -> bool {
    if response.canceled {
        let reason = match response.cancel_reason.as_str() {
            _ if response.compact_revision != 0 => "etcdserver: mvcc: required revision has been compacted",
            "" => "etcdserver: mvcc: required revision is a future revision",
            reason => reason,
        };
        eprintln!("watch was canceled ({reason})");
        printer.watch(response);
        return true;
    }
    if response.created {
        return false;
    }
    if response.events.is_empty() {
        print_line(&format!(
            "progress notify: {}",
            response.header.unwrap_or_default().revision
        ));
    }
    printer.watch(response);
    false
}

/// Where a watch that saw `response` goes on: after its last event, or after the revision up to which there was none.
fn next_revision(response: &WatchResponse, start: i64) -> Option<i64> {
    let header = response.header.unwrap_or_default().revision;
    match response.events.last().and_then(|event| event.kv.as_ref()) {
        Some(kv) => Some(kv.mod_revision + 1),
        None if response.created && start != 0 => None,
        None if header == 0 => None,
        None => Some(header + 1),
    }
}

fn create_request(words: &[&str], matches: &ArgMatches) -> Result<WatchCreateRequest, Failure> {
    let prefix = line::is_on(matches, "prefix");
    let key = match words {
        [key] | [key, _] => Bytes::copy_from_slice(key.as_bytes()),
        _ => return Err(Failure::Arguments("bad number of arguments".to_owned())),
    };
    let (key, range_end) = match words.get(1) {
        Some(_) if prefix => {
            return Err(Failure::Arguments(
                "`range_end` and `--prefix` are mutually exclusive".to_owned(),
            ));
        }
        Some(end) => (key, Bytes::copy_from_slice(end.as_bytes())),
        None if prefix && key.is_empty() => (Bytes::from_static(b"\0"), Bytes::from_static(b"\0")),
        None if prefix => {
            let end = kv::prefix_end(&key);
            (key, end)
        }
        None => (key, Bytes::new()),
    };
    Ok(WatchCreateRequest {
        key,
        range_end,
        start_revision: line::number_of(matches, "rev"),
        progress_notify: line::is_on(matches, "progress-notify"),
        prev_kv: line::is_on(matches, "prev-kv"),
        ..WatchCreateRequest::default()
    })
}

/// Before a broken watch is taken up again.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use proto::etcdserverpb::ResponseHeader;
    use proto::mvccpb::{Event, KeyValue};

    use super::*;

    #[test]
    fn a_watch_goes_on_after_what_it_saw() {
        let header = Some(ResponseHeader {
            revision: 9,
            ..ResponseHeader::default()
        });
        let created = WatchResponse {
            header,
            created: true,
            ..WatchResponse::default()
        };
        assert_eq!(next_revision(&created, 0), Some(10));
        assert_eq!(next_revision(&created, 3), None);
        let progress = WatchResponse {
            header,
            ..WatchResponse::default()
        };
        assert_eq!(next_revision(&progress, 3), Some(10));
        let kv = KeyValue {
            mod_revision: 5,
            ..KeyValue::default()
        };
        let events = vec![Event {
            kv: Some(kv),
            ..Event::default()
        }];
        assert_eq!(
            next_revision(
                &WatchResponse {
                    header,
                    events,
                    ..WatchResponse::default()
                },
                3
            ),
            Some(6)
        );
    }
}

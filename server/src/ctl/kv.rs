//! `get`, `put`, `del` and `compaction`. The requests are made apart from being sent, because `txn` makes them too.

use std::io::{IsTerminal as _, Read as _};
use std::time::Duration;

use bytes::Bytes;
use clap::ArgMatches;
use proto::etcdserverpb::kv_client::KvClient;
use proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use proto::etcdserverpb::{CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest};

use super::print::{Format, Printer, print_line};
use super::session::{Connection, Session};
use super::{Failure, line};

pub(super) async fn get(session: &Session, printer: &Printer, matches: &ArgMatches) -> Result<(), Failure> {
    printer.refuse_table()?;
    let request = range_request(&line::words_of(matches), matches)?;
    if request.count_only && printer.format != Format::Fields {
        return Err(Failure::Arguments(
            "--count-only is only for `--write-out=fields`".to_owned(),
        ));
    }
    let value_only = line::is_on(matches, "print-value-only");
    if value_only && printer.format != Format::Simple {
        return Err(Failure::Arguments(
            "print-value-only is only for `--write-out=simple`".to_owned(),
        ));
    }
    let mut client = client(session).await?;
    let answer = session.call(client.range(request)).await?;
    printer.get(&answer, value_only);
    Ok(())
}

pub(super) async fn put(session: &Session, printer: &Printer, matches: &ArgMatches) -> Result<(), Failure> {
    printer.refuse_table()?;
    let request = put_request(&line::words_of(matches), matches, true)?;
    let mut client = client(session).await?;
    let answer = session.call(client.put(request)).await?;
    printer.put(&answer);
    Ok(())
}

pub(super) async fn del(session: &Session, printer: &Printer, matches: &ArgMatches) -> Result<(), Failure> {
    printer.refuse_table()?;
    let words = line::words_of(matches);
    let request = delete_request(&words, matches)?;
    if let [key, end] = words[..]
        && !line::is_on(matches, "range")
    {
        eprintln!(
            "Warning: Keys between {key:?} and {end:?} will be deleted. Please interrupt the command within next 2 \
             seconds to cancel. You can provide `--range` flag to avoid the delay."
        );
        tokio::time::sleep(RANGE_DELETE_PAUSE).await;
    }
    let mut client = client(session).await?;
    let answer = session.call(client.delete_range(request)).await?;
    printer.delete(&answer);
    Ok(())
}

pub(super) async fn compaction(session: &Session, matches: &ArgMatches) -> Result<(), Failure> {
    let words = line::words_of(matches);
    let [revision] = words[..] else {
        return Err(Failure::Arguments(
            "compaction command needs 1 argument".to_owned(),
        ));
    };
    let revision = integer(revision).map_err(Failure::Refused)?;
    let request = CompactionRequest {
        revision,
        physical: line::is_on(matches, "physical"),
    };
    let mut client = client(session).await?;
    if request.physical {
        // Removing the history of a large store may take longer than a command usually may.
        client
            .compact(request)
            .await
            .map_err(|status| Failure::Refused(super::session::text_of(&status)))?;
    } else {
        session.call(client.compact(request)).await?;
    }
    print_line(&format!("compacted revision {revision}"));
    Ok(())
}

async fn client(session: &Session) -> Result<KvClient<Connection>, Failure> {
    Ok(KvClient::new(session.connect().await?).max_decoding_message_size(usize::MAX))
}

/// The request of a `get` with these words and flags.
pub(super) fn range_request(words: &[&str], matches: &ArgMatches) -> Result<RangeRequest, Failure> {
    let on = |name| line::is_on(matches, name);
    let number = |name| line::number_of(matches, name);
    if words.is_empty() {
        return Err(Failure::Arguments(
            "get command needs one argument as key and an optional argument as range_end".to_owned(),
        ));
    }
    if on("keys-only") && on("count-only") {
        return Err(exclusive("keys-only", "count-only"));
    }
    let (key, range_end) = range(words, on("prefix"), on("from-key"))?;
    let serializable = match line::text_of(matches, "consistency") {
        "l" => false,
        "s" => true,
        other => return Err(Failure::Feature(format!("unknown consistency flag {other:?}"))),
    };
    Ok(RangeRequest {
        key,
        range_end,
        limit: number("limit"),
        revision: number("rev"),
        sort_order: sort_order(matches)? as i32,
        sort_target: sort_target(matches)? as i32,
        serializable,
        keys_only: on("keys-only"),
        count_only: on("count-only"),
        min_mod_revision: number("min-mod-rev"),
        max_mod_revision: number("max-mod-rev"),
        min_create_revision: number("min-create-rev"),
        max_create_revision: number("max-create-rev"),
    })
}

fn sort_order(matches: &ArgMatches) -> Result<SortOrder, Failure> {
    match line::text_of(matches, "order").to_ascii_uppercase().as_str() {
        // As etcdctl has it: no order is sent when none is given, even where a target is.
        "" => Ok(SortOrder::None),
        "ASCEND" => Ok(SortOrder::Ascend),
        "DESCEND" => Ok(SortOrder::Descend),
        _ => Err(Failure::Feature(format!(
            "bad sort order {}",
            line::text_of(matches, "order")
        ))),
    }
}

fn sort_target(matches: &ArgMatches) -> Result<SortTarget, Failure> {
    match line::text_of(matches, "sort-by").to_ascii_uppercase().as_str() {
        "" | "KEY" => Ok(SortTarget::Key),
        "CREATE" => Ok(SortTarget::Create),
        "MODIFY" => Ok(SortTarget::Mod),
        "VALUE" => Ok(SortTarget::Value),
        "VERSION" => Ok(SortTarget::Version),
        _ => Err(Failure::Feature(format!(
            "bad sort target {}",
            line::text_of(matches, "sort-by")
        ))),
    }
}

/// The request of a `put`. A value that is not among the words comes from the standard input, if it may be read.
pub(super) fn put_request(
    words: &[&str],
    matches: &ArgMatches,
    read_input: bool,
) -> Result<PutRequest, Failure> {
    let on = |name| line::is_on(matches, name);
    let missing =
        || Failure::Arguments("put command needs 1 argument and input from stdin or 2 arguments".to_owned());
    let key = words.first().ok_or_else(missing)?;
    let value = match words.get(1) {
        _ if on("ignore-value") && words.len() > 1 => {
            return Err(Failure::Arguments(
                "put command needs only 1 argument when 'ignore-value' is set".to_owned(),
            ));
        }
        Some(value) => Bytes::copy_from_slice(value.as_bytes()),
        None if on("ignore-value") => Bytes::new(),
        None if read_input => piped_input().ok_or_else(missing)?,
        None => return Err(missing()),
    };
    Ok(PutRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value,
        lease: i64::from_str_radix(line::text_of(matches, "lease"), 16)
            .map_err(|_| bad_lease("bad lease ID", line::text_of(matches, "lease")))?,
        prev_kv: on("prev-kv"),
        ignore_value: on("ignore-value"),
        ignore_lease: on("ignore-lease"),
    })
}

/// What is piped in, if anything is.
fn piped_input() -> Option<Bytes> {
    let mut input = std::io::stdin();
    if input.is_terminal() {
        return None;
    }
    let mut bytes = Vec::new();
    input.read_to_end(&mut bytes).ok()?;
    (!bytes.is_empty()).then(|| bytes.into())
}

/// The request of a `del`.
pub(super) fn delete_request(words: &[&str], matches: &ArgMatches) -> Result<DeleteRangeRequest, Failure> {
    let on = |name| line::is_on(matches, name);
    if words.is_empty() {
        return Err(Failure::Arguments(
            "del command needs one argument as key and an optional argument as range_end".to_owned(),
        ));
    }
    let (key, range_end) = range(words, on("prefix"), on("from-key"))?;
    Ok(DeleteRangeRequest {
        key,
        range_end,
        prev_kv: on("prev-kv"),
    })
}

/// Key and range end of a command's words and flags.
fn range(words: &[&str], prefix: bool, from_key: bool) -> Result<(Bytes, Bytes), Failure> {
    if prefix && from_key {
        return Err(exclusive("prefix", "from-key"));
    }
    if words.len() > 1 && (prefix || from_key) {
        return Err(Failure::Arguments(
            "too many arguments, only accept one argument when `--prefix` or `--from-key` is set".to_owned(),
        ));
    }
    let key = Bytes::copy_from_slice(words[0].as_bytes());
    let zero = || Bytes::from_static(b"\0");
    Ok(match (prefix || from_key, key.is_empty()) {
        // The empty prefix means every key.
        (true, true) => (zero(), zero()),
        (true, false) if from_key => (key, zero()),
        (true, false) => {
            let end = prefix_end(&key);
            (key, end)
        }
        (false, _) => (
            key,
            words
                .get(1)
                .map(|end| Bytes::copy_from_slice(end.as_bytes()))
                .unwrap_or_default(),
        ),
    })
}

/// The first key after all that begin with `prefix`.
pub(super) fn prefix_end(prefix: &[u8]) -> Bytes {
    let kept = prefix.iter().rposition(|&byte| byte < 0xff);
    match kept {
        Some(last) => {
            let mut end = prefix[..=last].to_vec();
            end[last] += 1;
            end.into()
        }
        None => Bytes::from_static(b"\0"),
    }
}

fn exclusive(one: &str, other: &str) -> Failure {
    Failure::Arguments(format!(
        "`--{one}` and `--{other}` cannot be set at the same time, choose one"
    ))
}

/// A number as Go reads it, or its complaint.
pub(super) fn integer(text: &str) -> Result<i64, String> {
    text.parse().map_err(|_| complaint(text))
}

pub(super) fn bad_lease(what: &str, text: &str) -> Failure {
    Failure::Arguments(format!("{what} ({}), expecting ID in Hex", complaint(text)))
}

fn complaint(text: &str) -> String {
    format!("strconv.ParseInt: parsing {text:?}: invalid syntax")
}

/// Time to think before a range of keys goes.
const RANGE_DELETE_PAUSE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    fn request(args: &[&str]) -> Result<RangeRequest, Failure> {
        let matches = line::get()
            .no_binary_name(true)
            .try_get_matches_from(args)
            .unwrap();
        range_request(&line::words_of(&matches), &matches)
    }

    #[test]
    fn ranges_are_etcdctls() {
        let ends = |args: &[&str]| {
            request(args)
                .map(|request| (request.key, request.range_end))
                .unwrap()
        };
        let pair = |key: &'static str, end: &'static str| (Bytes::from(key), Bytes::from(end));
        assert_eq!(ends(&["a"]), pair("a", ""));
        assert_eq!(ends(&["a", "b"]), pair("a", "b"));
        assert_eq!(ends(&["a", "--prefix"]), pair("a", "b"));
        assert_eq!(ends(&["a", "--from-key"]), pair("a", "\0"));
        assert_eq!(ends(&["", "--prefix"]), pair("\0", "\0"));
        assert_eq!(prefix_end(b"a\xff\xff"), "b");
        assert_eq!(prefix_end(b"\xff"), "\0");
    }

    #[test]
    fn an_order_is_sent_only_when_it_is_given() {
        let sorts = |args: &[&str]| {
            request(args)
                .map(|request| (request.sort_order, request.sort_target))
                .unwrap()
        };
        assert_eq!(sorts(&["a"]), (SortOrder::None as i32, SortTarget::Key as i32));
        assert_eq!(
            sorts(&["a", "--sort-by=modify"]),
            (SortOrder::None as i32, SortTarget::Mod as i32)
        );
        assert_eq!(
            sorts(&["a", "--order=descend"]),
            (SortOrder::Descend as i32, SortTarget::Key as i32)
        );
    }

    #[test]
    fn contradictions_are_refused_with_etcdctls_codes() {
        for (args, code, text) in [
            (
                &["--prefix"][..],
                128,
                "get command needs one argument as key and an optional argument as range_end",
            ),
            (
                &["a", "--prefix", "--from-key"],
                128,
                "`--prefix` and `--from-key` cannot be set at the same time, choose one",
            ),
            (&["a", "--order=x"], 4, "bad sort order x"),
            (&["a", "--sort-by=x"], 4, "bad sort target x"),
            (&["a", "--consistency=x"], 4, "unknown consistency flag \"x\""),
        ] {
            let failure = request(args).unwrap_err();
            assert_eq!((failure.code(), failure.text()), (code, Some(text)));
        }
    }
}

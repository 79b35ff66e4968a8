//! `txn`: compares and requests in etcdctl's small language, from the standard input.
//!
//! Three lists of lines, each ended by an empty line: compares such as `mod("key") > "0"`, requests to run if all of
//! them hold, requests to run otherwise. Requests are commands: `put key "a value"`, `get key --prefix`, `del key`.

use std::io::BufRead;

use bytes::Bytes;
use clap::ArgMatches;
use proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use proto::etcdserverpb::kv_client::KvClient;
use proto::etcdserverpb::request_op::Request;
use proto::etcdserverpb::{Compare, RequestOp, TxnRequest};

use super::print::{Printer, print_line};
use super::session::Session;
use super::{Failure, kv, line, text};

pub(super) async fn run(session: &Session, printer: &Printer, matches: &ArgMatches) -> Result<(), Failure> {
    if !line::words_of(matches).is_empty() {
        return Err(Failure::Arguments(
            "txn command does not accept argument".to_owned(),
        ));
    }
    printer.refuse_table()?;
    let interactive = line::is_on(matches, "interactive");
    let request = read(&mut std::io::stdin().lock(), |section| {
        if interactive {
            print_line(section);
        }
    })?;
    let mut client = KvClient::new(session.connect().await?).max_decoding_message_size(usize::MAX);
    let answer = session.call(client.txn(request)).await?;
    printer.txn(&answer);
    Ok(())
}

/// Reads the three lists; `announce` is told before each.
pub(super) fn read(input: &mut impl BufRead, announce: impl Fn(&str)) -> Result<TxnRequest, Failure> {
    announce("compares:");
    let compare = list(input, parse_compare)?;
    announce("success requests (get, put, del):");
    let success = list(input, parse_request)?;
    announce("failure requests (get, put, del):");
    let failure = list(input, parse_request)?;
    Ok(TxnRequest {
        compare,
        success,
        failure,
    })
}

/// Reads lines up to an empty one.
fn list<T>(input: &mut impl BufRead, parse: impl Fn(&str) -> Result<T, Failure>) -> Result<Vec<T>, Failure> {
    let mut items = Vec::new();
    loop {
        let mut line = String::new();
        match input.read_line(&mut line) {
            Ok(0) => return Err(Failure::Input("EOF".to_owned())),
            Ok(_) => {}
            Err(error) => return Err(Failure::Input(error.to_string())),
        }
        match line.trim_end_matches(['\n', '\r']) {
            "" => return Ok(items),
            line => items.push(parse(line)?),
        }
    }
}

/// `target("key") op "value"`.
fn parse_compare(line: &str) -> Result<Compare, Failure> {
    let malformed = || Failure::Input(format!("malformed comparison: {line}"));
    let (target, rest) = line.split_once('(').ok_or_else(malformed)?;
    let (key, rest) = text::unquote(rest).ok_or_else(malformed)?;
    let rest = rest.strip_prefix(')').ok_or_else(malformed)?.trim_start();
    let (op, rest) = rest.split_once(char::is_whitespace).ok_or_else(malformed)?;
    let (value, _) = text::unquote(rest.trim_start()).ok_or_else(malformed)?;
    let result = match op {
        "=" => CompareResult::Equal,
        "!=" => CompareResult::NotEqual,
        ">" => CompareResult::Greater,
        "<" => CompareResult::Less,
        _ => return Err(malformed()),
    };
    let number = |radix| {
        std::str::from_utf8(&value)
            .ok()
            .and_then(|text| i64::from_str_radix(text, radix).ok())
            .ok_or_else(|| Failure::Input(format!("invalid txn compare request: {line}")))
    };
    let (target, target_union) = match target {
        "ver" | "version" => (CompareTarget::Version, TargetUnion::Version(number(10)?)),
        "c" | "create" => (CompareTarget::Create, TargetUnion::CreateRevision(number(10)?)),
        "m" | "mod" => (CompareTarget::Mod, TargetUnion::ModRevision(number(10)?)),
        "lease" => (CompareTarget::Lease, TargetUnion::Lease(number(16)?)),
        "val" | "value" => (CompareTarget::Value, TargetUnion::Value(value.into())),
        other => {
            return Err(Failure::Input(format!(
                "malformed comparison: {line} (unknown target {other})"
            )));
        }
    };
    Ok(Compare {
        result: result as i32,
        target: target as i32,
        key: key.into(),
        target_union: Some(target_union),
        range_end: Bytes::new(),
    })
}

/// A `get`, `put` or `del` with its arguments.
fn parse_request(line: &str) -> Result<RequestOp, Failure> {
    let words = split(line)?;
    if words.len() < 2 {
        return Err(Failure::Input(format!("invalid txn compare request: {line}")));
    }
    let command = match words[0].as_str() {
        "get" => line::get(),
        "put" => line::put(),
        "del" => line::del(),
        _ => return Err(Failure::Input(format!("invalid txn request: {line}"))),
    };
    let matches = command
        .no_binary_name(true)
        .try_get_matches_from(&words[1..])
        .map_err(|error| Failure::Input(format!("invalid txn request: {line}: {}", error.kind())))?;
    let arguments = line::words_of(&matches);
    let request = match words[0].as_str() {
        "get" => Request::RequestRange(kv::range_request(&arguments, &matches)?),
        "put" => Request::RequestPut(kv::put_request(&arguments, &matches, false)?),
        _ => Request::RequestDeleteRange(kv::delete_request(&arguments, &matches)?),
    };
    Ok(RequestOp {
        request: Some(request),
    })
}

/// Splits a line into words; a word may stand in double quotes (with escapes) or in single ones (without).
fn split(line: &str) -> Result<Vec<String>, Failure> {
    let malformed = || Failure::Input(format!("invalid txn request: {line}"));
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        let (word, tail) = if rest.starts_with('"') {
            let (bytes, tail) = text::unquote(rest).ok_or_else(malformed)?;
            // Arguments are text, here as on a command line.
            (String::from_utf8(bytes).map_err(|_| malformed())?, tail)
        } else if let Some(inner) = rest.strip_prefix('\'') {
            let (word, tail) = inner.split_once('\'').ok_or_else(malformed)?;
            (word.to_owned(), tail)
        } else {
            let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
            (rest[..end].to_owned(), &rest[end..])
        };
        words.push(word);
        rest = tail.trim_start();
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use proto::etcdserverpb::{DeleteRangeRequest, PutRequest};

    use super::*;

    #[test]
    fn three_lists_make_a_transaction() {
        let text = "mod(\"k\") > \"0\"\nval(\"a b\") = \"x\\n\"\n\nput k \"a value\"\ndel k --prefix\n\nget 'k 2'\n\n";
        let request = read(&mut text.as_bytes(), |_| ()).unwrap();
        assert_eq!(request.compare.len(), 2);
        assert_eq!(request.compare[0].target_union, Some(TargetUnion::ModRevision(0)));
        assert_eq!(request.compare[0].result, CompareResult::Greater as i32);
        assert_eq!(request.compare[1].key, "a b");
        assert_eq!(
            request.compare[1].target_union,
            Some(TargetUnion::Value("x\n".into()))
        );
        let put = PutRequest {
            key: "k".into(),
            value: "a value".into(),
            ..PutRequest::default()
        };
        let del = DeleteRangeRequest {
            key: "k".into(),
            range_end: "l".into(),
            prev_kv: false,
        };
        assert_eq!(
            request.success,
            [
                RequestOp {
                    request: Some(Request::RequestPut(put))
                },
                RequestOp {
                    request: Some(Request::RequestDeleteRange(del))
                },
            ]
        );
        let Some(Request::RequestRange(get)) = &request.failure[0].request else {
            panic!("a get")
        };
        assert_eq!(get.key, "k 2");
    }

    #[test]
    fn nonsense_is_refused_with_etcdctls_code() {
        for (text, message) in [
            ("", "EOF"),
            ("foo\n", "malformed comparison: foo"),
            ("mod(\"a\")=\"1\"\n", "malformed comparison: mod(\"a\")=\"1\""),
            (
                "mod(\"a\") = \"x\"\n",
                "invalid txn compare request: mod(\"a\") = \"x\"",
            ),
            (
                "nope(\"a\") = \"x\"\n",
                "malformed comparison: nope(\"a\") = \"x\" (unknown target nope)",
            ),
            ("\nnope\n", "invalid txn compare request: nope"),
            ("\nmove a b\n", "invalid txn request: move a b"),
        ] {
            let failure = read(&mut text.as_bytes(), |_| ()).unwrap_err();
            assert_eq!((failure.code(), failure.text()), (3, Some(message)), "{text}");
        }
        assert_eq!(read(&mut "\nput a\n".as_bytes(), |_| ()).unwrap_err().code(), 128);
    }
}

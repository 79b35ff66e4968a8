//! Single requests and their answers, to the letter (`answers.txt`): what a real kube-apiserver was seen to answer, and
//! answers again with `TAFFRAIL_TEST_KUBERNETES`.
//!
//! A block of the file is a request and what is expected of its answer:
//!
//! ```text
//! METHOD PATH [CONTENT-TYPE]
//! BODY                        as JSON, if there is one
//! CODE [MESSAGE]              the message of a refusal
//! POINTER = JSON              what stands there in the answer; nothing but "none" where there is nothing
//! @ TEXT                      a warning
//! ```

use serde_json::Value;

use crate::harness::*;

#[tokio::test]
async fn answers_are_those_of_a_real_server() {
    let kubernetes = Kubernetes::start().await;
    let address = kubernetes.address();
    let mut wrong = Vec::new();
    let blocks = include_str!("answers.txt").split("\n\n");
    let blocks = blocks.map(lines).filter(|lines| !lines.is_empty());
    let mut count = 0;
    for lines in blocks {
        count += 1;
        let mut words = lines[0].split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let content_type = words.next().unwrap_or("application/json");
        let is_body = |line: &&&str| line.starts_with(['{', '[']);
        let body = lines.get(1).filter(is_body).copied();
        let headers = [
            ("Content-Type", content_type),
            ("Accept", "application/json"),
            // Who changes something is noted by this name.
            ("User-Agent", "answers/1"),
        ];
        let exchange = Exchange::send(address, method, path, &headers, body.unwrap_or_default());
        let status = exchange.status;
        let warning = exchange.header("warning").to_owned();
        let answer: Value = serde_json::from_str(&exchange.body()).unwrap_or_default();
        let expected = &lines[1 + usize::from(body.is_some())..];
        wrong.extend(
            expected
                .iter()
                .filter_map(|line| differs(line, status, &warning, &answer))
                .map(|told| format!("{}\n{}\n{told}", lines[0], body.unwrap_or_default())),
        );
    }
    assert!(count > 30, "{count} requests were read");
    assert!(
        wrong.is_empty(),
        "{} went otherwise:\n\n{}",
        wrong.len(),
        wrong.join("\n\n")
    );
}

/// The lines of a block without what is remarked.
fn lines(block: &str) -> Vec<&str> {
    let lines = block.lines().map(str::trim);
    lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect()
}

/// How an answer is other than one line demands.
fn differs(line: &str, status: u16, warning: &str, answer: &Value) -> Option<String> {
    let (expected, seen) = if let Some(text) = line.strip_prefix("@ ") {
        (format!("299 - {}", Value::from(text)), warning.to_owned())
    } else if let Some((pointer, value)) = line.split_once(" = ") {
        let seen = answer.pointer(pointer);
        // Read and written again, so that the order of fields does not count.
        let expected: Option<Value> = serde_json::from_str(value).ok();
        let shown = |value: Option<&Value>| value.map_or("none".to_owned(), Value::to_string);
        (shown(expected.as_ref()), shown(seen))
    } else {
        let seen = match line.contains(' ') {
            true => format!("{status} {}", answer["message"].as_str().unwrap_or_default()),
            false => status.to_string(),
        };
        (line.to_owned(), seen)
    };
    (expected != seen).then(|| format!("expected: {expected}\nseen:     {seen}"))
}

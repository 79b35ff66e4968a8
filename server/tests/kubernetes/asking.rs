//! Requests of any kind to the Kubernetes API and their answers as they are; watches that are read on threads of their own.

use std::net::SocketAddr;
use std::sync::mpsc;

use bytes::Bytes;
use http::{HeaderMap, Request};
use kube::{Client, Config};
use serde_json::{Value, json};

use crate::harness::*;

/// A client that tries nothing twice.
#[derive(Clone)]
pub(crate) struct Asker(Client);

/// What a server answers.
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Asker {
    pub(crate) fn at(url: &str) -> Asker {
        let mut config = Config::new(url.parse().expect("a URL"));
        config.default_retry = false;
        config.read_timeout = Some(PATIENCE);
        Asker(Client::try_from(config).expect("a client over plain HTTP"))
    }

    /// Nothing where the connection breaks before there is an answer.
    pub(crate) async fn try_send(
        &self,
        method: &str,
        path: &str,
        content_type: &str,
        body: impl Into<Vec<u8>>,
    ) -> Option<Answer> {
        let mut request = Request::builder().method(method).uri(path);
        if !content_type.is_empty() {
            request = request.header("content-type", content_type);
        }
        let body: Vec<u8> = body.into();
        let request = request.body(body.into()).expect("a request");
        let (parts, body) = self.0.send(request).await.ok()?.into_parts();
        Some(Answer {
            code: parts.status.as_u16(),
            headers: parts.headers,
            body: body.collect_bytes().await.ok()?,
        })
    }

    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        content_type: &str,
        body: impl Into<Vec<u8>>,
    ) -> Answer {
        let answer = self.try_send(method, path, content_type, body).await;
        answer.unwrap_or_else(|| panic!("no answer to {method} {path}"))
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, "", "").await
    }

    pub(crate) async fn post(&self, path: &str, object: &Value) -> Answer {
        self.send("POST", path, "application/json", object.to_string())
            .await
    }

    pub(crate) async fn put(&self, path: &str, object: &Value) -> Answer {
        self.send("PUT", path, "application/json", object.to_string())
            .await
    }

    pub(crate) async fn merge(&self, path: &str, patch: &Value) -> Answer {
        let kind = "application/merge-patch+json";
        self.send("PATCH", path, kind, patch.to_string()).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, "", "").await
    }
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The reason of a refusal.
    pub(crate) fn reason(&self) -> String {
        self.json()["reason"].as_str().unwrap_or_default().to_owned()
    }

    /// The text of a refusal.
    pub(crate) fn message(&self) -> String {
        self.json()["message"].as_str().unwrap_or_default().to_owned()
    }

    /// The object, which was answered with this code.
    pub(crate) fn expect(self, code: u16) -> Value {
        assert_eq!(self.code, code, "{}", self.text());
        self.json()
    }
}

/// A watch, whose events are taken as they come and kept until they are asked for.
pub(crate) struct Watching {
    lines: mpsc::Receiver<Line>,
}

enum Line {
    Event(Value),
    /// The body has come to its proper end.
    End,
}

impl Watching {
    pub(crate) fn open(address: SocketAddr, path: &str) -> Watching {
        let mut exchange = Exchange::get(address, path);
        assert_eq!(exchange.status, 200, "{path}");
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            while let Some(line) = exchange.line() {
                let event = serde_json::from_str(&line).expect("a line is JSON");
                if sender.send(Line::Event(event)).is_err() {
                    return;
                }
            }
            let _ = sender.send(Line::End);
        });
        Watching { lines }
    }

    /// The next event; nothing at the proper end. A watch that is cut off is a failure.
    pub(crate) fn next(&self) -> Option<Value> {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(Line::Event(event)) => Some(event),
            Ok(Line::End) => None,
            Err(error) => panic!("the watch was cut off or is silent: {error}"),
        }
    }

    /// The next event that is no bookmark, as its kind and the name of its object.
    pub(crate) fn next_change(&self) -> Option<String> {
        loop {
            let event = self.next()?;
            if event["type"] != "BOOKMARK" {
                return Some(told(&event));
            }
        }
    }
}

/// An event as its kind and the name of its object.
pub(crate) fn told(event: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    format!(
        "{} {}",
        text(&event["type"]),
        text(&event["object"]["metadata"]["name"])
    )
}

/// A ConfigMap.
pub(crate) fn config_map(name: &str, value: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name},
        "data": {"value": value},
    })
}

/// Where ConfigMaps of the first namespace are.
pub(crate) const MAPS: &str = "/api/v1/namespaces/default/configmaps";

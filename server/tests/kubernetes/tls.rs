//! `--apiserver-listen https://...`: with the certificates of the member's client port.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Version};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;

use crate::asking::{MAPS, config_map};
use crate::harness::tls::{Authority, Hello, Pair};
use crate::harness::*;

/// A member whose Kubernetes port speaks TLS, with a certificate of this authority.
fn start(authority: &Authority, flags: &[&str]) -> (Kubernetes, Pair) {
    let pair = authority.issue("member", 1, &["localhost", "127.0.0.1"]);
    let own = [
        format!("--cert-file={}", pair.cert_file.display()),
        format!("--key-file={}", pair.key_file.display()),
    ];
    let flags: Vec<&str> = flags
        .iter()
        .copied()
        .chain(own.iter().map(String::as_str))
        .collect();
    (Kubernetes::start_secured(&flags), pair)
}

#[tokio::test]
async fn kubectl_1_20() {
    if let Some(kubectl) = needs_old_kubectl("tls::kubectl_1_20") {
        session(&kubectl);
    }
}

#[tokio::test]
async fn kubectl_1_37() {
    if let Some(kubectl) = needs_newest_kubectl("tls::kubectl_1_37") {
        session(&kubectl);
    }
}

/// kubectl asks for a name and a password where it is given neither a token nor a certificate.
fn session(kubectl: &Path) {
    let authority = Authority::new();
    let (kubernetes, _) = start(&authority, &[]);
    let home = tempfile::tempdir().unwrap();
    let server = format!("--server=https://{}", kubernetes.address());
    let trusted = format!("--certificate-authority={}", authority.ca_file().display());
    let run = |trust: &[&str], words: &[&str]| -> Output {
        let mut command = Command::new(kubectl);
        command.env("HOME", home.path()).env_remove("KUBECONFIG");
        command.arg(&server).arg("--token=any").args(trust).args(words);
        command.output().unwrap()
    };
    let trust = [trusted.as_str()];
    let told = |output: Output| -> String {
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{errors}");
        String::from_utf8(output.stdout).unwrap()
    };
    let made = told(run(
        &trust,
        &["create", "configmap", "a", "--from-literal=value=1"],
    ));
    assert_eq!(made, "configmap/a created\n");
    let found = told(run(
        &trust,
        &["get", "configmaps", "-o", "jsonpath={.items[*].data.value}"],
    ));
    assert_eq!(found, "1");
    // A watch of its own waits for the end.
    let deleted = told(run(&trust, &["delete", "configmap", "a"]));
    assert!(deleted.starts_with("configmap \"a\" deleted"), "{deleted}");
    let refused = run(&[], &["get", "configmaps"]);
    let errors = String::from_utf8_lossy(&refused.stderr);
    assert!(
        !refused.status.success() && errors.contains("x509: certificate signed by unknown authority"),
        "{errors}"
    );
}

/// Many requests, a watch among them, on one connection.
#[tokio::test]
async fn http_2_is_spoken_where_it_is_offered() {
    let authority = Authority::new();
    let (kubernetes, _) = start(&authority, &[]);
    let address = kubernetes.address();
    let stream = Hello::offering(&["h2", "http/1.1"])
        .trusting(&[&authority])
        .connect(address)
        .await
        .unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
    let io = TokioIo::new(stream);
    let shaken = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await;
    let (sender, connection) = shaken.unwrap();
    tokio::spawn(connection);
    let ask = async |method: &str, path: &str, body: String| {
        let request = Request::builder()
            .method(method)
            .uri(format!("https://{address}{path}"))
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))
            .unwrap();
        let answer = sender.clone().send_request(request).await.unwrap();
        assert_eq!(answer.version(), Version::HTTP_2);
        answer
    };
    let path = format!("{MAPS}?watch=true&timeoutSeconds=20");
    let mut watch = ask("GET", &path, String::new()).await.into_body();
    for number in 0..20 {
        let map = config_map(&format!("a{number}"), "1");
        assert_eq!(ask("POST", MAPS, map.to_string()).await.status(), 201);
        let frame = tokio::time::timeout(PATIENCE, watch.frame())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        let event: Value = serde_json::from_slice(frame.data_ref().unwrap()).unwrap();
        assert_eq!(event["object"]["metadata"]["name"], format!("a{number}"));
    }
    // Who offers nothing speaks HTTP/1.1.
    let answer = Hello::default()
        .trusting(&[&authority])
        .get(address, "/readyz")
        .await
        .unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.ends_with("ok"),
        "{answer}"
    );
    let plain = http_get(address, "/readyz");
    assert!(plain.is_none_or(|answer| answer.status == 400), "TLS only");
}

#[tokio::test]
async fn who_is_trusted_and_new_certificates() {
    let authority = Authority::new();
    let trust = format!("--trusted-ca-file={}", authority.ca_file().display());
    let (kubernetes, pair) = start(&authority, &["--client-cert-auth", &trust]);
    let address = kubernetes.address();
    let other = Authority::named("other");
    let refused = Hello::with(&pair).trusting(&[&other]).connect(address).await;
    assert!(refused.is_err(), "a client that does not trust the server leaves");
    // As on the other ports, whoever shows no certificate or one of another authority is sent away.
    let stranger = other.issue("stranger", 2, &[]);
    for hello in [Hello::default(), Hello::with(&stranger)] {
        assert!(
            hello
                .trusting(&[&authority])
                .get(address, "/readyz")
                .await
                .is_err()
        );
    }
    let known = Hello::with(&authority.issue("client", 3, &[])).trusting(&[&authority]);
    assert!(known.get(address, "/readyz").await.unwrap().ends_with("ok"));

    assert_eq!(known.shown(address).await.unwrap(), pair.cert);
    let renewed = authority.issue("member", 4, &["localhost", "127.0.0.1"]);
    let began = Instant::now();
    while known.shown(address).await.unwrap() != renewed.cert {
        assert!(began.elapsed() < PATIENCE, "the old certificate is shown still");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(known.get(address, "/readyz").await.unwrap().ends_with("ok"));
}

#[test]
fn without_a_certificate_it_does_not_start() {
    let mut server = Server::prepared(&["--apiserver-listen=https://127.0.0.1:0"]);
    server.spawn();
    assert_eq!(server.wait_for_exit().code(), Some(1));
    let told = "client TLS key/cert (--cert-file, --key-file) or --auto-tls must be given for a secure --apiserver-listen";
    assert!(server.log().contains(told), "{}", server.log());
}

#![allow(clippy::unwrap_used, reason = "a test may panic")]
//! TLS for clients, as etcd's flags describe it. Every expectation holds for a real etcd too.

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;

use crate::harness::tls::{Authority, Hello, Pair};
use crate::harness::*;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};

/// A server with a second client port that speaks TLS; the first stays as it is.
struct Secure {
    server: Server,
    ports: Ports,
}

impl Secure {
    fn start(pair: &Pair, flags: &[String]) -> Secure {
        let mut flags = flags.to_vec();
        flags.push(format!("--cert-file={}", pair.cert_file.display()));
        flags.push(format!("--key-file={}", pair.key_file.display()));
        Secure::start_with(&flags)
    }

    fn start_with(flags: &[String]) -> Secure {
        let mut secure = Secure {
            server: Server::prepared(&[]),
            ports: Ports::reserve(),
        };
        let urls = format!("{},https://{}", secure.server.endpoint(), secure.address());
        secure.server.add_flag(&format!("--listen-client-urls={urls}"));
        for flag in flags {
            secure.server.add_flag(flag);
        }
        secure.server.run();
        secure
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.ports.client))
    }

    async fn admits(&self, hello: &Hello) -> bool {
        match hello.get(self.address(), "/health").await {
            Ok(answer) => {
                assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
                true
            }
            Err(_) => false,
        }
    }

    fn wait_for_line(&self, parts: &[&str]) {
        wait_until(&format!("a line with {parts:?}"), || {
            let log = self.server.log();
            log.lines()
                .any(|line| parts.iter().all(|part| line.contains(part)))
        });
    }
}

fn flag(name: &str, path: &Path) -> String {
    format!("--{name}={}", path.display())
}

#[tokio::test]
async fn case_73_alpn_decides_between_grpc_and_http() {
    let authority = Authority::new();
    let secure = Secure::start(&authority.issue("server", 1, &["localhost"]), &[]);
    for (offered, negotiated) in [
        (&[][..], None),
        (&["http/1.1"], None),
        (&["h2"], Some("h2")),
        (&["http/1.1", "h2"], Some("h2")),
    ] {
        let hello = Hello::offering(offered);
        let stream = hello.connect(secure.address()).await.unwrap();
        let got = stream.get_ref().1.alpn_protocol();
        assert_eq!(got, negotiated.map(str::as_bytes), "{offered:?}");
        if negotiated.is_none() {
            assert!(secure.admits(&hello).await, "{offered:?}");
        }
    }
    let refused = Hello::offering(&["spdy/3"]).connect(secure.address()).await;
    let text = refused.unwrap_err().to_string();
    assert!(text.contains("NoApplicationProtocol"), "{text}");

    let address = secure.address();
    let connect = move || async move { Hello::offering(&["h2"]).connect(address).await };
    let client = Client::through(connect).await.unwrap();
    client.put("tls", "1").await;
    assert_eq!(pairs(&client.range(get("tls")).await.kvs), ["tls=1"]);
    secure.wait_for_line(&[
        "serving client traffic securely",
        "grpc+http",
        &address.to_string(),
    ]);
}

/// One port: gRPC, HTTP/1.1 and HTTP/2 pages, and the gateway over both.
#[tokio::test]
async fn one_port_serves_all_that_clients_speak() {
    let authority = Authority::new();
    let secure = Secure::start(&authority.issue("server", 1, &["localhost"]), &[]);
    let address = secure.address();
    let connect = move || async move { Hello::offering(&["h2"]).connect(address).await };
    let client = Client::through(connect).await.unwrap();
    client.put("key", "value").await;
    // {"key":"key"}, and the value in the answer.
    let (request, value) = ("{\"key\":\"a2V5\"}", "\"value\":\"dmFsdWU=\"");
    let post = format!(
        "POST /v3/kv/range HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{request}",
        request.len()
    );
    let answer = Hello::default().exchange(address, &post).await.unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains(value),
        "{answer}"
    );
    for (path, text) in [
        ("/health", "\"health\":\"true\""),
        ("/version", "\"etcdserver\""),
        ("/metrics", "etcd_server_has_leader 1"),
    ] {
        let answer = Hello::default().get(address, path).await.unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.contains(text),
            "{path}: {answer}"
        );
        let (status, body) = over_http2(address, "GET", path, "").await;
        assert!(status == 200 && body.contains(text), "{path}: {status} {body}");
    }
    let (status, body) = over_http2(address, "POST", "/v3/kv/range", request).await;
    assert!(status == 200 && body.contains(value), "{status} {body}");
}

/// The answer to a request over HTTP/2.
async fn over_http2(address: SocketAddr, method: &str, path: &str, body: &str) -> (u16, String) {
    let stream = Hello::offering(&["h2"]).connect(address).await.unwrap();
    let executor = TokioExecutor::new();
    let (mut sender, connection) = http2::handshake(executor, TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(format!("https://localhost{path}"))
        .body(Full::new(Bytes::from(body.to_owned())))
        .unwrap();
    let answer = sender.send_request(request).await.unwrap();
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}

#[tokio::test]
async fn clients_are_verified() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let pair = authority.issue("server", 1, &["localhost"]);
    let known = authority.issue("client", 2, &["client.example"]);
    let unknown = stranger.issue("client", 3, &["client.example"]);
    let ca = flag("trusted-ca-file", &authority.ca_file());
    // The authority alone forces the verification as well.
    for flags in [
        vec![ca.clone(), "--client-cert-auth".to_owned()],
        vec![ca.clone()],
    ] {
        let secure = Secure::start(&pair, &flags);
        assert!(secure.admits(&Hello::with(&known)).await, "{flags:?}");
        assert!(!secure.admits(&Hello::default()).await, "{flags:?}");
        secure.wait_for_line(&[
            "rejected connection on client endpoint",
            "\"remote-addr\":\"127.0.0.1:",
            "tls: client didn't provide a certificate",
        ]);
        assert!(!secure.admits(&Hello::with(&unknown)).await, "{flags:?}");
        secure.wait_for_line(&["rejected connection on client endpoint", "certificate"]);
    }
    // Without either, nobody is asked.
    let secure = Secure::start(&pair, &[]);
    assert!(secure.admits(&Hello::default()).await);
}

#[tokio::test]
async fn revoked_certificates_are_refused() {
    let authority = Authority::new();
    let pair = authority.issue("server", 1, &["localhost"]);
    let (first, second) = (
        authority.issue("a", 0x1234_5678, &["a"]),
        authority.issue("b", 0x9abc, &["b"]),
    );
    let list = authority.file("revoked.crl");
    authority.revoke(&list, &[0x1234_5678]);
    let flags = [
        flag("trusted-ca-file", &authority.ca_file()),
        flag("client-crl-file", &list),
        "--client-cert-auth".to_owned(),
    ];
    let secure = Secure::start(&pair, &flags);
    assert!(!secure.admits(&Hello::with(&first)).await);
    assert!(secure.admits(&Hello::with(&second)).await);
    secure.wait_for_line(&["rejected connection on client endpoint", "12345678 revoked"]);
    // The list is read each time.
    authority.revoke(&list, &[0x9abc]);
    assert!(secure.admits(&Hello::with(&first)).await);
    assert!(!secure.admits(&Hello::with(&second)).await);
    fs::remove_file(&list).unwrap();
    assert!(!secure.admits(&Hello::with(&first)).await);
}

#[tokio::test]
async fn clients_need_an_allowed_name() {
    let authority = Authority::new();
    let pair = authority.issue("server", 1, &["localhost"]);
    let flags = [
        flag("trusted-ca-file", &authority.ca_file()),
        "--client-cert-auth".to_owned(),
        "--client-cert-allowed-hostname=good.example,192.0.2.7,a.b.example".to_owned(),
    ];
    let secure = Secure::start(&pair, &flags);
    for (host, admitted) in [
        ("good.example", true),
        ("192.0.2.7", true),
        ("*.b.example", true),
        ("other.example", false),
        ("192.0.2.8", false),
    ] {
        let client = authority.issue("client", 2, &[host]);
        assert_eq!(secure.admits(&Hello::with(&client)).await, admitted, "{host}");
    }
    secure.wait_for_line(&[
        "rejected connection on client endpoint",
        "client certificate authentication failed",
    ]);
}

#[tokio::test]
async fn a_replaced_certificate_is_served_at_once() {
    let authority = Authority::new();
    let pair = authority.issue("server", 1, &["localhost"]);
    let secure = Secure::start(&pair, &[]);
    let served = async || {
        let stream = Hello::default().connect(secure.address()).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0]
            .clone()
            .into_owned()
    };
    assert_eq!(served().await, pair.cert);
    for serial in 2..5 {
        let next = authority.issue("next", serial, &["localhost"]);
        fs::rename(&next.cert_file, &pair.cert_file).unwrap();
        fs::rename(&next.key_file, &pair.key_file).unwrap();
        assert_eq!(served().await, next.cert);
    }
}

/// Whom the new list of authorities does not have is refused from the next handshake on; a broken list changes nothing.
#[tokio::test]
async fn a_replaced_authority_counts_at_once() {
    if !runs_taffrail() {
        return skip(
            "a_replaced_authority_counts_at_once",
            "a server that reads authorities again",
        );
    }
    let (old, new) = (Authority::new(), Authority::new());
    let list = old.file("trusted.pem");
    fs::write(&list, old.pem()).unwrap();
    let flags = [flag("trusted-ca-file", &list), "--client-cert-auth".to_owned()];
    let secure = Secure::start(&old.issue("server", 1, &["localhost"]), &flags);
    let by_old = Hello::with(&old.issue("client", 2, &["client"]));
    let by_new = Hello::with(&new.issue("client", 3, &["client"]));
    let admitted = async || (secure.admits(&by_old).await, secure.admits(&by_new).await);
    assert_eq!(admitted().await, (true, false));
    fs::write(&list, new.pem()).unwrap();
    assert_eq!(admitted().await, (false, true));
    fs::write(&list, "nothing\n").unwrap();
    assert_eq!(admitted().await, (false, true));
    secure.wait_for_line(&["TLS files cannot be used", "\"material\":\"ca\"", "trusted.pem"]);
    let page = http_get(secure.server.client_address(), "/metrics").unwrap().body;
    for (result, count) in [("success", 1), ("failure", 1)] {
        let line = format!("taffrail_tls_reloads_total{{material=\"ca\",result=\"{result}\"}} {count}\n");
        assert!(page.contains(&line), "{page}");
    }
    fs::write(&list, old.pem() + &new.pem()).unwrap();
    assert_eq!(admitted().await, (true, true));
}

/// The server's key as etcd itself makes them, and an authority's too.
#[test]
fn keys_and_authorities_on_p_521() {
    let name = "keys_and_authorities_on_p_521";
    let (Some(openssl), Some(etcdctl)) = (needs(name, "openssl"), needs(name, "etcdctl")) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let made = Command::new("sh")
        .current_dir(dir.path())
        .env("OPENSSL", &openssl)
        .args(["-ec", P521_CERTIFICATES])
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let file = |name: &str| dir.path().join(name);
    let secure = Secure::start_with(&[
        flag("cert-file", &file("pair.pem")),
        flag("key-file", &file("pair.key")),
        flag("trusted-ca-file", &file("ca.pem")),
        "--client-cert-auth".to_owned(),
    ]);
    let run = |files: &[String]| {
        let output = Command::new(&etcdctl)
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &format!("https://{}", secure.address())])
            .arg(flag("cacert", &file("ca.pem")))
            .args(files)
            .args(["put", "k", "v"])
            .output()
            .unwrap();
        output.status.success()
    };
    let own = [flag("cert", &file("pair.pem")), flag("key", &file("pair.key"))];
    assert!(run(&own), "{}", secure.server.log());
    assert!(!run(&[]));
}

/// An authority that signs with SHA-512 and a pair of its own, both on P-521.
const P521_CERTIFICATES: &str = r#"
"$OPENSSL" ecparam -name secp521r1 -genkey -noout -out ca.key
"$OPENSSL" req -x509 -new -sha512 -key ca.key -subj /CN=ca -days 3650 -out ca.pem
"$OPENSSL" ecparam -name secp521r1 -genkey -noout -out pair.key
"$OPENSSL" req -new -sha512 -key pair.key -subj /CN=pair -out pair.csr
echo "subjectAltName=IP:127.0.0.1
extendedKeyUsage=serverAuth,clientAuth" >extensions
"$OPENSSL" x509 -req -sha512 -in pair.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 3650 \
  -extfile extensions -out pair.pem
"#;

#[tokio::test]
async fn tls_and_plaintext_share_a_port() {
    let authority = Authority::new();
    let pair = authority.issue("server", 1, &["localhost"]);
    let mut server = Server::prepared(&[]);
    let address = server.client_address();
    server.add_flag(&format!(
        "--listen-client-urls=http://{address},https://{address}"
    ));
    server.add_flag(&flag("cert-file", &pair.cert_file));
    server.add_flag(&flag("key-file", &pair.key_file));
    server.run();
    server.client().await.put("both", "1").await;
    let answer = Hello::default().get(address, "/version").await.unwrap();
    assert!(answer.contains("etcdserver"), "{answer}");
    let connect = move || async move { Hello::offering(&["h2"]).connect(address).await };
    let client = Client::through(connect).await.unwrap();
    assert_eq!(pairs(&client.range(get("both")).await.kvs), ["both=1"]);
    let log = server.log();
    assert!(log.contains("serving client traffic insecurely; this is strongly discouraged!"));
    assert!(log.contains("serving client traffic securely"));
}

#[tokio::test]
async fn what_speaks_the_other_way_is_closed() {
    let authority = Authority::new();
    let secure = Secure::start(&authority.issue("server", 1, &["localhost"]), &[]);
    let mut plain = TcpStream::connect(secure.address()).unwrap();
    plain.set_read_timeout(Some(PATIENCE)).unwrap();
    plain
        .write_all(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    // An alert at most.
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    secure.wait_for_line(&[
        "rejected connection on client endpoint",
        &format!("\"remote-addr\":\"{}\"", plain.local_addr().unwrap()),
        "tls: first record does not look like a TLS handshake",
    ]);

    let refused = Hello::default().connect(secure.server.client_address()).await;
    let error = refused.unwrap_err();
    let closed = [ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset];
    assert!(closed.contains(&error.kind()), "{error}");
    if runs_taffrail() {
        secure.wait_for_line(&["rejected connection on client endpoint", "plaintext"]);
    }
}

#[tokio::test]
async fn versions_and_suites_are_limited() {
    let authority = Authority::new();
    let pair = authority.issue("server", 1, &["localhost"]);
    let (v12, v13) = (
        Hello::in_version(&rustls::version::TLS12),
        Hello::in_version(&rustls::version::TLS13),
    );
    for (flags, with_12, with_13) in [
        (&[][..], true, true),
        (&["--tls-min-version=TLS1.3"], false, true),
        (&["--tls-max-version=TLS1.2"], true, false),
        // The certificate is for another kind of key: nothing is left of TLS 1.2.
        (
            &["--cipher-suites=TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"],
            false,
            true,
        ),
        (
            &["--cipher-suites=TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,TLS_RSA_WITH_AES_128_CBC_SHA"],
            true,
            true,
        ),
    ] {
        let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let secure = Secure::start(&pair, &flags);
        assert_eq!(secure.admits(&v12).await, with_12, "{flags:?}");
        assert_eq!(secure.admits(&v13).await, with_13, "{flags:?}");
    }
}

#[tokio::test]
async fn a_certificate_of_its_own_is_made_once() {
    if !runs_taffrail() {
        // etcd's is on the curve P-521, which this test's client does not know.
        return;
    }
    let mut secure = Secure::start_with(&["--auto-tls".to_owned()]);
    let address = secure.address();
    let served = async || {
        let stream = Hello::default().connect(address).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0]
            .clone()
            .into_owned()
    };
    let first = served().await;
    let directory = secure.server.data_dir().join("fixtures/client");
    let key = fs::metadata(directory.join("key.pem")).unwrap();
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&key.permissions()) & 0o777,
        0o600
    );
    assert!(directory.join("cert.pem").exists());
    secure.server.terminate();
    secure.server.run();
    assert_eq!(served().await, first);
}

#[tokio::test]
async fn metrics_are_served_with_tls() {
    let authority = Authority::new();
    let pair = authority.issue("server", 1, &["localhost"]);
    let ports = Ports::reserve();
    let metrics = SocketAddr::from(([127, 0, 0, 1], ports.peer));
    let secure = Secure::start(&pair, &[format!("--listen-metrics-urls=https://{metrics}")]);
    let answer = Hello::default().get(metrics, "/metrics").await.unwrap();
    assert!(answer.contains("etcd_server_has_leader 1"), "{answer}");
    assert!(http_get(metrics, "/metrics").is_none());
    drop(secure);
}

#[test]
fn bad_material_stops_the_start() {
    let authority = Authority::new();
    let (one, other) = (
        authority.issue("one", 1, &["a"]),
        authority.issue("other", 2, &["b"]),
    );
    let empty = authority.file("empty.pem");
    fs::write(&empty, "nothing\n").unwrap();
    let absent = authority.file("absent.pem");
    for (cert, key, suites, text) in [
        (&absent, &one.key_file, "", "no such file or directory"),
        (
            &empty,
            &one.key_file,
            "",
            "tls: failed to find any PEM data in certificate input",
        ),
        (
            &one.cert_file,
            &empty,
            "",
            "tls: failed to find any PEM data in key input",
        ),
        (
            &one.cert_file,
            &other.key_file,
            "",
            "tls: private key does not match public key",
        ),
        (
            &one.cert_file,
            &one.key_file,
            "TLS_NONE",
            "unexpected TLS cipher suite \\\"TLS_NONE\\\"",
        ),
    ] {
        let mut server = Server::prepared(&[]);
        let ports = Ports::reserve();
        server.add_flag(&format!(
            "--listen-client-urls=https://127.0.0.1:{}",
            ports.client
        ));
        server.add_flag(&flag("cert-file", cert));
        server.add_flag(&flag("key-file", key));
        if !suites.is_empty() {
            server.add_flag(&format!("--cipher-suites={suites}"));
        }
        server.spawn();
        let status = server.wait_for_exit();
        assert_eq!(status.code(), Some(1), "{text}");
        assert!(server.log().contains(text), "{text}: {}", server.log());
    }
    let mut server = Server::prepared(&[]);
    let ports = Ports::reserve();
    server.add_flag(&format!(
        "--listen-client-urls=https://127.0.0.1:{}",
        ports.client
    ));
    server.add_flag(&flag("cert-file", &one.cert_file));
    server.spawn();
    assert_eq!(server.wait_for_exit().code(), Some(1));
    let text = format!(
        "KeyFile and CertFile must both be present[key: , cert: {}]",
        one.cert_file.display()
    );
    assert!(server.log().contains(&text), "{}", server.log());
}

#[test]
fn etcdctl_speaks_tls() {
    let Some(etcdctl) = needs("etcdctl_speaks_tls", "etcdctl") else {
        return;
    };
    let authority = Authority::new();
    let pair = authority.issue("server", 1, &["127.0.0.1"]);
    let client = authority.issue("client", 2, &["client"]);
    let flags = [
        flag("trusted-ca-file", &authority.ca_file()),
        "--client-cert-auth".to_owned(),
    ];
    let secure = Secure::start(&pair, &flags);
    let run = |arguments: &[&str]| {
        let output = Command::new(&etcdctl)
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &format!("https://{}", secure.address())])
            .arg(flag("cacert", &authority.ca_file()))
            .args([flag("cert", &client.cert_file), flag("key", &client.key_file)])
            .args(arguments)
            .output()
            .unwrap();
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
        )
    };
    assert_eq!(run(&["put", "k", "v"]), (true, "OK\n".to_owned()));
    assert_eq!(run(&["get", "k"]), (true, "k\nv\n".to_owned()));
    let (healthy, text) = run(&["endpoint", "status"]);
    assert!(healthy && text.contains("3.7."), "{text}");
}

//! Both sides of TLS in one process, while the files that they go by change.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, HandshakeKind, SupportedProtocolVersion};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsConnector;

use super::*;

/// The files of one member, replaced as an operator would: by a rename.
struct Files(TempDir);

type Authority = CertifiedIssuer<'static, KeyPair>;

impl Files {
    fn new() -> Files {
        Files(tempfile::tempdir().expect("a directory"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn put(&self, name: &str, text: &str) {
        fs::write(self.path("next"), text).expect("writable");
        fs::rename(self.path("next"), self.path(name)).expect("renamed");
    }

    fn put_certificate(&self, signer: &Authority, names: &[&str]) {
        let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).expect("an address");
        params.distinguished_name = rcgen::DistinguishedName::new();
        for name in names {
            params.distinguished_name.push(DnType::CommonName, *name);
        }
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, signer).expect("a certificate");
        self.put("cert.pem", &certificate.pem());
        self.put("key.pem", &key.serialize_pem());
    }

    /// One file as authority and certificate, as `openssl req -x509` makes it.
    fn put_own_authority(&self, hosts: &[&str], usage: &[ExtendedKeyUsagePurpose], year: i32) {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut params = CertificateParams::new(hosts).expect("addresses");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.extended_key_usages = usage.to_vec();
        params.not_before = rcgen::date_time_ymd(year, 1, 1);
        params.not_after = rcgen::date_time_ymd(year + 50, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        self.put("cert.pem", &certificate.pem());
        self.put("ca.pem", &certificate.pem());
        self.put("key.pem", &key.serialize_pem());
    }

    fn settings(&self) -> TlsSettings {
        TlsSettings {
            cert_file: Some(self.path("cert.pem")),
            key_file: Some(self.path("key.pem")),
            trusted_ca_file: Some(self.path("ca.pem")),
            client_cert_auth: true,
            skip_address_check: true,
            ..TlsSettings::default()
        }
    }
}

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().expect("a key");
    CertifiedIssuer::self_signed(params, key).expect("a certificate")
}

/// Whether both sides are content: each hears the other over a fresh connection.
async fn meet(server: &ServerTls, connector: &Connector) -> Result<(), String> {
    let [served, dialed] = connection_of(server, connector).await;
    served.and(dialed)
}

/// What the listening side and the dialling one say of a fresh connection.
async fn connection_of(server: &ServerTls, connector: &Connector) -> [Result<(), String>; 2] {
    let (near, far) = tokio::io::duplex(64 << 10);
    let serve = async {
        let mut stream = server
            .accept_member(far, None)
            .await
            .map_err(|error| error.to_string())?;
        stream.write_all(b"x").await.map_err(|error| error.to_string())?;
        stream.shutdown().await.map_err(|error| error.to_string())
    };
    let dial = async {
        let stream = connector.connect("127.0.0.1", near).await;
        let mut stream = stream.map_err(|error| error.to_string())?;
        let heard = stream.read_u8().await.map_err(|error| error.to_string())?;
        assert_eq!(heard, b'x');
        Ok::<(), String>(())
    };
    let (served, dialed) = tokio::join!(serve, dial);
    [served, dialed]
}

#[tokio::test]
async fn authorities_are_replaced_on_both_sides_without_a_gap() {
    let (old, new) = (authority("old"), authority("new"));
    let (a, b) = (Files::new(), Files::new());
    for files in [&a, &b] {
        files.put("ca.pem", &old.pem());
        files.put_certificate(&old, &["member"]);
    }
    let server = ServerTls::new(&a.settings()).expect("good files");
    let connector = Connector::new(&b.settings(), false).expect("good files");
    meet(&server, &connector).await.expect("the old authority");
    let both = old.pem() + &new.pem();
    a.put("ca.pem", &both);
    meet(&server, &connector).await.expect("one knows both");
    b.put("ca.pem", &both);
    meet(&server, &connector).await.expect("both know both");
    a.put_certificate(&new, &["member"]);
    meet(&server, &connector)
        .await
        .expect("one has a new certificate");
    b.put_certificate(&new, &["member"]);
    meet(&server, &connector).await.expect("both have");
    a.put("ca.pem", &new.pem());
    meet(&server, &connector).await.expect("one forgot the old one");
    b.put("ca.pem", &new.pem());
    meet(&server, &connector).await.expect("both forgot it");

    // Each of these changes was seen: certificates of the old authority are refused by either side.
    b.put_certificate(&old, &["member"]);
    let refused = meet(&server, &connector).await.expect_err("an old certificate");
    assert!(refused.contains("unknown authority"), "{refused}");
    b.put_certificate(&new, &["member"]);
    meet(&server, &connector).await.expect("a new one again");
    a.put_certificate(&old, &["member"]);
    meet(&server, &connector)
        .await
        .expect_err("an old certificate of the server");
}

#[tokio::test]
async fn broken_authorities_leave_the_last_in_use() {
    let (old, new) = (authority("old"), authority("new"));
    let (a, b) = (Files::new(), Files::new());
    for files in [&a, &b] {
        files.put("ca.pem", &old.pem());
        files.put_certificate(&old, &["member"]);
    }
    let server = ServerTls::new(&a.settings()).expect("good files");
    let connector = Connector::new(&b.settings(), false).expect("good files");
    let broken = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
    let half = new.pem().replace("-----END", "");
    for text in ["", "no certificate", broken, &half] {
        a.put("ca.pem", text);
        b.put("ca.pem", text);
        meet(&server, &connector).await.expect("the last good");
    }
    for files in [&a, &b] {
        fs::remove_file(files.path("ca.pem")).expect("there");
    }
    meet(&server, &connector).await.expect("the last good");
    a.put("ca.pem", &new.pem());
    meet(&server, &connector).await.expect_err("another authority");
}

/// More than may shake hands at once have come and say nothing: whoever speaks is let in all the same.
#[tokio::test]
async fn silent_strangers_keep_nobody_out() {
    let root = authority("root");
    let files = Files::new();
    files.put("ca.pem", &root.pem());
    files.put_certificate(&root, &["member"]);
    let server = Arc::new(ServerTls::new(&files.settings()).expect("good files"));
    let connector = Connector::new(&files.settings(), false).expect("good files");
    let mut strangers = Vec::new();
    let mut handshakes = tokio::task::JoinSet::new();
    for _ in 0..HANDSHAKES_MAX + 10 {
        let (near, far) = tokio::io::duplex(64);
        strangers.push(near);
        let server = server.clone();
        handshakes.spawn(async move { server.accept_member(far, None).await.map(|_| ()) });
    }
    // Those who came first are gone, for the last ten.
    for _ in 0..10 {
        let ended = handshakes.join_next().await.expect("many").expect("no panic");
        let error = ended.expect_err("it said nothing").to_string();
        assert!(error.contains("too many handshakes"), "{error}");
    }
    let start = std::time::Instant::now();
    meet(&server, &connector).await.expect("let in");
    assert!(start.elapsed() < HANDSHAKE_MAX / 2, "{:?}", start.elapsed());
}

/// What a client keeps of a session gets it past no verification.
#[tokio::test]
async fn no_session_goes_on_where_clients_are_verified() {
    let root = authority("root");
    let files = Files::new();
    files.put("ca.pem", &root.pem());
    files.put_certificate(&root, &["client"]);
    for (verified, version) in [
        (true, &rustls::version::TLS12),
        (true, &rustls::version::TLS13),
        (false, &rustls::version::TLS12),
        (false, &rustls::version::TLS13),
    ] {
        let mut settings = files.settings();
        if !verified {
            (settings.client_cert_auth, settings.trusted_ca_file) = (false, None);
        }
        let server = ServerTls::new(&settings).expect("good files");
        let client = eager_client(&files, version);
        let mut kinds = Vec::new();
        for _ in 0..2 {
            kinds.push(shake(&server, &client).await);
        }
        let expected = match verified {
            true => HandshakeKind::Full,
            // The client is one that would take up a session.
            false => HandshakeKind::Resumed,
        };
        assert_eq!(
            kinds,
            [HandshakeKind::Full, expected],
            "{version:?}, verified: {verified}"
        );
    }
}

/// A client that takes up sessions where it can.
fn eager_client(files: &Files, version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let authorities = files::read(&files.path("ca.pem"));
    let roots = authorities::read(Path::new("ca.pem"), authorities, true)
        .expect("good files")
        .roots;
    let own = Certificate::read(&files.path("cert.pem"), &files.path("key.pem"), provider.clone());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .expect("a version")
        .with_root_certificates(roots)
        .with_client_cert_resolver(Arc::new(own.expect("good files")));
    Arc::new(config)
}

async fn shake(server: &ServerTls, client: &Arc<ClientConfig>) -> HandshakeKind {
    let (near, far) = tokio::io::duplex(64 << 10);
    let serve = async {
        let mut stream = server.accept(far).await.expect("a good client");
        stream.write_all(b"x").await.expect("open");
        stream.shutdown().await.expect("open");
    };
    let dial = async {
        let name = ServerName::try_from("127.0.0.1").expect("a name");
        let connector = TlsConnector::from(client.clone());
        let mut stream = connector.connect(name, near).await.expect("a good server");
        // With it come the tickets.
        assert_eq!(stream.read_u8().await.expect("open"), b'x');
        stream.get_ref().1.handshake_kind().expect("done")
    };
    tokio::join!(serve, dial).1
}

/// As in Go: what is trusted itself is taken, unless it is out of date, for something else, or of another server.
#[tokio::test]
async fn a_certificate_that_is_its_own_authority_is_taken() {
    use ExtendedKeyUsagePurpose::{ClientAuth, CodeSigning, ServerAuth};
    let here = &["127.0.0.1"][..];
    for (hosts, usage, year, refusal) in [
        (here, &[][..], 2000, None),
        (here, &[ServerAuth, ClientAuth], 2000, None),
        (here, &[ServerAuth], 2000, Some("InvalidPurpose")),
        (here, &[ClientAuth], 2000, Some("InvalidPurpose")),
        (here, &[CodeSigning], 2000, Some("InvalidPurpose")),
        (&["127.0.0.2"], &[], 2000, Some("NotValidForName")),
        (here, &[], 1960, Some("has expired")),
        (here, &[], 2200, Some("NotValidYet")),
    ] {
        let files = Files::new();
        files.put_own_authority(hosts, usage, year);
        let server = ServerTls::new(&files.settings()).expect("good files");
        let connector = Connector::new(&files.settings(), false).expect("good files");
        let told = connection_of(&server, &connector).await;
        match refusal {
            None => assert_eq!(told, [Ok(()), Ok(())], "{usage:?}"),
            Some(text) => assert!(
                told.iter()
                    .any(|side| side.as_ref().is_err_and(|told| told.contains(text))),
                "{text}: {told:?}"
            ),
        }
    }
    // Another one that it has signed is judged as always, and so is one that only looks the same.
    let (files, other) = (Files::new(), Files::new());
    files.put_own_authority(here, &[], 2000);
    other.put_own_authority(here, &[], 2000);
    let server = ServerTls::new(&files.settings()).expect("good files");
    let connector = Connector::new(&other.settings(), false).expect("good files");
    let told = connection_of(&server, &connector).await;
    assert!(told[1].is_err(), "{told:?}");
}

/// The user is whom the certificate names, where such names count at all.
#[tokio::test]
async fn certificates_name_users() {
    let root = authority("root");
    let files = Files::new();
    files.put("ca.pem", &root.pem());
    files.put_certificate(&root, &["server"]);
    let verifying = ServerTls::new(&files.settings()).expect("good files");
    let mut settings = files.settings();
    settings.client_cert_auth = false;
    let by_authority_alone = ServerTls::new(&settings).expect("good files");
    for (names, user) in [
        (&["alice"][..], Some("alice")),
        // As in Go.
        (&["alice", "bob"], Some("bob")),
        (&[], None),
    ] {
        files.put_certificate(&root, names);
        let client = eager_client(&files, &rustls::version::TLS13);
        assert_eq!(user_of(&verifying, &client).await.as_deref(), user);
        assert_eq!(user_of(&by_authority_alone, &client).await, None);
    }
}

async fn user_of(server: &ServerTls, client: &Arc<ClientConfig>) -> Option<Arc<str>> {
    let (near, far) = tokio::io::duplex(64 << 10);
    let name = ServerName::try_from("127.0.0.1").expect("a name");
    let connector = TlsConnector::from(client.clone());
    let (served, dialed) = tokio::join!(server.accept(far), connector.connect(name, near));
    dialed.expect("a good server");
    let served = served.expect("a good client");
    server.user_of(served.get_ref().1)
}

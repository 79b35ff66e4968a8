//! Handshakes over a pipe, with certificates made here.

use std::fs;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType, IsCa,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

use super::*;

/// A folder with an authority, and certificates of it.
struct Pki {
    dir: tempfile::TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Pki {
    fn new() -> Pki {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, "authority");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("ca.crt"), issuer.pem()).unwrap();
        Pki { dir, issuer }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Makes `name`.crt and `name`.key, good for `hosts`.
    fn issue(&self, name: &str, common_name: &str, hosts: &[&str], serial: u64) {
        let hosts: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
        let mut params = CertificateParams::new(hosts).unwrap();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.serial_number = Some(SerialNumber::from(serial));
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        fs::write(self.path(&format!("{name}.crt")), certificate.pem()).unwrap();
        fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }

    fn revoke(&self, serial: u64) {
        let now = std::time::SystemTime::now();
        let list = CertificateRevocationListParams {
            this_update: now.into(),
            next_update: (now + Duration::from_secs(3600)).into(),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![RevokedCertParams {
                serial_number: SerialNumber::from(serial),
                revocation_time: now.into(),
                reason_code: None,
                invalidity_date: None,
            }],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&self.issuer).unwrap();
        fs::write(self.path("revoked.crl"), list.der()).unwrap();
    }

    fn settings(&self, name: &str) -> TlsSettings {
        TlsSettings {
            cert_file: Some(self.path(&format!("{name}.crt"))),
            key_file: Some(self.path(&format!("{name}.key"))),
            ..TlsSettings::default()
        }
    }

    fn verifying(&self, name: &str) -> TlsSettings {
        TlsSettings {
            trusted_ca_file: Some(self.path("ca.crt")),
            client_cert_auth: true,
            ..self.settings(name)
        }
    }

    fn acceptor(&self, settings: &TlsSettings, side: Side) -> Acceptor {
        Acceptor::new(settings, &[], self.dir.path(), side).unwrap()
    }

    /// A client that trusts the authority, shows `own` if any, and offers `protocols`.
    fn client(&self, own: Option<&str>, protocols: &[&str]) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match own {
            None => builder.with_no_client_auth(),
            Some(name) => builder
                .with_client_auth_cert(
                    vec![CertificateDer::from_pem_file(self.path(&format!("{name}.crt"))).unwrap()],
                    rustls::pki_types::PrivateKeyDer::from_pem_file(self.path(&format!("{name}.key")))
                        .unwrap(),
                )
                .unwrap(),
        };
        config.alpn_protocols = protocols
            .iter()
            .map(|protocol| protocol.as_bytes().to_vec())
            .collect();
        TlsConnector::from(Arc::new(config))
    }
}

/// Both ends shake hands and a byte goes each way; what the server says of it, and the protocol that was agreed.
async fn shake(acceptor: &Acceptor, client: &TlsConnector) -> Result<Option<Vec<u8>>, HandshakeError> {
    shake_from(acceptor, client, None).await
}

async fn shake_from(
    acceptor: &Acceptor,
    client: &TlsConnector,
    address: Option<IpAddr>,
) -> Result<Option<Vec<u8>>, HandshakeError> {
    let (near, far) = duplex(1 << 16);
    let dialed = async {
        let name = ServerName::try_from("member.example").unwrap();
        let mut stream = client.connect(name, near).await?;
        stream.write_u8(1).await?;
        stream.read_u8().await
    };
    let accepted = async {
        let mut stream: server::TlsStream<DuplexStream> = acceptor.accept_from(far, address).await?;
        stream.read_u8().await?;
        stream.write_u8(2).await?;
        let protocol = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
        stream.shutdown().await?;
        Ok(protocol)
    };
    tokio::join!(accepted, dialed).0
}

#[tokio::test]
async fn http2_is_offered_to_those_who_know_it() {
    let pki = Pki::new();
    pki.issue("server", "server", &["member.example"], 1);
    let acceptor = pki.acceptor(&pki.settings("server"), Side::Client);
    for (offered, agreed) in [
        (&["h2"][..], Some("h2")),
        (&["h2", "http/1.1"], Some("h2")),
        (&["http/1.1"], None),
        (&["http/1.1", "x"], None),
        (&[], None),
    ] {
        let found = shake(&acceptor, &pki.client(None, offered)).await.unwrap();
        assert_eq!(found.as_deref(), agreed.map(str::as_bytes), "{offered:?}");
    }
    shake(&acceptor, &pki.client(None, &["x"])).await.unwrap_err();
    let peers = pki.acceptor(&pki.settings("server"), Side::Peer);
    assert_eq!(shake(&peers, &pki.client(None, &[])).await.unwrap(), None);
}

#[tokio::test]
async fn strangers_are_kept_out() {
    let (pki, other) = (Pki::new(), Pki::new());
    pki.issue("server", "server", &["member.example"], 1);
    pki.issue("friend", "friend", &["127.0.0.1", "*.friends.example"], 2);
    pki.issue("lost", "lost", &[], 3);
    other.issue("stranger", "stranger", &[], 4);
    fs::copy(other.path("stranger.crt"), pki.path("stranger.crt")).unwrap();
    fs::copy(other.path("stranger.key"), pki.path("stranger.key")).unwrap();
    pki.revoke(3);
    let settings = TlsSettings {
        crl_file: Some(pki.path("revoked.crl")),
        ..pki.verifying("server")
    };
    let acceptor = pki.acceptor(&settings, Side::Client);
    shake(&acceptor, &pki.client(Some("friend"), &["h2"]))
        .await
        .unwrap();
    shake(&acceptor, &pki.client(None, &["h2"])).await.unwrap_err();
    shake(&acceptor, &pki.client(Some("stranger"), &["h2"]))
        .await
        .unwrap_err();
    let error = shake(&acceptor, &pki.client(Some("lost"), &["h2"]))
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "transport: certificate serial 03 revoked");

    for (names, hosts, good) in [
        (&["friend"][..], &[][..], true),
        (&["other", "friend"], &[], true),
        (&["other"], &[], false),
        (&[], &["127.0.0.1"], true),
        (&[], &["a.friends.example"], true),
        (&[], &["a.b.friends.example"], false),
        (&[], &["127.0.0.2"], false),
    ] {
        let texts = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect();
        let settings = TlsSettings {
            allowed_names: texts(names),
            allowed_hostnames: texts(hosts),
            ..pki.verifying("server")
        };
        let found = shake(
            &pki.acceptor(&settings, Side::Client),
            &pki.client(Some("friend"), &[]),
        )
        .await;
        assert_eq!(found.is_ok(), good, "{names:?} {hosts:?}: {found:?}");
    }
}

/// etcd holds peers, and them only, to the addresses in their certificates.
#[tokio::test]
async fn a_peers_certificate_must_be_good_for_its_address() {
    let pki = Pki::new();
    pki.issue("server", "server", &["member.example"], 1);
    pki.issue("friend", "friend", &["127.0.0.1", "localhost"], 2);
    pki.issue("nameless", "nameless", &[], 3);
    let good: IpAddr = "127.0.0.1".parse().unwrap();
    let bad: IpAddr = "127.9.9.9".parse().unwrap();
    for (skip, side, own, address, welcome) in [
        (false, Side::Peer, "friend", good, true),
        (false, Side::Peer, "friend", bad, false),
        (true, Side::Peer, "friend", bad, true),
        (false, Side::Client, "friend", bad, true),
        (false, Side::Peer, "nameless", bad, true),
    ] {
        let settings = TlsSettings {
            skip_address_check: skip,
            ..pki.verifying("server")
        };
        let acceptor = pki.acceptor(&settings, side);
        let found = shake_from(&acceptor, &pki.client(Some(own), &[]), Some(address)).await;
        assert_eq!(found.is_ok(), welcome, "{own} from {address}: {found:?}");
    }
}

#[tokio::test]
async fn changed_files_are_read_again_and_bad_ones_are_not() {
    let pki = Pki::new();
    pki.issue("server", "server", &["elsewhere.example"], 1);
    let acceptor = pki.acceptor(&pki.settings("server"), Side::Client);
    let client = pki.client(None, &[]);
    shake(&acceptor, &client).await.unwrap_err();
    // Longer than the one before, so that the change shows however coarse the file system's clock is.
    pki.issue("server", "server", &["member.example", "another.name.example"], 2);
    shake(&acceptor, &client).await.unwrap();
    fs::write(pki.path("server.crt"), "no certificate").unwrap();
    shake(&acceptor, &client).await.unwrap();
    fs::remove_file(pki.path("server.key")).unwrap();
    shake(&acceptor, &client).await.unwrap();
}

#[tokio::test]
async fn members_with_certificates_of_their_own_make_speak_to_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let settings = TlsSettings {
        auto: true,
        self_signed_years: 1,
        ..TlsSettings::default()
    };
    let hosts = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let acceptor = Acceptor::new(&settings, &hosts, &dir.path().join("a"), Side::Peer).unwrap();
    let connector = Connector::new(&settings, &hosts, &dir.path().join("b")).unwrap();
    let (near, far) = duplex(1 << 16);
    let (accepted, dialed) = tokio::join!(acceptor.accept(far), connector.connect("127.0.0.1", near));
    accepted.unwrap();
    dialed.unwrap();
    // The next start finds what this one made.
    let made = fs::read(dir.path().join("a/fixtures/peer/cert.pem")).unwrap();
    Acceptor::new(&settings, &hosts, &dir.path().join("a"), Side::Peer).unwrap();
    assert_eq!(
        fs::read(dir.path().join("a/fixtures/peer/cert.pem")).unwrap(),
        made
    );
}

#[tokio::test]
async fn members_with_an_authority_speak_to_each_other_and_to_nobody_else() {
    let pki = Pki::new();
    pki.issue("one", "one", &["127.0.0.1"], 1);
    pki.issue("two", "two", &["localhost"], 2);
    let acceptor = pki.acceptor(&pki.verifying("one"), Side::Peer);
    let connector = Connector::new(&pki.verifying("two"), &[], pki.dir.path()).unwrap();
    for (host, good) in [("127.0.0.1", true), ("127.0.0.2", false)] {
        let (near, far) = duplex(1 << 16);
        let (accepted, dialed) = tokio::join!(acceptor.accept(far), connector.connect(host, near));
        assert_eq!((accepted.is_ok(), dialed.is_ok()), (good, good), "{host}");
    }
    assert!(matches!(
        Connector::new(&pki.settings("two"), &[], pki.dir.path()),
        Err(TlsError::NoAuthority)
    ));
}

#[test]
fn what_cannot_be_used_is_refused_at_the_start() {
    let pki = Pki::new();
    pki.issue("server", "server", &[], 1);
    let refused = |settings: &TlsSettings| {
        let refused = Acceptor::new(settings, &[], pki.dir.path(), Side::Client);
        refused.err().expect("it must be refused").to_string()
    };
    let half = TlsSettings {
        key_file: None,
        ..pki.settings("server")
    };
    assert!(refused(&half).starts_with("KeyFile and CertFile must both be present[key: , cert: /"));
    let missing = TlsSettings {
        cert_file: Some(pki.path("nowhere")),
        ..pki.settings("server")
    };
    assert_eq!(
        refused(&missing),
        format!("cannot read {}", pki.path("nowhere").display())
    );
    let not_a_key = TlsSettings {
        key_file: Some(pki.path("ca.crt")),
        ..pki.settings("server")
    };
    assert!(refused(&not_a_key).contains("ca.crt"));
    pki.issue("another", "another", &[], 2);
    let mismatch = TlsSettings {
        key_file: Some(pki.path("another.key")),
        ..pki.settings("server")
    };
    refused(&mismatch);
    let nobody = TlsSettings {
        client_cert_auth: true,
        ..pki.settings("server")
    };
    assert_eq!(refused(&nobody), TlsError::NoAuthority.to_string());
}

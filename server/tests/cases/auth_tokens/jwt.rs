//! JSON Web Tokens of each family: made, taken, refused, and taken by a server that has the public key only.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tonic::Code;

use crate::harness::*;

/// Keys in files.
struct Keys {
    _dir: TempDir,
    private: PathBuf,
    /// None where the secret is shared.
    public: Option<PathBuf>,
}

impl Keys {
    /// What `openssl genpkey` makes of these arguments.
    fn by_openssl(openssl: &Path, args: &[&str]) -> Keys {
        let dir = tempfile::tempdir().unwrap();
        let (private, public) = (dir.path().join("private.pem"), dir.path().join("public.pem"));
        let run = |command: &mut Command| {
            let output = command.output().unwrap();
            assert!(
                output.status.success(),
                "{}",
                String::from_utf8_lossy(&output.stderr)
            );
        };
        run(Command::new(openssl)
            .arg("genpkey")
            .args(args)
            .arg("-out")
            .arg(&private));
        run(Command::new(openssl)
            .args(["pkey", "-pubout", "-in"])
            .arg(&private)
            .arg("-out")
            .arg(&public));
        Keys {
            _dir: dir,
            private,
            public: Some(public),
        }
    }

    fn shared_secret() -> Keys {
        let dir = tempfile::tempdir().unwrap();
        let private = dir.path().join("secret");
        fs::write(&private, "a secret that all members of the cluster know").unwrap();
        Keys {
            _dir: dir,
            private,
            public: None,
        }
    }

    /// Both keys where there are two.
    fn flag(&self, method: &str) -> String {
        let public = self
            .public
            .as_ref()
            .map(|path| format!(",pub-key={}", path.display()));
        format!(
            "--auth-token=jwt,sign-method={method}{},priv-key={},ttl=10m",
            public.unwrap_or_default(),
            self.private.display()
        )
    }
}

#[tokio::test]
async fn shared_secrets() {
    let keys = Keys::shared_secret();
    for method in ["HS256", "HS384", "HS512"] {
        life_of(method, &keys).await;
    }
}

#[tokio::test]
async fn rsa() {
    let Some(openssl) = needs("cases_auth_tokens::jwt::rsa", "openssl") else {
        return;
    };
    let keys = Keys::by_openssl(
        &openssl,
        &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
    );
    for method in ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"] {
        life_of(method, &keys).await;
    }
}

#[tokio::test]
async fn elliptic_curves() {
    let Some(openssl) = needs("cases_auth_tokens::jwt::elliptic_curves", "openssl") else {
        return;
    };
    for (method, curve) in [("ES256", "P-256"), ("ES384", "P-384"), ("ES512", "P-521")] {
        let curve = format!("ec_paramgen_curve:{curve}");
        let keys = Keys::by_openssl(&openssl, &["-algorithm", "EC", "-pkeyopt", &curve]);
        life_of(method, &keys).await;
    }
}

#[tokio::test]
async fn edwards_curve() {
    let Some(openssl) = needs("cases_auth_tokens::jwt::edwards_curve", "openssl") else {
        return;
    };
    let keys = Keys::by_openssl(&openssl, &["-algorithm", "ED25519"]);
    life_of("EdDSA", &keys).await;
}

/// A server makes tokens by this method and takes them, even after a restart, and takes no other.
async fn life_of(method: &str, keys: &Keys) {
    let (mut server, root) = Server::start_with_auth(&[&keys.flag(method)]).await;
    root.put("k", "1").await;
    let token = root.login("root").await;
    let (header, claims) = read(&token);
    assert_eq!(
        (&header["alg"], &header["typ"]),
        (&method.into(), &"JWT".into()),
        "{header}"
    );
    assert_eq!(
        (&claims["username"], &claims["revision"]),
        (&"root".into(), &3.into()),
        "{claims}"
    );
    let now = std::time::SystemTime::now();
    let now = now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let life = claims["exp"].as_u64().unwrap().saturating_sub(now);
    assert!((590..=600).contains(&life), "{life}");
    for forged in forgeries(&token, keys) {
        assert_bad_token(root.with_token(&forged).try_range(get("k")).await);
    }
    server.kill();
    server.run();
    let client = server.client().await;
    client.with_token(&token).range(get("k")).await;
    drop(server);

    // With the public key alone a server takes tokens and makes none.
    let Some(public) = &keys.public else {
        return;
    };
    let flag = format!(
        "--auth-token=jwt,sign-method={method},pub-key={}",
        public.display()
    );
    let server = Server::start_with(&[CHEAP_HASHES, &flag]);
    let client = server.client().await;
    client.add_root().await;
    client.try_enable_auth().await.unwrap();
    client.with_token(&token).put("k", "2").await;
    let refused = client.try_login("root", &password_of("root")).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (
            Code::Unknown,
            "auth: token signing attempted with verify-only key"
        ),
        "{method}"
    );
    for forged in forgeries(&token, keys) {
        assert_bad_token(client.with_token(&forged).try_range(get("k")).await);
    }
}

/// Tokens that are not what a server has signed.
fn forgeries(token: &str, keys: &Keys) -> Vec<String> {
    let parts: Vec<&str> = token.split('.').collect();
    let [header, claims, signature] = parts[..] else {
        panic!("not three parts: {token}");
    };
    let (_, mut changed) = read(token);
    changed["exp"] = 9_999_999_999_u64.into();
    let changed = URL_SAFE_NO_PAD.encode(changed.to_string());
    let unsigned = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#);
    let mut broken = URL_SAFE_NO_PAD.decode(signature).unwrap();
    broken[3] ^= 1;
    let broken = URL_SAFE_NO_PAD.encode(broken);
    let mut forged = vec![
        format!("{header}.{changed}.{signature}"),
        format!("{header}.{claims}.{broken}"),
        format!("{header}.{claims}."),
        format!("{header}.{claims}"),
        format!("{unsigned}.{claims}."),
        format!("{unsigned}.{claims}.{signature}"),
        format!("{header}.{claims}.{signature}.{signature}"),
    ];
    if let Some(public) = &keys.public {
        // The public key, which is no secret, taken for a shared one.
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
        let said = format!("{header}.{claims}");
        let code = hmac_sha256(&fs::read(public).unwrap(), said.as_bytes());
        forged.push(format!("{said}.{}", URL_SAFE_NO_PAD.encode(code)));
    }
    forged
}

fn hmac_sha256(key: &[u8], message: &[u8]) -> Vec<u8> {
    const BLOCK: usize = 64;
    let mut block = if key.len() > BLOCK {
        Sha256::digest(key).to_vec()
    } else {
        key.to_vec()
    };
    block.resize(BLOCK, 0);
    let padded = |pad: u8| block.iter().map(|byte| byte ^ pad).collect::<Vec<u8>>();
    let inner = Sha256::new()
        .chain_update(padded(0x36))
        .chain_update(message)
        .finalize();
    Sha256::new()
        .chain_update(padded(0x5c))
        .chain_update(inner)
        .finalize()
        .to_vec()
}

/// The header and the claims.
fn read(token: &str) -> (serde_json::Value, serde_json::Value) {
    let mut parts = token.split('.').map(|part| {
        let bytes = URL_SAFE_NO_PAD.decode(part).unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    });
    (parts.next().unwrap(), parts.next().unwrap())
}

#[tokio::test]
async fn the_test_makes_codes_as_others_do() {
    let code = hmac_sha256(b"key", b"The quick brown fox jumps over the lazy dog");
    let shown: String = code.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        shown,
        "f7bc83f430538424b13298e6aa6fb143ef4d59a14946175997479dbc2d1a3cd8"
    );
}

/// Claims that say too little or the wrong thing, signed with the right key.
#[tokio::test]
async fn claims_must_be_complete() {
    let keys = Keys::shared_secret();
    let (_server, root) = Server::start_with_auth(&[&keys.flag("HS256")]).await;
    root.put("k", "1").await;
    let secret = fs::read(&keys.private).unwrap();
    let signed = |claims: &str| {
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
        let said = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims));
        let code = hmac_sha256(&secret, said.as_bytes());
        root.with_token(&format!("{said}.{}", URL_SAFE_NO_PAD.encode(code)))
    };
    signed(r#"{"username":"root","revision":3,"exp":9999999999}"#)
        .range(get("k"))
        .await;
    for claims in [
        "",
        "{}",
        "[]",
        r#"{"revision":3,"exp":9999999999}"#,
        r#"{"username":"root","exp":9999999999}"#,
        r#"{"username":7,"revision":3,"exp":9999999999}"#,
        r#"{"username":"root","revision":"3","exp":9999999999}"#,
        r#"{"username":"root","revision":3,"exp":1000000000}"#,
        r#"{"username":"root","revision":3,"exp":9999999999,"nbf":9999999998}"#,
    ] {
        assert_bad_token(signed(claims).try_range(get("k")).await);
    }
    // An older revision is told, and of a user who is not there nothing is.
    assert_old_revision(
        signed(r#"{"username":"root","revision":2,"exp":9999999999}"#)
            .try_range(get("k"))
            .await,
    );
    assert_denied(
        signed(r#"{"username":"nobody","revision":3,"exp":9999999999}"#)
            .try_range(get("k"))
            .await,
    );
}

#[tokio::test]
async fn a_token_expires_whether_it_is_used_or_not() {
    let keys = Keys::shared_secret();
    let flag = keys.flag("HS256").replace("ttl=10m", "ttl=2s");
    let (_server, root) = Server::start_with_auth(&[&flag]).await;
    let token = root.as_user("root").await;
    token.put("k", "1").await;
    let start = Instant::now();
    let refused = loop {
        match token.try_range(get("k")).await {
            Ok(_) => assert!(start.elapsed() < PATIENCE, "it never expires"),
            Err(status) => break status,
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    assert_bad_token(Err::<(), _>(refused));
    root.as_user("root").await.range(get("k")).await;
}

/// Members that share the keys take each other's tokens, and the same token says the same on each.
#[tokio::test]
async fn members_take_each_others_tokens() {
    let keys = Keys::shared_secret();
    let cluster = Cluster::start_with(3, &[CHEAP_HASHES, &keys.flag("HS512")]).await;
    let root = cluster.client(0).enable_auth().await;
    root.put("k", "1").await;
    let token = cluster.client(1).login("root").await;
    for member in cluster.members() {
        cluster.client(member).with_token(&token).range(get("k")).await;
    }
    root.add_role("another").await;
    for member in cluster.members() {
        let old = cluster.client(member).with_token(&token);
        assert_old_revision(old.try_range(get("k")).await);
        assert_old_revision(old.try_put(put("k", "2")).await);
    }
}

//! The keys in `testdata/jwt` are OpenSSL's and were made for these tests alone; `tokens` holds one token of each method,
//! issued by etcd 3.7.1 with these keys, for `root` under revision 3, good until the year 2126.

use super::*;

macro_rules! file {
    ($name:literal) => {
        include_bytes!(concat!("../../../testdata/jwt/", $name))
    };
}

/// Methods with the files of their keys: the private half, and the public one where there is one.
const KEYS: &[(&str, &[u8], &[u8])] = &[
    ("HS256", file!("hmac.key"), b""),
    ("HS384", file!("hmac.key"), b""),
    ("HS512", file!("hmac.key"), b""),
    ("RS256", file!("rsa.pem"), file!("rsa.pub")),
    ("RS384", file!("rsa1.pem"), file!("rsa.crt")),
    ("RS512", file!("rsa.pem"), file!("rsa.pub")),
    ("PS256", file!("rsa.pem"), file!("rsa.pub")),
    ("PS384", file!("rsa.pem"), file!("rsa.pub")),
    ("PS512", file!("rsa.pem"), file!("rsa.pub")),
    ("ES256", file!("ec256.pem"), file!("ec256.pub")),
    ("ES384", file!("ec384.pem"), file!("ec384.pub")),
    ("ES512", file!("ec521.sec1.pem"), file!("ec521.pub")),
    ("EdDSA", file!("ed.pem"), file!("ed.pub")),
];

fn jwt(method: &str, private: &[u8], public: &[u8], ttl_s: i64) -> Jwt {
    Jwt::new(method, private, public, ttl_s).unwrap().unwrap()
}

fn refusal(method: &str, private: &[u8], public: &[u8]) -> String {
    let read = Jwt::new(method, private, public, 300).unwrap();
    read.err().unwrap().to_string()
}

fn etcds_token(method: &str) -> &'static str {
    let tokens = std::str::from_utf8(file!("tokens")).unwrap();
    let lines = tokens.lines().filter_map(|line| line.split_once(' '));
    lines
        .filter(|(name, _)| *name == method)
        .map(|(_, token)| token)
        .next()
        .unwrap()
}

#[test]
fn tokens_of_etcd_are_good() {
    for &(method, private, public) in KEYS {
        for jwt in [jwt(method, private, public, 300), jwt(method, private, b"", 300)] {
            let bearer = jwt.bearer(etcds_token(method));
            let bearer = bearer.unwrap_or_else(|| panic!("{method}"));
            assert_eq!((&*bearer.user, bearer.revision), ("root", 3), "{method}");
            assert!(bearer.expires_s.unwrap() > 4_948_000_000, "{method}");
        }
    }
}

#[test]
fn what_signs_deterministically_signs_as_etcd() {
    for &(method, private, public) in KEYS {
        if !(method.starts_with("HS") || method.starts_with("RS") || method == "EdDSA") {
            continue;
        }
        let jwt = jwt(method, private, public, 300);
        let token = etcds_token(method);
        let expires_s = jwt.bearer(token).unwrap().expires_s.unwrap();
        assert_eq!(jwt.signed("root", 3, expires_s).unwrap(), token, "{method}");
    }
}

#[test]
fn own_tokens_are_good_until_they_expire() {
    for &(method, private, public) in KEYS {
        let jwt = jwt(method, private, public, 300);
        let token = jwt.issue("Käthe", 7).unwrap();
        for _ in 0..2 {
            let bearer = jwt.bearer(&token).unwrap();
            assert_eq!((&*bearer.user, bearer.revision), ("Käthe", 7), "{method}");
        }
        assert_eq!(
            jwt.bearer(&jwt.signed("u", 1, now_s()).unwrap()),
            None,
            "{method}"
        );
    }
    // One that is remembered expires all the same.
    let jwt = jwt("HS256", b"k", b"", -1);
    let token = jwt.issue("u", 1).unwrap();
    assert_eq!((jwt.bearer(&token), jwt.bearer(&token)), (None, None));
    assert_eq!(jwt.remembered.read().young.len(), 1);
}

#[test]
fn a_public_key_alone_verifies_and_signs_nothing() {
    for &(method, private, public) in KEYS.iter().filter(|(_, _, public)| !public.is_empty()) {
        let verifier = jwt(method, b"", public, 300);
        assert_eq!(verifier.issue("u", 1), Err(SignError::VerifyOnly), "{method}");
        let token = jwt(method, private, b"", 300).issue("u", 1).unwrap();
        assert!(verifier.bearer(&token).is_some(), "{method}");
    }
}

#[test]
fn changed_tokens_are_no_good() {
    for &(method, private, public) in KEYS {
        let jwt = jwt(method, private, public, 300);
        let token = jwt.issue("u", 1).unwrap();
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let (header, claims) = signed.split_once('.').unwrap();
        let other = URL_SAFE_NO_PAD.encode(r#"{"exp":9999999999,"revision":1,"username":"root"}"#);
        let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#);
        for bad in [
            String::new(),
            ".".to_owned(),
            "..".to_owned(),
            signed.to_owned(),
            format!("{signed}."),
            format!("{header}.{other}.{signature}"),
            format!("{none}.{claims}."),
            format!("{none}.{claims}.{signature}"),
            format!("{token}.x"),
            format!("{signed}.{}", URL_SAFE_NO_PAD.encode([0; 64])),
            format!("{signed}.{}", URL_SAFE_NO_PAD.encode([0; 256])),
        ] {
            assert_eq!(jwt.bearer(&bad), None, "{method} {bad}");
        }
    }
    // The public key of another method is no secret to sign with.
    let rsa = jwt("RS256", b"", file!("rsa.pub"), 300);
    let forged = jwt("HS256", file!("rsa.pub"), b"", 300).issue("root", 1).unwrap();
    assert_eq!(rsa.bearer(&forged), None);
}

#[test]
fn claims_are_read_as_etcd_does() {
    let jwt = jwt("HS256", b"k", b"", 300);
    let read = |claims: &str| {
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#);
        let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims));
        let signature = URL_SAFE_NO_PAD.encode(jwt.key.sign(signed.as_bytes()).unwrap());
        jwt.bearer(&format!("{signed}.{signature}"))
            .map(|bearer| bearer.revision)
    };
    for (claims, revision) in [
        (r#"{"username":"u","revision":4}"#, Some(4)),
        (r#"{"username":"u","revision":4.9,"exp":0}"#, Some(4)),
        (r#"{"username":"u","revision":4,"exp":1}"#, None),
        (r#"{"username":"u","revision":4,"exp":"9999999999"}"#, None),
        (r#"{"username":"u","revision":4,"nbf":9999999999}"#, None),
        (r#"{"username":"u","revision":4,"nbf":1}"#, Some(4)),
        (r#"{"username":"u","revision":"4"}"#, None),
        (r#"{"username":"u"}"#, None),
        (r#"{"revision":4}"#, None),
        (r#"{"username":7,"revision":4}"#, None),
        ("[]", None),
        ("", None),
    ] {
        assert_eq!(read(claims), revision, "{claims}");
    }
}

#[test]
fn what_is_remembered_is_bounded() {
    let mut remembered = Remembered::default();
    let bearer = Bearer {
        user: "u".into(),
        revision: 1,
        expires_s: None,
    };
    for n in 0..3 * REMEMBERED_MAX {
        remembered.keep(Sha256::digest(n.to_le_bytes()).into(), bearer.clone());
        assert!(remembered.young.len() + remembered.old.len() <= 2 * REMEMBERED_MAX);
    }
    let digest = Sha256::digest((3 * REMEMBERED_MAX - 1).to_le_bytes()).into();
    assert!(remembered.find(&digest).is_some());
}

#[test]
fn keys_that_do_not_fit_are_refused() {
    assert!(Jwt::new("none", b"k", b"", 300).is_none());
    assert!(Jwt::new("", b"k", b"", 300).is_none());
    for &(method, _, _) in KEYS {
        assert_eq!(refusal(method, b"", b""), "auth: missing key data", "{method}");
    }
    assert_eq!(refusal("HS256", b"", b"public"), "auth: missing key data");
    let mismatch = "auth: public and private keys don't match";
    // The private key of one pair and the public one of another, which is made here.
    let other = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    assert_eq!(
        refusal("ES256", file!("ec256.pem"), other.public_key_pem().as_bytes()),
        mismatch
    );
    let other = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    assert_eq!(
        refusal("EdDSA", file!("ed.pem"), other.public_key_pem().as_bytes()),
        mismatch
    );
    for (method, private, public) in [
        ("RS256", &b"no pem"[..], &b""[..]),
        ("RS256", b"", b"no pem"),
        ("RS256", file!("ec256.pem"), b""),
        ("RS256", b"", file!("ec256.pub")),
        ("ES256", file!("ec384.pem"), b""),
        ("ES256", b"", file!("ec384.pub")),
        ("ES384", file!("rsa.pem"), b""),
        ("ES512", b"", file!("rsa.pub")),
        ("EdDSA", file!("rsa.pem"), b""),
        ("EdDSA", b"", file!("ec256.pub")),
        ("EdDSA", file!("ed.pub"), b""),
    ] {
        assert!(refusal(method, private, public).contains("key"), "{method}");
    }
}

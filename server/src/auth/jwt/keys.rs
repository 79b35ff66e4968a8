//! The keys that sign and verify tokens: one file of the private key, one of the public key, or both.
//!
//! `jsonwebtoken` was considered: it has no ES512, reads no keys in SEC1 form, and derives no public key of a private
//! one, all of which etcd does. What is left of a library for tokens then is base64. RSA, Ed25519 and HMAC are ring's,
//! which the tree has for TLS (the pure-Rust RSA leaks its private key by its timing); the curves are RustCrypto's, all
//! three in one way, since ring lacks P-521.

use p256::ecdsa::signature::{Signer as _, Verifier as _};
use p256::elliptic_curve::sec1::ToEncodedPoint as _;
use p256::pkcs8::DecodePrivateKey as _;
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{self, Ed25519KeyPair, KeyPair as _, RsaEncoding, RsaKeyPair, RsaParameters};
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::x509::SubjectPublicKeyInfo;

/// A method of signing, by its name in the header of a token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Method {
    Hs256,
    Hs384,
    Hs512,
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    Es512,
    EdDsa,
}

/// Why the given files are no key of a method. The texts are etcd's where it has any.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum KeyError {
    #[error("auth: missing key data")]
    Missing,
    #[error("auth: public and private keys don't match")]
    Mismatch,
    #[error("invalid key: Key must be a PEM encoded PKCS1 or PKCS8 key")]
    NotPem,
    #[error("key is not a valid {0} private key")]
    Private(&'static str),
    #[error("key is not a valid {0} public key")]
    Public(&'static str),
    #[error("key is not a valid {family} private key: {reason}")]
    Rejected { family: &'static str, reason: String },
}

/// A key of one method; without its private half it only verifies.
pub(super) enum Key {
    Hmac(hmac::Key),
    Rsa {
        method: Method,
        private: Option<Box<RsaKeyPair>>,
        /// `RSAPublicKey` of PKCS #1.
        public: Vec<u8>,
    },
    P256(Pair<p256::ecdsa::SigningKey, p256::ecdsa::VerifyingKey>),
    P384(Pair<p384::ecdsa::SigningKey, p384::ecdsa::VerifyingKey>),
    P521(Pair<p521::ecdsa::SigningKey, p521::ecdsa::VerifyingKey>),
    Ed25519 {
        private: Option<Box<Ed25519KeyPair>>,
        public: Vec<u8>,
    },
}

/// Both halves of a key, or the public one alone.
pub(super) struct Pair<S, V> {
    private: Option<S>,
    public: V,
}

impl Method {
    pub(super) fn of_name(name: &str) -> Option<Method> {
        NAMES
            .iter()
            .find(|(known, _)| *known == name)
            .map(|&(_, method)| method)
    }

    pub(super) fn name(self) -> &'static str {
        let named = NAMES.iter().find(|(_, method)| *method == self);
        named.map_or("", |(name, _)| name)
    }
}

impl Key {
    /// Reads the key of `method` from the contents of its files; one that is empty was not given.
    pub(super) fn read(method: Method, private: &[u8], public: &[u8]) -> Result<Key, KeyError> {
        match method {
            Method::Hs256 | Method::Hs384 | Method::Hs512 if private.is_empty() => Err(KeyError::Missing),
            Method::Hs256 => Ok(Key::Hmac(hmac::Key::new(hmac::HMAC_SHA256, private))),
            Method::Hs384 => Ok(Key::Hmac(hmac::Key::new(hmac::HMAC_SHA384, private))),
            Method::Hs512 => Ok(Key::Hmac(hmac::Key::new(hmac::HMAC_SHA512, private))),
            _ if private.is_empty() && public.is_empty() => Err(KeyError::Missing),
            Method::Rs256 | Method::Rs384 | Method::Rs512 | Method::Ps256 | Method::Ps384 | Method::Ps512 => {
                rsa(method, private, public)
            }
            Method::Es256 => p256(private, public),
            Method::Es384 => p384(private, public),
            Method::Es512 => p521(private, public),
            Method::EdDsa => ed25519(private, public),
        }
    }

    /// Whether there is no key to sign with.
    pub(super) fn only_verifies(&self) -> bool {
        match self {
            Key::Hmac(_) => false,
            Key::Rsa { private, .. } => private.is_none(),
            Key::P256(pair) => pair.private.is_none(),
            Key::P384(pair) => pair.private.is_none(),
            Key::P521(pair) => pair.private.is_none(),
            Key::Ed25519 { private, .. } => private.is_none(),
        }
    }

    /// The signature of `message`; none without the private half, or where there is no randomness to be had.
    pub(super) fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        match self {
            Key::Hmac(key) => Some(hmac::sign(key, message).as_ref().to_vec()),
            Key::Rsa { method, private, .. } => {
                let private = private.as_ref()?;
                let mut signature = vec![0; private.public().modulus_len()];
                let signed = private.sign(
                    rsa_encoding(*method),
                    &SystemRandom::new(),
                    message,
                    &mut signature,
                );
                signed.ok().map(|()| signature)
            }
            Key::P256(pair) => {
                let signature: p256::ecdsa::Signature = pair.private.as_ref()?.try_sign(message).ok()?;
                Some(signature.to_bytes().to_vec())
            }
            Key::P384(pair) => {
                let signature: p384::ecdsa::Signature = pair.private.as_ref()?.try_sign(message).ok()?;
                Some(signature.to_bytes().to_vec())
            }
            Key::P521(pair) => {
                let signature: p521::ecdsa::Signature = pair.private.as_ref()?.try_sign(message).ok()?;
                Some(signature.to_bytes().to_vec())
            }
            Key::Ed25519 { private, .. } => Some(private.as_ref()?.sign(message).as_ref().to_vec()),
        }
    }

    /// Whether `signed` is a signature of `message`.
    pub(super) fn verifies(&self, message: &[u8], signed: &[u8]) -> bool {
        match self {
            Key::Hmac(key) => hmac::verify(key, message, signed).is_ok(),
            Key::Rsa { method, public, .. } => {
                let key = signature::UnparsedPublicKey::new(rsa_parameters(*method), public);
                key.verify(message, signed).is_ok()
            }
            Key::P256(pair) => p256::ecdsa::Signature::from_slice(signed)
                .is_ok_and(|signature| pair.public.verify(message, &signature).is_ok()),
            Key::P384(pair) => p384::ecdsa::Signature::from_slice(signed)
                .is_ok_and(|signature| pair.public.verify(message, &signature).is_ok()),
            Key::P521(pair) => p521::ecdsa::Signature::from_slice(signed)
                .is_ok_and(|signature| pair.public.verify(message, &signature).is_ok()),
            Key::Ed25519 { public, .. } => {
                let key = signature::UnparsedPublicKey::new(&signature::ED25519, public);
                key.verify(message, signed).is_ok()
            }
        }
    }
}

fn rsa(method: Method, private: &[u8], public: &[u8]) -> Result<Key, KeyError> {
    const FAMILY: &str = "RSA";
    let pair = match first_block(private)? {
        None => None,
        Some(der) => {
            let pair = RsaKeyPair::from_der(&der).or_else(|_| RsaKeyPair::from_pkcs8(&der));
            Some(Box::new(pair.map_err(|reason| KeyError::Rejected {
                family: FAMILY,
                reason: reason.to_string(),
            })?))
        }
    };
    // What is no key in the general form may be one in that of PKCS #1.
    let given = first_block(public)?.map(|der| public_bits(&der).unwrap_or(der));
    let derived = pair.as_ref().map(|pair| pair.public().as_ref().to_vec());
    let public = agreed(derived, given)?;
    // ring reads a public key with each use only.
    if pair.is_none() && !is_rsa_public(&public) {
        return Err(KeyError::Public(FAMILY));
    }
    Ok(Key::Rsa {
        method,
        private: pair,
        public,
    })
}

/// Whether it is a `RSAPublicKey`: a sequence of two positive numbers, and nothing else.
fn is_rsa_public(der: &[u8]) -> bool {
    use x509_parser::der_parser::der::parse_der_sequence;
    let Ok((&[], sequence)) = parse_der_sequence(der) else {
        return false;
    };
    let numbers = sequence.as_sequence().map(Vec::as_slice).unwrap_or_default();
    numbers.len() == 2 && numbers.iter().all(|number| number.as_bigint().is_ok())
}

/// Makes the reader of one curve's keys. The three crates have the same names for the same things and no trait in common
/// that says so.
macro_rules! curve {
    ($reader:ident, $curve:ident, $variant:ident) => {
        fn $reader(private: &[u8], public: &[u8]) -> Result<Key, KeyError> {
            const FAMILY: &str = "ECDSA";
            let private = match first_block(private)? {
                None => None,
                Some(der) => Some(
                    $curve::SecretKey::from_sec1_der(&der)
                        .ok()
                        .or_else(|| $curve::SecretKey::from_pkcs8_der(&der).ok())
                        .ok_or(KeyError::Private(FAMILY))?,
                ),
            };
            let given = match first_block(public)? {
                None => None,
                Some(der) => {
                    let bits = public_bits(&der).ok_or(KeyError::Public(FAMILY))?;
                    let key = $curve::PublicKey::from_sec1_bytes(&bits);
                    Some(key.map_err(|_| KeyError::Public(FAMILY))?)
                }
            };
            let public = agreed(private.as_ref().map($curve::SecretKey::public_key), given)?;
            let point = public.to_encoded_point(false);
            let public = $curve::ecdsa::VerifyingKey::from_sec1_bytes(point.as_bytes());
            let private = private.map(|key| $curve::ecdsa::SigningKey::from_slice(&key.to_bytes()));
            Ok(Key::$variant(Pair {
                private: private.transpose().map_err(|_| KeyError::Private(FAMILY))?,
                public: public.map_err(|_| KeyError::Public(FAMILY))?,
            }))
        }
    };
}

curve!(p256, p256, P256);
curve!(p384, p384, P384);
curve!(p521, p521, P521);

fn ed25519(private: &[u8], public: &[u8]) -> Result<Key, KeyError> {
    const FAMILY: &str = "Ed25519";
    let pair = match first_block(private)? {
        None => None,
        Some(der) => {
            let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der);
            Some(Box::new(pair.map_err(|_| KeyError::Private(FAMILY))?))
        }
    };
    let given = match first_block(public)? {
        None => None,
        Some(der) => {
            let bits = public_bits(&der).filter(|bits| bits.len() == ED25519_PUBLIC_BYTES);
            Some(bits.ok_or(KeyError::Public(FAMILY))?)
        }
    };
    let derived = pair.as_ref().map(|pair| pair.public_key().as_ref().to_vec());
    Ok(Key::Ed25519 {
        private: pair,
        public: agreed(derived, given)?,
    })
}

/// The public key of which there may be two sources, and then they must say the same.
fn agreed<K: PartialEq>(derived: Option<K>, given: Option<K>) -> Result<K, KeyError> {
    match (derived, given) {
        (Some(derived), Some(given)) if derived != given => Err(KeyError::Mismatch),
        (Some(key), _) | (None, Some(key)) => Ok(key),
        (None, None) => Err(KeyError::Missing),
    }
}

/// What the first block of a PEM file holds; nothing of a file that was not given. OpenSSL puts a block with the name of
/// the curve before a key, which is none.
fn first_block(file: &[u8]) -> Result<Option<Vec<u8>>, KeyError> {
    if file.is_empty() {
        return Ok(None);
    }
    let mut blocks = Pem::iter_from_buffer(file).map_while(Result::ok);
    let block = blocks.find(|block| block.label != "EC PARAMETERS");
    block.map(|block| Some(block.contents)).ok_or(KeyError::NotPem)
}

/// The bits of a public key, which may stand in a certificate.
fn public_bits(der: &[u8]) -> Option<Vec<u8>> {
    let bits = |info: &SubjectPublicKeyInfo<'_>| info.subject_public_key.data.to_vec();
    if let Ok((_, info)) = SubjectPublicKeyInfo::from_der(der) {
        return Some(bits(&info));
    }
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    Some(bits(certificate.public_key()))
}

fn rsa_encoding(method: Method) -> &'static dyn RsaEncoding {
    match method {
        Method::Rs384 => &signature::RSA_PKCS1_SHA384,
        Method::Rs512 => &signature::RSA_PKCS1_SHA512,
        Method::Ps256 => &signature::RSA_PSS_SHA256,
        Method::Ps384 => &signature::RSA_PSS_SHA384,
        Method::Ps512 => &signature::RSA_PSS_SHA512,
        _ => &signature::RSA_PKCS1_SHA256,
    }
}

fn rsa_parameters(method: Method) -> &'static RsaParameters {
    match method {
        Method::Rs384 => &signature::RSA_PKCS1_2048_8192_SHA384,
        Method::Rs512 => &signature::RSA_PKCS1_2048_8192_SHA512,
        Method::Ps256 => &signature::RSA_PSS_2048_8192_SHA256,
        Method::Ps384 => &signature::RSA_PSS_2048_8192_SHA384,
        Method::Ps512 => &signature::RSA_PSS_2048_8192_SHA512,
        _ => &signature::RSA_PKCS1_2048_8192_SHA256,
    }
}

const NAMES: [(&str, Method); 13] = [
    ("HS256", Method::Hs256),
    ("HS384", Method::Hs384),
    ("HS512", Method::Hs512),
    ("RS256", Method::Rs256),
    ("RS384", Method::Rs384),
    ("RS512", Method::Rs512),
    ("PS256", Method::Ps256),
    ("PS384", Method::Ps384),
    ("PS512", Method::Ps512),
    ("ES256", Method::Es256),
    ("ES384", Method::Es384),
    ("ES512", Method::Es512),
    ("EdDSA", Method::EdDsa),
];
const ED25519_PUBLIC_BYTES: usize = 32;

//! Keys and signatures on the curve P-521, which the TLS library's provider does not know and etcd's do: its
//! `--auto-tls` makes such keys.
//!
//! Signatures are those of TLS, with SHA-512, and in chains of certificates with SHA-384 too. What is checked and
//! signed here takes some milliseconds: a member that is dialed a lot is better off with P-256.

use std::sync::{Arc, LazyLock};

use p521::SecretKey;
use p521::ecdsa::signature::hazmat::PrehashVerifier as _;
use p521::ecdsa::signature::{Signer as _, Verifier as _};
use p521::ecdsa::{DerSignature, Signature, SigningKey, VerifyingKey};
use p521::pkcs8::DecodePrivateKey as _;
use rustls::crypto::{CryptoProvider, KeyProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::{
    AlgorithmIdentifier, InvalidSignature, PrivateKeyDer, SignatureVerificationAlgorithm,
    SubjectPublicKeyInfoDer, alg_id,
};
use rustls::sign::public_key_to_spki;
use rustls::{Error, SignatureAlgorithm, SignatureScheme};
use sha2::{Digest as _, Sha384};

/// Teaches `provider` the curve.
pub(super) fn add_to(provider: &mut CryptoProvider) {
    provider.key_provider = &Keys;
    provider.signature_verification_algorithms = WebPkiSupportedAlgorithms {
        all: &ALL,
        mapping: &MAPPING,
    };
}

/// Reads keys of every kind that the library reads, and then those of ours.
#[derive(Debug)]
struct Keys;

impl KeyProvider for Keys {
    fn load_private_key(
        &self,
        der: PrivateKeyDer<'static>,
    ) -> Result<Arc<dyn rustls::sign::SigningKey>, Error> {
        let ours = read(&der);
        let known = rustls::crypto::ring::default_provider()
            .key_provider
            .load_private_key(der);
        match (known, ours) {
            (Err(_), Some(key)) => Ok(Arc::new(key)),
            (known, _) => known,
        }
    }
}

fn read(der: &PrivateKeyDer<'_>) -> Option<Key> {
    let secret = match der {
        PrivateKeyDer::Pkcs8(der) => SecretKey::from_pkcs8_der(der.secret_pkcs8_der()).ok()?,
        PrivateKeyDer::Sec1(der) => SecretKey::from_sec1_der(der.secret_sec1_der()).ok()?,
        _ => return None,
    };
    let signing = SigningKey::from_bytes(&secret.to_bytes()).ok()?;
    let public = VerifyingKey::from(&signing).to_encoded_point(false);
    Some(Key {
        signing: Arc::new(signing),
        public: public.as_bytes().to_vec(),
    })
}

/// A private key, and its public one as a point.
struct Key {
    signing: Arc<SigningKey>,
    public: Vec<u8>,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a private key on P-521")
    }
}

impl rustls::sign::SigningKey for Key {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn rustls::sign::Signer>> {
        let signer = || Box::new(Signer(self.signing.clone())) as Box<dyn rustls::sign::Signer>;
        offered.contains(&SCHEME).then(signer)
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        Some(public_key_to_spki(&alg_id::ECDSA_P521, &self.public))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

struct Signer(Arc<SigningKey>);

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a signer on P-521")
    }
}

impl rustls::sign::Signer for Signer {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let failed = |error: p521::ecdsa::Error| Error::General(error.to_string());
        let signature: Signature = self.0.try_sign(message).map_err(failed)?;
        Ok(DerSignature::from(signature).as_bytes().to_vec())
    }

    fn scheme(&self) -> SignatureScheme {
        SCHEME
    }
}

/// Checks signatures on the curve by one hash.
#[derive(Debug)]
enum Check {
    Sha384,
    Sha512,
}

impl SignatureVerificationAlgorithm for Check {
    fn verify_signature(
        &self,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        let key = VerifyingKey::from_sec1_bytes(public_key).map_err(|_| InvalidSignature)?;
        let signature = Signature::from_der(signature).map_err(|_| InvalidSignature)?;
        let verified = match self {
            Check::Sha384 => key.verify_prehash(&Sha384::digest(message), &signature),
            Check::Sha512 => key.verify(message, &signature),
        };
        verified.map_err(|_| InvalidSignature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::ECDSA_P521
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        match self {
            Check::Sha384 => alg_id::ECDSA_SHA384,
            Check::Sha512 => alg_id::ECDSA_SHA512,
        }
    }
}

const SCHEME: SignatureScheme = SignatureScheme::ECDSA_NISTP521_SHA512;

type Checks = &'static [&'static dyn SignatureVerificationAlgorithm];

const OURS: Checks = &[&Check::Sha384, &Check::Sha512];
const OF_SCHEME: Checks = &[&Check::Sha512];

static ALL: LazyLock<Vec<&'static dyn SignatureVerificationAlgorithm>> =
    LazyLock::new(|| known().all.iter().chain(OURS).copied().collect());

static MAPPING: LazyLock<Vec<(SignatureScheme, Checks)>> = LazyLock::new(|| {
    let known = known().mapping.iter().copied();
    known.chain([(SCHEME, OF_SCHEME)]).collect()
});

fn known() -> WebPkiSupportedAlgorithms {
    rustls::crypto::ring::default_provider().signature_verification_algorithms
}

#[cfg(test)]
mod tests {
    use p521::ecdsa::signature::hazmat::PrehashSigner as _;

    use super::*;

    #[test]
    fn signatures_are_checked_by_their_hash() {
        let signing = SigningKey::random(&mut rand_core());
        let public = VerifyingKey::from(&signing).to_encoded_point(false);
        let long: Signature = signing.sign(b"message");
        let short: Signature = signing
            .sign_prehash(&Sha384::digest(b"message"))
            .expect("a digest of that length");
        let verified = |check: &Check, message: &[u8], signature: &Signature| {
            let der = DerSignature::from(*signature);
            let public = public.as_bytes();
            check.verify_signature(public, message, der.as_bytes()).is_ok()
        };
        assert!(verified(&Check::Sha512, b"message", &long));
        assert!(verified(&Check::Sha384, b"message", &short));
        assert!(!verified(&Check::Sha384, b"message", &long));
        assert!(!verified(&Check::Sha512, b"message", &short));
        assert!(!verified(&Check::Sha512, b"massage", &long));
        for rubbish in [&b""[..], b"\x30\x00", &[0xff; 200]] {
            let public = public.as_bytes();
            assert!(
                Check::Sha512
                    .verify_signature(public, b"message", rubbish)
                    .is_err()
            );
            assert!(
                Check::Sha512
                    .verify_signature(rubbish, b"message", rubbish)
                    .is_err()
            );
        }
    }

    fn rand_core() -> impl p521::ecdsa::signature::rand_core::CryptoRngCore {
        p521::elliptic_curve::rand_core::OsRng
    }
}

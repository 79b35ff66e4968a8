//! Cipher suites and versions: Go's names, rustls's suites.

use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::{self, cipher_suite as suites};
use rustls::{SupportedCipherSuite, SupportedProtocolVersion, version};

use super::TlsError;
use crate::config::{TlsSettings, TlsVersion};

/// The suites that `settings` allow. Those of TLS 1.3 are not to be chosen, in Go neither.
pub(super) fn provider(settings: &TlsSettings) -> Result<CryptoProvider, TlsError> {
    let all = ring::default_provider();
    if settings.cipher_suites.is_empty() {
        return Ok(all);
    }
    let mut chosen: Vec<SupportedCipherSuite> = all
        .cipher_suites
        .iter()
        .copied()
        .filter(|suite| suite.tls13().is_some())
        .collect();
    for name in &settings.cipher_suites {
        match GO_NAMES.iter().find(|(known, _)| known == name) {
            Some((_, Some(suite))) => chosen.push(*suite),
            Some((_, None)) => {}
            None => return Err(TlsError::Cipher(name.clone())),
        }
    }
    let left_out: Vec<&String> = settings
        .cipher_suites
        .iter()
        .filter(|name| {
            GO_NAMES
                .iter()
                .any(|(known, suite)| known == name && suite.is_none())
        })
        .collect();
    if !left_out.is_empty() {
        tracing::warn!(?left_out, "these cipher suites are too weak to be offered here");
    }
    Ok(CryptoProvider {
        cipher_suites: chosen,
        ..all
    })
}

/// The versions that `settings` allow.
pub(super) fn versions(settings: &TlsSettings) -> Vec<&'static SupportedProtocolVersion> {
    let max = settings.max_version.unwrap_or(TlsVersion::V13);
    [
        (TlsVersion::V13, &version::TLS13),
        (TlsVersion::V12, &version::TLS12),
    ]
    .into_iter()
    .filter(|(version, _)| (settings.min_version..=max).contains(version))
    .map(|(_, version)| version)
    .collect()
}

/// What Go calls its suites; those that rustls has not are known, and not offered.
#[rustfmt::skip]
const GO_NAMES: &[(&str, Option<SupportedCipherSuite>)] = &[
    ("TLS_AES_128_GCM_SHA256", Some(suites::TLS13_AES_128_GCM_SHA256)),
    ("TLS_AES_256_GCM_SHA384", Some(suites::TLS13_AES_256_GCM_SHA384)),
    ("TLS_CHACHA20_POLY1305_SHA256", Some(suites::TLS13_CHACHA20_POLY1305_SHA256)),
    ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", Some(suites::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256)),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", Some(suites::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384)),
    ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", Some(suites::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256)),
    ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", Some(suites::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256)),
    ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", Some(suites::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384)),
    ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", Some(suites::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256)),
    // Names without the hash, from older scripts.
    ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305", Some(suites::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256)),
    ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305", Some(suites::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256)),
    ("TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA", None),
    ("TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256", None),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA", None),
    ("TLS_ECDHE_ECDSA_WITH_RC4_128_SHA", None),
    ("TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA", None),
    ("TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA", None),
    ("TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256", None),
    ("TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA", None),
    ("TLS_ECDHE_RSA_WITH_RC4_128_SHA", None),
    ("TLS_RSA_WITH_3DES_EDE_CBC_SHA", None),
    ("TLS_RSA_WITH_AES_128_CBC_SHA", None),
    ("TLS_RSA_WITH_AES_128_CBC_SHA256", None),
    ("TLS_RSA_WITH_AES_128_GCM_SHA256", None),
    ("TLS_RSA_WITH_AES_256_CBC_SHA", None),
    ("TLS_RSA_WITH_AES_256_GCM_SHA384", None),
    ("TLS_RSA_WITH_RC4_128_SHA", None),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(suites: &[&str]) -> TlsSettings {
        TlsSettings {
            cipher_suites: suites.iter().map(|&suite| suite.to_owned()).collect(),
            ..TlsSettings::default()
        }
    }

    #[test]
    fn suites_are_chosen_by_gos_names() {
        let count = |names: &[&str]| provider(&settings(names)).map(|provider| provider.cipher_suites.len());
        assert_eq!(count(&[]).unwrap(), ring::default_provider().cipher_suites.len());
        assert_eq!(count(&["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"]).unwrap(), 4);
        assert_eq!(count(&["TLS_RSA_WITH_RC4_128_SHA"]).unwrap(), 3);
        let error = count(&["TLS_UNHEARD_OF"]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "unexpected TLS cipher suite \"TLS_UNHEARD_OF\""
        );
    }

    #[test]
    fn versions_lie_between_the_bounds() {
        for (min, max, expected) in [
            (TlsVersion::V12, None, &["TLSv1_3", "TLSv1_2"][..]),
            (TlsVersion::V13, None, &["TLSv1_3"]),
            (TlsVersion::V12, Some(TlsVersion::V12), &["TLSv1_2"]),
        ] {
            let settings = TlsSettings {
                min_version: min,
                max_version: max,
                ..TlsSettings::default()
            };
            let found: Vec<String> = versions(&settings)
                .iter()
                .map(|version| format!("{:?}", version.version))
                .collect();
            assert_eq!(found, expected);
        }
    }
}

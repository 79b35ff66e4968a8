//! What operators write, for fuzzing: the configuration file, URLs, durations, flags.

use super::{duration, file, number, url};

pub(crate) fn one_input(data: &[u8]) {
    let Some((&first, rest)) = data.split_first() else {
        return;
    };
    if first & 3 == 0 {
        let _ = file::parse(rest);
        return;
    }
    let Ok(text) = std::str::from_utf8(rest) else {
        return;
    };
    if let Ok(list) = url::parse_list(text) {
        let again = url::parse_list(&url::texts(&list).join(","));
        assert!(again.is_ok_and(|again| url::same(&list, &again)), "{text:?}");
    }
    if let Ok(url) = url::parse(text) {
        let _ = (
            url.bind_address(),
            url.check_advertised(),
            url.target(),
            url.authority(),
        );
        let _ = (url.host(), url.port(), url.is_secure());
    }
    if let Ok(nanos) = duration::parse_nanos(text) {
        assert_eq!(
            duration::parse_nanos(&duration::format_nanos(nanos)).ok(),
            Some(nanos),
            "{text:?}"
        );
    }
    let _ = (
        duration::parse(text),
        number::parse_bool(text),
        number::parse_signed(text),
    );
    let _ = (number::parse_unsigned(text, 32), super::log::level(text));
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let file = b"name: m1\ndata-dir: /d\nlisten-client-urls: http://localhost:2379\nelection-timeout: 1000\n\
        client-transport-security:\n  cert-file: a\n  client-cert-auth: true\nlog-outputs: [stderr]\nself-signed-cert-validity: 1\n\
        initial-cluster: m1=http://a:1,m2=http://b:2\nfeature-gates: X=true\nauto-compaction-retention: \"1\"\n";
    let texts: [&[u8]; 7] = [
        b"http://127.0.0.1:2379,https://[::1]:2380",
        b"unix://localhost:1",
        b"http://user:pw@host:1/p%20q?x=y#z",
        b"1h2m3.5s4ms5us6ns",
        b"-2562047h47m16.854775808s",
        b"18446744073709551615",
        b"TRUE",
    ];
    let mut seeds = vec![[&[0], &file[..]].concat()];
    seeds.extend(texts.iter().map(|text| [&[1], *text].concat()));
    seeds
}

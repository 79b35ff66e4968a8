//! Pieces of text in Go's notation: quoted strings, sizes, durations, tables.

use std::time::Duration;

use bytes::Bytes;

/// Bytes between double quotes, as Go's `%q` writes them.
pub(super) fn quoted(bytes: &[u8]) -> String {
    let mut text = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' => text.push_str("\\\""),
                '\\' => text.push_str("\\\\"),
                '\n' => text.push_str("\\n"),
                '\t' => text.push_str("\\t"),
                '\r' => text.push_str("\\r"),
                '\u{7}' => text.push_str("\\a"),
                '\u{8}' => text.push_str("\\b"),
                '\u{b}' => text.push_str("\\v"),
                '\u{c}' => text.push_str("\\f"),
                c if (c as u32) < 0x20 || c as u32 == 0x7f => text.push_str(&format!("\\x{:02x}", c as u32)),
                c if c.is_control() => text.push_str(&format!("\\u{:04x}", c as u32)),
                c => text.push(c),
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text.push('"');
    text
}

/// Reads a string in double or back quotes at the start of `text`; gives it and the rest.
pub(super) fn unquote(text: &str) -> Option<(Vec<u8>, &str)> {
    if let Some(rest) = text.strip_prefix('`') {
        let (raw, rest) = rest.split_once('`')?;
        return Some((raw.as_bytes().to_vec(), rest));
    }
    let mut rest = text.strip_prefix('"')?;
    let mut bytes = Vec::new();
    loop {
        let c = rest.chars().next()?;
        rest = &rest[c.len_utf8()..];
        match c {
            '"' => return Some((bytes, rest)),
            '\\' => rest = unescape(rest, &mut bytes)?,
            c => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// Reads what follows a backslash.
fn unescape<'a>(text: &'a str, bytes: &mut Vec<u8>) -> Option<&'a str> {
    let c = text.chars().next()?;
    let simple = match c {
        'a' => Some(7),
        'b' => Some(8),
        'f' => Some(12),
        'n' => Some(b'\n'),
        'r' => Some(b'\r'),
        't' => Some(b'\t'),
        'v' => Some(11),
        '\\' | '"' | '\'' => Some(c as u8),
        _ => None,
    };
    if let Some(byte) = simple {
        bytes.push(byte);
        return text.get(1..);
    }
    let (digits, radix, from) = match c {
        'x' => (2, 16, 1),
        'u' => (4, 16, 1),
        'U' => (8, 16, 1),
        '0'..='7' => (3, 8, 0),
        _ => return None,
    };
    let number = u32::from_str_radix(text.get(from..from + digits)?, radix).ok()?;
    match c {
        'u' | 'U' => bytes.extend_from_slice(char::from_u32(number)?.encode_utf8(&mut [0; 4]).as_bytes()),
        _ => bytes.push(u8::try_from(number).ok()?),
    }
    text.get(from + digits..)
}

/// Bytes as `--hex` shows them.
pub(super) fn hex(bytes: &[u8]) -> Bytes {
    bytes
        .iter()
        .map(|byte| format!("\\x{byte:02x}"))
        .collect::<String>()
        .into()
}

/// A number of bytes with a decimal unit and two digits.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 10 {
        return format!("{bytes} B");
    }
    let mut unit = 0;
    let mut scale = 1_u64;
    while unit + 1 < UNITS.len() && bytes / scale >= 1000 {
        scale *= 1000;
        unit += 1;
    }
    let value = (bytes as f64 / scale as f64 * 10.0 + 0.5).floor() / 10.0;
    if value < 10.0 {
        format!("{value:.1} {}", UNITS[unit])
    } else {
        format!("{value:.0} {}", UNITS[unit])
    }
}

/// A duration as Go prints it.
pub(super) fn duration(duration: Duration) -> String {
    let fraction = |whole: u128, part: u128, digits: usize, unit: &str| {
        let part = format!("{part:0digits$}");
        match part.trim_end_matches('0') {
            "" => format!("{whole}{unit}"),
            part => format!("{whole}.{part}{unit}"),
        }
    };
    let ns = duration.as_nanos();
    match ns {
        0 => "0s".to_owned(),
        1..1_000 => format!("{ns}ns"),
        1_000..1_000_000 => fraction(ns / 1_000, ns % 1_000, 3, "µs"),
        1_000_000..1_000_000_000 => fraction(ns / 1_000_000, ns % 1_000_000, 6, "ms"),
        _ => {
            let (minutes, rest) = (ns / 60_000_000_000, ns % 60_000_000_000);
            let seconds = fraction(rest / 1_000_000_000, rest % 1_000_000_000, 9, "s");
            match (minutes / 60, minutes % 60) {
                (0, 0) => seconds,
                (0, minutes) => format!("{minutes}m{seconds}"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
            }
        }
    }
}

/// A table as etcdctl 3.7 draws it: titles in the middle, cells to the right.
pub(crate) fn table(titles: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows
            .iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count());
        cells.chain([titles[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..titles.len()).map(width).collect();
    let rule = |left: &str, middle: &str, right: &str| {
        let bars: Vec<String> = widths.iter().map(|width| "─".repeat(width + 2)).collect();
        format!("{left}{}{right}\n", bars.join(middle))
    };
    let mut text = rule("┌", "┬", "┐");
    let titles: Vec<String> = titles
        .iter()
        .zip(&widths)
        .map(|(title, &width)| format!(" {title:^width$} "))
        .collect();
    text.push_str(&format!("│{}│\n", titles.join("│")));
    text.push_str(&rule("├", "┼", "┤"));
    for row in rows {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, &width)| format!(" {cell:>width$} "))
            .collect();
        text.push_str(&format!("│{}│\n", cells.join("│")));
    }
    text.push_str(&rule("└", "┴", "┘"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting_is_gos_and_comes_back() {
        for (bytes, text) in [
            (&b"foo"[..], r#""foo""#),
            (b"a\"b\\\n", r#""a\"b\\\n""#),
            (b"\x01\xff\x7f", r#""\x01\xff\x7f""#),
            ("ü".as_bytes(), r#""ü""#),
        ] {
            assert_eq!(quoted(bytes), text);
            assert_eq!(unquote(text), Some((bytes.to_vec(), "")));
        }
        assert_eq!(unquote("`a\\n` x"), Some((b"a\\n".to_vec(), " x")));
        assert_eq!(
            unquote(r#""\101\u00fc" b"#),
            Some(("Aü".as_bytes().to_vec(), " b"))
        );
        assert_eq!(
            (unquote("abc"), unquote("\"abc"), unquote(r#""\q""#)),
            (None, None, None)
        );
    }

    #[test]
    fn sizes_and_durations_are_gos() {
        for (bytes, text) in [
            (5, "5 B"),
            (999, "999 B"),
            (4096, "4.1 kB"),
            (20480, "20 kB"),
            (16384, "16 kB"),
            (2 << 30, "2.1 GB"),
        ] {
            assert_eq!(size(bytes), text);
        }
        for (ns, text) in [
            (0, "0s"),
            (5, "5ns"),
            (898_651, "898.651µs"),
            (5_154_287, "5.154287ms"),
            (1_000_666_229, "1.000666229s"),
            (90_000_000_000, "1m30s"),
            (3_600_000_000_000, "1h0m0s"),
        ] {
            assert_eq!(duration(Duration::from_nanos(ns)), text);
        }
    }

    #[test]
    fn tables_are_drawn_as_etcdctls() {
        let rows = [
            vec!["127.0.0.1:39971".to_owned(), "true".to_owned()],
            vec!["a:1".to_owned(), "false".to_owned()],
        ];
        assert_eq!(
            table(&["ENDPOINT", "HEALTH"], &rows),
            "┌─────────────────┬────────┐\n\
             │    ENDPOINT     │ HEALTH │\n\
             ├─────────────────┼────────┤\n\
             │ 127.0.0.1:39971 │   true │\n\
             │             a:1 │  false │\n\
             └─────────────────┴────────┘\n"
        );
    }
}

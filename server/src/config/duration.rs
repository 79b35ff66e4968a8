//! Durations in Go's notation (`10s`, `1h30m`, `100ms`), as flags and `ctl` take them and log lines show them.

use std::time::Duration;

/// Why a text is no duration; the texts are Go's.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum DurationError {
    #[error("time: invalid duration {0:?}")]
    Invalid(String),
    #[error("time: missing unit in duration {0:?}")]
    NoUnit(String),
    #[error("time: unknown unit {0:?} in duration {1:?}")]
    Unit(String, String),
}

/// Reads one; `None` if it is malformed or negative. `0` needs no unit.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let nanos = parse_nanos(text).ok()?;
    u64::try_from(nanos).ok().map(Duration::from_nanos)
}

/// Reads one with its sign, in nanoseconds, by the rules of Go's `time.ParseDuration`.
pub(crate) fn parse_nanos(text: &str) -> Result<i64, DurationError> {
    let invalid = || DurationError::Invalid(text.to_owned());
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total = 0_u64;
    while !rest.is_empty() {
        let (part, tail) = parse_part(rest, text)?;
        total = total
            .checked_add(part)
            .filter(|&sum| sum <= NANOS_MAX)
            .ok_or_else(invalid)?;
        rest = tail;
    }
    match negative {
        true => Ok(0_i64.wrapping_sub_unsigned(total)),
        false => i64::try_from(total).map_err(|_| invalid()),
    }
}

/// Reads a number with its unit from the front of `rest`; gives nanoseconds and what is left.
fn parse_part<'a>(rest: &'a str, whole: &str) -> Result<(u64, &'a str), DurationError> {
    let invalid = || DurationError::Invalid(whole.to_owned());
    let is_number = |c: char| c.is_ascii_digit() || c == '.';
    let digits = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (integer, tail) = rest.split_at(digits(rest));
    let (fraction, tail) = match tail.strip_prefix('.') {
        Some(tail) => tail.split_at(digits(tail)),
        None => ("", tail),
    };
    if integer.is_empty() && fraction.is_empty() {
        return Err(invalid());
    }
    let (unit, tail) = tail.split_at(tail.find(is_number).unwrap_or(tail.len()));
    if unit.is_empty() {
        return Err(DurationError::NoUnit(whole.to_owned()));
    }
    let unit_nanos =
        unit_nanos(unit).ok_or_else(|| DurationError::Unit(unit.to_owned(), whole.to_owned()))?;
    let integer = match integer {
        "" => 0,
        digits => digits.parse::<u64>().map_err(|_| invalid())?,
    };
    let mut nanos = integer
        .checked_mul(unit_nanos)
        .filter(|&nanos| nanos <= NANOS_MAX)
        .ok_or_else(invalid)?;
    // At most one unit: an hour has 3.6e12 nanoseconds.
    nanos += fraction_nanos(fraction, unit_nanos);
    Ok((nanos, tail))
}

/// The digits after the point, in nanoseconds. Rounded where Go rounds, which is exact for what [`format_nanos`] writes;
/// the number read as a whole is not: of 0.004008006 s it made a nanosecond less. Digits that no longer count are passed
/// over.
fn fraction_nanos(digits: &str, unit_nanos: u64) -> u64 {
    let (mut value, mut scale) = (0_u64, 1.0_f64);
    for digit in digits.bytes() {
        if value > (NANOS_MAX - 1) / 10 {
            break;
        }
        let longer = value * 10 + u64::from(digit - b'0');
        if longer > NANOS_MAX {
            break;
        }
        value = longer;
        scale *= 10.0;
    }
    (value as f64 * (unit_nanos as f64 / scale)) as u64
}

fn unit_nanos(unit: &str) -> Option<u64> {
    Some(match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

/// Writes nanoseconds as Go does: `1h0m0s`, `1.5s`, `300ms`, `0s`.
pub(crate) fn format_nanos(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let nanos = nanos.unsigned_abs();
    let with_fraction = |unit_nanos: u64, unit: &str| {
        let (whole, part) = (nanos / unit_nanos, nanos % unit_nanos);
        format!("{sign}{whole}{}{unit}", fraction(part, unit_nanos))
    };
    match nanos {
        0 => "0s".to_owned(),
        1..1_000 => format!("{sign}{nanos}ns"),
        1_000..1_000_000 => with_fraction(1_000, "µs"),
        1_000_000..1_000_000_000 => with_fraction(1_000_000, "ms"),
        _ => {
            let (seconds, part) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
            let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
            let mut text = sign.to_owned();
            if hours > 0 {
                text.push_str(&format!("{hours}h"));
            }
            if hours > 0 || minutes > 0 {
                text.push_str(&format!("{minutes}m"));
            }
            text.push_str(&format!("{}{}s", seconds % 60, fraction(part, 1_000_000_000)));
            text
        }
    }
}

/// `.5` for 500 of 1000; nothing for 0.
fn fraction(part: u64, whole: u64) -> String {
    if part == 0 {
        return String::new();
    }
    let width = whole.ilog10() as usize;
    let digits = format!("{part:0width$}");
    format!(".{}", digits.trim_end_matches('0'))
}

/// The length of the longest duration in either direction.
const NANOS_MAX: u64 = 1 << 63;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gos_notation_is_read() {
        let cases = [
            ("10s", Some(10_000)),
            ("1h30m", Some(5_400_000)),
            ("100ms", Some(100)),
            ("1.5s", Some(1500)),
            (".5s", Some(500)),
            ("0", Some(0)),
            ("0s", Some(0)),
            ("5", None),
            ("", None),
            ("-1s", None),
            ("s", None),
            (".s", None),
            ("1x", None),
            ("1e3s", None),
            ("9999999h", None),
        ];
        for (text, millis) in cases {
            assert_eq!(parse(text), millis.map(Duration::from_millis), "{text}");
        }
        assert_eq!(parse_nanos("-1.5s"), Ok(-1_500_000_000));
        assert_eq!(parse_nanos("1h2m3.us4ms5us6ns"), Ok(3_720_004_008_006));
        assert_eq!(parse_nanos("1h2m0.004008006s"), Ok(3_720_004_008_006));
        assert_eq!(
            parse_nanos("0.33333333333333333333333333h"),
            Ok(1_200_000_000_000)
        );
        for nanos in (0..1_000_000_000).step_by(999_983) {
            assert_eq!(parse_nanos(&format_nanos(nanos)), Ok(nanos));
        }
    }

    #[test]
    fn what_is_malformed_is_named_in_gos_words() {
        for (text, message) in [
            ("abc", "time: invalid duration \"abc\""),
            ("", "time: invalid duration \"\""),
            ("-5", "time: missing unit in duration \"-5\""),
            ("1x", "time: unknown unit \"x\" in duration \"1x\""),
        ] {
            assert_eq!(parse_nanos(text).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn durations_are_written_as_go_does() {
        for text in [
            "0s",
            "1ns",
            "1.5µs",
            "300ms",
            "1.5s",
            "1m0s",
            "1h0m0s",
            "1h30m0.5s",
            "-1s",
            "7s",
        ] {
            assert_eq!(format_nanos(parse_nanos(text).unwrap()), text);
        }
    }
}

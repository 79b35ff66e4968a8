//! Values that look one way in JSON and another on the wire: times and amounts.

use jiff::Timestamp;

/// Seconds and nanoseconds as JSON has a time: to the second.
pub(super) fn time_text(seconds: i64) -> Option<String> {
    Timestamp::from_second(seconds).ok().map(|time| time.to_string())
}

/// Seconds and nanoseconds as JSON has a time of microseconds.
pub(super) fn micro_time_text(seconds: i64, nanos: i32) -> Option<String> {
    let time = Timestamp::new(seconds, nanos / NANOS_OF_MICRO * NANOS_OF_MICRO).ok()?;
    Some(format!("{time:.6}"))
}

/// What a text says of time, with its offset from UTC.
pub(super) fn read_time(text: &str) -> Option<Timestamp> {
    // Other notations of a time that would be read here are none of RFC 3339.
    let plain = |byte: u8| byte.is_ascii_digit() || b"-+:.TZ".contains(&byte);
    text.bytes().all(plain).then_some(())?;
    text.get(10..11).filter(|separator| *separator == "T")?;
    text.parse().ok()
}

/// A time to the second, as it is on the wire.
pub(super) fn floor_second(time: Timestamp) -> i64 {
    // A time before 1970 counts its nanoseconds down from the second after it.
    time.as_second() - i64::from(time.subsec_nanosecond() < 0)
}

/// A time as seconds and the nanoseconds of whole microseconds after them.
pub(super) fn floor_micro(time: Timestamp) -> (i64, i32) {
    let seconds = floor_second(time);
    let nanos = match time.subsec_nanosecond() {
        before if before < 0 => before + NANOS_OF_SECOND,
        after => after,
    };
    (seconds, nanos / NANOS_OF_MICRO * NANOS_OF_MICRO)
}

/// How fine an amount may be.
#[derive(Clone, Copy)]
pub(super) enum Finest {
    /// Any amount.
    Billionth = -9,
    /// An amount in a list of resources.
    Thousandth = -3,
}

/// An amount in the form in which the API has it: no fraction, the largest suffix that loses nothing, rounded up where it is
/// too fine. `None` if the text is no amount. A decimal suffix without a number is 0, as Go reads it.
pub(super) fn canonical_quantity(text: &str, finest: Finest) -> Option<String> {
    let (number, suffix) = split_suffix(text.trim());
    let (negative, number) = match number.strip_prefix('-') {
        Some(number) => (true, number),
        None => (false, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if text.trim().is_empty() || text.len() > QUANTITY_BYTES_MAX || !digits(whole) || !digits(fraction) {
        return None;
    }
    let fraction = fraction.trim_end_matches('0');
    let mantissa = format!("{whole}{fraction}");
    let mantissa = mantissa.trim_start_matches('0');
    let scale = -i32::try_from(fraction.len()).ok()?;
    let text = match (mantissa, Suffix::read(suffix)?) {
        ("", Suffix::Binary(_)) if number.is_empty() => return None,
        ("", _) => return Some("0".to_owned()),
        (_, Suffix::Binary(power)) => {
            binary(mantissa, scale, power, finest).unwrap_or_else(|| LARGEST_QUANTITY.to_owned())
        }
        (_, Suffix::Decimal(exponent)) => decimal(mantissa, scale + exponent, false, finest)?,
        (_, Suffix::Exponent(exponent)) => decimal(mantissa, scale + exponent, true, finest)?,
    };
    Some(if negative { format!("-{text}") } else { text })
}

/// How an amount says its magnitude.
enum Suffix {
    /// A power of 1024.
    Binary(u32),
    /// A power of ten as a letter.
    Decimal(i32),
    /// A power of ten behind an `e`.
    Exponent(i32),
}

impl Suffix {
    fn read(text: &str) -> Option<Suffix> {
        if let Some((_, power)) = BINARY.iter().find(|(suffix, _)| *suffix == text) {
            return Some(Suffix::Binary(*power));
        }
        if let Some((_, exponent)) = DECIMAL.iter().find(|(suffix, _)| *suffix == text) {
            return Some(Suffix::Decimal(*exponent));
        }
        let exponent: i32 = text.strip_prefix(['e', 'E'])?.parse().ok()?;
        (exponent.abs() <= EXPONENT_MAX).then_some(Suffix::Exponent(exponent))
    }
}

/// The number, and the suffix behind it.
fn split_suffix(text: &str) -> (&str, &str) {
    let end = text
        .find(|letter: char| letter.is_ascii_alphabetic())
        .unwrap_or(text.len());
    text.split_at(end)
}

/// `mantissa * 10^scale * 1024^power` in powers of 1024; in those of ten if it is small or no whole number. `None` if it is
/// too large.
fn binary(mantissa: &str, scale: i32, power: u32, finest: Finest) -> Option<String> {
    let mantissa: u128 = mantissa.parse().ok()?;
    let scaled = mantissa.checked_mul(1024_u128.checked_pow(power)?)?;
    let divisor = 10_u128.checked_pow(scale.unsigned_abs())?;
    let mut value = scaled / divisor;
    if scaled % divisor != 0 || value < 1024 {
        return decimal(&scaled.to_string(), scale, false, finest);
    }
    i64::try_from(value).ok()?;
    let mut power = 0;
    while value % 1024 == 0 && power < BINARY.len() {
        value /= 1024;
        power += 1;
    }
    let suffix = power.checked_sub(1).map_or("", |at| BINARY[at].0);
    Some(format!("{value}{suffix}"))
}

/// `mantissa * 10^scale` with a suffix for a multiple of three as the power of ten.
fn decimal(mantissa: &str, scale: i32, as_exponent: bool, finest: Finest) -> Option<String> {
    let limit = finest as i32;
    if scale < limit {
        let cut = usize::try_from(limit - scale).ok()?;
        let (kept, dropped) = mantissa.split_at(mantissa.len().saturating_sub(cut));
        let kept: u128 = if kept.is_empty() { 0 } else { kept.parse().ok()? };
        let up = u128::from(dropped.bytes().any(|digit| digit != b'0'));
        return decimal(&kept.checked_add(up)?.to_string(), limit, as_exponent, finest);
    }
    let digits = mantissa.trim_end_matches('0');
    let mut scale = scale + i32::try_from(mantissa.len() - digits.len()).ok()?;
    let mut digits = digits.to_owned();
    while scale % 3 != 0 {
        digits.push('0');
        scale -= 1;
    }
    while scale > LARGEST && !as_exponent {
        digits.push_str("000");
        scale -= 3;
    }
    match scale {
        0 => Some(digits),
        scale if as_exponent => Some(format!("{digits}e{scale}")),
        scale => {
            let (suffix, _) = DECIMAL.iter().find(|(_, exponent)| *exponent == scale)?;
            Some(format!("{digits}{suffix}"))
        }
    }
}

const BINARY: &[(&str, u32)] = &[("Ki", 1), ("Mi", 2), ("Gi", 3), ("Ti", 4), ("Pi", 5), ("Ei", 6)];
const DECIMAL: &[(&str, i32)] = &[
    ("n", -9),
    ("u", -6),
    ("m", -3),
    ("", 0),
    ("k", 3),
    ("M", 6),
    ("G", 9),
    ("T", 12),
    ("P", 15),
    ("E", 18),
];

/// What is larger in powers of 1024 is this.
const LARGEST_QUANTITY: &str = "9223372036854775807";

/// Longer texts are no amounts.
const QUANTITY_BYTES_MAX: usize = 64;

/// That of the largest suffix.
const LARGEST: i32 = 18;

/// Larger powers of ten are no amounts of anything.
const EXPONENT_MAX: i32 = 30;

const NANOS_OF_MICRO: i32 = 1_000;
const NANOS_OF_SECOND: i32 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    /// As the API writes them.
    #[test]
    fn amounts_have_one_form() {
        for (given, canonical) in [
            ("0", "0"),
            ("0.0Mi", "0"),
            ("-0", "0"),
            ("1", "1"),
            ("100m", "100m"),
            ("1000m", "1"),
            ("1500m", "1500m"),
            ("0.5", "500m"),
            ("1.5", "1500m"),
            (".5", "500m"),
            ("2.", "2"),
            ("1.5Gi", "1536Mi"),
            ("1024Mi", "1Gi"),
            ("1024", "1024"),
            ("1000", "1k"),
            ("1000000", "1M"),
            ("1500000", "1500k"),
            ("500Mi", "500Mi"),
            ("0.5Ki", "512"),
            ("0.0005Ki", "512m"),
            ("0.9765625Ki", "1k"),
            ("1.0001Ki", "1024103m"),
            ("100E", "100E"),
            ("8Ei", "9223372036854775807"),
            ("7Ei", "7Ei"),
            ("-9Ei", "-9223372036854775807"),
            ("m", "0"),
            ("-k", "0"),
            ("1e3", "1e3"),
            ("12e2", "1200"),
            ("1E6", "1e6"),
            ("9E", "9E"),
            ("-250m", "-250m"),
            ("+3k", "3k"),
            ("1n", "1m"),
            ("999999u", "1"),
            ("1.0001", "1001m"),
            ("250u", "1m"),
            ("6606238P", "6606238P"),
        ] {
            let read = canonical_quantity(given, Finest::Thousandth);
            assert_eq!(read.as_deref(), Some(canonical), "{given}");
        }
        for (given, canonical) in [
            ("1n", "1n"),
            ("0.1n", "1n"),
            ("1.1n", "2n"),
            ("250u", "250u"),
            ("0.5", "500m"),
        ] {
            let read = canonical_quantity(given, Finest::Billionth);
            assert_eq!(read.as_deref(), Some(canonical), "{given}");
        }
        for odd in [
            "",
            " ",
            "1x",
            "1 Gi",
            "1.2.3",
            "0x10",
            "1e",
            "1e99",
            "--1",
            "1KiB",
            "Ki",
            // Rounded up it is one more than is counted with.
            "340282366920938463463374607431.7682114551",
        ] {
            assert_eq!(canonical_quantity(odd, Finest::Billionth), None, "{odd}");
        }
    }

    #[test]
    fn times_are_read_and_written() {
        let time = read_time("2024-05-06T09:08:07.123456789+02:00").unwrap();
        assert_eq!(time_text(floor_second(time)).unwrap(), "2024-05-06T07:08:07Z");
        let (seconds, nanos) = floor_micro(time);
        assert_eq!(
            micro_time_text(seconds, nanos).unwrap(),
            "2024-05-06T07:08:07.123456Z"
        );
        let before = read_time("1969-12-31T23:59:59.25Z").unwrap();
        assert_eq!(floor_micro(before), (-1, 250_000_000));
        assert_eq!(
            micro_time_text(-1, 250_000_000).unwrap(),
            "1969-12-31T23:59:59.250000Z"
        );
        for (given, canonical) in [
            ("1n", "1n"),
            ("0.1n", "1n"),
            ("1.1n", "2n"),
            ("250u", "250u"),
            ("0.5", "500m"),
        ] {
            let read = canonical_quantity(given, Finest::Billionth);
            assert_eq!(read.as_deref(), Some(canonical), "{given}");
        }
        for odd in [
            "",
            "yesterday",
            "2024-05-06",
            "2024-05-06T07:08:07",
            "2024-05-06 07:08:07Z",
        ] {
            assert!(read_time(odd).is_none(), "{odd}");
        }
        assert!(time_text(i64::MAX).is_none());
    }
}

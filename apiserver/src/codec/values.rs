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

/// An amount in the form in which the API writes it: no fraction, the largest suffix that loses nothing. `None` if the text
/// is no amount. What is finer than a billionth is rounded up.
pub(super) fn canonical_quantity(text: &str) -> Option<String> {
    let (number, suffix) = split_suffix(text.trim());
    let (negative, number) = match number.as_bytes().first()? {
        b'-' => (true, &number[1..]),
        b'+' => (false, &number[1..]),
        _ => (false, number),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.len() + fraction.len() == 0 || !digits(whole) || !digits(fraction) {
        return None;
    }
    let fraction = fraction.trim_end_matches('0');
    let mantissa = format!("{whole}{fraction}");
    let mantissa = mantissa.trim_start_matches('0');
    let scale = -i32::try_from(fraction.len()).ok()?;
    let text = match (mantissa, Suffix::read(suffix)?) {
        ("", _) => return Some("0".to_owned()),
        (_, Suffix::Binary(power)) => binary(mantissa.parse().ok()?, scale, power)?,
        (_, Suffix::Decimal(exponent)) => decimal(mantissa, scale + exponent, false)?,
        (_, Suffix::Exponent(exponent)) => decimal(mantissa, scale.checked_add(exponent)?, true)?,
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

/// `mantissa * 10^scale * 1024^power` in powers of 1024, or in thousandths and the like where it is no whole number.
fn binary(mantissa: u128, scale: i32, power: u32) -> Option<String> {
    let scaled = mantissa.checked_mul(1024_u128.checked_pow(power)?)?;
    let divisor = 10_u128.checked_pow(scale.unsigned_abs())?;
    if scaled % divisor != 0 {
        return decimal(&scaled.to_string(), scale, false);
    }
    let mut value = scaled / divisor;
    if value < 1024 {
        return Some(value.to_string());
    }
    let mut power = 0;
    while value % 1024 == 0 && power + 1 < BINARY.len() {
        value /= 1024;
        power += 1;
    }
    let suffix = power.checked_sub(1).map_or("", |at| BINARY[at].0);
    Some(format!("{value}{suffix}"))
}

/// `mantissa * 10^scale` with a suffix for a multiple of three as the power of ten.
fn decimal(mantissa: &str, scale: i32, as_exponent: bool) -> Option<String> {
    let digits = mantissa.trim_end_matches('0');
    let mut scale = scale.checked_add(i32::try_from(mantissa.len() - digits.len()).ok()?)?;
    let mut digits = digits.to_owned();
    if scale < FINEST {
        // Too fine: up to the next billionth.
        let cut = usize::try_from(FINEST - scale).ok()?;
        let kept: u128 = digits
            .get(..digits.len().saturating_sub(cut))?
            .parse()
            .unwrap_or(0);
        return decimal(&(kept + 1).to_string(), FINEST, as_exponent);
    }
    while scale % 3 != 0 {
        digits.push('0');
        scale -= 1;
    }
    let largest = if as_exponent { i32::MAX } else { LARGEST };
    while scale > largest {
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

/// The power of ten of the finest amount there is.
const FINEST: i32 = -9;

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
            ("1e3", "1e3"),
            ("12e2", "1200"),
            ("1E6", "1e6"),
            ("100E", "100E"),
            ("-250m", "-250m"),
            ("+3k", "3k"),
            ("1n", "1n"),
            ("0.1n", "1n"),
            ("1.1n", "2n"),
            ("250u", "250u"),
        ] {
            assert_eq!(canonical_quantity(given).as_deref(), Some(canonical), "{given}");
        }
        for odd in [
            "", "m", "-", "1x", "1 Gi", "1.2.3", "0x10", "1e", "1e99", "Gi", "1KiB",
        ] {
            assert_eq!(canonical_quantity(odd), None, "{odd}");
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

//! Quantities: `500m`, `1Gi`, `1.5`, `2e3`.

/// The value of a quantity in billionths, if it is one that fits.
#[must_use]
pub fn nanos(text: &str) -> Option<i128> {
    let (sign, rest) = match text.as_bytes().first()? {
        b'-' => (-1, &text[1..]),
        b'+' => (1, &text[1..]),
        _ => (1, text),
    };
    let end = rest
        .find(|character: char| !character.is_ascii_digit() && character != '.')
        .unwrap_or(rest.len());
    let (number, suffix) = rest.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    // The digits as one whole number, and how many of them stand behind the point.
    let digits = format!("{whole}{fraction}");
    let value: i128 = digits.parse().ok()?;
    let scaled = value.checked_mul(suffix_nanos(suffix)?)?;
    let divisor = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    // What is smaller than a billionth is rounded up, as the original does.
    let rounded = scaled / divisor + i128::from(scaled % divisor != 0);
    Some(sign * rounded)
}

/// What one of these is in billionths.
fn suffix_nanos(suffix: &str) -> Option<i128> {
    let power = |base: i128, exponent: u32| base.checked_pow(exponent)?.checked_mul(1_000_000_000);
    match suffix {
        "" => power(10, 0),
        "n" => Some(1),
        "u" => Some(1_000),
        "m" => Some(1_000_000),
        "k" => power(10, 3),
        "M" => power(10, 6),
        "G" => power(10, 9),
        "T" => power(10, 12),
        "P" => power(10, 15),
        "E" => power(10, 18),
        "Ki" => power(1024, 1),
        "Mi" => power(1024, 2),
        "Gi" => power(1024, 3),
        "Ti" => power(1024, 4),
        "Pi" => power(1024, 5),
        "Ei" => power(1024, 6),
        exponent => {
            let exponent: i32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            match u32::try_from(exponent) {
                Ok(exponent) => power(10, exponent),
                Err(_) => 10_i128.checked_pow(u32::try_from(9 + exponent).ok()?),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_compared_as_numbers() {
        for (one, other) in [
            ("1", "1000m"),
            ("0.5", "500m"),
            ("1Gi", "1073741824"),
            ("1k", "1e3"),
            ("1E", "1e18"),
            ("100n", "1e-7"),
            (".5", "500m"),
            ("-1", "-1000m"),
        ] {
            assert_eq!(nanos(one), nanos(other), "{one}");
            assert!(nanos(one).is_some());
        }
        for text in [
            "",
            "-",
            "a",
            "1x",
            "1.2.3",
            "1 Gi",
            "e3",
            "1e",
            "é",
            "99999999999999999999999999999999999999999",
        ] {
            assert_eq!(nanos(text), None, "{text}");
        }
    }
}

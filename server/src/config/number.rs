//! Numbers and booleans in the spellings that Go's `strconv` reads.

/// Why a text is no number of the wanted size.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum NumberError {
    Syntax,
    Range,
}

/// The spellings of a boolean that Go accepts.
pub(super) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// An unsigned number of at most `bits` bits: decimal, or with the prefix `0x`, `0o`, `0` or `0b`, with `_` between
/// digits where there is a prefix.
pub(super) fn parse_unsigned(text: &str, bits: u32) -> Result<u64, NumberError> {
    let (radix, digits, prefixed) = radix(text);
    let digits = without_underscores(digits, prefixed).ok_or(NumberError::Syntax)?;
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return Err(NumberError::Syntax);
    }
    let number = u64::from_str_radix(&digits, radix).map_err(|_| NumberError::Range)?;
    match bits < u64::BITS && number >> bits != 0 {
        true => Err(NumberError::Range),
        false => Ok(number),
    }
}

/// A signed number of 64 bits in the same spellings.
pub(super) fn parse_signed(text: &str) -> Result<i64, NumberError> {
    let (negative, digits) = match text.strip_prefix(['+', '-']) {
        Some(digits) => (text.starts_with('-'), digits),
        None => (false, text),
    };
    let size = parse_unsigned(digits, u64::BITS)?;
    match negative {
        true => 0_i64.checked_sub_unsigned(size),
        false => i64::try_from(size).ok(),
    }
    .ok_or(NumberError::Range)
}

fn radix(text: &str) -> (u32, &str, bool) {
    let lower = text.get(..2).map(str::to_ascii_lowercase);
    match lower.as_deref() {
        Some("0x") => (16, &text[2..], true),
        Some("0b") => (2, &text[2..], true),
        Some("0o") => (8, &text[2..], true),
        Some(two) if two.starts_with('0') => (8, &text[1..], true),
        _ => (10, text, false),
    }
}

/// Go allows single underscores between digits, and after a prefix.
fn without_underscores(digits: &str, prefixed: bool) -> Option<String> {
    if !digits.contains('_') {
        return Some(digits.to_owned());
    }
    let fine = prefixed && !digits.ends_with('_') && !digits.contains("__");
    fine.then(|| digits.replace('_', ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gos_spellings_are_read() {
        for (text, bits, number) in [
            ("10000", 64, Ok(10_000)),
            ("0x10", 64, Ok(16)),
            ("0b11", 64, Ok(3)),
            ("010", 64, Ok(8)),
            ("0o10", 64, Ok(8)),
            ("0x1_0", 64, Ok(16)),
            ("0", 64, Ok(0)),
            ("1_0", 64, Err(NumberError::Syntax)),
            ("0x", 64, Err(NumberError::Syntax)),
            ("", 64, Err(NumberError::Syntax)),
            ("-1", 64, Err(NumberError::Syntax)),
            ("4294967296", 32, Err(NumberError::Range)),
            ("18446744073709551616", 64, Err(NumberError::Range)),
        ] {
            assert_eq!(parse_unsigned(text, bits), number, "{text}");
        }
        for (text, number) in [
            ("-1", Ok(-1)),
            ("+0x10", Ok(16)),
            ("-9223372036854775808", Ok(i64::MIN)),
            ("9223372036854775808", Err(NumberError::Range)),
            ("--1", Err(NumberError::Syntax)),
        ] {
            assert_eq!(parse_signed(text), number, "{text}");
        }
    }
}

//! Durations and sizes as people write them: `500ms`, `10s`, `64MiB`.

use crate::error::{Error, Result};

/// Units of durations in milliseconds, largest first.
const DURATIONS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000), ("ms", 1)];

/// Units of sizes in bytes, largest first.
const SIZES: [(&str, u64); 5] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// Milliseconds of a duration such as `10s`.
///
/// # Errors
/// A config error that says what is wrong and which units there are.
pub fn parse_duration(text: &str) -> Result<u64> {
    parse(text, "duration", &DURATIONS, "ms")
}

/// Bytes of a size such as `64MiB`.
pub(super) fn parse_size(text: &str) -> Result<u64> {
    parse(text, "size", &SIZES, "B")
}

/// A duration in the largest unit that takes a whole number.
pub(super) fn show_duration(ms: u64) -> String {
    show(ms, &DURATIONS, "ms")
}

/// A size in the largest unit that takes a whole number.
pub(super) fn show_size(bytes: u64) -> String {
    show(bytes, &SIZES, "B")
}

fn parse(text: &str, what: &str, units: &[(&str, u64)], smallest: &str) -> Result<u64> {
    let text = text.trim();
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim_start();
    let names: Vec<&str> = units.iter().rev().map(|(name, _)| *name).collect();
    let names = names.join(", ");
    let refuse = |why: &str| Error::config(format!("'{text}' is not a {what}: {why}"));
    if number.is_empty() {
        return Err(refuse("it does not begin with a whole number")
            .hint(format!("write a whole number and a unit out of {names}")));
    }
    if unit.is_empty() {
        return Err(refuse("the unit is missing")
            .hint(format!("write '{text}{smallest}', or another unit out of {names}")));
    }
    let Some((_, factor)) = units.iter().find(|(name, _)| *name == unit) else {
        return Err(refuse(&format!("unknown unit '{unit}'")).hint(format!("the units are {names}")));
    };
    let value = number.parse::<u64>().ok().and_then(|number| number.checked_mul(*factor));
    value.ok_or_else(|| refuse("it is too large"))
}

fn show(value: u64, units: &[(&str, u64)], smallest: &str) -> String {
    match units.iter().find(|(_, factor)| value >= *factor && value.is_multiple_of(*factor)) {
        Some((unit, factor)) => format!("{}{unit}", value / factor),
        None => format!("{value}{smallest}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_and_show() {
        for (text, ms, shown) in [
            ("500ms", 500, "500ms"),
            ("0s", 0, "0ms"),
            ("10 s", 10_000, "10s"),
            ("600s", 600_000, "10min"),
            ("90min", 5_400_000, "90min"),
            ("24h", 86_400_000, "1d"),
        ] {
            assert_eq!(parse_duration(text).unwrap(), ms, "{text}");
            assert_eq!(show_duration(ms), shown);
        }
    }

    #[test]
    fn sizes_read_and_show() {
        for (text, bytes, shown) in
            [("64KiB", 65_536, "64KiB"), ("1024MiB", 1 << 30, "1GiB"), ("3B", 3, "3B")]
        {
            assert_eq!(parse_size(text).unwrap(), bytes, "{text}");
            assert_eq!(show_size(bytes), shown);
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, part) in [
            ("500", "unit is missing (write '500ms'"),
            ("5m", "unknown unit 'm' (the units are ms, s, min, h, d)"),
            ("1.5s", "unknown unit '.5s'"),
            ("-1s", "does not begin with a whole number"),
            ("", "does not begin with a whole number"),
            ("99999999999999999999s", "too large"),
            ("18446744073709551615h", "too large"),
        ] {
            let message = parse_duration(text).unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        }
        assert!(parse_size("64KB").unwrap_err().to_string().contains("the units are B, KiB, MiB, GiB, TiB"));
        assert!(parse_size("64").unwrap_err().to_string().contains("write '64B'"));
    }
}

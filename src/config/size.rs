//! Sizes as people write them.
//!
//! Units are binary and may be upper or lower case: `K`, `M`, `G`, `T`, each also as `KiB` and so
//! on. `GB` is refused, because half of its readers take it for 10^9. Rounding: a whole number is
//! taken exactly; a number with a fraction is rounded down to a whole page, so `1.3G` is usable
//! although it is no whole number of bytes. That a size is a multiple of the page size is checked
//! later (`config::check`), with the key's name in the message.

use crate::units::PAGE_SIZE;

const REMEDY: &str = "write bytes or a number with K, M, G or T, such as 512M or 1.5G";
/// Digits after the point that are read; more could only move the result by less than a byte.
const FRACTION_DIGITS_MAX: usize = 15;

/// Bytes meant by `text`, or one line that says what is wrong with it and what to write.
pub fn parse(text: &str) -> Result<u64, String> {
    let refuse = |why: &str| Err(format!("\"{text}\" is not a size: {why}; {REMEDY}"));
    let trimmed = text.trim();
    if trimmed.is_empty() {
        return refuse("it is empty");
    }
    if trimmed.starts_with('-') {
        return refuse("it is negative");
    }
    let end = trimmed.find(|c: char| c != '.' && !c.is_ascii_digit()).unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(end);
    let Some(shift) = unit_shift(unit.trim_start()) else {
        return refuse(&format!("unknown unit \"{}\"", unit.trim_start()));
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || fraction.contains('.') || number.ends_with('.') {
        return refuse("it does not begin with a number");
    }
    if !fraction.is_empty() && shift == 0 {
        return refuse("there is no fraction of a byte");
    }
    match scaled(whole, fraction, shift) {
        Some(bytes) if fraction.is_empty() => Ok(bytes),
        Some(bytes) => Ok(bytes - bytes % PAGE_SIZE as u64),
        None => refuse("it is too large"),
    }
}

/// `whole.fraction << shift`, or nothing if that is above 64 bits.
fn scaled(whole: &str, fraction: &str, shift: u32) -> Option<u64> {
    let fraction = &fraction[..fraction.len().min(FRACTION_DIGITS_MAX)];
    let whole: u128 = whole.parse::<u64>().ok()?.into();
    let part: u128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let bytes = (whole << shift) + (part << shift) / 10u128.pow(fraction.len() as u32);
    u64::try_from(bytes).ok()
}

/// log2 of a unit.
fn unit_shift(unit: &str) -> Option<u32> {
    match unit.to_ascii_uppercase().as_str() {
        "" | "B" => Some(0),
        "K" | "KIB" => Some(10),
        "M" | "MIB" => Some(20),
        "G" | "GIB" => Some(30),
        "T" | "TIB" => Some(40),
        _ => None,
    }
}

/// `bytes` for a person: the largest unit that leaves at least 1, one decimal, none if it is zero.
pub fn format(bytes: u64) -> String {
    const UNITS: [(u32, char); 4] = [(40, 'T'), (30, 'G'), (20, 'M'), (10, 'K')];
    let Some(&(shift, letter)) = UNITS.iter().find(|(shift, _)| bytes >> shift > 0) else {
        return format!("{bytes}B");
    };
    let tenths = (u128::from(bytes) * 10 + (1 << (shift - 1))) >> shift;
    match (tenths / 10, tenths % 10) {
        (whole, 0) => format!("{whole}{letter}"),
        (whole, tenth) => format!("{whole}.{tenth}{letter}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_binary_in_either_case() {
        for (text, bytes) in [
            ("4096", 4096),
            ("0", 0),
            ("512M", 512 << 20),
            ("512m", 512 << 20),
            ("8G", 8 << 30),
            ("1.5G", 3 << 29),
            ("2GiB", 2 << 30),
            ("2 gib", 2 << 30),
            ("16T", 16 << 40),
            ("4K", 4096),
            ("4096B", 4096),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn fractions_round_down_to_a_page() {
        let bytes = parse("1.3G").expect("a size");
        assert_eq!(bytes % 4096, 0);
        assert!(bytes <= (13 << 30) / 10 && (13 << 30) / 10 - bytes < 4096);
        assert_eq!(parse("0.1K"), Ok(0));
        assert_eq!(parse("1.00000000000000000000000000001G"), Ok(1 << 30));
    }

    #[test]
    fn nonsense_is_refused_with_a_remedy() {
        let bad = [
            "",
            " ",
            "-1G",
            "1.5Q",
            "G",
            ".5G",
            "1.G",
            "1..5G",
            "1.5",
            "8GB",
            "0x10",
            "1e9",
            "8 G G",
            "99999999999T",
            "18446744073709551616",
            "\u{663}G",
        ];
        for text in bad {
            let error = parse(text).expect_err(text);
            assert!(error.contains("; write"), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn format_is_short() {
        for (bytes, text) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1K"),
            (8 << 30, "8G"),
            (3 << 29, "1.5G"),
            (391 << 20, "391M"),
            (u64::MAX, "16777216T"),
        ] {
            assert_eq!(format(bytes), text);
        }
    }

    #[test]
    fn format_reads_back_close_to_the_value() {
        for bytes in [4096u64, 5 << 20, 123 << 20, (7 << 30) + 4096, 15 << 40] {
            let back = parse(&format(bytes)).expect("own output");
            assert!(back.abs_diff(bytes) <= bytes / 10, "{bytes} {back}");
        }
    }
}

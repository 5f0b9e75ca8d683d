//! Sizes in a file or a flag: bytes, or a part of the machine's RAM.
//!
//! `"50%"` is half of RAM. An expression has sizes (`8G`), plain numbers, `ram`, percentages (of
//! RAM), `+ - * /`, parentheses, `min(a, b, ...)` and `max(a, b, ...)`. Its result is rounded down
//! to a whole page.

use super::load::Keys;
use super::size;
use crate::error::{StartError, StartResult};
use crate::units::PAGE_SIZE;
use serde::de::{Deserializer, Error, Visitor};
use std::fmt;

const REMEDY: &str = "write a size such as 8G, a part of RAM such as 50%, or min(ram/2, 8G)";
/// RAM of the machine on which an expression is tried when it is read: only for its form, as what
/// comes out depends on the machine.
const TRIAL_RAM: u64 = 16 << 30;
/// Deepest nesting of parentheses.
const DEPTH_MAX: u32 = 32;

/// A size that may depend on RAM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bytes {
    /// So many.
    Exact(u64),
    /// What comes out of this expression, which has been read once.
    Of(String),
}

impl Bytes {
    /// The size that `text` says, or one line with what is wrong and what to write.
    pub fn parse(text: &str) -> Result<Self, String> {
        let trimmed = text.trim();
        let words = ["ram", "min", "max"];
        let lower = trimmed.to_ascii_lowercase();
        let is_expression = trimmed.contains(['%', '(', '+', '*', '/'])
            || trimmed.trim_start_matches('-').contains('-')
            || words.iter().any(|word| lower.contains(word));
        if !is_expression {
            return size::parse(text).map(Self::Exact);
        }
        calculate(trimmed, TRIAL_RAM)?;
        Ok(Self::Of(trimmed.to_owned()))
    }

    /// Bytes on a machine with `ram` bytes.
    pub fn on(&self, ram: u64) -> Result<u64, String> {
        match self {
            Self::Exact(bytes) => Ok(*bytes),
            Self::Of(expression) => evaluate(expression, ram),
        }
    }
}

/// The sizes that were said, in bytes on this machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// Of the device.
    pub size: Option<u64>,
    /// Of the pool.
    pub pool: Option<u64>,
    /// Of staging.
    pub staging: Option<u64>,
    /// Of what is used of the spill's file.
    pub spill_size: Option<u64>,
}

impl Given {
    /// What `keys` say on a machine with `ram` bytes of RAM.
    pub fn on(ram: u64, keys: &Keys) -> StartResult<Self> {
        let one = |key: &str, bytes: &Option<Bytes>| {
            let on = |bytes: &Bytes| {
                bytes.on(ram).map_err(|e| {
                    let (what, remedy) = e.split_once("; ").unwrap_or((&e, "use another size"));
                    StartError::usage(format!("{key}: {what}"), remedy)
                })
            };
            bytes.as_ref().map(on).transpose()
        };
        Ok(Self {
            size: one("size", &keys.size)?,
            pool: one("pool", &keys.pool)?,
            staging: one("staging", &keys.staging)?,
            spill_size: one("spill-size", &keys.spill_size)?,
        })
    }

    /// Whether one was said that takes memory.
    pub fn any(&self) -> bool {
        [self.size, self.pool, self.staging].iter().any(Option::is_some)
    }
}

struct BytesVisitor;

impl Visitor<'_> for BytesVisitor {
    type Value = Bytes;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a size such as \"8G\" or \"50%\"")
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Bytes, E> {
        size::parse(&value.to_string()).map(Bytes::Exact).map_err(E::custom)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Bytes, E> {
        Bytes::parse(text).map_err(E::custom)
    }
}

impl<'de> serde::Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(BytesVisitor)
    }
}

fn refuse(text: &str, why: &str) -> String {
    format!("\"{text}\" is not a size: {why}; {REMEDY}")
}

/// What comes out, whatever it is.
fn calculate(text: &str, ram: u64) -> Result<f64, String> {
    let mut reader = Reader { rest: text, ram: ram as f64, depth: 0 };
    let bytes = reader.sum().map_err(|why| refuse(text, &why))?;
    let rest = reader.rest.trim();
    let whole = Some(bytes).filter(|_| rest.is_empty());
    whole.ok_or_else(|| refuse(text, &format!("\"{rest}\" is one word too many")))
}

fn evaluate(text: &str, ram: u64) -> Result<u64, String> {
    let bytes = calculate(text, ram)?;
    // Also false for what is no number.
    if !(0.0..18e18).contains(&bytes) {
        return Err(refuse(text, "it comes out below zero or too large"));
    }
    let bytes = bytes as u64;
    Ok(bytes - bytes % PAGE_SIZE as u64)
}

/// Reads an expression from left to right and calculates at once. 64-bit floating point is exact
/// up to 8 PiB, and what comes out is rounded to a page.
struct Reader<'a> {
    rest: &'a str,
    ram: f64,
    depth: u32,
}

impl Reader<'_> {
    /// Takes the next character if it is one of these.
    fn take(&mut self, of: &[char]) -> Option<char> {
        self.rest = self.rest.trim_start();
        let next = self.rest.chars().next().filter(|c| of.contains(c))?;
        self.rest = &self.rest[next.len_utf8()..];
        Some(next)
    }

    fn sum(&mut self) -> Result<f64, String> {
        let mut left = self.product()?;
        while let Some(sign) = self.take(&['+', '-']) {
            let right = self.product()?;
            left = if sign == '+' { left + right } else { left - right };
        }
        Ok(left)
    }

    fn product(&mut self) -> Result<f64, String> {
        let mut left = self.part()?;
        while let Some(sign) = self.take(&['*', '/']) {
            let right = self.part()?;
            if sign == '/' && right == 0.0 {
                return Err("it divides by zero".into());
            }
            left = if sign == '*' { left * right } else { left / right };
        }
        Ok(left)
    }

    fn part(&mut self) -> Result<f64, String> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err("its parentheses are too deep".into());
        }
        let value = if self.take(&['(']).is_some() {
            let value = self.sum()?;
            self.close()?;
            value
        } else {
            self.rest = self.rest.trim_start();
            let is_part = |c: char| c.is_ascii_alphanumeric() || c == '.';
            let end = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
            let (word, rest) = self.rest.split_at(end);
            self.rest = rest;
            self.word(word)?
        };
        self.depth -= 1;
        Ok(value)
    }

    fn word(&mut self, word: &str) -> Result<f64, String> {
        match word.to_ascii_lowercase().as_str() {
            "" if self.rest.is_empty() => return Err("it ends too early".into()),
            "" => return Err(format!("\"{}\" is no number", self.rest)),
            "ram" => return Ok(self.ram),
            "min" => return self.choice(f64::min),
            "max" => return self.choice(f64::max),
            _ => {}
        }
        let number = |text: &str| text.parse::<f64>().ok().filter(|n| n.is_finite());
        let digits = word.starts_with(|c: char| c.is_ascii_digit());
        // Letters: a unit, not an exponent.
        if word.bytes().any(|b| b.is_ascii_alphabetic()) || !digits {
            let why = |_| format!("\"{word}\" is neither a size nor ram, min or max");
            return size::parse(word).map(|bytes| bytes as f64).map_err(why);
        }
        let value = number(word).ok_or_else(|| format!("\"{word}\" is no number"))?;
        if self.take(&['%']).is_some() { Ok(self.ram * value / 100.0) } else { Ok(value) }
    }

    fn choice(&mut self, of: fn(f64, f64) -> f64) -> Result<f64, String> {
        if self.take(&['(']).is_none() {
            return Err("min and max need parentheses".into());
        }
        let mut value = self.sum()?;
        while self.take(&[',']).is_some() {
            value = of(value, self.sum()?);
        }
        self.close().map(|()| value)
    }

    fn close(&mut self) -> Result<(), String> {
        self.take(&[')']).map(drop).ok_or_else(|| "a \")\" is missing".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GIB: u64 = 1 << 30;

    fn on(text: &str, ram: u64) -> u64 {
        Bytes::parse(text).and_then(|bytes| bytes.on(ram)).expect(text)
    }

    #[test]
    fn parts_of_ram() {
        for (text, wanted) in [
            ("8G", 8 * GIB),
            ("50%", 16 * GIB),
            ("12.5 %", 4 * GIB),
            ("ram", 32 * GIB),
            ("RAM / 2", 16 * GIB),
            ("min(ram/2, 8G)", 8 * GIB),
            ("min(ram / 2, 4096M)", 4 * GIB),
            ("max(10%, 1G, 512M)", (32 * GIB / 10) & !4095),
            ("2 * (ram - 30G) + 512M", 4 * GIB + GIB / 2),
            ("ram/1G * 4096", 32 * 4096),
            ("1.5G + 0", 3 * GIB / 2),
        ] {
            assert_eq!(on(text, 32 * GIB), wanted, "{text}");
        }
        assert_eq!(on("min(ram/2, 8G)", 4 * GIB), 2 * GIB);
        assert_eq!(Bytes::parse("4096"), Ok(Bytes::Exact(4096)));
    }

    #[test]
    fn nonsense_is_refused_with_a_remedy() {
        for text in [
            "50%%",
            "%",
            "ram/0",
            "ram -",
            "min",
            "min()",
            "min(1G",
            "(ram",
            "ram)",
            "rum/2",
            "ram ram",
            "8GB/2",
            "1e3*ram",
            "ram*1e",
            "min(ram;1G)",
            "--1G",
            "0/0*ram",
            "\u{663}%",
        ] {
            let error = Bytes::parse(text).expect_err(text);
            assert!(error.contains("; write"), "{error}");
        }
        let deep = "(".repeat(100_000) + "ram";
        assert!(Bytes::parse(&deep).expect_err("deep").contains("too deep"));
        let bytes = Bytes::parse("9*ram*ram").expect("well formed");
        assert!(bytes.on(4 * GIB).expect_err("that is a lot").contains("too large"));
        // What comes out well on one machine need not on another.
        let bytes = Bytes::parse("ram - 8G").expect("16 GiB have that");
        assert!(bytes.on(4 * GIB).expect_err("but not 4").contains("below zero"));
    }

    proptest! {
        #[test]
        fn no_words_panic(text in "[0-9a-zA-Z%()+*/., -]{0,24}", ram in 0..u64::MAX) {
            if let Ok(bytes) = Bytes::parse(&text) {
                let _ = bytes.on(ram);
            }
        }
    }
}

//! Columns of tables, chosen by name.

use crate::config::size;
use crate::daemon::protocol::Status;
use crate::error::{StartError, StartResult};
use crate::units::PAGE_SIZE;
use serde_json::Value;

/// How sizes are written.
#[derive(Clone, Copy, Debug)]
pub struct Numbers {
    /// In bytes, for programs.
    pub exact: bool,
}

impl Numbers {
    /// A size.
    pub fn bytes(self, bytes: u64) -> String {
        if self.exact { bytes.to_string() } else { size::format(bytes) }
    }
}

/// A column of a table about `T`.
#[derive(Clone, Copy, Debug)]
pub struct Column<T> {
    /// In the first line, and in --output.
    pub name: &'static str,
    /// What stands in it.
    pub value: fn(&T, Numbers) -> String,
    /// Stands right-aligned.
    pub is_number: bool,
}

impl<T> Column<T> {
    /// A column of words.
    pub const fn text(name: &'static str, value: fn(&T, Numbers) -> String) -> Self {
        Self { name, value, is_number: false }
    }

    /// A column of numbers.
    pub const fn number(name: &'static str, value: fn(&T, Numbers) -> String) -> Self {
        Self { name, value, is_number: true }
    }

    /// Name and value for programs: a number where it is one, null where there is nothing.
    pub fn json(&self, value: String) -> (String, Value) {
        let number = if self.is_number { serde_json::from_str(&value).ok() } else { None };
        let value = match value.as_str() {
            "-" => Value::Null,
            _ => number.unwrap_or(Value::String(value)),
        };
        (self.name.to_ascii_lowercase(), value)
    }
}

/// The columns that `words` names, in its order.
pub fn chosen<'a, T>(all: &'a [Column<T>], words: &str) -> StartResult<Vec<&'a Column<T>>> {
    let find = |word: &str| {
        let found = all.iter().find(|column| column.name.eq_ignore_ascii_case(word.trim()));
        found.ok_or_else(|| {
            let names: Vec<&str> = all.iter().map(|column| column.name).collect();
            let what = format!("there is no column \"{}\"", word.trim());
            StartError::usage(what, format!("the columns are {}", names.join(", ")))
        })
    };
    words.split(',').map(find).collect()
}

/// What the pages in RAM were before compression.
pub fn data_bytes(status: &Status) -> u64 {
    status.pages.stored.saturating_sub(status.pages.spilled).saturating_mul(PAGE_SIZE as u64)
}

/// `data / stored` with two decimals; `-` where nothing takes room.
pub fn ratio(data: u64, stored: u64) -> String {
    if stored == 0 { "-".into() } else { format!("{:.2}", data as f64 / stored as f64) }
}

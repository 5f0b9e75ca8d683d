//! TOML to settings.
//!
//! A file is checked key by key before it is read into [`Settings`], so that a message names the
//! key and what it takes. `base = "balanced"` fills in what a file does not say.

use super::keys::{KEYS, Takes};
use super::{Settings, SettingsError, names};
use crate::presets::PRESETS;
use crate::victim::VICTIMS;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use toml::{Table, Value};

/// Presets build on presets, but not on themselves.
const BASES_MAX: usize = 4;

impl Settings {
    /// Settings by name: a preset (`dense`), a victim policy (`sieve`: the balanced preset with
    /// it), or both (`dense/sieve`).
    pub fn named(name: &str) -> Result<Self, SettingsError> {
        let is_victim = |word: &str| VICTIMS.iter().any(|(victim, _)| *victim == word);
        let (preset, victim) = match name.split_once('/') {
            Some((preset, victim)) => (preset, Some(victim)),
            None if is_victim(name) => ("balanced", Some(name)),
            None => (name, None),
        };
        let text = preset_text(preset).ok_or_else(|| unknown(preset))?;
        let mut settings = Self::parse(text)?;
        if let Some(victim) = victim {
            settings.victim = victim.into();
        }
        settings.check()?;
        Ok(settings)
    }

    /// Settings from TOML: all keys, or `base = "PRESET"` and some.
    pub fn parse(text: &str) -> Result<Self, SettingsError> {
        let table = read(text, BASES_MAX)?;
        let settings: Self = table.try_into().map_err(|e: toml::de::Error| {
            SettingsError::new("settings", e.message(), "add it, or base = \"balanced\"")
        })?;
        settings.check()?;
        Ok(settings)
    }
}

fn preset_text(name: &str) -> Option<&'static str> {
    PRESETS.iter().find(|(preset, _)| *preset == name).map(|(_, text)| *text)
}

fn unknown(name: &str) -> SettingsError {
    let remedy = format!(
        "presets are {}; victim policies are {}; PRESET/VICTIM takes both",
        names(PRESETS),
        names(VICTIMS)
    );
    SettingsError::new("policy", format!("there is no \"{name}\""), remedy)
}

/// The file with its bases below it.
fn read(text: &str, bases: usize) -> Result<Table, SettingsError> {
    let mut over: Table = toml::from_str(text).map_err(|e| {
        let at = e.span().map_or(0, |span| span.start).min(text.len());
        let line = text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
        SettingsError::new(format!("line {line}"), e.message(), "write TOML: key = value")
    })?;
    let base = over.remove("base");
    check_keys(&over)?;
    let mut table = match base {
        None => Table::new(),
        Some(Value::String(base)) if bases > 0 => {
            let text = preset_text(&base)
                .ok_or_else(|| SettingsError { key: "base".into(), ..unknown(&base) })?;
            read(text, bases - 1)?
        }
        Some(_) => {
            let remedy = format!("name one of {}", names(PRESETS));
            return Err(SettingsError::new("base", "is not the name of a preset", remedy));
        }
    };
    for (key, value) in over {
        let below = table.get_mut(&key);
        match (value, below) {
            (Value::Table(section), Some(Value::Table(below))) => below.extend(section),
            (value, _) => _ = table.insert(key, value),
        }
    }
    for (_, section) in &mut table {
        if let Value::Table(section) = section {
            section.retain(|_, value| value.as_str() != Some("none"));
        }
    }
    Ok(table)
}

fn check_keys(table: &Table) -> Result<(), SettingsError> {
    for (section, value) in table {
        if section == "victim" && value.is_str() {
            continue;
        }
        if section == "victim" {
            let remedy = format!("name one of {}", names(VICTIMS));
            return Err(SettingsError::new("victim", format!("{value:?} is no name"), remedy));
        }
        let known: Vec<&str> =
            KEYS.iter().filter(|key| key.0 == section.as_str()).map(|key| key.1).collect();
        let Value::Table(keys) = value else {
            return Err(no_section(section, !known.is_empty()));
        };
        if known.is_empty() {
            return Err(no_section(section, false));
        }
        for (key, value) in keys {
            let name = format!("{section}.{key}");
            let of =
                KEYS.iter().find(|known| known.0 == section.as_str() && known.1 == key.as_str());
            let Some((_, _, takes, why)) = of else {
                let remedy = format!("[{section}] has {}", known.join(", "));
                return Err(SettingsError::new(name, "there is no such key", remedy));
            };
            check_value(name, value, *takes, why)?;
        }
    }
    Ok(())
}

fn no_section(section: &str, exists: bool) -> SettingsError {
    if exists {
        return SettingsError::new(
            section,
            "is a section",
            format!("write [{section}] and its keys"),
        );
    }
    let mut sections: Vec<&str> = KEYS.iter().map(|key| key.0).collect();
    sections.dedup();
    let remedy = format!("there are base, victim and the sections {}", sections.join(", "));
    SettingsError::new(section, "there is no such key or section", remedy)
}

fn check_value(name: String, value: &Value, takes: Takes, why: &str) -> Result<(), SettingsError> {
    let (fits, right) = match takes {
        Takes::Number(low, high) => {
            (value.as_integer().is_some_and(|n| (low..=high).contains(&n)), range(low, high))
        }
        Takes::Maybe(low, high) => {
            let number = value.as_integer().is_some_and(|n| (low..=high).contains(&n));
            (number || value.as_str() == Some("none"), range(low, high) + ", or \"none\"")
        }
        Takes::Flag => (value.is_bool(), "give true or false".into()),
    };
    if fits {
        return Ok(());
    }
    let shown = match value {
        Value::Integer(number) => format!("{number}"),
        Value::String(word) => format!("\"{word}\""),
        other => format!("a value of type {}", other.type_str()),
    };
    let why = if why.is_empty() { String::new() } else { format!(" ({why})") };
    Err(SettingsError::new(name, format!("{shown} cannot be used{why}"), right))
}

fn range(low: i64, high: i64) -> String {
    format!("give a whole number from {low} to {high}")
}

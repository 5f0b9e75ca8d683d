//! Numbers of a policy, as presets and people give them.
//!
//! Every key with its range is in [`keys`]; [`parse`] reads TOML; relations between keys are
//! checked here. Units are in the names; ages are seconds here and become ticks where they are
//! used.

mod keys;
mod parse;

use crate::pressure::Limits;
use crate::touch::AGE_PINNED_TICKS;
use crate::victim::VICTIMS;
use crate::watermark::Marks;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use serde::Deserialize;

/// Why settings were refused: one line that says which key, what is wrong, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsError {
    /// The key, as in `spill.idle_seconds`.
    pub key: String,
    /// What is wrong with it.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

impl SettingsError {
    pub(crate) fn new(
        key: impl Into<String>,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { key: key.into(), what: what.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.key, self.what, self.remedy)
    }
}

impl core::error::Error for SettingsError {}

/// All numbers of a policy. Made by [`Settings::named`] or [`Settings::parse`], which check them;
/// whoever changes fields afterwards, as a simulation over a grid does, asks [`Settings::check`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Name of the victim policy.
    pub victim: String,
    /// Steps and ticks.
    pub time: Time,
    /// When room is made.
    pub watermarks: Marks,
    /// Making idle pages denser.
    pub recompress: Recompress,
    /// Writing pages back.
    pub spill: Spill,
    /// Cleaning the spill.
    pub clean: Clean,
    /// Memory kept ready.
    pub memory: Memory,
    /// Moving objects together.
    pub compact: Compact,
    /// The machine's memory.
    pub pressure: Limits,
    /// The hand.
    pub scan: Scan,
}

/// Steps and ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Time {
    /// Seconds in an age tick.
    pub age_tick_seconds: u64,
    /// Milliseconds between steps when nothing presses.
    pub step_ms: u64,
}

/// Making idle pages denser.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recompress {
    /// Untouched for so long, a page is idle.
    pub idle_seconds: u64,
    /// Pages a second at most.
    pub pages_per_second: u64,
}

/// Writing pages back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spill {
    /// Untouched for so long, a page goes although there is room. Without it none does.
    pub idle_seconds: Option<u64>,
    /// MiB a second that go so.
    pub idle_mib_per_second: u64,
    /// Pages younger than this stay unless room is needed badly.
    pub min_age_seconds: u64,
    /// MiB a second written at most, bursts of ten seconds.
    pub mib_per_second: Option<u64>,
    /// GiB written in any 24 hours at most.
    pub gib_per_day: Option<u64>,
    /// Share of the day's GiB kept for when room is needed badly, permille.
    pub urgent_reserve_permille: u64,
    /// Incompressible pages go straight to the spill although there is room; when room is low they
    /// always do.
    pub huge_straight: bool,
    /// Reads in the spill after which a page comes back.
    pub promote_reads: u64,
    /// Pages a second that come back at most.
    pub promote_pages_per_second: u64,
}

/// Cleaning the spill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clean {
    /// Starts when less of the spill is in free segments, permille.
    pub free_permille: u64,
    /// Ends when this much more is, permille.
    pub band_permille: u64,
    /// Share of the segments in use that must be garbage to make it worthwhile, permille.
    pub garbage_permille: u64,
    /// MiB of live data moved a second at most.
    pub mib_per_second: u64,
}

/// Memory kept ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// MiB of empty slabs ahead of need; the pool grows when half of it is left.
    pub ready_mib: u64,
    /// A quarter more for so long, or any while no pages arrive, and the surplus is given back.
    pub give_back_seconds: u64,
}

/// Moving objects together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Compact {
    /// Starts when this share of what is resident is waste, permille.
    pub start_permille: u64,
    /// Ends when this share is, permille.
    pub stop_permille: u64,
    /// MiB moved a second at most.
    pub mib_per_second: u64,
}

/// The hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scan {
    /// Pages presented a second at most.
    pub pages_per_second: u64,
}

impl Settings {
    /// An age in seconds as ticks, at least one.
    pub fn ticks(&self, seconds: u64) -> u8 {
        let ticks = seconds.div_ceil(self.time.age_tick_seconds.max(1));
        ticks.clamp(1, AGE_PINNED_TICKS.into()) as u8
    }

    /// Whether the keys agree with each other.
    pub fn check(&self) -> Result<(), SettingsError> {
        self.check_victim()?;
        let refuse =
            |key: &str, what: String, remedy: String| Err(SettingsError::new(key, what, remedy));
        let marks = &self.watermarks;
        if marks.band_permille == 0 {
            return refuse(
                "watermarks.band_permille",
                "0 is no band: the level would flap with every page".into(),
                format!("give 1 to {}", marks.min_permille.max(1)),
            );
        }
        if marks.min_permille + marks.band_permille >= marks.low_permille {
            return refuse(
                "watermarks.low_permille",
                format!(
                    "{} is not above min_permille {} and the band {}",
                    marks.low_permille, marks.min_permille, marks.band_permille
                ),
                format!("give at least {}", marks.min_permille + marks.band_permille + 1),
            );
        }
        self.ordered(
            ("pressure.critical_full_permille", self.pressure.critical_full_permille),
            ("pressure.tight_full_permille", self.pressure.tight_full_permille),
        )?;
        self.ordered(
            ("pressure.tight_available_permille", self.pressure.tight_available_permille),
            ("pressure.critical_available_permille", self.pressure.critical_available_permille),
        )?;
        self.ordered(
            ("compact.start_permille", self.compact.start_permille),
            ("compact.stop_permille", self.compact.stop_permille),
        )?;
        if let Some(idle) =
            self.spill.idle_seconds.filter(|idle| *idle < self.spill.min_age_seconds)
        {
            return refuse(
                "spill.idle_seconds",
                format!("{idle} is below spill.min_age_seconds {}", self.spill.min_age_seconds),
                format!("give at least {}, or \"none\"", self.spill.min_age_seconds),
            );
        }
        let ages = [
            ("recompress.idle_seconds", self.recompress.idle_seconds),
            ("spill.min_age_seconds", self.spill.min_age_seconds),
            ("spill.idle_seconds", self.spill.idle_seconds.unwrap_or(0)),
        ];
        let tick = self.time.age_tick_seconds;
        let oldest = u64::from(AGE_PINNED_TICKS) * tick;
        if let Some((key, age)) = ages.into_iter().find(|(_, age)| *age > oldest) {
            return refuse(
                key,
                format!("{age} s cannot be told from {oldest} s with ticks of {tick} s"),
                format!(
                    "set time.age_tick_seconds to at least {}",
                    age.div_ceil(AGE_PINNED_TICKS.into())
                ),
            );
        }
        Ok(())
    }

    fn check_victim(&self) -> Result<(), SettingsError> {
        if VICTIMS.iter().any(|(name, _)| *name == self.victim) {
            return Ok(());
        }
        let what = format!("there is no victim policy \"{}\"", self.victim);
        Err(SettingsError::new("victim", what, format!("known are {}", names(VICTIMS))))
    }

    fn ordered(&self, above: (&str, u64), below: (&str, u64)) -> Result<(), SettingsError> {
        if above.1 > below.1 {
            return Ok(());
        }
        let what = format!("{} is not above {} {}", above.1, below.0, below.1);
        Err(SettingsError::new(above.0, what, format!("give at least {}", below.1 + 1)))
    }
}

/// The first parts of a table, for an error message.
pub(crate) fn names<T>(table: &[(&str, T)]) -> String {
    table.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

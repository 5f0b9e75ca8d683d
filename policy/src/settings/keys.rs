//! Every key of the settings and what may be given for it.

/// What a key takes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Takes {
    /// A whole number in the range, ends included.
    Number(i64, i64),
    /// The same, or `"none"`.
    Maybe(i64, i64),
    /// `true` or `false`.
    Flag,
}

use Takes::{Flag, Maybe, Number};

/// A day, in seconds.
const DAY: i64 = 86_400;
/// Faster than any device: 100 GiB/s.
const RATE: i64 = 102_400;

/// Section, key, what it takes, and why zero or less is refused where that is not obvious.
pub(super) const KEYS: &[(&str, &str, Takes, &str)] = &[
    ("time", "age_tick_seconds", Number(1, 3600), ""),
    ("time", "step_ms", Number(10, 60_000), ""),
    ("watermarks", "low_permille", Number(3, 800), ""),
    ("watermarks", "min_permille", Number(1, 500), ""),
    ("watermarks", "band_permille", Number(1, 200), "without a band the level flaps"),
    ("recompress", "idle_seconds", Number(1, DAY), ""),
    ("recompress", "pages_per_second", Number(0, 10_000_000), ""),
    ("spill", "idle_seconds", Maybe(1, DAY), ""),
    ("spill", "idle_mib_per_second", Number(1, RATE), "to write nothing early: idle_seconds"),
    ("spill", "min_age_seconds", Number(0, DAY), ""),
    ("spill", "mib_per_second", Maybe(1, RATE), "to write nothing, give no spill"),
    ("spill", "gib_per_day", Maybe(1, 1 << 20), "to write nothing, give no spill"),
    ("spill", "urgent_reserve_permille", Number(0, 1000), ""),
    ("spill", "huge_straight", Flag, ""),
    ("spill", "promote_reads", Number(1, 3), "a slot counts no more than three"),
    ("spill", "promote_pages_per_second", Number(0, 10_000_000), ""),
    ("clean", "free_permille", Number(1, 500), ""),
    ("clean", "band_permille", Number(1, 200), "without a band cleaning starts and stops"),
    ("clean", "garbage_permille", Number(1, 900), ""),
    ("clean", "mib_per_second", Number(1, RATE), ""),
    ("memory", "ready_mib", Number(1, 65_536), ""),
    ("memory", "give_back_seconds", Number(1, DAY), ""),
    ("compact", "start_permille", Number(2, 900), ""),
    ("compact", "stop_permille", Number(1, 900), ""),
    ("compact", "mib_per_second", Number(1, RATE), ""),
    ("pressure", "tight_some_permille", Number(1, 1001), ""),
    ("pressure", "tight_full_permille", Number(1, 1001), ""),
    ("pressure", "critical_full_permille", Number(1, 1001), ""),
    ("pressure", "tight_available_permille", Number(1, 500), ""),
    ("pressure", "critical_available_permille", Number(0, 500), ""),
    ("pressure", "demote_permille_per_second", Number(0, 1000), ""),
    ("scan", "pages_per_second", Number(10_000, 1_000_000_000), ""),
];

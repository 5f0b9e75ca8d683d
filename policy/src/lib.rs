//! Pure decisions of uswap: no I/O, no clock, no unsafe.
//!
//! Once a step the daemon, or a simulator in its place, fills in a [`View`] and gets a [`Plan`]
//! from [`Policy::tick`]: quotas of work until the next step. With the plan's quota it moves a hand
//! over the slot table and presents every page of the pool to [`Policy::judge`], which answers
//! keep, recompress or spill. The same views and pages give the same plans and verdicts.
//!
//! Numbers come from [`Settings`]: presets are TOML files in `presets/`. Which pages go first is a
//! victim policy's choice: one file in `src/victim/`, one line in its registry. Whoever cannot be
//! built in gives a [`Guide`]: a victim policy, an [`Adviser`], who may change plans within limits
//! that keep every promise, and what decides once the adviser is broken.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod adviser;
mod budget;
mod demand;
mod grant;
mod histogram;
mod housekeeping;
mod memory;
mod page;
mod plan;
mod policy;
mod presets;
mod pressure;
mod settings;
mod touch;
mod victim;
mod view;
mod watermark;
mod work;

pub use adviser::{Adviser, Broken, Guide};
pub use budget::{Bucket, Budget, Spent};
pub use histogram::{
    AGES, CELLS, Histogram, SIZES, age_class, age_floor, cell_of, page_of, typical,
};
pub use page::{Action, Denser, PAGE_BYTES, Page, Tier, Verdict};
pub use plan::{Memory, Plan, Promote, Recompress, Short, Writeback};
pub use policy::Policy;
pub use presets::PRESETS;
pub use pressure::{Gauge, Limits as PressureLimits, Pressure};
pub use settings::{Settings, SettingsError};
/// The sections of [`Settings`].
pub mod sections {
    pub use crate::settings::{Clean, Compact, Memory, Recompress, Scan, Spill, Time};
}
pub use touch::{AGE_PINNED_TICKS, Mark, PIN_EVERY_TICKS, READS_MAX, Touch};
pub use victim::{Aim, Choice, Threshold, VICTIMS, Victim, victim};
pub use view::{Counts, Machine, Pool, Since, Spill, View};
pub use watermark::{Level, Marks, Watermarks};

/// So many thousandths of `of`, without overflow.
const fn permille(of: u64, thousandths: u64) -> u64 {
    (of as u128 * thousandths as u128 / 1000) as u64
}

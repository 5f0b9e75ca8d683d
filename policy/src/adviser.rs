//! Decisions from elsewhere, as from a script, and what holds when they fail.

use crate::plan::Plan;
use crate::settings::Settings;
use crate::victim::Victim;
use crate::view::View;
use alloc::boxed::Box;
use core::fmt::Debug;

/// Somebody's advice cannot be had any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

/// Changes plans before they hold. It must be deterministic: same views and plans, same advice.
pub trait Adviser: Debug + Send {
    /// Changes a step's plan. What may be changed, and how far, the policy says: `spill` (`bytes`
    /// and `huge_bytes` within the budgets, `age_min_ticks`), `recompress` (`pages`,
    /// `age_min_ticks`), `clean_bytes` (to less), `compact_bytes`, `promote`, `train` (to false)
    /// and `next_ms` (to sooner). What else it says is not heard, and what is beyond a limit is the
    /// limit. While writes wait for room nobody is asked.
    ///
    /// An error is the end: it is not asked again, and the base of the [`Guide`] decides.
    fn advise(&mut self, view: &View, plan: &mut Plan) -> Result<(), Broken>;
}

/// Who decides in place of what is built in.
#[derive(Debug)]
pub struct Guide {
    /// The numbers.
    pub settings: Settings,
    /// Which pages go first; without one the one that the settings name.
    pub victim: Option<Box<dyn Victim>>,
    /// Changes plans.
    pub adviser: Option<Box<dyn Adviser>>,
    /// What holds, whole, once the adviser is broken.
    pub base: Settings,
}

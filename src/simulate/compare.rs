//! A recording against its own replay: what the service did, and what the simulator says that it
//! would have done.

use super::outcome::{Outcome, share};
use super::replay::Live;
use serde::Serialize;

/// Counts smaller than this share of the pages written are measured against that share: of three
/// pages one more is not a third of anything.
const FLOOR_SHARE: u64 = 100;

/// A total of both.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// Of what.
    pub what: &'static str,
    /// In the recording.
    pub live: u64,
    /// In the replay.
    pub simulated: u64,
    /// How far the second is from the first, percent of the first, or of a hundredth of the pages
    /// written if that is more.
    pub percent: f64,
}

/// Every total that a recording and its replay have. Pages not compressed yet count as in the pool.
pub fn compare(live: &Live, outcome: &Outcome) -> Vec<Difference> {
    let floor = (live.writes / FLOOR_SHARE).max(1);
    let difference = |what, live: u64, simulated: u64| {
        let percent = 100.0 * share(live.abs_diff(simulated), live.max(floor));
        Difference { what, live, simulated, percent }
    };
    let (theirs, ours) = (&live.reads, &outcome.reads);
    vec![
        difference(
            "pages read from RAM as they arrived",
            theirs.pool + theirs.staged,
            ours.pool + ours.staged,
        ),
        difference("pages read from RAM, dense", theirs.dense, ours.dense),
        difference(
            "pages read from RAM, huge or same",
            theirs.huge + theirs.same,
            ours.huge + ours.same,
        ),
        difference("pages read from the spill", theirs.spill, ours.spill),
        difference("pages made denser", live.denser_pages, outcome.denser_pages),
        difference("attempts that did not pay", live.not_denser_pages, outcome.not_denser_pages),
        difference("pages spilled", live.spilled_pages, outcome.spilled_pages),
        difference("pages promoted", live.promoted_pages, outcome.promoted_pages),
    ]
}

//! A recording against its own replays: what the service did, and what the simulator says that it
//! would have done.
//!
//! One replay is no measure. Which pages are judged first decides which become dense and leave, and
//! what is read of them; the same recording from another place of the hand gives other totals,
//! small ones by a fifth (bench/NOTES.md, "Beside a live service"). So there are several: the
//! service agrees with them if it is near enough to what one of them did. Their median is shown
//! beside it.

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
    /// The median of the replays.
    pub simulated: u64,
    /// The least of them.
    pub least: u64,
    /// The most of them.
    pub most: u64,
    /// How far the median is from the recording, percent of the recording, or of a hundredth of the
    /// pages written if that is more.
    pub percent: f64,
    /// How far the nearest replay is, measured against the same; 0 if some did less and some more.
    pub nearest_percent: f64,
}

impl Difference {
    /// Whether they differ: no replay comes as near as `tolerance` percent.
    pub fn is_off(&self, tolerance: f64) -> bool {
        self.nearest_percent > tolerance
    }
}

/// Every total that a recording and its replays have, of which there is at least one. Pages not
/// compressed yet count as in the pool.
pub fn compare(live: &Live, outcomes: &[Outcome]) -> Vec<Difference> {
    let floor = (live.writes / FLOOR_SHARE).max(1);
    let difference = |what, live: u64, of: fn(&Outcome) -> u64| {
        let mut all: Vec<u64> = outcomes.iter().map(of).collect();
        all.sort_unstable();
        let (least, simulated, most) = (all[0], all[all.len() / 2], all[all.len() - 1]);
        let percent = |pages| 100.0 * share(pages, live.max(floor));
        let nearest = live.saturating_sub(most).max(least.saturating_sub(live));
        let (percent, nearest_percent) = (percent(live.abs_diff(simulated)), percent(nearest));
        Difference { what, live, simulated, least, most, percent, nearest_percent }
    };
    let reads = &live.reads;
    vec![
        difference("pages read from RAM as they arrived", reads.pool + reads.staged, |o| {
            o.reads.pool + o.reads.staged
        }),
        difference("pages read from RAM, dense", reads.dense, |o| o.reads.dense),
        difference("pages read from RAM, huge or same", reads.huge + reads.same, |o| {
            o.reads.huge + o.reads.same
        }),
        difference("pages read from the spill", reads.spill, |o| o.reads.spill),
        difference("pages made denser", live.denser_pages, |o| o.denser_pages),
        difference("attempts that did not pay", live.not_denser_pages, |o| o.not_denser_pages),
        difference("pages spilled", live.spilled_pages, |o| o.spilled_pages),
        difference("pages promoted", live.promoted_pages, |o| o.promoted_pages),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_replay_does_is_off_and_what_one_does_is_not() {
        let outcome = |spilled_pages| Outcome { spilled_pages, ..Outcome::default() };
        let replays = [outcome(900), outcome(1000), outcome(1300)];
        let spilled = |spilled_pages| {
            let live = Live { spilled_pages, writes: 5000, ..Live::default() };
            compare(&live, &replays).into_iter().find(|d| d.what == "pages spilled").unwrap()
        };
        assert_eq!((spilled(1040).simulated, spilled(1040).least), (1000, 900));
        assert!(!spilled(1040).is_off(5.0) && spilled(1040).percent > 3.8);
        assert!(!spilled(1200).is_off(0.0), "some did less and some more");
        assert!(spilled(1400).is_off(5.0) && spilled(800).is_off(5.0));
        assert!(!spilled(1340).is_off(5.0) && !spilled(880).is_off(5.0), "near enough to one");
    }
}

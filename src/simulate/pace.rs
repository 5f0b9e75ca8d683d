//! How fast the recorded machine made pages denser, from when it did.

use super::estimate::median;
use crate::trace::{Event, Kind};
use serde::Serialize;

/// Microseconds that making a page denser takes where that was not recorded: as measured
/// (bench/NOTES.md, "Dictionaries and the dense tier").
pub const DENSER_US: f64 = 396.0;
/// Microseconds that training a dictionary takes there.
pub const TRAIN_US: u64 = 100_000;
/// Gaps of a kind that are kept.
const GAPS_MAX: usize = 1 << 14;
/// Gaps below which their median says nothing.
const PAGES_MIN: usize = 32;
const STEPS_MIN: usize = 3;

/// Times that the service's own work took; `None` where the recording does not show them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Pace {
    /// Microseconds to make a page denser: the median time from one to the next of a step.
    pub denser_us: Option<u32>,
    /// Microseconds to train the dictionary: by how much the longest of the steps before the first
    /// page became denser was longer than any other.
    pub train_us: Option<u32>,
}

/// Learns a [`Pace`], event by event.
#[derive(Debug, Default)]
pub(super) struct Pacer {
    step_us: Option<u64>,
    page_us: Option<u64>,
    steps: Vec<u32>,
    pages: Vec<u32>,
    is_trained: bool,
}

impl Pacer {
    /// Takes note of the next event. A step of the mover begins with a look at the machine.
    pub(super) fn note(&mut self, event: &Event) {
        let now_us = event.time_us;
        match event.kind {
            Kind::Machine { .. } => {
                if !self.is_trained {
                    note_gap(&mut self.steps, self.step_us, now_us);
                }
                (self.step_us, self.page_us) = (Some(now_us), None);
            }
            Kind::Denser { .. } | Kind::NotDenser => {
                self.is_trained = true;
                note_gap(&mut self.pages, self.page_us, now_us);
                self.page_us = Some(now_us);
            }
            _ => {}
        }
    }

    pub(super) fn pace(mut self) -> Pace {
        let shown = self.pages.len() >= PAGES_MIN;
        let denser_us = shown.then(|| median(&mut self.pages));
        self.steps.sort_unstable();
        let train_us = match self.steps[..] {
            [.., usual, longest] if self.is_trained && self.steps.len() >= STEPS_MIN => {
                Some(longest - usual)
            }
            _ => None,
        };
        Pace { denser_us, train_us }
    }
}

fn note_gap(gaps: &mut Vec<u32>, before_us: Option<u64>, now_us: u64) {
    if let Some(before_us) = before_us.filter(|_| gaps.len() < GAPS_MAX) {
        gaps.push(u32::try_from(now_us - before_us).unwrap_or(u32::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::SlotIndex;

    const LOOK: Kind = Kind::Machine { available_mib: 1, some_permille: 0, full_permille: 0 };

    fn pace(events: impl IntoIterator<Item = (u64, Kind)>) -> Pace {
        let mut pacer = Pacer::default();
        for (time_us, kind) in events {
            pacer.note(&Event { time_us, slot: SlotIndex(0), kind });
        }
        pacer.pace()
    }

    #[test]
    fn gaps_inside_of_steps_say_how_long_a_page_takes_and_one_long_step_how_long_training() {
        let mut events = vec![];
        for (step, begin) in [0, 1_000, 2_100, 5_600, 6_600, 9_000].into_iter().enumerate() {
            events.push((begin * 1000, LOOK));
            let pages = if step < 4 { 0 } else { 30 };
            events.extend(
                (1..=pages).map(|page| (begin * 1000 + 3000 * page, Kind::Denser { bytes: 500 })),
            );
        }
        assert_eq!(pace(events), Pace { denser_us: Some(3000), train_us: Some(2_400_000) });
    }

    #[test]
    fn what_is_not_shown_is_not_guessed() {
        assert_eq!(pace([]), Pace::default());
        let steps = (0..100).map(|i| (i * 1_000_000, LOOK));
        assert_eq!(pace(steps), Pace::default(), "there was no dictionary");
        let few = (0..20).map(|i| (i * 1000, Kind::NotDenser));
        assert_eq!(pace(few), Pace::default(), "too few, and recorded from the middle of it");
    }
}

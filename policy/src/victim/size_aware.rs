//! Most bytes for each read that has to be expected.
//!
//! A page that has not been touched for t is expected to be touched at a rate of about one in t,
//! and the more the oftener it was read: hyperbolic caching's priority, reads over time, by size
//! (Blankstein, Sen, Freedman, "Hyperbolic Caching", ATC'17; the same idea as hit density in
//! Beckmann, Chen, Cidon, "LHD", NSDI'18). So a page's worth as a victim is `bytes * (age + 1) /
//! (reads + 1)`.
//!
//! **Scan form.** The papers sample some pages and take the worst; here the line through the
//! histogram is drawn over all of them. Reads saturate at three, and time is since the last touch
//! instead of since the page came.

use super::{Aim, Choice, Threshold, Victim};
use crate::page::Page;

/// Takes pages with many bytes and little hope.
#[derive(Debug, Default)]
pub struct SizeAware(Threshold);

/// Logarithm of a page's worth as a victim, in eighths of a doubling.
fn rank(page: &Page) -> Option<u8> {
    let hope = 1 + u32::from(page.mark.reads);
    let worth = (u32::from(page.bytes) * (u32::from(page.age_ticks) + 1) * 8 / hope).max(8);
    let doublings = worth.ilog2();
    Some((8 * doublings + (worth >> (doublings - 3)) % 8) as u8)
}

impl Victim for SizeAware {
    fn aim(&mut self, aim: &Aim<'_>) {
        self.0.aim(aim, rank);
    }

    fn meet(&mut self, page: &Page) -> Choice {
        if self.0.admits(page, rank) { Choice::DEMOTE } else { Choice::KEEP }
    }
}

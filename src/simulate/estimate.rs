//! What pages would be made denser that nobody made denser while they were recorded.
//!
//! Model: as the pages of which it is known, among those of similar size (256 bytes). If making
//! them denser did not pay for most of them it does not here; otherwise the ratio is the median.
//! Where fewer than [`ENOUGH`] of a size are known those of all sizes stand in for them, and where
//! none are a measured ratio does.

use super::replay::UNSETTLED;
use crate::units::PAGE_SIZE;

/// Fewer known pages of a size say nothing about it.
const ENOUGH: usize = 8;
/// Sizes that are alike, bytes.
const STEP: usize = 256;
const CLASSES: usize = PAGE_SIZE / STEP + 1;
/// Bytes of pages that a dictionary has not seen against lz4's, thousandths: 988.7 of 1616
/// (bench/NOTES.md, "Dictionaries and the dense tier" and "Spill").
const MEASURED_PERMILLE: u32 = 612;

/// What is known of sizes.
#[derive(Debug)]
pub struct Sizes {
    /// Thousandths of a page's bytes that are left, by class; 1000 where it does not pay.
    permille: [u32; CLASSES],
}

const fn class(bytes: u16) -> usize {
    bytes as usize / STEP
}

/// The one in the middle; there is at least one.
pub(super) fn median(numbers: &mut [u32]) -> u32 {
    let middle = numbers.len() / 2;
    *numbers.select_nth_unstable(middle).1
}

impl Sizes {
    /// Learns from pairs of a page's bytes as it arrived and made denser, 0 if that did not pay.
    pub fn learn(known: impl Iterator<Item = (u16, u16)>) -> Self {
        let mut ratios: [Vec<u32>; CLASSES] = [const { Vec::new() }; CLASSES];
        for (bytes, dense) in known.filter(|(bytes, _)| *bytes > 0 && *bytes != UNSETTLED) {
            let ratio = match dense {
                0 => 1000,
                dense => u32::from(dense) * 1000 / u32::from(bytes),
            };
            ratios[class(bytes).min(CLASSES - 1)].push(ratio.min(1000));
        }
        let huge = CLASSES - 1;
        let mut all: Vec<u32> = ratios[..huge].iter().flatten().copied().collect();
        let other = match all.len() {
            0..ENOUGH => MEASURED_PERMILLE,
            _ => median(&mut all),
        };
        let mut permille = [other; CLASSES];
        // What lz4 makes nothing of is mostly random, or compressed already.
        permille[huge] = 1000;
        for (permille, ratios) in permille.iter_mut().zip(&mut ratios) {
            if ratios.len() >= ENOUGH {
                *permille = median(ratios);
            }
        }
        Self { permille }
    }

    /// Bytes of a page of `bytes` made denser; 0 if that does not pay.
    pub fn dense(&self, bytes: u16) -> u16 {
        if bytes == 0 || bytes == UNSETTLED {
            return 0;
        }
        match self.permille[class(bytes).min(CLASSES - 1)] {
            1000.. => 0,
            permille => (u32::from(bytes) * permille / 1000).max(1) as u16,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_as_those_of_their_size() {
        let small = (0..9).map(|i| (1000, 400 + i));
        let useless = (0..8).map(|_| (3000, 0));
        let sizes = Sizes::learn(small.chain(useless).chain([(4096, 100)]));
        assert_eq!(sizes.dense(1000), 404);
        assert_eq!((sizes.dense(3000), sizes.dense(4096)), (0, 0));
        assert_eq!(sizes.dense(2000), 816, "the median of all that are known");
        assert_eq!((sizes.dense(0), sizes.dense(UNSETTLED)), (0, 0));
    }

    #[test]
    fn without_any_it_is_what_was_measured() {
        let sizes = Sizes::learn([(1000, 1)].into_iter());
        assert_eq!((sizes.dense(1000), sizes.dense(4096)), (612, 0));
    }
}

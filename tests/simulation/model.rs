//! What the pages must be.

use std::sync::OnceLock;
use uswap::codec::Dictionary;
use uswap::units::{PAGE_SIZE, Page};

/// Slots of the device.
pub const SLOTS: u32 = 96;

/// What somebody wrote: a number that says everything about the page. 0: zeros, or nothing.
pub type Content = u64;

/// The page of a content. Its low bits say what kind it is: same-filled, small, large, or of noise
/// that does not compress; kinds have few sizes, so that places are used again.
pub fn page(content: Content) -> Page {
    if content == 0 {
        return [0; PAGE_SIZE];
    }
    let mut page = [0; PAGE_SIZE];
    let random = match content % 8 {
        0 => {
            page.as_chunks_mut::<8>().0.fill((content << 8 | 1).to_ne_bytes());
            return page;
        }
        1 | 2 => PAGE_SIZE,
        3 | 4 => 300,
        5 => 1500 + (content >> 8) as usize % 3 * 600,
        _ => 700,
    };
    let mut state = content.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for (i, word) in page.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        if i * 8 >= random {
            *word = (0x0102_0304_0506_0708u64 ^ (content & 0xff)).to_le_bytes();
            continue;
        }
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        *word = state.to_le_bytes();
    }
    page
}

/// Dictionaries that take long to train and are the same in every run.
pub fn dictionaries() -> &'static [Vec<u8>] {
    static TRAINED: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    TRAINED.get_or_init(|| {
        let train = |seed: u64| {
            let sample = |i: u64| page(seed << 40 | i << 32 | (3 + i % 4));
            let samples: Vec<_> = (0..60).map(sample).collect();
            let dictionary = Dictionary::train_to(&samples, 2048).expect("something in common");
            dictionary.bytes().to_vec()
        };
        (1..=4).map(train).collect()
    })
}

/// For every slot what a reader may find.
#[derive(Debug)]
pub struct Model {
    /// One for each.
    pub slots: Vec<Vec<Content>>,
}

impl Model {
    pub fn new() -> Self {
        Self { slots: vec![vec![0]; SLOTS as usize] }
    }

    /// The slot holds this and nothing else: it was committed.
    pub fn set(&mut self, slot: u32, content: Content) {
        self.slots[slot as usize] = vec![content];
    }

    /// The slot may hold this by now.
    pub fn may_be(&mut self, slot: u32, content: Content) {
        let known = &mut self.slots[slot as usize];
        if !known.contains(&content) {
            known.push(content);
        }
    }

    /// Panics unless the page may be what the slot holds, and knows better afterwards.
    pub fn check(&mut self, slot: u32, found: &Page) {
        let known = &self.slots[slot as usize];
        let Some(content) = known.iter().copied().find(|&content| page(content) == *found) else {
            panic!("slot {slot}: a wrong page, not one of {known:x?}");
        };
        self.set(slot, content);
    }
}

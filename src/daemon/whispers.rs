//! Lines for the administrator on their way to the parent, who writes them where people look.
//!
//! A server must not write to a log itself: the log's page may be swapped out, to the very device
//! that the server serves, and a server that is killed while it waits for that page never ends
//! (Linux waits there uninterruptibly), so that nobody can take its device over. So lines go
//! through shared memory, which takes no time and no memory, and are lost if nobody fetches them in
//! time.

use crate::sys::map::Words;
use std::sync::atomic::{AtomicU64, Ordering};

/// Lines that can be on their way, and words of one: a sequence number, its length, its bytes.
const LINES: usize = 32;
const LINE_WORDS: usize = 128;
const TEXT_BYTES: usize = (LINE_WORDS - 2) * 8;
/// Words in all; the first counts the lines that were ever begun, the second those fetched.
pub const WORDS: usize = 2 + LINES * LINE_WORDS;

/// Where the lines are: the last [`WORDS`] of a page of words.
#[derive(Clone, Copy, Debug)]
pub struct Whispers<'a> {
    words: &'a [AtomicU64],
}

impl<'a> Whispers<'a> {
    /// The lines in these words, which have room for them.
    pub fn of(words: &'a Words) -> Self {
        Self { words: &words[words.len() - WORDS..] }
    }

    fn line(&self, number: u64) -> &'a [AtomicU64] {
        &self.words[2 + (number % LINES as u64) as usize * LINE_WORDS..][..LINE_WORDS]
    }

    /// Leaves a line, cut to what fits; the oldest is overwritten if nobody has fetched it.
    pub fn leave(&self, text: &str) {
        let number = self.words[0].fetch_add(1, Ordering::AcqRel);
        let line = self.line(number);
        let bytes = &text.as_bytes()[..text.len().min(TEXT_BYTES)];
        // 0 is no line's number: whoever looks now sees none.
        line[0].store(0, Ordering::Release);
        line[1].store(bytes.len() as u64, Ordering::Relaxed);
        for (word, part) in line[2..].iter().zip(bytes.chunks(8)) {
            let mut filled = [0; 8];
            filled[..part.len()].copy_from_slice(part);
            word.store(u64::from_le_bytes(filled), Ordering::Relaxed);
        }
        // A page that somebody damaged may count from anywhere.
        line[0].store(number.wrapping_add(1), Ordering::Release);
    }

    /// The oldest line that was not fetched, if one is whole. One reader only.
    pub fn fetch(&self) -> Option<String> {
        let begun = self.words[0].load(Ordering::Acquire);
        loop {
            let next =
                self.words[1].load(Ordering::Relaxed).max(begun.saturating_sub(LINES as u64));
            if next >= begun {
                return None;
            }
            let line = self.line(next);
            let before = line[0].load(Ordering::Acquire);
            let len = (line[1].load(Ordering::Relaxed) as usize).min(TEXT_BYTES);
            let words = line[2..].iter().take(len.div_ceil(8));
            let mut bytes: Vec<u8> =
                words.flat_map(|word| word.load(Ordering::Relaxed).to_le_bytes()).collect();
            bytes.truncate(len);
            // Read before it is looked whether it is still that line.
            std::sync::atomic::fence(Ordering::Acquire);
            let whole = before == next + 1 && line[0].load(Ordering::Relaxed) == before;
            if !whole && before <= next && begun - next < LINES as u64 / 2 {
                // Somebody is at it. If he died over it, later lines push it out.
                return None;
            }
            self.words[1].store(next + 1, Ordering::Relaxed);
            if whole {
                return Some(String::from_utf8_lossy(&bytes).into_owned());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words() -> Words {
        let file = tempfile::tempfile().expect("file");
        file.set_len(WORDS as u64 * 8).expect("size");
        Words::new(&file, WORDS).expect("map")
    }

    #[test]
    fn lines_come_in_order_and_long_ones_are_cut() {
        let words = words();
        let whispers = Whispers::of(&words);
        assert_eq!(whispers.fetch(), None);
        whispers.leave("one");
        whispers.leave("");
        whispers.leave(&"x".repeat(2000));
        assert_eq!(whispers.fetch().as_deref(), Some("one"));
        assert_eq!(whispers.fetch().as_deref(), Some(""));
        assert_eq!(whispers.fetch().map(|line| line.len()), Some(TEXT_BYTES));
        assert_eq!(whispers.fetch(), None);
    }

    #[test]
    fn a_slow_reader_gets_the_latest() {
        let words = words();
        let whispers = Whispers::of(&words);
        (0..100).for_each(|i| whispers.leave(&format!("line {i}")));
        let got: Vec<String> = std::iter::from_fn(|| whispers.fetch()).collect();
        assert_eq!(got.len(), LINES);
        assert_eq!((got[0].as_str(), got[LINES - 1].as_str()), ("line 68", "line 99"));
    }

    #[test]
    fn a_line_that_its_writer_died_over_is_passed_over_in_the_end() {
        let words = words();
        let whispers = Whispers::of(&words);
        words[0].fetch_add(1, Ordering::Relaxed);
        whispers.leave("after");
        assert_eq!(whispers.fetch(), None, "it may still come");
        (0..LINES / 2).for_each(|_| whispers.leave("more"));
        assert_eq!(whispers.fetch().as_deref(), Some("after"));
    }
}

//! Same-filled pages: one 64-bit word all over.

use crate::units::Page;

/// Words compared at once after the first look.
const CHUNK_BYTES: usize = 64;

/// The word that fills the page, if one does. Pages that are not same-filled mostly differ within the first two
/// words or in the last (a header, a terminator), so those are compared before the rest.
#[inline]
pub fn word(page: &Page) -> Option<u64> {
    let (words, rest) = page.as_chunks::<8>();
    debug_assert!(rest.is_empty());
    let first = words[0];
    if words[1] != first || words[words.len() - 1] != first {
        return None;
    }
    all(page, first).then(|| u64::from_ne_bytes(first))
}

/// Whether the page is `word` all over, in pieces that compile to vector compares.
fn all(page: &Page, word: [u8; 8]) -> bool {
    let (chunks, rest) = page.as_chunks::<CHUNK_BYTES>();
    debug_assert!(rest.is_empty());
    let word = u64::from_ne_bytes(word);
    chunks.iter().all(|chunk| {
        let (words, _) = chunk.as_chunks::<8>();
        words.iter().fold(0, |differs, w| differs | (u64::from_ne_bytes(*w) ^ word)) == 0
    })
}

/// Fills the page with `word`.
#[inline]
pub fn expand(word: u64, page: &mut Page) {
    if word == 0 {
        page.fill(0);
        return;
    }
    let (words, _) = page.as_chunks_mut::<8>();
    words.fill(word.to_ne_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::PAGE_SIZE;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_filled_page_gives_its_word(fill: u64) {
            let mut page = [0xa5; PAGE_SIZE];
            expand(fill, &mut page);
            prop_assert_eq!(word(&page), Some(fill));
        }

        #[test]
        fn one_different_byte_is_seen(fill: u64, at in 0..PAGE_SIZE, flip in 1..=255u8) {
            let mut page = [0; PAGE_SIZE];
            expand(fill, &mut page);
            page[at] ^= flip;
            prop_assert_eq!(word(&page), None);
        }
    }
}

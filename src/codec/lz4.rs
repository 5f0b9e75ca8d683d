//! lz4 in blocks of one page, without a dictionary.

use crate::error::IoError;
use crate::units::{PAGE_SIZE, Page};
use lz4_flex::block::{
    CompressTable, compress_into_with_table, decompress_into, get_maximum_output_size,
};
use std::fmt;

/// Room that [`Lz4::compress`] needs. lz4_flex refuses a smaller buffer, so that it need not check as it goes.
pub const OUTPUT_BYTES: usize = get_maximum_output_size(PAGE_SIZE);

/// The compressor's table, reused from page to page.
///
/// The large table, not the small one that lz4_flex takes for inputs below 64 KiB: on a 64-bit machine the large one
/// hashes five bytes instead of four. The corpus takes 1.2 % less, at the same speed (bench/NOTES.md, "Codec").
pub struct Lz4 {
    table: CompressTable,
}

impl Lz4 {
    /// A compressor. Allocates its table (16 KiB); compression does not allocate.
    pub fn new() -> Self {
        Self { table: CompressTable::large() }
    }

    /// Compresses a page and returns how many bytes of `output` that took, which may be more than a page.
    #[inline]
    pub fn compress(&mut self, page: &Page, output: &mut [u8; OUTPUT_BYTES]) -> usize {
        compress_into_with_table(page, output, &mut self.table)
            .expect("the output has the room that lz4_flex asks for")
    }
}

impl Default for Lz4 {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Lz4 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lz4").finish_non_exhaustive()
    }
}

/// Decompresses `object` to a page. [`IoError::Corrupt`] if it is not lz4 or not exactly a page; the page is then
/// partly written. Does not allocate or block.
#[inline]
pub fn decompress(object: &[u8], page: &mut Page) -> Result<(), IoError> {
    match decompress_into(object, page) {
        Ok(PAGE_SIZE) => Ok(()),
        Ok(_) | Err(_) => Err(IoError::Corrupt),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn page(period: usize, seed: u8) -> Page {
        std::array::from_fn(|i| ((i % period) as u8).wrapping_mul(seed | 1))
    }

    proptest! {
        #[test]
        fn pages_come_back(period in 1..PAGE_SIZE, seed: u8) {
            let (mut lz4, mut output) = (Lz4::new(), [0; OUTPUT_BYTES]);
            let page = page(period, seed);
            let len = lz4.compress(&page, &mut output);
            let mut back = [0; PAGE_SIZE];
            prop_assert_eq!(decompress(&output[..len], &mut back), Ok(()));
            prop_assert_eq!(back, page);
        }

        #[test]
        fn noise_is_an_error_or_a_page_never_a_panic(
            noise in proptest::collection::vec(any::<u8>(), 0..PAGE_SIZE),
        ) {
            let mut back = [0; PAGE_SIZE];
            prop_assert!(matches!(decompress(&noise, &mut back), Ok(()) | Err(IoError::Corrupt)));
        }
    }

    #[test]
    fn a_cut_object_is_corrupt() {
        let (mut lz4, mut output) = (Lz4::new(), [0; OUTPUT_BYTES]);
        let len = lz4.compress(&page(100, 3), &mut output);
        assert_eq!(decompress(&output[..len - 1], &mut [0; PAGE_SIZE]), Err(IoError::Corrupt));
    }
}

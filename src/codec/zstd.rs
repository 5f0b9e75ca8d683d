//! zstd in frames of one page.
//!
//! A frame here has no magic number, no checksum and no content size: a slot entry says that it is
//! zstd and how long it is, and what it holds is a page. That leaves 5 bytes of headers.
//!
//! The C library takes its memory from the program's allocator (`sys::heap`), so a call of it from
//! a sealed thread would count like any other. It takes all of it when a context is used first;
//! every page after that has the same size and parameters and needs the same memory.

use super::dictionary::Dictionary;
use crate::error::IoError;
use crate::units::{PAGE_SIZE, Page};
use std::fmt;
use zstd_safe::{CCtx, CParameter, DCtx, DParameter, FrameFormat};

/// The level that the store uses: of those that take about as long as level 1 it makes the smallest
/// objects, and level 4 takes half as long again for 2 % less (bench/NOTES.md, "Levels of zstd").
pub const LEVEL: i32 = 3;

/// A thread's compressor and decompressor.
pub struct Zstd {
    compressor: CCtx<'static>,
    decompressor: DCtx<'static>,
}

impl Zstd {
    /// Contexts for [`LEVEL`]. Allocates.
    pub fn new() -> Self {
        Self::with_level(LEVEL)
    }

    /// Contexts for another level, for measuring. Allocates everything that they will ever need.
    /// Panics without memory and if the library does not know the level.
    pub fn with_level(level: i32) -> Self {
        let (mut compressor, mut decompressor) = (CCtx::create(), DCtx::create());
        set_up(&mut compressor, level);
        decompressor
            .set_parameter(DParameter::Format(FrameFormat::Magicless))
            .expect("a parameter that zstd knows");
        let mut zstd = Self { compressor, decompressor };
        zstd.warm_up();
        zstd
    }

    /// One page through both contexts, which makes them allocate.
    fn warm_up(&mut self) {
        let page: Page = std::array::from_fn(|i| (i % 251) as u8 ^ (i >> 8) as u8);
        let (mut output, mut back) = ([0; PAGE_SIZE], [0; PAGE_SIZE]);
        let len = self.compress(&page, &mut output).expect("a page that compresses");
        let back_again = self.decompress(&output[..len], &mut back);
        assert!(back_again.is_ok() && back == page, "zstd does not give back what it was given");
    }

    /// Compresses a page and returns how many bytes of `output` that took; `None` if they are not
    /// enough, and then `output` is undefined. Does not allocate or block.
    pub fn compress(&mut self, page: &Page, output: &mut [u8]) -> Option<usize> {
        // The size of the input is known with the call, so zstd fits its parameters to one page.
        // Whatever made it fail, a page that was not compressed can be stored as it is.
        self.compressor.compress2(output, page).ok()
    }

    /// Decompresses `object` to a page. [`IoError::Corrupt`] if it is not zstd or not exactly a
    /// page; the page is then partly written. Does not allocate or block.
    pub fn decompress(&mut self, object: &[u8], page: &mut Page) -> Result<(), IoError> {
        match self.decompressor.decompress(page.as_mut_slice(), object) {
            Ok(PAGE_SIZE) => Ok(()),
            Ok(_) | Err(_) => Err(IoError::Corrupt),
        }
    }

    /// The same for an object that was compressed with a dictionary. Another one than that gives an
    /// error or a wrong page.
    pub fn decompress_with(
        &mut self,
        object: &[u8],
        dictionary: &Dictionary,
        page: &mut Page,
    ) -> Result<(), IoError> {
        let page = page.as_mut_slice();
        match self.decompressor.decompress_using_ddict(page, object, dictionary.prepared()) {
            Ok(PAGE_SIZE) => Ok(()),
            Ok(_) | Err(_) => Err(IoError::Corrupt),
        }
    }

    /// Bytes that the contexts take.
    pub fn bytes(&self) -> usize {
        self.compressor.sizeof() + self.decompressor.sizeof()
    }
}

/// Level and frame format.
pub(super) fn set_up(compressor: &mut CCtx<'_>, level: i32) {
    for parameter in [
        CParameter::CompressionLevel(level),
        CParameter::Format(FrameFormat::Magicless),
        CParameter::ContentSizeFlag(false),
        CParameter::ChecksumFlag(false),
        CParameter::DictIdFlag(false),
    ] {
        compressor.set_parameter(parameter).expect("a parameter that zstd knows");
    }
}

impl Default for Zstd {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Zstd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Zstd").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::HUGE_BYTES;
    use proptest::prelude::*;

    /// The first `random` bytes do not compress, the rest has a period.
    fn page(random: usize, period: usize, seed: u64) -> Page {
        let mut state = seed | 1;
        std::array::from_fn(|i| {
            if i >= random {
                return (i % period) as u8 ^ seed as u8;
            }
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
    }

    fn object(zstd: &mut Zstd, page: &Page) -> Vec<u8> {
        let mut output = [0; 2 * PAGE_SIZE];
        let len = zstd.compress(page, &mut output).expect("room for anything");
        output[..len].to_vec()
    }

    proptest! {
        #[test]
        fn pages_come_back_from_one_context_after_another(
            pages in proptest::collection::vec((0..=PAGE_SIZE, 1..PAGE_SIZE, any::<u64>()), 1..20),
        ) {
            let mut zstd = Zstd::new();
            for (random, period, seed) in pages {
                let page = page(random, period, seed);
                let object = object(&mut zstd, &page);
                let mut back = [0; PAGE_SIZE];
                prop_assert_eq!(zstd.decompress(&object, &mut back), Ok(()));
                prop_assert_eq!(back, page);
            }
        }

        #[test]
        fn damage_is_an_error_or_a_page_and_the_next_page_is_right(
            random in 0..PAGE_SIZE,
            period in 1..PAGE_SIZE,
            damage in proptest::collection::vec((any::<prop::sample::Index>(), 1..=255u8), 1..4),
            cut: prop::sample::Index,
        ) {
            let mut zstd = Zstd::new();
            let page = page(random, period, 7);
            let good = object(&mut zstd, &page);
            let mut bad = good.clone();
            for (at, flip) in damage {
                bad[at.index(good.len())] ^= flip;
            }
            let mut back = [0; PAGE_SIZE];
            for object in [&bad[..], &good[..cut.index(good.len())], &[&good[..], &bad].concat()] {
                let result = zstd.decompress(object, &mut back);
                prop_assert!(matches!(result, Ok(()) | Err(IoError::Corrupt)));
            }
            prop_assert_eq!(zstd.decompress(&good, &mut back), Ok(()));
            prop_assert_eq!(back, page);
        }

        #[test]
        fn noise_is_an_error_or_a_page_never_a_panic(
            noise in proptest::collection::vec(any::<u8>(), 0..PAGE_SIZE),
        ) {
            let mut back = [0; PAGE_SIZE];
            let result = Zstd::new().decompress(&noise, &mut back);
            prop_assert!(matches!(result, Ok(()) | Err(IoError::Corrupt)));
        }
    }

    #[test]
    fn what_is_not_exactly_a_page_is_corrupt() {
        let mut zstd = Zstd::new();
        let good = object(&mut zstd, &page(100, 100, 3));
        let mut back = [0; PAGE_SIZE];
        assert_eq!(zstd.decompress(&good[..good.len() - 1], &mut back), Err(IoError::Corrupt));
        let twice = [&good[..], &good].concat();
        assert_eq!(zstd.decompress(&twice, &mut back), Err(IoError::Corrupt), "two pages");
        let mut output = [0; PAGE_SIZE];
        for bytes in [&[][..], &[7; PAGE_SIZE - 1], &[7; PAGE_SIZE + 1]] {
            let len = zstd.compressor.compress2(&mut output[..], bytes).expect("room");
            assert_eq!(zstd.decompress(&output[..len], &mut back), Err(IoError::Corrupt));
        }
    }

    #[test]
    fn a_page_that_needs_more_than_there_is_is_refused_and_the_next_is_not() {
        let mut zstd = Zstd::new();
        let mut output = [0; HUGE_BYTES];
        assert_eq!(zstd.compress(&page(PAGE_SIZE, 1, 5), &mut output), None);
        let text = page(0, 97, 5);
        let len = zstd.compress(&text, &mut output).expect("compressible");
        let mut back = [0; PAGE_SIZE];
        assert_eq!(zstd.decompress(&output[..len], &mut back), Ok(()));
        assert_eq!(back, text);
    }

    #[test]
    fn headers_take_five_bytes() {
        let len = object(&mut Zstd::new(), &page(PAGE_SIZE, 1, 5)).len();
        assert_eq!(len, PAGE_SIZE + 5, "a frame header of 2 and a block header of 3");
    }

    #[test]
    fn contexts_keep_their_size() {
        let mut zstd = Zstd::new();
        let size = zstd.bytes();
        let mut back = [0; PAGE_SIZE];
        for round in 0..2000u64 {
            let page = page((round * 37 % 4097) as usize, 1 + (round % 300) as usize, round);
            let object = object(&mut zstd, &page);
            assert_eq!(zstd.decompress(&object, &mut back), Ok(()));
            assert_eq!(
                zstd.decompress(&object[..object.len() / 2], &mut back),
                Err(IoError::Corrupt)
            );
        }
        assert_eq!(zstd.bytes(), size);
    }
}

//! Compression of pages that stay: slower than on arrival, with a dictionary, on a background
//! thread.

use super::Stream;
use super::dictionary::Dictionary;
use super::zstd::set_up;
use crate::limits::HUGE_BYTES;
use crate::units::{PAGE_SIZE, Page};
use std::fmt;
use zstd_safe::{CCtx, CParameter, Strategy};

/// How hard zstd tries.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// The way it searches for matches.
    pub strategy: Strategy,
    /// log2 of places in each of its two tables.
    pub table_bits: u32,
    /// log2 of places looked at for each position.
    pub search_bits: u32,
    /// Bytes of the shortest match.
    pub match_bytes: u32,
    /// A match of so many bytes is good enough.
    pub enough_bytes: u32,
}

impl Effort {
    /// What the store uses: bench/NOTES.md, "Dictionaries".
    pub const STORE: Self = Self {
        strategy: Strategy::ZSTD_btopt,
        table_bits: 16,
        search_bits: 4,
        match_bytes: 4,
        enough_bytes: 32,
    };
}

/// What one background thread needs to recompress pages. Takes about 1.2 MiB once it has a
/// dictionary: make it when there is work, and drop it afterwards.
pub struct DenseStream {
    compressor: CCtx<'static>,
    /// To read what is there.
    pub stream: Stream,
    /// The page that is being recompressed.
    pub page: Box<Page>,
    /// Room to look at the old object again.
    pub again: Box<Page>,
    output: Box<[u8; HUGE_BYTES]>,
}

impl DenseStream {
    /// Without a dictionary. Allocates; panics without memory.
    pub fn new() -> Self {
        Self::with_effort(Effort::STORE)
    }

    /// The same with another effort, for measuring.
    pub fn with_effort(effort: Effort) -> Self {
        let mut compressor = CCtx::create();
        set_up(&mut compressor, super::zstd::LEVEL);
        for parameter in [
            CParameter::Strategy(effort.strategy),
            CParameter::HashLog(effort.table_bits),
            CParameter::ChainLog(effort.table_bits),
            CParameter::SearchLog(effort.search_bits),
            CParameter::MinMatch(effort.match_bytes),
            CParameter::TargetLength(effort.enough_bytes),
        ] {
            compressor.set_parameter(parameter).expect("a parameter that zstd knows");
        }
        let page = || Box::new([0; PAGE_SIZE]);
        let (stream, output) = (Stream::new(), Box::new([0; HUGE_BYTES]));
        Self { compressor, stream, page: page(), again: page(), output }
    }

    /// Compresses with this dictionary from now on, or without. Allocates, now and for the first
    /// page. False without memory; there is no dictionary then.
    pub fn load(&mut self, dictionary: Option<&Dictionary>) -> bool {
        let bytes = dictionary.map_or(&[][..], Dictionary::bytes);
        let loaded = self.compressor.load_dictionary(bytes).is_ok();
        if !loaded {
            let _ = self.compressor.disable_dictionary();
        }
        loaded
    }

    /// Compresses the page in [`DenseStream::page`]; `None` if it takes more than [`HUGE_BYTES`].
    pub fn compress(&mut self) -> Option<&[u8]> {
        let len = self.compressor.compress2(&mut self.output[..], &self.page[..]).ok()?;
        Some(&self.output[..len])
    }

    /// What was compressed last, of the length that it had.
    pub fn output(&self, len: usize) -> &[u8] {
        &self.output[..len]
    }

    /// Memory it takes, in bytes.
    pub fn memory_bytes(&self) -> usize {
        let buffers = 2 * PAGE_SIZE + HUGE_BYTES + self.stream.memory_bytes();
        self.compressor.sizeof() + buffers
    }
}

impl Default for DenseStream {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for DenseStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DenseStream").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::zstd::Zstd;
    use crate::error::IoError;
    use proptest::prelude::*;

    /// A page of records that share words and differ in numbers.
    fn page(seed: usize) -> Page {
        let mut text = String::new();
        for i in 0.. {
            if text.len() >= PAGE_SIZE {
                break;
            }
            let (a, b) = (seed * 7919 + i * 31, seed.wrapping_mul(i * i + 1) % 977);
            text += &format!("<object id={a:x} class=widget.{b} flags=0x{:04x} next=", a ^ b);
        }
        *text.as_bytes().first_chunk().expect("a page of text")
    }

    fn dictionary(first: usize) -> Dictionary {
        let samples: Vec<Page> = (first..first + 200).map(page).collect();
        Dictionary::train_to(&samples, 8 << 10).expect("pages that have something in common")
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn pages_come_back_with_the_dictionary_they_were_made_with(
            seed in 0..1_000_000usize,
            random in 0..PAGE_SIZE,
        ) {
            let (dictionary, mut zstd) = (dictionary(5), Zstd::new());
            let (mut dense, mut back) = (DenseStream::new(), [0; PAGE_SIZE]);
            prop_assert!(dense.load(Some(&dictionary)));
            *dense.page = page(seed);
            for (i, byte) in dense.page[..random].iter_mut().enumerate() {
                *byte ^= ((i * i) >> 3) as u8;
            }
            let page = *dense.page;
            if let Some(object) = dense.compress() {
                let back_again = zstd.decompress_with(object, &dictionary, &mut back);
                prop_assert_eq!(back_again, Ok(()));
                prop_assert_eq!(back, page);
                let cut = &object[..object.len() - 1];
                let refused = zstd.decompress_with(cut, &dictionary, &mut back);
                prop_assert_eq!(refused, Err(IoError::Corrupt));
            }
        }
    }

    #[test]
    fn a_dictionary_saves_bytes_and_survives_being_stored() {
        let trained = dictionary(5);
        let again = Dictionary::from_bytes(trained.bytes().into()).expect("its own bytes");
        let (mut dense, mut zstd, mut back) = (DenseStream::new(), Zstd::new(), [0; PAGE_SIZE]);
        *dense.page = page(12_345);
        let without = dense.compress().expect("text").len();
        assert!(dense.load(Some(&trained)));
        let object = dense.compress().expect("text");
        assert!(object.len() < without * 19 / 20, "{} of {without}", object.len());
        assert_eq!(zstd.decompress_with(object, &again, &mut back), Ok(()));
        assert_eq!(back, page(12_345));
        assert!(dense.load(None));
        assert_eq!(dense.compress().expect("text").len(), without);
    }

    #[test]
    fn another_dictionary_gives_an_error_or_a_page_never_a_panic() {
        let (right, wrong) = (dictionary(5), dictionary(90_000));
        let (mut dense, mut zstd, mut back) = (DenseStream::new(), Zstd::new(), [0; PAGE_SIZE]);
        assert!(dense.load(Some(&right)));
        for seed in 0..50 {
            *dense.page = page(seed);
            let object = dense.compress().expect("text");
            let _ = zstd.decompress_with(object, &wrong, &mut back);
            assert_eq!(zstd.decompress_with(object, &right, &mut back), Ok(()));
            assert_eq!(back, page(seed));
        }
    }

    #[test]
    fn noise_teaches_nothing_or_does_no_harm() {
        assert!(Dictionary::train(&[]).is_none());
        assert!(Dictionary::train(&[[0; PAGE_SIZE]; 3]).is_none());
    }
}

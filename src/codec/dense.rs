//! Compression of pages that stay: slower than on arrival, with a dictionary, on a background
//! thread.
//!
//! Each page is coded twice: with tables of its own where they save bytes, and with none but the
//! dictionary's, which makes the frame longer and a fifth faster to read. The second is kept if it
//! is not much longer.

use super::Stream;
use super::dictionary::Dictionary;
use super::zstd::LEVEL;
use crate::limits::{DICTIONARY_BYTES, HUGE_BYTES};
use crate::sys::zframe::{Coder, Finder, Parameter};
use crate::units::{PAGE_SIZE, Page};
use std::fmt;
use zstd_safe::Strategy;

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
    /// Bytes by which a frame may be longer if that makes it faster to read; 0: none.
    pub quick_bytes: usize,
}

impl Effort {
    /// What the store uses: bench/NOTES.md, "Dictionaries".
    pub const STORE: Self = Self {
        strategy: Strategy::ZSTD_btopt,
        table_bits: 16,
        search_bits: 4,
        match_bytes: 3,
        enough_bytes: 32,
        quick_bytes: 48,
    };
}

const TABLE_BITS_MIN: i32 = 6;
const MATCH_BYTES_MIN: i32 = 3;
const WINDOW_BITS: i32 = 18;
const _: () = assert!(DICTIONARY_BYTES + PAGE_SIZE <= 1 << WINDOW_BITS);

/// With it zstd codes by what the tables are, not by what they cost.
const QUICK: Strategy = Strategy::ZSTD_fast;

/// What one background thread needs to recompress pages. Takes about 1.6 MiB once it has a
/// dictionary: make it when there is work, and drop it afterwards.
pub struct DenseStream {
    finder: Finder,
    small: Coder,
    quick: Coder,
    /// As [`Effort::quick_bytes`] says, while there is a dictionary; else 0.
    quick_bytes: usize,
    quick_bytes_wanted: usize,
    /// To read what is there.
    pub stream: Stream,
    /// The page that is being recompressed.
    pub page: Box<Page>,
    /// Room to look at the old object again.
    pub again: Box<Page>,
    output: Box<[u8; HUGE_BYTES]>,
    other: Box<[u8; HUGE_BYTES]>,
}

impl DenseStream {
    /// Without a dictionary. Allocates; panics without memory.
    pub fn new() -> Self {
        Self::with_effort(Effort::STORE)
    }

    /// The same with another effort, for measuring.
    pub fn with_effort(effort: Effort) -> Self {
        let find = [
            (Parameter::ZSTD_c_compressionLevel, LEVEL),
            (Parameter::ZSTD_c_strategy, effort.strategy as i32),
            (Parameter::ZSTD_c_hashLog, effort.table_bits as i32),
            (Parameter::ZSTD_c_chainLog, effort.table_bits as i32),
            (Parameter::ZSTD_c_searchLog, effort.search_bits as i32),
            (Parameter::ZSTD_c_minMatch, effort.match_bytes as i32),
            (Parameter::ZSTD_c_targetLength, effort.enough_bytes as i32),
        ];
        let page = || Box::new([0; PAGE_SIZE]);
        Self {
            finder: Finder::new(PAGE_SIZE, &find),
            small: coder(effort.strategy),
            quick: coder(QUICK),
            quick_bytes: 0,
            quick_bytes_wanted: effort.quick_bytes,
            stream: Stream::new(),
            page: page(),
            again: page(),
            output: Box::new([0; HUGE_BYTES]),
            other: Box::new([0; HUGE_BYTES]),
        }
    }

    /// Compresses with this dictionary from now on, or without. Allocates, now and for the first
    /// page. False without memory; there is no dictionary then.
    pub fn load(&mut self, dictionary: Option<&Dictionary>) -> bool {
        let loaded = self.load_all(dictionary.map_or(&[], Dictionary::bytes));
        if !loaded {
            // Nothing takes no memory.
            let _ = self.load_all(&[]);
        }
        let quick = loaded && dictionary.is_some();
        self.quick_bytes = if quick { self.quick_bytes_wanted } else { 0 };
        loaded
    }

    fn load_all(&mut self, bytes: &[u8]) -> bool {
        self.finder.load(bytes) && self.small.load(bytes) && self.quick.load(bytes)
    }

    /// Compresses the page in [`DenseStream::page`]; `None` if it takes more than [`HUGE_BYTES`].
    pub fn compress(&mut self) -> Option<&[u8]> {
        let matches = self.finder.find(&self.page[..])?;
        let small = self.small.code(&matches, &mut self.output[..])?;
        let quick = match self.quick_bytes {
            0 => None,
            _ => self.quick.code(&matches, &mut self.other[..]),
        };
        let quick = quick.filter(|&len| len <= small + self.quick_bytes);
        if quick.is_some() {
            std::mem::swap(&mut self.output, &mut self.other);
        }
        Some(&self.output[..quick.unwrap_or(small)])
    }

    /// Whether what was compressed last, of the length that it had, reads as the page. Uses
    /// [`DenseStream::again`].
    pub fn comes_back(&mut self, len: usize, dictionary: Option<&Dictionary>) -> bool {
        let read = self.stream.check(&self.output[..len], dictionary, &mut self.again);
        read.is_ok() && self.again == self.page
    }

    /// What was compressed last, of the length that it had.
    pub fn output(&self, len: usize) -> &[u8] {
        &self.output[..len]
    }

    /// Memory it takes, in bytes.
    pub fn memory_bytes(&self) -> usize {
        let buffers = 2 * (PAGE_SIZE + HUGE_BYTES) + self.stream.memory_bytes();
        self.finder.bytes() + self.small.bytes() + self.quick.bytes() + buffers
    }
}

/// A coder that tries as hard as this.
fn coder(strategy: Strategy) -> Coder {
    Coder::new(&[
        (Parameter::ZSTD_c_compressionLevel, LEVEL),
        (Parameter::ZSTD_c_strategy, strategy as i32),
        // It looks for nothing itself: tables as small as can be, and any match is long enough.
        (Parameter::ZSTD_c_hashLog, TABLE_BITS_MIN),
        (Parameter::ZSTD_c_chainLog, TABLE_BITS_MIN),
        (Parameter::ZSTD_c_minMatch, MATCH_BYTES_MIN),
        // Reaches over page and dictionary.
        (Parameter::ZSTD_c_windowLog, WINDOW_BITS),
    ])
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
        // What it saves, and not what is given away for speed.
        let small = Effort { quick_bytes: 0, ..Effort::STORE };
        let trained = dictionary(5);
        let again = Dictionary::from_bytes(trained.bytes().into()).expect("its own bytes");
        let (mut dense, mut zstd, mut back) =
            (DenseStream::with_effort(small), Zstd::new(), [0; PAGE_SIZE]);
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
    fn a_frame_may_be_longer_by_so_much_and_comes_back() {
        let (trained, mut others) = (dictionary(5), 0);
        let mut streams = [0, 48, PAGE_SIZE].map(|quick_bytes| {
            let mut stream = DenseStream::with_effort(Effort { quick_bytes, ..Effort::STORE });
            assert!(stream.load(Some(&trained)));
            stream
        });
        for seed in 0..50 {
            let [small, some, any] = streams.each_mut().map(|stream| {
                *stream.page = page(12_345 + seed);
                let len = stream.compress().expect("text").len();
                assert!(stream.comes_back(len, Some(&trained)));
                stream.page[77] ^= 1;
                assert!(!stream.comes_back(len, Some(&trained)), "it is another page now");
                len
            });
            assert!(some <= small + 48 && (some == small || some == any), "{small} {some} {any}");
            others += usize::from(any != small);
        }
        assert!(others > 0, "some are coded in another way");
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

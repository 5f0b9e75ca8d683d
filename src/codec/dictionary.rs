//! Dictionaries: what many pages have in common, kept once, so that a page can refer to it.
//!
//! A dictionary is trained on pages of the machine and prepared once for decompression, which any
//! number of threads then do with it at the same time. What compression needs is prepared in the
//! one compressor that uses it ([`DenseStream`](super::DenseStream)), because it is five to ten
//! times as large.

use crate::limits::DICTIONARY_BYTES;
use crate::sys::zdict::{self, Cover};
use crate::units::{PAGE_SIZE, Page};
use std::fmt;
use zstd_safe::DDict;

/// Measured: bench/NOTES.md, "Dictionaries".
const COVER: Cover = Cover { segment_bytes: 200, match_bytes: 8, table_bits: 18, level: 6 };

/// A dictionary, ready for decompression.
pub struct Dictionary {
    bytes: Box<[u8]>,
    prepared: DDict<'static>,
}

impl Dictionary {
    /// Learns from `samples`; `None` if there is nothing to learn. For a background thread: takes
    /// about 50 us a page, and 3 MiB that it gives back besides the samples and the result.
    pub fn train(samples: &[Page]) -> Option<Self> {
        Self::train_to(samples, DICTIONARY_BYTES)
    }

    /// The same with another size in bytes, for measuring.
    pub fn train_to(samples: &[Page], bytes: usize) -> Option<Self> {
        let mut dictionary = vec![0; bytes];
        let sizes = vec![PAGE_SIZE; samples.len()];
        let len = zdict::train(&mut dictionary, samples.as_flattened(), &sizes, COVER)?;
        dictionary.truncate(len);
        Self::from_bytes(dictionary.into())
    }

    /// A dictionary trained before. `None` without memory, or if these bytes are none. Allocates.
    pub fn from_bytes(bytes: Box<[u8]>) -> Option<Self> {
        let prepared = DDict::try_create(&bytes)?;
        Some(Self { bytes, prepared })
    }

    /// What [`Dictionary::from_bytes`] takes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Memory it takes, in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.bytes.len() + self.prepared.sizeof()
    }

    /// The form that decompression uses.
    pub(super) const fn prepared(&self) -> &DDict<'static> {
        &self.prepared
    }
}

impl fmt::Debug for Dictionary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dictionary").field("bytes", &self.bytes.len()).finish_non_exhaustive()
    }
}

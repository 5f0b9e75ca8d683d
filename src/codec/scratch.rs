//! A stream: what one thread needs to compress and decompress.

use super::dictionary::Dictionary;
use super::lz4::{Lz4, OUTPUT_BYTES};
use super::zstd::Zstd;
use crate::error::IoError;
use crate::limits::HUGE_BYTES;
use crate::units::{PAGE_SIZE, Page};

/// Per-worker compression buffers, made at start so that no page needs memory.
#[derive(Debug)]
pub struct Stream {
    lz4: Lz4,
    zstd: Zstd,
    output: Box<[u8; OUTPUT_BYTES]>,
    object: Box<Page>,
}

impl Stream {
    /// Buffers for one thread, for every codec: what was stored with one has to be readable
    /// whatever new pages are stored with. Allocates about 200 KiB, most of it for [`Zstd`];
    /// nothing after that does.
    pub fn new() -> Self {
        Self {
            lz4: Lz4::new(),
            zstd: Zstd::new(),
            output: Box::new([0; OUTPUT_BYTES]),
            object: Box::new([0; PAGE_SIZE]),
        }
    }

    /// Compresses a page with lz4 into the stream's output; valid until the next call.
    #[inline]
    pub fn compress_lz4(&mut self, page: &Page) -> &[u8] {
        let len = self.lz4.compress(page, &mut self.output);
        &self.output[..len]
    }

    /// Compresses a page with zstd into the stream's output; valid until the next call. `None` if
    /// that takes more than [`HUGE_BYTES`].
    pub fn compress_zstd(&mut self, page: &Page) -> Option<&[u8]> {
        let len = self.zstd.compress(page, &mut self.output[..HUGE_BYTES])?;
        Some(&self.output[..len])
    }

    /// Room for `len` bytes (at most a page) of an object copied out of the pool.
    #[inline]
    pub fn object(&mut self, len: usize) -> &mut [u8] {
        &mut self.object[..len]
    }

    /// Decompresses the zstd object of `len` bytes that was copied to [`Stream::object`].
    /// [`IoError::Corrupt`] as [`Zstd::decompress`] says.
    pub fn decompress_zstd(&mut self, len: usize, page: &mut Page) -> Result<(), IoError> {
        self.zstd.decompress(&self.object[..len], page)
    }
}

impl Stream {
    /// The same for an object made with a dictionary.
    pub fn decompress_dense(
        &mut self,
        len: usize,
        dictionary: &Dictionary,
        page: &mut Page,
    ) -> Result<(), IoError> {
        self.zstd.decompress_with(&self.object[..len], dictionary, page)
    }

    /// Memory it takes, in bytes.
    pub fn memory_bytes(&self) -> usize {
        // The table of lz4 takes 16 KiB.
        self.zstd.bytes() + (16 << 10) + OUTPUT_BYTES + PAGE_SIZE
    }
}

impl Default for Stream {
    fn default() -> Self {
        Self::new()
    }
}

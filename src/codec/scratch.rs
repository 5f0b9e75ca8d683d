//! A stream: what one thread needs to compress and decompress.

use super::lz4::{Lz4, OUTPUT_BYTES};
use crate::units::{PAGE_SIZE, Page};

/// Per-worker compression buffers, made at start so that no page needs memory.
#[derive(Debug)]
pub struct Stream {
    lz4: Lz4,
    output: Box<[u8; OUTPUT_BYTES]>,
    object: Box<Page>,
}

impl Stream {
    /// Buffers for one thread. Allocates about 25 KiB; nothing after that does.
    pub fn new() -> Self {
        Self {
            lz4: Lz4::new(),
            output: Box::new([0; OUTPUT_BYTES]),
            object: Box::new([0; PAGE_SIZE]),
        }
    }

    /// Compresses a page into the stream's output; valid until the next call.
    #[inline]
    pub fn compress(&mut self, page: &Page) -> &[u8] {
        let len = self.lz4.compress(page, &mut self.output);
        &self.output[..len]
    }

    /// Room for `len` bytes (at most a page) of an object copied out of the pool.
    #[inline]
    pub fn object(&mut self, len: usize) -> &mut [u8] {
        &mut self.object[..len]
    }
}

impl Default for Stream {
    fn default() -> Self {
        Self::new()
    }
}

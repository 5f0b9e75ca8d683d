//! The pool takes memory and gives it back. Both block for the kernel, without the pool's lock: for
//! background threads.

use super::Pool;
use crate::limits::SLAB_BYTES;
use std::io;
use std::ops::Range;

impl Pool {
    /// Makes up to `bytes` more of the arena resident, lowest slabs first, and adds them; `false`
    /// if all of it is. Blocks while the kernel finds the memory. On an error nothing was added.
    pub fn grow(&self, bytes: u64) -> io::Result<bool> {
        let slabs = (bytes as usize / SLAB_BYTES).max(1);
        let Some(range) = self.slabs().take_absent(slabs) else {
            return Ok(false);
        };
        let (offset, len) = place(&range);
        let populated = self.arena.populate(offset, len);
        if populated.is_err() {
            // What the kernel did find. Should this fail as well, that is lost until growth.
            let _ = self.arena.punch(offset, len);
        }
        let mut slabs = self.slabs();
        match populated {
            Ok(()) => slabs.add(range),
            Err(_) => slabs.put_absent(range),
        }
        self.note_free(&slabs);
        populated.map(|()| true)
    }

    /// Gives up to `bytes` of free slabs back to the kernel, highest first, as long as `keep` bytes
    /// of them stay. Returns how many bytes: 0 if there is nothing to give. One run of neighbours
    /// at a time, so call again. Blocks while the kernel takes the memory. On an error nothing
    /// was given.
    pub fn give_back(&self, keep: u64, bytes: u64) -> io::Result<u64> {
        let keep = keep.div_ceil(SLAB_BYTES as u64);
        let range = {
            let mut slabs = self.slabs();
            let range = slabs.take_spare(keep, bytes as usize / SLAB_BYTES);
            self.note_free(&slabs);
            range
        };
        let Some(range) = range else {
            return Ok(0);
        };
        let (offset, len) = place(&range);
        let punched = self.arena.punch(offset, len);
        let mut slabs = self.slabs();
        match punched {
            Ok(()) => slabs.put_absent(range),
            Err(_) => slabs.add(range),
        }
        self.note_free(&slabs);
        punched.map(|()| len as u64)
    }
}

/// Offset and length in bytes.
fn place(slabs: &Range<usize>) -> (usize, usize) {
    (slabs.start * SLAB_BYTES, slabs.len() * SLAB_BYTES)
}

//! Shared mappings of state files: the arena of objects and the slot table's words.
//!
//! The files live on a tmpfs that is never swapped; all but the arena beyond its reserve is
//! populated before the device starts, and all of it is locked. References into the arena are never
//! made, because other threads write next to them: bytes are copied in and out. Who may touch which
//! bytes when is the pool's and the slot lock's business; a violation gives wrong bytes (which the
//! object header and the decoder catch), not a wild access, since every range is checked.

use memmap2::{Advice, MmapOptions, MmapRaw};
use std::fs::File;
use std::io;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Maps the first `len` bytes of `file`, shared, every page present when this returns. Blocks while
/// the kernel finds the memory.
pub(super) fn map_populated(file: &File, len: usize) -> io::Result<MmapRaw> {
    MmapOptions::new().len(len).populate().map_raw(file)
}

/// The arena: bytes addressed by offset, so that nothing in it depends on where it is mapped.
///
/// Contract: only its first [`Arena::resident`] bytes may be used. Beyond them there is no memory
/// yet, and a touch would allocate where nobody may wait.
#[derive(Debug)]
pub struct Arena {
    map: MmapRaw,
    resident: AtomicUsize,
    growing: Mutex<()>,
}

impl Arena {
    /// Maps `len` bytes of `file` as an arena and makes every page present.
    pub fn new(file: &File, len: usize) -> io::Result<Self> {
        let arena = Self::sparse(file, len)?;
        arena.populate(len)?;
        Ok(arena)
    }

    /// Maps `len` bytes of `file` as an arena of which nothing is resident yet.
    pub fn sparse(file: &File, len: usize) -> io::Result<Self> {
        let map = MmapOptions::new().len(len).map_raw(file)?;
        Ok(Self { map, resident: AtomicUsize::new(0), growing: Mutex::new(()) })
    }

    /// Makes the first `len` bytes resident (`len` in whole pages), if they are not. Blocks while
    /// the kernel finds the memory, and holds the mapping lock for reading meanwhile, so ask for
    /// little at a time. On an error what was resident before still is.
    pub fn populate(&self, len: usize) -> io::Result<()> {
        let _alone = self.growing.lock().unwrap_or_else(PoisonError::into_inner);
        let have = self.resident();
        let want = len.min(self.len());
        if want > have {
            self.map.advise_range(Advice::PopulateWrite, have, want - have)?;
            self.resident.store(want, Ordering::Release);
        }
        Ok(())
    }

    /// Bytes from the start that are in RAM and may be used.
    pub fn resident(&self) -> usize {
        self.resident.load(Ordering::Acquire)
    }

    /// Size in bytes.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether the arena has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Checks that `len` bytes at `offset` are inside and returns their address.
    #[inline]
    fn range(&self, offset: usize, len: usize) -> *mut u8 {
        let end = offset.checked_add(len).expect("arena offset overflow");
        assert!(end <= self.map.len(), "range {offset}+{len} outside the arena");
        self.map.as_mut_ptr().wrapping_add(offset)
    }

    /// Copies `bytes` to `offset`. Panics if that is outside. The caller owns the target range by
    /// the pool's rules.
    #[inline]
    pub fn copy_in(&self, offset: usize, bytes: &[u8]) {
        let target = self.range(offset, bytes.len());
        // SAFETY: `range` checked that the target lies in the live mapping; `bytes` is a Rust
        // borrow, and no Rust reference into the mapping exists, so the two cannot overlap.
        unsafe { target.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) }
    }

    /// Whether the bytes at `offset` are these. Panics if the range is outside.
    pub fn equals(&self, offset: usize, bytes: &[u8]) -> bool {
        let mut copy = [0; COMPARE_BYTES];
        bytes.chunks(COMPARE_BYTES).enumerate().all(|(i, part)| {
            let copy = &mut copy[..part.len()];
            self.copy_out(offset + i * COMPARE_BYTES, copy);
            copy == part
        })
    }

    /// Copies the bytes at `offset` out to `bytes`. Panics if the range is outside.
    #[inline]
    pub fn copy_out(&self, offset: usize, bytes: &mut [u8]) {
        let source = self.range(offset, bytes.len());
        // SAFETY: as in `copy_in`, with the roles exchanged.
        unsafe { source.copy_to_nonoverlapping(bytes.as_mut_ptr(), bytes.len()) }
    }
}

/// Bytes compared at a time.
const COMPARE_BYTES: usize = 256;

/// A shared mapping seen as atomic words.
#[derive(Debug)]
pub struct Words {
    map: MmapRaw,
}

impl Words {
    /// Maps `count` words of `file` and makes every page present.
    pub fn new(file: &File, count: usize) -> io::Result<Self> {
        Ok(Self { map: map_populated(file, count * size_of::<AtomicU64>())? })
    }
}

impl Deref for Words {
    type Target = [AtomicU64];

    #[inline]
    fn deref(&self) -> &[AtomicU64] {
        let count = self.map.len() / size_of::<AtomicU64>();
        // SAFETY: the mapping is page-aligned, initialised by the kernel, lives as long as `self`,
        // and is only ever accessed through atomics.
        unsafe { std::slice::from_raw_parts(self.map.as_mut_ptr().cast(), count) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(len: u64) -> File {
        let file = tempfile::tempfile().expect("temporary file");
        file.set_len(len).expect("size");
        file
    }

    #[test]
    fn arena_returns_what_was_put_in() {
        let arena = Arena::new(&file(8192), 8192).expect("map");
        arena.copy_in(4090, b"across a page");
        let mut back = [0; 13];
        arena.copy_out(4090, &mut back);
        assert_eq!(&back, b"across a page");
        assert!(arena.equals(4090, b"across a page") && !arena.equals(4090, b"across a pagE"));
    }

    #[test]
    fn an_arena_becomes_resident_from_the_start() {
        let arena = Arena::sparse(&file(16384), 16384).expect("map");
        assert_eq!(arena.resident(), 0);
        arena.populate(8192).expect("memory");
        arena.populate(4096).expect("nothing to do");
        assert_eq!(arena.resident(), 8192);
        arena.populate(1 << 30).expect("as much as there is");
        assert_eq!(arena.resident(), 16384);
    }

    #[test]
    #[should_panic(expected = "outside the arena")]
    fn arena_refuses_a_range_outside() {
        Arena::new(&file(4096), 4096).expect("map").copy_in(4095, &[1, 2]);
    }
}

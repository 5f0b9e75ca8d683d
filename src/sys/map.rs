//! Shared mappings of state files: the arena of objects and the slot table's words.
//!
//! The files live on a tmpfs that is never swapped; all but the arena beyond its reserve is
//! populated before the device starts, and all of it is locked. References into the arena are never
//! made, because other threads write next to them: bytes are copied in and out. Who may touch which
//! bytes when is the pool's and the slot lock's business; a violation gives wrong bytes (which the
//! object header and the decoder catch), not a wild access, since every range is checked.

use crate::chaos::crash_point;
use memmap2::{Advice, MmapMut, MmapOptions, MmapRaw};
use rustix::fs::FallocateFlags;
use std::fs::File;
use std::io;
use std::ops::{Deref, Range};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Maps the first `len` bytes of `file`, shared, every page present when this returns. Blocks while
/// the kernel finds the memory. Never part of a core dump, whoever makes one.
pub(super) fn map_populated(file: &File, len: usize) -> io::Result<MmapRaw> {
    let map = MmapOptions::new().len(len).populate().map_raw(file)?;
    map.advise(Advice::DontDump)?;
    Ok(map)
}

/// A file that is kept in memory, if memory of this process is locked as it comes.
#[derive(Debug)]
pub struct Held {
    _map: MmapRaw,
}

impl Held {
    /// Maps all of `file` for reading. Blocks while it is read.
    pub fn new(file: &File) -> io::Result<Self> {
        let map = MmapOptions::new().populate().map_raw_read_only(file)?;
        Ok(Self { _map: map })
    }
}

/// The arena: bytes addressed by offset, so that nothing in it depends on where it is mapped.
///
/// Contract: only bytes that were made resident and not given back since may be used; who made
/// which so is the pool's to know. Elsewhere there is no memory, and a touch would allocate where
/// nobody may wait.
#[derive(Debug)]
pub struct Arena {
    map: MmapRaw,
    file: File,
    /// Bytes from the start that were resident before anybody shared this.
    resident_at_start: usize,
}

impl Arena {
    /// Maps `len` bytes of `file` as an arena and makes every page present.
    pub fn new(file: &File, len: usize) -> io::Result<Self> {
        let mut arena = Self::sparse(file, len)?;
        arena.prepare(len)?;
        Ok(arena)
    }

    /// Maps `len` bytes of `file` as an arena of which nothing is resident yet.
    pub fn sparse(file: &File, len: usize) -> io::Result<Self> {
        let map = MmapOptions::new().len(len).map_raw(file)?;
        map.advise(Advice::DontDump)?;
        Ok(Self { map, file: file.try_clone()?, resident_at_start: 0 })
    }

    /// Makes the first `len` bytes (whole pages, or all there are) resident before the arena is
    /// shared. Blocks while the kernel finds the memory.
    pub fn prepare(&mut self, len: usize) -> io::Result<()> {
        let len = len.min(self.len());
        self.populate(0, len)?;
        self.resident_at_start = self.resident_at_start.max(len);
        Ok(())
    }

    /// Bytes from the start that [`Arena::prepare`] made resident.
    pub fn resident_at_start(&self) -> usize {
        self.resident_at_start
    }

    /// Makes `len` bytes at `offset` (whole pages) resident. Blocks while the kernel finds the
    /// memory, and holds the mapping lock for reading meanwhile, so ask for little at a time. After
    /// an error some of them may be. Panics outside the arena.
    pub fn populate(&self, offset: usize, len: usize) -> io::Result<()> {
        self.range(offset, len);
        match len {
            0 => Ok(()),
            len => self.map.advise_range(Advice::PopulateWrite, offset, len),
        }
    }

    /// Gives the memory of `len` bytes at `offset` (whole pages) back to the kernel by a hole in
    /// the file; they would read as zeros. `madvise` could do the same, but not where the mapping
    /// is locked. Blocks for the file's lock. The caller owns the range by the pool's rules. Panics
    /// outside the arena.
    pub fn punch(&self, offset: usize, len: usize) -> io::Result<()> {
        self.range(offset, len);
        crash_point();
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        Ok(rustix::fs::fallocate(&self.file, flags, offset as u64, len as u64)?)
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
        crash_point();
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

impl Arena {
    /// The word at `offset`, which must be a multiple of 4. For words that one thread may write
    /// while another reads them, always as words. Panics outside the arena.
    #[inline]
    pub fn word(&self, offset: usize) -> u32 {
        self.word_at(offset).load(Ordering::Relaxed)
    }

    /// Writes a word, see [`Arena::word`].
    #[inline]
    pub fn set_word(&self, offset: usize, word: u32) {
        crash_point();
        self.word_at(offset).store(word, Ordering::Relaxed);
    }

    #[inline]
    fn word_at(&self, offset: usize) -> &AtomicU32 {
        assert!(offset.is_multiple_of(size_of::<AtomicU32>()), "word at {offset} is not aligned");
        let word = self.range(offset, size_of::<AtomicU32>()).cast::<AtomicU32>();
        // SAFETY: inside the live mapping, aligned because the mapping is to a page, and any bits
        // are a valid atomic. By the pool's rules the bytes are used as a word by everybody who
        // may use them at this time.
        unsafe { &*word }
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

    /// `count` words, all zero, that end with this process: for state that nobody will take over.
    pub fn private(count: usize) -> io::Result<Self> {
        Ok(Self { map: MmapMut::map_anon(count.max(1) * size_of::<AtomicU64>())?.into() })
    }

    /// A checksum of some words: tells a record that was written to its end from one that was not.
    /// Panics outside.
    pub fn sum(&self, words: Range<usize>) -> u64 {
        checksum(self[words].iter().map(|word| word.load(Ordering::Relaxed)))
    }

    /// Writes bytes to words from `first` on, the last one filled up with zeros. Panics outside.
    pub fn write(&self, first: usize, bytes: &[u8]) {
        for (word, part) in self[first..].iter().zip(bytes.chunks(size_of::<u64>())) {
            let mut whole = [0; size_of::<u64>()];
            whole[..part.len()].copy_from_slice(part);
            crash_point();
            word.store(u64::from_le_bytes(whole), Ordering::Relaxed);
        }
    }

    /// Reads what [`Words::write`] wrote. Panics outside.
    pub fn read(&self, first: usize, bytes: &mut [u8]) {
        for (word, part) in self[first..].iter().zip(bytes.chunks_mut(size_of::<u64>())) {
            let whole = word.load(Ordering::Relaxed).to_le_bytes();
            part.copy_from_slice(&whole[..part.len()]);
        }
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

/// A 64-bit checksum against accidents, not against malice (FNV-1a by words, with a last mix).
pub fn checksum(words: impl IntoIterator<Item = u64>) -> u64 {
    const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let sum = words.into_iter().fold(BASIS, |sum, word| {
        let mixed = (sum ^ word).wrapping_mul(PRIME);
        mixed ^ mixed >> 29
    });
    sum ^ sum >> 32
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
    fn shared_memory_is_in_no_core_dump() {
        let (table, arena) = (file(8192), file(4096));
        let words = Words::new(&table, 1024).expect("map");
        let arena = Arena::new(&arena, 4096).expect("map");
        let starts = [words.map.as_ptr().addr(), arena.map.as_ptr().addr()];
        let smaps = std::fs::read_to_string("/proc/self/smaps").expect("proc");
        for start in starts {
            let own = smaps.split_once(&format!("\n{start:x}-")).expect("it is mapped").1;
            let flags = own.lines().find_map(|line| line.strip_prefix("VmFlags:")).expect("flags");
            assert!(flags.split_ascii_whitespace().any(|flag| flag == "dd"), "{flags}");
        }
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
    fn memory_comes_and_goes_by_the_range() {
        use std::os::unix::fs::MetadataExt;
        let fd = rustix::fs::memfd_create("arena", rustix::fs::MemfdFlags::CLOEXEC);
        let file = File::from(fd.expect("memfd"));
        file.set_len(1 << 20).expect("size");
        let held = || file.metadata().expect("metadata").blocks() * 512;
        let mut arena = Arena::sparse(&file, 1 << 20).expect("map");
        assert_eq!((arena.resident_at_start(), held()), (0, 0));
        arena.prepare(8192).expect("memory");
        assert_eq!((arena.resident_at_start(), held()), (8192, 8192));
        arena.populate(32768, 16384).expect("memory");
        arena.set_word(32768, 7);
        assert_eq!(held(), 24576);
        arena.punch(32768, 8192).expect("shmem can do this");
        assert_eq!(held(), 16384);
        arena.populate(32768, 4096).expect("memory");
        assert_eq!((arena.word(32768), held()), (0, 20480));
    }

    #[test]
    #[should_panic(expected = "outside the arena")]
    fn arena_refuses_a_range_outside() {
        Arena::new(&file(4096), 4096).expect("map").copy_in(4095, &[1, 2]);
    }

    #[test]
    fn words_give_bytes_back_and_their_sum_tells_changes() {
        let words = Words::private(8).expect("memory");
        words.write(2, b"eleven bytes"[..11].as_ref());
        let (mut back, sum) = ([0; 11], words.sum(0..8));
        words.read(2, &mut back);
        assert_eq!(&back, b"eleven byte");
        for bit in 0..512 {
            let flip = 1 << (bit % 64);
            words[bit / 64].fetch_xor(flip, Ordering::Relaxed);
            assert_ne!(words.sum(0..8), sum, "bit {bit}");
            words[bit / 64].fetch_xor(flip, Ordering::Relaxed);
        }
        assert_eq!(words.sum(0..8), sum);
    }
}

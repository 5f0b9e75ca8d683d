//! Memory that requests' data lies in: one shared mapping, cut into runs of pages with one owner
//! each.
//!
//! The file is populated and locked before the device starts. A run is the unit of ownership: the
//! ring gives it to the kernel with a fetch and gets it back with the completion, staging keeps it
//! until its pages have moved on, and dropping it makes its pages free. Taking and dropping neither
//! allocate nor wait, from any thread.

use super::map::map_populated;
use crate::units::{BufferPage, PAGE_SIZE, Page};
use memmap2::MmapRaw;
use std::fs::File;
use std::io;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Pages of a chunk, the largest run: one bit of a word each.
pub const CHUNK_PAGES: u32 = u64::BITS;

/// Where to look for free pages first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Search {
    /// From the start: for short runs.
    Low,
    /// From the end: for long runs, so that short ones do not break up what they need.
    High,
}

/// The mapping and who owns what of it.
///
/// Invariant: a page's bit is set if and only if exactly one [`IoBuf`] covers the page.
#[derive(Debug)]
pub struct BufferArea {
    map: MmapRaw,
    owned: Box<[AtomicU64]>,
}

impl BufferArea {
    /// Maps `chunks` chunks of `file`, every page present and free. Allocates; blocks while the
    /// kernel finds the memory.
    pub fn new(file: &File, chunks: usize) -> io::Result<Arc<Self>> {
        let map = map_populated(file, chunks * CHUNK_PAGES as usize * PAGE_SIZE)?;
        let owned = (0..chunks).map(|_| AtomicU64::new(0)).collect();
        Ok(Arc::new(Self { map, owned }))
    }

    /// Takes `pages` free pages in a row, 1 to [`CHUNK_PAGES`]; `None` if there is no such run.
    /// What is in them is left over from before.
    #[inline]
    pub fn take(self: &Arc<Self>, pages: u32, search: Search) -> Option<IoBuf> {
        let count = self.owned.len();
        for i in 0..count {
            let (chunk, high) = match search {
                Search::Low => (i, false),
                Search::High => (count - 1 - i, true),
            };
            if let Some(first) = claim(&self.owned[chunk], pages, high) {
                let first = chunk as u32 * CHUNK_PAGES + first;
                return Some(IoBuf { area: Arc::clone(self), first, pages });
            }
        }
        None
    }

    /// Takes the page at `at`, of which somebody wrote down that it is in use; `None` if there is
    /// no
    /// such page, or somebody has it already.
    pub fn claim(self: &Arc<Self>, at: BufferPage) -> Option<IoBuf> {
        let word = self.owned.get((at.0 / CHUNK_PAGES) as usize)?;
        let bit = mask(at.0 % CHUNK_PAGES, 1);
        let before = word.fetch_or(bit, Ordering::Acquire);
        (before & bit == 0).then(|| IoBuf { area: Arc::clone(self), first: at.0, pages: 1 })
    }

    /// Pages that nobody owns.
    pub fn free_pages(&self) -> u64 {
        self.owned.iter().map(|w| u64::from(w.load(Ordering::Relaxed).count_zeros())).sum()
    }

    /// Bytes of the mapping.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether there is no page at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies a page out for somebody who does not own it. Panics if there is no such page.
    ///
    /// Contract: only a page whose owner promised to leave it alone, as the owner of a staged page
    /// does until no slot names it. A violation gives wrong bytes, not a wild access.
    #[inline]
    pub fn copy_out(&self, at: BufferPage, page: &mut Page) {
        let source = self.address(at.0, 1);
        // SAFETY: `address` checked that the page is inside the live mapping.
        unsafe { source.copy_to_nonoverlapping(page.as_mut_ptr(), PAGE_SIZE) }
    }

    #[inline]
    fn address(&self, first: u32, pages: u32) -> *mut u8 {
        let (start, len) = (first as usize * PAGE_SIZE, pages as usize * PAGE_SIZE);
        assert!(start + len <= self.map.len(), "pages {first}+{pages} outside the buffers");
        self.map.as_mut_ptr().wrapping_add(start)
    }
}

/// Bits `first` to `first + pages` of a chunk, at least one.
#[inline]
const fn mask(first: u32, pages: u32) -> u64 {
    (u64::MAX >> (u64::BITS - pages)) << first
}

/// Start of a run of `pages` set bits: the lowest or the highest there is.
#[inline]
fn find_run(free: u64, pages: u32, high: bool) -> Option<u32> {
    let (mut starts, mut have) = (free, 1);
    while have < pages && starts != 0 {
        let step = have.min(pages - have);
        starts &= starts >> step;
        have += step;
    }
    match starts {
        0 => None,
        _ if high => Some(u64::BITS - 1 - starts.leading_zeros()),
        _ => Some(starts.trailing_zeros()),
    }
}

/// Sets the bits of a free run.
#[inline]
fn claim(word: &AtomicU64, pages: u32, high: bool) -> Option<u32> {
    let mut seen = word.load(Ordering::Relaxed);
    loop {
        let first = find_run(!seen, pages, high)?;
        // Acquire: what the former owner did with the pages came before.
        let new = seen | mask(first, pages);
        match word.compare_exchange_weak(seen, new, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => return Some(first),
            Err(now) => seen = now,
        }
    }
}

/// A run of pages with exactly one owner.
///
/// Contract: whoever holds the value may read and write the bytes. Giving it to the ring with a
/// fetch gives the bytes to the kernel, which writes into them at any time until the completion
/// hands the value back.
#[derive(Debug)]
pub struct IoBuf {
    area: Arc<BufferArea>,
    first: u32,
    pages: u32,
}

impl IoBuf {
    /// The first page among all buffers.
    pub fn first_page(&self) -> BufferPage {
        BufferPage(self.first)
    }

    /// How many pages it has.
    pub fn pages(&self) -> u32 {
        self.pages
    }

    /// Address to tell the kernel.
    pub fn address(&self) -> u64 {
        self.area.address(self.first, self.pages) as u64
    }

    /// Cuts the first `pages` pages off and returns them. Panics if there are fewer.
    pub fn split_front(&mut self, pages: u32) -> Self {
        assert!(pages <= self.pages, "cannot cut {pages} pages off {}", self.pages);
        let front = Self { area: Arc::clone(&self.area), first: self.first, pages };
        self.first += pages;
        self.pages -= pages;
        front
    }
}

impl Drop for IoBuf {
    #[inline]
    fn drop(&mut self) {
        // The rest of a run that was split at its end: it may begin beyond the last chunk.
        if self.pages == 0 {
            return;
        }
        let word = &self.area.owned[(self.first / CHUNK_PAGES) as usize];
        // Release: what we did with the pages comes before what the next owner does.
        word.fetch_and(!mask(self.first % CHUNK_PAGES, self.pages), Ordering::Release);
    }
}

impl Deref for IoBuf {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        let start = self.area.address(self.first, self.pages);
        // SAFETY: the range is inside the mapping, which `area` keeps alive; by the area's
        // invariant nobody else owns these pages, and holding `self` means the kernel does not.
        unsafe { std::slice::from_raw_parts(start, self.pages as usize * PAGE_SIZE) }
    }
}

impl DerefMut for IoBuf {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        let start = self.area.address(self.first, self.pages);
        // SAFETY: as in `deref`, and `&mut self` makes the access exclusive.
        unsafe { std::slice::from_raw_parts_mut(start, self.pages as usize * PAGE_SIZE) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn area(chunks: usize) -> Arc<BufferArea> {
        let file = tempfile::tempfile().expect("temporary file");
        file.set_len((chunks * CHUNK_PAGES as usize * PAGE_SIZE) as u64).expect("size");
        BufferArea::new(&file, chunks).expect("map")
    }

    #[test]
    fn runs_do_not_overlap_and_come_back() {
        let area = area(2);
        let mut runs = Vec::new();
        while let Some(mut run) = area.take(5, Search::Low) {
            run.fill(runs.len() as u8);
            runs.push(run);
        }
        assert_eq!(runs.len(), 24, "12 runs of 5 in each chunk of 64");
        assert!(runs.iter().enumerate().all(|(i, r)| r.iter().all(|&b| b == i as u8)));
        let mut page = [0; PAGE_SIZE];
        area.copy_out(runs[7].first_page(), &mut page);
        assert_eq!(page, [7; PAGE_SIZE]);
        drop(runs);
        assert_eq!(area.free_pages(), 128);
        assert!(area.take(64, Search::High).is_some());
    }

    #[test]
    fn a_split_run_comes_back_in_parts() {
        let area = area(1);
        let mut run = area.take(64, Search::Low).expect("free");
        let front = run.split_front(10);
        assert_eq!((front.pages(), run.pages(), run.first_page()), (10, 54, BufferPage(10)));
        drop(run);
        assert_eq!(area.free_pages(), 54);
        assert!(area.take(55, Search::Low).is_none());
        drop(front);
        assert!(area.take(64, Search::Low).is_some());
    }

    #[test]
    fn a_page_is_claimed_once() {
        let area = area(2);
        let page = area.claim(BufferPage(70)).expect("free");
        assert_eq!((page.first_page(), page.pages()), (BufferPage(70), 1));
        assert!(area.claim(BufferPage(70)).is_none() && area.claim(BufferPage(128)).is_none());
        assert_eq!(area.take(64, Search::High).map(|run| run.first_page()), Some(BufferPage(0)));
        drop(page);
        assert!(area.claim(BufferPage(70)).is_some());
    }

    #[test]
    fn an_empty_rest_of_the_last_chunk_frees_nothing() {
        let area = area(1);
        let mut run = area.take(64, Search::Low).expect("free");
        let all = run.split_front(64);
        drop(run);
        assert_eq!(area.free_pages(), 0);
        drop(all);
        assert_eq!(area.free_pages(), 64);
    }

    #[test]
    fn threads_never_own_the_same_page() {
        let area = area(3);
        std::thread::scope(|scope| {
            for mark in 1..=4u8 {
                let area = &area;
                scope.spawn(move || {
                    for i in 0..2000u32 {
                        let search = if i % 2 == 0 { Search::Low } else { Search::High };
                        let Some(mut run) = area.take(1 + i % 32, search) else { continue };
                        run.fill(mark);
                        std::thread::yield_now();
                        assert!(run.iter().all(|&b| b == mark));
                        drop(run.split_front(i % 2));
                    }
                });
            }
        });
        assert_eq!(area.free_pages(), 192);
    }

    proptest! {
        #[test]
        fn a_run_is_found_where_there_is_one(free: u64, pages in 1..=64u32, high: bool) {
            let fits = |first| free & mask(first, pages) == mask(first, pages);
            let all: Vec<u32> = (0..=64 - pages).filter(|&first| fits(first)).collect();
            let wanted = if high { all.last() } else { all.first() };
            prop_assert_eq!(find_run(free, pages, high), wanted.copied());
        }
    }
}

//! Memory in regions, every page of which knows what it must hold.

use super::REGION_PAGES;
use crate::stamped::{Source, restamp};
use crate::sys;
use memmap2::{Advice, MmapMut};
use rustix::mm::{MlockAllFlags, mlockall};
use std::hint::black_box;
use std::ops::Range;
use uswap::error::{StartError, StartResult};
use uswap::units::PAGE_SIZE;

/// Exit code of a child whose pages were what they must be.
const CHILD_GOOD: u8 = 0;
const CHILD_WRONG: u8 = 1;

/// Regions of real pages. A region is mapped by itself, so that what is freed is really gone.
#[derive(Debug)]
pub struct Heap {
    regions: Vec<Option<MmapMut>>,
    source: Source,
    /// What was last written to each page.
    generations: Vec<u32>,
}

impl Heap {
    /// Locks everything that this process has into RAM, so that what it swaps is the heap and
    /// nothing else. No region is there yet.
    pub fn new(source: Source, regions: usize) -> StartResult<Self> {
        // Not zeros, which the allocator would leave untouched until after the lock.
        let generations = vec![1; regions * REGION_PAGES];
        let mut empty = Vec::new();
        empty.resize_with(regions, || None);
        mlockall(MlockAllFlags::CURRENT).map_err(|e| {
            let remedy = "run as root, or raise the limit (`ulimit -l unlimited`)";
            StartError::failure(format!("cannot lock itself into RAM ({e})"), remedy)
        })?;
        Ok(Self { regions: empty, source, generations })
    }

    /// How many regions there may be.
    pub fn regions(&self) -> usize {
        self.regions.len()
    }

    fn bytes(page: usize) -> Range<usize> {
        let start = page % REGION_PAGES * PAGE_SIZE;
        start..start + PAGE_SIZE
    }

    /// Panics where there is none: a pattern that names one is wrong.
    fn page(&self, page: usize) -> &[u8] {
        let region = self.regions[page / REGION_PAGES].as_ref();
        &region.expect("a region that is there")[Self::bytes(page)]
    }

    /// Maps a region anew, with pages that differ from all it held before.
    pub fn fill(&mut self, region: usize) -> StartResult<()> {
        let mapped = MmapMut::map_anon(REGION_PAGES * PAGE_SIZE).and_then(|memory| {
            // A huge page would be split on its way out, which is another matter.
            memory.advise(Advice::NoHugePage)?;
            Ok(memory)
        });
        let mut memory = mapped.map_err(|e| {
            let what = format!("cannot map region {region} ({e})");
            StartError::failure(what, "give a smaller --mib")
        })?;
        for (index, page) in (region * REGION_PAGES..).zip(memory.chunks_exact_mut(PAGE_SIZE)) {
            self.generations[index] += 1;
            self.source.fill(page, index, self.generations[index]);
        }
        self.regions[region] = Some(memory);
        Ok(())
    }

    /// Unmaps a region.
    pub fn free(&mut self, region: usize) {
        self.regions[region] = None;
    }

    /// Reads one byte: a fault if the page is out.
    pub fn touch(&self, page: usize) {
        black_box(*black_box(&self.page(page)[0]));
    }

    /// An error unless the page holds what was last written to it.
    pub fn check(&self, page: usize) -> StartResult<()> {
        self.source.check(self.page(page), page, self.generations[page])
    }

    /// Changes a page.
    pub fn write(&mut self, page: usize) {
        self.generations[page] += 1;
        let region = self.regions[page / REGION_PAGES].as_mut().expect("a region that is there");
        restamp(&mut region[Self::bytes(page)], page, self.generations[page]);
    }

    /// Compares every page that is there; how many those are.
    pub fn verify(&self) -> StartResult<usize> {
        let there = |page: &usize| self.regions[*page / REGION_PAGES].is_some();
        let pages = (0..self.generations.len()).filter(there);
        pages.clone().try_for_each(|page| self.check(page))?;
        Ok(pages.count())
    }

    /// Lets a child process check its copy of so many pages from `first` on (round the end), change
    /// them, check that too, and end. Ours stay as they were. All regions must be there.
    pub fn child(&mut self, first: usize, pages: usize) -> StartResult<()> {
        let total = self.generations.len();
        let code = sys::in_child(|| {
            for page in (first..first + pages).map(|page| page % total) {
                if self.check(page).is_err() {
                    return CHILD_WRONG;
                }
                self.write(page);
            }
            let mut all = (first..first + pages).map(|page| page % total);
            if all.all(|page| self.check(page).is_ok()) { CHILD_GOOD } else { CHILD_WRONG }
        });
        match code {
            Ok(Some(CHILD_GOOD)) => Ok(()),
            Ok(Some(CHILD_WRONG)) => Err(StartError::failure(
                format!("a child found other pages than it should, from page {first} on"),
                "swap returned wrong contents: keep the guest's output and report it",
            )),
            Ok(code) => Err(StartError::failure(
                format!("a child ended with {code:?}"),
                "look at the kernel's messages: it was killed",
            )),
            Err(e) => Err(StartError::failure(format!("no child ({e})"), "give a smaller --mib")),
        }
    }
}

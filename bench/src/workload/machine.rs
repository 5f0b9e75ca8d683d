//! A machine that is too small, as a model: which pages its kernel would write to swap, and to
//! which slots, while a [`Pattern`] is at work. What comes out is a trace, in no time and without a
//! guest.
//!
//! The model is Linux's as far as a swap device sees it. Anonymous pages are on an inactive and an
//! active list of equal length; what was touched while it was inactive becomes active, what was not
//! leaves. A page that was read keeps its slot and is written again only if it has changed since; a
//! fault that writes frees the slot. Slots are handed out in order within clusters of 2 MiB; a
//! cluster that is empty again is discarded. There is no read-ahead (`vm.page-cluster` is 0) and
//! one CPU.

use super::{Common, Pattern, REGION_PAGES, Step};
use crate::stamped::Source;
use crate::swap::random::Random;
use std::collections::VecDeque;
use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use uswap::codec::lz4::{Lz4, OUTPUT_BYTES};
use uswap::error::{StartError, StartResult};
use uswap::limits::HUGE_BYTES;
use uswap::trace::{Event, Header, Kind, Source as Found, Stored, TraceError, Writer};
use uswap::units::{PAGE_SIZE, Page as Bytes, SlotIndex};

/// Slots of a cluster: 2 MiB.
const CLUSTER: usize = 512;
/// Slots of the device for each page that there may be: what is stale takes some.
const SLOTS_PER_PAGE: usize = 2;

/// A page of the program.
#[derive(Clone, Copy, Debug, Default)]
struct Page {
    resident: bool,
    touched: bool,
    active: bool,
    /// Changed since it was written to its slot.
    dirty: bool,
    slot: Option<u32>,
    /// Which entry of the lists is this page's: older ones are not.
    stamp: u32,
}

/// The slots of the device.
#[derive(Debug)]
struct Slots {
    used: Vec<bool>,
    /// Used ones of each cluster.
    counts: Vec<usize>,
    /// Clusters with nothing in them.
    empty: VecDeque<usize>,
    /// Where the next slot is looked for.
    cluster: usize,
}

impl Slots {
    fn new(pages: usize) -> Self {
        let clusters = (pages * SLOTS_PER_PAGE).div_ceil(CLUSTER);
        Self {
            used: vec![false; clusters * CLUSTER],
            counts: vec![0; clusters],
            empty: (1..clusters).collect(),
            cluster: 0,
        }
    }

    /// There are more slots than pages, so one is always free.
    fn take(&mut self) -> u32 {
        if self.counts[self.cluster] == CLUSTER {
            let some = || self.counts.iter().position(|count| *count < CLUSTER);
            self.cluster = self.empty.pop_front().or_else(some).expect("a free slot");
        }
        let first = self.cluster * CLUSTER;
        let free = self.used[first..first + CLUSTER].iter().position(|used| !used);
        let slot = first + free.expect("a free slot in a cluster that is not full");
        self.used[slot] = true;
        self.counts[self.cluster] += 1;
        slot as u32
    }

    /// Frees a slot; the first one of its cluster if that is empty now.
    fn give(&mut self, slot: u32) -> Option<u32> {
        let cluster = slot as usize / CLUSTER;
        self.used[slot as usize] = false;
        self.counts[cluster] -= 1;
        if self.counts[cluster] > 0 || cluster == self.cluster {
            return None;
        }
        self.empty.push_back(cluster);
        Some((cluster * CLUSTER) as u32)
    }
}

/// The machine, at work.
struct Machine {
    pages: Vec<Page>,
    /// Pages that the program has by itself; children's copies come after them.
    own: usize,
    slots: Slots,
    inactive: VecDeque<(usize, u32)>,
    active: VecDeque<(usize, u32)>,
    resident: usize,
    actives: usize,
    ram: usize,
    /// What each captured page becomes.
    stored: Vec<Stored>,
    time_us: u64,
    writer: Writer<BufWriter<File>>,
}

impl Machine {
    fn tell(&mut self, slot: u32, kind: Kind) -> Result<(), TraceError> {
        self.writer.push(&Event { time_us: self.time_us, slot: SlotIndex(slot), kind })
    }

    fn stored(&self, page: usize) -> Stored {
        self.stored[page % self.own % self.stored.len()]
    }

    fn list(&mut self, page: usize, active: bool) {
        let stamp = self.pages[page].stamp.wrapping_add(1);
        self.pages[page].stamp = stamp;
        self.actives += usize::from(active);
        self.actives -= usize::from(std::mem::replace(&mut self.pages[page].active, active));
        let list = if active { &mut self.active } else { &mut self.inactive };
        list.push_back((page, stamp));
    }

    /// The oldest page of a list that is still on it.
    fn oldest(&mut self, active: bool) -> Option<usize> {
        loop {
            let list = if active { &mut self.active } else { &mut self.inactive };
            let (page, stamp) = list.pop_front()?;
            if self.pages[page].resident && self.pages[page].stamp == stamp {
                return Some(page);
            }
        }
    }

    /// Pushes a page out.
    fn reclaim(&mut self) -> Result<(), TraceError> {
        loop {
            while self.actives * 2 > self.resident {
                let Some(page) = self.oldest(true) else { break };
                self.pages[page].touched = false;
                self.list(page, false);
            }
            let page = self.oldest(false).or_else(|| self.oldest(true)).expect("a page");
            if std::mem::take(&mut self.pages[page].touched) {
                self.list(page, true);
                continue;
            }
            return self.evict(page);
        }
    }

    fn evict(&mut self, page: usize) -> Result<(), TraceError> {
        self.drop_from_ram(page);
        let Page { dirty, slot, .. } = self.pages[page];
        if slot.is_some() && !dirty {
            return Ok(());
        }
        let slot = slot.unwrap_or_else(|| self.slots.take());
        self.pages[page].slot = Some(slot);
        self.pages[page].dirty = false;
        let stored = self.stored(page);
        self.tell(slot, Kind::Write)?;
        self.tell(slot, Kind::Stored(stored))
    }

    fn drop_from_ram(&mut self, page: usize) {
        let page = &mut self.pages[page];
        self.resident -= 1;
        self.actives -= usize::from(std::mem::take(&mut page.active));
        page.resident = false;
    }

    fn free_slot(&mut self, page: usize) -> Result<(), TraceError> {
        let Some(slot) = self.pages[page].slot.take() else { return Ok(()) };
        match self.slots.give(slot) {
            Some(first) => self.tell(first, Kind::Discard { count: CLUSTER as u32 }),
            None => Ok(()),
        }
    }

    /// The program touches a page. One that was never there is a new one.
    fn touch(&mut self, page: usize, write: bool) -> Result<(), TraceError> {
        if !self.pages[page].resident {
            if self.resident == self.ram {
                self.reclaim()?;
            }
            if let Some(slot) = self.pages[page].slot {
                let huge = self.stored(page) == Stored::Huge;
                self.tell(slot, Kind::Read(if huge { Found::Huge } else { Found::Pool }))?;
                if write {
                    self.free_slot(page)?;
                }
            }
            self.pages[page].resident = true;
            self.resident += 1;
            self.list(page, false);
        } else {
            self.pages[page].touched = true;
        }
        self.pages[page].dirty |= write;
        Ok(())
    }

    /// The page is no more.
    fn free(&mut self, page: usize) -> Result<(), TraceError> {
        self.free_slot(page)?;
        if self.pages[page].resident {
            self.drop_from_ram(page);
        }
        Ok(())
    }

    /// Does a step; how many pages that touches.
    fn step(&mut self, step: Step, page_us: u64) -> Result<u64, TraceError> {
        let region = |region: usize| region * REGION_PAGES..(region + 1) * REGION_PAGES;
        let before = self.time_us;
        match step {
            Step::Read(page) => self.timed(page, false, page_us)?,
            Step::Write(page) => self.timed(page, true, page_us)?,
            Step::Fill(at) => {
                region(at).try_for_each(|page| self.timed(page, true, page_us))?;
            }
            Step::Free(at) => region(at).try_for_each(|page| self.free(page))?,
            Step::Child { first, pages } => {
                let own = self.own;
                let part = (first..first + pages).map(|page| page % own);
                for page in part.clone() {
                    self.timed(page, false, page_us)?;
                    self.touch(own + page, true)?;
                }
                for page in part {
                    self.free(own + page)?;
                }
            }
        }
        Ok((self.time_us - before) / page_us)
    }

    fn timed(&mut self, page: usize, write: bool, page_us: u64) -> Result<(), TraceError> {
        self.time_us += page_us;
        self.touch(page, write)
    }
}

/// What each page of the source becomes when it is stored by lz4.
fn stored(source: &Source) -> Vec<Stored> {
    let (mut lz4, mut output) = (Lz4::new(), [0; OUTPUT_BYTES]);
    let mut bytes: Bytes = [0; PAGE_SIZE];
    let mut one = |index: usize| {
        source.fill(&mut bytes, index, 1);
        match lz4.compress(&bytes, &mut output) {
            len if len <= HUGE_BYTES => Stored::Compressed { bytes: len as u16 },
            _ => Stored::Huge,
        }
    };
    (0..source.pages()).map(&mut one).collect()
}

/// Writes the trace of `pattern` at work, `per_second` accesses a second, in `ram_mib` MiB of RAM.
/// Returns the number of accesses; `operations` or a few more.
pub fn record(
    name: &str,
    common: &Common,
    (ram_mib, per_second, operations): (u32, u32, u64),
    pattern: &mut dyn Pattern,
    path: &Path,
) -> StartResult<u64> {
    let source = Source::load(&common.pages, common.source_mib)?;
    let fail = |e: TraceError| {
        StartError::failure(format!("cannot write {} ({e})", path.display()), "look at the disk")
    };
    let file = File::create(path).map_err(|e| fail(e.into()))?;
    let own = common.mib as usize * REGION_PAGES;
    let slots = Slots::new(2 * own);
    let header = Header {
        uswap_version: env!("CARGO_PKG_VERSION").into(),
        service: format!("model of {name}"),
        slots: slots.used.len() as u64,
        codec: "lz4".into(),
        policy: "balanced".into(),
        ..Header::default()
    };
    let mut machine = Machine {
        pages: vec![Page::default(); 2 * own],
        own,
        slots,
        inactive: VecDeque::new(),
        active: VecDeque::new(),
        resident: 0,
        actives: 0,
        ram: ram_mib as usize * REGION_PAGES,
        stored: stored(&source),
        time_us: 0,
        writer: Writer::new(BufWriter::new(file), &header).map_err(fail)?,
    };
    let page_us = (1_000_000 / u64::from(per_second)).max(1);
    let mut random = Random::new(common.seed);
    for region in 0..common.mib as usize {
        machine.step(Step::Fill(region), page_us).map_err(fail)?;
    }
    let mut done = 0;
    while done < operations {
        done += machine.step(pattern.next(&mut random), page_us).map_err(fail)?;
    }
    let duration_us = machine.time_us;
    machine.writer.finish(duration_us, 0, 0).map_err(fail)?;
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use uswap::trace::{Reader, summarize};

    #[test]
    fn a_slot_comes_back_and_an_empty_cluster_is_told() {
        let mut slots = Slots::new(CLUSTER);
        let all: Vec<u32> = (0..CLUSTER + 1).map(|_| slots.take()).collect();
        assert_eq!(all, (0..=CLUSTER as u32).collect::<Vec<_>>());
        let told: Vec<u32> = (0..CLUSTER as u32).filter_map(|slot| slots.give(slot)).collect();
        assert_eq!(told, [0], "once, when the last one went");
        assert_eq!(slots.give(CLUSTER as u32), None, "the one in use is not told");
    }

    /// Steps from a list, over and over.
    struct Listed(Vec<Step>, usize);

    impl Pattern for Listed {
        fn next(&mut self, _: &mut Random) -> Step {
            self.1 += 1;
            self.0[(self.1 - 1) % self.0.len()]
        }
    }

    fn totals(steps: Vec<Step>, operations: u64) -> uswap::trace::Totals {
        use clap::Parser;
        #[derive(Parser)]
        struct Words {
            #[command(flatten)]
            common: Common,
        }
        let dir = tempfile::tempdir().expect("directory");
        let (pages, path) = (dir.path().join("pages"), dir.path().join("trace"));
        let bytes: Vec<u8> = (0..8 * PAGE_SIZE).map(|i| (i / 100) as u8 | 1).collect();
        std::fs::write(&pages, bytes).expect("pages");
        let pages = pages.to_str().expect("UTF-8");
        let common = Words::parse_from(["x", "--mib", "8", "--pages", pages]).common;
        let numbers = (4, 1000, operations);
        record("x", &common, numbers, &mut Listed(steps, 0), &path).expect("a trace");
        let reader = Reader::new(File::open(path).expect("there")).expect("a trace");
        summarize(reader, |_| {}).expect("whole").1.totals
    }

    #[test]
    fn what_is_larger_than_ram_goes_out_and_comes_back() {
        let first = |_| Step::Read(0);
        // Filled: 8 MiB in 4 MiB of RAM. The first page is out, comes in once, and stays.
        let found = totals((0..4).map(first).collect(), 100);
        assert_eq!((found.writes, found.reads_pool), (4 * 256 + 1, 1));
        assert_eq!(found.stored_compressed, found.writes);
        // A read-only loop over everything: after the first lap every page has a good copy.
        let found = totals((0..8 * 256).map(Step::Read).collect(), 3 * 8 * 256);
        assert_eq!(found.reads_pool, 3 * 8 * 256);
        assert_eq!(found.writes, 8 * 256);
    }

    #[test]
    fn what_ends_gives_its_slots_back() {
        let child = Step::Child { first: 0, pages: 8 * 256 };
        let found = totals(vec![child], 4 * 8 * 256);
        assert!(found.writes > 8 * 256, "children's copies go out too: {found:?}");
        assert!(found.discarded_slots > 4 * 256, "and are given back: {found:?}");
    }
}

//! Spilled pages that a queue thread reads: at a time those of a request that follow each other in
//! the spill, on the queue's ring.
//!
//! Pages are spilled in the order of slots, so the pages of a request often lie together, and one
//! read brings them all. The ring moves data to and from a request's own buffer. For the time of a
//! read from the spill the handler puts the tag's bounce buffer in its place, so that every request
//! always has room to read into, whatever else is going on.

use crate::limits::{SPILL_ALONG_BYTES_MAX, SPILL_ALONG_PAGES_MAX};
use crate::spill::Span;
use crate::store::Sought;
use crate::sys::buffers::IoBuf;
use crate::sys::file_op::{FileOp, Transfer};
use crate::units::Tag;
use std::time::Instant;

/// What is read at a time: pages of a request, one after another, and where they are.
#[derive(Clone, Copy, Debug)]
pub struct Batch {
    sought: [Option<Sought>; SPILL_ALONG_PAGES_MAX],
    pages: usize,
    /// First byte in the spill.
    at: u64,
    /// Bytes.
    len: u32,
    /// Since when.
    pub begin: Instant,
}

impl Batch {
    /// A page to read.
    pub fn of(sought: Sought, begin: Instant) -> Self {
        let mut batch = Self {
            sought: [None; SPILL_ALONG_PAGES_MAX],
            pages: 1,
            at: sought.span.at,
            len: sought.span.len,
            begin,
        };
        batch.sought[0] = Some(sought);
        batch
    }

    /// Whether what has to be read for another page lies where this ends.
    pub fn takes(&self, span: &Span) -> bool {
        let end = self.at + u64::from(self.len);
        // Neighbours share a block.
        let follows = (self.at..=end).contains(&span.at);
        let len = (span.at + u64::from(span.len)).saturating_sub(self.at);
        follows && len <= SPILL_ALONG_BYTES_MAX as u64 && self.pages < SPILL_ALONG_PAGES_MAX
    }

    /// Reads a page along, which it [takes](Batch::takes).
    pub fn push(&mut self, sought: Sought) {
        let end = sought.span.at + u64::from(sought.span.len);
        self.len = self.len.max((end - self.at) as u32);
        self.sought[self.pages] = Some(sought);
        self.pages += 1;
    }

    /// Its pages, and for each the first byte of its blocks in what is read.
    pub fn pages(&self) -> impl Iterator<Item = (&Sought, usize)> {
        let at = self.at;
        self.sought.iter().flatten().map(move |sought| (sought, (sought.span.at - at) as usize))
    }

    /// The first page alone; `None` if it is.
    pub fn first_alone(&self) -> Option<Self> {
        let first = self.sought[0].filter(|_| self.pages > 1)?;
        Some(Self::of(first, self.begin))
    }

    const fn op(&self) -> FileOp {
        FileOp::Read(Transfer { at: self.at, skip: 0, len: self.len })
    }
}

/// What a tag reads.
#[derive(Debug)]
struct Reading {
    /// The bounce buffer; the request's own one while a read is under way.
    other: IoBuf,
    batch: Option<Batch>,
}

/// The bounce buffers of one queue, and what is being read into them.
#[derive(Debug)]
pub struct SpillReads {
    tags: Box<[Reading]>,
}

impl SpillReads {
    /// One buffer for each tag. Allocates.
    pub fn new(bounce: Vec<IoBuf>) -> Self {
        let reading = |other| Reading { other, batch: None };
        Self { tags: bounce.into_iter().map(reading).collect() }
    }

    /// Puts the tag's bounce buffer in place of its own; what to read into it.
    pub fn begin(&mut self, tag: Tag, batch: Batch, own: &mut IoBuf) -> FileOp {
        let reading = &mut self.tags[tag.index()];
        std::mem::swap(&mut reading.other, own);
        reading.batch = Some(batch);
        batch.op()
    }

    /// Puts the tag's own buffer back. Returns what was to be read, and the bounce buffer; `None`
    /// if nothing was.
    pub fn end(&mut self, tag: Tag, own: &mut IoBuf) -> Option<(Batch, &mut IoBuf)> {
        let reading = &mut self.tags[tag.index()];
        let batch = reading.batch.take()?;
        std::mem::swap(&mut reading.other, own);
        Some((batch, &mut reading.other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Stream;
    use crate::daemon::grower::Growth;
    use crate::daemon::staging::Staging;
    use crate::daemon::worker::SwapHandler;
    use crate::error::IoError;
    use crate::limits::{REQUEST_PAGES_MAX, SEGMENT_BYTES};
    use crate::spill::{KEY_BYTES, Seal, Segments, Spill};
    use crate::stats::QueueStats;
    use crate::store::{Added, SpillWriter, Store, StoreCodec};
    use crate::sys::buffers::{BufferArea, CHUNK_PAGES, Search};
    use crate::sys::errno;
    use crate::sys::file_op::FileOp;
    use crate::sys::map::{Arena, Words};
    use crate::sys::spill_ring::SpillRing;
    use crate::ublk::queue::{Handler, Job, Outcome};
    use crate::ublk::{Op, Request};
    use crate::units::{PAGE_SIZE, Page, SlotIndex};
    use std::collections::HashSet;
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    const SLOTS: usize = 512;
    const FIRST: u32 = 40;

    fn file(len: usize) -> File {
        let file = tempfile::tempfile().expect("file");
        file.set_len(len as u64).expect("size");
        file
    }

    /// Odd slots compress, even ones do not.
    fn page(slot: u32, round: u8) -> Page {
        let mut state = u64::from(slot);
        std::array::from_fn(|i| match slot % 2 {
            0 => {
                state =
                    state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
                (state >> 56) as u8 ^ round
            }
            _ => (i % 61) as u8 ^ slot as u8 ^ round,
        })
    }

    /// A handler whose slots from [`FIRST`] on are all in the spill but the third, and a job that
    /// reads as many pages as a request can have.
    fn with_spilled(test: impl FnOnce(&mut SwapHandler<'_>, &mut Job, &File)) {
        let (pool, disk) = (4 << 20, file(64 * SEGMENT_BYTES));
        let segments = Segments::new(64 * SEGMENT_BYTES as u64);
        let spill = Spill { seal: Seal::new(&[3; KEY_BYTES]), segments };
        let words = Words::new(&file(8 * SLOTS), SLOTS).expect("map");
        let arena = Arena::new(&file(pool), pool).expect("map");
        let store = Store::new(words, arena, StoreCodec::Lz4).with_spill(spill);
        let chunks = SpillWriter::<SpillRing>::BUFFERS + 1;
        let area = BufferArea::new(&file(chunks * SEGMENT_BYTES), chunks).expect("map");
        let segments: Vec<_> =
            (1..chunks).map_while(|_| area.take(CHUNK_PAGES, Search::High)).collect();
        let ring = SpillRing::new(&disk).expect("ring");
        let mut writer = SpillWriter::new(&store, ring, segments);
        let (growth, stats) = (Growth::new().expect("eventfd"), QueueStats::default());
        let mut stream = Stream::new();
        for slot in FIRST..FIRST + REQUEST_PAGES_MAX {
            store.write(SlotIndex(slot), &page(slot, 0), &mut stream, &stats).expect("room");
            let added =
                slot != FIRST + 2 && writer.add(&store, SlotIndex(slot), &stats) == Added::Taken;
            assert_eq!(added, slot != FIRST + 2);
        }
        writer.flush(&store, &stats);
        while !writer.is_idle() {
            assert_eq!(writer.collect(&store, true, &stats).error, None);
        }
        let buffer = area.take(REQUEST_PAGES_MAX, Search::Low).expect("free");
        let pages = (SPILL_ALONG_BYTES_MAX / PAGE_SIZE) as u32;
        let bounce = area.take(pages, Search::Low).expect("free");
        let staging = Staging::new(area, 0, 0);
        let spill_reads = SpillReads::new(vec![bounce]);
        let (growth, staging, store, stats) = (&growth, &staging, &store, &stats);
        let mut handler = SwapHandler { store, stream, growth, staging, spill_reads, stats };
        let request = Request { op: Op::Read, first: SlotIndex(FIRST), count: REQUEST_PAGES_MAX };
        let mut job = Job::new(Tag(0), request, buffer, Instant::now());
        test(&mut handler, &mut job, &disk);
    }

    /// What the ring does: reads `most` bytes of what is asked for into the job's buffer.
    fn read(disk: &File, job: &mut Job, op: &FileOp, most: usize) -> i32 {
        let FileOp::Read(t) = op else { panic!("{op:?}: not a read") };
        let len = (t.len as usize).min(most);
        disk.read_exact_at(&mut job.buffer[t.skip as usize..][..len], t.at).expect("there");
        len as i32
    }

    fn expect_pages(job: &Job, round: impl Fn(u32) -> u8) {
        for (i, found) in job.buffer.as_chunks::<PAGE_SIZE>().0.iter().enumerate() {
            let slot = FIRST + i as u32;
            assert!(*found == page(slot, round(slot)), "slot {slot}");
        }
    }

    #[test]
    fn a_long_request_is_read_some_pages_at_a_time_and_short_reads_go_on() {
        with_spilled(|handler, job, disk| {
            let own = job.buffer.address();
            let mut outcome = handler.handle(job);
            let mut reads = 0;
            while let Outcome::File(op) = outcome {
                reads += 1;
                assert_ne!(job.buffer.address(), own, "into the bounce buffer");
                let most = if reads % 5 == 0 { 512 } else { 1 << 20 };
                let moved = read(disk, job, &op, most);
                outcome = handler.finish(job, &op, moved);
            }
            assert_eq!(outcome, Outcome::Done);
            assert_eq!(job.buffer.address(), own);
            expect_pages(job, |_| 0);
            // Half of the pages do not compress.
            assert!((3..REQUEST_PAGES_MAX / 2).contains(&reads), "{reads} reads");
            let stats = handler.stats;
            assert_eq!(stats.read_spill_pages.get(), u64::from(REQUEST_PAGES_MAX) - 1);
            assert_eq!(stats.read_requests.get(), 1);
        });
    }

    #[test]
    fn a_page_that_is_written_while_its_old_one_is_read_is_the_new_one() {
        with_spilled(|handler, job, disk| {
            let (mut outcome, mut written) = (handler.handle(job), HashSet::new());
            let (mut first, mut reads) = (0, 0);
            while let Outcome::File(op) = outcome {
                let (slot, mut moved) = (FIRST + job.done, read(disk, job, &op, 1 << 20));
                // The first page that is being read, now and then, and later ones.
                reads += 1;
                let goes = |s: &u32| s.is_multiple_of(3) || (*s == slot && reads % 2 == 0);
                for slot in (slot..slot + 5).filter(goes) {
                    let (store, stats) = (handler.store, handler.stats);
                    let new = page(slot, 9);
                    store.write(SlotIndex(slot), &new, &mut Stream::new(), stats).expect("room");
                    written.insert(slot);
                }
                if written.contains(&slot) {
                    // Even an error is one of the old page.
                    moved = if first % 2 == 0 { -errno::EIO } else { moved };
                    first += 1;
                }
                outcome = handler.finish(job, &op, moved);
            }
            assert_eq!(outcome, Outcome::Done);
            assert!(written.len() > 5 && first > 1, "{first} of {written:?}");
            expect_pages(job, |slot| if written.contains(&slot) { 9 } else { 0 });
            assert_eq!(handler.stats.read_spill_errors.get(), 0);
            assert!(handler.stats.read_spill_again.get() > 0);
        });
    }

    #[test]
    fn a_failed_read_or_a_damaged_block_fails_the_request_and_the_next_one_works() {
        with_spilled(|handler, job, disk| {
            let own = job.buffer.address();
            let mut fail = |result: &dyn Fn(&mut Job, &FileOp) -> i32| {
                job.done = 0;
                let mut outcome = handler.handle(job);
                let mut reads = 0;
                while let Outcome::File(op) = outcome {
                    let moved = result(job, &op);
                    outcome = handler.finish(job, &op, moved);
                    reads += 1;
                }
                assert_eq!(job.buffer.address(), own);
                (outcome, reads)
            };
            // Two pages are read together, then the first one alone.
            let outcome = fail(&|_, _| -errno::ENODEV);
            assert_eq!(outcome, (Outcome::Failed(IoError::Backing(errno::ENODEV)), 2));
            assert_eq!(fail(&|_, _| 0), (Outcome::Failed(IoError::Backing(errno::EIO)), 2));
            let outcome = fail(&|job, op| {
                let moved = read(disk, job, op, 1 << 20);
                job.buffer.iter_mut().for_each(|byte| *byte ^= 0x10);
                moved
            });
            assert_eq!(outcome, (Outcome::Failed(IoError::Corrupt), 1));
            assert_eq!(handler.stats.read_spill_errors.get(), 2);
            assert_eq!(handler.stats.read_corrupt_pages.get(), 1);
            job.done = 0;
            let mut outcome = handler.handle(job);
            while let Outcome::File(op) = outcome {
                let moved = read(disk, job, &op, 1 << 20);
                outcome = handler.finish(job, &op, moved);
            }
            assert_eq!(outcome, Outcome::Done);
            expect_pages(job, |_| 0);
        });
    }
}

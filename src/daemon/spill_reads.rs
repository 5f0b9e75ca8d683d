//! Spilled pages that a queue thread reads: one at a time for each request, on the queue's ring.
//!
//! The ring moves data to and from a request's own buffer. For the time of a read from the spill
//! the handler puts the tag's bounce buffer in its place, so that every request always has room to
//! read into, whatever else is going on.

use crate::store::Sought;
use crate::sys::buffers::IoBuf;
use crate::units::Tag;
use std::time::Instant;

/// What a tag reads.
#[derive(Debug)]
struct Reading {
    /// The bounce buffer; the request's own one while a read is under way.
    other: IoBuf,
    sought: Option<Sought>,
    begin: Instant,
}

/// The bounce buffers of one queue, and what is being read into them.
#[derive(Debug)]
pub struct SpillReads {
    tags: Box<[Reading]>,
}

impl SpillReads {
    /// One buffer for each tag. Allocates.
    pub fn new(bounce: Vec<IoBuf>) -> Self {
        let begin = Instant::now();
        let reading = |other| Reading { other, sought: None, begin };
        Self { tags: bounce.into_iter().map(reading).collect() }
    }

    /// Puts the tag's bounce buffer in place of its own, to read what was sought.
    pub fn begin(&mut self, tag: Tag, sought: Sought, begin: Instant, own: &mut IoBuf) {
        let reading = &mut self.tags[tag.index()];
        std::mem::swap(&mut reading.other, own);
        (reading.sought, reading.begin) = (Some(sought), begin);
    }

    /// Puts the tag's own buffer back. Returns what was sought, since when, and the bounce buffer;
    /// `None` if nothing was.
    pub fn end(&mut self, tag: Tag, own: &mut IoBuf) -> Option<(Sought, Instant, &mut IoBuf)> {
        let reading = &mut self.tags[tag.index()];
        let sought = reading.sought.take()?;
        std::mem::swap(&mut reading.other, own);
        Some((sought, reading.begin, &mut reading.other))
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
        std::array::from_fn(|i| match slot % 2 {
            0 => ((i as u32).wrapping_mul(slot + 1).wrapping_mul(0x9e37_79b9) >> 24) as u8 ^ round,
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
        let bounce = area.take(2, Search::Low).expect("free");
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
    fn a_long_request_is_read_page_by_page_and_short_reads_go_on() {
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
            assert!(reads > REQUEST_PAGES_MAX);
            let stats = handler.stats;
            assert_eq!(stats.read_spill_pages.get(), u64::from(REQUEST_PAGES_MAX) - 1);
            assert_eq!(stats.read_requests.get(), 1);
        });
    }

    #[test]
    fn a_page_that_is_written_while_its_old_one_is_read_is_the_new_one() {
        with_spilled(|handler, job, disk| {
            let mut outcome = handler.handle(job);
            while let Outcome::File(op) = outcome {
                let slot = FIRST + job.done;
                let mut moved = read(disk, job, &op, 1 << 20);
                if slot.is_multiple_of(3) {
                    let (store, stats) = (handler.store, handler.stats);
                    store
                        .write(SlotIndex(slot), &page(slot, 9), &mut Stream::new(), stats)
                        .expect("room");
                    // Even an error is one of the old page.
                    moved = if slot.is_multiple_of(2) { -errno::EIO } else { moved };
                }
                outcome = handler.finish(job, &op, moved);
            }
            assert_eq!(outcome, Outcome::Done);
            expect_pages(
                job,
                |slot| if slot.is_multiple_of(3) && slot != FIRST + 2 { 9 } else { 0 },
            );
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
                let Outcome::File(op) = handler.handle(job) else { panic!("it is in the spill") };
                let moved = result(job, &op);
                let outcome = handler.finish(job, &op, moved);
                assert_eq!(job.buffer.address(), own);
                outcome
            };
            let outcome = fail(&|_, _| -errno::ENODEV);
            assert_eq!(outcome, Outcome::Failed(IoError::Backing(errno::ENODEV)));
            assert_eq!(fail(&|_, _| 0), Outcome::Failed(IoError::Backing(errno::EIO)));
            let outcome = fail(&|job, op| {
                let moved = read(disk, job, op, 1 << 20);
                job.buffer.iter_mut().for_each(|byte| *byte ^= 0x10);
                moved
            });
            assert_eq!(outcome, Outcome::Failed(IoError::Corrupt));
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

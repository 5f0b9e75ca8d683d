//! Where requests meet the store: one thread per ublk queue.

use super::backing::Backing;
use super::grower::Growth;
use super::loop_target::LoopHandler;
use super::null_target::NullHandler;
use super::spill_reads::{Batch, SpillReads};
use super::staging::Staging;
use crate::codec::Stream;
use crate::error::IoError;
use crate::stats::QueueStats;
use crate::stats::histogram::Histogram;
use crate::store::{Opened, ReadFrom, Store};
use crate::sys::buffers::IoBuf;
use crate::sys::errno;
use crate::sys::file_op::FileOp;
use crate::sys::ublk_abi::CopyMode;
use crate::sys::uring::{IdleRing, RingParts};
use crate::sys::{guard, heap};
use crate::trace::{Kind, Source, note};
use crate::ublk::poll::Poll;
use crate::ublk::queue::{Handler, Job, Outcome, Queue, QueueEnd};
use crate::ublk::{Op, Request};
use crate::units::{BufferPage, PAGE_SIZE, Page, QueueId, SlotIndex};
use std::fs::File;
use std::io;
use std::sync::mpsc::SyncSender;
use std::time::Instant;

/// What a thread tells the starting thread, once.
pub type Readiness = io::Result<ThreadState>;

/// How a thread stands when it has set itself up; a queue thread has fetched all its tags.
#[derive(Clone, Copy, Debug)]
pub struct ThreadState {
    /// PR_SET_IO_FLUSHER as read back in the thread.
    pub io_flusher: bool,
}

impl ThreadState {
    /// This thread's.
    pub fn read() -> Self {
        // Asking needs the same capability as setting: who may not ask has not set it.
        Self { io_flusher: guard::is_io_flusher().unwrap_or(false) }
    }
}

/// Everything a queue thread works with.
#[derive(Debug)]
pub struct Worker<'a> {
    /// Its queue.
    pub queue: QueueId,
    /// Slots of the device.
    pub slots: u64,
    /// CPUs whose submissions arrive here.
    pub cpus: Vec<usize>,
    /// The open char device.
    pub char_device: &'a File,
    /// One buffer per tag.
    pub buffers: Vec<IoBuf>,
    /// Where pages go, and where they wait for that; nowhere for the null target.
    pub store: Option<(&'a Store, &'a Staging)>,
    /// Where the loop target's pages go.
    pub backing: Option<&'a Backing>,
    /// For each tag a buffer to read spilled pages into; none where there is no spill.
    pub bounce: Vec<IoBuf>,
    /// How it polls.
    pub poll: Poll,
    /// Growth of the pool.
    pub growth: &'a Growth,
    /// Its counters.
    pub stats: &'a QueueStats,
}

/// What a queue thread makes while there is memory: before there is a device, or before one is to
/// be taken over.
#[derive(Debug)]
pub struct Warm {
    ring: IdleRing,
    /// Only the store compresses: it takes 200 KiB.
    stream: Option<Stream>,
}

impl Warm {
    /// Makes ring and compressor, for a queue of so many tags. In the thread that will use them.
    pub fn new(
        depth: u16,
        copy: CopyMode,
        backing: Option<&File>,
        compresses: bool,
    ) -> io::Result<Self> {
        let mut ring = IdleRing::new(RingParts { depth, copy, backing })?;
        ring.warm(&File::options().read(true).write(true).open("/dev/null")?)?;
        Ok(Self { ring, stream: compresses.then(Stream::new) })
    }
}

impl Worker<'_> {
    /// The thread's life: fetch every tag, report, serve until the device is stopped. Panics, which
    /// aborts the process, when the driver or the ring fails: with one queue dead the driver would
    /// hold the whole device back for ever, while a dead process can be replaced.
    pub fn run(mut self, warm: Warm, ready: SyncSender<Readiness>) {
        let Warm { ring, stream } = warm;
        let buffers = std::mem::take(&mut self.buffers);
        let spill_reads = SpillReads::new(std::mem::take(&mut self.bounce));
        // The starting thread waits for exactly one message from each thread.
        let mut queue = match self.prepare(ring, buffers) {
            Ok((queue, state)) => {
                let _ = ready.send(Ok(state));
                queue
            }
            Err(e) => {
                let _ = ready.send(Err(e));
                return;
            }
        };
        drop(ready);
        let (growth, stats) = (self.growth, self.stats);
        heap::seal_thread();
        let end = match (self.store.zip(stream), self.backing) {
            (Some(((store, staging), stream)), _) => {
                let mut handler =
                    SwapHandler { store, stream, growth, staging, spill_reads, stats };
                queue.serve(&mut handler)
            }
            (None, Some(backing)) => queue.serve(&mut LoopHandler { backing, stats }),
            (None, None) => queue.serve(&mut NullHandler { stats }),
        };
        heap::unseal_thread();
        match end {
            QueueEnd::Stopped => {}
            QueueEnd::Ring(e) => panic!("queue {}: io_uring failed: {e}", self.queue.0),
            QueueEnd::Refused(tag, errno) => {
                panic!("queue {} tag {}: driver refused with {errno}", self.queue.0, tag.0)
            }
        }
    }

    fn prepare(&self, ring: IdleRing, buffers: Vec<IoBuf>) -> io::Result<(Queue<'_>, ThreadState)> {
        // Only for speed: in a cpuset none of these CPUs may be allowed. The loop target copies
        // nothing that is hot in a cache, and is better off beside whoever submits than behind him.
        if self.backing.is_none() {
            let _ = guard::pin_thread(&self.cpus);
        }
        let ring = ring.attach(self.char_device, self.queue)?;
        let queue = Queue::fetch_all(ring, buffers, self.slots, self.poll.clone(), self.stats)?;
        Ok((queue, ThreadState::read()))
    }
}

/// Stores pages.
#[derive(Debug)]
pub struct SwapHandler<'a> {
    /// Where pages go.
    pub store: &'a Store,
    /// The thread's compressors.
    pub stream: Stream,
    /// Growth of the pool.
    pub growth: &'a Growth,
    /// Where pages wait.
    pub staging: &'a Staging,
    /// Reads of the spill that are under way.
    pub spill_reads: SpillReads,
    /// The thread's counters.
    pub stats: &'a QueueStats,
}

impl Handler for SwapHandler<'_> {
    fn handle(&mut self, job: &mut Job) -> Outcome {
        let (store, stats) = (self.store, self.stats);
        let request = &job.request;
        stats.tap.set_time(job.at);
        let result = match request.op {
            Op::Read => return self.read(job),
            Op::Write => return self.write(job),
            Op::Discard => store.discard(request.first, request.count, stats),
            Op::WriteZeroes => store.write_zeroes(request.first, request.count, stats),
            Op::Flush => Ok(()),
        };
        count(request, stats);
        result.map_or_else(Outcome::Failed, |()| Outcome::Done)
    }

    fn finish(&mut self, job: &mut Job, op: &FileOp, result: i32) -> Outcome {
        match op {
            // A part of it: the rest follows.
            FileOp::Read(transfer) if result > 0 => match transfer.rest(result as u32) {
                Some(rest) => Outcome::File(FileOp::Read(rest)),
                None => self.go_on(job, result),
            },
            _ => self.go_on(job, result),
        }
    }
}

impl SwapHandler<'_> {
    /// Stages the pages, so that they are committed at once and compressed after. Where that cannot
    /// be, stores them now.
    fn write(&mut self, job: &mut Job) -> Outcome {
        let Self { store, staging, stats, .. } = self;
        let request = &job.request;
        // What a throttled try has stored already is not to be staged as well.
        if job.done > 0 || !store.room_to_stage(request.count) {
            return self.write_now(job);
        }
        let Some(pages) = staging.take(request.count, &mut job.buffer) else {
            return self.write_now(job);
        };
        let at = (pages.first_page().0..).map(BufferPage);
        let result = request.slots().zip(at).try_for_each(|(s, at)| store.stage(s, at, stats));
        staging.push(pages, request.first, stats.tap.latest(job.at), stats);
        count(request, stats);
        result.map_or_else(Outcome::Failed, |()| Outcome::Done)
    }

    /// Fills the buffer from the first page that is not there yet, and notes how long each page
    /// took by where it was. A spilled page, with those that follow it there, is read from the file
    /// first; the request goes on when that has ended.
    fn read(&mut self, job: &mut Job) -> Outcome {
        let Self { store, stream, stats, spill_reads, .. } = self;
        let mut begin = Instant::now();
        while job.done < job.request.count {
            let (slot, page) = next_page(job);
            let from = match store.read(slot, page, stream, stats) {
                Ok(ReadFrom::Spill(sought)) => {
                    let mut batch = Batch::of(sought, begin);
                    for slot in job.request.slots().skip(job.done as usize + 1) {
                        let along = store.seek_along(slot, |span| batch.takes(span));
                        let Some(sought) = along else { break };
                        batch.push(sought);
                    }
                    return Outcome::File(spill_reads.begin(job.tag(), batch, &mut job.buffer));
                }
                Ok(from) => from,
                Err(e) => return self.end_read(job, Err(e)),
            };
            let end = Instant::now();
            times_of(from, stats).record((end - begin).as_nanos() as u64, 1);
            stats.tap.set_time(end);
            note(stats, slot, Kind::Read(from.source()));
            begin = end;
            job.done += 1;
        }
        self.end_read(job, Ok(()))
    }

    /// Goes on with a read for which blocks of the spill were read.
    fn go_on(&mut self, job: &mut Job, result: i32) -> Outcome {
        let Self { store, stream, stats, spill_reads, .. } = self;
        let Some((batch, blocks)) = spill_reads.end(job.tag(), &mut job.buffer) else {
            return Outcome::Failed(IoError::Unsupported);
        };
        if result <= 0 {
            return self.read_failed(job, &batch, result);
        }
        // For what is promoted.
        stats.tap.set_time(batch.begin);
        for (sought, start) in batch.pages() {
            let (slot, page) = next_page(job);
            match store.open_spilled(slot, sought, &mut blocks[start..], page, stream, stats) {
                Ok(Opened::Page) => job.done += 1,
                Ok(Opened::Changed) => break,
                Err(e) => return self.end_read(job, Err(e)),
            }
            let end = Instant::now();
            stats.times.read_spill.record((end - batch.begin).as_nanos() as u64, 1);
            stats.tap.set_time(end);
            note(stats, slot, Kind::Read(Source::Spill));
        }
        self.read(job)
    }

    /// A read of the spill gave an error, or the file has become shorter: the page is read alone,
    /// and its request fails if that fails too, unless the page has gone elsewhere.
    fn read_failed(&mut self, job: &mut Job, batch: &Batch, result: i32) -> Outcome {
        let Self { store, stats, spill_reads, .. } = self;
        let (slot, _) = next_page(job);
        let current = |(sought, _)| store.is_current(slot, sought);
        if !batch.pages().next().is_some_and(current) {
            return self.read(job);
        }
        if let Some(first) = batch.first_alone() {
            return Outcome::File(spill_reads.begin(job.tag(), first, &mut job.buffer));
        }
        stats.read_spill_errors.add(1);
        let errno = if result == 0 { errno::EIO } else { -result };
        self.end_read(job, Err(IoError::Backing(errno)))
    }

    fn end_read(&self, job: &Job, result: Result<(), IoError>) -> Outcome {
        count(&job.request, self.stats);
        result.map_or_else(Outcome::Failed, |()| Outcome::Done)
    }

    /// Stores the pages. Where there is no room, but the pool may grow, waits for that for a
    /// bounded time: a file system would lose data over an error that only means "not yet".
    fn write_now(&mut self, job: &mut Job) -> Outcome {
        let Self { store, stream, growth, stats, .. } = self;
        let mut result = Ok(());
        for (slot, page) in job.request.slots().zip(pages(&job.buffer)).skip(job.done as usize) {
            result = store.write(slot, page, stream, stats);
            if result.is_err() {
                break;
            }
            job.done += 1;
        }
        growth.ask_if_low(store);
        let outcome = match result {
            Ok(()) => Outcome::Done,
            Err(IoError::Full) if growth.may_help(store, job.waited()) => {
                return Outcome::Throttled;
            }
            Err(e) => {
                stats.write_full_pages.add((job.request.count - job.done).into());
                Outcome::Failed(e)
            }
        };
        count(&job.request, stats);
        outcome
    }
}

fn times_of(from: ReadFrom, stats: &QueueStats) -> &Histogram {
    match from {
        ReadFrom::Empty => &stats.times.read_empty,
        ReadFrom::Same => &stats.times.read_same,
        ReadFrom::Lz4 => &stats.times.read_lz4,
        ReadFrom::Zstd => &stats.times.read_zstd,
        ReadFrom::Dense => &stats.times.read_dense,
        ReadFrom::Huge => &stats.times.read_huge,
        ReadFrom::Staged => &stats.times.read_staged,
        ReadFrom::Spill(_) => &stats.times.read_spill,
    }
}

pub(super) fn count(request: &Request, stats: &QueueStats) {
    let counter = match request.op {
        Op::Read => &stats.read_requests,
        Op::Write => &stats.write_requests,
        Op::Discard => &stats.discard_requests,
        Op::WriteZeroes => &stats.write_zeroes_requests,
        Op::Flush => &stats.flush_requests,
    };
    counter.add(1);
}

fn pages(buffer: &[u8]) -> impl Iterator<Item = &Page> {
    buffer.as_chunks::<PAGE_SIZE>().0.iter()
}

/// The slot of the first page that a read does not have yet, and where that goes.
fn next_page(job: &mut Job) -> (SlotIndex, &mut Page) {
    let slot = SlotIndex(job.request.first.0 + job.done);
    let pages = job.buffer.as_chunks_mut::<PAGE_SIZE>().0;
    (slot, &mut pages[job.done as usize])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::staging::Hand;
    use crate::limits::REQUEST_PAGES_MAX;
    use crate::store::StoreCodec;
    use crate::sys::buffers::{BufferArea, CHUNK_PAGES, Search};
    use crate::sys::map::{Arena, Words};
    use std::sync::Arc;

    const SLOTS: usize = 4096;

    fn file(len: usize) -> File {
        let file = tempfile::tempfile().expect("file");
        file.set_len(len as u64).expect("size");
        file
    }

    /// A handler with `room` pages of staging over a pool of which nothing is there yet, and a job
    /// that writes `count` pages of noise.
    fn with_handler(
        pool: usize,
        room: u32,
        count: u32,
        test: impl FnOnce(&mut SwapHandler<'_>, &mut Job),
    ) {
        let area = BufferArea::new(&file(CHUNK_PAGES as usize * PAGE_SIZE), 1).expect("map");
        let mut buffer = area.take(REQUEST_PAGES_MAX, Search::High).expect("free");
        let taken: Vec<_> = (room..CHUNK_PAGES - REQUEST_PAGES_MAX)
            .map(|_| area.take(1, Search::High).expect("free"))
            .collect();
        let words = Words::new(&file(8 * SLOTS), SLOTS).expect("map");
        let arena = Arena::sparse(&file(pool), pool).expect("map");
        let store = Store::new(words, arena, StoreCodec::None).with_buffers(Arc::clone(&area));
        for (i, word) in buffer.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            *word = (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
        }
        let request = Request { op: Op::Write, first: SlotIndex(10), count };
        let (growth, stats) = (Growth::new().expect("eventfd"), QueueStats::default());
        let staging = Staging::new(area, 0, 0);
        let mut handler = SwapHandler {
            store: &store,
            stream: Stream::new(),
            growth: &growth,
            staging: &staging,
            spill_reads: SpillReads::new(Vec::new()),
            stats: &stats,
        };
        test(&mut handler, &mut Job::new(crate::units::Tag(0), request, buffer, Instant::now()));
        drop(taken);
    }

    #[test]
    fn a_write_waits_for_the_pool_to_grow_and_then_goes_on_where_it_was() {
        with_handler(1 << 20, 0, 4, |handler, job| {
            assert_eq!(handler.handle(job), Outcome::Throttled);
            assert!(handler.store.pool().grow(1 << 15).expect("memory"));
            assert_eq!(handler.handle(job), Outcome::Done);
            assert_eq!(job.done, 4);
            assert_eq!(handler.stats.write_huge_pages.get(), 4);
            assert_eq!(handler.stats.write_full_pages.get(), 0);
        });
    }

    #[test]
    fn a_write_that_finds_no_room_in_a_pool_of_full_size_fails_at_once() {
        with_handler(1 << 15, 0, 4, |handler, job| {
            assert!(handler.store.pool().grow(1 << 15).expect("memory"));
            let page = *pages(&job.buffer).next().expect("one");
            for slot in (100..106).map(SlotIndex) {
                handler.store.write(slot, &page, &mut handler.stream, handler.stats).expect("room");
            }
            assert_eq!(handler.handle(job), Outcome::Failed(IoError::Full));
            // Eight pages fit: two of the four are in, the other two are the kernel's.
            assert_eq!(handler.stats.write_full_pages.get(), 2);
        });
    }

    fn stage_and_settle(count: u32, handler: &mut SwapHandler<'_>, job: &mut Job) {
        while handler.store.pool().grow(1 << 20).expect("memory") {}
        let bytes = count as usize * PAGE_SIZE;
        let wanted: Vec<u8> = job.buffer[..bytes].to_vec();
        assert_eq!(handler.handle(job), Outcome::Done);
        assert_eq!(job.buffer.pages(), REQUEST_PAGES_MAX, "a whole buffer goes to the driver");
        assert_eq!(handler.stats.write_staged_pages.get(), u64::from(count));
        // What the kernel may do with the buffer from now on.
        job.buffer.fill(0xdd);
        let read = |handler: &mut SwapHandler<'_>, job: &mut Job| {
            job.buffer.fill(0xee);
            job.request.op = Op::Read;
            job.done = 0;
            assert_eq!(handler.handle(job), Outcome::Done);
            assert_eq!(job.buffer[..bytes], wanted);
        };
        read(handler, job);
        assert_eq!(handler.stats.read_staged_pages.get(), u64::from(count));
        let (mut hand, mut stream) = (Hand::default(), Stream::new());
        let Ok(true) =
            handler.staging.settle_one(&mut hand, handler.store, &mut stream, handler.stats)
        else {
            panic!("there is room for what was staged")
        };
        while handler.staging.settle_one(&mut hand, handler.store, &mut stream, handler.stats)
            == Ok(true)
        {}
        read(handler, job);
        assert_eq!(handler.stats.read_huge_pages.get(), u64::from(count));
        job.request.op = Op::Write;
        job.done = 0;
        assert_eq!(handler.handle(job), Outcome::Done);
        assert_eq!(handler.stats.write_staged_pages.get(), 2 * u64::from(count), "room again");
    }

    #[test]
    fn a_short_write_is_staged_and_read_back_before_and_after_it_settles() {
        with_handler(8 << 20, 4, 4, |handler, job| stage_and_settle(4, handler, job));
    }

    #[test]
    fn a_long_write_leaves_its_buffer_behind_and_is_read_back_too() {
        with_handler(8 << 20, 32, 20, |handler, job| {
            let at = job.buffer.address();
            stage_and_settle(20, handler, job);
            assert_eq!(job.buffer.address(), at, "two exchanges bring the first buffer back");
        });
    }

    #[test]
    fn a_write_that_finds_no_staging_is_stored_before_its_commit() {
        with_handler(8 << 20, 3, 4, |handler, job| {
            while handler.store.pool().grow(1 << 20).expect("memory") {}
            assert_eq!(handler.handle(job), Outcome::Done);
            assert_eq!(handler.stats.write_direct_pages.get(), 4);
            assert_eq!(handler.stats.write_staged_pages.get(), 0);
        });
    }
}

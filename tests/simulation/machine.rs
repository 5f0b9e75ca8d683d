//! A machine: the kernel with its requests, one server at a time, and what the pages must be.

use crate::disk::Medium;
use crate::memory::{Files, Held, Server, TAGS, Waiting, any_stream, keep_stream};
use crate::model::{Content, Model, SLOTS, page};
use crate::step::{Script, Step};
use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::time::Instant;
use uswap::chaos::{self, Bug, Crash};
use uswap::codec::{DenseStream, Dictionary, Effort, Strategy};
use uswap::daemon::engine::SwapHandler;
use uswap::error::IoError;
use uswap::limits::SLAB_BYTES;
use uswap::store::{Added, Opened, ReadFrom, Recompressor};
use uswap::sys::file_op::FileOp;
use uswap::ublk::queue::{Handler, Job, Outcome};
use uswap::ublk::{Op, Request};
use uswap::units::{PAGE_SIZE, Page, SlotIndex, Tag};

/// Tries to end what is under way when a run ends.
const ROUNDS_MAX: u32 = 10_000;

/// A request of the kernel.
#[derive(Clone, Copy, Debug)]
struct Asked {
    request: Request,
    content: Content,
}

impl Asked {
    /// What the request makes of its `i`th slot.
    fn content(&self, i: u32) -> Content {
        match self.request.op {
            Op::Write => self.content + (u64::from(i) << 8),
            _ => 0,
        }
    }

    fn covers(&self, first: u32, count: u32) -> bool {
        let own = self.request.first.0;
        first < own + self.request.count && own < first + count
    }
}

/// What somebody wants who reads a run's fate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub crashes: u64,
    pub requests: u64,
    pub staged: u64,
    pub spilled: u64,
    pub promoted: u64,
    pub dense: u64,
    pub errors: u64,
}

pub struct Machine {
    files: Files,
    medium: Rc<RefCell<Medium>>,
    model: Model,
    asked: [Option<Asked>; TAGS],
    server: Option<Server>,
    waiting: Option<Waiting>,
    dictionaries: &'static [Vec<u8>],
    /// The highest number of a segment's write so far.
    sequence: u64,
    answered: u64,
    /// Stores after which the next take-over dies as well.
    again: u64,
    pub tally: Tally,
}

impl Machine {
    pub fn new(script: &Script, dictionaries: &'static [Vec<u8>]) -> Self {
        chaos::recovered();
        chaos::watch_seals();
        let files = Files::new(script.shape);
        let medium = Medium::new(script.faults, script.seed);
        let server = Some(files.create(&medium, any_stream()));
        Self {
            files,
            medium,
            model: Model::new(),
            asked: [None; TAGS],
            server,
            waiting: None,
            dictionaries,
            sequence: 0,
            answered: 0,
            again: 0,
            tally: Tally::default(),
        }
    }

    /// The server dies, and nobody takes over.
    pub fn kill(mut self) -> (Files, Rc<RefCell<Medium>>, Model) {
        chaos::recovered();
        chaos::ignore_seals();
        self.server = None;
        (self.files, self.medium, self.model)
    }

    /// One step. A crash in the middle of it ends it, and is recovered from.
    pub fn apply(&mut self, step: Step) {
        match step {
            Step::Crash { stores: 0 } => self.crash(),
            Step::Crash { stores } => chaos::arm(stores),
            Step::CrashAgain { stores } => self.again = stores,
            Step::CatchUp => self.medium.borrow_mut().catch_up(),
            Step::Attach => self.waiting = Some(self.files.attach()),
            Step::KeepUp => {
                if let Some(waiting) = &mut self.waiting {
                    waiting.recovery.keep_up().expect("memory");
                }
            }
            Step::Check => self.check(),
            step => self.guarded(|machine| machine.work(step)),
        }
        let writer = self.server.as_ref().and_then(|server| server.writer.as_ref());
        writer.iter().for_each(|writer| writer.layout().check());
    }

    fn guarded(&mut self, work: impl FnOnce(&mut Self)) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| work(self))) {
            expect_crash(panic);
            self.crash();
        }
    }

    fn server(&mut self) -> &mut Server {
        self.server.as_mut().expect("there is one between steps")
    }

    fn work(&mut self, step: Step) {
        match step {
            Step::Write { tag, first, count, content } => {
                self.ask(tag, Op::Write, first, count, content);
            }
            Step::Read { tag, first, count } => self.ask(tag, Op::Read, first, count, 0),
            Step::Discard { tag, first, count } => self.ask(tag, Op::Discard, first, count, 0),
            Step::Serve { tag } => self.serve(tag),
            Step::Install { which } => self.install(which),
            step => self.background(step),
        }
    }

    fn background(&mut self, step: Step) {
        let Server { store, staging, hand, hand_stream, writer, stats, recompressor, .. } =
            self.server();
        match step {
            Step::Help { pages } => {
                for _ in 0..pages {
                    if staging.settle_one(hand, store, hand_stream, stats) != Ok(true) {
                        break;
                    }
                }
            }
            Step::Spill { first, count } => {
                for slot in first..first + count {
                    let Some(writer) = writer else { return };
                    let added = writer.add(store, SlotIndex(slot), stats);
                    if !matches!(added, Added::Taken | Added::NotInPool) {
                        return;
                    }
                }
            }
            Step::Look => writer.iter_mut().for_each(|writer| writer.find_free(store)),
            Step::Flush => writer.iter_mut().for_each(|writer| writer.flush(store, stats)),
            Step::Collect { wait } => {
                writer.iter_mut().for_each(|writer| {
                    let _ = writer.collect(store, wait, stats);
                });
            }
            Step::Clean => writer.iter_mut().for_each(|writer| {
                let _ = writer.clean(store, stats);
            }),
            Step::Recompress { first, count } => {
                recompressor.take_if(|recompressor| recompressor.is_outdated(store));
                let recompressor = recompressor.get_or_insert_with(|| {
                    Recompressor::with(store, DenseStream::with_effort(EFFORT)).expect("memory")
                });
                for slot in first..first + count {
                    store.recompress(SlotIndex(slot), recompressor, stats);
                }
            }
            Step::Retire => drop(store.retire_dictionaries(stats)),
            Step::Compact => drop(store.compact_step(stats)),
            Step::GiveBack { slabs } => {
                store.give_back(0, slabs * SLAB_BYTES as u64, stats).expect("a file has holes");
            }
            Step::Grow { slabs } => {
                store.pool().grow(slabs * SLAB_BYTES as u64).expect("memory");
            }
            Step::Tick => store.advance_tick(),
            Step::Promote { pages } => store.allow_promotion(pages, 1),
            step => unreachable!("{step:?} is somebody else's"),
        }
    }

    fn install(&mut self, which: usize) {
        let bytes = self.dictionaries[which % self.dictionaries.len()].clone();
        let dictionary = Dictionary::from_bytes(bytes.into()).expect("memory");
        let Server { store, stats, .. } = self.server();
        store.install(dictionary, stats);
    }

    /// The kernel asks, if the tag is free and nothing else is under way for these slots.
    fn ask(&mut self, tag: usize, op: Op, first: u32, count: u32, content: Content) {
        let busy = |asked: &Option<Asked>| asked.is_some_and(|asked| asked.covers(first, count));
        if self.asked[tag].is_some() || self.asked.iter().any(busy) {
            return;
        }
        let asked = Asked { request: Request { op, first: SlotIndex(first), count }, content };
        self.tally.requests += 1;
        self.asked[tag] = Some(asked);
        self.doubt(asked);
        self.issue(tag);
    }

    /// The driver hands a request to the server that there is.
    fn issue(&mut self, tag: usize) {
        let Some(asked) = self.asked[tag] else { return };
        let server = self.server();
        let mut buffer = server.idle[tag].take().expect("a request has its tag to itself");
        if asked.request.op == Op::Write {
            let pages = buffer.as_chunks_mut::<PAGE_SIZE>().0.iter_mut().zip(0..);
            pages.take(asked.request.count as usize).for_each(|(p, i)| *p = page(asked.content(i)));
        } else {
            buffer.fill(0xee);
        }
        let job = Job::new(Tag(tag as u16), asked.request, buffer, Instant::now());
        server.held[tag] = Some(Held { job, op: None });
    }

    /// The queue thread does what is to be done next for a request.
    fn serve(&mut self, tag: usize) {
        let medium = Rc::clone(&self.medium);
        if chaos::planted(Bug::CommitBeforeStage)
            && let Some(asked) = self.asked[tag].take_if(|asked| asked.request.op == Op::Write)
        {
            self.answered += 1;
            self.commit(asked);
        }
        let server = self.server();
        let Some(Held { mut job, op }) = server.held[tag].take() else { return };
        let (stream, spill_reads) = server.lent.take().expect("lent to nobody else");
        let Server { store, staging, growth, stats, .. } = server;
        let mut handler = SwapHandler { store, stream, growth, staging, spill_reads, stats };
        let outcome = match op {
            None => handler.handle(&mut job),
            Some(op) => {
                let moved = read_op(&medium, &mut job, &op);
                handler.finish(&mut job, &op, moved)
            }
        };
        let SwapHandler { stream, spill_reads, .. } = handler;
        server.lent = Some((stream, spill_reads));
        match outcome {
            Outcome::Done => self.answer(tag, job, None),
            Outcome::Failed(error) => self.answer(tag, job, Some(error)),
            Outcome::Throttled => server.held[tag] = Some(Held { job, op: None }),
            Outcome::File(op) => server.held[tag] = Some(Held { job, op: Some(op) }),
        }
    }

    fn answer(&mut self, tag: usize, job: Job, error: Option<IoError>) {
        let Some(asked) = self.asked[tag].take() else {
            self.server().idle[tag] = Some(job.buffer);
            return;
        };
        self.answered += 1;
        self.tally.errors += u64::from(error.is_some());
        let first = asked.request.first.0;
        match (asked.request.op, error) {
            (Op::Read, None) => {
                let pages = job.buffer.as_chunks::<PAGE_SIZE>().0;
                for (slot, found) in (first..first + asked.request.count).zip(pages) {
                    self.model.check(slot, found);
                }
            }
            (Op::Read, Some(error)) => self.excuse(first, asked.request.count, error),
            (_, None) => self.commit(asked),
            (_, Some(error)) => assert_eq!(error, IoError::Full, "only that keeps a write out"),
        }
        self.server().idle[tag] = Some(job.buffer);
    }

    /// The slots hold what the request says.
    fn commit(&mut self, asked: Asked) {
        let first = asked.request.first.0;
        (0..asked.request.count).for_each(|i| self.model.set(first + i, asked.content(i)));
    }

    /// The slots may hold it: the request is under way.
    fn doubt(&mut self, asked: Asked) {
        let Request { op, first, count } = asked.request;
        if op != Op::Read {
            (0..count).for_each(|i| self.model.may_be(first.0 + i, asked.content(i)));
        }
    }

    /// Pages that cannot be read, which is right only if one of them is on a disk that loses pages.
    fn excuse(&self, first: u32, count: u32, error: IoError) {
        let store = &self.server.as_ref().expect("it answered").store;
        let spilled =
            |slot| matches!(store.glance(SlotIndex(slot)).0, uswap::table::Entry::Spilled { .. });
        let lost = self.medium.borrow().faults.may_lose() && (first..first + count).any(spilled);
        assert!(lost, "slot {first}: {error:?}, and nothing can have been lost");
    }

    /// The server dies; another one takes over.
    fn crash(&mut self) {
        self.tally.crashes += 1;
        if let Some(server) = self.server.take() {
            self.tally_of(&server);
            let Server { lent, hand_stream, .. } = server;
            lent.into_iter().for_each(|(stream, _)| keep_stream(stream));
            keep_stream(hand_stream);
        }
        // Dying again while taking over changes nothing.
        loop {
            chaos::recovered();
            let waiting = self.waiting.take().unwrap_or_else(|| self.files.attach());
            if self.again > 0 {
                chaos::arm(std::mem::take(&mut self.again));
            }
            let medium = &self.medium;
            let took = catch_unwind(AssertUnwindSafe(|| waiting.take_over(medium, any_stream())));
            match took {
                Ok((server, rebuilt)) => {
                    assert_eq!(rebuilt.poisoned, 0, "nothing was damaged: {rebuilt:?}");
                    self.server = Some(server.expect("a buffer for each tag"));
                    break;
                }
                Err(panic) => expect_crash(panic),
            }
        }
        chaos::recovered();
        self.reissue();
        self.check();
    }

    /// The driver issues again what the dead server had.
    fn reissue(&mut self) {
        for tag in 0..TAGS {
            let Some(asked) = self.asked[tag] else { continue };
            if chaos::planted(Bug::ReissueForgotten) {
                self.asked[tag] = None;
                continue;
            }
            self.doubt(asked);
            self.issue(tag);
        }
    }

    fn tally_of(&mut self, server: &Server) {
        self.tally.staged += server.stats.write_staged_pages.get();
        self.tally.spilled += server.stats.spilled_pages.get();
        self.tally.promoted += server.stats.promoted_pages.get();
        self.tally.dense += server.stats.recompressed_pages.get();
    }

    /// Every page is what it must be, and everything agrees. Nothing crashes meanwhile.
    fn check(&mut self) {
        chaos::recovered();
        (0..SLOTS).for_each(|slot| self.check_slot(slot));
        let server = self.server.as_ref().expect("there is one between steps");
        server.store.check().expect("a consistent store");
        let there = server.store.pool().slab_bytes();
        let held = self.files.held();
        assert!(held >= there, "{held} bytes are there, the pool takes it for {there}");
        if let Some(writer) = &server.writer {
            let next = writer.layout().next_sequence();
            assert!(next >= self.sequence, "{next} after {}", self.sequence);
            self.sequence = next;
        }
        // Pages that a request is under way for may be either again.
        self.asked.into_iter().flatten().for_each(|asked| self.doubt(asked));
    }

    fn check_slot(&mut self, slot: u32) {
        let mut found = [0xee; PAGE_SIZE];
        let medium = Rc::clone(&self.medium);
        let server = self.server();
        match read(server, &medium, SlotIndex(slot), &mut found) {
            Ok(()) => self.model.check(slot, &found),
            Err(error) => self.excuse(slot, 1, error),
        }
    }

    /// Nothing more happens: everything that is under way ends, and nothing is left behind.
    pub fn finish(&mut self) {
        chaos::recovered();
        for _ in 0..ROUNDS_MAX {
            (0..TAGS).for_each(|tag| self.serve(tag));
            self.background(Step::Help { pages: 100 });
            self.background(Step::Grow { slabs: 4 });
            self.background(Step::Flush);
            self.background(Step::Collect { wait: true });
            if self.asked.iter().all(Option::is_none) {
                break;
            }
        }
        self.background(Step::Help { pages: 1000 });
        self.check();
        assert_eq!(self.asked.iter().flatten().count(), 0, "a request was never answered");
        let Server { store, area, stats, idle, .. } = self.server();
        assert_eq!(stats.slots_staged.get(), 0, "staged pages that nobody compresses");
        let tags: u64 = idle.iter().flatten().map(|buffer| u64::from(buffer.pages())).sum();
        let all = (area.len() / PAGE_SIZE) as u64;
        assert_eq!(area.free_pages() + tags, all, "buffers that nobody has");
        store.discard(SlotIndex(0), SLOTS, stats).expect("all slots");
        assert_eq!(store.pool_usage().slabs_used, 0, "objects that nobody names");
        if let Some(spill) = store.spill() {
            let live = |i| spill.segments.live_units(i);
            assert!((0..spill.segments.count()).all(|i| live(i) == 0), "live, and unnamed");
        }
        assert_eq!(stats.stored_bytes.get(), 0);
        assert_eq!(self.answered, self.tally.requests, "a request was forgotten");
        let server = self.server.take().expect("there is one");
        self.tally_of(&server);
        let Server { lent, hand_stream, .. } = server;
        lent.into_iter().for_each(|(stream, _)| keep_stream(stream));
        keep_stream(hand_stream);
    }
}

/// Fast, so that many runs fit a minute.
const EFFORT: Effort = Effort {
    strategy: Strategy::ZSTD_fast,
    table_bits: 12,
    search_bits: 1,
    match_bytes: 5,
    enough_bytes: 16,
};

/// Anything else than a planned crash goes on up.
fn expect_crash(panic: Box<dyn Any + Send>) {
    if !panic.is::<Crash>() {
        resume_unwind(panic);
    }
}

/// What the ring does for a queue thread.
fn read_op(medium: &RefCell<Medium>, job: &mut Job, op: &FileOp) -> i32 {
    let FileOp::Read(transfer) = op else { panic!("{op:?}: not a read") };
    let into = &mut job.buffer[transfer.skip as usize..][..transfer.len as usize];
    match medium.borrow_mut().read(transfer.at, into) {
        Ok(()) => transfer.len as i32,
        Err(errno) => -errno,
    }
}

/// Reads a slot as nobody's request.
pub fn read(
    server: &mut Server,
    medium: &RefCell<Medium>,
    slot: SlotIndex,
    found: &mut Page,
) -> Result<(), IoError> {
    let Server { store, hand_stream, stats, .. } = server;
    let mut blocks = [0; 2 * PAGE_SIZE];
    let ReadFrom::Spill(sought) = store.read(slot, found, hand_stream, stats)? else {
        return Ok(());
    };
    let blocks = &mut blocks[..sought.span.len as usize];
    medium.borrow_mut().read(sought.span.at, blocks).map_err(IoError::Backing)?;
    let opened = store.open_spilled(slot, &sought, blocks, found, hand_stream, stats)?;
    assert_eq!(opened, Opened::Page, "nobody else is at work");
    Ok(())
}

impl Tally {
    /// Adds another run's.
    pub fn add(&mut self, other: Self) {
        self.crashes += other.crashes;
        self.requests += other.requests;
        self.staged += other.staged;
        self.spilled += other.spilled;
        self.promoted += other.promoted;
        self.dense += other.dense;
        self.errors += other.errors;
    }
}

//! Spilling against a disk that fails, dawdles, tears, lies and forgets: every page read is right
//! or an error, never wrong, and nothing is lost when writes fail.

mod disk;
mod threads;

use disk::{Faults, Medium, SEGMENTS, Sim};
use proptest::prelude::*;
use std::collections::HashMap;
use std::fs::File;
use std::sync::Arc;
use uswap::codec::{Dictionary, Stream};
use uswap::error::IoError;
use uswap::limits::{SEGMENT_BYTES, SLAB_BYTES};
use uswap::spill::{KEY_BYTES, Seal, Segments, Spill};
use uswap::stats::QueueStats;
use uswap::store::{Added, Cleaned, Opened, ReadFrom, Recompressor, Sought, SpillWriter};
use uswap::store::{Store, StoreCodec};
use uswap::sys::buffers::{BufferArea, CHUNK_PAGES, IoBuf, Search};
use uswap::sys::map::{Arena, Words};
use uswap::units::{PAGE_SIZE, Page, SlotIndex};

const SLOTS: u32 = 640;

fn file(len: usize) -> File {
    let file = tempfile::tempfile().expect("temporary file");
    file.set_len(len as u64).expect("size");
    file
}

fn store(codec: StoreCodec) -> Store {
    let words = SLOTS as usize;
    let table = Words::new(&file(words * 8), words).expect("map");
    let arena = 128 * SLAB_BYTES;
    let arena = Arena::new(&file(arena), arena).expect("map");
    let segments = Segments::new((SEGMENTS * SEGMENT_BYTES) as u64);
    let spill = Spill { seal: Seal::new(&[9; KEY_BYTES]), segments };
    Store::new(table, arena, codec).with_spill(spill)
}

fn buffers() -> Vec<IoBuf> {
    let count = SpillWriter::<Sim>::BUFFERS;
    let area = BufferArea::new(&file(count * SEGMENT_BYTES), count).expect("map");
    (0..count).map_while(|_| area.take(CHUNK_PAGES, Search::Low)).collect()
}

/// A page of which the first `random` bytes do not compress and the rest is a short period.
fn page(seed: u64, random: usize) -> Page {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    std::array::from_fn(|i| {
        if i >= random {
            return (i % 13) as u8 ^ seed as u8;
        }
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    })
}

/// Reads as a queue thread does. `Err` only for pages that have to come from the disk.
fn read(
    store: &Store,
    medium: &Medium,
    slot: SlotIndex,
    stream: &mut Stream,
    stats: &QueueStats,
) -> Result<Page, IoError> {
    let (mut page, mut blocks) = ([0xee; PAGE_SIZE], [0; 2 * PAGE_SIZE]);
    loop {
        let ReadFrom::Spill(sought) = store.read(slot, &mut page, stream, stats)? else {
            return Ok(page);
        };
        let blocks = &mut blocks[..sought.span.len as usize];
        if let Err(errno) = medium.read(sought.span.at, blocks) {
            if store.is_current(slot, &sought) {
                return Err(IoError::Backing(errno));
            }
            continue;
        }
        if store.open_spilled(slot, &sought, blocks, &mut page, stream, stats)? == Opened::Page {
            return Ok(page);
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Write {
        slot: u32,
        seed: u64,
        random: usize,
    },
    Discard {
        first: u32,
        count: u32,
    },
    Read {
        slot: u32,
    },
    /// Begins a read; [`Step::Open`] ends it, whatever has happened meanwhile.
    Seek {
        slot: u32,
    },
    Open,
    Spill {
        first: u32,
        count: u32,
    },
    Flush,
    Collect {
        wait: bool,
    },
    Clean,
    /// Installs another dictionary, if there is a number for it.
    Train,
    Recompress {
        first: u32,
        count: u32,
    },
    Compact,
}

fn step() -> impl Strategy<Value = Step> {
    let slot = || 0..SLOTS;
    prop_oneof![
        8 => (slot(), any::<u64>(), 0..=PAGE_SIZE)
            .prop_map(|(slot, seed, random)| Step::Write { slot, seed, random }),
        1 => (slot(), 0..20u32).prop_map(|(first, count)| Step::Discard { first, count }),
        4 => slot().prop_map(|slot| Step::Read { slot }),
        3 => slot().prop_map(|slot| Step::Seek { slot }),
        3 => Just(Step::Open),
        6 => (slot(), 1..60u32).prop_map(|(first, count)| Step::Spill { first, count }),
        3 => Just(Step::Flush),
        4 => any::<bool>().prop_map(|wait| Step::Collect { wait }),
        4 => Just(Step::Clean),
        1 => Just(Step::Train),
        3 => (slot(), 1..60u32).prop_map(|(first, count)| Step::Recompress { first, count }),
        2 => Just(Step::Compact),
    ]
}

/// The store and the map that it should behave like.
struct Machine {
    store: Store,
    medium: Arc<Medium>,
    writer: SpillWriter<Sim>,
    model: HashMap<u32, Page>,
    sought: Option<(SlotIndex, Sought, Vec<u8>)>,
    recompressor: Option<Recompressor>,
    trained: u64,
    stream: Stream,
    stats: QueueStats,
}

impl Machine {
    fn new(codec: StoreCodec, faults: Faults, seed: u64) -> Self {
        let (store, medium) = (store(codec), Medium::new(faults, seed));
        let disk = Sim { medium: Arc::clone(&medium), under_way: Vec::new() };
        let writer = SpillWriter::new(&store, disk, buffers());
        let (stream, stats) = (Stream::new(), QueueStats::default());
        let model = HashMap::new();
        Self {
            store,
            medium,
            writer,
            model,
            sought: None,
            recompressor: None,
            trained: 0,
            stream,
            stats,
        }
    }

    fn check(&mut self, slot: u32) {
        let found = read(&self.store, &self.medium, SlotIndex(slot), &mut self.stream, &self.stats);
        let wanted = self.model.get(&slot).unwrap_or(&[0; PAGE_SIZE]);
        match found {
            Ok(page) => assert!(page == *wanted, "slot {slot}: a wrong page"),
            Err(error) => {
                let faults = *self.medium.faults.lock().expect("unpoisoned");
                assert!(faults.may_lose(), "slot {slot}: {error:?} on an honest disk");
            }
        }
    }

    fn seek(&mut self, slot: SlotIndex) {
        let mut page = [0; PAGE_SIZE];
        let found = self.store.read(slot, &mut page, &mut self.stream, &self.stats);
        let Ok(ReadFrom::Spill(sought)) = found else { return };
        let mut blocks = vec![0; sought.span.len as usize];
        if self.medium.read(sought.span.at, &mut blocks).is_ok() {
            self.sought = Some((slot, sought, blocks));
        }
    }

    fn open(&mut self) {
        let Some((slot, sought, mut blocks)) = self.sought.take() else { return };
        let mut page = [0xee; PAGE_SIZE];
        let (stream, stats) = (&mut self.stream, &self.stats);
        let opened = self.store.open_spilled(slot, &sought, &mut blocks, &mut page, stream, stats);
        match opened {
            Ok(Opened::Page) => assert!(page == self.model[&slot.0], "slot {}: stale", slot.0),
            Ok(Opened::Changed) => {}
            Err(_) => self.check(slot.0),
        }
    }

    fn spill(&mut self, first: u32, count: u32) {
        for slot in first..(first + count).min(SLOTS) {
            match self.writer.add(&self.store, SlotIndex(slot), &self.stats) {
                Added::Taken | Added::NotInPool => {}
                Added::Busy | Added::NoSegment | Added::NotOurs => return,
            }
        }
    }

    /// A dictionary of pages like those in the store; if all are in use, what is not goes.
    fn train(&mut self) {
        self.trained += 1;
        let samples: Vec<Page> =
            (0..40).map(|i| page(self.trained << 8 | i, (i as usize * 50).min(1500))).collect();
        let dictionary = Dictionary::train_to(&samples, 4096).expect("periods in common");
        if self.store.install(dictionary, &self.stats).is_none() {
            self.store.retire_dictionaries(&self.stats);
        }
    }

    fn recompress(&mut self, first: u32, count: u32) {
        self.recompressor.take_if(|recompressor| recompressor.is_outdated(&self.store));
        let recompressor = self
            .recompressor
            .get_or_insert_with(|| Recompressor::new(&self.store).expect("memory"));
        for slot in first..(first + count).min(SLOTS) {
            self.store.recompress(SlotIndex(slot), recompressor, &self.stats);
        }
    }

    fn apply(&mut self, step: Step) {
        let stats = &self.stats;
        match step {
            Step::Write { slot, seed, random } => {
                let page = page(seed, random);
                if self.store.write(SlotIndex(slot), &page, &mut self.stream, stats).is_ok() {
                    self.model.insert(slot, page);
                }
            }
            Step::Discard { first, count } => {
                let count = count.min(SLOTS - first);
                self.store.discard(SlotIndex(first), count, stats).expect("in range");
                self.model.retain(|slot, _| !(first..first + count).contains(slot));
            }
            Step::Read { slot } => self.check(slot),
            Step::Seek { slot } => self.seek(SlotIndex(slot)),
            Step::Open => self.open(),
            Step::Spill { first, count } => self.spill(first, count),
            Step::Flush => self.writer.flush(&self.store, stats),
            Step::Collect { wait } => {
                self.writer.collect(&self.store, wait, stats);
            }
            Step::Train => self.train(),
            Step::Recompress { first, count } => self.recompress(first, count),
            Step::Compact => {
                self.store.compact_step(stats);
            }
            Step::Clean => {
                self.writer.clean(&self.store, stats);
            }
        }
    }

    fn finish(mut self) {
        (0..SLOTS).for_each(|slot| self.check(slot));
        settle(&mut self.writer, &self.store, &self.stats);
        (0..SLOTS).for_each(|slot| self.check(slot));
        agree(&self.store, [&self.stats]);
        self.store.discard(SlotIndex(0), SLOTS, &self.stats).expect("all slots");
        let spill = self.store.spill().expect("made with one");
        assert!((0..SEGMENTS).all(|i| spill.segments.live_units(i) == 0));
        assert_eq!(self.store.pool_usage().slabs_used, 0);
    }
}

/// Ends what is begun, as far as there is room for it.
fn settle(writer: &mut SpillWriter<Sim>, store: &Store, stats: &QueueStats) {
    writer.flush(store, stats);
    while !writer.is_idle() {
        if writer.is_cleaning() {
            writer.clean(store, stats);
        }
        writer.flush(store, stats);
        if !writer.is_under_way() && writer.is_cleaning() {
            // Damaged segments have taken all that cleaning could move things to.
            break;
        }
        writer.collect(store, true, stats);
    }
}

/// The table, pool, segments and counters tell the same.
fn agree<'a>(store: &Store, stats: impl IntoIterator<Item = &'a QueueStats>) {
    let report = store.check().expect("a consistent store");
    let mut sums = [0u64; 4];
    for s in stats {
        let changes = [&s.slots_spilled, &s.spilled_bytes, &s.stored_bytes, &s.slots_huge];
        for (sum, change) in sums.iter_mut().zip(changes) {
            *sum = sum.wrapping_add(change.get());
        }
    }
    let found =
        [report.slots_spilled, report.spilled_bytes, report.stored_bytes, report.slots_huge];
    assert_eq!(sums, found);
}

fn codec() -> impl Strategy<Value = StoreCodec> {
    prop_oneof![Just(StoreCodec::Lz4), Just(StoreCodec::Zstd), Just(StoreCodec::None)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn with_an_honest_disk_nothing_is_ever_lost(
        steps in proptest::collection::vec(step(), 1..1500),
        codec in codec(),
        write_error in prop_oneof![Just(0u8), 1..200u8],
        slow: u8,
        seed: u64,
    ) {
        let faults = Faults { write_error, slow, ..Faults::default() };
        let mut machine = Machine::new(codec, faults, seed);
        steps.into_iter().for_each(|step| machine.apply(step));
        machine.finish();
    }

    #[test]
    fn with_a_disk_that_lies_a_page_is_right_or_an_error(
        steps in proptest::collection::vec(step(), 1..1500),
        codec in codec(),
        rates: [u8; 6],
        seed: u64,
    ) {
        let [write_error, read_error, torn, lost, flip, slow] = rates.map(|rate| rate / 3);
        let faults = Faults { write_error, read_error, torn, lost, flip: flip.max(1), slow };
        let mut machine = Machine::new(codec, faults, seed);
        steps.into_iter().for_each(|step| machine.apply(step));
        machine.finish();
    }
}

#[test]
fn a_page_written_again_at_the_same_place_is_not_the_one_that_was_copied() {
    let mut machine = Machine::new(StoreCodec::None, Faults::default(), 1);
    let slot = SlotIndex(7);
    let write = |machine: &mut Machine, seed| {
        machine.apply(Step::Write { slot: slot.0, seed, random: PAGE_SIZE });
    };
    write(&mut machine, 1);
    assert_eq!(machine.writer.add(&machine.store, slot, &machine.stats), Added::Taken);
    machine.writer.flush(&machine.store, &machine.stats);
    // The second write takes the other page of the slab's first two, the third the first again.
    write(&mut machine, 2);
    write(&mut machine, 3);
    let done = machine.writer.collect(&machine.store, true, &machine.stats);
    assert_eq!((done.published, done.stale), (0, 1));
    machine.check(slot.0);
    machine.finish();
}

#[test]
fn failed_writes_leave_everything_in_the_pool_and_later_ones_succeed() {
    let faults = Faults { write_error: 255, ..Faults::default() };
    let mut machine = Machine::new(StoreCodec::Lz4, faults, 2);
    for slot in 0..100 {
        machine.apply(Step::Write { slot, seed: slot.into(), random: 1000 });
    }
    machine.spill(0, 100);
    machine.writer.flush(&machine.store, &machine.stats);
    let done = machine.writer.collect(&machine.store, true, &machine.stats);
    assert!(done.error.is_some() && done.published == 0);
    assert_eq!(machine.stats.spill_write_errors.get(), 1);
    assert_eq!(machine.store.check().expect("consistent").slots_spilled, 0);
    *machine.medium.faults.lock().expect("unpoisoned") = Faults::default();
    machine.spill(0, 100);
    machine.writer.flush(&machine.store, &machine.stats);
    let done = machine.writer.collect(&machine.store, true, &machine.stats);
    assert_eq!((done.published, done.error), (100, None));
    assert_eq!(machine.store.pool_usage().objects, 0);
    machine.finish();
}

/// One page in three is never written again, so every segment keeps something, and room comes from
/// cleaning alone.
#[test]
fn a_full_spill_is_cleaned_and_goes_on() {
    let mut machine = Machine::new(StoreCodec::None, Faults::default(), 3);
    let mut seed = 0;
    let mut full = false;
    for round in 0..20 {
        for slot in 0..SLOTS {
            if round == 0 || !slot.is_multiple_of(3) {
                seed += 1;
                machine.apply(Step::Write { slot, seed, random: PAGE_SIZE });
            }
        }
        for slot in 0..SLOTS {
            let mut tries = 0;
            loop {
                match machine.writer.add(&machine.store, SlotIndex(slot), &machine.stats) {
                    Added::Taken | Added::NotInPool => break,
                    Added::NotOurs => unreachable!("nobody was here before"),
                    Added::Busy => {
                        machine.writer.collect(&machine.store, true, &machine.stats);
                    }
                    Added::NoSegment => {
                        full = true;
                        tries += 1;
                        assert!(tries < 100, "cleaning makes no room");
                        if machine.writer.clean(&machine.store, &machine.stats) == Cleaned::Nothing
                        {
                            machine.writer.flush(&machine.store, &machine.stats);
                        }
                        machine.writer.collect(&machine.store, true, &machine.stats);
                    }
                }
            }
        }
    }
    assert!(full && machine.stats.spill_cleaned_segments.get() > 10, "it was full and cleaned");
    assert!(machine.stats.spill_moved_pages.get() > 0);
    machine.finish();
}

//! The store against a plain map: random operations in one thread, and many threads that read each
//! other's slots.

use proptest::prelude::*;
use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};
use uswap::codec::{Dictionary, Stream};
use uswap::error::IoError;
use uswap::limits::SLAB_BYTES;
use uswap::stats::{QueueStats, Stats};
use uswap::store::{CheckReport, Recompressed, Recompressor, Store, StoreCodec};
use uswap::sys::buffers::{BufferArea, CHUNK_PAGES, IoBuf, Search};
use uswap::sys::map::{Arena, Words};
use uswap::table::{Entry, Touch};
use uswap::units::{PAGE_SIZE, Page, QueueId, SlotIndex};

const SLOTS: u32 = 96;
/// Enough that pages may be staged at all.
const SLABS_TO_STAGE: usize = 160;

fn file(len: usize) -> File {
    let file = tempfile::tempfile().expect("temporary file");
    file.set_len(len as u64).expect("size");
    file
}

/// Buffers of one page each, and a store that pages in them can be staged in.
fn store_and_buffers(slabs: usize, codec: StoreCodec, count: usize) -> (Store, Vec<IoBuf>) {
    let chunks = count.div_ceil(CHUNK_PAGES as usize);
    let len = chunks * CHUNK_PAGES as usize * PAGE_SIZE;
    let area = BufferArea::new(&file(len), chunks).expect("map");
    let buffers = (0..count).map_while(|_| area.take(1, Search::Low)).collect();
    (store(SLOTS, slabs, codec).with_buffers(area), buffers)
}

fn store(slots: u32, slabs: usize, codec: StoreCodec) -> Store {
    let words = slots as usize;
    let table = Words::new(&file(words * 8), words).expect("map");
    let arena = slabs * SLAB_BYTES;
    Store::new(table, Arena::new(&file(arena), arena).expect("map"), codec)
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

#[derive(Clone, Debug)]
enum Step {
    Write { slot: u32, seed: u64, random: usize },
    WriteSame { slot: u32, word: u64 },
    Stage { slot: u32, seed: u64, random: usize },
    Settle,
    Read { slot: u32 },
    Discard { first: u32, count: u32 },
    WriteZeroes { first: u32, count: u32 },
    Tick,
    HoldBack { slot: u32 },
    Compact,
    Recompress { first: u32, count: u32 },
    Train,
    GiveBack { slabs: u64 },
    Grow { slabs: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let slot = 0..SLOTS;
    let word = prop_oneof![
        Just(0u64),
        any::<u64>(),
        any::<u32>().prop_map(u64::from),
        any::<u8>().prop_map(|b| u64::from_ne_bytes([b; 8])),
    ];
    let random = || prop_oneof![4 => 0..=PAGE_SIZE, 1 => Just(PAGE_SIZE), 1 => 3500..3700usize];
    prop_oneof![
        6 => (slot.clone(), any::<u64>(), random())
            .prop_map(|(slot, seed, random)| Step::Write { slot, seed, random }),
        6 => (slot.clone(), any::<u64>(), random())
            .prop_map(|(slot, seed, random)| Step::Stage { slot, seed, random }),
        5 => Just(Step::Settle),
        2 => (slot.clone(), word).prop_map(|(slot, word)| Step::WriteSame { slot, word }),
        4 => slot.clone().prop_map(|slot| Step::Read { slot }),
        1 => (slot.clone(), 0..20u32).prop_map(|(first, count)| Step::Discard { first, count }),
        1 => (slot.clone(), 0..4u32).prop_map(|(first, count)| Step::WriteZeroes { first, count }),
        1 => Just(Step::Tick),
        1 => slot.prop_map(|slot| Step::HoldBack { slot }),
        3 => Just(Step::Compact),
        4 => (0..SLOTS, 1..20u32).prop_map(|(first, count)| Step::Recompress { first, count }),
        1 => Just(Step::Train),
        1 => (1..4u64).prop_map(|slabs| Step::GiveBack { slabs }),
        1 => (1..4u64).prop_map(|slabs| Step::Grow { slabs }),
    ]
}

/// The store, the map it should behave like, and what the counters should say.
struct Pair {
    store: Store,
    model: HashMap<u32, Page>,
    fresh: Vec<IoBuf>,
    staged: VecDeque<(SlotIndex, IoBuf)>,
    stream: Stream,
    stats: QueueStats,
    hand: Hand,
}

impl Pair {
    fn write(&mut self, slot: u32, page: Page) {
        match self.store.write(SlotIndex(slot), &page, &mut self.stream, &self.stats) {
            Ok(()) => drop(self.model.insert(slot, page)),
            Err(error) => assert_eq!(error, IoError::Full),
        }
    }

    fn stage(&mut self, slot: u32, page: Page) {
        if !self.store.room_to_stage(1) {
            return;
        }
        let Some(mut buffer) = self.fresh.pop() else { return };
        buffer.copy_from_slice(&page);
        let at = buffer.first_page();
        self.store.stage(SlotIndex(slot), at, &self.stats).expect("in range");
        self.staged.push_back((SlotIndex(slot), buffer));
        self.model.insert(slot, page);
    }

    fn settle(&mut self) {
        let Some((slot, mut buffer)) = self.staged.pop_front() else { return };
        let page = buffer.first_chunk().expect("one page");
        self.store
            .settle(slot, buffer.first_page(), page, &mut self.stream, &self.stats)
            .expect("there is always room for what was staged");
        // What the kernel does with a fresh buffer.
        buffer.fill(0xdd);
        self.fresh.push(buffer);
    }

    fn read(&mut self, slot: u32) {
        let mut page = [0xee; PAGE_SIZE];
        self.store
            .read(SlotIndex(slot), &mut page, &mut self.stream, &self.stats)
            .expect("every slot is readable");
        assert_eq!(page, *self.model.get(&slot).unwrap_or(&[0; PAGE_SIZE]), "slot {slot}");
    }

    fn empty(&mut self, first: u32, count: u32, result: Result<(), IoError>) {
        if first + count > SLOTS {
            assert_eq!(result, Err(IoError::Invalid));
            return;
        }
        assert_eq!(result, Ok(()));
        self.model.retain(|slot, _| !(first..first + count).contains(slot));
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Write { slot, seed, random } => self.write(slot, page(seed, random)),
            Step::WriteSame { slot, word } => {
                let mut page = [0; PAGE_SIZE];
                page.as_chunks_mut::<8>().0.fill(word.to_ne_bytes());
                self.write(slot, page);
            }
            Step::Stage { slot, seed, random } => self.stage(slot, page(seed, random)),
            Step::Settle => self.settle(),
            Step::Read { slot } => self.read(slot),
            Step::Discard { first, count } => {
                let result = self.store.discard(SlotIndex(first), count, &self.stats);
                self.empty(first, count, result);
            }
            Step::WriteZeroes { first, count } => {
                let result = self.store.write_zeroes(SlotIndex(first), count, &self.stats);
                self.empty(first, count, result);
            }
            Step::Tick => self.store.advance_tick(),
            Step::HoldBack { slot } => {
                let held = hold_back(&self.store, SlotIndex(slot));
                assert!(held.is_none_or(|held| held == self.store.glance(SlotIndex(slot))));
            }
            Step::Compact => self.compact(),
            Step::Recompress { first, count } => {
                for slot in first..(first + count).min(SLOTS) {
                    self.hand.recompress(&self.store, SlotIndex(slot), &self.stats);
                }
            }
            Step::Train => self.hand.train(&self.store, &self.stats),
            Step::GiveBack { slabs } => {
                let bytes = slabs * SLAB_BYTES as u64;
                self.store.give_back(0, bytes, &self.stats).expect("files can have holes");
            }
            Step::Grow { slabs } => {
                self.store.pool().grow(slabs * SLAB_BYTES as u64).expect("memory");
            }
        }
    }

    /// A step of compaction frees a slab, since nobody else is at work, and moves nothing away from
    /// where it is found.
    fn compact(&mut self) {
        let before = self.store.pool_usage();
        let Some(moved) = self.store.compact_step(&self.stats) else { return };
        let after = self.store.pool_usage();
        assert_eq!((moved.slabs_freed, after.slabs_used), (1, before.slabs_used - 1));
        assert_eq!((after.objects, after.object_bytes), (before.objects, before.object_bytes));
        assert!(moved.objects > 0);
    }

    fn finish(mut self) {
        (0..SLOTS).for_each(|slot| self.read(slot));
        agree(&self.store, [&self.stats]);
        while !self.staged.is_empty() {
            self.settle();
        }
        (0..SLOTS).for_each(|slot| self.read(slot));
        agree(&self.store, [&self.stats]);
        let stored = stored_slots(&self.stats).into_iter().fold(0, u64::wrapping_add);
        assert_eq!(stored, self.model.len() as u64);
        self.store.discard(SlotIndex(0), SLOTS, &self.stats).expect("all slots");
        assert_eq!(self.store.pool_usage().slabs_used, 0);
    }
}

/// A background thread's compressor and trainer.
#[derive(Default)]
struct Hand {
    recompressor: Option<Recompressor>,
    trained: u64,
}

impl Hand {
    /// The next dictionary, of pages like those in the store.
    fn train(&mut self, store: &Store, stats: &QueueStats) {
        self.trained += 1;
        let samples: Vec<Page> =
            (0..40).map(|i| page(self.trained << 8 | i, (i as usize * 50).min(1500))).collect();
        let dictionary = Dictionary::train_to(&samples, 4096).expect("periods in common");
        let (alive, _) = store.dictionaries_alive();
        match store.install(dictionary, stats) {
            Some(_) => assert!(alive < 3),
            None => {
                let (_, objects) = store.oldest_dictionary().expect("all numbers are taken");
                let retired = store.retire_dictionaries(stats);
                assert!(objects > 0 || retired > 0, "an unused dictionary goes");
            }
        }
    }

    fn recompress(&mut self, store: &Store, slot: SlotIndex, stats: &QueueStats) -> Recompressed {
        self.recompressor.take_if(|recompressor| recompressor.is_outdated(store));
        let recompressor =
            self.recompressor.get_or_insert_with(|| Recompressor::new(store).expect("memory"));
        store.recompress(slot, recompressor, stats)
    }
}

/// What a hand that goes over the table does with old touches. Whether it did.
fn hold_back(store: &Store, slot: SlotIndex) -> Option<(Entry, Touch)> {
    let (entry, touch) = store.glance(slot);
    let held = Touch { stamp: store.tick().wrapping_sub(uswap_policy::AGE_PINNED_TICKS), ..touch };
    (entry != Entry::Empty && store.retouch(slot, (entry, touch), held)).then_some((entry, held))
}

/// Same-filled, lz4, zstd, dense and uncompressed slots.
fn stored_slots(stats: &QueueStats) -> [u64; 5] {
    let QueueStats { slots_same, slots_lz4, slots_zstd, slots_dense, slots_huge, .. } = stats;
    [slots_same, slots_lz4, slots_zstd, slots_dense, slots_huge].map(|c| c.get())
}

/// The table, the pool and the counters tell the same.
fn agree<'a>(store: &Store, stats: impl IntoIterator<Item = &'a QueueStats>) {
    let report = store.check().expect("a consistent store");
    let CheckReport { slots_same, slots_lz4, slots_zstd, slots_dense, slots_huge, .. } = report;
    let found = [slots_same, slots_lz4, slots_zstd, slots_dense, slots_huge];
    let found = [&found[..], &[report.slots_staged, report.stored_bytes]].concat();
    let mut counted = [0u64; 7];
    for s in stats {
        let staged = [s.slots_staged.get(), s.stored_bytes.get()];
        let changes = stored_slots(s).into_iter().chain(staged);
        for (sum, change) in counted.iter_mut().zip(changes) {
            *sum = sum.wrapping_add(change);
        }
    }
    assert_eq!(counted.to_vec(), found);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn the_store_behaves_like_a_map(
        steps in proptest::collection::vec(step(), 1..1200),
        slabs in prop_oneof![1..9usize, Just(SLABS_TO_STAGE)],
        codec in prop_oneof![
            Just(StoreCodec::Lz4),
            Just(StoreCodec::Zstd),
            Just(StoreCodec::None),
        ],
    ) {
        let (store, fresh) = store_and_buffers(slabs, codec, 8);
        let mut pair = Pair {
            store,
            model: HashMap::new(),
            fresh,
            staged: VecDeque::new(),
            stream: Stream::new(),
            stats: QueueStats::default(),
            hand: Hand::default(),
        };
        steps.into_iter().for_each(|step| pair.apply(step));
        pair.finish();
    }
}

const THREADS: u32 = 4;
const ROUNDS: u64 = 4000;

/// A page that says in its first bytes whose it is; the rest follows from that, so that a torn page
/// shows.
fn stamped(slot: u32, round: u64) -> Page {
    let random = match round % 4 {
        0 => PAGE_SIZE,
        r => 300 * r as usize + slot as usize % 7 * 100,
    };
    let mut page = page(u64::from(slot) << 32 | round, random);
    page[..4].copy_from_slice(&slot.to_le_bytes());
    page[8..16].copy_from_slice(&round.to_le_bytes());
    page
}

fn check_stamp(slot: u32, found: &Page) {
    if *found == [0; PAGE_SIZE] {
        return; // Never written, or discarded.
    }
    let round = u64::from_le_bytes(found[8..16].try_into().expect("eight bytes"));
    assert!(*found == stamped(slot, round), "slot {slot}: not a page ever written to it");
}

/// One writer: stages or stores pages in its own slots, and reads everybody's.
struct Writer<'a> {
    store: &'a Store,
    stats: &'a QueueStats,
    stream: Stream,
    fresh: Vec<IoBuf>,
    staged: VecDeque<(SlotIndex, IoBuf)>,
}

impl Writer<'_> {
    fn write(&mut self, slot: SlotIndex, page: &Page) {
        if self.store.room_to_stage(1)
            && let Some(mut buffer) = self.fresh.pop()
        {
            buffer.copy_from_slice(page);
            self.store.stage(slot, buffer.first_page(), self.stats).expect("in range");
            self.staged.push_back((slot, buffer));
            return;
        }
        match self.store.write(slot, page, &mut self.stream, self.stats) {
            Ok(()) | Err(IoError::Full) => {}
            Err(error) => panic!("write: {error:?}"),
        }
    }

    fn settle(&mut self) {
        let Some((slot, mut buffer)) = self.staged.pop_front() else { return };
        let page = buffer.first_chunk().expect("one page");
        self.store
            .settle(slot, buffer.first_page(), page, &mut self.stream, self.stats)
            .expect("there is always room for what was staged");
        buffer.fill(0xdd);
        self.fresh.push(buffer);
    }

    fn run(mut self, thread: u32, running: &AtomicBool) {
        let mut page = [0; PAGE_SIZE];
        for round in 0..ROUNDS {
            let own = thread + THREADS * (round as u32 * 7 % (SLOTS / THREADS));
            if round % 11 == 0 {
                // Somebody else's slots too: a discard may meet a page that is being settled.
                self.store.discard(SlotIndex(own), 1, self.stats).expect("in range");
                self.store.discard(SlotIndex((own + 1) % SLOTS), 1, self.stats).expect("in range");
            } else {
                self.write(SlotIndex(own), &stamped(own, round));
            }
            if round % 3 != 0 {
                self.settle();
            }
            for offset in [0, 1, 13] {
                let slot = SlotIndex((own + offset) % SLOTS);
                self.store.read(slot, &mut page, &mut self.stream, self.stats).expect("readable");
                check_stamp(slot.0, &page);
            }
        }
        while !self.staged.is_empty() {
            self.settle();
        }
        running.store(false, Ordering::Relaxed);
    }
}

fn threads_read_each_other(slabs: usize, codec: StoreCodec) {
    let (store, mut buffers) = store_and_buffers(slabs, codec, 4 * THREADS as usize);
    let stats = Stats::new(THREADS as u16 + 1, 1);
    let running = AtomicBool::new(true);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (store, running) = (&store, &running);
            let stats = stats.queue(QueueId(thread as u16));
            let fresh = buffers.split_off(buffers.len() - 4);
            let stream = Stream::new();
            let writer = Writer { store, stats, stream, fresh, staged: VecDeque::new() };
            scope.spawn(move || writer.run(thread, running));
        }
        // What a background thread does, in the way of everybody.
        let (store, hand, running) = (&store, stats.helper(0), &running);
        scope.spawn(move || {
            let (mut slot, mut worker) = (0, Hand::default());
            while running.load(Ordering::Relaxed) {
                store.compact_step(hand);
                worker.recompress(store, SlotIndex(slot), hand);
                if slot == 0 {
                    worker.train(store, hand);
                    store.retire_dictionaries(hand);
                }
                hold_back(store, SlotIndex(slot));
                slot = (slot + 7) % SLOTS;
                if slot % 5 == 0 {
                    store.advance_tick();
                    store.give_back(0, SLAB_BYTES as u64, hand).expect("files can have holes");
                    store.pool().grow(SLAB_BYTES as u64).expect("memory");
                }
            }
        });
        // The first thread's slots over and over, so that readers and the writer meet on one slot.
        let reader = stats.queue(QueueId(THREADS as u16));
        let (mut stream, mut page) = (Stream::new(), [0; PAGE_SIZE]);
        while running.load(Ordering::Relaxed) {
            for slot in (0..SLOTS).step_by(THREADS as usize) {
                store.read(SlotIndex(slot), &mut page, &mut stream, reader).expect("readable");
                check_stamp(slot, &page);
            }
        }
    });
    assert!(stats.helper(0).recompressed_pages.get() > 0, "nothing was recompressed");
    let threads = (0..=THREADS as u16).map(|q| stats.queue(QueueId(q)));
    agree(&store, threads.chain([stats.helper(0)]));
}

#[test]
fn readers_see_only_pages_that_were_written_to_the_slot() {
    // Six slabs are not enough for 96 pages, so that refusals happen too.
    threads_read_each_other(6, StoreCodec::Lz4);
}

#[test]
fn readers_see_only_pages_that_were_staged_in_the_slot() {
    threads_read_each_other(SLABS_TO_STAGE, StoreCodec::Lz4);
}

#[test]
fn readers_see_only_pages_that_were_written_with_zstd() {
    threads_read_each_other(SLABS_TO_STAGE, StoreCodec::Zstd);
}

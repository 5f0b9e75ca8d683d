//! Every budget at its smallest, and everything asked of the store at once: a pool that is full
//! most of the time, one staging buffer for all writers, readers that never pause. It must end,
//! every page that was accepted must be read back right, a refused write must leave the old page,
//! and once there is room again writes must succeed.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use uswap::codec::Stream;
use uswap::error::IoError;
use uswap::limits::{SLAB_BYTES, STAGE_MARGIN_BYTES};
use uswap::stats::{QueueStats, Stats};
use uswap::store::{Store, StoreCodec};
use uswap::sys::buffers::{BufferArea, CHUNK_PAGES, IoBuf, Search};
use uswap::sys::map::{Arena, Words};
use uswap::units::{PAGE_SIZE, Page, QueueId, SlotIndex};

const WRITERS: u32 = 3;
const READERS: u32 = 2;
/// Slots of one writer: a pool of the smallest size that may stage holds far fewer of its pages.
const OWN_SLOTS: u32 = 700;
const ROUNDS: u64 = 12_000;

fn file(len: usize) -> std::fs::File {
    let file = tempfile::tempfile().expect("temporary file");
    file.set_len(len as u64).expect("size");
    file
}

/// A page that says whose it is and follows from that, so that a torn or misplaced one shows. Two
/// of three do not compress.
fn page(slot: u32, round: u64) -> Page {
    let random = if round.is_multiple_of(3) { 600 } else { PAGE_SIZE };
    let mut state = (u64::from(slot) << 32 | round).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut page: Page = std::array::from_fn(|i| {
        if i >= random {
            return i as u8 % 13;
        }
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    });
    page[..4].copy_from_slice(&slot.to_le_bytes());
    page[8..16].copy_from_slice(&round.to_le_bytes());
    page
}

/// What everybody shares.
struct Machine {
    store: Store,
    stats: Stats,
    /// The one buffer that pages are staged in, with the slot of the page that is in it.
    staging: Mutex<(IoBuf, Option<SlotIndex>)>,
    writing: AtomicUsize,
    refused: AtomicU64,
    throttled: AtomicU64,
}

impl Machine {
    fn new(pool_bytes: usize, codec: StoreCodec) -> Self {
        let slots = (WRITERS * OWN_SLOTS) as usize;
        let chunk = file(CHUNK_PAGES as usize * PAGE_SIZE);
        let area = BufferArea::new(&chunk, 1).expect("map");
        let buffer = area.take(1, Search::Low).expect("free");
        let table = Words::new(&file(slots * 8), slots).expect("map");
        let arena = Arena::new(&file(pool_bytes), pool_bytes).expect("map");
        Self {
            store: Store::new(table, arena, codec).with_buffers(area),
            stats: Stats::new((WRITERS + READERS) as u16, 0),
            staging: Mutex::new((buffer, None)),
            writing: AtomicUsize::new(WRITERS as usize),
            refused: AtomicU64::new(0),
            throttled: AtomicU64::new(0),
        }
    }

    fn staging(&self) -> MutexGuard<'_, (IoBuf, Option<SlotIndex>)> {
        self.staging.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stages the page if the buffer is fresh and there is room, stores it otherwise. Whether it
    /// was accepted.
    fn write(&self, slot: SlotIndex, page: &Page, stream: &mut Stream, stats: &QueueStats) -> bool {
        if let Ok(mut staging) = self.staging.try_lock() {
            let (buffer, staged) = &mut *staging;
            if staged.is_none() && self.store.room_to_stage(1) {
                buffer.copy_from_slice(page);
                self.store.stage(slot, buffer.first_page(), stats).expect("in range");
                *staged = Some(slot);
                return true;
            }
        }
        self.throttled.fetch_add(1, Ordering::Relaxed);
        match self.store.write(slot, page, stream, stats) {
            Ok(()) => true,
            Err(error) => {
                assert_eq!(error, IoError::Full);
                self.refused.fetch_add(1, Ordering::Relaxed);
                false
            }
        }
    }

    /// Moves the staged page on, whoever staged it.
    fn settle(&self, stream: &mut Stream, stats: &QueueStats) {
        let mut staging = self.staging();
        let (buffer, staged) = &mut *staging;
        let Some(slot) = staged.take() else { return };
        let page = buffer.first_chunk().expect("one page");
        self.store
            .settle(slot, buffer.first_page(), page, stream, stats)
            .expect("what was staged finds room, however full the pool is");
        buffer.fill(0xdd);
    }
}

/// Writes its own slots, knows what must be in each, and now and then gives some back.
fn writer(machine: &Machine, index: u32) -> Vec<Option<u64>> {
    let stats = machine.stats.queue(QueueId(index as u16));
    let (mut stream, mut back) = (Stream::new(), [0; PAGE_SIZE]);
    let mut model: Vec<Option<u64>> = vec![None; OWN_SLOTS as usize];
    let slot = |own: u64| SlotIndex(index * OWN_SLOTS + (own % u64::from(OWN_SLOTS)) as u32);
    for round in 1..=ROUNDS {
        let own = round * 331 % u64::from(OWN_SLOTS);
        if machine.write(slot(own), &page(slot(own).0, round), &mut stream, stats) {
            model[own as usize] = Some(round);
        }
        if round % 5 == 0 {
            machine.settle(&mut stream, stats);
        }
        if round % 40 == 0 {
            let first = round % u64::from(OWN_SLOTS - 30);
            machine.store.discard(slot(first), 30, stats).expect("in range");
            model[first as usize..first as usize + 30].fill(None);
        }
        let own = round * 97 % u64::from(OWN_SLOTS);
        machine.store.read(slot(own), &mut back, &mut stream, stats).expect("readable");
        let wanted = model[own as usize].map_or([0; PAGE_SIZE], |round| page(slot(own).0, round));
        assert!(back == wanted, "slot {}: not what was accepted last", slot(own).0);
    }
    machine.writing.fetch_sub(1, Ordering::Relaxed);
    model
}

/// Reads everybody's slots as fast as it can, until the writers are done.
fn reader(machine: &Machine, index: u32) -> u64 {
    let stats = machine.stats.queue(QueueId((WRITERS + index) as u16));
    let (mut stream, mut back, mut reads) = (Stream::new(), [0; PAGE_SIZE], 0);
    while machine.writing.load(Ordering::Relaxed) > 0 {
        for slot in (index..WRITERS * OWN_SLOTS).step_by(READERS as usize) {
            machine.store.read(SlotIndex(slot), &mut back, &mut stream, stats).expect("readable");
            let round = u64::from_le_bytes(back[8..16].try_into().expect("eight bytes"));
            assert!(
                back == [0; PAGE_SIZE] || back == page(slot, round),
                "slot {slot}: a page that was never written to it"
            );
            reads += 1;
        }
    }
    reads
}

fn overload(pool_bytes: usize, codec: StoreCodec) -> Machine {
    let machine = Machine::new(pool_bytes, codec);
    let (models, reads) = std::thread::scope(|scope| {
        let shared = &machine;
        let writers: Vec<_> =
            (0..WRITERS).map(|index| scope.spawn(move || writer(shared, index))).collect();
        let readers: Vec<_> =
            (0..READERS).map(|index| scope.spawn(move || reader(shared, index))).collect();
        let models: Vec<_> = writers.into_iter().map(|t| t.join().expect("a writer")).collect();
        let reads: u64 = readers.into_iter().map(|t| t.join().expect("a reader")).sum();
        (models, reads)
    });
    assert!(reads >= u64::from(WRITERS * OWN_SLOTS), "the readers came round: {reads}");
    let refused = machine.refused.load(Ordering::Relaxed);
    assert!(refused > ROUNDS / 10, "only {refused} writes were refused: the pool was never full");
    assert!(machine.throttled.load(Ordering::Relaxed) > refused, "staging was never exhausted");

    let (stats, mut stream) = (machine.stats.queue(QueueId(0)), Stream::new());
    let mut back = [0; PAGE_SIZE];
    machine.settle(&mut stream, stats);
    for (own, round) in models.iter().flatten().enumerate() {
        let slot = own as u32;
        machine.store.read(SlotIndex(slot), &mut back, &mut stream, stats).expect("readable");
        let wanted = round.map_or([0; PAGE_SIZE], |round| page(slot, round));
        assert!(back == wanted, "slot {slot}: not what was accepted last");
    }
    let report = machine.store.check().expect("a consistent store");
    let stored = report.slots_lz4 + report.slots_zstd + report.slots_huge;
    assert_eq!(stored, models.iter().flatten().flatten().count() as u64);

    // Room again, and at once.
    let all = WRITERS * OWN_SLOTS;
    machine.store.discard(SlotIndex(0), all, stats).expect("all slots");
    assert_eq!(machine.store.pool_usage().objects, 0);
    for slot in 0..32 {
        let wanted = page(slot, 1);
        machine.store.write(SlotIndex(slot), &wanted, &mut stream, stats).expect("room again");
        machine.store.read(SlotIndex(slot), &mut back, &mut stream, stats).expect("readable");
        assert!(back == wanted);
    }
    machine
}

#[test]
fn a_pool_of_four_slabs_in_which_nothing_can_be_staged() {
    for codec in [StoreCodec::Lz4, StoreCodec::Zstd, StoreCodec::None] {
        let machine = overload(4 * SLAB_BYTES, codec);
        let staged = machine.stats.queue(QueueId(0)).write_staged_pages.get();
        assert_eq!(staged, 0, "there is no room for the margin");
    }
}

#[test]
fn a_pool_that_can_just_stage_and_one_buffer_for_it() {
    for codec in [StoreCodec::Lz4, StoreCodec::Zstd] {
        let machine = overload(STAGE_MARGIN_BYTES as usize + 2 * SLAB_BYTES, codec);
        let staged = (0..WRITERS).map(|q| machine.stats.queue(QueueId(q as u16)));
        let staged: u64 = staged.map(|stats| stats.write_staged_pages.get()).sum();
        assert!(staged > 0, "something was staged while there was room");
    }
}

//! The mover against a store, with time that is made to pass.

use super::*;
use crate::codec::Stream;
use crate::daemon::spilling::{Health, Spilling};
use crate::limits::SEGMENT_BYTES;
use crate::spill::{KEY_BYTES, Seal, Segments, Spill};
use crate::store::StoreCodec;
use crate::store::{Opened, ReadFrom};
use crate::sys::buffers::{BufferArea, CHUNK_PAGES, Search};
use crate::sys::map::{Arena, Words};
use crate::units::{PAGE_SIZE, Page};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Instant;
use uswap_policy::Settings;

const SLOTS: u32 = 8192;
const POOL: usize = 64 << 20;
const SEGMENTS: usize = 96;

fn file(len: usize) -> File {
    let file = tempfile::tempfile().expect("file");
    file.set_len(len as u64).expect("size");
    file
}

/// Text of words that many pages share, so that a dictionary helps.
fn page(slot: u32) -> Page {
    let mut text = String::new();
    let mut state = u64::from(slot) + 1;
    while text.len() < PAGE_SIZE {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        text.push_str(&format!("field_{:03} = {slot}; ", (state >> 40) % 400));
    }
    text.as_bytes()[..PAGE_SIZE].try_into().expect("long enough")
}

fn store(pool: usize) -> Store {
    let words = Words::new(&file(8 * SLOTS as usize), SLOTS as usize).expect("map");
    let arena = Arena::sparse(&file(pool), pool).expect("map");
    let store = Store::new(words, arena, StoreCodec::Lz4);
    while store.pool().grow(1 << 20).expect("memory") {}
    store
}

/// The same with a small pool and a spill that is a file.
fn with_spill(
    pool: usize,
    policy: &str,
    test: impl for<'a> FnOnce(&Mover<'a>, &mut Work<'a>, &File),
) {
    with_spill_in(file(SEGMENTS * SEGMENT_BYTES), pool, policy, test);
}

/// The same with a spill that is this file.
fn with_spill_in(
    disk: File,
    pool: usize,
    policy: &str,
    test: impl for<'a> FnOnce(&Mover<'a>, &mut Work<'a>, &File),
) {
    let segments = Segments::new((SEGMENTS * SEGMENT_BYTES) as u64);
    let store = store(pool).with_spill(Spill { seal: Seal::new(&[7; KEY_BYTES]), segments });
    let buffers = SpillWriter::<SpillRing>::BUFFERS;
    let area = BufferArea::new(&file(buffers * SEGMENT_BYTES), buffers).expect("map");
    let buffers = (0..buffers).map_while(|_| area.take(CHUNK_PAGES, Search::Low)).collect();
    let writer = SpillWriter::new(&store, SpillRing::new(&disk).expect("ring"), buffers);
    let mut growth = Growth::new().expect("eventfd");
    growth.spilling = Some(Spilling::new(&store, 0));
    with(&store, &growth, policy, Some(writer), |mover, work| test(mover, work, &disk));
}

/// A mover that has not made a step yet.
fn with(
    store: &Store,
    growth: &Growth,
    policy: &str,
    writer: Option<SpillWriter<SpillRing>>,
    test: impl for<'a> FnOnce(&Mover<'a>, &mut Work<'a>),
) {
    let (movement, all) = (Movement::default(), Stats::new(1, 0));
    let root = tempfile::tempdir().expect("directory");
    let (movement, all, stats, root) = (&movement, &all, all.mover(), root.path());
    let mover = Mover { store, growth, movement, all, stats };
    let mut work = mover.begin(preset(policy), Outlook::new(root), writer);
    test(&mover, &mut work);
}

fn preset(name: &str) -> Policy {
    Policy::new(Settings::named(name).expect("a preset")).expect("checked")
}

/// Reads every slot that holds something, from the spill as well.
fn expect_all(mover: &Mover<'_>, disk: &File, slots: u32) {
    let (mut stream, mut found) = (Stream::new(), [0; PAGE_SIZE]);
    for slot in (0..slots).map(SlotIndex) {
        let read = mover.store.read(slot, &mut found, &mut stream, mover.stats).expect("reads");
        if let ReadFrom::Spill(sought) = read {
            let mut blocks = vec![0; sought.span.len as usize];
            disk.read_exact_at(&mut blocks, sought.span.at).expect("there");
            let opened = mover.store.open_spilled(
                slot,
                &sought,
                &mut blocks,
                &mut found,
                &mut stream,
                mover.stats,
            );
            assert_eq!(opened, Ok(Opened::Page), "{slot:?}");
        }
        assert!(found == page(slot.0), "{slot:?}");
    }
}

#[test]
fn pages_go_to_the_spill_when_room_is_low_and_come_back_after_two_reads() {
    with_spill(8 << 20, "balanced", |mover, work, disk| {
        let spilling = mover.growth.spilling.as_ref().expect("made with one");
        let (mut stream, mut full) = (Stream::new(), 0);
        for slot in 0..SLOTS {
            let write = |stream: &mut Stream| {
                mover.store.write(SlotIndex(slot), &page(slot), stream, mover.stats)
            };
            while write(&mut stream).is_err() {
                full += 1;
                assert!(spilling.may_help(Duration::ZERO), "{:?}", spilling.health());
                mover.step(work);
            }
            spilling.ask_if_low(mover.store);
            if spilling.is_asked() {
                mover.step(work);
            }
        }
        assert_eq!(full, 0, "room is made before it is needed");
        let spilled = mover.stats.slots_spilled.get();
        assert!(spilled > u64::from(SLOTS) / 3, "{spilled} spilled");
        assert!(mover.stats.stored_bytes.get() > 4 << 20, "no more than was needed");
        mover.store.allow_promotion(0, 0);
        expect_all(mover, disk, SLOTS);
        assert_eq!(mover.stats.promoted_pages.get(), 0);
        mover.store.allow_promotion(100, 3);
        expect_all(mover, disk, SLOTS);
        assert_eq!(mover.stats.promoted_pages.get(), 0, "read twice is not three times");
        expect_all(mover, disk, SLOTS);
        assert_eq!(mover.stats.promoted_pages.get(), 100);
        assert_eq!(mover.stats.slots_spilled.get(), spilled - 100);
        expect_all(mover, disk, SLOTS);
        mover.store.check().expect("all agrees");
    });
}

#[test]
fn a_successor_spills_nothing_before_it_has_the_lock_and_takes_that_at_once() {
    use crate::sys::spill;
    let dir = tempfile::tempdir().expect("directory");
    let path = dir.path().join("spill");
    std::fs::write(&path, vec![0; SEGMENTS * SEGMENT_BYTES]).expect("room");
    let dead = spill::Spill::open(&path).expect("nobody has it");
    let own = spill::Spill::open_beside(&path).expect("there");
    with_spill_in(own.file, 4 << 20, "balanced", |mover, work, _| {
        let mut stream = Stream::new();
        let mut write =
            |slot| mover.store.write(SlotIndex(slot), &page(slot), &mut stream, mover.stats);
        let full = (0..SLOTS).find(|&slot| write(slot).is_err()).expect("a small pool");
        steps(mover, work, 3, 1);
        assert_eq!(mover.stats.spill_write_bytes.get(), 0, "its transfers may be under way");
        drop(dead);
        work.writeback.as_mut().expect("made with one").look(&writeback::Totals::default());
        let other = spill::Spill::open(&path).expect_err("another service");
        assert_eq!(other.kind(), std::io::ErrorKind::ResourceBusy);
        steps(mover, work, 3, 1);
        assert!(mover.stats.spilled_pages.get() > 0 && write(full).is_ok());
        // Not around the page cache: any memory will do.
        expect_all(mover, &File::open(&path).expect("there"), full + 1);
    });
}

#[test]
fn a_step_cleans_as_many_segments_as_it_needs() {
    with_spill(64 << 20, "balanced", |mover, work, _| {
        let mut state = 1_u64;
        let mut noise = || -> Page {
            std::array::from_fn(|_| {
                state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(11);
                (state >> 56) as u8
            })
        };
        let mut stream = Stream::new();
        let mut write = |slot| {
            let page = noise();
            mover.store.write(SlotIndex(slot), &page, &mut stream, mover.stats).expect("room");
        };
        (0..SLOTS).for_each(&mut write);
        let writeback = work.writeback.as_mut().expect("made with one");
        assert!(writeback.look(&writeback::Totals::default()).used_bytes == 0);
        let full = (0..SLOTS).find(|&slot| !writeback.add(SlotIndex(slot))).expect("a small spill");
        writeback.end(true, true);
        // Half of every segment is given up, and half of that is written again.
        for slot in (0..full).step_by(4) {
            mover.store.discard(SlotIndex(slot + 2), 1, mover.stats).expect("in range");
            write(slot);
        }
        writeback.allow_cleaning(u64::MAX);
        let mut again = (0..full).step_by(4);
        assert_eq!(again.find(|&slot| !writeback.add(SlotIndex(slot))), None, "nothing stops it");
        let cleaned = mover.stats.spill_cleaned_segments.get();
        assert!(cleaned > 10, "{cleaned} segments cleaned");
        mover.store.check().expect("all agrees");
    });
}

#[test]
fn with_room_only_pages_that_rest_are_spilled_and_only_if_the_policy_says_so() {
    for (policy, spills) in [("balanced/fifo", false), ("spill-early/fifo", true)] {
        with_spill(64 << 20, policy, |mover, work, disk| {
            fill(mover, 4000);
            steps(mover, work, 10, 10);
            assert_eq!(mover.stats.spilled_pages.get(), 0, "nothing has rested");
            steps(mover, work, 200, 10);
            let spilled = mover.stats.slots_spilled.get();
            assert_eq!(spilled > 2000, spills, "{policy}: {spilled}");
            expect_all(mover, disk, 4000);
        });
    }
}

/// What a policy remembers that has written 2 GiB today.
fn spent() -> uswap_policy::Spent {
    let mut policy = Policy::new(Settings::named("balanced").expect("a preset")).expect("checked");
    let mut view = uswap_policy::View::default();
    for written_bytes in [0, 2 << 30] {
        view.spill = Some(uswap_policy::Spill { written_bytes, ..Default::default() });
        policy.tick(&view);
    }
    policy.spent()
}

#[test]
fn a_spent_budget_ends_spilling_and_is_told() {
    with_spill(8 << 20, "balanced", |mover, work, _| {
        let mut settings = work.policy.settings().clone();
        settings.spill.mib_per_second = Some(1);
        work.policy.reconfigure(settings.clone()).expect("settings agree");
        let spilling = mover.growth.spilling.as_ref().expect("made with one");
        let (mut stream, mut slot, mut state) = (Stream::new(), 0, 1_u64);
        let mut noise = || -> Page {
            std::array::from_fn(|_| {
                state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(11);
                (state >> 56) as u8
            })
        };
        let mut write =
            |slot| mover.store.write(SlotIndex(slot), &noise(), &mut stream, mover.stats);
        // The burst is ten seconds' worth, and what the time is worth that this takes.
        let begin = Instant::now();
        while slot < SLOTS && write(slot).is_ok() {
            slot += 1;
            mover.step(work);
        }
        let written = mover.stats.spill_write_bytes.get();
        let seconds = begin.elapsed().as_secs() + 1;
        assert!(written < (11 + seconds) << 20, "{slot}, {written} bytes in {seconds} s");
        assert!(slot < SLOTS || seconds > 4, "writes fail once the budget is spent");
        assert_eq!(spilling.health(), Health::Good, "a rate will have some again");
        steps(mover, work, 2, 9);
        assert!(mover.stats.spill_write_bytes.get() > written);
        settings.spill.mib_per_second = None;
        settings.spill.gib_per_day = Some(1);
        work.policy.reconfigure(settings).expect("settings agree");
        work.policy.resume(spent());
        assert!((0..SLOTS).any(|slot| write(slot).is_err()), "the pool is full again");
        steps(mover, work, 2, 9);
        assert_eq!(spilling.health(), Health::Spent);
        assert!(!spilling.may_help(Duration::ZERO));
    });
}

fn with_mover(test: impl for<'a> FnOnce(&Mover<'a>, &mut Work<'a>)) {
    let (store, growth) = (store(POOL), Growth::new().expect("eventfd"));
    with(&store, &growth, "balanced", None, test);
}

fn fill(mover: &Mover<'_>, slots: u32) {
    let mut stream = Stream::new();
    for slot in 0..slots {
        mover.store.write(SlotIndex(slot), &page(slot), &mut stream, mover.stats).expect("room");
    }
}

/// Steps as if `seconds` passed before each.
fn steps<'a>(mover: &Mover<'a>, work: &mut Work<'a>, count: u32, seconds: u64) {
    for _ in 0..count {
        work.outlook.ahead += Duration::from_secs(seconds);
        mover.step(work);
    }
}

#[test]
fn another_policy_holds_from_the_next_step_on() {
    with_mover(|mover, work| {
        fill(mover, 2600);
        mover.movement.change(preset("low-latency"));
        steps(mover, work, 60, 10);
        assert_eq!(mover.stats.recompressed_pages.get(), 0, "idle is half an hour");
        mover.movement.change(preset("dense"));
        steps(mover, work, 60, 10);
        assert!(mover.stats.recompressed_pages.get() > 2500, "{:?}", mover.movement.shown());
    });
}

#[test]
fn idle_pages_become_dense_and_read_back_the_same() {
    with_mover(|mover, work| {
        fill(mover, 2600);
        let before = mover.store.pool_usage().object_bytes;
        steps(mover, work, 3, 1);
        assert_eq!(mover.stats.recompressed_pages.get(), 0, "nothing is idle yet");
        steps(mover, work, 60, 10);
        assert_eq!(mover.stats.dictionaries_trained.get(), 1);
        assert!(mover.stats.recompressed_pages.get() > 2500, "{:?}", mover.movement.shown());
        let after = mover.store.pool_usage().object_bytes;
        assert!(after * 4 < before * 3, "{after} of {before} bytes");
        let (mut stream, mut found) = (Stream::new(), [0; PAGE_SIZE]);
        for slot in 0..2600 {
            let read = mover.store.read(SlotIndex(slot), &mut found, &mut stream, mover.stats);
            assert!(read.is_ok() && found == page(slot), "slot {slot}");
        }
    });
}

#[test]
fn memory_of_discarded_pages_goes_back_to_the_kernel() {
    with_mover(|mover, work| {
        fill(mover, SLOTS);
        steps(mover, work, 3, 1);
        mover.store.discard(SlotIndex(0), SLOTS, mover.stats).expect("all slots");
        steps(mover, work, 20, 10);
        let (there, ready) = (mover.store.pool().slab_bytes(), mover.growth.ready());
        assert!(there <= ready + (1 << 20), "{there} bytes are there, {ready} are to be ready");
        assert!(there >= ready.min(POOL as u64), "what is to be ready stays");
    });
}

#[test]
fn a_mover_that_is_sent_home_ends_soon() {
    with_mover(|mover, work| {
        fill(mover, 2600);
        mover.movement.end();
        steps(mover, work, 60, 10);
        assert_eq!(mover.stats.recompressed_pages.get(), 0);
    });
}

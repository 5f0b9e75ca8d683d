//! Properties of simulated runs, over random recordings.

use super::*;
use crate::limits::POOL_BYTES_MIN;
use crate::trace::{Event, Kind, Source, Stored};
use crate::units::SlotIndex;
use proptest::prelude::*;
use std::sync::atomic::AtomicU64;
use uswap_policy::{Policy, Settings, VICTIMS};

const MIB: u64 = 1 << 20;
const COSTS: Costs = Costs { pool_read_us: 2.0, dense_read_us: 6.0, spill_read_us: 100.0 };

/// Splitmix64: the same numbers on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }

    /// Small numbers often.
    fn skewed(&mut self, n: u64) -> u64 {
        let below = self.below(n) + 1;
        self.below(below)
    }
}

/// What a recording is like.
#[derive(Clone, Copy, Debug)]
struct Shape {
    seed: u64,
    slots: u64,
    events: u64,
    us_per_event: u64,
    /// Every page compresses to so many bytes; 0 for any size.
    bytes: u16,
    discards: bool,
}

fn recording(shape: Shape) -> Replay {
    let mut random = Random(shape.seed);
    let mut events = Vec::new();
    for i in 0..shape.events {
        let time_us = i * shape.us_per_event;
        let slot = SlotIndex(random.skewed(shape.slots) as u32);
        let mut event = |slot, kind| events.push(Ok::<_, ()>(Event { time_us, slot, kind }));
        if i % 1000 == 0 {
            let machine = Kind::Machine { available_mib: 900, some_permille: 10, full_permille: 0 };
            event(SlotIndex(0), machine);
        }
        match random.below(16) {
            0 if shape.discards => event(slot, Kind::Discard { count: 1 + random.below(9) as u32 }),
            0..8 => event(slot, Kind::Read(Source::Pool)),
            _ => {
                event(slot, Kind::Write);
                let stored = match (random.below(20), shape.bytes) {
                    (_, bytes @ 1..) => Stored::Compressed { bytes },
                    (0, _) => Stored::Same,
                    (1, _) => Stored::Huge,
                    _ => Stored::Compressed { bytes: 64 + random.below(3000) as u16 },
                };
                // Some are written again before.
                if shape.bytes > 0 || random.below(30) > 0 {
                    event(slot, Kind::Stored(stored));
                }
            }
        }
    }
    Replay::new(events).expect("no errors")
}

fn setup(pool_bytes: u64, spill_bytes: u64) -> Setup {
    Setup {
        pool_bytes,
        spill_bytes,
        staging_bytes: 0,
        device_slots: 0,
        aged_us: 0,
        hand: 0,
        ram_bytes: 1 << 30,
        spill_mib_per_second: 500.0,
        denser_us: 400.0,
        train_us: 100_000,
        costs: COSTS,
    }
}

fn simulate(replay: &Replay, settings: Settings, setup: &Setup) -> Outcome {
    let policy = Policy::new(settings).expect("settings agree");
    run(replay, setup, policy, &AtomicU64::new(0))
}

fn shapes() -> impl Strategy<Value = Shape> {
    (any::<u64>(), 100..30_000_u64, 1..40_000_u64, 1..3000_u64, any::<bool>()).prop_map(
        |(seed, slots, events, us_per_event, discards)| Shape {
            seed,
            slots,
            events,
            us_per_event,
            bytes: 0,
            discards,
        },
    )
}

fn presets() -> impl Strategy<Value = String> {
    let victims = VICTIMS.iter().map(|(name, _)| *name).collect::<Vec<_>>();
    let names = ["balanced", "dense", "low-latency", "spill-early"].to_vec();
    (proptest::sample::select(names), proptest::sample::select(victims))
        .prop_map(|(preset, victim)| format!("{preset}/{victim}"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Pages are where they went, and the pool is within its size; [`run`] itself compares the
    /// tiers with the table. The same recording gives the same outcome.
    #[test]
    fn no_page_is_lost_and_no_size_exceeded(
        shape in shapes(),
        name in presets(),
        pool in 16..24_u64,
        spill in proptest::sample::select(vec![0_u64, 16, 64]),
    ) {
        let (replay, setup) = (recording(shape), setup(pool * MIB, spill * MIB));
        let settings = Settings::named(&name).expect("known");
        let out = simulate(&replay, settings.clone(), &setup);
        let sum = out.left.elsewhere + out.left.pool + out.left.spill;
        let acts = || replay.steps.iter().map(|step| step.act());
        let writes = acts().filter(|act| matches!(act, Act::Write { .. })).count();
        prop_assert_eq!(out.writes, writes as u64);
        let mut there = vec![false; replay.slots];
        for step in &replay.steps {
            match step.act() {
                Act::Write { .. } => there[step.slot()] = true,
                Act::Discard(count) => {
                    there[step.slot()..step.slot() + count as usize].fill(false);
                }
                _ => {}
            }
        }
        prop_assert_eq!(sum, there.iter().filter(|there| **there).count() as u64);
        prop_assert!(out.ram_max_bytes <= setup.pool_bytes);
        prop_assert!(out.series.iter().all(|s| s.used_bytes <= s.resident_bytes));
        prop_assert!(out.series.iter().all(|s| s.spill_bytes <= setup.spill_bytes));
        let reads = &out.reads;
        let all = reads.served() + reads.empty + reads.refused;
        prop_assert_eq!(all, replay.steps.iter().filter(|step| step.is_read()).count() as u64);
        if spill == 0 {
            prop_assert_eq!((out.spilled_pages, out.spill_written_bytes, reads.spill), (0, 0, 0));
        }
        prop_assert!(simulate(&replay, settings, &setup) == out, "another outcome");
    }

    /// With pages of one size and nothing made denser no policy has fewer misses than who knows the
    /// future.
    #[test]
    fn nobody_is_better_than_the_optimum(mut shape in shapes(), victim in 0..VICTIMS.len()) {
        (shape.bytes, shape.slots, shape.events) = (3000, 9000, shape.events + 20_000);
        let replay = recording(shape);
        let mut settings = Settings::named(VICTIMS[victim].0).expect("known");
        settings.recompress.pages_per_second = 0;
        settings.spill.promote_reads = 1;
        let setup = setup(POOL_BYTES_MIN, 64 * MIB);
        let out = simulate(&replay, settings, &setup);
        prop_assert_eq!(out.refused_writes, 0);
        let optimum = Bound::new(&replay).misses(POOL_BYTES_MIN, false);
        prop_assert!(optimum <= out.reads.spill, "{optimum} > {}", out.reads.spill);
    }

    /// A larger pool is never worse, for LRU and for the optimum; with room for all there are no
    /// misses, and with none there is nothing else.
    #[test]
    fn curves_fall(shape in shapes(), is_dense in any::<bool>()) {
        let replay = recording(shape);
        let (curve, bound) = (Curve::new(&replay, is_dense), Bound::new(&replay));
        let sizes: Vec<u64> = (0..12).map(|i| curve.bytes_for_all() * i / 11).collect();
        let lru: Vec<f64> = sizes.iter().map(|bytes| curve.miss_ratio(*bytes)).collect();
        prop_assert!(lru.is_sorted_by(|a, b| a >= b), "{lru:?}");
        prop_assert_eq!(lru[11], 0.0);
        let misses: Vec<u64> = sizes.iter().map(|bytes| bound.misses(*bytes, is_dense)).collect();
        prop_assert!(misses.is_sorted_by(|a, b| a >= b), "{misses:?}");
        prop_assert_eq!(misses[11], 0);
    }

    /// The curve says what a list of pages in the order of use does; the optimum is not above it.
    #[test]
    fn the_curve_is_that_of_lru(seed in any::<u64>(), pages in 1..40_usize) {
        let (events, bytes) = (3000, 1500);
        let shape = Shape { seed, slots: 60, events, us_per_event: 10, bytes, discards: true };
        let replay = recording(shape);
        // Sizes are told apart in steps of 64 KiB: let a page be that large.
        let page = u64::from(super::bound::bytes_of(bytes, 0, false));
        let pool = pages as u64 * page;
        let (mut list, mut reads, mut distances) = (Vec::<usize>::new(), 0_u64, Vec::new());
        for step in &replay.steps {
            let at = list.iter().position(|slot| *slot == step.slot());
            match step.act() {
                Act::Machine { .. } => {}
                Act::Discard(count) => {
                    let gone = step.slot()..step.slot() + count as usize;
                    list.retain(|slot| !gone.contains(slot));
                }
                Act::Read(_) if at.is_none() => {}
                act => {
                    if matches!(act, Act::Read(_)) {
                        reads += 1;
                        distances.push(list.len() as u64 - at.expect("there") as u64);
                    }
                    list.retain(|slot| *slot != step.slot());
                    list.push(step.slot());
                }
            }
        }
        let curve = Curve::new(&replay, false);
        // In steps of the curve.
        let least = |distance: u64| (distance * page).next_multiple_of(64 << 10);
        let whole = pool / (64 << 10) * (64 << 10);
        let missed = distances.iter().filter(|d| least(**d) > whole).count();
        let expected = share(missed as u64, reads);
        prop_assert_eq!(curve.miss_ratio(pool), expected);
        let optimum = Bound::new(&replay).misses(pool, false);
        let lru = distances.iter().filter(|d| **d > pages as u64).count() as u64;
        prop_assert!(optimum <= lru, "{optimum} > {lru}");
    }
}

/// With room enough pages that rest become dense, and the pool smaller.
#[test]
fn pages_that_rest_become_dense() {
    let shape = Shape {
        seed: 3,
        slots: 20_000,
        events: 200_000,
        us_per_event: 5000,
        bytes: 0,
        discards: false,
    };
    let replay = recording(shape);
    let setup = setup(128 * MIB, 0);
    let mut settings = Settings::named("dense").expect("known");
    let out = simulate(&replay, settings.clone(), &setup);
    let seen = (out.denser_pages, out.not_denser_pages, out.reads.dense);
    assert!(seen.0 > 1000 && seen.1 > 0 && seen.2 > 100, "{seen:?}");
    settings.recompress.pages_per_second = 0;
    let loose = simulate(&replay, settings, &setup);
    assert_eq!((loose.denser_pages, loose.reads.dense), (0, 0));
    let used = |out: &Outcome| out.series.last().expect("samples").used_bytes;
    assert!(used(&out) < used(&loose), "{} of {}", used(&out), used(&loose));
}

/// Pages are spilled, promoted, cleaned, and writes wait.
#[test]
fn a_busy_service_does_everything() {
    let shape = Shape {
        seed: 1,
        slots: 60_000,
        events: 600_000,
        us_per_event: 700,
        bytes: 0,
        discards: true,
    };
    let replay = recording(shape);
    let out = simulate(
        &replay,
        Settings::named("spill-early").expect("known"),
        &setup(24 * MIB, 48 * MIB),
    );
    let seen = Outcome { series: Vec::new(), ..out.clone() };
    assert!(out.spilled_pages > 10_000 && out.promoted_pages > 100, "{seen:?}");
    assert!(out.cleaned_bytes > 0 && out.spill_written_bytes > out.cleaned_bytes, "{seen:?}");
    assert!(out.ram_mean_bytes <= out.ram_max_bytes && out.ram_mean_bytes > 16 * MIB, "{seen:?}");
    assert!((200..300).contains(&out.series.len()), "{}", out.series.len());
    let slow = Setup { spill_mib_per_second: 0.5, ..setup(16 * MIB, 48 * MIB) };
    let waits = simulate(&replay, Settings::named("balanced").expect("known"), &slow);
    let waited = (waits.stalled_writes, waits.write_stall_seconds);
    assert!(waited.0 > 0 && waited.1 > 0.0, "{waited:?}");
    assert!(waits.seconds > replay.duration_us() as f64 / 1e6, "what waits comes later");
}

#[test]
fn without_a_spill_what_does_not_fit_is_refused() {
    let shape = Shape {
        seed: 2,
        slots: 40_000,
        events: 100_000,
        us_per_event: 10,
        bytes: 3000,
        discards: false,
    };
    let replay = recording(shape);
    let out = simulate(&replay, Settings::named("balanced").expect("known"), &setup(16 * MIB, 0));
    assert!(out.refused_writes > 0 && out.reads.refused > 0, "{:?}", out.reads);
    assert_eq!((out.stalled_writes, out.spilled_pages), (0, 0));
    let roomy =
        simulate(&replay, Settings::named("balanced").expect("known"), &setup(256 * MIB, 0));
    assert_eq!((roomy.refused_writes, roomy.reads.refused), (0, 0));
    assert!(roomy.ram_max_bytes > out.ram_max_bytes);
}

/// A replay is compared with what it says of itself.
#[test]
fn a_comparison_finds_what_differs() {
    let mut outcome = Outcome { writes: 10_000, ..Outcome::default() };
    (outcome.spilled_pages, outcome.reads.spill) = (1040, 2);
    let mut live = Live { writes: 10_000, spilled_pages: 1000, ..Live::default() };
    live.reads.staged = 7;
    outcome.reads.pool = 7;
    let find = |what: &str| {
        let all = compare(&live, std::slice::from_ref(&outcome));
        all.into_iter().find(|d| d.what == what).expect("there is such a total").percent
    };
    assert_eq!(find("pages spilled"), 4.0);
    assert_eq!(find("pages read from the spill"), 2.0, "of a hundredth of the writes");
    assert_eq!(find("pages read from RAM as they arrived"), 0.0);
}

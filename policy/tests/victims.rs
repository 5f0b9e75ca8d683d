//! What each victim policy promises, on small traces. Relations, not numbers: the same trace, pool
//! and steps for all.

mod model;

use model::{Place, Random, World, any_page, plain};
use uswap_policy::{Aim, Histogram, Page, Tier, VICTIMS, typical};

const POOL_PAGES: u64 = 1000;
const POOL: u64 = POOL_PAGES * 1024;
const SPILL: u64 = 1 << 30;
const PER_STEP: usize = 20;

fn world(victim: &str, slots: usize) -> World {
    World::new(plain(victim), slots, POOL, SPILL)
}

/// Ranks drawn with probability proportional to 1 / rank^0.9, spread over the table.
struct Zipf {
    sums: Vec<f64>,
    place: Vec<usize>,
}

impl Zipf {
    fn new(slots: usize) -> Self {
        let mut sums = Vec::new();
        let mut sum = 0.0;
        for rank in 1..=slots {
            sum += 1.0 / (rank as f64).powf(0.9);
            sums.push(sum);
        }
        let mut place: Vec<usize> = (0..slots).collect();
        let mut random = Random(7);
        for i in (1..slots).rev() {
            place.swap(i, random.below(i as u64 + 1) as usize);
        }
        Self { sums, place }
    }

    fn draw(&self, random: &mut Random) -> usize {
        let at = random.next() as f64 / u64::MAX as f64 * self.sums[self.sums.len() - 1];
        self.place[self.sums.partition_point(|sum| *sum < at).min(self.place.len() - 1)]
    }
}

const ZIPF_SLOTS: usize = 5000;

/// Zipf accesses; every other thousand of them, 500 pages in a row that are wanted once.
fn zipf_and_scans(victim: &str) -> World {
    let mut world = world(victim, ZIPF_SLOTS + 15_000);
    let zipf = Zipf::new(ZIPF_SLOTS);
    let mut random = Random(1);
    let mut scanned = ZIPF_SLOTS;
    for i in 0..60_000 {
        world.fetch(zipf.draw(&mut random));
        if i % 2000 < 500 {
            world.fetch(scanned);
            scanned += 1;
        }
        if i % PER_STEP == 0 {
            world.step(1000);
        }
    }
    assert_eq!(world.failed, 0, "{victim}");
    world
}

/// The same pages again and again, a fifth more than the pool has room for.
fn looping(victim: &str) -> World {
    let pages = POOL_PAGES as usize * 6 / 5;
    let mut world = world(victim, pages);
    (0..pages).for_each(|slot| {
        world.fetch(slot);
        if slot % PER_STEP == 0 {
            world.step(1000);
        }
    });
    for i in 0..20 * pages {
        world.fetch(i % pages);
        if i % PER_STEP == 0 {
            world.step(1000);
        }
    }
    world
}

/// What swap sees below a RAM of 500 pages that is LRU itself: a page comes in when it is wanted
/// and goes out when it was the longest unused, by a write only if it changed (one in four does).
fn below_ram(victim: &str) -> World {
    const RAM: usize = 500;
    let mut world = world(victim, ZIPF_SLOTS);
    let zipf = Zipf::new(ZIPF_SLOTS);
    let mut random = Random(3);
    let mut ram: Vec<(usize, bool)> = Vec::new();
    for i in 0..100_000 {
        let slot = zipf.draw(&mut random);
        let changes = random.below(4) == 0;
        let at = ram.iter().position(|(in_ram, _)| *in_ram == slot);
        let dirty = match at {
            Some(at) => ram.remove(at).1,
            None if world.slots[slot].place == Place::Empty => true,
            None => {
                world.read(slot);
                false
            }
        };
        ram.push((slot, dirty || changes));
        if ram.len() > RAM
            && let (out, true) = ram.remove(0)
        {
            world.write(out, 1024);
        }
        if i % PER_STEP == 0 {
            world.step(1000);
        }
    }
    world
}

/// Pages of which half compress to a quarter of the others' size, all wanted alike.
fn mixed_sizes(victim: &str) -> World {
    let mut world = world(victim, ZIPF_SLOTS);
    for slot in 0..ZIPF_SLOTS {
        world.slots[slot].bytes = if slot % 2 == 0 { 600 } else { 2400 };
    }
    let zipf = Zipf::new(ZIPF_SLOTS);
    let mut random = Random(4);
    for i in 0..60_000 {
        world.fetch(zipf.draw(&mut random));
        if i % PER_STEP == 0 {
            world.step(1000);
        }
    }
    world
}

fn share(world: &World) -> f64 {
    world.misses as f64 / (world.hits + world.misses) as f64
}

fn shares(run: Run) -> impl Fn(&str) -> f64 {
    move |victim| share(&run(victim))
}

type Run = fn(&str) -> World;
const RUNS: [(&str, Run); 4] = [
    ("zipf and scans", zipf_and_scans),
    ("looping", looping),
    ("below RAM", below_ram),
    ("mixed sizes", mixed_sizes),
];

#[test]
fn lazy_promotion_and_quick_demotion_beat_fifo_on_zipf_with_scans() {
    let missed = shares(zipf_and_scans);
    let (fifo, lru) = (missed("fifo"), missed("lru"));
    for victim in ["clock", "sieve", "s3-fifo", "size-aware"] {
        let share = missed(victim);
        assert!(share < 0.9 * fifo && share < lru, "{victim} {share}, fifo {fifo}, lru {lru}");
    }
    assert!(lru < fifo, "lru {lru}, fifo {fifo}");
}

#[test]
fn a_loop_larger_than_the_pool_defeats_recency_but_not_a_hand() {
    let missed = shares(looping);
    for victim in ["fifo", "lru"] {
        assert!(missed(victim) > 0.9, "{victim} {}", missed(victim));
    }
    for victim in ["clock", "sieve", "size-aware"] {
        assert!(missed(victim) < 0.75, "{victim} {}", missed(victim));
    }
}

#[test]
fn copies_of_what_is_in_ram_are_missed_least_below_a_ram() {
    let missed = shares(below_ram);
    let (swap_aware, lru, fifo) = (missed("swap-aware"), missed("lru"), missed("fifo"));
    assert!(swap_aware < lru && lru < fifo, "swap-aware {swap_aware}, lru {lru}, fifo {fifo}");
}

#[test]
fn many_small_pages_are_worth_more_than_few_large_ones() {
    let missed = shares(mixed_sizes);
    let (size_aware, lru) = (missed("size-aware"), missed("lru"));
    assert!(size_aware < 0.9 * lru, "size-aware {size_aware}, lru {lru}");
}

#[test]
fn every_victim_policy_carries_every_trace_and_twice_the_same() {
    for (victim, _) in VICTIMS {
        for run in [looping, mixed_sizes] {
            let (one, two) = (run(victim), run(victim));
            assert_eq!(one.failed, 0, "{victim}");
            assert!(one.spilled > 0, "{victim}");
            let counts = |w: &World| (w.hits, w.misses, w.spilled, w.judged);
            assert_eq!(counts(&one), counts(&two), "{victim}");
        }
    }
}

/// A step that needs some pages must not have the hand pass all of them, whatever the policy: that
/// is what the mover costs.
#[test]
fn the_hand_meets_few_pages_for_each_that_goes() {
    for (victim, _) in VICTIMS {
        for (name, run) in RUNS {
            let world = run(victim);
            let met = world.judged as f64 / world.spilled as f64;
            assert!(met < 25.0, "{victim}, {name}: {met} for each");
        }
    }
}

/// Sizes and ages within a class differ: what the line is drawn for has to be there.
#[test]
fn a_line_admits_what_it_was_drawn_for() {
    for (name, _) in VICTIMS {
        for seed in 0..50 {
            let mut random = Random(seed);
            let mut pages: Vec<Page> = (0..500).map(|_| any_page(&mut random)).collect();
            // At the low end of their class, as all pages of a program can be.
            for page in pages.iter_mut().filter(|page| page.tier != Tier::Huge) {
                page.bytes = (page.bytes - 1) / 512 * 512 + 1;
            }
            let mut slots = Histogram::default();
            pages.iter().for_each(|page| slots.add(page));
            let bytes = 1 + random.below(slots.bytes_of(|page| page.mark.reads == 0));
            let mut victim = uswap_policy::victim(name).expect("known");
            victim.aim(&Aim { slots: &slots, bytes, age_min_ticks: 0, age_tick: 1000 });
            let gone = pages.iter().filter(|page| victim.meet(page).demote);
            let gone: u64 = gone.map(|page| u64::from(typical(page).bytes)).sum();
            assert!(gone >= bytes, "{name} {seed}: {gone} of {bytes}");
        }
    }
}

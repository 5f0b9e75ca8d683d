//! A small machine for policies: a slot table, a pool and a spill without contents, and a hand.
//!
//! It does what the daemon does with a plan and a verdict, and checks on the way that no plan is
//! exceeded.
// Not every test uses all of it.
#![allow(dead_code, unused_imports)]

mod any;

pub use any::{any_page, any_view, check_plan, counted};
use uswap_policy::*;

/// Where a slot's page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Empty,
    Pool(Tier, Denser),
    Spill,
}

#[derive(Clone, Copy, Debug)]
pub struct Slot {
    pub place: Place,
    pub touch: Touch,
    pub bytes: u16,
}

/// Splitmix64: the same numbers on every machine.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

pub struct World {
    pub policy: Policy,
    pub slots: Vec<Slot>,
    pub view: View,
    pub plan: Option<Plan>,
    hand: usize,
    promotions: u64,
    /// Pages fetched from the spill, pages written to it, and reads served by the pool.
    pub misses: u64,
    pub spilled: u64,
    pub hits: u64,
    /// Writes that found no room.
    pub failed: u64,
    /// Pages judged, and pages recompressed.
    pub judged: u64,
    pub recompressed: u64,
}

/// Settings under which victims are compared: age counts in steps, nothing is recompressed, what
/// is read from the spill comes back at once.
pub fn plain(victim: &str) -> Settings {
    let mut settings = Settings::named(victim).expect("known");
    settings.time.age_tick_seconds = 1;
    settings.recompress.pages_per_second = 0;
    settings.recompress.idle_seconds = 190;
    settings.spill.min_age_seconds = 0;
    settings.spill.promote_reads = 1;
    settings.spill.promote_pages_per_second = 1_000_000;
    settings
}

impl World {
    pub fn new(settings: Settings, slots: usize, pool_bytes: u64, spill_bytes: u64) -> Self {
        let policy = Policy::new(settings).expect("settings agree");
        Self::with(policy, slots, pool_bytes, spill_bytes)
    }

    pub fn with(policy: Policy, slots: usize, pool_bytes: u64, spill_bytes: u64) -> Self {
        let touch = Touch::default();
        let empty = Slot { place: Place::Empty, touch, bytes: 1024 };
        let mut view = View::default();
        view.pool.capacity_bytes = pool_bytes;
        if spill_bytes > 0 {
            let (capacity_bytes, segment_bytes) = (spill_bytes, 64 << 10);
            view.spill = Some(Spill { capacity_bytes, segment_bytes, ..Spill::default() });
        }
        Self {
            policy,
            slots: vec![empty; slots],
            view,
            plan: None,
            hand: 0,
            promotions: 0,
            misses: 0,
            spilled: 0,
            hits: 0,
            failed: 0,
            judged: 0,
            recompressed: 0,
        }
    }

    /// Fills the pool with pages of any age, size, tier and use.
    pub fn fill(&mut self, random: &mut Random) {
        for slot in 0..self.slots.len() {
            let tier = [Tier::Lz4, Tier::Zstd, Tier::Huge][random.below(3) as usize];
            let denser = if tier == Tier::Zstd { Denser::No } else { Denser::Untried };
            let bytes = if tier == Tier::Huge { 4096 } else { 64 + random.below(3500) as u16 };
            let touch = Touch::from_bits(random.next() as u16);
            self.slots[slot] = Slot { place: Place::Pool(tier, denser), touch, bytes };
            self.view.pool.used_bytes += u64::from(bytes);
        }
        self.count();
    }

    fn now(&self) -> u8 {
        self.view.age_tick as u8
    }

    fn leave(&mut self, slot: usize) {
        let bytes = u64::from(self.slots[slot].bytes);
        match self.slots[slot].place {
            Place::Pool(..) => self.view.pool.used_bytes -= bytes,
            Place::Spill => {
                // The model's spill frees at once: cleaning has its own tests.
                let spill = self.view.spill.as_mut().expect("it has pages");
                spill.used_bytes -= bytes;
                spill.live_bytes -= bytes;
            }
            Place::Empty => {}
        }
        self.slots[slot].place = Place::Empty;
    }

    /// Places a page in the pool if there is room.
    fn arrive(&mut self, slot: usize, tier: Tier) -> bool {
        let bytes = u64::from(self.slots[slot].bytes);
        if self.view.pool.used_bytes + bytes > self.view.pool.capacity_bytes {
            self.failed += 1;
            return false;
        }
        self.slots[slot].place = Place::Pool(tier, Denser::Untried);
        self.view.pool.used_bytes += bytes;
        self.view.since.stored_bytes += bytes;
        true
    }

    /// The kernel writes a page.
    pub fn write(&mut self, slot: usize, bytes: u16) {
        self.leave(slot);
        self.slots[slot].bytes = bytes;
        let tier = if bytes == 4096 { Tier::Huge } else { Tier::Lz4 };
        if self.arrive(slot, tier) {
            self.slots[slot].touch = Touch::written(self.now());
            self.view.since.written_pages += 1;
        }
    }

    /// The kernel reads a page. Empty slots are not read.
    pub fn read(&mut self, slot: usize) {
        let now = self.now();
        self.slots[slot].touch = self.slots[slot].touch.read(now);
        match self.slots[slot].place {
            Place::Empty => {}
            Place::Pool(tier, _) => {
                self.hits += 1;
                self.view.since.pool_reads[tier as usize] += 1;
            }
            Place::Spill => {
                self.misses += 1;
                self.view.since.spill_reads += 1;
                let rule = self.plan.map_or_else(Promote::default, |plan| plan.promote);
                let enough = self.slots[slot].touch.mark.reads >= rule.reads_min;
                let room = self.view.pool.used_bytes + 4096 <= self.view.pool.capacity_bytes;
                if enough && room && self.promotions < rule.pages {
                    self.promotions += 1;
                    self.leave(slot);
                    self.arrive(slot, Tier::Lz4);
                }
            }
        }
    }

    /// The page is wanted, changed, and swapped out again.
    pub fn fetch(&mut self, slot: usize) {
        let bytes = self.slots[slot].bytes;
        match self.slots[slot].place {
            Place::Pool(..) => self.read(slot),
            Place::Spill => {
                self.misses += 1;
                self.write(slot, bytes);
            }
            Place::Empty => self.write(slot, bytes),
        }
    }

    pub fn page(&self, slot: usize) -> Option<Page> {
        let of = &self.slots[slot];
        let Place::Pool(tier, denser) = of.place else { return None };
        let age_ticks = of.touch.age_ticks(self.now());
        let mark = of.touch.mark;
        Some(Page { slot: slot as u32, age_ticks, mark, bytes: of.bytes, tier, denser })
    }

    /// Counts the pool's pages, and pins old stamps.
    pub fn count(&mut self) {
        self.view.slots.clear();
        for slot in 0..self.slots.len() {
            self.slots[slot].touch = self.slots[slot].touch.pinned(self.now());
            if let Some(page) = self.page(slot) {
                self.view.slots.add(&page);
            }
        }
    }

    /// Time passes, the policy is asked, and its plan carried out.
    pub fn step(&mut self, elapsed_ms: u64) -> Plan {
        self.view.now_ms += elapsed_ms;
        let tick_ms = self.policy.settings().time.age_tick_seconds * 1000;
        let age_tick = self.view.now_ms / tick_ms;
        if age_tick != self.view.age_tick {
            self.view.age_tick = age_tick;
            self.count();
        }
        let pool = &mut self.view.pool;
        pool.resident_bytes = pool.resident_bytes.max(pool.used_bytes);
        let plan = self.policy.tick(&self.view);
        self.view.since = Since::default();
        self.plan = Some(plan);
        self.promotions = 0;
        self.view.pool.resident_bytes += plan.memory.grow_bytes;
        self.view.pool.resident_bytes -= plan.memory.give_back_bytes;
        self.sweep(&plan);
        plan
    }

    fn sweep(&mut self, plan: &Plan) {
        let (mut passed, mut met) = (0, 0);
        let mut spill = plan.spill.bytes + plan.spill.huge_bytes;
        let (mut pages, mut bytes) = (plan.recompress.pages, plan.recompress.bytes);
        while met < plan.scan_pages && passed < 2 * self.slots.len() && self.policy.wants_pages() {
            let slot = self.hand;
            self.hand = (self.hand + 1) % self.slots.len();
            passed += 1;
            let Some(page) = self.page(slot) else { continue };
            met += 1;
            let verdict = self.policy.judge(&page);
            if let Some(mark) = verdict.mark {
                self.slots[slot].touch.mark = mark;
            }
            let len = u64::from(page.bytes);
            match verdict.action {
                Action::Keep => {}
                Action::Recompress => {
                    pages = pages.checked_sub(1).expect("more pages than planned");
                    bytes = bytes.checked_sub(len).expect("more bytes than planned");
                    self.recompress(slot);
                }
                Action::Spill => {
                    spill = spill.checked_sub(len).expect("more spilled than planned");
                    self.spill(slot);
                }
            }
        }
        self.judged += met;
    }

    fn recompress(&mut self, slot: usize) {
        self.recompressed += 1;
        let bytes = self.slots[slot].bytes;
        let denser = bytes - bytes / 4;
        self.view.pool.used_bytes -= u64::from(bytes - denser);
        self.slots[slot].bytes = denser;
        self.slots[slot].place = Place::Pool(Tier::Zstd, Denser::No);
    }

    fn spill(&mut self, slot: usize) {
        self.leave(slot);
        self.slots[slot].place = Place::Spill;
        let bytes = u64::from(self.slots[slot].bytes);
        let spill = self.view.spill.as_mut().expect("verdicts need one");
        spill.used_bytes += bytes;
        spill.live_bytes += bytes;
        spill.written_bytes += bytes;
        assert!(spill.used_bytes <= spill.capacity_bytes, "the spill overflows");
        self.view.since.spilled_pages += 1;
        self.view.since.spilled_bytes += bytes;
        self.view.since.payload_bytes += bytes;
        self.spilled += 1;
    }
}

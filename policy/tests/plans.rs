//! What plans and verdicts promise, over random views, pages and settings.

mod model;

use model::{Random, World, any_page, any_view, check_plan, counted};
use proptest::prelude::*;
use uswap_policy::*;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

fn settings() -> impl Strategy<Value = Settings> {
    (0..PRESETS.len(), 0..VICTIMS.len()).prop_map(|(preset, victim)| {
        let name = format!("{}/{}", PRESETS[preset].0, VICTIMS[victim].0);
        Settings::named(&name).expect("both are known")
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn plans_are_bounded_and_verdicts_stay_within_them(
        settings in settings(),
        views in proptest::collection::vec(any_view(), 1..12),
        seed: u64,
    ) {
        let step_ms = settings.time.step_ms;
        let mut policy = Policy::new(settings).expect("settings agree");
        let mut random = Random(seed);
        for view in counted(views) {
            let plan = policy.tick(&view);
            check_plan(&mut policy, &plan, &view, step_ms, &mut random)?;
        }
    }

    #[test]
    fn the_same_views_and_pages_give_the_same_plans_and_verdicts(
        settings in settings(),
        views in proptest::collection::vec(any_view(), 1..12),
        seed: u64,
    ) {
        let policy = || Policy::new(settings.clone()).expect("settings agree");
        let (mut one, mut two) = (policy(), policy());
        for view in counted(views) {
            let plan = one.tick(&view);
            prop_assert_eq!(plan, two.tick(&view));
            let mut random = Random(seed);
            for _ in 0..plan.scan_pages.min(300) {
                let page = any_page(&mut random);
                prop_assert_eq!(one.judge(&page), two.judge(&page));
            }
        }
    }

    #[test]
    fn nothing_is_written_beyond_the_budget(
        mib_per_second in 1..8_u64,
        day in proptest::option::of(1..4_u64),
        steps in proptest::collection::vec((1..20_000_u64, 0..4_usize), 1..60),
        overhead_percent in 0..30_u64,
    ) {
        let mut settings = Settings::named("spill-early/fifo").expect("known");
        settings.spill.mib_per_second = Some(mib_per_second);
        settings.spill.gib_per_day = day;
        let mut policy = Policy::new(settings).expect("settings agree");
        let mut view = view_at_min();
        let rate = mib_per_second * MIB;
        // Bytes that were granted, and when; they are reported some steps later.
        let mut granted: Vec<(u64, u64)> = Vec::new();
        let (mut reported, mut peak, mut page) = (0, 0, any_page(&mut Random(5)));
        (page.tier, page.bytes, page.denser) = (Tier::Huge, 4096, Denser::No);
        for (elapsed, delay) in steps {
            view.now_ms += elapsed * if elapsed % 50 == 0 { 400 } else { 1 };
            let done = granted.len().saturating_sub(delay).max(reported);
            let new: u64 = granted[reported..done].iter().map(|(_, bytes)| bytes).sum();
            reported = done;
            let spill = view.spill.as_mut().expect("there");
            spill.written_bytes += new + new * overhead_percent / 100;
            let written = spill.written_bytes;
            view.since.payload_bytes = new;
            let plan = policy.tick(&view);
            let mut bytes = plan.clean_bytes;
            view.since.cleaned_bytes = plan.clean_bytes;
            for _ in 0..plan.scan_pages {
                if !policy.wants_pages() {
                    break;
                }
                if policy.judge(&page).action == Action::Spill {
                    bytes += u64::from(page.bytes);
                }
            }
            granted.push((view.now_ms, bytes));
            let late: u64 = granted[reported..].iter().map(|(_, bytes)| bytes).sum();
            let all = written + late;
            let allowed = rate * 10 + rate * view.now_ms / 1000;
            // What is not known yet, or not paid off, is the overhead of what was on its way.
            peak = peak.max(new + late);
            let unknown = peak * overhead_percent / 100;
            prop_assert!(all <= allowed + unknown, "{all} of {allowed}");
            if let Some(day) = day {
                let today: u64 = granted
                    .iter()
                    .filter(|(at, _)| at + 86_400_000 > view.now_ms)
                    .map(|(_, bytes)| bytes)
                    .sum();
                prop_assert!(today <= day * GIB, "{today} in a day");
            }
        }
        prop_assert!(granted[0].1 > 0, "a full budget must be usable");
    }

    #[test]
    fn under_pressure_no_memory_is_asked_for(
        settings in settings(),
        views in proptest::collection::vec(any_view(), 1..12),
        arrives in 0..64 * MIB,
        full in 100..1001_u16,
    ) {
        let settings = Settings { pressure: tight(), ..settings };
        let step_ms = settings.time.step_ms;
        let mut policy = Policy::new(settings).expect("settings agree");
        for (i, mut view) in counted(views).enumerate() {
            view.now_ms = (i as u64 + 1) * step_ms;
            view.machine.full_permille = full;
            view.since.stored_bytes = view.since.stored_bytes.min(arrives);
            let plan = policy.tick(&view);
            let ready = view.pool.ready_bytes();
            let needed = arrives.saturating_sub(ready);
            prop_assert!(plan.pressure > Pressure::Calm);
            prop_assert!(plan.memory.grow_bytes <= needed, "{plan:?}");
            prop_assert!(!plan.memory.may_grow && !plan.train && plan.promote.pages == 0);
            let there = view.pool.resident_bytes.saturating_sub(view.pool.used_bytes);
            prop_assert!(plan.recompress.bytes <= there.max(PAGE_BYTES), "{plan:?}");
        }
    }

    #[test]
    fn at_the_minimum_something_goes_within_two_laps(
        settings in settings(),
        pages in 1..600_usize,
        seed: u64,
        spill: bool,
        stubborn: bool,
    ) {
        let mut policy = Policy::new(settings.clone()).expect("settings agree");
        if stubborn {
            policy = Policy::with_victim(settings, Box::new(Never)).expect("settings agree");
        }
        let mut world = World::with(policy, pages, 0, if spill { GIB } else { 0 });
        world.fill(&mut Random(seed));
        world.view.pool.capacity_bytes = world.view.pool.used_bytes * 101 / 100;
        let can = spill || (0..pages).any(|slot| {
            world.page(slot).is_some_and(|page| page.denser == Denser::Untried)
        });
        // Steps are cut short now and then: the laps count, not the steps.
        for _ in 0..3 {
            let plan = world.step(100);
            prop_assert!(plan.level >= Level::Min || world.spilled + world.recompressed > 0);
        }
        prop_assert_eq!(world.spilled + world.recompressed > 0, can);
        if spill && !stubborn {
            // Not one page at a time, either: room is made.
            prop_assert!(world.view.pool.free_bytes() * 8 > world.view.pool.capacity_bytes
                || world.view.pool.used_bytes < 8 * PAGE_BYTES);
        }
    }

    #[test]
    fn nothing_flaps_inside_a_band(
        settings in settings(),
        steps in proptest::collection::vec(0..1000_u64, 1..120),
        which in 0..5_u8,
    ) {
        let mut view = view_at_min();
        view.pool = Pool { capacity_bytes: GIB, resident_bytes: GIB / 2, ..Pool::default() };
        view.pool.used_bytes = GIB / 2 - 12 * MIB;
        let spill = view.spill.as_mut().expect("there");
        (spill.used_bytes, spill.live_bytes) = (spill.capacity_bytes / 2, spill.capacity_bytes / 4);
        let mut policy = Policy::new(settings.clone()).expect("settings agree");
        let (mut last, mut changes) = (None, 0);
        for step in steps {
            view.now_ms += 1000;
            wobble(&mut view, &settings, which, step);
            let plan = policy.tick(&view);
            let state = (
                (plan.level, plan.pressure, plan.spill.bytes > 0, plan.spill.urgent),
                (plan.compact_bytes > 0, plan.clean_bytes > 0, plan.train, plan.memory.may_grow),
                plan.memory.give_back_bytes > 0,
            );
            changes += u32::from(last.is_some_and(|last| last != state));
            last = Some(state);
        }
        prop_assert!(changes <= 1, "{changes} changes");
    }
}

/// Never lets a page go.
#[derive(Debug)]
struct Never;

impl Victim for Never {
    fn meet(&mut self, _: &Page) -> Choice {
        Choice::KEEP
    }

    fn idle(&self, _: &Page, _: u8) -> bool {
        false
    }
}

/// A full pool of old, settled pages and a spill that is nearly as full.
fn view_at_min() -> View {
    let mut view = View { age_tick: 1000, ..View::default() };
    let capacity_bytes = 1000 * GIB;
    view.pool =
        Pool { capacity_bytes: GIB, used_bytes: GIB, resident_bytes: GIB, ..Pool::default() };
    view.spill = Some(Spill {
        capacity_bytes,
        used_bytes: capacity_bytes - capacity_bytes / 20,
        live_bytes: capacity_bytes / 2,
        segment_bytes: MIB,
        ..Spill::default()
    });
    let mut page = any_page(&mut Random(5));
    (page.tier, page.bytes, page.denser, page.age_ticks) = (Tier::Huge, 4096, Denser::No, 190);
    (0..GIB / 4096).for_each(|_| view.slots.add(&page));
    view
}

fn tight() -> PressureLimits {
    Settings::named("balanced").expect("known").pressure
}

/// Moves one signal inside its band, `step` thousandths of it.
fn wobble(view: &mut View, settings: &Settings, which: u8, step: u64) {
    let part = |of: u64| of * step / 1000;
    let marks = &settings.watermarks;
    let free = |permille: u64| GIB / 1000 * permille;
    match which {
        0 => {
            view.pool.used_bytes = GIB - free(marks.low_permille) - part(free(marks.band_permille))
        }
        1 => {
            view.pool.used_bytes = GIB - free(marks.min_permille) - part(free(marks.band_permille))
        }
        2 => {
            let limit = settings.pressure.tight_full_permille;
            view.machine.full_permille = (limit / 2 + 1 + part(limit / 2)) as u16;
        }
        3 => {
            let clean = &settings.clean;
            let spill = view.spill.as_mut().expect("there");
            let unit = spill.capacity_bytes / 1000;
            let free = unit * clean.free_permille + part(unit * clean.band_permille) / 2;
            spill.used_bytes = spill.capacity_bytes - free;
        }
        _ => {
            let compact = &settings.compact;
            let unit = view.pool.resident_bytes / 1000;
            let width = compact.start_permille - compact.stop_permille - 1;
            let waste = unit * (compact.stop_permille + 1) + part(unit * width);
            view.pool.waste_bytes = waste;
            view.pool.used_bytes = view.pool.resident_bytes - waste;
        }
    }
}

#[test]
fn urgency_and_compaction_last_until_they_are_done() {
    let settings = Settings::named("balanced").expect("known");
    let (marks, compact) = (settings.watermarks, settings.compact);
    let mut policy = Policy::new(settings).expect("settings agree");
    let mut view = view_at_min();
    let mut urgent = |free_permille: u64| {
        view.now_ms += 1000;
        view.pool.used_bytes = GIB - GIB / 1000 * free_permille;
        policy.tick(&view).spill.urgent
    };
    let between = u64::midpoint(marks.min_permille + marks.band_permille, marks.low_permille);
    assert!(!urgent(between));
    assert!(urgent(marks.min_permille - 1) && urgent(between));
    assert!(!urgent(marks.low_permille + marks.band_permille + 1) && !urgent(between));

    view = view_at_min();
    view.pool.capacity_bytes = 4 * GIB;
    let mut compacts = |waste_permille: u64| {
        view.pool.waste_bytes = GIB / 1000 * waste_permille;
        view.pool.used_bytes = GIB - view.pool.waste_bytes;
        policy.tick(&view).compact_bytes > 0
    };
    let between = u64::midpoint(compact.start_permille, compact.stop_permille);
    assert!(!compacts(between));
    assert!(compacts(compact.start_permille + 1) && compacts(between));
    assert!(!compacts(compact.stop_permille - 1) && !compacts(between));
}

#[test]
fn while_a_write_waits_a_policy_that_lets_nothing_go_is_soon_overruled() {
    let settings = Settings::named("balanced").expect("known");
    let mut view = view_at_min();
    let mut page = any_page(&mut Random(5));
    (page.tier, page.bytes, page.denser, page.age_ticks) = (Tier::Lz4, 2000, Denser::No, 190);
    for (refused, most) in [(0, 2 * GIB / 4096), (7, 1024)] {
        let mut policy = Policy::with_victim(settings.clone(), Box::new(Never)).expect("agree");
        view.since.refused_writes = refused;
        assert!(policy.tick(&view).spill.urgent);
        let met = (0..u64::MAX).find(|_| policy.judge(&page).action == Action::Spill);
        assert_eq!(met, Some(most), "{refused} refused");
        assert_eq!(policy.judge(&page).action, Action::Spill, "and so does the next page");
    }
}

#[test]
fn a_reserve_that_nobody_uses_is_no_larger_than_it_was_at_the_start() {
    let settings = Settings::named("balanced").expect("known");
    let (reserve, rest) = (settings.memory.ready_mib * MIB, settings.memory.give_back_seconds);
    let mut policy = Policy::new(settings).expect("settings agree");
    let pool = Pool { capacity_bytes: GIB, used_bytes: 64 * MIB, ..Pool::default() };
    let mut view = View { pool, ..View::default() };
    // Pages became denser: an eighth more than the reserve is free now.
    view.pool.resident_bytes = view.pool.used_bytes + reserve + reserve / 8;
    let mut step = |arrived_bytes: u64| {
        view.now_ms += 1000;
        view.since.stored_bytes = arrived_bytes;
        policy.tick(&view).memory.give_back_bytes
    };
    assert!((0..4 * rest).all(|_| step(MIB) == 0), "pages arrive: not for that little");
    assert!((0..rest).all(|_| step(0) == 0), "they may go on");
    assert_eq!((0..10 * rest).map(|_| step(0)).max(), Some(reserve / 8), "all of it");
}

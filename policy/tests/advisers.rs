//! What holds whoever advises: every promise about plans, and the base once advice fails.

mod model;

use model::{Random, World, any_page, any_view, check_plan, counted};
use proptest::prelude::*;
use uswap_policy::*;

/// Says anything, `left` times.
#[derive(Debug)]
struct Wild {
    random: Random,
    left: u32,
}

impl Adviser for Wild {
    fn advise(&mut self, _: &View, plan: &mut Plan) -> Result<(), Broken> {
        self.left = self.left.checked_sub(1).ok_or(Broken)?;
        let random = &mut self.random;
        let mut any = || {
            [0, u64::MAX, 4096, random.next() % (1 << 33), random.next()][random.below(5) as usize]
        };
        plan.spill = Writeback {
            bytes: any(),
            age_min_ticks: any() as u8,
            urgent: any() % 2 == 0,
            huge_bytes: any(),
        };
        plan.recompress = Recompress { pages: any(), bytes: any(), age_min_ticks: any() as u8 };
        plan.memory = Memory {
            grow_bytes: any(),
            give_back_bytes: any(),
            ready_bytes: any(),
            may_grow: any() % 2 == 0,
        };
        plan.promote = Promote { pages: any(), reads_min: any() as u8 };
        (plan.scan_pages, plan.clean_bytes, plan.compact_bytes) = (any(), any(), any());
        (plan.train, plan.next_ms) = (any() % 2 == 0, any() as u32);
        Ok(())
    }
}

/// Changes nothing.
#[derive(Debug)]
struct Silent;

impl Adviser for Silent {
    fn advise(&mut self, _: &View, _: &mut Plan) -> Result<(), Broken> {
        Ok(())
    }
}

fn guided(name: &str, base: &str, adviser: impl Adviser + 'static) -> Policy {
    let named = |name| Settings::named(name).expect("known");
    let adviser: Box<dyn Adviser> = Box::new(adviser);
    let guide =
        Guide { settings: named(name), victim: None, adviser: Some(adviser), base: named(base) };
    Policy::guided(guide).expect("both agree")
}

fn preset() -> impl Strategy<Value = &'static str> {
    (0..PRESETS.len()).prop_map(|preset| PRESETS[preset].0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn whatever_is_advised_the_promises_are_kept(
        preset in preset(),
        views in proptest::collection::vec(any_view(), 1..12),
        seed: u64,
    ) {
        let mut policy = guided(preset, "balanced", Wild { random: Random(seed), left: u32::MAX });
        let step_ms = policy.settings().time.step_ms;
        let mut plain = Policy::new(Settings::named(preset).expect("known")).expect("agree");
        let mut random = Random(seed);
        for view in counted(views) {
            let (plan, memory) = (policy.tick(&view), plain.tick(&view).memory);
            prop_assert_eq!(plan.memory, memory);
            check_plan(&mut policy, &plan, &view, step_ms, &mut random)?;
            if plan.pressure > Pressure::Calm {
                prop_assert!(!plan.memory.may_grow && !plan.train && plan.promote.pages == 0);
                let there = view.pool.resident_bytes.saturating_sub(view.pool.used_bytes);
                prop_assert!(plan.recompress.bytes <= there.max(PAGE_BYTES), "{plan:?}");
            }
        }
    }

    #[test]
    fn advice_that_changes_nothing_changes_nothing(
        preset in preset(),
        views in proptest::collection::vec(any_view(), 1..12),
        seed: u64,
    ) {
        let mut one = guided(preset, "balanced", Silent);
        let mut two = Policy::new(Settings::named(preset).expect("known")).expect("agree");
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
    fn the_budget_holds_whatever_is_advised(
        seed: u64,
        steps in proptest::collection::vec(1..5000_u64, 1..60),
    ) {
        const RATE: u64 = 2 << 20;
        let mut settings = Settings::named("balanced").expect("known");
        settings.spill.mib_per_second = Some(RATE >> 20);
        let adviser: Box<dyn Adviser> = Box::new(Wild { random: Random(seed), left: u32::MAX });
        let base = settings.clone();
        let guide = Guide { settings, victim: None, adviser: Some(adviser), base };
        let mut world = World::with(Policy::guided(guide).expect("agree"), 4000, 0, 1 << 30);
        world.fill(&mut Random(seed));
        // Half of it is free, so that advice is all there is.
        world.view.pool.capacity_bytes = 2 * world.view.pool.used_bytes;
        let mut passed = 0;
        for elapsed in steps {
            world.step(elapsed);
            passed += elapsed;
            let written = world.view.spill.expect("there").written_bytes;
            prop_assert!(written <= 10 * RATE + RATE * passed / 1000, "{written} in {passed} ms");
        }
    }
}

#[test]
fn advice_can_send_pages_away_that_nobody_else_would() {
    #[derive(Debug)]
    struct Early;
    impl Adviser for Early {
        fn advise(&mut self, _: &View, plan: &mut Plan) -> Result<(), Broken> {
            (plan.spill.bytes, plan.spill.age_min_ticks) = (64 << 10, 20);
            Ok(())
        }
    }
    let mut world = World::with(guided("balanced", "balanced", Early), 1000, 0, 1 << 30);
    world.fill(&mut Random(1));
    world.view.pool.capacity_bytes = 4 * world.view.pool.used_bytes;
    let ages: Vec<u8> = (0..1000).map(|slot| world.page(slot).expect("full").age_ticks).collect();
    for _ in 0..20 {
        assert_eq!(world.step(1000).level, Level::Plenty);
    }
    assert!(world.spilled > 50, "{}", world.spilled);
    for (slot, age) in ages.into_iter().enumerate() {
        assert!(age >= 19 || world.page(slot).is_some(), "slot {slot} of age {age} went");
    }
}

#[test]
fn the_base_decides_from_the_step_on_in_which_advice_fails() {
    let mut world = World::with(
        guided("low-latency/fifo", "dense", Wild { random: Random(1), left: 3 }),
        500,
        0,
        0,
    );
    world.fill(&mut Random(2));
    world.view.pool.capacity_bytes = 2 * world.view.pool.used_bytes;
    for _ in 0..3 {
        world.step(1000);
        assert_eq!(world.policy.settings(), &Settings::named("low-latency/fifo").expect("known"));
    }
    world.step(1000);
    assert_eq!(world.policy.settings(), &Settings::named("dense").expect("known"));
    // Not asked again, or it would say that it is broken for ever.
    world.step(1000);
}

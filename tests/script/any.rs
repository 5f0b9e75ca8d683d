//! Scripts that say anything at all.

use super::compile;
use super::model::{Random, World, any_view, check_plan, counted};
use proptest::prelude::*;
use uswap::script::Script;
use uswap::sys::region::outside_calls;
use uswap_policy::*;

/// Expressions of a script that somebody types who has read half of the documentation.
fn expression() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("page.age_ticks"),
        Just("page.reads"),
        Just("page.bytes"),
        Just("page.tier"),
        Just("page.can_be_denser"),
        Just("()"),
        Just("true"),
        Just("\"lz4\""),
        Just("[]"),
        Just("#{}"),
        Just("9223372036854775807"),
        Just("-9223372036854775808"),
        Just("0"),
        Just("1"),
        Just("255"),
        Just("view.pool.used_bytes"),
        Just("view.spill"),
        Just("plan"),
        Just("plan.spill.bytes"),
        Just("this"),
        Just("keep()"),
        Just("demote(7)"),
        Just("x"),
    ]
    .prop_map(str::to_owned);
    leaf.prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            (
                inner.clone(),
                prop_oneof![
                    Just("+"),
                    Just("-"),
                    Just("*"),
                    Just("/"),
                    Just("%"),
                    Just("<<"),
                    Just("**"),
                    Just("=="),
                    Just("<"),
                    Just("&&"),
                    Just("in"),
                    Just("??")
                ],
                inner.clone()
            )
                .prop_map(|(a, op, b)| format!("({a} {op} {b})")),
            (inner.clone(), inner.clone(), inner.clone())
                .prop_map(|(a, b, c)| format!("if {a} {{ {b} }} else {{ {c} }}")),
            inner.clone().prop_map(|a| format!("[{a}, {a}]")),
            inner.clone().prop_map(|a| format!("{{ let x = {a}; x }}")),
            inner
                .clone()
                .prop_map(|a| format!("{{ let x = []; for i in 0..50 {{ x.push({a}); }} x }}")),
            (inner.clone(), inner).prop_map(|(a, b)| format!("min({a}, {b})")),
        ]
    })
}

fn amount() -> impl Strategy<Value = i64> {
    prop_oneof![Just(0), Just(i64::MAX), Just(i64::MIN), Just(-1), 0..10_000_i64, 0..1_i64 << 40]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// As for policies that are built in (policy/tests/plans.rs), with a script that says anything.
    #[test]
    fn whatever_a_script_wants_the_promises_about_plans_are_kept(
        wants in proptest::collection::vec(amount(), 10),
        train: bool,
        choose in prop_oneof![Just("fn rank(page) { page.reads }"), Just("fn rank(page) { () }"),
            Just("fn meet(page) { keep(9) }"), Just("fn meet(page) { demote(-9) }"), Just("")],
        views in proptest::collection::vec(any_view(), 1..12),
        seed: u64,
    ) {
        let [a, b, c, d, e, f, g, h, i, j] = <[i64; 10]>::try_from(wants).expect("ten");
        let text = format!(
            "{choose}
             fn tick(view, plan) {{
                 plan.spill = #{{ bytes: {a}, age_min_ticks: {b}, huge_bytes: {c} }};
                 plan.recompress = #{{ pages: {d}, age_min_ticks: {e} }};
                 plan.promote = #{{ pages: {f}, reads_min: {g} }};
                 plan.clean_bytes = {h}; plan.compact_bytes = {i}; plan.next_ms = {j};
                 plan.train = {train};
                 plan
             }}"
        );
        let text = text.replace(&i64::MIN.to_string(), "-9223372036854775807");
        let script = compile(&text);
        let step_ms = script.settings().time.step_ms;
        let mut policy = script.policy();
        let mut random = Random(seed);
        for view in counted(views) {
            let plan = policy.tick(&view);
            check_plan(&mut policy, &plan, &view, step_ms, &mut random)?;
            if plan.pressure > Pressure::Calm {
                prop_assert!(!plan.memory.may_grow && !plan.train && plan.promote.pages == 0);
                let there = view.pool.resident_bytes.saturating_sub(view.pool.used_bytes);
                prop_assert!(plan.recompress.bytes <= there.max(PAGE_BYTES), "{plan:?}");
            }
        }
        prop_assert_eq!(script.broken(), None);
    }

    #[test]
    fn at_the_minimum_something_goes_whatever_a_script_says(
        pages in 1..600_usize,
        seed: u64,
        choose in prop_oneof![Just("fn rank(page) { () }"), Just("fn meet(page) { keep() }")],
    ) {
        let text = format!(
            "{choose} fn tick(view, plan) {{ plan.spill.bytes = 0; plan.spill.huge_bytes = 0; \
             plan.recompress.pages = 0; plan.clean_bytes = 0; plan }}"
        );
        let mut world = World::with(compile(&text).policy(), pages, 0, 1 << 30);
        world.fill(&mut Random(seed));
        world.view.pool.capacity_bytes = world.view.pool.used_bytes * 101 / 100;
        (0..3).for_each(|_| _ = world.step(100));
        prop_assert!(world.spilled > 0);
    }

    #[test]
    fn nonsense_is_refused_or_runs_within_its_limits(
        bodies in (expression(), expression(), expression()),
        views in proptest::collection::vec(any_view(), 1..4),
    ) {
        let (rank, meet, tick) = bodies;
        for text in [
            format!("fn rank(page) {{ {rank} }}"),
            format!("fn meet(page) {{ {meet} }}"),
            format!("fn tick(view, plan) {{ let x = {tick}; plan.spill.bytes = x; plan }}"),
            format!("fn tick(view, plan) {{ this = {tick}; plan }}"),
        ] {
            let Ok(script) = Script::compile("test.rhai", &text) else { continue };
            let before = outside_calls();
            let mut policy = script.policy();
            let mut random = Random(1);
            for view in counted(views.clone()) {
                let plan = policy.tick(&view);
                check_plan(&mut policy, &plan, &view, 60_000, &mut random)?;
            }
            prop_assert_eq!(outside_calls(), before);
        }
    }
}

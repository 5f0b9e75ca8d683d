//! Views and pages at random, and what every plan for them promises.

use super::Random;
use proptest::prelude::*;
use uswap_policy::*;

const MIB: u64 = 1 << 20;

/// Any view at all, and how many pages to count in it: the parts need not fit each other.
pub fn any_view() -> impl Strategy<Value = (View, u64)> {
    let bytes = || prop_oneof![Just(0), 0..64 * MIB, 0..1_u64 << 44];
    let pool =
        (bytes(), bytes(), bytes(), bytes()).prop_map(|(capacity, used, resident, waste)| Pool {
            capacity_bytes: capacity,
            used_bytes: used,
            resident_bytes: resident,
            waste_bytes: waste,
            set_aside_bytes: waste / 3,
        });
    let spill = (bytes(), bytes(), bytes(), bytes(), any::<bool>()).prop_map(
        |(capacity_bytes, used_bytes, live_bytes, written_bytes, failing)| {
            let segment_bytes = MIB;
            Spill { capacity_bytes, used_bytes, live_bytes, segment_bytes, written_bytes, failing }
        },
    );
    let machine = (bytes(), bytes(), 0..1001_u16, 0..1001_u16).prop_map(|(total, free, s, f)| {
        let (total_bytes, available_bytes) = (total, free.min(total));
        Machine { total_bytes, available_bytes, some_permille: s, full_permille: f }
    });
    let since =
        (bytes(), bytes(), 0..3_u64).prop_map(|(stored_bytes, cleaned_bytes, refused_writes)| {
            Since { stored_bytes, cleaned_bytes, refused_writes, ..Since::default() }
        });
    let times = (0..1_u64 << 44, 0..1_u64 << 40);
    (times, pool, proptest::option::of(spill), machine, since, 0..400_u64).prop_map(
        |((now_ms, age_tick), pool, spill, machine, since, pages)| {
            let view = View { now_ms, age_tick, pool, spill, machine, since, ..View::default() };
            (view, pages)
        },
    )
}

/// Views with their pages, each counted afresh.
pub fn counted(views: Vec<(View, u64)>) -> impl Iterator<Item = View> {
    let mut slots = Histogram::default();
    views.into_iter().map(move |(view, pages)| {
        slots.clear();
        let mut random = Random(pages);
        (0..pages).for_each(|_| slots.add(&any_page(&mut random)));
        View { slots: slots.clone(), ..view }
    })
}

pub fn any_page(random: &mut Random) -> Page {
    let tier = [Tier::Lz4, Tier::Zstd, Tier::Huge][random.below(3) as usize];
    Page {
        slot: random.next() as u32,
        age_ticks: random.next() as u8,
        mark: Touch::from_bits(random.next() as u16).mark,
        bytes: if tier == Tier::Huge { 4096 } else { 1 + random.below(3600) as u16 },
        tier,
        denser: [Denser::Untried, Denser::No, Denser::Due][random.below(3) as usize],
    }
}

/// Judges until nothing is wanted; bytes spilled, pages and bytes recompressed.
fn judge_all(policy: &mut Policy, plan: &Plan, random: &mut Random) -> (u64, u64, u64) {
    let mut done = (0, 0, 0);
    for _ in 0..plan.scan_pages.min(300) {
        let page = any_page(random);
        match policy.judge(&page).action {
            Action::Keep => {}
            Action::Recompress => {
                done.1 += 1;
                done.2 += u64::from(page.bytes);
            }
            Action::Spill => done.0 += u64::from(page.bytes),
        }
    }
    done
}

/// What a plan for a view promises, and that verdicts stay within it. The error says what does not
/// hold.
pub fn check_plan(
    policy: &mut Policy,
    plan: &Plan,
    view: &View,
    step_ms: u64,
    random: &mut Random,
) -> Result<(), TestCaseError> {
    let pool = &view.pool;
    let unused = pool.capacity_bytes.saturating_sub(pool.resident_bytes);
    let ready = pool.ready_bytes();
    prop_assert!(plan.memory.grow_bytes <= unused);
    prop_assert!(plan.memory.give_back_bytes <= ready);
    prop_assert!(plan.memory.grow_bytes == 0 || plan.memory.give_back_bytes == 0);
    prop_assert!(plan.compact_bytes <= pool.used_bytes);
    prop_assert!(plan.recompress.bytes <= pool.used_bytes.max(PAGE_BYTES));
    prop_assert!(plan.spill.bytes <= pool.used_bytes.max(PAGE_BYTES));
    let spill = view.spill.unwrap_or_default();
    prop_assert!(plan.spill.bytes <= spill.free_bytes());
    // Whoever waits for room does not wait for pages to become denser first.
    prop_assert!(!plan.spill.urgent || plan.recompress.pages == 0);
    let all = plan.spill.bytes + plan.spill.huge_bytes + plan.clean_bytes;
    prop_assert!(!spill.failing || all == 0);
    prop_assert!(plan.clean_bytes <= spill.live_bytes);
    let pages = view.slots.pages().max(pool.used_bytes / PAGE_BYTES).max(1);
    prop_assert!(plan.scan_pages <= 2 * pages);
    prop_assert!((1..=step_ms).contains(&plan.next_ms.into()));
    let done = judge_all(policy, plan, random);
    let most = plan.spill.bytes + plan.spill.huge_bytes;
    prop_assert!(done.0 <= most, "{done:?} {plan:?}");
    prop_assert!(done.1 <= plan.recompress.pages && done.2 <= plan.recompress.bytes);
    Ok(())
}

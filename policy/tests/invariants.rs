//! Properties of the decisions, over random histories.

use proptest::prelude::*;
use uswap_policy::{Level, Marks, Watermarks};

const CAPACITY: u64 = 1 << 20;
/// An eighth, a quarter of that, and half of that again.
const MARKS: Marks = Marks { low_permille: 125, min_permille: 32, band_permille: 16 };

/// Free units below a random capacity, tiny ones included.
fn history() -> impl Strategy<Value = (u64, Vec<u64>)> {
    (0..CAPACITY)
        .prop_flat_map(|capacity| (Just(capacity), proptest::collection::vec(0..=capacity, 1..200)))
}

proptest! {
    #[test]
    fn full_only_when_really_full((capacity, free) in history()) {
        let mut marks = Watermarks::new(capacity, MARKS);
        for units in free {
            prop_assert_eq!(marks.level(units) == Level::Full, units == 0);
        }
    }

    #[test]
    fn never_better_than_the_marks_and_at_most_a_band_worse((capacity, free) in history()) {
        let mut marks = Watermarks::new(capacity, MARKS);
        for units in free {
            let level = marks.level(units);
            let fresh = Watermarks::new(capacity, MARKS).level(units);
            let below = units.saturating_sub(marks.band()).max(1);
            let worst = Watermarks::new(capacity, MARKS).level(below);
            prop_assert!(level >= fresh, "{level:?} for {units}, fresh {fresh:?}");
            prop_assert!(units == 0 || level <= worst, "{level:?} for {units}");
        }
    }

    #[test]
    fn a_pool_that_only_fills_only_gets_worse((capacity, mut free) in history()) {
        free.sort_unstable_by(|a, b| b.cmp(a));
        let mut marks = Watermarks::new(capacity, MARKS);
        let levels: Vec<Level> = free.iter().map(|&units| marks.level(units)).collect();
        prop_assert!(levels.is_sorted());
    }

    #[test]
    fn a_pool_that_only_drains_only_gets_better((capacity, mut free) in history()) {
        free.sort_unstable();
        let mut marks = Watermarks::new(capacity, MARKS);
        marks.level(0);
        let levels: Vec<Level> = free.iter().map(|&units| marks.level(units)).collect();
        prop_assert!(levels.is_sorted_by(|a, b| a >= b));
    }

    #[test]
    fn no_flapping_inside_a_band(
        capacity in 64..CAPACITY,
        low in any::<bool>(),
        steps in proptest::collection::vec(any::<u64>(), 1..200),
    ) {
        let mut marks = Watermarks::new(capacity, MARKS);
        let mark = if low { marks.marks().0 } else { marks.marks().1 };
        let mut changes = 0;
        let mut last = marks.level(mark + 1);
        for step in steps {
            let units = mark + step % (marks.band() + 1);
            let level = marks.level(units.max(1));
            changes += u32::from(level != last);
            last = level;
        }
        prop_assert!(changes <= 1, "{changes} changes around {mark}");
    }

    #[test]
    fn the_same_input_changes_nothing((capacity, free) in history()) {
        let mut marks = Watermarks::new(capacity, MARKS);
        for units in free {
            prop_assert_eq!(marks.level(units), marks.level(units));
        }
    }
}

#[test]
fn the_levels_of_an_ordinary_pool() {
    let mut marks = Watermarks::new(1000, MARKS);
    assert_eq!((marks.marks(), marks.band()), ((125, 32), 16));
    let walk = [
        (1000, Level::Plenty),
        (125, Level::Low),
        (141, Level::Low),
        (142, Level::Plenty),
        (32, Level::Min),
        (0, Level::Full),
        (1, Level::Min),
        (48, Level::Min),
        (49, Level::Low),
        (1000, Level::Plenty),
    ];
    for (free, level) in walk {
        assert_eq!(marks.level(free), level, "{free}");
    }
}

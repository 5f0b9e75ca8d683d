//! Whether two groups of runs differ by more than chance.
//!
//! The test is Mann and Whitney's U, two-sided, with its exact distribution: over all ways to deal
//! the values that were measured into two groups of these sizes, ties counted as they are. So it
//! asks for no normal distribution and holds for a handful of runs, which cannot give any p that
//! one likes: [`p_min`] says how small it can get.

/// Most values of a group: beyond, sums no longer fit a float exactly, and no experiment here has
/// as many.
pub const GROUP_MAX: usize = 50;

/// Twice the rank of each value among all (ties share the mean of their ranks), in the order given.
fn doubled_ranks(values: &[f64]) -> Vec<usize> {
    let rank = |value: &f64| {
        let below = values.iter().filter(|other| *other < value).count();
        let equal = values.iter().filter(|other| *other == value).count();
        2 * below + equal + 1
    };
    values.iter().map(rank).collect()
}

/// How many ways there are to choose `size` of the ranks, by the sum of the chosen ones.
fn ways(ranks: &[usize], size: usize) -> Vec<f64> {
    let most: usize = ranks.iter().sum();
    let mut ways = vec![vec![0.0; most + 1]; size + 1];
    ways[0][0] = 1.0;
    for &rank in ranks {
        for chosen in (1..=size).rev() {
            for sum in (rank..=most).rev() {
                ways[chosen][sum] += ways[chosen - 1][sum - rank];
            }
        }
    }
    ways.swap_remove(size)
}

/// The probability that chance alone gives a difference at least as large as that between `a` and
/// `b`. None if a group is empty or larger than [`GROUP_MAX`], or a value is no number.
pub fn p_value(a: &[f64], b: &[f64]) -> Option<f64> {
    let good = |group: &[f64]| (1..=GROUP_MAX).contains(&group.len());
    let all: Vec<f64> = a.iter().chain(b).copied().collect();
    if !good(a) || !good(b) || all.iter().any(|value| value.is_nan()) {
        return None;
    }
    let ranks = doubled_ranks(&all);
    let ways = ways(&ranks, a.len());
    let expected = a.len() * (all.len() + 1);
    let off = |sum: usize| sum.abs_diff(expected);
    let seen = off(ranks[..a.len()].iter().sum());
    let as_far = ways.iter().enumerate().filter(|(sum, _)| off(*sum) >= seen);
    Some(as_far.map(|(_, ways)| ways).sum::<f64>() / ways.iter().sum::<f64>())
}

/// The smallest p that groups of these sizes can give: all of one above all of the other.
pub fn p_min(a: usize, b: usize) -> Option<f64> {
    let values = |from: usize, count: usize| (from..from + count).map(|n| n as f64).collect();
    let (low, high): (Vec<f64>, Vec<f64>) = (values(0, a), values(a, b));
    p_value(&low, &high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn near(got: Option<f64>, wanted: f64) {
        let got = got.expect("a probability");
        assert!((got - wanted).abs() < 1e-9, "{got}, wanted {wanted}");
    }

    #[test]
    fn the_smallest_p_is_two_in_all_ways() {
        // Two of 70, 252 and 924 ways to halve.
        near(p_min(4, 4), 2.0 / 70.0);
        near(p_min(5, 5), 2.0 / 252.0);
        near(p_min(6, 6), 2.0 / 924.0);
        near(p_min(2, 2), 2.0 / 6.0);
    }

    #[test]
    fn published_and_counted_cases() {
        // U = 3 of 5 and 5: 14 of 252 ways are at least as far out (tables give 0.056).
        near(p_value(&[1.0, 2.0, 3.0, 5.0, 7.0], &[4.0, 6.0, 8.0, 9.0, 10.0]), 14.0 / 252.0);
        // Ties: of the 6 ways to choose two of 1 2 2 3 two are {1,2} and two {2,3}: 4 as far out.
        near(p_value(&[1.0, 2.0], &[2.0, 3.0]), 4.0 / 6.0);
        near(p_value(&[1.0, 1.0], &[1.0, 1.0]), 1.0);
        near(p_value(&[1.0, 4.0], &[2.0, 3.0]), 1.0);
    }

    #[test]
    fn the_groups_can_be_swapped_and_scaled() {
        let (a, b) = ([5.0, 9.0, 2.0, 7.5], [6.0, 1.0, 3.0]);
        let p = p_value(&a, &b).expect("p");
        near(p_value(&b, &a), p);
        near(p_value(&a.map(|v| v * 100.0), &b.map(|v| v * 100.0)), p);
    }

    #[test]
    fn the_largest_groups_still_sum_up() {
        let low: Vec<f64> = (0..50).map(f64::from).collect();
        let high: Vec<f64> = (0..50).map(|n| f64::from(n) + 0.5).collect();
        let p = p_value(&low, &high).expect("p");
        assert!((0.8..=1.0).contains(&p), "{p}");
        assert_eq!(p_value(&low, &[f64::NAN]), None);
        assert_eq!(p_value(&low, &[]), None);
    }
}

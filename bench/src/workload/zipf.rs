//! Pages are as popular as words: the k-th most popular is touched in proportion to 1 / k^theta.

use super::{Common, Pattern, REGION_PAGES, Step, access};
use crate::swap::random::Random;

/// Popularity that stays, without neighbourhood.
#[derive(Clone, Debug, clap::Args)]
pub struct ZipfArgs {
    /// What all workloads have.
    #[command(flatten)]
    pub common: Common,
    /// How unequal: 0 for not at all, 0.99 as in YCSB
    #[arg(long, default_value_t = 0.99, value_parser = theta)]
    pub theta: f64,
}

/// An exponent that makes sense.
pub fn theta(text: &str) -> Result<f64, String> {
    let theta = text.parse().map_err(|_| format!("\"{text}\" is not a number"))?;
    let good = (0.0..=10.0).contains(&theta);
    good.then_some(theta).ok_or_else(|| format!("{text} is not from 0 to 10"))
}

/// Ranks by popularity, drawn by looking up a number in the sums of all shares.
#[derive(Clone, Debug)]
pub struct Ranks {
    sums: Vec<f64>,
}

impl Ranks {
    /// For `count` items, at least 1.
    pub fn new(count: usize, theta: f64) -> Self {
        let mut sum = 0.0;
        let add = |rank: usize| {
            sum += (rank as f64).powf(-theta);
            sum
        };
        Self { sums: (1..=count).map(add).collect() }
    }

    /// An item, the most popular being 0.
    pub fn draw(&self, random: &mut Random) -> usize {
        let total = self.sums.last().copied().unwrap_or(0.0);
        // 53 bits: what a float between 0 and 1 has room for.
        let at = (random.bits() >> 11) as f64 / (1u64 << 53) as f64 * total;
        self.sums.partition_point(|sum| *sum <= at).min(self.sums.len() - 1)
    }
}

/// See the module.
#[derive(Debug)]
pub struct Zipf {
    ranks: Ranks,
    /// The page of each rank: popular pages are not neighbours.
    pages: Vec<usize>,
    write_percent: u8,
}

impl Zipf {
    /// As the flags say.
    pub fn new(args: &ZipfArgs) -> Self {
        let count = args.common.mib as usize * REGION_PAGES;
        let mut pages: Vec<usize> = (0..count).collect();
        Random::new(args.common.seed).shuffle(&mut pages);
        let write_percent = args.common.write_percent;
        Self { ranks: Ranks::new(count, args.theta), pages, write_percent }
    }
}

impl Pattern for Zipf {
    fn next(&mut self, random: &mut Random) -> Step {
        access(self.pages[self.ranks.draw(random)], self.write_percent, random)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_drawn_in_proportion() {
        let ranks = Ranks::new(1000, 1.0);
        let mut random = Random::new(5);
        let mut seen = vec![0u32; 1000];
        (0..100_000).for_each(|_| seen[ranks.draw(&mut random)] += 1);
        // The 1000th harmonic number is 7.485.
        for (rank, wanted) in [(0, 13_360.0), (1, 6_680.0), (9, 1_336.0)] {
            let got = f64::from(seen[rank]);
            assert!((got - wanted).abs() < 0.1 * wanted, "rank {rank}: {got}");
        }
        let even = Ranks::new(4, 0.0);
        let drawn: Vec<usize> = (0..100).map(|_| even.draw(&mut random)).collect();
        assert!((0..4).all(|rank| drawn.contains(&rank)));
    }

    #[test]
    fn exponents_are_checked() {
        assert_eq!(theta("0.5"), Ok(0.5));
        assert!(theta("-1").is_err() && theta("NaN").is_err() && theta("x").is_err());
    }
}

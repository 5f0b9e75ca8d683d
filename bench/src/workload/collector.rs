//! A program with a garbage collector: allocates region by region, ages, and once memory is used up
//! goes over all that lives (mark), gives back what is dead, and copies what is left of half-dead
//! regions together (compaction).

use super::{Common, Pattern, REGION_PAGES, Step, access};
use crate::swap::random::Random;
use std::collections::VecDeque;

/// Allocation, ageing, whole-heap mark passes, compaction.
#[derive(Clone, Debug, clap::Args)]
pub struct CollectorArgs {
    /// What all workloads have.
    #[command(flatten)]
    pub common: Common,
    /// How many of 100 regions die before their first collection; of those that do not, as many die
    /// between the first and the second, and so on
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u8).range(1..=99))]
    pub die_percent: u8,
    /// Accesses of the program for each region it allocates
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(0..))]
    pub work_operations: u32,
}

/// See the module.
#[derive(Debug)]
pub struct Collector {
    /// Regions that are there, the youngest last; and those that are not.
    live: Vec<usize>,
    free: Vec<usize>,
    die_percent: usize,
    work: u32,
    write_percent: u8,
    /// What has been decided and not been done yet.
    planned: VecDeque<Step>,
    work_left: u32,
}

impl Collector {
    /// As the flags say.
    pub fn new(args: &CollectorArgs) -> Self {
        Self {
            live: (0..args.common.mib as usize).collect(),
            free: Vec::new(),
            die_percent: args.die_percent.into(),
            work: args.work_operations,
            write_percent: args.common.write_percent,
            planned: VecDeque::new(),
            work_left: 0,
        }
    }

    fn pages(region: usize) -> impl Iterator<Item = usize> {
        region * REGION_PAGES..(region + 1) * REGION_PAGES
    }

    /// Mark, sweep, compact.
    fn collect(&mut self, random: &mut Random) {
        for &region in &self.live {
            self.planned.extend(Self::pages(region).map(Step::Read));
        }
        let all = std::mem::take(&mut self.live);
        for region in all {
            if random.below(100) < self.die_percent {
                self.release(region);
            } else {
                self.live.push(region);
            }
        }
        // Nothing died: the oldest gives way, or nothing could be allocated ever again.
        if self.free.is_empty() {
            let oldest = self.live.remove(0);
            self.release(oldest);
        }
        self.compact(random);
    }

    fn release(&mut self, region: usize) {
        self.free.push(region);
        self.planned.push_back(Step::Free(region));
    }

    /// Half of what survived is half dead: two such regions become one.
    fn compact(&mut self, random: &mut Random) {
        for _ in 0..self.live.len() / 4 {
            let Some(to) = self.free.pop() else { return };
            self.planned.push_back(Step::Fill(to));
            for _ in 0..2 {
                let from = self.live.remove(random.below(self.live.len()));
                self.planned.extend(Self::pages(from).step_by(2).map(Step::Read));
                self.release(from);
            }
            self.live.push(to);
        }
    }

    /// A page of the program's: of the youngest eighth half of the time, as young objects are what
    /// is worked on.
    fn work_page(&self, random: &mut Random) -> usize {
        let young = (self.live.len() / 8).max(1);
        let from = if random.bits() & 1 == 0 { self.live.len() - young } else { 0 };
        let region = self.live[from + random.below(self.live.len() - from)];
        region * REGION_PAGES + random.below(REGION_PAGES)
    }
}

impl Pattern for Collector {
    fn next(&mut self, random: &mut Random) -> Step {
        if let Some(step) = self.planned.pop_front() {
            return step;
        }
        if self.work_left > 0 && !self.live.is_empty() {
            self.work_left -= 1;
            return access(self.work_page(random), self.write_percent, random);
        }
        self.work_left = self.work;
        match self.free.pop() {
            Some(region) => {
                self.live.push(region);
                Step::Fill(region)
            }
            None => {
                self.collect(random);
                self.next(random)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::tests::steps;
    use clap::Parser;

    #[derive(Parser)]
    struct Words {
        #[command(flatten)]
        args: CollectorArgs,
    }

    #[test]
    fn memory_is_marked_freed_and_filled_again() {
        for die in ["1", "60", "99"] {
            let words = ["x", "--mib", "16", "--pages", "none", "--die-percent", die];
            let mut collector = Collector::new(&Words::parse_from(words).args);
            let all = steps(&mut collector, 16, 2, 100_000);
            // All regions are there when it begins, so it begins with going over all of them.
            let mark: Vec<Step> = (0..16 * REGION_PAGES).map(Step::Read).collect();
            assert_eq!(all[..mark.len()], mark);
            let count = |wanted: fn(&Step) -> bool| all.iter().filter(|s| wanted(s)).count();
            let (fills, frees) =
                (count(|s| matches!(s, Step::Fill(_))), count(|s| matches!(s, Step::Free(_))));
            assert!(fills > 16 && frees.abs_diff(fills) <= 16, "{die}: {fills} and {frees}");
        }
    }
}

//! A working set that changes: for a while some pages are all there is, then others are.

use super::zipf::{Ranks, theta};
use super::{Common, Pattern, REGION_PAGES, Step, access};
use crate::swap::random::Random;

/// A working set that moves on in phases.
#[derive(Clone, Debug, clap::Args)]
pub struct PhasesArgs {
    /// What all workloads have.
    #[command(flatten)]
    pub common: Common,
    /// How many of 100 pages are the working set of a phase
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub working_percent: u8,
    /// Accesses in a phase
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub phase_operations: u64,
    /// How unequal pages of the working set are, as in the zipf workload
    #[arg(long, default_value_t = 0.5, value_parser = theta)]
    pub theta: f64,
}

/// See the module.
#[derive(Debug)]
pub struct Phases {
    ranks: Ranks,
    pages: usize,
    working: usize,
    phase_operations: u64,
    write_percent: u8,
    first: usize,
    left: u64,
}

impl Phases {
    /// As the flags say.
    pub fn new(args: &PhasesArgs) -> Self {
        let pages = args.common.mib as usize * REGION_PAGES;
        let working = (pages * usize::from(args.working_percent) / 100).max(1);
        Self {
            ranks: Ranks::new(working, args.theta),
            pages,
            working,
            phase_operations: args.phase_operations,
            write_percent: args.common.write_percent,
            first: 0,
            left: args.phase_operations,
        }
    }
}

impl Pattern for Phases {
    fn next(&mut self, random: &mut Random) -> Step {
        if self.left == 0 {
            // Anywhere: some of the old pages may stay, as they do in programs.
            self.first = random.below(self.pages);
            self.left = self.phase_operations;
        }
        self.left -= 1;
        // A stride over the working set, so that popular pages are not neighbours.
        let rank = self.ranks.draw(random);
        let within = (rank as u128 * u128::from(SPREAD) % self.working as u128) as usize;
        access((self.first + within) % self.pages, self.write_percent, random)
    }
}

/// Prime, and larger than any working set: every rank has a page of its own.
const SPREAD: u64 = (1 << 61) - 1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::tests::{counts, steps};
    use clap::Parser;

    #[derive(Parser)]
    struct Words {
        #[command(flatten)]
        args: PhasesArgs,
    }

    #[test]
    fn a_phase_stays_in_its_working_set_and_reaches_all_of_it() {
        let words = "x --mib 4 --pages none --working-percent 25 --phase-operations 5000 --theta 0";
        let mut phases = Phases::new(&Words::parse_from(words.split(' ')).args);
        let all = steps(&mut phases, 4, 9, 10_000);
        let touched = |part| counts(part, 1024).iter().filter(|count| **count > 0).count();
        let (first, second) = all.split_at(5000);
        assert_eq!((touched(first), touched(second)), (256, 256));
        assert!(touched(&all) > 256, "the second phase is somewhere else");
    }
}

//! Processes that come, change a copy of some memory, and end: slots fill up and are freed again.

use super::{Common, Pattern, REGION_PAGES, Step, access};
use crate::swap::random::Random;

/// Children that change their copy of a part and end, beside accesses of the parent.
#[derive(Clone, Debug, clap::Args)]
pub struct ForksArgs {
    /// What all workloads have.
    #[command(flatten)]
    pub common: Common,
    /// How many of 100 pages a child changes
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub child_percent: u8,
    /// Accesses of the parent between two children
    #[arg(long, default_value_t = 5000, value_parser = clap::value_parser!(u32).range(1..))]
    pub between_operations: u32,
}

/// See the module.
#[derive(Debug)]
pub struct Forks {
    pages: usize,
    child_pages: usize,
    between: u32,
    left: u32,
    write_percent: u8,
}

impl Forks {
    /// As the flags say.
    pub fn new(args: &ForksArgs) -> Self {
        let pages = args.common.mib as usize * REGION_PAGES;
        Self {
            pages,
            child_pages: (pages * usize::from(args.child_percent) / 100).max(1),
            between: args.between_operations,
            left: args.between_operations,
            write_percent: args.common.write_percent,
        }
    }
}

impl Pattern for Forks {
    fn next(&mut self, random: &mut Random) -> Step {
        if self.left == 0 {
            self.left = self.between;
            return Step::Child { first: random.below(self.pages), pages: self.child_pages };
        }
        self.left -= 1;
        access(random.below(self.pages), self.write_percent, random)
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
        args: ForksArgs,
    }

    #[test]
    fn a_child_comes_after_so_many_accesses() {
        let words = "x --mib 4 --pages none --child-percent 25 --between-operations 100";
        let mut forks = Forks::new(&Words::parse_from(words.split(' ')).args);
        let all = steps(&mut forks, 4, 3, 303);
        for (at, step) in all.iter().enumerate() {
            let child = matches!(step, Step::Child { pages: 256, .. });
            assert_eq!(child, at % 101 == 100, "step {at}: {step:?}");
        }
    }
}

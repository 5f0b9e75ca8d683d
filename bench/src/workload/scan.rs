//! A hot set beside scans: one part is gone over again and again, one part once in a long while.
//!
//! What is scanned in a loop is larger than what fits, which is where recency is the wrong guide;
//! what is scanned once should not push the hot set out.

use super::{Common, Pattern, REGION_PAGES, Step, access};
use crate::swap::random::Random;

/// Looping and one-off scans beside a hot set.
#[derive(Clone, Debug, clap::Args)]
pub struct ScanArgs {
    /// What all workloads have.
    #[command(flatten)]
    pub common: Common,
    /// How many of 100 pages are the hot set
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u8).range(1..=80))]
    pub hot_percent: u8,
    /// How many of 100 pages the loop goes over; the rest is scanned once in a while
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u8).range(1..=80))]
    pub loop_percent: u8,
    /// How many of 100 accesses are of a scan
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u8).range(1..=99))]
    pub scan_percent: u8,
    /// Laps of the loop between two one-off scans
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub laps: u32,
}

/// See the module.
#[derive(Debug)]
pub struct Scan {
    /// Pages: the hot ones are below the first number, the loop's below the second, then the rest.
    hot: usize,
    looped: usize,
    pages: usize,
    scan_percent: usize,
    laps: u32,
    write_percent: u8,
    /// The page that the scan is at, and laps until it leaves the loop.
    at: usize,
    laps_left: u32,
}

impl Scan {
    /// As the flags say.
    pub fn new(args: &ScanArgs) -> Result<Self, String> {
        let (hot, looped) = (usize::from(args.hot_percent), usize::from(args.loop_percent));
        if hot + looped > 99 {
            return Err(format!("hot-percent and loop-percent are {} together", hot + looped));
        }
        let pages = args.common.mib as usize * REGION_PAGES;
        let hot = pages * hot / 100;
        Ok(Self {
            hot,
            looped: hot + pages * looped / 100,
            pages,
            scan_percent: args.scan_percent.into(),
            laps: args.laps,
            write_percent: args.common.write_percent,
            at: hot,
            laps_left: args.laps,
        })
    }

    fn scanned(&mut self) -> usize {
        let page = self.at;
        self.at += 1;
        if self.at == self.looped && self.laps_left > 1 {
            self.laps_left -= 1;
            self.at = self.hot;
        } else if self.at == self.pages {
            self.laps_left = self.laps;
            self.at = self.hot;
        }
        page
    }
}

impl Pattern for Scan {
    fn next(&mut self, random: &mut Random) -> Step {
        if random.below(100) < self.scan_percent {
            Step::Read(self.scanned())
        } else {
            access(random.below(self.hot), self.write_percent, random)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::tests::{counts, steps};
    use clap::Parser;

    #[derive(Parser)]
    struct Words {
        #[command(flatten)]
        args: ScanArgs,
    }

    fn scan(words: &str) -> Result<Scan, String> {
        let words = format!("x --mib 4 --pages none {words}");
        Scan::new(&Words::parse_from(words.split(' ')).args)
    }

    #[test]
    fn the_loop_is_gone_over_as_often_as_told_and_the_rest_once() {
        let mut scan = scan("--scan-percent 99 --laps 3").expect("good");
        let (hot, looped, pages) = (scan.hot, scan.looped, scan.pages);
        assert_eq!((hot, looped, pages), (204, 204 + 409, 1024));
        // A whole round of scans, whatever comes between.
        let round = 3 * (looped - hot) + pages - looped;
        let all = steps(&mut scan, 4, 1, round * 2);
        let scanned: Vec<_> = all
            .into_iter()
            .filter(|step| matches!(step, Step::Read(page) if *page >= hot))
            .take(round)
            .collect();
        let counts = counts(&scanned, pages);
        assert!(counts[hot..looped].iter().all(|count| *count == 3));
        assert!(counts[looped..].iter().all(|count| *count == 1));
    }

    #[test]
    fn parts_that_leave_nothing_are_refused() {
        assert!(scan("--hot-percent 60 --loop-percent 40").is_err());
        assert!(scan("--hot-percent 59 --loop-percent 40").is_ok());
    }
}

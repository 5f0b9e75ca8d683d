//! Mistakes that somebody could make, each switched on: the simulation finds all of them.

use crate::run;
use crate::step::Script;
use uswap::chaos::{self, Bug};

/// Runs in which each must show.
const SEEDS: u64 = 20_000;

#[test]
fn every_planted_bug_is_caught() {
    let hunt = |bug: Bug| {
        std::thread::spawn(move || {
            chaos::plant(Some(bug));
            let found = (0..SEEDS).find_map(|seed| Some((seed, run(&Script::new(seed)).err()?)));
            chaos::plant(None);
            found
        })
    };
    let begin = std::time::Instant::now();
    let mut missed = Vec::new();
    for &bug in Bug::ALL {
        match hunt(bug).join().expect("it only runs scripts") {
            Some((seed, said)) => {
                let line = said.lines().last().unwrap_or_default();
                println!("{:?} {bug:?}: seed {seed}: {line}", begin.elapsed());
            }
            None => missed.push(bug),
        }
    }
    assert!(missed.is_empty(), "not caught in {SEEDS} runs: {missed:?}");
}

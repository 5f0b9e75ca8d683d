//! What may happen next.

use crate::disk::Faults;
use crate::memory::{Shape, TAGS};
use crate::model::SLOTS;
use crate::random::Random;
use uswap::store::StoreCodec;

/// One thing that happens. Each has all its chances in it, so that others can be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The kernel asks for a write of pages of these contents.
    Write {
        tag: usize,
        first: u32,
        count: u32,
        content: u64,
    },
    /// For a read.
    Read {
        tag: usize,
        first: u32,
        count: u32,
    },
    /// For a discard.
    Discard {
        tag: usize,
        first: u32,
        count: u32,
    },
    /// The queue thread works on a request.
    Serve {
        tag: usize,
    },
    /// A helper compresses so many pages.
    Help {
        pages: u32,
    },
    /// The spiller takes pages out of the pool.
    Spill {
        first: u32,
        count: u32,
    },
    /// It looks for segments that have become free, as it does once a step.
    Look,
    Flush,
    Collect {
        wait: bool,
    },
    Clean,
    /// The mover makes pages denser.
    Recompress {
        first: u32,
        count: u32,
    },
    Install {
        which: usize,
    },
    Retire,
    Compact,
    GiveBack {
        slabs: u64,
    },
    Grow {
        slabs: u64,
    },
    Tick,
    /// So many pages may return from the spill when they are read.
    Promote {
        pages: u64,
    },
    /// A write of a dead server reaches the disk.
    CatchUp,
    /// A successor attaches, and follows.
    Attach,
    KeepUp,
    /// The server dies after so many stores to memory that outlives it; 0: now.
    Crash {
        stores: u64,
    },
    /// Whoever takes over next dies as well, after so many stores.
    CrashAgain {
        stores: u64,
    },
    /// Nobody works: everything must agree.
    Check,
}

/// A run.
#[derive(Clone, Debug)]
pub struct Script {
    pub seed: u64,
    pub shape: Shape,
    pub faults: Faults,
    pub steps: Vec<Step>,
}

impl Script {
    /// The run of a seed.
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let shape = shape(&mut random);
        let faults = faults(&mut random);
        let count = 20 + random.below(300);
        // Runs differ in what they do most, and in what they never do.
        let often = |random: &mut Random| [0, 1, 1, 3, 9][random.below(5) as usize];
        let mut weights: Vec<u64> = WEIGHTS.iter().map(|w| w * often(&mut random)).collect();
        for always in [WRITE, SERVE] {
            weights[always] = weights[always].max(WEIGHTS[always]);
        }
        let mut steps = Vec::new();
        while (steps.len() as u64) < count {
            let number = steps.len() as u64 + 1;
            let step = step(&mut random, &weights, number);
            steps.push(step);
            follow(&mut random, step, &mut steps);
        }
        Self { seed, shape, faults, steps }
    }
}

fn shape(random: &mut Random) -> Shape {
    // With fewer slabs nothing is staged, with so many most is.
    let slabs = [12, 24, 90, 110][random.below(4) as usize];
    let there = if random.happens(128) { slabs } else { slabs / 2 + 8 };
    let codec = match random.below(8) {
        0 => StoreCodec::None,
        1 => StoreCodec::Zstd,
        _ => StoreCodec::Lz4,
    };
    Shape { slabs, there: there.min(slabs), codec, spill: random.happens(180) }
}

fn faults(random: &mut Random) -> Faults {
    let mut rate = |share: u8, most: u64| {
        if random.happens(share) { random.below(most) as u8 } else { 0 }
    };
    let honest = Faults { write_error: rate(128, 160), slow: rate(200, 250), ..Faults::default() };
    if rate(255, 256) < 170 {
        return honest;
    }
    let (read_error, torn) = (rate(100, 60), rate(100, 60));
    Faults { read_error, torn, lost: rate(100, 60), flip: rate(100, 60), ..honest }
}

/// What often comes right after a step: without it little would ever be finished.
fn follow(random: &mut Random, step: Step, steps: &mut Vec<Step>) {
    match step {
        Step::Write { tag, .. } | Step::Read { tag, .. } | Step::Discard { tag, .. }
            if random.happens(200) =>
        {
            steps.push(Step::Serve { tag });
        }
        Step::Spill { .. } if random.happens(160) => {
            steps.push(Step::Flush);
            if random.happens(200) {
                steps.push(Step::Collect { wait: true });
            }
        }
        Step::Clean if random.happens(160) => {
            steps.extend([Step::Collect { wait: true }, Step::Clean, Step::Flush]);
            steps.push(Step::Collect { wait: true });
        }
        // Something to die of.
        Step::Crash { stores } if stores > 0 && random.happens(128) => {
            let (tag, content) = (0, (steps.len() as u64 + 1) << 32 | random.below(8));
            let first = random.below(SLOTS.into()) as u32;
            steps.extend([Step::Serve { tag }, Step::Write { tag, first, count: 1, content }]);
            steps.push(Step::Serve { tag });
        }
        _ => {}
    }
}

/// How often, in the order of [`step`].
const WEIGHTS: [u64; 24] =
    [20, 8, 2, 40, 8, 10, 5, 10, 8, 6, 2, 1, 3, 2, 2, 1, 3, 2, 2, 4, 1, 2, 1, 4];

/// Without these nothing happens.
const WRITE: usize = 0;
const SERVE: usize = 3;

fn step(random: &mut Random, weights: &[u64], number: u64) -> Step {
    let mut left = random.below(weights.iter().sum());
    let which = weights.iter().position(|&weight| {
        let here = left < weight;
        left = left.saturating_sub(weight);
        here
    });
    let tag = random.below(TAGS as u64) as usize;
    let first = random.below(SLOTS.into()) as u32;
    let count = [1, 1, 2, 5, 9, 20][random.below(6) as usize].min(SLOTS - first);
    let many = (1 + random.below(48) as u32).min(SLOTS - first);
    match which.unwrap_or(0) {
        0 => Step::Write { tag, first, count, content: number << 32 | random.below(8) },
        1 => Step::Read { tag, first, count },
        2 => Step::Discard { tag, first, count: many },
        3 => Step::Serve { tag },
        4 => Step::Help { pages: 1 + random.below(30) as u32 },
        5 => Step::Spill { first, count: many },
        6 => Step::Flush,
        7 => Step::Collect { wait: random.happens(160) },
        8 => Step::Clean,
        9 => Step::Recompress { first, count },
        10 => Step::Install { which: random.below(4) as usize },
        11 => Step::Retire,
        12 => Step::Compact,
        13 => Step::GiveBack { slabs: 1 + random.below(16) },
        14 => Step::Grow { slabs: 1 + random.below(16) },
        15 => Step::Tick,
        16 => Step::CatchUp,
        17 => Step::Attach,
        18 => Step::KeepUp,
        19 => {
            let most = [1, 16, 300][random.below(3) as usize];
            Step::Crash { stores: random.below(most) }
        }
        21 => Step::Promote { pages: 1 + random.below(20) },
        20 => Step::CrashAgain { stores: 1 + random.below(40) },
        22 => Step::Check,
        _ => Step::Look,
    }
}

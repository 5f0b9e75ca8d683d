//! The whole engine in one thread, driven from one seed: requests as a queue thread handles them,
//! helpers, spilling, cleaning, recompression, compaction, and a server that dies between any two
//! stores to the memory that outlives it. After each recovery every page is compared with a model.
//!
//! `USWAP_SEED=N` replays one run and prints its steps, shrunk; `USWAP_SEEDS=N` runs so many.
//!
//! What is simulated: the kernel with one request at a time for each tag, which it issues again
//! after a crash; a disk that delays, reorders, fails, tears, forgets and lies, and may carry a
//! dead
//! server's writes out long after; several servers in a row, each made from a standby that may have
//! attached long ago, some of which die while they take over. What is not: several threads at once
//! (tests/model.rs, loom in src/table/slot.rs) and the policy's choices.
//!
//! Found by it so far: the age of a segment to clean was computed from a number that no writer had
//! ever given out, and underflowed, when the file of segments was damaged (`hostile`). Found by
//! reading, and by it since it was taught to: a successor that wrote to the spill without its lock,
//! and a segment that became free while it was cleaned (`scripts`).

mod disk;
mod harm;
mod hostile;
mod machine;
mod memory;
mod model;
mod mutations;
mod random;
mod scripts;
mod step;

use machine::{Machine, Tally};
use model::dictionaries;
use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, Once};
use step::{Script, Step};
use uswap::chaos;

/// Runs of `cargo test`.
const SEEDS: u64 = 10_000;
/// Tries to make a failing run shorter.
const SHRINKS_MAX: u32 = 2_000;

thread_local! {
    static SAID: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Keeps what a panic says for whoever runs the script, and prints nothing in these threads.
fn listen() {
    static LISTEN: Once = Once::new();
    LISTEN.call_once(|| {
        let loud = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if chaos::is_alone() {
                SAID.set(info.to_string());
            } else {
                loud(info);
            }
        }));
    });
    chaos::be_alone();
}

/// Runs a script. The error is what went wrong.
pub fn run(script: &Script) -> Result<Tally, String> {
    listen();
    let result = catch_unwind(AssertUnwindSafe(|| {
        let mut machine = Machine::new(script, dictionaries());
        script.steps.iter().for_each(|step| machine.apply(*step));
        machine.finish();
        machine.tally
    }));
    chaos::recovered();
    result.map_err(|_| SAID.take())
}

/// The shortest script found that still fails, and how.
fn shrink(mut script: Script, mut said: String) -> (Script, String) {
    let (mut tries, mut size) = (0, script.steps.len().div_ceil(2));
    while size > 0 && tries < SHRINKS_MAX {
        let (mut at, before) = (0, script.steps.len());
        while at < script.steps.len() && tries < SHRINKS_MAX {
            let mut shorter = script.clone();
            let end = (at + size).min(shorter.steps.len());
            shorter.steps.drain(at..end);
            tries += 1;
            match run(&shorter) {
                Err(now) => (script, said) = (shorter, now),
                Ok(_) => at += size,
            }
        }
        size = if script.steps.len() < before { size } else { size / 2 };
    }
    (script, said)
}

/// What a person needs of a failed run.
fn report(script: Script, said: String) -> String {
    let seed = script.seed;
    let (script, said) = shrink(script, said);
    let steps: Vec<String> = script.steps.iter().map(|step| format!("    {step:?},")).collect();
    format!(
        "seed {seed} (USWAP_SEED={seed} replays it): {said}\n{:?}\n{:?}\n{} steps:\n{}",
        script.shape,
        script.faults,
        steps.len(),
        steps.join("\n")
    )
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

#[test]
fn no_run_loses_or_mixes_up_a_page() {
    if let Some(seed) = number("USWAP_SEED") {
        let script = Script::new(seed);
        if let Err(said) = run(&script) {
            panic!("{}", report_loudly(script, said));
        }
        return;
    }
    let (seeds, next) = (number("USWAP_SEEDS").unwrap_or(SEEDS), AtomicU64::new(0));
    let (sum, failed) = (Mutex::new(Tally::default()), Mutex::new(None));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while failed.lock().expect("unpoisoned").is_none() {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        return;
                    }
                    match run(&Script::new(seed)) {
                        Ok(tally) => sum.lock().expect("unpoisoned").add(tally),
                        Err(said) => *failed.lock().expect("unpoisoned") = Some((seed, said)),
                    }
                }
            });
        }
    });
    if let Some((seed, said)) = failed.into_inner().expect("unpoisoned") {
        panic!("{}", report_loudly(Script::new(seed), said));
    }
    let sum = sum.into_inner().expect("unpoisoned");
    println!("{seeds} runs: {sum:?}");
    // A simulation in which nothing happens finds nothing.
    let enough = [sum.crashes, sum.staged, sum.spilled, 4 * sum.dense, 8 * sum.promoted];
    assert!(enough.into_iter().all(|count| count > seeds));
}

/// In a thread of its own, since this one is to be heard when it fails.
fn report_loudly(script: Script, said: String) -> String {
    let shrinking = std::thread::spawn(move || report(script, said));
    shrinking.join().expect("it only runs scripts")
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 0..20 {
        let [a, b] = [Script::new(seed), Script::new(seed)];
        assert_eq!(a.steps, b.steps);
        assert_eq!(run(&a), run(&b), "seed {seed}");
    }
}

#[test]
fn a_failing_run_is_made_shorter() {
    let caught = std::thread::spawn(|| {
        chaos::plant(Some(chaos::Bug::BacklogForgotten));
        // A crash that is so many stores ahead moves with every step that is left out.
        let at_once = |step: &Step| !matches!(step, Step::Crash { stores: 1.. });
        let fails = |seed: &u64| {
            let script = Script::new(*seed);
            script.steps.iter().all(at_once) && run(&script).is_err()
        };
        let seed = (0..5000).find(fails).expect("it shows soon");
        let script = Script::new(seed);
        let (before, said) = (script.steps.len(), run(&script).expect_err("as before"));
        let (script, said) = shrink(script, said);
        chaos::plant(None);
        (before, script, said)
    });
    let (before, script, said) = caught.join().expect("it only runs scripts");
    assert!(script.steps.len() < before && script.steps.len() < 12, "{:?}: {said}", script.steps);
    assert!(script.steps.iter().any(|step| matches!(step, Step::Crash { .. })));
}

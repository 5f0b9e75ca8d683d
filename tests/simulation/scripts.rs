//! Runs that chance rarely makes, step by step.

use crate::disk::Faults;
use crate::memory::Shape;
use crate::run;
use crate::step::{Script, Step};
use uswap::chaos::{self, Bug};
use uswap::store::StoreCodec;

const WAIT: Step = Step::Collect { wait: true };

fn script(seed: u64, steps: Vec<Step>) -> Script {
    let shape = Shape { slabs: 110, there: 110, codec: StoreCodec::Lz4, spill: true };
    Script { seed, shape, faults: Faults::default(), steps }
}

/// Two pages are written, and stored.
fn store(first: u32, number: u64) -> [Step; 3] {
    let write = Step::Write { tag: 0, first, count: 2, content: number << 32 | 3 };
    [write, Step::Serve { tag: 0 }, Step::Help { pages: 20 }]
}

fn discard(first: u32) -> [Step; 2] {
    [Step::Discard { tag: 0, first, count: 1 }, Step::Serve { tag: 0 }]
}

/// They get a segment to themselves.
fn spill(first: u32) -> [Step; 2] {
    [Step::Spill { first, count: 2 }, Step::Flush]
}

/// What goes wrong, in any of some runs that differ in what the disk does.
fn said(steps: &[Step], bug: Option<Bug>) -> Vec<String> {
    let steps = steps.to_vec();
    let runs = std::thread::spawn(move || {
        chaos::plant(bug);
        let said: Vec<_> =
            (0..16).filter_map(|seed| run(&script(seed, steps.clone())).err()).collect();
        chaos::plant(None);
        said
    });
    runs.join().expect("it only runs scripts")
}

#[track_caller]
fn only_with(bug: Bug, part: &str, steps: &[Step]) {
    assert_eq!(said(steps, None), Vec::<String>::new());
    let said = said(steps, Some(bug));
    assert!(said.iter().any(|said| said.contains(part)), "{bug:?}: {said:?}");
}

/// The first server dies with nothing under way, so that the second finds no doubts; the second
/// dies while it writes; the third must wait for that.
#[test]
fn a_write_of_the_second_server_does_not_hit_what_the_third_wrote() {
    let mut steps = Vec::new();
    steps.extend(store(0, 1));
    steps.extend(spill(0));
    steps.extend([WAIT, Step::Crash { stores: 0 }]);
    steps.extend(store(8, 2));
    steps.extend(spill(8));
    steps.push(Step::Crash { stores: 0 });
    // Once around: the last one takes the place that the second server was writing to.
    for number in 3..10 {
        steps.extend(store(16, number));
        steps.extend(spill(16));
        steps.push(WAIT);
    }
    steps.extend([Step::CatchUp, Step::Check]);
    only_with(Bug::LockNotTaken, "Corrupt", &steps);
}

#[test]
fn a_segment_that_empties_while_it_is_cleaned_is_not_free_twice() {
    let mut steps = Vec::new();
    for pair in 0..4 {
        steps.extend(store(pair * 2, u64::from(pair) + 1));
        steps.extend(spill(pair * 2));
        steps.push(WAIT);
    }
    steps.extend(store(20, 9));
    // Four of eight are free; one of the others has one page left, and is read.
    steps.extend(discard(0));
    steps.extend([Step::Clean, WAIT]);
    steps.extend(discard(1));
    // Looks for free segments.
    steps.extend(spill(20));
    steps.extend([Step::Look, Step::Clean, WAIT, Step::Check]);
    for number in 10..30 {
        steps.extend(store(20, number));
        steps.extend(spill(20));
        steps.extend([Step::Look, WAIT]);
    }
    only_with(Bug::VictimFreed, "counted free", &steps);
}

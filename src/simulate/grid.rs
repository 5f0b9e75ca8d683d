//! Many runs: spread over processors, and estimated before.

use super::replay::Replay;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Steps of the replay that are tried to see how long all take.
const TRIED_STEPS: usize = 400_000;
/// Time between two looks around.
const WATCH_EVERY: Duration = Duration::from_millis(20);

/// Does `run` for all of `cases`, on so many threads; the results in the order of the cases. The
/// calling thread waits, and looks around by `watch` from time to time.
pub fn each<C: Sync, R: Send>(
    cases: &[C],
    threads: usize,
    run: impl Fn(&C) -> R + Sync,
    mut watch: impl FnMut(),
) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::with_capacity(cases.len()));
    let work = || {
        while let Some((at, case)) = {
            let at = next.fetch_add(1, Ordering::Relaxed);
            cases.get(at).map(|case| (at, case))
        } {
            let result = run(case);
            results.lock().unwrap_or_else(PoisonError::into_inner).push((at, result));
        }
    };
    std::thread::scope(|scope| {
        let threads = 0..threads.clamp(1, cases.len().max(1));
        let workers: Vec<_> = threads.map(|_| scope.spawn(work)).collect();
        while workers.iter().any(|worker| !worker.is_finished()) {
            watch();
            std::thread::sleep(WATCH_EVERY);
        }
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_unstable_by_key(|(at, _)| *at);
    results.into_iter().map(|(_, result)| result).collect()
}

/// A short run of each kind, timed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Calibration {
    /// How long a whole run takes, about.
    pub whole: Duration,
}

/// Times `run` on a first part of the replay, and says how long all of it would take: an estimate,
/// as the rest may do other things.
pub fn calibrate(replay: &Replay, run: impl FnOnce(&Replay)) -> Calibration {
    let tried = replay.steps.len().min(TRIED_STEPS);
    let part = replay.part(tried);
    let begin = Instant::now();
    run(&part);
    let times = replay.steps.len() as f64 / tried.max(1) as f64;
    Calibration { whole: begin.elapsed().mul_f64(times) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_cases_whatever_the_threads() {
        let cases: Vec<u64> = (0..100).collect();
        for threads in [0, 1, 3, 200] {
            let squares = each(&cases, threads, |n| n * n, || {});
            assert!(squares.iter().zip(&cases).all(|(square, n)| *square == n * n));
            assert_eq!(squares.len(), cases.len());
        }
        assert!(each(&[(); 0], 2, |()| 1, || {}).is_empty());
    }
}

//! The phases of a round, in the process whose memory is swapped.

use super::cgroup::Cgroup;
use super::counters::{cpu_seconds, major_faults, pages_out, swapped_pages};
use super::random::Random;
use super::result::{Out, Pressure, RandomIn, SequentialIn};
use crate::stamped::{Source, restamp};
use crate::statistics::median;
use memmap2::{Advice, MmapMut};
use rustix::mm::{MlockAllFlags, mlockall};
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};
use uswap::daemon::protocol::{Reply, Request, ask};
use uswap::error::{StartError, StartResult};
use uswap::units::PAGE_SIZE;

const MIB: f64 = 1048576.0;
/// How much one write to `memory.reclaim` asks for, at most and at least.
const STEP_BYTES: u64 = 16 << 20;
const STEP_BYTES_MIN: u64 = 128 << 10;
/// Pushing out everything is done when this share is left: some pages are always in a CPU's batch,
/// and `memory.stat` lags by as many. Half of it was too little once: 82 of 64 MiB's pages stayed.
const LEFT_SHARE: f64 = 0.01;
/// Give up when nothing more has gone out for so long.
const STUCK: Duration = Duration::from_secs(10);
/// How often to ask the device whether it still has work.
const SETTLE_PAUSE: Duration = Duration::from_millis(2);
const SETTLE_MAX: Duration = Duration::from_secs(60);

/// Memory that is pushed out and pulled in.
#[derive(Debug)]
pub struct WorkingSet {
    memory: MmapMut,
    source: Source,
    /// What was last written to each page.
    generations: Vec<u32>,
    random: Random,
    /// Whether pages may come back as anything.
    lossy: bool,
}

impl WorkingSet {
    /// Locks everything this process has into RAM, then maps `mib` MiB, which stay unlocked and
    /// untouched. So the working set is all that can be pushed out: neither the measuring nor the
    /// comparing waits for swap, and a target that loses data does not lose ours. `lossy`: such a
    /// target, whose pages are looked at and not judged.
    pub fn new(source: Source, mib: u32, seed: u64, lossy: bool) -> StartResult<Self> {
        let len = mib as usize * (1 << 20);
        let fail = |e: std::io::Error| {
            StartError::failure(
                format!("cannot lock itself and map {mib} MiB ({e})"),
                "run as root, or give a smaller --mib",
            )
        };
        // Not zeros, which the allocator would leave untouched until after the lock.
        let generations = vec![1; len / PAGE_SIZE];
        let locked = mlockall(MlockAllFlags::CURRENT).map_err(std::io::Error::from);
        let memory = locked.and_then(|()| MmapMut::map_anon(len)).map_err(fail)?;
        // A huge page would be split on its way out, which is another matter.
        memory.advise(Advice::NoHugePage).map_err(fail)?;
        Ok(Self { memory, source, generations, random: Random::new(seed), lossy })
    }

    /// Number of pages.
    pub fn pages(&self) -> usize {
        self.generations.len()
    }

    /// Different captured pages in it.
    pub fn source_pages(&self) -> usize {
        self.source.pages()
    }

    fn page(&self, index: usize) -> &[u8] {
        &self.memory[index * PAGE_SIZE..][..PAGE_SIZE]
    }

    fn check(&self, index: usize) -> StartResult<()> {
        let found = self.source.check(self.page(index), index, self.generations[index]);
        if self.lossy { Ok(()) } else { found }
    }

    /// Reads one byte: a fault if the page is out.
    fn touch(&self, index: usize) {
        black_box(*black_box(&self.memory[index * PAGE_SIZE]));
    }

    /// Writes every page; seconds.
    pub fn fill(&mut self) -> f64 {
        let begin = Instant::now();
        for (index, page) in self.memory.chunks_exact_mut(PAGE_SIZE).enumerate() {
            self.source.fill(page, index, self.generations[index]);
        }
        begin.elapsed().as_secs_f64()
    }

    /// Writes to every page again, so that no copy in swap is good any more.
    pub fn rewrite(&mut self) {
        for (index, page) in self.memory.chunks_exact_mut(PAGE_SIZE).enumerate() {
            self.generations[index] += 1;
            restamp(page, index, self.generations[index]);
        }
    }

    /// Compares every page with what was last written to it; how many that were: none of a lossy
    /// target.
    pub fn verify(&self) -> StartResult<usize> {
        if self.lossy {
            return Ok(0);
        }
        (0..self.pages()).try_for_each(|index| self.check(index))?;
        Ok(self.pages())
    }

    /// Touches at most `count` pages that are out, in random order, and compares each.
    pub fn random_in(&mut self, count: usize) -> StartResult<RandomIn> {
        let mut pages = swapped_pages(&self.memory)?;
        self.random.shuffle(&mut pages);
        pages.truncate(count);
        let mut latencies = Vec::with_capacity(pages.len());
        let before = major_faults()?;
        for &index in &pages {
            let begin = Instant::now();
            self.touch(index);
            latencies.push(begin.elapsed().as_secs_f64() * 1e6);
            self.check(index)?;
        }
        Ok(RandomIn::new(&mut latencies, major_faults()? - before))
    }

    /// Touches all pages that are out in the order of their addresses, then compares them.
    pub fn sequential_in(&self) -> StartResult<SequentialIn> {
        let pages = swapped_pages(&self.memory)?;
        let before = major_faults()?;
        let begin = Instant::now();
        pages.iter().for_each(|&index| self.touch(index));
        let seconds = begin.elapsed().as_secs_f64();
        let major_faults = major_faults()? - before;
        pages.iter().try_for_each(|&index| self.check(index))?;
        let mib_per_second = (pages.len() * PAGE_SIZE) as f64 / MIB / seconds;
        Ok(SequentialIn { seconds, pages: pages.len(), major_faults, mib_per_second })
    }

    /// Reads and writes pages at random for `seconds` under the limit of the cgroup.
    pub fn pressure(&mut self, seconds: u32, limit_bytes: u64) -> StartResult<Pressure> {
        let (faults, out) = (major_faults()?, pages_out()?);
        let end = Duration::from_secs(seconds.into());
        let begin = Instant::now();
        let mut operations = 0;
        while begin.elapsed() < end {
            let index = self.random.below(self.pages());
            // A write needs no read in a program, but the fault brings the page in all the same.
            if self.random.bits() & 1 == 0 {
                self.check(index)?;
            } else {
                self.generations[index] += 1;
                let page = &mut self.memory[index * PAGE_SIZE..][..PAGE_SIZE];
                restamp(page, index, self.generations[index]);
            }
            operations += 1;
        }
        let seconds = begin.elapsed().as_secs_f64();
        Ok(Pressure {
            seconds,
            limit_bytes,
            operations,
            operations_per_second: operations as f64 / seconds,
            major_faults: major_faults()? - faults,
            pages_out: pages_out()? - out,
        })
    }
}

/// Pushes pages of the cgroup out until `share` of `pages` is left. The caller is not in it, so
/// that its own memory stays.
pub fn push_out(
    cgroup: &Cgroup,
    pages: usize,
    share: f64,
    socket: Option<&Path>,
) -> StartResult<Out> {
    let left_max = (share.max(LEFT_SHARE) * (pages * PAGE_SIZE) as f64) as u64;
    let (out_before, cpu_before) = (pages_out()?, cpu_seconds()?);
    let resident_before = cgroup.resident_bytes()?;
    let begin = Instant::now();
    let (mut resident, mut progress, mut steps) = (resident_before, begin, 0);
    while resident > left_max {
        cgroup.reclaim(step_bytes(resident, left_max))?;
        steps += 1;
        let now = cgroup.resident_bytes()?;
        if now < resident {
            progress = Instant::now();
        } else if progress.elapsed() > STUCK {
            let what = format!("{now} of {resident_before} bytes cannot be pushed out");
            return Err(StartError::failure(
                what,
                "look at /proc/swaps: is the area large enough?",
            ));
        }
        resident = now;
    }
    let seconds = begin.elapsed().as_secs_f64();
    settle(socket)?;
    let settled_seconds = begin.elapsed().as_secs_f64();
    let cpu = cpu_seconds()? - cpu_before;
    let pages = pages_out()? - out_before;
    let each = |seconds: f64| seconds * 1e6 / pages.max(1) as f64;
    Ok(Out {
        seconds,
        settled_seconds,
        pages,
        freed_pages: resident_before.saturating_sub(resident) / PAGE_SIZE as u64,
        us_per_page: each(seconds),
        settled_us_per_page: each(settled_seconds),
        mib_per_second: (pages * PAGE_SIZE as u64) as f64 / MIB / seconds,
        cpu_us_per_page: each(cpu),
        steps,
    })
}

/// How much to ask for next. The kernel works in batches of pages: asked for the last few bytes it
/// would do nothing, again and again.
fn step_bytes(resident: u64, left_max: u64) -> u64 {
    resident.saturating_sub(left_max).clamp(STEP_BYTES_MIN, STEP_BYTES)
}

/// Waits until the service behind `socket` has stored all pages that it has only staged. Other
/// devices put nothing off.
fn settle(socket: Option<&Path>) -> StartResult<()> {
    let Some(socket) = socket else { return Ok(()) };
    let begin = Instant::now();
    loop {
        let staged = match ask(socket, &Request::Status)? {
            Reply::Status(status) => status.pages.staged,
            other => {
                let what = format!("{other:?} is no answer to a status request");
                return Err(StartError::failure(what, "use a uswap of the same version"));
            }
        };
        if staged == 0 {
            return Ok(());
        }
        if begin.elapsed() > SETTLE_MAX {
            let what = format!("{staged} pages are still staged after {SETTLE_MAX:?}");
            return Err(StartError::failure(what, "see `uswap status`"));
        }
        std::thread::sleep(SETTLE_PAUSE);
    }
}

/// What it costs to read the clock twice, in microseconds.
pub fn clock_us() -> f64 {
    let gap = |_| {
        let begin = Instant::now();
        begin.elapsed().as_secs_f64() * 1e6
    };
    median((0..1001).map(gap)).unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_few_bytes_are_asked_for_in_a_batch_that_the_kernel_acts_upon() {
        // Seen in a guest: 0.48 of 64 MiB wanted, 2786 bytes more were left, for ten seconds.
        assert_eq!(step_bytes(32_215_040, 32_212_254), STEP_BYTES_MIN);
        assert_eq!(step_bytes(1 << 30, 0), STEP_BYTES);
        assert_eq!(step_bytes(3 << 20, 1 << 20), 2 << 20);
    }
}

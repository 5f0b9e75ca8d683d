//! `capture`: writes the memory that processes really hold into a file of raw 4 KiB pages.
//!
//! What a swap device stores is anonymous private memory, so exactly that is taken: present pages
//! of private mappings
//! without a file behind them. The kernel's shared zero page is left out, because it is never
//! swapped. The processes
//! run on meanwhile; each page is a snapshot of its own.

use clap::Parser;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};
use uswap::error::{StartError, StartResult};
use uswap::sys::resident::{self, Place, Reader};
use uswap::units::PAGE_SIZE;

/// Pages taken together where only a part is taken: neighbours stay neighbours, as they are in
/// swap.
const RUN_PAGES: usize = 64;
/// A command counts as grown up when its memory grew by less than 1 % for so long.
const STEADY: Duration = Duration::from_millis(500);
/// And at the latest after this time.
const GROWTH_MAX: Duration = Duration::from_secs(30);

/// Writes the present anonymous private pages of processes to a file of raw 4 KiB pages.
#[derive(Debug, Parser)]
#[command(name = "capture")]
struct Arguments {
    /// Process to take pages from; repeatable
    #[arg(long = "pid", value_name = "P", required_unless_present = "exec")]
    pids: Vec<u32>,
    /// Take at most this much, in runs of 64 pages spread over the address space
    #[arg(long, value_name = "N")]
    max_mib: Option<usize>,
    /// Where the spread begins; the same seed takes the same places
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// With --exec: capture so long after the start, not when the memory stopped growing
    #[arg(long, value_name = "MS")]
    after_ms: Option<u64>,
    /// File to write
    out: PathBuf,
    /// Start this command, take its pages and its children's, end it; must come last
    #[arg(long, value_name = "CMD", num_args = 1.., allow_hyphen_values = true)]
    exec: Vec<String>,
}

fn no_access(e: &std::io::Error) -> StartError {
    StartError::failure(
        format!("cannot read {e}"),
        "the process must still run, and you must be root or have CAP_SYS_PTRACE",
    )
}

/// All pages to take of one process, in address order.
fn places(pid: u32) -> StartResult<Vec<Place>> {
    let mut found = Vec::new();
    resident::for_each(pid, |place| found.push(place)).map_err(|e| no_access(&e))?;
    Ok(found)
}

/// At most `limit` pages of `all`: runs of [`RUN_PAGES`] at equal distances, from a start that
/// `seed` chooses.
fn spread(all: Vec<Place>, limit: usize, seed: u64) -> Vec<Place> {
    let (runs, wanted) = (all.len() / RUN_PAGES, limit / RUN_PAGES);
    if all.len() <= limit || wanted == 0 || runs <= wanted {
        return all.into_iter().take(limit).collect();
    }
    let offset = (seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as usize % (runs / wanted);
    (0..wanted)
        .flat_map(|i| &all[(i * runs / wanted + offset).min(runs - 1) * RUN_PAGES..][..RUN_PAGES])
        .copied()
        .collect()
}

/// Writes the pages; returns how many. A page that went away meanwhile is left out.
fn write_pages(places: &[Place], out: &Path) -> StartResult<usize> {
    let fail = |e: std::io::Error| {
        StartError::failure(
            format!("cannot write {} ({e})", out.display()),
            "choose a file in a directory with room",
        )
    };
    let mut file = BufWriter::with_capacity(1 << 20, File::create(out).map_err(fail)?);
    let mut reader = Reader::default();
    let (mut page, mut written) = ([0u8; PAGE_SIZE], 0);
    for place in places {
        if reader.read(*place, &mut page).map_err(|e| no_access(&e))? {
            file.write_all(&page).map_err(fail)?;
            written += 1;
        }
    }
    file.flush().map_err(fail)?;
    Ok(written)
}

/// The parent named in the text of /proc/PID/stat. The command name before it may hold anything,
/// even brackets.
fn parent(stat: &str) -> Option<u32> {
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// `root` and everything it started, as far as it runs.
fn family(root: u32) -> Vec<u32> {
    let everybody: Vec<(u32, u32)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid| {
            Some((pid, parent(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?))
        })
        .collect();
    let mut members = vec![root];
    let mut next = 0;
    while next < members.len() {
        let of = members[next];
        members.extend(everybody.iter().filter(|(_, parent)| *parent == of).map(|(pid, _)| *pid));
        next += 1;
    }
    members
}

/// Pages the processes have resident, shared ones not counted.
fn resident_pages(pids: &[u32]) -> u64 {
    let one = |pid: &u32| {
        let statm = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
        let mut words = statm.split_ascii_whitespace().skip(1).map(str::parse::<u64>);
        Some(words.next()?.ok()?.saturating_sub(words.next()?.ok()?))
    };
    pids.iter().filter_map(one).sum()
}

fn start(command: &[String]) -> StartResult<Child> {
    let fail = |e: std::io::Error| {
        StartError::failure(format!("cannot start {} ({e})", command[0]), "check its name and path")
    };
    let mut process = Command::new(&command[0]);
    process.args(&command[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // A group of its own: what it starts ends with it.
    process.process_group(0).spawn().map_err(fail)
}

/// Ends the command and everything in its group.
fn end(mut child: Child) {
    let group = format!("-{}", child.id());
    // Nothing to do about a failure: the group may be gone already.
    let _ = Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status();
    let _ = child.kill();
    let _ = child.wait();
}

/// Waits until the command's memory stands still, or the given time is over.
fn let_grow(child: &mut Child, after: Option<Duration>) -> StartResult<()> {
    let begin = Instant::now();
    let (mut most, mut steady_since) = (0, begin);
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Err(StartError::failure(
                format!("the command ended after {} ms ({status})", begin.elapsed().as_millis()),
                "capture earlier with --after-ms, or choose one that runs longer",
            ));
        }
        if after.is_some_and(|limit| begin.elapsed() >= limit) || begin.elapsed() >= GROWTH_MAX {
            return Ok(());
        }
        let now = resident_pages(&family(child.id()));
        if now > most + most / 100 {
            (most, steady_since) = (now, Instant::now());
        }
        if after.is_none() && most > 0 && steady_since.elapsed() >= STEADY {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn take(pids: &[u32], arguments: &Arguments) -> StartResult<usize> {
    let mut all = Vec::new();
    for pid in pids {
        match places(*pid) {
            Ok(found) => all.extend(found),
            // A child may end while its parent is read; a process that was asked for by number must
            // not.
            Err(e) if arguments.pids.contains(pid) => return Err(e),
            Err(_) => {}
        }
    }
    let limit = arguments.max_mib.map_or(usize::MAX, |mib| mib.saturating_mul(1 << 20) / PAGE_SIZE);
    let taken = write_pages(&spread(all, limit, arguments.seed), &arguments.out)?;
    if taken == 0 {
        return Err(StartError::failure(
            "the processes hold no anonymous page in RAM",
            "choose processes that run and hold memory",
        ));
    }
    Ok(taken)
}

fn run(arguments: &Arguments) -> StartResult<usize> {
    if arguments.exec.is_empty() {
        return take(&arguments.pids, arguments);
    }
    let mut child = start(&arguments.exec)?;
    let taken =
        let_grow(&mut child, arguments.after_ms.map(Duration::from_millis)).and_then(|()| {
            let mut pids = arguments.pids.clone();
            pids.extend(family(child.id()));
            take(&pids, arguments)
        });
    end(child);
    taken
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let said = run(&arguments).map(|n| println!("{n} pages in {}", arguments.out.display()));
    uswap_bench::exit("capture", said)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(pages: u64) -> Vec<Place> {
        (0..pages).map(|i| Place { pid: 1, address: i * 4096, exclusive: true }).collect()
    }

    #[test]
    fn a_limited_capture_is_made_of_runs_from_everywhere() {
        let taken = spread(row(64_000), 6400, 3);
        assert_eq!(taken.len(), 6400);
        for run in taken.chunks_exact(RUN_PAGES) {
            assert!(run.windows(2).all(|w| w[1].address == w[0].address + 4096));
        }
        assert!(taken.windows(2).all(|w| w[0].address < w[1].address));
        assert!(taken[6399].address > 60_000 * 4096);
        assert_ne!(taken, spread(row(64_000), 6400, 1), "the seed moves the start");
        assert_eq!(spread(row(100), 6400, 1).len(), 100);
        assert_eq!(spread(row(100), 64, 1).len(), 64);
    }

    #[test]
    fn the_parent_is_found_behind_odd_names() {
        assert_eq!(parent("12 (a) b (c) S 7 12 12 0 -1"), Some(7));
        assert_eq!(parent("garbage"), None);
    }

    #[test]
    fn a_family_has_its_head() {
        let pid = std::process::id();
        assert!(family(pid).contains(&pid) && !places(pid).unwrap().is_empty());
    }
}

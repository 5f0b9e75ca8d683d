//! Notices a server that has stopped serving: requests wait, and none ends.
//!
//! Looks at the kernel's own counts of the device, so that it holds for any kind of standstill: a
//! thread in a loop, a process that somebody stopped, a lock that never comes free. Nothing is
//! asked of the threads that serve. A request may wait long for good reasons: for a slow disk, or,
//! for a bounded time, for room in the pool. The server says so in the control page, which counts
//! only while it goes on saying it.

use super::control_page::ControlPage;
use crate::stats::QueueStats;
use crate::sys::process::clock_us;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// How long no request may end while some wait. More than what a server takes on the slowest
/// machine, recoveries included, and well below what the kernel calls a hung task (120 s).
pub const STUCK_MAX_US: u64 = 15_000_000;
/// The longest time between two looks that still tell something together; it is looked once a
/// second.
const LOOK_MAX_US: u64 = 3_000_000;
/// How old what the server says of itself may be; it says it every two seconds.
const BEAT_MAX_US: u64 = 10_000_000;

/// What makes requests wait without anything being wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slow {
    throttled: u64,
    in_file: u64,
}

impl Slow {
    /// Now.
    pub fn of<'a>(queues: impl Iterator<Item = &'a QueueStats>) -> Self {
        queues.fold(Self::default(), |sum, stats| Self {
            throttled: sum.throttled + stats.throttled_tries.get(),
            in_file: sum.in_file + stats.file_begun.get().wrapping_sub(stats.file_ended.get()),
        })
    }

    /// Whether a file is waited for, or somebody was throttled since `before`; how long that may
    /// take is bounded.
    pub const fn is_excused(&self, before: &Self) -> bool {
        self.in_file > 0 || self.throttled != before.throttled
    }
}

/// One device, watched.
#[derive(Debug)]
pub struct Watchdog {
    stat: File,
    inflight: File,
    /// Requests ended when that was last seen to change, and when that was.
    progress: (u64, u64),
    looked_us: u64,
}

impl Watchdog {
    /// Watches `/dev/ublkbN`. Its files stay open, so that looking takes no memory.
    pub fn new(root: &Path, id: u32) -> io::Result<Self> {
        let dir = root.join(PathBuf::from(format!("sys/block/ublkb{id}")));
        let (stat, inflight) = (File::open(dir.join("stat"))?, File::open(dir.join("inflight"))?);
        let mut watchdog =
            Self { stat, inflight, progress: (0, clock_us()), looked_us: clock_us() };
        watchdog.look(clock_us());
        Ok(watchdog)
    }

    /// How long requests have waited without one of them ending, microseconds; 0 if none waits.
    fn look(&mut self, now_us: u64) -> u64 {
        // Linux Documentation/block/stat.rst: reads, writes, discards and flushes that ended.
        let Some(ended) = numbers(&self.stat, &[0, 4, 11, 15]) else { return 0 };
        let waiting = numbers(&self.inflight, &[0, 1]).unwrap_or(0);
        if ended != self.progress.0 || waiting == 0 {
            self.progress = (ended, now_us);
        }
        now_us.saturating_sub(self.progress.1)
    }

    /// Whether the server has stopped serving. Once it says so it begins anew.
    pub fn is_stuck(&mut self, page: &ControlPage) -> bool {
        let now = clock_us();
        if now.saturating_sub(self.looked_us) > LOOK_MAX_US {
            // What happened meanwhile is not known.
            self.progress.1 = now;
        }
        self.looked_us = now;
        let waited = self.look(now);
        let (beat, excused) = page.last_beat();
        let heard = now.saturating_sub(beat) < BEAT_MAX_US;
        let stuck = waited > STUCK_MAX_US && !(heard && excused);
        if stuck {
            self.progress.1 = now;
        }
        stuck
    }

    /// Somebody else serves from now on: he gets all the time there is.
    pub fn begin_anew(&mut self) {
        self.progress.1 = clock_us();
    }
}

/// Sum of the numbers at these places of a file's first line; none if it cannot be read.
fn numbers(file: &File, places: &[usize]) -> Option<u64> {
    let mut bytes = [0; 512];
    let len = file.read_at(&mut bytes, 0).ok()?;
    let text = std::str::from_utf8(&bytes[..len]).ok()?;
    let word = |place: usize| text.split_ascii_whitespace().nth(place)?.parse::<u64>().ok();
    // Older kernels have fewer columns.
    Some(places.iter().filter_map(|place| word(*place)).sum())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn waiting_without_an_end_is_being_stuck_unless_it_is_excused() {
        let root = tempfile::tempdir().expect("directory");
        let dir = root.path().join("sys/block/ublkb4");
        fs::create_dir_all(&dir).expect("directory");
        let set = |ended: u32, waiting: u32| {
            let stat = format!("{ended} 0 0 0 7 0 0 0 0 0 0 0 0 0 0 0 0\n");
            fs::write(dir.join("stat"), stat).expect("file");
            fs::write(dir.join("inflight"), format!("       {waiting}        0\n")).expect("file");
        };
        set(10, 0);
        let page = ControlPage::create(root.path(), 0).expect("page");
        let mut watchdog = Watchdog::new(root.path(), 4).expect("files");
        let begin = watchdog.progress.1;
        assert_eq!(watchdog.progress.0, 17);
        let late = begin + 2 * STUCK_MAX_US;
        assert_eq!(watchdog.look(late), 0, "nobody waits");
        set(10, 3);
        assert_eq!(watchdog.look(late + 5), 5);
        set(11, 3);
        assert_eq!(watchdog.look(late + 6), 0, "one has ended");
        watchdog.progress.1 = clock_us() - STUCK_MAX_US - 1;
        page.beat(true);
        assert!(!watchdog.is_stuck(&page), "excused");
        page.beat(false);
        assert!(watchdog.is_stuck(&page));
        assert!(!watchdog.is_stuck(&page), "it was told, and begins anew");
    }
}

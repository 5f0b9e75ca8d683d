//! Recording what the threads do, for `uswap trace record`: the server makes rings in its state
//! directory, its threads put events in, and the recorder, another process, takes them out and
//! writes the file. The server writes none and waits for nobody.
//!
//! The rings are made when somebody records first, and stay as long as the server: threads may be
//! about to put something in at any time.

use super::cannot;
use crate::error::{StartError, StartResult};
use crate::stats::Stats;
use crate::sys::clock;
use crate::sys::map::Words;
use crate::sys::process::Identity;
use crate::sys::statefs::{StateDir, reserve};
use crate::trace::Rings;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Their file in the state directory.
const FILE: &str = "trace";

/// How long a recorder may be silent: it says every few milliseconds that it lives, but may have
/// to wait for memory.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// What threads' clocks miss at least when the machine was suspended.
const SUSPEND_MIN: Duration = Duration::from_millis(100);

/// Where the rings of a service are.
pub fn rings_of(run_dir: &Path, name: &str) -> PathBuf {
    super::state::dir_of(run_dir, name).join(FILE)
}

/// Bytes of the rings of so many threads.
pub const fn ring_bytes(threads: usize) -> u64 {
    (Rings::words(threads) * size_of::<u64>()) as u64
}

/// When a recording began.
#[derive(Clone, Copy, Debug)]
struct Began {
    /// After boot.
    since_boot: Duration,
    /// By the clock of the threads, as they know it. The same for all of them: a page's write and
    /// what it became are events of two threads, whose order must not be that of when they were
    /// told.
    at: Instant,
}

/// The recording of a server.
#[derive(Debug, Default)]
pub struct Recording {
    rings: Option<&'static Rings>,
    /// When it began; none while nobody records.
    began: Option<Began>,
    /// The recorder's last sign of life, and when that was seen.
    beat: (u64, Duration),
}

impl Recording {
    /// Whether somebody records.
    pub const fn is_on(&self) -> bool {
        self.began.is_some()
    }

    /// Bytes of memory that it takes.
    pub fn memory_bytes(&self) -> u64 {
        self.rings.map_or(0, |rings| ring_bytes(rings.lanes().count()))
    }

    /// Lets somebody record. Makes the rings if there are none yet: blocks while the kernel finds
    /// the memory.
    pub fn begin(&mut self, dir: Option<&StateDir>, stats: &Stats) -> StartResult<String> {
        if self.is_on() && !self.is_silent() {
            return Err(StartError::failure(
                "somebody records this service already",
                "end that with Ctrl-C, or wait until it has ended",
            ));
        }
        self.end(stats);
        let rings = match self.rings {
            Some(rings) => rings,
            None => {
                let dir = dir.ok_or_else(|| {
                    let what = "this service has no state directory to share events in";
                    StartError::failure(what, "run it without --unsafe-no-lock, as root")
                })?;
                let rings = make(dir, stats.threads().count());
                rings.map_err(|e| cannot("make room for events", &e))?
            }
        };
        self.rings = Some(rings);
        let (now, at) = (clock::since_boot(), Instant::now());
        let number = rings.begin(now.as_micros() as u64);
        for (thread, lane) in stats.threads().zip(rings.lanes()) {
            thread.tap.begin(lane, number, at);
        }
        (self.began, self.beat) = (Some(Began { since_boot: now, at }), (rings.beats(), now));
        Ok("recording".to_owned())
    }

    /// Ends it, if somebody records.
    pub fn end(&mut self, stats: &Stats) {
        stats.threads().for_each(|thread| thread.tap.end());
        self.rings.iter().for_each(|rings| rings.end());
        self.began = None;
    }

    /// Looks after it; a line for the administrator when the recorder is gone.
    pub fn look(&mut self, stats: &Stats) -> Option<String> {
        let (rings, began) = (self.rings?, self.began.as_mut()?);
        let now = clock::since_boot();
        // Threads' clocks stand still during suspend. Less is how long the two looks are apart.
        let elapsed = now.saturating_sub(began.since_boot);
        let missed = elapsed.saturating_sub(began.at.elapsed());
        if missed > SUSPEND_MIN
            && let Some(at) = began.at.checked_sub(missed)
        {
            began.at = at;
            stats.threads().for_each(|thread| thread.tap.set_begun(at));
        }
        let beats = rings.beats();
        if beats != self.beat.0 {
            self.beat = (beats, now);
        }
        if !self.is_silent() {
            return None;
        }
        self.end(stats);
        Some(format!(
            "nobody has taken recorded events for {} s: recording has ended",
            SILENCE_MAX.as_secs()
        ))
    }

    fn is_silent(&self) -> bool {
        clock::since_boot().saturating_sub(self.beat.1) > SILENCE_MAX
    }
}

/// Makes the rings, in the place of those that a dead server has left: whoever still takes events
/// out of these keeps them.
fn make(dir: &StateDir, threads: usize) -> io::Result<&'static Rings> {
    let path = dir.path().join(FILE);
    match fs::remove_file(&path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let made = (|| {
        let bytes = ring_bytes(threads);
        let file = dir.file(FILE, bytes)?;
        // A page that is not there when it is touched would be the end of the server.
        reserve(&file, bytes)?;
        let words = Words::new(&file, Rings::words(threads))?;
        Ok(Rings::create(words, threads, Identity::own()?))
    })();
    match made {
        Ok(rings) => Ok(Box::leak(Box::new(rings))),
        Err(e) => {
            let _ = fs::remove_file(&path);
            Err(e)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{Kind, note};
    use crate::units::{QueueId, SlotIndex};
    use std::fs::File;

    fn open(dir: &StateDir) -> Rings {
        let file = File::options().read(true).write(true).open(dir.path().join(FILE));
        let file = file.expect("it is there");
        let words = file.metadata().expect("metadata").len() as usize / 8;
        Rings::open(Words::new(&file, words).expect("map")).expect("ours")
    }

    #[test]
    fn events_of_all_threads_arrive_while_it_is_on() {
        let place = tempfile::tempdir().expect("directory");
        let dir = StateDir::adopt(place.path());
        let (stats, mut recording) = (Stats::new(2, 1), Recording::default());
        let write = |slot: u32| {
            note(stats.queue(QueueId(0)), SlotIndex(slot), Kind::Write);
            note(stats.helper(0), SlotIndex(slot + 1), Kind::Spilled);
            note(stats.mover(), SlotIndex(slot + 2), Kind::NotDenser);
        };
        write(10);
        assert_eq!(recording.memory_bytes(), 0);
        recording.begin(Some(&dir), &stats).expect("memory");
        let rings = open(&dir);
        assert!(rings.is_on());
        write(20);
        let seen = |number| {
            let mut slots = Vec::new();
            rings.take(number, |event| slots.push(event.slot.0)).expect("whole");
            slots
        };
        assert_eq!(seen(1), [20, 21, 22]);
        let again = recording.begin(Some(&dir), &stats).expect_err("one at a time").to_string();
        assert!(again.starts_with("somebody records"), "{again}");
        recording.end(&stats);
        assert!(!rings.is_on() && !recording.is_on());
        write(30);
        write(40);
        recording.begin(None, &stats).expect("the rings are there");
        write(50);
        assert_eq!(rings.recording().0, 2);
        assert_eq!(seen(2), [50, 51, 52], "nothing of what was while it was off");
        let totals = |name: &str| {
            stats.totals().iter().find(|row| row.0 == name).map(|row| row.2).expect("a counter")
        };
        assert_eq!((totals("trace_events"), totals("trace_dropped_events")), (6, 0));
        std::mem::forget(dir);
    }

    #[test]
    fn a_recorder_that_is_silent_is_not_waited_for() {
        let place = tempfile::tempdir().expect("directory");
        let dir = StateDir::adopt(place.path());
        let (stats, mut recording) = (Stats::new(1, 1), Recording::default());
        recording.begin(Some(&dir), &stats).expect("memory");
        let rings = open(&dir);
        rings.beat();
        assert_eq!(recording.look(&stats), None);
        let long_ago = recording.beat.1.saturating_sub(2 * SILENCE_MAX);
        recording.beat.1 = long_ago;
        rings.beat();
        assert_eq!(recording.look(&stats), None, "it lives");
        recording.beat.1 = long_ago;
        let line = recording.look(&stats).expect("it is dead");
        assert!(line.contains("recording has ended") && !rings.is_on() && !recording.is_on());
        recording.begin(None, &stats).expect("the next one may");
        recording.beat.1 = long_ago;
        recording.begin(None, &stats).expect("and one in the place of a dead one");
        std::mem::forget(dir);
    }

    #[test]
    fn without_room_there_are_no_rings_and_no_file() {
        let stats = Stats::new(1, 0);
        let error = Recording::default().begin(None, &stats).expect_err("nowhere").to_string();
        assert!(error.contains("no state directory"), "{error}");
        let place = tempfile::tempdir().expect("directory");
        let dir = StateDir::adopt(&place.path().join("none"));
        assert!(Recording::default().begin(Some(&dir), &stats).is_err());
        std::mem::forget(dir);
    }
}

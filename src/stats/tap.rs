//! Where a thread's events go while somebody records them: into a ring of its own. One that is not
//! emptied fast enough drops what is new, and counts that; nobody waits.
//!
//! The ring is memory that another process shares. One thread puts in, one process takes out: each
//! writes its own position and reads the other's. What the other process writes there is not
//! believed: it can make events go missing, and nothing else.
//!
//! While nobody records, an event costs a load and a branch.

use super::Counter;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Events that a ring holds: 1 MiB of them.
pub const LANE_EVENTS: usize = 64 << 10;
/// Words in front of the events: a page.
const FIRST: usize = 512;
/// Words of a ring.
pub const LANE_WORDS: usize = FIRST + 2 * LANE_EVENTS;

/// Events put in, wrapping.
const HEAD: usize = 0;
/// Events dropped, wrapping.
const DROPPED: usize = 1;
/// Events taken out, wrapping. On a line of its own, and the one beside it: it is written by
/// whoever takes.
const TAIL: usize = 16;

const _: () = assert!(LANE_EVENTS.is_power_of_two());

/// An event as it is in a ring.
pub type Packed = [u64; 2];

/// The ring of one thread.
#[derive(Clone, Copy, Debug)]
pub struct Lane<'a>(&'a [AtomicU64; LANE_WORDS]);

impl<'a> Lane<'a> {
    /// The ring in these words, all zero or used as one before; `None` unless there are
    /// [`LANE_WORDS`] of them.
    pub fn over(words: &'a [AtomicU64]) -> Option<Self> {
        words.try_into().ok().map(Self)
    }

    /// Puts an event in; false, and it is counted, if there is no room. `tail` is where whoever
    /// takes was seen last. Only for the one thread that puts in. Does not wait.
    #[inline]
    fn put(self, [first, second]: Packed, tail: &Counter) -> bool {
        let head = self.0[HEAD].load(Ordering::Relaxed);
        if head.wrapping_sub(tail.get()) >= LANE_EVENTS as u64 {
            tail.set(self.0[TAIL].load(Ordering::Acquire));
            if head.wrapping_sub(tail.get()) >= LANE_EVENTS as u64 {
                let dropped = self.0[DROPPED].load(Ordering::Relaxed).wrapping_add(1);
                self.0[DROPPED].store(dropped, Ordering::Relaxed);
                return false;
            }
        }
        let at = place(head);
        self.0[at].store(first, Ordering::Relaxed);
        self.0[at + 1].store(second, Ordering::Relaxed);
        self.0[HEAD].store(head.wrapping_add(1), Ordering::Release);
        true
    }

    /// Takes out what is there, at most a ring full. Only for one at a time. `None`, with the ring
    /// empty afterwards, if its positions cannot be: somebody else takes out as well.
    pub fn take(self, mut each: impl FnMut(Packed)) -> Option<()> {
        let head = self.0[HEAD].load(Ordering::Acquire);
        let tail = self.0[TAIL].load(Ordering::Relaxed);
        let count = head.wrapping_sub(tail);
        let good = count <= LANE_EVENTS as u64;
        for i in 0..if good { count } else { 0 } {
            let at = place(tail.wrapping_add(i));
            each([self.0[at].load(Ordering::Relaxed), self.0[at + 1].load(Ordering::Relaxed)]);
        }
        // Releases the loads above: nothing is put there before they are done.
        self.0[TAIL].store(head, Ordering::Release);
        good.then_some(())
    }

    /// Events that were dropped so far, wrapping.
    pub fn dropped(self) -> u64 {
        self.0[DROPPED].load(Ordering::Relaxed)
    }
}

/// Where an event is.
#[inline]
const fn place(number: u64) -> usize {
    FIRST + 2 * (number as usize & (LANE_EVENTS - 1))
}

/// What a thread has of the recording.
#[derive(Debug)]
pub struct Tap {
    on: AtomicBool,
    lane: OnceLock<Lane<'static>>,
    /// Any moment, that `begun` is counted from.
    origin: Instant,
    /// Nanoseconds from there to the start of the recording; wraps, as it may be before.
    begun: AtomicU64,
    recording: AtomicU64,
    /// The thread's own: the time of what it does, in microseconds of the recording.
    time_us: Counter,
    /// The thread's own, see [`Lane::put`].
    tail: Counter,
}

impl Default for Tap {
    fn default() -> Self {
        Self {
            on: AtomicBool::new(false),
            lane: OnceLock::new(),
            origin: Instant::now(),
            begun: AtomicU64::new(0),
            recording: AtomicU64::new(0),
            time_us: Counter::default(),
            tail: Counter::default(),
        }
    }
}

impl Tap {
    /// Whether events are recorded.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Acquire)
    }

    /// From here on the thread's events happen at this moment; never before those that it has
    /// put already. Only for the thread. Nothing unless it is on.
    #[inline]
    pub fn set_time(&self, moment: Instant) {
        if self.is_on() {
            let since = nanoseconds(moment.saturating_duration_since(self.origin));
            let since = since.wrapping_sub(self.begun.load(Ordering::Relaxed)) as i64;
            self.time_us.set(self.time_us.get().max(since.max(0) as u64 / 1000));
        }
    }

    /// Number of the recording, and the time as by [`Tap::set_time`].
    #[inline]
    pub fn moment(&self) -> (u8, u64) {
        (self.recording.load(Ordering::Relaxed) as u8, self.time_us.get())
    }

    /// Puts an event in; false if it was dropped. Only for the thread. Does not wait or allocate.
    #[inline]
    pub fn put(&self, event: Packed) -> bool {
        self.lane.get().is_some_and(|lane| lane.put(event, &self.tail))
    }

    /// What the clock said at the time of the thread's latest events, or `moment` while it is off:
    /// for another thread's events that belong to them. Only for the thread.
    #[inline]
    pub fn latest(&self, moment: Instant) -> Instant {
        if !self.is_on() {
            return moment;
        }
        let since = self.begun.load(Ordering::Relaxed).wrapping_add(self.time_us.get() * 1000);
        // Before the origin there was no thread.
        self.origin + Duration::from_nanos((since as i64).max(0) as u64)
    }

    /// Begins to record as number `recording`, to `lane` or whatever ring was given first. `at`:
    /// now, and the same for all threads, whose events are put in one order. For the control
    /// thread, while it is off.
    pub fn begin(&self, lane: Lane<'static>, recording: u8, at: Instant) {
        self.lane.get_or_init(|| lane);
        self.recording.store(recording.into(), Ordering::Relaxed);
        self.set_begun(at);
        self.time_us.set(0);
        self.on.store(true, Ordering::Release);
    }

    /// Says when it began, by the clock of the thread: earlier, if that stood still during a
    /// suspend. For the control thread.
    pub fn set_begun(&self, at: Instant) {
        let after = nanoseconds(at.saturating_duration_since(self.origin));
        let before = nanoseconds(self.origin.saturating_duration_since(at));
        self.begun.store(after.wrapping_sub(before), Ordering::Relaxed);
    }

    /// Ends it. The thread may be about to put one more event in. For the control thread.
    pub fn end(&self) {
        self.on.store(false, Ordering::Release);
    }
}

/// Enough for centuries.
#[inline]
const fn nanoseconds(duration: Duration) -> u64 {
    duration.as_secs() * 1_000_000_000 + duration.subsec_nanos() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    fn lane() -> Lane<'static> {
        let words: Vec<AtomicU64> = (0..LANE_WORDS).map(|_| AtomicU64::new(0)).collect();
        Lane::over(words.leak()).expect("enough")
    }

    fn all(lane: Lane<'_>) -> Vec<Packed> {
        let mut events = Vec::new();
        lane.take(|event| events.push(event)).expect("whole");
        events
    }

    #[test]
    fn what_does_not_fit_is_dropped_and_counted_and_the_rest_is_in_order() {
        let (lane, tail) = (lane(), Counter::default());
        let full = LANE_EVENTS as u64;
        for round in 0..3 {
            for i in 0..full + 5 {
                assert_eq!(lane.put([round, i], &tail), i < full);
            }
            let events = all(lane);
            assert!(events.into_iter().eq((0..full).map(|i| [round, i])));
            assert_eq!(lane.dropped(), 5 * (round + 1));
            assert!(all(lane).is_empty());
        }
    }

    #[test]
    fn positions_that_cannot_be_are_told_and_mended() {
        for tail_at in [1, u64::MAX, u64::MAX / 2] {
            let (lane, tail) = (lane(), Counter::default());
            lane.0[TAIL].store(tail_at, Ordering::Relaxed);
            (0..2 * LANE_EVENTS as u64).for_each(|i| {
                lane.put([i, i], &tail);
            });
            let _ = lane.take(|_| ());
            assert!(all(lane).is_empty(), "{tail_at}");
            assert!(lane.put([7, 8], &tail));
            assert_eq!(all(lane), [[7, 8]]);
        }
        let lane = lane();
        lane.0[HEAD].store(LANE_EVENTS as u64 + 1, Ordering::Relaxed);
        assert_eq!(lane.take(|_| panic!("nothing")), None);
    }

    #[test]
    fn another_thread_sees_every_event_once() {
        const COUNT: u64 = 300_000;
        let lane = lane();
        let put = thread::spawn(move || {
            let tail = Counter::default();
            (0..COUNT).filter(|&i| lane.put([i, !i], &tail)).count() as u64
        });
        let (mut seen, mut last) = (0, None);
        loop {
            let ended = put.is_finished();
            let each = |[first, second]: Packed| {
                assert_eq!(second, !first, "half of one event and half of another");
                assert!(last < Some(first), "in order");
                (last, seen) = (Some(first), seen + 1);
            };
            lane.take(each).expect("whole");
            if ended {
                break;
            }
        }
        assert_eq!(seen, put.join().expect("no panic"));
        assert_eq!(seen + lane.dropped(), COUNT);
    }

    #[test]
    fn time_is_that_of_the_recording_and_never_goes_back() {
        let tap = Tap::default();
        let before = Instant::now();
        tap.set_time(before);
        assert_eq!((tap.moment(), tap.latest(before)), ((0, 0), before), "it is off");
        let begin = Instant::now();
        tap.begin(lane(), 9, begin);
        tap.set_time(before);
        assert_eq!(tap.moment(), (9, 0), "before the start is at the start");
        tap.set_time(begin + Duration::from_millis(5));
        assert_eq!(tap.moment().1, 5000);
        tap.set_time(begin + Duration::from_millis(3));
        assert_eq!(tap.moment().1, 5000);
        assert_eq!(tap.latest(before), begin + Duration::from_millis(5));
        // A second of suspend.
        tap.set_begun(begin - Duration::from_secs(1));
        tap.set_time(begin);
        assert_eq!(tap.moment().1, 1_000_000);
        assert!(tap.put([1, 2]));
        tap.end();
        assert!(!tap.is_on());
        tap.begin(lane(), 10, begin);
        tap.set_time(begin);
        assert_eq!(tap.moment(), (10, 0));
        assert_eq!(all(*tap.lane.get().expect("one")), [[1, 2]], "the first ring stays");
    }
}

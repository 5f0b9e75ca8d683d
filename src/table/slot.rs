//! The lock bit of a slot, and publication under it.

use super::entry::{Entry, LOCK};
use super::touch::{self, TOUCH_MASK, Touch};
use crate::chaos::{crash_point, is_alone, is_crashing};
use std::sync::atomic::{AtomicU64, Ordering};

/// Tries with a pause instruction before the thread gives up its time slice: longer than the copy
/// of one object takes, so that a yield means the holder was preempted.
const SPINS: u32 = 100;

/// The atomic operations that a slot needs. A trait so that the model checker runs the code below
/// with its own atomics.
pub trait Word {
    /// Load, ordered before everything after it.
    fn acquire(&self) -> u64;
    /// Store, ordered after everything before it.
    fn release(&self, raw: u64);
    /// Replaces `seen` by `new`, ordered before everything after it; false if the word was not
    /// `seen`, or by chance.
    fn exchange(&self, seen: u64, new: u64) -> bool;
    /// Waits a little; `tries` is how often it was called before.
    fn relax(tries: u32);
}

impl Word for AtomicU64 {
    #[inline]
    fn acquire(&self) -> u64 {
        self.load(Ordering::Acquire)
    }

    #[inline]
    fn release(&self, raw: u64) {
        crash_point();
        self.store(raw, Ordering::Release);
    }

    #[inline]
    fn exchange(&self, seen: u64, new: u64) -> bool {
        crash_point();
        self.compare_exchange_weak(seen, new, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    #[inline]
    fn relax(tries: u32) {
        assert!(!is_alone(), "a slot stays locked for ever");
        if tries < SPINS {
            std::hint::spin_loop();
        } else {
            std::thread::yield_now();
        }
    }
}

/// A locked slot; dropping it unlocks.
#[derive(Debug)]
pub struct SlotGuard<'a, W: Word> {
    word: &'a W,
    /// The word as it is now, without the lock bit. Nobody else writes while the bit is set.
    raw: u64,
}

impl<'a, W: Word> SlotGuard<'a, W> {
    /// Locks `word`. Spins, then yields, until it is free.
    #[inline]
    pub(super) fn lock(word: &'a W) -> Self {
        let mut tries = 0;
        loop {
            let seen = word.acquire();
            if seen & LOCK == 0 && word.exchange(seen, seen | LOCK) {
                return Self { word, raw: seen };
            }
            W::relax(tries);
            tries = tries.saturating_add(1);
        }
    }

    /// The entry under the lock: the object it names stays until the guard is dropped.
    #[inline]
    pub fn entry(&self) -> Entry {
        Entry::unpack(self.raw)
    }

    /// The touch under the lock.
    #[inline]
    pub fn touch(&self) -> Touch {
        touch::unpack(self.raw)
    }

    /// Notes a read in the touch, with the store that unlocks. Empty slots have no touch.
    #[inline]
    pub fn note_read(&mut self, tick: u8) {
        if self.raw != 0 {
            self.raw = self.raw & !TOUCH_MASK | touch::pack(self.touch().read(tick));
        }
    }

    /// Makes `new` the entry with one store, still locked, and returns the one before. What the old
    /// entry names is the caller's to free, after the guard is dropped.
    #[inline]
    pub fn publish(&mut self, new: Entry, touch: Touch) -> Entry {
        let old = self.entry();
        self.raw = new.pack() | touch::pack(touch);
        self.word.release(self.raw | LOCK);
        old
    }
}

/// Gives the slot another touch if it is unlocked and still as it was seen. False otherwise, and
/// sometimes by chance: whoever goes over the table comes by again.
#[inline]
pub(super) fn retouch<W: Word>(word: &W, seen: (Entry, Touch), touch: Touch) -> bool {
    if seen.0 == Entry::Unknown {
        return false;
    }
    let entry = seen.0.pack();
    word.exchange(entry | touch::pack(seen.1), entry | touch::pack(touch))
}

impl<W: Word> Drop for SlotGuard<'_, W> {
    #[inline]
    fn drop(&mut self) {
        if !is_crashing() {
            self.word.release(self.raw);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{DictionaryVersion, Location};
    use loom::sync::atomic::{AtomicU64 as LoomU64, AtomicUsize};
    use std::sync::Arc;

    impl Word for LoomU64 {
        fn acquire(&self) -> u64 {
            self.load(Ordering::Acquire)
        }

        fn release(&self, raw: u64) {
            self.store(raw, Ordering::Release);
        }

        fn exchange(&self, seen: u64, new: u64) -> bool {
            self.compare_exchange_weak(seen, new, Ordering::Acquire, Ordering::Relaxed).is_ok()
        }

        fn relax(_: u32) {
            loom::thread::yield_now();
        }
    }

    fn object(units: u64) -> Entry {
        let tried = DictionaryVersion::NONE;
        Entry::Lz4 { at: Location::from_units(units), len: 1, tried }
    }

    fn place(entry: Entry) -> usize {
        match entry {
            Entry::Lz4 { at, .. } => at.units() as usize,
            other => panic!("expected an object, found {other:?}"),
        }
    }

    /// One slot and three places for objects. The places are plain memory to the checker in all but
    /// name: their loads and stores are relaxed, so only the slot protocol orders them. 0 stands
    /// for a freed object.
    struct Model {
        slot: LoomU64,
        places: [AtomicUsize; 3],
    }

    impl Model {
        fn write(&self, to: usize, value: usize) {
            self.places[to].store(value, Ordering::Relaxed);
            let mut guard = SlotGuard::lock(&self.slot);
            let old = guard.publish(object(to as u64), Touch::default());
            drop(guard);
            self.places[place(old)].store(0, Ordering::Relaxed);
        }

        fn read(&self) -> usize {
            let guard = SlotGuard::lock(&self.slot);
            self.places[place(guard.entry())].load(Ordering::Relaxed)
        }
    }

    fn model() -> Arc<Model> {
        Arc::new(Model {
            slot: LoomU64::new(object(0).pack()),
            places: [AtomicUsize::new(10), AtomicUsize::new(0), AtomicUsize::new(0)],
        })
    }

    #[test]
    fn no_reader_sees_a_freed_or_unfinished_object() {
        loom::model(|| {
            let model = model();
            let other = Arc::clone(&model);
            let writer = loom::thread::spawn(move || other.write(1, 11));
            assert!([10, 11].contains(&model.read()));
            writer.join().expect("writer");
            assert_eq!(model.read(), 11);
        });
    }

    #[test]
    fn of_two_writers_one_wins_and_each_frees_another_object() {
        loom::model(|| {
            let model = model();
            let other = Arc::clone(&model);
            let writer = loom::thread::spawn(move || other.write(1, 11));
            model.write(2, 12);
            writer.join().expect("writer");
            let left = [0, 1, 2].map(|i| model.places[i].load(Ordering::Relaxed));
            assert!([[0, 11, 0], [0, 0, 12]].contains(&left), "{left:?}");
            assert!(left.contains(&model.read()));
        });
    }

    impl Model {
        /// As `Store::settle` and its caller do: place 0 is the staged page's, and is used for
        /// something else afterwards, whether the page moved or was out of date.
        fn settle(&self, to: usize, value: usize) {
            self.places[to].store(value, Ordering::Relaxed);
            let mut guard = SlotGuard::lock(&self.slot);
            let moved = place(guard.entry()) == 0;
            if moved {
                guard.publish(object(to as u64), Touch::default());
            }
            drop(guard);
            if !moved {
                self.places[to].store(0, Ordering::Relaxed);
            }
            self.places[0].store(0, Ordering::Relaxed);
        }

        /// As `write`, but what is in place 0 is its owner's to use again.
        fn overwrite(&self, to: usize, value: usize) {
            self.places[to].store(value, Ordering::Relaxed);
            let mut guard = SlotGuard::lock(&self.slot);
            let old = place(guard.publish(object(to as u64), Touch::written(1)));
            drop(guard);
            if old != 0 {
                self.places[old].store(0, Ordering::Relaxed);
            }
        }
    }

    #[test]
    fn no_reader_sees_a_request_buffer_that_is_used_again() {
        loom::model(|| {
            let model = model();
            let other = Arc::clone(&model);
            let settler = loom::thread::spawn(move || other.settle(1, 10));
            assert_eq!(model.read(), 10);
            settler.join().expect("settler");
            assert_eq!(model.read(), 10);
        });
    }

    #[test]
    fn an_overwrite_wins_against_the_settling_of_what_it_replaced() {
        loom::model(|| {
            let model = model();
            let other = Arc::clone(&model);
            let settler = loom::thread::spawn(move || other.settle(1, 10));
            model.overwrite(2, 12);
            assert_eq!(model.read(), 12);
            settler.join().expect("settler");
            assert_eq!(model.read(), 12);
            let left = [0, 1, 2].map(|i| model.places[i].load(Ordering::Relaxed));
            assert_eq!(left, [0, 0, 12], "nothing is lost and nothing is kept twice");
        });
    }

    impl Model {
        /// As compaction does with the object in place 0.
        fn compact(&self, to: usize) {
            let mut guard = SlotGuard::lock(&self.slot);
            let moved = place(guard.entry()) == 0;
            if moved {
                let value = self.places[0].load(Ordering::Relaxed);
                self.places[to].store(value, Ordering::Relaxed);
                let touch = guard.touch();
                guard.publish(object(to as u64), touch);
            }
            drop(guard);
            if moved {
                self.places[0].store(0, Ordering::Relaxed);
            }
        }

        fn read_and_touch(&self, tick: u8) -> usize {
            let mut guard = SlotGuard::lock(&self.slot);
            guard.note_read(tick);
            self.places[place(guard.entry())].load(Ordering::Relaxed)
        }

        fn seen(&self) -> (Entry, Touch) {
            let raw = self.slot.load(Ordering::Acquire);
            (Entry::unpack(raw), touch::unpack(raw))
        }
    }

    #[test]
    fn a_reader_and_an_overwrite_meet_compaction() {
        loom::model(|| {
            let model = model();
            let other = Arc::clone(&model);
            let mover = loom::thread::spawn(move || other.compact(1));
            assert_eq!(model.read_and_touch(9), 10);
            model.write(2, 12);
            mover.join().expect("mover");
            assert_eq!(model.read(), 12);
            let left = [0, 1, 2].map(|i| model.places[i].load(Ordering::Relaxed));
            assert_eq!(left, [0, 0, 12], "nothing is lost and nothing is kept twice");
        });
    }

    #[test]
    fn a_touch_noted_by_a_reader_is_not_undone() {
        loom::model(|| {
            let model = model();
            let other = Arc::clone(&model);
            let hand = loom::thread::spawn(move || {
                let seen = other.seen();
                let held = Touch { stamp: 3, ..seen.1 };
                retouch(&other.slot, seen, held)
            });
            assert_eq!(model.read_and_touch(9), 10);
            let changed = hand.join().expect("hand");
            let (_, touch) = model.seen();
            assert_eq!(touch.mark, uswap_policy::Mark::WRITTEN.read());
            assert!(touch.stamp == 9 || changed, "{touch:?}");
        });
    }

    #[test]
    fn publication_keeps_the_lock_until_the_guard_goes() {
        let word = AtomicU64::new(0);
        let mut guard = SlotGuard::lock(&word);
        assert_eq!(guard.publish(object(7), Touch::written(5)), Entry::Empty);
        assert_eq!(word.load(Ordering::Relaxed) & LOCK, LOCK);
        drop(guard);
        assert_eq!(Entry::unpack(word.load(Ordering::Relaxed)), object(7));
        assert_eq!(word.load(Ordering::Relaxed) & LOCK, 0);
    }
}

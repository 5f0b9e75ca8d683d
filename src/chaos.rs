//! Crash points and planted bugs, for the simulation (`tests/simulation`): compiled only into
//! tests,
//! nothing anywhere else.
//!
//! A crash point stands before every store to memory that outlives the process. A test arms one of
//! the next points; reaching it ends the thread's work by unwinding, during which nothing is stored
//! there any more: locks stay locked. What private memory held is then dropped, and the store is
//! attached anew.
//!
//! A planted bug is a mistake that somebody could make, switched on for a thread, to see that the
//! simulation finds it.

macro_rules! bugs {
    ($($(#[doc = $help:literal])+ $name:ident,)+) => {
        /// Mistakes that can be switched on.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Bug {
            $($(#[doc = $help])+ $name,)+
        }

        impl Bug {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)+];
        }
    };
}

bugs! {
    /// Compaction publishes an object's new place before it is copied there.
    PublishBeforeCopy,
    /// A write frees the old object before the new one is published.
    FreeBeforePublish,
    /// A write request is committed before the slots name its pages.
    CommitBeforeStage,
    /// The driver does not issue again what was in flight when the server died.
    ReissueForgotten,
    /// A segment's slots are published although it did not reach the disk.
    WriteErrorIgnored,
    /// The bytes are not compared when a spilled slot is published.
    StaleMove,
    /// A rebuild does not hand staged pages to the backlog.
    BacklogForgotten,
    /// A rebuild does not count what slots name in a segment.
    StaleLiveCount,
    /// A rebuild does not count objects made with a dictionary.
    DictionaryUncounted,
    /// Dictionaries are not written down.
    DictionaryUnwritten,
    /// A rebuild does not say whose the huge pages are.
    OwnerForgotten,
    /// A rebuild leaves locks as they are.
    LockLeft,
    /// The size class of a slab is not written down.
    SlabClassUnwritten,
    /// The number of a segment's next write is not written down.
    SequenceReused,
    /// Slabs whose memory is gone stay marked as there.
    AbsentUnwritten,
    /// A server writes to the spill without its lock.
    LockNotTaken,
    /// A segment that empties while it is cleaned is free before its cleaning ends.
    VictimFreed,
    /// A segment is marked as written after slots name what is in it.
    FillAfterPublish,
    /// A staged page's buffer is somebody else's before the slot names its object.
    BufferFreedEarly,
    /// A dictionary is withdrawn while objects made with it are counted.
    DictionaryWithdrawn,
}

#[cfg(any(test, feature = "simulation"))]
pub use armed::{
    Crash, arm, be_alone, crash_point, ignore_seals, is_alone, is_crashing, note_seal, plant,
    planted, recovered, watch_seals,
};

#[cfg(any(test, feature = "simulation"))]
mod armed {
    use crate::chaos::Bug;
    use std::cell::{Cell, RefCell};
    use std::collections::BTreeSet;

    thread_local! {
        static SEALED: RefCell<Option<BTreeSet<(u64, u32)>>> = const { RefCell::new(None) };
        static LEFT: Cell<u64> = const { Cell::new(0) };
        static CRASHING: Cell<bool> = const { Cell::new(false) };
        static ALONE: Cell<bool> = const { Cell::new(false) };
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// What a crash unwinds with.
    #[derive(Debug)]
    pub struct Crash;

    /// Makes this thread crash at the crash point that is `points` ahead; 0: at none.
    pub fn arm(points: u64) {
        LEFT.set(points);
    }

    /// Before a store to memory that outlives the process.
    #[inline]
    pub fn crash_point() {
        let left = LEFT.get();
        if left > 0 {
            LEFT.set(left - 1);
            if left == 1 {
                CRASHING.set(true);
                std::panic::resume_unwind(Box::new(Crash));
            }
        }
    }

    /// Whether this thread unwinds from a crash point, so that nothing may be stored any more.
    #[inline]
    pub fn is_crashing() -> bool {
        CRASHING.get()
    }

    /// The thread's private memory is gone: the next process begins.
    pub fn recovered() {
        CRASHING.set(false);
        LEFT.set(0);
    }

    /// Says that this thread does everything, so that nobody else can hold a lock.
    pub fn be_alone() {
        ALONE.set(true);
    }

    /// Whether it does.
    #[inline]
    pub fn is_alone() -> bool {
        ALONE.get()
    }

    /// From here on this thread seals everything with one new key.
    pub fn watch_seals() {
        SEALED.set(Some(BTreeSet::new()));
    }

    /// From here on nobody looks what is sealed as what.
    pub fn ignore_seals() {
        SEALED.set(None);
    }

    /// Something is sealed at this place. Panics if that was done before: no nonce is used twice.
    pub fn note_seal(sequence: u64, unit: u32) {
        let new = SEALED.with_borrow_mut(|sealed| {
            sealed.as_mut().is_none_or(|sealed| sealed.insert((sequence, unit)))
        });
        assert!(new, "unit {unit} of write {sequence} is sealed twice");
    }

    /// Switches a bug on, or all off.
    pub fn plant(bug: Option<Bug>) {
        PLANTED.set(bug);
    }

    /// Whether this bug is on.
    #[inline]
    pub fn planted(bug: Bug) -> bool {
        PLANTED.get() == Some(bug)
    }
}

/// Before a store to memory that outlives the process.
#[cfg(not(any(test, feature = "simulation")))]
#[inline(always)]
pub const fn crash_point() {}

/// Whether this thread unwinds from a crash point.
#[cfg(not(any(test, feature = "simulation")))]
#[inline(always)]
pub const fn is_crashing() -> bool {
    false
}

/// Whether this thread does everything, so that nobody else can hold a lock.
#[cfg(not(any(test, feature = "simulation")))]
#[inline(always)]
pub const fn is_alone() -> bool {
    false
}

/// Something is sealed at this place.
#[cfg(not(any(test, feature = "simulation")))]
#[inline(always)]
pub const fn note_seal(_: u64, _: u32) {}

/// Whether a bug is on.
#[cfg(not(any(test, feature = "simulation")))]
#[inline(always)]
pub const fn planted(_: Bug) -> bool {
    false
}

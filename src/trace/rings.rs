//! The rings of all threads, as one file that the server and the recorder share.
//!
//! A page of words comes first, then a ring for each thread. The server begins and ends a
//! recording; the recorder takes events out and says that it lives.

use super::note::unpack;
use super::{Event, TraceError};
use crate::stats::tap::{LANE_WORDS, Lane};
use crate::sys::map::Words;
use crate::sys::process::Identity;
use std::sync::atomic::{AtomicU64, Ordering};

const MAGIC: usize = 0;
const LANES: usize = 1;
/// Which recording it is, from 1; 0 before the first.
const NUMBER: usize = 2;
/// Whether it goes on.
const ON: usize = 3;
/// When it began, microseconds after boot.
const BEGAN: usize = 4;
const SERVER_PID: usize = 5;
const SERVER_BEGAN: usize = 6;
/// Raised by the recorder while it lives.
const BEAT: usize = 7;
/// Words before the first ring.
const FIRST: usize = 512;

/// Changes with the layout of what is shared.
const VERSION: u64 = u64::from_le_bytes(*b"ustrcr01");

/// The rings of a server's threads.
#[derive(Debug)]
pub struct Rings {
    words: Words,
}

impl Rings {
    /// Words of the file for so many threads.
    pub const fn words(lanes: usize) -> usize {
        FIRST + lanes * LANE_WORDS
    }

    /// New rings in words that are all zero: for the server that they are of.
    pub fn create(words: Words, lanes: usize, server: Identity) -> Self {
        for (at, value) in [
            (LANES, lanes as u64),
            (SERVER_PID, server.pid.into()),
            (SERVER_BEGAN, server.began),
            (MAGIC, VERSION),
        ] {
            words[at].store(value, Ordering::Release);
        }
        Self { words }
    }

    /// The rings that a server has made; what of them is not so is an error.
    pub fn open(words: Words) -> Result<Self, TraceError> {
        let rings = Self { words };
        let long = rings.words.len() >= FIRST && rings.load(MAGIC) == VERSION;
        match long
            && usize::try_from(rings.load(LANES))
                .is_ok_and(|lanes| lanes.checked_mul(LANE_WORDS) == Some(rings.words.len() - FIRST))
        {
            true => Ok(rings),
            false => Err(TraceError::Unfit("the rings of a server of another version")),
        }
    }

    fn load(&self, at: usize) -> u64 {
        self.words[at].load(Ordering::Acquire)
    }

    fn store(&self, at: usize, value: u64) {
        self.words[at].store(value, Ordering::Release);
    }

    /// The rings.
    pub fn lanes(&self) -> impl Iterator<Item = Lane<'_>> {
        let words: &[AtomicU64] = &self.words;
        words[FIRST..].chunks_exact(LANE_WORDS).filter_map(Lane::over)
    }

    /// Empties the rings for another recording, which begins now; its number. For the server.
    pub fn begin(&self, now_us: u64) -> u8 {
        // What is put in by a thread that has not seen yet that the last one ended has its number.
        for lane in self.lanes() {
            let _ = lane.take(|_| ());
        }
        let number = self.load(NUMBER) as u8;
        let number = number.wrapping_add(1);
        self.store(NUMBER, number.into());
        self.store(BEGAN, now_us);
        self.store(ON, 1);
        number
    }

    /// Ends it. For the server.
    pub fn end(&self) {
        self.store(ON, 0);
    }

    /// Which recording it is, and when it began, microseconds after boot.
    pub fn recording(&self) -> (u8, u64) {
        (self.load(NUMBER) as u8, self.load(BEGAN))
    }

    /// Whether it goes on.
    pub fn is_on(&self) -> bool {
        self.load(ON) == 1
    }

    /// The server that these rings are of.
    pub fn server(&self) -> Identity {
        let pid = u32::try_from(self.load(SERVER_PID)).unwrap_or(0);
        Identity { pid, began: self.load(SERVER_BEGAN) }
    }

    /// Says that the recorder lives. For the recorder.
    pub fn beat(&self) {
        self.words[BEAT].fetch_add(1, Ordering::Relaxed);
    }

    /// How often the recorder has said so.
    pub fn beats(&self) -> u64 {
        self.load(BEAT)
    }

    /// Events of all recordings that were dropped so far, wrapping.
    pub fn dropped(&self) -> u64 {
        self.lanes().fold(0, |sum, lane| sum.wrapping_add(lane.dropped()))
    }

    /// Takes out the events of recording `number`. An error if what is there is none.
    pub fn take(&self, number: u8, mut each: impl FnMut(Event)) -> Result<(), TraceError> {
        let mut good = true;
        for lane in self.lanes() {
            let taken = lane.take(|packed| match unpack(packed) {
                Some((event, of)) if of == number => each(event),
                // Of the one before.
                Some(_) => {}
                None => good = false,
            });
            good &= taken.is_some();
        }
        if good { Ok(()) } else { Err(TraceError::Unfit("what is in a ring")) }
    }
}

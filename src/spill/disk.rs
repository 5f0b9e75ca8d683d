//! What the writer asks of a file or device.

use crate::limits::SPILL_DRAFTS;
use crate::sys::buffers::IoBuf;
use crate::sys::spill_ring::{SpillRing, TRANSFERS};

/// Names a transfer among those under way. Its value is the writer's choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token(pub usize);

/// A transfer between a buffer and the spill, in whole blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    /// Write, or read.
    pub write: bool,
    /// First byte in the spill.
    pub at: u64,
    /// Bytes, from the start of the buffer.
    pub len: usize,
}

/// A transfer that has ended.
#[derive(Debug)]
pub struct Ended {
    /// Which.
    pub token: Token,
    /// Its buffer.
    pub buffer: IoBuf,
    /// All of it was moved; or an errno, and nobody knows how much was.
    pub result: Result<(), i32>,
}

/// A file or device whose transfers go on while the caller does something else.
pub trait Disk {
    /// Begins a transfer. A few may be under way, each with its own token. Does not wait.
    fn start(&mut self, token: Token, job: Job, buffer: IoBuf);

    /// A transfer that has ended, in any order. With `wait` it waits for one, but not for ever:
    /// `None` when none has ended for a second or so, and when none is under way.
    fn end(&mut self, wait: bool) -> Option<Ended>;

    /// Takes the lock that whoever writes there holds until the last of its transfers has ended,
    /// whether it lives that long or not. False as long as somebody else has it. Does not wait.
    fn take_lock(&mut self) -> bool;
}

const _: () = assert!(SPILL_DRAFTS < TRANSFERS, "the drafts, and a segment being read");

impl Disk for SpillRing {
    fn start(&mut self, token: Token, job: Job, buffer: IoBuf) {
        Self::start(self, token.0, job.write, job.at, job.len, buffer);
    }

    fn end(&mut self, wait: bool) -> Option<Ended> {
        let (number, buffer, result) = Self::end(self, wait)?;
        Some(Ended { token: Token(number), buffer, result })
    }

    fn take_lock(&mut self) -> bool {
        Self::take_lock(self)
    }
}

//! The loop of a queue thread: reap a batch, handle each request, commit all of it with one submit.

use super::iod::Request;
use crate::error::IoError;
use crate::stats::QueueStats;
use crate::sys::map::IoBuf;
use crate::sys::uring::{Completion, QueueRing};
use crate::units::Tag;
use std::io;
use std::time::Duration;

/// Time between tries of a throttled request.
const RETRY_PAUSE: Duration = Duration::from_millis(2);

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Carried out in full.
    Done,
    /// Not carried out.
    Failed(IoError),
    /// Not now: to be handled again in a moment. The handler bounds how long.
    Throttled,
}

/// What requests are handed to.
pub trait Handler {
    /// Carries a request out. The buffer holds a write's data; a read's data is left in it. It is
    /// the handler's until it returns and may be exchanged for another one of the same size.
    /// Must not allocate, wait for I/O, or panic.
    fn handle(&mut self, request: &Request, buffer: &mut IoBuf) -> Outcome;

    /// Whether requests that were carried out have left work behind.
    fn has_work(&self) -> bool {
        false
    }

    /// Does a little of that work, so little that a request may wait for it; false if it could not.
    fn work(&mut self) -> bool {
        false
    }
}

/// Why a queue thread ended.
#[derive(Debug)]
pub enum QueueEnd {
    /// The device was stopped: every tag came back.
    Stopped,
    /// The ring failed.
    Ring(io::Error),
    /// The driver refused a command for this tag with this errno.
    Refused(Tag, i32),
}

/// One queue and its ring.
#[derive(Debug)]
pub struct Queue<'a> {
    ring: QueueRing,
    /// Slots of the device.
    slots: u64,
    /// Throttled requests, oldest first. Room for every tag, so that it never grows.
    throttled: Vec<(Tag, Request, IoBuf)>,
    stats: &'a QueueStats,
}

impl<'a> Queue<'a> {
    /// Gives every tag its buffer and sends the first fetches. Allocates what the loop needs.
    pub fn fetch_all(
        mut ring: QueueRing,
        buffers: Vec<IoBuf>,
        slots: u64,
        stats: &'a QueueStats,
    ) -> io::Result<Self> {
        let throttled = Vec::with_capacity(buffers.len());
        for (tag, buffer) in buffers.into_iter().enumerate() {
            ring.fetch(Tag(tag as u16), buffer);
        }
        ring.submit()?;
        Ok(Self { ring, slots, throttled, stats })
    }

    /// Serves until the device is stopped. Requests go before the work that earlier ones left:
    /// between two pieces of it what has arrived is looked at, which costs no call into the kernel.
    pub fn serve(&mut self, handler: &mut impl Handler) -> QueueEnd {
        let mut stuck = false;
        while self.ring.fetched() > 0 || !self.throttled.is_empty() || handler.has_work() {
            let sent = if handler.has_work() && !stuck {
                self.ring.submit_and_look()
            } else {
                self.stats.waits.add(1);
                let again = stuck || !self.throttled.is_empty();
                self.ring.submit_and_wait(again.then_some(RETRY_PAUSE))
            };
            if let Err(e) = sent {
                return QueueEnd::Ring(e);
            }
            match self.take_batch(handler) {
                Ok(0) if handler.has_work() => stuck = !handler.work(),
                Ok(_) => stuck = false,
                Err(end) => return end,
            }
            self.retry(handler);
        }
        QueueEnd::Stopped
    }

    /// Handles every completion that has arrived; how many.
    fn take_batch(&mut self, handler: &mut impl Handler) -> Result<u32, QueueEnd> {
        let mut count = 0;
        while let Some(completion) = self.ring.next_completion() {
            count += 1;
            match completion {
                Completion::Request(tag, desc, buffer) => match Request::parse(&desc, self.slots) {
                    Ok(request) => self.step(handler, tag, request, buffer),
                    Err(e) => {
                        self.stats.refused_requests.add(1);
                        self.ring.commit_and_fetch(tag, e.errno(), buffer);
                    }
                },
                Completion::Gone(_) => {}
                Completion::Refused(tag, errno) => return Err(QueueEnd::Refused(tag, errno)),
            }
        }
        if count > 0 {
            self.stats.batches.add(1);
        }
        Ok(count)
    }

    /// Handles one request, and commits it unless it is throttled.
    fn step(&mut self, handler: &mut impl Handler, tag: Tag, request: Request, mut buffer: IoBuf) {
        let result = match handler.handle(&request, &mut buffer) {
            Outcome::Done => request.data_bytes() as i32,
            Outcome::Failed(e) => e.errno(),
            Outcome::Throttled => {
                self.throttled.push((tag, request, buffer));
                return;
            }
        };
        self.ring.commit_and_fetch(tag, result, buffer);
    }

    /// Handles each throttled request once more, oldest first; those still throttled stay in order.
    fn retry(&mut self, handler: &mut impl Handler) {
        for _ in 0..self.throttled.len() {
            let (tag, request, buffer) = self.throttled.remove(0);
            self.step(handler, tag, request, buffer);
        }
    }
}

//! The loop of a queue thread: reap a batch, handle each request, commit all of it with one submit.

use super::iod::Request;
use crate::error::IoError;
use crate::stats::QueueStats;
use crate::sys::map::IoBuf;
use crate::sys::uring::{Completion, QueueRing};
use crate::units::Tag;
use std::io;

/// What requests are handed to.
pub trait Handler {
    /// Carries a request out and returns its result. The buffer holds a write's data; a read's data is left in it.
    /// It is the handler's until it returns and may be exchanged for another one of the same size.
    /// Must not allocate, wait for I/O, or panic.
    fn handle(&mut self, request: &Request, buffer: &mut IoBuf) -> Result<(), IoError>;
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

/// Gives every tag its buffer and sends the first fetches.
pub fn fetch_all(ring: &mut QueueRing, buffers: Vec<IoBuf>) -> io::Result<()> {
    for (tag, buffer) in buffers.into_iter().enumerate() {
        ring.fetch(Tag(tag as u16), buffer);
    }
    ring.submit()
}

/// Serves the queue until the device is stopped.
pub fn serve(
    ring: &mut QueueRing,
    slots: u64,
    handler: &mut impl Handler,
    stats: &QueueStats,
) -> QueueEnd {
    while ring.fetched() > 0 {
        stats.waits.add(1);
        if let Err(e) = ring.submit_and_wait() {
            return QueueEnd::Ring(e);
        }
        stats.batches.add(1);
        while let Some(completion) = ring.next_completion() {
            match completion {
                Completion::Request(tag, desc, mut buffer) => {
                    let outcome = Request::parse(&desc, slots)
                        .inspect_err(|_| stats.refused_requests.add(1))
                        .and_then(|request| {
                            handler.handle(&request, &mut buffer)?;
                            Ok(request.data_bytes() as i32)
                        });
                    let result = outcome.unwrap_or_else(IoError::errno);
                    ring.commit_and_fetch(tag, result, buffer);
                }
                Completion::Gone(_) => {}
                Completion::Refused(tag, errno) => return QueueEnd::Refused(tag, errno),
            }
        }
    }
    QueueEnd::Stopped
}

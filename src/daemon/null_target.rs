//! The null target: answers, and stores nothing.

use super::worker::count;
use crate::stats::QueueStats;
use crate::ublk::Op;
use crate::ublk::queue::{Handler, Job, Outcome};

/// Stores nothing.
#[derive(Debug)]
pub struct NullHandler<'a> {
    /// The thread's counters.
    pub stats: &'a QueueStats,
}

impl Handler for NullHandler<'_> {
    fn handle(&mut self, job: &mut Job) -> Outcome {
        count(&job.request, self.stats);
        if job.request.op == Op::Read {
            job.buffer[..job.request.data_bytes()].fill(0);
        }
        Outcome::Done
    }
}

//! Where requests meet the store: one thread per ublk queue.

use crate::codec::Stream;
use crate::error::IoError;
use crate::stats::QueueStats;
use crate::store::Store;
use crate::sys::map::IoBuf;
use crate::sys::uring::QueueRing;
use crate::sys::{guard, heap};
use crate::ublk::queue::{self, Handler, QueueEnd};
use crate::ublk::{Op, Request};
use crate::units::{PAGE_SIZE, Page, QueueId};
use std::fs::File;
use std::io;
use std::sync::mpsc::SyncSender;

/// What a queue thread tells the starting thread, once.
pub type Readiness = io::Result<ThreadState>;

/// How a queue thread stands when it has fetched all its tags.
#[derive(Clone, Copy, Debug)]
pub struct ThreadState {
    /// PR_SET_IO_FLUSHER as read back in the thread.
    pub io_flusher: bool,
}

/// Everything a queue thread works with.
#[derive(Debug)]
pub struct Worker<'a> {
    /// Its queue.
    pub queue: QueueId,
    /// Tags of the queue.
    pub depth: u16,
    /// Slots of the device.
    pub slots: u64,
    /// CPUs whose submissions arrive here.
    pub cpus: Vec<usize>,
    /// The open char device.
    pub char_device: &'a File,
    /// One buffer per tag.
    pub buffers: Vec<IoBuf>,
    /// Where pages go; nowhere for the null target.
    pub store: Option<&'a Store>,
    /// Its counters.
    pub stats: &'a QueueStats,
}

impl Worker<'_> {
    /// The thread's life: make the ring, fetch every tag, report, serve until the device is stopped.
    /// Panics, which aborts the process, when the driver or the ring fails: with one queue dead the driver would hold
    /// the whole device back for ever, while a dead process can be replaced.
    pub fn run(mut self, ready: &SyncSender<Readiness>) {
        let buffers = std::mem::take(&mut self.buffers);
        let stream = Stream::new();
        let mut ring = match self.prepare(buffers) {
            Ok((ring, state)) => {
                // The starting thread waits for exactly one message from each thread.
                let _ = ready.send(Ok(state));
                ring
            }
            Err(e) => {
                let _ = ready.send(Err(e));
                return;
            }
        };
        let end = match self.store {
            Some(store) => {
                self.serve(&mut ring, &mut SwapHandler { store, stream, stats: self.stats })
            }
            None => self.serve(&mut ring, &mut NullHandler { stats: self.stats }),
        };
        match end {
            QueueEnd::Stopped => {}
            QueueEnd::Ring(e) => panic!("queue {}: io_uring failed: {e}", self.queue.0),
            QueueEnd::Refused(tag, errno) => {
                panic!("queue {} tag {}: driver refused with {errno}", self.queue.0, tag.0)
            }
        }
    }

    fn prepare(&self, buffers: Vec<IoBuf>) -> io::Result<(QueueRing, ThreadState)> {
        guard::pin_thread(&self.cpus)?;
        let io_flusher = guard::is_io_flusher()?;
        let mut ring = QueueRing::new(self.char_device, self.queue, self.depth)?;
        queue::fetch_all(&mut ring, buffers)?;
        Ok((ring, ThreadState { io_flusher }))
    }

    fn serve(&self, ring: &mut QueueRing, handler: &mut impl Handler) -> QueueEnd {
        heap::seal_thread();
        let end = queue::serve(ring, self.slots, handler, self.stats);
        heap::unseal_thread();
        end
    }
}

/// Stores pages.
struct SwapHandler<'a> {
    store: &'a Store,
    stream: Stream,
    stats: &'a QueueStats,
}

impl Handler for SwapHandler<'_> {
    fn handle(&mut self, request: &Request, buffer: &mut IoBuf) -> Result<(), IoError> {
        let Self { store, stream, stats } = self;
        count(request, stats);
        match request.op {
            Op::Read => {
                for (slot, page) in request.slots().zip(pages_mut(buffer)) {
                    store.read(slot, page, stream, stats)?;
                }
            }
            Op::Write => {
                for (slot, page) in request.slots().zip(pages(buffer)) {
                    store.write(slot, page, stream, stats)?;
                }
            }
            Op::Discard => store.discard(request.first, request.count, stats)?,
            Op::WriteZeroes => store.write_zeroes(request.first, request.count, stats)?,
            Op::Flush => {}
        }
        Ok(())
    }
}

/// Stores nothing.
struct NullHandler<'a> {
    stats: &'a QueueStats,
}

impl Handler for NullHandler<'_> {
    fn handle(&mut self, request: &Request, buffer: &mut IoBuf) -> Result<(), IoError> {
        count(request, self.stats);
        if request.op == Op::Read {
            buffer[..request.data_bytes()].fill(0);
        }
        Ok(())
    }
}

fn count(request: &Request, stats: &QueueStats) {
    let counter = match request.op {
        Op::Read => &stats.read_requests,
        Op::Write => &stats.write_requests,
        Op::Discard => &stats.discard_requests,
        Op::WriteZeroes => &stats.write_zeroes_requests,
        Op::Flush => &stats.flush_requests,
    };
    counter.add(1);
}

fn pages(buffer: &[u8]) -> impl Iterator<Item = &Page> {
    buffer.as_chunks::<PAGE_SIZE>().0.iter()
}

fn pages_mut(buffer: &mut [u8]) -> impl Iterator<Item = &mut Page> {
    buffer.as_chunks_mut::<PAGE_SIZE>().0.iter_mut()
}

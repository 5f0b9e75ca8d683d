//! The threads of one device: made while there is memory, at work once there is a device.
//!
//! Every thread makes what it needs, says so, and waits at the gate for the state and the device.
//! From there on it takes its way without asking for memory.

use super::device::{Context, Device};
use super::helper::Helper;
use super::mover::{Mover, Outlook};
use super::worker::{Readiness, Warm, Worker};
use super::{StartResult, cannot, tolerate};
use crate::codec::Stream;
use crate::config::Target;
use crate::store::SpillWriter;
use crate::sys::confine::{Duty, drop_capabilities};
use crate::sys::guard;
use crate::sys::spill_ring::SpillRing;
use crate::sys::ublk_abi::CopyMode;
use crate::ublk::poll::Poll;
use crate::units::{PAGE_SHIFT, QueueId};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, Scope};

/// Stack of a thread: small, because all of it is locked. The deepest path (a store call) needs a
/// few KiB.
const STACK_BYTES: usize = 256 << 10;

/// Threads besides those of queues and helpers that report: the growing one and the mover.
const OTHER_THREADS: u16 = 2;

/// Threads at the gate, or beyond.
#[derive(Debug)]
pub struct Crew {
    /// Each thread's report from the near side of the gate.
    warm: Receiver<Readiness>,
    /// Queue threads', once they have fetched their tags.
    fetched: Receiver<Readiness>,
    /// The others', once they work.
    others: Receiver<Readiness>,
}

/// Where threads report.
#[derive(Clone)]
struct Reports {
    warm: SyncSender<Readiness>,
    fetched: SyncSender<Readiness>,
    others: SyncSender<Readiness>,
}

impl Crew {
    /// Makes all threads of a device. They are sent home by closing the gate, also when an error is
    /// returned.
    pub fn make<'scope, 'env>(
        context: &'env Context<'env>,
        scope: &'scope Scope<'scope, 'env>,
    ) -> StartResult<Self> {
        let threads = usize::from(context.queues + context.settings.helpers + OTHER_THREADS);
        let (warm_to, warm) = sync_channel(threads);
        let (fetched_to, fetched) = sync_channel(threads);
        let (others_to, others) = sync_channel(threads);
        let reports = Reports { warm: warm_to, fetched: fetched_to, others: others_to };
        for queue in (0..context.queues).map(QueueId) {
            let (reports, name) = (reports.clone(), format!("uswap-q{}", queue.0));
            spawn(scope, name, move || {
                let Reports { warm, fetched, others } = reports;
                drop(others);
                let made = report(&warm, context.warm_queue());
                drop(warm);
                if let (Some(made), Some(live)) = (made, context.gate.wait()) {
                    context.worker(live, queue).run(made, fetched);
                    context.gone.ring();
                }
            })?;
        }
        // The first thread of a process that ends makes the kernel allocate accounts of it
        // (taskstats_exit, kernel/taskstats.c). Better one now than one that was killed when there
        // is no memory: it would not end, and nobody could take its device over.
        spawn(scope, "uswap-first".to_owned(), || ())?;
        if context.settings.target == Target::Swap {
            context.spawn_helpers(scope, &reports)?;
            context.spawn_others(scope, &reports)?;
        }
        Ok(Self { warm, fetched, others })
    }

    /// Waits until every thread has what it needs; whether all of them are I/O flushers.
    pub fn wait_warm(&self) -> StartResult<bool> {
        all(&self.warm)
    }

    /// Waits until every queue thread has fetched its tags.
    pub fn wait_fetched(&self) -> StartResult<()> {
        all(&self.fetched).map(drop)
    }

    /// Waits until the other threads work.
    pub fn wait_others(&self) -> StartResult<()> {
        all(&self.others).map(drop)
    }
}

/// All threads' reports: it ends when each has reported, or has ended.
fn all(reports: &Receiver<Readiness>) -> StartResult<bool> {
    let mut flushers = true;
    let mut failed = None;
    for report in reports {
        match report {
            Ok(state) => flushers &= state.io_flusher,
            Err(e) => failed = Some(e),
        }
    }
    failed.map_or(Ok(flushers), |e| Err(cannot("start a thread", &e)))
}

/// Says whether a thread has what it needs, and gives that.
fn report<T>(to: &SyncSender<Readiness>, made: io::Result<T>) -> Option<T> {
    let (made, said) = match made {
        Ok(made) => (Some(made), Ok(super::worker::ThreadState::read())),
        Err(e) => (None, Err(e)),
    };
    // The starting thread waits for exactly one message from each thread.
    let _ = to.send(said);
    // A standby begins as urgent as can be; who waits need not be.
    let _ = guard::be_ordinary();
    // Its work takes none. Whoever cannot give them up serves all the same; `confine` has said it.
    let _ = drop_capabilities(Duty::Pages);
    made
}

fn spawn<'scope>(
    scope: &'scope Scope<'scope, '_>,
    name: String,
    body: impl FnOnce() + Send + 'scope,
) -> StartResult<()> {
    let builder = thread::Builder::new().name(name).stack_size(STACK_BYTES);
    builder.spawn_scoped(scope, body).map(drop).map_err(|e| cannot("start a thread", &e))
}

impl<'env> Context<'env> {
    /// What a queue thread needs before there is a device.
    fn warm_queue(&self) -> io::Result<Warm> {
        let copy = self.backing.map_or(CopyMode::Copy, |backing| backing.copy);
        let file = self.backing.map(|backing| &backing.file);
        let file = file.or(self.spill_file.map(|spill| &spill.file));
        let compresses = self.settings.target == Target::Swap;
        Warm::new(self.settings.depth, copy, file, compresses)
    }

    fn worker(&'env self, live: &'env Device, queue: QueueId) -> Worker<'env> {
        let (buffers, bounce) = live.take_share();
        Worker {
            queue,
            slots: self.settings.size >> PAGE_SHIFT,
            cpus: live.cpus.get(usize::from(queue.0)).cloned().unwrap_or_default(),
            char_device: &live.char_device,
            buffers,
            bounce,
            store: live.state.store.as_ref().zip(live.state.staging.as_ref()),
            backing: self.backing,
            growth: &live.growth,
            poll: Poll::new(Arc::clone(&self.live.poll_us)),
            stats: self.stats.queue(queue),
        }
    }

    fn spawn_helpers<'scope>(
        &'env self,
        scope: &'scope Scope<'scope, 'env>,
        reports: &Reports,
    ) -> StartResult<()> {
        for index in 0..self.settings.helpers {
            let Reports { warm, others, .. } = reports.clone();
            spawn(scope, format!("uswap-h{index}"), move || {
                let stream = report(&warm, Ok(Stream::new()));
                drop(warm);
                let live = self.gate.wait().zip(stream);
                let Some((live, stream)) = live else { return };
                let state = &live.state;
                let Some((store, staging)) = state.store.as_ref().zip(state.staging.as_ref())
                else {
                    return;
                };
                let stats = self.stats.helper(index);
                Helper { index, staging, store, growth: &live.growth, stats }.run(stream, others);
            })?;
        }
        Ok(())
    }

    /// The mover, which has the spill's writer, and the thread that lets the pool grow.
    fn spawn_others<'scope>(
        &'env self,
        scope: &'scope Scope<'scope, 'env>,
        reports: &Reports,
    ) -> StartResult<()> {
        let at_gate = |reports: Reports| {
            let Reports { warm, fetched, others } = reports;
            drop(fetched);
            (warm, others)
        };
        let (warm, others) = at_gate(reports.clone());
        let ring = self.spill_file.map(|spill| SpillRing::new(&spill.file)).transpose();
        let ring = ring.map_err(|e| cannot("make an io_uring", &e))?;
        // Made before there may be no memory for it.
        let policy = self.settings.policy.policy();
        spawn(scope, "uswap-mover".to_owned(), move || {
            // Files are opened before there may be no memory for that.
            let Some(outlook) = report(&warm, Ok(Outlook::new(Path::new("/")))) else { return };
            drop(warm);
            let Some((live, store)) = self.live_store() else { return };
            let writer = ring.map(|ring| SpillWriter::new(store, ring, live.take_segments()));
            let mover = Mover {
                store,
                growth: &live.growth,
                movement: self.movement,
                all: self.stats,
                stats: self.stats.mover(),
            };
            mover.run(policy, outlook, writer, others);
        })?;
        let (warm, others) = at_gate(reports.clone());
        spawn(scope, "uswap-grow".to_owned(), move || {
            report(&warm, Ok(()));
            drop(warm);
            let Some((live, store)) = self.live_store() else { return };
            live.growth.run(store, others);
        })
    }

    /// Waits at the gate for a device with a store.
    fn live_store(&'env self) -> Option<(&'env Device, &'env crate::store::Store)> {
        let live = self.gate.wait()?;
        Some((live, live.state.store.as_ref()?))
    }

    /// Not all threads being I/O flushers is an error, or is told.
    pub fn judge_flushers(&self, all_are: bool) -> StartResult<()> {
        if all_are {
            return Ok(());
        }
        let error = io::Error::other("PR_GET_IO_FLUSHER reads back 0");
        tolerate(self.settings, self.tell, cannot("make all threads I/O flushers", &error))
    }
}

//! One device from the first fetch to the last abort: its queue threads, its start, its stop.

use super::control::{self, Ending, Service, Socket};
use super::grower::Growth;
use super::protocol::Status;
use super::room::Room;
use super::state::State;
use super::status::Sources;
use super::usage;
use super::worker::{Readiness, Worker};
use super::{Tell, cannot, cannot_lock, tolerate};
use crate::config::Settings;
use crate::error::{StartError, StartResult};
use crate::stats::Stats;
use crate::sys::guard;
use crate::sys::map::IoBuf;
use crate::sys::wake::{Bell, Signals};
use crate::ublk::{Controller, ctrl, settings as block};
use crate::units::{PAGE_SHIFT, QueueId};
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{self, Scope};
use std::time::Instant;

/// Stack of a thread: small, because all of it is locked. The deepest path (a store call) needs a
/// few KiB.
const STACK_BYTES: usize = 256 << 10;

/// What the threads of one device share.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// What was asked for.
    pub settings: &'a Settings,
    /// Device number.
    pub id: u32,
    /// Hardware queues.
    pub queues: u16,
    /// Memory and store.
    pub state: &'a State,
    /// Counters.
    pub stats: &'a Stats,
    /// The open char device.
    pub char_device: &'a File,
    /// Rung by a queue thread that ends.
    pub gone: &'a Bell,
    /// Growth of the pool.
    pub growth: &'a Growth,
    /// The administrator's ear.
    pub tell: Tell<'a>,
}

impl Context<'_> {
    /// Serves the device, from threads to stop. `ready` is called once it serves.
    pub fn serve(
        &self,
        controller: &mut Controller,
        buffers: Vec<IoBuf>,
        socket: &Socket,
        signals: &mut Signals,
        ready: &mut dyn FnMut(&str),
    ) -> StartResult<()> {
        thread::scope(|scope| {
            let result = self.start(scope, controller, buffers).and_then(|safety| {
                ready(&ctrl::block_path(self.id).display().to_string());
                let since = Instant::now();
                let room = Room::new(self.state.store.as_ref());
                let mut running = Running { context: self, controller, safety, since, room };
                let ending = control::serve(socket, signals, self.gone, &mut running);
                match ending.map_err(|e| cannot("wait for events", &e))? {
                    Ending::Stopped => Ok(()),
                    Ending::DeviceGone => Err(StartError::failure(
                        format!("device {} was taken away by somebody else", self.id),
                        "see who else uses /dev/ublk-control",
                    )),
                }
            });
            if result.is_err() {
                // Brings every tag back, so that the queue threads end and the scope can. Where it
                // fails the device is already on its way out.
                let _ = controller.stop_unused(self.id);
            }
            self.growth.end();
            result
        })
    }

    fn start<'scope, 'env>(
        &'env self,
        scope: &'scope Scope<'scope, 'env>,
        controller: &mut Controller,
        buffers: Vec<IoBuf>,
    ) -> StartResult<Safety> {
        let receiver = self.spawn(scope, controller, buffers)?;
        let mut io_flusher = true;
        for _ in 0..self.queues {
            let state = receiver.recv().map_err(io::Error::other).and_then(|r| r);
            io_flusher &= state.map_err(|e| cannot("start a queue thread", &e))?.io_flusher;
        }
        if !io_flusher {
            let error = io::Error::other("PR_GET_IO_FLUSHER reads back 0");
            tolerate(self.settings, self.tell, cannot("make queue threads I/O flushers", &error))?;
        }
        let memory_locked = self.verify_locked()?;
        controller.start(self.id)?;
        let depth = self.settings.depth;
        for (name, e) in block::apply(Path::new("/"), self.id, controller.features(), depth) {
            (self.tell)(&format!("cannot set {name} of ublkb{} ({e})", self.id));
        }
        Ok(Safety { memory_locked, io_flusher })
    }

    fn verify_locked(&self) -> StartResult<bool> {
        let Err(e) = guard::verify_locked() else { return Ok(true) };
        tolerate(self.settings, self.tell, cannot_lock(&e)).map(|()| false)
    }

    fn spawn<'scope, 'env>(
        &'env self,
        scope: &'scope Scope<'scope, 'env>,
        controller: &mut Controller,
        mut buffers: Vec<IoBuf>,
    ) -> StartResult<Receiver<Readiness>> {
        let (sender, receiver) = sync_channel(usize::from(self.queues));
        let share = buffers.len() / usize::from(self.queues);
        for queue in (0..self.queues).map(QueueId) {
            let cpus = controller.queue_cpus(self.id, queue);
            let worker = Worker {
                queue,
                depth: self.settings.depth,
                slots: self.settings.size >> PAGE_SHIFT,
                cpus: cpus.map_err(|e| cannot("ask for a queue's CPUs", &e))?,
                char_device: self.char_device,
                buffers: buffers.split_off(buffers.len() - share),
                store: self.state.store.as_ref(),
                growth: self.growth,
                stats: self.stats.queue(queue),
            };
            let (sender, gone) = (sender.clone(), self.gone);
            spawn(scope, format!("uswap-q{}", queue.0), move || {
                worker.run(&sender);
                gone.ring();
            })?;
        }
        if let Some(store) = &self.state.store {
            let growth = self.growth;
            spawn(scope, "uswap-grow".to_owned(), move || growth.run(store))?;
        }
        Ok(receiver)
    }
}

fn spawn<'scope>(
    scope: &'scope Scope<'scope, '_>,
    name: String,
    body: impl FnOnce() + Send + 'scope,
) -> StartResult<()> {
    let builder = thread::Builder::new().name(name).stack_size(STACK_BYTES);
    builder.spawn_scoped(scope, body).map(drop).map_err(|e| cannot("start a thread", &e))
}

/// What was read back at start.
#[derive(Clone, Copy)]
struct Safety {
    memory_locked: bool,
    io_flusher: bool,
}

/// A device that serves.
struct Running<'a> {
    context: &'a Context<'a>,
    controller: &'a mut Controller,
    safety: Safety,
    since: Instant,
    room: Room,
}

impl Service for Running<'_> {
    fn status(&self) -> Status {
        let Context { settings, id, queues, state, stats, growth, .. } = *self.context;
        Sources {
            settings,
            id,
            queues,
            features: self.controller.features(),
            state,
            stats,
            growth,
            memory_locked: self.safety.memory_locked,
            io_flusher: self.safety.io_flusher,
            since: self.since,
            pool_level: self.room.level(),
        }
        .status()
    }

    fn stop(&mut self) -> StartResult<()> {
        let (name, id) = (&self.context.settings.name, self.context.id);
        usage::refuse_if_used(Path::new("/"), name, id)?;
        self.controller.stop(id).map_err(|e| {
            let what = format!("{} does not stop ({e})", ctrl::block_path(id).display());
            StartError::failure(
                what,
                "close whatever has it open (`fuser -v` shows it) and try again",
            )
        })
    }

    fn tick(&mut self) {
        if let Some(message) = self.context.state.store.as_ref().and_then(|s| self.room.look(s)) {
            self.tell(&message);
        }
    }

    fn tell(&self, message: &str) {
        (self.context.tell)(message);
    }
}

//! One device from the first fetch to the last abort: its queue threads, its start, its stop.

use super::backing::Backing;
use super::control::{self, Ending, Service, Socket};
use super::grower::Growth;
use super::helper::Helper;
use super::live::{self, Live};
use super::mover::{Movement, Mover};
use super::notify;
use super::protocol::Status;
use super::room::Room;
use super::scrape::Scrape;
use super::spill_file::SpillFile;
use super::spilling::SpillWatch;
use super::staging::Staging;
use super::state::{SpillBuffers, State};
use super::status::Sources;
use super::usage;
use super::worker::{Readiness, Worker};
use super::{Tell, cannot, cannot_lock, tolerate};
use crate::config::Settings;
use crate::error::{StartError, StartResult};
use crate::stats::Stats;
use crate::store::{SpillWriter, Store};
use crate::sys::buffers::IoBuf;
use crate::sys::guard;
use crate::sys::lockfile::claim;
use crate::sys::spill_ring::SpillRing;
use crate::sys::wake::{Bell, Signals};
use crate::ublk::poll::Poll;
use crate::ublk::{Controller, ctrl, settings as block};
use crate::units::{PAGE_SHIFT, QueueId};
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

/// Stack of a thread: small, because all of it is locked. The deepest path (a store call) needs a
/// few KiB.
const STACK_BYTES: usize = 256 << 10;

/// Threads besides those of queues and helpers that report: the growing one and the mover.
const OTHER_THREADS: u16 = 2;

/// Pause after the control thread could not wait for events.
const CONTROL_PAUSE: Duration = Duration::from_secs(1);

/// How often, and how long apart, a stop is tried while somebody has the device open: udev looks at
/// a device after every writer, and goes away by itself.
const STOP_TRIES: u32 = 20;
const STOP_PAUSE: Duration = Duration::from_millis(100);

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
    /// The loop target's file or device.
    pub backing: Option<&'a Backing>,
    /// Where pages go that leave RAM.
    pub spill_file: Option<&'a SpillFile>,
    /// Counters.
    pub stats: &'a Stats,
    /// The open char device.
    pub char_device: &'a File,
    /// Rung by a queue thread that ends.
    pub gone: &'a Bell,
    /// Growth of the pool.
    pub growth: &'a Growth,
    /// The mover.
    pub movement: &'a Movement,
    /// The metrics' server.
    pub scrape: &'a Scrape,
    /// Settings that may change.
    pub live: &'a Live,
    /// The administrator's ear.
    pub tell: Tell<'a>,
}

/// Memory that threads take with them.
#[derive(Debug)]
pub struct Buffers {
    /// One for each tag of each queue.
    pub requests: Vec<IoBuf>,
    /// The spill's.
    pub spill: Option<SpillBuffers>,
}

impl Context<'_> {
    /// Serves the device, from threads to stop. `ready` is called once it serves.
    pub fn serve(
        &self,
        controller: &mut Controller,
        buffers: Buffers,
        socket: &Socket,
        signals: &mut Signals,
        ready: &mut dyn FnMut(&str),
    ) -> StartResult<()> {
        thread::scope(|scope| {
            let result = match self.start(scope, controller, buffers) {
                Ok(safety) => {
                    ready(&ctrl::block_path(self.id).display().to_string());
                    self.control(controller, safety, socket, signals)
                }
                Err(e) => {
                    // Nobody has used the device yet. Brings every tag back, so that the queue
                    // threads end and the scope can.
                    let _ = controller.stop_unused(self.id);
                    Err(e)
                }
            };
            self.growth.end();
            self.movement.end();
            self.state.staging.iter().for_each(Staging::end);
            result
        })
    }

    /// Serves the control side until the device is stopped. The device may be in use, so nothing
    /// that goes wrong here ends it.
    fn control(
        &self,
        controller: &mut Controller,
        safety: Safety,
        socket: &Socket,
        signals: &mut Signals,
    ) -> StartResult<()> {
        let marks = self.settings.policy.settings.watermarks;
        let room = Room::new(self.state.store.as_ref(), marks);
        let since = Instant::now();
        let spill_watch = SpillWatch::new();
        let manager = notify::watchdog().and_then(|_| notify::Manager::of_this_process());
        let mut running =
            Running { context: self, controller, safety, since, room, spill_watch, manager };
        loop {
            match control::serve(socket, signals, self.gone, &mut running) {
                Ok(Ending::Stopped) => return Ok(()),
                Ok(Ending::DeviceGone) => {
                    let what = format!("device {} was taken away by somebody else", self.id);
                    return Err(StartError::failure(what, "see who else uses /dev/ublk-control"));
                }
                Err(e) => {
                    (self.tell)(&format!("cannot wait for events ({e}); trying again"));
                    thread::sleep(CONTROL_PAUSE);
                }
            }
        }
    }

    fn start<'scope, 'env>(
        &'env self,
        scope: &'scope Scope<'scope, 'env>,
        controller: &mut Controller,
        buffers: Buffers,
    ) -> StartResult<Safety> {
        let threads = self.queues + self.settings.helpers + OTHER_THREADS;
        let (sender, receiver) = sync_channel(threads.into());
        let spawned = self.spawn(scope, controller, buffers, sender);
        // Every thread that was started reports, also when another one was not: a tag that is
        // fetched after the device was stopped would never come back.
        let reports: Vec<Readiness> = receiver.iter().collect();
        spawned?;
        let mut io_flusher = true;
        for report in reports {
            io_flusher &= report.map_err(|e| cannot("start a thread", &e))?.io_flusher;
        }
        if !io_flusher {
            let error = io::Error::other("PR_GET_IO_FLUSHER reads back 0");
            tolerate(self.settings, self.tell, cannot("make all threads I/O flushers", &error))?;
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
        buffers: Buffers,
        sender: SyncSender<Readiness>,
    ) -> StartResult<()> {
        let Buffers { mut requests, spill } = buffers;
        let (mut bounce, segments) = spill.map(|s| (s.bounce, s.segments)).unwrap_or_default();
        let share = requests.len() / usize::from(self.queues);
        for queue in (0..self.queues).map(QueueId) {
            let cpus = controller.queue_cpus(self.id, queue);
            let worker = Worker {
                queue,
                depth: self.settings.depth,
                slots: self.settings.size >> PAGE_SHIFT,
                cpus: cpus.map_err(|e| cannot("ask for a queue's CPUs", &e))?,
                char_device: self.char_device,
                buffers: requests.split_off(requests.len() - share),
                spill_file: self.spill_file.map(|spill| &spill.file),
                bounce: bounce.split_off(bounce.len().saturating_sub(share)),
                store: self.state.store.as_ref().zip(self.state.staging.as_ref()),
                backing: self.backing,
                growth: self.growth,
                poll: Poll::new(Arc::clone(&self.live.poll_us)),
                stats: self.stats.queue(queue),
            };
            let (sender, gone) = (sender.clone(), self.gone);
            spawn(scope, format!("uswap-q{}", queue.0), move || {
                worker.run(sender);
                gone.ring();
            })?;
        }
        if let (Some(store), Some(staging)) = (&self.state.store, &self.state.staging) {
            let growth = self.growth;
            for index in 0..self.settings.helpers {
                let (sender, stats) = (sender.clone(), self.stats.helper(index));
                let helper = Helper { index, staging, store, growth, stats };
                spawn(scope, format!("uswap-h{index}"), move || helper.run(sender))?;
            }
            let mover = Mover {
                store,
                growth,
                movement: self.movement,
                all: self.stats,
                stats: self.stats.mover(),
                root: Path::new("/"),
            };
            let (policy, report) = (self.settings.policy.settings.clone(), sender.clone());
            let writer = self.spill_writer(store, segments)?;
            spawn(scope, "uswap-mover".to_owned(), move || mover.run(policy, writer, report))?;
            spawn(scope, "uswap-grow".to_owned(), move || growth.run(store, sender))?;
        }
        Ok(())
    }

    /// What writes to the spill, if there is one.
    fn spill_writer(
        &self,
        store: &Store,
        segments: Vec<IoBuf>,
    ) -> StartResult<Option<SpillWriter<SpillRing>>> {
        let Some(file) = self.spill_file else { return Ok(None) };
        let ring = SpillRing::new(&file.file).map_err(|e| cannot("make an io_uring", &e))?;
        Ok(Some(SpillWriter::new(store, ring, segments)))
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
    spill_watch: SpillWatch,
    /// Who wants to hear that this thread lives.
    manager: Option<notify::Manager>,
}

fn in_use(device: &Path, e: &io::Error) -> StartError {
    let what = format!("{} does not stop ({e})", device.display());
    StartError::failure(what, "close whatever has it open (`fuser -v` shows it) and try again")
}

impl Service for Running<'_> {
    fn status(&self) -> Status {
        let context = self.context;
        Sources {
            settings: context.settings,
            id: context.id,
            queues: context.queues,
            features: self.controller.features(),
            state: context.state,
            backing: context.backing,
            spill_file: context.spill_file,
            stats: context.stats,
            growth: context.growth,
            movement: context.movement,
            scrape: context.scrape,
            live: context.live,
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
        // Older drivers stop a device whoever uses it. swapon, mount and device-mapper need the
        // exclusive claim, so holding it keeps them out between the look and the stop.
        let device = ctrl::block_path(id);
        let claim = match self.controller.stops_safely() {
            true => None,
            false => Some(claim(&device).map_err(|e| in_use(&device, &e))?),
        };
        let mut tries = 1;
        let stopped = loop {
            match self.controller.stop(id) {
                Err(e) if e.kind() == io::ErrorKind::ResourceBusy && tries < STOP_TRIES => {
                    tries += 1;
                    thread::sleep(STOP_PAUSE);
                }
                result => break result,
            }
        };
        drop(claim);
        stopped.map_err(|e| in_use(&device, &e))
    }

    fn set(&mut self, key: &str, value: &str) -> StartResult<String> {
        let done = live::set(self.context, key, value)?;
        if key == "policy" {
            let marks = self.context.live.policy().settings.watermarks;
            self.room = Room::new(self.context.state.store.as_ref(), marks);
        }
        Ok(done)
    }

    fn tick(&mut self) {
        if let Some(manager) = &self.manager {
            manager.tell("WATCHDOG=1");
        }
        if let Some(message) = self.context.state.store.as_ref().and_then(|s| self.room.look(s)) {
            self.tell(&message);
        }
        let spilling = self.context.growth.spilling.as_ref();
        if let Some(message) = spilling.and_then(|s| self.spill_watch.look(s)) {
            self.tell(&message);
        }
    }

    fn tell(&self, message: &str) {
        (self.context.tell)(message);
    }
}

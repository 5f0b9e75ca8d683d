//! One device from the first fetch to the last abort: its start or its taking over, its service,
//! its stop.

use super::backing::Backing;
use super::control::{self, Ending, Service, Socket};
use super::control_page::Phase;
use super::crew::Crew;
use super::gate::Gate;
use super::grower::Growth;
use super::heir::Heir;
use super::live::{self, Live};
use super::mover::Movement;
use super::notify;
use super::protocol::Status;
use super::room::Room;
use super::scrape::Scrape;
use super::seat::Seat;
use super::spill_file::SpillFile;
use super::spilling::{SpillWatch, Spilling};
use super::staging::Staging;
use super::state::State;
use super::status::Sources;
use super::usage;
use super::watchdog::Slow;
use super::{IN_RAM, Tell, cannot, cannot_lock, tolerate};
use crate::config::Settings;
use crate::error::{StartError, StartResult};
use crate::stats::Stats;
use crate::sys::buffers::IoBuf;
use crate::sys::guard;
use crate::sys::lockfile::claim;
use crate::sys::process::{Ask, Identity, Process};
use crate::sys::ublk_abi::{CopyMode, F_QUIESCE};
use crate::sys::wake::{Bell, Signals, wait_readable};
use crate::ublk::ctrl::{Geometry, open_char_device};
use crate::ublk::{Controller, ctrl, settings as block};
use crate::units::{QueueId, SECTOR_SHIFT};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

/// Pause after the control thread could not wait for events, or could not make its socket.
const CONTROL_PAUSE: Duration = Duration::from_secs(1);

/// How often, and how long apart, a stop is tried while somebody has the device open: udev looks at
/// a device after every writer, and goes away by itself.
const STOP_TRIES: u32 = 20;
const STOP_PAUSE: Duration = Duration::from_millis(100);

/// How long a server that hands over waits for the requests that it has.
const QUIESCE_WAIT_MAX: Duration = Duration::from_millis(100);

/// What the threads of one device share from the start.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// What was asked for.
    pub settings: &'a Settings,
    /// Hardware queues.
    pub queues: u16,
    /// The loop target's file or device.
    pub backing: Option<&'a Backing>,
    /// Where pages go that leave RAM.
    pub spill_file: Option<&'a SpillFile>,
    /// Counters.
    pub stats: &'a Stats,
    /// Rung by a queue thread that ends.
    pub gone: &'a Bell,
    /// Where the threads wait for the device.
    pub gate: &'a Gate<Device>,
    /// The mover.
    pub movement: &'a Movement,
    /// The metrics' server.
    pub scrape: &'a Scrape,
    /// Settings that may change.
    pub live: &'a Live,
    /// This process's place among those of the service; none if it is the only one.
    pub seat: Option<&'a Seat>,
    /// The administrator's ear.
    pub tell: Tell<'a>,
}

/// What the threads share once there is a device.
#[derive(Debug)]
pub struct Device {
    /// Device number.
    pub id: u32,
    /// The open char device.
    pub char_device: File,
    /// Memory and store.
    pub state: State,
    /// Growth of the pool.
    pub growth: Growth,
    /// For each queue the CPUs whose submissions arrive there.
    pub cpus: Vec<Vec<usize>>,
    /// Memory that threads take with them.
    buffers: Mutex<Buffers>,
}

/// Memory that threads take with them.
#[derive(Debug)]
struct Buffers {
    /// One for each tag of each queue.
    requests: Vec<IoBuf>,
    /// Two pages for each tag of each queue, to read spilled pages into; none without a spill.
    bounce: Vec<IoBuf>,
    /// How many of each a queue gets.
    share: (usize, usize),
    /// The spill writer's.
    segments: Vec<IoBuf>,
}

/// A [`Device`] without the char device: all of it that can fail, or take memory.
#[derive(Debug)]
pub struct Estate {
    state: State,
    growth: Growth,
    cpus: Vec<Vec<usize>>,
    buffers: Mutex<Buffers>,
}

impl Estate {
    /// Puts together what the threads of a device work with. `growth` becomes the pool's.
    pub fn new(
        mut state: State,
        mut growth: Growth,
        cpus: Vec<Vec<usize>>,
        staging_bytes: u64,
    ) -> io::Result<Self> {
        if let Some(store) = state.store.as_ref().filter(|store| store.spill().is_some()) {
            growth.spilling = Some(Spilling::new(store, staging_bytes));
        }
        let spill = state.spill.take();
        let (bounce, segments) = spill.map(|s| (s.bounce, s.segments)).unwrap_or_default();
        let requests = std::mem::take(&mut state.buffers);
        let queues = cpus.len().max(1);
        let share = (requests.len() / queues, bounce.len() / queues);
        let buffers = Mutex::new(Buffers { requests, bounce, share, segments });
        Ok(Self { state, growth, cpus, buffers })
    }

    /// What it is with its char device.
    pub fn with(self, id: u32, char_device: File) -> Device {
        let Self { state, growth, cpus, buffers } = self;
        Device { id, char_device, state, growth, cpus, buffers }
    }

    /// Leaves the state for somebody else to take over.
    pub fn leave(self) {
        self.state.leave();
    }
}

impl Device {
    /// A queue's share of request buffers, and of buffers for spilled pages.
    pub fn take_share(&self) -> (Vec<IoBuf>, Vec<IoBuf>) {
        let mut buffers = self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        let Buffers { requests, bounce, share, .. } = &mut *buffers;
        let take = |list: &mut Vec<IoBuf>, count| list.split_off(list.len().saturating_sub(count));
        (take(requests, share.0), take(bounce, share.1))
    }

    /// The spill writer's buffers.
    pub fn take_segments(&self) -> Vec<IoBuf> {
        let mut buffers = self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut buffers.segments)
    }
}

/// How a server comes to its device.
pub enum Origin<'a> {
    /// It makes a new one, for this state.
    New(Box<State>),
    /// It takes over that of a dead server.
    Heir(Box<Heir<'a>>),
}

/// Where a server ended.
#[derive(Debug)]
pub enum Served {
    /// The device was stopped, or never began.
    Stopped(StartResult<()>),
    /// It was not needed any more, or hands over: whatever there is stays as it is.
    Left,
}

impl<'a> Context<'a> {
    /// Serves a device, from threads to stop. `ready` is called once it serves.
    pub fn serve(
        &'a self,
        controller: &mut Controller,
        origin: Origin<'_>,
        socket: Option<Socket>,
        signals: &mut Signals,
        ready: &mut dyn FnMut(&str),
    ) -> Served {
        thread::scope(|scope| {
            let served = self.come_alive(scope, controller, origin, signals);
            let result = match served {
                Ok(Some(safety)) => {
                    let id = self.device().id;
                    ready(&ctrl::block_path(id).display().to_string());
                    self.control(controller, safety, socket, signals)
                }
                Ok(None) => Served::Left,
                Err(e) => {
                    if let Some(device) = self.gate.get() {
                        // Nobody has used the device yet. Brings every tag back, so that the queue
                        // threads end and the scope can.
                        let _ = controller.stop_unused(device.id);
                    }
                    Served::Stopped(Err(e))
                }
            };
            self.gate.close();
            self.movement.end();
            if let Some(device) = self.gate.get() {
                device.growth.end();
                device.state.staging.iter().for_each(Staging::end);
            }
            result
        })
    }

    /// The device and what belongs to it. Only after the gate was opened.
    fn device(&self) -> &'a Device {
        self.gate.get().expect("the gate is open once there is a device")
    }

    /// Makes the threads, then the device or takes it over. `None` if there is nothing to take over
    /// any more.
    fn come_alive<'scope>(
        &'a self,
        scope: &'scope Scope<'scope, 'a>,
        controller: &mut Controller,
        origin: Origin<'_>,
        signals: &mut Signals,
    ) -> StartResult<Option<Safety>> {
        let crew = Crew::make(self, scope)?;
        let io_flusher = crew.wait_warm()?;
        self.judge_flushers(io_flusher)?;
        let memory_locked = match origin {
            Origin::New(state) => {
                self.begin(controller, *state, &crew)?;
                let memory_locked = self.verify_locked()?;
                let id = self.device().id;
                controller.start(id)?;
                // Once for a device: it waits for requests in flight, and a server that was killed
                // over that would never end.
                let (root, depth) = (Path::new("/"), self.settings.depth);
                for (name, e) in block::apply(root, id, controller.features(), depth) {
                    (self.tell)(&format!("cannot set {name} of ublkb{id} ({e})"));
                }
                self.seat.iter().for_each(|seat| seat.page.note_start(seat.ticket));
                memory_locked
            }
            Origin::Heir(heir) => {
                let memory_locked = self.verify_locked()?;
                if !heir.succeed(self, controller, &crew, signals)? {
                    return Ok(None);
                }
                memory_locked
            }
        };
        crew.wait_others()?;
        Ok(Some(Safety { memory_locked, io_flusher }))
    }

    /// Adds a device and lets the threads fetch its tags.
    fn begin(&self, controller: &mut Controller, state: State, crew: &Crew) -> StartResult<()> {
        let sectors = self.settings.size >> SECTOR_SHIFT;
        let copy = self.backing.map_or(CopyMode::Copy, |backing| backing.copy);
        let shape = Geometry {
            id: self.settings.id,
            queues: self.queues,
            depth: self.settings.depth,
            sectors,
            copy,
            cookie: self.seat.map_or(0, |seat| seat.page.cookie()),
        };
        let id = controller.add(shape)?.dev_id;
        let prepared = (|| {
            state.note_device(id).map_err(|e| cannot("note the device number", &e))?;
            self.seat.iter().for_each(|seat| seat.page.set_device(id));
            let char_device = open_char_device(id)?;
            controller.set_params(id, sectors, self.backing.map_or(IN_RAM, Backing::abilities))?;
            let cpus = self.queue_cpus(controller, id)?;
            let growth = Growth::new().map_err(|e| cannot("make an eventfd", &e))?;
            let estate = Estate::new(state, growth, cpus, self.settings.staging)
                .map_err(|e| cannot("make an eventfd", &e))?;
            Ok(estate.with(id, char_device))
        })();
        match prepared {
            Ok(device) => self.gate.open(device),
            Err(e) => {
                // Whatever kept it from being used is the news.
                let _ = controller.delete(id);
                return Err(e);
            }
        };
        crew.wait_fetched()
    }

    /// For each queue the CPUs whose submissions arrive there.
    pub fn queue_cpus(&self, controller: &mut Controller, id: u32) -> StartResult<Vec<Vec<usize>>> {
        let cpus = |queue| controller.queue_cpus(id, QueueId(queue));
        let cpus: io::Result<_> = (0..self.queues).map(cpus).collect();
        cpus.map_err(|e| cannot("ask for a queue's CPUs", &e))
    }

    /// Serves the control side until the device is stopped. The device may be in use, so nothing
    /// that goes wrong here ends it.
    fn control(
        &'a self,
        controller: &mut Controller,
        safety: Safety,
        socket: Option<Socket>,
        signals: &mut Signals,
    ) -> Served {
        let socket = socket.unwrap_or_else(|| self.bind_socket());
        let device = self.device();
        let marks = self.settings.policy.settings.watermarks;
        let room = Room::new(device.state.store.as_ref(), marks);
        let since = Instant::now();
        let spill_watch = SpillWatch::new();
        let manager = notify::watchdog().and_then(|_| notify::Manager::of_this_process());
        let mut running = Running {
            context: self,
            device,
            controller,
            safety,
            since,
            room,
            spill_watch,
            slow: Slow::default(),
            manager,
        };
        loop {
            match control::serve(&socket, signals, self.gone, &mut running) {
                Ok(Ending::Stopped) => return Served::Stopped(Ok(())),
                Ok(Ending::DeviceGone) => {
                    let what = format!("device {} was taken away by somebody else", device.id);
                    let remedy = "see who else uses /dev/ublk-control";
                    return Served::Stopped(Err(StartError::failure(what, remedy)));
                }
                Err(e) => {
                    (self.tell)(&format!("cannot wait for events ({e}); trying again"));
                    thread::sleep(CONTROL_PAUSE);
                }
            }
        }
    }

    /// Makes the socket of a service that was taken over, however long that takes: pages are served
    /// meanwhile.
    fn bind_socket(&self) -> Socket {
        loop {
            match Socket::bind(&self.settings.socket, &self.settings.name) {
                Ok(socket) => return socket,
                Err(e) => (self.tell)(&format!("{e}; trying again")),
            }
            thread::sleep(CONTROL_PAUSE);
        }
    }

    fn verify_locked(&self) -> StartResult<bool> {
        let Err(e) = guard::verify_locked() else { return Ok(true) };
        tolerate(self.settings, self.tell, cannot_lock(&e)).map(|()| false)
    }
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
    device: &'a Device,
    controller: &'a mut Controller,
    safety: Safety,
    since: Instant,
    room: Room,
    spill_watch: SpillWatch,
    slow: Slow,
    /// Who wants to hear that this thread lives.
    manager: Option<notify::Manager>,
}

fn in_use(device: &Path, e: &io::Error) -> StartError {
    let what = format!("{} does not stop ({e})", device.display());
    StartError::failure(what, "close whatever has it open (`fuser -v` shows it) and try again")
}

impl Service for Running<'_> {
    fn status(&self) -> Status {
        let (context, device) = (self.context, self.device);
        Sources {
            settings: context.settings,
            id: device.id,
            queues: context.queues,
            features: self.controller.features(),
            seat: context.seat,
            state: &device.state,
            backing: context.backing,
            spill_file: context.spill_file,
            stats: context.stats,
            growth: &device.growth,
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
        let (name, id) = (&self.context.settings.name, self.device.id);
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
        if let (Ok(()), Some(seat)) = (&stopped, self.context.seat) {
            seat.page.set_phase(Phase::Ended);
        }
        stopped.map_err(|e| in_use(&device, &e))
    }

    fn hand_over(&mut self) {
        let Some(seat) = self.context.seat else { return };
        seat.page.begin_hand_over();
        if self.controller.features().has(F_QUIESCE) {
            // Requests that we have are committed, the others wait for the standby. If that fails
            // they are given to it as they are.
            let _ = self.controller.quiesce(self.device.id);
            let _ = wait_readable([self.context.gone.as_fd()], QUIESCE_WAIT_MAX);
        }
        // What matters is in the state, whenever a server ends: it ends as it would be killed.
        let own = Identity::own().and_then(Process::open).ok().flatten();
        own.iter().for_each(|own| drop(own.ask(Ask::Die)));
    }

    fn set(&mut self, key: &str, value: &str) -> StartResult<String> {
        let done = live::set(self.context, key, value)?;
        if key == "policy" {
            let marks = self.context.live.policy().settings.watermarks;
            self.room = Room::new(self.device.state.store.as_ref(), marks);
        }
        Ok(done)
    }

    fn tick(&mut self) {
        if let Some(seat) = self.context.seat {
            let queues = (0..self.context.queues).map(|q| self.context.stats.queue(QueueId(q)));
            let slow = Slow::of(queues);
            seat.page.beat(slow.is_excused(&self.slow));
            self.slow = slow;
        }
        if let Some(manager) = &self.manager {
            manager.tell("WATCHDOG=1");
        }
        if let Some(message) = self.device.state.store.as_ref().and_then(|s| self.room.look(s)) {
            self.tell(&message);
        }
        let spilling = self.device.growth.spilling.as_ref();
        if let Some(message) = spilling.and_then(|s| self.spill_watch.look(s)) {
            self.tell(&message);
        }
    }

    fn tell(&self, message: &str) {
        (self.context.tell)(message);
    }
}

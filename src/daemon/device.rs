//! One device from the first fetch to the last abort: its start or its taking over, its service,
//! its stop.

use super::backing::Backing;
use super::control::{self, Ending, Socket};
use super::control_page::Phase;
use super::crew::Crew;
use super::gate::Gate;
use super::grower::Growth;
use super::heir::Heir;
use super::live::Live;
use super::mover::Movement;
use super::running::{Running, Safety};
use super::scrape::Scrape;
use super::seat::Seat;
use super::spill_file::SpillFile;
use super::spilling::Spilling;
use super::staging::Staging;
use super::state::State;
use super::{IN_RAM, Tell, cannot, cannot_lock, not_confined, tolerate};
use crate::config::Settings;
use crate::error::{StartError, StartResult};
use crate::stats::Stats;
use crate::sys::buffers::IoBuf;
use crate::sys::confine;
use crate::sys::guard;
use crate::sys::ublk_abi::CopyMode;
use crate::sys::wake::{Bell, Signals};
use crate::ublk::ctrl::{DeviceState, Geometry, open_char_device};
use crate::ublk::{Controller, ctrl, settings as block};
use crate::units::{QueueId, SECTOR_SHIFT};
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::thread::{self, Scope};
use std::time::Duration;

/// Pause after the control thread could not wait for events, or could not make its socket.
const CONTROL_PAUSE: Duration = Duration::from_secs(1);

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
    /// For each tag of each queue, to read spilled pages into; none without a spill.
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
    ) -> Self {
        if let Some(store) = state.store.as_ref().filter(|store| store.spill().is_some()) {
            growth.spilling = Some(Spilling::new(store, staging_bytes));
        }
        let spill = state.spill.take();
        let (bounce, segments) = spill.map(|s| (s.bounce, s.segments)).unwrap_or_default();
        let requests = std::mem::take(&mut state.buffers);
        let queues = cpus.len().max(1);
        let share = (requests.len() / queues, bounce.len() / queues);
        let buffers = Mutex::new(Buffers { requests, bounce, share, segments });
        Self { state, growth, cpus, buffers }
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
                crew.wait_others()?;
                self.confine();
                memory_locked
            }
            Origin::Heir(heir) => {
                let memory_locked = self.verify_locked()?;
                // Now: when the server dies there may be no memory for it.
                self.confine();
                if !heir.succeed(self, controller, &crew, signals)? {
                    return Ok(None);
                }
                // Nobody waits for the other threads: they may have to wait for memory, and this
                // one has to say meanwhile that it lives.
                memory_locked
            }
        };
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
            let estate = Estate::new(state, growth, cpus, self.settings.staging);
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
        let mut socket = socket;
        let device = self.device();
        let mut running = Running::new(self, device, controller, safety);
        loop {
            match control::serve(&mut socket, signals, self.gone, &mut running) {
                Ok(Ending::Stopped) => return Served::Stopped(Ok(())),
                Ok(Ending::DeviceGone) => return self.lost(running.controller),
                Err(e) => {
                    (self.tell)(&format!("cannot wait for events ({e}); trying again"));
                    thread::sleep(CONTROL_PAUSE);
                }
            }
        }
    }

    /// The driver took the tags back although nobody here asked for that.
    fn lost(&self, controller: &mut Controller) -> Served {
        let id = self.device().id;
        if matches!(controller.state(id), Ok(DeviceState::Orphaned | DeviceState::Live(_)) | Err(_))
        {
            // Somebody quiesced it: there is a disk, its pages are wanted, and a standby can have
            // it.
            (self.tell)(&format!("device {id} was taken from its server by somebody else"));
            return Served::Left;
        }
        self.seat.iter().for_each(|seat| seat.page.set_phase(Phase::Ended));
        let what = format!("device {id} was taken away by somebody else");
        Served::Stopped(Err(StartError::failure(what, "see who else uses /dev/ublk-control")))
    }

    /// Gives up what serving, taking over and stopping do not take.
    fn confine(&self) {
        if let Err(e) = confine::confine_server() {
            (self.tell)(&not_confined(&e));
        }
    }

    fn verify_locked(&self) -> StartResult<bool> {
        let Err(e) = guard::verify_locked() else { return Ok(true) };
        tolerate(self.settings, self.tell, cannot_lock(&e)).map(|()| false)
    }
}

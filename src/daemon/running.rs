//! A device that serves, as seen and told by the control thread.

use super::control::{Service, Socket};
use super::control_page::Phase;
use super::device::{Context, Device};
use super::live;
use super::notify;
use super::protocol::Status;
use super::recording::Recording;
use super::room::Room;
use super::spilling::SpillWatch;
use super::status::Sources;
use super::usage;
use super::watchdog::Slow;
use crate::config::Target;
use crate::error::{StartError, StartResult};
use crate::sys::lockfile::claim;
use crate::sys::process;
use crate::sys::ublk_abi::F_QUIESCE;
use crate::sys::wake::wait_readable;
use crate::ublk::{Controller, ctrl};
use crate::units::QueueId;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// How often, and how long apart, a stop is tried while somebody has the device open: udev looks at
/// a device after every writer, and goes away by itself.
const STOP_TRIES: u32 = 20;
const STOP_PAUSE: Duration = Duration::from_millis(100);

/// How long a server that hands over waits for the requests that it has.
const QUIESCE_WAIT_MAX: Duration = Duration::from_millis(100);

/// What was read back at start.
#[derive(Clone, Copy, Debug)]
pub struct Safety {
    /// All memory is.
    pub memory_locked: bool,
    /// All threads are.
    pub io_flusher: bool,
}

/// A device that serves.
pub struct Running<'a> {
    context: &'a Context<'a>,
    device: &'a Device,
    /// The driver.
    pub controller: &'a mut Controller,
    safety: Safety,
    since: Instant,
    room: Room,
    spill_watch: SpillWatch,
    slow: Slow,
    recording: Recording,
    end_wanted: bool,
    /// Who wants to hear that this thread lives.
    manager: Option<notify::Manager>,
}

impl<'a> Running<'a> {
    /// From here on it is looked after.
    pub fn new(
        context: &'a Context<'a>,
        device: &'a Device,
        controller: &'a mut Controller,
        safety: Safety,
    ) -> Self {
        let marks = context.settings.policy.settings.watermarks;
        Self {
            context,
            device,
            controller,
            safety,
            since: Instant::now(),
            room: Room::new(device.state.store.as_ref(), marks),
            spill_watch: SpillWatch::new(),
            slow: Slow::default(),
            recording: Recording::default(),
            end_wanted: false,
            manager: notify::watchdog().and_then(|_| notify::Manager::of_this_process()),
        }
    }
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
            recording: &self.recording,
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
        // Whoever dies before this line leaves a device without a disk, which its heir sees.
        if let (Ok(()), Some(seat)) = (&stopped, self.context.seat) {
            seat.page.set_phase(Phase::Ended);
        }
        stopped.map_err(|e| in_use(&device, &e))
    }

    fn bind(&self) -> Option<Socket> {
        Socket::bind(&self.context.settings.socket, &self.context.settings.name).ok()
    }

    fn want_end(&mut self) {
        self.end_wanted = true;
        self.context.seat.iter().for_each(|seat| seat.page.want_end(true));
    }

    fn is_end_wanted(&self) -> bool {
        self.end_wanted || self.context.seat.is_some_and(|seat| seat.page.is_end_wanted())
    }

    fn hand_over(&mut self) {
        // A standby may have died since somebody saw it.
        let seat = self.context.seat.filter(|seat| seat.page.has_warm_standby());
        let Some(seat) = seat else { return };
        seat.page.begin_hand_over();
        if self.controller.features().has(F_QUIESCE) {
            // Requests that we have are committed, the others wait for the standby. If that fails
            // they are given to it as they are.
            let _ = self.controller.quiesce(self.device.id);
            let _ = wait_readable([self.context.gone.as_fd()], QUIESCE_WAIT_MAX);
        }
        // What matters is in the state, whenever a server ends: it ends as it would be killed.
        process::die();
    }

    fn set(&mut self, key: &str, value: &str) -> StartResult<String> {
        let done = live::set(self.context, key, value)?;
        if key == "policy" {
            let marks = self.context.live.policy().settings.watermarks;
            self.room = Room::new(self.device.state.store.as_ref(), marks);
        }
        Ok(done)
    }

    fn record(&mut self, on: bool) -> StartResult<String> {
        let Context { settings, stats, .. } = self.context;
        if settings.target != Target::Swap {
            let what = format!("the {} target keeps no pages", settings.target.name());
            return Err(StartError::usage(what, "record a service with --target swap"));
        }
        if !on {
            self.recording.end(stats);
            return Ok("recording has ended".to_owned());
        }
        self.recording.begin(self.device.state.dir.as_ref(), stats)
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
        if let Some(message) = self.recording.look(self.context.stats) {
            self.tell(&message);
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

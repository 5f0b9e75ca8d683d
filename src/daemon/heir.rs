//! A warm standby: waits for the server's end, then takes the device over.
//!
//! It watches the server itself, by a descriptor of that process, so that nobody else has to live
//! or to get a turn for pages to be served again. Until then it follows what the server's state
//! grows by. What it does from the server's end on takes no memory of its own but what the kernel
//! needs for an open file, and on drivers before 6.16 nothing between the beginning and the end of
//! a recovery can fail but by the driver itself (a half-taken device could only be stopped).

use super::cannot;
use super::control_page::{Phase, Stage, Ticket};
use super::crew::Crew;
use super::device::{Context, Estate};
use super::grower::Growth;
use super::seat::Seat;
use super::standby::Standby;
use super::state::State;
use crate::error::StartResult;
use crate::limits::SEGMENT_BYTES;
use crate::store::{Rebuilt, SpillWriter};
use crate::sys::guard;
use crate::sys::heap;
use crate::sys::process::{Process, clock_us};
use crate::sys::spill_ring::SpillRing;
use crate::sys::ublk_abi::DevInfo;
use crate::sys::wake::{Signals, Told, wait_readable};
use crate::ublk::Controller;
use crate::ublk::ctrl::try_open_char_device;
use crate::units::QueueId;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

/// Longest time between two looks at what the server's state has grown by.
const KEEP_UP: Duration = Duration::from_secs(1);
/// Time between two questions whether the driver is done with the dead server.
const DRIVER_POLL: Duration = Duration::from_micros(500);
const HALF_WAY: &str = "taking over stopped half way:";
/// So many questions later it is asked whether there is a device.
const LOOKS_EVERY: u32 = 200;
/// Pause after the server could not be watched.
const WATCH_PAUSE: Duration = Duration::from_millis(100);
/// Heap that is there when the server ends: starting to serve takes some KiB, and what the spill's
/// writer works with; with a large spill some bytes for each segment.
const HEAP_BYTES: usize = (512 << 10) + SpillWriter::<SpillRing>::own_bytes();
const HEAP_SEGMENT_BYTES: usize = 8;

/// What is taken over.
#[derive(Debug)]
pub enum Inherited {
    /// Pages in the state directory.
    Pages(Box<Standby>),
    /// Nothing: the pages are elsewhere. Buffers of its own.
    Nothing(Box<State>),
}

/// A standby with all its memory.
#[derive(Debug)]
pub struct Heir<'a> {
    /// What it takes over.
    pub inherited: Inherited,
    /// Its place.
    pub seat: &'a Seat,
}

impl Heir<'_> {
    /// Waits for the server's end and takes the device over; its requests arrive when this returns.
    /// False if the standby is not needed any more. Panics, which aborts the process, if taking
    /// over fails half way: the device waits for the next standby then.
    pub fn succeed(
        mut self,
        context: &Context<'_>,
        controller: &mut Controller,
        crew: &Crew,
        signals: &mut Signals,
    ) -> StartResult<bool> {
        let (page, ticket) = (&self.seat.page, self.seat.ticket);
        let Some(id) = self.device(controller)? else {
            page.set_phase(Phase::Ended);
            return Ok(false);
        };
        let cpus = context.queue_cpus(controller, id)?;
        let growth = Growth::new().map_err(|e| cannot("make an eventfd", &e))?;
        self.keep_up().map_err(|e| cannot("map what the pool has grown by", &e))?;
        let segments = context.spill_file.map_or(0, |file| file.bytes as usize / SEGMENT_BYTES);
        heap::reserve(HEAP_BYTES + segments * HEAP_SEGMENT_BYTES);
        let Some(seen_us) = self.wait(context, signals) else { return Ok(false) };
        page.set_stage(ticket, Stage::Recovering);
        // What was meant for a standby is not for a server.
        while let Ok([true]) = wait_readable([signals.as_fd()], Duration::ZERO) {
            let _ = signals.take();
        }
        let mut lap = Lap::begin(seen_us);
        let (state, rebuilt) = self.inherit(context)?;
        let estate = Estate::new(state, growth, cpus, context.settings.staging);
        let state_us = lap.next();
        match begin(controller, id, page.cookie()) {
            Ok(true) => {}
            Ok(false) => {
                // Stopped between the server's last look and its death.
                page.set_phase(Phase::Ended);
                estate.leave();
                return Ok(false);
            }
            Err(e) => {
                estate.leave();
                return Err(cannot(&format!("take over device {id}"), &e));
            }
        }
        let driver_us = lap.next();
        context.gate.open(estate.with(id, open(id)));
        let fetched = crew.wait_fetched();
        fetched.unwrap_or_else(|e| panic!("{HALF_WAY} device {id}: {e}"));
        let fetch_us = lap.next();
        end(controller, id);
        let took_us = page.note_recovery(ticket, seen_us);
        // Was urgent since the parent started it.
        let _ = guard::be_ordinary();
        (context.tell)(&format!(
            "process {} has taken over in {took_us} us (state {state_us}, driver {driver_us}, \
             fetch {fetch_us}, end {}): {}",
            std::process::id(),
            lap.next(),
            described(&rebuilt)
        ));
        Ok(true)
    }

    /// The device's number, if it is there and the one that the state belongs to.
    fn device(&self, controller: &mut Controller) -> StartResult<Option<u32>> {
        let page = &self.seat.page;
        let Some(id) = page.device() else { return Ok(None) };
        let found = is_there(controller, id, page.cookie());
        Ok(found.map_err(|e| cannot("ask for the device", &e))?.then_some(id))
    }

    fn keep_up(&mut self) -> io::Result<()> {
        match &mut self.inherited {
            Inherited::Pages(standby) => standby.keep_up().map(drop),
            Inherited::Nothing(_) => Ok(()),
        }
    }

    /// Waits until the server is dead and this process has its place; when that was seen. None if
    /// this process is not needed any more.
    fn wait(&mut self, context: &Context<'_>, signals: &mut Signals) -> Option<u64> {
        loop {
            let server = self.seat.page.server();
            match Process::open(self.seat.page.holder(server)) {
                Ok(Some(process)) => {
                    self.seat.page.set_stage(self.seat.ticket, Stage::Warm);
                    if self.watch(&process, signals) == Some(Told::End) {
                        return None;
                    }
                }
                Ok(None) => {}
                Err(e) => {
                    (context.tell)(&format!("cannot watch the server ({e}); trying again"));
                    thread::sleep(WATCH_PAUSE);
                    continue;
                }
            }
            let seen_us = clock_us();
            if self.seat.page.phase() == Phase::Ended {
                return None;
            }
            if self.succeed_to(server) {
                return Some(seen_us);
            }
        }
    }

    fn succeed_to(&self, dead: Ticket) -> bool {
        self.seat.page.succeed(dead, self.seat.ticket)
    }

    /// Waits until the server has ended or a signal says something, and keeps up with it meanwhile.
    fn watch(&mut self, server: &Process, signals: &mut Signals) -> Option<Told> {
        loop {
            let Ok([told, ended]) = wait_readable([signals.as_fd(), server.as_fd()], KEEP_UP)
            else {
                thread::sleep(WATCH_PAUSE);
                continue;
            };
            if ended {
                return None;
            }
            if told && let Ok(Some(Told::End)) = signals.take() {
                return Some(Told::End);
            }
            // What could not be brought in now is brought in the next time, or faults when it is
            // needed.
            let _ = self.keep_up();
        }
    }

    fn inherit(self, context: &Context<'_>) -> StartResult<(State, Rebuilt)> {
        match self.inherited {
            Inherited::Nothing(state) => Ok((*state, Rebuilt::default())),
            // No other thread counts yet.
            Inherited::Pages(standby) => standby.take_over(context.stats.queue(QueueId(0))),
        }
    }
}

/// What became of the state, in a line.
fn described(rebuilt: &Rebuilt) -> String {
    let Rebuilt { slots, objects, staged, spilled, unlocked, poisoned, .. } = rebuilt;
    format!(
        "{slots} slots, {objects} objects, {staged} staged, {spilled} spilled; {unlocked} were \
         locked, {poisoned} cannot be read"
    )
}

/// Time since the last look, microseconds.
struct Lap {
    at_us: u64,
}

impl Lap {
    const fn begin(at_us: u64) -> Self {
        Self { at_us }
    }

    fn next(&mut self) -> u64 {
        let now = clock_us();
        now - std::mem::replace(&mut self.at_us, now)
    }
}

/// Begins the recovery, however long it takes until the driver is done with the dead server. False
/// if there is nothing to recover: the device is gone, or has no disk.
fn begin(controller: &mut Controller, id: u32, cookie: u64) -> io::Result<bool> {
    let mut tries = 0;
    loop {
        // Its number may be another device's since this process saw it.
        if tries % LOOKS_EVERY == 0 && !is_there(controller, id, cookie)? {
            return Ok(false);
        }
        if controller.begin_recovery(id)? {
            return Ok(true);
        }
        tries += 1;
        thread::sleep(DRIVER_POLL);
    }
}

/// Whether the device is still the one with this cookie, and has a disk.
fn is_there(controller: &mut Controller, id: u32, cookie: u64) -> io::Result<bool> {
    let info = controller.info(id)?;
    Ok(info.is_some_and(|info| info.cookie == cookie && info.state != DevInfo::DEAD))
}

/// Ends the recovery. Panics if the driver does not: the next standby begins anew.
fn end(controller: &mut Controller, id: u32) {
    loop {
        match controller.end_recovery(id) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            ended => break ended.unwrap_or_else(|e| panic!("{HALF_WAY} device {id}: {e}")),
        }
    }
}

/// Opens the char device, however long it takes until the kernel can.
fn open(id: u32) -> File {
    loop {
        match try_open_char_device(id) {
            Ok(file) => return file,
            Err(_) => thread::sleep(DRIVER_POLL),
        }
    }
}

//! Threads and life cycle of the service; the only place where requests meet the store.
//!
//! Three kinds of processes. The parent (`parent`) starts the others and serves nothing. The server
//! has the device. The standby (`heir`) has everything but the device, and takes that when the
//! server dies. What they know of one another is in the control page. A server can also be alone,
//! for targets whose death costs nothing.
//!
//! Start of a server: protect the process and lock its memory, open the driver, lock the name
//! (where there is no parent to do it), bind the socket, make the state resident, make the threads,
//! add the device, fetch every tag on its queue thread, check that all memory is locked, start the
//! device, set the block layer. Then it is ready. A standby comes as far as the threads, waits, and
//! then takes state and device over instead of making them. Stop: make sure nobody uses the device,
//! stop it, let the queue threads end, close and delete it, remove state and socket. A start that
//! fails half way takes the same way back from where it is; a standby takes nothing away.

mod backing;
mod children;
mod control;
pub mod control_page;
mod crew;
mod device;
pub mod exposition;
mod format;
mod gate;
mod grower;
mod heir;
mod helper;
mod leftover;
mod live;
mod loop_target;
mod mover;
pub mod notify;
mod null_target;
mod parent;
mod policy_watch;
mod program;
pub mod protocol;
mod recording;
mod room;
mod running;
mod scrape;
mod scribe;
mod seat;
mod spill_file;
mod spill_reads;
mod spilling;
mod staging;
mod standby;
mod state;
mod status;
mod successor;
mod tending;
pub mod unit;
pub mod usage;
mod watchdog;
mod whispers;
mod worker;

use crate::config::{Settings, Target};
use crate::error::{StartError, StartResult};
use crate::limits::{CPUS_PER_QUEUE, QUEUES_DEFAULT_MAX};
use crate::stats::Stats;
use crate::sys::ublk_abi::CopyMode;
use crate::sys::wake::{Bell, Signals};
use crate::sys::{confine, guard, heap};
use crate::ublk::ctrl::Abilities;
use crate::ublk::{Controller, Features};
use crate::units::PAGE_SIZE;
use backing::Backing;
use control::Socket;
use control_page::Ticket;
use device::{Context, Device, Origin, Served};
use gate::Gate;
use heir::{Heir, Inherited};
use live::Live;
use mover::Movement;
use scrape::Scrape;
use seat::Seat;
use spill_file::SpillFile;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What handles requests, without threads and driver: for the simulation.
#[cfg(feature = "simulation")]
pub mod engine {
    pub use crate::daemon::grower::Growth;
    pub use crate::daemon::spill_reads::SpillReads;
    pub use crate::daemon::staging::{Hand, Staging};
    pub use crate::daemon::worker::SwapHandler;
}

pub use backing::{best as best_copy_mode, check_for_swap};
pub use leftover::{has_process, is_taken, kill_all, remove_leftover};
pub use live::KEYS as LIVE_KEYS;
pub use parent::run as run_parent;
pub use program::hold_libraries;
pub use recording::rings_of;
pub use standby::{Standby, format_of};
pub use state::State;
pub use successor::{Upgrade, check as check_successor};

/// Tells the administrator something, on stderr. Only start-up and the control thread call this.
type Tell<'a> = &'a (dyn Fn(&str) + Sync);

/// What a process started by the parent is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The first server: it makes state and device.
    First,
    /// A standby.
    Heir,
}

/// Serves one device, alone, until it is told to stop. Calls `ready` with the device path once I/O
/// is served, and `tell` with lines for the administrator.
pub fn serve(settings: &Settings, ready: &mut dyn FnMut(&str), tell: Tell<'_>) -> StartResult<()> {
    serve_as(settings, None, ready, tell)
}

/// The life of a server or standby that a parent started.
pub fn serve_seated(settings: &Settings, role: Role, ticket: Ticket) -> StartResult<()> {
    let seat = Arc::new(Seat::take(&state::dir_of(&settings.run_dir, &settings.name), ticket)?);
    let last_words = Arc::clone(&seat);
    std::panic::set_hook(Box::new(move |panic| {
        last_words.page.whispers().leave(&format!("process {}: {panic}", std::process::id()));
    }));
    let tell = |line: &str| seat.page.whispers().leave(line);
    let served = serve_as(settings, Some((&seat, role)), &mut |_| (), &tell);
    served.inspect_err(|e| tell(&e.to_string()))
}

fn serve_as(
    settings: &Settings,
    seat: Option<(&Seat, Role)>,
    ready: &mut dyn FnMut(&str),
    tell: Tell<'_>,
) -> StartResult<()> {
    heap::settle();
    check_page_size()?;
    let mut signals = Signals::open().map_err(|e| cannot("watch for signals", &e))?;
    let locked = protect(settings, tell)?;
    let mut controller = Controller::open()?;
    let queues = settings.queues.unwrap_or_else(|| default_queues(controller.features()));
    let _name = match seat {
        None => Some(leftover::take_name(&settings.name, &settings.run_dir)?),
        Some(_) => None,
    };
    let heir = seat.filter(|(_, role)| *role == Role::Heir).map(|(seat, _)| seat);
    let seat = seat.map(|(seat, _)| seat);
    let socket = match heir {
        None => Some(Socket::bind(&settings.socket, &settings.name)?),
        Some(_) => None,
    };
    let scrape = match heir {
        None => Scrape::start(settings, tell)?,
        Some(seat) => Scrape::start_beside(settings, seat)?,
    };
    let backing = Backing::open(settings, controller.features(), heir.is_some(), tell)?;
    let copy = backing.as_ref().map_or(CopyMode::Copy, |backing| backing.copy);
    let spill_file = match heir {
        None => SpillFile::open(settings, tell)?,
        Some(_) => SpillFile::open_beside(settings)?,
    };
    let spill = spill_file.as_ref();
    let origin = match heir {
        None => {
            let _ = seat.map(|seat| seat.page.succeed(0, seat.ticket));
            Origin::New(Box::new(State::prepare(settings, queues, copy, spill, locked)?))
        }
        Some(seat) => {
            let attach = || State::attach(settings, queues, copy, spill, locked).map(Box::new);
            let inherited = match settings.target {
                Target::Swap => Inherited::Pages(attach()?),
                _ => Inherited::Nothing(Box::new(State::unshared(settings, queues, copy)?)),
            };
            Origin::Heir(Box::new(Heir { inherited, seat }))
        }
    };
    let stats = Stats::new(queues, settings.helpers);
    let movement = Movement::default();
    let live = Live::new(settings);
    let gone = Bell::new().map_err(|e| cannot("make an eventfd", &e))?;
    let gate = Gate::new();
    let context = Context {
        settings,
        queues,
        backing: backing.as_ref(),
        spill_file: spill,
        stats: &stats,
        gone: &gone,
        gate: &gate,
        movement: &movement,
        scrape: &scrape,
        live: &live,
        seat,
        tell,
    };
    let served = context.serve(&mut controller, origin, socket, &mut signals, ready);
    clear_up(served, gate.into_inner(), &mut controller)
}

/// Takes device and state away after they have served; or leaves them, for whoever serves now.
fn clear_up(
    served: Served,
    device: Option<Device>,
    controller: &mut Controller,
) -> StartResult<()> {
    match (served, device) {
        (Served::Stopped(result), None) => result,
        (Served::Stopped(result), Some(device)) => {
            // The state goes after the device: until then it says which device is left if we die
            // here. The char device is closed first, as deleting the device requires.
            let Device { id, state, char_device, .. } = device;
            drop(char_device);
            let deleted = controller.delete(id);
            drop(state);
            result.and(deleted.map_err(|e| cannot(&format!("delete device {id}"), &e)))
        }
        (Served::Left, device) => {
            device.into_iter().for_each(|device| device.state.leave());
            Ok(())
        }
    }
}

/// The policy's file as the service `name` keeps it, if its policy is from a file.
pub fn kept_policy(run_dir: &Path, name: &str, policy: &str) -> Option<PathBuf> {
    program::kept_policy(&state::dir_of(run_dir, name), policy)
}

fn check_page_size() -> StartResult<()> {
    match guard::page_size() {
        PAGE_SIZE => Ok(()),
        other => {
            let what = format!("this kernel has pages of {other} bytes, not {PAGE_SIZE}");
            Err(StartError::failure(what, "boot a kernel with 4 KiB pages"))
        }
    }
}

/// What a device can do whose pages are in RAM, or nowhere: everything at once, and nothing to
/// flush.
const IN_RAM: Abilities = Abilities { discard: true, write_zeroes: true, volatile_cache: false };

/// Number of the device of the service `name`, from its state, whether or not its server answers.
pub fn device_of(run_dir: &Path, name: &str) -> Option<u32> {
    state::noted_device(&state::dir_of(run_dir, name))
}

/// Makes the spill file of a service that is to start, if it is not there. In a process of its own
/// that nobody waits for as for a server, and whose stderr is seen.
pub fn make_spill(settings: &Settings, tell: Tell<'_>) -> StartResult<()> {
    // A service that is there has a file open, and another one in its place would be of no use.
    // Without a driver there is no service to write so much for.
    if device_of(&settings.run_dir, &settings.name).is_some() || driver_features().is_err() {
        return Ok(());
    }
    spill_file::make(settings, tell)
}

/// Names of the features that the ublk driver of this machine offers.
pub fn driver_features() -> StartResult<Vec<String>> {
    Ok(Controller::open()?.features().names())
}

/// Makes the process fit to serve memory pressure, or says why it is not. Returns whether memory is
/// locked from here on: then whatever start-up makes is resident when it is made, which
/// [`guard::verify_locked`] checks before the device starts.
fn protect(settings: &Settings, tell: Tell<'_>) -> StartResult<bool> {
    // The mover is nice at times; if it cannot be ordinary again it is slower for that.
    let _ = confine::allow_ordinary_priority();
    // First: locking takes memory, and reclaim must not wait for the device meanwhile.
    let flusher = guard::set_io_flusher();
    let locked = guard::lock_memory();
    let is_locked = locked.is_ok();
    let steps = [
        locked.map_err(|e| cannot_lock(&e)),
        guard::set_quiet_memory().map_err(|e| cannot("turn core dumps and page merging off", &e)),
        flusher.map_err(|e| cannot("become an I/O flusher (CAP_SYS_RESOURCE)", &e)),
        guard::set_oom_exempt().map_err(|e| cannot("leave the OOM killer's list", &e)),
    ];
    steps.into_iter().filter_map(Result::err).try_for_each(|e| tolerate(settings, tell, e))?;
    Ok(is_locked)
}

/// What a process that cannot be confined says: it serves all the same.
fn not_confined(e: &io::Error) -> String {
    format!("goes on with all the rights that it was started with ({e}); see `uswap doctor`")
}

fn cannot_lock(e: &io::Error) -> StartError {
    StartError::failure(
        format!("cannot lock all memory ({e})"),
        "run with CAP_IPC_LOCK, or `ulimit -l unlimited` (LimitMEMLOCK=infinity in a unit)",
    )
}

/// With `--unsafe-no-lock`, a failed protection is only told.
fn tolerate(settings: &Settings, tell: Tell<'_>, error: StartError) -> StartResult<()> {
    // The null target stores nothing, so nothing can be lost; but it can still hang the machine as
    // swap would.
    if !settings.unsafe_no_lock {
        return Err(error);
    }
    tell(&format!("unsafe: {error}"));
    Ok(())
}

fn cannot(what: &str, e: &io::Error) -> StartError {
    StartError::failure(
        format!("cannot {what} ({e})"),
        "run as root, or see `uswap doctor`; --unsafe-no-lock is for development only",
    )
}

/// One queue for every few CPUs. Drivers that notice a death by timer cannot recover several
/// queues safely (6.12: a half-ready set of queues leaves the device unusable), so there it is one.
fn default_queues(features: Features) -> u16 {
    if !features.notices_death() {
        return 1;
    }
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    (u16::try_from(cpus).unwrap_or(u16::MAX) / CPUS_PER_QUEUE).clamp(1, QUEUES_DEFAULT_MAX)
}

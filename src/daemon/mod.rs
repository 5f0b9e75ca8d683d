//! Threads and life cycle of the service; the only place where requests meet the store.
//!
//! Start: protect the process and lock its memory, open the driver, lock the name, bind the socket,
//! make the state resident, add the device, fetch every tag on its queue thread, check that all
//! memory is locked, start the device, set the block layer. Then it is ready. Stop: make sure
//! nobody uses the device, stop it, let the queue threads end, close and delete it, remove state
//! and socket. A start that fails half way takes the same way back from where it is.

mod backing;
mod control;
mod device;
pub mod exposition;
mod format;
mod grower;
mod helper;
mod leftover;
mod live;
mod loop_target;
mod mover;
pub mod notify;
pub mod protocol;
mod room;
mod scrape;
mod spill_file;
mod spill_reads;
mod spilling;
mod staging;
mod standby;
mod state;
mod status;
pub mod usage;
mod worker;

use crate::config::Settings;
use crate::error::{StartError, StartResult};
use crate::limits::{CPUS_PER_QUEUE, QUEUES_DEFAULT_MAX};
use crate::stats::Stats;
use crate::sys::ublk_abi::CopyMode;
use crate::sys::wake::{Bell, Signals};
use crate::sys::{guard, heap};
use crate::ublk::ctrl::{Abilities, Geometry, open_char_device};
use crate::ublk::{Controller, Features};
use crate::units::{PAGE_SIZE, SECTOR_SHIFT};
use backing::Backing;
use control::Socket;
use device::{Buffers, Context};
use grower::Growth;
use live::Live;
use mover::Movement;
use scrape::Scrape;
use spill_file::SpillFile;
use spilling::Spilling;
use std::io;
use std::path::Path;

/// What handles requests, without threads and driver: for the simulation.
#[cfg(feature = "simulation")]
pub mod engine {
    pub use crate::daemon::grower::Growth;
    pub use crate::daemon::spill_reads::SpillReads;
    pub use crate::daemon::staging::{Hand, Staging};
    pub use crate::daemon::worker::SwapHandler;
}

pub use backing::{best as best_copy_mode, check_for_swap};
pub use leftover::remove_leftover;
pub use live::KEYS as LIVE_KEYS;
pub use standby::{Standby, format_of};
pub use state::State;

/// Tells the administrator something, on stderr. Only start-up and the control thread call this.
type Tell<'a> = &'a dyn Fn(&str);

/// Serves one device until it is told to stop. Calls `ready` with the device path once I/O is
/// served, and `tell` with lines for the administrator.
pub fn serve(settings: &Settings, ready: &mut dyn FnMut(&str), tell: Tell<'_>) -> StartResult<()> {
    heap::settle();
    if guard::page_size() != PAGE_SIZE {
        let what = format!("this kernel has pages of {} bytes, not 4096", guard::page_size());
        return Err(StartError::failure(what, "boot a kernel with 4 KiB pages"));
    }
    let mut signals = Signals::open().map_err(|e| cannot("watch for signals", &e))?;
    let locked = protect(settings, tell)?;
    let mut controller = Controller::open()?;
    let queues = settings.queues.unwrap_or_else(|| default_queues(controller.features()));
    let _name = leftover::take_name(&settings.name, &settings.run_dir)?;
    let socket = Socket::bind(&settings.socket, &settings.name)?;
    let scrape = Scrape::start(settings, tell)?;
    let backing = Backing::open(settings, controller.features(), tell)?;
    let copy = backing.as_ref().map_or(CopyMode::Copy, |backing| backing.copy);
    let spill_file = SpillFile::open(settings, tell)?;
    let mut state = State::prepare(settings, queues, copy, spill_file.as_ref(), locked)?;
    let spill_buffers = state.spill.take();
    let buffers = std::mem::take(&mut state.buffers);
    let sectors = settings.size >> SECTOR_SHIFT;
    let shape = Geometry { id: settings.id, queues, depth: settings.depth, sectors, copy };
    let id = controller.add(shape)?.dev_id;
    let outcome = (|| {
        state.note_device(id).map_err(|e| cannot("note the device number", &e))?;
        // Closed when this block ends, as deleting the device requires.
        let char_device = open_char_device(id)?;
        let can = backing.as_ref().map_or(IN_RAM, Backing::abilities);
        controller.set_params(id, sectors, can)?;
        let stats = Stats::new(queues, settings.helpers);
        let movement = Movement::default();
        let live = Live::new(settings);
        let gone = Bell::new().map_err(|e| cannot("make an eventfd", &e))?;
        let mut growth = Growth::new().map_err(|e| cannot("make an eventfd", &e))?;
        if let Some(store) = state.store.as_ref().filter(|store| store.spill().is_some()) {
            growth.spilling = Some(Spilling::new(store, settings.staging));
        }
        let (state, stats, char_device) = (&state, &stats, &char_device);
        let (gone, growth, movement, backing) = (&gone, &growth, &movement, backing.as_ref());
        let context = Context {
            settings,
            id,
            queues,
            state,
            backing,
            spill_file: spill_file.as_ref(),
            stats,
            char_device,
            gone,
            growth,
            movement,
            scrape: &scrape,
            live: &live,
            tell,
        };
        let buffers = Buffers { requests: buffers, spill: spill_buffers };
        context.serve(&mut controller, buffers, &socket, &mut signals, ready)
    })();
    // The state goes after the device: until then it says which device is left if we die here.
    let deleted = controller.delete(id);
    outcome?;
    deleted.map_err(|e| cannot(&format!("delete device {id}"), &e))
}

/// What a device can do whose pages are in RAM, or nowhere: everything at once, and nothing to
/// flush.
const IN_RAM: Abilities = Abilities { discard: true, write_zeroes: true, volatile_cache: false };

/// Number of the device of the service `name`, from its state, whether or not its server answers.
pub fn device_of(run_dir: &Path, name: &str) -> Option<u32> {
    state::noted_device(&state::dir_of(run_dir, name))
}

/// Names of the features that the ublk driver of this machine offers.
pub fn driver_features() -> StartResult<Vec<String>> {
    Ok(Controller::open()?.features().names())
}

/// Makes the process fit to serve memory pressure, or says why it is not. Returns whether memory is
/// locked from here on: then whatever start-up makes is resident when it is made, which
/// [`guard::verify_locked`] checks before the device starts.
fn protect(settings: &Settings, tell: Tell<'_>) -> StartResult<bool> {
    let locked = guard::lock_memory();
    let is_locked = locked.is_ok();
    let steps = [
        locked.map_err(|e| cannot_lock(&e)),
        guard::set_quiet_memory().map_err(|e| cannot("turn core dumps and page merging off", &e)),
        guard::set_io_flusher().map_err(|e| cannot("become an I/O flusher (CAP_SYS_RESOURCE)", &e)),
        guard::set_oom_exempt().map_err(|e| cannot("leave the OOM killer's list", &e)),
    ];
    steps.into_iter().filter_map(Result::err).try_for_each(|e| tolerate(settings, tell, e))?;
    Ok(is_locked)
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

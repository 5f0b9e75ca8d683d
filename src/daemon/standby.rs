//! A server in waiting: everything of a running service's state mapped and allocated, nothing of it
//! believed until the service is dead. See `state` for the two steps.

use super::format::Format;
use super::spill_file::SpillFile;
use super::staging::Staging;
use super::state::{FORMAT_FILE, Files, Shape, SpillBuffers, State, codec, dir_of};
use crate::config::Settings;
use crate::error::{StartError, StartResult};
use crate::spill::Spill;
use crate::stats::QueueStats;
use crate::store::{Rebuilt, Recovery, Store};
use crate::sys::buffers::{BufferArea, IoBuf};
use crate::sys::heap;
use crate::sys::statefs::StateDir;
use crate::sys::ublk_abi::CopyMode;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// Heap that stays free for a dictionary that comes between the last look and the take-over.
const HEAP_BYTES: usize = 512 << 10;

/// The state of a service whose server still runs.
#[derive(Debug)]
pub struct Standby {
    path: PathBuf,
    shape: Shape,
    area: Arc<BufferArea>,
    /// Room for them.
    buffers: Vec<IoBuf>,
    recovery: Option<Recovery>,
    staging: Option<Staging>,
    spill: Option<SpillBuffers>,
}

/// The format of a service's state, without opening anything else. Refused, with a remedy: there is
/// none, or this program does not know it.
pub fn format_of(run_dir: &Path, name: &str) -> StartResult<Format> {
    let path = dir_of(run_dir, name).join(FORMAT_FILE);
    let bytes = fs::read(&path).map_err(|e| {
        let what = format!("no state of {name} to take over ({}: {e})", path.display());
        StartError::failure(what, format!("start it with `uswap up --name {name}`"))
    })?;
    Format::unpack(&bytes).map_err(|unfit| unfit.explain(name))
}

impl State {
    /// Opens and maps the state of the service that `settings` name, while its server runs, and
    /// allocates what a server needs. Changes nothing there. `spill`: the same file, opened by
    /// `SpillFile::open_beside`. `locked`: memory of this process is locked as it comes.
    ///
    /// Refused, with a remedy: no state there, a format of another version, another geometry or
    /// spill than the settings say. Allocates; blocks while the kernel finds the memory. Call it
    /// while the process has one thread.
    pub fn attach(
        settings: &Settings,
        queues: u16,
        copy: CopyMode,
        spill: Option<&SpillFile>,
        locked: bool,
    ) -> StartResult<Standby> {
        let format = format_of(&settings.run_dir, &settings.name)?;
        let shape = Shape::of(settings, queues, copy, spill)?;
        format.suits(&shape.format).map_err(|unfit| unfit.explain(&settings.name))?;
        let path = dir_of(&settings.run_dir, &settings.name);
        Standby::new(shape, path, settings, locked).map_err(|e| {
            let what = format!("cannot map the state of {} ({e})", settings.name);
            StartError::failure(what, "make memory free, or see that nobody changed its files")
        })
    }
}

impl Standby {
    fn new(shape: Shape, path: PathBuf, settings: &Settings, locked: bool) -> io::Result<Self> {
        let (files, format) = (Files::existing(&path), shape.format);
        let area = shape.map_buffers(&files)?;
        let mut recovery = None;
        if format.slots > 0 {
            let memory = shape.map_store(&files, locked)?;
            let store = Store::attach(memory, codec(settings)).with_buffers(Arc::clone(&area));
            let store = match format.spill {
                None => store,
                Some(spill) => {
                    let words = shape.map_segments(&files, spill.bytes)?;
                    let wiped = || io::Error::other("its key was wiped: it has ended");
                    store.with_spill(Spill::attach(words, spill.bytes).ok_or_else(wiped)?)
                }
            };
            recovery = Some(store.recovery());
        }
        let room = area.free_pages() - shape.tag_pages();
        let helpers = settings.helpers;
        let staging = recovery.as_ref().map(|_| Staging::new(Arc::clone(&area), room, helpers));
        let buffers = Vec::with_capacity(shape.tags() as usize);
        let spill = shape.spill_buffers(&files)?;
        heap::reserve(HEAP_BYTES);
        let mut standby = Self { path, shape, area, buffers, recovery, staging, spill };
        standby.keep_up()?;
        Ok(standby)
    }

    /// Brings in what has come into being since the last call: slabs that the pool has grown by,
    /// dictionaries. Cheap when there is nothing (a look at 8 bytes for every 256 KiB of pool).
    /// Returns the bytes brought in. May allocate and block: not for the time of need. An error
    /// leaves the rest for the next call.
    pub fn keep_up(&mut self) -> io::Result<u64> {
        self.recovery.as_mut().map_or(Ok(0), Recovery::keep_up)
    }

    /// Rebuilds everything from the slot table, once the old server is dead: nothing else may have
    /// the state mapped and run. `stats` gets the numbers of what is stored (any one thread's set).
    /// The result owns the mount.
    ///
    /// Takes time by the number of slots and objects, never by waiting. The error means that the
    /// state cannot be served at all; it stays as it is.
    pub fn take_over(mut self, stats: &QueueStats) -> StartResult<(State, Rebuilt)> {
        let (mut store, mut rebuilt) = (None, Rebuilt::default());
        if let Some((recovery, staging)) = self.recovery.take().zip(self.staging.as_ref()) {
            let since = Instant::now();
            let mut adopt = |slot, page| staging.adopt(slot, page, since);
            let (made, found) = recovery.take_over(&mut adopt, stats);
            (store, rebuilt) = (Some(made), found);
        }
        // The dead server had one for every tag, none of them staged: so they are there.
        let Some(buffers) = self.shape.take_buffers(&self.area, self.buffers) else {
            return Err(StartError::failure(
                "the state is damaged: more pages are staged than there is room for",
                "save what you can and reboot",
            ));
        };
        let state = State {
            dir: Some(StateDir::adopt(&self.path)),
            store,
            buffers,
            staging: self.staging,
            spill: self.spill,
            buffer_bytes: self.shape.buffer_bytes(),
            table_bytes: self.shape.table(),
        };
        Ok((state, rebuilt))
    }
}

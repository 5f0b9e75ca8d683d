//! A server in waiting: everything of a running service's state mapped and allocated, nothing of it
//! believed until the service is dead. See `state` for the two steps.

use super::spill_file::SpillFile;
use super::state::State;
use crate::config::Settings;
use crate::error::{StartError, StartResult};
use crate::stats::QueueStats;
use std::io;
use std::time::Duration;

/// What a rebuild found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// Slots that hold something, poisoned ones included.
    pub slots: u64,
    /// Objects in the pool.
    pub objects: u64,
    /// Bytes of page data in them.
    pub stored_bytes: u64,
    /// Same-filled slots.
    pub same: u64,
    /// Staged slots: the backlog that the helpers begin with.
    pub staged: u64,
    /// Spilled slots.
    pub spilled: u64,
    /// Slots that somebody had locked when he died.
    pub unlocked: u64,
    /// Slots whose entry cannot be true: their pages read as I/O errors from now on.
    pub poisoned: u64,
    /// Dictionaries.
    pub dictionaries: u32,
    /// How long it took.
    pub took: Duration,
}

/// The state of a service whose server still runs.
#[derive(Debug)]
pub struct Standby {}

impl State {
    /// Opens and maps the state of the service that `settings` name, while its server runs, and
    /// allocates what a server needs. Changes nothing there. `spill`: the same file, opened by
    /// [`SpillFile::open_beside`]. `locked`: memory of this process is locked as it comes.
    ///
    /// Refused, with a remedy: no state there, a format of another version, another geometry or
    /// spill than the settings say. Allocates; blocks while the kernel finds the memory.
    pub fn attach(
        settings: &Settings,
        queues: u16,
        spill: Option<&SpillFile>,
        locked: bool,
    ) -> StartResult<Standby> {
        let _ = (settings, queues, spill, locked);
        Err(StartError::failure("taking over is not built yet", "wait for it"))
    }
}

impl Standby {
    /// Brings in what has come into being since the last call: slabs that the pool has grown by,
    /// dictionaries. Cheap when there is nothing (a look at 8 bytes for every 256 KiB of pool).
    /// Returns the bytes brought in. May allocate and block: not for the time of need. An error
    /// leaves the rest for the next call.
    pub fn keep_up(&mut self) -> io::Result<u64> {
        Ok(0)
    }

    /// Rebuilds everything from the slot table, once the old server is dead: nothing else may have
    /// the state mapped and run. `stats` gets the numbers of what is stored (any one thread's set).
    ///
    /// Takes time by the number of slots and objects, never by waiting. The error means that the
    /// state cannot be served at all; it stays as it is, for another try.
    pub fn take_over(self, stats: &QueueStats) -> StartResult<(State, Rebuilt)> {
        let _ = stats;
        Err(StartError::failure("taking over is not built yet", "wait for it"))
    }
}

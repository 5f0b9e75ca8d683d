//! What a service is asked to be. Every key is documented once, here; flags and file keys have the same names.

use std::path::PathBuf;

/// What the device does with pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Stores pages compressed in RAM.
    Swap,
    /// Commits every request at once and stores nothing: the floor for comparisons. Reads return zeros.
    Null,
}

/// How arriving pages are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodecChoice {
    /// LZ4 blocks.
    Lz4,
    /// No compression, except that same-filled pages still take no room.
    None,
}

/// A checked description of one service: every rule of `config::check` holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Name of the service; its directory below the run directory.
    pub name: String,
    /// Number of the device (`/dev/ublkbN`), or the first free one.
    pub id: Option<u32>,
    /// Size of the device in bytes, a multiple of the page size.
    pub size: u64,
    /// Most bytes of RAM for stored pages, a multiple of the page size.
    pub pool: u64,
    /// Hardware queues, or a number that suits the kernel and the CPUs.
    pub queues: Option<u16>,
    /// Requests a queue can have in flight.
    pub depth: u16,
    /// How arriving pages are compressed.
    pub codec: CodecChoice,
    /// What the device does with pages.
    pub target: Target,
    /// Directory for the state of all services, normally `/run/uswap`.
    pub run_dir: PathBuf,
    /// Control socket.
    pub socket: PathBuf,
    /// Do mkswap and swapon once the device serves.
    pub swapon: bool,
    /// Priority for swapon; the kernel's choice when absent.
    pub priority: Option<i16>,
    /// swapon with discards, so that freed slots give their memory back.
    pub discard: bool,
    /// For development only: go on although memory cannot be locked or the process cannot be protected.
    pub unsafe_no_lock: bool,
}

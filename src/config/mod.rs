//! What a service is asked to be. Every key is documented once, here; flags and file keys have the
//! same names.
//!
//! [`load`] reads words, [`check`] turns them into [`Settings`]. Every reader takes a `root`, so
//! that a test is a directory and never this machine.

pub mod amount;
pub mod check;
pub mod experiment;
pub mod load;
pub mod metrics;
pub mod policy;
pub mod size;
pub mod spill;
mod words;
pub mod zram_generator;

pub use metrics::{METRICS_DEFAULT, Metrics};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// Name of the service nobody named.
pub const NAME_DEFAULT: &str = "default";
/// State of all services.
pub const RUN_DIR_DEFAULT: &str = "/run/uswap";
/// Priority of the swap area: above disks, whose default is negative, and above what a zram set-up
/// usually takes.
pub const PRIORITY_DEFAULT: i16 = 100;

/// An absolute `path` as seen from `root`; a relative one is a person's word and stays as it is.
pub fn under(root: &Path, path: &Path) -> PathBuf {
    path.strip_prefix("/").map_or_else(|_| path.to_owned(), |rest| root.join(rest))
}

/// What the device does with pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// Stores pages compressed in RAM.
    Swap,
    /// Commits every request at once and stores nothing: the floor for comparisons. Reads return
    /// zeros.
    Null,
    /// Hands every request on to a file or block device, page for page.
    Loop,
}

impl Target {
    /// The word people type.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Swap => "swap",
            Self::Null => "null",
            Self::Loop => "loop",
        }
    }
}

/// How arriving pages are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CodecChoice {
    /// LZ4 blocks.
    Lz4,
    /// zstd frames: fewer bytes for more time.
    Zstd,
    /// No compression, except that same-filled pages still take no room.
    None,
}

impl CodecChoice {
    /// The word people type.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
            Self::None => "none",
        }
    }
}

/// How the loop target moves data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CopyChoice {
    /// The best way that the driver has.
    Auto,
    /// The driver copies.
    Copy,
    /// The server copies.
    User,
    /// Nobody does.
    Zero,
}

impl CopyChoice {
    /// The word people type.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Copy => "copy",
            Self::User => "user",
            Self::Zero => "zero",
        }
    }
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
    /// Bytes of RAM for pages that are committed and not yet compressed; 0 for none.
    pub staging: u64,
    /// Threads that compress staged pages; at least one where there is staging.
    pub helpers: u16,
    /// Longest time, in microseconds, that a queue thread polls before it sleeps; 0 for never.
    pub poll_us: u32,
    /// How arriving pages are compressed.
    pub codec: CodecChoice,
    /// What becomes of pages that stay.
    pub policy: policy::PolicyChoice,
    /// What the device does with pages.
    pub target: Target,
    /// File or block device: the loop target's own, or where the swap target's pages go that leave
    /// RAM. None for the null target.
    pub spill: Option<PathBuf>,
    /// Bytes of it that the swap target uses; 0 for all of a file or device that is there.
    pub spill_size: u64,
    /// How the loop target moves data.
    pub copy: CopyChoice,
    /// Swap to a spill file or device that can stop the machine.
    pub unsafe_spill: bool,
    /// Directory for the state of all services, normally `/run/uswap`.
    pub run_dir: PathBuf,
    /// Control socket.
    pub socket: PathBuf,
    /// Where metrics are served.
    pub metrics: Metrics,
    /// Do mkswap and swapon once the device serves.
    pub swapon: bool,
    /// Priority for swapon; the kernel's choice when absent (`config::check` fills in
    /// [`PRIORITY_DEFAULT`]).
    pub priority: Option<i16>,
    /// swapon with discards, so that freed slots give their memory back.
    pub discard: bool,
    /// Keep a standby that takes over when the server dies.
    pub standby: bool,
    /// For development only: go on although memory cannot be locked or the process cannot be
    /// protected.
    pub unsafe_no_lock: bool,
}

//! The control socket's language: one JSON object on a line each way, then the connection ends.

use crate::error::{StartError, StartResult};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Longest line either side accepts; a status is some 20 KiB.
pub const LINE_BYTES_MAX: u64 = 256 << 10;
/// How long either side waits for the other's line.
pub const LINE_WAIT_MAX: Duration = Duration::from_secs(5);

/// What a client may ask.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
pub enum Request {
    /// Describe yourself.
    Status,
    /// Change a setting, until the service ends.
    Set {
        /// As in the configuration file.
        key: String,
        /// As in the configuration file.
        value: String,
    },
    /// Have threads tell what they do to whoever takes it out of the rings in the state directory,
    /// or not any more.
    Record {
        /// Whether they are to.
        on: bool,
    },
    /// Delete the device and end, unless it is in use.
    Stop,
}

/// What the service answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case")]
pub enum Reply {
    /// Answer to [`Request::Status`].
    Status(Box<Status>),
    /// What was asked for is done.
    Done {
        /// One line for a person.
        message: String,
    },
    /// The service goes away now; the process is gone when its socket is.
    Stopping,
    /// It will not, and why, and what to do.
    Refused {
        /// One line for a person.
        message: String,
        /// Whether the words were wrong, and not the machine.
        #[serde(default)]
        usage: bool,
    },
}

impl Reply {
    /// That it will not, for this reason.
    pub fn refused(why: &StartError) -> Self {
        Self::Refused { message: why.to_string(), usage: why.is_usage() }
    }
}

/// Everything a service says of itself. Bytes and pages are exact counts; only
/// [`SwapUse::stale_pages_min`] is an estimate.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Status {
    /// Service name.
    pub name: String,
    /// Block device path.
    pub device: String,
    /// Device number.
    pub id: u32,
    /// The process to send a signal to, and the last one to end: the parent, or the server if that
    /// has none.
    pub pid: u32,
    /// Version of the server.
    pub version: String,
    /// Release of the running kernel.
    pub kernel: String,
    /// `swap`, `loop` or `null`.
    pub target: String,
    /// `lz4`, `zstd` or `none`.
    pub codec: String,
    /// Size of the device.
    pub size_bytes: u64,
    /// Hardware queues.
    pub queues: u16,
    /// Requests in flight per queue.
    pub depth: u16,
    /// RAM for pages that are committed and not yet compressed.
    pub staging_bytes: u64,
    /// Threads that compress staged pages.
    pub helpers: u16,
    /// Longest polling before a queue thread sleeps, microseconds.
    pub poll_us: u32,
    /// Where metrics can be scraped, absent where they cannot.
    #[serde(default)]
    pub metrics: Option<String>,
    /// Keys of the configuration file as they are now: what the service was started with, and what
    /// has changed since. Sizes are bytes.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
    /// Seconds since the server began to serve.
    pub uptime_seconds: u64,
    /// Whether what the threads do is recorded.
    #[serde(default)]
    pub recording: bool,
    /// The kernel's use of the device as swap, absent when it is not a swap area.
    pub swap: Option<SwapUse>,
    /// The loop target's file or device, absent for other targets.
    pub backing: Option<BackingUse>,
    /// What becomes of pages that stay; absent where no page is stored.
    #[serde(default)]
    pub policy: Option<PolicyUse>,
    /// Where pages go that leave RAM, absent where none do.
    #[serde(default)]
    pub spill: Option<SpillUse>,
    /// The processes of the service; absent where there is only one.
    #[serde(default)]
    pub processes: Option<ProcessUse>,
    /// RAM the service holds.
    pub memory: MemoryUse,
    /// What is stored.
    pub pages: PageCounts,
    /// Swap safety as read back from the kernel.
    pub safety: Safety,
    /// Block-layer settings that matter for swap.
    pub block: Vec<BlockSetting>,
    /// ublk features the driver offers and the device was given.
    pub features: Vec<String>,
    /// All counters by name.
    pub counters: BTreeMap<String, u64>,
    /// How long things took, by name.
    pub times: BTreeMap<String, TimeUse>,
}

/// A line of /proc/swaps.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SwapUse {
    /// Size of the swap area.
    pub size_bytes: u64,
    /// Slots the kernel has in use, as bytes.
    pub used_bytes: u64,
    /// Pages stored that the kernel no longer needs and has not said so of, at least. There may be
    /// more: the kernel also counts slots of pages that it has not written here (all zeros, or
    /// still on their way).
    #[serde(default)]
    pub stale_pages_min: u64,
    /// Priority.
    pub priority: i32,
}

/// How long one kind of thing took. Quantiles are upper ends of histogram buckets, at most a
/// quarter too high.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeUse {
    /// How often it happened.
    pub count: u64,
    /// Mean time in nanoseconds, exact.
    pub mean_ns: u64,
    /// Half of all took at most this.
    pub p50_ns: u64,
    /// 99 of 100 took at most this.
    pub p99_ns: u64,
    /// 999 of 1000 took at most this.
    pub p999_ns: u64,
    /// All of it together, nanoseconds.
    #[serde(default)]
    pub sum_ns: u64,
    /// Ends of the histogram's buckets in nanoseconds, and how many times were below that and not
    /// below the one before; empty ones are left out. The last one has the end 2^64 - 1.
    #[serde(default)]
    pub buckets: Vec<(u64, u64)>,
}

/// What the loop target hands requests to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BackingUse {
    /// File or block device.
    pub path: String,
    /// How data moves: `copy`, `user` or `zero`.
    pub copy: String,
    /// Whether the page cache is left out.
    pub direct: bool,
    /// Whether discards reach it.
    pub discard: bool,
}

/// The policy, and what it last said.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PolicyUse {
    /// As it was given.
    pub name: String,
    /// Tells contents apart that have one name.
    #[serde(default)]
    pub digest: String,
    /// Its victim policy.
    pub victim: String,
    /// The machine's memory: `calm`, `tight` or `critical`.
    pub pressure: String,
    /// Why less room is made than was wanted, in words.
    pub short: Option<String>,
    /// Age ticks so far.
    pub age_tick: u64,
    /// Microseconds after boot at which they began to be counted.
    #[serde(default)]
    pub ages_began_us: u64,
    /// How its script does, if it is one.
    #[serde(default)]
    pub script: Option<ScriptUse>,
}

/// A policy that is a script.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ScriptUse {
    /// The preset that it builds on.
    pub base: String,
    /// Why the script was given up and its base decides; absent while the script guides.
    pub broken: Option<String>,
    /// Why the latest version of the file was refused and the one before stays, if it was.
    pub refused: Option<String>,
    /// Times that a script was given up, or a version of it refused, since this server serves.
    pub errors: u64,
}

/// Pages outside RAM.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SpillUse {
    /// File or block device.
    pub path: String,
    /// `good`, `full`, `failing` (it is tried again) or `broken`.
    pub health: String,
    /// Bytes of it that may be used.
    pub size_bytes: u64,
    /// Of these, in segments that hold something or are being written.
    pub used_bytes: u64,
    /// Segments.
    pub segments: u64,
    /// Segments that hold something or are being written.
    pub segments_used: u64,
    /// Pages.
    pub pages: u64,
    /// Bytes of their data, without seals and rounding.
    pub data_bytes: u64,
    /// Bytes ever given to the file or device to write.
    pub written_bytes: u64,
    /// Segments that could not be written; their pages stayed in RAM.
    pub write_errors: u64,
    /// Pages that could not be read because the file or device failed.
    pub read_errors: u64,
}

/// Who serves, who would, and how often that has been needed.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ProcessUse {
    /// The parent; 0 while it is dead.
    pub parent_pid: u32,
    /// The server.
    pub server_pid: u32,
    /// The standby; 0 while there is none.
    pub standby_pid: u32,
    /// Whether it has everything that it needs to take over.
    pub standby_warm: bool,
    /// Times that a standby took over.
    pub recoveries: u64,
    /// How long the last time took, from the moment that the server was seen dead (or was told to
    /// hand over) until its successor served, microseconds.
    pub last_recovery_us: u64,
    /// The longest.
    pub longest_recovery_us: u64,
}

/// RAM held, by purpose.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct MemoryUse {
    /// The most that the arena for stored pages may take.
    pub pool_bytes: u64,
    /// What of it is resident now.
    pub pool_resident_bytes: u64,
    /// Slabs in use, whole slabs.
    pub pool_used_bytes: u64,
    /// Objects in these slabs, headers and rounding included.
    pub object_bytes: u64,
    /// How much room is left in the pool: `plenty`, `low`, `min` or `full`.
    pub pool_level: String,
    /// Times that the kernel refused memory when the pool was to grow.
    pub pool_growth_failures: u64,
    /// The pool's own bookkeeping, on the heap.
    pub bookkeeping_bytes: u64,
    /// Dictionaries alive.
    #[serde(default)]
    pub dictionaries: u32,
    /// What they take.
    #[serde(default)]
    pub dictionary_bytes: u64,
    /// Slot table, resident.
    pub table_bytes: u64,
    /// Request buffers, resident.
    pub buffer_bytes: u64,
    /// Rings of a recording, resident from the first one on.
    #[serde(default)]
    pub recording_bytes: u64,
    /// The server's resident set: everything above plus code, heap and stacks.
    pub resident_bytes: u64,
}

/// Stored pages by kind.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct PageCounts {
    /// Slots that hold a page.
    pub stored: u64,
    /// Of these, same-filled: no pool memory.
    pub same: u64,
    /// Of these, lz4 objects.
    pub lz4: u64,
    /// Of these, zstd objects.
    #[serde(default)]
    pub zstd: u64,
    /// Of these, zstd objects made with a dictionary.
    #[serde(default)]
    pub dense: u64,
    /// Of these, uncompressed.
    pub huge: u64,
    /// Of these, staged: committed and not yet compressed.
    pub staged: u64,
    /// Of these, in the spill.
    #[serde(default)]
    pub spilled: u64,
    /// Bytes of page data in the pool, without headers and rounding.
    pub data_bytes: u64,
}

/// Swap safety as read back from the kernel.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Safety {
    /// All memory is locked and resident.
    pub memory_locked: bool,
    /// PR_SET_IO_FLUSHER is on in every thread.
    pub io_flusher: bool,
    /// The process's oom_score_adj.
    pub oom_score_adj: i32,
    /// State lives on a tmpfs that is never swapped.
    pub state_noswap: bool,
    /// Heap calls made by queue threads after ready. Anything but zero is a defect.
    pub queue_allocations: u64,
    /// System calls that a server has no use for are refused to it.
    #[serde(default)]
    pub calls_filtered: bool,
}

/// One block-layer or VM setting.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BlockSetting {
    /// Its name, as below /sys/block/ublkbN/queue.
    pub name: String,
    /// Its value now.
    pub value: String,
    /// The value swap wants.
    pub wanted: String,
    /// Whether the value will do.
    pub good: bool,
}

/// Sends `request` to the service behind `socket` and waits for its answer, at most
/// [`LINE_WAIT_MAX`] a step.
pub fn ask(socket: &Path, request: &Request) -> StartResult<Reply> {
    let fail = |what: String| {
        StartError::failure(
            format!("{}: {what}", socket.display()),
            "see `uswap list` for the services that run",
        )
    };
    let mut stream =
        UnixStream::connect(socket).map_err(|e| fail(format!("no service answers ({e})")))?;
    let limits = stream
        .set_read_timeout(Some(LINE_WAIT_MAX))
        .and_then(|()| stream.set_write_timeout(Some(LINE_WAIT_MAX)));
    limits.map_err(|e| fail(e.to_string()))?;
    let mut line = serde_json::to_string(request).map_err(|e| fail(e.to_string()))?;
    line.push('\n');
    stream.write_all(line.as_bytes()).map_err(|e| fail(e.to_string()))?;
    let mut answer = String::new();
    BufReader::new(stream.take(LINE_BYTES_MAX))
        .read_line(&mut answer)
        .map_err(|e| fail(format!("no answer ({e})")))?;
    serde_json::from_str(&answer).map_err(|e| fail(format!("unreadable answer ({e})")))
}

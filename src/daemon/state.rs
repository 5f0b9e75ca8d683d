//! The memory of a service: its private tmpfs, and in it the slot table, the arena and the request
//! buffers. All of it is resident before the device starts, but for the part of the arena that the
//! pool may grow to.

use super::staging::Staging;
use crate::config::{CodecChoice, Settings, Target};
use crate::error::{StartError, StartResult};
use crate::limits::{REQUEST_PAGES_MAX, RESERVE_HIGH_BYTES};
use crate::store::{Store, StoreCodec};
use crate::sys::buffers::{BufferArea, CHUNK_PAGES, IoBuf, Search};
use crate::sys::guard;
use crate::sys::map::{Arena, Words};
use crate::sys::statefs::StateDir;
use crate::sys::ublk_abi::CopyMode;
use crate::units::{PAGE_SHIFT, PAGE_SIZE};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// File that says which device the state belongs to.
const DEVICE_FILE: &str = "device";

/// A service's state, mapped and present. Dropping it unmounts; the mappings keep the memory until
/// they go too.
#[derive(Debug)]
pub struct State {
    dir: Option<StateDir>,
    /// The page store; none for the null target.
    pub store: Option<Store>,
    /// Request buffers not yet given to a queue.
    pub buffers: Vec<IoBuf>,
    /// Pages that wait to be compressed; none for the null target.
    pub staging: Option<Staging>,
    /// Bytes of request buffers and staging.
    pub buffer_bytes: u64,
    /// Bytes of slot table.
    pub table_bytes: u64,
}

/// Directory of a service's state.
pub fn dir_of(run_dir: &Path, name: &str) -> PathBuf {
    run_dir.join(name)
}

impl State {
    /// Mounts the tmpfs and makes everything resident. `locked`: memory of this process is locked
    /// as it comes. Blocks while the kernel finds the memory.
    pub fn prepare(
        settings: &Settings,
        queues: u16,
        copy: CopyMode,
        locked: bool,
    ) -> StartResult<Self> {
        let path = dir_of(&settings.run_dir, &settings.name);
        let slots = settings.size >> PAGE_SHIFT;
        let (pool, table) = match settings.target {
            Target::Swap => (settings.pool, slots * 8),
            Target::Null | Target::Loop => (0, 0),
        };
        // Where nobody copies, a buffer only stands for its tag.
        let each = if copy == CopyMode::Zero { 1 } else { REQUEST_PAGES_MAX };
        let buffer_count = u64::from(queues) * u64::from(settings.depth);
        let chunks = (buffer_count * u64::from(each)).div_ceil(CHUNK_PAGES.into())
            + settings.staging.div_ceil(u64::from(CHUNK_PAGES) << PAGE_SHIFT);
        let buffer_bytes = (chunks * u64::from(CHUNK_PAGES)) << PAGE_SHIFT;
        let total = pool + table.next_multiple_of(PAGE_SIZE as u64) + buffer_bytes;
        let files = Files::make(&path, total, settings.unsafe_no_lock)?;
        let fail = |e: io::Error| {
            StartError::failure(
                format!("cannot set up {} MiB of memory ({e})", total >> 20),
                "give a smaller --pool or --size",
            )
        };
        let area = files
            .open("buffers", buffer_bytes)
            .and_then(|f| BufferArea::new(&f, chunks as usize))
            .map_err(fail)?;
        let buffers: Vec<IoBuf> =
            (0..buffer_count).map_while(|_| area.take(each, Search::High)).collect();
        assert_eq!(buffers.len() as u64, buffer_count, "chunks were counted for all of them");
        let store = match settings.target {
            Target::Null | Target::Loop => None,
            Target::Swap => {
                let words = files
                    .open("table", table)
                    .and_then(|f| Words::new(&f, slots as usize))
                    .map_err(fail)?;
                let arena = files
                    .open("arena", pool)
                    .and_then(|f| map_arena(&f, pool, locked))
                    .map_err(fail)?;
                let codec = match settings.codec {
                    CodecChoice::Lz4 => StoreCodec::Lz4,
                    CodecChoice::Zstd => StoreCodec::Zstd,
                    CodecChoice::None => StoreCodec::None,
                };
                Some(Store::new(words, arena, codec).with_buffers(Arc::clone(&area)))
            }
        };
        let room = area.free_pages();
        let staging = store.as_ref().map(|_| Staging::new(area, room, settings.helpers));
        Ok(Self { dir: files.dir, store, staging, buffers, buffer_bytes, table_bytes: table })
    }

    /// Whether the state is on a tmpfs that is never swapped.
    pub fn is_noswap(&self) -> bool {
        self.dir.is_some()
    }

    /// Writes down which device this state belongs to, for whoever cleans up after a crash.
    pub fn note_device(&self, id: u32) -> io::Result<()> {
        self.dir.as_ref().map_or(Ok(()), |d| fs::write(d.path().join(DEVICE_FILE), id.to_string()))
    }
}

/// Maps the arena; its reserve is resident, the rest comes into being when the pool grows.
fn map_arena(file: &fs::File, pool: u64, locked: bool) -> io::Result<Arena> {
    let map = || Arena::sparse(file, pool as usize);
    let mut arena = if locked { guard::lock_on_fault(map)? } else { map()? };
    arena.prepare(RESERVE_HIGH_BYTES as usize)?;
    Ok(arena)
}

/// Device number noted in a state directory.
pub fn noted_device(dir: &Path) -> Option<u32> {
    fs::read_to_string(dir.join(DEVICE_FILE)).ok()?.trim().parse().ok()
}

/// Where the state's files come from.
struct Files {
    dir: Option<StateDir>,
}

impl Files {
    fn make(path: &Path, bytes: u64, unsafe_no_lock: bool) -> StartResult<Self> {
        match StateDir::mount(path, bytes) {
            Ok(dir) => Ok(Self { dir: Some(dir) }),
            Err(_) if unsafe_no_lock => Ok(Self { dir: None }),
            Err(e) => Err(StartError::failure(
                format!("cannot mount a noswap tmpfs on {} ({e})", path.display()),
                "run as root on Linux 6.4 or newer, or with --unsafe-no-lock to try without",
            )),
        }
    }

    fn open(&self, name: &str, len: u64) -> io::Result<fs::File> {
        match &self.dir {
            Some(dir) => dir.file(name, len),
            None => crate::sys::statefs::anonymous_file(name, len),
        }
    }
}

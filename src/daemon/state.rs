//! The memory of a service: its private tmpfs, and in it all that a page's survival depends on. It
//! outlives every process; whoever serves next builds everything else anew from it.
//!
//! | file | what is in it |
//! |---|---|
//! | `format` | version and geometry, checked before anything else is opened; never changed |
//! | `table` | the slots: the only truth about where a page is |
//! | `arena` | the objects of the pool; resident are the slabs that `slabs` says |
//! | `slabs` | a byte for each slab of the arena: whether it is there, and its size class |
//! | `buffers` | request buffers and staged pages |
//! | `store` | dictionaries, the age tick, the key of the spill and the numbers of its segments |
//! | `device` | number of the block device, as text |
//!
//! The buffers of the spill are not among them: a dead server's last transfers may still be on
//! their way into its own, so every server has new ones.
//!
//! A server makes the files ([`State::prepare`]) or takes over those of a dead one, in two steps,
//! because under memory pressure nothing can be had once the server is dead:
//!
//! 1. [`State::attach`] while the old server runs and writes. Opens and maps everything, allocates
//!    everything, and believes nothing. The spill file is opened beside the old server's
//!    (`SpillFile::open_beside`).
//!    [`Standby::keep_up`], called from time to time, follows the arena as it grows.
//! 2. [`Standby::take_over`] when the old server is dead: one pass over the slot table. Does not
//!    wait for memory, and whatever is in the files does not make it panic: an entry that cannot
//!    be true is poisoned (the page reads as an I/O error), never followed.
//!
//! All of it is resident before the device starts, but for the part of the arena that the pool may
//! grow to. Whoever has a [`State`] owns the mount: dropping it unmounts and wipes the key.
//! [`State::leave`] is for a server that ends while another one takes over.

use super::spill_file::SpillFile;
use super::staging::Staging;
use crate::config::{CodecChoice, Settings, Target};
use crate::error::{StartError, StartResult};
use crate::limits::{REQUEST_PAGES_MAX, RESERVE_HIGH_BYTES, SEGMENT_BYTES, SPILL_READ_BYTES_MAX};
use crate::spill::{Seal, Segments, Spill};
use crate::store::{SpillWriter, Store, StoreCodec};
use crate::sys::buffers::{BufferArea, CHUNK_PAGES, IoBuf, Search};
use crate::sys::guard;
use crate::sys::map::{Arena, Words};
use crate::sys::secret::random_key;
use crate::sys::spill_ring::SpillRing;
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
    /// Buffers of the spill; none without one.
    pub spill: Option<SpillBuffers>,
    /// Bytes of request buffers, staging and the spill's buffers.
    pub buffer_bytes: u64,
    /// Bytes of slot table.
    pub table_bytes: u64,
}

/// What spilling and reading back need to hold data in.
#[derive(Debug)]
pub struct SpillBuffers {
    /// Two pages for every tag of every queue, to read spilled pages into.
    pub bounce: Vec<IoBuf>,
    /// The writer's segments.
    pub segments: Vec<IoBuf>,
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
        spill: Option<&SpillFile>,
        locked: bool,
    ) -> StartResult<Self> {
        let spill_bytes = spill.map(|spill| spill.bytes);
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
        let buffer_bytes = chunk_bytes(chunks);
        let spill_chunks = spill_bytes.map_or(0, |_| spill_chunks(buffer_count));
        let buffer_bytes_all = buffer_bytes + chunk_bytes(spill_chunks);
        let total = pool + table.next_multiple_of(PAGE_SIZE as u64) + buffer_bytes_all;
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
                let store = Store::new(words, arena, codec).with_buffers(Arc::clone(&area));
                Some(match spill_bytes {
                    None => store,
                    Some(bytes) => store.with_spill(new_spill(bytes).map_err(fail)?),
                })
            }
        };
        let spill = files.spill_buffers(spill_chunks, buffer_count).map_err(fail)?;
        let room = area.free_pages();
        let staging = store.as_ref().map(|_| Staging::new(area, room, settings.helpers));
        let (dir, buffer_bytes, table_bytes) = (files.dir, buffer_bytes_all, table);
        Ok(Self { dir, store, staging, buffers, spill, buffer_bytes, table_bytes })
    }

    /// What a standby needs of its own where pages are elsewhere, or nowhere: buffers for requests.
    pub fn unshared(settings: &Settings, queues: u16, copy: CopyMode) -> StartResult<Self> {
        let each = if copy == CopyMode::Zero { 1 } else { REQUEST_PAGES_MAX };
        let count = u64::from(queues) * u64::from(settings.depth);
        let chunks = (count * u64::from(each)).div_ceil(CHUNK_PAGES.into());
        let buffer_bytes = chunk_bytes(chunks);
        let area = crate::sys::statefs::anonymous_file("uswap-buffers", buffer_bytes)
            .and_then(|file| BufferArea::new(&file, chunks as usize));
        let area = area.map_err(|e| {
            let what = format!("cannot set up {} MiB of memory ({e})", buffer_bytes >> 20);
            StartError::failure(what, "give a smaller --depth, or fewer --queues")
        })?;
        let buffers = (0..count).map_while(|_| area.take(each, Search::High)).collect();
        let (store, staging, spill) = (None, None, None);
        Ok(Self { dir: None, store, staging, buffers, spill, buffer_bytes, table_bytes: 0 })
    }

    /// Whether the state is on a tmpfs that is never swapped.
    pub fn is_noswap(&self) -> bool {
        self.dir.is_some()
    }

    /// Ends without removing anything: somebody else takes over. The key stays, and the mount.
    pub fn leave(mut self) {
        std::mem::forget(self.dir.take());
    }

    /// Writes down which device this state belongs to, for whoever cleans up after a crash.
    pub fn note_device(&self, id: u32) -> io::Result<()> {
        self.dir.as_ref().map_or(Ok(()), |d| fs::write(d.path().join(DEVICE_FILE), id.to_string()))
    }
}

/// Chunks of buffers for a spill, with this many tags.
fn spill_chunks(tags: u64) -> u64 {
    let bounce = tags * (SPILL_READ_BYTES_MAX / PAGE_SIZE) as u64;
    SpillWriter::<SpillRing>::BUFFERS as u64 + bounce.div_ceil(CHUNK_PAGES.into())
}

const fn chunk_bytes(chunks: u64) -> u64 {
    (chunks * CHUNK_PAGES as u64) << PAGE_SHIFT
}

/// A spill with a key of its own. Whoever takes this state over will need that key, and the
/// writer's numbers (see `spill`).
fn new_spill(bytes: u64) -> io::Result<Spill> {
    let seal = Seal::new(&*random_key()?);
    Ok(Spill { seal, segments: Segments::new(bytes) })
}

impl SpillBuffers {
    fn new(file: &fs::File, chunks: u64, tags: u64) -> io::Result<Self> {
        let area = BufferArea::new(file, chunks as usize)?;
        let take = |pages, count| -> Vec<IoBuf> {
            (0..count).map_while(|_| area.take(pages, Search::Low)).collect()
        };
        let segment_pages = (SEGMENT_BYTES / PAGE_SIZE) as u32;
        let segments = take(segment_pages, SpillWriter::<SpillRing>::BUFFERS as u64);
        let bounce = take((SPILL_READ_BYTES_MAX / PAGE_SIZE) as u32, tags);
        assert_eq!(bounce.len() as u64, tags, "chunks were counted for all of them");
        Ok(Self { bounce, segments })
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

    /// The spill's buffers; none if that is no chunk.
    fn spill_buffers(&self, chunks: u64, tags: u64) -> io::Result<Option<SpillBuffers>> {
        if chunks == 0 {
            return Ok(None);
        }
        let file = self.open("spill-buffers", chunk_bytes(chunks))?;
        SpillBuffers::new(&file, chunks, tags).map(Some)
    }

    fn open(&self, name: &str, len: u64) -> io::Result<fs::File> {
        match &self.dir {
            Some(dir) => dir.file(name, len),
            None => crate::sys::statefs::anonymous_file(name, len),
        }
    }
}

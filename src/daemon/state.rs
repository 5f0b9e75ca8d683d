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
//! | `store` | dictionaries and the age tick |
//! | `segments` | of the spill: its key, and the numbers of its segments' writes |
//! | `device` | number of the block device, as text |
//! | `trace` | what threads tell a recorder, once there was one (`recording`) |
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

use super::format::{Format, SpillIdentity};
use super::spill_file::SpillFile;
use super::staging::Staging;
use crate::config::{CodecChoice, Settings, Target};
use crate::error::{StartError, StartResult};
use crate::limits::{REQUEST_PAGES_MAX, RESERVE_HIGH_BYTES, SEGMENT_BYTES, SPILL_ALONG_BYTES_MAX};
use crate::spill::{Segments, Spill};
use crate::stats::BACKGROUND;
use crate::store::{SpillWriter, Store, StoreCodec, StoreMemory};
use crate::sys::buffers::{BufferArea, CHUNK_PAGES, IoBuf, Search};
use crate::sys::guard;
use crate::sys::map::{Arena, Words};
use crate::sys::secret::random_key;
use crate::sys::spill::identity;
use crate::sys::spill_ring::SpillRing;
use crate::sys::statefs::{StateDir, anonymous_file};
use crate::sys::ublk_abi::CopyMode;
use crate::units::{PAGE_SHIFT, PAGE_SIZE};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// File that says which device the state belongs to.
const DEVICE_FILE: &str = "device";
/// File that says what all the others are.
pub(super) const FORMAT_FILE: &str = "format";

/// A service's state, mapped and present. Dropping it wipes the key and unmounts; the mappings keep
/// the memory until they go too.
#[derive(Debug)]
pub struct State {
    pub(super) dir: Option<StateDir>,
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
        let shape = Shape::of(settings, queues, copy, spill)?;
        let path = dir_of(&settings.run_dir, &settings.name);
        let files = Files::make(&path, shape.total_bytes(), settings.unsafe_no_lock)?;
        Self::make(&shape, files, settings, locked).map_err(|e| {
            StartError::failure(
                format!("cannot set up {} MiB of memory ({e})", shape.total_bytes() >> 20),
                "give a smaller --pool or --size",
            )
        })
    }

    fn make(shape: &Shape, files: Files, settings: &Settings, locked: bool) -> io::Result<Self> {
        let format = &shape.format;
        let area = shape.map_buffers(&files)?;
        let buffers = shape.take_buffers(&area, Vec::with_capacity(shape.tags() as usize));
        let buffers = buffers.expect("chunks were counted for all of them");
        let mut store = None;
        if format.slots > 0 {
            let mut memory = shape.map_store(&files, locked)?;
            memory.arena.prepare(RESERVE_HIGH_BYTES as usize)?;
            let made = Store::create(memory, codec(settings)).with_buffers(Arc::clone(&area));
            store = Some(match format.spill {
                None => made,
                Some(SpillIdentity { bytes, .. }) => {
                    let words = shape.map_segments(&files, bytes)?;
                    made.with_spill(Spill::create(words, bytes, &*random_key()?))
                }
            });
        }
        let spill = shape.spill_buffers(&files)?;
        let room = area.free_pages();
        let staging = store.as_ref().map(|_| Staging::new(area, room, settings.helpers));
        // Last: a state without it was never finished.
        if let Some(dir) = &files.dir {
            fs::write(dir.path().join(FORMAT_FILE), format.pack())?;
        }
        let (dir, buffer_bytes, table_bytes) = (files.dir, shape.buffer_bytes(), shape.table());
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

impl Drop for State {
    fn drop(&mut self) {
        // Without a directory it is nobody else's, or somebody else's now.
        if let Some(spill) = self.store.as_ref().and_then(Store::spill)
            && self.dir.is_some()
        {
            spill.segments.set_key(&[0; 32]);
        }
    }
}

/// How the settings say that new pages are stored.
pub(super) const fn codec(settings: &Settings) -> StoreCodec {
    match settings.codec {
        CodecChoice::Lz4 => StoreCodec::Lz4,
        CodecChoice::Zstd => StoreCodec::Zstd,
        CodecChoice::None => StoreCodec::None,
    }
}

/// What files there are, and how large.
#[derive(Debug)]
pub(super) struct Shape {
    /// What a successor has to know.
    pub(super) format: Format,
    /// Pages of a request buffer.
    each: u32,
    /// Threads that can be recorded.
    threads: usize,
}

impl Shape {
    pub(super) fn of(
        settings: &Settings,
        queues: u16,
        copy: CopyMode,
        spill: Option<&SpillFile>,
    ) -> StartResult<Self> {
        let (pool_bytes, slots) = match settings.target {
            Target::Swap => (settings.pool, settings.size >> PAGE_SHIFT),
            Target::Null | Target::Loop => (0, 0),
        };
        // Where nobody copies, a buffer only stands for its tag.
        let each = if copy == CopyMode::Zero { 1 } else { REQUEST_PAGES_MAX };
        let tags = u64::from(queues) * u64::from(settings.depth);
        let chunks = (tags * u64::from(each)).div_ceil(CHUNK_PAGES.into())
            + settings.staging.div_ceil(u64::from(CHUNK_PAGES) << PAGE_SHIFT);
        let spill = spill.map(|spill| {
            let (device, inode) = identity(&spill.file)?;
            Ok(SpillIdentity { bytes: spill.bytes, device, inode })
        });
        let spill = spill.transpose().map_err(|e: io::Error| {
            StartError::failure(format!("cannot examine the spill ({e})"), "name another --spill")
        })?;
        let (depth, codec) = (settings.depth, settings.codec as u64);
        let format = Format { slots, pool_bytes, chunks, queues, depth, codec, spill };
        let threads = usize::from(queues + settings.helpers + BACKGROUND);
        Ok(Self { format, each, threads })
    }

    /// Tags of all queues.
    pub(super) fn tags(&self) -> u64 {
        u64::from(self.format.queues) * u64::from(self.format.depth)
    }

    /// Pages of their buffers.
    pub(super) fn tag_pages(&self) -> u64 {
        self.tags() * u64::from(self.each)
    }

    pub(super) const fn table(&self) -> u64 {
        self.format.slots * 8
    }

    /// Chunks of buffers for the spill.
    fn spill_chunks(&self) -> u64 {
        let bounce = self.tags() * (SPILL_ALONG_BYTES_MAX / PAGE_SIZE) as u64;
        let chunks = SpillWriter::<SpillRing>::BUFFERS as u64 + bounce.div_ceil(CHUNK_PAGES.into());
        if self.format.spill.is_some() { chunks } else { 0 }
    }

    pub(super) fn buffer_bytes(&self) -> u64 {
        chunk_bytes(self.format.chunks + self.spill_chunks())
    }

    /// Bytes of all files, those of a recording included. The spill's buffers count twice: a
    /// successor has its own.
    fn total_bytes(&self) -> u64 {
        let Format { slots, pool_bytes, spill, .. } = self.format;
        let words = match slots {
            0 => 0,
            _ => StoreMemory::slab_words(pool_bytes) + StoreMemory::NOTE_WORDS,
        };
        let segments = spill.map_or(0, |spill| Segments::words(spill.bytes));
        let small = [self.table(), (words as u64) * 8, (segments as u64) * 8];
        let small: u64 = small.map(|bytes| bytes.next_multiple_of(PAGE_SIZE as u64)).iter().sum();
        pool_bytes
            + small
            + PAGE_SIZE as u64
            + self.buffer_bytes()
            + chunk_bytes(self.spill_chunks())
            + super::recording::ring_bytes(self.threads)
    }

    /// Maps the request buffers and staging.
    pub(super) fn map_buffers(&self, files: &Files) -> io::Result<Arc<BufferArea>> {
        let file = files.open("buffers", chunk_bytes(self.format.chunks))?;
        BufferArea::new(&file, self.format.chunks as usize)
    }

    /// A buffer for each tag, added to `buffers`; `None` if there are not enough.
    pub(super) fn take_buffers(
        &self,
        area: &Arc<BufferArea>,
        mut buffers: Vec<IoBuf>,
    ) -> Option<Vec<IoBuf>> {
        for _ in 0..self.tags() {
            buffers.push(area.take(self.each, Search::High)?);
        }
        Some(buffers)
    }

    /// Maps what a store is in; of the arena nothing is made resident yet. `locked`: as for
    /// [`State::prepare`].
    pub(super) fn map_store(&self, files: &Files, locked: bool) -> io::Result<StoreMemory> {
        let words = |name, count: usize| Words::new(&files.open(name, count as u64 * 8)?, count);
        let bytes = self.format.pool_bytes;
        let file = files.open("arena", bytes)?;
        let map = || Arena::sparse(&file, bytes as usize);
        let arena = if locked { guard::lock_on_fault(map)? } else { map()? };
        Ok(StoreMemory {
            table: words("table", self.format.slots as usize)?,
            arena,
            slabs: words("slabs", StoreMemory::slab_words(bytes))?,
            notes: words("store", StoreMemory::NOTE_WORDS)?,
        })
    }

    /// Maps what is written down about a spill of `bytes`.
    pub(super) fn map_segments(&self, files: &Files, bytes: u64) -> io::Result<Words> {
        let count = Segments::words(bytes);
        Words::new(&files.open("segments", count as u64 * 8)?, count)
    }

    /// The spill's buffers; none without a spill.
    pub(super) fn spill_buffers(&self, files: &Files) -> io::Result<Option<SpillBuffers>> {
        let (chunks, tags) = (self.spill_chunks(), self.tags());
        if chunks == 0 {
            return Ok(None);
        }
        let area = BufferArea::new(&files.scratch(chunk_bytes(chunks))?, chunks as usize)?;
        let take = |pages, count| -> Vec<IoBuf> {
            (0..count).map_while(|_| area.take(pages, Search::Low)).collect()
        };
        let segment_pages = (SEGMENT_BYTES / PAGE_SIZE) as u32;
        let segments = take(segment_pages, SpillWriter::<SpillRing>::BUFFERS as u64);
        let bounce = take((SPILL_ALONG_BYTES_MAX / PAGE_SIZE) as u32, tags);
        assert_eq!(bounce.len() as u64, tags, "chunks were counted for all of them");
        Ok(Some(SpillBuffers { bounce, segments }))
    }
}

const fn chunk_bytes(chunks: u64) -> u64 {
    (chunks * CHUNK_PAGES as u64) << PAGE_SHIFT
}

/// Device number noted in a state directory.
pub fn noted_device(dir: &Path) -> Option<u32> {
    fs::read_to_string(dir.join(DEVICE_FILE)).ok()?.trim().parse().ok()
}

/// Where the state's files come from.
#[derive(Debug)]
pub(super) struct Files {
    /// Made new in here.
    dir: Option<StateDir>,
    /// Or found in here.
    existing: Option<PathBuf>,
}

impl Files {
    fn make(path: &Path, bytes: u64, unsafe_no_lock: bool) -> StartResult<Self> {
        match StateDir::mount(path, bytes) {
            Ok(dir) => Ok(Self { dir: Some(dir), existing: None }),
            Err(_) if unsafe_no_lock => Ok(Self { dir: None, existing: None }),
            Err(e) => Err(StartError::failure(
                format!("cannot mount a noswap tmpfs on {} ({e})", path.display()),
                "run as root on Linux 6.4 or newer, or with --unsafe-no-lock to try without",
            )),
        }
    }

    /// Those that another server made.
    pub(super) fn existing(path: &Path) -> Self {
        Self { dir: None, existing: Some(path.to_owned()) }
    }

    fn open(&self, name: &str, len: u64) -> io::Result<File> {
        match (&self.dir, &self.existing) {
            (Some(dir), _) => dir.file(name, len),
            (None, Some(path)) => StateDir::existing(path, name, len),
            (None, None) => anonymous_file(name, len),
        }
    }

    /// A file for this process alone.
    fn scratch(&self, len: u64) -> io::Result<File> {
        let path = self.dir.as_ref().map(StateDir::path).or(self.existing.as_deref());
        path.map_or_else(|| anonymous_file("scratch", len), |path| StateDir::scratch(path, len))
    }
}

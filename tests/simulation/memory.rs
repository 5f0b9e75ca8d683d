//! The files that outlive a server, and what one server makes of them.

use crate::disk::{Medium, SEGMENTS, SimDisk};
use crate::model::SLOTS;
use std::cell::RefCell;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;
use uswap::codec::Stream;
use uswap::daemon::engine::{Growth, Hand, SpillReads, Staging};
use uswap::limits::{REQUEST_PAGES_MAX, SEGMENT_BYTES, SLAB_BYTES, SPILL_ALONG_BYTES_MAX};
use uswap::spill::{KEY_BYTES, Segments, Spill};
use uswap::stats::QueueStats;
use uswap::store::{Rebuilt, Recompressor, Recovery, SpillWriter, Store, StoreCodec, StoreMemory};
use uswap::sys::buffers::{BufferArea, CHUNK_PAGES, IoBuf, Search};
use uswap::sys::file_op::FileOp;
use uswap::sys::map::{Arena, Words};
use uswap::sys::statefs::anonymous_file;
use uswap::ublk::queue::Job;
use uswap::units::PAGE_SIZE;

/// Requests at a time.
pub const TAGS: usize = 3;
/// Room for the requests, and a chunk to stage in.
const CHUNKS: usize = 3;
/// A bounce buffer for each tag.
const BOUNCE_CHUNKS: usize =
    (TAGS * SPILL_ALONG_BYTES_MAX).div_ceil(CHUNK_PAGES as usize * PAGE_SIZE);
const SPILL_BYTES: u64 = (SEGMENTS * SEGMENT_BYTES) as u64;

/// What is the same for every server of a run.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub slabs: usize,
    /// Slabs that are there at the start.
    pub there: usize,
    pub codec: StoreCodec,
    pub spill: bool,
}

/// The files.
#[derive(Debug)]
pub struct Files {
    pub shape: Shape,
    pub table: File,
    pub arena: File,
    pub slabs: File,
    pub notes: File,
    pub segments: File,
    buffers: File,
}

impl Files {
    pub fn new(shape: Shape) -> Self {
        let file = |len: usize| anonymous_file("simulation", len as u64).expect("memory");
        let arena = shape.slabs * SLAB_BYTES;
        Self {
            shape,
            table: file(SLOTS as usize * 8),
            arena: file(arena),
            slabs: file(StoreMemory::slab_words(arena as u64) * 8),
            notes: file(StoreMemory::NOTE_WORDS * 8),
            segments: file(Segments::words(SPILL_BYTES) * 8),
            buffers: file(CHUNKS * CHUNK_PAGES as usize * PAGE_SIZE),
        }
    }

    fn memory(&self) -> StoreMemory {
        let words = |file, count| Words::new(file, count).expect("memory");
        let bytes = self.shape.slabs * SLAB_BYTES;
        StoreMemory {
            table: words(&self.table, SLOTS as usize),
            arena: Arena::sparse(&self.arena, bytes).expect("address space"),
            slabs: words(&self.slabs, StoreMemory::slab_words(bytes as u64)),
            notes: words(&self.notes, StoreMemory::NOTE_WORDS),
        }
    }

    fn map_segments(&self) -> Words {
        Words::new(&self.segments, Segments::words(SPILL_BYTES)).expect("memory")
    }

    fn map_buffers(&self) -> Arc<BufferArea> {
        BufferArea::new(&self.buffers, CHUNKS).expect("memory")
    }

    /// The first server.
    pub fn create(&self, medium: &Rc<RefCell<Medium>>, stream: Stream) -> Server {
        let mut memory = self.memory();
        memory.arena.prepare(self.shape.there * SLAB_BYTES).expect("memory");
        let area = self.map_buffers();
        let mut store = Store::create(memory, self.shape.codec).with_buffers(Arc::clone(&area));
        if self.shape.spill {
            let key = [9; KEY_BYTES];
            store = store.with_spill(Spill::create(self.map_segments(), SPILL_BYTES, &key));
        }
        let staging = Staging::new(Arc::clone(&area), CHUNK_PAGES.into(), 0);
        Server::new(store, staging, area, medium, stream, QueueStats::default())
            .expect("a buffer for each tag")
    }

    /// A successor in waiting.
    pub fn attach(&self) -> Waiting {
        let area = self.map_buffers();
        let mut store =
            Store::attach(self.memory(), self.shape.codec).with_buffers(Arc::clone(&area));
        if self.shape.spill {
            // A key that was wiped is refused; here it was damaged.
            let spill = Spill::attach(self.map_segments(), SPILL_BYTES);
            store = spill.into_iter().fold(store, Store::with_spill);
        }
        let staging = Staging::new(Arc::clone(&area), CHUNK_PAGES.into(), 0);
        Waiting { recovery: store.recovery(), staging, area }
    }

    /// Bytes of arena that the kernel has given.
    pub fn held(&self) -> u64 {
        self.arena.metadata().expect("metadata").blocks() * 512
    }
}

/// A successor that waits.
#[derive(Debug)]
pub struct Waiting {
    pub recovery: Recovery,
    staging: Staging,
    area: Arc<BufferArea>,
}

impl Waiting {
    /// It serves; no server if there is not a buffer for each tag.
    pub fn take_over(
        self,
        medium: &Rc<RefCell<Medium>>,
        stream: Stream,
    ) -> (Option<Server>, Rebuilt) {
        let (stats, since) = (QueueStats::default(), Instant::now());
        let Self { recovery, staging, area } = self;
        let mut adopt = |slot, page: IoBuf| staging.adopt(slot, page, since);
        let (store, rebuilt) = recovery.take_over(&mut adopt, &stats);
        (Server::new(store, staging, area, medium, stream, stats), rebuilt)
    }
}

/// A request that a server has, and the operation on the spill that it waits for.
#[derive(Debug)]
pub struct Held {
    pub job: Job,
    pub op: Option<FileOp>,
}

/// Everything private of a server.
#[derive(Debug)]
pub struct Server {
    pub store: Store,
    pub staging: Staging,
    pub growth: Growth,
    /// Lent to the handler while it works.
    pub lent: Option<(Stream, SpillReads)>,
    pub hand: Hand,
    pub hand_stream: Stream,
    pub writer: Option<SpillWriter<SimDisk>>,
    pub recompressor: Option<Recompressor>,
    pub stats: QueueStats,
    pub held: [Option<Held>; TAGS],
    pub idle: [Option<IoBuf>; TAGS],
    pub area: Arc<BufferArea>,
}

thread_local! {
    /// What takes long to make and remembers nothing.
    static STREAMS: RefCell<Vec<Stream>> = const { RefCell::new(Vec::new()) };
}

/// Buffers for the spill, all free: those of the server before, since everything in them is written
/// before it is read.
fn scratch(chunks: usize) -> Arc<BufferArea> {
    thread_local! {
        static SCRATCH: RefCell<Option<Arc<BufferArea>>> = const { RefCell::new(None) };
    }
    let make = || {
        let file = anonymous_file("scratch", (chunks * SEGMENT_BYTES) as u64).expect("memory");
        BufferArea::new(&file, chunks).expect("memory")
    };
    let area = SCRATCH.with_borrow_mut(|scratch| Arc::clone(scratch.get_or_insert_with(make)));
    assert_eq!(area.free_pages(), chunks as u64 * u64::from(CHUNK_PAGES), "nobody has them");
    area
}

/// A compressor that has been used before, if there is one.
pub fn any_stream() -> Stream {
    STREAMS.with_borrow_mut(Vec::pop).unwrap_or_default()
}

/// For the next one.
pub fn keep_stream(stream: Stream) {
    STREAMS.with_borrow_mut(|streams| streams.push(stream));
}

impl Server {
    fn new(
        store: Store,
        staging: Staging,
        area: Arc<BufferArea>,
        medium: &Rc<RefCell<Medium>>,
        stream: Stream,
        stats: QueueStats,
    ) -> Option<Self> {
        let idle = [(); TAGS].map(|()| area.take(REQUEST_PAGES_MAX, Search::High));
        if idle.iter().any(Option::is_none) {
            return None;
        }
        let mut bounce = Vec::new();
        let mut writer = None;
        if store.spill().is_some() {
            // Not in the files: a dead server's transfers go to its own.
            // A segment each, and bounce buffers.
            let chunks = SpillWriter::<SimDisk>::BUFFERS + BOUNCE_CHUNKS;
            let own = scratch(chunks);
            let segments = BOUNCE_CHUNKS..chunks;
            let buffers = segments.map_while(|_| own.take(CHUNK_PAGES, Search::Low)).collect();
            writer = Some(SpillWriter::new(&store, SimDisk::new(medium), buffers));
            let pages = (SPILL_ALONG_BYTES_MAX / PAGE_SIZE) as u32;
            bounce.extend((0..TAGS).map_while(|_| own.take(pages, Search::High)));
        }
        Some(Self {
            store,
            staging,
            growth: Growth::new().expect("eventfd"),
            lent: Some((stream, SpillReads::new(bounce))),
            hand: Hand::default(),
            hand_stream: any_stream(),
            writer,
            recompressor: None,
            stats,
            held: [const { None }; TAGS],
            idle,
            area,
        })
    }
}

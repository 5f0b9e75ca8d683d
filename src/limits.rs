//! Every limit with its reason, and the relations between limits checked at compile time.

use crate::units::{Location, PAGE_SIZE, SECTOR_SHIFT};

/// Largest device: a slot index has 32 bits.
pub const DEVICE_BYTES_MAX: u64 = (1 << 32) * PAGE_SIZE as u64;
/// Smallest device: mkswap refuses less than ten pages; one discard cluster (512 slots) is the
/// least that is of use.
pub const DEVICE_BYTES_MIN: u64 = 512 * PAGE_SIZE as u64;
/// Smallest pool: every size class can have a slab of its own and there is still room.
pub const POOL_BYTES_MIN: u64 = 16 << 20;
/// Largest pool: a slot entry has 34 bits for a position in units of 16 bytes.
pub const POOL_BYTES_MAX: u64 = 16 << 34;
/// Largest queue depth. io_uring keeps the state of 128 commands per ring without allocating
/// (Linux io_uring/uring_cmd.c and alloc_cache.h); beyond that a fetch would call kmalloc.
pub const DEPTH_MAX: u16 = 128;
/// Room in the pool that is resident ahead of need. Below the low mark the pool grows, up to the
/// high mark. The low mark is about 10,000 pages at 1.6 KiB: what reclaim can push out while the
/// kernel finds the next chunk, and for each of which it gets 4 KiB back.
pub const RESERVE_LOW_BYTES: u64 = 16 << 20;
/// Where growing stops; also what is resident from the start.
pub const RESERVE_HIGH_BYTES: u64 = 32 << 20;
/// Free room beyond the bytes of all staged pages, so that each of them finds an object: one new
/// slab for every size class, and a request that every queue may stage at the same moment.
pub const STAGE_MARGIN_BYTES: u64 = 2 * (1 << 20) + (QUEUES_DEFAULT_MAX as u64) * (128 << 10);
/// Default room for pages that are committed and not yet compressed, of all queues together. 8 MiB
/// are 2048 pages: about 15 ms of compression on one CPU.
pub const STAGING_BYTES_DEFAULT: u64 = 8 << 20;
/// Least staging, if there is any: the longest request fits, and something else beside it.
pub const STAGING_BYTES_MIN: u64 = 256 << 10;
/// Most staging: beyond it a burst only costs RAM that nobody has when there is a burst.
pub const STAGING_BYTES_MAX: u64 = 256 << 20;
/// Pages of a request up to which they are copied out of the request's buffer to be staged: they
/// take as much staging as they have pages. A longer request leaves its buffer behind and gets a
/// fresh one, which takes a whole buffer's room until its end is given back.
pub const STAGE_COPY_PAGES_MAX: u32 = 8;
/// Longest polling of a queue thread before it sleeps, microseconds, where there is a second CPU:
/// what the next fault of a busy program takes to arrive. On one CPU it would only keep that
/// program from running.
pub const POLL_US_DEFAULT: u32 = 200;
/// Longest polling that may be asked for: a CPU burnt for longer is not a pause any more.
pub const POLL_US_MAX: u32 = 10_000;
/// Most helper threads.
pub const HELPERS_MAX: u16 = 16;
/// Default number of helper threads, at most: one CPU feeds reclaim, these compress for it.
pub const HELPERS_DEFAULT_MAX: u16 = 3;
/// How much the pool grows at a time: bounds how long the mapping lock is held.
pub const GROW_BYTES: u64 = 512 << 10;
/// Smallest queue depth: 6.12 wants two spare tags (see `ublk` settings) and nr_requests is at
/// least 4.
pub const DEPTH_MIN: u16 = 8;
/// Default queue depth. WBT lets reclaim have about 16 swap writes in flight; the rest is for
/// reads.
pub const DEPTH_DEFAULT: u16 = 64;
/// Most queues: more than the CPUs of one node never help a kswapd that feeds one queue at a time.
pub const QUEUES_MAX: u16 = 64;
/// CPUs that share a queue by default. A queue thread may run on the CPUs that submit to its queue;
/// with one CPU each it would always take turns with whoever waits for it (bench/NOTES.md, "Queues,
/// depth, polling"), with several it runs beside.
pub const CPUS_PER_QUEUE: u16 = 4;
/// Default number of queues where the kernel can take over several of them after a crash, at most.
pub const QUEUES_DEFAULT_MAX: u16 = 4;
/// Largest request. Reclaim flushes its plug at 128 KiB (Linux block/blk.h); larger only costs
/// locked memory.
pub const REQUEST_BYTES_MAX: usize = 128 << 10;
/// Largest request in pages.
pub const REQUEST_PAGES_MAX: u32 = (REQUEST_BYTES_MAX / PAGE_SIZE) as u32;
/// Largest request in sectors.
pub const REQUEST_SECTORS_MAX: u32 = (REQUEST_BYTES_MAX >> SECTOR_SHIFT) as u32;
/// Largest discard: bounds how long a queue thread is away from its reads (32768 slots, well below
/// a millisecond).
pub const DISCARD_BYTES_MAX: u64 = 128 << 20;
/// Longest device name; it becomes a directory, a unit instance and a metric label.
pub const NAME_LEN_MAX: usize = 32;
/// Bytes in a slab. With 64 KiB a set of 64 MiB costs 5 % more, in half-filled slabs; with 16 KiB
/// one of 1 GiB costs 2 % more, in rounding (bench/NOTES.md, "Pool geometry").
pub const SLAB_BYTES: usize = 32 << 10;
/// Bytes of a dictionary. Twice as much saves 1 % more and takes that back in its own memory while
/// less than 256 MiB are stored (bench/NOTES.md, "Dictionaries").
pub const DICTIONARY_BYTES: usize = 64 << 10;
/// Pages that a dictionary is trained on: 4 MiB while it is. Four times as many save nothing.
pub const DICTIONARY_SAMPLES: usize = 1024;
/// Pages whose sizes tell how good a dictionary is.
pub const DICTIONARY_WATCH_PAGES: u64 = 4096;
/// Smallest distance between size classes: with 16 a set of 64 MiB costs 3 % more, in half-filled
/// slabs, and one of 1 GiB the same (bench/NOTES.md).
pub const CLASS_STEP_BYTES: usize = 32;
/// Smallest object. With the slab size it bounds the objects in a slab, and so the bitmap kept for
/// each slab.
pub const OBJECT_BYTES_MIN: usize = 64;
/// Bytes before each compressed object that name its slot.
pub const OBJECT_HEADER_BYTES: usize = 4;
/// Longest compressed page that is kept compressed: beyond it the size class is the page itself.
pub const HUGE_BYTES: usize = ((SLAB_BYTES / 9) & !15) - OBJECT_HEADER_BYTES;
/// Bytes in a segment of the spill, the unit of writing and cleaning. It is one run of request
/// buffers, and a few requests in a row to a disk; 190 objects of lz4 share a summary and an unused
/// end of 1 % together. Larger ones only make cleaning coarser.
pub const SEGMENT_BYTES: usize = 256 << 10;
/// Most objects in a segment: bounds the memory beside each segment that is being filled. A full
/// segment of so many has objects of 124 bytes, which compress 33 to 1.
pub const SEGMENT_OBJECTS_MAX: usize = 2048;
/// Unit of reads and writes of the spill: what every disk can do around the page cache.
pub const SPILL_BLOCK_BYTES: usize = PAGE_SIZE;
/// Most bytes read for one spilled page: a page and its tag touch two blocks.
pub const SPILL_READ_BYTES_MAX: usize = 2 * SPILL_BLOCK_BYTES;
/// Bytes read along with a page for those that follow it in the request and in the spill: the eight
/// pages of the kernel's usual readahead, where they do not compress at all.
pub const SPILL_ALONG_BYTES_MAX: usize = 8 * PAGE_SIZE;
/// Pages read at a time: as many compress 4 to 1 into these bytes, and are a request.
pub const SPILL_ALONG_PAGES_MAX: usize = REQUEST_PAGES_MAX as usize;
/// Smallest spill: 64 segments, of which a few are being filled or kept for cleaning.
pub const SPILL_BYTES_MIN: u64 = 16 << 20;
/// Largest spill: a slot entry has 34 bits for a position in units of 16 bytes.
pub const SPILL_BYTES_MAX: u64 = 16 << 34;
/// Segments in memory at a time: two on their way to the disk, so that it never waits, and one
/// being filled.
pub const SPILL_DRAFTS: usize = 3;
/// Segments that only cleaning may fill: without them a full spill could not be cleaned.
pub const SPILL_RESERVE: usize = SPILL_DRAFTS + 1;

const _: () = assert!(SLAB_BYTES.is_multiple_of(PAGE_SIZE) && SLAB_BYTES / PAGE_SIZE == 8);
const _: () = assert!(OBJECT_BYTES_MIN.is_multiple_of(Location::UNIT));
const _: () = assert!(POOL_BYTES_MAX == (Location::UNIT as u64) << Location::BITS);
const _: () = assert!(POOL_BYTES_MIN.is_multiple_of(SLAB_BYTES as u64));
const _: () = assert!(RESERVE_LOW_BYTES + GROW_BYTES <= RESERVE_HIGH_BYTES);
const _: () = assert!(GROW_BYTES.is_multiple_of(SLAB_BYTES as u64));
const _: () = assert!(REQUEST_BYTES_MAX.is_multiple_of(PAGE_SIZE));
const _: () = assert!(STAGE_COPY_PAGES_MAX <= REQUEST_PAGES_MAX && REQUEST_PAGES_MAX <= 64);
const _: () = assert!(DEPTH_MIN <= DEPTH_DEFAULT && DEPTH_DEFAULT <= DEPTH_MAX);
const _: () = assert!(DISCARD_BYTES_MAX >> SECTOR_SHIFT <= u32::MAX as u64);
const _: () = assert!(SPILL_BYTES_MAX == (Location::UNIT as u64) << Location::BITS);
const _: () = assert!(SEGMENT_BYTES.is_multiple_of(SPILL_BLOCK_BYTES));
const _: () = assert!(SPILL_READ_BYTES_MAX <= SPILL_ALONG_BYTES_MAX);
const _: () = assert!(SEGMENT_BYTES / Location::UNIT <= u16::MAX as usize);
const _: () = assert!(SPILL_BYTES_MIN / SEGMENT_BYTES as u64 >= 4 * SPILL_RESERVE as u64);

//! Pages that were committed before they were compressed: the backlog of a device, oldest first.
//!
//! A write's pages are taken out of its buffer (short requests are copied, long ones leave the
//! buffer behind and get a fresh one), the slots name them as staged, and the request is committed.
//! Helpers then take them from the backlog and move them to the pool. Room is fixed: when there is
//! none, queue threads store requests before they commit them, which is what slows reclaim down to
//! the speed of compression.
//!
//! A burst that takes less than half of the room is left alone while it lasts: nothing competes
//! with committing it. Compression begins when the queues have been quiet for a moment
//! ([`QUIET`]), which one helper watches, or when the backlog is past its mark: then every helper
//! works. Helpers sleep whenever there is nothing to do.
//!
//! Order of a hand-over: the slots name the pages first, then the pages join the backlog, so that
//! whoever takes them from it finds them named or overwritten, never not yet named.

use crate::chaos::{Bug, planted};
use crate::codec::Stream;
use crate::error::IoError;
use crate::limits::{REQUEST_PAGES_MAX, STAGE_COPY_PAGES_MAX};
use crate::stats::QueueStats;
use crate::store::Store;
use crate::sys::buffers::{BufferArea, IoBuf, Search};
use crate::units::{BufferPage, PAGE_SIZE, Page, SlotIndex};
use crossbeam::queue::ArrayQueue;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

/// How long nothing must have been staged before a small backlog is compressed. While a burst lasts
/// the first helper wakes up this often: every millisecond that cost each write of the burst 100
/// instructions (0.5 %).
pub const QUIET: Duration = Duration::from_millis(4);
/// Pages that are taken from the backlog at a time: few enough that a long request is shared by
/// several threads, many enough that the backlog's own cost does not count.
const PIECE_PAGES: u32 = 8;

/// Pages of one request, or a part of them, that wait to be compressed.
#[derive(Debug)]
struct Piece {
    pages: IoBuf,
    first: SlotIndex,
    since: Instant,
}

impl Piece {
    /// A page of it, whose place somebody else uses from now on.
    fn lose(&mut self, index: u32) -> Option<Page> {
        let page = self.pages.as_chunks_mut::<PAGE_SIZE>().0.get_mut(index as usize)?;
        Some(std::mem::replace(page, [0xdd; PAGE_SIZE]))
    }
}

/// A piece that a thread works on.
#[derive(Debug, Default)]
pub struct Hand {
    piece: Option<Piece>,
    /// Its pages below this one have moved on.
    next: u32,
}

/// One helper as those see it who wake it.
#[derive(Debug, Default)]
struct Sleeper {
    thread: OnceLock<Thread>,
    /// It sleeps, or is about to: whoever clears this must wake it.
    asleep: AtomicBool,
}

/// The backlog, its room and its helpers.
#[derive(Debug)]
pub struct Staging {
    area: Arc<BufferArea>,
    /// Room for every page as a piece of its own, so that a push cannot fail.
    backlog: ArrayQueue<Piece>,
    /// Pages in the backlog and in hands.
    waiting: AtomicU64,
    /// Pages that ever joined the backlog: how a helper sees whether the queues are quiet.
    arrived: AtomicU64,
    /// Backlog in pages beyond which every helper works.
    mark: u64,
    helpers: Box<[Sleeper]>,
    ending: AtomicBool,
}

impl Staging {
    /// An empty backlog with room for `room` pages in `area`, and `helpers` helpers to come.
    /// Allocates.
    pub fn new(area: Arc<BufferArea>, room: u64, helpers: u16) -> Self {
        let pages = area.len() / PAGE_SIZE;
        Self {
            area,
            backlog: ArrayQueue::new(pages.max(1)),
            waiting: AtomicU64::new(0),
            arrived: AtomicU64::new(0),
            mark: room / 2,
            helpers: (0..helpers).map(|_| Sleeper::default()).collect(),
            ending: AtomicBool::new(false),
        }
    }

    /// Lets a page join the backlog that a slot named when the server before this one died.
    pub fn adopt(&self, slot: SlotIndex, page: IoBuf, since: Instant) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        self.push_piece(Piece { pages: page, first: slot, since });
    }

    /// Takes the first `count` pages out of a write's buffer, which is as long as before and free
    /// for the next request afterwards. `None`, and nothing changed: no room.
    #[inline]
    pub fn take(&self, count: u32, buffer: &mut IoBuf) -> Option<IoBuf> {
        if count <= STAGE_COPY_PAGES_MAX {
            let mut pages = self.area.take(count, Search::Low)?;
            let len = pages.len();
            pages.copy_from_slice(&buffer[..len]);
            return Some(pages);
        }
        let fresh = self.area.take(REQUEST_PAGES_MAX, Search::High)?;
        // What the request did not fill is free again at the end of this statement.
        Some(std::mem::replace(buffer, fresh).split_front(count))
    }

    /// Lets pages that the slots from `first` on name join the backlog. They came `since` then.
    #[inline]
    pub fn push(&self, mut pages: IoBuf, mut first: SlotIndex, since: Instant, stats: &QueueStats) {
        let count = pages.pages();
        // First, because whoever settles a page counts it out again. Pairs with `sleep`: either we
        // see that the helper sleeps, or it sees what waits.
        let waiting = self.waiting.fetch_add(count.into(), Ordering::SeqCst) + u64::from(count);
        while pages.pages() > PIECE_PAGES {
            self.push_piece(Piece { pages: pages.split_front(PIECE_PAGES), first, since });
            first.0 += PIECE_PAGES;
        }
        self.push_piece(Piece { pages, first, since });
        self.arrived.fetch_add(count.into(), Ordering::Relaxed);
        let wanted = if waiting > self.mark { self.helpers.len() } else { 1 };
        for helper in self.helpers.iter().take(wanted) {
            if helper.asleep.load(Ordering::SeqCst) && wake(helper) {
                stats.helper_wakes.add(1);
                break;
            }
        }
    }

    #[inline]
    fn push_piece(&self, piece: Piece) {
        self.backlog.push(piece).expect("the backlog has room for every page");
    }

    /// Whether the backlog is past its mark and there is a piece left to take.
    #[inline]
    pub fn is_busy(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > self.mark && !self.backlog.is_empty()
    }

    /// Pages that ever joined the backlog, wrapping.
    pub fn arrived(&self) -> u64 {
        self.arrived.load(Ordering::Relaxed)
    }

    /// Moves one page of what is in `hand` to the pool, after taking a piece if the hand is empty;
    /// true if there was one. On an error the page stays staged and in the hand.
    #[inline]
    pub fn settle_one(
        &self,
        hand: &mut Hand,
        store: &Store,
        stream: &mut Stream,
        stats: &QueueStats,
    ) -> Result<bool, IoError> {
        if hand.piece.is_none() {
            *hand = Hand { piece: self.backlog.pop(), next: 0 };
        }
        let Some(piece) = &mut hand.piece else { return Ok(false) };
        let index = hand.next;
        let lost = planted(Bug::BufferFreedEarly).then(|| piece.lose(index)).flatten();
        if let Some(page) = piece.pages.as_chunks::<PAGE_SIZE>().0.get(index as usize) {
            let slot = SlotIndex(piece.first.0 + index);
            let at = BufferPage(piece.pages.first_page().0 + index);
            // A page becomes what it is at the time that it was written: before it is again.
            stats.tap.set_time(piece.since);
            store.settle(slot, at, lost.as_ref().unwrap_or(page), stream, stats)?;
            let lag = piece.since.elapsed();
            stats.times.compress_lag.record(lag.as_nanos() as u64, 1);
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
        hand.next += 1;
        if hand.next >= piece.pages.pages() {
            hand.piece = None;
        }
        Ok(true)
    }

    /// Sends every helper home.
    pub fn end(&self) {
        self.ending.store(true, Ordering::SeqCst);
        for helper in &self.helpers {
            wake(helper);
        }
    }

    /// Whether helpers are to go home.
    pub fn is_ending(&self) -> bool {
        self.ending.load(Ordering::SeqCst)
    }

    /// Sleeps until helper `index` has something to do: helper 0 when anything waits, the others
    /// when the backlog is past its mark.
    pub fn sleep(&self, index: u16) {
        let Some(me) = self.helpers.get(usize::from(index)) else { return };
        me.thread.get_or_init(thread::current);
        me.asleep.store(true, Ordering::SeqCst);
        let enough = if index == 0 { 0 } else { self.mark };
        if self.waiting.load(Ordering::SeqCst) <= enough && !self.is_ending() {
            thread::park();
        }
        me.asleep.store(false, Ordering::SeqCst);
    }

    /// Waits until the backlog is past its mark, or nothing has joined it for [`QUIET`].
    pub fn linger(&self) {
        loop {
            let seen = self.arrived();
            thread::park_timeout(QUIET);
            let quiet = self.arrived() == seen;
            if quiet || self.is_busy() || self.is_ending() {
                return;
            }
        }
    }
}

impl Hand {
    /// Whether there is nothing in it.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.piece.is_none()
    }
}

/// Wakes a helper that sleeps; false if it does not, or somebody else was first.
fn wake(helper: &Sleeper) -> bool {
    let woken = helper.asleep.swap(false, Ordering::SeqCst);
    if woken && let Some(thread) = helper.thread.get() {
        thread.unpark();
    }
    woken
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::grower::Growth;
    use crate::daemon::helper::Helper;
    use crate::limits::REQUEST_PAGES_MAX;
    use crate::stats::Stats;
    use crate::store::StoreCodec;
    use crate::sys::buffers::CHUNK_PAGES;
    use crate::sys::map::{Arena, Words};
    use crate::units::{Page, QueueId};
    use std::fs::File;
    use std::sync::mpsc::sync_channel;

    const SLOTS: u32 = 256;
    const QUEUES: u16 = 2;

    fn file(len: usize) -> File {
        let file = tempfile::tempfile().expect("file");
        file.set_len(len as u64).expect("size");
        file
    }

    fn area(chunks: usize) -> Arc<BufferArea> {
        let len = chunks * CHUNK_PAGES as usize * PAGE_SIZE;
        BufferArea::new(&file(len), chunks).expect("map")
    }

    fn store(area: &Arc<BufferArea>) -> Store {
        let bytes = 16 << 20;
        let words = Words::new(&file(8 * SLOTS as usize), SLOTS as usize).expect("map");
        let arena = Arena::new(&file(bytes), bytes).expect("map");
        Store::new(words, arena, StoreCodec::Lz4).with_buffers(Arc::clone(area))
    }

    /// A page that says which slot and round it is, and compresses like program memory.
    fn stamped(slot: u32, round: u32) -> Page {
        let mut page = [0; PAGE_SIZE];
        for (i, word) in page.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let value =
                if i % 3 == 0 { u64::from(slot) << 32 | u64::from(round) } else { i as u64 };
            *word = value.to_le_bytes();
        }
        page
    }

    #[test]
    fn pieces_leave_in_the_order_they_came_and_room_comes_back() {
        let area = area(2);
        let store = store(&area);
        let mut window = area.take(REQUEST_PAGES_MAX, Search::High).expect("free");
        let (room, stats) = (area.free_pages(), QueueStats::default());
        let staging = Staging::new(Arc::clone(&area), room, 0);
        let mut slot = 0;
        for count in [3, 20, 1] {
            for (i, page) in window.as_chunks_mut().0.iter_mut().enumerate() {
                *page = stamped(slot + i as u32, 7);
            }
            let pages = staging.take(count, &mut window).expect("room");
            assert_eq!((pages.pages(), window.pages()), (count, REQUEST_PAGES_MAX));
            for i in 0..count {
                let at = BufferPage(pages.first_page().0 + i);
                store.stage(SlotIndex(slot + i), at, &stats).expect("in range");
            }
            staging.push(pages, SlotIndex(slot), Instant::now(), &stats);
            slot += count;
        }
        assert_eq!(area.free_pages(), room - 24);
        let (mut hand, mut stream) = (Hand::default(), Stream::new());
        for settled in 1..=24 {
            assert_eq!(staging.settle_one(&mut hand, &store, &mut stream, &stats), Ok(true));
            assert_eq!(stats.slots_staged.get(), 24 - settled);
            let mut page = [0; PAGE_SIZE];
            let slot = settled as u32 - 1;
            store.read(SlotIndex(slot), &mut page, &mut stream, &stats).expect("readable");
            assert!(page == stamped(slot, 7));
            assert_eq!(stats.read_lz4_pages.get(), settled, "the oldest page moved first");
        }
        assert_eq!(staging.settle_one(&mut hand, &store, &mut stream, &stats), Ok(false));
        assert_eq!(area.free_pages(), room);
    }

    #[test]
    fn without_room_nothing_is_taken() {
        let area = area(1);
        let mut window = area.take(REQUEST_PAGES_MAX, Search::High).expect("free");
        let staging = Staging::new(Arc::clone(&area), area.free_pages(), 0);
        let at = window.first_page();
        let other = area.take(28, Search::Low).expect("free");
        assert!(staging.take(20, &mut window).is_none(), "no fresh buffer");
        assert!(staging.take(5, &mut window).is_none(), "four pages are free");
        assert_eq!((window.first_page(), window.pages()), (at, REQUEST_PAGES_MAX));
        assert!(staging.take(4, &mut window).is_some());
        drop(other);
        assert!(staging.take(20, &mut window).is_some());
    }

    /// What one queue thread does: stages, stores when there is no room, overwrites, discards,
    /// reads back. Its slots are its own, so it always knows what they must hold.
    fn queue(staging: &Staging, mut window: IoBuf, store: &Store, stats: &QueueStats, id: u32) {
        let (mut stream, mut hand) = (Stream::new(), Hand::default());
        let own = SLOTS / u32::from(QUEUES);
        let base = id * own;
        let mut wanted = vec![None; own as usize];
        for round in 1..=4000u32 {
            let count = 1 + round * 7 % REQUEST_PAGES_MAX;
            let first = round * 13 % (own - count + 1);
            let slots = || (first..first + count).map(|i| SlotIndex(base + i));
            if round % 9 == 0 {
                store.discard(SlotIndex(base + first), count, stats).expect("in range");
                wanted[first as usize..][..count as usize].fill(None);
            } else {
                for (slot, page) in slots().zip(window.as_chunks_mut().0) {
                    *page = stamped(slot.0, round);
                }
                if let Some(pages) = staging.take(count, &mut window) {
                    for (slot, at) in slots().zip(pages.first_page().0..) {
                        store.stage(slot, BufferPage(at), stats).expect("in range");
                    }
                    staging.push(pages, SlotIndex(base + first), Instant::now(), stats);
                } else {
                    for (slot, page) in slots().zip(window.as_chunks().0) {
                        store.write(slot, page, &mut stream, stats).expect("room");
                    }
                }
                wanted[first as usize..][..count as usize].fill(Some(round));
            }
            window.fill(0xdd);
            if staging.is_busy() {
                staging.settle_one(&mut hand, store, &mut stream, stats).expect("room");
            }
            let slot = round * 31 % own;
            let mut page = [0; PAGE_SIZE];
            store.read(SlotIndex(base + slot), &mut page, &mut stream, stats).expect("readable");
            let right = wanted[slot as usize].map_or([0; PAGE_SIZE], |r| stamped(base + slot, r));
            assert!(page == right, "slot {} in round {round}", base + slot);
        }
        while staging.settle_one(&mut hand, store, &mut stream, stats).expect("room") {}
    }

    #[test]
    fn queues_see_their_own_writes_while_helpers_compress_them() {
        for helpers in [1, 3] {
            let area = area(3);
            let store = store(&area);
            let staging = Staging::new(Arc::clone(&area), 128, helpers);
            let (stats, growth) = (Stats::new(QUEUES, helpers), Growth::new().expect("eventfd"));
            thread::scope(|scope| {
                let (sender, _receiver) = sync_channel(usize::from(helpers));
                for index in 0..helpers {
                    let (stats, sender) = (stats.helper(index), sender.clone());
                    let (staging, store, growth) = (&staging, &store, &growth);
                    let helper = Helper { index, staging, store, growth, stats };
                    scope.spawn(move || helper.run(Stream::new(), sender));
                }
                let queues: Vec<_> = (0..QUEUES)
                    .map(|id| {
                        let (staging, store) = (&staging, &store);
                        let window = area.take(REQUEST_PAGES_MAX, Search::High).expect("free");
                        let stats = stats.queue(QueueId(id));
                        (stats, window, id, staging, store)
                    })
                    .collect::<Vec<_>>()
                    .into_iter()
                    .map(|(stats, window, id, staging, store)| {
                        scope.spawn(move || queue(staging, window, store, stats, id.into()))
                    })
                    .collect();
                let ended: Vec<bool> = queues.into_iter().map(|q| q.join().is_ok()).collect();
                staging.end();
                assert!(ended.iter().all(|ok| *ok), "a queue thread saw a wrong page");
            });
            let total = |name: &str| {
                let rows = stats.totals();
                rows.iter().find(|row| row.0 == name).map(|row| row.2).expect("a counter")
            };
            assert!(total("write_staged_pages") > 1000, "staging was used");
            assert!(total("write_direct_pages") > 100, "staging ran out at times");
            assert_eq!(total("read_corrupt_pages"), 0);
            let helped = (0..helpers).map(|h| stats.helper(h).write_lz4_pages.get()).sum::<u64>();
            assert!(helped > 0, "helpers compressed");
        }
    }
}

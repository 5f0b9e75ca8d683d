//! Spilling: objects leave the pool for the spill, and segments there are cleaned.
//!
//! For one background thread, step by step; no call waits for the disk except
//! [`SpillWriter::collect`] when it is asked to, and none holds a lock across I/O.
//!
//! Nothing is lost when a write fails: an object stays in the pool, and its slot names it there,
//! until the segment is on the disk. Then each slot that still names what was copied is published
//! with one store, and the old object is freed.
//!
//! "Still names what was copied" cannot be seen from the entry alone: the slot may have been
//! written twice since, and the second object may have got the place of the first and its length.
//! So the bytes are compared, under the slot's lock. Of an object that came from the spill the
//! number of its write is compared, which is never used twice.

use super::spill_outcome::{Added, Cleaned, Collected};
use super::spilled::identity;
use super::{Spill, Store, count_slot};
use crate::chaos::{Bug, planted};
use crate::limits::{SEGMENT_BYTES, SEGMENT_OBJECTS_MAX, SPILL_DRAFTS};
use crate::spill::{Disk, Draft, Ended, Form, Identity, Layout, Place, Segments};
use crate::spill::{TAG_BYTES, Token, Victim, read_summary};
use crate::stats::{Counter, QueueStats};
use crate::sys::buffers::IoBuf;
use crate::table::Entry;
use crate::trace::{Kind, note_now};
use crate::units::{Location, SlotIndex};

/// The reading for a cleaning; drafts have the numbers below.
const READ: Token = Token(SPILL_DRAFTS);

/// A slot whose object is in a draft.
#[derive(Debug)]
struct Move {
    slot: SlotIndex,
    /// Position in the draft's segment.
    unit: u32,
    /// The entry that it was copied from, packed.
    old: u64,
    from: From,
}

#[derive(Clone, Copy, Debug)]
enum From {
    /// Where in the plain copies it begins.
    Pool(u32),
    /// The write that it was read from.
    Spill(u64),
}

/// A draft and what it takes to publish it.
#[derive(Debug)]
struct Work {
    token: Token,
    draft: Draft,
    moves: Vec<Move>,
    /// Copies of the objects from the pool, as they were under the lock.
    plain: Box<[u8]>,
    copied: usize,
}

/// A segment being cleaned.
#[derive(Debug)]
struct Cleaning {
    victim: Victim,
    /// Here once it is read.
    buffer: Option<IoBuf>,
    /// Records done.
    next: usize,
    moved: u32,
    /// Something could not be opened.
    broken: bool,
}

/// Writes segments to a disk.
#[derive(Debug)]
pub struct SpillWriter<D> {
    disk: D,
    /// The disk's lock is held: nothing is written before.
    ours: bool,
    layout: Layout,
    idle: Vec<Work>,
    open: Option<Work>,
    under_way: [Option<Work>; SPILL_DRAFTS],
    cleaning: Option<Cleaning>,
    read_buffer: Option<IoBuf>,
    found: Vec<(u32, Identity)>,
}

impl<D: Disk> SpillWriter<D> {
    /// Runs of segment size that a writer works with.
    pub const BUFFERS: usize = SPILL_DRAFTS + 1;

    /// A writer for `store`'s spill, new or rebuilt. Allocates everything that it will need. Panics
    /// unless there are [`SpillWriter::BUFFERS`] buffers of a segment each.
    pub fn new(store: &Store, disk: D, mut buffers: Vec<IoBuf>) -> Self {
        assert_eq!(buffers.len(), Self::BUFFERS);
        let read_buffer = buffers.pop();
        let work = |(i, buffer)| Work {
            token: Token(i),
            draft: Draft::new(buffer),
            moves: Vec::with_capacity(SEGMENT_OBJECTS_MAX),
            plain: vec![0; SEGMENT_BYTES].into_boxed_slice(),
            copied: 0,
        };
        Self {
            disk,
            ours: false,
            layout: Layout::new(&of(store).segments),
            idle: buffers.into_iter().enumerate().map(work).collect(),
            open: None,
            under_way: [const { None }; SPILL_DRAFTS],
            cleaning: None,
            read_buffer,
            found: Vec::with_capacity(SEGMENT_OBJECTS_MAX),
        }
    }

    /// Which segments are used.
    pub const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The disk.
    pub const fn disk(&mut self) -> &mut D {
        &mut self.disk
    }

    /// Bytes of private memory: copies, records, bookkeeping. The buffers are not counted.
    pub fn bookkeeping_bytes(&self) -> u64 {
        Self::own_bytes() as u64 + self.layout.bookkeeping_bytes()
    }

    /// What of it does not grow with the spill.
    pub const fn own_bytes() -> usize {
        let moves = SEGMENT_OBJECTS_MAX * (size_of::<Move>() + size_of::<u64>());
        let found = SEGMENT_OBJECTS_MAX * size_of::<(u32, Identity)>();
        SPILL_DRAFTS * (SEGMENT_BYTES + moves) + found
    }

    /// Takes the disk's lock, so that whoever comes after this server waits for its last transfer;
    /// false while somebody before it, or another service, has it. Does not wait.
    pub fn take_lock(&mut self) -> bool {
        self.ours = self.ours || planted(Bug::LockNotTaken) || self.disk.take_lock();
        self.ours
    }

    /// Whether a cleaning is begun that [`SpillWriter::clean`] has not finished.
    pub const fn is_cleaning(&self) -> bool {
        self.cleaning.is_some()
    }

    /// Whether the disk has something to do.
    pub fn is_under_way(&self) -> bool {
        let reads = |cleaning: &Cleaning| cleaning.buffer.is_none();
        self.under_way.iter().any(Option::is_some) || self.cleaning.as_ref().is_some_and(reads)
    }

    /// Whether nothing is begun or under way.
    pub fn is_idle(&self) -> bool {
        self.idle.len() == SPILL_DRAFTS && self.cleaning.is_none()
    }

    /// Looks for segments of which no slot names anything any more, if few are known to be free.
    /// O(segments) then.
    pub fn find_free(&mut self, store: &Store) {
        self.layout.find_free_if_few(&of(store).segments);
    }

    /// Takes the object of `slot` into the segment being filled; a full one is sent off. Blocks for
    /// the slot's lock only, which is held for the copy.
    pub fn add(&mut self, store: &Store, slot: SlotIndex, stats: &QueueStats) -> Added {
        let Some((_, len)) = store.table.peek(slot).in_pool() else { return Added::NotInPool };
        if let Err(refusal) = self.make_room(store, len, false, stats) {
            return refusal;
        }
        let work = self.open.as_mut().expect("room was made in it");
        let guard = store.table.lock(slot);
        let old = guard.entry();
        let Some((at, len)) = old.in_pool().filter(|&(_, now)| now == len) else {
            return Added::NotInPool;
        };
        let start = work.copied;
        let copy = &mut work.plain[start..start + usize::from(len)];
        let copied = store.pool.read(at, slot, copy);
        drop(guard);
        if copied.is_err() {
            // Damaged; a read will tell.
            return Added::NotInPool;
        }
        work.copied += usize::from(len);
        stats.spill_payload_bytes.add(len.into());
        let copy = &work.plain[start..work.copied];
        push(&mut work.draft, &mut work.moves, store, (slot, old), From::Pool(start as u32), copy);
        Added::Taken
    }

    /// Makes sure that the open draft has room for an object.
    fn make_room(
        &mut self,
        store: &Store,
        len: u16,
        cleaning: bool,
        stats: &QueueStats,
    ) -> Result<(), Added> {
        if self.open.as_ref().is_some_and(|work| work.draft.fits(len)) {
            return Ok(());
        }
        if !self.take_lock() {
            return Err(Added::NotOurs);
        }
        self.flush(store, stats);
        let mut work = self.idle.pop().ok_or(Added::Busy)?;
        let Some((segment, sequence)) = self.layout.take(&of(store).segments, cleaning) else {
            self.idle.push(work);
            return Err(Added::NoSegment);
        };
        work.draft.begin(segment, sequence);
        work.moves.clear();
        work.copied = 0;
        self.open = Some(work);
        Ok(())
    }

    /// Sends the segment being filled off, however full it is. What is left of it stays unused
    /// until the segment is free again, so this is for when nothing more will come. Does not wait.
    pub fn flush(&mut self, store: &Store, stats: &QueueStats) {
        let Some(mut work) = self.open.take() else { return };
        let (job, buffer) = work.draft.close(&of(store).seal);
        stats.spill_write_bytes.add(job.len as u64);
        let token = work.token;
        self.under_way[token.0] = Some(work);
        self.disk.start(token, job, buffer);
    }

    /// Publishes what has reached the disk. With `wait` it waits for at least one transfer, but for
    /// a second or so at most.
    pub fn collect(&mut self, store: &Store, wait: bool, stats: &QueueStats) -> Collected {
        let mut done = Collected::default();
        let mut wait = wait;
        while let Some(Ended { token, buffer, result }) = self.disk.end(wait) {
            wait = false;
            done.ended += 1;
            if token == READ {
                self.has_read(store, buffer, result, &mut done);
            } else {
                let mut work = self.under_way[token.0].take().expect("it was started");
                work.draft.put_back(buffer);
                match result {
                    Ok(()) => self.publish(&work, store, &mut done, stats),
                    Err(_) if planted(Bug::WriteErrorIgnored) => {
                        self.publish(&work, store, &mut done, stats);
                    }
                    Err(errno) => self.drop_work(&work, errno, &mut done, stats),
                }
                self.idle.push(work);
            }
        }
        done
    }

    fn publish(&mut self, work: &Work, store: &Store, done: &mut Collected, stats: &QueueStats) {
        let segments = &of(store).segments;
        let segment = work.draft.segment();
        if !planted(Bug::FillAfterPublish) {
            self.layout.written(segments, segment, work.draft.summary());
        }
        for Move { slot, unit, old, from } in &work.moves {
            let (slot, old) = (*slot, Entry::unpack(*old));
            let at = Segments::location(segment, *unit);
            let new = old.moved_to_spill(at).expect("only such are moved");
            let mut guard = store.table.lock(slot);
            if guard.entry() == old
                && (planted(Bug::StaleMove) || is_same(store, work, slot, old, *from))
            {
                // Before it is published; the old object is counted out when it is freed.
                store.dictionaries.hold(new.made_with());
                let touch = guard.touch();
                guard.publish(new, touch);
                drop(guard);
                count_slot(new, stats, Counter::add);
                store.release(old, stats);
                done.published += 1;
                let (counter, freed) = match (from, old.in_pool()) {
                    (From::Pool(_), Some((_, len))) => {
                        note_now(stats, slot, Kind::Spilled);
                        (&stats.spilled_pages, len)
                    }
                    _ => (&stats.spill_moved_pages, 0),
                };
                counter.add(1);
                done.freed_bytes += u64::from(freed);
            } else {
                drop(guard);
                if let Entry::Spilled { len, .. } = new {
                    segments.dead(at, len);
                }
                stats.spill_stale_pages.add(1);
                done.stale += 1;
            }
        }
        if planted(Bug::FillAfterPublish) {
            self.layout.written(segments, segment, work.draft.summary());
        }
    }

    /// A segment did not reach the disk: what was to be in it stays where it is.
    fn drop_work(&mut self, work: &Work, errno: i32, done: &mut Collected, stats: &QueueStats) {
        stats.spill_write_errors.add(1);
        done.error = Some(errno);
        self.layout.dropped(work.draft.segment());
        for moved in &work.moves {
            if let Entry::Spilled { at, .. } = Entry::unpack(moved.old) {
                self.layout.stays(Segments::segment_of(at));
            }
        }
    }

    fn has_read(
        &mut self,
        store: &Store,
        mut buffer: IoBuf,
        result: Result<(), i32>,
        done: &mut Collected,
    ) {
        let mut cleaning = self.cleaning.take().expect("it reads for a cleaning");
        let opened = result.map_err(Some).and_then(|()| {
            read_summary(&of(store).seal, &cleaning.victim, &mut buffer, &mut self.found)
                .map_err(|_| None)
        });
        if let Err(errno) = opened {
            // Its objects may still be readable one by one.
            self.layout.damaged(cleaning.victim.segment);
            self.read_buffer = Some(buffer);
            done.error = errno.or(done.error);
        } else {
            cleaning.buffer = Some(buffer);
            self.cleaning = Some(cleaning);
        }
    }

    /// Goes on with cleaning a segment, or begins with the best one: at most one segment's objects
    /// a call. Does not wait.
    pub fn clean(&mut self, store: &Store, stats: &QueueStats) -> Cleaned {
        let Some(mut cleaning) = self.cleaning.take() else {
            return self.begin_cleaning(store);
        };
        let Some(mut buffer) = cleaning.buffer.take() else {
            self.cleaning = Some(cleaning);
            return Cleaned::Reading;
        };
        while let Some(&(unit, record)) = self.found.get(cleaning.next) {
            let at = Segments::location(cleaning.victim.segment, unit);
            if !is_live(store, record, at) {
                cleaning.next += 1;
                continue;
            }
            if self.make_room(store, record.len, true, stats).is_err() {
                cleaning.buffer = Some(buffer);
                self.cleaning = Some(cleaning);
                return Cleaned::Busy;
            }
            cleaning.next += 1;
            let work = self.open.as_mut().expect("room was made in it");
            match reseal(store, work, &cleaning.victim, (unit, record), &mut buffer) {
                true => {
                    cleaning.moved += 1;
                    stats.spill_cleaned_bytes.add(record.len.into());
                    stats.spill_payload_bytes.add(record.len.into());
                }
                false => cleaning.broken = true,
            }
        }
        self.read_buffer = Some(buffer);
        stats.spill_cleaned_segments.add(1);
        match cleaning.broken {
            true => self.layout.damaged(cleaning.victim.segment),
            false => self.layout.leaving(cleaning.victim.segment),
        }
        Cleaned::Moved(cleaning.moved)
    }

    fn begin_cleaning(&mut self, store: &Store) -> Cleaned {
        if !self.take_lock() {
            return Cleaned::Nothing;
        }
        let Some(victim) = self.layout.victim(&of(store).segments) else { return Cleaned::Nothing };
        let Some(buffer) = self.read_buffer.take() else { return Cleaned::Reading };
        self.layout.cleaning(victim.segment);
        let cleaning = Cleaning { victim, buffer: None, next: 0, moved: 0, broken: false };
        self.cleaning = Some(cleaning);
        self.disk.start(READ, victim.job(), buffer);
        Cleaned::Reading
    }
}

/// The store's spill.
fn of(store: &Store) -> &Spill {
    store.spill.as_ref().expect("a writer is for a store with a spill")
}

/// Whether the slot of a record still names the object at `at`.
fn is_live(store: &Store, record: Identity, at: Location) -> bool {
    let Entry::Spilled { form, at: named, len } = store.table.peek(record.slot) else {
        return false;
    };
    named == at && len == record.len && Form(form.code()) == record.form
}

/// Seals an object into the draft and notes where it is from.
fn push(
    draft: &mut Draft,
    moves: &mut Vec<Move>,
    store: &Store,
    (slot, old): (SlotIndex, Entry),
    from: From,
    data: &[u8],
) {
    let unit = draft.summary().unit;
    let at = Segments::location(draft.segment(), unit);
    let Some(Entry::Spilled { form, len, .. }) = old.moved_to_spill(at) else {
        unreachable!("only objects are moved")
    };
    draft.push(&of(store).seal, identity(slot, form, len), data);
    moves.push(Move { slot, unit, old: old.pack(), from });
}

/// Opens an object of a segment being cleaned and seals it into the draft; false if it is damaged.
fn reseal(
    store: &Store,
    work: &mut Work,
    victim: &Victim,
    (unit, record): (u32, Identity),
    buffer: &mut [u8],
) -> bool {
    let at = Segments::location(victim.segment, unit);
    let Entry::Spilled { form, len, .. } = store.table.peek(record.slot) else {
        // Just now it was there; now nobody needs it.
        return true;
    };
    let start = unit as usize * Location::UNIT;
    let sealed = &mut buffer[start..start + usize::from(record.len) + TAG_BYTES];
    let place = Place { sequence: victim.sequence, unit };
    let Ok(data) = of(store).seal.open(place, record, sealed) else { return false };
    let old = Entry::Spilled { form, at, len };
    if len == record.len {
        let from = From::Spill(victim.sequence);
        push(&mut work.draft, &mut work.moves, store, (record.slot, old), from, data);
    }
    true
}

/// Whether the object that `old` names is the one that was copied. Call it under the slot's lock.
fn is_same(store: &Store, work: &Work, slot: SlotIndex, old: Entry, from: From) -> bool {
    match (from, old) {
        (From::Pool(start), _) => {
            let Some((at, len)) = old.in_pool() else { return false };
            let start = start as usize;
            store.pool.has(at, slot, &work.plain[start..start + usize::from(len)])
        }
        (From::Spill(sequence), Entry::Spilled { at, .. }) => {
            of(store).segments.place(at).sequence == sequence
        }
        (From::Spill(_), _) => false,
    }
}

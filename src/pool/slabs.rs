//! The bookkeeping of slabs, behind the pool's lock.

use super::bits::{SlabBits, SlabSet};
use super::class::{CLASSES, Class};
use super::slab_map::{SlabMap, SlabNote};
use crate::chaos::{Bug, planted};
use crate::limits::SLAB_BYTES;
use crate::sys::cache::prefetch;
use crate::units::Location;
use std::ops::Range;

/// Fullness groups of a class: by quarters used. Full slabs are in none.
const GROUPS: usize = 4;
/// The group of a slab that is being emptied: nobody allocates from it, and it stays open until
/// [`Slabs::settle`].
const EMPTYING: usize = GROUPS + 1;
/// Slabs of a group that are looked at for the emptiest: bounds the time that the lock is held.
const LOOK_MAX: usize = 16;
const NONE: u32 = u32::MAX;

/// What is kept about one slab besides its bits. `next` and `prev` link the slabs of one group.
#[derive(Clone, Debug)]
struct Slab {
    next: u32,
    prev: u32,
    used: u16,
    class: Option<Class>,
    group: u8,
}

/// How much is in the pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolUsage {
    /// Slabs that are there: resident memory.
    pub slabs: u64,
    /// Slabs that hold at least one object.
    pub slabs_used: u64,
    /// Objects.
    pub objects: u64,
    /// Bytes of the objects, headers and rounding to their size class included.
    pub object_bytes: u64,
    /// Private memory of the pool's bookkeeping, in bytes.
    pub bookkeeping_bytes: u64,
}

/// How much of a class is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Share {
    slabs: u32,
    used: u32,
}

/// Which slab is whose. A slab is absent, free, or some class's; while the kernel is asked for its
/// memory, or given it back, it is none of these and belongs to whoever asks.
#[derive(Debug)]
pub(super) struct Slabs {
    slabs: Box<[Slab]>,
    /// First slab of each group of each class.
    heads: [[u32; GROUPS]; CLASSES],
    shares: [Share; CLASSES],
    free: SlabSet,
    absent: SlabSet,
    usage: PoolUsage,
    map: SlabMap,
}

/// Splits a location in the slab and the position in it.
#[inline]
fn split(at: Location) -> (usize, usize) {
    (at.offset() / SLAB_BYTES, at.offset() % SLAB_BYTES)
}

/// The slab and the page within it of a huge object.
#[inline]
pub(super) fn huge_index(at: Location) -> (usize, usize) {
    let (slab, position) = split(at);
    (slab, position / Class::HUGE.bytes())
}

impl Slabs {
    /// Room for `count` slabs, of which none is there yet. Allocates everything that will be
    /// needed.
    pub(super) fn new(count: usize, map: SlabMap) -> Self {
        assert!(count < NONE as usize, "slab numbers have 32 bits");
        let slab = Slab { next: NONE, prev: NONE, used: 0, class: None, group: 0 };
        let slabs = vec![slab; count].into_boxed_slice();
        let (free, mut absent) = (SlabSet::empty(count), SlabSet::empty(count));
        (0..count).for_each(|slab| absent.put(slab));
        let bytes = size_of_val::<[Slab]>(&slabs) + 2 * free.bytes() + size_of::<Self>();
        let bytes = bytes + count * (size_of::<SlabBits>() + size_of::<u8>());
        let usage = PoolUsage { bookkeeping_bytes: bytes as u64, ..PoolUsage::default() };
        let (heads, shares) = ([[NONE; GROUPS]; CLASSES], [Share::default(); CLASSES]);
        Self { slabs, heads, shares, free, absent, usage, map }
    }

    /// Takes the lowest absent slabs in a row, at most `max`, to be made resident.
    pub(super) fn take_absent(&mut self, max: usize) -> Option<Range<usize>> {
        let first = if max > 0 { self.absent.take_first()? } else { return None };
        let mut end = first + 1;
        while end < self.slabs.len() && end - first < max && self.absent.contains(end) {
            self.absent.take(end);
            end += 1;
        }
        Some(first..end)
    }

    /// The kernel has these again, or never gave them.
    pub(super) fn put_absent(&mut self, slabs: Range<usize>) {
        slabs.for_each(|slab| self.absent.put(slab));
    }

    /// Takes the highest free slabs in a row, at most `max` and so that `keep` free ones stay, to
    /// be given back.
    pub(super) fn take_spare(&mut self, keep: u64, max: usize) -> Option<Range<usize>> {
        let spare = (self.usage.slabs - self.usage.slabs_used).saturating_sub(keep);
        let most = max.min(usize::try_from(spare).unwrap_or(usize::MAX));
        let last = self.free.last().filter(|_| most > 0)?;
        let mut first = last;
        self.free.take(last);
        while first > 0 && last + 1 - first < most && self.free.contains(first - 1) {
            first -= 1;
            self.free.take(first);
        }
        self.usage.slabs -= (last + 1 - first) as u64;
        if !planted(Bug::AbsentUnwritten) {
            (first..=last).for_each(|slab| self.map.set(slab, SlabNote::Absent));
        }
        Some(first..last + 1)
    }

    /// These are resident: free from now on.
    pub(super) fn add(&mut self, slabs: Range<usize>) {
        self.usage.slabs += slabs.len() as u64;
        for slab in slabs {
            self.map.set(slab, SlabNote::There);
            self.free.put(slab);
        }
    }

    /// Takes a free object of `class`, from the fullest slab that has one; failing that from a new
    /// slab; failing that from a larger class, because a little waste is better than a refused
    /// page.
    pub(super) fn take(&mut self, bits: &[SlabBits], class: Class) -> Option<Location> {
        let slab = self
            .fullest(class)
            .or_else(|| self.open(bits, class))
            .or_else(|| class.larger().find_map(|larger| self.fullest(larger)))?;
        Some(self.take_from(bits, slab))
    }

    /// The same, only from slabs of the class that are open already.
    pub(super) fn take_partial(&mut self, bits: &[SlabBits], class: Class) -> Option<Location> {
        let slab = self.fullest(class)?;
        Some(self.take_from(bits, slab))
    }

    #[inline]
    fn take_from(&mut self, bits: &[SlabBits], slab: usize) -> Location {
        let class = self.slabs[slab].class.expect("a slab in a group has a class");
        let index = bits[slab].take(class.objects());
        self.slabs[slab].used += 1;
        self.shares[class.index()].used += 1;
        self.regroup(slab, class);
        self.usage.objects += 1;
        self.usage.object_bytes += class.bytes() as u64;
        Location::from_offset(slab * SLAB_BYTES + index * class.bytes())
    }

    /// Gives an object back. Panics if there is none at `at`.
    pub(super) fn give(&mut self, bits: &[SlabBits], at: Location) {
        let (slab, index, class) = self.find(at).expect("freed a location that is no object");
        bits[slab].give(index);
        self.slabs[slab].used -= 1;
        self.shares[class.index()].used -= 1;
        self.usage.objects -= 1;
        self.usage.object_bytes -= class.bytes() as u64;
        if usize::from(self.slabs[slab].group) == EMPTYING {
            return;
        }
        if self.slabs[slab].used == 0 {
            self.close(slab, class);
        } else {
            self.regroup(slab, class);
        }
    }

    /// The slab, the index in it and the class of the object at `at`, whether it is used or not.
    pub(super) fn find(&self, at: Location) -> Option<(usize, usize, Class)> {
        let (slab, position) = split(at);
        let class = self.slabs.get(slab)?.class?;
        // 32 bits are divided in half the time of 64.
        let index = (position as u32 / class.bytes() as u32) as usize;
        let exact = index * class.bytes() == position && index < class.objects();
        exact.then_some((slab, index, class))
    }

    /// Asks for the slab of a location: for whoever wants it in the cache before it is freed.
    #[inline]
    pub(super) fn look(&self, at: Location) {
        self.slabs.get(split(at).0).inspect(|slab| prefetch(*slab));
    }

    /// How much there is.
    pub(super) const fn usage(&self) -> PoolUsage {
        self.usage
    }

    /// Picks a slab to empty: of the class with most free room, if its other slabs have room for
    /// what is in it, the emptiest of the first few. Nobody allocates from it until it is settled.
    pub(super) fn begin_emptying(&mut self) -> Option<(usize, Class)> {
        let room = |class: &Class| {
            let share = self.shares[class.index()];
            class.objects() * share.slabs as usize - share.used as usize
        };
        let class = Class::all()
            .filter(|class| room(class) >= class.objects())
            .max_by_key(|class| room(class) * class.bytes())?;
        let first = *self.heads[class.index()].iter().find(|head| **head != NONE)?;
        let mut at = first as usize;
        let mut best = at;
        for _ in 1..LOOK_MAX {
            at = match self.slabs[at].next {
                NONE => break,
                next => next as usize,
            };
            let (found, least) = (self.slabs[at].used, self.slabs[best].used);
            if found < least || (found == least && at > best) {
                best = at;
            }
        }
        self.unlink(best, class);
        self.slabs[best].group = EMPTYING as u8;
        Some((best, class))
    }

    /// Ends the emptying of a slab: true if it is free now.
    pub(super) fn settle(&mut self, slab: usize, class: Class) -> bool {
        assert_eq!(usize::from(self.slabs[slab].group), EMPTYING, "slab {slab} was not picked");
        let used = usize::from(self.slabs[slab].used);
        if used == 0 {
            self.close(slab, class);
        } else {
            self.link(slab, class, used * GROUPS / class.objects());
        }
        used == 0
    }

    /// Asks for the slab that an object of `class` would be taken from by now: which one it is.
    #[inline]
    pub(super) fn look_for(&self, class: Class) -> Option<usize> {
        let slab = self.fullest(class)?;
        prefetch(&self.slabs[slab]);
        Some(slab)
    }

    fn fullest(&self, class: Class) -> Option<usize> {
        let heads = &self.heads[class.index()];
        heads.iter().rev().find(|head| **head != NONE).map(|head| *head as usize)
    }

    fn open(&mut self, bits: &[SlabBits], class: Class) -> Option<usize> {
        let slab = self.free.take_first()?;
        bits[slab].clear();
        if !planted(Bug::SlabClassUnwritten) {
            self.map.set(slab, SlabNote::Of(class));
        }
        self.slabs[slab] = Slab { next: NONE, prev: NONE, used: 0, class: Some(class), group: 0 };
        self.link(slab, class, 0);
        self.shares[class.index()].slabs += 1;
        self.usage.slabs_used += 1;
        Some(slab)
    }

    fn close(&mut self, slab: usize, class: Class) {
        self.unlink(slab, class);
        self.slabs[slab].class = None;
        self.shares[class.index()].slabs -= 1;
        self.free.put(slab);
        self.usage.slabs_used -= 1;
    }

    /// Moves the slab to the group that its number of used objects asks for.
    #[inline]
    fn regroup(&mut self, slab: usize, class: Class) {
        let group = usize::from(self.slabs[slab].used) * GROUPS / class.objects();
        if group != usize::from(self.slabs[slab].group) {
            self.unlink(slab, class);
            self.link(slab, class, group);
        }
    }

    fn link(&mut self, slab: usize, class: Class, group: usize) {
        self.slabs[slab].group = group as u8;
        let Some(head) = self.heads[class.index()].get_mut(group) else {
            return;
        };
        let next = std::mem::replace(head, slab as u32);
        (self.slabs[slab].next, self.slabs[slab].prev) = (next, NONE);
        if next != NONE {
            self.slabs[next as usize].prev = slab as u32;
        }
    }

    fn unlink(&mut self, slab: usize, class: Class) {
        let Slab { next, prev, group, .. } = self.slabs[slab];
        if usize::from(group) >= GROUPS {
            return;
        }
        match prev {
            NONE => self.heads[class.index()][usize::from(group)] = next,
            prev => self.slabs[prev as usize].next = next,
        }
        if next != NONE {
            self.slabs[next as usize].prev = prev;
        }
    }

    /// What outlives the process.
    pub(super) const fn map(&self) -> &SlabMap {
        &self.map
    }

    /// Counts a slab that is there in, after a rebuild has given it `used` objects of its class.
    pub(super) fn adopt(&mut self, slab: usize) {
        self.absent.take(slab);
        self.usage.slabs += 1;
        let Slab { used, class, .. } = self.slabs[slab];
        let Some(class) = class else { return self.free.put(slab) };
        self.usage.slabs_used += 1;
        self.usage.objects += u64::from(used);
        self.usage.object_bytes += u64::from(used) * class.bytes() as u64;
        let share = &mut self.shares[class.index()];
        share.slabs += 1;
        share.used += u32::from(used);
        self.link(slab, class, usize::from(used) * GROUPS / class.objects());
    }

    /// During a rebuild: the slab has `change` objects more, or fewer, of this class.
    #[inline]
    pub(super) fn recount(&mut self, slab: usize, class: Class, change: i8) {
        let slab = &mut self.slabs[slab];
        slab.used = slab.used.wrapping_add_signed(change.into());
        slab.class = Some(class).filter(|_| slab.used > 0);
    }

    /// Panics unless bits, counts, groups and totals agree.
    pub(super) fn check(&self, bits: &[SlabBits]) {
        let mut sum =
            PoolUsage { bookkeeping_bytes: self.usage.bookkeeping_bytes, ..<_>::default() };
        let mut shares = [Share::default(); CLASSES];
        for (i, slab) in self.slabs.iter().enumerate() {
            let (free, absent) = (self.free.contains(i), self.absent.contains(i));
            assert!(!free || !absent, "slab {i}: free and absent");
            sum.slabs += u64::from(free || slab.class.is_some());
            let note = self.map.get(i);
            let told = slab
                .class
                .map_or(note != SlabNote::Absent || !free, |class| note == SlabNote::Of(class));
            assert!(told, "slab {i}: {note:?} is written down");
            let Some(class) = slab.class else { continue };
            assert!(!free && !absent, "slab {i}: used, and free or absent");
            shares[class.index()].slabs += 1;
            shares[class.index()].used += u32::from(slab.used);
            let used = usize::from(slab.used);
            assert_eq!(bits[i].used(class.objects()), used);
            assert!(used > 0, "slab {i} is empty and not free");
            assert_eq!(usize::from(slab.group), used * GROUPS / class.objects(), "slab {i}: group");
            sum.slabs_used += 1;
            sum.objects += used as u64;
            sum.object_bytes += (used * class.bytes()) as u64;
        }
        assert_eq!(sum, self.usage, "totals of the pool");
        assert_eq!(shares, self.shares, "totals of the classes");
        self.check_groups();
    }

    fn check_groups(&self) {
        let mut listed = 0;
        for (class, heads) in self.heads.iter().enumerate() {
            for (group, head) in heads.iter().enumerate() {
                let mut at = *head;
                while at != NONE {
                    let slab = &self.slabs[at as usize];
                    assert_eq!(slab.class.map(Class::index), Some(class), "slab {at}: class");
                    assert_eq!(usize::from(slab.group), group, "slab {at}: group");
                    listed += 1;
                    at = slab.next;
                }
            }
        }
        let partial = |s: &&Slab| s.class.is_some() && usize::from(s.group) < GROUPS;
        assert_eq!(listed, self.slabs.iter().filter(partial).count(), "slabs in groups");
    }
}

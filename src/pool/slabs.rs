//! The bookkeeping of slabs, behind the pool's lock.

use super::bits::{SlabBits, SlabSet};
use super::class::{CLASSES, Class};
use crate::limits::SLAB_BYTES;
use crate::units::Location;

/// Fullness groups of a class: by quarters used. Full slabs are in none.
const GROUPS: usize = 4;
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
    /// Slabs in the arena.
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

/// Which slab is whose.
#[derive(Debug)]
pub(super) struct Slabs {
    slabs: Box<[Slab]>,
    /// First slab of each group of each class.
    heads: [[u32; GROUPS]; CLASSES],
    free: SlabSet,
    usage: PoolUsage,
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
    /// All of `count` slabs free. Allocates everything that will be needed.
    pub(super) fn new(count: usize) -> Self {
        assert!(count < NONE as usize, "slab numbers have 32 bits");
        let slab = Slab { next: NONE, prev: NONE, used: 0, class: None, group: 0 };
        let slabs = vec![slab; count].into_boxed_slice();
        let free = SlabSet::full(count);
        let bytes = size_of_val::<[Slab]>(&slabs) + free.bytes() + size_of::<Self>();
        let bytes = bytes + count * size_of::<SlabBits>();
        let usage = PoolUsage {
            slabs: count as u64,
            bookkeeping_bytes: bytes as u64,
            ..PoolUsage::default()
        };
        Self { slabs, heads: [[NONE; GROUPS]; CLASSES], free, usage }
    }

    /// Takes a free object of `class`, from the fullest slab that has one; failing that from a new slab; failing
    /// that from a larger class, because a little waste is better than a refused page.
    pub(super) fn take(&mut self, bits: &[SlabBits], class: Class) -> Option<Location> {
        let slab = self
            .fullest(class)
            .or_else(|| self.open(bits, class))
            .or_else(|| class.larger().find_map(|larger| self.fullest(larger)))?;
        let class = self.slabs[slab].class.expect("a slab in a group has a class");
        let index = bits[slab].take(class.objects());
        self.slabs[slab].used += 1;
        self.regroup(slab, class);
        self.usage.objects += 1;
        self.usage.object_bytes += class.bytes() as u64;
        Some(Location::from_offset(slab * SLAB_BYTES + index * class.bytes()))
    }

    /// Gives an object back. Panics if there is none at `at`.
    pub(super) fn give(&mut self, bits: &[SlabBits], at: Location) {
        let (slab, index, class) = self.find(at).expect("freed a location that is no object");
        bits[slab].give(index);
        self.slabs[slab].used -= 1;
        self.usage.objects -= 1;
        self.usage.object_bytes -= class.bytes() as u64;
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
        let index = position / class.bytes();
        let exact = index * class.bytes() == position && index < class.objects();
        exact.then_some((slab, index, class))
    }

    /// How much there is.
    pub(super) const fn usage(&self) -> PoolUsage {
        self.usage
    }

    fn fullest(&self, class: Class) -> Option<usize> {
        let heads = &self.heads[class.index()];
        heads.iter().rev().find(|head| **head != NONE).map(|head| *head as usize)
    }

    fn open(&mut self, bits: &[SlabBits], class: Class) -> Option<usize> {
        let slab = self.free.take_first()?;
        bits[slab].clear();
        self.slabs[slab] = Slab { next: NONE, prev: NONE, used: 0, class: Some(class), group: 0 };
        self.link(slab, class, 0);
        self.usage.slabs_used += 1;
        Some(slab)
    }

    fn close(&mut self, slab: usize, class: Class) {
        self.unlink(slab, class);
        self.slabs[slab].class = None;
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
        if usize::from(group) == GROUPS {
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

    /// Panics unless bits, counts, groups and totals agree.
    pub(super) fn check(&self, bits: &[SlabBits]) {
        let mut sum = PoolUsage { object_bytes: 0, objects: 0, slabs_used: 0, ..self.usage };
        for (i, slab) in self.slabs.iter().enumerate() {
            assert_eq!(slab.class.is_none(), self.free.contains(i), "slab {i}: free or not");
            let Some(class) = slab.class else { continue };
            let used = usize::from(slab.used);
            assert_eq!(bits[i].used(class.objects()), used);
            assert!(used > 0, "slab {i} is empty and not free");
            assert_eq!(usize::from(slab.group), used * GROUPS / class.objects(), "slab {i}: group");
            sum.slabs_used += 1;
            sum.objects += used as u64;
            sum.object_bytes += (used * class.bytes()) as u64;
        }
        assert_eq!(sum, self.usage, "totals of the pool");
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

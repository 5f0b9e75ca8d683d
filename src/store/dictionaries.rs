//! The dictionaries that pages in the store were compressed with: at most three alive.
//!
//! Readers pin the dictionary of an object while they hold the slot's lock, by a shared lock, and
//! keep it until they have decompressed. That is two atomic operations and no memory. The exclusive
//! lock is only tried, never waited for, so that it never keeps readers out; and only where no slot
//! names the dictionary, before the first does or when the count of objects made with it has come
//! down to zero and new ones use another; and nothing is freed under it. Who publishes an object
//! counts it first, holding a pin. So a reader finds the shared lock free unless one background
//! thread looks for unused dictionaries while another one still uses an old one, which the daemon
//! has not; then it waits for the moment of that look.

use super::Store;
use super::memory::Notes;
use crate::chaos::{Bug, planted};
use crate::codec::Dictionary;
use crate::stats::QueueStats;
use crate::units::DictionaryVersion;
use crossbeam::utils::CachePadded;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

pub(super) const VERSIONS: usize = DictionaryVersion::MAX as usize;

/// A dictionary with the number of its installation, which is never used twice.
#[derive(Debug)]
pub(super) struct Installed {
    pub(super) id: u64,
    pub(super) dictionary: Dictionary,
}

/// A dictionary that stays while this is held.
pub(super) type Pin<'a> = RwLockReadGuard<'a, Option<Installed>>;

#[derive(Debug, Default)]
struct Version {
    installed: RwLock<Option<Installed>>,
    /// Slots, in the pool or spilled, whose objects were made with it.
    objects: AtomicU64,
}

/// All versions.
#[derive(Debug, Default)]
pub(super) struct Dictionaries {
    versions: [CachePadded<Version>; VERSIONS],
    /// Installations so far times four, and the version that new objects are made with.
    current: AtomicU64,
}

impl Dictionaries {
    /// The version that new objects are made with.
    pub(super) fn current(&self) -> DictionaryVersion {
        DictionaryVersion::new((self.current.load(Ordering::Acquire) & 3) as u8)
    }

    /// Number of the latest installation; 0: none yet.
    pub(super) fn latest_id(&self) -> u64 {
        self.current.load(Ordering::Acquire) >> 2
    }

    /// Keeps a version's dictionary where it is. `None` if there is none. Does not allocate, nor
    /// wait but as the head of this file says.
    #[inline]
    pub(super) fn pin(&self, version: DictionaryVersion) -> Option<Pin<'_>> {
        // Nothing that holds it exclusively can leave it half done.
        let installed = &self.versions[version.index()?].installed;
        let pin = installed.read().unwrap_or_else(PoisonError::into_inner);
        pin.is_some().then_some(pin)
    }

    /// Counts an object before its entry is published. With a pin, or with the lock of a slot that
    /// names the same version.
    #[inline]
    pub(super) fn hold(&self, version: DictionaryVersion) {
        if let Some(index) = version.index() {
            self.versions[index].objects.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts an object out once no entry names it.
    #[inline]
    pub(super) fn release(&self, version: DictionaryVersion) {
        if let Some(index) = version.index() {
            self.versions[index].objects.fetch_sub(1, Ordering::Release);
        }
    }

    /// Objects made with each version, 1 first.
    pub(super) fn objects(&self) -> [u64; VERSIONS] {
        std::array::from_fn(|i| self.versions[i].objects.load(Ordering::Acquire))
    }

    /// Brings a version to what is written down about it, or to nothing if that cannot be read, and
    /// returns its bytes of memory if it is new here. For the only user. Allocates, but for nothing
    /// new.
    pub(super) fn load(&mut self, notes: &Notes, index: usize) -> u64 {
        let place = self.versions[index].installed.get_mut();
        let place = place.unwrap_or_else(PoisonError::into_inner);
        let id = notes.id_of(index);
        if place.as_ref().is_some_and(|installed| installed.id == id) {
            return 0;
        }
        let dictionary = notes.dictionary(index).and_then(Dictionary::from_bytes);
        *place = dictionary.map(|dictionary| Installed { id, dictionary });
        place.as_ref().map_or(0, |installed| installed.dictionary.memory_bytes() as u64)
    }

    /// Makes the latest dictionary that there is the one of new objects, and counts from nothing.
    pub(super) fn restart(&mut self) {
        let mut latest = 0;
        for (index, version) in self.versions.iter_mut().enumerate() {
            *version.objects.get_mut() = 0;
            let place = version.installed.get_mut().unwrap_or_else(PoisonError::into_inner);
            let id = place.as_ref().map_or(0, |installed| installed.id);
            latest = latest.max(if id > 0 { id << 2 | (index as u64 + 1) } else { 0 });
        }
        *self.current.get_mut() = latest;
    }

    fn with_all<T>(&self, look: impl Fn(&Installed) -> T) -> impl Iterator<Item = T> {
        let pins = (1..=DictionaryVersion::MAX).map(|v| self.pin(DictionaryVersion::new(v)));
        pins.flatten().filter_map(move |pin| pin.as_ref().map(&look))
    }
}

impl Store {
    /// Makes this the dictionary of pages that are recompressed from now on, and returns its
    /// version; `None`, with the dictionary lost, if as many as can be are still in use. Does not
    /// wait. For a background thread.
    pub fn install(&self, dictionary: Dictionary, stats: &QueueStats) -> Option<DictionaryVersion> {
        let all = &self.dictionaries;
        let seen = all.current.load(Ordering::Acquire);
        for step in 1..=VERSIONS as u64 {
            let number = ((seen & 3) + step - 1) % VERSIONS as u64 + 1;
            let version = &all.versions[number as usize - 1];
            if number == seen & 3 || version.objects.load(Ordering::Acquire) > 0 {
                continue;
            }
            let Ok(mut place) = version.installed.try_write() else { continue };
            if place.is_some() {
                continue;
            }
            let id = (seen >> 2) + 1;
            // Written down before any object can be made with it.
            if !self.notes.publish(number as usize - 1, id, dictionary.bytes()) {
                return None;
            }
            *place = Some(Installed { id, dictionary });
            drop(place);
            all.current.store(id << 2 | number, Ordering::Release);
            stats.dictionaries_trained.add(1);
            return Some(DictionaryVersion::new(number as u8));
        }
        None
    }

    /// Forgets dictionaries that nothing refers to any more, and returns how many. Frees their
    /// memory; does not wait. For a background thread.
    pub fn retire_dictionaries(&self, stats: &QueueStats) -> u32 {
        let (mut retired, current) = (0, self.dictionaries.current().index());
        for (i, version) in self.dictionaries.versions.iter().enumerate() {
            let counted = |version: &Version| {
                version.objects.load(Ordering::Acquire) > 0 && !planted(Bug::DictionaryWithdrawn)
            };
            if current == Some(i) || counted(version) {
                continue;
            }
            let Ok(mut place) = version.installed.try_write() else { continue };
            // Again, now that nobody can count one in.
            let old = if counted(version) { None } else { place.take() };
            if old.is_some() {
                self.notes.withdraw(i);
            }
            drop(place);
            retired += u32::from(old.is_some());
        }
        stats.dictionaries_retired.add(retired.into());
        retired
    }

    /// How many dictionaries are alive, and the memory they take in bytes.
    pub fn dictionaries_alive(&self) -> (u32, u64) {
        let bytes = self.dictionaries.with_all(|i| i.dictionary.memory_bytes() as u64);
        bytes.fold((0, 0), |(count, sum), bytes| (count + 1, sum + bytes))
    }

    /// Version and objects of the oldest dictionary but the current one that is still in use: who
    /// wants to install another recompresses what was made with it first.
    pub fn oldest_dictionary(&self) -> Option<(DictionaryVersion, u64)> {
        let current = self.dictionaries.current();
        let objects = self.dictionaries.objects();
        let old = (1..=DictionaryVersion::MAX).map(DictionaryVersion::new);
        let old = old.filter(|v| *v != current).filter_map(|v| {
            let pin = self.dictionaries.pin(v)?;
            Some((pin.as_ref()?.id, v))
        });
        let (_, version) = old.min()?;
        Some((version, objects[version.index()?]))
    }
}

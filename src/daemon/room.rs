//! How much room the pool has, watched so that somebody hears of it before writes fail.

use crate::store::Store;
use uswap_policy::{Level, Marks, Watermarks};

/// The pool's level as last seen.
#[derive(Debug)]
pub struct Room {
    marks: Watermarks,
    level: Level,
}

impl Room {
    /// Watches `store`'s pool; without a store there is always room.
    pub fn new(store: Option<&Store>, marks: Marks) -> Self {
        let capacity = store.map_or(0, |s| s.pool().capacity_bytes());
        Self { marks: Watermarks::new(capacity, marks), level: Level::Plenty }
    }

    /// The level in a word.
    pub const fn level(&self) -> &'static str {
        match self.level {
            Level::Plenty => "plenty",
            Level::Low => "low",
            Level::Min => "min",
            Level::Full => "full",
        }
    }

    /// Looks at the pool; a line for the administrator when the level got worse or is good again.
    pub fn look(&mut self, store: &Store) -> Option<String> {
        let pool = store.pool();
        let used = pool.slab_bytes().saturating_sub(pool.free_bytes());
        let free = pool.capacity_bytes().saturating_sub(used);
        let before = self.level;
        self.level = self.marks.level(free);
        let left = format!("{} MiB of the pool's {}", free >> 20, pool.capacity_bytes() >> 20);
        if self.level > before {
            Some(match self.level {
                Level::Full if store.spill().is_some() => {
                    "the pool is full: pages leave it more slowly than they come, or not at all \
                     (see `uswap status`); what does not fit fails, and the kernel keeps it in RAM"
                        .to_owned()
                }
                Level::Full => "the pool is full: what does not fit in the room between its \
                                pages fails, and the kernel keeps it in RAM; restart with a \
                                larger --pool, or give it a --spill"
                    .to_owned(),
                _ => format!("{left} are left; when it is full, writes fail"),
            })
        } else if self.level < before && self.level == Level::Plenty {
            Some(format!("{left} are free again"))
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Stream;
    use crate::stats::QueueStats;
    use crate::store::StoreCodec;
    use crate::sys::map::{Arena, Words};
    use crate::units::{PAGE_SIZE, SlotIndex};

    #[test]
    fn running_out_is_told_once_and_recovery_once() {
        let file = |len: usize| {
            let file = tempfile::tempfile().expect("file");
            file.set_len(len as u64).expect("size");
            file
        };
        let (slots, bytes) = (512, 2 << 20);
        let words = Words::new(&file(slots * 8), slots).expect("map");
        let store =
            Store::new(words, Arena::new(&file(bytes), bytes).expect("map"), StoreCodec::None);
        let (stats, mut stream) = (QueueStats::default(), Stream::new());
        let mut room = Room::new(
            Some(&store),
            Marks { low_permille: 125, min_permille: 31, band_permille: 16 },
        );
        assert_eq!(room.look(&store), None);
        let mut told = Vec::new();
        for slot in 0..slots as u32 {
            let mut page = [0; PAGE_SIZE];
            page[..4].copy_from_slice(&(slot + 1).to_le_bytes());
            store.write(SlotIndex(slot), &page, &mut stream, &stats).expect("exactly fits");
            told.extend(room.look(&store));
        }
        assert_eq!(told.len(), 3, "low, min, full: {told:?}");
        assert!(told[2].contains("full"));
        assert_eq!(room.level(), "full");
        store.discard(SlotIndex(0), slots as u32, &stats).expect("all slots");
        assert!(room.look(&store).expect("told").contains("free again"));
        assert_eq!(room.look(&store), None);
    }
}

//! The spill: stored pages as sealed objects in the segments of a file or block device.
//!
//! This module is the format and its bookkeeping. It makes no kernel call and knows neither slots'
//! entries nor the pool; `store` joins them, `sys::spill_ring` moves the bytes.
//!
//! A segment is written once, whole, and then only read, until nothing in it is wanted any more:
//!
//! ```text
//! | object, tag, to 16 bytes | object, tag, to 16 bytes | ... | summary, tag | unused |
//! ```
//!
//! Contracts:
//! - *Sealing.* Objects and summaries are sealed by AES-256-GCM with a key that exists only in
//!   locked memory. The nonce is the sequence number of the segment's write and the position in the
//!   segment: the number is never used twice with a key, and every position of a segment once. The
//!   slot, the form and the length are authenticated with the data. So a flipped bit, a torn write,
//!   a block of a former write and another slot's object are all [`Broken`], never a wrong page.
//! - *Bookkeeping.* [`Segments`] is what threads share: for each segment the number of its last
//!   write and the size of what slots still name there. [`Layout`] is the writer's: which segments
//!   are free. Live sizes are rebuilt from the slot table after a crash. What cannot be is in
//!   memory that outlives the process (`segments`): the key, the number of the next write, and for
//!   each segment the number of its write, where its summary begins and how many records it has.
//! - *Late writes.* A server's death does not end a transfer that it began. So nobody writes
//!   without the file's lock ([`Disk::take_lock`]), which the kernel keeps for a dead server until
//!   its last transfer has ended. A successor that wrote without it would leave nothing behind for
//!   the next one to wait for.
//! - *Stale readers.* A slot's entry names a place, not a write. Whoever reads a place notes the
//!   segment's number with it, both under the slot's lock; if both are the same afterwards, the
//!   segment was not written meanwhile, since an entry that names it keeps it from being reused.

mod disk;
mod draft;
mod layout;
mod seal;
mod segments;

pub use disk::{Disk, Ended, Job, Token};
pub use draft::{Draft, read_summary};
pub use layout::{Layout, Summary, Victim};
pub use seal::{Broken, Form, Identity, KEY_BYTES, Place, Seal, TAG_BYTES};
pub use segments::{Segments, Span};

use crate::sys::map::Words;

impl Spill {
    /// A spill that others shared before, from what is written down in `words`. `None` if there is
    /// no key: it was wiped when its service ended. Allocates.
    pub fn attach(words: Words, bytes: u64) -> Option<Self> {
        let segments = Segments::attach(words, bytes);
        let key = segments.key();
        let seal = (*key != [0; KEY_BYTES]).then(|| Seal::new(&key))?;
        Some(Self { seal, segments })
    }

    /// A new spill with this key, which is written down in `words`, all zero before. Allocates.
    pub fn create(words: Words, bytes: u64, key: &[u8; KEY_BYTES]) -> Self {
        let segments = Segments::attach(words, bytes);
        segments.set_key(key);
        Self { seal: Seal::new(key), segments }
    }
}

/// What everybody needs who reads spilled pages.
#[derive(Debug)]
pub struct Spill {
    /// The key.
    pub seal: Seal,
    /// What is where.
    pub segments: Segments,
}

#[cfg(test)]
mod tests;

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
//!   are free. Live sizes are rebuilt from the slot table after a restart. What cannot be is the
//!   key, [`Layout::next_sequence`], and for each segment the sequence number, where its summary
//!   begins and how many records it has: whoever takes over needs these from the one before
//!   (16 bytes a segment).
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

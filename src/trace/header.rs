//! What a trace says of itself: at its start where it comes from, at its end what is in it.

use super::event::{Event, Kind, Source, Stored};
use serde::{Deserialize, Serialize};

/// Where a trace comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Version of the uswap that recorded it.
    pub uswap_version: String,
    /// The service.
    pub service: String,
    /// Slots of the device, at most 2^32.
    pub slots: u64,
    /// The most that its pool might take.
    pub pool_bytes: u64,
    /// Size of its spill; 0 without one.
    pub spill_bytes: u64,
    /// Room for pages that it had not compressed yet; 0 if that is not known.
    #[serde(default)]
    pub staging_bytes: u64,
    /// RAM of the machine; 0 if that is not known.
    #[serde(default)]
    pub ram_bytes: u64,
    /// How new pages were compressed: `lz4`, `zstd` or `none`.
    pub codec: String,
    /// The policy when the recording began.
    pub policy: String,
    /// When that was, milliseconds of Unix time.
    pub began_unix_ms: u64,
    /// For how long pages' ages had been counted by then, microseconds: says when age ticks come.
    #[serde(default)]
    pub aged_us: u64,
}

/// What is in a trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trailer {
    /// Events by kind.
    pub totals: Totals,
    /// Events that are missing because the recorder was too slow for them.
    pub dropped: u64,
    /// Times that the server changed: what happened in between is missing, and not counted.
    pub gaps: u64,
    /// How long it was recorded, microseconds.
    pub duration_us: u64,
}

/// How many events of each kind there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Pages written.
    pub writes: u64,
    /// Pages read that were nowhere.
    pub reads_empty: u64,
    /// Pages read while they waited to be compressed.
    pub reads_staged: u64,
    /// Same-filled pages read.
    pub reads_same: u64,
    /// Pages read from the pool, as they arrived.
    pub reads_pool: u64,
    /// Pages read from the pool that had been made denser.
    pub reads_dense: u64,
    /// Pages read from the pool that did not compress.
    pub reads_huge: u64,
    /// Pages read from the spill.
    pub reads_spill: u64,
    /// Discards.
    pub discards: u64,
    /// Slots of these, together.
    pub discarded_slots: u64,
    /// Pages that became same-filled slots.
    pub stored_same: u64,
    /// Pages that were compressed.
    pub stored_compressed: u64,
    /// Bytes of these after that.
    pub compressed_bytes: u64,
    /// Pages that did not compress.
    pub stored_huge: u64,
    /// Pages made denser.
    pub denser: u64,
    /// Bytes of these after that.
    pub denser_bytes: u64,
    /// Pages for which that did not pay.
    pub not_denser: u64,
    /// Pages that left for the spill.
    pub spilled: u64,
    /// Pages that came back to stay.
    pub promoted: u64,
    /// Looks at the machine.
    pub machine: u64,
}

impl Totals {
    /// Counts one more. Wraps.
    pub fn count(&mut self, event: &Event) {
        let bump = |counter: &mut u64, n: u64| *counter = counter.wrapping_add(n);
        let counter = match event.kind {
            Kind::Write => &mut self.writes,
            Kind::Read(Source::Empty) => &mut self.reads_empty,
            Kind::Read(Source::Staged) => &mut self.reads_staged,
            Kind::Read(Source::Same) => &mut self.reads_same,
            Kind::Read(Source::Pool) => &mut self.reads_pool,
            Kind::Read(Source::Dense) => &mut self.reads_dense,
            Kind::Read(Source::Huge) => &mut self.reads_huge,
            Kind::Read(Source::Spill) => &mut self.reads_spill,
            Kind::Discard { count } => {
                bump(&mut self.discarded_slots, count.into());
                &mut self.discards
            }
            Kind::Stored(Stored::Same) => &mut self.stored_same,
            Kind::Stored(Stored::Compressed { bytes }) => {
                bump(&mut self.compressed_bytes, bytes.into());
                &mut self.stored_compressed
            }
            Kind::Stored(Stored::Huge) => &mut self.stored_huge,
            Kind::Denser { bytes } => {
                bump(&mut self.denser_bytes, bytes.into());
                &mut self.denser
            }
            Kind::NotDenser => &mut self.not_denser,
            Kind::Spilled => &mut self.spilled,
            Kind::Promoted => &mut self.promoted,
            Kind::Machine { .. } => &mut self.machine,
        };
        bump(counter, 1);
    }

    /// Pages read.
    pub const fn reads(&self) -> u64 {
        let ram = self.reads_same + self.reads_pool + self.reads_dense + self.reads_huge;
        self.reads_empty + self.reads_staged + ram + self.reads_spill
    }

    /// Pages of which it is known what they became.
    pub const fn stored(&self) -> u64 {
        self.stored_same + self.stored_compressed + self.stored_huge
    }

    /// All events.
    pub const fn events(&self) -> u64 {
        let moved = self.denser + self.not_denser + self.spilled + self.promoted;
        self.writes + self.reads() + self.discards + self.stored() + moved + self.machine
    }
}

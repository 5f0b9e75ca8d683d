//! What the daemon, or a simulator in its place, knows at a tick.
//!
//! All of it is counted, nothing is remembered here: whoever builds a view fills in what is so now.

use crate::histogram::Histogram;

/// The world at a tick. The policy keeps no other source of knowledge, so the same views give the
/// same plans.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Milliseconds since any fixed moment, suspend included; never goes back.
    pub now_ms: u64,
    /// Age ticks since any fixed moment; their low 8 bits are what slots are stamped with.
    pub age_tick: u64,
    /// The pool.
    pub pool: Pool,
    /// The spill, if there is one.
    pub spill: Option<Spill>,
    /// The machine.
    pub machine: Machine,
    /// Pages of the pool. Counted anew once an age tick is enough.
    pub slots: Histogram,
    /// What happened since the last view.
    pub since: Since,
}

/// RAM that holds pages. `used + waste <= resident`; the rest of what is resident are empty slabs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pool {
    /// Most bytes that may be resident.
    pub capacity_bytes: u64,
    /// Bytes of live objects, rounded up to their size classes.
    pub used_bytes: u64,
    /// Bytes that have memory behind them.
    pub resident_bytes: u64,
    /// Free bytes in slabs that are not empty: what compaction could win.
    pub waste_bytes: u64,
    /// Bytes that must stay free for pages that were taken and are not stored yet.
    pub set_aside_bytes: u64,
}

impl Pool {
    /// Bytes of empty slabs with memory: room for pages without asking the kernel.
    pub const fn ready_bytes(&self) -> u64 {
        self.resident_bytes.saturating_sub(self.used_bytes).saturating_sub(self.waste_bytes)
    }

    /// Bytes that could still be filled: neither used, nor bound in slabs that are partly used, nor
    /// set aside.
    pub const fn free_bytes(&self) -> u64 {
        self.capacity_bytes
            .saturating_sub(self.used_bytes)
            .saturating_sub(self.waste_bytes)
            .saturating_sub(self.set_aside_bytes)
    }
}

/// The file or device that cold pages are written to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spill {
    /// Its size in bytes.
    pub capacity_bytes: u64,
    /// Bytes of segments that are not free.
    pub used_bytes: u64,
    /// Bytes in them that slots still point to.
    pub live_bytes: u64,
    /// Bytes of a segment.
    pub segment_bytes: u64,
    /// All bytes ever written to it, by writeback and by cleaning, padding and headers included.
    /// Never goes back.
    pub written_bytes: u64,
    /// It does not take writes now.
    pub failing: bool,
}

impl Spill {
    /// Bytes of free segments.
    pub const fn free_bytes(&self) -> u64 {
        self.capacity_bytes.saturating_sub(self.used_bytes)
    }

    /// Bytes that cleaning all segments would free.
    pub const fn garbage_bytes(&self) -> u64 {
        self.used_bytes.saturating_sub(self.live_bytes)
    }
}

/// The machine's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// RAM in bytes; 0 if unknown, then `available_bytes` says nothing.
    pub total_bytes: u64,
    /// `MemAvailable` in bytes.
    pub available_bytes: u64,
    /// Share of the last 10 s in which some task waited for memory, permille (PSI `some avg10`).
    pub some_permille: u16,
    /// Share of the last 10 s in which all tasks waited for memory, permille (PSI `full avg10`).
    pub full_permille: u16,
}

/// Counts since the last view.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Since {
    /// Pages written to the device.
    pub written_pages: u64,
    /// Bytes that they took in the pool.
    pub stored_bytes: u64,
    /// Times that a write found no room, and waits for some: the free bytes are not where it needs
    /// them.
    pub refused_writes: u64,
    /// Pages read that lay in the pool: LZ4, zstd, huge.
    pub pool_reads: [u64; 3],
    /// Pages read from the spill: refaults that cost I/O.
    pub spill_reads: u64,
    /// Pages written back.
    pub spilled_pages: u64,
    /// Their bytes in the pool.
    pub spilled_bytes: u64,
    /// Bytes of objects in what [`Spill::written_bytes`] grew by. The rest of it, padding and
    /// headers, is charged to the budget as well.
    pub payload_bytes: u64,
    /// Live bytes that cleaning took up to write again.
    pub cleaned_bytes: u64,
    /// Pages recompressed.
    pub recompressed_pages: u64,
}

/// Counts since whoever fills in views began, that they have the change of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Pages written to the device, refused ones not counted.
    pub written_pages: u64,
    /// Pages read that lay in the pool: LZ4, zstd, huge.
    pub pool_reads: [u64; 3],
    /// Pages read from the spill.
    pub spill_reads: u64,
    /// Pages written back.
    pub spilled_pages: u64,
    /// Bytes of objects written back.
    pub payload_bytes: u64,
    /// Live bytes that cleaning took up.
    pub cleaned_bytes: u64,
    /// Pages recompressed.
    pub recompressed_pages: u64,
}

impl Counts {
    /// What happened since `before`, where a page takes `page_bytes` in the pool. Of refused
    /// writes it knows nothing.
    pub fn since(&self, before: &Self, page_bytes: u64) -> Since {
        let written_pages = self.written_pages - before.written_pages;
        let spilled_pages = self.spilled_pages - before.spilled_pages;
        Since {
            written_pages,
            stored_bytes: written_pages * page_bytes,
            refused_writes: 0,
            pool_reads: core::array::from_fn(|i| self.pool_reads[i] - before.pool_reads[i]),
            spill_reads: self.spill_reads - before.spill_reads,
            spilled_pages,
            spilled_bytes: spilled_pages * page_bytes,
            payload_bytes: self.payload_bytes - before.payload_bytes,
            cleaned_bytes: self.cleaned_bytes - before.cleaned_bytes,
            recompressed_pages: self.recompressed_pages - before.recompressed_pages,
        }
    }
}

//! Writes traces.

use super::code::{self, Before, EVENT_BYTES_MAX};
use super::frame::{self, FrameKind, Packer};
use super::{BLOCK_EVENTS_MAX, Event, Header, MAGIC, Totals, TraceError, Trailer, VERSION};
use std::fmt;
use std::io::Write;

/// Writes a trace, block by block. Without [`Writer::finish`] it is a truncated one.
pub struct Writer<W> {
    out: W,
    slots: u64,
    block: Vec<u8>,
    /// Events of the block.
    events: usize,
    before: Before,
    /// Time of the event before.
    time_us: u64,
    packer: Packer,
    packed: Vec<u8>,
    totals: Totals,
    bytes: u64,
}

impl<W: Write> Writer<W> {
    /// Writes the header. Allocates about 2 MiB, and nothing later.
    pub fn new(mut out: W, header: &Header) -> Result<Self, TraceError> {
        if header.slots > 1 << 32 {
            return Err(TraceError::Unfit("a device of more than 2^32 slots"));
        }
        out.write_all(&MAGIC)?;
        out.write_all(&VERSION.to_le_bytes())?;
        let text = serde_json::to_vec(header).map_err(|_| TraceError::Unfit("its header"))?;
        if text.len() > frame::JSON_BYTES_MAX {
            return Err(TraceError::Unfit("names that long"));
        }
        frame::write(&mut out, FrameKind::Header, 0, text.len(), &text)?;
        out.flush()?;
        Ok(Self {
            out,
            slots: header.slots,
            block: Vec::with_capacity(BLOCK_EVENTS_MAX * EVENT_BYTES_MAX),
            events: 0,
            before: Before::default(),
            time_us: 0,
            packer: Packer::new(),
            packed: Vec::new(),
            totals: Totals::default(),
            bytes: (MAGIC.len() + size_of_val(&VERSION) + frame::HEAD_BYTES + text.len()) as u64,
        })
    }

    /// Adds an event. One that is earlier than the one before it gets that one's time: threads
    /// see the clock in one order, and tell in another.
    pub fn push(&mut self, event: &Event) -> Result<(), TraceError> {
        let (first, count) = code::slots_of(event);
        if first + count > self.slots {
            return Err(TraceError::Unfit("a slot outside the device"));
        }
        if code::kind_of(code::code_of(event.kind)) != Some(event.kind) {
            return Err(TraceError::Unfit("an event with such numbers"));
        }
        self.time_us = self.time_us.max(event.time_us);
        let event = Event { time_us: self.time_us, ..*event };
        code::put(&event, &mut self.before, &mut self.block);
        self.totals.count(&event);
        self.events += 1;
        if self.events == BLOCK_EVENTS_MAX { self.flush() } else { Ok(()) }
    }

    /// Ends the block that is under way, and gives everything to `out`.
    pub fn flush(&mut self) -> Result<(), TraceError> {
        if self.events > 0 {
            self.packer.pack(&self.block, &mut self.packed);
            let plain = self.block.len();
            frame::write(&mut self.out, FrameKind::Block, self.events, plain, &self.packed)?;
            self.bytes += (frame::HEAD_BYTES + self.packed.len()) as u64;
            self.block.clear();
            (self.events, self.before) = (0, Before::default());
        }
        Ok(self.out.flush()?)
    }

    /// What was added so far.
    pub const fn totals(&self) -> &Totals {
        &self.totals
    }

    /// Bytes written so far.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Ends the trace. `duration_us`: how long it was recorded, at least to its last event;
    /// `dropped` and `gaps` as in [`Trailer`].
    pub fn finish(
        mut self,
        duration_us: u64,
        dropped: u64,
        gaps: u64,
    ) -> Result<(W, Trailer), TraceError> {
        self.flush()?;
        let duration_us = duration_us.max(self.time_us);
        let trailer = Trailer { totals: self.totals, dropped, gaps, duration_us };
        let text = serde_json::to_vec(&trailer).map_err(|_| TraceError::Unfit("its trailer"))?;
        frame::write(&mut self.out, FrameKind::Trailer, 0, text.len(), &text)?;
        self.out.flush()?;
        Ok((self.out, trailer))
    }
}

/// The start of a trace: a header, and a frame that says it has `events` events around contents
/// that need not be any. For fuzzing: of what is only damaged the checksum is another.
#[cfg(feature = "simulation")]
pub fn forged(header: &Header, events: usize, contents: &[u8]) -> Vec<u8> {
    let mut out = Writer::new(Vec::new(), header).expect("memory").out;
    let mut packed = Vec::new();
    Packer::new().pack(contents, &mut packed);
    frame::write(&mut out, FrameKind::Block, events, contents.len(), &packed).expect("memory");
    out
}

impl<W> fmt::Debug for Writer<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("totals", &self.totals).finish_non_exhaustive()
    }
}

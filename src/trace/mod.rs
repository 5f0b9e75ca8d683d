//! Traces: what the kernel asked for and what became of it, event by event, without a byte of any
//! page.
//!
//! # The file
//!
//! All numbers are little-endian. A trace begins with the eight bytes `uswaptrc` and the version of
//! the format, four bytes. Frames follow, each with a head of 24 bytes:
//!
//! | bytes | what |
//! |---|---|
//! | 4 | kind: 1 header, 2 block, 3 trailer |
//! | 4 | events in it; 0 unless it is a block |
//! | 4 | bytes of its contents |
//! | 4 | bytes that follow the head: of a block a zstd frame of the contents, else the contents |
//! | 8 | checksum of the four numbers above and of what follows |
//!
//! The first frame is the [`Header`], the last one the [`Trailer`], both JSON; nothing follows.
//! Without a trailer a trace is truncated. The contents of a block are its events (`code`): a byte
//! for the kind, then as variable-length numbers (LEB128) the microseconds since the event before
//! it, how far its slot is from the one behind the event's before it (zigzag), and what the kind
//! needs. Before the first event of a block the time is 0, and the slot behind is slot 0, so that a
//! block needs no other.
//!
//! [`Reader`] hands out no event of a block that is not whole. Whether the trace is whole is only
//! known at its end: results are for when the iterator has ended without an error. [`summarize`]
//! does that.

mod code;
mod error;
mod event;
mod frame;
mod header;
mod note;
mod order;
mod reader;
mod rings;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod writer;

pub use error::TraceError;
pub use event::{Event, Kind, Source, Stored};
pub use header::{Header, Totals, Trailer};
pub use note::{note, note_now};
pub use order::Order;
pub use reader::{Reader, summarize};
pub use rings::Rings;
pub use writer::Writer;
#[cfg(feature = "simulation")]
pub use writer::forged;

/// Version of the format.
pub const VERSION: u32 = 1;

/// How a trace begins.
const MAGIC: [u8; 8] = *b"uswaptrc";

/// Most events of a block: bounds what a reader has in memory.
const BLOCK_EVENTS_MAX: usize = 16 << 10;

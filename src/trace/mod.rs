//! What happened to every slot, in order: recorded from a live service, replayed by the simulator.
//!
//! No contents of pages, ever: slots, times and sizes.

pub mod event;

pub use event::{Event, Kind, Source, Stored};

//! What a service would have done: recorded steps replayed against any policy and any size.
//!
//! The decisions are not a model: [`uswap_policy::Policy`] is asked at the same times and with the
//! same view as by the daemon's mover, and slabs, segments of the spill, and which of them is
//! cleaned are the pool's and the spill's own bookkeeping. What is a model:
//!
//! - *Time* is the recording's. It stands still for reads and goes on for writes that wait for
//!   room: what comes after them comes later by as much. A step of the mover takes 1 ms, and what
//!   training, each page that is made denser and the disk take: as long as in the recording, where
//!   it shows that ([`Pace`]). Whoever asks for room meanwhile ends the step as in the daemon.
//! - *Memory* can always be had, at once, up to the pool's size.
//! - *Writes* that find no room wait while pages leave the pool, for as long as the daemon's do. If
//!   none do the write is refused and the page stays with the kernel: reading it costs nothing.
//! - *Pages* are compressed at once. One that is written again or discarded before the service had
//!   compressed it takes no room here either.
//! - *Making denser* gives the size that was recorded, or one estimated from those that were
//!   (`estimate`); there is one dictionary.
//! - *The disk* takes bytes at a rate, one transfer after the other, and a read takes a constant
//!   time. It does not fail.
//! - What was stored before the recording began is not known, and reads of it are left out.

mod bound;
mod census;
mod compare;
mod curve;
mod deeds;
mod estimate;
mod grid;
mod machine;
mod mover;
mod outcome;
mod pace;
pub mod plot;
mod replay;
mod slot;
mod spill;

pub use bound::Bound;
pub use compare::{Difference, compare};
pub use curve::Curve;
pub use grid::{Calibration, calibrate, each};
pub use machine::{Setup, run};
pub use outcome::{Costs, Outcome, Reads, Sample, share};
pub use pace::{DENSER_US, Pace, TRAIN_US};
pub use replay::{Act, Live, Replay, SizesKnown, Step, UNSETTLED};

#[cfg(test)]
mod tests;

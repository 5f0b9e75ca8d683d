//! Bytes to fewer bytes: same-filled pages, lz4, and the buffers both need.

pub mod lz4;
pub mod same;
mod scratch;

pub use scratch::Stream;

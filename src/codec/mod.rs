//! Bytes to fewer bytes: same-filled pages, lz4, zstd, and the buffers they need.

pub mod lz4;
pub mod same;
mod scratch;
pub mod zstd;

pub use scratch::Stream;

//! Bytes to fewer bytes: same-filled pages, lz4, zstd with and without dictionaries, and the
//! buffers they need.

mod dense;
mod dictionary;
pub mod lz4;
pub mod same;
mod scratch;
pub mod zstd;

pub use dense::{DenseStream, Effort};
pub use dictionary::Dictionary;
pub use scratch::Stream;
pub use zstd_safe::Strategy;

//! Pure decisions of uswap: no I/O, no clock, no unsafe.
#![no_std]
#![forbid(unsafe_code)]

mod watermark;

pub use watermark::{Level, Watermarks};

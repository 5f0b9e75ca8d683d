//! Block transport: from the ublk driver to checked requests and back. Knows requests, not what
//! pages mean.

pub mod ctrl;
pub mod iod;
pub mod poll;
pub mod queue;
pub mod settings;

pub use ctrl::{Controller, Features};
pub use iod::{Op, Request};

//! A recording, read.

use crate::simulate::Replay;

/// What is replayed, and what it says of the service that it was recorded from.
#[derive(Debug)]
pub struct Recording {
    /// The steps.
    pub replay: Replay,
    /// The service's policy and sizes, if they were recorded.
    pub policy: Option<String>,
    pub pool_bytes: Option<u64>,
    pub spill_bytes: Option<u64>,
    pub staging_bytes: u64,
    /// RAM of the machine; 0 if unknown.
    pub ram_bytes: u64,
    /// Events that were lost while recording.
    pub dropped: u64,
}

impl Recording {
    pub fn read(_: &std::path::Path) -> crate::error::StartResult<Self> {
        Err(crate::error::StartError::usage("x", "y"))
    }
}

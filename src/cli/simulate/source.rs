//! A recording, read.

use crate::error::StartResult;
use crate::limits::STAGING_BYTES_DEFAULT;
use crate::simulate::Replay;
use crate::trace::{Reader, TraceError};
use std::path::Path;

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
    /// Slots of its device.
    pub slots: u64,
    /// For how long its pages' ages had been counted.
    pub aged_us: u64,
    /// RAM of its machine; 0 if that is not known.
    pub ram_bytes: u64,
    /// Events that were lost while recording.
    pub dropped: u64,
}

impl Recording {
    /// Reads all of a file: nothing of it counts before its end has been seen.
    pub fn read(path: &Path) -> StartResult<Self> {
        Self::load(path).map_err(|e| e.of(path))
    }

    fn load(path: &Path) -> Result<Self, TraceError> {
        let mut reader = Reader::open(path)?;
        let replay = Replay::new(reader.by_ref())?;
        let trailer = reader.trailer().ok_or(TraceError::Truncated)?;
        let header = reader.header();
        Ok(Self {
            replay,
            policy: Some(header.policy.clone()).filter(|name| !name.is_empty()),
            pool_bytes: Some(header.pool_bytes).filter(|bytes| *bytes > 0),
            spill_bytes: Some(header.spill_bytes),
            staging_bytes: match header.staging_bytes {
                0 => STAGING_BYTES_DEFAULT,
                bytes => bytes,
            },
            slots: header.slots,
            aged_us: header.aged_us,
            ram_bytes: header.ram_bytes,
            dropped: trailer.dropped,
        })
    }
}

//! Threads and life cycle of the service; the only place where requests meet the store.

pub mod protocol;

use crate::config::Settings;
use crate::error::{StartError, StartResult};

/// Serves one device until it is told to stop. Calls `ready` with the device path once I/O is served.
pub fn serve(_settings: &Settings, _ready: &mut dyn FnMut(&str)) -> StartResult<()> {
    Err(StartError::failure("not yet", "wait"))
}

//! Threads and life cycle of the service; the only place where requests meet the store.

pub mod protocol;

use crate::config::Settings;
use crate::error::{StartError, StartResult};
use std::path::Path;

/// Serves one device until it is told to stop. Calls `ready` with the device path once I/O is served.
pub fn serve(_settings: &Settings, _ready: &mut dyn FnMut(&str)) -> StartResult<()> {
    Err(StartError::failure("not yet", "wait"))
}

/// Removes what a dead server left: device, state directory, socket. Fails while the device is in use.
pub fn remove_leftover(_name: &str, _run_dir: &Path) -> StartResult<()> {
    Err(StartError::failure("not yet", "wait"))
}

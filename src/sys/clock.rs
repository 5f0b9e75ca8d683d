//! Time that goes on while the machine is suspended.

use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// Since the machine was booted, suspend included. Does not allocate.
pub fn since_boot() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

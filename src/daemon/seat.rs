//! A process's place among those of its service: the control page and its own ticket.

use super::cannot;
use super::control_page::{ControlPage, Ticket};
use crate::error::{StartError, StartResult};
use crate::sys::process::Identity;
use std::path::Path;

/// What a server or a standby is among the service's processes.
#[derive(Debug)]
pub struct Seat {
    /// What all of them know.
    pub page: ControlPage,
    /// Which of them this one is.
    pub ticket: Ticket,
}

impl Seat {
    /// Takes the place that the parent has kept for this process, in the service with this state
    /// directory.
    pub fn take(dir: &Path, ticket: Ticket) -> StartResult<Self> {
        let page = ControlPage::open(dir).map_err(|e| {
            let what = format!("cannot use {} ({e})", dir.display());
            StartError::failure(what, "this command is for `uswap run` to start, not for people")
        })?;
        let identity = Identity::own().map_err(|e| cannot("read /proc/self/stat", &e))?;
        page.enrol(ticket, identity);
        Ok(Self { page, ticket })
    }
}

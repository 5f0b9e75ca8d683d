//! `uswap upgrade`: a running service goes on with another program, while it is in use.

use super::service::Service;
use super::{note, say};
use crate::config::NAME_DEFAULT;
use crate::daemon::{self, check_successor};
use crate::error::StartResult;
use clap::Args;
use std::path::{Path, PathBuf};

#[derive(Args, Debug)]
pub struct Upgrade {
    /// Name of the service [default: default]
    #[arg(value_name = "NAME", default_value = NAME_DEFAULT, hide_default_value = true)]
    name: String,
    /// The program to go on with [default: the one that this command is]
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
    /// State of all services [default: the service's configuration, then /run/uswap]
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
}

impl Upgrade {
    /// Hands over, and says how long that took.
    pub fn execute(&self) -> StartResult<()> {
        let service = Service::named(Path::new("/"), &self.name, self.run_dir.as_deref())?;
        service.expect_there()?;
        let upgrade = daemon::Upgrade::of(&service.run_dir, &self.name)?;
        let own = Path::new("/proc/self/exe");
        let pause = upgrade.run(self.binary.as_deref().unwrap_or(own))?;
        say(&format!("{} goes on; pages waited for {} us\n", self.name, pause.as_micros()))?;
        if !upgrade.wait_warm() {
            note("there is no standby yet; see `uswap status`");
        }
        Ok(())
    }
}

#[derive(Args, Debug)]
pub struct CheckState {
    #[arg(long)]
    run_dir: PathBuf,
    #[arg(long)]
    name: String,
}

impl CheckState {
    /// Succeeds if this program can take the service over.
    pub fn execute(&self) -> StartResult<()> {
        check_successor(&self.run_dir, &self.name)
    }
}

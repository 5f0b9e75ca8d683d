//! `uswap generate`: files for other programs, made from what this one knows of itself.

use super::list::json;
use super::say;
use crate::error::StartResult;
use crate::metrics::{self, dashboard::dashboard};
use clap::{Args, Subcommand};

#[derive(Args, Debug)]
pub struct Generate {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// A Grafana dashboard (JSON; import it, and choose a Prometheus data source)
    Dashboard,
    /// Alert rules for Prometheus (YAML; for rule_files)
    Alerts,
}

impl Generate {
    /// Prints it.
    pub fn execute(&self) -> StartResult<()> {
        match self.what {
            What::Dashboard => say(&(json(&dashboard())? + "\n")),
            What::Alerts => say(metrics::ALERTS),
        }
    }
}

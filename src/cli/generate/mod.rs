//! `uswap generate`: files for other programs, made from what this one knows of itself.

mod config;
mod manual;

use super::list::json;
use super::say;
use crate::error::StartResult;
use crate::metrics::{self, dashboard::dashboard};
use clap::{Args, Subcommand};
use clap_complete::Shell;
use std::path::PathBuf;

#[derive(Args, Debug)]
pub struct Generate {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// A configuration file with every key explained, all of them commented out
    Config {
        /// Take over zram-generator's configuration instead [default FILE: where that looks for it]
        #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true)]
        #[arg(default_missing_value = "")]
        from_zram_generator: Option<PathBuf>,
    },
    /// A Grafana dashboard (JSON; import it, and choose a Prometheus data source)
    Dashboard,
    /// Alert rules for Prometheus (YAML; for rule_files)
    Alerts,
    /// Man pages, written to DIR
    Man {
        /// Directory, made if it is not there
        dir: PathBuf,
    },
    /// Completions for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

impl Generate {
    /// Prints it.
    pub fn execute(&self) -> StartResult<()> {
        match &self.what {
            What::Config { from_zram_generator: Some(file) } => {
                say(&config::from_zram_generator(file)?)
            }
            What::Config { from_zram_generator: None } => say(&config::all_keys()),
            What::Dashboard => say(&(json(&dashboard())? + "\n")),
            What::Alerts => say(metrics::ALERTS),
            What::Man { dir } => manual::pages(dir),
            What::Completions { shell } => say(&manual::completions(*shell)),
        }
    }
}

//! `uswap metrics`: one service's metrics on stdout, or in a file for node_exporter.

use super::flags::RunDir;
use super::say;
use super::service::Service;
use crate::daemon::exposition;
use crate::error::{StartError, StartResult};
use clap::Args;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

#[derive(Args, Debug)]
#[command(after_help = "\
A service also serves them over HTTP: see --metrics of `uswap run`, and `uswap status`.
Without a server the file of --textfile is removed: old numbers must not look like new ones.")]
pub struct Metrics {
    /// Name of the service [default: the only one]
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// Write them to PATH, all at once, for the textfile collector of node_exporter (its name must
    /// end in .prom)
    #[arg(long, value_name = "PATH")]
    textfile: Option<PathBuf>,
    #[command(flatten)]
    run_dir: RunDir,
}

impl Metrics {
    /// Prints or writes them.
    pub fn execute(&self) -> StartResult<()> {
        if let Some(path) = self.textfile.as_deref().filter(|p| !ends_right(p)) {
            return Err(StartError::usage(
                format!("{}: node_exporter reads only files that end in .prom", path.display()),
                "give a path such as /var/lib/prometheus/node-exporter/uswap.prom",
            ));
        }
        let status = Service::chosen(self.name.as_deref(), &self.run_dir).and_then(|s| s.status());
        let Some(path) = &self.textfile else {
            return say(&exposition::text(&*status?));
        };
        let status = status.inspect_err(|_| {
            // If it cannot be removed now, the next run tries again.
            let _ = fs::remove_file(path);
        })?;
        replace(path, &exposition::text(&status)).map_err(|e| {
            StartError::failure(
                format!("cannot write {} ({e})", path.display()),
                "run as root, or give a path in a directory that you may write",
            )
        })
    }
}

fn ends_right(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "prom")
}

/// Puts a new file in the place of `path`: whoever reads sees the old one or the new one, whole.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    // A name that the collector does not read, in the same directory, as rename needs it.
    let new = path.with_extension(format!("prom.{}", std::process::id()));
    let written = File::create(&new)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written
}

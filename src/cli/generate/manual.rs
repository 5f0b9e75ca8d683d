//! `uswap generate man` and `completions`: from the words of `--help`.

use crate::cli::Cli;
use crate::error::{StartError, StartResult};
use crate::metrics::{Metric, names};
use clap::CommandFactory;
use clap_complete::Shell;
use std::path::Path;

/// Written by hand: what is no list of flags.
const PAGES: [(&str, &str); 3] = [
    ("uswap-operating.7", include_str!("../../../docs/uswap-operating.7")),
    ("uswap-tuning.7", include_str!("../../../docs/uswap-tuning.7")),
    ("uswap-failures.7", include_str!("../../../docs/uswap-failures.7")),
];
/// The same, but for the list of metrics.
const METRICS: &str = include_str!("../../../docs/uswap-metrics.7");

/// The page of the metrics, from the table that they are made by.
fn metrics() -> String {
    let row = |metric: &&Metric| {
        let Metric { name, kind, help } = metric;
        let kind = format!("{kind:?}").to_lowercase();
        format!(".TP\n.BR {name} \" ({kind})\"\n{}\n", help.replace('-', "\\-"))
    };
    METRICS.replace("@METRICS@\n", &names::ALL.iter().map(row).collect::<String>())
}

/// Writes uswap.1, a page for each command and the guides of section 7 to `dir`.
pub fn pages(dir: &Path) -> StartResult<()> {
    let fail = |e: std::io::Error| {
        let what = format!("cannot write to {} ({e})", dir.display());
        StartError::failure(what, "name a directory that you may write")
    };
    std::fs::create_dir_all(dir).map_err(fail)?;
    clap_mangen::generate_to(Cli::command(), dir).map_err(fail)?;
    PAGES.iter().try_for_each(|(name, text)| std::fs::write(dir.join(name), text)).map_err(fail)?;
    std::fs::write(dir.join("uswap-metrics.7"), metrics()).map_err(fail)
}

/// The completion script for `shell`.
pub fn completions(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "uswap", &mut script);
    String::from_utf8(script).unwrap_or_default()
}

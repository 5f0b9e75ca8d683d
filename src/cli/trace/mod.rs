//! `uswap trace`: records what is done to the pages of a service, and shows what was recorded.

mod export;
mod info;
mod record;

use crate::error::StartResult;
use clap::{Args, Subcommand};

#[derive(Args, Debug)]
#[command(subcommand_required = true)]
pub struct Trace {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Write down every read, write and discard of a service, with times and sizes but no contents
    Record(record::Record),
    /// Say what is in a trace
    Info(info::Info),
    /// Make a table of a trace, for other programs
    Export(export::Export),
}

impl Trace {
    /// Does it.
    pub fn execute(&self) -> StartResult<()> {
        match &self.what {
            What::Record(args) => args.execute(),
            What::Info(args) => args.execute(),
            What::Export(args) => args.execute(),
        }
    }
}

//! Words people type: the command tree, exit codes, and one place that prints errors.
//!
//! Exit codes: 0 done, 1 the machine or a service refused, 2 the words were wrong. An error is one
//! line on stderr,
//! `uswap: MESSAGE; REMEDY`. A reader that goes away (`uswap list | head -1`) is success.

mod change;
mod check_config;
mod columns;
mod doctor;
mod down;
mod estimate;
mod experiment;
mod flags;
mod generate;
mod list;
mod metrics;
mod run;
mod service;
mod simulate;
mod status;
mod swap;
mod table;
mod top;
mod trace;
mod tune;
mod up;
mod upgrade;

pub use doctor::{Level, Row, examine};

use crate::config::Settings;
use crate::error::{StartError, StartResult};
use clap::error::ErrorKind;
use clap::{Parser, Subcommand};
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

/// Compressed swap in RAM, served from user space through ublk.
#[derive(Debug, Parser)]
#[command(name = "uswap", version, after_help = "Start with `uswap doctor`, then `sudo uswap up`.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve one device in the foreground; prints `ready /dev/ublkbN` once I/O is served
    #[command(after_help = "Stop it with `uswap down NAME`, which does swapoff first.")]
    Run(run::Run),
    /// Start a service in the background and use it as swap (mkswap, swapon)
    #[command(after_help = "Undo it with `uswap down [NAME]`.")]
    Up(up::Up),
    /// Take a service out of use (swapoff) and end it
    Down(down::Down),
    /// Let a standby from another uswap program take over, while the device is in use
    #[command(after_help = "Pages wait for the time that is printed; none is lost.")]
    Upgrade(upgrade::Upgrade),
    /// Show all services in a table
    List(list::List),
    /// Show one service in full
    Status(status::Status),
    /// Change a setting of a service that runs
    Set(change::Set),
    /// Read a service's configuration file again and change what can change while it runs
    Reload(change::Reload),
    /// Show one service live: tiers, rates, latencies, and who is swapped out
    Top(top::Top),
    /// Record what is done to a service's pages, and show what was recorded
    Trace(trace::Trace),
    /// Sample memory that is in use and say what uswap would save on it, per codec
    Estimate(estimate::EstimateArgs),
    /// Compare ways to run uswap in guests, as a file describes it
    Experiment(experiment::ExperimentArgs),
    /// Replay a recording against other policies and sizes, and say what would have happened
    Simulate(Box<simulate::Simulate>),
    /// Say what this machine lacks for swap on ublk and how to fix it
    #[command(after_help = "Exit code 1 if any row says fail.")]
    Doctor(doctor::Doctor),
    /// A server or standby of `run`
    #[command(hide = true)]
    Serve(run::Serve),
    /// Whether this program can take over the service with this state
    #[command(hide = true)]
    CheckState(upgrade::CheckState),
    /// Show one service's metrics, as Prometheus sees them, or write them to a file
    Metrics(metrics::Metrics),
    /// Say whether configuration files are right, and what they amount to
    CheckConfig(check_config::CheckConfig),
    /// Make files for other programs: configuration, dashboard, alert rules, man pages, completions
    Generate(generate::Generate),
    /// The service of a device, for the udev rule
    #[command(hide = true)]
    UdevName(service::UdevName),
    /// mkswap and swapon for `run --swapon`: waits for the device's path on stdin
    #[command(hide = true)]
    SwaponHelper(run::SwaponHelper),
}

/// Runs the command in `args` and returns the process's exit code.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let done = match Cli::try_parse_from(args) {
        Ok(cli) => dispatch(cli.command),
        Err(e) => wrong_words(&e),
    };
    done.unwrap_or_else(|error| {
        complain(&error);
        ExitCode::from(error.exit_code())
    })
}

/// What a service would be that is run with these words of a command line, without running it; none
/// if they ask for something else.
pub fn settings_of(
    root: &Path,
    args: impl IntoIterator<Item = OsString>,
) -> StartResult<Option<Settings>> {
    let help = [ErrorKind::DisplayHelp, ErrorKind::DisplayVersion];
    match Cli::try_parse_from(args) {
        Ok(Cli { command: Command::Run(run) }) => run.settings(root).map(Some),
        Ok(_) => Ok(None),
        Err(e) if help.contains(&e.kind()) => Ok(None),
        Err(e) => wrong_words(&e).map(|_| None),
    }
}

fn dispatch(command: Command) -> StartResult<ExitCode> {
    match command {
        Command::Run(args) => args.execute(),
        Command::Serve(args) => args.execute().map(|()| ExitCode::SUCCESS),
        Command::Up(args) => args.execute().map(|()| ExitCode::SUCCESS),
        Command::Down(args) => args.execute().map(|()| ExitCode::SUCCESS),
        Command::Upgrade(args) => args.execute().map(|()| ExitCode::SUCCESS),
        Command::CheckState(args) => args.execute().map(|()| ExitCode::SUCCESS),
        Command::List(args) => args.execute(),
        Command::Status(args) => args.execute().map(|()| ExitCode::SUCCESS),
        Command::Set(args) => args.execute().map(|()| ExitCode::SUCCESS),
        Command::Reload(args) => args.execute().map(|()| ExitCode::SUCCESS),
        Command::Top(args) => args.execute().map(|()| ExitCode::SUCCESS),
        Command::Trace(args) => args.execute().map(|()| ExitCode::SUCCESS),
        Command::Estimate(args) => args.execute().map(|()| ExitCode::SUCCESS),
        Command::Experiment(args) => args.execute().map(|()| ExitCode::SUCCESS),
        Command::Simulate(args) => args.execute(),
        Command::Doctor(args) => args.execute(),
        Command::Metrics(args) => args.execute().map(|()| ExitCode::SUCCESS),
        Command::CheckConfig(args) => args.execute().map(|()| ExitCode::SUCCESS),
        Command::Generate(args) => args.execute().map(|()| ExitCode::SUCCESS),
        Command::UdevName(args) => args.execute().map(|()| ExitCode::SUCCESS),
        Command::SwaponHelper(args) => args.execute().map(|()| ExitCode::SUCCESS),
    }
}

/// Help and version go out; anything else becomes one line, with clap's tip as the remedy.
fn wrong_words(error: &clap::Error) -> StartResult<ExitCode> {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        let text = error.render();
        say(&if io::IsTerminal::is_terminal(&io::stdout()) {
            text.ansi().to_string()
        } else {
            text.to_string()
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return Err(StartError::usage("no command given", "see `uswap --help`"));
    }
    let text = error.render().to_string();
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"))
        .filter(|line| !line.is_empty())
        .collect();
    let (tips, what): (Vec<&str>, Vec<&str>) = lines.iter().partition(|l| l.starts_with("tip:"));
    let what = what.join(", ");
    let what = what.strip_prefix("error: ").unwrap_or(&what).replace(":, ", ": ");
    let what = what.replace("invalid digit found in string", "not a whole number");
    if let Some((what, remedy)) = what.split_once("; ") {
        return Err(StartError::usage(what, remedy));
    }
    let tip = tips.first().and_then(|tip| tip.strip_prefix("tip: "));
    Err(StartError::usage(what, tip.unwrap_or("see `uswap --help` or `uswap COMMAND --help`")))
}

/// Writes `text` to stdout now.
fn say(text: &str) -> StartResult<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            Err(StartError::failure(format!("cannot write to stdout: {e}"), "check where it goes"))
        }
        _ => Ok(()),
    }
}

/// Writes an error, one line, to stderr; there is nowhere to report a failure of that.
fn complain(error: &StartError) {
    note(&error.to_string());
}

/// Writes a line about something that does not stop the command to stderr.
fn note(line: &str) {
    let _ = writeln!(io::stderr(), "uswap: {}", line.replace('\n', " "));
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_tree_is_consistent() {
        Cli::command().debug_assert();
    }
}

//! `uswap run`: the service in the foreground, and the helper that switches swap on for it.
//!
//! Contract: the server never forks once its memory is locked, because a fork write-protects
//! private pages and the next write fault allocates. So with `--swapon` the helper process is
//! started before the service is set up; it waits on a pipe for the device's path and runs mkswap
//! and swapon in its own process.

use super::flags::{RunFlags, to_args};
use super::{doctor, note, say, swap};
use crate::config::load::Keys;
use crate::config::{NAME_DEFAULT, PRIORITY_DEFAULT, RUN_DIR_DEFAULT, Settings, check};
use crate::daemon::Role;
use crate::error::{StartError, StartResult};
use clap::Args;
use std::io::{BufRead, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};

#[derive(Args, Debug)]
pub struct Run {
    /// Name of the service: letters, digits, _ . - [default: default]
    #[arg(long, allow_hyphen_values = true)]
    name: Option<String>,
    #[command(flatten)]
    flags: RunFlags,
    /// Leave the session and terminal of whoever started this (for `uswap up`)
    #[arg(long, hide = true)]
    new_session: bool,
}

impl Run {
    /// Serves until told to stop.
    pub fn execute(&self) -> StartResult<ExitCode> {
        let root = Path::new("/");
        let keys = self.flags.keys(root, self.name.as_deref())?;
        let settings = if is_left(&keys) {
            check::settings_of_running(root, keys)?
        } else {
            check::settings(root, keys)?
        };
        if self.new_session {
            // Fails only for the leader of a process group, which then has a session of its own
            // making.
            let _ = rustix::process::setsid();
        }
        let mut helper = if settings.swapon { Some(start_helper(&settings)?) } else { None };
        let mut said = Ok(());
        let mut ready = |device: &str| {
            said = say(&format!("ready {device}\n"));
            if let Some(mut pipe) = helper.as_mut().and_then(|child| child.stdin.take()) {
                // If the helper has died the pipe is broken; it has said why on stderr.
                let _ = writeln!(pipe, "{device}");
            }
        };
        let served = match settings.standby {
            true => crate::daemon::run_parent(&settings, to_args(&settings), &mut ready, &note),
            false => crate::daemon::serve(&settings, &mut ready, &note).map(|()| 0),
        };
        if let Some(mut child) = helper {
            drop(child.stdin.take());
            let _ = child.wait();
        }
        let code = served?;
        said.map(|()| ExitCode::from(code))
    }
}

/// Whether there is a service to go on with, which has its memory already.
fn is_left(keys: &Keys) -> bool {
    let run_dir = keys.run_dir.as_deref().unwrap_or(Path::new(RUN_DIR_DEFAULT));
    crate::daemon::is_left(run_dir, keys.name.as_deref().unwrap_or(NAME_DEFAULT))
}

/// A server or standby, for the parent to start.
#[derive(Args, Debug)]
pub struct Serve {
    #[arg(long)]
    ticket: u64,
    #[arg(long)]
    heir: bool,
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    flags: RunFlags,
}

impl Serve {
    /// Serves, or waits to.
    pub fn execute(&self) -> StartResult<()> {
        let root = Path::new("/");
        let role = if self.heir { Role::Heir } else { Role::First };
        let keys = self.flags.keys(root, self.name.as_deref())?;
        let settings = check::settings_of_running(root, keys)?;
        crate::daemon::serve_seated(&settings, role, self.ticket)
    }
}

fn start_helper(settings: &Settings) -> StartResult<Child> {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("uswap").arg("swapon-helper").args(["--name", &settings.name]);
    let priority = settings.priority.unwrap_or(PRIORITY_DEFAULT).to_string();
    command.args(["--priority", &priority]);
    if settings.discard {
        command.arg("--discard");
    }
    command.stdin(Stdio::piped()).spawn().map_err(|e| {
        StartError::failure(
            format!("cannot start the helper for --swapon: {e}"),
            "mount /proc, or drop --swapon and use mkswap and swapon by hand",
        )
    })
}

#[derive(Args, Debug)]
pub struct SwaponHelper {
    #[arg(long)]
    name: String,
    #[arg(long)]
    priority: i16,
    #[arg(long)]
    discard: bool,
}

impl SwaponHelper {
    /// Switches swap on for the device named on stdin. No name means that the service did not come
    /// up and has said so itself. A failure leaves the service running.
    pub fn execute(&self) -> StartResult<()> {
        let mut line = String::new();
        let read = std::io::stdin().lock().read_line(&mut line);
        let device = line.trim_end();
        if read.is_err() || device.is_empty() {
            return Ok(());
        }
        for warning in doctor::before_swapon(Path::new("/")) {
            note(&warning);
        }
        match swap::enable(device, &self.name, self.priority, self.discard) {
            Ok(done) => say(&format!("{done}\n")),
            Err(e) => Err(StartError::failure(
                format!("the service runs, but {device} is not in use as swap: {e}"),
                format!("by hand: {}", swap::enable_by_hand(device, self.priority, self.discard)),
            )),
        }
    }
}

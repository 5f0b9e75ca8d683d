//! `uswap run`: the service in the foreground, and the helper that switches swap on for it.
//!
//! Contract: the server never forks once its memory is locked, because a fork write-protects
//! private pages and the next write fault allocates. So with `--swapon` the helper process is
//! started before the service is set up; it waits on a pipe for the device's path and runs mkswap
//! and swapon in its own process.

use super::flags::{RunFlags, to_args};
use super::{doctor, note, say, swap, tune};
use crate::config::load::Keys;
use crate::config::{PRIORITY_DEFAULT, Settings};
use crate::daemon::notify::Manager;
use crate::daemon::protocol::{Request, ask};
use crate::daemon::{Role, kept_policy};
use crate::error::{StartError, StartResult};
use clap::Args;
use std::io::{BufRead, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};

#[derive(Args, Debug)]
pub struct Run {
    /// Name of the service: letters, digits, _ . - [default: default]
    #[arg(long, allow_hyphen_values = true)]
    name: Option<String>,
    #[command(flatten)]
    flags: RunFlags,
    /// Set vm.page-cluster to 0 with swapon, until `uswap down`, as `up` does
    #[arg(long)]
    tune: bool,
    /// Leave the session and terminal of whoever started this (for `uswap up`)
    #[arg(long, hide = true)]
    new_session: bool,
}

impl Run {
    /// What is asked for.
    pub fn settings(&self, root: &Path) -> StartResult<Settings> {
        self.flags.settings(root, self.name.as_deref(), |_| {})
    }

    /// Serves until told to stop.
    pub fn execute(&self) -> StartResult<ExitCode> {
        let settings = self.settings(Path::new("/"))?;
        if self.new_session {
            // Fails only for the leader of a process group, which then has a session of its own
            // making.
            let _ = rustix::process::setsid();
        }
        let manager = Manager::of_this_process();
        crate::daemon::make_spill(&settings, &note)?;
        let mut helper =
            if settings.swapon { Some(start_helper(&settings, self.tune)?) } else { None };
        let mut said = Ok(());
        let mut ready = |device: &str| {
            said = say(&format!("ready {device}\n"));
            // With swapon it is the helper who knows when the service is up.
            if let Some(manager) = manager.as_ref().filter(|_| !settings.swapon) {
                manager.tell(&format!("READY=1\nSTATUS=serves {device}"));
            }
            if let Some(mut pipe) = helper.as_mut().and_then(|child| child.stdin.take()) {
                // If the helper has died the pipe is broken; it has said why on stderr.
                let _ = writeln!(pipe, "{device}");
            }
        };
        let served = match settings.standby {
            true => crate::daemon::run_parent(&settings, to_args(&settings), &mut ready, &note),
            false => crate::daemon::serve(&settings, &mut ready, &note).map(|()| 0),
        };
        if let Some(manager) = &manager {
            manager.tell("STOPPING=1");
        }
        if let Some(mut child) = helper {
            drop(child.stdin.take());
            let _ = child.wait();
        }
        let code = served?;
        said.map(|()| ExitCode::from(code))
    }
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
        let mut named = None;
        let keep = |keys: &mut Keys| {
            let kept =
                keys.run_dir.as_deref().zip(keys.name.as_deref()).zip(keys.policy.as_deref());
            let kept = kept.and_then(|((dir, name), policy)| kept_policy(dir, name, policy));
            if let Some(kept) = kept.and_then(|kept| kept.into_os_string().into_string().ok()) {
                named = keys.policy.replace(kept);
            }
        };
        let mut settings = self.flags.settings(root, self.name.as_deref(), keep)?;
        if let Some(name) = named {
            settings.policy.name = name;
        }
        crate::daemon::serve_seated(&settings, role, self.ticket)
    }
}

fn start_helper(settings: &Settings, tune: bool) -> StartResult<Child> {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("uswap").arg("swapon-helper").args(["--name", &settings.name]);
    let priority = settings.priority.unwrap_or(PRIORITY_DEFAULT).to_string();
    command.args(["--priority", &priority]);
    if settings.discard {
        command.arg("--discard");
    }
    if tune {
        command.arg("--tune").arg(&settings.run_dir);
    }
    command.arg("--socket").arg(&settings.socket);
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
    /// Where to note what vm.page-cluster was
    #[arg(long, value_name = "RUN_DIR")]
    tune: Option<PathBuf>,
    #[arg(long)]
    socket: Option<PathBuf>,
}

impl SwaponHelper {
    /// Switches swap on for the device named on stdin. No name means that the service did not come
    /// up and has said so itself. A failure leaves the service running, but for a service manager:
    /// there, who is not in use has not started.
    pub fn execute(&self) -> StartResult<()> {
        let mut line = String::new();
        let read = std::io::stdin().lock().read_line(&mut line);
        let device = line.trim_end();
        if read.is_err() || device.is_empty() {
            return Ok(());
        }
        let (root, manager) = (Path::new("/"), Manager::of_this_process());
        if let Some(line) = self.tune.as_deref().and_then(|dir| tune::PAGE_CLUSTER.apply(root, dir))
        {
            note(&line);
        }
        for warning in doctor::before_swapon(root) {
            note(&warning);
        }
        let enabled = swap::enable(device, &self.name, self.priority, self.discard);
        if let Some(manager) = manager {
            match &enabled {
                Ok(done) => manager.tell(&format!("READY=1\nSTATUS={done}")),
                Err(e) => {
                    manager.tell(&format!("STATUS={}", e.to_string().replace('\n', " ")));
                    // If it cannot be asked to end, the manager loses patience and does that.
                    let _ = self.socket.as_deref().map(|socket| ask(socket, &Request::Stop));
                }
            }
        }
        match enabled {
            Ok(done) => say(&format!("{done}\n")),
            Err(e) => Err(StartError::failure(
                format!("the service runs, but {device} is not in use as swap: {e}"),
                format!("by hand: {}", swap::enable_by_hand(device, self.priority, self.discard)),
            )),
        }
    }
}
